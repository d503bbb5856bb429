//! Where the server listens and every bound it keeps, with the reason for its size.
use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::{tls::Tls, tokens::Tokens};

/// How a server behaves; [`Settings::new`] has the defaults.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it listens; what other addresses than loopback need says [`check_listen`].
    pub listen: SocketAddr,
    /// Who may come in.
    pub door: Door,
    /// What it takes at most.
    pub limits: Limits,
    /// How long calls in flight may take to finish once it is told to stop; then they are cut off.
    pub drain_max: Duration,
}

impl Settings {
    /// The defaults for an address.
    #[must_use]
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            door: Door::default(),
            limits: Limits::default(),
            drain_max: Duration::from_secs(10),
        }
    }
}

/// What the server takes at most. Beyond a limit it refuses with a reason; it never queues without a bound.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of one gRPC message: a full batch and the tags between its events.
    pub message_bytes: usize,
    /// Bytes of one JSON body: a full batch takes several times its protobuf size.
    pub json_bytes: usize,
    /// Bytes of one request's headers.
    pub header_bytes: u32,
    /// Connections at once; more wait in the kernel's queue.
    pub connections: usize,
    /// Connections at once of one address, where tokens are asked for and no proxy stands in front.
    pub connections_per_address: usize,
    /// Streams at once on one HTTP/2 connection.
    pub streams_per_connection: u32,
    /// Calls at once that answer once.
    pub calls: usize,
    /// Calls at once with one token, until their answers are read.
    pub calls_per_token: usize,
    /// Wrong tokens of one address that are answered in a minute; then it is told to wait.
    pub failures_per_minute: u32,
    /// JSON calls at once, each of which may hold a whole body.
    pub json_calls: usize,
    /// `EmitStream` calls at once.
    pub emit_streams: usize,
    /// `TailEvents` calls at once.
    pub tails: usize,
    /// Requests of one `EmitStream` that may be under way at once; they share group commits.
    pub stream_requests: usize,
    /// Bytes of one `EmitStream` that may be under way at once.
    pub stream_bytes: usize,
    /// Reads and questions that compute at once; more wait. They run on threads of their own, beside the emits.
    pub computing: usize,
    /// How long `at_least` waits where the caller set no deadline.
    pub wait_max: Duration,
    /// How long a client may take for a TLS handshake, or to send a request's first bytes, its headers, or a JSON body.
    pub send_max: Duration,
    /// How long a client may leave unread what it asked for; then it is cut off.
    pub read_max: Duration,
    /// How long a connection is kept on which no call begins. Calls that are open then go on to their end.
    pub quiet_max: Duration,
    /// How long an HTTP/2 connection may be silent before it is asked for a sign of life.
    pub keepalive_interval: Duration,
    /// How long that sign may take.
    pub keepalive_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: (4 << 20) + (64 << 10),
            json_bytes: 16 << 20,
            header_bytes: 16 << 10,
            connections: 1024,
            connections_per_address: 256,
            streams_per_connection: 128,
            calls: 512,
            calls_per_token: 256,
            failures_per_minute: 60,
            json_calls: 64,
            emit_streams: 256,
            tails: 256,
            stream_requests: 1024,
            stream_bytes: 4 << 20,
            computing: 8,
            wait_max: Duration::from_secs(10),
            send_max: Duration::from_secs(30),
            read_max: Duration::from_secs(30),
            quiet_max: Duration::from_secs(300),
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
        }
    }
}

/// Who may come in, and how. The default lets everybody of this machine do everything.
#[derive(Clone, Debug, Default)]
pub struct Door {
    /// Who may call; without it everybody may do everything. What is sent here later counts from then on, also for streams
    /// that are open.
    pub tokens: Option<watch::Receiver<Arc<Tokens>>>,
    /// With what connections are encrypted; what is sent here later is for new connections.
    pub tls: Option<watch::Receiver<Tls>>,
    /// A proxy in front of this port ends TLS, so that the port itself need not.
    pub behind_proxy: bool,
}

/// The address cannot be served like this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Exposed {
    /// Nobody would be asked who they are.
    #[error(
        "listen address `{0}` is not loopback, and without tokens whoever reaches the port could read and write \
         everything; make one with `waybill token new` and serve with --tokens FILE, or listen on 127.0.0.1 or [::1]"
    )]
    NoTokens(SocketAddr),
    /// Tokens and events would cross the network for all to read.
    #[error(
        "listen address `{0}` is not loopback, and without TLS whoever is on the way could read tokens and events; serve \
         with --tls-cert FILE --tls-key FILE, or with --behind-proxy where a proxy in front of this port ends TLS"
    )]
    NoTls(SocketAddr),
}

/// Checks that an address may be served through such a door.
///
/// # Errors
/// [`Exposed`] for every address that is not loopback, the unspecified ones (`0.0.0.0`, `::`) included, where tokens or TLS
/// are missing.
pub fn check_listen(address: SocketAddr, door: &Door) -> Result<(), Exposed> {
    if address.ip().to_canonical().is_loopback() {
        Ok(())
    } else if door.tokens.is_none() {
        Err(Exposed::NoTokens(address))
    } else if door.tls.is_none() && !door.behind_proxy {
        Err(Exposed::NoTls(address))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_may_be_served_to_everybody() {
        let tokens = watch::channel(Arc::default()).1;
        let guarded = Door {
            tokens: Some(tokens),
            ..Door::default()
        };
        let proxied = Door {
            behind_proxy: true,
            ..guarded.clone()
        };
        let proxy_alone = Door {
            behind_proxy: true,
            ..Door::default()
        };
        for (address, loopback) in [
            ("127.0.0.1:8420", true),
            ("127.9.9.9:1", true),
            ("[::1]:8420", true),
            ("[::ffff:127.0.0.1]:8420", true),
            ("0.0.0.0:8420", false),
            ("[::]:8420", false),
            ("192.168.1.4:8420", false),
            ("[fe80::1]:8420", false),
        ] {
            let address = address.parse().unwrap();
            let refused = |why| if loopback { Ok(()) } else { Err(why) };
            let without = refused(Exposed::NoTokens(address));
            assert_eq!(check_listen(address, &Door::default()), without);
            assert_eq!(check_listen(address, &proxy_alone), without);
            assert_eq!(
                check_listen(address, &guarded),
                refused(Exposed::NoTls(address))
            );
            assert_eq!(check_listen(address, &proxied), Ok(()));
        }
    }
}
