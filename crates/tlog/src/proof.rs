//! Inclusion and consistency: making paths from stored subtrees, and checking paths against roots.
//!
//! RFC 6962 sections 2.1.1 and 2.1.2 say which hashes a path has and in which order. Sizes and indexes count leaves from
//! 0; a ledger's position p is the leaf at index p − 1.
use crate::{
    frontier::fold_peaks,
    hash::{EMPTY_ROOT, Hash, node_hash},
};

/// Why a path proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The leaf is not in a tree of that size at all.
    #[error("leaf {index} is not in a tree of {size} leaves")]
    OutOfTree {
        /// Index of the leaf, from 0.
        index: u64,
        /// Size of the tree.
        size: u64,
    },
    /// The tree that should be the younger one is smaller.
    #[error("a tree of {new} leaves cannot have grown from one of {old}")]
    Shrunk {
        /// Size of the older tree.
        old: u64,
        /// Size of the younger tree.
        new: u64,
    },
    /// The path is too long or too short for these sizes.
    #[error("the path has {found} hashes where these sizes need {needed}")]
    PathLength {
        /// Hashes given.
        found: usize,
        /// Hashes needed.
        needed: usize,
    },
    /// The path leads to another root.
    #[error("the path leads to another root than the one given")]
    Root,
    /// The path does not start from the older root.
    #[error("the path leads to another older root than the one given")]
    OldRoot,
}

/// The hashes from a leaf up to the root of a tree of `size` leaves, lowest first.
///
/// `read(level, index)` gives roots of complete subtrees, as [`crate::Frontier::push`] named them. The path is empty
/// for the only leaf of a tree, and where `index` is not in the tree: such a path proves nothing, to anyone.
///
/// # Errors
/// Whatever `read` returns.
pub fn inclusion_path<E>(
    index: u64,
    size: u64,
    mut read: impl FnMut(u8, u64) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    let mut path = Vec::new();
    let (mut start, mut end) = (0, size);
    while index < size && end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            path.push(range_root(middle, end, &mut read)?);
            end = middle;
        } else {
            path.push(range_root(start, middle, &mut read)?);
            start = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// The hashes which show that the tree of `new` leaves holds the tree of `old` leaves unchanged, lowest first.
///
/// Empty for equal sizes, for an empty older tree, and where `old` is larger.
///
/// # Errors
/// Whatever `read` returns; it is used as in [`inclusion_path`].
pub fn consistency_path<E>(
    old: u64,
    new: u64,
    mut read: impl FnMut(u8, u64) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    if old == 0 || old >= new {
        return Ok(Vec::new());
    }
    let mut path = Vec::new();
    let (mut start, mut end) = (0, new);
    while end != old {
        let middle = start + split(end - start);
        if old <= middle {
            path.push(range_root(middle, end, &mut read)?);
            end = middle;
        } else {
            path.push(range_root(start, middle, &mut read)?);
            start = middle;
        }
    }
    // Where the older tree is itself one complete subtree, whoever checks has its root already.
    if start != 0 {
        path.push(range_root(start, end, &mut read)?);
    }
    path.reverse();
    Ok(path)
}

/// Root of the tree of the first `size` leaves.
///
/// # Errors
/// Whatever `read` returns; it is used as in [`inclusion_path`].
pub fn root_at<E>(size: u64, mut read: impl FnMut(u8, u64) -> Result<Hash, E>) -> Result<Hash, E> {
    range_root(0, size, &mut read)
}

/// Checks that a leaf is at `index` of the tree of `size` leaves with this root.
///
/// # Errors
/// Says which part of the claim does not hold.
pub fn verify_inclusion(
    index: u64,
    size: u64,
    leaf_hash: &Hash,
    path: &[Hash],
    root: &Hash,
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::OutOfTree { index, size });
    }
    let (within, beside) = path_shape(index, size);
    let (lower, upper) = cut(path, within, beside)?;
    let computed = climb_edge(climb(*leaf_hash, index, lower), upper);
    if computed == *root {
        Ok(())
    } else {
        Err(ProofError::Root)
    }
}

