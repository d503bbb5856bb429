//! Deployments of one service in one environment, by when they ended.
use std::collections::{BTreeMap, BTreeSet};

use super::{claims::Slot, column::index_of, text::Symbol};

/// Occur time in nanoseconds, [`id_order`] of the deployment, slot: an order that arrival cannot change, but between
/// events of one deployment at one moment, where a question decides.
pub(crate) type LaneKey = (i64, u32, Slot);

/// One service in one environment.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    pub(crate) service: u32,
    pub(crate) environment: u32,
    pub(crate) finished: BTreeSet<LaneKey>,
    /// Asked for, started, or on its way.
    pub(crate) begun: BTreeSet<LaneKey>,
    /// Ended at a time that nobody knows.
    pub(crate) untimed: Vec<Slot>,
}

/// All lanes, and the merges that wait for them.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    pub(super) rows: Vec<Lane>,
    index: BTreeMap<(Symbol, Symbol), u32>,
    /// Lanes whose deployments name a revision of a repository.
    pub(super) by_repository: BTreeMap<Symbol, BTreeSet<u32>>,
    /// Lanes with a deployment that names no revision, so that it may run any repository.
    pub(super) indirect: BTreeSet<u32>,
    /// Merges into a repository, by occur time.
    pub(super) merges: BTreeMap<Symbol, BTreeSet<(i64, Slot)>>,
}

/// Orders deployments that ended at the same moment by their ids, in four bytes (FNV-1a).
pub(crate) fn id_order(deployment_id: &str) -> u32 {
    deployment_id.bytes().fold(0x811C_9DC5, |sum, byte| {
        (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

impl Lane {
    pub(crate) fn service(&self) -> Symbol {
        Symbol(self.service)
    }

    pub(crate) fn environment(&self) -> Symbol {
        Symbol(self.environment)
    }
}

impl Lanes {
    pub(super) fn intern(&mut self, service: Symbol, environment: Symbol) -> u32 {
        let rows = &mut self.rows;
        *self.index.entry((service, environment)).or_insert_with(|| {
            rows.push(Lane {
                service: service.0,
                environment: environment.0,
                ..Lane::default()
            });
            index_of(rows.len() - 1)
        })
    }

    pub(crate) fn find(&self, service: Symbol, environment: Symbol) -> Option<u32> {
        self.index.get(&(service, environment)).copied()
    }

    pub(crate) fn at(&self, lane: u32) -> &Lane {
        &self.rows[lane as usize]
    }

    /// Every lane, in order of arrival.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u32, &Lane)> {
        (0..).zip(&self.rows)
    }

    /// Lanes that may run commits of a repository, in order of arrival.
    pub(crate) fn of_repository(&self, repository: Symbol) -> BTreeSet<u32> {
        let named = self.by_repository.get(&repository).cloned();
        let mut lanes = named.unwrap_or_default();
        lanes.extend(&self.indirect);
        lanes
    }

    /// Merges into a repository that happened in `first..end` (nanoseconds).
    pub(crate) fn merges(
        &self,
        repository: Symbol,
        first: i64,
        end: i64,
    ) -> impl Iterator<Item = Slot> + '_ {
        let merges = self.merges.get(&repository).into_iter();
        merges
            .flat_map(move |merges| merges.range((first, 0)..(end.max(first), 0)))
            .map(|(_, slot)| *slot)
    }

    pub(super) fn reindex(&mut self) {
        for (at, lane) in (0..).zip(&self.rows) {
            self.index.insert((lane.service(), lane.environment()), at);
        }
    }
}
