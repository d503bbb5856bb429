//! The events of a history, each a pure function of what history says, so that reading it again gives the same bytes.
//!
//! Ids are built so that a repository that grows or is deepened makes new events and never other content under an old
//! id: what was known when an event was made is part of its id, and of two events for one fact the one that knew more
//! wins, by its basis or its id (LEDGER E7).
use std::collections::HashMap;

use prost_types::Timestamp;
use sha2::{Digest as _, Sha256};
use waybill_core::{Entity, time};
use waybill_proto::pb::{
    self, ChangeInfo, CommitFile, DeploymentInfo, EventRef, MergeMethod, OccurTimeBasis,
    ReleaseInfo, Revision, event::Payload,
};

use super::{
    change::Mention,
    message::Message,
    object::{ObjectId, Signature},
    person::Persons,
    refs::Tag,
    text,
    walk::Seen,
};

/// Longest source and id of an event.
const ID_BYTES_MAX: usize = waybill_proto::limits::ID_BYTES_MAX;
/// Where an id that would be longer is cut, to be ended by a digest.
const ID_BYTES_KEPT: usize = 128;

/// Who speaks, and of which repository.
pub(super) struct Voice {
    pub(super) source: String,
    pub(super) repository: Entity,
    pub(super) service: String,
    /// True where somebody said which service it is: then a tag's component does not count.
    pub(super) service_is_told: bool,
    pub(super) environment: String,
    pub(super) persons: Persons,
}

/// The counts of a commit's files, all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) files: u32,
    pub(super) added: u64,
    pub(super) removed: u64,
}

/// The commits that a change brought in, as far as they can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Brought {
    /// Oldest first; `count` in all.
    Commits { first: Vec<String>, count: usize },
    /// It was squashed: its commits are nowhere.
    Squashed,
    /// Beyond the boundary of a shallow history, or too far to look.
    Unknown,
}

/// What a release or deployment came after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Before<'t> {
    Tag(&'t Tag),
    /// It is the first of its line.
    Nothing,
    /// Beyond the boundary of a shallow history.
    Unknown,
}

/// The id of a commit's event.
pub(super) fn commit_id(commit: ObjectId) -> String {
    format!("commit:{commit}")
}

/// The id of the event of a commit whose parents cannot be seen. It sorts before, and its basis ranks below, those of
/// the commit's own event, which so wins as soon as there is one.
pub(super) fn boundary_id(commit: ObjectId) -> String {
    format!("boundary:{commit}")
}

/// The id of the gap below a commit whose parents cannot be seen.
pub(super) fn gap_id(commit: ObjectId) -> String {
    format!("gap:{commit}")
}

/// A moment, where it lies in the years that a ledger takes.
pub(super) fn moment(signature: &Signature) -> Option<Timestamp> {
    let seconds = signature.seconds?;
    (time::MIN_SECONDS..time::END_SECONDS)
        .contains(&seconds)
        .then_some(Timestamp { seconds, nanos: 0 })
}

impl Voice {
    /// `commit.recorded`, with as many of the files as fit; `totals` counts all.
    pub(super) fn commit(
        &mut self,
        seen: &Seen,
        message: &Message,
        files: Vec<CommitFile>,
        totals: Totals,
    ) -> pb::Event {
        let commit = &seen.commit;
        let basis = if seen.boundary {
            OccurTimeBasis::Derived
        } else {
            OccurTimeBasis::AuthorClock
        };
        let id = if seen.boundary {
            boundary_id(seen.id)
        } else {
            commit_id(seen.id)
        };
        let kept = u32::try_from(files.len()).unwrap_or(u32::MAX);
        let encoding = commit.encoding.as_deref();
        let recorded = pb::CommitRecorded {
            repository: self.repository.to_string(),
            revision: seen.id.to_string(),
            parents: commit.parents.iter().map(ObjectId::to_string).collect(),
            tree: commit.tree.map(|tree| tree.to_string()).unwrap_or_default(),
            patch_id: String::new(),
            author_time: moment(&commit.author),
            commit_time: moment(&commit.committer),
            author: self.actor(&commit.author, encoding),
            committer: self.actor(&commit.committer, encoding),
            subject_line: message.subject.clone(),
            trailers: message.trailers(&mut self.persons),
            conventional: message.conventional.clone(),
            reverts: message.reverts.clone(),
            fixes: message.fixes.clone(),
            change_ids: message.change_ids.clone(),
            files_truncated: kept < totals.files,
            files,
            files_changed_count: totals.files,
            lines_added_count: totals.added,
            lines_removed_count: totals.removed,
            picked_from: message.picked_from.clone(),
            boundary: seen.boundary,
        };
        let payload = pb::commit_event::Event::Recorded(recorded);
        let mut event = self.event(
            id,
            moment(&commit.committer),
            basis,
            commit_payload(payload),
        );
        event.labels = times_out_of_range(&commit.author, &commit.committer);
        event
    }

