//! The follower: settles, reads on, hands messages to the writer, acknowledges what is durable (LEDGER Q4).
use std::{collections::VecDeque, sync::atomic::Ordering, time::Duration};

use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout},
};

use super::{
    arrival::Arrival,
    broker::{BrokerFault, Feed, Message},
    epoch::{Line, Opener},
    intake::{Opening, Take, TakeFault},
    settle::Settled,
    standing::{Condition, Freeze, FreezeKind, Side},
};
use crate::{
    ledger::Ledger,
    limits,
    shared::{Writing, read, write},
    writer::Order,
};

/// How long a frozen ledger waits before it looks whether another replica has decided.
const FROZEN_LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How long it waits before it reads on behind a message that a feed left out.
const SKIPPED_LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How long it waits for a broker that is away, at first and at most.
const AWAY_FIRST: Duration = Duration::from_millis(100);
const AWAY_MAX: Duration = Duration::from_secs(3);
/// How long without anything before it looks around.
const LOOK_AROUND_MAX: Duration = Duration::from_secs(1);
/// How often the broker is asked how good a keeper it is.
const ASK_FITNESS_EVERY: Duration = Duration::from_secs(30);
/// Bytes of one take: with what the writer gathers, and the largest message, it fits one frame of the journal.
const TAKE_BYTES_MAX: usize = 2 << 20;
/// Takes on their way to the journal while the next messages are read.
const TAKES_MAX: usize = 4;

/// How reading a stream ended.
enum Ended {
    /// Something changed: settle anew.
    Again,
    /// A feed left out a message. Whether it is gone, settling shows.
    Skipped,
    Frozen(Freeze),
    /// The ledger cannot write now.
    NotWriting(String),
    /// The ledger has stopped.
    Stopped,
}

/// A take on its way to the journal.
type Pending = oneshot::Receiver<Result<u64, TakeFault>>;

impl Ledger {
    /// Follows the stream until the ledger stops or this future is dropped. Does nothing without a stream.
    pub async fn follow(&self) {
        if let Some(side) = self.shared.stream.clone() {
            tokio::join!(self.follow_stream(&side), self.keep_company(&side));
        }
    }

    async fn follow_stream(&self, side: &Side) {
        let mut away = AWAY_FIRST;
        let mut recorded = None;
        while !self.shared.stopping.load(Ordering::Acquire) {
            let wait = match self.session(side).await {
                Ok(Ended::Stopped) => return,
                Ok(Ended::Again) => {
                    away = AWAY_FIRST;
                    continue;
                }
                Ok(Ended::Frozen(freeze)) => {
                    side.set(Condition::Frozen(freeze));
                    FROZEN_LOOK_AGAIN
                }
                Ok(Ended::NotWriting(why)) => {
                    side.set(Condition::Away(format!("nothing is taken in: {why}")));
                    FROZEN_LOOK_AGAIN
                }
                Ok(Ended::Skipped) => SKIPPED_LOOK_AGAIN,
                Err(fault) => {
                    side.set(Condition::Away(fault.to_string()));
                    // Whoever took something in was there: its next absence is a new one.
                    let now = side.line();
                    away = match now == recorded {
                        true => (away * 2).min(AWAY_MAX),
                        false => AWAY_FIRST,
                    };
                    recorded = now;
                    away
                }
            };
            // Woken by a decision; then there is something to look at.
            let wait = wait.min(side.compare_every);
            drop(timeout(wait, side.decided.notified()).await);
        }
    }

    async fn session(&self, side: &Side) -> Result<Ended, BrokerFault> {
        if let Writing::Closed(why) = read(&self.shared.writing).clone() {
            return Ok(Ended::NotWriting(why));
        }
        match self.settle(side).await? {
            Settled::Frozen(freeze) => Ok(Ended::Frozen(freeze)),
            Settled::Open(opener) => Ok(self.open_epoch(side, opener).await),
            Settled::Follow(line, next) => {
                self.ask_fitness(side).await?;
                let feed = side.broker.feed(line.last_sequence).await?;
                // Compared once more now that a loss of the connection would end the feed: a broker that forgot in between
                // is not read from.
                match self.settle(side).await? {
                    Settled::Follow(now, _) if now == line => {}
                    _ => return Ok(Ended::Again),
                }
                let mut reading = Reading::new(self, side, feed, line, next);
                let ended = reading.run().await;
                reading.come_to_rest().await;
                ended
            }
        }
    }

