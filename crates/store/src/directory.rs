//! Directories whose entries are durable.
use std::{
    fs::{DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::Path,
};

use crate::fault::Fault;

/// For its owner only: what is in a ledger is nobody else's to read.
pub(crate) const PRIVATE: u32 = 0o700;

/// Makes a directory and what is missing above it, each entry durable.
///
/// `mode` holds for all that are made. One that is there may have been made by a process that was killed before it could
/// sync the entry, so the entry is synced again, where this process may.
pub(crate) fn create(path: &Path, mode: u32) -> Result<(), Fault> {
    let parent = parent(path);
    if path.is_dir() {
        return match sync(parent) {
            Err(Fault::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
                Ok(())
            }
            result => result,
        };
    }
    if parent != path {
        create(parent, mode)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(Fault::io("create", path)(error))
        }
        _ => sync(parent),
    }
}

/// Makes a directory's entries durable.
pub(crate) fn sync(path: &Path) -> Result<(), Fault> {
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(Fault::io("sync", path))
}

/// The directory that a path's entry is in.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}
