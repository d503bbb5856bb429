//! `serve`: one ledger, one port. It stops in good order when it is told to, and at once when it is told twice.
use std::{
    io::{self, IsTerminal as _},
    net::SocketAddr,
};

use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::{oneshot, watch},
};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};
use waybill_ledger::Ledger;
use waybill_server::Settings;

use crate::{
    Ended,
    args::{LogFormat, ServeArgs},
    context::{Context, var},
    exit::{Exit, Failure, chain},
    house, output,
};

mod door;
#[cfg(feature = "nats")]
mod stream;

const LISTEN: &str = "127.0.0.1:8420";
/// The NATS library tells us what happens to the connection, and `waybill-nats` says so once, with the reason: the library's
/// own lines would say it again.
const RETOLD: &str = "async_nats";

/// Serves until it is told to stop.
pub(crate) async fn run(context: &Context, args: ServeArgs) -> Result<(), Ended> {
    start_logging(log_format(context, &args)?);
    let (directory, state) = context.directories()?;
    let (address, origin) = match (&args.listen, context.settings.find("listen")) {
        (Some(address), _) => (address.clone(), "--listen".to_owned()),
        (None, Some(set)) => (set.value, set.origin),
        (None, None) => (LISTEN.to_owned(), "the default".to_owned()),
    };
    let listen = listen_address(&address, &origin)?;
    let door = door::open(context, &args)?;
    // Refused before the ledger is touched, and bound before it is opened: whoever cannot serve does not wait for it.
    waybill_server::check_listen(listen, &door)
        .map_err(|error| Failure::usage(error.to_string()))?;
    let stop = Stop::listen()?;
    // A new ledger waits for its broker before it takes the port: whoever calls meanwhile is told that nobody is there.
    #[cfg(feature = "nats")]
    let followed = stream::open(context, &args.stream, &directory, &stop).await?;
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|error| taken(listen, &error))?;
    let listen = listener.local_addr().map_err(Failure::from)?;
    let scheme = if door.tls.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{listen}");
    let config = house::config(&directory, &state, &url);
    #[cfg(feature = "nats")]
    let (broker, config) = match followed {
        None => (None, config),
        Some(followed) => {
            let config = waybill_ledger::Config {
                stream: Some(followed.config.clone()),
                new_ledger_id: followed.new_ledger_id.clone(),
                ..config
            };
            (Some(followed.broker()), config)
        }
    };
    let quiet = context.global.quiet;
    let opening = tokio::task::spawn_blocking(move || house::open_with(config, quiet));
    let ledger = opening
        .await
        .map_err(|error| Failure::unexpected(error.to_string()))??;
    #[cfg(feature = "nats")]
    if let Some(broker) = &broker {
        stream::Followed::follow(broker, &ledger);
    }
    tracing::info!(address = %url, tokens = door.tokens.is_some(), ledger = %directory.display(), ledger_id = ledger.ledger_id(), "serving");
    let settings = Settings {
        door,
        ..Settings::new(listen)
    };
    serve_until_stopped(ledger, listener, settings, stop).await
}

/// Serves a ledger on a port until SIGTERM or Ctrl-C, then lets calls finish and closes the ledger.
pub(super) async fn serve_until_stopped(
    ledger: Ledger,
    listener: TcpListener,
    settings: Settings,
    stop: Stop,
) -> Result<(), Ended> {
    let (told, telling) = oneshot::channel();
    let first = stop.clone();
    let shutdown = async move {
        first.wait(1).await;
        let _ = told.send(());
    };
    let serving = waybill_server::serve(ledger.clone(), settings, listener, shutdown);
    let close = async {
        serving
            .await
            .map_err(|error| Failure::unexpected(chain(&error)))?;
        let closed = tokio::task::spawn_blocking(move || ledger.close()).await;
        closed
            .map_err(|error| Failure::unexpected(error.to_string()))?
            .map_err(|fault| house::failure(&fault))
    };
    let impatient = async {
        if telling.await.is_err() {
            return std::future::pending().await;
        }
        stop.wait(2).await;
    };
    tokio::select! {
        result = close => Ok(result?),
        () = impatient => {
            output::insist("stopped at once; nothing that has a receipt is lost");
            Err(Ended::Code(Exit::Interrupted as u8))
        }
    }
}

