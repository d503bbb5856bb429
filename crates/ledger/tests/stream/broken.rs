//! A broker that forgets, and what is decided then (LEDGER Q4 to Q6).
use waybill_core::Code;
use waybill_ledger::{
    Leaves, Rejection, Verdict,
    stream::{Condition, Decision, DecisionFailure, FreezeKind},
};

use crate::{
    fake::{Fake, State},
    kit::{Bed, Following, commit, identity, publish, runtime},
};

fn decision(root: [u8; 32]) -> Decision {
    Decision {
        head_root: root.to_vec(),
        who: "hmac-sha256:5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e"
            .to_owned(),
        why: "the disk of the broker was replaced".to_owned(),
        sender: "operator".to_owned(),
    }
}

/// A ledger that has recorded ten commits, and the stream that it follows.
fn ten(runtime: &tokio::runtime::Runtime, bed: &Bed, broker: &Fake) -> Following {
    let following = bed.follow(runtime, broker);
    runtime.block_on(following.reach(2));
    for number in 0..10 {
        publish(broker, &format!("c{number}"), "x");
    }
    runtime.block_on(following.reach(12));
    following
}

/// Breaks a stream that a ledger has recorded, and gives what it froze for.
fn broken(
    noticed: bool,
    change: impl FnOnce(&mut State),
) -> (FreezeKind, Option<[u8; 32]>, Option<[u8; 32]>) {
    let (runtime, broker, bed) = (runtime(), Fake::new(), Bed::new(1));
    let following = ten(&runtime, &bed, &broker);
    broker.change(noticed, change);
    runtime.block_on(async {
        let freeze = following.frozen().await;
        let status = following.ledger.status();
        let found = status
            .findings
            .iter()
            .find(|finding| finding.code == "stream_frozen")
            .unwrap();
        assert!(found.text == freeze.reason && !found.remedy.is_empty());
        // Reads go on, emits are refused and may come again.
        assert!(following.ledger.receipt(&identity("c3")).await.is_ok());
        let rejection = following.emit(&[commit("new", "x")]).await.unwrap_err();
        assert!(matches!(
            rejection,
            Rejection::NotWriting {
                may_recover: true,
                ..
            }
        ));
        assert_eq!(status.heads.durable, 12);
        (freeze.kind, freeze.ledger_leaf, freeze.broker_leaf)
    })
}

#[test]
fn every_way_to_forget_is_noticed_with_and_without_a_broken_connection() {
    for noticed in [true, false] {
        let (kind, ours, theirs) = broken(noticed, |state| state.roll_back(7));
        assert_eq!((kind, theirs), (FreezeKind::LostTail, None));
        assert!(ours.is_some());
        // Rolled back, and grown again to another history of the same length.
        let (kind, ours, theirs) = broken(noticed, |state| {
            state.roll_back(7);
            for _ in 0..4 {
                state.put(
                    "waybill.events.v1.a.b.c.d.e".to_owned(),
                    waybill_ledger::stream::Headers::Read(Vec::new()),
                    Vec::new(),
                );
            }
        });
        assert_eq!(kind, FreezeKind::Differs);
        assert!(ours.is_some() && theirs.is_some() && ours != theirs);
        // Wiped.
        assert_eq!(
            broken(noticed, |state| state.roll_back(0)).0,
            FreezeKind::LostTail
        );
        // Made anew with the same messages: only the times differ.
        let (kind, ours, theirs) = broken(noticed, |state| {
            for message in state.messages.values_mut() {
                message.time = message.time.plus_nanos(1_000_000_000);
            }
        });
        assert_eq!(kind, FreezeKind::Differs);
        assert_ne!(ours, theirs);
        // Purged up to what is recorded: nothing is lost, and nothing can be compared.
        assert_eq!(
            broken(noticed, |state| state.purge(11)).0,
            FreezeKind::Gap(12, 11)
        );
        // Purged beyond it.
        assert_eq!(
            broken(noticed, |state| state.purge(20)).0,
            FreezeKind::Gap(12, 20)
        );
    }
}

