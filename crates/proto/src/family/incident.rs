//! `incident.*`
use waybill_core::{
    EntityKind, Refusal,
    event::{Incident, IncidentStep, Payload},
};

use super::{About, part};
use crate::{
    field,
    pb::{self, incident_event::Event},
};

pub(crate) fn read(event: &Event, about: &mut About) -> Result<Payload, Refusal> {
    let (info, step) = match event {
        Event::Detected(e) => (&e.incident, IncidentStep::Detected),
        Event::Reported(e) => {
            field::actor(e.reporter.as_ref(), "reporter")?;
            (&e.incident, IncidentStep::Reported)
        }
        Event::Acknowledged(e) => (&e.incident, IncidentStep::Acknowledged),
        Event::Updated(e) => (&e.incident, IncidentStep::Updated),
        Event::Mitigated(e) => (&e.incident, IncidentStep::Mitigated),
        Event::Resolved(e) => (&e.incident, IncidentStep::Resolved),
        Event::Reopened(e) => (&e.incident, IncidentStep::Reopened),
        Event::Merged(e) => (
            &e.incident,
            IncidentStep::Merged {
                into: field::name(&e.merged_into, "merged_into")?.into(),
            },
        ),
        Event::Cancelled(e) => (&e.incident, IncidentStep::Cancelled),
    };
    let info = part(info.as_ref(), "incident")?;
    let incident = known(info, step, about).map_err(|refusal| refusal.within("incident"))?;
    if let IncidentStep::Merged { into } = &incident.step {
        about
            .entities
            .named(EntityKind::Incident, into, "merged_into")?;
    }
    key(info, about);
    Ok(Payload::Incident(Box::new(incident)))
}

fn known(
    info: &pb::IncidentInfo,
    step: IncidentStep,
    about: &mut About,
) -> Result<Incident, Refusal> {
    let id = field::name(&info.incident_id, "incident_id")?;
    let environment = field::name(&info.environment, "environment").map_err(|refusal| {
        refusal.with_hint("set environment; write `unknown` where it is not known")
    })?;
    about
        .entities
        .named(EntityKind::Incident, id, "incident_id")?;
    about
        .entities
        .named(EntityKind::Environment, environment, "environment")?;
    let services = field::names(&info.services, "services")?;
    for service in &services {
        about
            .entities
            .named(EntityKind::Service, service, "services")?;
    }
    for cause in field::each(&info.suspected_causes, "suspected_causes", |name| {
        field::entity(name, "")
    })? {
        about.entities.add(cause);
    }
    field::name_if_any(&info.priority, "priority")?;
    field::name_if_any(&info.transition_id, "transition_id")?;
    field::name_if_any(&info.provider, "provider")?;
    field::reference_if_any(&info.ticket_uri, "ticket_uri")?;
    field::reference_if_any(&info.uri, "uri")?;
    Ok(Incident {
        incident_id: id.into(),
        environment: environment.into(),
        services,
        severity: field::shared_if_any(&info.severity, "severity")?,
        title: info.title.as_str().into(),
        step,
    })
}

/// An incident may be resolved and reopened many times: the provider's transition tells them apart, or the time.
fn key(info: &pb::IncidentInfo, about: &mut About) {
    let occur_time = about.occur_time;
    let key = about.key();
    key.text(&info.provider).text(&info.incident_id);
    if info.transition_id.is_empty() {
        key.text("time").moment(occur_time);
    } else {
        key.text("transition").text(&info.transition_id);
    }
}
