//! Which entities an event is about, under names that survive tools (LEDGER E9, `proto/README.md`).
use std::{collections::HashSet, sync::Arc};

use waybill_core::{
    Entity, EntityKind, Refusal,
    event::{ArtifactRef, Revision},
};

use crate::{field, limits::ENTITIES_MAX, pb};

/// Lists shorter than this are searched; longer ones get a set.
const SEARCHED_MAX: usize = 24;

/// The entities of one event, without repeats, in the order of the payload; the first is the subject.
#[derive(Debug)]
pub(crate) struct Entities {
    list: Vec<Entity>,
    seen: HashSet<Entity>,
}

impl Default for Entities {
    /// Has room for what most events name.
    fn default() -> Self {
        Self {
            list: Vec::with_capacity(8),
            seen: HashSet::new(),
        }
    }
}

impl Entities {
    /// Adds an entity, unless it is there or the list is full.
    pub(crate) fn add(&mut self, entity: Entity) {
        if self.is_full() || self.holds(&entity) {
            return;
        }
        if self.list.len() == SEARCHED_MAX {
            self.seen.extend(self.list.iter().cloned());
        }
        if self.list.len() >= SEARCHED_MAX {
            self.seen.insert(entity.clone());
        }
        self.list.push(entity);
    }

    /// True when nothing more is taken, so that building names can stop.
    pub(crate) fn is_full(&self) -> bool {
        self.list.len() >= ENTITIES_MAX
    }

    /// The list, and nothing else.
    pub(crate) fn into_list(self) -> Vec<Entity> {
        self.list
    }

    /// Adds something that has no authority of its own: a service, an environment, a build.
    pub(crate) fn named(
        &mut self,
        kind: EntityKind,
        name: &str,
        field: &str,
    ) -> Result<(), Refusal> {
        let name = field::reference(name, field)?;
        self.add(Entity::named(kind, name).map_err(|refusal| refusal.within(field))?);
        Ok(())
    }

    /// Adds what [`Entities::named`] adds, where there is a name.
    pub(crate) fn named_if_any(
        &mut self,
        kind: EntityKind,
        name: &str,
        field: &str,
    ) -> Result<(), Refusal> {
        if name.is_empty() {
            Ok(())
        } else {
            self.named(kind, name, field)
        }
    }

    /// Adds something within something else: a deployment of a service.
    pub(crate) fn within(
        &mut self,
        kind: EntityKind,
        authority: &str,
        path: &str,
        field: &str,
    ) -> Result<(), Refusal> {
        self.add(Entity::within(kind, authority, path).map_err(|refusal| refusal.within(field))?);
        Ok(())
    }

    /// Adds something whose family has no kind of entity of its own: `other:slo/checkout-latency`.
    pub(crate) fn other(&mut self, family: &str, name: &str, field: &str) -> Result<(), Refusal> {
        self.within(
            EntityKind::Other,
            family,
            field::reference(name, field)?,
            field,
        )
    }

    /// Adds a commit, branch or change of a repository, and then the repository.
    pub(crate) fn of_repository(
        &mut self,
        kind: EntityKind,
        repository: &Entity,
        id: &str,
        field: &str,
    ) -> Result<(), Refusal> {
        self.add(
            Entity::of_repository(kind, repository, id).map_err(|refusal| refusal.within(field))?,
        );
        self.add(repository.clone());
        Ok(())
    }

    /// Adds a commit and its repository, and gives both as one of our revisions.
    pub(crate) fn revision(&mut self, revision: &pb::Revision) -> Result<Revision, Refusal> {
        let repository = repository(&revision.repository)?;
        let id = field::revision(&revision.revision, "revision")?;
        self.of_repository(EntityKind::Commit, &repository, id, "revision")?;
        Ok(Revision {
            repository,
            id: Arc::from(id),
        })
    }

    /// Adds the commits of a list and their repositories.
    pub(crate) fn revisions(
        &mut self,
        revisions: &[pb::Revision],
        field: &str,
    ) -> Result<Vec<Revision>, Refusal> {
        field::each(revisions, field, |revision| self.revision(revision))
    }

    /// Adds a commit that may be absent, and its repository.
    pub(crate) fn revision_if_any(
        &mut self,
        revision: Option<&pb::Revision>,
        field: &str,
    ) -> Result<Option<Revision>, Refusal> {
        revision
            .map(|r| self.revision(r).map_err(|refusal| refusal.within(field)))
            .transpose()
    }

    /// Adds an artifact under its digest and under its name, as far as it has them.
    pub(crate) fn artifact(&mut self, artifact: &ArtifactRef, field: &str) -> Result<(), Refusal> {
        for name in [&artifact.digest, &artifact.id].into_iter().flatten() {
            self.named(EntityKind::Artifact, name, field)?;
        }
        Ok(())
    }

    /// Adds the artifacts of a list.
    pub(crate) fn artifacts(
        &mut self,
        artifacts: &[pb::ArtifactRef],
        field: &str,
    ) -> Result<Vec<ArtifactRef>, Refusal> {
        field::each(artifacts, field, |artifact| {
            let artifact = field::artifact_ref(artifact)?;
            self.artifact(&artifact, "")?;
            Ok(artifact)
        })
    }

    fn holds(&self, entity: &Entity) -> bool {
        if self.list.len() > SEARCHED_MAX {
            self.seen.contains(entity)
        } else {
            self.list.contains(entity)
        }
    }
}

/// Names a repository from any of its spellings.
pub(crate) fn repository(text: &str) -> Result<Entity, Refusal> {
    let text = field::reference(text, "repository")?;
    Entity::repository(text).map_err(|refusal| refusal.within("repository"))
}
