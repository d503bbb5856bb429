//! What happens to code on its way: commits, changes, builds, releases. One function a family.
use std::collections::BTreeMap;

use prost_types::Timestamp;
use waybill_proto::pb::{self, event::Payload};

use crate::{
    args::{
        BuildArgs, ChangeArgs, ChangeStep, CommitArgs, MergeMethod, Outcome, ReleaseArgs,
        ReleaseStep, Step, Verdict,
    },
    context::Context,
    exit::Failure,
    git, when,
};

use super::Origin;

/// What happened, and what its id is made from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Happened {
    /// `<family>.<predicate>`.
    pub(super) kind: &'static str,
    /// What it happened to, for the id.
    pub(super) subject: String,
    pub(super) payload: Payload,
    /// A time that is known better than the clock of this machine.
    pub(super) occur_time: Option<(Timestamp, pb::OccurTimeBasis)>,
}

impl Happened {
    pub(super) fn new(kind: &'static str, subject: impl Into<String>, payload: Payload) -> Self {
        Self {
            kind,
            subject: subject.into(),
            payload,
            occur_time: None,
        }
    }
}

/// A commit, as git describes it where it is here.
pub(super) fn commit(args: &CommitArgs, origin: &Origin) -> Result<Happened, Failure> {
    let named = args
        .commit
        .as_deref()
        .map(|name| git::revision(name).unwrap_or_else(|| name.to_ascii_lowercase()));
    let revision = named.or_else(|| origin.revision.clone()).ok_or_else(|| {
        Failure::usage("which commit is not known: this is no git repository")
            .with_hint("waybill emit commit COMMIT --repository REPOSITORY")
    })?;
    let repository = repository(origin)?;
    let mut recorded = pb::CommitRecorded {
        repository,
        revision: revision.clone(),
        ..pb::CommitRecorded::default()
    };
    let mut occur_time = None;
    if let Some(text) = git::line(&[
        "show",
        "--no-patch",
        "--format=%at%n%ct%n%T%n%P%n%s",
        &revision,
    ]) {
        let mut lines = text.lines();
        let seconds = |line: Option<&str>| {
            line.and_then(|line| line.parse().ok())
                .map(|seconds| Timestamp { seconds, nanos: 0 })
        };
        recorded.author_time = seconds(lines.next());
        recorded.commit_time = seconds(lines.next());
        recorded.tree = lines.next().unwrap_or_default().to_owned();
        recorded.parents = lines
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        recorded.subject_line = lines.next().unwrap_or_default().to_owned();
        recorded.boundary = git::is_shallow()
            && recorded
                .parents
                .iter()
                .any(|parent| git::revision(parent).is_none());
        occur_time = recorded
            .commit_time
            .map(|time| (time, pb::OccurTimeBasis::AuthorClock));
    }
    let payload = Payload::Commit(pb::CommitEvent {
        event: Some(pb::commit_event::Event::Recorded(recorded)),
    });
    Ok(Happened {
        occur_time,
        ..Happened::new("commit.recorded", revision, payload)
    })
}

pub(super) fn change(args: &ChangeArgs, origin: &Origin) -> Result<Happened, Failure> {
    use pb::change_event::Event as E;
    let change = Some(pb::ChangeInfo {
        repository: repository(origin)?,
        number: args.number.trim_start_matches(['#', '!']).to_owned(),
        title: args.title.clone().unwrap_or_default(),
        uri: args.uri.clone().unwrap_or_default(),
        head_branch: args.head.clone().unwrap_or_default(),
        head_revision: if args.step == ChangeStep::Merged {
            String::new()
        } else {
            origin.revision.clone().unwrap_or_default()
        },
        base_branch: args.base.clone().unwrap_or_default(),
        commits: args
            .commit
            .iter()
            .map(|name| git::revision(name).unwrap_or_else(|| name.clone()))
            .collect(),
        ..pb::ChangeInfo::default()
    });
    let review_id = args.review.clone().unwrap_or_default();
    let (kind, event) = match args.step {
        ChangeStep::Created => ("change.created", E::Created(pb::ChangeCreated { change })),
        ChangeStep::Updated => (
            "change.updated",
            E::Updated(pb::ChangeUpdated {
                change,
                before_revision: String::new(),
            }),
        ),
        ChangeStep::Ready => ("change.ready", E::Ready(pb::ChangeReady { change })),
        ChangeStep::Drafted => ("change.drafted", E::Drafted(pb::ChangeDrafted { change })),
        ChangeStep::Reviewed => {
            let reviewed_revision = origin.revision.clone().unwrap_or_default();
            let verdict = verdict(args.verdict).into();
            (
                "change.reviewed",
                E::Reviewed(pb::ChangeReviewed {
                    change,
                    review_id,
                    verdict,
                    reviewed_revision,
                    code_owner: false,
                }),
            )
        }
        ChangeStep::ReviewDismissed => (
            "change.review_dismissed",
            E::ReviewDismissed(pb::ChangeReviewDismissed { change, review_id }),
        ),
        ChangeStep::Queued => ("change.queued", E::Queued(pb::ChangeQueued { change })),
        ChangeStep::Dequeued => (
            "change.dequeued",
            E::Dequeued(pb::ChangeDequeued {
                change,
                reason: String::new(),
            }),
        ),
        ChangeStep::Merged => ("change.merged", E::Merged(merged(args, origin, change))),
        ChangeStep::Abandoned => (
            "change.abandoned",
            E::Abandoned(pb::ChangeAbandoned { change }),
        ),
        ChangeStep::Reopened => (
            "change.reopened",
            E::Reopened(pb::ChangeReopened { change }),
        ),
    };
    let subject = format!(
        "{}{}",
        args.number,
        args.review
            .as_deref()
            .map(|id| format!("/{id}"))
            .unwrap_or_default()
    );
    Ok(Happened::new(
        kind,
        subject,
        Payload::Change(pb::ChangeEvent { event: Some(event) }),
    ))
}

