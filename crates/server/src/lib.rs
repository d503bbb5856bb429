//! gRPC, JSON and HTTP on one port, over a [`waybill_ledger::Ledger`].
//!
//! Refuses to know: files, the store, the clock of events. A handler converts at the door, asks the ledger, and
//! answers; it decides nothing. Reading order: [`settings`] (address and limits), [`mod@serve`] (the port, and its end) with
//! `wire` and [`tls`], [`access`] (what is served to whom), `gate` (who calls) with [`tokens`], `call` (around every call)
//! with `unread`, `json_door` and `json_emit` (the same in JSON), the services `emit_service`,
//! `ledger_service` with `tail`, and `questions` with `zone`, `words` (wire words and ours), [`status`] (what goes wrong), and
//! `pages`, `health` and `metrics` (written by `exposition`) for those who watch.

pub mod access;
mod call;
mod contract;
mod drain;
mod emit_service;
mod exposition;
mod gate;
mod health;
mod json_door;
mod json_emit;
mod ledger_service;
mod metrics;
mod operate_service;
mod page_token;
mod pages;
mod questions;
pub mod serve;
pub mod settings;
mod shared;
pub mod status;
mod tail;
pub mod tls;
pub mod tokens;
mod unread;
mod wire;
mod words;
mod zone;

pub use serve::{Error, serve};
pub use settings::{Door, Exposed, Limits, Settings, check_listen};
