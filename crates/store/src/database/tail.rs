//! The end of the ledger that does not fill its pages yet, and how a step of events becomes keys and values.
//!
//! Full pages are written once and never again. What is open is kept in memory, where reads find it, and in sled: after a
//! step that filled a page as a whole under keys of its own, after a small step as a *delta*, the step's events as they
//! came, so that a lone event costs a few hundred bytes and not four pages. The next full page sweeps the deltas away.
use std::sync::Arc;

use super::{
    Step,
    blocks::{Block, OpenBlock},
    index::{Entry, OpenIndex, Page},
    keys::{self, Key, VALUE_BYTES_MAX, Writes},
    meta::Meta,
    pages::{OpenFingerprints, OpenTile, TILE_HASHES, TILE_LEVELS},
    value,
};
use crate::{
    Fault, codec,
    record::{Hash, Record},
    seen,
};

/// 1: `count u16`, then for each event its record behind its length as u32, leaf hash, record time i64, has occur u8,
/// occur time i64, words (u32 each) behind their length in bytes as u32. The fingerprint follows from the record.
const DELTA_VERSION: u8 = 1;
/// Larger deltas are not worth writing twice, in bytes.
const DELTA_BYTES_MAX: usize = VALUE_BYTES_MAX / 2;
/// So that opening the database never has many to go through.
const DELTAS_MAX: usize = 64;
/// No record may be larger, encoded, in bytes.
const RECORD_BYTES_MAX: usize = 8 << 20;

/// Everything that is open, and where the database stands.
#[derive(Clone)]
pub(crate) struct Tail {
    pub(crate) meta: Option<Meta>,
    pub(crate) block: OpenBlock,
    pub(crate) tiles: Vec<OpenTile>,
    pub(crate) fingerprints: OpenFingerprints,
    pub(crate) index: Arc<OpenIndex>,
    /// First positions of the deltas that are not swept away yet.
    deltas: Vec<u64>,
}

impl Default for Tail {
    fn default() -> Self {
        Self {
            meta: None,
            block: OpenBlock::starting_at(1),
            tiles: vec![OpenTile::default(); 2],
            fingerprints: OpenFingerprints::default(),
            index: Arc::default(),
            deltas: Vec::new(),
        }
    }
}

/// One event on its way into the pages.
struct Incoming {
    encoded: Vec<u8>,
    leaf: Hash,
    fingerprint: u64,
    entry: Entry,
}

impl Tail {
    /// Position of the last event; 0 before the first.
    pub(crate) fn position(&self) -> u64 {
        self.meta.as_ref().map_or(0, |meta| meta.tip.position)
    }

