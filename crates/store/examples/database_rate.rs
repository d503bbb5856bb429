//! How fast the database takes events in and gives them back, and what they weigh.
//!
//! `cargo run --release -p waybill-store --example database_rate -- [EVENTS] [text|noise] [STEP]` (2,000,000 text 2,000).
//! `text` events share words as real ones do, `noise` cannot be compressed; both are 250 bytes. Only the time in the
//! database counts, not that for making events up.
#![allow(clippy::print_stdout, reason = "it prints figures")]
use std::{
    error::Error,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use waybill_core::Time;
use waybill_store::{
    Hash, Keys, Record, Tip, Verdict, Word,
    database::{Database, Meta, Options, Selection, Step},
    seen,
};

const EVENT_BYTES: usize = 250;
const BOOT: Option<&str> = Some("measured");
const GETS: u64 = 20_000;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let events: u64 = args.next().map_or(Ok(2_000_000), |it| it.parse())?;
    let noise = args.next().is_some_and(|it| it == "noise");
    let step: u64 = args.next().map_or(Ok(2_000), |it| it.parse())?;
    let dir = tempfile::tempdir()?;
    let database = fill(dir.path(), events, noise, step)?;
    read(&database, events)?;
    drop(database);
    reopen(dir.path(), events)
}

fn fill(dir: &Path, events: u64, noise: bool, step: u64) -> Result<Database> {
    let database = Database::open(dir, &Options::default(), BOOT)?.database;
    let (mut maker, mut took, mut slowest) = (Maker::new(noise), Duration::ZERO, Duration::ZERO);
    let (mut raw, mut busy) = (0, Duration::ZERO);
    while maker.position < events {
        let made = maker.step(step.min(events - maker.position));
        raw += made
            .records
            .iter()
            .map(|record| record.bytes.len() as u64)
            .sum::<u64>();
        let (start, start_busy) = (Instant::now(), thread_busy());
        database.apply(&made.as_step(maker.meta()))?;
        busy += thread_busy() - start_busy;
        took += start.elapsed();
        slowest = slowest.max(start.elapsed());
    }
    println!(
        "apply        {:>10.0} events/s, {:.0} a second of processor time, slowest step {slowest:.1?}",
        events as f64 / took.as_secs_f64(),
        events as f64 / busy.as_secs_f64(),
    );
    database.flush()?;
    let disk = database.bytes_on_disk();
    println!(
        "disk / raw   {:>10.2} ({} MB of {} MB)",
        disk as f64 / raw as f64,
        disk >> 20,
        raw >> 20
    );
    println!("memory       {:>10} MB", memory_mb());
    Ok(database)
}

fn read(database: &Database, events: u64) -> Result<()> {
    let mut took: Vec<Duration> = Vec::new();
    for n in 0..GETS.min(events) {
        let position = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % events + 1;
        let start = Instant::now();
        let record = database.record(position)?;
        took.push(start.elapsed());
        assert_eq!(record.map(|record| record.position), Some(position));
    }
    percentiles("random get", &mut took);
    let mut took: Vec<Duration> = Vec::new();
    for n in 0..GETS.min(events) {
        let index = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % events;
        let start = Instant::now();
        let mut level = 0;
        while (((index >> level) ^ 1) + 1) << level <= events {
            std::hint::black_box(database.node(level, (index >> level) ^ 1, node_hash)?);
            level += 1;
        }
        took.push(start.elapsed());
    }
    percentiles("tree path", &mut took);
    let (start, mut position) = (Instant::now(), 1);
    while position <= events {
        position += database.records(position..=events, 1_000)?.len() as u64;
    }
    println!(
        "scan         {:>10.0} events/s",
        events as f64 / start.elapsed().as_secs_f64()
    );
    let rare = vec![Word::of(&[&format!("commit:acme/shop/{}", events / 2)])];
    let selection = Selection {
        all: rare,
        last: events,
        descending: true,
        ..Selection::default()
    };
    let start = Instant::now();
    let found = database.select(&selection).count();
    println!(
        "rare word    {:>10.1?} for {found} candidates",
        start.elapsed()
    );
    println!("memory       {:>10} MB", memory_mb());
    Ok(())
}

fn reopen(dir: &Path, events: u64) -> Result<()> {
    let start = Instant::now();
    let database = Database::open(dir, &Options::default(), BOOT)?.database;
    println!("open         {:>10.1?} (after a drop)", start.elapsed());
    let start = Instant::now();
    let seen = database.load_seen()?;
    let bytes = seen.memory_bytes() as f64 / events as f64;
    println!(
        "load_seen    {:>10.1?}, {bytes:.1} bytes an event",
        start.elapsed()
    );
    let start = Instant::now();
    let found = (1..=events)
        .filter(|position| seen.candidates(fingerprint(*position)).count() == 1)
        .count();
    println!("lookups      {:>10.1?} for {found}", start.elapsed());
    let start = Instant::now();
    database.close_clean(BOOT)?;
    println!("close        {:>10.1?}", start.elapsed());
    let start = Instant::now();
    drop(Database::open(dir, &Options::default(), BOOT)?);
    println!(
        "open         {:>10.1?} (after a clean stop)",
        start.elapsed()
    );
    Ok(())
}

