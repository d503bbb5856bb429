//! Bad input at the doors of the command: refused in words, nothing lost, no panic, and the exit code that the page names.
use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use proptest::{prelude::*, sample::Index, test_runner::TestRunner};
use tempfile::TempDir;
use waybill_tests::process::{Home, Server, command};

const OK: i32 = 0;
const USAGE: i32 = 2;
const REJECTED: i32 = 6;
const FOUND: i32 = 12;
/// Runs of a process that each property may cost.
const RUNS: u32 = 12;

fn home() -> (TempDir, Home) {
    let root = tempfile::tempdir().unwrap();
    let home = Home {
        root: root.path().to_owned(),
    };
    (root, home)
}

/// The command on the home's ledger, in a directory of its own.
fn waybill(home: &Home, arguments: &[&str]) -> Command {
    let mut command = command(home);
    let directory = home.root.join("work");
    fs::create_dir_all(&directory).unwrap();
    command
        .args(arguments)
        .arg("--ledger")
        .arg(home.data())
        .current_dir(directory);
    command
}

/// What a process said, once it is sure that it ended by itself and in words that cannot move a cursor.
fn said(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).expect("talk is UTF-8");
    assert!(!text.contains("panicked"), "{text}");
    assert!(
        text.chars().all(|c| c == '\n' || !c.is_control()),
        "{text:?}"
    );
    assert!(output.status.code().is_some(), "{output:?}");
    text
}

fn with_input(mut command: Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    // A command that refuses early does not read to the end.
    drop(writer.join().unwrap());
    output
}

fn property<T: std::fmt::Debug>(
    input: impl Strategy<Value = T>,
    test: impl Fn(T) -> Result<(), TestCaseError>,
) {
    let config = ProptestConfig {
        failure_persistence: None,
        max_shrink_iters: 0,
        ..ProptestConfig::with_cases(RUNS)
    };
    TestRunner::new(config).run(&input, test).unwrap();
}

/// Cuts, flips and insertions.
fn wounds() -> impl Strategy<Value = Vec<(Index, u8, Vec<u8>)>> {
    let insert = prop::collection::vec(any::<u8>(), 0..6);
    prop::collection::vec((any::<Index>(), any::<u8>(), insert), 1..12)
}

