use std::{fs, path::Path};

use proptest::prelude::*;
use waybill_core::Time;

use super::*;

fn refusal(word: &str) -> Entry {
    Entry {
        number: 0,
        time: Time::try_new(1_700_000_000, 0).unwrap(),
        code: word.to_owned(),
        field: "event.id".to_owned(),
        value: "x".to_owned(),
        rule: "must not be empty".to_owned(),
        hint: "give it one".to_owned(),
        source: "ci".to_owned(),
        id: String::new(),
        kind: "build.finished".to_owned(),
        sender: "ci".to_owned(),
        body_digest: [3; 32],
        body_size: 5,
        body: b"bytes".to_vec(),
    }
}

fn open(dir: &Path) -> SideLog {
    SideLog::with_file_bytes(dir, 1000).unwrap()
}

fn numbers(log: &SideLog, before: Option<u64>, limit: usize) -> Vec<u64> {
    log.newest(before, limit)
        .unwrap()
        .iter()
        .map(|entry| entry.number)
        .collect()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

#[test]
fn entries_come_back_newest_first_page_by_page() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    assert_eq!(numbers(&log, None, 10), Vec::<u64>::new());
    for word in ["a", "b", "a", "c", "a"] {
        log.append(refusal(word)).unwrap();
    }
    log.sync().unwrap();
    for log in [log, open(dir.path())] {
        assert_eq!(numbers(&log, None, 2), [5, 4]);
        assert_eq!(numbers(&log, Some(4), 2), [3, 2]);
        assert_eq!(numbers(&log, Some(2), 2), [1]);
        assert_eq!(numbers(&log, Some(1), 2), Vec::<u64>::new());
        assert_eq!(numbers(&log, None, 0), Vec::<u64>::new());
        assert_eq!(
            log.newest(None, 1).unwrap(),
            [Entry {
                number: 5,
                ..refusal("a")
            }]
        );
        assert_eq!((log.total_count(), log.counts()["a"]), (5, 3));
    }
}

#[test]
fn the_oldest_go_and_the_counts_stay() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    for i in 0..100_u64 {
        assert_eq!(
            log.append(refusal(if i % 4 == 0 { "rare" } else { "often" }))
                .unwrap(),
            i + 1
        );
    }
    assert_eq!(files(dir.path()).len(), FILES_MAX);
    for log in [log, open(dir.path())] {
        let kept = numbers(&log, None, 1000);
        assert!(kept.len() < 30 && kept.first() == Some(&100), "{kept:?}");
        assert!(
            kept.windows(2).all(|pair| pair[0] == pair[1] + 1),
            "{kept:?}"
        );
        assert_eq!(
            (
                log.total_count(),
                log.counts()["rare"],
                log.counts()["often"]
            ),
            (100, 25, 75)
        );
    }
}

#[test]
fn large_texts_and_bodies_are_cut() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    let large = Entry {
        value: "é".repeat(1000),
        body: vec![7; 10_000],
        ..refusal("a")
    };
    log.append(large).unwrap();
    let entry = log.newest(None, 1).unwrap().remove(0);
    assert_eq!(
        (entry.value, entry.body),
        ("é".repeat(512), vec![7; BODY_BYTES_MAX])
    );
}

#[test]
fn a_torn_end_costs_its_entry_and_is_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = SideLog::open(dir.path()).unwrap();
    for word in ["a", "b", "c"] {
        log.append(refusal(word)).unwrap();
    }
    drop(log);
    let path = files(dir.path()).remove(0);
    let whole = fs::read(&path).unwrap();
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let mut log = SideLog::open(dir.path()).unwrap();
        let kept = log.total_count();
        assert!(kept < 3);
        log.append(refusal("d")).unwrap();
        drop(log);
        let log = SideLog::open(dir.path()).unwrap();
        assert_eq!(
            log.newest(None, 10).unwrap().len() as u64,
            kept + 1,
            "cut to {cut}"
        );
    }
}

#[test]
fn a_full_disk_loses_entries_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    log.append(refusal("a")).unwrap();
    fs::remove_dir_all(dir.path()).unwrap();
    // Beginning the next file fails from here on; the entries that fill this one are still counted.
    let failed = (0..10)
        .filter(|_| log.append(refusal("a")).is_err())
        .count();
    assert!(failed > 0);
    assert_eq!(log.total_count(), 11);
    fs::create_dir(dir.path()).unwrap();
    log.append(refusal("a")).unwrap();
    assert_eq!(open(dir.path()).total_count(), 12);
}

proptest! {
    #[test]
    fn arbitrary_files_never_panic(contents in any::<Vec<Vec<u8>>>()) {
        let dir = tempfile::tempdir().unwrap();
        for (i, content) in contents.iter().take(3).enumerate() {
            fs::write(dir.path().join(format!("{i:08}.refusals")), content).unwrap();
        }
        let mut log = open(dir.path());
        log.append(refusal("a")).unwrap();
        prop_assert_eq!(log.newest(None, 10).unwrap().len(), 1);
    }

    #[test]
    fn flipped_bits_never_show_a_wrong_entry(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let dir = tempfile::tempdir().unwrap();
        let mut log = SideLog::open(dir.path()).unwrap();
        for word in ["a", "b", "c"] {
            log.append(refusal(word)).unwrap();
        }
        drop(log);
        let path = files(dir.path()).remove(0);
        let mut bytes = fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        fs::write(&path, bytes).unwrap();
        for entry in SideLog::open(dir.path()).unwrap().newest(None, 10).unwrap() {
            prop_assert_eq!(&entry, &Entry { number: entry.number, ..refusal(&entry.code) });
        }
    }
}
