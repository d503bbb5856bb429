//! Repositories as they are found: empty, bare, broken, huge, strange.
use std::fmt::Write as _;

use super::kit::{Ledger, Outcome, Repo, check, git, options, read};
use crate::import_git::{Error, Options, ReadError, Repository};

#[test]
fn no_commits_and_no_remote_have_no_name() {
    let repo = Repo::new();
    let error = Repository::open(repo.options()).unwrap_err();
    assert!(matches!(error, Error::Unnamed { .. }), "{error}");
    assert!(
        error.to_string().contains(&repo.path.display().to_string()),
        "{error}"
    );
}

#[test]
fn no_commits_are_said() {
    let repo = Repo::of("");
    let reading = repo.read();
    assert_eq!((reading.bytes.len(), reading.summary.commits), (0, 0));
    assert_eq!(reading.summary.notes, ["there are no commits yet"]);
}

#[test]
fn repositories_without_a_remote_are_named_by_their_first_commit() {
    let repo = Repo::new();
    repo.grow("1 main | one | a=1\n2 main 1 | two | a=2");
    let root = repo.git(&["rev-parse", "main~1"]);
    let repository = Repository::open(repo.options()).unwrap();
    assert_eq!(
        repository.entity().as_str(),
        format!("repository:root/{root}")
    );
    assert_eq!(
        (repository.service(), repository.source()),
        ("shop", &format!("git:root/{root}")[..])
    );
}

#[test]
fn bare_repositories_and_worktrees_read_the_same() {
    let repo = Repo::of("1 main | one | a=1\n2 main 1 | two | a=2\ntag v1 2");
    let expected = repo.read().bytes;
    let directory = tempfile::tempdir().unwrap();
    git(
        directory.path(),
        &[
            "clone",
            "-q",
            "--bare",
            &repo.path.display().to_string(),
            "shop.git",
        ],
    );
    let bare = directory.path().join("shop.git");
    git(
        &bare,
        &[
            "config",
            "remote.origin.url",
            "git@example.org:acme/shop.git",
        ],
    );
    assert_eq!(read(options(&bare)).bytes, expected);
    let worktree = directory.path().join("tree");
    repo.git(&[
        "worktree",
        "add",
        "-q",
        "--detach",
        &worktree.display().to_string(),
        "main",
    ]);
    assert_eq!(read(options(&worktree)).bytes, expected);
}

#[test]
fn sha256_repositories_are_read() {
    let directory = tempfile::tempdir().unwrap();
    git(
        directory.path(),
        &["init", "-q", "--object-format=sha256", "-b", "main", "shop"],
    );
    let path = directory.path().join("shop");
    super::kit::write(&path.join("a"), "1\n");
    git(&path, &["add", "a"]);
    git(&path, &["commit", "-q", "-m", "one"]);
    let reading = read(options(&path));
    assert_eq!(reading.commit("one").revision.len(), 64);
    assert_eq!(Ledger::default().take(&reading).new, 1);
}

#[test]
fn times_at_the_edge_and_beyond_it() {
    let repo = Repo::of(
        "1 main @0 | epoch | a=1
         2 main @4294967296 1 | y2106 | a=2
         3 main @7258118399 2 | last | a=3
         4 main @7258118400 3 | too-late | a=4",
    );
    let reading = repo.read();
    check(
        &reading.show(&repo),
        "
        commit:<epoch> @-1700000000 [] a+1-0
        commit:<y2106> @2594967296 [<epoch>] a+1-1
        commit:<last> @5558118399 [<y2106>] a+1-1
        commit:<too-late> @unknown [<last>] a+1-1
        ",
    );
    let late = &reading.events()[3];
    assert_eq!(
        late.labels["times_out_of_range"],
        "author 7258118400, committer 7258118400"
    );
    assert_eq!(reading.summary.times_out_of_range, 1);
    assert_eq!(
        Ledger::default().take(&reading).new,
        4,
        "the ledger takes them all"
    );
}

#[test]
fn commits_that_git_itself_would_not_make() {
    let repo = Repo::of("1 main | one | a=1");
    let tree = repo.git(&["rev-parse", "main^{tree}"]);
    let parent = repo.git(&["rev-parse", "main"]);
    let objects = [
        format!(
            "tree {tree}\nparent {parent}\nauthor  <> -5 +0000\ncommitter A <a> x\n\nnegative\n"
        ),
        format!("tree {tree}\nparent {parent}\nauthor A\ncommitter B\n\n"),
    ];
    for object in objects {
        let file = repo.path.join(".git/object");
        super::kit::write(&file, &object);
        let id = repo.git(&[
            "hash-object",
            "-t",
            "commit",
            "--literally",
            "-w",
            &file.display().to_string(),
        ]);
        repo.git(&["update-ref", "refs/heads/main", &id]);
        let reading = repo.read();
        assert_eq!(Ledger::default().take(&reading).new, 2);
        assert_eq!(reading.summary.times_out_of_range, 1);
    }
}

