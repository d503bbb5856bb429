//! What the views have folded, kept in a file and read back at a start (LEDGER S7).
//!
//! A checkpoint is believed only if it is of this ledger, of this version of the facts, and of the very history that the
//! tree vouches for. Otherwise everything is folded again, which is always possible.
use std::sync::atomic::Ordering;

use waybill_store::{
    Fault,
    view_checkpoint::{self, Stamp},
};
use waybill_views::Facts;

use crate::{
    RULES_VERSION, limits,
    shared::{Shared, read, write},
    writer::chain,
};

/// Names the file.
const VIEW: &str = "facts";

/// What is folded depends on the views and on the rules by which leaves are facts (LEDGER A6).
const VERSION: u32 = RULES_VERSION << 16 | Facts::CHECKPOINT_VERSION;

/// Takes up the facts of the checkpoint, if it holds. Gives the position that they reach; zero without one.
pub(crate) fn restore(shared: &Shared) -> u64 {
    let Some((stamp, bytes)) = view_checkpoint::read(&shared.place.view_checkpoint(VIEW)) else {
        return 0;
    };
    if !fits(shared, &stamp) {
        tracing::info!(
            position = stamp.position,
            "the views' checkpoint is of another version or history; everything is folded again"
        );
        return 0;
    }
    let Some(facts) = Facts::restore(&bytes).filter(|facts| facts.head().0 <= stamp.position)
    else {
        tracing::warn!("the views' checkpoint does not hold; everything is folded again");
        return 0;
    };
    *write(&shared.facts) = facts;
    shared.views_kept.store(stamp.position, Ordering::Relaxed);
    stamp.position
}

fn fits(shared: &Shared, stamp: &Stamp) -> bool {
    stamp.view_version == VERSION
        && stamp.ledger_id == *shared.ledger_id
        && stamp.position <= shared.heads.borrow().applied
        && shared
            .root_at(stamp.position)
            .is_ok_and(|root| root == stamp.root)
}

/// Keeps the facts when enough was folded since they were last kept. Nothing else may change them meanwhile; questions go
/// on reading them. A failure is told, and costs nothing but time at the next start.
pub(crate) fn keep_if_due(shared: &Shared) {
    let heads = *shared.heads.borrow();
    let kept = shared.views_kept.load(Ordering::Relaxed);
    // Writing takes longer the more there is, so a large ledger waits for a quarter of its size.
    let enough = shared.config.view_checkpoint_events.max(kept / 4);
    // Only what sled holds has a root that can be looked up.
    if heads.folded < kept + enough || heads.folded > heads.applied {
        return;
    }
    // Not tried again before as much has come again, whether it is written or not.
    shared.views_kept.store(heads.folded, Ordering::Relaxed);
    if let Err(fault) = keep(shared, heads.folded) {
        tracing::warn!(error = %chain(&fault), "the views' checkpoint is not written; the next start folds more");
    }
}

fn keep(shared: &Shared, position: u64) -> Result<(), Fault> {
    let facts = read(&shared.facts);
    let available = shared.place.available_bytes()?;
    let wanted = limits::DISK_RESERVE_BYTES + position * limits::VIEW_CHECKPOINT_BYTES_PER_EVENT;
    if available < wanted {
        return Ok(());
    }
    let stamp = Stamp {
        view_version: VERSION,
        ledger_id: shared.ledger_id.to_string(),
        position,
        root: shared.root_at(position)?,
    };
    let path = shared.place.view_checkpoint(VIEW);
    view_checkpoint::write(&path, &stamp, &mut |sink| facts.checkpoint(sink))
}
