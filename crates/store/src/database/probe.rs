//! Opening sled in a child first: a damaged database may panic with locks held, or never come back (LEDGER S2).
use std::{
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::tail::suspect;
use crate::Fault;

/// How often the child is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// The child's last words that are kept, in bytes.
const WORDS_BYTES_MAX: usize = 400;
/// Reading a large file back after a restart of the machine takes its time: so much more for every GiB.
const TIME_PER_GIB: Duration = Duration::from_secs(60);

/// The command that opens a database and exits with [`super::probe_main`]'s code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeCommand {
    /// The program; usually the running one.
    pub program: PathBuf,
    /// Its arguments; the database's directory is added as the last.
    pub args: Vec<String>,
    /// How long it may take for a small database; a minute more is given for every GiB.
    pub time_limit: Duration,
}

/// What [`super::probe_main`] says.
pub(super) const SOUND: i32 = 0;
pub(super) const UNSOUND: i32 = 1;
/// The system refused something, such as room on the disk: nothing against the database.
pub(super) const REFUSED: i32 = 2;

/// Runs the command on a directory of some size.
///
/// # Errors
/// [`Fault::Suspect`] when it dies, takes too long or says that the database is unsound; [`Fault::Io`] when it cannot be
/// started.
pub(super) fn run(command: &ProbeCommand, dir: &Path, bytes: u64) -> Result<(), Fault> {
    let mut child = Command::new(&command.program)
        .args(&command.args)
        .arg(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Fault::io("start", &command.program))?;
    let words = child
        .stderr
        .take()
        .map(|stderr| thread::spawn(move || last_words(stderr)));
    let gib = u32::try_from(bytes >> 30).unwrap_or(u32::MAX);
    let time_limit = command.time_limit + TIME_PER_GIB.saturating_mul(gib);
    let status = wait(&mut child, time_limit).map_err(Fault::io("wait for", &command.program))?;
    let Some(status) = status else {
        return Err(suspect(format!(
            "opening it took longer than {} s",
            time_limit.as_secs_f32()
        )));
    };
    match status.code() {
        Some(SOUND | REFUSED) => Ok(()),
        _ => {
            let words = words
                .and_then(|words| words.join().ok())
                .unwrap_or_default();
            Err(suspect(format!(
                "opening it in a process of its own failed ({status}): {words}"
            )))
        }
    }
}

/// `None` when the time was up; then the child is no more.
fn wait(child: &mut Child, time_limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() >= time_limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(LOOK_AGAIN);
    }
}

/// The end of what the child says, which is where a panic's message is. Reads all, so that the child never waits.
fn last_words(mut stderr: impl Read) -> String {
    let (mut kept, mut buffer) = (Vec::new(), [0; 1024]);
    while let Ok(count @ 1..) = stderr.read(&mut buffer) {
        kept.extend_from_slice(&buffer[..count]);
        let excess = kept.len().saturating_sub(WORDS_BYTES_MAX);
        kept.drain(..excess);
    }
    String::from_utf8_lossy(&kept)
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}
