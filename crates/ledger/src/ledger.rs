//! The handle: takes events in, and owns the threads.
use std::{
    sync::{
        Arc, Mutex,
        atomic::Ordering,
        mpsc::{SyncSender, TrySendError},
    },
    thread::JoinHandle,
};

use bytes::Bytes;
use tokio::sync::{oneshot, watch};
use waybill_core::{Code, Refusal};
use waybill_proto::{kinds::LEDGER_KINDS, limits as wire, parse};
use waybill_store::{Fault, database::Database};

use crate::{
    ask::AssumedFold,
    keeper, limits,
    sender::Sender,
    shared::{Shared, Writing, lock, read, write},
    stream::Condition,
    view_checkpoint,
    words::{Emitted, Heads, Refused, Rejection},
    writer::{Item, Job, Order, Parsed, busy, chain},
};

/// A running ledger. Clones share it; [`Ledger::close`] stops it, and so does dropping the last one.
#[derive(Clone)]
pub struct Ledger {
    pub(crate) shared: Arc<Shared>,
    pub(crate) assumed: Arc<AssumedFold>,
    pub(crate) threads: Arc<Threads>,
}

/// The threads of a ledger and the way to tell the writer.
pub(crate) struct Threads {
    pub(crate) shared: Arc<Shared>,
    pub(crate) orders: SyncSender<Order>,
    /// `None` where nothing is written.
    pub(crate) writer: Mutex<Option<JoinHandle<()>>>,
    pub(crate) others: Mutex<Vec<JoinHandle<()>>>,
}

