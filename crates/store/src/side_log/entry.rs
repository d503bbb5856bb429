//! One refusal, and its bytes: numbers of fixed length, then texts with their lengths.
use waybill_core::Time;

use crate::record::Hash;

/// Bytes of a refused event that are kept.
pub const BODY_BYTES_MAX: usize = 4096;
/// Bytes of any other text that are kept.
const TEXT_BYTES_MAX: usize = 1024;
/// Number, time, size of the body, digest of the body.
const FIXED_BYTES: usize = 8 + 8 + 4 + 32;

/// Something that was not recorded, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Contiguous from 1, over the life of the ledger. Set by [`super::SideLog::append`].
    pub number: u64,
    /// When it was refused.
    pub time: Time,
    /// Which rule, as a word.
    pub code: String,
    /// Path of the field.
    pub field: String,
    /// What stood there, shortened.
    pub value: String,
    /// What must hold.
    pub rule: String,
    /// What to do.
    pub hint: String,
    /// First half of the identity, where known.
    pub source: String,
    /// Second half of the identity, where known.
    pub id: String,
    /// `<family>.<predicate>`, where known.
    pub kind: String,
    /// The verified sender; empty where nobody was asked.
    pub sender: String,
    /// SHA-256 of the event's bytes.
    pub body_digest: Hash,
    /// How many bytes the event had.
    pub body_size: u32,
    /// The first of them, at most [`BODY_BYTES_MAX`].
    pub body: Vec<u8>,
}

/// The entry's bytes. Texts are cut to 1 KiB, the body to [`BODY_BYTES_MAX`].
pub(super) fn encode(entry: &Entry) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(&entry.number.to_le_bytes());
    out.extend_from_slice(&entry.time.nanos().to_le_bytes());
    out.extend_from_slice(&entry.body_size.to_le_bytes());
    out.extend_from_slice(&entry.body_digest);
    let Entry {
        code,
        field,
        value,
        rule,
        hint,
        source,
        id,
        kind,
        sender,
        ..
    } = entry;
    for text in [code, field, value, rule, hint, source, id, kind, sender] {
        put(&mut out, cut(text).as_bytes());
    }
    put(
        &mut out,
        &entry.body[..entry.body.len().min(BODY_BYTES_MAX)],
    );
    out
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The entry, if the bytes are one.
pub(super) fn decode(bytes: &[u8]) -> Option<Entry> {
    let (fixed, mut rest) = bytes.split_first_chunk::<FIXED_BYTES>()?;
    let mut text = || String::from_utf8(take(&mut rest)?.to_vec()).ok();
    let entry = Entry {
        number: u64::from_le_bytes(fixed[0..8].try_into().ok()?),
        time: Time::from_nanos_clamped(i128::from(i64::from_le_bytes(
            fixed[8..16].try_into().ok()?,
        ))),
        body_size: u32::from_le_bytes(fixed[16..20].try_into().ok()?),
        body_digest: fixed[20..].try_into().ok()?,
        code: text()?,
        field: text()?,
        value: text()?,
        rule: text()?,
        hint: text()?,
        source: text()?,
        id: text()?,
        kind: text()?,
        sender: text()?,
        body: Vec::new(),
    };
    let body = take(&mut rest)?.to_vec();
    rest.is_empty().then_some(Entry { body, ..entry })
}

/// Appends bytes and, before them, their length.
pub(super) fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("texts and bodies were cut to a few KiB");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Takes bytes that [`put`] put.
pub(super) fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (bytes, after) =
        after.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    *rest = after;
    Some(bytes)
}
