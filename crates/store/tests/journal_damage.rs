//! Whatever is done to a journal's bytes is reported: flipped bits, cuts, and frames and segments that were moved.
//!
//! The one exception is the promise's own (LEDGER J3): what happens to the very last frame cannot be told from a torn
//! write, unless something else, as the head file does, knows that it was there.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use waybill_core::Time;
use waybill_store::{
    Fault, Hash, Keys, Pure, Record, Tip, Verdict,
    journal::{self, Frame, Journal, Options, Recovery, Summary},
};

const ID: &str = "example.com/ledger";
const PURE: Pure = Pure {
    leaf,
    index: |_| Keys::default(),
};
const SEGMENT_HEADER_BYTES: usize = 4096;

fn leaf(record: &Record) -> Hash {
    let mut hash = Sha256::new();
    hash.update(record.position.to_le_bytes());
    hash.update(record.salt.unwrap_or_default());
    hash.update(&record.bytes);
    hash.finalize().into()
}

/// A record whose bytes do not compress where `noise` is set.
fn record(position: u64, noise: bool) -> Record {
    let digest = Sha256::digest(position.to_le_bytes());
    let bytes: Vec<u8> = if noise {
        (0..20_u8)
            .flat_map(|part| Sha256::digest([&digest[..], &[part]].concat()))
            .collect()
    } else {
        b"the same words again and again, ".repeat(20)
    };
    Record {
        position,
        record_time: Time::from_nanos_clamped(1_700_000_000_000_000_000 + i128::from(position)),
        epoch: 0,
        stream_sequence: 0,
        salt: digest[..16].try_into().ok(),
        subject: String::new(),
        headers: vec![("Waybill-Sender".to_owned(), "ci".to_owned())],
        verdict: Verdict::Admitted,
        rules_version: 1,
        source: Arc::from("ci"),
        id: Arc::from(format!("run-{position}")),
        kind: Arc::from("build.finished"),
        flags: 0,
        bytes: Bytes::from(bytes),
    }
}

fn recover(dir: &Path, known: u64) -> Result<(Journal, Recovery), Fault> {
    Journal::recover(
        dir,
        ID,
        &Options {
            segment_bytes: 7 << 10,
        },
        &PURE,
        None,
        known,
        &mut |_| Ok(()),
    )
}

fn read(dir: &Path) -> Result<Summary, Fault> {
    journal::read(dir, Some(ID), &PURE, &mut |_| Ok(()))
}

fn append(journal: &mut Journal, sizes: &[u64]) {
    for &size in sizes {
        let first = journal.tip().position + 1;
        let records: Vec<_> = (first..first + size)
            .map(|position| record(position, position % 4 != 0))
            .collect();
        let leaves: Vec<_> = records.iter().map(leaf).collect();
        journal.append(&records, &leaves).unwrap();
    }
}

/// A journal's files, kept in memory, and put into a directory again and again.
#[derive(Clone)]
struct Files(Vec<(String, Vec<u8>)>);

impl Files {
    fn take(dir: &Path) -> Self {
        let mut files: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| {
                (
                    entry.file_name().into_string().unwrap(),
                    fs::read(entry.path()).unwrap(),
                )
            })
            .collect();
        files.sort();
        Self(files)
    }

    fn put(&self, dir: &Path) {
        if dir.exists() {
            fs::remove_dir_all(dir).unwrap();
        }
        fs::create_dir(dir).unwrap();
        for (name, bytes) in &self.0 {
            fs::write(dir.join(name), bytes).unwrap();
        }
    }
}

/// Three segments of 7 KiB, about 20 KB in all, in frames of one to three records.
fn sample() -> (Files, u64) {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = recover(dir.path(), 0).unwrap();
    append(&mut journal, &[1, 3, 1, 1, 2, 1]);
    let files = Files::take(dir.path());
    assert_eq!(files.0.len(), 3, "{:?}", journal.tip());
    (files, journal.tip().position)
}

