//! What `bench` measures: each figure beside a peer in the same run, for machines drift and ratios do not.
//!
//! Reading order: this file (the list and the table), `events` (what is written), `postgres` (the peer), `floor`
//! (the bare disk), `append` (writing), `reading` (questions, proofs, restart, memory, disk, import), `broker` (a
//! real nats-server), `stream` (through JetStream), `door` (TLS and tokens).

mod append;
mod broker;
mod door;
mod events;
mod floor;
mod postgres;
mod reading;
mod stream;

use std::path::Path;

use waybill_fixture::nats;

use crate::process::{Home, Server};

/// How much is written.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Events held before anything is measured.
    pub held: u64,
    /// Events of each measured append.
    pub events: u64,
}

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was measured.
    pub what: &'static str,
    /// Our figure, with its unit.
    pub ours: String,
    /// The peer's figure, with its unit; empty where there is none.
    pub peer: String,
    /// Ours against the peer's.
    pub ratio: String,
    /// What was aimed at.
    pub reach: &'static str,
}

/// Measures and prints.
///
/// # Errors
/// What could not be started or asked.
pub async fn run(size: &Size, only: &[String], repository: Option<&Path>) -> Result<(), String> {
    let directory = tempfile::tempdir().map_err(text)?;
    let home = Home {
        root: directory.path().join("home"),
    };
    std::fs::create_dir_all(&home.root).map_err(text)?;
    let wanted = |word: &str| only.is_empty() || only.iter().any(|it| it == word);
    let mut rows = Vec::new();
    let mut server = Server::start(&home, &[]).map_err(text)?;
    say(&format!("filling the ledger with {} events", size.held));
    append::fill(&server.url, size.held).await?;
    let peer = postgres::Postgres::start(&directory.path().join("postgres"))?;
    if wanted("append") || wanted("stream") {
        say(&format!("filling PostgreSQL with {} rows", size.held));
        peer.fill(size.held).await?;
    }
    if wanted("append") {
        rows.push(append::batches(&server.url, &peer, size).await?);
    }
    if wanted("stream") {
        rows.push(append::singles(&server.url, &peer, size).await?);
    }
    if wanted("unary") {
        rows.push(append::unary(&server.url, directory.path()).await?);
    }
    if wanted("proof") {
        rows.push(reading::proofs(&server.url).await?);
    }
    if wanted("questions") {
        rows.extend(reading::questions(&server.url).await?);
    }
    if wanted("memory") {
        rows.push(reading::memory(&server, "memory for each event").await?);
    }
    if wanted("disk") {
        rows.push(reading::disk(&home, &server.url).await?);
    }
    if wanted("restart") {
        let (restarted, measured) = reading::restart(&home, server).await?;
        server = restarted;
        rows.extend(measured);
    }
    server.kill();
    if wanted("import") {
        rows.push(reading::import(directory.path(), repository)?);
    }
    heading();
    rows.iter().for_each(print);
    Ok(())
}

/// Measures what goes through JetStream, with each server of this machine, and what the open door costs; prints each row as
/// it is measured.
///
/// # Errors
/// What could not be started or asked.
pub async fn run_streams(events: u64, only: &[String]) -> Result<(), String> {
    let wanted = |word: &str| only.is_empty() || only.iter().any(|it| it == word);
    heading();
    for binary in nats::binaries() {
        show(&nats::named(&binary));
        if wanted("intake") {
            print(&stream::intake(&binary, events).await?);
        }
        if wanted("emit") {
            for (how, options, share) in syncs(&binary) {
                show(how);
                let rows = stream::emits(&binary, options, events / share).await?;
                rows.iter().for_each(print);
            }
        }
        if wanted("freeze") {
            print(&stream::rollback(&binary).await?);
            print(&stream::idle(&binary).await?);
        }
    }
    if wanted("door") {
        let directory = tempfile::tempdir().map_err(text)?;
        let rows = door::doors(directory.path(), events).await?;
        rows.iter().for_each(print);
    }
    Ok(())
}

/// How a server can be told to sync: what that is called, and which share of the events is sent, for one sync of each takes
/// its time.
fn syncs(binary: &Path) -> Vec<(&'static str, nats::Options<'static>, u64)> {
    let mut syncs = vec![("syncing now and then", nats::Options::default(), 10)];
    // Older servers do not know the word.
    if nats::is_at_least(binary, 2, 10) {
        let always = nats::Options {
            jetstream: "sync_interval: always",
            ..nats::Options::default()
        };
        syncs.push(("syncing before each acknowledgement", always, 150));
    }
    syncs
}

fn heading() {
    show(&format!(
        "{:<34} {:>18} {:>34} {:>8}  {}",
        "work", "waybill", "peer in the same run", "ratio", "to reach"
    ));
}

fn print(row: &Row) {
    show(&format!(
        "{:<34} {:>18} {:>34} {:>8}  {}",
        row.what, row.ours, row.peer, row.ratio, row.reach
    ));
}

/// Talk, on stderr.
#[expect(clippy::print_stderr, reason = "a program that talks to a person")]
pub fn say(line: &str) {
    eprintln!("{line}");
}

/// Data, on stdout.
#[expect(clippy::print_stdout, reason = "a program whose answer is a table")]
fn show(line: &str) {
    println!("{line}");
}

pub(crate) fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// A rate for people: `212 k/s`.
pub(crate) fn rate(events: u64, seconds: f64) -> String {
    format!("{:.1} k/s", per_second(events, seconds) / 1e3)
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) fn per_second(events: u64, seconds: f64) -> f64 {
    events as f64 / seconds
}

/// The value below which `share` of the sorted values lie (nearest rank).
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an index from a share"
)]
pub(crate) fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() as f64 * share).ceil() as usize;
    values
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or(f64::NAN)
}
