//! proto3 JSON at the same URLs: `POST /waybill.v1.EmitService/Emit` with `content-type: application/json`.
//!
//! The request becomes a gRPC request, goes on to the same handler, and the answer comes back as JSON: a failure as
//! `google.rpc.Status` with the HTTP status of its code, a stream as one JSON text a line.
use std::{convert::Infallible, net::IpAddr};

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Method as Verb, StatusCode, Uri, Version, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::time::timeout;
use tonic::{Code, Status};
use waybill_core::{Refusal, refusal};
use waybill_proto::json;

use crate::{
    call::is_grpc,
    contract::Method,
    gate::Caller,
    json_emit::{self, Batch},
    shared::Shared,
    status,
};

const JSON: &str = "application/json";
const JSON_LINES: &str = "application/x-ndjson";
/// Bytes in front of a gRPC message: a flag and its length (gRPC over HTTP/2).
const FRAME_HEADER: usize = 5;
/// The one method whose events are refused one by one, also where they are not even events.
const EMIT: &str = "waybill.v1.EmitService/Emit";

/// The middleware. What is gRPC passes through, and so does what is no method of ours.
pub(crate) async fn around(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    if is_grpc(request.headers()) {
        return next.run(request).await;
    }
    let path = request.uri().path().to_owned();
    let Some(method) = shared.contract.method(&path) else {
        let response = next.run(request).await;
        // A gRPC service answered somebody who does not speak gRPC.
        if is_grpc(response.headers()) {
            return Failure::not_found(&path).response(&shared, &path);
        }
        return response;
    };
    match answer(&shared, &method, request, next).await {
        Ok(response) => response,
        Err(failure) => failure.response(&shared, &path),
    }
}

async fn answer(
    shared: &Shared,
    method: &Method,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    let caller = Caller::of(request.extensions());
    check_form(method, &caller, &request)?;
    let _place = shared.json_calls.clone().try_acquire_owned();
    let _place = _place.map_err(|_| status::too_many("JSON calls", shared.limits.json_calls))?;
    let (mut head, body) = request.into_parts();
    let body = read(shared, body).await?;
    to_grpc(&mut head.headers);
    head.version = Version::HTTP_2;
    let next = |message: &[u8]| next.run(Request::from_parts(head, Body::from(framed(message))));

    if &*method.name() == EMIT {
        let batch = Batch::read(&body).map_err(|refusal| {
            json_emit::note(shared, &caller.sender.name, &refusal, &body);
            Failure::refused(refusal)
        })?;
        let results = if batch.is_all_refused() {
            Bytes::new()
        } else {
            message(next(&batch.request()).await).await?
        };
        batch.note_refusals(shared, &caller.sender.name);
        let answer = batch.with_results(results).map_err(Failure::refused)?;
        return to_json(method, &answer);
    }
    let request = json::message_from_json(&method.input(), &body).map_err(Failure::refused)?;
    let response = next(&request).await;
    if method.is_streaming() {
        lines(shared, method, response)
    } else {
        to_json(method, &message(response).await?)
    }
}

/// Refuses what is not a POST of JSON from this machine; the first rule that does not hold is named.
fn check_form(method: &Method, caller: &Caller, request: &Request) -> Result<(), Failure> {
    let value = |name| {
        let value: Option<&HeaderValue> = request.headers().get(name);
        value.map_or("", |value| value.to_str().unwrap_or("not text"))
    };
    let (verb, name) = (request.method(), method.name());
    let (media_type, origin) = (value(header::CONTENT_TYPE), value(header::ORIGIN));
    let encoding = value(header::CONTENT_ENCODING);
    let rules = [
        (
            verb == Verb::POST,
            405,
            "method",
            verb.as_str(),
            "not a method here: use POST",
        ),
        (
            is_json(media_type),
            415,
            "content-type",
            media_type,
            "not taken here: send application/json, or gRPC",
        ),
        // A page of a name that was made to point at this machine: browsers would let it read the answers.
        (
            is_local(origin) || (caller.is_known() && is_of_host(origin, value(header::HOST))),
            403,
            "origin",
            origin,
            "not this machine: pages of other sites may not call without authentication",
        ),
        (
            ["", "identity"].contains(&encoding),
            415,
            "content-encoding",
            encoding,
            "not supported: send the body as it is",
        ),
        (
            !method.is_client_streaming(),
            501,
            "method",
            &name,
            "a stream of requests, which JSON does not carry: use gRPC",
        ),
    ];
    match rules.into_iter().find(|(holds, ..)| !holds) {
        None => Ok(()),
        Some((_, code, field, value, rule)) => {
            let code = StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_REQUEST);
            Err(Failure::http(code, field, value, rule))
        }
    }
}

fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case(JSON)
}

/// True for an origin on this machine, and where a caller has none: only browsers say theirs.
fn is_local(origin: &str) -> bool {
    if origin.is_empty() {
        return true;
    }
    let host = origin
        .parse::<Uri>()
        .ok()
        .and_then(|uri| uri.host().map(str::to_owned))
        .unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// True for a page of the very address that is called. Whoever has a token was not led here by a name that somebody made
/// point at this machine.
fn is_of_host(origin: &str, host: &str) -> bool {
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    authority.is_some_and(|authority| !host.is_empty() && authority.eq_ignore_ascii_case(host))
}

/// Reads the body within its limits of size and time. An empty one is an empty message.
async fn read(shared: &Shared, body: Body) -> Result<Bytes, Failure> {
    let limits = &shared.limits;
    let collected = timeout(
        limits.send_max,
        Limited::new(body, limits.json_bytes).collect(),
    )
    .await;
    let collected = collected.map_err(|_| {
        let rule = format!("not complete after {} s", limits.send_max.as_secs());
        Failure::http(StatusCode::REQUEST_TIMEOUT, "body", "", &rule)
    })?;
    let body = collected.map_err(|error| {
        if error.is::<LengthLimitError>() {
            let rule = format!("larger than {} bytes, the limit", limits.json_bytes);
            return Failure::http(StatusCode::PAYLOAD_TOO_LARGE, "body", "", &rule);
        }
        Failure::http(
            StatusCode::BAD_REQUEST,
            "body",
            "",
            "not complete: it broke off",
        )
    })?;
    let bytes = body.to_bytes();
    Ok(if bytes.trim_ascii().is_empty() {
        Bytes::from_static(b"{}")
    } else {
        bytes
    })
}

/// Leaves of the headers what the call means and drops what its form was.
fn to_grpc(headers: &mut HeaderMap) {
    for name in [
        header::CONTENT_LENGTH,
        header::CONTENT_ENCODING,
        header::TRANSFER_ENCODING,
        header::ACCEPT_ENCODING,
    ] {
        headers.remove(name);
    }
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
}

fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(FRAME_HEADER + message.len());
    frame.put_u8(0);
    // Bounded by `json_bytes`; a frame of another length would only be refused.
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put(message);
    frame.freeze()
}

/// The one message of an answer, or its failure.
async fn message(response: Response) -> Result<Bytes, Failure> {
    check(response.headers())?;
    let body = response.into_body().collect().await;
    let body = body.map_err(|error| status::broken("the answer broke off", &error))?;
    if let Some(trailers) = body.trailers() {
        check(trailers)?;
    }
    let mut data = body.to_bytes();
    Ok(if data.len() < FRAME_HEADER {
        Bytes::new()
    } else {
        data.split_off(FRAME_HEADER)
    })
}

fn check(headers: &HeaderMap) -> Result<(), Failure> {
    match Status::from_header_map(headers) {
        Some(status) if status.code() != Code::Ok => Err(Failure::from(status)),
        _ => Ok(()),
    }
}

fn to_json(method: &Method, message: &[u8]) -> Result<Response, Failure> {
    let text = json::message_to_json(&method.output(), message);
    let text =
        text.map_err(|refusal| status::broken("the answer cannot be written as JSON", &refusal))?;
    Ok(([(header::CONTENT_TYPE, JSON)], text + "\n").into_response())
}

/// A stream, each message on a line of its own; a failure is the last line, as `{"error": …}`.
fn lines(shared: &Shared, method: &Method, response: Response) -> Result<Response, Failure> {
    check(response.headers())?;
    let state = Some((
        shared.clone(),
        method.clone(),
        response.into_body(),
        BytesMut::new(),
    ));
    let lines = stream::unfold(state, |state| async move {
        let (shared, method, mut body, mut seen) = state?;
        loop {
            if let Some(message) = take_frame(&mut seen) {
                return Some(match json::message_to_json(&method.output(), &message) {
                    Ok(line) => (line + "\n", Some((shared, method, body, seen))),
                    Err(refusal) => (
                        error_line(&shared, &status::broken("not writable as JSON", &refusal)),
                        None,
                    ),
                });
            }
            let failure = match body.frame().await? {
                Err(error) => status::broken("the stream broke off", &error),
                Ok(frame) => match frame.into_data() {
                    Ok(data) => {
                        seen.extend_from_slice(&data);
                        continue;
                    }
                    Err(frame) => Status::from_header_map(frame.trailers_ref()?)?,
                },
            };
            return (failure.code() != Code::Ok).then(|| (error_line(&shared, &failure), None));
        }
    });
    let body = Body::from_stream(futures_util::StreamExt::map(lines, Ok::<_, Infallible>));
    Ok(([(header::CONTENT_TYPE, JSON_LINES)], body).into_response())
}

