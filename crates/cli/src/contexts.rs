//! Servers that a person has given names, each with the token that is shown to it and to nobody else.
//!
//! `$XDG_CONFIG_HOME/waybill/contexts.toml` says names and addresses, and nothing secret: people look at such files, copy
//! them and keep them in repositories. A token is in a file of its own, `tokens/NAME` beside it, 0600 in a directory of
//! 0700. Its first line is the address that it was given for, the second the token: whoever changes an address in
//! contexts.toml gets a refusal and not a token that is sent to somebody else.
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use toml::{Table, Value};
use waybill_client::token::{Token, read_private};
use zeroize::Zeroizing;

use crate::{
    config,
    exit::{Exit, Failure},
    private,
    source::Server,
};

/// The longest name of a context.
const NAME_MAX: usize = 64;

/// All contexts of a person.
#[derive(Debug)]
pub(crate) struct Contexts {
    directory: PathBuf,
    current: Option<String>,
    entries: BTreeMap<String, Entry>,
}

/// A server with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) server: String,
    /// Certificate authorities to trust instead of the machine's.
    pub(crate) ca: Option<PathBuf>,
}

impl Contexts {
    /// Reads what is kept; no file is no context.
    ///
    /// # Errors
    /// When there is no home directory, or the file is not as this program writes it.
    pub(crate) fn load(var: &dyn Fn(&str) -> Option<String>) -> Result<Self, Failure> {
        let directory = config::config_home(var).ok_or_else(|| {
            Failure::usage("neither XDG_CONFIG_HOME nor HOME is set, so no context can be kept")
        })?;
        Self::load_from(directory)
    }

