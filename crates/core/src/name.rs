//! Names that survive tools: `kind:authority/path`, percent-encoded (LEDGER E9).
//!
//! `commit:github.com/acme/shop/1f2e…`, `repository:github.com/acme/shop`, `service:checkout`. What comes before the
//! first `/` is who assigns the name; a name without an authority has no unencoded `/` at all.
use std::{borrow::Cow, fmt, sync::Arc};

use crate::refusal::{Code, Refusal, is_unsafe_in_text};

/// The longest name that is accepted, in bytes.
pub const NAME_BYTES_MAX: usize = 1024;

/// What a name names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntityKind {
    /// A source code repository.
    Repository,
    /// A branch of one.
    Branch,
    /// A commit of one.
    Commit,
    /// A pull request, merge request, Gerrit change.
    Change,
    /// A build.
    Build,
    /// A pipeline or task run.
    Run,
    /// An artifact.
    Artifact,
    /// A release of a service.
    Release,
    /// A service.
    Service,
    /// An environment.
    Environment,
    /// A deployment.
    Deployment,
    /// A feature flag.
    Flag,
    /// An incident.
    Incident,
    /// A metric of a service.
    Metric,
    /// A team.
    Team,
    /// A ticket.
    Ticket,
    /// A source of events.
    Source,
    /// Anything else a family is about: an SLO, a contract, a policy, …
    Other,
}

/// The full name of one entity, `kind:authority/path`. Compares bytewise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entity {
    kind: EntityKind,
    text: Arc<str>,
}

impl EntityKind {
    /// All kinds, in the order of their declaration.
    pub const ALL: [Self; 18] = [
        Self::Repository,
        Self::Branch,
        Self::Commit,
        Self::Change,
        Self::Build,
        Self::Run,
        Self::Artifact,
        Self::Release,
        Self::Service,
        Self::Environment,
        Self::Deployment,
        Self::Flag,
        Self::Incident,
        Self::Metric,
        Self::Team,
        Self::Ticket,
        Self::Source,
        Self::Other,
    ];

    /// The word before the colon.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Repository => "repository",
            Self::Branch => "branch",
            Self::Commit => "commit",
            Self::Change => "change",
            Self::Build => "build",
            Self::Run => "run",
            Self::Artifact => "artifact",
            Self::Release => "release",
            Self::Service => "service",
            Self::Environment => "environment",
            Self::Deployment => "deployment",
            Self::Flag => "flag",
            Self::Incident => "incident",
            Self::Metric => "metric",
            Self::Team => "team",
            Self::Ticket => "ticket",
            Self::Source => "source",
            Self::Other => "other",
        }
    }
}

