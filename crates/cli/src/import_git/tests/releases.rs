//! Tags as releases, and as deployments where they stand for them.
use super::kit::{Ledger, Repo, check, read};
use crate::import_git::Options;

const LINES: &str = r"
    1 main | one | a=1
    tag v1.0.0 1 1700000100
    2 main 1 | two | a=2
    tag v1.1.0-rc.1 2
    3 main 2 | three | a=3
    tag v1.1.0 3 1700009999
    4 old 1 | fix | b=1
    tag v1.0.1 4
    tag nightly 3
    tag checkout/v0.1 1
    tag checkout/v0.2 3
";

fn tags(reading: &str) -> String {
    let lines = reading
        .lines()
        .filter(|line| line.starts_with("tag:") || line.starts_with("deployment:"));
    lines
        .map(|line| line.split_once(" @").unwrap().1.to_owned() + "\n")
        .collect()
}

#[test]
fn releases_follow_their_own_line() {
    check(
        &tags(&Repo::of(LINES).show()),
        "
        60 checkout checkout/v0.1 after ``
        60 d-checkout/v0.1 checkout production runs <one> after []
        300 checkout checkout/v0.2 after `checkout/v0.1`
        300 d-checkout/v0.2 checkout production runs <three> after [<one>]
        300 shop nightly after ``
        100 shop v1.0.0 after ``
        100 d-v1.0.0 shop production runs <one> after []
        420 shop v1.0.1 after `v1.0.0`
        420 d-v1.0.1 shop production runs <fix> after [<one>]
        9999 shop v1.1.0 after `v1.0.0`
        9999 d-v1.1.0 shop production runs <three> after [<one>]
        180 shop v1.1.0-rc.1 after `v1.0.0`
        ",
    );
}

#[test]
fn deployments_are_made_when_asked_for_only() {
    let repo = Repo::of(LINES);
    let reading = read(Options {
        tags_as_deployments: false,
        ..repo.options()
    });
    assert_eq!(
        (reading.summary.releases, reading.summary.deployments),
        (7, 0)
    );
    assert!(!reading.ids().iter().any(|id| id.starts_with("deployment:")));
}

#[test]
fn a_pattern_and_a_service_may_be_told() {
    let repo = Repo::of(LINES);
    let told = Options {
        tag_pattern: Some("checkout/*".into()),
        service: Some("till".into()),
        ..repo.options()
    };
    check(
        &tags(&read(told).show(&repo)),
        "
        60 till checkout/v0.1 after ``
        60 d-checkout/v0.1 till production runs <one> after []
        300 till checkout/v0.2 after `checkout/v0.1`
        300 d-checkout/v0.2 till production runs <three> after [<one>]
        ",
    );
}

#[test]
fn tags_that_move_come_late_or_go_make_no_conflict() {
    let repo = Repo::of(LINES);
    let mut ledger = Ledger::default();
    ledger.take(&repo.read());
    let steps: [&[&str]; 4] = [
        &["tag", "-f", "nightly", "main~1"],
        &["tag", "v1.0.5", "main~1"],
        &["tag", "-d", "v1.0.0"],
        &["tag", "-f", "-a", "-m", "again", "v1.1.0", "main"],
    ];
    for step in steps {
        repo.git(step);
        assert_eq!(
            ledger.take(&repo.read()).conflicts,
            Vec::<String>::new(),
            "{step:?}"
        );
    }
}

#[test]
fn tags_of_other_things_and_of_tags() {
    let repo = Repo::of("1 main | one | a=1");
    repo.git(&["tag", "tree", "main^{tree}"]);
    repo.git(&["tag", "blob", "main:a"]);
    repo.git(&["tag", "-a", "-m", "x", "v1.0.0", "main"]);
    repo.git(&["tag", "-a", "-m", "x", "v1.0.1", "v1.0.0"]);
    repo.git(&["tag", "-a", "-m", "x", "of-tree", "main^{tree}"]);
    check(
        &tags(&repo.show()),
        "
        0 shop v1.0.0 after ``
        0 d-v1.0.0 shop production runs <one> after []
        0 shop v1.0.1 after `v1.0.0`
        0 d-v1.0.1 shop production runs <one> after [<one>]
        ",
    );
}

#[test]
fn a_version_below_its_ancestors_still_finds_the_one_before_it() {
    let repo = Repo::of(
        "1 main | one | a=1\ntag v1.0 1\n2 main 1 | two | a=2\ntag v3.0 2\n3 main 2 | three | a=3\ntag v2.0 3",
    );
    check(
        &tags(&repo.show()).replace(" @", ""),
        "
        60 shop v1.0 after ``
        60 d-v1.0 shop production runs <one> after []
        300 shop v2.0 after `v1.0`
        300 d-v2.0 shop production runs <three> after [<one>]
        180 shop v3.0 after `v1.0`
        180 d-v3.0 shop production runs <two> after [<one>]
        ",
    );
}
