//! Which event speaks for which fact, then and now (LEDGER E5 to E7).
//!
//! Every event that a view reads takes a *slot*; slots count up in the order of arrival, so that knowledge is a cut
//! through them. Most facts have one event and nothing else is kept for them. Where a second event joins (a witness, a
//! correction) or one is taken out, the fact becomes a *contest*, whose winners are kept with the slot from which each
//! of them won. So a question about the past looks where a question about now looks.
use std::{cmp::Ordering, collections::BTreeMap};

use waybill_core::{
    Identity, Recorded, Time,
    event::{Basis, RecordKind},
};

use super::{
    amendments::Amendments,
    column::{Column, NONE, index_of},
    index::{RowIndex, TextIndex},
    positions::Positions,
    text::{Symbol, Symbols, Text, Texts, hash_of, pack_hex},
};

/// The place of an event among those that a view reads, in order of arrival.
pub(crate) type Slot = u32;

/// What was known: every slot below this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cut(pub(crate) u32);

/// Of a natural key so much is kept: chance does not make two of them equal, and nobody can aim at another's.
const KEY_BYTES: usize = 12;

/// Stands for an occur time that nobody knows.
pub(crate) const UNTIMED: i64 = i64::MIN;

/// Which table of [`super::Facts`] holds what an event says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Commit,
    Change,
    Build,
    Artifact,
    Release,
    Deployment,
    Flag,
    Incident,
    Link,
    Gap,
    SourceRank,
    /// An amendment whose own payload no view reads.
    Other,
}

/// Whether an event states or amends; what it amends is kept by [`Amendments`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stance {
    States,
    Corrects,
    TakesOut,
}

/// What is kept of every envelope. Packed: a word less is forty megabytes less.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed(4))]
pub(crate) struct Row {
    pub(super) id: Text,
    pub(crate) occur: i64,
    /// The first bytes of the natural key.
    pub(super) key: [u8; KEY_BYTES],
    pub(super) source: Symbol,
    /// Row of the family's table.
    pub(crate) content: u32,
    pub(super) basis: u8,
    pub(super) stance: Stance,
    pub(crate) family: Family,
}

/// A fact that more than one event speaks of, or whose event was taken out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contest {
    /// Events of the fact, each with the slot from which it belongs to it.
    pub(super) members: Vec<(Slot, u32)>,
    /// The fact is a source's rank. Ranks do not decide here, or who declares ranks would depend on itself.
    pub(super) of_ranks: bool,
    /// Winner ([`NONE`] where all are out) and the slot from which it won, in order.
    pub(super) winners: Vec<(u32, Slot)>,
}

/// All claims, and who wins.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    pub(super) rows: Column<Row>,
    pub(super) positions: Positions,
    /// Places in the ledger, where the fold's own positions differ from them (assumed knowledge).
    pub(super) origins: Column<u64>,
    pub(super) ids: Texts,
    pub(super) contests: Vec<Contest>,
    pub(crate) amendments: Amendments,
    /// Ranks of sources, each with the slot from which it holds.
    pub(super) ranks: BTreeMap<Symbol, Vec<(u32, u32)>>,
    /// Fingerprints of events that no view reads: all that is needed to know that an amendment's target is there.
    pub(super) unread: RowIndex<u64>,
    /// Revisions other than zero.
    pub(super) revisions: BTreeMap<Slot, u32>,
    /// Which contest an event is in; most are in none.
    pub(super) contest_of: BTreeMap<Slot, u32>,
    /// A bit for each slot that amends or is in a contest: the common case is answered from a table that fits the cache.
    special: Vec<u64>,
    by_identity: TextIndex,
    by_key: RowIndex<Slot>,
}

/// An identity, ready to be looked up.
#[derive(Debug)]
pub(crate) struct Signature {
    source: Symbol,
    packed: Vec<u8>,
    hash: u64,
}

impl Signature {
    pub(crate) fn intern(symbols: &mut Symbols, identity: &Identity) -> Self {
        Self::new(symbols.intern(&identity.source), &identity.id)
    }

    /// None where nothing came from this source yet.
    fn find(symbols: &Symbols, identity: &Identity) -> Option<Self> {
        Some(Self::new(symbols.find(&identity.source)?, &identity.id))
    }

    fn new(source: Symbol, id: &str) -> Self {
        let mut packed = Vec::with_capacity(id.len());
        pack_hex(id, &mut packed);
        Self {
            source,
            hash: hash_of(&(source, packed.as_slice())),
            packed,
        }
    }
}

