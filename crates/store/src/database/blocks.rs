//! Blocks: consecutive records, packed and compressed into one value, or one large record over several.
//!
//! Kind 0 is stored, 1 compressed with lz4. Body: `first position u64 | count u16 | raw length u32 | payload`. The
//! payload, decompressed, is for each record its length as u32 and its bytes ([`crate::codec`]). Blocks are numbered from
//! 0; the pages of ends say which block ends with which position.
use std::sync::Arc;

use super::{
    keys::{self, Full, VALUE_BYTES_MAX, Writes},
    value,
};
use crate::{Fault, codec, record::Record};

/// 1: as above.
const VERSION: u8 = 1;
const STORED: u8 = 0;
const LZ4: u8 = 1;
/// What a block in one value may hold, compressed.
const ROOM: usize = VALUE_BYTES_MAX - value::HEADER_BYTES - 14;
/// A block this full is not worth trying to fill further.
const FULL_ENOUGH: usize = ROOM * 94 / 100;
/// However well events compress, reading one never means decompressing more than this, large records apart.
const RAW_BYTES_MAX: usize = 32 << 10;
/// However small events are, a block has no more than this.
const RECORDS_MAX: usize = 512;
/// No record may be larger, encoded, in bytes.
const RECORD_BYTES_MAX: usize = 8 << 20;
/// A longer block is damage, not a reason to allocate.
const BLOCK_BYTES_MAX: usize = RECORD_BYTES_MAX + RAW_BYTES_MAX + 4;

/// The newest records, not yet enough for a block.
#[derive(Clone)]
pub(crate) struct OpenBlock {
    /// Its number once it is full.
    pub(crate) number: u64,
    first: u64,
    raw: Vec<u8>,
    /// Where each record ends in `raw`.
    ends: Vec<usize>,
    /// Raw bytes that are expected to fill a block, learned from the blocks before.
    expected: usize,
}

impl OpenBlock {
    /// An empty block for what comes after no event at all.
    pub(crate) fn new() -> Self {
        Self {
            number: 0,
            first: 1,
            raw: Vec::new(),
            ends: Vec::new(),
            expected: ROOM,
        }
    }