fn merged(args: &ChangeArgs, origin: &Origin, change: Option<pb::ChangeInfo>) -> pb::ChangeMerged {
    let merge_revision = args
        .merge_revision
        .as_deref()
        .map(|name| git::revision(name).unwrap_or_else(|| name.to_owned()));
    let merge_method = match args.merge_method {
        Some(MergeMethod::Merge) => pb::MergeMethod::Merge,
        Some(MergeMethod::Squash) => pb::MergeMethod::Squash,
        Some(MergeMethod::Rebase) => pb::MergeMethod::Rebase,
        Some(MergeMethod::FastForward) => pb::MergeMethod::FastForward,
        None => pb::MergeMethod::Unknown,
    };
    // In the pipeline that a merge sets off, the revision at hand is the merge.
    let merge_revision = merge_revision
        .or_else(|| origin.revision.clone())
        .unwrap_or_default();
    pb::ChangeMerged {
        change,
        merge_revision,
        merge_method: merge_method.into(),
    }
}

fn verdict(verdict: Option<Verdict>) -> pb::ReviewVerdict {
    match verdict {
        Some(Verdict::Approved) => pb::ReviewVerdict::Approved,
        Some(Verdict::ChangesRequested) => pb::ReviewVerdict::ChangesRequested,
        Some(Verdict::Commented) => pb::ReviewVerdict::Commented,
        None => pb::ReviewVerdict::Unspecified,
    }
}

pub(super) fn build(args: &BuildArgs, origin: &Origin) -> Result<Happened, Failure> {
    use pb::build_event::Event as E;
    let build_id = origin.work_id(&args.stamp, args.build.as_deref(), "")?;
    let subject = args.build.clone().unwrap_or_default();
    let run = origin.run.clone();
    let source_revisions: Vec<_> = origin.head().into_iter().collect();
    let (kind, event) = match args.step {
        Step::Requested => (
            "build.queued",
            E::Queued(pb::BuildQueued {
                build_id,
                run,
                source_revisions,
            }),
        ),
        Step::Started => (
            "build.started",
            E::Started(pb::BuildStarted {
                build_id,
                run,
                source_revisions,
            }),
        ),
        Step::Finished => {
            let finished = pb::BuildFinished {
                build_id,
                run,
                source_revisions,
                outcome: outcome(args.outcome).into(),
                artifacts: args.artifact.iter().map(|text| artifact(text)).collect(),
                span: span(args.elapsed.as_deref())?,
            };
            ("build.finished", E::Finished(finished))
        }
    };
    Ok(Happened::new(
        kind,
        subject,
        Payload::Build(pb::BuildEvent { event: Some(event) }),
    ))
}

