//! What a message of a stream means: which event it is, and why it is none.
use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use waybill_proto::{
    json::{event_from_json, event_to_json},
    limits::EVENT_BYTES_MAX,
    message::{Read, Refused, kept, read, salt, wire_event},
    parse::parse,
    pb,
    subject::{EPOCH_OPENED_FILTER, GATE_PREFIX, Tail, events_subject, gate_subject},
};

use crate::{
    catalogue::{blocks, examples},
    stories::{commit, deployment},
};

const SUBJECT: &str =
    "waybill.events.v1.acme._2f_2fci_2eacme_2edev_2fcheckout.deployment.finished.checkout";

type Pairs = Vec<(String, String)>;

fn headers(pairs: &[(&str, &str)]) -> Pairs {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

fn read_message(subject: &str, pairs: &[(&str, &str)], payload: &[u8]) -> Result<Read, Refused> {
    let payload = Bytes::copy_from_slice(payload);
    read(subject, &kept(subject, &headers(pairs)), &payload)
}

/// The refusal as people read it, with its code.
fn refused(subject: &str, pairs: &[(&str, &str)], payload: &[u8]) -> (String, Refused) {
    let refused = read_message(subject, pairs, payload).unwrap_err();
    let refusal = &refused.refusal;
    (format!("{} {refusal}", refusal.code.as_str()), refused)
}

fn without_envelope() -> pb::Event {
    pb::Event {
        source: String::new(),
        id: String::new(),
        occur_time: None,
        ..deployment()
    }
}

const ENVELOPE: [(&str, &str); 6] = [
    ("Ce-SpecVersion", "1.0"),
    ("CE-ID", "run-881-1-deploy"),
    ("ce-source", "//ci.acme.dev/checkout"),
    ("ce-type", "dev.waybill.deployment.finished.v1"),
    ("ce-time", "2026-11-03T10:00:00+01:00"),
    ("Nats-Msg-Id", "1"),
];

#[test]
fn protobuf_is_taken_as_it_came() {
    let payload = Bytes::from(deployment().encode_to_vec());
    for pairs in [
        &[][..],
        &[("content-type", "Application/Protobuf; x=y")],
        &ENVELOPE,
    ] {
        let read = read(SUBJECT, &kept(SUBJECT, &headers(pairs)), &payload).unwrap();
        assert_eq!(read.wire.as_ptr(), payload.as_ptr(), "{pairs:?}: copied");
        assert_eq!(read.event, parse(&payload).unwrap());
    }
}

#[test]
fn json_and_protobuf_say_the_same() {
    let bytes = deployment().encode_to_vec();
    let json = event_to_json(&bytes);
    let pairs = [("content-type", "application/json; charset=utf-8")];
    let read = read_message(SUBJECT, &pairs, json.as_bytes()).unwrap();
    assert_eq!(read.wire, event_from_json(&json).unwrap());
    assert_eq!(read.event, parse(&bytes).unwrap());
}

#[test]
fn headers_fill_in_what_the_event_leaves_out() {
    let whole = parse(&deployment().encode_to_vec()).unwrap();
    let bare = without_envelope().encode_to_vec();
    let read = read_message(SUBJECT, &ENVELOPE, &bare).unwrap();
    assert_eq!(read.event, whole);
    assert!(read.wire.starts_with(&bare), "unknown fields stay in place");

    let mut pairs = ENVELOPE.to_vec();
    pairs.push(("Content-Type", "application/json"));
    let json = event_to_json(&bare);
    let read = read_message(SUBJECT, &pairs, json.as_bytes()).unwrap();
    let spelt_out = event_to_json(&deployment().encode_to_vec());
    assert_eq!(read.wire, event_from_json(spelt_out).unwrap());
}

#[test]
fn an_attribute_is_decoded_once() {
    let bare = without_envelope().encode_to_vec();
    for (value, id) in [
        ("a%20b%2525", "a b%25"),
        ("\"a b \\\"c%22\"", "a b \"c\""),
        ("%C3%A9", "é"),
    ] {
        let mut pairs = ENVELOPE;
        pairs[1] = ("ce-id", value);
        let read = read_message(SUBJECT, &pairs, &bare).unwrap();
        assert_eq!(&*read.event.identity.id, id);
    }
}

/// What stands for 1970 is a time, not its absence.
#[test]
fn the_first_moment_is_filled_in_and_compared() {
    let mut pairs = ENVELOPE;
    pairs[4] = ("ce-time", "1970-01-01T00:00:00Z");
    let read = read_message(SUBJECT, &pairs, &without_envelope().encode_to_vec()).unwrap();
    assert_eq!(read.event.occur_time.unwrap().nanos(), 0);
    let first = pb::Event {
        occur_time: Some(prost_types::Timestamp::default()),
        ..deployment()
    };
    assert!(read_message(SUBJECT, &pairs, &first.encode_to_vec()).is_ok());
}

#[test]
fn headers_that_cannot_be_believed_are_refused() {
    let event = deployment().encode_to_vec();
    for (header, value, told) in [
        (
            "ce-id",
            "other",
            "CONTRADICTION id is `run-881-1-deploy`, not what the header ce-id says, `other`",
        ),
        (
            "ce-source",
            "//x",
            "CONTRADICTION source is `//ci.acme.dev/checkout`, not what the header ce-source says, `//x`",
        ),
        (
            "ce-time",
            "2026-11-03T09:00:00.001Z",
            "CONTRADICTION occur_time is `2026-11-03T09:00:00Z`, not what the header ce-time says, \
            `2026-11-03T09:00:00.001Z`",
        ),
        (
            "ce-time",
            "yesterday",
            "MALFORMED ce-time is `yesterday`, not a time as RFC 3339 has it",
        ),
        (
            "ce-type",
            "dev.waybill.deployment.started.v1",
            "CONTRADICTION ce-type is `dev.waybill.deployment.started.v1`, not the type of \
            the event, `dev.waybill.deployment.finished.v1`",
        ),
        (
            "ce-specversion",
            "0.3",
            "MALFORMED ce-specversion is `0.3`, not the version of CloudEvents that is read, 1.0",
        ),
        (
            "ce-id",
            "%ff",
            "MALFORMED ce-id is `%ff`, not percent-encoded UTF-8, as the NATS binding of CloudEvents has it",
        ),
        (
            "ce-id",
            "\"a",
            "MALFORMED ce-id is `\"a`, not percent-encoded UTF-8, as the NATS binding of CloudEvents has it",
        ),
    ] {
        let (said, refused) = refused(SUBJECT, &[(header, value)], &event);
        assert_eq!(said, told);
        assert_eq!(
            refused.wire.as_deref(),
            Some(&*event),
            "{said}: it is an event"
        );
    }
    let twice = [("ce-id", "run-881-1-deploy"), ("CE-ID", "b")];
    assert_eq!(
        refused(SUBJECT, &twice, &event).0,
        "CONTRADICTION ce-id is `run-881-1-deploy`, given twice, also as `b`"
    );
    let same_twice = [("ce-id", "run-881-1-deploy"), ("CE-ID", "run-881-1-deploy")];
    assert!(read_message(SUBJECT, &same_twice, &event).is_ok());
    let of_others = [("ce-type", "dev.cdevents.service.deployed.0.3.0")];
    assert!(read_message(SUBJECT, &of_others, &event).is_ok());
}

#[test]
fn what_is_no_event_is_undecodable() {
    let event = deployment().encode_to_vec();
    let json = ("content-type", "application/json");
    for (header, payload) in [
        (("content-type", "text/plain"), &*event),
        (("content-type", "application/cloudevents+json"), &*event),
        (json, &*event),
        (json, b"{\"deploiment\": {}}"),
        (("content-type", "application/protobuf"), b"\x0a\xff"),
        (("ce-id", "x"), b"\x0a\xff"),
        (("ce-specversion", "0.3"), b"\x0a\xff"),
    ] {
        let (said, refused) = refused(SUBJECT, &[header], payload);
        assert!(refused.is_undecodable(), "{header:?}: {said}");
    }
    let (said, refused) = refused(SUBJECT, &[], b"");
    assert_eq!(said, "MISSING source is ``, required");
    assert!(!refused.is_undecodable(), "an empty event");
    let (said, refused) = self::refused(SUBJECT, &[], &vec![0; EVENT_BYTES_MAX + 1]);
    assert_eq!(
        said,
        "TOO_LARGE `262145 bytes`: an event is at most 262144 bytes"
    );
    assert!(!refused.is_undecodable(), "{said}");
}

#[test]
fn a_subject_says_what_its_event_says() {
    let event = deployment().encode_to_vec();
    let source = "_2f_2fci_2eacme_2edev_2fcheckout";
    for tail in [
        format!("_.{source}.deployment.finished._"),
        format!("Any_Org.{source}.deployment.finished.production"),
        format!("_.{source}.deployment.finished.d-881"),
    ] {
        let read = read_message(&format!("waybill.events.v1.{tail}"), &[], &event);
        assert!(read.is_ok(), "{tail}: {read:?}");
    }
    for (subject, rule) in [
        (
            "waybill.events.v1._._2f_2fci.deployment.finished._".to_owned(),
            "not the event's source, `//ci.acme.dev/checkout`",
        ),
        (
            format!("waybill.events.v1._.{source}.build.finished._"),
            "not the event's family, `deployment`",
        ),
        (
            format!("waybill.events.v1._.{source}.deployment._._"),
            "not the event's predicate, `finished`",
        ),
        (
            format!("waybill.events.v1._.{source}.deployment.finished.cart"),
            "not the last part of the name of anything that the event is about",
        ),
        (
            format!("waybill.events.v1._.{source}.deployment.finished"),
            "not five tokens",
        ),
        (
            format!("waybill.events.v1._.{source}.deployment.finished._._"),
            "not five tokens",
        ),
        (
            format!("waybill.events.v1._.{source}.deployment.finished._64-881"),
            "the token of no text",
        ),
        (
            format!("waybill.events.v2._.{source}.deployment.finished._"),
            "not a subject of events",
        ),
        ("other".to_owned(), "not a subject of events"),
    ] {
        let (said, refused) = refused(&subject, &[], &event);
        assert!(
            said.starts_with("CONTRADICTION subject is ") && said.contains(rule),
            "{subject}: {said}"
        );
        assert!(!refused.is_undecodable(), "{said}");
    }
}

#[test]
fn what_only_others_may_say_comes_through_the_gate_only() {
    let amended = |source: &str| {
        let amends = pb::EventRef {
            source: source.into(),
            id: "1".into(),
            ..pb::EventRef::default()
        };
        pb::Event {
            record_kind: pb::RecordKind::Correction.into(),
            amends: Some(amends),
            ..deployment()
        }
    };
    let own = amended("//ci.acme.dev/checkout").encode_to_vec();
    let subject = events_subject(&parse(&own).unwrap(), "");
    assert!(read_message(&subject, &[], &own).is_ok());

    let mut refused_kinds = Vec::new();
    let foreign = amended("//elsewhere").encode_to_vec();
    for bytes in examples().into_iter().chain([foreign]) {
        let event = parse(&bytes).unwrap();
        let gate = read_message(&gate_subject(&event, ""), &[], &bytes);
        assert!(gate.is_ok(), "{gate:?}");
        if let Err(refused) = read_message(&events_subject(&event, ""), &[], &bytes) {
            let refusal = refused.refusal;
            refused_kinds.push(format!(
                "{} {} {}",
                refusal.code.as_str(),
                refusal.field,
                refusal.value
            ));
        }
    }
    let mut expected = vec!["NOT_ALLOWED amends.source //elsewhere".to_owned()];
    let kinds = [
        "conflict_detected",
        "corrected",
        "created",
        "enriched",
        "epoch_opened",
        "loss_accepted",
        "renamed",
        "rules_changed",
        "source_registered",
    ];
    expected.extend(kinds.map(|kind| format!("NOT_ALLOWED type ledger.{kind}")));
    refused_kinds.sort();
    refused_kinds.dedup();
    // The catalogue's retraction and redaction amend events of another source.
    refused_kinds.retain(|told| !told.ends_with(" //ci.acme.dev/checkout"));
    assert_eq!(refused_kinds, expected);
}

#[test]
fn an_opener_matches_the_filter_and_no_other_kind_does() {
    for bytes in examples() {
        let event = parse(&bytes).unwrap();
        let subject = gate_subject(&event, "Acme");
        let matched = EPOCH_OPENED_FILTER
            .split('.')
            .zip(subject.split('.'))
            .all(|(wanted, token)| wanted == "*" || wanted == token);
        assert_eq!(
            subject.split('.').count(),
            EPOCH_OPENED_FILTER.split('.').count()
        );
        assert_eq!(
            matched,
            &*event.kind.0 == "ledger.epoch_opened",
            "{subject}"
        );
    }
}

#[test]
fn a_long_name_makes_no_long_subject() {
    let mut event = commit();
    event.source = "É".repeat(128);
    event.service = "/".repeat(256);
    let parsed = parse(&event.encode_to_vec()).unwrap();
    let subject = gate_subject(&parsed, &"/".repeat(64));
    assert!(
        subject.len() < 2_048 && subject.ends_with("._"),
        "{subject}"
    );
    assert!(read_message(&subject, &[], &event.encode_to_vec()).is_ok());
    let tail = Tail::read(subject.strip_prefix(GATE_PREFIX).unwrap()).unwrap();
    assert_eq!(tail.source, event.source);
}

#[test]
fn a_salt_is_sixteen_bytes_or_none() {
    let good = "AAECAwQFBgcICQoLDA0ODw";
    let bytes: [u8; 16] = std::array::from_fn(|index| u8::try_from(index).unwrap());
    let of = |pairs: &[(&str, &str)]| salt(&headers(pairs));
    assert_eq!(of(&[("waybill-SALT", good)]), Some(bytes));
    for bad in [
        "",
        "AAECAwQFBgcICQoLDA0ODw==",
        "AAECAwQFBgcICQoLDA0ODx",
        "AAECAwQFBgcICQoLDA0O",
        "AAECAwQFBgcICQoLDA0OD+",
    ] {
        assert_eq!(of(&[("Waybill-Salt", bad)]), None, "{bad}");
    }
    assert_eq!(of(&[("Waybill-Salt", good), ("waybill-salt", good)]), None);
    assert_eq!(of(&[]), None);
}

#[test]
fn the_page_says_which_headers_are_kept() {
    let block = blocks("messages").next().unwrap();
    let mut count = 0;
    for message in block.split("\n\n") {
        let of = |wanted: &str| -> Vec<String> {
            let lines = message.lines().map(|line| line.split_once(": ").unwrap());
            lines
                .filter(|(name, _)| *name == wanted)
                .map(|(_, value)| value.to_owned())
                .collect()
        };
        let pair = |line: &String| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_owned(), value.to_owned())
        };
        let came: Pairs = of("header").iter().map(pair).collect();
        let expected: Pairs = of("kept").iter().map(pair).collect();
        let subject = &of("subject")[0];
        assert_eq!(kept(subject, &came), expected);
        assert_eq!(kept(subject, &expected), expected, "kept headers are kept");
        let backwards: Pairs = came.into_iter().rev().collect();
        assert_eq!(kept(subject, &backwards), expected, "order is nothing");
        count += 1;
    }
    assert_eq!(count, 2);
}

