//! A sync that fails: no receipt for what was under way, reads go on, writing goes on behind what is known to be on disk,
//! and after a loss of power every receipt is there once (LEDGER J5).
use tonic::Code;
use tonic_types::StatusExt as _;
use waybill_proto::pb::ReadState;
use waybill_tests::{
    history::{self, Emitter},
    load,
};

use crate::kit::{Bed, EMITTER, Wire, segments};

/// Emits 24 batches, each until it has receipts; how many refusals there were on the way.
fn emit_through(wire: &Wire, emitter: &mut Emitter) -> u32 {
    let mut refused = 0;
    for first in (0..120).step_by(5) {
        emitter.sent = first + 5;
        let positions = loop {
            match wire.emit(first..first + 5) {
                Ok(positions) => break positions,
                Err(status) => {
                    assert_eq!(status.code(), Code::Unavailable, "{status}");
                    let details = status.get_error_details();
                    assert_eq!(details.error_info().unwrap().reason, "NOT_WRITING");
                    assert!(
                        details.retry_info().is_some()
                            && status.message().contains("Input/output error"),
                        "{status}"
                    );
                    // What has receipts is read while nothing is written.
                    let status = wire.status();
                    assert_eq!(status.emits(), ReadState::Refusing);
                    assert!(
                        status.emits_reason.contains("Input/output error"),
                        "{}",
                        status.emits_reason
                    );
                    let held = wire.everything().unwrap();
                    assert_eq!(held.len() as u64, first + 1);
                    refused += 1;
                }
            }
        };
        emitter.acked.extend((first..).zip(positions));
    }
    refused
}

/// Emits past failing syncs, cuts the power, and looks whether every receipt is there, once.
fn check(rules: &str, refusals: u32, segment_count: usize) {
    let bed = Bed::new();
    let server = bed.serve(&[("LOSS_EIO", rules)]).unwrap();
    let wire = Wire::to(&server);
    let mut emitter = Emitter::default();
    assert_eq!(emit_through(&wire, &mut emitter), refusals, "{rules}");
    assert_eq!(wire.status().emits(), ReadState::Serving, "{rules}");
    assert_eq!(segments(&bed.home).len(), segment_count, "{rules}");
    let answers = wire.answers(0..120).unwrap();
    bed.cut(server);

    let server = bed.serve(&[]).unwrap();
    let wire = Wire::to(&server);
    assert_eq!(wire.answers(0..120).unwrap(), answers, "{rules}");
    let held = wire.everything().unwrap();
    let held: Vec<_> = held
        .iter()
        .map(|it| (it.position, load::held(it)))
        .collect();
    assert_eq!(EMITTER, 0, "the first of the emitters that are judged");
    assert_eq!(history::judge(&[emitter], &held), [], "{rules}");
    assert_eq!(wire.emit(119..121).unwrap(), [121, 122], "{rules}");
    server.kill();
}

#[test]
fn a_commit_that_cannot_be_synced_has_no_receipt_and_the_next_goes_elsewhere() {
    // The first two syncs of a segment are of its header and of the ledger's own first event.
    check("00000001.segment:9", 1, 2);
    // Again and again; a segment that holds nothing durable yet is begun anew.
    let rules = "00000001.segment:3,00000002.segment:2,00000002.segment:9,00000003.segment:2";
    check(rules, 4, 3);
}

#[test]
fn a_segment_that_cannot_be_begun_is_tried_again() {
    check("00000001.segment:5,00000002.segment:1", 2, 2);
    check("00000001.segment:5,=journal:2", 2, 2);
}

#[test]
fn a_head_file_or_a_database_that_cannot_be_synced_stops_nobody() {
    check("/head,sled/db", 0, 1);
}
