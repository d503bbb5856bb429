//! Pages without a header: tiles of the tree, and numbers: fingerprints by position, ends of blocks.
//!
//! A full tile is 128 hashes, one behind the other, and nothing else. Level 0 has the leaves; level n has the roots of
//! the full tiles of level n - 1, so node (7n, i) of the tree is hash i of level n, and the six levels between are worked
//! out when they are asked for. A full page of numbers is 512 of them as u64, big-endian. What is not full yet is kept
//! apart, behind the number of the page it will be, as u64, little-endian.
use super::keys::{self, Full, Key, Writes};
use crate::record::Hash;

/// Hashes in a tile.
pub(crate) const TILE_HASHES: u64 = 128;
/// Levels of the tree that one level of tiles spans.
pub(crate) const TILE_LEVELS: u8 = 7;
/// Positions in a page of the index; numbers in a page of them.
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

/// A page of numbers that is not full yet: fingerprints by position, or the last positions of blocks.
#[derive(Clone, Default)]
pub(crate) struct OpenNumbers {
    pub(crate) page: u64,
    pub(crate) list: Vec<u64>,
}

impl OpenNumbers {
    /// How many numbers there are, over all pages.
    pub(crate) fn count(&self) -> u64 {
        self.page * PAGE_EVENTS + self.list.len() as u64
    }

    /// Adds a number and puts the page when it is full. Says whether it was.
    pub(crate) fn push(&mut self, full: Full, number: u64, writes: &mut Writes) -> bool {
        self.list.push(number);
        let is_full = self.list.len() as u64 == PAGE_EVENTS;
        if is_full {
            writes.put(full.key(self.page), self.bytes());
            *self = Self {
                page: self.page + 1,
                list: Vec::new(),
            };
        }
        is_full
    }

    pub(crate) fn put_open(&self, key: Key, writes: &mut Writes) {
        put_numbered(key, self.page, &self.bytes(), writes);
    }

    pub(crate) fn read(value: &[u8]) -> Result<Self, String> {
        let (page, list) = numbered(value)?;
        Ok(Self {
            page,
            list: numbers(list)?,
        })
    }

    fn bytes(&self) -> Vec<u8> {
        self.list
            .iter()
            .flat_map(|number| number.to_be_bytes())
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

/// The numbers of a page.
pub(crate) fn numbers(bytes: &[u8]) -> Result<Vec<u64>, String> {
    match bytes.as_chunks() {
        (list, []) if list.len() as u64 <= PAGE_EVENTS => {
            Ok(list.iter().copied().map(u64::from_be_bytes).collect())
        }
        _ => Err(format!(
            "a page of numbers of {} bytes is not possible",
            bytes.len()
        )),
    }
}

/// The numbers of a page that is full.
pub(crate) fn full_numbers(bytes: Option<Vec<u8>>) -> Result<Vec<u64>, String> {
    let list = numbers(&bytes.ok_or("it is missing")?)?;
    if list.len() as u64 == PAGE_EVENTS {
        Ok(list)
    } else {
        Err(format!("it has {} numbers", list.len()))
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
