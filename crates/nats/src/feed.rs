//! Every message of a stream, in order, through a consumer; by sequence where the consumer's way is barred.
//!
//! **What cannot be read.** The client library drops its connection at a message whose headers are not as it likes
//! them (bytes that are not UTF-8, a line without a colon, …), and its task panics at some. The server would send
//! that message again for ever, and any publisher could stop a ledger with it. So a feed that begins where another
//! broke off reads the first messages by their sequence, which answers in base64, and goes back to the consumer behind
//! them. That most breaks have other causes does no harm: both ways give the same message.
//!
//! **Whose position.** The ledger's. The consumer is made anew with each feed; its acknowledgements only show an
//! operator how far the ledger is.
use std::{collections::VecDeque, ops::Range, time::Duration};

use async_nats::{Client, StatusCode, Subject, Subscriber};
use futures_core::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, future::try_join_all};
use serde_json::json;
use tokio::{sync::watch, time::Instant};
use waybill_ledger::stream::{Broker, BrokerFault, Feed, Message};

use crate::{
    api::{self, CONSUMER_NOT_FOUND},
    link::{Condition, lost},
    message::{Delivered, delivered},
    stream::Stream,
};

/// Messages and bytes that are handed on at once, at most. What has arrived is handed on without waiting for more, so
/// a lone message is not held up and a crowd comes in few batches.
const HANDED_ON: usize = 1_024;
const HANDED_ON_BYTES: usize = 1 << 20;
/// Messages of one request to the server; the next is sent when no more than this are still to come.
const PULLED: u64 = 1_024;
/// Bytes of one request, beside the longest message.
const PULLED_BYTES: usize = 4 << 20;
/// A request that is not filled ends after this.
const PULL_EXPIRES: Duration = Duration::from_secs(30);
/// The server sends again what was not acknowledged for so long.
const ACK_WAIT: Duration = Duration::from_secs(30);
/// Messages that may be on their way, and in the ledger, without being acknowledged.
const UNACKNOWLEDGED: u64 = 65_536;
/// A consumer that nobody uses is removed by the server after this.
const FORGOTTEN: Duration = Duration::from_secs(300);
/// Messages that are asked for by sequence at the same time.
const BY_SEQUENCE: u64 = 32;

/// Where a feed broke off, and how many messages from there are read by sequence.
#[derive(Debug, Default)]
pub(crate) struct Suspect {
    at: u64,
    span: u64,
}

impl Suspect {
    const SPAN_MIN: u64 = 64;
    const SPAN_MAX: u64 = 4_096;

    /// A feed broke off before this sequence. Where breaks are close together, more is read by sequence.
    fn broke(&mut self, at: u64) {
        let near = self.span > 0 && at < self.at.saturating_add(self.span + Self::SPAN_MAX);
        let span = if near { self.span * 2 } else { Self::SPAN_MIN };
        *self = Self {
            at,
            span: span.min(Self::SPAN_MAX),
        };
    }

    fn range(&self) -> Range<u64> {
        self.at..self.at.saturating_add(self.span)
    }
}

/// A feed that pulls.
pub(crate) struct Pull {
    stream: Stream,
    /// Behind the highest sequence that came.
    next: u64,
    /// What is read by sequence.
    suspect: Range<u64>,
    ready: Vec<Message>,
    ready_bytes: usize,
    /// The last message of each batch that was handed on, and where its acknowledgement goes.
    handed_on: VecDeque<(u64, Subject)>,
    last_reply: Option<(u64, Subject)>,
    flow: Option<Box<Flow>>,
    /// What takes several answers of the broker goes on where it was when a wait for messages is given up.
    underway: Option<BoxFuture<'static, Result<Done, BrokerFault>>>,
    ended: Option<BrokerFault>,
}

/// What was underway.
enum Done {
    /// A consumer was made.
    Begun(Box<Flow>),
    /// Messages were asked for by sequence.
    Found(Found),
}

