//! Replicas of one ledger tell each other their signed checkpoints, beside the stream: whoever has another root at the same
//! position says so and stops (LEDGER Q2).
use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use tokio::{sync::mpsc, time::sleep};
use waybill_proto::subject;
use waybill_tlog::{
    checkpoint::{self, Checkpoint},
    note::VerifierKey,
};

use super::{
    broker::BrokerFault,
    standing::{Freeze, FreezeKind, Peer, Side},
};
use crate::{ledger::Ledger, open::hex, shared::lock};

/// What checkpoints are announced under, followed by ledger id and instance id, each as a subject's token.
const CHECKPOINTS: &str = "waybill.checkpoint.v1";
/// How often a replica says where it stands.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(1);
/// Replicas that are remembered.
const PEERS_MAX: usize = 64;

impl Ledger {
    /// Announces checkpoints and compares those of others, until the ledger stops. Nothing of it holds up what comes in.
    pub(crate) async fn keep_company(&self, side: &Side) {
        let every = ANNOUNCE_EVERY.min(side.compare_every * 10);
        while !self.shared.stopping.load(Ordering::Acquire) {
            if let Err(fault) = self.company(side, every).await {
                tracing::debug!(%fault, "other replicas are not heard of");
            }
            sleep(every).await;
        }
    }

    async fn company(&self, side: &Side, every: Duration) -> Result<(), BrokerFault> {
        let ledger_id = subject::token(&self.shared.ledger_id);
        let instance_id = subject::token(&self.shared.instance_id);
        let own = format!("{CHECKPOINTS}.{ledger_id}.{instance_id}");
        let filter = format!("{CHECKPOINTS}.{ledger_id}.*");
        let mut heard = side.broker.announcements(filter).await?;
        while !self.shared.stopping.load(Ordering::Acquire) {
            let size = self.shared.heads.borrow().applied;
            if size > 0
                && let Ok(checkpoint) = self.checkpoint(size).await
            {
                let text = format!("{}\n{}", checkpoint.verifier_key, checkpoint.note);
                side.broker.announce(own.clone(), text).await?;
            }
            if !self.listen(side, &mut heard, every).await {
                break;
            }
            self.compare_peers(side);
        }
        Ok(())
    }

    /// Takes in what is announced for a while; false when the connection ended.
    async fn listen(&self, side: &Side, heard: &mut mpsc::Receiver<Bytes>, time: Duration) -> bool {
        let end = sleep(time);
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => return true,
                announced = heard.recv() => match announced {
                    None => return false,
                    Some(announced) => self.hear(side, &announced),
                },
            }
        }
    }

    fn hear(&self, side: &Side, announced: &[u8]) {
        let Some((instance_id, checkpoint)) = opened(announced) else {
            return;
        };
        let own = *instance_id == *self.shared.instance_id;
        if own || *checkpoint.origin != *self.shared.ledger_id {
            return;
        }
        let mut peers = lock(&side.peers);
        let known = peers.get(&instance_id);
        // A difference stays one, whatever is said later.
        if known.is_some_and(|it| it.same == Some(false))
            || (known.is_none() && peers.len() >= PEERS_MAX)
        {
            return;
        }
        let mut peer = Peer {
            instance_id: instance_id.clone(),
            position: checkpoint.size,
            root: checkpoint.root,
            same: None,
        };
        peer.same = self.agrees(side, &peer);
        peers.insert(instance_id, peer);
    }

    /// Compares what was heard before the tree had got so far.
    fn compare_peers(&self, side: &Side) {
        let mut peers = lock(&side.peers);
        for peer in peers.values_mut().filter(|peer| peer.same.is_none()) {
            peer.same = self.agrees(side, peer);
        }
    }

    /// Whether the tree has a replica's root, as far as it reaches; a difference freezes.
    fn agrees(&self, side: &Side, peer: &Peer) -> Option<bool> {
        if peer.position > self.shared.heads.borrow().applied {
            return None;
        }
        let root = self.shared.root_at(peer.position).ok()?;
        if root != peer.root {
            side.diverge(differs(peer, &root));
        }
        Some(root == peer.root)
    }
}

/// A checkpoint that its own key signed: the key is no more trusted than the broker's permission to announce.
fn opened(announced: &[u8]) -> Option<(String, Checkpoint)> {
    let (key, note) = std::str::from_utf8(announced).ok()?.split_once('\n')?;
    let key = VerifierKey::parse(key).ok()?;
    let checkpoint = checkpoint::open(note, std::slice::from_ref(&key)).ok()?;
    Some((key.name().to_owned(), checkpoint))
}

fn differs(peer: &Peer, root: &[u8; 32]) -> Freeze {
    Freeze {
        kind: FreezeKind::PeerDiffers,
        reason: format!(
            "replica `{}` has root {} at position {}, and this ledger has {} there: one of the two was changed or follows another stream",
            peer.instance_id,
            hex(&peer.root),
            peer.position,
            hex(root)
        ),
        remedy: "keep both, and run `waybill verify` on each directory and against checkpoints that were kept elsewhere; restore an \
                 export of the one that holds, and start again"
            .to_owned(),
        ledger_leaf: None,
        broker_leaf: None,
    }
}
