//! The one definition of how a block of NATS/1.0 headers is read.
//!
//! A message comes to us in two ways: through a consumer, where async-nats has read its headers, and by sequence,
//! where we get the block itself. Both must say the same, or two ledgers would differ. So this reads exactly what
//! async-nats reads (`src/connection.rs`, `HMSG`), and calls unreadable exactly what breaks its connection; a
//! property test in `tests/` holds the two together through a real server.
//!
//! - The block is UTF-8. Lines end at LF or CR LF.
//! - The first line is `NATS/1.0`, which a status of three digits may follow; the status is no header and is dropped.
//! - Every other line that is not empty is `name:value`. A name is printable ASCII without a space, and may be empty.
//! - A line that begins with white space continues the value before it, its white space included.
//! - White space around a value is not part of it. A CR within a value makes the block unreadable.
use async_nats::HeaderMap;
use waybill_ledger::stream::Headers;

/// Reads a block as the broker stores it.
pub(crate) fn read(block: &[u8]) -> Headers {
    match lines(block) {
        Ok(headers) => sorted(headers),
        Err(why) => Headers::Unreadable(why),
    }
}

/// Headers that async-nats has read.
pub(crate) fn from_map(map: &HeaderMap) -> Headers {
    let pairs = map.iter().flat_map(|(name, values)| {
        let name: &str = name.as_ref();
        values
            .iter()
            .map(move |value| (name.to_owned(), value.as_str().to_owned()))
    });
    sorted(pairs.collect())
}

/// By name, each name's values in the order in which they came: a map does not keep more than that.
fn sorted(mut headers: Vec<(String, String)>) -> Headers {
    headers.sort_by(|a, b| a.0.cmp(&b.0));
    Headers::Read(headers)
}

fn lines(block: &[u8]) -> Result<Vec<(String, String)>, String> {
    let text = std::str::from_utf8(block).map_err(|error| {
        let at = error.valid_up_to();
        format!("the header block is not UTF-8 at byte {at}")
    })?;
    let mut lines = text.lines().peekable();
    version(lines.next().unwrap_or_default())?;
    let mut headers = Vec::new();
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| format!("a header line has no colon: {}", shown(line)))?;
        if !name.chars().all(|c| c.is_ascii_graphic()) {
            return Err(format!(
                "a header name is not printable ASCII: {}",
                shown(name)
            ));
        }
        let mut value = value.trim_start().to_owned();
        while let Some(more) = lines.next_if(|line| line.starts_with(char::is_whitespace)) {
            value.push_str(more);
        }
        value.truncate(value.trim_end().len());
        if value.contains('\r') {
            return Err(format!("header {name} has a carriage return in its value"));
        }
        headers.push((name.to_owned(), value));
    }
    Ok(headers)
}

fn version(line: &str) -> Result<(), String> {
    let status = line
        .strip_prefix("NATS/1.0")
        .map(str::trim)
        .ok_or_else(|| format!("the header block begins with {}, not NATS/1.0", shown(line)))?;
    let code = status
        .split_once(' ')
        .map_or(status, |(code, _)| code.trim());
    let digits = |code: &str| code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit());
    if code.is_empty() || digits(code) && !code.starts_with('0') {
        return Ok(());
    }
    Err(format!("the header block has the status {}", shown(code)))
}

/// The beginning of what a stranger sent, fit for a log line.
fn shown(text: &str) -> String {
    const SHOWN: usize = 40;
    let begin: String = text.chars().take(SHOWN).collect();
    format!("{begin:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(block: &str, expected: Result<&[(&str, &str)], &str>) {
        let expected = match expected {
            Ok(pairs) => Headers::Read(
                pairs
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                    .collect(),
            ),
            Err(why) => Headers::Unreadable(why.to_owned()),
        };
        assert_eq!(read(block.as_bytes()), expected, "{block:?}");
    }

    #[test]
    fn a_block_is_its_names_and_values() {
        check("NATS/1.0\r\n\r\n", Ok(&[]));
        check(
            "NATS/1.0\r\nA: 1\r\na:  2 \r\nA:3\r\n\r\n",
            Ok(&[("A", "1"), ("A", "3"), ("a", "2")]),
        );
        check("NATS/1.0\nB: x\n  y\n", Ok(&[("B", "x  y")]));
        check(
            "NATS/1.0 409 Consumer Deleted\r\nC: d:e\r\n\r\n",
            Ok(&[("C", "d:e")]),
        );
        check("NATS/1.0\r\n: nameless\r\n\r\n", Ok(&[("", "nameless")]));
    }

    #[test]
    fn what_is_no_block_says_why() {
        check("", Err("the header block begins with \"\", not NATS/1.0"));
        check(
            "HTTP/1.1\r\n\r\n",
            Err("the header block begins with \"HTTP/1.1\", not NATS/1.0"),
        );
        check(
            "NATS/1.0 99\r\n\r\n",
            Err("the header block has the status \"99\""),
        );
        check(
            "NATS/1.0\r\nno colon\r\n\r\n",
            Err("a header line has no colon: \"no colon\""),
        );
        check(
            "NATS/1.0\r\na b: 1\r\n\r\n",
            Err("a header name is not printable ASCII: \"a b\""),
        );
        check(
            "NATS/1.0\r\nA: 1\r2\r\n\r\n",
            Err("header A has a carriage return in its value"),
        );
        assert_eq!(
            read(b"NATS/1.0\r\nA: \xff\r\n\r\n"),
            Headers::Unreadable("the header block is not UTF-8 at byte 13".to_owned())
        );
    }
}
