//! `proto/README.md` says what the code does: every kind, every required field, every golden vector.
use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage, Value,
};
use sha2::{Digest, Sha256};
use waybill_core::{
    Code, Payload,
    refusal::{SHOWN_CHARS_MAX, is_unsafe_in_text},
};
use waybill_proto::{
    canonical::{VERSION, canonical, content_digest},
    json::{event_from_json, event_to_json, pool},
    kinds::KINDS,
    message::message_id,
    parse::parse,
    subject::events_subject,
};

const README: &str = include_str!("../../../../proto/README.md");

/// The lines of all fenced blocks of a language.
pub(crate) fn blocks(language: &str) -> impl Iterator<Item = String> {
    let fence = format!("```{language}\n");
    README
        .match_indices(&fence)
        .map(|(start, fence)| {
            README[start + fence.len()..]
                .split("\n```")
                .next()
                .unwrap()
                .to_owned()
        })
        .collect::<Vec<_>>()
        .into_iter()
}

/// Every example of the catalogue with an envelope around it, as bytes.
pub(crate) fn examples() -> Vec<Vec<u8>> {
    let lines: Vec<String> = blocks("jsonl")
        .flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    lines
        .iter()
        .map(|payload| {
            let envelope = r#"{"source": "//ci.acme.dev/checkout", "id": "e-1", "occurTime": "2026-11-03T09:00:00Z", "#;
            event_from_json(format!("{envelope}{}", &payload[1..])).unwrap_or_else(|refusal| panic!("{payload}\n{refusal}"))
        })
        .collect()
}

fn kind_of(example: &[u8]) -> String {
    parse(example)
        .unwrap_or_else(|refusal| panic!("{}\n{refusal}", event_to_json(example)))
        .kind
        .to_string()
}

#[test]
fn every_kind_has_a_row_and_an_example_that_is_accepted() {
    let shown: BTreeSet<String> = examples().iter().map(|example| kind_of(example)).collect();
    let known: BTreeSet<String> = KINDS.iter().map(ToString::to_string).collect();
    assert_eq!(shown, known);
    for kind in KINDS {
        assert_eq!(
            README.matches(&format!("| `{kind}` |")).count(),
            1,
            "{kind} has one row"
        );
    }
    for block in blocks("json") {
        kind_of(&event_from_json(block).unwrap());
    }
}

/// Experimental is a family of which no view gets anything but bytes.
#[test]
fn a_family_is_experimental_in_both_places_or_in_none() {
    let parsed: Vec<_> = examples()
        .iter()
        .map(|bytes| parse(bytes).unwrap())
        .collect();
    let read: BTreeSet<&str> = parsed
        .iter()
        .filter(|event| event.payload != Payload::Other)
        .map(|event| event.kind.family())
        .collect();
    let event = pool().get_message_by_name("waybill.v1.Event").unwrap();
    for field in event
        .fields()
        .filter(|field| field.containing_oneof().is_some())
    {
        let Kind::Message(family) = field.kind() else {
            panic!("a family is a message")
        };
        let name = field.name().trim_end_matches("_event");
        let heading = README
            .lines()
            .find(|line| line.starts_with(&format!("### `{name}`")));
        let said = heading
            .unwrap_or_else(|| panic!("{name} has a heading"))
            .ends_with("(experimental)");
        assert_eq!(
            said,
            comment(family.parent_file().file_descriptor_proto(), family.path())
                .contains("Experimental."),
            "{name}"
        );
        assert_eq!(said, !read.contains(name), "{name}");
    }
}

/// The comment above the thing at a path of a file.
fn comment(file: &prost_types::FileDescriptorProto, path: &[i32]) -> String {
    let locations = &file.source_code_info.as_ref().unwrap().location;
    let at = locations.iter().find(|location| location.path == path);
    at.map(|location| location.leading_comments().to_owned())
        .unwrap_or_default()
}

/// What a field's comment promises.
#[derive(PartialEq)]
enum Promise {
    Required,
    /// Its own fields, or some condition, decide.
    Sometimes,
    Optional,
}

