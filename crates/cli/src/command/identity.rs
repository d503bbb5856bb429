//! Who says so and what they call it: sources and ids that are the same when a CI step runs again.
use sha2::{Digest as _, Sha256};
use waybill_proto::pb::Refusal;

use crate::{
    context::Context,
    exit::{Exit, Failure},
    output::clean,
};

/// Longest id that a ledger takes, in bytes (LEDGER E11).
const ID_BYTES_MAX: usize = 256;

/// 32 hex digits that nobody has used before.
pub(crate) fn random_hex() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::unexpected(format!("no randomness: {error}")))?;
    Ok(hex::encode(bytes))
}

/// The source where none is given: the setting, or this machine's command line.
pub(crate) fn source(context: &Context) -> String {
    context
        .settings
        .value("source")
        .unwrap_or_else(|| format!("/cli/{}", machine()))
}

/// The machine's name, as far as it fits into a source.
fn machine() -> String {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let plain: String = name
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "-._".contains(*c))
        .take(64)
        .collect();
    if plain.is_empty() {
        "unnamed".to_owned()
    } else {
        plain
    }
}

/// Joins the parts of an id so that different parts never give the same id; what is too long ends in a hash.
pub(crate) fn join(parts: &[&str]) -> String {
    let mut id = String::new();
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            id.push(':');
        }
        for c in part.chars() {
            match c {
                ':' => id.push_str("%3A"),
                '%' => id.push_str("%25"),
                c if waybill_core::refusal::is_unsafe_in_text(c) => {
                    id.push_str(&format!("%{:02X}", u32::from(c)))
                }
                c => id.push(c),
            }
        }
    }
    bounded(id)
}

/// Adds an execution to an id; it has no colon, so that nothing else gives the same.
pub(crate) fn extend(id: &str, execution: &str) -> String {
    bounded(format!("{id}:{execution}"))
}

/// Joins the parts of a name that people read in other names: `github-actions.17.1.deploy.prod`.
pub(crate) fn name(parts: &[&str]) -> String {
    let mut name = String::new();
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            name.push('.');
        }
        for byte in part.bytes() {
            match byte {
                b'-' | b'_' => name.push(char::from(byte)),
                byte if byte.is_ascii_alphanumeric() => name.push(char::from(byte)),
                byte => name.push_str(&format!("~{byte:02x}")),
            }
        }
    }
    bounded(name)
}

/// Cuts what is too long and ends it in a hash of the whole.
fn bounded(id: String) -> String {
    if id.len() <= ID_BYTES_MAX {
        return id;
    }
    let digest = hex::encode(Sha256::digest(id.as_bytes()));
    let mut kept = ID_BYTES_MAX - digest.len() - 1;
    while !id.is_char_boundary(kept) {
        kept -= 1;
    }
    format!("{}:{digest}", &id[..kept])
}

/// A refused event as a failure: exit 6.
pub(crate) fn rejection(refusal: &Refusal) -> Failure {
    let mut text = format!(
        "rejected: {}",
        sentence(&refusal.field, &refusal.value, &refusal.rule)
    );
    if let Some(recorded) = &refusal.recorded {
        text.push_str(&format!("; seq:{} stands", recorded.position));
    }
    Failure::new(Exit::Rejected, text).with_hint(clean(&refusal.hint))
}

/// Field, value and rule in a sentence; what is about no field, or about no value, says so little.
pub(crate) fn sentence(field: &str, value: &str, rule: &str) -> String {
    match (field, value) {
        ("", "") => clean(rule),
        ("", value) => format!("`{}`: {}", clean(value), clean(rule)),
        (field, value) => format!("{} is `{}`, {}", clean(field), clean(value), clean(rule)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_parts_give_different_ids() {
        assert_eq!(
            join(&["github-actions", "17", "1", "deploy"]),
            "github-actions:17:1:deploy"
        );
        assert_ne!(join(&["a:b", "c"]), join(&["a", "b:c"]));
        assert_ne!(join(&["a", "", "b"]), join(&["a", "b", ""]));
        assert_eq!(join(&["a\nb"]), "a%0Ab");
    }

    #[test]
    fn names_stay_plain_and_apart() {
        assert_eq!(
            name(&["github-actions", "17", "1", "deploy", "prod"]),
            "github-actions.17.1.deploy.prod"
        );
        assert_ne!(name(&["a.b", "c"]), name(&["a", "b.c"]));
        assert_eq!(name(&["build (x64)"]), "build~20~28x64~29");
        assert_eq!(extend("a:b", "00ff"), "a:b:00ff");
    }

    #[test]
    fn ids_fit_and_stay_apart() {
        let long = "ü".repeat(300);
        let (left, right) = (join(&[&long, "1"]), join(&[&long, "2"]));
        assert!(left.len() <= ID_BYTES_MAX && right.len() <= ID_BYTES_MAX);
        assert_ne!(left, right);
        assert_eq!(left, join(&[&long, "1"]));
    }

    #[test]
    fn random_ids_differ() {
        assert_ne!(random_hex().unwrap(), random_hex().unwrap());
    }
}
