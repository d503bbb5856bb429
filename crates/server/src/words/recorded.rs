//! What the ledger answers, as the wire says it.
use bytes::Bytes;
use waybill_core::Refusal;
use waybill_ledger::stream::{Condition, Peer, StreamStatus};
use waybill_ledger::{
    Checkpoint, Consistency, Emitted, Entry, Finding, Inclusion, Proven, Receipt, RefusalEntry,
    Refused, Severity, State, Status, Verdict,
};
use waybill_proto::{pb, raw};

use super::{event_ref, hash, path, timestamp};

/// Header in which a record keeps its verified sender (LEDGER P1).
const SENDER_HEADER: &str = "Waybill-Sender";

/// What became of one event.
pub(crate) fn emit_result(emitted: &Emitted) -> pb::EmitResult {
    use pb::emit_result::Result::{Receipt, Refusal};
    let result = match emitted {
        Ok(it) => Receipt(receipt(it)),
        Err(it) => Refusal(refusal(it)),
    };
    pb::EmitResult {
        result: Some(result),
    }
}

/// The receipt of one event.
pub(crate) fn receipt(receipt: &Receipt) -> pb::Receipt {
    pb::Receipt {
        ledger_id: receipt.ledger_id.to_string(),
        instance_id: receipt.instance_id.to_string(),
        position: receipt.position,
        record_time: Some(timestamp(receipt.record_time)),
        leaf_hash: hash(&receipt.leaf_hash),
        salt: salt(receipt.salt),
        tree_size: receipt.tree_size,
        root: hash(&receipt.root),
        duplicate: receipt.duplicate,
        // Without a salt, whoever guesses the bytes can check the guess for ever (LEDGER P3).
        erasable: receipt.salt.is_some(),
        event: Some(event_ref(&receipt.identity, receipt.position)),
    }
}

/// Why one event was refused.
pub(crate) fn refusal(refused: &Refused) -> pb::Refusal {
    let recorded = refused.recorded.as_ref();
    pb::Refusal {
        recorded: recorded.map(|(identity, position)| event_ref(identity, *position)),
        ..why(&refused.refusal)
    }
}

fn why(refusal: &Refusal) -> pb::Refusal {
    pb::Refusal {
        code: refusal.code.as_str().to_owned(),
        field: refusal.field.clone(),
        value: refusal.value.clone(),
        rule: refusal.rule.clone(),
        hint: refusal.hint.clone(),
        recorded: None,
    }
}

/// One event as it stands in the ledger; its bytes are those that came.
pub(crate) fn event(entry: &Entry) -> raw::RecordedEvent {
    let record = &entry.record;
    let sender = record
        .headers
        .iter()
        .find(|(name, _)| name == SENDER_HEADER);
    raw::RecordedEvent {
        position: record.position,
        record_time: Some(timestamp(record.record_time)),
        epoch: record.epoch,
        stream_sequence: record.stream_sequence,
        kind: record.kind.to_string(),
        leaf_hash: hash(&entry.leaf_hash),
        salt: salt(record.salt),
        sender: sender.map(|(_, value)| value.clone()).unwrap_or_default(),
        natural_key: entry.natural_key.as_ref().map(hash).unwrap_or_default(),
        entities: entry
            .entities
            .iter()
            .map(|entity| entity.as_str().to_owned())
            .collect(),
        verdict: verdict(entry.verdict).into(),
        subject: record.subject.clone(),
        refusal: entry.refusal.as_ref().map(why),
        undecodable_bytes: match entry.event {
            Some(_) => Bytes::new(),
            None => record.bytes.clone(),
        },
        event: entry.event.clone().unwrap_or_default(),
    }
}

fn verdict(verdict: Verdict) -> pb::LeafVerdict {
    match verdict {
        Verdict::Admitted => pb::LeafVerdict::Admitted,
        Verdict::Ledger => pb::LeafVerdict::Ledger,
        Verdict::Duplicate => pb::LeafVerdict::Duplicate,
        Verdict::Conflict => pb::LeafVerdict::Conflict,
        Verdict::Undecodable => pb::LeafVerdict::Undecodable,
        Verdict::Refused => pb::LeafVerdict::Refused,
    }
}

/// A receipt with its proof.
pub(crate) fn proven(proven: Proven) -> pb::ProvenReceipt {
    let consistency = proven.consistency.as_ref();
    pb::ProvenReceipt {
        receipt: Some(receipt(&proven.receipt)),
        leaf: Bytes::from(proven.leaf),
        event_bytes: proven.event,
        subject: proven.subject,
        headers: proven
            .headers
            .into_iter()
            .map(|(name, value)| pb::KeptHeader { name, value })
            .collect(),
        inclusion_path: path(&proven.inclusion),
        consistent_from_size: consistency.map_or(0, |it| it.old_size),
        consistency_path: consistency.map(|it| path(&it.path)).unwrap_or_default(),
        checkpoint: proven.checkpoint.note,
        verifier_key: proven.checkpoint.verifier_key,
    }
}

/// A signed checkpoint.
pub(crate) fn checkpoint(checkpoint: Checkpoint) -> pb::GetCheckpointResponse {
    pb::GetCheckpointResponse {
        checkpoint: checkpoint.note,
        tree_size: checkpoint.tree_size,
        root: hash(&checkpoint.root),
        verifier_key: checkpoint.verifier_key,
    }
}

/// That a leaf is in a tree.
pub(crate) fn inclusion(proof: &Inclusion) -> pb::GetInclusionProofResponse {
    pb::GetInclusionProofResponse {
        position: proof.position,
        tree_size: proof.tree_size,
        leaf_hash: hash(&proof.leaf_hash),
        path: path(&proof.path),
        root: hash(&proof.root),
    }
}

