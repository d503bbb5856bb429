//! Through JetStream: taking in, emitting, noticing that the broker forgot.
use std::{
    path::Path,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use waybill_fixture::nats;
use waybill_proto::pb::{
    GetStatusRequest, StreamCondition, StreamStatus, ledger_service_client::LedgerServiceClient,
};

use super::{Row, append, broker::Broker, events, per_second, quantile, rate, say, text};
use crate::process::{Home, Server};

/// Each figure is the median of so many rounds, ours and the peer's in turn.
const ROUNDS: usize = 3;
/// Lone events whose receipts are waited for.
const LONE: u64 = 1_000;
/// Times that the broker forgets.
const FORGETS: usize = 10;
/// Events before and behind the moment that it goes back to.
const HELD: u64 = 1_000;
/// How often a ledger is asked where it is.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A ledger that began with nothing.
struct Follower {
    _directory: TempDir,
    server: Server,
    client: LedgerServiceClient<tonic::transport::Channel>,
}

impl Follower {
    async fn start(arguments: &[String]) -> Result<Self, String> {
        let directory = tempfile::tempdir().map_err(text)?;
        let root = directory.path().to_owned();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let server = Server::start_with(&Home { root }, &[], &arguments).map_err(text)?;
        let client = LedgerServiceClient::connect(server.url.clone()).await;
        let client = client.map_err(text)?;
        Ok(Self {
            _directory: directory,
            server,
            client,
        })
    }

    async fn stream(&mut self) -> Result<StreamStatus, String> {
        let status = self.client.get_status(GetStatusRequest {}).await;
        let status = status.map_err(text)?.into_inner();
        status
            .stream
            .ok_or_else(|| "no stream is followed".to_owned())
    }

    /// Waits until the stream's status is such.
    async fn until(
        &mut self,
        is_it: impl Fn(&StreamStatus) -> bool,
    ) -> Result<StreamStatus, String> {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        loop {
            ticks.tick().await;
            let status = self.stream().await?;
            if is_it(&status) {
                return Ok(status);
            }
        }
    }

    async fn until_recorded(&mut self, sequence: u64) -> Result<StreamStatus, String> {
        let is_following = |it: &StreamStatus| it.condition() == StreamCondition::Following;
        self.until(|it| is_following(it) && it.recorded_sequence >= sequence)
            .await
    }

    async fn until_frozen(&mut self) -> Result<StreamStatus, String> {
        self.until(|it| it.condition() == StreamCondition::Frozen)
            .await
    }
}

/// What is on the stream already is taken in by a ledger that begins, and acknowledged; beside a consumer that only
/// acknowledges.
pub(crate) async fn intake(binary: &Path, events: u64) -> Result<Row, String> {
    let broker = Broker::start(binary, nats::Options::default(), true).await?;
    say(&format!("intake: publishing {events} events"));
    broker.publish(0..events).await?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        theirs.push(broker.bare_consumer(events).await?);
        ours.push(take_in(&broker, events).await?);
        say(&format!(
            "round {round}: {:.1} k/s, bare consumer {:.1} k/s",
            ours[round] / 1e3,
            theirs[round] / 1e3
        ));
    }
    let (ours, theirs) = (quantile(&mut ours, 0.5), quantile(&mut theirs, 0.5));
    Ok(Row {
        what: "JetStream -> committed -> acked",
        ours: format!("{:.1} k/s", ours / 1e3),
        peer: format!("bare pull consumer {:.1} k/s", theirs / 1e3),
        ratio: format!("{:.2}x", ours / theirs),
        reach: ">= 100 k/s, >= 0.7x",
    })
}

/// Events per second from the first that is recorded to the last that is acknowledged, by a ledger that begins.
async fn take_in(broker: &Broker, last: u64) -> Result<f64, String> {
    let mut ledger = Follower::start(&broker.arguments()).await?;
    let first = ledger.until(|it| it.recorded_sequence > 0).await?;
    let begun = Instant::now();
    ledger.until(|it| it.recorded_sequence >= last).await?;
    let consumer = broker.consumer().await?;
    broker.acknowledged(&consumer, last).await?;
    let rate = per_second(
        last - first.recorded_sequence,
        begun.elapsed().as_secs_f64(),
    );
    ledger.server.kill();
    Ok(rate)
}

