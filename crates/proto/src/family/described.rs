//! Families that no view reads yet: checked by the table's row and by rules that follow from a field's type and name.
//!
//! The rules by name are part of the contract: `proto/README.md`, "Rules that follow from a field's name". Such a
//! family leaves for a file of its own on the day a view reads it.
use std::borrow::Cow;

use prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage, Value};
use prost_types::{Duration, Timestamp};
use waybill_core::{EntityKind, Refusal, Time, event::Payload};

use super::{
    About,
    table::{self, Moment, Row, Subject},
};
use crate::{field, json::pool, natural_key::Key, pb, wire};

/// Texts for people. Every other text is a name: at most 256 bytes, no control or bidirectional characters.
const FREE_TEXT: &[&str] = &[
    "because",
    "comment",
    "description",
    "document",
    "error_text",
    "reason",
    "reasons",
    "statement",
    "summary",
    "title",
];
/// Texts that may be as long as a path.
const REFERENCES: &[&str] = &[
    "path", "paths", "pattern", "uri", "case_id", "suite_id", "name",
];

/// Checks the payload of a family that has a row; none where its predicate is unknown.
pub(crate) fn read(
    message: &impl Message,
    family: &str,
    about: &mut About,
) -> Result<Option<Payload>, Refusal> {
    let Some(row) = table::row(family) else {
        return Ok(None);
    };
    let payload = reflect(&message_name(family), message)?;
    let Some((predicate, Value::Message(event))) = payload.fields().next() else {
        return Ok(None);
    };
    let at = Place {
        event,
        part: row.family,
    };
    for path in row.required {
        if let Some(missing) = at.absent(path) {
            return Err(field::missing(&missing));
        }
    }
    window(event)?;
    subject(row, &at, about)?;
    fields(event, about)?;
    key(row, predicate.name(), &at, about)?;
    Ok(Some(Payload::Other))
}

/// The name of a family's message: `waybill.v1.TestSuiteRunEvent`.
fn message_name(family: &str) -> String {
    let capitalised = |word: &str| word[..1].to_uppercase() + &word[1..];
    format!(
        "waybill.v1.{}Event",
        family.split('_').map(capitalised).collect::<String>()
    )
}

fn reflect(name: &str, message: &impl Message) -> Result<DynamicMessage, Refusal> {
    let descriptor = pool()
        .get_message_by_name(name)
        .expect("every family has a message");
    DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
        .map_err(|error| wire::undecodable(&error.to_string()))
}

/// A predicate's message, in which paths are looked up.
struct Place<'m> {
    event: &'m DynamicMessage,
    part: &'m str,
}

/// Where a path leads.
enum Found<'m> {
    /// The message has no such field.
    Nowhere,
    /// A field that is not set, by its path.
    Unset(String),
    Value(Cow<'m, Value>),
}

impl<'m> Place<'m> {
    /// The path of the first required value under `path` that is absent.
    fn absent(&self, path: &str) -> Option<String> {
        match self.find(path) {
            Found::Unset(path) => Some(path),
            Found::Nowhere | Found::Value(_) => None,
        }
    }

    fn find(&self, path: &str) -> Found<'m> {
        match within(self.event, path) {
            Found::Nowhere => match self.event.get_field_by_name(self.part).as_deref() {
                Some(Value::Message(part)) => within(part, path).under(self.part).owned(),
                _ => Found::Nowhere,
            },
            found => found,
        }
    }

    /// The value of a part of the key: a text where the path leads nowhere.
    fn text(&self, path: &str) -> String {
        match self.find(path) {
            Found::Value(value) => value.as_str().unwrap_or_default().to_owned(),
            Found::Nowhere | Found::Unset(_) => String::new(),
        }
    }
}

impl<'m> Found<'m> {
    fn under(self, parent: &str) -> Self {
        match self {
            Found::Unset(path) => Found::Unset(format!("{parent}.{path}")),
            found => found,
        }
    }

    fn owned<'o>(self) -> Found<'o> {
        match self {
            Found::Nowhere => Found::Nowhere,
            Found::Unset(path) => Found::Unset(path),
            Found::Value(value) => Found::Value(Cow::Owned(value.into_owned())),
        }
    }
}

/// Follows a path. A list on the way is walked item by item, and the first unset value in it is found.
fn within<'m>(message: &'m DynamicMessage, path: &str) -> Found<'m> {
    let (name, rest) = path
        .split_once('.')
        .map_or((path, None), |(name, rest)| (name, Some(rest)));
    let Some(field) = message.descriptor().get_field_by_name(name) else {
        return Found::Nowhere;
    };
    let value = message.get_field(&field);
    match (rest, &*value) {
        (None, _) if message.has_field(&field) => Found::Value(value),
        (None, _) => Found::Unset(name.to_owned()),
        (Some(rest), Value::List(items)) => items
            .iter()
            .enumerate()
            .filter_map(|(index, item)| Some((index, item.as_message()?)))
            .find_map(|(index, item)| match within(item, rest) {
                Found::Unset(path) => Some(Found::Unset(format!("{name}[{index}].{path}"))),
                Found::Nowhere | Found::Value(_) => None,
            })
            .unwrap_or(Found::Nowhere),
        (Some(rest), Value::Message(inner)) => within(inner, rest).under(name).owned(),
        (Some(_), _) => Found::Nowhere,
    }
}

