//! Whatever the broker does, a ledger that follows has what the stream has: never a silent difference (LEDGER Q2, Q4).
use proptest::prelude::*;
use waybill_ledger::{Leaves, stream::Condition};

use crate::{
    fake::Fake,
    kit::{Bed, Following, publish, runtime},
};

/// Something that happens to a stream.
#[derive(Clone, Debug)]
enum Act {
    Publish(u8),
    Poison,
    RollBack(u8),
    Anew,
    Purge(u8),
    Delete(u8),
    Repeat(u8),
    Skip,
    Reconnect,
    Restart,
}

fn acts() -> impl Strategy<Value = Vec<(Act, bool)>> {
    let act = prop_oneof![
        6 => (0..12_u8).prop_map(Act::Publish),
        1 => Just(Act::Poison),
        1 => (0..6_u8).prop_map(Act::RollBack),
        1 => Just(Act::Anew),
        1 => (0..6_u8).prop_map(Act::Purge),
        1 => (0..6_u8).prop_map(Act::Delete),
        2 => (0..9_u8).prop_map(Act::Repeat),
        1 => Just(Act::Skip),
        2 => Just(Act::Reconnect),
        1 => Just(Act::Restart),
    ];
    proptest::collection::vec((act, any::<bool>()), 1..24)
}

/// Does it to the stream. True where the stream is not any more what may have been recorded.
fn happen(broker: &Fake, act: &Act, noticed: bool) {
    let back = |last: u64, by: u8| last.saturating_sub(u64::from(by));
    match *act {
        Act::Publish(id) => drop(publish(
            broker,
            &format!("c{id}"),
            if id % 4 == 0 { "other" } else { "same" },
        )),
        Act::Poison => drop(broker.put("waybill.events.v1.a.b.c.d.e", &[], b"\xff")),
        Act::RollBack(by) => broker.change(noticed, |state| {
            let last = back(state.last, by);
            state.roll_back(last);
        }),
        Act::Anew => broker.change(noticed, |state| {
            for message in state.messages.values_mut() {
                message.time = message.time.plus_nanos(17);
            }
        }),
        Act::Purge(by) => broker.change(noticed, |state| {
            let last = back(state.last, by);
            state.purge(last);
        }),
        Act::Delete(by) => broker.change(noticed, |state| {
            let sequence = back(state.last, by);
            state.messages.remove(&sequence);
        }),
        Act::Repeat(by) => broker.lock().repeats = by.into(),
        Act::Skip => {
            let next = broker.lock().last + 1;
            broker.lock().skipped.insert(next);
        }
        Act::Reconnect => broker.change(true, |_| {}),
        Act::Restart => {}
    }
}

/// Waits until the ledger has either everything that the stream has, or refuses it; then what it has of the stream is what
/// the stream has.
async fn settled(following: &Following, broker: &Fake) -> bool {
    loop {
        following.compared().await;
        if matches!(following.condition(), Condition::Frozen(_)) {
            return false;
        }
        let recorded = following.ledger.status().stream.unwrap().recorded_sequence;
        if following.condition() == Condition::Following && recorded == broker.lock().last {
            return true;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn there_is_never_a_silent_difference(acts in acts()) {
        let (runtime, broker, bed) = (runtime(), Fake::new(), Bed::new(1));
        let mut following = bed.follow(&runtime, &broker);
        runtime.block_on(following.reach(2));
        for (act, noticed) in &acts {
            happen(&broker, act, *noticed);
            if matches!(act, Act::Restart) {
                following.close(&runtime);
                following = bed.follow(&runtime, &broker);
            }
            if !runtime.block_on(settled(&following, &broker)) {
                break;
            }
            // Every message that the stream has is recorded as it is: sequence, time, subject, bytes.
            let leaves = runtime.block_on(following.leaves(Leaves::All));
            let state = broker.lock().clone();
            prop_assert_eq!(leaves.len() as u64, state.last + 1);
            let mut not_before = waybill_core::Time::default();
            for entry in leaves.iter().skip(1) {
                let record = &entry.record;
                if let Some(message) = state.messages.get(&record.stream_sequence) {
                    not_before = not_before.max(message.time);
                    prop_assert_eq!(&record.bytes, &message.payload);
                    prop_assert_eq!(&record.subject, &message.subject);
                    prop_assert!(record.record_time >= message.time);
                }
            }
        }
    }

    #[test]
    fn two_ledgers_have_the_same_root_at_every_position(acts in proptest::collection::vec((0..12_u8, any::<bool>()), 1..40), batches in (1..9_usize, 1..9_usize)) {
        let (runtime, broker) = (runtime(), Fake::new());
        let (one, two) = (Bed::new(1), Bed::new(2));
        broker.lock().batch = batches.0;
        let mut first = one.follow(&runtime, &broker);
        runtime.block_on(first.reach(2));
        for (id, restart) in &acts {
            let act = if *id == 0 { Act::Poison } else { Act::Publish(*id) };
            happen(&broker, &act, false);
            if *restart && id % 3 == 0 {
                first.close(&runtime);
                first = one.follow(&runtime, &broker);
            }
        }
        broker.lock().batch = batches.1;
        let second = two.follow(&runtime, &broker);
        let size = broker.lock().last + 1;
        runtime.block_on(async {
            first.reach(size).await;
            second.reach(size).await;
            for size in 1..=size {
                prop_assert_eq!(first.root(size).await, second.root(size).await);
            }
            Ok(())
        })?;
    }
}