#[test]
fn one_message_that_was_deleted_before_it_was_read_is_a_gap() {
    let (runtime, broker, bed) = (runtime(), Fake::new(), Bed::new(1));
    let following = ten(&runtime, &bed, &broker);
    broker.away(true);
    runtime.block_on(following.until(|it| matches!(it, Condition::Away(_))));
    for number in 10..14 {
        publish(&broker, &format!("c{number}"), "x");
    }
    broker.lock().messages.remove(&13);
    broker.away(false);
    let freeze = runtime.block_on(following.frozen());
    assert_eq!(freeze.kind, FreezeKind::Gap(13, 13));
    runtime.block_on(async {
        let root = following.root(13).await;
        let refused = following
            .ledger
            .republish(&decision(root))
            .await
            .unwrap_err();
        assert!(format!("{refused:?}").contains("accept-gap"), "{refused:?}");
        let decided = following.ledger.accept_gap(&decision(root)).await.unwrap();
        assert_eq!(
            (decided.epoch, decided.first_sequence, decided.gap),
            (2, 14, Some((13, 13)))
        );
        // The epoch's leaf, the two messages behind the gap, the message that opened the epoch.
        following.reach(17).await;
        assert_eq!(following.root(13).await, root);
        assert!(following.ledger.receipt(&identity("c13")).await.is_ok());
    });
}

#[test]
fn what_the_broker_lost_is_put_back_and_nothing_doubles() {
    let (runtime, broker, bed) = (runtime(), Fake::new(), Bed::new(1));
    let following = ten(&runtime, &bed, &broker);
    let old = runtime.block_on(following.root(12));
    broker.change(true, |state| state.roll_back(7));
    runtime.block_on(async {
        following.frozen().await;
        let wrong = following.ledger.republish(&decision([7; 32])).await.unwrap_err();
        assert!(matches!(&wrong, DecisionFailure::Refused(refusal) if refusal.field == "decision.head_root"), "{wrong}");
        let silent = Decision { why: " ".to_owned(), ..decision(old) };
        let silent = following.ledger.republish(&silent).await.unwrap_err();
        assert!(matches!(silent, DecisionFailure::Refused(refusal) if refusal.code == Code::Missing));
        let decided = following.ledger.republish(&decision(old)).await.unwrap();
        assert_eq!((decided.epoch, decided.first_sequence, decided.republished_count), (2, 8, 4));
        // The epoch's leaf, four repeats, the message that opened it.
        following.reach(18).await;
        following.until(|it| *it == Condition::Following).await;
        assert_eq!(following.root(12).await, old);
        let all = following.leaves(Leaves::All).await;
        let repeats = all.iter().filter(|it| it.record.verdict == Verdict::Duplicate);
        assert_eq!(repeats.count(), 4);
        assert_eq!(following.leaves(Leaves::Facts).await.len(), 14);
        let opened = following.entry(18).await;
        let event: waybill_proto::pb::Event = prost::Message::decode(opened.event.unwrap()).unwrap();
        assert!(format!("{event:?}").contains("the disk of the broker was replaced"));
        // Nothing is left to decide.
        assert!(following.ledger.republish(&decision(old)).await.is_err());
        let emitted = following.emit(&[commit("after", "x")]).await.unwrap().remove(0).unwrap();
        assert_eq!(emitted.position, 19);
    });
    // Everything stands after a start.
    following.close(&runtime);
    let again = bed.follow(&runtime, &broker);
    runtime.block_on(async {
        again.reach(19).await;
        again.until(|it| *it == Condition::Following).await;
        assert_eq!(again.root(12).await, old);
    });
}

#[test]
fn a_wiped_broker_gets_everything_back_or_goes_on_empty() {
    for republish in [true, false] {
        let (runtime, broker, bed) = (runtime(), Fake::new(), Bed::new(1));
        let following = ten(&runtime, &bed, &broker);
        broker.change(true, |state| state.roll_back(0));
        runtime.block_on(async {
            following.frozen().await;
            let root = following.root(12).await;
            let decided = match republish {
                true => following.ledger.republish(&decision(root)).await.unwrap(),
                false => following
                    .ledger
                    .accept_epoch(&decision(root))
                    .await
                    .unwrap(),
            };
            assert_eq!((decided.epoch, decided.first_sequence), (2, 1));
            assert_eq!(decided.republished_count, if republish { 10 } else { 0 });
            following.reach(if republish { 24 } else { 14 }).await;
            assert_eq!(following.root(12).await, root);
            publish(&broker, "after", "x");
            following.reach(if republish { 25 } else { 15 }).await;
            assert_eq!(following.leaves(Leaves::Facts).await.len(), 15);
        });
    }
}

