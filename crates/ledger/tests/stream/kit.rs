//! A ledger's directories, its runtime, and events to publish.
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use prost::Message as _;
use tokio::{runtime::Runtime, task::JoinHandle};
use waybill_core::{Identity, Time};
use waybill_ledger::{
    Config, Emitted, Entry, Filter, Host, Key, Leaves, Ledger, Rejection, Sender,
    stream::{Condition, Freeze, StreamConfig, join},
};
use waybill_proto::{json, pb, subject};

use crate::fake::{Fake, NAME};

/// Nothing in these tests takes so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// The runtime that ledgers follow on.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// Where a ledger lives.
pub(crate) struct Bed {
    _temporary: tempfile::TempDir,
    pub(crate) root: PathBuf,
    random: Arc<AtomicU64>,
}

impl Bed {
    pub(crate) fn new(seed: u64) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        Self {
            root: temporary.path().to_owned(),
            _temporary: temporary,
            random: Arc::new(AtomicU64::new(seed << 32)),
        }
    }

    pub(crate) fn config(&self) -> Config {
        Config {
            directory: self.root.join("data"),
            state_directory: self.root.join("state"),
            probe: None,
            segment_bytes: 1 << 20,
            cache_bytes: 16 << 20,
            view_checkpoint_events: 20,
            scrub_every: Duration::from_secs(3600),
            holder: "a test".to_owned(),
            stream: None,
            new_ledger_id: None,
        }
    }

    pub(crate) fn host(&self) -> Host {
        let clock = Arc::new(AtomicI64::new(1_700_000_000_000_000_000));
        let random = self.random.clone();
        Host {
            clock: Arc::new(move || {
                Time::from_nanos_clamped(clock.fetch_add(1_000_000, Ordering::Relaxed).into())
            }),
            random: Arc::new(move |out| {
                for byte in out {
                    let next = random.fetch_add(1, Ordering::Relaxed);
                    *byte = next.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()[0];
                }
            }),
        }
    }

    /// Opens a ledger that orders by itself.
    pub(crate) fn local(&self) -> Ledger {
        Ledger::open(self.config(), self.host(), &mut |_| {}).unwrap()
    }

    /// Opens a ledger that follows the stream, and joins its ledger where this one is new.
    pub(crate) fn follow(&self, runtime: &Runtime, broker: &Fake) -> Following {
        let stream = StreamConfig {
            broker: Arc::new(broker.clone()),
            name: NAME.to_owned(),
            org: String::new(),
            compare_every: Duration::from_millis(20),
        };
        let new = !waybill_ledger::is_ledger(&self.root.join("data"));
        let joined = new.then(|| runtime.block_on(join(broker, NAME, &self.host())).unwrap());
        let config = Config {
            stream: Some(stream),
            new_ledger_id: joined.map(|joined| joined.ledger_id),
            ..self.config()
        };
        let ledger = Ledger::open(config, self.host(), &mut |_| {}).unwrap();
        let follower = ledger.clone();
        let task = runtime.spawn(async move { follower.follow().await });
        Following { ledger, task }
    }
}

/// A ledger and the task that follows.
pub(crate) struct Following {
    pub(crate) ledger: Ledger,
    task: JoinHandle<()>,
}

impl Following {
    /// Waits until a position is durable and folded.
    pub(crate) async fn reach(&self, position: u64) {
        let mut heads = self.ledger.heads();
        let reached = heads.wait_for(|heads| {
            heads.durable >= position && heads.applied >= position && heads.folded >= position
        });
        match tokio::time::timeout(PATIENCE, reached).await {
            Ok(reached) => drop(reached.unwrap()),
            Err(_) => panic!(
                "position {position} is not reached: {:?}",
                self.ledger.status()
            ),
        }
    }

    /// Waits until the condition is as wanted.
    pub(crate) async fn until(&self, wanted: impl Fn(&Condition) -> bool) -> Condition {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let condition = self.condition();
            if wanted(&condition) {
                return condition;
            }
            assert!(tokio::time::Instant::now() < end, "{condition:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub(crate) async fn frozen(&self) -> Freeze {
        let frozen = |condition: &Condition| matches!(condition, Condition::Frozen(_));
        match self.until(frozen).await {
            Condition::Frozen(freeze) => freeze,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn condition(&self) -> Condition {
        self.ledger.status().stream.unwrap().condition
    }

    pub(crate) async fn emit(&self, events: &[pb::Event]) -> Result<Vec<Emitted>, Rejection> {
        let events = events.iter().map(|event| event.encode_to_vec().into());
        self.ledger
            .emit(events.collect(), &Sender::unverified())
            .await
    }

    /// All leaves of a kind.
    pub(crate) async fn leaves(&self, leaves: Leaves) -> Vec<Entry> {
        let filter = Filter {
            leaves,
            ..Filter::default()
        };
        self.ledger
            .list(&filter, 10_000, None, 0)
            .await
            .unwrap()
            .entries
    }

    pub(crate) async fn entry(&self, position: u64) -> Entry {
        self.ledger.entry(&Key::Position(position)).await.unwrap()
    }

    pub(crate) async fn root(&self, size: u64) -> [u8; 32] {
        self.ledger.checkpoint(size).await.unwrap().root
    }

    /// Stops as a service does.
    pub(crate) fn close(self) {
        self.task.abort();
        // It holds the ledger, and with it the directory's lock, until it is gone.
        while !self.task.is_finished() {
            std::thread::yield_now();
        }
        self.ledger.close().unwrap();
    }
}

/// A commit, as proto3 JSON.
pub(crate) fn commit_json(id: &str, subject_line: &str) -> String {
    let revision = format!(
        "{:040x}",
        id.bytes()
            .fold(7_u128, |hash, byte| hash * 31 + u128::from(byte))
    );
    format!(
        r#"{{"source": "//ci/shop", "id": "{id}", "occurTime": "2026-11-03T09:00:00Z",
            "commit": {{"recorded": {{"repository": "github.com/acme/shop", "revision": "{revision}", "subjectLine": "{subject_line}"}}}}}}"#
    )
}

pub(crate) fn commit(id: &str, subject_line: &str) -> pb::Event {
    pb::Event::decode(&*json::event_from_json(commit_json(id, subject_line)).unwrap()).unwrap()
}

pub(crate) fn bytes(event: &pb::Event) -> Bytes {
    event.encode_to_vec().into()
}

/// Where services publish this event.
pub(crate) fn subject_of(event: &pb::Event) -> String {
    let parsed = waybill_proto::parse::parse(&bytes(event)).unwrap();
    subject::events_subject(&parsed, "")
}

pub(crate) fn identity(id: &str) -> Identity {
    Identity {
        source: "//ci/shop".into(),
        id: id.into(),
    }
}

/// A service publishes a commit in protobuf.
pub(crate) fn publish(broker: &Fake, id: &str, subject_line: &str) -> u64 {
    let event = commit(id, subject_line);
    broker.put(&subject_of(&event), &[], &bytes(&event))
}
