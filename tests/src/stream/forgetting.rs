//! What may happen to a broker's disk, and that a ledger notices, freezes, is told what to do, and goes on.
use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use async_nats::Client;
use serde_json::{Value, json};
use waybill_proto::pb::{GetStatusResponse, StreamStatus};

use super::{
    bed::{Bed, Place, STREAM},
    emitters::{Crowd, api, connect, other, put},
    watch::Watch,
};
use crate::{
    history::{Emitter, Violation, judge},
    process::Server,
};

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgetting {
    /// An older copy is put back, and publishers go on.
    RolledBack,
    /// The disk is empty.
    Wiped,
    /// The stream was made anew, and has as many messages, others.
    Remade,
    /// Messages that the ledger never saw were purged while it was down.
    Purged,
    /// An older copy is put back, and nobody publishes.
    TailLost,
}

/// All of them.
pub const ALL: [Forgetting; 5] = [
    Forgetting::RolledBack,
    Forgetting::Wiped,
    Forgetting::Remade,
    Forgetting::Purged,
    Forgetting::TailLost,
];

/// What a ledger made of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// From when the broker was back until the ledger was frozen.
    pub frozen_after: Duration,
    /// From the decision until messages came in again.
    pub recovered_after: Duration,
    /// Receipts that emitters held in the end.
    pub receipts: u64,
    /// What should not be.
    pub violations: Vec<String>,
}

/// A ledger under load whose broker forgets.
struct Cycle {
    bed: Bed,
    place: Place,
    client: Client,
    watch: Watch,
    crowd: Crowd,
    server: Option<Server>,
    /// Roots that were shown, by size.
    roots: BTreeMap<u64, Vec<u8>>,
}

/// Has a broker forget under load, and a person do what the ledger says. `accept` goes on without the lost events where
/// that is offered.
///
/// # Errors
/// Where the world does not work; what the ledger does wrong is in the outcome.
pub async fn cycle(binary: &Path, what: Forgetting, accept: bool) -> Result<Outcome, String> {
    let mut cycle = Cycle::begin(binary, what).await?;
    let back = cycle.happen(what).await?;
    let (status, stream) = cycle.watch.frozen().await;
    let mut outcome = Outcome {
        frozen_after: back.elapsed(),
        ..Outcome::default()
    };
    outcome.violations = unclear(what, &status, &stream);
    cycle.crowd.resume();
    let told = decide(&cycle.place, &stream.remedy, accept)?;
    let decided = Instant::now();
    cycle.watch.following().await;
    outcome.recovered_after = decided.elapsed();
    cycle.crowd.goes_on(30).await;
    outcome.violations.extend(told);
    cycle.end(outcome).await
}

impl Cycle {
    async fn begin(binary: &Path, what: Forgetting) -> Result<Self, String> {
        let bed = Bed::new(binary);
        let client = connect(&bed.broker.url()).await;
        let mut place = bed.ledger("ledger");
        if what == Forgetting::Purged {
            // Made by somebody who lets messages be purged.
            let config = config(json!({"deny_purge": false, "deny_delete": false}));
            api(&client, &format!("STREAM.CREATE.{STREAM}"), &config).await?;
            place = place.with(&["--nats-allow-purge"]);
        }
        let server = place.serve().map_err(|error| error.to_string())?;
        let crowd = Crowd::start(&bed.broker.url(), &place.url(), 1, 1);
        let mut cycle = Self {
            watch: Watch::of(&place.url()),
            bed,
            place,
            client,
            crowd,
            server: Some(server),
            roots: BTreeMap::new(),
        };
        cycle.crowd.goes_on(40).await;
        cycle.show().await?;
        Ok(cycle)
    }

    /// Keeps the newest root.
    async fn show(&mut self) -> Result<(), String> {
        let (size, root) = self.watch.root(0).await.map_err(|it| it.to_string())?;
        self.roots.insert(size, root);
        Ok(())
    }

    /// Lets it happen; gives when the broker was back.
    async fn happen(&mut self, what: Forgetting) -> Result<Instant, String> {
        match what {
            Forgetting::RolledBack => self.roll_back().await?,
            Forgetting::TailLost => {
                let copy = self.copy().await?;
                self.crowd.pause().await;
                self.put_back(copy.path());
            }
            Forgetting::Wiped => self.wipe(),
            Forgetting::Remade => {
                self.crowd.pause().await;
                let recorded = self.recorded_sequence().await?;
                // While the ledger is down, or it would see that the tail is lost.
                drop(self.server.take());
                self.wipe();
                self.make_anew(recorded).await?;
                self.serve()?;
            }
            Forgetting::Purged => self.purge().await?,
        }
        Ok(Instant::now())
    }

    /// Copies the store at a moment, and goes on behind it.
    async fn copy(&mut self) -> Result<tempfile::TempDir, String> {
        self.bed.broker.kill();
        let copy = self.bed.broker.copy_store();
        self.bed.broker.restart();
        self.watch.following().await;
        self.crowd.goes_on(40).await;
        self.show().await?;
        Ok(copy)
    }

    async fn roll_back(&mut self) -> Result<(), String> {
        let copy = self.copy().await?;
        self.put_back(copy.path());
        Ok(())
    }

    fn put_back(&mut self, copy: &Path) {
        self.bed.broker.kill();
        self.bed.broker.restore(copy);
        self.bed.broker.restart();
    }

    fn wipe(&mut self) {
        self.bed.broker.kill();
        self.bed.broker.wipe();
        self.bed.broker.restart();
    }

