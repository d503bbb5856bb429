//! The end of the ledger that does not fill its pages yet, and how a step of events becomes keys and values.
//!
//! Full pages are written once and never again. What is open is kept in memory, where reads find it, and in sled: after a
//! step that filled a page as a whole under keys of its own, after a small step as that step only (`delta`). The next
//! full page sweeps the small steps away.
use std::sync::Arc;

use super::{
    Step,
    blocks::{Block, OpenBlock},
    delta,
    index::{self, Entry, OpenIndex, Page},
    keys::{self, Full, Key, Writes},
    meta::Meta,
    pages::{self, OpenNumbers, OpenTile, TILE_HASHES, TILE_LEVELS},
    value,
};
use crate::{Fault, record::Hash};

/// So that opening the database never has many small steps to go through.
const DELTAS_MAX: usize = 64;

/// Everything that is open, and where the database stands.
#[derive(Clone)]
pub(crate) struct Tail {
    pub(crate) meta: Option<Meta>,
    pub(crate) block: OpenBlock,
    pub(crate) block_ends: OpenNumbers,
    pub(crate) tiles: Vec<OpenTile>,
    pub(crate) fingerprints: OpenNumbers,
    pub(crate) index: Arc<OpenIndex>,
    /// First positions of the small steps that are not swept away yet.
    deltas: Vec<u64>,
}

impl Default for Tail {
    fn default() -> Self {
        Self {
            meta: None,
            block: OpenBlock::new(),
            block_ends: OpenNumbers::default(),
            tiles: vec![OpenTile::default(); 2],
            fingerprints: OpenNumbers::default(),
            index: Arc::default(),
            deltas: Vec::new(),
        }
    }
}

/// Gives the value under a key.
pub(crate) type Get<'a> = &'a mut dyn FnMut(Key) -> Result<Option<Vec<u8>>, Fault>;

impl Tail {
    /// Position of the last event; 0 before the first.
    pub(crate) fn position(&self) -> u64 {
        self.meta.as_ref().map_or(0, |meta| meta.tip.position)
    }

    /// The number that the next full page of a kind gets, which is how many there are.
    pub(crate) fn full_pages(&self, full: Full) -> u64 {
        match full {
            Full::Block => self.block.number,
            Full::Ends => self.block_ends.page,
            Full::Fingerprints => self.fingerprints.page,
            Full::Leaves => self.tiles[0].index,
            Full::Index => self.index.page,
        }
    }

    /// Takes in a step and says what is to be written for it.
    ///
    /// # Errors
    /// [`Fault::Foreign`] when the step does not continue where the last one ended, or its parts do not fit together;
    /// [`Fault::TooLarge`].
    pub(crate) fn step(&mut self, step: &Step<'_>) -> Result<Writes, Fault> {
        self.check(step)?;
        let mut writes = Writes::default();
        let mut full = false;
        for ((record, &leaf), keys) in step.records.iter().zip(step.leaves).zip(step.keys) {
            full |= self.block.push(record, &mut writes)?;
            let fingerprint = record.fingerprint();
            full |= self.push(
                leaf,
                fingerprint,
                index::entry(record.record_time, keys),
                &mut writes,
            );
        }
        full |= self.push_nodes(step.nodes, &mut writes)?;
        step.meta.put(&mut writes)?;
        let first = self.position() + 1;
        self.meta = Some(step.meta.clone());
        match delta::of(step) {
            Some(value) if !full && self.deltas.len() < DELTAS_MAX => {
                value::put(keys::delta(first), value, &mut writes);
                self.deltas.push(first);
            }
            _ => self.put_open(&mut writes),
        }
        Ok(writes)
    }

    fn check(&self, step: &Step<'_>) -> Result<(), Fault> {
        let (first, count) = (self.position() + 1, step.records.len());
        let foreign = |what| Err(Fault::Foreign { what });
        if count == 0 || step.leaves.len() != count || step.keys.len() != count {
            let (leaves, keys) = (step.leaves.len(), step.keys.len());
            return foreign(format!(
                "a step has {count} records, {leaves} leaves and {keys} keys"
            ));
        }
        let wrong = step
            .records
            .iter()
            .zip(first..)
            .find(|(record, position)| record.position != *position);
        if let Some((record, position)) = wrong {
            return foreign(format!(
                "a step holds position {} where {position} must come",
                record.position
            ));
        }
        if step.meta.tip.position != first + count as u64 - 1 {
            return foreign(format!(
                "a step of {count} from {first} says it ends at {}",
                step.meta.tip.position
            ));
        }
        Ok(())
    }

