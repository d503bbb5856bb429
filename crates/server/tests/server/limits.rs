//! Deadlines, sizes, counts: what is beyond a limit is said, never queued without end.
use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request};
use tonic_types::StatusExt;
use waybill_proto::pb;

use crate::kit::{PATIENCE, commit, large, reason, served, served_with};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_beyond_the_limit_is_the_callers_to_mend() {
    let served = served().await;
    let events = (0..30).map(|n| large(n, 200 << 10)).collect();
    let status = served
        .emits()
        .emit(pb::EmitRequest { events })
        .await
        .unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::InvalidArgument, "TOO_LARGE"),
        "{status:?}"
    );
    assert_eq!(served.emit(vec![commit(1)]).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_at_its_deadline() {
    let served = served().await;
    let mut request = Request::new(pb::TailEventsRequest::default());
    request
        .metadata_mut()
        .insert("grpc-timeout", "300m".parse().unwrap());
    let mut tail = served
        .reads()
        .tail_events(request)
        .await
        .unwrap()
        .into_inner();
    let status = timeout(PATIENCE, async {
        loop {
            if let Err(status) = tail.message().await {
                return status;
            }
        }
    });
    let status = status.await.unwrap();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::DeadlineExceeded, "DEADLINE_EXCEEDED")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_cannot_be_read_is_refused() {
    let served = served().await;
    let mut request = Request::new(pb::GetStatusRequest {});
    request
        .metadata_mut()
        .insert("grpc-timeout", "soon".parse().unwrap());
    let status = served.reads().get_status(request).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::InvalidArgument, "MALFORMED")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_at_once_are_limited() {
    let served = served_with(|settings| settings.limits.calls = 1).await;
    let waits = pb::GetEventRequest {
        key: Some(pb::get_event_request::Key::Position(1)),
        at_least: Some(pb::AtLeast {
            ledger_id: String::new(),
            position: 50,
        }),
    };
    let waiting = tokio::spawn({
        let mut reads = served.reads();
        async move {
            // The other caller may have the one place first.
            while reads
                .get_event(waits.clone())
                .await
                .is_err_and(|status| status.code() == Code::ResourceExhausted)
            {}
        }
    });
    let refused = async {
        loop {
            if let Err(status) = served.reads().get_status(pb::GetStatusRequest {}).await {
                return status;
            }
        }
    };
    let status = timeout(PATIENCE, refused).await.unwrap();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::ResourceExhausted, "BUSY")
    );
    assert!(
        status.get_details_retry_info().is_some(),
        "busy says when to come again"
    );
    waiting.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn emit_streams_are_limited_and_their_places_come_back() {
    let served = served_with(|settings| settings.limits.emit_streams = 1).await;
    let open = || async {
        let (requests, stream) = tokio::sync::mpsc::channel(1);
        let answers = served
            .emits()
            .emit_stream(ReceiverStream::new(stream))
            .await;
        answers.map(|answers| (requests, answers.into_inner()))
    };
    let (requests, mut answers) = open().await.unwrap();
    let status = open().await.err().unwrap();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::ResourceExhausted, "BUSY")
    );
    assert!(status.get_details_retry_info().is_some());
    drop(requests);
    assert!(answers.message().await.unwrap().is_none());
    let again = async { while open().await.is_err() {} };
    timeout(PATIENCE, again).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_limited_and_silent_ones_are_closed() {
    let served = served_with(|settings| {
        settings.limits.connections = 2;
        settings.limits.send_max = Duration::from_millis(200);
    })
    .await;
    // The channel has one place, these want the other; each is closed in its turn for saying nothing, or too little.
    for start in ["", "PRI * HT", "GET /livez HTTP/1.1\r\nhost:"] {
        let mut silent = TcpStream::connect(served.address).await.unwrap();
        silent.write_all(start.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        drop(
            timeout(PATIENCE, silent.read_to_end(&mut rest))
                .await
                .expect("a silent connection is closed"),
        );
    }
    let answer = served.get("/livez").await;
    assert_eq!((answer.code, answer.body.as_str()), (200, "ok\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_are_limited() {
    let served = served().await;
    let long = "x".repeat(100 << 10);
    let answer = served
        .http("GET", "/livez", &[("x-long", &long)], b"")
        .await;
    assert_eq!(answer.code, 431, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_address_than_loopback_is_not_served() {
    let served = served().await;
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let settings = waybill_server::Settings::new(listener.local_addr().unwrap());
    let result = waybill_server::serve(
        served.ledger.clone(),
        settings,
        listener,
        std::future::pending(),
    )
    .await;
    assert!(matches!(result, Err(waybill_server::Error::Exposed(_))));
}
