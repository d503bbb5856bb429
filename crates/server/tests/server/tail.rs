//! TailEvents.
use tokio::time::timeout;
use tonic::{Code, Streaming};
use waybill_proto::pb::{self, tail_events_response::Message};

use crate::kit::{PATIENCE, Served, commit, reason, served, served_with};

async fn open(
    served: &Served,
    request: pb::TailEventsRequest,
) -> Streaming<pb::TailEventsResponse> {
    served
        .reads()
        .tail_events(request)
        .await
        .unwrap()
        .into_inner()
}

async fn next(tail: &mut Streaming<pb::TailEventsResponse>) -> Message {
    timeout(PATIENCE, tail.message())
        .await
        .unwrap()
        .unwrap()
        .unwrap()
        .message
        .unwrap()
}

fn of_commits() -> Option<pb::EventFilter> {
    Some(pb::EventFilter {
        kinds: vec!["commit".to_owned()],
        ..Default::default()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_catches_up_says_so_and_goes_on() {
    let served = served().await;
    served.emit((0..100).map(commit).collect()).await;
    let mut tail = open(
        &served,
        pb::TailEventsRequest {
            filter: of_commits(),
            ..Default::default()
        },
    )
    .await;
    let mut last = 0;
    for number in 0..100 {
        let Message::Event(event) = next(&mut tail).await else {
            panic!("an event is expected")
        };
        assert_eq!(event.event.unwrap().id, format!("commit-{number}"));
        assert!(event.position > last);
        last = event.position;
    }
    assert_eq!(
        next(&mut tail).await,
        Message::CaughtUp(pb::CaughtUp { position: last })
    );
    let receipts = served.emit(vec![commit(100)]).await;
    let Message::Event(event) = next(&mut tail).await else {
        panic!("an event is expected")
    };
    assert_eq!(event.position, receipts[0].position);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_tail_shows_that_it_lives() {
    let served = served().await;
    let receipts = served.emit(vec![commit(1)]).await;
    let interval = Some(prost_types::Duration {
        seconds: 1,
        nanos: 0,
    });
    let request = pb::TailEventsRequest {
        from_head: true,
        heartbeat_interval: interval,
        ..Default::default()
    };
    let mut tail = open(&served, request).await;
    loop {
        match next(&mut tail).await {
            Message::Event(event) => panic!("nothing is after the head: {event:?}"),
            Message::CaughtUp(_) => {}
            Message::Heartbeat(heartbeat) => {
                assert_eq!(heartbeat.position, receipts[0].position);
                assert_eq!(heartbeat.record_time, receipts[0].record_time);
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_with_an_end_ends() {
    let served = served().await;
    let receipts = served.emit((0..5).map(commit).collect()).await;
    let last_position = receipts[2].position;
    let filter = Some(pb::EventFilter {
        last_position,
        ..Default::default()
    });
    let request = pb::TailEventsRequest {
        first_position: receipts[0].position,
        filter,
        ..Default::default()
    };
    let mut tail = open(&served, request).await;
    let mut positions = Vec::new();
    while let Some(message) = timeout(PATIENCE, tail.message()).await.unwrap().unwrap() {
        if let Some(Message::Event(event)) = message.message {
            positions.push(event.position);
        }
    }
    assert_eq!(
        positions,
        (receipts[0].position..=last_position).collect::<Vec<_>>()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tails_are_limited_and_their_places_come_back() {
    let served = served_with(|settings| settings.limits.tails = 1).await;
    let first = open(&served, pb::TailEventsRequest::default()).await;
    let status = served
        .reads()
        .tail_events(pb::TailEventsRequest::default())
        .await
        .unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::ResourceExhausted, "BUSY")
    );
    drop(first);
    let again = async {
        while served
            .reads()
            .tail_events(pb::TailEventsRequest::default())
            .await
            .is_err()
        {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, again).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_cannot_start_in_two_places() {
    let served = served().await;
    let request = pb::TailEventsRequest {
        first_position: 3,
        from_head: true,
        ..Default::default()
    };
    let status = served.reads().tail_events(request).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::InvalidArgument, "CONTRADICTION")
    );
}
