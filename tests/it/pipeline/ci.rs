//! What is inferred, and what a step that runs again is.
use serde_json::{Value, json};

use super::{DEPLOY, GITHUB, GITLAB, Pipeline, SHA, each, fields};

/// What is inferred of a deployment, as `log --jsonl` and `event show --json` both give it back.
#[track_caller]
fn check(variables: &[(&str, &str)], expected: Value) {
    let pipeline = Pipeline::new().in_ci(variables);
    pipeline.say(DEPLOY).well();
    let listed = pipeline.recorded();
    let shown = pipeline.say(&["event", "show", "2", "--json"]).well();
    assert_eq!(listed, [serde_json::from_str::<Value>(&shown).unwrap()]);
    let deployment = "event.deployment.finished.deployment";
    let [run, revisions] = ["run", "revisions"].map(|name| format!("{deployment}.{name}"));
    let paths = [
        "event.source",
        "event.id",
        "event.occurTimeBasis",
        &run,
        &revisions,
    ];
    let found = fields(&listed[0], &paths);
    let found: Vec<&Value> = paths.iter().map(|path| &found[path]).collect();
    assert_eq!(json!(found), expected);
}

#[test]
fn what_github_says_of_a_run_is_recorded() {
    check(
        GITHUB,
        json!([
            "/ci/github-actions/github.com/acme/shop",
            "github-actions:8412:2:deploy:deployment.finished:checkout@prod",
            "OCCUR_TIME_BASIS_DERIVED",
            {
                "provider": "github-actions", "runId": "8412", "attempt": 2, "job": "deploy",
                "uri": "https://github.com/acme/shop/actions/runs/8412/attempts/2",
            },
            [{"repository": "github.com/acme/shop", "revision": SHA}],
        ]),
    );
}

#[test]
fn what_gitlab_says_of_a_job_is_recorded() {
    check(
        GITLAB,
        json!([
            "/ci/gitlab-ci/gitlab.com/acme/shop",
            "gitlab-ci:77:1:deploy#9001:deployment.finished:checkout@prod",
            "OCCUR_TIME_BASIS_DERIVED",
            {
                "provider": "gitlab-ci", "runId": "77", "attempt": 1, "job": "deploy#9001",
                "uri": "https://gitlab.com/acme/shop/-/jobs/9001",
            },
            [{"repository": "gitlab.com/acme/shop", "revision": SHA}],
        ]),
    );
}

/// One step of every kind whose time the clock fills in.
const STEPS: &[&[&str]] = &[
    &[
        "emit",
        "change",
        "412",
        "--step",
        "merged",
        "--merge-revision",
        SHA,
    ],
    &[
        "emit",
        "build",
        "--elapsed",
        "90s",
        "--artifact",
        "pkg:oci/shop@1.4",
    ],
    &["emit", "release", "1.4.0", "--service", "checkout"],
    &[
        "emit", "deploy", "checkout", "--env", "prod", "--step", "started",
    ],
    DEPLOY,
    &[
        "emit",
        "flag",
        "price-batch",
        "--env",
        "prod",
        "--exposure",
        "0.5",
    ],
    &[
        "emit",
        "incident",
        "INC-212",
        "--env",
        "prod",
        "--service",
        "checkout",
    ],
];

#[test]
fn a_step_that_runs_again_is_a_duplicate_and_another_attempt_is_not() {
    let mut pipeline = Pipeline::new().in_ci(GITHUB);
    for step in STEPS {
        let first = pipeline.say(step).well();
        assert!(first.starts_with("recorded seq:"), "{step:?}: {first}");
    }
    let once = pipeline.recorded();
    assert_eq!(once.len(), STEPS.len());
    for (step, event) in STEPS.iter().zip(&once) {
        let again = pipeline.say(step).well();
        let before = format!(
            "recorded before seq:{} ",
            event["position"].as_str().unwrap()
        );
        assert!(again.starts_with(&before), "{step:?}: {again}");
    }
    assert_eq!(pipeline.recorded(), once);

    pipeline.set(&[("GITHUB_RUN_ATTEMPT", "3")]);
    for step in STEPS {
        pipeline.say(step).well();
    }
    let twice = pipeline.recorded();
    assert_eq!(twice.len(), 2 * STEPS.len());
    let attempts = each(&twice, "event.deployment.finished.deployment.run.attempt");
    let attempts: Vec<&Value> = attempts.into_iter().filter(|it| !it.is_null()).collect();
    assert_eq!(attempts, [2, 3]);
}

#[test]
fn a_retried_job_of_gitlab_is_another_execution() {
    let mut pipeline = Pipeline::new().in_ci(GITLAB);
    pipeline.say(DEPLOY).well();
    pipeline.set(&[("CI_JOB_ID", "9002")]);
    pipeline.say(DEPLOY).well();
    assert_eq!(pipeline.recorded().len(), 2);
}

