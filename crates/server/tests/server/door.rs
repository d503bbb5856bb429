//! Tokens while the server runs: streams that end with them, floods of wrong ones, and calls at once. And readers that stall.
use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming, metadata::MetadataValue};
use tonic_types::StatusExt;
use waybill_proto::pb;
use waybill_server::{
    Settings,
    tokens::{self, RANDOM_BYTES, Role, Secret, Token, Tokens},
};

use crate::{
    kit::{PATIENCE, Served, commit, large, reason, receipt, served_with},
    wire,
};

/// A file of tokens, and the server that goes by it.
struct Guarded {
    served: Served,
    text: String,
    tokens: watch::Sender<Arc<Tokens>>,
}

impl Guarded {
    async fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let (tokens, receive) = watch::channel(Arc::default());
        let served = served_with(|settings| {
            settings.door.tokens = Some(receive);
            change(settings);
        });
        Self {
            served: served.await,
            text: String::new(),
            tokens,
        }
    }

    /// Makes a token that operates.
    fn make(&mut self, name: &str, expire_time: Option<Timestamp>) -> Secret {
        let mut random = [0; RANDOM_BYTES];
        random[..name.len()].copy_from_slice(name.as_bytes());
        let secret = Secret::new(&random);
        let token = Token {
            name: name.into(),
            id: secret.id().to_owned(),
            sha256: secret.hash(),
            role: Role::Operate,
            sources: Vec::new(),
            create_time: Timestamp::UNIX_EPOCH,
            expire_time,
            revoke_time: None,
        };
        self.read(tokens::add(&self.text, &token).unwrap());
        secret
    }

    fn revoke(&mut self, name: &str) {
        let revoked = tokens::revoke(&self.text, name, Timestamp::now()).unwrap();
        self.read(revoked.unwrap());
    }

    fn read(&mut self, text: String) {
        self.tokens
            .send_replace(Arc::new(tokens::parse(&text).unwrap()));
        self.text = text;
    }

    async fn status(&self, bearer: &str) -> Result<pb::GetStatusResponse, Status> {
        let request = bearing(pb::GetStatusRequest {}, bearer);
        let answer = self.served.reads().get_status(request).await;
        answer.map(tonic::Response::into_inner)
    }
}

fn bearing<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    let value = MetadataValue::try_from(format!("Bearer {token}")).unwrap();
    request.metadata_mut().insert("authorization", value);
    request
}

