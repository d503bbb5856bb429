//! What comes in, and what becomes of it (LEDGER Q2, Q3).
use waybill_core::Code;
use waybill_ledger::{Filter, Key, Leaves, Verdict, stream::Headers, verify};

use crate::{
    fake::Fake,
    kit::{Bed, commit, commit_json, identity, publish, runtime, subject_of},
};

#[test]
fn a_new_ledger_takes_what_was_published_before_it_and_after() {
    let (runtime, broker, bed) = (runtime(), Fake::new(), Bed::new(1));
    publish(&broker, "before", "one");
    let following = bed.follow(&runtime, &broker);
    publish(&broker, "after", "two");
    runtime.block_on(async {
        // The epoch's leaf, what was there, the message that opened the epoch, what came.
        following.reach(4).await;
        let kinds: Vec<String> = following
            .leaves(Leaves::All)
            .await
            .iter()
            .map(|entry| format!("{} {}", entry.record.stream_sequence, entry.record.kind))
            .collect();
        assert_eq!(
            kinds,
            [
                "0 ledger.epoch_opened",
                "1 commit.recorded",
                "2 ledger.epoch_opened",
                "3 commit.recorded"
            ]
        );
        let receipt = following.ledger.receipt(&identity("after")).await.unwrap();
        assert_eq!((receipt.position, receipt.salt), (4, None));
    });
    let root = runtime.block_on(following.root(4));
    following.close(&runtime);
    let again = bed.follow(&runtime, &broker);
    publish(&broker, "later", "three");
    runtime.block_on(async {
        again.reach(5).await;
        assert_eq!(again.root(4).await, root);
    });
    again.close(&runtime);
    let report = verify::directory(&bed.root.join("data"), &[], &mut |_| {}).unwrap();
    assert_eq!(report.position, 5);
}

#[test]
fn emits_come_back_with_receipts_of_this_ledger() {
    let (runtime, broker, bed) = (runtime(), Fake::new(), Bed::new(1));
    let following = bed.follow(&runtime, &broker);
    runtime.block_on(async {
        following.reach(2).await;
        let emitted = following
            .emit(&[commit("a", "x"), commit("b", "y")])
            .await
            .unwrap();
        let receipts: Vec<_> = emitted.into_iter().map(Result::unwrap).collect();
        assert_eq!(
            receipts.iter().map(|it| it.position).collect::<Vec<_>>(),
            [3, 4]
        );
        assert!(receipts.iter().all(|it| it.salt.is_some() && !it.duplicate));
        // Again, and the same from a service: a repeat, each in its own way.
        let again = following
            .emit(&[commit("a", "x")])
            .await
            .unwrap()
            .remove(0)
            .unwrap();
        assert!(again.duplicate);
        assert_eq!(
            (again.position, again.leaf_hash),
            (3, receipts[0].leaf_hash)
        );
        publish(&broker, "a", "x");
        following.reach(5).await;
        assert_eq!(following.entry(5).await.record.verdict, Verdict::Duplicate);
        // Other content: the first conflict is a leaf, later ones are counted.
        for _ in 0..2 {
            let refused = following
                .emit(&[commit("a", "other")])
                .await
                .unwrap()
                .remove(0)
                .unwrap_err();
            assert_eq!(refused.refusal.code, Code::Conflict);
            assert_eq!(refused.recorded.unwrap(), (identity("a"), 3));
        }
        following.reach(6).await;
        assert_eq!(following.ledger.status().heads.durable, 6);
        assert_eq!(following.entry(6).await.record.verdict, Verdict::Conflict);
        let proven = following.ledger.prove(&identity("b"), 0).await.unwrap();
        assert!(proven.subject.starts_with("waybill.gate.v1."));
    });
}

