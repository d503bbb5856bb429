//! The client crate's examples as processes against a real server; what they did is asked through the command line.
use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
};

use serde_json::Value;
use waybill_tests::process;

use crate::{
    machine::{Said, run},
    pipeline::Pipeline,
};

/// An example of this build.
fn example(name: &str) -> PathBuf {
    let path = process::waybill().with_file_name("examples").join(name);
    let build = "cargo build -p waybill-client --examples";
    assert!(path.is_file(), "no {}: run `{build}` first", path.display());
    path
}

impl Pipeline {
    fn example(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = self.machine.command(example(name));
        command
            .arg(format!("http://{}", self.address))
            .args(arguments);
        command
    }

    /// `position kind source id` of everything that is recorded.
    fn lines(&self) -> Vec<String> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let line = |event: &Value| {
            let said = &event["event"];
            [
                &event["position"],
                &event["kind"],
                &said["source"],
                &said["id"],
            ]
            .map(text)
            .join(" ")
        };
        self.recorded().iter().map(line).collect()
    }

    fn report(&self, name: &str) {
        self.say(&[
            "emit",
            "incident",
            name,
            "--env",
            "prod",
            "--service",
            "checkout",
        ])
        .well();
    }
}

/// An example that runs on, and what it says.
struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Its other lines, when it ends well.
    #[track_caller]
    fn rest(mut self) -> Vec<String> {
        let lines = self.out.lines().map(Result::unwrap).collect();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {lines:?}");
        lines
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn a_service_emits_and_its_events_are_recorded_in_order() {
    let pipeline = Pipeline::new();
    let out = run(&mut pipeline.example("service", &[])).well();
    let kinds = ["flag.changed", "flag.changed", "metric.window_summarized"];
    let receipt =
        |(kind, position)| format!("recorded {kind} position={position} duplicate=false\n");
    assert_eq!(
        out,
        kinds.into_iter().zip(2..).map(receipt).collect::<String>()
    );
    let recorded = pipeline.recorded();
    assert_eq!(self::kinds(&recorded), kinds);
    for event in &recorded {
        assert_eq!(event["event"]["source"], "//checkout.example.com");
    }
}

/// What a CI job tells, in order.
const JOB: [&str; 5] = [
    "commit.recorded",
    "change.merged",
    "build.finished",
    "deployment.started",
    "deployment.finished",
];

fn kinds(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .map(|event| event["kind"].as_str().unwrap())
        .collect()
}

#[test]
fn a_ci_job_run_again_gives_duplicates_and_its_deployment_can_be_traced() {
    let pipeline = Pipeline::new();
    let once = || run(&mut pipeline.example("ci_job", &["outbox", "8412"])).well();
    assert_eq!(once(), "waiting 5\nrecorded 5 duplicates 0 refused 0\n");
    assert_eq!(once(), "waiting 5\nrecorded 5 duplicates 5 refused 0\n");
    assert_eq!(kinds(&pipeline.recorded()), JOB);
    let traced = pipeline
        .say(&["trace", "4f1c2d3e4f1c", "--at-least", "6"])
        .well();
    for text in [
        "one query less",
        "change #412",
        "built by build 8412",
        "deployment checkout/d-8412",
    ] {
        assert!(traced.contains(text), "{text}: {traced}");
    }
}

#[test]
fn what_a_ci_job_could_not_send_survives_its_death_and_goes_first() {
    let mut pipeline = Pipeline::away();
    let mut dies = Running::start(pipeline.example("ci_job", &["outbox", "8412"]));
    assert_eq!(dies.line(), "waiting 5");
    dies.kill();
    // The next one waits for the ledger, which comes back in time.
    let mut next = Running::start(pipeline.example("ci_job", &["outbox", "8413"]));
    assert_eq!(next.line(), "waiting 10");
    pipeline.come_back();
    assert_eq!(next.rest(), ["recorded 10 duplicates 0 refused 0"]);
    let recorded = pipeline.recorded();
    assert_eq!(kinds(&recorded), [JOB, JOB].concat());
    let builds = recorded
        .iter()
        .filter_map(|it| it.pointer("/event/build/finished/buildId"));
    assert_eq!(builds.collect::<Vec<_>>(), ["8412", "8413"]);
}

#[test]
fn an_internal_tool_reads_what_it_wrote_and_verifies_it() {
    let pipeline = Pipeline::new();
    pipeline.report("INC-1");
    let tool = || run(&mut pipeline.example("internal_tool", &[])).well();
    for position in [3, 4] {
        let out = tool();
        let lines: Vec<&str> = out.lines().collect();
        let [recorded, trace, delivery, verified] = lines[..] else {
            panic!("{out}");
        };
        assert_eq!(recorded, format!("recorded position={position}"));
        assert_eq!(trace, "trace read_my_write=true found=true");
        assert_eq!(delivery, "delivery services=1");
        assert_eq!(verified, format!("verified size={position} grown=1"));
    }
    // The same by the command line, and the same proof on files.
    let event = pipeline.recorded().pop().unwrap();
    let [source, id] = ["source", "id"].map(|name| event["event"][name].as_str().unwrap());
    let path = "/event/deployment/finished/deployment/deploymentId";
    let deployment = event.pointer(path).unwrap().as_str().unwrap();
    let traced = pipeline.say(&["trace", &format!("deployment:checkout/{deployment}")]);
    assert!(traced.well().contains("commit 9a8b7c6d9a"));
    pipeline.say(&["log", "checkpoint", "-o", "kept"]).well();
    pipeline
        .say(&["log", "receipt", source, id, "-o", "receipt"])
        .well();
    pipeline
        .say(&["verify", "receipt", "--checkpoint", "kept"])
        .well();
}

#[test]
fn a_reader_tails_from_a_position() {
    let pipeline = Pipeline::new();
    run(&mut pipeline.example("ci_job", &["outbox", "8412"])).well();
    let read = |arguments: &[&str]| -> Said { run(&mut pipeline.example("reader", arguments)) };
    let mut expected = pipeline.lines()[1..4].to_vec();
    expected.push("next 6".to_owned());
    let out = read(&["--from", "3", "--count", "3"]).well();
    assert_eq!(out.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_reader_goes_on_over_a_restart_and_misses_and_doubles_nothing() {
    let mut pipeline = Pipeline::new();
    for name in ["INC-1", "INC-2"] {
        pipeline.report(name);
    }
    let mut reader = Running::start(pipeline.example("reader", &["--from", "2", "--count", "6"]));
    let mut lines = vec![reader.line(), reader.line()];
    pipeline.report("INC-3");
    lines.push(reader.line());
    pipeline.go_away();
    pipeline.come_back();
    pipeline.report("INC-4");
    lines.push(reader.line());
    pipeline.die();
    pipeline.come_back();
    for name in ["INC-5", "INC-6"] {
        pipeline.report(name);
    }
    lines.extend(reader.rest());
    let mut expected = pipeline.lines();
    assert_eq!(expected.len(), 6);
    expected.push("next 8".to_owned());
    assert_eq!(lines, expected);
}
