//! The ledger's proof: an RFC 6962 tree over leaves that need no decoding, signed checkpoints, and proofs that anyone
//! can check without the ledger (LEDGER P1 to P3).
//!
//! Refuses to know: events, disks, clocks, protobuf. Bytes and hashes in, bytes and hashes out; nothing here panics on
//! input. The formats are written down in this crate's README, byte by byte, for readers in other languages.
//!
//! Reading order: [`leaf`] (what is hashed), [`hash`] (how), [`frontier`] (appending), [`proof`] (paths, and checking
//! them), [`note`] and [`checkpoint`] (what is signed), [`receipt`] (all of it together, offline).
//!
//! ```
//! use waybill_tlog::{Frontier, Hash, inclusion_path, leaf_hash, verify_inclusion};
//!
//! let leaves: Vec<Hash> = [b"a", b"b", b"c"].iter().map(|bytes| leaf_hash(*bytes)).collect();
//! let (mut tree, mut nodes) = (Frontier::new(), std::collections::BTreeMap::new());
//! for leaf in &leaves {
//!     tree.push(*leaf, &mut |level, index, hash| {
//!         nodes.insert((level, index), hash);
//!     });
//! }
//! let path = inclusion_path(1, 3, |level, index| nodes.get(&(level, index)).copied().ok_or("absent"))?;
//! assert_eq!(verify_inclusion(1, 3, &leaves[1], &path, &tree.root()), Ok(()));
//! # Ok::<(), &str>(())
//! ```

pub mod checkpoint;
pub mod frontier;
pub mod hash;
pub mod leaf;
pub mod note;
pub mod proof;
pub mod receipt;

pub use frontier::Frontier;
pub use hash::{EMPTY_ROOT, Hash, leaf_hash, node_hash};
pub use proof::{
    ProofError, consistency_path, inclusion_path, root_at, verify_consistency, verify_inclusion,
};
