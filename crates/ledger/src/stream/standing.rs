//! How the ledger stands to the stream that it follows: what all threads see of it.
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Notify, oneshot, watch};
use waybill_store::Hash;

use super::{
    broker::{Broker, Fitness},
    epoch::Line,
};
use crate::{
    open::hex,
    shared::{lock, read, write},
    words::{Finding, Rejection, Severity},
};

/// Which stream to follow, and through whom.
#[derive(Clone, Debug)]
pub struct StreamConfig {
    /// The broker's side of the stream.
    pub broker: Arc<dyn Broker>,
    /// The stream's name.
    pub name: String,
    /// The `org` token of subjects that this ledger publishes to; empty for none.
    pub org: String,
    /// How often at least the broker's message at the last recorded sequence is compared with the ledger's.
    pub compare_every: Duration,
}

/// How often the stream is compared where nothing else is said: a broker that forgot is noticed within seconds.
pub const COMPARE_EVERY: Duration = Duration::from_secs(2);

/// Whether messages come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// In order.
    Following,
    /// The broker cannot be reached, and why; it is tried again.
    Away(String),
    /// The stream is not the one that is recorded; somebody must decide.
    Frozen(Freeze),
}

/// Why nothing is taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freeze {
    /// What happened.
    pub kind: FreezeKind,
    /// What was seen, with both hashes.
    pub reason: String,
    /// What to do.
    pub remedy: String,
    /// Hash of the ledger's leaf at its last sequence.
    pub ledger_leaf: Option<Hash>,
    /// Hash of the leaf that the broker's message there would be; none where it has none.
    pub broker_leaf: Option<Hash>,
}

impl Freeze {
    /// What was read from the stream again is not what the head file knew.
    pub(crate) fn of_another_head(position: u64, known: &Hash, found: &Hash) -> Self {
        Self {
            kind: FreezeKind::Inconsistent,
            reason: format!(
                "the head file knows root {} at position {position}, and what the stream gave again has root {}: the stream is not the one \
                 that was recorded",
                hex(known),
                hex(found)
            ),
            remedy: "restore a copy or an export that reaches that position, in an empty directory"
                .to_owned(),
            ledger_leaf: None,
            broker_leaf: None,
        }
    }
}

/// What happened to the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreezeKind {
    /// The broker has less than it acknowledged.
    LostTail,
    /// It has something else there.
    Differs,
    /// Messages between what is recorded and what it still has are gone: first and last, last below first where none is
    /// missing but nothing can be compared any more.
    Gap(u64, u64),
    /// The stream belongs to another ledger.
    Foreign,
    /// Another replica opened a new epoch at a position behind this ledger's head.
    Ahead,
    /// Another replica opened a new epoch at a position that this ledger has not reached and cannot reach.
    Behind,
    /// Another replica has another root at the same position.
    PeerDiffers,
    /// The stream's sequences do not fit the positions that are recorded: a fault of this program or of its files.
    Inconsistent,
}

impl FreezeKind {
    /// One word, the same in logs, metrics and answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LostTail => "lost_tail",
            Self::Differs => "differs",
            Self::Gap(..) => "gap",
            Self::Foreign => "foreign",
            Self::Ahead => "ahead",
            Self::Behind => "behind",
            Self::PeerDiffers => "peer_differs",
            Self::Inconsistent => "inconsistent",
        }
    }
}

/// A replica that was heard of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Names it.
    pub instance_id: String,
    /// Size of the tree that it signed last.
    pub position: u64,
    /// Root of that tree.
    pub root: Hash,
    /// Whether this ledger has the same root there; none before it has got so far.
    pub same: Option<bool>,
}

/// The stream's part of what `status` shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamStatus {
    /// The stream's name.
    pub name: String,
    /// Whether messages come in.
    pub condition: Condition,
    /// First position and sequence of the epoch; nothing before the first.
    pub base: Option<(u64, u64)>,
    /// Last sequence that is recorded.
    pub recorded_sequence: u64,
    /// Last sequence that the broker was known to have.
    pub broker_sequence: u64,
    /// How often since start the broker's message at the last recorded sequence was the one that is recorded.
    pub compared_count: u64,
    /// Messages that came again.
    pub redelivered_count: u64,
    /// Messages whose time was before the one before them.
    pub clamped_count: u64,
    /// How good a keeper the broker was when it was asked last; `None`: it was not asked yet.
    pub fitness: Option<Fitness>,
    /// Replicas that were heard of.
    pub peers: Vec<Peer>,
}

