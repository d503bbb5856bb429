//! Reading everything, to find damage before a question does (LEDGER S2).
use std::ops::ControlFlow;

use super::{
    Database,
    index::{self, OpenIndex, Page},
    keys::{self, Full},
    pages::{self, TILE_HASHES},
    tail::Tail,
};
use crate::{
    Fault, Pure,
    record::{Hash, Record},
};

impl Database {
    /// Reads every record and compares it with its leaf hash, its fingerprint and its index page. `progress` is told the
    /// last position done, and says whether to go on. Pinned to the end as it is now.
    ///
    /// # Errors
    /// The first [`Fault::Damage`].
    pub fn check(
        &self,
        pure: &Pure,
        progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<(), Fault> {
        let tail = self.tail();
        let mut first = 1;
        while first <= tail.position() {
            let last = tail
                .position()
                .min(keys::page_span(keys::page_of(first)).end - 1);
            self.check_page(&tail, first, last, pure)?;
            if progress(last).is_break() {
                break;
            }
            first = last + 1;
        }
        Ok(())
    }

    fn check_page(&self, tail: &Tail, first: u64, last: u64, pure: &Pure) -> Result<(), Fault> {
        let records = self.records(first..=last, usize::MAX)?;
        let leaves = self.leaves(first, last + 1 - first)?;
        for (record, leaf) in records.iter().zip(&leaves) {
            if (pure.leaf)(record) != *leaf {
                let what = "the record is not the one that its leaf was made from";
                return Err(self.damage(record.position, what.to_owned()));
            }
        }
        let page = keys::page_of(first);
        let full = page < tail.index.page;
        let fingerprints = if full {
            self.fingerprints(page)?
        } else {
            tail.fingerprints.list.clone()
        };
        let wrong = records
            .iter()
            .zip(fingerprints)
            .find(|(record, it)| record.fingerprint() != *it);
        if let Some((record, _)) = wrong {
            return Err(self.damage(
                record.position,
                "its fingerprint is another identity's".to_owned(),
            ));
        }
        let index = if full {
            self.index_page(page)?
        } else {
            tail.index.page()
        };
        if index == expected_index(page, &records, pure) {
            Ok(())
        } else {
            Err(self.damage_over(
                first,
                Some(last),
                "the index does not list what these events hold".to_owned(),
            ))
        }
    }

    fn fingerprints(&self, page: u64) -> Result<Vec<u64>, Fault> {
        let span = keys::page_span(page);
        let list = pages::full_numbers(self.get(Full::Fingerprints.key(page))?);
        list.map_err(|what| {
            self.damage_over(
                span.start,
                Some(span.end - 1),
                format!("their page of fingerprints: {what}"),
            )
        })
    }

    /// Works out every node of the tree that is kept above the leaves, and compares. `node_hash` is the tree's.
    ///
    /// # Errors
    /// The first [`Fault::Damage`].
    pub fn check_tree(&self, node_hash: fn(&Hash, &Hash) -> Hash) -> Result<(), Fault> {
        let tail = self.tail();
        for (level, above) in (0u8..).zip(&tail.tiles[1..]) {
            for tile in 0..above.end() {
                let root = pages::fold(self.tile(&tail, level, tile)?, node_hash);
                let kept = self.tile(&tail, level + 1, tile / TILE_HASHES)?;
                if root != Some(kept[keys::small(tile % TILE_HASHES)]) {
                    let what = format!(
                        "the tree does not hold: tile {tile} of level {level} has another root"
                    );
                    return Err(self.damage_anywhere(what));
                }
            }
        }
        Ok(())
    }
}

fn expected_index(page: u64, records: &[Record], pure: &Pure) -> Page {
    let mut index = OpenIndex::starting_at(page);
    for record in records {
        index.add(index::entry(record.record_time, &(pure.index)(record)));
    }
    index.page()
}
