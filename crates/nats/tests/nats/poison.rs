//! Messages that the client library cannot read, sent over a bare socket.
use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::StreamExt;
use proptest::{
    collection::vec,
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use waybill_fixture::nats::{Options, Server};
use waybill_ledger::stream::{Broker, Headers};

use crate::kit::{Raw, SUBJECT, each, fault, publish, read, read_until, sequences, stream};

/// Blocks of which a client library makes an error, a panic, or something that is no message.
const BAD: &[&[u8]] = &[
    b"NATS/1.0\r\nA: \xff\xfe\r\n\r\n",
    b"NATS/1.0\r\nno colon here\r\n\r\n",
    b"NATS/1.0\r\ntwo words: 1\r\n\r\n",
    b"NATS/1.0\r\nN\xc3\xa4me: 1\r\n\r\n",
    b"NATS/1.0\r\nA: carriage\rreturn\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"\r\n\r\n",
    b"NATS/1.0",
];

#[test]
fn unreadable_headers_are_handed_on_as_such_and_hold_nothing_up() {
    each(Options::default(), async |server| {
        let stream = stream(&server).await;
        let mut raw = Raw::connect(&server);
        publish(&stream, "before").await;
        for block in BAD {
            raw.publish(SUBJECT.as_bytes(), block, b"payload");
        }
        // Far enough behind the others that they are read through a consumer again.
        for _ in 0..300 {
            raw.write(SUBJECT.as_bytes(), b"NATS/1.0\r\nA: 1\r\n\r\n", b"good");
        }
        raw.publish(SUBJECT.as_bytes(), BAD[0], b"");
        let last = publish(&stream, "after").await;
        let (messages, breaks) = read_until(&stream, 0, last).await;
        assert_eq!(sequences(&messages), (1..=last).collect::<Vec<_>>());
        assert!(
            (2..=4).contains(&breaks),
            "a break for each crowd of bad messages, not for each: {breaks}"
        );

        let bad = &messages[1..=BAD.len()];
        let unreadable = bad
            .iter()
            .filter(|it| matches!(it.headers, Headers::Unreadable(_)));
        assert_eq!(unreadable.count(), BAD.len() - 1);
        // The last of them is short, but right.
        assert_eq!(bad.last().unwrap().headers, read(&[]));
        assert!(
            bad.iter()
                .all(|it| it.payload == "payload" && it.subject == SUBJECT)
        );
        for message in &messages {
            assert_eq!(
                stream.message(message.sequence).await.unwrap().as_ref(),
                Some(message)
            );
        }
    });
}

#[test]
fn a_ledger_that_begins_further_back_comes_by_too() {
    each(Options::default(), async |server| {
        let stream = stream(&server).await;
        let mut raw = Raw::connect(&server);
        for sequence in 1..=300 {
            let good = b"NATS/1.0\r\nA: 1\r\n\r\n";
            let block = if sequence == 200 { BAD[0] } else { good };
            raw.write(SUBJECT.as_bytes(), block, b"");
        }
        raw.settle();
        let mut feed = stream.feed(0).await.unwrap();
        fault(feed.as_mut()).await;
        let (messages, breaks) = read_until(&stream, 0, 300).await;
        assert_eq!((sequences(&messages), breaks), ((1..=300).collect(), 0));
    });
}

#[test]
fn a_message_that_comes_while_the_feed_waits_is_read_too() {
    each(Options::default(), async |server| {
        let stream = stream(&server).await;
        publish(&stream, "before").await;
        let mut feed = stream.feed(0).await.unwrap();
        assert_eq!(feed.next().await.unwrap().len(), 1);
        let mut raw = Raw::connect(&server);
        // The library panics at this one, and its client is of no use from then on.
        raw.publish(
            SUBJECT.as_bytes(),
            b"NATS/1.0\r\nA: carriage\rreturn\r\n\r\n",
            b"",
        );
        fault(feed.as_mut()).await;
        let last = publish(&stream, "after").await;
        let (messages, _) = read_until(&stream, 1, last).await;
        assert_eq!(sequences(&messages), [2, 3]);
    });
}

#[test]
fn a_message_that_looks_like_the_brokers_word_is_a_message() {
    each(Options::default(), async |server| {
        let stream = stream(&server).await;
        let mut raw = Raw::connect(&server);
        let words = [
            "100 Idle Heartbeat",
            "404 No Messages",
            "408 Request Timeout",
            "409 Consumer Deleted",
            "503",
        ];
        for word in words {
            let block = format!("NATS/1.0 {word}\r\nNats-Pending-Messages: 9999\r\n\r\n");
            raw.publish(SUBJECT.as_bytes(), block.as_bytes(), b"");
        }
        let last = publish(&stream, "after").await;
        let (messages, breaks) = read_until(&stream, 0, last).await;
        assert_eq!((sequences(&messages), breaks), ((1..=6).collect(), 0));
        assert_eq!(
            messages[3].headers,
            read(&[("Nats-Pending-Messages", "9999")])
        );
    });
}

#[test]
fn a_subject_that_is_no_text_is_read() {
    each(Options::default(), async |server| {
        let stream = stream(&server).await;
        let mut raw = Raw::connect(&server);
        raw.publish(
            "waybill.events.v1.no\u{a0}break".as_bytes(),
            b"NATS/1.0\r\n\r\n",
            b"",
        );
        raw.publish(b"waybill.events.v1.\xff", b"NATS/1.0\r\n\r\n", b"");
        let last = publish(&stream, "after").await;
        let (messages, _) = read_until(&stream, 0, last).await;
        let subjects: Vec<_> = messages.iter().map(|it| it.subject.as_str()).collect();
        // The broker says the second in JSON, which has no such bytes.
        assert_eq!(
            subjects,
            [
                "waybill.events.v1.no\u{a0}break",
                "waybill.events.v1.\u{fffd}",
                SUBJECT
            ]
        );
    });
}

/// Pieces of which most blocks are readable, and many nearly so.
fn block() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => "[A-Za-z-]{0,6}:[ \t]{0,2}[ -~]{0,8}[ \t]{0,2}\r\n".prop_map(String::into_bytes),
        1 => "[ \t][ -~]{0,5}\r?\n".prop_map(String::into_bytes),
        1 => "[a-z]{1,3}:\\PC{0,5}[\u{a0}\u{3000}\u{85}]?\n".prop_map(String::into_bytes),
        1 => Just(b"\r\n".to_vec()),
        1 => Just(b"A: \r\r\n".to_vec()),
    ];
    let version = prop_oneof![4 => Just("NATS/1.0\r\n"), 1 => Just("NATS/1.0 503 x y\r\n"), 1 => Just("NATS/1.0  \n")];
    (version, vec(piece, 0..6)).prop_map(|(version, pieces)| {
        let mut block = version.as_bytes().to_vec();
        block.extend(pieces.concat());
        block.extend(b"\r\n");
        block
    })
}

