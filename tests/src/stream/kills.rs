//! A ledger or its broker killed under load, again and again: end to end nothing is lost or doubled.
use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use super::{
    bed::{Bed, Place},
    emitters::Crowd,
    forgetting::judged,
    watch::Watch,
};
use crate::process::Server;

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// The ledger.
    Ledger,
    /// The broker.
    Broker,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// From each start until messages came in again.
    pub recoveries: Vec<Duration>,
    /// Receipts that emitters held in the end.
    pub receipts: u64,
    /// What should not be.
    pub violations: Vec<String>,
}

/// Kills one of two so often, each time after some more receipts, and checks everything at the end.
///
/// # Errors
/// Where the world does not work; what the ledger does wrong is in the outcome.
pub async fn kills(
    binary: &Path,
    victim: Victim,
    count: u32,
    mut receipts_between: impl FnMut() -> u64,
) -> Result<Outcome, String> {
    let mut bed = Bed::new(binary);
    let place = bed.ledger("ledger");
    let mut server = Some(serve(&place)?);
    let crowd = Crowd::start(&bed.broker.url(), &place.url(), 2, 2);
    let mut watch = Watch::of(&place.url());
    let mut roots = BTreeMap::new();
    let mut outcome = Outcome::default();
    for _ in 0..count {
        crowd.goes_on(receipts_between()).await;
        let (size, root) = watch.root(0).await.map_err(|it| it.to_string())?;
        roots.insert(size, root);
        match victim {
            Victim::Ledger => {
                drop(server.take());
                let start = Instant::now();
                server = Some(serve(&place)?);
                watch.following().await;
                outcome.recoveries.push(start.elapsed());
            }
            Victim::Broker => {
                bed.broker.kill();
                bed.broker.restart();
                let start = Instant::now();
                // What was said before the loss was noticed is no recovery: a receipt is.
                crowd.goes_on(1).await;
                outcome.recoveries.push(start.elapsed());
            }
        }
    }
    let emitters = crowd.finish().await;
    let held = watch.history().await.map_err(|it| it.to_string())?;
    let judged = judged(&emitters, &held);
    outcome.receipts = emitters.iter().map(|it| it.acked.len() as u64).sum();
    outcome.violations = judged.iter().map(ToString::to_string).collect();
    let changed = watch.changed(&roots).await.map_err(|it| it.to_string())?;
    for size in changed {
        let text = format!("the root of {size} positions is another one now");
        outcome.violations.push(text);
    }
    Ok(outcome)
}

fn serve(place: &Place) -> Result<Server, String> {
    place.serve().map_err(|error| error.to_string())
}
