//! Reports as they come.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::*;
use proptest::prelude::*;
use std::time::{Duration, Instant};

fn mail(header: &str, body: &str) -> Vec<u8> {
    format!("{header}\n\n{body}").replace('\n', "\r\n").into_bytes()
}

fn delivery(octets: &[u8]) -> Vec<Reported> {
    match read(octets).said {
        Said::Delivery(recipients) => recipients,
        other => panic!("{other:?}"),
    }
}

fn feedback(octets: &[u8]) -> Feedback {
    match read(octets).said {
        Said::Feedback(feedback) => feedback,
        other => panic!("{other:?}"),
    }
}

const POSTFIX: &str = "--B1
Content-Description: Notification
Content-Type: text/plain; charset=us-ascii

This is the mail system at host mx.b.test.

I'm sorry to have to inform you that your message could not
be delivered to one or more recipients.

<bob@b.test>: host mx.store.test[192.0.2.7] said: 550 5.1.1 <bob@b.test>:
    Recipient address rejected: User unknown (in reply to RCPT TO command)

--B1
Content-Description: Delivery report
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.b.test
X-Postfix-Queue-ID: 4Bq
X-Postfix-Sender: rfc822; b-token@bounces.a.test
Arrival-Date: Thu, 26 Nov 2026 10:00:00 +0000 (UTC)

Final-Recipient: rfc822; bob@b.test
Original-Recipient: rfc822;Bob@b.test
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx.store.test
Diagnostic-Code: smtp; 550 5.1.1 <bob@b.test>: Recipient address rejected: User
    unknown

--B1
Content-Description: Undelivered Message
Content-Type: message/rfc822

Return-Path: <b-token@bounces.a.test>
X-Token: t1
From: ann@a.test
Subject: Hello

Hello.
--B1--
";

const MIXED: &str =
    "From: MAILER-DAEMON@b.test\nSubject: Undelivered Mail Returned to Sender\nAuto-Submitted: auto-replied
MIME-Version: 1.0\nContent-Type: multipart/report; report-type=delivery-status;\n\tboundary=\"B1\"";

#[test]
fn a_report_in_fields_is_read() {
    let octets = mail(MIXED, POSTFIX);
    let recipients = delivery(&octets);
    assert_eq!(recipients.len(), 1);
    let told = &recipients[0];
    assert_eq!(told.addresses, ["Bob@b.test", "bob@b.test"]);
    assert_eq!((told.action, told.reply.code), (Action::Failed, 550));
    assert_eq!(told.reply.enhanced.unwrap().to_string(), "5.1.1");
    assert!(told.reply.text.starts_with("<bob@b.test>: Recipient address rejected: User"), "{}", told.reply.text);
    assert_eq!(told.host.as_deref(), Some("mx.store.test"));
    let read = read(&octets);
    assert_eq!(read.original_fields("x-token").collect::<Vec<_>>(), ["t1"]);
    assert_eq!(read.original_fields("Return-Path").next().unwrap(), "<b-token@bounces.a.test>");
}

