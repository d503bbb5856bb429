//! Which deployments succeeded, in which order, and what ran after each.
use std::{cmp::Ordering, ops::Bound};

use waybill_core::event::{Operation, Outcome};

use super::Known;
use crate::facts::{
    claims::{Family, Slot, UNTIMED},
    column::NONE,
    families::{BuildRow, DeploymentMove, DeploymentRow},
    lanes::{LaneKey, id_order},
    subjects::{RevisionRef, Role, SubjectKind, Target},
    text::Symbol,
};

/// One successful deployment: what a service ran in an environment from a moment on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) deployment: u32,
    /// The event that tells of its end.
    pub(crate) slot: Slot,
    /// Nanoseconds.
    pub(crate) time: i64,
}

/// What ran afterwards in one repository.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) repository: Symbol,
    pub(crate) commit: Result<u32, HeadUnknown>,
    /// How it is known: `recorded`, `artifact`, `release`.
    pub(crate) method: &'static str,
}

/// Why a head is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadUnknown {
    /// An abbreviated id means no recorded commit, or several.
    Abbreviated,
    /// Several commits of one repository are named.
    Several,
}

/// What the events of one deployment say, the one that ended it first.
pub(crate) struct Told<'a>(pub(crate) Vec<(Slot, &'a DeploymentRow)>);

impl<'a> Told<'a> {
    pub(crate) fn rows(&self) -> impl Iterator<Item = &'a DeploymentRow> + '_ {
        self.0.iter().map(|(_, row)| *row)
    }

    fn find(&self, wanted: impl Fn(&DeploymentRow) -> bool) -> Option<&'a DeploymentRow> {
        self.rows().find(|row| wanted(row))
    }
}

