//! `verify`: bytes and proofs only, offline. A ledger's directory, an export, or a proven receipt, each against a
//! checkpoint that somebody kept.
mod claims;

use std::{fs, io::Read as _, path::Path};

use prost_types::Timestamp;
use waybill_ledger::{
    Hash,
    verify::{self, Report},
};
use waybill_proto::pb::{ProvenReceipt, Receipt};
use waybill_tlog::{
    checkpoint::{self, Checkpoint},
    note::VerifierKey,
    receipt::{self, Kept, Proven, Verified},
};

use crate::{
    args::VerifyArgs,
    context::Context,
    exit::{Exit, Failure, chain},
    house, json,
    output::{Style, clean},
    progress::Progress,
    words,
};

/// Damages that are told one by one.
const TOLD_MAX: usize = 20;

/// Checks what was named.
pub(crate) fn run(context: &Context, args: &VerifyArgs) -> Result<(), Failure> {
    let key = args.key.as_deref().map(key).transpose()?;
    let kept = args.checkpoint.as_deref().map(read_text).transpose()?;
    let findings = match what(&args.path)? {
        What::Directory => tree(
            context,
            &args.path,
            kept.as_deref(),
            key.as_ref(),
            verify::directory,
        )?,
        What::Export => tree(
            context,
            &args.path,
            kept.as_deref(),
            key.as_ref(),
            verify::export_file,
        )?,
        What::Receipt => proven(&args.path, kept.as_deref(), key)?,
    };
    show(context, &args.path, &findings)
}

/// What is to be checked.
#[derive(Debug, PartialEq, Eq)]
enum What {
    Directory,
    Export,
    Receipt,
}

/// A receipt is JSON, and an export begins like one even if it is damaged; anything else has nothing to verify.
fn what(path: &Path) -> Result<What, Failure> {
    if path.is_dir() {
        let is_ledger = verify::is_ledger(path).map_err(|error| {
            Failure::usage(format!("{} cannot be read: {error}", path.display()))
        })?;
        return if is_ledger {
            Ok(What::Directory)
        } else {
            Err(nothing(path, "it has no folder `journal`"))
        };
    }
    let mut start = [0; 64];
    let mut file = fs::File::open(path).map_err(|error| {
        let exit = if error.kind() == std::io::ErrorKind::NotFound {
            Exit::NotFound
        } else {
            Exit::Usage
        };
        Failure::new(
            exit,
            format!("{} cannot be opened: {error}", path.display()),
        )
    })?;
    let length = file
        .read(&mut start)
        .map_err(|error| Failure::usage(format!("{} cannot be read: {error}", path.display())))?;
    let first = start[..length]
        .iter()
        .find(|byte| !byte.is_ascii_whitespace());
    if first == Some(&b'{') {
        Ok(What::Receipt)
    } else if verify::begins_export(&start[..length]) {
        Ok(What::Export)
    } else {
        Err(nothing(path, "it begins like none of them"))
    }
}

/// What was named holds nothing that could be sound or damaged.
fn nothing(path: &Path, why: impl std::fmt::Display) -> Failure {
    let path = path.display();
    Failure::usage(format!(
        "{path} is no ledger directory, no export and no proven receipt: {why}"
    ))
    .with_hint("a proven receipt, unlike the receipt that `emit` prints, comes from `waybill log receipt SOURCE ID -o FILE`")
}

/// What a check found, line by line.
#[derive(Debug, Default)]
struct Findings {
    good: Vec<String>,
    /// Nothing wrong, and something to know.
    notes: Vec<String>,
    bad: Vec<String>,
    json: serde_json::Map<String, serde_json::Value>,
}

impl Findings {
    fn fact(&mut self, name: &str, value: impl Into<serde_json::Value>) {
        self.json.insert(name.to_owned(), value.into());
    }
}

type Check = fn(
    &Path,
    &[u64],
    &mut dyn FnMut(waybill_ledger::Progress),
) -> Result<Report, waybill_ledger::Fault>;

