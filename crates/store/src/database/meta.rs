//! What the database says of itself, in the batch that makes it so.
//!
//! Kind 0. Body: `ledger id | position u64 | record time i64, ns | chain 32 | segment u32 | offset u64 | root 32 |
//! frontier | counters`, where ledger id, frontier and counters stand behind their length as u32.
use waybill_core::Time;

use super::{
    keys::{self, VALUE_BYTES_MAX, Writes},
    value,
};
use crate::{
    Fault,
    record::{Hash, Tip},
};

/// 1: as above. It is the version of the layout of all keyspaces: another one means another database.
const VERSION: u8 = 1;
const FIXED_BYTES: usize = value::HEADER_BYTES + 104;

/// Where the database stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The tree that it belongs to.
    pub ledger_id: String,
    /// The end of the last frame that was applied.
    pub tip: Tip,
    /// The tree's right edge at that position, as the tree writes it.
    pub frontier: Vec<u8>,
    /// The tree's root at that position.
    pub root: Hash,
    /// Counts that the ledger keeps; together with ledger id and frontier below 4,000 bytes.
    pub counters: Vec<u8>,
}

impl Meta {
    pub(crate) fn put(&self, writes: &mut Writes) -> Result<(), Fault> {
        let bytes = FIXED_BYTES + self.ledger_id.len() + self.frontier.len() + self.counters.len();
        if bytes > VALUE_BYTES_MAX {
            return Err(Fault::TooLarge {
                what: "the database's description",
                bytes,
                limit: VALUE_BYTES_MAX,
            });
        }
        let mut value = value::begin(VERSION, 0, bytes);
        value::put_sized(self.ledger_id.as_bytes(), &mut value);
        value.extend_from_slice(&self.tip.position.to_le_bytes());
        value.extend_from_slice(&self.tip.record_time.nanos().to_le_bytes());
        value.extend_from_slice(&self.tip.chain);
        value.extend_from_slice(&self.tip.segment.to_le_bytes());
        value.extend_from_slice(&self.tip.offset.to_le_bytes());
        value.extend_from_slice(&self.root);
        value::put_sized(&self.frontier, &mut value);
        value::put_sized(&self.counters, &mut value);
        value::put(keys::meta(), value, writes);
        Ok(())
    }

    pub(crate) fn read(value: &[u8]) -> Result<Self, String> {
        let (_, mut body) = value::open(value, VERSION, "the database's description")?;
        let ledger_id =
            String::from_utf8(body.sized()?.to_vec()).map_err(|_| "the ledger id is not UTF-8")?;
        let tip = Tip {
            position: body.u64()?,
            record_time: Time::from_nanos_clamped(body.i64()?.into()),
            chain: body.array()?,
            segment: body.u32()?,
            offset: body.u64()?,
        };
        let root = body.array()?;
        Ok(Self {
            ledger_id,
            tip,
            root,
            frontier: body.sized()?.to_vec(),
            counters: body.sized()?.to_vec(),
        })
    }
}
