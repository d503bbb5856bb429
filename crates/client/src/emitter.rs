//! Emitting, with retries: one event, or many.
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use prost::Message;
use waybill_proto::{
    limits::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX},
    pb::{self, emit_result},
    raw,
};

use crate::{
    client::Client,
    error::{Error, Refusal},
    event::{Draft, Event},
    id::Id,
    stream::EmitStream,
    wire,
};

/// Emits as one source. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Emitter {
    client: Client,
    source: String,
    actor: Option<pb::Actor>,
}

impl Emitter {
    pub(crate) fn new(client: Client, source: String) -> Self {
        Self {
            client,
            source,
            actor: None,
        }
    }

    /// Sets who does what is emitted, where a draft does not say: see [`crate::actor`].
    #[must_use]
    pub fn with_actor(mut self, actor: pb::Actor) -> Self {
        self.actor = Some(actor);
        self
    }

    /// Makes an event of a draft: source, id, times and bytes are fixed from here on.
    ///
    /// # Errors
    /// The refusal that the ledger would give.
    pub fn event(&self, draft: Draft) -> Result<Event, Box<Refusal>> {
        let mut event = draft.0;
        let now = prost_types::Timestamp::from(SystemTime::now());
        event.source.clone_from(&self.source);
        if event.id.is_empty() {
            event.id = Id::random().as_str().to_owned();
        }
        if event.occur_time.is_none() && event.occur_time_basis() == pb::OccurTimeBasis::Unspecified
        {
            event.occur_time = Some(now);
            event.set_occur_time_basis(pb::OccurTimeBasis::Derived);
        }
        event.produce_time.get_or_insert(now);
        event.actor = event.actor.or_else(|| self.actor.clone());
        Event::from_bytes(event.encode_to_vec())
    }

    /// Sends an event until there is a receipt, for as long as `within`.
    ///
    /// # Errors
    /// [`Error::Refused`] is final. After [`Error::Unavailable`] the event may or may not be recorded: keep it and send
    /// it again.
    pub async fn emit(&self, event: &Event, within: Duration) -> Result<pb::Receipt, Error> {
        let results = self.client.send(&[event.bytes().clone()], within).await?;
        match results.into_iter().next() {
            Some(Ok(receipt)) => Ok(receipt),
            Some(Err(refusal)) => Err(Error::Refused(Box::new(refusal))),
            None => Err(miscounted(0, 1)),
        }
    }

    /// Sends many events, in order, in as few batches as the limits allow. Gives what became of each, in their order.
    ///
    /// # Errors
    /// As [`Emitter::emit`], for a batch as a whole; earlier batches are recorded then, and sending all of them again
    /// is safe.
    pub async fn emit_all(
        &self,
        events: &[Event],
        within: Duration,
    ) -> Result<Vec<Result<pb::Receipt, Refusal>>, Error> {
        let bytes: Vec<Bytes> = events.iter().map(|event| event.bytes().clone()).collect();
        let (started, mut results) = (
            tokio::time::Instant::now(),
            Vec::with_capacity(events.len()),
        );
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(batch_length(rest));
            let left = within.saturating_sub(started.elapsed());
            results.extend(self.client.send(batch, left).await?);
            rest = later;
        }
        Ok(results)
    }

    /// Opens a stream on which at most `in_flight` events are under way at once. Those are given up, and can be sent
    /// again, when the ledger has not answered at all for as long as `patience`.
    #[must_use]
    pub fn stream(&self, in_flight: usize, patience: Duration) -> EmitStream {
        EmitStream::open(self.client.clone(), in_flight, patience)
    }
}

impl Client {
    /// Sends one batch until there is an answer. As many results as events, in their order.
    pub(crate) async fn send(
        &self,
        events: &[Bytes],
        within: Duration,
    ) -> Result<Vec<Result<pb::Receipt, Refusal>>, Error> {
        let answer: pb::EmitResponse = self
            .run(within, async |limit| {
                let request = raw::EmitRequest {
                    events: events.to_vec(),
                };
                wire::unary(&self.carrier, wire::EMIT, request, limit).await
            })
            .await?;
        results(answer.results, events.len())
    }
}

