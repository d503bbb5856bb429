//! The limits of what is accepted (LEDGER E11). They are part of the contract; `proto/README.md` lists them.

/// Largest event, in bytes as sent.
pub const EVENT_BYTES_MAX: usize = 256 * 1024;
/// Most events of one batch.
pub const BATCH_EVENTS_MAX: usize = 1_000;
/// Largest batch, in bytes of its events as sent.
pub const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest source, id, or name of any kind, in bytes of UTF-8.
pub const ID_BYTES_MAX: usize = 256;
/// Longest repository, branch, URI or entity name, in bytes of UTF-8.
pub const REFERENCE_BYTES_MAX: usize = 1_024;
/// Most labels of one event.
pub const LABELS_MAX: usize = 64;
/// Longest key of a label, in bytes of UTF-8.
pub const LABEL_KEY_BYTES_MAX: usize = 256;
/// Most entities that one event is indexed under; its payload keeps the rest.
pub const ENTITIES_MAX: usize = 1_000;
