//! What `git diff-tree --stdin -r -z --numstat --always` writes: for each commit its id, then its files.
use std::io::BufRead;

use super::{object::ObjectId, text};
use waybill_proto::pb::CommitFile;

/// diff-tree gives back a line that is no id as it is. Asked for last, it tells the end from a cut.
pub(super) const END: &[u8] = b"end\n";

/// Longest path that is kept whole; beyond it the beginning is.
const PATH_BYTES_MAX: usize = 16 * 1024;

/// Reads the files of one commit after the other.
pub(super) struct Numstat<R> {
    input: R,
    token: Vec<u8>,
    /// `token` holds the id of the next commit, read too far.
    ahead: bool,
    cut: bool,
}

/// The output ended, or is not what it should be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cut;

impl<R: BufRead> Numstat<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input,
            token: Vec::new(),
            ahead: false,
            cut: false,
        }
    }

    /// Goes to the next commit, which must be `id`.
    pub(super) fn begin(&mut self, id: ObjectId) -> Result<(), Cut> {
        if !self.ahead {
            self.read_token()?;
        }
        self.ahead = false;
        if ObjectId::parse(&self.token) == Some(id) {
            Ok(())
        } else {
            Err(Cut)
        }
    }

    /// The next file of the commit that was begun; none also where the output is cut, which [`Numstat::is_cut`] tells.
    pub(super) fn next_file(&mut self) -> Option<CommitFile> {
        let file = self.read_file();
        self.cut |= file.is_err();
        file.unwrap_or_default()
    }

    /// Makes sure that nothing is left but [`END`].
    pub(super) fn end(mut self) -> Result<(), Cut> {
        if !self.ahead {
            self.read_token()?;
        }
        if self.token == END { Ok(()) } else { Err(Cut) }
    }

    /// True when the output ended within a commit.
    pub(super) fn is_cut(&self) -> bool {
        self.cut
    }

    fn read_file(&mut self) -> Result<Option<CommitFile>, Cut> {
        if !self.ahead {
            self.read_token()?;
        }
        self.ahead = !self.token.contains(&b'\t');
        if self.ahead {
            Ok(None)
        } else {
            self.file().map(Some)
        }
    }

    /// Reads `added TAB removed TAB path`, or for a rename `added TAB removed TAB`, the old and the new path.
    fn file(&mut self) -> Result<CommitFile, Cut> {
        let mut parts = self.token.splitn(3, |byte| *byte == b'\t');
        let added = parts.next().ok_or(Cut)?;
        let removed = parts.next().ok_or(Cut)?;
        let path = parts.next().ok_or(Cut)?;
        let mut file = CommitFile {
            binary: added == b"-",
            ..CommitFile::default()
        };
        if !file.binary {
            (file.added, file.removed) = (count(added)?, count(removed)?);
        }
        if path.is_empty() {
            self.read_token()?;
            file.previous_path = shown(&self.token);
            self.read_token()?;
            name(&mut file, &self.token);
        } else {
            name(&mut file, path);
        }
        Ok(file)
    }

    fn read_token(&mut self) -> Result<(), Cut> {
        self.token.clear();
        self.input.read_until(0, &mut self.token).map_err(|_| Cut)?;
        match self.token.pop_if(|byte| *byte == 0) {
            Some(_) => Ok(()),
            None if self.token == END => Ok(()),
            None => Err(Cut),
        }
    }
}

/// More lines than 32 bits hold are as many as they hold.
fn count(digits: &[u8]) -> Result<u32, Cut> {
    let number: u64 = std::str::from_utf8(digits)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(Cut)?;
    Ok(u32::try_from(number).unwrap_or(u32::MAX))
}

fn name(file: &mut CommitFile, path: &[u8]) {
    file.path = shown(path);
    if file.path.as_bytes() != path && path.len() <= PATH_BYTES_MAX {
        file.raw_path = bytes::Bytes::copy_from_slice(path);
    }
}

fn shown(path: &[u8]) -> String {
    text::shortened(&text::or_percent(path), PATH_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: &str) -> ObjectId {
        ObjectId::parse(digit.repeat(40).as_bytes()).unwrap()
    }

    #[test]
    fn commits_and_their_files_alternate() {
        let output = format!(
            "{}\x003\t1\tsrc/a.rs\x00-\t-\tlogo.png\x00{}\x00{}\x000\t0\t\x00old\x00new\x00end\n",
            id("a"),
            id("b"),
            id("c")
        );
        let mut numstat = Numstat::new(output.as_bytes());
        let mut files = |commit: &str| {
            numstat.begin(id(commit)).unwrap();
            std::iter::from_fn(|| numstat.next_file()).collect::<Vec<_>>()
        };
        let plain = CommitFile {
            path: "src/a.rs".into(),
            added: 3,
            removed: 1,
            ..CommitFile::default()
        };
        let binary = CommitFile {
            path: "logo.png".into(),
            binary: true,
            ..CommitFile::default()
        };
        let renamed = CommitFile {
            path: "new".into(),
            previous_path: "old".into(),
            ..CommitFile::default()
        };
        assert_eq!(files("a"), [plain, binary]);
        assert_eq!(files("b"), []);
        assert_eq!(files("c"), [renamed]);
    }

    #[test]
    fn paths_of_other_bytes_are_kept_beside_their_text() {
        let output = [
            id("a").to_string().as_bytes(),
            b"\x001\t0\tcaf\xe9\ttab\x00",
        ]
        .concat();
        let mut numstat = Numstat::new(&output[..]);
        numstat.begin(id("a")).unwrap();
        let file = numstat.next_file().unwrap();
        assert_eq!(
            (&file.path[..], &file.raw_path[..]),
            ("caf%E9\ttab", &b"caf\xe9\ttab"[..])
        );
    }

    #[test]
    fn output_that_is_cut_is_noticed() {
        for cut in [
            "",
            "1\t2\tfile",
            "1\t2\tfile\x00",
            "1\t2\t\x00old\x00",
            "x\t2\tfile\x00",
        ] {
            let output = format!("{}\x00{cut}", id("a"));
            let mut numstat = Numstat::new(output.as_bytes());
            numstat.begin(id("a")).unwrap();
            while numstat.next_file().is_some() {}
            assert!(numstat.is_cut(), "{cut:?}");
        }
        assert_eq!(Numstat::new(&b""[..]).begin(id("a")), Err(Cut));
        assert_eq!(
            Numstat::new(id("b").to_string().as_bytes()).begin(id("a")),
            Err(Cut)
        );
    }
}
