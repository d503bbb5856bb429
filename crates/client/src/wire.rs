//! Calls whose messages carry events as the bytes that they are (LEDGER E3), which generated clients would take apart
//! and put together again.
use std::time::Duration;

use prost::Message;
use tokio_stream::Stream;
use tonic::{Request, Status, Streaming, client::Grpc, codegen::http::uri::PathAndQuery};
use tonic_prost::ProstCodec;

use crate::carrier::Carrier;

pub(crate) const EMIT: &str = "/waybill.v1.EmitService/Emit";
pub(crate) const EMIT_STREAM: &str = "/waybill.v1.EmitService/EmitStream";
pub(crate) const GET_EVENT: &str = "/waybill.v1.LedgerService/GetEvent";
pub(crate) const LIST_EVENTS: &str = "/waybill.v1.LedgerService/ListEvents";
pub(crate) const TAIL_EVENTS: &str = "/waybill.v1.LedgerService/TailEvents";

/// The largest answer that is read: a page of 1,000 events of 256 KiB, and a little more.
pub(crate) const ANSWER_BYTES_MAX: usize = 260 * 1024 * 1024;

/// One question, one answer.
pub(crate) async fn unary<Q, A>(
    carrier: &Carrier,
    path: &'static str,
    question: Q,
    limit: Duration,
) -> Result<A, Status>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    let mut grpc = ready(carrier).await?;
    let request = within(question, limit);
    let path = PathAndQuery::from_static(path);
    let answer = grpc
        .unary(request, path, ProstCodec::<Q, A>::default())
        .await?;
    Ok(answer.into_inner())
}

/// One question, many answers, for as long as both sides like.
pub(crate) async fn server_stream<Q, A>(
    carrier: &Carrier,
    path: &'static str,
    question: Q,
) -> Result<Streaming<A>, Status>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    let mut grpc = ready(carrier).await?;
    let path = PathAndQuery::from_static(path);
    let codec = ProstCodec::<Q, A>::default();
    Ok(grpc
        .server_streaming(Request::new(question), path, codec)
        .await?
        .into_inner())
}

/// Many questions, many answers.
pub(crate) async fn both_stream<Q, A>(
    carrier: &Carrier,
    path: &'static str,
    questions: impl Stream<Item = Q> + Send + 'static,
) -> Result<Streaming<A>, Status>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    let mut grpc = ready(carrier).await?;
    let path = PathAndQuery::from_static(path);
    let codec = ProstCodec::<Q, A>::default();
    Ok(grpc
        .streaming(Request::new(questions), path, codec)
        .await?
        .into_inner())
}

/// A request that tells the ledger how long its answer is waited for.
pub(crate) fn within<Q>(question: Q, limit: Duration) -> Request<Q> {
    let mut request = Request::new(question);
    request.set_timeout(limit);
    request
}

async fn ready(carrier: &Carrier) -> Result<Grpc<Carrier>, Status> {
    let mut grpc = Grpc::new(carrier.clone()).max_decoding_message_size(ANSWER_BYTES_MAX);
    grpc.ready()
        .await
        .map_err(|error| Status::from_error(error.into()))?;
    Ok(grpc)
}
