//! When? Time as a value: the engine is told it and never asks for it.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::time::Duration;

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Timestamp(pub i64);

impl Timestamp {
    pub const MAX: Timestamp = Timestamp(i64::MAX);

    #[must_use]
    pub fn from_unix_seconds(seconds: i64) -> Timestamp {
        Timestamp(seconds.saturating_mul(1_000_000))
    }

    #[must_use]
    pub fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Days since 1970, which begin at midnight of UTC.
    #[must_use]
    pub fn day(self) -> i64 {
        self.unix_seconds().div_euclid(86_400)
    }

    /// The first whole second that is not before this moment: timers ring there, never early.
    #[must_use]
    pub fn second_reached(self) -> i64 {
        let whole = self.0.div_euclid(1_000_000);
        if self.0.rem_euclid(1_000_000) == 0 { whole } else { whole + 1 }
    }

    /// How long after `earlier` this is; nothing when it is not after it.
    #[must_use]
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl Add<Duration> for Timestamp {
    type Output = Timestamp;
    fn add(self, by: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(micros(by)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Timestamp;
    fn sub(self, by: Duration) -> Timestamp {
        Timestamp(self.0.saturating_sub(micros(by)))
    }
}

/// RFC 3339, UTC, to the millisecond.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.unix_seconds();
        let (year, month, day) = civil_from_days(seconds.div_euclid(86_400));
        let of_day = seconds.rem_euclid(86_400);
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        let millis = self.0.rem_euclid(1_000_000) / 1000;
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}

/// A text that is no moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotATime;

impl fmt::Display for NotATime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a time as RFC 3339 writes it, such as 2026-11-21T10:00:00Z")
    }
}

/// RFC 3339, with any offset; what is finer than a microsecond is cut off, and a leap second counts as the one after it.
impl FromStr for Timestamp {
    type Err = NotATime;
    fn from_str(text: &str) -> Result<Timestamp, NotATime> {
        let (date, rest) = text.split_at_checked(10).ok_or(NotATime)?;
        let rest = rest.strip_prefix(['T', 't', ' ']).ok_or(NotATime)?;
        let (clock, rest) = rest.split_at_checked(8).ok_or(NotATime)?;
        let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
        let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
        let digits = rest.strip_prefix('.').map_or(0, |rest| rest.bytes().take_while(u8::is_ascii_digit).count());
        let (fraction, zone) = if digits > 0 { rest.split_at(digits + 1) } else { ("", rest) };
        let micros =
            fraction.bytes().skip(1).chain([b'0'; 6]).take(6).fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
        let offset_minutes = match (zone.get(..1).ok_or(NotATime)?, &zone[1..]) {
            ("Z" | "z", "") => 0,
            (sign @ ("+" | "-"), offset) => {
                let [hours, minutes] = numbers(offset, ':', [2, 2])?;
                if hours > 23 || minutes > 59 {
                    return Err(NotATime);
                }
                (hours * 60 + minutes) * if sign == "+" { 1 } else { -1 }
            }
            _ => return Err(NotATime),
        };
        let days = days_from_civil(year, month, day);
        if civil_from_days(days) != (year, month, day) || hour > 23 || minute > 59 || second > 60 {
            return Err(NotATime);
        }
        let seconds = days * 86_400 + hour * 3_600 + (minute - offset_minutes) * 60 + second;
        Ok(Timestamp(seconds * 1_000_000 + micros))
    }
}

/// Numbers of so many digits each, with a mark between them.
fn numbers<const N: usize>(text: &str, mark: char, digits: [usize; N]) -> Result<[i64; N], NotATime> {
    let mut parts = text.split(mark);
    let mut found = [0; N];
    for (place, digits) in found.iter_mut().zip(digits) {
        let part = parts.next().filter(|part| part.len() == digits && part.bytes().all(|octet| octet.is_ascii_digit()));
        *place = part.ok_or(NotATime)?.parse().map_err(|_| NotATime)?;
    }
    if parts.next().is_some() { Err(NotATime) } else { Ok(found) }
}

/// The way back of `civil_from_days`; a date that is none comes back as another.
pub(crate) fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let month_from_march = (month + 9).rem_euclid(12);
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468
}

/// Days since 1970-01-01 to a date of the proleptic Gregorian calendar. Years are counted from March so that the leap day is last.
pub(crate) fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_rfc_3339() {
        let shown = |seconds: i64| Timestamp::from_unix_seconds(seconds).to_string();
        assert_eq!(shown(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(shown(951_782_400), "2000-02-29T00:00:00.000Z");
        assert_eq!(shown(1_763_719_200), "2025-11-21T10:00:00.000Z");
        assert_eq!(shown(4_107_542_399), "2100-02-28T23:59:59.000Z");
        assert_eq!(shown(4_107_542_400), "2100-03-01T00:00:00.000Z");
        assert_eq!(Timestamp(-1).to_string(), "1969-12-31T23:59:59.999Z");
        assert_eq!(Timestamp(1_763_719_200_123_456).to_string(), "2025-11-21T10:00:00.123Z");
    }

    #[test]
    fn reads_rfc_3339() {
        let read = |text: &str| text.parse::<Timestamp>().map(|at| at.to_string());
        for text in ["1970-01-01T00:00:00.000Z", "2000-02-29T12:34:56.789Z", "1969-12-31T23:59:59.999Z"] {
            assert_eq!(read(text).as_deref(), Ok(text));
        }
        let cases = [
            ("2026-11-21T10:00:00+05:30", "2026-11-21T04:30:00.000Z"),
            ("2026-11-21t10:00:00.5-00:30", "2026-11-21T10:30:00.500Z"),
            ("2026-11-21 10:00:00.1234567z", "2026-11-21T10:00:00.123Z"),
            ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00.000Z"),
        ];
        for (text, shown) in cases {
            assert_eq!(read(text).as_deref(), Ok(shown), "{text}");
        }
        let wrong = [
            "",
            "now",
            "2026-11-21",
            "2026-11-21T10:00:00",
            "2026-11-21T10:00Z",
            "2026-02-29T10:00:00Z",
            "2026-13-01T10:00:00Z",
            "2026-00-10T10:00:00Z",
            "2026-11-21T24:00:00Z",
            "2026-11-21T10:60:00Z",
            "2026-11-21T10:00:00.Z",
            "2026-11-21T10:00:00+5:30",
            "2026-11-21T10:00:00Zx",
            "+026-11-21T10:00:00Z",
            "2026-11-21T10:00:00é",
            "2026-11-2é10:00:00Z",
        ];
        for text in wrong {
            assert_eq!(text.parse::<Timestamp>(), Err(NotATime), "{text}");
        }
    }

    #[test]
    fn arithmetic_stops_at_the_ends_and_seconds_ring_late_not_early() {
        assert_eq!(Timestamp(5) + Duration::from_micros(3), Timestamp(8));
        assert_eq!(Timestamp::MAX + Duration::from_secs(1), Timestamp::MAX);
        assert_eq!(Timestamp(10).since(Timestamp(20)), Duration::ZERO);
        assert_eq!(Timestamp(1_000_000).second_reached(), 1);
        assert_eq!(Timestamp(1_000_001).second_reached(), 2);
    }
}
