//! Around every gRPC call: its deadline, its place among the calls at once, its line in the log and in the metrics.
use std::{
    future::pending,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
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
use http::{Extensions, HeaderMap, header};
use http_body::{Frame, SizeHint};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tonic::{Code, Status};
use waybill_core::{Refusal, refusal};

use crate::{
    contract::Method, gate::Caller, metrics::Metrics, shared::Shared, status, unread::Attended,
};

const GRPC_TIMEOUT: &str = "grpc-timeout";
/// How long those who watch health have to hear that the server is stopping.
const FAREWELL: Duration = Duration::from_millis(250);

/// When the caller no longer waits; nothing where it did not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    /// The deadline of the call that a request belongs to.
    pub(crate) fn of(extensions: &Extensions) -> Self {
        extensions.get().copied().unwrap_or_default()
    }

    pub(crate) fn instant(self) -> Option<Instant> {
        self.0
    }

    /// Reads `grpc-timeout`: at most 8 digits and a unit (gRPC over HTTP/2).
    fn read(headers: &HeaderMap) -> Result<Self, Refusal> {
        let Some(value) = headers.get(GRPC_TIMEOUT) else {
            return Ok(Self(None));
        };
        let text = value.to_str().unwrap_or("not text");
        let timeout = parse_timeout(text).ok_or_else(|| {
            let rule = "not a timeout: up to 8 digits and one of H, M, S, m, u, n";
            Refusal::new(refusal::Code::Malformed, GRPC_TIMEOUT, text, rule)
        })?;
        Ok(Self(Instant::now().checked_add(timeout)))
    }
}

fn parse_timeout(text: &str) -> Option<Duration> {
    let (unit_at, _) = text.char_indices().next_back()?;
    let (digits, unit) = text.split_at(unit_at);
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// True for a request or response in gRPC's own form; gRPC-Web and JSON inside gRPC are not.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let rest = value.and_then(|value| value.strip_prefix("application/grpc"));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(';') || rest.starts_with("+proto"))
}

/// The middleware. What is not gRPC passes through.
pub(crate) async fn around(
    State(shared): State<Shared>,
    mut request: Request,
    next: Next,
) -> Response {
    if !is_grpc(request.headers()) {
        return next.run(request).await;
    }
    let method = shared.contract.method(request.uri().path());
    let caller = Caller::of(request.extensions());
    let watch = Watch::start(&shared, method.as_ref(), &caller);
    // Given back with the answer's head: how slowly a caller reads costs nobody else a place.
    let _place = match place(&shared, method.as_ref()) {
        Ok(place) => place,
        Err(status) => return watch.fail(status),
    };
    let deadline = match Deadline::read(request.headers()) {
        Ok(deadline) => deadline,
        Err(refusal) => return watch.fail(status::refused(&refusal)),
    };
    request.extensions_mut().insert(deadline);
    let response = match deadline.instant() {
        None => next.run(request).await,
        Some(end) => match timeout_at(end, next.run(request)).await {
            Ok(response) => response,
            Err(_) => return watch.fail(status::deadline_exceeded()),
        },
    };
    // A failure without messages has its status where an answer has its headers.
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() != Code::Ok => watch.fail(status),
        _ => {
            let end = end(&shared, deadline, method.is_none());
            response.map(|body| {
                let body = match watch.streaming {
                    true => Body::new(Attended::new(body, shared.limits.read_max)),
                    false => body,
                };
                Body::new(CallBody {
                    body: Some(body),
                    ended: caller.ended(),
                    watch,
                    end,
                })
            })
        }
    }
}

/// A call that answers once takes a place; streams have limits of their own.
fn place(shared: &Shared, method: Option<&Method>) -> Result<Option<OwnedSemaphorePermit>, Status> {
    if method.is_none_or(Method::is_streaming) {
        return Ok(None);
    }
    let place = shared.calls.clone().try_acquire_owned();
    place
        .map(Some)
        .map_err(|_| status::too_many("calls", shared.limits.calls))
}

/// What ends an answer before it has ended by itself: its deadline, or the server's end where the service does not see
/// to that, as with watches of health.
fn end(shared: &Shared, deadline: Deadline, foreign: bool) -> Option<BoxFuture<'static, Status>> {
    let (drain, deadline) = (shared.drain.wait(), deadline.instant());
    if deadline.is_none() && !foreign {
        return None;
    }
    Some(Box::pin(async move {
        let late = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => pending().await,
            }
        };
        let stopping = async {
            drain.await;
            sleep(FAREWELL).await;
        };
        tokio::select! {
            () = late => status::deadline_exceeded(),
            () = stopping, if foreign => status::draining(),
        }
    }))
}

