//! What ran before: asked of the ledger, given, or not to be seen from a clone that is too shallow.
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{DEPLOY, Pipeline, at};

const DEPLOYMENT: &str = "event.deployment.finished.deployment";

/// A pipeline beside a repository of four commits.
struct Shop {
    pipeline: Pipeline,
    origin: PathBuf,
    /// Oldest first.
    commits: Vec<String>,
}

impl Shop {
    fn new(pipeline: Pipeline) -> Self {
        let commit = |number: u32| {
            let time = 1_700_000_000 + 60 * number;
            format!(
                "commit refs/heads/main\ncommitter Ann <ann@example.org> {time} +0000\ndata 1\n{number}\n"
            )
        };
        let history: String = (1..=4).map(commit).collect();
        let origin = pipeline.machine.repository("shop", &history);
        let log = pipeline
            .machine
            .git(&origin, &["log", "--reverse", "--format=%H"]);
        let commits = log.lines().map(str::to_owned).collect();
        let url = format!("file://{}", origin.display());
        pipeline
            .machine
            .git(&origin, &["remote", "add", "origin", &url]);
        Self {
            pipeline: pipeline.at(&origin),
            origin,
            commits,
        }
    }

    /// As CI clones: only the newest commit.
    fn in_a_shallow_clone(mut self) -> Self {
        let url = format!("file://{}", self.origin.display());
        let work = self.pipeline.machine.work();
        self.pipeline
            .machine
            .git(&work, &["clone", "-q", "--depth=1", &url, "clone"]);
        self.pipeline = self.pipeline.at(&work.join("clone"));
        self
    }

    fn deployed(&self, more: &[&str]) -> String {
        let said = self.pipeline.say(&[DEPLOY, more].concat());
        assert_eq!(said.code, Some(0), "{said:?}");
        said.err
    }

    /// Of the newest deployment: what ran before, and whether the range is said to be unknown.
    fn range(&self) -> (Vec<String>, bool) {
        let recorded = self.pipeline.recorded();
        let deployment = at(recorded.last().unwrap(), DEPLOYMENT).clone();
        let revision = |it: &Value| it["revision"].as_str().unwrap().to_owned();
        let previous = deployment["previousRevisions"].as_array();
        (
            previous.into_iter().flatten().map(revision).collect(),
            deployment["rangeUnknown"] == json!(true),
        )
    }

    fn is_shallow(&self) -> bool {
        let git = &self.pipeline.machine;
        git.git(
            &self.pipeline.directory,
            &["rev-parse", "--is-shallow-repository"],
        ) == "true"
    }
}

#[test]
fn a_full_clone_knows_the_range_from_what_the_ledger_says_ran_before() {
    let shop = Shop::new(Pipeline::new());
    assert_eq!(shop.deployed(&["--revision", "HEAD~2"]), "");
    assert_eq!(shop.range(), (vec![], false));
    assert_eq!(shop.deployed(&[]), "");
    assert_eq!(shop.range(), (vec![shop.commits[1].clone()], false));
}

#[test]
fn what_is_said_to_have_run_before_is_recorded() {
    let shop = Shop::new(Pipeline::new());
    assert_eq!(shop.deployed(&["--previous", "HEAD~3"]), "");
    assert_eq!(shop.range(), (vec![shop.commits[0].clone()], false));
}

#[test]
fn a_shallow_clone_says_what_it_cannot_see_and_records_the_range_as_unknown() {
    let shop = Shop::new(Pipeline::new());
    shop.deployed(&["--revision", "HEAD~2"]);
    let shop = shop.in_a_shallow_clone();
    let said = shop.deployed(&[]);
    assert!(said.contains(&shop.commits[1][..10]), "{said}");
    assert!(
        said.contains("fetch-depth: 0") && said.contains("--deepen"),
        "{said}"
    );
    assert_eq!(shop.range(), (vec![shop.commits[1].clone()], true));
    assert!(shop.is_shallow());
}

#[test]
fn a_shallow_clone_is_deepened_where_that_is_allowed() {
    let shop = Shop::new(Pipeline::new());
    shop.deployed(&["--revision", "HEAD~2"]);
    let shop = shop.in_a_shallow_clone();
    assert_eq!(shop.deployed(&["--deepen"]), "");
    assert_eq!(shop.range(), (vec![shop.commits[1].clone()], false));
    assert!(!shop.is_shallow());
}

#[test]
fn a_shallow_clone_without_a_previous_head_asks_for_it_and_records_the_range_as_unknown() {
    let shop = Shop::new(Pipeline::new()).in_a_shallow_clone();
    let said = shop.deployed(&[]);
    assert!(
        said.contains("no earlier deployment of checkout to prod"),
        "{said}"
    );
    assert!(said.contains("--previous COMMIT"), "{said}");
    assert_eq!(shop.range(), (vec![], true));
}

#[test]
fn a_shallow_clone_takes_the_word_of_whoever_names_the_previous_head() {
    let mut shop = Shop::new(Pipeline::away()).in_a_shallow_clone();
    let previous = shop.commits[0].clone();
    let said = shop.deployed(&["--previous", &previous]);
    assert!(
        said.contains("does not hold") && said.contains("--deepen"),
        "{said}"
    );
    shop.pipeline.come_back();
    shop.pipeline
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
    let recorded = shop.pipeline.recorded();
    let deployment = at(&recorded[0], DEPLOYMENT);
    assert_eq!(
        deployment["previousRevisions"][0]["revision"],
        json!(previous)
    );
    assert_eq!(deployment["rangeUnknown"], json!(true));
}

#[test]
fn a_deployment_without_a_range_may_say_so_twice() {
    let shop = Shop::new(Pipeline::new().in_ci(&[
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_RUN_ID", "1"),
        ("GITHUB_JOB", "deploy"),
    ]));
    let shop = shop.in_a_shallow_clone();
    shop.deployed(&[]);
    shop.deployed(&[]);
    assert_eq!(shop.pipeline.recorded().len(), 1);
}
