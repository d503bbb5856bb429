//! The one thread that owns the journal: admits, appends, makes durable, answers (LEDGER A1, J2, S4).
use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering, mpsc},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::oneshot;
use waybill_core::{Event, Identity, Time};
use waybill_proto::parse;
use waybill_store::{Fault, Record, Tip, Verdict as Stored, journal::Journal, seen};

use crate::{
    admit::{self, RULES_VERSION, Verdict},
    leaf, limits, own_event,
    shared::{Batch, Durable, Shared, Tree, Writing, read, write},
    stream::{Opening, Take},
    words::{Emitted, Receipt, Refused, Rejection},
};

/// What the writer is told.
pub(crate) enum Order {
    /// Record these.
    Emit(Job),
    /// Record these messages of the stream.
    Take(Take),
    /// Begin an epoch of the stream.
    Open(Box<Opening>),
    /// Finish and end.
    Stop,
}

/// Where a call waits for its answer.
pub(crate) type Reply = oneshot::Sender<Result<Vec<Emitted>, Rejection>>;

/// One call's events and where to answer.
pub(crate) struct Job {
    pub(crate) items: Vec<Item>,
    pub(crate) sender: Arc<str>,
    pub(crate) size: usize,
    pub(crate) reply: Reply,
}

/// One event of a job.
pub(crate) enum Item {
    /// Refused before it came here.
    Refused(Box<Refused>),
    /// Parsed.
    Event(Box<Parsed>),
}

/// An event whose form is right.
pub(crate) struct Parsed {
    pub(crate) event: Event,
    pub(crate) bytes: Bytes,
}

/// The writer thread's own things.
pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) journal: Journal,
    pub(crate) tree: Tree,
    pub(crate) orders: mpsc::Receiver<Order>,
    /// An order that was received while others were gathered.
    pub(crate) held: Option<Order>,
}

/// A group commit in the making.
#[derive(Default)]
pub(crate) struct Draft {
    pub(crate) records: Vec<Record>,
    events: Vec<Option<Arc<Event>>>,
    fingerprints: Vec<u64>,
    /// Facts only.
    pub(crate) by_identity: HashMap<Identity, usize>,
    size: usize,
}

impl Draft {
    /// Adds a record. A fact comes with its event and its identity's fingerprint, other leaves with neither.
    pub(crate) fn push(&mut self, record: Record, fact: Option<(Arc<Event>, u64)>) -> usize {
        let index = self.records.len();
        self.size += record.bytes.len();
        let (event, fingerprint) = fact.unzip();
        self.fingerprints.push(fingerprint.unwrap_or_default());
        if let Some(event) = &event {
            self.by_identity.insert(event.identity.clone(), index);
        }
        self.records.push(record);
        self.events.push(event);
        index
    }
}

/// What an item will be answered once the commit is durable.
enum Slot {
    Refused(Box<Refused>),
    /// Index in the draft; `duplicate` when an earlier item of it has the same identity.
    Drafted {
        index: usize,
        duplicate: bool,
    },
    /// Recorded before.
    Recorded(Arc<Record>),
}

impl Writer {
    /// Works until told to stop, or until nobody can tell it anything any more.
    pub(crate) fn run(mut self) {
        while let Some(order) = self.held.take().or_else(|| self.orders.recv().ok()) {
            match order {
                Order::Emit(job) => {
                    let jobs = self.gather(job);
                    self.commit(jobs);
                }
                Order::Take(take) => {
                    let takes = self.gather_takes(take);
                    self.take(takes);
                }
                Order::Open(opening) => self.open_epoch(*opening),
                Order::Stop => break,
            }
        }
    }