/// How often this process has been told to stop.
#[derive(Clone)]
pub(super) struct Stop(watch::Sender<u32>);

impl Stop {
    /// Listens for SIGTERM and Ctrl-C from here on.
    ///
    /// # Errors
    /// When the system does not tell of signals.
    pub(super) fn listen() -> Result<Self, Failure> {
        let told = watch::Sender::new(0);
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stop = Self(told);
        let heard = stop.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                heard.tell();
            }
        });
        Ok(stop)
    }

    /// Tells this process to stop, as a signal would.
    pub(super) fn tell(&self) {
        self.0.send_modify(|count| *count += 1);
    }

    /// Whether it has been told at all.
    pub(super) fn is_told(&self) -> bool {
        *self.0.borrow() > 0
    }

    /// Ends when it has been told so many times.
    pub(super) async fn wait(&self, times: u32) {
        // It cannot fail: a sender is in our hands.
        drop(self.0.subscribe().wait_for(|count| *count >= times).await);
    }
}

/// Reads an address to listen on.
pub(super) fn listen_address(text: &str, origin: &str) -> Result<SocketAddr, Failure> {
    let numeric = text.replacen("localhost:", "127.0.0.1:", 1);
    numeric.parse().map_err(|_| {
        Failure::usage(format!("the address of {origin} is `{text}`, not IP:PORT"))
            .with_hint("write 127.0.0.1:8420, or port 0 for any free one")
    })
}

fn taken(listen: SocketAddr, error: &io::Error) -> Failure {
    let failure = Failure::unexpected(format!("cannot listen on {listen}: {error}"));
    match error.kind() {
        io::ErrorKind::AddrInUse => failure.with_hint(
            "another server is there; choose another port: --listen 127.0.0.1:0 takes any free one",
        ),
        io::ErrorKind::PermissionDenied => failure
            .with_hint("ports below 1024 need rights; choose another: --listen 127.0.0.1:8420"),
        _ => failure,
    }
}

fn log_format(context: &Context, args: &ServeArgs) -> Result<LogFormat, Failure> {
    match (args.log_format, context.settings.find("log_format")) {
        (Some(format), _) => Ok(format),
        (None, Some(set)) => clap::ValueEnum::from_str(&set.value, false).map_err(|_| {
            Failure::usage(format!(
                "{} is `{}`, neither text nor json",
                set.origin, set.value
            ))
        }),
        (None, None) => Ok(LogFormat::Text),
    }
}

/// Logs go to stderr: stdout is for data.
fn start_logging(format: LogFormat) {
    let colour = io::stderr().is_terminal() && var("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_target(false);
    let shown = Targets::new()
        .with_default(LevelFilter::INFO)
        .with_target(RETOLD, LevelFilter::OFF);
    let shown = tracing_subscriber::registry().with(shown);
    // A second subscriber in one process is a test's; the first one stays.
    let _ = match format {
        LogFormat::Text => shown.with(lines.with_ansi(colour)).try_init(),
        LogFormat::Json => shown.with(lines.json()).try_init(),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_ip_and_port() {
        assert_eq!(
            listen_address("localhost:0", "--listen")
                .unwrap()
                .to_string(),
            "127.0.0.1:0"
        );
        assert_eq!(
            listen_address("[::1]:8420", "--listen").unwrap().port(),
            8420
        );
        for text in ["8420", "127.0.0.1", "example.com:80", ""] {
            let failure = listen_address(text, "--listen").unwrap_err();
            assert!(failure.to_string().contains("--listen"), "{failure}");
        }
    }
}
