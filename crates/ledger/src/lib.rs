//! The engine: admit, append, fold, answer. A [`Ledger`] is a handle that can be cloned; behind it stand five threads.
//!
//! Refuses to know: gRPC, HTTP, files, the terminal. Time and randomness come in through [`Host`]. Reading order:
//! [`words`] (what goes in and comes out), `admit` (the verdict, pure), `leaf` (leaf and index keys, pure), `open` and
//! `launch` (start-up), `writer` (journal first), `applier` (sled), `folder` and `view_checkpoint` (views), `keeper` (small things once a
//! second), `scrubber`, [`ledger`] (the handle), `read`, `prove` and `ask` (what it answers), [`stream`] (positions that a broker's stream
//! gives), [`verify`], [`carry`] and [`loss`] (offline).

mod admit;
mod applier;
mod ask;
pub mod carry;
mod folder;
mod keeper;
mod launch;
mod leaf;
pub mod ledger;
mod limits;
pub mod loss;
mod open;
mod own_event;
mod prove;
mod read;
mod recent;
mod scrubber;
mod sender;
mod shared;
mod status;
pub mod stream;
pub mod verify;
mod view_checkpoint;
pub mod words;
mod writer;

pub use admit::RULES_VERSION;
pub use ledger::Ledger;
pub use sender::{Scope, Sender, SourcePattern};
pub use waybill_store::{
    Damage, Fault, Hash, Record, Verdict,
    database::{ProbeCommand, probe_main},
    place::is_ledger,
    side_log::Entry as RefusalEntry,
};
pub use words::{
    AsOf, AtLeast, Basis, Checkpoint, Config, Consistency, Emitted, Entry, Filter, Finding, Heads,
    Host, Inclusion, Key, Leaves, Page, Progress, Proven, ReadFailure, ReadOptions, Receipt,
    Refused, Rejection, Severity, State, Status,
};
