//! Small steps, kept as they came, so that a lone event costs a few hundred bytes and not every page that is open.
//!
//! Kind 0. Body: `count u16`, then for each event its record behind its length as u32, leaf hash, record time i64, has
//! occur time u8, occur time i64, words (u32 each) behind their length in bytes as u32. The fingerprint follows from the
//! record.
use super::{Step, index, keys::VALUE_BYTES_MAX, value};
use crate::{codec, record::Hash};

/// 1: as above.
const VERSION: u8 = 1;
/// Larger steps are not worth writing twice, in bytes.
const BYTES_MAX: usize = VALUE_BYTES_MAX / 2;
/// Nor are those of more events.
const EVENTS_MAX: usize = 16;

/// One event of a small step.
pub(crate) struct Event {
    pub(crate) encoded: Vec<u8>,
    pub(crate) leaf: Hash,
    pub(crate) fingerprint: u64,
    pub(crate) record_time: i64,
    pub(crate) occur_time: Option<i64>,
    pub(crate) words: Vec<u32>,
}

/// The value that keeps a step, if it is small.
pub(crate) fn of(step: &Step<'_>) -> Option<Vec<u8>> {
    let bytes: usize = step.records.iter().map(|record| record.bytes.len()).sum();
    if step.records.len() > EVENTS_MAX || bytes > BYTES_MAX {
        return None;
    }
    let mut value = value::begin(VERSION, 0, BYTES_MAX);
    let count = u16::try_from(step.records.len()).expect("EVENTS_MAX fits");
    value.extend_from_slice(&count.to_le_bytes());
    let mut encoded = Vec::new();
    for ((record, leaf), keys) in step.records.iter().zip(step.leaves).zip(step.keys) {
        encoded.clear();
        codec::encode(record, &mut encoded);
        value::put_sized(&encoded, &mut value);
        value.extend_from_slice(leaf);
        let entry = index::entry(record.record_time, keys);
        value.extend_from_slice(&entry.record_time.to_le_bytes());
        value.push(u8::from(entry.occur_time.is_some()));
        value.extend_from_slice(&entry.occur_time.unwrap_or(0).to_le_bytes());
        value::put_sized(
            &entry.words.flat_map(u32::to_le_bytes).collect::<Vec<_>>(),
            &mut value,
        );
    }
    (value.len() <= BYTES_MAX).then_some(value)
}

/// The events of a small step.
pub(crate) fn read(value: &[u8]) -> Result<Vec<Event>, String> {
    let (_, mut body) = value::open(value, VERSION, "a small step")?;
    (0..body.u16()?)
        .map(|_| {
            let encoded = body.sized()?.to_vec();
            let leaf = body.array()?;
            let record_time = body.i64()?;
            let (has_occur, occur_time) = (body.u8()? != 0, body.i64()?);
            let words = body
                .sized()?
                .as_chunks()
                .0
                .iter()
                .copied()
                .map(u32::from_le_bytes)
                .collect();
            let record = codec::decode(&encoded)?;
            let fingerprint = record.fingerprint();
            Ok(Event {
                encoded,
                leaf,
                fingerprint,
                record_time,
                occur_time: has_occur.then_some(occur_time),
                words,
            })
        })
        .collect()
}