/// What the threads share of the stream.
pub(crate) struct Side {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) name: String,
    pub(crate) org: String,
    pub(crate) fitness: RwLock<Option<Fitness>>,
    pub(crate) compare_every: Duration,
    /// The epoch that is followed; none before the first. Only the writer changes it.
    pub(crate) line: RwLock<Option<Line>>,
    pub(crate) condition: watch::Sender<Condition>,
    pub(crate) broker_sequence: AtomicU64,
    /// Up to which sequence no message that opens the next epoch was found.
    pub(crate) looked_until: AtomicU64,
    /// How often the stream was found to be the one that is recorded.
    pub(crate) compared: watch::Sender<u64>,
    pub(crate) redelivered: AtomicU64,
    pub(crate) clamped: AtomicU64,
    /// Emits that wait until a sequence is recorded.
    waiting: Mutex<BTreeMap<u64, Vec<oneshot::Sender<()>>>>,
    /// Wakes the follower: somebody decided.
    pub(crate) decided: Notify,
    pub(crate) peers: Mutex<BTreeMap<String, Peer>>,
    /// Another replica has another root: nothing is taken in any more before a start.
    pub(crate) diverged: Mutex<Option<Freeze>>,
}

impl Side {
    pub(crate) fn new(config: StreamConfig, line: Option<Line>) -> Self {
        let StreamConfig {
            broker,
            name,
            org,
            compare_every,
        } = config;
        Self {
            broker,
            name,
            org,
            fitness: RwLock::default(),
            compare_every,
            diverged: Mutex::default(),
            line: RwLock::new(line),
            condition: watch::Sender::new(Condition::Away("not connected yet".to_owned())),
            broker_sequence: AtomicU64::new(0),
            looked_until: AtomicU64::new(0),
            compared: watch::Sender::new(0),
            redelivered: AtomicU64::new(0),
            clamped: AtomicU64::new(0),
            waiting: Mutex::default(),
            decided: Notify::new(),
            peers: Mutex::default(),
        }
    }

    /// Stops taking in anything before the next start.
    pub(crate) fn diverge(&self, freeze: Freeze) {
        *lock(&self.diverged) = Some(freeze);
        self.decided.notify_one();
    }

    pub(crate) fn line(&self) -> Option<Line> {
        read(&self.line).clone()
    }

    /// Notes how far messages are recorded, and wakes the emits that waited for them. Each waits for its own: all of them on
    /// one signal would wake a thousand for every group commit.
    pub(crate) fn set_line(&self, line: Line) {
        let last = line.last_sequence;
        let new_epoch = self.line().is_none_or(|before| before.epoch != line.epoch);
        *write(&self.line) = Some(line);
        let mut waiting = lock(&self.waiting);
        let left = match new_epoch {
            // Sequences of another epoch are not come to any more; whoever waits is told to look.
            true => BTreeMap::new(),
            false => waiting.split_off(&(last + 1)),
        };
        for waiter in std::mem::replace(&mut *waiting, left)
            .into_values()
            .flatten()
        {
            // Whoever does not wait any more needs no waking.
            waiter.send(()).unwrap_or_default();
        }
    }

    /// Ends when a sequence is recorded, or the epoch has changed.
    pub(crate) fn recorded(&self, sequence: u64) -> oneshot::Receiver<()> {
        let (waiter, woken) = oneshot::channel();
        let mut waiting = lock(&self.waiting);
        match self
            .line()
            .is_some_and(|line| line.last_sequence >= sequence)
        {
            // Both ends are in our hands: it is taken.
            true => waiter.send(()).unwrap_or_default(),
            false => waiting.entry(sequence).or_default().push(waiter),
        }
        woken
    }

