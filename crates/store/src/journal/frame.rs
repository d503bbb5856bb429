//! A frame: one group commit, checked by one CRC32C and tied to all before it by the chain.
//!
//! The layout is in `README.md`. It belongs to the segment's version: a new layout is a new segment version, so that an
//! old binary refuses the segment instead of taking frames it cannot read for a torn tail.
use std::ops::Range;

use sha2::{Digest, Sha256};
use waybill_core::Time;

use super::Frame;
use crate::{
    codec,
    record::{Hash, Pure, Record, Tip},
};

/// Bytes of a frame before its body.
pub(crate) const HEADER_BYTES: usize = 76;
/// Where in the header the checksum stands; it covers all other bytes of the frame.
const CRC_AT: usize = 72;
/// Most bytes that the records of one frame may take up before compression.
///
/// More than the ledger's largest group commit (LEDGER E11), and what bounds a torn tail (LEDGER J3).
pub const FRAME_RAW_BYTES_MAX: usize = 16 << 20;
/// Most bytes that a frame takes up: a body that compression would make longer is stored as it is.
pub const FRAME_BYTES_MAX: usize = HEADER_BYTES + FRAME_RAW_BYTES_MAX;
/// No ledger comes near it; what claims more is no frame, and arithmetic on positions cannot overflow.
pub(crate) const POSITION_MAX: u64 = 1 << 62;
/// Below this, lz4 finds too little to be worth its time.
const COMPRESS_FROM_BYTES: usize = 256;

/// How a body is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Codec {
    Stored,
    Lz4,
}

/// What stands before a frame's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    codec: Codec,
    body_bytes: usize,
    raw_bytes: usize,
    count: u32,
    /// Position of the first record.
    pub(crate) first_position: u64,
    record_time_nanos: u64,
    /// Chain with this frame's leaves in it.
    pub(crate) chain: Hash,
}

impl Header {
    /// Bytes of the whole frame.
    pub(crate) fn frame_bytes(&self) -> usize {
        HEADER_BYTES + self.body_bytes
    }

    /// Position of the last record.
    pub(crate) fn last_position(&self) -> u64 {
        self.first_position + u64::from(self.count) - 1
    }

    /// Where the frame ends, for one that begins at `offset` of `segment`.
    pub(crate) fn tip(&self, segment: u32, offset: usize) -> Tip {
        Tip {
            position: self.last_position(),
            record_time: Time::from_nanos_clamped(i128::from(self.record_time_nanos)),
            chain: self.chain,
            segment,
            offset: (offset + self.frame_bytes()) as u64,
        }
    }

    fn to_bytes(&self, mark: [u8; 8]) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(&mark);
        bytes[8] = match self.codec {
            Codec::Stored => 0,
            Codec::Lz4 => 1,
        };
        bytes[12..16].copy_from_slice(&small(self.body_bytes).to_le_bytes());
        bytes[16..20].copy_from_slice(&small(self.raw_bytes).to_le_bytes());
        bytes[20..24].copy_from_slice(&self.count.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first_position.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.record_time_nanos.to_le_bytes());
        bytes[40..CRC_AT].copy_from_slice(&self.chain);
        bytes
    }

    /// What the bytes say, if it can be a frame at all; the checksum is not looked at.
    fn parse(bytes: &[u8; HEADER_BYTES], mark: [u8; 8]) -> Option<Self> {
        if bytes[0..8] != mark || bytes[9..12] != [0; 3] {
            return None;
        }
        let header = Self {
            codec: match bytes[8] {
                0 => Codec::Stored,
                1 => Codec::Lz4,
                _ => return None,
            },
            body_bytes: usize::try_from(u32_at(bytes, 12)).ok()?,
            raw_bytes: usize::try_from(u32_at(bytes, 16)).ok()?,
            count: u32_at(bytes, 20),
            first_position: u64_at(bytes, 24),
            record_time_nanos: u64_at(bytes, 32),
            chain: bytes[40..CRC_AT].try_into().ok()?,
        };
        let sound = header.count > 0
            && header.first_position > 0
            && header.first_position <= POSITION_MAX
            && header.body_bytes <= header.raw_bytes
            && header.raw_bytes <= FRAME_RAW_BYTES_MAX;
        sound.then_some(header)
    }
}

