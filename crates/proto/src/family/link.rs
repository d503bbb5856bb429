//! `link.*`
use waybill_core::{
    EntityKind, Refusal,
    event::{Link, LinkMethod, LinkStep, Payload},
};

use super::About;
use crate::{
    field,
    pb::{self, link_event::Event},
};

pub(crate) fn read(event: &Event, about: &mut About) -> Result<Payload, Refusal> {
    let (link_id, step) = match event {
        Event::Asserted(e) => (&e.link_id, asserted(e, about)?),
        Event::Retracted(e) => (&e.link_id, LinkStep::Retracted),
        Event::SuspectJudged(e) => return judged(e, about).map(|()| Payload::Other),
    };
    let link_id = field::name(link_id, "link_id")?;
    about.entities.other("link", link_id, "link_id")?;
    about.key_by_time(&[link_id]);
    Ok(Payload::Link(Box::new(Link {
        link_id: link_id.into(),
        step,
    })))
}

fn asserted(e: &pb::LinkAsserted, about: &mut About) -> Result<LinkStep, Refusal> {
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
    about.entities.add(from.clone());
    about.entities.add(to.clone());
    Ok(LinkStep::Asserted {
        from,
        to,
        method: method(e.method),
        confidence_ppm: field::parts_per_million(e.confidence, "confidence")?,
        because: e.because.as_str().into(),
    })
}

fn judged(e: &pb::SuspectJudged, about: &mut About) -> Result<(), Refusal> {
    let incident = field::name(&e.incident_id, "incident_id")?;
    about
        .entities
        .named(EntityKind::Incident, incident, "incident_id")?;
    let none_of_these = e.verdict == i32::from(pb::SuspectVerdict::NoneOfThese);
    if !(none_of_these && e.suspect.is_empty()) {
        about.entities.add(field::entity(&e.suspect, "suspect")?);
    }
    about.key_by_time(&[incident, &e.suspect]);
    Ok(())
}

fn method(number: i32) -> LinkMethod {
    use pb::LinkMethod as Wire;
    match Wire::try_from(number) {
        Ok(Wire::Explicit) => LinkMethod::Explicit,
        Ok(Wire::Tool) => LinkMethod::Tool,
        Ok(Wire::TimeWindow) => LinkMethod::TimeWindow,
        Ok(Wire::Revert) => LinkMethod::Revert,
        Ok(Wire::Rollback) => LinkMethod::Rollback,
        Ok(Wire::Hotfix) => LinkMethod::Hotfix,
        Ok(Wire::Unspecified) | Err(_) => LinkMethod::Unknown,
    }
}
