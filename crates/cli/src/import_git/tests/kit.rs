//! Repositories from short scripts, readings as lines of text, and a model of what a ledger does with events.
use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use bytes::Bytes;
use prost::Message as _;
use tempfile::TempDir;
use waybill_core::event::Basis;
use waybill_proto::{canonical, parse, pb};

use crate::import_git::{Options, Repository, Summary};

/// A repository in a directory of its own.
pub(super) struct Repo {
    _root: TempDir,
    pub(super) path: PathBuf,
}

/// What one reading gave.
pub(super) struct Reading {
    pub(super) summary: Summary,
    pub(super) bytes: Vec<Bytes>,
}

impl Repo {
    /// An empty repository called `shop`, on branch `main`.
    pub(super) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("shop");
        git(root.path(), &["init", "-q", "-b", "main", "shop"]);
        Self { _root: root, path }
    }

    /// A repository made by a script, see [`stream`]; its name is `example.org/acme/shop`.
    pub(super) fn of(script: &str) -> Self {
        let repo = Self::new();
        repo.git(&[
            "remote",
            "add",
            "origin",
            "https://example.org/acme/shop.git",
        ]);
        repo.grow(script);
        repo
    }

    /// Goes on with a script.
    pub(super) fn grow(&self, script: &str) {
        self.fast_import(&stream(script));
    }

    /// Feeds `git fast-import`.
    pub(super) fn fast_import(&self, stream: &[u8]) {
        let arguments = [
            "fast-import",
            "--quiet",
            "--date-format=raw-permissive",
            "--force",
        ];
        let marks = self.path.join(".git/marks");
        let marks = [
            format!("--import-marks-if-exists={}", marks.display()),
            format!("--export-marks={}", marks.display()),
        ];
        let mut child = command(&self.path)
            .args(arguments)
            .args(marks)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(stream).unwrap();
        assert!(child.wait().unwrap().success());
    }

    pub(super) fn git(&self, arguments: &[&str]) -> String {
        git(&self.path, arguments)
    }

    pub(super) fn options(&self) -> Options {
        options(&self.path)
    }

    pub(super) fn read(&self) -> Reading {
        read(self.options())
    }

    /// The reading as text, with subjects instead of ids.
    pub(super) fn show(&self) -> String {
        self.read().show(self)
    }

    /// Ids of all commits and their subjects.
    fn subjects(&self) -> Vec<(String, String)> {
        let log = self.git(&["log", "--all", "--format=%H %s"]);
        log.lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(id, s)| (id.to_owned(), s.to_owned()))
            .collect()
    }
}

impl Reading {
    pub(super) fn events(&self) -> Vec<pb::Event> {
        self.bytes
            .iter()
            .map(|bytes| pb::Event::decode(bytes.clone()).unwrap())
            .collect()
    }

    pub(super) fn ids(&self) -> Vec<String> {
        self.events().into_iter().map(|event| event.id).collect()
    }

    pub(super) fn show(&self, repo: &Repo) -> String {
        let mut text: String = self
            .events()
            .iter()
            .map(|event| line(event) + "\n")
            .collect();
        for (id, subject) in repo.subjects() {
            text = text
                .replace(&id, &format!("<{subject}>"))
                .replace(&id[..12], &format!("<{subject}>"));
        }
        text
    }

    /// The recorded commit whose subject this is.
    pub(super) fn commit(&self, subject: &str) -> pb::CommitRecorded {
        let commit = |event: pb::Event| match event.payload {
            Some(pb::event::Payload::Commit(pb::CommitEvent {
                event: Some(pb::commit_event::Event::Recorded(c)),
            })) => Some(c),
            _ => None,
        };
        self.events()
            .into_iter()
            .filter_map(commit)
            .find(|c| c.subject_line == subject)
            .expect(subject)
    }
}

/// The least a ledger does: identities, digests, and who wins.
#[derive(Default)]
pub(super) struct Ledger {
    events: BTreeMap<(String, String), ([u8; 32], Bytes)>,
}

/// What became of a reading.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) new: usize,
    pub(super) duplicates: usize,
    pub(super) conflicts: Vec<String>,
}

impl Ledger {
    pub(super) fn take(&mut self, reading: &Reading) -> Outcome {
        let mut outcome = Outcome::default();
        for bytes in &reading.bytes {
            let event = parse::parse(bytes).unwrap();
            let digest = canonical::content_digest(bytes, canonical::VERSION).unwrap();
            let identity = (
                event.identity.source.to_string(),
                event.identity.id.to_string(),
            );
            match self.events.get(&identity) {
                None => outcome.new += 1,
                Some((known, _)) if *known == digest => outcome.duplicates += 1,
                Some(_) => outcome.conflicts.push(identity.1.clone()),
            }
            self.events
                .entry(identity)
                .or_insert((digest, bytes.clone()));
        }
        outcome
    }

