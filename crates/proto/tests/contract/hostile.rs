//! Laws that hold for any bytes: nothing panics, nothing is lost, and what reads the same is the same.
use bytes::Bytes;
use proptest::{collection::vec, prelude::*, sample::Index};
use prost::Message;
use prost_reflect::{Kind, MessageDescriptor};
use waybill_core::refusal::is_unsafe_in_text;
use waybill_proto::{
    canonical::{VERSION, canonical, content_digest},
    json::{event_from_json, event_to_json, message_from_json, pool},
    parse::{claim, parse},
    raw,
};

use crate::catalogue::examples;

/// Everything that takes an event's bytes, at once. What parses also has a canonical form, and JSON that is read again.
fn all_doors(bytes: &[u8]) {
    let form = canonical(bytes, VERSION);
    if let Ok(form) = &form {
        assert_eq!(
            canonical(form, VERSION).as_ref(),
            Ok(form),
            "the form of a form is itself"
        );
    }
    let (parsed, claimed) = (parse(bytes), claim(bytes));
    assert!(
        !claimed
            .source
            .chars()
            .chain(claimed.id.chars())
            .any(is_unsafe_in_text)
    );
    assert!(parsed.is_err() || form.is_ok(), "{:?}", form);
    let json = event_to_json(bytes);
    assert!(
        serde_json::from_str::<serde_json::Value>(&json).is_ok(),
        "{json}"
    );
    if let Ok(event) = parsed {
        let identity = (&*event.identity.source, &*event.identity.id);
        assert_eq!((claimed.source.as_str(), claimed.id.as_str()), identity);
        let back = event_from_json(&json).unwrap_or_else(|refusal| panic!("{json}\n{refusal}"));
        assert_eq!(event_to_json(&back), json);
        assert!(event.entities.len() <= waybill_proto::limits::ENTITIES_MAX);
    }
}

/// One wound to a sequence of bytes.
#[derive(Clone, Debug)]
enum Wound {
    Flip(Index, u8),
    Cut(Index),
    Insert(Index, Vec<u8>),
    Double(Index, Index),
}

fn wound() -> impl Strategy<Value = Wound> {
    prop_oneof![
        (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Wound::Flip(at, bit)),
        any::<Index>().prop_map(Wound::Cut),
        (any::<Index>(), vec(any::<u8>(), 1..8)).prop_map(|(at, bytes)| Wound::Insert(at, bytes)),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Wound::Double(from, to)),
    ]
}

fn hurt(mut bytes: Vec<u8>, wounds: &[Wound]) -> Vec<u8> {
    for wound in wounds {
        let places = bytes.len() + 1;
        match wound {
            Wound::Flip(at, bit) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
            }
            Wound::Flip(..) => {}
            Wound::Cut(at) => bytes.truncate(at.index(places)),
            Wound::Insert(at, more) => {
                let at = at.index(places);
                bytes.splice(at..at, more.iter().copied());
            }
            Wound::Double(from, to) => {
                let (from, to) = (from.index(places), to.index(places));
                let piece = bytes[from.min(to)..from.max(to)].to_vec();
                bytes.extend(piece);
            }
        }
    }
    bytes
}

/// A field as it stands in well-formed bytes: its number, and key and value together.
fn split(mut bytes: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let start = bytes;
        let (number, wire_type) = prost::encoding::decode_key(&mut bytes).unwrap();
        let context = prost::encoding::DecodeContext::default();
        prost::encoding::skip_field(wire_type, number, &mut bytes, context).unwrap();
        fields.push((number, start[..start.len() - bytes.len()].to_vec()));
    }
    fields
}

fn put_message(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, out);
    prost::encoding::encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn content(field: &[u8]) -> &[u8] {
    let mut rest = field;
    prost::encoding::decode_key(&mut rest).unwrap();
    let length = prost::encoding::decode_varint(&mut rest).unwrap();
    assert_eq!(rest.len() as u64, length);
    rest
}

/// Writes the same message differently: fields of different numbers and entries of maps in another order, messages in
/// two halves, packed numbers one by one.
fn rewritten(
    descriptor: &MessageDescriptor,
    bytes: &[u8],
    luck: &mut dyn FnMut(usize) -> usize,
) -> Vec<u8> {
    let mut groups: Vec<(u32, Vec<u8>)> = Vec::new();
    for (number, field) in split(bytes) {
        let rewritten = rewritten_field(descriptor, number, &field, luck);
        match groups.iter_mut().find(|(other, _)| *other == number) {
            Some((_, group)) if is_map(descriptor, number) && luck(2) == 0 => {
                group.splice(0..0, rewritten);
            }
            Some((_, group)) => group.extend(rewritten),
            None => groups.push((number, rewritten)),
        }
    }
    for index in (1..groups.len()).rev() {
        groups.swap(index, luck(index + 1));
    }
    groups.into_iter().flat_map(|(_, group)| group).collect()
}

