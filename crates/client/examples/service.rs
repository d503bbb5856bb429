//! A service that tells the ledger what it does: `service [URL]`.
//!
//! It switches a flag on, says how its requests went in the last minute, and prints a line for each receipt.
use std::{
    env,
    error::Error,
    time::{Duration, SystemTime},
};

use waybill_client::{Client, DEFAULT_URL, Flag, FlagChangeType, MetricWindow, actor};

/// How long one event may take, tries included.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::args().nth(1).unwrap_or(DEFAULT_URL.to_owned());
    let emitter = Client::connect(&url)?
        .emitter("//checkout.example.com")
        .with_actor(actor::program("checkout"));

    let flag = Flag::new("faster-checkout", "production").service("checkout");
    let end = SystemTime::now();
    let window = MetricWindow::new(
        "requests_ok",
        "{request}",
        "checkout",
        end - Duration::from_secs(60)..end,
    )
    .environment("production");
    let drafts = [
        flag.changed(FlagChangeType::Enabled),
        flag.rolled_out(0.0, 0.1),
        window.ratio(998, 1_000),
    ];

    // A stream does not wait for each receipt; its events still go out, and are recorded, in this order.
    let stream = emitter.stream(100, PATIENCE);
    let mut sent = Vec::new();
    for draft in drafts {
        let event = emitter.event(draft)?;
        sent.push((event.kind().to_owned(), stream.send(&event).await?));
    }
    for (kind, receipt) in sent {
        let receipt = receipt.await?;
        say(&format!(
            "recorded {kind} position={} duplicate={}",
            receipt.position, receipt.duplicate
        ));
    }
    stream.finish().await;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "an example's lines are its result")]
fn say(line: &str) {
    println!("{line}");
}
