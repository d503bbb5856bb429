//! The stream that a ledger follows: from flags and settings to a broker's side, joined where the ledger is new.
use std::{path::Path, sync::Arc, time::Duration};

use waybill_ledger::{
    Ledger,
    stream::{BrokerFault, COMPARE_EVERY, StreamConfig, join},
};
use waybill_nats::{Credentials, Error, Finding, Patient, Settings, Severity, Tls};

use super::Stop;
use crate::{
    args::StreamArgs,
    context::Context,
    exit::{Exit, Failure},
    house,
};

/// The consumer's name before the ledger's instance is known; nothing is read through it.
const NAMELESS: &str = "waybill";
/// How long a new ledger waits before it tries its broker again.
const AGAIN: Duration = Duration::from_secs(1);

/// A broker's side, and what a new ledger is to be called.
pub(super) struct Followed {
    broker: Patient,
    pub(super) config: StreamConfig,
    pub(super) new_ledger_id: Option<String>,
}

/// Connects as far as the ledger needs it: one that has a history is served without its broker, a new one learns from the
/// stream who it is.
///
/// # Errors
/// Settings that are not safe, and what the broker refuses.
pub(super) async fn open(
    context: &Context,
    args: &StreamArgs,
    directory: &Path,
    stop: &Stop,
) -> Result<Option<Followed>, Failure> {
    let Some(settings) = settings(context, args)? else {
        return Ok(None);
    };
    let (name, address) = (settings.stream.clone(), settings.servers.join(", "));
    let broker = Patient::new(settings);
    let is_new = !waybill_ledger::is_ledger(directory);
    let new_ledger_id = match is_new {
        true => Some(who(&broker, &address, &name, stop).await?),
        false => {
            tell_away(&address, broker.connect().await)?;
            None
        }
    };
    let config = StreamConfig {
        broker: Arc::new(broker.clone()),
        name,
        org: args.org.clone().unwrap_or_default(),
        compare_every: COMPARE_EVERY,
    };
    Ok(Some(Followed {
        broker,
        config,
        new_ledger_id,
    }))
}

impl Followed {
    /// Follows, for as long as the ledger is open.
    pub(super) fn follow(broker: &Patient, ledger: &Ledger) {
        broker.name_consumer(ledger.instance_id());
        let ledger = ledger.clone();
        tokio::spawn(async move { ledger.follow().await });
    }

    pub(super) fn broker(&self) -> Patient {
        self.broker.clone()
    }
}

/// The id of the ledger that the stream belongs to, or that a new one gets. Waits for the broker: without it a new ledger
/// has nothing to serve.
async fn who(broker: &Patient, address: &str, name: &str, stop: &Stop) -> Result<String, Failure> {
    let mut told = String::new();
    loop {
        let joined = match broker.connect().await {
            Ok(()) => join(broker, name, &house::host()).await,
            Err(Error::Away(why)) if why == told => Err(BrokerFault::Away(why)),
            Err(error) => {
                told = match &error {
                    Error::Away(why) => why.clone(),
                    _ => String::new(),
                };
                tell_away(address, Err(error))?;
                Err(BrokerFault::Away(told.clone()))
            }
        };
        match joined {
            Ok(joined) => {
                let (ledger_id, new) = (&joined.ledger_id, joined.new);
                tracing::info!(ledger_id, new, stream = name, "the stream's ledger");
                return Ok(joined.ledger_id);
            }
            Err(BrokerFault::Refused(why)) => return Err(Failure::new(Exit::FoundFail, why)),
            Err(BrokerFault::Away(_)) => {}
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            () = stop.wait(1) => {
                return Err(Failure::new(Exit::Interrupted, "stopped before the broker was there"));
            }
        }
    }
}

