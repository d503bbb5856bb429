//! The canonical form of an event and its digest, by which "the same content" is decided (LEDGER E2).
//!
//! Works on wire bytes and the descriptor, so that what this version does not know stays in. Written down for other
//! languages, with golden vectors, in `proto/README.md`. A version is never edited; a new one gets its own number.
use std::{cmp::Ordering, collections::BTreeMap};

use prost_reflect::{Cardinality, FieldDescriptor, Kind, MessageDescriptor};
use sha2::{Digest, Sha256};
use waybill_core::{Code, Refusal};

use crate::{
    json::pool,
    wire::{self, Field, Fields, Value, fixed, undecodable, varint},
};

/// The version of the canonical form that is in force.
pub const VERSION: u32 = 1;

/// Deepest nesting of messages.
const DEPTH_MAX: usize = 100;

/// Fields of `Event` that are no content: how and when this very message was made and came here.
const NO_CONTENT: [u32; 3] = [PRODUCE_TIME, PROVENANCE, TRACE_CONTEXT];
const OCCUR_TIME: u32 = 4;
const OCCUR_TIME_BASIS: u32 = 5;
const PRODUCE_TIME: u32 = 6;
const PROVENANCE: u32 = 18;
const TRACE_CONTEXT: u32 = 21;
/// DERIVED and DELIVERY: the time is not what the emitter knows, but when it ran.
const TIMELESS_BASES: [&[u8]; 2] = [&[3], &[4]];

/// Gives the canonical form of an encoded `Event`.
///
/// # Errors
/// Refuses bytes that are not an event, and versions that this build does not know.
pub fn canonical(event: &[u8], version: u32) -> Result<Vec<u8>, Refusal> {
    if version != VERSION {
        return Err(unknown_version("the canonical form", version));
    }
    let mut fields = Held::read(&event_descriptor(), event, 0)?;
    for number in NO_CONTENT {
        fields.known.remove(&number);
    }
    if let Some(Slot::Scalar(basis)) = fields.known.get(&OCCUR_TIME_BASIS).map(|known| &known.slot)
        && TIMELESS_BASES.contains(&basis.as_slice())
    {
        fields.known.remove(&OCCUR_TIME);
    }
    fields.write(0)
}

/// Gives the SHA-256 of the canonical form of an encoded `Event`.
///
/// # Errors
/// Refuses what [`canonical`] refuses.
pub fn content_digest(event: &[u8], version: u32) -> Result<[u8; 32], Refusal> {
    Ok(Sha256::digest(canonical(event, version)?).into())
}

/// Gives the canonical encoding of any message, with all its fields.
///
/// # Errors
/// Refuses bytes that are not such a message.
pub(crate) fn canonical_message(
    descriptor: &MessageDescriptor,
    bytes: &[u8],
) -> Result<Vec<u8>, Refusal> {
    Held::read(descriptor, bytes, 0)?.write(0)
}

/// The refusal of a version that is newer than this build, or none at all.
pub(crate) fn unknown_version(what: &str, version: u32) -> Refusal {
    let rule = format!("this build knows version {VERSION} of {what}");
    Refusal::new(Code::NotAllowed, "version", version, rule).with_hint("upgrade waybill")
}

fn event_descriptor() -> MessageDescriptor {
    pool()
        .get_message_by_name("waybill.v1.Event")
        .expect("the contract has an Event")
}

/// A message taken apart: the known fields by number, the rest as sent.
struct Held<'b> {
    known: BTreeMap<u32, Known<'b>>,
    unknown: Vec<Field<'b>>,
}

struct Known<'b> {
    field: FieldDescriptor,
    slot: Slot<'b>,
}

