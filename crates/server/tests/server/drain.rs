//! The end of a server: what is under way finishes, what is open is told, all in bounded time.
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use waybill_proto::pb;

use crate::kit::{PATIENCE, commit, reason, receipt, served, served_with};

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_ended_and_told_to_come_again() {
    let served = served_with(|settings| settings.drain_max = 10 * PATIENCE).await;
    let (requests, stream) = tokio::sync::mpsc::channel(8);
    let mut answers = served
        .emits()
        .emit_stream(ReceiverStream::new(stream))
        .await
        .unwrap()
        .into_inner();
    requests
        .send(pb::EmitStreamRequest {
            events: vec![commit(1)],
        })
        .await
        .unwrap();
    assert!(!receipt(&answers.message().await.unwrap().unwrap().results[0]).duplicate);
    let mut tail = served
        .reads()
        .tail_events(pb::TailEventsRequest::default())
        .await
        .unwrap()
        .into_inner();
    let mut health = HealthClient::new(served.channel.clone());
    let mut watch = health
        .watch(HealthCheckRequest::default())
        .await
        .unwrap()
        .into_inner();
    while watch.message().await.unwrap().unwrap().status() != ServingStatus::Serving {}

    let stopped = served.stop();
    let last = timeout(PATIENCE, watch.message())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(last.status(), ServingStatus::NotServing);
    let status = timeout(PATIENCE, answers.message())
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::Unavailable, "DRAINING")
    );
    let ended = async {
        loop {
            if let Err(status) = tail.message().await {
                return status;
            }
        }
    };
    assert_eq!(reason(&timeout(PATIENCE, ended).await.unwrap()), "DRAINING");
    timeout(PATIENCE, stopped).await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_emit_in_flight_is_answered_or_can_be_sent_again() {
    let served = served().await;
    let ledger = served.ledger.clone();
    let emitters: Vec<_> = (0..8_u64)
        .map(|emitter| {
            let mut client = served.emits();
            tokio::spawn(async move {
                let mut receipts = Vec::new();
                for number in 0_u64.. {
                    let events = vec![commit(emitter * 1_000_000 + number)];
                    match client.emit(pb::EmitRequest { events }).await {
                        Ok(answer) => {
                            receipts.push(receipt(&answer.into_inner().results[0]).clone())
                        }
                        Err(_) => break,
                    }
                }
                receipts
            })
        })
        .collect();
    let mut heads = ledger.heads();
    timeout(PATIENCE, heads.wait_for(|heads| heads.durable > 100))
        .await
        .unwrap()
        .unwrap();
    timeout(PATIENCE, served.stop())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    for emitter in emitters {
        for receipt in timeout(PATIENCE, emitter).await.unwrap().unwrap() {
            let entry = ledger
                .entry(&waybill_ledger::Key::Position(receipt.position))
                .await
                .unwrap();
            assert_eq!(*entry.record.id, *receipt.event.unwrap().id);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_does_not_end_is_cut_off() {
    let served = served_with(|settings| settings.drain_max = Duration::from_millis(300)).await;
    // Half a request: it can never be answered.
    let mut half = tokio::net::TcpStream::connect(served.address)
        .await
        .unwrap();
    let head = "POST /waybill.v1.EmitService/Emit HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                content-length: 10\r\n\r\n{";
    tokio::io::AsyncWriteExt::write_all(&mut half, head.as_bytes())
        .await
        .unwrap();
    // It is being read when another call on another connection has been answered after it.
    assert_eq!(served.get("/livez").await.code, 200);
    let started = Instant::now();
    timeout(PATIENCE, served.stop())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(started.elapsed() < Duration::from_secs(10));
}
