//! What the fault tests share: a ledger of its own, the real command, and everything that a client can ask, as one value.
use std::{
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use prost::Message;
use prost_types::Timestamp;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tonic::{Status, transport::Channel};
use waybill_proto::pb::{
    self, EmitRequest, GetStatusResponse, emit_service_client::EmitServiceClient,
    ledger_service_client::LedgerServiceClient, trace_service_client::TraceServiceClient,
};
use waybill_tests::{
    load,
    process::{self, Home, Server},
};

/// How long something may take that must come by itself.
const PATIENCE: Duration = Duration::from_secs(30);
/// So many emitters' events are in a ledger of these tests; each has a service of its own.
pub(crate) const EMITTER: usize = 0;

/// A home in a temporary directory.
pub(crate) struct Bed {
    /// Holds the home, and what a test puts beside it.
    pub(crate) dir: TempDir,
    pub(crate) home: Home,
}

impl Bed {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("home");
        fs::create_dir(&root).unwrap();
        Self {
            dir,
            home: Home { root },
        }
    }

    pub(crate) fn serve(&self) -> Server {
        serve(&self.home)
    }
}

pub(crate) fn serve(home: &Home) -> Server {
    Server::start(home, &[]).unwrap()
}

/// Copies files and directories as they are; holes stay holes.
pub(crate) fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp")
        .args(["-a", "--sparse=always"])
        .args([from, to])
        .status();
    assert!(status.unwrap().success(), "{} is copied", from.display());
}

/// Runs the command on a home's ledger directory.
pub(crate) fn waybill(home: &Home, arguments: &[&str]) -> Output {
    process::command(home)
        .args(arguments)
        .arg("--ledger")
        .arg(home.data())
        .output()
        .unwrap()
}

/// `waybill verify` of a home's ledger directory.
pub(crate) fn verify(home: &Home) -> Output {
    process::command(home)
        .arg("verify")
        .arg(home.data())
        .output()
        .unwrap()
}

/// What a command said, on both streams.
pub(crate) fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// The files of the journal's segments, in order.
pub(crate) fn segments(home: &Home) -> Vec<PathBuf> {
    let entries = fs::read_dir(home.data().join("journal")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|it| it == "segment"))
        .collect();
    paths.sort();
    paths
}

/// Everything that a ledger answers, as it would be compared before and after a fault.
#[derive(Debug, PartialEq)]
pub(crate) struct Answers {
    pub(crate) root: Vec<u8>,
    /// Every recorded event, as sent.
    pub(crate) listed: Vec<Vec<u8>>,
    /// The same by another way: of one service, newest first.
    filtered: Vec<Vec<u8>>,
    /// Some by position and by identity.
    got: Vec<Vec<u8>>,
    receipts: Vec<Vec<u8>>,
    trace: Vec<u8>,
}

/// Asks a server, waiting for each answer.
pub(crate) struct Wire {
    runtime: Runtime,
    channel: Channel,
}

