//! Secrets come from files that only their owner can read, and are never shown.
use std::{fmt, fs, os::unix::fs::PermissionsExt, path::Path};

/// A text that `Debug` does not show.
#[derive(Clone)]
pub(crate) struct Secret(String);

impl Secret {
    /// Reads a file; white space around the secret is not part of it.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        private(path)?;
        let text = fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
        let secret = text.trim();
        if secret.is_empty() {
            return Err(format!("{} holds no secret: it is empty", path.display()));
        }
        Ok(Self(secret.to_owned()))
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Refuses a file that others than its owner can use.
pub(crate) fn private(path: &Path) -> Result<(), String> {
    let mode = fs::metadata(path)
        .map_err(|error| unreadable(path, &error))?
        .permissions()
        .mode()
        & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let path = path.display();
    Err(format!(
        "{path} holds a secret and has mode {mode:04o}, so others can use it: run `chmod 600 {path}`"
    ))
}

fn unreadable(path: &Path, error: &std::io::Error) -> String {
    format!("{} cannot be read: {error}", path.display())
}