    async fn recorded_sequence(&mut self) -> Result<u64, String> {
        let status = self.watch.status().await.map_err(|it| it.to_string())?;
        Ok(status.stream.unwrap_or_default().recorded_sequence)
    }

    /// Fills a stream of the same name with so many messages of somebody else.
    async fn make_anew(&self, count: u64) -> Result<(), String> {
        let create = format!("STREAM.CREATE.{STREAM}");
        api(&self.client, &create, &config(json!({}))).await?;
        for number in 0..count + 3 {
            let subject = "waybill.events.v1._._2fsomebody.deployment.finished.service-0";
            let subject = subject.to_owned();
            put(&self.client, subject, "application/protobuf", other(number)).await?;
        }
        Ok(())
    }

    /// Publishers go on while the ledger is down, and what they said meanwhile is purged.
    async fn purge(&mut self) -> Result<(), String> {
        let recorded = self.recorded_sequence().await?;
        drop(self.server.take());
        let info = format!("STREAM.INFO.{STREAM}");
        loop {
            let answer = api(&self.client, &info, &Value::Null).await?;
            if answer["state"]["last_seq"].as_u64() > Some(recorded + 100) {
                break;
            }
        }
        api(&self.client, &format!("STREAM.PURGE.{STREAM}"), &json!({})).await?;
        self.serve()
    }

    fn serve(&mut self) -> Result<(), String> {
        let server = self.place.serve().map_err(|error| error.to_string())?;
        self.server = Some(server);
        Ok(())
    }

    /// Everything has its receipt, once; nothing old has changed.
    async fn end(mut self, mut outcome: Outcome) -> Result<Outcome, String> {
        let emitters = self.crowd.finish().await;
        let held = self.watch.history().await.map_err(|it| it.to_string())?;
        outcome.receipts = emitters.iter().map(|it| it.acked.len() as u64).sum();
        let judged = judged(&emitters, &held);
        outcome
            .violations
            .extend(judged.iter().map(ToString::to_string));
        let changed = self.watch.changed(&self.roots).await;
        for size in changed.map_err(|it| it.to_string())? {
            let text = format!("the root of {size} positions is another one now");
            outcome.violations.push(text);
        }
        Ok(outcome)
    }
}

/// A stream as a ledger would make it, with some fields as somebody else would.
#[must_use]
pub fn config(fields: Value) -> Value {
    let mut config = json!({
        "name": STREAM, "subjects": ["waybill.events.v1.>", "waybill.gate.v1.>"], "retention": "limits", "storage": "file",
        "discard": "new", "max_age": 0, "num_replicas": 1, "duplicate_window": 120_000_000_000_u64, "deny_delete": true, "deny_purge": true
    });
    for (name, value) in fields.as_object().into_iter().flatten() {
        config[name] = value.clone();
    }
    config
}

/// As [`judge`]; the order of one emitter's events counts for nothing, since what the broker did not take at first comes behind
/// what it took. What somebody else said is nobody's.
#[must_use]
pub fn judged(emitters: &[Emitter], held: &[(u64, crate::history::Held)]) -> Vec<Violation> {
    let theirs = "phantom: /somebody";
    let mut violations = judge(emitters, held);
    violations.retain(|it| it.kind != "disordered" && !it.to_string().starts_with(theirs));
    violations
}

/// What is not said as it should be of a frozen stream.
fn unclear(what: Forgetting, status: &GetStatusResponse, stream: &StreamStatus) -> Vec<String> {
    let root = hex(&status.root);
    let lost = "waybill ledger republish --yes ";
    let gap = "waybill ledger accept-gap --yes ";
    let command = if what == Forgetting::Purged {
        gap
    } else {
        lost
    };
    let checks = [
        (
            stream.remedy.contains(&format!("{command}{root}")),
            "the command with the root",
        ),
        (!stream.reason.is_empty(), "the reason"),
        (
            what == Forgetting::Purged || !stream.ledger_leaf_hash.is_empty(),
            "the ledger's hash",
        ),
        (
            what != Forgetting::Remade || !stream.broker_leaf_hash.is_empty(),
            "the broker's hash",
        ),
        (
            status.findings.iter().any(|it| it.code == "stream_frozen"),
            "the finding",
        ),
    ];
    let missing = checks.into_iter().filter(|(said, _)| !said);
    let text = |(_, what): (bool, &str)| format!("unclear: {what} is missing: {stream:?}");
    missing.map(text).collect()
}

/// Runs a command that a remedy names, exactly; gives what is wrong with that.
fn decide(place: &Place, remedy: &str, accept: bool) -> Result<Vec<String>, String> {
    let commands: Vec<&str> = commands(remedy);
    let wanted = if accept { "accept-" } else { "ledger " };
    let found = commands.iter().find(|it| it.contains(wanted));
    let Some(command) = found else {
        return Ok(vec![format!("unclear: no command in {remedy:?}")]);
    };
    let mut words: Vec<&str> = command.split_whitespace().skip(1).collect();
    if let Some(reason) = words.iter_mut().find(|it| **it == "REASON") {
        *reason = "the disk was lost";
    }
    let output = place.run(&words);
    match output.status.success() {
        true => Ok(Vec::new()),
        false => Err(format!("{command}: {output:?}")),
    }
}

/// Commands of ours that a text names in backquotes.
#[must_use]
pub fn commands(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter(|it| it.starts_with("waybill ")).collect()
}

/// Bytes as people read them.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
