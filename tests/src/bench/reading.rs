//! Proofs, memory, disk, restart, rebuild, and the import of a git repository.
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use waybill_proto::pb::{
    DeliveryRequest, GetInclusionProofRequest, GetStatusRequest, ReadState, TraceRequest,
    delivery_service_client::DeliveryServiceClient, ledger_service_client::LedgerServiceClient,
    trace_service_client::TraceServiceClient,
};
use waybill_store::database::Database;

use super::{Row, append, events, per_second, quantile, rate, say, text};
use crate::process::{self, Home, Server};

/// Questions asked for one figure.
const ROUNDS: u64 = 1000;
/// Records that a scan holds at once.
const SCAN_EVENTS: usize = 4000;

/// p99 of an inclusion proof over gRPC, and of trace and delivery.
pub(crate) async fn proofs(url: &str) -> Result<Row, String> {
    say("proof: inclusion over gRPC");
    let mut client = LedgerServiceClient::connect(url.to_owned())
        .await
        .map_err(text)?;
    let held = append::durable(url).await?;
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let position = 1 + (round * 7_919_993) % held;
        let start = Instant::now();
        client
            .get_inclusion_proof(GetInclusionProofRequest {
                position,
                tree_size: 0,
            })
            .await
            .map_err(text)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(Row {
        what: "inclusion proof, p99",
        ours: format!("{:.2} ms", quantile(&mut times, 0.99)),
        peer: String::new(),
        ratio: String::new(),
        reach: "<= 1 ms",
    })
}

/// p99 of trace and of delivery over a year for one service.
pub(crate) async fn questions(url: &str) -> Result<Vec<Row>, String> {
    say("questions: trace and delivery over gRPC");
    let mut trace = TraceServiceClient::connect(url.to_owned())
        .await
        .map_err(text)?;
    let mut delivery = DeliveryServiceClient::connect(url.to_owned())
        .await
        .map_err(text)?;
    let (mut traced, mut delivered) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let number = round * 10 + 6;
        let reference = format!("deployment:{}/d-{number}", events::service(number));
        let start = Instant::now();
        trace
            .trace(TraceRequest {
                r#ref: reference,
                ..Default::default()
            })
            .await
            .map_err(text)?;
        traced.push(start.elapsed().as_secs_f64() * 1e3);
    }
    for round in 0..ROUNDS / 10 {
        let service = events::service(round * 10);
        let end = events::event(900_000).occur_time;
        let begin = end.map(|it| prost_types::Timestamp {
            seconds: it.seconds - 365 * 86_400,
            nanos: 0,
        });
        let request = DeliveryRequest {
            service,
            start_time: begin,
            end_time: end,
            ..Default::default()
        };
        let start = Instant::now();
        delivery.delivery(request).await.map_err(text)?;
        delivered.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let row = |what, times: &mut Vec<f64>, reach| Row {
        what,
        ours: format!("{:.2} ms", quantile(times, 0.99)),
        peer: String::new(),
        ratio: String::new(),
        reach,
    };
    Ok(vec![
        row("trace, p99", &mut traced, "<= 1 ms"),
        row("delivery over 12 months, p99", &mut delivered, "<= 5 ms"),
    ])
}

/// Resident memory of the server for each event it holds.
pub(crate) async fn memory(server: &Server, what: &'static str) -> Result<Row, String> {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).map_err(text)?;
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .ok_or("no VmRSS here")?;
    let kib: u64 = line
        .split_whitespace()
        .nth(1)
        .and_then(|it| it.parse().ok())
        .ok_or("VmRSS is a number")?;
    let held = append::durable(&server.url).await?;
    Ok(Row {
        what,
        ours: format!("{} B", kib * 1024 / held),
        peer: format!("{} MiB for {held} events", kib / 1024),
        ratio: String::new(),
        reach: "<= 200 B at 10 M",
    })
}

