//! A segment: one file of frames, allocated whole, that says in its header where the ledger stood when it was begun.
use std::{
    fs::{self, File, OpenOptions},
    hash::{BuildHasher, RandomState},
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FallocateFlags, SeekFrom, fallocate, seek},
    io::Errno,
};
use waybill_core::Time;

use super::frame::POSITION_MAX;
use crate::{
    directory,
    fault::{Damage, Fault},
    record::Tip,
};

/// Bytes before the first frame: a page of its own, so that writing frames never rewrites it.
pub(crate) const HEADER_BYTES: usize = 4096;
/// Largest segment that is read; a header that names more is not one of ours.
const SEGMENT_BYTES_MAX: u64 = 1 << 30;
const MAGIC: [u8; 8] = *b"WAYBILLJ";
/// 1: the header and frames of `README.md`.
const VERSION: u16 = 1;
const CRC_AT: usize = HEADER_BYTES - 4;
const LEDGER_ID_AT: usize = 98;
/// Longest ledger id that fits a header, in bytes.
pub(crate) const LEDGER_ID_BYTES_MAX: usize = 1024;

/// Why a segment was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The first, or the one before was full.
    Full,
    /// Writing to the one before failed; what follows its last durable frame was left behind (LEDGER J5).
    LeftBehind,
    /// The tree has a new ledger id from here on (LEDGER J4).
    Renamed,
}

/// What a segment says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) reason: Reason,
    pub(crate) number: u32,
    /// Bytes of the file.
    pub(crate) bytes: u64,
    /// What its frames begin with. Nobody can guess it, so bytes inside an event never pass for a frame, nor do frames of
    /// other segments.
    pub(crate) mark: [u8; 8],
    /// Where the segment before ends; position 0 of segment 0 for the first.
    pub(crate) base: Tip,
    pub(crate) ledger_id: String,
}

impl Header {
    /// A header with a mark of its own. A segment has room for its header, and is never larger than is read.
    pub(crate) fn new(reason: Reason, number: u32, bytes: u64, base: Tip, ledger_id: &str) -> Self {
        // The standard library seeds each state from the system's randomness.
        let mark = RandomState::new().hash_one(number).to_le_bytes();
        let bytes = bytes.clamp(HEADER_BYTES as u64, SEGMENT_BYTES_MAX);
        Self {
            reason,
            number,
            bytes,
            mark,
            base,
            ledger_id: ledger_id.to_owned(),
        }
    }

    /// Where the first frame begins.
    pub(crate) fn start(&self) -> Tip {
        Tip {
            segment: self.number,
            offset: HEADER_BYTES as u64,
            ..self.base.clone()
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let reason: u16 = match self.reason {
            Reason::Full => 0,
            Reason::LeftBehind => 1,
            Reason::Renamed => 2,
        };
        let id_bytes = u16::try_from(self.ledger_id.len()).unwrap_or(u16::MAX);
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&reason.to_le_bytes());
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&self.bytes.to_le_bytes());
        bytes.extend_from_slice(&self.mark);
        bytes.extend_from_slice(&self.base.position.to_le_bytes());
        bytes.extend_from_slice(&self.base.record_time.nanos().to_le_bytes());
        bytes.extend_from_slice(&self.base.chain);
        bytes.extend_from_slice(&u64::from(self.base.segment).to_le_bytes());
        bytes.extend_from_slice(&self.base.offset.to_le_bytes());
        bytes.extend_from_slice(&id_bytes.to_le_bytes());
        bytes.extend_from_slice(self.ledger_id.as_bytes());
        bytes.resize(CRC_AT, 0);
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    /// # Errors
    /// `Err(Some(version))` for a whole header of another version, `Err(None)` for anything else that is not a header.
    fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Self, Option<u16>> {
        let crc = u32::from_le_bytes(array(bytes, CRC_AT));
        if bytes[..8] != MAGIC || crc32c::crc32c(&bytes[..CRC_AT]) != crc {
            return Err(None);
        }
        let version = u16::from_le_bytes(array(bytes, 8));
        if version != VERSION {
            return Err(Some(version));
        }
        Self::parse_v1(bytes).ok_or(None)
    }

