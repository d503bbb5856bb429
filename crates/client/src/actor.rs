//! Persons as keyed hashes (LEDGER E10): the same person is the same actor, and only the ledger's key tells who.
use std::fmt;

use hmac::{Hmac, Mac};
use sha2::Sha256;
use waybill_proto::pb;

/// The ledger's actor key, given to callers that may emit.
#[derive(Clone)]
pub struct ActorKey([u8; 32]);

/// Why text is no actor key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an actor key is 64 hex digits")]
pub struct KeyError;

impl ActorKey {
    /// Takes the key's 32 bytes.
    #[must_use]
    pub fn from_bytes(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// Reads the key from 64 hex digits; white space around them is ignored.
    ///
    /// # Errors
    /// [`KeyError`], which does not show the text: it is a secret.
    pub fn from_hex(text: &str) -> Result<Self, KeyError> {
        let mut key = [0; 32];
        hex::decode_to_slice(text.trim(), &mut key).map_err(|_| KeyError)?;
        Ok(Self(key))
    }

    /// The actor of a person, named by e-mail, or by any other name that is always written the same. Upper and lower
    /// case and white space around it make no difference. The name itself is not sent.
    #[must_use]
    pub fn person(&self, name: &str) -> pb::Actor {
        pb::Actor {
            id: self.hash(name),
            kind: pb::ActorKind::User.into(),
            ..pb::Actor::default()
        }
    }

    /// `hmac-sha256:<64 hex digits>`.
    fn hash(&self, name: &str) -> String {
        let mut mac = hmac(&self.0);
        mac.update(name.trim().to_lowercase().as_bytes());
        format!("hmac-sha256:{}", hex::encode(mac.finalize().into_bytes()))
    }
}

/// The actor of a program, whose name is no secret: a bot, a service account.
#[must_use]
pub fn program(name: &str) -> pb::Actor {
    pb::Actor {
        id: name.to_owned(),
        kind: pb::ActorKind::ServiceAccount.into(),
        display_name: name.to_owned(),
    }
}

impl fmt::Debug for ActorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ActorKey(…)")
    }
}

/// A key shorter than SHA-256's block is padded with zeros to its length (RFC 2104), so this cannot fail.
fn hmac(key: &[u8; 32]) -> Hmac<Sha256> {
    let mut block = [0; 64];
    block[..32].copy_from_slice(key);
    <Hmac<Sha256> as hmac::digest::KeyInit>::new(&block.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_person_is_one_actor_as_in_every_other_emitter() {
        let key = ActorKey::from_bytes([7; 32]);
        // python3: hmac.new(bytes([7] * 32), b"ann@example.org", "sha256").hexdigest()
        let ann = "hmac-sha256:1f40432fc59594e562da23bb52e279ca15e4f922f00e1f20619cb8488b9b3486";
        assert_eq!(key.person("ann@example.org").id, ann);
        assert_eq!(key.person(" Ann@Example.ORG\n").id, ann);
        assert!(key.person("Ann").display_name.is_empty());
    }

    #[test]
    fn keys_are_read_and_never_shown() {
        let key = ActorKey::from_hex(&format!("{}\n", "07".repeat(32))).unwrap();
        assert_eq!(key.0, [7; 32]);
        assert_eq!(format!("{key:?}"), "ActorKey(…)");
        for text in ["", "07", &"0g".repeat(32), &"07".repeat(33)] {
            assert_eq!(ActorKey::from_hex(text).unwrap_err(), KeyError);
        }
    }
}
