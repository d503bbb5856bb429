//! Which release came before which: the highest lower version among a tag's ancestors.
//!
//! Ancestry decides and not time, so that a fix of an old line (1.4.9 after 1.5.0) follows its own line.
use std::collections::HashMap;

use super::{graph::Graph, refs::Tag};

/// What came before a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Previous {
    /// The tag at this place of the list.
    Tag(usize),
    Nothing,
    /// None was found, but not all of its history is here.
    Unknown,
}

/// Finds for each tag what came before it. A release follows releases; a version for trial follows either. A tag that
/// names no version follows nothing.
pub(super) fn previous(graph: &Graph, tags: &[Tag]) -> Vec<Previous> {
    let mut found = vec![Previous::Nothing; tags.len()];
    let mut series: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, tag) in tags.iter().enumerate() {
        if let Some(version) = &tag.version {
            series.entry(&version.series).or_default().push(index);
        }
    }
    for members in series.values() {
        let is_release = |index: &usize| {
            tags[*index]
                .version
                .as_ref()
                .is_some_and(|version| !version.prerelease)
        };
        let releases: Vec<usize> = members.iter().copied().filter(is_release).collect();
        // Releases come last and overrule what they were given among all members.
        for line in [members, &releases] {
            follow(graph, tags, line, &mut found);
        }
    }
    found
}

/// Carries the highest version of one line of tags from parents to children, once through the part of history that
/// holds them.
fn follow(graph: &Graph, tags: &[Tag], line: &[usize], found: &mut [Previous]) {
    let mut at: HashMap<u32, Vec<usize>> = HashMap::new();
    for index in line {
        if let Some(number) = graph.number(tags[*index].commit) {
            at.entry(number).or_default().push(*index);
        }
    }
    let (Some(first), Some(last)) = (at.keys().min().copied(), at.keys().max().copied()) else {
        return;
    };
    let higher = |a: Option<usize>, b: Option<usize>| {
        a.into_iter()
            .chain(b)
            .max_by_key(|index| &tags[*index].version)
    };
    let mut highest: Vec<Option<usize>> = Vec::with_capacity((last - first) as usize + 1);
    for number in first..=last {
        let parents = graph
            .parents(number)
            .iter()
            .filter(|parent| **parent >= first);
        let mut carried = parents.fold(None, |carried, parent| {
            higher(carried, highest[(parent - first) as usize])
        });
        let mut here = at.get(&number).cloned().unwrap_or_default();
        here.sort_by_key(|index| &tags[*index].version);
        let inherited = carried;
        for index in here {
            let lower = carried.filter(|other| tags[*other].version < tags[index].version);
            let lower = match (lower, inherited) {
                (None, Some(_)) => highest_below(graph, tags, &at, index, number),
                (lower, _) => lower,
            };
            found[index] = match lower {
                Some(other) => Previous::Tag(other),
                None if graph.is_cut(number) => Previous::Unknown,
                None => Previous::Nothing,
            };
            carried = higher(carried, Some(index));
        }
        highest.push(carried);
    }
}

/// The slow way, for a tag that is lower than one of its ancestors: looks at all of them.
fn highest_below(
    graph: &Graph,
    tags: &[Tag],
    at: &HashMap<u32, Vec<usize>>,
    of: usize,
    number: u32,
) -> Option<usize> {
    let mut seen = vec![false; number as usize + 1];
    let mut open = vec![number];
    let mut best: Option<usize> = None;
    while let Some(number) = open.pop() {
        if std::mem::replace(&mut seen[number as usize], true) {
            continue;
        }
        let lower = at
            .get(&number)
            .into_iter()
            .flatten()
            .filter(|index| tags[**index].version < tags[of].version);
        best = best
            .into_iter()
            .chain(lower.copied())
            .max_by_key(|index| &tags[*index].version);
        open.extend(graph.parents(number));
    }
    best
}
