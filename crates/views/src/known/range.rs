//! Which commits are reachable from here and not from there.
use std::collections::{BTreeSet, BinaryHeap};

use super::{Known, NodeMap};

const NEW: u8 = 1;
const OLD: u8 = 2;
const COLOURS: u8 = NEW | OLD;
const QUEUED: u8 = 4;

/// Heads that something ran before, kept in order so that a walk takes in only those it can meet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heads {
    /// (order, node).
    sorted: BTreeSet<(i64, u32)>,
}

/// Reachable from the new heads and from none of the old.
#[derive(Debug)]
pub(crate) struct Range {
    /// Descending in the graph's order: a commit comes before its parents.
    pub(crate) commits: Vec<u32>,
    /// Every one of them is recorded: otherwise there may be more behind it.
    pub(crate) complete: bool,
    /// New and old have a commit in common.
    pub(crate) related: bool,
}

impl Heads {
    pub(crate) fn insert(&mut self, known: &Known<'_>, node: u32) {
        let order = known.facts.graph.at(node).order;
        self.sorted.insert((order, node));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }
}

impl Known<'_> {
    /// Walks down from both sides in the graph's order, and stops when nothing is left that only the new side reaches.
    /// The answer does not depend on that order; only the length of the walk does.
    ///
    /// `base` is old too, and is expected to be near.
    pub(crate) fn range(&self, space: &mut Space, new: &[u32], base: &[u32], old: &Heads) -> Range {
        // Where commits claim to be their own ancestors there is no order, and the walk goes to the end.
        let exhaustive = new.iter().any(|node| self.facts.graph.is_cyclic(*node));
        space.clear();
        let mut walk = Walk::new(self, space);
        for node in new {
            walk.paint(*node, NEW);
        }
        for node in base {
            walk.paint(*node, OLD);
        }
        let mut old = old.sorted.iter().rev().peekable();
        while walk.only_new > 0 || (exhaustive && !walk.space.queue.is_empty()) {
            while let Some((_, node)) = old.next_if(|head| {
                let top = walk.space.queue.peek();
                exhaustive || top.is_none_or(|top| head.0 >= top.0)
            }) {
                walk.paint(*node, OLD);
            }
            walk.step();
        }
        walk.finish()
    }

    /// Whether `head` is `commit` or descends from it. `tried` remembers what earlier heads found.
    pub(crate) fn reaches(&self, head: u32, commit: u32, tried: &mut NodeMap<bool>) -> bool {
        let graph = &self.facts.graph;
        let floor = match graph.is_cyclic(commit) {
            true => i64::MIN,
            false => graph.at(commit).order,
        };
        let mut seen: NodeMap<()> = NodeMap::default();
        let mut open = vec![head];
        while let Some(node) = open.pop() {
            if node == commit || tried.get(&node) == Some(&true) {
                tried.insert(head, true);
                return true;
            }
            let outside = graph.at(node).order < floor || tried.contains_key(&node);
            if !outside && seen.insert(node, ()).is_none() {
                // The first parent last: it is opened first, and leads along the branch that was merged into.
                open.extend(self.parents(node).iter().rev());
            }
        }
        tried.extend(seen.into_keys().map(|node| (node, false)));
        false
    }

    /// All descendants of a commit, itself included, unless they are more than `limit`.
    pub(crate) fn descendants(&self, commit: u32, limit: usize) -> Option<NodeMap<()>> {
        let mut seen: NodeMap<()> = NodeMap::default();
        seen.insert(commit, ());
        let mut open = vec![commit];
        while let Some(node) = open.pop() {
            if seen.len() > limit {
                return None;
            }
            for child in self.children(node) {
                if seen.insert(child, ()).is_none() {
                    open.push(child);
                }
            }
        }
        Some(seen)
    }
}

/// What a walk needs to remember, kept from one walk to the next.
#[derive(Debug, Default)]
pub(crate) struct Space {
    colours: NodeMap<u8>,
    queue: BinaryHeap<(i64, u32)>,
}

/// Emptying a map costs what it once held: beyond this it is made anew.
const SPACE_MAX: usize = 4096;

impl Space {
    fn clear(&mut self) {
        self.queue.clear();
        if self.colours.capacity() > SPACE_MAX {
            self.colours = NodeMap::default();
        }
        self.colours.clear();
    }
}

struct Walk<'a> {
    known: &'a Known<'a>,
    space: &'a mut Space,
    /// Queued nodes that only the new side has reached so far.
    only_new: usize,
    found: Vec<u32>,
    related: bool,
}

impl<'a> Walk<'a> {
    fn new(known: &'a Known<'a>, space: &'a mut Space) -> Self {
        Self {
            known,
            space,
            only_new: 0,
            found: Vec::new(),
            related: false,
        }
    }

    fn paint(&mut self, node: u32, colours: u8) {
        let entry = self.space.colours.entry(node).or_default();
        let before = *entry;
        let after = before | colours;
        if after == before {
            return;
        }
        *entry = after | QUEUED;
        if before & QUEUED == 0 {
            self.space
                .queue
                .push((self.known.facts.graph.at(node).order, node));
        } else if before & COLOURS == NEW {
            self.only_new -= 1;
        }
        if after & COLOURS == NEW {
            self.only_new += 1;
        }
        self.related |= after & COLOURS == COLOURS;
    }

    fn step(&mut self) {
        let Some((_, node)) = self.space.queue.pop() else {
            return;
        };
        let entry = self.space.colours.entry(node).or_default();
        *entry &= COLOURS;
        let colours = *entry;
        if colours == NEW {
            self.only_new -= 1;
            self.found.push(node);
        }
        for parent in self.known.parents(node) {
            self.paint(*parent, colours);
        }
    }

    fn finish(self) -> Range {
        // In a cyclic repository a node may be painted again after it was found.
        let mut commits = self.found;
        commits.retain(|node| self.space.colours.get(node) == Some(&NEW));
        let known = self.known;
        Range {
            complete: commits.iter().all(|node| known.commit(*node).is_some()),
            commits,
            related: self.related,
        }
    }
}
