//! Going through a segment, frame by frame; shared by starting and by reading.
use std::ops::Range;

use super::{
    Frame,
    frame::{self, FRAME_BYTES_MAX},
    segment::{Reason, Segment},
};
use crate::{
    fault::{Damage, Fault},
    record::{Pure, Tip},
};

/// What is wrong where a frame should begin.
pub(crate) const NO_FRAME: &str = "no whole frame begins here";

/// Where the last segment ends.
pub(crate) struct End {
    /// After its last whole frame.
    pub(crate) tip: Tip,
    /// Where that frame is, if the segment has any.
    pub(crate) last_frame: Option<Range<usize>>,
    /// What follows it: nothing, a torn write, or damage.
    pub(crate) tail: Result<Option<Range<usize>>, Damage>,
}

/// Finds the end of the last segment by checksums and positions alone.
pub(crate) fn end(segment: &Segment, bytes: &[u8]) -> End {
    let mut tip = segment.header.start();
    let mut last_frame = None;
    while let Some((header, _)) = frame::at(bytes, offset(&tip), segment.header.mark) {
        if header.first_position != tip.position + 1 {
            let tail = Err(misplaced(segment, &tip, header.first_position));
            return End {
                tip,
                last_frame,
                tail,
            };
        }
        last_frame = Some(offset(&tip)..offset(&tip) + header.frame_bytes());
        tip = header.tip(segment.header.number, offset(&tip));
    }
    let tail = torn(segment, bytes, &tip);
    End {
        tip,
        last_frame,
        tail,
    }
}

/// What follows the last whole frame: nothing, a torn tail, or damage (LEDGER J3).
pub(crate) fn torn(
    segment: &Segment,
    bytes: &[u8],
    tip: &Tip,
) -> Result<Option<Range<usize>>, Damage> {
    let start = offset(tip);
    let end = nonzero_end(bytes, start);
    if end == start {
        return Ok(None);
    }
    let first = tip.position + 1;
    if end - start > FRAME_BYTES_MAX {
        let what = format!(
            "no frame begins here, and what follows is longer than one torn write: {} bytes",
            end - start
        );
        return Err(segment.damage(start, first, None, what));
    }
    match frame::find(bytes, start..end, segment.header.mark) {
        Some((at, next)) => Err(segment.damage(
            start,
            first,
            next.first_position.checked_sub(1),
            format!("no whole frame begins here, but one follows at offset {at}"),
        )),
        None => Ok(Some(start..end)),
    }
}

/// Whether a frame ends exactly where the tip says, with its chain.
pub(crate) fn ends_at(segment: &Segment, bytes: &[u8], tip: &Tip) -> bool {
    let mut here = segment.header.start();
    while here.offset < tip.offset {
        let Some((header, _)) = frame::at(bytes, offset(&here), segment.header.mark) else {
            return false;
        };
        here = header.tip(segment.header.number, offset(&here));
    }
    here == *tip
}

/// Hands every frame from `tip` to where `end` says on, checked; gives the tip of the last.
pub(crate) fn visit(
    segment: &Segment,
    bytes: &[u8],
    mut tip: Tip,
    end: &Tip,
    pure: &Pure,
    visit: &mut dyn FnMut(Frame) -> Result<(), Fault>,
) -> Result<Tip, Fault> {
    let mut scratch = Vec::new();
    while tip.offset < end.offset {
        let start = offset(&tip);
        let Some((header, body)) = frame::at(bytes, start, segment.header.mark) else {
            return Err(lost(segment, bytes, &tip, end).into());
        };
        let next = header.tip(segment.header.number, start);
        let before = (tip.position, Some(&tip.chain));
        let frame = frame::open(&header, body, before, next.clone(), pure, &mut scratch).map_err(
            |what| segment.damage(start, tip.position + 1, Some(header.last_position()), what),
        )?;
        visit(frame)?;
        tip = next;
    }
    Ok(tip)
}

/// Damage where a whole frame should begin; it ends where the next whole frame begins, or else where `end` says.
fn lost(segment: &Segment, bytes: &[u8], tip: &Tip, end: &Tip) -> Damage {
    let start = offset(tip);
    let next = frame::find(
        bytes,
        start + 1..offset(end).min(bytes.len()),
        segment.header.mark,
    );
    let last = next.map_or(end.position, |(_, next)| next.first_position - 1);
    let last = Some(last).filter(|last| *last > tip.position);
    segment.damage(start, tip.position + 1, last, NO_FRAME)
}

/// Checks that a segment goes on where the one before it ends, and that it was entitled to.
pub(crate) fn continues(
    before: &Segment,
    bytes: &[u8],
    tip: &Tip,
    next: &Segment,
) -> Result<(), Damage> {
    let header = &next.header;
    if header.base != *tip {
        let what = format!(
            "this segment goes on after position {} at offset {} of segment {}, but the one before ends at position {}, \
             offset {}, or with another chain",
            header.base.position, header.base.offset, header.base.segment, tip.position, tip.offset
        );
        let first = header.base.position.min(tip.position) + 1;
        return Err(next.damage(0, first, None, what));
    }
    if header.ledger_id != before.header.ledger_id && header.reason != Reason::Renamed {
        let what = format!(
            "this segment is of ledger {}, the one before of {}",
            header.ledger_id, before.header.ledger_id
        );
        return Err(next.damage(0, tip.position + 1, None, what));
    }
    let unused = nonzero_end(bytes, offset(tip)) - offset(tip);
    if unused > 0 && header.reason != Reason::LeftBehind {
        let what = format!("{unused} bytes stand behind the last frame of a finished segment");
        return Err(before.damage(offset(tip), tip.position + 1, None, what));
    }
    Ok(())
}

fn misplaced(segment: &Segment, tip: &Tip, position: u64) -> Damage {
    let due = tip.position + 1;
    let what = format!("a frame begins at position {position} where {due} must follow");
    segment.damage(offset(tip), due.min(position), None, what)
}

/// Where the bytes from `start` on end, not counting zeros; `start` when there is nothing else.
fn nonzero_end(bytes: &[u8], start: usize) -> usize {
    const PAGE: [u8; 4096] = [0; 4096];
    let mut end = bytes.len();
    // In ever smaller pieces: comparing a page is many times faster than comparing its bytes.
    for piece in [PAGE.len(), 64, 1] {
        while end - start >= piece && bytes[end - piece..end] == PAGE[..piece] {
            end -= piece;
        }
    }
    end
}

/// Segments are far smaller than memory can address.
pub(crate) fn offset(tip: &Tip) -> usize {
    usize::try_from(tip.offset).unwrap_or(usize::MAX)
}
