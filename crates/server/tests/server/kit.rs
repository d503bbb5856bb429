//! A served ledger, its clients, and events for it.
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};
use tonic::transport::{Channel, Endpoint};
use waybill_core::Time;
use waybill_ledger::{Config, Host, Ledger};
use waybill_proto::pb::{
    self, delivery_service_client::DeliveryServiceClient, emit_service_client::EmitServiceClient,
    ledger_service_client::LedgerServiceClient, trace_service_client::TraceServiceClient,
};
use waybill_server::{Settings, serve};

/// Nothing that must happen takes longer; a test that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// 2026-11-01T10:00:00Z, where the scripted clock starts.
pub(crate) const START_SECONDS: i64 = 1_793_527_200;

pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) ledger: Ledger,
    pub(crate) channel: Channel,
    stop: oneshot::Sender<()>,
    server: JoinHandle<Result<(), waybill_server::Error>>,
    _directory: TempDir,
}

/// Serves a new ledger with settings of the test's choice.
pub(crate) async fn served_with(change: impl FnOnce(&mut Settings)) -> Served {
    let directory = tempfile::tempdir().unwrap();
    let ledger = ledger(&directory);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut settings = Settings::new(address);
    change(&mut settings);
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async { drop(stopped.await) };
    let server = tokio::spawn(serve(ledger.clone(), settings, listener, shutdown));
    let channel = Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .unwrap();
    Served {
        address,
        ledger,
        channel,
        stop,
        server,
        _directory: directory,
    }
}

pub(crate) async fn served() -> Served {
    served_with(|_| {}).await
}

fn ledger(directory: &TempDir) -> Ledger {
    let config = Config {
        directory: directory.path().join("data"),
        state_directory: directory.path().join("state"),
        probe: None,
        segment_bytes: 8 << 20,
        view_checkpoint_events: 1000,
        scrub_every: Duration::from_secs(3600),
        cache_bytes: 8 << 20,
        holder: "the server's tests".to_owned(),
        stream: None,
        new_ledger_id: None,
    };
    let ticks = AtomicI64::new(0);
    let clock = move || {
        let millis = ticks.fetch_add(1, Ordering::Relaxed);
        Time::try_new(START_SECONDS, 0)
            .unwrap()
            .plus_nanos(millis * 1_000_000)
    };
    let seed = AtomicI64::new(1);
    let random = move |bytes: &mut [u8]| {
        for byte in bytes {
            *byte = u8::try_from(seed.fetch_add(7, Ordering::Relaxed) & 0xff).unwrap();
        }
    };
    let host = Host {
        clock: Arc::new(clock),
        random: Arc::new(random),
    };
    Ledger::open(config, host, &mut |_| {}).unwrap()
}

impl Served {
    pub(crate) fn emits(&self) -> EmitServiceClient<Channel> {
        EmitServiceClient::new(self.channel.clone())
    }

    pub(crate) fn reads(&self) -> LedgerServiceClient<Channel> {
        LedgerServiceClient::new(self.channel.clone())
    }

    pub(crate) fn traces(&self) -> TraceServiceClient<Channel> {
        TraceServiceClient::new(self.channel.clone())
    }

    pub(crate) fn deliveries(&self) -> DeliveryServiceClient<Channel> {
        DeliveryServiceClient::new(self.channel.clone())
    }

    /// Emits events and gives their receipts, once reads see them.
    pub(crate) async fn emit(&self, events: Vec<pb::Event>) -> Vec<pb::Receipt> {
        let answer = self.emits().emit(pb::EmitRequest { events }).await;
        let results = answer.unwrap().into_inner().results;
        let receipts: Vec<pb::Receipt> = results.iter().map(|it| receipt(it).clone()).collect();
        let last = receipts.iter().map(|receipt| receipt.position).max();
        self.applied(last.unwrap_or(0)).await;
        receipts
    }

    /// Waits until reads see a position.
    async fn applied(&self, position: u64) {
        let mut heads = self.ledger.heads();
        let reached = heads.wait_for(|heads| heads.applied >= position);
        tokio::time::timeout(PATIENCE, reached)
            .await
            .unwrap()
            .unwrap();
    }

