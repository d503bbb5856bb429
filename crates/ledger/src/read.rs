//! Ledger reads: one event, a page of events, a receipt. Everything comes from memory or sled, never from a segment.
use std::sync::Arc;

use waybill_core::{Code, Entity, Identity, Refusal};
use waybill_proto::parse;
use waybill_store::{Damage, Record, Verdict, Word, database::Selection, seen};

use crate::{
    leaf,
    ledger::Ledger,
    shared::read,
    stream,
    words::{AtLeast, Entry, Filter, Heads, Key, Leaves, Page, ReadFailure, Receipt},
};

/// Refused messages that are looked at for one identity.
const REFUSED_LOOKED_AT: usize = 200;

impl Ledger {
    /// One event, by place or by identity; what is durable is found, applied or not (LEDGER S5).
    ///
    /// # Errors
    /// [`ReadFailure::NotFound`], or [`ReadFailure::Damaged`] when its bytes are not what was recorded, or when it may be
    /// among those that are lost.
    pub async fn entry(&self, key: &Key) -> Result<Entry, ReadFailure> {
        let record = match key {
            Key::Identity(identity) => self.find(identity)?,
            Key::Position(position) => {
                let absent = || self.absent(Some(*position), format!("position {position}"));
                self.shared.record(*position)?.ok_or_else(absent)?
            }
        };
        Ok(self.explained(entry(record)))
    }

    /// Adds why a leaf is no fact.
    fn explained(&self, mut entry: Entry) -> Entry {
        entry.verdict = self.shared.verdict_now(&entry.record);
        if entry.verdict.is_fact() {
            return entry;
        }
        let record = &entry.record;
        let first = (record.verdict == Verdict::Conflict).then(|| {
            let identity = Identity {
                source: record.source.clone(),
                id: record.id.clone(),
            };
            self.find(&identity).map_or(0, |first| first.position)
        });
        entry.refusal = stream::refusal_of(record, &self.shared.ledger_id, first);
        entry
    }

    /// The plain receipt of an event: its first position, with today's tree.
    ///
    /// # Errors
    /// [`ReadFailure::NotFound`] when the identity is not recorded.
    pub async fn receipt(&self, identity: &Identity) -> Result<Receipt, ReadFailure> {
        let record = self.find(identity)?;
        let durable = read(&self.shared.durable).clone();
        Ok(self
            .shared
            .receipt(&record, leaf::hash(&record), &durable, false))
    }

    /// One page of events. `from` continues where an earlier page's `next` says; `at` pins the list to a position, so
    /// that later pages see what the first saw (`0`: now).
    ///
    /// # Errors
    /// [`ReadFailure::Refused`] when the filter breaks a rule.
    pub async fn list(
        &self,
        filter: &Filter,
        limit: usize,
        from: Option<u64>,
        at: u64,
    ) -> Result<Page, ReadFailure> {
        let applied = match at {
            0 => self.shared.heads.borrow().applied,
            at => at,
        };
        let (mut first, mut last) = (filter.first_position.max(1), applied);
        if filter.last_position != 0 {
            last = last.min(filter.last_position);
        }
        match (from, filter.descending) {
            (Some(from), false) => first = first.max(from),
            (Some(from), true) => last = last.min(from),
            (None, _) => {}
        }
        let (entries, next) = self.select(filter, first, last, limit)?;
        Ok(Page {
            entries,
            next,
            applied,
        })
    }

    /// What a list of this filter, read to its end in order, does not hold because it is lost: whoever reads it must not
    /// take the end of what is whole for the end.
    #[must_use]
    pub fn lost(&self, filter: &Filter) -> Option<Damage> {
        let asked = |damage: &&Damage| {
            let open = filter.last_position == 0;
            let before = filter.first_position <= damage.last_position.unwrap_or(u64::MAX);
            !filter.descending && before && (open || filter.last_position >= damage.first_position)
        };
        self.shared.missing.as_ref().filter(asked).cloned()
    }

