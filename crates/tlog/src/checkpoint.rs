//! Checkpoints: a tree's size and root, signed, in the form of [C2SP
//! tlog-checkpoint](https://c2sp.org/tlog-checkpoint).
//!
//! The origin is the ledger id, which names the tree and is shared by its replicas; the key name is the instance id,
//! which names the replica that signs.
use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{hash::Hash, note};

pub use crate::note::{KeyError, NoteError, SigningKey, VerifierKey};

/// What is signed: the first `size` leaves of the tree `origin` have this root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The ledger id. Not empty, one line.
    pub origin: String,
    /// Leaves of the tree.
    pub size: u64,
    /// Root of the tree.
    pub root: Hash,
}

/// Why a signed note gives no checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The note does not count as signed.
    #[error("the checkpoint's signature does not hold")]
    Note(#[source] NoteError),
    /// It is signed, but does not say what a checkpoint says.
    #[error("the signed text is no checkpoint: {rule}")]
    Text {
        /// The rule that it breaks.
        rule: &'static str,
    },
}

impl Checkpoint {
    /// The text that is signed: origin, size and base64 root, a line each.
    ///
    /// Control characters in the origin, which no ledger id has, become U+FFFD, so that an origin is never two lines.
    #[must_use]
    pub fn to_text(&self) -> String {
        let origin = self.origin.replace(|c: char| c.is_control(), "\u{FFFD}");
        format!("{origin}\n{}\n{}\n", self.size, STANDARD.encode(self.root))
    }

    /// Reads the text of a checkpoint; lines after the third are passed over.
    ///
    /// # Errors
    /// [`CheckpointError::Text`] names the line that is not as it should be.
    pub fn from_text(text: &str) -> Result<Self, CheckpointError> {
        let bad = |rule| CheckpointError::Text { rule };
        let body = text
            .strip_suffix('\n')
            .ok_or(bad("it does not end with a newline"))?;
        let mut lines = body.split('\n');
        let mut line = |rule| {
            lines
                .next()
                .filter(|line| !line.is_empty())
                .ok_or(bad(rule))
        };
        let origin = line("the first line, the origin, is empty")?.to_owned();
        let size = parse_size(line("the second line, the size, is missing")?).ok_or(bad(
            "the second line is not a tree size in decimal without leading zeros",
        ))?;
        let root = STANDARD
            .decode(line("the third line, the root, is missing")?)
            .ok()
            .and_then(|bytes| Hash::try_from(bytes).ok())
            .ok_or(bad("the third line is not 32 bytes in base64"))?;
        if lines.any(str::is_empty) {
            return Err(bad("an extension line is empty"));
        }
        Ok(Self { origin, size, root })
    }
}

impl SigningKey {
    /// Signs a checkpoint and returns the note. The caller must never have signed an inconsistent one.
    #[must_use]
    pub fn sign(&self, checkpoint: &Checkpoint) -> String {
        self.sign_text(&checkpoint.to_text())
    }
}

/// Reads a checkpoint that at least one of `keys` signed.
///
/// # Errors
/// [`CheckpointError::Note`] when the signature does not hold, [`CheckpointError::Text`] when something else was signed.
pub fn open(signed_note: &str, keys: &[VerifierKey]) -> Result<Checkpoint, CheckpointError> {
    Checkpoint::from_text(note::open(signed_note, keys).map_err(CheckpointError::Note)?)
}

fn parse_size(line: &str) -> Option<u64> {
    let plain = line == "0" || !line.starts_with(['0', '+']);
    line.parse().ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> SigningKey {
        SigningKey::from_seed("instance-1", [3; 32]).unwrap()
    }

    fn example() -> Checkpoint {
        Checkpoint {
            origin: "ledger-7f3a".into(),
            size: 20_852_163,
            root: [0xAB; 32],
        }
    }

    #[test]
    fn golden_note() {
        let expected = "ledger-7f3a\n20852163\nq6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=\n\n\u{2014} instance-1 \
            XfqO05sfzx2mEwFtNJbEkj/VkSU1bgzIA6ctxb6PFNxgq+GUnLmM2ciC3/O0six7tmcYzE4TVMcyh+Y2DT0t25TM3w8=\n";
        assert_eq!(key().sign(&example()), expected);
        let vkey = "instance-1+5dfa8ed3+Ae1JKMYo0cLG6ukDOJBZlWEpWSc6XGP5NjbBRhSshzfR";
        assert_eq!(key().verifier_key().to_vkey(), vkey);
        assert_eq!(
            open(&key().sign(&example()), &[key().verifier_key()]),
            Ok(example())
        );
    }

    #[test]
    fn reads_the_example_of_the_specification() {
        let text =
            "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
        let read = Checkpoint::from_text(text).unwrap();
        assert_eq!(
            (read.origin.as_str(), read.size),
            ("example.com/behind-the-sofa", 20_852_163)
        );
        assert_eq!(read.to_text(), text);
        let extended = Checkpoint::from_text(&format!("{text}an extension\n"));
        assert_eq!(extended, Ok(read));
    }

    #[test]
    fn refuses_texts_that_are_no_checkpoint() {
        let root = STANDARD.encode([0; 32]);
        let bad = [
            String::new(),
            format!("o\n5\n{root}"),
            format!("\n5\n{root}\n"),
            "o\n".into(),
            format!("o\n05\n{root}\n"),
            format!("o\n+5\n{root}\n"),
            format!("o\n-5\n{root}\n"),
            format!("o\n18446744073709551616\n{root}\n"),
            format!("o\n5\n{}\n", &root[4..]),
            format!("o\n5\n{root}\n\n"),
        ];
        for text in bad {
            let signed = key().sign_text(&text);
            let opened = open(&signed, &[key().verifier_key()]);
            assert!(
                opened.is_err() && Checkpoint::from_text(&text).is_err(),
                "{text:?}"
            );
        }
        assert_eq!(
            Checkpoint::from_text(&format!("o\n0\n{root}\n")).map(|read| read.size),
            Ok(0)
        );
    }

    #[test]
    fn an_origin_never_writes_other_lines() {
        let sly = Checkpoint {
            origin: "o\n1\nAAAA".into(),
            ..example()
        };
        let opened = open(&key().sign(&sly), &[key().verifier_key()]).unwrap();
        assert_eq!(
            (opened.origin.as_str(), opened.size),
            ("o\u{FFFD}1\u{FFFD}AAAA", sly.size)
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(origin in "[^\\p{Cc}]{1,40}", size: u64, root: Hash) {
            let checkpoint = Checkpoint { origin, size, root };
            prop_assert_eq!(Checkpoint::from_text(&checkpoint.to_text()), Ok(checkpoint));
        }

        #[test]
        fn nothing_panics(text: String) {
            let _ = Checkpoint::from_text(&text);
        }
    }
}
