//! Records as bytes: the only file that knows bincode.
//!
//! `version u8 | length of the meta part u32, little-endian | meta part, bincode | the event's bytes as received`. The
//! meta part is [`MetaV1`], frozen: a change is a new version with a struct of its own, and every released version stays
//! readable. These bytes are never hashed (LEDGER S6), so a new version moves no leaf and no root.
//!
//! bincode is unmaintained (RUSTSEC-2025-0141), pinned, and only ever fed slices whose checksum has been verified.
use std::sync::Arc;

use bincode::Options;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use waybill_core::Time;

use crate::record::{Record, Verdict};

/// 1: [`MetaV1`].
const VERSION: u8 = 1;
/// Version byte and length of the meta part.
const PREFIX_BYTES: usize = 5;

/// What the ledger adds to an event. Field order and types are the format; see `README.md`.
#[derive(Serialize, Deserialize)]
struct MetaV1<'a> {
    position: u64,
    record_time_nanos: u64,
    epoch: u32,
    stream_sequence: u64,
    salt: Option<[u8; 16]>,
    #[serde(borrow)]
    subject: &'a str,
    #[serde(borrow)]
    headers: Vec<(&'a str, &'a str)>,
    verdict: u8,
    rules_version: u32,
    source: &'a str,
    id: &'a str,
    kind: &'a str,
    flags: u32,
}

/// Appends the record's bytes to `out`.
pub(crate) fn encode(record: &Record, out: &mut Vec<u8>) {
    let meta = MetaV1 {
        position: record.position,
        record_time_nanos: record.record_time.nanos().unsigned_abs(),
        epoch: record.epoch,
        stream_sequence: record.stream_sequence,
        salt: record.salt,
        subject: &record.subject,
        headers: record
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect(),
        verdict: verdict_number(record.verdict),
        rules_version: record.rules_version,
        source: &record.source,
        id: &record.id,
        kind: &record.kind,
        flags: record.flags,
    };
    let start = out.len();
    out.extend_from_slice(&[VERSION, 0, 0, 0, 0]);
    bincode::DefaultOptions::new()
        .serialize_into(&mut *out, &meta)
        .expect("plain fields are written to a vector without a limit");
    let length = out.len() - start - PREFIX_BYTES;
    let length = u32::try_from(length).expect("a record's meta part is far below 4 GiB");
    out[start + 1..start + PREFIX_BYTES].copy_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&record.bytes);
}

/// Reads one record that takes up all of `bytes`.
///
/// # Errors
/// Says what does not hold, for any bytes whatever; allocates no more than a few times their length.
pub(crate) fn decode(bytes: &[u8]) -> Result<Record, String> {
    let (prefix, rest) = bytes
        .split_first_chunk::<PREFIX_BYTES>()
        .ok_or_else(|| format!("a record of {} bytes is too short", bytes.len()))?;
    let [version, length @ ..] = *prefix;
    if version != VERSION {
        return Err(format!(
            "record version {version} is not known, only {VERSION}"
        ));
    }
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    let (meta, event) = rest
        .split_at_checked(length)
        .ok_or_else(|| format!("a record's meta part of {length} bytes does not fit"))?;
    let meta: MetaV1<'_> = bincode::DefaultOptions::new()
        .with_limit(meta.len() as u64)
        .deserialize(meta)
        .map_err(|error| format!("a record's meta part cannot be read: {error}"))?;
    record(&meta, event)
}

fn record(meta: &MetaV1<'_>, event: &[u8]) -> Result<Record, String> {
    let record_time = Time::from_nanos_clamped(i128::from(meta.record_time_nanos));
    if record_time.nanos().unsigned_abs() != meta.record_time_nanos {
        return Err(format!(
            "record time {} ns is beyond 2200",
            meta.record_time_nanos
        ));
    }
    Ok(Record {
        position: meta.position,
        record_time,
        epoch: meta.epoch,
        stream_sequence: meta.stream_sequence,
        salt: meta.salt,
        subject: meta.subject.to_owned(),
        headers: meta
            .headers
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        verdict: verdict(meta.verdict)?,
        rules_version: meta.rules_version,
        source: Arc::from(meta.source),
        id: Arc::from(meta.id),
        kind: Arc::from(meta.kind),
        flags: meta.flags,
        bytes: Bytes::copy_from_slice(event),
    })
}

/// Written by hand, for bincode numbers variants by their order in the source.
fn verdict_number(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Admitted => 0,
        Verdict::Ledger => 1,
        Verdict::Duplicate => 2,
        Verdict::Conflict => 3,
        Verdict::Undecodable => 4,
        Verdict::Refused => 5,
    }
}