/// Runs the cases on all cores, each worker in a directory of its own.
fn sweep(cases: usize, run: impl Fn(usize, &Path) + Sync) {
    let next = AtomicUsize::new(0);
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let dir = tempfile::tempdir().unwrap();
                let journal = dir.path().join("journal");
                loop {
                    let case = next.fetch_add(1, Ordering::Relaxed);
                    if case >= cases {
                        break;
                    }
                    run(case, &journal);
                }
            });
        }
    });
}

/// Reads and starts; both must report. The head file knows the last position.
fn reported(dir: &Path, position: u64, what: &str) {
    let tip = match read(dir) {
        Ok(summary) if summary.damages.is_empty() && !summary.torn => summary.tip.position,
        Ok(_) | Err(Fault::Foreign { .. }) => 0,
        Err(fault) => panic!("{what}: {fault}"),
    };
    assert!(
        tip < position,
        "{what}: reading saw nothing, and the head would not have known better"
    );
    match recover(dir, position) {
        Err(Fault::Damage(_) | Fault::Foreign { .. }) => {}
        Ok((_, recovery)) => assert!(recovery.torn.is_some(), "{what}: starting saw nothing"),
        Err(fault) => panic!("{what}: {fault}"),
    }
}

#[test]
fn every_flipped_bit_is_reported() {
    let (files, position) = sample();
    let bytes: Vec<(usize, usize)> = files
        .0
        .iter()
        .enumerate()
        .flat_map(|(file, (_, bytes))| (0..bytes.len()).map(move |at| (file, at)))
        .collect();
    // From here on a flip may look like a torn write.
    let last_frame = {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("journal");
        files.put(&dir);
        (2, frames(&dir, 2).last().unwrap().0)
    };
    // Each case is a byte, with all its bits; a start, which syncs, is tried with one of them for every 64th byte.
    sweep(bytes.len(), |case, dir| {
        let (file, at) = bytes[case];
        let (name, whole) = &files.0[file];
        if !dir.exists() {
            files.put(dir);
        }
        let out = OpenOptions::new().write(true).open(dir.join(name)).unwrap();
        for bit in 0..8 {
            out.write_all_at(&[whole[at] ^ 1 << bit], at as u64)
                .unwrap();
            let summary = read(dir).unwrap();
            let torn = summary.torn && (file, at) >= last_frame;
            assert!(
                !summary.damages.is_empty() || torn,
                "{name}, byte {at}, bit {bit}"
            );
        }
        if at % 64 == 0 {
            reported(dir, position, &format!("{name}, byte {at}, bit 7"));
            files.put(dir);
        } else {
            out.write_all_at(&[whole[at]], at as u64).unwrap();
        }
    });
}

#[test]
fn every_truncation_is_reported() {
    let (files, position) = sample();
    let cuts: Vec<(usize, usize)> = files
        .0
        .iter()
        .enumerate()
        .flat_map(|(file, (_, bytes))| (0..bytes.len()).map(move |at| (file, at)))
        .collect();
    sweep(cuts.len(), |case, dir| {
        let (file, length) = cuts[case];
        let (name, whole) = &files.0[file];
        if !dir.exists() {
            files.put(dir);
        }
        let path = dir.join(name);
        fs::write(&path, &whole[..length]).unwrap();
        let summary = read(dir).unwrap();
        assert!(!summary.damages.is_empty(), "{name} cut to {length}");
        if length % 256 == 0 {
            reported(dir, position, &format!("{name} cut to {length}"));
        }
        fs::write(&path, whole).unwrap();
    });
}

/// Where frames begin and end in a file.
fn frames(dir: &Path, file: usize) -> Vec<(usize, usize)> {
    let segment = u32::try_from(file + 1).unwrap();
    let mut ends: Vec<usize> = Vec::new();
    let mut collect = |frame: Frame| {
        if frame.tip.segment == segment {
            ends.push(usize::try_from(frame.tip.offset).unwrap());
        }
        Ok(())
    };
    journal::read(dir, Some(ID), &PURE, &mut collect).unwrap();
    let starts = std::iter::once(SEGMENT_HEADER_BYTES).chain(ends.iter().copied());
    starts.zip(ends.clone()).collect()
}

