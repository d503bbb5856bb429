//! The database: sled, where every read goes, rebuilt from the journal whenever it cannot be believed (LEDGER S1, S2).
//!
//! The only file that knows sled. One tree, one batch for each step of events, a byte of the key for the keyspace; which
//! bytes lie where is in the modules below, which know nothing of sled, and in `README.md`. Reading order: `keys`,
//! `value`, `blocks` (records), `pages` (hashes and numbers), `index` (lists), `meta`, `delta`, `tail` (how a step becomes
//! keys and values), `reads`, `select`, `scrub`, `folder` and `probe` (before sled may open).
//!
//! Nothing that sled does may take the process down: its calls stand in `guarded`, which turns a panic into a fault.
//! After a failed write nothing more is written, for sled's own errors stay; the caller drops it and opens it again.
mod blocks;
mod delta;
mod folder;
mod index;
mod keys;
mod meta;
mod pages;
mod probe;
mod reads;
mod scrub;
mod select;
mod tail;
mod value;

#[cfg(test)]
mod tests;

use std::{
    any::Any,
    fmt,
    io::{self, Write as _},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

pub use index::Selection;
pub use meta::Meta;
pub use probe::ProbeCommand;
pub use select::Candidates;

use self::{
    blocks::Recent,
    keys::{Full, Key, Writes},
    tail::{Tail, suspect},
};
use crate::{
    Damage, Fault,
    record::{Hash, Keys, Record},
};

/// Directory-wide lock of a sled that is still being dropped: how long to wait for it.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// A flush after a write error may never return (`README.md`): how long to wait for it.
const FLUSH_WAIT: Duration = Duration::from_secs(60);
/// What is done to sled when it is only looked at.
const READ: &str = "read";
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// So many keys are put ahead that the last leaf of sled's that grows, of 16, never holds a full page.
const KEYS_AHEAD: u64 = 32;

/// How a database is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// What sled's page cache may take, in bytes; in use it takes up to twice as much and some 100 MB more.
    pub cache_bytes: u64,
    /// How often sled writes back and syncs on its own, in milliseconds.
    pub flush_every_ms: u64,
    /// How to open it in a child first; `None` leaves that out.
    pub probe: Option<ProbeCommand>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes: 64 << 20,
            flush_every_ms: 500,
            probe: None,
        }
    }
}

/// A database that can be read and written.
pub struct Opened {
    /// The database.
    pub database: Database,
    /// Where it stands; `None` when it is empty.
    pub meta: Option<Meta>,
}

/// Events that are applied together, with all that was worked out from them.
pub struct Step<'a> {
    /// Records, contiguous, from the position after the last step's; at least one.
    pub records: &'a [Arc<Record>],
    /// Leaf hash of each record.
    pub leaves: &'a [Hash],
    /// Nodes of the tree (level, index, hash) that these leaves complete, by level in order of index.
    pub nodes: &'a [(u8, u64, Hash)],
    /// Index keys of each record.
    pub keys: &'a [Keys],
    /// Where the database stands after them.
    pub meta: Meta,
}

/// The database. Clones are one and the same; reads come from any thread, [`Database::apply`] from one at a time.
#[derive(Clone)]
pub struct Database(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    sled: RwLock<Option<Arc<Sled>>>,
    tail: RwLock<Arc<Tail>>,
    /// Last position of every full block: eight bytes for a dozen events or more.
    block_ends: RwLock<Vec<u64>>,
    recent: Mutex<Recent>,
    writer: Mutex<Writer>,
    /// Damage was found in it: the next start is not to believe it.
    condemned: AtomicBool,
}

/// What only the one who writes needs.
#[derive(Default)]
struct Writer {
    /// The first failure, after which nothing is written.
    failed: Option<String>,
    /// How many keys of each kind of page were put ahead, in the order of [`Full::ALL`].
    ahead: [u64; Full::ALL.len()],
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("dir", &self.0.dir)
            .finish_non_exhaustive()
    }
}

