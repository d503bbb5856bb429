//! What is accepted, and in which words the rest is refused.
use prost::Message;
use prost_types::Timestamp;
use waybill_core::{
    Payload,
    event::{Basis, RecordKind},
};
use waybill_proto::{
    parse::{Claim, claim},
    pb::{self, deployment_event, event},
};

use crate::stories::{HEAD, commit, deployment, parse};

type Mutation = fn(&mut pb::Event);

fn info(event: &mut pb::Event) -> &mut pb::DeploymentInfo {
    let Some(event::Payload::Deployment(deployment)) = &mut event.payload else {
        panic!("a deployment")
    };
    let Some(deployment_event::Event::Finished(finished)) = &mut deployment.event else {
        panic!("finished")
    };
    finished.deployment.as_mut().unwrap()
}

fn payload(event: &mut pb::Event) -> &mut pb::DeploymentFinished {
    let Some(event::Payload::Deployment(deployment)) = &mut event.payload else {
        panic!("a deployment")
    };
    let Some(deployment_event::Event::Finished(finished)) = &mut deployment.event else {
        panic!("finished")
    };
    finished
}

#[test]
fn a_deployment_becomes_our_word_for_it() {
    let event = parse(&deployment()).unwrap();
    assert_eq!(event.kind.to_string(), "deployment.finished");
    let entities: Vec<_> = event.entities.iter().map(ToString::to_string).collect();
    assert_eq!(
        entities,
        [
            "deployment:checkout/d-881",
            "service:checkout",
            "environment:production",
            &format!("commit:github.com/acme/shop/{HEAD}"),
            "repository:github.com/acme/shop",
        ]
    );
    let Payload::Deployment(deployment) = event.payload else {
        panic!("{:?}", event.payload)
    };
    assert_eq!(&*deployment.service, "checkout");
}

#[test]
fn every_rule_names_field_value_and_rule() {
    let cases: &[(Mutation, &str)] = &[
        (|e| e.source.clear(), "MISSING source: `` required"),
        (|e| e.id = "x".repeat(257), "TOO_LARGE id"),
        (
            |e| e.id = "a\u{202E}b".into(),
            "MALFORMED id: `a\\u{202e}b` a name may not hold control or bidirectional characters",
        ),
        (|e| e.occur_time = None, "MISSING occur_time: `` required"),
        (
            |e| {
                e.occur_time = Some(Timestamp {
                    seconds: 7_258_118_400,
                    nanos: 0,
                })
            },
            "OUT_OF_RANGE occur_time: `7258118400` seconds must lie in 1970 to 2200",
        ),
        (
            |e| {
                e.occur_time = Some(Timestamp {
                    seconds: 0,
                    nanos: -1,
                })
            },
            "OUT_OF_RANGE occur_time: `-1` nanoseconds must lie in 0 to 999999999",
        ),
        (
            |e| e.r#type = "dev.waybill.deployment.started.v1".into(),
            "CONTRADICTION type",
        ),
        (|e| e.record_kind = 3, "MISSING amends: `` required"),
        (
            |e| {
                e.amends = Some(pb::EventRef {
                    source: "s".into(),
                    id: "i".into(),
                    position: 0,
                })
            },
            "CONTRADICTION amends: `s i` not for an assertion",
        ),
        (
            |e| {
                e.record_kind = 2;
                e.amends = Some(pb::EventRef {
                    source: e.source.clone(),
                    id: e.id.clone(),
                    position: 0,
                });
            },
            "CONTRADICTION amends",
        ),
        (
            |e| e.labels = (0..65).map(|i| (i.to_string(), String::new())).collect(),
            "TOO_LARGE labels: `65 labels`",
        ),
        (
            |e| info(e).service.clear(),
            "MISSING deployment.finished.deployment.service: `` required",
        ),
        (
            |e| info(e).revisions[0].revision = "xyz".into(),
            "MALFORMED deployment.finished.deployment.revisions[0].revision: `xyz` not a commit id (7 to 64 lowercase hex digits)",
        ),
        (
            |e| payload(e).outcome = 0,
            "MISSING deployment.finished.outcome: `` required",
        ),
        (
            |e| payload(e).deployment = None,
            "MISSING deployment.finished.deployment: `` required",
        ),
        (
            |e| {
                let elapsed = Some(prost_types::Duration {
                    seconds: -3,
                    nanos: 0,
                });
                payload(e).span = Some(pb::Span {
                    elapsed,
                    queued: None,
                });
            },
            "OUT_OF_RANGE deployment.finished.span.elapsed: `-3 s and 0 ns` a duration lies in 0 to 10,000 years",
        ),
        (|e| e.payload = None, "MISSING payload: `` required"),
        (
            |e| {
                e.payload = Some(event::Payload::Deployment(pb::DeploymentEvent {
                    event: None,
                }))
            },
            "MISSING deployment: `` required",
        ),
        (
            |e| {
                e.r#type = "dev.waybill.deployment.finished.v1".into();
                e.payload = None;
            },
            "MISSING deployment.finished: `` required",
        ),
    ];
    for (index, (mutate, expected)) in cases.iter().enumerate() {
        let mut event = deployment();
        mutate(&mut event);
        let refusal = parse(&event).unwrap_err();
        let said = format!(
            "{} {}: `{}` {}",
            refusal.code.as_str(),
            refusal.field,
            refusal.value,
            refusal.rule
        );
        assert!(
            said.starts_with(expected),
            "case {index}\n  said {said}\nwanted {expected}"
        );
    }
}

