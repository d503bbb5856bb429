//! A journal that is not what was written, or ends too early: the start takes no events, reads go on, what is lost is named,
//! and a person decides (LEDGER J3, J4).
use std::{fs, path::PathBuf};

use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use waybill_proto::pb::{self, ReadState};
use waybill_tests::process::Home;

use crate::kit::{
    Answers, Bed, Wire, copy, flip, identity, said, segments, serve, verify, waybill,
};

const EVENTS: u64 = 120;

/// A home with a ledger, as it was stopped; how it was half-way, and what it answered at the end.
struct Stopped {
    dir: tempfile::TempDir,
    home: Home,
    ledger_id: String,
    answers: Answers,
}

impl Stopped {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = Home {
            root: dir.path().join("home"),
        };
        fs::create_dir(&home.root).unwrap();
        let half = EVENTS / 2;
        for numbers in [0..half, half..EVENTS] {
            let server = serve(&home);
            let wire = Wire::to(&server);
            for first in numbers.clone().step_by(5) {
                wire.emit(first..first + 5).unwrap();
            }
            let answers = wire.answers(0..numbers.end).unwrap();
            let ledger_id = wire.status().ledger_id;
            assert_eq!(server.stop().unwrap(), Some(0));
            if numbers.end == EVENTS {
                return Self {
                    dir,
                    home,
                    ledger_id,
                    answers,
                };
            }
            copy(&home.root, &dir.path().join("half"));
        }
        unreachable!("the second half ends it")
    }

    fn half(&self) -> PathBuf {
        self.dir.path().join("half")
    }

    /// Puts a part of the home back as it was half-way.
    fn put_back(&self, part: &str) {
        let place = self.home.root.join(part);
        fs::remove_dir_all(&place).unwrap();
        copy(&self.half().join(part), &place);
    }
}

/// An emit is refused for good: only a person can mend it.
fn closed(status: &Status, why: &str) {
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!(info.reason, "NOT_WRITING");
    assert_eq!(info.metadata["may_recover"], "false");
    assert!(
        details.retry_info().is_none() && status.message().contains(why),
        "{status}"
    );
}

/// A place in the middle of the journal's bytes, inside a frame.
fn middle(home: &Home) -> (PathBuf, u64) {
    let segment = segments(home).remove(0);
    let bytes = fs::read(&segment).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    (segment, (4096 + (used - 4096) / 2) as u64)
}

#[test]
fn a_flipped_bit_stops_writing_and_no_read() {
    let it = Stopped::new();
    let (segment, at) = middle(&it.home);
    flip(&segment, 8 * at).unwrap();
    let verified = verify(&it.home, &it.home.data());
    assert_eq!(verified.status.code(), Some(12), "{}", said(&verified));
    assert!(
        said(&verified).contains("00000001.segment"),
        "{}",
        said(&verified)
    );
    assert!(
        said(&verified).contains("positions "),
        "{}",
        said(&verified)
    );

    let server = serve(&it.home);
    let wire = Wire::to(&server);
    assert_eq!(wire.findings(), ["journal_damaged"]);
    assert_eq!(wire.status().emits(), ReadState::Refusing);
    closed(
        &wire.emit(EVENTS..EVENTS + 1).unwrap_err(),
        "is damaged at offset",
    );
    closed(&wire.emit(0..1).unwrap_err(), "is damaged at offset");
    assert_eq!(wire.answers(0..EVENTS).unwrap(), it.answers);
    let unknown = wire.at(EVENTS + 50).unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound, "nothing is lost: {unknown}");
    assert_eq!(server.stop().unwrap(), Some(0));
    let doctor = waybill(&it.home, &["doctor"]);
    assert_eq!(doctor.status.code(), Some(12), "{}", said(&doctor));

    // The mending: the right bytes.
    flip(&segment, 8 * at).unwrap();
    let server = serve(&it.home);
    let wire = Wire::to(&server);
    assert_eq!(wire.findings(), Vec::<String>::new());
    assert_eq!(wire.emit(EVENTS..EVENTS + 1).unwrap(), [EVENTS + 2]);
    server.kill();
}

#[test]
fn without_a_database_what_is_behind_the_damage_is_lost_data_and_never_unknown() {
    let it = Stopped::new();
    let (segment, at) = middle(&it.home);
    flip(&segment, 8 * at).unwrap();
    fs::remove_dir_all(it.home.data().join("sled")).unwrap();
    let server = serve(&it.home);
    let wire = Wire::to(&server);
    closed(
        &wire.emit(0..1).unwrap_err(),
        "the head file knows position 121",
    );
    assert_eq!(wire.at(3).unwrap().position, 3);
    let whole = wire.list(pb::ListEventsRequest {
        filter: Some(pb::EventFilter {
            last_position: 3,
            ..Default::default()
        }),
        ..Default::default()
    });
    assert_eq!(whole.unwrap().len(), 3);
    let all = wire.everything().unwrap_err();
    let by_identity = wire.get(pb::get_event_request::Key::Event(identity(EVENTS - 1)));
    for lost in [all, wire.at(EVENTS).unwrap_err(), by_identity.unwrap_err()] {
        assert_eq!(lost.code(), Code::DataLoss, "{lost}");
        assert!(
            lost.message()
                .contains(&format!("to {} are affected", EVENTS + 1)),
            "{lost}"
        );
    }
    assert_eq!(wire.at(EVENTS + 50).unwrap_err().code(), Code::NotFound);
    server.kill();
}

