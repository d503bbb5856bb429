//! What every command is given: settings, output, the clock, and a way to the answers.
use std::{env, path::PathBuf, time::Duration};

use waybill_core::Time;
use waybill_proto::pb;

use crate::{
    args::{Global, ReadArgs},
    config::{self, Settings},
    exit::Failure,
    output::{Color, Output},
    source::{Source, Where},
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

    /// Where answers come from: flag, then variable, then file, then this machine's own server.
    ///
    /// # Errors
    /// When a variable or file names both a server and a directory, or no place for keys can be found.
    pub(crate) fn place(&self) -> Result<Where, Failure> {
        if let Some(directory) = &self.global.ledger {
            return self.directory(directory.clone());
        }
        if let Some(server) = &self.global.server {
            return Ok(Where::Server(server.clone()));
        }
        match (self.settings.find("server"), self.settings.find("ledger")) {
            (Some(server), Some(ledger)) => Err(Failure::usage(format!(
                "{} names a server and {} a directory",
                server.origin, ledger.origin
            ))
            .with_hint("unset one of them, or say --server URL or --ledger DIR")),
            (Some(server), None) => Ok(Where::Server(server.value)),
            (None, Some(ledger)) => self.directory(PathBuf::from(ledger.value)),
            (None, None) => Ok(Where::Server(SERVER.to_owned())),
        }
    }

    /// A ledger's own files, for commands that need them: as named, or this person's own ledger.
    ///
    /// # Errors
    /// When a server is named, or there is no home directory.
    pub(crate) fn directories(&self) -> Result<(PathBuf, PathBuf), Failure> {
        if let Some(server) = &self.global.server {
            return Err(Failure::usage(format!(
                "--server is `{server}`, and this command works on a ledger's own files"
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
