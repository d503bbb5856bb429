//! What every command is given: settings, output, the clock, and a way to the answers.
use std::{env, path::PathBuf, time::Duration};

use waybill_client::Token;
use waybill_core::Time;
use waybill_proto::pb;
use zeroize::Zeroizing;

use crate::{
    args::{Global, ReadArgs},
    config::{self, Set, Settings},
    contexts::Contexts,
    exit::Failure,
    output::{Color, Output},
    source::{self, Server, Source, Where},
    when,
};

const SERVER: &str = "http://127.0.0.1:8420";
const TIMEOUT: Duration = Duration::from_secs(10);

/// One run of the command line.
pub(crate) struct Context {
    pub(crate) global: Global,
    pub(crate) settings: Settings,
    pub(crate) out: Output,
    /// The same moment for everything that one run says.
    pub(crate) now: Time,
}

impl Context {
    /// Reads settings and decides how to speak.
    ///
    /// # Errors
    /// Refuses settings that cannot be meant.
    pub(crate) fn new(global: Global) -> Result<Self, Failure> {
        let directory = env::current_dir().unwrap_or_default();
        let settings = Settings::load(&directory, &var)?;
        let color = match (global.color, settings.find("color")) {
            (Some(color), _) => color,
            (None, Some(set)) => clap::ValueEnum::from_str(&set.value, false).map_err(|_| {
                Failure::usage(format!(
                    "{} is `{}`, not one of auto, always, never",
                    set.origin, set.value
                ))
            })?,
            (None, None) => Color::Auto,
        };
        let out = Output::new(global.json, global.quiet, color, &var);
        Ok(Self {
            global,
            settings,
            out,
            now: when::now(),
        })
    }

    /// Opens whatever answers: a server, or a directory.
    ///
    /// # Errors
    /// When the directory cannot be opened. A server is called with the first question, not here.
    pub(crate) async fn source(&self, missing: Missing) -> Result<Source, Failure> {
        Source::open(self.place()?, missing, self.timeout()?, self.global.quiet).await
    }

    /// Where answers come from: flag, then variable, then the current context, then file, then this machine's own server.
    /// A project's file has no say in it.
    ///
    /// # Errors
    /// When one level names two places, no place for keys can be found, or a token cannot be had.
    pub(crate) fn place(&self) -> Result<Where, Failure> {
        if let Some(directory) = &self.global.ledger {
            return self.directory(directory.clone());
        }
        if let Some(server) = &self.global.server {
            return self.server(server.clone(), Level::Flag);
        }
        if let Some(name) = &self.global.context {
            return self.named(&Contexts::load(&var)?, name);
        }
        let set = |key| self.settings.find_in_environment(key);
        let name = var("WAYBILL_CONTEXT").filter(|name| !name.is_empty());
        match (only_one(set("server"), set("ledger"))?, name) {
            (Some(Place::Server(server)), None) => return self.server(server, Level::Variable),
            (Some(Place::Directory(directory)), None) => return self.directory(directory),
            (Some(_), Some(_)) => {
                return Err(Failure::usage(
                    "WAYBILL_CONTEXT is set, and so is WAYBILL_SERVER or WAYBILL_LEDGER",
                )
                .with_hint(
                    "unset one of them, or say --context NAME, --server URL or --ledger DIR",
                ));
            }
            (None, Some(name)) => return self.named(&Contexts::load(&var)?, &name),
            (None, None) => {}
        }
        // Without a home there is no context either.
        if config::config_home(&var).is_some() {
            let contexts = Contexts::load(&var)?;
            if let Some(name) = contexts.current() {
                return self.named(&contexts, name);
            }
        }
        let set = |key| self.settings.find_in_files(key);
        match only_one(set("server"), set("ledger"))? {
            Some(Place::Server(server)) => self.server(server, Level::File),
            Some(Place::Directory(directory)) => self.directory(directory),
            None => self.server(SERVER.to_owned(), Level::File),
        }
    }

