//! What is kept of each family's payload: only what a question reads.
use waybill_core::event::{
    ArtifactStep, BuildStep, FlagStep, LinkMethod, MergeMethod, Operation, Outcome, ReleaseStep,
};

use super::{
    claims::Slot,
    subjects::{List, RevisionRef},
    text::{Symbol, Text},
};

/// What happened to a change; the words of core without their texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChangeMove {
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

/// What happened to a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeploymentMove {
    Requested,
    Started,
    Progressed,
    Finished(Outcome),
    Superseded,
}

/// What happened to an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IncidentMove {
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

#[derive(Clone, Copy, Debug)]
pub(crate) struct ChangeRow {
    pub(crate) title: Text,
    pub(crate) change: u32,
    pub(crate) head: RevisionRef,
    pub(crate) merge: RevisionRef,
    pub(crate) commits: List,
    pub(crate) moved: ChangeMove,
    pub(crate) method: MergeMethod,
    pub(crate) truncated: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct BuildRow {
    pub(crate) build: u32,
    pub(crate) sources: List,
    /// Artifact subjects.
    pub(crate) artifacts: List,
    pub(crate) step: BuildStep,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct ArtifactRow {
    /// The subject by digest where known.
    pub(crate) artifact: u32,
    /// The name of the tool, where both are given.
    pub(crate) name: Symbol,
    pub(crate) sources: List,
    /// Build subject, or none.
    pub(crate) build: u32,
    pub(crate) step: ArtifactStep,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct ReleaseRow {
    pub(crate) release: u32,
    pub(crate) revisions: List,
    /// Change subjects, in the repository of the release's revisions.
    pub(crate) changes: List,
    pub(crate) step: ReleaseStep,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct DeploymentRow {
    pub(crate) deployment: u32,
    /// Index into the lanes.
    pub(crate) lane: u32,
    pub(crate) revisions: List,
    pub(crate) artifacts: List,
    pub(crate) previous: List,
    /// Deployment subject, or none.
    pub(crate) rollback_of: u32,
    pub(crate) version: Symbol,
    pub(crate) operation: Operation,
    pub(crate) moved: DeploymentMove,
    pub(crate) inferred: bool,
    pub(crate) range_unknown: bool,
    pub(crate) allowed_to_fail: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct FlagRow {
    pub(crate) flag: u32,
    pub(crate) environment: Symbol,
    pub(crate) service: Symbol,
    pub(crate) before_ppm: Option<u32>,
    pub(crate) after_ppm: Option<u32>,
    pub(crate) step: FlagStep,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct IncidentRow {
    pub(crate) title: Text,
    pub(crate) incident: u32,
    pub(crate) environment: Symbol,
    /// The first service named.
    pub(crate) service: Symbol,
    pub(crate) severity: Symbol,
    /// The incident it was merged into.
    pub(crate) into: Symbol,
    pub(crate) moved: IncidentMove,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkRow {
    pub(crate) because: Text,
    pub(crate) link: u32,
    /// Entity subjects; none when the link is taken back.
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) confidence_ppm: Option<u32>,
    pub(crate) method: LinkMethod,
    /// Who says so, as the ledger verified it, and as the event claims it.
    pub(crate) sender: Symbol,
    pub(crate) actor: Symbol,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct GapRow {
    pub(crate) reason: Text,
    pub(crate) remedy: Text,
    /// Entity subject, or none.
    pub(crate) entity: u32,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct RankRow {
    pub(crate) slot: Slot,
    pub(crate) source: Symbol,
    pub(crate) rank: u32,
}

/// Revisions that a commit says it reverts, fixes, or was picked from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CommitMarks {
    pub(crate) slot: Slot,
    pub(crate) reverts: List,
    pub(crate) fixes: List,
    pub(crate) picks: List,
}
