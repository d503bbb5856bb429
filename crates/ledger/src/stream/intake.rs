//! The writer's part: messages become one group commit, in the stream's order (LEDGER Q2, Q4).
use std::sync::{Arc, atomic::Ordering};

use tokio::sync::oneshot;
use waybill_core::{Identity, Time};
use waybill_proto::canonical;
use waybill_store::{Fault, Record, Verdict, seen};

use super::{
    arrival::{self, Arrival, Meaning},
    epoch::{Line, Opener},
    standing::Side,
};
use crate::{
    admit::RULES_VERSION,
    limits,
    shared::read,
    writer::{Draft, Order, Writer, chain},
};

/// Messages in order, and where to say how far they are durable.
pub(crate) struct Take {
    pub(crate) arrivals: Vec<Arrival>,
    pub(crate) reply: oneshot::Sender<Result<u64, TakeFault>>,
}

/// An epoch to begin.
pub(crate) struct Opening {
    pub(crate) opener: Opener,
    pub(crate) reply: oneshot::Sender<Result<(), TakeFault>>,
}

/// Messages were not taken, or not all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TakeFault {
    /// Another sequence came than the one that follows.
    #[error("sequence {found} came where {expected} must come")]
    Gap { expected: u64, found: u64 },
    /// The journal cannot be written now.
    #[error("the ledger does not write: {0}")]
    NotWriting(String),
    /// Positions and sequences do not fit together.
    #[error("{0}")]
    Inconsistent(String),
}