#[test]
fn what_lies_just_within_a_limit_is_accepted() {
    let cases: &[Mutation] = &[
        |e| e.source = "s".repeat(256),
        |e| e.id = "i".repeat(256),
        |e| e.labels = (0..64).map(|i| (i.to_string(), String::new())).collect(),
        |e| e.occur_time = Some(Timestamp::default()),
        |e| {
            e.occur_time = Some(Timestamp {
                seconds: 7_258_118_399,
                nanos: 999_999_999,
            })
        },
        |e| {
            e.reason.clear();
            // The text's key and its length take four bytes.
            e.reason = "r".repeat(256 * 1024 - e.encoded_len() - 4);
            assert_eq!(e.encoded_len(), 256 * 1024);
        },
    ];
    for (index, mutate) in cases.iter().enumerate() {
        let mut event = deployment();
        mutate(&mut event);
        assert!(parse(&event).is_ok(), "case {index}: {:?}", parse(&event));
    }
}

#[test]
fn a_refused_event_still_says_what_it_claims_to_be() {
    let mut event = deployment();
    payload(&mut event).outcome = 0;
    event.id = "a\u{202E}b".into();
    let bytes = event.encode_to_vec();
    let said = claim(&bytes);
    assert_eq!(
        (said.source, said.id.as_str(), said.kind.as_str()),
        (event.source.clone(), "a\\u{202e}b", "deployment.finished")
    );
    let cut = claim(&bytes[..bytes.len() - 1]);
    assert_eq!((cut.source, cut.kind.as_str()), (event.source, ""));
    assert_eq!(claim(b"\xff"), Claim::default());
}

#[test]
fn a_commit_needs_its_full_id() {
    let mut event = commit();
    let Some(event::Payload::Commit(pb::CommitEvent {
        event: Some(pb::commit_event::Event::Recorded(recorded)),
    })) = &mut event.payload
    else {
        panic!("a commit")
    };
    recorded.revision.truncate(12);
    assert_eq!(parse(&event).unwrap_err().field, "commit.recorded.revision");
}

#[test]
fn a_time_that_nobody_knows_is_accepted_as_such() {
    let mut event = deployment();
    event.occur_time = None;
    event.occur_time_basis = pb::OccurTimeBasis::Delivery.into();
    let event = parse(&event).unwrap();
    assert_eq!((event.occur_time, event.basis), (None, Basis::Delivery));
}

#[test]
fn words_newer_than_this_version_are_accepted() {
    let mut event = deployment();
    event.occur_time_basis = 77;
    payload(&mut event).outcome = 99;
    info(&mut event).operation = 99;
    assert_eq!(
        parse(&event).unwrap().kind.to_string(),
        "deployment.finished"
    );

    event.record_kind = 99;
    let unread = parse(&event).unwrap();
    assert_eq!(
        (unread.payload, unread.record_kind),
        (Payload::Other, RecordKind::Assertion)
    );

    // Field 199 of Event, and a predicate 99 of a known family: key, length, one empty field 1.
    let mut bytes = deployment();
    bytes.payload = None;
    let mut bytes = bytes.encode_to_vec();
    let cases: [(&[u8], &str); 2] = [
        (&[0xBA, 0x0C, 0x02, 0x0A, 0x00], "unknown.199"),
        (&[0xDA, 0x06, 0x03, 0x9A, 0x06, 0x00], "deployment"),
    ];
    let plain = bytes.len();
    for (payload, kind) in cases {
        bytes.truncate(plain);
        bytes.extend_from_slice(payload);
        assert_eq!(
            waybill_proto::parse::parse(&bytes)
                .unwrap()
                .kind
                .to_string(),
            kind
        );
    }
}

#[test]
fn a_retraction_needs_no_payload() {
    let target = pb::EventRef {
        source: "//elsewhere".into(),
        id: "7".into(),
        position: 0,
    };
    let mut by_envelope = deployment();
    by_envelope.payload = None;
    by_envelope.record_kind = pb::RecordKind::Retraction.into();
    by_envelope.amends = Some(target.clone());
    let by_envelope = parse(&by_envelope).unwrap();
    assert_eq!(by_envelope.kind.to_string(), "ledger.retracted");

    let retracted = pb::Retracted {
        event: Some(target),
        reason: "a drill".into(),
    };
    let event = Some(pb::ledger_event::Event::Retracted(retracted));
    let by_payload = crate::stories::envelope(event::Payload::Ledger(pb::LedgerEvent { event }));
    let by_payload = parse(&by_payload).unwrap();
    assert_eq!(by_payload.record_kind, by_envelope.record_kind);
    assert!(matches!(by_payload.record_kind, RecordKind::Retraction(target) if &*target.id == "7"));
}

#[test]
fn the_same_fact_has_the_same_key_whoever_tells_it() {
    let ours = parse(&deployment()).unwrap();
    let mut other = deployment();
    other.source = "//github.com/acme".into();
    other.id = "webhook-5".into();
    other.occur_time.as_mut().unwrap().seconds += 3;
    assert_eq!(parse(&other).unwrap().natural_key, ours.natural_key);

    info(&mut other).environment = "staging".into();
    assert_ne!(parse(&other).unwrap().natural_key, ours.natural_key);
}
