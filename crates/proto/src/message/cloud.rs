//! CloudEvents 1.0 in binary mode: attributes in headers beside an event.
use prost::Message;
use prost_types::Timestamp;
use serde_json::json;
use waybill_core::{Code, Event, Refusal, refusal::shown};

use super::Headers;
use crate::{
    json::event_from_json,
    kinds, pb, percent,
    wire::{Fields, Value, undecodable},
};

pub(super) const SPECVERSION: &str = "ce-specversion";
pub(super) const ID: &str = "ce-id";
pub(super) const SOURCE: &str = "ce-source";
pub(super) const TYPE: &str = "ce-type";
pub(super) const TIME: &str = "ce-time";

/// The version of CloudEvents whose headers are read.
const SPECVERSION_READ: &str = "1.0";

/// What an encoded event leaves out and its headers say, encoded; empty where nothing is to be filled in.
///
/// # Errors
/// Refuses headers that cannot be read, and such as contradict what the event says.
pub(super) fn missing(headers: Headers<'_>, event: &[u8]) -> Result<Vec<u8>, Refusal> {
    check_specversion(headers)?;
    let (source, id) = (attribute(headers, SOURCE)?, attribute(headers, ID)?);
    let time = time(headers)?;
    if source.is_none() && id.is_none() && time.is_none() {
        return Ok(Vec::new());
    }
    let said = Said::read(event)?;
    let missing = pb::Event {
        source: missing_text("source", said.source, SOURCE, source)?,
        id: missing_text("id", said.id, ID, id)?,
        occur_time: missing_time(said.occur_time, time)?,
        ..pb::Event::default()
    };
    Ok(missing.encode_to_vec())
}

/// Checks that a type of ours names the event's kind. Types of others are theirs.
///
/// # Errors
/// [`Code::Contradiction`], naming the header.
pub(super) fn check_type(headers: Headers<'_>, event: &Event) -> Result<(), Refusal> {
    let Some(name) = attribute(headers, TYPE)? else {
        return Ok(());
    };
    let is_ours = name.starts_with(kinds::TYPE_PREFIX);
    if !is_ours || kinds::kind_of_type(&name) == event.kind.0 {
        return Ok(());
    }
    let rule = format!(
        "not the type of the event, `{}`",
        kinds::type_of(&event.kind.0)
    );
    Err(Refusal::new(Code::Contradiction, TYPE, name, rule))
}

fn check_specversion(headers: Headers<'_>) -> Result<(), Refusal> {
    match attribute(headers, SPECVERSION)? {
        Some(version) if version != SPECVERSION_READ => {
            let rule = format!("not the version of CloudEvents that is read, {SPECVERSION_READ}");
            Err(Refusal::new(Code::Malformed, SPECVERSION, version, rule))
        }
        _ => Ok(()),
    }
}

fn time(headers: Headers<'_>) -> Result<Option<Timestamp>, Refusal> {
    let Some(text) = attribute(headers, TIME)? else {
        return Ok(None);
    };
    // Read exactly as a time in JSON is.
    let event = event_from_json(json!({ "occurTime": text }).to_string()).ok();
    let event = event.and_then(|event| pb::Event::decode(&*event).ok());
    match event.and_then(|event| event.occur_time) {
        Some(time) => Ok(Some(time)),
        None => Err(Refusal::new(
            Code::Malformed,
            TIME,
            text,
            "not a time as RFC 3339 has it",
        )),
    }
}

/// What an encoded event says of what headers may say too.
#[derive(Default)]
struct Said<'b> {
    source: &'b [u8],
    id: &'b [u8],
    occur_time: Option<Timestamp>,
}

impl<'b> Said<'b> {
    fn read(event: &'b [u8]) -> Result<Self, Refusal> {
        let mut said = Self::default();
        for field in Fields::new(event) {
            let field = field?;
            match (field.number, field.value) {
                (1, Value::Bytes(source)) => said.source = source,
                (2, Value::Bytes(id)) => said.id = id,
                (4, Value::Bytes(time)) => said
                    .occur_time
                    .get_or_insert_default()
                    .merge(time)
                    .map_err(|error| undecodable(&error.to_string()))?,
                _ => {}
            }
        }
        Ok(said)
    }
}

fn missing_text(
    field: &str,
    said: &[u8],
    header: &str,
    value: Option<String>,
) -> Result<String, Refusal> {
    match value {
        Some(value) if said.is_empty() => Ok(value),
        Some(value) if said != value.as_bytes() => Err(contradiction(
            field,
            &String::from_utf8_lossy(said),
            header,
            &value,
        )),
        _ => Ok(String::new()),
    }
}

fn missing_time(
    said: Option<Timestamp>,
    value: Option<Timestamp>,
) -> Result<Option<Timestamp>, Refusal> {
    match (said, value) {
        (Some(said), Some(value)) if said != value => Err(contradiction(
            "occur_time",
            &said.to_string(),
            TIME,
            &value.to_string(),
        )),
        (Some(_), _) => Ok(None),
        (None, value) => Ok(value),
    }
}

fn contradiction(field: &str, said: &str, header: &str, value: &str) -> Refusal {
    let rule = format!("not what the header {header} says, `{}`", shown(value));
    Refusal::new(Code::Contradiction, field, said, rule)
        .with_hint("leave one of them out; the header fills in what the event leaves out")
}

/// The text of an attribute: quotes taken off, as older senders put them, then percent-decoded once.
fn attribute(headers: Headers<'_>, name: &str) -> Result<Option<String>, Refusal> {
    let Some(value) = headers.one(name)? else {
        return Ok(None);
    };
    let text = match value.strip_prefix('"') {
        Some(rest) => unquoted(rest).and_then(|text| percent::decoded(&text)),
        None => percent::decoded(value),
    };
    text.map(Some).ok_or_else(|| {
        let rule = "not percent-encoded UTF-8, as the NATS binding of CloudEvents has it";
        Refusal::new(Code::Malformed, name, value, rule)
    })
}

/// What stands before the closing quote, which must be the end; a backslash takes the next character as it is.
fn unquoted(rest: &str) -> Option<String> {
    let mut text = String::with_capacity(rest.len());
    let mut chars = rest.chars();
    loop {
        match chars.next()? {
            '"' => return chars.next().is_none().then_some(text),
            '\\' => text.push(chars.next()?),
            c => text.push(c),
        }
    }
}
