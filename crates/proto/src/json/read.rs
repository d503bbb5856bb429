//! Reading JSON: keys are checked first, because the reader of values neither names paths nor sees doubled keys.
use std::{borrow::Cow, cell::RefCell, collections::HashSet, fmt};

use prost_reflect::{DeserializeOptions, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use waybill_core::{Code, Refusal};

use super::{blame, near};

/// Reads one message; nothing may follow it.
pub(super) fn message(
    descriptor: &MessageDescriptor,
    json: &[u8],
) -> Result<DynamicMessage, Refusal> {
    check_keys(descriptor, json)?;
    let mut reader = serde_json::Deserializer::from_slice(json);
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    DynamicMessage::deserialize_with_options(descriptor.clone(), &mut reader, &options)
        .map_err(|error| blame::value(descriptor, json).unwrap_or_else(|| not_json(&error)))
}

/// Refuses keys that are unknown or doubled, under any of a field's two spellings, and what is not JSON at all.
fn check_keys(descriptor: &MessageDescriptor, json: &[u8]) -> Result<(), Refusal> {
    let found = RefCell::new(None);
    let root = Check {
        shape: shape_of(descriptor),
        path: &Path::Root,
        found: &found,
    };
    let mut reader = serde_json::Deserializer::from_slice(json);
    root.deserialize(&mut reader)
        .and_then(|()| reader.end())
        .map_err(|error| found.into_inner().unwrap_or_else(|| not_json(&error)))
}

fn not_json(error: &serde_json::Error) -> Refusal {
    Refusal::new(Code::Undecodable, "", "", error.to_string()).with_hint("send proto3 JSON")
}

/// What an object at some place may hold.
#[derive(Clone)]
enum Shape {
    /// The fields of a message.
    Message(MessageDescriptor),
    /// Any keys, whose values all have one shape.
    Entries(Box<Shape>),
    /// Anything; keys must only not be doubled.
    Free,
}

/// Where a value stands, told by its ancestors; written out only when something is refused.
enum Path<'p> {
    Root,
    Key(&'p Path<'p>, &'p str),
    Index(&'p Path<'p>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Key(Path::Root, key) => f.write_str(key),
            Path::Key(parent, key) => write!(f, "{parent}.{key}"),
            Path::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

struct Check<'c> {
    shape: Shape,
    path: &'c Path<'c>,
    found: &'c RefCell<Option<Refusal>>,
}

impl Check<'_> {
    /// Keeps the refusal for the caller; serde carries text only.
    fn refuse<E: Error>(&self, refusal: Refusal) -> E {
        let error = E::custom(&refusal.rule);
        self.found.replace(Some(refusal));
        error
    }

    fn unknown(&self, key: &str, descriptor: &MessageDescriptor) -> Refusal {
        let path = Path::Key(self.path, key).to_string();
        let rule = format!("not a field of {}", descriptor.full_name());
        let names: Vec<String> = descriptor
            .fields()
            .map(|field| field.json_name().to_owned())
            .collect();
        let hint = near::nearest(key, &names).map(|name| format!("did you mean `{name}`?"));
        Refusal::new(Code::Malformed, path, key, rule).with_hint(hint.unwrap_or_default())
    }

    fn doubled(&self, key: &str) -> Refusal {
        let path = Path::Key(self.path, key).to_string();
        Refusal::new(Code::Contradiction, path, key, "given twice")
            .with_hint("give each field once")
    }
}

impl<'de> DeserializeSeed<'de> for Check<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Check<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut numbers: Vec<u32> = Vec::new();
        let mut keys: HashSet<String> = HashSet::new();
        while let Some(Key(key)) = map.next_key()? {
            let (name, shape, new) = match &self.shape {
                Shape::Message(descriptor) => {
                    let field = find(descriptor, &key)
                        .ok_or_else(|| self.refuse(self.unknown(&key, descriptor)))?;
                    let new = !numbers.contains(&field.number());
                    numbers.push(field.number());
                    (
                        Cow::Owned(field.name().to_owned()),
                        member_shape(&field),
                        new,
                    )
                }
                Shape::Entries(shape) => (
                    Cow::Borrowed(&*key),
                    (**shape).clone(),
                    keys.insert(key.to_string()),
                ),
                Shape::Free => (
                    Cow::Borrowed(&*key),
                    Shape::Free,
                    keys.insert(key.to_string()),
                ),
            };
            if !new {
                return Err(self.refuse(self.doubled(&name)));
            }
            map.next_value_seed(Check {
                shape,
                path: &Path::Key(self.path, &name),
                found: self.found,
            })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut index = 0;
        loop {
            let path = Path::Index(self.path, index);
            let item = Check {
                shape: self.shape.clone(),
                path: &path,
                found: self.found,
            };
            if seq.next_element_seed(item)?.is_none() {
                return Ok(());
            }
            index += 1;
        }
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// A key, borrowed from the text where it holds no escapes.
struct Key<'de>(Cow<'de, str>);

impl<'de> serde::Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Finds a field by either of its spellings, `occurTime` or `occur_time`.
pub(super) fn find(descriptor: &MessageDescriptor, key: &str) -> Option<FieldDescriptor> {
    descriptor
        .get_field_by_json_name(key)
        .or_else(|| descriptor.get_field_by_name(key))
}

/// True for messages that are not written as an object of their fields.
pub(super) fn is_well_known(descriptor: &MessageDescriptor) -> bool {
    descriptor.full_name().starts_with("google.protobuf.")
}

fn shape_of(descriptor: &MessageDescriptor) -> Shape {
    if is_well_known(descriptor) {
        Shape::Free
    } else {
        Shape::Message(descriptor.clone())
    }
}

fn member_shape(field: &FieldDescriptor) -> Shape {
    match field.kind() {
        Kind::Message(entry) if field.is_map() => {
            Shape::Entries(Box::new(member_shape(&entry.map_entry_value_field())))
        }
        Kind::Message(inner) => shape_of(&inner),
        _ => Shape::Free,
    }
}
