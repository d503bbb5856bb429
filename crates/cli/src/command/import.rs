//! `import`: history that exists elsewhere. What is recorded already is recognised, so that importing again is safe.
use crate::{args::ImportCommand, context::Context, exit::Failure};

mod ndjson;

/// Imports what was named.
pub(crate) async fn run(context: &Context, command: ImportCommand) -> Result<(), Failure> {
    match command {
        ImportCommand::Git(args) => super::import_git::run(context, args).await,
        ImportCommand::Ndjson { file } => ndjson::run(context, &file).await,
    }
}