    /// Changes the condition, and tells it once.
    pub(crate) fn set(&self, condition: Condition) {
        let changed = self.condition.send_if_modified(|now| {
            let changed = *now != condition;
            if changed {
                *now = condition.clone();
            }
            changed
        });
        if !changed {
            return;
        }
        match condition {
            Condition::Following => tracing::info!(stream = %self.name, "following the stream"),
            Condition::Away(why) => {
                tracing::warn!(stream = %self.name, why, "the broker is away; it is tried again");
            }
            Condition::Frozen(freeze) => {
                tracing::error!(
                    stream = %self.name, kind = freeze.kind.as_str(), reason = freeze.reason, remedy = freeze.remedy,
                    ledger_leaf = freeze.ledger_leaf.map(|hash| hex(&hash)), broker_leaf = freeze.broker_leaf.map(|hash| hex(&hash)),
                    "ingest is frozen; reads go on"
                );
            }
        }
    }

    /// What an emitter is told while messages do not come in.
    pub(crate) fn rejection(&self) -> Option<Rejection> {
        let why = match &*self.condition.borrow() {
            Condition::Following => return None,
            Condition::Away(why) => format!("the broker is away: {why}"),
            Condition::Frozen(freeze) => format!("{}; {}", freeze.reason, freeze.remedy),
        };
        Some(Rejection::NotWriting {
            why,
            may_recover: true,
        })
    }

    pub(crate) fn status(&self) -> StreamStatus {
        let line = self.line();
        StreamStatus {
            name: self.name.clone(),
            condition: self.condition.borrow().clone(),
            recorded_sequence: line.as_ref().map_or(0, |line| line.last_sequence),
            base: line.map(|line| (line.base, line.first_sequence)),
            broker_sequence: self.broker_sequence.load(Ordering::Relaxed),
            compared_count: *self.compared.borrow(),
            redelivered_count: self.redelivered.load(Ordering::Relaxed),
            clamped_count: self.clamped.load(Ordering::Relaxed),
            fitness: read(&self.fitness).clone(),
            peers: lock(&self.peers).values().cloned().collect(),
        }
    }
}

impl StreamStatus {
    /// How often the broker syncs, for people.
    #[must_use]
    pub fn sync(&self) -> &str {
        match &self.fitness {
            Some(fitness) => &fitness.sync,
            None => "unknown: the broker was not asked yet",
        }
    }

    /// True only where the broker is known to sync before it acknowledges.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.fitness.as_ref().is_some_and(|fitness| fitness.durable)
    }

    /// What `doctor` and `status` say of it.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        match &self.condition {
            Condition::Following => {}
            Condition::Away(why) => findings.push(Finding {
                severity: Severity::Warn,
                code: "broker_away",
                text: format!("stream {} cannot be followed: {why}", self.name),
                remedy: "nothing here: it is tried again; emitters keep their events".to_owned(),
            }),
            Condition::Frozen(freeze) => findings.push(Finding {
                severity: Severity::Fail,
                code: "stream_frozen",
                text: freeze.reason.clone(),
                remedy: freeze.remedy.clone(),
            }),
        }
        if !self.is_durable() {
            findings.push(Finding {
                severity: Severity::Warn,
                code: "broker_sync",
                text: format!(
                    "the broker may forget what it acknowledged when power fails: it syncs at a time that is {}",
                    self.sync()
                ),
                remedy: "set `sync_interval: always` (nats-server 2.10 and later) and name its monitoring address with --nats-monitor; \
                         until then receipts of this ledger are what holds"
                    .to_owned(),
            });
        }
        for (unfit, mend) in self.fitness.iter().flat_map(|fitness| &fitness.unfit) {
            findings.push(Finding {
                severity: Severity::Warn,
                code: "stream_configuration",
                text: format!("stream {}: {unfit}", self.name),
                remedy: mend.clone(),
            });
        }
        if self.clamped_count > 0 {
            findings.push(Finding {
                severity: Severity::Warn,
                code: "stream_clock",
                text: format!(
                    "{} messages had a time before the message before them; the earlier record time was kept",
                    self.clamped_count
                ),
                remedy: "look at the clocks of the broker's machines".to_owned(),
            });
        }
        findings
    }
}
