//! What goes wrong, in the words of gRPC and HTTP. The only file that maps one to the other.
//!
//! A caller can do three things: mend the request (`INVALID_ARGUMENT`, `OUT_OF_RANGE`, `NOT_FOUND`, …, with the field
//! where there is one), try again (`RESOURCE_EXHAUSTED`, `UNAVAILABLE`, with a delay where one is known), or wake
//! someone (`INTERNAL`, `DATA_LOSS`). Every status carries `google.rpc.ErrorInfo`.
use std::{collections::HashMap, error::Error, time::Duration};

use http::{HeaderMap, HeaderValue, StatusCode};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use waybill_core::{
    Identity, Refusal,
    refusal::{Code as Rule, is_unsafe_in_text, shown},
};
use waybill_ledger::{Entry, ReadFailure, Rejection, stream::BrokerFault};
use waybill_views::trace::Resolution;

use crate::access::{Access, Role};

/// The domain of every `ErrorInfo.reason`.
pub const DOMAIN: &str = "waybill.dev";

/// What a caller is told to wait where nothing better is known.
const RETRY_SOON: Duration = Duration::from_millis(200);
/// What a caller is told to wait for something that takes its time: a rebuild, a full disk, a restart.
const RETRY_LATER: Duration = Duration::from_secs(1);

/// The request breaks a rule.
pub(crate) fn refused(refusal: &Refusal) -> Status {
    let code = match refusal.code {
        Rule::Conflict => Code::AlreadyExists,
        Rule::NotAllowed => Code::PermissionDenied,
        _ => Code::InvalidArgument,
    };
    refused_as(code, refusal)
}

/// The ledger did not take the batch.
pub(crate) fn rejected(rejection: &Rejection) -> Status {
    match rejection {
        Rejection::Refused(refusal) => refused(refusal),
        Rejection::Busy { retry_after, .. } => {
            let failure = Failure::new(Code::ResourceExhausted, "BUSY", rejection);
            failure.retry_after(*retry_after).status()
        }
        Rejection::NotWriting { may_recover, .. } => {
            let failure = Failure::new(Code::Unavailable, "NOT_WRITING", rejection)
                .with("may_recover", may_recover);
            if *may_recover {
                failure.retry_after(RETRY_LATER).status()
            } else {
                failure.status()
            }
        }
    }
}

/// A decision does not fit the state that the ledger is in.
pub(crate) fn unfit(refusal: &Refusal) -> Status {
    let code = match refusal.code {
        Rule::Contradiction => Code::FailedPrecondition,
        _ => Code::InvalidArgument,
    };
    refused_as(code, refusal)
}

/// The broker did not do what was asked.
pub(crate) fn broker(fault: &BrokerFault) -> Status {
    match fault {
        BrokerFault::Away(_) => Failure::new(Code::Unavailable, "BROKER_AWAY", fault)
            .retry_after(RETRY_LATER)
            .status(),
        BrokerFault::Refused(_) => {
            Failure::new(Code::FailedPrecondition, "BROKER_REFUSED", fault).status()
        }
    }
}

/// There is no such event, and a message under its identity was refused.
pub(crate) fn refused_leaf(identity: &Identity, entry: &Entry) -> Status {
    let position = entry.record.position;
    let why = entry.refusal.as_ref().map(ToString::to_string);
    let message = format!(
        "event `{}` of source `{}` is not recorded: the message at position {position} was refused: {}",
        shown(&identity.id),
        shown(&identity.source),
        why.unwrap_or_default()
    );
    Failure::new(Code::NotFound, "REFUSED", message)
        .with("position", position)
        .status()
}

