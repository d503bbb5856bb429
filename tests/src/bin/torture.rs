//! `torture`: kills, power cuts and full disks, as often as wanted, and a table of what was injected and what came back.
use std::{
    collections::BTreeMap,
    fs,
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Parser;
use waybill_fixture::nats::binaries;
use waybill_tests::{
    history::{self, Emitter},
    load::{self, Emitters},
    loss::Model,
    process::{self, Home, Server},
    stream::{
        forgetting::{self, Forgetting},
        kills::{Victim, kills},
        replica,
    },
};

/// Injects failures into a real ledger and checks that nothing acknowledged is lost, doubled, moved or invented.
#[derive(Parser)]
#[command(name = "torture")]
struct Arguments {
    /// Cycles of kill -9 under concurrent load, also during recovery.
    #[arg(long, default_value_t = 2000)]
    kills: u32,
    /// Cycles of the strict loss model: only what was synced survives.
    #[arg(long, default_value_t = 1000)]
    losses: u32,
    /// Power cuts by file-system shutdown on loop-mounted ext4 and XFS, each; needs root.
    #[arg(long, default_value_t = 500)]
    cuts: u32,
    /// Kills of the broker under load of emitters with an outbox, shared by the brokers of this machine (as the following).
    #[arg(long, default_value_t = 300)]
    broker_kills: u32,
    /// Kills of a ledger that follows a stream, under the same load.
    #[arg(long, default_value_t = 500)]
    stream_kills: u32,
    /// Brokers that forget under load: rolled back, wiped, made anew, purged, cut.
    #[arg(long, default_value_t = 50)]
    rollbacks: u32,
    /// Records changed in one of two ledgers on one stream.
    #[arg(long, default_value_t = 100)]
    changed: u32,
    /// Where to work; a temporary directory where nothing is said.
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Seed of the times at which things are cut.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Checks the whole history after so many cycles (always at the end).
    #[arg(long, default_value_t = 10)]
    check_every: u32,
    /// A mutant: syncs of paths with this word do nothing under the loss model (`=name` for the last part of the path).
    /// What is lost then must be found, so that the model is known to bite.
    #[arg(long)]
    skip_sync: Option<String>,
    /// Starts a new ledger after so many cycles, so that a check stays quick.
    #[arg(long, default_value_t = 100)]
    renew_every: u32,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    match runtime
        .map_err(|error| error.to_string())
        .and_then(|runtime| runtime.block_on(run(&arguments)))
    {
        Ok(clean) => ExitCode::from(u8::from(!clean)),
        Err(error) => {
            report(&format!("torture cannot go on: {error}"));
            ExitCode::from(2)
        }
    }
}

async fn run(arguments: &Arguments) -> Result<bool, String> {
    let temporary = tempfile::tempdir().map_err(|error| error.to_string())?;
    let base = arguments
        .directory
        .clone()
        .unwrap_or_else(|| temporary.path().to_owned());
    let mut table = Vec::new();
    for (kind, cycles) in [
        (Kind::Kill, arguments.kills),
        (Kind::Loss, arguments.losses),
        (Kind::Cut("ext4"), arguments.cuts),
        (Kind::Cut("xfs"), arguments.cuts),
    ] {
        if cycles > 0 {
            table.push(torment(arguments, kind, cycles, &base.join(kind.name())).await?);
        }
    }
    table.extend(on_streams(arguments).await?);
    report(&format!(
        "{:<14} {:>7} {:>12} {:>12} {:>10} {:>10} {:>10}",
        "injected", "cycles", "receipts", "recovery p99", "freeze p50", "freeze p99", "violations"
    ));
    for row in &table {
        let percentile = |times: &[Duration], percent| match times.is_empty() {
            true => "-".to_owned(),
            false => format!("{:.2} s", percentile(times, percent).as_secs_f64()),
        };
        report(&format!(
            "{:<14} {:>7} {:>12} {:>12} {:>10} {:>10} {:>10}",
            row.name,
            row.cycles,
            row.receipts,
            percentile(&row.recoveries, 99),
            percentile(&row.freezes, 50),
            percentile(&row.freezes, 99),
            row.violations
        ));
    }
    Ok(table.iter().all(|row| row.violations == 0))
}

/// What needs a broker, with each that this machine has in turn.
async fn on_streams(arguments: &Arguments) -> Result<Vec<Row>, String> {
    let mut random = Random(arguments.seed);
    let wanted = [
        ("broker kill", arguments.broker_kills),
        ("stream kill", arguments.stream_kills),
        ("rollback", arguments.rollbacks),
        ("changed", arguments.changed),
    ];
    let mut table = Vec::new();
    for (name, cycles) in wanted.into_iter().filter(|(_, cycles)| *cycles > 0) {
        let mut row = Row::new(name);
        let brokers = binaries();
        while row.cycles < cycles {
            // So many that each broker gets its share, and a check stays quick.
            let few = (cycles - row.cycles).min(arguments.renew_every.min(25));
            let broker = &brokers[row.rounds % brokers.len()];
            row.rounds += 1;
            match name {
                "broker kill" => kill(broker, Victim::Broker, few, &mut random, &mut row).await?,
                "stream kill" => kill(broker, Victim::Ledger, few, &mut random, &mut row).await?,
                "rollback" => forget(broker, &mut row).await?,
                _ => change(broker, &mut random, &mut row).await?,
            }
            report(&format!(
                "{name}: {} of {cycles}, {} receipts, {} violations",
                row.cycles, row.receipts, row.violations
            ));
        }
        table.push(row);
    }
    Ok(table)
}

async fn kill(
    broker: &Path,
    victim: Victim,
    count: u32,
    random: &mut Random,
    row: &mut Row,
) -> Result<(), String> {
    let outcome = kills(broker, victim, count, || 1 + random.below(150)).await?;
    row.cycles += count;
    row.receipts += outcome.receipts;
    row.recoveries.extend(outcome.recoveries);
    row.violate(&outcome.violations);
    Ok(())
}

async fn forget(broker: &Path, row: &mut Row) -> Result<(), String> {
    let turn = row.rounds / 2;
    let what = forgetting::ALL[turn % forgetting::ALL.len()];
    // A gap can only be accepted.
    let accept = what == Forgetting::Purged || turn % 4 == 3;
    let outcome = forgetting::cycle(broker, what, accept).await?;
    row.cycles += 1;
    row.receipts += outcome.receipts;
    row.recoveries.push(outcome.recovered_after);
    row.freezes.push(outcome.frozen_after);
    row.violate(&outcome.violations);
    Ok(())
}

async fn change(broker: &Path, random: &mut Random, row: &mut Row) -> Result<(), String> {
    let outcome = replica::change(broker, random.below(100)).await?;
    row.cycles += 1;
    row.freezes.push(outcome.noticed_after);
    row.violate(&outcome.violations);
    Ok(())
}

/// What is injected.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Kill,
    Loss,
    Cut(&'static str),
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill -9",
            Self::Loss => "loss",
            Self::Cut(file_system) => file_system,
        }
    }
}

