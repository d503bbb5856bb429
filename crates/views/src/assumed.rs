//! Assumed knowledge (LEDGER K6): what would have been known if imports had been recorded as things happened.
//!
//! Imports are all recorded on one day. Here each backfilled event counts as known some time after it occurred, every
//! other one when it was recorded, and the facts are folded a second time in that order. Answers over them must be
//! labelled *assumed*; the moment of knowledge is then a time, and [`Facts::position_at`] turns it into
//! [`crate::Reading::as_of`].
use std::sync::Arc;
use waybill_core::{Payload, Recorded, Time, event::RecordKind};

use crate::facts::Facts;

/// Facts in the order in which they are assumed to have been known.
#[derive(Debug)]
pub struct Assumed {
    /// Their positions count in the assumed order; event references still name the ledger's.
    pub facts: Facts,
    /// Backfilled events without an occur time: nobody can say when they would have been known.
    pub excluded_count: u64,
}

/// Folds `events`, in any order, by (knowledge time, position). `lag_nanos` may be negative.
///
/// Holds what the questions need of every event at once: about the size of the events without their files.
#[must_use]
pub fn fold(events: impl IntoIterator<Item = Recorded>, lag_nanos: i64) -> Assumed {
    let mut excluded_count = 0;
    let mut ordered: Vec<Recorded> = Vec::new();
    for mut recorded in events {
        match known_at(&recorded, lag_nanos) {
            Some(time) => {
                lighten(&mut recorded);
                recorded.record_time = time;
                ordered.push(recorded);
            }
            None => excluded_count += 1,
        }
    }
    ordered.sort_by_key(|recorded| (recorded.record_time, recorded.position));
    let mut facts = Facts::relabelled();
    for (position, recorded) in (1..).zip(ordered) {
        let origin = recorded.position;
        let assumed = Recorded {
            position,
            ..recorded
        };
        facts.apply_from(&assumed, origin);
    }
    Assumed {
        facts,
        excluded_count,
    }
}

fn known_at(recorded: &Recorded, lag_nanos: i64) -> Option<Time> {
    let event = &recorded.event;
    match event.backfill {
        true => event.occur_time.map(|time| time.plus_nanos(lag_nanos)),
        false => Some(recorded.record_time),
    }
}

/// Drops what no fold reads while everything waits to be sorted.
fn lighten(recorded: &mut Recorded) {
    let event = Arc::make_mut(&mut recorded.event);
    event.labels.clear();
    event.entities = Vec::new();
    if let (Payload::Commit(commit), RecordKind::Assertion) =
        (&mut event.payload, &event.record_kind)
    {
        commit.files = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use waybill_fixture::{moment, story};

    use super::*;
    use crate::{
        delivery,
        reading::{Knowledge, Reading},
    };

    const IMPORT: &str = "
        09:00 commit shop a1 backfill recorded 20:00
        09:10 deploy shop a1 -> prod ok d-1 backfill
        09:30 commit shop b2 parent a1 backfill
        10:10 deploy shop b2 -> prod ok d-2 backfill
        - deploy shop b2 -> prod ok d-3 backfill
        20:30 commit shop c3 parent b2";

    fn deployments(facts: &Facts, as_of: u64) -> u64 {
        let reading = Reading {
            as_of,
            evaluated_time: moment("2026-01-06 00:00"),
            knowledge: Knowledge::Assumed { lag_nanos: 0 },
        };
        let answer = delivery::ask(facts, &reading, &delivery::Question::default());
        let rows = answer.services.iter();
        rows.map(|row| row.deployment_frequency.numerator_count)
            .sum()
    }

    #[test]
    fn imports_are_known_when_they_happened() {
        let hour = 3_600_000_000_000;
        for (lag, at_ten, at_twelve) in [(0, 1, 2), (hour, 0, 2), (-hour, 2, 2)] {
            let assumed = fold(story(IMPORT), lag);
            assert_eq!(assumed.excluded_count, 1);
            let known = |clock: &str| {
                let moment = moment(&format!("2026-01-05 {clock}"));
                deployments(&assumed.facts, assumed.facts.position_at(moment))
            };
            assert_eq!(
                (known("10:00"), known("12:00")),
                (at_ten, at_twelve),
                "{lag}"
            );
        }
    }

    #[test]
    fn events_keep_their_place_in_the_ledger() {
        let told = story(IMPORT);
        let assumed = fold(told.iter().rev().cloned(), 0);
        for recorded in told.iter().filter(|recorded| recorded.position != 5) {
            let position = assumed.facts.position_of(&recorded.event.identity);
            assert_eq!(position, Some(recorded.position));
        }
    }
}
