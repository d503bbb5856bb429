//! Laws of facts and answers (LEDGER K1 to K3, E6, E7), over small crowded worlds: few names, few moments, so that
//! witnesses, corrections, retractions, equal times, cycles and absent targets meet all the time.
//!
//! The checker is checked: order bugs are planted in front of the fold, and the law must fail for each of them.
use std::sync::Arc;

use proptest::{
    prelude::*,
    test_runner::{Config, TestCaseError, TestError, TestRunner},
};
use waybill_core::{Event, Payload, Recorded, Time, event::RecordKind};
use waybill_fixture::{arrive, moment, story};
use waybill_views::{Facts, Knowledge, Reading, delivery, trace};

const COMMITS: [&str; 7] = ["a1", "b2", "c3", "d4", "e5", "f6", "a7"];
const CLOCKS: [&str; 6] = ["08:00", "09:00", "09:00", "10:00", "11:00", "-"];
const REFERENCES: [&str; 13] = [
    "a1a1a1",
    "b2b2b2",
    "c3c3c3",
    "e5e5e5",
    "#1",
    "d-1",
    "d-2",
    "INC-1",
    "img",
    "b-1",
    "v1",
    "d:shop@prod",
    "d:shop@prod~1",
];

/// A world is a story, and an order of arrival other than the story's.
#[derive(Clone, Debug)]
struct World {
    lines: Vec<String>,
    order: Vec<usize>,
}

impl World {
    fn told(&self) -> Vec<Event> {
        let recorded = story(&self.lines.join("\n"));
        recorded
            .into_iter()
            .map(|recorded| Arc::unwrap_or_clone(recorded.event))
            .collect()
    }

    fn reordered(&self) -> Vec<Event> {
        let told = self.told();
        self.order.iter().map(|at| told[*at].clone()).collect()
    }
}

fn worlds() -> impl Strategy<Value = World> {
    // Keys to sort by shrink better than a permutation.
    let arrivals = prop::collection::vec((lines(), any::<u8>()), 2..26);
    arrivals.prop_map(|arrivals| {
        let mut order: Vec<usize> = (0..arrivals.len()).collect();
        order.sort_by_key(|at| arrivals[*at].1);
        let lines = arrivals.into_iter().map(|(line, _)| line).collect();
        World { lines, order }
    })
}

fn lines() -> impl Strategy<Value = String> {
    let facts = (prop::sample::select(&CLOCKS[..]), said(), how())
        .prop_map(|(clock, said, how)| format!("{clock} {said}{how}"));
    let corrections = (prop::sample::select(&CLOCKS[..]), 1..26_u8, said(), how())
        .prop_map(|(clock, target, said, how)| format!("{clock} correct @e{target} {said}{how}"));
    let retractions = (prop::sample::select(&CLOCKS[..]), 1..26_u8)
        .prop_map(|(clock, target)| format!("{clock} retract @e{target}"));
    prop_oneof![8 => facts, 2 => corrections, 2 => retractions]
}

/// Who says it, and how well they know.
fn how() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        6 => Just(""),
        1 => Just(" from other"),
        1 => Just(" from other rev 1"),
        1 => Just(" basis derived"),
        1 => Just(" basis author from third"),
    ]
}

fn said() -> impl Strategy<Value = String> {
    let commit = || prop::sample::select(&COMMITS[..]);
    let deployment = (
        commit(),
        1..4_u8,
        prop::sample::select(&["ok", "ok", "ok", "failed", "started"][..]),
    );
    let extra = prop::sample::select(
        &[
            "",
            "",
            "",
            " previous a1",
            " rollback-of d-1",
            " range-unknown",
            " version v1",
        ][..],
    );
    prop_oneof![
        6 => (commit(), commit(), any::<bool>()).prop_map(|(id, parent, root)| match root {
            true => format!("commit shop {id}"),
            false => format!("commit shop {id} parent {parent}"),
        }),
        2 => (commit(), commit(), commit()).prop_map(|(id, one, two)| {
            format!("commit shop {id} parent {one},{two} reverts {two}")
        }),
        5 => (deployment, extra).prop_map(|((id, number, outcome), extra)| {
            format!("deploy shop {id} -> prod {outcome} d-{number}{extra}")
        }),
        1 => (1..4_u8).prop_map(|number| format!("deploy shop -> prod ok d-{number} artifacts img")),
        1 => commit().prop_map(|id| format!("deploy shop ~{} -> prod ok d-9", id.repeat(4))),
        2 => (1..3_u8, commit(), commit()).prop_map(|(number, merge, own)| {
            format!("merge shop #{number} as {merge} squash commits {own}")
        }),
        1 => commit().prop_map(|id| format!("build b-1 of shop {id} makes img")),
        1 => commit().prop_map(|id| format!("release shop v1 of shop {id} changes 1")),
        1 => Just("incident INC-1 reported".to_owned()),
        1 => (1..3_u8).prop_map(|number| format!("link l-1 deployment:shop/d-{number} -> incident:INC-1")),
        1 => Just("unlink l-1".to_owned()),
        1 => (0..4_u8).prop_map(|rank| format!("rank other {rank}")),
        1 => Just("metric latency".to_owned()),
    ]
}

