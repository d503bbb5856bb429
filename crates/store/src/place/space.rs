//! Disk space, looked at before it is needed (LEDGER J5).
use std::{
    fs::{self, File, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use crate::fault::Fault;

/// Bytes that are held back in a file of their own, and given up when the disk is full: sled, the head file and the side
/// log can then still do what reads and a clean stop need.
pub const BALLAST_BYTES: u64 = 16 << 20;
/// What of the ballast stays when the disk is full while the ledger runs. A start needs it, for sled writes a snapshot
/// before it lets anybody read, and whoever filled the disk takes whatever is given up.
const KEPT_BYTES: u64 = 8 << 20;
/// What is left free when the ballast is taken back on a disk that is still full: a head file and a few refusals.
const LEFT_BYTES: u64 = 1 << 20;

/// What the disk has and what is needed, in bytes; the ballast counts as available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// What this process may still write.
    pub available: u64,
    /// What writing needs.
    pub needed: u64,
}

/// The ballast file of a data directory.
#[derive(Debug)]
pub(super) struct Ballast {
    path: PathBuf,
    /// Bytes that it really takes up.
    held: AtomicU64,
}

impl Ballast {
    /// Looks what the ballast holds; a first [`Ballast::check`] makes it where there is room.
    pub(super) fn new(dir: &Path) -> Self {
        let path = dir.join("ballast");
        // A copy may have the length without the blocks.
        let bytes = |it: Metadata| it.len().min(it.blocks().saturating_mul(512));
        let held = fs::metadata(&path).map_or(0, bytes);
        Self {
            path,
            held: AtomicU64::new(held),
        }
    }

    /// Checks that there is room for `needed` bytes and the ballast.
    ///
    /// # Errors
    /// [`Fault::DiskFull`] when there is not; all but [`KEPT_BYTES`] of the ballast has been given up then, and is taken
    /// again when there is room.
    pub(super) fn check(&self, dir: &Path, needed: u64) -> Result<Space, Fault> {
        let held = self.held.load(Ordering::Acquire);
        let space = Space {
            available: available(dir)?.saturating_add(held),
            needed: needed.saturating_add(BALLAST_BYTES),
        };
        if space.available >= space.needed {
            if held < BALLAST_BYTES {
                self.take(BALLAST_BYTES);
            }
            return Ok(space);
        }
        if held > KEPT_BYTES {
            self.shrink(KEPT_BYTES)?;
        }
        Err(Fault::DiskFull {
            path: dir.to_owned(),
            available: space.available,
            needed: space.needed,
        })
    }

    /// Gives all of it up where the disk is full, for sled to open.
    pub(super) fn lend(&self, dir: &Path) -> Result<(), Fault> {
        if self.held.load(Ordering::Acquire) > 0 && available(dir)? < KEPT_BYTES {
            self.shrink(0)?;
        }
        Ok(())
    }

    /// Takes back what a next start needs, or what is there of it.
    pub(super) fn take_back(&self, dir: &Path) -> Result<(), Fault> {
        let room = available(dir)?.saturating_sub(LEFT_BYTES).min(KEPT_BYTES);
        if self.held.load(Ordering::Acquire) < room {
            self.take(room);
        }
        Ok(())
    }

    /// A disk without ballast works as well: failing here is nobody's trouble yet.
    fn take(&self, bytes: u64) {
        let opened = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&self.path);
        let taken =
            opened.and_then(|file| Ok(fallocate(&file, FallocateFlags::empty(), 0, bytes)?));
        match taken {
            Ok(()) => self.held.store(bytes, Ordering::Release),
            Err(_) => drop(self.shrink(0)),
        }
    }

    fn shrink(&self, bytes: u64) -> Result<(), Fault> {
        let shrunk = match bytes {
            0 => fs::remove_file(&self.path),
            bytes => File::options()
                .write(true)
                .open(&self.path)
                .and_then(|file| file.set_len(bytes)),
        };
        match shrunk {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Fault::io("shrink", &self.path)(error))
            }
            Err(_) => {
                self.held.store(0, Ordering::Release);
                Ok(())
            }
            Ok(()) => {
                self.held.store(bytes, Ordering::Release);
                Ok(())
            }
        }
    }
}

/// Bytes that this process may still write to the file system of `dir`.
pub(super) fn available(dir: &Path) -> Result<u64, Fault> {
    let stat = statvfs(dir).map_err(|error| Fault::io("measure", dir)(error.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
