//! Questions: resolve whose knowledge is used, lend the facts, say what the answer stands on (LEDGER K4 to K6).
use std::sync::{Arc, Mutex};

use waybill_core::{Code, Refusal, Time};
use waybill_views::{Facts, Knowledge, Reading, assumed, delivery, trace};

use crate::{
    folder,
    ledger::Ledger,
    limits,
    shared::{lock, read},
    words::{AsOf, Basis, ReadFailure, ReadOptions},
};

/// The fold in order of assumed knowledge that was used last: lag, head, facts, events left out.
pub(crate) type AssumedFold = Mutex<Option<Arc<Assumed>>>;

/// Facts in order of assumed knowledge.
pub(crate) struct Assumed {
    lag_nanos: i64,
    head: u64,
    fold: assumed::Assumed,
}

impl Ledger {
    /// Where did this change go, and where did it come from?
    ///
    /// # Errors
    /// [`ReadFailure::Rebuilding`] while views are behind after a start; [`ReadFailure::Refused`] for impossible options.
    pub async fn trace(
        &self,
        options: &ReadOptions,
        question: trace::Question,
    ) -> Result<(Basis, trace::Answer), ReadFailure> {
        self.ask(options, |facts, reading| {
            trace::ask(facts, reading, &question)
        })
        .await
    }

    /// How is delivery doing?
    ///
    /// # Errors
    /// As [`Ledger::trace`].
    pub async fn delivery(
        &self,
        options: &ReadOptions,
        question: delivery::Question,
    ) -> Result<(Basis, delivery::Answer), ReadFailure> {
        self.ask(options, |facts, reading| {
            delivery::ask(facts, reading, &question)
        })
        .await
    }

    async fn ask<A>(
        &self,
        options: &ReadOptions,
        ask: impl FnOnce(&Facts, &Reading) -> A,
    ) -> Result<(Basis, A), ReadFailure> {
        if let Some(at_least) = &options.at_least {
            self.wait_folded(at_least).await?;
        }
        self.check_folded()?;
        match options.assumed_lag_nanos {
            None => self.ask_recorded(options, ask).await,
            Some(lag) => self.ask_assumed(options, lag, ask),
        }
    }

    async fn ask_recorded<A>(
        &self,
        options: &ReadOptions,
        ask: impl FnOnce(&Facts, &Reading) -> A,
    ) -> Result<(Basis, A), ReadFailure> {
        let (reading, record_time, answer) = {
            let facts = read(&self.shared.facts);
            let (reading, record_time) = self.reading(options, &facts)?;
            let answer = ask(&facts, &reading);
            let refused = facts.refused_leaf_count(reading.as_of);
            (reading, record_time, (answer, refused))
        };
        let (answer, refused_leaf_count) = answer;
        // The views may be ahead of sled, which has the tree.
        self.wait_for(reading.as_of, |heads| heads.applied).await?;
        let basis = Basis {
            ledger_id: self.shared.ledger_id.clone(),
            position: reading.as_of,
            record_time,
            root: self.root_at(reading.as_of)?,
            evaluated_time: reading.evaluated_time,
            assumed_lag_nanos: None,
            excluded_count: 0,
            refused_leaf_count,
        };
        Ok((basis, answer))
    }

    /// With whose eyes, and when the last event that they see was recorded.
    fn reading(
        &self,
        options: &ReadOptions,
        facts: &Facts,
    ) -> Result<(Reading, Option<Time>), ReadFailure> {
        let (head, head_time) = facts.head();
        let as_of = match &options.as_of {
            None => head,
            Some(AsOf::Position(position)) => known(*position, head)?,
            Some(AsOf::RecordTime(time)) => facts.position_at(self.past(*time)?),
            Some(AsOf::Event(identity)) => known(self.find(identity)?.position, head)?,
        };
        let record_time = if as_of == head {
            head_time
        } else {
            self.record_time(as_of)?
        };
        let recorded = record_time.unwrap_or_default();
        let evaluated_time = options
            .evaluated_time
            .unwrap_or_else(|| match &options.as_of {
                Some(AsOf::RecordTime(time)) => *time,
                Some(_) => recorded,
                None => (self.shared.host.clock)().max(recorded),
            });
        let reading = Reading {
            as_of,
            evaluated_time,
            knowledge: Knowledge::Recorded,
        };
        Ok((reading, record_time))
    }

