//! What one lane has for the figures: deployments, the commits that they were the first to carry, and what is left out.
use std::collections::BTreeMap;

use waybill_core::event::{MergeMethod, Operation, Outcome};

use super::{Counted, Coverage, Excluded, Explanation, Question, Window, pending};
use crate::{
    facts::{
        claims::{Family, Slot, UNTIMED},
        families::{ChangeMove, DeploymentMove},
        graph::CommitRow,
        subjects::{Role, SubjectKind},
    },
    known::{ChangeSets, Head, Known, NodeMap, Run, SetUnknown, Told, counted_operation, time_of},
    reading::Problem,
};

/// Everything that the figures of one lane are made of.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// When deployments that counted ended, ascending, in nanoseconds; those of the window before apart.
    pub(super) ends: Vec<i64>,
    pub(super) ends_before: Vec<i64>,
    /// (end of the deployment, lead time) of commits that counted, in nanoseconds.
    pub(super) leads: Vec<(i64, i64)>,
    pub(super) leads_before: Vec<i64>,
    pub(super) frequency: Explanation,
    pub(super) lead_time: Explanation,
    pub(super) pending_count: u64,
    pub(super) coverage: Coverage,
    /// The first deployment that was ever counted, and the last.
    pub(super) first_end: Option<i64>,
    pub(super) last_end: Option<i64>,
    /// Why pending commits could not be told, if they could not.
    pub(super) pending_unknown: Option<&'static str>,
}

/// Goes through one lane in the order of time.
pub(super) struct Gathering<'a> {
    pub(super) known: &'a Known<'a>,
    pub(super) window: &'a Window,
    pub(super) explain: bool,
    pub(super) sets: ChangeSets,
    /// Commits that were carried in the two windows, or stood in for by such.
    pub(super) carried: NodeMap<()>,
    pub(super) out: Gathered,
}

pub(super) fn gather(
    known: &Known<'_>,
    lane: u32,
    window: &Window,
    question: &Question,
) -> Gathered {
    let mut gathering = Gathering {
        known,
        window,
        explain: question.explain,
        sets: ChangeSets::default(),
        carried: NodeMap::default(),
        out: Gathered::default(),
    };
    for run in known.runs(lane, UNTIMED) {
        gathering.run(&run);
    }
    gathering.left_out(lane);
    gathering.unfinished(lane);
    pending::pending(&mut gathering);
    let mut out = gathering.out;
    out.frequency.sort();
    out.lead_time.sort();
    out
}

impl<'a> Gathering<'a> {
    fn run(&mut self, run: &Run) {
        let told = self.known.told_of(run.slot);
        let heads = self.known.heads(&told);
        let counts = run.time >= self.window.start && run.time < self.window.end;
        let before = run.time >= self.window.before && run.time < self.window.start;
        self.out.first_end.get_or_insert(run.time);
        if run.time < self.window.end {
            self.out.last_end = Some(run.time);
        }
        if counts {
            self.count_run(run, &told, &heads);
        } else if before {
            self.out.ends_before.push(run.time);
        }
        if counts || before {
            for head in &heads {
                self.carry(run, &told, head);
            }
        }
        self.sets.pass(self.known, &told, &heads);
    }

    fn count_run(&mut self, run: &Run, told: &Told<'_>, heads: &[Head]) {
        self.out.ends.push(run.time);
        self.out.coverage.deployment_count += 1;
        if told.rows().next().is_some_and(|row| row.inferred) {
            self.out.coverage.inferred_deployment_count += 1;
        }
        if heads.is_empty() {
            self.out.coverage.without_revision_count += 1;
            self.leave_out_of_lead_time(run, SetUnknown::NoRevision);
        }
        if self.explain {
            let counted = self.deployment(run.slot, run.deployment);
            self.out.frequency.counted.push(counted);
        }
    }

    /// Counts the commits that a deployment brought to one repository.
    fn carry(&mut self, run: &Run, told: &Told<'_>, head: &Head) {
        let commits = match self.sets.first_carried(self.known, told, head) {
            Ok(range) => range.commits,
            Err(unknown) => {
                if run.time >= self.window.start {
                    self.out.coverage.unknown_change_set_count += 1;
                    self.leave_out_of_lead_time(run, unknown);
                }
                return;
            }
        };
        for node in commits {
            self.carried.insert(node, ());
            let Some(row) = self.known.commit(node) else {
                continue;
            };
            if self.known.facts.graph.parents_of(row).len() > 1 {
                self.leave_out_commit(run, row, "merge commit");
                continue;
            }
            let squashed = self.squashed(node);
            if squashed.is_empty() {
                self.count_commit(run, row);
            }
            for row in squashed {
                if self.carried.insert(row.node, ()).is_none() {
                    self.count_commit(run, row);
                }
            }
        }
    }

