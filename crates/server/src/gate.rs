//! Who calls: asked first, before a body is read. Everything behind knows its [`Caller`].
mod budget;
mod placed;

use std::{
    collections::HashMap,
    future::pending,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Extensions, HeaderMap, HeaderValue, header};
use http_body_util::BodyExt;
use jiff::Timestamp;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, sleep, timeout},
};
use tonic::Status;
use waybill_ledger::{Scope, Sender};

use crate::{
    access::{Access, Role, Route},
    call::is_grpc,
    json_door, pages,
    settings::{Door, Limits},
    shared::Shared,
    status,
    tokens::{Token, Tokens, Unknown},
    unread::Lying,
};
use budget::Budget;
use placed::Placed;

const SCHEME: &str = "Bearer";
const FORWARDED_FOR: &str = "x-forwarded-for";

/// What is taken at most, and for how long, of a body that comes with a call that is not let in.
const DISCARD_BYTES_MAX: usize = 64 << 10;
const LEAVE_MAX: Duration = Duration::from_secs(1);

/// The other end of a connection.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    /// What it has not read yet.
    pub(crate) lying: Arc<Lying>,
}

/// Who calls, and what they may do.
#[derive(Clone)]
pub(crate) struct Caller {
    /// As the ledger knows them.
    pub(crate) sender: Sender,
    standing: Standing,
}

#[derive(Clone)]
enum Standing {
    /// A caller without a token, where tokens are asked for.
    Nobody,
    /// A caller on a port that asks nobody.
    Unasked,
    /// A caller whose token counts, and where to hear when it counts no more.
    Known(Arc<Token>, watch::Receiver<Arc<Tokens>>),
}

impl Caller {
    /// The caller of the request that these belong to; without rights where the gate has not seen it.
    pub(crate) fn of(extensions: &Extensions) -> Self {
        extensions.get().cloned().unwrap_or_else(Self::nobody)
    }

    fn nobody() -> Self {
        let (name, scope) = (Arc::from(""), Scope::Sources(Arc::from([])));
        Self {
            sender: Sender { name, scope },
            standing: Standing::Nobody,
        }
    }

    fn unasked() -> Self {
        Self {
            sender: Sender::unverified(),
            standing: Standing::Unasked,
        }
    }

    fn known(token: Arc<Token>, tokens: watch::Receiver<Arc<Tokens>>) -> Self {
        Self {
            sender: token.sender(),
            standing: Standing::Known(token, tokens),
        }
    }

    /// Whether this may be done.
    pub(crate) fn may(&self, access: Access) -> bool {
        match &self.standing {
            Standing::Nobody => access == Access::Open,
            Standing::Unasked => true,
            Standing::Known(token, _) => access.allows(token.role),
        }
    }

    /// Whether events of a source may be shown.
    pub(crate) fn sees(&self, source: &str) -> bool {
        self.may(Access::Read) || (self.may(Access::ReadOwn) && self.sender.covers(source))
    }

    /// Whether it was asked who it is, and could say.
    pub(crate) fn is_known(&self) -> bool {
        matches!(self.standing, Standing::Known(..))
    }

    /// Its name, where it has one.
    pub(crate) fn name(&self) -> Option<&str> {
        Some(&*self.sender.name).filter(|name| !name.is_empty())
    }

    /// Ends when its token counts no more; `None` where there is no token.
    pub(crate) fn ended(&self) -> Option<BoxFuture<'static, ()>> {
        let Standing::Known(token, tokens) = &self.standing else {
            return None;
        };
        let (token, mut tokens) = (token.clone(), tokens.clone());
        Some(Box::pin(async move {
            while tokens.borrow_and_update().still(&token, Timestamp::now()) {
                let mut expired = expired(token.expire_time);
                tokio::select! {
                    changed = tokens.changed() => if changed.is_err() {
                        // Nobody changes the tokens any more: what is left is time.
                        return expired.await;
                    },
                    () = &mut expired => {}
                }
            }
        }))
    }
}