/// A read has no answer.
pub(crate) fn unread(failure: &ReadFailure) -> Status {
    match failure {
        ReadFailure::NotFound { what } => Failure::new(Code::NotFound, "NOT_FOUND", failure)
            .with("what", what)
            .status(),
        // Beyond the head is not wrong for ever: the head moves (AIP-193, code OUT_OF_RANGE).
        ReadFailure::Refused(refusal) if refusal.code == Rule::OutOfRange => {
            refused_as(Code::OutOfRange, refusal)
        }
        ReadFailure::Refused(refusal) => refused(refusal),
        ReadFailure::NotYet { wanted, have } => Failure::new(Code::Unavailable, "NOT_YET", failure)
            .with("wanted_position", wanted)
            .with("reached_position", have)
            .retry_after(RETRY_SOON)
            .status(),
        ReadFailure::Rebuilding { done, total } => {
            Failure::new(Code::Unavailable, "REBUILDING", failure)
                .with("done", done)
                .with("total", total)
                .retry_after(RETRY_LATER)
                .status()
        }
        ReadFailure::Damaged(_) => Failure::new(Code::DataLoss, "DAMAGED", chain(failure)).status(),
        ReadFailure::Fault(_) => Failure::new(Code::Internal, "FAULT", chain(failure)).status(),
    }
}

/// What a question is about is not known, or not one thing.
///
/// A resolution that was found is no failure and has no status.
pub(crate) fn unresolved(
    reference: &str,
    position: u64,
    resolution: &Resolution,
) -> Option<Status> {
    let reference = shown(reference);
    let failure = match resolution {
        Resolution::Found(_) => return None,
        Resolution::NotFound { text, remedy } => {
            let message = format!("ref is `{reference}`: {text}; {remedy}");
            Failure::new(Code::NotFound, "NOT_FOUND", message).with("hint", remedy)
        }
        Resolution::Ambiguous { candidates, count } => {
            let names: Vec<&str> = candidates
                .iter()
                .map(|candidate| candidate.entity.as_str())
                .collect();
            let description = format!(
                "is `{reference}`, which is the name of {count} things: {}",
                names.join(", ")
            );
            Failure::new(
                Code::InvalidArgument,
                "AMBIGUOUS",
                format!("ref {description}; give the full name of one"),
            )
            .with("candidates", names.join("\n"))
            .with("count", count)
            .field("ref", &description)
        }
    };
    Some(
        failure
            .with("ref", reference)
            .with("position", position)
            .status(),
    )
}

