//! Deployments: what ran before is asked of the ledger, and a range that cannot be known is said to be unknown.
use waybill_proto::pb::{
    AtLeast, DeploymentEvent, DeploymentFinished, DeploymentInfo, DeploymentOperation,
    DeploymentRequested, DeploymentStarted, DeploymentStrategy, Event, EventFilter, EventRef,
    GetEventRequest, ListEventsRequest, Outcome, Revision, Span, deployment_event::Event as Moved,
    event::Payload, get_event_request::Key,
};

use crate::{
    args::{Deployment, Operation, Stamp, Step, Strategy},
    command::status,
    context::Context,
    exit::{Exit, Failure},
    git,
    output::{self, clean},
    source::Source,
};

use super::{Happened, Origin, origin::normal, payload};

/// Commits fetched in one go where a clone is too shallow.
const DEEPEN_COMMITS: u32 = 500;
/// How often more are fetched.
const DEEPEN_TIMES: u32 = 4;
/// How many earlier deployments of a service are looked at for one to this environment.
const LOOKED_AT: i32 = 1_000;

/// What is known of a deployment before the ledger is asked.
pub(crate) fn info(
    args: &Deployment,
    stamp: &Stamp,
    origin: &Origin,
    context: &Context,
) -> Result<DeploymentInfo, Failure> {
    let service = payload::service(context, args.service.as_deref())?;
    let environment = payload::environment(context, args.environment.as_deref())?;
    let head = origin.head();
    if let Some(unknown) = unknown_head(args, origin) {
        output::say(format!("warning: {unknown}"));
    }
    let operation = match (args.operation, &args.rollback_of) {
        (Some(operation), _) => self::operation(operation),
        (None, Some(_)) => DeploymentOperation::Rollback,
        (None, None) => DeploymentOperation::Deploy,
    };
    Ok(DeploymentInfo {
        deployment_id: origin.work_id(stamp, args.deployment.as_deref(), &environment)?,
        service,
        environment,
        operation: operation.into(),
        revisions: head.into_iter().collect(),
        artifacts: args
            .artifact
            .iter()
            .map(|text| payload::artifact(text))
            .collect(),
        previous_revisions: named_previous(args, origin).into_iter().collect(),
        strategy: args
            .strategy
            .map_or(DeploymentStrategy::Unspecified, strategy)
            .into(),
        rollback_of: args.rollback_of.clone().unwrap_or_default(),
        run: origin.run.clone(),
        trigger: args.trigger.clone().unwrap_or_default(),
        version: args.version.clone().unwrap_or_default(),
        ..DeploymentInfo::default()
    })
}

/// The revision that was said to have run before. A command that deploys is not stopped for want of its repository.
fn named_previous(args: &Deployment, origin: &Origin) -> Option<Revision> {
    let name = args.previous.as_deref()?;
    let revision = git::revision(name).unwrap_or_else(|| name.to_ascii_lowercase());
    let Some(repository) = origin.repository.clone() else {
        let revision = waybill_core::refusal::shown(&revision);
        output::say(format!(
            "warning: no repository is known for the revision before, `{revision}`, so it is not recorded; name it: --repository REPOSITORY"
        ));
        return None;
    };
    Some(Revision {
        repository,
        revision,
    })
}

/// Why it is not known what is deployed, and what would mend it. Artifacts say it too; a value that is there and
/// cannot be recorded is told all the same.
fn unknown_head(args: &Deployment, origin: &Origin) -> Option<String> {
    let name_both = "name it: --revision COMMIT --repository REPOSITORY";
    let (why, mend) = match origin {
        Origin {
            no_revision: Some(said),
            ..
        } => {
            let said = waybill_core::refusal::shown(said);
            let why = format!("CI's revision is `{said}`, not a commit id (7 to 64 hex digits)");
            (why, name_both)
        }
        Origin {
            repository: None,
            revision: Some(revision),
            ..
        } => {
            let revision = waybill_core::refusal::shown(revision);
            let why = format!("no repository is known for revision `{revision}`");
            (why, "name it: --repository REPOSITORY")
        }
        _ if origin.head().is_some() || !args.artifact.is_empty() => return None,
        _ => ("no revision is known".to_owned(), name_both),
    };
    let so = if args.artifact.is_empty() {
        "so no change can be found in this deployment"
    } else {
        "so it is not recorded"
    };
    Some(format!("{why}, {so}; {mend}"))
}

/// How a deployment ended.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    pub(crate) outcome: Outcome,
    pub(crate) span: Option<Span>,
    pub(crate) exit_code: i32,
}