impl Database {
    /// Opens the database of a directory, or starts an empty one. `boot_id` names this boot of the machine.
    ///
    /// # Errors
    /// [`Fault::Suspect`] when it must be moved aside and rebuilt; [`Fault::Locked`] when another process has it;
    /// [`Fault::Io`] when the system refuses something, such as room on the disk.
    pub fn open(dir: &Path, options: &Options, boot_id: Option<&str>) -> Result<Opened, Fault> {
        let used = folder::prepare(dir, boot_id)?;
        if let (true, Some(command)) = (used, &options.probe) {
            probe::run(command, dir, folder::bytes_on_disk(dir))?;
        }
        let sled = open_sled(dir, options)?;
        let (tail, block_ends) = load(dir, &sled)?;
        let meta = tail.meta.clone();
        let writer = Writer {
            failed: None,
            ahead: keys_ahead(dir, &sled)?,
        };
        let inner = Inner {
            dir: dir.to_owned(),
            sled: RwLock::new(Some(Arc::new(sled))),
            tail: RwLock::new(Arc::new(tail)),
            block_ends: RwLock::new(block_ends),
            recent: Mutex::default(),
            writer: Mutex::new(writer),
            condemned: AtomicBool::new(false),
        };
        Ok(Opened {
            database: Self(Arc::new(inner)),
            meta,
        })
    }

    /// Moves the directory of a database that is not open aside and says where it is now. The last two are kept.
    ///
    /// # Errors
    /// [`Fault::Io`].
    pub fn move_aside(dir: &Path) -> Result<PathBuf, Fault> {
        folder::move_aside(dir)
    }

    /// Adds events, all or none, and makes them readable. They are durable in the journal, not here.
    ///
    /// # Errors
    /// [`Fault::Foreign`] when the step does not continue where the last one ended; [`Fault::TooLarge`]. Anything else is
    /// final: from then on nothing is written, and the database is to be closed and opened again.
    pub fn apply(&self, step: &Step<'_>) -> Result<(), Fault> {
        let mut writer = lock(&self.0.writer);
        if let Some(why) = &writer.failed {
            return Err(Fault::Stopped { why: why.clone() });
        }
        let mut tail = Tail::clone(&self.tail());
        let mut writes = tail.step(step)?;
        let block_ends = std::mem::take(&mut writes.block_ends);
        let put_ahead = self.put_ahead(&tail, &mut writer.ahead);
        let written =
            put_ahead.and_then(|()| self.with("write", |sled| sled.apply_batch(batch(writes))));
        if let Err(fault) = written {
            writer.failed = Some(fault.to_string());
            return Err(fault);
        }
        write(&self.0.block_ends).extend(block_ends);
        *write(&self.0.tail) = Arc::new(tail);
        Ok(())
    }

    /// Puts the keys of the full pages to come, where they run short (see [`Full`]).
    fn put_ahead(&self, tail: &Tail, ahead: &mut [u64; Full::ALL.len()]) -> Result<(), Fault> {
        for (full, ahead) in Full::ALL.into_iter().zip(ahead) {
            let needed = tail.full_pages(full) + KEYS_AHEAD;
            if *ahead >= needed {
                continue;
            }
            let until = needed + KEYS_AHEAD;
            let put = |sled: &sled::Tree| {
                (*ahead..until)
                    .try_for_each(|number| sled.insert(full.key(number), &[][..]).map(drop))
            };
            self.with("write", put)?;
            *ahead = until;
        }
        Ok(())
    }

    /// Where it stands; `None` when it is empty.
    #[must_use]
    pub fn meta(&self) -> Option<Meta> {
        self.tail().meta.clone()
    }

    /// What its files take up, in bytes.
    #[must_use]
    pub fn bytes_on_disk(&self) -> u64 {
        folder::bytes_on_disk(&self.0.dir)
    }

    /// Writes everything back and syncs it.
    ///
    /// # Errors
    /// [`Fault::Io`]; [`Fault::Stopped`] when sled does not come back within a minute.
    pub fn flush(&self) -> Result<(), Fault> {
        let sled = self.sled()?;
        let dir = self.0.dir.clone();
        let (done, result) = mpsc::sync_channel(1);
        thread::spawn(move || {
            let flushed = guarded(&dir, "flush", || sled.tree().flush().map(|_| ()));
            drop(sled);
            drop(done.send(flushed));
        });
        let late = |_| {
            Err(Fault::Stopped {
                why: "the database does not finish writing".to_owned(),
            })
        };
        result.recv_timeout(FLUSH_WAIT).unwrap_or_else(late)?;
        folder::sync_file(&self.0.dir.join("db"))
    }

    /// Lets go of the files. Clones and lists that are still about answer [`Fault::Stopped`] from now on.
    pub fn close(&self) {
        drop(write(&self.0.sled).take());
    }

