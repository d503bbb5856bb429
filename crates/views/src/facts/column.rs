//! Rows that only grow: in pieces, so that ten million of them are never copied and waste no slack.
use std::ops::{Index, IndexMut};

/// Rows in a piece.
const PIECE: usize = 1 << 12;

/// An append-only table column. The first piece grows as a vector does; later ones are made whole.
#[derive(Debug)]
pub(crate) struct Column<T> {
    pieces: Vec<Vec<T>>,
}

impl<T> Default for Column<T> {
    fn default() -> Self {
        Self { pieces: Vec::new() }
    }
}

impl<T> Column<T> {
    pub(crate) fn push(&mut self, row: T) {
        let full = self.pieces.last().is_none_or(|last| last.len() == PIECE);
        if full {
            let first = self.pieces.is_empty();
            self.pieces
                .push(Vec::with_capacity(if first { 0 } else { PIECE }));
        }
        if let Some(last) = self.pieces.last_mut() {
            last.push(row);
        }
    }

    /// Appends a row and returns its index.
    pub(crate) fn keep(&mut self, row: T) -> u32 {
        self.push(row);
        index_of(self.len() - 1)
    }

    pub(crate) fn len(&self) -> usize {
        match self.pieces.as_slice() {
            [] => 0,
            [whole @ .., last] => whole.len() * PIECE + last.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    pub(crate) fn get(&self, at: usize) -> Option<&T> {
        self.pieces.get(at / PIECE)?.get(at % PIECE)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.pieces.iter().flatten()
    }
}

impl<T> Index<usize> for Column<T> {
    type Output = T;

    fn index(&self, at: usize) -> &T {
        &self.pieces[at / PIECE][at % PIECE]
    }
}

impl<T> IndexMut<usize> for Column<T> {
    fn index_mut(&mut self, at: usize) -> &mut T {
        &mut self.pieces[at / PIECE][at % PIECE]
    }
}

impl<T> FromIterator<T> for Column<T> {
    fn from_iter<I: IntoIterator<Item = T>>(rows: I) -> Self {
        let mut column = Self::default();
        rows.into_iter().for_each(|row| column.push(row));
        column
    }
}

/// Appends to a vector that must stay whole, growing by an eighth.
pub(crate) fn push_tight<T>(rows: &mut Vec<T>, row: T) {
    if rows.len() == rows.capacity() {
        rows.reserve_exact((rows.len() / 8).max(64));
    }
    rows.push(row);
}

/// The index of a row as it is stored.
///
/// # Panics
/// When a table holds 2^32 rows; their memory would have run out long before.
pub(crate) fn index_of(length: usize) -> u32 {
    u32::try_from(length).expect("a table of facts holds fewer than 2^32 rows")
}

/// Stands where there is no row.
pub(crate) const NONE: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_where_they_were_put() {
        let count = 3 * PIECE + 7;
        let mut column: Column<usize> = (0..count).collect();
        assert_eq!(column.len(), count);
        assert!(column.iter().copied().eq(0..count));
        column[PIECE] = PIECE;
        for at in [0, 1, PIECE - 1, PIECE, 2 * PIECE + 5, count - 1] {
            assert_eq!(column[at], at);
        }
        assert_eq!(column.get(count), None);
    }
}
