//! sled is the database: after the start no question opens a segment of the journal, and a start with a healthy sled reads
//! the journal's tail alone (LEDGER S1, S2, J1).
use std::{fs, os::unix::fs::FileExt as _, path::Path};

use tonic::Code;
use waybill_proto::pb::ReadState;
use waybill_tests::process::Server;

use crate::kit::{Answers, Bed, Wire, said, segments, verify};

const EVENTS: u64 = 150;
/// Segments of the ledger; each but the last holds 40 events or so.
const SEGMENTS: usize = 4;

/// A ledger with several segments, for each failed sync begins one; stopped cleanly.
fn several_segments() -> (Bed, Answers) {
    let bed = Bed::new();
    let rules = "00000001.segment:6,00000002.segment:6,00000003.segment:6";
    let server = bed.serve(&[("LOSS_EIO", rules)]).unwrap();
    let wire = Wire::to(&server);
    for first in (0..EVENTS).step_by(10) {
        wire.emit_at_last(first..first + 10);
    }
    let answers = wire.answers(0..EVENTS).unwrap();
    assert_eq!(server.stop().unwrap(), Some(0));
    assert_eq!(segments(&bed.home).len(), SEGMENTS);
    (bed, answers)
}

/// Files of the journal that a process has open.
fn open_segments(server: &Server) -> Vec<String> {
    let files = fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap();
    let paths = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    let names = paths.map(|path| path.to_string_lossy().into_owned());
    names.filter(|name| name.contains(".segment")).collect()
}

#[test]
fn after_the_start_no_question_opens_a_sealed_segment() {
    let (bed, answers) = several_segments();
    let server = bed.serve(&[]).unwrap();
    let wire = Wire::to(&server);
    let away = bed.dir.path().join("away");
    fs::create_dir(&away).unwrap();
    let sealed = &segments(&bed.home)[..SEGMENTS - 1];
    for segment in sealed {
        fs::rename(segment, away.join(segment.file_name().unwrap())).unwrap();
    }
    let open = open_segments(&server);
    assert!(
        open.len() == 1 && open[0].ends_with("00000004.segment"),
        "{open:?}"
    );

    assert_eq!(wire.answers(0..EVENTS).unwrap(), answers);
    for first in (0..EVENTS).step_by(50) {
        let positions: Vec<u64> = (first + 2..first + 52).collect();
        assert_eq!(wire.emit(first..first + 50).unwrap(), positions);
    }
    assert_eq!(wire.emit(EVENTS..EVENTS + 1).unwrap(), [EVENTS + 2]);
    assert_eq!(server.stop().unwrap(), Some(0));
}

/// Overwrites a segment's frames, keeping its header: whoever reads a frame of it finds damage.
fn spoil(segment: &Path) {
    let file = fs::OpenOptions::new().write(true).open(segment).unwrap();
    file.write_all_at(&[0xEE; 64], 4096 + 76).unwrap();
}

#[test]
fn a_start_with_a_healthy_database_reads_the_tail_and_one_without_finds_the_damage() {
    let (bed, answers) = several_segments();
    let segments = segments(&bed.home);
    spoil(&segments[1]);
    let server = bed.serve(&[]).unwrap();
    let wire = Wire::to(&server);
    assert_eq!(wire.findings(), Vec::<String>::new());
    assert_eq!(wire.answers(0..EVENTS).unwrap(), answers);
    assert_eq!(wire.emit(EVENTS..EVENTS + 1).unwrap(), [EVENTS + 2]);
    assert_eq!(server.stop().unwrap(), Some(0));

    let verified = verify(&bed.home, &bed.home.data());
    assert_eq!(verified.status.code(), Some(12), "{}", said(&verified));
    assert!(
        said(&verified).contains("00000002.segment"),
        "{}",
        said(&verified)
    );

    fs::remove_dir_all(bed.home.data().join("sled")).unwrap();
    let server = bed.serve(&[]).unwrap();
    let wire = Wire::to(&server);
    assert!(
        wire.findings().contains(&"journal_damaged".to_owned()),
        "{:?}",
        wire.findings()
    );
    assert_eq!(wire.status().emits(), ReadState::Refusing);
    assert!(wire.emit(0..1).is_err());
    assert_eq!(wire.at(5).unwrap().position, 5);
    let lost = wire.at(EVENTS).unwrap_err();
    assert_eq!(lost.code(), Code::DataLoss, "{lost}");
    server.kill();
}