/// Checks that the tree of `new` leaves with `new_root` begins with the tree of `old` leaves with `old_root`.
///
/// The empty tree begins every tree: then the path is empty and `new_root` is not looked at.
///
/// # Errors
/// Says which part of the claim does not hold.
pub fn verify_consistency(
    old: u64,
    new: u64,
    old_root: &Hash,
    new_root: &Hash,
    path: &[Hash],
) -> Result<(), ProofError> {
    if old > new {
        return Err(ProofError::Shrunk { old, new });
    }
    if old == 0 || old == new {
        cut(path, 0, 0)?;
        let expected = if old == 0 { &EMPTY_ROOT } else { new_root };
        let same = old_root == expected && (new != 0 || new_root == expected);
        return if same {
            Ok(())
        } else {
            Err(ProofError::OldRoot)
        };
    }
    // The path goes from the last complete subtree of the older tree, whose leaves differ only in `height` bits.
    let height = old.trailing_zeros();
    let (within, beside) = path_shape(old - 1, new);
    let within = within - height as usize;
    let (seed, path) = if old.is_power_of_two() {
        (*old_root, path)
    } else {
        let needed = 1 + within + beside;
        path.split_first()
            .map(|(seed, path)| (*seed, path))
            .ok_or(ProofError::PathLength { found: 0, needed })?
    };
    let (lower, upper) = cut(path, within, beside)?;
    let subtree = (old - 1) >> height;
    if climb_edge(climb_left(seed, subtree, lower), upper) != *old_root {
        return Err(ProofError::OldRoot);
    }
    if climb_edge(climb(seed, subtree, lower), upper) != *new_root {
        return Err(ProofError::Root);
    }
    Ok(())
}

/// The largest power of two below `leaves`, which is at least 2: where RFC 6962 splits a tree.
fn split(leaves: u64) -> u64 {
    1 << (leaves - 1).ilog2()
}

/// Root of the leaves `start..end`, where `start` is a multiple of the power of two that covers the range.
fn range_root<E>(
    start: u64,
    end: u64,
    read: &mut impl FnMut(u8, u64) -> Result<Hash, E>,
) -> Result<Hash, E> {
    let (mut at, mut peaks) = (start, Vec::new());
    for level in (0..64_u8).rev() {
        if (end - start) >> level & 1 == 1 {
            peaks.push(read(level, at >> level)?);
            at += 1 << level;
        }
    }
    Ok(fold_peaks(&peaks))
}

/// How many hashes a path has below the point where the leaf's way meets the right edge, and how many above it.
fn path_shape(index: u64, size: u64) -> (usize, usize) {
    let within = u64::BITS - (index ^ (size - 1)).leading_zeros();
    let beside = index.checked_shr(within).unwrap_or(0).count_ones();
    (within as usize, beside as usize)
}

fn cut(path: &[Hash], within: usize, beside: usize) -> Result<(&[Hash], &[Hash]), ProofError> {
    if path.len() != within + beside {
        return Err(ProofError::PathLength {
            found: path.len(),
            needed: within + beside,
        });
    }
    Ok(path.split_at(within))
}

/// Joins neighbours, left or right as the bits of `index` say.
fn climb(from: Hash, index: u64, path: &[Hash]) -> Hash {
    path.iter().enumerate().fold(from, |hash, (level, other)| {
        if index >> level & 1 == 1 {
            node_hash(other, &hash)
        } else {
            node_hash(&hash, other)
        }
    })
}

/// Joins only the neighbours on the left: what lies to the right was not there yet.
fn climb_left(from: Hash, index: u64, path: &[Hash]) -> Hash {
    path.iter().enumerate().fold(from, |hash, (level, other)| {
        if index >> level & 1 == 1 {
            node_hash(other, &hash)
        } else {
            hash
        }
    })
}

