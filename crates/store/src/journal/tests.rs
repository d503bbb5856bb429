use std::{fs, fs::File, path::Path, sync::Arc};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use waybill_core::Time;

use super::{
    segment::{Reason, Segment},
    *,
};
use crate::{
    codec,
    fault::Fault,
    record::{Keys, Pure, Verdict},
};

const ID: &str = "example.com/ledger";
const PURE: Pure = Pure {
    leaf,
    index: |_| Keys::default(),
};
const SMALL: Options = Options {
    segment_bytes: 16 << 10,
};

fn leaf(record: &Record) -> Hash {
    let mut bytes = Vec::new();
    codec::encode(record, &mut bytes);
    Sha256::digest(&bytes).into()
}

/// Records that hold `words`, from `first` on.
fn records(first: u64, words: &[&str]) -> Vec<Record> {
    words
        .iter()
        .zip(first..)
        .map(|(word, position)| Record {
            position,
            record_time: Time::from_nanos_clamped(i128::from(position) * 1_000),
            epoch: 0,
            stream_sequence: 0,
            salt: None,
            subject: String::new(),
            headers: Vec::new(),
            verdict: Verdict::Admitted,
            rules_version: 1,
            source: Arc::from("ci"),
            id: Arc::from(format!("id-{position}")),
            kind: Arc::from("build.finished"),
            flags: 0,
            bytes: Bytes::copy_from_slice(word.as_bytes()),
        })
        .collect()
}

fn append(journal: &mut Journal, words: &[&str]) -> Result<Tip, Fault> {
    let records = records(journal.tip().position + 1, words);
    let leaves: Vec<_> = records.iter().map(leaf).collect();
    journal.append(&records, &leaves)
}

/// Opens, and gives the words it visited.
fn open(
    dir: &Path,
    from: Option<&Tip>,
    known: u64,
) -> Result<(Journal, Recovery, Vec<String>), Fault> {
    let mut words = Vec::new();
    let mut visit = |frame: Frame| {
        words.extend(
            frame
                .records
                .iter()
                .map(|record| String::from_utf8(record.bytes.to_vec()).unwrap()),
        );
        Ok(())
    };
    let (journal, recovery) = Journal::recover(dir, ID, &SMALL, &PURE, from, known, &mut visit)?;
    Ok((journal, recovery, words))
}

fn reading(dir: &Path) -> Summary {
    read(dir, Some(ID), &PURE, &mut |_| Ok(())).unwrap()
}

/// Makes every write fail, as a disk does that has gone read-only.
fn break_disk(journal: &mut Journal) {
    journal.segment.file = File::open(&journal.segment.path).unwrap();
}

fn overwrite(path: &Path, offset: u64, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    File::options()
        .write(true)
        .open(path)
        .unwrap()
        .write_all_at(bytes, offset)
        .unwrap();
}

/// 3000 bytes that do not compress.
fn noise(seed: u8) -> String {
    let mut hash = [seed; 32];
    std::iter::repeat_with(|| {
        hash = Sha256::digest(hash).into();
        hash.iter()
            .map(|byte| char::from(33 + byte % 90))
            .collect::<String>()
    })
    .take(94)
    .collect()
}

#[test]
fn what_was_appended_is_visited_in_order_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, recovery, words) = open(dir.path(), None, 0).unwrap();
    assert_eq!(
        (recovery, words.len(), journal.tip().position),
        (Recovery::default(), 0, 0)
    );
    let first = append(&mut journal, &["a"]).unwrap();
    let second = append(&mut journal, &["b", "c"]).unwrap();
    let bytes = journal.bytes();
    drop(journal);

    let (journal, recovery, words) = open(dir.path(), None, 3).unwrap();
    assert_eq!(words, ["a", "b", "c"]);
    assert_eq!(
        (recovery.frames, recovery.records, recovery.torn),
        (2, 3, None)
    );
    assert_eq!((journal.tip(), journal.bytes()), (&second, bytes));
    drop(journal);
    let (_, _, words) = open(dir.path(), Some(&first), 3).unwrap();
    assert_eq!(words, ["b", "c"]);
    let (_, _, words) = open(dir.path(), Some(&second), 3).unwrap();
    assert!(words.is_empty());
    let summary = reading(dir.path());
    assert_eq!(
        (summary.records, summary.tip, summary.damages),
        (3, second, vec![])
    );
}

