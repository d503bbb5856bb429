//! `doctor`: what is wrong, what is not known, and how to mend it, a line each.
use std::collections::HashSet;

use waybill_proto::pb::{
    DeliveryRequest, DeliveryResponse, Event, EventFilter, FindingSeverity, GetStatusResponse,
    ListEventsRequest, ListRefusalsRequest, ReadState, RecordKind, RecordedEvent, event::Payload,
    ledger_event,
};

use crate::{
    context::{Context, Missing},
    exit::{Exit, Failure},
    output::{Style, clean},
    source::{Source, Where},
    words,
};

use super::{delivery, emit, identity, status};

/// Less room than this on the ledger's disk is worth a look.
const DISK_LOW_BYTES: u64 = 2 << 30;
/// Holes that are named one by one.
const HOLES_MAX: usize = 10;
/// Events about holes that are looked at, newest first: what closes one comes after it.
const HOLES_PAGE: i32 = 1_000;

/// Looks everywhere and tells.
pub(crate) async fn run(context: &Context) -> Result<(), Failure> {
    let mut lines = Vec::new();
    configuration(context, &mut lines)?;
    match context.source(Missing::Refuse).await {
        Ok(source) => {
            ask(&source, &mut lines).await;
            source.close().await?;
        }
        Err(failure) => lines.push(Line::failed("connectivity", &failure)),
    }
    waiting(context, &mut lines);
    show(context, &lines)
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    severity: FindingSeverity,
    code: &'static str,
    text: String,
    /// What to do; empty where nothing is to be done.
    remedy: String,
}

impl Line {
    fn new(
        severity: FindingSeverity,
        code: &'static str,
        text: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            severity,
            code,
            text: text.into(),
            remedy: remedy.into(),
        }
    }

    fn ok(code: &'static str, text: impl Into<String>) -> Self {
        Self::new(FindingSeverity::Ok, code, text, "")
    }

    fn warn(code: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(FindingSeverity::Warn, code, text, remedy)
    }

    fn failed(code: &'static str, failure: &Failure) -> Self {
        Self::new(
            FindingSeverity::Fail,
            code,
            failure.to_string(),
            failure.hint(),
        )
    }
}

fn configuration(context: &Context, lines: &mut Vec<Line>) -> Result<(), Failure> {
    let place = match context.place()? {
        Where::Server(address) => format!("asking {address}"),
        Where::Directory { directory, state } => format!(
            "reading {}, keys in {}",
            directory.display(),
            state.display()
        ),
    };
    let origins = context.settings.origins();
    let origins = if origins.is_empty() {
        "nothing but defaults".to_owned()
    } else {
        origins.join(", ")
    };
    lines.push(Line::ok(
        "configuration",
        format!("{place}; settings from {origins}"),
    ));
    Ok(())
}

async fn ask(source: &Source, lines: &mut Vec<Line>) {
    let status = match status::ask(source).await {
        Ok(status) => status,
        Err(failure) => {
            lines.push(Line::failed("connectivity", &failure));
            return;
        }
    };
    lines.push(Line::ok(
        "connectivity",
        format!(
            "{} answers, version {}",
            source.name(),
            clean(&status.version)
        ),
    ));
    from_status(&status, lines);
    if let Err(failure) = refusals(source, lines).await {
        lines.push(Line::failed("refusals", &failure));
    }
    if let Err(failure) = gaps(source, lines).await {
        lines.push(Line::failed("gaps", &failure));
    }
    match delivery::ask(source, DeliveryRequest::default()).await {
        Ok(answer) => coverage(&answer, lines),
        Err(failure) => lines.push(Line::failed("questions", &failure)),
    }
}

fn from_status(status: &GetStatusResponse, lines: &mut Vec<Line>) {
    match status.emits() {
        ReadState::Serving => lines.push(Line::ok(
            "emits",
            format!(
                "{} recorded",
                words::plural(status.durable_position, "event", "events")
            ),
        )),
        ReadState::Rebuilding => lines.push(Line::warn(
            "emits",
            "not yet: the ledger is being rebuilt",
            "wait for it; `waybill status` shows how far it is",
        )),
        _ => lines.push(Line::new(
            FindingSeverity::Fail,
            "emits",
            format!("refused: {}", clean(&status.emits_reason)),
            "see the lines below",
        )),
    }
    if status.disk_available_bytes < DISK_LOW_BYTES {
        let left = words::bytes(status.disk_available_bytes);
        lines.push(Line::warn(
            "disk",
            format!("{left} left on the ledger's disk"),
            "make room: a full disk refuses events, and nothing recorded is lost",
        ));
    } else {
        lines.push(Line::ok(
            "disk",
            format!("{} left", words::bytes(status.disk_available_bytes)),
        ));
    }
    match &status.scrub_time {
        Some(time) => lines.push(Line::ok("scrub", format!("the database was last read against its hashes {}", words::minute(Some(time))))),
        None => lines.push(Line::ok("scrub", "the database has not been read against its hashes since the start; reads check what they read")),
    }
    for finding in &status.findings {
        lines.push(Line::new(
            finding.severity(),
            "ledger",
            clean(&finding.text),
            clean(&finding.remedy),
        ));
    }
}

