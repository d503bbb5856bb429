//! The jetstream sequencer: positions come from a stream that this ledger follows (LEDGER Q2 to Q6).
//!
//! Of the broker this asks only what [`Broker`] says, and believes nothing: what it sends is compared with what is recorded.
//! Reading order: `broker` (what is asked), `arrival` (a message and what it means), `epoch` (sequences and positions), `standing` (what is
//! known of the stream, and how it freezes), `settle` (where to go on, or why not), `follow` and `intake` (messages to the journal),
//! `publish` (what comes in elsewhere goes out), `decide` (what only a person can), `peers` (other replicas).
mod arrival;
mod broker;
mod decide;
mod epoch;
mod follow;
mod intake;
mod later;
mod peers;
mod publish;
mod settle;
mod standing;

pub(crate) use arrival::{of_record, refusal_of};
pub use broker::{
    Acknowledged, Broker, BrokerFault, Feed, Fitness, Headers, Message, Outgoing, StreamState,
};
pub use decide::{Decided, Decision, DecisionFailure};
pub(crate) use epoch::{Line, line_of, stream_of};
pub(crate) use intake::{Opening, Take, leaf_identity};
pub use settle::{Joined, join};
pub(crate) use standing::Side;
pub use standing::{
    COMPARE_EVERY, Condition, Freeze, FreezeKind, Peer, StreamConfig, StreamStatus,
};
