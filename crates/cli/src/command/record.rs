//! Recording many events: in batches, patiently, telling what became of each.
use bytes::Bytes;
use waybill_proto::pb::{Refusal, emit_result::Result as Emitted};

use crate::{exit::Failure, source::Source, words};

/// Events of one batch; the ledger takes as many.
const BATCH_EVENTS: usize = waybill_proto::limits::BATCH_EVENTS_MAX;
/// Bytes of one batch, below what the ledger takes.
const BATCH_BYTES: usize = waybill_proto::limits::BATCH_BYTES_MAX / 2;

/// What became of all that was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) recorded: u64,
    /// Recorded before.
    pub(crate) duplicates: u64,
    pub(crate) refused: u64,
}

impl Tally {
    /// In a sentence for people.
    pub(crate) fn say(&self) -> String {
        let mut text = format!(
            "{} recorded",
            words::plural(self.recorded, "event", "events")
        );
        if self.duplicates > 0 {
            text.push_str(&format!(
                ", {} recorded before",
                words::count(self.duplicates)
            ));
        }
        if self.refused > 0 {
            text.push_str(&format!(", {} refused", words::count(self.refused)));
        }
        text
    }
}

/// A batch on its way.
pub(crate) struct Recorder<'a> {
    source: &'a Source,
    /// Events with the place that they come from, for messages.
    batch: Vec<(u64, Bytes)>,
    bytes: usize,
    tally: Tally,
}

impl<'a> Recorder<'a> {
    pub(crate) fn new(source: &'a Source) -> Self {
        Self {
            source,
            batch: Vec::new(),
            bytes: 0,
            tally: Tally::default(),
        }
    }

    /// Takes an event in; sends a batch when one is full.
    ///
    /// # Errors
    /// When the ledger cannot be reached or does not take the batch; what was sent before is recorded.
    pub(crate) async fn push(
        &mut self,
        place: u64,
        event: Bytes,
        refused: &mut impl FnMut(u64, &Refusal),
    ) -> Result<(), Failure> {
        let full = self.batch.len() >= BATCH_EVENTS || self.bytes + event.len() > BATCH_BYTES;
        if full && !self.batch.is_empty() {
            self.flush(refused).await?;
        }
        self.bytes += event.len();
        self.batch.push((place, event));
        Ok(())
    }

    /// Sends what is left.
    ///
    /// # Errors
    /// As [`Recorder::push`].
    pub(crate) async fn flush(
        &mut self,
        refused: &mut impl FnMut(u64, &Refusal),
    ) -> Result<Tally, Failure> {
        let batch = std::mem::take(&mut self.batch);
        self.bytes = 0;
        if batch.is_empty() {
            return Ok(self.tally);
        }
        let events = batch.iter().map(|(_, event)| event.clone()).collect();
        let answer = self.source.emit_patiently(events).await?;
        if answer.results.len() != batch.len() {
            return Err(Failure::unexpected(
                "the server did not say what became of every event",
            ));
        }
        for ((place, _), result) in batch.iter().zip(answer.results) {
            match result.result {
                Some(Emitted::Receipt(receipt)) if receipt.duplicate => self.tally.duplicates += 1,
                Some(Emitted::Receipt(_)) => self.tally.recorded += 1,
                Some(Emitted::Refusal(refusal)) => {
                    self.tally.refused += 1;
                    refused(*place, &refusal);
                }
                None => {
                    return Err(Failure::unexpected(
                        "the server did not say what became of an event",
                    ));
                }
            }
        }
        Ok(self.tally)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_only_what_happened() {
        let tally = Tally {
            recorded: 1,
            duplicates: 0,
            refused: 0,
        };
        assert_eq!(tally.say(), "1 event recorded");
        let tally = Tally {
            recorded: 2_000,
            duplicates: 3,
            refused: 1,
        };
        assert_eq!(
            tally.say(),
            "2,000 events recorded, 3 recorded before, 1 refused"
        );
    }
}