fn percentiles(what: &str, took: &mut [Duration]) {
    took.sort_unstable();
    let at = |share: usize| took[(took.len() - 1) * share / 100];
    println!(
        "{what:<12} {:>10.1?} p50, {:.1?} p99, {:.1?} max",
        at(50),
        at(99),
        at(100)
    );
}

fn fingerprint(position: u64) -> u64 {
    seen::fingerprint("github.com/acme/shop", &format!("run-{position}"))
}

/// Makes events up, and the tree over them.
struct Maker {
    noise: bool,
    position: u64,
    /// Roots of the complete subtrees at the right edge, largest first, with their levels.
    edge: Vec<(u8, Hash)>,
}

#[derive(Default)]
struct Made {
    records: Vec<Arc<Record>>,
    leaves: Vec<Hash>,
    nodes: Vec<(u8, u64, Hash)>,
    keys: Vec<Keys>,
}

impl Made {
    fn as_step(&self, meta: Meta) -> Step<'_> {
        Step {
            records: &self.records,
            leaves: &self.leaves,
            nodes: &self.nodes,
            keys: &self.keys,
            meta,
        }
    }
}

impl Maker {
    fn new(noise: bool) -> Self {
        Self {
            noise,
            position: 0,
            edge: Vec::new(),
        }
    }

    fn step(&mut self, count: u64) -> Made {
        let mut made = Made::default();
        for _ in 0..count {
            self.position += 1;
            let record = self.record();
            let leaf = Sha256::digest(&record.bytes).into();
            self.push(leaf, &mut made.nodes);
            made.leaves.push(leaf);
            made.keys.push(keys(&record));
            made.records.push(Arc::new(record));
        }
        made
    }

    fn push(&mut self, leaf: Hash, nodes: &mut Vec<(u8, u64, Hash)>) {
        self.edge.push((0, leaf));
        while let [.., (left_level, left), (level, right)] = self.edge[..] {
            if left_level != level {
                break;
            }
            self.edge.truncate(self.edge.len() - 2);
            let node = node_hash(&left, &right);
            nodes.push((level + 1, (self.position - 1) >> (level + 1), node));
            self.edge.push((level + 1, node));
        }
    }

    fn record(&self) -> Record {
        let position = self.position;
        let digest = hex(&Sha256::digest(position.to_be_bytes())[..20]);
        let text = format!(
            "\n\x14github.com/acme/shop\x12run-{position} commit:github.com/acme/shop/{digest} service:checkout \
             environment:production build.finished repository:github.com/acme/shop branch:main outcome:succeeded \
             run:github.com/acme/shop/actions/{position} attempt:1",
        );
        let mut bytes = if self.noise {
            noise(position)
        } else {
            text.into_bytes()
        };
        bytes.resize(EVENT_BYTES, b' ');
        Record {
            position,
            record_time: Time::from_nanos_clamped(
                1_700_000_000_000_000_000 + i128::from(position) * 1_003_007,
            ),
            epoch: 0,
            stream_sequence: 0,
            salt: noise(position ^ 0x5555).first_chunk().copied(),
            subject: String::new(),
            headers: vec![("Waybill-Sender".to_owned(), "ci".to_owned())],
            verdict: Verdict::Admitted,
            rules_version: 1,
            source: Arc::from("github.com/acme/shop"),
            id: Arc::from(format!("run-{position}")),
            kind: Arc::from("build.finished"),
            flags: 0,
            bytes: Bytes::from(bytes),
        }
    }

    fn meta(&self) -> Meta {
        let record_time = Time::default();
        let tip = Tip {
            position: self.position,
            record_time,
            chain: [0; 32],
            segment: 1,
            offset: 0,
        };
        let (frontier, counters) = (vec![7; 800], Vec::new());
        Meta {
            ledger_id: "measured".to_owned(),
            tip,
            frontier,
            root: [0; 32],
            counters,
        }
    }
}

/// Five words, one of them the event's own.
fn keys(record: &Record) -> Keys {
    let own = format!("commit:acme/shop/{}", record.position);
    let shared = [
        "kind:build.finished",
        "source:github.com/acme/shop",
        "service:checkout",
        "environment:production",
    ];
    let all = shared.into_iter().chain([own.as_str()]);
    Keys {
        occur_time: Some(record.record_time),
        words: all.map(|word| Word::of(&[word])).collect(),
    }
}

fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new()
        .chain_update([1])
        .chain_update(left)
        .chain_update(right)
        .finalize()
        .into()
}

fn noise(seed: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(EVENT_BYTES + 32);
    for n in 0.. {
        if bytes.len() >= EVENT_BYTES {
            break;
        }
        bytes.extend_from_slice(&Sha256::digest((seed * 16 + n).to_be_bytes()));
    }
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Processor time of this thread: what counts on a machine that has other work.
fn thread_busy() -> Duration {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = times.split(' ').next().and_then(|it| it.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

fn memory_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok())
        .unwrap_or(0)
        >> 10
}
