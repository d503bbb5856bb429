//! Messages that are published, read in order, found, and acknowledged.
use futures_util::{StreamExt, stream::iter};
use serde_json::Value;
use waybill_fixture::nats::Options;
use waybill_ledger::stream::{Acknowledged, Broker, BrokerFault, Outgoing};

use crate::kit::{SUBJECT, each, outgoing, publish, read, read_until, sequences, stream};

#[test]
fn ten_thousand_messages_come_in_order_and_their_acknowledgement_is_seen() {
    const MANY: u64 = 10_000;
    each(Options::default(), async |server| {
        let stream = stream(&server).await;
        let published = iter(0..MANY).map(async |n| publish(&stream, &n.to_string()).await);
        let published: Vec<u64> = published.buffered(500).collect().await;
        assert_eq!(published.iter().max(), Some(&MANY));

        let mut feed = stream.feed(0).await.unwrap();
        let mut messages = Vec::new();
        let mut largest = 0;
        while (messages.len() as u64) < MANY {
            let batch = feed.next().await.unwrap();
            largest = largest.max(batch.len());
            messages.extend(batch);
        }
        assert_eq!(sequences(&messages), (1..=MANY).collect::<Vec<_>>());
        assert!(
            (2..=1024).contains(&largest),
            "a crowd comes in batches, of {largest}"
        );
        assert!(messages.windows(2).all(|it| it[0].time <= it[1].time));
        feed.acknowledge(MANY).await.unwrap();

        // A lone message comes alone, and is the one that is stored.
        let last = publish(&stream, "last").await;
        let batch = feed.next().await.unwrap();
        assert_eq!(stream.message(last).await.unwrap().as_ref(), batch.first());
        assert_eq!((batch.len(), batch[0].sequence), (1, MANY + 1));
        assert_eq!(
            (batch[0].subject.as_str(), &batch[0].payload[..]),
            (SUBJECT, &b"last"[..])
        );
        assert_eq!(batch[0].headers, read(&[("Content-Type", "text/plain")]));

        let client = async_nats::connect(server.url()).await.unwrap();
        let subject = "$JS.API.CONSUMER.INFO.WAYBILL_EVENTS.ledger-1";
        let answer = client.request(subject, "".into()).await.unwrap();
        let info: Value = serde_json::from_slice(&answer.payload).unwrap();
        assert_eq!(info["ack_floor"]["stream_seq"], MANY, "{info}");

        // A feed begins where it is told to, whatever was acknowledged.
        let (again, breaks) = read_until(&stream, 9_000, MANY + 1).await;
        assert_eq!((again.len(), again[0].sequence, breaks), (1_001, 9_001, 0));
    });
}

#[test]
fn large_and_empty_messages_and_thousands_of_headers_come_whole() {
    each(Options::default(), async |server| {
        let stream = stream(&server).await;
        let largest = "x".repeat((1 << 20) - 1_000);
        for _ in 0..12 {
            publish(&stream, &largest).await;
        }
        let flood: Vec<_> = (0..2_500)
            .map(|n| (format!("N-{n:05}"), "some value".to_owned()))
            .collect();
        let many = Outgoing {
            headers: flood.clone(),
            ..outgoing("")
        };
        stream.publish(many).await.unwrap();
        let bare = Outgoing {
            headers: Vec::new(),
            ..outgoing("")
        };
        stream.publish(bare).await.unwrap();
        let (messages, breaks) = read_until(&stream, 0, 14).await;
        assert_eq!((sequences(&messages), breaks), ((1..=14).collect(), 0));
        assert_eq!(messages[11].payload.len(), largest.len());
        assert_eq!(
            messages[12].headers,
            waybill_ledger::stream::Headers::Read(flood)
        );
        assert_eq!(
            (messages[13].payload.len(), &messages[13].headers),
            (0, &read(&[]))
        );
        for message in &messages {
            let stored = stream.message(message.sequence).await.unwrap();
            assert!(
                stored.as_ref() == Some(message),
                "{} differs by sequence",
                message.sequence
            );
        }
        let refused = stream
            .publish(outgoing(&"x".repeat(2 << 20)))
            .await
            .unwrap_err();
        assert!(matches!(refused, BrokerFault::Refused(_)), "{refused}");
    });
}

#[test]
fn state_and_single_messages_are_found() {
    each(Options::default(), async |server| {
        let stream = stream(&server).await;
        let state = async || {
            let state = stream.state().await.unwrap();
            (state.name, state.first_sequence, state.last_sequence)
        };
        assert_eq!(state().await, ("WAYBILL_EVENTS".to_owned(), 1, 0));
        assert_eq!(stream.message(0).await.unwrap(), None);
        assert_eq!(stream.message(1).await.unwrap(), None);
        for n in 0..3 {
            publish(&stream, &n.to_string()).await;
        }
        let gate = Outgoing {
            subject: "waybill.gate.v1._.l.ledger.epoch_opened._".to_owned(),
            ..outgoing("epoch")
        };
        stream.publish(gate).await.unwrap();
        publish(&stream, "after").await;
        assert_eq!(state().await, ("WAYBILL_EVENTS".to_owned(), 1, 5));
        let find = async |filter: &str, from| {
            let found = stream.first_match(filter, from).await.unwrap();
            found.map(|it| it.sequence)
        };
        assert_eq!(
            find("waybill.gate.v1.*.*.ledger.epoch_opened.>", 0).await,
            Some(4)
        );
        assert_eq!(find("waybill.gate.v1.>", 4).await, Some(4));
        assert_eq!(find("waybill.gate.v1.>", 5).await, None);
        assert_eq!(find("waybill.events.v1.>", 4).await, Some(5));
        assert_eq!(find(SUBJECT, 0).await, Some(1));
        assert_eq!(stream.message(6).await.unwrap(), None);
    });
}

#[test]
fn a_repeated_message_id_is_a_duplicate_and_a_wrong_expectation_is_refused() {
    each(Options::default(), async |server| {
        let stream = stream(&server).await;
        let with = |name: &str, value: &str| Outgoing {
            headers: vec![(name.to_owned(), value.to_owned())],
            ..outgoing("x")
        };
        let first = stream.publish(with("Nats-Msg-Id", "one")).await.unwrap();
        assert_eq!(
            first,
            Acknowledged {
                sequence: 1,
                duplicate: false
            }
        );
        let again = stream.publish(with("Nats-Msg-Id", "one")).await.unwrap();
        assert_eq!(
            again,
            Acknowledged {
                sequence: 1,
                duplicate: true
            }
        );
        let refused = stream
            .publish(with("Nats-Expected-Last-Sequence", "7"))
            .await
            .unwrap_err();
        assert!(
            matches!(&refused, BrokerFault::Refused(why) if why.contains("10071")),
            "{refused}"
        );
        let broken = stream.publish(with("two words", "7")).await.unwrap_err();
        assert!(
            matches!(&broken, BrokerFault::Refused(why) if why.contains("two words")),
            "{broken}"
        );
        let elsewhere = Outgoing {
            subject: "nobody.listens".to_owned(),
            ..outgoing("x")
        };
        let away = stream.publish(elsewhere).await.unwrap_err();
        assert!(
            matches!(&away, BrokerFault::Away(why) if why.contains("nobody answers")),
            "{away}"
        );
    });
}