    /// The recorded commits that a squash commit stands for.
    fn squashed(&self, node: u32) -> Vec<&'a CommitRow> {
        let known = self.known;
        let facts = known.facts;
        if !facts.graph.may_be_squash(node) && !facts.subjects.has_shorts() {
            return Vec::new();
        }
        let mut found = Vec::new();
        for mention in self.known.mentions_of_commit(node) {
            let row = facts.claims.row(mention.slot);
            if mention.role != Role::Merge || row.family != Family::Change {
                continue;
            }
            let change = &facts.changes[row.content as usize];
            if change.moved == ChangeMove::Merged && change.method == MergeMethod::Squash {
                let own = facts.subjects.revisions(change.commits);
                let own = own.filter_map(|revision| self.known.resolve(revision));
                found.extend(own.filter(|own| *own != node));
            }
        }
        found.sort_unstable();
        found.dedup();
        let rows = found.into_iter();
        rows.filter_map(|node| known.commit(node)).collect()
    }

    fn count_commit(&mut self, run: &Run, row: &CommitRow) {
        let Some(start) = self.begun(row) else {
            return self.leave_out_commit(run, row, "no author, commit or occur time");
        };
        let elapsed = run.time - start;
        if elapsed < 0 {
            return self.leave_out_commit(
                run,
                row,
                "committed after the deployment that carries it",
            );
        }
        if run.time < self.window.start {
            self.out.leads_before.push(elapsed);
            return;
        }
        self.out.leads.push((run.time, elapsed));
        if self.explain {
            let counted = Counted {
                event: self.known.event(row.slot),
                entity: self.known.commit_name(row.node),
                occur_time: time_of(start),
                elapsed: Some(elapsed),
                deployment: self.known.subject_name(run.deployment),
            };
            self.out.lead_time.counted.push(counted);
        }
    }

    /// When work on a commit began, in nanoseconds.
    pub(super) fn begun(&self, row: &CommitRow) -> Option<i64> {
        if row.author != UNTIMED {
            return Some(row.author);
        }
        let commit = self.known.facts.graph.commit_time(row);
        let times = [commit, self.known.occur(row.slot)];
        times.into_iter().find(|time| *time != UNTIMED)
    }

    fn leave_out_commit(&mut self, run: &Run, row: &CommitRow, reason: &'static str) {
        if run.time < self.window.start {
            return;
        }
        self.out.lead_time.excluded_count += 1;
        if self.explain {
            self.out.lead_time.excluded.push(Excluded {
                entity: self.known.commit_name(row.node),
                reason,
                event: Some(self.known.event(row.slot)),
                count: 1,
            });
        }
    }

    fn leave_out_of_lead_time(&mut self, run: &Run, unknown: SetUnknown) {
        self.out.lead_time.excluded_count += 1;
        if self.explain {
            self.out.lead_time.excluded.push(Excluded {
                entity: self.known.subject_name(run.deployment),
                reason: unknown.reason(),
                event: Some(self.known.event(run.slot)),
                count: 1,
            });
        }
    }

    /// Finishes of the window that are not the first success of a deployment.
    fn left_out(&mut self, lane: u32) {
        let rows = self.known.facts.lanes.at(lane);
        let first = (self.window.start, 0, 0);
        let end = (self.window.end.max(self.window.start), 0, 0);
        let ended = rows.finished.range(first..end).map(|key| key.2);
        let mut failed: NodeMap<()> = NodeMap::default();
        for slot in ended.chain(rows.untimed.iter().copied()) {
            let Some(reason) = self.why_not(slot, lane) else {
                continue;
            };
            self.out.frequency.excluded_count += 1;
            let Some(row) = self.known.deployment_row(slot) else {
                continue;
            };
            let succeeded = self.known.first_success(row.deployment, lane).is_some();
            if row.moved != DeploymentMove::Finished(Outcome::Success)
                && !succeeded
                && failed.insert(row.deployment, ()).is_none()
            {
                self.out.coverage.failed_deployment_count += 1;
                self.out.coverage.deployment_count += 1;
            }
            if self.explain {
                self.out.frequency.excluded.push(Excluded {
                    entity: self.known.subject_name(row.deployment),
                    reason,
                    event: Some(self.known.event(slot)),
                    count: 1,
                });
            }
        }
    }

    /// Why a finish does not count; none when it does, or when it is no fact here and now.
    fn why_not(&self, slot: Slot, lane: u32) -> Option<&'static str> {
        if !self.known.past(slot) {
            return None;
        }
        let row = self.known.deployment_row(slot)?;
        let DeploymentMove::Finished(outcome) = row.moved else {
            return None;
        };
        if !counted_operation(row.operation) {
            return Some(operation_reason(row.operation));
        }
        if self.known.occur(slot) == UNTIMED {
            return Some("no occur time");
        }
        let first = self.known.first_success(row.deployment, lane);
        match outcome {
            Outcome::Success if first == Some(slot) => None,
            Outcome::Success => Some("run again after it had succeeded"),
            _ if first.is_some() => Some("an attempt of a deployment that succeeded"),
            outcome => Some(outcome_reason(outcome)),
        }
    }

    /// Deployments that began in the window and have not ended.
    fn unfinished(&mut self, lane: u32) {
        if !self.explain {
            return;
        }
        let first = (self.window.start, 0, 0);
        let end = (self.window.end.max(self.window.start), 0, 0);
        let begun = self.known.facts.lanes.at(lane).begun.range(first..end);
        let over = |moved: DeploymentMove| match moved {
            DeploymentMove::Finished(_) | DeploymentMove::Superseded => true,
            DeploymentMove::Requested | DeploymentMove::Started | DeploymentMove::Progressed => {
                false
            }
        };
        let mut open: BTreeMap<u32, Slot> = BTreeMap::new();
        for (_, _, slot) in begun.filter(|key| self.known.past(key.2)) {
            let Some(row) = self.known.deployment_row(*slot) else {
                continue;
            };
            let told = self.known.told_of(*slot);
            if told.rows().any(|row| over(row.moved)) {
                continue;
            }
            let latest = open.entry(row.deployment).or_insert(*slot);
            if self.known.later(*slot, *latest).is_lt() {
                *latest = *slot;
            }
        }
        for (deployment, slot) in open {
            let pending = self.deployment(slot, deployment);
            self.out.frequency.pending.push(pending);
        }
    }

    fn deployment(&self, slot: Slot, deployment: u32) -> Counted {
        debug_assert_eq!(
            self.known.facts.subjects.at(deployment).kind,
            SubjectKind::Deployment
        );
        Counted {
            event: self.known.event(slot),
            entity: self.known.subject_name(deployment),
            occur_time: self.known.occur_time(slot),
            elapsed: None,
            deployment: String::new(),
        }
    }
}

