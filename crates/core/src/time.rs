//! Moments, in nanoseconds since 1970 UTC, within the bounds the ledger keeps.
use std::fmt;

use crate::refusal::{Code, Refusal};

/// First second that is accepted: 1970-01-01T00:00:00Z.
pub const MIN_SECONDS: i64 = 0;
/// First second that is no longer accepted: 2200-01-01T00:00:00Z.
pub const END_SECONDS: i64 = 7_258_118_400;

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// A moment between 1970 and 2200, to the nanosecond, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(i64);

impl Time {
    /// Builds a moment from seconds and nanoseconds.
    ///
    /// # Errors
    /// Refuses seconds outside [`MIN_SECONDS`]`..`[`END_SECONDS`] and nanoseconds outside 0..=999,999,999.
    pub fn try_new(seconds: i64, nanos: i64) -> Result<Self, Refusal> {
        if !(MIN_SECONDS..END_SECONDS).contains(&seconds) {
            return Err(Refusal::new(
                Code::OutOfRange,
                "",
                seconds,
                "seconds must lie in 1970 to 2200",
            ));
        }
        if !(0..NANOS_PER_SECOND).contains(&nanos) {
            return Err(Refusal::new(
                Code::OutOfRange,
                "",
                nanos,
                "nanoseconds must lie in 0 to 999999999",
            ));
        }
        Ok(Self(seconds * NANOS_PER_SECOND + nanos))
    }

    /// Builds a moment from nanoseconds since 1970, clamped to the accepted range.
    #[must_use]
    pub fn from_nanos_clamped(nanos: i128) -> Self {
        let max = i128::from(END_SECONDS) * i128::from(NANOS_PER_SECOND) - 1;
        Self(i64::try_from(nanos.clamp(0, max)).unwrap_or(i64::MAX))
    }

    /// Nanoseconds since 1970.
    #[must_use]
    pub fn nanos(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970.
    #[must_use]
    pub fn seconds(self) -> i64 {
        self.0 / NANOS_PER_SECOND
    }

    /// Nanoseconds beyond [`Time::seconds`].
    #[must_use]
    pub fn subsec_nanos(self) -> i32 {
        i32::try_from(self.0 % NANOS_PER_SECOND).unwrap_or(0)
    }

    /// The moment `nanos` later (earlier when negative), clamped to the accepted range.
    #[must_use]
    pub fn plus_nanos(self, nanos: i64) -> Self {
        Self::from_nanos_clamped(i128::from(self.0) + i128::from(nanos))
    }

    /// Nanoseconds from `earlier` to `self`; negative when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> i64 {
        self.0 - earlier.0
    }
}

impl fmt::Display for Time {
    /// RFC 3339, UTC, as many fractional digits as needed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second_of_day) = (
            self.seconds().div_euclid(86_400),
            self.seconds().rem_euclid(86_400),
        );
        let (year, month, day) = civil_from_days(days);
        let (h, m, s) = (
            second_of_day / 3_600,
            second_of_day / 60 % 60,
            second_of_day % 60,
        );
        write!(f, "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}")?;
        let nanos = self.subsec_nanos();
        if nanos != 0 {
            write!(f, ".{}", format!("{nanos:09}").trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

/// Gregorian date of a day number since 1970 (H. Hinnant, "chrono-compatible low-level date algorithms").
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let mp = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_and_print() {
        let cases = [
            (0, 0, "1970-01-01T00:00:00Z"),
            (951_782_400, 0, "2000-02-29T00:00:00Z"),
            (4_291_747_200, 500_000_000, "2106-01-01T00:00:00.5Z"),
            (
                END_SECONDS - 1,
                999_999_999,
                "2199-12-31T23:59:59.999999999Z",
            ),
        ];
        for (seconds, nanos, text) in cases {
            assert_eq!(Time::try_new(seconds, nanos).unwrap().to_string(), text);
        }
        for (seconds, nanos) in [(-1, 0), (END_SECONDS, 0), (0, -1), (0, NANOS_PER_SECOND)] {
            assert!(Time::try_new(seconds, nanos).is_err(), "{seconds} {nanos}");
        }
    }
}