/// The file with its frames in another order, or fewer or more of them.
fn rearranged(whole: &[u8], frames: &[(usize, usize)], order: &[usize]) -> Option<Vec<u8>> {
    let mut bytes = whole[..SEGMENT_HEADER_BYTES].to_vec();
    for &i in order {
        bytes.extend_from_slice(&whole[frames[i].0..frames[i].1]);
    }
    if bytes.len() > whole.len() {
        return None;
    }
    bytes.resize(whole.len(), 0);
    Some(bytes)
}

#[test]
fn frames_that_are_swapped_dropped_or_doubled_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        segment_bytes: 8 << 10,
    };
    let (mut journal, _) =
        Journal::recover(dir.path(), ID, &options, &PURE, None, 0, &mut |_| Ok(())).unwrap();
    append(&mut journal, &[1; 24]);
    let position = journal.tip().position;
    drop(journal);
    let files = Files::take(dir.path());
    let mut cases: Vec<(usize, String, Vec<u8>)> = Vec::new();
    for (file, (name, whole)) in files.0.iter().enumerate() {
        let frames = frames(dir.path(), file);
        let all: Vec<usize> = (0..frames.len()).collect();
        let mut add = |what: String, order: &[usize]| {
            cases.extend(
                rearranged(whole, &frames, order)
                    .map(|bytes| (file, format!("{name}: {what}"), bytes)),
            );
        };
        for i in 0..frames.len() {
            let without: Vec<usize> = all.iter().copied().filter(|&j| j != i).collect();
            add(format!("frame {i} dropped"), &without);
            let mut doubled = all.clone();
            doubled.insert(i, i);
            add(format!("frame {i} doubled"), &doubled);
            add(format!("cut before frame {i}"), &all[..i]);
            for j in i + 1..frames.len() {
                let mut swapped = all.clone();
                swapped.swap(i, j);
                add(format!("frames {i} and {j} swapped"), &swapped);
            }
        }
    }
    assert!(cases.len() > 100, "{}", cases.len());
    sweep(cases.len(), |case, dir| {
        let (file, what, bytes) = &cases[case];
        let mut damaged = files.clone();
        damaged.0[*file].1.clone_from(bytes);
        damaged.put(dir);
        reported(dir, position, what);
    });
}

#[test]
fn segments_that_are_swapped_dropped_doubled_or_older_are_reported() {
    let (files, position) = sample();
    // Other commits, so another chain.
    let older = {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = recover(dir.path(), 0).unwrap();
        append(&mut journal, &[2, 2, 1]);
        Files::take(dir.path())
    };
    type Case<'a> = (&'a str, Vec<(u32, &'a Vec<u8>)>);
    let cases: Vec<Case<'_>> = vec![
        (
            "first dropped",
            vec![(2, &files.0[1].1), (3, &files.0[2].1)],
        ),
        (
            "second dropped",
            vec![(1, &files.0[0].1), (3, &files.0[2].1)],
        ),
        ("last dropped", vec![(1, &files.0[0].1), (2, &files.0[1].1)]),
        (
            "second dropped, the others moved up",
            vec![(1, &files.0[0].1), (2, &files.0[2].1)],
        ),
        (
            "swapped",
            vec![(1, &files.0[1].1), (2, &files.0[0].1), (3, &files.0[2].1)],
        ),
        (
            "last doubled",
            (1..)
                .zip(files.0.iter().map(|file| &file.1))
                .chain([(4, &files.0[2].1)])
                .collect(),
        ),
        (
            "first again as the second",
            vec![(1, &files.0[0].1), (2, &files.0[0].1), (3, &files.0[2].1)],
        ),
        (
            "first is of another history",
            vec![(1, &older.0[0].1), (2, &files.0[1].1), (3, &files.0[2].1)],
        ),
        (
            "an older copy",
            (1..).zip(older.0.iter().map(|file| &file.1)).collect(),
        ),
        ("all gone", vec![]),
    ];
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("journal");
    for (what, segments) in cases {
        Files(
            segments
                .iter()
                .map(|(number, bytes)| (format!("{number:08}.segment"), (*bytes).clone()))
                .collect(),
        )
        .put(&dir);
        reported(&dir, position, what);
    }
}

