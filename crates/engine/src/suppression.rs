//! To whom is nothing sent any more? (R5.5)
//!
//! An index of digests, not of addresses: see `digests`.

use crate::digests::{Digest, Digests};
use crate::time::Timestamp;
use mail::address::Mailbox;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Expiry is kept to the minute, from here on: 2020-01-01.
const EPOCH_S: i64 = 1_577_836_800;
const REASON_BITS: u32 = 3;

/// Why somebody is written to no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    Bounce,
    Complaint,
    Unsubscribe,
    Manual,
}

pub const REASONS: [Reason; 4] = [Reason::Bounce, Reason::Complaint, Reason::Unsubscribe, Reason::Manual];

impl Reason {
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Reason::Bounce => "bounce",
            Reason::Complaint => "complaint",
            Reason::Unsubscribe => "unsubscribe",
            Reason::Manual => "manual",
        }
    }

    #[must_use]
    pub fn of(code: &str) -> Option<Reason> {
        REASONS.into_iter().find(|reason| reason.code() == code)
    }

    /// After “because”.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Reason::Bounce => "mail to it came back",
            Reason::Complaint => "it complained",
            Reason::Unsubscribe => "it unsubscribed",
            Reason::Manual => "somebody put it there",
        }
    }
}

/// The form in which an address is compared: how its letters are written makes no other mailbox at any provider.
#[must_use]
pub fn canonical(address: &Mailbox) -> String {
    format!("{}@{}", address.local().to_lowercase(), address.domain())
}

/// What is known of a listed address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    pub reason: Reason,
    /// To the minute.
    pub until: Option<Timestamp>,
}

impl Listed {
    /// Whether an entry that says this is replaced by what mail has shown since: a complaint weighs more than a bounce, and what was
    /// to end by itself does not end when it was right. What somebody has put there stays as it was put.
    #[must_use]
    pub fn yields_to(&self, reason: Reason) -> bool {
        self.reason != Reason::Manual
            && (self.until.is_some() || self.reason == Reason::Bounce && reason == Reason::Complaint)
    }

    /// In minutes and reason, as few octets hold it.
    fn said(self) -> u32 {
        // Nought is never; rounded up, so that nothing ends early.
        let minutes = self.until.map_or(0, |until| {
            let seconds = until.0.div_euclid(1_000_000) - EPOCH_S;
            u32::try_from(seconds.div_euclid(60) + 1).unwrap_or(1).clamp(1, u32::MAX >> REASON_BITS)
        });
        minutes << REASON_BITS | self.reason as u32
    }

    fn of(said: u32) -> Listed {
        let reason = REASONS[(said & ((1 << REASON_BITS) - 1)) as usize % REASONS.len()];
        let minutes = said >> REASON_BITS;
        let at = |minutes: u32| Timestamp::from_unix_seconds(EPOCH_S) + Duration::from_secs(u64::from(minutes) * 60);
        Listed { reason, until: (minutes > 0).then(|| at(minutes)) }
    }
}

/// The list.
#[derive(Clone, Debug)]
pub struct Suppressed(Digests);

/// Whose entry, of which address, and where it is for a stream alone, of which.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub account: &'a str,
    /// In canonical form.
    pub address: &'a str,
    pub stream: Option<&'a str>,
}

