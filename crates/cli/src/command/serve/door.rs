//! Who may come in: the files of tokens and of TLS, read at the start and again as they change.
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use waybill_server::{
    Door,
    tls::Tls,
    tokens::{self, Tokens},
};

use crate::{
    args::ServeArgs,
    context::Context,
    exit::{Failure, chain},
    private,
};

/// How often the files are looked at: a token that is revoked ends within a second.
const LOOK_EVERY: Duration = Duration::from_millis(400);

/// Reads what the door needs, and goes on reading.
///
/// # Errors
/// What is wrong with a file.
pub(super) fn open(context: &Context, args: &ServeArgs) -> Result<Door, Failure> {
    let path = |flag: &Option<PathBuf>, key| {
        let set = || context.settings.value(key).map(PathBuf::from);
        flag.clone().or_else(set)
    };
    let tls = match (
        path(&args.tls_cert, "tls_cert"),
        path(&args.tls_key, "tls_key"),
    ) {
        (Some(certificate), Some(key)) => Some(follow(move || tls(&certificate, &key))?),
        (None, None) => None,
        _ => {
            return Err(
                Failure::usage("one of certificate and key is named without the other")
                    .with_hint("give both --tls-cert FILE and --tls-key FILE"),
            );
        }
    };
    let tokens = path(&args.tokens, "tokens").map(|path| follow(move || read_tokens(&path)));
    Ok(Door {
        tokens: tokens.transpose()?,
        tls,
        behind_proxy: args.behind_proxy,
    })
}

fn read_tokens(path: &Path) -> Result<Read<Arc<Tokens>>, Failure> {
    let bytes = private::read(path)?;
    let wrong = |rule: String| {
        Failure::usage(format!("{}:{rule}", path.display())).with_hint(
            "mend it, or make a new file with `waybill token new`; tokens stand in no other file",
        )
    };
    let parse = || {
        let text = std::str::from_utf8(&bytes).map_err(|error| wrong(format!(" {error}")))?;
        let tokens = tokens::parse(text).map_err(|error| wrong(error.to_string()))?;
        Ok((
            format!("{} tokens", tokens.iter().count()),
            Arc::new(tokens),
        ))
    };
    let value = parse();
    Ok(Read { bytes, value })
}

fn tls(certificate: &Path, key: &Path) -> Result<Read<Tls>, Failure> {
    let chain_of =
        std::fs::read(certificate).map_err(|error| private::unread(certificate, &error))?;
    let key_bytes = private::read(key)?;
    let value = Tls::from_pem(&chain_of, &key_bytes).map_err(|error| {
        let (certificate, key) = (certificate.display(), key.display());
        Failure::usage(format!("{certificate} with {key}: {}", chain(&error))).with_hint(
            "both are PEM: the certificate with its chain, and the key that belongs to it",
        )
    });
    let mut bytes = chain_of;
    bytes.extend_from_slice(&key_bytes);
    let value = value.map(|tls| ("certificate".to_owned(), tls));
    Ok(Read { bytes, value })
}

/// What files hold: their bytes, and what these mean.
struct Read<T> {
    bytes: Vec<u8>,
    /// In words for the log, and as it is used.
    value: Result<(String, T), Failure>,
}

/// Reads files now, and again whenever they change. What cannot be read or is wrong later is said, and the last good
/// content goes on counting: a slip of the pen locks nobody out.
fn follow<T>(
    read: impl Fn() -> Result<Read<T>, Failure> + Send + Sync + 'static,
) -> Result<watch::Receiver<T>, Failure>
where
    T: Send + Sync + 'static,
{
    let first = read()?;
    let (send, receive) = watch::channel(first.value?.1);
    let read = Arc::new(read);
    let mut seen: Result<Vec<u8>, String> = Ok(first.bytes);
    tokio::spawn(async move {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = send.closed() => return,
            }
            let read = read.clone();
            // Fails only when the process is about to end.
            let Ok(now) = tokio::task::spawn_blocking(move || read()).await else {
                return;
            };
            let now_seen = match &now {
                Ok(now) => Ok(now.bytes.clone()),
                Err(failure) => Err(failure.to_string()),
            };
            if now_seen != seen {
                seen = now_seen;
                take(&send, now);
            }
        }
    });
    Ok(receive)
}

fn take<T>(send: &watch::Sender<T>, now: Result<Read<T>, Failure>) {
    match now.and_then(|now| now.value) {
        Ok((what, value)) => {
            send.send_replace(value);
            tracing::info!(what, "read again, because its file changed");
        }
        Err(failure) => {
            tracing::error!(
                error = %failure,
                hint = failure.hint(),
                "a file changed and cannot be used; what stood in it before goes on counting"
            );
        }
    }
}
