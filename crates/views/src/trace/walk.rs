//! Follows edges downstream and upstream from one thing.
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use waybill_core::{Entity, event::LinkMethod};

use super::{Relation, carriers::carriers, resolve::thing_named};
use crate::{
    facts::{
        claims::{Family, Slot},
        column::NONE,
        families::{ChangeMove, ChangeRow, DeploymentRow, LinkRow},
        subjects::{RevisionRef, Role, SubjectKind},
        text::Symbol,
    },
    known::{ChangeSets, Known, Run, SetUnknown, Told},
};

/// One thing on the way. Its number follows arrival: no answer is ordered by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Thing {
    Commit(u32),
    Subject(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Down,
    Up,
}

/// What was found on the way.
#[derive(Debug, Default)]
pub(super) struct Walked {
    pub(super) things: BTreeSet<Thing>,
    /// How each edge is known, and the events that say so.
    pub(super) edges: BTreeMap<(Thing, Thing, Relation), (&'static str, BTreeSet<Slot>)>,
    pub(super) missing: BTreeSet<Missing>,
    /// Commits of change sets that were counted and not followed.
    pub(super) omitted_count: u64,
}

/// An edge that is not known, before it is put into words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Missing {
    /// A commit is only named.
    Commit(Thing),
    /// No change names a commit.
    Change(Thing),
    /// Some parents of a commit are not recorded; the commit is the end of what was imported where `true`.
    Parents(Thing, bool),
    /// No deployment has a commit.
    Deployment(Thing),
    /// A merged change does not name the commit it became.
    MergeRevision(Thing),
    /// Nothing says what a deployment runs.
    Revision(Thing),
    /// What a deployment brought.
    ChangeSet(Thing, SetUnknown),
    /// Nothing says what an incident came from.
    Cause(Thing),
    /// Nothing says what a build, an artifact or a release was made from.
    Source(Thing),
}

struct Walker<'a> {
    known: &'a Known<'a>,
    out: Walked,
    seen: BTreeSet<(Thing, Way)>,
    open: VecDeque<(Thing, Way)>,
    max_nodes: usize,
}

/// Everything downstream of `start`, and everything upstream of it.
pub(super) fn walk(known: &Known<'_>, start: Thing, max_nodes: usize) -> Walked {
    let mut walker = Walker {
        known,
        out: Walked::default(),
        seen: BTreeSet::new(),
        open: VecDeque::new(),
        max_nodes,
    };
    walker.out.things.insert(start);
    for way in [Way::Down, Way::Up] {
        walker.follow(start, way);
        while let Some((thing, way)) = walker.open.pop_front() {
            walker.step(thing, way);
        }
    }
    let mut out = walker.out;
    // A squashed commit is deployed as the commit it became: what is missing is a deployment of any of them.
    let deployed = out.edges.keys().any(|(from, _, relation)| {
        matches!(from, Thing::Commit(_)) && *relation == Relation::DeployedBy
    });
    if deployed {
        out.missing
            .retain(|missing| !matches!(missing, Missing::Deployment(_)));
    }
    out
}

impl<'a> Walker<'a> {
    fn follow(&mut self, thing: Thing, way: Way) {
        self.out.things.insert(thing);
        if self.seen.insert((thing, way)) {
            self.open.push_back((thing, way));
        }
    }

    fn edge(
        &mut self,
        (from, to): (Thing, Thing),
        relation: Relation,
        method: &'static str,
        slots: impl IntoIterator<Item = Slot>,
    ) {
        self.out.things.extend([from, to]);
        let entry = self.out.edges.entry((from, to, relation));
        let (known_by, events) = entry.or_insert_with(|| (method, BTreeSet::new()));
        // What an event says goes before what is worked out; never who came first.
        let weak = |method: &'static str| (method != "recorded", method == "change set", method);
        if weak(method) < weak(known_by) {
            *known_by = method;
        }
        events.extend(slots);
    }