    fn push(
        &mut self,
        leaf: Hash,
        fingerprint: u64,
        entry: Entry<impl Iterator<Item = u32>>,
        writes: &mut Writes,
    ) -> bool {
        let tile = self.tiles[0].push(0, leaf, writes);
        let fingerprints = self
            .fingerprints
            .push(Full::Fingerprints, fingerprint, writes);
        let index = Arc::make_mut(&mut self.index).push(entry, writes);
        tile || fingerprints || index
    }

    /// Keeps the nodes that are roots of full tiles; what lies between is worked out from them.
    fn push_nodes(
        &mut self,
        nodes: &[(u8, u64, Hash)],
        writes: &mut Writes,
    ) -> Result<bool, Fault> {
        let mut kept = false;
        let roots = nodes
            .iter()
            .filter(|(level, ..)| *level > 0 && level % TILE_LEVELS == 0);
        for &(level, index, hash) in roots {
            let at = level / TILE_LEVELS;
            if usize::from(at) + 1 >= self.tiles.len() {
                self.tiles.push(OpenTile::default());
            }
            let tile = &mut self.tiles[usize::from(at)];
            if tile.end() != index {
                let what = format!(
                    "a step completes node {index} of level {level} where {} must come",
                    tile.end()
                );
                return Err(Fault::Foreign { what });
            }
            tile.push(at, hash, writes);
            kept = true;
        }
        self.missing_node()
            .map_or(Ok(kept), |what| Err(Fault::Foreign { what }))
    }

    /// What is wrong when a tile has been filled and its root did not come.
    fn missing_node(&self) -> Option<String> {
        let levels = self.tiles.iter().zip(&self.tiles[1..]).zip(1u8..);
        let mut wrong = levels.filter(|((below, tile), _)| tile.end() != below.end() / TILE_HASHES);
        wrong.next().map(|((_, tile), level)| {
            format!(
                "node {} of level {} is missing",
                tile.end(),
                level * TILE_LEVELS
            )
        })
    }

    fn put_open(&mut self, writes: &mut Writes) {
        self.block.put_open(writes);
        for end in std::mem::take(&mut writes.block_ends) {
            self.block_ends.push(Full::Ends, end, writes);
            writes.block_ends.push(end);
        }
        self.block_ends.put_open(keys::open_ends(), writes);
        for (level, tile) in (0..).zip(&self.tiles) {
            tile.put_open(level, writes);
        }
        self.fingerprints
            .put_open(keys::open_fingerprints(), writes);
        self.index.put_open(writes);
        writes.remove.extend(self.deltas.drain(..).map(keys::delta));
    }

    /// Reads back what [`Tail::step`] wrote; `deltas` are the small steps, with their first positions.
    ///
    /// # Errors
    /// What `get` says, or [`Fault::Suspect`] with what does not fit.
    pub(crate) fn load(get: Get<'_>, deltas: &[(u64, Vec<u8>)]) -> Result<Self, Fault> {
        let Some(meta) = get(keys::meta())? else {
            return Ok(Self::default());
        };
        let meta = Meta::read(&meta).map_err(suspect)?;
        let swept = deltas
            .first()
            .map_or(meta.tip.position, |(first, _)| first - 1);
        let mut tail = if swept == 0 {
            Self::default()
        } else {
            Self::load_pages(get, swept)?
        };
        for (first, delta) in deltas {
            if tail.block.end() != *first {
                let why = format!(
                    "small steps go on at {first} and not at {}",
                    tail.block.end()
                );
                return Err(suspect(why));
            }
            tail.replay(delta).map_err(suspect)?;
            tail.deltas.push(*first);
        }
        tail.check_ends(meta.tip.position).map_err(suspect)?;
        tail.meta = Some(meta);
        for key in tail.last_full() {
            if get(key.clone())?.is_none() {
                return Err(suspect(format!("the last full page {key:?} is missing")));
            }
        }
        Ok(tail)
    }

