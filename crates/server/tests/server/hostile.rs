//! Bytes that nobody should send: refused with a reason, nothing lost, the server goes on.
use std::{collections::HashMap, sync::Mutex, time::Duration};

use bytes::Bytes;
use proptest::{prelude::*, test_runner::TestRunner};
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Runtime,
    time::timeout,
};
use tonic::{Code, Status};
use waybill_proto::{pb, raw};

use crate::{
    kit::{PATIENCE, Served, commit, commit_json, reason, receipt, revision, served, served_with},
    plain::{send, send_stream},
    wire,
};

/// One served ledger for all cases of a property.
fn with_served(
    cases: u32,
    property: impl Fn(&Runtime, &Served, Vec<u8>, usize) -> Result<(), TestCaseError>,
) {
    let runtime = Runtime::new().unwrap();
    // A question may happen to wait for a position that never comes.
    let served = runtime.block_on(served_with(|settings| {
        settings.limits.wait_max = Duration::from_millis(50);
    }));
    let standing = runtime.block_on(served.emit(vec![commit(424_240)]));
    let input = (prop::collection::vec(any::<u8>(), 0..200), any::<usize>());
    let mut runner = TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases)
    });
    runner
        .run(&input, |(bytes, place)| {
            property(&runtime, &served, bytes, place)
        })
        .unwrap();
    let receipts = runtime.block_on(served.emit(vec![commit(424_240), commit(424_242)]));
    assert_eq!(receipts.len(), 2, "the server goes on");
    assert!(receipts[0].duplicate && receipts[0].position == standing[0].position);
}

fn is_the_callers(status: &Status) -> Result<(), TestCaseError> {
    prop_assert!(
        matches!(
            status.code(),
            Code::InvalidArgument | Code::OutOfRange | Code::NotFound | Code::Unavailable
        ),
        "{status:?}"
    );
    prop_assert!(!reason(status).is_empty(), "{status:?}");
    Ok(())
}

/// Every method that answers once, with a message that it understands.
fn calls() -> Vec<(&'static str, Vec<u8>)> {
    let event = Some(pb::EventRef {
        source: "//ci.acme.dev/shop".to_owned(),
        id: "commit-424240".to_owned(),
        position: 0,
    });
    let read = Some(pb::ReadOptions {
        as_of: Some(pb::AsOf {
            moment: Some(pb::as_of::Moment::Position(2)),
        }),
        evaluated_time: commit(1).occur_time,
        ..Default::default()
    });
    let filter = Some(pb::EventFilter {
        kinds: vec!["commit".to_owned()],
        entity: "repository:github.com/acme/shop".to_owned(),
        occur_start_time: commit(1).occur_time,
        ..Default::default()
    });
    let ask = pb::GetReceiptRequest {
        event: event.clone(),
        prove: true,
        consistent_from_size: 1,
        at_least: None,
    };
    let key = event.map(pb::get_event_request::Key::Event);
    let get = pb::GetEventRequest {
        key,
        at_least: None,
    };
    let list = pb::ListEventsRequest {
        page_size: 3,
        page_token: "AAAA".to_owned(),
        filter,
        ..Default::default()
    };
    let trace = pb::TraceRequest {
        read: read.clone(),
        r#ref: revision(424_240),
        ..Default::default()
    };
    let delivery = pb::DeliveryRequest {
        read,
        service: "shop".to_owned(),
        definition: "dora/2025".to_owned(),
        time_zone: "Europe/Berlin".to_owned(),
        ..Default::default()
    };
    let events = vec![commit(424_240)];
    vec![
        (
            "/waybill.v1.EmitService/Emit",
            pb::EmitRequest { events }.encode_to_vec(),
        ),
        ("/waybill.v1.LedgerService/GetEvent", get.encode_to_vec()),
        ("/waybill.v1.LedgerService/GetReceipt", ask.encode_to_vec()),
        ("/waybill.v1.LedgerService/ListEvents", list.encode_to_vec()),
        ("/waybill.v1.LedgerService/GetCheckpoint", vec![8, 1]),
        (
            "/waybill.v1.LedgerService/GetInclusionProof",
            vec![8, 1, 16, 2],
        ),
        (
            "/waybill.v1.LedgerService/GetConsistencyProof",
            vec![8, 1, 16, 2],
        ),
        ("/waybill.v1.LedgerService/ListRefusals", vec![8, 2]),
        ("/waybill.v1.LedgerService/GetStatus", vec![]),
        ("/waybill.v1.TraceService/Trace", trace.encode_to_vec()),
        (
            "/waybill.v1.DeliveryService/Delivery",
            delivery.encode_to_vec(),
        ),
    ]
}

