//! The git command: found, started with settings that do not change what it says, watched, and never left behind.
use std::{
    collections::VecDeque,
    ffi::OsString,
    io::{self, Read, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    thread::{self, JoinHandle},
};

use waybill_core::Refusal;

/// How much of what a process says on stderr is kept: the end, where git says why it stopped.
const SAID_BYTES_MAX: usize = 4 * 1024;

/// Variables that would point git at something other than the directory that was named, or change what it compares.
const VARIABLES_REMOVED: [&str; 17] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_SHALLOW_FILE",
    "GIT_REPLACE_REF_BASE",
    "GIT_EXTERNAL_DIFF",
    "GIT_DIFF_OPTS",
    "GIT_LITERAL_PATHSPECS",
    "GIT_GLOB_PATHSPECS",
    "GIT_NOGLOB_PATHSPECS",
    "GIT_ICASE_PATHSPECS",
    "GIT_DEFAULT_HASH",
];

/// The empty tree of each object format; git knows both without having them.
const EMPTY_TREE_SHA1: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
const EMPTY_TREE_SHA256: &str = "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321";

/// Why a repository cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is no git to ask.
    #[error("the `git` command cannot be started; install git, or put it on PATH")]
    GitMissing(#[source] io::Error),
    /// The directory is none, or holds no repository.
    #[error("`{}` is not a git repository: {said}", path.display())]
    NotARepository {
        /// As it was given.
        path: PathBuf,
        /// What is wrong with it.
        said: String,
    },
    /// A repository without a remote is named by its first commit, and there is none, or it cannot be seen.
    #[error(
        "`{}` has no remote, and its first commit is not here to name it; add a remote or a commit",
        path.display()
    )]
    Unnamed {
        /// As it was given.
        path: PathBuf,
    },
    /// A git process ended badly.
    #[error("`git {command}` ended with {status}: {said}")]
    Failed {
        /// Its first argument.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of its stderr.
        said: String,
    },
    /// A git process said something that its documentation does not promise.
    #[error("`git {command}` said something unexpected: {said}")]
    Unexpected {
        /// Its first argument.
        command: &'static str,
        /// What it said, shortened.
        said: String,
    },
    /// Talking to a git process failed.
    #[error("cannot talk to `git {command}`")]
    Pipe {
        /// Its first argument.
        command: String,
        /// What happened.
        #[source]
        error: io::Error,
    },
    /// The repository's or the service's name breaks a rule.
    #[error(transparent)]
    Name(#[from] Refusal),
}

/// The git command, in one directory.
#[derive(Clone, Debug)]
pub(super) struct Git {
    program: OsString,
    directory: PathBuf,
    empty_tree: &'static str,
}

impl Git {
    /// Finds the repository that `directory` is in.
    ///
    /// # Errors
    /// [`Error::GitMissing`], [`Error::NotARepository`], or [`Error::Failed`] with git's own words, as for a directory
    /// that belongs to somebody else.
    pub(super) fn open(directory: &Path) -> Result<Self, Error> {
        Self::open_with("git".into(), directory)
    }

    fn open_with(program: OsString, directory: &Path) -> Result<Self, Error> {
        let not = |said: &str| Error::NotARepository {
            path: directory.to_owned(),
            said: said.to_owned(),
        };
        if !directory.is_dir() {
            return Err(not("there is no such directory"));
        }
        let mut git = Self {
            program,
            directory: directory.to_owned(),
            empty_tree: EMPTY_TREE_SHA1,
        };
        let format = git.line(&["rev-parse", "--show-object-format"]);
        let format = format.map_err(|error| match error {
            Error::Failed { said, .. } if said.contains("not a git repository") => {
                not("neither it nor a directory above it holds one")
            }
            other => other,
        })?;
        if format == "sha256" {
            git.empty_tree = EMPTY_TREE_SHA256;
        }
        Ok(git)
    }

    /// The directory as it was given.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Runs a command to its end and gives its stdout.
    pub(super) fn output(&self, arguments: &[&str]) -> Result<Vec<u8>, Error> {
        self.converse(arguments, b"")
    }

    /// Runs a command that answers in one line.
    pub(super) fn line(&self, arguments: &[&str]) -> Result<String, Error> {
        let output = self.output(arguments)?;
        Ok(String::from_utf8_lossy(&output)
            .trim_end_matches(['\n', '\r'])
            .to_owned())
    }

