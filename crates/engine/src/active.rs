//! Who has opened a message or followed a link lately? Mail to them goes to a warming IP first (R4.2).
//!
//! Providers judge a new IP by what its first recipients do with its mail. Kept as digests, by the day; for the account that wrote to
//! them alone.

use crate::digests::Digests;
use crate::time::Timestamp;

#[derive(Clone, Debug)]
pub struct Active(Digests);

impl Active {
    #[must_use]
    pub fn empty(key: [u8; 16]) -> Active {
        Active(Digests::empty(key))
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These were active on these days, counted from 1970. Addresses are in canonical form.
    pub fn note<'a>(&mut self, seen: impl IntoIterator<Item = (&'a str, &'a str, i64)>) {
        let seen: Vec<_> = seen
            .into_iter()
            .map(|(account, address, day)| {
                (self.0.digest(&[account, address]), Some(u32::try_from(day).unwrap_or_default()))
            })
            .collect();
        self.0.change(seen);
    }

    /// The whole, for the disk: the key is part of it.
    #[must_use]
    pub fn to_octets(&self) -> Vec<u8> {
        self.0.to_octets()
    }

    /// None: it was not written by `to_octets`.
    #[must_use]
    pub fn of_octets(octets: &[u8]) -> Option<Active> {
        Digests::of_octets(octets).map(Active)
    }

    /// How many days ago this one was; none: it never was, as far as is known.
    #[must_use]
    pub fn idle_days(&self, account: &str, address: &str, now: Timestamp) -> Option<u16> {
        let day = i64::from(self.0.find(&[account, address])?);
        Some(u16::try_from((now.day() - day).max(0)).unwrap_or(u16::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::Active;
    use crate::time::Timestamp;
    use std::time::Duration;

    // R2.8: known to whoever wrote to them, and to nobody else.
    #[test]
    fn who_was_active_lately_is_known_to_its_account() {
        let now = Timestamp(1_800_000_000_000_000);
        let mut active = Active::empty([7; 16]);
        assert!(active.is_empty());
        assert_eq!(active.idle_days("ann", "bob@b.test", now), None);
        active.note([("ann", "bob@b.test", now.day() - 30), ("ann", "cy@c.test", now.day() - 31)]);
        assert_eq!(active.len(), 2);
        let idle = |address: &str, now| active.idle_days("ann", address, now);
        assert_eq!((idle("bob@b.test", now), idle("cy@c.test", now)), (Some(30), Some(31)));
        assert_eq!(active.idle_days("other", "bob@b.test", now), None);
        assert_eq!(idle("bob@b.test", now + Duration::from_secs(86_400)), Some(31));
        // A clock that was set back makes nobody a stranger.
        assert_eq!(idle("bob@b.test", Timestamp(0)), Some(0));
        active.note([("ann", "bob@b.test", now.day())]);
        assert_eq!(active.len(), 2);
        assert_eq!(active.idle_days("ann", "bob@b.test", now), Some(0));
    }
}
