//! What was typed. Everything here is the command line's own; what it means is said in `command`.
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::{exit, output::Color};

mod emit;
mod token;

pub(crate) use emit::{
    BuildArgs, ChangeArgs, ChangeStep, CommitArgs, DeployArgs, Deployment, EmitArgs, EmitKind,
    FlagArgs, FlagStep, IncidentArgs, IncidentStep, MergeMethod, MetricArgs, OnError, Operation,
    Outcome, ReleaseArgs, ReleaseStep, RunArgs, RunDeployArgs, RunKind, Stamp, Step, Strategy,
    Verdict,
};
pub(crate) use token::{NewTokenArgs, TokenCommand, TokenFileArgs, TokenRole};

const WHEN_HELP: &str = "\
WHEN is RFC 3339, a date, `now`, `2w` `3d` `4h` (ago) or `@{2.weeks.ago}`.
KNOWLEDGE is a WHEN, `seq:184223`, or an event as 'SOURCE ID'.
REF is a commit id or its beginning, `HEAD~3`, `#412`, a version, an incident, `d:SERVICE@ENV~1`, or an entity name.";

const TOKEN_HELP: &str = "\
Which server: --server, --ledger or --context; then WAYBILL_SERVER, WAYBILL_LEDGER or WAYBILL_CONTEXT (one of them);
then the current context; then `server` or `ledger` of your config.toml; then http://127.0.0.1:8420.
Which token: a context's server is shown the context's token. WAYBILL_TOKEN_FILE (a path) or WAYBILL_TOKEN (for CI
systems that have only variables) goes to the server of WAYBILL_SERVER, and to --server where WAYBILL_SERVER is not set
or says the same. No server is shown any other token; --server is never shown a context's. No flag takes a token itself:
other processes can read command lines. Over http a token goes to this machine only; redirects are not followed.
WAYBILL_CA, or `ca` in your config.toml, is a PEM file of certificate authorities to trust for servers that no context names.
Kept in $XDG_CONFIG_HOME/waybill: contexts.toml, and tokens/NAME, which only you can read.";

const SERVE_HELP: &str = "\
    The ledger is the directory of --ledger, made where there is none; its keys are in --state. Files with secrets must be their \
    owner's only.\n\
    Ends with 0 when told to stop (130 where a new ledger has not met its broker yet), 1 where the port is taken, 2 where a flag, a \
    file or a setting is wrong, 4 where the broker refuses the ledger's credentials, and 12 where the stream is not one that can be \
    followed. A broker that is away is waited for.";

const LEDGER_HELP: &str = "\
    `waybill doctor` and `waybill status` say which of these fits and print it with its root. accept-loss is for a directory that is \
    not being served; the others ask the server, and need a token that may operate where tokens are needed. What each does and loses: \
    deploy/README.md, \"When the ledger freezes\".";

const SENDER_HELP: &str = "\
Who said it, in words:
  sender  ci-checkout (verified)          the name of the token that the event came with
  sender  not verified: …                 nobody was asked: on this machine's own port, or straight through NATS
  actor   hmac-sha256:7f3a… (claimed)     whom the event itself names, which anybody can write";

