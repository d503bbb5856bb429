//! What a ledger knows its callers by.
use std::{
    fmt, fs, io,
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use http::HeaderValue;
use zeroize::Zeroizing;

/// No token that a ledger makes is shorter; a shorter one is a typing mistake, or can be guessed.
const LENGTH_MIN: usize = 16;
/// None is longer, and a file of another kind is not read to its end.
const LENGTH_MAX: usize = 512;

const SCHEME: &str = "Bearer ";

/// A token: a secret. It is not shown, not even by `{:?}`; its bytes are in memory once, however often it is cloned, and
/// are overwritten when the last clone is dropped.
#[derive(Clone)]
pub struct Token {
    /// The header as it is sent.
    header: HeaderValue,
    /// Where it was read, and where its successor will be.
    file: Option<Arc<Path>>,
}

/// Why there is no token. No message repeats one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("the token file {} cannot be read: {why}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// How reading failed.
        why: String,
    },
    /// Others than its owner may read or change the file.
    #[error("the token file {} is open to others than its owner (mode {mode:03o}): `chmod 600 {}`", path.display(), path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// What was given is no token.
    #[error(
        "{from} holds no token: one is {LENGTH_MIN} to {LENGTH_MAX} letters, digits and `-._~+/=`, on one line"
    )]
    Malformed {
        /// Where it came from: a path, or the name of a variable.
        from: String,
    },
}

impl Token {
    /// Reads a token out of a file that nobody but its owner may read or change. Where a ledger does not accept it any more,
    /// the file is read again: whoever renews a token replaces the file, and restarts nothing.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, TokenError> {
        let path = path.as_ref();
        let text = read_private(path)?;
        let token = Self::new(&text, &path.display().to_string())?;
        Ok(Self {
            file: Some(path.into()),
            ..token
        })
    }

    /// What its file holds now, where that is another token.
    pub(crate) fn successor(&self) -> Option<Self> {
        let token = Self::from_file(self.file.as_deref()?).ok()?;
        (token.header != self.header).then_some(token)
    }

    /// A token that was given as text. White space around it is not part of it; `from` says in errors where it came from,
    /// since what was given is never shown. Clearing the text itself is the caller's.
    ///
    /// # Errors
    /// [`TokenError::Malformed`].
    pub fn new(text: &str, from: &str) -> Result<Self, TokenError> {
        let malformed = || TokenError::Malformed {
            from: from.to_owned(),
        };
        let text = text.trim();
        let fits = (LENGTH_MIN..=LENGTH_MAX).contains(&text.len());
        if !fits || !text.bytes().all(is_token_byte) {
            return Err(malformed());
        }
        let header = Zeroizing::new([SCHEME.as_bytes(), text.as_bytes()].concat());
        // Takes the bytes over without a copy.
        let mut header =
            HeaderValue::from_maybe_shared(Bytes::from_owner(header)).map_err(|_| malformed())?;
        header.set_sensitive(true);
        Ok(Self { header, file: None })
    }

    /// Marked as sensitive, so that neither its `Debug` nor a table of HTTP/2 headers holds it.
    pub(crate) fn header(&self) -> HeaderValue {
        self.header.clone()
    }

    /// The token itself, for whoever has to keep it.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.header.as_bytes()[SCHEME.len()..]
    }
}

/// Reads a short file, once it is known that it is its owner's alone.
///
/// # Errors
/// [`TokenError::Unreadable`] and [`TokenError::Open`].
pub fn read_private(path: &Path) -> Result<Zeroizing<String>, TokenError> {
    let unreadable = |why: String| TokenError::Unreadable {
        path: path.to_owned(),
        why,
    };
    let failed = |error: io::Error| unreadable(error.to_string());
    let file = fs::File::open(path).map_err(failed)?;
    // Of the file that is open, so that no other can be put in its place meanwhile.
    let about = file.metadata().map_err(failed)?;
    let mode = about.permissions().mode() & 0o777;
    if !about.is_file() {
        return Err(unreadable("it is not a file".to_owned()));
    }
    if mode & 0o077 != 0 {
        let path = path.to_owned();
        return Err(TokenError::Open { path, mode });
    }
    let limit = 16 * LENGTH_MAX;
    // As large as it may become: a growing buffer would leave its beginnings behind in memory.
    let mut text = Zeroizing::new(String::with_capacity(limit + 1));
    file.take(limit as u64)
        .read_to_string(&mut text)
        .map_err(failed)?;
    Ok(text)
}

/// The characters of RFC 6750.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte)
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANARY: &str = "wbt_canary-0123456789abcdef";

    #[test]
    fn a_token_is_sent_and_never_shown() {
        let token = Token::new(&format!(" {CANARY}\n"), "a test").unwrap();
        assert_eq!(token.expose(), CANARY.as_bytes());
        assert_eq!(
            token.header().as_bytes(),
            format!("Bearer {CANARY}").as_bytes()
        );
        for shown in [format!("{token:?}"), format!("{:?}", token.header())] {
            assert!(!shown.contains("canary"), "{shown}");
        }
    }

    #[test]
    fn what_is_no_token_is_refused_and_not_repeated() {
        let long = "x".repeat(LENGTH_MAX + 1);
        for text in [
            "",
            "short",
            "canary with spaces in it",
            "canary\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}",
            "canary-canary-\r\ncanary-canary",
            &long,
        ] {
            let error = Token::new(text, "WAYBILL_TOKEN").unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(
                shown.contains("WAYBILL_TOKEN") && !shown.contains("canary"),
                "{shown}"
            );
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_with_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        fs::write(&path, CANARY).unwrap();
        for mode in [0o644, 0o640, 0o604, 0o622] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = Token::from_file(&path).unwrap_err();
            assert_eq!(
                error,
                TokenError::Open {
                    path: path.clone(),
                    mode
                }
            );
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let token = Token::from_file(&path).unwrap();
        assert_eq!(token.expose(), CANARY.as_bytes());
        assert!(token.successor().is_none());
        fs::write(&path, CANARY.replace("canary", "renewed")).unwrap();
        let renewed = token.successor().unwrap();
        assert!(renewed.expose().starts_with(b"wbt_renewed"));
        let away = Token::from_file(directory.path().join("away")).unwrap_err();
        assert!(matches!(away, TokenError::Unreadable { .. }), "{away}");
        let directory = Token::from_file(directory.path()).unwrap_err();
        assert!(
            matches!(directory, TokenError::Unreadable { .. }),
            "{directory}"
        );
    }
}