fn fold(recorded: &[Recorded]) -> Facts {
    let mut facts = Facts::new();
    recorded.iter().for_each(|recorded| facts.apply(recorded));
    facts
}

fn reading(as_of: u64) -> Reading {
    Reading {
        as_of,
        evaluated_time: moment("2026-01-05 10:30"),
        knowledge: Knowledge::Recorded,
    }
}

/// Every answer that is compared, as text.
fn answers(facts: &Facts, as_of: u64) -> String {
    let reading = reading(as_of);
    let question = delivery::Question {
        start_time: Some(moment("2026-01-05 00:00")),
        explain: true,
        ..delivery::Question::default()
    };
    let mut out = format!("{:#?}\n", delivery::ask(facts, &reading, &question));
    for reference in REFERENCES {
        let question = trace::Question {
            reference: reference.to_owned(),
            ..trace::Question::default()
        };
        let answer = trace::ask(facts, &reading, &question);
        out += &format!("{reference} {answer:#?}\n");
    }
    out
}

/// The same without the places in the ledger, which another arrival changes.
fn without_positions(answers: &str) -> String {
    let kept = answers
        .lines()
        .filter(|line| !line.trim_start().starts_with("position: "));
    kept.collect::<Vec<_>>().join("\n")
}

fn equal(left: &str, right: &str) -> Result<(), TestCaseError> {
    let differs = left
        .lines()
        .zip(right.lines())
        .find(|(left, right)| left != right);
    match differs {
        None if left.len() == right.len() => Ok(()),
        differs => Err(TestCaseError::fail(format!("answers differ: {differs:?}"))),
    }
}

/// K3: any order of arrival gives the same answers, under a fold that may be given a bug.
fn arrival_changes_nothing(world: &World, bug: Option<Bug>) -> Result<(), TestCaseError> {
    let ask = |events: Vec<Event>| {
        let recorded = arrive(events);
        let recorded = bug.map_or(recorded.clone(), |bug| bug.plant(recorded));
        without_positions(&answers(&fold(&recorded), u64::MAX))
    };
    equal(&ask(world.told()), &ask(world.reordered()))
}

/// Ways to let arrival decide.
#[derive(Clone, Copy, Debug)]
enum Bug {
    /// The last to arrive wins.
    LastArrivalWins,
    /// A retraction works only on what is already there.
    RetractionsForgetTheAbsent,
    /// A correction works only on what is already there.
    CorrectionsForgetTheAbsent,
    /// What has no time happened when it was recorded.
    RecordTimeStandsIn,
    /// A commit that came after its child is not joined to it.
    LateParentsAreLost,
}

impl Bug {
    const ALL: [Self; 5] = [
        Self::LastArrivalWins,
        Self::RetractionsForgetTheAbsent,
        Self::CorrectionsForgetTheAbsent,
        Self::RecordTimeStandsIn,
        Self::LateParentsAreLost,
    ];

    fn plant(self, recorded: Vec<Recorded>) -> Vec<Recorded> {
        let mut kept: Vec<Recorded> = Vec::new();
        for mut one in recorded {
            let there = |target| kept.iter().any(|other| &other.event.identity == target);
            let lost = match (&one.event.record_kind, &one.event.payload) {
                (RecordKind::Retraction(target), _) => {
                    matches!(self, Self::RetractionsForgetTheAbsent) && !there(target)
                }
                (RecordKind::Correction(target), _) => {
                    matches!(self, Self::CorrectionsForgetTheAbsent) && !there(target)
                }
                (_, Payload::Commit(commit)) => {
                    let id = &commit.revision.id;
                    matches!(self, Self::LateParentsAreLost)
                        && kept.iter().any(|other| is_child(other, id))
                }
                _ => false,
            };
            match self {
                Self::LastArrivalWins => {
                    Arc::make_mut(&mut one.event).revision =
                        u32::try_from(one.position).unwrap_or(u32::MAX)
                }
                Self::RecordTimeStandsIn if one.event.occur_time.is_none() => {
                    let noon = moment("2026-01-05 09:30").nanos();
                    let nanos = i128::from(noon) + i128::from(one.position);
                    Arc::make_mut(&mut one.event).occur_time =
                        Some(Time::from_nanos_clamped(nanos));
                }
                _ => {}
            }
            if !lost {
                kept.push(one);
            }
        }
        kept
    }
}

fn is_child(recorded: &Recorded, id: &std::sync::Arc<str>) -> bool {
    matches!(&recorded.event.payload, Payload::Commit(commit) if commit.parents.contains(id))
}