/// Other bytes from some place on.
fn hurt(mut message: Vec<u8>, bytes: &[u8], place: usize) -> Vec<u8> {
    let at = place % (message.len() + 1);
    match place % 3 {
        0 => message.truncate(at),
        1 => {
            message.splice(at..at, bytes.iter().copied());
        }
        _ => {
            for (byte, change) in message[at..].iter_mut().zip(bytes.iter().take(4)) {
                *byte ^= change;
            }
        }
    }
    message
}

#[test]
fn arbitrary_and_changed_bytes_at_every_method_are_answered() {
    with_served(64, |runtime, served, bytes, place| {
        for (path, message) in calls() {
            for message in [bytes.clone(), hurt(message, &bytes, place / 11)] {
                if let Err(status) = runtime.block_on(send(served, path, message)) {
                    is_the_callers(&status)?;
                }
            }
        }
        Ok(())
    });
}

#[test]
fn every_method_understands_what_is_hurt_above() {
    with_served(1, |runtime, served, _, _| {
        for (path, message) in calls() {
            match runtime.block_on(send(served, path, message)) {
                Ok(_) => {}
                // The page token is nobody's.
                Err(status) => prop_assert!(path.ends_with("ListEvents"), "{path}: {status:?}"),
            }
        }
        Ok(())
    });
}

#[test]
fn a_stream_of_changed_bytes_is_answered_and_ended() {
    with_served(32, |runtime, served, bytes, place| {
        let message = calls().swap_remove(0).1;
        let messages = vec![message.clone(), hurt(message.clone(), &bytes, place)];
        let answers = runtime.block_on(send_stream(served, messages));
        prop_assert!(answers[0].is_ok(), "{answers:?}");
        if let Some(Err(status)) = answers.get(1) {
            is_the_callers(status)?;
        }
        Ok(())
    });
}

/// What became of a changed event is on record: its very bytes under its receipt, or its refusal in the list.
#[test]
fn an_event_with_changed_bytes_is_recorded_or_refused_in_its_place() {
    let sent = Mutex::new(HashMap::new());
    let refused = Mutex::new(0);
    let runtime = Runtime::new().unwrap();
    let checked = runtime.block_on(served());
    let input = (prop::collection::vec(any::<u8>(), 0..200), any::<usize>());
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(128)
    };
    let result = TestRunner::new(config).run(&input, |(bytes, place)| {
        let event = Bytes::from(hurt(commit(7).encode_to_vec(), &bytes, place));
        let request = raw::EmitRequest {
            events: vec![event.clone()],
        };
        let path = "/waybill.v1.EmitService/Emit";
        let answer = runtime.block_on(send(&checked, path, request.encode_to_vec()));
        let answer = pb::EmitResponse::decode(answer.unwrap()).unwrap();
        prop_assert_eq!(answer.results.len(), 1);
        match answer.results[0].result.as_ref().unwrap() {
            pb::emit_result::Result::Receipt(receipt) if !receipt.duplicate => {
                sent.lock().unwrap().insert(receipt.position, event);
            }
            pb::emit_result::Result::Receipt(_) => {}
            pb::emit_result::Result::Refusal(refusal) => {
                prop_assert!(!refusal.rule.is_empty() && refusal.value.chars().count() < 900);
                *refused.lock().unwrap() += 1;
            }
        }
        Ok(())
    });
    result.unwrap();
    runtime.block_on(async {
        for (position, event) in sent.into_inner().unwrap() {
            let ask = vec![8].into_iter().chain(varint(position)).collect();
            let answer = send(&checked, "/waybill.v1.LedgerService/GetEvent", ask).await;
            let answer = raw::GetEventResponse::decode(answer.unwrap()).unwrap();
            assert_eq!(answer.event.unwrap().event, event);
        }
        let request = pb::ListRefusalsRequest::default();
        let listed = checked.reads().list_refusals(request).await.unwrap();
        assert_eq!(
            listed.into_inner().total_count,
            refused.into_inner().unwrap()
        );
    });
}

fn varint(value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::encode_varint(value, &mut out);
    out
}

#[test]
fn arbitrary_bytes_as_json_are_answered() {
    with_served(64, |runtime, served, bytes, place| {
        let text = format!("{{\"events\": [{}]}}", commit_json(9)).into_bytes();
        let body = hurt(text, &bytes, place);
        let path = "/waybill.v1.EmitService/Emit";
        let headers = [("content-type", "application/json")];
        let answer = runtime.block_on(served.http("POST", path, &headers, &body));
        prop_assert!(matches!(answer.code, 200 | 400), "{answer:?}");
        prop_assert!(
            answer.code == 200 || !answer.reason().is_empty(),
            "{answer:?}"
        );
        Ok(())
    });
}