/// One line of the table.
struct Row {
    name: &'static str,
    cycles: u32,
    receipts: u64,
    recoveries: Vec<Duration>,
    /// From when something could be noticed until it was.
    freezes: Vec<Duration>,
    violations: u64,
    rounds: usize,
}

impl Row {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            cycles: 0,
            receipts: 0,
            recoveries: Vec::new(),
            freezes: Vec::new(),
            violations: 0,
            rounds: 0,
        }
    }

    fn violate(&mut self, violations: &[String]) {
        for violation in violations {
            report(violation);
        }
        self.violations += violations.len() as u64;
    }
}

fn percentile(times: &[Duration], percent: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or_default()
}

async fn torment(
    arguments: &Arguments,
    kind: Kind,
    cycles: u32,
    base: &Path,
) -> Result<Row, String> {
    let mut random = Random(arguments.seed ^ u64::from(cycles));
    let mut row = Row::new(kind.name());
    let make = || Ok::<_, String>(Bed::make(kind, base)?.skipping(arguments.skip_sync.as_deref()));
    let mut bed = make()?;
    let mut emitters: Emitters = Arc::new(Mutex::new(vec![Emitter::default(); 4]));
    for cycle in 1..=cycles {
        let started = Instant::now();
        let server =
            Server::start(&bed.home, &bed.environment()).map_err(|error| error.to_string())?;
        row.recoveries.push(started.elapsed());
        if cycle % arguments.check_every == 0 || cycle == cycles {
            row.violations += check(&server.url, &emitters).await?;
        }
        one_cycle(&mut bed, server, &emitters, &mut random).await?;
        row.cycles = cycle;
        if cycle % arguments.renew_every == 0 || cycle == cycles {
            let server =
                Server::start(&bed.home, &bed.environment()).map_err(|error| error.to_string())?;
            row.violations += check(&server.url, &emitters).await?;
            server.kill();
            row.receipts += receipts(&emitters);
            report(&format!(
                "{}: {cycle} of {cycles}, {} receipts, {} violations",
                kind.name(),
                row.receipts,
                row.violations
            ));
            // The old one lets go of its mount point before the new one takes it.
            drop(bed);
            if cycle == cycles {
                break;
            }
            bed = make()?;
            emitters = Arc::new(Mutex::new(vec![Emitter::default(); 4]));
        }
    }
    Ok(row)
}

