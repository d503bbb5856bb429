//! What every value begins with, tiles and fingerprints apart: `version u8 | kind u8 | chunks u16 | crc32c u32`, then the
//! body, numbers little-endian. What does not fit one value goes on in chunks under the following keys.
//!
//! The checksum covers version, kind and body. sled has checksums of its own; ours shows what sled put together wrongly.
use super::keys::{self, Key, VALUE_BYTES_MAX, Writes};
use crate::Fault;

/// Bytes before the body.
pub(crate) const HEADER_BYTES: usize = 8;

/// Starts a value; the caller appends the body, of about `body_bytes`.
pub(crate) fn begin(version: u8, kind: u8, body_bytes: usize) -> Vec<u8> {
    let mut value = Vec::with_capacity(HEADER_BYTES + body_bytes);
    value.extend_from_slice(&[version, kind, 0, 0, 0, 0, 0, 0]);
    value
}

/// Fills in the header of a value that [`begin`] started and puts it, in chunks where it is large.
pub(crate) fn put(key: Key, mut value: Vec<u8>, writes: &mut Writes) {
    let chunks = value.len().div_ceil(VALUE_BYTES_MAX);
    let chunks = u16::try_from(chunks).expect("no value comes near 65,535 chunks");
    value[2..4].copy_from_slice(&chunks.to_le_bytes());
    let sum = checksum(&value);
    value[4..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
    if chunks == 1 {
        writes.put(key, value);
        return;
    }
    for (number, piece) in (0..).zip(value.chunks(VALUE_BYTES_MAX)) {
        let key = if number == 0 {
            key.clone()
        } else {
            keys::chunk(key.clone(), number)
        };
        writes.put(key, piece.to_vec());
    }
}

/// Joins the chunks of the value that begins with `head` under `key`. The inner error is what does not fit.
pub(crate) fn join(
    key: Key,
    head: Vec<u8>,
    get: &mut dyn FnMut(Key) -> Result<Option<Vec<u8>>, Fault>,
) -> Result<Result<Vec<u8>, String>, Fault> {
    let &[_, _, low, high, ..] = &head[..] else {
        return Ok(Err(format!("a value of {} bytes is too short", head.len())));
    };
    let chunks = u16::from_le_bytes([low, high]);
    let mut whole = head;
    for number in 1..chunks {
        match get(keys::chunk(key.clone(), number))? {
            Some(chunk) => whole.extend_from_slice(&chunk),
            None => return Ok(Err(format!("chunk {number} of {chunks} is missing"))),
        }
    }
    Ok(Ok(whole))
}

/// Kind and body of a whole value.
pub(crate) fn open<'a>(
    whole: &'a [u8],
    version: u8,
    what: &str,
) -> Result<(u8, Reader<'a>), String> {
    let Some((&[found, kind, _, _, a, b, c, d], body)) = whole.split_first_chunk::<HEADER_BYTES>()
    else {
        return Err(format!("{what} of {} bytes is too short", whole.len()));
    };
    if found != version {
        return Err(format!(
            "version {found} of {what} is not known, only {version}"
        ));
    }
    if checksum(whole) != u32::from_le_bytes([a, b, c, d]) {
        return Err(format!("the checksum of {what} does not hold"));
    }
    Ok((kind, Reader(body)))
}

fn checksum(whole: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&whole[..2]), &whole[HEADER_BYTES..])
}

/// Takes numbers off the front of a body.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (array, rest) = self.0.split_first_chunk().ok_or_else(too_short)?;
        self.0 = rest;
        Ok(*array)
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Result<&'a [u8], String> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or_else(too_short)?;
        self.0 = rest;
        Ok(bytes)
    }

    /// Bytes behind their length as u32.
    pub(crate) fn sized(&mut self) -> Result<&'a [u8], String> {
        let length = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        self.bytes(length)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, String> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, String> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, String> {
        self.array().map(i64::from_le_bytes)
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }
}

fn too_short() -> String {
    "a value ends too early".to_owned()
}

/// Appends bytes behind their length as u32.
pub(crate) fn put_sized(bytes: &[u8], value: &mut Vec<u8>) {
    let length = u32::try_from(bytes.len()).expect("what a value holds is far below 4 GiB");
    value.extend_from_slice(&length.to_le_bytes());
    value.extend_from_slice(bytes);
}