/// A window's end lies after its start, wherever a message has both.
fn window(event: &DynamicMessage) -> Result<(), Refusal> {
    let moment = |name| match event.get_field_by_name(name).as_deref() {
        Some(Value::Message(value)) if event.has_field_by_name(name) => time(value, name).map(Some),
        _ => Ok(None),
    };
    match (moment("start_time")?, moment("end_time")?) {
        (Some(start), Some(end)) => field::ordered(start, end),
        _ => Ok(()),
    }
}

fn subject(row: &Row, at: &Place<'_>, about: &mut About) -> Result<(), Refusal> {
    match row.subject {
        Subject::Fields => Ok(()),
        Subject::Named(kind, path) => about.entities.named_if_any(kind, &at.text(path), path),
        Subject::Other(path) => match at.text(path).as_str() {
            "" => Ok(()),
            name => about.entities.other(row.family, name, path),
        },
    }
}

/// Checks every field by its type and name, and adds the entities that it names.
fn fields(message: &DynamicMessage, about: &mut About) -> Result<(), Refusal> {
    revisions(message, about)?;
    for (field, value) in message.fields() {
        match value {
            Value::List(items) => {
                field::each(items, field.name(), |item| {
                    one(&field, item, message, about)
                })?;
            }
            Value::Map(entries) => {
                entries
                    .keys()
                    .try_for_each(|key| map_key(key, field.name()))?;
            }
            single => {
                one(&field, single, message, about)
                    .map_err(|refusal| refusal.within(field.name()))?;
            }
        }
    }
    Ok(())
}

fn map_key(key: &MapKey, field: &str) -> Result<(), Refusal> {
    key.as_str()
        .map_or(Ok(()), |key| field::name(key, field).map(|_| ()))
}

/// A repository beside a revision or a change names more than itself.
fn revisions(message: &DynamicMessage, about: &mut About) -> Result<(), Refusal> {
    let text = |name| {
        let value = message.get_field_by_name(name);
        value
            .as_deref()
            .and_then(Value::as_str)
            .map(str::to_owned)
            .unwrap_or_default()
    };
    let repository = text("repository");
    if repository.is_empty() {
        return Ok(());
    }
    let repository = about.repository(&repository)?;
    for (kind, field) in [
        (EntityKind::Commit, "revision"),
        (EntityKind::Change, "change"),
    ] {
        let id = text(field);
        if !id.is_empty() {
            about
                .entities
                .of_repository(kind, &repository, &id, field)?;
        }
    }
    about.entities.add(repository);
    Ok(())
}

fn one(
    field: &FieldDescriptor,
    value: &Value,
    parent: &DynamicMessage,
    about: &mut About,
) -> Result<(), Refusal> {
    match value {
        Value::String(text) => name(field.name(), text, parent, about),
        Value::Bytes(bytes) if field.name().ends_with("_digest") => field::digest_if_any(bytes, ""),
        Value::F64(number) => double(field.name(), *number),
        Value::Message(inner) => nested(&field.kind(), inner, about),
        _ => Ok(()),
    }
}

fn double(name: &str, value: f64) -> Result<(), Refusal> {
    let checked = match name {
        "burn_rate" => field::not_negative(value, ""),
        name if name.ends_with("_ratio") || name == "ratio" => field::ratio(value, ""),
        _ => field::finite(value, ""),
    };
    checked.map(|_| ())
}

fn nested(kind: &Kind, message: &DynamicMessage, about: &mut About) -> Result<(), Refusal> {
    let Kind::Message(descriptor) = kind else {
        return Ok(());
    };
    match descriptor.full_name() {
        "google.protobuf.Timestamp" => time(message, "").map(|_| ()),
        "google.protobuf.Duration" => field::duration(Some(&typed::<Duration>(message)?), ""),
        "waybill.v1.Revision" => about
            .entities
            .revision(&typed::<pb::Revision>(message)?)
            .map(|_| ()),
        "waybill.v1.ArtifactRef" => {
            let artifact = field::artifact_ref(&typed(message)?)?;
            about.entities.artifact(&artifact, "")
        }
        "waybill.v1.EventRef" => {
            super::ledger::identity(&typed::<pb::EventRef>(message)?).map(|_| ())
        }
        "waybill.v1.RunRef" => run(message, about),
        "waybill.v1.Intent" => intent(&typed(message)?),
        _ => fields(message, about),
    }
}

