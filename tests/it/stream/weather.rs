//! Between ledger and broker: connections cut, brokers that stand still, consumers and rights that are taken away.
use std::{
    fs,
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tonic::Code;
use tonic_types::StatusExt as _;
use waybill_fixture::nats::{Options, binaries};
use waybill_proto::pb::{
    EmitRequest, GetStatusResponse, StreamCondition, emit_service_client::EmitServiceClient,
};
use waybill_tests::{
    load,
    stream::{
        bed::{Bed, STREAM},
        emitters::{Crowd, api, connect, store},
        watch::{Watch, condition},
    },
};

use super::told;

/// How soon a ledger must be there again after healing.
const CONVERGES: Duration = Duration::from_secs(10);

/// Passes bytes on, until it is told not to.
struct Proxy {
    port: u16,
    cut: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self {
            port: listener.local_addr().unwrap().port(),
            cut: Arc::default(),
            open: Arc::default(),
        };
        let (cut, open) = (Arc::clone(&proxy.cut), Arc::clone(&proxy.open));
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                if let Ok(far) = TcpStream::connect(&target) {
                    let ends = [near, far];
                    let mut open = open.lock().unwrap();
                    open.extend(ends.iter().map(|it| it.try_clone().unwrap()));
                    pass(&ends[0], &ends[1], &cut);
                    pass(&ends[1], &ends[0], &cut);
                }
            }
        });
        proxy
    }

    /// From now on bytes vanish, and nobody is told.
    fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    /// New connections work; old ones, which lost bytes, are closed.
    fn heal(&self) {
        self.cut.store(false, Ordering::Relaxed);
        self.close();
    }

    fn close(&self) {
        for end in self.open.lock().unwrap().drain(..) {
            // It may be closed already.
            drop(end.shutdown(Shutdown::Both));
        }
    }
}

fn pass(from: &TcpStream, to: &TcpStream, cut: &Arc<AtomicBool>) {
    use std::io::{Read as _, Write as _};
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    let cut = Arc::clone(cut);
    thread::spawn(move || {
        let mut buffer = [0; 16_384];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if !cut.load(Ordering::Relaxed) && to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        drop(to.shutdown(Shutdown::Both));
    });
}

fn away(status: &GetStatusResponse) -> bool {
    condition(status) == StreamCondition::Away
}

#[test]
fn a_ledger_that_was_cut_off_converges_within_ten_seconds_of_healing() {
    for binary in binaries() {
        told(async {
            let bed = Bed::new(&binary);
            let proxy = Proxy::to(bed.broker.address());
            let mut place = bed.ledger("ledger");
            place.nats = format!("nats://127.0.0.1:{}", proxy.port);
            let _server = place.serve().unwrap();
            let mut watch = Watch::of(&place.url());
            let crowd = Crowd::start(&bed.broker.url(), &place.url(), 1, 1);
            crowd.goes_on(20).await;
            // Once the connection breaks and is made again at once, once nothing comes through for a while.
            proxy.close();
            crowd.goes_on(20).await;
            proxy.cut();
            watch.until("away", away).await;
            let client = connect(&bed.broker.url()).await;
            let last = store(&client, 7, 0).await.unwrap();
            proxy.heal();
            let healed = Instant::now();
            watch.recorded(last).await;
            assert!(healed.elapsed() < CONVERGES, "{:?}", healed.elapsed());
            crowd.goes_on(20).await;
            let emitters = crowd.finish().await;
            assert!(emitters.iter().all(|it| it.sent == it.acked.len() as u64));
        });
    }
}

#[test]
fn a_consumer_that_is_deleted_under_the_ledger_is_made_again() {
    for binary in binaries() {
        told(async {
            let bed = Bed::new(&binary);
            let place = bed.ledger("ledger");
            let _server = place.serve().unwrap();
            let mut watch = Watch::of(&place.url());
            watch.following().await;
            let client = connect(&bed.broker.url()).await;
            let last = store(&client, 0, 0).await.unwrap();
            watch.recorded(last).await;
            let names = api(&client, &format!("CONSUMER.NAMES.{STREAM}"), &Value::Null).await;
            let names = names.unwrap();
            let name = names["consumers"][0].as_str().unwrap();
            let verb = format!("CONSUMER.DELETE.{STREAM}.{name}");
            api(&client, &verb, &Value::Null).await.unwrap();
            let last = store(&client, 0, 1).await.unwrap();
            watch.recorded(last).await;
        });
    }
}

