//! Changes: pull requests, merge requests.
use std::sync::Arc;

use crate::name::Entity;

/// A change moved.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// A `repository:` entity.
    pub repository: Entity,
    /// Number or key within the repository.
    pub number: Arc<str>,
    /// Empty when unknown.
    pub title: Arc<str>,
    /// Tip of the change's branch.
    pub head_revision: Option<Arc<str>>,
    /// The branch it goes to.
    pub base_branch: Option<Arc<str>>,
    /// The change's own commits, oldest first.
    pub commits: Vec<Arc<str>>,
    /// `commits` does not hold all.
    pub commits_truncated: bool,
    /// What happened to it.
    pub step: ChangeStep,
}

/// What happened to a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeStep {
    /// It was opened.
    Created,
    /// Its content or text changed.
    Updated,
    /// It left draft.
    Ready,
    /// It went back to draft.
    Drafted,
    /// Somebody reviewed it.
    Reviewed {
        /// The provider's id of the review.
        review_id: Arc<str>,
        /// What they said.
        verdict: ReviewVerdict,
    },
    /// A review no longer counts.
    ReviewDismissed {
        /// The provider's id of the review.
        review_id: Arc<str>,
    },
    /// It entered a merge queue.
    Queued,
    /// It left a merge queue.
    Dequeued,
    /// It was merged.
    Merged {
        /// The commit on the base branch that the merge made.
        merge_revision: Option<Arc<str>>,
        /// How.
        method: MergeMethod,
    },
    /// It was closed without merging.
    Abandoned,
    /// It was opened again.
    Reopened,
}

/// What a reviewer said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReviewVerdict {
    /// Go ahead.
    Approved,
    /// Not yet.
    ChangesRequested,
    /// Neither.
    Commented,
    /// Not said, or a word newer than this version.
    Unknown,
}

/// How a change reached its base branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MergeMethod {
    /// A merge commit.
    Merge,
    /// One new commit.
    Squash,
    /// New commits, one for each.
    Rebase,
    /// The same commits.
    FastForward,
    /// Not said, or a word newer than this version.
    Unknown,
}
