//! What is on disk is not believed: lost, cut, changed, left by a machine that died, or hanging.
use std::{fs, ops::ControlFlow, os::unix::fs::FileExt, process::Command, time::Duration};

use super::*;
use crate::record::Word;

fn suspect_why(result: Result<Opened, Fault>) -> String {
    match result {
        Err(Fault::Suspect { why }) => why,
        Err(fault) => panic!("{fault}"),
        Ok(opened) => panic!("opened at {:?}", opened.meta.map(|meta| meta.tip.position)),
    }
}

fn probe(script: &str, milliseconds: u64) -> Option<ProbeCommand> {
    Some(ProbeCommand {
        program: "sh".into(),
        args: ["-c", script, "sh"].map(str::to_owned).to_vec(),
        time_limit: Duration::from_millis(milliseconds),
    })
}

/// The real probe, in a process of its own: this test binary, running [`probe_child`] only.
fn real_probe() -> Option<ProbeCommand> {
    let this = std::env::current_exe().unwrap();
    let script = format!(
        "WAYBILL_PROBE=\"$1\" exec {} --exact database::tests::files::probe_child",
        this.display()
    );
    probe(&script, 20_000)
}

#[test]
fn probe_child() {
    if let Some(dir) = std::env::var_os("WAYBILL_PROBE") {
        std::process::exit(probe_main(Path::new(&dir)));
    }
}

/// A database of 1,500 events that was dropped, not closed.
fn dropped(dir: &Path) -> World {
    let world = World::new(1500, 700);
    world.apply(&open(dir), world.len(), 400);
    world
}

#[test]
fn what_was_dropped_opens_again_in_the_same_boot_only() {
    let dir = tempfile::tempdir().unwrap();
    let world = dropped(dir.path());
    let open = |boot| Database::open(dir.path(), &Options::default(), boot);
    assert!(suspect_why(open(Some("boot-b"))).contains("the machine may have died"));
    assert!(suspect_why(open(None)).contains("the machine may have died"));
    world.compare(&open(BOOT).unwrap().database);
}

#[test]
fn what_was_closed_cleanly_opens_in_any_boot() {
    let dir = tempfile::tempdir().unwrap();
    let world = dropped(dir.path());
    for boot in [BOOT, Some("boot-b"), None, None] {
        let database = Database::open(dir.path(), &Options::default(), boot)
            .unwrap()
            .database;
        world.compare(&database);
        database.close_clean(boot).unwrap();
        database.close_clean(boot).unwrap();
        assert!(matches!(database.record(1), Err(Fault::Stopped { .. })));
        assert!(matches!(
            world.step(&database, 1500, 1500),
            Err(Fault::Foreign { .. } | Fault::Stopped { .. })
        ));
    }
}

#[test]
fn a_reader_that_stays_does_not_keep_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let world = dropped(dir.path());
    let database = open(dir.path());
    let mut list = database.select(&Selection {
        all: vec![Word::of(&["stretch:3"])],
        last: u64::MAX,
        ..Selection::default()
    });
    database.close();
    world.compare(&open(dir.path()));
    assert!(matches!(list.next(), Some(Err(Fault::Stopped { .. }))));
    assert!(list.next().is_none());
}

#[test]
fn a_directory_that_is_gone_is_an_empty_database() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sled");
    let world = dropped(&path);
    fs::remove_dir_all(&path).unwrap();
    let opened = Database::open(&path, &Options::default(), BOOT).unwrap();
    assert!(opened.meta.is_none());
    world.apply(&opened.database, world.len(), 300);
    world.compare(&opened.database);
}

#[test]
fn a_lost_or_empty_file_is_suspect() {
    for (file, gone) in [
        ("conf", false),
        ("conf", true),
        ("db", false),
        ("db", true),
        ("waybill.state", true),
    ] {
        let dir = tempfile::tempdir().unwrap();
        dropped(dir.path());
        let path = dir.path().join(file);
        if gone {
            fs::remove_file(&path).unwrap()
        } else {
            fs::write(&path, b"").unwrap()
        }
        suspect_why(Database::open(dir.path(), &Options::default(), BOOT));
    }
}

#[test]
fn a_leftover_of_a_kill_during_open_is_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let world = dropped(dir.path());
    fs::write(dir.path().join("snap.0000000000010000.generating"), b"torn").unwrap();
    world.compare(&open(dir.path()));
}

#[test]
fn a_second_process_is_told_that_it_is_locked() {
    let dir = tempfile::tempdir().unwrap();
    dropped(dir.path());
    let database = open(dir.path());
    let probe = real_probe().unwrap();
    let status = Command::new(probe.program)
        .args(probe.args)
        .arg(dir.path())
        .output()
        .unwrap();
    assert_eq!(
        status.status.code(),
        Some(2),
        "{}",
        String::from_utf8_lossy(&status.stderr)
    );
    drop(database);
}

#[test]
fn a_probe_that_hangs_fails_or_dies_makes_it_suspect() {
    let dir = tempfile::tempdir().unwrap();
    let world = dropped(dir.path());
    let open = |script, milliseconds| {
        let options = Options {
            probe: probe(script, milliseconds),
            ..Options::default()
        };
        Database::open(dir.path(), &options, BOOT)
    };
    assert!(suspect_why(open("exec sleep 600", 50)).contains("longer than 0.05 s"));
    assert!(suspect_why(open("echo broken pages >&2; exit 1", 20_000)).contains("broken pages"));
    assert!(suspect_why(open("kill -9 $$", 20_000)).contains("signal: 9"));
    world.compare(&open("exit 2", 20_000).unwrap().database);
    let options = Options {
        probe: real_probe(),
        ..Options::default()
    };
    world.compare(&Database::open(dir.path(), &options, BOOT).unwrap().database);
}

