//! Emitting without waiting for each receipt: events go out in order, a bounded number under way at once.
use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use waybill_proto::{
    limits::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX, EVENT_BYTES_MAX},
    pb, raw,
};

use crate::{
    client::Client,
    emitter::results,
    error::{Error, Verdict, judge, shown},
    event::Event,
    retry::{random, slow},
    wire,
};

/// A stream of events to the ledger. Survives lost connections: what has no answer is sent again, in order.
///
/// Dropping it forgets what has no receipt yet; [`EmitStream::finish`] waits for it.
#[derive(Debug)]
pub struct EmitStream {
    jobs: Option<mpsc::Sender<Job>>,
    room: Arc<Semaphore>,
    worker: JoinHandle<()>,
}

/// An event on its way: await it for its receipt.
#[derive(Debug)]
pub struct Sent(oneshot::Receiver<Result<pb::Receipt, Error>>);

impl EmitStream {
    pub(crate) fn open(client: Client, in_flight: usize, patience: Duration) -> Self {
        let in_flight = in_flight.clamp(1, Semaphore::MAX_PERMITS);
        let (jobs, receiver) = mpsc::channel(in_flight);
        let worker = Worker {
            client,
            jobs: receiver,
            in_flight,
            patience,
            unanswered: VecDeque::new(),
            progress: Instant::now(),
            failures: 0,
        };
        let room = Arc::new(Semaphore::new(in_flight));
        Self {
            jobs: Some(jobs),
            room,
            worker: tokio::spawn(worker.run()),
        }
    }

    /// Sends an event; waits only while too many others are under way. Events go out in the order of these calls.
    ///
    /// # Errors
    /// [`Error::Failed`] when the stream's task has died.
    pub async fn send(&self, event: &Event) -> Result<Sent, Error> {
        let dead = || Error::Failed("the stream has ended".to_owned());
        let room = self
            .room
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| dead())?;
        let (reply, sent) = oneshot::channel();
        let job = Job {
            bytes: event.bytes().clone(),
            reply,
            _room: room,
        };
        let jobs = self.jobs.as_ref().ok_or_else(dead)?;
        jobs.send(job).await.map_err(|_| dead())?;
        Ok(Sent(sent))
    }

    /// Waits until everything that was sent has its answer, and ends the stream.
    pub async fn finish(mut self) {
        self.jobs = None;
        // A worker that panicked has told every waiting `Sent` by dying.
        let _ = (&mut self.worker).await;
    }
}

impl Drop for EmitStream {
    fn drop(&mut self) {
        self.worker.abort();
    }
}

impl Future for Sent {
    type Output = Result<pb::Receipt, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let forgotten = |_| Error::Unavailable {
            tries: 0,
            waited: Duration::ZERO,
            last: "the stream was dropped before the ledger answered".to_owned(),
        };
        Pin::new(&mut self.0)
            .poll(context)
            .map(|answer| answer.map_err(forgotten).flatten())
    }
}

#[derive(Debug)]
struct Job {
    bytes: Bytes,
    reply: oneshot::Sender<Result<pb::Receipt, Error>>,
    _room: OwnedSemaphorePermit,
}

struct Worker {
    client: Client,
    jobs: mpsc::Receiver<Job>,
    in_flight: usize,
    patience: Duration,
    /// Batches that were sent, or will be on the next connection, oldest first.
    unanswered: VecDeque<Vec<Job>>,
    /// When the ledger last answered, or when waiting for it began.
    progress: Instant,
    failures: u32,
}

impl Worker {
    async fn run(mut self) {
        loop {
            if self.unanswered.is_empty() {
                let Some(job) = self.jobs.recv().await else {
                    return;
                };
                self.take(job);
            }
            match self.converse().await {
                Ok(()) => return,
                Err(status) => self.after(&status).await,
            }
        }
    }