// RFC 3464 2.3.3: only one of these is a bounce.
#[test]
fn what_became_of_it_is_told_for_each_recipient() {
    let status = |groups: &str| {
        mail(
            "Content-Type: multipart/report; boundary=b",
            &format!(
                "--b\n\nx\n--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; a.test\n\n{groups}\n--b--"
            ),
        )
    };
    let groups = "Final-Recipient: rfc822; a@b.test\nAction: failed\nStatus: 5.2.2\n\n\
        Final-Recipient: rfc822; b@b.test\nAction: delayed (for a day)\nStatus: 4.4.1\nWill-Retry-Until: x\n\n\
        Final-Recipient: rfc822; c@b.test\nAction: delivered\nStatus: 2.0.0\n\n\
        Final-Recipient: rfc822; d@b.test\nAction: relayed\nStatus: 2.0.0\n\n\
        Final-Recipient: rfc822; e@b.test\nAction: expanded\n\n\
        Final-Recipient: utf-8; f@b.test\nStatus: 5.1.2 (no such domain)\n\n\
        Final-Recipient: rfc822; <g@b.test>\nAction: FAILED\nStatus: 4.4.7\nDiagnostic-Code: X-Postfix; delivery timed out\n";
    let recipients = delivery(&status(groups));
    let told: Vec<(&str, Action, u16)> =
        recipients.iter().map(|told| (told.addresses[0].as_str(), told.action, told.reply.code)).collect();
    let expected = [
        ("a@b.test", Action::Failed, 550),
        ("b@b.test", Action::Delayed, 450),
        ("c@b.test", Action::Delivered, 250),
        ("d@b.test", Action::Relayed, 250),
        ("e@b.test", Action::Relayed, 250),
        ("f@b.test", Action::Failed, 550),
        ("g@b.test", Action::Failed, 450),
    ];
    assert_eq!(told, expected);
    // Without the empty lines that belong between them.
    let glued = groups.replace("\n\n", "\n");
    assert_eq!(delivery(&status(&glued)).len(), 7);
    // In a wrapping that the standard forbids.
    let encoded = "--b\nContent-Type: message/delivery-status\nContent-Transfer-Encoding: base64\n\n\
        RmluYWwtUmVjaXBpZW50OiByZmM4MjI7IGFAYi50ZXN0DQpBY3Rpb246IGZhaWxlZA0KU3RhdHVzOiA1LjEuMQ0K\n--b--";
    let recipients = delivery(&mail("Content-Type: multipart/report; boundary=b", encoded));
    assert_eq!(recipients[0].addresses, ["a@b.test"]);
}

// F2: found by fuzzing. An address or a host with control characters went into events as it was.
#[test]
fn control_characters_are_no_part_of_what_is_told() {
    let fields =
        "Final-Recipient: rfc822; \0a@b.test\nAction: failed\nStatus: 5.1.1\nRemote-MTA: dns; mx\u{1b}[2J.b.test\n";
    let body = format!("--b\nContent-Type: message/delivery-status\n\n{fields}\n--b--");
    let told = delivery(&mail("Content-Type: multipart/report; boundary=b", &body)).remove(0);
    assert_eq!((told.addresses[0].as_str(), told.host.as_deref()), ("a@b.test", Some("mx [2J.b.test")));
}

#[test]
fn a_reply_over_several_lines_is_one() {
    let gmail = "550-5.1.1 The email account that you tried to reach does not exist. Please try\n 550-5.1.1 double-checking the \
        recipient's email address for typos or\n 550-5.1.1 unnecessary spaces. For more information, go to\n 550 5.1.1  \
        https://support.google.com/mail/?p=NoSuchUser x1si123 - gsmtp";
    let body = format!(
        "--b\nContent-Type: message/delivery-status\n\nFinal-Recipient: rfc822; a@gmail.com\nAction: failed\nStatus: 5.1.1\n\
         Diagnostic-Code: smtp; {gmail}\n--b--"
    );
    let reply = delivery(&mail("Content-Type: multipart/report; boundary=b", &body)).remove(0).reply;
    assert_eq!((reply.code, reply.enhanced.unwrap().to_string().as_str()), (550, "5.1.1"));
    assert!(
        reply.text.starts_with("The email account that you tried to reach does not exist. Please try double-checking")
    );
    let cases = [
        ("smtp;552 5.2.2 The user is over quota", 552, Some("5.2.2"), "The user is over quota"),
        (
            "#5.1.1 smtp;550 5.1.1 RESOLVER.ADR.RecipNotFound; not found",
            550,
            Some("5.1.1"),
            "RESOLVER.ADR.RecipNotFound; not found",
        ),
        ("#5.4.1 smtp;550 Access denied", 550, Some("5.4.1"), "Access denied"),
        ("Remote_host_said:_554_delivery_error:_dd", 554, None, "delivery_error:_dd"),
        ("unknown user", 550, Some("5.1.6"), "unknown user"),
        ("said '421 4.7.0 Try again later'", 421, Some("4.7.0"), "Try again later'"),
        ("call 5551234 at 10550 now", 550, Some("5.1.6"), "call 5551234 at 10550 now"),
    ];
    for (words, code, enhanced, text) in cases {
        let status = enhanced.filter(|_| text == words).map(|status| status.parse().unwrap());
        let reply = reply_of(words, status, Action::Failed);
        assert_eq!(
            (reply.code, reply.enhanced.map(|e| e.to_string()).as_deref(), &*reply.text),
            (code, enhanced, text)
        );
    }
}

