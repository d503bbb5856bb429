//! Events on their way out, in batches that a ledger takes.
use bytes::Bytes;
use prost::Message as _;
use waybill_proto::{limits, pb};

/// Collects encoded events and hands them on.
pub(super) struct Outbox<'s, E> {
    sink: &'s mut dyn FnMut(Vec<Bytes>) -> Result<(), E>,
    batch: Vec<Bytes>,
    batch_bytes: usize,
    sent: u64,
    too_large: Vec<String>,
}

impl<'s, E> Outbox<'s, E> {
    pub(super) fn new(sink: &'s mut dyn FnMut(Vec<Bytes>) -> Result<(), E>) -> Self {
        Self {
            sink,
            batch: Vec::new(),
            batch_bytes: 0,
            sent: 0,
            too_large: Vec::new(),
        }
    }

    /// Takes one event. One that no ledger would take is left out and remembered.
    pub(super) fn push(&mut self, event: &pb::Event) -> Result<(), E> {
        let bytes = event.encode_to_vec();
        if bytes.len() > limits::EVENT_BYTES_MAX {
            self.too_large.push(event.id.clone());
            return Ok(());
        }
        if self.batch.len() == limits::BATCH_EVENTS_MAX
            || self.batch_bytes + bytes.len() > limits::BATCH_BYTES_MAX
        {
            self.flush()?;
        }
        self.batch_bytes += bytes.len();
        self.batch.push(bytes.into());
        self.sent += 1;
        Ok(())
    }

    /// Hands on what is left, and gives how many events went out and the ids of those that were too large.
    pub(super) fn finish(mut self) -> Result<(u64, Vec<String>), E> {
        self.flush()?;
        Ok((self.sent, self.too_large))
    }

    fn flush(&mut self) -> Result<(), E> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.batch_bytes = 0;
        (self.sink)(std::mem::take(&mut self.batch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_keep_both_limits_and_the_order() {
        let mut batches: Vec<Vec<Bytes>> = Vec::new();
        let mut sink = |batch| -> Result<(), ()> {
            batches.push(batch);
            Ok(())
        };
        let mut outbox = Outbox::new(&mut sink);
        let event = |id: usize, bytes: usize| pb::Event {
            id: id.to_string(),
            reason: "x".repeat(bytes),
            ..pb::Event::default()
        };
        for id in 0..1_001 {
            outbox.push(&event(id, 0)).unwrap();
        }
        for id in 0..20 {
            outbox.push(&event(id, 250 * 1024)).unwrap();
        }
        outbox.push(&event(7, limits::EVENT_BYTES_MAX)).unwrap();
        assert_eq!(outbox.finish(), Ok((1_021, vec!["7".to_owned()])));
        let shape: Vec<usize> = batches.iter().map(Vec::len).collect();
        assert_eq!(shape, [1_000, 17, 4]);
        assert!(batches.iter().all(|batch| batch.iter().map(Bytes::len).sum::<usize>() <= limits::BATCH_BYTES_MAX));
    }
}
