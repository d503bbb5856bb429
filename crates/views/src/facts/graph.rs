//! Commits and their parents.
//!
//! A node is a commit that was recorded or only named. The order of nodes is kept topological over every parent edge
//! that was ever claimed, so that a walk down from a head may stop early; it follows arrival, and no answer shows it.
use std::collections::{BTreeMap, BTreeSet, HashSet};

use waybill_core::{Time, event::Commit};

use super::{
    claims::{Slot, UNTIMED},
    column::{Column, NONE, index_of, push_tight},
    index::RowIndex,
    prefix::Prefixes,
    text::{Symbol, Text, Texts, digit, hash_of, hex},
};

/// A commit id: 20 or 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CommitId {
    bytes: [u8; 32],
    length: u8,
}

/// Packed, as [`CommitRow`] is: a word less is twenty megabytes less.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed(4))]
pub(crate) struct Node {
    pub(super) id: [u8; 20],
    pub(crate) repository: Symbol,
    /// Greater than that of every ancestor, unless the repository is in `cyclic`.
    pub(crate) order: i64,
    /// Newest row that records it.
    pub(super) recorded: u32,
    /// Newest child edge.
    pub(super) children: u32,
    /// Newest mention by other families.
    pub(crate) mentions: u32,
}

/// What one event says of one commit.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed(4))]
pub(crate) struct CommitRow {
    pub(crate) subject: Text,
    /// Nanoseconds, or [`UNTIMED`].
    pub(crate) author: i64,
    /// Seconds from the author time, [`NO_TIME`], or [`ODD_TIME`].
    pub(super) commit: i32,
    pub(crate) node: u32,
    pub(crate) slot: Slot,
    /// Older row of the same node.
    pub(super) next: u32,
    /// The parent where there is one, else where the list of them begins.
    pub(super) parents: u32,
    pub(super) parent_count: u16,
    pub(crate) boundary: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Child {
    pub(super) node: u32,
    pub(super) next: u32,
}

/// All commits of all repositories.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub(super) nodes: Column<Node>,
    /// The last twelve bytes of 32-byte ids.
    pub(super) tails: BTreeMap<u32, [u8; 12]>,
    pub(super) commits: Column<CommitRow>,
    /// Commit times that are no whole number of seconds from the author time, by the slot that told.
    pub(super) odd_times: BTreeMap<Slot, i64>,
    pub(super) parents: Vec<u32>,
    pub(super) children: Column<Child>,
    pub(super) subjects: Texts,
    /// A bit for each node that a change was squashed into: few are, and a walk asks for all.
    pub(super) squashes: Vec<u64>,
    /// Highest and lowest order in use.
    pub(super) top: i64,
    pub(super) bottom: i64,
    /// Repositories where commits claim to be their own ancestors; there no walk stops early.
    pub(super) cyclic: BTreeSet<Symbol>,
    index: RowIndex,
    prefixes: Prefixes,
}

impl CommitId {
    /// Reads 40 or 64 lowercase hex digits.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        let length = match text.len() {
            40 => 20,
            64 => 32,
            _ => return None,
        };
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self { bytes, length })
    }

    pub(crate) fn text(&self) -> String {
        hex(&self.bytes[..usize::from(self.length)])
    }

    fn head(&self) -> [u8; 20] {
        let mut head = [0; 20];
        head.copy_from_slice(&self.bytes[..20]);
        head
    }

    fn tail(&self) -> Option<[u8; 12]> {
        let mut tail = [0; 12];
        tail.copy_from_slice(&self.bytes[20..]);
        (self.length == 32).then_some(tail)
    }
}

impl Graph {
    /// The node of a commit that something names.
    pub(crate) fn node(&mut self, repository: Symbol, id: &CommitId) -> u32 {
        let found = self.find(repository, id);
        found.unwrap_or_else(|| {
            self.bottom -= 1;
            self.add_node(repository, id, self.bottom)
        })
    }

    pub(crate) fn find(&self, repository: Symbol, id: &CommitId) -> Option<u32> {
        let head = id.head();
        let same = |at: &u32| {
            let node = &self.nodes[*at as usize];
            node.repository == repository && node.id == head && self.tail(*at) == id.tail()
        };
        self.index.find(hash_of_node(repository, &head), same)
    }

