//! Two ledgers on one stream: the same root at every position, and a changed record in one is noticed.
use std::collections::BTreeMap;

use waybill_fixture::nats::binaries;
use waybill_proto::pb::{Agreement, GetStatusResponse};
use waybill_tests::stream::{
    bed::{Bed, Place},
    emitters::{Crowd, connect, store},
    forgetting::hex,
    replica,
    watch::Watch,
};

use super::{said, told};

/// A ledger made from the export of another.
fn copied(bed: &Bed, from: &Place, name: &str) -> Place {
    let file = bed.beside("export");
    let file = file.to_str().unwrap();
    let exported = from.run(&[
        "export",
        file,
        "--ledger",
        from.home.data().to_str().unwrap(),
    ]);
    assert!(exported.status.success(), "{}", said(&exported));
    let place = bed.ledger(name);
    let restored = place.run(&["restore", file, place.home.data().to_str().unwrap()]);
    assert!(restored.status.success(), "{}", said(&restored));
    place
}

#[test]
fn replicas_fresh_and_restored_have_one_root_everywhere_whatever_is_killed() {
    for binary in binaries() {
        told(async {
            let bed = Bed::new(&binary);
            let first = bed.ledger("first");
            let first_server = first.serve().unwrap();
            let crowd = Crowd::start(&bed.broker.url(), &first.url(), 1, 1);
            crowd.goes_on(60).await;
            let second = bed.ledger("second");
            let third = copied(&bed, &first, "third");
            let mut servers = [Some(second.serve().unwrap()), Some(third.serve().unwrap())];
            for round in 0..6 {
                crowd.goes_on(15 + round * 7).await;
                // Wherever they are: in the middle of a frame, of catching up, or of the start.
                let (place, server) = match round % 3 {
                    0 => (&second, 0),
                    _ => (&third, 1),
                };
                drop(servers[server].take());
                servers[server] = Some(place.serve().unwrap());
            }
            let _all = crowd.finish().await;
            compare(&[&first, &second, &third]).await;
            drop((first_server, servers));
        });
    }
}

#[test]
fn what_one_replica_decides_about_a_wiped_broker_holds_for_all_that_were_as_far() {
    for binary in binaries() {
        told(async {
            let mut bed = Bed::new(&binary);
            let (first, second) = (bed.ledger("first"), bed.ledger("second"));
            let _first = first.serve().unwrap();
            let client = connect(&bed.broker.url()).await;
            let mut last = 0;
            for number in 0..80 {
                last = store(&client, 0, number).await.unwrap();
            }
            let mut watches = [Watch::of(&first.url()), Watch::of(&second.url())];
            watches[0].recorded(last).await;
            let _second = second.serve().unwrap();
            watches[1].recorded(last).await;

            bed.broker.kill();
            bed.broker.wipe();
            bed.broker.restart();
            watches[0].frozen().await;
            let (status, _) = watches[1].frozen().await;
            let root = hex(&status.root);
            let decision = ["ledger", "republish", "--yes", &root, "--why", "wiped"];
            let told = second.told(&decision);
            assert!(told.contains("80 events are published again"), "{told}");
            for watch in &mut watches {
                let epoch = |it: &GetStatusResponse| it.epoch == 2;
                watch.until("in epoch 2", epoch).await;
                watch.following().await;
            }
            // The other one may decide no more: there is nothing left to decide.
            let late = first.run(&decision);
            assert!(!late.status.success(), "{}", said(&late));
            let last = store(&client, 0, 80).await.unwrap();
            for watch in &mut watches {
                watch.recorded(last).await;
            }
            compare(&[&first, &second]).await;
        });
    }
}

#[test]
fn a_replica_that_was_behind_when_another_decided_is_made_anew_from_an_export() {
    told(async {
        let mut bed = Bed::new(&binaries()[0]);
        let (first, behind) = (bed.ledger("first"), bed.ledger("behind"));
        let _first = first.serve().unwrap();
        let server = behind.serve().unwrap();
        let client = connect(&bed.broker.url()).await;
        let mut watch = Watch::of(&first.url());
        let last = store(&client, 0, 0).await.unwrap();
        let mut late = Watch::of(&behind.url());
        late.recorded(last).await;
        drop(server);
        let last = store(&client, 0, 1).await.unwrap();
        watch.recorded(last).await;
        bed.broker.kill();
        bed.broker.wipe();
        bed.broker.restart();
        let (status, _) = watch.frozen().await;
        let root = hex(&status.root);
        let _told = first.told(&["ledger", "republish", "--yes", &root, "--why", "wiped"]);
        watch.following().await;

        let server = behind.serve().unwrap();
        let (status, stream) = late.frozen().await;
        assert!(
            stream
                .reason
                .contains("epoch 2 was opened behind position 4")
                && stream.remedy.contains("restore an export"),
            "{stream:?}"
        );
        assert_eq!(status.durable_position, 3, "it takes nothing in");
        drop(server);
        let anew = copied(&bed, &first, "anew");
        let _anew = anew.serve().unwrap();
        Watch::of(&anew.url()).following().await;
        compare(&[&first, &anew]).await;
    });
}

/// Waits until all have recorded what one has, and compares their roots at many sizes.
async fn compare(places: &[&Place]) {
    let mut watch = Watch::of(&places[0].url());
    let last = watch.status().await.unwrap().stream.unwrap();
    let mut roots = BTreeMap::new();
    for (index, place) in places.iter().enumerate() {
        let mut watch = Watch::of(&place.url());
        let status = watch.recorded(last.recorded_sequence).await;
        for size in (1..=status.durable_position).step_by(3) {
            let root = watch.root(size).await.unwrap().1;
            let known = roots.entry(size).or_insert_with(|| root.clone());
            assert_eq!(*known, root, "of size {size} in replica {index}");
        }
        let same = |it: &GetStatusResponse| {
            let peers = &it.stream.as_ref().unwrap().peers;
            // One that is gone is remembered.
            peers.len() + 1 >= places.len()
                && peers.iter().all(|it| it.agreement() == Agreement::Same)
        };
        let _same = watch.until("the same as its replicas", same).await;
        let shown = place.told(&["status", "--all"]);
        assert!(
            shown.matches("the same root").count() + 1 >= places.len(),
            "{shown}"
        );
    }
    assert!(roots.len() > 2, "{}", roots.len());
}

#[test]
fn a_record_that_was_changed_in_one_of_two_is_noticed_by_both() {
    let newest = binaries().pop().unwrap();
    for number in [0, 57, 99] {
        let outcome = told(replica::change(&newest, number)).unwrap();
        assert_eq!(
            outcome.violations,
            Vec::<String>::new(),
            "of event {number}"
        );
    }
}