/// The messages from a sequence on, as far as there are any.
struct Found {
    from: u64,
    messages: Vec<Option<Message>>,
    /// Where what is missing is a hole: up to here.
    last: u64,
}

/// A consumer, and what was asked of it.
struct Flow {
    client: Client,
    subscriber: Subscriber,
    /// Answers about requests come to `<inbox>.<number>`.
    inbox: String,
    number: u64,
    /// Messages that were asked for and have not come.
    pending: u64,
    watch: watch::Receiver<Condition>,
    losses: u64,
    /// When the server was heard, or something was asked of it that it must answer.
    heard: Instant,
}

impl Pull {
    pub(crate) async fn begin(stream: Stream, after: u64) -> Result<Self, BrokerFault> {
        let suspect = locked(&stream).range();
        let next = after.saturating_add(1);
        let mut pull = Self {
            stream,
            next,
            suspect,
            ready: Vec::new(),
            ready_bytes: 0,
            handed_on: VecDeque::new(),
            last_reply: None,
            flow: None,
            underway: None,
            ended: None,
        };
        // So that what stands in the way is said now, and not with the first message.
        pull.prepare().await?;
        Ok(pull)
    }

    /// Makes a consumer, or reads by sequence, where that comes next.
    async fn prepare(&mut self) -> Result<(), BrokerFault> {
        let by_sequence = self.suspect.contains(&self.next);
        if self.flow.is_some() && !by_sequence {
            return Ok(());
        }
        let stream = self.stream.clone();
        let next = self.next;
        let end = self.suspect.end.min(next.saturating_add(BY_SEQUENCE));
        let underway = self.underway.get_or_insert_with(|| {
            if by_sequence {
                Box::pin(async move { by_sequences(&stream, next..end).await.map(Done::Found) })
            } else {
                Box::pin(async move {
                    Flow::begin(&stream, next)
                        .await
                        .map(|it| Done::Begun(Box::new(it)))
                })
            }
        });
        let done = underway.await;
        self.underway = None;
        match done? {
            Done::Begun(flow) => self.flow = Some(flow),
            Done::Found(found) => {
                self.flow = None;
                self.found(found);
            }
        }
        Ok(())
    }

    /// Waits for messages, or ends.
    async fn more(&mut self) -> Result<(), BrokerFault> {
        self.prepare().await?;
        if !self.ready.is_empty() || self.suspect.contains(&self.next) {
            return Ok(());
        }
        let room = match self.suspect.start.checked_sub(self.next) {
            // Nothing from there on may come through this consumer.
            Some(room) if room > 0 => room,
            _ => u64::MAX,
        };
        let heartbeat = self.stream.heartbeat;
        let Some(flow) = self.flow.as_mut() else {
            // The suspect messages ended with the stream, or at a hole: a consumer comes next.
            return Ok(());
        };
        flow.ask(&self.stream, room).await?;
        let first = flow.receive(heartbeat, &self.stream).await?;
        self.take(first)?;
        while self.ready.len() < HANDED_ON && self.ready_bytes < HANDED_ON_BYTES {
            let flow = self.flow.as_mut().expect("it is there until the feed ends");
            match flow.subscriber.next().now_or_never() {
                Some(Some(message)) => self.take(message)?,
                // That nothing will come any more is for the next wait to find.
                Some(None) | None => break,
            }
        }
        Ok(())
    }

    fn take(&mut self, message: async_nats::Message) -> Result<(), BrokerFault> {
        let flow = self.flow.as_mut().expect("messages come from it");
        // A stream's message has the stream's subject, whatever its publisher wrote into its headers.
        if message.subject.starts_with(&flow.inbox) {
            return flow.status(&message);
        }
        let Some(Delivered { message, reply }) = delivered(message) else {
            return Err(BrokerFault::Away(
                "the broker sent a message without its place".to_owned(),
            ));
        };
        flow.pending = flow.pending.saturating_sub(1);
        self.last_reply = Some((message.sequence, reply));
        self.push(message);
        Ok(())
    }