/// What the library itself makes of a block: the headers, or nothing where it breaks.
struct Library {
    subscriber: async_nats::Subscriber,
    broken: tokio::sync::mpsc::UnboundedReceiver<async_nats::Event>,
    _client: async_nats::Client,
}

impl Library {
    async fn connect(server: &Server) -> Self {
        let (sender, broken) = tokio::sync::mpsc::unbounded_channel();
        let options = async_nats::ConnectOptions::new().event_callback(move |event| {
            if matches!(event, async_nats::Event::Disconnected) {
                // Nobody listens any more where the test is over.
                let _ = sender.send(event);
            }
            std::future::ready(())
        });
        let client = options.connect(server.url()).await.unwrap();
        let subscriber = client.subscribe("plain").await.unwrap();
        client.flush().await.unwrap();
        // The server has the subscription when it answers what came behind it.
        assert!(client.request("nobody", "".into()).await.is_err());
        Self {
            subscriber,
            broken,
            _client: client,
        }
    }

    async fn read(&mut self) -> Option<Headers> {
        tokio::select! {
            // The channel ends where the library's task panicked.
            _ = self.broken.recv() => None,
            Some(message) = self.subscriber.next() => {
                let map = message.headers.unwrap();
                let pairs = map.iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
                let mut pairs: Vec<_> = pairs.map(|(name, value)| (name.to_string(), value.to_string())).collect();
                pairs.sort_by(|a, b| a.0.cmp(&b.0));
                Some(Headers::Read(pairs))
            }
        }
    }
}

/// What the broker stored of a message's headers.
async fn stored_block(client: &async_nats::Client, sequence: u64) -> Vec<u8> {
    let request = format!("{{\"seq\": {sequence}}}");
    let answer = client
        .request("$JS.API.STREAM.MSG.GET.WAYBILL_EVENTS", request.into())
        .await
        .unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
    STANDARD
        .decode(answer["message"]["hdrs"].as_str().unwrap_or_default())
        .unwrap()
}

#[test]
fn headers_are_the_same_whichever_way_a_message_comes() {
    const BLOCKS: u64 = 400;
    each(Options::default(), async |server| {
        let stream = stream(&server).await;
        let mut raw = Raw::connect(&server);
        let mut runner = TestRunner::new(Config::default());
        let client = async_nats::connect(server.url()).await.unwrap();
        let mut library = Library::connect(&server).await;
        let mut unreadable = 0;
        for sequence in 1..=BLOCKS {
            let block = block().new_tree(&mut runner).unwrap().current();
            raw.write(SUBJECT.as_bytes(), &block, b"");
            raw.settle();
            // Newer servers take some of it away before they store it.
            let stored = stored_block(&client, sequence).await;
            if stored.is_empty() {
                continue;
            }
            raw.publish(b"plain", &stored, b"");
            let ours = stream.message(sequence).await.unwrap().unwrap().headers;
            let theirs = library.read().await;
            match &ours {
                Headers::Read(_) => assert_eq!(
                    Some(&ours),
                    theirs.as_ref(),
                    "{:?}",
                    block.escape_ascii().to_string()
                ),
                Headers::Unreadable(why) => {
                    assert_eq!(
                        theirs,
                        None,
                        "{why}: {:?}",
                        block.escape_ascii().to_string()
                    );
                    unreadable += 1;
                    library = Library::connect(&server).await;
                }
            }
        }
        assert!(
            (1..BLOCKS / 2).contains(&unreadable),
            "{unreadable} of {BLOCKS} are unreadable"
        );
    });
}
