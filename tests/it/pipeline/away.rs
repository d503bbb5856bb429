//! A ledger that is away: events wait on the machine, and go first and in order when it is back.
use std::{
    fs,
    path::PathBuf,
    process::{Child, Stdio},
};

use serde_json::Value;

use super::{DEPLOY, GITHUB, Pipeline, each};
use crate::machine::Said;

impl Pipeline {
    /// `emit incident` of this name; every one is an event of its own.
    fn incident(name: &str) -> [&str; 7] {
        [
            "emit",
            "incident",
            name,
            "--env",
            "prod",
            "--service",
            "checkout",
        ]
    }

    /// Files of the events that wait, or that were refused after waiting.
    fn spooled(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut open = vec![self.machine.kept().join("spool")];
        while let Some(directory) = open.pop() {
            for entry in fs::read_dir(directory).into_iter().flatten() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => open.push(path),
                    false if path.extension().is_some_and(|it| it == "event") => found.push(path),
                    false => {}
                }
            }
        }
        found.sort();
        found
    }

    /// Ids of the recorded incidents, in the order of the ledger.
    fn incidents(&self) -> Vec<String> {
        let recorded = self.recorded();
        let ids = each(&recorded, "event.incident.detected.incident.incidentId");
        let text = |id: &Value| id.as_str().map(str::to_owned);
        ids.into_iter().filter_map(text).collect()
    }
}

#[track_caller]
fn assert_waits(said: &Said) {
    assert_eq!((said.code, &said.out[..]), (Some(0), ""), "{said:?}");
    assert!(
        said.err.contains("the event waits on this machine"),
        "{said:?}"
    );
}

#[test]
fn what_waits_goes_first_in_order_and_nothing_is_lost_or_doubled() {
    let mut pipeline = Pipeline::away();
    let names: Vec<String> = (1..=12).map(|number| format!("INC-{number}")).collect();
    for name in &names {
        assert_waits(&pipeline.say(&Pipeline::incident(name)));
    }
    assert_eq!(pipeline.spooled().len(), names.len());

    pipeline.come_back();
    let said = pipeline.say(&Pipeline::incident("INC-13"));
    assert_eq!(said.code, Some(0));
    assert!(
        said.err.contains("12 events waited and went first"),
        "{said:?}"
    );
    assert!(said.out.starts_with("recorded seq:14 "), "{said:?}");
    let expected: Vec<String> = (1..=13).map(|number| format!("INC-{number}")).collect();
    assert_eq!(pipeline.incidents(), expected);
    assert!(pipeline.spooled().is_empty());

    // It goes away and comes back: what was sent before is not sent again.
    pipeline.go_away();
    assert_waits(&pipeline.say(&Pipeline::incident("INC-14")));
    pipeline.come_back();
    pipeline.say(&Pipeline::incident("INC-15")).well();
    assert_eq!(pipeline.incidents().len(), 15);
    assert_eq!(pipeline.incidents()[12..], ["INC-13", "INC-14", "INC-15"]);
}

#[test]
fn many_at_one_moment_lose_and_double_nothing() {
    let mut pipeline = Pipeline::away();
    let at_once = |pipeline: &Pipeline, numbers: std::ops::Range<u32>| {
        let start = |number: u32| {
            let name = format!("INC-{number}");
            let mut command = pipeline.command(&Pipeline::incident(&name));
            command.stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().unwrap()
        };
        let children: Vec<Child> = numbers.map(start).collect();
        for mut child in children {
            assert!(child.wait().unwrap().success());
        }
    };
    at_once(&pipeline, 0..8);
    assert_eq!(pipeline.spooled().len(), 8);
    pipeline.come_back();
    at_once(&pipeline, 8..16);
    let mut incidents = pipeline.incidents();
    incidents.sort();
    let mut expected: Vec<String> = (0..16).map(|number| format!("INC-{number}")).collect();
    expected.sort();
    assert_eq!(incidents, expected);
    assert!(pipeline.spooled().is_empty());
}

