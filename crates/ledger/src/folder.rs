//! The thread that feeds the views, in order: from memory when it is close, from sled when it is behind.
use std::sync::{Arc, atomic::Ordering};

use waybill_core::{Event, Recorded};
use waybill_proto::parse;
use waybill_store::{Fault, Record, Verdict};

use crate::{
    limits,
    shared::{Batch, Shared, read, write},
    writer::chain,
};

/// Folds until the ledger stops.
pub(crate) fn run(shared: &Arc<Shared>) {
    while !shared.stopping.load(Ordering::Acquire) {
        match step(shared) {
            Ok(true) => {}
            Ok(false) => shared.wait_beyond(|heads| heads.folded),
            Err(fault) => {
                tracing::error!(error = %chain(&fault), "the views cannot read what is recorded; questions stay behind");
                shared.pause();
            }
        }
    }
}

/// Folds what comes next; `false` when there is nothing.
fn step(shared: &Shared) -> Result<bool, Fault> {
    let heads = *shared.heads.borrow();
    let next = heads.folded + 1;
    if let Some(batch) = shared.recent_at(next) {
        fold(shared, batch_events(&batch, next));
        done(shared, batch.tip.position);
        return Ok(true);
    }
    if next > heads.applied {
        return Ok(false);
    }
    let last = heads
        .applied
        .min(heads.folded + limits::FOLD_EVENTS_MAX as u64);
    let records = read(&shared.database).records(next..=last, limits::FOLD_EVENTS_MAX)?;
    let Some(tip) = records.last().map(|record| record.position) else {
        return Err(Fault::Suspect {
            why: format!("positions {next} to {last} are applied and not there"),
        });
    };
    fold(shared, records.iter().filter_map(recorded).collect());
    done(shared, tip);
    Ok(true)
}

/// The events of a batch from a position on, with their places.
fn batch_events(batch: &Batch, first: u64) -> Vec<Recorded> {
    batch
        .records
        .iter()
        .zip(&batch.events)
        .filter(|(record, _)| record.position >= first)
        .filter_map(|(record, event)| placed(record, event.clone()?))
        .collect()
}

/// A stored record as the views see it; `None` where it is not a fact.
pub(crate) fn recorded(record: &Record) -> Option<Recorded> {
    placed(record, parse::parse(&record.bytes).ok()?)
}

fn placed(record: &Record, event: Event) -> Option<Recorded> {
    let fact = matches!(record.verdict, Verdict::Admitted | Verdict::Ledger);
    fact.then_some(Recorded {
        position: record.position,
        record_time: record.record_time,
        event,
    })
}

fn fold(shared: &Shared, events: Vec<Recorded>) {
    for some in events.chunks(limits::FOLD_EVENTS_MAX) {
        let mut facts = write(&shared.facts);
        for recorded in some {
            facts.apply(recorded);
        }
    }
}

fn done(shared: &Shared, position: u64) {
    shared.heads.send_modify(|heads| heads.folded = position);
    shared.trim_recent();
}
