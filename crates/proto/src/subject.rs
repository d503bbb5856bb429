//! Subjects of stream messages: text to tokens and back, and an event to its subject (LEDGER Q3, `proto/README.md`).
use std::fmt::{self, Write};

use waybill_core::{Code, Entity, EntityKind, Event, Refusal};

use crate::percent;

/// What the subjects of services begin with.
pub const EVENTS_PREFIX: &str = "waybill.events.v1.";
/// What the subjects of ledgers begin with.
pub const GATE_PREFIX: &str = "waybill.gate.v1.";
/// A NATS filter that matches every message that opens an epoch.
pub const EPOCH_OPENED_FILTER: &str = "waybill.gate.v1.*.*.ledger.epoch_5fopened.*";

/// The token of the empty text, and of what is not said.
const NONE: &str = "_";
/// Longest component of a subject that is made here, in bytes of its token. With it a subject of ours stays well below the 4,096
/// bytes that a NATS server takes as one control line by default.
const COMPONENT_BYTES_MAX: usize = 256;

/// Encodes a text as one token of a subject, so that no two texts share one.
///
/// `[a-z0-9-]` stand for themselves, every other byte is `_` and two lowercase hex digits, the empty text is `_` alone.
///
/// ```
/// assert_eq!(waybill_proto::subject::token("//ci.acme.dev"), "_2f_2fci_2eacme_2edev");
/// ```
#[must_use]
pub fn token(text: &str) -> String {
    if text.is_empty() {
        return NONE.to_owned();
    }
    let mut token = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if is_plain(byte) {
            token.push(char::from(byte));
        } else {
            let _ = write!(token, "_{byte:02x}");
        }
    }
    token
}

/// Reads the text of a token; none for what [`token`] never writes, so that a text has one token.
#[must_use]
pub fn untoken(token: &str) -> Option<String> {
    if token == NONE {
        return Some(String::new());
    }
    let mut text = Vec::with_capacity(token.len());
    let mut rest = token.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = match (first, tail) {
            (b'_', [high, low, tail @ ..]) => {
                let byte = digit(*high)? << 4 | digit(*low)?;
                text.push(Some(byte).filter(|byte| !is_plain(*byte))?);
                tail
            }
            (plain, tail) => {
                text.push(Some(*plain).filter(|byte| is_plain(*byte))?);
                tail
            }
        };
    }
    String::from_utf8(text).ok().filter(|text| !text.is_empty())
}

/// Whether a token is that of a text; without making it.
fn is_token_of(token: &str, text: &str) -> bool {
    if text.is_empty() {
        return token == NONE;
    }
    let mut rest = token.as_bytes();
    for byte in text.bytes() {
        rest = match rest {
            [b'_', high, low, tail @ ..] if !is_plain(byte) && encodes(*high, *low, byte) => tail,
            [plain, tail @ ..] if is_plain(byte) && *plain == byte => tail,
            _ => return false,
        };
    }
    rest.is_empty()
}

fn encodes(high: u8, low: u8, byte: u8) -> bool {
    digit(high) == Some(byte >> 4) && digit(low) == Some(byte & 0xf)
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-')
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

/// Who may publish under a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Door {
    /// Services, each under its own source's token.
    Events,
    /// Ledgers only.
    Gate,
}

impl Door {
    /// The door of a subject, and what follows its prefix; none for a subject that is neither's.
    #[must_use]
    pub fn of(subject: &str) -> Option<(Self, &str)> {
        let tail_behind = |prefix| subject.strip_prefix(prefix);
        tail_behind(EVENTS_PREFIX)
            .map(|tail| (Self::Events, tail))
            .or_else(|| tail_behind(GATE_PREFIX).map(|tail| (Self::Gate, tail)))
    }

    /// What its subjects begin with.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Events => EVENTS_PREFIX,
            Self::Gate => GATE_PREFIX,
        }
    }
}

/// What follows the prefix of a subject, read. Displays as it is read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tail {
    /// The token as it stands: it is for permissions, and nobody checks what it says.
    pub org: String,
    /// The event's source.
    pub source: String,
    /// The first half of its kind; empty for none.
    pub family: String,
    /// The second half of its kind; empty for none.
    pub predicate: String,
    /// The last part of the name of something that the event is about, before percent-encoding; empty for none.
    pub component: String,
}

impl Tail {
    /// Reads the five tokens behind a prefix.
    ///
    /// # Errors
    /// [`Code::Contradiction`] where there are not five, or one is the token of no text.
    pub fn read(tail: &str) -> Result<Self, Refusal> {
        let tokens: Vec<&str> = tail.split('.').collect();
        let [org, source, family, predicate, component] = tokens[..] else {
            let rule = "not five tokens `<org>.<source>.<family>.<predicate>.<component>` behind the prefix";
            return Err(contradiction(tail, rule));
        };
        let text = |token: &str| {
            untoken(token).ok_or_else(|| {
                contradiction(token, "the token of no text: `[a-z0-9-]` stand for themselves, every other byte is `_` \
                    and two lowercase hex digits, and nothing is `_`")
            })
        };
        Ok(Self {
            org: org.to_owned(),
            source: text(source)?,
            family: text(family)?,
            predicate: text(predicate)?,
            component: text(component)?,
        })
    }

