//! JSON in and out: the same bytes every time, paths in every refusal, nothing unknown lost silently.
use prost::Message;
use waybill_proto::{
    json::{event_from_json, event_to_json, message_from_json, message_to_json},
    kinds, pb,
};

use crate::stories::{commit, deployment};

const DEPLOYMENT: &str = r#"{
  "source": "//ci.acme.dev/checkout", "id": "run-881-1-deploy", "occurTime": "2026-11-03T09:00:00Z",
  "labels": {"b": "2", "a": "1", "c": "3"},
  "deployment": {"finished": {"deployment": {"deploymentId": "d-881", "service": "checkout", "environment": "production"},
    "outcome": "OUTCOME_SUCCESS", "span": {"elapsed": "63.500s"}}}
}"#;

#[test]
fn the_same_json_gives_the_same_bytes_and_comes_back() {
    let bytes = event_from_json(DEPLOYMENT).unwrap();
    for _ in 0..20 {
        assert_eq!(event_from_json(DEPLOYMENT).unwrap(), bytes);
    }
    let json = event_to_json(&bytes);
    assert_eq!(
        json,
        concat!(
            r#"{"source":"//ci.acme.dev/checkout","id":"run-881-1-deploy","occurTime":"2026-11-03T09:00:00Z","#,
            r#""labels":{"a":"1","b":"2","c":"3"},"deployment":{"finished":{"deployment":{"deploymentId":"d-881","#,
            r#""service":"checkout","environment":"production"},"outcome":"OUTCOME_SUCCESS","span":{"elapsed":"63.500s"}}}}"#
        )
    );
    assert_eq!(event_from_json(&json).unwrap(), bytes);
}

#[test]
fn every_refusal_names_its_path() {
    let cases = [
        (
            r#"{"ocurTime": "x"}"#,
            "ocurTime",
            "not a field of waybill.v1.Event",
            "did you mean `occurTime`?",
        ),
        (
            r#"{"deployment": {"finished": {"deployment": {"serivce": "x"}}}}"#,
            "deployment.finished.deployment.serivce",
            "not a field of waybill.v1.DeploymentInfo",
            "did you mean `service`?",
        ),
        (r#"{"id": "a", "id": "b"}"#, "id", "given twice", ""),
        (
            r#"{"occurTime": "2026-11-03T09:00:00Z", "occur_time": null}"#,
            "occur_time",
            "given twice",
            "",
        ),
        (
            r#"{"labels": {"a": "1", "a": "2"}}"#,
            "labels.a",
            "given twice",
            "",
        ),
        (r#"{"labels": {"a": 7}}"#, "labels.a", "not a text", ""),
        (
            r#"{"occurTime": "yesterday"}"#,
            "occur_time",
            "not a time (RFC 3339, as `2026-11-03T09:00:00Z`)",
            "",
        ),
        (
            r#"{"revision": -1}"#,
            "revision",
            "not a whole number of 0 to 4294967295",
            "",
        ),
        (
            r#"{"backfill": "yes"}"#,
            "backfill",
            "neither `true` nor `false`",
            "",
        ),
        (
            r#"{"causes": [{"source": "s"}, {"source": 4}]}"#,
            "causes[1].source",
            "not a text",
            "",
        ),
        (r#"{"causes": {}}"#, "causes", "not a list (`[…]`)", ""),
        (
            r#"{"recordKind": "RECORD_KIND_WISH"}"#,
            "record_kind",
            "none of `RECORD_KIND_UNSPECIFIED`, `RECORD_KIND_ASSERTION`",
            "",
        ),
        (
            r#"{"deployment": {"finished": {"span": {"elapsed": 5}}}}"#,
            "deployment.finished.span.elapsed",
            "not a duration (seconds, as `3.5s`)",
            "",
        ),
        (
            r#"{"deployment": {"started": {}, "finished": {}}}"#,
            "deployment",
            "fields that exclude each other are both given",
            "",
        ),
        ("[]", "", "not a waybill.v1.Event", ""),
        (
            r#"{"id": "a"} {"#,
            "",
            "trailing characters at line 1 column 13",
            "",
        ),
        (
            r#"{"id": "#,
            "",
            "EOF while parsing a value at line 1 column 7",
            "",
        ),
    ];
    for (json, field, rule, hint) in cases {
        let refusal = event_from_json(json).unwrap_err();
        assert_eq!(refusal.field, field, "{json}");
        assert!(refusal.rule.starts_with(rule), "{json}: {}", refusal.rule);
        assert!(refusal.hint.starts_with(hint), "{json}: {}", refusal.hint);
    }
    assert!(event_from_json("[".repeat(100_000)).is_err());
    assert!(event_from_json(b"\xFF").is_err());
}

#[test]
fn requests_that_hold_events_are_json_too() {
    let json = format!(r#"{{"events": [{DEPLOYMENT}, {DEPLOYMENT}]}}"#);
    let bytes = message_from_json("waybill.v1.EmitRequest", json.as_bytes()).unwrap();
    let request = waybill_proto::raw::EmitRequest::decode(&*bytes).unwrap();
    assert_eq!(
        request.events,
        vec![event_from_json(DEPLOYMENT).unwrap(); 2]
    );
    assert!(
        message_to_json("waybill.v1.EmitRequest", &bytes)
            .unwrap()
            .starts_with(r#"{"events":[{"source""#)
    );
    assert_eq!(
        message_from_json("waybill.v1.Nothing", b"{}")
            .unwrap_err()
            .value,
        "waybill.v1.Nothing"
    );
}

#[test]
fn what_is_unknown_or_odd_can_still_be_read() {
    let mut event = deployment();
    event.record_kind = 99;
    event.occur_time = Some(prost_types::Timestamp {
        seconds: i64::MAX,
        nanos: -7,
    });
    let mut bytes = event.encode_to_vec();
    bytes.extend_from_slice(&[0xBA, 0x0C, 0x00]);
    let json = event_to_json(&bytes);
    assert!(json.contains(r#""recordKind":99"#), "{json}");
    assert!(
        json.contains(r#""occurTime":{"seconds":"9223372036854775807","nanos":-7}"#),
        "{json}"
    );
    assert_eq!(event_to_json(b"\xFF"), r#"{"undecodable":"/w=="}"#);
}

#[test]
fn json_and_bytes_hold_the_same_event() {
    for event in [commit(), deployment()] {
        let bytes = event.encode_to_vec();
        let back = event_from_json(event_to_json(&bytes)).unwrap();
        assert_eq!(pb::Event::decode(&*back).unwrap(), event);
        let again = event_from_json(event_to_json(&back)).unwrap();
        assert_eq!(again, back);
    }
    assert!(kinds::KINDS.contains(&"deployment.finished"));
}
