//! The `waybill` command: what was typed becomes a question or an event, and the answer becomes lines for people or
//! proto3 JSON for programs.
//!
//! Refuses to know: how answers are made. Reading order: [`args`] (what may be typed), [`exit`] (how it ends),
//! [`context`] (settings, output, clock), [`contexts`] (servers with names, and their tokens), [`source`] (a server, or a directory that is served to this process), then
//! one file a command in [`command`]. Beside them: [`when`] (the grammar of moments), [`output`], [`table`], [`words`],
//! [`json`], [`progress`], [`config`], [`private`].

mod args;
mod ci_env;
mod command;
mod config;
mod context;
mod contexts;
mod exit;
mod git;
mod house;
mod import_git;
mod json;
mod output;
mod private;
mod progress;
mod source;
mod table;
mod when;
mod words;

use std::{path::Path, process::ExitCode};

use clap::{Parser as _, error::ErrorKind};

use crate::{
    args::{Cli, Command},
    context::Context,
    exit::{Exit, Failure},
};

/// A server makes and drops many small things on several threads; the system's allocator keeps a third of what they took.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return show_usage(&error),
    };
    match start(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Ended::Failure(failure)) => tell(&failure),
        Err(Ended::Code(code)) => ExitCode::from(code),
    }
}

/// How a run ends when it is not plainly well.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Something to tell.
    Failure(Failure),
    /// A code that is passed on from a command that we ran.
    Code(u8),
}

impl<F: Into<Failure>> From<F> for Ended {
    fn from(failure: F) -> Self {
        Self::Failure(failure.into())
    }
}

fn start(cli: Cli) -> Result<(), Ended> {
    if let Command::ProbeDatabase { directory } = &cli.command {
        return probe(directory);
    }
    let context = Context::new(cli.global);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::unexpected(format!("cannot start: {error}")))?;
    let result = match (context, cli.command) {
        (Ok(context), command) => runtime.block_on(command::run(&context, command)),
        // A settings file that somebody broke stops no deployment: it only goes unrecorded.
        (Err(failure), Command::Run(args)) => {
            runtime.block_on(command::run_unrecorded(&args, &failure))
        }
        (Err(failure), _) => Err(failure.into()),
    };
    // A thread may still wait for standard input or for a child; the process ends all the same.
    runtime.shutdown_background();
    result
}

/// Opens a database in this process, which may die of it; the ledger that started it reads the exit code.
fn probe(directory: &Path) -> Result<(), Ended> {
    match waybill_ledger::probe_main(directory) {
        0 => Ok(()),
        code => Err(Ended::Code(u8::try_from(code).unwrap_or(1))),
    }
}

/// Says what failed, and on the last line what to do.
fn tell(failure: &Failure) -> ExitCode {
    if !failure.is_quiet() {
        output::insist(format!("error: {failure}"));
        if !failure.hint().is_empty() {
            output::insist(format!("hint: {}", failure.hint()));
        }
    } else if failure.exit() == Exit::Interrupted {
        output::insist("interrupted");
    }
    ExitCode::from(failure.code())
}

/// Help goes to stdout and is well; everything else goes to stderr and is a usage error.
fn show_usage(error: &clap::Error) -> ExitCode {
    let printed = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion if printed.is_ok() => ExitCode::SUCCESS,
        _ => ExitCode::from(Exit::Usage as u8),
    }
}
