//! Facts, and one question a file: pure.
//!
//! Refuses to know: clocks, disks, sockets, protobuf, randomness. What an answer says depends on the events of a prefix
//! of the ledger and on the question, and on nothing else: not on the order in which events arrived, not on the
//! machine. Reading order: [`facts`] (what is known), [`reading`] (with whose eyes), then the questions [`trace`] and
//! [`delivery`]; [`assumed`] is the fold for histories that were imported later.

pub mod facts;
pub mod reading;

mod known;
mod name;

pub mod assumed;
pub mod delivery;
pub mod trace;

pub use facts::Facts;
pub use reading::{EventRef, Knowledge, NoValue, Problem, Reading};
