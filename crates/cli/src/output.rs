//! Data on stdout, talk on stderr; colour only where a person looks.
use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::OnceLock,
};

use clap::ValueEnum;
use waybill_core::refusal::is_unsafe_in_text;

use crate::{exit::Failure, table::Table};

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set or TERM is dumb; anywhere with CLICOLOR_FORCE.
    Auto,
    Always,
    Never,
}

/// What a piece of text means to a person; never said by colour alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Style {
    #[default]
    Plain,
    Strong,
    Faint,
    Good,
    Warn,
    Bad,
}

/// Where answers go and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// proto3 JSON instead of text for people.
    pub(crate) json: bool,
    colour: bool,
    /// Columns of the terminal; `None` where no terminal is, so that nothing is shortened.
    pub(crate) width: Option<usize>,
}

/// Whether [`say`] says anything but failures.
static QUIET: OnceLock<bool> = OnceLock::new();

impl Output {
    pub(crate) fn new(
        json: bool,
        quiet: bool,
        color: Color,
        var: &dyn Fn(&str) -> Option<String>,
    ) -> Self {
        let terminal = io::stdout().is_terminal();
        // Set once, at the start; a second call in one process is a test's.
        let _ = QUIET.set(quiet);
        Self {
            json,
            colour: wants_colour(color, terminal, var),
            width: if terminal { columns() } else { None },
        }
    }

    /// Whether a person sees stdout.
    pub(crate) fn is_terminal(&self) -> bool {
        self.width.is_some() || io::stdout().is_terminal()
    }

    /// Writes one line of data.
    ///
    /// # Errors
    /// When stdout cannot be written; quiet where nobody reads it any more.
    pub(crate) fn line(&self, text: impl AsRef<str>) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_ref().as_bytes())?;
        stdout.write_all(b"\n")?;
        Ok(())
    }

    /// Writes bytes of data as they are.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        stdout.flush()?;
        Ok(())
    }

    /// Writes a table.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub(crate) fn table(&self, table: &Table) -> Result<(), Failure> {
        self.bytes(
            table
                .render(self.width, &|style, text| self.paint(style, text))
                .as_bytes(),
        )
    }

    /// Writes a message as proto3 JSON, indented.
    ///
    /// # Errors
    /// When it cannot be said in JSON, or as [`Output::line`].
    pub(crate) fn message<M: prost::Message>(
        &self,
        name: &str,
        message: &M,
    ) -> Result<(), Failure> {
        self.line(crate::json::pretty(name, message)?)
    }

    /// Puts colour around text where colour is wanted.
    pub(crate) fn paint(&self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Plain => return text.to_owned(),
            _ if !self.colour => return text.to_owned(),
            Style::Strong => "1",
            Style::Faint => "2",
            Style::Good => "32",
            Style::Warn => "33",
            Style::Bad => "31",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Tells the person something that is not data.
pub(crate) fn say(text: impl AsRef<str>) {
    if !QUIET.get().copied().unwrap_or(false) {
        insist(text);
    }
}

/// Tells the person something that `--quiet` does not silence. What is told may quote a file or a server: it is made
/// safe line by line.
pub(crate) fn insist(text: impl AsRef<str>) {
    let mut stderr = io::stderr().lock();
    for line in text.as_ref().split('\n') {
        // Nothing is left to tell anybody if stderr is gone.
        let _ = writeln!(stderr, "{}", clean(line));
    }
}

/// Makes foreign text safe to print on one line: what could move a cursor or reorder text is written out.
pub(crate) fn clean(text: &str) -> String {
    if !text.chars().any(is_unsafe_in_text) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe_in_text(c) {
            out.extend(c.escape_unicode())
        } else {
            out.push(c)
        }
    }
    out
}

fn wants_colour(color: Color, terminal: bool, var: &dyn Fn(&str) -> Option<String>) -> bool {
    let set = |name: &str| var(name).is_some_and(|value| !value.is_empty());
    match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto if set("NO_COLOR") => false,
        Color::Auto
            if var("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && value != "0") =>
        {
            true
        }
        Color::Auto => terminal && var("TERM").is_none_or(|term| term != "dumb"),
    }
}

fn columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn colour(color: Color, terminal: bool, vars: &[(&str, &str)]) -> bool {
        let vars: Vec<_> = vars
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        wants_colour(color, terminal, &move |name| {
            vars.iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.clone())
        })
    }

    #[test]
    fn colour_follows_the_conventions() {
        assert!(colour(Color::Auto, true, &[]));
        assert!(!colour(Color::Auto, false, &[]));
        assert!(!colour(Color::Auto, true, &[("NO_COLOR", "1")]));
        assert!(colour(Color::Auto, true, &[("NO_COLOR", "")]));
        assert!(!colour(Color::Auto, true, &[("TERM", "dumb")]));
        assert!(colour(Color::Auto, false, &[("CLICOLOR_FORCE", "1")]));
        assert!(!colour(Color::Auto, false, &[("CLICOLOR_FORCE", "0")]));
        assert!(colour(Color::Always, false, &[("NO_COLOR", "1")]));
        assert!(!colour(Color::Never, true, &[("CLICOLOR_FORCE", "1")]));
    }

    #[test]
    fn foreign_text_cannot_move_the_cursor() {
        assert_eq!(clean("cart: batch"), "cart: batch");
        assert_eq!(clean("a\x1b[2Jb\u{202e}c"), "a\\u{1b}[2Jb\\u{202e}c");
    }
}
