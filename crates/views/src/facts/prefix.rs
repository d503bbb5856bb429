//! Which commits an abbreviated id may mean.
use super::column::push_tight;

/// The newest entries are kept unsorted up to this many.
const TAIL_MAX: usize = 1024;

/// Commits by the first four bytes of their id: sorted runs, merged as they grow, so that an insert costs little
/// whatever the order of arrival.
#[derive(Debug, Default)]
pub(crate) struct Prefixes {
    runs: Vec<Vec<Entry>>,
    tail: Vec<Entry>,
}

/// The first four bytes of an id, and the node.
type Entry = (u32, u32);

impl Prefixes {
    pub(crate) fn insert(&mut self, first_bytes: u32, node: u32) {
        push_tight(&mut self.tail, (first_bytes, node));
        if self.tail.len() < TAIL_MAX {
            return;
        }
        let mut run = std::mem::take(&mut self.tail);
        run.sort_unstable();
        while let Some(last) = self.runs.pop_if(|last| last.len() <= 2 * run.len()) {
            run = merged(&last, &run);
        }
        self.runs.push(run);
    }

    /// Every node whose first four bytes lie in `first..=last`, in no particular order.
    pub(crate) fn between(&self, first: u32, last: u32) -> impl Iterator<Item = u32> + '_ {
        let sorted = self.runs.iter().flat_map(move |run| {
            let start = run.partition_point(|entry| entry.0 < first);
            run[start..].iter().take_while(move |entry| entry.0 <= last)
        });
        let tail = self.tail.iter();
        let tail = tail.filter(move |entry| (first..=last).contains(&entry.0));
        sorted.chain(tail).map(|entry| entry.1)
    }
}

fn merged(left: &[Entry], right: &[Entry]) -> Vec<Entry> {
    let mut out = Vec::with_capacity(left.len() + right.len());
    let (mut i, mut j) = (0, 0);
    while i < left.len() && j < right.len() {
        if left[i] <= right[j] {
            out.push(left[i]);
            i += 1;
        } else {
            out.push(right[j]);
            j += 1;
        }
    }
    out.extend_from_slice(&left[i..]);
    out.extend_from_slice(&right[j..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_a_scan_finds() {
        let mut prefixes = Prefixes::default();
        let key = |n: u32| n.wrapping_mul(0x9E37_79B9);
        for n in 0..5000 {
            prefixes.insert(key(n), n);
        }
        for (first, last) in [(0, u32::MAX), (1 << 28, 1 << 29), (key(7), key(7))] {
            let mut found: Vec<u32> = prefixes.between(first, last).collect();
            found.sort_unstable();
            let scanned: Vec<u32> = (0..5000)
                .filter(|n| (first..=last).contains(&key(*n)))
                .collect();
            assert_eq!(found, scanned);
        }
    }
}
