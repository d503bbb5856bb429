//! Carrying a whole ledger elsewhere in one file, and making a ledger from it again.
use std::{
    io::{Read, Write},
    path::Path,
};

use waybill_store::{
    Damage, Fault, Hash,
    export::{self, Contents},
    journal, place,
};

use crate::{
    leaf::PURE,
    open::hex,
    verify::{self, Tree},
    words::Progress,
};

/// What was carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Names the tree.
    pub ledger_id: String,
    /// Last position.
    pub position: u64,
    /// Root of the tree there.
    pub root: Hash,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Writes everything that the journal in a data directory holds to `out`, which errors call `name`.
///
/// Needs no lock: what is recorded meanwhile is left for the next export.
///
/// # Errors
/// [`Fault::Damage`] when the journal is not what was written: a damaged ledger is never exported.
pub fn export(
    dir: &Path,
    out: &mut dyn Write,
    name: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Carried, Fault> {
    let journal = place::journal_dir(dir);
    let mut tree = Tree::new(&[]);
    let summary = journal::read(&journal, None, &PURE, &mut |frame| {
        tree.take(&frame);
        progress(Progress {
            what: "reading the journal",
            done: tree.position(),
            total: None,
        });
        Ok(())
    })?;
    if let Some(damage) = summary.damages.into_iter().next() {
        return Err(Fault::Damage(damage));
    }
    let contents = export::export(&journal, &summary.tip, &tree.root(), &PURE, out, name)?;
    Ok(carried(contents))
}

/// Makes a ledger in an empty or new data directory from an export, if the tree has the root that the export names.
///
/// # Errors
/// [`Fault::Damage`] when the file is not what was written, [`Fault::Foreign`] when the directory holds a ledger already.
/// Then nothing is left behind.
pub fn restore(
    input: &mut dyn Read,
    name: &Path,
    dir: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Carried, Fault> {
    let mut tree = Tree::new(&[]);
    let options = journal::Options::default();
    let restored = export::restore(
        input,
        name,
        &place::journal_dir(dir),
        &options,
        &PURE,
        &mut |frame| {
            tree.take(frame);
            progress(Progress {
                what: "restoring",
                done: tree.position(),
                total: None,
            });
            Ok(())
        },
    )?;
    check_root(&restored.contents, &tree, name)?;
    let contents = restored.contents.clone();
    restored.keep()?;
    Ok(carried(contents))
}

/// Checks an export from beginning to end without keeping anything.
///
/// # Errors
/// As [`verify::directory`]; damage is in the report.
pub(crate) fn check(
    input: &mut dyn Read,
    name: &Path,
    sizes: &[u64],
    progress: &mut dyn FnMut(Progress),
) -> Result<verify::Report, Fault> {
    let mut tree = Tree::new(sizes);
    let read = export::read(input, name, &PURE, &mut |frame| {
        tree.take(&frame);
        progress(Progress {
            what: "checking the export",
            done: tree.position(),
            total: None,
        });
        Ok(())
    });
    match read {
        Ok(contents) => {
            let wrong = check_root(&contents, &tree, name).err();
            let damages = wrong.into_iter().filter_map(damage).collect();
            Ok(tree.report(contents.ledger_id, false, damages))
        }
        Err(Fault::Damage(damage)) => Ok(tree.report(String::new(), false, vec![damage])),
        Err(fault) => Err(fault),
    }
}

fn check_root(contents: &Contents, tree: &Tree, name: &Path) -> Result<(), Fault> {
    if contents.root == tree.root() && contents.position == tree.position() {
        return Ok(());
    }
    Err(Fault::Damage(Damage {
        file: name.to_owned(),
        offset: 0,
        first_position: 1,
        last_position: Some(contents.position),
        what: format!(
            "its events have root {}, it names root {}",
            hex(&tree.root()),
            hex(&contents.root)
        ),
    }))
}

fn damage(fault: Fault) -> Option<Damage> {
    match fault {
        Fault::Damage(damage) => Some(damage),
        _ => None,
    }
}

fn carried(contents: Contents) -> Carried {
    let Contents {
        ledger_id,
        position,
        root,
        bytes,
        ..
    } = contents;
    Carried {
        ledger_id,
        position,
        root,
        bytes,
    }
}