/// One step of a deployment.
pub(crate) fn step(info: DeploymentInfo, step: Step, ending: Ending) -> Happened {
    let subject = format!("{}@{}", info.service, info.environment);
    let deployment = Some(info);
    let (kind, event) = match step {
        Step::Requested => (
            "deployment.requested",
            Moved::Requested(DeploymentRequested { deployment }),
        ),
        Step::Started => (
            "deployment.started",
            Moved::Started(DeploymentStarted { deployment }),
        ),
        Step::Finished => {
            let Ending {
                outcome,
                span,
                exit_code,
            } = ending;
            let finished = DeploymentFinished {
                deployment,
                outcome: outcome.into(),
                span,
                exit_code,
                allowed_to_fail: false,
            };
            ("deployment.finished", Moved::Finished(finished))
        }
    };
    Happened::new(
        kind,
        subject,
        Payload::Deployment(DeploymentEvent { event: Some(event) }),
    )
}

/// Fills in what ran before, as the ledger knows it, and whether the range from there can be known.
///
/// A step that runs again must say what it said the first time: what is recorded already under its identity is taken
/// as it stands.
///
/// # Errors
/// When the ledger cannot be asked.
pub(crate) async fn complete(
    source: &Source,
    event: &mut Event,
    deepen: bool,
) -> Result<(), Failure> {
    match ask_ledger(source, event).await {
        Ok(true) => return Ok(()),
        Ok(false) => {}
        // Who may emit may not be allowed to ask: then it says what it knows itself.
        Err(failure) if failure.exit() == Exit::Auth => {}
        Err(failure) => return Err(failure),
    }
    if let Some(info) = info_of(event) {
        ask_for_previous(info);
        bound(info, deepen);
    }
    Ok(())
}

/// Fills in what the ledger knows; says whether this deployment is recorded already, so that nothing is left to say.
async fn ask_ledger(source: &Source, event: &mut Event) -> Result<bool, Failure> {
    // What has a receipt may not be in the lists yet.
    let durable = status::ask(source).await?.durable_position;
    if say_as_recorded(source, event, durable).await? {
        return Ok(true);
    }
    if let Some(info) = info_of(event)
        && info.previous_revisions.is_empty()
        && let Some(previous) = previous(source, info, durable).await?
    {
        info.previous_deployment_id
            .clone_from(&previous.deployment_id);
        info.previous_revisions = previous.revisions;
    }
    Ok(false)
}

/// Takes what ran before from what is recorded already under this deployment's identity; says whether there is such.
///
/// # Errors
/// When the ledger cannot be asked.
pub(crate) async fn say_as_recorded(
    source: &Source,
    event: &mut Event,
    at_least: u64,
) -> Result<bool, Failure> {
    if info_of(event).is_none() {
        return Ok(false);
    }
    let recorded = recorded(source, event, at_least).await?;
    let (Some(info), Some(recorded)) = (info_of(event), recorded.as_ref().and_then(known_info))
    else {
        return Ok(false);
    };
    info.previous_revisions = recorded.previous_revisions;
    info.previous_deployment_id = recorded.previous_deployment_id;
    info.range_unknown = recorded.range_unknown;
    Ok(true)
}

/// Marks the range as unknown where this clone cannot see its lower end, and says what would mend it.
pub(crate) fn bound(info: &mut DeploymentInfo, deepen: bool) {
    let [head] = info.revisions.as_slice() else {
        return;
    };
    let same = |previous: &&Revision| {
        normal(&previous.repository) == normal(&head.repository)
            && previous.revision != head.revision
    };
    let Some(previous) = info.previous_revisions.iter().find(same) else {
        return;
    };
    if git::revision(&head.revision).is_none() {
        return; // Not run inside the repository: nothing can be said, so nothing is.
    }
    let mut known = git::is_ancestor(&previous.revision, &head.revision).is_some();
    for _ in 0..DEEPEN_TIMES {
        if known || !deepen || !git::is_shallow() || !git::deepen(DEEPEN_COMMITS) {
            break;
        }
        known = git::is_ancestor(&previous.revision, &head.revision).is_some();
    }
    if !known {
        let previous = crate::words::short(&previous.revision);
        let why = format!("this clone does not hold {previous}, which ran before");
        let mend = "clone with full history (fetch-depth: 0), or let waybill fetch it: --deepen";
        say_unknown(info, &why, mend);
    }
}

/// Marks the range as unknown where nobody knows what ran before and this clone has no history to find it in.
fn ask_for_previous(info: &mut DeploymentInfo) {
    let [head] = info.revisions.as_slice() else {
        return;
    };
    if info.previous_revisions.is_empty()
        && git::is_shallow()
        && git::revision(&head.revision).is_some()
    {
        let (service, environment) = (clean(&info.service), clean(&info.environment));
        let why = format!(
            "this clone is shallow and no earlier deployment of {service} to {environment} is recorded"
        );
        let mend = "name the commit that ran before: --previous COMMIT";
        say_unknown(info, &why, mend);
    }
}

