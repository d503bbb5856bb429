//! One connection to the broker, for ever: it comes back by itself, and what happens to it is said once.
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::{
    Client, ClientError, ConnectErrorKind, Event, HeaderMap, Message, Request, ServerError,
    client::RequestErrorKind,
};
use bytes::Bytes;
use tokio::sync::{Mutex, watch};
use waybill_ledger::stream::BrokerFault;

use crate::settings::Checked;

/// What a server said so shortly before it hung up is why it did.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The connection, and what is known of it.
pub(crate) struct Link {
    checked: Checked,
    client: Mutex<Client>,
    condition: watch::Sender<Condition>,
}

/// What the library told us.
#[derive(Clone, Debug, Default)]
pub(crate) struct Condition {
    /// How often the connection was lost: whoever waits for something of an earlier one waits in vain.
    pub(crate) losses: u64,
    state: State,
    /// The server's last complaint.
    said: Option<(Instant, String)>,
}

#[derive(Clone, Debug, Default)]
enum State {
    #[default]
    Here,
    /// The library is trying again; why it must.
    Away(String),
    /// The library's task is gone. It panics at a message whose header value holds a carriage return, and then the
    /// client answers nothing for ever.
    Dead,
}

impl Link {
    /// Connects, once.
    pub(crate) async fn connect(checked: Checked) -> Result<Self, LinkError> {
        let condition = watch::Sender::new(Condition::default());
        let client = client(&checked, &condition).await?;
        Ok(Self {
            checked,
            client: Mutex::new(client),
            condition,
        })
    }

    /// What is known now, and news of it.
    pub(crate) fn watch(&self) -> watch::Receiver<Condition> {
        self.condition.subscribe()
    }

    /// The client, connected; waits for that as long as for an answer.
    pub(crate) async fn client(&self) -> Result<Client, BrokerFault> {
        let client = self.living().await?;
        let mut watch = self.watch();
        let patience = self.patience();
        // What `wait_for` gives is a lock, which must not be held when the reason is looked up.
        let here = async {
            watch
                .wait_for(|it| matches!(it.state, State::Here))
                .await
                .is_ok()
        };
        if tokio::time::timeout(patience, here).await == Ok(true) {
            return Ok(client);
        }
        Err(BrokerFault::Away(self.find_out().await))
    }

    /// Why the broker is away, by trying: of what the library tries it tells the kind of error only.
    async fn find_out(&self) -> String {
        match client(&self.checked, &watch::Sender::default()).await {
            Ok(_) => self.why_away(),
            Err(error) => error.to_string(),
        }
    }

    async fn living(&self) -> Result<Client, BrokerFault> {
        let mut held = self.client.lock().await;
        if matches!(self.condition.borrow().state, State::Dead) {
            *held = client(&self.checked, &self.condition)
                .await
                .map_err(|error| BrokerFault::Away(error.to_string()))?;
            self.condition.send_modify(|it| it.state = State::Here);
        }
        Ok(held.clone())
    }

    /// How long the broker has to answer.
    pub(crate) fn patience(&self) -> Duration {
        self.checked.settings.request_timeout
    }

    /// Asks, and waits for the answer.
    pub(crate) async fn request(
        &self,
        subject: String,
        headers: Option<HeaderMap>,
        payload: Bytes,
    ) -> Result<Message, BrokerFault> {
        let begun = Instant::now();
        let client = self.client().await?;
        let mut request = Request::new().payload(payload);
        if let Some(headers) = headers {
            request = request.headers(headers);
        }
        let mut watch = self.watch();
        let losses = watch.borrow().losses;
        let mut complaints = self.watch();
        tokio::select! {
            answer = client.send_request(subject.clone(), request) => {
                answer.map_err(|error| self.fault(&subject, &error))
            }
            () = lost(&mut watch, losses) => Err(BrokerFault::Away(self.why_away())),
            why = forbidden(&mut complaints, &subject, begun) => Err(BrokerFault::Refused(why)),
        }
    }

    fn fault(&self, subject: &str, error: &async_nats::RequestError) -> BrokerFault {
        match error.kind() {
            RequestErrorKind::TimedOut => BrokerFault::Away(format!(
                "no answer at {subject} within {:?}",
                self.patience()
            )),
            RequestErrorKind::NoResponders => BrokerFault::Away(format!(
                "nobody answers at {subject}: is JetStream on, and ours the right account?"
            )),
            RequestErrorKind::InvalidSubject | RequestErrorKind::MaxPayloadExceeded => {
                BrokerFault::Refused(error.to_string())
            }
            RequestErrorKind::Other => BrokerFault::Away(error.to_string()),
        }
    }

