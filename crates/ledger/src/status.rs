//! What `status` shows, and the refusals.
use std::sync::atomic::Ordering;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use waybill_core::Refusal;
use waybill_proto::parse::Claim;
use waybill_store::side_log;

use crate::{
    admit::RULES_VERSION,
    ledger::Ledger,
    shared::{Shared, Writing, lock, read},
    stream::StreamStatus,
    words::{ReadFailure, State, Status},
};

impl Ledger {
    /// Where the ledger stands and how it is.
    #[must_use]
    pub fn status(&self) -> Status {
        let shared = &self.shared;
        let heads = *shared.heads.borrow();
        let durable = read(&shared.durable).clone();
        let stream = shared.stream.as_ref().map(|side| side.status());
        let not_followed = shared.stream.as_ref().and_then(|side| side.rejection());
        let (emits, emits_reason) = match (&*read(&shared.writing), not_followed) {
            (Writing::Paused(why) | Writing::Closed(why), _) => (State::Refusing, why.clone()),
            (Writing::Open, Some(rejection)) => (State::Refusing, rejection.to_string()),
            (Writing::Open, None) => (State::Serving, String::new()),
        };
        let mut findings = lock(&shared.findings).clone();
        findings.extend(stream.iter().flat_map(StreamStatus::findings));
        let questions = if heads.folded >= shared.folded_from {
            State::Serving
        } else {
            State::Rebuilding
        };
        Status {
            ledger_id: shared.ledger_id.clone(),
            instance_id: shared.instance_id.clone(),
            heads,
            root: durable.root,
            record_time: durable.record_time,
            epoch: self.epoch(),
            rules_version: RULES_VERSION,
            emits,
            emits_reason,
            questions,
            questions_total: shared.folded_from,
            journal_bytes: shared.journal_bytes.load(Ordering::Relaxed),
            database_bytes: read(&shared.database).bytes_on_disk(),
            disk_available_bytes: shared.place.available_bytes().unwrap_or(0),
            duplicate_count: shared.counts.duplicates.load(Ordering::Relaxed),
            conflict_count: shared.counts.conflicts.load(Ordering::Relaxed),
            refusal_count: lock(&shared.side_log).total_count(),
            scrub_time: *lock(&shared.scrub_time),
            verifier_key: shared.signing_key.verifier_key().to_vkey(),
            findings,
            stream,
            refused_leaf_count: read(&shared.facts).refused_leaf_count(heads.folded),
        }
    }

    /// The epoch that the head belongs to.
    fn epoch(&self) -> u32 {
        let position = read(&self.shared.durable).position;
        let head = self.shared.record(position).ok().flatten();
        head.map_or(0, |record| record.epoch)
    }

    /// Refusals, newest first: those numbered below `before` (`None`: the newest), at most `limit`.
    ///
    /// # Errors
    /// [`ReadFailure::Fault`] when the side log cannot be read.
    pub fn refusals(
        &self,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<side_log::Entry>, ReadFailure> {
        Ok(lock(&self.shared.side_log).newest(before, limit)?)
    }

    /// Puts a refusal on record that was made before there was an event, such as JSON that cannot be read.
    pub fn note_refusal(&self, refusal: &Refusal, sender: &str, body: &Bytes) {
        self.shared
            .note_refusal(refusal, Claim::default(), sender, body);
    }
}

impl Shared {
    /// Puts a refusal on record. A side log that cannot be written loses the details, never the answer.
    pub(crate) fn note_refusal(&self, refusal: &Refusal, claim: Claim, sender: &str, body: &Bytes) {
        let entry = side_log::Entry {
            number: 0,
            time: (self.host.clock)(),
            code: refusal.code.as_str().to_owned(),
            field: refusal.field.clone(),
            value: refusal.value.clone(),
            rule: refusal.rule.clone(),
            hint: refusal.hint.clone(),
            source: claim.source,
            id: claim.id,
            kind: claim.kind,
            sender: sender.to_owned(),
            body_digest: Sha256::digest(body).into(),
            body_size: u32::try_from(body.len()).unwrap_or(u32::MAX),
            body: body[..body.len().min(side_log::BODY_BYTES_MAX)].to_vec(),
        };
        if let Err(fault) = lock(&self.side_log).append(entry) {
            tracing::warn!(error = %crate::writer::chain(&fault), "a refusal's details are not on record");
        }
    }
}
