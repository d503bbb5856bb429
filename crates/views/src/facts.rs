//! What is known: one shared store that every question reads.
//!
//! Facts are folded from events one at a time and never fail: what is odd is kept and told in the answers. Nothing is
//! ever overwritten: everything is stamped with the slot of the event that brought it, and a question looks at what was
//! there at its cut (`claims`). So asking with past knowledge costs what asking now costs, and the answer at position
//! `p` of the whole ledger is the answer at the head of its first `p` events.
//!
//! Reading order: `claims` and `amendments` (which event speaks), `graph` (commits), `subjects` and
//! `families` (the rest), `lanes` (deployments in time), `intake` (from payloads to rows), `checkpoint`.
use std::collections::BTreeMap;

use waybill_core::{Identity, Recorded, Time, event::RecordKind};

pub(crate) mod amendments;
mod checkpoint;
pub(crate) mod claims;
pub(crate) mod column;
pub(crate) mod families;
pub(crate) mod graph;
pub(crate) mod index;
mod intake;
pub(crate) mod lanes;
mod pack;
mod positions;
mod prefix;
pub(crate) mod subjects;
pub(crate) mod text;
mod timeline;

use claims::{Claims, Cut, Family, Signature, Slot};
use column::Column;
use families::{
    ArtifactRow, BuildRow, ChangeRow, CommitMarks, DeploymentRow, FlagRow, GapRow, IncidentRow,
    LinkRow, RankRow, ReleaseRow,
};
use graph::{CommitRow, Graph};
use lanes::Lanes;
use subjects::Subjects;
use text::{Symbol, Symbols, Texts};
use timeline::Timeline;

/// Everything that the questions know, as a pure function of the events applied.
///
/// ```
/// use waybill_views::Facts;
///
/// let facts = Facts::new();
/// assert_eq!(facts.head(), (0, None));
/// ```
#[derive(Debug, Default)]
pub struct Facts {
    pub(crate) symbols: Symbols,
    pub(crate) claims: Claims,
    pub(crate) graph: Graph,
    pub(crate) subjects: Subjects,
    pub(crate) lanes: Lanes,
    pub(crate) texts: Texts,
    pub(crate) changes: Column<ChangeRow>,
    pub(crate) builds: Column<BuildRow>,
    pub(crate) artifacts: Column<ArtifactRow>,
    pub(crate) releases: Column<ReleaseRow>,
    pub(crate) deployments: Column<DeploymentRow>,
    pub(crate) flags: Column<FlagRow>,
    pub(crate) incidents: Column<IncidentRow>,
    pub(crate) links: Column<LinkRow>,
    pub(crate) gaps: Column<GapRow>,
    pub(crate) ranks: Column<RankRow>,
    /// Only commits that revert, fix or pick have one.
    pub(crate) marks: BTreeMap<Slot, CommitMarks>,
    timeline: Timeline,
    /// Positions of leaves that are no facts and no repeats either.
    pub(crate) refused: Vec<u64>,
    /// Folded in another order than the ledger's.
    relabelled: bool,
}

impl Facts {
    /// Knows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in one event. Positions must rise; an identity that was applied before changes nothing but the head.
    pub fn apply(&mut self, recorded: &Recorded) {
        self.apply_from(recorded, recorded.position);
    }

    /// Takes note of a leaf that is no fact: a repeat, or one that was refused. Positions must rise.
    pub fn pass(&mut self, position: u64, record_time: Time, refused: bool) {
        self.timeline.push(position, record_time);
        if refused {
            self.refused.push(position);
        }
    }

    /// Leaves up to a position that are no facts and no repeats: conflicts, and messages that were refused or unreadable.
    #[must_use]
    pub fn refused_leaf_count(&self, as_of: u64) -> u64 {
        self.refused.partition_point(|&position| position <= as_of) as u64
    }

    /// The last position applied and its record time; `(0, None)` before the first.
    #[must_use]
    pub fn head(&self) -> (u64, Option<Time>) {
        self.timeline.head()
    }

    /// The last position recorded at or before `record_time`; zero when there is none.
    #[must_use]
    pub fn position_at(&self, record_time: Time) -> u64 {
        self.timeline.position_at(record_time)
    }

    /// Where an event stands in the ledger. `None` also for events that no view reads (metrics, …): of those only a
    /// fingerprint is kept, to save memory.
    #[must_use]
    pub fn position_of(&self, identity: &Identity) -> Option<u64> {
        let slot = self.claims.slot_of(&self.symbols, identity)?;
        Some(self.claims.origin(slot))
    }

    /// Facts for a fold in another order than the ledger's.
    pub(crate) fn relabelled() -> Self {
        Self {
            relabelled: true,
            ..Self::default()
        }
    }

    /// Takes in one event whose place in the ledger is `origin`.
    pub(crate) fn apply_from(&mut self, recorded: &Recorded, origin: u64) {
        self.timeline.push(recorded.position, recorded.record_time);
        let event = &recorded.event;
        let signature = Signature::intern(&mut self.symbols, &event.identity);
        let states = matches!(event.record_kind, RecordKind::Assertion);
        if states && !intake::is_read(&event.payload) {
            let position = recorded.position;
            self.claims.pass(&signature, &event.identity, position);
            return;
        }
        if self.claims.has_slot(&signature) {
            return;
        }
        let slot = self.claims.len();
        let said = self.take(recorded, slot);
        let origin = self.relabelled.then_some(origin);
        let symbols = &self.symbols;
        let slot = self.claims.add(symbols, &signature, recorded, origin, said);
        self.refresh_ranks(slot, said.0);
    }

    /// Who declares ranks may itself be corrected or taken out, so ranks are read again when that can have happened.
    fn refresh_ranks(&mut self, slot: Slot, family: Family) {
        let concerned = family == Family::SourceRank || self.claims.is_special(slot);
        if self.ranks.is_empty() || !concerned {
            return;
        }
        let cut = Cut(slot + 1);
        let mut declared: BTreeMap<Symbol, Option<RankRow>> = BTreeMap::new();
        for row in self.ranks.iter() {
            let best = declared.entry(row.source).or_default();
            let better = best.is_none_or(|best| self.declared_later(row.slot, best.slot, cut));
            let declares = self.claims.is_of_ranks(row.slot);
            if declares && better && self.claims.holds(row.slot, cut) {
                *best = Some(*row);
            }
        }
        for (source, best) in declared {
            let rank = best.map_or(0, |row| row.rank);
            self.claims.set_rank(&self.symbols, source, rank, slot);
        }
    }

    fn declared_later(&self, a: Slot, b: Slot, cut: Cut) -> bool {
        let occur = |slot: Slot| self.claims.row(slot).occur;
        let by_time = occur(a).cmp(&occur(b));
        by_time
            .then_with(|| self.claims.compare(&self.symbols, a, b, cut))
            .is_gt()
    }

    /// The row that records a commit in the event of a slot, where the slot is a commit's.
    pub(crate) fn commit_row(&self, slot: Slot) -> Option<&CommitRow> {
        let row = self.claims.row(slot);
        match row.family {
            Family::Commit => self.graph.commits.get(row.content as usize),
            _ => None,
        }
    }
}
