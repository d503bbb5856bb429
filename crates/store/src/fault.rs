//! What can go wrong on disk, by what the caller can do about it.
use std::{
    io,
    path::{Path, PathBuf},
};

/// Something that needs a person, or a restart; never the caller's request.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The system refused an operation.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb: `write`, `sync`, `open`.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Bytes are not what was written.
    #[error(transparent)]
    Damage(#[from] Damage),
    /// Another process owns the directory.
    #[error("{} is in use by {holder}", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// What the lock file says of the holder: process id and address.
        holder: String,
    },
    /// Others than the owner may read a key.
    #[error("{} can be read by others (mode {mode:o}): run `chmod 600 {}`", path.display(), path.display())]
    Exposed {
        /// The key's file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// There is not enough room to go on writing.
    #[error("the disk is full: {} has {available} bytes left, {needed} are needed", path.display())]
    DiskFull {
        /// The directory.
        path: PathBuf,
        /// Bytes available to us.
        available: u64,
        /// Bytes that writing needs.
        needed: u64,
    },
    /// Writing stopped after an earlier error, and has not been started again (LEDGER J5).
    #[error("nothing is written since an earlier error: {why}")]
    Stopped {
        /// The earlier error.
        why: String,
    },
    /// More was given than fits.
    #[error("{what} takes up {bytes} bytes, at most {limit} fit")]
    TooLarge {
        /// What was given.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
    /// The files are of a version that this binary does not know, or do not belong together.
    #[error("{what}")]
    Foreign {
        /// What is wrong, naming file, value and rule.
        what: String,
    },
    /// The database cannot be used as it is and must be rebuilt from the journal.
    #[error("the database must be rebuilt: {why}")]
    Suspect {
        /// What was seen.
        why: String,
    },
}

impl Fault {
    /// Names the operation and the file of an I/O error.
    pub(crate) fn io<'a>(
        action: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }
}

/// Bytes that are not what was written, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} is damaged at offset {offset}: {what}; {} affected", file.display(), self.range())]
pub struct Damage {
    /// Which file.
    pub file: PathBuf,
    /// Where in it, in bytes.
    pub offset: u64,
    /// First position that may be affected.
    pub first_position: u64,
    /// Last position that may be affected, where known.
    pub last_position: Option<u64>,
    /// What does not hold.
    pub what: String,
}

impl Damage {
    /// Which positions may be affected, with the verb that follows them.
    fn range(&self) -> String {
        let first = self.first_position;
        match self.last_position {
            Some(last) if last <= first => format!("position {first} is"),
            Some(last) => format!("positions {first} to {last} are"),
            None => format!("positions {first} and after are"),
        }
    }
}
