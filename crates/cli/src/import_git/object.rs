//! Commit objects as they are stored: what git hashed, before any reader's opinion of it.
use std::fmt;

use super::command::Error;

/// The id of an object: 20 or 32 bytes. Orders bytewise.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ObjectId {
    bytes: [u8; 32],
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Format {
    Sha1,
    Sha256,
}

impl ObjectId {
    /// Reads 40 or 64 hex digits.
    pub(super) fn parse(hex_digits: &[u8]) -> Option<Self> {
        let mut bytes = [0; 32];
        let format = match hex_digits.len() {
            40 => Format::Sha1,
            64 => Format::Sha256,
            _ => return None,
        };
        hex::decode_to_slice(hex_digits, &mut bytes[..hex_digits.len() / 2]).ok()?;
        Some(Self { bytes, format })
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = match self.format {
            Format::Sha1 => 20,
            Format::Sha256 => 32,
        };
        f.write_str(&hex::encode(&self.bytes[..length]))
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One commit object. Bytes are as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Commit {
    pub(super) tree: Option<ObjectId>,
    /// In the object's order.
    pub(super) parents: Vec<ObjectId>,
    pub(super) author: Signature,
    pub(super) committer: Signature,
    /// The `encoding` header; UTF-8 where there is none.
    pub(super) encoding: Option<String>,
    pub(super) message: Vec<u8>,
}

/// Who and when, of an author, committer or tagger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Signature {
    pub(super) name: Vec<u8>,
    pub(super) email: Vec<u8>,
    /// Seconds since 1970; none where the object has no number there.
    pub(super) seconds: Option<i64>,
}

impl Commit {
    /// Reads an object. Headers that are unknown, broken or absent are left out: history cannot be mended here.
    pub(super) fn parse(object: &[u8]) -> Self {
        let mut commit = Self {
            tree: None,
            parents: Vec::new(),
            author: Signature::default(),
            committer: Signature::default(),
            encoding: None,
            message: Vec::new(),
        };
        let mut rest = object;
        while !rest.is_empty() {
            let end = rest
                .iter()
                .position(|byte| *byte == b'\n')
                .unwrap_or(rest.len());
            let line = &rest[..end];
            rest = rest.get(end + 1..).unwrap_or_default();
            if line.is_empty() {
                commit.message = rest.to_vec();
                break;
            }
            commit.header(line);
        }
        commit
    }

    fn header(&mut self, line: &[u8]) {
        let (key, value) = match line.iter().position(|byte| *byte == b' ') {
            Some(space) => (&line[..space], &line[space + 1..]),
            None => (line, &b""[..]),
        };
        match key {
            b"tree" => self.tree = ObjectId::parse(value),
            b"parent" => self.parents.extend(ObjectId::parse(value)),
            b"author" => self.author = Signature::parse(value),
            b"committer" => self.committer = Signature::parse(value),
            b"encoding" => self.encoding = Some(String::from_utf8_lossy(value).into_owned()),
            // Signatures, merge tags, and the lines that continue them (their key is empty).
            _ => {}
        }
    }
}

impl Signature {
    /// Reads `Name <email> seconds zone`. As git does, the e-mail ends at the first `>` and the date follows the last.
    fn parse(value: &[u8]) -> Self {
        let position = |byte: u8, from: usize| {
            value[from..]
                .iter()
                .position(|b| *b == byte)
                .map(|at| at + from)
        };
        let Some(open) = position(b'<', 0) else {
            return Self {
                name: value.trim_ascii().to_vec(),
                ..Self::default()
            };
        };
        let close = position(b'>', open).unwrap_or(value.len());
        let last = value
            .iter()
            .rposition(|b| *b == b'>')
            .map_or(value.len(), |at| at + 1);
        let date = String::from_utf8_lossy(&value[last..]);
        Self {
            name: value[..open].trim_ascii().to_vec(),
            email: value[open + 1..close].trim_ascii().to_vec(),
            seconds: date
                .split_ascii_whitespace()
                .next()
                .and_then(|number| number.parse().ok()),
        }
    }
}

/// Reads one `git cat-file --batch` answer's head, `<id> <type> <size>`, and gives id and size of a commit.
pub(super) fn batch_head(line: &[u8]) -> Result<(ObjectId, usize), Error> {
    let text = String::from_utf8_lossy(line);
    let mut words = text.split_ascii_whitespace();
    let read = |id: Option<&str>, kind: Option<&str>, size: Option<&str>| {
        let id = ObjectId::parse(id?.as_bytes())?;
        (kind? == "commit").then_some(())?;
        Some((id, size?.parse().ok()?))
    };
    read(words.next(), words.next(), words.next()).ok_or_else(|| Error::Unexpected {
        command: "cat-file",
        said: waybill_core::refusal::shown(text.trim_end()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "1f2e3d4c5b6a79880112233445566778899aabbc";

    #[test]
    fn an_object_is_read_as_it_stands() {
        let object = format!(
            "tree {ID}\nparent {ID}\nparent {ID}\nauthor A B <a@b.c> 12 +0100\ncommitter C <c> -7 +0000\n\
             encoding ISO-8859-1\ngpgsig -----BEGIN\n parent {ID}\n \n -----END\n\nsubject\n\nbody\n"
        );
        let commit = Commit::parse(object.as_bytes());
        assert_eq!(
            commit.parents.len(),
            2,
            "a signature's lines are no headers"
        );
        assert_eq!(commit.tree.unwrap().to_string(), ID);
        assert_eq!(
            (commit.author.seconds, commit.committer.seconds),
            (Some(12), Some(-7))
        );
        assert_eq!(commit.encoding.as_deref(), Some("ISO-8859-1"));
        assert_eq!(commit.message, b"subject\n\nbody\n");
    }

    #[test]
    fn signatures_of_all_kinds() {
        let signed = |name: &[u8], email: &[u8], seconds| Signature {
            name: name.to_vec(),
            email: email.to_vec(),
            seconds,
        };
        let cases = [
            (&b"A <a@b> 5 +0000"[..], signed(b"A", b"a@b", Some(5))),
            (b"<> 5 +0000", signed(b"", b"", Some(5))),
            (b"A <a <b>> 5 +0000", signed(b"A", b"a <b", Some(5))),
            (
                b"A <a@b> 99999999999999999999 +0000",
                signed(b"A", b"a@b", None),
            ),
            (b"J\xf6rg <j@b>", signed(b"J\xf6rg", b"j@b", None)),
            (b"nobody", signed(b"nobody", b"", None)),
        ];
        for (line, expected) in cases {
            assert_eq!(
                Signature::parse(line),
                expected,
                "{}",
                String::from_utf8_lossy(line)
            );
        }
    }

    #[test]
    fn truncated_and_empty_objects_do_no_harm() {
        for object in [
            &b""[..],
            b"\n",
            b"tree",
            b"tree x\nparent\nauthor",
            b"\n\n\n",
        ] {
            let commit = Commit::parse(object);
            assert_eq!((commit.tree, commit.parents.len()), (None, 0));
        }
    }
}
