//! Measures facts over a generated history: time to fold, memory, and how long the questions take.
//!
//! `cargo run --release -p waybill-views --example measure -- 1000000`
//!
//! The mix: half commits (one parent, or two in every eighth; three files), a fifth metrics that no view reads, the rest
//! builds, changes and deployments of 20 services in two environments, spread over five years.
#![allow(clippy::print_stdout, reason = "it prints what it measured")]
use std::{error::Error, sync::Arc, time::Instant};

use waybill_core::{
    Entity, Event, Identity, Kind, Payload, Recorded, Time,
    event::{
        ArtifactRef, Basis, Build, BuildStep, Change, ChangeStep, Commit, CommitFile, Deployment,
        DeploymentStep, MergeMethod, Operation, Outcome, RecordKind, Revision,
    },
};
use waybill_views::{Facts, Knowledge, Reading, delivery, trace};

const SERVICES: u64 = 20;
const YEAR_NANOS: i64 = 365 * 86_400 * 1_000_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let events: u64 = std::env::args()
        .nth(1)
        .map_or(Ok(1_000_000), |n| n.parse())?;
    // Once without folding, to know what the generator takes: events are folded as they are made, hot as after decoding.
    let mut world = World::new(events)?;
    let started = processor_nanos()?;
    for position in 1..=events {
        std::hint::black_box(world.event(position)?);
    }
    let making = processor_nanos()? - started;
    drop(world);
    let before = resident_bytes()?;
    let mut world = World::new(events)?;
    let mut facts = Facts::new();
    let started = processor_nanos()?;
    for position in 1..=events {
        facts.apply(&world.event(position)?);
    }
    let folding = (processor_nanos()? - started).saturating_sub(making);
    // What the generator itself remembers is small and fixed.
    let memory = resident_bytes()?.saturating_sub(before);
    println!("{events} events");
    println!(
        "fold        {:.0} events/s of processor time",
        events as f64 * 1e9 / folding as f64
    );
    println!("memory      {:.0} B/event", memory as f64 / events as f64);
    questions(&facts, &world, events);
    let started = Instant::now();
    let mut bytes = Vec::new();
    facts.checkpoint(&mut |piece| bytes.extend_from_slice(piece));
    println!(
        "checkpoint  {:.0} B/event in {:?}",
        bytes.len() as f64 / events as f64,
        started.elapsed()
    );
    let started = Instant::now();
    let restored = Facts::restore(&bytes).is_some();
    println!("restore     {:?} ({restored})", started.elapsed());
    Ok(())
}

fn questions(facts: &Facts, world: &World, events: u64) {
    let reading = |as_of| Reading {
        as_of,
        evaluated_time: facts.head().1.unwrap_or_default(),
        knowledge: Knowledge::Recorded,
    };
    let traces = |what: &str, references: &[String], as_of: u64| {
        // Everything is asked twice, and the second time counts: a server is warm.
        let times = references.iter().map(|reference| {
            let question = trace::Question {
                reference: reference.clone(),
                ..trace::Question::default()
            };
            let _ = trace::ask(facts, &reading(as_of), &question);
            let started = Instant::now();
            let answer = trace::ask(facts, &reading(as_of), &question);
            let found = matches!(answer.resolution, trace::Resolution::Found(_));
            (
                started.elapsed(),
                if found { answer.nodes.len() } else { 0 },
            )
        });
        report(&format!("trace {what}"), times.collect());
    };
    traces("commit", &world.commits, events);
    traces(
        "commit as of half",
        &world.commits[..world.commits.len() / 2],
        events / 2,
    );
    traces("change", &world.changes, events);
    traces("deployment", &world.deployments, events);
    let latest: Vec<String> = (0..SERVICES)
        .map(|s| format!("d:service-{s}@prod~3"))
        .collect();
    traces("d:SERVICE@ENV~3", &latest, events);
    for (what, as_of) in [("", events), (" as of half", events / 2)] {
        let times = (0..SERVICES).map(|service| {
            let mut reading = reading(as_of);
            reading.evaluated_time = world.time(as_of);
            let question = delivery::Question {
                service: Some(format!("service-{service}")),
                start_time: Some(reading.evaluated_time.plus_nanos(-YEAR_NANOS)),
                ..delivery::Question::default()
            };
            let _ = delivery::ask(facts, &reading, &question);
            let started = Instant::now();
            let answer = delivery::ask(facts, &reading, &question);
            let counted = answer.services[0].change_lead_time.commit_count;
            (started.elapsed(), usize::try_from(counted).unwrap_or(0))
        });
        report(&format!("delivery 12 months{what}"), times.collect());
    }
}

