//! What a ledger does not follow, or not without being told, and what it says then.
use std::process::Output;

use serde_json::{Value, json};
use waybill_fixture::nats::binaries;
use waybill_proto::pb::StreamCondition;
use waybill_tests::stream::{
    bed::{Bed, Place, STREAM},
    emitters::{api, connect, store},
    forgetting::{config, hex},
    watch::{Watch, condition},
};

use super::{said, told};

const EVENT: &str = r#"{"source": "/here", "id": "ID", "occurTime": "2026-11-03T09:00:00Z", "deployment": {"finished": {
    "deployment": {"deploymentId": "ID", "service": "shop", "environment": "prod"}, "outcome": "OUTCOME_SUCCESS"}}}"#;

fn emit(place: &Place, id: &str) -> Output {
    let event = EVENT.replace("ID", id);
    place.run(&["emit", "--on-error", "fail", "--data", &event])
}

fn emitted(place: &Place, id: &str) {
    let output = emit(place, id);
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn local_history_goes_on_in_a_stream_and_is_for_reading_without_it() {
    let bed = Bed::new(&binaries()[0]);
    let place = bed.ledger("ledger");
    let server = place.serve_alone().unwrap();
    emitted(&place, "before");
    let (receipt, checkpoint) = (bed.beside("receipt"), bed.beside("checkpoint"));
    let file = receipt.to_str().unwrap();
    let _wrote = place.told(&["log", "receipt", "/here", "before", "-o", file]);
    std::fs::write(&checkpoint, place.told(&["log", "checkpoint"])).unwrap();
    assert_eq!(server.stop().unwrap(), Some(0));

    let verified = |place: &Place| {
        let data = place.home.data();
        for path in [data.to_str().unwrap(), file] {
            let kept = ["--checkpoint", checkpoint.to_str().unwrap()];
            let _holds = place.told(&[&["verify", path], &kept[..]].concat());
        }
    };
    told(async {
        let mut watch = Watch::of(&place.url());
        let server = place.serve().unwrap();
        let status = watch.following().await;
        assert_eq!(status.epoch, 1, "local history is epoch 0");
        emitted(&place, "behind");
        emitted(&place, "before");
        verified(&place);
        let head = watch.status().await.unwrap();
        assert_eq!(server.stop().unwrap(), Some(0));

        let alone = place.serve_alone().unwrap();
        let status = watch.status().await.unwrap();
        assert_eq!(status.root, head.root, "what is recorded stays");
        let refused = emit(&place, "later");
        assert!(
            !refused.status.success() && said(&refused).contains("--nats"),
            "{}",
            said(&refused)
        );
        let log = place.told(&["log"]);
        assert!(
            log.contains("shop/before") && log.contains("shop/behind"),
            "{log}"
        );
        drop(alone);

        let server = place.serve().unwrap();
        watch.following().await;
        emitted(&place, "later");
        assert_eq!(server.stop().unwrap(), Some(0));
    });
    verified(&place);
}

#[test]
fn another_ledgers_stream_is_refused_with_both_names() {
    told(async {
        let bed = Bed::new(&binaries()[0]);
        let (owner, stranger) = (bed.ledger("owner"), bed.ledger("stranger"));
        let alone = owner.serve_alone().unwrap();
        emitted(&owner, "1");
        drop(alone);
        let server = owner.serve().unwrap();
        let owners = Watch::of(&owner.url()).following().await.ledger_id;

        let alone = stranger.serve_alone().unwrap();
        emitted(&stranger, "1");
        drop(alone);
        let other = stranger.serve().unwrap();
        let (status, stream) = Watch::of(&stranger.url()).frozen().await;
        for text in [owners.as_str(), &status.ledger_id] {
            assert!(stream.reason.contains(text), "{text}: {stream:?}");
        }
        assert!(stream.remedy.contains("--stream"), "{stream:?}");

        // One without a history cannot join what begins with a history that it does not have.
        let fresh = bed.ledger("fresh").serve().unwrap_err().to_string();
        assert!(
            fresh.contains(&owners) && fresh.contains("waybill restore"),
            "{fresh}"
        );
        drop((server, other));
    });
}

#[test]
fn a_stream_that_forgets_by_itself_is_refused_with_field_value_need_and_command() {
    for binary in binaries() {
        told(async {
            let bed = Bed::new(&binary);
            let client = connect(&bed.broker.url()).await;
            let hour = 3_600_000_000_000_u64;
            let forgets = config(json!({"max_age": hour}));
            api(&client, &format!("STREAM.CREATE.{STREAM}"), &forgets)
                .await
                .unwrap();
            let place = bed.ledger("ledger");
            let refused = place.serve().unwrap_err().to_string();
            for text in [
                "max_age",
                &hour.to_string(),
                "needed is 0",
                "nats stream edit WAYBILL_EVENTS --max-age=0",
            ] {
                assert!(refused.contains(text), "{text}: {refused}");
            }
            let mended = config(json!({}));
            api(&client, &format!("STREAM.UPDATE.{STREAM}"), &mended)
                .await
                .unwrap();
            let _server = place.serve().unwrap();
            Watch::of(&place.url()).following().await;
        });
    }
}

#[test]
fn poison_and_conflicts_are_leaves_that_are_listed_and_stop_nothing() {
    use waybill_tests::stream::emitters::put;
    told(async {
        let bed = Bed::new(&binaries()[0]);
        let place = bed.ledger("ledger");
        let _server = place.serve().unwrap();
        let client = connect(&bed.broker.url()).await;
        let subject = "waybill.events.v1._._2fhere.deployment.finished.shop";
        let say = async |subject: &str, body: String| {
            let put = put(&client, subject.to_owned(), "application/json", body.into()).await;
            put.unwrap()
        };
        say(subject, EVENT.replace("ID", "1")).await;
        say(subject, "{".to_owned()).await;
        say(subject, EVENT.replace("ID", "1").replace("prod", "test")).await;
        let lies = "waybill.events.v1._._2fthere.deployment.finished.shop";
        say(lies, EVENT.replace("ID", "2")).await;
        let last = say(subject, EVENT.replace("ID", "3")).await;
        let status = Watch::of(&place.url()).recorded(last).await;
        assert_eq!(condition(&status), StreamCondition::Following);
        let log = place.told(&["log"]);
        assert!(log.contains("shop/1") && log.contains("shop/3"), "{log}");
        let refused: Value =
            serde_json::from_str(&place.told(&["log", "--refused", "--json"])).unwrap();
        assert_eq!(
            refused.to_string().matches("\"position\"").count(),
            3,
            "{refused}"
        );
    });
}

#[test]
fn a_broker_that_is_away_at_the_start_is_waited_for_while_reads_are_served() {
    told(async {
        let mut bed = Bed::new(&binaries()[0]);
        let place = bed.ledger("ledger");
        let mut watch = Watch::of(&place.url());
        let server = place.serve().unwrap();
        watch.following().await;
        emitted(&place, "1");
        let root = hex(&watch.status().await.unwrap().root);
        drop(server);
        bed.broker.kill();

        let _server = place.serve().unwrap();
        let status = watch.status().await.unwrap();
        assert_eq!(condition(&status), StreamCondition::Away, "{status:?}");
        let shown = place.told(&["status"]);
        assert!(shown.contains("AWAY") && shown.contains(&root), "{shown}");
        let log = place.told(&["log"]);
        assert!(log.contains("shop/1"), "{log}");
        let refused = emit(&place, "2");
        assert!(!refused.status.success(), "{}", said(&refused));
        bed.broker.restart();
        watch.following().await;
        let client = connect(&bed.broker.url()).await;
        let last = store(&client, 0, 1).await.unwrap();
        watch.recorded(last).await;
        emitted(&place, "2");
    });
}
