//! The file of events that the ledger refused, with the reasons.
use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    path::PathBuf,
};

use bytes::Bytes;
use prost::Message;
use waybill_proto::pb;

use super::{
    OutboxError,
    frame::{FILE_START, frame, payloads},
    queue::{Queue, disk, offset, sync_directory, write_whole},
};
use crate::error::Refusal;

impl Queue {
    /// Looks at the file when the outbox is opened, and cuts off what death left of a write.
    pub(super) fn open_refused(&mut self) -> Result<(), OutboxError> {
        let bytes = self.read_refused()?;
        let end = payloads(&bytes, FILE_START.len())
            .last()
            .map_or(FILE_START.len(), |range| range.end);
        let end = if bytes.starts_with(&FILE_START) {
            end
        } else {
            0
        };
        if end < bytes.len() {
            self.set_aside(&self.refused_path(), offset(end))?;
        }
        self.refused_bytes = offset(end);
        Ok(())
    }

    /// Adds refused events, and syncs.
    pub(super) fn set_refused(&mut self, refused: &[(Refusal, Bytes)]) -> Result<(), OutboxError> {
        if refused.is_empty() {
            return Ok(());
        }
        let path = self.refused_path();
        if self.refused_bytes == 0 {
            write_whole(&path, &FILE_START)?;
            sync_directory(self.directory())?;
            self.refused_bytes = offset(FILE_START.len());
        }
        let bytes: Vec<u8> = refused.iter().filter_map(encoded).flatten().collect();
        let mut file = OpenOptions::new()
            .write(true)
            .open(&path)
            .map_err(disk("open", &path))?;
        // From the last whole frame on, so that an earlier failure leaves no hole.
        file.set_len(self.refused_bytes)
            .map_err(disk("cut", &path))?;
        std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0))
            .map_err(disk("seek in", &path))?;
        file.write_all(&bytes)
            .and_then(|()| file.sync_data())
            .map_err(disk("write", &path))?;
        self.refused_bytes += offset(bytes.len());
        Ok(())
    }

    pub(super) fn refused(&self) -> Result<Vec<(Refusal, Bytes)>, OutboxError> {
        let bytes = Bytes::from(self.read_refused()?);
        let ranges = payloads(&bytes, FILE_START.len());
        Ok(ranges
            .filter_map(|range| decoded(&bytes.slice(range)))
            .collect())
    }

    pub(super) fn forget_refused(&mut self) -> Result<(), OutboxError> {
        let path = self.refused_path();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(disk("remove", &path)(error)),
            _ => {
                self.refused_bytes = 0;
                Ok(())
            }
        }
    }

    fn read_refused(&self) -> Result<Vec<u8>, OutboxError> {
        let path = self.refused_path();
        match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            read => read.map_err(disk("read", &path)),
        }
    }

    fn refused_path(&self) -> PathBuf {
        self.directory().join("refused")
    }
}

fn encoded((refusal, event): &(Refusal, Bytes)) -> Option<Vec<u8>> {
    let refusal = pb::Refusal::from(refusal.clone()).encode_to_vec();
    let length = u32::try_from(refusal.len()).ok()?.to_be_bytes();
    frame(&[&length, &refusal[..], event].concat())
}

fn decoded(payload: &Bytes) -> Option<(Refusal, Bytes)> {
    let (length, _) = payload.split_first_chunk::<4>()?;
    let end = usize::try_from(u32::from_be_bytes(*length))
        .ok()?
        .checked_add(4)?;
    let refusal = pb::Refusal::decode(payload.get(4..end)?).ok()?;
    Some((refusal.into(), payload.slice(end..)))
}