/// Ends at a time of the wall clock.
fn expired(end: Option<Timestamp>) -> BoxFuture<'static, ()> {
    match end {
        None => Box::pin(pending()),
        Some(end) => {
            let left = end.duration_since(Timestamp::now());
            Box::pin(sleep(Duration::try_from(left).unwrap_or_default()))
        }
    }
}

/// What the gate keeps.
pub(crate) struct Gate {
    tokens: Option<watch::Receiver<Arc<Tokens>>>,
    behind_proxy: bool,
    calls_per_token: usize,
    failures: Mutex<Budget>,
    places: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// Why a call is not let in.
#[derive(Clone, Copy, Debug)]
enum Denied {
    NoToken,
    Unknown(Unknown),
    Role(Role, Access),
    Calls(usize),
}

impl Denied {
    /// For the log and the metrics; never for the caller.
    fn reason(self) -> &'static str {
        match self {
            Self::NoToken => "no_token",
            Self::Unknown(Unknown::Malformed) => "malformed_token",
            Self::Unknown(Unknown::Wrong) => "wrong_token",
            Self::Unknown(Unknown::Expired) => "expired_token",
            Self::Unknown(Unknown::Revoked) => "revoked_token",
            Self::Role(..) => "role",
            Self::Calls(_) => "too_many_calls",
        }
    }
}

impl Gate {
    pub(crate) fn new(door: &Door, limits: &Limits) -> Self {
        Self {
            tokens: door.tokens.clone(),
            behind_proxy: door.behind_proxy,
            calls_per_token: limits.calls_per_token,
            failures: Mutex::new(Budget::new(limits.failures_per_minute)),
            places: Mutex::default(),
        }
    }

    /// Says who calls, and takes a place among the calls of their token.
    fn admit(
        &self,
        route: Option<Route>,
        headers: &HeaderMap,
    ) -> Result<(Caller, Option<OwnedSemaphorePermit>), Denied> {
        let Some(tokens) = &self.tokens else {
            return Ok((Caller::unasked(), None));
        };
        // Where nothing is, everybody is told the same.
        let access = route.map_or(Access::Open, Route::access);
        let text = match (bearer(headers), route) {
            (_, None) | (Bearer::None, _) if access == Access::Open => {
                return Ok((Caller::nobody(), None));
            }
            (Bearer::Token(text), _) => text,
            (Bearer::Other, _) => return Err(Denied::Unknown(Unknown::Malformed)),
            (Bearer::None, _) => return Err(Denied::NoToken),
        };
        let found = tokens.borrow().find(text, Timestamp::now());
        let token = found.map_err(Denied::Unknown)?;
        if !access.allows(token.role) {
            return Err(Denied::Role(token.role, access));
        }
        let place = self.place(&token, tokens)?;
        Ok((Caller::known(token, tokens.clone()), Some(place)))
    }

    fn place(
        &self,
        token: &Token,
        tokens: &watch::Receiver<Arc<Tokens>>,
    ) -> Result<OwnedSemaphorePermit, Denied> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if !places.contains_key(&token.id) {
            let tokens = tokens.borrow();
            places.retain(|id, _| tokens.has(id));
            let calls = Arc::new(Semaphore::new(self.calls_per_token));
            places.insert(token.id.clone(), calls);
        }
        let taken = places
            .get(&token.id)
            .map(|it| it.clone().try_acquire_owned());
        match taken {
            Some(Ok(place)) => Ok(place),
            _ => Err(Denied::Calls(self.calls_per_token)),
        }
    }

    /// What a caller is told that is not let in, and whether that is worth a line in the log.
    fn answer(&self, denied: Denied, peer: IpAddr) -> (Status, bool) {
        match denied {
            Denied::Role(role, access) => (status::forbidden(role, access), true),
            Denied::Calls(max) => (status::too_many("calls with this token", max), true),
            Denied::NoToken | Denied::Unknown(_) => {
                let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
                match failures.spend(peer, Instant::now()) {
                    budget::Spent::Within => (status::unauthenticated(), true),
                    budget::Spent::Beyond { wait, first } => {
                        (status::too_many_failures(wait), first)
                    }
                }
            }
        }
    }

    /// Whose failures are counted together. A proxy puts the address that it sees at the end of its header.
    fn peer(&self, request: &Request) -> IpAddr {
        let near = request.extensions().get().map(|peer: &Peer| peer.address);
        let values = request.headers().get_all(FORWARDED_FOR);
        let last = values.iter().next_back().and_then(|it| it.to_str().ok());
        let far = last.and_then(|list| list.rsplit(',').next()?.trim().parse().ok());
        let far = far.filter(|_| self.behind_proxy);
        far.or(near)
            .unwrap_or(IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED))
    }
}

