//! WHEN: how a person writes a moment, and a moment of knowledge.
//!
//! `2026-11-03T14:02:00Z` · `2026-11-03` (its first moment, UTC) · `now` · `2w`, `3d`, `4h`, `1d12h` (ago) ·
//! `@{2.weeks.ago}`, `@{yesterday}` · and, where knowledge is meant: `seq:184223`, or an event as `SOURCE ID`.
use jiff::{Span, Timestamp, tz::TimeZone};
use prost_types::{Duration, Timestamp as ProtoTime};
use waybill_core::Time;
use waybill_proto::pb;

use crate::exit::Failure;

/// What `--help` says of WHEN.
pub(crate) const HELP: &str = "RFC 3339, a date, `now`, `2w` `3d` `4h` (ago), or `@{2.weeks.ago}`";

/// A moment that was asked about.
///
/// # Errors
/// Refuses what is no moment between 1970 and 2200, naming `flag`.
pub(crate) fn moment(text: &str, flag: &str, now: Time) -> Result<Time, Failure> {
    if let Some(rest) = text.strip_prefix("seq:") {
        return Err(Failure::usage(format!(
            "{flag} is `seq:{rest}`, which names knowledge and not a moment"
        ))
        .with_hint(format!(
            "ask with the knowledge of that position: --as-of seq:{rest}"
        )));
    }
    try_moment(text.trim(), now).ok_or_else(|| {
        Failure::usage(format!(
            "{flag} is `{}`, not a moment",
            waybill_core::refusal::shown(text)
        ))
        .with_hint(format!("write {HELP}"))
    })
}

/// A moment of knowledge: a position, a record time, or an event.
///
/// # Errors
/// Refuses what is none of the three.
pub(crate) fn knowledge(text: &str, flag: &str, now: Time) -> Result<pb::AsOf, Failure> {
    use pb::as_of::Moment;
    let text = text.trim();
    let moment = if let Some(number) = text.strip_prefix("seq:") {
        let position = number.parse::<u64>().ok().filter(|position| *position > 0);
        Moment::Position(position.ok_or_else(|| {
            Failure::usage(format!("{flag} is `{text}`, not a position (seq:1 and up)"))
        })?)
    } else if let Some(time) = try_moment(text, now) {
        Moment::RecordTime(proto_time(time))
    } else if let Some((source, id)) = text.split_once(' ') {
        Moment::Event(pb::EventRef {
            source: source.to_owned(),
            id: id.trim().to_owned(),
            position: 0,
        })
    } else {
        return Err(Failure::usage(format!(
            "{flag} is `{}`, no moment of knowledge",
            waybill_core::refusal::shown(text)
        ))
        .with_hint(format!(
            "write seq:POSITION, `SOURCE ID` of an event, {HELP}"
        )));
    };
    Ok(pb::AsOf {
        moment: Some(moment),
    })
}

/// A length of time: `90s`, `20m`, `4h`, `3d`, `2w`, also together; a bare number counts as seconds.
///
/// # Errors
/// Refuses what is no length.
pub(crate) fn length(text: &str, flag: &str) -> Result<std::time::Duration, Failure> {
    let seconds = match text.parse::<f64>() {
        Ok(seconds) => Some(seconds),
        Err(_) => compact(text).map(|span| span_seconds(&span)),
    };
    seconds
        .and_then(|seconds| std::time::Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| {
            Failure::usage(format!(
                "{flag} is `{text}`, not a length of time such as 90s, 20m, 4h, 3d, 2w"
            ))
        })
}

/// A length as protobuf carries it.
pub(crate) fn proto_duration(length: std::time::Duration) -> Duration {
    Duration {
        seconds: i64::try_from(length.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(length.subsec_nanos()).unwrap_or(0),
    }
}

/// A moment as protobuf carries it.
pub(crate) fn proto_time(time: Time) -> ProtoTime {
    ProtoTime {
        seconds: time.seconds(),
        nanos: time.subsec_nanos(),
    }
}

/// A moment that came from a server; `None` where it is outside the ledger's range.
pub(crate) fn from_proto(time: &ProtoTime) -> Option<Time> {
    Time::try_new(time.seconds, i64::from(time.nanos)).ok()
}

/// The wall clock.
pub(crate) fn now() -> Time {
    Time::from_nanos_clamped(Timestamp::now().as_nanosecond())
}

fn try_moment(text: &str, now: Time) -> Option<Time> {
    let now = Timestamp::from_nanosecond(i128::from(now.nanos())).ok()?;
    let moment = if text == "now" {
        now
    } else if let Ok(timestamp) = text.parse::<Timestamp>() {
        timestamp
    } else if let Ok(date) = text
        .parse::<jiff::civil::Date>()
        .and_then(|date| date.to_zoned(TimeZone::UTC))
    {
        // A civil parser also reads `2026-11-03T10:00`, which names no zone: only a bare date is taken.
        if text.contains([':', ' ', 'T']) {
            return None;
        }
        date.timestamp()
    } else {
        let span = match text
            .strip_prefix("@{")
            .and_then(|rest| rest.strip_suffix('}'))
        {
            Some(words) => spelled(words)?,
            None => compact(text)?,
        };
        now.to_zoned(TimeZone::UTC)
            .checked_sub(span)
            .ok()?
            .timestamp()
    };
    Time::try_new(moment.as_second(), i64::from(moment.subsec_nanosecond())).ok()
}

/// `2.weeks.ago`, `1.month.3.days.ago`, `yesterday`, as git's approxidate reads them.
fn spelled(words: &str) -> Option<Span> {
    if words == "yesterday" {
        return Some(Span::new().days(1));
    }
    let words = words.strip_suffix(".ago")?;
    let parts: Vec<&str> = words.split('.').collect();
    if parts.is_empty() || !parts.len().is_multiple_of(2) {
        return None;
    }
    parts.chunks(2).try_fold(Span::new(), |span, pair| {
        add(span, pair[0].parse().ok()?, pair[1].trim_end_matches('s'))
    })
}

/// `2w`, `1d12h`, `90s`.
fn compact(text: &str) -> Option<Span> {
    let mut span = Span::new();
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: i64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        span = add(span, number, &rest[..end])?;
        rest = &rest[end..];
    }
    Some(span)
}

