//! Is the domain shown to be the account's, and when is that looked at again?
//!
//! Plain decisions: what was so far and what a check saw go in, with the time; what is now comes out.

use engine::time::Timestamp;
use std::time::Duration;

/// How long the proof must be gone, in the answer of every check in a row, before the domain stops being verified. A DNS host that
/// is changed, or loses its zone over a weekend, must not stop an account's mail.
pub const GONE_MAX: Duration = Duration::from_secs(72 * HOUR);

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// While something is waited for: up to this age, so often. Who publishes records looks at once whether they are seen, and the
/// DNS remembers what is not there for minutes.
const WAITING: [(u64, u64); 5] =
    [(15 * MINUTE, MINUTE), (2 * HOUR, 5 * MINUTE), (DAY, 30 * MINUTE), (3 * DAY, 2 * HOUR), (14 * DAY, 12 * HOUR)];
/// Nobody is at work on it any more.
const FORGOTTEN: u64 = 7 * DAY;
const VERIFIED: u64 = DAY;
/// Often enough that 72 hours are many answers, from a DNS that was asked at all times of the day.
const GONE: u64 = 4 * HOUR;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifiedBy {
    Dns,
    /// Who runs the installation vouches for it; checks decide nothing.
    Operator,
}

impl VerifiedBy {
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            VerifiedBy::Dns => "dns",
            VerifiedBy::Operator => "operator",
        }
    }

    pub(crate) fn of(code: &str) -> VerifiedBy {
        if code == "operator" { VerifiedBy::Operator } else { VerifiedBy::Dns }
    }
}

/// What is known of a domain's being the account's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    pub verified: Option<(Timestamp, VerifiedBy)>,
    /// Since when each check in a row has found the proof gone.
    pub gone_since: Option<Timestamp>,
    /// When it stopped being verified.
    pub lost_at: Option<Timestamp>,
}

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The proof is there, and so is a key that mail can be signed with.
    Whole,
    /// The proof is there.
    Proof,
    /// The DNS answers, without the proof.
    Gone,
    /// Nothing can be said.
    Unanswered,
}

/// How it stands, for a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Pending,
    Verified,
    /// Verified, but the proof is gone; on `until` it is not verified any more.
    Losing {
        since: Timestamp,
        until: Timestamp,
    },
    Lost {
        at: Timestamp,
    },
}

impl State {
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Verified => "verified",
            State::Losing { .. } => "losing",
            State::Lost { .. } => "lost",
        }
    }
}

impl Proof {
    #[must_use]
    pub fn state(&self) -> State {
        match (self.verified, self.gone_since, self.lost_at) {
            (Some(_), Some(since), _) => State::Losing { since, until: since + GONE_MAX },
            (Some(_), None, _) => State::Verified,
            (None, _, Some(at)) => State::Lost { at },
            (None, _, None) => State::Pending,
        }
    }

    /// R1.4: to become verified takes the proof and a key to sign with; to stay so, the proof. An answer that does not come says
    /// nothing, so the 72 hours begin anew: mail is stopped for what is known, never for what is not.
    #[must_use]
    pub fn after(self, seen: Seen, now: Timestamp) -> Proof {
        match (self.verified, seen) {
            (Some((_, VerifiedBy::Operator)), _) => self,
            (None, Seen::Whole) => Proof { verified: Some((now, VerifiedBy::Dns)), gone_since: None, lost_at: None },
            (None, _) => self,
            (Some(_), Seen::Whole | Seen::Proof | Seen::Unanswered) => Proof { gone_since: None, ..self },
            (Some(_), Seen::Gone) => {
                let since = self.gone_since.unwrap_or(now);
                if now >= since + GONE_MAX {
                    Proof { verified: None, gone_since: None, lost_at: Some(now) }
                } else {
                    Proof { gone_since: Some(since), ..self }
                }
            }
        }
    }
}

