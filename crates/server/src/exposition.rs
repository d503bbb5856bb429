//! The form in which Prometheus reads metrics (text exposition format 0.0.4).
use std::{
    fmt::{Arguments, Display, Write},
    time::Duration,
};

/// The media type of the answer.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds of the histograms' buckets, in seconds.
const BUCKETS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// How long things took.
#[derive(Clone, Default)]
pub(crate) struct Histogram {
    counts: [u64; BUCKETS.len()],
    count: u64,
    sum_seconds: f64,
}

impl Histogram {
    /// Counts one.
    pub(crate) fn observe(&mut self, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        for (count, bound) in self.counts.iter_mut().zip(BUCKETS) {
            *count += u64::from(seconds <= bound);
        }
        self.count += 1;
        self.sum_seconds += seconds;
    }
}

/// A page of metrics while it is written.
#[derive(Default)]
pub(crate) struct Page(String);

impl Page {
    /// What was written.
    pub(crate) fn into_text(self) -> String {
        self.0
    }

    /// Declares a metric; its samples follow.
    pub(crate) fn metric(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    /// A metric of one sample that goes up and down.
    pub(crate) fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.metric(name, "gauge", help);
        self.value(name, &[], value);
    }

    /// A metric of one sample that only goes up.
    pub(crate) fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.metric(name, "counter", help);
        self.value(name, &[], value);
    }

    /// One sample. Labels are ours, never a caller's: nothing in them needs escaping.
    pub(crate) fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(label, text)| format!("{label}=\"{text}\""))
            .collect();
        let labels = if labels.is_empty() {
            String::new()
        } else {
            format!("{{{}}}", labels.join(","))
        };
        self.line(format_args!("{name}{labels} {value}"));
    }

    /// The samples of one histogram.
    pub(crate) fn histogram(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Histogram) {
        let bucket = format!("{name}_bucket");
        for (bound, count) in BUCKETS.iter().zip(histogram.counts) {
            let bound = bound.to_string();
            self.value(&bucket, &[labels, &[("le", &bound)]].concat(), count);
        }
        self.value(
            &bucket,
            &[labels, &[("le", "+Inf")]].concat(),
            histogram.count,
        );
        self.value(&format!("{name}_sum"), labels, histogram.sum_seconds);
        self.value(&format!("{name}_count"), labels, histogram.count);
    }

    fn line(&mut self, line: Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_cumulative_and_complete() {
        let mut histogram = Histogram::default();
        histogram.observe(Duration::from_millis(2));
        histogram.observe(Duration::from_secs(60));
        let mut page = Page::default();
        page.histogram("h", &[("method", "m")], &histogram);
        assert!(
            page.0.contains("h_bucket{method=\"m\",le=\"0.001\"} 0\n"),
            "{}",
            page.0
        );
        assert!(
            page.0.contains("h_bucket{method=\"m\",le=\"0.0025\"} 1\n"),
            "{}",
            page.0
        );
        assert!(
            page.0.contains("h_bucket{method=\"m\",le=\"+Inf\"} 2\n"),
            "{}",
            page.0
        );
        assert!(page.0.contains("h_count{method=\"m\"} 2\n"), "{}", page.0);
    }
}
