//! Flags, incidents, links, and what the ledger is told about itself.
use std::sync::Arc;

use crate::name::Entity;

/// A feature flag moved.
#[derive(Clone, Debug, PartialEq)]
pub struct Flag {
    /// Its key.
    pub flag_key: Arc<str>,
    /// Name of the environment.
    pub environment: Arc<str>,
    /// Name of the service, where said.
    pub service: Option<Arc<str>>,
    /// What happened to it.
    pub step: FlagStep,
    /// Share of users who saw it before, in parts per million.
    pub exposure_before_ppm: Option<u32>,
    /// Share of users who see it now, in parts per million.
    pub exposure_after_ppm: Option<u32>,
}

/// What happened to a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagStep {
    /// It came to be.
    Created,
    /// Its rules or exposure changed.
    Changed,
    /// It is out of use.
    Archived,
}

/// An incident moved.
#[derive(Clone, Debug, PartialEq)]
pub struct Incident {
    /// Its id in the tool that runs it.
    pub incident_id: Arc<str>,
    /// Name of the environment, or `unknown`.
    pub environment: Arc<str>,
    /// Names of the services it is about.
    pub services: Vec<Arc<str>>,
    /// As written.
    pub severity: Option<Arc<str>>,
    /// Empty when unknown.
    pub title: Arc<str>,
    /// What happened to it.
    pub step: IncidentStep,
}

/// What happened to an incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IncidentStep {
    /// A machine noticed.
    Detected,
    /// A person said so.
    Reported,
    /// Somebody is on it.
    Acknowledged,
    /// Something known about it changed.
    Updated,
    /// Users no longer suffer.
    Mitigated,
    /// It is over.
    Resolved,
    /// It was not over.
    Reopened,
    /// It is part of another.
    Merged {
        /// The other one's id.
        into: Arc<str>,
    },
    /// It was none.
    Cancelled,
}

/// Somebody links two entities, or takes a link back.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// Names the link.
    pub link_id: Arc<str>,
    /// What happened to it.
    pub step: LinkStep,
}

/// What happened to a link.
#[derive(Clone, Debug, PartialEq)]
pub enum LinkStep {
    /// `from` led to `to`.
    Asserted {
        /// What led to it.
        from: Entity,
        /// What it led to.
        to: Entity,
        /// How it is known.
        method: LinkMethod,
        /// In parts per million, where said.
        confidence_ppm: Option<u32>,
        /// Why they think so.
        because: Arc<str>,
    },
    /// It no longer stands.
    Retracted,
}

/// How a link is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LinkMethod {
    /// A person said so.
    Explicit,
    /// A tool said so.
    Tool,
    /// They were close in time.
    TimeWindow,
    /// One reverts the other.
    Revert,
    /// One rolls the other back.
    Rollback,
    /// One repairs the other.
    Hotfix,
    /// Not said, or a word newer than this version.
    Unknown,
}

/// Something is known to be missing.
#[derive(Clone, Debug, PartialEq)]
pub struct Gap {
    /// Where the gap is.
    pub entity: Option<Entity>,
    /// Why it is there.
    pub reason: Arc<str>,
    /// Revisions or delivery ids that bound it.
    pub bounds: Vec<Arc<str>>,
    /// What would mend it.
    pub remedy: Arc<str>,
}

/// The rank of a source among witnesses; higher wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceRank {
    /// The source that is ranked.
    pub source: Arc<str>,
    /// Its rank.
    pub rank: u32,
}

/// One entity goes by a new name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rename {
    /// The old name.
    pub from: Entity,
    /// The new name.
    pub to: Entity,
}
