//! One file a group of families: checks a payload, and says what it is about and which fact it is.

pub(crate) mod change;
pub(crate) mod commit;
pub(crate) mod delivery;
pub(crate) mod deployment;
pub(crate) mod described;
pub(crate) mod flag;
pub(crate) mod incident;
pub(crate) mod ledger;
pub(crate) mod link;
pub(crate) mod metric;
pub(crate) mod repository;
pub(crate) mod table;

use waybill_core::{
    Entity, Refusal, Time,
    event::{NaturalKey, RecordKind},
};

use crate::{entities::Entities, natural_key::Key};

/// What the reader of a family says of an event beside its payload.
pub(crate) struct About {
    /// When it happened, as far as known.
    pub(crate) occur_time: Option<Time>,
    /// What it is about; the first is the subject.
    pub(crate) entities: Entities,
    /// What a payload of the ledger's family amends.
    pub(crate) amends: Option<RecordKind>,
    kind: &'static str,
    key: Option<Key>,
}

impl About {
    pub(crate) fn new(kind: &'static str, occur_time: Option<Time>) -> Self {
        Self {
            occur_time,
            entities: Entities::default(),
            amends: None,
            kind,
            key: None,
        }
    }

    /// Begins the natural key. A reader that does not leaves the event to its identity.
    pub(crate) fn key(&mut self) -> &mut Key {
        self.key.insert(Key::of_kind(self.kind))
    }

    /// Begins the natural key of a fact that only its subject and its time tell apart.
    pub(crate) fn key_by_time(&mut self, subject: &[&str]) {
        let occur_time = self.occur_time;
        let key = self.key();
        for part in subject {
            key.text(part);
        }
        key.moment(occur_time);
    }

    /// Goes on with the natural key that was begun.
    pub(crate) fn extend_key(&mut self, extend: impl FnOnce(&mut Key) -> &mut Key) {
        if let Some(key) = &mut self.key {
            extend(key);
        }
    }

    /// Names a repository, reading any of its spellings.
    pub(crate) fn repository(&self, text: &str) -> Result<Entity, Refusal> {
        crate::entities::repository(text)
    }

    /// The natural key, where there is one.
    pub(crate) fn natural_key(&self) -> Option<NaturalKey> {
        self.key.as_ref()?.finish()
    }
}

/// The refusal of a payload's own part that is absent: `deployment` in `deployment.finished`.
pub(crate) fn part<'p, T>(value: Option<&'p T>, field: &str) -> Result<&'p T, Refusal> {
    value.ok_or_else(|| crate::field::missing(field))
}
