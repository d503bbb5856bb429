//! A pipeline that tells: what CI says of itself is recorded, a ledger that is away breaks nothing, and a command that
//! deploys is recorded whatever becomes of it.
use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use tokio::net::TcpSocket;
use waybill_tests::process::Server;

use crate::{
    kit::Bed,
    machine::{Machine, Said, run},
};

mod away;
mod ci;
mod run_deploy;
mod shallow;

const SHA: &str = "1f2e3d4c5b6a79880112233445566778899aabbc";

const GITHUB: &[(&str, &str)] = &[
    ("CI", "true"),
    ("GITHUB_ACTIONS", "true"),
    ("GITHUB_SERVER_URL", "https://github.com"),
    ("GITHUB_REPOSITORY", "acme/shop"),
    ("GITHUB_SHA", SHA),
    ("GITHUB_RUN_ID", "8412"),
    ("GITHUB_RUN_ATTEMPT", "2"),
    ("GITHUB_JOB", "deploy"),
];

const GITLAB: &[(&str, &str)] = &[
    ("CI", "true"),
    ("GITLAB_CI", "true"),
    ("CI_PIPELINE_ID", "77"),
    ("CI_JOB_NAME", "deploy"),
    ("CI_JOB_ID", "9001"),
    ("CI_JOB_URL", "https://gitlab.com/acme/shop/-/jobs/9001"),
    ("CI_PROJECT_URL", "https://gitlab.com/acme/shop"),
    ("CI_COMMIT_SHA", SHA),
];

const DEPLOY: &[&str] = &["emit", "deploy", "checkout", "--env", "prod"];

/// A machine whose commands ask one ledger, which may be away.
struct Pipeline {
    machine: Machine,
    bed: Bed,
    /// Where the ledger is, or will be.
    address: String,
    /// Bound and never listening: a connection is refused, and nobody else is given the port.
    _reserved: TcpSocket,
    server: Option<Server>,
    directory: PathBuf,
    variables: Vec<(String, String)>,
}

impl Pipeline {
    /// The ledger is away: its address is known, and nobody is there.
    fn away() -> Self {
        let machine = Machine::new();
        let reserved = TcpSocket::new_v4().unwrap();
        reserved.set_reuseaddr(true).unwrap();
        reserved.bind(([127, 0, 0, 1], 0).into()).unwrap();
        Self {
            directory: machine.work(),
            machine,
            bed: Bed::new(),
            address: reserved.local_addr().unwrap().to_string(),
            _reserved: reserved,
            server: None,
            variables: Vec::new(),
        }
    }

    fn new() -> Self {
        let mut pipeline = Self::away();
        pipeline.come_back();
        pipeline
    }

    fn come_back(&mut self) {
        let server = Server::start_at(&self.address, &self.bed.home, &[], &[]);
        self.server = Some(server.unwrap());
    }

    fn go_away(&mut self) {
        let server = self.server.take().unwrap();
        assert_eq!(server.stop().unwrap(), Some(0));
    }

    /// From here on in this system's environment.
    fn in_ci(mut self, variables: &[(&str, &str)]) -> Self {
        self.set(variables);
        self
    }

    fn set(&mut self, variables: &[(&str, &str)]) {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.variables.extend(variables.iter().map(owned));
    }

    fn at(mut self, directory: &Path) -> Self {
        self.directory = directory.to_owned();
        self
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.machine.waybill();
        command
            .current_dir(&self.directory)
            .env("WAYBILL_SERVER", format!("http://{}", self.address))
            .envs(self.variables.iter().cloned())
            .args(arguments);
        command
    }

    fn say(&self, arguments: &[&str]) -> Said {
        run(&mut self.command(arguments))
    }

    /// `run deploy checkout` of a shell script.
    fn deploy(&self, script: &str) -> Said {
        self.say(&[
            "run", "deploy", "checkout", "--env", "prod", "--", "sh", "-c", script,
        ])
    }

    /// What is recorded, without the ledger's own book-keeping.
    fn recorded(&self) -> Vec<Value> {
        let url = format!("http://{}", self.address);
        let mut events = self.machine.recorded(["--server", &url]);
        events.retain(|event| !event["kind"].as_str().unwrap().starts_with("ledger."));
        events
    }
}

/// A field of a JSON value by its path: `a.b.0.c`.
fn at<'v>(value: &'v Value, path: &str) -> &'v Value {
    let pointer = format!("/{}", path.replace('.', "/"));
    value.pointer(&pointer).unwrap_or(&Value::Null)
}

/// These fields of a JSON value; a test compares them with what it expects as one value.
fn fields(value: &Value, paths: &[&str]) -> Value {
    let field = |path: &&str| ((*path).to_owned(), at(value, path).clone());
    Value::Object(paths.iter().map(field).collect())
}

fn each<'v>(events: &'v [Value], path: &str) -> Vec<&'v Value> {
    events.iter().map(|event| at(event, path)).collect()
}
