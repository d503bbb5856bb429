//! What makes two events the same fact: SHA-256 over length-prefixed parts (LEDGER E5, `proto/README.md`).
//!
//! Recomputed, never stored as truth. A later version gets its own number and its own function; this one stays.
use sha2::{Digest, Sha256};
use waybill_core::{Refusal, Time, event::NaturalKey};

use crate::parse;

/// The version that is in force.
pub const VERSION: u32 = 1;

/// The first part of every key of version 1, so that keys of two versions never meet.
const HEADER_V1: &str = "waybill.natural-key.v1";

/// Computes the natural key of an encoded event under a version of the rules.
///
/// # Errors
/// Refuses what [`parse::parse`] refuses, and versions that this build does not know.
pub fn natural_key(event: &[u8], version: u32) -> Result<NaturalKey, Refusal> {
    if version != VERSION {
        return Err(crate::canonical::unknown_version("natural keys", version));
    }
    Ok(parse::parse(event)?.natural_key)
}

/// Collects the parts of one key. A part is its length as 4 bytes, big-endian, and its bytes.
#[derive(Debug)]
pub(crate) struct Key {
    bytes: Vec<u8>,
    timeless: bool,
}

impl Key {
    /// Begins the key of a kind of event.
    pub(crate) fn of_kind(kind: &str) -> Self {
        let mut key = Self {
            bytes: Vec::with_capacity(256),
            timeless: false,
        };
        key.text(HEADER_V1).text(kind);
        key
    }

    /// The key of an event that is the same fact as no other: its identity.
    pub(crate) fn of_identity(source: &str, id: &str) -> NaturalKey {
        let mut key = Self::of_kind("identity");
        key.text(source).text(id);
        key.digest()
    }

    /// Adds text, empty where it is absent.
    pub(crate) fn text(&mut self, part: &str) -> &mut Self {
        self.bytes(part.as_bytes())
    }

    /// Adds a number as 8 bytes, big-endian.
    pub(crate) fn number(&mut self, part: u64) -> &mut Self {
        self.bytes(&part.to_be_bytes())
    }

    /// Adds a moment as nanoseconds since 1970, 8 bytes, big-endian. Without one there is no natural key: the event
    /// falls back to its identity, because facts that only their time tells apart must not collapse.
    pub(crate) fn moment(&mut self, part: Option<Time>) -> &mut Self {
        self.timeless |= part.is_none();
        self.bytes(&part.unwrap_or_default().nanos().to_be_bytes())
    }

    /// Adds bytes.
    pub(crate) fn bytes(&mut self, part: &[u8]) -> &mut Self {
        let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(part);
        self
    }

    /// The key, or none where a moment is missing.
    pub(crate) fn finish(&self) -> Option<NaturalKey> {
        (!self.timeless).then(|| self.digest())
    }

    fn digest(&self) -> NaturalKey {
        Sha256::digest(&self.bytes).into()
    }
}
