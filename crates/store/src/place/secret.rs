//! Keys on disk: 32 bytes that only the owner may read.
use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

use super::sealed;
use crate::fault::{Damage, Fault};

/// Bytes of a key.
pub(super) const KEY_BYTES: usize = 32;

/// Reads a key; `None` when there is none.
///
/// # Errors
/// [`Fault::Exposed`] when others may read the file, [`Fault::Damage`] when it has another length.
pub(super) fn read(path: &Path) -> Result<Option<[u8; KEY_BYTES]>, Fault> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Fault::io("read", path)(error)),
    };
    let mode = fs::metadata(path)
        .map_err(Fault::io("read", path))?
        .permissions()
        .mode()
        & 0o777;
    if mode & 0o077 != 0 {
        return Err(Fault::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    let key = <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).map_err(|_| Damage {
        file: path.to_owned(),
        offset: 0,
        first_position: 1,
        last_position: None,
        what: format!("{} bytes are no key of {KEY_BYTES}", bytes.len()),
    })?;
    Ok(Some(key))
}

/// Reads a key, or makes it.
pub(super) fn read_or_make(
    path: &Path,
    random: &mut dyn FnMut(&mut [u8]),
) -> Result<[u8; KEY_BYTES], Fault> {
    if let Some(key) = read(path)? {
        return Ok(key);
    }
    let mut key = [0; KEY_BYTES];
    random(&mut key);
    sealed::replace(path, &key, 0o600)?;
    Ok(key)
}
