//! What do the services that people come from call what a reply means?
//!
//! Their words are fewer than ours, so each of ours has one there: SparkPost's bounce class, and from it the bounce type of Amazon SES,
//! whose words are Resend's too. Programs suppress an address for the words that say “hard” or “permanent”, so a reply that is
//! about us has none of those; but relaying, where the host that the domain names takes no mail for it.
//!
//! Not here is what has no meaning but an event of its own: an automatic answer (SparkPost's 60), an unsubscription (90), a recipient
//! that is on the suppression list. Nor is SES's CustomTimeoutExceeded: a meaning does not know who chose the lifetime.

use crate::classify::{Class, Meaning, Subtype};
use mail::report::FeedbackKind;

/// SparkPost's bounce classes, as far as a reply can mean them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BounceClass {
    Undetermined,
    InvalidRecipient,
    SoftBounce,
    DnsFailure,
    MailboxFull,
    TooLarge,
    Timeout,
    AdminFailure,
    NoRecipient,
    MailBlock,
    SpamBlock,
    SpamContent,
    ProhibitedAttachment,
    RelayingDenied,
    TransientFailure,
}

/// How SES and Resend call a bounce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BounceType {
    pub kind: &'static str,
    pub subtype: &'static str,
}

impl BounceClass {
    #[must_use]
    pub fn of(meaning: &Meaning) -> BounceClass {
        match (meaning.class, meaning.subtype) {
            (_, Subtype::MailboxFull) => BounceClass::MailboxFull,
            // What was tried until its end may have meant anything, and nothing for certain.
            (_, Subtype::Timeout | Subtype::Expired) => BounceClass::Timeout,
            (Class::Hard, Subtype::UnknownUser | Subtype::UnknownDomain | Subtype::Inactive) => {
                BounceClass::InvalidRecipient
            }
            (Class::Hard, _) => BounceClass::NoRecipient,
            // Where a remote refuses our set-up, it blocks us; this one is our own no.
            (Class::Admin, _) if meaning.is_own() => BounceClass::AdminFailure,
            (_, Subtype::TooLarge) => BounceClass::TooLarge,
            (_, Subtype::DnsFailure | Subtype::UnknownDomain) => BounceClass::DnsFailure,
            (_, Subtype::SpamContent | Subtype::LinkReputation) => BounceClass::SpamContent,
            (_, Subtype::Attachment) => BounceClass::ProhibitedAttachment,
            (_, Subtype::Relaying) => BounceClass::RelayingDenied,
            (_, Subtype::BlockList | Subtype::IpReputation | Subtype::DomainReputation) => BounceClass::SpamBlock,
            (Class::Block | Class::Admin, _) => BounceClass::MailBlock,
            (Class::Undetermined, _) => BounceClass::Undetermined,
            (Class::Throttle, _) => BounceClass::TransientFailure,
            (
                Class::Soft,
                Subtype::Transient
                | Subtype::Greylisted
                | Subtype::Overload
                | Subtype::SystemFull
                | Subtype::Connections
                | Subtype::SessionLength
                | Subtype::TooManyRecipients
                | Subtype::RecipientRate,
            ) => BounceClass::TransientFailure,
            (Class::Soft, _) => BounceClass::SoftBounce,
        }
    }

    #[must_use]
    pub fn code(self) -> u16 {
        self.row().0
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().1
    }

    #[must_use]
    pub fn category(self) -> &'static str {
        self.row().2
    }

    fn row(self) -> (u16, &'static str, &'static str) {
        match self {
            BounceClass::Undetermined => (1, "Undetermined", "Undetermined"),
            BounceClass::InvalidRecipient => (10, "Invalid Recipient", "Hard"),
            BounceClass::SoftBounce => (20, "Soft Bounce", "Soft"),
            BounceClass::DnsFailure => (21, "DNS Failure", "Soft"),
            BounceClass::MailboxFull => (22, "Mailbox Full", "Soft"),
            BounceClass::TooLarge => (23, "Too Large", "Soft"),
            BounceClass::Timeout => (24, "Timeout", "Soft"),
            BounceClass::AdminFailure => (25, "Admin Failure", "Admin"),
            BounceClass::NoRecipient => (30, "No RCPT", "Hard"),
            BounceClass::MailBlock => (50, "Mail Block", "Block"),
            BounceClass::SpamBlock => (51, "Spam Block", "Block"),
            BounceClass::SpamContent => (52, "Spam Content", "Block"),
            BounceClass::ProhibitedAttachment => (53, "Prohibited Attachment", "Block"),
            BounceClass::RelayingDenied => (54, "Relaying Denied", "Block"),
            BounceClass::TransientFailure => (70, "Transient Failure", "Soft"),
        }
    }
}

