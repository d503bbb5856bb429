//! A stream on a broker: found right or made right, then read and published to.
use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_nats::{HeaderMap, HeaderName};
use bytes::Bytes;
use futures_core::future::BoxFuture;
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc::{self, error::TrySendError};
use waybill_ledger::stream::{
    Acknowledged, Broker, BrokerFault, Feed, Fitness, Message, Outgoing, StreamState,
};

use crate::{
    api::{self, MESSAGE_NOT_FOUND, STREAM_NAME_IN_USE, STREAM_NOT_FOUND, SUBJECTS_OVERLAP},
    config::{self, Finding, SUBJECTS, Severity},
    feed::{Pull, Suspect},
    link::{Link, LinkError},
    message::Answer,
    monitor::{self, Sync},
    settings::{Checked, Settings},
};

/// Why there is no stream to follow.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings are not safe or not possible; which, and what to do.
    #[error("{0}")]
    Settings(String),
    /// The broker cannot be reached now: try again.
    #[error("the broker cannot be reached: {0}")]
    Away(String),
    /// The broker, or its certificate, says no: trying again will not help.
    #[error("the broker refused: {0}")]
    Refused(String),
    /// The stream would not keep what it is given; at least one finding refuses.
    #[error("stream {name} is not fit for a ledger: {}", refusals(findings))]
    Unfit {
        /// The stream's name.
        name: String,
        /// All that is wrong with it, warnings too.
        findings: Vec<Finding>,
    },
}

fn refusals(findings: &[Finding]) -> String {
    let refusals = findings.iter().filter(|it| it.severity == Severity::Refuse);
    refusals
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

impl From<BrokerFault> for Error {
    fn from(fault: BrokerFault) -> Self {
        match fault {
            BrokerFault::Away(why) => Self::Away(why),
            BrokerFault::Refused(why) => Self::Refused(why),
        }
    }
}

impl From<Error> for BrokerFault {
    fn from(error: Error) -> Self {
        match error {
            Error::Away(why) => Self::Away(why),
            Error::Refused(why) => Self::Refused(why),
            other => Self::Refused(other.to_string()),
        }
    }
}

impl From<LinkError> for Error {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Away(why) => Self::Away(why),
            LinkError::Refused(why) => Self::Refused(why),
        }
    }
}

/// Connects, and finds the stream fit, or creates it. From then on the connection comes back by itself.
///
/// # Errors
/// See [`Error`]; only [`Error::Away`] passes by itself.
pub async fn connect(settings: &Settings) -> Result<Stream, Error> {
    let checked = Checked::try_new(settings).map_err(Error::Settings)?;
    let link = Link::connect(checked).await?;
    let stream = Stream {
        link: Arc::new(link),
        name: settings.stream.clone(),
        consumer: settings.consumer.clone(),
        heartbeat: settings.heartbeat,
        monitor: settings.monitor.clone(),
        replicas: settings.replicas,
        allow_purge: settings.allow_purge,
        suspect: Arc::default(),
    };
    stream.ensure_fit().await?;
    Ok(stream)
}

/// Announcements that wait to be taken in.
const ANNOUNCEMENTS_MAX: usize = 64;

/// A stream that a ledger follows. A clone is the same stream.
#[derive(Clone)]
pub struct Stream {
    pub(crate) link: Arc<Link>,
    pub(crate) name: String,
    pub(crate) consumer: String,
    pub(crate) heartbeat: Duration,
    monitor: Option<String>,
    replicas: u8,
    allow_purge: bool,
    /// Where the last feed broke off.
    pub(crate) suspect: Arc<Mutex<Suspect>>,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("name", &self.name)
            .field("consumer", &self.consumer)
            .finish_non_exhaustive()
    }
}

/// Of what `STREAM.INFO` answers, what is needed here.
#[derive(Deserialize)]
struct Info {
    state: State,
}

#[derive(Deserialize)]
struct State {
    messages: u64,
    first_seq: u64,
    last_seq: u64,
}

impl Stream {
    /// The same stream, read through a consumer of this name.
    #[must_use]
    pub fn with_consumer(&self, consumer: &str) -> Self {
        Self {
            consumer: consumer.to_owned(),
            ..self.clone()
        }
    }

    /// What is not as it should be with the stream's configuration now; it may change while we follow.
    ///
    /// # Errors
    /// The broker is away, or the stream is gone.
    pub async fn findings(&self) -> Result<Vec<Finding>, BrokerFault> {
        let info = self.info().await?;
        self.judge(&info).await
    }

