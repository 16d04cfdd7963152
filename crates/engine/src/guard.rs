//! May who failed try again? Guessing of secrets is slowed, by address and by name.
//!
//! Every try is counted as failed when it begins, and taken back when it proves right: so a thousand tries at once are as slow as a
//! thousand in a row. Who was right from an address once is known there by that name, and is from then on counted for itself: neither
//! those who guess the same name elsewhere nor those who guess other names beside it hold it up. Success clears nothing that others
//! have failed: otherwise an application that signs in all day would clear the way for whoever guesses its password.
//!
//! Law of use: one guard for each kind of door (people, SMTP, keys). `knock` before the secret is looked at; then `let_in`, or `withdraw`
//! when it came to no answer, or nothing. Where looking costs nothing (a key that is found by its digest), look first and knock only for
//! those that are wrong, so that a right key is never held up.

use crate::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// Names are cut to this: they come from whoever likes to send them.
const NAME_OCTETS_MAX: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Failures of one name that cost no wait: people mistype.
    pub name_failures_free: u32,
    /// Failures from one address that cost no wait: whole offices share one.
    pub address_failures_free: u32,
    pub wait_first: Duration,
    pub wait_max: Duration,
    /// Without a failure for so long, all are forgotten; longer than the longest wait, or waiting would forgive.
    pub forgotten_after: Duration,
    /// Without a try for so long, a name is no longer known at an address.
    pub known_for: Duration,
    /// Of addresses, of names, of names known at addresses: so many of each are kept, the oldest go.
    pub entries_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            name_failures_free: 5,
            address_failures_free: 20,
            wait_first: Duration::from_secs(1),
            // Under a hundred guesses a day.
            wait_max: Duration::from_secs(15 * 60),
            forgotten_after: Duration::from_secs(24 * 3600),
            known_for: Duration::from_secs(30 * 24 * 3600),
            entries_max: 65_536,
        }
    }
}

/// Not before then, because of the failures of this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    pub until: Timestamp,
    pub of: Failures,
}

impl Wait {
    /// The same words at every door.
    #[must_use]
    pub fn sentence(&self) -> &'static str {
        match self.of {
            Failures::OfAddress => "Too many failed sign-ins from this address.",
            Failures::OfName => "Too many failed sign-ins with this name.",
        }
    }

    #[must_use]
    pub fn mend(&self, now: Timestamp) -> String {
        format!("Try again in {}.", in_words(self.until.since(now)))
    }
}

