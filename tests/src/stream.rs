//! A ledger that follows a stream of a real broker: its processes, its emitters, and the ways in which a broker forgets.
//!
//! Reading order: [`bed`] (broker and ledger), [`emitters`] (direct and over gRPC, each with an outbox), [`watch`] (what the
//! ledger says meanwhile), [`kills`], [`forgetting`] (what may happen to a broker's disk), [`forge`] (a history that was changed),
//! [`replica`] (and that its replica notices).

pub mod bed;
pub mod emitters;
pub mod forge;
pub mod forgetting;
pub mod kills;
pub mod replica;
pub mod watch;
