//! Emitters that keep every event until they hold its receipt: some publish to the stream, some call the ledger.
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_nats::{Client, HeaderMap, Request};
use bytes::Bytes;
use prost::Message;
use serde_json::Value;
use tokio::{sync::watch, task::JoinHandle, time::sleep};
use tonic::transport::Channel;
use waybill_proto::{
    json::event_to_json,
    message, parse,
    pb::{self, EmitRequest, emit_service_client::EmitServiceClient},
    subject,
};

use super::watch::Watch;
use crate::{history::Emitter, load};

/// New events at a time.
const BATCH_SIZES: [u64; 6] = [1, 3, 1, 20, 7, 60];
/// How long an answer is waited for before the same is sent again.
const PATIENCE: Duration = Duration::from_secs(3);
/// So long a publisher waits for a receipt before it publishes again.
const RECEIPT_WAIT: Duration = Duration::from_millis(500);
/// How soon something is tried again that failed.
const AGAIN: Duration = Duration::from_millis(20);
/// How long receipts may take that must come: less than a broker remembers message ids.
const RECEIPTS_LIMIT: Duration = Duration::from_secs(60);

/// Several emitters at work. Each sends `0, 1, 2, …`.
pub struct Crowd {
    emitters: load::Emitters,
    task: watch::Sender<Task>,
    tasks: Vec<JoinHandle<()>>,
}

/// What emitters do beside sending again what has no receipt.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Task {
    /// Send more.
    More,
    /// Wait.
    Pause,
    /// End.
    Finish,
}

impl Crowd {
    /// Starts so many emitters of each kind: the first ones publish, the others call.
    #[must_use]
    pub fn start(nats: &str, ledger: &str, direct: usize, calling: usize) -> Self {
        let count = direct + calling;
        let emitters = Arc::new(Mutex::new(vec![Emitter::default(); count]));
        let task = watch::Sender::new(Task::More);
        let outbox = |emitter| Outbox {
            emitters: Arc::clone(&emitters),
            emitter,
            task: task.subscribe(),
            turn: emitter,
        };
        let tasks = (0..count).map(|emitter| match emitter < direct {
            true => tokio::spawn(publish(nats.to_owned(), ledger.to_owned(), outbox(emitter))),
            false => tokio::spawn(call(ledger.to_owned(), outbox(emitter))),
        });
        let tasks = tasks.collect();
        Self {
            emitters,
            task,
            tasks,
        }
    }

    /// Receipts so far.
    #[must_use]
    pub fn receipts(&self) -> u64 {
        locked(&self.emitters)
            .iter()
            .map(|it| it.acked.len() as u64)
            .sum()
    }

    /// Waits until there are so many more receipts.
    ///
    /// # Panics
    /// Where they do not come.
    pub async fn goes_on(&self, more: u64) {
        let wanted = self.receipts() + more;
        self.until("receipts", || self.receipts() >= wanted).await;
    }

    /// Has nothing new sent, and waits until all that was has its receipt.
    ///
    /// # Panics
    /// Where one does not come.
    pub async fn pause(&self) {
        self.task.send_replace(Task::Pause);
        let settled = || {
            let emitters = locked(&self.emitters);
            emitters.iter().all(|it| it.acked.len() as u64 == it.sent)
        };
        self.until("last receipts", settled).await;
    }

    /// Goes on after a pause.
    pub fn resume(&self) {
        self.task.send_replace(Task::More);
    }

    /// Has everything sent that was begun until there are receipts, and gives what each emitter saw.
    ///
    /// # Panics
    /// Where a receipt does not come.
    pub async fn finish(self) -> Vec<Emitter> {
        self.pause().await;
        self.task.send_replace(Task::Finish);
        for task in self.tasks {
            task.await.expect("an emitter ends by itself");
        }
        locked(&self.emitters).clone()
    }

    async fn until(&self, what: &str, reached: impl Fn() -> bool) {
        let start = Instant::now();
        while !reached() {
            assert!(start.elapsed() < RECEIPTS_LIMIT, "no more {what} come");
            sleep(AGAIN).await;
        }
    }
}

fn locked(emitters: &load::Emitters) -> MutexGuard<'_, Vec<Emitter>> {
    emitters.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one emitter keeps.
struct Outbox {
    emitters: load::Emitters,
    emitter: usize,
    task: watch::Receiver<Task>,
    turn: usize,
}

impl Outbox {
    /// Numbers without a receipt, else new ones; nothing when it is to end.
    async fn next(&mut self) -> Option<Vec<u64>> {
        let open = self.open();
        if !open.is_empty() {
            return Some(open);
        }
        let task = self.task.wait_for(|task| *task != Task::Pause).await;
        if task.map_or(Task::Finish, |task| *task) == Task::Finish {
            return None;
        }
        self.turn += 1;
        let state = &mut locked(&self.emitters)[self.emitter];
        let new = state.sent..state.sent + BATCH_SIZES[self.turn % BATCH_SIZES.len()];
        state.sent = new.end;
        Some(new.collect())
    }

