//! Text that is stored once: an append-only arena, and names interned over it.
use std::hash::{DefaultHasher, Hash, Hasher};

use super::{
    column::{Column, index_of},
    index::TextIndex,
};

/// Where a text stands in its arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Text(pub(super) u64);

/// Append-only texts. Long runs of hex digits (commit ids, digests, UUID parts) take half their length.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    pub(super) bytes: Vec<u8>,
}

/// A name that was interned; equal names have equal symbols. The numbers follow arrival: never order by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Symbol(pub(super) u32);

/// Every name once.
#[derive(Debug, Default)]
pub(crate) struct Symbols {
    pub(super) texts: Texts,
    pub(super) handles: Column<Text>,
    index: TextIndex,
    scratch: Vec<u8>,
}

impl Symbol {
    /// Stands where there is no name.
    pub(crate) const NONE: Self = Self(u32::MAX);
}

impl Texts {
    /// Stores `text`.
    pub(crate) fn push(&mut self, text: &str) -> Text {
        let mut packed = Vec::with_capacity(text.len());
        pack_hex(text, &mut packed);
        self.push_packed(&packed)
    }

    pub(super) fn push_packed(&mut self, packed: &[u8]) -> Text {
        let at = Text(self.bytes.len() as u64);
        let wanted = packed.len() + 10;
        if self.bytes.capacity() - self.bytes.len() < wanted {
            self.bytes
                .reserve_exact((self.bytes.len() / 8).max(4096).max(wanted));
        }
        write_varint(packed.len() as u64, &mut self.bytes);
        self.bytes.extend_from_slice(packed);
        at
    }

    pub(super) fn packed(&self, text: Text) -> &[u8] {
        let start = usize::try_from(text.0).unwrap_or(usize::MAX);
        let Some(mut rest) = self.bytes.get(start..) else {
            return &[];
        };
        let length = read_varint(&mut rest)
            .and_then(|length| usize::try_from(length).ok())
            .unwrap_or(0);
        rest.get(..length).unwrap_or(&[])
    }

    /// The text as it was stored.
    pub(crate) fn text(&self, text: Text) -> String {
        unpack_hex(self.packed(text))
    }
}

impl Symbols {
    /// The symbol of `text`, new or old.
    pub(crate) fn intern(&mut self, text: &str) -> Symbol {
        let mut packed = std::mem::take(&mut self.scratch);
        packed.clear();
        pack_hex(text, &mut packed);
        let hash = hash_of(packed.as_slice());
        let found = self.find_packed(hash, &packed);
        let symbol = found.unwrap_or_else(|| self.add(hash, &packed));
        self.scratch = packed;
        symbol
    }

    /// The symbol of `text`, if anything ever had that name.
    pub(crate) fn find(&self, text: &str) -> Option<Symbol> {
        let mut packed = Vec::with_capacity(text.len());
        pack_hex(text, &mut packed);
        self.find_packed(hash_of(packed.as_slice()), &packed)
    }

    /// The name behind a symbol; empty for [`Symbol::NONE`].
    pub(crate) fn text(&self, symbol: Symbol) -> String {
        self.handles
            .get(symbol.0 as usize)
            .map_or_else(String::new, |handle| self.texts.text(*handle))
    }

    /// Builds the index anew from the names, after a restore.
    pub(super) fn from_parts(texts: Texts, handles: Column<Text>) -> Self {
        let mut index = TextIndex::default();
        for at in 0..index_of(handles.len()) {
            index.insert(hash_of(texts.packed(handles[at as usize])), at);
        }
        Self {
            texts,
            handles,
            index,
            scratch: Vec::new(),
        }
    }

    fn find_packed(&self, hash: u64, packed: &[u8]) -> Option<Symbol> {
        let same = |at: u32| self.texts.packed(self.handles[at as usize]) == packed;
        self.index.find(hash, same).map(Symbol)
    }