fn promise(field: &FieldDescriptor) -> Promise {
    let comment = comment(field.parent_file().file_descriptor_proto(), field.path());
    if comment.contains("Required.") {
        Promise::Required
    } else if comment.to_lowercase().contains("required")
        || field.containing_oneof().is_some_and(|o| !o.is_synthetic())
    {
        Promise::Sometimes
    } else {
        Promise::Optional
    }
}

/// Calls `visit` on every message of ours within the payload, with its path, and on a fresh copy of the event.
fn each_message(event: &DynamicMessage, visit: &mut dyn FnMut(&[Step], &DynamicMessage)) {
    let payload = event
        .fields()
        .find(|(field, _)| field.containing_oneof().is_some());
    let (field, Value::Message(family)) = payload.expect("an example has a payload") else {
        panic!("a message")
    };
    let (predicate, Value::Message(message)) = family.fields().next().unwrap() else {
        panic!("a message")
    };
    walk(
        message,
        &mut vec![(field.number(), None), (predicate.number(), None)],
        visit,
    );
}

/// One step of a path: a field, and an item where it is a list.
type Step = (u32, Option<usize>);

fn walk(
    message: &DynamicMessage,
    path: &mut Vec<Step>,
    visit: &mut dyn FnMut(&[Step], &DynamicMessage),
) {
    visit(path, message);
    for (field, value) in message.fields() {
        let items: Vec<(Option<usize>, &DynamicMessage)> = match value {
            Value::Message(inner) => vec![(None, inner)],
            Value::List(items) => items
                .iter()
                .enumerate()
                .filter_map(|(i, v)| Some((Some(i), v.as_message()?)))
                .collect(),
            _ => vec![],
        };
        for (index, inner) in items {
            if inner.descriptor().full_name().starts_with("waybill.v1.") {
                path.push((field.number(), index));
                walk(inner, path, visit);
                path.pop();
            }
        }
    }
}

/// The message at a path, to be changed.
fn at<'m>(message: &'m mut DynamicMessage, path: &[Step]) -> &'m mut DynamicMessage {
    let Some(((number, index), rest)) = path.split_first() else {
        return message;
    };
    let value = message.get_field_by_number_mut(*number).unwrap();
    let value = match index {
        Some(index) => &mut value.as_list_mut().unwrap()[*index],
        None => value,
    };
    at(value.as_message_mut().unwrap(), rest)
}

fn event_descriptor() -> MessageDescriptor {
    pool().get_message_by_name("waybill.v1.Event").unwrap()
}

/// Changes one field of one message of an example, and parses.
fn changed(
    event: &DynamicMessage,
    path: &[Step],
    change: impl FnOnce(&mut DynamicMessage),
) -> Result<waybill_core::Event, waybill_core::Refusal> {
    let mut event = event.clone();
    change(at(&mut event, path));
    parse(&event.encode_to_vec())
}

#[test]
fn a_field_is_required_exactly_where_its_comment_says_so() {
    let mut checked = BTreeMap::new();
    for example in examples() {
        let event = DynamicMessage::decode(event_descriptor(), &*example).unwrap();
        each_message(&event, &mut |path, message| {
            for field in message.descriptor().fields() {
                let promise = promise(&field);
                if promise == Promise::Required {
                    assert!(
                        message.has_field(&field),
                        "{} in {}",
                        field.full_name(),
                        event_to_json(&example)
                    );
                }
                let without = changed(&event, path, |message| message.clear_field(&field));
                let missing = matches!(&without, Err(refusal) if refusal.code == Code::Missing);
                match promise {
                    Promise::Required => assert!(
                        missing,
                        "{} is not required: {without:?}",
                        field.full_name()
                    ),
                    Promise::Optional => {
                        assert!(!missing, "{} is required: {without:?}", field.full_name())
                    }
                    Promise::Sometimes => continue,
                }
                checked.insert(field.full_name().to_owned(), ());
            }
        });
    }
    assert!(
        checked.len() > 500,
        "only {} fields were seen",
        checked.len()
    );
}