    /// `commit.files_recorded`; `part` counts from 1.
    pub(super) fn commit_files(&self, seen: &Seen, part: u32, files: Vec<CommitFile>) -> pb::Event {
        let recorded = pb::CommitFilesRecorded {
            repository: self.repository.to_string(),
            revision: seen.id.to_string(),
            part,
            files,
        };
        let payload = pb::commit_event::Event::FilesRecorded(recorded);
        let id = format!("{}:files:{part}", commit_id(seen.id));
        self.event(
            id,
            moment(&seen.commit.committer),
            OccurTimeBasis::AuthorClock,
            commit_payload(payload),
        )
    }

    /// `ledger.gap_detected` below a commit whose parents cannot be seen.
    pub(super) fn gap(&self, seen: &Seen) -> pb::Event {
        let gap = pb::GapDetected {
            entity: self.repository.to_string(),
            reason: "shallow clone".to_owned(),
            bounds: vec![seen.id.to_string()],
            start_time: None,
            end_time: moment(&seen.commit.committer),
            remedy: "run `git fetch --unshallow`, then import again".to_owned(),
        };
        let payload = Payload::Ledger(pb::LedgerEvent {
            event: Some(pb::ledger_event::Event::GapDetected(gap)),
        });
        self.event(
            gap_id(seen.id),
            moment(&seen.commit.committer),
            OccurTimeBasis::Derived,
            Some(payload),
        )
    }

    /// Takes back the gap below a commit whose parents are here now.
    pub(super) fn gap_closed(&self, seen: &Seen) -> pb::Event {
        let id = format!("gap-closed:{}", seen.id);
        let mut event = self.event(
            id,
            moment(&seen.commit.committer),
            OccurTimeBasis::Derived,
            None,
        );
        event.record_kind = pb::RecordKind::Retraction.into();
        event.amends = Some(EventRef {
            source: self.source.clone(),
            id: gap_id(seen.id),
            position: 0,
        });
        event.reason = "the history below this commit is here now".to_owned();
        event
    }

    /// The id of [`Voice::change`].
    pub(super) fn change_id(seen: &Seen, mention: &Mention, brought: &Brought) -> String {
        // `whole` sorts after `part`, and so wins.
        let extent = match brought {
            Brought::Commits { .. } | Brought::Squashed => "whole",
            Brought::Unknown => "part",
        };
        format!("change:{}:{}:{extent}", number(seen, mention), seen.id)
    }

