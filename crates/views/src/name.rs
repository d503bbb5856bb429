//! Full names of what answers speak of.
use waybill_core::{Entity, EntityKind};

use crate::{
    facts::subjects::{Subject, SubjectKind},
    known::Known,
};

impl Known<'_> {
    /// `commit:github.com/acme/shop/1f2e…`
    pub(crate) fn commit_name(&self, node: u32) -> String {
        let graph = &self.facts.graph;
        let repository = self.text(graph.at(node).repository);
        format!("commit:{repository}/{}", graph.id(node).text())
    }

    /// `deployment:checkout/d-881`, `change:github.com/acme/shop/412`, `incident:INC-212`, …
    pub(crate) fn subject_name(&self, subject: u32) -> String {
        let Subject {
            kind, scope, name, ..
        } = *self.facts.subjects.at(subject);
        let (scope, name) = (self.text(scope), self.text(name));
        let named = |kind| Entity::named(kind, &name);
        let entity = match kind {
            SubjectKind::Entity => return name,
            SubjectKind::Change => {
                Entity::parse(&format!("repository:{scope}")).and_then(|repository| {
                    Entity::of_repository(EntityKind::Change, &repository, &name)
                })
            }
            SubjectKind::Build => named(EntityKind::Build),
            SubjectKind::Artifact => named(EntityKind::Artifact),
            SubjectKind::Release => Entity::within(EntityKind::Release, &scope, &name),
            SubjectKind::Deployment => Entity::within(EntityKind::Deployment, &scope, &name),
            SubjectKind::Flag => named(EntityKind::Flag),
            SubjectKind::Incident => named(EntityKind::Incident),
            SubjectKind::Link => named(EntityKind::Other),
        };
        // Names too long to be an entity's are shown as they came.
        entity.map_or(name, |entity| entity.as_str().to_owned())
    }
}
