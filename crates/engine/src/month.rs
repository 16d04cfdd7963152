//! Which days has a month? By the calendar, in UTC; days are counted from 1970.

use crate::time::{Timestamp, civil_from_days, days_from_civil};
use std::fmt;
use std::str::FromStr;

/// Months since the year nought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month(i64);

/// Dates are written with four digits of the year, so no month is before this one or after that one.
const FIRST: i64 = 0;
const LAST: i64 = 9_999 * 12 + 11;

impl Month {
    #[must_use]
    pub fn of_day(day: i64) -> Month {
        let (year, month, _) = civil_from_days(day);
        Month(year * 12 + month - 1)
    }

    #[must_use]
    pub fn of(at: Timestamp) -> Month {
        Month::of_day(at.day())
    }

    /// As it is kept.
    #[must_use]
    pub fn number(self) -> i64 {
        self.0
    }

    #[must_use]
    pub fn numbered(number: i64) -> Option<Month> {
        (FIRST..=LAST).contains(&number).then_some(Month(number))
    }

    #[must_use]
    pub fn year(self) -> i64 {
        self.0.div_euclid(12)
    }

    #[must_use]
    pub fn before(self) -> Month {
        Month(self.0 - 1)
    }

    #[must_use]
    pub fn next(self) -> Month {
        Month(self.0 + 1)
    }

    #[must_use]
    pub fn first_day(self) -> i64 {
        days_from_civil(self.year(), self.0.rem_euclid(12) + 1, 1)
    }

    #[must_use]
    pub fn last_day(self) -> i64 {
        self.next().first_day() - 1
    }

    /// From 28 to 31.
    #[must_use]
    pub fn days(self) -> i64 {
        self.next().first_day() - self.first_day()
    }

    #[must_use]
    pub fn begins_at(self) -> Timestamp {
        day_begins_at(self.first_day())
    }

    /// The first moment that is not in it.
    #[must_use]
    pub fn ends_at(self) -> Timestamp {
        self.next().begins_at()
    }
}

/// As `2026-10`.
impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year(), self.0.rem_euclid(12) + 1)
    }
}

/// A text that is no month, or no date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotADate;

impl FromStr for Month {
    type Err = NotADate;
    fn from_str(text: &str) -> Result<Month, NotADate> {
        day_of(&format!("{text}-01")).map(Month::of_day)
    }
}

#[must_use]
pub fn day_begins_at(day: i64) -> Timestamp {
    Timestamp::from_unix_seconds(day.saturating_mul(86_400))
}

/// As `2026-10-31`.
#[must_use]
pub fn date_of(day: i64) -> String {
    let (year, month, day) = civil_from_days(day);
    format!("{year:04}-{month:02}-{day:02}")
}

/// The day of a date such as `2026-10-31`.
pub fn day_of(date: &str) -> Result<i64, NotADate> {
    format!("{date}T00:00:00Z").parse::<Timestamp>().map(Timestamp::day).map_err(|_| NotADate)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::{Month, date_of, day_of};

    #[test]
    fn months_have_the_days_of_the_calendar() {
        let days = |month: &str| month.parse::<Month>().unwrap().days();
        for (month, expected) in [
            ("2026-01", 31),
            ("2026-02", 28),
            ("2024-02", 29),
            ("2000-02", 29),
            ("2100-02", 28),
            ("2026-04", 30),
            ("2026-12", 31),
        ] {
            assert_eq!(days(month), expected, "{month}");
        }
        let mut day = day_of("1999-12-25").unwrap();
        let end = day_of("2029-01-05").unwrap();
        while day < end {
            let month = Month::of_day(day);
            assert!((month.first_day()..=month.last_day()).contains(&day), "{}", date_of(day));
            assert_eq!(Month::numbered(month.number()), Some(month));
            assert!(date_of(day).starts_with(&month.to_string()));
            assert_eq!(day_of(&date_of(day)), Ok(day));
            day += 1;
        }
        for wrong in ["2026-13", "2026-1", "2026", "2026-10-01", "", "x026-10"] {
            assert!(wrong.parse::<Month>().is_err(), "{wrong}");
        }
        assert!(day_of("2026-02-29").is_err() && day_of("2026-02-28T").is_err());
        assert_eq!((Month::numbered(-1), Month::numbered(i64::MAX)), (None, None));
    }
}
