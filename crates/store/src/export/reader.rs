//! Reading an export: once through, and believing nothing before the footer has sealed it.
use std::{
    io::{self, Read},
    path::Path,
};

use sha2::{Digest, Sha256};

use super::{
    Contents,
    format::{FOOTER_BYTES, FOOTER_MAGIC, Footer, HEADER_BYTES, Header, begins},
};
use crate::{
    fault::{Damage, Fault},
    journal::{self, FRAME_HEADER_BYTES, Frame},
    record::{Hash, Pure, Tip},
};

/// Reads an export from beginning to end and checks everything but the root, which the caller compares.
///
/// Frames are handed on as they are read: only when this returns `Ok` were they all what was written. Offsets in their
/// tips are those in the export, and their segment is 0.
///
/// # Errors
/// [`Fault::Damage`] naming the offset in `name` when it is changed or short, [`Fault::Foreign`] when it is no export or
/// of an unknown version, and whatever `visit` fails with.
pub fn read(
    input: &mut dyn Read,
    name: &Path,
    pure: &Pure,
    visit: &mut dyn FnMut(Frame) -> Result<(), Fault>,
) -> Result<Contents, Fault> {
    open(input, name)?.frames(pure, visit)
}

/// Reads the header; frames follow.
pub(super) fn open<'a>(input: &'a mut dyn Read, name: &'a Path) -> Result<Reader<'a>, Fault> {
    let mut reader = Reader {
        input,
        name,
        hash: Sha256::new(),
        offset: 0,
        position: 0,
        header: Header {
            mark: [0; 8],
            position: 0,
            root: [0; 32],
            chain: [0; 32],
            ledger_id: String::new(),
        },
    };
    let bytes = reader.exactly::<HEADER_BYTES>()?;
    reader.hash.update(bytes);
    reader.header = Header::parse(&bytes).map_err(|version| match version {
        Some(version) => Fault::Foreign {
            what: format!(
                "{} is an export of version {version}, which this binary does not know",
                name.display()
            ),
        },
        None if begins(&bytes) => Fault::Damage(Damage {
            file: name.to_owned(),
            offset: 0,
            first_position: 1,
            last_position: None,
            what: "the header is not what was written".to_owned(),
        }),
        None => Fault::Foreign {
            what: format!("{} does not begin like an export", name.display()),
        },
    })?;
    reader.offset = HEADER_BYTES as u64;
    Ok(reader)
}

/// An export, read up to somewhere.
pub(super) struct Reader<'a> {
    input: &'a mut dyn Read,
    name: &'a Path,
    hash: Sha256,
    /// Where the next frame begins.
    offset: u64,
    /// Last position read.
    position: u64,
    pub(super) header: Header,
}

impl Reader<'_> {
    pub(super) fn frames(
        mut self,
        pure: &Pure,
        visit: &mut dyn FnMut(Frame) -> Result<(), Fault>,
    ) -> Result<Contents, Fault> {
        let mut chain: Hash = [0; 32];
        let mut counted = Footer::default();
        let (mut bytes, mut scratch) = (Vec::new(), Vec::new());
        loop {
            // A footer and a frame's header are equally long, so that one read tells which it is.
            let head = self.exactly::<FOOTER_BYTES>()?;
            if head[..8] == FOOTER_MAGIC {
                return self.finish(&head, &chain, &counted);
            }
            let frame = self.frame(&head, &chain, pure, &mut bytes, &mut scratch)?;
            counted.frames += 1;
            counted.records += frame.records.len() as u64;
            chain = frame.tip.chain;
            self.position = frame.tip.position;
            self.hash.update(&bytes);
            self.offset += bytes.len() as u64;
            visit(frame)?;
        }
    }

    fn frame(
        &mut self,
        head: &[u8; FRAME_HEADER_BYTES],
        chain: &Hash,
        pure: &Pure,
        bytes: &mut Vec<u8>,
        scratch: &mut Vec<u8>,
    ) -> Result<Frame, Fault> {
        let mark = self.header.mark;
        let length = journal::whole_bytes(head, mark)
            .ok_or_else(|| self.damage("neither a frame nor the footer begins here"))?;
        bytes.clear();
        bytes.extend_from_slice(head);
        bytes.resize(length, 0);
        self.fill(&mut bytes[head.len()..])?;
        let (header, body) = journal::frame_at(bytes, 0, mark)
            .ok_or_else(|| self.damage("a frame's checksum does not agree"))?;
        let end = self.offset + length as u64;
        let tip = Tip {
            offset: end,
            ..header.tip(0, 0)
        };
        journal::open_frame(
            &header,
            body,
            (self.position, Some(chain)),
            tip,
            pure,
            scratch,
        )
        .map_err(|what| self.damage(what))
    }

    fn finish(
        mut self,
        bytes: &[u8; FOOTER_BYTES],
        chain: &Hash,
        counted: &Footer,
    ) -> Result<Contents, Fault> {
        let footer = Footer::parse(bytes)
            .ok_or_else(|| self.damage("the footer is not what was written"))?;
        let due = Footer {
            position: self.position,
            bytes: self.offset,
            hash: self.hash.clone().finalize().into(),
            ..counted.clone()
        };
        if footer != due || self.header.position != self.position || self.header.chain != *chain {
            return Err(self.damage("header, frames and footer do not belong together"));
        }
        self.offset += FOOTER_BYTES as u64;
        match self.input.read(&mut [0]) {
            Ok(0) => Ok(self.header.contents(&footer)),
            Ok(_) => Err(self.damage("something follows the footer")),
            Err(error) => Err(Fault::io("read", self.name)(error)),
        }
    }

    fn exactly<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Fault> {
        self.input
            .read_exact(bytes)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => {
                    self.damage("the export is cut off within what begins here")
                }
                _ => Fault::io("read", self.name)(error),
            })
    }

    fn damage(&self, what: impl Into<String>) -> Fault {
        Damage {
            file: self.name.to_owned(),
            offset: self.offset,
            first_position: self.position + 1,
            last_position: None,
            what: what.into(),
        }
        .into()
    }
}
