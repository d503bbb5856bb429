//! The thread that feeds the views, in order: from memory when it is close, from sled when it is behind.
use std::{
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{self, SyncSender},
    },
    thread,
};

use waybill_core::{Event, Recorded, Time};
use waybill_store::{Fault, Record};

use crate::{
    leaf, limits,
    shared::{Batch, Shared, read, write},
    stream, view_checkpoint,
    writer::chain,
};

/// Folds until the ledger stops, from where the last checkpoint was.
pub(crate) fn run(shared: &Arc<Shared>) {
    done(shared, view_checkpoint::restore(shared));
    while !shared.stopping.load(Ordering::Acquire) {
        match step(shared) {
            Ok(true) => {}
            Ok(false) => shared.wait_beyond(|heads| heads.folded),
            Err(fault) => {
                tracing::error!(error = %chain(&fault), "the views cannot read what is recorded; questions stay behind");
                shared.pause();
            }
        }
        view_checkpoint::keep_if_due(shared);
    }
}

/// Folds what comes next; `false` when there is nothing.
fn step(shared: &Shared) -> Result<bool, Fault> {
    let heads = *shared.heads.borrow();
    let next = heads.folded + 1;
    if let Some(batch) = shared.recent_at(next) {
        fold(shared, batch_events(shared, &batch, next));
        done(shared, batch.tip.position);
        return Ok(true);
    }
    if next > heads.applied {
        return Ok(false);
    }
    let last = heads
        .applied
        .min(heads.folded + limits::CATCH_UP_EVENTS_MAX);
    catch_up(shared, next, last)?;
    Ok(true)
}

/// Folds what sled holds: one thread reads and parses while this one folds.
fn catch_up(shared: &Shared, first: u64, last: u64) -> Result<(), Fault> {
    let (send, receive) = mpsc::sync_channel(CHUNKS_AHEAD);
    thread::scope(|scope| {
        let reader = scope.spawn(move || read_parsed(shared, first, last, &send));
        for (leaves, tip) in receive {
            fold(shared, leaves);
            done(shared, tip);
            if shared.stopping.load(Ordering::Acquire) {
                break;
            }
        }
        let read = reader.join();
        read.unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// A leaf as the views take it in.
pub(crate) enum Folded {
    Fact(Recorded),
    /// No fact: a repeat, or refused.
    Passed {
        position: u64,
        record_time: Time,
        refused: bool,
    },
}

/// Parsed events, and the position that they reach.
type Chunk = (Vec<Folded>, u64);

/// Chunks that are read ahead of the fold.
const CHUNKS_AHEAD: usize = 2;

/// Reads on until all is sent or nobody listens any more.
fn read_parsed(
    shared: &Shared,
    first: u64,
    last: u64,
    send: &SyncSender<Chunk>,
) -> Result<(), Fault> {
    let mut next = first;
    while next <= last {
        let records = read(&shared.database).records(next..=last, limits::FOLD_EVENTS_MAX)?;
        let Some(tip) = records.last().map(|record| record.position) else {
            return Err(Fault::Suspect {
                why: format!("positions {next} to {last} are applied and not there"),
            });
        };
        let events = records
            .iter()
            .map(|record| folded(shared, record))
            .collect();
        if send.send((events, tip)).is_err() {
            return Ok(());
        }
        next = tip + 1;
    }
    Ok(())
}

/// The events of a batch from a position on, with their places.
fn batch_events(shared: &Shared, batch: &Batch, first: u64) -> Vec<Folded> {
    batch
        .records
        .iter()
        .zip(&batch.events)
        .filter(|(record, _)| record.position >= first)
        .map(|(record, event)| match event {
            Some(event) => Folded::Fact(placed(record, event.clone())),
            None => folded(shared, record),
        })
        .collect()
}

/// A stored record as the views take it in.
fn folded(shared: &Shared, record: &Record) -> Folded {
    recorded(shared, record).map_or_else(|| passed(record), Folded::Fact)
}

fn passed(record: &Record) -> Folded {
    Folded::Passed {
        position: record.position,
        record_time: record.record_time,
        refused: leaf::is_refused(record.verdict),
    }
}

/// A stored record as the views see it; `None` where it is not a fact.
pub(crate) fn recorded(shared: &Shared, record: &Record) -> Option<Recorded> {
    let read = match record.verdict.is_fact() {
        true => stream::of_record(record).ok()?,
        false => shared.understood_later(record)?,
    };
    Some(placed(record, Arc::new(read.event)))
}

fn placed(record: &Record, event: Arc<Event>) -> Recorded {
    Recorded {
        position: record.position,
        record_time: record.record_time,
        sender: record
            .headers
            .iter()
            .find(|(name, _)| name == "Waybill-Sender")
            .map(|(_, name)| name.as_str().into()),
        event,
    }
}

fn fold(shared: &Shared, leaves: Vec<Folded>) {
    for some in leaves.chunks(limits::FOLD_EVENTS_MAX) {
        let mut facts = write(&shared.facts);
        for leaf in some {
            match leaf {
                Folded::Fact(recorded) => facts.apply(recorded),
                Folded::Passed {
                    position,
                    record_time,
                    refused,
                } => facts.pass(*position, *record_time, *refused),
            }
        }
    }
}

fn done(shared: &Shared, position: u64) {
    shared.heads.send_modify(|heads| heads.folded = position);
    shared.trim_recent();
}
