//! How is a sender told what became of a message (RFC 3461, 3464, 6522, 6533)?
//!
//! Whether a report is due, and where its bounce address comes from, is decided elsewhere. A report is sent with the null
//! return path, so that no report ever answers a report.

use crate::address::{Domain, Mailbox};
use crate::compose::{NamedMailbox, Part, multipart, text_part};
use crate::encode::{self, FieldWriter, LINE_MAX};
use crate::message;
use crate::reply::{Enhanced, Reply};
use crate::smtp::command::{Ret, decode_xtext};

/// Of what a remote host said; it may have said a lot.
const DIAGNOSTIC_CHARS_MAX: usize = 2_000;

/// RFC 3464 2.3.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    Delivered,
    /// Handed to a host that sends no reports of delivery.
    Relayed,
    Delayed,
    Failed,
}

#[derive(Clone, Debug)]
pub struct Report<'a> {
    /// Who tells: `Mail Delivery System <mailer-daemon@…>`.
    pub from: NamedMailbox,
    /// The return path of the message.
    pub to: Mailbox,
    pub reporting_mta: Domain,
    /// With its angle brackets.
    pub message_id: String,
    pub date_unix: i64,
    /// When the message was accepted.
    pub arrived_unix: Option<i64>,
    /// ENVID as the sender gave it, in xtext.
    pub envid: Option<String>,
    /// Full returns the whole message, but only when it failed for somebody (RFC 3461 4.3).
    pub ret: Option<Ret>,
    pub recipients: Vec<ReportedRecipient>,
    /// The message reported on.
    pub original: &'a [u8],
    pub seed: u64,
}

#[derive(Clone, Debug)]
pub struct ReportedRecipient {
    pub address: String,
    /// ORCPT as the sender gave it: `type;xtext`.
    pub orcpt: Option<String>,
    pub action: Action,
    pub status: Enhanced,
    /// In words for the sender: one or two sentences.
    pub reason: String,
    pub remote_mta: Option<String>,
    /// What the remote host said last.
    pub reply: Option<Reply>,
    pub last_attempt_unix: Option<i64>,
    /// For a delay.
    pub will_retry_until_unix: Option<i64>,
}

