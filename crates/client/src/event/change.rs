//! Changes: pull requests, merge requests, Gerrit changes.
use waybill_proto::pb::{self, change_event, event::Payload};

use super::Draft;

/// A change, from its creation to its merge.
///
/// ```
/// use waybill_client::{Change, MergeMethod};
///
/// let change = Change::new("github.com/acme/shop", "412").title("Faster checkout");
/// let draft = change.merged("4f1c2d3", MergeMethod::Squash);
/// ```
#[derive(Clone, Debug)]
pub struct Change {
    info: pb::ChangeInfo,
}

impl Change {
    /// Names the change by its repository and its number there.
    #[must_use]
    pub fn new(repository: impl Into<String>, number: impl Into<String>) -> Self {
        let (repository, number) = (repository.into(), number.into());
        Self {
            info: pb::ChangeInfo {
                repository,
                number,
                ..Default::default()
            },
        }
    }

    texts! { info:
        /// Its title.
        title,
        /// A page for people.
        uri,
        /// The branch that it comes from.
        head_branch,
        /// Its newest commit.
        head_revision,
        /// The branch that it goes to.
        base_branch,
        /// The commit that it stands on.
        base_revision,
    }

    /// Its own commits, oldest first; all of them.
    #[must_use]
    pub fn commits(mut self, revisions: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.info.commits = revisions.into_iter().map(Into::into).collect();
        self.info.commit_count = u32::try_from(self.info.commits.len()).unwrap_or(u32::MAX);
        self
    }

    /// How large it is.
    #[must_use]
    pub fn size(mut self, files_changed: u32, lines_added: u64, lines_removed: u64) -> Self {
        self.info.files_changed_count = files_changed;
        self.info.lines_added_count = lines_added;
        self.info.lines_removed_count = lines_removed;
        self
    }

    /// It is not meant to be reviewed yet.
    #[must_use]
    pub fn draft(mut self) -> Self {
        self.info.draft = true;
        self
    }

    /// It came to be.
    #[must_use]
    pub fn created(&self) -> Draft {
        self.step(|change| change_event::Event::Created(pb::ChangeCreated { change }))
    }

    /// New commits replaced or followed `before_revision`.
    #[must_use]
    pub fn updated(&self, before_revision: impl Into<String>) -> Draft {
        let before_revision = before_revision.into();
        self.step(|change| {
            change_event::Event::Updated(pb::ChangeUpdated {
                change,
                before_revision,
            })
        })
    }

    /// It is meant to be reviewed now.
    #[must_use]
    pub fn ready(&self) -> Draft {
        self.step(|change| change_event::Event::Ready(pb::ChangeReady { change }))
    }

    /// It is a draft again.
    #[must_use]
    pub fn drafted(&self) -> Draft {
        self.step(|change| change_event::Event::Drafted(pb::ChangeDrafted { change }))
    }

    /// Somebody reviewed a revision of it.
    #[must_use]
    pub fn reviewed(
        &self,
        review_id: impl Into<String>,
        verdict: pb::ReviewVerdict,
        reviewed_revision: impl Into<String>,
    ) -> Draft {
        let (review_id, reviewed_revision) = (review_id.into(), reviewed_revision.into());
        self.step(|change| {
            change_event::Event::Reviewed(pb::ChangeReviewed {
                change,
                review_id,
                verdict: verdict.into(),
                reviewed_revision,
                ..Default::default()
            })
        })
    }

    /// It waits to be merged.
    #[must_use]
    pub fn queued(&self) -> Draft {
        self.step(|change| change_event::Event::Queued(pb::ChangeQueued { change }))
    }

    /// It no longer waits to be merged.
    #[must_use]
    pub fn dequeued(&self, reason: impl Into<String>) -> Draft {
        let reason = reason.into();
        self.step(|change| change_event::Event::Dequeued(pb::ChangeDequeued { change, reason }))
    }

    /// It became `merge_revision` on its base branch.
    #[must_use]
    pub fn merged(&self, merge_revision: impl Into<String>, method: pb::MergeMethod) -> Draft {
        let merge_revision = merge_revision.into();
        let merge_method = method.into();
        self.step(|change| {
            change_event::Event::Merged(pb::ChangeMerged {
                change,
                merge_revision,
                merge_method,
            })
        })
    }

    /// It was closed without a merge.
    #[must_use]
    pub fn abandoned(&self) -> Draft {
        self.step(|change| change_event::Event::Abandoned(pb::ChangeAbandoned { change }))
    }

    /// It is open again.
    #[must_use]
    pub fn reopened(&self) -> Draft {
        self.step(|change| change_event::Event::Reopened(pb::ChangeReopened { change }))
    }

    fn step(&self, step: impl FnOnce(Option<pb::ChangeInfo>) -> change_event::Event) -> Draft {
        let event = Some(step(Some(self.info.clone())));
        Draft::of(Payload::Change(pb::ChangeEvent { event }))
    }
}
