//! Messages as they come: through a consumer, or by sequence.
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::Deserialize;
use waybill_core::Time;
use waybill_ledger::stream::{BrokerFault, Headers, Message};

use crate::headers;

/// What `STREAM.MSG.GET` answers.
#[derive(Debug, Deserialize)]
pub(crate) struct Answer {
    message: Stored,
}

#[derive(Debug, Deserialize)]
struct Stored {
    subject: String,
    seq: u64,
    /// RFC 3339, in nanoseconds.
    time: String,
    /// The header block, in base64.
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
}

impl Answer {
    pub(crate) fn message(self) -> Result<Message, BrokerFault> {
        let Stored {
            subject,
            seq,
            time,
            hdrs,
            data,
        } = self.message;
        let time: jiff::Timestamp = time.parse().map_err(|error| {
            BrokerFault::Refused(format!("a message's time is {time:?}: {error}"))
        })?;
        let headers = match hdrs.as_str() {
            "" => Headers::Read(Vec::new()),
            text => headers::read(&bytes_of(text)?),
        };
        Ok(Message {
            sequence: seq,
            time: Time::from_nanos_clamped(time.as_nanosecond()),
            subject,
            headers,
            payload: bytes_of(&data)?.into(),
        })
    }
}

fn bytes_of(text: &str) -> Result<Vec<u8>, BrokerFault> {
    STANDARD
        .decode(text)
        .map_err(|error| BrokerFault::Refused(format!("a message's base64 is broken: {error}")))
}

/// A message of a consumer, and where its acknowledgement goes.
pub(crate) struct Delivered {
    pub(crate) message: Message,
    pub(crate) reply: async_nats::Subject,
}

/// Reads a delivery: place and time are in the subject that an acknowledgement goes to.
pub(crate) fn delivered(from: async_nats::Message) -> Option<Delivered> {
    let reply = from.reply?;
    let (sequence, nanos) = place(&reply)?;
    let headers = from
        .headers
        .as_ref()
        .map_or(Headers::Read(Vec::new()), headers::from_map);
    let message = Message {
        sequence,
        time: Time::from_nanos_clamped(nanos),
        subject: from.subject.as_str().to_owned(),
        headers,
        // A slice of what was read from the socket would keep all of that in memory.
        payload: Bytes::copy_from_slice(&from.payload),
    };
    Some(Delivered { message, reply })
}

/// Stream sequence and time in
/// `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>`, or, between servers of several
/// accounts, `$JS.ACK.<domain>.<account>.<stream>. …` with a token at the end.
fn place(reply: &str) -> Option<(u64, i128)> {
    let rest = reply.strip_prefix("$JS.ACK.")?;
    let tokens: Vec<&str> = rest.split('.').collect();
    let skipped = match tokens.len() {
        7 => 0,
        9.. => 2,
        _ => return None,
    };
    let sequence = tokens[skipped + 3].parse().ok()?;
    let nanos: i64 = tokens[skipped + 5].parse().ok()?;
    Some((sequence, nanos.into()))
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn a_place_is_read_from_either_form() {
        assert_eq!(
            place("$JS.ACK.S.c.1.42.7.1700000000000000001.0"),
            Some((42, 1_700_000_000_000_000_001))
        );
        assert_eq!(place("$JS.ACK._.HASH.S.c.1.42.7.170.0"), Some((42, 170)));
        assert_eq!(
            place("$JS.ACK.hub.HASH.S.c.1.42.7.170.0.token"),
            Some((42, 170))
        );
        assert_eq!(place("$JS.ACK.S.c.1"), None);
        assert_eq!(place("_INBOX.abc"), None);
    }
}
