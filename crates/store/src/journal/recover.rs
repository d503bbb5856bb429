//! Starting: find the end, make sure that it is durable, check everything from a given tip on (LEDGER J3, J5).
use std::{
    fs::{self, File},
    io::{self, Write},
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use super::{
    Frame, Journal, Options, Recovery, TornTail,
    append::check_ledger_id,
    frame::Encoder,
    scan::{self, End},
    segment::{self, Reason, Segment},
    walk::{beginning, not_of_this_journal, walk},
};
use crate::{
    directory,
    fault::{Damage, Fault},
    record::{Pure, Tip},
};

impl Journal {
    /// Opens the journal in `dir`, or begins one where there is none.
    ///
    /// Visits every frame after `from`, or every frame, checked against its checksum, its leaves and the chain. Segments
    /// before `from` are not opened. Nothing is visited before it is durable, and nothing is changed before everything has
    /// been checked. Where there is damage, what stands before it is visited first, so that it can still be read; damage
    /// before `from` is told as such, for then nothing here speaks against whoever keeps that tip.
    ///
    /// `known_position` is the highest position that anything else knows (the head file, a peer, a stream); 0 for none.
    ///
    /// # Errors
    /// - [`Fault::Suspect`] when no frame of this journal ends at `from`: whoever keeps that tip must be rebuilt.
    /// - [`Fault::Damage`] when bytes are not what was written, or the journal ends before `known_position`.
    /// - [`Fault::Foreign`] when it is another ledger's, or of a version that this binary does not know.
    /// - whatever `visit` fails with.
    pub fn recover(
        dir: &Path,
        ledger_id: &str,
        options: &Options,
        pure: &Pure,
        from: Option<&Tip>,
        known_position: u64,
        visit: &mut dyn FnMut(Frame) -> Result<(), Fault>,
    ) -> Result<(Self, Recovery), Fault> {
        check_ledger_id(ledger_id)?;
        let numbers = numbers(dir)?;
        let Some(&last) = numbers.last() else {
            refuse_empty(dir, from, known_position)?;
            return Self::begin_first(dir, ledger_id, options);
        };
        let segment = Segment::open(dir, last, true, from.map_or(1, |tip| tip.position + 1))?;
        check_owner(&segment, ledger_id)?;
        let mut bytes = Vec::new();
        segment.read(&mut bytes)?;
        let end = scan::end(&segment, &bytes);
        if let (Err(damage), Some(from)) = (&end.tail, from)
            && from.segment == last
            && from.position > end.tip.position
        {
            return Err(damage.clone().into());
        }
        settle(dir, &segment, &bytes, &end)?;

        let mut recovery = Recovery::default();
        let mut counted = |frame: Frame| {
            recovery.frames += 1;
            recovery.records += frame.records.len() as u64;
            visit(frame)
        };
        walk(dir, from, &end.tip, pure, &mut counted)?;

        let torn = end.tail?;
        refuse_short(&segment, &end.tip, known_position)?;
        if let Some(torn) = torn {
            recovery.torn = Some(set_aside(dir, &segment, torn, &bytes, end.tip.position)?);
        }
        segment::remove_unfinished(dir)?;
        let sealed_bytes = sealed_bytes(dir, &numbers)?;
        let journal = Self {
            dir: dir.to_owned(),
            options: *options,
            segment,
            tip: end.tip,
            sealed_bytes,
            stopped: None,
            encoder: Encoder::default(),
        };
        Ok((journal, recovery))
    }

    /// Begins a journal in a directory that has none.
    pub(crate) fn begin_first(
        dir: &Path,
        ledger_id: &str,
        options: &Options,
    ) -> Result<(Self, Recovery), Fault> {
        segment::remove_unfinished(dir)?;
        let header = segment::Header::new(
            Reason::Full,
            1,
            options.segment_bytes,
            beginning(),
            ledger_id,
        );
        let segment = Segment::create(dir, header)?;
        let journal = Self {
            dir: dir.to_owned(),
            options: *options,
            tip: segment.header.start(),
            segment,
            sealed_bytes: 0,
            stopped: None,
            encoder: Encoder::default(),
        };
        Ok((journal, Recovery::default()))
    }
}

/// The numbers of the segments; they must run from 1.
fn numbers(dir: &Path) -> Result<Vec<u32>, Fault> {
    directory::create(dir, directory::PRIVATE)?;
    let numbers = segment::list(dir)?;
    match numbers.iter().zip(1..).find(|(number, due)| *number != due) {
        None => Ok(numbers),
        Some((_, missing)) => Err(missing_segment(dir, missing, 1).into()),
    }
}

/// Damage: a segment's file is not there.
pub(super) fn missing_segment(dir: &Path, number: u32, first_position: u64) -> Damage {
    Damage {
        file: dir.join(segment::name(number)),
        offset: 0,
        first_position,
        last_position: None,
        what: "the segment is missing".to_owned(),
    }
}

fn refuse_empty(dir: &Path, from: Option<&Tip>, known_position: u64) -> Result<(), Fault> {
    if known_position > 0 {
        return Err(Damage {
            last_position: Some(known_position),
            what: format!("there is no journal, but position {known_position} is known"),
            ..missing_segment(dir, 1, 1)
        }
        .into());
    }
    match from {
        Some(tip) if tip.position > 0 => Err(not_of_this_journal(tip)),
        _ => Ok(()),
    }
}

fn check_owner(segment: &Segment, ledger_id: &str) -> Result<(), Fault> {
    if segment.header.ledger_id == ledger_id {
        return Ok(());
    }
    Err(Fault::Foreign {
        what: format!(
            "{} is of ledger {}, not of {ledger_id}",
            segment.path.display(),
            segment.header.ledger_id
        ),
    })
}

fn refuse_short(segment: &Segment, tip: &Tip, known_position: u64) -> Result<(), Fault> {
    if tip.position >= known_position {
        return Ok(());
    }
    let what = format!(
        "the journal ends at position {}, but position {known_position} is known; restore the rest from an export or a copy",
        tip.position
    );
    Err(segment
        .damage(
            scan::offset(tip),
            tip.position + 1,
            Some(known_position),
            what,
        )
        .into())
}

/// Makes durable what is about to count, the directory's entries included: a process may have been killed between the
/// rename of a segment and the sync of its directory.
///
/// The last frame is written again as it is, unless it has damage behind it: after a failed sync the system may call pages clean that never reached the
/// disk, and only a write makes it try again (Rebello et al., "Can applications recover from fsync failures?", 2020).
fn settle(dir: &Path, segment: &Segment, bytes: &[u8], end: &End) -> Result<(), Fault> {
    directory::sync(dir)?;
    if let (Some(frame), Ok(_)) = (end.last_frame.clone(), &end.tail) {
        let offset = frame.start as u64;
        segment
            .file
            .write_all_at(&bytes[frame], offset)
            .map_err(Fault::io("write", &segment.path))?;
    }
    segment
        .file
        .sync_data()
        .map_err(Fault::io("sync", &segment.path))
}

/// Keeps a copy of a torn tail, then zeroes it; each step is durable before the next.
fn set_aside(
    dir: &Path,
    segment: &Segment,
    torn: Range<usize>,
    bytes: &[u8],
    last_position: u64,
) -> Result<TornTail, Fault> {
    let offset = torn.start as u64;
    let (kept_aside, mut copy) = create_aside(dir, segment.header.number, offset)?;
    copy.write_all(&bytes[torn.clone()])
        .map_err(Fault::io("write", &kept_aside))?;
    copy.sync_all().map_err(Fault::io("sync", &kept_aside))?;
    directory::sync(dir)?;
    segment
        .file
        .write_all_at(&vec![0; torn.len()], offset)
        .map_err(Fault::io("write", &segment.path))?;
    segment
        .file
        .sync_data()
        .map_err(Fault::io("sync", &segment.path))?;
    Ok(TornTail {
        segment: segment.header.number,
        offset,
        last_position,
        kept_aside,
    })
}

/// A file that is not there yet: what was kept aside before stays.
fn create_aside(dir: &Path, segment: u32, offset: u64) -> Result<(PathBuf, File), Fault> {
    let mut path = dir.join(format!("{segment:08}-{offset}.torn"));
    let mut again = 1;
    loop {
        match File::create_new(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                again += 1;
                path = dir.join(format!("{segment:08}-{offset}-{again}.torn"));
            }
            Err(error) => return Err(Fault::io("create", &path)(error)),
        }
    }
}

/// Bytes of all segments but the last.
fn sealed_bytes(dir: &Path, numbers: &[u32]) -> Result<u64, Fault> {
    let sealed = &numbers[..numbers.len().saturating_sub(1)];
    sealed
        .iter()
        .map(|&number| dir.join(segment::name(number)))
        .map(|path| {
            fs::metadata(&path)
                .map(|metadata| metadata.len())
                .map_err(Fault::io("read", &path))
        })
        .sum()
}
