//! Checking a proven receipt: without the ledger, by its public key.
use waybill_proto::pb;
use waybill_tlog::{
    Hash,
    checkpoint::VerifierKey,
    receipt::{self, Invalid, Kept, Proven, Verified},
};

/// Why a proven receipt proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// A part is missing or has not the form that it should have.
    #[error("{field} {rule}")]
    Malformed {
        /// The field.
        field: &'static str,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// A part does not hold.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// Checks a proven receipt against the public keys that you trust, and against a checkpoint that you kept.
///
/// The key inside the receipt is only what the ledger says; compare it with one that you have from elsewhere. With a kept
/// checkpoint, ask for the receipt with that checkpoint's size.
///
/// # Errors
/// [`VerifyError`] names the part that does not hold.
pub fn verify(
    proven: &pb::ProvenReceipt,
    keys: &[VerifierKey],
    kept: Option<&str>,
) -> Result<Verified, VerifyError> {
    let malformed = |field, rule| VerifyError::Malformed { field, rule };
    let receipt = proven
        .receipt
        .as_ref()
        .ok_or(malformed("receipt", "is missing"))?;
    let leaf_hash = Hash::try_from(&receipt.leaf_hash[..])
        .map_err(|_| malformed("receipt.leaf_hash", "is not 32 bytes"))?;
    let record_time_nanos = receipt
        .record_time
        .as_ref()
        .and_then(nanos)
        .ok_or(malformed("receipt.record_time", "is not a time after 1970"))?;
    let inclusion_path = hashes(&proven.inclusion_path).ok_or(malformed(
        "inclusion_path",
        "holds a hash that is not 32 bytes",
    ))?;
    let consistency_path = hashes(&proven.consistency_path).ok_or(malformed(
        "consistency_path",
        "holds a hash that is not 32 bytes",
    ))?;
    let plain = Proven {
        ledger_id: &receipt.ledger_id,
        position: receipt.position,
        record_time_nanos,
        leaf_hash,
        leaf: &proven.leaf,
        event: &proven.event_bytes,
        salt: &receipt.salt,
        inclusion_path: &inclusion_path,
        checkpoint: &proven.checkpoint,
    };
    let kept = kept.map(|checkpoint| Kept {
        checkpoint,
        consistency_path: &consistency_path,
    });
    Ok(receipt::verify(&plain, keys, kept.as_ref())?)
}

fn hashes(path: &[bytes::Bytes]) -> Option<Vec<Hash>> {
    path.iter()
        .map(|hash| Hash::try_from(&hash[..]).ok())
        .collect()
}

fn nanos(time: &prost_types::Timestamp) -> Option<u64> {
    let (seconds, nanos) = (
        u64::try_from(time.seconds).ok()?,
        u64::try_from(time.nanos).ok()?,
    );
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
}
