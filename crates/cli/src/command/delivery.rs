//! `delivery`: how often and how fast, under a named definition, each figure with what it stands on.
use waybill_proto::pb::{
    ChangeLeadTime, Counted, Coverage, DeliveryRequest, DeliveryResponse, DeploymentFrequency,
    Explanation, ServiceDelivery, TrendBucket, change_lead_time, deployment_frequency,
};

use crate::{
    args::{Bucket, DeliveryArgs},
    context::{Context, Missing},
    exit::Failure,
    output::{Output, Style, clean},
    source::Source,
    table::{Table, styled},
    words,
};

use super::{basis, trace};

/// Steps of a trend that are shown.
const TREND_MAX: usize = 26;

/// Asks and shows.
pub(crate) async fn run(context: &Context, args: DeliveryArgs) -> Result<(), Failure> {
    let request = request(context, &args)?;
    let source = context.source(Missing::Refuse).await?;
    let answer = ask(&source, request).await?;
    if context.out.json {
        context.out.message("DeliveryResponse", &answer)?;
    } else {
        context
            .out
            .bytes(render(&answer, args.explain, &context.out).as_bytes())?;
    }
    source.close().await
}

/// Asks how delivery is doing.
pub(crate) async fn ask(
    source: &Source,
    request: DeliveryRequest,
) -> Result<DeliveryResponse, Failure> {
    source
        .answer(source.delivery().delivery(source.request(request)))
        .await
}

fn request(context: &Context, args: &DeliveryArgs) -> Result<DeliveryRequest, Failure> {
    let bucket = match args.by {
        None => TrendBucket::Unspecified,
        Some(Bucket::Day) => TrendBucket::Day,
        Some(Bucket::Week) => TrendBucket::Week,
        Some(Bucket::Month) => TrendBucket::Month,
    };
    Ok(DeliveryRequest {
        read: Some(context.read_options(&args.read)?),
        // A question is about everything unless it says otherwise: settings of a project name what is emitted.
        service: args.service.clone().unwrap_or_default(),
        environment: args.environment.clone().unwrap_or_default(),
        start_time: context.moment(args.since.as_deref(), "--since")?,
        end_time: context.moment(args.until.as_deref(), "--until")?,
        definition: args.definition.clone().unwrap_or_default(),
        explain: args.explain,
        trend_bucket: bucket.into(),
        time_zone: args.tz.clone().unwrap_or_default(),
    })
}

/// The answer for people.
pub(crate) fn render(answer: &DeliveryResponse, explain: bool, out: &Output) -> String {
    let (start, end) = (
        words::minute(answer.start_time.as_ref()),
        words::minute(answer.end_time.as_ref()),
    );
    let mut text = format!("delivery   {start} to {end}\n");
    if answer.services.is_empty() {
        text.push_str("no deployments are recorded here: nothing can be said, which is not zero\n");
        text.push_str("to know it: waybill emit deploy SERVICE --env prod   or   waybill import git --tags-as-deployments\n");
    }
    for service in &answer.services {
        text.push_str(&one(service, explain, out));
    }
    text.push_str(&basis::problems(&answer.problems));
    text.push_str(&definition(answer, explain));
    text.push_str(&out.paint(Style::Faint, &basis::line(answer.basis.as_ref())));
    text.push('\n');
    text
}

fn one(service: &ServiceDelivery, explain: bool, out: &Output) -> String {
    let environment = if service.environment.is_empty() {
        "production"
    } else {
        &service.environment
    };
    let title = format!("{} → {}", clean(&service.service), clean(environment));
    let mut text = format!("\n{}\n", out.paint(Style::Strong, &title));
    let (table, notes) = figures(service);
    text.push_str(&table.render(out.width, &|style, text| out.paint(style, text)));
    notes
        .iter()
        .for_each(|note| text.push_str(&format!("{note}\n")));
    text.push_str(&coverage(service.coverage.as_ref()));
    if explain {
        if let Some(frequency) = &service.deployment_frequency {
            text.push_str(&explanation(
                "deployment frequency",
                frequency.explanation.as_ref(),
            ));
        }
        if let Some(lead) = &service.change_lead_time {
            text.push_str(&explanation("change lead time", lead.explanation.as_ref()));
        }
    }
    text
}

/// One row a figure; why a figure has no value stands below.
fn figures(service: &ServiceDelivery) -> (Table, Vec<String>) {
    let mut table = Table::new(&["", "value>", "before>", "n>", "trend", "counts…"]);
    let mut notes = Vec::new();
    if let Some(frequency) = &service.deployment_frequency {
        frequency_rows(&mut table, &mut notes, frequency, service);
    }
    if let Some(lead) = &service.change_lead_time {
        lead_rows(&mut table, &mut notes, lead, service);
    }
    (table, notes)
}

