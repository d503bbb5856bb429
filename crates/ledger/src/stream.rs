//! The jetstream sequencer: positions come from a stream that this ledger follows (LEDGER Q2 to Q6).
mod broker;

pub use broker::{
    Acknowledged, Broker, BrokerFault, Feed, Headers, Message, Outgoing, StreamState,
};
