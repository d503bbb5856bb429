//! Which identities are recorded, as fingerprints in memory (LEDGER S3).
//!
//! A random-key index in sled would cost more than the ledger itself, so deduplication asks this table: 64 bits of the
//! identity's hash and the position that holds it. A hit is a hint only; the caller compares the stored identity.
//!
//! Twelve bytes a slot, open addressing, in shards that grow one at a time: no emit waits until a table of millions has
//! been copied, and the old and the new copy of a shard together weigh little. Between 53 and 80 per cent of the slots
//! are taken, which is 15 to 23 bytes an event.
use sha2::{Digest, Sha256};

/// Shards are chosen by the fingerprint's top byte; a slot keeps the other seven.
const SHARDS: usize = 256;
const SLOT_BITS: u32 = 56;
const SLOT_MASK: u64 = (1 << SLOT_BITS) - 1;
/// A slot has 40 bits for the position: a million million events.
const POSITION_END: u64 = 1 << 40;
const SHARD_SLOTS_MIN: usize = 16;

/// Hash of an identity: the first 8 bytes, big-endian, of SHA-256 over `source` and `id`, each behind its length in
/// bytes as u32, big-endian. 0, which no identity gets (1 instead), stands for a leaf that could not be decoded.
#[must_use]
pub fn fingerprint(source: &str, id: &str) -> u64 {
    if source.is_empty() && id.is_empty() {
        return 0;
    }
    let mut hash = Sha256::new();
    for part in [source, id] {
        let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
        hash.update(length.to_be_bytes());
        hash.update(part);
    }
    let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(hash.finalize());
    u64::from_be_bytes([a, b, c, d, e, f, g, h]).max(1)
}

/// Positions by fingerprint.
pub struct Seen {
    shards: Vec<Shard>,
    count: u64,
}

impl Default for Seen {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl Seen {
    /// An empty table with room for `events`.
    #[must_use]
    pub fn with_capacity(events: u64) -> Self {
        let each = usize::try_from(events).unwrap_or(usize::MAX) / SHARDS;
        let shard = || Shard::with_slots((each + each / 2).max(SHARD_SLOTS_MIN));
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            count: 0,
        }
    }

    /// Adds a position. Fingerprint 0 is no identity and is left out.
    ///
    /// # Panics
    /// On position 0 and on positions beyond 2^40, which no ledger gives out.
    pub fn insert(&mut self, fingerprint: u64, position: u64) {
        assert!(
            (1..POSITION_END).contains(&position),
            "positions lie in 1 to 2^40, not {position}"
        );
        if fingerprint == 0 {
            return;
        }
        let (shard, key) = split(fingerprint);
        self.shards[shard].insert(key, position);
        self.count += 1;
    }

    /// Positions that may hold the identity with this fingerprint, lowest first.
    pub fn candidates(&self, fingerprint: u64) -> impl Iterator<Item = u64> + use<> {
        let (shard, key) = split(fingerprint);
        let mut positions: Vec<u64> = self.shards[shard].find(key).collect();
        positions.sort_unstable();
        positions.into_iter()
    }

    /// How many positions are in it.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// What it takes up in memory, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.slots.capacity() * size_of::<Slot>())
            .sum()
    }
}

fn split(fingerprint: u64) -> (usize, u64) {
    let shard = usize::try_from(fingerprint >> SLOT_BITS).expect("a byte fits");
    (shard, fingerprint & SLOT_MASK)
}

/// 56 bits of fingerprint and 40 of position, in three words so that a slot is 12 bytes and not 16. All zero is free:
/// there is no position 0.
#[derive(Clone, Copy, Default)]
struct Slot([u32; 3]);

impl Slot {
    fn new(key: u64, position: u64) -> Self {
        let both = u128::from(key) << 40 | u128::from(position);
        let word = |shift: u32| {
            u32::try_from(both >> shift & u128::from(u32::MAX)).expect("masked to 32 bits")
        };
        Self([word(64), word(32), word(0)])
    }

    fn key(self) -> u64 {
        u64::from(self.0[0]) << 24 | u64::from(self.0[1] >> 8)
    }

    fn position(self) -> u64 {
        u64::from(self.0[1] & 0xff) << 32 | u64::from(self.0[2])
    }

    fn is_free(self) -> bool {
        self.position() == 0
    }
}

