//! Header and footer of an export.
use std::hash::{BuildHasher, RandomState};

use super::Contents;
use crate::record::{Hash, Tip};

/// Bytes before the first frame.
pub(super) const HEADER_BYTES: usize = 1280;
/// Bytes after the last frame.
pub(super) const FOOTER_BYTES: usize = 76;
/// How a footer begins; no frame does.
pub(super) const FOOTER_MAGIC: [u8; 8] = *b"WAYBILLE";
const MAGIC: [u8; 8] = *b"WAYBILLX";
/// 1: the header, frames and footer of `README.md`.
const VERSION: u16 = 1;
const LEDGER_ID_AT: usize = 96;
const HEADER_CRC_AT: usize = HEADER_BYTES - 4;
const FOOTER_CRC_AT: usize = FOOTER_BYTES - 4;

/// Whether a file that begins so is an export, or was one: up to two of its first eight bytes may have been damaged.
#[must_use]
pub fn begins(start: &[u8]) -> bool {
    let whole = MAGIC.iter().zip(start).filter(|(a, b)| a == b).count();
    whole + 2 >= MAGIC.len()
}

/// What an export says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// What its frames begin with.
    pub(super) mark: [u8; 8],
    pub(super) position: u64,
    pub(super) root: Hash,
    pub(super) chain: Hash,
    pub(super) ledger_id: String,
}

impl Header {
    pub(super) fn new(ledger_id: String, end: &Tip, root: &Hash) -> Self {
        let mark = RandomState::new().hash_one(end.position).to_le_bytes();
        Self {
            mark,
            position: end.position,
            root: *root,
            chain: end.chain,
            ledger_id,
        }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let id_bytes =
            u32::try_from(self.ledger_id.len()).expect("a ledger id fits a segment's header");
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&id_bytes.to_le_bytes());
        bytes.extend_from_slice(&self.mark);
        bytes.extend_from_slice(&self.position.to_le_bytes());
        bytes.extend_from_slice(&self.root);
        bytes.extend_from_slice(&self.chain);
        bytes.extend_from_slice(self.ledger_id.as_bytes());
        bytes.resize(HEADER_CRC_AT, 0);
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    /// # Errors
    /// `Err(Some(version))` for a whole header of another version, `Err(None)` for anything else that is not a header.
    pub(super) fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Self, Option<u16>> {
        let crc = u32::from_le_bytes(array(bytes, HEADER_CRC_AT));
        if bytes[..8] != MAGIC || crc32c::crc32c(&bytes[..HEADER_CRC_AT]) != crc {
            return Err(None);
        }
        let version = u16::from_le_bytes(array(bytes, 8));
        if version != VERSION {
            return Err(Some(version));
        }
        let id_bytes = usize::try_from(u32::from_le_bytes(array(bytes, 12))).unwrap_or(usize::MAX);
        let id = bytes[LEDGER_ID_AT..HEADER_CRC_AT]
            .get(..id_bytes)
            .ok_or(None)?;
        Ok(Self {
            mark: array(bytes, 16),
            position: u64::from_le_bytes(array(bytes, 24)),
            root: array(bytes, 32),
            chain: array(bytes, 64),
            ledger_id: std::str::from_utf8(id).map_err(|_| None)?.to_owned(),
        })
    }

    pub(super) fn contents(&self, footer: &Footer) -> Contents {
        Contents {
            ledger_id: self.ledger_id.clone(),
            position: self.position,
            root: self.root,
            chain: self.chain,
            frames: footer.frames,
            records: footer.records,
            bytes: footer.bytes + FOOTER_BYTES as u64,
        }
    }
}

/// What seals an export.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) frames: u64,
    pub(super) records: u64,
    pub(super) position: u64,
    /// Bytes before the footer.
    pub(super) bytes: u64,
    /// SHA-256 of them.
    pub(super) hash: Hash,
}

impl Footer {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FOOTER_BYTES);
        bytes.extend_from_slice(&FOOTER_MAGIC);
        for number in [self.frames, self.records, self.position, self.bytes] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&self.hash);
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    pub(super) fn parse(bytes: &[u8; FOOTER_BYTES]) -> Option<Self> {
        let crc = u32::from_le_bytes(array(bytes, FOOTER_CRC_AT));
        let sound = bytes[..8] == FOOTER_MAGIC && crc32c::crc32c(&bytes[..FOOTER_CRC_AT]) == crc;
        sound.then(|| Self {
            frames: u64::from_le_bytes(array(bytes, 8)),
            records: u64::from_le_bytes(array(bytes, 16)),
            position: u64::from_le_bytes(array(bytes, 24)),
            bytes: u64::from_le_bytes(array(bytes, 32)),
            hash: array(bytes, 40),
        })
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    std::array::from_fn(|i| bytes[at + i])
}
