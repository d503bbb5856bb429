//! Reads: records, hashes, nodes, lists, fingerprints. Each verifies what it gives, as far as its pages let it.
use std::{ops::RangeInclusive, sync::Arc};

use super::{
    Candidates, Database, Selection,
    blocks::Block,
    index,
    keys::{self, Full},
    lock, pages, read,
    tail::{Tail, suspect},
};
use crate::{
    Fault, Pure,
    record::{Hash, Record},
    seen::Seen,
};

impl Database {
    /// The record at a position; `None` beyond the end.
    ///
    /// # Errors
    /// [`Fault::Damage`] when it should be there and cannot be read.
    pub fn record(&self, position: u64) -> Result<Option<Record>, Fault> {
        let tail = self.tail();
        if position == 0 || position > tail.position() {
            return Ok(None);
        }
        let record = if position >= tail.block.first() {
            tail.block.record(position)
        } else {
            self.recent_block(position)?.record(position)
        };
        record.map(Some).map_err(|what| self.damage(position, what))
    }

    /// Like [`Database::record`], and compares the record with its leaf.
    ///
    /// # Errors
    /// [`Fault::Damage`], also when the leaf is another's.
    pub fn record_checked(&self, position: u64, pure: &Pure) -> Result<Option<Record>, Fault> {
        let Some(record) = self.record(position)? else {
            return Ok(None);
        };
        if self.leaf(position)? == Some((pure.leaf)(&record)) {
            Ok(Some(record))
        } else {
            Err(self.damage(
                position,
                "the record is not the one that its leaf was made from".to_owned(),
            ))
        }
    }

    /// The records of some positions, in order, at most `limit`; those beyond the end are left out.
    ///
    /// # Errors
    /// [`Fault::Damage`].
    pub fn records(
        &self,
        positions: RangeInclusive<u64>,
        limit: usize,
    ) -> Result<Vec<Record>, Fault> {
        let tail = self.tail();
        let last = tail.position().min(*positions.end());
        let mut position = (*positions.start()).max(1);
        let mut records = Vec::new();
        while position <= last && records.len() < limit {
            let (block, end) = if position >= tail.block.first() {
                (None, tail.block.end())
            } else {
                let block = self.block(position)?;
                let end = block.end();
                (Some(block), end)
            };
            let room = (limit - records.len()) as u64;
            let until = end.min(last + 1).min(position.saturating_add(room));
            for position in position..until {
                let record = block
                    .as_ref()
                    .map_or_else(|| tail.block.record(position), |it| it.record(position));
                records.push(record.map_err(|what| self.damage(position, what))?);
            }
            position = until;
        }
        Ok(records)
    }

    /// Leaf hash of a position; `None` beyond the end.
    ///
    /// # Errors
    /// [`Fault::Damage`].
    pub fn leaf(&self, position: u64) -> Result<Option<Hash>, Fault> {
        Ok(self.leaves(position, 1)?.pop())
    }

    /// Leaf hashes of `count` positions from `first`; those beyond the end are left out.
    ///
    /// # Errors
    /// [`Fault::Damage`].
    pub fn leaves(&self, first: u64, count: u64) -> Result<Vec<Hash>, Fault> {
        let tail = self.tail();
        let first = first.max(1);
        let end = first.saturating_add(count).min(tail.position() + 1);
        let mut leaves = Vec::new();
        let mut position = first;
        while position < end {
            let tile = keys::tile_of(position);
            let hashes = self.tile(&tail, 0, tile)?;
            let start = tile * pages::TILE_HASHES;
            let until = (end - 1 - start).min(pages::TILE_HASHES);
            leaves
                .extend_from_slice(&hashes[keys::small(position - 1 - start)..keys::small(until)]);
            position = start + until + 1;
        }
        Ok(leaves)
    }