/// Lone events and a stream of single events through the broker, beside the ledger that orders by itself.
pub(crate) async fn emits(
    binary: &Path,
    options: nats::Options<'_>,
    events: u64,
) -> Result<[Row; 2], String> {
    say("emit: through the broker, and through the local sequencer");
    let broker = Broker::start(binary, options, true).await?;
    let mut ours = Follower::start(&broker.arguments()).await?;
    ours.until_recorded(1).await?;
    let local = Follower::start(&[]).await?;
    let (ours, local) = (&ours.server.url, &local.server.url);

    let mut through = append::lone(ours, LONE).await?;
    let mut beside = append::lone(local, LONE).await?;
    let [p50, p99] = [0.5, 0.99].map(|share| quantile(&mut through, share));
    let [local_p50, local_p99] = [0.5, 0.99].map(|share| quantile(&mut beside, share));
    let lone = Row {
        what: "unary emit through it, p50 / p99",
        ours: format!("{p50:.2} / {p99:.2} ms"),
        peer: format!("local sequencer {local_p50:.2} / {local_p99:.2} ms"),
        ratio: format!("{:.2}x", p50 / local_p50),
        reach: "",
    };

    let through = streamed(ours, events).await?;
    let beside = streamed(local, events).await?;
    let streamed = Row {
        what: "stream, one event a message",
        ours: rate(events, through),
        peer: format!("local sequencer {}", rate(events, beside)),
        ratio: format!("{:.2}x", beside / through),
        reach: "",
    };
    Ok([lone, streamed])
}

/// Seconds that single events take over one stream.
async fn streamed(url: &str, events: u64) -> Result<f64, String> {
    let ready = (0..events).map(events::event).collect();
    let begun = Instant::now();
    append::stream_all(url, ready).await?;
    Ok(begun.elapsed().as_secs_f64())
}

/// How long it takes from the broker's return with an older store to the frozen ledger.
pub(crate) async fn rollback(binary: &Path) -> Result<Row, String> {
    say("freeze: the broker comes back with an older store");
    let mut broker = Broker::start(binary, nats::Options::default(), true).await?;
    let mut ledger = Follower::start(&broker.arguments()).await?;
    broker.publish(0..HELD).await?;
    ledger.until_recorded(HELD).await?;
    broker.server.kill();
    let older = broker.server.copy_store();
    broker.server.restart();
    broker.publish(HELD..2 * HELD).await?;
    let recorded = ledger.until_recorded(2 * HELD).await?.recorded_sequence;
    broker.server.kill();
    let newer = broker.server.copy_store();
    let mut times = Vec::new();
    for _ in 0..FORGETS {
        broker.server.restore(older.path());
        broker.server.restart();
        let back = Instant::now();
        ledger.until_frozen().await?;
        times.push(back.elapsed().as_secs_f64());
        broker.server.kill();
        broker.server.restore(newer.path());
        broker.server.restart();
        ledger.until_recorded(recorded).await?;
        broker.server.kill();
    }
    Ok(frozen("frozen after a rollback, p50 / p99", &mut times))
}

/// How long it takes to notice that history is gone where the connection never broke and nothing comes in.
pub(crate) async fn idle(binary: &Path) -> Result<Row, String> {
    say("freeze: an idle broker loses its messages");
    let mut broker = Broker::start(binary, nats::Options::default(), false).await?;
    let mut arguments = broker.arguments();
    arguments.push("--nats-allow-purge".to_owned());
    let mut ledger = Follower::start(&arguments).await?;
    broker.publish(0..HELD).await?;
    let recorded = ledger.until_recorded(HELD).await?.recorded_sequence;
    broker.server.kill();
    let whole = broker.server.copy_store();
    let mut times = Vec::new();
    for _ in 0..FORGETS {
        broker.server.restart();
        ledger.until_recorded(recorded).await?;
        broker.purge().await?;
        let purged = Instant::now();
        ledger.until_frozen().await?;
        times.push(purged.elapsed().as_secs_f64());
        broker.server.kill();
        broker.server.restore(whole.path());
    }
    Ok(frozen("frozen when idle, p50 / p99", &mut times))
}

fn frozen(what: &'static str, times: &mut [f64]) -> Row {
    let [p50, p99] = [0.5, 0.99].map(|share| quantile(times, share));
    Row {
        what,
        ours: format!("{p50:.2} / {p99:.2} s"),
        peer: String::new(),
        ratio: String::new(),
        reach: "within seconds",
    }
}
