//! Sealed records on disk: the journal that keeps the promise, sled that answers reads, and the small files beside them.
//!
//! Refuses to know: what an event means, protobuf, sockets, async. The ledger hands it pure functions where it needs a
//! leaf's hash or a record's index keys ([`Pure`]); it never opens a record itself. Reading order: [`record`] (what is
//! stored), [`fault`] (what can go wrong), [`journal`] (the truth), [`database`] (sled), [`seen`] (deduplication),
//! [`place`] (lock, ids, keys, head file, disk space), [`side_log`] (refusals), [`view_checkpoint`] (folded state), [`export`] (one file to carry away).

mod codec;
pub mod database;
mod directory;
pub mod export;
pub mod fault;
pub mod journal;
pub mod place;
pub mod record;
pub mod seen;
pub mod side_log;
pub mod view_checkpoint;

pub use fault::{Damage, Fault};
pub use record::{Hash, Keys, Pure, Record, Tip, Verdict, Word};
