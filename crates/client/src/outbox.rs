//! An outbox on disk: events that survive their emitter's death until there is a receipt for each.
//!
//! ```no_run
//! use std::time::Duration;
//! use waybill_client::{Build, Client, Outcome, outbox::Outbox};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect(waybill_client::DEFAULT_URL)?;
//! let emitter = client.emitter("//ci.example.com/shop");
//! let outbox = Outbox::open("/var/lib/shop/outbox")?;
//! outbox.put(&emitter.event(Build::new("4711").finished(Outcome::Success))?)?;
//! let drained = outbox.drain(&client, Duration::from_secs(30)).await?;
//! println!("{} recorded, {} refused", drained.recorded, drained.refused);
//! # Ok(())
//! # }
//! ```
//!
//! The directory holds
//! - `lock`: held by whoever has the outbox open;
//! - `NNNNNNNNNN.events`: events in the order in which they were put. After 8 bytes `WBOUTBX` `01` come frames: length
//!   (u32), CRC32C (u32, over the length's bytes and the event's), event; big-endian. [`Outbox::put`] returns after the
//!   file is synced;
//! - `sent`: how far the oldest of these files is drained: `<number> <offset> <CRC32C of both, hex>`. Lost or old, events
//!   are sent again, and are duplicates;
//! - `refused`: events that the ledger refused and why, in the same frames: length of the encoded `waybill.v1.Refusal`
//!   (u32), the refusal, the event. An event may stand there twice if the emitter died at the wrong moment;
//! - `NNNNNNNNNN.torn-OFFSET`: bytes that were found where a frame should be, kept for whoever wants to look.
use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;
use waybill_proto::pb;

use crate::{
    client::Client,
    emitter::batch_length,
    error::{Error, Refusal},
    event::Event,
};

mod frame;
mod queue;
mod refused;

pub use queue::Torn;
use queue::{Mark, Queue};

/// What an outbox takes on disk at most, when nothing else is said.
pub const BYTES_MAX: u64 = 64 << 20;

/// An outbox. Cheap to clone; clones are the same outbox. Its methods block on the disk, [`Outbox::drain`] does not.
#[derive(Clone, Debug)]
pub struct Outbox {
    queue: Arc<Mutex<Queue>>,
    /// Only one drains at a time, or order would be lost.
    draining: Arc<tokio::sync::Mutex<()>>,
}

/// Why an outbox cannot do what it is asked.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// Another process, or another part of this one, has it.
    #[error("the outbox in {} is open elsewhere; it has one owner at a time", directory.display())]
    Locked {
        /// Its directory.
        directory: PathBuf,
    },
    /// It holds as much as it may. Nothing was written.
    #[error(
        "the outbox holds {held} bytes and may hold {limit}: drain it, look at what was refused, or raise the limit"
    )]
    Full {
        /// Bytes on disk.
        held: u64,
        /// The limit.
        limit: u64,
    },
    /// The disk failed. The event may or may not be in the outbox; putting it again is safe.
    #[error("cannot {action} {}", path.display())]
    Disk {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// How it failed.
        source: io::Error,
    },
}

/// What became of events on the way out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Have a receipt, and are gone from the outbox.
    pub recorded: u64,
    /// Of those, events that the ledger had already: an earlier try, or the same work done again.
    pub duplicates: u64,
    /// Were refused, and moved aside: see [`Outbox::refused`].
    pub refused: u64,
}

/// Why draining stopped before the outbox was empty. What was not sent is still in it.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    /// The ledger.
    #[error("the outbox is not empty yet")]
    Ledger {
        /// What was sent before.
        drained: Drained,
        /// What the ledger said.
        source: Error,
    },
    /// The disk.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
}

