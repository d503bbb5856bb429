//! Facts as they were known at one position: what every question looks through.
use std::{
    cmp::Ordering,
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use waybill_core::Time;

use crate::{
    facts::{
        Facts,
        claims::{Cut, Slot, UNTIMED},
        graph::CommitRow,
        subjects::{Mention, RevisionRef, Target},
        text::Symbol,
    },
    reading::{EventRef, Problem, Reading},
};

mod change_set;
mod deployments;
mod range;

pub(crate) use change_set::{ChangeSets, SetUnknown};
pub(crate) use deployments::{Head, Run, Told, counted_operation};
pub(crate) use range::{Heads, Range, Space};

/// The most events that a problem names.
const PROBLEM_EVENTS_MAX: usize = 5;

/// Facts at a cut.
#[derive(Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) facts: &'a Facts,
    pub(crate) cut: Cut,
    position: u64,
    /// Nanoseconds; nothing that happened later counts.
    pub(crate) now: i64,
}

impl<'a> Known<'a> {
    pub(crate) fn new(facts: &'a Facts, reading: &Reading) -> Self {
        // Beyond the head nothing is known: what is not here has not come yet.
        let position = reading.as_of.min(facts.head().0);
        Self {
            facts,
            cut: facts.claims.cut(position),
            position,
            now: reading.evaluated_time.nanos(),
        }
    }

    /// The same knowledge, asked about an earlier moment.
    pub(crate) fn at(self, moment: Time) -> Self {
        Self {
            now: self.now.min(moment.nanos()),
            ..self
        }
    }

    /// Whether an event speaks for its fact.
    pub(crate) fn holds(&self, slot: Slot) -> bool {
        self.facts.claims.holds(slot, self.cut)
    }

    /// Whether it also happened by now. What has no time counts as past.
    pub(crate) fn past(&self, slot: Slot) -> bool {
        self.holds(slot) && self.occur(slot) <= self.now
    }

    /// Nanoseconds, or [`UNTIMED`].
    pub(crate) fn occur(&self, slot: Slot) -> i64 {
        self.facts.claims.row(slot).occur
    }

    pub(crate) fn occur_time(&self, slot: Slot) -> Option<Time> {
        time_of(self.occur(slot))
    }

    /// Later events first, then those that would win against each other: never arrival.
    pub(crate) fn later(&self, a: Slot, b: Slot) -> Ordering {
        let by_time = self.occur(b).cmp(&self.occur(a));
        by_time.then_with(|| self.outranks(b, a))
    }

    pub(crate) fn outranks(&self, a: Slot, b: Slot) -> Ordering {
        self.facts
            .claims
            .compare(&self.facts.symbols, a, b, self.cut)
    }

    pub(crate) fn event(&self, slot: Slot) -> EventRef {
        EventRef {
            identity: self.facts.claims.identity(&self.facts.symbols, slot),
            position: self.facts.claims.origin(slot),
        }
    }

    /// The event and its witnesses, the winner first.
    pub(crate) fn witnesses(&self, slot: Slot) -> Vec<EventRef> {
        let claims = &self.facts.claims;
        let slots = claims.witnesses(&self.facts.symbols, slot, self.cut);
        slots.into_iter().map(|slot| self.event(slot)).collect()
    }

    pub(crate) fn text(&self, symbol: Symbol) -> String {
        self.facts.symbols.text(symbol)
    }