/// Joins along the right edge, where every neighbour is on the left.
fn climb_edge(from: Hash, path: &[Hash]) -> Hash {
    path.iter()
        .fold(from, |hash, other| node_hash(other, &hash))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::{frontier::Frontier, hash::leaf_hash};

    /// Every complete subtree of a tree, and the roots that it had on the way.
    struct Grown {
        nodes: BTreeMap<(u8, u64), Hash>,
        roots: Vec<Hash>,
    }

    impl Grown {
        fn of(leaves: impl IntoIterator<Item = Hash>) -> Self {
            let (mut tree, mut nodes) = (Frontier::new(), BTreeMap::new());
            let mut roots = vec![tree.root()];
            for leaf in leaves {
                tree.push(leaf, &mut |level, index, hash| {
                    nodes.insert((level, index), hash);
                });
                roots.push(tree.root());
            }
            Self { nodes, roots }
        }

        fn numbered(leaves: u64) -> Self {
            Self::of((0..leaves).map(|number| leaf_hash(&number.to_be_bytes())))
        }

        fn inclusion(&self, index: u64, size: u64) -> Vec<Hash> {
            inclusion_path(index, size, |level, index| self.read(level, index)).unwrap()
        }

        fn consistency(&self, old: u64, new: u64) -> Vec<Hash> {
            consistency_path(old, new, |level, index| self.read(level, index)).unwrap()
        }

        fn read(&self, level: u8, index: u64) -> Result<Hash, String> {
            self.nodes
                .get(&(level, index))
                .copied()
                .ok_or(format!("no subtree {level}/{index}"))
        }

        fn root(&self, size: u64) -> &Hash {
            &self.roots[usize::try_from(size).unwrap()]
        }

        fn leaf(&self, index: u64) -> &Hash {
            &self.nodes[&(0, index)]
        }
    }

    /// RFC 6962 section 2.1, word for word.
    fn mth(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => EMPTY_ROOT,
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(largest_power_below(leaves.len()));
                node_hash(&mth(left), &mth(right))
            }
        }
    }

    /// RFC 6962 section 2.1.1, word for word.
    fn path(m: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() == 1 {
            return vec![];
        }
        let k = largest_power_below(leaves.len());
        let (left, right) = leaves.split_at(k);
        if m < k {
            [path(m, left), vec![mth(right)]].concat()
        } else {
            [path(m - k, right), vec![mth(left)]].concat()
        }
    }

    /// RFC 6962 section 2.1.2, word for word.
    fn subproof(m: usize, leaves: &[Hash], complete: bool) -> Vec<Hash> {
        if m == leaves.len() {
            return if complete { vec![] } else { vec![mth(leaves)] };
        }
        let k = largest_power_below(leaves.len());
        let (left, right) = leaves.split_at(k);
        if m <= k {
            [subproof(m, left, complete), vec![mth(right)]].concat()
        } else {
            [subproof(m - k, right, false), vec![mth(left)]].concat()
        }
    }

    fn largest_power_below(n: usize) -> usize {
        let mut k = 1;
        while k * 2 < n {
            k *= 2;
        }
        k
    }

    const SIZE_MAX: u64 = 130;

    #[test]
    fn roots_and_paths_are_those_of_the_rfc_at_every_size() {
        let tree = Grown::numbered(SIZE_MAX);
        let leaves: Vec<Hash> = (0..SIZE_MAX).map(|index| *tree.leaf(index)).collect();
        for size in 0..=SIZE_MAX {
            let prefix = &leaves[..usize::try_from(size).unwrap()];
            assert_eq!(*tree.root(size), mth(prefix), "root of {size}");
            let root = root_at(size, |level, index| tree.read(level, index)).unwrap();
            assert_eq!(root, mth(prefix), "root of {size}, read");
            for m in 0..prefix.len() {
                let expected = path(m, prefix);
                assert_eq!(
                    tree.inclusion(m as u64, size),
                    expected,
                    "leaf {m} of {size}"
                );
            }
            for m in 1..=prefix.len() {
                let expected = subproof(m, prefix, true);
                assert_eq!(tree.consistency(m as u64, size), expected, "{m} to {size}");
            }
        }
    }

    #[test]
    fn every_path_verifies_and_only_for_its_own_place() {
        let tree = Grown::numbered(SIZE_MAX);
        for size in 1..=SIZE_MAX {
            for index in 0..size {
                let (path, leaf) = (tree.inclusion(index, size), tree.leaf(index));
                assert_eq!(
                    verify_inclusion(index, size, leaf, &path, tree.root(size)),
                    Ok(())
                );
                for other in (0..=size).filter(|other| *other != index) {
                    let wrong = verify_inclusion(other, size, leaf, &path, tree.root(size));
                    assert!(wrong.is_err(), "leaf {index} of {size} taken for {other}");
                }
            }
            for old in 0..=size {
                let path = tree.consistency(old, size);
                let (old_root, new_root) = (tree.root(old), tree.root(size));
                assert_eq!(
                    verify_consistency(old, size, old_root, new_root, &path),
                    Ok(())
                );
                for other in (0..=size).filter(|other| *other != old) {
                    let wrong = verify_consistency(other, size, old_root, new_root, &path);
                    assert!(wrong.is_err(), "{old} to {size} taken for {other}");
                }
            }
        }
    }

    /// Leaves, roots and paths of the Certificate Transparency reference implementation.
    mod reference {
        use super::*;

        const LEAVES: [&str; 8] = [
            "",
            "00",
            "10",
            "2021",
            "3031",
            "40414243",
            "5051525354555657",
            "606162636465666768696a6b6c6d6e6f",
        ];

        const ROOTS: [&str; 9] = [
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];

        const L0: &str = ROOTS[1];
        const L1: &str = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7";
        const L4: &str = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b";
        const N1_1: &str = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e";
        const N1_2: &str = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a";
        const N1_3: &str = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0";
        const N2_0: &str = ROOTS[4];
        const N2_1: &str = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4";

        fn tree() -> Grown {
            Grown::of(
                LEAVES
                    .iter()
                    .map(|leaf| leaf_hash(&hex::decode(leaf).unwrap())),
            )
        }

        fn hexes(path: &[Hash]) -> Vec<String> {
            path.iter().map(hex::encode).collect()
        }

        #[test]
        fn roots() {
            assert_eq!(hexes(&tree().roots), ROOTS);
        }

        #[test]
        fn inclusion() {
            let cases: [(u64, u64, &[&str]); 7] = [
                (0, 1, &[]),
                (0, 2, &[L1]),
                (1, 2, &[L0]),
                (2, 3, &[ROOTS[2]]),
                (1, 5, &[L0, N1_1, L4]),
                (0, 8, &[L1, N1_1, N2_1]),
                (5, 8, &[L4, N1_3, N2_0]),
            ];
            for (index, size, expected) in cases {
                assert_eq!(
                    hexes(&tree().inclusion(index, size)),
                    expected,
                    "{index} of {size}"
                );
            }
        }

        #[test]
        fn consistency() {
            let cases: [(u64, u64, &[&str]); 4] = [
                (1, 1, &[]),
                (1, 8, &[L1, N1_1, N2_1]),
                (2, 5, &[N1_1, L4]),
                (6, 8, &[N1_2, N1_3, N2_0]),
            ];
            for (old, new, expected) in cases {
                assert_eq!(
                    hexes(&tree().consistency(old, new)),
                    expected,
                    "{old} to {new}"
                );
            }
        }
    }

    #[test]
    fn says_what_does_not_hold() {
        let tree = Grown::numbered(6);
        let (leaf, root, path) = (tree.leaf(2), tree.root(6), tree.inclusion(2, 6));
        let cases = [
            (
                6,
                &path[..],
                root,
                ProofError::OutOfTree { index: 6, size: 6 },
            ),
            (
                2,
                &path[1..],
                root,
                ProofError::PathLength {
                    found: 2,
                    needed: 3,
                },
            ),
            (2, &path[..], leaf, ProofError::Root),
        ];
        for (index, path, root, expected) in cases {
            assert_eq!(verify_inclusion(index, 6, leaf, path, root), Err(expected));
        }
        let (old, path) = (tree.root(3), tree.consistency(3, 6));
        let cases = [
            (
                7,
                old,
                root,
                &path[..],
                ProofError::Shrunk { old: 7, new: 6 },
            ),
            (
                3,
                old,
                root,
                &[][..],
                ProofError::PathLength {
                    found: 0,
                    needed: 4,
                },
            ),
            (3, leaf, root, &path[..], ProofError::OldRoot),
            (3, old, leaf, &path[..], ProofError::Root),
            (6, old, root, &[][..], ProofError::OldRoot),
            (0, old, root, &[][..], ProofError::OldRoot),
        ];
        for (size, old, root, path, expected) in cases {
            assert_eq!(verify_consistency(size, 6, old, root, path), Err(expected));
        }
    }

    #[test]
    fn a_reader_that_fails_is_heard() {
        let none = |_: u8, _: u64| Err::<Hash, _>("disk");
        assert_eq!(inclusion_path(1, 3, none), Err("disk"));
        assert_eq!(consistency_path(2, 3, none), Err("disk"));
        assert_eq!(root_at(3, none), Err("disk"));
        assert_eq!(root_at(0, none), Ok(EMPTY_ROOT));
    }

    fn flip(hash: &mut Hash, bit: usize) {
        hash[bit / 8 % 32] ^= 1 << (bit % 8);
    }

    fn wrong_length(verdict: &Result<(), ProofError>) -> bool {
        matches!(verdict, Err(ProofError::PathLength { .. }))
    }

    proptest! {
        #[test]
        fn one_bit_of_a_proof_is_enough_to_fail(size in 1_u64..300, at: u64, what: usize, bit in 0_usize..256) {
            let tree = Grown::numbered(size);
            let index = at % size;
            let (mut path, mut leaf, mut root) = (tree.inclusion(index, size), *tree.leaf(index), *tree.root(size));
            match what % (path.len() + 2) {
                0 => flip(&mut leaf, bit),
                1 => flip(&mut root, bit),
                place => flip(&mut path[place - 2], bit),
            }
            prop_assert!(verify_inclusion(index, size, &leaf, &path, &root).is_err());

            let old = 1 + index;
            let (mut path, mut old_root, mut root) = (tree.consistency(old, size), *tree.root(old), *tree.root(size));
            match what % (path.len() + 2) {
                0 => flip(&mut old_root, bit),
                1 => flip(&mut root, bit),
                place => flip(&mut path[place - 2], bit),
            }
            prop_assert!(verify_consistency(old, size, &old_root, &root, &path).is_err());
        }

        #[test]
        fn another_size_needs_another_root(size in 2_u64..200, at: u64, other in 1_u64..200) {
            prop_assume!(other != size);
            let tree = Grown::numbered(size);
            let index = at % size;
            // A path may have the right shape for two sizes; the root that goes with the size is then another one.
            let other_root = Grown::numbered(other).roots.pop().unwrap();
            let path = tree.inclusion(index, size);
            prop_assert!(verify_inclusion(index, other, tree.leaf(index), &path, &other_root).is_err());
        }

        #[test]
        fn nothing_panics(index: u64, size: u64, hash: Hash, path in proptest::collection::vec(any::<Hash>(), 0..70)) {
            prop_assert!(verify_inclusion(index, size, &hash, &path, &[0; 32]).is_err());
            let _ = verify_consistency(index, size, &hash, &[0; 32], &path);
            let read = |_: u8, _: u64| Ok::<_, ()>(hash);
            let inclusion = inclusion_path(index, size, read).unwrap();
            if index < size {
                let root = root_at(size, read).unwrap();
                let verdict = verify_inclusion(index, size, &hash, &inclusion, &root);
                prop_assert!(!wrong_length(&verdict), "{index} of {size}: {verdict:?}");
            }
            let path = consistency_path(index, size, read).unwrap();
            let verdict = verify_consistency(index, size, &hash, &hash, &path);
            prop_assert!(!wrong_length(&verdict), "{index} to {size}: {verdict:?}");
        }
    }
}
