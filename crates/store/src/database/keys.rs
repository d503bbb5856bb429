//! The keys of the tree: a byte for the keyspace, then numbers, big-endian, so that order in sled is order in the ledger.
use super::pages::{PAGE_EVENTS, TILE_HASHES};

/// No value is larger, so that sled never makes a file of its own for a leaf (`README.md`), in bytes.
pub(crate) const VALUE_BYTES_MAX: usize = 4096;

/// A key of the tree.
pub(crate) type Key = Vec<u8>;

/// A kind of page that is written once, when it is full, under its number from 0.
///
/// sled keeps up to 16 neighbouring values in one leaf, and writes the whole leaf again when it splits: three times, in
/// the end, for keys that only grow, which is most of what it writes and a third of the disk. So the numbers that come
/// next are put ahead of time, with empty values, and the leaves split while they weigh nothing. For the same reason
/// [`fences`] stand between the kinds: a leaf that grows and splits holds no full page of its neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// Blocks of records.
    Block,
    /// Where the blocks end.
    Ends,
    /// Fingerprints.
    Fingerprints,
    /// Tiles of leaf hashes.
    Leaves,
    /// The index.
    Index,
}

impl Full {
    /// All of them.
    pub(crate) const ALL: [Self; 5] = [
        Self::Block,
        Self::Ends,
        Self::Fingerprints,
        Self::Leaves,
        Self::Index,
    ];

    /// Key of the page of a number.
    pub(crate) fn key(self, number: u64) -> Key {
        [self.keyspace(), &number.to_be_bytes()].concat()
    }

    /// Where its keys lie, those put ahead included; the fences come after.
    pub(crate) fn keys(self) -> std::ops::Range<Key> {
        self.key(0)..self.key(FENCE)
    }

    /// The number in a key of its own.
    pub(crate) fn number(self, key: &[u8]) -> Option<u64> {
        let number = key.strip_prefix(self.keyspace())?.first_chunk()?;
        Some(u64::from_be_bytes(*number))
    }

    fn keyspace(self) -> &'static [u8] {
        match self {
            Self::Block => b"e",
            Self::Ends => b"b",
            Self::Fingerprints => b"f",
            Self::Leaves => b"h\0",
            Self::Index => b"x",
        }
    }
}

/// No page has this number or a higher one.
const FENCE: u64 = u64::MAX << 32;
/// More than a leaf holds.
const FENCE_KEYS: u64 = 20;

/// Keys, in order, that stand with empty values behind each kind of page.
pub(crate) fn fences() -> impl Iterator<Item = Key> {
    Full::ALL
        .into_iter()
        .flat_map(|full| (FENCE..FENCE + FENCE_KEYS).map(move |number| full.key(number)))
}

/// Changes to the tree that belong together.
#[derive(Default)]
pub(crate) struct Writes {
    pub(crate) put: Vec<(Key, Vec<u8>)>,
    pub(crate) remove: Vec<Key>,
    /// Last position of each block among them.
    pub(crate) block_ends: Vec<u64>,
    /// Where blocks are compressed.
    pub(crate) scratch: Vec<u8>,
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

/// A later piece of what is kept under `key`.
pub(crate) fn chunk(mut key: Key, number: u16) -> Key {
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// A full tile of the tree.
pub(crate) fn tile(level: u8, index: u64) -> Key {
    [&[b'h', level][..], &index.to_be_bytes()].concat()
}

/// What describes the whole.
pub(crate) fn meta() -> Key {
    vec![b'm']
}

/// The block that is not full yet.
pub(crate) fn open_block() -> Key {
    b"ob".to_vec()
}

/// A tile that is not full yet.
pub(crate) fn open_tile(level: u8) -> Key {
    vec![b'o', b't', level]
}

/// The page of block ends that is not full yet.
pub(crate) fn open_ends() -> Key {
    b"oe".to_vec()
}

/// The page of fingerprints that is not full yet.
pub(crate) fn open_fingerprints() -> Key {
    b"of".to_vec()
}

/// The page of the index that is not full yet.
pub(crate) fn open_index() -> Key {
    b"ox".to_vec()
}

/// A small step, kept as it came until the next page is full.
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
