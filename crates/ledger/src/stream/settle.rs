//! Where the ledger and the stream stand to each other, before anything is taken in (LEDGER Q4, Q5).
use std::sync::{Arc, atomic::Ordering};

use waybill_core::{Identity, Time};
use waybill_proto::subject;
use waybill_store::{Hash, seen};
use waybill_tlog::EMPTY_ROOT;

use super::{
    arrival::Arrival,
    broker::{Broker, BrokerFault, StreamState},
    epoch::{self, Line, Opener, Said},
    publish,
    standing::{Freeze, FreezeKind, Side},
};
use crate::{
    leaf,
    ledger::Ledger,
    open::hex,
    shared::{lock, read},
    words::Host,
};

/// What a ledger may do with the stream.
pub(crate) enum Settled {
    /// Read on behind what is recorded, up to where the next epoch begins if one is known.
    Follow(Line, Option<Opener>),
    /// Begin this epoch first.
    Open(Opener),
    /// Nothing.
    Frozen(Freeze),
}

/// How the broker's message at the last recorded sequence compares.
enum Compared {
    Same,
    Broken(Freeze),
}

/// The ledger that a stream belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Its id.
    pub ledger_id: String,
    /// Whether it came to be just now.
    pub new: bool,
}

/// For a ledger that has nothing yet: joins the one that the stream belongs to, or makes the stream a new one's.
///
/// # Errors
/// [`BrokerFault::Away`]; [`BrokerFault::Refused`] when the stream continues a history that this ledger does not have.
pub async fn join(broker: &dyn Broker, name: &str, host: &Host) -> Result<Joined, BrokerFault> {
    for new in [false, true] {
        if let Some(opener) = first_opener(broker).await? {
            if opener.last_position > 0 {
                let why = format!(
                    "stream {name} continues ledger `{}` from position {} on, and this directory is empty; restore an export of a replica \
                     first: `waybill restore`",
                    opener.ledger_id, opener.last_position
                );
                return Err(BrokerFault::Refused(why));
            }
            let ledger_id = opener.ledger_id.to_string();
            return Ok(Joined { ledger_id, new });
        }
        let mut random = [0; 16];
        (host.random)(&mut random);
        let ledger_id: Arc<str> = Arc::from(format!("ledger-{}", hex(&random)));
        let state = broker.state().await?;
        let opener = Opener::new(&ledger_id, 1, (0, EMPTY_ROOT), name, state.first_sequence);
        // The new tree's first leaf has the time of what it begins with, so that no message before this start is clamped.
        let first = broker.message(state.first_sequence).await?;
        let now = (host.clock)();
        let time = first.map_or(now, |first| first.time.min(now));
        let opener = with_first_leaf(broker, opener, &state, time).await?;
        let event = opener.event(&Said::default(), time);
        publish::publish_own(broker, &event, "", host).await?;
    }
    Err(BrokerFault::Refused(format!(
        "stream {name} took the message that opens its first epoch and does not show it"
    )))
}

/// The first message of all that opens an epoch.
async fn first_opener(broker: &dyn Broker) -> Result<Option<Opener>, BrokerFault> {
    find_opener(broker, |_| true).await
}

/// The first message that opens an epoch and is looked for.
async fn find_opener(
    broker: &dyn Broker,
    wanted: impl Fn(&Opener) -> bool,
) -> Result<Option<Opener>, BrokerFault> {
    find_opener_behind(broker, 0, wanted).await
}

/// The same behind a sequence.
async fn find_opener_behind(
    broker: &dyn Broker,
    sequence: u64,
    wanted: impl Fn(&Opener) -> bool,
) -> Result<Option<Opener>, BrokerFault> {
    let mut from = sequence + 1;
    loop {
        let Some(message) = broker
            .first_match(subject::EPOCH_OPENED_FILTER, from)
            .await?
        else {
            return Ok(None);
        };
        from = message.sequence + 1;
        let claimed = opener_of(message);
        if let Some(opener) = claimed.filter(&wanted) {
            return Ok(Some(opener));
        }
    }
}