/// The answer took longer than the caller's deadline.
pub(crate) fn deadline_exceeded() -> Status {
    let message = "the deadline passed before the answer was ready; what was sent may be recorded: sending it again is safe";
    Failure::new(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", message).status()
}

/// Too many of something at once.
pub(crate) fn too_many(what: &str, max: usize) -> Status {
    let message = format!("busy: {max} {what} are open, which is the limit");
    Failure::new(Code::ResourceExhausted, "BUSY", &message)
        .with("limit", max)
        .retry_after(RETRY_SOON)
        .status()
}

/// The call needs a token, and there is none that counts: which it lacks is told to nobody.
pub(crate) fn unauthenticated() -> Status {
    let message = "this call needs a token of this server that has neither ended nor been revoked; send \
                   `authorization: Bearer TOKEN`";
    Failure::new(Code::Unauthenticated, "UNAUTHENTICATED", message).status()
}

/// An address has sent too much that is no token.
pub(crate) fn too_many_failures(wait: Duration) -> Status {
    let message =
        "too many calls from this address had no token that counts; wait, and check the token";
    Failure::new(Code::ResourceExhausted, "TOO_MANY_FAILURES", message)
        .retry_after(wait)
        .status()
}

/// The caller is known, and its role is not enough.
pub(crate) fn forbidden(role: Role, access: Access) -> Status {
    let enough: Vec<&str> = Role::ALL
        .into_iter()
        .filter(|role| access.allows(*role))
        .map(Role::as_str)
        .collect();
    let message = format!(
        "the token's role is `{}`, and this call needs {}",
        role.as_str(),
        enough.join(" or ")
    );
    Failure::new(Code::PermissionDenied, Rule::NotAllowed.as_str(), message).status()
}

/// The caller's token ended while its call was under way.
pub(crate) fn token_ended() -> Status {
    let message =
        "the token of this call has ended or been revoked; what has a receipt is recorded";
    Failure::new(Code::Unauthenticated, "UNAUTHENTICATED", message).status()
}

/// The caller has left its answer unread for too long.
pub(crate) fn unread_answer(patience: Duration) -> Status {
    let message = format!(
        "the answer was not read for {} s, and was ended; connect again and go on from where this ended",
        patience.as_secs_f32()
    );
    Failure::new(Code::Unavailable, "NOT_READ", message)
        .retry_after(RETRY_SOON)
        .status()
}

/// When a caller may try again, where it is known.
pub(crate) fn retry_delay(status: &Status) -> Option<Duration> {
    status.get_details_retry_info()?.retry_delay
}

/// The server is stopping.
pub(crate) fn draining() -> Status {
    let message = "the server is stopping; connect again and go on from where this ended";
    Failure::new(Code::Unavailable, "DRAINING", message)
        .retry_after(RETRY_LATER)
        .status()
}

/// Nothing is served at this path.
pub(crate) fn unimplemented(path: &str) -> Status {
    let message = format!(
        "`{}` is not a method of this server; reflection lists those that are",
        shown(path)
    );
    Failure::new(Code::Unimplemented, "UNKNOWN_METHOD", &message).status()
}

/// Something inside broke that nothing should break.
pub(crate) fn broken(what: &str, error: &dyn Error) -> Status {
    Failure::new(Code::Internal, "FAULT", format!("{what}: {}", chain(error))).status()
}

/// Gives a status that a library made its reason, and the code that tells the caller what to do.
///
/// tonic calls a message that is too large `OUT_OF_RANGE`, and one that cannot be decoded `INTERNAL`.
pub(crate) fn complete(status: Status) -> Status {
    if !status.details().is_empty() {
        return status;
    }
    let message = status.message();
    let (code, reason) = match status.code() {
        Code::OutOfRange if message.contains("message length too large") => {
            (Code::InvalidArgument, "TOO_LARGE")
        }
        Code::Internal if is_undecodable(message) => (Code::InvalidArgument, "UNDECODABLE"),
        Code::Unimplemented if message.contains("compress") => (Code::Unimplemented, "COMPRESSION"),
        Code::Unimplemented => (Code::Unimplemented, "UNKNOWN_METHOD"),
        Code::Cancelled => (Code::Cancelled, "CANCELLED"),
        Code::NotFound => (Code::NotFound, "NOT_FOUND"),
        code => (code, "TRANSPORT"),
    };
    let failure = Failure::new(code, reason, message);
    if code == Code::InvalidArgument {
        failure.field("", message).status()
    } else {
        failure.status()
    }
}

/// A failure as gRPC says it at the end of an answer.
pub(crate) fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // Fails only for a message that no header can hold; the code then stands alone.
    if status.add_header(&mut trailers).is_err() {
        trailers.insert(Status::GRPC_STATUS, HeaderValue::from(status.code() as i32));
    }
    trailers
}

/// The HTTP status of a gRPC code (google/rpc/code.proto).
pub(crate) fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// An error and all that caused it, on one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Text that cannot change how a terminal or a log reads it.
pub(crate) fn escaped(text: &str) -> String {
    let escape = |c: char| {
        if is_unsafe_in_text(c) {
            c.escape_unicode().to_string()
        } else {
            c.to_string()
        }
    };
    text.chars().map(escape).collect()
}

fn refused_as(code: Code, refusal: &Refusal) -> Status {
    let hint = if refusal.hint.is_empty() {
        String::new()
    } else {
        format!("; {}", refusal.hint)
    };
    let description = if refusal.field.is_empty() {
        refusal.to_string()
    } else {
        format!("is `{}`, {}", refusal.value, refusal.rule)
    };
    Failure::new(code, refusal.code.as_str(), format!("{refusal}{hint}"))
        .with("field", &refusal.field)
        .with("value", &refusal.value)
        .with("rule", &refusal.rule)
        .with("hint", &refusal.hint)
        .field(&refusal.field, &description)
        .status()
}

fn is_undecodable(message: &str) -> bool {
    [
        "decode",
        "Unexpected EOF",
        "invalid compression flag",
        "Missing request message",
    ]
    .iter()
    .any(|mark| message.contains(mark))
}

