//! With whose eyes a question is answered, and the words that all answers share.
use waybill_core::{Identity, Time};

/// The knowledge that a question uses, and its *now* (LEDGER K4, K5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Every event up to this position is used, and none after it. Beyond the head it means the head.
    pub as_of: u64,
    /// The question's *now*: what happened after it is left out.
    pub evaluated_time: Time,
    /// How knowledge is ordered. [`Knowledge::Assumed`] goes with facts from [`crate::assumed`].
    pub knowledge: Knowledge,
}

/// How knowledge is ordered (LEDGER K6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Knowledge {
    /// As it was recorded.
    #[default]
    Recorded,
    /// Backfilled events count as known this long after they occurred.
    Assumed {
        /// Nanoseconds.
        lag_nanos: i64,
    },
}

/// One event: its identity, and its place in the ledger.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventRef {
    /// Who said it, and what they called it.
    pub identity: Identity,
    /// Position in the ledger that was folded.
    pub position: u64,
}

/// Something odd that an answer had to step around.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// A short fixed word: `amends_absent`, `amendment_cycle`, `unknown_parent`.
    pub code: &'static str,
    /// For people.
    pub text: String,
    /// The first few events concerned, by identity.
    pub events: Vec<EventRef>,
    /// All events concerned.
    pub count: u64,
}

/// Why there is no value. A figure without a value is never zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoValue {
    /// A short fixed word: `no_deployments`, `no_change_sets`.
    pub code: &'static str,
    /// For people.
    pub text: String,
    /// What would supply it.
    pub remedy: String,
}

impl NoValue {
    pub(crate) fn new(
        code: &'static str,
        text: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            code,
            text: text.into(),
            remedy: remedy.into(),
        }
    }
}
