//! Steps of every size become pages that hold the same, however they came.
use proptest::prelude::*;
use std::ops::ControlFlow;

use super::*;

#[test]
fn steps_of_any_size_give_the_same_database() {
    let world = World::new(1500, 700);
    for step in [1, 7, 64, 1000, 1500] {
        let dir = tempfile::tempdir().unwrap();
        let database = open(dir.path());
        world.apply(&database, world.len(), step);
        world.compare(&database);
        database.close();
        drop(database);
        world.compare(&open(dir.path()));
    }
}

#[test]
fn small_steps_and_large_ones_mix_and_reopen_anywhere() {
    let world = World::new(900, 450);
    let dir = tempfile::tempdir().unwrap();
    for (end, step) in [
        (1, 1),
        (3, 1),
        (40, 5),
        (41, 1),
        (300, 100),
        (310, 1),
        (511, 50),
        (512, 1),
        (513, 1),
        (900, 3),
    ] {
        let database = open(dir.path());
        world.apply(&database, end, step);
        world.compare(&database);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn random_steps_and_reopens_give_what_was_applied(
        steps in prop::collection::vec((1u64..200, prop::bool::weighted(0.2)), 1..12),
        large in 50u64..400,
    ) {
        let world = World::new(steps.iter().map(|(step, _)| step).sum(), large);
        let dir = tempfile::tempdir().unwrap();
        let mut database = open(dir.path());
        let mut at = 0;
        for (step, reopen) in steps {
            if reopen {
                database.close();
                database = open(dir.path());
            }
            world.step(&database, at, at + step).unwrap();
            at += step;
        }
        world.compare(&database);
        database.close();
        world.compare(&open(dir.path()));
    }
}

#[test]
fn lone_events_share_blocks_and_cost_little() {
    let mut world = World::new(0, 1);
    (0..2000).for_each(|_| world.add(Bytes::from_static(&[b'a'; 200])));
    let dir = tempfile::tempdir().unwrap();
    let database = open(dir.path());
    world.apply(&database, world.len(), 1);
    let values = values(&database);
    let blocks = values.iter().filter(|(key, _)| key[0] == b'e').count();
    assert!(blocks <= 2000 / 40, "{blocks} blocks");
    assert!(
        values
            .iter()
            .filter(|(key, _)| key.starts_with(b"od"))
            .count()
            <= 64
    );
}

#[test]
fn no_value_is_larger_than_four_kib_and_none_lies_in_a_file_of_its_own() {
    let world = World::new(1300, 100);
    let dir = tempfile::tempdir().unwrap();
    let database = open(dir.path());
    world.apply(&database, 700, 200);
    world.apply(&database, world.len(), 1);
    let values = values(&database);
    assert!(
        values
            .iter()
            .all(|(_, bytes)| *bytes <= keys::VALUE_BYTES_MAX)
    );
    assert!(
        values
            .iter()
            .any(|(key, _)| key[0] == b'e' && key.len() == 11),
        "nothing is chunked"
    );
    assert_eq!(
        std::fs::read_dir(dir.path().join("blobs")).unwrap().count(),
        0
    );
}

/// Every key with something in it, and how large that is.
fn values(database: &Database) -> Vec<(Vec<u8>, usize)> {
    let list = |sled: &sled::Tree| {
        sled.iter()
            .map(|it| it.map(|(key, value)| (key.to_vec(), value.len())))
            .collect()
    };
    let mut values: Vec<(Vec<u8>, usize)> = database.with("read", list).unwrap();
    values.retain(|(_, bytes)| *bytes > 0);
    values
}

#[test]
fn every_complete_node_can_be_had() {
    let world = World::new(128 * 129 + 77, u64::MAX);
    let dir = tempfile::tempdir().unwrap();
    let database = open(dir.path());
    world.apply(&database, world.len(), 1000);
    for level in 0..=14u8 {
        for index in 0..(world.len() >> level) {
            if level > 3 || index % 97 == 0 {
                assert_eq!(
                    database.node(level, index, node_hash).unwrap(),
                    world.node(level, index),
                    "{level} {index}"
                );
            }
        }
        let beyond = database
            .node(level, world.len() >> level, node_hash)
            .unwrap_err();
        assert!(matches!(beyond, Fault::Foreign { .. }), "{level}: {beyond}");
    }
    assert!(database.node(63, 1, node_hash).is_err());
    assert!(database.node(255, u64::MAX, node_hash).is_err());
    database.check_tree(node_hash).unwrap();
}

#[test]
fn a_step_that_does_not_fit_is_refused_and_changes_nothing() {
    let world = World::new(300, 700);
    let dir = tempfile::tempdir().unwrap();
    let database = open(dir.path());
    world.apply(&database, 120, 50);
    for (at, next) in [(119, 130), (121, 130), (0, 10)] {
        assert!(
            matches!(world.step(&database, at, next), Err(Fault::Foreign { .. })),
            "{at}..{next}"
        );
    }
    let records = &world.records[120..127];
    let (keys, leaves) = (vec![Keys::default(); 7], vec![[0; 32]; 7]);
    let step = |leaves, meta, nodes| Step {
        records,
        leaves,
        nodes,
        keys: &keys,
        meta,
    };
    let large = Meta {
        counters: vec![0; 4096],
        ..world.meta(127)
    };
    assert!(matches!(
        database.apply(&step(&leaves, large, &[])),
        Err(Fault::TooLarge { .. })
    ));
    for (leaves, meta) in [(&leaves[..6], world.meta(127)), (&leaves, world.meta(126))] {
        assert!(matches!(
            database.apply(&step(leaves, meta, &[])),
            Err(Fault::Foreign { .. })
        ));
    }
    let nodes = [(7, 0, [0; 32])];
    assert!(matches!(
        database.apply(&step(&leaves, world.meta(127), &nodes)),
        Err(Fault::Foreign { .. })
    ));
    world.compare(&database);
    world.apply(&database, world.len(), 50);
    world.compare(&database);
}

#[test]
fn records_come_in_order_within_bounds() {
    let world = World::new(700, 300);
    let dir = tempfile::tempdir().unwrap();
    let database = open(dir.path());
    world.apply(&database, world.len(), 90);
    let positions = |range, limit| {
        let records = database.records(range, limit).unwrap();
        records
            .iter()
            .map(|record| record.position)
            .collect::<Vec<_>>()
    };
    assert_eq!(positions(0..=3, 10), [1, 2, 3]);
    assert_eq!(positions(298..=u64::MAX, 4), [298, 299, 300, 301]);
    assert_eq!(positions(699..=900, 10), [699, 700]);
    assert!(positions(701..=900, 10).is_empty());
    #[expect(clippy::reversed_empty_ranges, reason = "a caller may ask for nothing")]
    let nothing = positions(9..=3, 10);
    assert!(nothing.is_empty());
}

#[test]
fn a_record_that_is_not_its_leafs_is_damage() {
    let world = World::new(300, 700);
    let dir = tempfile::tempdir().unwrap();
    let database = open(dir.path());
    world.apply(&database, world.len(), 300);
    let other = Pure {
        leaf: |_| [9; 32],
        index,
    };
    assert!(matches!(
        database.record_checked(5, &other),
        Err(Fault::Damage(_))
    ));
    assert!(matches!(
        database.check(&other, &mut |_| ControlFlow::Continue(())),
        Err(Fault::Damage(_))
    ));
    let forgetful = Pure {
        leaf,
        index: |_| Keys::default(),
    };
    assert!(matches!(
        database.check(&forgetful, &mut |_| ControlFlow::Continue(())),
        Err(Fault::Damage(_))
    ));
    assert!(matches!(
        database.check_tree(|_, _| [9; 32]),
        Err(Fault::Damage(_))
    ));
}

#[test]
fn a_page_that_is_gone_or_changed_is_damage_and_never_a_wrong_answer() {
    let world = World::new(1200, 500);
    let dir = tempfile::tempdir().unwrap();
    let database = open(dir.path());
    world.apply(&database, world.len(), 1200);
    let all: Vec<(sled::IVec, sled::IVec)> =
        database.with("read", |sled| sled.iter().collect()).unwrap();
    let full = all
        .iter()
        .filter(|(key, value)| b"efhx".contains(&key[0]) && !value.is_empty());
    for (key, value) in full.step_by(7) {
        let mut flipped = value.to_vec();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 4;
        for other in [None, Some(flipped)] {
            let change = |sled: &sled::Tree| match &other {
                None => sled.remove(key).map(drop),
                Some(other) => sled.insert(key, &other[..]).map(drop),
            };
            database.with("write", change).unwrap();
            *lock(&database.0.recent) = Recent::default();
            let scrubbed = database
                .check(&PURE, &mut |_| ControlFlow::Continue(()))
                .and_then(|()| database.check_tree(node_hash));
            assert!(
                matches!(scrubbed, Err(Fault::Damage(_))),
                "{key:?}: {scrubbed:?}"
            );
            for record in world.records.iter().step_by(13) {
                match database.record_checked(record.position, &PURE) {
                    Ok(found) => assert_eq!(found.as_ref(), Some(&**record)),
                    Err(fault) => assert!(matches!(fault, Fault::Damage(_)), "{fault}"),
                }
            }
            database
                .with("write", |sled| sled.insert(key, value).map(drop))
                .unwrap();
        }
    }
    world.compare(&database);
}

#[test]
fn where_damage_was_found_the_next_start_believes_nothing() {
    let world = World::new(1200, 500);
    let dir = tempfile::tempdir().unwrap();
    let database = open(dir.path());
    world.apply(&database, world.len(), 1200);
    let key = Full::Block.key(3);
    database
        .with("write", |sled| sled.insert(&key, &[7; 40][..]).map(drop))
        .unwrap();
    let scrubbed = database.check(&PURE, &mut |_| ControlFlow::Continue(()));
    assert!(matches!(scrubbed, Err(Fault::Damage(_))), "{scrubbed:?}");
    database.close_clean(BOOT).unwrap();
    let opened = Database::open(dir.path(), &Options::default(), BOOT);
    let Err(Fault::Suspect { why }) = opened else {
        panic!("it is believed");
    };
    assert_eq!(why, "damage was found in it");
}

#[test]
fn a_page_of_block_ends_that_is_gone_or_changed_is_suspect() {
    let mut world = World::new(0, 1);
    let dir = tempfile::tempdir().unwrap();
    (0..1100).for_each(|_| world.add(Bytes::from(noise(1, 5000))));
    world.apply(&open(dir.path()), world.len(), 1000);
    let key = Full::Ends.key(1);
    let page = open(dir.path())
        .get(key.clone())
        .unwrap()
        .expect("a full page of ends");
    for other in [&[][..], &page[8..], &[&page[..4080], &page[..16]].concat()] {
        let database = open(dir.path());
        database
            .with("write", |sled| sled.insert(&key, other).map(drop))
            .unwrap();
        drop(database);
        let opened = Database::open(dir.path(), &Options::default(), BOOT);
        assert!(matches!(opened, Err(Fault::Suspect { .. })));
        let sled = open_sled(dir.path(), &Options::default()).unwrap();
        sled.tree().insert(&key, &page[..]).unwrap();
        drop(sled);
        assert_eq!(open(dir.path()).meta().unwrap().tip.position, world.len());
    }
}