    fn step(&mut self, thing: Thing, way: Way) {
        match (thing, way) {
            (Thing::Commit(node), Way::Down) => self.commit_down(node),
            (Thing::Commit(node), Way::Up) => self.commit_up(node),
            (Thing::Subject(at), way) => match (self.known.facts.subjects.at(at).kind, way) {
                (SubjectKind::Change, Way::Down) => self.change_down(at),
                (SubjectKind::Change, Way::Up) => self.change_up(at),
                (SubjectKind::Build, Way::Down) => self.build_down(at),
                (SubjectKind::Build, Way::Up) => self.build_up(at),
                (SubjectKind::Artifact, Way::Down) => self.artifact_down(at),
                (SubjectKind::Artifact, Way::Up) => self.artifact_up(at),
                (SubjectKind::Release, Way::Down) => self.release_down(at),
                (SubjectKind::Release, Way::Up) => self.release_up(at),
                (SubjectKind::Deployment, Way::Down) => self.deployment_down(at),
                (SubjectKind::Deployment, Way::Up) => self.deployment_up(at),
                (
                    SubjectKind::Flag
                    | SubjectKind::Incident
                    | SubjectKind::Link
                    | SubjectKind::Entity,
                    _,
                ) => {}
            },
        }
        self.links(thing, way);
    }

    fn commit_down(&mut self, node: u32) {
        let this = Thing::Commit(node);
        let mut in_a_change = false;
        for mention in self.known.mentions_of_commit(node) {
            let row = self.known.facts.claims.row(mention.slot);
            let content = row.content as usize;
            match (mention.role, row.family) {
                (role @ (Role::Member | Role::Head), Family::Change) => {
                    in_a_change = true;
                    let change = Thing::Subject(self.known.facts.changes[content].change);
                    let method = if role == Role::Member {
                        "recorded"
                    } else {
                        "head revision"
                    };
                    self.edge((this, change), Relation::PartOf, method, [mention.slot]);
                    self.follow(change, Way::Down);
                }
                (Role::Merge, Family::Change) => in_a_change = true,
                (Role::Source, Family::Build) => {
                    let build = Thing::Subject(self.known.facts.builds[content].build);
                    self.edge((this, build), Relation::BuiltBy, "recorded", [mention.slot]);
                    self.follow(build, Way::Down);
                }
                (Role::Source, Family::Artifact) => {
                    let artifact = Thing::Subject(self.known.facts.artifacts[content].artifact);
                    self.edge(
                        (this, artifact),
                        Relation::PackagedAs,
                        "recorded",
                        [mention.slot],
                    );
                    self.follow(artifact, Way::Down);
                }
                (Role::Source, Family::Release) => {
                    let release = Thing::Subject(self.known.facts.releases[content].release);
                    self.edge(
                        (this, release),
                        Relation::ReleasedIn,
                        "recorded",
                        [mention.slot],
                    );
                    self.follow(release, Way::Down);
                }
                (role, Family::Commit) => self.sibling(node, role, mention.slot),
                _ => {}
            }
        }
        if !in_a_change {
            self.out.missing.insert(Missing::Change(this));
        }
        self.say_what_is_not_recorded(node);
        self.deployed(node);
    }

    /// Another commit says that it reverts, repairs or repeats this one.
    fn sibling(&mut self, node: u32, role: Role, slot: Slot) {
        let Some(other) = self.known.facts.commit_row(slot).map(|row| row.node) else {
            return;
        };
        let (this, other) = (Thing::Commit(node), Thing::Commit(other));
        match role {
            Role::Reverts => self.edge((this, other), Relation::RevertedBy, "trailer", [slot]),
            Role::Fixes => self.edge((this, other), Relation::FixedBy, "trailer", [slot]),
            Role::Picks => {
                self.edge((this, other), Relation::PickedAs, "trailer", [slot]);
                self.follow(other, Way::Down);
            }
            _ => {}
        }
    }

