//! `metric.*`
use waybill_core::{Code, EntityKind, Refusal, event::Payload};

use super::{About, part};
use crate::{
    field,
    pb::{self, metric_event::Event, metric_window_summarized::Value},
};

pub(crate) fn read(event: &Event, about: &mut About) -> Result<Payload, Refusal> {
    match event {
        Event::WindowSummarized(e) => summarized(e, about)?,
        Event::Defined(e) => defined(e, about)?,
    }
    Ok(Payload::Other)
}

fn summarized(e: &pb::MetricWindowSummarized, about: &mut About) -> Result<(), Refusal> {
    let metric = field::name(&e.metric, "metric")?;
    let unit = field::name(&e.unit, "unit")?;
    let service = field::name(&e.service, "service")?;
    let (start, end) = field::window(e.start_time.as_ref(), e.end_time.as_ref())?;
    about
        .entities
        .within(EntityKind::Metric, service, metric, "metric")?;
    about
        .entities
        .named(EntityKind::Service, service, "service")?;
    about
        .entities
        .named_if_any(EntityKind::Environment, &e.environment, "environment")?;
    let series = [
        (&e.environment, "environment"),
        (&e.version, "version"),
        (&e.instance, "instance"),
        (&e.region, "region"),
        (&e.arm, "arm"),
    ];
    let key = about.key();
    key.text(metric).text(unit).text(service);
    for (value, field) in series {
        key.text(field::name_if_any(value, field)?.unwrap_or_default());
    }
    let mut attributes: Vec<_> = e.attributes.iter().collect();
    attributes.sort_unstable();
    for (name, value) in attributes {
        key.text(field::name(name, "attributes")?).text(value);
    }
    key.moment(Some(start)).moment(Some(end));
    value(part(e.value.as_ref(), "ratio, histogram or moments")?)
}

fn value(value: &Value) -> Result<(), Refusal> {
    match value {
        Value::Ratio(ratio) => good_of_total(ratio).map_err(|refusal| refusal.within("ratio")),
        Value::Histogram(histogram) => {
            buckets(histogram).map_err(|refusal| refusal.within("histogram"))
        }
        Value::Moments(moments) => sums(moments).map_err(|refusal| refusal.within("moments")),
    }
}

fn good_of_total(window: &pb::RatioWindow) -> Result<(), Refusal> {
    if window.good_count > window.total_count {
        let rule = format!("more than total_count, {}", window.total_count);
        return Err(Refusal::new(
            Code::Contradiction,
            "good_count",
            window.good_count,
            rule,
        ));
    }
    Ok(())
}

fn buckets(window: &pb::HistogramWindow) -> Result<(), Refusal> {
    field::finite(window.sum, "sum")?;
    gamma(window.gamma, "gamma")?;
    let counted = window
        .counts
        .iter()
        .map(|count| u128::from(*count))
        .sum::<u128>()
        + u128::from(window.zero_count);
    if counted != u128::from(window.total_count) {
        let rule = format!("not the sum of counts and zero_count, {counted}");
        return Err(Refusal::new(
            Code::Contradiction,
            "total_count",
            window.total_count,
            rule,
        ));
    }
    Ok(())
}

fn sums(window: &pb::MomentsWindow) -> Result<(), Refusal> {
    let (min, max) = (
        field::finite(window.min, "min")?,
        field::finite(window.max, "max")?,
    );
    field::finite(window.sum, "sum")?;
    field::not_negative(window.sum_of_squares, "sum_of_squares")?;
    if min > max {
        return Err(Refusal::new(
            Code::Contradiction,
            "min",
            min,
            format!("more than max, {max}"),
        ));
    }
    Ok(())
}

fn gamma(value: f64, field: &str) -> Result<f64, Refusal> {
    field::rule(
        value.is_finite() && value > 1.0,
        value,
        field,
        "gamma is finite and more than 1",
    )
    .map_err(field::out_of_range)
}

fn defined(e: &pb::MetricDefined, about: &mut About) -> Result<(), Refusal> {
    let metric = field::name(&e.metric, "metric")?;
    field::name(&e.unit, "unit")?;
    if let Some(service) = field::name_if_any(&e.service, "service")? {
        about
            .entities
            .within(EntityKind::Metric, service, metric, "metric")?;
        about
            .entities
            .named(EntityKind::Service, service, "service")?;
    } else {
        about.entities.named(EntityKind::Metric, metric, "metric")?;
    }
    // Zero is absence: a metric without histograms has no growth factor.
    if e.histogram_gamma != 0.0 {
        gamma(e.histogram_gamma, "histogram_gamma")?;
    }
    about.key_by_time(&[&e.service, metric]);
    Ok(())
}
