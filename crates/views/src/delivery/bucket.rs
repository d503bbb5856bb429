//! Days, weeks and months for trends.
use waybill_core::Time;

/// More buckets than this are not made: a trend of ten years by days is the most.
pub(super) const BUCKETS_MAX: usize = 3_660;

/// How a window is cut for a trend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Buckets {
    /// By the calendar, at a fixed distance from UTC.
    Every {
        /// Which calendar unit.
        unit: Unit,
        /// Seconds east of UTC.
        offset_seconds: i64,
    },
    /// At moments that the caller worked out, ascending, as for an IANA time zone. They should reach from the window's
    /// start or before to its end or after.
    At(Vec<Time>),
}

/// A calendar unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// From midnight.
    Day,
    /// From Monday.
    Week,
    /// From the first.
    Month,
}

const DAY_SECONDS: i64 = 86_400;

impl Buckets {
    /// The moments at which buckets begin and end, from the one that holds `start` to the one that holds the end.
    /// None when there would be too many.
    pub(super) fn bounds(&self, start: Time, end: Time) -> Option<Vec<Time>> {
        let (unit, offset) = match self {
            Self::At(bounds) => return (bounds.len() <= BUCKETS_MAX).then(|| bounds.clone()),
            Self::Every {
                unit,
                offset_seconds,
            } => (*unit, *offset_seconds),
        };
        let local_day = |time: Time| (time.seconds() + offset).div_euclid(DAY_SECONDS);
        let to_time = |day: i64| {
            let seconds = i128::from(day * DAY_SECONDS - offset);
            Time::from_nanos_clamped(seconds * 1_000_000_000)
        };
        let mut day = unit.floor(local_day(start));
        let mut bounds = vec![to_time(day)];
        while bounds.last().is_some_and(|last| *last < end) {
            if bounds.len() > BUCKETS_MAX {
                return None;
            }
            day = unit.next(day);
            bounds.push(to_time(day));
        }
        Some(bounds)
    }
}

impl Unit {
    /// The first day of the unit that holds a day (days since 1970).
    fn floor(self, day: i64) -> i64 {
        match self {
            Self::Day => day,
            // 1970-01-05 was a Monday.
            Self::Week => day - (day - 4).rem_euclid(7),
            Self::Month => {
                let (year, month) = year_month(day);
                first_of_month(year, month)
            }
        }
    }

    fn next(self, day: i64) -> i64 {
        match self {
            Self::Day => day + 1,
            Self::Week => day + 7,
            Self::Month => match year_month(day) {
                (year, 12) => first_of_month(year + 1, 1),
                (year, month) => first_of_month(year, month + 1),
            },
        }
    }
}

/// Gregorian year and month of a day number since 1970 (H. Hinnant, "chrono-compatible low-level date algorithms").
fn year_month(day: i64) -> (i64, i64) {
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let day_of_era = day.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month)
}

fn first_of_month(year: i64, month: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use waybill_fixture::moment;

    use super::*;

    fn check(unit: Unit, offset_hours: i64, start: &str, end: &str, expected: &[&str]) {
        let buckets = Buckets::Every {
            unit,
            offset_seconds: offset_hours * 3600,
        };
        let bounds = buckets.bounds(moment(start), moment(end)).unwrap();
        let shown: Vec<String> = bounds.iter().map(ToString::to_string).collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn buckets_follow_the_calendar() {
        use Unit::{Day, Month, Week};
        check(
            Day,
            0,
            "2024-02-28 10:00",
            "2024-03-01 00:00",
            &[
                "2024-02-28T00:00:00Z",
                "2024-02-29T00:00:00Z",
                "2024-03-01T00:00:00Z",
            ],
        );
        check(
            Week,
            0,
            "2026-01-01 00:00",
            "2026-01-06 00:00",
            &[
                "2025-12-29T00:00:00Z",
                "2026-01-05T00:00:00Z",
                "2026-01-12T00:00:00Z",
            ],
        );
        check(
            Month,
            2,
            "2025-11-30 23:00",
            "2026-01-15 00:00",
            &[
                "2025-11-30T22:00:00Z",
                "2025-12-31T22:00:00Z",
                "2026-01-31T22:00:00Z",
            ],
        );
    }

    #[test]
    fn too_many_are_not_made() {
        let days = Buckets::Every {
            unit: Unit::Day,
            offset_seconds: 0,
        };
        assert_eq!(
            days.bounds(moment("1970-01-01 00:00"), moment("2199-01-01 00:00")),
            None
        );
    }
}