enum Bearer<'h> {
    None,
    Token(&'h str),
    /// A header of another scheme, or several.
    Other,
}

fn bearer(headers: &HeaderMap) -> Bearer<'_> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return match headers.contains_key(header::AUTHORIZATION) {
            true => Bearer::Other,
            false => Bearer::None,
        };
    };
    let parts = value.to_str().ok().and_then(|value| value.split_once(' '));
    match parts {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(SCHEME) => Bearer::Token(token.trim()),
        _ => Bearer::Other,
    }
}

/// The middleware, before all others.
pub(crate) async fn around(
    State(shared): State<Shared>,
    mut request: Request,
    next: Next,
) -> Response {
    let route = Route::of(request.uri().path());
    match shared.gate.admit(route, request.headers()) {
        Ok((caller, place)) => {
            // Nobody behind this needs it, so nobody can tell it.
            request.headers_mut().remove(header::AUTHORIZATION);
            request.extensions_mut().insert(caller);
            let lying = whole(&shared, route, &request).map(|lying| lying.answer());
            let response = next.run(request).await;
            response.map(|body| Body::new(Placed::new(body, lying, place)))
        }
        Err(denied) => {
            let response = turned_away(&shared, denied, &request);
            tokio::spawn(timeout(LEAVE_MAX, discard(request.into_body())));
            response
        }
    }
}

/// With whom an answer lies until it is read; a stream is seen to by its call, which can end it by itself.
fn whole<'r>(
    shared: &Shared,
    route: Option<Route>,
    request: &'r Request,
) -> Option<&'r Arc<Lying>> {
    let method = shared.contract.method(request.uri().path());
    let foreign = matches!(route, Some(Route::Foreign(_)));
    let whole = !foreign && method.is_none_or(|method| !method.is_streaming());
    let peer: Option<&Peer> = request.extensions().get();
    peer.map(|peer| &peer.lying).filter(|_| whole)
}

/// Takes what is on its way of a body that nobody will read. A stream that ends before its client has said everything is
/// reset, and some clients then drop the answer too.
async fn discard(mut body: Body) {
    let mut left = DISCARD_BYTES_MAX;
    while let Some(Ok(frame)) = body.frame().await {
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(bytes) {
            Some(less) => left = less,
            None => return,
        }
    }
}

fn turned_away(shared: &Shared, denied: Denied, request: &Request) -> Response {
    let (peer, path) = (shared.gate.peer(request), request.uri().path());
    let (status, worth_a_line) = shared.gate.answer(denied, peer);
    let (reason, method) = (denied.reason(), shared.contract.method(path));
    shared.metrics.denied(reason);
    let name = method.as_ref().map(crate::contract::Method::name);
    shared.metrics.turned_away(name, status.code());
    if worth_a_line {
        tracing::warn!(path = %status::escaped(path), %peer, reason, code = ?status.code(), "call not let in");
    }
    let mut response = if is_grpc(request.headers()) {
        return status.into_http();
    } else if method.is_some() {
        json_door::failed(shared, &status)
    } else {
        pages::failed(&status)
    };
    let headers = response.headers_mut();
    if status.code() == tonic::Code::Unauthenticated {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(SCHEME));
    }
    if let Some(wait) = status::retry_delay(&status) {
        headers.insert(
            header::RETRY_AFTER,
            HeaderValue::from(wait.as_secs().max(1)),
        );
    }
    response
}