impl Report<'_> {
    /// The report as a message, ready to be signed.
    pub fn write(&self) -> Vec<u8> {
        let (header, _) = message::split(self.original);
        let utf8 = self.is_international(header);
        let parts = [text_part("text/plain", &self.text()), self.status_part(utf8), self.returned_part(header, utf8)];
        let mut seed = self.seed;
        let body = multipart("report; report-type=delivery-status", &parts, &mut seed);

        let mut out = Vec::with_capacity(1_024);
        let mut line = FieldWriter::new(&mut out, "From");
        if let Some(name) = &self.from.name {
            line.phrase(&clean(name, true));
        }
        line.word(&format!("<{}>", self.from.mailbox));
        line.end();
        write_words(&mut out, "To", &format!("<{}>", self.to), true);
        write_words(&mut out, "Subject", self.subject(), false);
        write_words(&mut out, "Date", &encode::date(self.date_unix), false);
        write_words(&mut out, "Message-ID", &self.message_id, false);
        if let Some(original) = message::fields(header).find(|field| field.is("Message-ID")) {
            write_words(&mut out, "In-Reply-To", &String::from_utf8_lossy(original.value), false);
        }
        write_words(&mut out, "Auto-Submitted", "auto-replied", false);
        write_words(&mut out, "MIME-Version", "1.0", false);
        body.write(&mut out);
        out
    }

    fn worst(&self) -> Action {
        self.recipients.iter().map(|recipient| recipient.action).max().unwrap_or(Action::Delivered)
    }

    fn subject(&self) -> &'static str {
        match self.worst() {
            Action::Failed => "Your message could not be delivered",
            Action::Delayed => "Your message is delayed",
            Action::Relayed => "Your message was passed on",
            Action::Delivered => "Your message was delivered",
        }
    }

    /// RFC 6533: whether addresses or fields outside ASCII call for the types made for them.
    fn is_international(&self, header: &[u8]) -> bool {
        let address = |recipient: &ReportedRecipient| {
            !recipient.address.is_ascii()
                || recipient
                    .orcpt
                    .as_deref()
                    .and_then(original_recipient)
                    .is_some_and(|(_, address)| !address.is_ascii())
        };
        self.recipients.iter().any(address) || !header.is_ascii() && std::str::from_utf8(header).is_ok()
    }

    fn text(&self) -> String {
        let mut text = format!("This is the mail system at {}.\n", self.reporting_mta);
        for (action, heading) in [
            (Action::Failed, "Your message could not be delivered to the following, and will not be tried again:"),
            (
                Action::Delayed,
                "Your message has not reached the following yet. It will be tried again; there is no need to send it anew:",
            ),
            (
                Action::Relayed,
                "Your message was passed on for the following, to a system that sends no reports of delivery:",
            ),
            (Action::Delivered, "Your message was delivered to the following:"),
        ] {
            let mut recipients = self.recipients.iter().filter(|recipient| recipient.action == action).peekable();
            if recipients.peek().is_some() {
                text.push_str(&format!("\n{heading}\n"));
            }
            for recipient in recipients {
                text.push_str(&format!("\n    <{}>\n", clean(&recipient.address, true)));
                if !recipient.reason.is_empty() {
                    text.push_str(&format!("    {}\n", clean(&recipient.reason, true)));
                }
                if let Some(reply) = &recipient.reply {
                    let host = recipient.remote_mta.as_deref().unwrap_or("The remote system");
                    text.push_str(&format!("    {} said: {}\n", clean(host, true), clean(&diagnostic(reply), true)));
                }
                if let Some(until) = recipient.will_retry_until_unix.filter(|_| action == Action::Delayed) {
                    text.push_str(&format!("    It will be tried until {}.\n", encode::date(until)));
                }
            }
        }
        text
    }

    /// RFC 3464 2.1: one group of fields for the message, one for each recipient.
    fn status_part(&self, utf8: bool) -> Part {
        let mut content = Vec::new();
        if let Some(envid) = self.envid.as_deref().and_then(decode_xtext) {
            write_words(&mut content, "Original-Envelope-Id", &envid, utf8);
        }
        write_words(&mut content, "Reporting-MTA", &format!("dns; {}", self.reporting_mta), utf8);
        if let Some(arrived) = self.arrived_unix {
            write_words(&mut content, "Arrival-Date", &encode::date(arrived), utf8);
        }
        for recipient in &self.recipients {
            content.extend_from_slice(b"\r\n");
            recipient.write(&mut content, utf8);
        }
        Part::encoded(if utf8 { "message/global-delivery-status" } else { "message/delivery-status" }, content)
    }

    fn returned_part(&self, header: &[u8], utf8: bool) -> Part {
        if self.ret == Some(Ret::Full) && self.worst() == Action::Failed {
            Part::encoded(if utf8 { "message/global" } else { "message/rfc822" }, self.original.to_vec())
        } else {
            Part::encoded(if utf8 { "message/global-headers" } else { "text/rfc822-headers" }, header.to_vec())
        }
    }
}

impl ReportedRecipient {
    fn write(&self, out: &mut Vec<u8>, utf8: bool) {
        if let Some((kind, address)) = self.orcpt.as_deref().and_then(original_recipient) {
            let kind = if address.is_ascii() { kind } else { "utf-8" };
            write_words(out, "Original-Recipient", &format!("{kind}; {address}"), utf8);
        }
        let kind = if self.address.is_ascii() { "rfc822" } else { "utf-8" };
        write_words(out, "Final-Recipient", &format!("{kind}; {}", self.address), utf8);
        let action = match self.action {
            Action::Delivered => "delivered",
            Action::Relayed => "relayed",
            Action::Delayed => "delayed",
            Action::Failed => "failed",
        };
        write_words(out, "Action", action, utf8);
        write_words(out, "Status", &self.status.to_string(), utf8);
        if let Some(host) = &self.remote_mta {
            write_words(out, "Remote-MTA", &format!("dns; {host}"), utf8);
        }
        if let Some(reply) = &self.reply {
            write_words(out, "Diagnostic-Code", &format!("smtp; {}", diagnostic(reply)), utf8);
        }
        if let Some(last) = self.last_attempt_unix {
            write_words(out, "Last-Attempt-Date", &encode::date(last), utf8);
        }
        // RFC 3464 2.3.9: only where the action is delayed.
        if let Some(until) = self.will_retry_until_unix.filter(|_| self.action == Action::Delayed) {
            write_words(out, "Will-Retry-Until", &encode::date(until), utf8);
        }
    }
}

