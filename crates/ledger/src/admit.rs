//! The verdict on one event, pure (LEDGER A1, E1, E2).
use waybill_core::{Code, Identity, Refusal};
use waybill_proto::canonical;

/// Version of the admission rules and of the canonical form in force (LEDGER A6).
pub const RULES_VERSION: u32 = 1;

/// What admission says of an event whose identity may be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nobody used this identity before.
    New,
    /// The same identity and content stand already.
    Duplicate,
    /// The identity stands for other content.
    Conflict {
        /// Digest of what stands.
        recorded: [u8; 32],
        /// Digest of what came.
        refused: [u8; 32],
    },
}

/// Compares an event's bytes with those that stand under its identity.
///
/// Equal bytes need no canonical form, which keeps the common repeat cheap.
///
/// # Errors
/// Fails when one of the two has no canonical form, which a parsed event always has.
pub(crate) fn verdict(stored: Option<&[u8]>, new: &[u8], rules: u32) -> Result<Verdict, Refusal> {
    let Some(stored) = stored else {
        return Ok(Verdict::New);
    };
    if stored == new {
        return Ok(Verdict::Duplicate);
    }
    let recorded = canonical::content_digest(stored, rules)?;
    let refused = canonical::content_digest(new, rules)?;
    Ok(if recorded == refused {
        Verdict::Duplicate
    } else {
        Verdict::Conflict { recorded, refused }
    })
}

/// The refusal that answers a conflict.
pub(crate) fn conflict(identity: &Identity, position: u64) -> Refusal {
    Refusal::new(
        Code::Conflict,
        "id",
        &identity.id,
        format!("taken: source `{}` used it for other content at position {position}", identity.source),
    )
    .with_hint("emit under a new id, or emit a correction (`record_kind: CORRECTION`) that amends the recorded event")
}

/// The id under which the first conflict of an identity is recorded (LEDGER A4).
pub(crate) fn conflict_id(identity: &Identity) -> String {
    use sha2::{Digest, Sha256};
    let mut hasher = Sha256::new();
    for part in [&identity.source, &identity.id] {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    let digest: [u8; 32] = hasher.finalize().into();
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("conflict:{hex}")
}
