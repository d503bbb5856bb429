//! Positions of slots, in four bytes each.
use super::{
    claims::Slot,
    column::{Column, index_of},
};

/// Rising positions. Their upper halves change once in four billion, so those are kept apart.
#[derive(Debug, Default)]
pub(crate) struct Positions {
    pub(super) lower: Column<u32>,
    /// The slot from which each upper half holds.
    pub(super) upper: Vec<(Slot, u32)>,
}

impl Positions {
    pub(crate) fn push(&mut self, position: u64) {
        let slot = index_of(self.lower.len());
        let [a, b, c, d, e, f, g, h] = position.to_be_bytes();
        let upper = u32::from_be_bytes([a, b, c, d]);
        if self.upper.last().map_or(0, |last| last.1) != upper {
            self.upper.push((slot, upper));
        }
        self.lower.push(u32::from_be_bytes([e, f, g, h]));
    }

    pub(crate) fn at(&self, slot: Slot) -> u64 {
        let known = self.upper.partition_point(|(from, _)| *from <= slot);
        let upper = known.checked_sub(1).map_or(0, |last| self.upper[last].1);
        let lower = self.lower.get(slot as usize).copied().unwrap_or(0);
        u64::from(upper) << 32 | u64::from(lower)
    }

    /// How many slots have a position up to this one.
    pub(crate) fn count_up_to(&self, position: u64) -> u32 {
        let (mut low, mut high) = (0, index_of(self.lower.len()));
        while low < high {
            let middle = low + (high - low) / 2;
            match self.at(middle) <= position {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_come_back_beyond_four_billion() {
        let told = [
            1,
            2,
            5,
            u64::from(u32::MAX),
            1 << 32,
            (1 << 32) + 9,
            7 << 40,
            u64::MAX,
        ];
        let mut positions = Positions::default();
        told.iter().for_each(|position| positions.push(*position));
        for (slot, position) in (0..).zip(told) {
            assert_eq!(positions.at(slot), position);
            assert_eq!(positions.count_up_to(position), slot + 1);
            assert_eq!(positions.count_up_to(position - 1), slot);
        }
    }
}