/// Journal and database on disk against the raw bytes of the events; what the views keep may be deleted, and is named.
pub(crate) async fn disk(home: &Home, url: &str) -> Result<Row, String> {
    let held = append::durable(url).await?;
    let raw = held * append::raw_bytes_per_event();
    let journal = bytes_below(&home.data().join("journal"))?;
    let sled = bytes_below(&home.data().join("sled"))?;
    let views = home.data().join("views");
    let views = if views.exists() {
        bytes_below(&views)?
    } else {
        0
    };
    Ok(Row {
        what: "disk, journal and sled",
        ours: format!("{} + {} MiB", journal >> 20, sled >> 20),
        peer: format!("raw {} MiB (views {} MiB)", raw >> 20, views >> 20),
        ratio: format!(
            "{:.2}x",
            per_second(journal + sled, 1.0) / per_second(raw, 1.0)
        ),
        reach: "<= 1.3x",
    })
}

fn bytes_below(directory: &Path) -> Result<u64, String> {
    let output = Command::new("du")
        .args(["-s", "--block-size=1"])
        .arg(directory)
        .output()
        .map_err(text)?;
    let text_of = String::from_utf8_lossy(&output.stdout).into_owned();
    text_of
        .split_whitespace()
        .next()
        .and_then(|it| it.parse().ok())
        .ok_or_else(|| "du answers a number".to_owned())
}

/// A restart after kill -9, one without what the views keep, and one without a database.
pub(crate) async fn restart(home: &Home, server: Server) -> Result<(Server, Vec<Row>), String> {
    say("restart: after kill -9, then without the views' file, then without the database");
    let held = append::durable(&server.url).await?;
    server.kill();
    let (server, emits, questions) = started(home).await?;
    let mut rows = vec![
        plain(
            "restart after a kill, to emits",
            format!("{emits:.2} s"),
            "<= 5 s at 10 M",
        ),
        plain("  to questions", format!("{questions:.2} s"), ""),
        memory(&server, "  memory then, for each event").await?,
    ];
    server.kill();
    fs::remove_dir_all(home.data().join("views"))
        .or_else(absent)
        .map_err(text)?;
    let scan = scan(home, held)?;
    let (server, _, folded) = started(home).await?;
    rows.push(Row {
        what: "views folded from disk",
        ours: rate(held, folded),
        peer: format!("read and decoded only {}", rate(held, scan)),
        ratio: format!("{:.2}x", scan / folded),
        reach: ">= 500 k/s",
    });
    server.kill();
    fs::remove_dir_all(home.data().join("sled")).map_err(text)?;
    let start = Instant::now();
    let server = Server::start(home, &[]).map_err(text)?;
    let rebuild = start.elapsed().as_secs_f64();
    rows.push(plain(
        "full rebuild of sled",
        rate(held, rebuild),
        ">= 300 k/s",
    ));
    Ok((server, rows))
}

fn plain(what: &'static str, ours: String, reach: &'static str) -> Row {
    Row {
        what,
        ours,
        peer: String::new(),
        ratio: String::new(),
        reach,
    }
}

fn absent(error: std::io::Error) -> std::io::Result<()> {
    match error.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    }
}

/// Starts a server; seconds until it took an event, and until it answered questions.
async fn started(home: &Home) -> Result<(Server, f64, f64), String> {
    let start = Instant::now();
    let server = Server::start(home, &[]).map_err(text)?;
    append::fill(&server.url, 1).await?;
    let emits = start.elapsed().as_secs_f64();
    until_questions(&server.url).await?;
    Ok((server, emits, start.elapsed().as_secs_f64()))
}

