//! Ids of events: made once, before the first try, and the same on every try.
use std::fmt;

use sha2::{Digest, Sha256};

/// What an emitter calls one event, unique within its source for ever.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Id(String);

impl Id {
    /// Makes an id that nobody has made before: 128 bits of the operating system's randomness, as 32 hex digits.
    ///
    /// # Panics
    /// When the operating system has no randomness to give; std's own `HashMap` cannot be made then either.
    #[must_use]
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        if let Err(error) = getrandom::fill(&mut bytes) {
            panic!("the operating system gives every process randomness, and did not: {error}");
        }
        Self(hex::encode(bytes))
    }

    /// Makes the id that these parts always give: the first 128 bits of SHA-256 over them, each with its length, as 32
    /// hex digits.
    ///
    /// For work that may be run again and is then the same event, such as a CI step: provider, run, attempt, job, kind
    /// and subject. Parts never run together: `["ab", "c"]` and `["a", "bc"]` give different ids.
    #[must_use]
    pub fn from_parts<I>(parts: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let mut hasher = Sha256::new();
        for part in parts {
            let part = part.as_ref();
            hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hasher.update(part);
        }
        Self(hex::encode(&hasher.finalize()[..16]))
    }

    /// Takes an id that some other system made, such as a delivery's. The ledger's rules for ids are checked when the
    /// event is made.
    #[must_use]
    pub fn existing(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// The id as it is sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_give_the_same_id_for_ever() {
        let id = Id::from_parts([
            "github-actions",
            "8412",
            "1",
            "deploy",
            "deployment.finished",
            "checkout",
        ]);
        assert_eq!(id.as_str(), "6551cd0852c018270e05e231e42ebf59");
        assert_ne!(Id::from_parts(["ab", "c"]), Id::from_parts(["a", "bc"]));
        assert_ne!(Id::from_parts(["a", ""]), Id::from_parts(["a"]));
    }

    #[test]
    fn random_ids_differ() {
        let (a, b) = (Id::random(), Id::random());
        assert_ne!(a, b);
        assert_eq!(a.as_str().len(), 32);
    }
}
