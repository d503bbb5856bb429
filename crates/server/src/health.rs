//! Tells `grpc.health.v1` how each service is, as the ledger changes.
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tonic_health::{ServingStatus, server::HealthReporter};
use waybill_ledger::{State, Status};

use crate::shared::Shared;

/// How often the ledger is looked at; whether emits are taken has no other way to tell.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Reads are answered at any time; questions only when the views have caught up. Whether emits are taken decides about
/// emits alone: a ledger on a full disk must stay reachable for those who read.
pub(crate) fn answers_questions(status: &Status) -> bool {
    status.questions == State::Serving
}

/// Says once how each service is.
pub(crate) async fn tell(reporter: &HealthReporter, shared: &Shared) {
    let state = shared.status().await;
    let open = !shared.drain.begun();
    // A ledger that cannot even be looked at serves nothing.
    let is = |serves: fn(&Status) -> bool| open && state.as_ref().is_ok_and(serves);
    for name in shared.contract.services() {
        let serving = match name.as_str() {
            "waybill.v1.EmitService" => is(|state| state.emits == State::Serving),
            "waybill.v1.LedgerService" => is(|_| true),
            // Every other service is a family of questions.
            _ => is(answers_questions),
        };
        reporter
            .set_service_status(name, serving_status(serving))
            .await;
    }
    reporter
        .set_service_status("", serving_status(is(answers_questions)))
        .await;
}

/// Goes on telling until the server stops; then says so and ends.
pub(crate) async fn watch(reporter: HealthReporter, shared: Shared) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !shared.drain.begun() {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shared.drain.wait() => {}
        }
        tell(&reporter, &shared).await;
    }
}

fn serving_status(serving: bool) -> ServingStatus {
    if serving {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    }
}
