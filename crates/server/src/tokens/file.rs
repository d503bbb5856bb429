//! The file of tokens: TOML that people may read and edit. What they wrote beside the tokens stays.
use std::{collections::HashSet, fmt::Write as _, ops::Range, sync::Arc};

use jiff::Timestamp;
use serde::Deserialize;
use toml::Spanned;
use waybill_core::refusal::is_unsafe_in_text;

use super::{Role, Token, Tokens, is_id};

/// Bytes of a name and of a source at most (LEDGER E11).
const TEXT_BYTES_MAX: usize = 256;
const HEAD: &str = "# Tokens of a Waybill server: hashes only, each token was shown once, when it was made.\n\
                    # `waybill token new`, `waybill token ls`, `waybill token revoke NAME`.\n";

/// What is wrong with a file of tokens, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {rule}")]
pub struct Wrong {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Which rule is broken.
    pub rule: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    token: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: Spanned<String>,
    id: Spanned<String>,
    sha256: Spanned<String>,
    role: Spanned<String>,
    #[serde(default)]
    sources: Vec<Spanned<String>>,
    create_time: Spanned<String>,
    expire_time: Option<Spanned<String>>,
    revoke_time: Option<Spanned<String>>,
}

/// Reads a file's text.
///
/// # Errors
/// The first rule that is broken.
pub fn parse(text: &str) -> Result<Tokens, Wrong> {
    let mut tokens: Vec<Token> = Vec::new();
    let (mut ids, mut names) = (HashSet::new(), HashSet::new());
    for entry in entries(text)? {
        let token = token(text, &entry)?;
        if !ids.insert(token.id.clone()) {
            return Err(wrong(text, entry.id.span(), "an id that stands here twice"));
        }
        if token.revoke_time.is_none() && !names.insert(token.name.clone()) {
            let rule = format!(
                "`{}` is the name of two tokens that are not revoked; choose another name, or revoke the first",
                token.name
            );
            return Err(wrong(text, entry.name.span(), &rule));
        }
        tokens.push(token);
    }
    Ok(Tokens::new(tokens))
}

/// The text with a token more.
///
/// # Errors
/// When the text is wrong, or would be with this token.
pub fn add(text: &str, token: &Token) -> Result<String, Wrong> {
    parse(text)?;
    let mut grown = if text.is_empty() { HEAD } else { text }.to_owned();
    if !grown.ends_with('\n') {
        grown.push('\n');
    }
    let sources: Vec<String> = token.sources.iter().map(|source| quoted(source)).collect();
    let sha256: String = token
        .sha256
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    // A String takes all.
    let _ = write!(
        grown,
        "\n[[token]]\nname = {}\nid = \"{}\"\nsha256 = \"{sha256}\"\nrole = \"{}\"\n",
        quoted(&token.name),
        token.id,
        token.role.as_str(),
    );
    if !sources.is_empty() {
        let _ = writeln!(grown, "sources = [{}]", sources.join(", "));
    }
    let _ = writeln!(grown, "create_time = \"{}\"", token.create_time);
    if let Some(end) = token.expire_time {
        let _ = writeln!(grown, "expire_time = \"{end}\"");
    }
    parse(&grown)?;
    Ok(grown)
}

/// The text with a token taken back; `None` where no token of this name counts.
///
/// # Errors
/// When the text is wrong.
pub fn revoke(text: &str, name: &str, now: Timestamp) -> Result<Option<String>, Wrong> {
    parse(text)?;
    let named = entries(text)?
        .into_iter()
        .find(|entry| entry.revoke_time.is_none() && entry.name.get_ref() == name);
    let Some(entry) = named else {
        return Ok(None);
    };
    let line = format!("\nrevoke_time = \"{now}\"");
    let at = entry.id.span().end;
    let revoked = format!("{}{line}{}", &text[..at], &text[at..]);
    parse(&revoked)?;
    Ok(Some(revoked))
}

fn entries(text: &str) -> Result<Vec<Entry>, Wrong> {
    let file: File = toml::from_str(text).map_err(|error| {
        // What is missing is missing from a table, whose start is named.
        let rule = error.message().to_owned();
        wrong(text, error.span().unwrap_or_default(), &rule)
    })?;
    Ok(file.token)
}

fn token(text: &str, entry: &Entry) -> Result<Token, Wrong> {
    let time = |time: &Spanned<String>| -> Result<Timestamp, Wrong> {
        let rule = "not a time such as 2026-11-25T18:00:00Z";
        time.get_ref()
            .parse()
            .map_err(|_| wrong(text, time.span(), rule))
    };
    let role = Role::named(entry.role.get_ref())
        .ok_or_else(|| wrong(text, entry.role.span(), "not a role: emit, read or operate"))?;
    if role == Role::Emit && entry.sources.is_empty() {
        return Err(wrong(
            text,
            entry.role.span(),
            "the role emit needs sources",
        ));
    }
    check_text(text, &entry.name)?;
    for source in &entry.sources {
        check_source(text, role, source)?;
    }
    if !is_id(entry.id.get_ref()) {
        return Err(wrong(
            text,
            entry.id.span(),
            "not 12 hex digits, in lower case",
        ));
    }
    Ok(Token {
        name: Arc::from(entry.name.get_ref().as_str()),
        id: entry.id.get_ref().clone(),
        sha256: sha256(entry.sha256.get_ref())
            .ok_or_else(|| wrong(text, entry.sha256.span(), "not 64 hex digits"))?,
        role,
        sources: entry
            .sources
            .iter()
            .map(|it| it.get_ref().clone())
            .collect(),
        create_time: time(&entry.create_time)?,
        expire_time: entry.expire_time.as_ref().map(time).transpose()?,
        revoke_time: entry.revoke_time.as_ref().map(time).transpose()?,
    })
}

