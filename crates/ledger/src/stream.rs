//! The jetstream sequencer: positions come from a stream that this ledger follows (LEDGER Q2 to Q6).
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