/// A whole call of Emit.
fn http2_call() -> Vec<u8> {
    wire::call("/waybill.v1.EmitService/Emit", &calls().swap_remove(0).1)
}

/// Sends bytes, says that no more will come, and reads to the end.
async fn answer_to(served: &Served, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    // A server that closes early may reset what it has not read.
    drop(stream.write_all(bytes).await);
    drop(stream.shutdown().await);
    let mut rest = Vec::new();
    drop(
        timeout(PATIENCE, stream.read_to_end(&mut rest))
            .await
            .expect("the connection is closed"),
    );
    rest
}

#[test]
fn changed_http2_frames_cost_only_their_own_connection() {
    with_served(96, |runtime, served, bytes, place| {
        // Behind the preface, whose harm is another test's.
        let call = http2_call();
        let (preface, rest) = call.split_at(24);
        let harmed = [preface, &hurt(rest.to_vec(), &bytes, place)].concat();
        runtime.block_on(answer_to(served, &harmed));
        Ok(())
    });
}

/// Were the call above none, its harm would show nothing.
#[tokio::test(flavor = "multi_thread")]
async fn unharmed_http2_frames_are_a_call() {
    let served = served().await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(&http2_call()).await.unwrap();
    let receipt = b"commit-424240";
    let mut said = Vec::new();
    while !said.windows(receipt.len()).any(|part| part == receipt) {
        let read = timeout(PATIENCE, stream.read_buf(&mut said)).await;
        assert!(read.unwrap().unwrap() > 0, "closed after {said:?}");
    }
    // SETTINGS_MAX_CONCURRENT_STREAMS (3) is among the server's settings.
    let streams = waybill_server::Limits::default().streams_per_connection;
    let setting = [&[0, 3][..], &streams.to_be_bytes()].concat();
    assert!(
        said[..64].windows(6).any(|part| part == setting),
        "{said:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn doubled_fields_are_merged_as_protobuf_says() {
    let served = served().await;
    let whole = commit(1);
    let receipts = served.emit(vec![whole.clone()]).await;
    let source = pb::Event {
        source: "//another".to_owned(),
        ..Default::default()
    };
    let half = pb::CommitRecorded {
        subject_line: "of the first half".to_owned(),
        ..Default::default()
    };
    let half = pb::CommitEvent {
        event: Some(pb::commit_event::Event::Recorded(half)),
    };
    let first_half = pb::Event {
        payload: Some(pb::event::Payload::Commit(half)),
        ..Default::default()
    };
    // A scalar's last value stands, and messages merge: all of this is the same event again.
    for first in [source, first_half] {
        let doubled = [first.encode_to_vec(), whole.encode_to_vec()].concat();
        let request = raw::EmitRequest {
            events: vec![doubled.into()],
        };
        let path = "/waybill.v1.EmitService/Emit";
        let answer = send(&served, path, request.encode_to_vec()).await.unwrap();
        let answer = pb::EmitResponse::decode(answer).unwrap();
        let again = receipt(&answer.results[0]);
        assert!(again.duplicate && again.position == receipts[0].position);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_json_is_refused() {
    let served = served().await;
    for body in ["[".repeat(100_000), "{\"events\":[".repeat(50_000)] {
        let answer = served.json("EmitService/Emit", &body).await;
        assert_eq!(answer.code, 400, "{}", answer.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_message_is_undecodable() {
    let served = served().await;
    let request = pb::EmitRequest {
        events: vec![commit(1)],
    }
    .encode_to_vec();
    let status = send(
        &served,
        "/waybill.v1.EmitService/Emit",
        request[..request.len() - 3].to_vec(),
    )
    .await
    .unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::InvalidArgument, "UNDECODABLE")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_http_costs_only_its_own_connection() {
    let served = served().await;
    let noise: [&[u8]; 4] = [
        b"\0\0\0\0\0\0\0\0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"GET\r\n\r\n",
    ];
    for bytes in noise {
        answer_to(&served, bytes).await;
    }
    assert_eq!(served.emit(vec![commit(1)]).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_method_is_named() {
    let served = served().await;
    for path in ["/waybill.v1.EmitService/Nothing", "/no.Service/Method"] {
        let status = send(&served, path, Vec::new()).await.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::Unimplemented, "UNKNOWN_METHOD"),
            "{path}"
        );
    }
}
