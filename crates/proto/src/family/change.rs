//! `change.*`
use waybill_core::{
    Entity, EntityKind, Refusal, Time,
    event::{Change, ChangeStep, MergeMethod, Payload, ReviewVerdict},
};

use super::{About, part};
use crate::{
    field,
    pb::{self, change_event::Event},
};

pub(crate) fn read(event: &Event, about: &mut About) -> Result<Payload, Refusal> {
    let info = part(info(event), "change")?;
    let (change, update_time) =
        known(info, step(event)?, about).map_err(|refusal| refusal.within("change"))?;
    key(event, &change, update_time.or(about.occur_time), about);
    Ok(Payload::Change(Box::new(change)))
}

fn info(event: &Event) -> Option<&pb::ChangeInfo> {
    match event {
        Event::Created(e) => e.change.as_ref(),
        Event::Updated(e) => e.change.as_ref(),
        Event::Ready(e) => e.change.as_ref(),
        Event::Drafted(e) => e.change.as_ref(),
        Event::Reviewed(e) => e.change.as_ref(),
        Event::ReviewDismissed(e) => e.change.as_ref(),
        Event::Queued(e) => e.change.as_ref(),
        Event::Dequeued(e) => e.change.as_ref(),
        Event::Merged(e) => e.change.as_ref(),
        Event::Abandoned(e) => e.change.as_ref(),
        Event::Reopened(e) => e.change.as_ref(),
    }
}

fn step(event: &Event) -> Result<ChangeStep, Refusal> {
    Ok(match event {
        Event::Created(_) => ChangeStep::Created,
        Event::Updated(e) => {
            field::revision_if_any(&e.before_revision, "before_revision")?;
            ChangeStep::Updated
        }
        Event::Ready(_) => ChangeStep::Ready,
        Event::Drafted(_) => ChangeStep::Drafted,
        Event::Reviewed(e) => {
            field::revision_if_any(&e.reviewed_revision, "reviewed_revision")?;
            let review_id = field::name_if_any(&e.review_id, "review_id")?
                .unwrap_or_default()
                .into();
            ChangeStep::Reviewed {
                review_id,
                verdict: verdict(e.verdict),
            }
        }
        Event::ReviewDismissed(e) => ChangeStep::ReviewDismissed {
            review_id: field::name(&e.review_id, "review_id")?.into(),
        },
        Event::Queued(_) => ChangeStep::Queued,
        Event::Dequeued(_) => ChangeStep::Dequeued,
        Event::Merged(e) => ChangeStep::Merged {
            merge_revision: field::revision_if_any(&e.merge_revision, "merge_revision")?,
            method: method(e.merge_method),
        },
        Event::Abandoned(_) => ChangeStep::Abandoned,
        Event::Reopened(_) => ChangeStep::Reopened,
    })
}

fn known(
    info: &pb::ChangeInfo,
    step: ChangeStep,
    about: &mut About,
) -> Result<(Change, Option<Time>), Refusal> {
    let repository = about.repository(&info.repository)?;
    let number = field::name(&info.number, "number")?;
    about
        .entities
        .of_repository(EntityKind::Change, &repository, number, "number")?;
    field::reference_if_any(&info.uri, "uri")?;
    field::reference_if_any(&info.head_branch, "head_branch")?;
    field::revision_if_any(&info.base_revision, "base_revision")?;
    let change = Change {
        number: number.into(),
        title: info.title.as_str().into(),
        head_revision: field::revision_if_any(&info.head_revision, "head_revision")?,
        base_branch: field::reference_if_any(&info.base_branch, "base_branch")?.map(Into::into),
        commits: field::revision_ids(&info.commits, "commits")?,
        commits_truncated: info.commits_truncated,
        step,
        repository,
    };
    add_commits(&change, about)?;
    Ok((
        change,
        field::time_if_any(info.update_time.as_ref(), "update_time")?,
    ))
}

/// The commits that a change names: those it merged as first, then its head, then its own.
fn add_commits(change: &Change, about: &mut About) -> Result<(), Refusal> {
    let merged = match &change.step {
        ChangeStep::Merged { merge_revision, .. } => merge_revision.as_ref(),
        _ => None,
    };
    for id in merged
        .into_iter()
        .chain(&change.head_revision)
        .chain(&change.commits)
    {
        if about.entities.is_full() {
            break;
        }
        about.entities.add(commit(&change.repository, id)?);
    }
    Ok(())
}

fn commit(repository: &Entity, id: &str) -> Result<Entity, Refusal> {
    Entity::of_repository(EntityKind::Commit, repository, id)
}

/// A change is created and merged once; a review is one fact for each verdict; anything else is told apart by time.
fn key(event: &Event, change: &Change, moment: Option<Time>, about: &mut About) {
    let key = about.key();
    key.text(change.repository.as_str()).text(&change.number);
    match event {
        Event::Created(_) | Event::Merged(_) => {}
        Event::Reviewed(e) if !e.review_id.is_empty() => {
            key.text(&e.review_id)
                .number(u64::from(e.verdict.unsigned_abs()));
        }
        Event::ReviewDismissed(e) => {
            key.text(&e.review_id);
        }
        Event::Reviewed(_)
        | Event::Updated(_)
        | Event::Ready(_)
        | Event::Drafted(_)
        | Event::Queued(_)
        | Event::Dequeued(_)
        | Event::Abandoned(_)
        | Event::Reopened(_) => {
            key.moment(moment);
        }
    }
}

fn verdict(number: i32) -> ReviewVerdict {
    match pb::ReviewVerdict::try_from(number) {
        Ok(pb::ReviewVerdict::Approved) => ReviewVerdict::Approved,
        Ok(pb::ReviewVerdict::ChangesRequested) => ReviewVerdict::ChangesRequested,
        Ok(pb::ReviewVerdict::Commented) => ReviewVerdict::Commented,
        Ok(pb::ReviewVerdict::Unspecified) | Err(_) => ReviewVerdict::Unknown,
    }
}

fn method(number: i32) -> MergeMethod {
    match pb::MergeMethod::try_from(number) {
        Ok(pb::MergeMethod::Merge) => MergeMethod::Merge,
        Ok(pb::MergeMethod::Squash) => MergeMethod::Squash,
        Ok(pb::MergeMethod::Rebase) => MergeMethod::Rebase,
        Ok(pb::MergeMethod::FastForward) => MergeMethod::FastForward,
        Ok(pb::MergeMethod::Unknown | pb::MergeMethod::Unspecified) | Err(_) => {
            MergeMethod::Unknown
        }
    }
}