/// Seconds to read and parse everything that the database of a stopped server holds, on one thread, and do nothing with it.
fn scan(home: &Home, held: u64) -> Result<f64, String> {
    let options = waybill_store::database::Options::default();
    let boot_id = waybill_store::place::boot_id();
    let start = Instant::now();
    let opened = Database::open(&home.data().join("sled"), &options, boot_id.as_deref());
    let database = opened.map_err(text)?.database;
    let mut next = 1;
    while next <= held {
        for record in database.records(next..=held, SCAN_EVENTS).map_err(text)? {
            std::hint::black_box(waybill_proto::parse::parse(&record.bytes).map_err(text)?);
            next = record.position + 1;
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    database.close();
    Ok(seconds)
}

async fn until_questions(url: &str) -> Result<(), String> {
    let mut client = LedgerServiceClient::connect(url.to_owned())
        .await
        .map_err(text)?;
    loop {
        let status = client
            .get_status(GetStatusRequest {})
            .await
            .map_err(text)?
            .into_inner();
        if status.questions() == ReadState::Serving {
            return Ok(());
        }
        tokio::time::timeout(
            std::time::Duration::from_millis(5),
            std::future::pending::<()>(),
        )
        .await
        .unwrap_or_default();
    }
}

/// `waybill import git` beside `git log --numstat` with the same diff settings.
pub(crate) fn import(directory: &Path, repository: Option<&Path>) -> Result<Row, String> {
    say("import: a git repository");
    let generated = directory.join("repository");
    let repository = match repository {
        Some(repository) => repository.to_owned(),
        None => generate(&generated, 20_000)?,
    };
    let git = || {
        let mut log = Command::new("git");
        log.arg("-C")
            .arg(&repository)
            .args([
                "-c",
                "diff.renames=true",
                "log",
                "--all",
                "-M",
                "--numstat",
                "-z",
            ])
            .stdout(Stdio::null());
        log
    };
    timed(git())?;
    let theirs = timed(git())?;
    let home = Home {
        root: directory.join("import"),
    };
    fs::create_dir_all(&home.root).map_err(text)?;
    let mut ours = process::command(&home);
    ours.args(["import", "git"])
        .arg(&repository)
        .arg("--ledger")
        .arg(home.data())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let ours = timed(ours)?;
    Ok(Row {
        what: "git import",
        ours: format!("{ours:.2} s"),
        peer: format!("git log --numstat {theirs:.2} s"),
        ratio: format!("{:.2}x", ours / theirs),
        reach: "<= 1.5x",
    })
}

fn timed(mut command: Command) -> Result<f64, String> {
    let start = Instant::now();
    let status = command.status().map_err(text)?;
    if status.success() {
        Ok(start.elapsed().as_secs_f64())
    } else {
        Err(format!("{command:?} ended with {status}"))
    }
}

/// A straight history in which every commit changes three files of a hundred.
fn generate(path: &Path, commits: u64) -> Result<PathBuf, String> {
    use std::io::Write;
    fs::create_dir_all(path).map_err(text)?;
    let init = Command::new("git")
        .args(["init", "--quiet", "--initial-branch=main"])
        .arg(path)
        .status()
        .map_err(text)?;
    let mut child = Command::new("git")
        .arg("-C")
        .arg(path)
        .args(["fast-import", "--quiet"])
        .stdin(Stdio::piped())
        .spawn()
        .map_err(text)?;
    let mut input = std::io::BufWriter::new(child.stdin.take().ok_or("stdin is piped")?);
    for number in 0..commits {
        let message = format!("step {number}: make the cart quicker");
        let when = 1_600_000_000 + number * 600;
        writeln!(
            input,
            "commit refs/heads/main\nmark :{}\ncommitter A <a@example.org> {when} +0000",
            number + 1
        )
        .map_err(text)?;
        writeln!(input, "data {}\n{message}", message.len()).map_err(text)?;
        for file in 0..3 {
            let body: String = (0..40)
                .map(|line| format!("line {line} of {}\n", number * 3 + file + line / 30))
                .collect();
            writeln!(
                input,
                "M 100644 inline src/{}.rs\ndata {}\n{body}",
                (number * 7 + file * 31) % 100,
                body.len()
            )
            .map_err(text)?;
        }
    }
    drop(input);
    let done = child.wait().map_err(text)?;
    if init.success() && done.success() {
        Ok(path.to_owned())
    } else {
        Err("git fast-import failed".to_owned())
    }
}
