//! Retries, the outbox and the stream.
use std::{
    fs::OpenOptions,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt};
use waybill_client::{
    Build, Client, Connect, Error, Event, Id, Token,
    outbox::{DrainError, Drained, Outbox},
};

use crate::fake::{Fake, REFUSED, Trouble};

const LONG: Duration = Duration::from_secs(30);

fn away() -> Trouble {
    Trouble::Say(Status::unavailable("away"))
}

fn event(client: &Client, id: &str) -> Event {
    client
        .emitter("//ci")
        .event(Build::new(id).queued().id(&Id::existing(id)))
        .unwrap()
}

fn events(client: &Client, count: usize) -> Vec<Event> {
    (0..count)
        .map(|number| event(client, &number.to_string()))
        .collect()
}

fn bytes(events: &[Event]) -> Vec<Bytes> {
    events.iter().map(|event| event.bytes().clone()).collect()
}

#[tokio::test]
async fn every_try_sends_the_same_bytes_until_there_is_a_receipt() {
    let (fake, client) = Fake::start([away(), Trouble::BreakOff, Trouble::Hang]).await;
    let event = event(&client, "a");
    let receipt = client.emitter("//ci").emit(&event, LONG).await.unwrap();
    // The second try was recorded, although nobody heard of it.
    assert_eq!((receipt.position, receipt.duplicate), (1, true));
    assert_eq!(fake.requests(), vec![bytes(&[event]); 4]);
}

#[tokio::test]
async fn a_busy_ledger_is_left_alone_for_as_long_as_it_asks() {
    let delay = Duration::from_millis(120);
    let (fake, client) = Fake::start([Trouble::Busy(delay)]).await;
    let started = Instant::now();
    client
        .emitter("//ci")
        .emit(&event(&client, "a"), LONG)
        .await
        .unwrap();
    assert!(started.elapsed() >= delay);
    assert_eq!(fake.requests().len(), 2);
}

#[tokio::test]
async fn a_refusal_is_final_and_a_failure_is_not_repeated() {
    let (fake, client) = Fake::start([]).await;
    let refused = client
        .emitter("//ci")
        .emit(&event(&client, REFUSED), LONG)
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, Error::Refused(refusal) if refusal.code == "MALFORMED"),
        "{refused}"
    );
    assert_eq!(fake.requests().len(), 1);

    let (fake, client) = Fake::start([Trouble::Say(Status::data_loss("a disk"))]).await;
    let failed = client
        .emitter("//ci")
        .emit(&event(&client, "a"), LONG)
        .await
        .unwrap_err();
    assert!(
        matches!(&failed, Error::Failed(why) if why.contains("a disk")),
        "{failed}"
    );
    assert_eq!(fake.requests().len(), 1);
}

#[tokio::test]
async fn nobody_there_is_said_in_time() {
    let client = Client::connect("http://127.0.0.1:9").unwrap();
    let within = Duration::from_millis(300);
    let started = Instant::now();
    let error = client
        .emitter("//ci")
        .emit(&event(&client, "a"), within)
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Unavailable { tries: 1.., .. }),
        "{error}"
    );
    assert!(started.elapsed() < LONG, "gives up");
}

#[tokio::test]
async fn many_go_in_batches_with_a_result_each() {
    let (fake, client) = Fake::start([]).await;
    let mut events = events(&client, 2_500);
    events[1_700] = event(&client, REFUSED);
    let results = client
        .emitter("//ci")
        .emit_all(&events, LONG)
        .await
        .unwrap();
    assert!(
        results
            .iter()
            .enumerate()
            .all(|(at, result)| result.is_err() == (at == 1_700))
    );
    let sizes: Vec<_> = fake.requests().iter().map(Vec::len).collect();
    assert_eq!(sizes, [1_000, 1_000, 500]);
}

#[tokio::test]
async fn an_outbox_is_drained_in_order_and_refused_events_hold_up_nothing() {
    let (fake, client) = Fake::start([away(), Trouble::BreakOff]).await;
    let directory = tempfile::TempDir::new().unwrap();
    let outbox = Outbox::open(&directory).unwrap();
    let mut events = events(&client, 20);
    events[7] = event(&client, REFUSED);
    events.iter().for_each(|event| outbox.put(event).unwrap());
    let drained = outbox.drain(&client, LONG).await.unwrap();
    assert_eq!(
        drained,
        Drained {
            recorded: 19,
            duplicates: 19,
            refused: 1
        }
    );
    let refused = outbox.refused().unwrap();
    assert_eq!(
        (refused[0].0.code.as_str(), &refused[0].1),
        ("MALFORMED", events.remove(7).bytes())
    );
    assert_eq!(fake.events(), bytes(&events));
    assert_eq!(outbox.waiting(), 0);
}

#[tokio::test]
async fn what_could_not_be_sent_is_sent_by_whoever_opens_the_outbox_next() {
    let directory = tempfile::TempDir::new().unwrap();
    let nobody = Client::connect("http://127.0.0.1:9").unwrap();
    let events = events(&nobody, 5);
    let outbox = Outbox::open(&directory).unwrap();
    events.iter().for_each(|event| outbox.put(event).unwrap());
    let error = outbox
        .drain(&nobody, Duration::from_millis(100))
        .await
        .unwrap_err();
    assert!(matches!(error, DrainError::Ledger { .. }));
    assert_eq!(outbox.waiting(), 5);
    drop(outbox);

    let (fake, client) = Fake::start([]).await;
    let outbox = Outbox::open(&directory).unwrap();
    assert_eq!(outbox.drain(&client, LONG).await.unwrap().recorded, 5);
    assert_eq!(fake.events(), bytes(&events));
    assert_eq!(
        outbox.drain(&client, LONG).await.unwrap(),
        Drained::default()
    );
}

