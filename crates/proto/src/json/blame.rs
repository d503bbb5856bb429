//! Finds the value that a message's JSON was refused for, and says what its field needs.
use prost_reflect::{Cardinality, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};
use serde::de::IntoDeserializer;
use serde_json::Value;
use waybill_core::{Code, Refusal};

use super::read::{find, is_well_known};

/// Names the first value of `json` that does not fit `descriptor`; none where it is not a value's fault.
pub(super) fn value(descriptor: &MessageDescriptor, json: &[u8]) -> Option<Refusal> {
    message(descriptor, &serde_json::from_slice(json).ok()?)
}

fn message(descriptor: &MessageDescriptor, json: &Value) -> Option<Refusal> {
    let Some(object) = json.as_object() else {
        return Some(Refusal::new(
            Code::Malformed,
            "",
            shown(json),
            format!("not a {}", descriptor.full_name()),
        ));
    };
    object.iter().find_map(|(key, value)| {
        let field = find(descriptor, key)?;
        if fits(descriptor, key, value) {
            return None;
        }
        Some(member(descriptor, key, &field, value).within(field.name()))
    })
}

fn member(
    descriptor: &MessageDescriptor,
    key: &str,
    field: &FieldDescriptor,
    value: &Value,
) -> Refusal {
    if field.is_map() {
        return entry(descriptor, key, field, value);
    }
    if field.cardinality() == Cardinality::Repeated {
        let Some(items) = value.as_array() else {
            return refusal(value, "not a list (`[…]`)");
        };
        let single = |item: &Value| fits(descriptor, key, &Value::Array(vec![item.clone()]));
        let Some((index, item)) = items.iter().enumerate().find(|(_, item)| !single(item)) else {
            return refusal(value, "not a list of the field's type");
        };
        let inner = one(&field.kind(), item);
        let path = if inner.field.is_empty() {
            format!("[{index}]")
        } else {
            format!("[{index}].{}", inner.field)
        };
        return Refusal {
            field: path,
            ..inner
        };
    }
    one(&field.kind(), value)
}

fn entry(
    descriptor: &MessageDescriptor,
    key: &str,
    field: &FieldDescriptor,
    value: &Value,
) -> Refusal {
    let (Some(entries), Kind::Message(entry)) = (value.as_object(), field.kind()) else {
        return refusal(value, "not a map (`{…}`)");
    };
    let single = |name: &str, value: &Value| {
        fits(
            descriptor,
            key,
            &Value::Object([(name.to_owned(), value.clone())].into_iter().collect()),
        )
    };
    match entries.iter().find(|(name, value)| !single(name, value)) {
        Some((name, value)) => one(&entry.map_entry_value_field().kind(), value).within(name),
        None => refusal(value, "not a map of the field's types"),
    }
}

fn one(kind: &Kind, value: &Value) -> Refusal {
    match kind {
        Kind::Message(inner) if !is_well_known(inner) => message(inner, value)
            .unwrap_or_else(|| refusal(value, "fields that exclude each other are both given")),
        kind => refusal(value, &needs(kind)),
    }
}

/// Whether the one member alone makes a readable message.
fn fits(descriptor: &MessageDescriptor, key: &str, value: &Value) -> bool {
    let alone = Value::Object([(key.to_owned(), value.clone())].into_iter().collect());
    DynamicMessage::deserialize(
        descriptor.clone(),
        IntoDeserializer::into_deserializer(alone),
    )
    .is_ok()
}

fn needs(kind: &Kind) -> String {
    match kind {
        Kind::Double | Kind::Float => "not a number".into(),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => "not a whole number of 32 bits".into(),
        Kind::Uint32 | Kind::Fixed32 => "not a whole number of 0 to 4294967295".into(),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => "not a whole number of 64 bits".into(),
        Kind::Uint64 | Kind::Fixed64 => "not a whole number of 0 to 18446744073709551615".into(),
        Kind::Bool => "neither `true` nor `false`".into(),
        Kind::String => "not a text".into(),
        Kind::Bytes => "not base64".into(),
        Kind::Enum(words) => {
            let words: Vec<String> = words
                .values()
                .map(|word| format!("`{}`", word.name()))
                .collect();
            format!("none of {}, nor a number", words.join(", "))
        }
        Kind::Message(inner) => match inner.full_name() {
            "google.protobuf.Timestamp" => {
                "not a time (RFC 3339, as `2026-11-03T09:00:00Z`)".into()
            }
            "google.protobuf.Duration" => "not a duration (seconds, as `3.5s`)".into(),
            name => format!("not a {name}"),
        },
    }
}

fn refusal(value: &Value, rule: &str) -> Refusal {
    Refusal::new(Code::Malformed, "", shown(value), rule)
}

fn shown(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}