    fn deployed(&mut self, node: u32) {
        let this = Thing::Commit(node);
        let carried = carriers(self.known, node);
        if carried.is_empty() {
            self.out.missing.insert(Missing::Deployment(this));
        }
        for carried in carried {
            let deployment = Thing::Subject(carried.by.deployment);
            let told = self.known.told_of(carried.by.slot);
            let heads = self.known.heads(&told);
            let head = heads.iter().find(|head| head.commit == Ok(node));
            let method = head.map_or("change set", |head| head.method);
            self.edge(
                (this, deployment),
                Relation::DeployedBy,
                method,
                [carried.by.slot],
            );
            self.follow(deployment, Way::Down);
            self.shipped_in(this, &told);
            if let Some(removed_by) = carried.removed_by {
                let other = Thing::Subject(removed_by.deployment);
                let edge = (deployment, other);
                self.edge(
                    edge,
                    Relation::RolledBackBy,
                    "change set",
                    [removed_by.slot],
                );
            }
        }
    }

    /// The builds, artifacts and releases in which a commit reached a deployment, though only its head names them.
    fn shipped_in(&mut self, commit: Thing, told: &Told<'_>) {
        let facts = self.known.facts;
        for (slot, row) in &told.0 {
            for artifact in facts.subjects.items(row.artifacts) {
                let thing = Thing::Subject(*artifact);
                self.edge(
                    (thing, Thing::Subject(row.deployment)),
                    Relation::DeployedBy,
                    "recorded",
                    [*slot],
                );
                for (build, slots) in self.builds_of(*artifact) {
                    let build = Thing::Subject(build);
                    self.edge((build, thing), Relation::PackagedAs, "recorded", slots);
                    self.edge((commit, build), Relation::BuiltBy, "change set", []);
                }
            }
            if let Some(release) = self.known.release_of(row) {
                let release = Thing::Subject(release);
                let edge = (release, Thing::Subject(row.deployment));
                self.edge(edge, Relation::DeployedBy, "version", [*slot]);
                self.edge((commit, release), Relation::ReleasedIn, "change set", []);
            }
        }
    }

    fn say_what_is_not_recorded(&mut self, node: u32) {
        let this = Thing::Commit(node);
        let Some(row) = self.known.commit(node) else {
            self.out.missing.insert(Missing::Commit(this));
            return;
        };
        let parents = self.known.facts.graph.parents_of(row);
        if row.boundary || parents.iter().any(|p| self.known.commit(*p).is_none()) {
            self.out
                .missing
                .insert(Missing::Parents(this, row.boundary));
        }
    }

    fn commit_up(&mut self, node: u32) {
        let this = Thing::Commit(node);
        self.changes_of(node);
        self.say_what_is_not_recorded(node);
        let Some(row) = self.known.commit(node) else {
            return;
        };
        let (slot, facts) = (row.slot, self.known.facts);
        let Some(marks) = facts.marks.get(&slot) else {
            return;
        };
        let named = [
            (marks.reverts, Relation::RevertedBy),
            (marks.fixes, Relation::FixedBy),
            (marks.picks, Relation::PickedAs),
        ];
        for (list, relation) in named {
            for revision in facts.subjects.revisions(list) {
                if let Some(other) = self.known.resolve(revision) {
                    self.edge((Thing::Commit(other), this), relation, "trailer", [slot]);
                }
            }
        }
    }

    /// The changes that a commit belongs to, without their other commits unless it is what they became.
    fn changes_of(&mut self, node: u32) {
        let this = Thing::Commit(node);
        for mention in self.known.mentions_of_commit(node) {
            let row = self.known.facts.claims.row(mention.slot);
            if row.family != Family::Change {
                continue;
            }
            let change = self.known.facts.changes[row.content as usize].change;
            let change = Thing::Subject(change);
            match mention.role {
                Role::Merge => {
                    let edge = (change, this);
                    self.edge(edge, Relation::MergedAs, "merge revision", [mention.slot]);
                    self.follow(change, Way::Up);
                }
                Role::Member => {
                    self.edge((this, change), Relation::PartOf, "recorded", [mention.slot]);
                }
                Role::Head => {
                    self.edge(
                        (this, change),
                        Relation::PartOf,
                        "head revision",
                        [mention.slot],
                    );
                }
                _ => {}
            }
        }
    }

