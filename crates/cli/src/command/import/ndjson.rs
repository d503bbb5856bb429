//! `import ndjson`: one event a line. A bad line is named with its field and does not hold up the others.
use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufReader, Read as _},
    path::Path,
};

use bytes::Bytes;
use serde_json::value::RawValue;
use waybill_core::{Code, Refusal};
use waybill_proto::{json, limits};

use crate::{
    command::{
        identity,
        record::{Recorder, Tally},
    },
    context::{Context, Missing},
    exit::{Exit, Failure},
    output,
    progress::Progress,
    words,
};

/// A line longer than this holds no event that a ledger takes: JSON takes a few times the bytes of an event.
const LINE_BYTES_MAX: usize = 8 * limits::EVENT_BYTES_MAX;
/// Bad lines that are told one by one; the rest is counted.
const TOLD_MAX: u64 = 50;

/// Reads a file, or standard input for `-`.
pub(crate) async fn run(context: &Context, file: &Path) -> Result<(), Failure> {
    let input: Box<dyn io::Read + Send> = if file == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(file).map_err(|error| {
            Failure::usage(format!("{} cannot be opened: {error}", file.display()))
        })?)
    };
    let source = context.source(Missing::Create).await?;
    // Reading may wait for a pipe for ever: it has a thread of its own, which may not run ahead of the ledger.
    let (sender, mut lines) = tokio::sync::mpsc::channel(1_024);
    tokio::task::spawn_blocking(move || {
        let mut reader = BufReader::with_capacity(1 << 20, input);
        while let Some(line) = next_line(&mut reader).transpose() {
            let failed = line.is_err();
            if sender.blocking_send(line).is_err() || failed {
                break;
            }
        }
    });

    let mut told = Told::default();
    let mut recorder = Recorder::new(&source);
    let mut progress = Progress::new(context.global.quiet);
    let mut number = 0;
    while let Some(line) = lines.recv().await {
        let line = line.map_err(|error| {
            Failure::usage(format!("line {}: cannot be read: {error}", number + 1))
        })?;
        number += 1;
        match event(&line) {
            Ok(None) => {}
            Ok(Some(event)) => {
                recorder
                    .push(number, event, &mut |line, refusal| {
                        told.refused(line, refusal)
                    })
                    .await?
            }
            Err(refusal) => told.bad(number, &refusal),
        }
        progress.set("reading lines", number, None);
    }
    let mut tally = recorder
        .flush(&mut |line, refusal| told.refused(line, refusal))
        .await?;
    progress.clear();
    tally.refused += told.unreadable;
    source.close().await?;
    end(context, tally, &told)
}

fn end(context: &Context, tally: Tally, told: &Told) -> Result<(), Failure> {
    if told.count > TOLD_MAX {
        output::insist(format!(
            "… and {} more lines",
            words::count(told.count - TOLD_MAX)
        ));
    }
    if context.out.json {
        let counts = serde_json::json!({
            "recorded": tally.recorded, "duplicates": tally.duplicates, "refused": tally.refused,
        });
        context.out.line(counts.to_string())?;
    } else {
        context.out.line(tally.say())?;
    }
    match tally.refused {
        0 => Ok(()),
        refused => Err(Failure::new(
            Exit::Rejected,
            format!(
                "{} not recorded",
                words::plural(refused, "line is", "lines are")
            ),
        )
        .with_hint("mend them and import the file again: what is recorded is not recorded twice")),
    }
}

/// What was told of bad lines.
#[derive(Default)]
struct Told {
    count: u64,
    /// Of these, lines that never were sent.
    unreadable: u64,
}

impl Told {
    fn bad(&mut self, line: u64, refusal: &Refusal) {
        self.unreadable += 1;
        self.tell(
            line,
            &identity::sentence(&refusal.field, &refusal.value, &refusal.rule),
        );
    }