/// A message of the gate that opens an epoch, whichever ledger's it is.
fn opener_of(message: super::Message) -> Option<Opener> {
    let time = message.time;
    let arrival = Arrival::read(message, "");
    let read = waybill_proto::message::read(&arrival.subject, &arrival.headers, &arrival.payload);
    let read = read.ok()?;
    let meaning = super::arrival::Meaning {
        event: Arc::new(read.event),
        wire: read.wire,
        own: true,
    };
    let opener = Opener::read(&meaning, time)?;
    // Only the ledger that it names may say so.
    (meaning.event.identity.source == opener.ledger_id).then_some(opener)
}

/// Adds the leaf hash of the message that the epoch begins with, where there is one.
pub(crate) async fn with_first_leaf(
    broker: &dyn Broker,
    mut opener: Opener,
    state: &StreamState,
    not_before: Time,
) -> Result<Opener, BrokerFault> {
    if state.last_sequence < opener.first_sequence {
        return Ok(opener);
    }
    if let Some(message) = broker.message(opener.first_sequence).await? {
        let arrival = Arrival::read(message, &opener.ledger_id);
        let hash = arrival.leaf(opener.epoch, opener.last_position + 2, not_before);
        opener.first_leaf_hash = Some(hash);
    }
    Ok(opener)
}

impl Ledger {
    /// Where to go on, or why not.
    pub(crate) async fn settle(&self, side: &Side) -> Result<Settled, BrokerFault> {
        if let Some(freeze) = lock(&side.diverged).clone() {
            return Ok(Settled::Frozen(freeze));
        }
        let state = side.broker.state().await?;
        side.broker_sequence
            .store(state.last_sequence, Ordering::Relaxed);
        let Some(line) = side.line() else {
            return self.settle_first(side, &state).await;
        };
        let own = |opener: &Opener| opener.epoch == line.epoch + 1 && self.may_be_ours(opener);
        // Up to here it was looked before, and the stream was the one that is recorded.
        let looked = side.looked_until.load(Ordering::Relaxed);
        let next = find_opener_behind(&*side.broker, looked, own).await?;
        if let Some(opener) = next.as_ref().filter(|opener| self.is_at(opener)) {
            return Ok(Settled::Open(opener.clone()));
        }
        let compared = match self.opener_is_there(side, &line).await? {
            Compared::Same => self.compare(side, &line, &state).await?,
            broken => broken,
        };
        if let Compared::Broken(freeze) = compared {
            side.looked_until.store(0, Ordering::Relaxed);
            let next = find_opener(&*side.broker, own).await?;
            if let Some(opener) = next.as_ref().filter(|opener| self.is_at(opener)) {
                return Ok(Settled::Open(opener.clone()));
            }
            return Ok(Settled::Frozen(match next {
                None => self.or_foreign(side, freeze).await?,
                Some(opener) => self.passed(&opener, Some(freeze)),
            }));
        }
        match next {
            Some(opener) if opener.first_sequence <= line.last_sequence + 1 => {
                Ok(Settled::Frozen(self.passed(&opener, None)))
            }
            next => {
                side.compared.send_modify(|count| *count += 1);
                if next.is_none() {
                    side.looked_until
                        .store(line.last_sequence, Ordering::Relaxed);
                }
                Ok(Settled::Follow(line, next))
            }
        }
    }

