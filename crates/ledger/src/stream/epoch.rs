//! Epochs: the message that opens one, and the leaf that it becomes (LEDGER Q5). Pure.
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use waybill_core::{Event, Time};
use waybill_proto::{canonical, parse, pb};
use waybill_store::{Hash, Record, Verdict};

use super::arrival::Meaning;
use crate::admit::RULES_VERSION;

/// Kind of the event that opens an epoch.
pub(crate) const OPENED: &str = "ledger.epoch_opened";

/// The stretch of a stream that is followed: position = base + (sequence − first).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) epoch: u32,
    /// Position of the first sequence.
    pub(crate) base: u64,
    pub(crate) first_sequence: u64,
    /// Last sequence that is recorded; first − 1 where there is none yet.
    pub(crate) last_sequence: u64,
}

impl Line {
    /// The position of a sequence of this epoch.
    pub(crate) fn position(&self, sequence: u64) -> Option<u64> {
        Some(self.base + sequence.checked_sub(self.first_sequence)?)
    }

    /// Whether any message of it is recorded.
    pub(crate) fn is_empty(&self) -> bool {
        self.last_sequence < self.first_sequence
    }
}

/// What a message that opens an epoch says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Opener {
    pub(crate) ledger_id: Arc<str>,
    pub(crate) epoch: u32,
    pub(crate) last_position: u64,
    pub(crate) last_root: Hash,
    pub(crate) stream_name: String,
    pub(crate) first_sequence: u64,
    /// Sequences that are lost, both included.
    pub(crate) gap: Option<(u64, u64)>,
    pub(crate) first_leaf_hash: Option<Hash>,
    /// When the broker stored the message.
    pub(crate) time: Time,
    /// The encoded event.
    pub(crate) wire: Bytes,
}

/// Who opens an epoch, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) who: String,
    pub(crate) why: String,
}

/// Id of the message that opens an epoch.
pub(crate) fn opener_id(epoch: u32) -> String {
    format!("epoch_opened:{epoch}")
}

/// Id of the epoch's own leaf.
pub(crate) fn leaf_id(epoch: u32) -> String {
    format!("epoch:{epoch}")
}

impl Opener {
    /// Reads it from the event that a message on the gate means.
    pub(crate) fn read(meaning: &Meaning, time: Time) -> Option<Self> {
        if &*meaning.event.kind.0 != OPENED {
            return None;
        }
        Self::of_wire(meaning.wire.clone(), time)
    }

    fn of_wire(wire: Bytes, time: Time) -> Option<Self> {
        let event = pb::Event::decode(&*wire).ok()?;
        let opened = opened(&event)?;
        let gap = (opened.gap_first_sequence, opened.gap_last_sequence);
        // Epoch 0 is a ledger's own order, and no stream has a sequence 0.
        if opened.epoch == 0 || opened.first_sequence == 0 {
            return None;
        }
        Some(Self {
            ledger_id: Arc::from(&*opened.ledger_id),
            epoch: opened.epoch,
            last_position: opened.last_position,
            last_root: hash(&opened.last_root)?,
            stream_name: opened.stream_name.clone(),
            first_sequence: opened.first_sequence,
            gap: (gap != (0, 0)).then_some(gap),
            first_leaf_hash: hash(&opened.first_leaf_hash),
            time,
            wire,
        })
    }