#[test]
fn what_is_no_event_is_a_leaf_and_blocks_nothing() {
    let (runtime, broker, bed) = (runtime(), Fake::new(), Bed::new(1));
    let following = bed.follow(&runtime, &broker);
    let event = commit("a", "x");
    let subject = subject_of(&event);
    let json = commit_json("j", "in JSON");
    broker.put(&subject, &[], b"\xff\xff no event");
    broker.put(&subject, &[("content-type", "text/plain")], b"words");
    broker.put(
        &subject,
        &[("Content-Type", "application/json")],
        b"{\"source\": 7}",
    );
    broker.store(
        &subject,
        Headers::Unreadable("no colon".to_owned()),
        &crate::kit::bytes(&event),
    );
    broker.put(
        "waybill.events.v1._.other.commit.recorded._",
        &[],
        &crate::kit::bytes(&event),
    );
    broker.put("waybill.events.v1.short", &[], &crate::kit::bytes(&event));
    let subject_j = subject_of(&commit("j", "in JSON"));
    broker.put(
        &subject_j,
        &[("Content-Type", "application/json")],
        json.as_bytes(),
    );
    broker.put(&subject, &[], &crate::kit::bytes(&event));
    runtime.block_on(async {
        following.reach(10).await;
        let verdicts: Vec<Verdict> = following
            .leaves(Leaves::All)
            .await
            .iter()
            .skip(2)
            .map(|entry| entry.record.verdict)
            .collect();
        use Verdict::{Admitted, Refused, Undecodable};
        assert_eq!(
            verdicts,
            [
                Undecodable,
                Undecodable,
                Undecodable,
                Undecodable,
                Refused,
                Refused,
                Admitted,
                Admitted
            ]
        );
        let refused = following.leaves(Leaves::Refused).await;
        assert_eq!(refused.len(), 6);
        for entry in &refused {
            let refusal = entry.refusal.as_ref().unwrap();
            assert!(!refusal.rule.is_empty(), "{refusal}");
        }
        assert_eq!(
            refused[4].refusal.as_ref().unwrap().code,
            Code::Contradiction
        );
        assert_eq!(following.ledger.status().refused_leaf_count, 6);
        // Lists of facts hold facts.
        let facts = following
            .ledger
            .list(&Filter::default(), 100, None, 0)
            .await
            .unwrap();
        assert_eq!(facts.entries.len(), 4);
        // The event of a message in JSON is the event, its bytes are the message.
        let entry = following
            .ledger
            .entry(&Key::Identity(identity("j")))
            .await
            .unwrap();
        assert_eq!(&*entry.record.bytes, json.as_bytes());
        assert_eq!(
            entry.event.unwrap(),
            crate::kit::bytes(&commit("j", "in JSON"))
        );
    });
    // The same after a start that has only the journal.
    following.close(&runtime);
    std::fs::remove_dir_all(bed.root.join("data/sled")).unwrap();
    let again = bed.follow(&runtime, &broker);
    runtime.block_on(async {
        again.reach(10).await;
        assert_eq!(again.leaves(Leaves::Refused).await.len(), 6);
        assert_eq!(again.ledger.status().refused_leaf_count, 6);
    });
}

#[test]
fn a_conflict_and_a_witness_within_one_second_are_both_found() {
    let (runtime, broker, bed) = (runtime(), Fake::new(), Bed::new(1));
    let following = bed.follow(&runtime, &broker);
    publish(&broker, "a", "one");
    publish(&broker, "a", "two");
    let mut witness = commit("a", "one");
    witness.source = "//webhook".to_owned();
    broker.put(&subject_of(&witness), &[], &crate::kit::bytes(&witness));
    runtime.block_on(async {
        following.reach(5).await;
        assert_eq!(following.entry(4).await.record.verdict, Verdict::Conflict);
        let (first, second) = (following.entry(3).await, following.entry(5).await);
        assert_eq!(second.record.verdict, Verdict::Admitted);
        assert_eq!(first.natural_key, second.natural_key);
        assert_eq!(following.ledger.status().conflict_count, 1);
    });
}