fn frequency_rows(
    table: &mut Table,
    notes: &mut Vec<String>,
    frequency: &DeploymentFrequency,
    service: &ServiceDelivery,
) {
    use deployment_frequency::{Previous, Value};
    // Both in one unit, so that they can be compared.
    let unit = match (&frequency.value, &frequency.previous) {
        (Some(Value::PerDay(per_day)), _) | (_, Some(Previous::PreviousPerDay(per_day))) => {
            unit(*per_day)
        }
        _ => unit(0.0),
    };
    let value = match &frequency.value {
        Some(Value::PerDay(per_day)) => rate(*per_day, unit),
        Some(Value::None(none)) => unknown(notes, "deployment frequency", none),
        None => "unknown".to_owned(),
    };
    let before = match &frequency.previous {
        Some(Previous::PreviousPerDay(per_day)) => rate(*per_day, unit),
        _ => "–".to_owned(),
    };
    let trend: Vec<Option<f64>> = service
        .trend
        .iter()
        .map(|point| Some(point.deployment_count as f64))
        .collect();
    table.row(vec![
        "deployment frequency".into(),
        styled(Style::Strong, value),
        before.into(),
        words::count(frequency.numerator_count).into(),
        spark(&trend).into(),
        "successful deployments; the same one once".into(),
    ]);
    if let Some(interval) = &frequency.median_interval {
        let cells = ["", "", "", ""].map(Into::into);
        let mut row = vec!["  time between, p50".into(), words::length(interval).into()];
        row.extend(cells);
        table.row(row);
    }
}

fn lead_rows(
    table: &mut Table,
    notes: &mut Vec<String>,
    lead: &ChangeLeadTime,
    service: &ServiceDelivery,
) {
    use change_lead_time::{Previous, Value};
    let value = match &lead.value {
        Some(Value::Median(median)) => words::length(median),
        Some(Value::None(none)) => unknown(notes, "change lead time", none),
        None => "unknown".to_owned(),
    };
    let before = match &lead.previous {
        Some(Previous::PreviousMedian(median)) => words::length(median),
        _ => "–".to_owned(),
    };
    let seconds = |point: &waybill_proto::pb::TrendPoint| {
        point
            .median_lead_time
            .as_ref()
            .map(|length| length.seconds as f64)
    };
    let trend: Vec<Option<f64>> = service.trend.iter().map(seconds).collect();
    table.row(vec![
        "change lead time, p50".into(),
        styled(Style::Strong, value),
        before.into(),
        words::count(lead.commit_count).into(),
        spark(&trend).into(),
        "commit to its first successful deployment".into(),
    ]);
    if let Some(p90) = &lead.p90 {
        let pending = words::plural(
            lead.pending_count,
            "commit is pending",
            "commits are pending",
        );
        table.row(vec![
            "  p90".into(),
            words::length(p90).into(),
            "".into(),
            "".into(),
            "".into(),
            pending.into(),
        ]);
    }
}

/// The newest steps of a trend, as many as fit beside the figures.
fn spark(trend: &[Option<f64>]) -> String {
    if trend.iter().flatten().all(|value| *value == 0.0) {
        return String::new();
    }
    let cut = trend.len().saturating_sub(TREND_MAX);
    let more = if cut > 0 { "…" } else { "" };
    format!("{more}{}", words::sparkline(&trend[cut..]))
}

fn unknown(notes: &mut Vec<String>, figure: &str, none: &waybill_proto::pb::NoValue) -> String {
    let why = basis::no_value(none);
    match notes.iter_mut().find(|note| note.ends_with(&why)) {
        Some(note) => *note = format!("both are unknown: {why}"),
        None => notes.push(format!("{figure} is unknown: {why}")),
    }
    "unknown".to_owned()
}

/// A unit in which a rate is at least one, with its length in days.
fn unit(per_day: f64) -> (f64, &'static str) {
    match per_day {
        rate if rate >= 1.0 || rate <= 0.0 => (1.0, "day"),
        rate if rate * 7.0 >= 1.0 => (7.0, "week"),
        _ => (30.0, "30 days"),
    }
}

fn rate(per_day: f64, (days, unit): (f64, &str)) -> String {
    format!("{:.1} / {unit}", per_day * days)
}

/// What could not be known, a line each.
fn coverage(coverage: Option<&Coverage>) -> String {
    let Some(coverage) = coverage else {
        return String::new();
    };
    let all = words::plural(coverage.deployment_count, "deployment", "deployments");
    let lines = [
        (
            coverage.unknown_change_set_count,
            "unknown set of changes",
            "emit them with --previous, or import the history they stand on",
        ),
        (
            coverage.without_revision_count,
            "no revision",
            "emit them with --revision",
        ),
        (
            coverage.inferred_deployment_count,
            "inferred, nobody reported them",
            "waybill emit deploy, or waybill run deploy",
        ),
        (
            coverage.failed_deployment_count,
            "did not succeed, does not count",
            "",
        ),
    ];
    let line = |(count, what, remedy): &(u64, &str, &str)| {
        let remedy = if remedy.is_empty() {
            String::new()
        } else {
            format!(" (mend: {remedy})")
        };
        format!("{} of {all}: {what}{remedy}\n", words::count(*count))
    };
    lines
        .iter()
        .filter(|(count, _, _)| *count > 0)
        .map(line)
        .collect()
}

