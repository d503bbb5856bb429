//! `ledger.*`
use waybill_core::{
    Entity, EntityKind, Identity, Refusal,
    event::{Gap, Payload, RecordKind, Rename, SourceRank},
};

use super::About;
use crate::{
    field,
    pb::{self, ledger_event::Event},
};

pub(crate) fn read(event: &Event, about: &mut About) -> Result<Payload, Refusal> {
    match event {
        Event::GapDetected(e) => return gap(e, about),
        Event::SourceRegistered(e) => return source(e, about),
        Event::Renamed(e) => return renamed(e, about),
        Event::Created(e) => {
            let ledger_id = field::name(&e.ledger_id, "ledger_id")?;
            about.key().text(ledger_id);
        }
        Event::ConflictDetected(e) => {
            reference(e.event.as_ref())?;
            field::digest_if_any(&e.recorded_digest, "recorded_digest")?;
            field::digest_if_any(&e.refused_digest, "refused_digest")?;
        }
        Event::EpochOpened(e) => epoch(e, about)?,
        Event::RulesChanged(e) => {
            if e.rules_version == 0 {
                return Err(field::missing("rules_version"));
            }
        }
        Event::LossAccepted(e) => loss(e)?,
        Event::ProjectionRebuilt(e) => {
            field::name(&e.projection, "projection")?;
        }
        Event::Quarantined(e) => quarantined(e, about)?,
        Event::Enriched(e) => enriched(e, about)?,
        Event::Corrected(e) => {
            reference(e.event.as_ref())?;
        }
        Event::Retracted(e) => {
            about.amends = Some(RecordKind::Retraction(reference(e.event.as_ref())?))
        }
        Event::Redacted(e) => {
            about.amends = Some(RecordKind::Redaction(reference(e.event.as_ref())?))
        }
    }
    Ok(Payload::Other)
}

/// Reads a reference to another event by its identity.
pub(crate) fn identity(event: &pb::EventRef) -> Result<Identity, Refusal> {
    Ok(Identity {
        source: field::name(&event.source, "source")?.into(),
        id: field::name(&event.id, "id")?.into(),
    })
}

fn reference(event: Option<&pb::EventRef>) -> Result<Identity, Refusal> {
    let event = event.ok_or_else(|| field::missing("event"))?;
    identity(event).map_err(|refusal| refusal.within("event"))
}

fn gap(e: &pb::GapDetected, about: &mut About) -> Result<Payload, Refusal> {
    let entity = field::entity_if_any(&e.entity, "entity")?;
    let bounds = field::names(&e.bounds, "bounds")?;
    let start = field::time_if_any(e.start_time.as_ref(), "start_time")?;
    let end = field::time_if_any(e.end_time.as_ref(), "end_time")?;
    if let (Some(start), Some(end)) = (start, end) {
        field::ordered(start, end)?;
    }
    let key = about.key();
    key.text(entity.as_ref().map_or("", Entity::as_str))
        .text(&e.reason);
    for bound in &bounds {
        key.text(bound);
    }
    if bounds.is_empty() {
        key.moment(start).moment(end);
    }
    entity
        .iter()
        .cloned()
        .for_each(|entity| about.entities.add(entity));
    let (reason, remedy) = (e.reason.as_str().into(), e.remedy.as_str().into());
    Ok(Payload::Gap(Box::new(Gap {
        entity,
        reason,
        bounds,
        remedy,
    })))
}

fn source(e: &pb::SourceRegistered, about: &mut About) -> Result<Payload, Refusal> {
    let source = field::name(&e.source, "source")?;
    about.entities.named(EntityKind::Source, source, "source")?;
    about.key_by_time(&[source]);
    Ok(Payload::SourceRank(SourceRank {
        source: source.into(),
        rank: e.rank,
    }))
}

fn renamed(e: &pb::Renamed, about: &mut About) -> Result<Payload, Refusal> {
    let from = field::entity(&e.from_entity, "from_entity")?;
    let to = field::entity(&e.to_entity, "to_entity")?;
    if from == to {
        return Err(Refusal::new(
            waybill_core::Code::Contradiction,
            "to_entity",
            &to,
            "the same as from_entity",
        ));
    }
    about.key_by_time(&[from.as_str(), to.as_str()]);
    about.entities.add(to.clone());
    about.entities.add(from.clone());
    Ok(Payload::Rename(Rename { from, to }))
}

fn epoch(e: &pb::EpochOpened, about: &mut About) -> Result<(), Refusal> {
    let ledger_id = field::name(&e.ledger_id, "ledger_id")?;
    field::name_if_any(&e.stream_name, "stream_name")?;
    field::digest_if_any(&e.last_root, "last_root")?;
    field::digest_if_any(&e.first_leaf_hash, "first_leaf_hash")?;
    field::actor(e.who.as_ref(), "who")?;
    about.key().text(ledger_id).number(e.epoch.into());
    Ok(())
}

fn loss(e: &pb::LossAccepted) -> Result<(), Refusal> {
    field::name(&e.previous_ledger_id, "previous_ledger_id")?;
    field::digest_if_any(&e.last_kept_root, "last_kept_root")?;
    field::digest_if_any(&e.lost_root, "lost_root")?;
    field::actor(e.who.as_ref(), "who").map(|_| ())
}

fn quarantined(e: &pb::Quarantined, about: &mut About) -> Result<(), Refusal> {
    let provider = field::name(&e.provider, "provider")?;
    field::digest_if_any(&e.body_digest, "body_digest")?;
    field::reference_if_any(&e.raw_ref, "raw_ref")?;
    if !e.body_digest.is_empty() {
        about.key().text(provider).bytes(&e.body_digest);
    }
    Ok(())
}

fn enriched(e: &pb::Enriched, about: &mut About) -> Result<(), Refusal> {
    reference(e.event.as_ref())?;
    crate::parse::labels(&e.labels)?;
    about
        .entities
        .named_if_any(EntityKind::Service, &e.service, "service")?;
    about
        .entities
        .named_if_any(EntityKind::Environment, &e.environment, "environment")
}
