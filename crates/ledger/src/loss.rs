//! Going on after a loss that a person accepts: a new ledger id for a tree that is shorter than it was (LEDGER J4).
use waybill_core::{Code, Refusal};
use waybill_store::{
    Fault, Hash,
    journal::{self, Journal},
    place::{Head, Place},
    seen,
};

use crate::{
    leaf,
    ledger::Ledger,
    open::{self, hex},
    own_event,
    words::{Config, Host, Progress},
};

/// What was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Id of the tree that lost its end.
    pub previous_ledger_id: String,
    /// Id of the tree that goes on.
    pub ledger_id: String,
    /// Last position that is kept.
    pub kept: u64,
    /// Last position that the head file knew.
    pub lost: u64,
}

/// Why a loss cannot be accepted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was given does not fit what is there.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The files cannot be used.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Accepts that everything behind the journal's end is lost, gives the tree a new id and records that.
///
/// `root` is the lost root as `status` and `doctor` show it: whoever accepts has seen what is given up.
///
/// A try that was interrupted is finished by the next one, or by the next start.
///
/// # Errors
/// [`Error::Refused`] when nothing is lost or `root` is another; [`Error::Fault`] when the files cannot be used.
pub fn accept(
    config: Config,
    host: Host,
    root: &str,
    progress: &mut dyn FnMut(Progress),
) -> Result<Accepted, Error> {
    let mut random = |out: &mut [u8]| (host.random)(out);
    let mut place = Place::open(
        &config.directory,
        &config.state_directory,
        &config.holder,
        None,
        &mut random,
    )?;
    let head = place
        .read_head()?
        .ok_or_else(|| refused("head", "none", "there is no head file, so no loss is known"))?;
    if hex(&head.root) != root.to_ascii_lowercase() {
        let rule = format!("not the lost root, which is {}", hex(&head.root));
        return Err(refused("root", root, &rule).into());
    }
    // Otherwise an earlier try came so far, and only the rest is left to do.
    if head.ledger_id == place.ledger_id() {
        rename(&mut place, &config, &host, &head)?;
    }
    drop(place);
    // The start sees that the head file is of another id and records the loss before anything else.
    let ledger = Ledger::open(config, host, progress)?;
    let loss = own_event::loss_identity(&ledger.shared.ledger_id);
    let fingerprint = seen::fingerprint(&loss.source, &loss.id);
    let recorded = ledger.shared.stored(&loss, fingerprint)?;
    let recorded = recorded.ok_or_else(|| Fault::Stopped {
        why: format!("the loss is not recorded: {}", ledger.status().emits_reason),
    })?;
    let accepted = Accepted {
        previous_ledger_id: head.ledger_id,
        ledger_id: ledger.ledger_id().to_owned(),
        kept: recorded.position - 1,
        lost: head.position,
    };
    ledger.close()?;
    Ok(accepted)
}

/// Gives the tree a new id, in the journal first: a start finds it there.
fn rename(place: &mut Place, config: &Config, host: &Host, head: &Head) -> Result<(), Error> {
    let options = journal::Options {
        segment_bytes: config.segment_bytes,
    };
    let mut epoch = 0;
    let (mut journal, _) = Journal::recover(
        &place.journal_dir(),
        place.ledger_id(),
        &options,
        &leaf::PURE,
        None,
        0,
        &mut |frame| {
            epoch = frame.records.last().map_or(epoch, |record| record.epoch);
            Ok(())
        },
    )?;
    if epoch > 0 {
        let rule = "of a stream, which has what is missing: serve the ledger with --nats, and it is read again";
        return Err(refused("epoch", epoch, rule).into());
    }
    let kept = journal.tip().position;
    if kept >= head.position {
        let rule = format!(
            "nothing is lost: the journal reaches {kept} and the head file knows {}",
            head.position
        );
        return Err(refused("head", head.position, &rule).into());
    }
    let ledger_id = new_id(host);
    journal.rename(&ledger_id)?;
    Ok(place.rename(&ledger_id)?)
}

fn new_id(host: &Host) -> String {
    let mut bytes: Hash = [0; 32];
    (host.random)(&mut bytes);
    format!("ledger-{}", open::hex(&bytes[..16]))
}

fn refused(field: &str, value: impl std::fmt::Display, rule: &str) -> Refusal {
    Refusal::new(Code::Contradiction, field, value, rule)
}
