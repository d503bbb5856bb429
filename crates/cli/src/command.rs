//! One file a command, each reading like a sentence: ask, then show.
use crate::{
    Ended,
    args::Command,
    context::Context,
    exit::{Exit, Failure},
};

mod basis;

mod carry;
mod contexts;
mod delivery;
mod demo;
mod doctor;
mod emit;
mod event;
mod identity;
mod import;
mod import_git;
mod ledger;
mod log;
mod record;
mod run;
mod serve;
mod shell;
mod status;
mod token;
mod trace;
mod try_it;

mod verify;

pub(crate) use run::run_unrecorded;

/// Runs one command, or stops it at Ctrl-C.
pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Ended> {
    match command {
        // These end in their own way when they are told to stop.
        Command::Run(args) => run::run(context, *args).await,
        Command::Serve(args) => serve::run(context, args).await,
        Command::Try(args) => try_it::run(context, args).await,
        command => run_until_interrupted(context, command).await,
    }
}

async fn run_until_interrupted(context: &Context, command: Command) -> Result<(), Ended> {
    tokio::select! {
        result = dispatch(context, command) => result,
        _ = tokio::signal::ctrl_c() => Err(Failure::said(Exit::Interrupted).into()),
    }
}

async fn dispatch(context: &Context, command: Command) -> Result<(), Ended> {
    match command {
        Command::Emit(args) => emit::run(context, *args).await?,
        Command::Import(command) => import::run(context, command).await?,
        Command::Ledger(command) => ledger::run(context, &command)?,
        Command::Context(command) => contexts::run(context, &command)?,
        Command::Token(command) => token::run(context, command)?,
        Command::Log(args) => log::run(context, args).await?,
        Command::Event(command) => event::run(context, command).await?,
        Command::Trace(args) => trace::run(context, args).await?,
        Command::Delivery(args) => delivery::run(context, args).await?,
        Command::Doctor => doctor::run(context).await?,
        Command::Status(args) => status::run(context, args).await?,
        Command::Verify(args) => verify::run(context, &args)?,
        Command::Export(args) => carry::export(context, &args)?,
        Command::Restore(args) => carry::restore(context, &args)?,
        Command::Completion { shell } => shell::completion(context, shell)?,
        Command::Version => shell::version(context)?,
        // Told apart before, in `run` and in `main`.
        Command::Run(_) | Command::Serve(_) | Command::Try(_) | Command::ProbeDatabase { .. } => {}
    }
    Ok(())
}
