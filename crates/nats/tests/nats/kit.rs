//! What every test needs: a server, a stream, a publisher that may send anything.
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

use waybill_fixture::nats::{Options, Server, binaries};
use waybill_ledger::stream::{Broker, BrokerFault, Feed, Headers, Message, Outgoing};
use waybill_nats::{Settings, Stream, connect};

pub(crate) const SUBJECT: &str = "waybill.events.v1._.a.deployment.finished._";

/// Runs a story with a fresh server of each version.
pub(crate) fn each<F: Future<Output = ()>>(options: Options<'_>, story: impl Fn(Server) -> F) {
    for binary in binaries() {
        println!("with {}", binary.display());
        let server = Server::start(&binary, options);
        runtime().block_on(story(server));
    }
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

pub(crate) fn settings(server: &Server) -> Settings {
    let mut settings = Settings::new(vec![server.url()], "ledger-1");
    settings.heartbeat = Duration::from_millis(400);
    settings.request_timeout = Duration::from_secs(2);
    settings
}

pub(crate) async fn stream(server: &Server) -> Stream {
    connect(&settings(server)).await.expect("it connects")
}

/// Publishes, again while the broker is away: a connection that comes back may break once more first.
pub(crate) async fn publish(stream: &Stream, payload: &str) -> u64 {
    loop {
        match stream.publish(outgoing(payload)).await {
            Ok(acknowledged) => return acknowledged.sequence,
            Err(BrokerFault::Away(_)) => {}
            Err(fault) => panic!("{fault}"),
        }
    }
}

pub(crate) fn outgoing(payload: &str) -> Outgoing {
    Outgoing {
        subject: SUBJECT.to_owned(),
        headers: vec![("Content-Type".to_owned(), "text/plain".to_owned())],
        payload: payload.to_owned().into(),
    }
}

/// Reads on until a sequence came, as a ledger does: a feed that ends is begun anew behind what was read. Says how often.
pub(crate) async fn read_until(stream: &Stream, after: u64, last: u64) -> (Vec<Message>, u32) {
    let read = async {
        let mut messages: Vec<Message> = Vec::new();
        let mut breaks = 0;
        let mut feed: Option<Box<dyn Feed>> = None;
        loop {
            let position = messages.last().map_or(after, |it| it.sequence);
            if position >= last {
                return (messages, breaks);
            }
            let Some(open) = &mut feed else {
                feed = stream.feed(position).await.ok();
                continue;
            };
            match waited(open.as_mut()).await {
                Ok(batch) => messages.extend(batch.into_iter().filter(|it| it.sequence > position)),
                Err(fault) => {
                    println!("the feed ended behind {position}: {fault}");
                    breaks += 1;
                    feed = None;
                }
            }
        }
    };
    let patience = Duration::from_secs(40);
    tokio::time::timeout(patience, read)
        .await
        .expect("all messages come")
}

pub(crate) fn sequences(messages: &[Message]) -> Vec<u64> {
    messages.iter().map(|it| it.sequence).collect()
}

/// The next messages; the wait for them is given up and begun anew often, as a ledger does that has other things to do.
async fn waited(feed: &mut dyn Feed) -> Result<Vec<Message>, BrokerFault> {
    loop {
        if let Ok(next) = tokio::time::timeout(Duration::from_millis(30), feed.next()).await {
            return next;
        }
    }
}

/// The fault that a feed ends with.
pub(crate) async fn fault(feed: &mut dyn Feed) -> BrokerFault {
    let ended = async {
        loop {
            if let Err(fault) = waited(feed).await {
                return fault;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), ended)
        .await
        .expect("the feed ends")
}

pub(crate) fn read(pairs: &[(&str, &str)]) -> Headers {
    let owned = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Headers::Read(owned.collect())
}

/// A client that sends what no library would.
pub(crate) struct Raw {
    socket: BufReader<TcpStream>,
}

impl Raw {
    pub(crate) fn connect(server: &Server) -> Self {
        let socket = TcpStream::connect(server.address()).expect("the server listens");
        socket.set_nodelay(true).expect("a socket can");
        let mut raw = Self {
            socket: BufReader::new(socket),
        };
        let options = r#"{"verbose":false,"pedantic":false,"headers":true,"name":"raw","lang":"","version":""}"#;
        raw.send(format!("CONNECT {options}\r\n").as_bytes());
        raw.settle();
        raw
    }

    /// Publishes with a header block as it is; the server has it when this returns.
    pub(crate) fn publish(&mut self, subject: &[u8], block: &[u8], payload: &[u8]) {
        self.write(subject, block, payload);
        self.settle();
    }

    /// Publishes without waiting.
    pub(crate) fn write(&mut self, subject: &[u8], block: &[u8], payload: &[u8]) {
        let sizes = format!(" {} {}\r\n", block.len(), block.len() + payload.len());
        self.send(&[b"HPUB ", subject, sizes.as_bytes(), block, payload, b"\r\n"].concat());
    }

    fn send(&mut self, bytes: &[u8]) {
        self.socket.get_mut().write_all(bytes).expect("it is sent");
    }

    /// Waits until the server has taken everything.
    pub(crate) fn settle(&mut self) {
        self.send(b"PING\r\n");
        loop {
            let mut line = String::new();
            let length = self
                .socket
                .by_ref()
                .read_line(&mut line)
                .expect("the server answers");
            assert!(
                length > 0 && !line.starts_with("-ERR"),
                "the server says {line:?}"
            );
            if line.starts_with("PONG") {
                return;
            }
        }
    }
}
