//! The port: builds the router, accepts connections within their limit, and stops in good order.
use std::{
    collections::HashMap,
    convert::Infallible,
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    extract::Request,
    middleware::{self, Next},
    response::Response,
};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic::service::Routes;
use tower::Service;
use waybill_ledger::Ledger;
use waybill_proto::{
    FILE_DESCRIPTOR_SET,
    server::{
        delivery_service_server::DeliveryServiceServer, emit_service_server::EmitServiceServer,
        ledger_service_server::LedgerServiceServer, operate_service_server::OperateServiceServer,
        trace_service_server::TraceServiceServer,
    },
};

use crate::{
    access::Route,
    call,
    contract::Contract,
    drain,
    emit_service::Emits,
    gate::{self, Gate, Peer},
    health, json_door,
    ledger_service::Reads,
    metrics::Metrics,
    operate_service::Operates,
    pages,
    questions::Questions,
    settings::{Door, Exposed, Limits, Settings, check_listen},
    shared::Shared,
    status,
    tls::Tls,
    unread::Lying,
    wire::{self, Impatient},
};

/// The smallest buffer that hyper takes for HTTP/1.
const HTTP1_BUFFER_MIN: usize = 8192;
/// What a client may send ahead of our reading, on one stream and on one connection.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 2 << 20;
/// How long to wait where the system has no room for another connection.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address may not be served.
    #[error(transparent)]
    Exposed(#[from] Exposed),
    /// The listener has no address.
    #[error("cannot read the listener's address")]
    Listener(#[source] io::Error),
    /// The binary was built from descriptors that do not fit together.
    #[error("cannot read the contract that this binary carries")]
    Contract(#[from] prost_reflect::DescriptorError),
    /// As `Contract`, said by reflection.
    #[error("cannot build reflection")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Serves a ledger on a listener until `shutdown` ends; then finishes what is under way, for at most
/// [`Settings::drain_max`], and returns. The ledger stays open: closing it is the caller's.
///
/// # Errors
/// [`Error::Exposed`] for an address that check_listen refuses; the others say that the binary or the listener is
/// broken. A connection's failure is never an error of the server.
pub async fn serve(
    ledger: Ledger,
    settings: Settings,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    check_listen(
        listener.local_addr().map_err(Error::Listener)?,
        &settings.door,
    )?;
    let (begin, drain) = drain::drain();
    let gate = Gate::new(&settings.door, &settings.limits);
    let shared = Shared::new(ledger, settings.limits, Contract::load()?, gate, drain);
    let (reporter, health_service) = tonic_health::server::health_reporter();
    health::tell(&reporter, &shared).await;
    let app = router(&shared, health_service)?;

    let mut tasks = JoinSet::new();
    tasks.spawn(health::watch(reporter, shared.clone()));
    tokio::select! {
        () = accept(&listener, &settings.door, &shared, &app, &mut tasks) => {}
        () = shutdown => {}
    }
    tracing::info!(
        connections = tasks.len().saturating_sub(1),
        "stopping: calls in flight may finish"
    );
    begin.begin();
    drop(listener);
    let done = async { while tasks.join_next().await.is_some() {} };
    if timeout(settings.drain_max, done).await.is_err() {
        tracing::warn!(
            connections = tasks.len(),
            "calls still in flight are cut off"
        );
        tasks.shutdown().await;
    }
    Ok(())
}

/// Everything that is served, in the order that a request meets it: JSON becomes gRPC, a call is watched, a service
/// answers.
fn router<H>(
    shared: &Shared,
    health: tonic_health::pb::health_server::HealthServer<H>,
) -> Result<Router, Error>
where
    H: tonic_health::pb::health_server::Health,
{
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let bytes = shared.limits.message_bytes;
    let questions = Questions(shared.clone());
    let services =
        Routes::new(EmitServiceServer::new(Emits(shared.clone())).max_decoding_message_size(bytes))
            .add_service(
                LedgerServiceServer::new(Reads(shared.clone())).max_decoding_message_size(bytes),
            )
            .add_service(
                TraceServiceServer::new(questions.clone()).max_decoding_message_size(bytes),
            )
            .add_service(OperateServiceServer::new(Operates(shared.clone())))
            .add_service(DeliveryServiceServer::new(questions).max_decoding_message_size(bytes))
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?)
            .add_service(health)
            .prepare();
    let services = services
        .into_axum_router()
        .reset_fallback()
        .layer(middleware::from_fn(only_in_table));
    Ok(pages::pages(services, shared)
        .layer(middleware::from_fn_with_state(shared.clone(), call::around))
        .layer(middleware::from_fn_with_state(
            shared.clone(),
            json_door::around,
        ))
        .layer(middleware::from_fn_with_state(shared.clone(), gate::around)))
}

/// Holds back a method that has no row in the table of access: nobody has decided who may call it.
async fn only_in_table(request: Request, next: Next) -> Response {
    match Route::of(request.uri().path()) {
        Some(_) => next.run(request).await,
        None => status::unimplemented(request.uri().path()).into_http(),
    }
}

/// Takes connections, each with a permit; without one left, new ones wait in the kernel.
async fn accept(
    listener: &TcpListener,
    door: &Door,
    shared: &Shared,
    app: &Router,
    tasks: &mut JoinSet<()>,
) {
    let permits = Arc::new(Semaphore::new(shared.limits.connections));
    let places = Places::default();
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else {
            return;
        };
        while tasks.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, address)) => {
                let from = address.ip();
                let many = door.tokens.is_some() && !door.behind_proxy;
                let Some(place) =
                    Place::take(&places, from, shared.limits.connections_per_address, many)
                else {
                    // Closed at once: one address does not take every place.
                    continue;
                };
                let (tls, app) = (door.tls.clone(), FromPeer::new(app, address));
                let served = connection(stream, tls, shared.clone(), app, permit);
                tasks.spawn(async move {
                    served.await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of file descriptors, or the peer was gone already: neither ends the server.
                tracing::warn!(%error, "a connection was not accepted");
                sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// Connections of each address that has one.
type Places = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// A connection's place among those of its address.
struct Place(Places, IpAddr);

impl Place {
    /// Takes a place; none where the address has as many as it may. Only where callers are strangers is that counted: behind
    /// a proxy, and on a port of this machine alone, all come from one address.
    fn take(places: &Places, address: IpAddr, max: usize, counted: bool) -> Option<Self> {
        let mut all = places.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = all.entry(address).or_default();
        if counted && *taken >= max {
            return None;
        }
        *taken += 1;
        Some(Self(places.clone(), address))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = all.get_mut(&self.1) {
            *taken -= 1;
            if *taken == 0 {
                all.remove(&self.1);
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    tls: Option<watch::Receiver<Tls>>,
    shared: Shared,
    app: FromPeer,
    permit: OwnedSemaphorePermit,
) {
    let _counted = Counted::new(&shared);
    let _permit = permit;
    drop(stream.set_nodelay(true));
    let stream = Impatient::new(stream, shared.limits.read_max);
    match tls {
        None => begun(stream, &shared, app).await,
        Some(tls) => {
            let tls = tls.borrow().clone();
            if let Some(stream) = in_time(&shared, tls.accept(stream)).await {
                begun(stream, &shared, app).await;
            }
        }
    }
}

/// Serves a client from its first byte on.
async fn begun<IO>(stream: IO, shared: &Shared, app: FromPeer)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Some(stream) = in_time(shared, wire::begin(stream)).await else {
        return;
    };
    let builder = builder(&shared.limits);
    let left = left(app.peer.lying.clone(), shared.limits.read_max);
    let quiet = quiet(app.called.subscribe(), shared.limits.quiet_max);
    let mut serving =
        pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(app)));
    let served = async {
        tokio::select! {
            served = serving.as_mut() => return served,
            () = shared.drain.wait() => {}
            // Calls that are open go on to their end; whoever has none is let go.
            () = quiet => {}
        }
        serving.as_mut().graceful_shutdown();
        serving.await
    };
    let served = tokio::select! {
        served = served => served,
        () = left => return tracing::info!("a connection was cut off: its answers were not read"),
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection broke off");
    }
}

/// Ends when an answer has been left unread for too long; within a quarter of that time more.
async fn left(lying: Arc<Lying>, patience: Duration) {
    while !lying.is_any_left(patience) {
        sleep(patience / 4).await;
    }
}

/// Ends when no call began for so long. Signs of life are no calls.
async fn quiet(mut called: watch::Receiver<()>, patience: Duration) {
    while let Ok(Ok(())) = timeout(patience, called.changed()).await {}
}

/// What a client must do before it is served; nothing where it does not in time, or the server stops.
async fn in_time<T>(shared: &Shared, step: impl Future<Output = io::Result<T>>) -> Option<T> {
    tokio::select! {
        done = timeout(shared.limits.send_max, step) => done.ok()?.ok(),
        () = shared.drain.wait() => None,
    }
}

/// Everything that is served, to one address.
#[derive(Clone)]
struct FromPeer {
    app: Router,
    peer: Peer,
    /// Tells that a call began.
    called: Arc<watch::Sender<()>>,
}

impl FromPeer {
    fn new(app: &Router, address: SocketAddr) -> Self {
        Self {
            app: app.clone(),
            called: Arc::default(),
            peer: Peer {
                address: address.ip(),
                lying: Arc::default(),
            },
        }
    }
}

impl Service<http::Request<Incoming>> for FromPeer {
    type Response = Response;
    type Error = Infallible;
    type Future = <Router as Service<http::Request<Incoming>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        <Router as Service<http::Request<Incoming>>>::poll_ready(&mut self.app, context)
    }

    fn call(&mut self, mut request: http::Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.peer.clone());
        self.called.send_replace(());
        self.app.call(request)
    }
}

fn builder(limits: &Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    let header_bytes = usize::try_from(limits.header_bytes)
        .unwrap_or(usize::MAX)
        .max(HTTP1_BUFFER_MIN);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.send_max)
        .max_buf_size(header_bytes);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.keepalive_interval)
        .keep_alive_timeout(limits.keepalive_timeout)
        .max_concurrent_streams(limits.streams_per_connection)
        .max_header_list_size(limits.header_bytes)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    builder
}

/// Keeps the number of open connections.
struct Counted(Arc<Metrics>);

impl Counted {
    fn new(shared: &Shared) -> Self {
        shared.metrics.connections.fetch_add(1, Ordering::Relaxed);
        Self(shared.metrics.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