fn take_frame(seen: &mut BytesMut) -> Option<Bytes> {
    let length = usize::try_from(seen.get(1..FRAME_HEADER)?.get_u32()).ok()?;
    if seen.len() < FRAME_HEADER + length {
        return None;
    }
    seen.advance(FRAME_HEADER);
    Some(seen.split_to(length).freeze())
}

fn error_line(shared: &Shared, status: &Status) -> String {
    format!("{{\"error\":{}}}\n", shared.contract.failure_json(status))
}

/// A failure on its way to the caller.
struct Failure {
    code: StatusCode,
    status: Status,
    /// Already told by the call that was made; what failed at this door is told here.
    told: bool,
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self {
            code: status::http_status(status.code()),
            status,
            told: true,
        }
    }
}

impl Failure {
    #[allow(clippy::needless_pass_by_value, reason = "for map_err")]
    fn refused(refusal: Refusal) -> Self {
        Self {
            told: false,
            ..Self::from(status::refused(&refusal))
        }
    }

    /// A failure of HTTP, which has more codes than gRPC.
    fn http(code: StatusCode, field: &str, value: impl std::fmt::Display, rule: &str) -> Self {
        let refusal = Refusal::new(refusal::Code::Malformed, field, value, rule);
        Self {
            code,
            ..Self::refused(refusal)
        }
    }

    fn not_found(path: &str) -> Self {
        Self {
            code: StatusCode::NOT_FOUND,
            told: false,
            ..Self::from(status::unimplemented(path))
        }
    }

    fn response(self, shared: &Shared, path: &str) -> Response {
        if !self.told {
            let code = self.code.as_u16();
            shared.metrics.turned_away(
                shared.contract.method(path).map(|method| method.name()),
                self.status.code(),
            );
            tracing::info!(path = %status::escaped(path), code, error = %status::escaped(self.status.message()), "JSON call refused");
        }
        let body = shared.contract.failure_json(&self.status) + "\n";
        let mut response = (self.code, [(header::CONTENT_TYPE, JSON)], body).into_response();
        if self.code == StatusCode::METHOD_NOT_ALLOWED {
            response
                .headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static("POST"));
        }
        response
    }
}

/// A failure of a call that was not let in.
pub(crate) fn failed(shared: &Shared, status: &Status) -> Response {
    let body = shared.contract.failure_json(status) + "\n";
    let code = status::http_status(status.code());
    (code, [(header::CONTENT_TYPE, JSON)], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_of_the_address_that_it_calls() {
        for (origin, host, own) in [
            ("https://ledger.acme.dev", "ledger.acme.dev", true),
            ("https://ledger.acme.dev:8420", "ledger.acme.dev:8420", true),
            ("https://ledger.acme.dev", "ledger.acme.dev:8420", false),
            ("https://evil.example", "ledger.acme.dev", false),
            ("null", "null", false),
            ("", "", false),
        ] {
            assert_eq!(is_of_host(origin, host), own, "{origin} {host}");
        }
    }

    #[test]
    fn only_pages_of_this_machine_may_call() {
        for (origin, local) in [
            ("http://localhost:8420", true),
            ("http://127.0.0.1:3000", true),
            ("http://[::1]:8420", true),
            ("http://rebound.example:8420", false),
            ("http://localhost.example", false),
            ("null", false),
            ("", true),
        ] {
            assert_eq!(is_local(origin), local, "{origin}");
        }
    }

    #[test]
    fn frames_are_taken_whole() {
        let mut seen = BytesMut::from(&framed(b"abc")[..]);
        seen.extend_from_slice(&[0, 0, 0]);
        assert_eq!(take_frame(&mut seen).as_deref(), Some(&b"abc"[..]));
        assert_eq!(take_frame(&mut seen), None);
        seen.extend_from_slice(&[0, 0]);
        assert_eq!(take_frame(&mut seen).as_deref(), Some(&b""[..]));
    }
}
