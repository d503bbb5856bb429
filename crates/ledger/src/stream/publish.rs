//! The gate: events that came over gRPC or JSON are published, and answered when they are recorded (LEDGER Q3).
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use prost::Message as _;
use tokio::{sync::watch, time::timeout};
use waybill_core::{Event, Identity, Refusal};
use waybill_proto::{canonical, message, parse, pb, subject};
use waybill_store::{Record, Verdict, seen};

use super::{
    broker::{Acknowledged, Broker, BrokerFault, Outgoing},
    intake::compare_wire,
    standing::{Condition, Side},
};
use crate::{
    admit::{self, RULES_VERSION},
    leaf,
    ledger::Ledger,
    shared::{Writing, read},
    words::{Emitted, Host, Refused, Rejection},
    writer::{Item, Parsed, busy},
};

/// Events on their way through the broker at once; more are told to wait.
const IN_FLIGHT_MAX: usize = 20_000;

/// How long an emit waits while messages do not come in.
const AWAY_PATIENCE: Duration = Duration::from_secs(10);
/// Messages of the stream that may still be to record before an event that is published now would wait too long behind them.
const BACKLOG_MAX: u64 = 100_000;

/// What becomes of one item.
enum Slot {
    Refused(Box<Refused>),
    /// Recorded before, with the same content.
    Recorded(Arc<Record>),
    Publishing(Box<Publishing>),
}

struct Publishing {
    identity: Identity,
    wire: Bytes,
    outgoing: Outgoing,
    ack: Acknowledged,
}

impl Ledger {
    /// Publishes events and waits until this ledger has recorded them.
    pub(crate) async fn emit_to_stream(
        &self,
        side: &Side,
        items: Vec<Item>,
        sender: &str,
    ) -> Result<Vec<Emitted>, Rejection> {
        if let Some(rejection) = side.rejection() {
            return Err(rejection);
        }
        // What is published now would wait in the stream until the journal is written again.
        let writing = read(&self.shared.writing).clone();
        if writing != Writing::Open {
            return Err(writing.rejection());
        }
        let epoch = side.line().map(|line| line.epoch);
        let slots = items.into_iter().map(|item| self.slot(side, item, sender));
        let slots = futures_util::future::join_all(slots).await;
        let mut slots: Vec<Slot> = slots.into_iter().collect::<Result<_, _>>()?;
        self.all_recorded(side, epoch, &slots).await?;
        if self.publish_taken(side, &mut slots).await? {
            self.all_recorded(side, epoch, &slots).await?;
        }
        slots
            .into_iter()
            .map(|slot| self.answer(side, slot))
            .collect()
    }

    async fn all_recorded(
        &self,
        side: &Side,
        epoch: Option<u32>,
        slots: &[Slot],
    ) -> Result<(), Rejection> {
        // A repeat of what was lost before the epoch began is not waited for: it is published anew.
        let first = side.line().map_or(0, |line| line.first_sequence);
        let sequence = |slot: &Slot| match slot {
            Slot::Publishing(publishing)
                if !publishing.ack.duplicate || publishing.ack.sequence >= first =>
            {
                Some(publishing.ack.sequence)
            }
            _ => None,
        };
        match slots.iter().filter_map(sequence).max() {
            Some(last) => self.recorded(side, epoch, last).await,
            None => Ok(()),
        }
    }

    /// The broker knows message ids of the whole stream: whoever guesses one may have published something else under it,
    /// and ours was taken for a repeat of that, or of one that was purged before it was recorded. Such an event is
    /// published once more, without an id.
    async fn publish_taken(&self, side: &Side, slots: &mut [Slot]) -> Result<bool, Rejection> {
        let mut any = false;
        for slot in slots {
            let Slot::Publishing(publishing) = slot else {
                continue;
            };
            if !publishing.ack.duplicate || self.is_ours(side, publishing) {
                continue;
            }
            let mut outgoing = publishing.outgoing.clone();
            outgoing
                .headers
                .retain(|(name, _)| name != message::MESSAGE_ID);
            publishing.ack = side.broker.publish(outgoing).await.map_err(unknown)?;
            any = true;
        }
        Ok(any)
    }

    /// Whether the message that the broker names has what we published.
    fn is_ours(&self, side: &Side, publishing: &Publishing) -> bool {
        let line = side.line();
        let position = line.and_then(|line| line.position(publishing.ack.sequence));
        let record = position.and_then(|position| self.shared.record(position).ok().flatten());
        record.is_some_and(|record| {
            let identity = &publishing.identity;
            record.source == identity.source
                && record.id == identity.id
                && compare_wire(&record, &publishing.wire) == Verdict::Duplicate
        })
    }