    /// Goes on with what was read back.
    pub(crate) fn resume(number: u64, block: Block) -> Self {
        Self {
            number,
            first: block.first,
            raw: block.raw,
            ends: block.ends,
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

    /// Adds a record and puts every block that became full. Says whether there was one.
    pub(crate) fn push(&mut self, record: &Record, writes: &mut Writes) -> Result<bool, Fault> {
        let start = self.raw.len();
        self.raw.extend_from_slice(&[0; 4]);
        codec::encode(record, &mut self.raw);
        let bytes = self.raw.len() - start - 4;
        if bytes > RECORD_BYTES_MAX {
            return Err(Fault::TooLarge {
                what: "a record",
                bytes,
                limit: RECORD_BYTES_MAX,
            });
        }
        let length = u32::try_from(bytes).expect("RECORD_BYTES_MAX fits");
        self.raw[start..start + 4].copy_from_slice(&length.to_le_bytes());
        self.ends.push(self.raw.len());
        let due = self.raw.len() >= self.expected || self.ends.len() >= RECORDS_MAX;
        Ok(due && self.seal(writes))
    }

    /// Adds a record that was encoded before, however full the block is.
    pub(crate) fn add(&mut self, record: &[u8]) {
        value::put_sized(record, &mut self.raw);
        self.ends.push(self.raw.len());
    }

    /// Puts what is open under its key, after putting blocks until the rest fits one value.
    pub(crate) fn put_open(&mut self, writes: &mut Writes) {
        let mut scratch = std::mem::take(&mut writes.scratch);
        let mut packed = Packed::new(&self.raw, &mut scratch);
        while packed.payload.len() > ROOM {
            let bytes = packed.payload.len();
            self.put_some(bytes, &mut scratch, writes);
            packed = Packed::new(&self.raw, &mut scratch);
        }
        value::put(
            keys::open_block(),
            packed.value(self.first, self.ends.len()),
            writes,
        );
        writes.scratch = scratch;
    }

    /// Puts full blocks until what is left is not full.
    fn seal(&mut self, writes: &mut Writes) -> bool {
        let mut scratch = std::mem::take(&mut writes.scratch);
        let mut sealed = false;
        while !self.ends.is_empty() {
            let packed = Packed::new(&self.raw, &mut scratch);
            let bytes = packed.payload.len();
            if bytes > ROOM {
                self.put_some(bytes, &mut scratch, writes);
            } else {
                let at_bound = self.raw.len() >= RAW_BYTES_MAX || self.ends.len() >= RECORDS_MAX;
                if bytes < FULL_ENOUGH && !at_bound {
                    self.learn(self.raw.len(), bytes);
                    break;
                }
                let value = packed.value(self.first, self.ends.len());
                self.learn(self.raw.len(), bytes);
                self.put(self.ends.len(), value, writes);
            }
            sealed = true;
        }
        writes.scratch = scratch;
        sealed
    }

    /// Puts as many records as fit one block, or one large record in chunks. `bytes` is what all of them take up.
    fn put_some(&mut self, mut bytes: usize, scratch: &mut Vec<u8>, writes: &mut Writes) {
        let mut raw = self.raw.len();
        loop {
            raw = raw * (ROOM * 98 / 100) / bytes;
            let count = self.ends.partition_point(|&end| end <= raw).max(1);
            let end = self.ends[count - 1];
            let packed = Packed::new(&self.raw[..end], scratch);
            (raw, bytes) = (end, packed.payload.len());
            if bytes <= ROOM || count == 1 {
                let value = packed.value(self.first, count);
                self.learn(raw, bytes);
                self.put(count, value, writes);
                return;
            }
        }
    }

    fn put(&mut self, count: usize, value: Vec<u8>, writes: &mut Writes) {
        value::put(Full::Block.key(self.number), value, writes);
        let end = self.ends[count - 1];
        self.raw.drain(..end);
        self.ends.drain(..count);
        self.ends.iter_mut().for_each(|it| *it -= end);
        self.first += count as u64;
        self.number += 1;
        writes.block_ends.push(self.first - 1);
    }

    /// Aims a little below what would fill a block exactly: a block that turns out too large is compressed again.
    fn learn(&mut self, raw: usize, payload: usize) {
        let fills = raw * (ROOM * 98 / 100) / payload.max(1);
        self.expected = fills.clamp(ROOM / 2, RAW_BYTES_MAX);
    }
}

/// Raw bytes as a block keeps them: compressed, where that makes them smaller.
struct Packed<'a> {
    codec: u8,
    raw_bytes: usize,
    payload: &'a [u8],
}

impl<'a> Packed<'a> {
    fn new(raw: &'a [u8], scratch: &'a mut Vec<u8>) -> Self {
        scratch.resize(lz4_flex::block::get_maximum_output_size(raw.len()), 0);
        match lz4_flex::block::compress_into(raw, scratch) {
            Ok(bytes) if bytes < raw.len() => Self {
                codec: LZ4,
                raw_bytes: raw.len(),
                payload: &scratch[..bytes],
            },
            _ => Self {
                codec: STORED,
                raw_bytes: raw.len(),
                payload: raw,
            },
        }
    }

    fn value(&self, first: u64, count: usize) -> Vec<u8> {
        let mut value = value::begin(VERSION, self.codec, 14 + self.payload.len());
        value.extend_from_slice(&first.to_le_bytes());
        let count = u16::try_from(count).expect("RECORDS_MAX fits");
        value.extend_from_slice(&count.to_le_bytes());
        let raw_bytes = u32::try_from(self.raw_bytes).expect("a block is far below 4 GiB");
        value.extend_from_slice(&raw_bytes.to_le_bytes());
        value.extend_from_slice(self.payload);
        value
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
        if length > BLOCK_BYTES_MAX || first == 0 {
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
