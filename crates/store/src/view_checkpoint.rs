//! Checkpoints of views: state that is faster to read back than to fold again (LEDGER S7).
//!
//! Files beside sled that may be deleted at any time. They are not synced: what a crash leaves of one does not hold, and
//! is folded again. Layout in `README.md`.
use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    directory::{self, parent},
    fault::Fault,
    place::{hex, unhex},
    record::Hash,
};

/// 1: a line of JSON, then chunks.
const VERSION: u32 = 1;
/// Bytes before each chunk's body.
const CHUNK_HEADER_BYTES: usize = 12;
/// No chunk is larger, so that a damaged length asks for no memory.
const CHUNK_BYTES_MAX: usize = 16 << 20;
/// The first line is never longer.
const LINE_BYTES_MAX: usize = 4096;

/// What a checkpoint is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Version of the view's own layout.
    pub view_version: u32,
    /// Names the tree.
    pub ledger_id: String,
    /// Last position that was folded.
    pub position: u64,
    /// Root of the tree there: a checkpoint of another history does not fit.
    pub root: Hash,
}

/// The first line.
#[derive(Serialize, Deserialize)]
struct Line {
    version: u32,
    view_version: u32,
    ledger_id: String,
    position: u64,
    root: String,
}

/// Hands a state to a function, piece by piece.
pub type Fill<'a> = dyn FnMut(&mut dyn FnMut(&[u8])) + 'a;

/// Writes a checkpoint in the place of the one before.
///
/// # Errors
/// As the system says; then the one before stays.
pub fn write(path: &Path, stamp: &Stamp, fill: &mut Fill<'_>) -> Result<(), Fault> {
    directory::create(parent(path), directory::PRIVATE)?;
    let new = path.with_extension("new");
    let written = File::create(&new).and_then(|file| {
        let mut out = BufWriter::new(file);
        writeln!(out, "{}", line(stamp)?)?;
        let mut result = Ok(());
        fill(&mut |piece| {
            // An empty chunk says that there are no more.
            if result.is_ok() && !piece.is_empty() {
                result = write_chunk(&mut out, piece);
            }
        });
        result?;
        // An empty chunk ends the file, so that a cut one is known.
        write_chunk(&mut out, &[])?;
        out.flush()
    });
    let renamed = written
        .map_err(Fault::io("write", &new))
        .and_then(|()| fs::rename(&new, path).map_err(Fault::io("rename", &new)));
    if renamed.is_err() {
        // A full disk gets its room back; what cannot be removed is written over next time.
        drop(fs::remove_file(&new));
    }
    renamed
}

/// The stamp and the state of a checkpoint; `None` where there is none, or anything about it does not hold.
#[must_use]
pub fn read(path: &Path) -> Option<(Stamp, Vec<u8>)> {
    let bytes = fs::read(path).ok()?;
    let end = bytes
        .iter()
        .take(LINE_BYTES_MAX)
        .position(|byte| *byte == b'\n')?;
    let line: Line = serde_json::from_slice(&bytes[..end]).ok()?;
    if line.version != VERSION {
        return None;
    }
    let stamp = Stamp {
        view_version: line.view_version,
        ledger_id: line.ledger_id,
        position: line.position,
        root: unhex(&line.root)?,
    };
    Some((stamp, read_chunks(&bytes[end + 1..])?))
}

/// Removes the checkpoint, and what a crash left of one.
pub fn remove(path: &Path) {
    for path in [path.to_owned(), path.with_extension("new")] {
        drop(fs::remove_file(path));
    }
}

/// Where a data directory keeps the checkpoint of a view.
#[must_use]
pub fn path(dir: &Path, view: &str) -> PathBuf {
    dir.join("views").join(format!("{view}.checkpoint"))
}

fn line(stamp: &Stamp) -> io::Result<String> {
    Ok(serde_json::to_string(&Line {
        version: VERSION,
        view_version: stamp.view_version,
        ledger_id: stamp.ledger_id.clone(),
        position: stamp.position,
        root: hex(&stamp.root),
    })?)
}