#[test]
fn two_ledgers_follow_one_decision_and_one_that_is_ahead_does_not() {
    let (runtime, broker) = (runtime(), Fake::new());
    let beds = [Bed::new(1), Bed::new(2), Bed::new(3)];
    let first = ten(&runtime, &beds[0], &broker);
    let second = beds[1].follow(&runtime, &broker);
    runtime.block_on(second.reach(12));
    // The third has one more than the others when the broker rolls back.
    let third = beds[2].follow(&runtime, &broker);
    runtime.block_on(third.reach(12));
    first.close(&runtime);
    second.close(&runtime);
    publish(&broker, "only the third", "x");
    runtime.block_on(third.reach(13));
    broker.change(true, |state| state.roll_back(5));
    let first = beds[0].follow(&runtime, &broker);
    let second = beds[1].follow(&runtime, &broker);
    runtime.block_on(async {
        for following in [&first, &second, &third] {
            assert_eq!(following.frozen().await.kind, FreezeKind::LostTail);
        }
        let root = first.root(12).await;
        first.ledger.republish(&decision(root)).await.unwrap();
        first.reach(20).await;
        second.reach(20).await;
        assert_eq!(first.root(20).await, second.root(20).await);
        let ahead = |it: &Condition| matches!(it, Condition::Frozen(freeze) if freeze.kind == FreezeKind::Ahead);
        third.until(ahead).await;
        assert_eq!(third.ledger.status().heads.durable, 13);
    });
    // One that comes new cannot have the history behind the epoch.
    let late = Bed::new(4);
    let refused = runtime.block_on(waybill_ledger::stream::join(&broker, "s", &late.host()));
    drop(refused);
}

#[test]
fn a_broker_that_is_away_is_waited_for() {
    let (runtime, broker, bed) = (runtime(), Fake::new(), Bed::new(1));
    let following = ten(&runtime, &bed, &broker);
    following.close(&runtime);
    broker.away(true);
    let following = bed.follow(&runtime, &broker);
    runtime.block_on(async {
        following.until(|it| matches!(it, Condition::Away(_))).await;
        assert!(following.ledger.receipt(&identity("c3")).await.is_ok());
        let rejection = following.emit(&[commit("new", "x")]).await.unwrap_err();
        assert!(rejection.to_string().contains("away"), "{rejection}");
        broker.away(false);
        following.until(|it| *it == Condition::Following).await;
        following
            .emit(&[commit("new", "x")])
            .await
            .unwrap()
            .remove(0)
            .unwrap();
    });
}

#[test]
fn repeats_are_dropped_and_counted_and_a_feed_that_skips_is_begun_again() {
    let (runtime, broker, bed) = (runtime(), Fake::new(), Bed::new(1));
    let following = ten(&runtime, &bed, &broker);
    broker.lock().repeats = 5;
    publish(&broker, "c10", "x");
    broker.lock().skipped.insert(14);
    publish(&broker, "c11", "x");
    publish(&broker, "c12", "x");
    publish(&broker, "c13", "x");
    runtime.block_on(async {
        following.reach(16).await;
        following.until(|it| *it == Condition::Following).await;
    });
    assert!(following.ledger.status().stream.unwrap().redelivered_count >= 4);
    assert!(broker.lock().acknowledged >= 12);
}

#[test]
fn a_clock_that_goes_back_is_clamped_and_told() {
    let (runtime, broker, bed) = (runtime(), Fake::new(), Bed::new(1));
    let following = ten(&runtime, &bed, &broker);
    broker.lock().clock -= 3_600_000_000_000;
    publish(&broker, "c10", "x");
    publish(&broker, "c11", "x");
    runtime.block_on(async {
        following.reach(14).await;
        let times = (
            following.entry(12).await.record.record_time,
            following.entry(14).await.record.record_time,
        );
        assert_eq!(times.0, times.1);
        let status = following.ledger.status();
        assert_eq!(status.stream.unwrap().clamped_count, 2);
        assert!(
            status
                .findings
                .iter()
                .any(|finding| finding.code == "stream_clock")
        );
        // The comparison knows of it.
        broker.change(true, |_| {});
        publish(&broker, "c12", "x");
        following.reach(15).await;
    });
}

