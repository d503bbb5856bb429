//! A proven receipt, checked by someone who has only a public key, and perhaps a checkpoint kept from earlier.
use crate::{
    checkpoint::{self, Checkpoint, CheckpointError, VerifierKey},
    hash::Hash,
    leaf::{self, Leaf, LeafError, SALT_BYTES},
    proof::{ProofError, verify_consistency, verify_inclusion},
};

/// What a ledger says of one event, with its proof. Nothing in it is trusted.
#[derive(Clone, Copy, Debug)]
pub struct Proven<'a> {
    /// The ledger that the receipt names.
    pub ledger_id: &'a str,
    /// Position of the event, from 1.
    pub position: u64,
    /// When it was recorded: nanoseconds since 1970, UTC.
    pub record_time_nanos: u64,
    /// Hash of the leaf, as the receipt has it.
    pub leaf_hash: Hash,
    /// The leaf's own bytes.
    pub leaf: &'a [u8],
    /// The event's own bytes.
    pub event: &'a [u8],
    /// Salt of the commitment; empty where the leaf is not salted.
    pub salt: &'a [u8],
    /// From the leaf to the checkpoint's root.
    pub inclusion_path: &'a [Hash],
    /// The signed note.
    pub checkpoint: &'a str,
}

/// A checkpoint that was kept from earlier, and the way from it to the receipt's.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    /// The signed note, signed by one of the trusted keys too.
    pub checkpoint: &'a str,
    /// From the kept tree to the receipt's.
    pub consistency_path: &'a [Hash],
}

/// What has been shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// What was signed.
    pub checkpoint: Checkpoint,
    /// What was kept, where something was.
    pub kept: Option<Checkpoint>,
    /// The leaf that is in the tree.
    pub leaf: Leaf,
}

