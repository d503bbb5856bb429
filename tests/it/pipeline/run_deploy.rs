//! `run deploy`: a command that deploys is recorded whatever becomes of it, and its exit code is passed on.
use std::{
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use super::{GITHUB, Pipeline, SHA, at, each, fields};
use crate::machine::Said;

const STARTED: &str = "event.deployment.started.deployment";
const FINISHED: &str = "event.deployment.finished.deployment";

/// How a command ends, the code that is passed on, and what is recorded of it.
const ENDS: &[(&[&str], i32, &str)] = &[
    (&["true"], 0, "OUTCOME_SUCCESS"),
    (&["sh", "-c", "exit 7"], 7, "OUTCOME_FAILURE"),
    (&["sh", "-c", "kill -KILL $$"], 137, "OUTCOME_FAILURE"),
    (&["sh", "-c", "kill -TERM $$"], 143, "OUTCOME_CANCELLED"),
    (&["no-such-command"], 127, "OUTCOME_ERROR"),
    (&["/"], 126, "OUTCOME_ERROR"),
];

impl Pipeline {
    fn run_all_ends(&self) {
        for (command, code, _) in ENDS {
            let deploy = ["run", "deploy", "checkout", "--env", "prod", "--"];
            let said = self.say(&[&deploy, *command].concat());
            assert_eq!(said.code, Some(*code), "{command:?}: {said:?}");
        }
    }
}

/// Start and end of each run, in the order of [`ENDS`].
fn assert_all_ends(events: &[Value]) {
    assert_eq!(events.len(), 2 * ENDS.len());
    for (pair, (command, code, outcome)) in events.chunks(2).zip(ENDS) {
        let started = at(&pair[0], &format!("{STARTED}.deploymentId"));
        let finished = at(&pair[1], &format!("{FINISHED}.deploymentId"));
        assert!(started.is_string(), "{command:?}: {:?}", pair[0]);
        assert_eq!(started, finished, "{command:?}");
        let found = at(&pair[1], "event.deployment.finished");
        assert_eq!(found["outcome"], *outcome, "{command:?}");
        let recorded = found["exitCode"].as_i64().unwrap_or(0);
        assert_eq!(recorded, i64::from(*code), "{command:?}");
        assert!(found["span"]["elapsed"].is_string(), "{command:?}: {found}");
    }
}

#[test]
fn every_end_is_recorded_and_its_code_passed_on() {
    let pipeline = Pipeline::new().in_ci(GITHUB);
    pipeline.run_all_ends();
    assert_all_ends(&pipeline.recorded());
}

#[test]
fn a_settings_file_that_is_wrong_stops_no_deployment() {
    let pipeline = Pipeline::new();
    std::fs::write(pipeline.directory.join(".waybill.toml"), "servise = 'x'").unwrap();
    for (command, code, _) in ENDS {
        let deploy = ["run", "deploy", "checkout", "--env", "prod", "--"];
        let said = pipeline.say(&[&deploy, *command].concat());
        assert_eq!(said.code, Some(*code), "{command:?}: {said:?}");
        assert!(
            said.err.contains("not recorded") && said.err.contains("servise"),
            "{said:?}"
        );
    }
}

#[test]
fn every_end_is_passed_on_while_the_ledger_is_away_and_recorded_when_it_is_back() {
    let mut pipeline = Pipeline::away().in_ci(GITHUB);
    pipeline.run_all_ends();
    pipeline.come_back();
    pipeline.say(&["emit", "build"]).well();
    let recorded = pipeline.recorded();
    let (build, deployments) = recorded.split_last().unwrap();
    assert_eq!(build["kind"], "build.finished");
    assert_all_ends(deployments);
}

#[test]
fn the_commands_streams_and_environment_are_its_own() {
    let pipeline = Pipeline::new().in_ci(GITHUB);
    let said = pipeline.deploy("echo out $GITHUB_RUN_ID; echo err >&2; cat");
    assert_eq!(said.out, "out 8412\n");
    assert!(said.err.contains("err\n"), "{said:?}");
    assert!(
        said.err.contains("checkout → prod: succeeded in "),
        "{said:?}"
    );
}

#[test]
fn the_duration_is_the_commands() {
    let pipeline = Pipeline::new();
    pipeline.deploy("sleep 0.3").well();
    let recorded = pipeline.recorded();
    let elapsed = at(&recorded[1], "event.deployment.finished.span.elapsed");
    let seconds: f64 = elapsed
        .as_str()
        .unwrap()
        .trim_end_matches('s')
        .parse()
        .unwrap();
    assert!((0.3..10.0).contains(&seconds), "{elapsed}");
}

#[test]
fn run_again_it_is_a_second_operation_of_the_same_attempt() {
    let pipeline = Pipeline::new().in_ci(GITHUB);
    pipeline.deploy("exit 1");
    pipeline.deploy("exit 0").well();
    let recorded = pipeline.recorded();
    assert_eq!(
        each(&recorded, "kind"),
        [
            "deployment.started",
            "deployment.finished",
            "deployment.started",
            "deployment.finished"
        ]
    );
    let finished: Vec<Value> = recorded
        .iter()
        .skip(1)
        .step_by(2)
        .map(|event| {
            fields(
                event,
                &[
                    &format!("{FINISHED}.run"),
                    "event.deployment.finished.outcome",
                ],
            )
        })
        .collect();
    assert_eq!(finished[0][format!("{FINISHED}.run")]["attempt"], 2);
    assert_eq!(
        finished[0][format!("{FINISHED}.run")],
        finished[1][format!("{FINISHED}.run")]
    );
    let outcomes = finished
        .iter()
        .map(|event| &event["event.deployment.finished.outcome"]);
    assert_eq!(
        outcomes.collect::<Vec<_>>(),
        ["OUTCOME_FAILURE", "OUTCOME_SUCCESS"]
    );
    let ids = each(&recorded, &format!("{FINISHED}.deploymentId"));
    assert_ne!(ids[1], ids[3]);
}

#[test]
fn what_the_ledger_refuses_is_said_and_the_command_runs_all_the_same() {
    let pipeline = Pipeline::new();
    let said = pipeline.say(&[
        "run",
        "deploy",
        "a\u{202e}b",
        "--env",
        "prod",
        "--",
        "sh",
        "-c",
        "echo ran; exit 3",
    ]);
    assert_eq!((said.code, &said.out[..]), (Some(3), "ran\n"), "{said:?}");
    assert!(
        said.err.contains("deployment.service is `a\\u{202e}b`"),
        "{said:?}"
    );
}

#[test]
fn a_revision_without_a_repository_is_told_and_the_command_runs_all_the_same() {
    let pipeline = Pipeline::new();
    let deploy = ["run", "deploy", "checkout", "--env", "prod"];
    let typed = ["--revision", SHA, "--previous", SHA, "--", "true"];
    let said = pipeline.say(&[&deploy[..], &typed].concat());
    assert_eq!(said.code, Some(0), "{said:?}");
    for which in ["revision", "the revision before,"] {
        let sentence = format!("no repository is known for {which} `{SHA}`");
        assert!(said.err.contains(&sentence), "{said:?}");
    }
    assert_eq!(pipeline.recorded().len(), 2, "start and end");
}

/// Who is sent a signal.
#[derive(Clone, Copy)]
enum To {
    /// As a terminal does it.
    Everyone,
    /// As a CI system does it.
    Waybill,
}

/// Runs a script until it says that it is ready, and sends a signal.
fn interrupted(pipeline: &Pipeline, script: &str, signal: &str, to: To) -> Said {
    let mut command = pipeline.command(&[
        "run", "deploy", "checkout", "--env", "prod", "--", "sh", "-c", script,
    ]);
    let mut child = command
        .process_group(0)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let target = match to {
        To::Everyone => format!("-{}", child.id()),
        To::Waybill => child.id().to_string(),
    };
    let kill = Command::new("kill")
        .args(["-s", signal, "--", &target])
        .status();
    assert!(kill.unwrap().success());
    let said = Said::of(&child.wait_with_output().unwrap());
    // Nobody holds its end any more.
    assert_eq!(out.read_line(&mut line).unwrap(), 0);
    said
}

#[test]
fn a_command_that_is_stopped_has_an_end_on_record() {
    let sleeps = "echo ready; exec sleep 600";
    // Ready is who is to be killed: between fork and exec the shell's own traps would swallow the signal.
    let answers = "trap 'kill $!; exit 3' INT TERM HUP; sh -c 'echo ready; exec sleep 600' & wait";
    let cases = [
        (sleeps, "INT", To::Everyone, 130, "OUTCOME_CANCELLED"),
        (answers, "INT", To::Everyone, 3, "OUTCOME_FAILURE"),
        (sleeps, "TERM", To::Waybill, 143, "OUTCOME_CANCELLED"),
        (answers, "TERM", To::Waybill, 3, "OUTCOME_FAILURE"),
        (sleeps, "HUP", To::Everyone, 129, "OUTCOME_CANCELLED"),
        (sleeps, "HUP", To::Waybill, 129, "OUTCOME_CANCELLED"),
    ];
    let pipeline = Pipeline::new();
    for (index, (script, signal, to, code, outcome)) in cases.into_iter().enumerate() {
        let said = interrupted(&pipeline, script, signal, to);
        assert_eq!(said.code, Some(code), "{signal}: {said:?}");
        let recorded = pipeline.recorded();
        assert_eq!(recorded.len(), 2 * (index + 1), "{signal}: {said:?}");
        let finished = at(recorded.last().unwrap(), "event.deployment.finished");
        let found = json!([finished["outcome"], finished["exitCode"]]);
        assert_eq!(found, json!([outcome, code]), "{signal}");
    }
}

#[test]
fn a_command_that_is_stopped_while_the_ledger_is_away_has_an_end_that_waits() {
    let mut pipeline = Pipeline::away();
    let said = interrupted(&pipeline, "echo ready; exec sleep 600", "INT", To::Everyone);
    assert_eq!(said.code, Some(130), "{said:?}");
    pipeline.come_back();
    pipeline
        .say(&[
            "emit",
            "incident",
            "INC-1",
            "--env",
            "prod",
            "--service",
            "checkout",
        ])
        .well();
    let recorded = pipeline.recorded();
    assert_eq!(
        each(&recorded, "kind"),
        [
            "deployment.started",
            "deployment.finished",
            "incident.detected"
        ]
    );
}
