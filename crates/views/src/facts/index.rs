//! Finds rows by what they hold, for the price of a row number.
use hashbrown::HashTable;

/// Parts that fill up one after another, so that a table of millions never doubles at once: neither its memory nor the
/// time to hash it again comes in one piece.
const PARTS: usize = 32;

/// A hash index whose entries are row numbers (or anything small); the caller hashes and compares rows.
#[derive(Debug)]
pub(crate) struct RowIndex<T = u32> {
    parts: Vec<HashTable<T>>,
}

impl<T> Default for RowIndex<T> {
    fn default() -> Self {
        Self { parts: Vec::new() }
    }
}

impl<T: Copy> RowIndex<T> {
    pub(crate) fn find(&self, hash: u64, same: impl FnMut(&T) -> bool) -> Option<T> {
        let part = self.parts.get(part_of(hash))?;
        part.find(hash, same).copied()
    }

    /// Adds an entry that is not there yet. `rehash` must agree with `hash`.
    pub(crate) fn insert(&mut self, hash: u64, entry: T, rehash: impl Fn(&T) -> u64) {
        if self.parts.is_empty() {
            self.parts.resize_with(PARTS, HashTable::new);
        }
        self.parts[part_of(hash)].insert_unique(hash, entry, rehash);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.parts.iter().flatten()
    }
}

/// A row index that keeps half of each hash: for texts, which are dear to hash again and to compare.
#[derive(Debug, Default)]
pub(crate) struct TextIndex {
    rows: RowIndex<(u32, u32)>,
}

impl TextIndex {
    pub(crate) fn find(&self, hash: u64, same: impl Fn(u32) -> bool) -> Option<u32> {
        let half = half(hash);
        let found = self
            .rows
            .find(spread(half), |(other, row)| *other == half && same(*row));
        found.map(|(_, row)| row)
    }

    pub(crate) fn insert(&mut self, hash: u64, row: u32) {
        let half = half(hash);
        self.rows
            .insert(spread(half), (half, row), |(half, _)| spread(*half));
    }
}

fn half(hash: u64) -> u32 {
    let [_, _, _, _, a, b, c, d] = hash.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

/// A hash that the table can use: it takes its bits from both ends.
fn spread(half: u32) -> u64 {
    let mixed = u64::from(half).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ mixed >> 32
}

/// The part of a hash. Parts differ in width, from one to nearly two, so that each doubles at another time.
fn part_of(hash: u64) -> usize {
    // Bits that the table itself does not use to place an entry.
    let x = (hash >> 40 & 0xFFFF) as usize;
    PART_STARTS.partition_point(|start| *start <= x) - 1
}

/// `65536 * (2^(i/32) - 1)`, rounded.
const PART_STARTS: [usize; PARTS] = [
    0, 1435, 2902, 4400, 5932, 7496, 9096, 10730, 12400, 14106, 15850, 17633, 19454, 21315, 23216,
    25160, 27146, 29175, 31249, 33369, 35534, 37747, 40009, 42320, 44682, 47095, 49562, 52082,
    54658, 57289, 59979, 62727,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::text::hash_of;

    #[test]
    fn finds_what_was_inserted() {
        let mut index: RowIndex = RowIndex::default();
        for row in 0..5000_u32 {
            index.insert(hash_of(&row), row, hash_of);
        }
        assert!((0..5000_u32).all(|row| index.find(hash_of(&row), |r| *r == row) == Some(row)));
        assert_eq!(index.find(hash_of(&5000_u32), |row| *row == 5000), None);
        assert_eq!(index.iter().count(), 5000);
    }

    #[test]
    fn parts_widen_steadily() {
        for (part, start) in PART_STARTS.iter().enumerate() {
            let exact = 65_536.0 * ((part as f64 / 32.0).exp2() - 1.0);
            assert!((*start as f64 - exact).abs() <= 0.5, "{part}: {exact}");
        }
    }
}
