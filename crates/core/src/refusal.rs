//! Why something is refused: the field, the value, the rule, and what to do next.
use std::fmt;

/// The longest piece of a refused value that is shown, in characters.
pub const SHOWN_CHARS_MAX: usize = 80;

/// Names the rule that was broken, in a form a program can branch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Code {
    /// A required field is absent.
    Missing,
    /// A value does not have the form that its field needs.
    Malformed,
    /// A number or a time is outside its bounds.
    OutOfRange,
    /// A value, an event or a batch is larger than its limit.
    TooLarge,
    /// Two fields of one event say different things.
    Contradiction,
    /// The identity is taken by other content.
    Conflict,
    /// The emitter may not say this.
    NotAllowed,
    /// The bytes are not an event at all.
    Undecodable,
}

impl Code {
    /// The code as it is written on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "MISSING",
            Self::Malformed => "MALFORMED",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::TooLarge => "TOO_LARGE",
            Self::Contradiction => "CONTRADICTION",
            Self::Conflict => "CONFLICT",
            Self::NotAllowed => "NOT_ALLOWED",
            Self::Undecodable => "UNDECODABLE",
        }
    }
}

/// A refusal: the caller must mend the request before sending it again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Refusal {
    /// Which kind of rule broke.
    pub code: Code,
    /// Path of the field, as `deployment.finished.deployment.revisions[0].revision`; empty where it is about the whole.
    pub field: String,
    /// The value, shortened to [`SHOWN_CHARS_MAX`] characters, control characters escaped.
    pub value: String,
    /// The rule, as a fragment that follows the value: `not a commit id (7 to 64 hex digits)`.
    pub rule: String,
    /// What to do next; may be empty.
    pub hint: String,
}

impl Refusal {
    /// Builds a refusal, shortening and escaping the value.
    pub fn new(
        code: Code,
        field: impl Into<String>,
        value: impl fmt::Display,
        rule: impl Into<String>,
    ) -> Self {
        Self {
            code,
            field: field.into(),
            value: shown(&value.to_string()),
            rule: rule.into(),
            hint: String::new(),
        }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Puts `prefix` in front of the field's path, as the error travels outwards.
    #[must_use]
    pub fn within(mut self, prefix: &str) -> Self {
        self.field = match self.field.chars().next() {
            None => prefix.to_owned(),
            Some('[') => format!("{prefix}{}", self.field),
            Some(_) => format!("{prefix}.{}", self.field),
        };
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            field, value, rule, ..
        } = self;
        match (field.as_str(), value.as_str()) {
            ("", "") if self.code == Code::Undecodable => {
                write!(f, "the message cannot be read: {rule}")
            }
            ("", "") => f.write_str(rule),
            ("", value) => write!(f, "`{value}`: {rule}"),
            (field, value) => write!(f, "{field} is `{value}`, {rule}"),
        }
    }
}

/// Shortens `text` for showing and escapes what could change how a terminal or a log reads it.
#[must_use]
pub fn shown(text: &str) -> String {
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == SHOWN_CHARS_MAX {
            out.push('…');
            break;
        }
        if is_unsafe_in_text(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// True for control characters and for characters that reorder or hide text (bidirectional controls, zero widths).
#[must_use]
pub fn is_unsafe_in_text(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061C}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_about_no_field_is_told_without_one() {
        let told = |code, field: &str, value: &str| {
            Refusal::new(code, field, value, "the rule").to_string()
        };
        assert_eq!(told(Code::Missing, "id", ""), "id is ``, the rule");
        assert_eq!(told(Code::Malformed, "", "x"), "`x`: the rule");
        assert_eq!(told(Code::Missing, "", ""), "the rule");
        assert_eq!(
            told(Code::Undecodable, "", ""),
            "the message cannot be read: the rule"
        );
    }
}
