//! Events that wait on disk for a ledger that is away: one file each, in the order of their names, apart for every
//! ledger, so that nothing is ever sent to another one.
use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use crate::{exit::Failure, source::Where};

/// Events that wait at most; a ledger that is away for so long needs somebody to look.
const EVENTS_MAX: u64 = 100_000;
const ENDING: &str = "event";

/// Where the events of one ledger wait.
#[derive(Clone, Debug)]
pub(super) struct Spool {
    directory: PathBuf,
}

/// The right to send what waits; held while it is sent, so that the order is kept.
pub(super) struct Waiting {
    directory: PathBuf,
    // Released when the file is closed.
    _lock: Option<File>,
}

/// One event that waits.
pub(super) struct Item {
    path: PathBuf,
    pub(super) bytes: Vec<u8>,
}

impl Spool {
    pub(super) fn of(base: &Path, place: &Where) -> Self {
        let name = match place {
            Where::Server(server) => format!("server {}", server.address),
            Where::Directory { directory, .. } => {
                let whole = std::path::absolute(directory).unwrap_or_else(|_| directory.clone());
                format!("directory {}", whole.display())
            }
        };
        Self {
            directory: base.join(&hex::encode(Sha256::digest(name.as_bytes()))[..16]),
        }
    }

    /// Puts an event behind those that wait; it survives the death of this process and of the machine.
    ///
    /// # Errors
    /// When the disk does not take it, or too many wait.
    pub(super) fn push(&self, event: &[u8]) -> Result<(), Failure> {
        make_private(&self.directory).map_err(failed("make", &self.directory))?;
        let next = names(&self.directory)?.last().map_or(1, |last| last + 1);
        // Two emits at one moment find the same number; the second one takes the next.
        for number in next..next.saturating_add(EVENTS_MAX) {
            let path = file(&self.directory, number);
            let temporary = self
                .directory
                .join(format!(".{number:020}-{}", std::process::id()));
            write_synced(&temporary, event)?;
            let linked = fs::hard_link(&temporary, &path);
            fs::remove_file(&temporary).map_err(failed("remove", &temporary))?;
            match linked {
                Ok(()) => return sync_directory(&self.directory),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed("write", &path)(error)),
            }
        }
        Err(Failure::unexpected(format!(
            "{EVENTS_MAX} events wait in {}",
            self.directory.display()
        )))
    }

    /// Takes the right to send; `None` while somebody else has it.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub(super) fn lock(&self) -> Result<Option<Waiting>, Failure> {
        let directory = self.directory.clone();
        if !directory.is_dir() {
            return Ok(Some(Waiting {
                directory,
                _lock: None,
            }));
        }
        let path = directory.join("lock");
        let options = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        let lock = options.map_err(failed("open", &path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Waiting {
                directory,
                _lock: Some(lock),
            })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(failed("lock", &path)(error)),
        }
    }
}

impl Waiting {
    /// The oldest events, as many as fit, at least one where there is one.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(super) fn next(&self, events: usize, bytes: usize) -> Result<Vec<Item>, Failure> {
        let mut items = Vec::new();
        let mut size = 0;
        for number in names(&self.directory)?.into_iter().take(events) {
            let path = file(&self.directory, number);
            let event = fs::read(&path).map_err(failed("read", &path))?;
            size += event.len();
            if size > bytes && !items.is_empty() {
                break;
            }
            items.push(Item { path, bytes: event });
        }
        Ok(items)
    }

    /// Forgets an event that is recorded.
    ///
    /// # Errors
    /// When its file cannot be removed.
    pub(super) fn remove(&self, item: &Item) -> Result<(), Failure> {
        fs::remove_file(&item.path).map_err(failed("remove", &item.path))
    }

    /// Moves an event out of the way and says where to.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub(super) fn set_aside(&self, item: &Item) -> Result<PathBuf, Failure> {
        let directory = self.directory.join("refused");
        make_private(&directory).map_err(failed("make", &directory))?;
        let path = directory.join(item.path.file_name().unwrap_or_default());
        fs::rename(&item.path, &path).map_err(failed("move", &item.path))?;
        Ok(path)
    }
}