    /// Tells the server to stop; the handle ends when it has.
    pub(crate) fn stop(self) -> JoinHandle<Result<(), waybill_server::Error>> {
        self.stop.send(()).unwrap();
        self.server
    }

    /// One HTTP/1.1 request.
    pub(crate) async fn http(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("content-length: {}\r\n\r\n", body.len());
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        // A server that refuses a large body may close before it has read all of it.
        drop(stream.write_all(body).await);
        let mut bytes = Vec::new();
        drop(
            tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes))
                .await
                .unwrap(),
        );
        Answer::read(&bytes)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.http("GET", path, &[], b"").await
    }

    /// A JSON call of a method such as `LedgerService/GetStatus`.
    pub(crate) async fn json(&self, method: &str, body: &str) -> Answer {
        let path = format!("/waybill.v1.{method}");
        self.http(
            "POST",
            &path,
            &[("content-type", "application/json")],
            body.as_bytes(),
        )
        .await
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    fn read(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let code = head
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or(0);
        let head = head.to_ascii_lowercase();
        let body = if head.contains("transfer-encoding: chunked") {
            unchunked(body)
        } else {
            body.to_owned()
        };
        Self { code, head, body }
    }

    pub(crate) fn value(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The `reason` of a failure.
    pub(crate) fn reason(&self) -> String {
        let value = self.value();
        let details = value["details"].as_array().cloned().unwrap_or_default();
        let info = details
            .iter()
            .find(|it| it["@type"] == "type.googleapis.com/google.rpc.ErrorInfo");
        info.and_then(|info| info["reason"].as_str())
            .unwrap_or_default()
            .to_owned()
    }
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        whole += &rest[..size];
        body = rest[size..].trim_start_matches("\r\n");
        if size == 0 {
            break;
        }
    }
    whole
}

/// The number-th commit of a repository.
pub(crate) fn commit(number: u64) -> pb::Event {
    let recorded = pb::CommitRecorded {
        repository: "github.com/acme/shop".to_owned(),
        revision: revision(number),
        subject_line: format!("change {number}"),
        ..Default::default()
    };
    let commit = pb::CommitEvent {
        event: Some(pb::commit_event::Event::Recorded(recorded)),
    };
    pb::Event {
        source: "//ci.acme.dev/shop".to_owned(),
        id: format!("commit-{number}"),
        occur_time: Some(prost_types::Timestamp {
            seconds: START_SECONDS - 3600,
            nanos: 0,
        }),
        payload: Some(pb::event::Payload::Commit(commit)),
        ..Default::default()
    }
}

pub(crate) fn revision(number: u64) -> String {
    format!("{number:040x}")
}

/// An event with a large label-free text, so that its size can be chosen.
pub(crate) fn large(number: u64, bytes: usize) -> pb::Event {
    pb::Event {
        reason: "x".repeat(bytes),
        ..commit(number)
    }
}

/// The same commit in JSON.
pub(crate) fn commit_json(number: u64) -> String {
    format!(
        r#"{{"source":"//ci.acme.dev/shop","id":"commit-{number}","occurTime":"2026-11-01T09:00:00Z",
        "commit":{{"recorded":{{"repository":"github.com/acme/shop","revision":"{}","subjectLine":"change {number}"}}}}}}"#,
        revision(number)
    )
}

pub(crate) fn receipt(result: &pb::EmitResult) -> &pb::Receipt {
    match result.result.as_ref() {
        Some(pb::emit_result::Result::Receipt(receipt)) => receipt,
        other => panic!("a receipt is expected: {other:?}"),
    }
}

pub(crate) fn refusal(result: &pb::EmitResult) -> &pb::Refusal {
    match result.result.as_ref() {
        Some(pb::emit_result::Result::Refusal(refusal)) => refusal,
        other => panic!("a refusal is expected: {other:?}"),
    }
}

/// The `reason` of a failure.
pub(crate) fn reason(status: &tonic::Status) -> String {
    use tonic_types::StatusExt;
    status
        .get_details_error_info()
        .map(|info| info.reason)
        .unwrap_or_default()
}
