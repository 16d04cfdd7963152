//! When has an address shown that it takes no mail? (R5.5)
//!
//! Some answers say it at once. Others say it only when they are heard again and again, of different messages, over some days, and
//! with nothing delivered in between. What is said about us (a block, our content, our signature) says nothing about an address.

use crate::classify::{Class, Subtype};
use crate::event::{Event, EventKind};
use crate::id::MessageId;
use crate::suppression::Reason;
use crate::time::Timestamp;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

/// What an event says of its recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// It is written to no more.
    Enough(Reason),
    /// It speaks against the address, alone not enough.
    Doubt(DoubtKind),
    /// It takes mail: all doubt is gone, unless the message comes back.
    Delivered,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DoubtKind {
    MailboxFull,
    /// A final no without a reason that is understood.
    Undetermined,
    /// The DNS does not know the domain.
    DomainUnknown,
}

impl DoubtKind {
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            DoubtKind::MailboxFull => "mailbox-full",
            DoubtKind::Undetermined => "undetermined",
            DoubtKind::DomainUnknown => "domain-unknown",
        }
    }

    #[must_use]
    pub fn of(code: &str) -> Option<DoubtKind> {
        [DoubtKind::MailboxFull, DoubtKind::Undetermined, DoubtKind::DomainUnknown]
            .into_iter()
            .find(|kind| kind.code() == code)
    }

    /// After this long without another word, nothing is remembered.
    pub const MEMORY: Duration = Duration::from_secs(60 * 86_400);

    fn rule(self) -> Rule {
        match self {
            DoubtKind::MailboxFull => Rule { messages: 3, span: 14 * DAY, memory: DoubtKind::MEMORY },
            DoubtKind::Undetermined => Rule { messages: 3, span: 7 * DAY, memory: DoubtKind::MEMORY },
            DoubtKind::DomainUnknown => Rule { messages: 2, span: 3 * DAY, memory: 30 * DAY },
        }
    }
}

/// So many different messages, the first and the last of them so far apart; forgotten after a silence.
struct Rule {
    messages: u32,
    span: Duration,
    memory: Duration,
}

#[must_use]
pub fn evidence(event: &Event) -> Option<Evidence> {
    match event.kind {
        EventKind::Delivered => Some(Evidence::Delivered),
        EventKind::Complained => Some(Evidence::Enough(Reason::Complaint)),
        EventKind::Unsubscribed => Some(Evidence::Enough(Reason::Unsubscribe)),
        EventKind::Bounced | EventKind::Returned | EventKind::Expired => of_meaning(event),
        _ => None,
    }
}

fn of_meaning(event: &Event) -> Option<Evidence> {
    let meaning = event.meaning.as_ref()?;
    // An expired message's last answer was one to try again, whatever its class: alone it never says enough.
    if event.kind == EventKind::Expired && meaning.subtype != Subtype::MailboxFull {
        return (meaning.class == Class::Hard).then_some(Evidence::Doubt(DoubtKind::Undetermined));
    }
    match (meaning.class, meaning.subtype) {
        (_, Subtype::MailboxFull) => Some(Evidence::Doubt(DoubtKind::MailboxFull)),
        // That a name is not there may be a mistake of a day; that a mailbox is not, the mailbox's own host says.
        (Class::Hard, Subtype::UnknownDomain) => Some(Evidence::Doubt(DoubtKind::DomainUnknown)),
        (Class::Hard, _) => Some(Evidence::Enough(Reason::Bounce)),
        (Class::Undetermined, _) => Some(Evidence::Doubt(DoubtKind::Undetermined)),
        _ => None,
    }
}

/// A delivered message that has not come back by then will not: queues give up within five days.
const COMES_BACK_WITHIN: Duration = Duration::from_secs(6 * 86_400);

/// What is remembered of an address in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doubt {
    pub kind: DoubtKind,
    pub messages: u32,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    pub last: MessageId,
    /// The first message that was delivered since then and has not come back, and when. Many hosts take everything and send it back later:
    /// only what stays delivered speaks for the address.
    pub delivered: Option<(MessageId, Timestamp)>,
}

impl Doubt {
    /// After a delivery; none: no doubt is left.
    #[must_use]
    pub fn delivered(self, message: MessageId, at: Timestamp) -> Option<Doubt> {
        match self.delivered {
            Some((_, before)) if at.since(before) >= COMES_BACK_WITHIN => None,
            Some(_) => Some(self),
            None => Some(Doubt { delivered: Some((message, at)), ..self }),
        }
    }

    /// As it is when this message comes back, or another one is refused.
    fn without(self, returned: MessageId, at: Timestamp) -> Option<Doubt> {
        match self.delivered {
            Some((message, _)) if message == returned => Some(Doubt { delivered: None, ..self }),
            Some((_, before)) if at.since(before) >= COMES_BACK_WITHIN => None,
            _ => Some(self),
        }
    }