    /// A context's server is shown the context's token, and nothing that a variable holds.
    fn named(&self, contexts: &Contexts, name: &str) -> Result<Where, Failure> {
        let mut server = contexts.server(name)?;
        server.unsent = token_variable()?.is_some();
        Ok(Where::Server(server))
    }

    /// A server that no context names. It is shown the token of a variable where the same level, or a stronger one that
    /// does not contradict it, says that the token is meant for this server.
    fn server(&self, address: String, level: Level) -> Result<Where, Failure> {
        let variable = self.settings.find_in_environment("server");
        let meant = match (level, variable) {
            (Level::Variable, _) | (Level::Flag, None) => true,
            (Level::Flag, Some(set)) => same_server(&set.value, &address),
            (Level::File, _) => false,
        };
        let token = token_variable()?;
        // Authorities are trusted where something is checked; the same setting may stand beside a server of this machine.
        let secured = source::url(&address).starts_with("https://");
        let ca = self.settings.value("ca").filter(|_| secured);
        Ok(Where::Server(Server {
            address,
            unsent: token.is_some() && !meant,
            token: match token.filter(|_| meant) {
                Some(variable) => Some(variable.read()?),
                None => None,
            },
            ca: ca.map(PathBuf::from),
        }))
    }

    /// A ledger's own files, for commands that need them: as named, or this person's own ledger.
    ///
    /// # Errors
    /// When a server is named, or there is no home directory.
    pub(crate) fn directories(&self) -> Result<(PathBuf, PathBuf), Failure> {
        let named = [
            ("--server", &self.global.server),
            ("--context", &self.global.context),
        ];
        if let Some((flag, Some(name))) = named.iter().find(|(_, name)| name.is_some()) {
            return Err(Failure::usage(format!(
                "{flag} is `{name}`, and this command works on a ledger's own files"
            ))
            .with_hint("name them with --ledger DIR"));
        }
        let directory = match (&self.global.ledger, self.settings.value("ledger")) {
            (Some(directory), _) => directory.clone(),
            (None, Some(directory)) => PathBuf::from(directory),
            (None, None) => self.state_home()?.join("ledger"),
        };
        Ok((directory, self.state_directory()?))
    }

    fn directory(&self, directory: PathBuf) -> Result<Where, Failure> {
        Ok(Where::Directory {
            directory,
            state: self.state_directory()?,
        })
    }

    /// Keys and head files: flag, then setting, then the XDG state directory.
    ///
    /// # Errors
    /// When there is no home directory.
    pub(crate) fn state_directory(&self) -> Result<PathBuf, Failure> {
        match self
            .global
            .state
            .clone()
            .or_else(|| self.settings.value("state").map(PathBuf::from))
        {
            Some(directory) => Ok(directory),
            None => Ok(self.state_home()?.join("instances")),
        }
    }

    /// `$XDG_STATE_HOME/waybill`.
    ///
    /// # Errors
    /// When there is no home directory.
    pub(crate) fn state_home(&self) -> Result<PathBuf, Failure> {
        config::state_home(&var)
    }

    /// How long an answer may take.
    ///
    /// # Errors
    /// Refuses what is no length of time.
    pub(crate) fn timeout(&self) -> Result<Duration, Failure> {
        if let Some(text) = &self.global.timeout {
            return when::length(text, "--timeout");
        }
        self.settings
            .find("timeout")
            .map_or(Ok(TIMEOUT), |set| when::length(&set.value, &set.origin))
    }

    /// A setting that a flag may override.
    pub(crate) fn setting(&self, flag: Option<&str>, key: &str) -> Option<String> {
        flag.map(str::to_owned).or_else(|| self.settings.value(key))
    }