/// A status while its details are put together.
struct Failure {
    code: Code,
    reason: &'static str,
    message: String,
    metadata: HashMap<String, String>,
    details: ErrorDetails,
}

impl Failure {
    fn new(code: Code, reason: &'static str, message: impl ToString) -> Self {
        let (metadata, details) = (HashMap::new(), ErrorDetails::new());
        Self {
            code,
            reason,
            message: escaped(&message.to_string()),
            metadata,
            details,
        }
    }

    fn with(mut self, key: &str, value: impl ToString) -> Self {
        let value = value.to_string();
        if !value.is_empty() {
            self.metadata.insert(key.to_owned(), value);
        }
        self
    }

    fn field(mut self, field: &str, description: &str) -> Self {
        self.details.add_bad_request_violation(field, description);
        self
    }

    fn retry_after(mut self, delay: Duration) -> Self {
        self.details.set_retry_info(Some(delay));
        self
    }

    fn status(mut self) -> Status {
        self.details
            .set_error_info(self.reason, DOMAIN, self.metadata);
        Status::with_error_details(self.code, self.message, self.details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_field_value_rule_and_hint() {
        let refusal = Refusal::new(
            Rule::Malformed,
            "events[1].id",
            "a\nb",
            "no control characters",
        )
        .with_hint("escape it");
        let status = refused(&refusal);
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(
            status.message(),
            "events[1].id is `a\\u{a}b`, no control characters; escape it"
        );
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            ("MALFORMED", DOMAIN)
        );
        assert_eq!(info.metadata["hint"], "escape it");
        assert_eq!(
            details.bad_request().unwrap().field_violations[0].field,
            "events[1].id"
        );
    }

    #[test]
    fn what_callers_sent_cannot_change_how_it_is_read() {
        assert_eq!(escaped("a\nb\u{202e}c"), "a\\u{a}b\\u{202e}c");
        let what = "event `\u{1b}[2J`".to_owned();
        assert!(
            !unread(&ReadFailure::NotFound { what })
                .message()
                .contains('\u{1b}')
        );
    }

    #[test]
    fn what_can_be_tried_again_says_when() {
        let busy = rejected(&Rejection::Busy {
            why: "full".to_owned(),
            retry_after: Duration::from_millis(70),
        });
        assert_eq!(busy.code(), Code::ResourceExhausted);
        assert_eq!(
            busy.get_details_retry_info().unwrap().retry_delay,
            Some(Duration::from_millis(70))
        );
        let behind = unread(&ReadFailure::NotYet { wanted: 9, have: 4 });
        assert_eq!(behind.code(), Code::Unavailable);
        let info = behind.get_details_error_info().unwrap();
        assert_eq!(
            (
                &*info.metadata["wanted_position"],
                &*info.metadata["reached_position"]
            ),
            ("9", "4")
        );
        let closed = rejected(&Rejection::NotWriting {
            why: "damage".to_owned(),
            may_recover: false,
        });
        assert_eq!(closed.code(), Code::Unavailable);
        assert!(closed.get_details_retry_info().is_none());
    }

    #[test]
    fn a_status_of_the_library_gets_a_reason() {
        for (status, code, reason) in [
            (
                Status::out_of_range("Error, decoded message length too large: found 9"),
                Code::InvalidArgument,
                "TOO_LARGE",
            ),
            (
                Status::internal("failed to decode Protobuf message: x"),
                Code::InvalidArgument,
                "UNDECODABLE",
            ),
            (
                Status::internal("Unexpected EOF decoding stream."),
                Code::InvalidArgument,
                "UNDECODABLE",
            ),
            (
                Status::unimplemented(""),
                Code::Unimplemented,
                "UNKNOWN_METHOD",
            ),
            (
                Status::unknown("h2 protocol error"),
                Code::Unknown,
                "TRANSPORT",
            ),
        ] {
            let completed = complete(status);
            assert_eq!(completed.code(), code);
            assert_eq!(completed.get_details_error_info().unwrap().reason, reason);
        }
    }
}