fn write_chunk(out: &mut impl Write, piece: &[u8]) -> io::Result<()> {
    let packed = lz4_flex::block::compress(piece);
    let body = if packed.len() < piece.len() {
        packed.as_slice()
    } else {
        piece
    };
    for number in [body.len(), piece.len()] {
        let number = u32::try_from(number).map_err(io::Error::other)?;
        out.write_all(&number.to_le_bytes())?;
    }
    out.write_all(&crc32c::crc32c(body).to_le_bytes())?;
    out.write_all(body)
}

fn read_chunks(bytes: &[u8]) -> Option<Vec<u8>> {
    // Looked at once to know the size: a state of gigabytes is not to be moved as it grows.
    let mut size = 0;
    each_chunk(bytes, &mut |_, length| {
        size += length;
        Some(())
    })?;
    let mut state = Vec::with_capacity(size);
    each_chunk(bytes, &mut |body, length| {
        if body.len() == length {
            state.extend_from_slice(body);
            return Some(());
        }
        let start = state.len();
        state.resize(start + length, 0);
        let filled = lz4_flex::block::decompress_into(body, &mut state[start..]).ok()?;
        (filled == length).then_some(())
    })?;
    Some(state)
}

/// Visits the body of each chunk and its length when decompressed; `None` when anything does not hold.
fn each_chunk(mut bytes: &[u8], visit: &mut dyn FnMut(&[u8], usize) -> Option<()>) -> Option<()> {
    loop {
        let (header, rest) = bytes.split_first_chunk::<CHUNK_HEADER_BYTES>()?;
        let number = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let (packed, length) = (number(0) as usize, number(4) as usize);
        let (body, rest) = rest.split_at_checked(packed)?;
        if length > CHUNK_BYTES_MAX || crc32c::crc32c(body) != number(8) {
            return None;
        }
        if length == 0 {
            return rest.is_empty().then_some(());
        }
        visit(body, length)?;
        bytes = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp() -> Stamp {
        Stamp {
            view_version: 3,
            ledger_id: "ledger-1".to_owned(),
            position: 7,
            root: [9; 32],
        }
    }

    #[test]
    fn what_was_written_is_read_back_and_the_next_replaces_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = path(dir.path(), "facts");
        assert_eq!(read(&path), None);
        let noise: Vec<u8> = (0..5000_u32)
            .flat_map(|n| n.wrapping_mul(0x9E37_79B9).to_le_bytes())
            .collect();
        for pieces in [&[&b"abc"[..], &[], &[7; 100_000]][..], &[&noise], &[]] {
            write(&path, &stamp(), &mut |sink| {
                pieces.iter().for_each(|piece| sink(piece))
            })
            .unwrap();
            assert_eq!(read(&path), Some((stamp(), pieces.concat())));
        }
        remove(&path);
        assert_eq!(read(&path), None);
    }

    #[test]
    fn a_damaged_or_cut_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = path(dir.path(), "facts");
        write(&path, &stamp(), &mut |sink| {
            sink(b"some state");
            sink(&[1; 300]);
        })
        .unwrap();
        let whole = fs::read(&path).unwrap();
        let body = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for at in body..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (at % 8);
            fs::write(&path, damaged).unwrap();
            assert_eq!(read(&path), None, "byte {at} flipped");
        }
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(read(&path), None, "cut to {length}");
        }
    }

    #[test]
    fn one_that_cannot_be_written_leaves_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = path(dir.path(), "facts");
        write(&path, &stamp(), &mut |sink| sink(b"first")).unwrap();
        fs::create_dir(path.with_extension("new")).unwrap();
        assert!(write(&path, &stamp(), &mut |sink| sink(b"second")).is_err());
        assert_eq!(read(&path).unwrap().1, b"first");
    }
}
