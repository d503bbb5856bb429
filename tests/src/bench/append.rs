//! Writing: batches, a stream of single events, one lone event.
use std::{path::Path, time::Instant};

use futures_util::{StreamExt, stream};
use tokio_stream::wrappers::ReceiverStream;
use waybill_client::{Carrier, Connect};
use waybill_proto::pb::{
    EmitRequest, EmitStreamRequest, Event, GetStatusRequest, emit_result::Result as Answer,
    emit_service_client::EmitServiceClient, ledger_service_client::LedgerServiceClient,
};

use super::{
    Row, Size, events, floor, per_second,
    postgres::{self, Postgres},
    quantile, rate, say, text,
};

/// Calls on their way at once, for us and for the peer.
const IN_FLIGHT: usize = 16;

/// Single events or statements on their way at once, for us and for the peer.
const SINGLES_IN_FLIGHT: usize = 1000;

type Emitter = EmitServiceClient<Carrier>;

fn emitter(door: &Connect) -> Result<Emitter, String> {
    door.carrier().map(EmitServiceClient::new).map_err(text)
}

/// Fills the ledger with the first `count` events of the mix.
pub(crate) async fn fill(url: &str, count: u64) -> Result<(), String> {
    emit(&Connect::to(url), 0, count, 1000).await
}

/// Emits so many events in batches and waits for every receipt.
pub(crate) async fn emit(door: &Connect, first: u64, count: u64, batch: u64) -> Result<(), String> {
    let client = emitter(door)?;
    let batches = (first..first + count).step_by(usize::try_from(batch).map_err(text)?);
    let calls = stream::iter(batches.map(|start| {
        let (mut client, end) = (client.clone(), (start + batch).min(first + count));
        async move { emit_one(&mut client, (start..end).map(events::event).collect()).await }
    }));
    let mut calls = calls.buffered(IN_FLIGHT);
    while let Some(done) = calls.next().await {
        done?;
    }
    Ok(())
}

/// One batch; waits and sends again when the ledger says that it is busy, as any client does.
async fn emit_one(client: &mut Emitter, batch: Vec<Event>) -> Result<(), String> {
    loop {
        match client
            .emit(EmitRequest {
                events: batch.clone(),
            })
            .await
        {
            Ok(response) => {
                let refused = response
                    .into_inner()
                    .results
                    .into_iter()
                    .find(|it| !matches!(it.result, Some(Answer::Receipt(_))));
                return refused.map_or(Ok(()), |refused| Err(format!("not recorded: {refused:?}")));
            }
            Err(status) if status.code() == tonic::Code::ResourceExhausted => {
                tokio::task::yield_now().await
            }
            Err(status) => return Err(status.to_string()),
        }
    }
}

/// Durable append in batches of 100, both sides holding the same events already.
pub(crate) async fn batches(url: &str, peer: &Postgres, size: &Size) -> Result<Row, String> {
    say("append: batches of 100");
    let start = Instant::now();
    emit(&Connect::to(url), size.held, size.events, 100).await?;
    let ours = start.elapsed().as_secs_f64();
    let rows = size.events / 5;
    let client = peer.connect().await?;
    let second = peer.connect().await?;
    let start = Instant::now();
    let half = rows / 2;
    let insert = async |client: &tokio_postgres::Client, from: u64| {
        for first in (from..from + half).step_by(100) {
            postgres::insert(client, first, 100.min(from + half - first)).await?;
        }
        Ok::<_, String>(())
    };
    let (one, two) = tokio::join!(
        insert(&client, size.held),
        insert(&second, size.held + half)
    );
    one.and(two)?;
    let theirs = start.elapsed().as_secs_f64();
    Ok(Row {
        what: "append, batches of 100",
        ours: rate(size.events, ours),
        peer: format!("PostgreSQL {}", rate(rows, theirs)),
        ratio: format!(
            "{:.1}x",
            per_second(size.events, ours) / per_second(rows, theirs)
        ),
        reach: ">= 200 k/s, >= 5x",
    })
}