impl Outbox {
    /// Opens the outbox in a directory, or makes one, that takes at most [`BYTES_MAX`] bytes.
    ///
    /// # Errors
    /// [`OutboxError::Locked`], or the disk fails.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self, OutboxError> {
        Self::open_with_limit(directory, BYTES_MAX)
    }

    /// Opens the outbox in a directory, or makes one, that takes at most `limit` bytes.
    ///
    /// # Errors
    /// As [`Outbox::open`].
    pub fn open_with_limit(directory: impl AsRef<Path>, limit: u64) -> Result<Self, OutboxError> {
        let queue = Arc::new(Mutex::new(Queue::open(directory.as_ref(), limit)?));
        Ok(Self {
            queue,
            draining: Arc::default(),
        })
    }

    /// Adds an event. Once this returns, the event survives the emitter's death and a loss of power.
    ///
    /// # Errors
    /// [`OutboxError::Full`], or the disk fails.
    pub fn put(&self, event: &Event) -> Result<(), OutboxError> {
        self.lock().put(event.bytes())
    }

    /// Events that wait to be sent.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.lock().waiting()
    }

    /// What was found when it was opened that is no event: the end of a write that death cut short, most likely.
    #[must_use]
    pub fn torn(&self) -> Vec<Torn> {
        self.lock().torn().to_vec()
    }

    /// Events that the ledger refused, and why, oldest first.
    ///
    /// # Errors
    /// The disk fails.
    pub fn refused(&self) -> Result<Vec<(Refusal, Bytes)>, OutboxError> {
        self.lock().refused()
    }

    /// Removes the events that were refused: somebody has looked at them.
    ///
    /// # Errors
    /// The disk fails.
    pub fn forget_refused(&self) -> Result<(), OutboxError> {
        self.lock().forget_refused()
    }

    /// Sends what waits, in order, until it is empty. Each event leaves with its receipt, or is moved aside with its
    /// refusal; a refused event never holds up the next.
    ///
    /// A ledger that turns this client away ([`Error::NotAllowed`]: an expired token, say) has looked at nothing, so
    /// everything stays; it is not asked again with this client for half a minute, and until then this ends at once with
    /// what it said. Where the token's file holds another one by then, or for a new client, it is asked straight away.
    ///
    /// # Errors
    /// [`DrainError::Ledger`] when the ledger did not answer in time, or failed, or turns this client away.
    pub async fn drain(&self, client: &Client, within: Duration) -> Result<Drained, DrainError> {
        let _only_one = self.draining.lock().await;
        let (started, mut drained) = (Instant::now(), Drained::default());
        loop {
            let (events, marks) = self.blocking(Queue::oldest).await?;
            if events.is_empty() {
                return Ok(drained);
            }
            if let Err(source) = client.bar.check()
                && !client.carrier.renew()
            {
                return Err(DrainError::Ledger { drained, source });
            }
            let length = batch_length(&events);
            let left = within.saturating_sub(started.elapsed());
            let results = match self.send(client, &events[..length], left).await {
                Ok(results) => results,
                Err(source) => return Err(DrainError::Ledger { drained, source }),
            };
            let sent = self.settle(events, &marks, results).await?;
            drained.recorded += sent.recorded;
            drained.duplicates += sent.duplicates;
            drained.refused += sent.refused;
        }
    }

    /// One answer for each of the first events, at least for one.
    async fn send(
        &self,
        client: &Client,
        events: &[Bytes],
        within: Duration,
    ) -> Result<Vec<Result<pb::Receipt, Refusal>>, Error> {
        let answer = client.send(events, within).await;
        client.bar.note(&answer);
        match answer {
            // A refusal of the batch as a whole says nothing about which event is meant: ask with the first alone.
            Err(Error::Refused(_)) if events.len() > 1 => {
                Box::pin(self.send(client, &events[..1], within)).await
            }
            Err(Error::Refused(refusal)) => Ok(vec![Err(*refusal)]),
            answer => answer,
        }
    }

    /// Moves aside what was refused, and then forgets what was answered.
    async fn settle(
        &self,
        events: Vec<Bytes>,
        marks: &[Mark],
        results: Vec<Result<pb::Receipt, Refusal>>,
    ) -> Result<Drained, OutboxError> {
        let answered = results.len();
        let (mut drained, mut refused) = (Drained::default(), Vec::new());
        for (result, event) in results.into_iter().zip(events) {
            match result {
                Ok(receipt) => {
                    drained.recorded += 1;
                    drained.duplicates += u64::from(receipt.duplicate);
                }
                Err(refusal) => refused.push((refusal, event)),
            }
        }
        drained.refused = count(refused.len());
        let Some(&mark) = answered.checked_sub(1).and_then(|last| marks.get(last)) else {
            return Ok(drained);
        };
        self.blocking(move |queue| {
            queue.set_refused(&refused)?;
            queue.advance(mark, count(answered))
        })
        .await?;
        Ok(drained)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Queue) -> Result<T, OutboxError> + Send + 'static,
    ) -> Result<T, OutboxError> {
        let outbox = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&mut outbox.lock()));
        match done.await {
            Ok(result) => result,
            Err(died) => {
                let path = self.lock().directory().to_owned();
                Err(OutboxError::Disk {
                    action: "work on",
                    path,
                    source: io::Error::other(died),
                })
            }
        }
    }

    /// What the lock guards is right between any two file operations, so a panic elsewhere leaves it usable.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(events: usize) -> u64 {
    u64::try_from(events).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::{Id, event::Build, event::Draft};

    const START: usize = frame::FILE_START.len();

    fn event(number: u32) -> Event {
        let draft: Draft = Build::new(number.to_string()).queued();
        let draft = draft
            .id(&Id::from_parts([number.to_string()]))
            .at(std::time::UNIX_EPOCH);
        let message = draft.edit(|event| event.source = "//ci".into()).0;
        Event::from_bytes(prost::Message::encode_to_vec(&message)).unwrap()
    }

    fn filled(directory: &TempDir, events: std::ops::Range<u32>) -> Outbox {
        let outbox = Outbox::open(directory).unwrap();
        events.for_each(|number| outbox.put(&event(number)).unwrap());
        outbox
    }

    /// Takes events out as if they had been answered, and gives their bytes.
    fn answer(outbox: &Outbox, most: usize) -> Vec<Bytes> {
        let mut taken = Vec::new();
        while taken.len() < most {
            let (events, marks) = outbox.lock().oldest().unwrap();
            let now = events.len().min(most - taken.len());
            let Some(mark) = now.checked_sub(1).map(|last| marks[last]) else {
                break;
            };
            outbox.lock().advance(mark, count(now)).unwrap();
            taken.extend_from_slice(&events[..now]);
        }
        taken
    }

    fn bytes(numbers: std::ops::Range<u32>) -> Vec<Bytes> {
        numbers
            .map(|number| event(number).bytes().clone())
            .collect()
    }

    fn newest_file(directory: &TempDir) -> PathBuf {
        let paths = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.extension().is_some_and(|it| it == "events"))
            .max()
            .unwrap()
    }

    #[test]
    fn events_leave_in_the_order_in_which_they_came_and_outlive_their_emitter() {
        let directory = TempDir::new().unwrap();
        drop(filled(&directory, 0..5));
        let outbox = filled(&directory, 5..8);
        assert_eq!((outbox.waiting(), outbox.torn()), (8, vec![]));
        assert_eq!(answer(&outbox, 3), bytes(0..3));
        drop(outbox);
        let outbox = Outbox::open(&directory).unwrap();
        assert_eq!(outbox.waiting(), 5);
        assert_eq!(answer(&outbox, 99), bytes(3..8));
        assert_eq!(
            (outbox.waiting(), outbox.lock().oldest().unwrap().0.len()),
            (0, 0)
        );
    }

    #[test]
    fn one_owner_at_a_time() {
        let directory = TempDir::new().unwrap();
        let outbox = Outbox::open(&directory).unwrap();
        assert!(matches!(
            Outbox::open(&directory),
            Err(OutboxError::Locked { .. })
        ));
        drop(outbox);
        assert!(Outbox::open(&directory).is_ok());
    }

    #[test]
    fn a_write_that_death_cut_short_is_reported_and_takes_nothing_with_it() {
        let directory = TempDir::new().unwrap();
        drop(filled(&directory, 0..3));
        let (path, whole) = (
            newest_file(&directory),
            fs::read(newest_file(&directory)).unwrap(),
        );
        let frame = (whole.len() - START) / 3;
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let outbox = Outbox::open(&directory).unwrap();
            let left = cut.saturating_sub(START) / frame;
            assert_eq!(outbox.waiting(), count(left), "cut at {cut}");
            let at_boundary = cut >= START && (cut - START).is_multiple_of(frame);
            assert_eq!(outbox.torn().is_empty(), at_boundary, "cut at {cut}");
            for torn in outbox.torn() {
                let kept = torn
                    .kept
                    .map(|kept| fs::read(kept).unwrap())
                    .unwrap_or_default();
                assert!(whole[..cut].ends_with(&kept), "cut at {cut}");
            }
            // What is put now comes after what is left.
            outbox.put(&event(9)).unwrap();
            drop(outbox);
            let outbox = Outbox::open(&directory).unwrap();
            let expected = [bytes(0..u32::try_from(left).unwrap()), bytes(9..10)].concat();
            assert_eq!(answer(&outbox, 99), expected, "cut at {cut}");
        }
    }

    #[test]
    fn zeros_after_the_last_event_are_reported() {
        let directory = TempDir::new().unwrap();
        drop(filled(&directory, 0..2));
        let path = newest_file(&directory);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, [&whole[..], &[0; 64]].concat()).unwrap();
        let outbox = Outbox::open(&directory).unwrap();
        let offset = count(whole.len());
        assert_eq!(
            outbox.torn(),
            [Torn {
                path,
                offset,
                bytes: 64,
                kept: None
            }]
        );
        assert_eq!(outbox.waiting(), 2);
    }

    #[test]
    fn a_lost_or_foreign_mark_sends_again_and_skips_nothing() {
        for mark in [None, Some("1 9 00000000\n"), Some("nonsense"), Some("")] {
            let directory = TempDir::new().unwrap();
            let outbox = filled(&directory, 0..4);
            answer(&outbox, 2);
            drop(outbox);
            let path = directory.path().join("sent");
            match mark {
                None => fs::remove_file(path).unwrap(),
                Some(text) => fs::write(path, text).unwrap(),
            }
            assert_eq!(
                answer(&Outbox::open(&directory).unwrap(), 99),
                bytes(0..4),
                "{mark:?}"
            );
        }
    }

    #[test]
    fn a_mark_that_outlives_its_file_hides_nothing_of_the_next() {
        let directory = TempDir::new().unwrap();
        let outbox = filled(&directory, 0..4);
        answer(&outbox, 2);
        let mark = fs::read(directory.path().join("sent")).unwrap();
        answer(&outbox, 2);
        drop(outbox);
        fs::write(directory.path().join("sent"), mark).unwrap();
        drop(filled(&directory, 0..4));
        assert_eq!(answer(&Outbox::open(&directory).unwrap(), 99), bytes(0..4));
    }

    #[test]
    fn holds_no_more_than_it_may() {
        let directory = TempDir::new().unwrap();
        let outbox = Outbox::open_with_limit(&directory, 300).unwrap();
        let put = (0..100)
            .take_while(|number| outbox.put(&event(*number)).is_ok())
            .count();
        let refused = outbox.put(&event(100)).unwrap_err();
        assert!(matches!(refused, OutboxError::Full { held, limit: 300 } if held <= 300));
        assert_eq!(outbox.waiting(), count(put));
        assert_eq!(answer(&outbox, put).len(), put);
        assert!(outbox.put(&event(100)).is_ok(), "room comes back");
    }

    #[test]
    fn many_files_are_drained_and_removed() {
        let directory = TempDir::new().unwrap();
        let outbox = Outbox::open(&directory).unwrap();
        let large = |number: u32| {
            let draft = Build::new(number.to_string())
                .queued()
                .at(std::time::UNIX_EPOCH);
            let draft = draft.edit(|event| {
                (event.source, event.id) = ("//ci".into(), number.to_string());
                event.reason = "x".repeat(200_000);
            });
            Event::from_bytes(prost::Message::encode_to_vec(&draft.0)).unwrap()
        };
        (0..14).for_each(|number| outbox.put(&large(number)).unwrap());
        assert!(newest_file(&directory).ends_with("0000000003.events"));
        let taken = answer(&outbox, 99);
        assert!(
            taken.iter().eq((0..14)
                .map(|number| large(number).bytes().clone())
                .collect::<Vec<_>>()
                .iter())
        );
        assert!(!directory.path().join("0000000001.events").exists());
    }

    #[test]
    fn what_was_refused_is_kept_with_its_reason_until_somebody_has_looked() {
        let directory = TempDir::new().unwrap();
        let refusal = Refusal {
            code: "MISSING".into(),
            field: "id".into(),
            ..Refusal::default()
        };
        let entries: Vec<_> = bytes(0..3)
            .into_iter()
            .map(|event| (refusal.clone(), event))
            .collect();
        let outbox = Outbox::open(&directory).unwrap();
        outbox.lock().set_refused(&entries[..1]).unwrap();
        outbox.lock().set_refused(&entries[1..]).unwrap();
        drop(outbox);
        // Death cuts a later write short.
        let path = directory.path().join("refused");
        let whole = fs::read(&path).unwrap();
        fs::write(&path, [&whole[..], b"half a fra"].concat()).unwrap();
        let outbox = Outbox::open(&directory).unwrap();
        assert_eq!(outbox.torn().len(), 1);
        assert_eq!(outbox.refused().unwrap(), entries);
        outbox.forget_refused().unwrap();
        outbox.forget_refused().unwrap();
        assert_eq!(outbox.refused().unwrap(), []);
    }
}
