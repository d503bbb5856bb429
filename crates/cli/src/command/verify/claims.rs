//! What a receipt says in words that its leaf does not cover: held against the bytes, the key and the trees that were
//! shown to be true, so that nobody reads a forged name beside a proof that holds.
use std::fmt;

use waybill_core::{Event, Refusal};
use waybill_proto::{
    message,
    parse::parse,
    pb::{KeptHeader, ProvenReceipt, Receipt},
};
use waybill_tlog::{
    checkpoint::Checkpoint,
    leaf::{self, Leaf},
    note::VerifierKey,
    receipt::Verified,
};

use crate::{output::clean, words};

/// The event that was shown to be recorded, as its own bytes name it.
pub(super) struct Named(Event);

impl Named {
    pub(super) fn facts(&self) -> impl Iterator<Item = (String, serde_json::Value)> {
        let (identity, kind) = (&self.0.identity, &self.0.kind);
        [
            ("source", identity.source.to_string()),
            ("id", identity.id.to_string()),
            ("kind", kind.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value.into()))
        .into_iter()
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let identity = &self.0.identity;
        write!(
            f,
            "event source {}, id {}, kind {}",
            clean(&identity.source),
            clean(&identity.id),
            clean(&self.0.kind.to_string())
        )
    }
}

/// Names the event, or every field of the receipt that says something else than what was shown.
pub(super) fn check(
    proven: &ProvenReceipt,
    receipt: &Receipt,
    shown: &Verified,
    key: &VerifierKey,
) -> Result<Named, Vec<String>> {
    let event = event(proven)
        .map_err(|refusal| vec![format!("the event's bytes cannot be read: {refusal}")])?;
    let claimed = receipt.event.clone().unwrap_or_default();
    let (position, salted) = (receipt.position, !receipt.salt.is_empty());
    let mut differing = Vec::new();
    let mut compare = |field: &str, claimed: &str, found: &str| {
        if claimed != found {
            let (claimed, found) = (clean(claimed), clean(found));
            differing.push(format!("{field} says `{claimed}`, it is `{found}`"));
        }
    };
    compare(
        "receipt.event.source",
        &claimed.source,
        &event.identity.source,
    );
    compare("receipt.event.id", &claimed.id, &event.identity.id);
    let positions = (claimed.position.to_string(), position.to_string());
    compare("receipt.event.position", &positions.0, &positions.1);
    let erasable = (receipt.erasable.to_string(), salted.to_string());
    compare("receipt.erasable", &erasable.0, &erasable.1);
    let digests = (covered(proven), headers_digest(proven));
    compare("subject and headers", &digests.1, &digests.0);
    compare("receipt.instanceId", &receipt.instance_id, key.name());
    compare("verifierKey", &proven.verifier_key, &key.to_vkey());
    if let Some(signed) = of_size(shown, receipt.tree_size) {
        let roots = (hex::encode(&receipt.root), hex::encode(signed.root));
        compare("receipt.root", &roots.0, &roots.1);
    }
    if receipt.tree_size < position {
        differing.push(format!(
            "receipt.treeSize says {}, no tree of that size holds position {position}",
            receipt.tree_size
        ));
    }
    if differing.is_empty() {
        Ok(Named(event))
    } else {
        Err(differing)
    }
}

/// The event that the bytes mean: themselves, or of a message of a stream what it means under its subject and headers.
fn event(proven: &ProvenReceipt) -> Result<Event, Refusal> {
    if proven.subject.is_empty() {
        return parse(&proven.event_bytes);
    }
    let read = message::read(&proven.subject, &headers(proven), &proven.event_bytes);
    read.map(|read| read.event)
        .map_err(|refused| refused.refusal)
}

fn headers(proven: &ProvenReceipt) -> Vec<(String, String)> {
    let pair = |header: &KeptHeader| (header.name.clone(), header.value.clone());
    proven.headers.iter().map(pair).collect()
}

fn headers_digest(proven: &ProvenReceipt) -> String {
    hex::encode(leaf::headers_digest(&proven.subject, &headers(proven)))
}

/// The digest of subject and headers that the leaf covers.
fn covered(proven: &ProvenReceipt) -> String {
    let leaf = Leaf::decode(&proven.leaf);
    leaf.map(|leaf| hex::encode(leaf.headers_digest))
        .unwrap_or_default()
}

/// The receipt's own size and root are of the tree that answered, and nothing signs those where no checkpoint is of it.
pub(super) fn unproven(receipt: &Receipt, shown: &Verified) -> Option<String> {
    of_size(shown, receipt.tree_size).is_none().then(|| {
        format!(
            "receipt.treeSize and receipt.root, of a tree of {} positions, are a claim: the signed tree has {}",
            words::count(receipt.tree_size),
            words::count(shown.checkpoint.size)
        )
    })
}

/// The checkpoint of exactly that size, the receipt's or the kept one.
fn of_size(shown: &Verified, size: u64) -> Option<&Checkpoint> {
    [Some(&shown.checkpoint), shown.kept.as_ref()]
        .into_iter()
        .flatten()
        .find(|checkpoint| checkpoint.size == size)
}
