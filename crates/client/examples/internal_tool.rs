//! An internal tool that reads what it wrote: `internal_tool [URL]`.
//!
//! It records a deployment, asks at the position of the receipt what that deployment brought, and checks the proven
//! receipt against the checkpoint that it kept from before.
use std::{env, error::Error, time::Duration};

use waybill_client::{Client, DEFAULT_URL, Delivery, Deployment, Id, Outcome, Trace, ask};
use waybill_tlog::checkpoint::VerifierKey;

const REVISION: &str = "9a8b7c6d9a8b7c6d9a8b7c6d9a8b7c6d9a8b7c6d";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::args().nth(1).unwrap_or(DEFAULT_URL.to_owned());
    let client = Client::connect(&url)?;
    // A tool in earnest has the key from elsewhere: this is the ledger's own word for who it is.
    let kept = client.reader().checkpoint().await?;
    let keys = [VerifierKey::parse(&kept.verifier_key)?];

    let emitter = client.emitter("//tools.example.com/deployer");
    let deployment_id = Id::random();
    let deployment = Deployment::new(deployment_id.as_str(), "checkout", "production")
        .revision("github.com/acme/shop", REVISION);
    let event = emitter.event(deployment.finished(Outcome::Success))?;
    let receipt = emitter.emit(&event, Duration::from_secs(20)).await?;
    say(&format!("recorded position={}", receipt.position));

    let reader = client.reader().after(&receipt);
    let asked = format!("deployment:checkout/{}", deployment_id.as_str());
    let trace = reader.trace(Trace::of(asked)).await?;
    let position = trace.basis.map_or(0, |basis| basis.position);
    let found = trace
        .nodes
        .iter()
        .any(|node| node.entity.ends_with(REVISION));
    say(&format!(
        "trace read_my_write={} found={found}",
        position >= receipt.position
    ));
    let delivery = reader.delivery(Delivery::new().service("checkout")).await?;
    say(&format!("delivery services={}", delivery.services.len()));

    let proven = reader
        .proven_receipt(event.source(), event.id(), kept.tree_size)
        .await?;
    let verified = ask::verify(&proven, &keys, Some(&kept.checkpoint))?;
    let grown = verified
        .kept
        .map_or(0, |older| verified.checkpoint.size - older.size);
    say(&format!(
        "verified size={} grown={grown}",
        verified.checkpoint.size
    ));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "an example's lines are its result")]
fn say(line: &str) {
    println!("{line}");
}
