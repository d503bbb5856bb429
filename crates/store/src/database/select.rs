//! Lists, lazily: page after page of the index, and of each page the positions that may match.
use std::{sync::Arc, vec};

use super::{
    Database,
    index::{self, Selection, Wanted},
    keys,
    tail::Tail,
};
use crate::Fault;

/// Positions that may match a [`Selection`]. After an error it ends.
pub struct Candidates {
    database: Database,
    tail: Arc<Tail>,
    wanted: Wanted,
    /// Positions not looked at yet, inclusive; none when the first is beyond the last.
    first: u64,
    last: u64,
    descending: bool,
    /// What the last page gave.
    found: vec::IntoIter<u64>,
}

impl Candidates {
    pub(super) fn new(database: Database, tail: Arc<Tail>, selection: &Selection) -> Self {
        Self {
            wanted: Wanted::new(selection),
            first: selection.first.max(1),
            last: selection.last.min(tail.position()),
            descending: selection.descending,
            found: Vec::new().into_iter(),
            database,
            tail,
        }
    }

    /// Candidates of the next page, which may be none.
    fn next_page(&mut self) -> Result<Vec<u64>, Fault> {
        let page = keys::page_of(if self.descending {
            self.last
        } else {
            self.first
        });
        let groups = if self.wanted.is_everything() {
            u16::MAX
        } else if page == self.tail.index.page {
            self.wanted.groups(&self.tail.index.page())
        } else {
            self.wanted.groups(&self.database.index_page(page)?)
        };
        let positions = index::positions(page, groups, self.first, self.last, self.descending);
        let span = keys::page_span(page);
        if self.descending {
            self.last = span.start - 1;
        } else {
            self.first = span.end;
        }
        Ok(positions)
    }
}

impl Iterator for Candidates {
    type Item = Result<u64, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(position) = self.found.next() {
                return Some(Ok(position));
            }
            if self.first > self.last {
                return None;
            }
            match self.next_page() {
                Ok(positions) => self.found = positions.into_iter(),
                Err(fault) => {
                    self.last = 0;
                    return Some(Err(fault));
                }
            }
        }
    }
}
