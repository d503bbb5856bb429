//! `status`: where the ledger stands.
use waybill_proto::pb::{
    Agreement, FindingSeverity, GetStatusRequest, GetStatusResponse, ReadState, StreamCondition,
    StreamStatus,
};

use crate::{
    args::StatusArgs,
    context::{Context, Missing},
    exit::Failure,
    output::{Style, clean},
    source::Source,
    table::{Table, styled},
    words,
};

/// Asks for the status and shows it.
pub(crate) async fn run(context: &Context, args: StatusArgs) -> Result<(), Failure> {
    let source = context.source(Missing::Refuse).await?;
    let status = ask(&source).await?;
    if context.out.json {
        context.out.message("GetStatusResponse", &status)?;
    } else {
        context.out.table(&table(&status, args.all))?;
        if !args.all {
            show_findings(context, &status)?;
        }
    }
    source.close().await
}

/// Where the ledger stands.
pub(crate) async fn ask(source: &Source) -> Result<GetStatusResponse, Failure> {
    source
        .answer(
            source
                .ledger()
                .get_status(source.request(GetStatusRequest {})),
        )
        .await
}

fn table(status: &GetStatusResponse, all: bool) -> Table {
    let mut table = Table::new(&["", ""]);
    let mut line =
        |name: &str, value: String| table.row(vec![styled(Style::Faint, name), value.into()]);
    line("ledger", clean(&status.ledger_id));
    line(
        "position",
        format!(
            "{} recorded, {} readable",
            words::count(status.durable_position),
            words::count(status.applied_position)
        ),
    );
    line("recorded until", words::moment(status.record_time.as_ref()));
    line("root", hex::encode(&status.root));
    line(
        "emits",
        state(
            status.emits(),
            &status.emits_reason,
            status.rebuild_progress_ratio,
        ),
    );
    line(
        "questions",
        state(status.questions(), "", status.rebuild_progress_ratio),
    );
    if let Some(stream) = &status.stream {
        line("stream", condition(stream));
    }
    line(
        "disk",
        format!(
            "journal {}, database {}, {} left",
            words::bytes(status.journal_bytes),
            words::bytes(status.database_bytes),
            words::bytes(status.disk_available_bytes)
        ),
    );
    if all {
        line("instance", clean(&status.instance_id));
        line("public key", clean(&status.verifier_key));
        line(
            "version",
            format!(
                "{} (rules {}, epoch {})",
                clean(&status.version),
                status.rules_version,
                status.epoch
            ),
        );
        for (name, value) in status.stream.iter().flat_map(stream_lines) {
            line(name, value);
        }
        line(
            "duplicates",
            format!("{} since start", words::count(status.duplicate_count)),
        );
        line(
            "conflicts",
            format!("{} since start", words::count(status.conflict_count)),
        );
        line(
            "refusals",
            format!(
                "{} ever at the door, {} on record as messages",
                words::count(status.refusal_count),
                words::count(status.refused_leaf_count)
            ),
        );
        line(
            "last scrub",
            status
                .scrub_time
                .as_ref()
                .map_or_else(|| "none yet".to_owned(), |time| words::moment(Some(time))),
        );
        for finding in &status.findings {
            line(
                &severity(finding.severity()).0.to_lowercase(),
                format!(
                    "{}: {} ({})",
                    finding.code,
                    clean(&finding.text),
                    clean(&finding.remedy)
                ),
            );
        }
    }
    table
}

/// The stream in one line.
fn condition(stream: &StreamStatus) -> String {
    let name = clean(&stream.name);
    match stream.condition() {
        StreamCondition::Following => format!(
            "{name}, followed to sequence {} of {}",
            words::count(stream.recorded_sequence),
            words::count(stream.broker_sequence)
        ),
        StreamCondition::Away => format!("{name}, AWAY: {}", clean(&stream.reason)),
        StreamCondition::Frozen => format!("{name}, FROZEN: {}", clean(&stream.reason)),
        StreamCondition::Unspecified => {
            format!("{name}, in a state that this version does not know")
        }
    }
}

/// What else is known of the stream.
fn stream_lines(stream: &StreamStatus) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        (
            "broker syncs",
            match stream.durable {
                true => clean(&stream.sync),
                false => format!("{}: not durable", clean(&stream.sync)),
            },
        ),
        (
            "epoch",
            format!(
                "position {} is sequence {}",
                words::count(stream.base_position),
                words::count(stream.first_sequence)
            ),
        ),
        (
            "came again",
            format!(
                "{} messages since start",
                words::count(stream.redelivered_count)
            ),
        ),
    ];
    for (name, hash) in [
        ("ledger's leaf", &stream.ledger_leaf_hash),
        ("broker's leaf", &stream.broker_leaf_hash),
    ] {
        if stream.condition() == StreamCondition::Frozen {
            let shown = match hash.is_empty() {
                true => "none".to_owned(),
                false => hex::encode(hash),
            };
            lines.push((name, shown));
        }
    }
    for peer in &stream.peers {
        let agreement = match peer.agreement() {
            Agreement::Same => "the same root",
            Agreement::Different => "ANOTHER ROOT",
            Agreement::Pending | Agreement::Unspecified => "ahead of this one",
        };
        lines.push((
            "replica",
            format!(
                "{} at position {}: {agreement}",
                clean(&peer.instance_id),
                words::count(peer.position)
            ),
        ));
    }
    lines
}

/// Findings that somebody should look at, each with its mending.
fn show_findings(context: &Context, status: &GetStatusResponse) -> Result<(), Failure> {
    for finding in status
        .findings
        .iter()
        .filter(|finding| finding.severity() != FindingSeverity::Ok)
    {
        let (word, style) = severity(finding.severity());
        context.out.line(format!(
            "{}  {}",
            context.out.paint(style, word),
            clean(&finding.text)
        ))?;
        context
            .out
            .line(format!("      fix: {}", clean(&finding.remedy)))?;
    }
    Ok(())
}

/// A severity as one word of four letters, and its colour.
pub(crate) fn severity(severity: FindingSeverity) -> (&'static str, Style) {
    match severity {
        FindingSeverity::Ok => ("ok  ", Style::Good),
        FindingSeverity::Fail => ("FAIL", Style::Bad),
        FindingSeverity::Warn | FindingSeverity::Unspecified => ("WARN", Style::Warn),
    }
}

fn state(state: ReadState, reason: &str, progress: f64) -> String {
    match state {
        ReadState::Serving => "served".to_owned(),
        ReadState::Rebuilding => format!("not yet: rebuilding, {:.1} % done", progress * 100.0),
        ReadState::Refusing => format!("refused: {}", clean(reason)),
        ReadState::Unspecified => "not said".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_why_emits_are_refused() {
        let status = GetStatusResponse {
            ledger_id: "waybill.example/1".to_owned(),
            durable_position: 1_234,
            applied_position: 1_200,
            emits: ReadState::Refusing.into(),
            emits_reason: "the disk is full".to_owned(),
            questions: ReadState::Serving.into(),
            ..GetStatusResponse::default()
        };
        let text = table(&status, false).render(None, &|_, text| text.to_owned());
        assert!(text.contains("1,234 recorded, 1,200 readable"), "{text}");
        assert!(text.contains("refused: the disk is full"), "{text}");
        assert!(!text.contains("public key"), "{text}");
    }
}