impl Writer {
    /// Takes what else is waiting, so that a crowd shares one fdatasync.
    pub(crate) fn gather_takes(&mut self, first: Take) -> Vec<Take> {
        let mut events = first.arrivals.len();
        let mut bytes = size(&first);
        let mut takes = vec![first];
        while events < limits::COMMIT_EVENTS_MAX && bytes < limits::COMMIT_BYTES_MAX {
            match self.orders.try_recv() {
                Ok(Order::Take(take)) => {
                    events += take.arrivals.len();
                    bytes += size(&take);
                    takes.push(take);
                }
                Ok(other) => {
                    self.held = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        takes
    }

    /// Makes messages durable and says how far.
    pub(crate) fn take(&mut self, takes: Vec<Take>) {
        let Some(side) = self.shared.stream.clone() else {
            return;
        };
        if let Err(why) = self.ready() {
            let why = TakeFault::NotWriting(why.rejection().to_string());
            for take in takes {
                drop(take.reply.send(Err(why.clone())));
            }
            return;
        }
        let Some(mut line) = side.line() else {
            return;
        };
        let mut draft = Draft::default();
        let mut answers = Vec::with_capacity(takes.len());
        for take in takes {
            let outcome = self.draft_all(&side, &mut draft, &mut line, take.arrivals);
            answers.push((take.reply, outcome.map(|()| line.last_sequence)));
        }
        match self.append(draft) {
            Ok(_) => {
                side.set_line(line);
                for (reply, outcome) in answers {
                    drop(reply.send(outcome));
                }
            }
            Err(fault) => {
                self.failed(&fault);
                let why = TakeFault::NotWriting(chain(&fault));
                for (reply, _) in answers {
                    drop(reply.send(Err(why.clone())));
                }
            }
        }
    }

    fn draft_all(
        &self,
        side: &Side,
        draft: &mut Draft,
        line: &mut Line,
        arrivals: Vec<Arrival>,
    ) -> Result<(), TakeFault> {
        for arrival in arrivals {
            let expected = line.last_sequence + 1;
            let found = arrival.sequence;
            if found < expected {
                side.redelivered.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            if found > expected {
                return Err(TakeFault::Gap { expected, found });
            }
            self.draft_message(side, draft, line, arrival)?;
            line.last_sequence = found;
        }
        Ok(())
    }

    fn draft_message(
        &self,
        side: &Side,
        draft: &mut Draft,
        line: &Line,
        arrival: Arrival,
    ) -> Result<(), TakeFault> {
        let position = self.journal.tip().position + draft.records.len() as u64 + 1;
        if line.position(arrival.sequence) != Some(position) {
            return Err(TakeFault::Inconsistent(format!(
                "sequence {} of epoch {} belongs to another position than {position}",
                arrival.sequence, line.epoch
            )));
        }
        let not_before = draft
            .records
            .last()
            .map_or(self.journal.tip().record_time, |last| last.record_time);
        if arrival.time < not_before {
            side.clamped.fetch_add(1, Ordering::Relaxed);
        }
        let (mut record, outcome) = arrival.into_record(line.epoch, position, not_before);
        let mut fingerprint = 0;
        let fact = match outcome {
            Err(refused) => {
                record.verdict = match refused.is_undecodable() {
                    true => Verdict::Undecodable,
                    false => Verdict::Refused,
                };
                None
            }
            Ok(meaning) => {
                record.source = meaning.event.identity.source.clone();
                record.id = meaning.event.identity.id.clone();
                record.kind = Arc::from(&*meaning.event.kind.0);
                let identity = &meaning.event.identity;
                fingerprint = seen::fingerprint(&identity.source, &identity.id);
                let verdict = self.verdict(draft, &meaning, fingerprint);
                record.verdict = verdict.map_err(|fault| unreadable(&fault))?;
                let fact = (meaning.event, fingerprint);
                record.verdict.is_fact().then_some(fact)
            }
        };
        self.count(record.verdict, fingerprint);
        draft.push(record, fact);
        Ok(())
    }

    /// What admission says of a message, against all before it.
    fn verdict(
        &self,
        draft: &Draft,
        meaning: &Meaning,
        fingerprint: u64,
    ) -> Result<Verdict, Fault> {
        let identity = &meaning.event.identity;
        let new = match meaning.own {
            true => Verdict::Ledger,
            false => Verdict::Admitted,
        };
        if let Some(&index) = draft.by_identity.get(identity) {
            return Ok(compare_wire(&draft.records[index], &meaning.wire));
        }
        let stored = self.shared.stored(identity, fingerprint)?;
        Ok(stored.map_or(new, |stored| compare_wire(&stored, &meaning.wire)))
    }

    fn count(&self, verdict: Verdict, fingerprint: u64) {
        let counts = &self.shared.counts;
        match verdict {
            Verdict::Duplicate => {
                counts.duplicates.fetch_add(1, Ordering::Relaxed);
            }
            Verdict::Conflict => {
                counts.conflicts.fetch_add(1, Ordering::Relaxed);
                self.shared.put_conflict_on_record(fingerprint);
            }
            _ => {}
        }
    }

    /// Begins an epoch: its own leaf, right behind exactly the head that the message names (LEDGER Q5).
    pub(crate) fn open_epoch(&mut self, opening: Opening) {
        let Opening { opener, reply } = opening;
        drop(reply.send(self.begin_epoch(&opener)));
    }

    fn begin_epoch(&mut self, opener: &Opener) -> Result<(), TakeFault> {
        let Some(side) = self.shared.stream.clone() else {
            return Ok(());
        };
        self.ready()
            .map_err(|why| TakeFault::NotWriting(why.rejection().to_string()))?;
        let durable = read(&self.shared.durable).clone();
        let head = (durable.position, durable.root);
        if head != (opener.last_position, opener.last_root) {
            return Err(TakeFault::Inconsistent(format!(
                "epoch {} is opened at position {}, and the head is {}",
                opener.epoch, opener.last_position, durable.position
            )));
        }
        let previous: Option<Time> = (durable.position > 0)
            .then_some(durable.record_time)
            .flatten();
        let (record, event) = opener.record(previous).ok_or_else(|| {
            TakeFault::Inconsistent("the message that opens the epoch cannot be read".to_owned())
        })?;
        let mut draft = Draft::default();
        let fingerprint = record.fingerprint();
        draft.push(record, Some((Arc::new(event), fingerprint)));
        self.append(draft).map_err(|fault| {
            self.failed(&fault);
            TakeFault::NotWriting(chain(&fault))
        })?;
        side.set_line(opener.line());
        tracing::info!(epoch = opener.epoch, stream = %side.name, first_sequence = opener.first_sequence, "an epoch begins");
        Ok(())
    }
}

fn unreadable(fault: &Fault) -> TakeFault {
    TakeFault::NotWriting(format!("what is recorded cannot be read: {}", chain(fault)))
}

/// The same identity again: the same content, or other.
pub(crate) fn compare_wire(stored: &Record, wire: &[u8]) -> Verdict {
    let Ok(recorded) = arrival::of_record(stored) else {
        return Verdict::Conflict;
    };
    if recorded.wire == wire {
        return Verdict::Duplicate;
    }
    let digest = |wire: &[u8]| canonical::content_digest(wire, RULES_VERSION).ok();
    match (digest(&recorded.wire), digest(wire)) {
        (Some(recorded), Some(new)) if recorded == new => Verdict::Duplicate,
        _ => Verdict::Conflict,
    }
}

fn size(take: &Take) -> usize {
    take.arrivals.iter().map(Arrival::bytes).sum()
}

/// The identity under which an epoch's own leaf stands.
pub(crate) fn leaf_identity(ledger_id: &Arc<str>, epoch: u32) -> Identity {
    Identity {
        source: ledger_id.clone(),
        id: Arc::from(super::epoch::leaf_id(epoch)),
    }
}
