//! Looking without touching: what `verify` and `export` read, damage or not.
use std::path::Path;

use super::{
    Frame, frame,
    recover::missing_segment,
    scan,
    segment::{self, Segment},
    walk::{NOT_THE_BEGINNING, beginning},
};
use crate::{
    fault::{Damage, Fault},
    record::{Hash, Pure, Tip},
};

/// What a reading of the whole journal found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Whose journal it is; empty when not one segment could be read.
    pub ledger_id: String,
    /// Segment files.
    pub segments: u32,
    /// Whole frames.
    pub frames: u64,
    /// Records in them.
    pub records: u64,
    /// End of the last whole frame.
    pub tip: Tip,
    /// Whether a torn write follows it (LEDGER J3): no receipt was given for that, and the next start sets it aside.
    pub torn: bool,
    /// Everything that is not what was written, in the order it was met. Empty for a sound journal.
    pub damages: Vec<Damage>,
}

/// Reads a journal from beginning to end and checks everything, without changing a byte.
///
/// Goes on behind damage as far as it can: what is visited then begins at a later position than the visit before ended.
/// The caller compares [`Summary::tip`] with what else is known of the ledger: a journal that was cut at the end of a frame
/// does not show it (LEDGER J4).
///
/// # Errors
/// As the system says, [`Fault::Foreign`] for another ledger's journal or an unknown version, and whatever `visit` fails
/// with. Damage is no error here.
pub fn read(
    dir: &Path,
    ledger_id: Option<&str>,
    pure: &Pure,
    visit: &mut dyn FnMut(Frame) -> Result<(), Fault>,
) -> Result<Summary, Fault> {
    let mut reading = Reading {
        dir,
        pure,
        visit,
        summary: Summary {
            ledger_id: String::new(),
            segments: 0,
            frames: 0,
            records: 0,
            tip: beginning(),
            torn: false,
            damages: Vec::new(),
        },
        chain: Some([0; 32]),
        bytes: Vec::new(),
        scratch: Vec::new(),
    };
    reading.all()?;
    let summary = reading.summary;
    match ledger_id {
        Some(wanted) if summary.segments > 0 && summary.ledger_id != wanted => {
            Err(Fault::Foreign {
                what: format!(
                    "{} is of ledger {}, not of {wanted}",
                    dir.display(),
                    summary.ledger_id
                ),
            })
        }
        _ => Ok(summary),
    }
}

struct Reading<'a> {
    dir: &'a Path,
    pure: &'a Pure,
    visit: &'a mut dyn FnMut(Frame) -> Result<(), Fault>,
    summary: Summary,
    /// Chain after the last frame; unknown after damage.
    chain: Option<Hash>,
    bytes: Vec<u8>,
    scratch: Vec<u8>,
}