    fn parse_v1(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let id_bytes = usize::from(u16::from_le_bytes(array(bytes, LEDGER_ID_AT - 2)));
        if id_bytes > LEDGER_ID_BYTES_MAX {
            return None;
        }
        let position = u64::from_le_bytes(array(bytes, 32));
        if position > POSITION_MAX {
            return None;
        }
        let id = &bytes[LEDGER_ID_AT..LEDGER_ID_AT + id_bytes];
        Some(Self {
            reason: match u16::from_le_bytes(array(bytes, 10)) {
                0 => Reason::Full,
                1 => Reason::LeftBehind,
                2 => Reason::Renamed,
                _ => return None,
            },
            number: u32::from_le_bytes(array(bytes, 12)),
            bytes: u64::from_le_bytes(array(bytes, 16)),
            mark: array(bytes, 24),
            base: Tip {
                position,
                record_time: Time::from_nanos_clamped(i128::from(i64::from_le_bytes(array(
                    bytes, 40,
                )))),
                chain: array(bytes, 48),
                segment: u32::try_from(u64::from_le_bytes(array(bytes, 80))).ok()?,
                offset: u64::from_le_bytes(array(bytes, 88)),
            },
            ledger_id: std::str::from_utf8(id).ok()?.to_owned(),
        })
    }
}

/// An open segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    pub(crate) header: Header,
}

impl Segment {
    /// Begins a segment: allocated whole, synced under another name, then renamed, so that a segment that has its name
    /// always has its header. Takes the place of one of the same number.
    pub(crate) fn create(dir: &Path, header: Header) -> Result<Self, Fault> {
        let new = dir.join(unfinished_name(header.number));
        Self::create_as(dir, &new, header).inspect_err(|_| {
            // On a full disk, what was allocated of it would be missed.
            drop(fs::remove_file(&new));
        })
    }

    fn create_as(dir: &Path, new: &Path, header: Header) -> Result<Self, Fault> {
        let path = dir.join(name(header.number));
        let file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(new)
            .map_err(Fault::io("create", new))?;
        allocate(&file, header.bytes).map_err(Fault::io("allocate", new))?;
        file.write_all_at(&header.to_bytes(), 0)
            .map_err(Fault::io("write", new))?;
        file.sync_all().map_err(Fault::io("sync", new))?;
        fs::rename(new, &path).map_err(Fault::io("rename", new))?;
        directory::sync(dir)?;
        Ok(Self { path, file, header })
    }

    /// Opens a segment and checks its header and length. `due` is the first position that is lost when it is damaged.
    pub(crate) fn open(dir: &Path, number: u32, write: bool, due: u64) -> Result<Self, Fault> {
        let path = dir.join(name(number));
        let file = OpenOptions::new()
            .read(true)
            .write(write)
            .open(&path)
            .map_err(Fault::io("open", &path))?;
        let damage = |offset: u64, what: String| -> Fault {
            Damage {
                file: path.clone(),
                offset,
                first_position: due,
                last_position: None,
                what,
            }
            .into()
        };
        let length = file.metadata().map_err(Fault::io("read", &path))?.len();
        if length < HEADER_BYTES as u64 {
            return Err(damage(
                length,
                format!("{length} bytes hold no segment header"),
            ));
        }
        let mut bytes = [0; HEADER_BYTES];
        file.read_exact_at(&mut bytes, 0)
            .map_err(Fault::io("read", &path))?;
        let header = Header::parse(&bytes).map_err(|version| match version {
            Some(version) => Fault::Foreign {
                what: format!(
                    "{} has journal version {version}, this binary knows {VERSION}; use a newer one",
                    path.display()
                ),
            },
            None => damage(0, "the segment header is not what was written".to_owned()),
        })?;
        if header.number != number {
            return Err(damage(
                0,
                format!("the header is that of segment {}", header.number),
            ));
        }
        if header.bytes != length || length > SEGMENT_BYTES_MAX {
            let what = format!(
                "the file has {length} bytes where its header says {}",
                header.bytes
            );
            return Err(damage(length.min(header.bytes), what));
        }
        Ok(Self { path, file, header })
    }