#[test]
fn the_required_column_names_what_the_comments_name() {
    for example in examples() {
        let kind = kind_of(&example);
        let row = README
            .lines()
            .find(|line| line.starts_with(&format!("| `{kind}` |")))
            .unwrap();
        let event = DynamicMessage::decode(event_descriptor(), &*example).unwrap();
        each_message(&event, &mut |path, message| {
            let names: Vec<String> = names(&event, &path[2..], path);
            for field in message
                .descriptor()
                .fields()
                .filter(|field| promise(field) == Promise::Required)
            {
                let inner = matches!(field.kind(), Kind::Message(inner) if inner.full_name().starts_with("waybill."));
                let in_list = path[2..].iter().any(|(_, index)| index.is_some());
                let optional_parent = names.is_empty() != (path.len() == 2);
                if inner || in_list || optional_parent {
                    continue;
                }
                let full = names
                    .iter()
                    .map(String::as_str)
                    .chain([field.name()])
                    .collect::<Vec<_>>()
                    .join(".");
                assert!(
                    row.contains(&format!("`{full}`")) || path.len() > 3,
                    "{kind}: {full} in {row}"
                );
            }
        });
    }
}

/// The names of the steps from the predicate on, or nothing where one of them is not required itself.
fn names(event: &DynamicMessage, steps: &[Step], path: &[Step]) -> Vec<String> {
    let mut out = Vec::new();
    for depth in 0..steps.len() {
        let mut copy = event.clone();
        let parent = at(&mut copy, &path[..2 + depth]).descriptor();
        let field = parent.get_field(steps[depth].0).unwrap();
        if promise(&field) != Promise::Required {
            return vec![];
        }
        out.push(field.name().to_owned());
    }
    out
}

#[test]
fn no_time_duration_number_or_digest_escapes_its_rule() {
    let mut checked = BTreeSet::new();
    for example in examples() {
        let event = DynamicMessage::decode(event_descriptor(), &*example).unwrap();
        each_message(&event, &mut |path, message| {
            for field in message
                .descriptor()
                .fields()
                .filter(|field| !field.is_list() && !field.is_map())
            {
                let Some(bad) = bad_value(&field) else {
                    continue;
                };
                // A member of a oneof would push its sibling out.
                if field.containing_oneof().is_some_and(|o| !o.is_synthetic())
                    && !message.has_field(&field)
                {
                    continue;
                }
                let refused = changed(&event, path, |message| {
                    message.set_field(&field, bad.clone())
                });
                assert!(
                    refused.is_err(),
                    "{} = {bad:?} is accepted",
                    field.full_name()
                );
                checked.insert(field.full_name().to_owned());
            }
        });
    }
    assert!(
        checked.len() > 60,
        "only {} fields were seen",
        checked.len()
    );
}

/// A value that no field of this type may have.
fn bad_value(field: &FieldDescriptor) -> Option<Value> {
    match field.kind() {
        Kind::Double => Some(Value::F64(f64::NAN)),
        Kind::Bytes if field.name().ends_with("_digest") || field.name().ends_with("_root") => {
            Some(Value::Bytes(vec![1; 31].into()))
        }
        Kind::Message(inner) if matches!(inner.name(), "Timestamp" | "Duration") => {
            let mut value = DynamicMessage::new(inner);
            value.set_field_by_number(1, Value::I64(-1));
            Some(Value::Message(value))
        }
        _ => None,
    }
}

