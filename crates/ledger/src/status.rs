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
    words::{ReadFailure, State, Status},
};

impl Ledger {
    /// Where the ledger stands and how it is.
    #[must_use]
    pub fn status(&self) -> Status {
        let shared = &self.shared;
        let heads = *shared.heads.borrow();
        let durable = read(&shared.durable).clone();
        let (emits, emits_reason) = match &*read(&shared.writing) {
            Writing::Open => (State::Serving, String::new()),
            Writing::Paused(why) | Writing::Closed(why) => (State::Refusing, why.clone()),
        };
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
            epoch: 0,
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
            findings: lock(&shared.findings).clone(),
        }
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