/// How many events wait below the spool's base, for whichever ledger, and how many were refused.
pub(crate) fn count(base: &Path) -> (u64, u64) {
    let directories = fs::read_dir(base)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let number = |path: &Path| names(path).map_or(0, |names| names.len() as u64);
    directories.fold((0, 0), |(waiting, refused), path| {
        (
            waiting + number(&path),
            refused + number(&path.join("refused")),
        )
    })
}

fn file(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:020}.{ENDING}"))
}

/// Makes a directory for its owner only: what waits in it is nobody else's to read.
fn make_private(directory: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
}

/// Numbers of the events that wait, oldest first.
fn names(directory: &Path) -> Result<Vec<u64>, Failure> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("read", directory)(error)),
    };
    let number = |entry: io::Result<fs::DirEntry>| {
        let path = entry.ok()?.path();
        (path.extension()? == ENDING)
            .then(|| path.file_stem()?.to_str()?.parse().ok())
            .flatten()
    };
    let mut numbers: Vec<u64> = entries.filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut file = File::create(path).map_err(failed("make", path))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(failed("write", path))
}

fn sync_directory(path: &Path) -> Result<(), Failure> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(failed("sync", path))
}

fn failed<'a>(action: &'a str, path: &'a Path) -> impl FnOnce(io::Error) -> Failure + 'a {
    move |error| Failure::unexpected(format!("cannot {action} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spool(base: &Path, address: &str) -> Spool {
        Spool::of(base, &Where::Server(address.to_owned().into()))
    }

    fn waiting(spool: &Spool) -> Vec<Vec<u8>> {
        spool
            .lock()
            .unwrap()
            .unwrap()
            .next(100, 1 << 20)
            .unwrap()
            .into_iter()
            .map(|item| item.bytes)
            .collect()
    }

    #[test]
    fn what_waits_stays_in_order_and_apart_for_every_ledger() {
        let base = tempfile::tempdir().unwrap();
        let (here, there) = (
            spool(base.path(), "http://a"),
            spool(base.path(), "http://b"),
        );
        for event in [b"1", b"2", b"3"] {
            here.push(event).unwrap();
        }
        there.push(b"other").unwrap();
        assert_eq!(waiting(&here), [b"1", b"2", b"3"]);
        assert_eq!(waiting(&there), [b"other"]);
        assert_eq!(count(base.path()), (4, 0));
    }

    #[test]
    fn what_is_recorded_goes_and_what_is_refused_is_kept_aside() {
        let base = tempfile::tempdir().unwrap();
        let spool = spool(base.path(), "http://a");
        spool.push(b"1").unwrap();
        spool.push(b"2").unwrap();
        {
            let right = spool.lock().unwrap().unwrap();
            let items = right.next(10, 1 << 20).unwrap();
            right.remove(&items[0]).unwrap();
            let kept = right.set_aside(&items[1]).unwrap();
            assert_eq!(fs::read(kept).unwrap(), b"2");
        }
        assert!(waiting(&spool).is_empty());
        assert_eq!(count(base.path()), (0, 1));
    }

    #[test]
    fn one_sends_at_a_time() {
        let base = tempfile::tempdir().unwrap();
        let spool = spool(base.path(), "http://a");
        spool.push(b"1").unwrap();
        let right = spool.lock().unwrap();
        assert!(right.is_some());
        assert!(spool.lock().unwrap().is_none());
        drop(right);
        assert!(spool.lock().unwrap().is_some());
    }

    #[test]
    fn a_batch_has_a_size_but_never_none() {
        let base = tempfile::tempdir().unwrap();
        let spool = spool(base.path(), "http://a");
        for _ in 0..3 {
            spool.push(&[0; 10]).unwrap();
        }
        let right = spool.lock().unwrap().unwrap();
        assert_eq!(right.next(10, 1).unwrap().len(), 1);
        assert_eq!(right.next(10, 20).unwrap().len(), 2);
        assert_eq!(right.next(2, 1 << 20).unwrap().len(), 2);
    }
}