    fn change_rows(&self, change: u32) -> Vec<(Slot, &'a ChangeRow)> {
        let facts = self.known.facts;
        let about = self.known.mentions_of(change).filter_map(|mention| {
            let row = facts.claims.row(mention.slot);
            let about = mention.role == Role::About && row.family == Family::Change;
            about.then(|| (mention.slot, &facts.changes[row.content as usize]))
        });
        about.collect()
    }

    fn change_down(&mut self, change: u32) {
        let this = Thing::Subject(change);
        let rows = self.change_rows(change);
        let merged = rows
            .iter()
            .filter(|(_, row)| row.moved == ChangeMove::Merged);
        let mut merge_known = true;
        for (slot, row) in merged {
            merge_known = false;
            if let Some(node) = self.known.resolve(row.merge) {
                merge_known = true;
                let commit = Thing::Commit(node);
                self.edge(
                    (this, commit),
                    Relation::MergedAs,
                    "merge revision",
                    [*slot],
                );
                self.follow(commit, Way::Down);
            }
        }
        if !merge_known {
            self.out.missing.insert(Missing::MergeRevision(this));
            // Then its own commits are all that can be followed.
            for (commit, _, _) in self.own_commits(&rows) {
                self.follow(Thing::Commit(commit), Way::Down);
            }
        }
        let released = self.known.mentions_of(change);
        let released: Vec<Slot> = released
            .filter(|mention| mention.role == Role::Contains)
            .map(|mention| mention.slot)
            .collect();
        for slot in released {
            let content = self.known.facts.claims.row(slot).content as usize;
            let release = Thing::Subject(self.known.facts.releases[content].release);
            self.edge((this, release), Relation::ReleasedIn, "recorded", [slot]);
            self.follow(release, Way::Down);
        }
    }

    fn change_up(&mut self, change: u32) {
        let this = Thing::Subject(change);
        let rows = self.change_rows(change);
        for (commit, slot, method) in self.own_commits(&rows) {
            let commit = Thing::Commit(commit);
            self.edge((commit, this), Relation::PartOf, method, [slot]);
            self.follow(commit, Way::Up);
        }
    }

    /// Commits that a change says are its own.
    fn own_commits(&self, rows: &[(Slot, &ChangeRow)]) -> Vec<(u32, Slot, &'static str)> {
        let mut own = Vec::new();
        for (slot, row) in rows {
            let members = self.known.facts.subjects.revisions(row.commits);
            let members = members.map(|revision| (revision, "recorded"));
            for (revision, method) in members.chain([(row.head, "head revision")]) {
                if let Some(node) = self.known.resolve(revision) {
                    own.push((node, *slot, method));
                }
            }
        }
        own
    }

    fn build_down(&mut self, build: u32) {
        let this = Thing::Subject(build);
        let rows: Vec<_> = self.known.build_rows(build).collect();
        for (slot, row) in rows {
            for artifact in self.known.facts.subjects.items(row.artifacts) {
                let artifact = Thing::Subject(*artifact);
                self.edge((this, artifact), Relation::PackagedAs, "recorded", [slot]);
                self.follow(artifact, Way::Down);
            }
        }
        let made: Vec<Slot> = self
            .known
            .mentions_of(build)
            .filter(|mention| mention.role == Role::BuiltBy)
            .map(|mention| mention.slot)
            .collect();
        for slot in made {
            let content = self.known.facts.claims.row(slot).content as usize;
            let artifact = Thing::Subject(self.known.facts.artifacts[content].artifact);
            self.edge((this, artifact), Relation::PackagedAs, "recorded", [slot]);
            self.follow(artifact, Way::Down);
        }
    }

    fn build_up(&mut self, build: u32) {
        let this = Thing::Subject(build);
        let rows: Vec<_> = self.known.build_rows(build).collect();
        let mut any = false;
        for (slot, row) in rows {
            for revision in self.known.facts.subjects.revisions(row.sources) {
                any |= self.came_from(this, revision, Relation::BuiltBy, slot);
            }
        }
        if !any {
            self.out.missing.insert(Missing::Source(this));
        }
    }

