//! From what was gathered to the figures.
use waybill_core::Time;

use super::{
    ChangeLeadTime, Coverage, DAY_NANOS, DeploymentFrequency, Question, ServiceDelivery,
    TrendPoint, Window,
    gather::Gathered,
    quantile::{median, quantile},
};
use crate::{
    known::{Known, time_of},
    reading::NoValue,
};

const EMIT_DEPLOYMENT: &str =
    "emit deployment.finished with an outcome for this service and environment";

pub(super) fn figures(
    gathered: Gathered,
    service: String,
    environment: String,
    window: &Window,
    question: &Question,
) -> ServiceDelivery {
    let trend = trend(&gathered, window, question);
    let coverage = gathered.coverage;
    let mut leads: Vec<i64> = gathered.leads.iter().map(|(_, lead)| *lead).collect();
    leads.sort_unstable();
    let mut leads_before = gathered.leads_before;
    leads_before.sort_unstable();
    let deployments = gathered.ends.len();
    let change_lead_time = ChangeLeadTime {
        value: median(&leads).ok_or_else(|| no_lead_time(deployments, &coverage)),
        p90: quantile(&leads, 9, 10),
        commit_count: leads.len() as u64,
        pending_count: gathered.pending_count,
        previous: median(&leads_before).ok_or_else(|| {
            let text = "no commit counted in the window before";
            NoValue::new("no_commits", text, "ask for a later or longer window")
        }),
        explanation: gathered.lead_time,
    };
    let (days, days_before) = window.days();
    let deployment_frequency = DeploymentFrequency {
        value: per_day(deployments, days)
            .ok_or_else(|| no_deployments(window, gathered.last_end, &coverage)),
        numerator_count: deployments as u64,
        denominator_days: days,
        median_interval: median_interval(&gathered.ends),
        previous: per_day(gathered.ends_before.len(), days_before).ok_or_else(|| {
            let text = "no successful deployment in the window before";
            NoValue::new("no_deployments", text, "ask for a later or longer window")
        }),
        explanation: gathered.frequency,
    };
    ServiceDelivery {
        service,
        environment,
        deployment_frequency,
        change_lead_time,
        coverage,
        trend,
    }
}

/// The answer for a service, or an environment, of which no deployment is known.
pub(super) fn nothing_known(
    known: &Known<'_>,
    window: &Window,
    question: &Question,
) -> Option<ServiceDelivery> {
    let service = question.service.clone()?;
    let environment = question.environment.clone().unwrap_or_default();
    let elsewhere = environments(known, &service);
    let no_value = |code| {
        let text = format!(
            "no deployment of {service} to {} is known",
            asked(&environment)
        );
        let remedy = match elsewhere.is_empty() {
            true => EMIT_DEPLOYMENT.to_owned(),
            false => format!(
                "ask for one of its environments ({}), or declare it to be production",
                elsewhere.join(", ")
            ),
        };
        NoValue::new(code, text, remedy)
    };
    let mut figures = figures(
        Gathered::default(),
        service.clone(),
        environment.clone(),
        window,
        question,
    );
    figures.deployment_frequency.value = Err(no_value("no_deployments"));
    figures.change_lead_time.value = Err(no_value("no_deployments"));
    Some(figures)
}

fn asked(environment: &str) -> String {
    match environment {
        "" => "a production environment (production, prod, live, or declared)".to_owned(),
        environment => environment.to_owned(),
    }
}

fn environments(known: &Known<'_>, service: &str) -> Vec<String> {
    let wanted = known.facts.symbols.find(service);
    let lanes = known.facts.lanes.all();
    let mut names: Vec<String> = lanes
        .filter(|(_, lane)| Some(lane.service()) == wanted && super::is_known(known, lane))
        .map(|(_, lane)| known.text(lane.environment()))
        .collect();
    names.sort();
    names
}

fn per_day(count: usize, days: f64) -> Option<f64> {
    (count > 0 && days > 0.0).then(|| count as f64 / days)
}

fn no_deployments(window: &Window, last_end: Option<i64>, coverage: &Coverage) -> NoValue {
    if window.until <= window.start {
        let text = "the window has no time before its end and the evaluated time";
        return NoValue::new("empty_window", text, "ask for an earlier start");
    }
    let last = last_end.and_then(time_of);
    let before = last.map_or("none is known before it either".to_owned(), |last| {
        format!("the last one before it ended at {last}")
    });
    let failed = match coverage.failed_deployment_count {
        0 => String::new(),
        failed => format!(", {failed} did not succeed"),
    };
    let text = format!("no successful deployment ended in the window{failed}; {before}");
    NoValue::new("no_deployments", text, EMIT_DEPLOYMENT)
}

fn no_lead_time(deployments: usize, coverage: &Coverage) -> NoValue {
    let unknown = coverage.unknown_change_set_count + coverage.without_revision_count;
    if deployments == 0 {
        let text = "no successful deployment ended in the window";
        return NoValue::new("no_deployments", text, EMIT_DEPLOYMENT);
    }
    if unknown > 0 {
        let text =
            format!("of {deployments} deployments, {unknown} carry an unknown set of changes");
        let remedy = "emit deployment.finished with revisions and previous_revisions, and import the repository's \
                      commits; ask to explain for the reason of each";
        return NoValue::new("no_change_sets", text, remedy);
    }
    let text = format!("{deployments} deployments carried no commit that counts");
    NoValue::new("no_commits", text, "ask to explain for what was left out")
}

fn median_interval(ends: &[i64]) -> Option<i64> {
    let mut intervals: Vec<i64> = ends.windows(2).map(|pair| pair[1] - pair[0]).collect();
    intervals.sort_unstable();
    median(&intervals)
}

fn trend(gathered: &Gathered, window: &Window, question: &Question) -> Vec<TrendPoint> {
    let (Some(start), Some(end)) = (time_of(window.start), time_of(window.end)) else {
        return Vec::new();
    };
    if end <= start {
        return Vec::new();
    }
    let bounds = question.buckets.bounds(start, end).unwrap_or_default();
    let mut leads = gathered.leads.clone();
    leads.sort_unstable();
    bounds
        .windows(2)
        .filter(|pair| pair[0] < pair[1] && pair[1] > start && pair[0] < end)
        .map(|pair| trend_point(gathered, &leads, (pair[0], pair[1]), window))
        .collect()
}

fn trend_point(
    gathered: &Gathered,
    leads: &[(i64, i64)],
    (start_time, end_time): (Time, Time),
    window: &Window,
) -> TrendPoint {
    let (start, end) = (start_time.nanos(), end_time.nanos());
    let within = |time: i64| time >= start && time < end;
    let ends = &gathered.ends;
    let deployments = ends.partition_point(|t| *t < end) - ends.partition_point(|t| *t < start);
    let first = leads.partition_point(|lead| lead.0 < start);
    let mut of_bucket: Vec<i64> = leads[first..]
        .iter()
        .take_while(|lead| within(lead.0))
        .map(|lead| lead.1)
        .collect();
    of_bucket.sort_unstable();
    TrendPoint {
        start_time,
        end_time,
        partial: start < window.start || end > window.until,
        deployment_count: deployments as u64,
        median_lead_time: median(&of_bucket),
        commit_count: of_bucket.len() as u64,
    }
}

impl Window {
    /// Days of the window up to the evaluated time, and of the window before.
    fn days(&self) -> (f64, f64) {
        let days = |nanos: i64| nanos.max(0) as f64 / DAY_NANOS as f64;
        (
            days(self.until - self.start),
            days(self.start - self.before.max(0)),
        )
    }
}
