//! Numbers and moments as people read them.
use prost_types::{Duration, Timestamp};

use crate::when;

/// A length with its two largest units: `5 h 12 m`, `2 d 3 h`, `48 s`.
pub(crate) fn length(duration: &Duration) -> String {
    let (sign, seconds) = if duration.seconds < 0 {
        ("−", duration.seconds.unsigned_abs())
    } else {
        ("", duration.seconds.unsigned_abs())
    };
    let units = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    if seconds == 0 && duration.nanos == 0 {
        return "0 s".to_owned();
    }
    let Some(first) = units.iter().position(|(_, size)| seconds >= *size) else {
        return format!("{sign}{} ms", duration.nanos.unsigned_abs() / 1_000_000);
    };
    let (unit, size) = units[first];
    let mut text = format!("{sign}{} {unit}", seconds / size);
    if let Some((unit, smaller)) = units.get(first + 1)
        && seconds % size / smaller > 0
    {
        text.push_str(&format!(" {} {unit}", seconds % size / smaller));
    }
    text
}

/// A moment to the minute, UTC: `2026-11-03 14:02Z`.
pub(crate) fn minute(time: Option<&Timestamp>) -> String {
    let Some(time) = time else {
        return "–".to_owned();
    };
    let Some(time) = when::from_proto(time) else {
        return format!("{} s", time.seconds);
    };
    let text = time.to_string();
    match (text.get(..10), text.get(11..16)) {
        (Some(day), Some(minute)) => format!("{day} {minute}Z"),
        _ => text,
    }
}

/// A moment in full, RFC 3339.
pub(crate) fn moment(time: Option<&Timestamp>) -> String {
    time.map_or_else(
        || "–".to_owned(),
        |time| {
            when::from_proto(time).map_or_else(|| format!("{} s", time.seconds), |t| t.to_string())
        },
    )
}

/// Bytes with a binary unit: `64.0 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    // Only for people: what is lost beyond 2^53 cannot be seen in one decimal.
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{count} B")
    } else {
        format!("{value:.1} {}", units[unit])
    }
}

/// A whole number with separators: `2,231`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 event`, `2 events`.
pub(crate) fn plural(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// The first digits of a hash or commit id.
pub(crate) fn short(id: &str) -> &str {
    let hex = id.len() >= 40 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if hex { &id[..10] } else { id }
}

/// A word as a shell reads it back.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@,+=%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// Heights of a row of numbers, lowest to highest; a gap is a dot.
pub(crate) fn sparkline(values: &[Option<f64>]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let highest = values.iter().flatten().copied().fold(0.0, f64::max);
    let bar = |value: f64| {
        let step = BARS.iter().enumerate().rev().find(|(index, _)| {
            let floor = f64::from(u32::try_from(*index).unwrap_or(0)) / 8.0;
            highest > 0.0 && value / highest > floor
        });
        step.map_or(BARS[0], |(_, bar)| *bar)
    };
    values.iter().map(|value| value.map_or('·', bar)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_two_units() {
        let cases = [
            (0, "0 s"),
            (48, "48 s"),
            (90, "1 m 30 s"),
            (18_720, "5 h 12 m"),
            (183_600, "2 d 3 h"),
            (86_400, "1 d"),
            (-60, "−1 m"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(length(&Duration { seconds, nanos: 0 }), expected);
        }
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(count(2_231), "2,231");
        assert_eq!(count(12), "12");
        assert_eq!(count(1_000_000), "1,000,000");
        assert_eq!(bytes(1_536), "1.5 KiB");
        assert_eq!(bytes(12), "12 B");
        assert_eq!(plural(1, "event", "events"), "1 event");
        assert_eq!(
            minute(Some(&Timestamp {
                seconds: 1_762_178_520,
                nanos: 0
            })),
            "2025-11-03 14:02Z"
        );
    }

    #[test]
    fn a_gap_in_a_trend_is_no_zero() {
        assert_eq!(sparkline(&[Some(0.0), None, Some(4.0), Some(8.0)]), "▁·▄█");
        assert_eq!(sparkline(&[Some(0.0)]), "▁");
    }

    #[test]
    fn undo_lines_can_be_pasted() {
        assert_eq!(quoted("//ci/github"), "//ci/github");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
    }
}
