//! Every line of `emit` gives an event that a ledger takes.
use clap::Parser as _;
use prost::Message as _;
use waybill_core::Time;
use waybill_proto::{parse::parse, pb::RunRef};

use super::*;
use crate::{
    args::{Cli, Command},
    config::Settings,
    output::{Color, Output},
};

const REVISION: &str = "4f2a9c1b7d4f2a9c1b7d4f2a9c1b7d4f2a9c1b7d";

fn context(cli: &Cli, seconds: i64) -> Context {
    Context {
        global: cli.global.clone(),
        settings: Settings::default(),
        out: Output::new(false, true, Color::Never, &|_| None),
        now: Time::try_new(seconds, 0).unwrap(),
    }
}

/// The event of a line, as the step of a CI job would make it.
fn event(line: &str, seconds: i64) -> Result<Event, Failure> {
    let cli = Cli::try_parse_from(std::iter::once("waybill").chain(line.split(' '))).unwrap();
    let context = context(&cli, seconds);
    let Command::Emit(args) = cli.command else {
        panic!("`{line}` is not an emit")
    };
    let kind = args.kind.unwrap();
    let origin = Origin {
        run: Some(RunRef {
            provider: "github-actions".to_owned(),
            run_id: "17".to_owned(),
            attempt: 1,
            job: "deploy".to_owned(),
            uri: String::new(),
        }),
        repository: Some("github.com/acme/shop".to_owned()),
        revision: Some(REVISION.to_owned()),
        no_revision: None,
        trace_context: None,
    };
    let happened = happened(&context, &kind, &origin)?;
    envelope(&context, stamp(&kind), &origin, happened)
}

const LINES: [(&str, &str); 16] = [
    (
        "emit commit 4f2a9c1b7d4f2a9c1b7d4f2a9c1b7d4f2a9c1b7d",
        "commit.recorded",
    ),
    (
        "emit change #412 --step created --title x --head cart --base main",
        "change.created",
    ),
    (
        "emit change 412 --step reviewed --verdict approved --review 7",
        "change.reviewed",
    ),
    (
        "emit change 412 --step merged --merge-method squash",
        "change.merged",
    ),
    (
        "emit build --outcome failure --artifact shop@sha256:0000000000000000000000000000000000000000000000000000000000000000",
        "build.finished",
    ),
    ("emit build b-1 --step started", "build.started"),
    (
        "emit deploy checkout --env prod --elapsed 6m --version v1",
        "deployment.finished",
    ),
    (
        "emit deploy checkout --env prod --step started --strategy canary",
        "deployment.started",
    ),
    (
        "emit deploy checkout --env prod --step requested --rollback-of d-1",
        "deployment.requested",
    ),
    (
        "emit release v1.4.0 --service checkout --change #412 --previous v1.3.0",
        "release.published",
    ),
    (
        "emit release v1.4.0 --service checkout --step withdrawn --because broken",
        "release.withdrawn",
    ),
    (
        "emit incident INC-212 --env prod --service checkout --severity high",
        "incident.detected",
    ),
    (
        "emit incident INC-212 --step merged --merged-into INC-211",
        "incident.merged",
    ),
    (
        "emit flag price-batch --env prod --exposure 0.5",
        "flag.changed",
    ),
    (
        "emit flag price-batch --env prod --step archived",
        "flag.archived",
    ),
    (
        "emit metric checkout.errors --unit 1 --service checkout --env prod --from 1h --good 9 --total 10",
        "metric.window_summarized",
    ),
];

#[test]
fn every_kind_is_one_that_a_ledger_takes() {
    for (line, kind) in LINES {
        let event = event(line, 1_800_000_000).unwrap();
        let parsed = parse(&event.encode_to_vec())
            .unwrap_or_else(|refusal| panic!("`{line}` is refused: {refusal}"));
        assert_eq!(parsed.kind.0, kind, "{line}");
    }
}

#[test]
fn a_step_that_runs_again_says_the_same() {
    for (line, _) in LINES.iter().filter(|(line, _)| !line.contains("--from")) {
        let digest = |seconds| {
            let bytes = event(line, seconds).unwrap().encode_to_vec();
            let event = parse(&bytes).unwrap();
            (
                event.identity,
                waybill_proto::canonical::content_digest(&bytes, waybill_proto::canonical::VERSION)
                    .unwrap(),
            )
        };
        assert_eq!(digest(1_800_000_000), digest(1_800_000_777), "{line}");
    }
}

#[test]
fn what_is_not_known_is_asked_for() {
    for (line, word) in [
        ("emit deploy --env prod", "service"),
        ("emit deploy checkout", "environment"),
        ("emit flag f --env prod --exposure 1.5", "--exposure"),
        (
            "emit deploy checkout --env prod --elapsed soon",
            "--elapsed",
        ),
        ("emit deploy checkout --env prod --label team", "--label"),
    ] {
        let failure = event(line, 1_800_000_000).unwrap_err();
        assert!(failure.to_string().contains(word), "{line}: {failure}");
    }
}