#[test]
fn a_full_segment_is_followed_by_the_next_and_is_not_opened_for_the_tail() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(dir.path(), None, 0).unwrap();
    let tips: Vec<Tip> = (0..12)
        .map(|i| append(&mut journal, &[&noise(i)]).unwrap())
        .collect();
    assert_eq!(tips[11].segment, 4, "{tips:?}");
    drop(journal);
    let (_, recovery, words) = open(dir.path(), None, 12).unwrap();
    assert_eq!((recovery.frames, words.len()), (12, 12));
    // Sealed segments before the tip are not looked at.
    fs::write(dir.path().join("00000001.segment"), "gone").unwrap();
    for (i, tip) in tips.iter().enumerate().filter(|(_, tip)| tip.segment > 1) {
        let (journal, _, words) = open(dir.path(), Some(tip), 12).unwrap();
        assert_eq!((words.len(), journal.tip()), (11 - i, &tips[11]));
    }
    assert!(matches!(open(dir.path(), None, 12), Err(Fault::Damage(_))));
}

#[test]
fn a_commit_larger_than_a_segment_gets_one_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(dir.path(), None, 0).unwrap();
    let large: Vec<String> = (0..20).map(noise).collect();
    append(
        &mut journal,
        &large.iter().map(String::as_str).collect::<Vec<_>>(),
    )
    .unwrap();
    append(&mut journal, &["small"]).unwrap();
    drop(journal);
    assert_eq!(open(dir.path(), None, 21).unwrap().2.len(), 21);
}

#[test]
fn a_commit_larger_than_a_frame_is_refused_and_nothing_stops() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(dir.path(), None, 0).unwrap();
    let large = "x".repeat(FRAME_RAW_BYTES_MAX);
    assert!(matches!(
        append(&mut journal, &[&large]),
        Err(Fault::TooLarge { .. })
    ));
    append(&mut journal, &["small"]).unwrap();
}

#[test]
fn a_torn_write_is_set_aside_reported_once_and_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(dir.path(), None, 0).unwrap();
    let first = append(&mut journal, &["a"]).unwrap();
    append(&mut journal, &["torn"]).unwrap();
    let path = journal.segment.path.clone();
    drop(journal);
    // The last byte of the second frame never reached the disk.
    let whole = fs::read(&path).unwrap();
    let last = whole.iter().rposition(|&byte| byte != 0).unwrap();
    overwrite(&path, last as u64, &[0]);
    assert!(reading(dir.path()).torn);
    assert!(
        matches!(open(dir.path(), None, 2), Err(Fault::Damage(_))),
        "the head knows better"
    );

    let (mut journal, recovery, words) = open(dir.path(), None, 1).unwrap();
    let torn = recovery.torn.unwrap();
    assert_eq!(
        (words, torn.segment, torn.offset, torn.last_position),
        (vec!["a".to_owned()], 1, first.offset, 1)
    );
    let start = usize::try_from(first.offset).unwrap();
    assert!(fs::read(&torn.kept_aside).unwrap() == whole[start..last]);
    append(&mut journal, &["b"]).unwrap();
    drop(journal);
    let (_, recovery, words) = open(dir.path(), None, 2).unwrap();
    assert_eq!((recovery.torn, words.join(" ")), (None, "a b".to_owned()));
}

