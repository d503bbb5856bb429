//! Opening a ledger's own files in this process: where they are, the clock and the randomness it is lent, and who
//! holds the directory where somebody does.
use std::{
    env,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use waybill_ledger::{Config, Fault, Host, Ledger, ProbeCommand};

use crate::{
    exit::{Exit, Failure, chain},
    progress::Progress,
    when,
};

/// Bytes of one journal segment.
const SEGMENT_BYTES: u64 = 64 << 20;
/// Bytes that the database may cache.
const CACHE_BYTES: u64 = 64 << 20;
/// Folding so many events again takes about a second.
const VIEW_CHECKPOINT_EVENTS: u64 = 250_000;
/// Reading ten million events against their hashes takes a core about a minute.
const SCRUB_EVERY: Duration = Duration::from_secs(6 * 3600);
/// How long the database may take to open in a child before it counts as hanging.
const PROBE_TIME: Duration = Duration::from_secs(20);

/// The hidden command that a child runs to open a database that may hang or die.
pub(crate) const PROBE: &str = "__probe-database";

/// A ledger's directories, and how this process names itself to others who want them.
pub(crate) fn config(directory: &Path, state: &Path, holder: &str) -> Config {
    let probe = env::current_exe().ok().map(|program| ProbeCommand {
        program,
        args: vec![PROBE.to_owned()],
        time_limit: PROBE_TIME,
    });
    Config {
        directory: directory.to_owned(),
        state_directory: state.to_owned(),
        probe,
        segment_bytes: SEGMENT_BYTES,
        cache_bytes: CACHE_BYTES,
        view_checkpoint_events: VIEW_CHECKPOINT_EVENTS,
        scrub_every: SCRUB_EVERY,
        holder: holder.to_owned(),
    }
}

/// This machine's clock and randomness.
pub(crate) fn host() -> Host {
    Host {
        clock: Arc::new(when::now),
        random: Arc::new(|bytes: &mut [u8]| {
            getrandom::fill(bytes)
                .expect("the system gives randomness, without which no key is safe");
        }),
    }
}

/// Opens a ledger; blocks until emits can be taken, with progress on stderr.
///
/// # Errors
/// Who holds the directory, or what is wrong with it.
pub(crate) fn open(
    directory: PathBuf,
    state: PathBuf,
    holder: &str,
    quiet: bool,
) -> Result<Ledger, Failure> {
    let mut progress = Progress::new(quiet);
    let config = config(&directory, &state, holder);
    Ledger::open(config, host(), &mut |step| {
        progress.set(step.what, step.done, step.total)
    })
    .map_err(|fault| failure(&fault))
}

/// A fault of a ledger's files, with what to do about it.
pub(crate) fn failure(fault: &Fault) -> Failure {
    match fault {
        Fault::Locked { path, holder } => {
            let failure = Failure::new(
                Exit::Unreachable,
                format!("{} is in use by {holder}", path.display()),
            );
            match holder
                .split_whitespace()
                .find(|word| word.starts_with("http://") || word.starts_with("https://"))
            {
                Some(address) => failure.with_hint(format!(
                    "ask it instead: --server {}",
                    address.trim_end_matches([',', '.', ')'])
                )),
                None => failure.with_hint("wait until it is done, or stop it"),
            }
        }
        Fault::Damage(_) => Failure::unexpected(chain(fault)).with_hint(
            "waybill verify names the damaged range of a directory or an export; restore from an export or a copy",
        ),
        Fault::Foreign { .. } => Failure::usage(chain(fault)),
        _ => Failure::unexpected(chain(fault)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_holds_a_directory_is_named_with_the_way_to_ask() {
        let locked = |holder: &str| {
            failure(&Fault::Locked {
                path: "/l".into(),
                holder: holder.to_owned(),
            })
        };
        let served = locked("process 7: http://127.0.0.1:8420");
        assert_eq!(served.exit(), Exit::Unreachable);
        assert_eq!(
            served.hint(),
            "ask it instead: --server http://127.0.0.1:8420"
        );
        assert!(locked("process 7: waybill import").hint().contains("wait"));
    }
}