/// Reads every frame, every leaf and the whole tree.
fn tree(
    context: &Context,
    path: &Path,
    kept: Option<&str>,
    key: Option<&VerifierKey>,
    check: Check,
) -> Result<Findings, Failure> {
    let kept = kept.map(|note| open_kept(note, key)).transpose()?;
    if kept.is_none() && key.is_some() {
        return Err(Failure::usage(
            "--key checks a signature, and a ledger's own bytes carry none",
        )
        .with_hint("add --checkpoint FILE"));
    }
    let sizes: Vec<u64> = kept.iter().map(|(checkpoint, _)| checkpoint.size).collect();
    let mut progress = Progress::new(context.global.quiet);
    let report = check(path, &sizes, &mut |step| {
        progress.set(step.what, step.done, step.total)
    })
    .map_err(|fault| house::failure(&fault))?;
    progress.clear();
    let mut findings = Findings::default();
    findings.fact("ledgerId", report.ledger_id.clone());
    findings.fact("position", report.position.to_string());
    findings.fact("root", hex::encode(report.root));
    // An export that is broken before its end does not say whose it is.
    let ledger = match report.ledger_id.as_str() {
        "" => "a ledger that is not named".to_owned(),
        id => format!("ledger {}", clean(id)),
    };
    let whole = words::plural(report.position, "position is", "positions are");
    findings.good.push(format!("{ledger}: {whole} whole"));
    findings
        .good
        .push(format!("root {}", hex::encode(report.root)));
    if report.torn {
        findings.notes.push(
            "the end is half written, as a crash leaves it; it never had a receipt".to_owned(),
        );
    }
    damages(&mut findings, &report);
    if let Some((checkpoint, signed)) = &kept {
        against(&mut findings, &report, checkpoint, *signed);
    }
    Ok(findings)
}

fn damages(findings: &mut Findings, report: &Report) {
    for damage in report.damages.iter().take(TOLD_MAX) {
        let range = match damage.last_position {
            Some(last) if last == damage.first_position => format!("position {last} is damaged"),
            Some(last) => format!("positions {} to {last} are damaged", damage.first_position),
            None => format!("positions {} and after are damaged", damage.first_position),
        };
        findings.bad.push(format!(
            "{range}: {} at offset {}: {}",
            damage.file.display(),
            damage.offset,
            clean(&damage.what)
        ));
    }
    if report.damages.len() > TOLD_MAX {
        findings
            .bad
            .push(format!("… and {} more", report.damages.len() - TOLD_MAX));
    }
}

/// Whether what a kept checkpoint covers is still there, unchanged.
fn against(findings: &mut Findings, report: &Report, checkpoint: &Checkpoint, signed: bool) {
    if !signed {
        findings.notes.push("the kept checkpoint's signature was not checked: --key VKEY, as `waybill status --all` shows it".to_owned());
    }
    if checkpoint.origin != report.ledger_id {
        findings.bad.push(format!(
            "the kept checkpoint is of ledger {}",
            clean(&checkpoint.origin)
        ));
        return;
    }
    let root = report
        .roots
        .iter()
        .find(|(size, _)| *size == checkpoint.size)
        .and_then(|(_, root)| *root);
    let size = words::count(checkpoint.size);
    match root {
        Some(root) if root == checkpoint.root => findings.good.push(format!(
            "the kept checkpoint of {size} positions is still true"
        )),
        Some(root) => findings.bad.push(format!(
            "history was rewritten: at size {size} the root is {}, the kept checkpoint says {}",
            hex::encode(root),
            hex::encode(checkpoint.root)
        )),
        None => findings.bad.push(format!(
            "the kept checkpoint covers {size} positions, {} are whole here",
            words::count(report.position)
        )),
    }
}

/// A receipt with its proof, needing nothing but a key.
fn proven(path: &Path, kept: Option<&str>, key: Option<VerifierKey>) -> Result<Findings, Failure> {
    let text = read_text(path)?;
    let proven: ProvenReceipt = json::message("ProvenReceipt", text.as_bytes())
        .map_err(|failure| nothing(path, failure))?;
    let receipt = proven.receipt.as_ref();
    let receipt = receipt.ok_or_else(|| nothing(path, "it has no field `receipt`"))?;
    let mut findings = Findings::default();
    let key = match key {
        Some(key) => key,
        None => {
            findings.notes.push("signed with the key that the receipt itself carries: compare it with the instance's, or give --key VKEY".to_owned());
            findings
                .notes
                .push(format!("key {}", clean(&proven.verifier_key)));
            self::key(&proven.verifier_key)?
        }
    };
    let parts = Parts::of(&proven, receipt)
        .map_err(|what| Failure::usage(format!("{}: {what}", path.display())))?;
    let consistency = kept.map(|note| Kept {
        checkpoint: note,
        consistency_path: &parts.consistency,
    });
    if let Some(note) = kept {
        let (kept, newer) = (open_kept(note, Some(&key))?.0, &proven.checkpoint);
        needs_path(&kept, &checkpoint_of(newer)?, &proven)?;
    }
    let trusted = std::slice::from_ref(&key);
    match receipt::verify(
        &parts.proven(&proven, receipt),
        trusted,
        consistency.as_ref(),
    ) {
        Ok(verified) => holds(&mut findings, &proven, receipt, &verified, &key),
        Err(invalid) => findings.bad.push(chain(&invalid)),
    }
    Ok(findings)
}

