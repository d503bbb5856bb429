//! A database that is gone, cut, flipped, older, newer, somebody else's or hanging: after the start the ledger has the same
//! root and gives the same answers, for the journal has it all (LEDGER S2).
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use tempfile::TempDir;
use waybill_tests::process::{Home, Server};

use crate::kit::{Answers, Wire, copy, flip, serve};

/// Events in the ledger: enough for some full pages of each kind, few enough for a hundred rebuilds.
const EVENTS: u64 = 700;
/// Cases at work at once.
const WORKERS: usize = 3;

/// Homes as they were left, from which every case starts, and what the full one answered.
struct Originals {
    dir: TempDir,
    answers: Answers,
}

impl Originals {
    /// Grows a ledger and keeps copies on the way: `young`, then `killed` and `clean`, which hold the same events; `ahead`,
    /// which holds more; and `foreign`, another ledger.
    fn make() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = |name: &str| Home {
            root: dir.path().join(name),
        };
        let grow = |at: &Home, numbers: std::ops::Range<u64>| {
            let server = serve(at);
            let wire = Wire::to(&server);
            for first in numbers.clone().step_by(50) {
                wire.emit(first..numbers.end.min(first + 50)).unwrap();
            }
            (server, wire)
        };
        for name in ["growing", "foreign"] {
            fs::create_dir(home(name).root).unwrap();
        }
        let growing = home("growing");
        assert_eq!(grow(&growing, 0..300).0.stop().unwrap(), Some(0));
        copy(&growing.root, &home("young").root);
        let (server, wire) = grow(&growing, 300..EVENTS);
        let answers = wire.answers(0..EVENTS).unwrap();
        server.kill();
        copy(&growing.root, &home("killed").root);
        assert_eq!(serve(&growing).stop().unwrap(), Some(0));
        copy(&growing.root, &home("clean").root);
        assert_eq!(
            grow(&growing, EVENTS..EVENTS + 100).0.stop().unwrap(),
            Some(0)
        );
        fs::rename(&growing.root, home("ahead").root).unwrap();
        assert_eq!(grow(&home("foreign"), 0..EVENTS).0.stop().unwrap(), Some(0));
        Self { dir, answers }
    }

    fn sled(&self, name: &str) -> PathBuf {
        self.dir.path().join(name).join("data/sled")
    }
}

/// What is done to the database's directory.
type Harm = Box<dyn Fn(&Originals, &Path) + Send + Sync>;

/// One fault: from which home it starts, and what is done.
struct Case {
    name: String,
    from: &'static str,
    harm: Harm,
    /// Whether the start must say that it rebuilt. `None`: both are right, for the fault may lie where nothing is kept.
    rebuilt: Option<bool>,
}

fn case(
    name: impl Into<String>,
    from: &'static str,
    rebuilt: Option<bool>,
    harm: impl Fn(&Originals, &Path) + Send + Sync + 'static,
) -> Case {
    Case {
        name: name.into(),
        from,
        harm: Box::new(harm),
        rebuilt,
    }
}

/// The one file of a directory whose name begins so.
fn file(sled: &Path, name: &str) -> PathBuf {
    let entries = fs::read_dir(sled).unwrap();
    let mut paths = entries.map(|entry| entry.unwrap().path());
    let named = |path: &PathBuf| {
        path.file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with(name)
    };
    let found = paths.find(named);
    found.unwrap_or_else(|| panic!("{} has a file {name}", sled.display()))
}

fn replace(sled: &Path, by: &Path) {
    fs::remove_dir_all(sled).unwrap();
    copy(by, sled);
}

/// A number that is as good as chance, and the same in every run (splitmix64).
fn chance(seed: u64) -> u64 {
    let z = (seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (seed >> 3))
        .wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z ^ (z >> 31)
}