/// A broker that is away is waited for; anything else does not pass by itself.
fn tell_away(broker: &str, connected: Result<(), Error>) -> Result<(), Failure> {
    match connected {
        Ok(()) => Ok(()),
        Err(Error::Away(why)) => {
            tracing::warn!(broker, why, "the broker is away; it is tried again");
            Ok(())
        }
        Err(Error::Settings(why)) => {
            Err(Failure::usage(why)
                .with_hint("`waybill serve --help` says what each --nats-* takes"))
        }
        Err(error @ Error::Refused(_)) => Err(Failure::new(Exit::Auth, error.to_string())
            .with_hint(
                "look at the broker's permissions and at --nats-* in `waybill serve --help`",
            )),
        Err(Error::Unfit { name, findings }) => {
            Err(Failure::new(Exit::FoundFail, unfit(&name, &findings))
                .with_hint("mend the stream with these commands, or name another with --stream"))
        }
    }
}

/// Flags, then settings.
fn settings(context: &Context, args: &StreamArgs) -> Result<Option<Settings>, Failure> {
    let set = |key| context.settings.value(key);
    let servers = match args.servers.is_empty() {
        false => args.servers.clone(),
        true => set("nats").map_or_else(Vec::new, |urls| {
            urls.split(',').map(|url| url.trim().to_owned()).collect()
        }),
    };
    let path = |flag: &Option<std::path::PathBuf>, key| {
        flag.clone()
            .or_else(|| set(key).map(std::path::PathBuf::from))
    };
    if servers.is_empty() {
        return match said_without_broker(args) {
            None => Ok(None),
            Some(flag) => Err(Failure::usage(format!(
                "{flag} is about a broker, and none is named"
            ))
            .with_hint("name it with --nats nats://HOST:4222")),
        };
    }
    let identity = path(&args.certificate, "nats_cert").zip(path(&args.key, "nats_key"));
    let defaults = Settings::new(servers, NAMELESS);
    Ok(Some(Settings {
        stream: args
            .name
            .clone()
            .or_else(|| set("stream"))
            .unwrap_or(defaults.stream.clone()),
        monitor: args.monitor.clone().or_else(|| set("nats_monitor")),
        replicas: args.replicas,
        tls: Tls {
            first: args.tls_first,
            authorities: path(&args.authorities, "nats_ca"),
            identity,
            ..Tls::default()
        },
        credentials: credentials(args, &path),
        allow_plaintext: args.allow_plaintext,
        allow_purge: args.allow_purge,
        inbox_prefix: args
            .inbox_prefix
            .clone()
            .or_else(|| set("nats_inbox_prefix")),
        ..defaults
    }))
}

/// What keeps a stream from being followed, a line each.
fn unfit(name: &str, findings: &[Finding]) -> String {
    let refusing = findings.iter().filter(|it| it.severity == Severity::Refuse);
    let lines: String = refusing.map(|it| format!("\n  {it}")).collect();
    format!("stream {name} is not fit for a ledger:{lines}")
}

/// A flag that says something of a broker: whoever forgets --nats would else get a ledger of its own.
fn said_without_broker(args: &StreamArgs) -> Option<&'static str> {
    let flags = [
        ("--stream", args.name.is_some()),
        ("--nats-monitor", args.monitor.is_some()),
        ("--nats-ca", args.authorities.is_some()),
        ("--nats-cert", args.certificate.is_some()),
        ("--nats-tls-first", args.tls_first),
        ("--nats-nkey", args.nkey.is_some()),
        ("--nats-creds", args.creds.is_some()),
        ("--nats-user", args.user.is_some()),
        ("--nats-token-file", args.token.is_some()),
        ("--nats-allow-plaintext", args.allow_plaintext),
        ("--nats-allow-purge", args.allow_purge),
        ("--nats-inbox-prefix", args.inbox_prefix.is_some()),
        ("--nats-org", args.org.is_some()),
    ];
    let said = flags.into_iter().find(|(_, is_said)| *is_said);
    said.map(|(flag, _)| flag)
}

fn credentials(
    args: &StreamArgs,
    path: &dyn Fn(&Option<std::path::PathBuf>, &'static str) -> Option<std::path::PathBuf>,
) -> Credentials {
    if let Some((user, password)) = args.user.clone().zip(args.password.clone()) {
        return Credentials::Password(user, password);
    }
    if let Some(token) = &args.token {
        return Credentials::Token(token.clone());
    }
    if let Some(creds) = path(&args.creds, "nats_creds") {
        return Credentials::Creds(creds);
    }
    path(&args.nkey, "nats_nkey").map_or(Credentials::None, Credentials::Nkey)
}