    /// An edge from a commit; true when it is known which.
    fn came_from(
        &mut self,
        thing: Thing,
        revision: RevisionRef,
        relation: Relation,
        slot: Slot,
    ) -> bool {
        let Some(node) = self.known.resolve(revision) else {
            return false;
        };
        self.edge((Thing::Commit(node), thing), relation, "recorded", [slot]);
        self.follow(Thing::Commit(node), Way::Up);
        true
    }

    fn artifact_down(&mut self, artifact: u32) {
        let this = Thing::Subject(artifact);
        for (slot, row) in self.running(artifact) {
            let deployment = Thing::Subject(row.deployment);
            self.edge((this, deployment), Relation::DeployedBy, "recorded", [slot]);
            self.follow(deployment, Way::Down);
        }
    }

    /// Deployments that run an artifact or a release.
    fn running(&self, subject: u32) -> Vec<(Slot, &'a DeploymentRow)> {
        let runs = self.known.mentions_of(subject);
        let runs = runs.filter(|mention| mention.role == Role::Runs);
        runs.filter_map(|mention| Some((mention.slot, self.known.deployment_row(mention.slot)?)))
            .collect()
    }

    fn artifact_up(&mut self, artifact: u32) {
        let this = Thing::Subject(artifact);
        let mut any = false;
        for (build, slots) in self.builds_of(artifact) {
            any = true;
            let build = Thing::Subject(build);
            self.edge((build, this), Relation::PackagedAs, "recorded", slots);
            self.follow(build, Way::Up);
        }
        let said: Vec<Slot> = self
            .known
            .mentions_of(artifact)
            .filter(|mention| mention.role == Role::About)
            .map(|mention| mention.slot)
            .collect();
        for slot in said {
            let row = self.known.facts.claims.row(slot);
            if row.family != Family::Artifact {
                continue;
            }
            let sources = self.known.facts.artifacts[row.content as usize].sources;
            for revision in self.known.facts.subjects.revisions(sources) {
                any |= self.came_from(this, revision, Relation::PackagedAs, slot);
            }
        }
        if !any {
            self.out.missing.insert(Missing::Source(this));
        }
    }

    fn builds_of(&self, artifact: u32) -> BTreeMap<u32, Vec<Slot>> {
        let facts = self.known.facts;
        let mut builds: BTreeMap<u32, Vec<Slot>> = BTreeMap::new();
        for mention in self.known.mentions_of(artifact) {
            let row = facts.claims.row(mention.slot);
            let build = match (mention.role, row.family) {
                (Role::Makes, Family::Build) => facts.builds[row.content as usize].build,
                (Role::About, Family::Artifact) => facts.artifacts[row.content as usize].build,
                _ => NONE,
            };
            if build != NONE {
                builds.entry(build).or_default().push(mention.slot);
            }
        }
        builds
    }

    fn release_down(&mut self, release: u32) {
        let this = Thing::Subject(release);
        for (slot, row) in self.running(release) {
            let deployment = Thing::Subject(row.deployment);
            self.edge((this, deployment), Relation::DeployedBy, "version", [slot]);
            self.follow(deployment, Way::Down);
        }
    }

    fn release_up(&mut self, release: u32) {
        let this = Thing::Subject(release);
        let said: Vec<Slot> = self
            .known
            .mentions_of(release)
            .filter(|mention| mention.role == Role::About)
            .map(|mention| mention.slot)
            .collect();
        let mut any = false;
        for slot in said {
            let content = self.known.facts.claims.row(slot).content as usize;
            let row = self.known.facts.releases[content];
            for revision in self.known.facts.subjects.revisions(row.revisions) {
                any |= self.came_from(this, revision, Relation::ReleasedIn, slot);
            }
            for change in self.known.facts.subjects.items(row.changes) {
                let change = Thing::Subject(*change);
                self.edge((change, this), Relation::ReleasedIn, "recorded", [slot]);
                self.follow(change, Way::Up);
            }
        }
        if !any {
            self.out.missing.insert(Missing::Source(this));
        }
    }