#[test]
fn a_probe_that_is_not_there_is_said_to_be() {
    let dir = tempfile::tempdir().unwrap();
    dropped(dir.path());
    let command = ProbeCommand {
        program: "/no/such/program".into(),
        args: Vec::new(),
        time_limit: Duration::ZERO,
    };
    let options = Options {
        probe: Some(command),
        ..Options::default()
    };
    assert!(matches!(
        Database::open(dir.path(), &options, BOOT),
        Err(Fault::Io { .. })
    ));
}

#[test]
fn two_that_were_moved_aside_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sled");
    let aside: Vec<PathBuf> = (0..4)
        .map(|_| {
            drop(open(&path));
            Database::move_aside(&path).unwrap()
        })
        .collect();
    assert_eq!(
        aside.iter().map(|path| path.exists()).collect::<Vec<_>>(),
        [false, false, true, true]
    );
    assert!(!path.exists());
}

/// Runs in a process whose files may not grow beyond some MB, as on a full disk.
#[test]
fn full_disk_child() {
    let Some(dir) = std::env::var_os("WAYBILL_FULL") else {
        return;
    };
    let world = World::new(8000, u64::MAX);
    let database = open(Path::new(&dir));
    let mut at = 0;
    let fault = loop {
        match world.step(&database, at, at + 100) {
            Ok(()) => at += 100,
            Err(fault) => break fault,
        }
    };
    assert!(matches!(fault, Fault::Io { .. }), "{fault}");
    assert!(matches!(
        world.step(&database, at, at + 100),
        Err(Fault::Stopped { .. })
    ));
    assert_eq!(database.meta().unwrap().tip.position, at);
    for position in 1..=at {
        assert_eq!(
            database.record(position).unwrap().as_ref(),
            Some(&*world.records[keys::small(position) - 1])
        );
    }
    assert!(database.close_clean(BOOT).is_err());
    drop(database);
    std::process::exit(0);
}

#[test]
fn after_a_full_disk_reads_go_on_and_a_new_start_goes_on_writing() {
    let dir = tempfile::tempdir().unwrap();
    let this = std::env::current_exe().unwrap();
    let run = format!(
        "exec {} --exact database::tests::files::full_disk_child",
        this.display()
    );
    let script = format!("trap '' XFSZ; ulimit -f 4096; WAYBILL_FULL=\"$1\" {run}");
    super::super::probe::run(&probe(&script, 60_000).unwrap(), dir.path(), 0).unwrap();
    let world = World::new(8000, u64::MAX);
    let database = open(dir.path());
    let reached = database.meta().map_or(0, |meta| meta.tip.position);
    assert!((100..8000).contains(&reached), "{reached}");
    world.compare(&database);
    world.apply(&database, world.len(), 500);
    world.compare(&database);
}

/// Opens what may be broken and holds it to one rule: an error, or less than there was and said so, or all of it right.
/// Gives whether anything was noticed.
fn believe_nothing(dir: &Path, world: &World) -> bool {
    let options = Options {
        probe: real_probe(),
        ..Options::default()
    };
    let database = match Database::open(dir, &options, BOOT) {
        Ok(opened) => opened.database,
        Err(Fault::Suspect { .. }) => return true,
        Err(fault) => panic!("{fault}"),
    };
    let end = database.meta().map_or(0, |meta| meta.tip.position);
    let mut noticed = end < world.len() || database.load_seen().is_err();
    for record in &world.records[..keys::small(end)] {
        match database.record_checked(record.position, &PURE) {
            Ok(found) => assert_eq!(found.as_ref(), Some(&**record)),
            Err(_) => noticed = true,
        }
    }
    let scrubbed = database
        .check(&PURE, &mut |_| ControlFlow::Continue(()))
        .and_then(|()| database.check_tree(node_hash));
    noticed || scrubbed.is_err()
}

#[test]
fn no_flipped_bit_gives_a_wrong_answer() {
    let dir = tempfile::tempdir().unwrap();
    let world = dropped(&dir.path().join("sound"));
    let sound = fs::read(dir.path().join("sound/db")).unwrap();
    for case in 0..24 {
        let path = copy(&dir.path().join("sound"), &dir.path().join("broken"));
        let at = (case * 2_654_435_761 % sound.len() as u64, 1u8 << (case % 8));
        let file = fs::OpenOptions::new()
            .write(true)
            .open(path.join("db"))
            .unwrap();
        file.write_all_at(&[sound[keys::small(at.0)] ^ at.1], at.0)
            .unwrap();
        believe_nothing(&path, &world);
    }
}

#[test]
fn a_cut_file_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let world = dropped(&dir.path().join("sound"));
    let bytes = fs::metadata(dir.path().join("sound/db")).unwrap().len();
    for eighths in 1..8 {
        let path = copy(&dir.path().join("sound"), &dir.path().join("broken"));
        fs::OpenOptions::new()
            .write(true)
            .open(path.join("db"))
            .unwrap()
            .set_len(bytes * eighths / 8)
            .unwrap();
        assert!(believe_nothing(&path, &world), "{eighths}/8");
    }
}

fn copy(from: &Path, to: &Path) -> PathBuf {
    drop(fs::remove_dir_all(to));
    fs::create_dir_all(to.join("blobs")).unwrap();
    for entry in fs::read_dir(from)
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| entry.path().is_file())
    {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    to.to_owned()
}
