//! The journal: the plain, append-only file format that keeps the promise (LEDGER J1 to J5). It is the truth, the backup,
//! what is exported, and what a verifier reads; `README.md` describes its bytes.
//!
//! Reading order: `append` (writing), `frame` and `segment` (the bytes), `recover` (starting), `scan` and `walk` (what
//! every reading shares), `read` (looking without touching).

mod append;
mod frame;
mod read;
mod recover;
mod scan;
mod segment;
mod walk;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub use append::Journal;
pub(crate) use frame::{
    Encoder, HEADER_BYTES as FRAME_HEADER_BYTES, at as frame_at, open as open_frame, whole_bytes,
};
pub use frame::{FRAME_BYTES_MAX, FRAME_RAW_BYTES_MAX};
pub use read::{Summary, read};
pub use segment::ledger_id;
pub(crate) use segment::renamed;
pub(crate) use walk::walk;

use crate::record::{Hash, Record, Tip};

/// How a journal is written.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes of a new segment. One frame that needs more gets a segment of its own size.
    pub segment_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
        }
    }
}

/// One group commit, as read and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// In order of position; never empty.
    pub records: Vec<Record>,
    /// Leaf hash of each record.
    pub leaves: Vec<Hash>,
    /// Where the frame ends.
    pub tip: Tip,
}

/// What a start found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The write that a crash cut short, if any.
    pub torn: Option<TornTail>,
    /// Frames visited.
    pub frames: u64,
    /// Records visited.
    pub records: u64,
}

/// A write that a crash cut short: no receipt was given for it (LEDGER J3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// In which segment.
    pub segment: u32,
    /// Where in it, in bytes.
    pub offset: u64,
    /// Last position before it.
    pub last_position: u64,
    /// Where its bytes are kept now.
    pub kept_aside: PathBuf,
}
