//! What happens to what runs: incidents, flags, metrics.
use waybill_proto::pb::{self, event::Payload};

use crate::{
    args::{FlagArgs, FlagStep, IncidentArgs, IncidentStep, MetricArgs},
    context::Context,
    exit::Failure,
    when,
};

use super::payload::{Happened, environment, service};

pub(super) fn incident(args: &IncidentArgs, context: &Context) -> Happened {
    use pb::incident_event::Event as E;
    let environment = context
        .setting(args.environment.as_deref(), "environment")
        .unwrap_or_else(|| "unknown".to_owned());
    let services = if args.service.is_empty() {
        context.settings.value("service").into_iter().collect()
    } else {
        args.service.clone()
    };
    let incident = Some(pb::IncidentInfo {
        incident_id: args.incident.clone(),
        environment,
        services,
        severity: args.severity.clone().unwrap_or_default(),
        priority: args.priority.clone().unwrap_or_default(),
        title: args.title.clone().unwrap_or_default(),
        uri: args.uri.clone().unwrap_or_default(),
        ..pb::IncidentInfo::default()
    });
    let because = args.because.clone();
    let (kind, event) = match args.step {
        IncidentStep::Detected => (
            "incident.detected",
            E::Detected(pb::IncidentDetected { incident }),
        ),
        IncidentStep::Reported => (
            "incident.reported",
            E::Reported(pb::IncidentReported {
                incident,
                reporter: None,
            }),
        ),
        IncidentStep::Acknowledged => (
            "incident.acknowledged",
            E::Acknowledged(pb::IncidentAcknowledged { incident }),
        ),
        IncidentStep::Updated => (
            "incident.updated",
            E::Updated(pb::IncidentUpdated { incident }),
        ),
        IncidentStep::Mitigated => (
            "incident.mitigated",
            E::Mitigated(pb::IncidentMitigated { incident }),
        ),
        IncidentStep::Resolved => (
            "incident.resolved",
            E::Resolved(pb::IncidentResolved {
                incident,
                resolution: because,
            }),
        ),
        IncidentStep::Reopened => (
            "incident.reopened",
            E::Reopened(pb::IncidentReopened { incident }),
        ),
        IncidentStep::Merged => {
            let merged_into = args.merged_into.clone().unwrap_or_default();
            (
                "incident.merged",
                E::Merged(pb::IncidentMerged {
                    incident,
                    merged_into,
                }),
            )
        }
        IncidentStep::Cancelled => (
            "incident.cancelled",
            E::Cancelled(pb::IncidentCancelled {
                incident,
                reason: because,
            }),
        ),
    };
    Happened::new(
        kind,
        args.incident.clone(),
        Payload::Incident(pb::IncidentEvent { event: Some(event) }),
    )
}

pub(super) fn flag(args: &FlagArgs, context: &Context) -> Result<Happened, Failure> {
    use pb::flag_event::Event as E;
    let environment = environment(context, args.environment.as_deref())?;
    for (name, ratio) in [
        ("--exposure", args.exposure),
        ("--exposure-before", args.exposure_before),
    ] {
        if let Some(ratio) = ratio.filter(|ratio| !(0.0..=1.0).contains(ratio)) {
            return Err(Failure::usage(format!(
                "{name} is `{ratio}`, not a share of users (0 to 1)"
            )));
        }
    }
    let flag = Some(pb::FlagInfo {
        flag_key: args.flag.clone(),
        environment: environment.clone(),
        service: context
            .setting(args.service.as_deref(), "service")
            .unwrap_or_default(),
        provider: args.provider.clone().unwrap_or_default(),
        ..pb::FlagInfo::default()
    });
    let changed = |change_type: pb::FlagChangeType, before, after| {
        E::Changed(pb::FlagChanged {
            flag: flag.clone(),
            change_type: change_type.into(),
            exposure_ratio_before: before,
            exposure_ratio_after: after,
            ..pb::FlagChanged::default()
        })
    };
    let (before, after) = (args.exposure_before, args.exposure);
    let (kind, event) = match args.step {
        FlagStep::Created => ("flag.created", E::Created(pb::FlagCreated { flag })),
        FlagStep::Changed if after.is_some() => (
            "flag.changed",
            changed(pb::FlagChangeType::RolloutChanged, before, after),
        ),
        FlagStep::Changed => (
            "flag.changed",
            changed(pb::FlagChangeType::TargetingChanged, before, after),
        ),
        FlagStep::Enabled => (
            "flag.changed",
            changed(pb::FlagChangeType::Enabled, before, after),
        ),
        FlagStep::Disabled => (
            "flag.changed",
            changed(pb::FlagChangeType::Disabled, before, after),
        ),
        FlagStep::Archived => ("flag.archived", E::Archived(pb::FlagArchived { flag })),
    };
    let subject = format!("{}@{environment}", args.flag);
    Ok(Happened::new(
        kind,
        subject,
        Payload::Flag(pb::FlagEvent { event: Some(event) }),
    ))
}

pub(super) fn metric(args: &MetricArgs, context: &Context) -> Result<Happened, Failure> {
    use pb::metric_window_summarized::Value;
    let service = service(context, args.service.as_deref())?;
    let environment = context
        .setting(args.environment.as_deref(), "environment")
        .unwrap_or_default();
    let start = when::moment(&args.from, "--from", context.now)?;
    let end = when::moment(&args.to, "--to", context.now)?;
    let value = match (args.good, args.total) {
        (Some(good_count), Some(total_count)) => Value::Ratio(pb::RatioWindow {
            good_count,
            total_count,
        }),
        _ => Value::Moments(pb::MomentsWindow {
            count: args.count.unwrap_or_default(),
            sum: args.sum.unwrap_or_default(),
            sum_of_squares: args.sum_of_squares,
            min: args.min,
            max: args.max,
        }),
    };
    let subject = format!("{}@{service}@{environment}@{start}/{end}", args.metric);
    let window = pb::MetricWindowSummarized {
        metric: args.metric.clone(),
        unit: args.unit.clone(),
        service,
        environment,
        start_time: Some(when::proto_time(start)),
        end_time: Some(when::proto_time(end)),
        version: args.version.clone().unwrap_or_default(),
        value: Some(value),
        ..pb::MetricWindowSummarized::default()
    };
    let event = pb::metric_event::Event::WindowSummarized(window);
    let payload = Payload::Metric(pb::MetricEvent { event: Some(event) });
    let occur_time = Some((when::proto_time(end), pb::OccurTimeBasis::Reported));
    Ok(Happened {
        occur_time,
        ..Happened::new("metric.window_summarized", subject, payload)
    })
}
