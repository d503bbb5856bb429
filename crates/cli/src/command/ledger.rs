//! `ledger`: decisions that only an operator can take.
use waybill_ledger::loss;

use waybill_proto::pb::{
    AcceptEpochRequest, AcceptGapRequest, Actor, OpenedEpoch, RepublishStreamRequest,
    StreamDecision,
};

use crate::{
    args::{DecisionArgs, LedgerCommand},
    context::{Context, Missing},
    exit::{Exit, Failure},
    house,
    output::{self, clean},
    progress::Progress,
    words,
};

/// Does what the operator decided.
pub(crate) async fn run(context: &Context, command: &LedgerCommand) -> Result<(), Failure> {
    match command {
        LedgerCommand::AcceptLoss { yes } => accept_loss(context, yes),
        LedgerCommand::Republish(args) => {
            let decision = Some(decision(args)?);
            let source = context.source(Missing::Refuse).await?;
            let request = source.request(RepublishStreamRequest { decision });
            let answer = source
                .answer(source.operate().republish_stream(request))
                .await?;
            let count = answer.republished_count;
            if context.out.json {
                context.out.message("RepublishStreamResponse", &answer)?;
            } else {
                let published = words::plural(count, "event is", "events are");
                tell(
                    context,
                    &answer.epoch,
                    &format!("{published} published again"),
                )?;
            }
            source.close().await
        }
        LedgerCommand::AcceptEpoch(args) => {
            let decision = Some(decision(args)?);
            let source = context.source(Missing::Refuse).await?;
            let request = source.request(AcceptEpochRequest { decision });
            let answer = source
                .answer(source.operate().accept_epoch(request))
                .await?;
            if context.out.json {
                context.out.message("AcceptEpochResponse", &answer)?;
            } else {
                tell(
                    context,
                    &answer.epoch,
                    "what the broker lost stays recorded here",
                )?;
            }
            source.close().await
        }
        LedgerCommand::AcceptGap(args) => {
            let decision = Some(decision(args)?);
            let source = context.source(Missing::Refuse).await?;
            let request = source.request(AcceptGapRequest { decision });
            let answer = source.answer(source.operate().accept_gap(request)).await?;
            if context.out.json {
                context.out.message("AcceptGapResponse", &answer)?;
            } else {
                let gap = match (answer.gap_first_sequence, answer.gap_last_sequence) {
                    (0, 0) => "no message is missing".to_owned(),
                    (first, last) => format!("sequences {first} to {last} are lost"),
                };
                tell(context, &answer.epoch, &gap)?;
            }
            source.close().await
        }
    }
}

fn decision(args: &DecisionArgs) -> Result<StreamDecision, Failure> {
    let root = hex::decode(&args.yes).map_err(|_| {
        Failure::usage(format!(
            "--yes is `{}`, not a root in hex",
            clean(&args.yes)
        ))
        .with_hint("`waybill status` shows the root at the head")
    })?;
    Ok(StreamDecision {
        head_root: root.into(),
        why: args.why.clone(),
        who: args.who.as_ref().map(|who| Actor {
            id: who.clone(),
            ..Actor::default()
        }),
    })
}

fn tell(context: &Context, epoch: &Option<OpenedEpoch>, what: &str) -> Result<(), Failure> {
    let epoch = epoch.unwrap_or_default();
    context.out.line(format!(
        "epoch {} begins at sequence {}, behind position {}; {what}",
        epoch.epoch,
        epoch.first_sequence,
        epoch.position.saturating_sub(1)
    ))?;
    output::say("`waybill status` shows when the stream is followed again");
    Ok(())
}

/// Goes on without what is lost, under a new name for the tree.
fn accept_loss(context: &Context, root: &str) -> Result<(), Failure> {
    let (directory, state) = context.directories()?;
    if !waybill_ledger::is_ledger(&directory) {
        return Err(Failure::new(
            Exit::NotFound,
            format!("there is no ledger in {}", directory.display()),
        )
        .with_hint("name it with --ledger DIR"));
    }
    let config = house::config(&directory, &state, "waybill ledger accept-loss");
    let mut progress = Progress::new(context.global.quiet);
    let accepted = loss::accept(config, house::host(), root, &mut |step| {
        progress.set(step.what, step.done, step.total)
    });
    progress.clear();
    let accepted = accepted.map_err(|error| match error {
        loss::Error::Refused(refusal) => Failure::from(refusal),
        loss::Error::Fault(fault) => house::failure(&fault),
    })?;
    if context.out.json {
        let json = serde_json::json!({
            "previousLedgerId": accepted.previous_ledger_id, "ledgerId": accepted.ledger_id,
            "keptPosition": accepted.kept.to_string(), "lostPosition": accepted.lost.to_string(),
        });
        return context.out.line(json.to_string());
    }
    context.out.line(format!(
        "ledger {} goes on as {}: {} kept, positions {} to {} are lost",
        accepted.previous_ledger_id,
        accepted.ledger_id,
        words::plural(accepted.kept, "position is", "positions are"),
        accepted.kept + 1,
        accepted.lost
    ))?;
    output::say(
        "checkpoints of the old id cover what was kept only as far as they reach; take a new one: waybill log checkpoint -o FILE",
    );
    Ok(())
}
