//! sled's directory from outside: what is looked at before sled may open it, and how one that is not believed is kept.
//!
//! sled does not sync what it writes when it says so (`README.md`), so after a machine has died its directory may hold
//! anything, and opening it may still look like success. `waybill.state` beside its files says how it was left: `open`
//! or `clean`, and the boot of the machine, or `damaged`. It is made durable before sled may write, and says
//! `clean` only after everything of sled's has been synced and nothing in it was found damaged.
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::tail::suspect;
use crate::{Fault, directory};

const STATE_FILE: &str = "waybill.state";
/// Directories that were moved aside and are kept, for whoever wants to know what happened.
const KEPT_ASIDE: usize = 2;

/// Makes the directory where it is missing, and says whether sled has been in it.
///
/// # Errors
/// [`Fault::Suspect`] when what is in it cannot be believed; [`Fault::Io`].
pub(super) fn prepare(dir: &Path, boot_id: Option<&str>) -> Result<bool, Fault> {
    directory::create(dir, directory::PRIVATE)?;
    let names = names(dir)?;
    for name in names
        .iter()
        .filter(|name| name.starts_with("snap.") && name.ends_with(".generating"))
    {
        let path = dir.join(name);
        fs::remove_file(&path).map_err(Fault::io("remove", &path))?;
    }
    let used = names.iter().any(|name| name != STATE_FILE);
    if used {
        check_state(dir, boot_id)?;
        check_files(dir)?;
    }
    write_state(dir, &open_state(boot_id))?;
    Ok(used)
}

fn check_state(dir: &Path, boot_id: Option<&str>) -> Result<(), Fault> {
    let path = dir.join(STATE_FILE);
    let state = match fs::read_to_string(&path) {
        Ok(state) => state,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::InvalidData
            ) =>
        {
            String::new()
        }
        Err(error) => return Err(Fault::io("read", &path)(error)),
    };
    if state.starts_with(CLEAN) || (boot_id.is_some() && state == open_state(boot_id)) {
        return Ok(());
    }
    if state == DAMAGED {
        return Err(suspect("damage was found in it".to_owned()));
    }
    Err(suspect(format!(
        "the machine may have died while the database was open: it was left {:?} and this boot is {:?}",
        state.trim(),
        boot_id.unwrap_or("not known")
    )))
}

/// sled takes a file of so few bytes for an empty one.
const EMPTY_BYTES: u64 = 8;

/// sled takes an empty `conf` for none, and never has the last two if it works as we use it.
fn check_files(dir: &Path) -> Result<(), Fault> {
    let bytes = |name: &str| fs::metadata(dir.join(name)).map_or(0, |metadata| metadata.len());
    for name in ["db", "conf"] {
        if bytes(name) <= EMPTY_BYTES {
            return Err(suspect(format!("its file `{name}` is missing or empty")));
        }
    }
    match fs::read_dir(dir.join("blobs")).map(|mut blobs| blobs.next()) {
        Ok(Some(_)) => Err(suspect("it has values in files of their own".to_owned())),
        Ok(None) | Err(_) => Ok(()),
    }
}

const CLEAN: &str = "clean ";
const DAMAGED: &str = "damaged\n";

/// Marks that damage was found, so that the next start believes nothing of it.
pub(super) fn mark_damaged(dir: &Path) -> Result<(), Fault> {
    write_state(dir, DAMAGED)
}

fn open_state(boot_id: Option<&str>) -> String {
    format!("open {}\n", boot_id.unwrap_or("?"))
}

/// Syncs everything and marks a clean stop. Nothing may write any more.
pub(super) fn mark_clean(dir: &Path, boot_id: Option<&str>) -> Result<(), Fault> {
    for name in names(dir)?
        .iter()
        .filter(|name| *name != STATE_FILE && *name != "blobs")
    {
        sync_file(&dir.join(name))?;
    }
    directory::sync(dir)?;
    write_state(dir, &format!("{CLEAN}{}\n", boot_id.unwrap_or("?")))
}

/// Makes what was written to a file durable. It is the file that is synced and not the descriptor, so that ours will do
/// for sled's writes.
pub(super) fn sync_file(path: &Path) -> Result<(), Fault> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(Fault::io("sync", path))
}

/// Replaces the mark, durably. On a full disk it is written over where it stands: half a mark says nothing, and what says
/// nothing is not believed.
fn write_state(dir: &Path, state: &str) -> Result<(), Fault> {
    let path = dir.join(STATE_FILE);
    if fs::read_to_string(&path).is_ok_and(|found| found == state) {
        // Whoever wrote it may have been killed before it could sync.
        sync_file(&path)?;
        return directory::sync(dir);
    }
    let new = dir.join("waybill.state.new");
    match write_whole(File::create(&new), state) {
        Ok(()) => {
            fs::rename(&new, &path).map_err(Fault::io("rename", &new))?;
            directory::sync(dir)
        }
        Err(error) if error.kind() == io::ErrorKind::StorageFull && path.exists() => {
            fs::remove_file(&new).map_err(Fault::io("remove", &new))?;
            let opened = File::options().write(true).open(&path);
            write_whole(opened, state).map_err(Fault::io("write", &path))
        }
        Err(error) => Err(Fault::io("write", &new)(error)),
    }
}

/// Makes a file hold these bytes and no others, and syncs it.
fn write_whole(file: io::Result<File>, text: &str) -> io::Result<()> {
    let mut file = file?;
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)?;
    file.sync_all()
}

/// Renames the directory to the first free `…aside-N` and removes all but the newest of them.
pub(super) fn move_aside(dir: &Path) -> Result<PathBuf, Fault> {
    let parent = directory::parent(dir);
    let prefix = format!(
        "{}.aside-",
        dir.file_name().unwrap_or_default().to_string_lossy()
    );
    let number = |name: &String| {
        name.strip_prefix(&prefix)
            .and_then(|number| number.parse::<u64>().ok())
    };
    let mut numbers: Vec<u64> = names(parent)?.iter().filter_map(number).collect();
    numbers.sort_unstable();
    let next = numbers.last().map_or(1, |last| last + 1);
    let aside = parent.join(format!("{prefix}{next}"));
    fs::rename(dir, &aside).map_err(Fault::io("move aside", dir))?;
    for old in numbers.iter().rev().skip(KEPT_ASIDE - 1) {
        let path = parent.join(format!("{prefix}{old}"));
        fs::remove_dir_all(&path).map_err(Fault::io("remove", &path))?;
    }
    directory::sync(parent)?;
    Ok(aside)
}

/// What the files take up, in bytes; 0 for what cannot be seen.
pub(super) fn bytes_on_disk(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else {
        return 0;
    };
    let files = entries.filter_map(|entry| entry.ok()?.metadata().ok());
    files
        .filter(fs::Metadata::is_file)
        .map(|metadata| metadata.len())
        .sum()
}

fn names(dir: &Path) -> Result<Vec<String>, Fault> {
    let entries = fs::read_dir(dir).map_err(Fault::io("read", dir))?;
    let name = |entry: io::Result<fs::DirEntry>| {
        entry.map(|it| it.file_name().to_string_lossy().into_owned())
    };
    entries
        .map(name)
        .collect::<Result<_, _>>()
        .map_err(Fault::io("read", dir))
}
