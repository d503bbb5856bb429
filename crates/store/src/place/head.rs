//! The head file: how far the ledger got, kept where a copy of the data directory does not reach (LEDGER J4).
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::sealed;
use crate::{
    fault::{Damage, Fault},
    record::Hash,
};

/// Where the ledger stood when it last said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Names the tree.
    pub ledger_id: String,
    /// Names the replica.
    pub instance_id: String,
    /// Last durable position.
    pub position: u64,
    /// Root of the tree of that size.
    pub root: Hash,
    /// Chain of the journal there.
    pub chain: Hash,
}

/// The head file's one line.
#[derive(Serialize, Deserialize)]
struct Line {
    version: u32,
    ledger_id: String,
    instance_id: String,
    position: u64,
    root: String,
    chain: String,
}

/// 1: the fields of [`Line`].
const VERSION: u32 = 1;

/// Replaces the head file and reads it back.
pub(super) fn write(path: &Path, head: &Head) -> Result<(), Fault> {
    let line = Line {
        version: VERSION,
        ledger_id: head.ledger_id.clone(),
        instance_id: head.instance_id.clone(),
        position: head.position,
        root: hex(&head.root),
        chain: hex(&head.chain),
    };
    sealed::write(path, &line)?;
    match read(path)? {
        Some(back) if back == *head => Ok(()),
        _ => Err(damage(path, "it does not read back as it was written").into()),
    }
}

/// The head file; `None` when there is none.
pub(super) fn read(path: &Path) -> Result<Option<Head>, Fault> {
    let Some(line) = sealed::read::<Line>(path)? else {
        return Ok(None);
    };
    if line.version != VERSION {
        return Err(Fault::Foreign {
            what: format!(
                "{} has version {}, this binary knows {VERSION}",
                path.display(),
                line.version
            ),
        });
    }
    let (Some(root), Some(chain)) = (unhex(&line.root), unhex(&line.chain)) else {
        return Err(damage(path, "root or chain is not 64 hex digits").into());
    };
    let Line {
        ledger_id,
        instance_id,
        position,
        ..
    } = line;
    Ok(Some(Head {
        ledger_id,
        instance_id,
        position,
        root,
        chain,
    }))
}

fn damage(path: &Path, what: &str) -> Damage {
    Damage {
        file: path.to_owned(),
        offset: 0,
        first_position: 1,
        last_position: None,
        what: what.to_owned(),
    }
}

/// Lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn unhex(text: &str) -> Option<Hash> {
    let digits: Vec<u8> = text
        .chars()
        .map(|digit| {
            digit
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        })
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits
        .chunks_exact(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect();
    (digits.len() == 64).then_some(bytes)?.try_into().ok()
}
