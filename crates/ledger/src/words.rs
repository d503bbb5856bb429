//! What goes into the ledger and what comes out, in its own words.
use std::{path::PathBuf, sync::Arc, time::Duration};

use waybill_core::{Entity, Identity, Refusal, Time};
use waybill_store::{Fault, Hash, Record, Verdict};

use crate::stream::{StreamConfig, StreamStatus};

/// Where a ledger lives and what it may use.
#[derive(Clone, Debug)]
pub struct Config {
    /// The data directory: journal, database, side log.
    pub directory: PathBuf,
    /// Keys and head file, outside the data directory (LEDGER J4, P2).
    pub state_directory: PathBuf,
    /// How to open the database in a child process first (LEDGER S2); `None` opens it directly.
    pub probe: Option<waybill_store::database::ProbeCommand>,
    /// Bytes of one journal segment; 64 MiB unless a test says otherwise.
    pub segment_bytes: u64,
    /// Bytes that sled may cache.
    pub cache_bytes: u64,
    /// Events after which what the views have folded is kept in a file (LEDGER S7), so that a start need not fold them
    /// again; a large ledger does so less often.
    pub view_checkpoint_events: u64,
    /// How long the ledger runs between two scrubs of its database, and before the first.
    pub scrub_every: Duration,
    /// How the lock file names this process to others: an address to ask, or a command.
    pub holder: String,
    /// The stream that gives the positions; `None`: this ledger orders by itself (LEDGER Q1, Q2).
    pub stream: Option<StreamConfig>,
    /// The ledger id that a new directory gets, where the stream belongs to a ledger already.
    pub new_ledger_id: Option<String>,
}

/// Tells the time.
pub type Clock = dyn Fn() -> Time + Send + Sync;

/// Fills with bytes that nobody can guess.
pub type Random = dyn Fn(&mut [u8]) + Send + Sync;

/// What the outside world lends: a clock and randomness.
#[derive(Clone)]
pub struct Host {
    /// The wall clock.
    pub clock: Arc<Clock>,
    /// Fills with bytes that nobody can guess.
    pub random: Arc<Random>,
}

/// How far long work has come.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// What is being done, in the present tense: `rebuilding the database`.
    pub what: &'static str,
    /// Positions done.
    pub done: u64,
    /// Positions in all, where known.
    pub total: Option<u64>,
}

/// The event is recorded (LEDGER A2, A3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Names the tree.
    pub ledger_id: Arc<str>,
    /// Names the replica.
    pub instance_id: Arc<str>,
    /// Who emitted it, and what they called it.
    pub identity: Identity,
    /// Contiguous from 1.
    pub position: u64,
    /// When it was recorded.
    pub record_time: Time,
    /// Hash of its leaf.
    pub leaf_hash: Hash,
    /// Salt of its leaf; `None` where it has none.
    pub salt: Option<[u8; 16]>,
    /// Size of the tree that answered.
    pub tree_size: u64,
    /// Root of that tree.
    pub root: Hash,
    /// It was recorded before; position, time and leaf are the first ones.
    pub duplicate: bool,
}

/// What became of one event.
pub type Emitted = Result<Receipt, Refused>;

/// The event is not recorded and will not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Field, value, rule, hint.
    pub refusal: Refusal,
    /// For a conflict: the identity and position that stand.
    pub recorded: Option<(Identity, u64)>,
}

/// The whole batch was not taken; nothing of it is recorded unless a later try says so.
#[derive(Debug, thiserror::Error)]
pub enum Rejection {
    /// Too much is under way.
    #[error("busy: {why}")]
    Busy {
        /// What is full.
        why: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// The batch itself breaks a limit.
    #[error(transparent)]
    Refused(Refusal),
    /// The ledger does not write now; reads go on.
    #[error("the ledger does not write: {why}")]
    NotWriting {
        /// Why, and what would mend it.
        why: String,
        /// True when it may write again without a restart (the disk was full).
        may_recover: bool,
    },
}

/// Where the ledger stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Heads {
    /// Last position that is durable.
    pub durable: u64,
    /// Last position that ledger reads see.
    pub applied: u64,
    /// Last position that questions see.
    pub folded: u64,
}