    /// Takes what else is waiting, so that a crowd shares one fdatasync and a lone event waits for nobody (LEDGER J2).
    fn gather(&mut self, first: Job) -> Vec<Job> {
        let (mut events, mut bytes) = (first.items.len(), first.size);
        let mut jobs = vec![first];
        while events < limits::COMMIT_EVENTS_MAX && bytes < limits::COMMIT_BYTES_MAX {
            match self.orders.try_recv() {
                Ok(Order::Emit(job)) => {
                    events += job.items.len();
                    bytes += job.size;
                    jobs.push(job);
                }
                Ok(other) => {
                    self.held = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        jobs
    }

    fn commit(&mut self, jobs: Vec<Job>) {
        let counts = &self.shared.counts;
        for job in &jobs {
            counts
                .queued_events
                .fetch_sub(job.items.len(), Ordering::Relaxed);
            counts.queued_bytes.fetch_sub(job.size, Ordering::Relaxed);
        }
        if let Err(why) = self.ready() {
            return answer_all(jobs, || why.rejection());
        }
        let mut draft = Draft::default();
        let mut replies = Vec::with_capacity(jobs.len());
        for job in jobs {
            match self.admit_job(&mut draft, job.items, &job.sender) {
                Ok(slots) => replies.push((slots, job.reply)),
                Err(fault) => drop(job.reply.send(Err(unreadable(&fault)))),
            }
        }
        self.seal(&mut draft.records);
        match self.append(draft) {
            Ok(batch) => self.answer(replies, batch.as_deref()),
            Err(fault) => {
                let why = self.failed(&fault);
                for (_, reply) in replies {
                    drop(reply.send(Err(why.rejection())));
                }
            }
        }
    }

    /// Whether writing is possible now; tries to get it going again where the cause may be gone (LEDGER J5).
    pub(crate) fn ready(&mut self) -> Result<(), Writing> {
        let state = read(&self.shared.writing).clone();
        match state {
            Writing::Closed(_) => return Err(state),
            Writing::Paused(_) | Writing::Open => {}
        }
        if let Err(fault) = self.shared.place.check_space(limits::DISK_RESERVE_BYTES) {
            return Err(self.failed(&fault));
        }
        if matches!(state, Writing::Paused(_)) {
            if let Err(fault) = self.journal.reopen() {
                return Err(self.failed(&fault));
            }
            tracing::info!("writing goes on in a new segment");
            *write(&self.shared.writing) = Writing::Open;
        }
        Ok(())
    }

    /// Notes why writing stopped. The next emit tries again; what lies beyond the last fdatasync is left behind.
    pub(crate) fn failed(&self, fault: &Fault) -> Writing {
        let why = Writing::Paused(chain(fault));
        let mut writing = write(&self.shared.writing);
        if *writing != why {
            tracing::error!(error = %chain(fault), "writing is paused");
            *writing = why.clone();
        }
        why
    }

    fn admit_job(
        &self,
        draft: &mut Draft,
        items: Vec<Item>,
        sender: &Arc<str>,
    ) -> Result<Vec<Slot>, Fault> {
        items
            .into_iter()
            .map(|item| match item {
                Item::Refused(refused) => Ok(Slot::Refused(refused)),
                Item::Event(parsed) => self.admit(draft, *parsed, sender),
            })
            .collect()
    }

    fn admit(&self, draft: &mut Draft, parsed: Parsed, sender: &Arc<str>) -> Result<Slot, Fault> {
        let Parsed { event, bytes } = parsed;
        let fingerprint = seen::fingerprint(&event.identity.source, &event.identity.id);
        if let Some(&index) = draft.by_identity.get(&event.identity) {
            let (position, stored) = (
                draft.records[index].position,
                draft.records[index].bytes.clone(),
            );
            return match admit::verdict(Some(&stored), &bytes, RULES_VERSION) {
                Ok(Verdict::Conflict { recorded, refused }) => {
                    let digests = own_event::Digests { recorded, refused };
                    self.conflict(draft, &event, &bytes, position, &digests, sender)
                }
                _ => Ok(Slot::Drafted {
                    index,
                    duplicate: true,
                }),
            };
        }
        let Some(stored) = self.shared.stored(&event.identity, fingerprint)? else {
            let index = self.draft(draft, event, bytes, fingerprint, Stored::Admitted, sender);
            return Ok(Slot::Drafted {
                index,
                duplicate: false,
            });
        };
        match admit::verdict(Some(&stored.bytes), &bytes, RULES_VERSION) {
            Ok(Verdict::Conflict { recorded, refused }) => {
                let digests = own_event::Digests { recorded, refused };
                self.conflict(draft, &event, &bytes, stored.position, &digests, sender)
            }
            _ => Ok(Slot::Recorded(stored)),
        }
    }

    /// Puts the identity's first conflict on record in this very commit; later ones are counted (LEDGER A4).
    fn conflict(
        &self,
        draft: &mut Draft,
        event: &Event,
        bytes: &Bytes,
        position: u64,
        digests: &own_event::Digests,
        sender: &Arc<str>,
    ) -> Result<Slot, Fault> {
        self.shared.counts.conflicts.fetch_add(1, Ordering::Relaxed);
        let refusal = admit::conflict(&event.identity, position);
        self.shared
            .note_refusal(&refusal, parse::claim(bytes), sender, bytes);
        let own = own_event::conflict_detected(
            &self.shared.ledger_id,
            event,
            position,
            digests,
            self.now(),
        );
        let fingerprint = seen::fingerprint(&own.event.identity.source, &own.event.identity.id);
        let known = draft.by_identity.contains_key(&own.event.identity)
            || self
                .shared
                .stored(&own.event.identity, fingerprint)?
                .is_some();
        if !known {
            self.draft(
                draft,
                own.event,
                own.bytes,
                fingerprint,
                Stored::Ledger,
                &Arc::from(""),
            );
        }
        Ok(Slot::Refused(Box::new(Refused {
            refusal,
            recorded: Some((event.identity.clone(), position)),
        })))
    }

    fn draft(
        &self,
        draft: &mut Draft,
        event: Event,
        bytes: Bytes,
        fingerprint: u64,
        verdict: Stored,
        sender: &Arc<str>,
    ) -> usize {
        let index = draft.records.len();
        let headers = match sender.is_empty() {
            true => Vec::new(),
            false => vec![("Waybill-Sender".to_owned(), sender.to_string())],
        };
        let record = Record {
            position: self.journal.tip().position + index as u64 + 1,
            record_time: Time::default(),
            epoch: 0,
            stream_sequence: 0,
            salt: Some([0; 16]),
            subject: String::new(),
            headers,
            verdict,
            rules_version: RULES_VERSION,
            source: event.identity.source.clone(),
            id: event.identity.id.clone(),
            kind: Arc::from(&*event.kind.0),
            flags: 0,
            bytes,
        };
        draft.push(record, Some((Arc::new(event), fingerprint)))
    }

    /// Makes the draft durable, and hands it on. Nothing of it is known to anyone before that.
    pub(crate) fn append(&mut self, draft: Draft) -> Result<Option<Arc<Batch>>, Fault> {
        if draft.records.is_empty() {
            return Ok(None);
        }
        let mut tree = self.tree.clone();
        let mut nodes = Vec::with_capacity(2 * draft.records.len());
        let leaves: Vec<_> = draft.records.iter().map(leaf::hash).collect();
        for leaf in &leaves {
            tree.push(*leaf, &mut |level, index, hash| {
                nodes.push((level, index, hash))
            });
        }
        let tip = self.journal.append(&draft.records, &leaves)?;
        self.shared
            .journal_bytes
            .store(self.journal.bytes(), Ordering::Relaxed);
        let batch = Arc::new(Batch {
            records: draft.records.into_iter().map(Arc::new).collect(),
            events: draft.events,
            leaves,
            nodes,
            tip,
            frontier: tree.to_bytes(),
            root: tree.root(),
            size: draft.size,
        });
        self.tree = tree;
        self.hand_on(&batch, &draft.fingerprints);
        Ok(Some(batch))
    }

    /// Records an event of the ledger's own, outside any call.
    pub(crate) fn append_own(&mut self, own: own_event::Own) -> Result<(), Fault> {
        let mut draft = Draft::default();
        let fingerprint = seen::fingerprint(&own.event.identity.source, &own.event.identity.id);
        self.draft(
            &mut draft,
            own.event,
            own.bytes,
            fingerprint,
            Stored::Ledger,
            &Arc::from(""),
        );
        self.seal(&mut draft.records);
        self.append(draft).map(|_| ())
    }

    /// Gives every record of the commit its time and salt.
    fn seal(&self, records: &mut [Record]) {
        let now = self.now();
        let mut salts = vec![0; 16 * records.len()];
        (self.shared.host.random)(&mut salts);
        for (record, salt) in records.iter_mut().zip(salts.chunks_exact(16)) {
            record.record_time = now;
            record.salt = salt.try_into().ok();
        }
    }

    /// The clock, never before the last record (LEDGER Q1).
    fn now(&self) -> Time {
        (self.shared.host.clock)().max(self.journal.tip().record_time)
    }

    fn hand_on(&self, batch: &Arc<Batch>, fingerprints: &[u64]) {
        let counts = &self.shared.counts;
        counts
            .unapplied_events
            .fetch_add(batch.records.len(), Ordering::Relaxed);
        counts
            .unapplied_bytes
            .fetch_add(batch.size, Ordering::Relaxed);
        // The batch can be found before its identities can, so that a hit always finds its record.
        self.shared.push_recent(batch.clone());
        let mut seen = write(&self.shared.seen);
        for (record, fingerprint) in batch.records.iter().zip(fingerprints) {
            seen.insert(*fingerprint, record.position);
        }
        drop(seen);
        let Tip {
            position,
            record_time,
            chain,
            ..
        } = batch.tip.clone();
        *write(&self.shared.durable) = Durable {
            position,
            record_time: Some(record_time),
            root: batch.root,
            chain,
        };
        self.shared
            .heads
            .send_modify(|heads| heads.durable = position);
    }

    fn answer(&self, replies: Vec<(Vec<Slot>, Reply)>, batch: Option<&Batch>) {
        let durable = read(&self.shared.durable).clone();
        for (slots, reply) in replies {
            let emitted = slots
                .into_iter()
                .map(|slot| self.emitted(slot, batch, &durable))
                .collect();
            drop(reply.send(Ok(emitted)));
        }
    }

    fn emitted(&self, slot: Slot, batch: Option<&Batch>, durable: &Durable) -> Emitted {
        let (record, leaf_hash, duplicate) = match slot {
            Slot::Refused(refused) => return Err(*refused),
            Slot::Recorded(record) => {
                let leaf_hash = leaf::hash(&record);
                (record, leaf_hash, true)
            }
            Slot::Drafted { index, duplicate } => {
                let batch = batch.expect("a drafted item has a batch, for its commit succeeded");
                (batch.records[index].clone(), batch.leaves[index], duplicate)
            }
        };
        if duplicate {
            self.shared
                .counts
                .duplicates
                .fetch_add(1, Ordering::Relaxed);
        }
        Ok(self.shared.receipt(&record, leaf_hash, durable, duplicate))
    }
}

impl Writing {
    /// What an emitter is told.
    pub(crate) fn rejection(&self) -> Rejection {
        match self {
            Self::Open => busy("the writer is starting"),
            Self::Paused(why) => Rejection::NotWriting {
                why: why.clone(),
                may_recover: true,
            },
            Self::Closed(why) => Rejection::NotWriting {
                why: why.clone(),
                may_recover: false,
            },
        }
    }
}

/// Tells an emitter to come again soon.
pub(crate) fn busy(why: &str) -> Rejection {
    Rejection::Busy {
        why: why.to_owned(),
        retry_after: Duration::from_millis(limits::RETRY_AFTER_MS),
    }
}

/// An error with all its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

fn unreadable(fault: &Fault) -> Rejection {
    Rejection::NotWriting {
        why: format!(
            "what is recorded under this identity cannot be read: {}",
            chain(fault)
        ),
        may_recover: true,
    }
}

fn answer_all(jobs: Vec<Job>, rejection: impl Fn() -> Rejection) {
    for job in jobs {
        drop(job.reply.send(Err(rejection())));
    }
}

impl Shared {
    /// The plain receipt of a record, with the tree that answers.
    pub(crate) fn receipt(
        &self,
        record: &Record,
        leaf_hash: waybill_store::Hash,
        durable: &Durable,
        duplicate: bool,
    ) -> Receipt {
        Receipt {
            ledger_id: self.ledger_id.clone(),
            instance_id: self.instance_id.clone(),
            identity: Identity {
                source: record.source.clone(),
                id: record.id.clone(),
            },
            position: record.position,
            record_time: record.record_time,
            leaf_hash,
            salt: record.salt,
            tree_size: durable.position,
            root: durable.root,
            duplicate,
        }
    }
}