/// What has been seen of one known field.
enum Slot<'b> {
    /// The last value, encoded without its key.
    Scalar(Vec<u8>),
    /// All occurrences, end to end: protobuf merges messages so.
    Message(Vec<u8>),
    /// All values, encoded end to end without keys.
    Packed(Vec<u8>),
    /// Texts or byte strings, in order.
    Texts(Vec<&'b [u8]>),
    /// Messages or map entries, in order.
    Messages(Vec<&'b [u8]>),
}

impl<'b> Held<'b> {
    fn read(
        descriptor: &MessageDescriptor,
        bytes: &'b [u8],
        depth: usize,
    ) -> Result<Self, Refusal> {
        if depth > DEPTH_MAX {
            return Err(undecodable("messages are nested at most 100 deep"));
        }
        let mut held = Self {
            known: BTreeMap::new(),
            unknown: Vec::new(),
        };
        for field in Fields::new(bytes) {
            let field = field?;
            match descriptor.get_field(field.number) {
                Some(known) => held.add(known, field.value)?,
                None => held.unknown.push(field),
            }
        }
        Ok(held)
    }

    fn add(&mut self, field: FieldDescriptor, value: Value<'b>) -> Result<(), Refusal> {
        if let Some(oneof) = field.containing_oneof() {
            for other in oneof
                .fields()
                .filter(|other| other.number() != field.number())
            {
                self.known.remove(&other.number());
            }
        }
        let number = field.number();
        let known = self.known.entry(number).or_insert_with(|| Known {
            slot: Slot::empty(&field),
            field,
        });
        let kind = known.field.kind();
        match (&mut known.slot, value) {
            (Slot::Scalar(last), value) => *last = scalar(&kind, value)?,
            (Slot::Message(all), Value::Bytes(bytes)) => all.extend_from_slice(bytes),
            (Slot::Packed(all), Value::Bytes(bytes)) => unpack(&kind, bytes, all)?,
            (Slot::Packed(all), value) => all.extend(scalar(&kind, value)?),
            (Slot::Texts(all), Value::Bytes(bytes)) => {
                scalar(&kind, value)?;
                all.push(bytes);
            }
            (Slot::Messages(all), Value::Bytes(bytes)) => all.push(bytes),
            (Slot::Message(_) | Slot::Texts(_) | Slot::Messages(_), _) => {
                return Err(wrong_wire_type(&kind));
            }
        }
        Ok(())
    }

    fn write(mut self, depth: usize) -> Result<Vec<u8>, Refusal> {
        let mut out = Vec::new();
        for known in self.known.values() {
            known.write(depth, &mut out)?;
        }
        // Stable: as-sent order within a number.
        self.unknown.sort_by_key(|field| field.number);
        for field in &self.unknown {
            out.extend_from_slice(field.raw);
        }
        Ok(out)
    }
}

impl Slot<'_> {
    fn empty(field: &FieldDescriptor) -> Self {
        let repeated = field.cardinality() == Cardinality::Repeated;
        match (field.kind(), repeated) {
            (Kind::Message(_), false) => Slot::Message(Vec::new()),
            (Kind::Message(_), true) => Slot::Messages(Vec::new()),
            (Kind::String | Kind::Bytes, true) => Slot::Texts(Vec::new()),
            (_, true) => Slot::Packed(Vec::new()),
            (_, false) => Slot::Scalar(Vec::new()),
        }
    }
}

impl Known<'_> {
    fn write(&self, depth: usize, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let number = self.field.number();
        match (&self.slot, self.field.kind()) {
            (Slot::Scalar(value), kind) => {
                if self.field.supports_presence() || !is_default(value) {
                    put_key(number, wire_type(&kind), out);
                    out.extend_from_slice(value);
                }
            }
            (Slot::Packed(values), _) => {
                if !values.is_empty() {
                    put_bytes(number, values, out);
                }
            }
            (Slot::Texts(values), _) => values
                .iter()
                .for_each(|value| put_bytes(number, value, out)),
            (Slot::Message(value), Kind::Message(inner)) => {
                put_bytes(number, &nested(&inner, value, depth)?, out)
            }
            (Slot::Messages(entries), Kind::Message(entry)) if self.field.is_map() => {
                write_map(number, &entry, entries, depth, out)?;
            }
            (Slot::Messages(values), Kind::Message(inner)) => {
                for value in values {
                    put_bytes(number, &nested(&inner, value, depth)?, out);
                }
            }
            (Slot::Message(_) | Slot::Messages(_), kind) => return Err(wrong_wire_type(&kind)),
        }
        Ok(())
    }
}

fn nested(descriptor: &MessageDescriptor, bytes: &[u8], depth: usize) -> Result<Vec<u8>, Refusal> {
    Held::read(descriptor, bytes, depth + 1)?.write(depth + 1)
}

/// Writes map entries by key, the last one of a key only, each with both its fields.
fn write_map(
    number: u32,
    entry: &MessageDescriptor,
    entries: &[&[u8]],
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), Refusal> {
    let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
    let mut by_key: Vec<(Vec<u8>, Vec<u8>)> = Vec::with_capacity(entries.len());
    for bytes in entries {
        let mut held = Held::read(entry, bytes, depth + 1)?;
        for field in [&key, &value] {
            held.known.entry(field.number()).or_insert_with(|| Known {
                field: field.clone(),
                slot: default_of(field),
            });
        }
        let Some(Slot::Scalar(encoded_key)) =
            held.known.get(&key.number()).map(|known| &known.slot)
        else {
            return Err(wrong_wire_type(&key.kind()));
        };
        let encoded_key = encoded_key.clone();
        by_key.push((encoded_key, held.write_entry(depth + 1)?));
    }
    by_key.sort_by(|(a, _), (b, _)| compare_keys(&key.kind(), a, b));
    for (index, (key, entry)) in by_key.iter().enumerate() {
        // The sort is stable, so the last of equal keys is the last that was sent.
        if by_key.get(index + 1).is_none_or(|(next, _)| next != key) {
            put_bytes(number, entry, out);
        }
    }
    Ok(())
}

impl Held<'_> {
    /// Writes key and value even where they are defaults, as most encoders do.
    fn write_entry(mut self, depth: usize) -> Result<Vec<u8>, Refusal> {
        let mut out = Vec::new();
        for known in self.known.values() {
            match &known.slot {
                Slot::Scalar(value) => {
                    put_key(
                        known.field.number(),
                        wire_type(&known.field.kind()),
                        &mut out,
                    );
                    out.extend_from_slice(value);
                }
                _ => known.write(depth, &mut out)?,
            }
        }
        self.known.clear();
        out.extend(self.write(depth)?);
        Ok(out)
    }
}

