//! `export` and `restore`: a whole ledger in one file, and back.
use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, BufWriter, Write as _},
    path::Path,
};

use waybill_ledger::carry::{self, Carried};

use crate::{
    args::{ExportArgs, RestoreArgs},
    context::Context,
    exit::{Exit, Failure},
    house,
    output::{self, clean},
    progress::Progress,
    words,
};

/// Bytes written or read at once.
const BUFFER_BYTES: usize = 1 << 20;

/// Writes a ledger to a file, or to standard output. A server that holds the ledger need not stop.
pub(crate) fn export(context: &Context, args: &ExportArgs) -> Result<(), Failure> {
    let (directory, _) = context.directories()?;
    if !waybill_ledger::is_ledger(&directory) {
        return Err(Failure::new(
            Exit::NotFound,
            format!("there is no ledger in {}", directory.display()),
        )
        .with_hint("name it with --ledger DIR"));
    }
    let mut progress = Progress::new(context.global.quiet);
    let mut step = |step: waybill_ledger::Progress| progress.set(step.what, step.done, step.total);
    if args.file == Path::new("-") {
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock());
        let carried = carry::export(
            &directory,
            &mut out,
            Path::new("standard output"),
            &mut step,
        )
        .map_err(|fault| house::failure(&fault))?;
        out.flush()?;
        drop(progress);
        output::say(sentence("exported", &carried));
        return Ok(());
    }
    let carried = to_file(&args.file, |out, name| {
        carry::export(&directory, out, name, &mut step).map_err(|fault| house::failure(&fault))
    })?;
    drop(progress);
    show(context, "exported", &carried)?;
    output::say(format!("check it: waybill verify {}", args.file.display()));
    Ok(())
}

/// Writes a new file that is whole and on disk, or none.
fn to_file(
    file: &Path,
    write: impl FnOnce(&mut dyn io::Write, &Path) -> Result<Carried, Failure>,
) -> Result<Carried, Failure> {
    let refused = |error: &io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Failure::usage(format!("{} exists already", file.display()))
                .with_hint("name a file that does not exist yet")
        }
        _ => Failure::usage(format!("{} cannot be made: {error}", file.display())),
    };
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(file)
        .map_err(|error| refused(&error))?;
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, made);
    let written = write(&mut out, file).and_then(|carried| {
        let synced = out
            .into_inner()
            .map_err(io::IntoInnerError::into_error)
            .and_then(|made| made.sync_all())
            .and_then(|()| sync_entry(file));
        synced.map_err(|error| {
            Failure::unexpected(format!("{} cannot be written: {error}", file.display()))
        })?;
        Ok(carried)
    });
    if written.is_err() {
        // Half an export is refused wherever it is read; it is also of no use lying about.
        let _ = fs::remove_file(file);
    }
    written
}

/// Makes a file's name durable: a file without one is lost as well.
fn sync_entry(file: &Path) -> io::Result<()> {
    let parent = file.parent().filter(|it| !it.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// Makes a ledger from an export; one that is damaged or foreign leaves nothing behind.
pub(crate) fn restore(context: &Context, args: &RestoreArgs) -> Result<(), Failure> {
    let mut progress = Progress::new(context.global.quiet);
    let mut step = |step: waybill_ledger::Progress| progress.set(step.what, step.done, step.total);
    let was_there = args.directory.exists();
    let restored = if args.file == Path::new("-") {
        carry::restore(
            &mut io::stdin().lock(),
            Path::new("standard input"),
            &args.directory,
            &mut step,
        )
    } else {
        let file = File::open(&args.file).map_err(|error| {
            let exit = if error.kind() == io::ErrorKind::NotFound {
                Exit::NotFound
            } else {
                Exit::Usage
            };
            Failure::new(
                exit,
                format!("{} cannot be opened: {error}", args.file.display()),
            )
        })?;
        carry::restore(
            &mut BufReader::with_capacity(BUFFER_BYTES, file),
            &args.file,
            &args.directory,
            &mut step,
        )
    };
    let carried = restored.map_err(|fault| {
        if !was_there {
            // Whatever else were in it would keep it: only an empty one goes.
            drop(fs::remove_dir(&args.directory));
        }
        house::failure(&fault)
    })?;
    drop(progress);
    show(context, "restored", &carried)?;
    output::say(format!(
        "use it: waybill serve --ledger {}",
        args.directory.display()
    ));
    Ok(())
}

fn show(context: &Context, done: &str, carried: &Carried) -> Result<(), Failure> {
    if context.out.json {
        let json = serde_json::json!({
            "ledgerId": carried.ledger_id, "position": carried.position.to_string(),
            "root": hex::encode(carried.root), "bytes": carried.bytes.to_string(),
        });
        return context.out.line(json.to_string());
    }
    context.out.line(sentence(done, carried))?;
    context
        .out
        .line(format!("root {}", hex::encode(carried.root)))
}

fn sentence(done: &str, carried: &Carried) -> String {
    let events = words::plural(carried.position, "event", "events");
    format!(
        "{done} ledger {}: {events}, {}",
        clean(&carried.ledger_id),
        words::bytes(carried.bytes)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carried() -> Carried {
        Carried {
            ledger_id: "l".to_owned(),
            position: 3,
            root: [0; 32],
            bytes: 4,
        }
    }

    #[test]
    fn a_file_that_is_there_is_never_overwritten_and_half_a_file_never_left() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("export");
        let failed = to_file(&file, |out, _| {
            out.write_all(b"half")?;
            Err(Failure::unexpected("the disk is full"))
        });
        assert!(failed.is_err() && !file.exists());
        let write = |out: &mut dyn io::Write, _: &Path| {
            out.write_all(b"whole")?;
            Ok(carried())
        };
        to_file(&file, write).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"whole");
        assert_eq!(to_file(&file, write).unwrap_err().exit(), Exit::Usage);
        assert_eq!(fs::read(&file).unwrap(), b"whole");
    }

    #[test]
    fn says_what_was_carried() {
        assert_eq!(
            sentence("restored", &carried()),
            "restored ledger l: 3 events, 4 B"
        );
    }
}
