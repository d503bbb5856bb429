//! What the threads and the handle share.
use std::{
    collections::{HashSet, VecDeque},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU64, AtomicUsize},
    },
};

use tokio::sync::watch;
use waybill_core::{Event, Time};
use waybill_store::{
    Damage, Hash, Record, Tip,
    database::Database,
    place::{Head, Place},
    seen::Seen,
    side_log::SideLog,
};
use waybill_tlog::{Frontier, checkpoint::SigningKey};
use waybill_views::Facts;

use crate::{
    stream::Side,
    words::{Config, Finding, Heads, Host},
};

/// One group commit that is durable: what sled and the views still have to take in.
pub(crate) struct Batch {
    pub(crate) records: Vec<Arc<Record>>,
    /// The parsed form of each record, where it has one.
    pub(crate) events: Vec<Option<Arc<Event>>>,
    pub(crate) leaves: Vec<Hash>,
    /// Completed nodes of the tree: level, index, hash.
    pub(crate) nodes: Vec<(u8, u64, Hash)>,
    pub(crate) tip: Tip,
    pub(crate) frontier: Vec<u8>,
    pub(crate) root: Hash,
    /// Bytes of all its events, for bounding what waits.
    pub(crate) size: usize,
}

impl Batch {
    /// First position in it.
    pub(crate) fn first(&self) -> u64 {
        self.records.first().map_or(0, |record| record.position)
    }

    /// The record at a position, if it is in this batch.
    pub(crate) fn record(&self, position: u64) -> Option<&Arc<Record>> {
        let offset = position.checked_sub(self.first())?;
        self.records.get(usize::try_from(offset).ok()?)
    }
}

/// The end of what is durable.
#[derive(Clone)]
pub(crate) struct Durable {
    pub(crate) position: u64,
    pub(crate) record_time: Option<Time>,
    pub(crate) root: Hash,
    pub(crate) chain: Hash,
}

/// Whether emits are taken, and why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Writing {
    Open,
    /// Nothing is written until the cause is gone; then it goes on by itself.
    Paused(String),
    /// Nothing is written before a person has mended it.
    Closed(String),
}

/// Counters since start.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) duplicates: AtomicU64,
    pub(crate) conflicts: AtomicU64,
    /// Events handed in and not yet durable, and their bytes.
    pub(crate) queued_events: AtomicUsize,
    pub(crate) queued_bytes: AtomicUsize,
    /// Events durable and not yet in sled, and their bytes.
    pub(crate) unapplied_events: AtomicUsize,
    pub(crate) unapplied_bytes: AtomicUsize,
}

/// Everything that more than one thread touches.
pub(crate) struct Shared {
    pub(crate) host: Host,
    pub(crate) config: Config,
    pub(crate) place: Place,
    pub(crate) ledger_id: Arc<str>,
    pub(crate) instance_id: Arc<str>,
    pub(crate) signing_key: SigningKey,
    pub(crate) database: RwLock<Database>,
    pub(crate) seen: RwLock<Seen>,
    /// Batches that are durable and not yet applied or folded, oldest first.
    pub(crate) recent: RwLock<VecDeque<Arc<Batch>>>,
    /// Wakes the folder and the applier.
    pub(crate) recent_grew: Condvar,
    pub(crate) recent_lock: Mutex<()>,
    /// Wakes the keeper and the scrubber before their time is over.
    pub(crate) keeper_wake: Condvar,
    pub(crate) keeper_lock: Mutex<()>,
    pub(crate) facts: RwLock<Facts>,
    /// Position that the views' checkpoint reaches.
    pub(crate) views_kept: AtomicU64,
    pub(crate) durable: RwLock<Durable>,
    pub(crate) heads: watch::Sender<Heads>,
    pub(crate) writing: RwLock<Writing>,
    pub(crate) side_log: Mutex<SideLog>,
    pub(crate) findings: Mutex<Vec<Finding>>,
    /// What the start found allows no writing.
    pub(crate) read_only: bool,
    /// Positions that were recorded and cannot be read since the start.
    pub(crate) missing: Option<Damage>,
    pub(crate) counts: Counts,
    pub(crate) scrub_time: Mutex<Option<Time>>,
    /// Position that views must reach before questions are answered after a start.
    pub(crate) folded_from: u64,
    pub(crate) stopping: AtomicBool,
    pub(crate) journal_bytes: AtomicU64,
    /// The stream that gives the positions, where one does.
    pub(crate) stream: Option<Arc<Side>>,
    /// A head that was known before and is not reached yet; the head file keeps it until then (LEDGER J4).
    pub(crate) due: Mutex<Option<Head>>,
    /// Fingerprints of identities whose first conflict is known to be on record.
    pub(crate) conflicts_on_record: Mutex<HashSet<u64>>,
}

/// Identities that are kept; beyond that an identity's conflict may be put on record once more, which does no harm.
const CONFLICTS_KEPT: usize = 100_000;

impl Shared {
    /// Whether an identity's first conflict is known to be on record.
    pub(crate) fn conflict_on_record(&self, fingerprint: u64) -> bool {
        lock(&self.conflicts_on_record).contains(&fingerprint)
    }

    /// Notes that an identity's first conflict is on record.
    pub(crate) fn put_conflict_on_record(&self, fingerprint: u64) {
        let mut known = lock(&self.conflicts_on_record);
        if known.len() < CONFLICTS_KEPT {
            known.insert(fingerprint);
        }
    }
}

/// The tree's right edge; only the writer has it after start.
pub(crate) type Tree = Frontier;

/// Locks whatever a panicking thread left: every value behind these locks is replaced whole, never half.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// See [`lock`].
pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

/// See [`lock`].
pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