const BOTH: &str =
    "authorization { users: [{user: alice, password: wonderland}, {user: bob, password: b}] }";
const NO_ALICE: &str = "authorization { users: [{user: bob, password: b}] }";

fn users(config: &str) -> Options<'_> {
    Options {
        config,
        ..Options::default()
    }
}

#[test]
fn rights_that_are_revoked_while_running_are_told_and_come_back() {
    for binary in binaries() {
        told(async {
            let bed = Bed::with(&binary, users(BOTH));
            let file = bed.beside("password");
            fs::write(&file, "wonderland\n").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            let file = file.to_str().unwrap();
            let alice = ["--nats-user", "alice", "--nats-password-file", file];
            let place = bed.ledger("ledger").with(&alice);
            let _server = place.serve().unwrap();
            let mut watch = Watch::of(&place.url());
            watch.following().await;
            bed.broker.configure(users(NO_ALICE));
            bed.broker.reload();
            let told = |it: &GetStatusResponse| {
                let reason = it.stream.as_ref().map_or("", |it| &it.reason);
                away(it) && reason.to_lowercase().contains("authorization")
            };
            let status = watch.until("away for want of rights", told).await;
            assert!(!format!("{status:?}").contains("wonderland"), "{status:?}");
            let bob = async_nats::ConnectOptions::with_user_and_password("bob".into(), "b".into());
            let bob = bob.connect(bed.broker.url()).await.unwrap();
            let last = store(&bob, 0, 0).await.unwrap();
            bed.broker.configure(users(BOTH));
            bed.broker.reload();
            watch.recorded(last).await;
        });
    }
}

/// Resident memory of a process, in KiB.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|it| it.starts_with("VmRSS:"));
    let kib = line.and_then(|it| it.split_whitespace().nth(1));
    kib.and_then(|it| it.parse().ok()).unwrap()
}

/// Offers more at once than may be on its way, and gives what each call was told.
async fn offer(url: &str) -> Vec<tonic::Status> {
    let endpoint = tonic::transport::Endpoint::from_shared(url.to_owned()).unwrap();
    let channel = endpoint.connect_lazy();
    let calls = (0..190_u64).map(|call| {
        let mut client = EmitServiceClient::new(channel.clone());
        let numbers = call * 200..(call + 1) * 200;
        let events = numbers.map(|it| load::event(0, it)).collect();
        tokio::spawn(async move { client.emit(EmitRequest { events }).await })
    });
    let calls: Vec<_> = calls.collect();
    let mut told = Vec::new();
    for call in calls {
        told.push(call.await.unwrap().unwrap_err());
    }
    told
}

#[test]
fn emitters_of_a_broker_that_stands_still_are_told_to_wait_and_fill_no_memory() {
    told(async {
        let bed = Bed::new(&binaries()[0]);
        let place = bed.ledger("ledger");
        let server = place.serve().unwrap();
        let mut watch = Watch::of(&place.url());
        watch.following().await;
        bed.broker.signal("STOP");
        let told = offer(&place.url()).await;
        let once = resident(server.pid());
        for status in &told {
            let retry = status.get_details_retry_info();
            let delay = retry.and_then(|it| it.retry_delay);
            assert!(delay.is_some(), "no RetryInfo: {status:?}");
            let code = status.code();
            assert!(
                [Code::ResourceExhausted, Code::Unavailable].contains(&code),
                "{status:?}"
            );
        }
        let full = |it: &tonic::Status| it.code() == Code::ResourceExhausted;
        assert!(told.iter().any(full), "all of it was taken: {:?}", told[0]);
        watch.until("away", away).await;
        // What is offered again and again is not kept: one wave may be on its way, and no more.
        for _ in 0..4 {
            let told = offer(&place.url()).await;
            assert!(told.iter().all(|it| it.get_details_retry_info().is_some()));
        }
        let grown = resident(server.pid()).saturating_sub(once);
        assert!(grown < 48 << 10, "{grown} KiB more");
        bed.broker.signal("CONT");
        watch.following().await;
        let crowd = Crowd::start(&bed.broker.url(), &place.url(), 0, 1);
        crowd.goes_on(10).await;
        let _all = crowd.finish().await;
    });
}