    /// With one more word against it; whether that is enough.
    #[must_use]
    pub fn with(before: Option<Doubt>, kind: DoubtKind, message: MessageId, at: Timestamp) -> (Doubt, bool) {
        let rule = kind.rule();
        let before = before.and_then(|before| before.without(message, at));
        let before = before.filter(|before| before.kind == kind && at.since(before.last_at) < rule.memory);
        let doubt = match before {
            None => Doubt { kind, messages: 1, first_at: at, last_at: at, last: message, delivered: None },
            // The same message says nothing new.
            Some(before) if before.last == message => before,
            Some(before) => Doubt {
                messages: before.messages.saturating_add(1),
                last_at: before.last_at.max(at),
                last: message,
                ..before
            },
        };
        (doubt, doubt.messages >= rule.messages && doubt.last_at.since(doubt.first_at) >= rule.span)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::{DAY, Doubt, DoubtKind, Evidence, evidence};
    use crate::classify::{Class, Meaning, Subtype};
    use crate::event::{Event, EventKind};
    use crate::id::MessageId;
    use crate::suppression::Reason;
    use crate::time::Timestamp;

    const NOW: Timestamp = Timestamp(1_800_000_000_000_000);

    fn said(kind: EventKind, class: Class, subtype: Subtype) -> Option<Evidence> {
        evidence(&Event { meaning: Some(Meaning::own(class, subtype)), ..Event::new(NOW, kind) })
    }

    // R5.5: hard bounces and complaints; a block never.
    #[test]
    fn only_what_is_said_of_the_address_counts() {
        let enough = Some(Evidence::Enough(Reason::Bounce));
        assert_eq!(said(EventKind::Bounced, Class::Hard, Subtype::UnknownUser), enough);
        assert_eq!(said(EventKind::Returned, Class::Hard, Subtype::Inactive), enough);
        let doubt = |kind| Some(Evidence::Doubt(kind));
        assert_eq!(said(EventKind::Bounced, Class::Hard, Subtype::UnknownDomain), doubt(DoubtKind::DomainUnknown));
        assert_eq!(said(EventKind::Bounced, Class::Soft, Subtype::MailboxFull), doubt(DoubtKind::MailboxFull));
        assert_eq!(said(EventKind::Expired, Class::Soft, Subtype::MailboxFull), doubt(DoubtKind::MailboxFull));
        assert_eq!(said(EventKind::Bounced, Class::Undetermined, Subtype::General), doubt(DoubtKind::Undetermined));
        for (class, subtype) in [
            (Class::Block, Subtype::BlockList),
            (Class::Block, Subtype::SpamContent),
            (Class::Admin, Subtype::Authentication),
            (Class::Soft, Subtype::DnsFailure),
            (Class::Throttle, Subtype::IpRate),
        ] {
            assert_eq!(said(EventKind::Bounced, class, subtype), None, "{class:?} {subtype:?}");
        }
        let undetermined = doubt(DoubtKind::Undetermined);
        assert_eq!(said(EventKind::Expired, Class::Hard, Subtype::Expired), undetermined, "it was tried again");
        assert_eq!(said(EventKind::Expired, Class::Soft, Subtype::Expired), None);
        assert_eq!(said(EventKind::Deferred, Class::Hard, Subtype::UnknownUser), None, "it is still tried");
        let complaint = evidence(&Event::new(NOW, EventKind::Complained));
        assert_eq!(complaint, Some(Evidence::Enough(Reason::Complaint)));
    }

    // A host that takes every message and sends it back later is in doubt all the same; what stays delivered ends it.
    #[test]
    fn a_delivery_that_comes_back_ends_no_doubt() {
        let full = DoubtKind::MailboxFull;
        let mut doubt = None;
        let mut enough = false;
        for (message, day) in [(1, 0), (2, 8), (3, 15)] {
            doubt = doubt.and_then(|doubt: Doubt| doubt.delivered(MessageId(message), NOW + day * DAY));
            let (now, is_enough) = Doubt::with(doubt, full, MessageId(message), NOW + day * DAY + DAY);
            (doubt, enough) = (Some(now), is_enough);
        }
        assert!(enough, "{doubt:?}");
        let (first, _) = Doubt::with(None, full, MessageId(1), NOW);
        let taken = first.delivered(MessageId(2), NOW + DAY).unwrap();
        let again = taken.delivered(MessageId(3), NOW + 2 * DAY).unwrap();
        assert_eq!(again.delivered, Some((MessageId(2), NOW + DAY)), "the first one has waited longest");
        assert_eq!(again.delivered(MessageId(4), NOW + 7 * DAY), None, "it stayed delivered");
        let (anew, _) = Doubt::with(Some(again), full, MessageId(5), NOW + 7 * DAY);
        assert_eq!((anew.messages, anew.delivered), (1, None));
        let (more, _) = Doubt::with(Some(again), full, MessageId(5), NOW + 3 * DAY);
        assert_eq!((more.messages, more.delivered), (2, again.delivered), "it is too soon to know");
    }

    #[test]
    fn doubt_needs_messages_and_days() {
        let mut doubt = None;
        let mut heard = |message: u128, day: u32| {
            let (now, enough) = Doubt::with(doubt, DoubtKind::MailboxFull, MessageId(message), NOW + day * DAY);
            doubt = Some(now);
            enough
        };
        assert!(!heard(1, 0) && !heard(2, 1) && !heard(3, 2) && !heard(4, 13), "all within two weeks");
        assert!(heard(5, 14));
        let mut doubt = None;
        let mut heard = |message: u128, day: u32| {
            let (now, enough) = Doubt::with(doubt, DoubtKind::Undetermined, MessageId(message), NOW + day * DAY);
            doubt = Some(now);
            enough
        };
        assert!(!heard(1, 0) && !heard(1, 8) && !heard(2, 9), "one message said it twice");
        assert!(!heard(3, 80), "after a long silence it begins anew");
        assert!(!heard(4, 86) && heard(5, 87));
    }
}