#[test]
fn no_name_escapes_its_rule() {
    // What the page excuses: text for people, and what has a form of somebody else's.
    let excused: Vec<&str> = README
        .lines()
        .filter(|line| line.contains("any text") || line.contains("not looked at"))
        .collect();
    let is_free = |field: &FieldDescriptor| {
        let message = field.parent_message().name().to_owned();
        [
            format!("`{}`", field.name()),
            format!("`{message}.{}`", field.name()),
            format!("`{message}`"),
        ]
        .iter()
        .any(|name| excused.iter().any(|line| line.contains(name)))
    };
    let envelopes = blocks("json").map(|block| event_from_json(block).unwrap());
    let mut checked = BTreeSet::new();
    for example in examples().into_iter().chain(envelopes) {
        let event = DynamicMessage::decode(event_descriptor(), &*example).unwrap();
        walk(&event, &mut vec![], &mut |path, message| {
            for field in message.descriptor().fields() {
                if !matches!(field.kind(), Kind::String) || is_free(&field) {
                    continue;
                }
                for bad in ["a\u{202E}b", "a\0b", &"x".repeat(1_025)] {
                    let text = Value::String(bad.to_owned());
                    let value = if field.is_list() {
                        Value::List(vec![text])
                    } else {
                        text
                    };
                    let refused = changed(&event, path, |message| message.set_field(&field, value));
                    let Err(refusal) = refused else {
                        panic!("{} takes {bad:?}", field.full_name());
                    };
                    let last = refusal.field.rsplit('.').next().unwrap();
                    assert_eq!(
                        last.trim_end_matches("[0]"),
                        field.name(),
                        "{}: {refusal}",
                        field.full_name()
                    );
                    // A character that is escaped takes up to ten.
                    assert!(refusal.value.chars().count() <= SHOWN_CHARS_MAX + 10);
                    assert!(
                        !refusal.value.chars().any(is_unsafe_in_text),
                        "{}",
                        refusal.value
                    );
                }
                checked.insert(field.full_name().to_owned());
            }
        });
    }
    assert!(
        checked.len() > 300,
        "only {} fields were seen",
        checked.len()
    );
}

#[test]
fn golden_vectors_hold() {
    let mut count = 0;
    for vector in blocks("vectors")
        .flat_map(|block| block.split("\n\n").map(str::to_owned).collect::<Vec<_>>())
    {
        let fields: BTreeMap<&str, &str> = vector
            .lines()
            .map(|line| line.split_once(": ").unwrap())
            .collect();
        let bytes = hex::decode(fields["bytes"]).unwrap();
        if let Some(json) = fields.get("json") {
            assert_eq!(event_from_json(json).unwrap(), bytes, "{json}");
        }
        let form = canonical(&bytes, VERSION).unwrap();
        let event = parse(&bytes).unwrap();
        let entities: Vec<String> = event.entities.iter().map(ToString::to_string).collect();
        assert_eq!(hex::encode(&form), fields["canonical"]);
        assert_eq!(
            hex::encode(content_digest(&bytes, VERSION).unwrap()),
            fields["digest"]
        );
        assert_eq!(hex::encode(Sha256::digest(&form)), fields["digest"]);
        assert_eq!(event.kind.to_string(), fields["kind"]);
        assert_eq!(events_subject(&event, "Acme"), fields["subject"]);
        let digest = content_digest(&bytes, VERSION).unwrap();
        assert_eq!(message_id(&event, &digest), fields["message_id"]);
        assert_eq!(
            entities.join(" "),
            fields.get("entities").copied().unwrap_or_default()
        );
        assert_eq!(hex::encode(event.natural_key), fields["natural_key"]);
        assert_eq!(
            key_of_parts(fields["key_parts"]),
            fields["natural_key"],
            "{}",
            fields["kind"]
        );
        count += 1;
    }
    assert!(count >= 5, "{count} vectors");
}

/// The page's own recipe, followed from what the page shows.
fn key_of_parts(parts: &str) -> String {
    let mut hasher = Sha256::new();
    for part in parts.split(' ') {
        let part = match part.strip_prefix("0x") {
            Some(digits) => hex::decode(digits).unwrap(),
            None => part.trim_matches('"').as_bytes().to_vec(),
        };
        hasher.update(u32::try_from(part.len()).unwrap().to_be_bytes());
        hasher.update(part);
    }
    hex::encode(hasher.finalize())
}

#[test]
fn every_field_of_a_payload_is_content() {
    for example in examples() {
        let event = DynamicMessage::decode(event_descriptor(), &*example).unwrap();
        let digest = content_digest(&example, VERSION).unwrap();
        each_message(&event, &mut |path, message| {
            for (field, _) in message.fields() {
                let mut without = event.clone();
                at(&mut without, path).clear_field(&field);
                let other = content_digest(&without.encode_to_vec(), VERSION).unwrap();
                assert_ne!(other, digest, "{}", field.full_name());
            }
        });
    }
}