#[test]
fn what_only_the_ledger_says_is_believed_on_the_gate_only() {
    let (runtime, broker, bed) = (runtime(), Fake::new(), Bed::new(1));
    let following = bed.follow(&runtime, &broker);
    runtime.block_on(following.reach(2));
    let opener = broker.lock().messages[&1].clone();
    // A service that repeats the ledger's own words, at the door for services.
    let subject = opener.subject.replace("waybill.gate", "waybill.events");
    broker.store(&subject, opener.headers.clone(), &opener.payload);
    runtime.block_on(async {
        following.reach(3).await;
        let entry = following.entry(3).await;
        assert_eq!(entry.record.verdict, Verdict::Refused);
        assert_eq!(entry.refusal.unwrap().code, Code::NotAllowed);
    });
}

#[test]
fn a_ledger_of_its_own_moves_to_a_stream_and_keeps_its_history() {
    let (runtime, broker, bed) = (runtime(), Fake::new(), Bed::new(1));
    let local = bed.local();
    let events = vec![crate::kit::bytes(&commit("a", "x"))];
    let sender = waybill_ledger::Sender::unverified();
    let emitted = runtime
        .block_on(local.emit(events, &sender))
        .unwrap()
        .remove(0)
        .unwrap();
    runtime
        .block_on(local.wait_applied(&waybill_ledger::AtLeast {
            ledger_id: String::new(),
            position: 2,
        }))
        .unwrap();
    let old = runtime.block_on(local.checkpoint(2)).unwrap();
    local.close().unwrap();
    drop(local);
    publish(&broker, "b", "y");
    let following = bed.follow(&runtime, &broker);
    runtime.block_on(async {
        following.reach(5).await;
        assert_eq!(following.root(2).await, old.root);
        let receipt = following.ledger.receipt(&identity("a")).await.unwrap();
        assert_eq!(
            (receipt.position, receipt.leaf_hash),
            (2, emitted.leaf_hash)
        );
        let grown = following.ledger.consistency(2, 5).await.unwrap();
        assert_eq!(grown.old_root, old.root);
        let again = following
            .emit(&[commit("a", "x")])
            .await
            .unwrap()
            .remove(0)
            .unwrap();
        assert!(again.duplicate);
        assert_eq!(again.position, 2);
        assert_eq!(following.ledger.status().epoch, 1);
    });
    following.close(&runtime);
    // Without the stream it is for reading.
    let local = bed.local();
    let why = runtime
        .block_on(local.emit(vec![crate::kit::bytes(&commit("c", "z"))], &sender))
        .unwrap_err();
    assert!(why.to_string().contains("--nats"), "{why}");
    assert!(runtime.block_on(local.receipt(&identity("b"))).is_ok());
}

#[test]
fn a_stream_that_belongs_to_another_ledger_is_left_alone() {
    let (runtime, broker) = (runtime(), Fake::new());
    let (first, second) = (Bed::new(1), Bed::new(2));
    let following = first.follow(&runtime, &broker);
    runtime.block_on(following.reach(2));
    let local = second.local();
    local.close().unwrap();
    drop(local);
    let other = second.follow(&runtime, &broker);
    let freeze = runtime.block_on(other.frozen());
    assert_eq!(freeze.kind, waybill_ledger::stream::FreezeKind::Foreign);
    assert!(
        freeze.reason.contains(following.ledger.ledger_id()),
        "{}",
        freeze.reason
    );
    assert_eq!(broker.lock().last, 1);
}

#[test]
fn a_message_id_that_somebody_guessed_does_not_keep_an_event_out() {
    let (runtime, broker, bed) = (runtime(), Fake::new(), Bed::new(1));
    let following = bed.follow(&runtime, &broker);
    runtime.block_on(following.reach(2));
    let event = commit("a", "x");
    let parsed = waybill_proto::parse::parse(&crate::kit::bytes(&event)).unwrap();
    let digest = waybill_proto::canonical::content_digest(&crate::kit::bytes(&event), 1).unwrap();
    let id = waybill_proto::message::message_id(&parsed, &digest);
    runtime.block_on(async {
        let guessed = waybill_ledger::stream::Outgoing {
            subject: subject_of(&event),
            headers: vec![("Nats-Msg-Id".to_owned(), id)],
            payload: b"nothing".as_slice().into(),
        };
        waybill_ledger::stream::Broker::publish(&broker, guessed)
            .await
            .unwrap();
        let emitted = following.emit(&[event]).await.unwrap().remove(0).unwrap();
        assert_eq!((emitted.position, emitted.duplicate), (4, false));
    });
}

