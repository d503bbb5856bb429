//! What a record's leaf and index keys are. Pure, and the only place that says so.
use std::sync::OnceLock;

use waybill_core::{Entity, Event};
use waybill_store::{Hash, Keys, Pure, Record, Verdict, Word};
use waybill_tlog::leaf::{Leaf, commitment, headers_digest};

use crate::stream;

/// The functions that the store is lent (LEDGER J, S6).
pub(crate) const PURE: Pure = Pure { leaf: hash, index };

/// The record's leaf (LEDGER P1): nothing in it needs decoding.
pub(crate) fn leaf(record: &Record) -> Leaf {
    Leaf {
        epoch: record.epoch,
        stream_sequence: record.stream_sequence,
        record_time_nanos: record.record_time.nanos().unsigned_abs(),
        headers_digest: headers(record),
        salted: record.salt.is_some(),
        commitment: commitment(record.salt.as_ref(), &record.bytes),
    }
}

/// Hash of the record's leaf.
pub(crate) fn hash(record: &Record) -> Hash {
    leaf(record).hash()
}

/// Digest of subject and kept headers. Nearly every local record has neither, so that one is worked out once.
fn headers(record: &Record) -> Hash {
    static NONE: OnceLock<Hash> = OnceLock::new();
    if record.subject.is_empty() && record.headers.is_empty() {
        return *NONE.get_or_init(|| headers_digest("", &[]));
    }
    headers_digest(&record.subject, &record.headers)
}

/// What reads find a record by, from its bytes alone.
pub(crate) fn index(record: &Record) -> Keys {
    let mut keys =
        stream::of_record(record).map_or_else(|_| Keys::default(), |read| keys(&read.event));
    if is_refused(record.verdict) {
        keys.words.push(refused_word());
        keys.words.sort_unstable();
    }
    keys
}

/// Whether a leaf is no fact and no repeat either.
pub(crate) fn is_refused(verdict: Verdict) -> bool {
    match verdict {
        Verdict::Admitted | Verdict::Ledger | Verdict::Duplicate => false,
        Verdict::Conflict | Verdict::Undecodable | Verdict::Refused => true,
    }
}

/// The word that finds what is refused.
pub(crate) fn refused_word() -> Word {
    Word::of(&["leaf:refused"])
}

/// What reads find an event by.
pub(crate) fn keys(event: &Event) -> Keys {
    let mut words = Vec::with_capacity(3 + 2 * event.entities.len());
    words.push(kind_word(&event.kind.0));
    words.push(kind_word(event.kind.family()));
    words.push(source_word(&event.identity.source));
    for entity in &event.entities {
        words.push(entity_word(entity));
        words.push(plain_word(entity.last()));
    }
    words.sort_unstable();
    words.dedup();
    Keys {
        occur_time: event.occur_time,
        words,
    }
}

/// The word that finds a kind, or a whole family.
pub(crate) fn kind_word(kind: &str) -> Word {
    Word::of(&["kind:", kind])
}

/// The word that finds a source.
pub(crate) fn source_word(source: &str) -> Word {
    Word::of(&["source:", source])
}

/// The word that finds an entity by its name.
pub(crate) fn entity_word(entity: &Entity) -> Word {
    Word::of(&[entity.as_str()])
}

/// The word that finds an entity by the last part of its name; ids of commits by their first seven digits.
pub(crate) fn plain_word(last: &str) -> Word {
    let hex = last.len() >= 7 && last.bytes().all(|b| b.is_ascii_hexdigit());
    Word::of(&["plain:", if hex { &last[..7] } else { last }])
}