async fn refusals(source: &Source, lines: &mut Vec<Line>) -> Result<(), Failure> {
    let request = ListRefusalsRequest {
        page_size: 1,
        page_token: String::new(),
    };
    let answer = source
        .answer(source.ledger().list_refusals(source.request(request)))
        .await?;
    let leaves = status::ask(source).await?.refused_leaf_count;
    if leaves > 0 {
        lines.push(Line::warn(
            "refused messages",
            format!(
                "{} of the stream no facts: conflicts, refused or unreadable",
                words::plural(leaves, "message is", "messages are")
            ),
            "waybill log --refused names them; mend the emitter",
        ));
    }
    match answer.refusals.first() {
        None if leaves > 0 => {}
        None => lines.push(Line::ok("refusals", "no event was refused")),
        Some(newest) => {
            let refusal = newest.refusal.clone().unwrap_or_default();
            let text = format!(
                "{} refused, the newest {} of {}: {}",
                words::plural(answer.total_count, "event was", "events were"),
                words::minute(newest.refuse_time.as_ref()),
                clean(&newest.source),
                identity::sentence(&refusal.field, &refusal.value, &refusal.rule)
            );
            lines.push(Line::warn(
                "refusals",
                text,
                "waybill log --refused names them; mend the emitter",
            ));
        }
    }
    Ok(())
}

/// Holes that an import or an adapter put on record.
async fn gaps(source: &Source, lines: &mut Vec<Line>) -> Result<(), Failure> {
    let filter = EventFilter {
        kinds: ["ledger.gap_detected", "ledger.retracted"]
            .map(str::to_owned)
            .into(),
        ..EventFilter::default()
    };
    let request = ListEventsRequest {
        page_size: HOLES_PAGE,
        filter: Some(filter),
        descending: true,
        ..ListEventsRequest::default()
    };
    let answer = source
        .answer(source.ledger().list_events(source.request(request)))
        .await?;
    let open: Vec<Line> = still_said(&answer.events)
        .filter_map(gap)
        .take(HOLES_MAX)
        .collect();
    if open.is_empty() {
        lines.push(Line::ok("gaps", "no gap is on record"));
    }
    lines.extend(open);
    Ok(())
}

/// Events that no other of these takes back: an import that sees further closes a gap with a retraction.
fn still_said(events: &[RecordedEvent]) -> impl Iterator<Item = &RecordedEvent> {
    let is_retraction = |event: &Event| event.record_kind() == RecordKind::Retraction;
    let retracted: HashSet<(&str, &str)> = events
        .iter()
        .filter_map(|recorded| recorded.event.as_ref())
        .filter(|event| is_retraction(event))
        .filter_map(|event| event.amends.as_ref())
        .map(|amended| (amended.source.as_str(), amended.id.as_str()))
        .collect();
    events.iter().filter(move |recorded| {
        recorded.event.as_ref().is_some_and(|event| {
            !is_retraction(event) && !retracted.contains(&(event.source.as_str(), &event.id))
        })
    })
}

fn gap(recorded: &RecordedEvent) -> Option<Line> {
    let Some(Payload::Ledger(ledger)) = recorded.event.as_ref()?.payload.as_ref() else {
        return None;
    };
    let Some(ledger_event::Event::GapDetected(gap)) = ledger.event.as_ref() else {
        return None;
    };
    let text = format!(
        "{} has a gap: {} (seq:{})",
        clean(&gap.entity),
        clean(&gap.reason),
        recorded.position
    );
    Some(Line::warn("gaps", text, clean(&gap.remedy)))
}

