//! Writing JSON: fields in their order, map entries by key, so that the same bytes give the same text.
//!
//! prost-reflect's own writer takes map entries from a hash map and fails on a time that it cannot spell.
use std::fmt::Write;

use base64::{Engine, engine::general_purpose::STANDARD};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage, Value};
use prost_types::{Duration, Timestamp};

/// Seconds that RFC 3339 can spell: years 1 to 9999.
const TIMESTAMP_SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
/// Seconds of a duration in proto3 JSON: 10,000 years either way.
const DURATION_SECONDS: std::ops::RangeInclusive<i64> = -315_576_000_000..=315_576_000_000;

/// Writes a message as proto3 JSON, without the fields that this version does not know.
pub(super) fn message(message: &DynamicMessage, out: &mut String) {
    match message.descriptor().full_name() {
        "google.protobuf.Timestamp" => timestamp(message, out),
        "google.protobuf.Duration" => duration(message, out),
        name if name.starts_with("google.protobuf.") => {
            // `Any`, `Struct`, wrappers: no message of ours holds one, but details of errors do.
            out.push_str(
                &serde_json::to_value(message)
                    .unwrap_or_default()
                    .to_string(),
            );
        }
        _ => object(message, out),
    }
}

fn object(message: &DynamicMessage, out: &mut String) {
    out.push('{');
    for (index, (field, value)) in message.fields().enumerate() {
        separate(index, out);
        text(field.json_name(), out);
        out.push(':');
        member(&field, value, out);
    }
    out.push('}');
}

fn member(field: &FieldDescriptor, held: &Value, out: &mut String) {
    match held {
        Value::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                separate(index, out);
                value(&field.kind(), item, out);
            }
            out.push(']');
        }
        Value::Map(entries) => {
            let Kind::Message(entry) = field.kind() else {
                return;
            };
            let kind = entry.map_entry_value_field().kind();
            let mut entries: Vec<_> = entries
                .iter()
                .map(|(key, value)| (key_text(key), value))
                .collect();
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            out.push('{');
            for (index, (key, entry)) in entries.into_iter().enumerate() {
                separate(index, out);
                text(&key, out);
                out.push(':');
                value(&kind, entry, out);
            }
            out.push('}');
        }
        single => value(&field.kind(), single, out),
    }
}

fn value(kind: &Kind, value: &Value, out: &mut String) {
    match value {
        Value::Bool(v) => out.push_str(if *v { "true" } else { "false" }),
        Value::I32(v) => put(v, out),
        Value::U32(v) => put(v, out),
        Value::I64(v) => put(format_args!("\"{v}\""), out),
        Value::U64(v) => put(format_args!("\"{v}\""), out),
        Value::F32(v) => float(f64::from(*v), serde_json::to_string(v), out),
        Value::F64(v) => float(*v, serde_json::to_string(v), out),
        Value::String(v) => text(v, out),
        Value::Bytes(v) => text(&STANDARD.encode(v), out),
        Value::EnumNumber(number) => enum_value(kind, *number, out),
        Value::Message(inner) => message(inner, out),
        Value::List(_) | Value::Map(_) => out.push_str("null"),
    }
}

fn enum_value(kind: &Kind, number: i32, out: &mut String) {
    match kind.as_enum().and_then(|words| words.get_value(number)) {
        Some(word) => text(word.name(), out),
        None => put(number, out),
    }
}

fn float(value: f64, finite: serde_json::Result<String>, out: &mut String) {
    match finite {
        Ok(spelled) if value.is_finite() => out.push_str(&spelled),
        _ if value.is_nan() => out.push_str("\"NaN\""),
        _ if value > 0.0 => out.push_str("\"Infinity\""),
        _ => out.push_str("\"-Infinity\""),
    }
}

fn timestamp(message: &DynamicMessage, out: &mut String) {
    let (seconds, nanos) = seconds_and_nanos(message);
    if TIMESTAMP_SECONDS.contains(&seconds) && (0..1_000_000_000).contains(&nanos) {
        put(format_args!("\"{}\"", Timestamp { seconds, nanos }), out);
    } else {
        object(message, out);
    }
}

fn duration(message: &DynamicMessage, out: &mut String) {
    let (seconds, nanos) = seconds_and_nanos(message);
    if DURATION_SECONDS.contains(&seconds) && (-999_999_999..1_000_000_000).contains(&nanos) {
        put(format_args!("\"{}\"", Duration { seconds, nanos }), out);
    } else {
        object(message, out);
    }
}

fn seconds_and_nanos(message: &DynamicMessage) -> (i64, i32) {
    let seconds = message
        .get_field_by_number(1)
        .and_then(|value| value.as_i64());
    let nanos = message
        .get_field_by_number(2)
        .and_then(|value| value.as_i32());
    (seconds.unwrap_or_default(), nanos.unwrap_or_default())
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(v) => v.to_string(),
        MapKey::I32(v) => v.to_string(),
        MapKey::I64(v) => v.to_string(),
        MapKey::U32(v) => v.to_string(),
        MapKey::U64(v) => v.to_string(),
        MapKey::String(v) => v.clone(),
    }
}

fn text(text: &str, out: &mut String) {
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

fn put(value: impl std::fmt::Display, out: &mut String) {
    write!(out, "{value}").expect("a String takes all");
}

fn separate(index: usize, out: &mut String) {
    if index > 0 {
        out.push(',');
    }
}
