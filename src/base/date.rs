//! Dates, for people.

use std::fmt;
use std::time::Duration;

/// A day of the Gregorian calendar, in UTC. Printed as `2026-11-25`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    year: u64,
    month: u64,
    day: u64,
}

impl Date {
    /// The day of this moment, which is given since 1970-01-01 UTC.
    pub fn of(wall: Duration) -> Self {
        let days = wall.as_secs() / 86_400;
        let is_leap =
            |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let (mut year, mut left) = (1970 + days / 146_097 * 400, days % 146_097);
        loop {
            let length = if is_leap(year) { 366 } else { 365 };
            if left < length {
                break;
            }
            (year, left) = (year + 1, left - length);
        }
        let february = if is_leap(year) { 29 } else { 28 };
        let mut month = 1;
        for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
            if left < length {
                break;
            }
            (month, left) = (month + 1, left - length);
        }
        Self { year, month, day: left + 1 }
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { year, month, day } = self;
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leap_years_and_ends_of_months() {
        for (seconds, text) in [
            (0, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_868_800, "2000-03-01"),
            (1_709_164_800, "2024-02-29"),
            (1_767_225_599, "2025-12-31"),
            (4_107_542_400, "2100-03-01"),
            (13_569_465_600, "2400-01-01"),
        ] {
            assert_eq!(Date::of(Duration::from_secs(seconds)).to_string(), text);
        }
    }
}
