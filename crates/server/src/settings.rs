//! Where the server listens and every bound it keeps, with the reason for its size.
use std::{net::SocketAddr, time::Duration};

/// How a server behaves; [`Settings::new`] has the defaults.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it listens; loopback only in this version, see [`check_listen`].
    pub listen: SocketAddr,
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
    /// Streams at once on one HTTP/2 connection.
    pub streams_per_connection: u32,
    /// Calls at once that answer once.
    pub calls: usize,
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
    /// How long a client may take to send a request's first bytes, its headers, or a JSON body.
    pub send_max: Duration,
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
            streams_per_connection: 128,
            calls: 512,
            json_calls: 64,
            emit_streams: 256,
            tails: 256,
            stream_requests: 1024,
            stream_bytes: 4 << 20,
            computing: 8,
            wait_max: Duration::from_secs(10),
            send_max: Duration::from_secs(30),
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
        }
    }
}

/// The address cannot be served in this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "listen address `{0}` is not loopback: this version has neither TLS nor tokens, so whoever reaches the port could \
     read and write everything; listen on 127.0.0.1 or [::1], and reach it from elsewhere through an SSH tunnel"
)]
pub struct NotLoopback(pub SocketAddr);

/// Checks that an address may be served without authentication.
///
/// # Errors
/// [`NotLoopback`] for every other address, the unspecified ones (`0.0.0.0`, `::`) included.
pub fn check_listen(address: SocketAddr) -> Result<(), NotLoopback> {
    if address.ip().to_canonical().is_loopback() {
        Ok(())
    } else {
        Err(NotLoopback(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_may_be_served() {
        for (address, allowed) in [
            ("127.0.0.1:8420", true),
            ("127.9.9.9:1", true),
            ("[::1]:8420", true),
            ("[::ffff:127.0.0.1]:8420", true),
            ("0.0.0.0:8420", false),
            ("[::]:8420", false),
            ("192.168.1.4:8420", false),
            ("[fe80::1]:8420", false),
        ] {
            let result = check_listen(address.parse().unwrap());
            assert_eq!(result.is_ok(), allowed, "{address}");
            if let Err(error) = result {
                assert!(
                    error.to_string().contains("neither TLS nor tokens"),
                    "{error}"
                );
            }
        }
    }
}
