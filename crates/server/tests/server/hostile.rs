//! Bytes that nobody should send: refused with a reason, nothing lost, the server goes on.
use proptest::{prelude::*, test_runner::TestRunner};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Runtime,
    time::timeout,
};
use tonic::{Code, Status};

use crate::{
    kit::{PATIENCE, Served, commit, commit_json, reason, served},
    plain::send,
};

/// One served ledger for all cases of a property.
fn with_served(
    cases: u32,
    property: impl Fn(&Runtime, &Served, Vec<u8>, usize) -> Result<(), TestCaseError>,
) {
    let runtime = Runtime::new().unwrap();
    let served = runtime.block_on(served());
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
    let receipts = runtime.block_on(served.emit(vec![commit(424_242)]));
    assert_eq!(receipts.len(), 1, "the server goes on");
}

fn is_the_callers(status: &Status) -> Result<(), TestCaseError> {
    prop_assert!(
        matches!(
            status.code(),
            Code::InvalidArgument | Code::OutOfRange | Code::NotFound
        ),
        "{status:?}"
    );
    prop_assert!(!reason(status).is_empty(), "{status:?}");
    Ok(())
}

#[test]
fn arbitrary_bytes_over_grpc_are_answered() {
    with_served(64, |runtime, served, bytes, place| {
        let paths = [
            "/waybill.v1.EmitService/Emit",
            "/waybill.v1.LedgerService/ListEvents",
            "/waybill.v1.LedgerService/GetEvent",
            "/waybill.v1.LedgerService/GetReceipt",
        ];
        match runtime.block_on(send(served, paths[place % paths.len()], bytes)) {
            Ok(_) => Ok(()),
            Err(status) => is_the_callers(&status),
        }
    });
}

#[test]
fn an_event_with_changed_bytes_is_recorded_or_refused_in_its_place() {
    use prost::Message;
    with_served(64, |runtime, served, bytes, place| {
        let mut event = commit(7).encode_to_vec();
        let at = place % event.len();
        for (byte, change) in event[at..].iter_mut().zip(&bytes) {
            *byte ^= change;
        }
        let request = waybill_proto::raw::EmitRequest {
            events: vec![event.into()],
        };
        let answer = runtime.block_on(send(
            served,
            "/waybill.v1.EmitService/Emit",
            request.encode_to_vec(),
        ));
        let answer = waybill_proto::pb::EmitResponse::decode(answer.unwrap()).unwrap();
        prop_assert_eq!(answer.results.len(), 1);
        Ok(())
    });
}

#[test]
fn arbitrary_text_as_json_is_answered() {
    with_served(64, |runtime, served, bytes, place| {
        let mut text = format!("{{\"events\": [{}]}}", commit_json(9)).into_bytes();
        let at = place % text.len();
        text.splice(
            at..(at + bytes.len() / 8).min(text.len()),
            bytes.iter().copied().take(bytes.len() / 4),
        );
        let text = String::from_utf8_lossy(&text);
        let answer = runtime.block_on(served.json("EmitService/Emit", &text));
        prop_assert!(matches!(answer.code, 200 | 400), "{answer:?}");
        prop_assert!(
            answer.code == 200 || !answer.reason().is_empty(),
            "{answer:?}"
        );
        Ok(())
    });
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
    use prost::Message;
    let served = served().await;
    let request = waybill_proto::pb::EmitRequest {
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
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        drop(
            timeout(PATIENCE, stream.read_to_end(&mut rest))
                .await
                .expect("the connection is closed"),
        );
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
