//! Checkpoints, inclusion, consistency: read from sled, at positions that it holds (LEDGER P2).
use waybill_core::Identity;
use waybill_store::{Fault, Hash};
use waybill_tlog as tlog;

use crate::{
    leaf,
    ledger::Ledger,
    shared::{Shared, read},
    words::{Checkpoint, Consistency, Inclusion, Proven, ReadFailure},
};

impl Ledger {
    /// A signed checkpoint of a size, or of the newest tree that reads see (`0`).
    ///
    /// # Errors
    /// [`ReadFailure::NotYet`] for a size beyond the durable head.
    pub async fn checkpoint(&self, tree_size: u64) -> Result<Checkpoint, ReadFailure> {
        let size = self.tree_size(tree_size).await?;
        let root = self.root_at(size)?;
        let note = self.shared.signing_key.sign(&tlog::checkpoint::Checkpoint {
            origin: self.shared.ledger_id.to_string(),
            size,
            root,
        });
        let verifier_key = self.shared.signing_key.verifier_key().to_vkey();
        Ok(Checkpoint {
            note,
            tree_size: size,
            root,
            verifier_key,
        })
    }

    /// The path from a leaf to the root of a tree of some size (`0`: the newest).
    ///
    /// # Errors
    /// [`ReadFailure::Refused`] when the position is not in a tree of that size.
    pub async fn inclusion(&self, position: u64, tree_size: u64) -> Result<Inclusion, ReadFailure> {
        let size = self
            .tree_size(tree_size.max(if tree_size == 0 { 0 } else { position }))
            .await?;
        if position == 0 || position > size || (tree_size != 0 && position > tree_size) {
            let size = if tree_size == 0 { size } else { tree_size };
            return Err(out_of_tree("position", position, size));
        }
        let path =
            tlog::inclusion_path(position - 1, size, |level, index| self.node(level, index))?;
        Ok(Inclusion {
            position,
            tree_size: size,
            leaf_hash: self.node(0, position - 1)?,
            path,
            root: self.root_at(size)?,
        })
    }

    /// That the tree of one size grew into the tree of another (`new_size` 0: the newest).
    ///
    /// # Errors
    /// [`ReadFailure::Refused`] when the old size is not smaller or equal.
    pub async fn consistency(
        &self,
        old_size: u64,
        new_size: u64,
    ) -> Result<Consistency, ReadFailure> {
        let new_size = self.tree_size(new_size).await?;
        if old_size == 0 || old_size > new_size {
            return Err(out_of_tree("old_size", old_size, new_size));
        }
        let path =
            tlog::consistency_path(old_size, new_size, |level, index| self.node(level, index))?;
        let (old_root, new_root) = (self.root_at(old_size)?, self.root_at(new_size)?);
        Ok(Consistency {
            old_size,
            new_size,
            path,
            old_root,
            new_root,
        })
    }

    /// The receipt of an event with all that is needed to check it without this ledger.
    ///
    /// # Errors
    /// [`ReadFailure::NotFound`] when the identity is not recorded.
    pub async fn prove(
        &self,
        identity: &Identity,
        consistent_from_size: u64,
    ) -> Result<Proven, ReadFailure> {
        let record = self.find(identity)?;
        self.wait_for(record.position, |heads| heads.applied)
            .await?;
        let checkpoint = self.checkpoint(0).await?;
        let inclusion = self
            .inclusion(record.position, checkpoint.tree_size)
            .await?;
        let consistency = match consistent_from_size {
            0 => None,
            old => Some(self.consistency(old, checkpoint.tree_size).await?),
        };
        let durable = read(&self.shared.durable).clone();
        Ok(Proven {
            receipt: self
                .shared
                .receipt(&record, inclusion.leaf_hash, &durable, false),
            leaf: leaf::leaf(&record).encode().to_vec(),
            subject: record.subject.clone(),
            headers: record.headers.clone(),
            event: record.bytes.clone(),
            checkpoint,
            inclusion: inclusion.path,
            consistency,
        })
    }

    /// Root of the tree of a size that sled holds.
    pub(crate) fn root_at(&self, size: u64) -> Result<Hash, ReadFailure> {
        Ok(self.shared.root_at(size)?)
    }

    fn node(&self, level: u8, index: u64) -> Result<Hash, Fault> {
        self.shared.node(level, index)
    }

    /// The size asked for, once sled holds that much.
    async fn tree_size(&self, wanted: u64) -> Result<u64, ReadFailure> {
        if wanted == 0 {
            return Ok(self.shared.heads.borrow().applied);
        }
        self.wait_for(wanted, |heads| heads.applied).await?;
        Ok(wanted)
    }
}

impl Shared {
    /// Root of the tree of a size that sled holds.
    pub(crate) fn root_at(&self, size: u64) -> Result<Hash, Fault> {
        let durable = read(&self.durable);
        if durable.position == size {
            return Ok(durable.root);
        }
        drop(durable);
        tlog::root_at(size, |level, index| self.node(level, index))
    }

    fn node(&self, level: u8, index: u64) -> Result<Hash, Fault> {
        read(&self.database).node(level, index, tlog::node_hash)
    }
}

fn out_of_tree(field: &str, value: u64, size: u64) -> ReadFailure {
    let rule = format!("must lie in 1 to {size}, the size of the tree");
    ReadFailure::Refused(waybill_core::Refusal::new(
        waybill_core::Code::OutOfRange,
        field,
        value,
        rule,
    ))
}
