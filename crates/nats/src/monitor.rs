//! How the server syncs, read from its monitoring address.
use std::{fmt, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// When what the broker acknowledged is on its disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Before it acknowledges.
    Always,
    /// Up to this long after: a power cut in between takes back what was acknowledged.
    Every(Duration),
    /// Nobody knows, so it counts as not durable; why.
    Unknown(String),
}

impl Sync {
    /// Whether what is acknowledged survives a power cut.
    pub fn is_durable(&self) -> bool {
        matches!(self, Self::Always)
    }
}

impl fmt::Display for Sync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => f.write_str("before each acknowledgement"),
            Self::Every(interval) => write!(f, "every {interval:?}"),
            Self::Unknown(why) => write!(f, "unknown: {why}"),
        }
    }
}

/// Servers before 2.10 have no setting and sync at this interval.
const FIXED_INTERVAL: Duration = Duration::from_secs(60);
/// `/varz` of a large cluster is some tens of kilobytes.
const ANSWER_BYTES_MAX: u64 = 4 << 20;
const PATIENCE: Duration = Duration::from_secs(5);

/// Reads a server's setting; without an address it is unknown.
pub(crate) async fn sync(monitor: Option<&str>) -> Sync {
    let Some(monitor) = monitor else {
        return Sync::Unknown("no monitoring address was given".to_owned());
    };
    match tokio::time::timeout(PATIENCE, get(monitor, "/varz")).await {
        Ok(Ok(varz)) => said(&varz),
        Ok(Err(why)) => Sync::Unknown(format!("{monitor}: {why}")),
        Err(_) => Sync::Unknown(format!("{monitor} does not answer")),
    }
}

fn said(varz: &Value) -> Sync {
    let config = &varz["jetstream"]["config"];
    let version = varz["version"].as_str().unwrap_or_default();
    if config.is_null() {
        return Sync::Unknown("JetStream is not on at that server".to_owned());
    }
    if config["sync_always"].as_bool() == Some(true) {
        return Sync::Always;
    }
    match config["sync_interval"].as_u64() {
        Some(nanos) => Sync::Every(Duration::from_nanos(nanos)),
        None if before_2_10(version) => Sync::Every(FIXED_INTERVAL),
        None => Sync::Unknown(format!("server {version:?} does not say")),
    }
}

fn before_2_10(version: &str) -> bool {
    let mut parts = version.split('.').map_while(|it| it.parse::<u32>().ok());
    matches!((parts.next(), parts.next()), (Some(2), Some(minor)) if minor < 10)
}

/// One request in HTTP/1.0, whose answer ends with the connection and is not chunked.
async fn get(monitor: &str, path: &str) -> Result<Value, String> {
    let rest = monitor
        .strip_prefix("http://")
        .ok_or("not http://host:port")?;
    let (authority, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.trim_end_matches('/');
    let prefix = if prefix.is_empty() {
        String::new()
    } else {
        format!("/{prefix}")
    };
    let address = if authority
        .rsplit(']')
        .next()
        .unwrap_or_default()
        .contains(':')
    {
        authority.to_owned()
    } else {
        format!("{authority}:80")
    };
    let mut socket = TcpStream::connect(&address)
        .await
        .map_err(|error| error.to_string())?;
    let request = format!("GET {prefix}{path} HTTP/1.0\r\nHost: {authority}\r\n\r\n");
    socket
        .write_all(request.as_bytes())
        .await
        .map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    let mut limited = socket.take(ANSWER_BYTES_MAX);
    limited
        .read_to_end(&mut answer)
        .await
        .map_err(|error| error.to_string())?;
    body(&answer)
}

fn body(answer: &[u8]) -> Result<Value, String> {
    const END: &[u8] = b"\r\n\r\n";
    let end = answer
        .windows(END.len())
        .position(|it| it == END)
        .ok_or("the answer is not HTTP")?;
    let head = String::from_utf8_lossy(&answer[..end]);
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status != "200" {
        return Err(format!("the answer has status {status:?}"));
    }
    serde_json::from_slice(&answer[end + END.len()..])
        .map_err(|error| format!("the answer is no JSON: {error}"))
}
