//! The wire to a NATS JetStream broker: how a ledger reads, and publishes to, a stream that is its order.
//!
//! [`connect`] with [`Settings`] gives a [`Stream`], which is a [`waybill_ledger::stream::Broker`]. It creates the stream,
//! or checks an existing one field by field ([`Finding`]), and says how durable the server is ([`Sync`]). Its feed reads
//! every message, also those that the client library cannot: a message whose headers are no text must not stop a ledger.
//!
//! JetStream is spoken in its own JSON over requests, not through the library's types: these lose fields that they do
//! not know, and 2.9 has not all that they require.
//!
//! Refuses to know: what a message means and what of a broker is believed; both are the ledger's.
//! Reading order: [`settings`], `secrets`, `link` (one connection, for ever), `api`, [`config`], [`monitor`], `headers`,
//! `message`, [`stream`], `feed`, [`patient`].

mod api;
pub mod config;
mod feed;
mod headers;
mod link;
mod message;
pub mod monitor;
pub mod patient;
mod secrets;
pub mod settings;
pub mod stream;

pub use config::{Finding, Severity};
pub use monitor::Sync;
pub use patient::Patient;
pub use settings::{Credentials, Settings, Tls};
pub use stream::{Error, Stream, connect};
