//! `emit` and `run`: one kind of event each, everything that CI knows already left out.
use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct EmitArgs {
    #[command(subcommand)]
    pub(crate) kind: Option<EmitKind>,
    /// Any event as proto3 JSON: `@FILE`, `@-` for standard input, or the text itself
    #[arg(long, short, value_name = "JSON", required = true)]
    pub(crate) data: Option<String>,
    /// What to do when the ledger cannot be reached
    #[arg(long, value_enum, default_value_t = OnError::Warn)]
    pub(crate) on_error: OnError,
    /// Show the event and record nothing
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EmitKind {
    /// A commit is known
    Commit(CommitArgs),
    /// A pull request, merge request or review moved
    Change(ChangeArgs),
    /// A build moved
    Build(BuildArgs),
    /// A deployment moved
    Deploy(DeployArgs),
    /// A release moved
    Release(ReleaseArgs),
    /// An incident moved
    Incident(IncidentArgs),
    /// A feature flag moved
    Flag(FlagArgs),
    /// A window of a metric
    Metric(MetricArgs),
}

/// What every event carries.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Envelope")]
pub(crate) struct Stamp {
    /// Who says so; default the setting `source`, or made from CI or this machine
    #[arg(long, value_name = "URI")]
    pub(crate) source: Option<String>,
    /// Its id, unique within the source; default made from the CI run, so that the same step again is a duplicate
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<String>,
    /// When it happened; default now, marked as derived
    #[arg(long, value_name = "WHEN")]
    pub(crate) time: Option<String>,
    /// Repository of the revisions; default from CI or git
    #[arg(long, value_name = "REPOSITORY")]
    pub(crate) repository: Option<String>,
    /// Revision it is about; default from CI or git
    #[arg(long, value_name = "COMMIT")]
    pub(crate) revision: Option<String>,
    /// A label; again for more
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) label: Vec<String>,
    /// Higher revisions of one fact win over lower ones
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub(crate) fact_revision: u32,
    /// What to do when the ledger cannot be reached
    #[arg(long, value_enum, default_value_t = OnError::Warn)]
    pub(crate) on_error: OnError,
    /// Show the event and record nothing
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,
}

/// A tracker must not break a deploy, unless it is asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum OnError {
    /// Keep the event on disk for the next time, warn, exit 0
    #[default]
    Warn,
    /// Exit 5
    Fail,
}

#[derive(Debug, Args)]
pub(crate) struct CommitArgs {
    /// Any git revision; its subject, parents and times are read from git
    #[arg(value_name = "COMMIT")]
    pub(crate) commit: Option<String>,
    #[command(flatten)]
    pub(crate) stamp: Stamp,
}

