//! A ledger in one file, to carry away: written, read and restored. `README.md` describes its bytes.
//!
//! The header says where the ledger stood, the frames are those of the journal, the footer counts them and seals all of it
//! with a SHA-256. So an export that is short, changed or of another ledger is refused, by name and offset.

mod format;
mod reader;
mod restore;

#[cfg(test)]
mod tests;

use std::{io::Write, path::Path};

use sha2::{Digest, Sha256};

pub use format::begins;
pub use reader::read;
pub use restore::{Restored, restore};

use crate::{
    fault::Fault,
    journal::{self, Encoder},
    record::{Hash, Pure, Tip},
};
use format::{Footer, Header};

/// What an export holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Names the tree.
    pub ledger_id: String,
    /// Last position.
    pub position: u64,
    /// Root of the tree there, as the header claims: whoever knows the leaves compares.
    pub root: Hash,
    /// Chain of the journal there; checked.
    pub chain: Hash,
    /// Group commits.
    pub frames: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Writes everything up to `end` of the journal in `dir`, checked on the way; `root` is the tree's root there.
///
/// Only what stands before `end` is read, so a journal that is being written to can be exported.
///
/// # Errors
/// [`Fault::Damage`] when the journal is not what was written, [`Fault::Suspect`] when `end` is not a frame's end,
/// [`Fault::Foreign`] for an unknown version, and [`Fault::Io`] for `out`, which is then named `name`.
pub fn export(
    dir: &Path,
    end: &Tip,
    root: &Hash,
    pure: &Pure,
    out: &mut dyn Write,
    name: &Path,
) -> Result<Contents, Fault> {
    let ledger_id = journal::ledger_id(dir)?.ok_or_else(|| Fault::Foreign {
        what: format!("{} holds no journal", dir.display()),
    })?;
    let header = Header::new(ledger_id, end, root);
    let mut sealed = Sealed {
        out,
        name,
        hash: Sha256::new(),
        bytes: 0,
    };
    sealed.put(&header.to_bytes())?;
    let (mut encoder, mut chain) = (Encoder::default(), [0; 32]);
    let mut footer = Footer {
        position: end.position,
        ..Footer::default()
    };
    journal::walk(dir, None, end, pure, &mut |frame| {
        encoder
            .encode(&chain, &frame.records, &frame.leaves)
            .map_err(|bytes| Fault::TooLarge {
                what: "a group commit",
                bytes,
                limit: journal::FRAME_RAW_BYTES_MAX,
            })?;
        sealed.put(encoder.sealed(header.mark).1)?;
        chain = frame.tip.chain;
        footer.frames += 1;
        footer.records += frame.records.len() as u64;
        Ok(())
    })?;
    footer.bytes = sealed.bytes;
    footer.hash = sealed.hash.clone().finalize().into();
    sealed.put(&footer.to_bytes())?;
    sealed.out.flush().map_err(Fault::io("write", name))?;
    Ok(header.contents(&footer))
}

/// Where an export goes, with everything that went there hashed.
struct Sealed<'a> {
    out: &'a mut dyn Write,
    name: &'a Path,
    hash: Sha256,
    bytes: u64,
}

impl Sealed<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        self.out
            .write_all(bytes)
            .map_err(Fault::io("write", self.name))
    }
}
