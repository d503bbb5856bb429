//! What events are about besides commits: changes, builds, artifacts, releases, deployments, flags, incidents, links;
//! and who mentions whom.
use std::collections::BTreeMap;

use super::{
    claims::Slot,
    column::{Column, NONE, index_of, push_tight},
    index::RowIndex,
    text::Symbol,
};

/// What kind of thing a subject is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum SubjectKind {
    /// Scope: the repository. Name: the number.
    Change,
    /// No scope. Name: the build system's id.
    Build,
    /// No scope. Name: the digest where known, else the tool's name; one artifact may have both.
    Artifact,
    /// Scope: the service. Name: the version.
    Release,
    /// Scope: the service. Name: the deployment's id.
    Deployment,
    /// No scope. Name: the key.
    Flag,
    /// No scope. Name: the tool's id.
    Incident,
    /// No scope. Name: the link's id.
    Link,
    /// No scope. Name: the full name of any entity, as links and gaps name it.
    Entity,
}

/// One thing that events are about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject {
    pub(crate) kind: SubjectKind,
    pub(crate) scope: Symbol,
    pub(crate) name: Symbol,
    pub(super) mentions: u32,
    /// Another subject of the same name, of another kind or in another scope.
    pub(super) same_name: u32,
}

/// How an event mentions something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It is what the event is about.
    About,
    /// A build, artifact or release was made from it; a deployment runs it.
    Source,
    /// A change was merged as this commit.
    Merge,
    /// The tip of a change.
    Head,
    /// One of a change's own commits.
    Member,
    /// A deployment says that this ran before.
    Previous,
    /// A commit reverts, fixes, or was picked from it.
    Reverts,
    Fixes,
    Picks,
    /// A build made this artifact.
    Makes,
    /// A deployment runs this artifact, or this release.
    Runs,
    /// An artifact came from this build.
    BuiltBy,
    /// A deployment takes this one back.
    RollsBack,
    /// A release contains this change.
    Contains,
    /// A link leads from or to it.
    LinksFrom,
    LinksTo,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Mention {
    pub(crate) slot: Slot,
    pub(super) next: u32,
    pub(crate) role: Role,
}

/// A commit as a row names it: a node, or an abbreviated id that only a question can resolve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RevisionRef(pub(crate) u32);

/// What a mention is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Target {
    Node(u32),
    Short(u32),
}

/// An abbreviated commit id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Short {
    pub(crate) repository: Symbol,
    pub(crate) digits: Symbol,
    pub(super) mentions: u32,
}

/// A range of [`Subjects::lists`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct List {
    pub(super) start: u32,
    pub(super) length: u32,
}

/// All subjects and all mentions.
#[derive(Debug, Default)]
pub(crate) struct Subjects {
    pub(super) rows: Column<Subject>,
    pub(super) shorts: Column<Short>,
    pub(super) mentions: Column<Mention>,
    /// Backing store of every [`List`].
    pub(super) lists: Vec<u32>,
    /// The newest subject of each name, by symbol.
    newest: Column<u32>,
    /// Subjects that have a scope: a name may stand for many of them, so they are not looked for by name alone.
    index: RowIndex,
    short_index: BTreeMap<(Symbol, Symbol), u32>,
}

const SHORT: u32 = 1 << 31;

impl SubjectKind {
    /// Whether one name may stand for several things.
    fn has_scope(self) -> bool {
        matches!(self, Self::Change | Self::Release | Self::Deployment)
    }
}

impl RevisionRef {
    /// No commit is named.
    pub(crate) const NONE: Self = Self(NONE);

    /// The reference to an abbreviated id.
    pub(crate) fn short(short: u32) -> Self {
        Self(short | SHORT)
    }

    /// What the reference points at; nothing for [`Self::NONE`].
    pub(crate) fn target(self) -> Option<Target> {
        match self {
            Self::NONE => None,
            Self(at) if at & SHORT != 0 => Some(Target::Short(at & !SHORT)),
            Self(at) => Some(Target::Node(at)),
        }
    }
}

impl Subjects {
    /// The subject of this name, new or old.
    pub(crate) fn intern(&mut self, kind: SubjectKind, scope: Symbol, name: Symbol) -> u32 {
        if let Some(found) = self.find(kind, scope, name) {
            return found;
        }
        let at = index_of(self.rows.len());
        let row = Subject {
            kind,
            scope,
            name,
            mentions: NONE,
            same_name: NONE,
        };
        self.rows.push(row);
        self.index_row(at);
        at
    }

    pub(crate) fn find(&self, kind: SubjectKind, scope: Symbol, name: Symbol) -> Option<u32> {
        if !kind.has_scope() {
            return self.named(kind, name).next();
        }
        let same = |at: &u32| {
            let row = &self.rows[*at as usize];
            row.name == name && row.scope == scope && row.kind == kind
        };
        self.index.find(hash_of_scoped(kind, scope, name), same)
    }

