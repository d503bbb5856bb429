//! A message on its way to a record: read once, before the writer sees it. Pure.
use std::sync::Arc;

use bytes::Bytes;
use waybill_core::{Code, Event, Refusal, Time};
use waybill_proto::{
    kinds::LEDGER_KINDS,
    message::{self, Refused},
    parse,
    subject::Door,
};
use waybill_store::{Hash, Record, Verdict};

use super::broker::{Headers, Message};
use crate::{admit::RULES_VERSION, leaf};

/// A message as the writer takes it.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) sequence: u64,
    pub(crate) time: Time,
    pub(crate) subject: String,
    /// The kept headers, sorted (LEDGER P1).
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) salt: Option<[u8; 16]>,
    pub(crate) payload: Bytes,
    /// The event that it means, or why it means none.
    pub(crate) outcome: Result<Meaning, Refused>,
    /// Its headers are no text, so that nothing else of it counts.
    unreadable: bool,
}

/// Flag of a record: its message's headers could not be read.
const UNREADABLE_HEADERS: u32 = 1;

/// The event that a message means.
#[derive(Clone, Debug)]
pub(crate) struct Meaning {
    pub(crate) event: Arc<Event>,
    /// Its encoded form.
    pub(crate) wire: Bytes,
    /// Said by the ledger itself.
    pub(crate) own: bool,
}

impl Arrival {
    /// Reads a message of the stream that a ledger follows.
    pub(crate) fn read(message: Message, ledger_id: &str) -> Self {
        let Message {
            sequence,
            time,
            subject,
            headers,
            payload,
        } = message;
        let no_text = matches!(headers, Headers::Unreadable(_));
        let (kept, salt, outcome) = match headers {
            Headers::Unreadable(why) => (Vec::new(), None, Err(unreadable(&why))),
            Headers::Read(headers) => {
                let kept = message::kept(&subject, &headers);
                let outcome = meaning(&subject, &kept, &payload, ledger_id);
                (kept, message::salt(&headers), outcome)
            }
        };
        Self {
            sequence,
            time,
            subject,
            headers: kept,
            salt,
            payload,
            outcome,
            unreadable: no_text,
        }
    }

    /// What it takes up in a group commit, about, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let headers = self.headers.iter();
        let headers: usize = headers.map(|(name, value)| name.len() + value.len()).sum();
        self.payload.len() + self.subject.len() + headers
    }

    /// The record that it becomes at a place, without what admission says of it, and what it means. `not_before` is the
    /// record time of the position before it (LEDGER Q2).
    pub(crate) fn into_record(
        self,
        epoch: u32,
        position: u64,
        not_before: Time,
    ) -> (Record, Result<Meaning, Refused>) {
        let record = Record {
            position,
            record_time: self.time.max(not_before),
            epoch,
            stream_sequence: self.sequence,
            salt: self.salt,
            subject: self.subject,
            headers: self.headers,
            verdict: Verdict::Undecodable,
            rules_version: RULES_VERSION,
            source: Arc::from(""),
            id: Arc::from(""),
            kind: Arc::from(""),
            flags: match self.unreadable {
                true => UNREADABLE_HEADERS,
                false => 0,
            },
            bytes: self.payload,
        };
        (record, self.outcome)
    }

    /// Hash of the leaf that it is at a place.
    pub(crate) fn leaf(self, epoch: u32, position: u64, not_before: Time) -> Hash {
        let (record, _) = self.into_record(epoch, position, not_before);
        leaf::hash(&record)
    }
}

/// The event that a message means to a ledger, or why it is no fact of it.
fn meaning(
    subject: &str,
    kept: &[(String, String)],
    payload: &Bytes,
    ledger_id: &str,
) -> Result<Meaning, Refused> {
    let read = message::read(subject, kept, payload)?;
    let own = *read.event.identity.source == *ledger_id;
    let gate = matches!(Door::of(subject), Some((Door::Gate, _)));
    if own && !gate {
        let rule = "the ledger's own; only the ledger emits under it";
        return Err(not_allowed(
            "source",
            &read.event.identity.source,
            rule,
            read.wire,
        ));
    }
    if !own && LEDGER_KINDS.contains(&&*read.event.kind.0) {
        let rule = format!("a kind that only this ledger emits, as `{ledger_id}`");
        return Err(not_allowed("type", &read.event.kind.0, &rule, read.wire));
    }
    Ok(Meaning {
        event: Arc::new(read.event),
        wire: read.wire,
        own,
    })
}

fn not_allowed(field: &str, value: &str, rule: &str, wire: Bytes) -> Refused {
    Refused {
        refusal: Refusal::new(Code::NotAllowed, field, value, rule),
        wire: Some(wire),
    }
}

fn unreadable(why: &str) -> Refused {
    Refused {
        refusal: Refusal::new(
            Code::Undecodable,
            "headers",
            why,
            "no header block of NATS/1.0",
        ),
        wire: None,
    }
}

/// The event that a record's bytes mean, and its encoded form.
pub(crate) fn of_record(record: &Record) -> Result<message::Read, Refused> {
    let (subject, wire) = (&record.subject, &record.bytes);
    if record.flags & UNREADABLE_HEADERS != 0 {
        return Err(unreadable("not text"));
    }
    if !subject.is_empty() {
        return message::read(subject, &record.headers, wire);
    }
    let read = parse::parse(wire).map(|event| message::Read {
        event,
        wire: wire.clone(),
    });
    read.map_err(|refusal| Refused {
        refusal,
        wire: Some(wire.clone()),
    })
}

/// The event that a message of the stream means to a ledger now, by the rules in force.
pub(crate) fn meaning_now(record: &Record, ledger_id: &str) -> Result<Meaning, Refused> {
    if record.flags & UNREADABLE_HEADERS != 0 {
        return Err(unreadable("not text"));
    }
    meaning(&record.subject, &record.headers, &record.bytes, ledger_id)
}

/// Why a record is no fact, where it is none and no repeat.
pub(crate) fn refusal_of(
    record: &Record,
    ledger_id: &str,
    first_position: Option<u64>,
) -> Option<Refusal> {
    match record.verdict {
        Verdict::Admitted | Verdict::Ledger | Verdict::Duplicate => None,
        Verdict::Conflict => {
            let identity = waybill_core::Identity {
                source: record.source.clone(),
                id: record.id.clone(),
            };
            Some(crate::admit::conflict(
                &identity,
                first_position.unwrap_or_default(),
            ))
        }
        Verdict::Undecodable | Verdict::Refused => Some(match meaning_now(record, ledger_id) {
            Err(refused) => refused.refusal,
            Ok(meaning) => Refusal::new(
                Code::NotAllowed,
                "id",
                &meaning.event.identity.id,
                format!(
                    "refused under rules version {}, and the identity was taken since",
                    record.rules_version
                ),
            ),
        }),
    }
}