/// What SES calls a bounce that means this.
#[must_use]
pub fn ses(meaning: &Meaning) -> BounceType {
    let (kind, subtype) = match BounceClass::of(meaning) {
        BounceClass::Undetermined => ("Undetermined", "Undetermined"),
        BounceClass::InvalidRecipient => ("Permanent", "NoEmail"),
        BounceClass::NoRecipient | BounceClass::RelayingDenied => ("Permanent", "General"),
        BounceClass::MailboxFull => ("Transient", "MailboxFull"),
        BounceClass::TooLarge => ("Transient", "MessageTooLarge"),
        BounceClass::SpamContent => ("Transient", "ContentRejected"),
        BounceClass::ProhibitedAttachment => ("Transient", "AttachmentRejected"),
        BounceClass::SoftBounce
        | BounceClass::DnsFailure
        | BounceClass::Timeout
        | BounceClass::AdminFailure
        | BounceClass::MailBlock
        | BounceClass::SpamBlock
        | BounceClass::TransientFailure => ("Transient", "General"),
    };
    BounceType { kind, subtype }
}

/// What Resend calls it: all that SES calls it is a word of Resend's too.
#[must_use]
pub fn resend(meaning: &Meaning) -> BounceType {
    ses(meaning)
}

/// SES's `delayType`, while the message is still tried.
#[must_use]
pub fn ses_delay(meaning: &Meaning) -> &'static str {
    match meaning.subtype {
        Subtype::MailboxFull => "MailboxFull",
        Subtype::SpamContent | Subtype::LinkReputation | Subtype::Attachment => "SpamDetected",
        Subtype::IpRate | Subtype::IpReputation | Subtype::NetblockRate | Subtype::BlockList | Subtype::Connections => {
            "IPFailure"
        }
        Subtype::ReverseDns => "BYOIPHostNameLookupUnavailable",
        Subtype::Connection | Subtype::Timeout | Subtype::DnsFailure | Subtype::UnknownDomain => {
            "TransientCommunicationFailure"
        }
        Subtype::Transient | Subtype::Greylisted | Subtype::Overload | Subtype::SystemFull => "RecipientServerError",
        Subtype::Own => "InternalFailure",
        _ if meaning.class == Class::Undetermined => "Undetermined",
        _ => "General",
    }
}

/// SES's `complaintFeedbackType`; none for what is no complaint there: the word of those who want no more of it.
#[must_use]
pub fn ses_feedback(kind: FeedbackKind) -> Option<&'static str> {
    (kind != FeedbackKind::OptOut).then(|| kind.code())
}

#[cfg(test)]
mod tests {
    use super::{BounceClass, ses, ses_delay, ses_feedback};
    use crate::classify::{Class, Meaning, Subtype};
    use mail::report::FeedbackKind;
    use std::sync::Arc;

    const CLASSES: [Class; 6] =
        [Class::Hard, Class::Soft, Class::Block, Class::Admin, Class::Undetermined, Class::Throttle];
    const SUBTYPES: [Subtype; 37] = [
        Subtype::General,
        Subtype::UnknownUser,
        Subtype::UnknownDomain,
        Subtype::Inactive,
        Subtype::MailboxFull,
        Subtype::TooLarge,
        Subtype::TooManyRecipients,
        Subtype::Greylisted,
        Subtype::IpRate,
        Subtype::IpReputation,
        Subtype::NetblockRate,
        Subtype::DomainRate,
        Subtype::DomainReputation,
        Subtype::RecipientRate,
        Subtype::LinkReputation,
        Subtype::Connections,
        Subtype::SessionLength,
        Subtype::Overload,
        Subtype::BlockList,
        Subtype::SpamContent,
        Subtype::Attachment,
        Subtype::DuplicateMessageId,
        Subtype::Authentication,
        Subtype::ReverseDns,
        Subtype::TlsNeeded,
        Subtype::Policy,
        Subtype::Relaying,
        Subtype::DnsFailure,
        Subtype::Timeout,
        Subtype::Connection,
        Subtype::Protocol,
        Subtype::SenderAddress,
        Subtype::Loop,
        Subtype::Expired,
        Subtype::SystemFull,
        Subtype::Transient,
        Subtype::Own,
    ];

    fn said(class: Class, subtype: Subtype) -> Meaning {
        Meaning { class, subtype, rule: Arc::from("a-rule") }
    }