/// Rounded up: never early.
fn in_words(wait: Duration) -> String {
    let seconds = wait.as_micros().div_ceil(1_000_000).max(1);
    match (seconds, seconds.div_ceil(60)) {
        (1, _) => "1 second".to_owned(),
        (2..100, _) => format!("{seconds} seconds"),
        (_, minutes) => format!("{minutes} minutes"),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failures {
    /// From this address, or its /64.
    OfAddress,
    /// With this name.
    OfName,
}

/// A try under way, counted as failed until it is shown to be none.
#[derive(Debug)]
#[must_use]
pub struct Knock {
    at: Timestamp,
    counted: Counted,
}

#[derive(Debug)]
enum Counted {
    /// Known there by that name; with the time of the failure before.
    Known(Place, Name, Option<Timestamp>),
    Apart {
        place: Option<(Place, Option<Timestamp>)>,
        name: Option<(Name, Option<Timestamp>)>,
    },
}

/// An IPv4 address, or the /64 of an IPv6 address: what one subscriber has.
type Place = IpAddr;
type Name = Box<str>;

#[derive(Debug)]
pub struct Guard {
    limits: Limits,
    places: Table<Place>,
    names: Table<Name>,
    known: Table<(Place, Name)>,
}

impl Guard {
    #[must_use]
    pub fn new(limits: Limits) -> Guard {
        Guard { limits, places: Table::default(), names: Table::default(), known: Table::default() }
    }

    pub fn knock(&mut self, from: Option<IpAddr>, name: Option<&str>, now: Timestamp) -> Result<Knock, Wait> {
        let Limits { name_failures_free, address_failures_free, .. } = self.limits;
        let (place, name) = (from.map(place_of), name.map(cut));
        if let (Some(place), Some(name)) = (place, &name) {
            let both = (place, name.clone());
            if self.known.is_there(&both, now, self.limits.known_for) {
                self.known.may(&both, name_failures_free, &self.limits, now, Failures::OfName)?;
                let before = self.known.count(both.clone(), &self.limits, now);
                return Ok(Knock { at: now, counted: Counted::Known(both.0, both.1, before) });
            }
        }
        if let Some(place) = &place {
            self.places.may(place, address_failures_free, &self.limits, now, Failures::OfAddress)?;
        }
        if let Some(name) = &name {
            self.names.may(name, name_failures_free, &self.limits, now, Failures::OfName)?;
        }
        let place = place.map(|place| (place, self.places.count(place, &self.limits, now)));
        let name = name.map(|name| (name.clone(), self.names.count(name, &self.limits, now)));
        Ok(Knock { at: now, counted: Counted::Apart { place, name } })
    }

    /// It was right.
    pub fn let_in(&mut self, knock: Knock, now: Timestamp) {
        let both = match &knock.counted {
            Counted::Known(place, name, _) => Some((*place, name.clone())),
            Counted::Apart { place: Some((place, _)), name: Some((name, _)) } => Some((*place, name.clone())),
            Counted::Apart { .. } => None,
        };
        self.withdraw(knock);
        if let Some(both) = both {
            self.known.put(both, Count { failures: 0, last: now }, self.limits.entries_max);
        }
    }

    /// It came to no answer, through no fault of who tried.
    pub fn withdraw(&mut self, knock: Knock) {
        match knock.counted {
            Counted::Known(place, name, before) => self.known.take_back(&(place, name), knock.at, before),
            Counted::Apart { place, name } => {
                if let Some((place, before)) = place {
                    self.places.take_back(&place, knock.at, before);
                }
                if let Some((name, before)) = name {
                    self.names.take_back(&name, knock.at, before);
                }
            }
        }
    }
}

fn place_of(from: IpAddr) -> Place {
    match from.to_canonical() {
        IpAddr::V4(own) => IpAddr::V4(own),
        IpAddr::V6(own) => IpAddr::V6(Ipv6Addr::from_bits(own.to_bits() & !u128::from(u64::MAX))),
    }
}

fn cut(name: &str) -> Name {
    let end = (0..=NAME_OCTETS_MAX.min(name.len())).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
    name[..end].into()
}

#[derive(Clone, Copy, Debug)]
struct Count {
    failures: u32,
    last: Timestamp,
}

#[derive(Debug)]
struct Table<K> {
    counts: BTreeMap<K, Count>,
    by_age: BTreeSet<(Timestamp, K)>,
}

impl<K> Default for Table<K> {
    fn default() -> Table<K> {
        Table { counts: BTreeMap::new(), by_age: BTreeSet::new() }
    }
}

impl<K: Ord + Clone> Table<K> {
    fn is_there(&self, key: &K, now: Timestamp, for_how_long: Duration) -> bool {
        self.counts.get(key).is_some_and(|count| now.since(count.last) < for_how_long)
    }

    fn may(&self, key: &K, free: u32, limits: &Limits, now: Timestamp, of: Failures) -> Result<(), Wait> {
        let Some(count) = self.counts.get(key) else { return Ok(()) };
        let until = count.last + wait(count.failures, free, limits);
        let forgotten = now.since(count.last) >= limits.forgotten_after;
        if forgotten || until <= now { Ok(()) } else { Err(Wait { until, of }) }
    }

    /// When it had failed before.
    fn count(&mut self, key: K, limits: &Limits, now: Timestamp) -> Option<Timestamp> {
        let before = self.counts.get(&key).copied();
        let remembered = before.filter(|count| now.since(count.last) < limits.forgotten_after);
        let failures = remembered.map_or(0, |count| count.failures).saturating_add(1);
        self.put(key, Count { failures, last: now }, limits.entries_max);
        before.map(|count| count.last)
    }

    fn take_back(&mut self, key: &K, at: Timestamp, before: Option<Timestamp>) {
        let Some(count) = self.counts.get(key).copied() else { return };
        let failures = count.failures.saturating_sub(1);
        // Others may have tried since; then theirs is the last.
        let last = if count.last == at { before.unwrap_or(at) } else { count.last };
        self.remove(key);
        if failures > 0 || before.is_some() {
            self.put(key.clone(), Count { failures, last }, usize::MAX);
        }
    }

    fn put(&mut self, key: K, count: Count, entries_max: usize) {
        self.remove(&key);
        self.by_age.insert((count.last, key.clone()));
        self.counts.insert(key, count);
        while self.counts.len() > entries_max {
            let Some((_, oldest)) = self.by_age.pop_first() else { break };
            self.counts.remove(&oldest);
        }
    }

    fn remove(&mut self, key: &K) {
        if let Some(count) = self.counts.remove(key) {
            self.by_age.remove(&(count.last, key.clone()));
        }
    }
}

/// Twice as long after every further failure.
fn wait(failures: u32, free: u32, limits: &Limits) -> Duration {
    let Some(further) = failures.checked_sub(free) else { return Duration::ZERO };
    let doubled = 1u32.checked_shl(further).and_then(|times| limits.wait_first.checked_mul(times));
    doubled.unwrap_or(limits.wait_max).min(limits.wait_max)
}

#[cfg(test)]
mod tests {
    use super::{Failures, Guard, Limits, Wait, in_words};
    use crate::time::Timestamp;
    use std::net::IpAddr;
    use std::time::Duration;

    #[test]
    fn a_wait_is_said_in_words_and_never_too_short() {
        for (millis, expected) in [
            (1, "1 second"),
            (1_000, "1 second"),
            (1_001, "2 seconds"),
            (99_000, "99 seconds"),
            (100_000, "2 minutes"),
            (900_000, "15 minutes"),
        ] {
            assert_eq!(in_words(Duration::from_millis(millis)), expected);
        }
    }

    const START: Timestamp = Timestamp(1_000_000_000_000);

    fn guard() -> Guard {
        Guard::new(Limits { name_failures_free: 3, address_failures_free: 6, entries_max: 8, ..Limits::default() })
    }

    fn v4(last: u8) -> Option<IpAddr> {
        Some([192, 0, 2, last].into())
    }

    /// Tries once, wrongly.
    fn fail(guard: &mut Guard, from: Option<IpAddr>, name: &str, now: Timestamp) -> Result<(), Wait> {
        guard.knock(from, Some(name), now).map(|_counted| ())
    }

    // G5: slowed by name, from however many addresses.
    #[test]
    fn the_waits_of_a_name_double_up_to_a_limit_and_are_forgotten_after_a_day() {
        let (mut guard, mut now, mut waits) = (guard(), START, Vec::new());
        for at in 0..16 {
            let from = v4(at);
            if let Err(wait) = fail(&mut guard, from, "ann", now) {
                assert_eq!(wait.of, Failures::OfName);
                waits.push(wait.until.since(now).as_secs());
                // A moment before, it is still so; trying in vain adds nothing.
                assert_eq!(fail(&mut guard, from, "ann", wait.until - Duration::from_micros(1)), Err(wait));
                now = wait.until;
                assert_eq!(fail(&mut guard, from, "ann", now), Ok(()));
            }
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900]);
        assert!(fail(&mut guard, v4(99), "ann", now).is_err());
        assert_eq!(fail(&mut guard, v4(99), "ann", now + Duration::from_secs(86_400)), Ok(()));
        assert_eq!(fail(&mut guard, v4(99), "ann", now + Duration::from_secs(86_400)), Ok(()), "it begins anew");
    }

    // G5: slowed by address, with however many names; a /64 is one address, and an IPv4 address in IPv6 clothes is itself.
    #[test]
    fn an_address_is_slowed_whatever_names_it_tries_and_others_are_not() {
        let mut guard = guard();
        let mapped: Option<IpAddr> = "::ffff:192.0.2.1".parse().ok();
        for at in 0..6 {
            assert_eq!(fail(&mut guard, if at % 2 == 0 { v4(1) } else { mapped }, &format!("n{at}"), START), Ok(()));
        }
        assert_eq!(fail(&mut guard, v4(1), "ann", START).map_err(|wait| wait.of), Err(Failures::OfAddress));
        assert_eq!(fail(&mut guard, v4(2), "ann", START), Ok(()));
        for at in 0..6u16 {
            let from = Some(IpAddr::from([0x2001, 0xdb8, 0, 1, at, 2, 3, 4]));
            assert_eq!(fail(&mut guard, from, &format!("m{at}"), START), Ok(()));
        }
        let (same, next) =
            (IpAddr::from([0x2001, 0xdb8, 0, 1, 9, 9, 9, 9]), IpAddr::from([0x2001, 0xdb8, 0, 2, 0, 0, 0, 1]));
        assert!(fail(&mut guard, Some(same), "bob", START).is_err());
        assert_eq!(fail(&mut guard, Some(next), "bob", START), Ok(()));
    }

    // G5: tries that run side by side are no way around.
    #[test]
    fn what_is_under_way_is_counted_and_taken_back_when_it_was_right() {
        let mut guard = guard();
        let under_way: Vec<_> = (0..3).map(|_| guard.knock(v4(1), Some("ann"), START)).collect();
        assert!(under_way.iter().all(Result::is_ok));
        assert!(guard.knock(v4(1), Some("ann"), START).is_err());
        for knock in under_way.into_iter().flatten() {
            guard.withdraw(knock);
        }
        for _ in 0..100 {
            let Ok(knock) = guard.knock(v4(1), Some("ann"), START) else { panic!("nothing failed") };
            guard.let_in(knock, START);
        }
    }

    // G5: others unaffected, and not even who is attacked, where it was right before.
    #[test]
    fn who_was_right_here_is_held_up_by_no_other_and_clears_the_way_for_none() {
        let mut guard = guard();
        let Ok(knock) = guard.knock(v4(1), Some("ann"), START) else { panic!("nothing failed") };
        guard.let_in(knock, START);
        // The name is guessed from elsewhere, and the address guesses other names.
        for at in 0..20 {
            let _ = fail(&mut guard, v4(9), "ann", START);
            let _ = fail(&mut guard, v4(1), &format!("n{at}"), START);
        }
        assert!(fail(&mut guard, v4(9), "ann", START).is_err() && fail(&mut guard, v4(1), "bob", START).is_err());
        let Ok(knock) = guard.knock(v4(1), Some("ann"), START) else { panic!("others failed, not this one") };
        guard.let_in(knock, START);
        assert!(fail(&mut guard, v4(9), "ann", START).is_err(), "success here frees nobody there");
        // Guessing from a known place is slowed like any other.
        let tries = (0..10).filter(|_| fail(&mut guard, v4(1), "ann", START).is_ok()).count();
        assert_eq!(tries, 3);
        // Long unseen, it is as unknown as any.
        let later = START + Duration::from_secs(31 * 86_400);
        assert_eq!(fail(&mut guard, v4(1), "ann", later), Ok(()));
    }

    #[test]
    fn memory_is_bounded_the_oldest_go_and_long_names_are_cut() {
        let mut guard = guard();
        for at in 0..200u8 {
            let now = START + Duration::from_secs(at.into());
            let name = format!("{at}{}", "ä".repeat(1_000));
            let Ok(knock) = guard.knock(v4(at), Some(&name), now) else { panic!("each is new") };
            if at % 2 == 0 {
                guard.let_in(knock, now);
            }
        }
        for (counts, ages) in [
            (guard.places.counts.len(), guard.places.by_age.len()),
            (guard.names.counts.len(), guard.names.by_age.len()),
            (guard.known.counts.len(), guard.known.by_age.len()),
        ] {
            assert!(counts <= 8 && counts == ages, "{counts} {ages}");
        }
        assert!(guard.names.counts.keys().all(|name| name.len() <= 256));
        assert!(guard.places.counts.keys().any(|place| Some(*place) == v4(199)), "the newest stay");
    }
}