    /// Subjects of a kind and name in any scope, in no particular order.
    pub(crate) fn named(&self, kind: SubjectKind, name: Symbol) -> impl Iterator<Item = u32> + '_ {
        let mut at = self.newest.get(name.0 as usize).copied().unwrap_or(NONE);
        let all = std::iter::from_fn(move || {
            let row = self.rows.get(at as usize)?;
            let found = std::mem::replace(&mut at, row.same_name);
            Some((found, row))
        });
        all.filter(move |(_, row)| row.kind == kind)
            .map(|(found, _)| found)
    }

    pub(crate) fn at(&self, subject: u32) -> &Subject {
        &self.rows[subject as usize]
    }

    /// The abbreviated id of these digits, new or old.
    pub(super) fn short(&mut self, repository: Symbol, digits: Symbol) -> RevisionRef {
        let at = self
            .short_index
            .entry((repository, digits))
            .or_insert_with(|| {
                self.shorts.push(Short {
                    repository,
                    digits,
                    mentions: NONE,
                });
                index_of(self.shorts.len() - 1)
            });
        RevisionRef::short(*at)
    }

    pub(crate) fn find_short(&self, repository: Symbol, digits: Symbol) -> Option<u32> {
        self.short_index.get(&(repository, digits)).copied()
    }

    pub(crate) fn short_at(&self, short: u32) -> Short {
        self.shorts[short as usize]
    }

    pub(crate) fn has_shorts(&self) -> bool {
        !self.shorts.is_empty()
    }

    /// Puts a mention in front of the list that begins at `head`; returns the new head.
    pub(super) fn prepend(&mut self, head: u32, slot: Slot, role: Role) -> u32 {
        let at = index_of(self.mentions.len());
        let mention = Mention {
            slot,
            next: head,
            role,
        };
        self.mentions.push(mention);
        at
    }

    pub(super) fn mention_subject(&mut self, subject: u32, slot: Slot, role: Role) {
        let head = self.prepend(self.rows[subject as usize].mentions, slot, role);
        self.rows[subject as usize].mentions = head;
    }

    pub(super) fn mention_short(&mut self, short: u32, slot: Slot, role: Role) {
        let head = self.prepend(self.shorts[short as usize].mentions, slot, role);
        self.shorts[short as usize].mentions = head;
    }

    /// Mentions from `head` on, newest arrival first.
    pub(crate) fn mentions_from(&self, head: u32) -> impl Iterator<Item = Mention> + '_ {
        let mut at = head;
        std::iter::from_fn(move || {
            let mention = self.mentions.get(at as usize)?;
            at = mention.next;
            Some(*mention)
        })
    }

    pub(crate) fn mentions_of(&self, subject: u32) -> impl Iterator<Item = Mention> + '_ {
        self.mentions_from(self.rows[subject as usize].mentions)
    }

    pub(crate) fn mentions_of_short(&self, short: u32) -> impl Iterator<Item = Mention> + '_ {
        self.mentions_from(self.shorts[short as usize].mentions)
    }

    pub(super) fn list(&mut self, items: impl IntoIterator<Item = u32>) -> List {
        let start = index_of(self.lists.len());
        for item in items {
            push_tight(&mut self.lists, item);
        }
        List {
            start,
            length: index_of(self.lists.len()) - start,
        }
    }

    pub(crate) fn items(&self, list: List) -> &[u32] {
        let start = list.start as usize;
        &self.lists[start..start + list.length as usize]
    }

    /// The commits of a list.
    pub(crate) fn revisions(&self, list: List) -> impl Iterator<Item = RevisionRef> + '_ {
        self.items(list).iter().copied().map(RevisionRef)
    }

    /// Builds the indexes anew from the rows, after a restore.
    pub(super) fn reindex(&mut self) {
        for at in 0..index_of(self.rows.len()) {
            self.index_row(at);
        }
        for (at, short) in self.shorts.iter().enumerate() {
            self.short_index
                .insert((short.repository, short.digits), index_of(at));
        }
    }

    fn index_row(&mut self, at: u32) {
        let Subject {
            kind, scope, name, ..
        } = self.rows[at as usize];
        while self.newest.len() <= name.0 as usize {
            self.newest.push(NONE);
        }
        let before = std::mem::replace(&mut self.newest[name.0 as usize], at);
        self.rows[at as usize].same_name = before;
        if kind.has_scope() {
            let rows = &self.rows;
            let hash = |at: &u32| {
                let row = &rows[*at as usize];
                hash_of_scoped(row.kind, row.scope, row.name)
            };
            self.index
                .insert(hash_of_scoped(kind, scope, name), at, hash);
        }
    }
}

/// Spreads three numbers that we gave out ourselves; nobody outside chooses them.
fn hash_of_scoped(kind: SubjectKind, scope: Symbol, name: Symbol) -> u64 {
    let packed = u64::from(scope.0) << 32 | u64::from(name.0);
    let mixed = (packed ^ (kind as u64) << 61).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ mixed >> 32).wrapping_mul(0xD6E8_FEB8_6659_FD93)
}