/// The frame that begins at `offset`, if its bytes are whole: the right mark, and a checksum that agrees.
pub(crate) fn at(segment: &[u8], offset: usize, mark: [u8; 8]) -> Option<(Header, &[u8])> {
    let bytes = segment.get(offset..)?;
    let (head, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let header = Header::parse(head, mark)?;
    let body = rest.get(..header.body_bytes)?;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&head[..CRC_AT]), body);
    (crc == u32_at(head, CRC_AT)).then_some((header, body))
}

/// Bytes of the frame that a header announces, if it can be one; for reading one frame after another.
pub(crate) fn whole_bytes(header: &[u8; HEADER_BYTES], mark: [u8; 8]) -> Option<usize> {
    Header::parse(header, mark).map(|header| header.frame_bytes())
}

/// The first whole frame that begins in `range`. Frames begin at any byte, and only they begin with the mark.
pub(crate) fn find(segment: &[u8], range: Range<usize>, mark: [u8; 8]) -> Option<(usize, Header)> {
    let mut offset = range.start;
    while let Some(further) = segment
        .get(offset..range.end)
        .and_then(|rest| rest.iter().position(|&byte| byte == mark[0]))
    {
        offset += further;
        if let Some((header, _)) = at(segment, offset, mark) {
            return Some((offset, header));
        }
        offset += 1;
    }
    None
}

/// The chain after a frame with these leaves.
pub(crate) fn chain(before: &Hash, leaves: &[Hash]) -> Hash {
    let mut hash = Sha256::new_with_prefix(before);
    hash.update(leaves.as_flattened());
    hash.finalize().into()
}

/// Where frames are made; keeps its buffers.
#[derive(Default)]
pub(crate) struct Encoder {
    raw: Vec<u8>,
    frame: Vec<u8>,
    header: Option<Header>,
}

impl Encoder {
    /// Lays a group commit out as a frame, unsealed, and gives its length in bytes.
    ///
    /// # Errors
    /// The bytes of the records, when they are more than [`FRAME_RAW_BYTES_MAX`].
    pub(crate) fn encode(
        &mut self,
        before: &Hash,
        records: &[Record],
        leaves: &[Hash],
    ) -> Result<usize, usize> {
        self.raw.clear();
        for record in records {
            let start = self.raw.len();
            self.raw.extend_from_slice(&[0; 4]);
            codec::encode(record, &mut self.raw);
            if self.raw.len() > FRAME_RAW_BYTES_MAX {
                return Err(self.raw.len());
            }
            let length = small(self.raw.len() - start - 4);
            self.raw[start..start + 4].copy_from_slice(&length.to_le_bytes());
        }
        let (codec, body_bytes) = self.put_body();
        let (first, last) = (&records[0], &records[records.len() - 1]);
        let header = self.header.insert(Header {
            codec,
            body_bytes,
            raw_bytes: self.raw.len(),
            count: small(records.len()),
            first_position: first.position,
            record_time_nanos: last.record_time.nanos().unsigned_abs(),
            chain: chain(before, leaves),
        });
        Ok(header.frame_bytes())
    }

