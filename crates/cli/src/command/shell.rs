//! `completion` and `version`: what the shell and people ask about the program itself.
use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::{args::Cli, context::Context, exit::Failure};

/// Prints a completion script.
pub(crate) fn completion(context: &Context, shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "waybill", &mut script);
    context.out.bytes(&script)
}

/// Prints the version.
pub(crate) fn version(context: &Context) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    if context.out.json {
        return context
            .out
            .line(serde_json::json!({ "version": version }).to_string());
    }
    context.out.line(format!("waybill {version}"))
}