    /// All bytes of the file that can be other than zero, from the first on, in `buffer`; whatever follows them is zeros.
    pub(crate) fn read(&self, buffer: &mut Vec<u8>) -> Result<(), Fault> {
        let length = usize::try_from(self.data_end()).unwrap_or(usize::MAX);
        if buffer.len() != length {
            *buffer = vec![0; length];
        }
        self.file
            .read_exact_at(buffer, 0)
            .map_err(Fault::io("read", &self.path))
    }

    /// Where the last bytes end that were ever written: a segment that was only just begun is allocated, but not read.
    fn data_end(&self) -> u64 {
        let mut end = 0;
        loop {
            let data = match seek(&self.file, SeekFrom::Data(end)) {
                Ok(data) => data,
                Err(Errno::NXIO) => return end.clamp(HEADER_BYTES as u64, self.header.bytes),
                Err(_) => return self.header.bytes,
            };
            end = match seek(&self.file, SeekFrom::Hole(data)) {
                Ok(hole) if hole > data => hole,
                // Where the file system does not know, it is all of it.
                Ok(_) | Err(_) => return self.header.bytes,
            };
        }
    }

    /// Damage of this segment.
    pub(crate) fn damage(
        &self,
        offset: usize,
        first: u64,
        last: Option<u64>,
        what: impl Into<String>,
    ) -> Damage {
        Damage {
            file: self.path.clone(),
            offset: offset as u64,
            first_position: first,
            last_position: last,
            what: what.into(),
        }
    }
}

/// Numbers of the segments in a directory, ascending; without those that were never finished.
pub(crate) fn list(dir: &Path) -> Result<Vec<u32>, Fault> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(Fault::io("list", dir))? {
        let entry = entry.map_err(Fault::io("list", dir))?;
        let number = entry
            .file_name()
            .to_str()
            .and_then(|name| name.strip_suffix(".segment")?.parse().ok());
        numbers.extend(number.filter(|&number| *entry.file_name() == *name(number)));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Whose journal is in a directory, by its last segment's header; `None` when there is no journal.
///
/// # Errors
/// [`Fault::Damage`] when that header is not what was written, [`Fault::Foreign`] for an unknown version.
pub fn ledger_id(dir: &Path) -> Result<Option<String>, Fault> {
    let last = list(dir)?.last().copied();
    last.map(|number| Ok(Segment::open(dir, number, false, 1)?.header.ledger_id))
        .transpose()
}

/// The id that the journal of a ledger goes on under, when whoever gave it one died before it could write that down
/// elsewhere (LEDGER J4); `None` in every other case. What is damaged, the start will find.
///
/// # Errors
/// As the system says.
pub(crate) fn renamed(dir: &Path, ledger_id: &str) -> Result<Option<String>, Fault> {
    let numbers = list(dir)?;
    let [.., before, last] = numbers[..] else {
        return Ok(None);
    };
    let header = |number| Some(Segment::open(dir, number, false, 1).ok()?.header);
    let (Some(before), Some(last)) = (header(before), header(last)) else {
        return Ok(None);
    };
    let renamed = last.reason == Reason::Renamed
        && before.ledger_id == ledger_id
        && last.ledger_id != ledger_id;
    Ok(renamed.then_some(last.ledger_id))
}

/// Removes what a crash left of segments that were never finished; nothing in them was ever counted.
pub(crate) fn remove_unfinished(dir: &Path) -> Result<(), Fault> {
    for entry in fs::read_dir(dir).map_err(Fault::io("list", dir))? {
        let path = entry.map_err(Fault::io("list", dir))?.path();
        if path.extension().is_some_and(|extension| extension == "new") {
            fs::remove_file(&path).map_err(Fault::io("remove", &path))?;
        }
    }
    Ok(())
}

pub(crate) fn name(number: u32) -> String {
    format!("{number:08}.segment")
}

fn unfinished_name(number: u32) -> String {
    format!("{number:08}.segment.new")
}

/// Reserves the file's blocks, so that a frame never needs new ones; writes zeros where the file system cannot.
fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Err(Errno::OPNOTSUPP) => {
            let mut out = file;
            io::copy(&mut io::repeat(0).take(bytes), &mut out).map(drop)
        }
        result => Ok(result?),
    }
}

fn array<const N: usize>(bytes: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    std::array::from_fn(|i| bytes[at + i])
}
