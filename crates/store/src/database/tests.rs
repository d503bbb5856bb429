//! A world of made-up events, applied in steps, and what must come back.
mod files;
mod lists;
mod pages;

use std::{ops::ControlFlow, path::Path, sync::Arc};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use waybill_core::Time;

use super::*;
use crate::{
    Pure,
    record::{Tip, Verdict, Word},
};

pub(super) const PURE: Pure = Pure { leaf, index };
pub(super) const BOOT: Option<&str> = Some("boot-a");

/// All events that a test knows, and how far each database got.
pub(super) struct World {
    pub(super) records: Vec<Arc<Record>>,
    leaves: Vec<Hash>,
}

impl World {
    /// `count` events of various sizes, every `large`-th one of 256 KiB.
    pub(super) fn new(count: u64, large: u64) -> Self {
        let mut world = Self {
            records: Vec::new(),
            leaves: Vec::new(),
        };
        for position in 1..=count {
            let size = if position % large == 0 {
                256 << 10
            } else {
                position * 37 % 600
            };
            world.add(Bytes::from(noise(position, keys::small(size))));
        }
        world
    }

    pub(super) fn add(&mut self, bytes: Bytes) {
        let position = self.records.len() as u64 + 1;
        let kinds = ["commit.recorded", "build.finished", "deployment.finished"];
        let record = Record {
            position,
            record_time: Time::try_new(1_700_000_000 + i64::try_from(position).unwrap(), 0)
                .unwrap(),
            epoch: 0,
            stream_sequence: 0,
            salt: Some([7; 16]),
            subject: String::new(),
            headers: Vec::new(),
            verdict: Verdict::Admitted,
            rules_version: 1,
            source: Arc::from(format!("source-{}", position % 5)),
            id: Arc::from(format!("id-{position}")),
            kind: Arc::from(kinds[keys::small(position % 3)]),
            flags: 0,
            bytes,
        };
        self.leaves.push(leaf(&record));
        self.records.push(Arc::new(record));
    }

    pub(super) fn len(&self) -> u64 {
        self.records.len() as u64
    }

    /// Applies what a database lacks, up to `end`, in steps of `step`.
    pub(super) fn apply(&self, database: &Database, end: u64, step: u64) {
        let mut at = database.meta().map_or(0, |meta| meta.tip.position);
        while at < end {
            let next = end.min(at + step);
            self.step(database, at, next).unwrap();
            at = next;
        }
    }

    /// Applies the positions after `at` up to `next` in one step.
    pub(super) fn step(&self, database: &Database, at: u64, next: u64) -> Result<(), Fault> {
        let range = keys::small(at)..keys::small(next);
        let records = &self.records[range.clone()];
        let step = Step {
            records,
            leaves: &self.leaves[range],
            nodes: &(at..next)
                .flat_map(|leaf| self.completed(leaf))
                .collect::<Vec<_>>(),
            keys: &records
                .iter()
                .map(|record| index(record))
                .collect::<Vec<_>>(),
            meta: self.meta(next),
        };
        database.apply(&step)
    }

    pub(super) fn meta(&self, position: u64) -> Meta {
        Meta {
            ledger_id: "ledger-1".to_owned(),
            tip: Tip {
                position,
                record_time: self.records[keys::small(position) - 1].record_time,
                chain: [3; 32],
                segment: 1,
                offset: position * 100,
            },
            frontier: position.to_be_bytes().to_vec(),
            root: [4; 32],
            counters: b"counters".to_vec(),
        }
    }

    /// The nodes that a leaf, counted from 0, completes.
    fn completed(&self, leaf: u64) -> Vec<(u8, u64, Hash)> {
        let levels = (leaf + 1).trailing_zeros();
        (1..=u8::try_from(levels).unwrap())
            .map(|level| (level, leaf >> level, self.node(level, leaf >> level)))
            .collect()
    }

    pub(super) fn node(&self, level: u8, index: u64) -> Hash {
        if level == 0 {
            return self.leaves[keys::small(index)];
        }
        node_hash(
            &self.node(level - 1, index * 2),
            &self.node(level - 1, index * 2 + 1),
        )
    }

    /// Compares everything a database says with what was applied.
    pub(super) fn compare(&self, database: &Database) {
        let end = database.meta().map_or(0, |meta| meta.tip.position);
        let expected: Vec<Record> = self.records[..keys::small(end)]
            .iter()
            .map(|it| Record::clone(it))
            .collect();
        assert_eq!(
            database.records(1..=u64::MAX, usize::MAX).unwrap(),
            expected
        );
        assert_eq!(
            database.leaves(1, u64::MAX).unwrap(),
            self.leaves[..keys::small(end)]
        );
        for record in &expected {
            assert_eq!(
                database
                    .record_checked(record.position, &PURE)
                    .unwrap()
                    .as_ref(),
                Some(record)
            );
        }
        assert_eq!(database.record(end + 1).unwrap(), None);
        assert_eq!(database.record(0).unwrap(), None);
        let seen = database.load_seen().unwrap();
        assert_eq!(seen.count(), end);
        for record in &expected {
            let found = seen.candidates(crate::seen::fingerprint(&record.source, &record.id));
            assert_eq!(found.collect::<Vec<_>>(), [record.position]);
        }
        if end > 0 {
            assert_eq!(database.meta().unwrap(), self.meta(end));
        }
        let mut done = 0;
        database
            .check(&PURE, &mut |position| {
                done = position;
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(done, end);
        database.check_tree(node_hash).unwrap();
    }
}

pub(super) fn open(dir: &Path) -> Database {
    Database::open(dir, &Options::default(), BOOT)
        .unwrap()
        .database
}

pub(super) fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new()
        .chain_update([1])
        .chain_update(left)
        .chain_update(right)
        .finalize()
        .into()
}

fn leaf(record: &Record) -> Hash {
    Sha256::new()
        .chain_update(record.position.to_be_bytes())
        .chain_update(&record.bytes)
        .finalize()
        .into()
}

/// An event without an occur time now and then; a word of its own; the kind; a word that a stretch of events shares.
pub(super) fn index(record: &Record) -> Keys {
    let position = record.position;
    let ago = i64::try_from(position * 7919 % 1000).unwrap();
    Keys {
        occur_time: (!position.is_multiple_of(11))
            .then(|| record.record_time.plus_nanos(-ago * 1_000_000_000)),
        words: vec![
            Word::of(&["kind:", &record.kind]),
            Word::of(&[&format!("event:{position}")]),
            Word::of(&[&format!("stretch:{}", position / 100)]),
        ],
    }
}

/// Bytes that do not compress.
pub(super) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[4]
    };
    (0..length).map(|_| next()).collect()
}