#[test]
fn names_and_paths_of_other_bytes() {
    let repo = Repo::of("");
    let mut stream = Vec::new();
    for line in [
        &b"commit refs/heads/main"[..],
        b"author J\xf6rg <j\xf6rg@example.org> 1700000000 +0000",
        b"committer J\xf6rg <j@example.org> 1700000000 +0000",
        b"encoding ISO-8859-1",
        b"data 5",
        b"Gr\xfc\xdfe",
        b"M 100644 inline \"caf\\351/\\t\\\"x\\\"\"",
        b"data 2",
        b"1\n",
        b"M 100644 inline \xe6\x97\xa5\xe6\x9c\xac.txt",
        b"data 2",
        b"1\n",
    ] {
        stream.extend_from_slice(line);
        stream.push(b'\n');
    }
    repo.fast_import(&stream);
    let reading = read(Options {
        with_names: true,
        ..repo.options()
    });
    let commit = reading.commit("Grüße");
    assert_eq!(commit.author.unwrap().display_name, "Jörg");
    let paths: Vec<_> = commit
        .files
        .iter()
        .map(|file| (&file.path[..], &file.raw_path[..]))
        .collect();
    assert_eq!(
        paths,
        [
            ("caf%E9/\t\"x\"", &b"caf\xe9/\t\"x\""[..]),
            ("日本.txt", &b""[..])
        ]
    );
    assert_eq!(Ledger::default().take(&reading).new, 1);
}

#[test]
fn submodules_and_binaries_are_files() {
    let repo = Repo::of("");
    let mut stream =
        String::from("commit refs/heads/main\ncommitter A <a@b> 1700000000 +0000\ndata 3\none\n");
    writeln!(stream, "M 160000 {} vendor/lib", "1f".repeat(20)).unwrap();
    writeln!(stream, "M 100644 inline logo.png\ndata 4\n\0\0\0\0").unwrap();
    repo.fast_import(stream.as_bytes());
    check(
        &repo.show(),
        "commit:<one> @0 [] logo.pngbinary vendor/lib+1-0",
    );
}

#[test]
fn an_octopus_has_all_its_parents() {
    let repo = Repo::of(
        "1 main | one | a=1
         2 x 1 | x | x=1
         3 y 1 | y | y=1
         4 main 1 2 3 | Merge branches 'x' and 'y' | x=1 y=1",
    );
    let commit = repo.read().commit("Merge branches 'x' and 'y'");
    assert_eq!((commit.parents.len(), commit.files.len()), (3, 2));
}

#[test]
fn a_commit_of_20_000_files_is_told_in_parts() {
    let repo = Repo::of("");
    let mut stream =
        String::from("commit refs/heads/main\ncommitter A <a@b> 1700000000 +0000\ndata 3\nbig\n");
    for file in 0..20_000 {
        writeln!(
            stream,
            "M 100644 inline some/rather/long/path/to/a/file-{file:05}.txt\ndata 2\n1\n"
        )
        .unwrap();
    }
    repo.fast_import(stream.as_bytes());
    let reading = repo.read();
    let commit = reading.commit("big");
    assert_eq!(
        (
            commit.files_changed_count,
            commit.lines_added_count,
            commit.files_truncated
        ),
        (20_000, 20_000, true)
    );
    let last = reading.ids().pop().unwrap();
    assert!(
        last.starts_with("commit:") && !last.contains("files"),
        "the commit comes after its parts: {last}"
    );
    let mut paths: Vec<String> = commit.files.iter().map(|file| file.path.clone()).collect();
    for event in reading.events() {
        if let Some(waybill_proto::pb::event::Payload::Commit(payload)) = event.payload
            && let Some(waybill_proto::pb::commit_event::Event::FilesRecorded(part)) = payload.event
        {
            paths.extend(part.files.into_iter().map(|file| file.path));
        }
    }
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), 20_000);
    assert!(
        reading
            .bytes
            .iter()
            .all(|bytes| bytes.len() <= waybill_proto::limits::EVENT_BYTES_MAX)
    );
    let count = reading.bytes.len();
    assert_eq!(
        Ledger::default().take(&reading),
        Outcome {
            new: count,
            ..Outcome::default()
        }
    );
}