    /// What is recorded of a commit; none when it is only named.
    pub(crate) fn commit(&self, node: u32) -> Option<&'a CommitRow> {
        let rows = self.facts.graph.rows_of(node);
        let known = rows.filter(|row| self.holds(row.slot));
        // One row in all but contested cases: the comparison is never made.
        known.max_by(|a, b| self.outranks(a.slot, b.slot))
    }

    /// Parents in git's order; empty when the commit is not recorded.
    pub(crate) fn parents(&self, node: u32) -> &'a [u32] {
        self.commit(node)
            .map_or(&[], |row| self.facts.graph.parents_of(row))
    }

    /// Commits that claim `node` as a parent, without repeats, in no particular order.
    pub(crate) fn children(&self, node: u32) -> Vec<u32> {
        let claimed = self.facts.graph.children_of(node);
        let mut children: Vec<u32> = claimed
            .filter(|child| self.parents(*child).contains(&node))
            .collect();
        children.sort_unstable();
        children.dedup();
        children
    }

    /// The commit that a row names. An abbreviated id means the one recorded commit that begins with it.
    pub(crate) fn resolve(&self, revision: RevisionRef) -> Option<u32> {
        match revision.target()? {
            Target::Node(node) => Some(node),
            Target::Short(short) => {
                let short = self.facts.subjects.short_at(short);
                let digits = self.text(short.digits);
                let mut found = self.beginning_with(&digits, Some(short.repository));
                let only = found.next()?;
                found.next().is_none().then_some(only)
            }
        }
    }

    /// Recorded commits whose id begins with `digits`, in no particular order.
    pub(crate) fn beginning_with<'b>(
        &'b self,
        digits: &'b str,
        repository: Option<Symbol>,
    ) -> impl Iterator<Item = u32> + 'b {
        let graph = &self.facts.graph;
        graph
            .beginning_with(digits)
            .filter(move |node| repository.is_none_or(|r| graph.at(*node).repository == r))
            .filter(|node| self.commit(*node).is_some())
    }

    /// Holding mentions of a commit, whole or abbreviated, in no particular order.
    pub(crate) fn mentions_of_commit(&self, node: u32) -> Vec<Mention> {
        let Facts {
            graph, subjects, ..
        } = self.facts;
        let mut mentions: Vec<Mention> = subjects
            .mentions_from(graph.at(node).mentions)
            .filter(|mention| self.past(mention.slot))
            .collect();
        if subjects.has_shorts() {
            mentions.extend(self.short_mentions(node));
        }
        mentions
    }

    /// Holding mentions of a subject, in no particular order.
    pub(crate) fn mentions_of(&self, subject: u32) -> impl Iterator<Item = Mention> + '_ {
        let mentions = self.facts.subjects.mentions_of(subject);
        mentions.filter(|mention| self.past(mention.slot))
    }

    fn short_mentions(&self, node: u32) -> Vec<Mention> {
        let Facts {
            graph,
            subjects,
            symbols,
            ..
        } = self.facts;
        let id = graph.id(node).text();
        let repository = graph.at(node).repository;
        let shorts = (7..id.len())
            .filter_map(|length| symbols.find(&id[..length]))
            .filter_map(|digits| subjects.find_short(repository, digits))
            .filter(|short| self.resolve(RevisionRef::short(*short)) == Some(node));
        shorts
            .flat_map(|short| subjects.mentions_of_short(short))
            .filter(|mention| self.past(mention.slot))
            .collect()
    }

    /// Amendments that could not do what they say, as far as was known.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let amendments = &self.facts.claims.amendments;
        let oddities = amendments.oddities(self.cut, self.position).into_iter();
        let told = oddities.filter(|(_, slots)| !slots.is_empty());
        told.map(|(code, slots)| {
            let text = match code {
                "amends_absent" => "amendments name events that are not here; they wait",
                "amendment_cycle" => "amendments name each other in a circle and count for nothing",
                _ => "corrections name a retraction and count for nothing: retract it instead",
            };
            self.problem(code, text, &slots)
        })
        .collect()
    }

    pub(crate) fn problem(
        &self,
        code: &'static str,
        text: impl Into<String>,
        slots: &[Slot],
    ) -> Problem {
        let mut events: Vec<EventRef> = slots.iter().map(|slot| self.event(*slot)).collect();
        events.sort_by(|a, b| a.identity.cmp(&b.identity));
        events.truncate(PROBLEM_EVENTS_MAX);
        Problem {
            code,
            text: text.into(),
            events,
            count: slots.len() as u64,
        }
    }
}

/// A moment from its stored form.
pub(crate) fn time_of(nanos: i64) -> Option<Time> {
    (nanos != UNTIMED).then(|| Time::from_nanos_clamped(i128::from(nanos)))
}

/// A map from nodes: their numbers spread well when multiplied, and SipHash would double the cost of a walk.
pub(crate) type NodeMap<V> = HashMap<u32, V, BuildHasherDefault<NodeHasher>>;

#[derive(Default)]
pub(crate) struct NodeHasher(u64);

impl Hasher for NodeHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        let mixed = (self.0 ^ u64::from(number)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ mixed >> 32;
    }
}
