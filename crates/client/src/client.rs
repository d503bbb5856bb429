//! The connection to one ledger.
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

use crate::{ask::Reader, emitter::Emitter, retry::Retry};

/// Where a ledger listens when nothing else is said.
pub const DEFAULT_URL: &str = "http://127.0.0.1:8420";

/// A try to connect that takes longer has failed.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// While a call is open, a connection that has died without a word is noticed within about twice this time.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// A ledger, reached over one connection that is made when it is first used and made again when it breaks. Cheap to
/// clone; clones share the connection.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) channel: Channel,
    pub(crate) retry: Retry,
}

/// Why there can be no client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The address cannot be one of a ledger.
    #[error("`{url}` is not the address of a ledger: it must read `http://HOST:PORT`")]
    Address {
        /// What was given.
        url: String,
    },
    /// There is nothing to run on.
    #[error("a client needs a tokio runtime around it")]
    NoRuntime,
}

impl Client {
    /// Prepares to reach the ledger at an address, such as [`DEFAULT_URL`]. Does not connect yet.
    ///
    /// # Errors
    /// [`ConnectError`] for what is no `http://` address, and outside a tokio runtime.
    pub fn connect(url: &str) -> Result<Self, ConnectError> {
        let bad = || ConnectError::Address {
            url: waybill_core::refusal::shown(url),
        };
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| bad())?;
        if endpoint.uri().scheme_str() != Some("http") || endpoint.uri().host().is_none() {
            return Err(bad());
        }
        let endpoint = endpoint
            .user_agent(concat!("waybill-client/", env!("CARGO_PKG_VERSION")))
            .map_err(|_| bad())?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .tcp_nodelay(true);
        // The channel's worker is a task.
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(ConnectError::NoRuntime);
        }
        Ok(Self {
            channel: endpoint.connect_lazy(),
            retry: Retry::default(),
        })
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

    #[tokio::test]
    async fn takes_plain_http_addresses_only() {
        assert!(Client::connect(DEFAULT_URL).is_ok());
        assert!(Client::connect("http://[::1]:8420").is_ok());
        for url in [
            "",
            "127.0.0.1:8420",
            "https://127.0.0.1:8420",
            "/run/waybill",
            "http://",
        ] {
            let expected = ConnectError::Address {
                url: url.to_owned(),
            };
            assert_eq!(Client::connect(url).unwrap_err(), expected);
        }
    }

    #[test]
    fn says_that_it_needs_a_runtime() {
        assert_eq!(
            Client::connect(DEFAULT_URL).unwrap_err(),
            ConnectError::NoRuntime
        );
    }
}