    fn select(
        &self,
        filter: &Filter,
        first: u64,
        last: u64,
        limit: usize,
    ) -> Result<(Vec<Entry>, Option<u64>), ReadFailure> {
        let mut entries = Vec::new();
        if first > last {
            return Ok((entries, None));
        }
        let mut all = words(filter);
        if filter.leaves == Leaves::Refused {
            all.push(leaf::refused_word());
        }
        let selection = Selection {
            all,
            any: filter
                .kinds
                .iter()
                .map(|kind| leaf::kind_word(kind))
                .collect(),
            occur: filter.occur,
            record: filter.record,
            first,
            last,
            descending: filter.descending,
        };
        let database = read(&self.shared.database).clone();
        for position in database.select(&selection) {
            let position = position?;
            if entries.len() == limit {
                return Ok((entries, Some(position)));
            }
            let record = self.shared.record(position)?;
            let wanted =
                record.filter(|record| is_wanted(filter.leaves, self.shared.verdict_now(record)));
            let entry = wanted.map(|record| self.explained(entry(record)));
            if let Some(entry) = entry.filter(|entry| matches(filter, entry)) {
                entries.push(entry);
            }
        }
        Ok((entries, None))
    }

    /// The newest message under an identity that is on record and no fact, among the newest of all that are not.
    ///
    /// # Errors
    /// As [`Ledger::list`].
    pub async fn refused_under(&self, identity: &Identity) -> Result<Option<Entry>, ReadFailure> {
        let filter = Filter {
            leaves: Leaves::Refused,
            descending: true,
            ..Filter::default()
        };
        let entries = self
            .list(&filter, REFUSED_LOOKED_AT, None, 0)
            .await?
            .entries;
        let is_it = |entry: &Entry| {
            let claim = entry.event.as_ref().map(|wire| parse::claim(wire));
            claim
                .is_some_and(|claim| *claim.source == *identity.source && *claim.id == *identity.id)
        };
        Ok(entries.into_iter().find(is_it))
    }

    /// Whether an identity may be recorded, by what is in memory. False is certain.
    #[must_use]
    pub fn may_hold(&self, identity: &Identity) -> bool {
        let fingerprint = seen::fingerprint(&identity.source, &identity.id);
        read(&self.shared.seen)
            .candidates(fingerprint)
            .next()
            .is_some()
    }

    pub(crate) fn find(&self, identity: &Identity) -> Result<Arc<Record>, ReadFailure> {
        let fingerprint = seen::fingerprint(&identity.source, &identity.id);
        self.shared.stored(identity, fingerprint)?.ok_or_else(|| {
            let what = format!("event `{}` of source `{}`", identity.id, identity.source);
            self.absent(None, what)
        })
    }

    /// Why something is not there: it never was, or it may be at a position that is lost. The second is never told as the
    /// first.
    fn absent(&self, position: Option<u64>, what: String) -> ReadFailure {
        let lost = |damage: &&Damage| {
            let range = damage.first_position..=damage.last_position.unwrap_or(u64::MAX);
            position.is_none_or(|position| range.contains(&position))
        };
        match self.shared.missing.as_ref().filter(lost) {
            Some(damage) => ReadFailure::Damaged(damage.clone()),
            None => ReadFailure::NotFound { what },
        }
    }

    /// Waits until reads see a position. The caller brings the deadline, by dropping this future.
    ///
    /// # Errors
    /// [`ReadFailure::Refused`] when `at_least` names another ledger; [`ReadFailure::Damaged`] for a position that is lost.
    pub async fn wait_applied(&self, at_least: &AtLeast) -> Result<(), ReadFailure> {
        self.check_ledger(at_least)?;
        self.wait_for(at_least.position, |heads| heads.applied)
            .await
    }

    /// Waits until questions see a position.
    pub(crate) async fn wait_folded(&self, at_least: &AtLeast) -> Result<(), ReadFailure> {
        self.check_ledger(at_least)?;
        self.wait_for(at_least.position, |heads| heads.folded).await
    }

