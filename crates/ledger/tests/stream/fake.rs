//! A broker that can be made to forget, in memory. What a real one does, the process tests show.
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use futures_core::future::BoxFuture;
use tokio::sync::{mpsc, watch};
use waybill_core::Time;
use waybill_ledger::stream::{
    Acknowledged, Broker, BrokerFault, Feed, Fitness, Headers, Message, Outgoing, StreamState,
};

pub(crate) const NAME: &str = "WAYBILL_EVENTS";

/// A stream, and the ways in which it can fail.
#[derive(Clone, Debug)]
pub(crate) struct Fake(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) messages: BTreeMap<u64, Message>,
    pub(crate) last: u64,
    /// Nanoseconds; every message takes the next microsecond.
    pub(crate) clock: i64,
    ids: HashMap<String, u64>,
    /// Feeds of an earlier connection end.
    connection: u64,
    away: bool,
    /// Sequences that feeds leave out once, though they are there.
    pub(crate) skipped: HashSet<u64>,
    /// Messages that feeds give once more, from behind.
    pub(crate) repeats: u64,
    pub(crate) batch: usize,
    pub(crate) acknowledged: u64,
    listeners: Vec<mpsc::Sender<Bytes>>,
}

impl Fake {
    pub(crate) fn new() -> Self {
        let state = State {
            clock: 1_700_000_000_000_000_000,
            batch: 7,
            ..State::default()
        };
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            changed: watch::Sender::new(0),
        }))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    /// Changes the stream; `noticed` breaks the connections.
    pub(crate) fn change(&self, noticed: bool, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        state.connection += u64::from(noticed);
        drop(state);
        self.0.changed.send_modify(|count| *count += 1);
    }

    pub(crate) fn away(&self, away: bool) {
        self.change(true, |state| state.away = away);
    }

    /// A service publishes; gives the sequence.
    pub(crate) fn put(&self, subject: &str, headers: &[(&str, &str)], payload: &[u8]) -> u64 {
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        self.store(subject, Headers::Read(headers), payload)
    }

    pub(crate) fn store(&self, subject: &str, headers: Headers, payload: &[u8]) -> u64 {
        let mut state = self.lock();
        let sequence = state.put(subject.to_owned(), headers, payload.to_vec());
        drop(state);
        self.0.changed.send_modify(|count| *count += 1);
        sequence
    }

    fn here(&self) -> Result<MutexGuard<'_, State>, BrokerFault> {
        let state = self.lock();
        match state.away {
            true => Err(BrokerFault::Away("it was switched off".to_owned())),
            false => Ok(state),
        }
    }
}

impl State {
    pub(crate) fn put(&mut self, subject: String, headers: Headers, payload: Vec<u8>) -> u64 {
        self.last += 1;
        self.clock += 1_000;
        let message = Message {
            sequence: self.last,
            time: Time::from_nanos_clamped(self.clock.into()),
            subject,
            headers,
            payload: payload.into(),
        };
        self.messages.insert(self.last, message);
        self.last
    }

    fn first(&self) -> u64 {
        self.messages
            .keys()
            .next()
            .copied()
            .unwrap_or(self.last + 1)
    }

    /// Forgets everything behind a sequence.
    pub(crate) fn roll_back(&mut self, last: u64) {
        self.messages.retain(|sequence, _| *sequence <= last);
        self.ids.retain(|_, sequence| *sequence <= last);
        self.last = last.min(self.last);
    }

    /// Forgets everything up to a sequence.
    pub(crate) fn purge(&mut self, last: u64) {
        self.messages.retain(|sequence, _| *sequence > last);
        self.last = self.last.max(last);
    }
}

