//! The right edge of a growing tree: all that appending and the root need, however many leaves there are.
use crate::hash::{EMPTY_ROOT, Hash, node_hash};

/// One more than the largest tree that is kept: no ledger reaches it, and no arithmetic on sizes overflows below it.
pub const SIZE_END: u64 = 1 << 62;

/// The roots of the complete subtrees that a tree of some size consists of, largest first.
///
/// There are as many as the size has ones in binary, so at most 62.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Hash>,
}

/// Why bytes are not a frontier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrontierError {
    /// Not even a size.
    #[error("a frontier is at least 8 bytes long, not {bytes}")]
    TooShort {
        /// Bytes given.
        bytes: usize,
    },
    /// A size that no tree has.
    #[error("a tree has fewer than {SIZE_END} leaves, not {size}")]
    TooLarge {
        /// The size read.
        size: u64,
    },
    /// More or fewer peaks than the size asks for.
    #[error("a tree of {size} leaves has {peaks} peaks of 32 bytes, not {bytes} bytes")]
    Peaks {
        /// The size read.
        size: u64,
        /// Peaks that it has.
        peaks: u32,
        /// Bytes after the size.
        bytes: usize,
    },
}

impl Frontier {
    /// Starts an empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Leaves so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf and names every subtree that it completes: `(level, index, root)`, the leaf itself first, at
    /// level 0. Subtree `(level, index)` covers the leaves `index << level .. (index + 1) << level`.
    pub fn push(&mut self, leaf: Hash, completed: &mut dyn FnMut(u8, u64, Hash)) {
        let (mut level, mut index, mut hash) = (0_u8, self.size, leaf);
        completed(level, index, hash);
        while index & 1 == 1
            && let Some(left) = self.peaks.pop()
        {
            hash = node_hash(&left, &hash);
            (level, index) = (level + 1, index >> 1);
            completed(level, index, hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// Root of the tree as it is now; [`EMPTY_ROOT`] without leaves.
    #[must_use]
    pub fn root(&self) -> Hash {
        fold_peaks(&self.peaks)
    }

    /// Writes the size as 8 bytes, big-endian, and then the peaks, largest first, 32 bytes each.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + 32 * self.peaks.len());
        bytes.extend_from_slice(&self.size.to_be_bytes());
        bytes.extend_from_slice(self.peaks.as_flattened());
        bytes
    }

    /// Reads what [`Frontier::to_bytes`] wrote.
    ///
    /// # Errors
    /// Bytes that are too short, too long, or of a size that no tree has. Whether the peaks are the right ones can only
    /// be known by comparing [`Frontier::root`] with a root that is trusted.
    pub fn try_from_bytes(bytes: &[u8]) -> Result<Self, FrontierError> {
        let too_short = FrontierError::TooShort { bytes: bytes.len() };
        let (size, rest) = bytes.split_first_chunk::<8>().ok_or(too_short)?;
        let size = u64::from_be_bytes(*size);
        if size >= SIZE_END {
            return Err(FrontierError::TooLarge { size });
        }
        let (peaks, left) = rest.as_chunks::<32>();
        if !left.is_empty() || peaks.len() as u64 != u64::from(size.count_ones()) {
            return Err(FrontierError::Peaks {
                size,
                peaks: size.count_ones(),
                bytes: rest.len(),
            });
        }
        Ok(Self {
            size,
            peaks: peaks.to_vec(),
        })
    }
}

/// Root of a tree from its complete subtrees, largest first.
pub(crate) fn fold_peaks(peaks: &[Hash]) -> Hash {
    let joined = peaks
        .iter()
        .rev()
        .copied()
        .reduce(|right, left| node_hash(&left, &right));
    joined.unwrap_or(EMPTY_ROOT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::leaf_hash;

    fn grown(leaves: u64) -> Frontier {
        let mut tree = Frontier::new();
        for number in 0..leaves {
            tree.push(leaf_hash(&number.to_be_bytes()), &mut |_, _, _| {});
        }
        tree
    }

    #[test]
    fn a_leaf_completes_one_subtree_for_each_trailing_one_of_its_index() {
        let mut tree = grown(7);
        let mut completed = Vec::new();
        tree.push(leaf_hash(b"eighth"), &mut |level, index, _| {
            completed.push((level, index))
        });
        assert_eq!(completed, [(0, 7), (1, 3), (2, 1), (3, 0)]);
        assert_eq!(tree.size(), 8);
    }

    #[test]
    fn survives_its_bytes_at_every_size() {
        for size in 0..=130 {
            let mut tree = grown(size);
            let mut read = Frontier::try_from_bytes(&tree.to_bytes()).unwrap();
            assert_eq!(read, tree);
            tree.push([7; 32], &mut |_, _, _| {});
            read.push([7; 32], &mut |_, _, _| {});
            assert_eq!(read.root(), tree.root());
        }
    }

    #[test]
    fn golden_bytes_of_three_leaves() {
        let expected = "0000000000000003\
            a7d91894b61fbf46378d88e3e1b1f7aef39532c504b484bd31551d15e0a09dff\
            d81f51781eeb8f46a0e112e86ca335896ccc12cee00e6cfcf58a3501129dfc24";
        assert_eq!(hex::encode(grown(3).to_bytes()), expected);
    }

    #[test]
    fn refuses_bytes_that_are_no_frontier() {
        let good = grown(5).to_bytes();
        for cut in 0..good.len() {
            assert!(
                Frontier::try_from_bytes(&good[..cut]).is_err(),
                "{cut} bytes"
            );
        }
        let longer = [&good[..], &[0]].concat();
        assert!(matches!(
            Frontier::try_from_bytes(&longer),
            Err(FrontierError::Peaks { bytes: 65, .. })
        ));
        let huge = u64::MAX.to_be_bytes();
        assert_eq!(
            Frontier::try_from_bytes(&huge),
            Err(FrontierError::TooLarge { size: u64::MAX })
        );
    }
}
