//! What a message of a stream means (LEDGER Q2, Q3, `proto/README.md` section *Through NATS*).
//!
//! A message is a subject, headers and a payload. A ledger stores the payload as it came, beside the subject and the
//! [`kept`] headers, and reads it again from those alone: [`read`] is a pure function of what is stored.
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use prost::Message;
use sha2::{Digest, Sha256};
use waybill_core::{Code, Event, Refusal, event::RecordKind, refusal::shown};

use crate::{
    json::{event_from_json, in_order},
    kinds::{LEDGER_KINDS, OPERATOR_KINDS},
    limits::EVENT_BYTES_MAX,
    parse::parse,
    pb,
    subject::{Door, EVENTS_PREFIX, GATE_PREFIX, check_tail},
};

mod cloud;

/// Says how the payload is written.
pub const CONTENT_TYPE: &str = "Content-Type";
/// The verified sender, on gate subjects.
pub const SENDER: &str = "Waybill-Sender";
/// Makes a leaf erasable.
pub const SALT: &str = "Waybill-Salt";
/// Lets the broker drop repeats.
pub const MESSAGE_ID: &str = "Nats-Msg-Id";
/// The content type of an encoded event.
pub const PROTOBUF: &str = "application/protobuf";
/// The content type of an event as proto3 JSON.
pub const JSON: &str = "application/json";

/// Headers that are kept whatever the subject.
const KEPT: [&str; 6] = [
    CONTENT_TYPE,
    cloud::SPECVERSION,
    cloud::ID,
    cloud::SOURCE,
    cloud::TYPE,
    cloud::TIME,
];

/// The headers that are stored and part of the leaf: names in the spelling of the page, values as they came, sorted.
///
/// Sorted by name and then value, since clients do not agree on the order of headers whose names differ in case only.
#[must_use]
pub fn kept(subject: &str, headers: &[(String, String)]) -> Vec<(String, String)> {
    let is_gate = matches!(Door::of(subject), Some((Door::Gate, _)));
    let sender = is_gate.then_some(SENDER);
    let mut kept: Vec<(String, String)> = headers
        .iter()
        .filter_map(|(name, value)| {
            let mut names = KEPT.into_iter().chain(sender);
            let spelling = names.find(|kept| kept.eq_ignore_ascii_case(name))?;
            Some((spelling.to_owned(), value.clone()))
        })
        .collect();
    kept.sort();
    kept
}

/// The salt of a message. One that is not 16 bytes in base64url without padding, or that is given twice, is none: the leaf
/// is then not salted, and the receipt says so.
#[must_use]
pub fn salt(headers: &[(String, String)]) -> Option<[u8; 16]> {
    let mut salts = headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case(SALT));
    let (Some((_, salt)), None) = (salts.next(), salts.next()) else {
        return None;
    };
    URL_SAFE_NO_PAD.decode(salt).ok()?.try_into().ok()
}

/// The `Nats-Msg-Id` of an event: the same for every try of the same content.
#[must_use]
pub fn message_id(event: &Event, content_digest: &[u8; 32]) -> String {
    let mut hasher = Sha256::new();
    for part in [&event.identity.source, &event.identity.id] {
        hasher.update(part.as_bytes());
        hasher.update([0]);
    }
    hasher.update(content_digest);
    URL_SAFE_NO_PAD.encode(hasher.finalize())
}

/// A message that is an event and breaks no rule. Whether it is a fact is for admission to say.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    /// The event.
    pub event: Event,
    /// Its encoding: the payload itself where it is protobuf and no header fills anything in.
    pub wire: Bytes,
}

/// A message that is no event, or one that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which rule, and what to do.
    pub refusal: Refusal,
    /// The event that breaks it, as far as its headers fill it in; none where no event can be read.
    pub wire: Option<Bytes>,
}

impl Refused {
    /// Whether no event could be read at all, by this version.
    #[must_use]
    pub fn is_undecodable(&self) -> bool {
        self.wire.is_none()
    }

    fn undecodable(refusal: Refusal) -> Self {
        Self {
            refusal,
            wire: None,
        }
    }

    /// A refusal of what these bytes say, unless it is that they say nothing. A large event is one, unread.
    fn of(refusal: Refusal, wire: &Bytes) -> Self {
        let is_event = refusal.code != Code::Undecodable
            && (wire.len() > EVENT_BYTES_MAX || pb::Event::decode(&**wire).is_ok());
        Self {
            refusal,
            wire: is_event.then(|| wire.clone()),
        }
    }
}

/// Reads a message from its subject, its [`kept`] headers and its payload.
///
/// # Errors
/// What the page refuses: other content types, what is no event, an event that breaks a rule, headers or a subject that
/// contradict it, and on the events door what only a ledger or an operator may say.
pub fn read(
    subject: &str,
    kept_headers: &[(String, String)],
    payload: &Bytes,
) -> Result<Read, Refused> {
    let wire = wire_event(kept_headers, payload)?;
    let event = parse(&wire).map_err(|refusal| Refused::of(refusal, &wire))?;
    check(subject, kept_headers, &event).map_err(|refusal| Refused::of(refusal, &wire))?;
    Ok(Read { event, wire })
}