/// When to look again. `waiting_since`: when the youngest of what is not there yet was asked for.
#[must_use]
pub fn check_again(proof: &Proof, waiting_since: Option<Timestamp>, now: Timestamp) -> Timestamp {
    let waiting = waiting_since.map(|since| {
        let age = now.since(since).as_secs();
        WAITING.iter().find(|(until, _)| age < *until).map_or(FORGOTTEN, |(_, every)| *every)
    });
    let verified = proof.verified.map(|_| if proof.gone_since.is_some() { GONE } else { VERIFIED });
    now + Duration::from_secs(waiting.into_iter().chain(verified).min().unwrap_or(FORGOTTEN))
}

#[cfg(test)]
mod tests {
    use super::{DAY, GONE_MAX, HOUR, MINUTE, Proof, Seen, State, VerifiedBy, check_again};
    use engine::time::Timestamp;
    use std::time::Duration;

    const NOW: Timestamp = Timestamp(1_793_491_200_000_000);

    fn later(seconds: u64) -> Timestamp {
        NOW + Duration::from_secs(seconds)
    }

    fn verified() -> Proof {
        Proof { verified: Some((NOW, VerifiedBy::Dns)), ..Proof::default() }
    }

    // R1.4
    #[test]
    fn a_domain_is_verified_by_the_proof_and_a_key_and_by_nothing_less() {
        for seen in [Seen::Proof, Seen::Gone, Seen::Unanswered] {
            assert_eq!(Proof::default().after(seen, NOW), Proof::default());
        }
        assert_eq!(Proof::default().after(Seen::Whole, NOW), verified());
    }

    #[test]
    fn it_is_lost_when_every_answer_of_72_hours_says_so() {
        let hours = |hours: u64| later(hours * HOUR);
        let mut proof = verified();
        for at in (0..72).step_by(4) {
            proof = proof.after(Seen::Gone, hours(at));
            assert_eq!(proof.state(), State::Losing { since: NOW, until: NOW + GONE_MAX }, "hour {at}");
        }
        let lost = proof.after(Seen::Gone, hours(72));
        assert_eq!(lost.state(), State::Lost { at: hours(72) });
        assert_eq!(lost.after(Seen::Proof, hours(73)), lost);
        assert_eq!(lost.after(Seen::Whole, hours(73)).state(), State::Verified);
        // One that came back, or one answer that did not come, and the hours begin anew.
        for seen in [Seen::Proof, Seen::Whole, Seen::Unanswered] {
            let again = proof.after(seen, hours(70));
            assert_eq!(again, verified());
            assert_eq!(again.after(Seen::Gone, hours(72)).after(Seen::Gone, hours(143)).state().code(), "losing");
            assert_eq!(again.after(Seen::Gone, hours(72)).after(Seen::Gone, hours(144)).state().code(), "lost");
        }
    }

    #[test]
    fn what_the_operator_vouches_for_no_check_takes_away() {
        let vouched = Proof { verified: Some((NOW, VerifiedBy::Operator)), ..Proof::default() };
        for seen in [Seen::Gone, Seen::Unanswered, Seen::Proof, Seen::Whole] {
            assert_eq!(vouched.after(Seen::Gone, NOW).after(seen, later(90 * DAY)), vouched);
        }
    }

    #[test]
    fn what_is_waited_for_is_looked_at_often_at_first_and_what_is_verified_every_day() {
        let every = |proof: &Proof, age: Option<u64>| {
            check_again(proof, age.map(|_| NOW), later(age.unwrap_or(0))).since(later(age.unwrap_or(0))).as_secs()
        };
        let pending = Proof::default();
        let mut before = 0;
        for age in [0, 20 * MINUTE, 5 * HOUR, 2 * DAY, 10 * DAY, 20 * DAY] {
            let now = every(&pending, Some(age));
            assert!(now > before, "{age} s old: looked at every {now} s");
            before = now;
        }
        assert_eq!(every(&pending, Some(0)), MINUTE);
        assert_eq!(every(&verified(), None), DAY);
        // A key that waits is looked for often; one that is never published does not keep the rest from being looked at.
        assert_eq!(every(&verified(), Some(0)), MINUTE);
        assert_eq!(every(&verified(), Some(20 * DAY)), DAY);
        let losing = verified().after(Seen::Gone, NOW);
        assert_eq!(every(&losing, None), 4 * HOUR);
        assert_eq!(every(&Proof { lost_at: Some(NOW), ..Proof::default() }, Some(30 * DAY)), 7 * DAY);
    }
}
