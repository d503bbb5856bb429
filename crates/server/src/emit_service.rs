//! The way in: a batch, or a stream of batches.
use std::{
    future::{poll_fn, ready},
    pin::Pin,
    sync::Arc,
    task::Poll,
};

use bytes::Bytes;
use futures_core::Stream;
use futures_util::{StreamExt, future::BoxFuture, stream};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep},
};
use tonic::{Request, Response, Status, Streaming};
use waybill_ledger::{Emitted, Rejection, Sender};
use waybill_proto::{pb, raw, server::emit_service_server::EmitService};

use crate::{
    gate::Caller,
    shared::{Shared, acquire},
    status,
    words::recorded,
};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// `waybill.v1.EmitService`.
pub(crate) struct Emits(pub(crate) Shared);

#[tonic::async_trait]
impl EmitService for Emits {
    async fn emit(
        &self,
        request: Request<raw::EmitRequest>,
    ) -> Result<Response<pb::EmitResponse>, Status> {
        let started = Instant::now();
        let caller = Caller::of(request.extensions());
        let emitted = self
            .0
            .ledger
            .emit(request.into_inner().events, &caller.sender)
            .await;
        let results = told(&self.0, started, emitted)?;
        Ok(Response::new(pb::EmitResponse { results }))
    }

    type EmitStreamStream = Answers<pb::EmitStreamResponse>;

    async fn emit_stream(
        &self,
        request: Request<Streaming<raw::EmitStreamRequest>>,
    ) -> Result<Response<Self::EmitStreamStream>, Status> {
        let open = self.0.emit_streams.clone().try_acquire_owned();
        let open =
            open.map_err(|_| status::too_many("emit streams", self.0.limits.emit_streams))?;
        let caller = Caller::of(request.extensions());
        Ok(Response::new(answers(
            self.0.clone(),
            caller.sender,
            request.into_inner(),
            open,
        )))
    }
}

/// Counts what became of a batch and says it in the words of the wire.
fn told(
    shared: &Shared,
    started: Instant,
    emitted: Result<Vec<Emitted>, Rejection>,
) -> Result<Vec<pb::EmitResult>, Status> {
    let emitted = emitted.map_err(|rejection| status::rejected(&rejection))?;
    shared.metrics.appended(started.elapsed(), &emitted);
    Ok(emitted.iter().map(recorded::emit_result).collect())
}

/// One answer for one request, in order. Several requests are under way at once, so that they share group commits; a
/// client that does not read its answers, or a ledger that is busy, holds back the reading of requests.
fn answers(
    shared: Shared,
    sender: Sender,
    requests: Streaming<raw::EmitStreamRequest>,
    open: OwnedSemaphorePermit,
) -> Answers<pb::EmitStreamResponse> {
    let window = Arc::new(Semaphore::new(shared.limits.stream_bytes));
    let (drain, at_once) = (shared.drain.clone(), shared.limits.stream_requests);
    let answers = requests
        .take_until(drain.wait())
        .then(move |request| start(shared.clone(), sender.clone(), window.clone(), request))
        .map(|started| async move { started?.finish().await })
        .buffered(at_once);
    // Ended by us and not by the client: what was not answered must be sent again.
    let end = stream::once(async move { drain.begun().then(status::draining) });
    let end = end.filter_map(|status| async move { status.map(Err) });
    Box::pin(answers.chain(end).map(move |answer| {
        let _open = &open;
        answer
    }))
}

/// A batch that the ledger has.
struct Started {
    shared: Shared,
    at: Instant,
    emitted: BoxFuture<'static, Result<Vec<Emitted>, Rejection>>,
    _room: OwnedSemaphorePermit,
}

/// Hands one batch to the ledger, before the next is read: positions follow the order of the stream.
async fn start(
    shared: Shared,
    sender: Sender,
    window: Arc<Semaphore>,
    request: Result<raw::EmitStreamRequest, Status>,
) -> Result<Started, Status> {
    let events = request.map_err(status::complete)?.events;
    let size = events
        .iter()
        .map(Bytes::len)
        .sum::<usize>()
        .min(shared.limits.stream_bytes);
    let room = acquire(&window, u32::try_from(size).unwrap_or(u32::MAX)).await?;
    let at = Instant::now();
    loop {
        let (ledger, batch, sender) = (shared.ledger.clone(), events.clone(), sender.clone());
        let mut emitted: BoxFuture<'static, _> =
            Box::pin(async move { ledger.emit(batch, &sender).await });
        // The first poll hands the batch in; whether there is room is known at once.
        let first = poll_fn(|context| Poll::Ready(emitted.as_mut().poll(context))).await;
        let emitted = match first {
            Poll::Ready(Err(Rejection::Busy { .. })) if shared.drain.begun() => {
                return Err(status::draining());
            }
            Poll::Ready(Err(Rejection::Busy { retry_after, .. })) => {
                sleep(retry_after).await;
                continue;
            }
            Poll::Ready(done) => Box::pin(ready(done)),
            Poll::Pending => emitted,
        };
        return Ok(Started {
            shared,
            at,
            emitted,
            _room: room,
        });
    }
}

impl Started {
    async fn finish(self) -> Result<pb::EmitStreamResponse, Status> {
        let results = told(&self.shared, self.at, self.emitted.await)?;
        Ok(pb::EmitStreamResponse { results })
    }
}
