//! `waybill try`: from nothing to a trace, figures and three commands that work, on a person's own repository.
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use serde_json::Value;
use waybill_tests::process;

use crate::machine::{Machine, Said, run};

/// Long ago: figures have to be about the repository's own years.
const BEGIN: u64 = 1_600_000_000;
const DAY: u64 = 86_400;
const COMMITS: u64 = 300;

impl Machine {
    /// `try` in a directory. Any port will do: other tests try too.
    fn tries(&self, directory: &Path, arguments: &[&str]) -> Said {
        let mut command = self.waybill();
        command
            .current_dir(directory)
            .args(["try", "--listen", "127.0.0.1:0"]);
        run(command.args(arguments))
    }

    /// A line as a person pastes it into a shell.
    fn pasted(&self, directory: &Path, line: &str) -> Said {
        let beside = process::waybill();
        let path = format!(
            "{}:{}",
            beside.parent().unwrap().display(),
            std::env::var("PATH").unwrap()
        );
        let mut shell = self.command("sh");
        run(shell
            .current_dir(directory)
            .env("PATH", path)
            .args(["-c", line]))
    }

    /// Where a try of a directory of this name keeps its ledger.
    fn ledger_of(&self, name: &str) -> PathBuf {
        let tries = fs::read_dir(self.kept().join("try")).unwrap();
        let mut paths = tries.map(|entry| entry.unwrap().path());
        let belongs = |path: &PathBuf| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with(&format!("{name}-"))
        };
        paths.find(belongs).unwrap()
    }

    fn held(&self, ledger: &Path) -> Vec<Value> {
        self.recorded(["--ledger", ledger.to_str().unwrap()])
    }

    fn refused(&self, ledger: &Path) -> Vec<Value> {
        run(self
            .waybill()
            .args(["log", "--refused", "--jsonl", "--ledger"])
            .arg(ledger))
        .lines()
    }

    /// A repository with everything that an import reads: 300 commits, squashed changes, a merge, tags, a revert.
    fn shop(&self) -> PathBuf {
        let mut history = String::new();
        for number in 1..=COMMITS {
            let title = match number % 10 {
                0 => format!("feature {number} (#{})", number / 10),
                _ => format!("step {number}"),
            };
            commit(&mut history, number, &title, "");
            if number % 30 == 0 {
                writeln!(
                    history,
                    "reset refs/tags/v{}\nfrom :{number}\n",
                    number / 30
                )
                .unwrap();
            }
        }
        let path = self.repository("a shop", &history);
        let reverted = self.git(&path, &["rev-parse", "HEAD~5"]);
        let title = format!("Revert \"step 295\"\n\nThis reverts commit {reverted}.");
        let mut history = String::new();
        commit(
            &mut history,
            COMMITS + 1,
            &title,
            "from refs/heads/main^0\n",
        );
        writeln!(history, "reset refs/tags/v11\nfrom :{}\n", COMMITS + 1).unwrap();
        self.grow(&path, &history);
        path
    }
}

fn commit(history: &mut String, number: u64, message: &str, from: &str) {
    let time = BEGIN + number * DAY;
    let content = format!("line {number}\n");
    write!(
        history,
        "commit refs/heads/main\nmark :{number}\ncommitter Ann <ann@example.org> {time} +0000\n\
         data {}\n{message}\n{from}M 100644 inline src/{}.txt\ndata {}\n{content}\n",
        message.len(),
        number % 40,
        content.len(),
    )
    .unwrap();
}

/// The three commands that are printed last.
#[track_caller]
fn next(said: &Said) -> Vec<String> {
    let lines = said.err.lines().skip_while(|line| *line != "next").skip(1);
    let lines = lines.map_while(|line| line.strip_prefix("  "));
    let lines: Vec<String> = lines.map(str::to_owned).collect();
    assert_eq!(lines.len(), 3, "{said:?}");
    lines
}

/// Runs the printed commands; each has to answer with what it is for.
#[track_caller]
fn assert_next_works(machine: &Machine, directory: &Path, commands: &[String]) {
    let answers = ["change lead time", "COMMIT ", "deployment.finished"];
    for (command, answer) in commands.iter().zip(answers) {
        let said = machine.pasted(directory, command);
        assert_eq!(said.code, Some(0), "{command}: {said:?}");
        assert!(said.out.contains(answer), "{command}: {said:?}");
    }
}

/// Every file below a directory with its content.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => open.push(path),
                false => drop(found.insert(path.clone(), fs::read(&path).unwrap())),
            }
        }
    }
    found
}