fn report(what: &str, mut times: Vec<(std::time::Duration, usize)>) {
    times.sort();
    let at = |per_cent: usize| times[(times.len() - 1) * per_cent / 100].0;
    let size = times.iter().map(|(_, size)| size).sum::<usize>() / times.len();
    println!(
        "{what:30} p50 {:>9.1?}  p99 {:>9.1?}  ({size} nodes or commits)",
        at(50),
        at(99)
    );
}

/// What the generator remembers: the tips of each service, and a sample of names to ask for.
struct World {
    repositories: Vec<Entity>,
    tips: Vec<Vec<Arc<str>>>,
    merged: Vec<Arc<str>>,
    seed: u64,
    events: u64,
    commits: Vec<String>,
    changes: Vec<String>,
    deployments: Vec<String>,
}

impl World {
    fn new(events: u64) -> Result<Self, Box<dyn Error>> {
        let repositories: Result<Vec<Entity>, _> = (0..SERVICES)
            .map(|s| Entity::repository(&format!("github.com/acme/service-{s}")))
            .collect();
        Ok(Self {
            repositories: repositories?,
            tips: vec![Vec::new(); usize::try_from(SERVICES)?],
            merged: vec!["".into(); usize::try_from(SERVICES)?],
            seed: 7,
            events,
            commits: Vec::new(),
            changes: Vec::new(),
            deployments: Vec::new(),
        })
    }

    fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.seed ^ self.seed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    fn time(&self, position: u64) -> Time {
        let start = 1_600_000_000_i128 * 1_000_000_000;
        let span = i128::from(YEAR_NANOS) * 5;
        Time::from_nanos_clamped(start + span * i128::from(position) / i128::from(self.events))
    }

    fn event(&mut self, position: u64) -> Result<Recorded, Box<dyn Error>> {
        let service = usize::try_from(self.random() % SERVICES)?;
        let sampled = self.random().is_multiple_of((self.events / 500).max(1));
        let time = self.time(position);
        let (kind, id, payload) = match self.random() % 100 {
            0..50 => self.commit(service, time, sampled),
            50..62 => self.build(service, position),
            62..72 => self.change(service, position, sampled),
            72..80 => self.deployment(service, position, sampled),
            _ => (
                "metric.window_summarized",
                format!("p95/{position}"),
                Payload::Other,
            ),
        };
        let mut natural_key = [0; 32];
        for out in natural_key.chunks_exact_mut(8) {
            out.copy_from_slice(&self.random().to_le_bytes());
        }
        let event = Event {
            identity: Identity {
                source: format!("https://github.com/acme/service-{service}").into(),
                id: id.into(),
            },
            kind: Kind(kind.into()),
            occur_time: Some(time),
            basis: Basis::Reported,
            backfill: false,
            revision: 0,
            record_kind: RecordKind::Assertion,
            natural_key,
            reason: None,
            actor: None,
            labels: Default::default(),
            entities: Vec::new(),
            payload,
        };
        Ok(Recorded {
            position,
            record_time: time,
            sender: None,
            event: Arc::new(event),
        })
    }

    fn revision(&self, service: usize, id: &Arc<str>) -> Revision {
        Revision {
            repository: self.repositories[service].clone(),
            id: id.clone(),
        }
    }

