//! How often may somebody fail to sign in at one kind of door? (G5)
//!
//! The decision is `engine::guard`'s. A name with a password is asked for before it is looked at: some are short and chosen by people. An
//! address that has failed too often is not listened to, but for the names that were right there before; a name that others guess is
//! still let in with its password, from an address that has not failed itself. A key is as long as a key can be: it is looked at first,
//! and only wrong ones are counted, because behind a proxy all callers have one address.

use crate::refusal::{Kind, Refusal};
use engine::guard::{Failures, Guard, Knock, Limits, Wait};
use engine::tally::{Lines, Tally};
use engine::time::Timestamp;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is remembered of a name; longer than any that is right.
const NAME_OCTETS_MAX: usize = 128;

pub struct Guarded {
    guard: Mutex<Guard>,
    failed: Mutex<Tally>,
}

impl Default for Guarded {
    fn default() -> Guarded {
        Guarded { guard: Mutex::new(Guard::new(Limits::default())), failed: Mutex::default() }
    }
}

impl Guarded {
    /// By name and password; `look` tells whether they are right.
    pub fn name(
        &self,
        from: IpAddr,
        name: &str,
        now: Timestamp,
        look: impl FnOnce() -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let looked = self.look(from, name, now, look);
        // Turned away without being looked at is a try as well.
        if looked.as_ref().is_err_and(|refusal| matches!(refusal.kind, Kind::WrongSecret | Kind::Busy)) {
            lock(&self.failed).note(Some(cut(name)), Some(from), now);
        }
        looked
    }

    fn look(
        &self,
        from: IpAddr,
        name: &str,
        now: Timestamp,
        look: impl FnOnce() -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let (knock, of_name) = self.knock(from, name, now).map_err(|wait| too_many(wait, now))?;
        let looked = look();
        match (&looked, of_name) {
            (Err(refusal), None) if refusal.kind == Kind::WrongSecret => {}
            (Err(refusal), Some(wait)) if refusal.kind == Kind::WrongSecret => return Err(too_many(wait, now)),
            (Ok(()), None) => self.guard().let_in(knock, now),
            // Right, or at least not wrong: run out, not from here.
            _ => self.guard().withdraw(knock),
        }
        looked
    }

    /// With the wait of the name, where only that is in the way: then the try counts for the address alone.
    fn knock(&self, from: IpAddr, name: &str, now: Timestamp) -> Result<(Knock, Option<Wait>), Wait> {
        let mut guard = self.guard();
        match guard.knock(Some(from), Some(name), now) {
            Ok(knock) => Ok((knock, None)),
            Err(wait) if wait.of == Failures::OfName => Ok((guard.knock(Some(from), None, now)?, Some(wait))),
            Err(wait) => Err(wait),
        }
    }

    /// A key was wrong; the refusal, where it was one too many.
    pub fn wrong_key(&self, from: IpAddr, now: Timestamp) -> Result<(), Refusal> {
        lock(&self.failed).note(None, Some(from), now);
        // Let go of without being taken back: it stays a failure.
        self.guard().knock(Some(from), None, now).map(|_| ()).map_err(|wait| too_many(wait, now))
    }

    /// Who failed, by the name they gave; told once, for the audit log.
    pub fn failed_so_far(&self, now: Timestamp) -> Lines {
        lock(&self.failed).due(now)
    }

    /// The same, however young, because the house closes.
    pub fn failed_at_last(&self) -> Lines {
        lock(&self.failed).all()
    }

    /// They could not be written down: they are told again.
    pub fn put_back(&self, lines: Lines) {
        lock(&self.failed).put_back(lines);
    }

    fn guard(&self) -> MutexGuard<'_, Guard> {
        lock(&self.guard)
    }
}

/// Counts stay usable whatever happened to who held them.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Names come from whoever likes to send them.
fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(NAME_OCTETS_MAX)]
}

fn too_many(wait: Wait, now: Timestamp) -> Refusal {
    let refusal = Refusal::new(Kind::Busy, "too_many_failures", (4, 7, 0), wait.sentence(), wait.mend(now));
    Refusal { wait: Some(wait.until.since(now)), ..refusal }
}

#[cfg(test)]
mod tests {
    use super::Guarded;
    use crate::refusal::{Kind, Refusal};
    use engine::time::Timestamp;
    use std::net::IpAddr;
    use std::time::Duration;