fn verdict(number: u8) -> Result<Verdict, String> {
    Ok(match number {
        0 => Verdict::Admitted,
        1 => Verdict::Ledger,
        2 => Verdict::Duplicate,
        3 => Verdict::Conflict,
        4 => Verdict::Undecodable,
        5 => Verdict::Refused,
        _ => return Err(format!("verdict {number} is not known, only 0 to 5")),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn full() -> Record {
        Record {
            position: 7,
            record_time: Time::try_new(1_700_000_000, 5).unwrap(),
            epoch: 1,
            stream_sequence: 300,
            salt: Some(*b"0123456789abcdef"),
            subject: "waybill.events.v1.acme".to_owned(),
            headers: vec![("Waybill-Sender".to_owned(), "ci".to_owned())],
            verdict: Verdict::Conflict,
            rules_version: 1,
            source: Arc::from("ci"),
            id: Arc::from("run-1"),
            kind: Arc::from("build.finished"),
            flags: 0,
            bytes: Bytes::from_static(b"event"),
        }
    }

    fn encoded(record: &Record) -> Vec<u8> {
        let mut out = Vec::new();
        encode(record, &mut out);
        out
    }

    /// Version 1 as released. These bytes must be readable for ever: never edit them, add the next version's.
    #[test]
    fn golden_v1() {
        let golden: Vec<u8> = [
            &b"\x01\x64\0\0\0"[..],                   // version, length of the meta part
            b"\x07",                                  // position
            b"\xfd\x05\x00\x2a\x36\xfe\x9c\x97\x17",  // record time, ns
            b"\x01",                                  // epoch
            b"\xfb\x2c\x01",                          // stream sequence
            b"\x01",                                  // there is a salt
            b"0123456789abcdef",                      // salt
            b"\x16waybill.events.v1.acme",            // subject
            b"\x01\x0eWaybill-Sender\x02ci",          // headers
            b"\x03\x01",                              // verdict, rules version
            b"\x02ci\x05run-1\x0ebuild.finished\x00", // source, id, kind, flags
            b"event",
        ]
        .concat();
        assert_eq!(encoded(&full()), golden);
        assert_eq!(decode(&golden).unwrap(), full());
    }

    #[test]
    fn every_verdict_comes_back() {
        for number in 0..=5 {
            assert_eq!(verdict_number(verdict(number).unwrap()), number);
        }
        assert!(verdict(6).is_err());
    }

    #[test]
    fn every_truncation_within_the_meta_part_and_every_unknown_version_is_refused() {
        let bytes = encoded(&full());
        for length in 0..bytes.len() - full().bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "{length}");
        }
        for version in (0..=u8::MAX).filter(|&version| version != VERSION) {
            let mut bytes = bytes.clone();
            bytes[0] = version;
            assert!(decode(&bytes).unwrap_err().contains("version"), "{version}");
        }
    }

    #[test]
    fn a_length_that_promises_too_much_is_refused() {
        // A subject of 2^63 bytes.
        let bytes = [
            &b"\x01\x0f\0\0\0\x01\x01\x00\x00\x00"[..],
            b"\xfd\0\0\0\0\0\0\0\x80",
            b"x",
        ]
        .concat();
        assert!(decode(&bytes).is_err());
    }

    proptest! {
        #[test]
        fn any_record_comes_back(
            numbers in any::<(u64, u32, u64, u32, u32)>(),
            nanos in 0..7_258_118_400_000_000_000_i128,
            salt in any::<Option<[u8; 16]>>(),
            words in any::<(String, String, String, String)>(),
            headers in any::<Vec<(String, String)>>(),
            number in 0..=5_u8,
            bytes in any::<Vec<u8>>(),
        ) {
            let record = Record {
                position: numbers.0,
                record_time: Time::from_nanos_clamped(nanos),
                epoch: numbers.1,
                stream_sequence: numbers.2,
                salt,
                subject: words.0,
                headers,
                verdict: verdict(number).unwrap(),
                rules_version: numbers.3,
                source: words.1.into(),
                id: words.2.into(),
                kind: words.3.into(),
                flags: numbers.4,
                bytes: bytes.into(),
            };
            prop_assert_eq!(decode(&encoded(&record)), Ok(record));
        }

        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in any::<Vec<u8>>(), known in any::<bool>()) {
            if let (true, Some(version)) = (known, bytes.first_mut()) {
                *version = VERSION;
            }
            drop(decode(&bytes));
        }

        #[test]
        fn mutated_bytes_never_panic(at in 0..200_usize, value in any::<u8>()) {
            let mut bytes = encoded(&full());
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
            drop(decode(&bytes));
        }
    }
}