    pub(crate) fn id(&self, node: u32) -> CommitId {
        let mut bytes = [0; 32];
        bytes[..20].copy_from_slice(&{ self.nodes[node as usize].id });
        let tail = self.tail(node);
        bytes[20..].copy_from_slice(&tail.unwrap_or_default());
        let length = if tail.is_some() { 32 } else { 20 };
        CommitId { bytes, length }
    }

    pub(crate) fn at(&self, node: u32) -> &Node {
        &self.nodes[node as usize]
    }

    pub(crate) fn is_cyclic(&self, node: u32) -> bool {
        !self.cyclic.is_empty() && self.cyclic.contains(&self.at(node).repository)
    }

    /// Records what one event says of a commit; returns its row, or none when its id is not whole.
    pub(crate) fn record(
        &mut self,
        repository: Symbol,
        commit: &Commit,
        slot: Slot,
    ) -> Option<u32> {
        let id = CommitId::parse(&commit.revision.id)?;
        let named = commit.parents.iter().filter_map(|p| CommitId::parse(p));
        let parents: Vec<u32> = named
            .take(usize::from(u16::MAX))
            .map(|parent| self.node(repository, &parent))
            .collect();
        let node = self.find(repository, &id).unwrap_or_else(|| {
            self.top += 1;
            self.add_node(repository, &id, self.top)
        });
        let author = commit.author_time.map_or(UNTIMED, Time::nanos);
        let committed = commit.commit_time.map_or(UNTIMED, Time::nanos);
        let distance = distance(committed, author);
        if distance == ODD_TIME {
            self.odd_times.insert(slot, committed);
        }
        let row = CommitRow {
            subject: self.subjects.push(&commit.subject_line),
            author,
            commit: distance,
            node,
            slot,
            next: self.nodes[node as usize].recorded,
            parents: self.keep_parents(&parents),
            parent_count: u16::try_from(parents.len()).unwrap_or(u16::MAX),
            boundary: commit.boundary,
        };
        let row = self.commits.keep(row);
        self.nodes[node as usize].recorded = row;
        for parent in parents {
            let next = self.nodes[parent as usize].children;
            self.nodes[parent as usize].children = self.children.keep(Child { node, next });
            self.keep_order(node, parent);
        }
        Some(row)
    }

    fn keep_parents(&mut self, parents: &[u32]) -> u32 {
        if let [parent] = parents {
            return *parent;
        }
        let start = index_of(self.parents.len());
        for parent in parents {
            push_tight(&mut self.parents, *parent);
        }
        start
    }

    /// When a row says that it was committed, in nanoseconds or [`UNTIMED`].
    pub(crate) fn commit_time(&self, row: &CommitRow) -> i64 {
        match row.commit {
            NO_TIME => UNTIMED,
            ODD_TIME => self
                .odd_times
                .get(&{ row.slot })
                .copied()
                .unwrap_or(UNTIMED),
            seconds => row.author + i64::from(seconds) * SECOND_NANOS,
        }
    }

    /// Notes that a change was squashed into a commit.
    pub(super) fn mark_squash(&mut self, node: u32) {
        let word = node as usize / 64;
        if self.squashes.len() <= word {
            self.squashes.resize(word + 1, 0);
        }
        self.squashes[word] |= 1 << (node % 64);
    }

    /// Whether any event ever said that a change was squashed into this commit.
    pub(crate) fn may_be_squash(&self, node: u32) -> bool {
        let word = self.squashes.get(node as usize / 64);
        word.is_some_and(|word| word >> (node % 64) & 1 == 1)
    }

    /// The parents that a row claims.
    pub(crate) fn parents_of<'a>(&'a self, row: &'a CommitRow) -> &'a [u32] {
        let start = row.parents as usize;
        match row.parent_count {
            1 => std::slice::from_ref(&row.parents),
            count => &self.parents[start..start + usize::from(count)],
        }
    }

    /// The first line of a commit's message.
    pub(crate) fn subjects_text(&self, row: &CommitRow) -> String {
        self.subjects.text(row.subject)
    }