/// One event for one message of a stream; one row for one pipelined statement.
pub(crate) async fn singles(url: &str, peer: &Postgres, size: &Size) -> Result<Row, String> {
    say("stream: one event for one message");
    let (first, count) = (2 * size.held + size.events, size.events);
    let ready: Vec<Event> = (first..first + count).map(events::event).collect();
    let start = Instant::now();
    stream_all(url, ready).await?;
    let ours = start.elapsed().as_secs_f64();
    let rows = count / 10;
    let client = peer.connect().await?;
    let start = Instant::now();
    postgres::insert_singly(&client, first, rows, SINGLES_IN_FLIGHT).await?;
    let theirs = start.elapsed().as_secs_f64();
    Ok(Row {
        what: "stream, one event a message",
        ours: rate(count, ours),
        peer: format!("PostgreSQL pipelined {}", rate(rows, theirs)),
        ratio: format!("{:.1}x", per_second(count, ours) / per_second(rows, theirs)),
        reach: ">= 80 k/s",
    })
}

/// Sends each event in a message of its own, and waits for every receipt.
pub(crate) async fn stream_all(url: &str, events: Vec<Event>) -> Result<(), String> {
    let total = events.len();
    let (send, receive) = tokio::sync::mpsc::channel(SINGLES_IN_FLIGHT);
    let feeding = tokio::spawn(async move {
        for event in events {
            if send
                .send(EmitStreamRequest {
                    events: vec![event],
                })
                .await
                .is_err()
            {
                return;
            }
        }
    });
    let mut client = emitter(&Connect::to(url))?;
    let mut answers = client
        .emit_stream(ReceiverStream::new(receive))
        .await
        .map_err(text)?
        .into_inner();
    let mut recorded = 0;
    while let Some(answer) = answers.message().await.map_err(text)? {
        recorded += answer
            .results
            .iter()
            .filter(|it| matches!(it.result, Some(Answer::Receipt(_))))
            .count();
    }
    feeding.await.map_err(text)?;
    if recorded == total {
        Ok(())
    } else {
        Err(format!("{recorded} of {total} events have a receipt"))
    }
}

/// One lone event after another, beside one bare append with fdatasync after another.
pub(crate) async fn unary(url: &str, directory: &Path) -> Result<Row, String> {
    say("unary: one lone event");
    let mut times = lone(url, 2000).await?;
    let (ours, floor) = (
        quantile(&mut times, 0.5),
        floor::append_and_sync_ms(directory)?,
    );
    Ok(Row {
        what: "unary emit, p50",
        ours: format!("{ours:.3} ms"),
        peer: format!("append + fdatasync {floor:.3} ms"),
        ratio: format!("{:.2}x", ours / floor),
        reach: "<= 2.5x",
    })
}

/// How long each lone event waits for its receipt, in milliseconds.
pub(crate) async fn lone(url: &str, count: u64) -> Result<Vec<f64>, String> {
    let mut client = emitter(&Connect::to(url))?;
    let mut times = Vec::new();
    for number in 0..count {
        let mut event = events::event(number);
        event.id = format!("lone-{number}");
        let start = Instant::now();
        emit_one(&mut client, vec![event]).await?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times)
}

/// Positions that the ledger holds now, all of them durable.
pub(crate) async fn durable(url: &str) -> Result<u64, String> {
    let mut client = LedgerServiceClient::connect(url.to_owned())
        .await
        .map_err(text)?;
    Ok(client
        .get_status(GetStatusRequest {})
        .await
        .map_err(text)?
        .into_inner()
        .durable_position)
}

/// Raw protobuf bytes of an event of the mix, on average.
pub(crate) fn raw_bytes_per_event() -> u64 {
    let sample = 10_000;
    let bytes: u64 = (0..sample)
        .map(|number| events::encoded(number).len() as u64)
        .sum();
    bytes / sample
}
