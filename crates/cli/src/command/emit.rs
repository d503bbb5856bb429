//! `emit`: one event, everything that CI and git know already filled in. A ledger that is away never breaks a
//! pipeline; an event that is wrong does.
use std::io::Read as _;

use prost_types::Timestamp;
use waybill_proto::pb::{Event, OccurTimeBasis};

use crate::{
    args::{DeployArgs, EmitArgs, EmitKind, Stamp},
    context::Context,
    exit::Failure,
    json, when,
};

mod deliver;
pub(super) mod deployment;
mod operating;
mod origin;
mod payload;
mod spool;

#[cfg(test)]
mod tests;

pub(super) use deliver::{Delivered, Emitter, warn, warn_lost, warn_spooled};
pub(super) use origin::Origin;
pub(super) use payload::Happened;

/// How many events wait on this machine, and how many were refused after waiting.
pub(super) fn waiting(state_home: &std::path::Path) -> (u64, u64) {
    spool::count(&state_home.join("spool"))
}

/// Makes the event and hands it over.
pub(crate) async fn run(context: &Context, args: EmitArgs) -> Result<(), Failure> {
    let EmitArgs {
        kind,
        data,
        on_error,
        dry_run,
    } = args;
    let Some(kind) = kind else {
        let event = read(&data.unwrap_or_default())?;
        if dry_run {
            return context.out.message("Event", &event);
        }
        return Emitter::open(context)
            .await?
            .hand_over(event, on_error)
            .await;
    };
    let stamp = stamp(&kind).clone();
    let origin = Origin::detect(&stamp);
    let happened = happened(context, &kind, &origin)?;
    let mut event = envelope(context, &stamp, &origin, happened)?;
    if stamp.dry_run {
        return context.out.message("Event", &event);
    }
    let mut emitter = Emitter::open(context).await?;
    if let EmitKind::Deploy(args) = &kind {
        emitter.complete(&mut event, args.deployment.deepen).await?;
    }
    emitter.hand_over(event, stamp.on_error).await
}

/// An event as it was given: `@FILE`, `@-`, or the text itself.
fn read(data: &str) -> Result<Event, Failure> {
    let text = match data.strip_prefix('@') {
        Some("-") => {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            read.map_err(|error| {
                Failure::usage(format!("standard input cannot be read as text: {error}"))
            })?;
            text
        }
        Some(file) => std::fs::read_to_string(file)
            .map_err(|error| Failure::usage(format!("{file} cannot be read: {error}")))?,
        None => data.to_owned(),
    };
    json::event(&text)
}

fn happened(context: &Context, kind: &EmitKind, origin: &Origin) -> Result<Happened, Failure> {
    if let EmitKind::Build(_) | EmitKind::Deploy(_) | EmitKind::Release(_) = kind {
        origin.check("--revision", stamp(kind).revision.as_deref())?;
    }
    match kind {
        EmitKind::Commit(args) => payload::commit(args, origin),
        EmitKind::Change(args) => payload::change(args, origin),
        EmitKind::Build(args) => payload::build(args, origin),
        EmitKind::Deploy(args) => deploy(context, args, origin),
        EmitKind::Release(args) => payload::release(args, origin, context),
        EmitKind::Incident(args) => Ok(operating::incident(args, context)),
        EmitKind::Flag(args) => operating::flag(args, context),
        EmitKind::Metric(args) => operating::metric(args, context),
    }
}

fn deploy(context: &Context, args: &DeployArgs, origin: &Origin) -> Result<Happened, Failure> {
    origin.check("--previous", args.deployment.previous.as_deref())?;
    let info = deployment::info(&args.deployment, &args.stamp, origin, context)?;
    let span = payload::span(args.elapsed.as_deref())?;
    let ending = deployment::Ending {
        outcome: payload::outcome(args.outcome),
        span,
        exit_code: 0,
    };
    Ok(deployment::step(info, args.step, ending))
}

fn stamp(kind: &EmitKind) -> &Stamp {
    match kind {
        EmitKind::Commit(args) => &args.stamp,
        EmitKind::Change(args) => &args.stamp,
        EmitKind::Build(args) => &args.stamp,
        EmitKind::Deploy(args) => &args.stamp,
        EmitKind::Release(args) => &args.stamp,
        EmitKind::Incident(args) => &args.stamp,
        EmitKind::Flag(args) => &args.stamp,
        EmitKind::Metric(args) => &args.stamp,
    }
}

/// What happened, said by somebody: identity, time, labels.
pub(super) fn envelope(
    context: &Context,
    stamp: &Stamp,
    origin: &Origin,
    happened: Happened,
) -> Result<Event, Failure> {
    let (occur_time, basis) = occur_time(context, stamp, happened.occur_time)?;
    Ok(Event {
        source: origin.source(stamp, context),
        id: origin.id(stamp, happened.kind, &happened.subject)?,
        occur_time: Some(occur_time),
        occur_time_basis: basis.into(),
        produce_time: Some(when::proto_time(context.now)),
        revision: stamp.fact_revision,
        labels: payload::labels(&stamp.label)?.into_iter().collect(),
        trace_context: origin.trace_context.clone(),
        payload: Some(happened.payload),
        ..Event::default()
    })
}

/// The time that was typed, or that the subject carries, or this machine's clock, which is not part of what is said:
/// a step that runs again says the same.
fn occur_time(
    context: &Context,
    stamp: &Stamp,
    known: Option<(Timestamp, OccurTimeBasis)>,
) -> Result<(Timestamp, OccurTimeBasis), Failure> {
    match (&stamp.time, known) {
        (Some(text), _) => Ok((
            when::proto_time(when::moment(text, "--time", context.now)?),
            OccurTimeBasis::Reported,
        )),
        (None, Some(known)) => Ok(known),
        (None, None) => Ok((when::proto_time(context.now), OccurTimeBasis::Derived)),
    }
}