fn default_of(field: &FieldDescriptor) -> Slot<'static> {
    match field.kind() {
        Kind::Message(_) => Slot::Message(Vec::new()),
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => Slot::Scalar(vec![0; 8]),
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => Slot::Scalar(vec![0; 4]),
        _ => Slot::Scalar(vec![0]),
    }
}

/// Texts compare bytewise, numbers by value.
fn compare_keys(kind: &Kind, a: &[u8], b: &[u8]) -> Ordering {
    let text = |mut bytes: &[u8]| {
        varint(&mut bytes)
            .map(|_| bytes.to_vec())
            .unwrap_or_default()
    };
    let number = |mut bytes: &[u8]| match kind {
        Kind::Fixed64 => fixed(&mut bytes).map(|b| i128::from(u64::from_le_bytes(b))),
        Kind::Sfixed64 => fixed(&mut bytes).map(|b| i128::from(i64::from_le_bytes(b))),
        Kind::Fixed32 => fixed(&mut bytes).map(|b| i128::from(u32::from_le_bytes(b))),
        Kind::Sfixed32 => fixed(&mut bytes).map(|b| i128::from(i32::from_le_bytes(b))),
        Kind::Sint32 | Kind::Sint64 => {
            varint(&mut bytes).map(|v| i128::from((v >> 1).cast_signed() ^ -(v & 1).cast_signed()))
        }
        Kind::Int32 | Kind::Int64 => varint(&mut bytes).map(|v| i128::from(v.cast_signed())),
        _ => varint(&mut bytes).map(i128::from),
    };
    match kind {
        Kind::String => text(a).cmp(&text(b)),
        _ => number(a)
            .unwrap_or_default()
            .cmp(&number(b).unwrap_or_default()),
    }
}

/// Encodes one scalar in its shortest form: what a decoder would read, written again.
fn scalar(kind: &Kind, value: Value<'_>) -> Result<Vec<u8>, Refusal> {
    let mut out = Vec::new();
    match (kind, value) {
        (Kind::Bool, Value::Varint(v)) => out.push(u8::from(v != 0)),
        (Kind::Int32 | Kind::Enum(_), Value::Varint(v)) => put_varint(sign_extended(v), &mut out),
        (Kind::Uint32 | Kind::Sint32, Value::Varint(v)) => {
            put_varint(v & u64::from(u32::MAX), &mut out)
        }
        (Kind::Int64 | Kind::Uint64 | Kind::Sint64, Value::Varint(v)) => put_varint(v, &mut out),
        (Kind::Double | Kind::Fixed64 | Kind::Sfixed64, Value::Fixed64(bytes)) => {
            out.extend_from_slice(&bytes)
        }
        (Kind::Float | Kind::Fixed32 | Kind::Sfixed32, Value::Fixed32(bytes)) => {
            out.extend_from_slice(&bytes)
        }
        (Kind::String, Value::Bytes(bytes)) => {
            std::str::from_utf8(bytes).map_err(|_| undecodable("a string is UTF-8"))?;
            put_text(bytes, &mut out);
        }
        (Kind::Bytes, Value::Bytes(bytes)) => put_text(bytes, &mut out),
        _ => return Err(wrong_wire_type(kind)),
    }
    Ok(out)
}

/// The low 32 bits, read as a signed number and widened.
fn sign_extended(value: u64) -> u64 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    i64::from(i32::from_le_bytes([a, b, c, d])).cast_unsigned()
}

fn unpack(kind: &Kind, mut bytes: &[u8], all: &mut Vec<u8>) -> Result<(), Refusal> {
    while !bytes.is_empty() {
        let value = match kind {
            Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => Value::Fixed64(fixed(&mut bytes)?),
            Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => Value::Fixed32(fixed(&mut bytes)?),
            _ => Value::Varint(varint(&mut bytes)?),
        };
        all.extend(scalar(kind, value)?);
    }
    Ok(())
}

/// True for the encoding of zero, false and the empty text. A negative zero is not all zeros and is kept.
fn is_default(encoded: &[u8]) -> bool {
    encoded.iter().all(|byte| *byte == 0)
}

fn wire_type(kind: &Kind) -> u64 {
    match kind {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => 1,
        Kind::String | Kind::Bytes | Kind::Message(_) => 2,
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => 5,
        _ => 0,
    }
}

fn put_key(number: u32, wire_type: u64, out: &mut Vec<u8>) {
    put_varint(u64::from(number) << 3 | wire_type, out);
}

fn put_bytes(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    put_key(number, 2, out);
    put_text(bytes, out);
}

fn put_text(bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

fn wrong_wire_type(kind: &Kind) -> Refusal {
    wire::undecodable(&format!("a field of type {kind:?} has another wire type"))
}