/// What delivery could not know.
fn coverage(answer: &DeliveryResponse, lines: &mut Vec<Line>) {
    let before = lines.len();
    for service in &answer.services {
        let Some(coverage) = &service.coverage else {
            continue;
        };
        let name = format!(
            "{} → {}",
            clean(&service.service),
            clean(&service.environment)
        );
        let all = coverage.deployment_count;
        for (count, what, remedy) in [
            (
                coverage.unknown_change_set_count,
                "unknown set of changes, so they are missing from lead time",
                "clone with full history (fetch-depth: 0), or emit them with --previous COMMIT",
            ),
            (
                coverage.without_revision_count,
                "no revision",
                "emit them with --revision COMMIT --repository REPOSITORY",
            ),
            (
                coverage.inferred_deployment_count,
                "inferred from tags, nobody reported them",
                "waybill run deploy SERVICE --env ENV -- CMD",
            ),
        ] {
            if count > 0 {
                let text = format!(
                    "{name}: {} of {}: {what}",
                    words::count(count),
                    words::plural(all, "deployment", "deployments")
                );
                lines.push(Line::warn("coverage", text, remedy));
            }
        }
    }
    for problem in &answer.problems {
        let look = problem
            .events
            .first()
            .map(|event| format!("waybill event show {}", event.position));
        lines.push(Line::warn(
            "problems",
            clean(&problem.text),
            look.unwrap_or_default(),
        ));
    }
    if lines.len() == before {
        let text = if answer.services.is_empty() {
            "no deployment in the last 90 days"
        } else {
            "every deployment of the last 90 days is understood"
        };
        lines.push(Line::ok("coverage", text));
    }
}

/// What waits on this machine for a ledger that was away.
fn waiting(context: &Context, lines: &mut Vec<Line>) {
    let Ok(home) = context.state_home() else {
        return;
    };
    let (waiting, refused) = emit::waiting(&home);
    if waiting > 0 {
        let text = format!(
            "{} on this machine for a ledger that was away",
            words::plural(waiting, "event waits", "events wait")
        );
        lines.push(Line::warn(
            "spool",
            text,
            "the next `waybill emit` that reaches it sends them first",
        ));
    }
    if refused > 0 {
        let text = format!(
            "{} refused after waiting",
            words::plural(refused, "event was", "events were")
        );
        lines.push(Line::warn(
            "spool",
            text,
            format!("look at them in {}", home.join("spool").display()),
        ));
    }
}

fn show(context: &Context, lines: &[Line]) -> Result<(), Failure> {
    if context.out.json {
        let json: Vec<serde_json::Value> = lines.iter().map(as_json).collect();
        context
            .out
            .line(serde_json::json!({ "findings": json }).to_string())?;
    } else {
        for line in lines {
            let (word, style) = status::severity(line.severity);
            context
                .out
                .line(format!("{}  {}", context.out.paint(style, word), line.text))?;
            if !line.remedy.is_empty() {
                context.out.line(format!(
                    "      {} {}",
                    context.out.paint(Style::Faint, "fix:"),
                    line.remedy
                ))?;
            }
        }
    }
    let failed = lines
        .iter()
        .any(|line| line.severity == FindingSeverity::Fail);
    if failed {
        Err(Failure::said(Exit::FoundFail))
    } else {
        Ok(())
    }
}

fn as_json(line: &Line) -> serde_json::Value {
    serde_json::json!({
        "severity": line.severity.as_str_name(), "code": line.code, "text": line.text, "remedy": line.remedy,
    })
}

#[cfg(test)]
mod tests {
    use waybill_proto::pb::{Coverage, Finding, ServiceDelivery};

    use super::*;

    #[test]
    fn a_ledger_that_refuses_is_a_failure_with_its_mending() {
        let mut lines = Vec::new();
        let finding = Finding {
            severity: FindingSeverity::Fail.into(),
            code: "journal_damaged".to_owned(),
            text: "damaged".to_owned(),
            remedy: "restore".to_owned(),
        };
        let status = GetStatusResponse {
            emits: ReadState::Refusing.into(),
            emits_reason: "damage".to_owned(),
            disk_available_bytes: 10,
            findings: vec![finding],
            ..GetStatusResponse::default()
        };
        from_status(&status, &mut lines);
        let failed: Vec<&Line> = lines
            .iter()
            .filter(|line| line.severity == FindingSeverity::Fail)
            .collect();
        assert_eq!(failed.len(), 2);
        assert_eq!(failed[1].remedy, "restore");
        assert!(
            lines
                .iter()
                .any(|line| line.code == "disk" && line.severity == FindingSeverity::Warn)
        );
    }

    #[test]
    fn every_hole_has_its_mending() {
        let mut lines = Vec::new();
        let service = ServiceDelivery {
            service: "checkout".to_owned(),
            environment: "prod".to_owned(),
            coverage: Some(Coverage {
                deployment_count: 9,
                unknown_change_set_count: 4,
                ..Coverage::default()
            }),
            ..ServiceDelivery::default()
        };
        coverage(
            &DeliveryResponse {
                services: vec![service],
                ..DeliveryResponse::default()
            },
            &mut lines,
        );
        assert_eq!(lines.len(), 1);
        assert!(
            lines[0]
                .text
                .starts_with("checkout → prod: 4 of 9 deployments"),
            "{:?}",
            lines[0]
        );
        assert!(!lines[0].remedy.is_empty());
    }
}
