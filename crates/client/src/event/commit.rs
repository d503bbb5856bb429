//! Commits.
use std::time::SystemTime;

use waybill_proto::pb::{self, commit_event, event::Payload};

use super::Draft;

/// One commit of one repository.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use waybill_client::Commit;
///
/// let when = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
/// let revision = "4f1c2d3e4f1c2d3e4f1c2d3e4f1c2d3e4f1c2d3e";
/// let draft = Commit::new("github.com/acme/shop", revision)
///     .subject_line("checkout: one query less")
///     .file("src/checkout.rs", 12, 40)
///     .recorded(when);
/// ```
#[derive(Clone, Debug)]
pub struct Commit {
    all: pb::CommitRecorded,
}

impl Commit {
    /// Names the commit by its repository and its full id.
    #[must_use]
    pub fn new(repository: impl Into<String>, revision: impl Into<String>) -> Self {
        let (repository, revision) = (repository.into(), revision.into());
        Self {
            all: pb::CommitRecorded {
                repository,
                revision,
                ..Default::default()
            },
        }
    }

    texts! { all:
        /// Id of its tree.
        tree,
        /// `git patch-id --stable`.
        patch_id,
        /// The first line of its message.
        subject_line,
    }

    /// Its parents, in git's order.
    #[must_use]
    pub fn parents(mut self, revisions: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.all.parents = revisions.into_iter().map(Into::into).collect();
        self
    }

    /// Who wrote it and when: see [`crate::actor`].
    #[must_use]
    pub fn author(mut self, author: pb::Actor, time: SystemTime) -> Self {
        self.all.author = Some(author);
        self.all.author_time = Some(time.into());
        self
    }

    /// Who committed it.
    #[must_use]
    pub fn committer(mut self, committer: pb::Actor) -> Self {
        self.all.committer = Some(committer);
        self
    }

    /// Adds a file that it touched.
    #[must_use]
    pub fn file(mut self, path: impl Into<String>, added: u32, removed: u32) -> Self {
        self.all.files.push(pb::CommitFile {
            path: path.into(),
            added,
            removed,
            ..Default::default()
        });
        self.all.files_changed_count += 1;
        self.all.lines_added_count += u64::from(added);
        self.all.lines_removed_count += u64::from(removed);
        self
    }

    /// Adds a `Key: value` line of its message. A person's name is not to be sent: see [`crate::actor`].
    #[must_use]
    pub fn trailer(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.all.trailers.push(pb::Trailer {
            key: key.into(),
            value: value.into(),
        });
        self
    }

    /// Adds a revision that it says it reverts.
    #[must_use]
    pub fn reverts(mut self, revision: impl Into<String>) -> Self {
        self.all.reverts.push(revision.into());
        self
    }

    /// Adds a revision that it says it fixes.
    #[must_use]
    pub fn fixes(mut self, revision: impl Into<String>) -> Self {
        self.all.fixes.push(revision.into());
        self
    }

    /// It was committed at this time, by the clock of whoever did it.
    #[must_use]
    pub fn recorded(&self, commit_time: SystemTime) -> Draft {
        let recorded = pb::CommitRecorded {
            commit_time: Some(commit_time.into()),
            ..self.all.clone()
        };
        let event = Some(commit_event::Event::Recorded(recorded));
        Draft::of(Payload::Commit(pb::CommitEvent { event }))
            .at_with(commit_time, pb::OccurTimeBasis::AuthorClock)
    }
}