    /// Writes everything back, closes, and marks a clean stop, so that the next start believes what is here whatever
    /// happens to the machine. `boot_id` names this boot, for whoever reads the mark. Does nothing when closed already.
    ///
    /// # Errors
    /// [`Fault::Io`]; [`Fault::Stopped`] after a failed write, or when reads do not end. Then there is no mark, as there is
    /// none when damage was found.
    pub fn close_clean(&self, boot_id: Option<&str>) -> Result<(), Fault> {
        if read(&self.0.sled).is_none() {
            return Ok(());
        }
        if let Some(why) = &lock(&self.0.writer).failed {
            self.close();
            return Err(Fault::Stopped { why: why.clone() });
        }
        self.flush()?;
        let sled = write(&self.0.sled).take();
        if let Some(sled) = sled {
            drop_last(sled)?;
        }
        if self.0.condemned.load(Ordering::Relaxed) {
            return Ok(());
        }
        folder::mark_clean(&self.0.dir, boot_id)
    }

    fn tail(&self) -> Arc<Tail> {
        Arc::clone(&read(&self.0.tail))
    }

    /// Joins the chunks of a value.
    fn whole(&self, key: Key, head: Vec<u8>) -> Result<Vec<u8>, Fault> {
        value::join(key, head, &mut |key| self.get(key))?.map_err(|what| self.damage_anywhere(what))
    }

    /// A value; what is empty was only put ahead.
    fn get(&self, key: Key) -> Result<Option<Vec<u8>>, Fault> {
        let value = self.with(READ, |sled| sled.get(&key))?;
        Ok(value
            .filter(|value| !value.is_empty())
            .map(|value| value.to_vec()))
    }

    fn with<T>(
        &self,
        action: &'static str,
        f: impl FnOnce(&sled::Tree) -> sled::Result<T>,
    ) -> Result<T, Fault> {
        let sled = self.sled()?;
        let result = guarded(&self.0.dir, action, || f(sled.tree()));
        // A write may fail on a full disk in any way; what cannot be read is lost to us.
        if action == READ && matches!(result, Err(Fault::Damage(_))) {
            self.condemn();
        }
        result
    }

    fn sled(&self) -> Result<Arc<Sled>, Fault> {
        read(&self.0.sled).clone().ok_or_else(|| Fault::Stopped {
            why: "the database is closed".to_owned(),
        })
    }

    fn damage(&self, position: u64, what: String) -> Fault {
        self.damage_over(position, Some(position), what)
    }

    /// Sees to it that the next start rebuilds the database (LEDGER S2).
    fn condemn(&self) {
        if !self.0.condemned.swap(true, Ordering::Relaxed)
            && let Err(fault) = folder::mark_damaged(&self.0.dir)
        {
            tracing::warn!(error = %fault, "the damaged database is not marked; delete `sled` before the next start");
        }
    }

    fn damage_over(&self, first_position: u64, last_position: Option<u64>, what: String) -> Fault {
        self.condemn();
        damage(&self.0.dir, first_position, last_position, what)
    }

    fn damage_anywhere(&self, what: String) -> Fault {
        self.damage_over(1, None, what)
    }
}

/// Opens a database and closes it again, for a process that may die of it. Gives the process's exit code: 0 sound, 1 not,
/// 2 when the system refused something. Says on standard error what is wrong.
#[must_use]
pub fn probe_main(dir: &Path) -> i32 {
    let result = open_sled(dir, &Options::default()).and_then(|sled| load(dir, &sled).map(drop));
    let Err(fault) = result else {
        return probe::SOUND;
    };
    drop(writeln!(io::stderr(), "{fault}"));
    match fault {
        Fault::Io { .. } | Fault::Locked { .. } => probe::REFUSED,
        _ => probe::UNSOUND,
    }
}

/// sled, dropped without taking the process along: its drop syncs, and panics when that fails.
struct Sled(Option<sled::Db>);

