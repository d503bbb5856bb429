//! Going on after a loss that a person accepts: a new ledger id for a tree that is shorter than it was (LEDGER J4).
use waybill_core::{Code, Refusal};
use waybill_store::{
    Fault, Hash,
    journal::{self, Journal},
    place::Place,
};

use crate::{
    leaf,
    ledger::Ledger,
    open::{self, hex},
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
        &mut random,
    )?;
    let head = place
        .read_head()?
        .ok_or_else(|| refused("head", "none", "there is no head file, so no loss is known"))?;
    if hex(&head.root) != root.to_ascii_lowercase() {
        let rule = format!("not the lost root, which is {}", hex(&head.root));
        return Err(refused("root", root, &rule).into());
    }
    let options = journal::Options {
        segment_bytes: config.segment_bytes,
    };
    let (mut journal, _) = Journal::recover(
        &place.journal_dir(),
        place.ledger_id(),
        &options,
        &leaf::PURE,
        None,
        0,
        &mut |_| Ok(()),
    )?;
    let kept = journal.tip().position;
    if kept >= head.position {
        let rule = format!(
            "nothing is lost: the journal reaches {kept} and the head file knows {}",
            head.position
        );
        return Err(refused("head", head.position, &rule).into());
    }
    let (previous_ledger_id, ledger_id) = (place.ledger_id().to_owned(), new_id(&host));
    journal.rename(&ledger_id)?;
    place.rename(&ledger_id)?;
    drop((journal, place));
    // The start sees that the head file is of another id and records the loss before anything else.
    Ledger::open(config, host, progress)?.close()?;
    Ok(Accepted {
        previous_ledger_id,
        ledger_id,
        kept,
        lost: head.position,
    })
}

fn new_id(host: &Host) -> String {
    let mut bytes: Hash = [0; 32];
    (host.random)(&mut bytes);
    open::hex(&bytes[..16])
}

fn refused(field: &str, value: impl std::fmt::Display, rule: &str) -> Refusal {
    Refusal::new(Code::Contradiction, field, value, rule)
}
