//! The page is enough: a reader in another language, written from it alone, sees what we see.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use waybill_core::Time;
use waybill_store::{
    Hash, Keys, Pure, Record, Verdict,
    journal::{Journal, Options},
};

const ID: &str = "example.com/ledger";
const PURE: Pure = Pure {
    leaf,
    index: |_| Keys::default(),
};

/// The leaf hash of `crates/tlog/README.md`, by hand: this crate does not know that one.
fn leaf(record: &Record) -> Hash {
    let text = |text: &str| {
        [
            &u32::try_from(text.len()).unwrap().to_be_bytes(),
            text.as_bytes(),
        ]
        .concat()
    };
    let mut headers = record.headers.clone();
    headers.sort();
    let mut kept = text(&record.subject);
    kept.extend_from_slice(&u32::try_from(headers.len()).unwrap().to_be_bytes());
    for (name, value) in &headers {
        kept.extend([text(name), text(value)].concat());
    }
    let salt = record.salt.map(Vec::from).unwrap_or_default();
    let mut leaf = vec![0, 1];
    leaf.extend_from_slice(&record.epoch.to_be_bytes());
    leaf.extend_from_slice(&record.stream_sequence.to_be_bytes());
    leaf.extend_from_slice(&record.record_time.nanos().to_be_bytes());
    leaf.extend_from_slice(&Sha256::digest(&kept));
    leaf.push(u8::from(record.salt.is_some()));
    leaf.extend_from_slice(&Sha256::digest([&salt, &record.bytes[..]].concat()));
    Sha256::digest(leaf).into()
}

/// RFC 6962, section 2.1.
fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Sha256::digest([]).into(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            Sha256::digest([&[1][..], &root(left), &root(right)].concat()).into()
        }
    }
}

/// Records of all shapes: long and short, salted or not, with and without subject and headers.
fn record(position: u64) -> Record {
    let digest: Hash = Sha256::digest(position.to_le_bytes()).into();
    let repeats = usize::try_from(position * 37 % 60).unwrap();
    Record {
        position,
        record_time: Time::from_nanos_clamped(1_700_000_000_000_000_000 + i128::from(position)),
        epoch: u32::try_from(position / 20).unwrap(),
        stream_sequence: position * 1_000,
        salt: (!position.is_multiple_of(3)).then(|| digest[..16].try_into().unwrap()),
        subject: if position.is_multiple_of(4) {
            "waybill.events.v1.acme".to_owned()
        } else {
            String::new()
        },
        headers: match position % 5 {
            0 => vec![
                ("ce-source".to_owned(), "é".repeat(200)),
                ("Waybill-Sender".to_owned(), "ci".to_owned()),
            ],
            _ => Vec::new(),
        },
        verdict: Verdict::Admitted,
        rules_version: 1,
        source: Arc::from("ci"),
        id: Arc::from(format!("run-{position}")),
        kind: Arc::from("build.finished"),
        flags: 0,
        bytes: Bytes::from([&digest[..], &b"again and again ".repeat(repeats)].concat()),
    }
}

fn python(dir: &Path) -> Output {
    let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/journal_reader.py");
    Command::new("python3")
        .arg(reader)
        .arg(dir)
        .output()
        .expect("python3 is installed")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A journal of several segments, and what its reader must print.
fn write(dir: &Path, commits: u64) -> String {
    let options = Options {
        segment_bytes: 10 << 10,
    };
    let (mut journal, _) =
        Journal::recover(dir, ID, &options, &PURE, None, 0, &mut |_| Ok(())).unwrap();
    let mut leaves = Vec::new();
    for commit in 0..commits {
        let first = journal.tip().position + 1;
        let records: Vec<_> = (first..=first + commit % 7).map(record).collect();
        let new: Vec<_> = records.iter().map(leaf).collect();
        journal.append(&records, &new).unwrap();
        leaves.extend(new);
        if commit == 12 {
            journal.rename("example.com/second").unwrap();
        }
    }
    let tip = journal.tip();
    let id = if commits > 12 {
        "example.com/second"
    } else {
        ID
    };
    format!(
        "ledger {id}\nposition {}\nchain {}\nroot {}\n",
        tip.position,
        hex(&tip.chain),
        hex(&root(&leaves))
    )
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
}

#[test]
fn it_prints_the_same_position_chain_and_root() {
    for commits in [0, 1, 2, 40] {
        let dir = tempfile::tempdir().unwrap();
        let expected = write(dir.path(), commits);
        let output = python(dir.path());
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success(),
            "{commits}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(printed, expected, "{commits} commits");
    }
}

#[test]
fn it_reports_damage() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 40);
    let paths = segments(dir.path());
    assert!(paths.len() > 2, "{paths:?}");
    for (path, at) in [
        (0, 17),
        (0, 4_095),
        (0, 4_100),
        (0, 6_000),
        (1, 8),
        (1, 5_000),
        (0, 10_239),
    ] {
        let whole = fs::read(&paths[path]).unwrap();
        let mut flipped = whole.clone();
        flipped[at] ^= 4;
        fs::write(&paths[path], flipped).unwrap();
        let output = python(dir.path());
        assert_eq!(output.status.code(), Some(1), "segment {path}, byte {at}");
        assert!(
            output.stdout.is_empty() && output.stderr.starts_with(b"damaged: "),
            "segment {path}, byte {at}"
        );
        fs::write(&paths[path], whole).unwrap();
    }
    fs::remove_file(&paths[1]).unwrap();
    assert_eq!(python(dir.path()).status.code(), Some(1));
}

#[test]
fn it_tells_of_a_torn_write() {
    let dir = tempfile::tempdir().unwrap();
    let expected = write(dir.path(), 2);
    let path = segments(dir.path()).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1;
    bytes[end..end + 3].copy_from_slice(b"zzz");
    fs::write(&path, bytes).unwrap();
    let output = python(dir.path());
    assert_eq!(
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap()
        ),
        (Some(0), expected)
    );
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("a torn write of 3 bytes")
    );
}