/// That a tree grew from another.
pub(crate) fn consistency(proof: &Consistency) -> pb::GetConsistencyProofResponse {
    pb::GetConsistencyProofResponse {
        old_size: proof.old_size,
        new_size: proof.new_size,
        path: path(&proof.path),
        old_root: hash(&proof.old_root),
        new_root: hash(&proof.new_root),
    }
}

/// One line of the refusals' side log.
pub(crate) fn refusal_record(entry: RefusalEntry) -> pb::RefusalRecord {
    pb::RefusalRecord {
        number: entry.number,
        refuse_time: Some(timestamp(entry.time)),
        refusal: Some(pb::Refusal {
            code: entry.code,
            field: entry.field,
            value: entry.value,
            rule: entry.rule,
            hint: entry.hint,
            recorded: None,
        }),
        source: entry.source,
        id: entry.id,
        kind: entry.kind,
        sender: entry.sender,
        body_digest: hash(&entry.body_digest),
        body_size: entry.body_size,
        body: Bytes::from(entry.body),
        position: 0,
    }
}

/// Where the ledger stands and how it is.
pub(crate) fn status(status: &Status) -> pb::GetStatusResponse {
    pb::GetStatusResponse {
        ledger_id: status.ledger_id.to_string(),
        instance_id: status.instance_id.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        durable_position: status.heads.durable,
        applied_position: status.heads.folded,
        root: hash(&status.root),
        record_time: status.record_time.map(timestamp),
        epoch: status.epoch,
        rules_version: status.rules_version,
        emits: state(status.emits).into(),
        questions: state(status.questions).into(),
        emits_reason: status.emits_reason.clone(),
        rebuild_progress_ratio: rebuild_progress_ratio(status),
        journal_bytes: status.journal_bytes,
        database_bytes: status.database_bytes,
        disk_available_bytes: status.disk_available_bytes,
        duplicate_count: status.duplicate_count,
        conflict_count: status.conflict_count,
        refusal_count: status.refusal_count,
        refused_leaf_count: status.refused_leaf_count,
        scrub_time: status.scrub_time.map(timestamp),
        verifier_key: status.verifier_key.clone(),
        findings: status.findings.iter().map(finding).collect(),
        stream: status.stream.as_ref().map(|it| stream(it, status)),
    }
}

fn stream(stream: &StreamStatus, status: &Status) -> pb::StreamStatus {
    let (base_position, first_sequence) = stream.base.unwrap_or_default();
    let (condition, frozen, reason) = match &stream.condition {
        Condition::Following => (pb::StreamCondition::Following, None, ""),
        Condition::Away(why) => (pb::StreamCondition::Away, None, why.as_str()),
        Condition::Frozen(freeze) => (
            pb::StreamCondition::Frozen,
            Some(freeze),
            freeze.reason.as_str(),
        ),
    };
    let leaf = |hash: Option<[u8; 32]>| hash.as_ref().map(super::hash).unwrap_or_default();
    pb::StreamStatus {
        name: stream.name.clone(),
        condition: condition.into(),
        reason: reason.to_owned(),
        remedy: frozen
            .map(|freeze| freeze.remedy.clone())
            .unwrap_or_default(),
        base_position,
        first_sequence,
        recorded_sequence: stream.recorded_sequence,
        broker_sequence: stream.broker_sequence,
        ledger_leaf_hash: leaf(frozen.and_then(|freeze| freeze.ledger_leaf)),
        broker_leaf_hash: leaf(frozen.and_then(|freeze| freeze.broker_leaf)),
        head_root: hash(&status.root),
        redelivered_count: stream.redelivered_count,
        clamped_count: stream.clamped_count,
        sync: stream.sync().to_owned(),
        durable: stream.is_durable(),
        peers: stream.peers.iter().map(peer).collect(),
    }
}

fn peer(peer: &Peer) -> pb::Peer {
    let agreement = match peer.same {
        None => pb::Agreement::Pending,
        Some(true) => pb::Agreement::Same,
        Some(false) => pb::Agreement::Different,
    };
    pb::Peer {
        instance_id: peer.instance_id.clone(),
        position: peer.position,
        root: hash(&peer.root),
        agreement: agreement.into(),
    }
}

/// How far views are after a start, 0 to 1.
#[allow(
    clippy::cast_precision_loss,
    reason = "a ratio for people; positions stay far below 2^53"
)]
pub(crate) fn rebuild_progress_ratio(status: &Status) -> f64 {
    match status.questions_total {
        0 => 1.0,
        total => (status.heads.folded as f64 / total as f64).min(1.0),
    }
}

fn state(state: State) -> pb::ReadState {
    match state {
        State::Serving => pb::ReadState::Serving,
        State::Rebuilding => pb::ReadState::Rebuilding,
        State::Refusing => pb::ReadState::Refusing,
    }
}

fn finding(finding: &Finding) -> pb::Finding {
    let severity = match finding.severity {
        Severity::Ok => pb::FindingSeverity::Ok,
        Severity::Warn => pb::FindingSeverity::Warn,
        Severity::Fail => pb::FindingSeverity::Fail,
    };
    pb::Finding {
        severity: severity.into(),
        code: finding.code.to_owned(),
        text: finding.text.clone(),
        remedy: finding.remedy.clone(),
    }
}

fn salt(salt: Option<[u8; 16]>) -> Bytes {
    salt.map(|salt| Bytes::copy_from_slice(&salt))
        .unwrap_or_default()
}
