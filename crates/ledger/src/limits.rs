//! Every bound of the engine, with the reason for its size.

/// Events that may wait for the writer. At the speeds measured this is well under a second of work.
pub(crate) const QUEUED_EVENTS_MAX: usize = 100_000;
/// Bytes of events that may wait for the writer.
pub(crate) const QUEUED_BYTES_MAX: usize = 64 << 20;
/// Events that sled may lag behind before emits are told to wait (LEDGER S4).
pub(crate) const UNAPPLIED_EVENTS_MAX: usize = 200_000;
/// Bytes that sled may lag behind (LEDGER S4).
pub(crate) const UNAPPLIED_BYTES_MAX: usize = 64 << 20;
/// A group commit takes no further job beyond this many events; with the largest job it still fits one frame.
pub(crate) const COMMIT_EVENTS_MAX: usize = 7_000;
/// A group commit takes no further job beyond this many bytes; with the largest job it still fits one frame.
pub(crate) const COMMIT_BYTES_MAX: usize = 3 << 20;
/// Events that one step of sled takes in, so that readers never wait long for its lock.
pub(crate) const STEP_EVENTS_MAX: usize = 4_000;
/// Events that the views take in under one lock, so that questions never wait long.
pub(crate) const FOLD_EVENTS_MAX: usize = 4_000;
/// Bytes of batches kept for a folder that lags; beyond that it reads from sled. Parsed, an event takes several times its
/// bytes.
pub(crate) const RECENT_BYTES_MAX: usize = 16 << 20;
/// What a busy ledger tells emitters to wait, in milliseconds: a few group commits.
pub(crate) const RETRY_AFTER_MS: u64 = 50;
/// Disk space that writing leaves alone, in bytes: a segment and sled's own needs.
pub(crate) const DISK_RESERVE_BYTES: u64 = 96 << 20;
/// Events of sled that are folded before the folder looks up again.
pub(crate) const CATCH_UP_EVENTS_MAX: u64 = 200_000;
/// Room that a checkpoint of the views is allowed for each event before it is begun, in bytes; it takes about half.
pub(crate) const VIEW_CHECKPOINT_BYTES_PER_EVENT: u64 = 200;