impl Entity {
    /// Reads a full name, `kind:authority/path`, whose parts are encoded already.
    ///
    /// # Errors
    /// Refuses an unknown kind, an empty name, bytes that should have been encoded, and escapes that no encoder of ours
    /// writes: a thing has one name, and an escape hides no control character.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let bad = |rule: &str| Refusal::new(Code::Malformed, "", text, rule);
        let (word, rest) = text
            .split_once(':')
            .ok_or_else(|| bad("an entity name reads `kind:name`"))?;
        let kind = EntityKind::ALL
            .into_iter()
            .find(|kind| kind.as_str() == word)
            .ok_or_else(|| bad("the word before the colon is not a kind of entity"))?;
        if rest.is_empty() || text.len() > NAME_BYTES_MAX || !is_encoded(rest) {
            return Err(bad(
                "a name is 1 to 1024 bytes of A-Z a-z 0-9 . _ ~ - / and %XX for all others, without control or \
                 bidirectional characters",
            ));
        }
        Ok(Self {
            kind,
            text: text.into(),
        })
    }

    /// Names something that has no authority of its own: `service:checkout`. A full name of the kind is taken as it is.
    ///
    /// # Errors
    /// Refuses empty, over-long and unsafe text.
    pub fn named(kind: EntityKind, text: &str) -> Result<Self, Refusal> {
        if let Some(rest) = text.strip_prefix(kind.as_str())
            && rest.starts_with(':')
        {
            return Self::parse(text);
        }
        Self::build(kind, &[text])
    }

    /// Names something within something else: `deployment:checkout/d-881`.
    ///
    /// # Errors
    /// Refuses empty, over-long and unsafe text.
    pub fn within(kind: EntityKind, authority: &str, path: &str) -> Result<Self, Refusal> {
        Self::build(kind, &[authority, path])
    }

    /// Names a repository from `host/path`, a clone URL, scp form (`git@host:path`), or a full name.
    ///
    /// Host lowercase, user, port 22/80/443 and `.git` stripped; path segments keep their case.
    /// A repository without a remote is `root/<id of its root commit>`.
    ///
    /// # Errors
    /// Refuses empty, over-long and unsafe text.
    pub fn repository(text: &str) -> Result<Self, Refusal> {
        if text.starts_with("repository:") {
            return Self::parse(text);
        }
        let (host, path) = split_remote(text.trim());
        let path = path.trim_matches('/');
        let path = path.strip_suffix(".git").unwrap_or(path);
        let host = lowercase(host);
        let mut parts: Vec<&str> = Vec::with_capacity(8);
        parts.extend(
            [&*host]
                .into_iter()
                .chain(path.split('/'))
                .filter(|part| !part.is_empty()),
        );
        Self::build(EntityKind::Repository, &parts)
    }

    /// Names a commit, branch or change of a repository: `commit:github.com/acme/shop/1f2e…`.
    ///
    /// # Errors
    /// Refuses empty, over-long and unsafe text.
    pub fn of_repository(kind: EntityKind, repository: &Self, id: &str) -> Result<Self, Refusal> {
        check_text(id)?;
        let mut text = begin(kind, repository.path().len() + 1 + id.len());
        text.push_str(repository.path());
        text.push('/');
        encode_into(&mut text, id);
        Self::checked(kind, text)
    }

    /// The name without its kind: `authority/path`, still encoded.
    #[must_use]
    pub fn path(&self) -> &str {
        self.text.split_once(':').map_or("", |(_, path)| path)
    }

    /// The last segment, still encoded: a commit's id, a change's number, a service's name.
    #[must_use]
    pub fn last(&self) -> &str {
        let path = self.path();
        path.rsplit('/').next().unwrap_or(path)
    }

    fn build(kind: EntityKind, parts: &[&str]) -> Result<Self, Refusal> {
        if parts.is_empty() {
            return Err(Refusal::new(
                Code::Missing,
                "",
                "",
                "a name may not be empty",
            ));
        }
        let length: usize = parts.iter().map(|part| part.len() + 1).sum();
        let mut text = begin(kind, length);
        for (index, part) in parts.iter().enumerate() {
            check_text(part)?;
            if index > 0 {
                text.push('/');
            }
            encode_into(&mut text, part);
        }
        Self::checked(kind, text)
    }

    fn checked(kind: EntityKind, text: String) -> Result<Self, Refusal> {
        if text.len() > NAME_BYTES_MAX {
            return Err(Refusal::new(
                Code::TooLarge,
                "",
                text,
                "a name is at most 1024 bytes when encoded",
            ));
        }
        Ok(Self {
            kind,
            text: text.into(),
        })
    }

    /// What it names.
    #[must_use]
    pub fn kind(&self) -> EntityKind {
        self.kind
    }

    /// The full name, `kind:authority/path`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn lowercase(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

/// A name that begins with its kind and has room for the rest.
fn begin(kind: EntityKind, length: usize) -> String {
    let word = kind.as_str();
    let mut text = String::with_capacity(word.len() + 1 + length);
    text.push_str(word);
    text.push(':');
    text
}

fn check_text(text: &str) -> Result<(), Refusal> {
    if text.is_empty() {
        return Err(Refusal::new(
            Code::Missing,
            "",
            text,
            "a name may not be empty",
        ));
    }
    // Nearly all names are plain ASCII, whose test is cheap.
    let plain = text.bytes().all(|byte| (0x20..0x7F).contains(&byte));
    if !plain && text.chars().any(is_unsafe_in_text) {
        return Err(Refusal::new(
            Code::Malformed,
            "",
            text,
            "a name may not hold control or bidirectional characters",
        ));
    }
    Ok(())
}

