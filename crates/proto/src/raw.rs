//! Messages that are wire-identical to those of [`crate::pb`] but keep events as the bytes that came (LEDGER E3).
use bytes::Bytes;

use crate::pb;

/// `waybill.v1.EmitRequest` with events as bytes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EmitRequest {
    /// Each one an encoded `Event`.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub events: Vec<Bytes>,
}

/// `waybill.v1.EmitStreamRequest` with events as bytes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EmitStreamRequest {
    /// Each one an encoded `Event`.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub events: Vec<Bytes>,
}

/// `waybill.v1.RecordedEvent` with the event as bytes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RecordedEvent {
    /// Contiguous from 1.
    #[prost(uint64, tag = "1")]
    pub position: u64,
    /// When the ledger recorded it.
    #[prost(message, optional, tag = "2")]
    pub record_time: Option<prost_types::Timestamp>,
    /// Which stretch of history it belongs to.
    #[prost(uint32, tag = "3")]
    pub epoch: u32,
    /// Zero for the local sequencer.
    #[prost(uint64, tag = "4")]
    pub stream_sequence: u64,
    /// `<family>.<predicate>`.
    #[prost(string, tag = "5")]
    pub kind: String,
    /// Hash of the leaf.
    #[prost(bytes = "bytes", tag = "6")]
    pub leaf_hash: Bytes,
    /// Empty where the leaf is not salted.
    #[prost(bytes = "bytes", tag = "7")]
    pub salt: Bytes,
    /// Who sent it, as verified.
    #[prost(string, tag = "8")]
    pub sender: String,
    /// What makes it the same fact as another event.
    #[prost(bytes = "bytes", tag = "9")]
    pub natural_key: Bytes,
    /// Entity names that the event is about.
    #[prost(string, repeated, tag = "10")]
    pub entities: Vec<String>,
    /// What admission said of it.
    #[prost(enumeration = "pb::LeafVerdict", tag = "11")]
    pub verdict: i32,
    /// Subject of the message; empty for the local sequencer.
    #[prost(string, tag = "12")]
    pub subject: String,
    /// Why it is no fact.
    #[prost(message, optional, tag = "13")]
    pub refusal: Option<pb::Refusal>,
    /// The message's bytes, where no event can be read from them.
    #[prost(bytes = "bytes", tag = "14")]
    pub undecodable_bytes: Bytes,
    /// The bytes that came.
    #[prost(bytes = "bytes", tag = "15")]
    pub event: Bytes,
}

/// `waybill.v1.GetEventResponse` over [`RecordedEvent`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct GetEventResponse {
    /// The event.
    #[prost(message, optional, tag = "1")]
    pub event: Option<RecordedEvent>,
    /// Position up to which this read looked.
    #[prost(uint64, tag = "2")]
    pub applied_position: u64,
}

/// `waybill.v1.ListEventsResponse` over [`RecordedEvent`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct ListEventsResponse {
    /// The page.
    #[prost(message, repeated, tag = "1")]
    pub events: Vec<RecordedEvent>,
    /// Empty on the last page.
    #[prost(string, tag = "2")]
    pub next_page_token: String,
    /// Position that all pages of this list are read at.
    #[prost(uint64, tag = "3")]
    pub applied_position: u64,
}

/// `waybill.v1.TailEventsResponse` over [`RecordedEvent`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct TailEventsResponse {
    /// One message of the stream.
    #[prost(oneof = "TailMessage", tags = "1, 2, 3")]
    pub message: Option<TailMessage>,
}

/// What a tail says.
#[allow(
    clippy::large_enum_variant,
    reason = "nearly all of them are events, and each lives for one send"
)]
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum TailMessage {
    /// An event.
    #[prost(message, tag = "1")]
    Event(RecordedEvent),
    /// Everything recorded so far has been sent.
    #[prost(message, tag = "2")]
    CaughtUp(pb::CaughtUp),
    /// Nothing new; still here.
    #[prost(message, tag = "3")]
    Heartbeat(pb::Heartbeat),
}
