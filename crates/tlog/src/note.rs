//! Signed notes: text, a blank line, and signatures, in the form of [C2SP signed-note](https://c2sp.org/signed-note)
//! with its Ed25519 signatures (type `0x01`).
use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, Signer, SigningKey as SecretKey, VerifyingKey};
use sha2::{Digest, Sha256};

/// The longest note that is opened, in bytes. The specification asks for room for 16 signatures of up to 5 kB.
pub const NOTE_BYTES_MAX: usize = 1 << 20;

/// The only signature type that this crate makes and checks.
const ED25519: u8 = 0x01;

/// What a signature line begins with: an em dash and a space.
const SIGNATURE_START: &str = "\u{2014} ";

/// Signs notes under one name.
pub struct SigningKey {
    name: String,
    secret: SecretKey,
}

/// Checks the notes of one name. Public; given to whoever should be able to verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    public: VerifyingKey,
}

/// Why a key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The name could not stand in a signature line.
    #[error(
        "`{name}` cannot name a key: names are not empty and hold no space, control character or `+`"
    )]
    Name {
        /// The name, escaped.
        name: String,
    },
    /// Not of the form `name+id+key`.
    #[error("a verifier key reads `<name>+<8 hex digits>+<base64>`")]
    Form,
    /// Of an algorithm that is not Ed25519.
    #[error("the key has signature type {found:#04x}, only Ed25519 ({ED25519:#04x}) is known")]
    Type {
        /// The type byte read.
        found: u8,
    },
    /// Not a point of the curve.
    #[error("the key is not an Ed25519 public key")]
    Point,
    /// The key id does not follow from name and key: a typing error, or two keys mixed up.
    #[error("the key id is {found}, name and key give {needed:08x}")]
    Id {
        /// The id read.
        found: String,
        /// The id that follows.
        needed: u32,
    },
}

/// Why a note does not count as signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Longer than [`NOTE_BYTES_MAX`].
    #[error("a note of {bytes} bytes is longer than {NOTE_BYTES_MAX}")]
    TooLong {
        /// Bytes given.
        bytes: usize,
    },
    /// Not text, a blank line and signature lines.
    #[error("this is no signed note: {rule}")]
    Form {
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// A signature line that cannot be read.
    #[error("signature line {line} does not read `\u{2014} <key name> <base64>`")]
    SignatureLine {
        /// The line, from 1, counted after the blank one.
        line: usize,
    },
    /// Nobody that is trusted signed it.
    #[error("none of the {signatures} signatures is by a key that is trusted here")]
    Untrusted {
        /// Signatures on the note.
        signatures: usize,
    },
    /// A trusted key's signature does not fit the text.
    #[error("the signature of `{name}` does not fit the text: text or signature was altered")]
    Signature {
        /// Name of the key.
        name: String,
    },
}

impl SigningKey {
    /// Makes the key from 32 secret bytes.
    ///
    /// # Errors
    /// [`KeyError::Name`] for a name that is empty or holds a space, a control character or `+`.
    pub fn from_seed(name: &str, seed: [u8; 32]) -> Result<Self, KeyError> {
        check_name(name)?;
        Ok(Self {
            name: name.to_owned(),
            secret: SecretKey::from_bytes(&seed),
        })
    }

    /// The public half.
    #[must_use]
    pub fn verifier_key(&self) -> VerifierKey {
        VerifierKey {
            name: self.name.clone(),
            public: self.secret.verifying_key(),
        }
    }

    /// Signs a text, which must end with a newline, and returns the whole note.
    pub(crate) fn sign_text(&self, text: &str) -> String {
        let id = key_id(&self.name, &self.secret.verifying_key());
        let mut signature = id.to_be_bytes().to_vec();
        signature.extend_from_slice(&self.secret.sign(text.as_bytes()).to_bytes());
        format!(
            "{text}\n{SIGNATURE_START}{} {}\n",
            self.name,
            STANDARD.encode(signature)
        )
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The secret stays out of logs.
        f.debug_struct("SigningKey")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl VerifierKey {
    /// Reads a key from its text, `<name>+<key id>+<base64>`.
    ///
    /// # Errors
    /// [`KeyError`] says which part does not hold.
    pub fn parse(vkey: &str) -> Result<Self, KeyError> {
        // The name holds no `+`; the base64 may.
        let mut parts = vkey.trim().splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(KeyError::Form);
        };
        check_name(name)?;
        let key = STANDARD.decode(key).map_err(|_| KeyError::Form)?;
        let (&found, key) = key.split_first().ok_or(KeyError::Form)?;
        if found != ED25519 {
            return Err(KeyError::Type { found });
        }
        let key: &[u8; 32] = key.try_into().map_err(|_| KeyError::Point)?;
        let public = VerifyingKey::from_bytes(key).map_err(|_| KeyError::Point)?;
        let needed = key_id(name, &public);
        if id != format!("{needed:08x}") {
            return Err(KeyError::Id {
                found: id.escape_default().to_string(),
                needed,
            });
        }
        Ok(Self {
            name: name.to_owned(),
            public,
        })
    }

    /// The key as text, the form that [`VerifierKey::parse`] reads.
    #[must_use]
    pub fn to_vkey(&self) -> String {
        let mut key = vec![ED25519];
        key.extend_from_slice(self.public.as_bytes());
        format!(
            "{}+{:08x}+{}",
            self.name,
            key_id(&self.name, &self.public),
            STANDARD.encode(key)
        )
    }

    /// Whose notes it checks.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_vkey())
    }
}