fn explanation(figure: &str, explanation: Option<&Explanation>) -> String {
    let Some(explanation) = explanation else {
        return String::new();
    };
    let mut text = format!("\n{figure}\n");
    let mut table = Table::new(&["", "WHEN", "WHAT…", "LENGTH>", "CARRIED BY", "EVENT"]);
    for (word, list) in [
        ("counted", &explanation.counted),
        ("pending", &explanation.pending),
    ] {
        for item in list {
            table.row(counted(word, item));
        }
    }
    if !table.is_empty() {
        text.push_str(&table.render(None, &|_, text| text.to_owned()));
    }
    for excluded in &explanation.excluded {
        let times = if excluded.count > 1 {
            format!(" ({} times)", words::count(excluded.count))
        } else {
            String::new()
        };
        text.push_str(&format!(
            "not counted  {}: {}{times}\n",
            trace::name(&excluded.entity),
            clean(&excluded.reason)
        ));
    }
    text
}

fn counted(word: &str, item: &Counted) -> Vec<crate::table::Cell> {
    let event = item
        .event
        .as_ref()
        .map_or_else(String::new, |event| format!("seq:{}", event.position));
    vec![
        word.into(),
        words::minute(item.occur_time.as_ref()).into(),
        trace::name(&item.entity).into(),
        item.elapsed
            .as_ref()
            .map_or_else(String::new, words::length)
            .into(),
        trace::name(&item.deployment).into(),
        event.into(),
    ]
}

fn definition(answer: &DeliveryResponse, explain: bool) -> String {
    let Some(definition) = &answer.definition else {
        return String::new();
    };
    let mut text = format!(
        "\ndefinition {} version {}",
        clean(&definition.id),
        definition.version
    );
    if !explain {
        text.push_str("   (--explain names what counted and what did not)\n");
        return text;
    }
    text.push('\n');
    for line in definition.text.lines() {
        text.push_str(&format!("  {}\n", clean(line)));
    }
    text
}

#[cfg(test)]
mod tests {
    use prost_types::Duration;
    use waybill_proto::pb::{Basis, DefinitionRef, NoValue, TrendPoint};

    use super::*;
    use crate::output::Color;

    fn answer() -> DeliveryResponse {
        let none = NoValue {
            code: "no_change_sets".to_owned(),
            text: "no deployment has a known set of changes".to_owned(),
            remedy: "import the history".to_owned(),
        };
        DeliveryResponse {
            basis: Some(Basis {
                position: 12,
                ..Basis::default()
            }),
            definition: Some(DefinitionRef {
                id: "dora/2025".to_owned(),
                version: 1,
                text: "Successful deployments a day.".to_owned(),
                ..DefinitionRef::default()
            }),
            services: vec![ServiceDelivery {
                service: "checkout".to_owned(),
                environment: "prod".to_owned(),
                deployment_frequency: Some(DeploymentFrequency {
                    value: Some(deployment_frequency::Value::PerDay(3.4)),
                    numerator_count: 96,
                    median_interval: Some(Duration {
                        seconds: 18_720,
                        nanos: 0,
                    }),
                    ..DeploymentFrequency::default()
                }),
                change_lead_time: Some(ChangeLeadTime {
                    value: Some(change_lead_time::Value::None(none)),
                    ..ChangeLeadTime::default()
                }),
                coverage: Some(Coverage {
                    deployment_count: 96,
                    unknown_change_set_count: 96,
                    ..Coverage::default()
                }),
                trend: vec![TrendPoint {
                    deployment_count: 4,
                    ..TrendPoint::default()
                }],
            }],
            ..DeliveryResponse::default()
        }
    }

    fn plain() -> Output {
        Output::new(false, false, Color::Never, &|_| None)
    }

    #[test]
    fn unknown_is_said_with_its_remedy_and_is_no_zero() {
        let text = render(&answer(), false, &plain());
        assert!(text.contains("checkout → prod"), "{text}");
        assert!(text.contains("3.4 / day"), "{text}");
        assert!(text.contains("change lead time is unknown: no deployment has a known set of changes; to know it: import the history"), "{text}");
        assert!(
            text.contains("96 of 96 deployments: unknown set of changes"),
            "{text}"
        );
        assert!(text.contains("definition dora/2025 version 1"), "{text}");
        assert!(text.trim_end().ends_with("as of seq 12"), "{text}");
        assert!(!text.contains("0 ms"), "{text}");
    }

    #[test]
    fn nothing_recorded_is_no_zero() {
        let text = render(&DeliveryResponse::default(), false, &plain());
        assert!(text.contains("which is not zero"), "{text}");
    }

    #[test]
    fn rates_have_a_unit_that_makes_them_readable() {
        let text = |per_day| rate(per_day, unit(per_day));
        assert_eq!(text(3.44), "3.4 / day");
        assert_eq!(text(0.5), "3.5 / week");
        assert_eq!(text(0.1), "3.0 / 30 days");
        assert_eq!(text(0.0), "0.0 / day");
    }
}