fn add(span: Span, number: i64, unit: &str) -> Option<Span> {
    match unit {
        "s" | "sec" | "second" => span.try_seconds(span.get_seconds().checked_add(number)?),
        "m" | "min" | "minute" => span.try_minutes(span.get_minutes().checked_add(number)?),
        "h" | "hour" => span.try_hours(i64::from(span.get_hours()).checked_add(number)?),
        "d" | "day" => span.try_days(i64::from(span.get_days()).checked_add(number)?),
        "w" | "week" => span.try_weeks(i64::from(span.get_weeks()).checked_add(number)?),
        "mo" | "month" => span.try_months(i64::from(span.get_months()).checked_add(number)?),
        "y" | "year" => span.try_years(i64::from(span.get_years()).checked_add(number)?),
        _ => return None,
    }
    .ok()
}

/// Days of 24 hours; months and years have no length of their own and count nothing.
fn span_seconds(span: &Span) -> f64 {
    if span.get_months() != 0 || span.get_years() != 0 {
        return f64::NAN;
    }
    let days = f64::from(span.get_weeks()) * 7.0 + f64::from(span.get_days());
    let short = span.get_minutes() * 60 + span.get_seconds();
    // Both are bounded by jiff far below 2^53.
    days * 86_400.0 + f64::from(span.get_hours()) * 3_600.0 + (short as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_793_875_200; // 2026-11-05T10:40:00Z

    fn now() -> Time {
        Time::try_new(NOW, 0).unwrap()
    }

    #[test]
    fn reads_moments() {
        let cases = [
            ("now", "2026-11-05T10:40:00Z"),
            ("2026-11-03T14:02:00Z", "2026-11-03T14:02:00Z"),
            ("2026-11-03T14:02:00.5+02:00", "2026-11-03T12:02:00.5Z"),
            ("2026-11-03", "2026-11-03T00:00:00Z"),
            ("2w", "2026-10-22T10:40:00Z"),
            ("3d", "2026-11-02T10:40:00Z"),
            ("4h", "2026-11-05T06:40:00Z"),
            ("1d12h", "2026-11-03T22:40:00Z"),
            ("@{2.weeks.ago}", "2026-10-22T10:40:00Z"),
            ("@{1.month.ago}", "2026-10-05T10:40:00Z"),
            ("@{1.day.2.hours.ago}", "2026-11-04T08:40:00Z"),
            ("@{yesterday}", "2026-11-04T10:40:00Z"),
        ];
        for (text, expected) in cases {
            assert_eq!(
                moment(text, "--at", now()).unwrap().to_string(),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_what_is_no_moment_and_says_what_to_write() {
        for text in [
            "",
            "soon",
            "2x",
            "w",
            "@{2.weeks}",
            "@{ago}",
            "2026-11-03T10:00",
            "1960-01-01",
            "2300-01-01",
            "9999999999w",
        ] {
            let failure = moment(text, "--at", now()).unwrap_err();
            assert!(failure.to_string().contains("--at"), "{text}");
            assert!(failure.hint().contains("RFC 3339"), "{text}");
        }
        assert!(
            moment("seq:4", "--at", now())
                .unwrap_err()
                .hint()
                .contains("--as-of seq:4")
        );
    }

    #[test]
    fn reads_knowledge() {
        use pb::as_of::Moment;
        let read = |text| knowledge(text, "--as-of", now()).unwrap().moment.unwrap();
        assert_eq!(read("seq:184223"), Moment::Position(184_223));
        assert_eq!(
            read("1h"),
            Moment::RecordTime(ProtoTime {
                seconds: NOW - 3_600,
                nanos: 0
            })
        );
        let event = pb::EventRef {
            source: "//ci".to_owned(),
            id: "run 1".to_owned(),
            position: 0,
        };
        assert_eq!(read("//ci run 1"), Moment::Event(event));
        for text in ["seq:0", "seq:x", "last-tuesday"] {
            assert!(knowledge(text, "--as-of", now()).is_err(), "{text}");
        }
    }

    #[test]
    fn reads_lengths() {
        for (text, seconds) in [
            ("90s", 90),
            ("10", 10),
            ("20m", 1_200),
            ("2w", 1_209_600),
            ("1d12h", 129_600),
        ] {
            assert_eq!(length(text, "--lag").unwrap().as_secs(), seconds, "{text}");
        }
        for text in ["-1", "1mo", "soon", ""] {
            assert!(length(text, "--lag").is_err(), "{text}");
        }
    }
}