    fn push(&mut self, message: Message) {
        self.next = self.next.max(message.sequence.saturating_add(1));
        self.ready_bytes += message.payload.len();
        self.ready.push(message);
    }

    fn found(&mut self, found: Found) {
        for (sequence, message) in (found.from..).zip(found.messages) {
            match message {
                Some(message) => self.push(message),
                None if sequence <= found.last => self.next = sequence + 1,
                None => {
                    self.suspect = 0..0;
                    return;
                }
            }
        }
    }

    fn hand_on(&mut self) -> Vec<Message> {
        self.ready_bytes = 0;
        if let Some((sequence, reply)) = self.last_reply.take()
            && self
                .handed_on
                .back()
                .is_none_or(|(last, _)| *last < sequence)
        {
            self.handed_on.push_back((sequence, reply));
        }
        std::mem::take(&mut self.ready)
    }

    fn end(&mut self, fault: BrokerFault) {
        locked(&self.stream).broke(self.next);
        self.flow = None;
        self.underway = None;
        self.ended = Some(fault);
    }
}

fn locked(stream: &Stream) -> std::sync::MutexGuard<'_, Suspect> {
    stream
        .suspect
        .lock()
        .expect("nobody panics while holding it")
}

/// Asks for messages by their sequence, all at once.
async fn by_sequences(stream: &Stream, range: Range<u64>) -> Result<Found, BrokerFault> {
    let ask = || try_join_all(range.clone().map(|sequence| stream.message(sequence)));
    let mut messages = ask().await?;
    let mut last = range.end - 1;
    if messages.iter().any(Option::is_none) {
        last = stream.state().await?.last_sequence;
        // What was missing and is not beyond the end may have come in between the two questions.
        messages = ask().await?;
    }
    Ok(Found {
        from: range.start,
        messages,
        last,
    })
}

impl Feed for Pull {
    fn next(&mut self) -> BoxFuture<'_, Result<Vec<Message>, BrokerFault>> {
        Box::pin(async {
            loop {
                if !self.ready.is_empty() {
                    return Ok(self.hand_on());
                }
                if let Some(fault) = &self.ended {
                    return Err(fault.clone());
                }
                if let Err(fault) = self.more().await {
                    self.end(fault);
                }
            }
        })
    }

    fn acknowledge(&mut self, sequence: u64) -> BoxFuture<'_, Result<(), BrokerFault>> {
        Box::pin(async move {
            let recorded = self
                .handed_on
                .partition_point(|(last, _)| *last <= sequence);
            let last = self.handed_on.drain(..recorded).next_back();
            if let (Some((_, reply)), Some(flow)) = (last, &self.flow) {
                let sent = flow.client.publish(reply, "+ACK".into()).await;
                sent.map_err(|error| BrokerFault::Away(error.to_string()))?;
            }
            Ok(())
        })
    }
}

impl Flow {
    /// Makes the consumer anew, to start at a sequence.
    async fn begin(stream: &Stream, start: u64) -> Result<Self, BrokerFault> {
        let client = stream.link.client().await?;
        let watch = stream.link.watch();
        let losses = watch.borrow().losses;
        let inbox = client.new_inbox();
        let subscriber = client
            .subscribe(format!("{inbox}.*"))
            .await
            .map_err(|error| BrokerFault::Away(error.to_string()))?;
        make_consumer(stream, start).await?;
        Ok(Self {
            client,
            subscriber,
            inbox,
            number: 0,
            pending: 0,
            watch,
            losses,
            heard: Instant::now(),
        })
    }

    /// Asks for messages where few are still to come.
    async fn ask(&mut self, stream: &Stream, room: u64) -> Result<(), BrokerFault> {
        let batch = PULLED.min(room.saturating_sub(self.pending));
        if batch == 0 || self.pending > PULLED {
            return Ok(());
        }
        self.number += 1;
        let request = json!({
            "batch": batch,
            "max_bytes": PULLED_BYTES + self.client.max_payload(),
            "expires": nanos(PULL_EXPIRES),
            "idle_heartbeat": nanos(stream.heartbeat),
        });
        let subject = format!(
            "$JS.API.CONSUMER.MSG.NEXT.{}.{}",
            stream.name, stream.consumer
        );
        let reply = format!("{}.{}", self.inbox, self.number);
        let sent = self
            .client
            .publish_with_reply(subject, reply, request.to_string().into())
            .await;
        sent.map_err(|error| BrokerFault::Away(error.to_string()))?;
        self.pending += batch;
        self.heard = Instant::now();
        Ok(())
    }