    /// Why the connection is not there, or was not.
    pub(crate) fn why_away(&self) -> String {
        let condition = self.condition.borrow();
        match &condition.state {
            State::Away(why) => why.clone(),
            State::Dead => "the client stopped at a message that it cannot read".to_owned(),
            State::Here => "the connection was lost".to_owned(),
        }
    }
}

/// Returns when the connection has been lost more often than that.
pub(crate) async fn lost(watch: &mut watch::Receiver<Condition>, losses: u64) {
    // The sender is in the link, which outlives all that watch it; without it all is lost anyway.
    let _ = watch.wait_for(|it| it.losses > losses).await;
}

/// Returns the server's complaint that something may not be done. It does not answer such a request, but complains beside:
/// about its subject, or about that of its answer.
async fn forbidden(
    watch: &mut watch::Receiver<Condition>,
    subject: &str,
    begun: Instant,
) -> String {
    let about = |said: &str| {
        let said = said.to_lowercase();
        said.contains("permissions violation")
            && (said.contains("for subscription to") || said.contains(&subject.to_lowercase()))
    };
    let complains =
        |it: &Condition| matches!(&it.said, Some((when, said)) if *when >= begun && about(said));
    if watch.wait_for(complains).await.is_err() {
        // Without a link nobody waits for this.
        std::future::pending::<()>().await;
    }
    let condition = watch.borrow();
    condition
        .said
        .as_ref()
        .map(|(_, said)| said.clone())
        .unwrap_or_default()
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("{0}")]
    Away(String),
    #[error("{0}")]
    Refused(String),
}

async fn client(
    checked: &Checked,
    condition: &watch::Sender<Condition>,
) -> Result<Client, LinkError> {
    let ear = Arc::new(Ear(condition.clone()));
    let options = checked
        .options()
        .map_err(LinkError::Refused)?
        .event_callback(move |event| {
            ear.hear(&event);
            std::future::ready(())
        });
    let servers = checked.servers.clone();
    let patience = checked.settings.request_timeout;
    options.connect(servers).await.map_err(|error| {
        let text = chain(&error);
        match error.kind() {
            ConnectErrorKind::Authentication
            | ConnectErrorKind::AuthorizationViolation
            | ConnectErrorKind::Tls
            | ConnectErrorKind::ServerParse => LinkError::Refused(text),
            // A certificate that does not hold comes as an error of the socket.
            ConnectErrorKind::Io if text.contains("certificate") => {
                LinkError::Refused(format!("TLS: {text}"))
            }
            ConnectErrorKind::Io if text.contains("corrupt message") => {
                LinkError::Refused(format!("TLS: {text}: no TLS is spoken at that address"))
            }
            ConnectErrorKind::TimedOut => LinkError::Away(format!(
                "no NATS server answers within {patience:?}: is another service at that address?"
            )),
            _ => LinkError::Away(text),
        }
    })
}

/// An error with its sources, as one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}

/// Hears what the library says. The library drops it when its task ends.
struct Ear(watch::Sender<Condition>);

impl Ear {
    fn hear(&self, event: &Event) {
        match event {
            Event::Connected => self.back(),
            Event::Disconnected => self.lost(),
            Event::ServerError(error) => self.said(match error {
                ServerError::AuthorizationViolation => "authorization violation".to_owned(),
                other => other.to_string(),
            }),
            Event::ClientError(ClientError::Other(why)) => self.still_away(why),
            _ => {}
        }
    }

    fn back(&self) {
        self.0.send_if_modified(|it| {
            let away = matches!(it.state, State::Away(_));
            if away {
                tracing::info!("the NATS connection is back");
                it.state = State::Here;
                it.said = None;
            }
            away
        });
    }

    fn lost(&self) {
        self.0.send_modify(|it| {
            let why = match &it.said {
                Some((when, said)) if when.elapsed() < LAST_WORDS => {
                    format!("the connection was lost: {said}")
                }
                _ => "the connection was lost".to_owned(),
            };
            tracing::warn!(why, "the NATS broker is away");
            it.losses += 1;
            it.state = State::Away(why);
        });
    }

    fn said(&self, said: String) {
        self.0.send_modify(|it| {
            if it.said.as_ref().is_none_or(|(_, before)| *before != said) {
                tracing::warn!(said, "the NATS server complains");
            }
            it.said = Some((Instant::now(), said));
        });
    }

    fn still_away(&self, why: &str) {
        self.0.send_if_modified(|it| match &mut it.state {
            State::Away(before) if before != why => {
                tracing::warn!(why, "the NATS broker is still away");
                why.clone_into(before);
                true
            }
            _ => false,
        });
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.0.send_modify(|it| {
            it.losses += 1;
            it.state = State::Dead;
        });
    }
}
