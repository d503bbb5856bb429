//! From an event's payload to a row, with everything that finds it again.
use std::sync::Arc;

use waybill_core::{
    Entity, Payload, Recorded, Time,
    event::{
        Artifact, ArtifactRef, Build, Change, ChangeStep, Commit, Deployment, DeploymentStep, Flag,
        Gap, Incident, IncidentStep, Link, LinkStep, MergeMethod, Release, Revision, SourceRank,
    },
};

use super::{
    Facts,
    claims::{Family, Slot, UNTIMED},
    column::NONE,
    families::{
        ArtifactRow, BuildRow, ChangeMove, ChangeRow, CommitMarks, DeploymentMove, DeploymentRow,
        FlagRow, GapRow, IncidentMove, IncidentRow, LinkRow, RankRow, ReleaseRow,
    },
    graph::CommitId,
    lanes::id_order,
    subjects::{List, RevisionRef, Role, SubjectKind, Target},
    text::Symbol,
};

/// Said by what no view reads, or cannot.
const NOTHING: (Family, u32) = (Family::Other, 0);

/// Whether any view reads such a payload. Names are not followed across renames yet.
pub(super) fn is_read(payload: &Payload) -> bool {
    !matches!(payload, Payload::Rename(_) | Payload::Other)
}

impl Facts {
    /// Stores what an event's payload says, and how to find it again.
    pub(super) fn take(&mut self, recorded: &Recorded, slot: Slot) -> (Family, u32) {
        let occur = recorded.event.occur_time.map_or(UNTIMED, Time::nanos);
        match &recorded.event.payload {
            Payload::Commit(commit) => self
                .take_commit(commit, slot)
                .map_or(NOTHING, |row| (Family::Commit, row)),
            Payload::Change(change) => (Family::Change, self.take_change(change, occur, slot)),
            Payload::Build(build) => (Family::Build, self.take_build(build, slot)),
            Payload::Artifact(artifact) => self
                .take_artifact(artifact, slot)
                .map_or(NOTHING, |row| (Family::Artifact, row)),
            Payload::Release(release) => (Family::Release, self.take_release(release, slot)),
            Payload::Deployment(deployment) => {
                let row = self.take_deployment(deployment, occur, slot);
                (Family::Deployment, row)
            }
            Payload::Flag(flag) => (Family::Flag, self.take_flag(flag, slot)),
            Payload::Incident(incident) => (Family::Incident, self.take_incident(incident, slot)),
            Payload::Link(link) => (Family::Link, self.take_link(link, recorded, slot)),
            Payload::Gap(gap) => (Family::Gap, self.take_gap(gap, slot)),
            Payload::SourceRank(rank) => (Family::SourceRank, self.take_rank(rank, slot)),
            Payload::Rename(_) | Payload::Other => NOTHING,
        }
    }

    fn take_commit(&mut self, commit: &Commit, slot: Slot) -> Option<u32> {
        let repository = self.repository(&commit.revision.repository);
        let row = self.graph.record(repository, commit, slot)?;
        if commit.reverts.is_empty() && commit.fixes.is_empty() && commit.picked_from.is_empty() {
            return Some(row);
        }
        let mut marks = |ids: &[std::sync::Arc<str>], role| {
            let refs: Vec<RevisionRef> = ids
                .iter()
                .map(|id| self.revision(repository, id, slot, role))
                .collect();
            self.subjects.list(refs.into_iter().map(|r| r.0))
        };
        let marks = CommitMarks {
            slot,
            reverts: marks(&commit.reverts, Role::Reverts),
            fixes: marks(&commit.fixes, Role::Fixes),
            picks: marks(&commit.picked_from, Role::Picks),
        };
        self.marks.insert(slot, marks);
        Some(row)
    }

