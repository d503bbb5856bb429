//! Emitters that send numbered events and remember every answer; and reading back what a ledger holds.
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use prost::Message;
use prost_types::Timestamp;
use waybill_proto::pb::{
    self, EmitRequest, Event, ListEventsRequest, emit_service_client::EmitServiceClient,
    ledger_service_client::LedgerServiceClient,
};

use crate::history::{Emitter, Held};

/// A hundred events in one call, now and then; mostly few, so that commits of every size are cut.
const BATCH_SIZES: [u64; 8] = [1, 1, 1, 2, 5, 20, 100, 3];

/// What every emitter has done so far, kept across kills.
pub type Emitters = Arc<Mutex<Vec<Emitter>>>;

/// An event of emitter `emitter`, number `number`.
#[must_use]
pub fn event(emitter: usize, number: u64) -> Event {
    let deployment = pb::DeploymentInfo {
        deployment_id: format!("d-{number}"),
        service: format!("service-{emitter}"),
        environment: "prod".to_owned(),
        ..Default::default()
    };
    let finished = pb::DeploymentFinished {
        deployment: Some(deployment),
        outcome: pb::Outcome::Success.into(),
        ..Default::default()
    };
    Event {
        source: format!("/emitter/{emitter}"),
        id: number.to_string(),
        occur_time: Some(Timestamp {
            seconds: 1_700_000_000 + i64::try_from(number % 1_000_000).unwrap_or(0),
            nanos: 0,
        }),
        payload: Some(pb::event::Payload::Deployment(pb::DeploymentEvent {
            event: Some(pb::deployment_event::Event::Finished(finished)),
        })),
        ..Default::default()
    }
}

/// Which emitter and number an event is of.
#[must_use]
pub fn held(recorded: &pb::RecordedEvent) -> Held {
    if recorded.kind.starts_with("ledger.") {
        return Held::Own;
    }
    let Some(found) = &recorded.event else {
        return Held::Strange("no event".to_owned());
    };
    let emitter = found
        .source
        .strip_prefix("/emitter/")
        .and_then(|it| it.parse().ok());
    match (emitter, found.id.parse()) {
        // The content must be what was sent, not only the identity.
        (Some(emitter), Ok(number)) if *found == event(emitter, number) => {
            Held::Event { emitter, number }
        }
        _ => Held::Strange(format!("{} {}", found.source, found.id)),
    }
}

/// Sends until told to stop or until the server is gone. Sends again first what had no answer: sending again is safe. What
/// is answered after it was told to stop, it has not heard.
pub async fn emit(url: String, emitter: usize, emitters: Emitters, stop: Arc<AtomicBool>) {
    let Ok(client) = EmitServiceClient::connect(url).await else {
        return;
    };
    let mut client = client.max_decoding_message_size(64 << 20);
    let mut turn = emitter;
    while !stop.load(Ordering::Relaxed) {
        let numbers = next_numbers(&emitters, emitter, BATCH_SIZES[turn % BATCH_SIZES.len()]);
        turn += 1;
        let events = numbers
            .iter()
            .map(|number| event(emitter, *number))
            .collect();
        let Ok(response) = client.emit(EmitRequest { events }).await else {
            return;
        };
        let mut emitters = emitters.lock().unwrap_or_else(PoisonError::into_inner);
        if stop.load(Ordering::Relaxed) {
            return;
        }
        for (number, result) in numbers.iter().zip(response.into_inner().results) {
            if let Some(pb::emit_result::Result::Receipt(receipt)) = result.result {
                emitters[emitter].acked.insert(*number, receipt.position);
            }
        }
    }
}

/// The numbers that have no receipt yet, and then new ones.
fn next_numbers(emitters: &Emitters, emitter: usize, count: u64) -> Vec<u64> {
    let mut emitters = emitters.lock().unwrap_or_else(PoisonError::into_inner);
    let state = &mut emitters[emitter];
    let first_open = state.acked.last_key_value().map_or(0, |(last, _)| last + 1);
    let numbers: Vec<u64> = (first_open..state.sent.max(first_open + count))
        .take(1000)
        .collect();
    state.sent = state.sent.max(numbers.last().map_or(0, |last| last + 1));
    numbers
}

/// Everything that a ledger holds, in order, read page by page.
///
/// # Errors
/// What the server answered instead of a page.
pub async fn read_all(url: &str) -> Result<Vec<(u64, Held)>, tonic::Status> {
    let channel = tonic::transport::Endpoint::from_shared(url.to_owned())
        .map_err(|error| tonic::Status::invalid_argument(error.to_string()))?
        .connect()
        .await
        .map_err(|error| tonic::Status::unavailable(error.to_string()))?;
    let mut client = LedgerServiceClient::new(channel).max_decoding_message_size(64 << 20);
    let status = client
        .get_status(pb::GetStatusRequest {})
        .await?
        .into_inner();
    let at_least = Some(pb::AtLeast {
        ledger_id: String::new(),
        position: status.durable_position,
    });
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListEventsRequest {
            page_size: 1000,
            page_token,
            at_least: at_least.clone(),
            ..Default::default()
        };
        let page = client.list_events(request).await?.into_inner();
        all.extend(
            page.events
                .iter()
                .map(|recorded| (recorded.position, held(recorded))),
        );
        if page.next_page_token.is_empty() {
            return Ok(all);
        }
        page_token = page.next_page_token;
    }
}

/// The encoded form of [`event`], for writing past the typed client.
#[must_use]
pub fn encoded(emitter: usize, number: u64) -> Bytes {
    event(emitter, number).encode_to_vec().into()
}