impl Sled {
    fn tree(&self) -> &sled::Tree {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl Drop for Sled {
    fn drop(&mut self) {
        let sled = self.0.take();
        if catch_unwind(AssertUnwindSafe(|| drop(sled))).is_err() {
            tracing::warn!(
                "sled panicked while it was closed; the next start looks at what it left"
            );
        }
    }
}

fn open_sled(dir: &Path, options: &Options) -> Result<Sled, Fault> {
    let config = sled::Config::new()
        .path(dir)
        .cache_capacity(options.cache_bytes)
        .flush_every_ms(Some(options.flush_every_ms));
    let start = Instant::now();
    loop {
        let fault = match guarded(dir, "open", || config.open()) {
            Ok(sled) => return Ok(Sled(Some(sled))),
            Err(fault) => fault,
        };
        match fault {
            // What is dropped keeps the lock until its threads have ended.
            Fault::Locked { .. } if start.elapsed() < LOCK_WAIT => thread::sleep(LOOK_AGAIN),
            Fault::Damage(damage) => return Err(suspect(damage.what)),
            fault => return Err(fault),
        }
    }
}

/// Reads back the open end and where the blocks end. Puts the fences where there is nothing yet.
fn load(dir: &Path, sled: &Sled) -> Result<(Tail, Vec<u64>), Fault> {
    let doubt = |fault| match fault {
        Fault::Damage(damage) => suspect(damage.what),
        fault => fault,
    };
    let mut get = |key: Key| {
        let value = guarded(dir, "read", || sled.tree().get(&key)).map_err(doubt)?;
        Ok(value
            .filter(|value| !value.is_empty())
            .map(|value| value.to_vec()))
    };
    let deltas = guarded(dir, "read", || {
        sled.tree()
            .range(keys::deltas())
            .collect::<sled::Result<Vec<_>>>()
    });
    let delta =
        |(key, value): (sled::IVec, sled::IVec)| Ok((keys::delta_first(&key)?, value.to_vec()));
    let deltas: Result<Vec<_>, String> = deltas.map_err(doubt)?.into_iter().map(delta).collect();
    let tail = Tail::load(&mut get, &deltas.map_err(suspect)?)?;
    if tail.meta.is_none() {
        if get(Full::Block.key(0))?.is_some() || get(keys::open_block())?.is_some() {
            return Err(suspect(
                "it holds events and no description of them".to_owned(),
            ));
        }
        let mut fences = keys::fences();
        guarded(dir, "write", || {
            fences.try_for_each(|key| sled.tree().insert(key, &[][..]).map(drop))
        })?;
    }
    let block_ends = tail.load_block_ends(&mut get)?;
    Ok((tail, block_ends))
}

/// How many keys of each kind of page were put ahead.
fn keys_ahead(dir: &Path, sled: &Sled) -> Result<[u64; Full::ALL.len()], Fault> {
    let mut ahead = [0; Full::ALL.len()];
    for (full, ahead) in Full::ALL.into_iter().zip(&mut ahead) {
        let last = guarded(dir, "read", || {
            sled.tree().range(full.keys()).next_back().transpose()
        })?;
        *ahead = last
            .and_then(|(key, _)| full.number(&key))
            .map_or(0, |number| number + 1);
    }
    Ok(ahead)
}

fn batch(writes: Writes) -> sled::Batch {
    let mut batch = sled::Batch::default();
    writes.remove.into_iter().for_each(|key| batch.remove(key));
    writes
        .put
        .into_iter()
        .for_each(|(key, value)| batch.insert(key, value));
    batch
}

/// Waits until nobody else holds it, and drops it.
fn drop_last(mut sled: Arc<Sled>) -> Result<(), Fault> {
    let start = Instant::now();
    while start.elapsed() < LOCK_WAIT {
        match Arc::try_unwrap(sled) {
            Ok(sled) => {
                drop(sled);
                return Ok(());
            }
            Err(shared) => sled = shared,
        }
        thread::sleep(LOOK_AGAIN);
    }
    Err(Fault::Stopped {
        why: "reads of the database do not end".to_owned(),
    })
}

/// Calls sled, and makes a fault of its errors and panics.
fn guarded<T>(
    dir: &Path,
    action: &'static str,
    f: impl FnOnce() -> sled::Result<T>,
) -> Result<T, Fault> {
    let error = match catch_unwind(AssertUnwindSafe(f)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => error,
        Err(panic) => {
            return Err(damage(
                dir,
                1,
                None,
                format!("sled panicked: {}", message(&*panic)),
            ));
        }
    };
    match error {
        sled::Error::Io(error) if error.to_string().contains("could not acquire lock") => {
            Err(Fault::Locked {
                path: dir.to_owned(),
                holder: "a process that has not let go of it".to_owned(),
            })
        }
        // A file that is too short is damage, not a refusal of the system.
        sled::Error::Io(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
            Err(Fault::io(action, &dir.join("db"))(error))
        }
        error => Err(damage(dir, 1, None, error.to_string())),
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without a message")
}

fn damage(dir: &Path, first_position: u64, last_position: Option<u64>, what: String) -> Fault {
    Damage {
        file: dir.join("db"),
        offset: 0,
        first_position,
        last_position,
        what,
    }
    .into()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
