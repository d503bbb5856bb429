//! Blocks: consecutive records, packed and compressed into one value, or one large record over several.
//!
//! Kind 0 is stored, 1 compressed with lz4. Body: `first position u64 | count u16 | raw length u32 | payload`. The
//! payload, decompressed, is for each record its length as u32 and its bytes ([`crate::codec`]). The key of a block is
//! its *last* position, so that the first key at or after a position is the block that holds it.
use std::sync::Arc;

use super::{
    keys::{self, VALUE_BYTES_MAX, Writes},
    value,
};
use crate::{codec, record::Record};

/// 1: as above.
const VERSION: u8 = 1;
const STORED: u8 = 0;
const LZ4: u8 = 1;
/// What a block in one value may hold, compressed.
const ROOM: usize = VALUE_BYTES_MAX - value::HEADER_BYTES - 14;
/// A block this full is not worth trying to fill further.
const FULL_ENOUGH: usize = ROOM / 100 * 92;
/// However well events compress, reading one never means decompressing more than this, large records apart.
const RAW_BYTES_MAX: usize = 32 << 10;
/// However small events are, a block has no more than this.
const RECORDS_MAX: usize = 512;
/// No record is larger; a longer length in a block is damage, not a reason to allocate.
const RECORD_BYTES_MAX: usize = 16 << 20;

/// The newest records, not yet enough for a block.
#[derive(Clone)]
pub(crate) struct OpenBlock {
    first: u64,
    raw: Vec<u8>,
    /// Where each record ends in `raw`.
    ends: Vec<usize>,
    /// Raw bytes that are expected to fill a block, learned from the blocks before.
    expected: usize,
}

impl OpenBlock {
    pub(crate) fn starting_at(first: u64) -> Self {
        Self {
            first,
            raw: Vec::new(),
            ends: Vec::new(),
            expected: ROOM,
        }
    }

    /// Position of its first record, or of the next one when it is empty.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Position after its last record.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.ends.len() as u64
    }

    /// The record at a position that is in it.
    pub(crate) fn record(&self, position: u64) -> Result<Record, String> {
        decode_at(
            &self.raw,
            &self.ends,
            keys::small(position - self.first),
            position,
        )
    }

    /// Adds an encoded record and puts every block that became full. Says whether there was one.
    pub(crate) fn push(&mut self, record: &[u8], writes: &mut Writes) -> bool {
        self.add(record);
        let due = self.raw.len() >= self.expected || self.ends.len() >= RECORDS_MAX;
        due && self.seal(writes)
    }

    /// Adds an encoded record to what is open, however full that is.
    pub(crate) fn add(&mut self, record: &[u8]) {
        value::put_sized(record, &mut self.raw);
        self.ends.push(self.raw.len());
    }

    /// Puts what is open under its key, after putting blocks until the rest fits one value.
    pub(crate) fn put_open(&mut self, writes: &mut Writes) {
        let (mut codec, mut payload) = compress(&self.raw);
        while payload.len() > ROOM {
            self.put_some(payload.len(), writes);
            (codec, payload) = compress(&self.raw);
        }
        let value = self.value(self.ends.len(), codec, &payload);
        value::put(keys::open_block(), value, writes);
    }

    /// Puts full blocks until what is left is not full.
    fn seal(&mut self, writes: &mut Writes) -> bool {
        let mut sealed = false;
        while !self.ends.is_empty() {
            let (codec, payload) = compress(&self.raw);
            if payload.len() > ROOM {
                self.put_some(payload.len(), writes);
            } else {
                self.learn(self.raw.len(), payload.len());
                let at_bound = self.raw.len() >= RAW_BYTES_MAX || self.ends.len() >= RECORDS_MAX;
                if payload.len() < FULL_ENOUGH && !at_bound {
                    break;
                }
                self.put(self.ends.len(), codec, &payload, writes);
            }
            sealed = true;
        }
        sealed
    }

    /// Puts as many records as fit one block, or one large record in chunks. `payload_bytes` is what all take up.
    fn put_some(&mut self, mut payload_bytes: usize, writes: &mut Writes) {
        let mut raw = self.raw.len();
        loop {
            raw = raw * (ROOM * 98 / 100) / payload_bytes;
            let count = self.ends.partition_point(|&end| end <= raw).max(1);
            let end = self.ends[count - 1];
            let (codec, payload) = compress(&self.raw[..end]);
            if payload.len() <= ROOM || count == 1 {
                self.learn(end, payload.len());
                self.put(count, codec, &payload, writes);
                return;
            }
            (raw, payload_bytes) = (end, payload.len());
        }
    }

    fn put(&mut self, count: usize, codec: u8, payload: &[u8], writes: &mut Writes) {
        let value = self.value(count, codec, payload);
        value::put(keys::block(self.first + count as u64 - 1), value, writes);
        let end = self.ends[count - 1];
        self.raw.drain(..end);
        self.ends.drain(..count);
        self.ends.iter_mut().for_each(|it| *it -= end);
        self.first += count as u64;
    }

    fn value(&self, count: usize, codec: u8, payload: &[u8]) -> Vec<u8> {
        let raw = if count == 0 { 0 } else { self.ends[count - 1] };
        let mut value = value::begin(VERSION, codec);
        value.extend_from_slice(&self.first.to_le_bytes());
        let count = u16::try_from(count).expect("RECORDS_MAX fits");
        value.extend_from_slice(&count.to_le_bytes());
        let raw = u32::try_from(raw).expect("a block is far below 4 GiB");
        value.extend_from_slice(&raw.to_le_bytes());
        value.extend_from_slice(payload);
        value
    }

    /// Aims a little below what would fill a block exactly: a block that turns out too large is compressed again.
    fn learn(&mut self, raw: usize, payload: usize) {
        let fills = raw * (ROOM * 97 / 100) / payload.max(1);
        self.expected = fills.clamp(ROOM / 2, RAW_BYTES_MAX);
    }
}