    /// One connection: sends and settles until all is done, or until it breaks.
    async fn converse(&mut self) -> Result<(), Status> {
        // As many batches as events may be under way, so that handing one over never waits.
        let (requests, outgoing) = mpsc::channel(self.in_flight);
        for batch in &self.unanswered {
            hand_over(&requests, batch)?;
        }
        let each = self.client.retry.each;
        let opening = wire::both_stream(
            &self.client.carrier,
            wire::EMIT_STREAM,
            ReceiverStream::new(outgoing),
        );
        let mut answers = timeout(each, opening)
            .await
            .unwrap_or_else(|_| Err(slow(each)))?;
        // What this connection owes; `progress` goes on counting over broken ones.
        let (mut heard, mut more) = (Instant::now(), true);
        while more || !self.unanswered.is_empty() {
            tokio::select! {
                job = self.jobs.recv(), if more => match job {
                    None => more = false,
                    Some(job) => {
                        if self.unanswered.is_empty() {
                            heard = Instant::now();
                        }
                        hand_over(&requests, self.take(job))?;
                    }
                },
                answer = timeout_at(heard + each, next(&mut answers)), if !self.unanswered.is_empty() => {
                    self.settle(answer.unwrap_or_else(|_| Err(slow(each)))?);
                    heard = Instant::now();
                }
            }
        }
        Ok(())
    }

    /// Puts a job, and whatever else waits already, into one batch.
    fn take(&mut self, job: Job) -> &[Job] {
        if self.unanswered.is_empty() {
            self.progress = Instant::now();
        }
        let (mut bytes, mut batch) = (job.bytes.len(), vec![job]);
        while batch.len() < BATCH_EVENTS_MAX
            && bytes + EVENT_BYTES_MAX <= BATCH_BYTES_MAX
            && let Ok(job) = self.jobs.try_recv()
        {
            bytes += job.bytes.len();
            batch.push(job);
        }
        self.unanswered.push_back(batch);
        self.unanswered.back().map_or(&[], Vec::as_slice)
    }

    /// Gives the oldest batch its answer.
    fn settle(&mut self, answer: pb::EmitStreamResponse) {
        (self.progress, self.failures) = (Instant::now(), 0);
        let Some(batch) = self.unanswered.pop_front() else {
            return;
        };
        match results(answer.results, batch.len()) {
            Ok(results) => {
                for (job, result) in batch.into_iter().zip(results) {
                    // Whoever sent it may have stopped waiting.
                    let _ = job
                        .reply
                        .send(result.map_err(|refusal| Error::Refused(Box::new(refusal))));
                }
            }
            Err(error) => give_up(batch, &error),
        }
    }

    /// After a broken connection: waits for the next try, or gives up what is under way.
    async fn after(&mut self, status: &Status) {
        self.failures += 1;
        let error = match judge(status) {
            Verdict::Final(Error::NotAllowed { .. }) if self.client.carrier.renew() => return,
            Verdict::Final(error) => error,
            Verdict::Again(asked) => {
                let pause = self.client.retry.pause(self.failures, asked, random());
                let waited = self.progress.elapsed();
                if waited.saturating_add(pause) < self.patience {
                    return sleep(pause).await;
                }
                Error::Unavailable {
                    tries: self.failures,
                    waited,
                    last: shown(status),
                }
            }
        };
        self.failures = 0;
        self.unanswered
            .drain(..)
            .for_each(|batch| give_up(batch, &error));
    }
}

fn hand_over(requests: &mpsc::Sender<raw::EmitStreamRequest>, batch: &[Job]) -> Result<(), Status> {
    let events = batch.iter().map(|job| job.bytes.clone()).collect();
    requests
        .try_send(raw::EmitStreamRequest { events })
        .map_err(|_| Status::unavailable("the connection is closed"))
}

async fn next(
    answers: &mut Streaming<pb::EmitStreamResponse>,
) -> Result<pb::EmitStreamResponse, Status> {
    let ended = || Status::unavailable("the ledger ended the stream");
    answers.message().await?.ok_or_else(ended)
}

fn give_up(batch: Vec<Job>, error: &Error) {
    for job in batch {
        let _ = job.reply.send(Err(error.clone()));
    }
}
