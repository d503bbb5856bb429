//! Disk space, looked at before it is needed (LEDGER J5).
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use crate::fault::Fault;

/// Bytes that are held back in a file of their own, and given up when the disk is full: sled, the head file and the side
/// log can then still do what reads and a clean stop need.
pub const BALLAST_BYTES: u64 = 16 << 20;

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
    held: AtomicBool,
}

impl Ballast {
    /// Looks whether the ballast is there; a first [`Ballast::check`] makes it where there is room.
    pub(super) fn new(dir: &Path) -> Self {
        let path = dir.join("ballast");
        let held = fs::metadata(&path).is_ok_and(|metadata| metadata.len() == BALLAST_BYTES);
        Self {
            path,
            held: AtomicBool::new(held),
        }
    }

    /// Checks that there is room for `needed` bytes and the ballast.
    ///
    /// # Errors
    /// [`Fault::DiskFull`] when there is not; the ballast has been given up then, and is taken again when there is room.
    pub(super) fn check(&self, dir: &Path, needed: u64) -> Result<Space, Fault> {
        let held = if self.held.load(Ordering::Acquire) {
            BALLAST_BYTES
        } else {
            0
        };
        let space = Space {
            available: available(dir)?.saturating_add(held),
            needed: needed.saturating_add(BALLAST_BYTES),
        };
        let enough = space.available >= space.needed;
        match (enough, held > 0) {
            (true, true) => {}
            (true, false) => self.take(),
            (false, true) => self.release()?,
            (false, false) => {}
        }
        if enough {
            return Ok(space);
        }
        Err(Fault::DiskFull {
            path: dir.to_owned(),
            available: space.available,
            needed: space.needed,
        })
    }

    /// A disk without ballast works as well: failing here is nobody's trouble yet.
    fn take(&self) {
        let taken = File::create(&self.path)
            .and_then(|file| Ok(fallocate(&file, FallocateFlags::empty(), 0, BALLAST_BYTES)?));
        match taken {
            Ok(()) => self.held.store(true, Ordering::Release),
            Err(_) => drop(fs::remove_file(&self.path)),
        }
    }

    fn release(&self) -> Result<(), Fault> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Fault::io("remove", &self.path)(error))
            }
            _ => {
                self.held.store(false, Ordering::Release);
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