impl Reading<'_> {
    fn all(&mut self) -> Result<(), Fault> {
        let numbers = segment::list(self.dir)?;
        self.summary.segments = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
        let mut before: Option<Segment> = None;
        let mut next = numbers
            .first()
            .map(|&number| self.open(number))
            .transpose()?;
        for (i, &number) in numbers.iter().enumerate() {
            let due = if i == 0 { 1 } else { numbers[i - 1] + 1 };
            if number != due {
                self.note(missing_segment(
                    self.dir,
                    due,
                    self.summary.tip.position + 1,
                ));
            }
            let segment = next.take();
            let following = numbers.get(i + 1).copied();
            next = following.map(|number| self.open(number)).transpose()?;
            before = match segment {
                Some(Ok(segment)) => {
                    self.segment(before.as_ref(), &segment, next.as_ref())?;
                    Some(segment)
                }
                Some(Err(damage)) => {
                    self.note(Damage {
                        first_position: self.summary.tip.position + 1,
                        ..damage
                    });
                    None
                }
                None => None,
            };
        }
        Ok(())
    }

    /// Opens a segment, or says what is wrong with it.
    fn open(&self, number: u32) -> Result<Result<Segment, Damage>, Fault> {
        match Segment::open(self.dir, number, false, 1) {
            Ok(segment) => Ok(Ok(segment)),
            Err(Fault::Damage(damage)) => Ok(Err(damage)),
            Err(fault) => Err(fault),
        }
    }

    fn segment(
        &mut self,
        before: Option<&Segment>,
        segment: &Segment,
        next: Option<&Result<Segment, Damage>>,
    ) -> Result<(), Fault> {
        self.enter(before, segment);
        segment.read(&mut self.bytes)?;
        // Only the next header says where this segment ends.
        let end = match next {
            Some(Ok(next)) if next.header.base.segment == segment.header.number => {
                Some(next.header.base.offset)
            }
            _ => None,
        };
        self.frames(segment, end)?;
        if next.is_none() {
            self.tail(segment);
        }
        Ok(())
    }

    /// Notes damage. Until the next header or frame says so, nobody knows the chain behind it.
    fn note(&mut self, damage: Damage) {
        self.summary.damages.push(damage);
        self.chain = None;
    }

    /// Goes on with a segment; after damage, from what its header says.
    fn enter(&mut self, before: Option<&Segment>, segment: &Segment) {
        let header = &segment.header;
        if self.chain.is_some() {
            let checked = match before {
                Some(before) => scan::continues(before, &self.bytes, &self.summary.tip, segment),
                None if header.base == beginning() => Ok(()),
                None => Err(segment.damage(0, 1, None, NOT_THE_BEGINNING)),
            };
            if let Err(damage) = checked {
                self.note(damage);
            }
        }
        self.close_damage(header.base.position);
        self.summary.ledger_id.clone_from(&header.ledger_id);
        self.summary.tip = header.start();
        self.chain = Some(header.base.chain);
    }

    /// What was open-ended damage ends at this position.
    fn close_damage(&mut self, position: u64) {
        if let Some(damage) = self.summary.damages.last_mut()
            && self.chain.is_none()
            && damage.last_position.is_none()
            && damage.first_position <= position
        {
            damage.last_position = Some(position);
        }
    }

    fn frames(&mut self, segment: &Segment, end: Option<u64>) -> Result<(), Fault> {
        let bytes = std::mem::take(&mut self.bytes);
        let limit = end
            .and_then(|end| usize::try_from(end).ok())
            .unwrap_or(bytes.len())
            .min(bytes.len());
        let mut offset = segment::HEADER_BYTES;
        while offset < limit {
            if let Some((header, body)) = frame::at(&bytes, offset, segment.header.mark) {
                self.frame(segment, offset, &header, body)?;
                offset += header.frame_bytes();
                continue;
            }
            let next = frame::find(&bytes, offset + 1..limit, segment.header.mark);
            if next.is_some() || end.is_some() {
                let last = next.as_ref().map(|(_, next)| next.first_position - 1);
                let first = self.summary.tip.position + 1;
                let last = last.filter(|last| *last >= first);
                self.note(segment.damage(offset, first, last, scan::NO_FRAME));
            }
            let Some((at, header)) = next else { break };
            self.summary.tip = Tip {
                position: header.first_position.saturating_sub(1),
                offset: at as u64,
                ..self.summary.tip.clone()
            };
            offset = at;
        }
        self.bytes = bytes;
        Ok(())
    }

    fn frame(
        &mut self,
        segment: &Segment,
        offset: usize,
        header: &frame::Header,
        body: &[u8],
    ) -> Result<(), Fault> {
        let tip = header.tip(segment.header.number, offset);
        let position = self.summary.tip.position;
        let before = (position, self.chain.as_ref());
        match frame::open(
            header,
            body,
            before,
            tip.clone(),
            self.pure,
            &mut self.scratch,
        ) {
            Ok(frame) => {
                self.summary.frames += 1;
                self.summary.records += frame.records.len() as u64;
                (self.visit)(frame)?;
            }
            Err(what) => {
                let first = header.first_position.min(position + 1);
                self.note(segment.damage(offset, first, Some(header.last_position()), what));
            }
        }
        self.summary.tip = tip;
        self.chain = Some(header.chain);
        Ok(())
    }

    /// What follows the last frame of the last segment.
    fn tail(&mut self, segment: &Segment) {
        match scan::torn(segment, &self.bytes, &self.summary.tip) {
            Ok(torn) => self.summary.torn = torn.is_some(),
            Err(damage) => self.note(damage),
        }
    }
}
