//! A whole ledger on a real broker: what every piece promises, together.
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tempfile::TempDir;
use tokio::task::JoinHandle;
use waybill_core::Time;
use waybill_fixture::nats::Options;
use waybill_ledger::{
    Config, Host, Ledger,
    stream::{StreamConfig, join},
};
use waybill_nats::{Stream, connect};

use crate::kit::{Raw, SUBJECT, each, publish, settings};

/// A ledger that follows, and where it lives.
struct Following {
    ledger: Ledger,
    task: JoinHandle<()>,
    _home: TempDir,
}

fn host(seed: u64) -> Host {
    let random = AtomicU64::new(seed << 32);
    Host {
        clock: Arc::new(|| Time::from_nanos_clamped(1_700_000_000_000_000_000)),
        random: Arc::new(move |out| {
            for byte in out {
                let next = random.fetch_add(1, Ordering::Relaxed);
                *byte = next.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()[0];
            }
        }),
    }
}

async fn follow(stream: Stream, seed: u64) -> Following {
    let home = tempfile::tempdir().unwrap();
    let joined = join(&stream, "WAYBILL_EVENTS", &host(seed)).await.unwrap();
    let config = Config {
        directory: home.path().join("data"),
        state_directory: home.path().join("state"),
        probe: None,
        segment_bytes: 1 << 20,
        cache_bytes: 16 << 20,
        view_checkpoint_events: 1_000,
        scrub_every: Duration::from_secs(3600),
        holder: "a test".to_owned(),
        stream: Some(StreamConfig {
            broker: Arc::new(stream),
            name: "WAYBILL_EVENTS".to_owned(),
            org: String::new(),
            compare_every: Duration::from_millis(200),
        }),
        new_ledger_id: Some(joined.ledger_id),
    };
    let opened = tokio::task::spawn_blocking(move || Ledger::open(config, host(seed), &mut |_| {}));
    let ledger = opened.await.unwrap().unwrap();
    let follower = ledger.clone();
    let task = tokio::spawn(async move { follower.follow().await });
    Following {
        ledger,
        task,
        _home: home,
    }
}

impl Following {
    async fn root(&self, position: u64) -> [u8; 32] {
        let mut heads = self.ledger.heads();
        let reached = heads.wait_for(|heads| heads.applied >= position && heads.folded >= position);
        let reached = tokio::time::timeout(Duration::from_secs(30), reached).await;
        let reached = reached.map(|it| drop(it.unwrap()));
        assert!(reached.is_ok(), "{position}: {:?}", self.ledger.status());
        self.ledger.checkpoint(position).await.unwrap().root
    }

    async fn close(self) {
        self.task.abort();
        let closed = tokio::task::spawn_blocking(move || self.ledger.close());
        closed.await.unwrap().unwrap();
    }
}

#[test]
fn two_ledgers_have_one_root_whatever_is_published_and_however_the_server_ends() {
    each(Options::default(), async |mut server| {
        let first = connect(&settings(&server)).await.unwrap();
        let mut other = settings(&server);
        other.consumer = "ledger-2".to_owned();
        let second = connect(&other).await.unwrap();
        let one = follow(first.clone(), 1).await;
        let mut raw = Raw::connect(&server);
        for n in 0..500 {
            let block: &[u8] = match n {
                100 => b"NATS/1.0\r\nA: \xff\r\n\r\n",
                // At this one the client library panics.
                200 => b"NATS/1.0\r\nA: carriage\rreturn\r\n\r\n",
                _ => b"NATS/1.0\r\nce-id: x\r\n\r\n",
            };
            raw.write(SUBJECT.as_bytes(), block, n.to_string().as_bytes());
        }
        raw.settle();
        drop(raw);
        server.kill();
        server.restart();
        let last = publish(&first, "after").await;
        // The opening message is a message of the stream as well, and has a leaf before it.
        let position = last + 1;
        let root = one.root(position).await;
        // The second reads all of it at once, and in other batches.
        let two = follow(second, 2).await;
        assert_eq!(two.root(position).await, root);
        one.close().await;
        two.close().await;
    });
}
