//! One process at a time (LEDGER J6).
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{Pid, test_kill_process},
};

use crate::fault::Fault;

/// A process that was killed as it started a child leaves the lock to that child until it runs its own program: how long
/// to wait for that.
const LEFT_BEHIND_WAIT: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// A lock that is held until it is dropped, or until the process dies.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    /// Takes the lock of `dir` and writes down who holds it.
    ///
    /// # Errors
    /// [`Fault::Locked`] when another process has it.
    pub(super) fn take(dir: &Path, holder: &str) -> Result<Self, Fault> {
        let path = dir.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(Fault::io("open", &path))?;
        let start = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(Fault::io("lock", &path)(error)),
            }
            let holder = self::holder(dir).unwrap_or_else(|| "another process".to_owned());
            if start.elapsed() >= LEFT_BEHIND_WAIT || !is_gone(&holder) {
                return Err(Fault::Locked {
                    path: dir.to_owned(),
                    holder,
                });
            }
            thread::sleep(LOOK_AGAIN);
        }
        let lock = Self { path, file };
        lock.say(holder)?;
        Ok(lock)
    }

    /// Writes down how others reach the holder, in the room that the file has already: the disk may be full.
    pub(super) fn say(&self, holder: &str) -> Result<(), Fault> {
        let text = format!("process {}: {holder}\n", std::process::id());
        let mut file = &self.file;
        let written = file.seek(SeekFrom::Start(0)).and_then(|_| {
            file.write_all(text.as_bytes())?;
            file.set_len(text.len() as u64)
        });
        written.map_err(Fault::io("write", &self.path))
    }
}

/// Whether the process that a lock file names is no more.
fn is_gone(holder: &str) -> bool {
    let id = holder
        .strip_prefix("process ")
        .and_then(|rest| rest.split(':').next()?.parse().ok())
        .and_then(Pid::from_raw);
    id.is_some_and(|id| test_kill_process(id) == Err(Errno::SRCH))
}

/// Who the lock file of a data directory names: process id, and what it said of itself. True only while it is held.
#[must_use]
pub fn holder(dir: &Path) -> Option<String> {
    let text = fs::read_to_string(dir.join("lock")).ok()?;
    let line = text.lines().next()?;
    // The file is written by whoever may write there: nothing of it may move a reader's cursor.
    let line: String = line
        .chars()
        .filter(|character| !character.is_control())
        .take(256)
        .collect();
    (!line.is_empty()).then_some(line)
}
