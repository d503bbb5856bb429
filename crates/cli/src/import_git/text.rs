//! Bytes that ought to be text: nothing is lost silently, and nothing fails.
use waybill_core::refusal::is_unsafe_in_text;

/// Reads text whose bytes that are not UTF-8 become `%xx`.
pub(super) fn or_percent(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        for byte in chunk.invalid() {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Reads text in the encoding that a commit names: Latin-1, or UTF-8 with what is none as `%xx`.
pub(super) fn in_encoding(bytes: &[u8], encoding: Option<&str>) -> String {
    let named = encoding.unwrap_or_default().to_ascii_lowercase();
    let latin1 = matches!(
        &named[..],
        "iso-8859-1" | "iso8859-1" | "iso_8859-1" | "latin1" | "latin-1"
    );
    if latin1 {
        bytes.iter().copied().map(char::from).collect()
    } else {
        or_percent(bytes)
    }
}

/// Text that may stand in an id or a name: characters that control or reorder text become `%xx` of their UTF-8.
pub(super) fn safe(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut buffer = [0; 4];
    for c in text.chars() {
        if is_unsafe_in_text(c) {
            c.encode_utf8(&mut buffer)
                .bytes()
                .for_each(|byte| out.push_str(&format!("%{byte:02X}")));
        } else {
            out.push(c);
        }
    }
    out
}

/// The longest beginning of `text` that fits into `bytes_max`, with `…` where anything was cut.
pub(super) fn shortened(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let mut end = bytes_max.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_bytes_are_percent_encoded() {
        assert_eq!(or_percent(b"caf\xc3\xa9/\xff\xfe.txt"), "café/%FF%FE.txt");
        assert_eq!(in_encoding(b"J\xf6rg", Some("ISO-8859-1")), "Jörg");
        assert_eq!(in_encoding(b"J\xf6rg", None), "J%F6rg");
        assert_eq!(in_encoding("Jörg".as_bytes(), Some("UTF-8")), "Jörg");
        assert_eq!(safe("a\u{202E}b\nc"), "a%E2%80%AEb%0Ac");
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(shortened("ääää", 100), "ääää");
        assert_eq!(shortened("ääää", 6), "ä…");
        assert!(shortened(&"ä".repeat(99), 31).len() <= 31);
    }
}
