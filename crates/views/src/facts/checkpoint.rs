//! Facts as a file: faster to read than to fold again, and never trusted further than its checksum.
//!
//! `waybill-facts`, version, last position, body, checksum over everything before it. A file of
//! another version, a short, long or damaged one is refused, and the facts are folded anew: nothing is ever migrated.
use std::collections::BTreeMap;

use super::{
    Facts,
    amendments::Amendments,
    claims::Claims,
    column::Column,
    graph::Graph,
    lanes::Lanes,
    pack::{Pack, Pieces, SUM_START, checksum},
    subjects::Subjects,
    text::{Symbols, Texts},
    timeline::Timeline,
};

const NAME: &[u8; 13] = b"waybill-facts";

impl Facts {
    /// Raised with every change to what is folded or how it is laid out: a checkpoint of another version is no use.
    /// 3: links say who said them, and leaves that are no facts are counted.
    pub const CHECKPOINT_VERSION: u32 = 3;

    /// Hands these facts to `sink` in pieces; joined, they are bytes for [`Facts::restore`].
    pub fn checkpoint(&self, sink: &mut dyn FnMut(&[u8])) {
        let mut out = Pieces::new(sink);
        out.extend_from_slice(NAME);
        Self::CHECKPOINT_VERSION.pack(&mut out);
        self.head().0.pack(&mut out);
        self.pack_body(&mut out);
        out.finish();
    }

    /// The facts of a checkpoint, or none when anything about it is off: then fold again.
    #[must_use]
    pub fn restore(bytes: &[u8]) -> Option<Self> {
        let (mut rest, mut sum) = bytes.split_at_checked(bytes.len().checked_sub(8)?)?;
        if u64::unpack(&mut sum)? != checksum(SUM_START, rest) {
            return None;
        }
        let name = <[u8; NAME.len()]>::unpack(&mut rest)?;
        let version = u32::unpack(&mut rest)?;
        let position = u64::unpack(&mut rest)?;
        if &name != NAME || version != Self::CHECKPOINT_VERSION {
            return None;
        }
        let facts = Self::unpack_body(&mut rest)?;
        (rest.is_empty() && facts.head().0 == position).then_some(facts)
    }

    fn pack_body(&self, out: &mut Pieces<'_>) {
        self.symbols.texts.bytes.pack(out);
        self.symbols.handles.pack(out);
        pack_claims(&self.claims, out);
        pack_graph(&self.graph, out);
        let Subjects {
            rows,
            shorts,
            mentions,
            lists,
            ..
        } = &self.subjects;
        rows.pack(out);
        shorts.pack(out);
        mentions.pack(out);
        lists.pack(out);
        self.lanes.rows.pack(out);
        self.lanes.by_repository.pack(out);
        self.lanes.indirect.pack(out);
        self.lanes.merges.pack(out);
        self.texts.bytes.pack(out);
        self.changes.pack(out);
        self.builds.pack(out);
        self.artifacts.pack(out);
        self.releases.pack(out);
        self.deployments.pack(out);
        self.flags.pack(out);
        self.incidents.pack(out);
        self.links.pack(out);
        self.gaps.pack(out);
        self.ranks.pack(out);
        self.marks.pack(out);
        pack_timeline(&self.timeline, out);
        self.refused.pack(out);
        self.relabelled.pack(out);
    }

    fn unpack_body(bytes: &mut &[u8]) -> Option<Self> {
        let names = Texts {
            bytes: Vec::unpack(bytes)?,
        };
        let symbols = Symbols::from_parts(names, Column::unpack(bytes)?);
        let claims = unpack_claims(bytes)?;
        let graph = unpack_graph(bytes)?;
        let mut subjects = Subjects::default();
        subjects.rows = Column::unpack(bytes)?;
        subjects.shorts = Column::unpack(bytes)?;
        subjects.mentions = Column::unpack(bytes)?;
        subjects.lists = Vec::unpack(bytes)?;
        subjects.reindex();
        let mut lanes = Lanes::default();
        lanes.rows = Vec::unpack(bytes)?;
        lanes.by_repository = BTreeMap::unpack(bytes)?;
        lanes.indirect = Pack::unpack(bytes)?;
        lanes.merges = BTreeMap::unpack(bytes)?;
        lanes.reindex();
        Some(Self {
            symbols,
            claims,
            graph,
            subjects,
            lanes,
            texts: Texts {
                bytes: Vec::unpack(bytes)?,
            },
            changes: Column::unpack(bytes)?,
            builds: Column::unpack(bytes)?,
            artifacts: Column::unpack(bytes)?,
            releases: Column::unpack(bytes)?,
            deployments: Column::unpack(bytes)?,
            flags: Column::unpack(bytes)?,
            incidents: Column::unpack(bytes)?,
            links: Column::unpack(bytes)?,
            gaps: Column::unpack(bytes)?,
            ranks: Column::unpack(bytes)?,
            marks: BTreeMap::unpack(bytes)?,
            timeline: unpack_timeline(bytes)?,
            refused: Vec::unpack(bytes)?,
            relabelled: bool::unpack(bytes)?,
        })
    }
}

