//! Tokens: who may call, as a file says it. The file holds hashes; a token itself is seen once, where it is made.
//!
//! A token is `wbt_`, an id to look it up by, and 256 random bits; so its hash needs no salt and no slow function, and to
//! guess one is hopeless. Times are seconds of the wall clock, UTC.
mod file;

use std::{collections::HashMap, fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use waybill_ledger::{Scope, Sender, SourcePattern};

pub use crate::access::Role;
pub use file::{Wrong, add, parse, revoke};

/// Random bytes of a token: the id's, then the secret's.
pub const RANDOM_BYTES: usize = ID_BYTES + 32;

const PREFIX: &str = "wbt_";
const ID_BYTES: usize = 6;
const ID_CHARS: usize = 2 * ID_BYTES;

/// A token as its bearer sends it. It is shown by [`Secret::reveal`] only.
pub struct Secret(String);

impl Secret {
    /// Makes a token of random bytes.
    #[must_use]
    pub fn new(random: &[u8; RANDOM_BYTES]) -> Self {
        let (id, secret) = random.split_at(ID_BYTES);
        let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        Self(format!("{PREFIX}{id}_{}", URL_SAFE_NO_PAD.encode(secret)))
    }

    /// The text, for the one who will bear it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// By what it is looked up; not secret.
    #[must_use]
    pub fn id(&self) -> &str {
        id_of(&self.0).unwrap_or_default()
    }

    /// What is kept of it.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        hash(&self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Secret").field(&self.id()).finish()
    }
}

/// What is known of one token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Who bears it; recorded with every event that it emits.
    pub name: Arc<str>,
    /// By what it is looked up.
    pub id: String,
    /// SHA-256 of the whole token.
    pub sha256: [u8; 32],
    /// What it may do.
    pub role: Role,
    /// For which sources it may emit: `//ci.acme.dev/shop`, or `//ci.acme.dev/*`; empty but for [`Role::Emit`].
    pub sources: Vec<String>,
    /// When it was made.
    pub create_time: Timestamp,
    /// From when on it counts no more.
    pub expire_time: Option<Timestamp>,
    /// When it was taken back.
    pub revoke_time: Option<Timestamp>,
}

impl Token {
    /// Whom the ledger hears.
    #[must_use]
    pub fn sender(&self) -> Sender {
        let patterns = self
            .sources
            .iter()
            .map(|source| SourcePattern::read(source));
        Sender {
            name: self.name.clone(),
            scope: match self.role {
                // A reader speaks for no source; it may not emit in the first place.
                Role::Emit | Role::Read => Scope::Sources(patterns.collect()),
                Role::Operate => Scope::Everything,
            },
        }
    }
}

/// Why a token does not count. Callers are told none of it; the log and the metrics are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unknown {
    /// Not of the form of a token.
    Malformed,
    /// Nobody has this token.
    Wrong,
    /// It counts no more.
    Expired,
    /// It was taken back.
    Revoked,
}

/// The tokens of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    in_order: Vec<Arc<Token>>,
    by_id: HashMap<String, Arc<Token>>,
}

impl Tokens {
    fn new(tokens: Vec<Token>) -> Self {
        let in_order: Vec<_> = tokens.into_iter().map(Arc::new).collect();
        let by_id = in_order
            .iter()
            .map(|token| (token.id.clone(), token.clone()));
        Self {
            by_id: by_id.collect(),
            in_order,
        }
    }

    /// All of them, as they stand in the file.
    pub fn iter(&self) -> impl Iterator<Item = &Token> {
        self.in_order.iter().map(|token| &**token)
    }