/// Gives the text of a note that at least one of `keys` signed.
///
/// Signatures by other keys are passed over, as the specification asks; one by a key that is given here and does not
/// fit refuses the whole note.
///
/// # Errors
/// [`NoteError`] says what does not hold.
pub fn open<'a>(note: &'a str, keys: &[VerifierKey]) -> Result<&'a str, NoteError> {
    let (text, lines) = split(note)?;
    let (mut signatures, mut trusted) = (0, false);
    for line in lines.lines() {
        signatures += 1;
        let signed = SignatureLine::parse(line);
        let signed = signed.ok_or(NoteError::SignatureLine { line: signatures })?;
        for key in keys.iter().filter(|key| signed.is_by(key)) {
            if !signed.fits(text, key) {
                return Err(NoteError::Signature {
                    name: key.name.clone(),
                });
            }
            trusted = true;
        }
    }
    if trusted {
        Ok(text)
    } else {
        Err(NoteError::Untrusted { signatures })
    }
}

/// Splits at the last blank line into the text, with its last newline, and the signature lines.
fn split(note: &str) -> Result<(&str, &str), NoteError> {
    if note.len() > NOTE_BYTES_MAX {
        return Err(NoteError::TooLong { bytes: note.len() });
    }
    let form = |rule| NoteError::Form { rule };
    if note.bytes().any(|byte| byte < b' ' && byte != b'\n') {
        return Err(form("it holds control characters"));
    }
    let at = note
        .rfind("\n\n")
        .ok_or(form("it has no blank line before the signatures"))?;
    let (text, lines) = (&note[..=at], &note[at + 2..]);
    if lines.is_empty() || !lines.ends_with('\n') {
        return Err(form(
            "signature lines must follow the blank line, each ended by a newline",
        ));
    }
    Ok((text, lines))
}

struct SignatureLine<'a> {
    name: &'a str,
    id: u32,
    signature: Vec<u8>,
}

impl<'a> SignatureLine<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (name, base64) = line.strip_prefix(SIGNATURE_START)?.split_once(' ')?;
        check_name(name).ok()?;
        let bytes = STANDARD.decode(base64).ok()?;
        let (id, signature) = bytes.split_first_chunk::<4>()?;
        Some(Self {
            name,
            id: u32::from_be_bytes(*id),
            signature: signature.to_vec(),
        })
    }

    fn is_by(&self, key: &VerifierKey) -> bool {
        self.name == key.name && self.id == key_id(&key.name, &key.public)
    }

    /// Strict, so that all implementations agree on which signatures count.
    fn fits(&self, text: &str, key: &VerifierKey) -> bool {
        Signature::from_slice(&self.signature).is_ok_and(|signature| {
            key.public
                .verify_strict(text.as_bytes(), &signature)
                .is_ok()
        })
    }
}

fn check_name(name: &str) -> Result<(), KeyError> {
    let bad = |c: char| c == '+' || c.is_whitespace() || c.is_control();
    if name.is_empty() || name.contains(bad) {
        return Err(KeyError::Name {
            name: name.escape_default().to_string(),
        });
    }
    Ok(())
}