    async fn slot(&self, side: &Side, item: Item, sender: &str) -> Result<Slot, Rejection> {
        let parsed = match item {
            Item::Refused(refused) => return Ok(Slot::Refused(refused)),
            Item::Event(parsed) => parsed,
        };
        if let Some(slot) = self.known(&parsed)? {
            return Ok(slot);
        }
        let Parsed { event, bytes } = *parsed;
        let outgoing = outgoing(&event, bytes.clone(), &side.org, sender, &self.shared.host)
            .map_err(Rejection::Refused)?;
        let ack = side.broker.publish(outgoing.clone()).await;
        Ok(Slot::Publishing(Box::new(Publishing {
            identity: event.identity,
            wire: bytes,
            outgoing,
            ack: ack
                .inspect(|ack| {
                    side.broker_sequence
                        .fetch_max(ack.sequence, Ordering::Relaxed);
                })
                .map_err(unknown)?,
        })))
    }

    /// What needs no message: a repeat of what is recorded, and a conflict that is on record already (LEDGER A4).
    fn known(&self, parsed: &Parsed) -> Result<Option<Slot>, Rejection> {
        let identity = &parsed.event.identity;
        let fingerprint = seen::fingerprint(&identity.source, &identity.id);
        let stored = self.shared.stored(identity, fingerprint);
        let stored = stored.map_err(|fault| Rejection::NotWriting {
            why: format!("what is recorded under this identity cannot be read: {fault}"),
            may_recover: true,
        })?;
        let Some(stored) = stored else {
            return Ok(None);
        };
        if compare_wire(&stored, &parsed.bytes) == Verdict::Duplicate {
            self.shared
                .counts
                .duplicates
                .fetch_add(1, Ordering::Relaxed);
            return Ok(Some(Slot::Recorded(stored)));
        }
        if !self.shared.conflict_on_record(fingerprint) {
            return Ok(None);
        }
        self.shared.counts.conflicts.fetch_add(1, Ordering::Relaxed);
        Ok(Some(Slot::Refused(Box::new(conflict(
            identity,
            stored.position,
        )))))
    }

    /// Waits until this ledger has recorded a sequence of the epoch. The caller brings the deadline.
    async fn recorded(
        &self,
        side: &Side,
        epoch: Option<u32>,
        sequence: u64,
    ) -> Result<(), Rejection> {
        let lost = || {
            Rejection::NotWriting {
            why: "the stream changed while the events were on their way; whether they are recorded is unknown, send them again".to_owned(),
            may_recover: true,
        }
        };
        let recorded = side.recorded(sequence);
        let mut condition = side.condition.subscribe();
        tokio::select! {
            biased;
            recorded = recorded => {
                recorded.map_err(|_| lost())?;
                match side.line().is_some_and(|line| Some(line.epoch) == epoch && line.position(sequence).is_some()) {
                    true => Ok(()),
                    false => Err(lost()),
                }
            }
            rejection = stopped(&mut condition, side) => Err(rejection),
        }
    }

    fn answer(&self, side: &Side, slot: Slot) -> Result<Emitted, Rejection> {
        let publishing = match slot {
            Slot::Refused(refused) => return Ok(Err(*refused)),
            Slot::Recorded(record) => return Ok(Ok(self.receipt_of(&record, true))),
            Slot::Publishing(publishing) => publishing,
        };
        let unknown = |why: &str| Rejection::NotWriting {
            why: why.to_owned(),
            may_recover: true,
        };
        let position = side
            .line()
            .and_then(|line| line.position(publishing.ack.sequence));
        let record = self
            .shared
            .record(position.unwrap_or_default())
            .map_err(|fault| unknown(&fault.to_string()))?
            .filter(|record| record.stream_sequence == publishing.ack.sequence)
            .ok_or_else(|| {
                unknown("the stream changed while the event was on its way; send it again")
            })?;
        let identity = &publishing.identity;
        let is_it = record.source == identity.source && record.id == identity.id;
        match record.verdict {
            verdict
                if verdict.is_fact()
                    && is_it
                    && compare_wire(&record, &publishing.wire) == Verdict::Duplicate =>
            {
                Ok(Ok(self.receipt_of(&record, publishing.ack.duplicate)))
            }
            Verdict::Duplicate if is_it => match self.standing(identity)? {
                Some(first) => Ok(Ok(self.receipt_of(&first, true))),
                None => Err(unknown("the first event of this identity cannot be found")),
            },
            Verdict::Conflict if is_it => {
                let first = self.standing(identity)?;
                Ok(Err(conflict(identity, first.map_or(0, |it| it.position))))
            }
            _ => Err(unknown(
                "the broker stored something else under this message's number; send it again",
            )),
        }
    }

