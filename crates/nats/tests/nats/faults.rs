//! The broker goes away, forgets, and says no.
use std::time::{Duration, Instant};

use waybill_fixture::nats::{Options, Server};
use waybill_ledger::stream::{Broker, BrokerFault};
use waybill_nats::{Error, connect};

use crate::kit::{each, fault, outgoing, publish, read_until, sequences, settings, stream};

#[test]
fn a_feed_goes_on_behind_a_server_that_was_killed() {
    each(Options::default(), async |mut server| {
        let stream = stream(&server).await;
        for n in 0..200 {
            publish(&stream, &n.to_string()).await;
        }
        let mut feed = stream.feed(0).await.unwrap();
        let read: usize = feed.next().await.unwrap().len();
        server.kill();
        let ended = fault(feed.as_mut()).await;
        assert!(matches!(ended, BrokerFault::Away(_)), "{ended}");
        let refused = stream.state().await.unwrap_err();
        assert!(matches!(refused, BrokerFault::Away(_)), "{refused}");
        let lost = stream.publish(outgoing("lost")).await.unwrap_err();
        assert!(matches!(lost, BrokerFault::Away(_)), "{lost}");
        server.restart();
        let (messages, _) = read_until(&stream, read as u64, 200).await;
        assert_eq!(
            sequences(&messages),
            (read as u64 + 1..=200).collect::<Vec<_>>()
        );
        publish(&stream, "after").await;
    });
}

#[test]
fn a_server_that_stands_still_is_away_within_seconds() {
    each(Options::default(), async |server| {
        let stream = stream(&server).await;
        publish(&stream, "one").await;
        let mut feed = stream.feed(0).await.unwrap();
        feed.next().await.unwrap();
        let begun = Instant::now();
        server.signal("STOP");
        let ended = fault(feed.as_mut()).await;
        assert!(
            matches!(&ended, BrokerFault::Away(why) if why.contains("silent") || why.contains("lost")),
            "{ended}"
        );
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "{:?}",
            begun.elapsed()
        );
        server.signal("CONT");
        publish(&stream, "two").await;
        assert_eq!(sequences(&read_until(&stream, 1, 2).await.0), [2]);
    });
}

#[test]
fn a_consumer_that_is_deleted_is_made_again() {
    each(Options::default(), async |server| {
        let stream = stream(&server).await;
        publish(&stream, "one").await;
        let mut feed = stream.feed(0).await.unwrap();
        feed.next().await.unwrap();
        let client = async_nats::connect(server.url()).await.unwrap();
        let subject = "$JS.API.CONSUMER.DELETE.WAYBILL_EVENTS.ledger-1";
        client.request(subject, "".into()).await.unwrap();
        let ended = fault(feed.as_mut()).await;
        assert!(matches!(ended, BrokerFault::Away(_)), "{ended}");
        publish(&stream, "two").await;
        assert_eq!(sequences(&read_until(&stream, 1, 2).await.0), [2]);
    });
}

