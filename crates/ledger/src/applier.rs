//! The thread that brings what is durable into sled, in order (LEDGER S4).
use std::sync::{Arc, atomic::Ordering};

use waybill_store::{
    Fault, Keys,
    database::{Meta, Step},
};

use crate::{
    leaf, limits,
    shared::{Batch, Shared, read},
    writer::chain,
};

/// Applies batches as they come, until the ledger stops and nothing is left.
pub(crate) fn run(shared: &Arc<Shared>) {
    let mut failed = false;
    loop {
        let batches = shared.next_to_apply();
        if batches.is_empty() {
            if shared.stopping.load(Ordering::Acquire) {
                return;
            }
            shared.wait_beyond(|heads| heads.applied);
            continue;
        }
        match apply(shared, &batches) {
            Ok(()) => failed = false,
            Err(fault) => {
                if !failed {
                    tracing::error!(error = %chain(&fault), "the database does not take in events; reads stay behind");
                }
                failed = true;
                if shared.stopping.load(Ordering::Acquire) {
                    return;
                }
                recover(shared);
            }
        }
    }
}

fn apply(shared: &Shared, batches: &[Arc<Batch>]) -> Result<(), Fault> {
    let Some(last) = batches.last() else {
        return Ok(());
    };
    let records: Vec<_> = batches
        .iter()
        .flat_map(|batch| batch.records.iter().cloned())
        .collect();
    let leaves: Vec<_> = batches
        .iter()
        .flat_map(|batch| batch.leaves.iter().copied())
        .collect();
    let nodes: Vec<_> = batches
        .iter()
        .flat_map(|batch| batch.nodes.iter().copied())
        .collect();
    let keys: Vec<Keys> = batches
        .iter()
        .flat_map(|batch| batch.events.iter().zip(&batch.records))
        .map(keys_of)
        .collect();
    let meta = Meta {
        ledger_id: shared.ledger_id.to_string(),
        tip: last.tip.clone(),
        frontier: last.frontier.clone(),
        root: last.root,
        counters: Vec::new(),
    };
    read(&shared.database).apply(&Step {
        records: &records,
        leaves: &leaves,
        nodes: &nodes,
        keys: &keys,
        meta,
    })?;
    let counts = &shared.counts;
    counts
        .unapplied_events
        .fetch_sub(records.len(), Ordering::Relaxed);
    counts.unapplied_bytes.fetch_sub(
        batches.iter().map(|batch| batch.size).sum(),
        Ordering::Relaxed,
    );
    shared
        .heads
        .send_modify(|heads| heads.applied = last.tip.position);
    shared.trim_recent();
    Ok(())
}

fn keys_of(
    (event, record): (
        &Option<Arc<waybill_core::Event>>,
        &Arc<waybill_store::Record>,
    ),
) -> Keys {
    event
        .as_ref()
        .map_or_else(|| leaf::index(record), |event| leaf::keys(event))
}

/// A sled that failed once keeps failing: it is opened anew (`crates/store/README.md`). What it lost it gets again, for
/// its own position says where it stands, and everything after it is still in `recent`. On a full disk it could not be
/// opened, and what is open still answers: reads go on with that until there is room (LEDGER J5).
fn recover(shared: &Shared) {
    shared.pause();
    if let Err(fault) = shared.place.check_space(0) {
        tracing::debug!(error = %chain(&fault), "the database is left as it is");
        return;
    }
    if let Err(fault) = shared.reopen_database() {
        tracing::debug!(error = %chain(&fault), "the database cannot be opened anew yet");
    }
}

impl Shared {
    /// The oldest batches that sled does not hold yet, at most one step's worth.
    fn next_to_apply(&self) -> Vec<Arc<Batch>> {
        let applied = self.heads.borrow().applied;
        let recent = read(&self.recent);
        let mut events = 0;
        recent
            .iter()
            .filter(|batch| batch.tip.position > applied)
            .take_while(|batch| {
                let first = events == 0;
                events += batch.records.len();
                first || events <= limits::STEP_EVENTS_MAX
            })
            .cloned()
            .collect()
    }
}
