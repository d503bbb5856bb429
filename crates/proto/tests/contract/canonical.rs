//! The canonical form: what does not change it, and what does.
use prost::Message;
use waybill_proto::{
    canonical::{VERSION, canonical, content_digest},
    pb,
};

use crate::stories::{commit, deployment};

fn digest(event: &pb::Event) -> [u8; 32] {
    content_digest(&event.encode_to_vec(), VERSION).unwrap()
}

#[test]
fn how_a_message_came_is_not_its_content() {
    let plain = deployment();
    let mut sent = plain.clone();
    sent.produce_time = sent.occur_time;
    sent.provenance = Some(pb::Provenance {
        adapter: "github".into(),
        ..pb::Provenance::default()
    });
    sent.trace_context = Some(pb::TraceContext {
        traceparent: "00-1-2-01".into(),
        ..pb::TraceContext::default()
    });
    assert_eq!(digest(&sent), digest(&plain));
}

#[test]
fn a_time_is_content_only_where_it_was_known() {
    for (basis, counts) in [
        (0, true),
        (1, true),
        (2, true),
        (3, false),
        (4, false),
        (99, true),
    ] {
        let mut event = deployment();
        event.occur_time_basis = basis;
        let before = digest(&event);
        event.occur_time.as_mut().unwrap().seconds += 1;
        assert_eq!(before != digest(&event), counts, "basis {basis}");
    }
}

#[test]
fn the_order_of_fields_is_no_content() {
    let bytes = commit().encode_to_vec();
    // The payload's field first, then the envelope: both halves are whole fields.
    let source = 2 + commit().source.len();
    let swapped = [&bytes[source..], &bytes[..source]].concat();
    assert_eq!(canonical(&swapped, VERSION), canonical(&bytes, VERSION));
}

#[test]
fn the_form_of_the_form_is_itself() {
    for event in [commit(), deployment()] {
        let once = canonical(&event.encode_to_vec(), VERSION).unwrap();
        assert_eq!(canonical(&once, VERSION).unwrap(), once);
    }
}

#[test]
fn a_version_that_is_not_known_is_refused() {
    assert_eq!(canonical(&[], 2).unwrap_err().field, "version");
}
