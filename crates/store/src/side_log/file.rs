//! One file of the ring: a block with the counts so far, then a block for each entry.
use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use super::entry::{self, Entry};
use crate::{directory, fault::Fault};

/// Length and checksum before a block's bytes.
const BLOCK_HEADER_BYTES: usize = 8;
/// A block that claims to be longer is none.
const BLOCK_BYTES_MAX: usize = 1 << 20;

/// How many entries there were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) total: u64,
    pub(super) by_code: BTreeMap<String, u64>,
}

impl Counts {
    pub(super) fn add(&mut self, code: &str) {
        self.total += 1;
        match self.by_code.get_mut(code) {
            Some(count) => *count += 1,
            None => drop(self.by_code.insert(code.to_owned(), 1)),
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.total.to_le_bytes().to_vec();
        for (code, count) in &self.by_code {
            entry::put(&mut out, code.as_bytes());
            out.extend_from_slice(&count.to_le_bytes());
        }
        out
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (total, mut rest) = bytes.split_first_chunk::<8>()?;
        let total = u64::from_le_bytes(*total).min(u64::MAX >> 1);
        let mut by_code = BTreeMap::new();
        while !rest.is_empty() {
            let code = std::str::from_utf8(entry::take(&mut rest)?)
                .ok()?
                .to_owned();
            let (count, after) = rest.split_first_chunk::<8>()?;
            by_code.insert(code, u64::from_le_bytes(*count).min(u64::MAX >> 1));
            rest = after;
        }
        Some(Self { total, by_code })
    }
}

/// An open file of the ring.
#[derive(Debug)]
pub(super) struct Ring {
    path: PathBuf,
    number: u32,
    file: File,
    /// Counts before its first entry, and after its last.
    before: Counts,
    after: Counts,
    /// Where each entry's block begins.
    offsets: Vec<u64>,
    /// Where the next block goes. Whatever stands there is overwritten.
    end: u64,
}

impl Ring {
    /// Begins a file.
    pub(super) fn create(dir: &Path, number: u32, counts: &Counts) -> Result<Self, Fault> {
        let path = dir.join(name(number));
        let file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(Fault::io("create", &path))?;
        let block = block(&counts.to_bytes());
        file.write_all_at(&block, 0)
            .and_then(|()| file.sync_all())
            .map_err(Fault::io("write", &path))?;
        directory::sync(dir)?;
        let (before, after) = (counts.clone(), counts.clone());
        Ok(Self {
            path,
            number,
            file,
            before,
            after,
            offsets: Vec::new(),
            end: block.len() as u64,
        })
    }

    /// Opens a file and finds its entries; `before` is what the file before it counts up to, for a file whose own counts
    /// cannot be read.
    fn open(dir: &Path, number: u32, before: &Counts) -> Result<Self, Fault> {
        let path = dir.join(name(number));
        let bytes = fs::read(&path).map_err(Fault::io("read", &path))?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(Fault::io("open", &path))?;
        let counts =
            block_at(&bytes, 0).and_then(|(payload, end)| Some((Counts::parse(payload)?, end)));
        let Some((before, mut end)) = counts else {
            // A crash as it was begun, or damage: it is begun again.
            return Self::create(dir, number, before);
        };
        let (mut after, mut offsets) = (before.clone(), Vec::new());
        while let Some((payload, next)) = block_at(&bytes, end) {
            let Some(entry) = entry::decode(payload) else {
                break;
            };
            after.add(&entry.code);
            offsets.push(end as u64);
            end = next;
        }
        Ok(Self {
            path,
            number,
            file,
            before,
            after,
            offsets,
            end: end as u64,
        })
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }

    pub(super) fn bytes(&self) -> u64 {
        self.end
    }

    pub(super) fn counts_after(&self) -> Counts {
        self.after.clone()
    }

    pub(super) fn append(&mut self, entry: &Entry) -> Result<(), Fault> {
        let block = block(&entry::encode(entry));
        self.file
            .write_all_at(&block, self.end)
            .map_err(Fault::io("write", &self.path))?;
        self.offsets.push(self.end);
        self.end += block.len() as u64;
        self.after.add(&entry.code);
        Ok(())
    }

    pub(super) fn sync(&self) -> Result<(), Fault> {
        self.file.sync_data().map_err(Fault::io("sync", &self.path))
    }

    /// Collects entries numbered below `before`, newest first, at most `limit`.
    pub(super) fn newest(
        &self,
        before: u64,
        limit: usize,
        entries: &mut Vec<Entry>,
    ) -> Result<(), Fault> {
        let first = self.before.total + 1;
        let count = usize::try_from(before.saturating_sub(first))
            .unwrap_or(usize::MAX)
            .min(self.offsets.len());
        for index in (0..count).rev().take(limit) {
            let start = self.offsets[index];
            let end = self.offsets.get(index + 1).copied().unwrap_or(self.end);
            let mut bytes = vec![0; usize::try_from(end - start).unwrap_or(0)];
            self.file
                .read_exact_at(&mut bytes, start)
                .map_err(Fault::io("read", &self.path))?;
            entries.extend(block_at(&bytes, 0).and_then(|(payload, _)| entry::decode(payload)));
        }
        Ok(())
    }

    pub(super) fn remove(self) -> Result<(), Fault> {
        fs::remove_file(&self.path).map_err(Fault::io("remove", &self.path))
    }
}

/// Opens all files of the ring, oldest first.
pub(super) fn open_all(dir: &Path) -> Result<Vec<Ring>, Fault> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(Fault::io("list", dir))? {
        let entry = entry.map_err(Fault::io("list", dir))?;
        let number = entry
            .file_name()
            .to_str()
            .and_then(|name| name.strip_suffix(".refusals")?.parse().ok());
        numbers.extend(number.filter(|&number| *entry.file_name() == *name(number)));
    }
    numbers.sort_unstable();
    let mut files = Vec::with_capacity(numbers.len());
    let mut counts = Counts::default();
    for number in numbers {
        let file = Ring::open(dir, number, &counts)?;
        counts = file.counts_after();
        files.push(file);
    }
    Ok(files)
}

fn name(number: u32) -> String {
    format!("{number:08}.refusals")
}

/// Length, checksum over length and payload, payload.
fn block(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .expect("an entry is a few KiB")
        .to_le_bytes();
    let crc = crc32c::crc32c_append(crc32c::crc32c(&length), payload);
    [&length, &crc.to_le_bytes(), payload].concat()
}

/// The payload of the block at `offset`, and where the next one begins.
fn block_at(bytes: &[u8], offset: usize) -> Option<(&[u8], usize)> {
    let (length, rest) = bytes.get(offset..)?.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let payload = rest.get(..usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    let sound = payload.len() <= BLOCK_BYTES_MAX
        && crc32c::crc32c_append(crc32c::crc32c(length), payload) == u32::from_le_bytes(*crc);
    sound.then_some((payload, offset + BLOCK_HEADER_BYTES + payload.len()))
}
