//! Tails over broken connections.
use std::time::Duration;

use waybill_client::{
    Client, Error,
    ask::{Start, Tail, Tailed},
    pb::{self, EventFilter},
};
use waybill_proto::raw::{RecordedEvent, TailMessage};

use crate::fake::Fake;

const LONG: Duration = Duration::from_secs(30);

fn at(position: u64) -> TailMessage {
    TailMessage::Event(RecordedEvent {
        position,
        ..RecordedEvent::default()
    })
}

fn caught_up(position: u64) -> TailMessage {
    TailMessage::CaughtUp(pb::CaughtUp { position })
}

fn heartbeat(position: u64) -> TailMessage {
    TailMessage::Heartbeat(pb::Heartbeat {
        position,
        record_time: None,
    })
}

fn tail(client: &Client, start: Start) -> Tail {
    client.reader().tail(start, EventFilter::default(), LONG)
}

/// Positions of the next events, and of nothing else.
async fn events(tail: &mut Tail, count: usize) -> Vec<u64> {
    let mut positions = Vec::new();
    while positions.len() < count {
        if let Some(Tailed::Event(event)) = tail.next().await.unwrap() {
            positions.push(event.position);
        }
    }
    positions
}

#[tokio::test]
async fn goes_on_where_it_was_and_gives_nothing_twice() {
    let (fake, client) = Fake::start([]).await;
    fake.plan_tails([
        vec![at(3), at(4)],
        vec![],
        // A ledger that begins earlier than it was asked to.
        vec![at(4), at(5), caught_up(5)],
        vec![heartbeat(9)],
        vec![at(10)],
    ]);
    let mut tail = tail(&client, Start::At(3));
    assert_eq!(events(&mut tail, 4).await, [3, 4, 5, 10]);
    assert_eq!(fake.tails_from(), [3, 5, 5, 6, 10]);
    assert_eq!(tail.position(), Some(11));
}

#[tokio::test]
async fn says_when_it_has_caught_up() {
    let (fake, client) = Fake::start([]).await;
    fake.plan_tails([vec![at(1), caught_up(1), heartbeat(1)]]);
    let mut tail = tail(&client, Start::At(0));
    assert!(matches!(tail.next().await.unwrap(), Some(Tailed::Event(_))));
    assert_eq!(tail.next().await.unwrap(), Some(Tailed::CaughtUp(1)));
    assert_eq!(tail.next().await.unwrap(), Some(Tailed::Heartbeat(1)));
}

#[tokio::test]
async fn from_the_head_misses_nothing_that_comes_while_the_connection_is_down() {
    let (fake, client) = Fake::start([]).await;
    fake.plan_tails([vec![], vec![at(41), at(42)]]);
    let mut tail = tail(&client, Start::Head);
    assert_eq!(tail.position(), None);
    assert_eq!(events(&mut tail, 2).await, [41, 42]);
    assert_eq!(fake.tails_from(), [41, 41]);
}

#[tokio::test]
async fn a_ledger_that_stays_away_is_said_and_can_be_asked_again() {
    let (fake, client) = Fake::start([]).await;
    let mut tail = client.reader().tail(
        Start::At(1),
        EventFilter::default(),
        Duration::from_millis(50),
    );
    assert!(matches!(
        tail.next().await,
        Err(Error::Unavailable { tries: 1.., .. })
    ));
    fake.plan_tails([vec![at(1)]]);
    assert_eq!(events(&mut tail, 1).await, [1]);
}