impl Claims {
    /// Whether an event of this identity was folded already.
    fn contains(&self, symbols: &Symbols, identity: &Identity) -> bool {
        let signature = Signature::find(symbols, identity);
        signature
            .is_some_and(|signature| self.has_slot(&signature) || self.is_unread(signature.hash))
    }

    /// Whether a view reads the event of this identity. The ledger keeps one content for each identity, so an event
    /// that is read is never also one that is not.
    pub(crate) fn has_slot(&self, signature: &Signature) -> bool {
        self.slot_signed(signature).is_some()
    }

    fn is_unread(&self, mark: u64) -> bool {
        self.unread.find(mark, |other| *other == mark).is_some()
    }

    /// Notes an event that no view reads.
    pub(crate) fn pass(&mut self, signature: &Signature, identity: &Identity, position: u64) {
        let mark = signature.hash;
        if !self.is_unread(mark) {
            self.unread.insert(mark, mark, |mark| *mark);
        }
        self.amendments.arrived(identity, position);
    }

    /// Takes in an event that a view reads, and settles who wins. `origin` is its place in the ledger.
    pub(crate) fn add(
        &mut self,
        symbols: &Symbols,
        signature: &Signature,
        recorded: &Recorded,
        origin: Option<u64>,
        (family, content): (Family, u32),
    ) -> Slot {
        let event = &recorded.event;
        let slot = index_of(self.rows.len());
        let mut key = [0; KEY_BYTES];
        key.copy_from_slice(&event.natural_key[..KEY_BYTES]);
        let row = Row {
            id: self.ids.push_packed(&signature.packed),
            occur: event.occur_time.map_or(UNTIMED, Time::nanos),
            key,
            source: signature.source,
            content,
            basis: match event.basis {
                Basis::Delivery => 0,
                Basis::Derived => 1,
                Basis::AuthorClock => 2,
                Basis::Reported => 3,
            },
            stance: match event.record_kind {
                RecordKind::Assertion => Stance::States,
                RecordKind::Correction(_) => Stance::Corrects,
                RecordKind::Retraction(_) | RecordKind::Redaction(_) => Stance::TakesOut,
            },
            family,
        };
        self.rows.push(row);
        self.positions.push(recorded.position);
        if event.revision != 0 {
            self.revisions.insert(slot, event.revision);
        }
        if row.stance != Stance::States {
            self.mark_special(slot);
        }
        if let Some(origin) = origin {
            self.origins.push(origin);
        }
        self.by_identity.insert(signature.hash, slot);
        self.amendments.arrived(&event.identity, recorded.position);
        self.settle(symbols, slot, event);
        slot
    }

    /// Whether this event speaks for its fact.
    pub(crate) fn holds(&self, slot: Slot, cut: Cut) -> bool {
        if slot >= cut.0 {
            return false;
        }
        if !self.is_special(slot) {
            return true;
        }
        let contest = self.contest(slot);
        contest.is_some_and(|contest| contest.winner(cut) == slot)
    }

    /// The standing events of the same fact, the winner first.
    pub(crate) fn witnesses(&self, symbols: &Symbols, slot: Slot, cut: Cut) -> Vec<Slot> {
        let Some(contest) = self.contest(slot) else {
            return vec![slot];
        };
        let mut standing: Vec<Slot> = contest
            .members
            .iter()
            .filter(|(member, joined)| *joined < cut.0 && self.amendments.stood(*member, cut))
            .map(|(member, _)| *member)
            .collect();
        standing.sort_by(|a, b| self.compare(symbols, *b, *a, cut));
        standing
    }

    /// The greater of two events wins: revision, basis, rank of the source, then source and id bytewise (LEDGER E7).
    pub(crate) fn compare(&self, symbols: &Symbols, a: Slot, b: Slot, cut: Cut) -> Ordering {
        let (x, y) = (&self.rows[a as usize], &self.rows[b as usize]);
        let rank = |slot: Slot, row: &Row| match self.is_of_ranks(slot) {
            true => 0,
            false => self.rank(row.source, cut),
        };
        (self.revision(a), x.basis, rank(a, x))
            .cmp(&(self.revision(b), y.basis, rank(b, y)))
            .then_with(|| match x.source == y.source {
                true => Ordering::Equal,
                false => symbols.text(x.source).cmp(&symbols.text(y.source)),
            })
            .then_with(|| self.ids.text(x.id).cmp(&self.ids.text(y.id)))
    }