    fn add(&mut self, hash: u64, packed: &[u8]) -> Symbol {
        let at = index_of(self.handles.len());
        let handle = self.texts.push_packed(packed);
        self.handles.push(handle);
        self.index.insert(hash, at);
        Symbol(at)
    }
}

/// A hash with fixed keys: the same on every machine, and nothing orders by it.
pub(crate) fn hash_of<T: Hash + ?Sized>(value: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Starts a packed run of hex digits; no UTF-8 text holds this byte.
const HEX_RUN: u8 = 0xF8;
/// Shorter runs are left as they are.
const HEX_RUN_DIGITS_MIN: usize = 16;
const HEX_RUN_DIGITS_MAX: usize = 2 * 255;

/// Writes `text` with its long runs of lowercase hex digits as bytes. Injective, so packed texts may be compared.
pub(crate) fn pack_hex(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    let (mut written, mut at) = (0, 0);
    while at + HEX_RUN_DIGITS_MIN <= bytes.len() {
        let run = bytes[at..]
            .iter()
            .take_while(|c| digit(**c).is_some())
            .count();
        if run < HEX_RUN_DIGITS_MIN {
            // Past the byte that ended the run.
            at += run + 1;
            continue;
        }
        let end = at + (run.min(HEX_RUN_DIGITS_MAX) & !1);
        out.extend_from_slice(&bytes[written..at]);
        pack_run(&bytes[at..end], out);
        (written, at) = (end, end);
    }
    out.extend_from_slice(&bytes[written..]);
}

fn pack_run(digits: &[u8], out: &mut Vec<u8>) {
    out.push(HEX_RUN);
    out.push(u8::try_from(digits.len() / 2).unwrap_or(u8::MAX));
    out.extend(digits.chunks_exact(2).map(|pair| {
        let nibble = |c| digit(c).unwrap_or(0);
        nibble(pair[0]) << 4 | nibble(pair[1])
    }));
}

fn unpack_hex(mut packed: &[u8]) -> String {
    let mut out = Vec::with_capacity(packed.len() + 20);
    while let [first, after @ ..] = packed {
        if *first != HEX_RUN {
            out.push(*first);
            packed = after;
            continue;
        }
        let Some((length, after)) = after.split_first() else {
            break;
        };
        let (run, after) = after.split_at(usize::from(*length).min(after.len()));
        for byte in run {
            out.push(DIGITS[usize::from(byte >> 4)]);
            out.push(DIGITS[usize::from(byte & 15)]);
        }
        packed = after;
    }
    String::from_utf8(out).unwrap_or_default()
}

const DIGITS: [u8; 16] = *b"0123456789abcdef";

/// The value of a lowercase hex digit.
pub(crate) fn digit(c: u8) -> Option<u8> {
    match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    }
}

/// Lowercase hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|nibble| char::from(DIGITS[usize::from(nibble)]))
        .collect()
}

/// Seven bits a byte, low first.
pub(super) fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7F) as u8);
}

pub(super) fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7F) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back_and_hex_is_packed() {
        let long = "a1".repeat(300);
        let cases = [
            "",
            "checkout",
            "git:1f2e3d4c5b6a79881f2e3d4c5b6a79881f2e3d4c/f",
            "0123456789abcdef0",
            "ABCDEF0123456789ABCDEF",
            "ü0123456789abcdef0123456789abcdeü",
            &long,
        ];
        let mut symbols = Symbols::default();
        for text in cases {
            let symbol = symbols.intern(text);
            assert_eq!(symbols.text(symbol), text);
            assert_eq!(symbols.find(text), Some(symbol));
            assert_eq!(symbols.intern(text), symbol);
        }
        let mut packed = Vec::new();
        pack_hex(&"c0ffee00".repeat(5), &mut packed);
        assert_eq!(packed.len(), 22);
        assert_eq!(symbols.find("never said"), None);
    }
}