    fn refused(&mut self, line: u64, refusal: &waybill_proto::pb::Refusal) {
        self.tell(line, &identity::rejection(refusal).to_string());
    }

    fn tell(&mut self, line: u64, what: &str) {
        self.count += 1;
        if self.count <= TOLD_MAX {
            output::insist(format!("line {line}: {what}"));
        }
    }
}

/// A line of input, without its end. A line that is too long is empty of content and marked by `None` inside.
enum Line {
    Text(Vec<u8>),
    TooLong,
}

fn next_line(reader: &mut impl BufRead) -> io::Result<Option<Line>> {
    let mut line = Vec::new();
    let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
    if reader.by_ref().take(limit).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') || line.len() < LINE_BYTES_MAX {
        return Ok(Some(Line::Text(line)));
    }
    reader.skip_until(b'\n')?;
    Ok(Some(Line::TooLong))
}

/// The event of a line; `None` for a line without anything on it.
fn event(line: &Line) -> Result<Option<Bytes>, Refusal> {
    let Line::Text(bytes) = line else {
        return Err(Refusal::new(
            Code::TooLarge,
            "",
            "…",
            format!("longer than {LINE_BYTES_MAX} bytes, which no event needs"),
        ));
    };
    let text = std::str::from_utf8(bytes).map_err(|error| {
        Refusal::new(
            Code::Undecodable,
            "",
            format!("byte {}", error.valid_up_to() + 1),
            "not UTF-8",
        )
    })?;
    if text.trim().is_empty() {
        return Ok(None);
    }
    json::event_from_json(of_log(text).unwrap_or(text)).map(|bytes| Some(Bytes::from(bytes)))
}

/// The event inside a line of `waybill log --jsonl`, where the ledger's own words stand around it.
fn of_log(text: &str) -> Option<&str> {
    if !text.trim_start().starts_with("{\"position\"") {
        return None;
    }
    // As it stands: read into values, a doubled key would be gone and a number be another.
    let line: HashMap<String, &RawValue> = serde_json::from_str(text).ok()?;
    line.get("event").map(|event| event.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[u8]) -> Vec<Line> {
        let mut reader = BufReader::with_capacity(7, input);
        std::iter::from_fn(|| next_line(&mut reader).unwrap()).collect()
    }

    #[test]
    fn a_line_that_is_too_long_does_not_hold_up_the_next() {
        let mut input = vec![b'x'; LINE_BYTES_MAX + 10];
        input.extend_from_slice(b"\n{\"source\":\"//a\"}\n\n");
        let lines = lines(&input);
        assert_eq!(lines.len(), 3);
        assert!(event(&lines[0]).unwrap_err().rule.contains("longer than"));
        assert!(event(&lines[1]).unwrap().is_some());
        assert_eq!(event(&lines[2]).unwrap(), None);
    }

    #[test]
    fn what_is_no_event_is_named() {
        for (input, word) in [
            (&b"{\"sorce\":1}"[..], "sorce"),
            (b"\xff", "UTF-8"),
            (b"[1]", ""),
            (b"{", ""),
        ] {
            let refusal = event(&Line::Text(input.to_vec())).unwrap_err();
            assert!(refusal.to_string().contains(word), "{refusal}");
        }
    }

    #[test]
    fn reads_what_log_writes() {
        let inside = event(&Line::Text(
            b"{\"position\":\"7\",\"event\":{\"source\":\"//a\",\"id\":\"1\"}}".to_vec(),
        ))
        .unwrap();
        let plain = event(&Line::Text(b"{\"source\":\"//a\",\"id\":\"1\"}".to_vec())).unwrap();
        assert_eq!(inside, plain);
        let doubled = b"{\"position\":\"7\",\"event\":{\"id\":\"1\",\"id\":\"2\"}}".to_vec();
        let refusal = event(&Line::Text(doubled)).unwrap_err();
        assert_eq!(
            (refusal.field.as_str(), refusal.rule.as_str()),
            ("id", "given twice")
        );
    }
}
