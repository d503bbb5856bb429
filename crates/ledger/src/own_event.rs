//! The ledger's own events, made by the ledger (LEDGER A4).
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use waybill_core::{Event, Identity, Time};
use waybill_proto::{parse, pb};
use waybill_store::{Hash, place::Head};

use crate::admit;

/// Digests of what stands under an identity and of what came.
pub(crate) struct Digests {
    pub(crate) recorded: [u8; 32],
    pub(crate) refused: [u8; 32],
}

/// An event of the ledger's own, parsed and as bytes.
pub(crate) struct Own {
    pub(crate) event: Event,
    pub(crate) bytes: Bytes,
}

/// `ledger.conflict_detected`, at most one for an identity: its own id is made from that identity.
pub(crate) fn conflict_detected(
    ledger_id: &Arc<str>,
    event: &Event,
    position: u64,
    digests: &Digests,
    now: Time,
) -> Own {
    let conflict = pb::ConflictDetected {
        event: Some(reference(&event.identity, position)),
        recorded_digest: Bytes::copy_from_slice(&digests.recorded),
        refused_digest: Bytes::copy_from_slice(&digests.refused),
    };
    own(
        ledger_id,
        &admit::conflict_id(&event.identity),
        now,
        pb::ledger_event::Event::ConflictDetected(conflict),
    )
}

/// `ledger.created`, the first event of every ledger.
pub(crate) fn created(ledger_id: &Arc<str>, now: Time) -> Own {
    let created = pb::LedgerCreated {
        ledger_id: ledger_id.to_string(),
        rules_version: admit::RULES_VERSION,
    };
    own(
        ledger_id,
        "created",
        now,
        pb::ledger_event::Event::Created(created),
    )
}

const LOSS_ACCEPTED: &str = "loss_accepted";

/// Identity of the `ledger.loss_accepted` of a ledger.
pub(crate) fn loss_identity(ledger_id: &Arc<str>) -> Identity {
    Identity {
        source: ledger_id.clone(),
        id: Arc::from(LOSS_ACCEPTED),
    }
}

/// `ledger.loss_accepted`, the first event of a ledger that goes on after a loss (LEDGER J4).
pub(crate) fn loss_accepted(
    ledger_id: &Arc<str>,
    lost: &Head,
    kept: u64,
    kept_root: &Hash,
    now: Time,
) -> Own {
    let accepted = pb::LossAccepted {
        previous_ledger_id: lost.ledger_id.clone(),
        last_kept_position: kept,
        last_kept_root: Bytes::copy_from_slice(kept_root),
        lost_position: lost.position,
        lost_root: Bytes::copy_from_slice(&lost.root),
        ..Default::default()
    };
    own(
        ledger_id,
        LOSS_ACCEPTED,
        now,
        pb::ledger_event::Event::LossAccepted(accepted),
    )
}

fn own(ledger_id: &Arc<str>, id: &str, now: Time, event: pb::ledger_event::Event) -> Own {
    let message = pb::Event {
        source: ledger_id.to_string(),
        id: id.to_owned(),
        occur_time: Some(prost_types::Timestamp {
            seconds: now.seconds(),
            nanos: now.subsec_nanos(),
        }),
        occur_time_basis: pb::OccurTimeBasis::Reported.into(),
        payload: Some(pb::event::Payload::Ledger(pb::LedgerEvent {
            event: Some(event),
        })),
        ..Default::default()
    };
    let bytes = Bytes::from(message.encode_to_vec());
    let event = parse::parse(&bytes).expect("the ledger's own events keep the ledger's own rules");
    Own { event, bytes }
}

fn reference(identity: &Identity, position: u64) -> pb::EventRef {
    pb::EventRef {
        source: identity.source.to_string(),
        id: identity.id.to_string(),
        position,
    }
}