    pub(crate) async fn wait_for(
        &self,
        position: u64,
        head: fn(&Heads) -> u64,
    ) -> Result<(), ReadFailure> {
        if let damaged @ ReadFailure::Damaged(_) = self.absent(Some(position), String::new()) {
            return Err(damaged);
        }
        let mut heads = self.shared.heads.subscribe();
        let waited = heads
            .wait_for(|heads| head(heads) >= position)
            .await
            .map(|_| ());
        waited.map_err(|_| ReadFailure::NotYet {
            wanted: position,
            have: head(&self.shared.heads.borrow()),
        })
    }

    fn check_ledger(&self, at_least: &AtLeast) -> Result<(), ReadFailure> {
        if at_least.ledger_id.is_empty() || *at_least.ledger_id == *self.shared.ledger_id {
            return Ok(());
        }
        let rule = format!("not this ledger, which is `{}`", self.shared.ledger_id);
        Err(Refusal::new(
            Code::Contradiction,
            "at_least.ledger_id",
            &at_least.ledger_id,
            rule,
        )
        .with_hint("ask the ledger that gave the receipt")
        .into())
    }
}

/// A record as reads give it.
pub(crate) fn entry(record: Arc<Record>) -> Entry {
    let (event, wire) = match stream::of_record(&record) {
        Ok(read) => (Some(read.event), Some(read.wire)),
        // What breaks a rule before it is even decoded, as one that is too large, may be no event at all.
        Err(refused) => (None, refused.wire.filter(|wire| is_event(wire))),
    };
    let natural_key = event.as_ref().map(|event| event.natural_key);
    let entities: Vec<Entity> = event.map(|event| event.entities).unwrap_or_default();
    Entry {
        leaf_hash: leaf::hash(&record),
        verdict: record.verdict,
        event: wire,
        refusal: None,
        natural_key,
        entities,
        record,
    }
}

fn is_event(wire: &[u8]) -> bool {
    prost::Message::decode(wire).is_ok_and(|_: waybill_proto::pb::Event| true)
}

fn is_wanted(leaves: Leaves, verdict: Verdict) -> bool {
    match leaves {
        Leaves::Facts => verdict.is_fact(),
        Leaves::All => true,
        Leaves::Refused => leaf::is_refused(verdict),
    }
}

/// The words that every match holds.
fn words(filter: &Filter) -> Vec<Word> {
    let mut words = Vec::new();
    if let Some(entity) = &filter.entity {
        words.push(match Entity::parse(entity) {
            Ok(entity) => leaf::entity_word(&entity),
            Err(_) => leaf::plain_word(entity),
        });
    }
    if let Some(source) = &filter.source {
        words.push(leaf::source_word(source));
    }
    words
}

/// The exact check behind the index, whose words are hashes.
fn matches(filter: &Filter, entry: &Entry) -> bool {
    let record = &entry.record;
    let kind = |wanted: &String| {
        *wanted == *record.kind || record.kind.split('.').next() == Some(wanted.as_str())
    };
    let entity = |wanted: &String| match Entity::parse(wanted) {
        Ok(wanted) => entry.entities.contains(&wanted),
        Err(_) => entry
            .entities
            .iter()
            .any(|entity| plain_match(entity, wanted)),
    };
    let occurred = leaf::index(record).occur_time;
    let within = |range: (Option<_>, Option<_>), time| {
        range.0.is_none_or(|start| time >= start) && range.1.is_none_or(|end| time < end)
    };
    (filter.kinds.is_empty() || filter.kinds.iter().any(kind))
        && filter.entity.as_ref().is_none_or(entity)
        && filter
            .source
            .as_ref()
            .is_none_or(|source| **source == *record.source)
        && within(filter.record, record.record_time)
        && (filter.occur == (None, None) || occurred.is_some_and(|time| within(filter.occur, time)))
}

fn plain_match(entity: &Entity, wanted: &str) -> bool {
    let hex = wanted.len() >= 7 && wanted.bytes().all(|b| b.is_ascii_hexdigit());
    if hex {
        entity.last().starts_with(wanted)
    } else {
        entity.last() == wanted
    }
}
