//! In which environments a commit runs, since when, and what took it out again.
use std::collections::BTreeMap;

use crate::{
    facts::{
        claims::{Family, Slot, UNTIMED},
        column::NONE,
        subjects::Role,
    },
    known::{Known, NodeMap, Run},
};

/// Up to so many descendants are looked at one by one; beyond, deployments are tried in the order of time.
const DESCENDANTS_MAX: usize = 128;
/// How many of the next deployments are looked at to see whether a commit was taken out again.
const LATER_RUNS_MAX: usize = 16;
/// A deployment that ended this long before a commit was made is not expected to carry it.
const SLACK_NANOS: i64 = 86_400_000_000_000;

/// What one lane did with a commit.
#[derive(Debug)]
pub(super) struct Carried {
    pub(super) by: Run,
    /// The next deployment that does not contain it, where that is among the next few.
    pub(super) removed_by: Option<Run>,
}

/// Who can reach a commit.
struct Reach<'a> {
    known: &'a Known<'a>,
    commit: u32,
    /// All descendants, where they are few.
    descendants: Option<NodeMap<()>>,
    /// Whether commits reach it, as far as tried.
    tried: NodeMap<bool>,
}

/// The first deployment of every lane whose head reaches a commit, and those that brought it back after it was taken
/// out. In no particular order.
pub(super) fn carriers(known: &Known<'_>, commit: u32) -> Vec<Carried> {
    let mut reach = Reach {
        known,
        commit,
        descendants: known.descendants(commit, DESCENDANTS_MAX),
        tried: NodeMap::default(),
    };
    let firsts: Vec<(u32, Run)> = match &reach.descendants {
        Some(descendants) => firsts_among(known, descendants).into_iter().collect(),
        None => {
            let lanes = known
                .facts
                .lanes
                .of_repository(known.facts.graph.at(commit).repository);
            lanes
                .into_iter()
                .filter_map(|lane| Some((lane, reach.first_in(lane)?)))
                .collect()
        }
    };
    firsts
        .into_iter()
        .flat_map(|(lane, first)| reach.follow(lane, first))
        .collect()
}

/// The first run of each lane whose head is one of `nodes`, by way of what is made from them.
fn firsts_among(known: &Known<'_>, nodes: &NodeMap<()>) -> BTreeMap<u32, Run> {
    let mut firsts: BTreeMap<u32, Run> = BTreeMap::new();
    for node in nodes.keys() {
        for slot in deployments_from(known, *node) {
            let Some(row) = known.deployment_row(slot) else {
                continue;
            };
            let Some(end) = known.first_success(row.deployment, row.lane) else {
                continue;
            };
            let run = Run {
                deployment: row.deployment,
                slot: end,
                time: known.occur(end),
            };
            let heads = known.heads(&known.told_of(end));
            let runs_it = heads
                .iter()
                .any(|head| head.commit.is_ok_and(|c| nodes.contains_key(&c)));
            if runs_it && run.time <= known.now {
                let first = firsts.entry(row.lane).or_insert(run);
                if known.run_order(&run, first).is_lt() {
                    *first = run;
                }
            }
        }
    }
    firsts
}

/// Deployment events that may run a commit: named, or by an artifact, a build or a release made from it.
fn deployments_from(known: &Known<'_>, node: u32) -> Vec<Slot> {
    let facts = known.facts;
    let mut deployments = Vec::new();
    let mut made = Vec::new();
    for mention in known.mentions_of_commit(node) {
        if mention.role != Role::Source {
            continue;
        }
        let row = facts.claims.row(mention.slot);
        let content = row.content as usize;
        match row.family {
            Family::Deployment => deployments.push(mention.slot),
            Family::Release => made.push(facts.releases[content].release),
            Family::Artifact => made.extend(artifact_names(known, mention.slot)),
            Family::Build => {
                let build = facts.builds[content].build;
                for (_, row) in known.build_rows(build) {
                    made.extend(facts.subjects.items(row.artifacts));
                }
                let built = known.mentions_of(build).filter(|m| m.role == Role::BuiltBy);
                made.extend(built.flat_map(|m| artifact_names(known, m.slot)));
            }
            _ => {}
        }
    }
    for subject in made {
        let runs = known.mentions_of(subject).filter(|m| m.role == Role::Runs);
        deployments.extend(runs.map(|mention| mention.slot));
    }
    deployments
}

/// An artifact's own subject, and the one of its name.
fn artifact_names(known: &Known<'_>, slot: Slot) -> Vec<u32> {
    let facts = known.facts;
    let row = facts.claims.row(slot);
    let Some(row) = facts.artifacts.get(row.content as usize) else {
        return Vec::new();
    };
    let kind = crate::facts::subjects::SubjectKind::Artifact;
    let alias = facts
        .subjects
        .find(kind, crate::facts::text::Symbol::NONE, row.name);
    [Some(row.artifact), alias]
        .into_iter()
        .flatten()
        .filter(|at| *at != NONE)
        .collect()
}

impl Reach<'_> {
    /// Whether a run contains the commit; none when nobody can say.
    fn contains(&mut self, run: &Run) -> Option<bool> {
        let known = self.known;
        let repository = known.facts.graph.at(self.commit).repository;
        let heads = known.heads(&known.told_of(run.slot));
        let head = heads
            .into_iter()
            .find(|head| head.repository == repository)?;
        let head = head.commit.ok()?;
        Some(match &self.descendants {
            Some(descendants) => descendants.contains_key(&head),
            None => known.reaches(head, self.commit, &mut self.tried),
        })
    }

    /// The first run of a lane that contains the commit. Runs long before the commit's own time are tried only when the
    /// last of them contains it: then a clock was wrong.
    fn first_in(&mut self, lane: u32) -> Option<Run> {
        let known = self.known;
        let made = known.commit(self.commit).map_or(UNTIMED, |row| {
            let occur = known.occur(row.slot);
            let commit = known.facts.graph.commit_time(row);
            let times = [row.author, commit, occur]
                .into_iter()
                .filter(|time| *time != UNTIMED);
            times.min().unwrap_or(UNTIMED)
        });
        let from = made.saturating_sub(SLACK_NANOS);
        let ahead = made > known.now;
        let start = if ahead { UNTIMED } else { from };
        let found = known
            .runs(lane, start)
            .find(|run| self.contains(run) == Some(true))?;
        let before = known
            .runs_before(lane, Some(&found))
            .find(|run| run.time < start);
        if before.is_some_and(|before| self.contains(&before) == Some(true)) {
            return known
                .runs(lane, UNTIMED)
                .find(|run| self.contains(run) == Some(true));
        }
        Some(found)
    }

    /// What the next runs of the lane did with the commit.
    fn follow(&mut self, lane: u32, first: Run) -> Vec<Carried> {
        let known = self.known;
        let mut story = vec![Carried {
            by: first,
            removed_by: None,
        }];
        let next = known.runs(lane, first.time);
        let next = next.filter(|run| known.run_order(run, &first).is_gt());
        for run in next.take(LATER_RUNS_MAX) {
            let Some(last) = story.last_mut() else {
                break;
            };
            match (last.removed_by.is_some(), self.contains(&run)) {
                (false, Some(false)) => last.removed_by = Some(run),
                (true, Some(true)) => story.push(Carried {
                    by: run,
                    removed_by: None,
                }),
                _ => {}
            }
        }
        story
    }
}