impl Wire {
    pub(crate) fn to(server: &Server) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let endpoint = tonic::transport::Endpoint::from_shared(server.url.clone())
            .unwrap()
            .timeout(PATIENCE);
        let channel = runtime.block_on(async { endpoint.connect_lazy() });
        Self { runtime, channel }
    }

    fn ledger(&self) -> LedgerServiceClient<Channel> {
        LedgerServiceClient::new(self.channel.clone()).max_decoding_message_size(64 << 20)
    }

    /// Emits events by number; their positions, when every one has a receipt.
    pub(crate) fn emit(&self, numbers: Range<u64>) -> Result<Vec<u64>, Status> {
        let events = numbers.map(|number| load::event(EMITTER, number)).collect();
        let mut client = EmitServiceClient::new(self.channel.clone());
        let response = self
            .runtime
            .block_on(client.emit(EmitRequest { events }))?
            .into_inner();
        let position = |result: pb::EmitResult| match result.result {
            Some(pb::emit_result::Result::Receipt(receipt)) => receipt.position,
            other => panic!("no receipt: {other:?}"),
        };
        Ok(response.results.into_iter().map(position).collect())
    }

    /// Emits again and again until there are receipts: what came to stand in the way has been taken away.
    pub(crate) fn emit_at_last(&self, numbers: Range<u64>) -> Vec<u64> {
        let start = Instant::now();
        loop {
            match self.emit(numbers.clone()) {
                Ok(positions) => return positions,
                Err(status) => assert!(start.elapsed() < PATIENCE, "still refused: {status}"),
            }
        }
    }

    pub(crate) fn status(&self) -> GetStatusResponse {
        let mut client = self.ledger();
        let call = client.get_status(pb::GetStatusRequest {});
        self.runtime.block_on(call).unwrap().into_inner()
    }

    /// The codes of what the start found, without what is only told.
    pub(crate) fn findings(&self) -> Vec<String> {
        let findings = self.status().findings;
        findings.into_iter().map(|finding| finding.code).collect()
    }

    /// Every event, with its position.
    pub(crate) fn list(
        &self,
        request: pb::ListEventsRequest,
    ) -> Result<Vec<pb::RecordedEvent>, Status> {
        let (mut all, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = pb::ListEventsRequest {
                page_size: 500,
                page_token,
                ..request.clone()
            };
            let mut client = self.ledger();
            let page = self
                .runtime
                .block_on(client.list_events(request))?
                .into_inner();
            all.extend(page.events);
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            page_token = page.next_page_token;
        }
    }

    pub(crate) fn get(&self, key: pb::get_event_request::Key) -> Result<pb::RecordedEvent, Status> {
        let request = pb::GetEventRequest {
            key: Some(key),
            at_least: None,
        };
        let mut client = self.ledger();
        let response = self
            .runtime
            .block_on(client.get_event(request))?
            .into_inner();
        Ok(response.event.unwrap())
    }

    pub(crate) fn at(&self, position: u64) -> Result<pb::RecordedEvent, Status> {
        self.get(pb::get_event_request::Key::Position(position))
    }

    fn receipt(&self, number: u64) -> Result<pb::Receipt, Status> {
        let request = pb::GetReceiptRequest {
            event: Some(identity(number)),
            ..Default::default()
        };
        let mut client = self.ledger();
        let response = self
            .runtime
            .block_on(client.get_receipt(request))?
            .into_inner();
        Ok(response.receipt.unwrap())
    }

    /// Traces the deployment that the event of a number tells of.
    fn trace(&self, number: u64, at_least: u64) -> Result<pb::TraceResponse, Status> {
        let read = pb::ReadOptions {
            at_least: Some(pb::AtLeast {
                ledger_id: String::new(),
                position: at_least,
            }),
            evaluated_time: Some(Timestamp {
                seconds: 1_800_000_000,
                nanos: 0,
            }),
            ..Default::default()
        };
        let request = pb::TraceRequest {
            read: Some(read),
            r#ref: format!("d-{number}"),
            ..Default::default()
        };
        let mut client = TraceServiceClient::new(self.channel.clone());
        Ok(self.runtime.block_on(client.trace(request))?.into_inner())
    }

    /// All answers about a ledger that holds the events of these numbers.
    pub(crate) fn answers(&self, numbers: Range<u64>) -> Result<Answers, Status> {
        let status = self.status();
        let at_least = Some(pb::AtLeast {
            ledger_id: String::new(),
            position: status.durable_position,
        });
        let everything = pb::ListEventsRequest {
            at_least,
            ..Default::default()
        };
        let of_service = pb::ListEventsRequest {
            descending: true,
            filter: Some(pb::EventFilter {
                entity: format!("service-{EMITTER}"),
                ..Default::default()
            }),
            ..everything.clone()
        };
        let some = || numbers.clone().step_by(37);
        let mut got = Vec::new();
        for position in (1..=status.durable_position).step_by(41) {
            got.push(self.at(position)?.encode_to_vec());
        }
        for number in some() {
            let event = self.get(pb::get_event_request::Key::Event(identity(number)))?;
            got.push(event.encode_to_vec());
        }
        let receipts = some().map(|number| self.receipt(number));
        let receipts = receipts.collect::<Result<Vec<_>, _>>()?;
        Ok(Answers {
            root: status.root.to_vec(),
            listed: encoded(&self.list(everything)?),
            filtered: encoded(&self.list(of_service)?),
            got,
            receipts: encoded(&receipts),
            trace: self
                .trace(numbers.end - 1, status.durable_position)?
                .encode_to_vec(),
        })
    }
}

fn encoded<M: Message>(messages: &[M]) -> Vec<Vec<u8>> {
    messages.iter().map(Message::encode_to_vec).collect()
}

/// Who emitted an event, and what it was called.
pub(crate) fn identity(number: u64) -> pb::EventRef {
    let event = load::event(EMITTER, number);
    pb::EventRef {
        source: event.source,
        id: event.id,
        position: 0,
    }
}

/// Flips one bit of a file.
pub(crate) fn flip(path: &Path, bit: u64) -> io::Result<()> {
    use std::os::unix::fs::FileExt as _;
    let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, bit / 8)?;
    byte[0] ^= 1 << (bit % 8);
    file.write_all_at(&byte, bit / 8)
}

pub(crate) fn is_root() -> bool {
    Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout.starts_with(b"0\n"))
}
