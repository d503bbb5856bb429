//! Opening a data directory: its ids, its lock, its keys.
use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    head::{self, Head, hex},
    lock::Lock,
    sealed, secret,
    space::{self, Ballast, Space},
};
use crate::{
    directory,
    fault::{Damage, Fault},
    journal, view_checkpoint,
};

/// 1: the layout in the module's documentation.
const VERSION: u32 = 1;
/// Longest ledger id, in bytes: it is also the source of the ledger's own events (LEDGER E11).
const LEDGER_ID_BYTES_MAX: usize = 256;

/// Whose directory it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Names the tree; the origin of its checkpoints (LEDGER P2).
    pub ledger_id: String,
    /// Names the replica; lower-case letters, digits and `-`.
    pub instance_id: String,
}

/// The file `ledger`.
#[derive(Serialize, Deserialize)]
struct Line {
    version: u32,
    ledger_id: String,
    instance_id: String,
}

/// A data directory that this process owns, and the state that belongs to it.
pub struct Place {
    dir: PathBuf,
    /// This instance's own directory, outside the data directory.
    state: PathBuf,
    identity: Identity,
    key_seed: [u8; secret::KEY_BYTES],
    actor_key: [u8; secret::KEY_BYTES],
    ballast: Ballast,
    lock: Lock,
    /// Keeps a copy of the data directory from working under the same instance id at the same time.
    _state_lock: Lock,
}

impl Place {
    /// Opens a data directory, or makes one with new ids and keys.
    ///
    /// A directory that has a journal and no ids (a restored one), or whose keys are not in `state_dir` (a copy), becomes a
    /// new instance of the same ledger. A new tree gets `new_ledger_id` where one is given, for a stream that belongs to a ledger
    /// already. `holder` says how others reach this process; `random` fills with bytes that nobody
    /// can guess.
    ///
    /// # Errors
    /// [`Fault::Locked`] when another process is at work there, [`Fault::Exposed`] when others may read the keys,
    /// [`Fault::Damage`] when a file is not what was written, [`Fault::Foreign`] for an unknown version, or where something
    /// else than a ledger lives.
    pub fn open(
        dir: &Path,
        state_dir: &Path,
        holder: &str,
        new_ledger_id: Option<&str>,
        random: &mut dyn FnMut(&mut [u8]),
    ) -> Result<Self, Fault> {
        check_is_ours(dir)?;
        for dir in [
            dir.to_owned(),
            journal_dir(dir),
            database_dir(dir),
            refusals_dir(dir),
        ] {
            directory::create(&dir, directory::PRIVATE)?;
        }
        let lock = Lock::take(dir, holder)?;
        let identity = match identity(dir)? {
            Some(identity) if has_keys(state_dir, &identity) => finish_rename(dir, identity)?,
            found => {
                let ledger_id = match found {
                    Some(identity) => Some(identity.ledger_id),
                    None => journal::ledger_id(&journal_dir(dir))?
                        .or_else(|| new_ledger_id.map(str::to_owned)),
                };
                new_instance(dir, state_dir, ledger_id, random)?
            }
        };
        let state = state_dir.join(&identity.instance_id);
        // What is read here may have been renamed into place by a process that was killed before it could sync.
        directory::sync(dir)?;
        directory::sync(&state)?;
        let state_lock = Lock::take(&state, holder)?;
        let ballast = Ballast::new(dir);
        ballast.lend(dir)?;
        Ok(Self {
            key_seed: secret::read_or_make(&key_path(&state), random)?,
            actor_key: secret::read_or_make(&state.join("actor.key"), random)?,
            ballast,
            dir: dir.to_owned(),
            state,
            identity,
            lock,
            _state_lock: state_lock,
        })
    }

    /// Names the tree.
    #[must_use]
    pub fn ledger_id(&self) -> &str {
        &self.identity.ledger_id
    }

    /// Names the replica.
    #[must_use]
    pub fn instance_id(&self) -> &str {
        &self.identity.instance_id
    }

    /// Seed of the instance's Ed25519 key.
    #[must_use]
    pub fn key_seed(&self) -> [u8; 32] {
        self.key_seed
    }

    /// The key that makes actors (LEDGER E10).
    #[must_use]
    pub fn actor_key(&self) -> [u8; 32] {
        self.actor_key
    }

    /// Where the journal is.
    #[must_use]
    pub fn journal_dir(&self) -> PathBuf {
        journal_dir(&self.dir)
    }

    /// Where sled is.
    #[must_use]
    pub fn database_dir(&self) -> PathBuf {
        database_dir(&self.dir)
    }