    /// Last positions of all full blocks.
    ///
    /// # Errors
    /// What `get` says, or [`Fault::Suspect`] when they do not rise up to the open block.
    pub(crate) fn load_block_ends(&self, get: Get<'_>) -> Result<Vec<u64>, Fault> {
        let mut ends = Vec::new();
        for page in 0..self.block_ends.page {
            let list = pages::full_numbers(get(Full::Ends.key(page))?);
            ends.extend(
                list.map_err(|what| suspect(format!("page {page} of block ends: {what}")))?,
            );
        }
        ends.extend_from_slice(&self.block_ends.list);
        if ends.is_sorted_by(|a, b| a < b)
            && ends.last().copied().unwrap_or(0) == self.block.first() - 1
        {
            Ok(ends)
        } else {
            Err(suspect("the ends of its blocks do not rise".to_owned()))
        }
    }

    /// The pages that were open at a position.
    fn load_pages(get: Get<'_>, position: u64) -> Result<Self, Fault> {
        let mut part = |key: Key| {
            let missing = || suspect(format!("the open page {key:?} is missing"));
            get(key.clone())?.ok_or_else(missing)
        };
        let block = Block::read(&part(keys::open_block())?).map_err(suspect)?;
        let block_ends = OpenNumbers::read(&part(keys::open_ends())?).map_err(suspect)?;
        let fingerprints = OpenNumbers::read(&part(keys::open_fingerprints())?).map_err(suspect)?;
        let index = part(keys::open_index())?;
        let index = value::join(keys::open_index(), index, get)?.map_err(suspect)?;
        let index = OpenIndex::resume(&Page::read(&index).map_err(suspect)?, position);
        let mut tiles = Vec::new();
        for level in 0u8.. {
            let Some(tile) = get(keys::open_tile(level))? else {
                break;
            };
            tiles.push(OpenTile::read(&tile).map_err(suspect)?);
        }
        if tiles.len() < 2 {
            return Err(suspect("an open tile is missing".to_owned()));
        }
        Ok(Self {
            meta: None,
            block: OpenBlock::resume(block_ends.count(), block),
            block_ends,
            tiles,
            fingerprints,
            index: Arc::new(index),
            deltas: Vec::new(),
        })
    }

    /// Adds a small step again. It filled no page when it came, so it fills none now.
    fn replay(&mut self, delta: &[u8]) -> Result<(), String> {
        let mut unexpected = Writes::default();
        for event in delta::read(delta)? {
            self.block.add(&event.encoded);
            let words = event.words.into_iter();
            let entry = Entry {
                record_time: event.record_time,
                occur_time: event.occur_time,
                words,
            };
            self.push(event.leaf, event.fingerprint, entry, &mut unexpected);
        }
        if unexpected.put.is_empty() {
            Ok(())
        } else {
            Err("a small step fills a page".to_owned())
        }
    }

    /// All pages end where the description says, or something was lost.
    fn check_ends(&self, position: u64) -> Result<(), String> {
        let ends = [
            ("blocks", self.block.end() - 1),
            ("fingerprints", self.fingerprints.count()),
            ("the index", self.index.count()),
            ("the tree", self.tiles[0].end()),
        ];
        match ends.iter().find(|(_, end)| *end != position) {
            Some((what, end)) => Err(format!(
                "{what} go to position {end} and the description to {position}"
            )),
            None => self.missing_node().map_or(Ok(()), Err),
        }
    }

    /// Keys of the last full page of each kind, where there is one.
    fn last_full(&self) -> Vec<Key> {
        let page = |full: Full| {
            self.full_pages(full)
                .checked_sub(1)
                .map(|number| full.key(number))
        };
        let tile = |(level, tile): (u8, &OpenTile)| {
            tile.index
                .checked_sub(1)
                .map(|index| keys::tile(level, index))
        };
        Full::ALL
            .into_iter()
            .filter_map(page)
            .chain((1..).zip(&self.tiles[1..]).filter_map(tile))
            .collect()
    }
}

pub(crate) fn suspect(why: String) -> Fault {
    Fault::Suspect { why }
}