#[test]
fn fifty_thousand_commits_stream_by() {
    let repo = Repo::of("");
    let mut stream = String::new();
    for commit in 0..50_000 {
        writeln!(
            stream,
            "commit refs/heads/main\ncommitter A <a@b> {} +0000\ndata 2\nx\n",
            1_600_000_000 + commit
        )
        .unwrap();
        writeln!(
            stream,
            "M 100644 inline f{}\ndata 6\n{commit:05}\n",
            commit % 50
        )
        .unwrap();
    }
    repo.fast_import(stream.as_bytes());
    let repository = Repository::open(repo.options()).unwrap();
    let (mut events, mut told) = (0, Vec::new());
    let mut sink = |batch: Vec<bytes::Bytes>| -> Result<(), std::convert::Infallible> {
        assert!(batch.len() <= waybill_proto::limits::BATCH_EVENTS_MAX);
        events += batch.len();
        Ok(())
    };
    let summary = repository
        .read(&|_| false, &mut sink, &mut |progress| told.push(progress))
        .unwrap();
    assert_eq!(
        (events, summary.events, summary.commits_new),
        (50_000, 50_000, 50_000)
    );
    assert!(
        told.windows(2)
            .all(|pair| pair[0].commits <= pair[1].commits)
    );
    assert_eq!(
        told.last()
            .map(|progress| (progress.commits, progress.total)),
        Some((50_000, 50_000))
    );
}

/// Whoever takes the events stops while git still has megabytes to say: the reading ends at once and leaves no process.
#[test]
fn a_reading_that_is_stopped_waits_for_nobody() {
    let repo = Repo::of("");
    let mut stream = String::new();
    for commit in 0..3_000 {
        writeln!(
            stream,
            "commit refs/heads/main\ncommitter A <a@b> {} +0000\ndata 2\nx\n",
            1_600_000_000 + commit
        )
        .unwrap();
        for file in 0..20 {
            writeln!(
                stream,
                "M 100644 inline some/rather/long/path/f{file}\ndata 5\n{commit:04}\n"
            )
            .unwrap();
        }
    }
    repo.fast_import(stream.as_bytes());
    let repository = Repository::open(repo.options()).unwrap();
    let mut batches = 0;
    let mut sink = |_| {
        batches += 1;
        Err("enough")
    };
    let error = repository
        .read(&|_| false, &mut sink, &mut |_| {})
        .unwrap_err();
    assert!(matches!(error, ReadError::Sink("enough")), "{error}");
    assert_eq!(batches, 1);
    let path = repo.path.display().to_string();
    assert_eq!(processes(&path), Vec::<String>::new());
}

/// Command lines of processes that name `path`; none where there is no `/proc` to look at.
fn processes(path: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let commands =
        entries.filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok());
    commands
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(path))
        .collect()
}

/// Each object that git needs is taken away in turn: the reading says what git says, and tells nothing half.
#[test]
fn missing_objects_end_it_with_git_s_own_words() {
    let repo = Repo::of("1 main | one | a=1\n2 main 1 | two | a=2\n3 main 2 | three | a=3");
    repo.git(&["config", "fastimport.unpackLimit", "0"]);
    repo.git(&["config", "gc.auto", "0"]);
    let packs = repo.path.join(".git/objects/pack");
    let moved = repo.path.join("packs");
    if packs.exists() {
        std::fs::rename(&packs, &moved).unwrap();
        std::fs::create_dir(&packs).unwrap();
        for pack in std::fs::read_dir(&moved)
            .unwrap()
            .map(|entry| entry.unwrap().path())
        {
            if pack
                .extension()
                .is_some_and(|extension| extension == "pack")
            {
                let script = format!("git unpack-objects -q < '{}'", pack.display());
                let unpacked = std::process::Command::new("sh")
                    .arg("-c")
                    .arg(script)
                    .current_dir(&repo.path)
                    .status();
                assert!(unpacked.unwrap().success());
            }
        }
    }
    let whole = repo.read().ids();
    for name in ["main~1:a", "main~1^{tree}"] {
        let id = repo.git(&["rev-parse", name]);
        let object = repo.path.join(".git/objects").join(&id[..2]).join(&id[2..]);
        let away = repo.path.join("away");
        std::fs::rename(&object, &away).unwrap();
        let repository = Repository::open(repo.options()).unwrap();
        let mut ids = Vec::new();
        let mut sink = |batch: Vec<bytes::Bytes>| -> Result<(), std::convert::Infallible> {
            ids.extend(batch.iter().map(|bytes| {
                waybill_proto::parse::parse(bytes)
                    .unwrap()
                    .identity
                    .id
                    .to_string()
            }));
            Ok(())
        };
        let error = repository
            .read(&|_| false, &mut sink, &mut |_| {})
            .unwrap_err();
        let ReadError::Git(Error::Failed { said, .. }) = &error else {
            panic!("{error}")
        };
        assert!(said.contains(&id), "{said}");
        assert!(whole.starts_with(&ids), "{ids:?}");
        std::fs::rename(&away, &object).unwrap();
    }
    assert_eq!(repo.read().ids(), whole);
}