// The common forms without fields.
#[test]
fn reports_for_people_are_read() {
    let qmail = "Hi. This is the qmail-send program at mx.b.test.\nI'm afraid I wasn't able to deliver your message to the following \
        addresses.\nThis is a permanent error; I've given up. Sorry it didn't work out.\n\n<bob@b.test>:\n192.0.2.7 does not like \
        recipient.\nRemote host said: 550 5.1.1 user unknown\nGiving up on 192.0.2.7.\n\n<cy@b.test>:\nSorry, no mailbox here by that \
        name. (#5.1.1)\n\n--- Below this line is a copy of the message.\n\nReturn-Path: <b-t@a.test>\nX-Token: t2\nSubject: x\n\nbody\n";
    let exim = "This message was created automatically by mail delivery software.\n\nA message that you sent could not be delivered to \
        one or more of its\nrecipients. This is a permanent error. The following address(es) failed:\n\n  bob@b.test\n    host \
        mx.b.test [192.0.2.7]\n    SMTP error from remote mail server after RCPT TO:<bob@b.test>:\n    550 5.1.1 User unknown\n  \
        cy@b.test\n    Unrouteable address\n\n------ This is a copy of the message, including all the headers. ------\n\n\
        Return-path: <b-t@a.test>\nX-Token: t2\n\nbody";
    let postfix = "This is the mail system at host mx.b.test.\n\nI'm sorry to have to inform you that your message could not\nbe \
        delivered to one or more recipients. It's attached below.\n\n                   The mail system\n\n<bob@b.test>: host \
        mx.b.test[192.0.2.7] said: 550 5.1.1 <bob@b.test>:\n    User unknown (in reply to RCPT TO command)\n\n<cy@b.test>: unknown \
        user: \"cy\"\n";
    let sendmail = "The original message was received at Thu, 26 Nov 2026 10:00:00 GMT\nfrom a.test [192.0.2.1]\n\n   ----- The \
        following addresses had permanent fatal errors -----\n<bob@b.test>\n    (reason: 550 5.1.1 <bob@b.test>... User unknown)\n\
        <cy@b.test>\n    (reason: 550 5.2.1 disabled)\n\n   ----- Transcript of session follows -----\n... while talking to mx.b.test.:\n";
    let exchange = "Your message did not reach some or all of the intended recipients.\n\n      Subject:\tHello\n      Sent:\t\
        1/2/2010 3:04 PM\n\nThe following recipient(s) could not be reached:\n\n      bob@b.test on 1/2/2010 3:04 PM\n            \
        The e-mail account does not exist at the organization this message was sent to.\n            <mx.b.test #5.1.1 smtp;550 \
        5.1.1 User unknown>\n\n      cy@b.test on 1/2/2010 3:04 PM\n            <mx.b.test #5.2.2>\n";
    let newer = "Delivery has failed to these recipients or groups:\n\nbob@b.test<mailto:bob@b.test>\nThe email address you entered \
        couldn't be found.\n\ncy@b.test<mailto:cy@b.test>\nThe mailbox is full.\n\nDiagnostic information for administrators:\n\n\
        Generating server: mx.b.test\n\nbob@b.test\n#550 5.1.1 RESOLVER.ADR.RecipNotFound; not found ##\n\ncy@b.test\n#554 5.2.2 \
        mailbox full ##\n";
    let google = "Delivery to the following recipients failed permanently:\n\n     bob@b.test\n\n     cy@b.test\n\nTechnical details of \
        permanent failure: \nGoogle tried to deliver your message, but it was rejected.\n";
    for (name, text) in [
        ("qmail", qmail),
        ("exim", exim),
        ("postfix", postfix),
        ("sendmail", sendmail),
        ("exchange", exchange),
        ("newer exchange", newer),
        ("google", google),
    ] {
        let octets = mail("From: mailer-daemon@b.test\nSubject: failure notice", text);
        let mut recipients = delivery(&octets);
        recipients.sort_by(|one, other| one.addresses.cmp(&other.addresses));
        let told: Vec<&str> = recipients.iter().map(|told| told.addresses[0].as_str()).collect();
        assert_eq!(told, ["bob@b.test", "cy@b.test"], "{name}");
        assert!(
            recipients.iter().all(|told| told.action == Action::Failed && told.reply.code >= 550),
            "{name}: {recipients:?}"
        );
        if !matches!(name, "google") {
            assert_eq!(
                recipients[0].reply.enhanced.map(|e| e.to_string()).as_deref(),
                Some("5.1.1"),
                "{name}: {recipients:?}"
            );
        }
        if matches!(name, "qmail" | "exim") {
            assert_eq!(read(&octets).original_fields("X-Token").next().unwrap(), "t2", "{name}");
        }
        if matches!(name, "postfix" | "exim" | "exchange") {
            assert_eq!(recipients[0].host.as_deref(), Some("mx.b.test"), "{name}");
        }
    }
    let html = "Content-Type: text/html\nSubject: Undeliverable: Hello";
    let told = delivery(&mail(
        html,
        "<p>Your message wasn't delivered to</p><div>bob@b.test<br>550 5.1.10 not &lt;found&gt;</div>",
    ));
    assert_eq!((told[0].addresses[0].as_str(), told[0].reply.text.as_str()), ("bob@b.test", "not <found>"));
}