#[derive(Debug, Args)]
pub(crate) struct ChangeArgs {
    /// Number or key
    pub(crate) number: String,
    /// What happened to it
    #[arg(long, value_enum, default_value_t = ChangeStep::Updated)]
    pub(crate) step: ChangeStep,
    #[arg(long)]
    pub(crate) title: Option<String>,
    /// Branch it comes from
    #[arg(long, value_name = "BRANCH")]
    pub(crate) head: Option<String>,
    /// Branch it goes to
    #[arg(long, value_name = "BRANCH")]
    pub(crate) base: Option<String>,
    /// One of its commits, oldest first; again for more
    #[arg(long, value_name = "COMMIT")]
    pub(crate) commit: Vec<String>,
    /// The commit that the merge made
    #[arg(long, value_name = "COMMIT")]
    pub(crate) merge_revision: Option<String>,
    /// How it was merged
    #[arg(long, value_enum)]
    pub(crate) merge_method: Option<MergeMethod>,
    /// What the reviewer said
    #[arg(long, value_enum, required_if_eq("step", "reviewed"))]
    pub(crate) verdict: Option<Verdict>,
    /// The provider's id of the review
    #[arg(long, value_name = "ID")]
    pub(crate) review: Option<String>,
    #[arg(long, value_name = "URI")]
    pub(crate) uri: Option<String>,
    #[command(flatten)]
    pub(crate) stamp: Stamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ChangeStep {
    Created,
    Updated,
    Ready,
    Drafted,
    Reviewed,
    ReviewDismissed,
    Queued,
    Dequeued,
    Merged,
    Abandoned,
    Reopened,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MergeMethod {
    Merge,
    Squash,
    Rebase,
    FastForward,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Verdict {
    Approved,
    ChangesRequested,
    Commented,
}

#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// Its id; default made from the CI run
    #[arg(value_name = "BUILD")]
    pub(crate) build: Option<String>,
    /// What happened to it
    #[arg(long, value_enum, default_value_t = Step::Finished)]
    pub(crate) step: Step,
    /// How it ended
    #[arg(long, value_enum, default_value_t = Outcome::Success)]
    pub(crate) outcome: Outcome,
    /// What it made, as NAME or NAME@sha256:…; again for more
    #[arg(long, value_name = "ARTIFACT")]
    pub(crate) artifact: Vec<String>,
    /// How long it took: 90s, 6m
    #[arg(long, value_name = "LENGTH")]
    pub(crate) elapsed: Option<String>,
    #[command(flatten)]
    pub(crate) stamp: Stamp,
}

/// What a deployment is, whoever records it.
#[derive(Clone, Debug, Args)]
pub(crate) struct Deployment {
    /// The service; default the setting `service`
    #[arg(value_name = "SERVICE")]
    pub(crate) service: Option<String>,
    /// The environment; default the setting `environment`
    #[arg(long = "env", alias = "environment", value_name = "NAME")]
    pub(crate) environment: Option<String>,
    /// The same from start to finish; default made from the CI run
    #[arg(long, value_name = "ID")]
    pub(crate) deployment: Option<String>,
    /// The version as people write it
    #[arg(long, value_name = "TEXT")]
    pub(crate) version: Option<String>,
    /// What runs afterwards, as NAME or NAME@sha256:…; again for more
    #[arg(long, value_name = "ARTIFACT")]
    pub(crate) artifact: Vec<String>,
    /// The revision that ran before; default what the ledger knows
    #[arg(long, value_name = "COMMIT")]
    pub(crate) previous: Option<String>,
    /// Fetch more history when this clone is too shallow to see the previous revision
    #[arg(long)]
    pub(crate) deepen: bool,
    /// The deployment that this one takes back
    #[arg(long, value_name = "ID")]
    pub(crate) rollback_of: Option<String>,
    /// What is done
    #[arg(long, value_enum)]
    pub(crate) operation: Option<Operation>,
    /// How it is brought out
    #[arg(long, value_enum)]
    pub(crate) strategy: Option<Strategy>,
    /// What set it off
    #[arg(long, value_name = "TEXT")]
    pub(crate) trigger: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DeployArgs {
    #[command(flatten)]
    pub(crate) deployment: Deployment,
    /// What happened to it
    #[arg(long, value_enum, default_value_t = Step::Finished)]
    pub(crate) step: Step,
    /// How it ended
    #[arg(long, value_enum, default_value_t = Outcome::Success)]
    pub(crate) outcome: Outcome,
    /// How long it took: 90s, 6m
    #[arg(long, value_name = "LENGTH")]
    pub(crate) elapsed: Option<String>,
    #[command(flatten)]
    pub(crate) stamp: Stamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Step {
    #[value(alias = "queued")]
    Requested,
    Started,
    Finished,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Outcome {
    Success,
    Failure,
    Error,
    Timeout,
    Cancelled,
    Skipped,
    Aborted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Operation {
    Deploy,
    Upgrade,
    Rollback,
    Remove,
    Publish,
    Config,
    Migration,
    Infrastructure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Strategy {
    Recreate,
    Rolling,
    BlueGreen,
    Canary,
}

#[derive(Debug, Args)]
pub(crate) struct ReleaseArgs {
    /// The version as written
    pub(crate) version: String,
    /// The service; default the setting `service`
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<String>,
    /// What happened to it
    #[arg(long, value_enum, default_value_t = ReleaseStep::Published)]
    pub(crate) step: ReleaseStep,
    /// The version before
    #[arg(long, value_name = "VERSION")]
    pub(crate) previous: Option<String>,
    /// Number of a change in it; again for more
    #[arg(long, value_name = "NUMBER")]
    pub(crate) change: Vec<String>,
    #[arg(long)]
    pub(crate) prerelease: bool,
    #[arg(long, value_name = "URI")]
    pub(crate) uri: Option<String>,
    /// Why it is withdrawn
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) because: String,
    #[command(flatten)]
    pub(crate) stamp: Stamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReleaseStep {
    Created,
    Published,
    Withdrawn,
    Tagged,
}

#[derive(Debug, Args)]
pub(crate) struct IncidentArgs {
    /// Its id
    pub(crate) incident: String,
    /// What happened to it
    #[arg(long, value_enum, default_value_t = IncidentStep::Detected)]
    pub(crate) step: IncidentStep,
    /// The environment; default the setting `environment`, else `unknown`
    #[arg(long = "env", alias = "environment", value_name = "NAME")]
    pub(crate) environment: Option<String>,
    /// A service that it is about; again for more
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Vec<String>,
    #[arg(long, value_name = "WORD")]
    pub(crate) severity: Option<String>,
    #[arg(long, value_name = "WORD")]
    pub(crate) priority: Option<String>,
    #[arg(long, value_name = "TEXT")]
    pub(crate) title: Option<String>,
    #[arg(long, value_name = "URI")]
    pub(crate) uri: Option<String>,
    /// How it was resolved, or why it was cancelled
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) because: String,
    /// The incident it was merged into
    #[arg(long, value_name = "ID", required_if_eq("step", "merged"))]
    pub(crate) merged_into: Option<String>,
    #[command(flatten)]
    pub(crate) stamp: Stamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum IncidentStep {
    Detected,
    Reported,
    Acknowledged,
    Updated,
    Mitigated,
    Resolved,
    Reopened,
    Merged,
    Cancelled,
}

#[derive(Debug, Args)]
pub(crate) struct FlagArgs {
    /// Its key
    pub(crate) flag: String,
    /// The environment; default the setting `environment`
    #[arg(long = "env", alias = "environment", value_name = "NAME")]
    pub(crate) environment: Option<String>,
    /// What happened to it
    #[arg(long, value_enum, default_value_t = FlagStep::Changed)]
    pub(crate) step: FlagStep,
    /// Share of users who see it now, 0 to 1
    #[arg(long, value_name = "RATIO")]
    pub(crate) exposure: Option<f64>,
    /// Share of users who saw it before, 0 to 1
    #[arg(long, value_name = "RATIO")]
    pub(crate) exposure_before: Option<f64>,
    /// The service that reads it; default the setting `service`
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<String>,
    /// The system that serves it
    #[arg(long, value_name = "NAME")]
    pub(crate) provider: Option<String>,
    #[command(flatten)]
    pub(crate) stamp: Stamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FlagStep {
    Created,
    Changed,
    Enabled,
    Disabled,
    Archived,
}

#[derive(Debug, Args)]
pub(crate) struct MetricArgs {
    /// Its name
    pub(crate) metric: String,
    /// UCUM: ms, s, By, 1, {request}
    #[arg(long, value_name = "UNIT")]
    pub(crate) unit: String,
    /// The service; default the setting `service`
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<String>,
    /// The environment; default the setting `environment`
    #[arg(long = "env", alias = "environment", value_name = "NAME")]
    pub(crate) environment: Option<String>,
    /// First moment of the window
    #[arg(long, value_name = "WHEN")]
    pub(crate) from: String,
    /// End of the window
    #[arg(long, value_name = "WHEN", default_value = "now")]
    pub(crate) to: String,
    /// Good ones, of --total
    #[arg(long, value_name = "COUNT", requires = "total", conflicts_with_all = ["count", "sum"])]
    pub(crate) good: Option<u64>,
    #[arg(long, value_name = "COUNT", requires = "good")]
    pub(crate) total: Option<u64>,
    /// How many values, with --sum
    #[arg(
        long,
        value_name = "COUNT",
        requires = "sum",
        required_unless_present = "good"
    )]
    pub(crate) count: Option<u64>,
    #[arg(long, value_name = "NUMBER", requires = "count")]
    pub(crate) sum: Option<f64>,
    #[arg(long, value_name = "NUMBER", default_value_t = 0.0)]
    pub(crate) sum_of_squares: f64,
    #[arg(long, value_name = "NUMBER", default_value_t = 0.0)]
    pub(crate) min: f64,
    #[arg(long, value_name = "NUMBER", default_value_t = 0.0)]
    pub(crate) max: f64,
    /// The version that served
    #[arg(long, value_name = "TEXT")]
    pub(crate) version: Option<String>,
    #[command(flatten)]
    pub(crate) stamp: Stamp,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(subcommand)]
    pub(crate) kind: RunKind,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RunKind {
    /// A command that deploys: started, finished, duration; its exit code is passed on, always
    Deploy(RunDeployArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RunDeployArgs {
    #[command(flatten)]
    pub(crate) deployment: Deployment,
    #[command(flatten)]
    pub(crate) stamp: Stamp,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,
}