/// The first four bytes of SHA-256(name ‖ newline ‖ type ‖ key), big-endian.
fn key_id(name: &str, public: &VerifyingKey) -> u32 {
    let digest = Sha256::new()
        .chain_update(name)
        .chain_update([b'\n', ED25519])
        .chain_update(public.as_bytes())
        .finalize();
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Examples of the specification's reference implementation (Go, `golang.org/x/mod/sumdb/note`).
    const VKEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const SECRET: &str = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
    const TEXT: &str = "If you think cryptography is the answer to your problem,\n\
        then you don't know what your problem is.\n";
    const SIGNATURE: &str = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=";

    fn example() -> String {
        format!("{TEXT}\n\u{2014} PeterNeumann {SIGNATURE}\n")
    }

    fn signer() -> SigningKey {
        let secret = STANDARD.decode(SECRET).unwrap();
        assert_eq!(secret[0], ED25519);
        SigningKey::from_seed("PeterNeumann", secret[1..].try_into().unwrap()).unwrap()
    }

    #[test]
    fn signs_and_opens_the_example_of_the_specification() {
        assert_eq!(signer().verifier_key().to_vkey(), VKEY);
        assert_eq!(signer().sign_text(TEXT), example());
        let key = VerifierKey::parse(VKEY).unwrap();
        assert_eq!(open(&example(), &[key]), Ok(TEXT));
    }

    #[test]
    fn opens_a_note_of_another_implementation() {
        let key = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
        let note = "This is an example message.\n\n\u{2014} example.com/foo \
            Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";
        let opened = open(note, &[VerifierKey::parse(key).unwrap()]);
        assert_eq!(opened, Ok("This is an example message.\n"));
    }

    #[test]
    fn unknown_signatures_are_passed_over_and_bad_known_ones_are_not() {
        let ours = SigningKey::from_seed("replica-2", [9; 32]).unwrap();
        let keys = [ours.verifier_key()];
        let both = example() + ours.sign_text(TEXT).rsplit_once("\n\n").unwrap().1;
        assert_eq!(open(&both, &keys), Ok(TEXT));
        assert_eq!(
            open(&example(), &keys),
            Err(NoteError::Untrusted { signatures: 1 })
        );
        let altered = both.replace("problem", "trouble");
        assert_eq!(
            open(&altered, &keys),
            Err(NoteError::Signature {
                name: "replica-2".into()
            })
        );
        // Another key of the same name is another key.
        let namesake = SigningKey::from_seed("replica-2", [8; 32]).unwrap();
        let foreign = open(&both, &[namesake.verifier_key()]);
        assert_eq!(foreign, Err(NoteError::Untrusted { signatures: 2 }));
    }

    #[test]
    fn refuses_what_is_no_note() {
        let key = [signer().verifier_key()];
        let example = example();
        for broken in [
            "",
            TEXT,
            &format!("{TEXT}\n"),
            example.trim_end(),
            &example.replace("think", "th\rink"),
            &format!("{example}\n"),
        ] {
            assert!(
                matches!(open(broken, &key), Err(NoteError::Form { .. })),
                "{broken}"
            );
        }
        for broken in [
            example.replace('\u{2014}', "-"),
            example.replace("PeterNeumann ", "Peter Neumann "),
            example.replace("=\n", "\n"),
        ] {
            assert_eq!(
                open(&broken, &key),
                Err(NoteError::SignatureLine { line: 1 }),
                "{broken}"
            );
        }
        let long = "x".repeat(NOTE_BYTES_MAX) + &example;
        assert!(matches!(open(&long, &key), Err(NoteError::TooLong { .. })));
    }

    #[test]
    fn refuses_keys_that_are_none() {
        let parse = |vkey: &str| VerifierKey::parse(vkey).unwrap_err();
        assert_eq!(parse("PeterNeumann"), KeyError::Form);
        assert_eq!(parse("PeterNeumann+c74f20a3+!"), KeyError::Form);
        assert_eq!(parse("PeterNeumann+c74f20a3+"), KeyError::Form);
        assert!(matches!(
            parse(&VKEY.replace("Peter", "Pete\u{A0}")),
            KeyError::Name { .. }
        ));
        assert_eq!(
            parse(&VKEY.replace("+AR", "+BB")),
            KeyError::Type { found: 4 }
        );
        assert_eq!(parse("PeterNeumann+c74f20a3+AQ=="), KeyError::Point);
        let id = parse(&VKEY.replace("c74f", "C74F"));
        assert_eq!(
            id,
            KeyError::Id {
                found: "C74F20a3".into(),
                needed: 0xc74f_20a3
            }
        );
        for name in ["", "a b", "a+b", "a\nb"] {
            assert!(SigningKey::from_seed(name, [1; 32]).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_signing_key_keeps_its_secret_out_of_logs() {
        assert_eq!(
            format!("{:?}", signer()),
            "SigningKey { name: \"PeterNeumann\", .. }"
        );
    }

    proptest! {
        #[test]
        fn any_altered_byte_fails(at: prop::sample::Index, flip in 1_u8..=255) {
            let mut bytes = example().into_bytes();
            bytes[at.index(example().len())] ^= flip;
            if let Ok(note) = std::str::from_utf8(&bytes) {
                prop_assert!(open(note, &[signer().verifier_key()]).is_err());
            }
        }

        #[test]
        fn nothing_panics(note: String, vkey: String) {
            let _ = open(&note, &[signer().verifier_key()]);
            let _ = VerifierKey::parse(&vkey);
        }
    }
}