    /// A ledger without a stream so far: it begins the stream's first epoch, or joins at exactly its own head.
    async fn settle_first(&self, side: &Side, state: &StreamState) -> Result<Settled, BrokerFault> {
        let durable = read(&self.shared.durable).clone();
        let head = (durable.position, durable.root);
        for _ in 0..2 {
            match first_opener(&*side.broker).await? {
                Some(opener) if opener.ledger_id != self.shared.ledger_id => {
                    return Ok(Settled::Frozen(self.foreign(side, &opener)));
                }
                Some(opener) if self.is_at(&opener) => return Ok(Settled::Open(opener)),
                Some(opener) => return Ok(Settled::Frozen(self.passed(&opener, None))),
                None => {}
            }
            let id = &self.shared.ledger_id;
            let opener = Opener::new(id, 1, head, &side.name, state.first_sequence);
            let time = durable.record_time.unwrap_or_default();
            let opener = with_first_leaf(&*side.broker, opener, state, time).await?;
            let host = &self.shared.host;
            let event = opener.event(&Said::default(), (host.clock)());
            publish::publish_own(&*side.broker, &event, "", host).await?;
        }
        Err(BrokerFault::Away(
            "the message that opens the epoch cannot be read back yet".to_owned(),
        ))
    }

    /// Whether a message may open an epoch of this ledger: it names a head that is, or may become, this ledger's. One that
    /// names another root at a position that is recorded is nobody's who has this history, and is a leaf like any other.
    pub(crate) fn may_be_ours(&self, opener: &Opener) -> bool {
        let known = opener.last_position <= self.shared.heads.borrow().applied;
        let contradicted = || {
            let root = self.shared.root_at(opener.last_position);
            root.is_ok_and(|root| root != opener.last_root)
        };
        opener.ledger_id == self.shared.ledger_id && !(known && contradicted())
    }

    /// Whether the message that opened the epoch, and the one that it begins with, are those that were followed. Looked for
    /// until the ledger has recorded the opener itself: from then on the comparison at the last sequence covers it.
    async fn opener_is_there(&self, side: &Side, line: &Line) -> Result<Compared, BrokerFault> {
        let id = &self.shared.ledger_id;
        let identity = Identity {
            source: id.clone(),
            id: Arc::from(epoch::opener_id(line.epoch)),
        };
        let fingerprint = seen::fingerprint(&identity.source, &identity.id);
        let recorded = self.shared.stored(&identity, fingerprint).ok().flatten();
        if recorded.is_some_and(|record| record.position >= line.base) {
            return Ok(Compared::Same);
        }
        let ours = |opener: &Opener| opener.ledger_id == *id && opener.epoch == line.epoch;
        let found = find_opener(&*side.broker, ours).await?;
        let Some((leaf, not_before)) = self.recorded_leaf(line.base - 1) else {
            return Err(BrokerFault::Away(format!(
                "position {} cannot be read to compare it",
                line.base - 1
            )));
        };
        let not_before = (line.base > 2).then_some(not_before);
        let theirs = found
            .as_ref()
            .and_then(|opener| opener.record(not_before))
            .map(|(record, _)| leaf::hash(&record));
        if theirs != Some(leaf) {
            return Ok(Compared::Broken(
                self.opener_differs(side, line, leaf, theirs),
            ));
        }
        let first = found.and_then(|opener| opener.first_leaf_hash);
        let (Some(first), Some(time)) = (first, self.record_time_at(line.base - 1)) else {
            return Ok(Compared::Same);
        };
        let message = side.broker.message(line.first_sequence).await?;
        let there =
            message.map(|message| Arrival::read(message, id).leaf(line.epoch, line.base, time));
        Ok(match there {
            Some(there) if there != first => {
                Compared::Broken(self.differs_there(side, line.first_sequence, first, there))
            }
            _ => Compared::Same,
        })
    }

    fn record_time_at(&self, position: u64) -> Option<Time> {
        let record = self.shared.record(position).ok().flatten()?;
        Some(record.record_time)
    }

    fn opener_differs(&self, side: &Side, line: &Line, ours: Hash, theirs: Option<Hash>) -> Freeze {
        Freeze {
            kind: FreezeKind::Differs,
            reason: format!(
                "stream {} does not have the message any more that opened epoch {} here (its leaf would be {}, the ledger's is {})",
                side.name,
                line.epoch,
                shown(theirs),
                hex(&ours)
            ),
            remedy: self.put_back(),
            ledger_leaf: Some(ours),
            broker_leaf: theirs,
        }
    }