    async fn judge(&self, info: &Value) -> Result<Vec<Finding>, BrokerFault> {
        let config = &info["config"];
        let largest = self.link.client().await?.server_info().max_payload;
        let mut findings = config::findings(config);
        findings.extend(config::too_large(config, largest as u64));
        if self.allow_purge {
            config::tolerate_purge(&mut findings);
        }
        Ok(findings)
    }

    /// How durable the server is now, by its monitoring address.
    pub async fn sync(&self) -> Sync {
        monitor::sync(self.monitor.as_deref()).await
    }

    /// The connected server's name and version.
    ///
    /// # Errors
    /// The broker is away.
    pub async fn server(&self) -> Result<String, BrokerFault> {
        let info = self.link.client().await?.server_info();
        Ok(format!(
            "{} (nats-server {})",
            info.server_name, info.version
        ))
    }

    async fn ensure_fit(&self) -> Result<(), Error> {
        let findings = self.found_or_created().await?;
        if findings.iter().any(|it| it.severity == Severity::Refuse) {
            let name = self.name.clone();
            return Err(Error::Unfit { name, findings });
        }
        Ok(())
    }

    async fn found_or_created(&self) -> Result<Vec<Finding>, BrokerFault> {
        if let Some(info) = self.found().await? {
            return self.judge(&info).await;
        }
        let wanted = config::wanted(&self.name, self.replicas);
        let created =
            api::ask(&self.link, &format!("STREAM.CREATE.{}", self.name), &wanted).await?;
        match created {
            Ok(info) => {
                tracing::info!(stream = self.name, "created the stream");
                self.judge(&info).await
            }
            // Somebody else was quicker.
            Err(error) if error.err_code == STREAM_NAME_IN_USE => {
                let info = self.info().await?;
                self.judge(&info).await
            }
            Err(error) if error.err_code == SUBJECTS_OVERLAP => Err(self.taken().await),
            Err(error) => Err(error.fault()),
        }
    }

    /// Says which streams have our subjects.
    async fn taken(&self) -> BrokerFault {
        let mut owners = Vec::new();
        for subject in SUBJECTS {
            let names = api::ask(&self.link, "STREAM.NAMES", &json!({ "subject": subject })).await;
            if let Ok(Ok(answer)) = names {
                let names = answer["streams"].as_array().into_iter().flatten();
                owners.extend(names.filter_map(Value::as_str).map(str::to_owned));
            }
        }
        owners.sort();
        owners.dedup();
        BrokerFault::Refused(format!(
            "{} cannot be created, its subjects are of stream {}: follow that one (`--stream`), or `nats stream edit` it",
            self.name,
            owners.join(", ")
        ))
    }

    async fn info(&self) -> Result<Value, BrokerFault> {
        let found = self.found().await?;
        found.ok_or_else(|| {
            BrokerFault::Refused(format!("stream {} is not there any more", self.name))
        })
    }

    /// What the broker says of the stream; nothing where it has none of that name.
    async fn found(&self) -> Result<Option<Value>, BrokerFault> {
        let verb = format!("STREAM.INFO.{}", self.name);
        match api::ask(&self.link, &verb, &Value::Null).await? {
            Ok(info) => Ok(Some(info)),
            Err(error) if error.err_code == STREAM_NOT_FOUND => Ok(None),
            Err(error) => Err(error.fault()),
        }
    }

    async fn get(&self, request: Value) -> Result<Option<Message>, BrokerFault> {
        match api::ask(
            &self.link,
            &format!("STREAM.MSG.GET.{}", self.name),
            &request,
        )
        .await?
        {
            Ok(answer) => api::read::<Answer>(answer)?.message().map(Some),
            Err(error) if [MESSAGE_NOT_FOUND, STREAM_NOT_FOUND].contains(&error.err_code) => {
                Ok(None)
            }
            Err(error) => Err(error.fault()),
        }
    }

    async fn publish_one(&self, outgoing: Outgoing) -> Result<Acknowledged, BrokerFault> {
        #[derive(Deserialize)]
        struct Answer {
            stream: String,
            seq: u64,
            #[serde(default)]
            duplicate: bool,
        }
        let headers = header_map(outgoing.headers)?;
        let answer = self
            .link
            .request(outgoing.subject, headers, outgoing.payload)
            .await?;
        let answer = api::answer_of(&answer.payload)?.map_err(|error| error.fault())?;
        let Answer {
            stream,
            seq,
            duplicate,
        } = api::read(answer)?;
        if stream != self.name {
            return Err(BrokerFault::Refused(format!(
                "it was stored in stream {stream}, not in {}",
                self.name
            )));
        }
        Ok(Acknowledged {
            sequence: seq,
            duplicate,
        })
    }
}