    const NOW: Timestamp = Timestamp(1_800_000_000_000_000);

    fn wrong() -> Result<(), Refusal> {
        Err(Refusal::new(Kind::WrongSecret, "credentials_invalid", (5, 7, 8), "Wrong.", ""))
    }

    fn at(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn code(answer: Result<(), Refusal>) -> &'static str {
        answer.err().map_or("in", |refusal| refusal.code)
    }

    // G5: who guesses is not listened to, and nobody else waits for it.
    #[test]
    fn guessing_one_name_stops_who_guesses_and_not_who_knows() {
        let door = Guarded::default();
        assert_eq!(code(door.name(at(3), "app", NOW, || Ok(()))), "in");
        for _ in 0..5 {
            assert_eq!(code(door.name(at(1), "app", NOW, wrong)), "credentials_invalid");
        }
        for _ in 0..15 {
            assert_eq!(code(door.name(at(1), "app", NOW, wrong)), "too_many_failures");
        }
        // The address has failed so often by now that nothing is looked at any more, the right password neither.
        assert_eq!(code(door.name(at(1), "app", NOW, || Ok(()))), "too_many_failures");
        assert_eq!(code(door.name(at(1), "other", NOW, || Ok(()))), "too_many_failures");
        assert_eq!(code(door.name(at(2), "app", NOW, || Ok(()))), "in", "from an address that has not failed");
        assert_eq!(code(door.name(at(3), "app", NOW, || Ok(()))), "in", "where it is known");
        let later = NOW + Duration::from_secs(16 * 60);
        assert_eq!(code(door.name(at(1), "app", later, || Ok(()))), "in", "it is over some day");
    }

    #[test]
    fn who_is_known_at_an_address_is_let_in_beside_those_who_guess_there() {
        let door = Guarded::default();
        assert_eq!(code(door.name(at(1), "app", NOW, || Ok(()))), "in");
        for number in 0..40 {
            assert_ne!(code(door.name(at(1), &format!("guess{number}"), NOW, wrong)), "in");
        }
        assert_eq!(code(door.name(at(1), "new", NOW, || Ok(()))), "too_many_failures");
        assert_eq!(code(door.name(at(1), "app", NOW, || Ok(()))), "in");
    }

    #[test]
    fn what_is_right_and_not_good_is_no_guess() {
        let door = Guarded::default();
        let expired = || Err(Refusal::new(Kind::Unknown, "credential_expired", (5, 7, 8), "Over.", ""));
        for _ in 0..100 {
            assert_eq!(code(door.name(at(1), "app", NOW, expired)), "credential_expired");
        }
        assert_eq!(door.failed_so_far(NOW + Duration::from_secs(60)), []);
    }

    // G5, R7.6: also those that were not looked at any more; and keys, which have no name.
    #[test]
    fn who_failed_is_told_once_for_the_audit_log() {
        let door = Guarded::default();
        for _ in 0..7 {
            assert_ne!(code(door.name(at(1), "app", NOW, wrong)), "in");
        }
        assert_eq!(code(door.wrong_key(at(2), NOW)), "in");
        let long = "ü".repeat(1_000);
        assert_ne!(code(door.name(at(1), &long, NOW, wrong)), "in");
        let told = door.failed_so_far(NOW + Duration::from_secs(60));
        let named: Vec<_> = told.iter().map(|(name, failed)| (name.as_deref(), failed.times)).collect();
        assert_eq!(named, [(None, 1), (Some("app"), 7), (Some("ü".repeat(64).as_str()), 1)]);
        assert_eq!(door.failed_so_far(NOW + Duration::from_secs(600)), []);
    }

    #[test]
    fn wrong_keys_are_turned_away_with_the_time_to_wait() {
        let door = Guarded::default();
        for _ in 0..20 {
            assert_eq!(code(door.wrong_key(at(1), NOW)), "in");
        }
        let refusal = door.wrong_key(at(1), NOW).err();
        assert_eq!(refusal.as_ref().and_then(|refusal| refusal.wait), Some(Duration::from_secs(1)));
        assert_eq!(refusal.map(|refusal| refusal.to_reply().code), Some(454));
        assert_eq!(code(door.wrong_key(at(2), NOW)), "in");
    }
}