    /// Whether this ledger's head is exactly the one that an epoch begins behind.
    fn is_at(&self, opener: &Opener) -> bool {
        let durable = read(&self.shared.durable);
        (durable.position, durable.root) == (opener.last_position, opener.last_root)
    }

    /// Compares the broker's message at the last recorded sequence with the ledger's own leaf.
    async fn compare(
        &self,
        side: &Side,
        line: &Line,
        state: &StreamState,
    ) -> Result<Compared, BrokerFault> {
        let last = line.last_sequence;
        if line.is_empty() {
            // The message that opened the epoch is at its first sequence or behind it.
            let lost = state.last_sequence < line.first_sequence;
            return Ok(match lost {
                true => Compared::Broken(self.lost_tail(side, line, state, None)),
                false => self.hole(side, line, state).await?,
            });
        }
        let position = line.position(last).unwrap_or_default();
        let Some((ours, not_before)) = self.recorded_leaf(position) else {
            return Err(BrokerFault::Away(format!(
                "position {position} cannot be read to compare it"
            )));
        };
        if state.last_sequence < last {
            return Ok(Compared::Broken(self.lost_tail(
                side,
                line,
                state,
                Some(ours),
            )));
        }
        let Some(message) = side.broker.message(last).await? else {
            let gap = (last + 1, state.first_sequence.saturating_sub(1).max(last));
            return Ok(Compared::Broken(self.gap(side, gap, Some(ours))));
        };
        let theirs =
            Arrival::read(message, &self.shared.ledger_id).leaf(line.epoch, position, not_before);
        if theirs != ours {
            return Ok(Compared::Broken(
                self.differs_there(side, last, ours, theirs),
            ));
        }
        self.hole(side, line, state).await
    }

    /// Whether the message that must come next is gone although later ones are there.
    async fn hole(
        &self,
        side: &Side,
        line: &Line,
        state: &StreamState,
    ) -> Result<Compared, BrokerFault> {
        let next = line.last_sequence + 1;
        if state.last_sequence < next || side.broker.message(next).await?.is_some() {
            return Ok(Compared::Same);
        }
        let there = side.broker.first_match(">", next).await?;
        let end = there.map_or(state.last_sequence, |message| message.sequence - 1);
        Ok(Compared::Broken(self.gap(side, (next, end), None)))
    }

    /// The leaf at a position, and the record time of the position before it.
    pub(crate) fn recorded_leaf(&self, position: u64) -> Option<(Hash, Time)> {
        let record = self.shared.record(position).ok().flatten()?;
        let before = self.shared.record(position - 1).ok().flatten();
        let not_before = before.map_or(Time::default(), |record| record.record_time);
        Some((leaf::hash(&record), not_before))
    }

    fn lost_tail(
        &self,
        side: &Side,
        line: &Line,
        state: &StreamState,
        ours: Option<Hash>,
    ) -> Freeze {
        Freeze {
            kind: FreezeKind::LostTail,
            reason: format!(
                "the broker lost what it had acknowledged: stream {} ends at sequence {} and sequence {} is recorded here (leaf {})",
                side.name,
                state.last_sequence,
                line.last_sequence,
                shown(ours)
            ),
            remedy: self.put_back(),
            ledger_leaf: ours,
            broker_leaf: None,
        }
    }

    fn differs_there(&self, side: &Side, sequence: u64, ours: Hash, theirs: Hash) -> Freeze {
        Freeze {
            kind: FreezeKind::Differs,
            reason: format!(
                "stream {} has another message at sequence {sequence} than the one that is recorded: its leaf would be {} and the \
                 ledger's is {}; the stream was made anew, rolled back, or is another cluster's",
                side.name,
                hex(&theirs),
                hex(&ours)
            ),
            remedy: self.put_back(),
            ledger_leaf: Some(ours),
            broker_leaf: Some(theirs),
        }
    }