impl Suppressed {
    #[must_use]
    pub fn empty(key: [u8; 16]) -> Suppressed {
        Suppressed(Digests::empty(key))
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the account has it on its list now, for all its mail or for this stream, for a reason that is heeded.
    #[must_use]
    pub fn find(
        &self,
        account: &str,
        address: &str,
        stream: &str,
        now: Timestamp,
        heeds: impl Fn(Reason) -> bool,
    ) -> Option<Listed> {
        let at = |words: &[&str]| {
            let listed = Listed::of(self.0.find(words)?);
            (heeds(listed.reason) && listed.until.is_none_or(|until| until > now)).then_some(listed)
        };
        at(&[account, address]).or_else(|| if stream.is_empty() { None } else { at(&[account, address, stream]) })
    }

    /// Puts entries on the list, or takes them off (`None`).
    pub fn change<'a>(&mut self, changes: impl IntoIterator<Item = (Place<'a>, Option<Listed>)>) {
        let changes: Vec<(Digest, Option<u32>)> =
            changes.into_iter().map(|(place, listed)| (self.digest(&place), listed.map(Listed::said))).collect();
        self.0.change(changes);
    }

    /// The whole, for the disk: the key is part of it.
    #[must_use]
    pub fn to_octets(&self) -> Vec<u8> {
        self.0.to_octets()
    }

    /// None: it was not written by `to_octets`.
    #[must_use]
    pub fn of_octets(octets: &[u8]) -> Option<Suppressed> {
        Digests::of_octets(octets).map(Suppressed)
    }

    fn digest(&self, place: &Place<'_>) -> Digest {
        match place.stream {
            Some(stream) => self.0.digest(&[place.account, place.address, stream]),
            None => self.0.digest(&[place.account, place.address]),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::{Listed, Place, Reason, Suppressed, canonical};
    use crate::time::Timestamp;
    use mail::address::Mailbox;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    const NOW: Timestamp = Timestamp(1_800_000_000_000_000);
    const BOUNCE: Option<Listed> = Some(Listed { reason: Reason::Bounce, until: None });

    fn place<'a>(account: &'a str, address: &'a str) -> Place<'a> {
        Place { account, address, stream: None }
    }

    // R5.5, R2.8: of one account, for all streams or for one, until it ends.
    #[test]
    fn what_is_listed_is_found_by_its_account_alone() {
        let mut list = Suppressed::empty([7; 16]);
        assert!(list.find("shop", "bob@b.test", "", NOW, |_| true).is_none() && list.is_empty());
        let until = NOW + Duration::from_secs(90);
        let ending = Some(Listed { reason: Reason::Complaint, until: Some(until) });
        let news = Place { stream: Some("news"), ..place("shop", "cy@c.test") };
        list.change([(place("shop", "bob@b.test"), BOUNCE), (news, ending)]);
        assert_eq!(list.len(), 2);
        assert_eq!(list.find("shop", "bob@b.test", "any", NOW, |_| true), BOUNCE);
        assert_eq!(list.find("other", "bob@b.test", "", NOW, |_| true), None);
        assert_eq!(list.find("sho", "pbob@b.test", "", NOW, |_| true), None);
        assert_eq!(list.find("shop", "cy@c.test", "news", NOW, |_| true).unwrap().reason, Reason::Complaint);
        assert_eq!(list.find("shop", "cy@c.test", "letters", NOW, |_| true), None);
        assert_eq!(list.find("shop", "cy@c.test", "", NOW, |_| true), None);
        // Not earlier than it was said, and not more than a minute later.
        assert!(list.find("shop", "cy@c.test", "news", until - Duration::from_secs(1), |_| true).is_some());
        assert!(list.find("shop", "cy@c.test", "news", until + Duration::from_secs(60), |_| true).is_none());
        let before = list.clone();
        list.change([(place("shop", "bob@b.test"), None), (place("shop", "nobody@b.test"), None)]);
        assert_eq!((list.len(), list.find("shop", "bob@b.test", "", NOW, |_| true)), (1, None));
        assert_eq!(before.find("shop", "bob@b.test", "", NOW, |_| true), BOUNCE, "who holds the list before keeps it");
    }

    #[test]
    fn letters_make_no_other_mailbox() {
        let canonical = |text: &str| canonical(&Mailbox::parse(text).unwrap());
        assert_eq!(canonical("Bob.SMITH@Example.TEST"), "bob.smith@example.test");
        assert_eq!(canonical("GRÜSSE@example.test"), "grüsse@example.test");
    }

    #[test]
    fn what_was_not_written_by_us_is_not_read() {
        let mut list = Suppressed::empty([7; 16]);
        list.change([(place("shop", "bob@b.test"), BOUNCE), (place("shop", "cy@c.test"), BOUNCE)]);
        let octets = list.to_octets();
        assert!(Suppressed::of_octets(&octets).is_some());
        assert!(Suppressed::of_octets(&octets[..octets.len() - 1]).is_none());
        assert!(Suppressed::of_octets(&octets[..15]).is_none());
        let twice = [&octets[..], &octets[16..]].concat();
        assert!(Suppressed::of_octets(&twice).is_none());
    }

    proptest! {
        // As a plain map would answer, after any changes and after a way over the disk.
        #[test]
        fn it_answers_as_a_map_does(steps in proptest::collection::vec(
            proptest::collection::vec((0u16..400, proptest::option::of(0usize..4)), 0..40), 0..20)) {
            let mut list = Suppressed::empty([3; 16]);
            let mut map = BTreeMap::new();
            for step in steps {
                let named: Vec<(String, Option<usize>)> =
                    step.into_iter().map(|(who, reason)| (format!("p{who}@x.test"), reason)).collect();
                list.change(named.iter().map(|(address, reason)| {
                    (place("a", address), reason.map(|at| Listed { reason: super::REASONS[at], until: None }))
                }));
                for (address, reason) in named {
                    match reason {
                        Some(at) => drop(map.insert(address, super::REASONS[at])),
                        None => drop(map.remove(&address)),
                    }
                }
            }
            let read = Suppressed::of_octets(&list.to_octets()).unwrap();
            for list in [&list, &read] {
                prop_assert_eq!(list.len(), map.len());
                for who in 0..400 {
                    let address = format!("p{who}@x.test");
                    let found = list.find("a", &address, "", NOW, |_| true).map(|listed| listed.reason);
                    prop_assert_eq!(found, map.get(&address).copied());
                }
            }
        }
    }
}
