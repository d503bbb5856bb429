//! Settings: flag, then `WAYBILL_*`, then the project's `.waybill.toml`, then the person's `config.toml`, then default.
//!
//! A project's file may name a service, an environment and a source; where to send and what to believe is the
//! person's alone, so that cloning a repository never sends anything to a stranger's server.
use std::{
    fs,
    path::{Path, PathBuf},
};

use toml::Value;

use crate::exit::Failure;

/// Keys that a file may set, and whether a project's file may.
const KEYS: [(&str, bool); 15] = [
    ("server", false),
    ("ledger", false),
    ("ca", false),
    ("state", false),
    ("listen", false),
    ("log_format", false),
    ("tls_cert", false),
    ("tls_key", false),
    ("tokens", false),
    ("color", false),
    ("timeout", false),
    ("source", true),
    ("service", true),
    ("environment", true),
    ("tag_pattern", true),
];

/// Where settings are looked up. Values come as text; whoever uses one checks it and names its origin.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    layers: Vec<Layer>,
}

#[derive(Clone, Debug)]
struct Layer {
    origin: String,
    values: Vec<(String, String)>,
}

/// A value and who set it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Set {
    pub(crate) value: String,
    /// For messages: `WAYBILL_SERVER`, `.waybill.toml`.
    pub(crate) origin: String,
}

impl Settings {
    /// Reads the environment, the project's file above `directory`, and the person's file.
    ///
    /// # Errors
    /// Refuses a file that is not TOML, a key that does not exist or may not stand there, and a value that is no text.
    pub(crate) fn load(
        directory: &Path,
        var: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Failure> {
        let mut layers = vec![from_environment(var)];
        for (path, project) in [(project_file(directory), true), (person_file(var), false)] {
            if let Some(path) = path.filter(|path| path.is_file()) {
                let text = fs::read_to_string(&path).map_err(|error| {
                    Failure::usage(format!("{} cannot be read: {error}", path.display()))
                })?;
                layers.push(from_toml(&text, &path.display().to_string(), project)?);
            }
        }
        Ok(Self { layers })
    }

    /// The first layer's value of `key`.
    pub(crate) fn find(&self, key: &str) -> Option<Set> {
        self.find_where(key, |_| true)
    }

    /// The value of `key` in the environment alone.
    pub(crate) fn find_in_environment(&self, key: &str) -> Option<Set> {
        self.find_where(key, |layer| layer.origin == ENVIRONMENT)
    }

    /// The value of `key` in the files alone.
    pub(crate) fn find_in_files(&self, key: &str) -> Option<Set> {
        self.find_where(key, |layer| layer.origin != ENVIRONMENT)
    }

    fn find_where(&self, key: &str, counts: impl Fn(&Layer) -> bool) -> Option<Set> {
        debug_assert!(
            KEYS.iter().any(|(known, _)| *known == key),
            "`{key}` is a setting"
        );
        self.layers
            .iter()
            .filter(|layer| counts(layer))
            .find_map(|layer| {
                let (_, value) = layer.values.iter().find(|(known, _)| known == key)?;
                let origin = if layer.origin == ENVIRONMENT {
                    variable(key)
                } else {
                    format!("`{key}` in {}", layer.origin)
                };
                Some(Set {
                    value: value.clone(),
                    origin,
                })
            })
    }

    /// Only the value.
    pub(crate) fn value(&self, key: &str) -> Option<String> {
        self.find(key).map(|set| set.value)
    }

    /// The layers in order of precedence, for `doctor`.
    pub(crate) fn origins(&self) -> Vec<String> {
        self.layers
            .iter()
            .filter(|layer| !layer.values.is_empty())
            .map(|layer| layer.origin.clone())
            .collect()
    }
}

const ENVIRONMENT: &str = "the environment";

fn variable(key: &str) -> String {
    format!("WAYBILL_{}", key.to_ascii_uppercase())
}

fn from_environment(var: &dyn Fn(&str) -> Option<String>) -> Layer {
    let value = |(key, _): &(&str, bool)| {
        let value = var(&variable(key)).filter(|value| !value.is_empty())?;
        Some(((*key).to_owned(), value))
    };
    Layer {
        origin: ENVIRONMENT.to_owned(),
        values: KEYS.iter().filter_map(value).collect(),
    }
}

fn from_toml(text: &str, origin: &str, project: bool) -> Result<Layer, Failure> {
    let table: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| Failure::usage(format!("{origin}: {error}")))?;
    let mut values = Vec::new();
    for (key, value) in table {
        let place = line_of(text, &key)
            .map_or_else(|| origin.to_owned(), |line| format!("{origin}:{line}"));
        match KEYS.iter().find(|(known, _)| *known == key) {
            None => return Err(unknown(&key, &place, project)),
            Some((_, false)) if project => {
                return Err(Failure::usage(format!(
                    "{place}: `{key}` may not stand in a project's file"
                ))
                .with_hint(
                    "put it in config.toml of your own configuration, or use a flag or a variable",
                ));
            }
            Some(_) => values.push((key, as_text(value, &place)?)),
        }
    }
    Ok(Layer {
        origin: origin.to_owned(),
        values,
    })
}

