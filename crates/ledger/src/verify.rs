//! Checking a ledger's bytes without running it: every frame, every leaf, the whole tree (LEDGER P2).
use std::{fs::File, io::BufReader, path::Path};

pub use waybill_store::export::begins as begins_export;
use waybill_store::{
    Damage, Fault, Hash,
    journal::{self, Frame},
    place,
};
use waybill_tlog::Frontier;

use crate::{carry, leaf::PURE, words::Progress};

/// What a check of a journal or an export found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Names the tree.
    pub ledger_id: String,
    /// Last position that is whole and follows from the first without a gap.
    pub position: u64,
    /// Root of the tree up to there.
    pub root: Hash,
    /// A half-written end follows, as a crash leaves it; it never had a receipt.
    pub torn: bool,
    /// Everything that is not what was written. Empty for a sound ledger.
    pub damages: Vec<Damage>,
    /// For every size that was asked: the root there, where the tree reaches it.
    pub roots: Vec<(u64, Option<Hash>)>,
}

/// Whether a directory is a ledger's, whatever state its journal is in.
///
/// # Errors
/// As the system says, where it cannot tell.
pub fn is_ledger(dir: &Path) -> std::io::Result<bool> {
    place::journal_dir(dir).try_exists()
}

/// Checks the journal in a data directory. Needs neither the lock nor the keys, and changes nothing.
///
/// `sizes` are tree sizes whose roots are wanted, such as that of a kept checkpoint.
///
/// # Errors
/// As the system says, or [`Fault::Foreign`] for an unknown version. Damage is in the report.
pub fn directory(
    dir: &Path,
    sizes: &[u64],
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, Fault> {
    let mut tree = Tree::new(sizes);
    let summary = journal::read(&place::journal_dir(dir), None, &PURE, &mut |frame| {
        tree.take(&frame);
        progress(Progress {
            what: "checking the journal",
            done: tree.position(),
            total: None,
        });
        Ok(())
    })?;
    Ok(tree.report(summary.ledger_id, summary.torn, summary.damages))
}

/// Checks an export, as [`directory`] does a data directory.
///
/// # Errors
/// As [`directory`].
pub fn export_file(
    file: &Path,
    sizes: &[u64],
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, Fault> {
    let opened = File::open(file);
    let opened = opened.map_err(|source| Fault::Io {
        action: "open",
        path: file.to_owned(),
        source,
    })?;
    carry::check(&mut BufReader::new(opened), file, sizes, progress)
}

/// The tree that grows while frames are read.
pub(crate) struct Tree {
    frontier: Frontier,
    roots: Vec<(u64, Option<Hash>)>,
}

impl Tree {
    pub(crate) fn new(sizes: &[u64]) -> Self {
        Self {
            frontier: Frontier::new(),
            roots: sizes.iter().map(|size| (*size, None)).collect(),
        }
    }

    pub(crate) fn position(&self) -> u64 {
        self.frontier.size()
    }

    pub(crate) fn root(&self) -> Hash {
        self.frontier.root()
    }

    /// Takes a frame that follows what is there; one behind a gap cannot be placed and is left out.
    pub(crate) fn take(&mut self, frame: &Frame) {
        if frame
            .records
            .first()
            .is_none_or(|record| record.position != self.frontier.size() + 1)
        {
            return;
        }
        for leaf in &frame.leaves {
            self.frontier.push(*leaf, &mut |_, _, _| {});
            let size = self.frontier.size();
            for (wanted, root) in self.roots.iter_mut().filter(|(wanted, _)| *wanted == size) {
                debug_assert_eq!(*wanted, size);
                *root = Some(self.frontier.root());
            }
        }
    }

    pub(crate) fn report(self, ledger_id: String, torn: bool, damages: Vec<Damage>) -> Report {
        let (position, root) = (self.position(), self.root());
        Report {
            ledger_id,
            position,
            root,
            torn,
            damages,
            roots: self.roots,
        }
    }
}
