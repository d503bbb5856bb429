//! The kinds of event, `<family>.<predicate>`, as `proto/` names them (generated).

include!(concat!(env!("OUT_DIR"), "/kinds.rs"));

/// What only ledgers say, each under its own id.
pub const LEDGER_KINDS: [&str; 5] = [
    "ledger.created",
    "ledger.conflict_detected",
    "ledger.epoch_opened",
    "ledger.rules_changed",
    "ledger.loss_accepted",
];

/// What changes how others' events count, so that an emitter may not say it.
pub const OPERATOR_KINDS: [&str; 4] = [
    "ledger.source_registered",
    "ledger.enriched",
    "ledger.corrected",
    "ledger.renamed",
];

/// What `Event.type` says for a kind: `dev.waybill.<family>.<predicate>.v1`.
#[must_use]
pub fn type_of(kind: &str) -> String {
    format!("{TYPE_PREFIX}{kind}{TYPE_SUFFIX}")
}

/// The kind that an `Event.type` names. A type of another scheme is its own kind, whole.
#[must_use]
pub fn kind_of_type(name: &str) -> &str {
    name.strip_prefix(TYPE_PREFIX)
        .map_or(name, |kind| kind.strip_suffix(TYPE_SUFFIX).unwrap_or(kind))
}

pub(crate) const TYPE_PREFIX: &str = "dev.waybill.";
const TYPE_SUFFIX: &str = ".v1";
