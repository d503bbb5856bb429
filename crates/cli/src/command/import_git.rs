//! `import git`: the history of a repository, recorded while it is read.
use std::{
    collections::HashSet,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    time::Instant,
};

use bytes::Bytes;
use tokio::sync::mpsc;
use waybill_proto::pb::{EventFilter, ListEventsRequest};

use crate::{
    args::ImportGitArgs,
    context::{Context, Missing},
    exit::{Exit, Failure, chain},
    import_git::{Error, Options, ReadError, Repository, Summary},
    output::{self, clean},
    progress::Progress,
    source::Source,
    words,
};

use super::{
    identity,
    record::{Recorder, Tally},
    status,
};

/// Batches that may wait for the ledger while git is read on.
const BATCHES_AHEAD: usize = 4;
/// Events asked for at once when what is recorded already is looked up.
const PAGE: i32 = 1_000;
/// Refusals that are told one by one.
const TOLD_MAX: u64 = 20;
const KEY_BYTES: usize = 32;
const SIGINT: i32 = 2;

/// Reads a repository and records what is new in it.
pub(crate) async fn run(context: &Context, args: ImportGitArgs) -> Result<(), Failure> {
    let source = context.source(Missing::Create).await?;
    let options = Options {
        repository: args.path,
        name: None,
        service: context.setting(args.service.as_deref(), "service"),
        tags_as_deployments: args.tags_as_deployments,
        environment: args.environment,
        tag_pattern: context.setting(args.tag_pattern.as_deref(), "tag_pattern"),
        with_names: args.with_names,
        actor_key: actor_key(context, &source).await?,
        all_refs: args.all_branches,
    };
    let started = Instant::now();
    let repository = open(options).await?;
    let imported = if args.dry_run {
        dry_run(repository).await?
    } else {
        import(&source, repository, context.global.quiet).await?
    };
    source.close().await?;
    show(context, &imported, started)
}

/// What was read and what became of it.
#[derive(Debug)]
pub(crate) struct Imported {
    pub(super) repository: String,
    pub(super) summary: Summary,
    pub(super) tally: Tally,
}

/// Opens a repository on a thread that may wait for git.
pub(crate) async fn open(options: Options) -> Result<Repository, Failure> {
    let opened = tokio::task::spawn_blocking(move || Repository::open(options)).await;
    opened
        .map_err(|error| Failure::unexpected(error.to_string()))?
        .map_err(|error| failure(&error))
}

/// Reads a repository and records it, both at once.
pub(crate) async fn import(
    source: &Source,
    repository: Repository,
    quiet: bool,
) -> Result<Imported, Failure> {
    let name = repository.entity().path().to_owned();
    let known = recorded(source, repository.source()).await?;
    let (sender, mut batches) = mpsc::channel(BATCHES_AHEAD);
    let reading = tokio::task::spawn_blocking(move || {
        let mut progress = Progress::new(quiet);
        let mut sink = |batch: Vec<Bytes>| sender.blocking_send(batch);
        repository.read(&|id| known.contains(id), &mut sink, &mut |step| {
            progress.set("reading git history", step.commits, Some(step.total));
        })
    });
    let mut told = 0;
    let mut refused = |_: u64, refusal: &waybill_proto::pb::Refusal| {
        told += 1;
        if told <= TOLD_MAX {
            output::insist(identity::rejection(refusal).to_string());
        }
    };
    let mut recorder = Recorder::new(source);
    while let Some(batch) = batches.recv().await {
        for event in batch {
            recorder.push(0, event, &mut refused).await?;
        }
    }
    let tally = recorder.flush(&mut refused).await?;
    let summary = ended(reading.await)?;
    Ok(Imported {
        repository: name,
        summary,
        tally,
    })
}

async fn dry_run(repository: Repository) -> Result<Imported, Failure> {
    let name = repository.entity().path().to_owned();
    let reading = tokio::task::spawn_blocking(move || {
        let mut sink = |_: Vec<Bytes>| Ok::<(), mpsc::error::SendError<Vec<Bytes>>>(());
        repository.read(&|_| false, &mut sink, &mut |_| {})
    });
    Ok(Imported {
        repository: name,
        summary: ended(reading.await)?,
        tally: Tally::default(),
    })
}

type Read = Result<Summary, ReadError<mpsc::error::SendError<Vec<Bytes>>>>;

fn ended(read: Result<Read, tokio::task::JoinError>) -> Result<Summary, Failure> {
    match read.map_err(|error| Failure::unexpected(error.to_string()))? {
        Ok(summary) => Ok(summary),
        Err(ReadError::Git(error)) => Err(failure(&error)),
        Err(ReadError::Sink(error)) => Err(Failure::unexpected(error.to_string())),
    }
}

fn failure(error: &Error) -> Failure {
    let exit = match error {
        // Ctrl-C, which a terminal sends to git as well as to us.
        Error::Failed { status, .. } if status.signal() == Some(SIGINT) => {
            return Failure::said(Exit::Interrupted);
        }
        Error::GitMissing(_)
        | Error::Failed { .. }
        | Error::Unexpected { .. }
        | Error::Pipe { .. } => Exit::Unexpected,
        Error::NotARepository { .. } | Error::Unnamed { .. } | Error::Name(_) => Exit::Usage,
    };
    Failure::new(exit, chain(error))
}