#[test]
fn a_repository_is_traced_and_measured_and_the_printed_commands_work() {
    let machine = Machine::new();
    let shop = machine.shop();
    let before = files(&shop);
    let first = machine.tries(&shop, &["--exit"]);
    assert_eq!(first.code, Some(0), "{first:?}");
    let deployed = machine.git(&shop, &["rev-parse", "v11"]);
    for text in [
        &format!(
            "$ waybill trace {}\nCOMMIT {}",
            &deployed[..10],
            &deployed[..10]
        ),
        "release a shop/v11",
        "$ waybill delivery --service 'a shop' --since 2020-07-12 --until 2021-07-12\n",
        "deployment frequency",
        "change lead time, p50",
    ] {
        assert!(first.out.contains(text), "{text}: {}", first.out);
    }
    assert!(
        first
            .err
            .contains("301 commits, 30 changes, 11 releases from tags"),
        "{}",
        first.err
    );
    assert_next_works(&machine, &shop, &next(&first));
    assert_eq!(files(&shop), before, "the repository is left as it was");
    let kept = files(&machine.home()).into_keys();
    let elsewhere: Vec<PathBuf> = kept
        .filter(|path| !path.starts_with(machine.kept()))
        .collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");

    let ledger = machine.ledger_of("a-shop");
    let events = machine.held(&ledger);
    let second = machine.tries(&shop, &["--exit"]);
    assert!(second.err.contains("\n0 events recorded"), "{second:?}");
    assert_eq!(machine.held(&ledger), events);
    let asked = |said: &Said| {
        let timeless = said.out.lines().filter(|line| !line.contains("now is"));
        timeless.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(asked(&second), asked(&first));

    let reverts = |event: &&Value| event.pointer("/event/commit/recorded/reverts").is_some();
    assert_eq!(events.iter().filter(reverts).count(), 1);
    let inferred = |event: &&Value| {
        event.pointer("/event/deployment/finished/deployment/inferred") == Some(&true.into())
    };
    assert_eq!(events.iter().filter(inferred).count(), 11);
}

#[test]
fn a_repository_that_grew_appends_only_what_is_new() {
    let machine = Machine::new();
    let shop = machine.shop();
    machine.tries(&shop, &["--exit"]).well();
    let ledger = machine.ledger_of("a-shop");
    let before = machine.held(&ledger);
    let mut history = String::new();
    commit(
        &mut history,
        COMMITS + 2,
        "one more",
        "from refs/heads/main^0\n",
    );
    machine.grow(&shop, &history);
    machine.tries(&shop, &["--exit"]).well();
    let after = machine.held(&ledger);
    assert_eq!(after[..before.len()], before);
    assert_eq!(after.len(), before.len() + 1);
    let subject = after
        .last()
        .unwrap()
        .pointer("/event/commit/recorded/subjectLine");
    assert_eq!(subject, Some(&"one more".into()));
}

#[test]
fn a_path_that_is_not_there_is_no_place_for_the_demo() {
    let machine = Machine::new();
    let said = machine.tries(&machine.work(), &["no-such-place", "--exit"]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(
        said.err.contains("`no-such-place` is not a directory"),
        "{said:?}"
    );
}

#[test]
fn outside_of_a_repository_the_demo_story_is_told_and_marked() {
    let machine = Machine::new();
    let work = machine.work();
    let first = machine.tries(&work, &["--exit"]);
    assert_eq!(first.code, Some(0), "{first:?}");
    assert!(first.err.contains("none of it happened"), "{first:?}");
    // The story is about the deployment that hurt.
    for text in [
        "cart: look prices up in batches",
        "led to incident INC-1",
        "deployment frequency",
    ] {
        assert!(first.out.contains(text), "{text}: {}", first.out);
    }
    assert_next_works(&machine, &work, &next(&first));
    let ledger = machine.ledger_of("work");
    let events = machine.held(&ledger);
    let (created, story) = events.split_first().unwrap();
    assert_eq!(created["kind"], "ledger.created");
    assert!(!story.is_empty());
    for event in story {
        let marks = [
            event.pointer("/event/source"),
            event.pointer("/event/labels/origin"),
        ];
        assert_eq!(marks, [Some(&"//demo".into()), Some(&"demo".into())]);
    }
    let second = machine.tries(&work, &["--exit"]);
    assert_eq!(second.code, Some(0), "{second:?}");
    assert_eq!(machine.held(&ledger), events);
    assert!(machine.refused(&ledger).is_empty());
}

#[test]
fn clean_removes_what_this_try_wrote_and_nothing_else() {
    let machine = Machine::new();
    let shop = machine.shop();
    let work = machine.work();
    machine.tries(&work, &["--exit"]).well();
    let before = files(&machine.home());
    let said = machine.tries(&work, &["--exit", shop.to_str().unwrap()]);
    assert!(files(&machine.home()).len() > before.len());
    // The command that is printed is the one that removes it, from where it was typed.
    let clean = said
        .err
        .lines()
        .find_map(|line| line.split_once("remove it: "))
        .unwrap()
        .1;
    let cleaned = machine.pasted(&work, clean);
    assert_eq!(cleaned.code, Some(0), "{clean}: {cleaned:?}");
    assert_eq!(files(&machine.home()), before);
    let again = machine.pasted(&work, clean);
    assert_eq!(again.code, Some(0), "{again:?}");
    assert!(again.err.contains("nothing to remove"), "{again:?}");
}

/// A command on a terminal of its own, as `script` gives it one.
struct Terminal {
    script: Child,
    keys: ChildStdin,
    screen: BufReader<ChildStdout>,
}

impl Terminal {
    fn tries(machine: &Machine, directory: &Path, path: Option<&Path>) -> Self {
        let line = format!(
            "exec '{}' try --listen 127.0.0.1:0",
            process::waybill().display()
        );
        let mut command = machine.command("script");
        command
            .current_dir(directory)
            .args(["-qefc", &line, "/dev/null"]);
        if let Some(path) = path {
            let usual = std::env::var("PATH").unwrap();
            command.env("PATH", format!("{}:{usual}", path.display()));
        }
        let mut script = command
            .env("NO_COLOR", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let keys = script.stdin.take().unwrap();
        let screen = BufReader::new(script.stdout.take().unwrap());
        Self {
            script,
            keys,
            screen,
        }
    }

    /// Reads until a line holds this text; everything up to there.
    #[track_caller]
    fn until(&mut self, text: &str) -> Said {
        let mut seen = String::new();
        while !seen.contains(text) {
            let read = self.screen.read_line(&mut seen).unwrap();
            assert!(read > 0, "`{text}` is never shown: {seen}");
        }
        Said {
            code: None,
            out: String::new(),
            err: seen.replace('\r', ""),
        }
    }

    /// Presses Ctrl-C and waits until nothing is left that could write to the terminal.
    fn interrupt(mut self) -> Said {
        self.keys.write_all(b"\x03").unwrap();
        let mut rest = String::new();
        while self.screen.read_line(&mut rest).unwrap() > 0 {}
        let code = self.script.wait().unwrap().code();
        Said {
            code,
            out: String::new(),
            err: rest,
        }
    }
}

#[test]
fn on_a_terminal_it_serves_until_ctrl_c_and_leaves_nothing_running() {
    let machine = Machine::new();
    let work = machine.work();
    let mut terminal = Terminal::tries(&machine, &work, None);
    let shown = terminal.until("until Ctrl-C");
    let address = shown
        .err
        .split_once("serving http://")
        .unwrap()
        .1
        .split_once(' ')
        .unwrap()
        .0;
    let commands = next(&shown);
    assert!(
        commands[0].ends_with(&format!(" --server http://{address}")),
        "{commands:?}"
    );
    assert_next_works(&machine, &work, &commands);
    // What is served cannot be taken away.
    let refused = machine.tries(&work, &["--clean"]);
    assert_eq!(refused.code, Some(5), "{refused:?}");
    assert!(
        refused.err.contains(&format!("http://{address}")),
        "{refused:?}"
    );

    let ended = terminal.interrupt();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        TcpStream::connect(address).is_err(),
        "nobody serves any more"
    );
    // The directory is free, and holds what was served.
    assert_eq!(machine.held(&machine.ledger_of("work")).len(), 19);
    assert_eq!(machine.tries(&work, &["--clean"]).code, Some(0));
}

#[test]
fn ctrl_c_during_the_import_stops_it_and_the_next_try_goes_on() {
    let machine = Machine::new();
    let shop = machine.shop();
    // A git that is as slow as a huge repository makes it, once it is asked for history.
    let slow = machine.path("slow");
    fs::create_dir(&slow).unwrap();
    let script = "#!/bin/sh\ncase \"$*\" in\n*numstat*) echo git reads >/dev/tty; exec sleep 600;;\nesac\n\
                  PATH=${PATH#*:} exec git \"$@\"\n";
    fs::write(slow.join("git"), script).unwrap();
    fs::set_permissions(slow.join("git"), fs::Permissions::from_mode(0o755)).unwrap();

    let mut terminal = Terminal::tries(&machine, &shop, Some(&slow));
    terminal.until("git reads");
    let ended = terminal.interrupt();
    assert_eq!(ended.code, Some(130), "{ended:?}");
    assert_eq!(ended.err, "^Cinterrupted\r\n");

    let said = machine.tries(&shop, &["--exit"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.err.contains("301 commits"), "{said:?}");
}
