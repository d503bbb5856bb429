//! The thread that looks after the small things once a second: head file, side log, disk space (LEDGER J4, A5).
use std::{sync::Arc, time::Duration};

use waybill_store::{Fault, place::Head};

use crate::{
    shared::{Shared, lock, read},
    stream::Freeze,
    writer::chain,
};

/// How late the head file and the side log may be (LEDGER J4, A5).
const EVERY: Duration = Duration::from_secs(1);

/// Looks after the small things until the ledger stops.
pub(crate) fn run(shared: &Arc<Shared>) {
    let mut written = 0;
    while shared.rest(EVERY) {
        written = look_after(shared, written);
    }
}

/// One round; gives back the position that the head file names now.
pub(crate) fn look_after(shared: &Shared, written: u64) -> u64 {
    if let Err(fault) = lock(&shared.side_log).sync() {
        tracing::warn!(error = %chain(&fault), "the side log of refusals is not synced");
    }
    reach_due(shared);
    let durable = read(&shared.durable).clone();
    if durable.position == written {
        return written;
    }
    match write_head(shared) {
        Ok(position) => position,
        Err(fault) => {
            tracing::warn!(error = %chain(&fault), "the head file is not written; a rollback may go unnoticed");
            written
        }
    }
}

/// Compares the tree with the head that was known before, once it has come so far again.
fn reach_due(shared: &Shared) {
    let applied = shared.heads.borrow().applied;
    let mut due = lock(&shared.due);
    let Some(head) = due.as_ref().filter(|head| head.position <= applied) else {
        return;
    };
    match shared.root_at(head.position) {
        Ok(root) if root == head.root => {
            tracing::info!(
                position = head.position,
                "the head that was known is reached again"
            );
            *due = None;
        }
        Ok(root) => {
            if let Some(side) = &shared.stream {
                side.diverge(Freeze::of_another_head(head.position, &head.root, &root));
            }
        }
        Err(fault) => {
            tracing::warn!(error = %chain(&fault), "the head that was known cannot be compared yet")
        }
    }
}

/// Writes the head file: where the journal is known to reach, outside the data directory. A ledger that may not be written
/// leaves it as it is: it knows of positions that this start did not find, and must go on saying so (LEDGER J4).
pub(crate) fn write_head(shared: &Shared) -> Result<u64, Fault> {
    let durable = read(&shared.durable).clone();
    if shared.read_only || lock(&shared.due).is_some() {
        return Ok(durable.position);
    }
    shared.place.write_head(&Head {
        ledger_id: shared.ledger_id.to_string(),
        instance_id: shared.instance_id.to_string(),
        position: durable.position,
        root: durable.root,
        chain: durable.chain,
    })?;
    Ok(durable.position)
}
