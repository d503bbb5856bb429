//! What all handlers share: the ledger, the limits, and the way to compute beside the sockets.
use std::{future::Future, sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    task,
    time::{Instant, timeout_at},
};
use tonic::Status;
use waybill_ledger::{AtLeast, Heads, Ledger, ReadFailure};

use crate::{
    call::Deadline, contract::Contract, drain::Drain, gate::Gate, metrics::Metrics,
    settings::Limits, status,
};

/// How long a read may take where the caller set no deadline. Its thread is not given up before.
const COMPUTE_MAX: Duration = Duration::from_secs(60);
/// The part of a deadline that is kept for sending the answer, and at most how much.
const ANSWER_SHARE: u32 = 10;
const ANSWER_MAX: Duration = Duration::from_millis(100);

/// Clones share everything.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) ledger: Ledger,
    pub(crate) limits: Arc<Limits>,
    pub(crate) contract: Arc<Contract>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) drain: Drain,
    pub(crate) calls: Arc<Semaphore>,
    pub(crate) json_calls: Arc<Semaphore>,
    pub(crate) emit_streams: Arc<Semaphore>,
    pub(crate) tails: Arc<Semaphore>,
    computing: Arc<Semaphore>,
}

impl Shared {
    pub(crate) fn new(
        ledger: Ledger,
        limits: Limits,
        contract: Contract,
        gate: Gate,
        drain: Drain,
    ) -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Self {
            calls: semaphore(limits.calls),
            json_calls: semaphore(limits.json_calls),
            emit_streams: semaphore(limits.emit_streams),
            tails: semaphore(limits.tails),
            computing: semaphore(limits.computing),
            limits: Arc::new(limits),
            contract: Arc::new(contract),
            gate: Arc::new(gate),
            metrics: Arc::default(),
            ledger,
            drain,
        }
    }

    /// Runs a read on a thread that may block, so that a slow question never holds up an emit.
    pub(crate) async fn compute<A, F>(
        &self,
        deadline: Deadline,
        read: impl FnOnce(Ledger) -> F + Send + 'static,
    ) -> Result<A, Status>
    where
        A: Send + 'static,
        F: Future<Output = Result<A, ReadFailure>>,
    {
        let permit = acquire(&self.computing, 1).await?;
        let (ledger, handle) = (self.ledger.clone(), Handle::current());
        let end = deadline
            .instant()
            .unwrap_or_else(|| Instant::now() + COMPUTE_MAX);
        let work = task::spawn_blocking(move || {
            // Held until the work ends, also when the caller has gone: what computes is bounded, not who waits.
            let _permit = permit;
            handle.block_on(async { timeout_at(end, read(ledger)).await })
        });
        match work.await {
            Ok(Ok(answer)) => answer.map_err(|failure| status::unread(&failure)),
            Ok(Err(_)) => Err(status::deadline_exceeded()),
            Err(error) => Err(status::broken("a read ended early", &error)),
        }
    }

    /// Where the ledger stands. Takes no place among what computes: a probe must be answered under load too.
    pub(crate) async fn status(&self) -> Result<waybill_ledger::Status, Status> {
        let ledger = self.ledger.clone();
        let status = task::spawn_blocking(move || ledger.status()).await;
        status.map_err(|error| status::broken("a look at the ledger ended early", &error))
    }

    /// Waits until reads stand at a position or later, at most until the caller's deadline (LEDGER S5).
    pub(crate) async fn reach(
        &self,
        at_least: Option<&AtLeast>,
        deadline: Deadline,
        head: fn(&Heads) -> u64,
    ) -> Result<(), Status> {
        let Some(at_least) = at_least else {
            return Ok(());
        };
        let mut heads = self.ledger.heads();
        let not_yet = |have| ReadFailure::NotYet {
            wanted: at_least.position,
            have,
        };
        let reached = async {
            self.ledger.wait_applied(at_least).await?;
            let waited = heads
                .wait_for(|heads| head(heads) >= at_least.position)
                .await
                .map(|_| ());
            waited.map_err(|_| not_yet(0))
        };
        let reached = tokio::select! {
            reached = timeout_at(self.wait_end(deadline), reached) => reached,
            () = self.drain.wait() => return Err(status::draining()),
        };
        let reached = reached.unwrap_or_else(|_| Err(not_yet(head(&self.ledger.heads().borrow()))));
        reached.map_err(|failure| status::unread(&failure))
    }

    /// When waiting must end so that the answer still arrives in time.
    fn wait_end(&self, deadline: Deadline) -> Instant {
        let now = Instant::now();
        match deadline.instant() {
            None => now + self.limits.wait_max,
            Some(end) => end - (end.saturating_duration_since(now) / ANSWER_SHARE).min(ANSWER_MAX),
        }
    }
}

/// Takes permits, waiting for them. Our semaphores are never closed.
pub(crate) async fn acquire(
    semaphore: &Arc<Semaphore>,
    permits: u32,
) -> Result<OwnedSemaphorePermit, Status> {
    let acquired = semaphore.clone().acquire_many_owned(permits).await;
    acquired.map_err(|error| status::broken("a limit is closed", &error))
}