#[test]
fn a_rejected_event_exits_6_and_names_field_value_and_rule() {
    let pipeline = Pipeline::new().in_ci(GITHUB);
    let cases: &[(&[&str], &str)] = &[
        (
            &[
                "emit",
                "deploy",
                "checkout",
                "--env",
                "prod",
                "--revision",
                "xyz",
            ],
            "deployment.finished.deployment.revisions[0].revision is `xyz`, not a commit id",
        ),
        (
            &["emit", "deploy", "a\u{202e}b", "--env", "prod"],
            "deployment.finished.deployment.service is `a\\u{202e}b`, a name may not hold",
        ),
        (
            &["emit", "deploy", "", "--env", "prod"],
            "deployment.finished.deployment.service is ``, ",
        ),
        (
            &["emit", "deploy", "checkout", "--env", "prod", "--id", ""],
            "id is ``, required",
        ),
        (
            &["emit", "-d", r#"{"source": "//ci"}"#],
            "id is ``, required",
        ),
        (
            &["emit", "-d", r#"{"nope": 1}"#],
            "nope is `nope`, not a field",
        ),
    ];
    for (arguments, sentence) in cases {
        let said = pipeline.say(arguments);
        assert_eq!(
            (said.code, &said.out[..]),
            (Some(6), ""),
            "{arguments:?}: {said:?}"
        );
        assert!(said.err.contains(sentence), "{arguments:?}: {said:?}");
    }
    assert!(pipeline.recorded().is_empty());
}

#[test]
fn a_revision_that_is_typed_is_not_dropped_for_want_of_its_repository() {
    let pipeline = Pipeline::new();
    let build = &["emit", "build"][..];
    let release = &["emit", "release", "1.4.0", "--service", "checkout"][..];
    let cases = [
        (DEPLOY, "--revision", SHA),
        (DEPLOY, "--revision", "xyz"),
        (DEPLOY, "--previous", SHA),
        (build, "--revision", SHA),
        (release, "--revision", SHA),
    ];
    for (step, flag, value) in cases {
        let said = pipeline.say(&[step, &[flag, value]].concat());
        assert_eq!((said.code, &said.out[..]), (Some(2), ""), "{said:?}");
        let sentence = format!("{flag} needs --repository");
        assert!(said.err.contains(&sentence), "{said:?}");
    }
    assert!(pipeline.recorded().is_empty());

    let both = ["--repository", "github.com/acme/shop", "--revision"];
    let said = pipeline.say(&[DEPLOY, &both, &["xyz"]].concat());
    assert_eq!(said.code, Some(6), "{said:?}");
    pipeline.say(&[DEPLOY, &both, &[SHA]].concat()).well();
    let deployed = pipeline.recorded();
    assert_eq!(
        each(&deployed, "event.deployment.finished.deployment.revisions"),
        [&json!([{"repository": "github.com/acme/shop", "revision": SHA}])]
    );
}

#[test]
fn an_inferred_revision_that_cannot_be_recorded_is_told_and_breaks_nothing() {
    let rule = "is `bad`, not a commit id (7 to 64 hex digits), so";
    let nowhere = format!("no repository is known for revision `{SHA}`, so");
    let cases = [
        (("GITHUB_SHA", "bad"), rule),
        (("GITHUB_REPOSITORY", ""), &nowhere),
    ];
    for (variable, sentence) in cases {
        let pipeline = Pipeline::new().in_ci(GITHUB).in_ci(&[variable]);
        let said = pipeline.say(DEPLOY);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(said.err.contains(sentence), "{said:?}");
        let events = pipeline.recorded();
        let revisions = each(&events, "event.deployment.finished.deployment.revisions");
        assert_eq!(revisions, [&Value::Null]);
    }
}

#[test]
fn other_content_under_a_taken_id_is_rejected_and_the_first_stands() {
    let pipeline = Pipeline::new().in_ci(GITHUB);
    pipeline.say(DEPLOY).well();
    let mut other = pipeline.command(DEPLOY);
    let said = crate::machine::run(other.args(["--outcome", "failure", "--json"]));
    assert_eq!(said.code, Some(6));
    let answer: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(
        answer.pointer("/results/0/refusal/recorded/position"),
        Some(&json!("2"))
    );
    assert!(said.err.contains("seq:2 stands"), "{}", said.err);
    let outcomes = pipeline.recorded();
    assert_eq!(
        each(&outcomes, "event.deployment.finished.outcome"),
        ["OUTCOME_SUCCESS"]
    );
}
