//! What a service, a CI job or an internal tool links to emit to a Waybill ledger and to ask it.
//!
//! Emitting: an [`Emitter`] is made once, with the source that it speaks for. A typed builder ([`Deployment`],
//! [`Commit`], …) gives a [`Draft`]; [`Emitter::event`] turns it into an [`Event`], checked by the ledger's own rules, with
//! its id and its bytes fixed, before anything is sent. Every try sends the same bytes, so a repeat is a duplicate and
//! never a second event. Hold an event in an [`outbox::Outbox`] until there is a [`Receipt`]: a receipt, and nothing
//! else, says that it is recorded.
//!
//! Asking: [`Client::reader`] has a method for each question. [`Reader::after`] takes a receipt and makes every answer at
//! that position or later, so that you read what you wrote.
//!
//! ```no_run
//! use std::time::Duration;
//! use waybill_client::{Client, Deployment, Outcome, Trace};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect(waybill_client::DEFAULT_URL)?;
//! let emitter = client.emitter("//ci.example.com/shop");
//!
//! let deployment = Deployment::new("d-881", "checkout", "production")
//!     .revision("github.com/acme/shop", "4f1c2d3e4f1c2d3e4f1c2d3e4f1c2d3e4f1c2d3e");
//! let event = emitter.event(deployment.finished(Outcome::Success))?;
//! let receipt = emitter.emit(&event, Duration::from_secs(10)).await?;
//!
//! let reader = client.reader().after(&receipt);
//! let answer = reader.trace(Trace::of("d-881")).await?;
//! println!("{} nodes at position {}", answer.nodes.len(), receipt.position);
//! # Ok(())
//! # }
//! ```
//!
//! Refuses to know: how a ledger works inside. Needs a tokio runtime. Speaks gRPC over TLS 1.3
//! (`https://`), or plain (`http://`) on a network that you trust; [`Connect`] takes a [`Token`], which goes over TLS or
//! to this machine only.
//!
//! Reading order: [`connect`], [`token`] and [`client`], [`event`] and its families, [`id`], [`actor`], [`emitter`], [`stream`], [`retry`] and
//! [`error`], [`outbox`], [`ask`].

pub mod actor;
pub mod ask;
mod carrier;
pub mod client;
pub mod connect;
pub mod emitter;
pub mod error;
pub mod event;
pub mod id;
pub mod outbox;
pub mod retry;
pub mod stream;
mod tls;
pub mod token;
mod wire;

pub use ask::{Delivery, List, Reader, Tail, Trace};
pub use carrier::Carrier;
pub use client::{Client, DEFAULT_URL};
pub use connect::{Connect, ConnectError};
pub use emitter::Emitter;
pub use error::{Error, Refusal};
pub use event::{
    Build, Change, Commit, Deployment, Draft, Event, Flag, Incident, MetricDefinition, MetricWindow,
};
pub use id::Id;
pub use retry::Retry;
pub use tls::TrustError;
pub use token::{Token, TokenError};
/// The messages of the contract, for whatever has no word of its own here.
pub use waybill_proto::pb;
pub use waybill_proto::pb::{
    DeploymentOperation, DeploymentStrategy, FlagChangeType, MergeMethod, Outcome, Receipt,
    ReviewVerdict, RunRef,
};