#[test]
fn a_step_that_runs_again_is_a_duplicate_whenever_the_ledger_was_away() {
    let mut pipeline = Pipeline::away().in_ci(GITHUB);
    let waited = ["emit", "deploy", "checkout", "--env", "prod"];
    assert_waits(&pipeline.say(&waited));
    assert_waits(&pipeline.say(&waited));
    pipeline.come_back();
    let again = pipeline.say(&waited).well();
    assert!(again.starts_with("recorded before seq:2 "), "{again}");

    // The next attempt knows what ran before, from the ledger. Run again while that is away, it cannot ask.
    pipeline.set(&[("GITHUB_RUN_ATTEMPT", "3"), ("GITHUB_SHA", &"b".repeat(40))]);
    pipeline.say(DEPLOY).well();
    let recorded = pipeline.recorded();
    let previous = "event.deployment.finished.deployment.previousRevisions.0.revision";
    assert_eq!(
        each(&recorded, previous),
        [&Value::Null, &super::SHA.into()]
    );
    pipeline.go_away();
    assert_waits(&pipeline.say(DEPLOY));
    pipeline.come_back();
    let said = pipeline.say(&Pipeline::incident("INC-1"));
    assert!(!said.err.contains("rejected"), "{said:?}");
    assert!(pipeline.spooled().is_empty());
    assert_eq!(pipeline.recorded().len(), 3);
    assert!(
        pipeline
            .say(&["log", "--refused", "--jsonl"])
            .lines()
            .is_empty()
    );
}

#[test]
fn a_deployment_that_waited_is_what_ran_before_the_next_one() {
    let mut pipeline = Pipeline::away().in_ci(GITHUB);
    assert_waits(&pipeline.say(DEPLOY));
    pipeline.come_back();
    pipeline.set(&[("GITHUB_RUN_ID", "8413"), ("GITHUB_SHA", &"b".repeat(40))]);
    pipeline.say(DEPLOY).well();
    let recorded = pipeline.recorded();
    let previous = "event.deployment.finished.deployment.previousRevisions.0.revision";
    assert_eq!(
        each(&recorded, previous),
        [&Value::Null, &super::SHA.into()]
    );
}

#[test]
fn what_no_ledger_would_take_does_not_wait() {
    let pipeline = Pipeline::away().in_ci(GITHUB);
    let said = pipeline.say(&[
        "emit",
        "deploy",
        "checkout",
        "--env",
        "prod",
        "--revision",
        "xyz",
    ]);
    assert_eq!(said.code, Some(6), "{said:?}");
    assert!(
        said.err.contains("revision is `xyz`, not a commit id"),
        "{said:?}"
    );
    assert!(pipeline.spooled().is_empty());
}

#[test]
fn where_it_is_to_fail_it_exits_5_and_nothing_waits() {
    let pipeline = Pipeline::away();
    let said = pipeline.say(&[&Pipeline::incident("INC-1")[..], &["--on-error", "fail"]].concat());
    assert_eq!(said.code, Some(5), "{said:?}");
    assert!(said.err.contains(&pipeline.address), "{said:?}");
    assert!(pipeline.spooled().is_empty());
}

#[test]
fn a_machine_without_a_place_to_wait_says_so_and_breaks_nothing() {
    let pipeline = Pipeline::away();
    // A file where the directory would be.
    fs::create_dir_all(pipeline.machine.kept()).unwrap();
    fs::write(pipeline.machine.kept().join("spool"), "").unwrap();
    let mut homeless = pipeline.command(&Pipeline::incident("INC-1"));
    homeless.env_remove("HOME").env_remove("XDG_STATE_HOME");
    for mut command in [pipeline.command(&Pipeline::incident("INC-2")), homeless] {
        let said = crate::machine::run(&mut command);
        assert_eq!((said.code, &said.out[..]), (Some(0), ""), "{said:?}");
        assert!(said.err.contains("so the event is lost"), "{said:?}");
    }
}

#[test]
fn an_event_that_rotted_while_it_waited_is_set_aside_and_holds_up_nothing() {
    let mut pipeline = Pipeline::away();
    for name in ["INC-1", "INC-2", "INC-3"] {
        assert_waits(&pipeline.say(&Pipeline::incident(name)));
    }
    let files = pipeline.spooled();
    fs::write(&files[0], b"\xff\xff").unwrap();
    fs::write(&files[1], b"").unwrap();
    pipeline.come_back();
    let said = pipeline.say(&Pipeline::incident("INC-4"));
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(pipeline.incidents(), ["INC-3", "INC-4"]);
    let kept = pipeline.spooled();
    assert_eq!(kept.len(), 2);
    for path in kept {
        assert!(said.err.contains(&path.display().to_string()), "{said:?}");
    }
}
