//! A tail that goes on where it was after the connection broke, and gives no event twice.
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tonic::{Status, Streaming};
use waybill_proto::{
    pb,
    raw::{RecordedEvent, TailEventsResponse, TailMessage},
};

use super::Reader;
use crate::{
    error::{Error, Verdict, judge, shown},
    retry::{random, slow},
    wire,
};

/// How often the ledger says that it is still there.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Without a word for this long, the connection is dead.
const SILENCE_MAX: Duration = Duration::from_secs(25);

/// Where a tail begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the event at this position; 1 is the first.
    At(u64),
    /// After the newest event that is recorded when the tail first asks.
    Head,
}

/// What a tail says.
#[derive(Clone, Debug, PartialEq)]
pub enum Tailed {
    /// An event.
    Event(Box<RecordedEvent>),
    /// Everything up to this position has been given. Said again after each time of being behind.
    CaughtUp(u64),
    /// Nothing new up to this position.
    Heartbeat(u64),
}

/// Events from a position on, in order, each once.
#[derive(Debug)]
pub struct Tail {
    reader: Reader,
    filter: pb::EventFilter,
    patience: Duration,
    /// First position that was not given; `None` until the head is known.
    next: Option<u64>,
    open: Option<Streaming<TailEventsResponse>>,
    failures: u32,
}

impl Tail {
    pub(super) fn new(
        reader: Reader,
        start: Start,
        filter: pb::EventFilter,
        patience: Duration,
    ) -> Self {
        let next = match start {
            Start::At(position) => Some(position.max(1)),
            Start::Head => None,
        };
        Self {
            reader,
            filter,
            patience,
            next,
            open: None,
            failures: 0,
        }
    }

    /// The first position that was not given: keep it, and a later tail goes on from there.
    #[must_use]
    pub fn position(&self) -> Option<u64> {
        self.next
    }

    /// Waits for the next word. `None` once the filter's last position is passed.
    ///
    /// May be dropped while it waits; nothing is lost.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the ledger was away for longer than the tail's patience: ask again, and it tries
    /// again. [`Error::Refused`] for a filter that the ledger refuses.
    pub async fn next(&mut self) -> Result<Option<Tailed>, Error> {
        let trouble = Instant::now();
        loop {
            let status = match self.step().await {
                Ok(Step::Say(said)) => return Ok(Some(said)),
                Ok(Step::Again) => continue,
                Ok(Step::End) => return Ok(None),
                Err(status) => status,
            };
            self.open = None;
            self.failures += 1;
            let pause = match judge(&status) {
                Verdict::Final(Error::NotAllowed { .. }) if self.reader.client.carrier.renew() => {
                    continue;
                }
                Verdict::Final(error) => return Err(error),
                Verdict::Again(asked) => {
                    self.reader
                        .client
                        .retry
                        .pause(self.failures, asked, random())
                }
            };
            let waited = trouble.elapsed();
            if waited.saturating_add(pause) >= self.patience {
                let tries = std::mem::take(&mut self.failures);
                return Err(Error::Unavailable {
                    tries,
                    waited,
                    last: shown(&status),
                });
            }
            sleep(pause).await;
        }
    }

    async fn step(&mut self) -> Result<Step, Status> {
        let next = match self.next {
            Some(next) => next,
            None => *self.next.insert(self.head().await? + 1),
        };
        let stream = match &mut self.open {
            Some(stream) => stream,
            open => open.insert(connect(&self.reader, next, &self.filter).await?),
        };
        let said = timeout(SILENCE_MAX, stream.message());
        let said = said.await.unwrap_or_else(|_| Err(slow(SILENCE_MAX)))?;
        self.failures = 0;
        match said {
            Some(TailEventsResponse {
                message: Some(message),
            }) => Ok(self.accept(next, message)),
            // A word that this version does not know.
            Some(TailEventsResponse { message: None }) => Ok(Step::Again),
            None if self.filter.last_position != 0 => Ok(Step::End),
            None => Err(Status::unavailable("the ledger ended the tail")),
        }
    }

    fn accept(&mut self, next: u64, message: TailMessage) -> Step {
        let (position, said) = match message {
            // Given before the connection broke.
            TailMessage::Event(event) if event.position < next => return Step::Again,
            TailMessage::Event(event) => (event.position, Tailed::Event(Box::new(event))),
            TailMessage::CaughtUp(said) => (said.position, Tailed::CaughtUp(said.position)),
            TailMessage::Heartbeat(said) => (said.position, Tailed::Heartbeat(said.position)),
        };
        self.next = Some(next.max(position.saturating_add(1)));
        Step::Say(said)
    }

    /// Asked once: with the ledger's own `from_head`, a connection that broke at once would lose what came meanwhile.
    async fn head(&self) -> Result<u64, Status> {
        let limit = self.reader.client.retry.each;
        let asked = self
            .reader
            .ledger()
            .get_status(wire::within(pb::GetStatusRequest {}, limit))
            .await?;
        Ok(asked.into_inner().durable_position)
    }
}

enum Step {
    Say(Tailed),
    Again,
    End,
}

async fn connect(
    reader: &Reader,
    first_position: u64,
    filter: &pb::EventFilter,
) -> Result<Streaming<TailEventsResponse>, Status> {
    let request = pb::TailEventsRequest {
        first_position,
        from_head: false,
        filter: Some(filter.clone()),
        heartbeat_interval: prost_types::Duration::try_from(HEARTBEAT).ok(),
    };
    let each = reader.client.retry.each;
    let opening = wire::server_stream(&reader.client.carrier, wire::TAIL_EVENTS, request);
    timeout(each, opening)
        .await
        .unwrap_or_else(|_| Err(slow(each)))
}