    /// With whose eyes: the request's part that every question has.
    ///
    /// # Errors
    /// Refuses what is no moment.
    pub(crate) fn read_options(&self, args: &ReadArgs) -> Result<pb::ReadOptions, Failure> {
        use pb::knowledge::Order;
        let as_of = args
            .as_of
            .as_deref()
            .map(|text| when::knowledge(text, "--as-of", self.now))
            .transpose()?;
        let evaluated_time = args
            .evaluated
            .as_deref()
            .map(|text| when::moment(text, "--evaluated", self.now))
            .transpose()?;
        let knowledge = args
            .assume_known
            .as_deref()
            .map(|lag| when::length(lag, "--assume-known"))
            .transpose()?
            .map(|lag| {
                let assumed = pb::AssumedKnowledge {
                    lag: Some(when::proto_duration(lag)),
                };
                pb::Knowledge {
                    order: Some(Order::Assumed(assumed)),
                }
            });
        Ok(pb::ReadOptions {
            as_of,
            at_least: args.at_least.map(|position| pb::AtLeast {
                position,
                ..pb::AtLeast::default()
            }),
            evaluated_time: evaluated_time.map(when::proto_time),
            knowledge,
        })
    }

    /// An optional moment of a flag.
    ///
    /// # Errors
    /// Refuses what is no moment, naming the flag.
    pub(crate) fn moment(
        &self,
        text: Option<&str>,
        flag: &str,
    ) -> Result<Option<prost_types::Timestamp>, Failure> {
        text.map(|text| when::moment(text, flag, self.now).map(when::proto_time))
            .transpose()
    }
}

/// Who names a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Flag,
    Variable,
    /// A file, or nobody at all.
    File,
}

/// What settings name.
enum Place {
    Server(String),
    Directory(PathBuf),
}

fn only_one(server: Option<Set>, ledger: Option<Set>) -> Result<Option<Place>, Failure> {
    match (server, ledger) {
        (Some(server), Some(ledger)) => Err(Failure::usage(format!(
            "{} names a server and {} a directory",
            server.origin, ledger.origin
        ))
        .with_hint("unset one of them, or say --server URL or --ledger DIR")),
        (Some(server), None) => Ok(Some(Place::Server(server.value))),
        (None, Some(ledger)) => Ok(Some(Place::Directory(PathBuf::from(ledger.value)))),
        (None, None) => Ok(None),
    }
}

/// A token in the environment, not read before it is known that it is meant.
enum TokenVariable {
    File(String),
    Value(Zeroizing<String>),
}

impl TokenVariable {
    fn read(self) -> Result<Token, Failure> {
        let token = match self {
            Self::File(path) => Token::from_file(path),
            Self::Value(text) => Token::new(&text, "WAYBILL_TOKEN"),
        };
        token.map_err(|error| Failure::usage(error.to_string()))
    }
}

fn token_variable() -> Result<Option<TokenVariable>, Failure> {
    let set = |name| var(name).filter(|value| !value.is_empty());
    match (
        set("WAYBILL_TOKEN_FILE"),
        set("WAYBILL_TOKEN").map(Zeroizing::new),
    ) {
        (Some(_), Some(_)) => Err(Failure::usage(
            "WAYBILL_TOKEN_FILE and WAYBILL_TOKEN are both set",
        )
        .with_hint("unset one of them")),
        (Some(path), None) => Ok(Some(TokenVariable::File(path))),
        (None, Some(text)) => Ok(Some(TokenVariable::Value(text))),
        (None, None) => Ok(None),
    }
}

/// Whether two addresses are the same server's; in doubt they are not.
fn same_server(one: &str, other: &str) -> bool {
    let plain = |address: &str| {
        source::url(address)
            .trim_end_matches('/')
            .to_ascii_lowercase()
    };
    plain(one) == plain(other)
}

/// What to do where a ledger directory does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// A question about nothing is a mistake.
    Refuse,
    /// What writes may begin a ledger.
    Create,
}

/// A variable of the environment; one that is not UTF-8 counts as not set.
pub(crate) fn var(name: &str) -> Option<String> {
    env::var(name).ok()
}