    /// Where the side log is.
    #[must_use]
    pub fn refusals_dir(&self) -> PathBuf {
        refusals_dir(&self.dir)
    }

    /// Where the checkpoint of a view is (LEDGER S7).
    #[must_use]
    pub fn view_checkpoint(&self, view: &str) -> PathBuf {
        view_checkpoint::path(&self.dir, view)
    }

    /// Says in the lock file how others reach this process, such as the address it serves.
    ///
    /// # Errors
    /// As the system says.
    pub fn set_holder(&self, holder: &str) -> Result<(), Fault> {
        self.lock.say(holder)
    }

    /// The head file; `None` when there is none, and rollback cannot be checked.
    ///
    /// # Errors
    /// [`Fault::Damage`] when it is not what was written, or names another instance.
    pub fn read_head(&self) -> Result<Option<Head>, Fault> {
        let path = self.head_path();
        let head = head::read(&path)?;
        match &head {
            Some(head) if head.instance_id != self.identity.instance_id => Err(Damage {
                file: path,
                offset: 0,
                first_position: 1,
                last_position: None,
                what: format!(
                    "it is of instance {}, not of {}",
                    head.instance_id, self.identity.instance_id
                ),
            }
            .into()),
            _ => Ok(head),
        }
    }

    /// Replaces the head file, durably, and reads it back. Only for what the journal's fdatasync has covered (LEDGER J4).
    ///
    /// # Errors
    /// As the system says; [`Fault::Damage`] when it does not read back.
    pub fn write_head(&self, head: &Head) -> Result<(), Fault> {
        head::write(&self.head_path(), head)
    }

    /// Gives the tree a new ledger id, after [`journal::Journal::rename`] has (LEDGER J4).
    ///
    /// # Errors
    /// [`Fault::Foreign`] for an id that cannot be one; as the system says.
    pub fn rename(&mut self, ledger_id: &str) -> Result<(), Fault> {
        let identity = Identity {
            ledger_id: ledger_id.to_owned(),
            ..self.identity.clone()
        };
        write_identity(&self.dir, &identity)?;
        self.identity = identity;
        Ok(())
    }

    /// Checks that there is room for `needed` bytes and the ballast, most of which is given up when there is not.
    ///
    /// # Errors
    /// [`Fault::DiskFull`]; as the system says.
    pub fn check_space(&self, needed: u64) -> Result<Space, Fault> {
        self.ballast.check(&self.dir, needed)
    }

    /// Gives the ballast up where the disk is full, as a start does: the database needs room to open.
    ///
    /// # Errors
    /// As the system says.
    pub fn lend_ballast(&self) -> Result<(), Fault> {
        self.ballast.lend(&self.dir)
    }

    /// Takes back what the next start on a full disk will need, once the database is open.
    ///
    /// # Errors
    /// As the system says.
    pub fn take_back_ballast(&self) -> Result<(), Fault> {
        self.ballast.take_back(&self.dir)
    }

    /// Bytes that this process may still write to the data directory's disk.
    ///
    /// # Errors
    /// As the system says.
    pub fn available_bytes(&self) -> Result<u64, Fault> {
        space::available(&self.dir)
    }

    fn head_path(&self) -> PathBuf {
        self.state.join("head")
    }
}

/// Whose directory it is, without opening it; `None` when nobody's yet.
///
/// # Errors
/// [`Fault::Damage`] when the ids cannot be read, [`Fault::Foreign`] for an unknown version.
pub fn identity(dir: &Path) -> Result<Option<Identity>, Fault> {
    let path = identity_path(dir);
    let Some(line) = sealed::read::<Line>(&path)? else {
        return Ok(None);
    };
    if line.version != VERSION {
        return Err(Fault::Foreign {
            what: format!(
                "{} has version {}, this binary knows {VERSION}",
                path.display(),
                line.version
            ),
        });
    }
    let identity = Identity {
        ledger_id: line.ledger_id,
        instance_id: line.instance_id,
    };
    check(&identity)?;
    Ok(Some(identity))
}

/// Whether a directory holds a ledger: somebody's ids, or a journal that was put there.
#[must_use]
pub fn is_ledger(dir: &Path) -> bool {
    let is_segment = |name: &OsString| Path::new(name).extension() == Some("segment".as_ref());
    identity_path(dir).exists() || names(&journal_dir(dir)).iter().any(is_segment)
}

