//! What may be typed about tokens.
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and print it, this once; the file keeps its hash
    New(NewTokenArgs),
    /// List the tokens of a file, without the tokens themselves
    Ls {
        #[command(flatten)]
        file: TokenFileArgs,
    },
    /// Take a token back; a running server hears it within a second
    Revoke {
        /// Name of the token
        name: String,
        #[command(flatten)]
        file: TokenFileArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct NewTokenArgs {
    /// Who will bear it; recorded with every event that it emits
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
    /// What it may do
    #[arg(long, value_enum, value_name = "ROLE")]
    pub(crate) role: TokenRole,
    /// A source that it may emit for, `//ci.acme.dev/shop`, or all that begin so, `//ci.acme.dev/*`; again for more
    #[arg(long, value_name = "SOURCE", required_if_eq("role", "emit"))]
    pub(crate) source: Vec<String>,
    /// How long it counts: 90d, 12h; without it, until it is revoked
    #[arg(long, value_name = "LENGTH")]
    pub(crate) expires: Option<String>,
    #[command(flatten)]
    pub(crate) file: TokenFileArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TokenFileArgs {
    /// File of the server's tokens, made where it is missing; default WAYBILL_TOKENS
    #[arg(long = "tokens", value_name = "FILE")]
    pub(crate) path: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TokenRole {
    /// Emit for its sources, and fetch the receipts of their events
    Emit,
    /// Ask everything, change nothing
    Read,
    /// Everything, an operator's decisions too
    Operate,
}