#[test]
fn bytes_far_behind_the_last_frame_are_damage() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        segment_bytes: 32 << 20,
    };
    let open = || Journal::recover(dir.path(), ID, &options, &PURE, None, 0, &mut |_| Ok(()));
    let (mut journal, _) = open().unwrap();
    let tip = append(&mut journal, &["a"]).unwrap();
    let path = journal.segment.path.clone();
    drop(journal);
    let edge = tip.offset + FRAME_BYTES_MAX as u64;
    overwrite(&path, edge, &[1]);
    let Err(Fault::Damage(damage)) = open() else {
        panic!("damage is refused")
    };
    assert_eq!((damage.offset, damage.first_position), (tip.offset, 2));
    assert_eq!(reading(dir.path()).damages, [damage]);
    overwrite(&path, edge, &[0]);
    overwrite(&path, edge - 1, &[1]);
    assert!(open().unwrap().1.torn.is_some());
}

#[test]
fn after_an_error_nothing_is_written_until_it_goes_on_in_a_new_segment() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(dir.path(), None, 0).unwrap();
    append(&mut journal, &["a"]).unwrap();
    // The second commit reaches the disk, but its sync fails: nobody gets a receipt.
    let durable = journal.tip().clone();
    append(&mut journal, &["left behind"]).unwrap();
    journal.tip = durable.clone();
    break_disk(&mut journal);
    assert!(matches!(
        append(&mut journal, &["b"]),
        Err(Fault::Io { .. })
    ));
    assert!(matches!(
        append(&mut journal, &["b"]),
        Err(Fault::Stopped { .. })
    ));
    journal.reopen().unwrap();
    assert_eq!((journal.tip().position, journal.tip().segment), (1, 2));
    append(&mut journal, &["b"]).unwrap();
    drop(journal);
    let (_, _, words) = open(dir.path(), None, 2).unwrap();
    assert_eq!(words, ["a", "b"]);
    assert_eq!(reading(dir.path()).damages, []);
    // Whoever took in what was left behind must be rebuilt.
    let left = Tip {
        position: 2,
        offset: durable.offset + 1,
        ..durable
    };
    assert!(matches!(
        open(dir.path(), Some(&left), 2),
        Err(Fault::Suspect { .. })
    ));
}

#[test]
fn trying_again_and_again_takes_one_segment() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(dir.path(), None, 0).unwrap();
    append(&mut journal, &["a"]).unwrap();
    for _ in 0..5 {
        break_disk(&mut journal);
        append(&mut journal, &["b"]).unwrap_err();
        journal.reopen().unwrap();
    }
    append(&mut journal, &["b"]).unwrap();
    assert_eq!(segment::list(dir.path()).unwrap(), [1, 2]);
    drop(journal);
    assert_eq!(open(dir.path(), None, 2).unwrap().2, ["a", "b"]);
}

#[test]
fn a_tip_of_another_history_is_not_of_this_journal() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(dir.path(), None, 0).unwrap();
    let tip = append(&mut journal, &["a"]).unwrap();
    drop(journal);
    let wrong = [
        Tip {
            position: 2,
            ..tip.clone()
        },
        Tip {
            chain: [1; 32],
            ..tip.clone()
        },
        Tip {
            offset: tip.offset - 1,
            ..tip.clone()
        },
        Tip {
            offset: u64::MAX,
            ..tip.clone()
        },
        Tip {
            segment: 2,
            ..tip.clone()
        },
        Tip {
            segment: 0,
            ..tip.clone()
        },
    ];
    for tip in wrong {
        assert!(
            matches!(open(dir.path(), Some(&tip), 0), Err(Fault::Suspect { .. })),
            "{tip:?}"
        );
    }
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(
        open(empty.path(), Some(&tip), 0),
        Err(Fault::Suspect { .. })
    ));
    assert!(matches!(open(empty.path(), None, 1), Err(Fault::Damage(_))));
}