    /// `change.merged`, inferred from a commit.
    pub(super) fn change(&mut self, seen: &Seen, mention: &Mention, brought: Brought) -> pb::Event {
        let id = Self::change_id(seen, mention, &brought);
        let method = if brought == Brought::Squashed {
            MergeMethod::Squash
        } else {
            MergeMethod::Merge
        };
        let parent = |at: usize| {
            seen.commit
                .parents
                .get(at)
                .map(ObjectId::to_string)
                .unwrap_or_default()
        };
        let (commits, count, commits_truncated) = match brought {
            Brought::Commits { first, count } => (first, count, false),
            Brought::Squashed | Brought::Unknown => (Vec::new(), 0, true),
        };
        let change = ChangeInfo {
            repository: self.repository.to_string(),
            number: number(seen, mention),
            title: mention.title.clone(),
            head_branch: mention.head_branch.clone(),
            head_revision: parent(1),
            base_branch: mention.base_branch.clone(),
            base_revision: parent(0),
            commits_truncated: commits_truncated || commits.len() < count,
            commits,
            commit_count: u32::try_from(count).unwrap_or(u32::MAX),
            ..ChangeInfo::default()
        };
        let merged = pb::ChangeMerged {
            change: Some(change),
            merge_revision: seen.id.to_string(),
            merge_method: method.into(),
        };
        let payload = Payload::Change(pb::ChangeEvent {
            event: Some(pb::change_event::Event::Merged(merged)),
        });
        let mut event = self.event(
            id,
            moment(&seen.commit.committer),
            OccurTimeBasis::Derived,
            Some(payload),
        );
        event.actor = self.actor(&seen.commit.author, seen.commit.encoding.as_deref());
        event.labels = inferred();
        event
    }

    /// The id of [`Voice::release`].
    pub(super) fn release_id(&self, tag: &Tag, before: &Before<'_>) -> String {
        bounded(&format!(
            "tag:{}:{}:{}",
            text::safe(&tag.name),
            tag.object,
            extent(before)
        ))
    }

    /// `release.tagged`.
    pub(super) fn release(
        &self,
        tag: &Tag,
        commit_time: Option<Timestamp>,
        before: &Before<'_>,
    ) -> pb::Event {
        let release = ReleaseInfo {
            service: self.service_of(tag),
            version: name(&tag.name),
            revisions: vec![self.revision(tag)],
            previous_version: match before {
                Before::Tag(previous) => name(&previous.name),
                Before::Nothing | Before::Unknown => String::new(),
            },
            prerelease: tag
                .version
                .as_ref()
                .is_some_and(|version| version.prerelease),
            ..ReleaseInfo::default()
        };
        let tagged = pb::ReleaseTagged {
            release: Some(release),
            tag: text::safe(&tag.name),
            annotated: tag.annotated,
        };
        let payload = Payload::Release(pb::ReleaseEvent {
            event: Some(pb::release_event::Event::Tagged(tagged)),
        });
        let tagged = moment(&tag.tagger);
        let basis = if tagged.is_some() {
            OccurTimeBasis::AuthorClock
        } else {
            OccurTimeBasis::Derived
        };
        self.event(
            self.release_id(tag, before),
            tagged.or(commit_time),
            basis,
            Some(payload),
        )
    }

    /// The id of [`Voice::deployment`].
    pub(super) fn deployment_id(&self, tag: &Tag, before: &Before<'_>) -> String {
        let environment = text::safe(&self.environment);
        bounded(&format!(
            "deployment:{environment}:{}:{}:{}",
            text::safe(&tag.name),
            tag.object,
            extent(before)
        ))
    }

    /// `deployment.finished`, inferred from a tag.
    pub(super) fn deployment(
        &self,
        tag: &Tag,
        commit_time: Option<Timestamp>,
        before: &Before<'_>,
    ) -> pb::Event {
        let mut deployment = DeploymentInfo {
            deployment_id: inferred_deployment(tag),
            service: self.service_of(tag),
            environment: self.environment.clone(),
            operation: pb::DeploymentOperation::Deploy.into(),
            revisions: vec![self.revision(tag)],
            trigger: "tag".to_owned(),
            version: name(&tag.name),
            inferred: true,
            range_unknown: *before == Before::Unknown,
            ..DeploymentInfo::default()
        };
        if let Before::Tag(previous) = before {
            deployment.previous_revisions = vec![self.revision(previous)];
            deployment.previous_deployment_id = inferred_deployment(previous);
        }
        let finished = pb::DeploymentFinished {
            deployment: Some(deployment),
            outcome: pb::Outcome::Success.into(),
            ..pb::DeploymentFinished::default()
        };
        let payload = pb::DeploymentEvent {
            event: Some(pb::deployment_event::Event::Finished(finished)),
        };
        let time = moment(&tag.tagger).or(commit_time);
        let id = self.deployment_id(tag, before);
        let mut event = self.event(
            id,
            time,
            OccurTimeBasis::Derived,
            Some(Payload::Deployment(payload)),
        );
        event.labels = inferred();
        event
    }