fn is_map(descriptor: &MessageDescriptor, number: u32) -> bool {
    descriptor
        .get_field(number)
        .is_some_and(|field| field.is_map())
}

fn rewritten_field(
    descriptor: &MessageDescriptor,
    number: u32,
    raw: &[u8],
    luck: &mut dyn FnMut(usize) -> usize,
) -> Vec<u8> {
    let mut out = Vec::new();
    let Some(field) = descriptor.get_field(number) else {
        return raw.to_vec();
    };
    match field.kind() {
        Kind::Message(inner) if !field.is_list() && !field.is_map() => {
            let whole = rewritten(&inner, content(raw), luck);
            let fields = split(&whole);
            let half = luck(fields.len() + 1);
            let length: usize = fields[..half].iter().map(|(_, field)| field.len()).sum();
            // A oneof must not be cut between members; it holds one field only, so that one half is empty.
            put_message(number, &whole[..length], &mut out);
            put_message(number, &whole[length..], &mut out);
        }
        Kind::Message(inner) if field.is_list() => {
            put_message(number, &rewritten(&inner, content(raw), luck), &mut out)
        }
        Kind::Uint64 if field.is_list() => {
            let mut rest = content(raw);
            while !rest.is_empty() {
                let value = prost::encoding::decode_varint(&mut rest).unwrap();
                prost::encoding::uint64::encode(number, &value, &mut out);
            }
        }
        _ => return raw.to_vec(),
    }
    out
}

fn an_example() -> impl Strategy<Value = Vec<u8>> {
    let examples = examples();
    any::<Index>().prop_map(move |index| examples[index.index(examples.len())].clone())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn any_bytes_at_any_door(bytes in vec(any::<u8>(), 0..300)) {
        all_doors(&bytes);
        let _ = event_from_json(&bytes);
    }

    #[test]
    fn wounded_events_at_any_door(example in an_example(), wounds in vec(wound(), 1..4)) {
        all_doors(&hurt(example, &wounds));
    }

    #[test]
    fn wounded_json_is_refused_or_read(example in an_example(), wounds in vec(wound(), 1..4)) {
        let json = hurt(event_to_json(&example).into_bytes(), &wounds);
        if let Ok(bytes) = event_from_json(&json) {
            all_doors(&bytes);
        }
        let _ = message_from_json("waybill.v1.EmitRequest", &json);
    }

    #[test]
    fn what_reads_the_same_is_the_same(example in an_example(), seed in any::<u64>()) {
        let event = pool().get_message_by_name("waybill.v1.Event").unwrap();
        let mut state = seed | 1;
        let mut luck = |below: usize| {
            // Knuth's MMIX generator; the high bits are the good ones.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % below.max(1)
        };
        let other = rewritten(&event, &example, &mut luck);
        prop_assert_eq!(content_digest(&other, VERSION).unwrap(), content_digest(&example, VERSION).unwrap());
        let (a, b) = (parse(&other).unwrap(), parse(&example).unwrap());
        prop_assert_eq!(a, b);
    }

    #[test]
    fn what_is_unknown_comes_back_byte_for_byte(example in an_example(), number in 1_000_u32..2_000, unknown in vec(any::<u8>(), 0..40)) {
        let mut bytes = example.clone();
        put_message(number, &unknown, &mut bytes);
        parse(&bytes).unwrap();
        let request = raw::EmitRequest { events: vec![Bytes::from(bytes.clone())] };
        let read = raw::EmitRequest::decode(&*request.encode_to_vec()).unwrap();
        prop_assert_eq!(&read.events[0][..], &bytes[..]);
        let form = canonical(&bytes, VERSION).unwrap();
        prop_assert!(form.ends_with(&bytes[example.len()..]), "the unknown is content");
    }
}

#[test]
fn every_example_survives_json_unchanged() {
    for example in examples() {
        let json = event_to_json(&example);
        let back = event_from_json(&json).unwrap();
        assert_eq!(back, example, "{json}");
        all_doors(&example);
    }
}

#[test]
fn every_prefix_of_every_example_is_refused_or_read() {
    for example in examples().iter().step_by(7) {
        (0..example.len()).for_each(|end| all_doors(&example[..end]));
    }
}

#[test]
fn an_event_that_is_too_large_or_too_deep_is_refused() {
    let refusal = parse(&vec![0; 256 * 1024 + 1]).unwrap_err();
    assert_eq!(
        (refusal.code.as_str(), refusal.value.as_str()),
        ("TOO_LARGE", "262145 bytes")
    );
    // Groups within groups, as an unknown field.
    all_doors(&[0xC3, 0x3E].repeat(50_000));
    let deep = format!("{{\"labels\": {}1{}}}", "[".repeat(500), "]".repeat(500));
    assert!(event_from_json(deep).is_err());
}
