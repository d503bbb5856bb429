//! Buckets of a trend in a time zone, where days have 23 to 25 hours.
use jiff::{
    Timestamp, ToSpan, Zoned,
    civil::Weekday,
    tz::{TimeZone, TimeZoneDatabase},
};
use waybill_core::{Code, Refusal, Time};
use waybill_views::delivery::Unit;

/// More bounds than this are not made: ten years of days.
const BOUNDS_MAX: usize = 3_661;

/// The time zone of an IANA name, as this version's own copy of the database has it: the same buckets on every machine
/// (LEDGER K2), whatever its tzdata.
pub(crate) fn time_zone(name: &str) -> Result<TimeZone, Refusal> {
    TimeZoneDatabase::bundled().get(name).map_err(|_| {
        Refusal::new(
            Code::Malformed,
            "time_zone",
            name,
            "not a time zone that this version knows",
        )
        .with_hint("give an IANA name such as `Europe/Berlin`")
    })
}

/// The moments at which buckets begin, ascending, from the one that holds `start` to the first that is not before
/// `end`. Weeks begin on Monday.
///
/// # Errors
/// Refuses a window that takes more than [`BOUNDS_MAX`] of them.
pub(crate) fn bounds(
    zone: &TimeZone,
    unit: Unit,
    start: Time,
    end: Time,
) -> Result<Vec<Time>, Refusal> {
    let refuse = || {
        let rule = format!("a trend has at most {} buckets", BOUNDS_MAX - 1);
        Refusal::new(Code::OutOfRange, "start_time", start, rule)
            .with_hint("ask for weeks or months, or a shorter window")
    };
    let mut bound = first(zone, unit, start).map_err(|_| refuse())?;
    let mut bounds = Vec::new();
    loop {
        let time = Time::from_nanos_clamped(bound.timestamp().as_nanosecond());
        bounds.push(time);
        if time >= end {
            return Ok(bounds);
        }
        if bounds.len() == BOUNDS_MAX {
            return Err(refuse());
        }
        bound = next(&bound, unit).map_err(|_| refuse())?;
    }
}

fn first(zone: &TimeZone, unit: Unit, start: Time) -> Result<Zoned, jiff::Error> {
    let day = Timestamp::from_nanosecond(i128::from(start.nanos()))?
        .to_zoned(zone.clone())
        .start_of_day()?;
    match unit {
        Unit::Day => Ok(day),
        Unit::Week => {
            let since_monday = day.weekday().since(Weekday::Monday);
            day.checked_sub(i64::from(since_monday).days())?
                .start_of_day()
        }
        Unit::Month => day.first_of_month()?.start_of_day(),
    }
}

fn next(bound: &Zoned, unit: Unit) -> Result<Zoned, jiff::Error> {
    let span = match unit {
        Unit::Day => 1.day(),
        Unit::Week => 1.week(),
        Unit::Month => 1.month(),
    };
    bound.checked_add(span)?.start_of_day()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bounds of a window in seconds.
    fn check(zone: &str, unit: Unit, start: i64, end: i64, expected: &[&str]) {
        let zone = time_zone(zone).unwrap();
        let time = |seconds| Time::try_new(seconds, 0).unwrap();
        let bounds: Vec<String> = bounds(&zone, unit, time(start), time(end))
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(bounds, expected);
    }

    #[test]
    fn days_follow_the_clocks_of_the_zone() {
        // Summer time ended on 2026-10-25, at 01:00 UTC.
        let berlin = "Europe/Berlin";
        let noon = 1_792_843_200; // 2026-10-24T12:00:00Z
        check(
            berlin,
            Unit::Day,
            noon,
            noon + 86_400,
            &[
                "2026-10-23T22:00:00Z",
                "2026-10-24T22:00:00Z",
                "2026-10-25T23:00:00Z",
            ],
        );
        check(
            berlin,
            Unit::Week,
            noon,
            noon + 1,
            &["2026-10-18T22:00:00Z", "2026-10-25T23:00:00Z"],
        );
        check(
            berlin,
            Unit::Month,
            noon,
            noon + 1,
            &["2026-09-30T22:00:00Z", "2026-10-31T23:00:00Z"],
        );
    }

    #[test]
    fn a_window_without_end_is_refused() {
        let time = |seconds| Time::try_new(seconds, 0).unwrap();
        let refusal = bounds(&TimeZone::UTC, Unit::Day, time(0), time(7_000_000_000)).unwrap_err();
        assert_eq!(
            (refusal.code, refusal.field.as_str()),
            (Code::OutOfRange, "start_time")
        );
    }
}
