//! `bench`: figures as ratios against a peer in the same run (DESIGN 8). Starts PostgreSQL and the ledger itself.
use std::process::ExitCode;

use clap::Parser;
use waybill_tests::bench::{self, Size};

/// Measures a real ledger beside a real PostgreSQL, the bare disk and a bare consumer, and prints one table.
#[derive(Parser)]
#[command(name = "bench")]
struct Arguments {
    /// Events that the ledger and the table hold before anything is measured.
    #[arg(long, default_value_t = 1_000_000)]
    held: u64,
    /// Events of each measured append.
    #[arg(long, default_value_t = 300_000)]
    events: u64,
    /// Rows to measure, by the word in the first column; all where nothing is said.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// What goes through JetStream, with each nats-server of this machine, and what TLS and tokens cost, in place of the rest.
    #[arg(long)]
    stream: bool,
    /// A git repository for the import; a generated one of 20,000 commits where nothing is said.
    #[arg(long)]
    repository: Option<std::path::PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let size = Size {
        held: arguments.held,
        events: arguments.events,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let done = runtime
        .map_err(|error| error.to_string())
        .and_then(|runtime| match arguments.stream {
            true => runtime.block_on(bench::run_streams(size.events, &arguments.only)),
            false => runtime.block_on(bench::run(
                &size,
                &arguments.only,
                arguments.repository.as_deref(),
            )),
        });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            bench::say(&format!("bench cannot go on: {error}"));
            ExitCode::FAILURE
        }
    }
}