fn any_headers() -> impl Strategy<Value = Pairs> {
    let name = prop_oneof![
        Just("Content-Type"),
        Just("ce-id"),
        Just("CE-Source"),
        Just("ce-time"),
        Just("ce-type"),
        Just("ce-specversion"),
        Just("Waybill-Sender")
    ];
    let value = prop_oneof![
        "[%\"a-f0-9\\\\]{0,6}",
        any::<String>(),
        Just("application/json".to_owned()),
        Just("1.0".to_owned()),
        Just("run-881-1-deploy".to_owned())
    ];
    proptest::collection::vec((name.prop_map(str::to_owned), value), 0..5)
}

proptest! {
    /// Whatever comes is read the same way from what is kept of it, and nothing panics. What is refused as an event can be
    /// shown as one.
    #[test]
    fn anything_is_read_or_refused(
        which in any::<proptest::sample::Index>(),
        payload in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)),
        subject in prop_oneof![Just(SUBJECT.to_owned()), "waybill\\.(gate|events)\\.v1\\.[a-z_2f.]{0,20}"],
        headers in any_headers(),
    ) {
        let all = examples();
        let payload = Bytes::from(payload.unwrap_or_else(|| all[which.index(all.len())].clone()));
        let kept_headers = kept(&subject, &headers);
        prop_assert_eq!(&kept(&subject, &kept_headers), &kept_headers);
        match read(&subject, &kept_headers, &payload) {
            Ok(read) => {
                prop_assert_eq!(parse(&read.wire), Ok(read.event));
                prop_assert_eq!(wire_event(&kept_headers, &payload), Ok(read.wire));
            }
            Err(refused) => {
                let is_shown = refused.wire.is_none_or(|wire| pb::Event::decode(wire).is_ok());
                prop_assert!(is_shown, "{}", refused.refusal);
            }
        }
    }
}