    /// Root of the complete subtree (level, index): level 0 is the leaf of position index + 1. `node_hash` is the tree's.
    ///
    /// # Errors
    /// [`Fault::Foreign`] when the subtree reaches beyond the end; [`Fault::Damage`].
    pub fn node(
        &self,
        level: u8,
        index: u64,
        node_hash: fn(&Hash, &Hash) -> Hash,
    ) -> Result<Hash, Fault> {
        let tail = self.tail();
        let width = 1u64 << (level % pages::TILE_LEVELS);
        let first = index.checked_mul(width).unwrap_or(u64::MAX - width);
        let (tile, start) = (
            first / pages::TILE_HASHES,
            keys::small(first % pages::TILE_HASHES),
        );
        let level_of_tiles = level / pages::TILE_LEVELS;
        let open = tail.tiles.get(usize::from(level_of_tiles));
        if open.is_none_or(|open| open.end() < first + width) {
            let what = format!(
                "node {index} of level {level} reaches beyond position {}",
                tail.position()
            );
            return Err(Fault::Foreign { what });
        }
        let hashes = self.tile(&tail, level_of_tiles, tile)?;
        let hashes = hashes[start..start + keys::small(width)].to_vec();
        pages::fold(hashes, node_hash)
            .ok_or_else(|| self.damage_anywhere("a tile is not whole".to_owned()))
    }

    /// Positions that may hold what is asked for, in the order asked for, read page by page as they are taken. Every
    /// match is among them; the caller looks at each event itself. Pinned to the end as it is now.
    #[must_use]
    pub fn select(&self, selection: &Selection) -> Candidates {
        Candidates::new(self.clone(), self.tail(), selection)
    }

    /// Reads the fingerprints of all identities into memory.
    ///
    /// # Errors
    /// [`Fault::Suspect`] when some are missing.
    pub fn load_seen(&self) -> Result<Seen, Fault> {
        let tail = self.tail();
        let mut seen = Seen::with_capacity(tail.position());
        let mut position = 1;
        for page in 0..tail.fingerprints.page {
            let list = pages::full_numbers(self.get(Full::Fingerprints.key(page))?);
            let list =
                list.map_err(|what| suspect(format!("page {page} of the fingerprints: {what}")))?;
            for fingerprint in list {
                seen.insert(fingerprint, position);
                position += 1;
            }
        }
        for (&fingerprint, position) in tail.fingerprints.list.iter().zip(position..) {
            seen.insert(fingerprint, position);
        }
        Ok(seen)
    }

    pub(super) fn tile(&self, tail: &Tail, level: u8, index: u64) -> Result<Vec<Hash>, Fault> {
        if let Some(open) = tail
            .tiles
            .get(usize::from(level))
            .filter(|open| open.index == index)
        {
            return Ok(open.hashes.clone());
        }
        let span = pages::TILE_HASHES.saturating_pow(u32::from(level) + 1);
        let first = index.saturating_mul(span).saturating_add(1);
        let bytes = self.get(keys::tile(level, index))?;
        let hashes = bytes
            .ok_or_else(|| format!("tile {index} of level {level} is missing"))
            .and_then(|it| pages::hashes(&it));
        let full = hashes.and_then(|hashes| match hashes.len() as u64 {
            pages::TILE_HASHES => Ok(hashes),
            count => Err(format!("tile {index} of level {level} has {count} hashes")),
        });
        full.map_err(|what| self.damage_over(first, Some(first.saturating_add(span - 1)), what))
    }

    fn recent_block(&self, position: u64) -> Result<Arc<Block>, Fault> {
        if let Some(block) = lock(&self.0.recent).find(position) {
            return Ok(block);
        }
        let block = Arc::new(self.block(position)?);
        lock(&self.0.recent).add(Arc::clone(&block));
        Ok(block)
    }

    /// The block that holds a position, which is the first that ends at or after it.
    fn block(&self, position: u64) -> Result<Block, Fault> {
        let damage = |what| self.damage(position, what);
        let number = read(&self.0.block_ends).partition_point(|&end| end < position);
        let key = Full::Block.key(number as u64);
        let head = self
            .get(key.clone())?
            .ok_or_else(|| damage("its block is missing".to_owned()))?;
        let block = Block::read(&self.whole(key, head)?).map_err(damage)?;
        if (block.first..block.end()).contains(&position) {
            Ok(block)
        } else {
            Err(damage(format!(
                "its block begins at position {}",
                block.first
            )))
        }
    }

    pub(super) fn index_page(&self, page: u64) -> Result<index::Page, Fault> {
        let (key, first) = (Full::Index.key(page), page * pages::PAGE_EVENTS + 1);
        let damage = |what| self.damage_over(first, Some(first + pages::PAGE_EVENTS - 1), what);
        let head = self
            .get(key.clone())?
            .ok_or_else(|| damage("its index page is missing".to_owned()))?;
        index::Page::read(&self.whole(key, head)?).map_err(damage)
    }
}