    fn take_change(&mut self, change: &Change, occur: i64, slot: Slot) -> u32 {
        let repository = self.repository(&change.repository);
        let subject = self.subject(SubjectKind::Change, repository, &change.number);
        self.subjects.mention_subject(subject, slot, Role::About);
        let (moved, merge, method) = match &change.step {
            ChangeStep::Merged {
                merge_revision,
                method,
            } => {
                let merges = self.lanes.merges.entry(repository).or_default();
                merges.insert((occur, slot));
                let merge = merge_revision.as_deref();
                (ChangeMove::Merged, merge, *method)
            }
            step => (change_move(step), None, MergeMethod::Unknown),
        };
        let mut optional = |id: Option<&str>, role| {
            id.map_or(RevisionRef::NONE, |id| {
                self.revision(repository, id, slot, role)
            })
        };
        let merge = optional(merge, Role::Merge);
        if let (Some(Target::Node(node)), MergeMethod::Squash) = (merge.target(), method) {
            self.graph.mark_squash(node);
        }
        let mut optional = |id: Option<&str>, role| {
            id.map_or(RevisionRef::NONE, |id| {
                self.revision(repository, id, slot, role)
            })
        };
        let head = optional(change.head_revision.as_deref(), Role::Head);
        let commits: Vec<u32> = change
            .commits
            .iter()
            .map(|id| self.revision(repository, id, slot, Role::Member).0)
            .collect();
        let row = ChangeRow {
            title: self.texts.push(&change.title),
            change: subject,
            head,
            merge,
            commits: self.subjects.list(commits),
            moved,
            method,
            truncated: change.commits_truncated,
        };
        self.changes.keep(row)
    }

    fn take_build(&mut self, build: &Build, slot: Slot) -> u32 {
        let subject = self.subject(SubjectKind::Build, Symbol::NONE, &build.build_id);
        self.subjects.mention_subject(subject, slot, Role::About);
        let row = BuildRow {
            build: subject,
            sources: self.revisions(&build.source_revisions, slot, Role::Source),
            artifacts: self.artifacts_named(&build.artifacts, slot, Role::Makes),
            step: build.step,
        };
        self.builds.keep(row)
    }

    fn take_artifact(&mut self, artifact: &Artifact, slot: Slot) -> Option<u32> {
        let subject = self.artifact(&artifact.artifact)?;
        self.subjects.mention_subject(subject, slot, Role::About);
        let mut name = Symbol::NONE;
        if let (Some(id), Some(_)) = (&artifact.artifact.id, &artifact.artifact.digest) {
            let alias = self.subject(SubjectKind::Artifact, Symbol::NONE, id);
            self.subjects.mention_subject(alias, slot, Role::About);
            name = self.symbols.intern(id);
        }
        let build = artifact.build_id.as_ref().map_or(NONE, |id| {
            let build = self.subject(SubjectKind::Build, Symbol::NONE, id);
            self.subjects.mention_subject(build, slot, Role::BuiltBy);
            build
        });
        let row = ArtifactRow {
            artifact: subject,
            name,
            sources: self.revisions(&artifact.source_revisions, slot, Role::Source),
            build,
            step: artifact.step,
        };
        Some(self.artifacts.keep(row))
    }

    fn take_release(&mut self, release: &Release, slot: Slot) -> u32 {
        let service = self.symbols.intern(&release.service);
        let subject = self.subject(SubjectKind::Release, service, &release.version);
        self.subjects.mention_subject(subject, slot, Role::About);
        // A change's number means something within one repository only.
        let mut changes = Vec::new();
        if let [revision] = release.revisions.as_slice() {
            let repository = self.repository(&revision.repository);
            for number in &release.changes {
                let change = self.subject(SubjectKind::Change, repository, number);
                self.subjects.mention_subject(change, slot, Role::Contains);
                changes.push(change);
            }
        }
        let row = ReleaseRow {
            release: subject,
            revisions: self.revisions(&release.revisions, slot, Role::Source),
            changes: self.subjects.list(changes),
            step: release.step,
        };
        self.releases.keep(row)
    }

    fn take_deployment(&mut self, deployment: &Deployment, occur: i64, slot: Slot) -> u32 {
        let service = self.symbols.intern(&deployment.service);
        let environment = self.symbols.intern(&deployment.environment);
        let lane = self.lanes.intern(service, environment);
        let subject = self.subject(SubjectKind::Deployment, service, &deployment.deployment_id);
        self.subjects.mention_subject(subject, slot, Role::About);
        let moved = deployment_move(&deployment.step);
        let key = (occur, id_order(&deployment.deployment_id), slot);
        let row = &mut self.lanes.rows[lane as usize];
        match moved {
            DeploymentMove::Finished(_) if occur == UNTIMED => row.untimed.push(slot),
            DeploymentMove::Finished(_) => _ = row.finished.insert(key),
            _ => _ = row.begun.insert(key),
        }
        if deployment.revisions.is_empty() {
            self.lanes.indirect.insert(lane);
        }
        for revision in &deployment.revisions {
            let repository = self.repository(&revision.repository);
            let lanes = self.lanes.by_repository.entry(repository).or_default();
            lanes.insert(lane);
        }
        let rollback_of = deployment.rollback_of.as_ref().map_or(NONE, |id| {
            let other = self.subject(SubjectKind::Deployment, service, id);
            self.subjects.mention_subject(other, slot, Role::RollsBack);
            other
        });
        let version = deployment.version.as_ref().map_or(Symbol::NONE, |version| {
            let release = self.subject(SubjectKind::Release, service, version);
            self.subjects.mention_subject(release, slot, Role::Runs);
            self.subjects.at(release).name
        });
        let row = DeploymentRow {
            deployment: subject,
            lane,
            revisions: self.revisions(&deployment.revisions, slot, Role::Source),
            artifacts: self.artifacts_named(&deployment.artifacts, slot, Role::Runs),
            previous: self.revisions(&deployment.previous_revisions, slot, Role::Previous),
            rollback_of,
            version,
            operation: deployment.operation,
            moved,
            inferred: deployment.inferred,
            range_unknown: deployment.range_unknown,
            allowed_to_fail: matches!(
                deployment.step,
                DeploymentStep::Finished {
                    allowed_to_fail: true,
                    ..
                }
            ),
        };
        self.deployments.keep(row)
    }