fn check_source(text: &str, role: Role, source: &Spanned<String>) -> Result<(), Wrong> {
    check_text(text, source)?;
    let name = source.get_ref();
    let rule = if role != Role::Emit {
        "sources are for the role emit alone"
    } else if name.trim_end_matches('*').contains('*') || name.ends_with("**") {
        "`*` stands only at the end of a source"
    } else if name.ends_with('*') && !(name.ends_with("/*") && name.len() > "//*".len()) {
        // `//ci.acme.dev*` would also be //ci.acme.dev.example.
        "`*` stands only behind a name and `/`, such as //ci.acme.dev/*"
    } else {
        return Ok(());
    };
    Err(wrong(text, source.span(), rule))
}

fn check_text(text: &str, value: &Spanned<String>) -> Result<(), Wrong> {
    let name = value.get_ref();
    let fits = (1..=TEXT_BYTES_MAX).contains(&name.len());
    if fits && name.trim() == name && !name.chars().any(is_unsafe_in_text) {
        return Ok(());
    }
    let rule = format!(
        "not 1 to {TEXT_BYTES_MAX} bytes without control characters, bidirectional ones, or space around"
    );
    Err(wrong(text, value.span(), &rule))
}

fn sha256(hex: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(bytes)
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn wrong(text: &str, span: Range<usize>, rule: &str) -> Wrong {
    let before = text.get(..span.start).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    Wrong {
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        rule: rule.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::{RANDOM_BYTES, Secret};

    fn token(name: &str, seed: u8) -> Token {
        let secret = Secret::new(&[seed; RANDOM_BYTES]);
        Token {
            name: Arc::from(name),
            id: secret.id().to_owned(),
            sha256: secret.hash(),
            role: Role::Emit,
            sources: vec![
                "//ci.acme.dev/shop".to_owned(),
                "//ci.acme.dev/*".to_owned(),
            ],
            create_time: "2026-11-25T18:00:00Z".parse().unwrap(),
            expire_time: Some("2027-02-23T18:00:00Z".parse().unwrap()),
            revoke_time: None,
        }
    }

    fn names(text: &str) -> Vec<(String, bool)> {
        let tokens = parse(text).unwrap();
        let told = tokens
            .iter()
            .map(|it| (it.name.to_string(), it.revoke_time.is_some()));
        told.collect()
    }

    #[test]
    fn what_is_added_is_read_again() {
        let first = token(r#"a "quoted" \ name"#, 1);
        let text = add("", &first).unwrap();
        assert_eq!(parse(&text).unwrap().iter().collect::<Vec<_>>(), [&first]);
        let text = add(&(text + "# who: the shop's team"), &token("b", 2)).unwrap();
        assert!(text.contains("# who: the shop's team\n"));
        assert_eq!(parse(&text).unwrap().iter().count(), 2);
    }

    #[test]
    fn a_name_is_free_again_when_its_token_is_revoked() {
        let text = add("", &token("ci", 1)).unwrap();
        let error = add(&text, &token("ci", 2)).unwrap_err();
        assert!(
            error.rule.contains("`ci` is the name of two tokens"),
            "{error}"
        );
        let text = revoke(&text, "ci", Timestamp::UNIX_EPOCH).unwrap().unwrap();
        assert_eq!(revoke(&text, "ci", Timestamp::UNIX_EPOCH), Ok(None));
        let text = add(&text, &token("ci", 2)).unwrap();
        assert_eq!(
            names(&text),
            [("ci".to_owned(), true), ("ci".to_owned(), false)]
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let good = add("", &token("ci", 1)).unwrap();
        let edited = |from: &str, to: &str| good.replace(from, to);
        for (text, line, column, rule) in [
            (
                edited("role = \"emit\"", "role = \"admin\""),
                8,
                8,
                "not a role",
            ),
            (
                edited("\"//ci.acme.dev/*\"", "\"*\""),
                9,
                34,
                "behind a name",
            ),
            (
                edited("//ci.acme.dev/*", "//ci.acme.dev*"),
                9,
                34,
                "behind a name",
            ),
            (edited("//ci.acme.dev/*", "//*/shop"), 9, 34, "at the end"),
            (
                edited("\"emit\"", "\"read\""),
                9,
                12,
                "for the role emit alone",
            ),
            (
                edited("name = \"ci\"", "name = \"\""),
                5,
                8,
                "not 1 to 256 bytes",
            ),
            (
                edited("sha256 = \"", "sha256 = \"0"),
                7,
                10,
                "64 hex digits",
            ),
            (
                edited("2026-11-25T18", "yesterdayT18"),
                10,
                15,
                "not a time",
            ),
            (
                edited("expire_time", "expires"),
                11,
                1,
                "unknown field `expires`",
            ),
            (edited("name = ", "name "), 5, 6, ""),
            (format!("{good}\n[[token]]\n"), 13, 1, "missing field"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.rule.contains(rule), "{error}: {text}");
            assert_eq!(
                (error.line, error.column),
                (line, column),
                "{error}: {text}"
            );
        }
    }
}
