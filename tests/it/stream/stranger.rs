//! The way of somebody who has the README, a broker and Python: publish, ask, wipe the broker's disk, be told, do what is said.
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use waybill_fixture::nats::binaries;
use waybill_proto::pb::StreamCondition;
use waybill_tests::stream::{
    bed::{Bed, Place},
    forgetting::{commands, hex},
    watch::{Watch, condition},
};

use super::{said, told};
use crate::emitters::{example, python};

const SOURCE: &str = "//ci.acme.dev/checkout";
const BY_CALL: &str = r#"{"source": "//ci.acme.dev/checkout", "id": "called-1", "occurTime": "2026-11-03T09:00:00Z",
    "deployment": {"finished": {"deployment": {"deploymentId": "called-1", "service": "checkout", "environment": "production"},
    "outcome": "OUTCOME_SUCCESS"}}}"#;

/// Publishes a deployment's two events by the example, and waits for their receipts.
fn publish(python: &str, bed: &Bed, ledger: &Place, run: &str) -> Output {
    Command::new(python)
        .arg(example("emit.py"))
        .args(["--nats", &bed.broker.url(), "--ledger", &ledger.url()])
        .args(["--source", SOURCE, "--run", run, "--service", "checkout"])
        .args(["--environment", "production", "--wait", "20", "--outbox"])
        .arg(bed.beside("outbox"))
        .output()
        .unwrap()
}

/// What was shown and kept before the disk was lost.
struct Kept {
    receipt: PathBuf,
    checkpoint: PathBuf,
    key: String,
}

impl Kept {
    fn take(bed: &Bed, ledger: &Place, id: &str) -> Self {
        let (receipt, checkpoint) = (bed.beside("receipt"), bed.beside("checkpoint"));
        let file = receipt.to_str().unwrap();
        let asked = ["log", "receipt", SOURCE, id, "--wait", "20s", "-o", file];
        let _wrote = ledger.told(&asked);
        fs::write(&checkpoint, ledger.told(&["log", "checkpoint"])).unwrap();
        let key = ledger.told(&["status", "--json"]);
        let key: Value = serde_json::from_str(&key).unwrap();
        let key = key["verifierKey"].as_str().unwrap().to_owned();
        Self {
            receipt,
            checkpoint,
            key,
        }
    }

    fn still_holds(&self, ledger: &Place) {
        let check = |path: &Path| {
            let output = ledger
                .command()
                .arg("verify")
                .arg(path)
                .arg("--checkpoint")
                .arg(&self.checkpoint)
                .args(["--key", &self.key])
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", said(&output));
        };
        check(&self.receipt);
        check(&ledger.home.data());
    }
}

/// Everything that tells of the ledger says that it is frozen, with both hashes and the command; gives that.
fn told_everywhere(ledger: &Place, status: &waybill_proto::pb::GetStatusResponse) -> String {
    let stream = status.stream.as_ref().unwrap();
    let leaf = hex(&stream.ledger_leaf_hash);
    let command = commands(&stream.remedy)[0].to_owned();
    assert!(
        command.starts_with(&format!(
            "waybill ledger republish --yes {}",
            hex(&status.root)
        )),
        "{command}"
    );
    let shown = ledger.told(&["status"]);
    for text in ["FROZEN", &leaf, &command, "questions       served"] {
        assert!(shown.contains(text), "{text} is missing: {shown}");
    }
    let doctor = ledger.run(&["doctor"]);
    assert_eq!(doctor.status.code(), Some(12), "{}", said(&doctor));
    assert!(said(&doctor).contains(&command), "{}", said(&doctor));
    let json: Value = serde_json::from_str(&ledger.told(&["status", "--json"])).unwrap();
    assert_eq!(
        json["stream"]["condition"], "STREAM_CONDITION_FROZEN",
        "{json}"
    );
    assert!(json["stream"]["ledgerLeafHash"].is_string(), "{json}");
    let metrics = Command::new("curl")
        .args(["-sf", &format!("{}/metrics", ledger.url())])
        .output()
        .unwrap();
    let metrics = said(&metrics);
    let frozen = metrics
        .lines()
        .find(|line| line.starts_with("waybill_stream_following{"))
        .unwrap_or_default();
    assert!(
        frozen.contains("state=\"frozen\"") && frozen.contains(&leaf) && frozen.ends_with(" 0"),
        "{metrics}"
    );
    command
}

#[test]
fn a_stranger_publishes_asks_loses_the_brokers_disk_and_is_told_what_to_do() {
    let Some(python) = python() else { return };
    for binary in binaries() {
        told(story(&binary, &python));
    }
}

async fn story(binary: &Path, python: &str) {
    let mut bed = Bed::new(binary);
    let ledger = bed.ledger("ledger");
    let server = ledger.serve().unwrap();
    let mut watch = Watch::of(&ledger.url());
    watch.following().await;

    let published = publish(python, &bed, &ledger, "881");
    assert!(published.status.success(), "{}", said(&published));
    assert_eq!(fs::read_dir(bed.beside("outbox")).unwrap().count(), 0);
    let _recorded = ledger.told(&["emit", "--data", BY_CALL]);
    let kept = Kept::take(&bed, &ledger, "run-881-finished");
    let trace = ledger.told(&["trace", "run-881"]);
    assert!(trace.contains("checkout → production"), "{trace}");
    let log = ledger.told(&["log"]);
    let before = watch.status().await.unwrap();

    bed.broker.kill();
    bed.broker.wipe();
    bed.broker.restart();
    let (status, _) = watch.frozen().await;
    let command = told_everywhere(&ledger, &status);
    assert_eq!(
        ledger.told(&["log"]),
        log,
        "reads go on, and show what they showed"
    );
    assert_eq!(status.root, before.root);
    let early = ledger.run(&["emit", "--on-error", "fail", "--data", BY_CALL]);
    assert!(!early.status.success(), "{}", said(&early));

    // Exactly what is said, in a shell, with a reason in the reason's place.
    let shell = command.replacen("waybill", "\"$0\"", 1);
    let decided = Command::new("sh")
        .args(["-c", &shell.replace("REASON", "'the disk was lost'")])
        .arg(waybill_tests::process::waybill())
        .env("WAYBILL_SERVER", ledger.url())
        .env("XDG_CONFIG_HOME", ledger.home.root.join("config"))
        .env("XDG_STATE_HOME", ledger.home.state())
        .output()
        .unwrap();
    assert!(decided.status.success(), "{}", said(&decided));
    let status = watch.following().await;
    assert_eq!(status.epoch, before.epoch + 1);

    // Nothing doubles: neither what was put back, nor what is said again.
    let again = publish(python, &bed, &ledger, "881");
    assert!(again.status.success(), "{}", said(&again));
    let new = publish(python, &bed, &ledger, "882");
    assert!(new.status.success(), "{}", said(&new));
    let facts = ledger.told(&["log", "--jsonl", "--source", SOURCE]);
    for id in [
        "called-1",
        "run-881-started",
        "run-881-finished",
        "run-882-started",
        "run-882-finished",
    ] {
        let id = format!("\"id\":\"{id}\"");
        assert_eq!(facts.matches(&id).count(), 1, "{id} in {facts}");
    }
    kept.still_holds(&ledger);
    let status = watch.status().await.unwrap();
    assert_eq!(condition(&status), StreamCondition::Following);
    assert_eq!(server.stop().unwrap(), Some(0));
    kept.still_holds(&ledger);
}