    fn standing(&self, identity: &Identity) -> Result<Option<Arc<Record>>, Rejection> {
        let fingerprint = seen::fingerprint(&identity.source, &identity.id);
        let stored = self.shared.stored(identity, fingerprint);
        stored.map_err(|fault| Rejection::NotWriting {
            why: fault.to_string(),
            may_recover: true,
        })
    }

    fn receipt_of(&self, record: &Record, duplicate: bool) -> crate::words::Receipt {
        let durable = read(&self.shared.durable).clone();
        self.shared
            .receipt(record, leaf::hash(record), &durable, duplicate)
    }

    /// Room for events on their way through the broker.
    pub(crate) fn check_in_flight(&self, side: &Side) -> Result<(), Rejection> {
        let queued = self.shared.counts.queued_events.load(Ordering::Relaxed);
        if queued >= IN_FLIGHT_MAX {
            return Err(busy("too many events are on their way through the broker"));
        }
        let recorded = side.line().map_or(0, |line| line.last_sequence);
        let there = side.broker_sequence.load(Ordering::Relaxed);
        match there.saturating_sub(recorded) > BACKLOG_MAX {
            true => Err(busy("the ledger lags behind the stream")),
            false => Ok(()),
        }
    }
}

fn conflict(identity: &Identity, position: u64) -> Refused {
    Refused {
        refusal: admit::conflict(identity, position),
        recorded: Some((identity.clone(), position)),
    }
}

/// Ends when the stream is frozen, or was not followed for some time: a broker that is away may come back soon.
async fn stopped(condition: &mut watch::Receiver<Condition>, side: &Side) -> Rejection {
    loop {
        let stopped = condition.wait_for(|it| *it != Condition::Following);
        if stopped.await.is_err() {
            return std::future::pending().await;
        }
        let back = condition.wait_for(|it| !matches!(it, Condition::Away(_)));
        // Frozen, or away for too long; followed again, it is waited on.
        drop(timeout(AWAY_PATIENCE, back).await);
        if let Some(rejection) = side.rejection() {
            return rejection;
        }
    }
}

/// A publish that was not acknowledged may have been stored all the same.
fn unknown(fault: BrokerFault) -> Rejection {
    Rejection::NotWriting {
        why: format!("{fault}; whether the event will be recorded is unknown, send it again"),
        may_recover: true,
    }
}

/// The message of an event, on the gate.
fn outgoing(
    event: &Event,
    wire: Bytes,
    org: &str,
    sender: &str,
    host: &Host,
) -> Result<Outgoing, Refusal> {
    let digest = canonical::content_digest(&wire, RULES_VERSION)?;
    let mut salt = [0; 16];
    (host.random)(&mut salt);
    let mut headers = vec![
        header(message::MESSAGE_ID, message::message_id(event, &digest)),
        header(message::CONTENT_TYPE, message::PROTOBUF.to_owned()),
        header(message::SALT, URL_SAFE_NO_PAD.encode(salt)),
    ];
    if !sender.is_empty() {
        headers.push(header(message::SENDER, sender.to_owned()));
    }
    Ok(Outgoing {
        subject: subject::gate_subject(event, org),
        headers,
        payload: wire,
    })
}

fn header(name: &str, value: String) -> (String, String) {
    (name.to_owned(), value)
}

/// Publishes an event of the ledger's own.
pub(crate) async fn publish_own(
    broker: &dyn Broker,
    event: &pb::Event,
    sender: &str,
    host: &Host,
) -> Result<Acknowledged, BrokerFault> {
    let wire = Bytes::from(event.encode_to_vec());
    let own = |refusal: Refusal| BrokerFault::Refused(refusal.to_string());
    let parsed = parse::parse(&wire).map_err(own)?;
    let outgoing = outgoing(&parsed, wire, "", sender, host).map_err(own)?;
    broker.publish(outgoing).await
}

/// A recorded message as it was published, for a broker that has lost it (LEDGER Q6). Without an id: what was just short
/// enough before must be so again, and the ledger knows repeats by itself.
pub(crate) fn again(record: &Record) -> Outgoing {
    let mut headers = record.headers.clone();
    if let Some(salt) = record.salt {
        headers.push(header(message::SALT, URL_SAFE_NO_PAD.encode(salt)));
    }
    Outgoing {
        subject: record.subject.clone(),
        headers,
        payload: record.bytes.clone(),
    }
}
