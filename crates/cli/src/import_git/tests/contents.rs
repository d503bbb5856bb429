//! What one commit, one merge and one squash become.
use super::kit::{Ledger, Outcome, Repo, check, read, read_unless};

/// Five commits: a branch that is merged by a pull request, and a squash.
const SHOP: &str = r"
    1 main | first | a.txt=1\n2\n3\n
    2 main 1 | second | b.txt=x\n
    3 fix 1 | on-branch | a.txt=1\n2\n3\n4\n
    4 fix 3 | rename | a.txt=- c.txt=1\n2\n3\n4\n
    5 main 2 4 | Merge pull request #7 from ann/fix\n\nFix it | a.txt=- c.txt=1\n2\n3\n4\n
    6 main 5 | Tidy (#8) | b.txt=y\nz\n
";

#[test]
fn a_history_is_told_in_order() {
    check(
        &Repo::of(SHOP).show(),
        "
        commit:<first> @60 [] a.txt+3-0
        commit:<second> @120 [<first>] b.txt+1-0
        commit:<on-branch> @180 [<first>] a.txt+1-0
        commit:<rename> @240 [<on-branch>] a.txt=>c.txt+0-0
        change:7:<Merge pull request #7 from ann/fix>:whole @300 Merge `Fix it` of [<on-branch> <rename>]
        commit:<Merge pull request #7 from ann/fix> @300 [<second> <rename>] a.txt=>c.txt+1-0
        change:8:<Tidy (#8)>:whole @360 Squash `Tidy` of [] …
        commit:<Tidy (#8)> @360 [<Merge pull request #7 from ann/fix>] b.txt+2-1
        ",
    );
}

#[test]
fn a_second_reading_gives_the_same_bytes() {
    let repo = Repo::of(SHOP);
    let (first, second) = (repo.read(), repo.read());
    assert_eq!(first.bytes, second.bytes);
    let mut ledger = Ledger::default();
    assert_eq!(
        ledger.take(&first),
        Outcome {
            new: 8,
            ..Outcome::default()
        }
    );
    assert_eq!(
        ledger.take(&second),
        Outcome {
            duplicates: 8,
            ..Outcome::default()
        }
    );
    let third = read_unless(repo.options(), &|id| ledger.knows(id));
    assert_eq!(
        (
            third.bytes.len(),
            third.summary.commits,
            third.summary.commits_new
        ),
        (0, 6, 0)
    );
}

#[test]
fn a_grown_repository_gives_only_what_is_new() {
    let repo = Repo::of(SHOP);
    let mut ledger = Ledger::default();
    ledger.take(&repo.read());
    repo.grow("9 main 6 | more | d.txt=1\ntag v1.0.0 9");
    let grown = read_unless(repo.options(), &|id| ledger.knows(id));
    check(
        &grown.show(&repo),
        "
        commit:<more> @60 [<Tidy (#8)>] d.txt+1-0
        tag:v1.0.0:<more>:since @60 shop v1.0.0 after ``
        deployment:production:v1.0.0:<more>:since @60 d-v1.0.0 shop production runs <more> after []
        ",
    );
    assert_eq!(ledger.take(&repo.read()).conflicts, Vec::<String>::new());
}

#[test]
fn whatever_stops_a_reading_the_next_one_goes_on() {
    let repo = Repo::of(SHOP);
    let whole = repo.read();
    for cut in 0..whole.bytes.len() {
        let mut ledger = Ledger::default();
        let kept = super::kit::Reading {
            summary: whole.summary.clone(),
            bytes: whole.bytes[..cut].to_vec(),
        };
        ledger.take(&kept);
        let rest = read_unless(repo.options(), &|id| ledger.knows(id));
        assert_eq!(rest.bytes, whole.bytes[cut..], "cut at {cut}");
    }
}

#[test]
fn checkouts_and_settings_do_not_change_what_is_read() {
    let repo = Repo::of(SHOP);
    let before = repo.read().bytes;
    repo.git(&["reset", "-q", "--hard", "main"]);
    for (key, value) in [
        ("diff.renames", "false"),
        ("diff.algorithm", "histogram"),
        ("diff.external", "false"),
        ("diff.orderFile", "/no/such/file"),
        ("core.quotePath", "true"),
        ("color.ui", "always"),
        ("log.showSignature", "true"),
        ("i18n.logOutputEncoding", "UTF-16"),
    ] {
        repo.git(&["config", key, value]);
    }
    super::kit::write(&repo.path.join(".gitattributes"), "* -diff\n");
    let inside = repo.path.join("inside");
    std::fs::create_dir(&inside).unwrap();
    assert_eq!(read(super::kit::options(&inside)).bytes, before);
    repo.git(&["checkout", "-q", "--detach", "main"]);
    assert_eq!(repo.read().bytes, before);
}

#[test]
fn replacements_and_grafts_are_not_believed() {
    let repo = Repo::of(SHOP);
    let before = repo.read().bytes;
    let id = |name: &str| repo.git(&["rev-parse", name]);
    repo.git(&["replace", &id("main~1"), &id("main~2")]);
    super::kit::write(
        &repo.path.join(".git/info/grafts"),
        &format!("{}\n", id("main")),
    );
    assert_eq!(repo.read().bytes, before);
}

#[test]
fn messages_become_fields_and_persons_become_hashes() {
    let repo = Repo::of("1 main | first | a=1");
    let first = repo.git(&["rev-parse", "main"]);
    let message = format!(
        "feat(cart)!: take coupons\\n\\nThis reverts commit {first}.\\n\\nFixes: {} (\"first\")\\nTicket: A-1\\n\
         Reviewed-by: Bo <bo@example.org>\\nChange-Id: I{first}\\n(cherry picked from commit {first})",
        &first[..12]
    );
    repo.grow(&format!("2 main 1 | {message} | a=2"));
    let reading = repo.read();
    let commit = reading.commit("feat(cart)!: take coupons");
    assert_eq!(
        (&commit.reverts, &commit.picked_from),
        (&vec![first.clone()], &vec![first.clone()])
    );
    assert_eq!(
        (&commit.fixes[0][..], &commit.change_ids[0][1..]),
        (&first[..12], &first[..])
    );
    let conventional = commit.conventional.clone().unwrap();
    assert_eq!(
        (
            &conventional.r#type[..],
            &conventional.scope[..],
            conventional.breaking
        ),
        ("feat", "cart", true)
    );
    let keys: Vec<&str> = commit
        .trailers
        .iter()
        .map(|trailer| &trailer.key[..])
        .collect();
    assert_eq!(keys, ["Fixes", "Ticket", "Reviewed-by", "Change-Id"]);
    assert_eq!(commit.author, commit.committer);
    assert_eq!(
        (commit.author_time, commit.tree.len()),
        (commit.commit_time, 40)
    );
    for bytes in &reading.bytes {
        assert!(
            !String::from_utf8_lossy(bytes).contains("@example.org"),
            "an address got out"
        );
    }
    assert_eq!(reading.summary.reverts, 1);
}

#[test]
fn names_are_another_witness_that_wins() {
    let repo = Repo::of(SHOP);
    let mut ledger = Ledger::default();
    ledger.take(&repo.read());
    let with_names = read(crate::import_git::Options {
        with_names: true,
        ..repo.options()
    });
    assert_eq!(ledger.take(&with_names).conflicts, Vec::<String>::new());
    let author = ledger.winners().commit("first").author.unwrap();
    assert_eq!(author.display_name, "Ann");
}

#[test]
fn merges_into_the_default_branch_are_changes_in_whatever_words() {
    let repo = Repo::of(
        "1 main | first | a=1
         2 side 1 | aside | b=1
         3 side 2 | further | b=2
         4 main 1 3 | Merge the pipeline's tests | b=2
         5 side 3 4 | Bring in what came since |
         6 side 5 | last | b=3
         7 main 4 | second | a=2
         8 main 7 6 | Merge branch 'side' | b=3
         9 next 8 | ahead | c=1
         10 main 8 | third | a=3
         11 next 9 10 | Merge branch 'main' into next | a=3
         12 main 11 | fourth | a=4
         13 late 1 | late | d=1
         14 late 13 12 | Merge main: it went on | a=4
         15 main 14 | fifth | a=5",
    );
    let changes: Vec<String> = (repo.read().show(&repo).lines())
        .filter(|line| line.starts_with("change:"))
        .map(str::to_owned)
        .collect();
    check(
        &changes.join("\n"),
        "
        change:merge-<Merge the pipeline's tests>:<Merge the pipeline's tests>:whole @240 Merge `Merge the pipeline's tests` of [<aside> <further>]
        change:merge-<Merge branch 'side'>:<Merge branch 'side'>:whole @480 Merge `Merge branch 'side'` of [<Bring in what came since> <last>]
        ",
    );
}

#[test]
fn branches_count_when_they_are_asked_for() {
    let repo = Repo::of("1 main | first | a=1\n2 side 1 | aside | b=1\n3 main 1 | second | a=2");
    assert_eq!(repo.read().summary.commits, 2);
    let all = read(crate::import_git::Options {
        all_refs: true,
        ..repo.options()
    });
    assert_eq!(all.summary.commits, 3);
}

#[test]
fn the_first_error_of_whoever_takes_the_events_ends_it() {
    let repo = Repo::of(SHOP);
    let repository = crate::import_git::Repository::open(repo.options()).unwrap();
    let mut calls = 0;
    let mut sink = |_| {
        calls += 1;
        Err("full")
    };
    let error = repository
        .read(&|_| false, &mut sink, &mut |_| {})
        .unwrap_err();
    assert!(
        matches!(error, crate::import_git::ReadError::Sink("full")),
        "{error}"
    );
    assert_eq!(calls, 1);
}