    // R5.3: whatever a rule file may say has a word in each vocabulary, and none that does harm.
    #[test]
    fn every_meaning_has_a_word_everywhere_and_a_hard_one_only_where_the_address_is_at_fault() {
        const TYPES: [(&str, &str); 8] = [
            ("Undetermined", "Undetermined"),
            ("Permanent", "General"),
            ("Permanent", "NoEmail"),
            ("Transient", "General"),
            ("Transient", "MailboxFull"),
            ("Transient", "MessageTooLarge"),
            ("Transient", "ContentRejected"),
            ("Transient", "AttachmentRejected"),
        ];
        const DELAYS: [&str; 9] = [
            "InternalFailure",
            "General",
            "MailboxFull",
            "SpamDetected",
            "RecipientServerError",
            "IPFailure",
            "TransientCommunicationFailure",
            "BYOIPHostNameLookupUnavailable",
            "Undetermined",
        ];
        assert!(
            SUBTYPES.iter().enumerate().all(|(place, subtype)| *subtype as usize == place)
                && Subtype::Own as usize + 1 == SUBTYPES.len(),
            "a new word stands in this list too"
        );
        for (class, subtype) in CLASSES.into_iter().flat_map(|class| SUBTYPES.map(|subtype| (class, subtype))) {
            for meaning in [said(class, subtype), Meaning::own(class, subtype)] {
                let (theirs, bounce) = (BounceClass::of(&meaning), ses(&meaning));
                let what = format!("{meaning:?}: {theirs:?}, {bounce:?}");
                assert!(TYPES.contains(&(bounce.kind, bounce.subtype)), "{what}");
                assert!(DELAYS.contains(&ses_delay(&meaning)), "{what}");
                // What may clear up by itself is no fault of the address, even where a rule calls it hard.
                let clears = matches!(subtype, Subtype::MailboxFull | Subtype::Timeout | Subtype::Expired);
                assert_eq!(theirs.category() == "Hard", class == Class::Hard && !clears, "{what}");
                assert_eq!(
                    theirs.category() == "Admin",
                    class == Class::Admin && meaning.is_own() && !clears,
                    "{what}"
                );
                let is_permanent = theirs.category() == "Hard" || theirs == BounceClass::RelayingDenied;
                assert_eq!(bounce.kind == "Permanent", is_permanent, "{what}");
            }
        }
    }

    #[test]
    fn codes_are_those_that_are_published() {
        let cases = [
            (Class::Undetermined, Subtype::General, 1, "Undetermined", "Undetermined"),
            (Class::Hard, Subtype::UnknownUser, 10, "Permanent", "NoEmail"),
            (Class::Hard, Subtype::General, 30, "Permanent", "General"),
            (Class::Soft, Subtype::UnknownUser, 20, "Transient", "General"),
            (Class::Soft, Subtype::DnsFailure, 21, "Transient", "General"),
            (Class::Hard, Subtype::MailboxFull, 22, "Transient", "MailboxFull"),
            (Class::Soft, Subtype::TooLarge, 23, "Transient", "MessageTooLarge"),
            (Class::Soft, Subtype::Expired, 24, "Transient", "General"),
            (Class::Admin, Subtype::Authentication, 50, "Transient", "General"),
            (Class::Block, Subtype::BlockList, 51, "Transient", "General"),
            (Class::Block, Subtype::SpamContent, 52, "Transient", "ContentRejected"),
            (Class::Block, Subtype::Attachment, 53, "Transient", "AttachmentRejected"),
            (Class::Block, Subtype::Relaying, 54, "Permanent", "General"),
            (Class::Soft, Subtype::Greylisted, 70, "Transient", "General"),
            (Class::Throttle, Subtype::IpRate, 70, "Transient", "General"),
        ];
        for (class, subtype, code, kind, narrower) in cases {
            let meaning = said(class, subtype);
            let bounce = ses(&meaning);
            assert_eq!((BounceClass::of(&meaning).code(), bounce.kind, bounce.subtype), (code, kind, narrower));
        }
        assert_eq!(BounceClass::of(&Meaning::own(Class::Admin, Subtype::Policy)).code(), 25);
    }

    #[test]
    fn complaints_bear_the_words_of_reports() {
        let words = [
            (FeedbackKind::Abuse, Some("abuse")),
            (FeedbackKind::AuthFailure, Some("auth-failure")),
            (FeedbackKind::Fraud, Some("fraud")),
            (FeedbackKind::NotSpam, Some("not-spam")),
            (FeedbackKind::Other, Some("other")),
            (FeedbackKind::Virus, Some("virus")),
            (FeedbackKind::OptOut, None),
        ];
        for (kind, word) in words {
            assert_eq!(ses_feedback(kind), word);
        }
    }
}
