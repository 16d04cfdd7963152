//! What do the fields of a report say?

use super::{Feedback, FeedbackKind, RECIPIENTS_MAX, Reported, reply_of};
use crate::dsn::Action;
use crate::message::{Field, fields};
use crate::reply::Enhanced;

/// RFC 3464 2: fields of the message, then those of each recipient, with an empty line between. Some leave it out, some have two.
pub fn delivery(octets: &[u8]) -> Vec<Reported> {
    let mut recipients = Vec::new();
    let mut open = Group::default();
    for field in fields(octets) {
        let value = text(&field);
        let begins = field.is("Action") && open.action.is_some()
            || field.is("Final-Recipient") && open.last.is_some()
            || field.is("Original-Recipient")
                && (open.original.is_some() || open.last.is_some() && open.action.is_some());
        if begins {
            open.close(&mut recipients);
        }
        if recipients.len() >= RECIPIENTS_MAX {
            return recipients;
        }
        if field.is("Original-Recipient") {
            open.original = address(&value);
        } else if field.is("Final-Recipient") {
            open.last = address(&value);
        } else if field.is("X-Actual-Recipient") {
            open.actual = address(&value);
        } else if field.is("Action") {
            open.action =
                Some(value.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or("").to_ascii_lowercase());
        } else if field.is("Status") {
            open.status = value.split([' ', '(', ';']).find_map(|word| word.parse().ok());
        } else if field.is("Remote-MTA") {
            open.host = Some(typed(&value).to_owned()).filter(|host| !host.is_empty());
        } else if field.is("Diagnostic-Code") {
            open.diagnostic = Some(typed(&value).to_owned());
        }
    }
    open.close(&mut recipients);
    recipients
}

#[derive(Default)]
struct Group {
    original: Option<String>,
    last: Option<String>,
    actual: Option<String>,
    action: Option<String>,
    status: Option<Enhanced>,
    host: Option<String>,
    diagnostic: Option<String>,
}

impl Group {
    fn close(&mut self, recipients: &mut Vec<Reported>) {
        let group = std::mem::take(self);
        let addresses: Vec<String> = [group.original, group.last, group.actual].into_iter().flatten().collect();
        if addresses.is_empty() && group.action.is_none() && group.status.is_none() {
            return;
        }
        let action = match group.action.as_deref() {
            Some("failed") => Action::Failed,
            Some("delayed") => Action::Delayed,
            Some("delivered") => Action::Delivered,
            // To several, or to where no report comes from: it is on its way.
            Some("relayed" | "expanded") => Action::Relayed,
            _ => match group.status.map(|status| status.class) {
                Some(2) => Action::Delivered,
                Some(4) => Action::Delayed,
                Some(_) => Action::Failed,
                // It says of nobody what became of the message.
                None => return,
            },
        };
        let mut addresses = addresses;
        addresses.dedup();
        let reply = reply_of(&group.diagnostic.unwrap_or_default(), group.status, action);
        recipients.push(Reported { addresses, action, reply, host: group.host });
    }
}

/// RFC 5965 3.
pub fn feedback(octets: &[u8]) -> Feedback {
    let mut feedback = Feedback { kind: FeedbackKind::Other, original_from: None, recipients: Vec::new() };
    let mut kind = None;
    for field in fields(octets) {
        let value = text(&field);
        if field.is("Feedback-Type") {
            kind = kind.or(Some(FeedbackKind::of(&value)));
        } else if field.is("Original-Mail-From") {
            feedback.original_from = feedback.original_from.or(address(&value));
        } else if (field.is("Original-Rcpt-To") || field.is("Removal-Recipient"))
            && feedback.recipients.len() < RECIPIENTS_MAX
        {
            feedback.recipients.extend(address(&value));
        }
    }
    Feedback { kind: kind.unwrap_or(FeedbackKind::Other), ..feedback }
}

/// What is no text has no place in an event.
fn text(field: &Field<'_>) -> String {
    String::from_utf8_lossy(&field.unfolded()).replace(char::is_control, " ")
}

/// What stands behind the type, as in `rfc822; ann@a.test`.
fn typed(value: &str) -> &str {
    value.split_once(';').map_or(value, |(_, value)| value).trim()
}

/// None: it was blacked out, or never was an address.
fn address(value: &str) -> Option<String> {
    let value = typed(value).trim_start_matches('<');
    let value = value.split(['>', ' ', '\t']).next().unwrap_or_default();
    (value.contains('@') && value.len() <= crate::address::MAILBOX_OCTETS_MAX).then(|| value.to_owned())
}