/// A block that was read back.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) first: u64,
    raw: Vec<u8>,
    ends: Vec<usize>,
}

impl Block {
    /// Opens a whole value.
    pub(crate) fn read(whole: &[u8]) -> Result<Self, String> {
        let (codec, mut body) = value::open(whole, VERSION, "a block")?;
        let (first, count) = (body.u64()?, body.u16()?);
        let length = usize::try_from(body.u32()?).unwrap_or(usize::MAX);
        if length > RECORD_BYTES_MAX || first == 0 {
            return Err(format!(
                "a block from position {first} of {length} bytes is not possible"
            ));
        }
        let raw = match codec {
            STORED => body.rest().to_vec(),
            LZ4 => lz4_flex::block::decompress(body.rest(), length)
                .map_err(|error| format!("a block: {error}"))?,
            _ => {
                return Err(format!(
                    "block codec {codec} is not known, only {STORED} and {LZ4}"
                ));
            }
        };
        let ends = ends(&raw)?;
        if raw.len() != length || ends.len() != usize::from(count) {
            return Err("a block holds other than its header says".to_owned());
        }
        Ok(Self { first, raw, ends })
    }

    /// Position after its last record.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.ends.len() as u64
    }

    /// The record at a position that is in it.
    pub(crate) fn record(&self, position: u64) -> Result<Record, String> {
        decode_at(
            &self.raw,
            &self.ends,
            keys::small(position - self.first),
            position,
        )
    }
}

impl From<Block> for OpenBlock {
    fn from(block: Block) -> Self {
        Self {
            first: block.first,
            raw: block.raw,
            ends: block.ends,
            expected: ROOM,
        }
    }
}

/// Blocks read lately, so that neighbours are not decompressed again.
#[derive(Default)]
pub(crate) struct Recent(Vec<Arc<Block>>);

impl Recent {
    const BLOCKS: usize = 16;

    pub(crate) fn find(&self, position: u64) -> Option<Arc<Block>> {
        self.0
            .iter()
            .rev()
            .find(|block| (block.first..block.end()).contains(&position))
            .cloned()
    }

    pub(crate) fn add(&mut self, block: Arc<Block>) {
        if self.0.len() == Self::BLOCKS {
            self.0.remove(0);
        }
        self.0.push(block);
    }
}

fn ends(raw: &[u8]) -> Result<Vec<usize>, String> {
    let (mut ends, mut at) = (Vec::new(), 0);
    while at < raw.len() {
        let length = raw[at..]
            .first_chunk()
            .map(|&length| u32::from_le_bytes(length));
        let length = length.and_then(|length| usize::try_from(length).ok());
        let end = length
            .and_then(|length| (at + 4).checked_add(length))
            .filter(|&end| end <= raw.len());
        at = end.ok_or_else(|| format!("a record's length at {at} does not fit its block"))?;
        ends.push(at);
    }
    Ok(ends)
}

fn decode_at(raw: &[u8], ends: &[usize], at: usize, position: u64) -> Result<Record, String> {
    let start = if at == 0 { 0 } else { ends[at - 1] };
    let record = codec::decode(&raw[start + 4..ends[at]])?;
    if record.position == position {
        Ok(record)
    } else {
        Err(format!(
            "position {} was found where {position} should be",
            record.position
        ))
    }
}

fn compress(raw: &[u8]) -> (u8, Vec<u8>) {
    let compressed = lz4_flex::block::compress(raw);
    if compressed.len() < raw.len() {
        (LZ4, compressed)
    } else {
        (STORED, raw.to_vec())
    }
}
