//! Lists find what a look at every event finds.
use proptest::prelude::*;

use super::*;
use crate::record::Word;

/// What a caller does with candidates: looks at each event itself.
fn select(database: &Database, selection: &Selection) -> Vec<u64> {
    let candidates = database.select(selection).map(Result::unwrap);
    candidates
        .filter(|&position| matches(&database.record(position).unwrap().unwrap(), selection))
        .collect()
}

fn naive(world: &World, end: u64, selection: &Selection) -> Vec<u64> {
    let within = world.records[..keys::small(end)]
        .iter()
        .filter(|record| matches(record, selection));
    let mut positions: Vec<u64> = within.map(|record| record.position).collect();
    positions.retain(|position| (selection.first..=selection.last).contains(position));
    if selection.descending {
        positions.reverse();
    }
    positions
}

fn matches(record: &Record, selection: &Selection) -> bool {
    let keys = index(record);
    let within = |time: Option<Time>, (from, until): (Option<Time>, Option<Time>)| {
        (from.is_none() && until.is_none())
            || time.is_some_and(|time| {
                from.is_none_or(|from| time >= from) && until.is_none_or(|until| time < until)
            })
    };
    selection.all.iter().all(|word| keys.words.contains(word))
        && (selection.any.is_empty() || selection.any.iter().any(|word| keys.words.contains(word)))
        && within(keys.occur_time, selection.occur)
        && within(Some(record.record_time), selection.record)
}

fn word() -> impl Strategy<Value = Word> {
    prop_oneof![
        prop::sample::select(vec![
            "kind:commit.recorded",
            "kind:build.finished",
            "kind:none"
        ])
        .prop_map(str::to_owned),
        (0u64..2000).prop_map(|n| format!("event:{n}")),
        (0u64..20).prop_map(|n| format!("stretch:{n}")),
    ]
    .prop_map(|word| Word::of(&[&word]))
}

fn moment() -> impl Strategy<Value = Option<Time>> {
    prop::option::of((0i64..2000).prop_map(|n| Time::try_new(1_699_999_500 + n, 0).unwrap()))
}

fn selection() -> impl Strategy<Value = Selection> {
    let words = (
        prop::collection::vec(word(), 0..3),
        prop::collection::vec(word(), 0..3),
    );
    let times = ((moment(), moment()), (moment(), moment()));
    (words, times, 0u64..1900, 0u64..1900, any::<bool>()).prop_map(
        |((all, any), (occur, record), first, last, descending)| Selection {
            all,
            any,
            occur,
            record,
            first,
            last,
            descending,
        },
    )
}

#[test]
fn a_list_equals_a_look_at_every_event() {
    let world = World::new(1700, u64::MAX);
    let dir = tempfile::tempdir().unwrap();
    let database = open(dir.path());
    world.apply(&database, 1650, 400);
    world.apply(&database, 1690, 1);
    let check = |selection: &Selection| {
        assert_eq!(
            select(&database, selection),
            naive(&world, 1690, selection),
            "{selection:?}"
        );
    };
    proptest!(ProptestConfig::with_cases(400), |(selection in selection())| check(&selection));
    check(&Selection {
        last: u64::MAX,
        ..Selection::default()
    });
    check(&Selection {
        last: u64::MAX,
        descending: true,
        ..Selection::default()
    });
}

#[test]
fn a_rare_word_costs_a_look_at_few_events() {
    let world = World::new(1700, u64::MAX);
    let dir = tempfile::tempdir().unwrap();
    let database = open(dir.path());
    world.apply(&database, world.len(), 1700);
    for position in [1, 32, 33, 512, 513, 1699] {
        let selection = Selection {
            all: vec![Word::of(&[&format!("event:{position}")])],
            last: u64::MAX,
            ..Selection::default()
        };
        let candidates: Vec<u64> = database.select(&selection).map(Result::unwrap).collect();
        assert!(
            candidates.contains(&position) && candidates.len() <= 32,
            "{candidates:?}"
        );
    }
}

#[test]
fn a_list_stays_at_the_end_it_began_with() {
    let world = World::new(1700, u64::MAX);
    let dir = tempfile::tempdir().unwrap();
    let database = open(dir.path());
    world.apply(&database, 600, 600);
    let mut list = database.select(&Selection {
        last: u64::MAX,
        ..Selection::default()
    });
    assert_eq!(list.next().unwrap().unwrap(), 1);
    world.apply(&database, world.len(), 500);
    assert_eq!(list.map(Result::unwrap).last(), Some(600));
}