fn original_recipient(orcpt: &str) -> Option<(&str, String)> {
    let (kind, address) = orcpt.split_once(';')?;
    Some((kind, decode_xtext(address)?))
}

fn diagnostic(reply: &Reply) -> String {
    reply.to_string().chars().take(DIAGNOSTIC_CHARS_MAX).collect()
}

/// One field, folded at its spaces. What is in it may come from anywhere: nothing but text gets out.
fn write_words(out: &mut Vec<u8>, name: &str, value: &str, utf8: bool) {
    let mut line = FieldWriter::new(out, name);
    for word in clean(value, utf8).split_ascii_whitespace() {
        let mut rest = word;
        // A word that no line can hold is cut into those that can.
        while rest.len() > LINE_MAX / 2 {
            let (now, later) = rest.split_at(rest.floor_char_boundary(LINE_MAX / 2));
            line.word(now);
            rest = later;
        }
        line.word(rest);
    }
    line.end();
}

fn clean(text: &str, utf8: bool) -> String {
    text.chars()
        .map(|c| match c {
            c if c.is_control() => ' ',
            c if !utf8 && !c.is_ascii() => '?',
            c => c,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::message::Message;
    use proptest::prelude::*;

    const ORIGINAL: &[u8] =
        b"From: ann@example.org\r\nSubject: Hi\r\nMessage-ID: <orig@example.org>\r\n\r\n--=_ body\r\n";

    fn failed() -> ReportedRecipient {
        ReportedRecipient {
            address: "bob@example.net".into(),
            orcpt: Some("rfc822;bob+2Blist@example.net".into()),
            action: Action::Failed,
            status: "5.1.1".parse().unwrap(),
            reason: "The mailbox does not exist.".into(),
            remote_mta: Some("mx.example.net".into()),
            reply: Some(Reply::new(550, (5, 1, 1), "No such user\nhere")),
            last_attempt_unix: Some(1_700_000_000),
            will_retry_until_unix: Some(1_700_086_400),
        }
    }

    fn report(recipients: Vec<ReportedRecipient>) -> Report<'static> {
        Report {
            from: NamedMailbox::parse("Mail Delivery System <mailer-daemon@weir.test>").unwrap(),
            to: Mailbox::parse("ann@example.org").unwrap(),
            reporting_mta: Domain::parse("weir.test").unwrap(),
            message_id: "<dsn@weir.test>".into(),
            date_unix: 1_700_000_100,
            arrived_unix: Some(1_699_999_000),
            envid: Some("QQ+3D1".into()),
            ret: None,
            recipients,
            original: ORIGINAL,
            seed: 1,
        }
    }

    /// The three parts, each with its header.
    fn parts(octets: &[u8]) -> Vec<String> {
        let text = String::from_utf8(octets.to_vec()).unwrap();
        let boundary = text.split("boundary=\"").nth(1).unwrap().split('"').next().unwrap();
        let mut parts: Vec<String> = text.split(&format!("--{boundary}")).map(ToOwned::to_owned).collect();
        assert_eq!(parts.pop().unwrap(), "--\r\n");
        parts.remove(0);
        parts
    }

    // R5.3
    #[test]
    fn a_failure_is_reported() {
        let octets = report(vec![failed()]).write();
        let message = Message::parse(octets.clone()).unwrap();
        let header = |name| String::from_utf8(message.header(name).unwrap().into_owned()).unwrap();
        assert_eq!(header("Subject"), "Your message could not be delivered");
        assert_eq!(header("To"), "<ann@example.org>");
        assert_eq!(header("Auto-Submitted"), "auto-replied");
        assert_eq!(header("In-Reply-To"), "<orig@example.org>");
        assert!(header("Content-Type").starts_with("multipart/report; report-type=delivery-status; boundary="));
        let parts = parts(&octets);
        assert_eq!(parts.len(), 3);
        assert!(parts[0].contains("<bob@example.net>\r\n    The mailbox does not exist.\r\n    mx.example.net said: 550 5.1.1 No such user here"), "{}", parts[0]);
        assert_eq!(
            parts[1],
            "\r\nContent-Type: message/delivery-status\r\nContent-Transfer-Encoding: 7bit\r\n\r\n\
             Original-Envelope-Id: QQ=1\r\nReporting-MTA: dns; weir.test\r\nArrival-Date: Tue, 14 Nov 2023 21:56:40 +0000\r\n\r\n\
             Original-Recipient: rfc822; bob+list@example.net\r\nFinal-Recipient: rfc822; bob@example.net\r\n\
             Action: failed\r\nStatus: 5.1.1\r\nRemote-MTA: dns; mx.example.net\r\n\
             Diagnostic-Code: smtp; 550 5.1.1 No such user here\r\nLast-Attempt-Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n"
        );
        assert_eq!(
            parts[2],
            "\r\nContent-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: 7bit\r\n\r\n\
             From: ann@example.org\r\nSubject: Hi\r\nMessage-ID: <orig@example.org>\r\n"
        );
    }

    #[test]
    fn the_message_is_returned_whole_only_on_failure() {
        let full = |action| {
            let report = Report { ret: Some(Ret::Full), ..report(vec![ReportedRecipient { action, ..failed() }]) };
            parts(&report.write()).pop().unwrap()
        };
        assert!(full(Action::Failed).contains("Content-Type: message/rfc822\r\n"));
        assert!(full(Action::Failed).ends_with("\r\n\r\n--=_ body\r\n"));
        assert!(full(Action::Delayed).contains("text/rfc822-headers"));
        assert!(full(Action::Delivered).contains("text/rfc822-headers"));
    }

    #[test]
    fn a_delay_says_until_when() {
        let delayed = ReportedRecipient { action: Action::Delayed, status: "4.2.2".parse().unwrap(), ..failed() };
        let octets = report(vec![delayed.clone()]).write();
        let parts_found = parts(&octets);
        assert!(parts_found[0].contains("tried until Wed, 15 Nov 2023 22:13:20 +0000"));
        assert!(parts_found[1].contains("Action: delayed\r\nStatus: 4.2.2\r\n"));
        assert!(parts_found[1].contains("Will-Retry-Until: Wed, 15 Nov 2023 22:13:20 +0000\r\n"));
        // The worst fate gives the subject; each recipient keeps its own action.
        let delivered = ReportedRecipient { action: Action::Delivered, ..failed() };
        let octets = report(vec![delivered, delayed]).write();
        assert!(octets.windows(17).any(|w| w == b"Action: delivered"));
        assert!(String::from_utf8(octets).unwrap().contains("Subject: Your message is delayed\r\n"));
    }

    // RFC 6533
    #[test]
    fn addresses_outside_ascii_have_their_own_types() {
        let recipient = ReportedRecipient { address: "jürgen@example.net".into(), ..failed() };
        let parts = parts(&report(vec![recipient]).write());
        assert!(parts[1].contains("Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit"));
        assert!(parts[1].contains("Final-Recipient: utf-8; jürgen@example.net\r\n"));
        assert!(parts[2].contains("message/global-headers"));
    }

    proptest! {
        // D4
        #[test]
        fn what_a_remote_host_says_adds_no_line(said in "[\\PC\r\n\t\0]{0,1500}", host in "[\\PC\r\n ]{0,40}", code in 200_u16..600) {
            let recipient = ReportedRecipient { reply: Some(Reply::plain(code, said)), remote_mta: Some(host.clone()), reason: host, ..failed() };
            let octets = report(vec![recipient]).write();
            let message = Message::parse(octets.clone()).unwrap();
            prop_assert_eq!(message.headers().count(), 9);
            let status = &parts(&octets)[1];
            let fields: Vec<&str> = status.lines().skip(4).filter(|line| !line.is_empty() && !line.starts_with(' ')).collect();
            prop_assert_eq!(fields.len(), 10, "{:?}", fields);
        }
    }
}
