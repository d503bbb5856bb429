//! A tail: events from a position on, and then as they are recorded.
//!
//! It is pulled by the client's reading and holds one piece of the list, so that a slow reader costs a bounded amount.
use std::{collections::VecDeque, time::Duration};

use futures_core::Stream;
use futures_util::stream;
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::{Instant, sleep, timeout_at},
};
use tonic::Status;
use waybill_ledger::{Entry, Filter, Heads, Key, ReadFailure};
use waybill_proto::{
    pb,
    raw::{TailEventsResponse, TailMessage},
};

use crate::{
    call::Deadline,
    ledger_service::next_chunk,
    shared::Shared,
    status,
    words::{recorded, timestamp},
};

/// Entries that are read at once to begin with.
const CHUNK_FIRST: usize = 32;
/// After a wait, how long events may gather before they are read: a busy ledger commits many times a second.
const GATHER: Duration = Duration::from_millis(2);

struct Tail {
    shared: Shared,
    filter: Filter,
    heads: watch::Receiver<Heads>,
    /// Read and not yet sent.
    entries: VecDeque<Entry>,
    /// First position that was not read.
    next: u64,
    chunk: usize,
    said_caught_up: bool,
    heartbeat: Duration,
    heartbeat_at: Instant,
    _open: OwnedSemaphorePermit,
}

/// What a tail does next.
enum Step {
    Say(Box<TailMessage>),
    Again,
    End,
}

pub(crate) fn tail(
    shared: Shared,
    filter: Filter,
    heartbeat: Duration,
    open: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<TailEventsResponse, Status>> {
    let tail = Tail {
        heads: shared.ledger.heads(),
        next: filter.first_position.max(1),
        shared,
        filter,
        entries: VecDeque::new(),
        chunk: CHUNK_FIRST,
        said_caught_up: false,
        heartbeat,
        heartbeat_at: Instant::now() + heartbeat,
        _open: open,
    };
    stream::unfold(Some(tail), |tail| async {
        let mut tail = tail?;
        loop {
            match tail.step().await {
                Ok(Step::Again) => {}
                Ok(Step::End) => return None,
                Ok(Step::Say(message)) => {
                    tail.heartbeat_at = Instant::now() + tail.heartbeat;
                    return Some((
                        Ok(TailEventsResponse {
                            message: Some(*message),
                        }),
                        Some(tail),
                    ));
                }
                Err(status) => return Some((Err(status), None)),
            }
        }
    })
}

impl Tail {
    async fn step(&mut self) -> Result<Step, Status> {
        if let Some(entry) = self.entries.pop_front() {
            return Ok(say(TailMessage::Event(recorded::event(&entry))));
        }
        if self.shared.drain.begun() {
            return Err(status::draining());
        }
        if self.filter.last_position != 0 && self.next > self.filter.last_position {
            return Ok(Step::End);
        }
        if self.next <= self.heads.borrow().applied {
            return self.read().await;
        }
        if let Some(damage) = self.shared.ledger.lost(&self.filter) {
            return Err(status::unread(&ReadFailure::Damaged(damage)));
        }
        if !self.said_caught_up {
            self.said_caught_up = true;
            let position = (self.next - 1).min(self.heads.borrow().applied);
            return Ok(say(TailMessage::CaughtUp(pb::CaughtUp { position })));
        }
        self.wait().await
    }

    async fn read(&mut self) -> Result<Step, Status> {
        let (filter, chunk, next) = (self.filter.clone(), self.chunk, self.next);
        let read = move |ledger: waybill_ledger::Ledger| async move {
            ledger.list(&filter, chunk, Some(next), 0).await
        };
        let page = self.shared.compute(Deadline::default(), read).await?;
        self.chunk = next_chunk(self.chunk, &page.entries);
        self.next = page.next.unwrap_or(page.applied + 1);
        // More than one piece behind: the next end of the list is news again.
        self.said_caught_up &= page.next.is_none();
        self.entries = page.entries.into();
        if self.entries.is_empty() && Instant::now() >= self.heartbeat_at {
            self.heartbeat().await
        } else {
            Ok(Step::Again)
        }
    }

    async fn wait(&mut self) -> Result<Step, Status> {
        let next = self.next;
        let grown = timeout_at(
            self.heartbeat_at,
            self.heads.wait_for(|heads| heads.applied >= next),
        );
        let grown = tokio::select! {
            grown = grown => grown.map(|grown| grown.is_ok()),
            () = self.shared.drain.wait() => return Err(status::draining()),
        };
        match grown {
            Ok(true) => {
                sleep(GATHER).await;
                Ok(Step::Again)
            }
            Ok(false) => Err(status::draining()),
            Err(_) => self.heartbeat().await,
        }
    }

    /// Nothing to send, and still here: where the tail stands, and when that was recorded.
    async fn heartbeat(&self) -> Result<Step, Status> {
        let position = (self.next - 1).min(self.heads.borrow().applied);
        let record_time = if position == 0 {
            None
        } else {
            self.record_time(position).await?
        };
        Ok(say(TailMessage::Heartbeat(pb::Heartbeat {
            position,
            record_time,
        })))
    }

    async fn record_time(&self, position: u64) -> Result<Option<prost_types::Timestamp>, Status> {
        let read = move |ledger: waybill_ledger::Ledger| async move {
            match ledger.entry(&Key::Position(position)).await {
                Ok(entry) => Ok(Some(timestamp(entry.record.record_time))),
                Err(ReadFailure::NotFound { .. }) => Ok(None),
                Err(failure) => Err(failure),
            }
        };
        self.shared.compute(Deadline::default(), read).await
    }
}

fn say(message: TailMessage) -> Step {
    Step::Say(Box::new(message))
}
