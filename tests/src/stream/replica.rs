//! Two ledgers on one stream, of which one was changed.
use std::{
    path::Path,
    time::{Duration, Instant},
};

use waybill_proto::pb::{Agreement, GetStatusResponse, StreamStatus};

use super::{
    bed::{Bed, Place},
    emitters::{connect, store},
    forge::forge,
    watch::Watch,
};

/// Events of a history.
const EVENTS: u64 = 100;
/// Positions before the first event: the epoch, and the message that opened it.
const BEFORE: u64 = 2;

/// Whether it was noticed.
#[derive(Debug, Default)]
pub struct Outcome {
    /// From when both were served until both were frozen.
    pub noticed_after: Duration,
    /// What should not be.
    pub violations: Vec<String>,
}

/// Changes one byte of one event in one of two ledgers so that its own directory holds, and waits until both say so.
///
/// # Errors
/// Where the world does not work.
pub async fn change(broker: &Path, number: u64) -> Result<Outcome, String> {
    let number = number % EVENTS;
    let bed = Bed::new(broker);
    let honest = bed.ledger("honest");
    let _server = honest.serve().map_err(|error| error.to_string())?;
    let client = connect(&bed.broker.url()).await;
    let mut last = 0;
    for number in 0..EVENTS {
        last = store(&client, 0, number).await?;
    }
    let mut watch = Watch::of(&honest.url());
    let _recorded = watch.recorded(last).await;
    let changed = bed.ledger("changed");
    let text = format!("d-{number}");
    let other = format!("e-{number}");
    let (from, to) = (honest.home.data(), changed.home.data());
    forge(&from, &to, BEFORE + 1 + number, &text, &other).map_err(|error| error.to_string())?;
    let mut outcome = Outcome::default();
    let holds = changed.run(&["verify", &to.display().to_string()]);
    if !holds.status.success() {
        outcome
            .violations
            .push(format!("it does not hold: {holds:?}"));
    }
    let _other = changed.serve().map_err(|error| error.to_string())?;
    let start = Instant::now();
    let mut other = Watch::of(&changed.url());
    for (watch, place) in [(&mut watch, &honest), (&mut other, &changed)] {
        let (status, stream) = watch.frozen().await;
        outcome.violations.extend(unclear(place, &status, &stream));
    }
    outcome.noticed_after = start.elapsed();
    Ok(outcome)
}

/// What is not said as it should be of a ledger that has another history than its replica.
fn unclear(place: &Place, status: &GetStatusResponse, stream: &StreamStatus) -> Vec<String> {
    let shown = place.told(&["status", "--all"]);
    let refused = place.run(&[
        "emit",
        "--on-error",
        "fail",
        "deploy",
        "shop",
        "--env",
        "prod",
    ]);
    let checks = [
        (
            agreement(status) == Agreement::Different,
            "that they differ",
        ),
        (stream.reason.contains("has root"), "both roots"),
        (stream.remedy.contains("waybill verify"), "what to do"),
        (shown.contains("FROZEN"), "FROZEN in status"),
        (shown.contains("ANOTHER ROOT"), "the replica in status"),
        (!refused.status.success(), "no to an emitter"),
        (place.run(&["log"]).status.success(), "what is recorded"),
    ];
    let missing = checks.into_iter().filter(|(said, _)| !said);
    let text = |(_, what): (bool, &str)| format!("unclear: {what} is missing: {shown}");
    missing.map(text).collect()
}

/// What a ledger says of its only replica.
fn agreement(status: &GetStatusResponse) -> Agreement {
    let peers = status.stream.as_ref().map(|it| it.peers.as_slice());
    match peers.unwrap_or_default() {
        [peer] => peer.agreement(),
        _ => Agreement::Unspecified,
    }
}
