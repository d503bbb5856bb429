//! Who is whose parent: the whole history that is read, without its contents.
//!
//! Commits are numbered so that parents come before their children; a number is valid within one [`Graph`] only.
use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet};

use super::{
    command::{Error, Git},
    object::ObjectId,
};

/// How many commits are looked at to find the commits of one merge. Beyond it the list is not given.
const SIDE_VISITS_MAX: usize = 20_000;

/// The commits reachable from some tips.
#[derive(Debug, Default)]
pub(super) struct Graph {
    ids: Vec<ObjectId>,
    numbers: HashMap<ObjectId, u32>,
    /// Parents of commit `n` are `parents[starts[n]..starts[n + 1]]`.
    starts: Vec<u32>,
    parents: Vec<u32>,
    /// Length of the longest way down to a root, so that ancestors have lower ones.
    generations: Vec<u32>,
    /// Commits from which a commit can be reached whose parents exist but are not here.
    cut: Vec<bool>,
}

/// The commits that one merge brought in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Oldest first.
    Known(Vec<u32>),
    /// Too many to look at.
    TooFar,
    /// The answer lies beyond the end of a shallow history.
    BeyondBoundary,
}

impl Graph {
    /// Reads the history of `tips` with git; `shallow` names the commits whose parents a shallow repository has not.
    pub(super) fn read(
        git: &Git,
        tips: &[ObjectId],
        shallow: &HashSet<ObjectId>,
    ) -> Result<Self, Error> {
        if tips.is_empty() {
            return Ok(Self::default());
        }
        let input: String = tips.iter().map(|tip| format!("{tip}\n")).collect();
        let arguments = [
            "rev-list",
            "--topo-order",
            "--reverse",
            "--parents",
            "--stdin",
        ];
        let output = git.converse(&arguments, input.as_bytes())?;
        let mut graph = Self::default();
        for line in output
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            graph.add(line, shallow).ok_or_else(|| Error::Unexpected {
                command: "rev-list",
                said: waybill_core::refusal::shown(&String::from_utf8_lossy(line)),
            })?;
        }
        Ok(graph)
    }

    /// Adds a line `<id> <parent>…`. None where it is no such line, or a parent did not come before.
    fn add(&mut self, line: &[u8], shallow: &HashSet<ObjectId>) -> Option<()> {
        let mut ids = line.split(|byte| *byte == b' ').map(ObjectId::parse);
        let id = ids.next()??;
        let number = u32::try_from(self.ids.len()).ok()?;
        self.starts.push(u32::try_from(self.parents.len()).ok()?);
        let mut generation = 0;
        let mut cut = shallow.contains(&id);
        for parent in ids {
            let parent = self.number(parent?)?;
            generation = generation.max(self.generations[parent as usize] + 1);
            cut |= self.is_cut(parent);
            self.parents.push(parent);
        }
        self.generations.push(generation);
        self.cut.push(cut);
        self.ids.push(id);
        self.numbers.insert(id, number);
        Some(())
    }

    /// How many commits there are; their numbers are all below it.
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Every commit, parents before children.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> + use<> {
        0..u32::try_from(self.ids.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn id(&self, number: u32) -> ObjectId {
        self.ids[number as usize]
    }

    pub(super) fn number(&self, id: ObjectId) -> Option<u32> {
        self.numbers.get(&id).copied()
    }

    /// In git's order. Empty for a root and at the boundary.
    pub(super) fn parents(&self, number: u32) -> &[u32] {
        let at = number as usize;
        let end = self
            .starts
            .get(at + 1)
            .map_or(self.parents.len(), |end| *end as usize);
        &self.parents[self.starts[at] as usize..end]
    }

    /// True where not all ancestors of the commit are here.
    pub(super) fn is_cut(&self, number: u32) -> bool {
        self.cut[number as usize]
    }

    /// True where anything is missing anywhere.
    pub(super) fn has_cut(&self) -> bool {
        self.cut.contains(&true)
    }

    /// The commit and its first parents, down to a root: what a branch's log was.
    pub(super) fn first_parents(&self, tip: u32) -> impl Iterator<Item = u32> + '_ {
        std::iter::successors(Some(tip), |number| self.parents(*number).first().copied())
    }

    /// As [`Graph::first_parents`], but by the second parent of those merges that brought the branch into another.
    pub(super) fn trunk<'g>(
        &'g self,
        tip: u32,
        updates: &'g HashSet<ObjectId>,
    ) -> impl Iterator<Item = u32> + 'g {
        std::iter::successors(Some(tip), move |number| {
            let parents = self.parents(*number);
            let own = usize::from(updates.contains(&self.id(*number)));
            parents.get(own).or(parents.first()).copied()
        })
    }

    /// Ancestors of `merged` that are none of `base`: git's `base..merged`, the same in every clone that can tell.
    pub(super) fn side(&self, base: u32, merged: u32) -> Side {
        if self.is_cut(base) || self.is_cut(merged) {
            // What is missing below the one may hold what is seen below the other.
            return Side::BeyondBoundary;
        }
        let mut wanted = HashMap::from([(merged, true), (base, false)]);
        let mut open = usize::from(base != merged);
        let mut queue: BinaryHeap<_> = wanted.keys().map(|number| self.rank(*number)).collect();
        let (mut side, mut visits) = (Vec::new(), 0);
        // Whoever is taken from the queue has no descendant left in it, so its mark is final.
        while open > 0
            && let Some((.., number)) = queue.pop()
        {
            visits += 1;
            if visits > SIDE_VISITS_MAX {
                return Side::TooFar;
            }
            let is_wanted = wanted[&number];
            if is_wanted {
                side.push(number);
                open -= 1;
            }
            for parent in self.parents(number) {
                match wanted.get_mut(parent) {
                    None => {
                        wanted.insert(*parent, is_wanted);
                        queue.push(self.rank(*parent));
                        open += usize::from(is_wanted);
                    }
                    Some(mark) if *mark && !is_wanted => {
                        *mark = false;
                        open -= 1;
                    }
                    Some(_) => {}
                }
            }
        }
        Side::Known(self.oldest_first(&side))
    }

    /// The id makes the order of visits, and so their number, the same in every clone.
    fn rank(&self, number: u32) -> (u32, ObjectId, u32) {
        (self.generations[number as usize], self.id(number), number)
    }

    /// Parents before children, ties by id, so that the order depends on the set alone.
    fn oldest_first(&self, set: &[u32]) -> Vec<u32> {
        let mut waiting: HashMap<u32, usize> = set.iter().map(|number| (*number, 0)).collect();
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for number in set {
            for parent in self
                .parents(*number)
                .iter()
                .filter(|parent| waiting.contains_key(parent))
            {
                children.entry(*parent).or_default().push(*number);
            }
        }
        for child in children.values().flatten() {
            waiting.entry(*child).and_modify(|count| *count += 1);
        }
        let free =
            |(number, count): (&u32, &usize)| (*count == 0).then(|| (self.id(*number), *number));
        let mut ready: BTreeSet<(ObjectId, u32)> = waiting.iter().filter_map(free).collect();
        let mut order = Vec::with_capacity(set.len());
        while let Some((_, number)) = ready.pop_first() {
            order.push(number);
            for child in children.get(&number).into_iter().flatten() {
                let count = waiting.entry(*child).or_default();
                *count = count.saturating_sub(1);
                if *count == 0 {
                    ready.insert((self.id(*child), *child));
                }
            }
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Builds a graph from lines `child parent…` of one-digit commits, parents first.
    fn graph(lines: &[&str], shallow: &[&str]) -> Graph {
        let mut graph = Graph::default();
        let shallow = shallow.iter().map(|digit| id(digit)).collect();
        for line in lines {
            let ids: Vec<String> = line.split(' ').map(|digit| digit.repeat(40)).collect();
            graph.add(ids.join(" ").as_bytes(), &shallow).unwrap();
        }
        graph
    }

    fn id(digit: &str) -> ObjectId {
        ObjectId::parse(digit.repeat(40).as_bytes()).unwrap()
    }

    /// 0 - 1 - 2 ----- 5(merge of 4)
    ///      \- 3 - 4 -/
    const FORK: [&str; 6] = ["0", "1 0", "2 1", "3 1", "4 3", "5 2 4"];

    #[test]
    fn a_merge_brings_what_its_base_had_not() {
        let graph = graph(&FORK, &[]);
        assert_eq!(graph.side(2, 4), Side::Known(vec![3, 4]));
        assert_eq!(graph.side(4, 2), Side::Known(vec![2]));
        assert_eq!(graph.side(4, 1), Side::Known(vec![]), "nothing new");
        assert_eq!(graph.first_parents(5).collect::<Vec<_>>(), [5, 2, 1, 0]);
    }

    #[test]
    fn a_merge_with_itself_brings_nothing() {
        assert_eq!(graph(&FORK, &[]).side(2, 2), Side::Known(vec![]));
    }

    #[test]
    fn a_branch_that_merged_its_base_brings_its_own_commits_only() {
        // 3 is on the branch, 4 merges the base's 2 into it, 5 merges the branch.
        let graph = graph(&["0", "1 0", "2 1", "3 1", "4 3 2", "5 2 4"], &[]);
        assert_eq!(graph.side(2, 4), Side::Known(vec![3, 4]));
    }

    #[test]
    fn the_order_does_not_depend_on_the_numbering() {
        let one = graph(&["0", "a 0", "b 0", "c a b", "d 0"], &[]);
        let other = graph(&["0", "b 0", "d 0", "a 0", "c a b"], &[]);
        let names = |graph: &Graph| {
            let number = |digit: &str| graph.number(id(digit)).unwrap();
            match graph.side(number("d"), number("c")) {
                Side::Known(side) => side
                    .iter()
                    .map(|n| graph.id(*n).to_string())
                    .collect::<Vec<_>>(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(names(&one), names(&other));
    }

    #[test]
    fn what_lies_beyond_the_boundary_is_not_guessed() {
        // 2 is cut off; that its ancestors include 0, which 3 was branched from, cannot be seen.
        let graph = graph(&["0", "3 0", "2", "4 2 3"], &["2"]);
        assert_eq!(graph.side(2, 1), Side::BeyondBoundary);
        assert_eq!(
            [0, 1, 2, 3].map(|number| graph.is_cut(number)),
            [false, false, true, true]
        );
    }
}
