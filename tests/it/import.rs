//! `import git` as a process: a second run adds nothing, what was cut short goes on, and odd histories are taken or
//! refused in words. What the events of an odd history hold is tested where they are made.
use std::{
    fmt::Write as _,
    io::Write as _,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::machine::{Machine, Said, run};

/// A machine with a ledger's directory.
struct Importer {
    machine: Machine,
}

impl Importer {
    fn new() -> Self {
        Self {
            machine: Machine::new(),
        }
    }

    /// A command on the ledger's directory.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.machine.waybill();
        command
            .args(arguments)
            .arg("--ledger")
            .arg(self.machine.path("ledger/data"));
        command
    }

    fn import(&self, repository: &Path) -> Said {
        run(self.command(&["import", "git", "--json"]).arg(repository))
    }

    /// How many events an import adds; none may be refused.
    #[track_caller]
    fn adds(&self, repository: &Path) -> u64 {
        let summary: Value = serde_json::from_str(&self.import(repository).well()).unwrap();
        assert_eq!(summary["refused"], 0, "{summary}");
        summary["recorded"].as_u64().unwrap()
    }

    /// A repository of a history, as `git fast-import` reads it.
    fn repository(&self, name: &str, history: &[u8]) -> PathBuf {
        let path = self.machine.path(name);
        let path_text = path.to_str().unwrap();
        let work = self.machine.work();
        self.machine
            .git(&work, &["init", "-q", "-b", "main", path_text]);
        self.grow(&path, history);
        path
    }

    fn grow(&self, repository: &Path, history: &[u8]) {
        let mut import = self
            .machine
            .command("git")
            .current_dir(repository)
            .args(["fast-import", "--quiet"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        import.stdin.take().unwrap().write_all(history).unwrap();
        assert!(import.wait().unwrap().success(), "the history is imported");
    }

    /// A clone of the newest commits only.
    fn shallow(&self, origin: &Path, depth: &str) -> PathBuf {
        let clone = self.machine.path("shallow");
        let url = format!("file://{}", origin.display());
        let arguments = [
            "clone",
            "-q",
            "--depth",
            depth,
            &url,
            clone.to_str().unwrap(),
        ];
        self.machine.git(&self.machine.work(), &arguments);
        clone
    }
}

/// Squashed changes with these numbers, a day apart, with a tag on every tenth.
fn changes(numbers: RangeInclusive<u64>) -> Vec<u8> {
    let mut history = String::new();
    let first = *numbers.start();
    for number in numbers {
        let from = if number == first && number > 1 {
            "from refs/heads/main^0\n"
        } else {
            ""
        };
        let time = 1_700_000_000 + number * 86_400;
        let subject = format!("cart: step {number} (#{number})");
        write!(
            history,
            "commit refs/heads/main\ncommitter Ann <ann@example.org> {time} +0000\ndata {}\n{subject}\n{from}\
             M 100644 inline src/{}.rs\ndata 4\n{number:04}\n\n",
            subject.len(),
            number % 7
        )
        .unwrap();
        if number % 10 == 0 {
            write!(
                history,
                "reset refs/tags/v{number}\nfrom refs/heads/main\n\n"
            )
            .unwrap();
        }
    }
    history.into_bytes()
}

#[test]
fn a_second_import_adds_nothing_and_a_grown_repository_what_is_new() {
    let importer = Importer::new();
    let shop = importer.repository("shop", &changes(1..=30));
    // A commit each, a change each but the first commit's, and a release a tag.
    assert_eq!(importer.adds(&shop), 30 + 29 + 3);
    assert_eq!(importer.adds(&shop), 0);
    importer.grow(&shop, &changes(31..=40));
    assert_eq!(importer.adds(&shop), 10 + 10 + 1);
    // Another clone is the same repository.
    importer.machine.git(
        &importer.machine.work(),
        &["clone", "-q", shop.to_str().unwrap(), "clone"],
    );
    importer
        .machine
        .git(&shop, &["checkout", "-q", "--detach", "main~3"]);
    assert_eq!(importer.adds(&shop), 0, "a detached head");
}

#[test]
fn a_shallow_clone_that_is_deepened_closes_its_gap_and_contradicts_nothing() {
    let importer = Importer::new();
    let shop = importer.repository("shop", &changes(1..=30));
    let clone = importer.shallow(&shop, "5");
    let doctor = || run(&mut importer.command(&["doctor"])).well();
    assert!(importer.adds(&clone) > 5);
    assert!(doctor().contains("has a gap: shallow clone"));
    for (fetch, open) in [
        (["fetch", "-q", "--deepen", "10"].as_slice(), true),
        (["fetch", "-q", "--unshallow"].as_slice(), false),
    ] {
        importer.machine.git(&clone, fetch);
        assert!(importer.adds(&clone) > 0, "{fetch:?}");
        assert_eq!(importer.adds(&clone), 0, "{fetch:?}, the second time");
        let said = doctor();
        assert_eq!(
            said.matches("has a gap").count(),
            usize::from(open),
            "{said}"
        );
    }
    let refused = run(&mut importer.command(&["log", "--refused", "--json"])).well();
    let refused: Value = serde_json::from_str(&refused).unwrap();
    assert!(refused.get("totalCount").is_none(), "{refused}");
}

#[test]
fn odd_histories_are_recorded_whole_and_only_once() {
    let importer = Importer::new();
    let mut odd = Vec::new();
    for (subject, path, time) in [
        (b"at the epoch".as_slice(), b"a".as_slice(), "0 +0000"),
        (b"the last second of 32 bits", b"b", "4294967295 +1400"),
        (b"beyond every calendar", b"c", "253402300800 +0000"),
        (
            b"bytes \xff\xfe, no text",
            b"\"\\377\\376\"",
            "1700000000 -1200",
        ),
        (
            b"\x1b[31mred \xe2\x80\xae",
            b"\"two\\nlines\"",
            "1700000001 +0000",
        ),
    ] {
        write!(
            odd,
            "commit refs/heads/main\ncommitter N\u{e9} <n@example.org> {time}\n"
        )
        .unwrap();
        writeln!(odd, "data {}", subject.len()).unwrap();
        odd.extend([subject, b"\nM 100644 inline ", path, b"\ndata 1\nx\n"].concat());
    }
    let odd = importer.repository("odd", &odd);
    assert_eq!(importer.adds(&odd), 5);
    assert_eq!(importer.adds(&odd), 0);
    let log = run(&mut importer.command(&["log", "--all", "-n", "0"])).well();
    assert!(!log.contains('\x1b') && !log.contains('\u{202e}'), "{log}");

    let mut wide =
        b"commit refs/heads/main\ncommitter A <a@example.org> 1700000000 +0000\ndata 4\nwide\n"
            .to_vec();
    for number in 0..20_000 {
        writeln!(
            wide,
            "M 100644 inline a/rather/long/path/{number}.txt\ndata 1\nx"
        )
        .unwrap();
    }
    let wide = importer.repository("wide", &wide);
    assert!(
        importer.adds(&wide) > 1,
        "the files do not fit into one event"
    );
    assert_eq!(importer.adds(&wide), 0);
    let revision = importer.machine.git(&wide, &["rev-parse", "main"]);
    let log =
        run(&mut importer.command(&["log", "--jsonl", "--kind", "commit", "--entity", &revision]));
    let files = |event: Value| {
        let told = ["recorded", "filesRecorded"].map(|step| {
            let files = &event["event"]["commit"][step]["files"];
            files.as_array().map_or(0, Vec::len)
        });
        told.iter().sum::<usize>()
    };
    assert_eq!(log.lines().into_iter().map(files).sum::<usize>(), 20_000);
}

#[test]
fn a_submodule_is_a_file_of_its_parent_and_a_repository_of_its_own() {
    let importer = Importer::new();
    let shop = importer.repository("shop", &changes(1..=12));
    let parent = importer.repository("parent", &changes(1..=1));
    importer.machine.git(&parent, &["reset", "-q", "--hard"]);
    let allow = ["-c", "protocol.file.allow=always"];
    let add = ["submodule", "add", "-q", shop.to_str().unwrap(), "shop"];
    importer.machine.git(&parent, &[&allow[..], &add].concat());
    importer
        .machine
        .git(&parent, &["commit", "-q", "-m", "a shop inside"]);
    assert_eq!(importer.adds(&parent), 2);
    assert_eq!(importer.adds(&parent.join("shop")), 12 + 11 + 1);
}

#[test]
fn where_there_is_nothing_to_import_it_says_what_is_missing() {
    let importer = Importer::new();
    let work = importer.machine.work();
    let no_repository = importer.import(&work);
    assert_eq!(no_repository.code, Some(2), "{no_repository:?}");
    assert!(no_repository.err.contains("is not a git repository"));

    let empty = importer.repository("empty", b"");
    let nameless = importer.import(&empty);
    assert_eq!(nameless.code, Some(2), "{nameless:?}");
    assert!(nameless.err.contains("add a remote or a commit"));

    let url = "https://git.example.org/acme/empty";
    importer
        .machine
        .git(&empty, &["remote", "add", "origin", url]);
    let named = importer.import(&empty);
    assert!(named.err.contains("there are no commits yet"), "{named:?}");
    let summary: Value = serde_json::from_str(&named.well()).unwrap();
    assert_eq!(summary["recorded"], 0, "{summary}");
}