fn unknown(key: &str, place: &str, project: bool) -> Failure {
    let known: Vec<&str> = KEYS
        .iter()
        .filter(|(_, in_project)| *in_project || !project)
        .map(|(key, _)| *key)
        .collect();
    let near = known
        .iter()
        .map(|name| (distance(key, name), *name))
        .min()
        .filter(|(steps, _)| *steps <= 3);
    let hint = match near {
        Some((_, name)) => format!("did you mean `{name}`?"),
        None => format!("the settings are {}", known.join(", ")),
    };
    Failure::usage(format!("{place}: `{key}` is not a setting")).with_hint(hint)
}

fn as_text(value: Value, place: &str) -> Result<String, Failure> {
    match value {
        Value::String(text) => Ok(text),
        Value::Integer(number) => Ok(number.to_string()),
        other => Err(Failure::usage(format!(
            "{place}: the value is a {}, text in quotes is wanted",
            other.type_str()
        ))),
    }
}

/// The line, from 1, on which a key stands.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let stands = |line: &str| {
        let start = line.trim_start().trim_start_matches(['"', '\'', '[']);
        start.strip_prefix(key).is_some_and(|rest| {
            rest.trim_start_matches(['"', '\'', ']'])
                .trim_start()
                .starts_with(['=', '.'])
                || rest.starts_with(']')
        })
    };
    text.lines().position(stands).map(|index| index + 1)
}

/// The project's file: the nearest one up to the root of the git repository; outside of one, only `directory`'s own.
fn project_file(directory: &Path) -> Option<PathBuf> {
    let root = directory
        .ancestors()
        .find(|path| path.join(".git").exists())
        .unwrap_or(directory);
    directory
        .ancestors()
        .take_while(|path| path.starts_with(root))
        .map(|path| path.join(".waybill.toml"))
        .find(|path| path.is_file())
}

fn person_file(var: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    config_home(var).map(|path| path.join("config.toml"))
}

/// `$XDG_CONFIG_HOME/waybill`, or `~/.config/waybill`.
pub(crate) fn config_home(var: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    base(var, "XDG_CONFIG_HOME", ".config").map(|path| path.join("waybill"))
}

/// `$XDG_STATE_HOME/waybill`, or `~/.local/state/waybill`.
///
/// # Errors
/// When neither XDG_STATE_HOME nor HOME says where.
pub(crate) fn state_home(var: &dyn Fn(&str) -> Option<String>) -> Result<PathBuf, Failure> {
    base(var, "XDG_STATE_HOME", ".local/state")
        .map(|path| path.join("waybill"))
        .ok_or_else(|| {
            Failure::usage(
                "neither XDG_STATE_HOME nor HOME is set, so there is no place for a ledger",
            )
            .with_hint("name the directories with --ledger DIR and --state DIR")
        })
}