    fn put_back(&self) -> String {
        let root = hex(&read(&self.shared.durable).root);
        format!(
            "put the lost events back: `waybill ledger republish --yes {root} --why REASON`; or go on with the stream as it is: `waybill \
             ledger accept-epoch --yes {root} --why REASON`"
        )
    }

    fn gap(&self, side: &Side, gap: (u64, u64), ours: Option<Hash>) -> Freeze {
        let root = hex(&read(&self.shared.durable).root);
        let (first, last) = gap;
        let reason = match last < first {
            true => format!(
                "stream {} no longer has sequence {}, so that nothing can be compared: it was purged (the ledger's leaf there is {})",
                side.name,
                first - 1,
                shown(ours)
            ),
            false => format!(
                "sequences {first} to {last} of stream {} are gone and were never recorded here (purged, deleted, or older than max_age)",
                side.name
            ),
        };
        Freeze {
            kind: FreezeKind::Gap(first, last),
            reason,
            remedy: format!(
                "restore an export of a replica that has them; or accept that they are lost: `waybill ledger accept-gap --yes {root} --why REASON`"
            ),
            ledger_leaf: ours,
            broker_leaf: None,
        }
    }

    fn foreign(&self, side: &Side, opener: &Opener) -> Freeze {
        Freeze {
            kind: FreezeKind::Foreign,
            reason: format!(
                "stream {} belongs to ledger `{}`, and this is ledger `{}`",
                side.name, opener.ledger_id, self.shared.ledger_id
            ),
            remedy: "name another stream with --stream, or another ledger directory with --ledger"
                .to_owned(),
            ledger_leaf: None,
            broker_leaf: None,
        }
    }

    /// A stream that is not ours any more may have become somebody else's.
    async fn or_foreign(&self, side: &Side, freeze: Freeze) -> Result<Freeze, BrokerFault> {
        let theirs = |opener: &Opener| opener.ledger_id != self.shared.ledger_id;
        Ok(match find_opener(&*side.broker, theirs).await? {
            Some(opener) if matches!(freeze.kind, FreezeKind::LostTail | FreezeKind::Differs) => {
                let foreign = self.foreign(side, &opener);
                Freeze {
                    ledger_leaf: freeze.ledger_leaf,
                    broker_leaf: freeze.broker_leaf,
                    ..foreign
                }
            }
            _ => freeze,
        })
    }

    /// Another replica opened an epoch at a head that is not this one's.
    fn passed(&self, opener: &Opener, freeze: Option<Freeze>) -> Freeze {
        let position = read(&self.shared.durable).position;
        let (kind, remedy) = match position < opener.last_position {
            true => (
                FreezeKind::Behind,
                "restore an export of the replica that opened it, in an empty directory",
            ),
            false => (
                FreezeKind::Ahead,
                "this ledger has what no other has: export it and keep the export, then restore an export of the replica that opened the \
                 epoch in an empty directory",
            ),
        };
        Freeze {
            kind,
            reason: format!(
                "epoch {} was opened behind position {} with root {}, and this ledger's head is position {position} with another history{}",
                opener.epoch,
                opener.last_position,
                hex(&opener.last_root),
                freeze
                    .as_ref()
                    .map(|freeze| format!("; {}", freeze.reason))
                    .unwrap_or_default()
            ),
            remedy: remedy.to_owned(),
            ledger_leaf: freeze.as_ref().and_then(|freeze| freeze.ledger_leaf),
            broker_leaf: freeze.as_ref().and_then(|freeze| freeze.broker_leaf),
        }
    }
}

fn shown(hash: Option<Hash>) -> String {
    hash.map_or_else(|| "none".to_owned(), |hash| hex(&hash))
}
