//! What happened since start, as Prometheus reads it (text exposition format 0.0.4).
use std::{
    collections::BTreeMap,
    fmt::Display,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tonic::Code;
use waybill_ledger::{
    Emitted, Severity, State, Status,
    stream::{Condition, StreamStatus},
};

use crate::{
    exposition::{Histogram, Page},
    words::recorded::rebuild_progress_ratio,
};

/// Counters of the server; those of the ledger come from its status.
#[derive(Default)]
pub(crate) struct Metrics {
    calls: Mutex<BTreeMap<(Arc<str>, &'static str), u64>>,
    queries: Mutex<BTreeMap<(Arc<str>, &'static str), Histogram>>,
    appends: Mutex<Histogram>,
    appended: AtomicU64,
    duplicates: AtomicU64,
    denied: Mutex<BTreeMap<&'static str, u64>>,
    rejected: Mutex<BTreeMap<&'static str, u64>>,
    /// Connections open now.
    pub(crate) connections: AtomicUsize,
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

    /// A call was not let in, because of who called.
    pub(crate) fn denied(&self, reason: &'static str) {
        *lock(&self.denied).entry(reason).or_default() += 1;
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
        page.into_text()
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
        let name = "waybill_denied_calls_total";
        let help =
            "Calls that were not let in, by reason: tokens, roles, too many calls of one token.";
        page.metric(name, "counter", help);
        for (reason, count) in &*lock(&self.denied) {
            page.value(name, &[("reason", reason)], count);
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
    let name = "waybill_build_info";
    page.metric(
        name,
        "gauge",
        "Version of the server and of its admission rules; always 1.",
    );
    let rules = status.rules_version.to_string();
    page.value(
        name,
        &[
            ("version", env!("CARGO_PKG_VERSION")),
            ("rules_version", &rules),
        ],
        1,
    );

    let heads = &status.heads;
    let (durable, applied, folded) = (heads.durable, heads.applied, heads.folded);
    let name = "waybill_projection_lag_events";
    page.metric(
        name,
        "gauge",
        "Events that are durable and not yet seen by reads of the database, or by questions.",
    );
    page.value(
        name,
        &[("projection", "database")],
        durable.saturating_sub(applied),
    );
    page.value(
        name,
        &[("projection", "views")],
        durable.saturating_sub(folded),
    );

    let name = "waybill_ledger_bytes";
    page.metric(name, "gauge", "Bytes on disk.");
    page.value(name, &[("part", "journal")], status.journal_bytes);
    page.value(name, &[("part", "database")], status.database_bytes);

    let name = "waybill_findings";
    page.metric(
        name,
        "gauge",
        "What start-up and self-checks found, by severity.",
    );
    for (severity, label) in [(Severity::Warn, "warn"), (Severity::Fail, "fail")] {
        let count = status
            .findings
            .iter()
            .filter(|finding| finding.severity == severity)
            .count();
        page.value(name, &[("severity", label)], count);
    }
    render_ledger_figures(page, status);
    page.gauge(
        "waybill_refused_leaves",
        "Messages of the stream that are on record and no facts: conflicts, refused, unreadable.",
        status.refused_leaf_count,
    );
    if let Some(stream) = &status.stream {
        render_stream(page, stream);
    }
}

/// The stream that the ledger follows. Both hashes are labels, so that an alarm names them.
fn render_stream(page: &mut Page, stream: &StreamStatus) {
    let name = "waybill_stream_following";
    page.metric(
        name,
        "gauge",
        "1 while messages come in; 0 with the reason: away, or frozen with the kind and the leaf hashes of ledger and broker.",
    );
    let hash = |hash: Option<[u8; 32]>| hash.map(hex::encode).unwrap_or_default();
    let (following, state, kind, ledger_leaf, broker_leaf) = match &stream.condition {
        Condition::Following => (1, "following", "", None, None),
        Condition::Away(_) => (0, "away", "", None, None),
        Condition::Frozen(freeze) => (
            0,
            "frozen",
            freeze.kind.as_str(),
            freeze.ledger_leaf,
            freeze.broker_leaf,
        ),
    };
    let labels = [
        ("stream", stream.name.as_str()),
        ("state", state),
        ("kind", kind),
        ("ledger_leaf", &hash(ledger_leaf)),
        ("broker_leaf", &hash(broker_leaf)),
    ];
    page.value(name, &labels, following);
    let gauges: [(&str, &str, &dyn Display); 3] = [
        (
            "waybill_stream_recorded_sequence",
            "Last sequence of the stream that is recorded.",
            &stream.recorded_sequence,
        ),
        (
            "waybill_stream_broker_sequence",
            "Last sequence that the broker was known to have.",
            &stream.broker_sequence,
        ),
        (
            "waybill_stream_broker_durable",
            "1 where the broker is known to sync before it acknowledges.",
            &u8::from(stream.is_durable()),
        ),
    ];
    for (name, help, value) in gauges {
        page.gauge(name, help, value);
    }
    page.counter(
        "waybill_stream_compared_total",
        "Times that the broker's last recorded message was the one that is recorded, since start.",
        stream.compared_count,
    );
    page.counter(
        "waybill_stream_redelivered_total",
        "Messages that came again and were dropped, since start.",
        stream.redelivered_count,
    );
    page.counter(
        "waybill_stream_clamped_total",
        "Messages whose time was before the one before them, since start.",
        stream.clamped_count,
    );
    let name = "waybill_stream_peer_same";
    page.metric(
        name,
        "gauge",
        "1 where another replica has the same root, 0 where it has another.",
    );
    for peer in &stream.peers {
        if let Some(same) = peer.same {
            page.value(name, &[("instance_id", &peer.instance_id)], u8::from(same));
        }
    }
}

/// What the ledger says in one figure each.
fn render_ledger_figures(page: &mut Page, status: &Status) {
    let serving = |state: State| u8::from(state == State::Serving);
    let gauges: [(&str, &str, &dyn Display); 5] = [
        (
            "waybill_ledger_last_position",
            "Last position that is durable.",
            &status.heads.durable,
        ),
        (
            "waybill_replay_progress_ratio",
            "How far views have come after a start, 0 to 1.",
            &rebuild_progress_ratio(status),
        ),
        (
            "waybill_disk_available_bytes",
            "Bytes that the ledger's file system has left.",
            &status.disk_available_bytes,
        ),
        (
            "waybill_emits_serving",
            "1 while emits are taken.",
            &serving(status.emits),
        ),
        (
            "waybill_questions_serving",
            "1 while questions are answered.",
            &serving(status.questions),
        ),
    ];
    for (name, help, value) in gauges {
        page.gauge(name, help, value);
    }
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
    if let Some(time) = status.scrub_time {
        page.gauge(
            "waybill_last_scrub_timestamp_seconds",
            "When the last scrub ended.",
            time.seconds(),
        );
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
