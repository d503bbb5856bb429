//! `ledger`: decisions that only an operator can take.
use waybill_ledger::loss;

use crate::{
    args::LedgerCommand,
    context::Context,
    exit::{Exit, Failure},
    house, output,
    progress::Progress,
    words,
};

/// Does what the operator decided.
pub(crate) fn run(context: &Context, command: &LedgerCommand) -> Result<(), Failure> {
    match command {
        LedgerCommand::AcceptLoss { yes } => accept_loss(context, yes),
    }
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
