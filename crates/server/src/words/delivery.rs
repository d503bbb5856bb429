//! The delivery question and its answer.
use bytes::Bytes;
use sha2::{Digest, Sha256};
use waybill_core::{Code, Refusal};
use waybill_ledger::Basis;
use waybill_proto::pb;
use waybill_views::delivery::{
    Answer, Buckets, ChangeLeadTime, Counted, Coverage, Definition, DeploymentFrequency, Excluded,
    Explanation, Question, ServiceDelivery, TrendPoint, Unit, definition::DEFINITIONS,
};

use super::{
    asked::{check_text, given, range},
    basis, duration, no_value, problem, timestamp, view_ref,
};

/// The name of the time zone where none is given.
pub(crate) const UTC: &str = "UTC";

/// What is asked, cut into buckets of UTC.
pub(crate) fn question(request: &pb::DeliveryRequest) -> Result<Question, Refusal> {
    check_text("service", &request.service)?;
    check_text("environment", &request.environment)?;
    let (start_time, end_time) = range("", request.start_time.as_ref(), request.end_time.as_ref())?;
    Ok(Question {
        service: given(request.service.clone()),
        environment: given(request.environment.clone()),
        start_time,
        end_time,
        definition: definition(&request.definition)?,
        explain: request.explain,
        buckets: Buckets::Every {
            unit: unit(request.trend_bucket)?,
            offset_seconds: 0,
        },
        production: Vec::new(),
    })
}

fn definition(id: &str) -> Result<&'static Definition, Refusal> {
    Definition::find(id).ok_or_else(|| {
        let known: Vec<&str> = DEFINITIONS.iter().map(|definition| definition.id).collect();
        Refusal::new(
            Code::Malformed,
            "definition",
            id,
            "not a definition that this version knows",
        )
        .with_hint(format!("known are: {}", known.join(", ")))
    })
}

/// The calendar unit of the trend.
pub(crate) fn unit(bucket: i32) -> Result<Unit, Refusal> {
    Ok(match pb::TrendBucket::try_from(bucket) {
        Ok(pb::TrendBucket::Day) => Unit::Day,
        Ok(pb::TrendBucket::Unspecified | pb::TrendBucket::Week) => Unit::Week,
        Ok(pb::TrendBucket::Month) => Unit::Month,
        Err(_) => {
            let rule = "not a bucket that this version knows: DAY, WEEK or MONTH";
            return Err(Refusal::new(Code::Malformed, "trend_bucket", bucket, rule));
        }
    })
}

/// The answer and what it stands on.
pub(crate) fn answer(
    stands_on: &Basis,
    answer: &Answer,
    time_zone: String,
) -> pb::DeliveryResponse {
    let definition = answer.definition;
    pb::DeliveryResponse {
        basis: Some(basis(stands_on)),
        definition: Some(pb::DefinitionRef {
            id: definition.id.to_owned(),
            version: definition.version,
            digest: Bytes::copy_from_slice(&Sha256::digest(definition.text)),
            text: definition.text.to_owned(),
        }),
        start_time: Some(timestamp(answer.start_time)),
        end_time: Some(timestamp(answer.end_time)),
        time_zone,
        services: answer.services.iter().map(service).collect(),
        problems: answer.problems.iter().map(problem).collect(),
    }
}

fn service(service: &ServiceDelivery) -> pb::ServiceDelivery {
    pb::ServiceDelivery {
        service: service.service.clone(),
        environment: service.environment.clone(),
        deployment_frequency: Some(frequency(&service.deployment_frequency)),
        change_lead_time: Some(lead_time(&service.change_lead_time)),
        coverage: Some(coverage(&service.coverage)),
        trend: service.trend.iter().map(trend_point).collect(),
    }
}

fn frequency(figure: &DeploymentFrequency) -> pb::DeploymentFrequency {
    use pb::deployment_frequency::{Previous, Value};
    let value = match &figure.value {
        Ok(per_day) => Value::PerDay(*per_day),
        Err(none) => Value::None(no_value(none)),
    };
    let previous = match &figure.previous {
        Ok(per_day) => Previous::PreviousPerDay(*per_day),
        Err(none) => Previous::PreviousNone(no_value(none)),
    };
    pb::DeploymentFrequency {
        value: Some(value),
        numerator_count: figure.numerator_count,
        denominator_days: figure.denominator_days,
        median_interval: figure.median_interval.map(duration),
        previous: Some(previous),
        explanation: Some(explanation(&figure.explanation)),
    }
}

fn lead_time(figure: &ChangeLeadTime) -> pb::ChangeLeadTime {
    use pb::change_lead_time::{Previous, Value};
    let value = match &figure.value {
        Ok(median) => Value::Median(duration(*median)),
        Err(none) => Value::None(no_value(none)),
    };
    let previous = match &figure.previous {
        Ok(median) => Previous::PreviousMedian(duration(*median)),
        Err(none) => Previous::PreviousNone(no_value(none)),
    };
    pb::ChangeLeadTime {
        value: Some(value),
        p90: figure.p90.map(duration),
        commit_count: figure.commit_count,
        pending_count: figure.pending_count,
        previous: Some(previous),
        explanation: Some(explanation(&figure.explanation)),
    }
}

fn explanation(explanation: &Explanation) -> pb::Explanation {
    pb::Explanation {
        counted: explanation.counted.iter().map(counted).collect(),
        excluded: explanation.excluded.iter().map(excluded).collect(),
        pending: explanation.pending.iter().map(counted).collect(),
        excluded_count: explanation.excluded_count,
    }
}

fn counted(counted: &Counted) -> pb::Counted {
    pb::Counted {
        event: Some(view_ref(&counted.event)),
        entity: counted.entity.clone(),
        occur_time: counted.occur_time.map(timestamp),
        elapsed: counted.elapsed.map(duration),
        deployment: counted.deployment.clone(),
    }
}

fn excluded(excluded: &Excluded) -> pb::Excluded {
    pb::Excluded {
        event: excluded.event.as_ref().map(view_ref),
        entity: excluded.entity.clone(),
        reason: excluded.reason.to_owned(),
        count: excluded.count,
    }
}

fn coverage(coverage: &Coverage) -> pb::Coverage {
    pb::Coverage {
        deployment_count: coverage.deployment_count,
        unknown_change_set_count: coverage.unknown_change_set_count,
        without_revision_count: coverage.without_revision_count,
        inferred_deployment_count: coverage.inferred_deployment_count,
        failed_deployment_count: coverage.failed_deployment_count,
    }
}

fn trend_point(point: &TrendPoint) -> pb::TrendPoint {
    pb::TrendPoint {
        start_time: Some(timestamp(point.start_time)),
        end_time: Some(timestamp(point.end_time)),
        partial: point.partial,
        deployment_count: point.deployment_count,
        median_lead_time: point.median_lead_time.map(duration),
        commit_count: point.commit_count,
    }
}