#[test]
fn a_record_that_was_changed_in_one_of_two_replicas_is_noticed_by_both() {
    let (runtime, broker, changed) = (runtime(), Fake::new(), Fake::new());
    let beds = [Bed::new(1), Bed::new(2)];
    let first = ten(&runtime, &beds[0], &broker);
    // The second has read another fifth message; all that follow are the same.
    let state = broker.lock().clone();
    changed.change(true, |other| {
        *other = state;
        let fifth = other.messages.get_mut(&5).unwrap();
        fifth.payload = crate::kit::bytes(&commit("c3", "changed"));
    });
    let second = beds[1].follow(&runtime, &changed);
    runtime.block_on(second.reach(12));
    second.close(&runtime);
    let second = beds[1].follow(&runtime, &broker);
    runtime.block_on(async {
        for following in [&first, &second] {
            let freeze = following.frozen().await;
            assert_eq!(freeze.kind, FreezeKind::PeerDiffers, "{}", freeze.reason);
            let peers = following.ledger.status().stream.unwrap().peers;
            assert_eq!(peers[0].same, Some(false));
        }
        // Nothing that was recorded is touched, and nothing more comes in.
        publish(&broker, "later", "x");
        let refused = first.emit(&[commit("new", "x")]).await.unwrap_err();
        assert!(refused.to_string().contains("replica"), "{refused}");
        assert_eq!(first.ledger.status().heads.durable, 12);
    });
}

#[test]
fn replicas_that_agree_say_so() {
    let (runtime, broker) = (runtime(), Fake::new());
    let beds = [Bed::new(1), Bed::new(2)];
    let first = ten(&runtime, &beds[0], &broker);
    let second = beds[1].follow(&runtime, &broker);
    runtime.block_on(async {
        second.reach(12).await;
        for (following, other) in [(&first, &second), (&second, &first)] {
            loop {
                following.compared().await;
                let peers = following.ledger.status().stream.unwrap().peers;
                let said = peers
                    .iter()
                    .find(|peer| peer.instance_id == other.ledger.instance_id());
                if said.is_some_and(|peer| peer.position == 12 && peer.same == Some(true)) {
                    break;
                }
            }
        }
    });
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

#[test]
fn an_older_copy_of_the_directory_is_brought_up_from_the_stream_and_compared_with_the_head() {
    for changed in [false, true] {
        let (runtime, broker, bed) = (runtime(), Fake::new(), Bed::new(1));
        let (data, older) = (bed.root.join("data"), bed.root.join("older"));
        ten(&runtime, &bed, &broker).close(&runtime);
        copy(&data, &older);
        let following = bed.follow(&runtime, &broker);
        for number in 10..20 {
            publish(&broker, &format!("c{number}"), "x");
        }
        runtime.block_on(following.reach(22));
        let root = runtime.block_on(following.root(22));
        following.close(&runtime);
        std::fs::remove_dir_all(&data).unwrap();
        std::fs::rename(&older, &data).unwrap();
        if changed {
            let event = commit("c15", "other words");
            let payload = crate::kit::bytes(&event);
            broker.change(true, |state| {
                state.messages.get_mut(&17).unwrap().payload = payload
            });
        }
        let following = bed.follow(&runtime, &broker);
        let findings = following.ledger.status().findings;
        assert!(findings.iter().any(|it| it.code == "journal_behind_head"));
        runtime.block_on(async {
            if changed {
                let freeze = following.frozen().await;
                assert_eq!(freeze.kind, FreezeKind::Inconsistent, "{}", freeze.reason);
            } else {
                following.reach(22).await;
                assert_eq!(following.root(22).await, root);
            }
        });
        following.close(&runtime);
        // What the head file knew is kept until it is reached.
        let again = bed.follow(&runtime, &broker);
        let behind = again
            .ledger
            .status()
            .findings
            .iter()
            .any(|it| it.code == "journal_behind_head");
        assert_eq!(behind, changed);
        again.close(&runtime);
    }
}
