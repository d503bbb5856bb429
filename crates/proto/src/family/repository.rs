//! `repository.*`, `branch.*`
use waybill_core::{Entity, EntityKind, Refusal, event::Payload};

use super::About;
use crate::{
    field,
    pb::{branch_event, repository_event},
};

pub(crate) fn repository(
    event: &repository_event::Event,
    about: &mut About,
) -> Result<Payload, Refusal> {
    use repository_event::Event;
    let (repository, texts): (_, &[(&String, &str)]) = match event {
        Event::Created(e) => (
            &e.repository,
            &[
                (&e.name, "name"),
                (&e.uri, "uri"),
                (&e.owner, "owner"),
                (&e.default_branch, "default_branch"),
                (&e.provider_numeric_id, "provider_numeric_id"),
            ],
        ),
        Event::Modified(e) => (
            &e.repository,
            &[
                (&e.name, "name"),
                (&e.uri, "uri"),
                (&e.owner, "owner"),
                (&e.default_branch, "default_branch"),
                (&e.previous_name, "previous_name"),
                (&e.provider_numeric_id, "provider_numeric_id"),
            ],
        ),
        Event::Deleted(e) => (
            &e.repository,
            &[(&e.provider_numeric_id, "provider_numeric_id")],
        ),
    };
    let repository = about.repository(repository)?;
    for (value, field) in texts {
        field::reference_if_any(value, field)?;
    }
    match event {
        Event::Created(_) => {
            about.key().text(repository.as_str());
        }
        Event::Modified(_) | Event::Deleted(_) => about.key_by_time(&[repository.as_str()]),
    }
    about.entities.add(repository);
    Ok(Payload::Other)
}

pub(crate) fn branch(event: &branch_event::Event, about: &mut About) -> Result<Payload, Refusal> {
    use branch_event::Event;
    let (repository, name, revisions): (_, _, &[(&String, &str)]) = match event {
        Event::Created(e) => (&e.repository, &e.name, &[(&e.revision, "revision")]),
        Event::Updated(e) => (
            &e.repository,
            &e.name,
            &[
                (&e.before_revision, "before_revision"),
                (&e.after_revision, "after_revision"),
            ],
        ),
        Event::Deleted(e) => (
            &e.repository,
            &e.name,
            &[(&e.before_revision, "before_revision")],
        ),
    };
    let repository = about.repository(repository)?;
    let name = field::reference(name, "name")?;
    about
        .entities
        .of_repository(EntityKind::Branch, &repository, name, "name")?;
    let mut subject = vec![repository.as_str(), name];
    for (revision, field) in revisions {
        subject.push(revision);
        // All zeros is how git says "no commit".
        if field::revision_if_any(revision, field)?.is_some()
            && revision.bytes().any(|digit| digit != b'0')
        {
            about.entities.add(Entity::of_repository(
                EntityKind::Commit,
                &repository,
                revision,
            )?);
        }
    }
    // A forced push may go from A to B and back to A: the revisions alone do not name it.
    about.key_by_time(&subject);
    Ok(Payload::Other)
}
