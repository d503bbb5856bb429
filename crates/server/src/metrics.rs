//! What happened since start, as Prometheus reads it (text exposition format 0.0.4).
use std::{
    collections::BTreeMap,
    fmt::{Display, Write},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tonic::Code;
use waybill_ledger::{Emitted, Severity, State, Status};

use crate::words::recorded::rebuild_progress_ratio;

/// The media type of the answer.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds of the histograms' buckets, in seconds.
const BUCKETS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Counters of the server; those of the ledger come from its status.
#[derive(Default)]
pub(crate) struct Metrics {
    calls: Mutex<BTreeMap<(Arc<str>, &'static str), u64>>,
    queries: Mutex<BTreeMap<(Arc<str>, &'static str), Histogram>>,
    appends: Mutex<Histogram>,
    appended: AtomicU64,
    duplicates: AtomicU64,
    rejected: Mutex<BTreeMap<&'static str, u64>>,
    /// Connections open now.
    pub(crate) connections: AtomicUsize,
}

#[derive(Clone, Default)]
struct Histogram {
    counts: [u64; BUCKETS.len()],
    count: u64,
    sum_seconds: f64,
}

impl Metrics {
    /// A call ended.
    pub(crate) fn called(&self, method: &Arc<str>, code: Code, elapsed: Duration, streaming: bool) {
        let key = (method.clone(), code_name(code));
        if !streaming && !method.contains("EmitService") {
            lock(&self.queries)
                .entry(key.clone())
                .or_default()
                .observe(elapsed);
        }
        *lock(&self.calls).entry(key).or_default() += 1;
    }

    /// A call was turned away at the door, before its method could see it.
    pub(crate) fn turned_away(&self, method: Option<Arc<str>>, code: Code) {
        let key = (
            method.unwrap_or_else(|| Arc::from("other")),
            code_name(code),
        );
        *lock(&self.calls).entry(key).or_default() += 1;
    }

    /// A batch was answered item by item.
    pub(crate) fn appended(&self, elapsed: Duration, emitted: &[Emitted]) {
        lock(&self.appends).observe(elapsed);
        let (mut new, mut duplicates) = (0, 0);
        for result in emitted {
            match result {
                Ok(receipt) if receipt.duplicate => duplicates += 1,
                Ok(_) => new += 1,
                Err(refused) => self.rejected(refused.refusal.code.as_str()),
            }
        }
        self.appended.fetch_add(new, Ordering::Relaxed);
        self.duplicates.fetch_add(duplicates, Ordering::Relaxed);
    }

    /// An event was refused.
    pub(crate) fn rejected(&self, reason: &'static str) {
        *lock(&self.rejected).entry(reason).or_default() += 1;
    }

    /// Everything, as Prometheus reads it.
    pub(crate) fn render(&self, status: &Status) -> String {
        let mut page = Page::default();
        self.render_calls(&mut page);
        self.render_events(&mut page);
        render_ledger(&mut page, status);
        page.0
    }

    fn render_calls(&self, page: &mut Page) {
        page.metric(
            "waybill_calls_total",
            "counter",
            "Calls that ended, by method and gRPC code.",
        );
        for ((method, code), count) in &*lock(&self.calls) {
            page.value(
                "waybill_calls_total",
                &[("method", method), ("code", code)],
                count,
            );
        }
        let name = "waybill_query_duration_seconds";
        page.metric(name, "histogram", "Time to answer a call that reads.");
        for ((method, code), histogram) in &*lock(&self.queries) {
            page.histogram(name, &[("method", method), ("code", code)], histogram);
        }
        page.metric("waybill_connections", "gauge", "Connections open now.");
        page.value(
            "waybill_connections",
            &[],
            self.connections.load(Ordering::Relaxed),
        );
    }

    fn render_events(&self, page: &mut Page) {
        page.counter(
            "waybill_events_appended_total",
            "Events recorded since start.",
            load(&self.appended),
        );
        let help = "Emits answered with the receipt of an event that stood already, since start.";
        page.counter(
            "waybill_events_duplicate_total",
            help,
            load(&self.duplicates),
        );
        page.metric(
            "waybill_events_rejected_total",
            "counter",
            "Events refused since start, by reason.",
        );
        for (reason, count) in &*lock(&self.rejected) {
            page.value(
                "waybill_events_rejected_total",
                &[("reason", reason)],
                count,
            );
        }
        let name = "waybill_append_duration_seconds";
        page.metric(
            name,
            "histogram",
            "Time from a batch's arrival to its receipts, fdatasync included.",
        );
        page.histogram(name, &[], &lock(&self.appends));
    }
}

fn render_ledger(page: &mut Page, status: &Status) {
    page.metric(
        "waybill_build_info",
        "gauge",
        "Version of the server and of its admission rules; always 1.",
    );
    let rules = status.rules_version.to_string();
    page.value(
        "waybill_build_info",
        &[
            ("version", env!("CARGO_PKG_VERSION")),
            ("rules_version", &rules),
        ],
        1,
    );

    let heads = &status.heads;
    page.gauge(
        "waybill_ledger_last_position",
        "Last position that is durable.",
        heads.durable,
    );
    let name = "waybill_projection_lag_events";
    page.metric(
        name,
        "gauge",
        "Events that are durable and not yet seen by reads of the database, or by questions.",
    );
    page.value(
        name,
        &[("projection", "database")],
        heads.durable.saturating_sub(heads.applied),
    );
    page.value(
        name,
        &[("projection", "views")],
        heads.durable.saturating_sub(heads.folded),
    );
    let help = "How far views have come after a start, 0 to 1.";
    page.gauge(
        "waybill_replay_progress_ratio",
        help,
        rebuild_progress_ratio(status),
    );

    page.metric("waybill_ledger_bytes", "gauge", "Bytes on disk.");
    page.value(
        "waybill_ledger_bytes",
        &[("part", "journal")],
        status.journal_bytes,
    );
    page.value(
        "waybill_ledger_bytes",
        &[("part", "database")],
        status.database_bytes,
    );
    page.gauge(
        "waybill_disk_available_bytes",
        "Bytes that the ledger's file system has left.",
        status.disk_available_bytes,
    );
    page.counter(
        "waybill_conflicts_total",
        "Identities sent again with other content, since start.",
        status.conflict_count,
    );
    page.counter(
        "waybill_refusals_total",
        "Refusals on record, of all time.",
        status.refusal_count,
    );
    let serving = |state: State| u8::from(state == State::Serving);
    page.gauge(
        "waybill_emits_serving",
        "1 while emits are taken.",
        serving(status.emits),
    );
    page.gauge(
        "waybill_questions_serving",
        "1 while questions are answered.",
        serving(status.questions),
    );
    page.metric(
        "waybill_findings",
        "gauge",
        "What start-up and self-checks found, by severity.",
    );
    for (severity, name) in [(Severity::Warn, "warn"), (Severity::Fail, "fail")] {
        let count = status
            .findings
            .iter()
            .filter(|finding| finding.severity == severity)
            .count();
        page.value("waybill_findings", &[("severity", name)], count);
    }
    if let Some(time) = status.scrub_time {
        page.gauge(
            "waybill_last_scrub_timestamp_seconds",
            "When the last scrub ended.",
            time.seconds(),
        );
    }
}

impl Histogram {
    fn observe(&mut self, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        for (count, bound) in self.counts.iter_mut().zip(BUCKETS) {
            *count += u64::from(seconds <= bound);
        }
        self.count += 1;
        self.sum_seconds += seconds;
    }
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn metric(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.metric(name, "gauge", help);
        self.value(name, &[], value);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.metric(name, "counter", help);
        self.value(name, &[], value);
    }

    /// Labels are ours, never a caller's: nothing in them needs escaping.
    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
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

    fn histogram(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Histogram) {
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

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "{line}");
    }
}

/// A code as gRPC writes it.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// A counter is whole after a panic too.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