/// An XDG base directory; a relative one counts as not set, as its specification says.
fn base(var: &dyn Fn(&str) -> Option<String>, name: &str, below_home: &str) -> Option<PathBuf> {
    let absolute = |value: String| Some(PathBuf::from(value)).filter(|path| path.is_absolute());
    var(name).and_then(absolute).or_else(|| {
        var("HOME")
            .and_then(absolute)
            .map(|home| home.join(below_home))
    })
}

/// Single-letter changes that turn one word into the other.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, r) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(l != *r);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn the_environment_goes_before_the_project_and_the_project_before_the_person() {
        let home = tempfile::tempdir().unwrap();
        let repository = home.path().join("src/shop");
        fs::create_dir_all(repository.join(".git")).unwrap();
        fs::create_dir_all(repository.join("deep/down")).unwrap();
        fs::create_dir_all(home.path().join(".config/waybill")).unwrap();
        fs::write(
            home.path().join(".config/waybill/config.toml"),
            "server = \"http://a:1\"\nservice = \"mine\"\ntimeout = 5\n",
        )
        .unwrap();
        fs::write(
            repository.join(".waybill.toml"),
            "service = \"checkout\"\nenvironment = \"prod\"\n",
        )
        .unwrap();
        let path = home.path().display().to_string();
        let var = |name: &str| match name {
            "HOME" => Some(path.clone()),
            "WAYBILL_ENVIRONMENT" => Some("staging".to_owned()),
            _ => None,
        };
        let settings = Settings::load(&repository.join("deep/down"), &var).unwrap();
        assert_eq!(
            settings.find("environment").unwrap(),
            Set {
                value: "staging".to_owned(),
                origin: "WAYBILL_ENVIRONMENT".to_owned()
            }
        );
        assert_eq!(settings.value("service").unwrap(), "checkout");
        assert_eq!(settings.value("server").unwrap(), "http://a:1");
        assert_eq!(settings.value("timeout").unwrap(), "5");
        assert_eq!(settings.value("source"), None);
    }

    #[test]
    fn a_projects_file_cannot_say_where_to_send() {
        let failure = from_toml("\nserver = \"http://evil\"\n", ".waybill.toml", true).unwrap_err();
        assert_eq!(
            failure.to_string(),
            ".waybill.toml:2: `server` may not stand in a project's file"
        );
        // Nor whom to believe, nor which context and token to use.
        for key in ["ca", "context", "token", "token_file"] {
            let text = format!("{key} = \"x\"");
            assert!(from_toml(&text, ".waybill.toml", true).is_err(), "{key}");
        }
    }

    #[test]
    fn unknown_keys_are_errors_with_a_guess() {
        let failure = from_toml("enviroment = \"prod\"", ".waybill.toml", true).unwrap_err();
        assert_eq!(
            failure.to_string(),
            ".waybill.toml:1: `enviroment` is not a setting"
        );
        assert_eq!(failure.hint(), "did you mean `environment`?");
        let failure = from_toml("[whatever]\nx = 1", "config.toml", false).unwrap_err();
        assert!(
            failure.hint().contains("server, ledger"),
            "{}",
            failure.hint()
        );
        assert!(
            from_toml("service = [1]", "config.toml", false)
                .unwrap_err()
                .to_string()
                .contains("array")
        );
        assert!(from_toml("service = ", "config.toml", false).is_err());
    }

    #[test]
    fn a_relative_base_directory_counts_as_not_set() {
        let var = |name: &str| match name {
            "XDG_STATE_HOME" => Some("relative".to_owned()),
            "HOME" => Some("/home/x".to_owned()),
            _ => None,
        };
        assert_eq!(
            state_home(&var).unwrap(),
            PathBuf::from("/home/x/.local/state/waybill")
        );
        assert!(state_home(&nothing).is_err());
    }
}
