//! The connection to one ledger.
use std::time::Duration;

use tonic::Status;

use crate::{
    ask::Reader,
    carrier::Carrier,
    connect::{Connect, ConnectError},
    emitter::Emitter,
    error::{Bar, Error},
    retry::Retry,
};

/// Where a ledger listens when nothing else is said.
pub const DEFAULT_URL: &str = "http://127.0.0.1:8420";

/// A ledger, reached over one connection that is made when it is first used and made again when it breaks. Cheap to
/// clone; clones share the connection.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) carrier: Carrier,
    pub(crate) retry: Retry,
    /// Whether the ledger turned this client away a moment ago.
    pub(crate) bar: Bar,
}

impl Client {
    /// Prepares to reach the ledger at an address, such as [`DEFAULT_URL`], without a token. Does not connect yet.
    ///
    /// # Errors
    /// [`ConnectError`] for what is no address, and outside a tokio runtime.
    pub fn connect(url: &str) -> Result<Self, ConnectError> {
        Connect::to(url).client()
    }

    pub(crate) fn new(carrier: Carrier) -> Self {
        Self {
            carrier,
            retry: Retry::default(),
            bar: Bar::default(),
        }
    }

    /// Tries until there is an answer, as [`Retry::run`], and once more where a token is not accepted and its file holds
    /// another one by now.
    pub(crate) async fn run<T>(
        &self,
        within: Duration,
        mut attempt: impl AsyncFnMut(Duration) -> Result<T, Status>,
    ) -> Result<T, Error> {
        match self.retry.run(within, &mut attempt).await {
            Err(Error::NotAllowed { .. }) if self.carrier.renew() => {
                self.retry.run(within, attempt).await
            }
            answer => answer,
        }
    }

    /// Changes when it tries again.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Emits as `source`: a URI reference that names who speaks, such as `//ci.example.com/shop`.
    #[must_use]
    pub fn emitter(&self, source: impl Into<String>) -> Emitter {
        Emitter::new(self.clone(), source.into())
    }

    /// Asks.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_that_it_needs_a_runtime() {
        assert_eq!(
            Client::connect(DEFAULT_URL).unwrap_err(),
            ConnectError::NoRuntime
        );
    }
}