/// Splits a remote into host and path; a bare path has no host.
fn split_remote(text: &str) -> (&str, &str) {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, text),
    };
    if scheme == Some("file") {
        return ("", rest);
    }
    let (host, path) = match (scheme, rest.find('/'), rest.find(':')) {
        // scp form: a colon before any slash, and no scheme.
        (None, slash, Some(colon)) if slash.is_none_or(|slash| colon < slash) => {
            (&rest[..colon], &rest[colon + 1..])
        }
        (_, Some(slash), _) => (&rest[..slash], &rest[slash + 1..]),
        (_, None, _) => ("", rest),
    };
    let host = host.rsplit('@').next().unwrap_or(host);
    let host = [":22", ":80", ":443"]
        .iter()
        .find_map(|port| host.strip_suffix(port))
        .unwrap_or(host);
    (host, path)
}

fn is_plain(c: u8) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'~' | b'-')
}

/// True for what [`encode_into`] writes: only bytes that are not plain are escaped, in capitals, and what they say is
/// safe text.
fn is_encoded(text: &str) -> bool {
    let mut said = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            said.push(byte);
            if !is_plain(byte) && byte != b'/' {
                return false;
            }
            continue;
        }
        let Some(byte) = escaped(rest.next(), rest.next()).filter(|byte| !is_plain(*byte)) else {
            return false;
        };
        said.push(byte);
    }
    String::from_utf8(said).is_ok_and(|said| !said.chars().any(is_unsafe_in_text))
}

/// The byte of an escape's two digits.
fn escaped(high: Option<u8>, low: Option<u8>) -> Option<u8> {
    let value = |digit: u8| HEX.iter().position(|known| *known == digit);
    u8::try_from(value(high?)? << 4 | value(low?)?).ok()
}

fn encode_into(out: &mut String, part: &str) {
    // Nearly all parts need no encoding.
    if part.bytes().all(is_plain) {
        out.push_str(part);
        return;
    }
    for byte in part.bytes() {
        if is_plain(byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.extend([byte >> 4, byte & 0xF].map(|digit| char::from(HEX[usize::from(digit)])));
        }
    }
}

const HEX: [u8; 16] = *b"0123456789ABCDEF";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_repository_has_one_name() {
        let spellings = [
            "https://GitHub.com/acme/shop.git",
            "git@github.com:acme/shop.git",
            "ssh://git@github.com:22/acme/shop",
            "github.com/acme/shop/",
            "https://user:secret@github.com/acme/shop",
            "repository:github.com/acme/shop",
        ];
        for spelling in spellings {
            assert_eq!(
                Entity::repository(spelling).unwrap().as_str(),
                "repository:github.com/acme/shop",
                "{spelling}"
            );
        }
    }

    #[test]
    fn names_are_injective() {
        let nested = Entity::within(EntityKind::Deployment, "a/b", "c").unwrap();
        let other = Entity::within(EntityKind::Deployment, "a", "b/c").unwrap();
        assert_eq!(nested.as_str(), "deployment:a%2Fb/c");
        assert_eq!(other.as_str(), "deployment:a/b%2Fc");
        assert_eq!(Entity::parse(nested.as_str()).unwrap(), nested);
        assert_eq!(nested.last(), "c");
    }

    #[test]
    fn refuses_what_is_no_name() {
        for text in [
            "",
            "checkout",
            "planet:mars",
            "service:",
            "service:a b",
            "service:a%",
            "service:a%2",
            "service:a%zz",
            "service:a%2f",
            "service:%41",
            "service:%00",
            "service:%E2%80%AE",
            "service:%FF",
        ] {
            assert!(Entity::parse(text).is_err(), "{text}");
        }
        assert!(Entity::named(EntityKind::Service, "a\u{202E}b").is_err());
    }
}
