//! Builds, artifacts, releases, deployments.
use std::sync::Arc;

use super::commit::Revision;

/// How something ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// It did what it should.
    Success,
    /// It ran and did not.
    Failure,
    /// It could not run.
    Error,
    /// It took too long.
    Timeout,
    /// Somebody stopped it.
    Cancelled,
    /// It was not meant to run.
    Skipped,
    /// A guard stopped it.
    Aborted,
    /// Not said, or a word newer than this version.
    Unknown,
}

/// An artifact by name, and by digest where known. At least one is there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArtifactRef {
    /// The name as the tool gave it.
    pub id: Option<Arc<str>>,
    /// `sha256:<64 hex digits>`.
    pub digest: Option<Arc<str>>,
}

/// A build moved.
#[derive(Clone, Debug, PartialEq)]
pub struct Build {
    /// Its id in the build system.
    pub build_id: Arc<str>,
    /// What it was made from.
    pub source_revisions: Vec<Revision>,
    /// What it made.
    pub artifacts: Vec<ArtifactRef>,
    /// What happened to it.
    pub step: BuildStep,
}

/// What happened to a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildStep {
    /// It waits.
    Queued,
    /// It runs.
    Started,
    /// It ended.
    Finished(Outcome),
}

/// An artifact moved.
#[derive(Clone, Debug, PartialEq)]
pub struct Artifact {
    /// Which one.
    pub artifact: ArtifactRef,
    /// What it was made from, where said.
    pub source_revisions: Vec<Revision>,
    /// The build that made it, where said.
    pub build_id: Option<Arc<str>>,
    /// What happened to it.
    pub step: ArtifactStep,
}

/// What happened to an artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArtifactStep {
    /// It was made.
    Packaged,
    /// It was signed.
    Signed,
    /// Something was stated about it.
    Attested,
    /// It went to a registry.
    Published,
    /// Somebody fetched it.
    Downloaded,
    /// It is gone.
    Deleted,
}

/// A release moved.
#[derive(Clone, Debug, PartialEq)]
pub struct Release {
    /// Name of the service.
    pub service: Arc<str>,
    /// As written.
    pub version: Arc<str>,
    /// What is in it, one for each repository.
    pub revisions: Vec<Revision>,
    /// Change numbers in it.
    pub changes: Vec<Arc<str>>,
    /// As written.
    pub previous_version: Option<Arc<str>>,
    /// What happened to it.
    pub step: ReleaseStep,
}

/// What happened to a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseStep {
    /// It was drafted.
    Created,
    /// It was made public.
    Published,
    /// It was taken back.
    Withdrawn,
    /// A tag names it.
    Tagged,
}

/// A deployment moved.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployment {
    /// The same from request to finish.
    pub deployment_id: Arc<str>,
    /// Name of the service.
    pub service: Arc<str>,
    /// Name of the environment.
    pub environment: Arc<str>,
    /// What was done.
    pub operation: Operation,
    /// What runs afterwards, one for each repository.
    pub revisions: Vec<Revision>,
    /// What runs afterwards, as artifacts.
    pub artifacts: Vec<ArtifactRef>,
    /// Revision of the configuration repository.
    pub config_revision: Option<Revision>,
    /// What ran before, as the emitter knows it.
    pub previous_revisions: Vec<Revision>,
    /// The deployment that this one takes back.
    pub rollback_of: Option<Arc<str>>,
    /// As written.
    pub version: Option<Arc<str>>,
    /// Nobody reported it; a tool inferred it.
    pub inferred: bool,
    /// The range from the previous head is said to be unknown.
    pub range_unknown: bool,
    /// What happened to it.
    pub step: DeploymentStep,
}

/// What a deployment does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Puts a version there.
    Deploy,
    /// Puts a newer version there.
    Upgrade,
    /// Puts an older version back.
    Rollback,
    /// Takes the service away.
    Remove,
    /// Makes it reachable.
    Publish,
    /// Changes configuration only.
    Config,
    /// Changes stored data's shape.
    Migration,
    /// Changes what it runs on.
    Infrastructure,
    /// A word newer than this version.
    Unknown,
}

/// What happened to a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeploymentStep {
    /// It was asked for.
    Requested,
    /// It runs.
    Started,
    /// It reached a step.
    Progressed,
    /// It ended.
    Finished {
        /// How.
        outcome: Outcome,
        /// The pipeline goes on although it failed.
        allowed_to_fail: bool,
    },
    /// Another one took its place before it ended.
    Superseded,
}
