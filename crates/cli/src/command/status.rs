//! `status`: where the ledger stands.
use waybill_proto::pb::{FindingSeverity, GetStatusRequest, GetStatusResponse, ReadState};

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
            format!("{} ever", words::count(status.refusal_count)),
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
