//! Writing: one frame in flight, durable when it is told.
use std::{os::unix::fs::FileExt, path::PathBuf};

use super::{
    Options,
    frame::{Encoder, FRAME_RAW_BYTES_MAX},
    scan,
    segment::{self, Reason, Segment},
};
use crate::{
    fault::Fault,
    record::{Hash, Record, Tip},
};

/// The journal, open for writing. It has one owner.
pub struct Journal {
    pub(super) dir: PathBuf,
    pub(super) options: Options,
    pub(super) segment: Segment,
    /// End of the last durable frame.
    pub(super) tip: Tip,
    /// Bytes of all segments before this one.
    pub(super) sealed_bytes: u64,
    /// Why nothing may be written: what lies behind the tip is unknown.
    pub(super) stopped: Option<String>,
    pub(super) encoder: Encoder,
}

impl Journal {
    /// Writes one group commit and makes it durable, with one fdatasync.
    ///
    /// Leaves are the hashes of the records, in order.
    ///
    /// # Errors
    /// [`Fault::TooLarge`] when the records do not fit one frame; nothing was written then. After any other error nothing
    /// more is written ([`Fault::Stopped`]) until [`Journal::reopen`] succeeds, and whether this commit would be found
    /// again is unknown.
    ///
    /// # Panics
    /// When there are no records, they do not follow the tip, or there are more or fewer leaves: the caller's invariant.
    pub fn append(&mut self, records: &[Record], leaves: &[Hash]) -> Result<Tip, Fault> {
        assert!(
            !records.is_empty() && records.len() == leaves.len(),
            "a group commit has records, and a leaf for each"
        );
        assert!(
            records
                .iter()
                .zip(self.tip.position + 1..)
                .all(|(record, due)| record.position == due),
            "a group commit goes on right after the journal's tip"
        );
        self.check()?;
        self.write(records, leaves)
            .and_then(|tip| {
                self.sync()?;
                self.tip = tip;
                Ok(self.tip.clone())
            })
            .inspect_err(|fault| self.stop(fault))
    }

    /// Writes one group commit that is durable only after [`Journal::finish`]: for a journal that nobody relies on yet.
    pub(crate) fn load(&mut self, records: &[Record], leaves: &[Hash]) -> Result<(), Fault> {
        self.tip = self.write(records, leaves)?;
        Ok(())
    }

    /// Makes everything loaded durable.
    pub(crate) fn finish(&self) -> Result<(), Fault> {
        self.sync()
    }

    /// Goes on after an error: what lies behind the last durable frame is left behind, and writing goes on in a new
    /// segment that names that frame (LEDGER J5). Does nothing while there was no error.
    ///
    /// # Errors
    /// As the system says; it may be tried again.
    pub fn reopen(&mut self) -> Result<(), Fault> {
        if self.stopped.is_none() {
            return Ok(());
        }
        let header = &self.segment.header;
        if self.tip.segment == header.number && self.tip.offset == header.start().offset {
            // Nothing durable is in it: a new one takes its place, so that trying again and again fills no disk.
            let again = segment::Header::new(
                header.reason,
                header.number,
                self.options.segment_bytes,
                header.base.clone(),
                &header.ledger_id,
            );
            self.segment = Segment::create(&self.dir, again)?;
        } else {
            let ledger_id = header.ledger_id.clone();
            self.begin(Reason::LeftBehind, self.options.segment_bytes, &ledger_id)?;
        }
        self.stopped = None;
        Ok(())
    }

    /// Gives the tree a new ledger id from the next position on (LEDGER J4). Earlier segments keep the old one.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn rename(&mut self, ledger_id: &str) -> Result<(), Fault> {
        self.check()?;
        check_ledger_id(ledger_id)?;
        self.begin(Reason::Renamed, self.options.segment_bytes, ledger_id)
            .inspect_err(|fault| self.stop(fault))
    }

    /// End of the last durable frame.
    #[must_use]
    pub fn tip(&self) -> &Tip {
        &self.tip
    }

    /// Bytes on disk: finished segments whole, the last one as far as it is used.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.sealed_bytes + self.tip.offset
    }

    fn check(&self) -> Result<(), Fault> {
        match &self.stopped {
            Some(why) => Err(Fault::Stopped { why: why.clone() }),
            None => Ok(()),
        }
    }

    /// Notes that what lies behind the tip is unknown; a commit that was refused unwritten changes nothing.
    fn stop(&mut self, fault: &Fault) {
        if !matches!(fault, Fault::TooLarge { .. }) {
            self.stopped = Some(text(fault));
        }
    }

    /// Writes one frame behind the tip, in the next segment where this one is full, and says where it ends.
    fn write(&mut self, records: &[Record], leaves: &[Hash]) -> Result<Tip, Fault> {
        let Self {
            encoder,
            segment,
            tip,
            ..
        } = self;
        let needed = encoder
            .encode(&tip.chain, records, leaves)
            .map_err(too_large)? as u64;
        if needed > segment.header.bytes - tip.offset {
            self.rotate(segment::HEADER_BYTES as u64 + needed)?;
        }
        let Segment { path, file, header } = &self.segment;
        let (frame_header, frame) = self.encoder.sealed(header.mark);
        file.write_all_at(frame, self.tip.offset)
            .map_err(Fault::io("write", path))?;
        Ok(frame_header.tip(header.number, scan::offset(&self.tip)))
    }

    fn sync(&self) -> Result<(), Fault> {
        let Segment { path, file, .. } = &self.segment;
        file.sync_data().map_err(Fault::io("sync", path))
    }

    /// Begins the next segment, with room for a frame that needs so many bytes. What was loaded is durable before it is
    /// sealed.
    fn rotate(&mut self, needed: u64) -> Result<(), Fault> {
        self.sync()?;
        let ledger_id = self.segment.header.ledger_id.clone();
        self.begin(
            Reason::Full,
            self.options.segment_bytes.max(needed),
            &ledger_id,
        )
    }

    fn begin(&mut self, reason: Reason, bytes: u64, ledger_id: &str) -> Result<(), Fault> {
        let number = self.segment.header.number + 1;
        let header = segment::Header::new(reason, number, bytes, self.tip.clone(), ledger_id);
        let next = Segment::create(&self.dir, header)?;
        self.sealed_bytes += self.segment.header.bytes;
        self.tip = next.header.start();
        self.segment = next;
        Ok(())
    }
}

fn too_large(bytes: usize) -> Fault {
    Fault::TooLarge {
        what: "a group commit",
        bytes,
        limit: FRAME_RAW_BYTES_MAX,
    }
}

/// Checks that a ledger id fits a segment's header.
pub(super) fn check_ledger_id(ledger_id: &str) -> Result<(), Fault> {
    let bytes = ledger_id.len();
    if bytes > segment::LEDGER_ID_BYTES_MAX {
        return Err(Fault::TooLarge {
            what: "the ledger id",
            bytes,
            limit: segment::LEDGER_ID_BYTES_MAX,
        });
    }
    Ok(())
}

fn text(fault: &Fault) -> String {
    let cause = std::error::Error::source(fault).map(|cause| format!(": {cause}"));
    format!("{fault}{}", cause.unwrap_or_default())
}