/// Results in our words.
pub(crate) fn results(
    wire: Vec<pb::EmitResult>,
    expected: usize,
) -> Result<Vec<Result<pb::Receipt, Refusal>>, Error> {
    if wire.len() != expected {
        return Err(miscounted(wire.len(), expected));
    }
    let result = |result: pb::EmitResult| match result.result {
        Some(emit_result::Result::Receipt(receipt)) => Ok(Ok(receipt)),
        Some(emit_result::Result::Refusal(refusal)) => Ok(Err(refusal.into())),
        None => Err(Error::Failed(
            "it gave neither receipt nor refusal for an event".to_owned(),
        )),
    };
    wire.into_iter().map(result).collect()
}

fn miscounted(results: usize, events: usize) -> Error {
    Error::Failed(format!("it gave {results} results for {events} events"))
}

/// How many of these events go into one batch; at least one.
pub(crate) fn batch_length(events: &[Bytes]) -> usize {
    let mut bytes = 0;
    let fits = |event: &&Bytes| {
        bytes += event.len();
        bytes <= BATCH_BYTES_MAX
    };
    events
        .iter()
        .take(BATCH_EVENTS_MAX)
        .take_while(fits)
        .count()
        .max(1)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::event::{Build, Deployment};

    fn emitter() -> Emitter {
        Client::connect(crate::DEFAULT_URL)
            .unwrap()
            .emitter("//ci.example.com/shop")
    }

    fn decoded(event: &Event) -> pb::Event {
        pb::Event::decode(event.bytes().clone()).unwrap()
    }

    #[tokio::test]
    async fn an_event_has_everything_before_it_is_sent() {
        let draft = Build::new("4711").finished(pb::Outcome::Success);
        let (one, other) = (
            emitter().event(draft.clone()).unwrap(),
            emitter().event(draft).unwrap(),
        );
        assert_ne!(one.id(), other.id());
        assert_eq!(
            (one.source(), one.kind()),
            ("//ci.example.com/shop", "build.finished")
        );
        let event = decoded(&one);
        assert_eq!(event.occur_time_basis(), pb::OccurTimeBasis::Derived);
        assert_eq!(event.occur_time, event.produce_time);
    }

    #[tokio::test]
    async fn what_the_draft_says_stays() {
        let id = Id::from_parts(["github-actions", "8412", "1"]);
        let when = UNIX_EPOCH + Duration::from_millis(1_700_000_000_250);
        let robot = crate::actor::program("release-bot");
        let draft = Deployment::new("d-1", "checkout", "production")
            .requested()
            .id(&id)
            .at(when)
            .label("squad", "payments")
            .correcting(
                "//ci.example.com/shop",
                &Id::existing("earlier"),
                "wrong service",
            );
        let event = decoded(&emitter().with_actor(robot.clone()).event(draft).unwrap());
        assert_eq!(
            (event.id.as_str(), event.actor.as_ref()),
            (id.as_str(), Some(&robot))
        );
        assert_eq!(event.occur_time, Some(when.into()));
        assert_eq!(event.occur_time_basis(), pb::OccurTimeBasis::Reported);
        assert_eq!(event.record_kind(), pb::RecordKind::Correction);
        assert_eq!(event.amends.unwrap().id, "earlier");
    }

    #[tokio::test]
    async fn a_mistake_is_refused_before_anything_is_sent() {
        let deployment = Deployment::new("d-1", "checkout", "production")
            .revision("github.com/acme/shop", "xyz");
        let refusal = emitter().event(deployment.started()).unwrap_err();
        assert_eq!(
            refusal.field,
            "deployment.started.deployment.revisions[0].revision"
        );
        assert_eq!(refusal.value, "xyz");
    }

    #[test]
    fn batches_keep_to_both_limits() {
        let events = |count: usize, size: usize| vec![Bytes::from(vec![0; size]); count];
        assert_eq!(batch_length(&events(2_500, 10)), BATCH_EVENTS_MAX);
        assert_eq!(batch_length(&events(100, 256 * 1024)), 16);
        assert_eq!(batch_length(&events(3, BATCH_BYTES_MAX + 1)), 1);
    }
}