    /// The tail of an event's own subject. Its component is the first service that the event is about, else the first
    /// entity; none where that would be long.
    #[must_use]
    pub fn of(event: &Event, org: &str) -> Self {
        let service = |entity: &&Entity| entity.kind() == EntityKind::Service;
        let entities = &event.entities;
        let about = entities.iter().find(service).or(entities.first());
        let component = about.map(component).unwrap_or_default();
        let fits = token(&component).len() <= COMPONENT_BYTES_MAX;
        Self {
            org: token(org),
            source: event.identity.source.to_string(),
            family: event.kind.family().to_owned(),
            predicate: event.kind.predicate().to_owned(),
            component: if fits { component } else { String::new() },
        }
    }

    /// Checks that a subject says what its event says.
    ///
    /// # Errors
    /// [`Code::Contradiction`], naming the token and what it had to be.
    pub fn check(&self, event: &Event) -> Result<(), Refusal> {
        let same = [
            ("source", &self.source, &*event.identity.source),
            ("family", &self.family, event.kind.family()),
            ("predicate", &self.predicate, event.kind.predicate()),
        ];
        for (name, said, is) in same {
            if said != is {
                let rule = format!("not the event's {name}, `{is}`");
                let hint = format!("the {name}'s token is `{}`", token(is));
                return Err(contradiction(said, &rule).with_hint(hint));
            }
        }
        let is_about = |entity: &Entity| component(entity) == self.component;
        if self.component.is_empty() || event.entities.iter().any(is_about) {
            return Ok(());
        }
        let rule = "not the last part of the name of anything that the event is about";
        Err(contradiction(&self.component, rule).with_hint("name its service, or `_` for none"))
    }
}

impl fmt::Display for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [source, family, predicate, component] =
            [&self.source, &self.family, &self.predicate, &self.component].map(|text| token(text));
        write!(f, "{}.{source}.{family}.{predicate}.{component}", self.org)
    }
}

/// Checks that what follows a subject's prefix says what its event says.
///
/// # Errors
/// As [`Tail::read`] and [`Tail::check`].
pub fn check_tail(tail: &str, event: &Event) -> Result<(), Refusal> {
    // Nearly every subject agrees, and that is seen without reading its tokens; why one does not is for the reader to say.
    match agrees(tail, event) {
        true => Ok(()),
        false => Tail::read(tail)?.check(event),
    }
}

fn agrees(tail: &str, event: &Event) -> bool {
    let mut tokens = tail.split('.').skip(1);
    let mut next_is = |text: &str| tokens.next().is_some_and(|token| is_token_of(token, text));
    let same = next_is(&event.identity.source)
        && next_is(event.kind.family())
        && next_is(event.kind.predicate());
    let (Some(about), None) = (tokens.next(), tokens.next()) else {
        return false;
    };
    let is_about = |entity: &Entity| is_token_of(about, &component(entity));
    same && (about == NONE || event.entities.iter().any(is_about))
}

/// The subject under which a service publishes an event.
#[must_use]
pub fn events_subject(event: &Event, org: &str) -> String {
    format!("{EVENTS_PREFIX}{}", Tail::of(event, org))
}

/// The subject under which a ledger publishes an event.
#[must_use]
pub fn gate_subject(event: &Event, org: &str) -> String {
    format!("{GATE_PREFIX}{}", Tail::of(event, org))
}

/// The last part of an entity's name as it was before it was percent-encoded.
fn component(entity: &Entity) -> String {
    percent::decoded(entity.last()).unwrap_or_else(|| entity.last().to_owned())
}

fn contradiction(value: &str, rule: &str) -> Refusal {
    Refusal::new(Code::Contradiction, "subject", value, rule)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::{collection::btree_set, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn a_token_is_read_again(text in any::<String>()) {
            let token = token(&text);
            prop_assert!(token.bytes().all(|byte| is_plain(byte) || byte == b'_'), "{token}");
            prop_assert!(!token.is_empty());
            prop_assert_eq!(untoken(&token), Some(text));
        }

        #[test]
        fn a_token_is_known_as_its_texts_without_being_read(text in "[a_5f. é]{0,3}", other in "[a_5fF.2e]{0,4}") {
            prop_assert!(is_token_of(&token(&text), &text));
            prop_assert_eq!(is_token_of(&other, &text), other == token(&text));
        }

        #[test]
        fn what_is_read_is_the_token_of_what_was_read(token_or_not in "[a-c0-9_A.]{0,8}") {
            if let Some(text) = untoken(&token_or_not) {
                prop_assert_eq!(token(&text), token_or_not);
            }
        }

        #[test]
        fn no_two_texts_share_a_token(texts in btree_set("[a_5f. ]{0,3}", 0..40)) {
            let tokens: BTreeSet<String> = texts.iter().map(|text| token(text)).collect();
            prop_assert_eq!(tokens.len(), texts.len());
        }

        #[test]
        fn a_tail_is_read_again(texts in proptest::array::uniform5(any::<String>())) {
            let [org, source, family, predicate, component] = texts;
            let tail = Tail { org: token(&org), source, family, predicate, component };
            prop_assert_eq!(Tail::read(&tail.to_string()), Ok(tail));
        }
    }

    #[test]
    fn what_no_text_encodes_to_is_no_token() {
        for token in [
            "", "A", "_6", "_6A", "_61", "__", "_5", "a_", "_ff", "_C3_A9", "a.b", "é",
        ] {
            assert_eq!(untoken(token), None, "{token}");
        }
    }
}
