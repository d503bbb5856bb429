//! A client that sends and receives bytes, whatever they are.
use bytes::{Buf, BufMut, Bytes};
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tonic::{
    Request, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use crate::kit::{PATIENCE, Served};

/// Calls a unary method with a message that may be anything.
pub(crate) async fn send(
    served: &Served,
    path: &'static str,
    message: Vec<u8>,
) -> Result<Bytes, Status> {
    let mut client = tonic::client::Grpc::new(served.channel.clone());
    client.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static(path);
    let answer = timeout(
        PATIENCE,
        client.unary(Request::new(Bytes::from(message)), path, Plain),
    )
    .await;
    answer
        .expect("an answer in time")
        .map(tonic::Response::into_inner)
}

/// Sends messages that may be anything over `EmitStream`, and gives the answers to its end or first failure.
pub(crate) async fn send_stream(
    served: &Served,
    messages: Vec<Vec<u8>>,
) -> Vec<Result<Bytes, Status>> {
    let mut client = tonic::client::Grpc::new(served.channel.clone());
    client.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/waybill.v1.EmitService/EmitStream");
    let messages = Request::new(tokio_stream::iter(messages.into_iter().map(Bytes::from)));
    let answers = client.streaming(messages, path, Plain).await.unwrap();
    timeout(PATIENCE, answers.into_inner().collect())
        .await
        .expect("the stream ends")
}

/// A codec that sends and receives bytes as they are.
#[derive(Clone, Default)]
pub(crate) struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
