//! A broker and a ledger on its stream, on addresses that stay the same over kills.
use std::{
    io,
    path::Path,
    process::{Command, Output},
};

use tempfile::TempDir;
use waybill_fixture::nats::{self, Options, free_port};

use crate::process::{self, Home, Server};

/// The stream that a ledger follows where nothing else is said.
pub const STREAM: &str = "WAYBILL_EVENTS";

/// A broker, and a directory for ledgers beside it.
pub struct Bed {
    /// The broker.
    pub broker: nats::Server,
    dir: TempDir,
}

impl Bed {
    /// Starts a broker.
    #[must_use]
    pub fn new(binary: &Path) -> Self {
        Self::with(binary, Options::default())
    }

    /// Starts a broker of this configuration.
    ///
    /// # Panics
    /// Where it does not start.
    #[must_use]
    pub fn with(binary: &Path, options: Options<'_>) -> Self {
        Self {
            broker: nats::Server::start(binary, options),
            dir: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    /// A ledger of this name, which was not served yet.
    ///
    /// # Panics
    /// Where its directory cannot be made.
    #[must_use]
    pub fn ledger(&self, name: &str) -> Place {
        let root = self.dir.path().join(name);
        std::fs::create_dir_all(&root).expect("a directory is made");
        Place {
            home: Home { root },
            address: format!("127.0.0.1:{}", free_port()),
            nats: self.broker.url(),
            arguments: Vec::new(),
        }
    }

    /// Where files can be put beside the ledgers.
    #[must_use]
    pub fn beside(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }
}

/// Where a ledger is, and how it is served.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its directories.
    pub home: Home,
    /// Where it listens, every time.
    pub address: String,
    /// The broker's address, or that of something between.
    pub nats: String,
    /// Further arguments of `serve`.
    pub arguments: Vec<String>,
}

impl Place {
    /// The same with further arguments.
    #[must_use]
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments
            .extend(arguments.iter().map(ToString::to_string));
        self
    }

    /// `http://127.0.0.1:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Serves it on the stream.
    ///
    /// # Errors
    /// What the process said, when it ended instead.
    pub fn serve(&self) -> io::Result<Server> {
        let arguments = self.arguments.iter().map(String::as_str);
        let arguments: Vec<&str> = ["--nats", &self.nats]
            .into_iter()
            .chain(arguments)
            .collect();
        Server::start_at(&self.address, &self.home, &[], &arguments)
    }

    /// Serves it without a stream.
    ///
    /// # Errors
    /// As [`Place::serve`].
    pub fn serve_alone(&self) -> io::Result<Server> {
        Server::start_at(&self.address, &self.home, &[], &[])
    }

    /// The command, asking this ledger's server.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = process::command(&self.home);
        command.env("WAYBILL_SERVER", self.url());
        command
    }

    /// Runs the command, asking this ledger's server.
    ///
    /// # Panics
    /// Where it cannot be run.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Output {
        let output = self.command().args(arguments).output();
        output.expect("waybill runs")
    }

    /// What the command says on stdout; it must succeed.
    ///
    /// # Panics
    /// Where it fails, with what it said.
    #[must_use]
    pub fn told(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}
