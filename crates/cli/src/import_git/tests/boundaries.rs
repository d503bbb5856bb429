//! Shallow clones, and what deepening them adds.
use std::path::Path;

use super::kit::{Ledger, Outcome, Reading, Repo, check, git, options, read, read_unless};
use crate::import_git::Options;

const HISTORY: &str = r"
    1 main | one | a=1
    tag v1.0.0 1
    2 main 1 | two | a=2
    3 fix 1 | aside | b=1
    4 main 2 3 | Merge pull request #7 from ann/fix | b=1
    5 main 4 | five | a=3
    tag v1.1.0 5
    6 main 5 | Six (#9) | a=4
";

/// Clones `repo` cut off at a depth.
fn clone(repo: &Repo, to: &Path, depth: &str) {
    let url = format!("file://{}", repo.path.display());
    git(to, &["clone", "-q", "--depth", depth, &url, "clone"]);
}

fn named(path: &Path) -> Options {
    Options {
        name: Some("example.org/acme/shop".into()),
        ..options(path)
    }
}

#[test]
fn a_boundary_is_a_gap_and_a_commit_that_says_so() {
    let repo = Repo::of(HISTORY);
    let directory = tempfile::tempdir().unwrap();
    clone(&repo, directory.path(), "3");
    let reading = read(named(&directory.path().join("clone")));
    check(
        &reading.show(&repo),
        "
        change:7:<Merge pull request #7 from ann/fix>:part @300 Merge `Merge pull request #7 from ann/fix` of [] …
        gap:<Merge pull request #7 from ann/fix> @300 gap
        boundary:<Merge pull request #7 from ann/fix> @300 [<two> <aside>]
        commit:<five> @360 [<Merge pull request #7 from ann/fix>] a+1-1
        change:9:<Six (#9)>:whole @480 Squash `Six` of [] …
        commit:<Six (#9)> @480 [<five>] a+1-1
        tag:v1.1.0:<five>:range-unknown @360 shop v1.1.0 after ``
        deployment:production:v1.1.0:<five>:range-unknown @360 d-v1.1.0 shop production runs <five> after [] range unknown
        ",
    );
    assert_eq!(reading.summary.boundaries, 1);
    assert!(
        reading
            .summary
            .notes
            .iter()
            .any(|note| note.contains("--unshallow"))
    );
}

/// However deep one reads first, reading the whole later makes no conflict, and leaves what reading it at once leaves.
#[test]
fn deepening_adds_and_never_contradicts() {
    let repo = Repo::of(HISTORY);
    let mut at_once = Ledger::default();
    at_once.take(&read(repo.options()));
    for depth in ["1", "2", "3", "4"] {
        let directory = tempfile::tempdir().unwrap();
        clone(&repo, directory.path(), depth);
        let path = directory.path().join("clone");
        let mut ledger = Ledger::default();
        for step in [
            &["status"][..],
            &["fetch", "-q", "--deepen=1"],
            &["fetch", "-q", "--unshallow", "--tags"],
        ] {
            git(&path, step);
            let reading = read_unless(named(&path), &|id| ledger.knows(id));
            assert_eq!(
                ledger.take(&reading).conflicts,
                Vec::<String>::new(),
                "depth {depth}, {step:?}"
            );
        }
        assert_eq!(
            shown(&ledger.winners(), &repo),
            shown(&at_once.winners(), &repo),
            "depth {depth}"
        );
    }
}

/// A history that is whole is not made worse by a shallow clone that is read later.
#[test]
fn a_shallow_clone_adds_nothing_to_a_whole_history() {
    let repo = Repo::of(HISTORY);
    let mut ledger = Ledger::default();
    ledger.take(&read(repo.options()));
    let before = shown(&ledger.winners(), &repo);
    let directory = tempfile::tempdir().unwrap();
    clone(&repo, directory.path(), "2");
    let shallow = read_unless(named(&directory.path().join("clone")), &|id| {
        ledger.knows(id)
    });
    assert_eq!(ledger.take(&shallow).conflicts, Vec::<String>::new());
    assert_eq!(shown(&ledger.winners(), &repo), before);
}

#[test]
fn a_clone_whose_depth_reaches_the_root_has_no_boundary() {
    let repo = Repo::of(HISTORY);
    let directory = tempfile::tempdir().unwrap();
    clone(&repo, directory.path(), "50");
    let reading = read(named(&directory.path().join("clone")));
    let mut ledger = Ledger::default();
    let whole = read(repo.options());
    ledger.take(&whole);
    assert_eq!(
        ledger.take(&reading),
        Outcome {
            duplicates: whole.bytes.len(),
            ..Outcome::default()
        }
    );
}

/// Winners without gaps that nothing closed.
fn shown(reading: &Reading, repo: &Repo) -> Vec<String> {
    reading.show(repo).lines().map(str::to_owned).collect()
}