    fn ask_assumed<A>(
        &self,
        options: &ReadOptions,
        lag_nanos: i64,
        ask: impl FnOnce(&Facts, &Reading) -> A,
    ) -> Result<(Basis, A), ReadFailure> {
        let assumed = self.assumed(lag_nanos)?;
        let as_of = match &options.as_of {
            None => None,
            Some(AsOf::RecordTime(time)) => Some(self.past(*time)?),
            Some(AsOf::Position(_) | AsOf::Event(_)) => return Err(as_of_must_be_a_time()),
        };
        let head_time = self.record_time(assumed.head)?;
        let now = || (self.shared.host.clock)().max(head_time.unwrap_or_default());
        let evaluated_time = options.evaluated_time.or(as_of).unwrap_or_else(now);
        let facts = &assumed.fold.facts;
        let reading = Reading {
            as_of: as_of.map_or(facts.head().0, |time| facts.position_at(time)),
            evaluated_time,
            knowledge: Knowledge::Assumed { lag_nanos },
        };
        let answer = ask(facts, &reading);
        let basis = Basis {
            ledger_id: self.shared.ledger_id.clone(),
            position: assumed.head,
            record_time: head_time,
            root: self.root_at(assumed.head)?,
            evaluated_time,
            assumed_lag_nanos: Some(lag_nanos),
            excluded_count: assumed.fold.excluded_count,
            refused_leaf_count: read(&self.shared.facts).refused_leaf_count(assumed.head),
        };
        Ok((basis, answer))
    }

    /// The second fold, built when first asked for and again when the ledger has grown.
    fn assumed(&self, lag_nanos: i64) -> Result<Arc<Assumed>, ReadFailure> {
        let mut cached = lock(&self.assumed);
        let head = self.shared.heads.borrow().applied;
        if let Some(assumed) = cached
            .as_ref()
            .filter(|it| it.lag_nanos == lag_nanos && it.head == head)
        {
            return Ok(assumed.clone());
        }
        let mut events = Vec::new();
        let mut next = 1;
        while next <= head {
            let records =
                read(&self.shared.database).records(next..=head, limits::FOLD_EVENTS_MAX)?;
            let Some(last) = records.last() else { break };
            next = last.position + 1;
            events.extend(
                records
                    .iter()
                    .filter_map(|record| folder::recorded(&self.shared, record)),
            );
        }
        let assumed = Arc::new(Assumed {
            lag_nanos,
            head,
            fold: assumed::fold(events, lag_nanos),
        });
        *cached = Some(assumed.clone());
        Ok(assumed)
    }

    /// What the ledger will have recorded by a moment to come nobody knows.
    fn past(&self, as_of: Time) -> Result<Time, ReadFailure> {
        let now = (self.shared.host.clock)();
        if as_of <= now {
            return Ok(as_of);
        }
        let rule = format!("in the future: the clock says {now}");
        let refusal = Refusal::new(Code::OutOfRange, "read.as_of.record_time", as_of, rule);
        Err(refusal
            .with_hint("leave it out to ask with all that is recorded; `evaluated_time` is the question's now")
            .into())
    }

    fn check_folded(&self) -> Result<(), ReadFailure> {
        let folded = self.shared.heads.borrow().folded;
        let total = self.shared.folded_from;
        if folded >= total {
            Ok(())
        } else {
            Err(ReadFailure::Rebuilding {
                done: folded,
                total,
            })
        }
    }

    fn record_time(&self, position: u64) -> Result<Option<Time>, ReadFailure> {
        Ok(self
            .shared
            .record(position)?
            .map(|record| record.record_time))
    }
}

fn known(position: u64, head: u64) -> Result<u64, ReadFailure> {
    if position > head {
        let rule = format!("beyond the head, which is {head}");
        return Err(
            Refusal::new(Code::OutOfRange, "read.as_of.position", position, rule)
                .with_hint("to wait for a position, send it as `at_least`")
                .into(),
        );
    }
    Ok(position)
}

fn as_of_must_be_a_time() -> ReadFailure {
    Refusal::new(
        Code::Contradiction,
        "read.as_of",
        "a position",
        "must be a time when knowledge is assumed",
    )
    .with_hint("give `as_of.record_time`: assumed knowledge is ordered by time, not by position")
    .into()
}