    fn open(&self) -> Vec<u64> {
        let state = &locked(&self.emitters)[self.emitter];
        // Only the newest can be open: nothing new is sent before all has a receipt.
        let first = state
            .sent
            .saturating_sub(BATCH_SIZES.into_iter().max().unwrap_or(0));
        let open = (first..state.sent).filter(|number| !state.acked.contains_key(number));
        open.collect()
    }

    fn received(&self, number: u64, receipt: &pb::Receipt) {
        let emitters = &mut locked(&self.emitters);
        emitters[self.emitter]
            .acked
            .insert(number, receipt.position);
    }
}

/// Calls the ledger until every event has its receipt; the same ids on every try.
async fn call(ledger: String, mut outbox: Outbox) {
    let endpoint = tonic::transport::Endpoint::from_shared(ledger).expect("an address");
    let channel = endpoint.timeout(PATIENCE).connect_lazy();
    let mut client = EmitServiceClient::new(channel).max_decoding_message_size(64 << 20);
    while let Some(numbers) = outbox.next().await {
        if emit(&mut client, &outbox, &numbers).await.is_err() {
            sleep(AGAIN).await;
        }
    }
}

async fn emit(
    client: &mut EmitServiceClient<Channel>,
    outbox: &Outbox,
    numbers: &[u64],
) -> Result<(), tonic::Status> {
    let events = numbers.iter().map(|it| load::event(outbox.emitter, *it));
    let request = EmitRequest {
        events: events.collect(),
    };
    let answer = client.emit(request).await?.into_inner();
    for (number, result) in numbers.iter().zip(answer.results) {
        if let Some(pb::emit_result::Result::Receipt(receipt)) = result.result {
            outbox.received(*number, &receipt);
        }
    }
    Ok(())
}

/// Publishes to the stream, and again whatever the ledger has no receipt for.
async fn publish(nats: String, ledger: String, mut outbox: Outbox) {
    let client = connect(&nats).await;
    let mut watch = Watch::of(&ledger);
    while let Some(numbers) = outbox.next().await {
        let sent = numbers.iter().map(|it| store(&client, outbox.emitter, *it));
        // What the broker said no to, or nothing, is found without a receipt.
        drop(futures_util::future::join_all(sent).await);
        for number in numbers {
            let found = watch.receipt(outbox.emitter, number, RECEIPT_WAIT).await;
            match found {
                Ok(Some(receipt)) => outbox.received(number, &receipt),
                Ok(None) => break,
                Err(_) => {
                    sleep(AGAIN).await;
                    break;
                }
            }
        }
    }
}

/// Connects to a broker, as soon as it is there.
///
/// # Panics
/// Where that is no address.
pub async fn connect(nats: &str) -> Client {
    async_nats::ConnectOptions::new()
        .retry_on_initial_connect()
        .reconnect_delay_callback(|_| AGAIN)
        .connect(nats)
        .await
        .expect("an address")
}

/// Publishes one event as a service does, half of them in JSON; gives its sequence.
///
/// # Errors
/// What the broker said, or that it said nothing.
pub async fn store(client: &Client, emitter: usize, number: u64) -> Result<u64, String> {
    let wire = load::encoded(emitter, number);
    let event = parse::parse(&wire).map_err(|it| it.to_string())?;
    let (content_type, payload) = match number % 2 {
        0 => (message::PROTOBUF, wire),
        _ => (message::JSON, Bytes::from(event_to_json(&wire))),
    };
    let subject = subject::events_subject(&event, "");
    put(client, subject, content_type, payload).await
}

/// Publishes a message, and gives its sequence.
///
/// # Errors
/// What the broker said, or that it said nothing.
pub async fn put(
    client: &Client,
    subject: String,
    content_type: &str,
    payload: Bytes,
) -> Result<u64, String> {
    let mut headers = HeaderMap::new();
    headers.insert(message::CONTENT_TYPE, content_type);
    let request = Request::new()
        .headers(headers)
        .payload(payload)
        .timeout(Some(PATIENCE));
    let answer = client.send_request(subject, request).await;
    let answer = answer.map_err(|error| error.to_string())?;
    let answer: Value =
        serde_json::from_slice(&answer.payload).map_err(|error| error.to_string())?;
    answer["seq"].as_u64().ok_or_else(|| answer.to_string())
}

/// Asks JetStream's API.
///
/// # Errors
/// What it says instead, or that nobody answers.
pub async fn api(client: &Client, verb: &str, body: &Value) -> Result<Value, String> {
    let body = match body.is_null() {
        true => Bytes::new(),
        false => body.to_string().into(),
    };
    let answer = client.request(format!("$JS.API.{verb}"), body).await;
    let answer = answer.map_err(|error| error.to_string())?;
    let answer: Value =
        serde_json::from_slice(&answer.payload).map_err(|error| error.to_string())?;
    match answer["error"].is_null() {
        true => Ok(answer),
        false => Err(answer["error"].to_string()),
    }
}

/// The encoded form of an event that no emitter sends.
#[must_use]
pub fn other(number: u64) -> Bytes {
    let event = pb::Event {
        source: "/somebody".to_owned(),
        ..load::event(0, number)
    };
    event.encode_to_vec().into()
}