    /// The frame last encoded, with the mark of the segment that it goes into, and its checksum.
    pub(crate) fn sealed(&mut self, mark: [u8; 8]) -> (&Header, &[u8]) {
        let header = self
            .header
            .as_ref()
            .expect("a frame is encoded before it is sealed");
        let frame = &mut self.frame[..header.frame_bytes()];
        frame[..HEADER_BYTES].copy_from_slice(&header.to_bytes(mark));
        let crc = crc32c::crc32c_append(crc32c::crc32c(&frame[..CRC_AT]), &frame[HEADER_BYTES..]);
        frame[CRC_AT..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        (header, frame)
    }

    /// Puts the raw bytes behind the header's place, compressed where that makes them shorter.
    fn put_body(&mut self) -> (Codec, usize) {
        let raw = self.raw.len();
        let room = HEADER_BYTES + lz4_flex::block::get_maximum_output_size(raw);
        if self.frame.len() < room {
            self.frame.resize(room, 0);
        }
        if raw >= COMPRESS_FROM_BYTES {
            match lz4_flex::block::compress_into(&self.raw, &mut self.frame[HEADER_BYTES..]) {
                Ok(length) if length < raw => return (Codec::Lz4, length),
                Ok(_) | Err(_) => {}
            }
        }
        self.frame[HEADER_BYTES..HEADER_BYTES + raw].copy_from_slice(&self.raw);
        (Codec::Stored, raw)
    }
}

/// Opens a frame whose checksum agrees, and checks everything else.
///
/// `before` is where the frame before it ends. Its chain is `None` after damage, when nothing says what it was.
/// `scratch` is any buffer.
///
/// # Errors
/// Says what does not hold, for any bytes whatever.
pub(crate) fn open(
    header: &Header,
    body: &[u8],
    before: (u64, Option<&Hash>),
    tip: Tip,
    pure: &Pure,
    scratch: &mut Vec<u8>,
) -> Result<Frame, String> {
    let (position, chain_before) = before;
    if header.first_position != position + 1 {
        return Err(format!(
            "a frame begins at position {} where {} must follow",
            header.first_position,
            position + 1
        ));
    }
    let records = records(header, raw(header, body, scratch)?)?;
    let leaves: Vec<Hash> = records.iter().map(pure.leaf).collect();
    if let Some(before) = chain_before
        && chain(before, &leaves) != header.chain
    {
        return Err(format!(
            "the chain does not agree with the leaves of positions {} to {}",
            header.first_position,
            header.last_position()
        ));
    }
    Ok(Frame {
        records,
        leaves,
        tip,
    })
}

fn raw<'a>(header: &Header, body: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<&'a [u8], String> {
    match header.codec {
        Codec::Stored => Ok(body),
        Codec::Lz4 => {
            scratch.resize(header.raw_bytes, 0);
            let length = lz4_flex::block::decompress_into(body, scratch)
                .map_err(|error| format!("a frame cannot be decompressed: {error}"))?;
            Ok(&scratch[..length])
        }
    }
}

fn records(header: &Header, raw: &[u8]) -> Result<Vec<Record>, String> {
    if raw.len() != header.raw_bytes {
        return Err(format!(
            "a frame holds {} bytes where its header says {}",
            raw.len(),
            header.raw_bytes
        ));
    }
    let mut records = Vec::new();
    let mut rest = raw;
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let (bytes, after) = after
            .split_at_checked(length)
            .ok_or_else(|| format!("a record of {length} bytes does not fit its frame"))?;
        let record = codec::decode(bytes)?;
        let due = header.first_position + records.len() as u64;
        if record.position != due {
            return Err(format!(
                "position {} stands where {due} must",
                record.position
            ));
        }
        records.push(record);
        rest = after;
    }
    let time = records
        .last()
        .map(|record| record.record_time.nanos().unsigned_abs());
    let agrees = rest.is_empty()
        && records.len() as u64 == u64::from(header.count)
        && time == Some(header.record_time_nanos);
    agrees
        .then_some(records)
        .ok_or_else(|| "a frame's header does not agree with its records".to_owned())
}

/// A number that [`FRAME_RAW_BYTES_MAX`] keeps small.
fn small(number: usize) -> u32 {
    u32::try_from(number).expect("sizes and counts within a frame are far below 4 Gi")
}

fn u32_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn u64_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}
