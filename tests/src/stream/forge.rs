//! A history in which one byte is another one, and everything else holds: as by somebody who has the disk and this program.
use std::{io, path::Path};

use bytes::Bytes;
use waybill_store::{
    Fault, Hash, Keys, Pure, Record,
    journal::{self, Frame, Journal, Options},
    place,
};
use waybill_tlog::leaf::{Leaf, commitment, headers_digest};

/// Writes a ledger's journal anew elsewhere, with the text `from` replaced by `to` in the bytes of one position.
///
/// # Errors
/// Where the journal cannot be read or written, or the position does not hold the text.
pub fn forge(data: &Path, elsewhere: &Path, position: u64, from: &str, to: &str) -> io::Result<()> {
    let (frames, ledger_id) = frames(data).map_err(io::Error::other)?;
    let journal = place::journal_dir(elsewhere);
    let begun = Journal::recover(
        &journal,
        &ledger_id,
        &Options::default(),
        &PURE,
        None,
        0,
        &mut |_| Ok(()),
    );
    let (mut journal, _) = begun.map_err(io::Error::other)?;
    let mut changed = false;
    for mut frame in frames {
        let aimed = frame.records.iter_mut().find(|it| it.position == position);
        if let Some(record) = aimed {
            record.bytes = replaced(&record.bytes, from, to)?;
            changed = true;
        }
        let leaves: Vec<Hash> = frame.records.iter().map(leaf).collect();
        let written = journal.append(&frame.records, &leaves);
        written.map_err(io::Error::other)?;
    }
    match changed {
        true => Ok(()),
        false => Err(io::Error::other(format!("there is no position {position}"))),
    }
}

fn frames(data: &Path) -> Result<(Vec<Frame>, String), Fault> {
    let mut frames = Vec::new();
    let keep = &mut |frame| {
        frames.push(frame);
        Ok(())
    };
    let summary = journal::read(&place::journal_dir(data), None, &PURE, keep)?;
    Ok((frames, summary.ledger_id))
}

/// Of the same length, so that all that is around it still fits.
fn replaced(bytes: &[u8], from: &str, to: &str) -> io::Result<Bytes> {
    let at = bytes
        .windows(from.len())
        .position(|it| it == from.as_bytes());
    let at = at.filter(|_| from.len() == to.len());
    let at = at.ok_or_else(|| io::Error::other(format!("the event does not hold {from:?}")))?;
    let mut bytes = bytes.to_vec();
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    Ok(bytes.into())
}

/// What the journal needs to know of a record; nothing is looked up here.
const PURE: Pure = Pure {
    leaf,
    index: |_| Keys::default(),
};

fn leaf(record: &Record) -> Hash {
    let leaf = Leaf {
        epoch: record.epoch,
        stream_sequence: record.stream_sequence,
        record_time_nanos: record.record_time.nanos().unsigned_abs(),
        headers_digest: headers_digest(&record.subject, &record.headers),
        salted: record.salt.is_some(),
        commitment: commitment(record.salt.as_ref(), &record.bytes),
    };
    leaf.hash()
}
