//! The side log of refusals: what was not recorded, and why (LEDGER A5).
//!
//! A ring of files: the newest is appended to, and when it is full the oldest goes. Each file begins with how many entries
//! there were before it, in all and by code, so that counts outlive details. No answer depends on it: a torn or damaged
//! entry costs that entry and those behind it in its file, never a start. `README.md` describes the bytes.

mod entry;
mod file;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

pub use entry::{BODY_BYTES_MAX, Entry};
use file::{Counts, Ring};

use crate::{directory, fault::Fault};

/// Files in the ring, at most.
const FILES_MAX: usize = 4;
/// Bytes of one file before the next is begun; all files together stay below 64 MiB and a little.
const FILE_BYTES: u64 = 16 << 20;

/// The side log, open. It has one owner.
pub struct SideLog {
    dir: PathBuf,
    file_bytes: u64,
    /// Oldest first; never empty.
    files: Vec<Ring>,
    counts: Counts,
    unsynced: bool,
}

impl SideLog {
    /// Opens the side log in `dir`, or begins one.
    ///
    /// # Errors
    /// As the system says. Damage is no error: what cannot be read is left out.
    pub fn open(dir: &Path) -> Result<Self, Fault> {
        Self::with_file_bytes(dir, FILE_BYTES)
    }

    fn with_file_bytes(dir: &Path, file_bytes: u64) -> Result<Self, Fault> {
        directory::create(dir, directory::PRIVATE)?;
        let mut files = file::open_all(dir)?;
        let counts = match files.last() {
            Some(newest) => newest.counts_after(),
            None => Counts::default(),
        };
        if files.is_empty() {
            files.push(Ring::create(dir, 1, &counts)?);
        }
        Ok(Self {
            dir: dir.to_owned(),
            file_bytes,
            files,
            counts,
            unsynced: false,
        })
    }

    /// Adds an entry; its number and the length of its body are set here. Durable only after [`SideLog::sync`].
    ///
    /// Gives the number, contiguous from 1.
    ///
    /// # Errors
    /// As the system says. The entry may be lost then; the log goes on.
    pub fn append(&mut self, mut entry: Entry) -> Result<u64, Fault> {
        entry.number = self.counts.total + 1;
        entry.body.truncate(BODY_BYTES_MAX);
        let newest = self
            .files
            .last_mut()
            .expect("there is always a newest file");
        newest.append(&entry)?;
        let full = newest.bytes() >= self.file_bytes;
        self.unsynced = true;
        self.counts.add(&entry.code);
        if full {
            self.rotate()?;
        }
        Ok(entry.number)
    }

    /// Makes everything appended so far durable; does nothing when it is already.
    ///
    /// # Errors
    /// As the system says.
    pub fn sync(&mut self) -> Result<(), Fault> {
        if self.unsynced {
            self.files
                .last()
                .expect("there is always a newest file")
                .sync()?;
            self.unsynced = false;
        }
        Ok(())
    }

    /// Entries, newest first: those numbered below `before` (`None`: from the newest on), at most `limit`.
    ///
    /// # Errors
    /// As the system says. Entries that cannot be read any more are left out.
    pub fn newest(&self, before: Option<u64>, limit: usize) -> Result<Vec<Entry>, Fault> {
        let mut entries = Vec::new();
        for file in self.files.iter().rev() {
            file.newest(
                before.unwrap_or(u64::MAX),
                limit - entries.len(),
                &mut entries,
            )?;
            if entries.len() >= limit {
                break;
            }
        }
        Ok(entries)
    }

    /// How many entries there were, in all.
    #[must_use]
    pub fn total_count(&self) -> u64 {
        self.counts.total
    }

    /// How many entries there were, by code.
    #[must_use]
    pub fn counts(&self) -> &BTreeMap<String, u64> {
        &self.counts.by_code
    }

    /// Begins the next file and removes the oldest beyond [`FILES_MAX`].
    fn rotate(&mut self) -> Result<(), Fault> {
        self.sync()?;
        let number = self.files.last().map_or(1, |newest| newest.number() + 1);
        self.files
            .push(Ring::create(&self.dir, number, &self.counts)?);
        while self.files.len() > FILES_MAX {
            self.files.remove(0).remove()?;
        }
        Ok(())
    }
}