    /// The event to publish.
    pub(crate) fn event(&self, said: &Said, now: Time) -> pb::Event {
        let (gap_first_sequence, gap_last_sequence) = self.gap.unwrap_or_default();
        let opened = pb::EpochOpened {
            ledger_id: self.ledger_id.to_string(),
            epoch: self.epoch,
            last_position: self.last_position,
            last_root: Bytes::copy_from_slice(&self.last_root),
            stream_name: self.stream_name.clone(),
            first_sequence: self.first_sequence,
            gap_first_sequence,
            gap_last_sequence,
            first_leaf_hash: self
                .first_leaf_hash
                .map(|hash| Bytes::copy_from_slice(&hash))
                .unwrap_or_default(),
            who: (!said.who.is_empty()).then(|| pb::Actor {
                id: said.who.clone(),
                ..Default::default()
            }),
            why: said.why.clone(),
        };
        pb::Event {
            source: self.ledger_id.to_string(),
            id: opener_id(self.epoch),
            occur_time: Some(prost_types::Timestamp {
                seconds: now.seconds(),
                nanos: now.subsec_nanos(),
            }),
            occur_time_basis: pb::OccurTimeBasis::Reported.into(),
            payload: Some(pb::event::Payload::Ledger(pb::LedgerEvent {
                event: Some(pb::ledger_event::Event::EpochOpened(opened)),
            })),
            ..Default::default()
        }
    }

    /// An opener that is still to be published.
    pub(crate) fn new(
        ledger_id: &Arc<str>,
        epoch: u32,
        (last_position, last_root): (u64, Hash),
        stream_name: &str,
        first_sequence: u64,
    ) -> Self {
        Self {
            ledger_id: ledger_id.clone(),
            epoch,
            last_position,
            last_root,
            stream_name: stream_name.to_owned(),
            first_sequence,
            gap: None,
            first_leaf_hash: None,
            time: Time::default(),
            wire: Bytes::new(),
        }
    }

    /// The epoch's own record, the same for every ledger that follows (LEDGER Q5).
    pub(crate) fn record(&self, not_before: Option<Time>) -> Option<(Record, Event)> {
        let mut event = pb::Event::decode(&*self.wire).ok()?;
        event.id = leaf_id(self.epoch);
        let Some(pb::event::Payload::Ledger(pb::LedgerEvent {
            event: Some(pb::ledger_event::Event::EpochOpened(opened)),
        })) = &mut event.payload
        else {
            return None;
        };
        (opened.who, opened.why) = (None, String::new());
        let bytes = canonical::canonical(&event.encode_to_vec(), canonical::VERSION).ok()?;
        let bytes = Bytes::from(bytes);
        let parsed = parse::parse(&bytes).ok()?;
        let record = Record {
            position: self.last_position + 1,
            record_time: not_before.or(parsed.occur_time).unwrap_or(self.time),
            epoch: self.epoch,
            stream_sequence: 0,
            salt: None,
            subject: String::new(),
            headers: Vec::new(),
            verdict: Verdict::Ledger,
            rules_version: RULES_VERSION,
            source: parsed.identity.source.clone(),
            id: parsed.identity.id.clone(),
            kind: Arc::from(&*parsed.kind.0),
            flags: 0,
            bytes,
        };
        Some((record, parsed))
    }

    /// The line that begins with this epoch.
    pub(crate) fn line(&self) -> Line {
        Line {
            epoch: self.epoch,
            base: self.last_position + 2,
            first_sequence: self.first_sequence,
            last_sequence: self.first_sequence.saturating_sub(1),
        }
    }
}

/// The line that an epoch's own leaf began.
pub(crate) fn line_of(leaf: &Record) -> Option<Line> {
    Some(Opener::of_wire(leaf.bytes.clone(), leaf.record_time)?.line())
}

/// The name of the stream that an epoch's own leaf began.
pub(crate) fn stream_of(leaf: &Record) -> Option<String> {
    Some(Opener::of_wire(leaf.bytes.clone(), leaf.record_time)?.stream_name)
}

fn opened(event: &pb::Event) -> Option<&pb::EpochOpened> {
    match event.payload.as_ref()? {
        pb::event::Payload::Ledger(ledger) => match ledger.event.as_ref()? {
            pb::ledger_event::Event::EpochOpened(opened) => Some(opened),
            _ => None,
        },
        _ => None,
    }
}

fn hash(bytes: &[u8]) -> Option<Hash> {
    bytes.try_into().ok()
}