    fn take_flag(&mut self, flag: &Flag, slot: Slot) -> u32 {
        let subject = self.subject(SubjectKind::Flag, Symbol::NONE, &flag.flag_key);
        self.subjects.mention_subject(subject, slot, Role::About);
        let service = flag.service.as_ref();
        let row = FlagRow {
            flag: subject,
            environment: self.symbols.intern(&flag.environment),
            service: service.map_or(Symbol::NONE, |service| self.symbols.intern(service)),
            before_ppm: flag.exposure_before_ppm,
            after_ppm: flag.exposure_after_ppm,
            step: flag.step,
        };
        self.flags.keep(row)
    }

    fn take_incident(&mut self, incident: &Incident, slot: Slot) -> u32 {
        let subject = self.subject(SubjectKind::Incident, Symbol::NONE, &incident.incident_id);
        self.subjects.mention_subject(subject, slot, Role::About);
        let mut optional =
            |text: Option<&str>| text.map_or(Symbol::NONE, |text| self.symbols.intern(text));
        let service = optional(incident.services.first().map(|s| &**s));
        let severity = optional(incident.severity.as_deref());
        let into = optional(match &incident.step {
            IncidentStep::Merged { into } => Some(into),
            _ => None,
        });
        let row = IncidentRow {
            title: self.texts.push(&incident.title),
            incident: subject,
            environment: self.symbols.intern(&incident.environment),
            service,
            severity,
            into,
            moved: incident_move(&incident.step),
        };
        self.incidents.keep(row)
    }

    fn take_link(&mut self, link: &Link, recorded: &Recorded, slot: Slot) -> u32 {
        let mut name = |name: &Option<Arc<str>>| {
            name.as_ref()
                .map_or(Symbol::NONE, |name| self.symbols.intern(name))
        };
        let (sender, actor) = (name(&recorded.sender), name(&recorded.event.actor));
        let subject = self.subject(SubjectKind::Link, Symbol::NONE, &link.link_id);
        self.subjects.mention_subject(subject, slot, Role::About);
        let row = match &link.step {
            LinkStep::Asserted {
                from,
                to,
                method,
                confidence_ppm,
                because,
            } => {
                let from = self.entity(from);
                self.subjects.mention_subject(from, slot, Role::LinksFrom);
                let to = self.entity(to);
                self.subjects.mention_subject(to, slot, Role::LinksTo);
                LinkRow {
                    because: self.texts.push(because),
                    link: subject,
                    from,
                    to,
                    confidence_ppm: *confidence_ppm,
                    method: *method,
                    sender,
                    actor,
                }
            }
            LinkStep::Retracted => LinkRow {
                because: self.texts.push(""),
                link: subject,
                from: NONE,
                to: NONE,
                confidence_ppm: None,
                method: waybill_core::event::LinkMethod::Unknown,
                sender,
                actor,
            },
        };
        self.links.keep(row)
    }

    fn take_gap(&mut self, gap: &Gap, slot: Slot) -> u32 {
        let entity = gap.entity.as_ref().map_or(NONE, |entity| {
            let entity = self.entity(entity);
            self.subjects.mention_subject(entity, slot, Role::About);
            entity
        });
        let row = GapRow {
            reason: self.texts.push(&gap.reason),
            remedy: self.texts.push(&gap.remedy),
            entity,
        };
        self.gaps.keep(row)
    }