impl Ledger {
    /// Records a batch of encoded events; answers item by item, in order, once all that are recorded are durable.
    ///
    /// What the sender may not say is refused like any other bad event.
    ///
    /// # Errors
    /// [`Rejection::Busy`] when too much is under way, [`Rejection::NotWriting`] when the journal cannot be written,
    /// [`Rejection::Refused`] when the batch itself is too large. A single bad event is refused in its own place.
    pub async fn emit(
        &self,
        events: Vec<Bytes>,
        sender: &Sender,
    ) -> Result<Vec<Emitted>, Rejection> {
        let size = check_batch(&events).map_err(Rejection::Refused)?;
        let count = events.len();
        self.make_room(count, size)?;
        let items = events
            .into_iter()
            .map(|bytes| self.parse(bytes, sender))
            .collect();
        if let Some(side) = self.shared.stream.clone() {
            let _room = Room(self.shared.clone(), count, size);
            self.check_in_flight(&side)?;
            return self.emit_to_stream(&side, items, &sender.name).await;
        }
        let (reply, answer) = oneshot::channel();
        let job = Job {
            items,
            sender: sender.name.clone(),
            size,
            reply,
        };
        self.hand_in(job)?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    fn parse(&self, bytes: Bytes, sender: &Sender) -> Item {
        // A slice of a request keeps the whole request in memory: what is kept for long is copied.
        let bytes = Bytes::copy_from_slice(&bytes);
        let parsed = parse::parse(&bytes).and_then(|event| {
            sender.check(&event)?;
            self.check_own(event)
        });
        match parsed {
            Ok(event) => Item::Event(Box::new(Parsed { event, bytes })),
            Err(refusal) => {
                let claim = parse::claim(&bytes);
                self.shared
                    .note_refusal(&refusal, claim, &sender.name, &bytes);
                Item::Refused(Box::new(Refused {
                    refusal,
                    recorded: None,
                }))
            }
        }
    }

    /// The ledger's own source and kinds are the ledger's.
    fn check_own(&self, event: waybill_core::Event) -> Result<waybill_core::Event, Refusal> {
        if event.identity.source == self.shared.ledger_id {
            let rule = "the ledger's own; only the ledger emits under it";
            return Err(Refusal::new(
                Code::NotAllowed,
                "source",
                &event.identity.source,
                rule,
            ));
        }
        if LEDGER_KINDS.contains(&&*event.kind.0) {
            let rule = "a kind that only ledgers emit, under their own id";
            return Err(Refusal::new(Code::NotAllowed, "type", &event.kind.0, rule));
        }
        Ok(event)
    }

    fn make_room(&self, events: usize, bytes: usize) -> Result<(), Rejection> {
        let state = read(&self.shared.writing).clone();
        if matches!(state, Writing::Closed(_)) {
            return Err(state.rejection());
        }
        let counts = &self.shared.counts;
        let over =
            |counter: &std::sync::atomic::AtomicUsize, max| counter.load(Ordering::Relaxed) >= max;
        if over(&counts.unapplied_events, limits::UNAPPLIED_EVENTS_MAX)
            || over(&counts.unapplied_bytes, limits::UNAPPLIED_BYTES_MAX)
        {
            return Err(busy("the database lags behind the journal"));
        }
        if over(&counts.queued_events, limits::QUEUED_EVENTS_MAX)
            || over(&counts.queued_bytes, limits::QUEUED_BYTES_MAX)
        {
            return Err(busy("too many events wait for the journal"));
        }
        counts.queued_events.fetch_add(events, Ordering::Relaxed);
        counts.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    fn hand_in(&self, job: Job) -> Result<(), Rejection> {
        let (events, bytes) = (job.items.len(), job.size);
        self.threads
            .orders
            .try_send(Order::Emit(job))
            .map_err(|error| {
                self.shared
                    .counts
                    .queued_events
                    .fetch_sub(events, Ordering::Relaxed);
                self.shared
                    .counts
                    .queued_bytes
                    .fetch_sub(bytes, Ordering::Relaxed);
                match error {
                    TrySendError::Full(_) => busy("too many calls wait for the journal"),
                    TrySendError::Disconnected(_) => stopped(),
                }
            })
    }

    /// Where the ledger stands, and a way to wait for more.
    #[must_use]
    pub fn heads(&self) -> watch::Receiver<Heads> {
        self.shared.heads.subscribe()
    }

    /// How this ledger stands to its stream, and a way to wait for a change; `None` where it follows none.
    #[must_use]
    pub fn condition(&self) -> Option<watch::Receiver<Condition>> {
        let stream = self.shared.stream.as_ref();
        stream.map(|side| side.condition.subscribe())
    }

    /// How often the stream was found to be the one that is recorded, and a way to wait for the next time.
    #[must_use]
    pub fn compared(&self) -> Option<watch::Receiver<u64>> {
        let stream = self.shared.stream.as_ref();
        stream.map(|side| side.compared.subscribe())
    }

    /// Names the tree.
    #[must_use]
    pub fn ledger_id(&self) -> &str {
        &self.shared.ledger_id
    }

    /// Names the replica.
    #[must_use]
    pub fn instance_id(&self) -> &str {
        &self.shared.instance_id
    }

    /// The key that makes actors (LEDGER E10).
    #[must_use]
    pub fn actor_key(&self) -> [u8; 32] {
        self.shared.place.actor_key()
    }

    /// Changes what the lock file tells others: the address that this process serves.
    ///
    /// # Errors
    /// [`Fault::Io`] when the lock file cannot be written.
    pub fn set_holder(&self, holder: &str) -> Result<(), Fault> {
        self.shared.place.set_holder(holder)
    }

    /// Stops taking emits, finishes what is under way, writes the head and marks a clean stop. Blocks; later calls do
    /// nothing.
    ///
    /// # Errors
    /// What could not be written; nothing that has a receipt is lost by it.
    pub fn close(&self) -> Result<(), Fault> {
        self.threads.stop()
    }
}

impl Threads {
    fn stop(&self) -> Result<(), Fault> {
        let others = std::mem::take(&mut *lock(&self.others));
        if others.is_empty() {
            return Ok(());
        }
        *write(&self.shared.writing) = Writing::Closed("the ledger is stopping".to_owned());
        // The writer first: what it still makes durable, the others take in before they end.
        if let Some(writer) = lock(&self.writer).take() {
            drop(self.orders.send(Order::Stop));
            drop(writer.join());
        }
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.wake();
        self.shared.wake_keeper();
        others.into_iter().for_each(|handle| drop(handle.join()));
        view_checkpoint::keep_if_due(&self.shared);
        let head = keeper::write_head(&self.shared).map(|_| ());
        let synced = lock(&self.shared.side_log).sync();
        let closed = self.close_database();
        head.and(synced).and(closed)
    }

    fn close_database(&self) -> Result<(), Fault> {
        let database: Database = read(&self.shared.database).clone();
        database.close_clean(waybill_store::place::boot_id().as_deref())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Err(fault) = self.stop() {
            tracing::error!(error = %chain(&fault), "the ledger did not stop cleanly");
        }
    }
}

/// Events that are on their way through the broker, counted until they are answered or given up.
struct Room(Arc<Shared>, usize, usize);

impl Drop for Room {
    fn drop(&mut self) {
        let counts = &self.0.counts;
        counts.queued_events.fetch_sub(self.1, Ordering::Relaxed);
        counts.queued_bytes.fetch_sub(self.2, Ordering::Relaxed);
    }
}

/// Checks the batch as a whole and gives its size in bytes (LEDGER E11).
fn check_batch(events: &[Bytes]) -> Result<usize, Refusal> {
    if events.len() > wire::BATCH_EVENTS_MAX {
        let rule = format!("a batch holds at most {} events", wire::BATCH_EVENTS_MAX);
        return Err(Refusal::new(Code::TooLarge, "events", events.len(), rule)
            .with_hint("send it in parts"));
    }
    let size = events.iter().map(Bytes::len).sum();
    if size > wire::BATCH_BYTES_MAX {
        let rule = format!("a batch is at most {} bytes", wire::BATCH_BYTES_MAX);
        return Err(
            Refusal::new(Code::TooLarge, "events", size, rule).with_hint("send it in parts")
        );
    }
    Ok(size)
}

fn stopped() -> Rejection {
    Rejection::NotWriting {
        why: "the ledger is stopping".to_owned(),
        may_recover: true,
    }
}
