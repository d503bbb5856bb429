//! A reader that tails from a position: `reader [URL] [--from POSITION] [--count N]`.
//!
//! It prints a line for each event, and the position to go on from. Without `--count` it goes on until it is stopped.
use std::{env, error::Error, time::Duration};

use waybill_client::{
    Client, DEFAULT_URL,
    ask::{Start, Tailed, decode},
    pb::EventFilter,
};

/// How long a ledger may be away before this gives up.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (mut url, mut from, mut count) = (DEFAULT_URL.to_owned(), 1, u64::MAX);
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--from" => from = arguments.next().ok_or("--from needs a position")?.parse()?,
            "--count" => count = arguments.next().ok_or("--count needs a number")?.parse()?,
            _ => url = argument,
        }
    }
    let reader = Client::connect(&url)?.reader();
    let mut tail = reader.tail(Start::At(from), EventFilter::default(), PATIENCE);
    let mut seen = 0;
    while seen < count
        && let Some(said) = tail.next().await?
    {
        if let Tailed::Event(record) = said {
            let event = decode(&record)?;
            say(&format!(
                "{} {} {} {}",
                record.position, record.kind, event.source, event.id
            ));
            seen += 1;
        }
    }
    say(&format!("next {}", tail.position().unwrap_or(from)));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "an example's lines are its result")]
fn say(line: &str) {
    println!("{line}");
}