    fn deployment_down(&mut self, deployment: u32) {
        let this = Thing::Subject(deployment);
        let undone = self.known.mentions_of(deployment);
        let undone: Vec<Slot> = undone
            .filter(|mention| mention.role == Role::RollsBack)
            .map(|mention| mention.slot)
            .collect();
        for slot in undone {
            if let Some(row) = self.known.deployment_row(slot) {
                let other = Thing::Subject(row.deployment);
                self.edge((this, other), Relation::RolledBackBy, "recorded", [slot]);
            }
        }
    }

    fn deployment_up(&mut self, deployment: u32) {
        let this = Thing::Subject(deployment);
        for (slot, row) in self.deployment_rows(deployment) {
            for artifact in self.known.facts.subjects.items(row.artifacts) {
                let artifact = Thing::Subject(*artifact);
                self.edge((artifact, this), Relation::DeployedBy, "recorded", [slot]);
                self.follow(artifact, Way::Up);
            }
            if let Some(release) = self.known.release_of(row) {
                let release = Thing::Subject(release);
                self.edge((release, this), Relation::DeployedBy, "version", [slot]);
                self.follow(release, Way::Up);
            }
            if row.rollback_of != NONE {
                let undone = Thing::Subject(row.rollback_of);
                self.edge((undone, this), Relation::RolledBackBy, "recorded", [slot]);
            }
        }
        let lanes: BTreeSet<u32> = self
            .deployment_rows(deployment)
            .iter()
            .map(|(_, row)| row.lane)
            .collect();
        for lane in lanes {
            self.brought(deployment, lane);
        }
    }

    fn deployment_rows(&self, deployment: u32) -> Vec<(Slot, &'a DeploymentRow)> {
        let about = self.known.mentions_of(deployment);
        let about = about.filter(|mention| mention.role == Role::About);
        about
            .filter_map(|mention| Some((mention.slot, self.known.deployment_row(mention.slot)?)))
            .collect()
    }

    /// The commits that a deployment put into a lane: its change set where that is known, else its head alone.
    fn brought(&mut self, deployment: u32, lane: u32) {
        let this = Thing::Subject(deployment);
        let known = self.known;
        let end = known
            .first_success(deployment, lane)
            .filter(|slot| known.past(*slot));
        let rows = self.deployment_rows(deployment);
        let in_lane = rows.iter().filter(|(_, row)| row.lane == lane);
        let latest = in_lane
            .map(|(slot, _)| *slot)
            .min_by(|a, b| known.later(*a, *b));
        let Some(slot) = end.or(latest) else {
            return;
        };
        let told = known.told_of(slot);
        let heads = known.heads(&told);
        if heads.is_empty() {
            self.out.missing.insert(Missing::Revision(this));
        }
        let run = Run {
            deployment,
            slot,
            time: known.occur(slot),
        };
        let mut sets = end
            .map(|_| self.sets_before(lane, &run, &heads.iter().map(|h| h.repository).collect()));
        for head in &heads {
            if let Ok(node) = head.commit {
                self.edge(
                    (Thing::Commit(node), this),
                    Relation::DeployedBy,
                    head.method,
                    [slot],
                );
                self.follow(Thing::Commit(node), Way::Up);
            } else {
                self.out
                    .missing
                    .insert(Missing::ChangeSet(this, SetUnknown::HeadUnclear));
            }
            match sets.as_mut().map(|sets| sets.brought(known, &told, head)) {
                Some(Ok(range)) => self.brought_commits(this, slot, range.commits),
                Some(Err(unknown)) => {
                    self.out.missing.insert(Missing::ChangeSet(this, unknown));
                }
                None => {}
            }
        }
    }

    /// The state of a lane before a run, as far as the run's repositories need it.
    fn sets_before(&self, lane: u32, run: &Run, repositories: &BTreeSet<Symbol>) -> ChangeSets {
        let known = self.known;
        let mut wanted = repositories.clone();
        let mut before = Vec::new();
        for earlier in known.runs_before(lane, Some(run)) {
            if wanted.is_empty() {
                break;
            }
            let told = known.told_of(earlier.slot);
            let heads = known.heads(&told);
            match heads.is_empty() {
                true => wanted.clear(),
                false => heads
                    .iter()
                    .for_each(|head| _ = wanted.remove(&head.repository)),
            }
            before.push((told, heads));
        }
        let mut sets = ChangeSets::default();
        for (told, heads) in before.iter().rev() {
            sets.pass(known, told, heads);
        }
        sets
    }

