//! The files: which events wait, in which order, and how far they were sent.
use std::{
    collections::VecDeque,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::{
    OutboxError,
    frame::{FILE_START, frame, payloads},
};

/// A file that has grown beyond this is followed by the next, so that what was sent can be removed.
const FILE_BYTES: u64 = 1 << 20;

/// Bytes that stand where a frame should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// Where they were found.
    pub path: PathBuf,
    /// From which offset on.
    pub offset: u64,
    /// How many.
    pub bytes: u64,
    /// Where they are kept; `None` where they were all zero.
    pub kept: Option<PathBuf>,
}

/// How far events were answered: everything in the oldest file up to an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    number: u64,
    offset: u64,
}

#[derive(Debug)]
pub(super) struct Queue {
    directory: PathBuf,
    _lock: File,
    limit: u64,
    /// Oldest first.
    files: VecDeque<EventFile>,
    /// The newest of `files`, while it may grow.
    writer: Option<File>,
    number_next: u64,
    pub(super) refused_bytes: u64,
    torn: Vec<Torn>,
}

#[derive(Debug)]
struct EventFile {
    number: u64,
    path: PathBuf,
    /// Where the last whole frame ends.
    end: u64,
    /// Up to where its events were answered.
    sent: u64,
    waiting: u64,
}