    fn take_rank(&mut self, rank: &SourceRank, slot: Slot) -> u32 {
        let row = RankRow {
            slot,
            source: self.symbols.intern(&rank.source),
            rank: rank.rank,
        };
        self.ranks.keep(row)
    }

    fn repository(&mut self, repository: &Entity) -> Symbol {
        self.symbols.intern(repository.path())
    }

    fn subject(&mut self, kind: SubjectKind, scope: Symbol, name: &str) -> u32 {
        let name = self.symbols.intern(name);
        self.subjects.intern(kind, scope, name)
    }

    fn entity(&mut self, entity: &Entity) -> u32 {
        self.subject(SubjectKind::Entity, Symbol::NONE, entity.as_str())
    }

    /// The subject of an artifact: by digest where known, because a name may move from one to another.
    fn artifact(&mut self, artifact: &ArtifactRef) -> Option<u32> {
        let name = artifact.digest.as_ref().or(artifact.id.as_ref())?;
        Some(self.subject(SubjectKind::Artifact, Symbol::NONE, name))
    }

    fn artifacts_named(&mut self, artifacts: &[ArtifactRef], slot: Slot, role: Role) -> List {
        let mut found = Vec::with_capacity(artifacts.len());
        for artifact in artifacts {
            if let Some(subject) = self.artifact(artifact) {
                self.subjects.mention_subject(subject, slot, role);
                found.push(subject);
            }
        }
        self.subjects.list(found)
    }

    fn revisions(&mut self, revisions: &[Revision], slot: Slot, role: Role) -> List {
        let mut found = Vec::with_capacity(revisions.len());
        for revision in revisions {
            let repository = self.repository(&revision.repository);
            found.push(self.revision(repository, &revision.id, slot, role).0);
        }
        self.subjects.list(found)
    }

    /// A commit that an event names, whole or abbreviated, with the mention that leads back to the event.
    fn revision(&mut self, repository: Symbol, id: &str, slot: Slot, role: Role) -> RevisionRef {
        let named = match CommitId::parse(id) {
            Some(id) => RevisionRef(self.graph.node(repository, &id)),
            None => {
                let digits = self.symbols.intern(id);
                self.subjects.short(repository, digits)
            }
        };
        match named.target() {
            Some(Target::Node(node)) => {
                let head = self.graph.nodes[node as usize].mentions;
                self.graph.nodes[node as usize].mentions = self.subjects.prepend(head, slot, role);
            }
            Some(Target::Short(short)) => self.subjects.mention_short(short, slot, role),
            None => {}
        }
        named
    }
}

fn change_move(step: &ChangeStep) -> ChangeMove {
    match step {
        ChangeStep::Created => ChangeMove::Created,
        ChangeStep::Updated => ChangeMove::Updated,
        ChangeStep::Ready => ChangeMove::Ready,
        ChangeStep::Drafted => ChangeMove::Drafted,
        ChangeStep::Reviewed { .. } => ChangeMove::Reviewed,
        ChangeStep::ReviewDismissed { .. } => ChangeMove::ReviewDismissed,
        ChangeStep::Queued => ChangeMove::Queued,
        ChangeStep::Dequeued => ChangeMove::Dequeued,
        ChangeStep::Merged { .. } => ChangeMove::Merged,
        ChangeStep::Abandoned => ChangeMove::Abandoned,
        ChangeStep::Reopened => ChangeMove::Reopened,
    }
}

fn deployment_move(step: &DeploymentStep) -> DeploymentMove {
    match step {
        DeploymentStep::Requested => DeploymentMove::Requested,
        DeploymentStep::Started => DeploymentMove::Started,
        DeploymentStep::Progressed => DeploymentMove::Progressed,
        DeploymentStep::Finished { outcome, .. } => DeploymentMove::Finished(*outcome),
        DeploymentStep::Superseded => DeploymentMove::Superseded,
    }
}

fn incident_move(step: &IncidentStep) -> IncidentMove {
    match step {
        IncidentStep::Detected => IncidentMove::Detected,
        IncidentStep::Reported => IncidentMove::Reported,
        IncidentStep::Acknowledged => IncidentMove::Acknowledged,
        IncidentStep::Updated => IncidentMove::Updated,
        IncidentStep::Mitigated => IncidentMove::Mitigated,
        IncidentStep::Resolved => IncidentMove::Resolved,
        IncidentStep::Reopened => IncidentMove::Reopened,
        IncidentStep::Merged { .. } => IncidentMove::Merged,
        IncidentStep::Cancelled => IncidentMove::Cancelled,
    }
}
