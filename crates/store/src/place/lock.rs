//! One process at a time (LEDGER J6).
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use crate::fault::Fault;

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
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = self::holder(dir).unwrap_or_else(|| "another process".to_owned());
                return Err(Fault::Locked {
                    path: dir.to_owned(),
                    holder,
                });
            }
            Err(TryLockError::Error(error)) => return Err(Fault::io("lock", &path)(error)),
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
