//! What the tree is made of: a fixed layout that needs no decoding to be hashed (LEDGER P1).
use sha2::{Digest, Sha256};

use crate::hash::{Hash, leaf_hash};

/// The layout that is written.
///
/// 1: `version, epoch, stream_sequence, record_time_nanos, headers_digest, salted, commitment`.
pub const LAYOUT_VERSION: u8 = 1;

/// Length of a leaf in layout 1, in bytes.
pub const LEAF_BYTES: usize = 86;

/// Length of a salt, in bytes.
pub const SALT_BYTES: usize = 16;

/// One leaf: where an event came in the order, when, and a commitment to its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The stretch of history that it belongs to; 0 for a ledger that orders by itself.
    pub epoch: u32,
    /// Its number in the stream that ordered it; 0 for a ledger that orders by itself.
    pub stream_sequence: u64,
    /// When it was recorded: nanoseconds since 1970, UTC.
    pub record_time_nanos: u64,
    /// Subject and kept headers, see [`headers_digest`].
    pub headers_digest: Hash,
    /// Whether a salt is part of the commitment.
    pub salted: bool,
    /// See [`commitment`].
    pub commitment: Hash,
}

/// Why bytes are not a leaf.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// Too long or too short.
    #[error("a leaf is {LEAF_BYTES} bytes long, not {bytes}")]
    Length {
        /// Bytes given.
        bytes: usize,
    },
    /// Written by a later version.
    #[error("the leaf has layout {version}, this program knows layout {LAYOUT_VERSION}")]
    Layout {
        /// The version read.
        version: u8,
    },
    /// Neither 0 nor 1.
    #[error("the salt flag is {flag}, it must be 0 or 1")]
    SaltFlag {
        /// The byte read.
        flag: u8,
    },
}

impl Leaf {
    /// Writes the leaf, big-endian, in the order of [`LAYOUT_VERSION`].
    #[must_use]
    pub fn encode(&self) -> [u8; LEAF_BYTES] {
        let mut bytes = [0; LEAF_BYTES];
        bytes[0] = LAYOUT_VERSION;
        bytes[1..5].copy_from_slice(&self.epoch.to_be_bytes());
        bytes[5..13].copy_from_slice(&self.stream_sequence.to_be_bytes());
        bytes[13..21].copy_from_slice(&self.record_time_nanos.to_be_bytes());
        bytes[21..53].copy_from_slice(&self.headers_digest);
        bytes[53] = u8::from(self.salted);
        bytes[54..].copy_from_slice(&self.commitment);
        bytes
    }

    /// Reads what [`Leaf::encode`] wrote. No two byte strings give the same leaf.
    ///
    /// # Errors
    /// Another length, another layout, or a salt flag that is neither 0 nor 1.
    pub fn decode(bytes: &[u8]) -> Result<Self, LeafError> {
        let length = LeafError::Length { bytes: bytes.len() };
        let bytes: &[u8; LEAF_BYTES] = bytes.try_into().map_err(|_| length)?;
        if bytes[0] != LAYOUT_VERSION {
            return Err(LeafError::Layout { version: bytes[0] });
        }
        let salted = match bytes[53] {
            0 => false,
            1 => true,
            flag => return Err(LeafError::SaltFlag { flag }),
        };
        Ok(Self {
            epoch: u32::from_be_bytes(array(bytes, 1)),
            stream_sequence: u64::from_be_bytes(array(bytes, 5)),
            record_time_nanos: u64::from_be_bytes(array(bytes, 13)),
            headers_digest: array(bytes, 21),
            salted,
            commitment: array(bytes, 54),
        })
    }

    /// Hash of the leaf in the tree.
    #[must_use]
    pub fn hash(&self) -> Hash {
        leaf_hash(&self.encode())
    }
}

fn array<const N: usize>(bytes: &[u8; LEAF_BYTES], at: usize) -> [u8; N] {
    std::array::from_fn(|offset| bytes[at + offset])
}

/// Commits to an event's bytes: SHA-256(salt ‖ bytes), or SHA-256(bytes) without a salt.
///
/// With the salt kept beside the record, forgetting both leaves nothing that could be guessed and compared.
#[must_use]
pub fn commitment(salt: Option<&[u8; SALT_BYTES]>, bytes: &[u8]) -> Hash {
    let mut hasher = Sha256::new();
    if let Some(salt) = salt {
        hasher.update(salt);
    }
    hasher.update(bytes);
    hasher.finalize().into()
}