#[tokio::test]
async fn a_batch_that_is_refused_as_a_whole_is_taken_apart() {
    let ours = |reason: &str| {
        let details = ErrorDetails::with_error_info(reason, "waybill.dev", []);
        Trouble::Say(Status::with_error_details(
            tonic::Code::InvalidArgument,
            "no",
            details,
        ))
    };
    // The batch of three, then its first event alone; then the two that are left.
    let (fake, client) = Fake::start([ours("TOO_LARGE"), ours("UNDECODABLE")]).await;
    let directory = tempfile::TempDir::new().unwrap();
    let outbox = Outbox::open(&directory).unwrap();
    let events = events(&client, 3);
    events.iter().for_each(|event| outbox.put(event).unwrap());
    let drained = outbox.drain(&client, LONG).await.unwrap();
    assert_eq!(
        drained,
        Drained {
            recorded: 2,
            duplicates: 0,
            refused: 1
        }
    );
    assert_eq!(outbox.refused().unwrap()[0].0.code, "UNDECODABLE");
    assert_eq!(fake.events(), bytes(&events[1..]));
}

fn not_known() -> Trouble {
    Trouble::Say(Status::unauthenticated("the token is not known"))
}

fn not_allowed() -> Trouble {
    let mut details = ErrorDetails::new();
    details.set_error_info("NOT_ALLOWED", "waybill.dev", []);
    let status = Status::with_error_details(tonic::Code::PermissionDenied, "a reader", details);
    Trouble::Say(status)
}

#[tokio::test]
async fn an_outbox_keeps_everything_when_its_client_is_turned_away_and_does_not_knock_again() {
    for trouble in [not_known(), not_allowed()] {
        let (fake, client) = Fake::start([trouble]).await;
        let directory = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(&directory).unwrap();
        events(&client, 3)
            .iter()
            .for_each(|event| outbox.put(event).unwrap());
        for _ in 0..3 {
            let kept = outbox.drain(&client, LONG).await.unwrap_err();
            let turned_away = |source: &Error| matches!(source, Error::NotAllowed { .. });
            assert!(
                matches!(&kept, DrainError::Ledger { source, .. } if turned_away(source)),
                "{kept}"
            );
        }
        assert_eq!((fake.requests().len(), outbox.waiting()), (1, 3));
        assert_eq!(outbox.refused().unwrap(), []);
        // A client of its own, as after a restart, is another caller.
        let other = Client::connect(&fake.url()).unwrap();
        assert_eq!(outbox.drain(&other, LONG).await.unwrap().recorded, 3);
    }
}

#[tokio::test]
async fn a_renewed_token_is_found_in_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    let write = |token: &str| {
        let file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&path);
        file.unwrap().write_all(token.as_bytes()).unwrap();
    };
    write("token-number-one-of-two");
    let (fake, _) = Fake::start([not_known(), not_known(), not_known()]).await;
    let connect = Connect::to(fake.url()).with_token(Token::from_file(&path).unwrap());
    let client = connect.client().unwrap();
    let emitter = client.emitter("//ci");
    let same = emitter.emit(&event(&client, "a"), LONG).await.unwrap_err();
    assert!(matches!(same, Error::NotAllowed { .. }), "{same}");
    assert_eq!(fake.shown().len(), 1, "the same token is not shown twice");
    write("token-number-two-of-two");
    let receipt = emitter.emit(&event(&client, "a"), LONG).await;
    assert!(
        matches!(receipt, Err(Error::NotAllowed { .. })),
        "both were turned away"
    );
    let receipt = emitter.emit(&event(&client, "a"), LONG).await.unwrap();
    assert_eq!(receipt.position, 1);
    let shown = ["one", "one", "two", "two"];
    let shown = shown.map(|number| Some(format!("Bearer token-number-{number}-of-two")));
    assert_eq!(fake.shown(), shown);
    assert!(!format!("{connect:?} {client:?}").contains("number"));
}

#[tokio::test]
async fn a_stream_keeps_order_and_loses_nothing_over_broken_connections() {
    let trouble = [Trouble::BreakOff, away(), Trouble::Hang, Trouble::BreakOff];
    let (fake, client) = Fake::start(trouble).await;
    let events = events(&client, 3_000);
    let stream = client.emitter("//ci").stream(64, LONG);
    let mut sent = Vec::new();
    for event in &events {
        sent.push(stream.send(event).await.unwrap());
    }
    stream.finish().await;
    for (at, sent) in sent.into_iter().enumerate() {
        assert_eq!(sent.await.unwrap().position, u64::try_from(at + 1).unwrap());
    }
    assert_eq!(fake.events(), bytes(&events));
    let most = fake.requests().iter().map(Vec::len).max();
    assert!(most <= Some(64), "{most:?} events at once");
}

#[tokio::test]
async fn a_stream_tells_what_was_refused_and_what_was_given_up() {
    let (_, client) = Fake::start([]).await;
    let stream = client.emitter("//ci").stream(8, LONG);
    let refused = stream.send(&event(&client, REFUSED)).await.unwrap();
    let fine = stream.send(&event(&client, "fine")).await.unwrap();
    assert!(matches!(refused.await, Err(Error::Refused(_))));
    assert_eq!(fine.await.unwrap().position, 1);

    let nobody = Client::connect("http://127.0.0.1:9").unwrap();
    let stream = nobody.emitter("//ci").stream(8, Duration::from_millis(100));
    let lost = stream.send(&event(&client, "a")).await.unwrap();
    assert!(matches!(lost.await, Err(Error::Unavailable { .. })));
    let dropped = stream.send(&event(&client, "b")).await.unwrap();
    drop(stream);
    assert!(matches!(dropped.await, Err(Error::Unavailable { .. })));
}