/// Names in a data directory, besides those of databases that were moved aside. A start that was killed may have left any
/// of them without a ledger.
const OURS: [&str; 8] = [
    "ledger",
    "ledger.new",
    "lock",
    "journal",
    "sled",
    "refusals",
    "views",
    "ballast",
];

/// Refuses to make a ledger among somebody's own files.
fn check_is_ours(dir: &Path) -> Result<(), Fault> {
    if is_ledger(dir) {
        return Ok(());
    }
    let ours = |name: &OsString| {
        let name = name.to_string_lossy();
        // The root of a file system has this one from the beginning.
        OURS.contains(&&*name) || name.starts_with("sled.aside-") || name == "lost+found"
    };
    match names(dir).iter().find(|name| !ours(name)) {
        Some(other) => Err(Fault::Foreign {
            what: format!(
                "{} holds `{}` and no ledger: name a ledger's directory, an empty one, or a new one",
                dir.display(),
                other.to_string_lossy()
            ),
        }),
        None => Ok(()),
    }
}

/// What is in a directory; nothing where it cannot be read.
fn names(dir: &Path) -> Vec<OsString> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    entries.flatten().map(|entry| entry.file_name()).collect()
}

/// Where a data directory keeps its journal.
#[must_use]
pub fn journal_dir(dir: &Path) -> PathBuf {
    dir.join("journal")
}

/// Where a data directory keeps sled.
#[must_use]
pub fn database_dir(dir: &Path) -> PathBuf {
    dir.join("sled")
}

/// Where a data directory keeps the side log of refusals.
#[must_use]
pub fn refusals_dir(dir: &Path) -> PathBuf {
    dir.join("refusals")
}

fn identity_path(dir: &Path) -> PathBuf {
    dir.join("ledger")
}

fn key_path(state: &Path) -> PathBuf {
    state.join("key")
}

fn has_keys(state_dir: &Path, identity: &Identity) -> bool {
    key_path(&state_dir.join(&identity.instance_id)).exists()
}

/// Makes a new instance of a ledger, or a new ledger; its keys are durable before its name is.
fn new_instance(
    dir: &Path,
    state_dir: &Path,
    ledger_id: Option<String>,
    random: &mut dyn FnMut(&mut [u8]),
) -> Result<Identity, Fault> {
    let mut id = |kind: &str| {
        let mut bytes = [0; 16];
        random(&mut bytes);
        format!("{kind}-{}", hex(&bytes))
    };
    let identity = Identity {
        ledger_id: ledger_id.unwrap_or_else(|| id("ledger")),
        instance_id: id("instance"),
    };
    let state = state_dir.join(&identity.instance_id);
    directory::create(&state, directory::PRIVATE)?;
    secret::read_or_make(&key_path(&state), random)?;
    write_identity(dir, &identity)?;
    Ok(identity)
}

/// Writes down the id that the journal got already, if a new one was given and the process died in between.
fn finish_rename(dir: &Path, identity: Identity) -> Result<Identity, Fault> {
    match journal::renamed(&journal_dir(dir), &identity.ledger_id)? {
        None => Ok(identity),
        Some(ledger_id) => {
            let identity = Identity {
                ledger_id,
                ..identity
            };
            write_identity(dir, &identity)?;
            Ok(identity)
        }
    }
}

fn write_identity(dir: &Path, identity: &Identity) -> Result<(), Fault> {
    check(identity)?;
    let Identity {
        ledger_id,
        instance_id,
    } = identity.clone();
    sealed::write(
        &identity_path(dir),
        &Line {
            version: VERSION,
            ledger_id,
            instance_id,
        },
    )
}

/// An id becomes a checkpoint's origin, a source, and (the instance's) a directory name: nothing odd may be in it.
fn check(identity: &Identity) -> Result<(), Fault> {
    let Identity {
        ledger_id,
        instance_id,
    } = identity;
    let odd =
        |character: char| character.is_control() || character.is_whitespace() || character == '+';
    if ledger_id.is_empty() || ledger_id.len() > LEDGER_ID_BYTES_MAX || ledger_id.contains(odd) {
        return Err(Fault::Foreign {
            what: format!(
                "{ledger_id:?} is no ledger id: 1 to {LEDGER_ID_BYTES_MAX} bytes without spaces, controls and `+`"
            ),
        });
    }
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if instance_id.is_empty() || instance_id.len() > 64 || !instance_id.bytes().all(plain) {
        return Err(Fault::Foreign {
            what: format!(
                "{instance_id:?} is no instance id: 1 to 64 of lower-case letters, digits and `-`"
            ),
        });
    }
    Ok(())
}
