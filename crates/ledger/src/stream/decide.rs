//! What only a person can decide about a stream that is not the one that is recorded any more (LEDGER Q5, Q6).
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use waybill_core::{Code, Refusal};
use waybill_store::{Hash, Record};

use super::{
    arrival::Arrival,
    broker::BrokerFault,
    epoch::{Line, Opener, Said},
    publish,
    settle::with_first_leaf,
    standing::{Condition, Freeze, FreezeKind, Side},
};
use crate::{ledger::Ledger, limits, open::hex, shared::read, words::ReadFailure};

/// Events that are published again at once.
const PUBLISHES_AT_ONCE: usize = 256;

/// Who decides, why, and of which head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Root at the head, as it was shown.
    pub head_root: Vec<u8>,
    /// Who, as they say.
    pub who: String,
    /// Who, as verified; empty where nobody was asked.
    pub sender: String,
    /// Why; not empty.
    pub why: String,
}

/// What a decision did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// The epoch that it opened.
    pub epoch: u32,
    /// First sequence that belongs to it.
    pub first_sequence: u64,
    /// Position of its own leaf.
    pub position: u64,
    /// Events that were published again.
    pub republished_count: u64,
    /// Sequences that are lost, both included.
    pub gap: Option<(u64, u64)>,
}

/// The decision was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum DecisionFailure {
    /// It does not fit what happened.
    #[error(transparent)]
    Refused(Refusal),
    /// The broker did not do its part; again is safe.
    #[error(transparent)]
    Broker(#[from] BrokerFault),
    /// What is recorded cannot be read.
    #[error(transparent)]
    Unreadable(#[from] ReadFailure),
}

impl Ledger {
    /// Publishes again what the broker lost, and opens a new epoch where it stopped being the recorded one. Again is safe:
    /// the epoch is opened last, and repeats are duplicates.
    ///
    /// # Errors
    /// [`DecisionFailure::Refused`] when the stream is not frozen for such a reason, or the head is another one.
    pub async fn republish(&self, decision: &Decision) -> Result<Decided, DecisionFailure> {
        let (side, line, freeze) = self.frozen(decision)?;
        self.must_be_lost(&freeze, "accept-gap")?;
        let same_until = self.same_until(&side, &line).await?;
        let republished_count = self.publish_behind(&side, &line, same_until).await?;
        let opened = self
            .open_next(&side, &line, same_until + 1, None, decision)
            .await?;
        Ok(Decided {
            republished_count,
            ..opened
        })
    }

    /// Opens a new epoch on the stream as the broker has it, without what it lost.
    ///
    /// # Errors
    /// As [`Ledger::republish`].
    pub async fn accept_epoch(&self, decision: &Decision) -> Result<Decided, DecisionFailure> {
        let (side, line, freeze) = self.frozen(decision)?;
        self.must_be_lost(&freeze, "accept-gap")?;
        let same_until = self.same_until(&side, &line).await?;
        self.open_next(&side, &line, same_until + 1, None, decision)
            .await
    }

    /// Opens a new epoch behind messages that are gone for good.
    ///
    /// # Errors
    /// As [`Ledger::republish`].
    pub async fn accept_gap(&self, decision: &Decision) -> Result<Decided, DecisionFailure> {
        let (side, line, freeze) = self.frozen(decision)?;
        let FreezeKind::Gap(first, last) = freeze.kind else {
            return Err(unfit(&freeze, "`waybill ledger republish`"));
        };
        let gap = (first <= last).then_some((first, last));
        self.open_next(&side, &line, last.max(first - 1) + 1, gap, decision)
            .await
    }

    fn frozen(&self, decision: &Decision) -> Result<(Arc<Side>, Line, Freeze), DecisionFailure> {
        let nothing = |rule: &str| {
            DecisionFailure::Refused(Refusal::new(Code::Contradiction, "stream", "", rule))
        };
        let side = self.shared.stream.clone();
        let side = side.ok_or_else(|| {
            nothing("not followed: this ledger orders by itself, so there is nothing to decide")
        })?;
        let Condition::Frozen(freeze) = side.condition.borrow().clone() else {
            return Err(nothing(
                "not frozen: there is nothing to decide (`waybill status` shows it)",
            ));
        };
        let root = read(&self.shared.durable).root;
        if decision.head_root != root {
            let rule = format!("not the root at the head, which is {}", hex(&root));
            let refusal = Refusal::new(
                Code::Contradiction,
                "decision.head_root",
                hex(&decision.head_root),
                rule,
            );
            let hint = "look at `waybill status`, and decide about what it shows";
            return Err(DecisionFailure::Refused(refusal.with_hint(hint)));
        }
        if decision.why.trim().is_empty() {
            return Err(DecisionFailure::Refused(
                Refusal::new(Code::Missing, "decision.why", "", "required")
                    .with_hint("say why: it stays on record"),
            ));
        }
        match side.line() {
            Some(line) => Ok((side, line, freeze)),
            None => Err(unfit(&freeze, "another stream")),
        }
    }

    fn must_be_lost(&self, freeze: &Freeze, other: &str) -> Result<(), DecisionFailure> {
        match freeze.kind {
            FreezeKind::LostTail | FreezeKind::Differs => Ok(()),
            FreezeKind::Gap(..) => Err(unfit(freeze, &format!("`waybill ledger {other}`"))),
            _ => Err(unfit(freeze, "what `waybill status` says")),
        }
    }

    /// Last sequence up to which the broker has what is recorded; first − 1 where it has nothing of this epoch.
    async fn same_until(&self, side: &Side, line: &Line) -> Result<u64, DecisionFailure> {
        // A broker that lost everything has no stream to publish to.
        side.broker.ensure().await?;
        let state = side.broker.state().await?;
        let (mut same, mut other) = (
            line.first_sequence - 1,
            line.last_sequence.min(state.last_sequence) + 1,
        );
        while same + 1 < other {
            let middle = same + (other - same) / 2;
            match self.is_same(side, line, middle).await? {
                true => same = middle,
                false => other = middle,
            }
        }
        // What is no longer there cannot be begun with.
        Ok(same.max(state.first_sequence.saturating_sub(1)))
    }

    async fn is_same(
        &self,
        side: &Side,
        line: &Line,
        sequence: u64,
    ) -> Result<bool, DecisionFailure> {
        let Some(position) = line.position(sequence) else {
            return Ok(false);
        };
        let Some(message) = side.broker.message(sequence).await? else {
            return Ok(false);
        };
        let Some((ours, not_before)) = self.recorded_leaf(position) else {
            return Ok(false);
        };
        let arrival = Arrival::read(message, &self.shared.ledger_id);
        Ok(arrival.leaf(line.epoch, position, not_before) == ours)
    }

    /// Publishes the facts behind a sequence again, in their order, and counts them.
    async fn publish_behind(
        &self,
        side: &Side,
        line: &Line,
        same_until: u64,
    ) -> Result<u64, DecisionFailure> {
        // A broker that has nothing of this epoch has lost the epochs before it too.
        let first = match line.position(same_until) {
            Some(position) if same_until >= line.first_sequence => position + 1,
            _ => 1,
        };
        let head = read(&self.shared.durable).position;
        let (mut next, mut count) = (first, 0);
        while next <= head {
            let last = head.min(next + limits::FOLD_EVENTS_MAX as u64 - 1);
            let mut lost = Vec::new();
            for position in next..=last {
                let record = self.shared.record(position).map_err(ReadFailure::from)?;
                lost.extend(
                    record
                        .as_deref()
                        .filter(|it| was_published(it))
                        .and_then(publish::again),
                );
            }
            count += lost.len() as u64;
            stream::iter(lost)
                .map(|outgoing| side.broker.publish(outgoing))
                .buffered(PUBLISHES_AT_ONCE)
                .try_for_each(|_| async { Ok(()) })
                .await?;
            next = last + 1;
        }
        Ok(count)
    }

    /// Opens the next epoch with a message, and wakes the follower, which finds it.
    async fn open_next(
        &self,
        side: &Side,
        line: &Line,
        first_sequence: u64,
        gap: Option<(u64, u64)>,
        decision: &Decision,
    ) -> Result<Decided, DecisionFailure> {
        let durable = read(&self.shared.durable).clone();
        let head: (u64, Hash) = (durable.position, durable.root);
        let id = &self.shared.ledger_id;
        let opener = Opener {
            gap,
            ..Opener::new(id, line.epoch + 1, head, &side.name, first_sequence)
        };
        let state = side.broker.state().await?;
        let time = durable.record_time.unwrap_or_default();
        let opener = with_first_leaf(&*side.broker, opener, &state, time).await?;
        let said = Said {
            who: match decision.who.is_empty() {
                true => decision.sender.clone(),
                false => decision.who.clone(),
            },
            why: decision.why.clone(),
        };
        let host = &self.shared.host;
        let event = opener.event(&said, (host.clock)());
        publish::publish_own(&*side.broker, &event, &decision.sender, host).await?;
        side.decided.notify_one();
        Ok(Decided {
            epoch: opener.epoch,
            first_sequence,
            position: opener.last_position + 1,
            republished_count: 0,
            gap,
        })
    }
}

/// Whether a record came as a message and is a fact that others should get again; what opens epochs is said anew.
fn was_published(record: &Record) -> bool {
    record.verdict.is_fact() && record.stream_sequence > 0 && &*record.kind != super::epoch::OPENED
}

fn unfit(freeze: &Freeze, other: &str) -> DecisionFailure {
    let rule = "not a reason for this decision";
    let refusal = Refusal::new(Code::Contradiction, "decision", freeze.kind.as_str(), rule);
    DecisionFailure::Refused(refusal.with_hint(format!("{}; use {other}", freeze.reason)))
}