impl<'a> Known<'a> {
    /// Successful deployments of a lane from `first` (nanoseconds) until now, in the order in which they ended.
    pub(crate) fn runs(&self, lane: u32, first: i64) -> impl Iterator<Item = Run> + use<'a> {
        let known = *self;
        let from = (first.max(UNTIMED + 1), 0, 0);
        let finished = &self.facts.lanes.at(lane).finished;
        finished
            .range(from..)
            .take_while(move |key| key.0 <= known.now)
            .filter_map(move |key| known.run_of(key))
    }

    /// Successful deployments of a lane that ended before another (or before now), the latest first.
    pub(crate) fn runs_before(
        &self,
        lane: u32,
        before: Option<&Run>,
    ) -> impl Iterator<Item = Run> + use<'a> {
        let known = *self;
        let end = match before {
            Some(run) => {
                let name = self.facts.subjects.at(run.deployment).name;
                Bound::Excluded((run.time, id_order(&self.text(name)), 0))
            }
            None => Bound::Included((self.now, u32::MAX, NONE)),
        };
        let start = Bound::Excluded((UNTIMED, u32::MAX, NONE));
        let finished = &self.facts.lanes.at(lane).finished;
        finished
            .range((start, end))
            .rev()
            .filter_map(move |key| known.run_of(key))
    }

    /// The order of a lane.
    pub(crate) fn run_order(&self, a: &Run, b: &Run) -> Ordering {
        let id = |run: &Run| id_order(&self.text(self.facts.subjects.at(run.deployment).name));
        a.time.cmp(&b.time).then_with(|| id(a).cmp(&id(b)))
    }

    /// A deployment counts once, at its first success, however often it was run again.
    fn run_of(&self, (time, _, slot): &LaneKey) -> Option<Run> {
        let row = self.success(*slot)?;
        let first = self.first_success(row.deployment, row.lane)?;
        (first == *slot).then_some(Run {
            deployment: row.deployment,
            slot: *slot,
            time: *time,
        })
    }

    fn success(&self, slot: Slot) -> Option<&'a DeploymentRow> {
        let row = self.deployment_row(slot)?;
        let counts = row.moved == DeploymentMove::Finished(Outcome::Success)
            && counted_operation(row.operation)
            && self.holds(slot)
            && self.occur(slot) != UNTIMED;
        counts.then_some(row)
    }

    /// The event of the first success of a deployment in a lane.
    pub(crate) fn first_success(&self, deployment: u32, lane: u32) -> Option<Slot> {
        let mut ends = self
            .facts
            .subjects
            .mentions_of(deployment)
            .filter(|mention| mention.role == Role::About)
            .map(|mention| mention.slot)
            .filter(|slot| self.success(*slot).is_some_and(|row| row.lane == lane));
        let first = ends.next()?;
        Some(ends.fold(first, |first, slot| {
            let earlier = self.occur(slot).cmp(&self.occur(first));
            let better = earlier.is_lt() || (earlier.is_eq() && self.outranks(slot, first).is_gt());
            if better { slot } else { first }
        }))
    }

    pub(crate) fn deployment_row(&self, slot: Slot) -> Option<&'a DeploymentRow> {
        let row = self.facts.claims.row(slot);
        match row.family {
            Family::Deployment => self.facts.deployments.get(row.content as usize),
            _ => None,
        }
    }

    /// Holding events of a deployment in a lane, the given one first, then the latest first.
    pub(crate) fn told_of(&self, slot: Slot) -> Told<'a> {
        let Some(row) = self.deployment_row(slot) else {
            return Told(Vec::new());
        };
        let mut told: Vec<(Slot, &DeploymentRow)> = self
            .mentions_of(row.deployment)
            .filter(|mention| mention.role == Role::About && mention.slot != slot)
            .filter_map(|mention| Some((mention.slot, self.deployment_row(mention.slot)?)))
            .filter(|(_, other)| other.lane == row.lane)
            .collect();
        told.sort_by(|a, b| self.later(a.0, b.0));
        told.insert(0, (slot, row));
        Told(told)
    }

    /// What runs after a deployment, one for each repository, by repository name. Empty when nothing says.
    ///
    /// Its revisions where an event of it names any, else the sources of its artifacts, else those of its release.
    pub(crate) fn heads(&self, told: &Told<'a>) -> Vec<Head> {
        let subjects = &self.facts.subjects;
        if let Some(row) = told.find(|row| !subjects.items(row.revisions).is_empty()) {
            let revisions: Vec<RevisionRef> = subjects.revisions(row.revisions).collect();
            return self.one_per_repository(&revisions, "recorded");
        }
        if let Some(row) = told.find(|row| !subjects.items(row.artifacts).is_empty()) {
            let artifacts = subjects.items(row.artifacts).iter();
            let sources: Vec<RevisionRef> = artifacts
                .flat_map(|artifact| self.sources(*artifact))
                .collect();
            if !sources.is_empty() {
                return self.one_per_repository(&sources, "artifact");
            }
        }
        let release = told.rows().find_map(|row| self.release_of(row));
        let revisions = release.map_or_else(Vec::new, |release| self.release_revisions(release));
        self.one_per_repository(&revisions, "release")
    }

    /// The release that a deployment names by its version, where anything is known of it.
    pub(crate) fn release_of(&self, row: &DeploymentRow) -> Option<u32> {
        let service = self.facts.lanes.at(row.lane).service();
        let subjects = &self.facts.subjects;
        subjects.find(SubjectKind::Release, service, row.version)
    }

    /// What an artifact was made from, as it says itself or as its builds say; may repeat.
    pub(crate) fn sources(&self, artifact: u32) -> Vec<RevisionRef> {
        let mut found = Vec::new();
        for mention in self.mentions_of(artifact) {
            let row = self.facts.claims.row(mention.slot);
            match (mention.role, row.family) {
                (Role::About, Family::Artifact) => {
                    let row = &self.facts.artifacts[row.content as usize];
                    found.extend(self.facts.subjects.revisions(row.sources));
                    if row.build != NONE {
                        found.extend(self.build_sources(row.build));
                    }
                }
                (Role::Makes, Family::Build) => {
                    let build = self.facts.builds[row.content as usize].build;
                    found.extend(self.build_sources(build));
                }
                _ => {}
            }
        }
        found
    }

    pub(crate) fn build_sources(&self, build: u32) -> Vec<RevisionRef> {
        self.build_rows(build)
            .flat_map(|(_, row)| self.facts.subjects.revisions(row.sources))
            .collect()
    }

    pub(crate) fn build_rows(&self, build: u32) -> impl Iterator<Item = (Slot, &'a BuildRow)> {
        let facts = self.facts;
        self.mentions_of(build).filter_map(move |mention| {
            let row = facts.claims.row(mention.slot);
            let about = mention.role == Role::About && row.family == Family::Build;
            about.then(|| (mention.slot, &facts.builds[row.content as usize]))
        })
    }

    pub(crate) fn release_revisions(&self, release: u32) -> Vec<RevisionRef> {
        let mut found = Vec::new();
        for mention in self.mentions_of(release) {
            let row = self.facts.claims.row(mention.slot);
            if mention.role == Role::About && row.family == Family::Release {
                let row = &self.facts.releases[row.content as usize];
                found.extend(self.facts.subjects.revisions(row.revisions));
            }
        }
        found
    }

    fn one_per_repository(&self, revisions: &[RevisionRef], method: &'static str) -> Vec<Head> {
        let mut heads: Vec<Head> = Vec::new();
        for revision in revisions {
            let Some(repository) = self.repository_of(*revision) else {
                continue;
            };
            let commit = self.resolve(*revision).ok_or(HeadUnknown::Abbreviated);
            match heads.iter_mut().find(|head| head.repository == repository) {
                None => heads.push(Head {
                    repository,
                    commit,
                    method,
                }),
                Some(head) if head.commit == commit => {}
                Some(head) => head.commit = Err(HeadUnknown::Several),
            }
        }
        if heads.len() > 1 {
            heads.sort_by_cached_key(|head| self.text(head.repository));
        }
        heads
    }

    pub(crate) fn repository_of(&self, revision: RevisionRef) -> Option<Symbol> {
        match revision.target()? {
            Target::Node(node) => Some(self.facts.graph.at(node).repository),
            Target::Short(short) => Some(self.facts.subjects.short_at(short).repository),
        }
    }
}

/// Whether an operation puts a version there. Taking a service away, and changing only its configuration, data or
/// machines, does not.
pub(crate) fn counted_operation(operation: Operation) -> bool {
    match operation {
        Operation::Deploy
        | Operation::Upgrade
        | Operation::Rollback
        | Operation::Publish
        | Operation::Unknown => true,
        Operation::Remove
        | Operation::Config
        | Operation::Migration
        | Operation::Infrastructure => false,
    }
}