fn say_unknown(info: &mut DeploymentInfo, why: &str, mend: &str) {
    info.range_unknown = true;
    output::say(format!(
        "warning: {why}, so the changes in this deployment are recorded as unknown"
    ));
    output::say(format!("         mend it: {mend}"));
}

/// The newest successful deployment of the same service to the same environment that is not this one.
async fn previous(
    source: &Source,
    info: &DeploymentInfo,
    at_least: u64,
) -> Result<Option<DeploymentInfo>, Failure> {
    let service = waybill_core::Entity::named(waybill_core::EntityKind::Service, &info.service);
    let Ok(service) = service else {
        // The ledger will say what is wrong with it.
        return Ok(None);
    };
    let filter = EventFilter {
        kinds: vec!["deployment.finished".to_owned()],
        entity: service.as_str().to_owned(),
        ..EventFilter::default()
    };
    let request = ListEventsRequest {
        page_size: LOOKED_AT,
        filter: Some(filter),
        descending: true,
        at_least: Some(position(at_least)),
        ..ListEventsRequest::default()
    };
    let answer = source
        .answer(source.ledger().list_events(source.request(request)))
        .await?;
    let finished = answer
        .events
        .into_iter()
        .filter_map(|recorded| recorded.event)
        .filter_map(finished);
    let mut fitting = finished.filter(|(earlier, outcome)| {
        *outcome == Outcome::Success
            && earlier.environment == info.environment
            && earlier.service == info.service
            && earlier.deployment_id != info.deployment_id
            && !earlier.revisions.is_empty()
    });
    Ok(fitting.next().map(|(earlier, _)| earlier))
}

fn finished(event: Event) -> Option<(DeploymentInfo, Outcome)> {
    match event.payload? {
        Payload::Deployment(DeploymentEvent {
            event: Some(Moved::Finished(finished)),
        }) => {
            let outcome = finished.outcome();
            Some((finished.deployment?, outcome))
        }
        _ => None,
    }
}

async fn recorded(source: &Source, event: &Event, at_least: u64) -> Result<Option<Event>, Failure> {
    let key = Key::Event(EventRef {
        source: event.source.clone(),
        id: event.id.clone(),
        position: 0,
    });
    let request = GetEventRequest {
        key: Some(key),
        at_least: Some(position(at_least)),
    };
    match source
        .answer(source.ledger().get_event(source.request(request)))
        .await
    {
        Ok(answer) => Ok(answer.event.and_then(|recorded| recorded.event)),
        Err(failure) if failure.exit() == Exit::NotFound => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn position(position: u64) -> AtLeast {
    AtLeast {
        position,
        ..AtLeast::default()
    }
}

/// The deployment that an event is about, to be filled in.
pub(crate) fn info_of(event: &mut Event) -> Option<&mut DeploymentInfo> {
    match event.payload.as_mut()? {
        Payload::Deployment(DeploymentEvent { event: Some(moved) }) => match moved {
            Moved::Requested(step) => step.deployment.as_mut(),
            Moved::Started(step) => step.deployment.as_mut(),
            Moved::Progressed(step) => step.deployment.as_mut(),
            Moved::Finished(step) => step.deployment.as_mut(),
            Moved::Superseded(step) => step.deployment.as_mut(),
        },
        _ => None,
    }
}

fn known_info(event: &Event) -> Option<DeploymentInfo> {
    info_of(&mut event.clone()).cloned()
}

fn operation(operation: Operation) -> DeploymentOperation {
    match operation {
        Operation::Deploy => DeploymentOperation::Deploy,
        Operation::Upgrade => DeploymentOperation::Upgrade,
        Operation::Rollback => DeploymentOperation::Rollback,
        Operation::Remove => DeploymentOperation::Remove,
        Operation::Publish => DeploymentOperation::Publish,
        Operation::Config => DeploymentOperation::Config,
        Operation::Migration => DeploymentOperation::Migration,
        Operation::Infrastructure => DeploymentOperation::Infrastructure,
    }
}

fn strategy(strategy: Strategy) -> DeploymentStrategy {
    match strategy {
        Strategy::Recreate => DeploymentStrategy::Recreate,
        Strategy::Rolling => DeploymentStrategy::Rolling,
        Strategy::BlueGreen => DeploymentStrategy::BlueGreen,
        Strategy::Canary => DeploymentStrategy::Canary,
    }
}
