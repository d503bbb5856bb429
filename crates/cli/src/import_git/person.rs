//! Persons as keyed hashes (LEDGER E10): the same e-mail is the same actor, and only the ledger's key tells which.
use std::collections::HashMap;

use hmac::{Hmac, Mac};
use sha2::Sha256;
use waybill_proto::pb;

use super::text;

/// Longest name that is kept, the bound of names in events.
const NAME_BYTES_MAX: usize = 256;

/// Makes actors, each e-mail once.
pub(super) struct Persons {
    key: [u8; 32],
    with_names: bool,
    hashes: HashMap<String, String>,
}

impl Persons {
    pub(super) fn new(key: [u8; 32], with_names: bool) -> Self {
        Self {
            key,
            with_names,
            hashes: HashMap::new(),
        }
    }

    /// The actor of a name and an e-mail; none where both are empty.
    pub(super) fn actor(&mut self, name: &str, email: &str) -> Option<pb::Actor> {
        let id = self.hash(name, email)?;
        let display_name = match self.with_names {
            true => text::shortened(&text::safe(name), NAME_BYTES_MAX),
            false => String::new(),
        };
        Some(pb::Actor {
            id,
            kind: kind(name, email).into(),
            display_name,
        })
    }

    /// What stands in a trailer for a person written `Name <email>`, or in any other way.
    pub(super) fn trailer_value(&mut self, written: &str) -> String {
        if self.with_names {
            return written.to_owned();
        }
        let (name, email) = split(written);
        self.hash(name, email).unwrap_or_default()
    }

    /// `hmac-sha256:<hex>` of the e-mail in lower case, or of the name where there is no e-mail.
    fn hash(&mut self, name: &str, email: &str) -> Option<String> {
        let who = [email, name]
            .into_iter()
            .map(str::trim)
            .find(|part| !part.is_empty())?
            .to_lowercase();
        if let Some(hash) = self.hashes.get(&who) {
            return Some(hash.clone());
        }
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).ok()?;
        mac.update(who.as_bytes());
        let hash = format!("hmac-sha256:{}", hex::encode(mac.finalize().into_bytes()));
        self.hashes.insert(who, hash.clone());
        Some(hash)
    }
}

/// Splits `Name <email>`; text without an e-mail is a name.
fn split(written: &str) -> (&str, &str) {
    match (written.find('<'), written.rfind('>')) {
        (Some(open), Some(close)) if open < close => (&written[..open], &written[open + 1..close]),
        _ if written.contains('@') => ("", written),
        _ => (written, ""),
    }
}

/// Forges mark the accounts of programs with `[bot]`; nothing else in a commit tells a person from a program.
fn kind(name: &str, email: &str) -> pb::ActorKind {
    let account = email.split('@').next().unwrap_or_default();
    if name.ends_with("[bot]") || account.ends_with("[bot]") {
        pb::ActorKind::Bot
    } else {
        pb::ActorKind::Unspecified
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_email_is_one_actor_however_it_is_written() {
        let mut persons = Persons::new([7; 32], false);
        let ann = persons.actor("Ann", "Ann@Example.org").unwrap();
        assert_eq!(ann, persons.actor("A. Author", " ann@example.org").unwrap());
        assert_eq!(
            ann.id,
            persons.trailer_value("Ann Author <ANN@example.org>")
        );
        assert_eq!(ann.id, persons.trailer_value("ann@example.org"));
        assert_ne!(
            ann.id,
            Persons::new([8; 32], false)
                .actor("Ann", "ann@example.org")
                .unwrap()
                .id
        );
        assert!(
            ann.id.starts_with("hmac-sha256:")
                && ann.id.len() == 12 + 64
                && ann.display_name.is_empty()
        );
    }

    #[test]
    fn the_hash_is_the_same_for_ever() {
        // python3: hmac.new(bytes([7] * 32), b"ann@example.org", "sha256").hexdigest()
        let ann = Persons::new([7; 32], false)
            .actor("", "ann@example.org")
            .unwrap();
        assert_eq!(
            ann.id,
            "hmac-sha256:1f40432fc59594e562da23bb52e279ca15e4f922f00e1f20619cb8488b9b3486"
        );
    }

    #[test]
    fn names_are_kept_when_asked_for_and_bots_are_seen() {
        let mut persons = Persons::new([7; 32], true);
        let bot = persons
            .actor(
                "dependabot[bot]",
                "49699333+dependabot[bot]@users.noreply.github.com",
            )
            .unwrap();
        assert_eq!(
            (bot.kind(), &bot.display_name[..]),
            (pb::ActorKind::Bot, "dependabot[bot]")
        );
        assert_eq!(
            persons.actor("\u{202E}x", "").unwrap().display_name,
            "%E2%80%AEx"
        );
        assert_eq!(persons.actor(" ", ""), None);
        assert_eq!(persons.trailer_value("Ann <a@b>"), "Ann <a@b>");
    }
}