/// Which event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// By place.
    Position(u64),
    /// By identity.
    Identity(Identity),
}

/// An event as reads give it.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The record; its bytes are the event's own, or the message's.
    pub record: Arc<Record>,
    /// What is said of it now: an earlier version may not have understood it.
    pub verdict: Verdict,
    /// The encoded event that the record means; `None` where none can be read.
    pub event: Option<bytes::Bytes>,
    /// Why it is no fact, where it is none and no repeat.
    pub refusal: Option<Refusal>,
    /// Hash of its leaf.
    pub leaf_hash: Hash,
    /// What makes it the same fact as another; `None` for what cannot be parsed.
    pub natural_key: Option<[u8; 32]>,
    /// What it is about.
    pub entities: Vec<Entity>,
}

/// Which events; everything given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// `<family>.<predicate>` or `<family>`; empty is any.
    pub kinds: Vec<String>,
    /// An entity's full name, or plain text that is compared with the last segment (a commit id's prefix of 7 and more,
    /// a service's name).
    pub entity: Option<String>,
    /// The emitting source.
    pub source: Option<String>,
    /// Half open, on occur time.
    pub occur: (Option<Time>, Option<Time>),
    /// Half open, on record time.
    pub record: (Option<Time>, Option<Time>),
    /// First position, 1 where nothing is said.
    pub first_position: u64,
    /// Last position, included; 0 is open.
    pub last_position: u64,
    /// Newest first.
    pub descending: bool,
    /// Which leaves.
    pub leaves: Leaves,
}

/// Which leaves of the tree a list holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leaves {
    /// Facts.
    #[default]
    Facts,
    /// Everything, repeats and what could not be read included.
    All,
    /// Conflicts, and what was refused or could not be read.
    Refused,
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// In order of position, or the other way round.
    pub entries: Vec<Entry>,
    /// Position from which the next page starts (included); `None` on the last page.
    pub next: Option<u64>,
    /// Position that this list is read at.
    pub applied: u64,
}

/// A signed checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Signed note (C2SP signed-note, tlog-checkpoint).
    pub note: String,
    /// Size of its tree.
    pub tree_size: u64,
    /// Root of its tree.
    pub root: Hash,
    /// The instance's public key as a C2SP vkey.
    pub verifier_key: String,
}

/// That a leaf is in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inclusion {
    /// Which leaf, from 1.
    pub position: u64,
    /// Size of the tree.
    pub tree_size: u64,
    /// The leaf's hash.
    pub leaf_hash: Hash,
    /// From the leaf upwards.
    pub path: Vec<Hash>,
    /// Root of the tree.
    pub root: Hash,
}

/// That a tree grew from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consistency {
    /// Size before.
    pub old_size: u64,
    /// Size after.
    pub new_size: u64,
    /// RFC 6962 order.
    pub path: Vec<Hash>,
    /// Root before.
    pub old_root: Hash,
    /// Root after.
    pub new_root: Hash,
}

/// A receipt with all that is needed to check it elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// The receipt.
    pub receipt: Receipt,
    /// The leaf's bytes.
    pub leaf: Vec<u8>,
    /// The message's subject; empty for the local sequencer.
    pub subject: String,
    /// The message's kept headers.
    pub headers: Vec<(String, String)>,
    /// The event's bytes.
    pub event: bytes::Bytes,
    /// Newest signed checkpoint.
    pub checkpoint: Checkpoint,
    /// From the leaf to the checkpoint's root.
    pub inclusion: Vec<Hash>,
    /// From the size that was asked, where one was.
    pub consistency: Option<Consistency>,
}