    /// A source is ranked anew from `slot` on: every contest it is in is decided again.
    pub(crate) fn set_rank(&mut self, symbols: &Symbols, source: Symbol, rank: u32, slot: Slot) {
        if self.rank(source, Cut(slot + 1)) == rank {
            return;
        }
        let ranks = self.ranks.entry(source).or_default();
        ranks.retain(|(from, _)| *from != slot);
        ranks.push((slot, rank));
        for index in 0..self.contests.len() {
            let members = &self.contests[index].members;
            let concerned = members
                .iter()
                .any(|(member, _)| self.rows[*member as usize].source == source);
            if concerned {
                self.decide(symbols, index_of(index), slot);
            }
        }
    }

    /// The slot of an event, where a view reads it.
    pub(crate) fn slot_of(&self, symbols: &Symbols, identity: &Identity) -> Option<Slot> {
        self.slot_signed(&Signature::find(symbols, identity)?)
    }

    fn slot_signed(&self, signature: &Signature) -> Option<Slot> {
        let same = |slot: Slot| {
            let row = &self.rows[slot as usize];
            row.source == signature.source && self.ids.packed(row.id) == signature.packed
        };
        self.by_identity.find(signature.hash, same)
    }

    pub(crate) fn row(&self, slot: Slot) -> &Row {
        &self.rows[slot as usize]
    }

    pub(crate) fn len(&self) -> u32 {
        index_of(self.rows.len())
    }

    /// Who said what is in a slot.
    pub(crate) fn identity(&self, symbols: &Symbols, slot: Slot) -> Identity {
        let row = &self.rows[slot as usize];
        Identity {
            source: symbols.text(row.source).into(),
            id: self.ids.text(row.id).into(),
        }
    }

    /// The place of a slot's event in the ledger.
    pub(crate) fn origin(&self, slot: Slot) -> u64 {
        let origin = self.origins.get(slot as usize).copied();
        origin.unwrap_or_else(|| self.positions.at(slot))
    }

    /// Everything recorded up to a position.
    pub(crate) fn cut(&self, position: u64) -> Cut {
        Cut(self.positions.count_up_to(position))
    }

    /// Builds the indexes anew from the rows, after a restore.
    pub(super) fn reindex(&mut self) {
        for slot in 0..self.len() {
            let row = self.rows[slot as usize];
            let hash = hash_of(&(row.source, self.ids.packed(row.id)));
            self.by_identity.insert(hash, slot);
            if row.stance == Stance::States && self.first_of_key(row.key).is_none() {
                self.index_key(slot);
            }
            if row.stance != Stance::States || self.is_member(slot) {
                self.mark_special(slot);
            }
        }
    }

    fn settle(&mut self, symbols: &Symbols, slot: Slot, event: &waybill_core::Event) {
        match &event.record_kind {
            RecordKind::Assertion => {
                match self.first_of_key(self.rows[slot as usize].key) {
                    Some(first) => self.join(symbols, slot, first, slot),
                    None => self.index_key(slot),
                }
                self.take_out_if_retracted(symbols, slot, &event.identity);
                self.attach_waiting(symbols, slot);
            }
            RecordKind::Correction(target) => {
                self.amendments.note_correction(slot, target);
                self.take_out_if_retracted(symbols, slot, &event.identity);
                self.correct(symbols, slot, target);
            }
            RecordKind::Retraction(target) | RecordKind::Redaction(target) => {
                self.amendments.note_retraction(slot, target);
                self.take_out_if_retracted(symbols, slot, &event.identity);
                self.retract(symbols, slot, target);
                self.note_misdirected(slot, &event.identity);
            }
        }
    }

    /// Puts a correction where the event that it names is, or lets it wait.
    fn correct(&mut self, symbols: &Symbols, slot: Slot, target: &Identity) {
        let Some(named) = self.slot_of(symbols, target) else {
            if !self.contains(symbols, target) {
                self.amendments.wait(slot, target);
            }
            return;
        };
        let row = self.rows[named as usize];
        match row.stance {
            Stance::TakesOut => self.amendments.misdirected(slot, vec![slot, named]),
            Stance::States => {
                self.join(symbols, slot, named, slot);
                self.attach_waiting(symbols, slot);
            }
            Stance::Corrects if self.is_member(named) => {
                self.join(symbols, slot, named, slot);
                self.attach_waiting(symbols, slot);
            }
            Stance::Corrects => self.find_correction_cycle(symbols, slot),
        }
    }

