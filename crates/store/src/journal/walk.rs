//! Going through all segments from one tip to another.
use std::path::Path;

use waybill_core::Time;

use super::{Frame, scan, segment::Segment};
use crate::{
    fault::Fault,
    record::{Pure, Tip},
};

/// Hands on, checked, every frame from `from`, or from the beginning, to the tip `end`.
///
/// # Errors
/// The first damage; [`Fault::Suspect`] when no frame of this journal ends at `from`; whatever `visit` fails with.
pub(crate) fn walk(
    dir: &Path,
    from: Option<&Tip>,
    end: &Tip,
    pure: &Pure,
    visit: &mut dyn FnMut(Frame) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let last = end.segment;
    let mut bytes = Vec::new();
    let from = from.filter(|tip| tip.position > 0);
    let first = from.map_or(1, |tip| tip.segment);
    if let Some(tip) = from.filter(|tip| !(1..=last).contains(&tip.segment)) {
        return Err(not_of_this_journal(tip));
    }
    let mut segment = Segment::open(dir, first, false, from.map_or(1, |tip| tip.position + 1))?;
    segment.read(&mut bytes)?;
    let mut tip = start(from, &segment, &bytes)?;
    while segment.header.number < last {
        let next = Segment::open(dir, segment.header.number + 1, false, tip.position + 1)?;
        if let Some(from) =
            from.filter(|from| **from == tip && next.header.base.offset < tip.offset)
        {
            return Err(not_of_this_journal(from));
        }
        tip = scan::visit(&segment, &bytes, tip, &next.header.base, pure, visit)?;
        scan::continues(&segment, &bytes, &tip, &next)?;
        tip = next.header.start();
        segment = next;
        segment.read(&mut bytes)?;
    }
    let tip = scan::visit(&segment, &bytes, tip, end, pure, visit)?;
    match tip == *end {
        true => Ok(()),
        false => Err(not_of_this_journal(end)),
    }
}

fn start(from: Option<&Tip>, segment: &Segment, bytes: &[u8]) -> Result<Tip, Fault> {
    match from {
        Some(tip) if scan::ends_at(segment, bytes, tip) => Ok(tip.clone()),
        Some(tip) => Err(not_of_this_journal(tip)),
        None if segment.header.base == beginning() => Ok(segment.header.start()),
        None => Err(segment.damage(0, 1, None, NOT_THE_BEGINNING).into()),
    }
}

pub(super) fn not_of_this_journal(tip: &Tip) -> Fault {
    Fault::Suspect {
        why: format!(
            "no frame of this journal ends at position {} in segment {} at offset {} with the chain it names",
            tip.position, tip.segment, tip.offset
        ),
    }
}

/// What is wrong with a first segment that goes on from another.
pub(super) const NOT_THE_BEGINNING: &str = "the first segment does not begin at the beginning";

/// What the first segment's header names as the end before it.
pub(super) fn beginning() -> Tip {
    Tip {
        position: 0,
        record_time: Time::default(),
        chain: [0; 32],
        segment: 0,
        offset: 0,
    }
}
