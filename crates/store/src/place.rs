//! Where a ledger lives: the data directory with its lock and ids, and outside it the keys and the head file.
//!
//! ```text
//! <data>/ledger      ids of the ledger and of this instance     <state>/<instance id>/key        Ed25519 seed, 0600
//! <data>/lock        who is at work (LEDGER J6)                 <state>/<instance id>/actor.key  key of E10, 0600
//! <data>/journal/    the truth                                  <state>/<instance id>/head       how far it got (J4)
//! <data>/sled/       the database                               <state>/<instance id>/lock       against copies at work
//! <data>/refusals/   the side log
//! <data>/ballast     room to breathe when the disk is full (J5)
//! ```
//!
//! Reading order: `directory` (opening), `lock`, `secret`, `head`, `space`, `sealed` (small files that are
//! whole or not there).

mod directory;
mod head;
mod lock;
mod sealed;
mod secret;
mod space;

#[cfg(test)]
mod tests;

pub use directory::{
    Identity, Place, database_dir, identity, is_ledger, journal_dir, refusals_dir,
};
pub use head::Head;
pub(crate) use head::{hex, unhex};
pub use lock::holder;
pub use space::{BALLAST_BYTES, Space};

/// Names this boot of the machine; `None` where the system does not say.
#[must_use]
pub fn boot_id() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let id = text.trim();
    (!id.is_empty()).then(|| id.to_owned())
}
