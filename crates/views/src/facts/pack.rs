//! Plain bytes for checkpoints: little-endian numbers, counted lists, no names. Never migrated, so no format to keep.
use std::collections::{BTreeMap, BTreeSet};

use waybill_core::{
    Identity,
    event::{
        ArtifactStep, BuildStep, FlagStep, LinkMethod, MergeMethod, Operation, Outcome, ReleaseStep,
    },
};

use super::{
    amendments::Out,
    claims::{Contest, Family, Row, Stance},
    column::Column,
    families::{
        ArtifactRow, BuildRow, ChangeMove, ChangeRow, CommitMarks, DeploymentMove, DeploymentRow,
        FlagRow, GapRow, IncidentMove, IncidentRow, LinkRow, RankRow, ReleaseRow,
    },
    graph::{Child, CommitRow, Node},
    lanes::Lane,
    positions::Positions,
    subjects::{List, Mention, RevisionRef, Role, Short, Subject, SubjectKind},
    text::{Symbol, Text},
};

/// Bytes on their way out: handed on in pieces, so that facts are never in memory twice, and summed up.
pub(super) struct Pieces<'a> {
    piece: Vec<u8>,
    sum: u64,
    sink: &'a mut dyn FnMut(&[u8]),
}

/// Bytes of a piece; a multiple of eight, for the checksum goes over words.
const PIECE_BYTES: usize = 1 << 20;

impl<'a> Pieces<'a> {
    pub(super) fn new(sink: &'a mut dyn FnMut(&[u8])) -> Self {
        Self {
            piece: Vec::with_capacity(PIECE_BYTES),
            sum: SUM_START,
            sink,
        }
    }

    pub(super) fn push(&mut self, byte: u8) {
        self.extend_from_slice(&[byte]);
    }

    pub(super) fn extend_from_slice(&mut self, mut bytes: &[u8]) {
        while self.piece.len() + bytes.len() >= PIECE_BYTES {
            let (first, rest) = bytes.split_at(PIECE_BYTES - self.piece.len());
            self.piece.extend_from_slice(first);
            self.hand_on();
            bytes = rest;
        }
        self.piece.extend_from_slice(bytes);
    }

    /// Hands on the rest, and the checksum of everything.
    pub(super) fn finish(mut self) {
        self.hand_on();
        (self.sink)(&self.sum.to_le_bytes());
    }

    fn hand_on(&mut self) {
        self.sum = checksum(self.sum, &self.piece);
        (self.sink)(&self.piece);
        self.piece.clear();
    }
}

pub(super) const SUM_START: u64 = 0xCBF2_9CE4_8422_2325;

/// FNV-1a over words of eight bytes, then bytes: finds damage, not malice.
pub(super) fn checksum(sum: u64, bytes: &[u8]) -> u64 {
    const PRIME: u64 = 0x0100_0000_01B3;
    let step = |sum: u64, word: u64| (sum ^ word).wrapping_mul(PRIME).rotate_left(29);
    let (words, rest) = bytes.as_chunks::<8>();
    let sum = words
        .iter()
        .fold(sum, |sum, word| step(sum, u64::from_le_bytes(*word)));
    rest.iter()
        .fold(sum, |sum, byte| step(sum, u64::from(*byte)))
}