    /// Brings in the corrections that waited for this event, and those that waited for them.
    fn attach_waiting(&mut self, symbols: &Symbols, root: Slot) {
        let mut reached = vec![root];
        while let Some(at) = reached.pop() {
            if self.amendments.no_corrections() {
                return;
            }
            let identity = self.identity(symbols, at);
            for correction in self.amendments.corrections_of(&identity) {
                if !self.is_member(correction) {
                    let stamp = self.len() - 1;
                    self.join(symbols, correction, root, stamp);
                    reached.push(correction);
                }
            }
        }
    }

    /// Corrections that arrived first may turn out to name a retraction.
    fn note_misdirected(&mut self, slot: Slot, identity: &Identity) {
        for correction in self.amendments.corrections_of(identity) {
            self.amendments.misdirected(slot, vec![correction, slot]);
        }
    }

    fn find_correction_cycle(&mut self, symbols: &Symbols, slot: Slot) {
        let mut path = vec![slot];
        let mut at = slot;
        while let Some(next) = self.named_by(symbols, at) {
            if next == slot {
                self.amendments.cycle(slot, path);
                return;
            }
            // A path that runs into an older cycle is not one itself.
            if path.contains(&next) || self.rows[next as usize].stance != Stance::Corrects {
                return;
            }
            path.push(next);
            at = next;
        }
    }

    fn named_by(&self, symbols: &Symbols, slot: Slot) -> Option<Slot> {
        let target = self.amendments.target(slot)?;
        self.slot_of(symbols, target)
    }

    /// Lets a retraction work on what it names, and finds the cycle that it may close.
    fn retract(&mut self, symbols: &Symbols, slot: Slot, target: &Identity) {
        if !self.contains(symbols, target) {
            self.amendments.wait(slot, target);
            return;
        }
        let cycle = self.retraction_cycle(symbols, slot);
        if cycle.is_empty() {
            self.spread(symbols, slot, true, slot);
            return;
        }
        // What its members did to each other ends; nothing beyond a cycle was touched by it, because each names one event.
        // Which of them worked is read before anything shifts.
        let worked = cycle.iter().copied();
        let undone: Vec<Slot> = worked
            .filter(|member| *member != slot && self.amendments.works(*member))
            .filter_map(|member| self.named_by(symbols, member))
            .collect();
        for named in undone {
            self.amendments.shift(named, false, slot);
        }
        self.amendments.retraction_cycle(slot, cycle);
    }

    fn retraction_cycle(&self, symbols: &Symbols, slot: Slot) -> Vec<Slot> {
        let mut path = vec![slot];
        let mut at = slot;
        while let Some(next) = self.named_by(symbols, at) {
            if next == slot {
                return path;
            }
            let ends = self.rows[next as usize].stance != Stance::TakesOut;
            if ends || self.amendments.is_cyclic(next) {
                return Vec::new();
            }
            path.push(next);
            at = next;
        }
        Vec::new()
    }

    /// A retraction begins (`on`) or ceases to work: follows what that changes, along the chain of what each names.
    fn spread(&mut self, symbols: &Symbols, from: Slot, on: bool, stamp: Slot) {
        let (mut retraction, mut on) = (from, on);
        if on && !self.amendments.works(retraction) {
            return;
        }
        while let Some(named) = self.named_by(symbols, retraction) {
            if !self.amendments.shift(named, on, stamp) {
                return;
            }
            match self.rows[named as usize].stance {
                Stance::TakesOut if self.amendments.is_cyclic(named) => return,
                Stance::TakesOut => {
                    on = self.amendments.stands(named);
                    retraction = named;
                }
                Stance::Corrects if !self.is_member(named) => return,
                Stance::States | Stance::Corrects => {
                    let contest = self.contest_of(named);
                    self.decide(symbols, contest, stamp);
                    return;
                }
            }
        }
    }

    /// An event arrives that working retractions named before it came.
    fn take_out_if_retracted(&mut self, symbols: &Symbols, slot: Slot, identity: &Identity) {
        let mut out = false;
        for retraction in self.amendments.retractions_of(identity) {
            // Its own retraction of itself is a cycle, found when it is settled.
            if retraction != slot && self.amendments.works(retraction) {
                self.amendments.shift(slot, true, slot);
                out = true;
            }
        }
        if out && self.rows[slot as usize].stance == Stance::States {
            let contest = self.contest_of(slot);
            self.decide(symbols, contest, slot);
        }
    }