fn header_map(headers: Vec<(String, String)>) -> Result<Option<HeaderMap>, BrokerFault> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let refused = || BrokerFault::Refused(format!("header {name:?} cannot be sent"));
        let key: HeaderName = name.parse().map_err(|_| refused())?;
        let value: async_nats::HeaderValue = value.parse().map_err(|_| refused())?;
        map.append(key, value);
    }
    Ok((!map.is_empty()).then_some(map))
}

impl Broker for Stream {
    fn state(&self) -> BoxFuture<'_, Result<StreamState, BrokerFault>> {
        Box::pin(async {
            let name = self.name.clone();
            let Some(info) = self.found().await? else {
                return Ok(StreamState {
                    name,
                    first_sequence: 1,
                    last_sequence: 0,
                });
            };
            let Info { state } = api::read(info)?;
            Ok(StreamState {
                name,
                // A new stream says 0, a purged one last + 1.
                first_sequence: if state.messages == 0 {
                    state.last_seq + 1
                } else {
                    state.first_seq
                },
                last_sequence: state.last_seq,
            })
        })
    }

    fn ensure(&self) -> BoxFuture<'_, Result<(), BrokerFault>> {
        Box::pin(async { Ok(self.ensure_fit().await?) })
    }

    fn message(&self, sequence: u64) -> BoxFuture<'_, Result<Option<Message>, BrokerFault>> {
        Box::pin(async move {
            // There is no sequence 0, and the server takes it for a request that names none.
            if sequence == 0 {
                return Ok(None);
            }
            self.get(json!({ "seq": sequence })).await
        })
    }

    fn first_match<'a>(
        &'a self,
        filter: &'a str,
        from_sequence: u64,
    ) -> BoxFuture<'a, Result<Option<Message>, BrokerFault>> {
        Box::pin(self.get(json!({ "seq": from_sequence.max(1), "next_by_subj": filter })))
    }

    fn publish(&self, message: Outgoing) -> BoxFuture<'_, Result<Acknowledged, BrokerFault>> {
        Box::pin(self.publish_one(message))
    }

    fn fitness(&self) -> BoxFuture<'_, Result<Fitness, BrokerFault>> {
        Box::pin(async {
            let findings = self.findings().await?;
            let sync = self.sync().await;
            let told = |it: Finding| {
                let text = format!("{} is {}, needed is {}", it.field, it.value, it.needed);
                (text, it.mend)
            };
            Ok(Fitness {
                durable: sync.is_durable(),
                sync: sync.to_string(),
                unfit: findings.into_iter().map(told).collect(),
            })
        })
    }

    fn announce(&self, subject: String, text: String) -> BoxFuture<'_, Result<(), BrokerFault>> {
        Box::pin(async move {
            let client = self.link.client().await?;
            let sent = client.publish(subject, text.into()).await;
            sent.map_err(|error| BrokerFault::Away(error.to_string()))
        })
    }

    fn announcements(
        &self,
        filter: String,
    ) -> BoxFuture<'_, Result<mpsc::Receiver<Bytes>, BrokerFault>> {
        Box::pin(async move {
            let client = self.link.client().await?;
            let subscribed = client.subscribe(filter).await;
            let mut subscriber =
                subscribed.map_err(|error| BrokerFault::Away(error.to_string()))?;
            let (send, announcements) = mpsc::channel(ANNOUNCEMENTS_MAX);
            tokio::spawn(async move {
                while let Some(message) = subscriber.next().await {
                    // What nobody takes in time is not worth keeping: the next one says more.
                    if let Err(TrySendError::Closed(_)) = send.try_send(message.payload) {
                        break;
                    }
                }
            });
            Ok(announcements)
        })
    }

    fn feed(&self, after_sequence: u64) -> BoxFuture<'_, Result<Box<dyn Feed>, BrokerFault>> {
        Box::pin(async move {
            let feed: Box<dyn Feed> = Box::new(Pull::begin(self.clone(), after_sequence).await?);
            Ok(feed)
        })
    }
}