pub(super) fn release(
    args: &ReleaseArgs,
    origin: &Origin,
    context: &Context,
) -> Result<Happened, Failure> {
    use pb::release_event::Event as E;
    let service = service(context, args.service.as_deref())?;
    let subject = format!("{service}@{}", args.version);
    let release = Some(pb::ReleaseInfo {
        service,
        version: args.version.clone(),
        revisions: origin.head().into_iter().collect(),
        changes: args
            .change
            .iter()
            .map(|number| number.trim_start_matches(['#', '!']).to_owned())
            .collect(),
        previous_version: args.previous.clone().unwrap_or_default(),
        uri: args.uri.clone().unwrap_or_default(),
        prerelease: args.prerelease,
        ..pb::ReleaseInfo::default()
    });
    let (kind, event) = match args.step {
        ReleaseStep::Created => (
            "release.created",
            E::Created(pb::ReleaseCreated { release }),
        ),
        ReleaseStep::Published => (
            "release.published",
            E::Published(pb::ReleasePublished { release }),
        ),
        ReleaseStep::Withdrawn => (
            "release.withdrawn",
            E::Withdrawn(pb::ReleaseWithdrawn {
                release,
                reason: args.because.clone(),
            }),
        ),
        ReleaseStep::Tagged => {
            let annotated = git::line(&["cat-file", "-t", &format!("refs/tags/{}", args.version)])
                .as_deref()
                == Some("tag");
            (
                "release.tagged",
                E::Tagged(pb::ReleaseTagged {
                    release,
                    tag: args.version.clone(),
                    annotated,
                }),
            )
        }
    };
    Ok(Happened::new(
        kind,
        subject,
        Payload::Release(pb::ReleaseEvent { event: Some(event) }),
    ))
}

/// The service of a flag or a setting.
pub(super) fn service(context: &Context, flag: Option<&str>) -> Result<String, Failure> {
    context.setting(flag, "service").ok_or_else(|| {
        Failure::usage("the service is not named")
            .with_hint("name it, or set `service` in .waybill.toml or WAYBILL_SERVICE")
    })
}

/// The environment of a flag or a setting.
pub(super) fn environment(context: &Context, flag: Option<&str>) -> Result<String, Failure> {
    context.setting(flag, "environment").ok_or_else(|| {
        Failure::usage("the environment is not named")
            .with_hint("--env prod, or set `environment` in .waybill.toml or WAYBILL_ENVIRONMENT")
    })
}

fn repository(origin: &Origin) -> Result<String, Failure> {
    origin.repository.clone().ok_or_else(|| {
        Failure::usage("the repository is not known: neither CI nor a git remote names it")
            .with_hint("--repository github.com/acme/shop")
    })
}

/// `NAME`, `NAME@sha256:…` or `sha256:…`.
pub(super) fn artifact(text: &str) -> pb::ArtifactRef {
    match text.rsplit_once('@') {
        Some((id, digest)) if digest.starts_with("sha256:") => pb::ArtifactRef {
            id: id.to_owned(),
            digest: digest.to_owned(),
        },
        _ if text.starts_with("sha256:") => pb::ArtifactRef {
            id: String::new(),
            digest: text.to_owned(),
        },
        _ => pb::ArtifactRef {
            id: text.to_owned(),
            digest: String::new(),
        },
    }
}

pub(super) fn outcome(outcome: Outcome) -> pb::Outcome {
    match outcome {
        Outcome::Success => pb::Outcome::Success,
        Outcome::Failure => pb::Outcome::Failure,
        Outcome::Error => pb::Outcome::Error,
        Outcome::Timeout => pb::Outcome::Timeout,
        Outcome::Cancelled => pb::Outcome::Cancelled,
        Outcome::Skipped => pb::Outcome::Skipped,
        Outcome::Aborted => pb::Outcome::Aborted,
    }
}

pub(super) fn span(elapsed: Option<&str>) -> Result<Option<pb::Span>, Failure> {
    let elapsed = elapsed
        .map(|text| when::length(text, "--elapsed"))
        .transpose()?;
    Ok(elapsed.map(|length| pb::Span {
        elapsed: Some(when::proto_duration(length)),
        queued: None,
    }))
}

/// `KEY=VALUE`, each key once.
pub(super) fn labels(texts: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let mut labels = BTreeMap::new();
    for text in texts {
        let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
        let (key, value) =
            pair.ok_or_else(|| Failure::usage(format!("--label is `{text}`, not KEY=VALUE")))?;
        if labels.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(Failure::usage(format!("--label `{key}` is given twice")));
        }
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifacts_have_a_name_or_a_digest_or_both() {
        let parts = |text| (artifact(text).id, artifact(text).digest);
        assert_eq!(parts("shop"), ("shop".to_owned(), String::new()));
        assert_eq!(
            parts("r.io/shop@sha256:ab"),
            ("r.io/shop".to_owned(), "sha256:ab".to_owned())
        );
        assert_eq!(parts("sha256:ab"), (String::new(), "sha256:ab".to_owned()));
        assert_eq!(
            parts("pkg:npm/@acme/shop"),
            ("pkg:npm/@acme/shop".to_owned(), String::new())
        );
    }

    #[test]
    fn labels_are_pairs() {
        let read = |texts: &[&str]| {
            labels(
                &texts
                    .iter()
                    .map(|text| (*text).to_owned())
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(read(&["team=payments", "x=a=b"]).unwrap()["x"], "a=b");
        for texts in [&["team"][..], &["=x"], &["a=1", "a=2"]] {
            assert!(read(texts).is_err(), "{texts:?}");
        }
    }
}
