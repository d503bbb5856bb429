//! Batches on their way from the journal to sled and the views.
use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use waybill_core::Identity;
use waybill_store::{Fault, Record, database::Database};

use crate::{
    limits, open,
    shared::{Batch, Shared, lock, read, write},
    words::Heads,
};

/// How long a thread sleeps at most before it looks again; wakes come sooner.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

impl Shared {
    /// Adds the newest batch and wakes those who wait for it.
    pub(crate) fn push_recent(&self, batch: Arc<Batch>) {
        write(&self.recent).push_back(batch);
        self.wake();
    }

    /// Wakes the applier and the folder.
    pub(crate) fn wake(&self) {
        let _guard = lock(&self.recent_lock);
        self.recent_grew.notify_all();
    }

    /// Sleeps until there may be something beyond a position. Each thread names its own: one that woke for another's
    /// work would spin until that is done.
    pub(crate) fn wait_beyond(&self, done: impl Fn(&Heads) -> u64) {
        let guard = lock(&self.recent_lock);
        let heads = *self.heads.borrow();
        let newest = read(&self.recent)
            .back()
            .map_or(0, |batch| batch.tip.position);
        if newest.max(heads.applied) <= done(&heads) {
            drop(
                self.recent_grew
                    .wait_timeout(guard, LOOK_AGAIN)
                    .unwrap_or_else(PoisonError::into_inner),
            );
        }
    }

    /// Sleeps a little after a failure.
    pub(crate) fn pause(&self) {
        let guard = lock(&self.recent_lock);
        drop(
            self.recent_grew
                .wait_timeout(guard, LOOK_AGAIN)
                .unwrap_or_else(PoisonError::into_inner),
        );
    }

    /// Waits; `false` when the ledger stops meanwhile.
    pub(crate) fn rest(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut guard = lock(&self.keeper_lock);
        loop {
            if self.stopping.load(Ordering::Acquire) {
                return false;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            let woken = self.keeper_wake.wait_timeout(guard, left);
            guard = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Wakes those who rest, so that they see that the ledger stops.
    pub(crate) fn wake_keeper(&self) {
        // Under the lock: whoever looked before it was said is waiting by now.
        let _guard = lock(&self.keeper_lock);
        self.keeper_wake.notify_all();
    }

    /// The batch that holds a position, if it is still in memory.
    pub(crate) fn recent_at(&self, position: u64) -> Option<Arc<Batch>> {
        let recent = read(&self.recent);
        let index = recent.partition_point(|batch| batch.tip.position < position);
        recent
            .get(index)
            .filter(|batch| batch.first() <= position)
            .cloned()
    }

    /// Drops batches that sled holds and that the views have seen, or would read from sled anyway.
    pub(crate) fn trim_recent(&self) {
        let heads = *self.heads.borrow();
        let mut recent = write(&self.recent);
        let mut bytes: usize = recent.iter().map(|batch| batch.size).sum();
        while let Some(oldest) = recent.front() {
            let applied = oldest.tip.position <= heads.applied;
            let folded = oldest.tip.position <= heads.folded;
            if !(applied && (folded || bytes > limits::RECENT_BYTES_MAX)) {
                break;
            }
            bytes -= oldest.size;
            recent.pop_front();
        }
    }

    /// The record at a position, wherever it is now.
    pub(crate) fn record(&self, position: u64) -> Result<Option<Arc<Record>>, Fault> {
        if let Some(batch) = self.recent_at(position) {
            return Ok(batch.record(position).cloned());
        }
        Ok(read(&self.database)
            .record_checked(position, &crate::leaf::PURE)?
            .map(Arc::new))
    }

    /// Opens the database anew after it failed; what it does not hold comes again from `recent`.
    pub(crate) fn reopen_database(&self) -> Result<(), Fault> {
        let mut database = write(&self.database);
        database.close();
        self.place.lend_ballast()?;
        let boot_id = waybill_store::place::boot_id();
        let opened = Database::open(
            &self.place.database_dir(),
            &open::database_options(&self.config),
            boot_id.as_deref(),
        )?;
        let applied = opened.meta.map_or(0, |meta| meta.tip.position);
        *database = opened.database;
        drop(database);
        self.place.take_back_ballast()?;
        let kept = read(&self.recent)
            .front()
            .is_none_or(|batch| batch.first() <= applied + 1);
        if !kept {
            return Err(Fault::Suspect {
                why: format!("it ends at position {applied}, which a restart mends"),
            });
        }
        self.heads.send_modify(|heads| heads.applied = applied);
        Ok(())
    }

    /// The record under an identity. A fingerprint is only a hint; the stored identity decides (LEDGER S3).
    pub(crate) fn stored(
        &self,
        identity: &Identity,
        fingerprint: u64,
    ) -> Result<Option<Arc<Record>>, Fault> {
        let candidates: Vec<u64> = read(&self.seen).candidates(fingerprint).collect();
        for position in candidates {
            if let Some(record) = self.record(position)?
                && record.source == identity.source
                && record.id == identity.id
            {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }
}