/// The encoded event that a message means: protobuf as it came, JSON encoded, and what it leaves out filled in from its
/// CloudEvents headers. Its own rules are [`parse`]'s.
///
/// # Errors
/// Other content types, what is not JSON, and CloudEvents headers that cannot be read or that contradict the event.
pub fn wire_event(kept_headers: &[(String, String)], payload: &Bytes) -> Result<Bytes, Refused> {
    let headers = Headers(kept_headers);
    let format = format(headers).map_err(Refused::undecodable)?;
    let wire = match format {
        Format::Protobuf => payload.clone(),
        Format::Json => event_from_json(payload)
            .map_err(Refused::undecodable)?
            .into(),
    };
    let missing = cloud::missing(headers, &wire).map_err(|refusal| Refused::of(refusal, &wire))?;
    if missing.is_empty() {
        return Ok(wire);
    }
    // In protobuf the last occurrence counts, and unknown fields stay as they were sent.
    let whole = [&*wire, &missing].concat();
    match format {
        Format::Protobuf => Ok(whole.into()),
        Format::Json => in_order(&whole)
            .map(Bytes::from)
            .map_err(Refused::undecodable),
    }
}

/// How a payload is written.
#[derive(Clone, Copy)]
enum Format {
    Protobuf,
    Json,
}

fn format(headers: Headers<'_>) -> Result<Format, Refusal> {
    let Some(content_type) = headers.one(CONTENT_TYPE)? else {
        return Ok(Format::Protobuf);
    };
    let (media_type, _) = content_type.split_once(';').unwrap_or((content_type, ""));
    let is = |name: &str| media_type.trim().eq_ignore_ascii_case(name);
    if is(PROTOBUF) {
        Ok(Format::Protobuf)
    } else if is(JSON) {
        Ok(Format::Json)
    } else {
        let rule = format!("not a content type that is read: {PROTOBUF} or {JSON}");
        Err(Refusal::new(
            Code::Undecodable,
            CONTENT_TYPE,
            content_type,
            rule,
        ))
    }
}

/// What the event has to agree with, and what its door allows.
fn check(subject: &str, kept_headers: &[(String, String)], event: &Event) -> Result<(), Refusal> {
    cloud::check_type(Headers(kept_headers), event)?;
    let Some((door, tail)) = Door::of(subject) else {
        let rule = format!("not a subject of events: `{EVENTS_PREFIX}…` or `{GATE_PREFIX}…`");
        return Err(Refusal::new(Code::Contradiction, "subject", subject, rule));
    };
    check_tail(tail, event)?;
    match door {
        Door::Events => check_emitter(event),
        Door::Gate => Ok(()),
    }
}

/// A permission to publish is a permission for one source, and an emitter's (LEDGER E6).
fn check_emitter(event: &Event) -> Result<(), Refusal> {
    let not_allowed = |field, value: &str, rule| Refusal::new(Code::NotAllowed, field, value, rule);
    let kind = &*event.kind.0;
    if LEDGER_KINDS.contains(&kind) {
        return Err(not_allowed("type", kind, "a kind that only ledgers emit"));
    }
    if OPERATOR_KINDS.contains(&kind) {
        let rule = "a kind that only an operator may emit";
        return Err(not_allowed("type", kind, rule)
            .with_hint("send it to the ledger, with a token that has the role operate"));
    }
    let source = &event.identity.source;
    match &event.record_kind {
        RecordKind::Correction(at) | RecordKind::Retraction(at) | RecordKind::Redaction(at)
            if at.source != *source =>
        {
            let rule = "not the event's own source, whose events alone it may amend";
            Err(not_allowed("amends.source", &at.source, rule)
                .with_hint("ask an operator to amend it"))
        }
        RecordKind::Assertion
        | RecordKind::Correction(_)
        | RecordKind::Retraction(_)
        | RecordKind::Redaction(_) => Ok(()),
    }
}

/// Kept headers, by name.
#[derive(Clone, Copy)]
struct Headers<'h>(&'h [(String, String)]);

impl<'h> Headers<'h> {
    /// The value of a header; none where it is absent. A header may come twice where it says the same.
    fn one(self, name: &str) -> Result<Option<&'h str>, Refusal> {
        let mut values = self
            .0
            .iter()
            .filter(|(kept, _)| kept == name)
            .map(|(_, value)| value.as_str());
        let first = values.next();
        match values.find(|value| Some(*value) != first) {
            None => Ok(first),
            Some(other) => {
                let rule = format!(
                    "given twice, also as `{}`",
                    shown(first.unwrap_or_default())
                );
                Err(Refusal::new(Code::Contradiction, name, other, rule))
            }
        }
    }
}
