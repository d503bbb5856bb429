//! Which ledger is meant, whom it must prove to be, and what it is shown.
use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use http::Uri;
use tonic::transport::Endpoint;

use crate::{
    carrier::Carrier,
    client::Client,
    tls::{Secured, TrustError, bare},
    token::Token,
};

/// A try to connect that takes longer has failed.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// While a call is open, a connection that has died without a word is noticed within about twice this time.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// A ledger's address, with what a connection to it needs.
///
/// ```no_run
/// use waybill_client::{Connect, Token};
///
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Connect::to("https://ledger.acme.dev:8420")
///     .with_token(Token::from_file("/etc/shop/waybill-token")?)
///     .with_ca("/etc/acme/ca.pem")
///     .client()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Connect {
    url: String,
    token: Option<Token>,
    ca: Option<PathBuf>,
}

/// Why there can be no client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The address cannot be one of a ledger.
    #[error(
        "`{url}` is not the address of a ledger: it must read `https://HOST:PORT` or `http://HOST:PORT`"
    )]
    Address {
        /// What was given.
        url: String,
    },
    /// The token would be readable on the way.
    #[error(
        "token is set and url is `{url}`: a token goes over https, or over http to this machine itself, and nowhere else"
    )]
    TokenInClear {
        /// What was given.
        url: String,
    },
    /// A file of authorities was named, and nothing would be checked with it.
    #[error("ca is set and url is `{url}`: only over https does a server prove who it is")]
    CaInClear {
        /// What was given.
        url: String,
    },
    /// No certificate could be checked.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// There is nothing to run on.
    #[error("a client needs a tokio runtime around it")]
    NoRuntime,
}

impl Connect {
    /// The ledger at an address: `https://HOST:PORT`, or `http://HOST:PORT`.
    #[must_use]
    pub fn to(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            token: None,
            ca: None,
        }
    }

    /// Shows this token with every call.
    #[must_use]
    pub fn with_token(mut self, token: Token) -> Self {
        self.token = Some(token);
        self
    }

    /// Trusts the certificate authorities of this PEM file, and no others, instead of this machine's own.
    #[must_use]
    pub fn with_ca(mut self, path: impl AsRef<Path>) -> Self {
        self.ca = Some(path.as_ref().to_owned());
        self
    }

    /// A client. Does not connect yet.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn client(&self) -> Result<Client, ConnectError> {
        self.carrier().map(Client::new)
    }

    /// The bare connection, for whoever has generated clients of their own. Does not connect yet.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn carrier(&self) -> Result<Carrier, ConnectError> {
        let (uri, secured) = self.checked()?;
        // tonic looks at the scheme by itself where somebody compiles it with TLS of its own: ours does it, so it is told
        // of a plain connection, while the server is told of the address as it is.
        let inner = Uri::builder()
            .scheme("http")
            .authority(uri.authority().map_or("", |authority| authority.as_str()))
            .path_and_query("/")
            .build()
            .map_err(|_| self.bad_address())?;
        let endpoint = Endpoint::from(inner)
            .origin(uri)
            .user_agent(concat!("waybill-client/", env!("CARGO_PKG_VERSION")))
            .map_err(|_| self.bad_address())?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .tcp_nodelay(true);
        // The channel's worker is a task.
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(ConnectError::NoRuntime);
        }
        let channel = match secured {
            Some(secured) => endpoint.connect_with_connector_lazy(secured),
            None => endpoint.connect_lazy(),
        };
        Ok(Carrier::new(channel, self.token.clone()))
    }

    /// The address, and how it is secured.
    fn checked(&self) -> Result<(Uri, Option<Secured>), ConnectError> {
        let uri: Uri = self.url.parse().map_err(|_| self.bad_address())?;
        let host = bare(uri.host().unwrap_or_default());
        // What stands before an `@` would be a secret in a place that is shown.
        let plain_authority = uri.authority().is_some_and(|it| !it.as_str().contains('@'));
        let only_an_address = matches!(uri.path(), "" | "/") && uri.query().is_none();
        if host.is_empty() || !plain_authority || !only_an_address {
            return Err(self.bad_address());
        }
        let url = || self.shown();
        match uri.scheme_str() {
            Some("https") => {
                let secured = Secured::to(host, self.ca.as_deref());
                let secured = secured.ok_or_else(|| self.bad_address())??;
                Ok((uri, Some(secured)))
            }
            Some("http") if self.token.is_some() && !is_this_machine(host) => {
                Err(ConnectError::TokenInClear { url: url() })
            }
            Some("http") if self.ca.is_some() => Err(ConnectError::CaInClear { url: url() }),
            Some("http") => Ok((uri, None)),
            _ => Err(self.bad_address()),
        }
    }

    fn bad_address(&self) -> ConnectError {
        ConnectError::Address { url: self.shown() }
    }

    /// The address in messages, without what somebody put before an `@`.
    fn shown(&self) -> String {
        let url = match (self.url.find("://"), self.url.rfind('@')) {
            (Some(scheme), Some(at)) if scheme < at => {
                format!("{}…{}", &self.url[..scheme + 3], &self.url[at..])
            }
            _ => self.url.clone(),
        };
        waybill_core::refusal::shown(&url)
    }
}

/// Whether nobody on a network hears what is said to this host.
fn is_this_machine(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        Token::new("wbt_canary-0123456789abcdef", "a test").unwrap()
    }

    #[tokio::test]
    async fn takes_addresses_of_servers_only() {
        for url in [
            "http://127.0.0.1:8420",
            "http://[::1]:8420",
            "http://ledger.acme.dev/",
        ] {
            assert!(Connect::to(url).client().is_ok(), "{url}");
        }
        for url in [
            "",
            "127.0.0.1:8420",
            "/run/waybill",
            "http://",
            "ftp://a",
            "https://",
            "http://a/b",
            "http://a?b",
        ] {
            let expected = ConnectError::Address {
                url: url.to_owned(),
            };
            assert_eq!(Connect::to(url).client().unwrap_err(), expected);
        }
        let error = Connect::to("https://me:secret@a").client().unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[tokio::test]
    async fn a_token_is_not_sent_where_others_can_read_it() {
        for url in [
            "http://127.0.0.1:1",
            "http://[::1]:1",
            "http://localhost",
            "http://127.8.8.8",
        ] {
            assert!(
                Connect::to(url).with_token(token()).client().is_ok(),
                "{url}"
            );
        }
        for url in [
            "http://ledger.acme.dev",
            "http://10.0.0.1:8420",
            "http://[2001:db8::1]",
            "http://localhost.evil.example",
            "http://127.0.0.1.evil.example",
            "http://0.0.0.0",
        ] {
            let error = Connect::to(url).with_token(token()).client().unwrap_err();
            assert_eq!(
                error,
                ConnectError::TokenInClear {
                    url: url.to_owned()
                }
            );
            assert!(error.to_string().starts_with("token is set"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_file_of_authorities_that_is_none_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        let refused = || {
            let secured = Connect::to("https://localhost").with_ca(&path).client();
            secured.unwrap_err().to_string()
        };
        assert!(refused().contains("cannot be read"), "{}", refused());
        std::fs::write(&path, "no certificate").unwrap();
        assert!(refused().contains("holds no certificate"), "{}", refused());
        let plain = Connect::to("http://localhost").with_ca(&path).client();
        assert!(matches!(plain.unwrap_err(), ConnectError::CaInClear { .. }));
    }
}