    /// The next thing that the server sends. What came before the connection was lost comes before the loss is told.
    async fn receive(
        &mut self,
        heartbeat: Duration,
        stream: &Stream,
    ) -> Result<async_nats::Message, BrokerFault> {
        let silence = heartbeat * 5 / 2;
        tokio::select! {
            biased;
            message = self.subscriber.next() => {
                self.heard = Instant::now();
                message.ok_or_else(|| BrokerFault::Away(stream.link.why_away()))
            }
            () = lost(&mut self.watch, self.losses) => Err(BrokerFault::Away(stream.link.why_away())),
            // Counted from when it was heard: whoever waits may have begun anew many times since.
            () = tokio::time::sleep_until(self.heard + silence) => {
                Err(BrokerFault::Away(format!("the broker has been silent for {silence:?}")))
            }
        }
    }

    /// What the server says about a request.
    fn status(&mut self, message: &async_nats::Message) -> Result<(), BrokerFault> {
        let why = message.description.as_deref().unwrap_or_default();
        let full = |why: &str| why.contains("MaxBytes") || why.contains("Batch Completed");
        match message.status {
            // A heartbeat.
            Some(StatusCode::IDLE_HEARTBEAT) => Ok(()),
            Some(StatusCode::TIMEOUT) => self.request_ended(message),
            Some(code) if code.as_u16() == 409 && full(why) => self.request_ended(message),
            Some(StatusCode::NO_RESPONDERS) => {
                Err(BrokerFault::Away("the consumer is gone".to_owned()))
            }
            Some(code) => Err(BrokerFault::Away(format!(
                "the consumer stopped: {code} {why}"
            ))),
            // Nobody but the server knows the inbox; whatever this is, it is no message of the stream.
            None => Ok(()),
        }
    }

    fn request_ended(&mut self, message: &async_nats::Message) -> Result<(), BrokerFault> {
        let header = message
            .headers
            .as_ref()
            .and_then(|it| it.get("Nats-Pending-Messages"));
        // Where the server does not say, what is pending of another request is asked for twice: it comes once.
        let left = header
            .and_then(|it| it.as_str().parse().ok())
            .unwrap_or(self.pending);
        self.pending = self.pending.saturating_sub(left);
        Ok(())
    }
}

async fn make_consumer(stream: &Stream, start: u64) -> Result<(), BrokerFault> {
    let name = format!("{}.{}", stream.name, stream.consumer);
    let deleted = api::ask(
        &stream.link,
        &format!("CONSUMER.DELETE.{name}"),
        &serde_json::Value::Null,
    )
    .await?;
    match deleted {
        Err(error) if error.err_code != CONSUMER_NOT_FOUND => return Err(error.fault()),
        _ => {}
    }
    let request = json!({
        "stream_name": stream.name,
        "config": {
            "name": stream.consumer,
            "description": "a Waybill ledger; its position is in its journal, not here",
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": start,
            "replay_policy": "instant",
            "ack_policy": "all",
            "ack_wait": nanos(ACK_WAIT),
            "max_deliver": -1,
            "max_ack_pending": UNACKNOWLEDGED,
            "inactive_threshold": nanos(FORGOTTEN),
            "num_replicas": 1,
            // Nothing is lost with it, and its acknowledgements cost the broker no writes.
            "mem_storage": true,
        },
    });
    let created = api::ask(&stream.link, &format!("CONSUMER.CREATE.{name}"), &request).await?;
    created.map(|_| ()).map_err(|error| error.fault())
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
