//! What is stored: one record for each leaf, sealed around the bytes that came (LEDGER S6).
use std::sync::Arc;

use bytes::Bytes;
use waybill_core::Time;

use crate::seen;

/// SHA-256.
pub type Hash = [u8; 32];

/// One leaf's record: what the ledger adds, and the bytes exactly as they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Contiguous from 1.
    pub position: u64,
    /// When the ledger recorded it; never decreases with position.
    pub record_time: Time,
    /// Which stretch of history it belongs to; 0 is local.
    pub epoch: u32,
    /// The stream's sequence; 0 for the local sequencer.
    pub stream_sequence: u64,
    /// Salt of the leaf's commitment; `None` marks the leaf unsalted.
    pub salt: Option<[u8; 16]>,
    /// Subject of the message; empty for the local sequencer.
    pub subject: String,
    /// Headers that the leaf covers, sorted by name: `Content-Type`, `ce-*`, `Waybill-Sender`.
    pub headers: Vec<(String, String)>,
    /// What admission said.
    pub verdict: Verdict,
    /// Version of the admission rules that said it.
    pub rules_version: u32,
    /// First half of the identity; empty when undecodable.
    pub source: Arc<str>,
    /// Second half of the identity; empty when undecodable.
    pub id: Arc<str>,
    /// `<family>.<predicate>`; empty when undecodable.
    pub kind: Arc<str>,
    /// Bits for later versions; 0 today.
    pub flags: u32,
    /// The event's bytes as received.
    pub bytes: Bytes,
}

/// What admission said of a leaf. The local sequencer writes `Admitted` and `Ledger` only (LEDGER Q1, Q2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// A fact.
    Admitted,
    /// The ledger's own event.
    Ledger,
    /// The same identity and content as an earlier leaf.
    Duplicate,
    /// The same identity and other content than an earlier leaf.
    Conflict,
    /// Not an event that this version understands.
    Undecodable,
    /// An event that breaks a rule, or that its subject or headers contradict.
    Refused,
}

impl Record {
    /// Fingerprint of its identity; 0 where it is no fact, for only facts stand under an identity.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        match self.verdict.is_fact() {
            true => seen::fingerprint(&self.source, &self.id),
            false => 0,
        }
    }
}

impl Verdict {
    /// Whether the leaf is a fact: an event that answers count.
    #[must_use]
    pub fn is_fact(self) -> bool {
        matches!(self, Self::Admitted | Self::Ledger)
    }
}

/// What reads find a record by, worked out by the ledger from a record alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// When it happened, where known.
    pub occur_time: Option<Time>,
    /// Words to filter by, such as `kind:commit.recorded`, `source:…` or an entity name. Without repeats.
    pub words: Vec<Word>,
}

/// A word that lists filter by, as the index keeps it: CRC32C of its UTF-8. Two words may share one, so a hit is a hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Word(pub(crate) u32);

impl Word {
    /// The word that these parts make when joined.
    #[must_use]
    pub fn of(parts: &[&str]) -> Self {
        let join = |hash, part: &&str| crc32c::crc32c_append(hash, part.as_bytes());
        Self(parts.iter().fold(0, join))
    }
}

/// The pure functions that the ledger hands down, so that the store never opens a record.
#[derive(Clone, Copy)]
pub struct Pure {
    /// Hash of the record's leaf (LEDGER P1).
    pub leaf: fn(&Record) -> Hash,
    /// What reads find the record by.
    pub index: fn(&Record) -> Keys,
}

/// The end of a frame: everything up to here is one piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tip {
    /// Last position in the frame; 0 before the first.
    pub position: u64,
    /// Record time of that position; the epoch's zero before the first.
    pub record_time: Time,
    /// Chain over the leaf hashes of all frames so far.
    pub chain: Hash,
    /// Segment that the frame is in, from 1.
    pub segment: u32,
    /// Offset in that segment where the next frame would begin, in bytes.
    pub offset: u64,
}