/// Why a read has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadFailure {
    /// There is no such thing.
    #[error("{what} is not recorded in this ledger")]
    NotFound {
        /// What was looked for.
        what: String,
    },
    /// The request breaks a rule.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// `at_least` or `as_of` names a position that is not reached yet.
    #[error("position {wanted} is wanted and {have} is reached")]
    NotYet {
        /// What was asked for.
        wanted: u64,
        /// Where the ledger stands.
        have: u64,
    },
    /// Questions are being rebuilt.
    #[error("views are being rebuilt: {done} of {total}")]
    Rebuilding {
        /// Positions done.
        done: u64,
        /// Positions in all.
        total: u64,
    },
    /// The bytes on disk are not what was recorded.
    #[error(transparent)]
    Damaged(waybill_store::Damage),
    /// The store failed.
    #[error(transparent)]
    Fault(Fault),
}

/// The knowledge to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AsOf {
    /// Up to a position.
    Position(u64),
    /// Up to a record time.
    RecordTime(Time),
    /// Up to an event.
    Event(Identity),
}

/// A position of one ledger; reads wait for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AtLeast {
    /// Empty: not checked.
    pub ledger_id: String,
    /// Reads are made here or later.
    pub position: u64,
}

/// With whose eyes a question is answered (LEDGER K4 to K6).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Now, where nothing is said.
    pub as_of: Option<AsOf>,
    /// Read your writes.
    pub at_least: Option<AtLeast>,
    /// The question's *now*.
    pub evaluated_time: Option<Time>,
    /// `Some(lag)`: assumed knowledge with that lag in nanoseconds; `None`: as recorded.
    pub assumed_lag_nanos: Option<i64>,
}

/// What an answer stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Basis {
    /// Names the tree.
    pub ledger_id: Arc<str>,
    /// Every event up to here was used.
    pub position: u64,
    /// When that position was recorded; `None` for an empty ledger.
    pub record_time: Option<Time>,
    /// Root of the tree of that size.
    pub root: Hash,
    /// The question's *now*.
    pub evaluated_time: Time,
    /// As in [`ReadOptions`].
    pub assumed_lag_nanos: Option<i64>,
    /// Events that assumed knowledge left out because they have no occur time.
    pub excluded_count: u64,
    /// Leaves up to the position that are no facts and no repeats.
    pub refused_leaf_count: u64,
}

/// Whether something is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Yes.
    Serving,
    /// Not yet.
    Rebuilding,
    /// No.
    Refusing,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Somebody should look.
    Warn,
    /// A promise does not hold.
    Fail,
}

/// One line of what start-up and self-checks found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// A short fixed word.
    pub code: &'static str,
    /// What was seen.
    pub text: String,
    /// What to do.
    pub remedy: String,
}

/// Everything `status` shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// Names the tree.
    pub ledger_id: Arc<str>,
    /// Names the replica.
    pub instance_id: Arc<str>,
    /// Where it stands.
    pub heads: Heads,
    /// Root at the durable position.
    pub root: Hash,
    /// Record time of the durable position.
    pub record_time: Option<Time>,
    /// Which stretch of history is written to.
    pub epoch: u32,
    /// Admission rules in force.
    pub rules_version: u32,
    /// Whether emits are taken.
    pub emits: State,
    /// Why not, when not.
    pub emits_reason: String,
    /// Whether questions are answered.
    pub questions: State,
    /// Position that views must reach after a start before questions are answered.
    pub questions_total: u64,
    /// Bytes of journal segments.
    pub journal_bytes: u64,
    /// Bytes of the database on disk.
    pub database_bytes: u64,
    /// Bytes available to us.
    pub disk_available_bytes: u64,
    /// Duplicates answered since start.
    pub duplicate_count: u64,
    /// Conflicts since start.
    pub conflict_count: u64,
    /// Refusals ever.
    pub refusal_count: u64,
    /// When the last scrub ended.
    pub scrub_time: Option<Time>,
    /// The instance's public key as a C2SP vkey.
    pub verifier_key: String,
    /// What start-up and self-checks found.
    pub findings: Vec<Finding>,
    /// The stream that gives the positions, where one does.
    pub stream: Option<StreamStatus>,
    /// Leaves that are no facts and no repeats.
    pub refused_leaf_count: u64,
}

impl From<Fault> for ReadFailure {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Damage(damage) => Self::Damaged(damage),
            fault => Self::Fault(fault),
        }
    }
}
