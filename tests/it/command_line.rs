//! The command line on a ledger's directory, as somebody types it: real history in, questions, amendments, and proofs.
use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use waybill_tests::process::{self, Home};

use crate::kit::serve;

/// A person's home with a git repository and a ledger in it.
struct Desk {
    dir: TempDir,
    home: Home,
}

/// How a command ended and what it said.
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Desk {
    /// A repository of three squashed changes, the second of them released.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = Home {
            root: dir.path().join("home"),
        };
        fs::create_dir(&home.root).unwrap();
        let desk = Self { dir, home };
        desk.git(&["init", "--quiet", "--initial-branch=main"]);
        for number in 1..=3 {
            desk.change(number);
            if number == 2 {
                desk.git(&["tag", "v1.0.0"]);
            }
        }
        desk
    }

    fn repository(&self) -> PathBuf {
        self.dir.path().join("shop")
    }

    fn git(&self, arguments: &[&str]) -> String {
        fs::create_dir_all(self.repository()).unwrap();
        let output = Command::new("git")
            .arg("-C")
            .arg(self.repository())
            .args(arguments)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_NAME"), "Ada")))
            .envs(
                ["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_EMAIL"), "ada@example.org")),
            )
            .output()
            .unwrap();
        assert!(output.status.success(), "git {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn change(&self, number: u32) {
        fs::create_dir_all(self.repository()).unwrap();
        fs::write(
            self.repository().join(format!("{number}.rs")),
            "fn main() {}\n",
        )
        .unwrap();
        self.git(&["add", "."]);
        self.git(&[
            "commit",
            "--quiet",
            "--message",
            &format!("cart: step {number} (#{number})"),
        ]);
    }

    /// Runs the command on the ledger's directory, in the repository.
    fn waybill(&self, arguments: &[&str]) -> Said {
        let data = self.home.data();
        let on_ledger = [arguments, &["--ledger", path(&data)]].concat();
        self.plain(&on_ledger)
    }

    fn plain(&self, arguments: &[&str]) -> Said {
        let mut command = process::command(&self.home);
        let output = command
            .args(arguments)
            .current_dir(self.repository())
            .output()
            .unwrap();
        Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn imported() -> Self {
        let desk = Self::new();
        assert_eq!(desk.waybill(&["import", "git", "."]).code, 0);
        desk
    }

    /// A file beside the repository.
    fn file(&self, name: &str) -> String {
        path(&self.dir.path().join(name)).to_owned()
    }
}

impl Said {
    #[track_caller]
    fn well(self) -> Self {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self
    }

    #[track_caller]
    fn ends(self, code: i32, err: &str) -> Self {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        assert!(self.err.contains(err), "{err:?} is not in {:?}", self.err);
        self
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }

