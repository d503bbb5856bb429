//! How far long work has come, on stderr: nothing for two seconds, then a line that a terminal rewrites, or one line
//! for each tenth where nobody sits in front.
use std::{
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use crate::{output, words};

/// Work shorter than this says nothing.
const SILENT: Duration = Duration::from_secs(2);
/// How often a terminal's line is rewritten.
const REWRITE: Duration = Duration::from_millis(100);
/// How often a pipe gets a line where no total is known.
const REPEAT: Duration = Duration::from_secs(10);

/// One piece of work.
pub(crate) struct Progress {
    terminal: bool,
    quiet: bool,
    started: Instant,
    said: Option<Instant>,
    tenth: u64,
    on_line: bool,
}

impl Progress {
    pub(crate) fn new(quiet: bool) -> Self {
        let terminal = io::stderr().is_terminal();
        Self {
            terminal,
            quiet,
            started: Instant::now(),
            said: None,
            tenth: 0,
            on_line: false,
        }
    }

    /// Says that `done` of `total` is done, if it is time to.
    pub(crate) fn set(&mut self, what: &str, done: u64, total: Option<u64>) {
        if self.due(Instant::now(), done, total) {
            self.write(&line(what, done, total));
        }
    }

    fn due(&mut self, now: Instant, done: u64, total: Option<u64>) -> bool {
        if self.quiet || now.duration_since(self.started) < SILENT {
            return false;
        }
        let since = self.said.map(|said| now.duration_since(said));
        let due = match (self.terminal, total) {
            (true, _) => since.is_none_or(|since| since >= REWRITE),
            (false, None) => since.is_none_or(|since| since >= REPEAT),
            (false, Some(total)) => {
                let tenth = done.saturating_mul(10) / total.max(1);
                std::mem::replace(&mut self.tenth, tenth) != tenth
            }
        };
        if due {
            self.said = Some(now);
        }
        due
    }

    fn write(&mut self, text: &str) {
        if self.terminal {
            self.on_line = true;
            let mut stderr = io::stderr().lock();
            let _ = write!(stderr, "\r\x1b[K{text}");
            let _ = stderr.flush();
        } else {
            output::say(text);
        }
    }

    /// Takes the rewritten line away, so that what follows starts on a fresh one.
    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.on_line) {
            let mut stderr = io::stderr().lock();
            let _ = write!(stderr, "\r\x1b[K");
            let _ = stderr.flush();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn line(what: &str, done: u64, total: Option<u64>) -> String {
    match total {
        Some(total) if total > 0 => {
            let percent = done.min(total).saturating_mul(100) / total;
            format!(
                "{what}: {} of {} ({percent} %)",
                words::count(done),
                words::count(total)
            )
        }
        _ => format!("{what}: {}", words::count(done)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piped() -> Progress {
        Progress {
            terminal: false,
            ..Progress::new(false)
        }
    }

    #[test]
    fn short_work_says_nothing() {
        let mut progress = piped();
        let now = progress.started + Duration::from_secs(1);
        assert!(!progress.due(now, 5, Some(10)));
    }

    #[test]
    fn a_pipe_gets_a_line_for_each_tenth() {
        let mut progress = piped();
        let now = progress.started + Duration::from_secs(3);
        let said: Vec<u64> = (0..=100)
            .filter(|done| progress.due(now, *done, Some(100)))
            .collect();
        assert_eq!(said, [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]);
    }

    #[test]
    fn without_a_total_it_counts() {
        assert_eq!(
            line("reading git history", 2_231, None),
            "reading git history: 2,231"
        );
        assert_eq!(
            line("restoring", 50, Some(200)),
            "restoring: 50 of 200 (25 %)"
        );
    }
}
