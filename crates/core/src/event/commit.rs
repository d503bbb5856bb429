//! Commits.
use std::sync::Arc;

use crate::{name::Entity, time::Time};

/// One revision of one repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    /// A `repository:` entity.
    pub repository: Entity,
    /// 7 to 64 lowercase hex digits.
    pub id: Arc<str>,
}

/// One commit of one repository.
#[derive(Clone, Debug, PartialEq)]
pub struct Commit {
    /// Which commit; its id is full (40 or 64 digits).
    pub revision: Revision,
    /// Full ids in git's order; first parent first.
    pub parents: Vec<Arc<str>>,
    /// The same for a change that was rebased or picked.
    pub patch_id: Option<Arc<str>>,
    /// The author's clock.
    pub author_time: Option<Time>,
    /// The committer's clock.
    pub commit_time: Option<Time>,
    /// First line of the message.
    pub subject_line: Arc<str>,
    /// Revisions it says it reverts, as written.
    pub reverts: Vec<Arc<str>>,
    /// Revisions it says it fixes, as written.
    pub fixes: Vec<Arc<str>>,
    /// Revisions it was picked from, as written.
    pub picked_from: Vec<Arc<str>>,
    /// Files it touched; the counts below also cover those cut off.
    pub files: Vec<CommitFile>,
    /// Files in all.
    pub files_changed_count: u32,
    /// Lines in all.
    pub lines_added_count: u64,
    /// Lines in all.
    pub lines_removed_count: u64,
    /// Its parents are named but were not there to read (a shallow clone).
    pub boundary: bool,
}

/// One file of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitFile {
    /// UTF-8, other bytes percent-encoded.
    pub path: String,
    /// The path before a rename or copy.
    pub previous_path: Option<String>,
    /// Lines.
    pub added: u32,
    /// Lines.
    pub removed: u32,
    /// The counts mean nothing.
    pub binary: bool,
}
