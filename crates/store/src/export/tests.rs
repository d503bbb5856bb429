use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use waybill_core::Time;

use super::*;
use crate::{
    journal::{Journal, Options},
    record::{Keys, Record, Verdict},
};

const ID: &str = "example.com/ledger";
const PURE: Pure = Pure {
    leaf,
    index: |_| Keys::default(),
};
const ROOT: Hash = [9; 32];
const SMALL: Options = Options {
    segment_bytes: 8 << 10,
};

fn leaf(record: &Record) -> Hash {
    Sha256::digest([&record.position.to_le_bytes()[..], &record.bytes].concat()).into()
}

fn record(position: u64) -> Record {
    Record {
        position,
        record_time: Time::from_nanos_clamped(i128::from(position)),
        epoch: 0,
        stream_sequence: 0,
        salt: None,
        subject: String::new(),
        headers: Vec::new(),
        verdict: Verdict::Admitted,
        rules_version: 1,
        source: Arc::from("ci"),
        id: Arc::from(position.to_string()),
        kind: Arc::from("build.finished"),
        flags: 0,
        bytes: Bytes::from(vec![u8::try_from(position % 251).unwrap(); 200]),
    }
}

struct World {
    dir: tempfile::TempDir,
    end: Tip,
    export: Vec<u8>,
}

impl World {
    /// A journal of `commits` frames, and its export.
    fn new(commits: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let journal_dir = dir.path().join("journal");
        let (mut journal, _) =
            Journal::recover(&journal_dir, ID, &SMALL, &PURE, None, 0, &mut |_| Ok(())).unwrap();
        for commit in 0..commits {
            let first = journal.tip().position + 1;
            let records: Vec<_> = (first..=first + commit % 3).map(record).collect();
            let leaves: Vec<_> = records.iter().map(leaf).collect();
            journal.append(&records, &leaves).unwrap();
        }
        let end = journal.tip().clone();
        let mut export = Vec::new();
        super::export(
            &journal_dir,
            &end,
            &ROOT,
            &PURE,
            &mut export,
            Path::new("out"),
        )
        .unwrap();
        Self { dir, end, export }
    }

    fn target(&self) -> PathBuf {
        self.dir.path().join("restored").join("journal")
    }

    fn restore(&self, bytes: &[u8]) -> Result<Contents, Fault> {
        let mut input = bytes;
        let restored = restore(
            &mut input,
            Path::new("x.waybill"),
            &self.target(),
            &SMALL,
            &PURE,
            &mut |_| Ok(()),
        )?;
        let contents = restored.contents.clone();
        restored.keep()?;
        Ok(contents)
    }
}

fn check(bytes: &[u8]) -> Result<Contents, Fault> {
    let mut input = bytes;
    read(&mut input, Path::new("x.waybill"), &PURE, &mut |_| Ok(()))
}

#[test]
fn a_restored_journal_has_the_same_chain_and_exports_the_same() {
    for commits in [0, 1, 40] {
        let world = World::new(commits);
        let contents = world.restore(&world.export).unwrap();
        assert_eq!(contents, check(&world.export).unwrap());
        assert_eq!(
            (contents.position, contents.chain, contents.root),
            (world.end.position, world.end.chain, ROOT)
        );
        assert_eq!(
            (contents.frames, contents.bytes),
            (commits, world.export.len() as u64)
        );
        let (journal, recovery) = Journal::recover(
            &world.target(),
            ID,
            &SMALL,
            &PURE,
            None,
            contents.position,
            &mut |_| Ok(()),
        )
        .unwrap();
        assert_eq!(
            (journal.tip().chain, recovery.frames),
            (world.end.chain, commits)
        );
        let mut again = Vec::new();
        super::export(
            &world.target(),
            journal.tip(),
            &ROOT,
            &PURE,
            &mut again,
            Path::new("out"),
        )
        .unwrap();
        assert_eq!(check(&again).unwrap(), contents);
    }
}

#[test]
fn an_export_ends_where_it_is_told_while_the_journal_goes_on() {
    let world = World::new(10);
    let dir = world.dir.path().join("journal");
    let (mut journal, _) =
        Journal::recover(&dir, ID, &SMALL, &PURE, None, 0, &mut |_| Ok(())).unwrap();
    journal
        .append(
            &[record(world.end.position + 1)],
            &[leaf(&record(world.end.position + 1))],
        )
        .unwrap();
    let mut out = Vec::new();
    let contents =
        super::export(&dir, &world.end, &ROOT, &PURE, &mut out, Path::new("out")).unwrap();
    assert_eq!(contents.position, world.end.position);
    let nowhere = Tip {
        offset: world.end.offset - 1,
        ..world.end.clone()
    };
    super::export(
        &dir,
        &nowhere,
        &ROOT,
        &PURE,
        &mut Vec::new(),
        Path::new("out"),
    )
    .unwrap_err();
}

#[test]
fn an_occupied_directory_is_refused_and_stays_as_it_is() {
    let world = World::new(3);
    let other = World::new(1);
    world.restore(&world.export).unwrap();
    let before = fs::read(world.target().join("00000001.segment")).unwrap();
    for export in [&world.export, &other.export] {
        let Err(Fault::Foreign { what }) = world.restore(export) else {
            panic!("it is refused")
        };
        assert!(what.contains("empty directory"), "{what}");
    }
    assert!(fs::read(world.target().join("00000001.segment")).unwrap() == before);
}

#[test]
fn every_truncation_and_every_flipped_bit_is_refused_and_nothing_is_left() {
    let world = World::new(6);
    let export = &world.export;
    for length in 0..export.len() {
        let Err(Fault::Damage(damage)) = check(&export[..length]) else {
            panic!("cut to {length}")
        };
        assert!(damage.offset <= length as u64, "{damage}");
    }
    for at in 0..export.len() {
        for bit in 0..8 {
            let mut flipped = export.clone();
            flipped[at] ^= 1 << bit;
            let refused = check(&flipped);
            assert!(
                matches!(refused, Err(Fault::Damage(_) | Fault::Foreign { .. })),
                "byte {at}, bit {bit}"
            );
        }
    }
    for (what, bytes) in [
        ("cut", &export[..export.len() - 1]),
        ("longer", &[&export[..], b"x"].concat()),
    ] {
        assert!(
            matches!(world.restore(bytes), Err(Fault::Damage(_))),
            "{what}"
        );
        let left = fs::read_dir(world.dir.path().join("restored"))
            .unwrap()
            .count();
        assert_eq!(left, 0, "{what}");
    }
}

#[test]
fn a_damaged_journal_is_not_exported() {
    let world = World::new(6);
    let path = world.dir.path().join("journal").join("00000001.segment");
    let mut bytes = fs::read(&path).unwrap();
    bytes[4200] ^= 1;
    fs::write(&path, bytes).unwrap();
    let dir = world.dir.path().join("journal");
    let exported = super::export(
        &dir,
        &world.end,
        &ROOT,
        &PURE,
        &mut Vec::new(),
        Path::new("out"),
    );
    assert!(matches!(exported, Err(Fault::Damage(_))));
}

/// Version 1 as released: these bytes must be readable for ever.
#[test]
fn golden_v1() {
    let contents = check(include_bytes!("golden_v1.bin")).unwrap();
    assert_eq!(
        (&*contents.ledger_id, contents.position, contents.records),
        (ID, 3, 3)
    );
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in any::<Vec<u8>>()) {
        prop_assert!(check(&bytes).is_err());
    }
}
