//! Every sync that a receipt or another promise stands on, taken away once: then something must be missing after a loss of
//! power, and be noticed. A model in which nothing is missed would prove nothing about the rest.
//!
//! A story does something that is promised to last, cuts the power, and looks. Told straight it holds; with a sync that only
//! pretends (`shim/loss.c`) it must not. Syncs that no story can miss are named at the foot of the table, with the reason.
use std::{
    fs,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use waybill_proto::pb::{self, FindingSeverity, ReadState};
use waybill_tests::process::Server;

use crate::kit::{Bed, Wire, said, segments, verify};

/// Stories told at once.
const WORKERS: usize = 3;

/// Tells a story in which syncs that fit the rules do nothing; what is broken at its end.
type Story = fn(&Bed, &str) -> Result<(), String>;

/// Which sync is taken away (where it stands, and what it is for), by which rules, and in which story it is missed.
struct Mutant(&'static str, &'static str, Story);

/// The stories, as they are told straight.
const STORIES: &[Story] = &[
    receipts,
    begun,
    left_behind,
    settled_frame,
    settled_name,
    torn,
    head,
    refusals,
    mark,
    clean,
    exported,
    restored,
];

const MUTANTS: &[Mutant] = &[
    Mutant("journal/append: a commit", "00000001.segment:12", receipts),
    Mutant(
        "journal/segment: the name of the first",
        "=journal:1",
        receipts,
    ),
    Mutant(
        "journal/segment: the header, before it has its name",
        "00000002.segment.new",
        begun,
    ),
    Mutant(
        "journal/segment: the name of the next",
        "=journal:2",
        left_behind,
    ),
    Mutant(
        "journal/recover: the last frame, before it counts",
        "00000001.segment:1",
        settled_frame,
    ),
    Mutant(
        "journal/recover: the names, before they count",
        "=journal:1",
        settled_name,
    ),
    Mutant("journal/recover: the copy of a torn write", ".torn", torn),
    Mutant("journal/recover: the name of that copy", "=journal:2", torn),
    Mutant(
        "directory: data and state, in their parent",
        "=home",
        receipts,
    ),
    Mutant("directory: the instances", "=waybill", receipts),
    Mutant("directory: the instance", "=instances", receipts),
    Mutant(
        "place/directory: all that is in the data directory",
        "=data",
        receipts,
    ),
    Mutant("place/sealed: the ids", "/ledger.new", receipts),
    Mutant("place/secret: the signing key", "/key.new", receipts),
    Mutant("place/secret: the actor key", "/actor.key.new", receipts),
    Mutant(
        "place/secret: the names of the keys",
        "^instance-",
        receipts,
    ),
    Mutant("place/head: its bytes", "/head.new", head),
    Mutant("place/head: its name", "^instance-", head),
    Mutant("side_log: an entry", "00000001.refusals", refusals),
    Mutant("side_log/file: its name", "=refusals", refusals),
    Mutant(
        "database/folder: the mark, before sled may write",
        "waybill.state.new",
        mark,
    ),
    Mutant("database/folder: the name of the mark", "=sled", mark),
    Mutant(
        "database/folder: sled, before it is marked clean",
        "sled/db",
        clean,
    ),
    Mutant(
        "database/folder: sled's settings, before",
        "sled/conf",
        clean,
    ),
    Mutant(
        "database/folder: the names of sled's files, before",
        "=sled",
        clean,
    ),
    Mutant(
        "export/restore: the frames",
        "journal.restoring/00000001.segment:2",
        restored,
    ),
    Mutant(
        "export/restore: the name of the segment",
        "=journal.restoring",
        restored,
    ),
    Mutant(
        "export/restore: the journal in its place",
        "=restored",
        restored,
    ),
    Mutant("cli carry: an export", "/ledger.export", exported),
    Mutant("cli carry: its name", "=exports", exported),
    // Each of these is covered by another that comes before anybody is told anything:
    // - journal/segment, the first header: the first commit syncs the same file, and comes before the first receipt.
    // - journal/append, before the next segment: every commit has been synced by then. It is for a restore of more than one
    //   segment, whose frames are not synced one by one.
    // - journal/recover, the zeroes over a torn write: the next commit syncs them, and without one it is set aside again.
    // - directory, place/directory: entries of the data directory are synced by each of five calls; only all of them missing
    //   is missed.
    // - database, flush: the same file is synced again before the mark.
    // - database/folder, a database that was moved aside: if it is back, it is suspect as before, and moved again.
    // - side_log/file, the counts at the beginning: the first entry syncs the same file.
];

/// What a client was told.
struct Told {
    ledger_id: String,
    instance_id: String,
    /// Positions of the events, by number.
    positions: Vec<u64>,
}

/// Emits events one by one until there are so many, and remembers what was said.
fn emit(wire: &Wire, positions: &mut Vec<u64>, count: u64) {
    for number in positions.len() as u64..count {
        positions.extend(wire.emit(number..number + 1).unwrap());
    }
}

fn told(wire: &Wire, positions: Vec<u64>) -> Told {
    let status = wire.status();
    Told {
        ledger_id: status.ledger_id,
        instance_id: status.instance_id,
        positions,
    }
}

fn start(bed: &Bed, rules: &[(&str, &str)]) -> Result<(Server, Wire), String> {
    let server = bed.serve(rules).map_err(|error| error.to_string())?;
    let wire = Wire::to(&server);
    Ok((server, wire))
}

fn check(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

/// The ledger is the same, whole and at work, and every receipt is there.
fn intact(bed: &Bed, told: &Told) -> Result<(), String> {
    let (server, wire) = start(bed, &[])?;
    let status = wire.status();
    check(status.ledger_id == told.ledger_id, "it is another ledger")?;
    check(
        status.instance_id == told.instance_id,
        "it is another instance",
    )?;
    let failed = |finding: &pb::Finding| finding.severity() == FindingSeverity::Fail;
    check(
        !status.findings.iter().any(failed),
        "the start found something",
    )?;
    check(status.emits() == ReadState::Serving, "it takes no events")?;
    // Before anything is said again: that would find the same place again.
    let last = told.positions.iter().max().copied().unwrap_or(0);
    check(
        status.durable_position >= last,
        &format!("it ends at {} and not at {last}", status.durable_position),
    )?;
    for (number, position) in (0..).zip(&told.positions) {
        let again = wire
            .emit(number..number + 1)
            .map_err(|status| status.to_string())?;
        check(
            again == [*position],
            &format!("event {number} is at {again:?} and not at {position}"),
        )?;
    }
    server.kill();
    Ok(())
}

/// Receipts of a new ledger.
fn receipts(bed: &Bed, skip: &str) -> Result<(), String> {
    let (server, wire) = start(bed, &[("LOSS_SKIP", skip)])?;
    let mut positions = Vec::new();
    emit(&wire, &mut positions, 10);
    let told = told(&wire, positions);
    bed.cut(server);
    intact(bed, &told)
}

/// A segment that was begun after a failed sync, and in which nothing is durable yet.
fn begun(bed: &Bed, skip: &str) -> Result<(), String> {
    let failing = ("LOSS_EIO", "00000001.segment:8,00000002.segment:2");
    let (server, wire) = start(bed, &[failing, ("LOSS_SKIP", skip)])?;
    let mut positions = Vec::new();
    emit(&wire, &mut positions, 5);
    let told = told(&wire, positions);
    for _ in 0..2 {
        assert!(wire.emit(5..6).is_err(), "its sync fails");
    }
    assert_eq!(segments(&bed.home).len(), 2);
    bed.cut(server);
    intact(bed, &told)
}

/// Receipts in a segment that was begun after a failed sync.
fn left_behind(bed: &Bed, skip: &str) -> Result<(), String> {
    let failing = ("LOSS_EIO", "00000001.segment:8");
    let (server, wire) = start(bed, &[failing, ("LOSS_SKIP", skip)])?;
    let mut positions = Vec::new();
    emit(&wire, &mut positions, 5);
    assert!(wire.emit(5..6).is_err(), "its sync fails");
    emit(&wire, &mut positions, 10);
    let told = told(&wire, positions);
    bed.cut(server);
    intact(bed, &told)
}

/// A commit whose sync failed is read back by the next start, and has a receipt from then on.
fn settled_frame(bed: &Bed, skip: &str) -> Result<(), String> {
    let (server, wire) = start(bed, &[("LOSS_EIO", "00000001.segment:8")])?;
    let mut positions = Vec::new();
    emit(&wire, &mut positions, 5);
    assert!(wire.emit(5..6).is_err(), "its sync fails");
    server.kill();
    let (server, wire) = start(bed, &[("LOSS_SKIP", skip)])?;
    assert_eq!(
        wire.status().durable_position,
        7,
        "it is there, as far as can be seen"
    );
    emit(&wire, &mut positions, 6);
    let told = told(&wire, positions);
    bed.cut(server);
    intact(bed, &told)
}

/// A segment whose name was not synced before the process died has receipts after the next start.
fn settled_name(bed: &Bed, skip: &str) -> Result<(), String> {
    let (server, _wire) = start(bed, &[("LOSS_SKIP", "=journal:1")])?;
    server.kill();
    let (server, wire) = start(bed, &[("LOSS_SKIP", skip)])?;
    let mut positions = Vec::new();
    emit(&wire, &mut positions, 5);
    let told = told(&wire, positions);
    bed.cut(server);
    intact(bed, &told)
}

/// A torn write is kept aside for whoever wants to know.
fn torn(bed: &Bed, skip: &str) -> Result<(), String> {
    let (server, wire) = start(bed, &[])?;
    let mut positions = Vec::new();
    emit(&wire, &mut positions, 5);
    let told = told(&wire, positions);
    server.kill();
    let segment = segments(&bed.home).remove(0);
    let bytes = fs::read(&segment).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1;
    let file = fs::OpenOptions::new().write(true).open(&segment).unwrap();
    file.write_all_at(b"half a frame", end).unwrap();
    bed.settle();
    let (server, wire) = start(bed, &[("LOSS_SKIP", skip)])?;
    assert!(wire.findings().contains(&"torn_tail".to_owned()));
    bed.cut(server);
    let aside = bed.home.data().join(format!("journal/00000001-{end}.torn"));
    let kept = fs::read(aside).map_err(|error| error.to_string())?;
    check(kept == b"half a frame", "what was set aside is gone")?;
    intact(bed, &told)
}

/// The head file after a stop.
fn head(bed: &Bed, skip: &str) -> Result<(), String> {
    let (server, _wire) = start(bed, &[])?;
    assert_eq!(server.stop().unwrap(), Some(0));
    let (server, wire) = start(bed, &[("LOSS_SKIP", skip)])?;
    let mut positions = Vec::new();
    emit(&wire, &mut positions, 5);
    let told = told(&wire, positions);
    assert_eq!(server.stop().unwrap(), Some(0));
    bed.cut_idle();
    let instance = bed
        .home
        .state()
        .join("waybill/instances")
        .join(&told.instance_id);
    let head = fs::read_to_string(instance.join("head")).map_err(|error| error.to_string())?;
    check(
        head.contains("\"position\":6,"),
        &format!("the head file says {head}"),
    )?;
    intact(bed, &told)
}

/// What was refused, after a stop.
fn refusals(bed: &Bed, skip: &str) -> Result<(), String> {
    let (server, wire) = start(bed, &[("LOSS_SKIP", skip)])?;
    wire.emit_refused();
    assert_eq!(server.stop().unwrap(), Some(0));
    bed.cut_idle();
    let (server, wire) = start(bed, &[])?;
    let count = wire.status().refusal_count;
    check(count == 1, &format!("{count} refusals are on record"))?;
    server.kill();
    Ok(())
}

/// The mark that sled may be at work, which takes the place of the one that it stopped cleanly.
fn mark(bed: &Bed, skip: &str) -> Result<(), String> {
    let (server, _wire) = start(bed, &[])?;
    assert_eq!(server.stop().unwrap(), Some(0));
    let (server, _wire) = start(bed, &[("LOSS_SKIP", skip)])?;
    bed.cut(server);
    let mark = fs::read_to_string(state_mark(bed)).map_err(|error| error.to_string())?;
    check(
        mark.starts_with("open "),
        &format!("the mark says {mark:?}"),
    )
}

/// A database that was stopped cleanly is believed by any later boot.
fn clean(bed: &Bed, skip: &str) -> Result<(), String> {
    let (server, wire) = start(bed, &[("LOSS_SKIP", skip)])?;
    let mut positions = Vec::new();
    emit(&wire, &mut positions, 5);
    assert_eq!(server.stop().unwrap(), Some(0));
    bed.cut_idle();
    let mark = fs::read_to_string(state_mark(bed)).map_err(|error| error.to_string())?;
    check(
        mark.starts_with("clean "),
        &format!("the mark says {mark:?}"),
    )?;
    let (server, wire) = start(bed, &[])?;
    check(wire.findings().is_empty(), "the database is rebuilt")?;
    server.kill();
    Ok(())
}

fn state_mark(bed: &Bed) -> PathBuf {
    bed.home.data().join("sled/waybill.state")
}

/// A ledger of five events, exported, as a file that is on disk.
fn export(bed: &Bed, skip: &str) -> PathBuf {
    let (server, wire) = start(bed, &[]).unwrap();
    let mut positions = Vec::new();
    emit(&wire, &mut positions, 5);
    assert_eq!(server.stop().unwrap(), Some(0));
    let exports = bed.home.root.join("exports");
    fs::create_dir(&exports).unwrap();
    bed.settle();
    let file = exports.join("ledger.export");
    let exported = bed.waybill(&[("LOSS_SKIP", skip)], &["export", &file.to_string_lossy()]);
    assert!(exported.status.success(), "{}", said(&exported));
    file
}

/// An export that was said to be written.
fn exported(bed: &Bed, skip: &str) -> Result<(), String> {
    let file = export(bed, skip);
    bed.cut_idle();
    let verified = verify(&bed.home, &file);
    check(verified.status.success(), &said(&verified))
}

/// A ledger that was said to be restored.
fn restored(bed: &Bed, skip: &str) -> Result<(), String> {
    let file = export(bed, "");
    bed.settle();
    let directory = bed.home.root.join("restored");
    let (from, to) = (file.to_string_lossy(), directory.to_string_lossy());
    let restored = bed.waybill(&[("LOSS_SKIP", skip)], &["restore", &from, &to]);
    assert!(restored.status.success(), "{}", said(&restored));
    bed.cut_idle();
    let verified = verify(&bed.home, &directory);
    check(verified.status.success(), &said(&verified))?;
    check(
        said(&verified).contains("6 positions are whole"),
        &said(&verified),
    )
}

/// Takes a sync away; gives what should not be: a mutant that nobody missed.
fn mutate(Mutant(what, rules, story): &Mutant) -> Option<String> {
    match story(&Bed::new(), rules) {
        Ok(()) => Some(format!("nobody misses {what} ({rules})")),
        Err(missed) => {
            println!("{what}: {}", missed.lines().next().unwrap_or_default());
            None
        }
    }
}

/// Runs every case, some at once; what went other than it should.
fn run_all<T: Sync>(cases: &[T], run: impl Fn(&T) -> Option<String> + Sync) -> Vec<String> {
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = run(case);
                    wrong.lock().unwrap().extend(found);
                }
            });
        }
    });
    wrong.into_inner().unwrap()
}

#[test]
fn every_promise_outlives_a_loss_of_power() {
    let broken = run_all(STORIES, |story| story(&Bed::new(), "").err());
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_sync_is_missed_when_it_is_taken_away() {
    let wrong = run_all(MUTANTS, mutate);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