    /// Takes in a step and says what is to be written for it.
    ///
    /// # Errors
    /// [`Fault::Foreign`] when the step does not continue where the last one ended, or its parts do not fit together;
    /// [`Fault::TooLarge`].
    pub(crate) fn step(&mut self, step: &Step<'_>) -> Result<Writes, Fault> {
        self.check(step)?;
        let mut writes = Writes::default();
        let mut delta = Delta::default();
        let mut sealed = false;
        for ((record, leaf), keys) in step.records.iter().zip(step.leaves).zip(step.keys) {
            let incoming = incoming(record, *leaf, Entry::new(record.record_time, keys))?;
            delta.push(&incoming);
            sealed |= self.push(&incoming, &mut writes);
        }
        sealed |= self.push_nodes(step.nodes, &mut writes)?;
        step.meta.put(&mut writes)?;
        let first = self.position() + 1;
        self.meta = Some(step.meta.clone());
        match delta.value() {
            Some(value) if !sealed && self.deltas.len() < DELTAS_MAX => {
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

    fn push(&mut self, incoming: &Incoming, writes: &mut Writes) -> bool {
        let block = self.block.push(&incoming.encoded, writes);
        self.push_pages(incoming, writes) || block
    }

    fn push_pages(&mut self, incoming: &Incoming, writes: &mut Writes) -> bool {
        let tile = self.tiles[0].push(0, incoming.leaf, writes);
        let fingerprints = self.fingerprints.push(incoming.fingerprint, writes);
        let index = Arc::make_mut(&mut self.index).push(&incoming.entry, writes);
        tile || fingerprints || index
    }

    /// Keeps the nodes that are roots of full tiles; what lies between is worked out from them.
    fn push_nodes(
        &mut self,
        nodes: &[(u8, u64, Hash)],
        writes: &mut Writes,
    ) -> Result<bool, Fault> {
        let mut sealed = false;
        for &(level, index, hash) in nodes
            .iter()
            .filter(|(level, ..)| *level > 0 && level % TILE_LEVELS == 0)
        {
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
            sealed = true;
        }
        if let Some(what) = self.missing_node() {
            Err(Fault::Foreign { what })
        } else {
            Ok(sealed)
        }
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

    /// Keys of the last full page of each kind, where there is one.
    pub(crate) fn last_full(&self) -> Vec<Key> {
        let block = (self.block.first() > 1).then(|| keys::block(self.block.first() - 1));
        let fingerprints = self
            .fingerprints
            .page
            .checked_sub(1)
            .map(keys::fingerprints);
        let index = self.index.page.checked_sub(1).map(keys::index);
        let tile = |(level, tile): (u8, &OpenTile)| {
            tile.index
                .checked_sub(1)
                .map(|index| keys::tile(level, index))
        };
        let tiles = (0..).zip(&self.tiles).filter_map(tile);
        [block, fingerprints, index]
            .into_iter()
            .flatten()
            .chain(tiles)
            .collect()
    }

    fn put_open(&mut self, writes: &mut Writes) {
        self.block.put_open(writes);
        for (level, tile) in (0..).zip(&self.tiles) {
            tile.put_open(level, writes);
        }
        self.fingerprints.put_open(writes);
        self.index.put_open(writes);
        writes.remove.extend(self.deltas.drain(..).map(keys::delta));
    }

    /// Reads back what [`Tail::step`] wrote. `get` gives the value under a key.
    ///
    /// # Errors
    /// What `get` says, or [`Fault::Suspect`] with what does not fit.
    pub(crate) fn load(
        get: &mut dyn FnMut(Key) -> Result<Option<Vec<u8>>, Fault>,
        deltas: &[(u64, Vec<u8>)],
    ) -> Result<Self, Fault> {
        let Some(meta) = get(keys::meta())? else {
            return Ok(Self::default());
        };
        let meta = Meta::read(&meta).map_err(suspect)?;
        let swept = deltas
            .first()
            .map_or(meta.tip.position, |(first, _)| first - 1);
        let mut tail = Self::load_pages(get, swept)?;
        for (first, delta) in deltas {
            if tail.block.end() != *first {
                return Err(suspect(format!(
                    "small steps go on at {first} and not at {}",
                    tail.block.end()
                )));
            }
            tail.replay(delta).map_err(suspect)?;
            tail.deltas.push(*first);
        }
        tail.check_ends(meta.tip.position).map_err(suspect)?;
        tail.meta = Some(meta);
        Ok(tail)
    }

    fn load_pages(
        get: &mut dyn FnMut(Key) -> Result<Option<Vec<u8>>, Fault>,
        position: u64,
    ) -> Result<Self, Fault> {
        let mut tail = Self::default();
        if position == 0 {
            return Ok(tail);
        }
        let mut part = |key: Key, what: &str| {
            let missing = || suspect(format!("{what} that is not full is missing"));
            get(key)?.ok_or_else(missing)
        };
        tail.block = Block::read(&part(keys::open_block(), "the block")?)
            .map_err(suspect)?
            .into();
        tail.fingerprints = OpenFingerprints::read(&part(
            keys::open_fingerprints(),
            "the page of fingerprints",
        )?)
        .map_err(suspect)?;
        let head = part(keys::open_index(), "the index page")?;
        let page = value::join(keys::open_index(), head, get)?.map_err(suspect)?;
        let page = Page::read(&page).map_err(suspect)?;
        tail.index = Arc::new(OpenIndex::resume(&page, position));
        tail.tiles = Vec::new();
        for level in 0u8.. {
            let Some(tile) = get(keys::open_tile(level))? else {
                break;
            };
            tail.tiles.push(OpenTile::read(&tile).map_err(suspect)?);
        }
        if tail.tiles.len() < 2 {
            return Err(suspect("a tile that is not full is missing".to_owned()));
        }
        Ok(tail)
    }

    /// Adds a small step again. It filled no page when it came, so it fills none now.
    fn replay(&mut self, delta: &[u8]) -> Result<(), String> {
        let mut full = Writes::default();
        for incoming in Delta::read(delta)? {
            self.block.add(&incoming.encoded);
            self.push_pages(&incoming, &mut full);
        }
        if full.put.is_empty() {
            Ok(())
        } else {
            Err("a small step fills a page".to_owned())
        }
    }

    /// All pages end where the description says, or something was lost.
    fn check_ends(&self, position: u64) -> Result<(), String> {
        let next = position + 1;
        let ends = [
            ("blocks", self.block.end()),
            ("fingerprints", self.fingerprints.next_position()),
            ("the index", self.index.next_position()),
            ("the tree", self.tiles[0].end() + 1),
        ];
        match ends.iter().find(|(_, end)| *end != next) {
            Some((what, end)) => Err(format!(
                "{what} go to position {} and the description to {position}",
                end - 1
            )),
            None => self.missing_node().map_or(Ok(()), Err),
        }
    }
}

pub(crate) fn suspect(why: String) -> Fault {
    Fault::Suspect { why }
}

fn incoming(record: &Record, leaf: Hash, entry: Entry) -> Result<Incoming, Fault> {
    let mut encoded = Vec::with_capacity(record.bytes.len() + 256);
    codec::encode(record, &mut encoded);
    if encoded.len() > RECORD_BYTES_MAX {
        return Err(Fault::TooLarge {
            what: "a record",
            bytes: encoded.len(),
            limit: RECORD_BYTES_MAX,
        });
    }
    Ok(Incoming {
        encoded,
        leaf,
        fingerprint: seen::fingerprint(&record.source, &record.id),
        entry,
    })
}

/// A small step in the making; it gives up once it is no longer small.
struct Delta {
    count: u16,
    body: Option<Vec<u8>>,
}

impl Default for Delta {
    fn default() -> Self {
        Self {
            count: 0,
            body: Some(Vec::new()),
        }
    }
}

impl Delta {
    fn push(&mut self, incoming: &Incoming) {
        let Some(body) = &mut self.body else { return };
        if body.len() + incoming.encoded.len() > DELTA_BYTES_MAX {
            self.body = None;
            return;
        }
        self.count += 1;
        value::put_sized(&incoming.encoded, body);
        body.extend_from_slice(&incoming.leaf);
        body.extend_from_slice(&incoming.entry.record_time.to_le_bytes());
        body.push(u8::from(incoming.entry.occur_time.is_some()));
        body.extend_from_slice(&incoming.entry.occur_time.unwrap_or(0).to_le_bytes());
        let words = incoming
            .entry
            .words
            .iter()
            .flat_map(|word| word.to_le_bytes());
        value::put_sized(&words.collect::<Vec<u8>>(), body);
    }

    fn value(self) -> Option<Vec<u8>> {
        let body = self.body.filter(|body| body.len() <= DELTA_BYTES_MAX)?;
        let mut value = value::begin(DELTA_VERSION, 0);
        value.extend_from_slice(&self.count.to_le_bytes());
        value.extend_from_slice(&body);
        Some(value)
    }

    fn read(value: &[u8]) -> Result<Vec<Incoming>, String> {
        let (_, mut body) = value::open(value, DELTA_VERSION, "a small step")?;
        (0..body.u16()?)
            .map(|_| {
                let encoded = body.sized()?.to_vec();
                let leaf = body.array()?;
                let record_time = body.i64()?;
                let (has_occur, occur_time) = (body.u8()? != 0, body.i64()?);
                let words = body
                    .sized()?
                    .as_chunks()
                    .0
                    .iter()
                    .copied()
                    .map(u32::from_le_bytes)
                    .collect();
                let entry = Entry {
                    record_time,
                    occur_time: has_occur.then_some(occur_time),
                    words,
                };
                let record = codec::decode(&encoded)?;
                Ok(Incoming {
                    fingerprint: seen::fingerprint(&record.source, &record.id),
                    encoded,
                    leaf,
                    entry,
                })
            })
            .collect()
    }
}
