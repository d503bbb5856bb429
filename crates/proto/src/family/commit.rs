//! `commit.*`
use waybill_core::{
    EntityKind, Refusal,
    event::{Commit, CommitFile, Payload, Revision},
};

use super::About;
use crate::{
    field,
    pb::{self, commit_event::Event},
};

pub(crate) fn read(event: &Event, about: &mut About) -> Result<Payload, Refusal> {
    match event {
        Event::Recorded(e) => recorded(e, about).map(|commit| Payload::Commit(Box::new(commit))),
        Event::FilesRecorded(e) => files_recorded(e, about).map(|()| Payload::Other),
    }
}

fn recorded(e: &pb::CommitRecorded, about: &mut About) -> Result<Commit, Refusal> {
    let revision = full(&e.repository, &e.revision, about)?;
    about
        .key()
        .text(revision.repository.as_str())
        .text(&revision.id);
    field::actor(e.author.as_ref(), "author")?;
    field::actor(e.committer.as_ref(), "committer")?;
    field::name_if_any(&e.tree, "tree")?;
    Ok(Commit {
        revision,
        parents: field::each(&e.parents, "parents", |id| {
            Ok(field::full_revision(id, "")?.into())
        })?,
        patch_id: field::shared_if_any(&e.patch_id, "patch_id")?,
        author_time: field::time_if_any(e.author_time.as_ref(), "author_time")?,
        commit_time: field::time_if_any(e.commit_time.as_ref(), "commit_time")?,
        subject_line: e.subject_line.as_str().into(),
        reverts: field::names(&e.reverts, "reverts")?,
        fixes: field::names(&e.fixes, "fixes")?,
        picked_from: field::names(&e.picked_from, "picked_from")?,
        files: files(&e.files)?,
        files_changed_count: e.files_changed_count,
        lines_added_count: e.lines_added_count,
        lines_removed_count: e.lines_removed_count,
        boundary: e.boundary,
    })
}

fn files_recorded(e: &pb::CommitFilesRecorded, about: &mut About) -> Result<(), Refusal> {
    let revision = full(&e.repository, &e.revision, about)?;
    if e.part == 0 {
        return Err(field::missing("part")
            .with_hint("number the parts from 1; part 0 is the commit's own event"));
    }
    about
        .key()
        .text(revision.repository.as_str())
        .text(&revision.id)
        .number(e.part.into());
    files(&e.files).map(|_| ())
}

fn full(repository: &str, revision: &str, about: &mut About) -> Result<Revision, Refusal> {
    let repository = about.repository(repository)?;
    let id = field::full_revision(revision, "revision")?;
    about
        .entities
        .of_repository(EntityKind::Commit, &repository, id, "revision")?;
    Ok(Revision {
        repository,
        id: id.into(),
    })
}

fn files(files: &[pb::CommitFile]) -> Result<Vec<CommitFile>, Refusal> {
    field::each(files, "files", |file| {
        if file.path.is_empty() {
            return Err(field::missing("path"));
        }
        Ok(CommitFile {
            path: file.path.clone(),
            previous_path: (!file.previous_path.is_empty()).then(|| file.previous_path.clone()),
            added: file.added,
            removed: file.removed,
            binary: file.binary,
        })
    })
}