    /// Rows that record a node, newest arrival first.
    pub(crate) fn rows_of(&self, node: u32) -> impl Iterator<Item = &CommitRow> {
        let mut at = self.nodes[node as usize].recorded;
        std::iter::from_fn(move || {
            let row = self.commits.get(at as usize)?;
            at = row.next;
            Some(row)
        })
    }

    /// Nodes that ever claimed `node` as a parent, newest arrival first; may repeat.
    pub(crate) fn children_of(&self, node: u32) -> impl Iterator<Item = u32> + '_ {
        let mut at = self.nodes[node as usize].children;
        std::iter::from_fn(move || {
            let edge = self.children.get(at as usize)?;
            at = edge.next;
            Some(edge.node)
        })
    }

    /// Nodes whose id begins with `digits` (lowercase hex), in no particular order.
    pub(crate) fn beginning_with<'a>(&'a self, digits: &'a str) -> impl Iterator<Item = u32> + 'a {
        let (mut first, mut last) = (0_u32, u32::MAX);
        for (at, nibble) in digits.bytes().take(8).filter_map(digit).enumerate() {
            let shift = 28 - 4 * at;
            first |= u32::from(nibble) << shift;
            last &= !(0xF << shift) | u32::from(nibble) << shift;
        }
        self.prefixes
            .between(first, last)
            .filter(move |node| digits.len() <= 8 || self.id(*node).text().starts_with(digits))
    }

    /// Builds the indexes anew from the nodes, after a restore.
    pub(super) fn reindex(&mut self) {
        for node in 0..index_of(self.nodes.len()) {
            self.index_node(node);
        }
    }

    fn tail(&self, node: u32) -> Option<[u8; 12]> {
        match self.tails.is_empty() {
            true => None,
            false => self.tails.get(&node).copied(),
        }
    }

    fn add_node(&mut self, repository: Symbol, id: &CommitId, order: i64) -> u32 {
        let node = index_of(self.nodes.len());
        if let Some(tail) = id.tail() {
            self.tails.insert(node, tail);
        }
        let row = Node {
            id: id.head(),
            repository,
            order,
            recorded: NONE,
            children: NONE,
            mentions: NONE,
        };
        self.nodes.push(row);
        self.index_node(node);
        node
    }

    fn index_node(&mut self, node: u32) {
        let nodes = &self.nodes;
        let hash = |at: &u32| {
            let node = &nodes[*at as usize];
            hash_of_node(node.repository, &{ node.id })
        };
        self.index.insert(hash(&node), node, hash);
        let [a, b, c, d, ..] = nodes[node as usize].id;
        self.prefixes.insert(u32::from_be_bytes([a, b, c, d]), node);
    }

    /// Restores the order after `parent` became a parent of `child`.
    ///
    /// Looks down from the parent and up from the child by turns until one side is done, and moves that side as a
    /// whole below or above everything else: the cost is that of the smaller side, whatever the order of arrival.
    fn keep_order(&mut self, child: u32, parent: u32) {
        let in_order = self.at(parent).order < self.at(child).order;
        if in_order || self.is_cyclic(child) {
            return;
        }
        let mut up = Search::new(child);
        let mut down = Search::new(parent);
        loop {
            if up.step(|node, found| found.extend(self.children_of(node))) {
                break self.lift(up.found, parent);
            }
            if down.step(|node, found| {
                let rows = self.rows_of(node);
                found.extend(rows.flat_map(|row| self.parents_of(row)));
            }) {
                break self.lower(down.found, child);
            }
        }
    }

    /// Moves a commit and all its descendants above everything, unless `parent` is among them.
    fn lift(&mut self, descendants: HashSet<u32>, parent: u32) {
        if descendants.contains(&parent) {
            self.cyclic.insert(self.nodes[parent as usize].repository);
            return;
        }
        for node in self.sorted(descendants) {
            self.top += 1;
            self.nodes[node as usize].order = self.top;
        }
    }

    /// Moves a commit and all its ancestors below everything, unless `child` is among them.
    fn lower(&mut self, ancestors: HashSet<u32>, child: u32) {
        if ancestors.contains(&child) {
            self.cyclic.insert(self.nodes[child as usize].repository);
            return;
        }
        for node in self.sorted(ancestors).into_iter().rev() {
            self.bottom -= 1;
            self.nodes[node as usize].order = self.bottom;
        }
    }

    fn sorted(&self, nodes: HashSet<u32>) -> Vec<u32> {
        let mut nodes: Vec<u32> = nodes.into_iter().collect();
        nodes.sort_unstable_by_key(|node| self.at(*node).order);
        nodes
    }
}