#[test]
fn a_warning_is_no_bounce_and_a_person_no_program() {
    let exim = "This message was created automatically by mail delivery software.\nA message that you sent has not yet been delivered \
        to one or more of its\nrecipients after more than 24 hours on the queue on mx.b.test.\n\n  bob@b.test\n    Delay reason: 450 \
        4.2.1 busy\n\nNo action is required on your part. Delivery attempts will continue for\nsome time.\n";
    let sendmail = "**********************************************\n**      THIS IS A WARNING MESSAGE ONLY      **\n**  YOU DO NOT NEED \
        TO RESEND YOUR MESSAGE  **\n\nThe original message was received at x\n\n----- The following addresses had transient non-fatal \
        errors -----\n<bob@b.test>\n";
    for text in [exim, sendmail] {
        let told = delivery(&mail("Subject: Warning: message delayed 24 hours", text));
        assert_eq!((told[0].addresses[0].as_str(), told[0].action), ("bob@b.test", Action::Delayed));
    }
    let answers = [
        "Auto-Submitted: auto-replied (vacation)\nSubject: Re: Hello",
        "X-Autoreply: yes\nSubject: Hello",
        "Precedence: auto-reply\nSubject: Hello",
        "Subject: Out of Office: Hello",
        "Subject: =?x?=\nX-Autorespond: Hello",
        "Subject: Automatic reply: Hello",
    ];
    for header in answers {
        assert_eq!(read(&mail(header, "I am away.\n\nbob@b.test\n")).said, Said::Answer, "{header}");
    }
    for header in ["Subject: Re: Hello", "Auto-Submitted: no\nSubject: Hello", "Precedence: bulk\nSubject: Hello", ""] {
        assert_eq!(read(&mail(header, "Thank you!\n\nbob@b.test\n")).said, Said::Else, "{header}");
    }
}

const ARF: &str = "--B
Content-Type: text/plain; charset=\"US-ASCII\"

This is an email abuse report for an email message received from 192.0.2.1.

--B
Content-Type: message/feedback-report

Feedback-Type: abuse
User-Agent: SomeGenerator/1.0
Version: 1
Original-Mail-From: <b-token@bounces.a.test>
Original-Rcpt-To: <bob@b.test>
Original-Rcpt-To: redacted-123
Arrival-Date: Thu, 26 Nov 2026 10:00:00 GMT
Source-IP: 192.0.2.1

--B
ORIGINAL
--B--
";

