//! `deployment.*`
use waybill_core::{
    EntityKind, Refusal,
    event::{Deployment, DeploymentStep, Operation, Payload},
};

use super::{About, delivery::outcome, part};
use crate::{
    field,
    pb::{self, deployment_event::Event},
};

pub(crate) fn read(event: &Event, about: &mut About) -> Result<Payload, Refusal> {
    let (info, step) = match event {
        Event::Requested(e) => (&e.deployment, DeploymentStep::Requested),
        Event::Started(e) => (&e.deployment, DeploymentStep::Started),
        Event::Progressed(e) => {
            field::ratio(e.traffic_ratio, "traffic_ratio")?;
            (&e.deployment, DeploymentStep::Progressed)
        }
        Event::Finished(e) => {
            field::said(e.outcome, "outcome")?;
            field::span(e.span.as_ref())?;
            let (outcome, allowed_to_fail) = (outcome(e.outcome), e.allowed_to_fail);
            (
                &e.deployment,
                DeploymentStep::Finished {
                    outcome,
                    allowed_to_fail,
                },
            )
        }
        Event::Superseded(e) => {
            field::name_if_any(&e.superseded_by, "superseded_by")?;
            (&e.deployment, DeploymentStep::Superseded)
        }
    };
    let info = part(info.as_ref(), "deployment")?;
    let deployment = known(info, step, about).map_err(|refusal| refusal.within("deployment"))?;
    let key = about.key();
    key.text(&deployment.service)
        .text(&deployment.environment)
        .text(&deployment.deployment_id);
    if let Event::Progressed(e) = event {
        key.number(e.step_index.into());
    }
    Ok(Payload::Deployment(Box::new(deployment)))
}

fn known(
    info: &pb::DeploymentInfo,
    step: DeploymentStep,
    about: &mut About,
) -> Result<Deployment, Refusal> {
    let id = field::name(&info.deployment_id, "deployment_id")?;
    let service = field::name(&info.service, "service")?;
    let environment = field::name(&info.environment, "environment")?;
    let entities = &mut about.entities;
    entities.within(EntityKind::Deployment, service, id, "deployment_id")?;
    entities.named(EntityKind::Service, service, "service")?;
    entities.named(EntityKind::Environment, environment, "environment")?;
    let revisions = entities.revisions(&info.revisions, "revisions")?;
    let artifacts = entities.artifacts(&info.artifacts, "artifacts")?;
    let config_revision =
        entities.revision_if_any(info.config_revision.as_ref(), "config_revision")?;
    let previous_revisions = entities.revisions(&info.previous_revisions, "previous_revisions")?;
    let version = field::shared_if_any(&info.version, "version")?;
    if let Some(version) = &version {
        entities.within(EntityKind::Release, service, version, "version")?;
    }
    for (earlier, field) in [
        (&info.rollback_of, "rollback_of"),
        (&info.previous_deployment_id, "previous_deployment_id"),
    ] {
        if let Some(earlier) = field::name_if_any(earlier, field)? {
            entities.within(EntityKind::Deployment, service, earlier, field)?;
        }
    }
    run(info, about)?;
    field::name_if_any(&info.trigger, "trigger")?;
    field::reference_if_any(&info.uri, "uri")?;
    Ok(Deployment {
        deployment_id: id.into(),
        service: service.into(),
        environment: environment.into(),
        operation: operation(info.operation),
        revisions,
        artifacts,
        config_revision,
        previous_revisions,
        rollback_of: field::shared_if_any(&info.rollback_of, "rollback_of")?,
        version,
        inferred: info.inferred,
        range_unknown: info.range_unknown,
        step,
    })
}

fn run(info: &pb::DeploymentInfo, about: &mut About) -> Result<(), Refusal> {
    let run = field::run(info.run.as_ref())?;
    if run.provider.is_empty() || run.run_id.is_empty() {
        return Ok(());
    }
    about
        .entities
        .within(EntityKind::Run, run.provider, run.run_id, "run")
}

/// Nothing said is a plain deployment; a number newer than this version is unknown.
fn operation(number: i32) -> Operation {
    use pb::DeploymentOperation as Wire;
    match Wire::try_from(number) {
        Ok(Wire::Unspecified | Wire::Deploy) => Operation::Deploy,
        Ok(Wire::Upgrade) => Operation::Upgrade,
        Ok(Wire::Rollback) => Operation::Rollback,
        Ok(Wire::Remove) => Operation::Remove,
        Ok(Wire::Publish) => Operation::Publish,
        Ok(Wire::Config) => Operation::Config,
        Ok(Wire::Migration) => Operation::Migration,
        Ok(Wire::Infrastructure) => Operation::Infrastructure,
        Err(_) => Operation::Unknown,
    }
}
