//! Reading JSON: keys are checked first, because the reader of values neither names paths nor sees doubled keys.
use prost_reflect::{DeserializeOptions, DynamicMessage, MessageDescriptor};
use waybill_core::{Code, Refusal};

/// Reads one message; nothing may follow it.
pub(super) fn message(
    descriptor: &MessageDescriptor,
    json: &[u8],
) -> Result<DynamicMessage, Refusal> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let message =
        DynamicMessage::deserialize_with_options(descriptor.clone(), &mut reader, &options);
    message
        .and_then(|message| reader.end().map(|()| message))
        .map_err(|error| Refusal::new(Code::Undecodable, "", "", error.to_string()))
}
