//! The contract of Waybill in Rust: generated messages, and the conversions between wire words and our words.
//!
//! Refuses to know: sockets, time, disks. Reading order: [`pb`] (generated), [`raw`] (the same messages with event
//! bytes left alone), [`server`] (generated traits over `raw`) and [`methods`] (their list); then [`parse`] (bytes to a [`waybill_core::Event`] or a
//! refusal) with [`limits`], [`kinds`] and [`natural_key`]; then [`canonical`] (the form that is hashed) and [`json`].

pub mod canonical;
mod entities;
mod family;
mod field;
pub mod json;
pub mod kinds;
pub mod limits;
pub mod methods;
pub mod natural_key;
pub mod parse;
pub mod raw;
mod wire;

/// Generated messages and clients of `proto/waybill/v1`.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    rustdoc::all,
    reason = "generated; the words are in the proto files"
)]
pub mod pb {
    include!(concat!(env!("OUT_DIR"), "/messages/waybill.v1.rs"));
}

/// Generated server traits, whose messages carry events as raw bytes.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    rustdoc::all,
    reason = "generated; the words are in the proto files"
)]
pub mod server {
    include!(concat!(env!("OUT_DIR"), "/servers/waybill.v1.rs"));
}

/// The encoded `FileDescriptorSet` of the whole contract, for reflection and JSON.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/waybill.bin"));