/// Sees one call from its start to its end, whichever way it ends.
struct Watch {
    metrics: Arc<Metrics>,
    method: Arc<str>,
    streaming: bool,
    sender: Option<String>,
    started: Instant,
    told: bool,
}

impl Watch {
    fn start(shared: &Shared, method: Option<&Method>, caller: &Caller) -> Self {
        Self {
            metrics: shared.metrics.clone(),
            // Paths that are not ours share one name, so that callers cannot make metrics grow.
            method: method.map_or_else(|| Arc::from("other"), Method::name),
            streaming: method.is_none_or(Method::is_streaming),
            sender: caller.name().map(status::escaped),
            started: Instant::now(),
            told: false,
        }
    }

    /// Ends the call with a failure before any message was sent.
    fn fail(mut self, status: Status) -> Response {
        let status = status::complete(status);
        self.tell(status.code(), status.message());
        status.into_http()
    }

    fn tell(&mut self, code: Code, message: &str) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        let elapsed = self.started.elapsed();
        self.metrics
            .called(&self.method, code, elapsed, self.streaming);
        log(&self.method, self.sender.as_deref(), code, message, elapsed);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.tell(Code::Cancelled, "the caller went away");
    }
}

/// One line for each failed call, as loud as what the caller can do about it.
fn log(method: &str, sender: Option<&str>, code: Code, message: &str, elapsed: Duration) {
    let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    let message = status::escaped(message);
    match code {
        Code::Ok => tracing::debug!(method, sender, elapsed_ms, "call"),
        Code::Internal | Code::Unknown | Code::DataLoss => {
            tracing::error!(method, sender, ?code, elapsed_ms, error = %message, "call failed");
        }
        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded => {
            tracing::warn!(method, sender, ?code, elapsed_ms, error = %message, "call failed");
        }
        _ => tracing::info!(method, sender, ?code, elapsed_ms, error = %message, "call failed"),
    }
}

/// The body of an answer: passes it on, ends it when it must end, and sees how it ended.
struct CallBody {
    body: Option<Body>,
    watch: Watch,
    /// The caller's token counts no more.
    ended: Option<BoxFuture<'static, ()>>,
    end: Option<BoxFuture<'static, Status>>,
}

impl CallBody {
    /// Ends the answer with a status of ours.
    fn end_with(&mut self, status: Status) -> Frame<Bytes> {
        self.body = None;
        let status = status::complete(status);
        self.watch.tell(status.code(), status.message());
        Frame::trailers(status::trailers(&status))
    }

    fn trailers(&mut self, trailers: HeaderMap) -> Frame<Bytes> {
        match Status::from_header_map(&trailers) {
            Some(status) if status.code() != Code::Ok => self.end_with(status),
            _ => {
                self.watch.tell(Code::Ok, "");
                Frame::trailers(trailers)
            }
        }
    }
}

impl http_body::Body for CallBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let Some(body) = this.body.as_mut() else {
            return Poll::Ready(None);
        };
        // First: a stream that always has something to say would never ask.
        if let Some(Poll::Ready(())) = this.ended.as_mut().map(|it| it.as_mut().poll(context)) {
            return Poll::Ready(Some(Ok(this.end_with(status::token_ended()))));
        }
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(context) {
            return Poll::Ready(match frame {
                Some(Ok(frame)) => Some(Ok(match frame.into_trailers() {
                    Ok(trailers) => this.trailers(trailers),
                    Err(frame) => frame,
                })),
                Some(Err(error)) => Some(Ok(
                    this.end_with(status::broken("the answer broke off", &error))
                )),
                None => None,
            });
        }
        let Some(end) = this.end.as_mut() else {
            return Poll::Pending;
        };
        let status = ready!(end.as_mut().poll(context));
        Poll::Ready(Some(Ok(this.end_with(status))))
    }

    fn is_end_stream(&self) -> bool {
        self.body
            .as_ref()
            .is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map(http_body::Body::size_hint)
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        for (text, expected) in [
            ("1S", Some(Duration::from_secs(1))),
            ("250m", Some(Duration::from_millis(250))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("7n", Some(Duration::from_nanos(7))),
            ("", None),
            ("S", None),
            ("1", None),
            ("100000000S", None),
            ("-1S", None),
            ("1s", None),
            ("1ü", None),
        ] {
            assert_eq!(parse_timeout(text), expected, "{text}");
        }
    }
}
