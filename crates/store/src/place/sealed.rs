//! Small files that are replaced whole: JSON on one line, then its checksum.
use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    directory,
    fault::{Damage, Fault},
};

/// Replaces a file: written under another name, synced, renamed, and the directory synced.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Fault> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let written = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(mode)
        .open(&new)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
    written.map_err(Fault::io("write", &new))?;
    fs::rename(&new, path).map_err(Fault::io("rename", &new))?;
    directory::sync(directory::parent(path))
}

/// Replaces a file by the sealed form of a value.
pub(crate) fn write(path: &Path, value: &impl Serialize) -> Result<(), Fault> {
    let line =
        serde_json::to_string(value).map_err(|error| Fault::io("write", path)(error.into()))?;
    let text = format!("{line}\ncrc32c {:08x}\n", crc32c::crc32c(line.as_bytes()));
    replace(path, text.as_bytes(), 0o644)
}

/// Reads a sealed file; `None` when there is none.
///
/// # Errors
/// [`Fault::Damage`] when it is not what was written.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Fault> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Fault::io("read", path)(error)),
    };
    match parse(&bytes) {
        Ok(value) => Ok(Some(value)),
        Err(what) => Err(Damage {
            file: path.to_owned(),
            offset: 0,
            first_position: 1,
            last_position: None,
            what,
        }
        .into()),
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not text".to_owned())?;
    let (line, seal) = text
        .split_once('\n')
        .ok_or_else(|| "its checksum is missing".to_owned())?;
    if seal != format!("crc32c {:08x}\n", crc32c::crc32c(line.as_bytes())) {
        return Err("its checksum does not agree".to_owned());
    }
    serde_json::from_str(line).map_err(|error| error.to_string())
}