    async fn ask_fitness(&self, side: &Side) -> Result<(), BrokerFault> {
        let fitness = side.broker.fitness().await?;
        *write(&side.fitness) = Some(fitness);
        Ok(())
    }

    async fn open_epoch(&self, side: &Side, opener: Opener) -> Ended {
        let (reply, answer) = oneshot::channel();
        let order = Order::Open(Box::new(Opening { opener, reply }));
        if self.threads.orders.try_send(order).is_err() {
            return Ended::Stopped;
        }
        match answer.await {
            Ok(Ok(())) => Ended::Again,
            Ok(Err(fault)) => ended(side, &fault),
            Err(_) => Ended::Stopped,
        }
    }
}

/// One feed, from where the ledger stands.
struct Reading<'a> {
    ledger: &'a Ledger,
    side: &'a Side,
    feed: Box<dyn Feed>,
    /// Last sequence that was handed to the writer.
    handed: u64,
    epoch: u32,
    /// Where the next epoch begins, once that is known: nothing at or behind it belongs to this one.
    next: Option<Opener>,
    pending: VecDeque<Pending>,
    compared: Instant,
    /// When the broker was asked how good a keeper it is.
    asked: Instant,
}

impl<'a> Reading<'a> {
    fn new(
        ledger: &'a Ledger,
        side: &'a Side,
        feed: Box<dyn Feed>,
        line: Line,
        next: Option<Opener>,
    ) -> Self {
        Self {
            ledger,
            side,
            feed,
            handed: line.last_sequence,
            epoch: line.epoch,
            next,
            pending: VecDeque::new(),
            compared: Instant::now(),
            asked: Instant::now(),
        }
    }

    async fn run(&mut self) -> Result<Ended, BrokerFault> {
        self.side.set(Condition::Following);
        loop {
            if self.ledger.shared.stopping.load(Ordering::Acquire) {
                return Ok(Ended::Stopped);
            }
            if self.at_next_epoch() {
                return Ok(self.drain().await?.unwrap_or(Ended::Again));
            }
            if self.compared.elapsed() >= self.side.compare_every
                && let Some(ended) = self.compare().await?
            {
                return Ok(ended);
            }
            if let Some(ended) = self.step().await? {
                return Ok(ended);
            }
        }
    }

    /// Takes in what comes next: messages, or an answer of the writer.
    async fn step(&mut self) -> Result<Option<Ended>, BrokerFault> {
        let free = self.pending.len() < TAKES_MAX && self.has_room();
        let front = self.pending.front_mut();
        tokio::select! {
            biased;
            taken = answered(front) => {
                self.pending.pop_front();
                self.finished(taken).await
            }
            messages = self.feed.next(), if free => {
                let messages = messages?;
                Ok(self.hand(messages))
            }
            // Nothing came, or sled lags behind: look around.
            () = sleep(self.side.compare_every.min(LOOK_AROUND_MAX)) => Ok(None),
        }
    }

    /// Whether sled keeps up (LEDGER S4); messages wait in the broker, not in memory.
    fn has_room(&self) -> bool {
        let counts = &self.ledger.shared.counts;
        counts.unapplied_events.load(Ordering::Relaxed) < limits::UNAPPLIED_EVENTS_MAX
            && counts.unapplied_bytes.load(Ordering::Relaxed) < limits::UNAPPLIED_BYTES_MAX
    }

    /// Hands messages to the writer, up to where the next epoch begins.
    fn hand(&mut self, messages: Vec<Message>) -> Option<Ended> {
        let ledger_id = self.ledger.ledger_id();
        let mut arrivals = Vec::with_capacity(messages.len());
        for message in messages {
            let (sequence, time) = (message.sequence, message.time);
            let arrival = Arrival::read(message, ledger_id);
            if let Ok(meaning) = &arrival.outcome
                && meaning.own
                && self.next.is_none()
                && let Some(opener) = Opener::read(meaning, time)
                && opener.epoch == self.epoch + 1
                && self.ledger.may_be_ours(&opener)
            {
                self.next = Some(opener);
            }
            self.handed = self.handed.max(sequence);
            arrivals.push(arrival);
        }
        self.side
            .broker_sequence
            .fetch_max(self.handed, Ordering::Relaxed);
        if let Some(next) = &self.next {
            arrivals.retain(|arrival| arrival.sequence < next.first_sequence);
        }
        for arrivals in in_takes(arrivals) {
            let (reply, answer) = oneshot::channel();
            let order = Order::Take(Take { arrivals, reply });
            if self.ledger.threads.orders.try_send(order).is_err() {
                return Some(Ended::Stopped);
            }
            self.pending.push_back(answer);
        }
        None
    }