fn runner(cases: u32, shrinks: u32) -> TestRunner {
    TestRunner::new(Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: shrinks,
        ..Config::default()
    })
}

fn holds(cases: u32, law: impl Fn(World) -> Result<(), TestCaseError>) {
    if let Err(error) = runner(cases, 3_000).run(&worlds(), law) {
        panic!("{error}");
    }
}

#[test]
fn any_order_of_arrival_gives_the_same_answers() {
    holds(400, |world| arrival_changes_nothing(&world, None));
}

#[test]
fn planted_order_bugs_are_caught() {
    for bug in Bug::ALL {
        let caught = runner(2_000, 0).run(&worlds(), |world| {
            arrival_changes_nothing(&world, Some(bug))
        });
        assert!(
            matches!(caught, Err(TestError::Fail(..))),
            "{bug:?} was not caught"
        );
    }
}

#[test]
fn as_of_a_position_is_now_over_the_prefix() {
    holds(150, |world| {
        let recorded = arrive(world.told());
        let whole = fold(&recorded);
        let mut prefix = Facts::new();
        for one in &recorded {
            prefix.apply(one);
            let then = answers(&whole, one.position);
            equal(&then, &answers(&prefix, one.position))?;
            equal(&then, &answers(&prefix, u64::MAX))?;
        }
        Ok(())
    });
}

#[test]
fn a_duplicate_changes_nothing() {
    holds(150, |world| {
        let once = arrive(world.told());
        let mut doubled = once.clone();
        doubled.extend(once.iter().cloned());
        for (position, one) in (1..).zip(&mut doubled) {
            one.position = position;
        }
        equal(
            &answers(&fold(&once), u64::MAX),
            &answers(&fold(&doubled), u64::MAX),
        )
    });
}

fn checkpoint(facts: &Facts) -> Vec<u8> {
    let mut bytes = Vec::new();
    facts.checkpoint(&mut |piece| bytes.extend_from_slice(piece));
    bytes
}

#[test]
fn a_checkpointed_view_equals_a_refolded_one() {
    holds(100, |world| {
        let recorded = arrive(world.told());
        let (before, after) = recorded.split_at(recorded.len() / 2);
        let bytes = checkpoint(&fold(before));
        let Some(mut restored) = Facts::restore(&bytes) else {
            return Err(TestCaseError::fail("a checkpoint was refused"));
        };
        prop_assert_eq!(&checkpoint(&restored), &bytes);
        after.iter().for_each(|one| restored.apply(one));
        let folded = fold(&recorded);
        prop_assert_eq!(checkpoint(&restored), checkpoint(&folded));
        equal(&answers(&restored, u64::MAX), &answers(&folded, u64::MAX))
    });
}

#[test]
fn a_damaged_checkpoint_is_refused() {
    let told = "08:00 commit shop a1\n08:10 deploy shop a1 -> prod ok d-1\n08:20 retract @e1";
    let bytes = checkpoint(&fold(&story(told)));
    assert!(Facts::restore(&bytes).is_some());
    for length in 0..bytes.len() {
        assert!(
            Facts::restore(&bytes[..length]).is_none(),
            "cut to {length}"
        );
    }
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        assert!(Facts::restore(&damaged).is_none(), "byte {at} flipped");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(Facts::restore(&longer).is_none());
}

/// E7 in full, one rule at a time: each line beats the one before it, in any order of arrival.
#[test]
fn the_winner_is_decided_by_revision_basis_rank_and_identity() {
    let climbing = [
        "09:00 commit shop a1 \"0\" basis delivery from b @z rev 0",
        "09:00 commit shop a1 \"1\" basis derived from b @a rev 0",
        "09:00 commit shop a1 \"2\" basis reported from b @a2 rev 0",
        "09:00 commit shop a1 \"3\" basis reported from b @b rev 0",
        "09:00 commit shop a1 \"4\" basis reported from c @a rev 0",
        "09:00 commit shop a1 \"5\" basis reported from a @a rev 0",
        "09:00 commit shop a1 \"6\" basis delivery from b @y rev 1",
    ];
    let ranked = format!("09:00 rank a 7\n{}", climbing.join("\n"));
    let told: Vec<Event> = story(&ranked)
        .into_iter()
        .map(|r| Arc::unwrap_or_clone(r.event))
        .collect();
    for last in 1..told.len() {
        for first in [0, last / 2, last] {
            let mut events = told[..=last].to_vec();
            events.rotate_left(first);
            let facts = fold(&arrive(events));
            let question = trace::Question {
                reference: "a1a1a1".to_owned(),
                ..trace::Question::default()
            };
            let answer = trace::ask(&facts, &reading(u64::MAX), &question);
            assert_eq!(
                answer.nodes[0].title,
                (last - 1).to_string(),
                "from {first}"
            );
            assert_eq!(answer.nodes[0].events.len(), last);
        }
    }
}