fn pack_claims(claims: &Claims, out: &mut Pieces<'_>) {
    claims.rows.pack(out);
    claims.positions.pack(out);
    claims.origins.pack(out);
    claims.ids.bytes.pack(out);
    claims.contests.pack(out);
    claims.contest_of.pack(out);
    claims.revisions.pack(out);
    claims.ranks.pack(out);
    let mut unread: Vec<u64> = claims.unread.iter().copied().collect();
    unread.sort_unstable();
    unread.pack(out);
    let amendments = &claims.amendments;
    amendments.targets.pack(out);
    amendments.correcting.pack(out);
    amendments.outs.pack(out);
    amendments.waits.pack(out);
    amendments.cyclic.pack(out);
    amendments.cycles.pack(out);
    amendments.misdirected.pack(out);
}

fn unpack_claims(bytes: &mut &[u8]) -> Option<Claims> {
    let mut claims = Claims::default();
    claims.rows = Column::unpack(bytes)?;
    claims.positions = Pack::unpack(bytes)?;
    claims.origins = Column::unpack(bytes)?;
    claims.ids.bytes = Vec::unpack(bytes)?;
    claims.contests = Vec::unpack(bytes)?;
    claims.contest_of = BTreeMap::unpack(bytes)?;
    claims.revisions = BTreeMap::unpack(bytes)?;
    claims.ranks = BTreeMap::unpack(bytes)?;
    let unread: Vec<u64> = Vec::unpack(bytes)?;
    for mark in unread {
        claims.unread.insert(mark, mark, |mark| *mark);
    }
    claims.amendments = unpack_amendments(bytes)?;
    claims.reindex();
    Some(claims)
}

fn unpack_amendments(bytes: &mut &[u8]) -> Option<Amendments> {
    let mut amendments = Amendments::default();
    amendments.targets = BTreeMap::unpack(bytes)?;
    amendments.correcting = Pack::unpack(bytes)?;
    amendments.outs = BTreeMap::unpack(bytes)?;
    amendments.waits = Vec::unpack(bytes)?;
    amendments.cyclic = Pack::unpack(bytes)?;
    amendments.cycles = Vec::unpack(bytes)?;
    amendments.misdirected = Vec::unpack(bytes)?;
    amendments.reindex();
    Some(amendments)
}

fn pack_graph(graph: &Graph, out: &mut Pieces<'_>) {
    graph.nodes.pack(out);
    graph.tails.pack(out);
    graph.commits.pack(out);
    graph.odd_times.pack(out);
    graph.parents.pack(out);
    graph.children.pack(out);
    graph.subjects.bytes.pack(out);
    graph.top.pack(out);
    graph.bottom.pack(out);
    graph.cyclic.pack(out);
    graph.squashes.pack(out);
}

fn unpack_graph(bytes: &mut &[u8]) -> Option<Graph> {
    let mut graph = Graph::default();
    graph.nodes = Column::unpack(bytes)?;
    graph.tails = BTreeMap::unpack(bytes)?;
    graph.commits = Column::unpack(bytes)?;
    graph.odd_times = BTreeMap::unpack(bytes)?;
    graph.parents = Vec::unpack(bytes)?;
    graph.children = Column::unpack(bytes)?;
    graph.subjects.bytes = Vec::unpack(bytes)?;
    graph.top = i64::unpack(bytes)?;
    graph.bottom = i64::unpack(bytes)?;
    graph.cyclic = Pack::unpack(bytes)?;
    graph.squashes = Pack::unpack(bytes)?;
    graph.reindex();
    Some(graph)
}

fn pack_timeline(timeline: &Timeline, out: &mut Pieces<'_>) {
    timeline.open.pack(out);
    timeline.any.pack(out);
    timeline.landmarks.pack(out);
    timeline.steps.pack(out);
    timeline.closed.pack(out);
    timeline.last_closed.pack(out);
}

fn unpack_timeline(bytes: &mut &[u8]) -> Option<Timeline> {
    Some(Timeline {
        open: Pack::unpack(bytes)?,
        any: Pack::unpack(bytes)?,
        landmarks: Pack::unpack(bytes)?,
        steps: Pack::unpack(bytes)?,
        closed: Pack::unpack(bytes)?,
        last_closed: Pack::unpack(bytes)?,
    })
}