/// Why a receipt proves nothing. One variant for each thing that can be wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The receipt's checkpoint.
    #[error("the receipt's checkpoint cannot be used")]
    Checkpoint(#[source] CheckpointError),
    /// Signed for another tree.
    #[error("the checkpoint is of ledger `{found}`, the receipt of `{claimed}`")]
    OtherLedger {
        /// Origin of the checkpoint.
        found: String,
        /// Ledger id of the receipt.
        claimed: String,
    },
    /// The leaf's bytes.
    #[error("the leaf cannot be read")]
    Leaf(#[source] LeafError),
    /// The receipt has another hash than its leaf.
    #[error("the receipt's leaf hash is not the hash of its leaf")]
    LeafHash,
    /// The receipt has another record time than its leaf.
    #[error("the receipt says it was recorded at {claimed} ns, the leaf says {found} ns")]
    RecordTime {
        /// Time of the leaf.
        found: u64,
        /// Time of the receipt.
        claimed: u64,
    },
    /// Missing, superfluous, or of another length.
    #[error("the salt has {bytes} bytes where the leaf needs {needed}")]
    Salt {
        /// Bytes given.
        bytes: usize,
        /// Bytes needed: 0 or 16.
        needed: usize,
    },
    /// Other bytes than those recorded, or another salt.
    #[error("event bytes and salt do not give the leaf's commitment: the event was altered")]
    Event,
    /// Positions count from 1.
    #[error("the receipt has no position")]
    Position,
    /// The leaf is not where the receipt says it is.
    #[error("the leaf is not at position {position} of the signed tree")]
    Inclusion {
        /// The position claimed.
        position: u64,
        /// What is wrong with the path.
        source: ProofError,
    },
    /// The kept checkpoint.
    #[error("the kept checkpoint cannot be used")]
    Kept(#[source] CheckpointError),
    /// Kept from another tree.
    #[error("the kept checkpoint is of ledger `{found}`, the newer one of `{claimed}`")]
    KeptOtherLedger {
        /// Origin of the kept checkpoint.
        found: String,
        /// Origin of the newer one.
        claimed: String,
    },
    /// The signed tree is not a continuation of the kept one: history was rewritten, or the path is a wrong one.
    #[error("the signed tree of {new} leaves is not shown to continue the kept tree of {old}")]
    Consistency {
        /// Size of the kept tree.
        old: u64,
        /// Size of the newer tree.
        new: u64,
        /// What is wrong with the path.
        source: ProofError,
    },
}

/// Checks a proven receipt against trusted keys, and against a kept checkpoint where there is one.
///
/// Without a kept checkpoint this shows that the signer vouches for a tree with the event in it. With one, that this
/// tree also continues the kept one, so that what was seen then has not been rewritten since.
///
/// # Errors
/// [`Invalid`] names the first thing that does not hold.
pub fn verify(
    receipt: &Proven<'_>,
    keys: &[VerifierKey],
    kept: Option<&Kept<'_>>,
) -> Result<Verified, Invalid> {
    let checkpoint = checkpoint::open(receipt.checkpoint, keys).map_err(Invalid::Checkpoint)?;
    if checkpoint.origin != receipt.ledger_id {
        let (found, claimed) = (checkpoint.origin, receipt.ledger_id.to_owned());
        return Err(Invalid::OtherLedger { found, claimed });
    }
    let leaf = check_leaf(receipt)?;
    check_event(receipt, &leaf)?;
    let position = receipt.position;
    let index = position.checked_sub(1).ok_or(Invalid::Position)?;
    let Checkpoint { size, root, .. } = &checkpoint;
    verify_inclusion(
        index,
        *size,
        &receipt.leaf_hash,
        receipt.inclusion_path,
        root,
    )
    .map_err(|source| Invalid::Inclusion { position, source })?;
    let kept = kept
        .map(|kept| check_kept(kept, keys, &checkpoint))
        .transpose()?;
    Ok(Verified {
        checkpoint,
        kept,
        leaf,
    })
}

/// Checks that a newer checkpoint's tree continues that of an older one of the same ledger.
///
/// # Errors
/// [`Invalid::KeptOtherLedger`] or [`Invalid::Consistency`].
pub fn verify_growth(older: &Checkpoint, newer: &Checkpoint, path: &[Hash]) -> Result<(), Invalid> {
    if older.origin != newer.origin {
        let (found, claimed) = (older.origin.clone(), newer.origin.clone());
        return Err(Invalid::KeptOtherLedger { found, claimed });
    }
    let (old, new) = (older.size, newer.size);
    verify_consistency(old, new, &older.root, &newer.root, path)
        .map_err(|source| Invalid::Consistency { old, new, source })
}

fn check_leaf(receipt: &Proven<'_>) -> Result<Leaf, Invalid> {
    let leaf = Leaf::decode(receipt.leaf).map_err(Invalid::Leaf)?;
    if leaf.hash() != receipt.leaf_hash {
        return Err(Invalid::LeafHash);
    }
    if leaf.record_time_nanos != receipt.record_time_nanos {
        let (found, claimed) = (leaf.record_time_nanos, receipt.record_time_nanos);
        return Err(Invalid::RecordTime { found, claimed });
    }
    Ok(leaf)
}

fn check_event(receipt: &Proven<'_>, leaf: &Leaf) -> Result<(), Invalid> {
    let needed = if leaf.salted { SALT_BYTES } else { 0 };
    let bytes = receipt.salt.len();
    if bytes != needed {
        return Err(Invalid::Salt { bytes, needed });
    }
    // An empty salt is no array of 16, so an unsalted leaf gives `None` here.
    let salt = receipt.salt.try_into().ok();
    if leaf::commitment(salt, receipt.event) != leaf.commitment {
        return Err(Invalid::Event);
    }
    Ok(())
}

fn check_kept(
    kept: &Kept<'_>,
    keys: &[VerifierKey],
    newer: &Checkpoint,
) -> Result<Checkpoint, Invalid> {
    let older = checkpoint::open(kept.checkpoint, keys).map_err(Invalid::Kept)?;
    verify_growth(&older, newer, kept.consistency_path)?;
    Ok(older)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        checkpoint::SigningKey,
        frontier::Frontier,
        leaf::{commitment, headers_digest},
        proof::{consistency_path, inclusion_path},
    };

    const EVENT: &[u8] = b"the event's own bytes";
    const SALT: [u8; SALT_BYTES] = [5; SALT_BYTES];
    const POSITION: u64 = 4;
    const OLD: u64 = 3;
    const NEW: u64 = 6;

    fn signer() -> SigningKey {
        SigningKey::from_seed("instance-1", [1; 32]).unwrap()
    }

    fn leaf() -> Leaf {
        Leaf {
            epoch: 0,
            stream_sequence: 0,
            record_time_nanos: 1_700_000_000_000_000_000,
            headers_digest: headers_digest("", &[]),
            salted: true,
            commitment: commitment(Some(&SALT), EVENT),
        }
    }

    /// A receipt that owns its parts, so that tests can alter them.
    #[derive(Clone)]
    struct Story {
        ledger_id: String,
        position: u64,
        record_time_nanos: u64,
        leaf_hash: Hash,
        leaf: Vec<u8>,
        event: Vec<u8>,
        salt: Vec<u8>,
        inclusion_path: Vec<Hash>,
        checkpoint: String,
        kept: String,
        consistency_path: Vec<Hash>,
    }

    impl Story {
        fn told() -> Self {
            let (mut tree, mut nodes, mut notes) = (Frontier::new(), BTreeMap::new(), Vec::new());
            for position in 1..=NEW {
                let hash = if position == POSITION {
                    leaf().hash()
                } else {
                    [9; 32]
                };
                tree.push(hash, &mut |level, index, hash| {
                    nodes.insert((level, index), hash);
                });
                notes.push(note("ledger-1", tree.size(), tree.root()));
            }
            let read = |level, index| nodes.get(&(level, index)).copied().ok_or("absent");
            Self {
                ledger_id: "ledger-1".into(),
                position: POSITION,
                record_time_nanos: leaf().record_time_nanos,
                leaf_hash: leaf().hash(),
                leaf: leaf().encode().to_vec(),
                event: EVENT.to_vec(),
                salt: SALT.to_vec(),
                inclusion_path: inclusion_path(POSITION - 1, NEW, read).unwrap(),
                checkpoint: notes.pop().unwrap(),
                kept: notes.remove(2),
                consistency_path: consistency_path(OLD, NEW, read).unwrap(),
            }
        }

        fn check(&self) -> Result<Verified, Invalid> {
            let proven = Proven {
                ledger_id: &self.ledger_id,
                position: self.position,
                record_time_nanos: self.record_time_nanos,
                leaf_hash: self.leaf_hash,
                leaf: &self.leaf,
                event: &self.event,
                salt: &self.salt,
                inclusion_path: &self.inclusion_path,
                checkpoint: &self.checkpoint,
            };
            let kept = Kept {
                checkpoint: &self.kept,
                consistency_path: &self.consistency_path,
            };
            verify(&proven, &[signer().verifier_key()], Some(&kept))
        }

        /// Alters the story and gives what is then found wrong.
        fn but(alter: impl FnOnce(&mut Self)) -> Invalid {
            let mut story = Self::told();
            alter(&mut story);
            story.check().unwrap_err()
        }

        /// Replaces the leaf by one that is consistent in itself.
        fn but_leaf(alter: impl FnOnce(&mut Leaf)) -> Invalid {
            let mut other = leaf();
            alter(&mut other);
            Self::but(|story| {
                story.leaf = other.encode().to_vec();
                story.leaf_hash = other.hash();
            })
        }
    }

    fn note(origin: &str, size: u64, root: Hash) -> String {
        signer().sign(&Checkpoint {
            origin: origin.into(),
            size,
            root,
        })
    }

    #[test]
    fn an_unaltered_receipt_holds() {
        let verified = Story::told().check().unwrap();
        assert_eq!(verified.leaf, leaf());
        assert_eq!(verified.checkpoint.size, NEW);
        assert_eq!(verified.kept.unwrap().size, OLD);
    }

    #[test]
    fn each_thing_that_can_be_wrong_has_its_name() {
        use Invalid as I;
        let other = "ledger-2";
        assert!(matches!(
            Story::but(|s| s.checkpoint.clear()),
            I::Checkpoint(_)
        ));
        assert!(matches!(
            Story::but(|s| s.ledger_id = other.into()),
            I::OtherLedger { .. }
        ));
        assert!(matches!(Story::but(|s| s.leaf.clear()), I::Leaf(_)));
        assert_eq!(Story::but(|s| s.leaf[1] ^= 1), I::LeafHash);
        assert!(matches!(
            Story::but(|s| s.record_time_nanos += 1),
            I::RecordTime { .. }
        ));
        assert_eq!(
            Story::but(|s| s.salt.clear()),
            I::Salt {
                bytes: 0,
                needed: 16
            }
        );
        assert_eq!(
            Story::but_leaf(|l| l.salted = false),
            I::Salt {
                bytes: 16,
                needed: 0
            }
        );
        assert_eq!(Story::but(|s| s.salt[0] ^= 1), I::Event);
        assert_eq!(Story::but(|s| s.event.push(0)), I::Event);
        assert_eq!(Story::but(|s| s.position = 0), I::Position);
        assert!(matches!(
            Story::but(|s| s.position = 5),
            I::Inclusion { position: 5, .. }
        ));
        assert!(matches!(
            Story::but(|s| s.inclusion_path[0][0] ^= 1),
            I::Inclusion { .. }
        ));
        assert!(matches!(
            Story::but_leaf(|l| l.epoch = 1),
            I::Inclusion { .. }
        ));
        assert!(matches!(Story::but(|s| s.kept.push('x')), I::Kept(_)));
        let foreign = note(other, OLD, [0; 32]);
        assert!(matches!(
            Story::but(|s| s.kept = foreign),
            I::KeptOtherLedger { .. }
        ));
        let forked = note("ledger-1", OLD, [0; 32]);
        let expected = I::Consistency {
            old: OLD,
            new: NEW,
            source: ProofError::OldRoot,
        };
        assert_eq!(Story::but(|s| s.kept = forked), expected);
        let younger = note("ledger-1", NEW + 1, [0; 32]);
        assert!(matches!(
            Story::but(|s| s.kept = younger),
            I::Consistency { old: 7, .. }
        ));
    }

    #[test]
    fn an_unsalted_leaf_needs_no_salt() {
        let plain = Leaf {
            salted: false,
            commitment: commitment(None, EVENT),
            ..leaf()
        };
        let mut tree = Frontier::new();
        tree.push(plain.hash(), &mut |_, _, _| {});
        let (leaf_bytes, checkpoint) = (plain.encode(), note("ledger-1", 1, tree.root()));
        let proven = Proven {
            ledger_id: "ledger-1",
            position: 1,
            record_time_nanos: plain.record_time_nanos,
            leaf_hash: plain.hash(),
            leaf: &leaf_bytes,
            event: EVENT,
            salt: &[],
            inclusion_path: &[],
            checkpoint: &checkpoint,
        };
        assert!(verify(&proven, &[signer().verifier_key()], None).is_ok());
        let nobody = verify(&proven, &[], None);
        assert!(matches!(nobody, Err(Invalid::Checkpoint(_))));
    }

    proptest! {
        #[test]
        fn any_altered_bit_fails(part in 0_usize..5, at: prop::sample::Index, bit in 0_u8..8) {
            let mut story = Story::told();
            let bytes: &mut [u8] = match part {
                0 => &mut story.leaf,
                1 => &mut story.event,
                2 => &mut story.salt,
                3 => story.inclusion_path.as_flattened_mut(),
                _ => story.consistency_path.as_flattened_mut(),
            };
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(story.check().is_err());
        }
    }
}