/// A table with linear probing. Home slots rise with the key, so that any number of slots will do.
struct Shard {
    slots: Vec<Slot>,
    taken: usize,
}

impl Shard {
    fn with_slots(slots: usize) -> Self {
        Self {
            slots: vec![Slot::default(); slots],
            taken: 0,
        }
    }

    fn insert(&mut self, key: u64, position: u64) {
        if (self.taken + 1) * 5 > self.slots.len() * 4 {
            self.grow();
        }
        self.place(Slot::new(key, position));
        self.taken += 1;
    }

    fn place(&mut self, slot: Slot) {
        let mut at = self.home(slot.key());
        while !self.slots[at].is_free() {
            at = self.after(at);
        }
        self.slots[at] = slot;
    }

    fn grow(&mut self) {
        let more = vec![Slot::default(); self.slots.len() + self.slots.len() / 2];
        let old = std::mem::replace(&mut self.slots, more);
        for slot in old.into_iter().filter(|slot| !slot.is_free()) {
            self.place(slot);
        }
    }

    fn find(&self, key: u64) -> impl Iterator<Item = u64> + '_ {
        let mut at = self.home(key);
        std::iter::from_fn(move || {
            let slot = self.slots[at];
            at = self.after(at);
            (!slot.is_free()).then_some(slot)
        })
        .filter(move |slot| slot.key() == key)
        .map(Slot::position)
    }

    fn home(&self, key: u64) -> usize {
        let scaled = (u128::from(key) * self.slots.len() as u128) >> SLOT_BITS;
        usize::try_from(scaled).expect("below the number of slots")
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 == self.slots.len() {
            0
        } else {
            at + 1
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Another language must find the same number: sha256(00000002 "ci" 00000005 "run-1"), first 8 bytes.
    #[test]
    fn fingerprint_is_frozen() {
        let hash = Sha256::digest(b"\0\0\0\x02ci\0\0\0\x05run-1");
        assert_eq!(fingerprint("ci", "run-1").to_be_bytes(), hash[..8]);
        assert_eq!(fingerprint("ci", "run-1"), 0x60fc_a136_7898_b61e);
        assert_ne!(fingerprint("cir", "un-1"), fingerprint("ci", "run-1"));
        assert_eq!(fingerprint("", ""), 0);
    }

    #[test]
    fn an_undecodable_leaf_leaves_no_trace() {
        let mut seen = Seen::default();
        seen.insert(fingerprint("", ""), 1);
        assert_eq!((seen.count(), seen.candidates(0).count()), (0, 0));
    }

    #[test]
    fn weighs_what_it_says() {
        let mut seen = Seen::default();
        for position in 1..=200_000 {
            seen.insert(fingerprint("ci", &position.to_string()), position);
            if position > 50_000 && position % 10_000 == 0 {
                assert!(
                    seen.memory_bytes() <= usize::try_from(position).unwrap() * 24,
                    "{position}"
                );
            }
        }
    }

    #[test]
    fn the_largest_position_and_fingerprint_come_back() {
        let mut seen = Seen::default();
        seen.insert(u64::MAX, POSITION_END - 1);
        assert_eq!(
            seen.candidates(u64::MAX).collect::<Vec<_>>(),
            [POSITION_END - 1]
        );
        assert_eq!(seen.candidates(u64::MAX - 1).count(), 0);
    }

    proptest! {
        /// Few distinct fingerprints crowded into few shards: collisions, wrap-around and growth all happen.
        #[test]
        fn equals_a_naive_map(fingerprints in prop::collection::vec(
            prop_oneof![1u64..40, (u64::MAX - 40)..=u64::MAX, (0u64..4).prop_map(|n| n << 54 | 1)],
            0..600,
        )) {
            let (mut seen, mut naive) = (Seen::default(), BTreeMap::<u64, Vec<u64>>::new());
            for (fingerprint, position) in fingerprints.iter().zip(1..) {
                seen.insert(*fingerprint, position);
                naive.entry(*fingerprint).or_default().push(position);
            }
            for probe in (0..42).chain(u64::MAX - 42..=u64::MAX).chain((0..4).map(|n| n << 54 | 1)) {
                let expected = naive.get(&probe).cloned().unwrap_or_default();
                prop_assert_eq!(seen.candidates(probe).collect::<Vec<_>>(), expected);
            }
        }
    }
}
