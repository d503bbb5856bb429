//! Restoring: a new journal from an export, or none at all.
use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use super::{Contents, reader};
use crate::{
    directory,
    fault::Fault,
    journal::{self, Frame, Journal, Options},
    record::Pure,
};

/// A restored journal that is complete and durable, but not in its place yet. Dropping it removes it.
#[derive(Debug)]
pub struct Restored {
    /// What was restored. The root is what the export claims: compare it before [`Restored::keep`].
    pub contents: Contents,
    unfinished: Unfinished,
    place: PathBuf,
}

impl Restored {
    /// Puts the journal in its place.
    ///
    /// # Errors
    /// As the system says.
    pub fn keep(self) -> Result<(), Fault> {
        fs::rename(&self.unfinished.0, &self.place)
            .map_err(Fault::io("rename", &self.unfinished.0))?;
        directory::sync(directory::parent(&self.place))
    }
}

/// Makes a journal from an export, for the journal directory `dir`. It has the same frames, and so the same chain.
///
/// Every frame is handed on, so that the caller can work the root out. `name` is what errors call the export.
///
/// # Errors
/// As [`super::read`]; [`Fault::Foreign`] when there is a journal in `dir` already, whosever it is.
pub fn restore(
    input: &mut dyn Read,
    name: &Path,
    dir: &Path,
    options: &Options,
    pure: &Pure,
    visit: &mut dyn FnMut(&Frame) -> Result<(), Fault>,
) -> Result<Restored, Fault> {
    refuse_occupied(dir, name)?;
    let reader = reader::open(input, name)?;
    let unfinished = Unfinished::new(dir)?;
    let (mut journal, _) = Journal::begin_first(&unfinished.0, &reader.header.ledger_id, options)?;
    let contents = reader.frames(pure, &mut |frame| {
        visit(&frame)?;
        journal.load(&frame.records, &frame.leaves)
    })?;
    journal.finish()?;
    Ok(Restored {
        contents,
        unfinished,
        place: dir.to_owned(),
    })
}

fn refuse_occupied(dir: &Path, name: &Path) -> Result<(), Fault> {
    let ledger_id = if dir.exists() {
        journal::ledger_id(dir)?
    } else {
        None
    };
    match ledger_id {
        None => Ok(()),
        Some(ledger_id) => Err(Fault::Foreign {
            what: format!(
                "{} holds the journal of ledger {ledger_id} already; restore {} into an empty directory",
                dir.display(),
                name.display()
            ),
        }),
    }
}

/// A directory that is removed again unless it has been renamed.
#[derive(Debug)]
struct Unfinished(PathBuf);

impl Unfinished {
    fn new(dir: &Path) -> Result<Self, Fault> {
        let path = dir.with_extension("restoring");
        if path.exists() {
            // What an earlier try left.
            fs::remove_dir_all(&path).map_err(Fault::io("remove", &path))?;
        }
        directory::create(&path, directory::PRIVATE)?;
        Ok(Self(path))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Best effort: the next try removes it as well.
        drop(fs::remove_dir_all(&self.0));
    }
}