impl Gathered {
    /// What a reader of this lane's figures should know.
    pub(super) fn problems(&self, service: &str, environment: &str) -> Vec<Problem> {
        let problem = |code, text| Problem {
            code,
            text,
            events: Vec::new(),
            count: 1,
        };
        let pending = self.pending_unknown.map(|why| {
            problem(
                "pending_unknown",
                format!("{service} in {environment}: {why}"),
            )
        });
        pending.into_iter().collect()
    }
}

impl Explanation {
    fn sort(&mut self) {
        let by_time = |counted: &Counted| (counted.occur_time, counted.entity.clone());
        self.counted.sort_by_cached_key(by_time);
        self.pending.sort_by_cached_key(by_time);
        self.excluded.sort();
    }
}

fn outcome_reason(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Success => "succeeded",
        Outcome::Failure => "failed",
        Outcome::Error => "could not run",
        Outcome::Timeout => "timed out",
        Outcome::Cancelled => "cancelled",
        Outcome::Skipped => "skipped",
        Outcome::Aborted => "aborted",
        Outcome::Unknown => "outcome not known",
    }
}

fn operation_reason(operation: Operation) -> &'static str {
    match operation {
        Operation::Remove => "takes the service away",
        Operation::Config => "changes configuration only",
        Operation::Migration => "changes stored data only",
        Operation::Infrastructure => "changes infrastructure only",
        Operation::Deploy
        | Operation::Upgrade
        | Operation::Rollback
        | Operation::Publish
        | Operation::Unknown => "puts a version there",
    }
}
