//! The broker as the ledger needs it. Whoever implements this does the I/O; what is believed of it is decided here.
use std::fmt;

use bytes::Bytes;
use futures_core::future::BoxFuture;
use tokio::sync::mpsc;
use waybill_core::Time;

/// One message of a stream, exactly as the broker keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its place in the stream, from 1.
    pub sequence: u64,
    /// When the broker stored it: the same on every replica.
    pub time: Time,
    /// The subject that it was published to.
    pub subject: String,
    /// All its headers, in any order.
    pub headers: Headers,
    /// The body.
    pub payload: Bytes,
}

/// A message's headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Headers {
    /// Names and values as they came, without surrounding white space. A name may come several times.
    Read(Vec<(String, String)>),
    /// The block is not NATS/1.0 text; why.
    Unreadable(String),
}

/// Where a stream stands, as the broker says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamState {
    /// The stream's name.
    pub name: String,
    /// First sequence that is still there; last + 1 where there is none.
    pub first_sequence: u64,
    /// Last sequence that was ever given.
    pub last_sequence: u64,
}

/// What is to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Where to.
    pub subject: String,
    /// With which headers; `Nats-Msg-Id` is among them where there is one.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub payload: Bytes,
}

/// The broker stored it, or had stored it before. No receipt: a broker may forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// Its place in the stream.
    pub sequence: u64,
    /// The same `Nats-Msg-Id` was there before, at that place.
    pub duplicate: bool,
}

/// The broker did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokerFault {
    /// It cannot be reached, or did not answer in time. Whether a publish was stored is unknown.
    #[error("the broker cannot be reached: {0}")]
    Away(String),
    /// It answered no; again will not help before somebody has changed something.
    #[error("the broker refused: {0}")]
    Refused(String),
}

/// How good a keeper the broker is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fitness {
    /// How often it syncs, for people: `before each acknowledgement`, a length of time, or unknown and why.
    pub sync: String,
    /// True only where it is known to sync before it acknowledges.
    pub durable: bool,
    /// What is not as it should be with the stream's configuration: field, value and what is needed, and the command that
    /// mends it.
    pub unfit: Vec<(String, String)>,
}

/// The broker's side of one stream.
pub trait Broker: Send + Sync + fmt::Debug + 'static {
    /// Where the stream stands now; as one that never had a message where there is no such stream (any more).
    fn state(&self) -> BoxFuture<'_, Result<StreamState, BrokerFault>>;

    /// Makes the stream where there is none any more, and finds it fit.
    fn ensure(&self) -> BoxFuture<'_, Result<(), BrokerFault>>;

    /// The message at a sequence; nothing where there is none (any more, or yet).
    fn message(&self, sequence: u64) -> BoxFuture<'_, Result<Option<Message>, BrokerFault>>;

    /// The first message at or behind a sequence whose subject matches a NATS subject filter.
    fn first_match<'a>(
        &'a self,
        filter: &'a str,
        from_sequence: u64,
    ) -> BoxFuture<'a, Result<Option<Message>, BrokerFault>>;

    /// Publishes one message and waits until the broker has stored it.
    fn publish(&self, message: Outgoing) -> BoxFuture<'_, Result<Acknowledged, BrokerFault>>;

    /// How durable the broker is, and what is not as it should be with the stream's configuration.
    fn fitness(&self) -> BoxFuture<'_, Result<Fitness, BrokerFault>>;

    /// Tells other replicas something, beside the stream. Nobody need hear it.
    fn announce(&self, subject: String, text: String) -> BoxFuture<'_, Result<(), BrokerFault>>;

    /// What is announced on subjects that match a filter from now on; ends with the connection.
    fn announcements(
        &self,
        filter: String,
    ) -> BoxFuture<'_, Result<mpsc::Receiver<Bytes>, BrokerFault>>;

    /// Begins to read behind a sequence (0: from the start). What an earlier feed had not acknowledged may come again.
    fn feed(&self, after_sequence: u64) -> BoxFuture<'_, Result<Box<dyn Feed>, BrokerFault>>;
}

/// Messages of a stream in order, as far as the broker keeps its word: the ledger checks each sequence itself.
///
/// A feed ends with a fault when the connection breaks, also where the client connects again by itself: the broker may have
/// forgotten meanwhile, and the ledger compares before it takes in anything more.
pub trait Feed: Send {
    /// The next messages, at least one; waits for them. A fault ends the feed. Loses nothing when it is dropped while it waits.
    fn next(&mut self) -> BoxFuture<'_, Result<Vec<Message>, BrokerFault>>;

    /// Says that everything up to a sequence is recorded durably. A lost acknowledgement does no harm.
    fn acknowledge(&mut self, sequence: u64) -> BoxFuture<'_, Result<(), BrokerFault>>;
}