/// The proof holds: what it shows, and whether the rest of the receipt says the same.
fn holds(
    findings: &mut Findings,
    proven: &ProvenReceipt,
    receipt: &Receipt,
    verified: &Verified,
    key: &VerifierKey,
) {
    match claims::check(proven, receipt, verified, key) {
        Ok(event) => {
            findings.good.push(event.to_string());
            findings.json.extend(event.facts());
        }
        Err(differing) => findings.bad.extend(differing),
    }
    findings.notes.extend(claims::unproven(receipt, verified));
    let Checkpoint { origin, size, .. } = &verified.checkpoint;
    findings.fact("ledgerId", origin.clone());
    findings.fact("position", receipt.position.to_string());
    findings.fact("treeSize", size.to_string());
    findings.good.push(format!(
        "position {} of ledger {} holds this event",
        words::count(receipt.position),
        clean(origin)
    ));
    findings.good.push(format!(
        "recorded {}",
        words::moment(receipt.record_time.as_ref())
    ));
    findings.good.push(format!(
        "it is in the signed tree of {} positions",
        words::count(*size)
    ));
    if let Some(kept) = &verified.kept {
        findings.good.push(format!(
            "that tree continues the kept one of {} positions",
            words::count(kept.size)
        ));
    }
}

/// A receipt can be held against a kept checkpoint only if it carries the way from there, or is of the very same size.
fn needs_path(
    kept: &Checkpoint,
    newer: &Checkpoint,
    proven: &ProvenReceipt,
) -> Result<(), Failure> {
    if proven.consistent_from_size == kept.size || newer.size == kept.size {
        return Ok(());
    }
    let event = proven
        .receipt
        .as_ref()
        .and_then(|receipt| receipt.event.clone())
        .unwrap_or_default();
    Err(Failure::usage(format!(
        "the receipt does not carry the way from the kept checkpoint of {} positions",
        kept.size
    ))
    .with_hint(format!(
        "ask for it: waybill log receipt '{}' '{}' --consistent-from {} -o FILE",
        event.source, event.id, kept.size
    )))
}

/// A receipt's bytes in the sizes that they must have.
struct Parts {
    leaf_hash: Hash,
    inclusion: Vec<Hash>,
    consistency: Vec<Hash>,
    record_time_nanos: u64,
}

impl Parts {
    fn of(proven: &ProvenReceipt, receipt: &Receipt) -> Result<Self, String> {
        let hash = |bytes: &bytes::Bytes, what: &str| {
            Hash::try_from(bytes.as_ref()).map_err(|_| format!("{what} is not 32 bytes"))
        };
        let hashes = |list: &[bytes::Bytes], what: &str| {
            list.iter()
                .map(|bytes| hash(bytes, what))
                .collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            leaf_hash: hash(&receipt.leaf_hash, "receipt.leafHash")?,
            inclusion: hashes(&proven.inclusion_path, "inclusionPath")?,
            consistency: hashes(&proven.consistency_path, "consistencyPath")?,
            record_time_nanos: nanos(receipt.record_time.as_ref())
                .ok_or("receipt.recordTime is missing or out of range")?,
        })
    }

    fn proven<'a>(&'a self, proven: &'a ProvenReceipt, receipt: &'a Receipt) -> Proven<'a> {
        Proven {
            ledger_id: &receipt.ledger_id,
            position: receipt.position,
            record_time_nanos: self.record_time_nanos,
            leaf_hash: self.leaf_hash,
            leaf: &proven.leaf,
            event: &proven.event_bytes,
            salt: &receipt.salt,
            inclusion_path: &self.inclusion,
            checkpoint: &proven.checkpoint,
        }
    }
}

fn nanos(time: Option<&Timestamp>) -> Option<u64> {
    let time = time?;
    let seconds = u64::try_from(time.seconds).ok()?;
    seconds
        .checked_mul(1_000_000_000)?
        .checked_add(u64::try_from(time.nanos).ok()?)
}

/// Reads a kept checkpoint; says whether its signature was checked.
fn open_kept(note: &str, key: Option<&VerifierKey>) -> Result<(Checkpoint, bool), Failure> {
    match key {
        Some(key) => checkpoint::open(note, std::slice::from_ref(key))
            .map(|checkpoint| (checkpoint, true))
            .map_err(|error| unusable(&error)),
        None => checkpoint_of(note).map(|checkpoint| (checkpoint, false)),
    }
}

/// What a checkpoint says, whoever signed it.
fn checkpoint_of(note: &str) -> Result<Checkpoint, Failure> {
    let text = note
        .split_once("\n\n")
        .map_or(note.to_owned(), |(text, _)| format!("{text}\n"));
    Checkpoint::from_text(&text).map_err(|error| unusable(&error))
}