impl Broker for Fake {
    fn state(&self) -> BoxFuture<'_, Result<StreamState, BrokerFault>> {
        Box::pin(async {
            let state = self.here()?;
            Ok(StreamState {
                name: NAME.to_owned(),
                first_sequence: state.first(),
                last_sequence: state.last,
            })
        })
    }

    fn ensure(&self) -> BoxFuture<'_, Result<(), BrokerFault>> {
        Box::pin(async { Ok(()) })
    }

    fn message(&self, sequence: u64) -> BoxFuture<'_, Result<Option<Message>, BrokerFault>> {
        Box::pin(async move { Ok(self.here()?.messages.get(&sequence).cloned()) })
    }

    fn first_match<'a>(
        &'a self,
        filter: &'a str,
        from_sequence: u64,
    ) -> BoxFuture<'a, Result<Option<Message>, BrokerFault>> {
        Box::pin(async move {
            let state = self.here()?;
            let mut found = state.messages.range(from_sequence..);
            let found = found.find(|(_, message)| matches(filter, &message.subject));
            Ok(found.map(|(_, message)| message.clone()))
        })
    }

    fn publish(&self, message: Outgoing) -> BoxFuture<'_, Result<Acknowledged, BrokerFault>> {
        Box::pin(async move {
            let mut state = self.here()?;
            let id = message
                .headers
                .iter()
                .find(|(name, _)| name == "Nats-Msg-Id")
                .map(|(_, id)| id.clone());
            if let Some(sequence) = id.as_ref().and_then(|id| state.ids.get(id)) {
                return Ok(Acknowledged {
                    sequence: *sequence,
                    duplicate: true,
                });
            }
            let headers = Headers::Read(message.headers);
            let sequence = state.put(message.subject, headers, message.payload.to_vec());
            state.ids.extend(id.map(|id| (id, sequence)));
            drop(state);
            self.0.changed.send_modify(|count| *count += 1);
            Ok(Acknowledged {
                sequence,
                duplicate: false,
            })
        })
    }

    fn fitness(&self) -> BoxFuture<'_, Result<Fitness, BrokerFault>> {
        Box::pin(async {
            Ok(Fitness {
                sync: "before each acknowledgement".to_owned(),
                durable: true,
                unfit: Vec::new(),
            })
        })
    }

    fn announce(&self, _: String, text: String) -> BoxFuture<'_, Result<(), BrokerFault>> {
        Box::pin(async move {
            let mut state = self.here()?;
            let heard =
                |listener: &mpsc::Sender<Bytes>| listener.try_send(text.clone().into()).is_ok();
            state.listeners.retain(heard);
            Ok(())
        })
    }

    fn announcements(
        &self,
        _: String,
    ) -> BoxFuture<'_, Result<mpsc::Receiver<Bytes>, BrokerFault>> {
        Box::pin(async {
            let (listener, announcements) = mpsc::channel(64);
            self.here()?.listeners.push(listener);
            Ok(announcements)
        })
    }

    fn feed(&self, after_sequence: u64) -> BoxFuture<'_, Result<Box<dyn Feed>, BrokerFault>> {
        Box::pin(async move {
            let connection = self.here()?.connection;
            let feed = FakeFeed {
                connection,
                last: after_sequence,
                changed: self.0.changed.subscribe(),
                broker: self.clone(),
            };
            Ok(Box::new(feed) as Box<dyn Feed>)
        })
    }
}

struct FakeFeed {
    connection: u64,
    last: u64,
    changed: watch::Receiver<u64>,
    broker: Fake,
}

impl FakeFeed {
    /// What there is to give now.
    fn ready(&mut self) -> Result<Vec<Message>, BrokerFault> {
        let mut state = self.broker.here()?;
        if state.connection != self.connection {
            return Err(BrokerFault::Away("the connection broke".to_owned()));
        }
        let from = self.last.saturating_sub(state.repeats) + 1;
        state.repeats = 0;
        let due: Vec<Message> = state
            .messages
            .range(from..)
            .take(state.batch)
            .map(|(_, message)| message.clone())
            .collect();
        self.last = due
            .last()
            .map_or(self.last, |last| self.last.max(last.sequence));
        let skipped = std::mem::take(&mut state.skipped);
        let mut given = due;
        given.retain(|message| !skipped.contains(&message.sequence));
        Ok(given)
    }
}

impl Feed for FakeFeed {
    fn next(&mut self) -> BoxFuture<'_, Result<Vec<Message>, BrokerFault>> {
        Box::pin(async move {
            loop {
                self.changed.mark_unchanged();
                let ready = self.ready()?;
                if !ready.is_empty() {
                    return Ok(ready);
                }
                let broken = |_| BrokerFault::Away("the broker is gone".to_owned());
                self.changed.changed().await.map_err(broken)?;
            }
        })
    }

    fn acknowledge(&mut self, sequence: u64) -> BoxFuture<'_, Result<(), BrokerFault>> {
        Box::pin(async move {
            let mut state = self.broker.here()?;
            state.acknowledged = state.acknowledged.max(sequence);
            Ok(())
        })
    }
}

/// NATS subject filters, as far as the ledger uses them.
fn matches(filter: &str, subject: &str) -> bool {
    if filter == ">" {
        return true;
    }
    let (filter, subject): (Vec<_>, Vec<_>) =
        (filter.split('.').collect(), subject.split('.').collect());
    filter.len() == subject.len()
        && filter
            .iter()
            .zip(&subject)
            .all(|(filter, token)| *filter == "*" || filter == token)
}
