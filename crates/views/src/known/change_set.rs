//! What a deployment brought: reachable(new head) − reachable(last successful head of the same service, environment and
//! repository). Where the old head is not known the set is unknown, never "everything".
use std::collections::BTreeMap;

use super::{Head, Heads, Known, Range, Space, Told};
use crate::facts::text::Symbol;

/// Why nobody can say what a deployment brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SetUnknown {
    /// No event of the deployment says what runs afterwards.
    NoRevision,
    /// Its revision is abbreviated and means no commit or several, or it names several of one repository.
    HeadUnclear,
    /// Its revision is not recorded.
    HeadNotRecorded,
    /// Nothing is known to have run before.
    First,
    /// What ran before is not known.
    PreviousUnclear,
    /// What ran before is not recorded.
    PreviousNotRecorded,
    /// An event of the deployment says that its range is unknown.
    SaidUnknown,
    /// Old and new have no commit in common.
    Unrelated,
    /// A commit on the way is not recorded.
    Incomplete,
}

/// Follows one lane in the order of its deployments.
#[derive(Debug, Default)]
pub(crate) struct ChangeSets {
    repositories: BTreeMap<Symbol, Before>,
    /// A deployment did not say what it runs, so what ran before the next one is not known.
    revisionless: bool,
    space: Space,
}

#[derive(Debug, Default)]
struct Before {
    /// The last head; `Err` where it is not known; `None` before the first.
    last: Option<Result<u32, ()>>,
    /// Every head that ever ran.
    ever: Heads,
}

impl SetUnknown {
    /// For people, as a fragment.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::NoRevision => "no revision",
            Self::HeadUnclear => "unknown change set: its revision means no commit or several",
            Self::HeadNotRecorded => "unknown change set: its revision is not recorded",
            Self::First => "unknown change set: first known deployment",
            Self::PreviousUnclear => "unknown change set: the head before it is not known",
            Self::PreviousNotRecorded => "unknown change set: the head before it is not recorded",
            Self::SaidUnknown => "unknown change set: its range is said to be unknown",
            Self::Unrelated => "unknown change set: no commit in common with the head before it",
            Self::Incomplete => "unknown change set: a commit on the way is not recorded",
        }
    }

    /// What would mend it.
    pub(crate) fn remedy(self) -> &'static str {
        match self {
            Self::NoRevision => "emit deployment.finished with revisions or artifacts",
            Self::HeadUnclear => "emit the full commit id in revisions",
            Self::First | Self::PreviousUnclear | Self::SaidUnknown => {
                "emit deployment.finished with previous_revisions"
            }
            Self::HeadNotRecorded
            | Self::PreviousNotRecorded
            | Self::Unrelated
            | Self::Incomplete => "import the repository's whole history: waybill import git",
        }
    }
}

impl ChangeSets {
    /// The commits that a run brought to one repository for the first time: not reachable from any earlier head of the
    /// lane either, so that a rollback and its undoing bring nothing twice.
    pub(crate) fn first_carried(
        &mut self,
        known: &Known<'_>,
        told: &Told<'_>,
        head: &Head,
    ) -> Result<Range, SetUnknown> {
        let (new, base) = self.ends(known, told, head)?;
        let nothing = Heads::default();
        let before = self.repositories.get(&head.repository);
        let ever = before.map_or(&nothing, |before| &before.ever);
        checked(known.range(&mut self.space, &[new], &base, ever))
    }

    /// The commits that a run brought to one repository, measured against what ran just before.
    pub(crate) fn brought(
        &mut self,
        known: &Known<'_>,
        told: &Told<'_>,
        head: &Head,
    ) -> Result<Range, SetUnknown> {
        let (new, base) = self.ends(known, told, head)?;
        checked(known.range(&mut self.space, &[new], &base, &Heads::default()))
    }

    /// Goes past a run.
    pub(crate) fn pass(&mut self, known: &Known<'_>, told: &Told<'_>, heads: &[Head]) {
        if heads.is_empty() {
            self.revisionless = true;
            for before in self.repositories.values_mut() {
                before.last = Some(Err(()));
            }
        }
        for head in heads {
            let before = self.repositories.entry(head.repository).or_default();
            before.last = Some(head.commit.map_err(|_| ()));
            if let Ok(commit) = head.commit {
                before.ever.insert(known, commit);
            }
            for node in previous(known, told, head.repository).into_iter().flatten() {
                before.ever.insert(known, node);
            }
        }
    }

    /// Every head that ever ran in a repository.
    pub(crate) fn ever(&self, repository: Symbol) -> Option<&Heads> {
        let before = self.repositories.get(&repository)?;
        (!before.ever.is_empty()).then_some(&before.ever)
    }

    /// Repositories that ran in this lane, in no particular order.
    pub(crate) fn repositories(&self) -> impl Iterator<Item = Symbol> + '_ {
        self.repositories.keys().copied()
    }

    fn ends(
        &self,
        known: &Known<'_>,
        told: &Told<'_>,
        head: &Head,
    ) -> Result<(u32, Vec<u32>), SetUnknown> {
        let new = head.commit.map_err(|_| SetUnknown::HeadUnclear)?;
        if known.commit(new).is_none() {
            return Err(SetUnknown::HeadNotRecorded);
        }
        let said = previous(known, told, head.repository);
        let base = if said.is_empty() {
            if told.rows().any(|row| row.range_unknown) {
                return Err(SetUnknown::SaidUnknown);
            }
            let before = self.repositories.get(&head.repository);
            match before.and_then(|before| before.last) {
                Some(last) => vec![last.map_err(|()| SetUnknown::PreviousUnclear)?],
                None if self.revisionless => return Err(SetUnknown::PreviousUnclear),
                None => return Err(SetUnknown::First),
            }
        } else {
            let said: Option<Vec<u32>> = said.into_iter().collect();
            said.ok_or(SetUnknown::PreviousUnclear)?
        };
        match base.iter().all(|node| known.commit(*node).is_some()) {
            true => Ok((new, base)),
            false => Err(SetUnknown::PreviousNotRecorded),
        }
    }
}

fn checked(range: Range) -> Result<Range, SetUnknown> {
    match range {
        // Said first: what is not recorded may be what they have in common.
        Range {
            complete: false, ..
        } => Err(SetUnknown::Incomplete),
        Range { related: false, .. } => Err(SetUnknown::Unrelated),
        range => Ok(range),
    }
}

/// What the emitter says ran before in a repository; `None` inside where it does not mean one recorded commit.
fn previous(known: &Known<'_>, told: &Told<'_>, repository: Symbol) -> Vec<Option<u32>> {
    let subjects = &known.facts.subjects;
    let mut lists = told.rows().map(|row| {
        let named = subjects.revisions(row.previous);
        let named = named.filter(|r| known.repository_of(*r) == Some(repository));
        named.map(|r| known.resolve(r)).collect::<Vec<_>>()
    });
    lists.find(|list| !list.is_empty()).unwrap_or_default()
}