#[test]
fn another_ledger_is_refused_and_a_renamed_one_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(dir.path(), None, 0).unwrap();
    append(&mut journal, &["a"]).unwrap();
    journal.rename("example.com/second").unwrap();
    append(&mut journal, &["b"]).unwrap();
    drop(journal);
    assert!(matches!(
        open(dir.path(), None, 0),
        Err(Fault::Foreign { .. })
    ));
    let second = read(dir.path(), Some("example.com/second"), &PURE, &mut |_| {
        Ok(())
    })
    .unwrap();
    assert_eq!((second.records, second.damages), (2, vec![]));
    // A segment of another ledger that was put in its place says no such thing.
    let last = Segment::open(dir.path(), 2, true, 1).unwrap();
    let forged = segment::Header {
        reason: Reason::Full,
        ..last.header
    };
    Segment::create(dir.path(), forged).unwrap();
    let damaged = read(dir.path(), None, &PURE, &mut |_| Ok(())).unwrap();
    assert_eq!(damaged.damages.len(), 1, "{:?}", damaged.damages);
}

#[test]
fn an_unknown_version_is_not_taken_for_damage_and_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), None, 0).unwrap());
    let path = dir.path().join("00000001.segment");
    let mut header = fs::read(&path).unwrap()[..segment::HEADER_BYTES].to_vec();
    header[8] = 2;
    let crc = crc32c::crc32c(&header[..segment::HEADER_BYTES - 4]);
    header[segment::HEADER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
    overwrite(&path, 0, &header);
    let before = fs::read(&path).unwrap();
    let Err(Fault::Foreign { what }) = open(dir.path(), None, 0) else {
        panic!("it is refused")
    };
    assert!(what.contains("version 2"), "{what}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn an_unfinished_segment_is_cleared_away() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(dir.path(), None, 0).unwrap();
    append(&mut journal, &["a"]).unwrap();
    drop(journal);
    let unfinished = dir.path().join("00000002.segment.new");
    fs::write(&unfinished, "half a header").unwrap();
    assert_eq!(open(dir.path(), None, 1).unwrap().2, ["a"]);
    assert!(!unfinished.exists());
}

#[test]
fn a_segment_that_cannot_be_begun_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(dir.path(), None, 0).unwrap();
    append(&mut journal, &["a"]).unwrap();
    let header = segment::Header {
        bytes: 1 << 62,
        ..segment::Header::new(Reason::Full, 2, 0, journal.tip().clone(), ID)
    };
    assert!(matches!(
        Segment::create(dir.path(), header),
        Err(Fault::Io { .. })
    ));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    append(&mut journal, &["b"]).unwrap();
}

#[test]
fn odd_segment_sizes_work() {
    for segment_bytes in [0, 1, 4_096, 4_097] {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { segment_bytes };
        let open = || Journal::recover(dir.path(), ID, &options, &PURE, None, 0, &mut |_| Ok(()));
        let (mut journal, _) = open().unwrap();
        for word in ["a", "b", "c"] {
            append(&mut journal, &[word]).unwrap();
        }
        drop(journal);
        assert_eq!(open().unwrap().1.records, 3, "{segment_bytes}");
    }
}

/// Version 1 as released: a reader of these bytes must give this journal for ever.
#[test]
fn golden_v1() {
    let dir = tempfile::tempdir().unwrap();
    let golden = include_bytes!("golden_v1.bin");
    let mut file = golden.to_vec();
    file.resize(SMALL.segment_bytes.try_into().unwrap(), 0);
    fs::write(dir.path().join("00000001.segment"), &file).unwrap();
    let (journal, _, words) = open(dir.path(), None, 0).unwrap();
    assert_eq!(
        words,
        ["a", &"b".repeat(300)],
        "one frame stored, one compressed"
    );
    assert_eq!(journal.tip().position, 2);

    // And today's writer writes them, byte for byte.
    let again = tempfile::tempdir().unwrap();
    let header = segment::Header {
        mark: *b"mark-v1.",
        ..segment::Header::new(Reason::Full, 1, SMALL.segment_bytes, walk::beginning(), ID)
    };
    let segment = Segment::create(again.path(), header).unwrap();
    let mut journal = Journal {
        dir: again.path().to_owned(),
        tip: segment.header.start(),
        segment,
        ..journal
    };
    append(&mut journal, &["a"]).unwrap();
    append(&mut journal, &[&"b".repeat(300)]).unwrap();
    assert!(
        fs::read(&journal.segment.path).unwrap() == file,
        "today's bytes are other ones"
    );
}