/// Loads the server, cuts it off at a moment of chance, and sometimes kills the recovery too.
async fn one_cycle(
    bed: &mut Bed,
    server: Server,
    emitters: &Emitters,
    random: &mut Random,
) -> Result<(), String> {
    let stop = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = (0..4)
        .map(|emitter| {
            tokio::spawn(load::emit(
                server.url.clone(),
                emitter,
                emitters.clone(),
                stop.clone(),
            ))
        })
        .collect();
    let moment = Duration::from_millis(5 + random.below(600));
    // The moment of the cut is the thing that is varied; nothing waits for it.
    tokio::time::timeout(moment, std::future::pending::<()>())
        .await
        .unwrap_or_default();
    if let Kind::Cut(_) = bed.kind {
        // The server outlives its file system by a moment, and ext4 answers a sync that was under way with success then.
        // A machine that loses its power says nothing more: what is heard from here on was never heard.
        let emitters = emitters.lock().unwrap_or_else(PoisonError::into_inner);
        stop.store(true, Ordering::Relaxed);
        drop(emitters);
    }
    bed.cut(server)?;
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.map_err(|error| error.to_string())?;
    }
    if random.below(5) == 0 {
        bed.cut_recovery(Duration::from_millis(random.below(200)))?;
    }
    Ok(())
}

async fn check(url: &str, emitters: &Emitters) -> Result<u64, String> {
    let held = load::read_all(url)
        .await
        .map_err(|status| format!("the ledger cannot be read back: {status}"))?;
    let emitters = emitters
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let violations = history::judge(&emitters, &held);
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    for violation in &violations {
        let count = seen.entry(violation.kind).or_default();
        *count += 1;
        if *count <= 3 {
            report(&format!("violation: {violation}"));
        }
    }
    Ok(violations.len() as u64)
}

fn receipts(emitters: &Emitters) -> u64 {
    emitters
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
        .map(|it| it.acked.len() as u64)
        .sum()
}

/// A place where a ledger lives and can be cut off.
struct Bed {
    kind: Kind,
    home: Home,
    model: Option<Model>,
    mount: Option<Mount>,
    skip: Option<String>,
}

impl Bed {
    fn make(kind: Kind, base: &Path) -> Result<Self, String> {
        let text = |error: std::io::Error| error.to_string();
        if base.exists() && !matches!(kind, Kind::Cut(_)) {
            fs::remove_dir_all(base).map_err(text)?;
        }
        fs::create_dir_all(base).map_err(text)?;
        let mount = match kind {
            Kind::Cut(file_system) => Some(Mount::make(base, file_system)?),
            _ => None,
        };
        let root = mount
            .as_ref()
            .map_or_else(|| base.join("home"), |mount| mount.point.join("home"));
        fs::create_dir_all(&root).map_err(text)?;
        let model = match kind {
            Kind::Loss => Some(Model::build(base).map_err(text)?),
            _ => None,
        };
        if let Some(model) = &model {
            model.settle(&root).map_err(text)?;
        }
        if let Some(mount) = &mount {
            mount.sync()?;
        }
        Ok(Self {
            kind,
            home: Home { root },
            model,
            mount,
            skip: None,
        })
    }

    fn skipping(mut self, word: Option<&str>) -> Self {
        self.skip = word.map(str::to_owned);
        self
    }

    fn environment(&self) -> Vec<(String, String)> {
        let model = self
            .model
            .as_ref()
            .map(|model| model.environment(&self.home.root))
            .unwrap_or_default();
        let skip = self
            .skip
            .iter()
            .map(|word| ("LOSS_SKIP".to_owned(), word.clone()));
        model.into_iter().chain(skip).collect()
    }

