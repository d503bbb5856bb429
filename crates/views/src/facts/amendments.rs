//! Corrections and retractions: what each names, what stands, what waits (LEDGER E6).
//!
//! A retraction works while it stands and is in no cycle; an event stands while no working retraction names it. Each
//! retraction names one event, so both are decided by following single arrows, and no order of arrival can change them.
use std::collections::{BTreeMap, BTreeSet};

use waybill_core::Identity;

use super::claims::{Cut, Slot};

/// All amendments. They are few beside the events, so clarity comes before size here.
#[derive(Debug, Default)]
pub(crate) struct Amendments {
    /// What each amendment names.
    pub(super) targets: BTreeMap<Slot, Identity>,
    corrections: BTreeMap<Identity, Vec<Slot>>,
    retractions: BTreeMap<Identity, Vec<Slot>>,
    /// Events that retractions worked on.
    pub(super) outs: BTreeMap<Slot, Out>,
    /// Amendments whose target was absent when they came, and the position at which it came (`u64::MAX`: not yet).
    pub(super) waits: Vec<(Slot, u64)>,
    waiting: BTreeMap<Identity, Vec<usize>>,
    /// Members of retraction cycles.
    pub(super) cyclic: BTreeSet<Slot>,
    /// Cycles, by the slot that closed them.
    pub(super) cycles: Vec<(Slot, Vec<Slot>)>,
    /// Corrections that name a retraction, by the slot from which both were known.
    pub(super) misdirected: Vec<(Slot, Vec<Slot>)>,
    /// Which of `targets` are corrections; the rest are retractions.
    pub(super) correcting: BTreeSet<Slot>,
}

/// How many working retractions name an event, and the slots at which it fell or rose, beginning with a fall.
#[derive(Clone, Debug, Default)]
pub(crate) struct Out {
    pub(super) count: u32,
    pub(super) toggles: Vec<u32>,
}

impl Amendments {
    pub(super) fn note_correction(&mut self, slot: Slot, target: &Identity) {
        self.targets.insert(slot, target.clone());
        self.correcting.insert(slot);
        self.corrections
            .entry(target.clone())
            .or_default()
            .push(slot);
    }

    pub(super) fn note_retraction(&mut self, slot: Slot, target: &Identity) {
        self.targets.insert(slot, target.clone());
        self.retractions
            .entry(target.clone())
            .or_default()
            .push(slot);
    }

    pub(super) fn wait(&mut self, slot: Slot, target: &Identity) {
        let at = self.waits.len();
        self.waits.push((slot, u64::MAX));
        self.waiting.entry(target.clone()).or_default().push(at);
    }

    /// An event is there from `position` on: nobody waits for it any longer.
    pub(super) fn arrived(&mut self, identity: &Identity, position: u64) {
        if self.waiting.is_empty() {
            return;
        }
        for at in self.waiting.remove(identity).unwrap_or_default() {
            self.waits[at].1 = position;
        }
    }

    pub(super) fn target(&self, slot: Slot) -> Option<&Identity> {
        self.targets.get(&slot)
    }

    pub(super) fn no_corrections(&self) -> bool {
        self.corrections.is_empty()
    }

    pub(super) fn corrections_of(&self, identity: &Identity) -> Vec<Slot> {
        self.corrections.get(identity).cloned().unwrap_or_default()
    }

    pub(super) fn retractions_of(&self, identity: &Identity) -> Vec<Slot> {
        self.retractions.get(identity).cloned().unwrap_or_default()
    }

    /// Whether an event stands now.
    pub(super) fn stands(&self, slot: Slot) -> bool {
        self.outs.get(&slot).is_none_or(|out| out.count == 0)
    }

    /// Whether an event stood at a cut.
    pub(super) fn stood(&self, slot: Slot, cut: Cut) -> bool {
        self.outs.get(&slot).is_none_or(|out| {
            let known = out.toggles.partition_point(|stamp| *stamp < cut.0);
            known.is_multiple_of(2)
        })
    }

    /// Whether a retraction counts now.
    pub(super) fn works(&self, slot: Slot) -> bool {
        self.stands(slot) && !self.cyclic.contains(&slot)
    }

    pub(super) fn is_cyclic(&self, slot: Slot) -> bool {
        self.cyclic.contains(&slot)
    }

    /// One more (or less) working retraction names `slot`. True when that made it fall or rise.
    pub(super) fn shift(&mut self, slot: Slot, more: bool, stamp: u32) -> bool {
        let out = self.outs.entry(slot).or_default();
        let stood = out.count == 0;
        out.count = if more {
            out.count + 1
        } else {
            out.count.saturating_sub(1)
        };
        let changed = stood != (out.count == 0);
        if changed && out.toggles.last() == Some(&stamp) {
            out.toggles.pop();
        } else if changed {
            out.toggles.push(stamp);
        }
        changed
    }

    pub(super) fn retraction_cycle(&mut self, slot: Slot, members: Vec<Slot>) {
        self.cyclic.extend(&members);
        self.cycle(slot, members);
    }

    pub(super) fn cycle(&mut self, slot: Slot, members: Vec<Slot>) {
        self.cycles.push((slot, members));
    }

    pub(super) fn misdirected(&mut self, slot: Slot, events: Vec<Slot>) {
        self.misdirected.push((slot, events));
    }

    /// Builds the indexes anew, after a restore. `identities` are those of `targets`.
    pub(super) fn reindex(&mut self) {
        for (slot, target) in &self.targets {
            let index = if self.correcting.contains(slot) {
                &mut self.corrections
            } else {
                &mut self.retractions
            };
            index.entry(target.clone()).or_default().push(*slot);
        }
        for (at, (slot, until)) in self.waits.iter().enumerate() {
            if *until == u64::MAX
                && let Some(target) = self.targets.get(slot)
            {
                self.waiting.entry(target.clone()).or_default().push(at);
            }
        }
    }

    /// What was odd at a cut: amendments that waited, cycles, corrections of retractions. Each list in slot order.
    pub(crate) fn oddities(&self, cut: Cut, position: u64) -> [(&'static str, Vec<Slot>); 3] {
        let known = |list: &[(Slot, Vec<Slot>)]| -> Vec<Slot> {
            let known = list.iter().filter(|(stamp, _)| *stamp < cut.0);
            known.flat_map(|(_, slots)| slots.iter().copied()).collect()
        };
        let waits = self.waits.iter();
        let waits = waits.filter(|(slot, until)| *slot < cut.0 && *until > position);
        [
            ("amends_absent", waits.map(|(slot, _)| *slot).collect()),
            ("amendment_cycle", known(&self.cycles)),
            ("corrects_retraction", known(&self.misdirected)),
        ]
    }
}