    fn load_from(directory: PathBuf) -> Result<Self, Failure> {
        let path = directory.join("contexts.toml");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => {
                return Err(Failure::usage(format!(
                    "{} cannot be read: {error}",
                    path.display()
                )));
            }
        };
        let wrong = |why: &str| Failure::usage(format!("{}: {why}", path.display()));
        let table: Table = text
            .parse()
            .map_err(|error: toml::de::Error| wrong(&error.to_string()))?;
        let current = match table.get("current") {
            None => None,
            Some(Value::String(name)) => Some(name.clone()),
            Some(_) => return Err(wrong("`current` is not text")),
        };
        let mut entries = BTreeMap::new();
        for (name, entry) in table
            .get("contexts")
            .and_then(Value::as_table)
            .into_iter()
            .flatten()
        {
            check_name(name)?;
            let text = |key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
            let server =
                text("server").ok_or_else(|| wrong(&format!("context `{name}` has no server")))?;
            let ca = text("ca").map(PathBuf::from);
            entries.insert(name.clone(), Entry { server, ca });
        }
        Ok(Self {
            directory,
            current,
            entries,
        })
    }

    /// The server of a context, with its token.
    ///
    /// # Errors
    /// When there is no such context, or its token cannot be had.
    pub(crate) fn server(&self, name: &str) -> Result<Server, Failure> {
        let entry = self.entry(name)?;
        Ok(Server {
            address: entry.server.clone(),
            token: self.token(name, entry)?,
            ca: entry.ca.clone(),
            unsent: false,
        })
    }

    /// The context that is used where nothing else is said.
    pub(crate) fn current(&self) -> Option<&str> {
        self.current.as_deref()
    }

    /// Names in order, with what is kept of each; never a token.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries
            .iter()
            .map(|(name, entry)| (name.as_str(), entry))
    }

    /// Whether a context has a token, or why it cannot be had.
    pub(crate) fn has_token(&self, name: &str) -> Result<bool, Failure> {
        let entry = self.entry(name)?;
        self.token(name, entry).map(|token| token.is_some())
    }

    /// Keeps a server under a name. A name that is there already stays with its server: only token and authorities can be
    /// replaced, so that a token is never shown to another server by a slip of the hand.
    ///
    /// # Errors
    /// When the name cannot be one or stands for another server, or the disk fails.
    pub(crate) fn add(
        &mut self,
        name: &str,
        entry: Entry,
        token: Option<&Token>,
    ) -> Result<(), Failure> {
        check_name(name)?;
        if let Some(there) = self
            .entries
            .get(name)
            .filter(|it| it.server != entry.server)
        {
            return Err(Failure::usage(format!(
                "context `{name}` is there already, for {}",
                there.server
            ))
            .with_hint(format!(
                "take another name, or `waybill context rm {name}` first"
            )));
        }
        match token {
            Some(token) => self.write_token(name, &entry.server, token)?,
            None => remove(&self.token_path(name))?,
        }
        self.entries.insert(name.to_owned(), entry);
        self.save()
    }

    /// Uses a context where nothing else is said.
    ///
    /// # Errors
    /// When there is no such context, or the disk fails.
    pub(crate) fn use_(&mut self, name: &str) -> Result<(), Failure> {
        self.entry(name)?;
        self.current = Some(name.to_owned());
        self.save()
    }

    /// Forgets a context and its token.
    ///
    /// # Errors
    /// When there is no such context, or the disk fails.
    pub(crate) fn remove(&mut self, name: &str) -> Result<(), Failure> {
        self.entry(name)?;
        // The token first: what fails halfway leaves no secret without a name.
        remove(&self.token_path(name))?;
        self.entries.remove(name);
        if self.current.as_deref() == Some(name) {
            self.current = None;
        }
        self.save()
    }

    fn entry(&self, name: &str) -> Result<&Entry, Failure> {
        self.entries.get(name).ok_or_else(|| {
            let failure = Failure::new(Exit::NotFound, format!("there is no context `{name}`"));
            let names: Vec<&str> = self.entries.keys().map(String::as_str).collect();
            failure.with_hint(match names.is_empty() {
                true => "`waybill context add NAME --server URL` makes one".to_owned(),
                false => format!("there are {}", names.join(", ")),
            })
        })
    }

    fn token(&self, name: &str, entry: &Entry) -> Result<Option<Token>, Failure> {
        let path = self.token_path(name);
        if fs::symlink_metadata(&path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return Ok(None);
        }
        let again = || {
            format!(
                "give the token again: waybill context add {name} --server {} --token-file FILE",
                entry.server
            )
        };
        let text = read_private(&path).map_err(|error| Failure::usage(error.to_string()))?;
        let (address, token) = text.split_once('\n').unwrap_or_default();
        if address != entry.server {
            return Err(Failure::usage(format!(
                "the token of context `{name}` was given for another server than {}, and is not sent there",
                entry.server
            ))
            .with_hint(again()));
        }
        let token = Token::new(token, &path.display().to_string());
        token
            .map(Some)
            .map_err(|error| Failure::usage(error.to_string()).with_hint(again()))
    }

    fn write_token(&self, name: &str, server: &str, token: &Token) -> Result<(), Failure> {
        let parts = [server.as_bytes(), b"\n", token.expose(), b"\n"];
        let text = Zeroizing::new(parts.concat());
        private::write(&self.token_path(name), &text)
    }

    fn token_path(&self, name: &str) -> PathBuf {
        self.directory.join("tokens").join(name)
    }

    fn save(&self) -> Result<(), Failure> {
        let mut table = Table::new();
        if let Some(current) = &self.current {
            table.insert("current".to_owned(), Value::String(current.clone()));
        }
        let mut contexts = Table::new();
        for (name, entry) in &self.entries {
            let mut about = Table::new();
            about.insert("server".to_owned(), Value::String(entry.server.clone()));
            if let Some(ca) = &entry.ca {
                about.insert("ca".to_owned(), Value::String(ca.display().to_string()));
            }
            contexts.insert(name.clone(), Value::Table(about));
        }
        table.insert("contexts".to_owned(), Value::Table(contexts));
        let text =
            format!("# Kept by `waybill context`. Tokens are in files of their own.\n{table}");
        private::write(&self.directory.join("contexts.toml"), text.as_bytes())
    }
}

/// A name stands in a path and in a table's header, and is typed.
fn check_name(name: &str) -> Result<(), Failure> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let fits = (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(plain);
    if fits && name.as_bytes()[0].is_ascii_alphanumeric() {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "context is `{}`, not a name: 1 to {NAME_MAX} letters, digits and `-_.`, the first a letter or digit",
        waybill_core::refusal::shown(name)
    )))
}

fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Failure::unexpected(format!(
            "{} cannot be removed: {error}",
            path.display()
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use tempfile::TempDir;

    use super::*;

    const CANARY: &str = "wbt_canary-0123456789abcdef";

    fn token() -> Token {
        Token::new(CANARY, "a test").unwrap()
    }

    fn entry(server: &str) -> Entry {
        Entry {
            server: server.to_owned(),
            ca: None,
        }
    }

    fn load(home: &TempDir) -> Contexts {
        Contexts::load_from(home.path().join("waybill")).unwrap()
    }

    fn filled() -> TempDir {
        let home = tempfile::tempdir().unwrap();
        let mut contexts = load(&home);
        contexts
            .add("prod", entry("https://a:1"), Some(&token()))
            .unwrap();
        contexts.add("open", entry("http://b:2"), None).unwrap();
        contexts.use_("prod").unwrap();
        home
    }

    #[test]
    fn a_context_outlives_its_process_with_its_token_and_nobody_else_can_read_it() {
        let home = filled();
        let contexts = load(&home);
        assert_eq!(contexts.current(), Some("prod"));
        let server = contexts.server("prod").unwrap();
        assert_eq!(server.address, "https://a:1");
        assert_eq!(server.token.unwrap().expose(), CANARY.as_bytes());
        assert!(contexts.server("open").unwrap().token.is_none());
        let mode = |path: &str| {
            let path = home.path().join("waybill").join(path);
            fs::metadata(path).unwrap().permissions().mode() & 0o777
        };
        let modes = ["contexts.toml", "tokens", "tokens/prod"].map(mode);
        assert_eq!(modes, [0o600, 0o700, 0o600]);
        let text = fs::read_to_string(home.path().join("waybill/contexts.toml")).unwrap();
        assert!(!text.contains("canary") && !format!("{contexts:?}").contains("canary"));
    }

    #[test]
    fn a_token_stays_with_the_server_that_it_was_given_for() {
        let home = filled();
        let mut contexts = load(&home);
        let refused = contexts
            .add("prod", entry("https://evil:1"), None)
            .unwrap_err();
        assert!(refused.to_string().contains("for https://a:1"), "{refused}");
        // Somebody edits the file.
        let path = home.path().join("waybill/contexts.toml");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("https://a:1", "https://evil:1")).unwrap();
        let refused = load(&home).server("prod").unwrap_err();
        assert!(
            refused.to_string().contains("is not sent there"),
            "{refused}"
        );
        assert!(!format!("{refused} {}", refused.hint()).contains("canary"));
    }

    #[test]
    fn a_token_that_others_can_read_is_refused() {
        let home = filled();
        let path = home.path().join("waybill/tokens/prod");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let refused = load(&home).server("prod").unwrap_err();
        assert!(refused.to_string().contains("chmod 600"), "{refused}");
    }

    #[test]
    fn what_is_removed_is_gone_with_its_token() {
        let home = filled();
        let mut contexts = load(&home);
        contexts.remove("prod").unwrap();
        assert_eq!(load(&home).current(), None);
        assert!(!home.path().join("waybill/tokens/prod").exists());
        let missing = load(&home).server("prod").unwrap_err();
        assert_eq!(missing.exit(), Exit::NotFound);
        assert_eq!(missing.hint(), "there are open");
        // The name does not bring the token back.
        load(&home).add("prod", entry("https://a:1"), None).unwrap();
        assert!(load(&home).server("prod").unwrap().token.is_none());
    }

    #[test]
    fn a_name_is_no_path() {
        let home = tempfile::tempdir().unwrap();
        for name in [
            "",
            "..",
            "../x",
            "a/b",
            ".hidden",
            "a b",
            "ä",
            &"x".repeat(65),
        ] {
            let refused = load(&home).add(name, entry("http://a"), None).unwrap_err();
            assert!(refused.to_string().contains("not a name"), "{refused}");
        }
    }
}