#[test]
fn complaints_are_read_whatever_is_left_of_the_message() {
    let header = "From: fbl@b.test\nContent-Type: multipart/report; report-type=feedback-report; boundary=\"B\"";
    let whole = "Content-Type: message/rfc822\nContent-Disposition: inline\n\nX-Token: t3\nFrom: ann@a.test\nCFBL-Feedback-ID: id\n\nHello";
    let originals = [
        (whole, Some("t3")),
        ("Content-Type: text/rfc822-headers\n\nX-Token: t3\n\tmore\nFrom: ann@a.test\n", Some("t3\tmore")),
        (
            "Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nWC1Ub2tlbjogdDMNCg0KSGVsbG8=\n",
            Some("t3"),
        ),
        ("Content-Type: message/rfc822\n\n\n", None),
    ];
    for (original, token) in originals {
        let octets = mail(header, &ARF.replace("ORIGINAL", original));
        let told = feedback(&octets);
        assert_eq!((told.kind, told.original_from.as_deref()), (FeedbackKind::Abuse, Some("b-token@bounces.a.test")));
        assert_eq!(told.recipients, ["bob@b.test"]);
        assert_eq!(read(&octets).original_fields("X-Token").next().as_deref(), token, "{original}");
    }
    let none = ARF.split("--B\nORIGINAL").next().unwrap();
    assert_eq!(feedback(&mail(header, none)).recipients, ["bob@b.test"], "cut off behind the report");
    let kinds = [
        ("Fraud", FeedbackKind::Fraud),
        ("virus", FeedbackKind::Virus),
        ("not-spam", FeedbackKind::NotSpam),
        ("auth-failure", FeedbackKind::AuthFailure),
        ("opt-out-list", FeedbackKind::OptOut),
        ("miscategorized", FeedbackKind::Other),
    ];
    for (word, kind) in kinds {
        let octets = mail(header, &ARF.replace("Feedback-Type: abuse", &format!("Feedback-Type: {word}")));
        assert_eq!(feedback(&octets).kind, kind);
    }
}

// F2: nested without end, parts without end, broken, fifty megabytes.
#[test]
fn what_is_hostile_costs_no_time() {
    let began = Instant::now();
    let mut nested = String::new();
    for depth in 0..20_000 {
        nested.push_str(&format!("Content-Type: multipart/mixed; boundary=b{depth}\r\n\r\n--b{depth}\r\n"));
    }
    let report = "Content-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\n";
    assert_eq!(read((nested + report).as_bytes()).said, Said::Else, "nobody looks so deep");
    let many = "--b\r\nContent-Type: text/x\r\n\r\nx\r\n".repeat(200_000);
    assert_eq!(read(format!("Content-Type: multipart/report; boundary=b\r\n\r\n{many}").as_bytes()).said, Said::Else);
    let same = "--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n".repeat(50_000);
    assert_eq!(read(format!("Content-Type: multipart/report; boundary=b\r\n\r\n{same}").as_bytes()).said, Said::Else);
    let large = format!(
        "Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\n{report}\r\n--b\r\n\r\n{}",
        "a@b.test\r\n".repeat(5_000_000)
    );
    assert_eq!(feedback(large.as_bytes()).kind, FeedbackKind::Abuse);
    assert_eq!(read(&vec![b'-'; 10 << 20]).said, Said::Else);
    assert_eq!(read("X: y\r\n".repeat(2_000_000).as_bytes()).said, Said::Else);
    let groups = "Final-Recipient: rfc822; a@b.test\r\nAction: failed\r\n\r\n".repeat(100_000);
    let groups = format!("Content-Type: message/delivery-status\r\n\r\n{groups}");
    assert_eq!(delivery(groups.as_bytes()).len(), RECIPIENTS_MAX);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

proptest! {
    #[test]
    fn whatever_comes_is_read(message in proptest::collection::vec(prop_oneof![
        Just(b"Content-Type: multipart/report; boundary=b\r\n".to_vec()), Just(b"\r\n".to_vec()), Just(b"--b\r\n".to_vec()),
        Just(b"Content-Type: message/delivery-status\r\n\r\n".to_vec()), Just(b"Final-Recipient: x; a@b.test\r\n".to_vec()),
        Just(b"Content-Type: message/feedback-report\r\n\r\n".to_vec()), Just(b"Content-Transfer-Encoding: base64\r\n".to_vec()),
        Just(b"Hi. This is the qmail-send program\r\n".to_vec()), Just(b"<a@b.test>:\r\n".to_vec()), Just(b"550".to_vec()),
        Just(b" 5.1.1 ".to_vec()), Just(b"#".to_vec()), Just("\u{e4}\u{130}".as_bytes().to_vec()), any::<u8>().prop_map(|b| vec![b])],
        0..60)) {
        let message = message.concat();
        let read = read(&message);
        if let Said::Delivery(recipients) = &read.said {
            prop_assert!(recipients.len() <= RECIPIENTS_MAX);
            prop_assert!(recipients.iter().all(|told| !told.reply.text.contains(char::is_control)));
        }
    }
}