/// Digest of the subject that a message came under and of those of its headers that are kept.
///
/// SHA-256 over length ‖ subject ‖ count ‖ (length ‖ name ‖ length ‖ value)…, lengths in bytes and count as `u32`,
/// big-endian, headers sorted bytewise by name, then value, in whichever order they are given.
#[must_use]
pub fn headers_digest(subject: &str, headers: &[(String, String)]) -> Hash {
    let mut sorted: Vec<_> = headers.iter().collect();
    sorted.sort_unstable();
    let mut hasher = Sha256::new();
    add_text(&mut hasher, subject);
    hasher.update(as_u32(sorted.len()));
    for (name, value) in sorted {
        add_text(&mut hasher, name);
        add_text(&mut hasher, value);
    }
    hasher.finalize().into()
}

fn add_text(hasher: &mut Sha256, text: &str) {
    hasher.update(as_u32(text.len()));
    hasher.update(text);
}

/// Messages are limited to far less than 4 GiB long before they come here.
fn as_u32(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn example() -> Leaf {
        Leaf {
            epoch: 1,
            stream_sequence: 42,
            record_time_nanos: 1_700_000_000_123_456_789,
            headers_digest: headers_digest("", &[]),
            salted: true,
            commitment: commitment(Some(&[7; SALT_BYTES]), b"event"),
        }
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn golden_bytes_of_layout_1() {
        let leaf = example();
        let expected = "01 00000001 000000000000002a 17979cfe3d85cd15 \
            af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc 01 \
            4d284c3eb4b7c1a3e904135fc2e9b176c255b835f1c61c350dc7fe4ebdc83291";
        assert_eq!(hex::encode(leaf.encode()), expected.replace(' ', ""));
        let hash = "8b51c0fa0e70cdd244227ffc91faa5c9d96b59855f0258936d2e083b787caf57";
        assert_eq!(hex::encode(leaf.hash()), hash);
    }

    #[test]
    fn golden_digests_of_headers() {
        let none = "af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc";
        assert_eq!(hex::encode(headers_digest("", &[])), none);
        let headers = [
            pair("Content-Type", "application/protobuf"),
            pair("Waybill-Sender", "ci"),
        ];
        let digest = headers_digest("waybill.events.v1.acme", &headers);
        let two = "0c46e37a4df98b1a7023f9430d8d7e22d36da35f529649b3da2108d0c07169b8";
        assert_eq!(hex::encode(digest), two);
    }

    #[test]
    fn headers_count_in_any_order_and_never_run_together() {
        let (a, b) = (pair("a", "1"), pair("b", "2"));
        assert_eq!(
            headers_digest("s", &[a.clone(), b.clone()]),
            headers_digest("s", &[b, a])
        );
        assert_ne!(
            headers_digest("s", &[pair("ab", "c")]),
            headers_digest("s", &[pair("a", "bc")])
        );
        assert_ne!(
            headers_digest("sa", &[]),
            headers_digest("s", &[pair("a", "")])
        );
    }

    #[test]
    fn refuses_what_is_no_leaf() {
        let good = example().encode();
        assert_eq!(
            Leaf::decode(&good[1..]),
            Err(LeafError::Length { bytes: 85 })
        );
        let with = |at: usize, byte| {
            let mut bytes = good;
            bytes[at] = byte;
            Leaf::decode(&bytes)
        };
        assert_eq!(with(0, 2), Err(LeafError::Layout { version: 2 }));
        assert_eq!(with(53, 2), Err(LeafError::SaltFlag { flag: 2 }));
    }

    proptest! {
        #[test]
        fn what_decodes_encodes_to_the_same_bytes(mut bytes in proptest::collection::vec(any::<u8>(), LEAF_BYTES), aligned: bool) {
            if aligned {
                bytes[0] = LAYOUT_VERSION;
                bytes[53] &= 1;
            }
            if let Ok(leaf) = Leaf::decode(&bytes) {
                prop_assert_eq!(leaf.encode().to_vec(), bytes);
            }
        }
    }
}