    pub(super) fn knows(&self, id: &str) -> bool {
        self.events.keys().any(|(_, known)| known == id)
    }

    /// The events that stand and win their natural key (LEDGER E6, E7), in the order of their ids.
    pub(super) fn winners(&self) -> Reading {
        let parsed: Vec<_> = self
            .events
            .values()
            .map(|(_, bytes)| (parse::parse(bytes).unwrap(), bytes))
            .collect();
        let retracted: Vec<_> = parsed
            .iter()
            .filter_map(|(event, _)| match &event.record_kind {
                waybill_core::event::RecordKind::Retraction(target) => Some(target.clone()),
                _ => None,
            })
            .collect();
        let mut groups: HashMap<[u8; 32], ((Basis, String), &Bytes)> = HashMap::new();
        for (event, bytes) in &parsed {
            let states = event.record_kind == waybill_core::event::RecordKind::Assertion;
            if !states || retracted.contains(&event.identity) {
                continue;
            }
            let rank = (
                event.basis,
                format!("{} {}", event.identity.source, event.identity.id),
            );
            let entry = groups
                .entry(event.natural_key)
                .or_insert_with(|| (rank.clone(), bytes));
            if rank > entry.0 {
                *entry = (rank, bytes);
            }
        }
        let mut winners: Vec<_> = groups.into_values().collect();
        winners.sort_by(|a, b| a.0.1.cmp(&b.0.1));
        let bytes = winners
            .into_iter()
            .map(|(_, bytes)| bytes.clone())
            .collect();
        Reading {
            summary: Summary::default(),
            bytes,
        }
    }
}

pub(super) fn options(path: &Path) -> Options {
    Options {
        repository: path.to_owned(),
        name: None,
        service: None,
        tags_as_deployments: true,
        environment: "production".to_owned(),
        tag_pattern: None,
        with_names: false,
        actor_key: [7; 32],
        all_refs: false,
    }
}

pub(super) fn read(options: Options) -> Reading {
    read_unless(options, &|_| false)
}

pub(super) fn read_unless(options: Options, known: &dyn Fn(&str) -> bool) -> Reading {
    let mut bytes = Vec::new();
    let mut sink = |batch: Vec<Bytes>| -> Result<(), Infallible> {
        bytes.extend(batch);
        Ok(())
    };
    let repository = Repository::open(options).unwrap();
    let summary = repository.read(known, &mut sink, &mut |_| {}).unwrap();
    Reading { summary, bytes }
}

pub(super) fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = command(directory)
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}");
    String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned()
}

/// Git as nobody has configured it.
fn command(directory: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(directory)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_AUTHOR_DATE", "1700000000 +0000")
        .env("GIT_COMMITTER_DATE", "1700000000 +0000")
        .args([
            "-c",
            "user.name=Ann",
            "-c",
            "user.email=ann@example.org",
            "-c",
            "protocol.file.allow=always",
        ]);
    command
}

/// Turns a script into a stream for fast-import. One line a commit,
/// `mark branch [time] [<parent> …] | message | path=content …`, where `\n` in a message or a content is a line's end and a
/// content of `-` deletes; or a tag, `tag name mark` and `tag name mark time` for one with an object of its own.
pub(super) fn stream(script: &str) -> Vec<u8> {
    let mut out = String::new();
    let mut time = 1_700_000_000_i64;
    for line in script
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        time += 60;
        match line.strip_prefix("tag ") {
            Some(tag) => write_tag(&mut out, tag),
            None => write_commit(&mut out, line, &mut time),
        }
    }
    out.into_bytes()
}

fn write_tag(out: &mut String, tag: &str) {
    let words: Vec<&str> = tag.split(' ').collect();
    match words[..] {
        [name, mark] => writeln!(out, "reset refs/tags/{name}\nfrom :{mark}\n").unwrap(),
        [name, mark, time] => {
            writeln!(
                out,
                "tag {name}\nfrom :{mark}\ntagger Ann <ann@example.org> {time} +0000\ndata 0\n"
            )
            .unwrap();
        }
        _ => panic!("{tag}"),
    }
}