    /// Makes `slot` an event of the fact that `first` belongs to.
    fn join(&mut self, symbols: &Symbols, slot: Slot, first: Slot, stamp: Slot) {
        let contest = self.contest_of(first);
        self.enter(slot, contest);
        let entry = &mut self.contests[contest as usize];
        entry.members.push((slot, stamp));
        let current = entry.winner(Cut(stamp + 1));
        if !self.amendments.stands(slot) {
            return;
        }
        let cut = Cut(stamp + 1);
        let wins = current == NONE || self.compare(symbols, slot, current, cut).is_gt();
        if wins {
            self.contests[contest as usize].crown(stamp, slot);
        }
    }

    /// Finds the winner among all members, after something other than a new member changed.
    fn decide(&mut self, symbols: &Symbols, contest: u32, stamp: Slot) {
        let cut = Cut(stamp + 1);
        let members = &self.contests[contest as usize].members;
        let winner = members
            .iter()
            .map(|(member, _)| *member)
            .filter(|member| self.amendments.stands(*member))
            .max_by(|a, b| self.compare(symbols, *a, *b, cut))
            .unwrap_or(NONE);
        self.contests[contest as usize].crown(stamp, winner);
    }

    /// The contest that an event is in; a lone event becomes one in which it won from its own slot on.
    fn contest_of(&mut self, slot: Slot) -> u32 {
        if let Some(contest) = self.contest_of.get(&slot) {
            return *contest;
        }
        let contest = index_of(self.contests.len());
        self.contests.push(Contest {
            members: vec![(slot, slot)],
            of_ranks: self.rows[slot as usize].family == Family::SourceRank,
            winners: vec![(slot, slot)],
        });
        self.enter(slot, contest);
        contest
    }

    /// Whether a row's fact is the rank of a source: what a correction says in its place does not matter.
    pub(crate) fn is_of_ranks(&self, slot: Slot) -> bool {
        match self.contest(slot) {
            Some(contest) => contest.of_ranks,
            None => self.rows[slot as usize].family == Family::SourceRank,
        }
    }

    fn is_member(&self, slot: Slot) -> bool {
        self.contest_of.contains_key(&slot)
    }

    fn rank(&self, source: Symbol, cut: Cut) -> u32 {
        let Some(ranks) = self.ranks.get(&source) else {
            return 0;
        };
        let known = ranks.partition_point(|(from, _)| *from < cut.0);
        known.checked_sub(1).map_or(0, |last| ranks[last].1)
    }

    fn first_of_key(&self, key: [u8; KEY_BYTES]) -> Option<Slot> {
        let same = |slot: &Slot| self.rows[*slot as usize].key == key;
        self.by_key.find(hash_of_key(key), same)
    }

    fn index_key(&mut self, slot: Slot) {
        let rows = &self.rows;
        let hash = |slot: &Slot| hash_of_key(rows[*slot as usize].key);
        self.by_key.insert(hash(&slot), slot, hash);
    }

    fn revision(&self, slot: Slot) -> u32 {
        self.revisions.get(&slot).copied().unwrap_or(0)
    }

    fn contest(&self, slot: Slot) -> Option<&Contest> {
        let contest = self.contest_of.get(&slot)?;
        self.contests.get(*contest as usize)
    }

    fn enter(&mut self, slot: Slot, contest: u32) {
        self.contest_of.insert(slot, contest);
        self.mark_special(slot);
    }

    /// Whether an event amends, or shares its fact with others.
    pub(crate) fn is_special(&self, slot: Slot) -> bool {
        let word = self.special.get(slot as usize / 64);
        word.is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }

    fn mark_special(&mut self, slot: Slot) {
        let word = slot as usize / 64;
        if self.special.len() <= word {
            self.special.resize(word + 1, 0);
        }
        self.special[word] |= 1 << (slot % 64);
    }
}

impl Contest {
    fn winner(&self, cut: Cut) -> Slot {
        let known = self.winners.partition_point(|(from, _)| *from < cut.0);
        known
            .checked_sub(1)
            .map_or(NONE, |last| self.winners[last].1)
    }

    fn crown(&mut self, stamp: u32, winner: Slot) {
        if self.winners.last().is_some_and(|last| last.0 == stamp) {
            self.winners.pop();
        }
        if self.winners.last().map_or(NONE, |last| last.1) != winner {
            self.winners.push((stamp, winner));
        }
    }
}

/// The key is a SHA-256 already.
fn hash_of_key(key: [u8; KEY_BYTES]) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&key[..8]);
    u64::from_le_bytes(first)
}