    /// Runs a command whose failure is an answer: there is no such thing.
    pub(super) fn line_if_any(&self, arguments: &[&str]) -> Result<Option<String>, Error> {
        match self.line(arguments) {
            Ok(line) => Ok(Some(line).filter(|line| !line.is_empty())),
            // One that a signal ended has answered nothing.
            Err(Error::Failed { status, .. }) if status.code().is_some() => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// Runs a command that reads all of its input before it answers.
    pub(super) fn converse(&self, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>, Error> {
        let mut process = self.start(arguments)?;
        // Whoever stops reading early says why when it ends.
        let _ = process.stdin.take().map(|mut stdin| stdin.write_all(input));
        let mut output = Vec::new();
        if let Some(mut stdout) = process.stdout.take() {
            stdout
                .read_to_end(&mut output)
                .map_err(|error| process.pipe_error(error))?;
        }
        process.finish()?;
        Ok(output)
    }

    /// Starts a command with its pipes open.
    pub(super) fn start(&self, arguments: &[&str]) -> Result<Process, Error> {
        let mut command = self.command();
        command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(Error::GitMissing)?;
        let said = child
            .stderr
            .take()
            .map(|stderr| thread::spawn(move || last_words(stderr)));
        Ok(Process {
            command: arguments.first().copied().unwrap_or_default().to_owned(),
            stdin: child.stdin.take(),
            stdout: child.stdout.take(),
            said,
            child,
        })
    }

    /// The settings under which every command runs. What people and machines may configure is kept where it decides
    /// whether the repository may be read (`safe.directory`) and overruled where it decides what is read.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        for name in VARIABLES_REMOVED {
            command.env_remove(name);
        }
        command
            .env("LC_ALL", "C")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_OPTIONAL_LOCKS", "0")
            // Parents as the objects name them, whatever grafts and replacements say.
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_GRAFT_FILE", "/dev/null")
            // Attributes decide what counts as binary; those of the moment's checkout would make each import differ.
            .env("GIT_ATTR_SOURCE", self.empty_tree)
            .env("GIT_ATTR_NOSYSTEM", "1")
            .arg("-C")
            .arg(&self.directory)
            .args(["-c", "core.attributesFile=/dev/null"])
            .args(["-c", "core.bigFileThreshold=512m"])
            .args(["-c", "core.quotePath=false"])
            .args(["-c", "log.showSignature=false"]);
        command
    }
}

/// A running git process. Dropped before its end, it is killed and waited for.
pub(super) struct Process {
    command: String,
    child: Child,
    /// Taken by whoever writes.
    pub(super) stdin: Option<ChildStdin>,
    /// Taken by whoever reads.
    pub(super) stdout: Option<ChildStdout>,
    said: Option<JoinHandle<String>>,
}

impl Process {
    /// Waits for the end and says why, where it is a bad one.
    pub(super) fn finish(mut self) -> Result<(), Error> {
        drop(self.stdin.take());
        drop(self.stdout.take());
        self.wait()
    }

    /// [`Process::finish`] for a process that has closed its output already.
    pub(super) fn wait(&mut self) -> Result<(), Error> {
        let status = self.child.wait().map_err(|error| self.pipe_error(error))?;
        let said = self
            .said
            .take()
            .and_then(|said| said.join().ok())
            .unwrap_or_default();
        if status.success() {
            return Ok(());
        }
        Err(Error::Failed {
            command: self.command.clone(),
            status,
            said,
        })
    }

    /// Ends the process now, so that everybody who waits at its pipes goes on.
    pub(super) fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(super) fn pipe_error(&self, error: io::Error) -> Error {
        Error::Pipe {
            command: self.command.clone(),
            error,
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Reads to the end and keeps the last of it, as text on one line.
fn last_words(mut stderr: impl Read) -> String {
    let mut kept = VecDeque::new();
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = stderr.read(&mut buffer) {
        kept.extend(&buffer[..length]);
        let surplus = kept.len().saturating_sub(SAID_BYTES_MAX);
        kept.drain(..surplus);
    }
    let bytes: Vec<u8> = kept.into();
    let text = String::from_utf8_lossy(&bytes);
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_git_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let error = Git::open_with("no-such-git".into(), directory.path()).unwrap_err();
        assert!(matches!(error, Error::GitMissing(_)), "{error}");
        assert!(error.to_string().contains("install git"), "{error}");
    }

    #[test]
    fn a_directory_without_a_repository_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let absent = directory.path().join("absent");
        for path in [directory.path(), &absent] {
            let error = Git::open(path).unwrap_err();
            assert!(matches!(error, Error::NotARepository { .. }), "{error}");
            assert!(
                error.to_string().contains(&path.display().to_string()),
                "{error}"
            );
        }
    }

    #[test]
    fn what_git_says_last_is_kept() {
        let long = "x".repeat(3 * SAID_BYTES_MAX) + "\nfatal: bad object\n";
        let said = last_words(long.as_bytes());
        assert!(
            said.len() <= SAID_BYTES_MAX && said.ends_with("; fatal: bad object"),
            "{said}"
        );
    }
}
