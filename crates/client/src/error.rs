//! What can go wrong, by what a caller can do about it.
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use waybill_proto::pb;

/// The domain of the ledger's own `google.rpc.ErrorInfo`.
const DOMAIN: &str = "waybill.dev";

/// Why a call has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Mend the request: sent again unchanged, it is refused again.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// There is no such thing in the ledger, as far as it was read.
    #[error("not found: {what}")]
    NotFound {
        /// What was asked for.
        what: String,
    },
    /// Try again later: the ledger could not be reached, or was busy, for as long as the caller would wait. An event may
    /// or may not be recorded; sending the same event again is safe.
    #[error("gave up after {tries} tries in {waited:.1?}: {last}")]
    Unavailable {
        /// Tries made.
        tries: u32,
        /// Time spent.
        waited: Duration,
        /// What the last try ended with.
        last: String,
    },
    /// Get another token, or more rights for this one: the ledger does not know the caller, or does not let it do this. It
    /// did not look at what was sent, so nothing is wrong with that: keep it.
    #[error("the ledger does not let this caller in: {said}")]
    NotAllowed {
        /// What it said; never the token.
        said: String,
    },
    /// Wake someone: the other side is broken, or is not a ledger.
    #[error("the ledger failed: {0}")]
    Failed(String),
}

/// Why an event or a question is refused.
#[derive(Clone, Debug, Default, PartialEq, thiserror::Error)]
pub struct Refusal {
    /// A fixed word: `MISSING`, `OUT_OF_RANGE`, `CONFLICT`, …
    pub code: String,
    /// Path of the field; may be empty.
    pub field: String,
    /// The value, shortened.
    pub value: String,
    /// The rule that it breaks.
    pub rule: String,
    /// What to do next; may be empty.
    pub hint: String,
    /// The event that stands, for a conflict.
    pub recorded: Option<pb::EventRef>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.field.as_str(), self.value.as_str()) {
            ("", "") => {}
            ("", value) => write!(f, "`{value}`: ")?,
            (field, value) => write!(f, "{field} is `{value}`, ")?,
        }
        f.write_str(if self.rule.is_empty() {
            &self.code
        } else {
            &self.rule
        })?;
        if self.hint.is_empty() {
            Ok(())
        } else {
            write!(f, "; {}", self.hint)
        }
    }
}

impl From<pb::Refusal> for Refusal {
    fn from(wire: pb::Refusal) -> Self {
        let pb::Refusal {
            code,
            field,
            value,
            rule,
            hint,
            recorded,
        } = wire;
        Self {
            code,
            field,
            value,
            rule,
            hint,
            recorded,
        }
    }
}

impl From<Refusal> for pb::Refusal {
    fn from(refusal: Refusal) -> Self {
        let Refusal {
            code,
            field,
            value,
            rule,
            hint,
            recorded,
        } = refusal;
        Self {
            code,
            field,
            value,
            rule,
            hint,
            recorded,
        }
    }
}

impl From<waybill_core::Refusal> for Refusal {
    fn from(refusal: waybill_core::Refusal) -> Self {
        let waybill_core::Refusal {
            code,
            field,
            value,
            rule,
            hint,
        } = refusal;
        Self {
            code: code.as_str().to_owned(),
            field,
            value,
            rule,
            hint,
            recorded: None,
        }
    }
}

/// What a status asks of the caller.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Try again, not before this time has passed where one is named.
    Again(Option<Duration>),
    /// Trying again changes nothing.
    Final(Error),
}

/// Judges a status. All our calls may be repeated: an event is recorded once however often it is sent.
pub(crate) fn judge(status: &Status) -> Verdict {
    let details = status.get_error_details();
    let refusal = || Verdict::Final(Error::Refused(Box::new(refusal(status, &details))));
    match status.code() {
        Code::Unavailable
        | Code::ResourceExhausted
        | Code::DeadlineExceeded
        | Code::Aborted
        // What tonic makes of a connection that breaks under a call.
        | Code::Cancelled
        | Code::Unknown => Verdict::Again(details.retry_info().and_then(|info| info.retry_delay)),
        Code::NotFound => Verdict::Final(Error::NotFound { what: status.message().to_owned() }),
        // Also where a proxy says it for the ledger.
        Code::Unauthenticated | Code::PermissionDenied => {
            Verdict::Final(Error::NotAllowed { said: said(status, &details) })
        }
        Code::InvalidArgument | Code::OutOfRange | Code::AlreadyExists
            if is_ours(&details) => refusal(),
        _ => Verdict::Final(Error::Failed(shown(status))),
    }
}

/// What the ledger says of a caller that it turns away, with its hint.
fn said(status: &Status, details: &ErrorDetails) -> String {
    let hint = details
        .error_info()
        .and_then(|info| info.metadata.get("hint"))
        .filter(|hint| !status.message().contains(*hint));
    match (status.message(), hint) {
        ("", None) => format!("{:?}", status.code()),
        (message, None) => message.to_owned(),
        (message, Some(hint)) => format!("{message}; {hint}"),
    }
}

/// Whether the ledger said it, and not something on the way.
fn is_ours(details: &ErrorDetails) -> bool {
    details
        .error_info()
        .is_some_and(|info| info.domain == DOMAIN)
}