    fn event(
        &self,
        id: String,
        time: Option<Timestamp>,
        basis: OccurTimeBasis,
        payload: Option<Payload>,
    ) -> pb::Event {
        let basis = if time.is_some() {
            basis
        } else {
            OccurTimeBasis::Delivery
        };
        pb::Event {
            source: self.source.clone(),
            id,
            occur_time: time,
            occur_time_basis: basis.into(),
            backfill: true,
            payload,
            ..pb::Event::default()
        }
    }

    fn actor(&mut self, signature: &Signature, encoding: Option<&str>) -> Option<pb::Actor> {
        let name = text::in_encoding(&signature.name, encoding);
        let email = text::in_encoding(&signature.email, encoding);
        self.persons.actor(&name, &email)
    }

    fn revision(&self, tag: &Tag) -> Revision {
        Revision {
            repository: self.repository.to_string(),
            revision: tag.commit.to_string(),
        }
    }

    /// A component that the tag names, or the repository's own service.
    fn service_of(&self, tag: &Tag) -> String {
        let series = tag
            .version
            .as_ref()
            .map(|version| &version.series[..])
            .unwrap_or_default();
        if series.is_empty() || self.service_is_told {
            self.service.clone()
        } else {
            name(series)
        }
    }
}

fn commit_payload(event: pb::commit_event::Event) -> Option<Payload> {
    Some(Payload::Commit(pb::CommitEvent { event: Some(event) }))
}

/// A branch that was merged without a number is named by its merge.
fn number(seen: &Seen, mention: &Mention) -> String {
    mention
        .number
        .clone()
        .unwrap_or_else(|| format!("merge-{}", &seen.id.to_string()[..12]))
}

/// What an event knew of its predecessor. `since` sorts after `range-unknown`, and so wins.
fn extent(before: &Before<'_>) -> String {
    match before {
        Before::Tag(previous) => {
            format!("since:{}:{}", text::safe(&previous.name), previous.object)
        }
        Before::Nothing => "since".to_owned(),
        Before::Unknown => "range-unknown".to_owned(),
    }
}

fn inferred_deployment(tag: &Tag) -> String {
    name(&format!("d-{}", tag.name))
}

fn inferred() -> HashMap<String, String> {
    HashMap::from([("inferred".to_owned(), "true".to_owned())])
}

/// One label for both, so that the encoded bytes do not depend on the order of a map.
fn times_out_of_range(author: &Signature, committer: &Signature) -> HashMap<String, String> {
    let shown = |signature: &Signature| match signature.seconds {
        Some(seconds) => seconds.to_string(),
        None => "unreadable".to_owned(),
    };
    let odd: Vec<String> = [("author", author), ("committer", committer)]
        .into_iter()
        .filter(|(_, signature)| moment(signature).is_none())
        .map(|(who, signature)| format!("{who} {}", shown(signature)))
        .collect();
    let label = |odd: Vec<String>| ("times_out_of_range".to_owned(), odd.join(", "));
    (!odd.is_empty()).then(|| label(odd)).into_iter().collect()
}

/// Text as a name of an event's field.
fn name(text: &str) -> String {
    bounded(&text::safe(text))
}

/// An id that fits: a long one keeps its beginning and ends in a digest of the whole.
pub(super) fn bounded(id: &str) -> String {
    if id.len() <= ID_BYTES_MAX {
        return id.to_owned();
    }
    format!(
        "{}:{}",
        text::shortened(id, ID_BYTES_KEPT),
        hex::encode(Sha256::digest(id))
    )
}
