//! What does it change when something comes back? (R5.4)
//!
//! A message meets its fate once. What a remote host says of it later can correct a delivery, and nothing else; what its reader wants
//! is heard whatever the fate was. The same said twice is said once.

use crate::event::EventKind;
use mail::report::FeedbackKind;

/// What came back says of one recipient of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tidings {
    /// A host that had taken it could not hand it on.
    Failed,
    /// It is late, on its way, or there: no bounce.
    UnderWay,
    Feedback(FeedbackKind),
    /// A program of the recipient's answered.
    Answer,
    /// By the link or address for that.
    Unsubscribed,
}

/// What is known of the recipient so far.
#[derive(Clone, Copy, Debug)]
pub struct Past<'a> {
    /// None: it is still tried.
    pub fate: Option<EventKind>,
    /// What came back before.
    pub heard: &'a [EventKind],
}

/// Why tidings change nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Nothing {
    /// It said so before.
    HeardBefore,
    /// The message had another fate already; or it is still tried, and will have its own.
    NotDelivered,
    /// A delay, or a delivery.
    NoBounce,
    /// Nobody complains: it was taken for junk by mistake, or a signature failed.
    NoComplaint,
}

impl Nothing {
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Nothing::HeardBefore => "heard-before",
            Nothing::NotDelivered => "not-delivered",
            Nothing::NoBounce => "no-bounce",
            Nothing::NoComplaint => "no-complaint",
        }
    }
}

/// The event that follows, if any does.
pub fn aftermath(past: Past<'_>, tidings: Tidings) -> Result<EventKind, Nothing> {
    let is_delivered = past.fate == Some(EventKind::Delivered);
    let kind = match tidings {
        Tidings::UnderWay => return Err(Nothing::NoBounce),
        Tidings::Failed | Tidings::Answer if !is_delivered => return Err(Nothing::NotDelivered),
        Tidings::Failed => EventKind::Returned,
        Tidings::Answer => EventKind::Answered,
        Tidings::Feedback(FeedbackKind::NotSpam | FeedbackKind::AuthFailure) => return Err(Nothing::NoComplaint),
        Tidings::Feedback(FeedbackKind::OptOut) | Tidings::Unsubscribed => EventKind::Unsubscribed,
        Tidings::Feedback(FeedbackKind::Abuse | FeedbackKind::Fraud | FeedbackKind::Virus | FeedbackKind::Other) => {
            EventKind::Complained
        }
    };
    if past.heard.contains(&kind) { Err(Nothing::HeardBefore) } else { Ok(kind) }
}

/// What can come back: each once for a recipient of a message.
pub const KINDS: [EventKind; 4] =
    [EventKind::Returned, EventKind::Complained, EventKind::Answered, EventKind::Unsubscribed];

#[cfg(test)]
mod tests {
    use super::{Nothing, Past, Tidings, aftermath};
    use crate::event::EventKind;
    use mail::report::FeedbackKind;

    const SENT: Past<'_> = Past { fate: Some(EventKind::Delivered), heard: &[] };

    // F4: a late bounce after a 250, the same bounce twice, a delay notice before the delivery, a bounce that was one already.
    #[test]
    fn a_message_has_one_fate_and_its_reader_is_heard_whatever_it_was() {
        assert_eq!(aftermath(SENT, Tidings::Failed), Ok(EventKind::Returned));
        let again = Past { heard: &[EventKind::Returned], ..SENT };
        assert_eq!(aftermath(again, Tidings::Failed), Err(Nothing::HeardBefore));
        assert_eq!(aftermath(SENT, Tidings::UnderWay), Err(Nothing::NoBounce));
        let waiting = Past { fate: None, heard: &[] };
        assert_eq!(aftermath(waiting, Tidings::Failed), Err(Nothing::NotDelivered));
        for fate in [EventKind::Bounced, EventKind::Expired, EventKind::Deleted, EventKind::Rejected] {
            let past = Past { fate: Some(fate), heard: &[] };
            assert_eq!(aftermath(past, Tidings::Failed), Err(Nothing::NotDelivered), "{fate:?}");
            assert_eq!(aftermath(past, Tidings::Answer), Err(Nothing::NotDelivered), "{fate:?}");
            // It arrived all the same, as somebody has read it.
            assert_eq!(aftermath(past, Tidings::Feedback(FeedbackKind::Abuse)), Ok(EventKind::Complained), "{fate:?}");
        }
        assert_eq!(aftermath(again, Tidings::Answer), Ok(EventKind::Answered));
        assert_eq!(aftermath(again, Tidings::Unsubscribed), Ok(EventKind::Unsubscribed));
    }

    #[test]
    fn not_every_report_of_a_provider_is_a_complaint() {
        let heard = |kind| aftermath(SENT, Tidings::Feedback(kind));
        for kind in [FeedbackKind::Abuse, FeedbackKind::Fraud, FeedbackKind::Virus, FeedbackKind::Other] {
            assert_eq!(heard(kind), Ok(EventKind::Complained));
        }
        assert_eq!(heard(FeedbackKind::NotSpam), Err(Nothing::NoComplaint));
        assert_eq!(heard(FeedbackKind::AuthFailure), Err(Nothing::NoComplaint));
        assert_eq!(heard(FeedbackKind::OptOut), Ok(EventKind::Unsubscribed));
        let left = Past { heard: &[EventKind::Unsubscribed], ..SENT };
        assert_eq!(aftermath(left, Tidings::Unsubscribed), Err(Nothing::HeardBefore));
    }
}