fn refusal(status: &Status, details: &ErrorDetails) -> Refusal {
    let info = details.error_info();
    let word = |key: &str| {
        info.and_then(|info| info.metadata.get(key))
            .cloned()
            .unwrap_or_default()
    };
    let rule = match word("rule") {
        rule if rule.is_empty() => status.message().to_owned(),
        rule => rule,
    };
    Refusal {
        code: info.map(|info| info.reason.clone()).unwrap_or_default(),
        field: word("field"),
        value: word("value"),
        rule,
        hint: word("hint"),
        recorded: None,
    }
}

/// A status on one line, with what caused it.
pub(crate) fn shown(status: &Status) -> String {
    let mut text = format!("{:?}: {}", status.code(), status.message());
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}

/// Remembers for a while that the ledger turned a client away. An outbox that is drained every second would otherwise
/// knock with an expired token every second, which helps nobody and looks like guessing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bar(Arc<Mutex<Option<(Instant, String)>>>);

/// So long is not very long for whoever has just mended a token's rights.
const BAR: Duration = Duration::from_secs(30);

impl Bar {
    /// The error of the last call, while it is too early for another.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((until, said)) if Instant::now() < *until => Err(Error::NotAllowed {
                said: format!(
                    "{said} (not asked again for another {:.0?})",
                    *until - Instant::now()
                ),
            }),
            _ => Ok(()),
        }
    }

    /// Takes note of how a call ended.
    pub(crate) fn note<T>(&self, result: &Result<T, Error>) {
        let barred = match result {
            Err(Error::NotAllowed { said }) => Some((Instant::now() + BAR, said.clone())),
            _ => None,
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = barred;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn ours(code: Code, reason: &str, metadata: &[(&str, &str)], delay: Option<u64>) -> Status {
        let metadata = metadata
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()));
        let mut details = ErrorDetails::new();
        details.set_error_info(reason, DOMAIN, metadata.collect::<HashMap<_, _>>());
        if let Some(delay) = delay {
            details.set_retry_info(Some(Duration::from_millis(delay)));
        }
        Status::with_error_details(code, "words", details)
    }

    #[test]
    fn busy_and_away_are_tried_again_with_the_delay_that_was_asked_for() {
        let busy = judge(&ours(Code::ResourceExhausted, "BUSY", &[], Some(70)));
        assert!(
            matches!(busy, Verdict::Again(Some(delay)) if delay.as_millis() == 70),
            "{busy:?}"
        );
        for code in [
            Code::Unavailable,
            Code::DeadlineExceeded,
            Code::Cancelled,
            Code::Unknown,
        ] {
            assert!(
                matches!(judge(&Status::new(code, "")), Verdict::Again(None)),
                "{code:?}"
            );
        }
    }

    #[test]
    fn a_refusal_of_the_ledger_names_field_value_rule_and_hint() {
        let told = [
            ("field", "events"),
            ("value", "1001"),
            ("rule", "too many"),
            ("hint", "split"),
        ];
        let Verdict::Final(error) = judge(&ours(Code::InvalidArgument, "TOO_LARGE", &told, None))
        else {
            panic!("a refusal is final");
        };
        assert_eq!(error.to_string(), "events is `1001`, too many; split");
    }

    #[test]
    fn what_stands_between_us_and_the_ledger_refuses_nothing() {
        for code in [Code::InvalidArgument, Code::Unimplemented, Code::DataLoss] {
            let verdict = judge(&Status::new(code, "proxy"));
            assert!(
                matches!(verdict, Verdict::Final(Error::Failed(_))),
                "{code:?}"
            );
        }
        assert!(matches!(
            judge(&Status::not_found("d-1")),
            Verdict::Final(Error::NotFound { .. })
        ));
    }

    #[test]
    fn a_caller_that_is_turned_away_is_no_refusal_of_what_it_sent() {
        let told = [("hint", "ask for a new token")];
        let expired = ours(Code::Unauthenticated, "NOT_ALLOWED", &told, None);
        let Verdict::Final(error) = judge(&expired) else {
            panic!("trying again at once changes nothing");
        };
        let expected = "the ledger does not let this caller in: words; ask for a new token";
        assert_eq!(error.to_string(), expected);
        for status in [
            ours(Code::PermissionDenied, "NOT_ALLOWED", &[], None),
            Status::new(Code::PermissionDenied, "proxy"),
            Status::new(Code::Unauthenticated, ""),
        ] {
            let verdict = judge(&status);
            let kept = matches!(verdict, Verdict::Final(Error::NotAllowed { .. }));
            assert!(kept, "{verdict:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_turned_away_asks_again_after_a_while() {
        let bar = Bar::default();
        bar.note::<()>(&Err(Error::NotAllowed {
            said: "expired".into(),
        }));
        let told = bar.check().unwrap_err().to_string();
        assert!(
            told.contains("expired (not asked again for another 30s)"),
            "{told}"
        );
        tokio::time::advance(BAR).await;
        assert!(bar.check().is_ok());
        bar.note(&Ok(()));
        assert!(bar.check().is_ok());
    }
}