impl Queue {
    pub(super) fn open(directory: &Path, limit: u64) -> Result<Self, OutboxError> {
        // What waits in it is nobody else's to read.
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(disk("make", directory))?;
        let lock = take_lock(directory)?;
        let mut queue = Self {
            directory: directory.to_owned(),
            _lock: lock,
            limit,
            files: VecDeque::new(),
            writer: None,
            number_next: 1,
            refused_bytes: 0,
            torn: Vec::new(),
        };
        let sent = queue.read_mark();
        let (numbers, last) = numbers(directory)?;
        // A number is never used again: a mark that outlived its file must not be taken for another's.
        queue.number_next = last.max(sent.map_or(0, |mark| mark.number)) + 1;
        for number in numbers {
            queue.open_file(number, sent)?;
        }
        queue.open_refused()?;
        Ok(queue)
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn torn(&self) -> &[Torn] {
        &self.torn
    }

    pub(super) fn waiting(&self) -> u64 {
        self.files.iter().map(|file| file.waiting).sum()
    }

    /// Appends one event and syncs it.
    pub(super) fn put(&mut self, event: &[u8]) -> Result<(), OutboxError> {
        let held = self.held();
        let full = || OutboxError::Full {
            held,
            limit: self.limit,
        };
        let bytes = frame(event).ok_or_else(full)?;
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        // A file that is begun for it takes a little more.
        let start = u64::try_from(FILE_START.len()).unwrap_or(u64::MAX);
        if held.saturating_add(length).saturating_add(start) > self.limit {
            return Err(full());
        }
        if self.files.back().is_none_or(|file| file.end >= FILE_BYTES) {
            self.writer = None;
        }
        if self.writer.is_none() {
            self.begin_file()?;
        }
        let (Some(writer), Some(file)) = (&mut self.writer, self.files.back_mut()) else {
            return Ok(());
        };
        if let Err(source) = writer.write_all(&bytes).and_then(|()| writer.sync_data()) {
            // Whatever is in this file now is read again when the outbox is opened; nothing more is added to it.
            let path = file.path.clone();
            self.writer = None;
            return Err(OutboxError::Disk {
                action: "write",
                path,
                source,
            });
        }
        file.end += length;
        file.waiting += 1;
        Ok(())
    }

    /// Events of the oldest file that were not answered, each with the mark that it leaves when it is.
    pub(super) fn oldest(&mut self) -> Result<(Vec<Bytes>, Vec<Mark>), OutboxError> {
        while let Some(file) = self.files.front_mut() {
            let mut bytes = fs::read(&file.path).map_err(disk("read", &file.path))?;
            bytes.truncate(usize::try_from(file.end).unwrap_or(usize::MAX));
            let bytes = Bytes::from(bytes);
            let from = usize::try_from(file.sent).unwrap_or(usize::MAX);
            let ranges: Vec<_> = payloads(&bytes, from).collect();
            let readable = ranges.last().map_or(file.sent, |range| offset(range.end));
            if readable < file.end {
                // Went bad while the outbox was open.
                let path = file.path.clone();
                (file.end, file.waiting) =
                    (readable, u64::try_from(ranges.len()).unwrap_or(u64::MAX));
                self.writer = self.writer.take().filter(|_| self.files.len() > 1);
                self.set_aside(&path, readable)?;
                continue;
            }
            if ranges.is_empty() {
                self.remove_oldest()?;
                continue;
            }
            let number = file.number;
            let marks = ranges.iter().map(|range| Mark {
                number,
                offset: offset(range.end),
            });
            let marks = marks.collect();
            let events = ranges.into_iter().map(|range| bytes.slice(range)).collect();
            return Ok((events, marks));
        }
        Ok((Vec::new(), Vec::new()))
    }

    /// Forgets the events up to a mark, which were answered.
    pub(super) fn advance(&mut self, mark: Mark, answered: u64) -> Result<(), OutboxError> {
        let Some(file) = self
            .files
            .front_mut()
            .filter(|file| file.number == mark.number)
        else {
            return Ok(());
        };
        file.waiting = file.waiting.saturating_sub(answered);
        file.sent = mark.offset;
        if file.sent >= file.end {
            self.remove_oldest()
        } else {
            self.write_mark(mark)
        }
    }

    /// Copies bytes that are no frame aside, and cuts them off.
    pub(super) fn set_aside(&mut self, path: &Path, offset: u64) -> Result<(), OutboxError> {
        let bytes = fs::read(path).map_err(disk("read", path))?;
        let rest = bytes
            .get(usize::try_from(offset).unwrap_or(usize::MAX)..)
            .unwrap_or(&[]);
        let kept = rest
            .iter()
            .any(|byte| *byte != 0)
            .then(|| path.with_extension(format!("torn-{offset}")));
        if let Some(kept) = &kept {
            write_whole(kept, rest)?;
        }
        let file = OpenOptions::new()
            .write(true)
            .open(path)
            .map_err(disk("open", path))?;
        file.set_len(offset)
            .and_then(|()| file.sync_all())
            .map_err(disk("cut", path))?;
        let (path, bytes) = (
            path.to_owned(),
            u64::try_from(rest.len()).unwrap_or(u64::MAX),
        );
        self.torn.push(Torn {
            path,
            offset,
            bytes,
            kept,
        });
        Ok(())
    }

    fn held(&self) -> u64 {
        self.files.iter().map(|file| file.end).sum::<u64>() + self.refused_bytes
    }

    fn open_file(&mut self, number: u64, sent: Option<Mark>) -> Result<(), OutboxError> {
        let path = path_of(&self.directory, number);
        let bytes = fs::read(&path).map_err(disk("read", &path))?;
        let start = FILE_START.len();
        let ranges: Vec<_> = if bytes.starts_with(&FILE_START) {
            payloads(&bytes, start).collect()
        } else {
            Vec::new()
        };
        let end = ranges.last().map_or(start, |range| range.end);
        if !bytes.starts_with(&FILE_START) {
            self.set_aside(&path, 0)?;
            return fs::remove_file(&path).map_err(disk("remove", &path));
        }
        if end < bytes.len() {
            self.set_aside(&path, offset(end))?;
        }
        // A mark that does not lie between two frames is not one of this file.
        let sent = sent
            .filter(|mark| mark.number == number)
            .filter(|mark| ranges.iter().any(|range| offset(range.end) == mark.offset))
            .map_or(offset(start), |mark| mark.offset);
        let waiting = ranges
            .iter()
            .filter(|range| offset(range.start) > sent)
            .count();
        let waiting = u64::try_from(waiting).unwrap_or(u64::MAX);
        self.files.push_back(EventFile {
            number,
            path,
            end: offset(end),
            sent,
            waiting,
        });
        Ok(())
    }

    fn begin_file(&mut self) -> Result<(), OutboxError> {
        let number = self.number_next;
        let path = path_of(&self.directory, number);
        self.number_next += 1;
        write_whole(&path, &FILE_START)?;
        sync_directory(&self.directory)?;
        let writer = OpenOptions::new()
            .append(true)
            .open(&path)
            .map_err(disk("open", &path))?;
        let start = offset(FILE_START.len());
        self.files.push_back(EventFile {
            number,
            path,
            end: start,
            sent: start,
            waiting: 0,
        });
        self.writer = Some(writer);
        Ok(())
    }

    fn remove_oldest(&mut self) -> Result<(), OutboxError> {
        if self.files.len() == 1 {
            self.writer = None;
        }
        if let Some(file) = self.files.pop_front() {
            fs::remove_file(&file.path).map_err(disk("remove", &file.path))?;
        }
        Ok(())
    }

    fn read_mark(&self) -> Option<Mark> {
        let text = fs::read_to_string(self.directory.join("sent")).ok()?;
        let (mark, checked) = text.trim_end().rsplit_once(' ')?;
        let (number, offset) = mark.split_once(' ')?;
        let right = checked == format!("{:08x}", crc32c::crc32c(mark.as_bytes()));
        let mark = Mark {
            number: number.parse().ok()?,
            offset: offset.parse().ok()?,
        };
        right.then_some(mark)
    }

    /// Not synced: an old mark sends events again, which changes nothing.
    fn write_mark(&self, mark: Mark) -> Result<(), OutboxError> {
        let text = format!("{} {}", mark.number, mark.offset);
        let text = format!("{text} {:08x}\n", crc32c::crc32c(text.as_bytes()));
        let (path, new) = (self.directory.join("sent"), self.directory.join("sent.new"));
        fs::write(&new, text).map_err(disk("write", &new))?;
        fs::rename(&new, &path).map_err(disk("replace", &path))
    }
}

pub(super) fn disk(action: &'static str, path: &Path) -> impl Fn(io::Error) -> OutboxError + use<> {
    let path = path.to_owned();
    move |source| OutboxError::Disk {
        action,
        path: path.clone(),
        source,
    }
}

/// Writes a file and syncs it; its name is synced with the directory.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), OutboxError> {
    let written = File::create(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(disk("write", path))
}

pub(super) fn sync_directory(directory: &Path) -> Result<(), OutboxError> {
    File::open(directory)
        .and_then(|file| file.sync_all())
        .map_err(disk("sync", directory))
}

/// Length of a file on this machine, which fits.
pub(super) fn offset(at: usize) -> u64 {
    u64::try_from(at).unwrap_or(u64::MAX)
}

fn take_lock(directory: &Path) -> Result<File, OutboxError> {
    let path = directory.join("lock");
    let lock = File::create(&path).map_err(disk("open", &path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OutboxError::Locked {
            directory: directory.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(disk("lock", &path)(source)),
    }
}

fn path_of(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:010}.events"))
}

/// Numbers of the event files, lowest first, and the highest that any file has or had.
fn numbers(directory: &Path) -> Result<(Vec<u64>, u64), OutboxError> {
    let (mut numbers, mut last) = (Vec::new(), 0);
    for entry in fs::read_dir(directory).map_err(disk("read", directory))? {
        let path = PathBuf::from(entry.map_err(disk("read", directory))?.file_name());
        let number = path
            .file_stem()
            .and_then(|stem| stem.to_str()?.parse::<u64>().ok());
        let Some(number) = number.filter(|number| *number < u64::MAX) else {
            continue;
        };
        last = last.max(number);
        if path.extension().is_some_and(|it| it == "events") {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok((numbers, last))
}