/// Reads a stream to its failure.
async fn failure<T>(stream: &mut Streaming<T>) -> Status {
    let read = async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended well"),
                Err(status) => return status,
            }
        }
    };
    timeout(PATIENCE, read).await.expect("an end in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn open_streams_end_with_their_token_and_no_others() {
    let mut guarded = Guarded::new(|_| {}).await;
    let (gone, stays) = (guarded.make("gone", None), guarded.make("stays", None));
    let tail = |secret: &Secret| {
        let request = bearing(pb::TailEventsRequest::default(), secret.reveal());
        let mut reads = guarded.served.reads();
        async move { reads.tail_events(request).await.unwrap().into_inner() }
    };
    let (mut ending, mut going_on) = (tail(&gone).await, tail(&stays).await);
    let (requests, stream) = mpsc::channel(8);
    let stream = bearing(ReceiverStream::new(stream), gone.reveal());
    let answers = guarded.served.emits().emit_stream(stream).await;
    let mut answers = answers.unwrap().into_inner();
    let batch = |number| pb::EmitStreamRequest {
        events: vec![commit(number)],
    };
    requests.send(batch(1)).await.unwrap();
    let answer = answers.message().await.unwrap().unwrap();
    assert!(!receipt(&answer.results[0]).duplicate);

    guarded.revoke("gone");
    for status in [failure(&mut ending).await, failure(&mut answers).await] {
        assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
        assert_eq!(reason(&status), "UNAUTHENTICATED");
    }
    let refused = guarded.status(gone.reveal()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);

    // The other one goes on: what is emitted now arrives.
    let request = pb::EmitRequest {
        events: vec![commit(2)],
    };
    let mut emits = guarded.served.emits();
    let emitted = emits.emit(bearing(request, stays.reveal()));
    let position = receipt(&emitted.await.unwrap().into_inner().results[0]).position;
    let arrives = async {
        loop {
            let message = going_on.message().await.unwrap().unwrap().message;
            let Some(pb::tail_events_response::Message::Event(event)) = message else {
                continue;
            };
            if event.position == position {
                return;
            }
        }
    };
    timeout(PATIENCE, arrives).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_its_token_expires() {
    let mut guarded = Guarded::new(|_| {}).await;
    let soon = Timestamp::now() + Duration::from_secs(2);
    let secret = guarded.make("brief", Some(soon));
    let request = bearing(pb::TailEventsRequest::default(), secret.reveal());
    let tail = guarded.served.reads().tail_events(request).await;
    let status = failure(&mut tail.unwrap().into_inner()).await;
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(Timestamp::now() >= soon);
    assert!(guarded.status(secret.reveal()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_wrong_tokens_is_told_to_wait_and_others_are_let_in() {
    let mut guarded = Guarded::new(|settings| settings.limits.failures_per_minute = 3).await;
    let right = guarded.make("right", None);
    let wrong = Secret::new(&[9; RANDOM_BYTES]);
    let mut codes = Vec::new();
    for _ in 0..5 {
        let status = guarded.status(wrong.reveal()).await.unwrap_err();
        if status.code() == Code::ResourceExhausted {
            let wait = status
                .get_details_retry_info()
                .unwrap()
                .retry_delay
                .unwrap();
            assert!(
                wait <= Duration::from_secs(60) && !wait.is_zero(),
                "{wait:?}"
            );
        }
        codes.push(status.code());
    }
    use Code::{ResourceExhausted as Wait, Unauthenticated as No};
    assert_eq!(codes, [No, No, No, Wait, Wait]);
    let answer = guarded.served.get("/metrics").await;
    assert_eq!(answer.code, 429, "{answer:?}");
    assert!(answer.head.contains("retry-after: "), "{answer:?}");
    assert!(guarded.status(right.reveal()).await.is_ok());

    let bearer = format!("Bearer {}", right.reveal());
    let headers = [("authorization", bearer.as_str())];
    let metrics = guarded
        .served
        .http("GET", "/metrics", &headers, b"")
        .await
        .body;
    for line in [
        "waybill_denied_calls_total{reason=\"wrong_token\"} 5",
        "waybill_denied_calls_total{reason=\"no_token\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

/// Behind a proxy every connection has the proxy's address.
#[tokio::test(flavor = "multi_thread")]
async fn failures_behind_a_proxy_are_their_callers() {
    let guarded = Guarded::new(|settings| {
        settings.limits.failures_per_minute = 1;
        settings.door.behind_proxy = true;
    });
    let guarded = guarded.await;
    let code = async |forwarded: &str| {
        let headers = [("x-forwarded-for", forwarded)];
        guarded
            .served
            .http("GET", "/metrics", &headers, b"")
            .await
            .code
    };
    assert_eq!(code("192.0.2.1").await, 401);
    assert_eq!(code("192.0.2.1").await, 429);
    // What stands before the proxy's own word is the caller's claim.
    assert_eq!(code("192.0.2.9, 192.0.2.1").await, 429);
    assert_eq!(code("192.0.2.1, 192.0.2.2").await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_one_token_are_limited() {
    let mut guarded = Guarded::new(|settings| settings.limits.calls_per_token = 1).await;
    let (busy, other) = (guarded.make("busy", None), guarded.make("other", None));
    let request = bearing(pb::TailEventsRequest::default(), busy.reveal());
    let mut tail = guarded
        .served
        .reads()
        .tail_events(request)
        .await
        .unwrap()
        .into_inner();
    tail.message().await.unwrap();
    let status = guarded.status(busy.reveal()).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(
        status.message().contains("calls with this token"),
        "{status:?}"
    );
    assert!(guarded.status(other.reveal()).await.is_ok());
    drop(tail);
    // The place comes back when the server has heard that the stream is over.
    let again = async { while guarded.status(busy.reveal()).await.is_err() {} };
    timeout(PATIENCE, again).await.unwrap();
}

/// Events of so many bytes that no window and no socket holds them.
async fn fill(served: &Served) {
    for batch in 0..8 {
        let events = (0..15).map(|n| large(batch * 100 + n, 200 << 10));
        served.emit(events.collect()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_that_nobody_reads_gives_its_place_back_and_says_where_to_go_on() {
    let served = served_with(|settings| {
        settings.limits.tails = 1;
        settings.limits.read_max = Duration::from_millis(300);
    });
    let served = served.await;
    fill(&served).await;
    let tail = async || {
        served
            .reads()
            .tail_events(pb::TailEventsRequest::default())
            .await
    };
    let mut stalled = tail().await.unwrap().into_inner();
    let other = async {
        loop {
            if let Ok(other) = tail().await {
                return other;
            }
        }
    };
    let mut other = timeout(PATIENCE, other).await.unwrap().into_inner();
    assert!(other.message().await.is_ok());
    let status = failure(&mut stalled).await;
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::Unavailable, "NOT_READ")
    );
    assert!(status.get_details_retry_info().is_some());
}

/// A page of events over HTTP/2 whose client opens no window: the connection goes, and what lay there with it.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_nobody_reads_costs_its_connection() {
    let served = served_with(|settings| settings.limits.read_max = Duration::from_millis(300));
    let served = served.await;
    fill(&served).await;
    let request = pb::ListEventsRequest {
        page_size: 10,
        ..Default::default()
    };
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let path = "/waybill.v1.LedgerService/ListEvents";
    let call = wire::call(path, &request.encode_to_vec());
    stream.write_all(&call).await.unwrap();
    let mut said = Vec::new();
    let ended = timeout(PATIENCE, stream.read_to_end(&mut said)).await;
    drop(ended.expect("the server closes the connection"));
    // The window of a client that says nothing is 65,535 bytes (RFC 9113, 6.9.2).
    assert!((60_000..80_000).contains(&said.len()), "{}", said.len());
}

/// The same over HTTP/1.1, where the socket itself is full.
#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_nobody_reads_is_closed() {
    let served = served_with(|settings| {
        settings.limits.read_max = Duration::from_millis(300);
        settings.limits.connections = 2;
    });
    let served = served.await;
    fill(&served).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(served.address).await.unwrap();
    let body = "{\"pageSize\":10}";
    let request = format!(
        "POST /waybill.v1.LedgerService/ListEvents HTTP/1.1\r\nhost: localhost\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream
        .write_all(request.repeat(8).as_bytes())
        .await
        .unwrap();
    // Two connections are all there are, and the kit's channel is one of them.
    let answer = timeout(PATIENCE, served.get("/livez")).await.unwrap();
    assert_eq!(answer.code, 200);
    let mut said = Vec::new();
    drop(
        timeout(PATIENCE, stream.read_to_end(&mut said))
            .await
            .unwrap(),
    );
    assert!(said.len() < 16 << 20, "all of it was sent: {}", said.len());
}

/// A connection that is kept alive for nothing is closed.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_closed() {
    let served = served_with(|settings| settings.limits.send_max = Duration::from_millis(300));
    let served = served.await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream
        .write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut said = Vec::new();
    let ended = timeout(PATIENCE, stream.read_to_end(&mut said)).await;
    drop(ended.expect("the server closes the connection"));
    assert!(said.starts_with(b"HTTP/1.1 200 OK"));
}

/// The header of an HTTP/2 frame without a body: kind and flags.
fn bare_frame(kind: u8, flags: u8, length: u8) -> [u8; 9] {
    [0, 0, length, kind, flags, 0, 0, 0, 0]
}

#[tokio::test]
async fn a_connection_that_answers_every_sign_of_life_and_calls_nothing_is_closed() {
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const ACK: u8 = 1;
    let served = served_with(|settings| settings.limits.quiet_max = Duration::from_millis(300));
    let served = served.await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    stream.write_all(&bare_frame(SETTINGS, 0, 0)).await.unwrap();
    let closed = async {
        let mut header = [0; 9];
        while stream.read_exact(&mut header).await.is_ok() {
            let length = usize::from(header[1]) << 8 | usize::from(header[2]);
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.unwrap();
            match (header[3], header[4] & ACK) {
                (SETTINGS, 0) => stream
                    .write_all(&bare_frame(SETTINGS, ACK, 0))
                    .await
                    .unwrap(),
                (PING, 0) => {
                    let answer = [&bare_frame(PING, ACK, 8)[..], &body].concat();
                    stream.write_all(&answer).await.unwrap();
                }
                _ => {}
            }
        }
    };
    timeout(PATIENCE, closed)
        .await
        .expect("the server closes the connection");
}
