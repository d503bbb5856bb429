//! The server as its callers see it: a real port, a real ledger in a directory of its own.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod door;
mod drain;
mod emit;
mod hostile;
mod json;
mod kit;
mod limits;
mod logs;
mod plain;
mod probes;
mod questions;
mod reads;
mod reflection;
mod roles;
mod tail;
mod tls;
mod wire;
