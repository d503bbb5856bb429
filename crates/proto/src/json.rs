//! proto3 JSON both ways, for events and for every other message of the contract.
use std::sync::OnceLock;

use base64::{Engine, engine::general_purpose::STANDARD};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use waybill_core::{Code, Refusal};

use crate::{FILE_DESCRIPTOR_SET, canonical::canonical_message};

mod blame;
mod near;
mod read;
mod write;

/// The full name of the event message.
pub const EVENT: &str = "waybill.v1.Event";

/// Every message of the contract, and the well-known types that it uses.
pub fn pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| {
        DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("the build made these descriptors")
    })
}

/// Encodes an event that is written as proto3 JSON. The same JSON gives the same bytes, always.
///
/// # Errors
/// Refuses what is not JSON, keys that are unknown or doubled, and values of another type, each with its path. The
/// event's own rules are [`crate::parse`]'s.
pub fn event_from_json(json: impl AsRef<[u8]>) -> Result<Vec<u8>, Refusal> {
    message_from_json(EVENT, json.as_ref())
}

/// Writes an encoded event as proto3 JSON, in the order of its fields.
///
/// Enum numbers that this version does not know are written as numbers; fields that it does not know cannot be written
/// and are left out. Bytes that are no event at all become `{"undecodable": "<base64>"}`.
#[must_use]
pub fn event_to_json(event: &[u8]) -> String {
    message_to_json(EVENT, event).unwrap_or_else(|_| undecodable(event))
}

/// Encodes any message of the contract that is written as proto3 JSON.
///
/// # Errors
/// As [`event_from_json`]; and refuses a name that is no message.
pub fn message_from_json(full_name: &str, json: &[u8]) -> Result<Vec<u8>, Refusal> {
    let descriptor = descriptor(full_name)?;
    let message = read::message(&descriptor, json)?;
    canonical_message(&descriptor, &message.encode_to_vec())
}

/// Encodes an event anew, in the order in which [`event_from_json`] writes.
pub(crate) fn in_order(event: &[u8]) -> Result<Vec<u8>, Refusal> {
    canonical_message(&descriptor(EVENT)?, event)
}

/// Writes any encoded message of the contract as proto3 JSON.
///
/// # Errors
/// Refuses bytes that are not such a message, and a name that is no message.
pub fn message_to_json(full_name: &str, bytes: &[u8]) -> Result<String, Refusal> {
    let message = DynamicMessage::decode(descriptor(full_name)?, bytes)
        .map_err(|error| crate::wire::undecodable(&error.to_string()))?;
    Ok(to_json(&message))
}

/// Writes a message of any pool as proto3 JSON: fields in their order, map entries by key.
#[must_use]
pub fn to_json(message: &DynamicMessage) -> String {
    let mut out = String::with_capacity(256);
    write::message(message, &mut out);
    out
}

fn descriptor(full_name: &str) -> Result<MessageDescriptor, Refusal> {
    pool().get_message_by_name(full_name).ok_or_else(|| {
        Refusal::new(
            Code::Malformed,
            "",
            full_name,
            "not a message of this contract",
        )
    })
}

fn undecodable(bytes: &[u8]) -> String {
    format!("{{\"undecodable\":\"{}\"}}", STANDARD.encode(bytes))
}
