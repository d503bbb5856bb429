//! How a command ends: the exit code, what is said on stderr, and what to do next.
use std::{error::Error, fmt, io};

use tonic_types::StatusExt as _;
use waybill_core::Refusal;

/// The table that `--help` and README.md show.
pub(crate) const TABLE: &str = "\
Exit codes:
    0  ok
    1  unexpected failure
    2  usage: an argument, a file or a setting is wrong
    3  not found
    4  the server does not know the caller (no token, or none that it accepts), or does not allow it
    5  the server cannot be reached, or the deadline passed
    6  an event was rejected
    8  pending: the answer is not ready yet
   12  verify or doctor found a failure
  130  interrupted
`waybill run` exits with the code of its command.";

/// What a script can branch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Something that no other code names.
    Unexpected = 1,
    /// The person's request breaks a rule.
    Usage = 2,
    /// There is no such thing.
    NotFound = 3,
    /// The server knows the caller and says no, or does not know the caller.
    Auth = 4,
    /// No answer in time.
    Unreachable = 5,
    /// At least one event was refused.
    Rejected = 6,
    /// An answer exists and is not ready.
    Pending = 8,
    /// A check failed.
    FoundFail = 12,
    /// Ctrl-C.
    Interrupted = 130,
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    /// Empty where everything has been said already.
    message: String,
    /// What to do next, on a line of its own.
    hint: String,
    /// Nobody reads our output any more: say nothing.
    quiet: bool,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            hint: String::new(),
            quiet: false,
        }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    pub(crate) fn unexpected(message: impl Into<String>) -> Self {
        Self::new(Exit::Unexpected, message)
    }

    /// The command has said what is wrong; only the code is left.
    pub(crate) fn said(exit: Exit) -> Self {
        Self {
            quiet: true,
            ..Self::new(exit, "")
        }
    }

    /// Adds what to do next.
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Puts what was being done in front.
    pub(crate) fn while_(mut self, doing: impl fmt::Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }

    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    pub(crate) fn hint(&self) -> &str {
        &self.hint
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// The exit code as the system takes it.
    pub(crate) fn code(&self) -> u8 {
        // A reader that went away (`waybill log | head`) is no failure of ours.
        if self.quiet && self.exit == Exit::Unexpected {
            0
        } else {
            self.exit as u8
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Text of an error and of everything below it.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let part = error.to_string();
        if !text.ends_with(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        next = error.source();
    }
    text
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::said(Exit::Unexpected);
        }
        Self::unexpected(chain(&error))
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::usage(refusal.to_string()).with_hint(refusal.hint)
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        use tonic::Code;
        let exit = match status.code() {
            Code::NotFound => Exit::NotFound,
            Code::Unauthenticated | Code::PermissionDenied => Exit::Auth,
            Code::Unavailable if is_rebuilding(&status) => Exit::Pending,
            Code::Unavailable
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Cancelled => Exit::Unreachable,
            Code::InvalidArgument | Code::OutOfRange => Exit::Usage,
            _ => Exit::Unexpected,
        };
        let hint = hint_of(&status);
        Self::new(exit, message_of(&status)).with_hint(hint)
    }
}

/// The answer exists and is being built again from what is recorded.
fn is_rebuilding(status: &tonic::Status) -> bool {
    status
        .get_details_error_info()
        .is_some_and(|info| info.reason == "REBUILDING")
}

/// The message, and every field that the server names.
fn message_of(status: &tonic::Status) -> String {
    let mut text = match status.message() {
        "" => format!("the server answered {:?}", status.code()),
        message => message.to_owned(),
    };
    if let Some(bad) = status.get_error_details().bad_request() {
        for violation in &bad.field_violations {
            if !text.contains(&violation.description) {
                text.push_str(&format!(
                    "\n  {}: {}",
                    violation.field, violation.description
                ));
            }
        }
    }
    if let Some(source) = Error::source(status) {
        let below = chain(source);
        if !text.contains(&below) {
            text.push_str(&format!(": {below}"));
        }
    }
    text
}

fn hint_of(status: &tonic::Status) -> String {
    let details = status.get_error_details();
    if let Some(delay) = details.retry_info().and_then(|info| info.retry_delay) {
        return format!("try again in {} ms", delay.as_millis().max(1));
    }
    if let Some(hint) = details
        .error_info()
        .and_then(|info| info.metadata.get("hint"))
    {
        // The server says its hint in the message too, for those who read only that.
        return if status.message().contains(hint) {
            String::new()
        } else {
            hint.clone()
        };
    }
    match status.code() {
        tonic::Code::Unavailable => {
            "is a server running there? start one with `waybill serve`, or name a directory with --ledger DIR".to_owned()
        }
        tonic::Code::DeadlineExceeded => "give it longer with --timeout SECONDS".to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_stands_in_the_table() {
        let exits = [
            Exit::Unexpected,
            Exit::Usage,
            Exit::NotFound,
            Exit::Auth,
            Exit::Unreachable,
            Exit::Rejected,
            Exit::Pending,
            Exit::FoundFail,
            Exit::Interrupted,
        ];
        for exit in exits {
            let code = (exit as u8).to_string();
            assert!(
                TABLE
                    .lines()
                    .any(|line| line.trim_start().starts_with(&format!("{code}  "))),
                "{exit:?}"
            );
        }
    }

    #[test]
    fn a_status_becomes_the_code_that_a_script_can_use() {
        let code = |status: tonic::Status| Failure::from(status).code();
        assert_eq!(code(tonic::Status::not_found("no")), 3);
        assert_eq!(code(tonic::Status::permission_denied("no")), 4);
        assert_eq!(code(tonic::Status::unauthenticated("who")), 4);
        assert_eq!(code(tonic::Status::unavailable("no")), 5);
        assert_eq!(code(tonic::Status::deadline_exceeded("late")), 5);
        assert_eq!(code(tonic::Status::invalid_argument("bad")), 2);
        assert_eq!(code(tonic::Status::data_loss("gone")), 1);
    }

    #[test]
    fn an_answer_that_is_being_rebuilt_is_pending() {
        let mut details = tonic_types::ErrorDetails::new();
        details.set_error_info(
            "REBUILDING",
            "waybill.dev",
            std::collections::HashMap::new(),
        );
        let status =
            tonic::Status::with_error_details(tonic::Code::Unavailable, "rebuilding", details);
        assert_eq!(Failure::from(status).code(), 8);
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(failure.is_quiet());
        assert_eq!(failure.code(), 0);
    }

    #[test]
    fn names_the_field_that_the_server_names() {
        let mut details = tonic_types::ErrorDetails::new();
        details.add_bad_request_violation("ref", "empty, a name is wanted");
        let status =
            tonic::Status::with_error_details(tonic::Code::InvalidArgument, "refused", details);
        assert_eq!(
            Failure::from(status).to_string(),
            "refused\n  ref: empty, a name is wanted"
        );
    }
}