fn cases() -> Vec<Case> {
    let mut cases = vec![
        // First, for it waits for the time limit while the others go on.
        case("hangs at open", "killed", Some(true), |_, sled| {
            let snapshot = file(sled, "snap.");
            fs::remove_file(&snapshot).unwrap();
            let made = Command::new("mkfifo").arg(&snapshot).status();
            assert!(made.unwrap().success());
        }),
        case("deleted", "killed", Some(false), |_, sled| {
            fs::remove_dir_all(sled).unwrap();
        }),
        case("empty directory", "clean", Some(false), |_, sled| {
            fs::remove_dir_all(sled).unwrap();
            fs::create_dir(sled).unwrap();
        }),
        case("without a mark", "clean", Some(true), |_, sled| {
            fs::write(sled.join("waybill.state"), "left\n").unwrap();
        }),
        case("untouched after a kill", "killed", Some(false), |_, _| {}),
        case("untouched after a stop", "clean", Some(false), |_, _| {}),
        case("older, after a stop", "clean", Some(false), |it, sled| {
            replace(sled, &it.sled("young"));
        }),
        case("older, after a kill", "killed", Some(false), |it, sled| {
            replace(sled, &it.sled("young"));
        }),
        case("ahead of the journal", "clean", Some(true), |it, sled| {
            replace(sled, &it.sled("ahead"));
        }),
        case("another ledger's", "clean", Some(true), |it, sled| {
            replace(sled, &it.sled("foreign"));
        }),
        case("files of two databases", "clean", None, |it, sled| {
            fs::copy(file(&it.sled("foreign"), "db"), sled.join("db")).unwrap();
        }),
        case("snapshot of an older one", "clean", None, |it, sled| {
            fs::remove_file(file(sled, "snap.")).unwrap();
            let old = file(&it.sled("killed"), "snap.");
            fs::copy(&old, sled.join(old.file_name().unwrap())).unwrap();
        }),
        case("left while opening", "killed", Some(false), |_, sled| {
            fs::write(sled.join("snap.00000000000000AA.generating"), b"half").unwrap();
        }),
        case(
            "left while opening, whole",
            "clean",
            Some(false),
            |_, sled| {
                let snapshot = file(sled, "snap.");
                fs::copy(&snapshot, sled.join("snap.00000000000000AB.generating")).unwrap();
            },
        ),
        case("of a machine that died", "killed", Some(true), |_, sled| {
            fs::write(sled.join("waybill.state"), "open another-boot\n").unwrap();
        }),
        case(
            "values in files of their own",
            "clean",
            Some(true),
            |_, sled| {
                fs::write(sled.join("blobs/1"), b"value").unwrap();
            },
        ),
    ];
    for name in ["db", "conf", "snap.", "waybill.state"] {
        let from = if name == "db" { "killed" } else { "clean" };
        cases.push(case(
            format!("without {name}"),
            from,
            None,
            move |_, sled| {
                fs::remove_file(file(sled, name)).unwrap();
            },
        ));
        cases.push(case(
            format!("{name} is empty"),
            from,
            None,
            move |_, sled| {
                fs::write(file(sled, name), b"").unwrap();
            },
        ));
        cases.push(case(
            format!("{name} is noise"),
            from,
            None,
            move |_, sled| {
                let path = file(sled, name);
                let bytes = fs::read(&path).unwrap().len() as u64;
                let noise: Vec<u8> = (0..bytes).map(|at| chance(at).to_le_bytes()[0]).collect();
                fs::write(path, noise).unwrap();
            },
        ));
    }
    for part in 1..=16u64 {
        cases.push(case(
            format!("db cut at {part}/17"),
            "clean",
            None,
            move |_, sled| {
                cut(&file(sled, "db"), part, 17);
            },
        ));
    }
    for (name, parts) in [("conf", 3), ("snap.", 4)] {
        for part in 1..parts {
            cases.push(case(
                format!("{name} cut at {part}/{parts}"),
                "killed",
                None,
                move |_, sled| {
                    cut(&file(sled, name), part, parts);
                },
            ));
        }
    }
    for (name, count) in [("db", 36), ("conf", 5), ("snap.", 8), ("waybill.state", 2)] {
        for number in 0..count {
            let from = if number % 2 == 0 { "killed" } else { "clean" };
            cases.push(case(
                format!("{name}: flipped bit {number}"),
                from,
                None,
                move |_, sled| {
                    let path = file(sled, name);
                    flip_data(&path, number);
                },
            ));
        }
    }
    cases
}

fn cut(path: &Path, part: u64, parts: u64) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    let bytes = file.metadata().unwrap().len();
    file.set_len(bytes * part / parts).unwrap();
}

/// Flips a bit of a byte that is not zero, for most of the file is allocated and never written.
fn flip_data(path: &Path, number: u64) {
    let bytes = fs::read(path).unwrap();
    let places = (0..).map(|again| chance(number + (again << 32)) % bytes.len() as u64);
    let written = |at: &u64| bytes[usize::try_from(*at).unwrap()] != 0;
    let at = places.into_iter().find(written).unwrap();
    flip(path, 8 * at + number % 8).unwrap();
}

/// What is wrong with one case, if anything.
fn run(originals: &Originals, case: &Case, root: &Path) -> Option<String> {
    let home = Home {
        root: root.to_owned(),
    };
    drop(fs::remove_dir_all(root));
    copy(&originals.dir.path().join(case.from), root);
    (case.harm)(originals, &home.data().join("sled"));
    let server = match Server::start(&home, &[]) {
        Ok(server) => server,
        Err(error) => return Some(format!("{}: {error}", case.name)),
    };
    let wire = Wire::to(&server);
    let wrong = compare(originals, case, &wire);
    server.kill();
    wrong.map(|wrong| format!("{}: {wrong}", case.name))
}

fn compare(originals: &Originals, case: &Case, wire: &Wire) -> Option<String> {
    let answers = match wire.answers(0..EVENTS) {
        Ok(answers) => answers,
        Err(status) => return Some(status.to_string()),
    };
    let wanted = &originals.answers;
    if answers != *wanted {
        let (found, held) = (answers.listed.len(), wanted.listed.len());
        let root = answers.root == wanted.root;
        return Some(format!(
            "other answers: {found} events of {held}, same root: {root}"
        ));
    }
    let findings = wire.findings();
    let rebuilt = findings == ["database_rebuilt"];
    match case.rebuilt {
        Some(wanted) if wanted != rebuilt => return Some(format!("it found {findings:?}")),
        _ if !rebuilt && !findings.is_empty() => return Some(format!("it found {findings:?}")),
        _ => {}
    }
    let again = wire.emit(EVENTS - 1..EVENTS);
    let next = wire.emit(EVENTS..EVENTS + 1);
    let (last, new) = (EVENTS + 1, EVENTS + 2);
    match (again, next) {
        (Ok(again), Ok(next)) if again == [last] && next == [new] => None,
        other => Some(format!("it goes on with {other:?}")),
    }
}

#[test]
fn whatever_becomes_of_the_database_the_answers_stay() {
    let originals = Originals::make();
    let work = tempfile::tempdir().unwrap();
    let cases = cases();
    assert!(cases.len() >= 100, "{} cases", cases.len());
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for worker in 0..WORKERS {
            let root = work.path().join(format!("home-{worker}"));
            let (originals, cases, next, wrong) = (&originals, &cases, &next, &wrong);
            scope.spawn(move || {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = run(originals, case, &root);
                    wrong.lock().unwrap().extend(found);
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}