    fn cut(&mut self, server: Server) -> Result<(), String> {
        match self.kind {
            Kind::Kill => server.kill(),
            Kind::Loss => {
                server.kill();
                let model = self.model.as_ref().ok_or("the model is there")?;
                model
                    .cut(&self.home.root)
                    .map_err(|error| error.to_string())?;
            }
            Kind::Cut(_) => {
                let mount = self.mount.as_ref().ok_or("the mount is there")?;
                mount.shut_down()?;
                server.kill();
                mount.again()?;
            }
        }
        Ok(())
    }

    /// Cuts a server off that may still be recovering.
    fn cut_recovery(&mut self, after: Duration) -> Result<(), String> {
        let mut child = process::command(&self.home)
            // With its own child, which opens the database: when a machine dies, so do both.
            .process_group(0)
            .args(["serve", "--listen", "127.0.0.1:0", "--ledger"])
            .arg(self.home.data())
            .envs(self.environment())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .map_err(|error| error.to_string())?;
        let until = Instant::now() + after;
        while Instant::now() < until
            && child
                .try_wait()
                .map_err(|error| error.to_string())?
                .is_none()
        {
            std::thread::yield_now();
        }
        match self.kind {
            Kind::Kill => {
                drop(child.kill());
                drop(child.wait());
            }
            Kind::Loss | Kind::Cut(_) => {
                process::kill_group(child).map_err(|error| error.to_string())?
            }
        }
        match (&self.model, &self.mount) {
            (Some(model), _) => model
                .cut(&self.home.root)
                .map_err(|error| error.to_string()),
            (None, Some(mount)) => mount.shut_down().and_then(|()| mount.again()),
            (None, None) => Ok(()),
        }
    }
}

/// Room for a hundred cycles of load, with databases that were moved aside. Most of it is a hole.
const IMAGE_BYTES: u64 = 4 << 30;
/// How long a file system may stay busy after its last process has died.
const BUSY_LIMIT: Duration = Duration::from_secs(20);

/// A loop-mounted file system that can lose its power.
struct Mount {
    image: PathBuf,
    point: PathBuf,
    file_system: &'static str,
}

impl Mount {
    fn make(base: &Path, file_system: &'static str) -> Result<Self, String> {
        let mount = Self {
            image: base.join("image"),
            point: base.join("mount"),
            file_system,
        };
        // What an earlier run left that was killed.
        drop(sh("umount", &[&mount.point]));
        fs::create_dir_all(&mount.point).map_err(|error| error.to_string())?;
        drop(fs::remove_file(&mount.image));
        let image = fs::File::create(&mount.image).map_err(|error| error.to_string())?;
        image
            .set_len(IMAGE_BYTES)
            .map_err(|error| error.to_string())?;
        let (program, flag) = if file_system == "xfs" {
            ("mkfs.xfs", "-q")
        } else {
            ("mkfs.ext4", "-q")
        };
        sh(program, &[Path::new(flag), &mount.image])?;
        mount.mount()?;
        Ok(mount)
    }

    fn mount(&self) -> Result<(), String> {
        sh(
            "mount",
            &[
                Path::new("-t"),
                Path::new(self.file_system),
                Path::new("-o"),
                Path::new("loop"),
                &self.image,
                &self.point,
            ],
        )
    }

    fn sync(&self) -> Result<(), String> {
        sh("sync", &[Path::new("-f"), &self.point])
    }

    /// No more reaches the disk, and what the kernel still held is gone. Only ever of a file system of our own: what the
    /// point lies on may be that of the machine.
    fn shut_down(&self) -> Result<(), String> {
        let device = |path: &Path| fs::metadata(path).map(|it| it.dev());
        let (here, above) = (device(&self.point), device(&self.image));
        match (here, above) {
            (Ok(here), Ok(above)) if here != above => {}
            _ => return Err(format!("nothing is mounted at {}", self.point.display())),
        }
        sh(
            "xfs_io",
            &[
                Path::new("-x"),
                Path::new("-c"),
                Path::new("shutdown"),
                &self.point,
            ],
        )
    }

    fn again(&self) -> Result<(), String> {
        let start = Instant::now();
        while let Err(busy) = sh("umount", &[&self.point]) {
            if start.elapsed() > BUSY_LIMIT {
                return Err(busy);
            }
        }
        self.mount()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        drop(sh("umount", &[&self.point]));
    }
}

fn sh(program: &str, arguments: &[&Path]) -> Result<(), String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}

/// Small, seeded, and good enough to choose moments (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit.max(1)
    }
}

#[expect(clippy::print_stderr, reason = "a program that talks to a person")]
fn report(line: &str) {
    eprintln!("{line}");
}