/// The journal or all of the data directory is older than the head file knows, and so is what it would take.
fn behind_the_head(part: &str) {
    let it = Stopped::new();
    copy(&it.home.root.join(part), &it.dir.path().join("newest"));
    it.put_back(part);
    let server = serve(&it.home);
    let wire = Wire::to(&server);
    let findings = wire.findings();
    assert!(
        findings.contains(&"journal_behind_head".to_owned()),
        "{findings:?}"
    );
    closed(
        &wire.emit(EVENTS..EVENTS + 1).unwrap_err(),
        "the head file knows position 121",
    );
    assert_eq!(wire.at(EVENTS / 2).unwrap().position, EVENTS / 2);
    let lost = wire.at(EVENTS).unwrap_err();
    assert_eq!(lost.code(), Code::DataLoss, "{lost}");
    assert_eq!(server.stop().unwrap(), Some(0));
    let doctor = said(&waybill(&it.home, &["doctor"]));
    assert!(
        doctor.contains("waybill ledger accept-loss --yes"),
        "{doctor}"
    );

    // The mending: the missing tail.
    let place = it.home.root.join(part);
    fs::remove_dir_all(&place).unwrap();
    fs::rename(it.dir.path().join("newest"), &place).unwrap();
    let server = serve(&it.home);
    let wire = Wire::to(&server);
    assert_eq!(wire.answers(0..EVENTS).unwrap(), it.answers);
    assert_eq!(wire.emit(EVENTS..EVENTS + 1).unwrap(), [EVENTS + 2]);
    server.kill();
}

#[test]
fn a_journal_that_ends_before_the_head_takes_nothing_until_it_is_whole() {
    behind_the_head("data/journal");
}

#[test]
fn an_old_copy_of_the_directory_takes_nothing_until_it_is_whole() {
    behind_the_head("data");
}

/// Accepts the loss of the second half and looks at the ledger that goes on; `interrupted` names syncs that fail first, one
/// in each of the tries before.
fn accept_loss(interrupted: &[&str]) {
    let it = Stopped::new();
    it.put_back("data");
    let root: String = it
        .answers
        .root
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let accept = ["ledger", "accept-loss", "--yes", &root];
    let wrong = waybill(
        &it.home,
        &["ledger", "accept-loss", "--yes", &"0".repeat(64)],
    );
    assert!(!wrong.status.success(), "{}", said(&wrong));
    let before = it.ledger_id.clone();
    let bed = Bed::with(it.home.clone(), tempfile::tempdir().unwrap());
    for failing in interrupted {
        let failed = bed.waybill(&[("LOSS_EIO", failing)], &accept);
        assert!(!failed.status.success(), "{failing}: {}", said(&failed));
    }
    let accepted = waybill(&it.home, &accept);
    assert!(
        accepted.status.success(),
        "{interrupted:?}: {}",
        said(&accepted)
    );
    let told = format!("positions {} to {} are lost", EVENTS / 2 + 2, EVENTS + 1);
    assert!(said(&accepted).contains(&told), "{}", said(&accepted));

    let server = serve(&it.home);
    let wire = Wire::to(&server);
    let (status, kept) = (wire.status(), EVENTS / 2 + 1);
    assert_ne!(status.ledger_id, before);
    assert_eq!(wire.findings(), Vec::<String>::new());
    let first = wire.at(kept + 1).unwrap().event.unwrap();
    let Some(pb::event::Payload::Ledger(pb::LedgerEvent {
        event: Some(pb::ledger_event::Event::LossAccepted(loss)),
    })) = first.payload
    else {
        panic!("its first event is {first:?}");
    };
    assert_eq!(loss.previous_ledger_id, before);
    assert_eq!(
        (loss.last_kept_position, loss.lost_position),
        (kept, EVENTS + 1)
    );
    assert_eq!(loss.lost_root, it.answers.root);
    // What was lost can be said again, once.
    let next = kept + 2;
    assert_eq!(
        wire.emit(EVENTS / 2 - 1..EVENTS / 2 + 1).unwrap(),
        [kept, next]
    );
    assert_eq!(server.stop().unwrap(), Some(0));
    let verified = verify(&it.home, &it.home.data());
    assert!(verified.status.success(), "{}", said(&verified));
    let again = waybill(&it.home, &accept);
    assert!(
        !again.status.success(),
        "nothing is lost any more: {}",
        said(&again)
    );
}

#[test]
fn whoever_accepts_a_loss_gets_a_new_ledger_that_names_the_old_one() {
    accept_loss(&[]);
}

/// The journal has the new id, the ids have not; both have, and the event is missing; all but the head file is done.
#[test]
fn a_loss_that_was_half_accepted_is_accepted_by_the_next_try() {
    accept_loss(&["/ledger.new", "00000002.segment:1", "/head.new"]);
}
