//! One event, parsed: an envelope that cannot be wrong, and a payload where a view reads the family.
use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};

use crate::{name::Entity, time::Time};

mod change;
mod commit;
mod delivery;
mod other;

pub use change::{Change, ChangeStep, MergeMethod, ReviewVerdict};
pub use commit::{Commit, CommitFile, Revision};
pub use delivery::{
    Artifact, ArtifactRef, ArtifactStep, Build, BuildStep, Deployment, DeploymentStep, Operation,
    Outcome, Release, ReleaseStep,
};
pub use other::{
    Flag, FlagStep, Gap, Incident, IncidentStep, Link, LinkMethod, LinkStep, Rename, SourceRank,
};

/// Who said it, and what they called it. The identity of an event, for ever (LEDGER E1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// A URI reference.
    pub source: Arc<str>,
    /// Unique within `source`.
    pub id: Arc<str>,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.source, self.id)
    }
}

/// `<family>.<predicate>`, such as `deployment.finished`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub Cow<'static, str>);

impl Kind {
    /// The part before the first dot.
    #[must_use]
    pub fn family(&self) -> &str {
        self.0.split('.').next().unwrap_or_default()
    }

    /// The part after the first dot; empty for a family whose predicate is not known.
    #[must_use]
    pub fn predicate(&self) -> &str {
        self.0
            .split_once('.')
            .map_or("", |(_, predicate)| predicate)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How an occur time is known, best last, so that the greater one wins (LEDGER E7, E8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Basis {
    /// Unknown; the delivery stands in for it.
    Delivery,
    /// Worked out, or filled in from the emitter's clock.
    Derived,
    /// The clock of a person's machine.
    AuthorClock,
    /// Said by the system where it happened.
    Reported,
}

/// Whether an event states a fact or amends one (LEDGER E6).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKind {
    /// States a fact.
    Assertion,
    /// Stands instead of the named event.
    Correction(Identity),
    /// Takes the named event out.
    Retraction(Identity),
    /// Asks that the named event's bytes be erased.
    Redaction(Identity),
}

/// SHA-256 over the parts that make an event the same fact as another (LEDGER E5).
pub type NaturalKey = [u8; 32];

/// One event as its emitter means it.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Who says so, and what they call it.
    pub identity: Identity,
    /// What kind of thing happened.
    pub kind: Kind,
    /// When it happened; `None` where nobody knows.
    pub occur_time: Option<Time>,
    /// How `occur_time` is known.
    pub basis: Basis,
    /// Imported long after it happened.
    pub backfill: bool,
    /// Higher revisions of one fact win.
    pub revision: u32,
    /// States or amends.
    pub record_kind: RecordKind,
    /// What makes it the same fact as another event.
    pub natural_key: NaturalKey,
    /// Why it is amended, where it amends.
    pub reason: Option<Arc<str>>,
    /// Who did it: a keyed hash, or a plain account name.
    pub actor: Option<Arc<str>>,
    /// At most 64.
    pub labels: BTreeMap<String, String>,
    /// Entities it is about, without repeats, in the order of the payload.
    pub entities: Vec<Entity>,
    /// What happened.
    pub payload: Payload,
}

/// What happened, for the families that a view reads; the rest is kept as bytes and named by its kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    /// `commit.recorded`.
    Commit(Box<Commit>),
    /// `change.*`.
    Change(Box<Change>),
    /// `build.*`.
    Build(Box<Build>),
    /// `artifact.*`.
    Artifact(Box<Artifact>),
    /// `release.*`.
    Release(Box<Release>),
    /// `deployment.*`.
    Deployment(Box<Deployment>),
    /// `flag.*` but exposure summaries.
    Flag(Box<Flag>),
    /// `incident.*`.
    Incident(Box<Incident>),
    /// `link.*`.
    Link(Box<Link>),
    /// `ledger.gap_detected`.
    Gap(Box<Gap>),
    /// `ledger.source_registered`.
    SourceRank(SourceRank),
    /// `ledger.renamed`.
    Rename(Rename),
    /// Everything else, known or not.
    Other,
}

/// An event with its place in the ledger; clones share the event.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// Contiguous from 1.
    pub position: u64,
    /// When the ledger recorded it; never decreases with position.
    pub record_time: Time,
    /// Verified name of who handed it in; `None` where nobody was asked.
    pub sender: Option<Arc<str>>,
    /// The event.
    pub event: Arc<Event>,
}