#[test]
fn a_hole_and_a_purge_are_read_as_what_is_there() {
    each(Options::default(), async |server| {
        let client = async_nats::connect(server.url()).await.unwrap();
        let api = async |verb: &str, body: &str| {
            let answer = client
                .request(
                    format!("$JS.API.{verb}.WAYBILL_EVENTS"),
                    body.to_owned().into(),
                )
                .await
                .unwrap();
            assert!(
                !String::from_utf8_lossy(&answer.payload).contains("error"),
                "{answer:?}"
            );
        };
        let config = r#"{"name":"WAYBILL_EVENTS","subjects":["waybill.events.v1.>","waybill.gate.v1.>"],"discard":"new"}"#;
        api("STREAM.CREATE", config).await;
        let allowed = waybill_nats::Settings {
            allow_purge: true,
            ..settings(&server)
        };
        let stream = waybill_nats::connect(&allowed).await.unwrap();
        for n in 0..10 {
            publish(&stream, &n.to_string()).await;
        }
        api("STREAM.MSG.DELETE", r#"{"seq":5}"#).await;
        let (messages, _) = read_until(&stream, 0, 10).await;
        assert_eq!(sequences(&messages), [1, 2, 3, 4, 6, 7, 8, 9, 10]);
        // Where a feed broke off, the first messages are read by sequence: with the same hole.
        let mut feed = stream.feed(4).await.unwrap();
        feed.next().await.unwrap();
        api("STREAM.PURGE", r#"{"keep":2}"#).await;
        assert_eq!(sequences(&read_until(&stream, 0, 10).await.0), [9, 10]);
        api("STREAM.PURGE", "").await;
        let state = stream.state().await.unwrap();
        assert_eq!((state.first_sequence, state.last_sequence), (11, 10));
        api("STREAM.DELETE", "").await;
        // A stream that is gone has forgotten everything: that is for the ledger to notice, and not to wait for.
        let gone = stream.state().await.unwrap();
        assert_eq!((gone.first_sequence, gone.last_sequence), (1, 0));
        assert_eq!(stream.message(10).await.unwrap(), None);
        assert_eq!(stream.first_match(">", 1).await.unwrap(), None);
        Broker::ensure(&stream).await.unwrap();
        assert_eq!(publish(&stream, "first").await, 1);
    });
}

#[test]
fn a_store_that_was_rolled_back_shows_its_old_end() {
    each(Options::default(), async |mut server| {
        let stream = stream(&server).await;
        publish(&stream, "kept").await;
        server.kill();
        let copy = server.copy_store();
        server.restart();
        publish(&stream, "lost").await;
        server.kill();
        server.restore(copy.path());
        server.restart();
        assert_eq!(stream.state().await.unwrap().last_sequence, 1);
        assert_eq!(stream.message(1).await.unwrap().unwrap().payload, "kept");
        // A feed behind the end waits; what is true of it is the ledger's to find.
        assert_eq!(publish(&stream, "other").await, 2);
    });
}

#[test]
fn a_broker_that_is_away_at_the_start_is_away() {
    each(Options::default(), async |mut server| {
        server.kill();
        let error = connect(&settings(&server)).await.unwrap_err();
        assert!(matches!(error, Error::Away(_)), "{error}");
        server.restart();
        connect(&settings(&server)).await.unwrap();
    });
}

fn with_user<'a>(config: &'a str) -> Options<'a> {
    Options {
        config,
        ..Options::default()
    }
}

fn password(server: &Server, directory: &tempfile::TempDir) -> waybill_nats::Settings {
    let mut settings = settings(server);
    let file = crate::security::secret(directory, "password", "wonderland");
    settings.credentials = waybill_nats::Credentials::Password("alice".to_owned(), file);
    settings
}

#[test]
fn rights_that_are_taken_away_are_told_and_come_back() {
    const ALICE: &str =
        "authorization { users: [{user: alice, password: wonderland}, {user: bob, password: b}] }";
    const NO_ALICE: &str = "authorization { users: [{user: bob, password: b}] }";
    each(with_user(ALICE), async |server| {
        let directory = tempfile::tempdir().unwrap();
        let stream = connect(&password(&server, &directory)).await.unwrap();
        publish(&stream, "one").await;
        let mut feed = stream.feed(0).await.unwrap();
        feed.next().await.unwrap();
        server.configure(with_user(NO_ALICE));
        server.reload();
        let ended = fault(feed.as_mut()).await;
        assert!(matches!(ended, BrokerFault::Away(_)), "{ended}");
        let why = stream.state().await.unwrap_err().to_string().to_lowercase();
        assert!(why.contains("authorization violation"), "{why}");
        let error = connect(&password(&server, &directory)).await.unwrap_err();
        assert!(matches!(error, Error::Refused(_)), "{error}");
        server.configure(with_user(ALICE));
        server.reload();
        publish(&stream, "two").await;
        assert_eq!(sequences(&read_until(&stream, 1, 2).await.0), [2]);
    });
}

#[test]
fn what_we_may_not_do_is_refused_with_the_servers_words() {
    const CONFIG: &str = "authorization { users: [{user: alice, password: wonderland, \
        permissions: { publish: { deny: \"waybill.gate.>\" } }}] }";
    each(with_user(CONFIG), async |server| {
        let directory = tempfile::tempdir().unwrap();
        let stream = connect(&password(&server, &directory)).await.unwrap();
        publish(&stream, "one").await;
        let mut gate = outgoing("two");
        gate.subject = "waybill.gate.v1._.a.b.c._".to_owned();
        let refused = stream.publish(gate).await.unwrap_err();
        let BrokerFault::Refused(why) = &refused else {
            panic!("{refused}")
        };
        assert!(
            why.to_lowercase().contains("permissions violation") && why.contains("waybill.gate.v1"),
            "{why}"
        );
    });
}
