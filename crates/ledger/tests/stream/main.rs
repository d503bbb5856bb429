//! A ledger that follows a stream, from outside: real files and threads, a broker that can be made to forget.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod broken;
mod fake;
mod follow;
mod kit;
mod laws;