    /// The token that a text is. It takes as long for a text that is nearly one as for any other.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn find(&self, text: &str, now: Timestamp) -> Result<Arc<Token>, Unknown> {
        let id = id_of(text).ok_or(Unknown::Malformed)?;
        let found = self.by_id.get(id);
        let kept = found.map_or([0; 32], |token| token.sha256);
        let same = bool::from(hash(text).ct_eq(&kept));
        match found {
            Some(token) if same => usable(token, now).map(|()| token.clone()),
            _ => Err(Unknown::Wrong),
        }
    }

    /// Whether there is a token of this id, whatever its standing.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    /// Whether a token that was found once still counts, exactly as it was.
    #[must_use]
    pub fn still(&self, token: &Token, now: Timestamp) -> bool {
        let found = self.by_id.get(&token.id);
        found.is_some_and(|found| **found == *token) && usable(token, now).is_ok()
    }
}

fn usable(token: &Token, now: Timestamp) -> Result<(), Unknown> {
    if token.revoke_time.is_some() {
        return Err(Unknown::Revoked);
    }
    match token.expire_time {
        Some(end) if end <= now => Err(Unknown::Expired),
        _ => Ok(()),
    }
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

fn id_of(text: &str) -> Option<&str> {
    let rest = text.strip_prefix(PREFIX)?;
    let (id, secret) = rest.split_at_checked(ID_CHARS)?;
    let decoded = URL_SAFE_NO_PAD.decode(secret.strip_prefix('_')?).ok()?;
    (decoded.len() == RANDOM_BYTES - ID_BYTES && is_id(id)).then_some(id)
}

fn is_id(text: &str) -> bool {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == ID_CHARS && text.bytes().all(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(secret: &Secret) -> Token {
        Token {
            name: Arc::from("ci"),
            id: secret.id().to_owned(),
            sha256: secret.hash(),
            role: Role::Read,
            sources: Vec::new(),
            create_time: Timestamp::UNIX_EPOCH,
            expire_time: None,
            revoke_time: None,
        }
    }

    #[test]
    fn a_token_is_found_until_it_ends() {
        let secret = Secret::new(&[7; RANDOM_BYTES]);
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let expiring = Token {
            expire_time: Some(at(100)),
            ..token(&secret)
        };
        let tokens = Tokens::new(vec![expiring.clone()]);
        assert_eq!(*tokens.find(secret.reveal(), at(99)).unwrap(), expiring);
        assert_eq!(tokens.find(secret.reveal(), at(100)), Err(Unknown::Expired));
        assert!(tokens.still(&expiring, at(99)) && !tokens.still(&expiring, at(100)));
        let revoked = Token {
            revoke_time: Some(at(50)),
            ..token(&secret)
        };
        let tokens = Tokens::new(vec![revoked]);
        assert_eq!(tokens.find(secret.reveal(), at(1)), Err(Unknown::Revoked));
        assert!(!tokens.still(&expiring, at(1)));
    }

    #[test]
    fn what_is_nearly_a_token_is_none() {
        let secret = Secret::new(&[7; RANDOM_BYTES]);
        let tokens = Tokens::new(vec![token(&secret)]);
        let text = secret.reveal();
        let other = Secret::new(&{
            let mut random = [7; RANDOM_BYTES];
            random[RANDOM_BYTES - 1] = 8;
            random
        });
        assert_eq!(other.id(), secret.id());
        for (text, why) in [
            (other.reveal().to_owned(), Unknown::Wrong),
            (Secret::new(&[9; RANDOM_BYTES]).0, Unknown::Wrong),
            (text[..text.len() - 1].to_owned(), Unknown::Malformed),
            (format!("{text}A"), Unknown::Malformed),
            (text.to_uppercase(), Unknown::Malformed),
            (format!("{PREFIX}ü"), Unknown::Malformed),
            (String::new(), Unknown::Malformed),
        ] {
            assert_eq!(
                tokens.find(&text, Timestamp::UNIX_EPOCH),
                Err(why),
                "{text}"
            );
        }
    }

    #[test]
    fn a_token_is_not_printed_by_accident() {
        let secret = Secret::new(&[7; RANDOM_BYTES]);
        assert_eq!(format!("{secret:?}"), "Secret(\"070707070707\")");
    }
}
