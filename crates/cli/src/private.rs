//! Files that only their owner may read: keys, and who may call a server.
use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use crate::exit::{Exit, Failure};

const MODE: u32 = 0o600;
/// The rights of everybody but the owner.
const OTHERS: u32 = 0o077;

/// Reads a file, and refuses one that others may read or write.
///
/// # Errors
/// When it is not there, cannot be read, or is open to others.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut file = File::open(path).map_err(|error| unread(path, &error))?;
    let mode = file
        .metadata()
        .map_err(|error| unread(path, &error))?
        .permissions()
        .mode()
        & 0o777;
    if mode & OTHERS != 0 {
        let path = path.display();
        return Err(Failure::usage(format!(
            "{path} has mode {mode:04o}: others than its owner may get at it"
        ))
        .with_hint(format!("chmod 600 {path}")));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)
        .map_err(|error| unread(path, &error))?;
    Ok(bytes)
}

/// A file that cannot be read.
pub(crate) fn unread(path: &Path, error: &io::Error) -> Failure {
    let exit = match error.kind() {
        io::ErrorKind::NotFound => Exit::NotFound,
        _ => Exit::Usage,
    };
    Failure::new(exit, format!("{} cannot be read: {error}", path.display()))
}

/// Rewrites a file as a whole, for its owner only; a crash leaves the old or the new. One at a time: who comes second sees
/// what the first has written. A file that does not exist is empty.
///
/// # Errors
/// What `change` says, or when the file cannot be read or written.
pub(crate) fn rewrite<T>(
    path: &Path,
    change: impl FnOnce(&str) -> Result<(String, T), Failure>,
) -> Result<T, Failure> {
    let directory = locked(path)?;
    let text = match read(path) {
        Ok(bytes) => String::from_utf8(bytes)
            .map_err(|_| Failure::usage(format!("{} is not UTF-8", path.display())))?,
        Err(failure) if failure.exit() == Exit::NotFound => String::new(),
        Err(failure) => return Err(failure),
    };
    let (text, answer) = change(&text)?;
    replace(path, text.as_bytes(), &directory)?;
    Ok(answer)
}

/// Writes a file as a whole, for its owner only, whatever was there; a crash leaves the old or the new.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let directory = locked(path)?;
    replace(path, bytes, &directory)
}

/// The directory of a file, made where it is missing and held by this process alone.
fn locked(path: &Path) -> Result<File, Failure> {
    let unwritten = |error| unwritten(path, &error);
    let directory = File::open(directory(path)?).map_err(unwritten)?;
    flock(&directory, FlockOperation::LockExclusive).map_err(|error| unwritten(error.into()))?;
    Ok(directory)
}

fn unwritten(path: &Path, error: &io::Error) -> Failure {
    Failure::unexpected(format!("{} cannot be written: {error}", path.display()))
}

/// The directory of a file, made where it is missing.
fn directory(path: &Path) -> Result<PathBuf, Failure> {
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    let directory = parent.unwrap_or(Path::new(".")).to_owned();
    let made = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory);
    made.map_err(|error| {
        Failure::usage(format!("{} cannot be made: {error}", directory.display()))
    })?;
    Ok(directory)
}

fn replace(path: &Path, bytes: &[u8], directory: &File) -> Result<(), Failure> {
    let replaced = renamed_over(path, bytes).and_then(|()| directory.sync_all());
    replaced.map_err(|error| unwritten(path, &error))
}

fn renamed_over(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    // What a crash left behind may have other rights than ours.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(&new)?;
    file.set_permissions(Permissions::from_mode(MODE))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_its_owners_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("made/tokens.toml");
        rewrite(&path, |old| Ok((format!("{old}a"), ()))).unwrap();
        rewrite(&path, |old| Ok((format!("{old}b"), ()))).unwrap();
        assert_eq!(read(&path).unwrap(), b"ab");
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let failure = read(&path).unwrap_err();
        assert!(failure.to_string().contains("mode 0640"), "{failure}");
        assert!(failure.hint().starts_with("chmod 600 "));
        assert!(rewrite(&path, |old| Ok((old.to_owned(), ()))).is_err());
    }

    #[test]
    fn those_who_write_at_once_lose_nothing() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("tokens.toml");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| rewrite(&path, |old| Ok((format!("{old}x"), ()))).unwrap());
            }
        });
        assert_eq!(read(&path).unwrap(), b"xxxxxxxx");
    }
}