/// An event-sourced delivery ledger: what happened to every change, provably, and what it did.
#[derive(Debug, Parser)]
#[command(name = "waybill", version, max_term_width = 110, after_long_help = format!("{WHEN_HELP}\n\n{}", exit::TABLE), after_help = WHEN_HELP,
    disable_version_flag = true, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where answers come from, and how they are shown.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Global {
    /// Server to ask; default WAYBILL_SERVER, the current context's, or http://127.0.0.1:8420
    #[arg(long, global = true, value_name = "URL", conflicts_with_all = ["ledger", "context"])]
    pub(crate) server: Option<String>,
    /// Context whose server to ask, with its token; default WAYBILL_CONTEXT, or what `waybill context use` chose
    #[arg(long, global = true, value_name = "NAME", conflicts_with = "ledger")]
    pub(crate) context: Option<String>,
    /// Ledger directory to work on without a server; default WAYBILL_LEDGER
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) ledger: Option<PathBuf>,
    /// Where keys and head files are kept; default $XDG_STATE_HOME/waybill/instances
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// Answer as proto3 JSON, the same answer that the server gives
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// How long an answer may take: 10s, 2m
    #[arg(long, global = true, value_name = "LENGTH")]
    pub(crate) timeout: Option<String>,
    /// When to colour; NO_COLOR and CLICOLOR_FORCE are heeded
    #[arg(long, global = true, value_name = "WHEN", value_enum)]
    pub(crate) color: Option<Color>,
    /// Say nothing but data and failures
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Five minutes: import this repository, serve it, and show a trace and the first figures
    Try(TryArgs),
    /// Serve a ledger over gRPC, JSON and HTTP on one port
    #[command(after_help = SERVE_HELP)]
    Serve(ServeArgs),
    /// Record that something happened
    Emit(Box<EmitArgs>),
    /// Run a command and record that it ran, how long it took and how it ended
    Run(Box<RunArgs>),
    /// Record history that exists elsewhere; again is safe
    #[command(subcommand)]
    Import(ImportCommand),
    /// The ledger itself: what is recorded, in order
    Log(LogArgs),
    /// One event: show it, correct it, take it back, or link what led to an incident
    #[command(subcommand)]
    Event(EventCommand),
    /// Where did this change go, and where did this come from?
    Trace(TraceArgs),
    /// How is delivery doing, under a named definition?
    #[command(alias = "dora")]
    Delivery(DeliveryArgs),
    /// Check bytes and proofs offline: a ledger directory, an export, or a proven receipt
    Verify(VerifyArgs),
    /// Write the whole ledger to one file
    Export(ExportArgs),
    /// Make a ledger directory from an export
    Restore(RestoreArgs),
    /// What is wrong, what is not known, and how to mend it
    Doctor,
    /// Where the ledger stands
    Status(StatusArgs),
    /// Decisions that only an operator can take
    #[command(subcommand, after_help = LEDGER_HELP)]
    Ledger(LedgerCommand),
    /// Who may call a server: make, list and revoke tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// Servers with names, each with the token that is shown to it and to nobody else
    #[command(subcommand, after_help = TOKEN_HELP)]
    Context(ContextCommand),
    /// Print a completion script for a shell
    Completion {
        /// Which shell
        shell: Shell,
    },
    /// Print the version
    Version,
    /// Opens the database of a directory and exits; the ledger runs it as a child that may die
    #[command(name = "__probe-database", hide = true)]
    ProbeDatabase { directory: PathBuf },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// Keep the server of --server URL under a name; again for the same server to replace its token
    #[command(after_help = TOKEN_HELP)]
    Add(AddContextArgs),
    /// Send commands there where nothing else is said
    Use {
        /// Its name
        name: String,
    },
    /// Names and servers; the current one is marked, and no token is shown
    #[command(alias = "list")]
    Ls,
    /// Forget a context and its token
    #[command(alias = "remove")]
    Rm {
        /// Its name
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AddContextArgs {
    /// What to call it
    pub(crate) name: String,
    /// Keep the token of this file; only its owner may be able to read it
    #[arg(long, value_name = "FILE", conflicts_with = "token_stdin")]
    pub(crate) token_file: Option<PathBuf>,
    /// Keep the token that comes on standard input
    #[arg(long)]
    pub(crate) token_stdin: bool,
    /// Trust the certificate authorities of this PEM file instead of the machine's
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
}

/// With whose eyes a question is answered.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Two clocks")]
pub(crate) struct ReadArgs {
    /// The knowledge used: what the ledger had recorded by then
    #[arg(long, value_name = "KNOWLEDGE")]
    pub(crate) as_of: Option<String>,
    /// The question's now; default the wall clock, or the moment of --as-of
    #[arg(long, value_name = "WHEN")]
    pub(crate) evaluated: Option<String>,
    /// Count imported events as known when they happened, plus a lag
    #[arg(long, value_name = "LAG", num_args = 0..=1, require_equals = true, default_missing_value = "0s")]
    pub(crate) assume_known: Option<String>,
    /// Answer at this position or later
    #[arg(long, value_name = "SEQ")]
    pub(crate) at_least: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct TryArgs {
    /// A git repository; elsewhere a small demo story is loaded
    #[arg(default_value = ".")]
    pub(crate) path: PathBuf,
    /// Remove what an earlier try left behind
    #[arg(long)]
    pub(crate) clean: bool,
    /// Print and stop, also on a terminal
    #[arg(long)]
    pub(crate) exit: bool,
    /// Address to serve; a free port where it is taken
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8420")]
    pub(crate) listen: String,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Address to listen on; default WAYBILL_LISTEN, or 127.0.0.1:8420. Others than this machine's own need --tokens, and
    /// TLS or --behind-proxy
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<String>,
    /// Certificate in PEM, with its chain; the port then speaks TLS 1.3 only. Read again when it changes
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Key of the certificate in PEM, which only its owner may read
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_key: Option<PathBuf>,
    /// File of the tokens that may call, as `waybill token new` makes it; default WAYBILL_TOKENS. Read again when it changes
    #[arg(long, value_name = "FILE")]
    pub(crate) tokens: Option<PathBuf>,
    /// A proxy in front of this port ends TLS, and nobody else reaches the port; tokens are needed all the same
    #[arg(long)]
    pub(crate) behind_proxy: bool,
    #[cfg(feature = "nats")]
    #[command(flatten)]
    pub(crate) stream: StreamArgs,
    /// How logs are written to stderr
    #[arg(long, value_enum)]
    pub(crate) log_format: Option<LogFormat>,
}

/// The stream that gives the positions. Secrets stand in files that only their owner may read.
#[cfg(feature = "nats")]
#[derive(Debug, Args)]
#[command(next_help_heading = "Follow a NATS JetStream stream")]
pub(crate) struct StreamArgs {
    /// Follow a stream of this broker: nats://HOST:4222, or tls://HOST:4222; again for more servers of one cluster. Default
    /// WAYBILL_NATS. A ledger that has a history of its own keeps it and goes on in the stream
    #[arg(long = "nats", value_name = "URL")]
    pub(crate) servers: Vec<String>,
    /// The stream's name; it is created where there is none. Default WAYBILL_STREAM, or WAYBILL_EVENTS
    #[arg(long = "stream", value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// The broker's monitoring address, such as http://127.0.0.1:8222: there it says how it syncs. Without it that is unknown, and
    /// counts as not durable
    #[arg(long = "nats-monitor", value_name = "URL")]
    pub(crate) monitor: Option<String>,
    /// Copies of each message that the stream is created with, 1 to 5; 3 needs a cluster of three
    #[arg(long = "nats-replicas", value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=5))]
    pub(crate) replicas: u8,
    /// Authorities in PEM that the broker's certificate is checked against, in place of the system's; TLS is then needed
    #[arg(long = "nats-ca", value_name = "FILE")]
    pub(crate) authorities: Option<PathBuf>,
    /// This ledger's own certificate in PEM, for a broker that asks for one
    #[arg(long = "nats-cert", value_name = "FILE", requires = "key")]
    pub(crate) certificate: Option<PathBuf>,
    /// The key of that certificate
    #[arg(long = "nats-key", value_name = "FILE", requires = "certificate")]
    pub(crate) key: Option<PathBuf>,
    /// The broker speaks TLS before anything else (its `handshake_first`)
    #[arg(long = "nats-tls-first")]
    pub(crate) tls_first: bool,
    /// Who the ledger is at the broker: the file with the seed of its nkey (SU…)
    #[arg(long = "nats-nkey", value_name = "FILE", group = "who")]
    pub(crate) nkey: Option<PathBuf>,
    /// Or: its credentials file, which holds a JWT and its seed
    #[arg(long = "nats-creds", value_name = "FILE", group = "who")]
    pub(crate) creds: Option<PathBuf>,
    /// Or: its name, with --nats-password-file
    #[arg(
        long = "nats-user",
        value_name = "NAME",
        group = "who",
        requires = "password"
    )]
    pub(crate) user: Option<String>,
    /// The file with the password of --nats-user
    #[arg(long = "nats-password-file", value_name = "FILE", requires = "user")]
    pub(crate) password: Option<PathBuf>,
    /// Or: the file with its token
    #[arg(long = "nats-token-file", value_name = "FILE", group = "who")]
    pub(crate) token: Option<PathBuf>,
    /// Show credentials to a broker on another host without TLS; only where the network is yours alone
    #[arg(long = "nats-allow-plaintext")]
    pub(crate) allow_plaintext: bool,
    /// Follow a stream whose messages may be deleted or purged, which whoever may publish can then do; the ledger notices when
    /// the last message that it recorded, or the next that it must read, is gone
    #[arg(long = "nats-allow-purge")]
    pub(crate) allow_purge: bool,
    /// What the subjects of the broker's answers begin with, where its permissions name that: _INBOX_ledger
    #[arg(long = "nats-inbox-prefix", value_name = "PREFIX")]
    pub(crate) inbox_prefix: Option<String>,
    /// The first token of the subjects that this ledger publishes to, where the broker's permissions need one
    #[arg(long = "nats-org", value_name = "NAME")]
    pub(crate) org: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImportCommand {
    /// The history of a git repository, through the git command
    Git(ImportGitArgs),
    /// One event a line, as proto3 JSON
    Ndjson {
        /// A file, or `-` for standard input
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ImportGitArgs {
    /// The repository
    #[arg(default_value = ".")]
    pub(crate) path: PathBuf,
    /// The service it is the source of; default the setting `service`, or the repository's name
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<String>,
    /// Record each tag as a production deployment too, marked inferred
    #[arg(long)]
    pub(crate) tags_as_deployments: bool,
    /// The environment of those deployments
    #[arg(
        long = "env",
        value_name = "NAME",
        default_value = "prod",
        requires = "tags_as_deployments"
    )]
    pub(crate) environment: String,
    /// Which tags count, as a glob: `v*`
    #[arg(long, value_name = "GLOB")]
    pub(crate) tag_pattern: Option<String>,
    /// Every branch, and not only what is checked out, the default branch and what is tagged
    #[arg(long)]
    pub(crate) all_branches: bool,
    /// Keep names of persons beside keyed hashes
    #[arg(long)]
    pub(crate) with_names: bool,
    /// Read and count, record nothing
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct LogArgs {
    #[command(subcommand)]
    pub(crate) command: Option<LogCommand>,
    /// Only `<family>.<predicate>` or `<family>`; again for more
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Vec<String>,
    /// Only what is about this: a service, a commit's beginning, an entity name
    #[arg(long, value_name = "ENTITY")]
    pub(crate) entity: Option<String>,
    /// Only from this source
    #[arg(long, value_name = "SOURCE")]
    pub(crate) source: Option<String>,
    /// Only what happened at or after this moment
    #[arg(long, value_name = "WHEN")]
    pub(crate) since: Option<String>,
    /// Only what happened before this moment
    #[arg(long, value_name = "WHEN")]
    pub(crate) until: Option<String>,
    /// Only what was recorded by then
    #[arg(long, value_name = "KNOWLEDGE")]
    pub(crate) as_of: Option<String>,
    /// First position, included
    #[arg(long, value_name = "SEQ")]
    pub(crate) from: Option<u64>,
    /// Last position, included
    #[arg(long, value_name = "SEQ")]
    pub(crate) to: Option<u64>,
    /// At most this many, 0 for all; default 50, and all with --jsonl or --from
    #[arg(long, short = 'n', value_name = "COUNT")]
    pub(crate) limit: Option<u64>,
    /// The ledger's own book-keeping too, and of a stream every message: repeats, and what was refused
    #[arg(long)]
    pub(crate) all: bool,
    /// What was refused instead, newest first: messages of the stream, then what was refused at the door
    #[arg(long, conflicts_with_all = ["kind", "entity", "since", "until", "follow", "from", "to"])]
    pub(crate) refused: bool,
    /// One event a line, as proto3 JSON, oldest first; `waybill import ndjson` reads it back
    #[arg(long)]
    pub(crate) jsonl: bool,
    /// Go on as events are recorded
    #[arg(long, short)]
    pub(crate) follow: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// The receipt of one event with its proof, to be checked elsewhere
    Receipt {
        /// Who emitted it
        source: String,
        /// What they called it
        id: String,
        /// Write it to a file that `waybill verify` reads
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Also prove that the tree grew from this size
        #[arg(long, value_name = "SIZE")]
        consistent_from: Option<u64>,
        /// Wait so long, at most 60s, for an event that is not recorded yet, as after publishing it to a stream
        #[arg(long, value_name = "LENGTH")]
        wait: Option<String>,
    },
    /// The newest signed checkpoint; keep it elsewhere, so that nobody can take history back
    Checkpoint {
        /// Of this size instead
        #[arg(long, value_name = "SIZE")]
        size: Option<u64>,
        /// Write it to a file
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum EventCommand {
    /// Print one event in full
    #[command(after_help = SENDER_HELP)]
    Show {
        #[command(flatten)]
        event: EventRefArgs,
    },
    /// Record what should have been said instead; the first stays on record
    Correct {
        #[command(flatten)]
        event: EventRefArgs,
        /// Field to change, by its path: deployment.finished.outcome=OUTCOME_FAILURE; again for more
        #[arg(long, value_name = "PATH=VALUE", required = true)]
        set: Vec<String>,
        /// Why
        #[arg(long, value_name = "TEXT")]
        because: String,
    },
    /// Take an event back; it stays on record and counts no more
    Retract {
        #[command(flatten)]
        event: EventRefArgs,
        /// Why
        #[arg(long, value_name = "TEXT")]
        because: String,
    },
    /// Say what led to an incident
    Link {
        /// The incident
        incident: String,
        /// What led to it: a REF
        #[arg(long, value_name = "REF")]
        cause: String,
        /// Why you say so
        #[arg(long, value_name = "TEXT")]
        because: String,
        /// How sure you are, 0 to 1
        #[arg(long, value_name = "RATIO")]
        confidence: Option<f64>,
    },
}

/// Which event: a position, or source and id.
#[derive(Clone, Debug, Args)]
pub(crate) struct EventRefArgs {
    /// A position (184223, seq:184223), or the event's source followed by its id
    #[arg(value_name = "SEQ | SOURCE ID", num_args = 1..=2, required = true)]
    pub(crate) event: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    /// A commit, change, release, deployment or incident
    #[arg(value_name = "REF")]
    pub(crate) reference: String,
    /// The moment asked about: what happened later is left out
    #[arg(long, value_name = "WHEN")]
    pub(crate) at: Option<String>,
    /// At most this many things
    #[arg(long, value_name = "COUNT")]
    pub(crate) max_nodes: Option<i32>,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DeliveryArgs {
    /// Only this service
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<String>,
    /// Only this environment; default the production environments
    #[arg(long = "env", alias = "environment", value_name = "NAME")]
    pub(crate) environment: Option<String>,
    /// From this moment on; default 90 days before the end
    #[arg(long, value_name = "WHEN")]
    pub(crate) since: Option<String>,
    /// Before this moment; default the question's now
    #[arg(long, visible_alias = "at", value_name = "WHEN")]
    pub(crate) until: Option<String>,
    /// Name what counted, what did not and why, and what is pending
    #[arg(long)]
    pub(crate) explain: bool,
    /// Which definition answers
    #[arg(long, value_name = "ID")]
    pub(crate) definition: Option<String>,
    /// Length of a step of the trend
    #[arg(long, value_enum, value_name = "BUCKET")]
    pub(crate) by: Option<Bucket>,
    /// IANA name of the zone that steps of the trend follow; default UTC
    #[arg(long, value_name = "ZONE")]
    pub(crate) tz: Option<String>,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Bucket {
    Day,
    Week,
    Month,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// A ledger directory, an export, or a receipt of `waybill log receipt`
    pub(crate) path: PathBuf,
    /// A checkpoint that you kept: is what it covers still there, unchanged?
    #[arg(long, value_name = "FILE")]
    pub(crate) checkpoint: Option<PathBuf>,
    /// The instance's public key, as `waybill status --all` and `waybill log checkpoint` show it: is the checkpoint signed with it?
    #[arg(long, value_name = "VKEY")]
    pub(crate) key: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// A file that does not exist yet, or `-` for standard output
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// An export
    pub(crate) file: PathBuf,
    /// A directory that is empty or does not exist yet
    pub(crate) directory: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Counters, sizes and keys too
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LedgerCommand {
    /// Go on after positions were lost: the tree gets a new name, and its first event says what is gone
    AcceptLoss {
        /// The root that the head file knows, as `waybill doctor` shows it
        #[arg(long, value_name = "ROOT")]
        yes: String,
    },
    /// The broker lost events: open a new epoch of its stream and publish them again
    Republish(DecisionArgs),
    /// The broker lost events or was made anew: open a new epoch of its stream as it is now
    AcceptEpoch(DecisionArgs),
    /// Messages that were never recorded are gone from the stream: go on behind them
    AcceptGap(DecisionArgs),
}

/// A decision about the stream; it is an event of the ledger.
#[derive(Debug, Args)]
pub(crate) struct DecisionArgs {
    /// The root at the head, as `waybill status` shows it
    #[arg(long, value_name = "ROOT")]
    pub(crate) yes: String,
    /// Why; it stays on record
    #[arg(long, value_name = "REASON")]
    pub(crate) why: String,
    /// Who decides, as a plain account name; default the name of the token
    #[arg(long, value_name = "NAME")]
    pub(crate) who: Option<String>,
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, error::ErrorKind};

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("waybill").chain(line.split_whitespace()))
    }

    #[test]
    fn the_command_line_agrees_with_itself() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_is_there() {
        let verbs: Vec<String> = Cli::command()
            .get_subcommands()
            .filter(|c| !c.is_hide_set())
            .map(|c| c.get_name().to_owned())
            .collect();
        let expected = "try serve emit run import log event trace delivery verify export restore doctor status ledger token context completion version";
        assert_eq!(verbs.join(" "), expected);
        assert!(matches!(
            parse("dora").unwrap().command,
            Command::Delivery(_)
        ));
    }

    #[test]
    fn help_names_the_exit_codes_and_the_grammar() {
        let help = Cli::command().render_long_help().to_string();
        for text in [
            "130  interrupted",
            "6  an event was rejected",
            "--ledger",
            "--json",
        ] {
            assert!(help.contains(text), "{text} is missing in:\n{help}");
        }
    }

    #[test]
    fn lines_that_people_type() {
        for line in [
            "try",
            "try ../shop --clean",
            "serve --ledger dir --listen 127.0.0.1:9000 --log-format json",
            "serve --listen 0.0.0.0:8420 --tls-cert c.pem --tls-key k.pem --tokens tokens.toml",
            "serve --listen 0.0.0.0:8420 --behind-proxy --tokens tokens.toml",
            "token new --name ci --role emit --source //ci.acme.dev/* --expires 90d --tokens tokens.toml",
            "token new --name dashboard --role read",
            "token ls --json",
            "token revoke ci",
            "emit deploy checkout --env prod",
            "emit deploy checkout --env prod --step started --label team=payments --on-error fail",
            "emit -d @event.json",
            "emit commit",
            "emit change 412 --step merged --merge-revision abcdef1",
            "emit incident INC-212 --env prod --service checkout --severity high",
            "emit flag price-batch --env prod --exposure 0.5",
            "emit metric p95 --unit ms --service checkout --env prod --from 1h --count 10 --sum 20",
            "run deploy checkout --env prod -- ./deploy.sh --fast",
            "import git --tags-as-deployments --env live",
            "import ndjson -",
            "log -f --kind deployment --jsonl",
            "log receipt //ci run-1 -o receipt.json",
            "log checkpoint",
            "event show 12",
            "event correct //ci run-1 --set labels.team=payments --because wrong",
            "event link INC-212 --cause d:checkout@prod --because it-does",
            "trace HEAD~3 --as-of seq:12 --assume-known",
            "delivery --service checkout --since 28d --explain --assume-known=2h --json",
            "verify dir --checkpoint kept.txt",
            "export - --ledger dir",
            "restore file dir",
            "doctor --server http://127.0.0.1:1",
            "ledger accept-loss --yes abcd",
            "context add prod --server https://a:1 --token-file t --ca ca.pem",
            "context add prod --server https://a:1 --token-stdin",
            "context use prod",
            "context ls --json",
            "context rm prod",
            "status --context prod",
            "completion bash",
        ] {
            if let Err(error) = parse(line) {
                panic!("`waybill {line}` is refused: {error}");
            }
        }
    }

    #[test]
    fn lines_that_cannot_be_meant() {
        let cases = [
            (
                "--server http://a --ledger b status",
                ErrorKind::ArgumentConflict,
            ),
            (
                "--server http://a --context b status",
                ErrorKind::ArgumentConflict,
            ),
            ("--ledger a --context b status", ErrorKind::ArgumentConflict),
            ("status --token wbt_secret", ErrorKind::UnknownArgument),
            (
                "context add a --token-file t --token-stdin",
                ErrorKind::ArgumentConflict,
            ),
            ("import git --env live", ErrorKind::MissingRequiredArgument),
            ("event retract 12", ErrorKind::MissingRequiredArgument),
            (
                "emit deploy checkout --outcome splendid",
                ErrorKind::InvalidValue,
            ),
            ("delivry", ErrorKind::InvalidSubcommand),
            ("log --refused --follow", ErrorKind::ArgumentConflict),
        ];
        for (line, kind) in cases {
            assert_eq!(parse(line).unwrap_err().kind(), kind, "{line}");
        }
    }

    #[test]
    fn what_follows_the_dashes_is_the_command_untouched() {
        let Command::Run(args) = parse("run deploy checkout --env prod -- sh -c --json")
            .unwrap()
            .command
        else {
            panic!("`run` is parsed as something else");
        };
        let RunKind::Deploy(args) = args.kind;
        assert_eq!(args.command, ["sh", "-c", "--json"]);
    }
}