#[test]
fn many_large_messages_that_come_at_once_are_recorded_in_parts() {
    let (runtime, broker, bed) = (runtime(), Fake::new(), Bed::new(1));
    let following = bed.follow(&runtime, &broker);
    runtime.block_on(following.reach(2));
    let subject = subject_of(&commit("a", "x"));
    broker.lock().batch = 64;
    broker.change(false, |state| {
        for _ in 0..32 {
            state.put(
                subject.clone(),
                Headers::Read(Vec::new()),
                vec![0xff; 1 << 20],
            );
        }
    });
    publish(&broker, "a", "x");
    runtime.block_on(async {
        following.reach(35).await;
        assert_eq!(following.leaves(Leaves::Refused).await.len(), 32);
    });
}

#[test]
fn messages_from_before_the_ledger_began_keep_their_times() {
    let (runtime, broker, bed) = (runtime(), Fake::new(), Bed::new(1));
    broker.lock().clock -= 86_400_000_000_000;
    publish(&broker, "yesterday", "x");
    broker.lock().clock += 86_400_000_000_000;
    let following = bed.follow(&runtime, &broker);
    runtime.block_on(async {
        following.reach(3).await;
        let message = broker.lock().messages[&1].clone();
        assert_eq!(following.entry(2).await.record.record_time, message.time);
        assert_eq!(following.ledger.status().stream.unwrap().clamped_count, 0);
    });
}

#[test]
fn what_is_too_large_to_be_an_event_is_listed_without_one() {
    let (runtime, broker, bed) = (runtime(), Fake::new(), Bed::new(1));
    let following = bed.follow(&runtime, &broker);
    runtime.block_on(following.reach(2));
    broker.put(&subject_of(&commit("a", "x")), &[], &vec![b'a'; 300_000]);
    runtime.block_on(async {
        following.reach(3).await;
        let refused = following.leaves(Leaves::Refused).await.remove(0);
        assert_eq!(refused.event, None);
        assert_eq!(refused.refusal.unwrap().code, Code::TooLarge);
    });
}

#[test]
fn an_epoch_that_begins_behind_a_root_that_was_never_this_ledgers_is_nobodys() {
    let (runtime, broker, bed) = (runtime(), Fake::new(), Bed::new(1));
    let following = bed.follow(&runtime, &broker);
    runtime.block_on(following.reach(2));
    publish(&broker, "a", "x");
    runtime.block_on(following.reach(3));
    let opener = broker.lock().messages[&1].clone();
    let mut event: waybill_proto::pb::Event = prost::Message::decode(&*opener.payload).unwrap();
    use waybill_proto::pb::{event::Payload, ledger_event};
    if let Some(Payload::Ledger(ledger)) = &mut event.payload
        && let Some(ledger_event::Event::EpochOpened(opened)) = &mut ledger.event
    {
        (opened.epoch, opened.last_position, opened.last_root) = (2, 3, vec![0; 32].into());
    }
    event.id = "epoch_opened:2".to_owned();
    publish(&broker, "b", "x");
    broker.store(&opener.subject, opener.headers, &crate::kit::bytes(&event));
    publish(&broker, "c", "x");
    runtime.block_on(async {
        following.reach(6).await;
        assert!(following.ledger.receipt(&identity("c")).await.is_ok());
        following.compared().await;
        assert_eq!(
            following.condition(),
            waybill_ledger::stream::Condition::Following
        );
    });
}