#[test]
fn damage_names_what_is_lost_and_the_rest_is_still_read() {
    let (files, position) = sample();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("journal");
    files.put(&dir);
    let frames = frames(&dir, 0);
    let path: PathBuf = dir.join(&files.0[0].0);
    let out = OpenOptions::new().write(true).open(&path).unwrap();
    // The second frame of the first segment holds positions 2 to 4.
    out.write_all_at(b"!", frames[1].0 as u64 + 100).unwrap();
    let mut seen = Vec::new();
    let summary = journal::read(&dir, Some(ID), &PURE, &mut |frame| {
        seen.extend(frame.records.iter().map(|record| record.position));
        Ok(())
    })
    .unwrap();
    let damage = &summary.damages[0];
    assert_eq!(summary.damages.len(), 1, "{:?}", summary.damages);
    assert_eq!((&damage.file, damage.offset), (&path, frames[1].0 as u64));
    assert_eq!((damage.first_position, damage.last_position), (2, Some(4)));
    assert_eq!(
        seen,
        std::iter::once(1).chain(5..=position).collect::<Vec<_>>()
    );
    // A start hands on what stands before the damage, and then refuses.
    let mut before = Vec::new();
    let started = Journal::recover(
        &dir,
        ID,
        &Options::default(),
        &PURE,
        None,
        0,
        &mut |frame| {
            before.push(frame.tip.position);
            Ok(())
        },
    );
    let Err(Fault::Damage(started)) = started else {
        panic!("it does not start")
    };
    assert_eq!((started, before), (damage.clone(), vec![1]));
}

#[test]
fn arbitrary_bytes_never_panic() {
    let (files, _) = sample();
    // Headers that are whole, with frames that are anything: real bytes at wrong places are the hardest to refuse.
    let pool: Vec<u8> = files
        .0
        .iter()
        .flat_map(|file| file.1[SEGMENT_HEADER_BYTES..].to_vec())
        .collect();
    sweep(2_000, |case, dir| {
        let mut seed = Sha256::digest(case.to_le_bytes());
        let mut damaged = files.clone();
        for (_, bytes) in &mut damaged.0 {
            let mut at = if case % 2 == 0 {
                SEGMENT_HEADER_BYTES
            } else {
                0
            };
            while at < bytes.len() {
                seed = Sha256::digest(seed);
                let from = usize::from(u16::from_le_bytes([seed[0], seed[1]])) % pool.len();
                let length = usize::from(seed[2])
                    .min(pool.len() - from)
                    .min(bytes.len() - at);
                match seed[3] % 4 {
                    0 => bytes[at..at + length].copy_from_slice(&pool[from..from + length]),
                    1 => bytes[at..at + length].fill(seed[4]),
                    2 => bytes[at] ^= 1 << (seed[4] % 8),
                    _ => {}
                }
                at += usize::from(seed[5]) + 1;
            }
        }
        damaged.put(dir);
        drop(read(dir));
        if case % 10 == 0 {
            drop(recover(dir, 0));
        }
    });
}

#[test]
fn a_tip_is_found_again_at_every_frame() {
    let (files, position) = sample();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("journal");
    files.put(&dir);
    let mut tips: Vec<Tip> = Vec::new();
    journal::read(&dir, Some(ID), &PURE, &mut |frame| {
        tips.push(frame.tip);
        Ok(())
    })
    .unwrap();
    for tip in &tips {
        let mut next = tip.position;
        let options = Options::default();
        let (journal, _) = Journal::recover(
            &dir,
            ID,
            &options,
            &PURE,
            Some(tip),
            position,
            &mut |frame| {
                assert_eq!(frame.records[0].position, next + 1);
                next = frame.tip.position;
                Ok(())
            },
        )
        .unwrap();
        assert_eq!((next, journal.tip()), (position, tips.last().unwrap()));
    }
}
