//! The keys of the tree: a byte for the keyspace, then numbers, big-endian, so that order in sled is order in the ledger.
use super::pages::{PAGE_EVENTS, TILE_HASHES};

/// No value is larger, so that sled never makes a file of its own for a leaf (`README.md`), in bytes.
pub(crate) const VALUE_BYTES_MAX: usize = 4096;

/// A key of the tree.
pub(crate) type Key = Vec<u8>;

/// Changes to the tree that belong together.
#[derive(Default)]
pub(crate) struct Writes {
    pub(crate) put: Vec<(Key, Vec<u8>)>,
    pub(crate) remove: Vec<Key>,
}

impl Writes {
    /// Adds a value.
    ///
    /// # Panics
    /// When it is larger than [`VALUE_BYTES_MAX`]: then a layout is wrong.
    pub(crate) fn put(&mut self, key: Key, value: Vec<u8>) {
        assert!(
            value.len() <= VALUE_BYTES_MAX,
            "a value of {} bytes under {key:?}",
            value.len()
        );
        self.put.push((key, value));
    }
}

/// The block that ends with `last`; its further chunks follow it.
pub(crate) fn block(last: u64) -> Key {
    numbered(b'e', last)
}

/// After the last block.
pub(crate) fn blocks_end() -> Key {
    vec![b'e' + 1]
}

/// A later piece of what is kept under `key`.
pub(crate) fn chunk(mut key: Key, number: u16) -> Key {
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// A full tile of the tree.
pub(crate) fn tile(level: u8, index: u64) -> Key {
    [&[b'h', level][..], &index.to_be_bytes()].concat()
}

/// A full page of fingerprints.
pub(crate) fn fingerprints(page: u64) -> Key {
    numbered(b'f', page)
}

/// A full page of the index.
pub(crate) fn index(page: u64) -> Key {
    numbered(b'x', page)
}

/// What describes the whole.
pub(crate) fn meta() -> Key {
    vec![b'm']
}

/// The block that is not full yet.
pub(crate) fn open_block() -> Key {
    vec![b'o', b'b']
}

/// A tile that is not full yet.
pub(crate) fn open_tile(level: u8) -> Key {
    vec![b'o', b't', level]
}

/// The page of fingerprints that is not full yet.
pub(crate) fn open_fingerprints() -> Key {
    vec![b'o', b'f']
}

/// The page of the index that is not full yet.
pub(crate) fn open_index() -> Key {
    vec![b'o', b'x']
}

/// A small step, kept as it came until the next block is full.
pub(crate) fn delta(first: u64) -> Key {
    [&b"od"[..], &first.to_be_bytes()].concat()
}

/// Where all small steps lie.
pub(crate) fn deltas() -> std::ops::Range<Key> {
    b"od".to_vec()..b"oe".to_vec()
}

/// First position of the small step under a key.
pub(crate) fn delta_first(key: &[u8]) -> Result<u64, String> {
    let number = key.get(2..).and_then(|number| number.try_into().ok());
    number
        .map(u64::from_be_bytes)
        .ok_or_else(|| format!("{key:?} is no key of a small step"))
}

/// Page of fingerprints and of the index that a position is in, from 0.
pub(crate) fn page_of(position: u64) -> u64 {
    (position - 1) / PAGE_EVENTS
}

/// Positions of a page.
pub(crate) fn page_span(page: u64) -> std::ops::Range<u64> {
    let start = page * PAGE_EVENTS + 1;
    start..start + PAGE_EVENTS
}

/// Tile of leaves that a position is in, from 0.
pub(crate) fn tile_of(position: u64) -> u64 {
    (position - 1) / TILE_HASHES
}

/// A number that is known to be small, as an index.
///
/// # Panics
/// When it does not fit, which no page or tile reaches.
pub(crate) fn small(number: u64) -> usize {
    usize::try_from(number).expect("a number within a page fits an index")
}

fn numbered(keyspace: u8, number: u64) -> Key {
    let mut key = Vec::with_capacity(11);
    key.push(keyspace);
    key.extend_from_slice(&number.to_be_bytes());
    key
}