    fn at_next_epoch(&self) -> bool {
        let first = self.next.as_ref().map(|next| next.first_sequence);
        first.is_some_and(|first| self.handed + 1 >= first)
    }

    /// What is durable is acknowledged; anything else ends the reading.
    async fn finished(
        &mut self,
        taken: Option<Result<u64, TakeFault>>,
    ) -> Result<Option<Ended>, BrokerFault> {
        match taken {
            None => Ok(Some(Ended::Stopped)),
            Some(Ok(sequence)) => {
                self.feed.acknowledge(sequence).await?;
                Ok(None)
            }
            Some(Err(fault)) => Ok(Some(ended(self.side, &fault))),
        }
    }

    /// Waits for everything that is on its way.
    async fn drain(&mut self) -> Result<Option<Ended>, BrokerFault> {
        while let Some(pending) = self.pending.pop_front() {
            let taken = pending.await.ok();
            if let Some(ended) = self.finished(taken).await? {
                return Ok(Some(ended));
            }
        }
        Ok(None)
    }

    /// Waits for what is on its way without acknowledging it: where the broker stands now is compared with a head that no
    /// longer moves, and a person decides about that head.
    async fn come_to_rest(&mut self) {
        for pending in self.pending.drain(..) {
            // How it ended is for the next comparison to see.
            drop(pending.await);
        }
    }

    /// Compares the stream with what is recorded, as at a start.
    async fn compare(&mut self) -> Result<Option<Ended>, BrokerFault> {
        if let Some(ended) = self.drain().await? {
            return Ok(Some(ended));
        }
        self.compared = Instant::now();
        if self.asked.elapsed() >= ASK_FITNESS_EVERY {
            self.asked = Instant::now();
            self.ledger.ask_fitness(self.side).await?;
        }
        Ok(match self.ledger.settle(self.side).await? {
            Settled::Follow(_, next) => {
                self.next = next;
                None
            }
            Settled::Open(_) => Some(Ended::Again),
            Settled::Frozen(freeze) => Some(Ended::Frozen(freeze)),
        })
    }
}

/// Cuts messages into takes that the journal can hold; a message that is larger is a take of its own.
fn in_takes(arrivals: Vec<Arrival>) -> Vec<Vec<Arrival>> {
    let mut takes: Vec<Vec<Arrival>> = Vec::new();
    let mut bytes = 0;
    for arrival in arrivals {
        let size = arrival.bytes();
        match takes.last_mut() {
            Some(take) if bytes + size <= TAKE_BYTES_MAX => {
                bytes += size;
                take.push(arrival);
            }
            _ => {
                bytes = size;
                takes.push(vec![arrival]);
            }
        }
    }
    takes
}

/// The writer's answer to the oldest take; never, where there is none. `None` when the ledger has stopped.
async fn answered(pending: Option<&mut Pending>) -> Option<Result<u64, TakeFault>> {
    match pending {
        Some(pending) => pending.await.ok(),
        None => std::future::pending().await,
    }
}

fn ended(side: &Side, fault: &TakeFault) -> Ended {
    match fault {
        TakeFault::Gap { .. } => Ended::Skipped,
        TakeFault::NotWriting(why) => Ended::NotWriting(why.clone()),
        TakeFault::Inconsistent(why) => {
            let freeze = Freeze {
            kind: FreezeKind::Inconsistent,
            reason: format!("stream {} does not fit what is recorded: {why}", side.name),
            remedy:
                "run `waybill verify` and `waybill doctor`; restore an export if they find damage"
                    .to_owned(),
            ledger_leaf: None,
            broker_leaf: None,
        };
            side.diverge(freeze.clone());
            Ended::Frozen(freeze)
        }
    }
}