    /// The command that a line proposes, as a shell would split it.
    #[track_caller]
    fn proposed(&self, mark: &str) -> Vec<String> {
        let line = self.err.lines().find_map(|line| line.strip_prefix(mark));
        let line = line.unwrap_or_else(|| panic!("no {mark:?} in {}", self.err));
        let words = line.trim().strip_prefix("waybill ").unwrap();
        words
            .split(' ')
            .map(|word| word.trim_matches('\'').to_owned())
            .collect()
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn history_is_imported_once_and_what_grew_is_added() {
    let desk = Desk::new();
    let first = desk
        .waybill(&["import", "git", ".", "--json"])
        .well()
        .json();
    assert_eq!(first["recorded"], 6, "{first}");
    let again = desk.waybill(&["import", "git", "."]).well();
    assert!(again.err.contains("0 events recorded") || again.out.contains("0 events recorded"));
    desk.change(4);
    desk.waybill(&["import", "git", "."]).well();
    let log = desk.waybill(&["log", "--jsonl"]).well();
    let kinds: Vec<String> = log
        .out
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["kind"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    let count = |kind: &str| kinds.iter().filter(|it| *it == kind).count();
    assert_eq!(
        (count("commit.recorded"), count("release.tagged")),
        (4, 1),
        "{kinds:?}"
    );
}

#[test]
fn a_trace_is_asked_by_any_name_and_unknown_names_are_said() {
    let desk = Desk::imported();
    let head = desk.git(&["rev-parse", "HEAD"]);
    for name in [&head, &head[..8], "HEAD", "#3"] {
        let trace = desk.waybill(&["trace", name]).well();
        assert!(trace.out.contains("cart: step 3"), "{name}: {}", trace.out);
    }
    for name in ["v1.0.0", "shop/v1.0.0", "release:shop/v1.0.0"] {
        let trace = desk.waybill(&["trace", name]).well();
        assert!(
            trace.out.contains("RELEASE shop/v1.0.0"),
            "{name}: {}",
            trace.out
        );
    }
    let release = desk.waybill(&["trace", "v1.0.0", "--json"]).well().json();
    assert_eq!(release["basis"]["position"].as_str(), Some("7"));
    desk.waybill(&["trace", "v9"])
        .ends(3, "nothing that was known is called `v9`");
    desk.waybill(&["trace"]).ends(2, "Usage:");
    desk.plain(&["trace", "v1.0.0", "--server", "http://127.0.0.1:9"])
        .ends(5, "cannot be reached");
}

#[test]
fn an_answer_can_be_had_as_it_was_known_and_for_an_earlier_moment() {
    let desk = Desk::imported();
    let deployed = ["emit", "deploy", "shop", "--env", "prod"];
    desk.waybill(&deployed).well();
    let figure = |arguments: &[&str]| {
        let answer = desk
            .waybill(&[&["delivery", "--json"], arguments].concat())
            .well()
            .json();
        answer["services"][0]["deploymentFrequency"]["numeratorCount"]
            .as_str()
            .map(str::to_owned)
    };
    assert_eq!(figure(&[]).as_deref(), Some("1"));
    assert_eq!(figure(&["--as-of", "seq:7"]), None, "not known then");
    assert_eq!(
        figure(&["--at", "2020-01-01", "--service", "shop"]),
        None,
        "not deployed then"
    );
    desk.waybill(&["delivery", "--as-of", "seq:999"])
        .ends(2, "beyond the head");
    desk.waybill(&["delivery", "--as-of", "yesterdayish"])
        .ends(2, "yesterdayish");
    let none = desk.waybill(&["delivery", "--as-of", "seq:7"]).well();
    assert!(
        none.out.contains("no deployments are recorded"),
        "{}",
        none.out
    );
}

#[test]
fn an_incidents_cause_is_linked_and_each_step_prints_the_way_back() {
    let desk = Desk::imported();
    desk.waybill(&["emit", "deploy", "shop", "--env", "prod"])
        .well();
    desk.waybill(&[
        "emit",
        "incident",
        "INC-7",
        "--env",
        "prod",
        "--service",
        "shop",
    ])
    .well();
    let linked = desk
        .waybill(&[
            "event",
            "link",
            "INC-7",
            "--cause",
            "d:shop@prod",
            "--because",
            "errors began",
        ])
        .well();
    let knows = |arguments: &[&str]| {
        let trace = desk
            .waybill(&[&["trace", "INC-7"], arguments].concat())
            .well();
        trace.out.contains("came from deployment shop/")
    };
    assert!(knows(&[]));
    let undo = linked.proposed("undo: ");
    let mut undo: Vec<&str> = undo.iter().map(String::as_str).collect();
    *undo.last_mut().unwrap() = "it was the network";
    let taken_back = desk.plain(&undo).well();
    assert!(!knows(&[]));
    assert!(knows(&["--as-of", "seq:10"]), "what was known then stays");
    let redo = taken_back.proposed("undo: ");
    let mut redo: Vec<&str> = redo.iter().map(String::as_str).collect();
    *redo.last_mut().unwrap() = "it was not";
    desk.plain(&redo).well();
    assert!(knows(&[]));
}

#[test]
fn a_correction_stands_in_the_events_place_and_the_first_stays_on_record() {
    let desk = Desk::imported();
    let emitted = desk
        .waybill(&["emit", "deploy", "shop", "--env", "prod", "--json"])
        .well()
        .json();
    let position = emitted["results"][0]["receipt"]["position"]
        .as_str()
        .unwrap()
        .to_owned();
    desk.waybill(&[
        "event",
        "correct",
        &position,
        "--set",
        "deployment.finished.outcome=OUTCOME_FAILURE",
        "--because",
        "it failed",
    ])
    .well();
    let trace = desk.waybill(&["trace", "d:shop@prod"]);
    assert_eq!(
        trace.code, 3,
        "a failed deployment runs nowhere: {}",
        trace.out
    );
    let first = desk
        .waybill(&["event", "show", &position, "--json"])
        .well()
        .json();
    assert_eq!(
        first["event"]["deployment"]["finished"]["outcome"],
        "OUTCOME_SUCCESS"
    );
    // A text of digits, where there was nothing yet.
    let in_digits = [
        ("labels.team=17", "/event/labels/team"),
        (
            "deployment.finished.deployment.version=18",
            "/event/deployment/finished/deployment/version",
        ),
    ];
    for (set, field) in in_digits {
        let correct = ["event", "correct", &position, "--set", set];
        let corrected = desk
            .waybill(&[&correct[..], &["--because", "it is known now", "--json"]].concat())
            .well()
            .json();
        let receipt = &corrected["results"][0]["receipt"];
        let correction = receipt["position"].as_str().unwrap();
        let correction = desk
            .waybill(&["event", "show", correction, "--json"])
            .json();
        let value = correction.pointer(field).unwrap().as_str().unwrap();
        assert!(set.ends_with(&format!("={value}")), "{correction}");
    }
    desk.waybill(&[
        "event",
        "correct",
        &position,
        "--set",
        "deployment.nothing=1",
        "--because",
        "x",
    ])
    .ends(6, "deployment.nothing");
}

impl Desk {
    /// Deploys, and gives the position of the event.
    fn deployed(&self) -> String {
        let emitted = self
            .waybill(&["emit", "deploy", "shop", "--env", "prod", "--json"])
            .well()
            .json();
        position(&emitted)
    }

    /// Corrects a field of an event, and gives the position of the correction.
    fn correct(&self, event: &str, sets: &[&str]) -> String {
        let mut command = vec!["event", "correct", event, "--because", "a slip", "--json"];
        command.extend(sets.iter().flat_map(|set| ["--set", set]));
        position(&self.waybill(&command).well().json())
    }

    fn retract(&self, event: &str) -> Said {
        self.waybill(&["event", "retract", event, "--because", "a slip"])
            .well()
    }

    /// The version that shop has in production, as answers show it.
    fn version(&self) -> String {
        let trace = self
            .waybill(&["trace", "d:shop@prod", "--json"])
            .well()
            .json();
        let nodes = trace["nodes"].as_array().unwrap();
        let deployment = nodes.iter().find(|node| node["kind"] == "deployment");
        let version = &deployment.unwrap()["facts"]["version"];
        version.as_str().unwrap_or_default().to_owned()
    }

    fn revision(&self, event: &str) -> Value {
        let shown = self.waybill(&["event", "show", event, "--json"]).well();
        shown.json()["event"]["revision"].clone()
    }
}

/// Where the one event of an answer was recorded.
fn position(answer: &Value) -> String {
    let position = &answer["results"][0]["receipt"]["position"];
    position.as_str().unwrap().to_owned()
}

const VERSION: &str = "deployment.finished.deployment.version";

#[test]
fn the_newest_correction_wins_whichever_event_of_its_chain_it_names() {
    let desk = Desk::imported();
    let first = desk.deployed();
    let mut newest = first.clone();
    // Ids are drawn by lot: were they to decide, seven corrections in a row would hardly win in their order.
    for number in 1..=7 {
        let named = if number % 3 == 0 { &newest } else { &first };
        newest = desk.correct(named, &[&format!("{VERSION}=v{number}")]);
        assert_eq!(desk.version(), format!("v{number}"));
        assert_eq!(desk.revision(&newest), number);
    }
    desk.retract(&newest);
    assert_eq!(desk.version(), "v6");
    let eighth = desk.correct(&first, &[&format!("{VERSION}=v8")]);
    assert_eq!(desk.revision(&eighth), 8, "the seventh may come back");
    let low = desk.correct(&first, &[&format!("{VERSION}=v9"), "revision=2"]);
    assert_eq!(desk.revision(&low), 2, "what was named stays");
    assert_eq!(desk.version(), "v8");
}

#[test]
fn what_is_taken_out_names_the_corrections_that_still_stand() {
    const MARK: &str = "note: a correction of it still stands: ";
    let desk = Desk::imported();
    let noted = |said: &Said| said.err.matches(MARK).count();
    let first = desk.deployed();
    assert_eq!(noted(&desk.retract(&desk.deployed())), 0);
    let second = desk.correct(&first, &[&format!("{VERSION}=v2")]);
    desk.correct(&second, &[&format!("{VERSION}=v3")]);
    let lone = desk.correct(&first, &[&format!("{VERSION}=v4")]);
    assert_eq!(noted(&desk.retract(&lone)), 0, "nothing corrects it");
    let back = desk.retract(&second);
    assert_eq!(noted(&back), 1, "its own and no other's: {}", back.err);
    let undo = back.proposed("undo: ");
    desk.plain(&strings(&undo)).well();

    let said = desk.retract(&first);
    assert_eq!(noted(&said), 2, "the lone one is out: {}", said.err);
    assert_eq!(desk.version(), "v3");
    let mut noted = said.err.lines().filter(|line| line.starts_with(MARK));
    let proposed = Said {
        err: noted.next_back().unwrap().to_owned(),
        ..said
    };
    desk.plain(&strings(&proposed.proposed(MARK))).well();
    assert_eq!(desk.version(), "v2");
}

fn strings(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

#[test]
fn an_export_makes_the_same_ledger_and_a_damaged_one_makes_none() {
    let desk = Desk::imported();
    let (export, kept, copy) = (
        desk.file("ledger.wbx"),
        desk.file("kept.txt"),
        desk.file("copy"),
    );
    desk.waybill(&["log", "checkpoint", "-o", &kept]).well();
    let root = |text: &str| {
        text.lines()
            .find_map(|line| line.split("root ").nth(1).map(str::to_owned))
    };
    let exported = desk.waybill(&["export", &export]).well();
    let restored = desk.plain(&["restore", &export, &copy]).well();
    assert!(root(&exported.out).is_some() && root(&exported.out) == root(&restored.out));
    desk.plain(&["verify", &copy, "--checkpoint", &kept]).well();
    desk.plain(&["restore", &export, &copy]).ends(2, "");

    let whole = fs::read(&export).unwrap();
    let (cut, flipped) = (desk.file("cut.wbx"), desk.file("flipped.wbx"));
    fs::write(&cut, &whole[..whole.len() - 100]).unwrap();
    let mut other = whole.clone();
    other[whole.len() / 2] ^= 8;
    fs::write(&flipped, other).unwrap();
    let begun_wrong = desk.file("begun-wrong.wbx");
    fs::write(&begun_wrong, [b"WaYBIlLX", &whole[8..]].concat()).unwrap();
    for damaged in [cut, flipped, begun_wrong] {
        let verified = desk.plain(&["verify", &damaged]).ends(12, "does not hold");
        assert!(
            verified.out.contains("positions"),
            "names the range: {}",
            verified.out
        );
        let target = desk.file("never");
        assert_ne!(desk.plain(&["restore", &damaged, &target]).code, 0);
        assert!(!Path::new(&target).exists());
    }
    fs::write(desk.file("foreign"), b"something else").unwrap();
    let foreign = desk.plain(&["restore", &desk.file("foreign"), &desk.file("never")]);
    assert_ne!(foreign.code, 0, "{}", foreign.out);
    assert!(!Path::new(&desk.file("never")).exists());
}

#[test]
fn a_proven_receipt_holds_against_a_checkpoint_that_was_kept_before_or_with_it() {
    let desk = Desk::imported();
    let (before, with) = (desk.file("before.txt"), desk.file("with.txt"));
    desk.waybill(&["log", "checkpoint", "-o", &before]).well();
    desk.waybill(&["emit", "deploy", "shop", "--env", "prod"])
        .well();
    desk.waybill(&["log", "checkpoint", "-o", &with]).well();
    let first: Value = serde_json::from_str(
        desk.waybill(&["log", "--jsonl"])
            .well()
            .out
            .lines()
            .next()
            .unwrap(),
    )
    .unwrap();
    let (source, id) = (&first["event"]["source"], &first["event"]["id"]);
    let receipt = desk.file("receipt.json");
    let ask = [
        "log",
        "receipt",
        source.as_str().unwrap(),
        id.as_str().unwrap(),
        "-o",
        &receipt,
    ];
    desk.waybill(&ask).well();
    desk.plain(&["verify", &receipt, "--checkpoint", &with])
        .well();
    let missing = desk
        .plain(&["verify", &receipt, "--checkpoint", &before])
        .ends(2, "the way from");
    let mut way = missing.proposed("hint: ask for it: ");
    *way.last_mut().unwrap() = receipt.clone();
    desk.waybill(&way.iter().map(String::as_str).collect::<Vec<_>>())
        .well();
    desk.plain(&["verify", &receipt, "--checkpoint", &before])
        .well();
    let told = desk.plain(&["verify", &receipt]).well();
    assert!(told.out.contains(source.as_str().unwrap()), "{}", told.out);
    assert!(told.out.contains(id.as_str().unwrap()), "{}", told.out);
    forged_fields_are_named(&desk, &receipt);
}

/// Every word that a reader of the receipt may rely on, whether or not the leaf covers it.
fn forged_fields_are_named(desk: &Desk, receipt: &str) {
    let whole: Value = serde_json::from_str(&fs::read_to_string(receipt).unwrap()).unwrap();
    let forged = desk.file("forged.json");
    for (field, value, named) in [
        ("/receipt/position", json!("3"), "position 3"),
        ("/receipt/event/source", json!("//x"), "event.source says"),
        ("/receipt/event/id", json!("x"), "event.id says"),
        ("/receipt/event/position", json!("3"), "event.position says"),
        ("/receipt/instanceId", json!("x"), "instanceId says"),
        ("/receipt/treeSize", json!("1"), "treeSize says"),
        ("/receipt/root", json!("AAAA"), "root says"),
        ("/receipt/erasable", json!(false), "erasable says"),
    ] {
        let mut other = whole.clone();
        let place = other.pointer_mut(field);
        *place.unwrap_or_else(|| panic!("{field} is not in {whole}")) = value;
        fs::write(&forged, other.to_string()).unwrap();
        let verified = desk.plain(&["verify", &forged]).ends(12, "does not hold");
        assert!(verified.out.contains(named), "{named}: {}", verified.out);
    }
    let mut other = whole.clone();
    other["verifierKey"] = json!("x");
    fs::write(&forged, other.to_string()).unwrap();
    let key = whole["verifierKey"].as_str().unwrap();
    let verified = desk.plain(&["verify", &forged, "--key", key]).ends(12, "");
    assert!(
        verified.out.contains("verifierKey says"),
        "{}",
        verified.out
    );
    let mut other = whole;
    other["receipt"]["treeSize"] = json!("999");
    fs::write(&forged, other.to_string()).unwrap();
    let claimed = desk.plain(&["verify", &forged]).well();
    assert!(claimed.out.contains("are a claim"), "{}", claimed.out);
}

#[test]
fn an_event_without_a_name_or_without_an_end_is_refused_in_words() {
    let desk = Desk::new();
    let none = ["emit", "-d", "{}"];
    desk.waybill(&none)
        .ends(6, "error: the event: rejected: source is ``, required");
    let broken = ["emit", "-d", "{"];
    desk.waybill(&broken)
        .ends(6, "error: rejected: the message cannot be read: EOF");
}

#[test]
fn what_is_neither_ledger_nor_export_nor_receipt_is_no_damage() {
    let desk = Desk::imported();
    let (checkpoint, script) = (desk.file("checkpoint.txt"), desk.file("deploy.sh"));
    desk.waybill(&["log", "checkpoint", "-o", &checkpoint])
        .well();
    fs::write(&script, "#!/bin/sh\nexec make deploy\n").unwrap();
    let emitted = desk.file("emitted.json");
    let said = desk.waybill(&["emit", "deploy", "shop", "--env", "prod", "--json"]);
    fs::write(&emitted, said.well().out).unwrap();
    let (empty, bare) = (desk.file("empty.json"), desk.repository());
    fs::write(&empty, "{}").unwrap();
    for named in [
        &checkpoint,
        &script,
        "/dev/null",
        &emitted,
        &empty,
        path(&bare),
    ] {
        let none = "is no ledger directory, no export and no proven receipt";
        let told = desk.plain(&["verify", named]).ends(2, none);
        let hint = "waybill log receipt SOURCE ID -o FILE";
        assert!(
            told.err.contains(hint) && told.out.is_empty(),
            "{}",
            told.err
        );
    }
}

#[test]
fn a_ledger_is_made_where_nothing_else_lives_and_for_its_owner_only() {
    let desk = Desk::new();
    let notes = desk.file("notes");
    fs::create_dir(&notes).unwrap();
    fs::write(Path::new(&notes).join("todo.txt"), "milk").unwrap();
    for question in [&["log"][..], &["status"], &["trace", "x"], &["export", "-"]] {
        desk.plain(&[question, &["--ledger", &notes]].concat())
            .ends(3, "there is no ledger in");
    }
    desk.plain(&["import", "git", ".", "--ledger", &notes])
        .ends(2, "holds `todo.txt` and no ledger");
    assert_eq!(
        fs::read_dir(&notes).unwrap().count(),
        1,
        "nothing was added"
    );
    desk.waybill(&["import", "git", "."]).well();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let data = desk.home.data();
    for private in [
        &data,
        &data.join("journal"),
        &data.join("sled"),
        &data.join("refusals"),
    ] {
        assert_eq!(mode(private), 0o700, "{}", private.display());
    }
}

#[test]
fn what_will_be_known_cannot_be_asked() {
    let desk = Desk::imported();
    desk.waybill(&["delivery", "--as-of", "2190-01-01"])
        .ends(2, "in the future");
    desk.waybill(&["delivery", "--as-of", "2190-01-01", "--assume-known"])
        .ends(2, "in the future");
}

#[test]
fn a_directory_that_is_served_names_whom_to_ask() {
    let desk = Desk::imported();
    let server = serve(&desk.home);
    let told = desk.waybill(&["status"]).ends(5, "is in use by process");
    assert!(told.err.contains(&server.url), "{}", told.err);
    desk.plain(&["status", "--server", &server.url]).well();
    let doctor = desk.plain(&["doctor", "--server", &server.url]).well();
    assert!(
        doctor.out.contains("no event was refused"),
        "{}",
        doctor.out
    );
    assert_eq!(server.stop().unwrap(), Some(0));
    desk.waybill(&["status"]).well();
}

#[test]
fn a_server_that_takes_calls_and_never_answers_is_away_and_breaks_no_pipeline() {
    let desk = Desk::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let say = |arguments: &[&str]| {
        let place = ["--timeout", "1s", "--server", &url];
        desk.plain(&[&place, arguments].concat())
    };
    say(&["status"]).ends(5, "no answer from");
    let emit = ["emit", "incident", "INC-1", "--env", "prod"];
    say(&[&emit[..], &["--on-error", "fail"]].concat()).ends(5, "no answer from");
    say(&emit).ends(0, "the event waits on this machine");
    let run = ["run", "deploy", "shop", "--env", "prod", "--", "sh", "-c"];
    say(&[&run[..], &["exit 9"]].concat()).ends(9, "the event waits on this machine");
}

/// The deadline is told to the server as well, and whoever notices first, the code is the same.
#[test]
fn an_answer_that_does_not_come_in_time_exits_5() {
    let desk = Desk::imported();
    let ask = ["delivery", "--at-least", "99999", "--timeout", "1s"];
    let late = desk.waybill(&ask);
    assert_eq!(late.code, 5, "{}", late.err);
}

#[test]
fn a_pipe_gets_whole_rows_without_colour_and_json_is_one_value() {
    let desk = Desk::imported();
    let long = format!("cart: {}", "a very long subject line ".repeat(12));
    fs::write(desk.repository().join("long.rs"), "").unwrap();
    desk.git(&["add", "."]);
    desk.git(&["commit", "--quiet", "--message", long.trim()]);
    desk.waybill(&["import", "git", "."]).well();
    let trace = desk.waybill(&["trace", "HEAD"]).well();
    assert!(trace.out.contains(long.trim()) && !trace.out.contains('\u{1b}'));
    for asked in [
        &["status", "--json"][..],
        &["delivery", "--json"],
        &["trace", "HEAD", "--json"],
        &["doctor", "--json"],
        &["version", "--json"],
    ] {
        desk.waybill(asked).well().json();
    }
    let completion = desk.plain(&["completion", "bash"]).well();
    assert!(completion.out.contains("_waybill"));
}
