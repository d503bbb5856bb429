//! What a version before this one could not read (LEDGER A6): it becomes a fact once it can be read, at its own position,
//! without moving a leaf. Whatever was admitted meanwhile keeps its identity, for it has a receipt.
use waybill_proto::message;
use waybill_store::{Record, Verdict, seen};

use super::arrival::of_record;
use crate::{admit::RULES_VERSION, shared::Shared};

impl Shared {
    /// The event of a leaf that was refused by an earlier version and would be admitted by this one.
    pub(crate) fn understood_later(&self, record: &Record) -> Option<message::Read> {
        let refused = matches!(record.verdict, Verdict::Undecodable | Verdict::Refused);
        if !refused || record.rules_version >= RULES_VERSION {
            return None;
        }
        let read = of_record(record).ok()?;
        let identity = &read.event.identity;
        let fingerprint = seen::fingerprint(&identity.source, &identity.id);
        let taken = self.stored(identity, fingerprint).ok()?.is_some();
        (!taken).then_some(read)
    }

    /// What is to be said of a leaf now.
    pub(crate) fn verdict_now(&self, record: &Record) -> Verdict {
        match self.understood_later(record) {
            Some(_) => Verdict::Admitted,
            None => record.verdict,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc, time::Duration};

    use waybill_core::Time;
    use waybill_store::journal::{Journal, Options};

    use super::*;
    use crate::{AtLeast, Config, Filter, Host, Key, Leaves, Ledger, ReadOptions, Sender, leaf};

    fn open(root: &Path) -> Ledger {
        let config = Config {
            directory: root.join("data"),
            state_directory: root.join("state"),
            probe: None,
            segment_bytes: 1 << 20,
            cache_bytes: 16 << 20,
            view_checkpoint_events: 1_000,
            scrub_every: Duration::from_secs(3600),
            holder: "a test".to_owned(),
            stream: None,
            new_ledger_id: None,
        };
        let host = Host {
            clock: Arc::new(|| Time::try_new(1_700_000_000, 0).unwrap()),
            random: Arc::new(|out| out.fill(7)),
        };
        Ledger::open(config, host, &mut |_| {}).unwrap()
    }

    fn commit(id: &str) -> String {
        format!(
            r#"{{"source": "//ci/shop", "id": "{id}", "occurTime": "2026-11-03T09:00:00Z",
                "commit": {{"recorded": {{"repository": "github.com/acme/shop", "revision": "{:040x}"}}}}}}"#,
            7
        )
    }

    /// A message in JSON as a version that knew only protobuf would have recorded it.
    fn undecodable(position: u64, time: Time, id: &str) -> Record {
        Record {
            position,
            record_time: time,
            epoch: 0,
            stream_sequence: 0,
            salt: None,
            subject: "waybill.events.v1._._2f_2fci_2fshop.commit.recorded._".to_owned(),
            headers: vec![("Content-Type".to_owned(), "application/json".to_owned())],
            verdict: Verdict::Undecodable,
            rules_version: 0,
            source: Arc::from(""),
            id: Arc::from(""),
            kind: Arc::from(""),
            flags: 0,
            bytes: commit(id).into_bytes().into(),
        }
    }

    #[test]
    fn what_an_earlier_version_could_not_read_is_a_fact_and_takes_no_receipt_back() {
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let ledger = open(root);
        let taken = waybill_proto::json::event_from_json(commit("taken")).unwrap();
        let sender = Sender::unverified();
        let emitted = ledger.emit(vec![taken.into()], &sender);
        let receipt = runtime.block_on(emitted).unwrap().remove(0).unwrap();
        let ledger_id = ledger.ledger_id().to_owned();
        ledger.close().unwrap();
        drop(ledger);

        let dir = root.join("data/journal");
        let options = Options {
            segment_bytes: 1 << 20,
        };
        let (mut journal, _) = Journal::recover(
            &dir,
            &ledger_id,
            &options,
            &leaf::PURE,
            None,
            0,
            &mut |_| Ok(()),
        )
        .unwrap();
        let tip = journal.tip().clone();
        let late: Vec<Record> = ["new", "taken"]
            .into_iter()
            .zip(tip.position + 1..)
            .map(|(id, position)| undecodable(position, tip.record_time, id))
            .collect();
        let leaves: Vec<_> = late.iter().map(leaf::hash).collect();
        journal.append(&late, &leaves).unwrap();
        drop(journal);

        let ledger = open(root);
        runtime.block_on(async {
            let head = tip.position + 2;
            let at_least = AtLeast {
                ledger_id: String::new(),
                position: head,
            };
            ledger.wait_folded(&at_least).await.unwrap();
            let entry = ledger
                .entry(&Key::Position(tip.position + 1))
                .await
                .unwrap();
            assert_eq!((entry.verdict, entry.refusal), (Verdict::Admitted, None));
            assert_eq!(entry.leaf_hash, leaves[0]);
            let refused = Filter {
                leaves: Leaves::Refused,
                ..Filter::default()
            };
            let refused = ledger.list(&refused, 10, None, 0).await.unwrap().entries;
            assert_eq!(
                refused
                    .iter()
                    .map(|it| it.record.position)
                    .collect::<Vec<_>>(),
                [head]
            );
            let question = waybill_views::trace::Question {
                reference: format!("{:040x}", 7),
                ..Default::default()
            };
            let (basis, _) = ledger
                .trace(&ReadOptions::default(), question)
                .await
                .unwrap();
            assert_eq!((basis.position, basis.refused_leaf_count), (head, 1));
            let identity = receipt.identity.clone();
            assert_eq!(
                ledger.receipt(&identity).await.unwrap().position,
                receipt.position
            );
        });
    }
}