fn run(message: &DynamicMessage, about: &mut About) -> Result<(), Refusal> {
    let run: pb::RunRef = typed(message)?;
    let run = field::run(Some(&run)).map_err(|refusal| Refusal {
        field: refusal.field.replacen("run.", "", 1),
        ..refusal
    })?;
    if run.provider.is_empty() || run.run_id.is_empty() {
        return Ok(());
    }
    about
        .entities
        .within(EntityKind::Run, run.provider, run.run_id, "run_id")
}

/// An intended effect: its ratio is a change, which may be more than 1.
pub(crate) fn intent(intent: &pb::Intent) -> Result<(), Refusal> {
    field::name(&intent.metric, "metric")?;
    field::not_negative(intent.ratio, "ratio")?;
    field::reference_if_any(&intent.ticket_uri, "ticket_uri")?;
    field::time_if_any(intent.due_time.as_ref(), "due_time").map(|_| ())
}

/// Checks a text by its field's name, and adds the entity that it names.
fn name(name: &str, text: &str, parent: &DynamicMessage, about: &mut About) -> Result<(), Refusal> {
    let last = name.rsplit('_').next().unwrap_or(name);
    match name {
        "repository" => return Ok(()),
        "revision" => return field::revision(text, "").map(|_| ()),
        "metric" => return metric(text, parent, about),
        _ if FREE_TEXT.contains(&name) => return Ok(()),
        _ if name.ends_with("_entity") => {
            about.entities.add(field::entity(text, "")?);
            return Ok(());
        }
        _ if last == "uri" || REFERENCES.contains(&name) => field::reference(text, "")?,
        _ => field::name(text, "")?,
    };
    match (name, last) {
        ("ticket_uri", _) => about.entities.named(EntityKind::Ticket, text, ""),
        (_, "service" | "services") => about.entities.named(EntityKind::Service, text, ""),
        (_, "environment" | "environments") => {
            about.entities.named(EntityKind::Environment, text, "")
        }
        (_, "team" | "teams") => about.entities.named(EntityKind::Team, text, ""),
        ("slo" | "journey" | "organisation", _) => about.entities.other(name, text, ""),
        ("policy_id", _) => about.entities.other("policy", text, ""),
        ("review_id", _) => about.entities.other("review", text, ""),
        ("finding_id" | "finding_ids", _) => about.entities.other("finding", text, ""),
        _ => Ok(()),
    }
}

/// A metric belongs to the service beside it, where there is one.
fn metric(text: &str, parent: &DynamicMessage, about: &mut About) -> Result<(), Refusal> {
    let metric = field::name(text, "")?;
    match parent
        .get_field_by_name("service")
        .as_deref()
        .and_then(Value::as_str)
    {
        Some(service) if !service.is_empty() => {
            about
                .entities
                .within(EntityKind::Metric, service, metric, "")
        }
        _ => about.entities.named(EntityKind::Metric, metric, ""),
    }
}

fn key(row: &Row, predicate: &str, at: &Place<'_>, about: &mut About) -> Result<(), Refusal> {
    let occur_time = about.occur_time;
    let key = about.key();
    for path in row.key {
        part(path, at.find(path), key)?;
    }
    match row.moment {
        Moment::Never => {}
        Moment::Except(once) | Moment::Field(_, once) if once.contains(&predicate) => {}
        Moment::Except(_) => {
            key.moment(occur_time);
        }
        Moment::Field(path, _) => {
            let named = match at.find(path) {
                Found::Value(value) => value
                    .as_message()
                    .map(|message| time(message, path))
                    .transpose()?,
                Found::Nowhere | Found::Unset(_) => None,
            };
            key.moment(named.or(occur_time));
        }
    }
    Ok(())
}

/// Adds one part. What a message does not have is no part; what is not set is an empty one, but the first attempt.
fn part(path: &str, found: Found<'_>, key: &mut Key) -> Result<(), Refusal> {
    match found {
        Found::Nowhere => {}
        Found::Unset(_) if path == "run.attempt" => {
            key.number(1);
        }
        Found::Unset(_) => {
            key.text("");
        }
        Found::Value(value) => match &*value {
            Value::String(text) if path == "repository" => {
                key.text(crate::entities::repository(text)?.as_str());
            }
            Value::String(text) => {
                key.text(text);
            }
            Value::Bytes(bytes) => {
                key.bytes(bytes);
            }
            Value::U32(number) => {
                key.number(u64::from(*number));
            }
            Value::EnumNumber(number) => {
                key.number(u64::from(number.unsigned_abs()));
            }
            Value::Message(message) => {
                key.moment(Some(time(message, path)?));
            }
            _ => {}
        },
    }
    Ok(())
}

fn time(message: &DynamicMessage, field: &str) -> Result<Time, Refusal> {
    field::time(Some(&typed::<Timestamp>(message)?), field)
}

/// One of our generated messages with the same content.
fn typed<M: Message + Default>(message: &DynamicMessage) -> Result<M, Refusal> {
    message
        .transcode_to()
        .map_err(|error| wire::undecodable(&error.to_string()))
}
