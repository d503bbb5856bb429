//! A real broker with a stream of the mix on it, and the peer: a bare pull consumer that only acknowledges.
use std::{
    ops::Range,
    path::Path,
    time::{Duration, Instant},
};

use async_nats::{Client, HeaderMap};
use futures_util::StreamExt;
use serde_json::{Value, json};
use waybill_fixture::nats;
use waybill_proto::{canonical, message, parse::parse, subject};

use super::{events, per_second, text};

/// The stream's name.
pub(crate) const STREAM: &str = "BENCH";
/// Messages that were published and not acknowledged by the broker yet; newer servers drop what exceeds theirs.
const UNANSWERED_MAX: u64 = 2_000;
/// Messages of one pull and of one acknowledgement: the ledger's own.
const PULLED: u64 = 1_024;
/// Version of the rules that digests follow.
const RULES_VERSION: u32 = 1;

/// A server process and a connection to it.
pub(crate) struct Broker {
    pub(crate) server: nats::Server,
    client: Client,
}

impl Broker {
    /// Starts a server with an empty stream. `kept`: whether it refuses to purge, as a stream should.
    pub(crate) async fn start(
        binary: &Path,
        options: nats::Options<'_>,
        kept: bool,
    ) -> Result<Self, String> {
        let server = nats::Server::start(binary, options);
        let client = async_nats::connect(server.url()).await.map_err(text)?;
        let broker = Self { server, client };
        let config = json!({
            "name": STREAM,
            "subjects": ["waybill.events.v1.>", "waybill.gate.v1.>"],
            "storage": "file",
            "discard": "new",
            "max_msg_size": 1 << 20,
            "num_replicas": 1,
            "duplicate_window": nanos(Duration::from_secs(120)),
            "deny_delete": kept,
            "deny_purge": kept,
            "allow_direct": true,
        });
        broker
            .ask(&format!("STREAM.CREATE.{STREAM}"), &config)
            .await?;
        Ok(broker)
    }

    /// What `waybill serve` needs to follow the stream.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let url = self.server.url();
        ["--nats", &url, "--stream", STREAM]
            .map(str::to_owned)
            .to_vec()
    }

    /// Asks JetStream's API.
    async fn ask(&self, what: &str, request: &Value) -> Result<Value, String> {
        let subject = format!("$JS.API.{what}");
        let answer = self.client.request(subject, request.to_string().into());
        let answer = answer.await.map_err(text)?;
        let answer: Value = serde_json::from_slice(&answer.payload).map_err(text)?;
        match answer.get("error") {
            Some(error) => Err(format!("{what}: {error}")),
            None => Ok(answer),
        }
    }

    /// Publishes events as services do, and waits until the broker has stored them all.
    pub(crate) async fn publish(&self, numbers: Range<u64>) -> Result<(), String> {
        let inbox = self.client.new_inbox();
        let mut answers = self.client.subscribe(inbox.clone()).await.map_err(text)?;
        let mut unanswered = 0;
        for number in numbers {
            let (subject, headers, payload) = direct(number)?;
            self.client
                .publish_with_reply_and_headers(subject, inbox.clone(), headers, payload)
                .await
                .map_err(text)?;
            unanswered += 1;
            if unanswered >= UNANSWERED_MAX {
                stored(answers.next().await)?;
                unanswered -= 1;
            }
        }
        for _ in 0..unanswered {
            stored(answers.next().await)?;
        }
        Ok(())
    }

    /// Takes all messages away.
    pub(crate) async fn purge(&self) -> Result<(), String> {
        let purged = self
            .ask(&format!("STREAM.PURGE.{STREAM}"), &json!({}))
            .await;
        purged.map(drop)
    }

    /// The only consumer's name.
    pub(crate) async fn consumer(&self) -> Result<String, String> {
        let answer = self
            .ask(&format!("CONSUMER.NAMES.{STREAM}"), &json!({}))
            .await?;
        let name = answer["consumers"][0].as_str();
        name.map(str::to_owned)
            .ok_or_else(|| "the ledger has no consumer".to_owned())
    }

    /// Waits until a consumer's acknowledgements have reached a sequence.
    pub(crate) async fn acknowledged(&self, consumer: &str, last: u64) -> Result<(), String> {
        let info = format!("CONSUMER.INFO.{STREAM}.{consumer}");
        loop {
            let info = self.ask(&info, &json!({})).await?;
            if info["ack_floor"]["stream_seq"].as_u64() >= Some(last) {
                return Ok(());
            }
        }
    }

    /// Reads the stream from its start to a sequence with a consumer like the ledger's, does nothing with the messages and
    /// acknowledges each batch. Gives messages per second, from the first to the last acknowledged.
    pub(crate) async fn bare_consumer(&self, last: u64) -> Result<f64, String> {
        let config = json!({"stream_name": STREAM, "config": {
            "name": "bare", "deliver_policy": "all", "ack_policy": "all", "max_ack_pending": 65_536, "mem_storage": true,
            "inactive_threshold": nanos(Duration::from_secs(300)),
        }});
        let name = format!("{STREAM}.bare");
        self.ask(&format!("CONSUMER.CREATE.{name}"), &config)
            .await?;
        let inbox = self.client.new_inbox();
        let mut messages = self.client.subscribe(inbox.clone()).await.map_err(text)?;
        let pull = json!({"batch": PULLED, "expires": nanos(Duration::from_secs(30))}).to_string();
        let (mut asked, mut came, mut begun) = (0, 0, Instant::now());
        while came < last {
            if asked <= came + PULLED {
                let next = format!("$JS.API.CONSUMER.MSG.NEXT.{name}");
                let asking =
                    self.client
                        .publish_with_reply(next, inbox.clone(), pull.clone().into());
                asking.await.map_err(text)?;
                asked += PULLED;
                continue;
            }
            let message = messages.next().await.ok_or("the connection ended")?;
            let Some(reply) = message.reply else {
                return Err(format!("the consumer stopped: {:?}", message.description));
            };
            if came == 0 {
                begun = Instant::now();
            }
            came += 1;
            if came.is_multiple_of(PULLED) || came == last {
                let acknowledging = self.client.publish(reply, "+ACK".into());
                acknowledging.await.map_err(text)?;
            }
        }
        self.acknowledged("bare", last).await?;
        let seconds = begun.elapsed().as_secs_f64();
        self.ask(&format!("CONSUMER.DELETE.{name}"), &json!({}))
            .await?;
        Ok(per_second(last, seconds))
    }
}

/// Subject, headers and body of an event that a service publishes itself.
fn direct(number: u64) -> Result<(String, HeaderMap, bytes::Bytes), String> {
    let payload = events::encoded(number);
    let event = parse(&payload).map_err(text)?;
    let digest = canonical::content_digest(&payload, RULES_VERSION).map_err(text)?;
    let mut headers = HeaderMap::new();
    headers.insert(message::CONTENT_TYPE, message::PROTOBUF);
    headers.insert(message::MESSAGE_ID, &*message::message_id(&event, &digest));
    Ok((subject::events_subject(&event, ""), headers, payload))
}

fn stored(answer: Option<async_nats::Message>) -> Result<(), String> {
    let answer = answer.ok_or("the connection ended")?;
    let said: Value = serde_json::from_slice(&answer.payload).map_err(text)?;
    match said.get("seq") {
        Some(_) => Ok(()),
        None => Err(format!("not stored: {said}")),
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
