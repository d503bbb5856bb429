//! What the fault tests share: a ledger of its own, the real command, and everything that a client can ask, as one value.
use std::{
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
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
    load, loss,
    loss::Model,
    process::{self, Home, Server},
};

/// How long something may take that must come by itself.
const PATIENCE: Duration = Duration::from_secs(30);
/// So many emitters' events are in a ledger of these tests; each has a service of its own.
pub(crate) const EMITTER: usize = 0;

/// A home in a temporary directory, under the strict model of loss.
pub(crate) struct Bed {
    /// Holds the home, and what a test puts beside it.
    pub(crate) dir: TempDir,
    pub(crate) home: Home,
    model: Model,
}

impl Bed {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("home");
        fs::create_dir(&root).unwrap();
        Self::with(Home { root }, dir)
    }

    /// A home that is there already.
    pub(crate) fn with(home: Home, dir: TempDir) -> Self {
        let model = shim().keeping_in(dir.path());
        model.settle(&home.root).unwrap();
        Self { dir, home, model }
    }

    /// Serves under the model; `rules` are variables of the shim with their rules.
    pub(crate) fn serve(&self, rules: &[(&str, &str)]) -> io::Result<Server> {
        Server::start(&self.home, &self.environment(rules))
    }

    /// What makes a process run under the model.
    pub(crate) fn environment(&self, rules: &[(&str, &str)]) -> Vec<(String, String)> {
        let rules = rules
            .iter()
            .map(|(name, rule)| (name.to_string(), rule.to_string()));
        let model = self.model.environment(&self.home.root);
        model.into_iter().chain(rules).collect()
    }

    /// Runs the command on the ledger, under the model.
    pub(crate) fn waybill(&self, rules: &[(&str, &str)], arguments: &[&str]) -> Output {
        command(&self.home, arguments)
            .envs(self.environment(rules))
            .output()
            .unwrap()
    }

    /// Cuts the power: a server dies, and only what was synced is left.
    pub(crate) fn cut(&self, server: Server) {
        server.kill();
        self.cut_idle();
    }

    /// Cuts the power while nothing runs.
    pub(crate) fn cut_idle(&self) {
        self.model.cut(&self.home.root).unwrap();
    }

    /// Takes all that is there now as durable.
    pub(crate) fn settle(&self) {
        self.model.settle(&self.home.root).unwrap();
    }
}

/// The shim, compiled once.
fn shim() -> &'static Model {
    static SHIM: OnceLock<Model> = OnceLock::new();
    SHIM.get_or_init(|| Model::build(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap())
}

pub(crate) fn serve(home: &Home) -> Server {
    Server::start(home, &[]).unwrap()
}

/// Copies a file or a directory.
pub(crate) fn copy(from: &Path, to: &Path) {
    loss::copy(from, to).unwrap();
}

/// Runs the command on a home's ledger directory.
pub(crate) fn waybill(home: &Home, arguments: &[&str]) -> Output {
    command(home, arguments).output().unwrap()
}

fn command(home: &Home, arguments: &[&str]) -> Command {
    let mut command = process::command(home);
    command.args(arguments).arg("--ledger").arg(home.data());
    command
}

/// `waybill verify` of a ledger's directory or an export.
pub(crate) fn verify(home: &Home, path: &Path) -> Output {
    let mut command = process::command(home);
    command.arg("verify").arg(path).output().unwrap()
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

/// Asks a server, waiting for each answer. Its own thread hears when the server lets go of the connection.
pub(crate) struct Wire {
    runtime: Runtime,
    channel: Channel,
}

impl Wire {
    pub(crate) fn to(server: &Server) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
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

    /// Emits an event that is refused: it has no id.
    pub(crate) fn emit_refused(&self) {
        let event = pb::Event {
            id: String::new(),
            ..load::event(EMITTER, 0)
        };
        let events = vec![event];
        let mut client = EmitServiceClient::new(self.channel.clone());
        let response = self.runtime.block_on(client.emit(EmitRequest { events }));
        let result = response.unwrap().into_inner().results.remove(0).result;
        assert!(
            matches!(result, Some(pb::emit_result::Result::Refusal(_))),
            "{result:?}"
        );
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

    /// Every event that is durable.
    pub(crate) fn everything(&self) -> Result<Vec<pb::RecordedEvent>, Status> {
        self.list(pb::ListEventsRequest {
            at_least: Some(at_least(self.status().durable_position)),
            ..Default::default()
        })
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
    fn trace(&self, number: u64, position: u64) -> Result<pb::TraceResponse, Status> {
        let read = pb::ReadOptions {
            at_least: Some(at_least(position)),
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
        let of_service = pb::ListEventsRequest {
            descending: true,
            filter: Some(pb::EventFilter {
                entity: format!("service-{EMITTER}"),
                ..Default::default()
            }),
            at_least: Some(at_least(status.durable_position)),
            ..Default::default()
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
            listed: encoded(&self.everything()?),
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

fn at_least(position: u64) -> pb::AtLeast {
    pb::AtLeast {
        ledger_id: String::new(),
        position,
    }
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