/// No time is known.
const NO_TIME: i32 = i32::MIN;
/// The time stands in `odd_times`.
const ODD_TIME: i32 = i32::MAX;
const SECOND_NANOS: i64 = 1_000_000_000;

fn distance(time: i64, from: i64) -> i32 {
    if time == UNTIMED {
        return NO_TIME;
    }
    if from == UNTIMED {
        return ODD_TIME;
    }
    // Both lie between 1970 and 2200.
    let distance = time - from;
    match (
        distance % SECOND_NANOS,
        i32::try_from(distance / SECOND_NANOS),
    ) {
        (0, Ok(seconds)) if seconds != NO_TIME => seconds,
        _ => ODD_TIME,
    }
}

/// A breadth-first search that is taken one node at a time.
struct Search {
    found: HashSet<u32>,
    open: Vec<u32>,
}

impl Search {
    fn new(start: u32) -> Self {
        Self {
            found: HashSet::from([start]),
            open: vec![start],
        }
    }

    /// Opens one node; true when nothing is left to open.
    fn step(&mut self, neighbours: impl FnOnce(u32, &mut Vec<u32>)) -> bool {
        let Some(node) = self.open.pop() else {
            return true;
        };
        let mut found = Vec::new();
        neighbours(node, &mut found);
        self.open
            .extend(found.into_iter().filter(|next| self.found.insert(*next)));
        self.open.is_empty()
    }
}

fn hash_of_node(repository: Symbol, id: &[u8; 20]) -> u64 {
    hash_of(&(repository, id))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use waybill_core::{Entity, event::Revision};

    use super::*;

    fn commit(id: u32, parents: &[u32]) -> Commit {
        let text = |n: u32| Arc::from(format!("{:08x}", n.wrapping_mul(0x9E37_79B9)).repeat(5));
        Commit {
            revision: Revision {
                repository: Entity::repository("acme/shop").unwrap(),
                id: text(id),
            },
            parents: parents.iter().map(|p| text(*p)).collect(),
            patch_id: None,
            author_time: None,
            commit_time: None,
            subject_line: "".into(),
            reverts: vec![],
            fixes: vec![],
            picked_from: vec![],
            files: vec![],
            files_changed_count: 0,
            lines_added_count: 0,
            lines_removed_count: 0,
            boundary: false,
        }
    }

    fn in_order(graph: &Graph) -> bool {
        graph.commits.iter().all(|row| {
            let order = graph.at(row.node).order;
            let parents = graph.parents_of(row);
            parents.iter().all(|p| graph.at(*p).order < order)
        })
    }

    #[test]
    fn any_arrival_leaves_the_order_topological() {
        // A ladder with merges: n has parents n-1 and sometimes n-3.
        let history: Vec<Commit> = (1..400)
            .map(|n| match n {
                1 => commit(1, &[]),
                n if n % 7 == 0 => commit(n, &[n - 1, n - 3]),
                n => commit(n, &[n - 1]),
            })
            .collect();
        for step in [1, 398, 2, 7, 113, 250] {
            let mut graph = Graph::default();
            for at in 0..history.len() {
                let picked = &history[at * step % history.len()];
                graph.record(Symbol(0), picked, index_of(at));
            }
            assert!(in_order(&graph), "step {step}");
            assert!(graph.cyclic.is_empty());
        }
    }

    #[test]
    fn a_cycle_is_noticed_and_ends_the_order() {
        let mut graph = Graph::default();
        for (at, (id, parent)) in [(1, 2), (2, 3), (3, 1)].into_iter().enumerate() {
            graph.record(Symbol(0), &commit(id, &[parent]), index_of(at));
        }
        assert_eq!(graph.cyclic.len(), 1);
    }
}