/// Ids that the ledger holds already from this repository, so that only what is new is sent.
async fn recorded(source: &Source, emitter: &str) -> Result<HashSet<String>, Failure> {
    let mut ids = HashSet::new();
    let filter = EventFilter {
        source: emitter.to_owned(),
        ..EventFilter::default()
    };
    let mut page_token = String::new();
    loop {
        let request = ListEventsRequest {
            page_size: PAGE,
            page_token,
            filter: Some(filter.clone()),
            ..ListEventsRequest::default()
        };
        let answer = source
            .answer(source.ledger().list_events(source.request(request)))
            .await?;
        ids.extend(
            answer
                .events
                .into_iter()
                .filter_map(|recorded| recorded.event)
                .map(|event| event.id),
        );
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            return Ok(ids);
        }
    }
}

/// The key that turns persons into hashes: of the ledger that this process has open, or of the instance that answers,
/// whose keys are on this machine.
async fn actor_key(context: &Context, source: &Source) -> Result<[u8; KEY_BYTES], Failure> {
    if let Some(key) = source.actor_key() {
        return Ok(key);
    }
    let instance = status::ask(source).await?.instance_id;
    // The name comes from a server and becomes part of a path.
    if !instance
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '-')
        || instance.is_empty()
    {
        return Err(Failure::unexpected(format!(
            "the server's instance id is `{}`, not a plain name",
            clean(&instance)
        )));
    }
    read_key(&context.state_directory()?.join(&instance).join("actor.key"))
}

fn read_key(path: &Path) -> Result<[u8; KEY_BYTES], Failure> {
    let missing = |why: &str| {
        Failure::new(Exit::Auth, format!("the key that turns persons into hashes is not here: {}: {why}", path.display()))
            .with_hint("run this where the server keeps its keys, and name the place with --state DIR; or import with --ledger DIR while no server runs")
    };
    let bytes = std::fs::read(path).map_err(|error| missing(&error.to_string()))?;
    bytes.try_into().map_err(|_| missing("it is not 32 bytes"))
}

fn show(context: &Context, imported: &Imported, started: Instant) -> Result<(), Failure> {
    let Imported { summary, tally, .. } = imported;
    for note in &summary.notes {
        output::say(format!("note: {}", clean(note)));
    }
    if context.out.json {
        context.out.line(as_json(imported).to_string())?;
    } else {
        context.out.line(sentence(imported, started))?;
        context.out.line(tally.say())?;
    }
    match tally.refused {
        0 => Ok(()),
        refused => Err(Failure::new(
            Exit::Rejected,
            format!(
                "{} refused",
                words::plural(refused, "event was", "events were")
            ),
        )
        .with_hint("waybill log --refused names them")),
    }
}

/// `read github.com/acme/shop: 2,231 commits, 86 releases, 5 reverts   3.4 s`
pub(super) fn sentence(imported: &Imported, started: Instant) -> String {
    let Imported {
        repository,
        summary,
        ..
    } = imported;
    let mut parts = vec![words::plural(summary.commits, "commit", "commits")];
    for (count, one, many) in [
        (summary.changes, "change", "changes"),
        (summary.releases, "release from tags", "releases from tags"),
        (
            summary.deployments,
            "deployment inferred from tags",
            "deployments inferred from tags",
        ),
        (summary.reverts, "revert", "reverts"),
        (
            summary.boundaries,
            "commit below which this clone has nothing",
            "commits below which this clone has nothing",
        ),
    ] {
        if count > 0 {
            parts.push(words::plural(count, one, many));
        }
    }
    format!(
        "read {}: {}   {:.1} s",
        clean(repository),
        parts.join(", "),
        started.elapsed().as_secs_f64()
    )
}

fn as_json(imported: &Imported) -> serde_json::Value {
    let Imported {
        repository,
        summary,
        tally,
    } = imported;
    serde_json::json!({
        "repository": repository,
        "commits": summary.commits, "commitsNew": summary.commits_new, "changes": summary.changes,
        "releases": summary.releases, "deployments": summary.deployments, "reverts": summary.reverts,
        "boundaries": summary.boundaries, "timesOutOfRange": summary.times_out_of_range,
        "notes": summary.notes,
        "recorded": tally.recorded, "duplicates": tally.duplicates, "refused": tally.refused,
    })
}

/// Where a repository is, for a name that tells it from others.
pub(super) fn whole(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_was_found_and_leaves_out_what_was_not() {
        let summary = Summary {
            commits: 2_231,
            releases: 86,
            reverts: 1,
            ..Summary::default()
        };
        let imported = Imported {
            repository: "github.com/acme/shop".to_owned(),
            summary,
            tally: Tally::default(),
        };
        let text = sentence(&imported, Instant::now());
        assert!(
            text.starts_with(
                "read github.com/acme/shop: 2,231 commits, 86 releases from tags, 1 revert "
            ),
            "{text}"
        );
    }

    #[test]
    fn a_key_that_is_not_here_says_where_it_should_be() {
        let directory = tempfile::tempdir().unwrap();
        let failure = read_key(&directory.path().join("actor.key")).unwrap_err();
        assert_eq!(failure.exit(), Exit::Auth);
        assert!(failure.hint().contains("--state"), "{}", failure.hint());
        std::fs::write(directory.path().join("actor.key"), [7; 32]).unwrap();
        assert_eq!(
            read_key(&directory.path().join("actor.key")).unwrap(),
            [7; 32]
        );
    }
}
