//! Pages without a header: tiles of the tree, and fingerprints by position.
//!
//! A full tile is 128 hashes, one behind the other, and nothing else. Level 0 has the leaves; level n has the roots of
//! the full tiles of level n - 1, so node (7n, i) of the tree is hash i of level n, and the six levels between are worked
//! out when they are asked for. A full page of fingerprints is 512 of them, big-endian, by position. What is not full yet
//! is kept apart, behind the number of the page it will be, as u64.
use super::keys::{self, Key, Writes};
use crate::record::Hash;

/// Hashes in a tile.
pub(crate) const TILE_HASHES: u64 = 128;
/// Levels of the tree that one level of tiles spans.
pub(crate) const TILE_LEVELS: u8 = 7;
/// Positions in a page of fingerprints, and of the index.
pub(crate) const PAGE_EVENTS: u64 = 512;

/// A tile that is not full yet.
#[derive(Clone, Default)]
pub(crate) struct OpenTile {
    pub(crate) index: u64,
    pub(crate) hashes: Vec<Hash>,
}

impl OpenTile {
    /// Number of the hash that comes next, over the whole level.
    pub(crate) fn end(&self) -> u64 {
        self.index * TILE_HASHES + self.hashes.len() as u64
    }

    /// Adds a hash and puts the tile when it is full. Says whether it was.
    pub(crate) fn push(&mut self, level: u8, hash: Hash, writes: &mut Writes) -> bool {
        self.hashes.push(hash);
        let full = self.hashes.len() as u64 == TILE_HASHES;
        if full {
            writes.put(keys::tile(level, self.index), self.hashes.concat());
            *self = Self {
                index: self.index + 1,
                hashes: Vec::new(),
            };
        }
        full
    }

    pub(crate) fn put_open(&self, level: u8, writes: &mut Writes) {
        put_numbered(
            keys::open_tile(level),
            self.index,
            self.hashes.as_flattened(),
            writes,
        );
    }

    pub(crate) fn read(value: &[u8]) -> Result<Self, String> {
        let (index, hashes) = numbered(value)?;
        Ok(Self {
            index,
            hashes: self::hashes(hashes)?,
        })
    }
}

/// The page of fingerprints that is not full yet.
#[derive(Clone, Default)]
pub(crate) struct OpenFingerprints {
    pub(crate) page: u64,
    pub(crate) list: Vec<u64>,
}

impl OpenFingerprints {
    /// Position that the next fingerprint belongs to.
    pub(crate) fn next_position(&self) -> u64 {
        self.page * PAGE_EVENTS + self.list.len() as u64 + 1
    }

    /// Adds a fingerprint and puts the page when it is full. Says whether it was.
    pub(crate) fn push(&mut self, fingerprint: u64, writes: &mut Writes) -> bool {
        self.list.push(fingerprint);
        let full = self.list.len() as u64 == PAGE_EVENTS;
        if full {
            writes.put(keys::fingerprints(self.page), self.bytes());
            *self = Self {
                page: self.page + 1,
                list: Vec::new(),
            };
        }
        full
    }

    pub(crate) fn put_open(&self, writes: &mut Writes) {
        put_numbered(keys::open_fingerprints(), self.page, &self.bytes(), writes);
    }

    pub(crate) fn read(value: &[u8]) -> Result<Self, String> {
        let (page, list) = numbered(value)?;
        Ok(Self {
            page,
            list: fingerprints(list)?,
        })
    }

    fn bytes(&self) -> Vec<u8> {
        self.list
            .iter()
            .flat_map(|fingerprint| fingerprint.to_be_bytes())
            .collect()
    }
}

/// The hashes of a tile.
pub(crate) fn hashes(bytes: &[u8]) -> Result<Vec<Hash>, String> {
    match bytes.as_chunks() {
        (hashes, []) if hashes.len() as u64 <= TILE_HASHES => Ok(hashes.to_vec()),
        _ => Err(format!("a tile of {} bytes is not possible", bytes.len())),
    }
}

/// The fingerprints of a page.
pub(crate) fn fingerprints(bytes: &[u8]) -> Result<Vec<u64>, String> {
    match bytes.as_chunks() {
        (list, []) if list.len() as u64 <= PAGE_EVENTS => {
            Ok(list.iter().copied().map(u64::from_be_bytes).collect())
        }
        _ => Err(format!(
            "a page of fingerprints of {} bytes is not possible",
            bytes.len()
        )),
    }
}

/// Root of a complete subtree over 2^n hashes.
pub(crate) fn fold(mut hashes: Vec<Hash>, node_hash: fn(&Hash, &Hash) -> Hash) -> Option<Hash> {
    while hashes.len() > 1 {
        let (pairs, []) = hashes.as_chunks::<2>() else {
            return None;
        };
        hashes = pairs
            .iter()
            .map(|[left, right]| node_hash(left, right))
            .collect();
    }
    hashes.pop()
}

fn put_numbered(key: Key, number: u64, bytes: &[u8], writes: &mut Writes) {
    writes.put(key, [&number.to_le_bytes(), bytes].concat());
}

fn numbered(value: &[u8]) -> Result<(u64, &[u8]), String> {
    let (number, rest) = value
        .split_first_chunk()
        .ok_or_else(|| "an open page is too short".to_owned())?;
    Ok((u64::from_le_bytes(*number), rest))
}
