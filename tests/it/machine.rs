//! A machine as a pipeline or a person has it: a home of its own, nothing of ours in the environment, and git as nobody
//! has configured it.
use std::{
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;
use waybill_tests::process;

/// How long something may take that must come by itself.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a command of this machine runs, and what it finds there.
pub(crate) struct Machine {
    dir: TempDir,
}

/// How a command ended and what it said.
#[derive(Debug)]
pub(crate) struct Said {
    /// `None` where a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Machine {
    /// Its paths hold a space, as those of some people do.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let machine = Self { dir };
        for directory in [machine.home(), machine.work()] {
            fs::create_dir(directory).unwrap();
        }
        machine
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.path("a home")
    }

    /// Where commands run; no repository.
    pub(crate) fn work(&self) -> PathBuf {
        self.path("work")
    }

    /// What Waybill keeps on this machine.
    pub(crate) fn kept(&self) -> PathBuf {
        self.home().join("state/waybill")
    }

    /// A program with this machine's environment and no other.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command
            .env_clear()
            .env("PATH", env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home())
            .env("XDG_STATE_HOME", self.home().join("state"))
            .env("XDG_CONFIG_HOME", self.home().join("config"))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .current_dir(self.work())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn waybill(&self) -> Command {
        self.command(process::waybill())
    }

    /// Everything that a ledger holds, its own book-keeping too. A list shows an event a moment after its receipt, so this
    /// asks until it shows the last one.
    pub(crate) fn recorded(&self, place: [&str; 2]) -> Vec<Value> {
        let ask = |arguments: &[&str]| run(self.waybill().args(arguments).args(place));
        let status: Value = serde_json::from_str(&ask(&["status", "--json"]).well()).unwrap();
        let begin = Instant::now();
        loop {
            let events = ask(&["log", "--all", "--jsonl"]).lines();
            let last = events.last().map(|event| &event["position"]);
            if last == Some(&status["durablePosition"]) {
                return events;
            }
            assert!(
                begin.elapsed() < PATIENCE,
                "{last:?} is the last, of {status}"
            );
        }
    }

    /// What git answers; it has to succeed.
    pub(crate) fn git(&self, directory: &Path, arguments: &[&str]) -> String {
        let who = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org"];
        let git = run(self
            .command("git")
            .current_dir(directory)
            .args(who)
            .args(arguments));
        assert_eq!(git.code, Some(0), "git {arguments:?}: {git:?}");
        git.out.trim_end().to_owned()
    }

    /// A repository of this history, as `git fast-import` reads it, with its main branch checked out.
    pub(crate) fn repository(&self, name: &str, history: &str) -> PathBuf {
        let path = self.path(name);
        self.git(self.dir.path(), &["init", "-q", "-b", "main", name]);
        self.grow(&path, history);
        path
    }

    /// Goes on with a repository's history.
    pub(crate) fn grow(&self, repository: &Path, history: &str) {
        let mut import = self
            .command("git")
            .current_dir(repository)
            .args(["fast-import", "--quiet"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stream = import.stdin.take().unwrap();
        stream.write_all(history.as_bytes()).unwrap();
        drop(stream);
        assert!(import.wait().unwrap().success(), "the history is imported");
        self.git(repository, &["reset", "-q", "--hard"]);
    }
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Said {
    Said::of(&command.output().unwrap())
}

impl Said {
    pub(crate) fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            code: output.status.code(),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    /// Standard output, when the command went well.
    #[track_caller]
    pub(crate) fn well(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// One JSON value a line, when the command went well.
    #[track_caller]
    pub(crate) fn lines(self) -> Vec<Value> {
        let out = self.well();
        let value = |line| serde_json::from_str(line).unwrap();
        out.lines().map(value).collect()
    }
}