fn hurt(text: &str, wounds: &[(Index, u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for (at, change, insert) in wounds {
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        bytes.splice(at..at, insert.iter().copied());
    }
    bytes
}

fn event(number: usize) -> String {
    format!(
        r#"{{"source":"//ci","id":"e-{number}","occurTime":"2026-11-03T09:00:00Z","commit":{{"recorded":{{"repository":"github.com/acme/shop","revision":"{number:040x}","subjectLine":"one ü two"}}}}}}"#
    )
}

/// The numbers that `import ndjson --json` answers with.
fn counts(output: &Output) -> [u64; 3] {
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("counts");
    ["recorded", "duplicates", "refused"].map(|name| value[name].as_u64().unwrap())
}

/// Every record that the ledger holds.
fn recorded(home: &Home) -> Vec<serde_json::Value> {
    let output = waybill(home, &["log", "--jsonl", "--limit", "100000"])
        .output()
        .unwrap();
    said(&output);
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_changed_import_records_what_is_whole_and_names_the_rest() {
    let whole: String = (0..40).map(|number| event(number) + "\n").collect();
    let (_root, home) = home();
    let before = with_input(
        waybill(&home, &["import", "ndjson", "-", "--json"]),
        whole.as_bytes(),
    );
    assert_eq!(counts(&before), [40, 0, 0]);
    property(wounds(), |wounds| {
        let input = hurt(&whole, &wounds);
        let lines = input
            .split(|byte| *byte == b'\n')
            .filter(|line| std::str::from_utf8(line).map_or(true, |text| !text.trim().is_empty()))
            .count();
        let output = with_input(waybill(&home, &["import", "ndjson", "-", "--json"]), &input);
        let talk = said(&output);
        let [new, duplicates, refused] = counts(&output);
        prop_assert_eq!(new + duplicates + refused, lines as u64);
        prop_assert_eq!(
            output.status.code(),
            Some(if refused == 0 { OK } else { REJECTED })
        );
        prop_assert!(refused == 0 || talk.contains("line "), "{talk}");
        Ok(())
    });
    // A wound may make another source or id; ours stand, once, with the content that came first.
    let held = recorded(&home);
    for number in 0..40 {
        let event: serde_json::Value = serde_json::from_str(&event(number)).unwrap();
        let is_ours = |line: &&serde_json::Value| {
            ["source", "id"]
                .iter()
                .all(|name| line["event"][name] == event[name])
        };
        let ours: Vec<_> = held.iter().filter(is_ours).collect();
        assert_eq!(ours.len(), 1, "{number}");
        assert_eq!(ours[0]["event"], event);
    }
}

#[test]
fn an_imported_line_is_refused_with_field_value_and_rule() {
    let (_root, home) = home();
    let cases = [
        (
            r#"{"source":"//ci","id":"a\u202eb"}"#,
            "id is `a\\u{202e}b`",
        ),
        (r#"{"source":"//ci","id":"a\u0000b"}"#, "id is `a\\u{0}b`"),
        (
            r#"{"source":"//ci","id":"a","id":"b"}"#,
            "id is `id`, given twice",
        ),
        (
            r#"{"source":"//ci","id":"t","occurTime":"2300-01-01T00:00:00Z","ticket":{"created":{"ticket":{"uri":"u"}}}}"#,
            "occur_time is `10413792000`, seconds must lie in 1970 to 2200",
        ),
        (
            r#"{"source":"//ci","id":"r","revision":1e400}"#,
            "number out of range",
        ),
        (
            r#"{"source":"//ci","id":"r","revision":99999999999}"#,
            "revision is `99999999999`",
        ),
        (
            r#"{"source":"//ci","id":"d","occurTime":"2026-11-03T09:00:00Z","build":{"finished":{"buildId":"b","outcome":"OUTCOME_SUCCESS","span":{"elapsed":"-3s"}}}}"#,
            "build.finished.span.elapsed is `-3 s and 0 ns`",
        ),
        ("\"\u{1b}[2J\"", "control character (\\u0000-\\u001F) found"),
    ];
    let input: String = cases.iter().map(|(line, _)| format!("{line}\n")).collect();
    let deep = format!("{}\n", "[".repeat(100_000));
    let output = with_input(
        waybill(&home, &["import", "ndjson", "-", "--json"]),
        (input + &deep + &event(1)).as_bytes(),
    );
    let talk = said(&output);
    for (number, (_, words)) in cases.iter().enumerate() {
        let line = talk
            .lines()
            .find(|line| line.starts_with(&format!("line {}: ", number + 1)))
            .unwrap_or_else(|| panic!("line {} in {talk}", number + 1));
        assert!(line.contains(words), "{words} in {line}");
        assert!(line.chars().count() < 400, "shortened: {line}");
    }
    assert_eq!(counts(&output), [1, 0, cases.len() as u64 + 1]);
    assert_eq!(output.status.code(), Some(REJECTED));
}

#[test]
fn a_changed_settings_file_is_refused_by_line_or_read() {
    let text = "# ours\nservice = \"checkout\"\nenvironment = 'prod'\nsource = \"//ci\"\ntag_pattern = \"v*\"\n";
    let (_root, home) = home();
    let project = home.root.join("work/.waybill.toml");
    let own = home.root.join("config/waybill/config.toml");
    fs::create_dir_all(own.parent().unwrap()).unwrap();
    let ask = || waybill(&home, &["doctor"]).output().unwrap();
    with_input(
        waybill(&home, &["import", "ndjson", "-"]),
        event(1).as_bytes(),
    );
    for path in [project, own] {
        fs::write(&path, text).unwrap();
        let sound = ask().status.code();
        assert_ne!(sound, Some(USAGE), "{}", said(&ask()));
        for tricks in ["\u{1b}[2J = 1", "\"\\u001b[2J\" = 1", "service = 1\u{0}"] {
            fs::write(&path, tricks).unwrap();
            let output = ask();
            assert!(said(&output).contains(path.to_str().unwrap()), "{output:?}");
            assert_eq!(output.status.code(), Some(USAGE));
        }
        property(wounds(), |wounds| {
            fs::write(&path, hurt(text, &wounds)).unwrap();
            let output = ask();
            let talk = said(&output);
            let name = path.file_name().unwrap().to_str().unwrap();
            prop_assert!(
                output.status.code() == sound || talk.contains(name),
                "{talk}"
            );
            prop_assert!(
                output.status.code() == sound || output.status.code() == Some(USAGE),
                "{output:?}"
            );
            Ok(())
        });
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_changed_export_is_neither_verified_nor_restored() {
    let (_root, home) = home();
    let lines: String = (0..30).map(|number| event(number) + "\n").collect();
    with_input(waybill(&home, &["import", "ndjson", "-"]), lines.as_bytes());
    let export = home.root.join("export");
    let sound = waybill(&home, &["export", export.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(sound.status.success(), "{}", said(&sound));
    let bytes = fs::read(&export).unwrap();
    let run = |arguments: &[&str]| command(&home).args(arguments).output().unwrap();
    let path = home.root.join("changed");
    let (file, target) = (path.to_str().unwrap(), home.root.join("restored"));
    fs::copy(&export, &path).unwrap();
    assert_eq!(run(&["verify", file]).status.code(), Some(OK));
    property((any::<Index>(), 1..=255_u8), |(at, change)| {
        let mut changed = bytes.clone();
        let at = at.index(changed.len());
        changed[at] ^= change;
        fs::write(&path, changed).unwrap();
        let verified = run(&["verify", file]);
        said(&verified);
        let is_named = matches!(verified.status.code(), Some(FOUND | USAGE));
        prop_assert!(is_named, "byte {at}: {verified:?}");
        let restored = run(&["restore", file, target.to_str().unwrap()]);
        said(&restored);
        prop_assert!(!restored.status.success(), "byte {at}");
        prop_assert!(is_empty(&target), "byte {at}: something is left");
        Ok(())
    });
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).map_or(true, |mut entries| entries.next().is_none())
}

#[test]
fn what_is_wrong_in_a_setting_is_the_events_to_answer_for() {
    let (_root, home) = home();
    let mut emit = waybill(&home, &["emit", "deploy", "a\u{202E}b", "--env", "prod"]);
    let output = emit.output().unwrap();
    let talk = said(&output);
    assert_eq!(output.status.code(), Some(REJECTED), "{talk}");
    assert!(
        talk.contains("deployment.finished.deployment.service is `a\\u{202e}b`"),
        "{talk}"
    );
}

#[test]
fn only_loopback_is_served_and_sigterm_ends_in_good_order() {
    let (_root, home) = home();
    for address in ["0.0.0.0:0", "[::]:0"] {
        let output = waybill(&home, &["serve", "--listen", address])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(USAGE));
        assert!(said(&output).contains("without tokens"));
        assert!(
            !home.data().exists(),
            "refused before the ledger is touched"
        );
    }
    let server = Server::start(&home, &[]).unwrap();
    assert_eq!(server.stop().unwrap(), Some(OK));
}
