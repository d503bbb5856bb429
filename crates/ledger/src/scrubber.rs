//! The thread that now and then reads the whole database against its hashes, before a question meets the damage (LEDGER S2).
use std::{
    ops::ControlFlow,
    sync::{Arc, atomic::Ordering},
};

use waybill_store::Fault;

use crate::{
    leaf,
    shared::{Shared, lock, read},
    words::{Finding, Severity},
    writer::chain,
};

/// Scrubs every so often until the ledger stops.
pub(crate) fn run(shared: &Arc<Shared>) {
    while shared.rest(shared.config.scrub_every) {
        if let Err(fault) = scrub(shared) {
            tracing::error!(error = %chain(&fault), "the scrub ended early");
        }
    }
}

/// Reads every record and compares it with its leaf, and every kept node with those below it. What is found is in the
/// status from then on, and the next start rebuilds the database.
fn scrub(shared: &Shared) -> Result<(), Fault> {
    let database = read(&shared.database).clone();
    let go_on = || match shared.stopping.load(Ordering::Acquire) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    };
    let result = database
        .check(&leaf::PURE, &mut |_| go_on())
        .and_then(|()| match go_on() {
            ControlFlow::Break(()) => Ok(()),
            ControlFlow::Continue(()) => database.check_tree(waybill_tlog::node_hash),
        });
    if go_on().is_break() {
        return result;
    }
    *lock(&shared.scrub_time) = Some((shared.host.clock)());
    if let Err(Fault::Damage(damage)) = &result {
        lock(&shared.findings).push(Finding {
            severity: Severity::Fail,
            code: "database_damaged",
            text: damage.to_string(),
            remedy: "restart the ledger: the database is then rebuilt from the journal".to_owned(),
        });
    }
    result
}