    fn commit(
        &mut self,
        service: usize,
        time: Time,
        sampled: bool,
    ) -> (&'static str, String, Payload) {
        let id = format!(
            "{:016x}{:016x}{:08x}",
            self.random(),
            self.random(),
            self.random() >> 32
        );
        let id: Arc<str> = id.into();
        // Up to three branches grow; every eighth commit merges the oldest.
        let tips = &mut self.tips[service];
        let merges = tips.len() > 1 && self.seed.is_multiple_of(8);
        let parents: Vec<Arc<str>> = match tips.len() {
            0 => Vec::new(),
            _ if merges => vec![tips.pop().unwrap_or_default(), tips.remove(0)],
            3 => vec![tips.remove(1)],
            _ => vec![tips.last().cloned().unwrap_or_default()],
        };
        self.tips[service].push(id.clone());
        if sampled {
            self.commits.push(id[..10].to_owned());
        }
        let files = (0..3).map(|n| CommitFile {
            path: format!("src/service/part-{n}/file-{}.rs", time.nanos() % 97),
            previous_path: None,
            added: 3,
            removed: 1,
            binary: false,
        });
        let commit = Commit {
            revision: self.revision(service, &id),
            parents,
            patch_id: None,
            author_time: Some(time.plus_nanos(-3_600_000_000_000)),
            commit_time: Some(time),
            subject_line: format!("part {}: handle the case that was left", time.nanos() % 997)
                .into(),
            reverts: Vec::new(),
            fixes: Vec::new(),
            picked_from: Vec::new(),
            files: files.collect(),
            files_changed_count: 3,
            lines_added_count: 9,
            lines_removed_count: 3,
            boundary: false,
        };
        (
            "commit.recorded",
            format!("git:{id}"),
            Payload::Commit(Box::new(commit)),
        )
    }

    fn tip(&self, service: usize) -> Option<Arc<str>> {
        self.tips[service].last().cloned()
    }

    fn build(&mut self, service: usize, position: u64) -> (&'static str, String, Payload) {
        let tip = self.tip(service);
        let digest = format!("sha256:{}", format!("{:016x}", self.random()).repeat(4));
        let build = Build {
            build_id: format!("{position}").into(),
            source_revisions: tip.iter().map(|id| self.revision(service, id)).collect(),
            artifacts: vec![ArtifactRef {
                id: None,
                digest: Some(digest.into()),
            }],
            step: BuildStep::Finished(Outcome::Success),
        };
        let id = format!("github-actions:{position}:1:build");
        ("build.finished", id, Payload::Build(Box::new(build)))
    }

    fn change(
        &mut self,
        service: usize,
        position: u64,
        sampled: bool,
    ) -> (&'static str, String, Payload) {
        let tip = self.tip(service);
        let commits = tip.iter().cloned().collect();
        if sampled {
            self.changes.push(format!("service-{service}#{position}"));
        }
        self.merged[service] = tip.clone().unwrap_or_default();
        let change = Change {
            repository: self.repositories[service].clone(),
            number: format!("{position}").into(),
            title: "handle the case that was left".into(),
            head_revision: tip.clone(),
            base_branch: Some("main".into()),
            commits,
            commits_truncated: false,
            step: ChangeStep::Merged {
                merge_revision: tip,
                method: MergeMethod::Merge,
            },
        };
        let id = format!("pull_request:{position}:merged");
        ("change.merged", id, Payload::Change(Box::new(change)))
    }

    fn deployment(
        &mut self,
        service: usize,
        position: u64,
        sampled: bool,
    ) -> (&'static str, String, Payload) {
        let production = self.random().is_multiple_of(3);
        if sampled {
            self.deployments.push(format!("d-{position}"));
        }
        let tip = self.tip(service);
        let deployment = Deployment {
            deployment_id: format!("d-{position}").into(),
            service: format!("service-{service}").into(),
            environment: if production { "prod" } else { "staging" }.into(),
            operation: Operation::Deploy,
            revisions: tip.iter().map(|id| self.revision(service, id)).collect(),
            artifacts: Vec::new(),
            config_revision: None,
            previous_revisions: Vec::new(),
            rollback_of: None,
            version: None,
            inferred: false,
            range_unknown: false,
            step: DeploymentStep::Finished {
                outcome: if self.random().is_multiple_of(20) {
                    Outcome::Failure
                } else {
                    Outcome::Success
                },
                allowed_to_fail: false,
            },
        };
        let id = format!("github-actions:{position}:1:deploy");
        (
            "deployment.finished",
            id,
            Payload::Deployment(Box::new(deployment)),
        )
    }
}

/// Time on the processor, so that a busy machine does not count.
fn processor_nanos() -> Result<u64, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(stat.split_whitespace().next().unwrap_or("0").parse()?)
}

fn resident_bytes() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(kilobytes.unwrap_or("0").parse::<u64>()? * 1024)
}