/// To bytes and back. `unpack` takes what it reads off the front and is none where the bytes do not fit.
pub(super) trait Pack: Sized {
    fn pack(&self, out: &mut Pieces<'_>);
    fn unpack(bytes: &mut &[u8]) -> Option<Self>;
}

macro_rules! pack_numbers {
    ($($number:ty),*) => {$(
        impl Pack for $number {
            fn pack(&self, out: &mut Pieces<'_>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn unpack(bytes: &mut &[u8]) -> Option<Self> {
                let (first, rest) = bytes.split_first_chunk()?;
                *bytes = rest;
                Some(Self::from_le_bytes(*first))
            }
        }
    )*};
}

/// Every field in the order given; leaving one out does not compile.
macro_rules! pack_structs {
    ($($name:ident { $($field:ident),* })*) => {$(
        impl Pack for $name {
            fn pack(&self, out: &mut Pieces<'_>) {
                $(self.$field.pack(out);)*
            }
            fn unpack(bytes: &mut &[u8]) -> Option<Self> {
                Some(Self { $($field: Pack::unpack(bytes)?),* })
            }
        }
    )*};
}

/// The same for packed rows, whose fields are copied out before anything refers to them.
macro_rules! pack_packed {
    ($($name:ident { $($field:ident),* })*) => {$(
        impl Pack for $name {
            fn pack(&self, out: &mut Pieces<'_>) {
                $({ self.$field }.pack(out);)*
            }
            fn unpack(bytes: &mut &[u8]) -> Option<Self> {
                Some(Self { $($field: Pack::unpack(bytes)?),* })
            }
        }
    )*};
}

/// Words without content, by their place in the list; leaving one out does not compile.
macro_rules! pack_words {
    ($($name:ident { $($word:ident),* })*) => {$(
        impl Pack for $name {
            fn pack(&self, out: &mut Pieces<'_>) {
                #[allow(dead_code, reason = "only its discriminants are used")]
                enum Place { $($word),* }
                match self { $(Self::$word => out.push(Place::$word as u8)),* }
            }
            fn unpack(bytes: &mut &[u8]) -> Option<Self> {
                let place = u8::unpack(bytes)?;
                [$(Self::$word),*].get(usize::from(place)).copied()
            }
        }
    )*};
}

pack_numbers!(u8, u16, u32, u64, i32, i64);

pack_packed! {
    Row { id, occur, key, source, content, basis, stance, family }
    Node { id, repository, order, recorded, children, mentions }
    CommitRow { subject, author, commit, node, slot, next, parents, parent_count, boundary }
}

pack_structs! {
    Contest { members, of_ranks, winners }
    Positions { lower, upper }
    Out { count, toggles }
    Identity { source, id }
    Child { node, next }
    Subject { kind, scope, name, mentions, same_name }
    Mention { slot, next, role }
    Short { repository, digits, mentions }
    List { start, length }
    Lane { service, environment, finished, begun, untimed }
    ChangeRow { title, change, head, merge, commits, moved, method, truncated }
    BuildRow { build, sources, artifacts, step }
    ArtifactRow { artifact, name, sources, build, step }
    ReleaseRow { release, revisions, changes, step }
    DeploymentRow {
        deployment, lane, revisions, artifacts, previous, rollback_of, version, operation, moved,
        inferred, range_unknown, allowed_to_fail
    }
    FlagRow { flag, environment, service, before_ppm, after_ppm, step }
    IncidentRow { title, incident, environment, service, severity, into, moved }
    LinkRow { because, link, from, to, confidence_ppm, method, sender, actor }
    GapRow { reason, remedy, entity }
    RankRow { slot, source, rank }
    CommitMarks { slot, reverts, fixes, picks }
}

pack_words! {
    Stance { States, Corrects, TakesOut }
    Family {
        Commit, Change, Build, Artifact, Release, Deployment, Flag, Incident, Link, Gap, SourceRank, Other
    }
    SubjectKind { Change, Build, Artifact, Release, Deployment, Flag, Incident, Link, Entity }
    Role {
        About, Source, Merge, Head, Member, Previous, Reverts, Fixes, Picks, Makes, Runs, BuiltBy, RollsBack,
        Contains, LinksFrom, LinksTo
    }
    ChangeMove {
        Created, Updated, Ready, Drafted, Reviewed, ReviewDismissed, Queued, Dequeued, Merged, Abandoned,
        Reopened
    }
    IncidentMove {
        Detected, Reported, Acknowledged, Updated, Mitigated, Resolved, Reopened, Merged, Cancelled
    }
    Outcome { Success, Failure, Error, Timeout, Cancelled, Skipped, Aborted, Unknown }
    Operation {
        Deploy, Upgrade, Rollback, Remove, Publish, Config, Migration, Infrastructure, Unknown
    }
    MergeMethod { Merge, Squash, Rebase, FastForward, Unknown }
    ArtifactStep { Packaged, Signed, Attested, Published, Downloaded, Deleted }
    ReleaseStep { Created, Published, Withdrawn, Tagged }
    FlagStep { Created, Changed, Archived }
    LinkMethod { Explicit, Tool, TimeWindow, Revert, Rollback, Hotfix, Unknown }
}

impl Pack for bool {
    fn pack(&self, out: &mut Pieces<'_>) {
        out.push(u8::from(*self));
    }
    fn unpack(bytes: &mut &[u8]) -> Option<Self> {
        match u8::unpack(bytes)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl<const N: usize> Pack for [u8; N] {
    fn pack(&self, out: &mut Pieces<'_>) {
        out.extend_from_slice(self);
    }
    fn unpack(bytes: &mut &[u8]) -> Option<Self> {
        let (first, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        Some(*first)
    }
}

impl<T: Pack> Pack for Option<T> {
    fn pack(&self, out: &mut Pieces<'_>) {
        self.is_some().pack(out);
        if let Some(value) = self {
            value.pack(out);
        }
    }
    fn unpack(bytes: &mut &[u8]) -> Option<Self> {
        Some(match bool::unpack(bytes)? {
            true => Some(T::unpack(bytes)?),
            false => None,
        })
    }
}

impl<A: Pack, B: Pack> Pack for (A, B) {
    fn pack(&self, out: &mut Pieces<'_>) {
        self.0.pack(out);
        self.1.pack(out);
    }
    fn unpack(bytes: &mut &[u8]) -> Option<Self> {
        Some((A::unpack(bytes)?, B::unpack(bytes)?))
    }
}

impl<A: Pack, B: Pack, C: Pack> Pack for (A, B, C) {
    fn pack(&self, out: &mut Pieces<'_>) {
        self.0.pack(out);
        self.1.pack(out);
        self.2.pack(out);
    }
    fn unpack(bytes: &mut &[u8]) -> Option<Self> {
        Some((A::unpack(bytes)?, B::unpack(bytes)?, C::unpack(bytes)?))
    }
}

impl<T: Pack> Pack for Vec<T> {
    fn pack(&self, out: &mut Pieces<'_>) {
        (self.len() as u64).pack(out);
        for item in self {
            item.pack(out);
        }
    }
    fn unpack(bytes: &mut &[u8]) -> Option<Self> {
        let length = usize::try_from(u64::unpack(bytes)?).ok()?;
        // Every item takes at least a byte: a length beyond that is not believed.
        let mut items = Self::with_capacity(length.min(bytes.len()));
        for _ in 0..length {
            items.push(T::unpack(bytes)?);
        }
        Some(items)
    }
}

impl<T: Pack> Pack for Column<T> {
    fn pack(&self, out: &mut Pieces<'_>) {
        (self.len() as u64).pack(out);
        self.iter().for_each(|row| row.pack(out));
    }
    fn unpack(bytes: &mut &[u8]) -> Option<Self> {
        let length = u64::unpack(bytes)?;
        (0..length).map(|_| T::unpack(bytes)).collect()
    }
}

impl<T: Pack + Ord> Pack for BTreeSet<T> {
    fn pack(&self, out: &mut Pieces<'_>) {
        (self.len() as u64).pack(out);
        self.iter().for_each(|item| item.pack(out));
    }
    fn unpack(bytes: &mut &[u8]) -> Option<Self> {
        Vec::unpack(bytes).map(Self::from_iter)
    }
}

impl<K: Pack + Ord, V: Pack> Pack for BTreeMap<K, V> {
    fn pack(&self, out: &mut Pieces<'_>) {
        (self.len() as u64).pack(out);
        for (key, value) in self {
            key.pack(out);
            value.pack(out);
        }
    }
    fn unpack(bytes: &mut &[u8]) -> Option<Self> {
        Vec::<(K, V)>::unpack(bytes).map(Self::from_iter)
    }
}

macro_rules! pack_texts {
    ($($text:ty),*) => {$(
        impl Pack for $text {
            fn pack(&self, out: &mut Pieces<'_>) {
                (self.len() as u64).pack(out);
                out.extend_from_slice(self.as_bytes());
            }
            fn unpack(bytes: &mut &[u8]) -> Option<Self> {
                let text = Vec::<u8>::unpack(bytes)?;
                String::from_utf8(text).ok().map(Into::into)
            }
        }
    )*};
}

pack_texts!(std::sync::Arc<str>);

macro_rules! pack_handles {
    ($($handle:ident),*) => {$(
        impl Pack for $handle {
            fn pack(&self, out: &mut Pieces<'_>) {
                self.0.pack(out);
            }
            fn unpack(bytes: &mut &[u8]) -> Option<Self> {
                Pack::unpack(bytes).map($handle)
            }
        }
    )*};
}

pack_handles!(Symbol, Text, RevisionRef);

impl Pack for BuildStep {
    fn pack(&self, out: &mut Pieces<'_>) {
        match self {
            Self::Queued => out.push(0),
            Self::Started => out.push(1),
            Self::Finished(outcome) => {
                out.push(2);
                outcome.pack(out);
            }
        }
    }
    fn unpack(bytes: &mut &[u8]) -> Option<Self> {
        Some(match u8::unpack(bytes)? {
            0 => Self::Queued,
            1 => Self::Started,
            2 => Self::Finished(Outcome::unpack(bytes)?),
            _ => return None,
        })
    }
}

impl Pack for DeploymentMove {
    fn pack(&self, out: &mut Pieces<'_>) {
        match self {
            Self::Requested => out.push(0),
            Self::Started => out.push(1),
            Self::Progressed => out.push(2),
            Self::Superseded => out.push(3),
            Self::Finished(outcome) => {
                out.push(4);
                outcome.pack(out);
            }
        }
    }
    fn unpack(bytes: &mut &[u8]) -> Option<Self> {
        Some(match u8::unpack(bytes)? {
            0 => Self::Requested,
            1 => Self::Started,
            2 => Self::Progressed,
            3 => Self::Superseded,
            4 => Self::Finished(Outcome::unpack(bytes)?),
            _ => return None,
        })
    }
}