fn write_commit(out: &mut String, line: &str, time: &mut i64) {
    let mut parts = line.split('|').map(str::trim);
    let head: Vec<&str> = parts.next().unwrap().split(' ').collect();
    let message = parts.next().unwrap().replace("\\n", "\n") + "\n";
    let (mark, branch) = (head[0], head[1]);
    let mut parents: Vec<&str> = head[2..].to_vec();
    if let Some(told) = parents.first().and_then(|word| word.strip_prefix('@')) {
        *time = told.parse().unwrap();
        parents.remove(0);
    }
    writeln!(out, "commit refs/heads/{branch}\nmark :{mark}").unwrap();
    for who in ["author", "committer"] {
        writeln!(out, "{who} Ann <ann@example.org> {time} +0000").unwrap();
    }
    writeln!(out, "data {}\n{message}", message.len()).unwrap();
    for (at, parent) in parents.iter().enumerate() {
        writeln!(out, "{} :{parent}", if at == 0 { "from" } else { "merge" }).unwrap();
    }
    for file in parts.next().unwrap_or_default().split_whitespace() {
        let (path, content) = file.split_once('=').unwrap();
        let content = content.replace("\\n", "\n");
        match &content[..] {
            "-" => writeln!(out, "D {path}").unwrap(),
            _ => writeln!(
                out,
                "M 100644 inline {path}\ndata {}\n{content}",
                content.len()
            )
            .unwrap(),
        }
    }
    out.push('\n');
}

/// One event as a line: its id, and what of its payload tells it from others.
fn line(event: &pb::Event) -> String {
    use pb::{change_event, commit_event, deployment_event, event::Payload, release_event};
    let what = match &event.payload {
        Some(Payload::Commit(pb::CommitEvent {
            event: Some(commit_event::Event::Recorded(c)),
        })) => commit(c),
        Some(Payload::Commit(pb::CommitEvent {
            event: Some(commit_event::Event::FilesRecorded(c)),
        })) => {
            format!("{} more files", c.files.len())
        }
        Some(Payload::Change(pb::ChangeEvent {
            event: Some(change_event::Event::Merged(c)),
        })) => change(c),
        Some(Payload::Release(pb::ReleaseEvent {
            event: Some(release_event::Event::Tagged(r)),
        })) => {
            let release = r.release.clone().unwrap_or_default();
            format!(
                "{} {} after `{}`",
                release.service, release.version, release.previous_version
            )
        }
        Some(Payload::Deployment(pb::DeploymentEvent {
            event: Some(deployment_event::Event::Finished(d)),
        })) => deployment(d.deployment.as_ref().unwrap()),
        Some(Payload::Ledger(_)) => "gap".to_owned(),
        Some(other) => format!("{other:?}"),
        None => format!("retracts {}", event.amends.clone().unwrap_or_default().id),
    };
    let time = event.occur_time.map_or("unknown".to_owned(), |time| {
        (time.seconds - 1_700_000_000).to_string()
    });
    format!("{} @{time} {what}", event.id)
}

fn commit(commit: &pb::CommitRecorded) -> String {
    let files: Vec<String> = commit
        .files
        .iter()
        .map(|file| {
            let from = if file.previous_path.is_empty() {
                String::new()
            } else {
                format!("{}=>", file.previous_path)
            };
            let counts = if file.binary {
                "binary".to_owned()
            } else {
                format!("+{}-{}", file.added, file.removed)
            };
            format!("{from}{}{counts}", file.path)
        })
        .collect();
    format!("[{}] {}", commit.parents.join(" "), files.join(" "))
        .trim_end()
        .to_owned()
}

fn change(merged: &pb::ChangeMerged) -> String {
    let change = merged.change.clone().unwrap_or_default();
    let more = if change.commits_truncated { " …" } else { "" };
    format!(
        "{:?} `{}` of [{}]{more}",
        merged.merge_method(),
        change.title,
        change.commits.join(" ")
    )
}

fn deployment(deployment: &pb::DeploymentInfo) -> String {
    let ids = |revisions: &[pb::Revision]| {
        revisions
            .iter()
            .map(|r| r.revision.clone())
            .collect::<Vec<_>>()
            .join(" ")
    };
    let unknown = if deployment.range_unknown {
        " range unknown"
    } else {
        ""
    };
    format!(
        "{} {} {} runs {} after [{}]{unknown}",
        deployment.deployment_id,
        deployment.service,
        deployment.environment,
        ids(&deployment.revisions),
        ids(&deployment.previous_revisions)
    )
}

/// Compares texts line by line, so that a difference is readable.
pub(super) fn check(found: &str, expected: &str) {
    let tidy = |text: &str| {
        text.trim()
            .lines()
            .map(|line| line.trim().to_owned())
            .collect::<Vec<_>>()
            .join("\n")
    };
    let (found, expected) = (tidy(found), tidy(expected));
    assert!(
        found == expected,
        "found:\n{found}\n\nexpected:\n{expected}"
    );
}

/// Writes a file into a directory that exists.
pub(super) fn write(path: &Path, content: &str) {
    fs::write(path, content).unwrap();
}