fn unusable(error: &dyn std::error::Error) -> Failure {
    Failure::new(
        Exit::FoundFail,
        format!("the checkpoint cannot be used: {}", chain(error)),
    )
}

fn key(vkey: &str) -> Result<VerifierKey, Failure> {
    VerifierKey::parse(vkey.trim()).map_err(|error| {
        Failure::usage(format!(
            "the key is `{}`: {}",
            waybill_core::refusal::shown(vkey),
            chain(&error)
        ))
    })
}

fn read_text(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| {
        let exit = if error.kind() == std::io::ErrorKind::NotFound {
            Exit::NotFound
        } else {
            Exit::Usage
        };
        Failure::new(exit, format!("{} cannot be read: {error}", path.display()))
    })
}

fn show(context: &Context, path: &Path, findings: &Findings) -> Result<(), Failure> {
    let sound = findings.bad.is_empty();
    if context.out.json {
        let mut json = findings.json.clone();
        json.insert("sound".to_owned(), sound.into());
        json.insert("findings".to_owned(), findings.bad.clone().into());
        json.insert("notes".to_owned(), findings.notes.clone().into());
        context
            .out
            .line(serde_json::Value::Object(json).to_string())?;
    } else {
        for (style, word, lines) in [
            (Style::Good, "ok  ", &findings.good),
            (Style::Warn, "note", &findings.notes),
            (Style::Bad, "FAIL", &findings.bad),
        ] {
            for line in lines {
                context
                    .out
                    .line(format!("{}  {line}", context.out.paint(style, word)))?;
            }
        }
    }
    if sound {
        return Ok(());
    }
    let hint = if path.is_dir() {
        "restore from an export or a copy that verifies"
    } else {
        "trust nothing in it"
    };
    Err(Failure::new(Exit::FoundFail, format!("{} does not hold", path.display())).with_hint(hint))
}

#[cfg(test)]
mod tests {
    use waybill_tlog::note::SigningKey;

    use super::*;

    fn signing_key() -> SigningKey {
        SigningKey::from_seed("instance-1", [3; 32]).unwrap()
    }

    fn report(root: Hash) -> Report {
        Report {
            ledger_id: "l".to_owned(),
            position: 9,
            root,
            torn: false,
            damages: Vec::new(),
            roots: vec![(5, Some(root)), (20, None)],
        }
    }

    fn held(size: u64, root: Hash, origin: &str) -> Findings {
        let mut findings = Findings::default();
        against(
            &mut findings,
            &report([1; 32]),
            &Checkpoint {
                origin: origin.to_owned(),
                size,
                root,
            },
            true,
        );
        findings
    }

    #[test]
    fn a_kept_checkpoint_catches_rewriting_loss_and_another_ledger() {
        assert!(held(5, [1; 32], "l").bad.is_empty());
        assert!(held(5, [2; 32], "l").bad[0].contains("history was rewritten"));
        assert!(held(20, [1; 32], "l").bad[0].contains("covers 20 positions, 9 are whole"));
        assert!(held(5, [1; 32], "other").bad[0].contains("of ledger other"));
    }

    #[test]
    fn a_signature_is_checked_where_a_key_is_given() {
        let checkpoint = Checkpoint {
            origin: "l".to_owned(),
            size: 5,
            root: [1; 32],
        };
        let note = signing_key().sign(&checkpoint);
        let other = SigningKey::from_seed("instance-1", [4; 32])
            .unwrap()
            .verifier_key();
        assert_eq!(open_kept(&note, None).unwrap(), (checkpoint.clone(), false));
        assert_eq!(
            open_kept(&note, Some(&signing_key().verifier_key())).unwrap(),
            (checkpoint, true)
        );
        assert_eq!(
            open_kept(&note, Some(&other)).unwrap_err().exit(),
            Exit::FoundFail
        );
    }

    #[test]
    fn a_receipt_is_told_from_an_export() {
        let directory = tempfile::tempdir().unwrap();
        let file = |text: &str| {
            let path = directory.path().join("file");
            fs::write(&path, text).unwrap();
            what(&path).unwrap()
        };
        assert_eq!(file(" {\"receipt\":{}}"), What::Receipt);
        assert_eq!(file("WAYBILLX"), What::Export);
        assert_eq!(file("WAxBILLX"), What::Export);
        fs::create_dir(directory.path().join("journal")).unwrap();
        assert_eq!(what(directory.path()).unwrap(), What::Directory);
        assert_eq!(
            what(&directory.path().join("none")).unwrap_err().exit(),
            Exit::NotFound
        );
    }
}