    /// The newest commits of a change set, by their own time; the rest is counted.
    fn brought_commits(&mut self, deployment: Thing, slot: Slot, mut commits: Vec<u32>) {
        if commits.len() > self.max_nodes {
            let known = self.known;
            let age = |node: &u32| {
                let occur = known.commit(*node).map(|row| known.occur(row.slot));
                (std::cmp::Reverse(occur), known.facts.graph.id(*node))
            };
            commits.sort_by_cached_key(age);
            self.out.omitted_count += (commits.len() - self.max_nodes) as u64;
            commits.truncate(self.max_nodes);
        }
        for node in commits {
            let commit = Thing::Commit(node);
            self.edge(
                (commit, deployment),
                Relation::DeployedBy,
                "change set",
                [slot],
            );
            self.follow(commit, Way::Up);
        }
    }

    /// Links that stand, in the direction of the walk.
    fn links(&mut self, thing: Thing, way: Way) {
        let facts = self.known.facts;
        let is_incident = matches!(thing, Thing::Subject(at) if facts.subjects.at(at).kind == SubjectKind::Incident);
        let mut any = false;
        for (slot, row) in self.links_at(thing, way) {
            let other = if way == Way::Down { row.to } else { row.from };
            let Some(other) = self.thing_of(other) else {
                continue;
            };
            any = true;
            let ends = if way == Way::Down {
                (thing, other)
            } else {
                (other, thing)
            };
            self.edge(ends, Relation::LedTo, link_method(row.method), [slot]);
            self.follow(other, way);
        }
        if is_incident && way == Way::Up && !any {
            self.out.missing.insert(Missing::Cause(thing));
        }
    }

    fn links_at(&self, thing: Thing, way: Way) -> Vec<(Slot, &'a LinkRow)> {
        let facts = self.known.facts;
        if facts.links.is_empty() {
            return Vec::new();
        }
        let name = match thing {
            Thing::Commit(node) => self.known.commit_name(node),
            Thing::Subject(at) => self.known.subject_name(at),
        };
        let entity = facts
            .symbols
            .find(&name)
            .and_then(|name| facts.subjects.find(SubjectKind::Entity, Symbol::NONE, name));
        let wanted = if way == Way::Down {
            Role::LinksFrom
        } else {
            Role::LinksTo
        };
        let mentions = entity
            .into_iter()
            .flat_map(|entity| self.known.mentions_of(entity));
        let rows = mentions
            .filter(|mention| mention.role == wanted)
            .map(|mention| {
                let row = facts.claims.row(mention.slot);
                (mention.slot, &facts.links[row.content as usize])
            });
        rows.filter(|(slot, row)| self.stands(*slot, row)).collect()
    }

    /// A link stands while its latest event asserts it: this one.
    fn stands(&self, slot: Slot, row: &LinkRow) -> bool {
        let about = self.known.mentions_of(row.link);
        let about = about.filter(|mention| mention.role == Role::About);
        let latest = about
            .map(|mention| mention.slot)
            .min_by(|a, b| self.known.later(*a, *b));
        latest == Some(slot)
    }

    fn thing_of(&self, entity: u32) -> Option<Thing> {
        let name = self.known.subject_name(entity);
        let parsed = Entity::parse(&name).ok()?;
        // Something that only the link speaks of is still worth showing.
        thing_named(self.known, &parsed).or(Some(Thing::Subject(entity)))
    }
}

fn link_method(method: LinkMethod) -> &'static str {
    match method {
        LinkMethod::Explicit => "explicit",
        LinkMethod::Tool => "tool",
        LinkMethod::TimeWindow => "time window",
        LinkMethod::Revert => "revert",
        LinkMethod::Rollback => "rollback",
        LinkMethod::Hotfix => "hotfix",
        LinkMethod::Unknown => "link",
    }
}
