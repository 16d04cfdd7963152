//! When does a message leave its pool, because its IPs have no place for it today? (R4.2)
//!
//! Early in a warm-up nearly everything has to go elsewhere, and does so at once. Late, nearly everything fits, and the rest waits for
//! its place: it is what brings the IP further. But nothing waits for so long that it may not arrive.

use std::time::Duration;

/// Below this much of what is asked for, in hundredths, the rest leaves at once.
const EARLY_PERCENT: u64 = 50;
/// And from here on it waits.
const LATE_PERCENT: u64 = 90;
/// In between it waits so long before it leaves, where its time is short or not.
const URGENT_WAITS: Duration = Duration::from_secs(15 * 60);
const PATIENT_WAITS: Duration = Duration::from_secs(4 * 3_600);
/// Who gives a message no longer than this to live is in a hurry.
const URGENT_LIFETIME: Duration = Duration::from_secs(14 * 3_600);

/// After which wait does what finds no place leave? `fits_percent` of what is asked of these IPs fits into what they may send.
#[must_use]
pub fn leaves_after(fits_percent: u64, lifetime: Duration) -> Duration {
    match fits_percent {
        ..EARLY_PERCENT => Duration::ZERO,
        EARLY_PERCENT..LATE_PERCENT if lifetime <= URGENT_LIFETIME => URGENT_WAITS.min(lifetime / 2),
        EARLY_PERCENT..LATE_PERCENT => PATIENT_WAITS,
        _ => lifetime / 2,
    }
}

#[cfg(test)]
mod tests {
    use super::leaves_after;
    use std::time::Duration;

    const HOUR: Duration = Duration::from_secs(3_600);

    // R4.2, R4.6: early it leaves at once, then after a while, and at last all of it stays.
    #[test]
    fn early_it_leaves_and_late_it_waits() {
        let urgent = [0, 49, 50, 89, 90, 100].map(|fits| leaves_after(fits, HOUR * 14));
        assert_eq!(urgent, [Duration::ZERO, Duration::ZERO, HOUR / 4, HOUR / 4, HOUR * 7, HOUR * 7]);
        assert_eq!(leaves_after(50, HOUR * 72), HOUR * 4);
        assert_eq!(leaves_after(50, HOUR / 6), HOUR / 12);
    }
}
