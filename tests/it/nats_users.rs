//! Real ledgers under the permissions of `deploy/nats`: everything that a ledger does with its broker, as the user that
//! `make_users.py` makes for it, and not one complaint of the server.
use std::{
    path::Path,
    time::{Duration, Instant},
};

use serde_json::Value;
use waybill_tests::process::{Home, Server};

use crate::{
    broker::{Broker, Client, servers},
    machine::{Machine, run},
};

/// How long something may take that must come by itself.
const PATIENCE: Duration = Duration::from_secs(60);
const SOURCE: &str = "//ci.acme.dev/checkout";
const SUBJECT: &str = "waybill.events.v1._._2f_2fci_2eacme_2edev_2fcheckout.deployment.finished._";
const EVENT: &str = r#"{"source": "//ci.acme.dev/checkout", "id": "direct-1", "occurTime": "2026-11-03T09:00:00Z",
    "deployment": {"finished": {"outcome": "OUTCOME_SUCCESS",
    "deployment": {"deploymentId": "d-0", "service": "checkout", "environment": "prod"}}}}"#;

/// A machine with two ledgers on one broker's stream.
struct Place {
    machine: Machine,
    broker: Broker,
    ledgers: Vec<Server>,
}

impl Place {
    fn new(server: &Path) -> Self {
        let place = Self {
            machine: Machine::new(),
            broker: Broker::start(server),
            ledgers: Vec::new(),
        };
        let first = place.ledger("first");
        let second = place.ledger("second");
        Self {
            ledgers: vec![first, second],
            ..place
        }
    }

    /// A ledger of its own directory and keys, as the broker's user `ledger`.
    fn ledger(&self, name: &str) -> Server {
        let home = Home {
            root: self.machine.path(name),
        };
        let (url, seed) = (self.broker.url(), self.broker.configuration.seed("ledger"));
        let state = self.machine.path(name).join("keys");
        let flags = [
            "--nats",
            &url,
            "--nats-nkey",
            seed.to_str().unwrap(),
            "--nats-inbox-prefix",
            "_INBOX_ledger",
            "--state",
            state.to_str().unwrap(),
        ];
        Server::start_with(&home, &[], &flags).unwrap()
    }

    /// What the first ledger answers.
    fn ask(&self, arguments: &[&str]) -> String {
        run(self
            .machine
            .waybill()
            .args(arguments)
            .args(["--server", &self.ledgers[0].url]))
        .well()
    }

    /// Asks for the stream's standing until it is as wanted.
    fn wait_for(&self, story: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let begin = Instant::now();
        loop {
            let status: Value = serde_json::from_str(&self.ask(&["status", "--json"])).unwrap();
            if is_so(&status["stream"]) {
                return status;
            }
            assert!(begin.elapsed() < PATIENCE, "not {story}: {status}");
        }
    }

    fn facts(&self) -> String {
        self.ask(&["log", "--from", "1"])
    }
}

/// A 64-bit number as proto3 JSON writes it.
fn number(value: &Value) -> u64 {
    value.as_str().unwrap().parse().unwrap()
}

/// Publishes one event as JSON, as its user.
fn publish(emitter: &mut Client) {
    let head = "NATS/1.0\r\nContent-Type: application/json\r\n\r\n";
    let (length, whole) = (head.len(), head.len() + EVENT.len());
    emitter.send(&format!(
        "HPUB {SUBJECT} {length} {whole}\r\n{head}{EVENT}\r\n"
    ));
    assert_eq!(emitter.errors(), [""; 0]);
}

#[test]
fn two_ledgers_follow_compare_and_put_back_what_the_broker_lost() {
    for server in servers() {
        let place = Place::new(&server);
        publish(&mut place.broker.connect("ci-checkout"));
        place.ask(&["log", "receipt", SOURCE, "direct-1", "--wait", "30s"]);
        place.ask(&[
            "emit",
            "deploy",
            "checkout",
            "--env",
            "prod",
            "--deployment",
            "d-1",
            "--source",
            SOURCE,
            "--id",
            "called-1",
        ]);
        place.wait_for("of one root", |stream| {
            stream["peers"][0]["agreement"] == "AGREEMENT_SAME"
        });
        let before = place.facts();

        let mut operator = place.broker.connect("operator");
        operator.request(
            "$JS.API.STREAM.DELETE.WAYBILL_EVENTS",
            "_INBOX_operator.1",
            "",
        );
        let frozen = place.wait_for("frozen", |stream| {
            stream["condition"] == "STREAM_CONDITION_FROZEN"
        });
        let remedy = frozen["stream"]["remedy"].as_str().unwrap();
        let (_, rest) = remedy.split_once("republish --yes ").unwrap();
        let root = rest.split(' ').next().unwrap();
        let told = place.ask(&[
            "ledger",
            "republish",
            "--yes",
            root,
            "--why",
            "the stream was deleted",
        ]);
        assert!(told.contains("2 events are published again"), "{told}");
        place.wait_for("followed again, by both", |stream| {
            stream["recordedSequence"] == "3"
                && stream["condition"] == "STREAM_CONDITION_FOLLOWING"
                && number(&stream["peers"][0]["position"]) > number(&frozen["durablePosition"])
                && stream["peers"][0]["agreement"] == "AGREEMENT_SAME"
        });
        assert_eq!(place.facts(), before, "nothing is lost or doubled");
        assert_eq!(place.broker.violations(), [""; 0]);
    }
}
