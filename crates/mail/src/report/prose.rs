//! What do reports say that are written for people alone?
//!
//! Each of the programs that write them has its own opening words. Behind those, all of them name an address on a line of its own and
//! then tell, until an empty line, what a host said of it.

use super::{RECIPIENTS_MAX, Reported, reply_of};
use crate::address::Mailbox;
use crate::dsn::Action;
use crate::parts::value;
use crate::reply::Enhanced;

/// Of one recipient: what is said of it is a line or a few.
const WORDS_OCTETS_MAX: usize = 4_000;
/// What it says is at its front, before the copy of the message.
const LINES_MAX: usize = 2_000;

pub struct Prose {
    pub recipients: Vec<Reported>,
    /// What stands below the report: the message it is about.
    pub original: String,
}

/// How a program begins.
const OPENINGS: [&str; 22] = [
    // qmail
    "hi. this is the",
    "i'm afraid i wasn't able to deliver your message",
    "i tried to deliver your message, but",
    // Postfix
    "i'm sorry to have to inform you",
    "this is the mail system at host",
    "this is the postfix program at host",
    // Exim
    "this message was created automatically by mail delivery software",
    "a message that you sent could not be delivered",
    "a message that you have sent could not be delivered",
    // Sendmail
    "the following addresses had permanent fatal errors",
    "the following addresses had transient non-fatal errors",
    "the original message was received at",
    // Exchange
    "your message did not reach some or all of the intended recipients",
    "delivery has failed to these recipients or",
    "the following recipient(s) could not be reached",
    "the following recipient(s) cannot be reached",
    // Others
    "delivery to the following recipient failed permanently",
    "delivery to the following recipients failed",
    "this is an automatically generated delivery status notification",
    "your message wasn't delivered to",
    "could not be delivered to one or more recipients",
    "your message could not be delivered",
];

/// How one that is a warning says so.
const DELAYS: [&str; 8] = [
    "this is a warning message only",
    "this is a warning only",
    "you do not need to resend your message",
    "transient non-fatal errors",
    "has not yet been delivered",
    "has been delayed",
    "delivery is delayed",
    "no action is required on your part. delivery attempts will continue",
];

/// What stands between the report and the message it is about.
const BELOW: [&str; 9] = [
    "--- below this line is a copy of the message",
    "--- enclosed is a copy of the message",
    "------ this is a copy of the message",
    "------ this is a copy of your message",
    "----- original message",
    "-----original message-----",
    "----- unsent message follows -----",
    "--- original message",
    "original message headers:",
];

/// None: it is no report of a kind that is known.
pub fn read(header: &[u8], text: &str) -> Option<Prose> {
    let lower = text.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let named: Vec<String> = value(header, "X-Failed-Recipients")
        .map(|named| named.split(',').filter_map(mailbox).take(RECIPIENTS_MAX).collect())
        .unwrap_or_default();
    let is_known = says(&OPENINGS) || !named.is_empty();
    let below = BELOW.iter().filter_map(|mark| lower.find(mark)).min().unwrap_or(text.len());
    let (report, original) = text.split_at(below);
    let action = if says(&DELAYS) || is_delay(header) { Action::Delayed } else { Action::Failed };
    let mut recipients = blocks(report, action);
    if !is_known {
        // Of a kind that nobody knows: only what names an address and a code, under a subject that speaks of failure.
        recipients.retain(|reported| reported.reply.enhanced.is_some() || has_code(&reported.reply.text));
        if recipients.is_empty() || !speaks_of_failure(header) {
            return None;
        }
    }
    for address in named {
        let is_told = recipients.iter().any(|told| told.addresses.iter().any(|own| own.eq_ignore_ascii_case(&address)));
        if !is_told {
            recipients.push(Reported {
                addresses: vec![address],
                action,
                reply: reply_of("", None, action),
                host: None,
            });
        }
    }
    if recipients.is_empty() {
        let reply = reply_of(&first_said(report), None, action);
        recipients.push(Reported { addresses: Vec::new(), action, reply, host: None });
    }
    // The line with the mark is no part of it.
    let original = original.split_once('\n').map_or("", |(_, rest)| rest).trim_start_matches(['\r', '\n', '-', ' ']);
    Some(Prose { recipients, original: with_line_ends(original) })
}

fn speaks_of_failure(header: &[u8]) -> bool {
    const WORDS: [&str; 12] = [
        "undeliver",
        "failure",
        "failed",
        "returned mail",
        "returned to sender",
        "delivery status",
        "delivery problem",
        "non remis",
        "unzustellbar",
        "nicht zugestellt",
        "rejected",
        "could not be delivered",
    ];
    let subject = value(header, "Subject").unwrap_or_default().to_ascii_lowercase();
    WORDS.iter().any(|word| subject.contains(word))
}

fn is_delay(header: &[u8]) -> bool {
    let subject = value(header, "Subject").unwrap_or_default().to_ascii_lowercase();
    subject.contains("delayed") || subject.contains("(delay)") || subject.starts_with("warning:")
}

/// Addresses that stand at the front of a line, each with the lines behind it.
fn blocks(report: &str, action: Action) -> Vec<Reported> {
    let mut found: Vec<(Vec<String>, String)> = Vec::new();
    let mut telling = false;
    for line in report.lines().take(LINES_MAX) {
        if let Some((address, rest)) = introduced(line) {
            if found.len() >= RECIPIENTS_MAX {
                break;
            }
            // Exchange and others name somebody above and again beside what was said.
            match found.iter_mut().find(|(addresses, _)| addresses[0].eq_ignore_ascii_case(&address)) {
                Some((_, words)) if !rest.is_empty() => push(words, rest),
                Some(_) => {}
                None => found.push((vec![address.clone()], rest.to_owned())),
            }
            let place = found.iter().position(|(addresses, _)| addresses[0].eq_ignore_ascii_case(&address));
            if let Some(place) = place {
                let last = found.len() - 1;
                found.swap(place, last);
            }
            telling = true;
        } else if line.trim().is_empty() {
            telling = telling && found.last().is_some_and(|(_, words)| words.is_empty());
        } else if telling && let Some((_, words)) = found.last_mut() {
            push(words, line.trim());
        }
    }
    let reported = |(addresses, words): (Vec<String>, String)| {
        let (reply, host) = (reply_of(&words, None, action), host_of(&words));
        Reported { addresses, action, reply, host }
    };
    found.into_iter().map(reported).collect()
}

fn push(words: &mut String, more: &str) {
    if words.len() + more.len() < WORDS_OCTETS_MAX {
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str(more);
    }
}

/// `<ann@a.test>: words`, `  ann@a.test`, `'Ann' on 1/2/2010 3:04 PM`: the address a line begins with, and what follows.
fn introduced(line: &str) -> Option<(String, &str)> {
    let line = line.trim();
    let line = line.strip_prefix("Recipient:").or_else(|| line.strip_prefix("To:")).unwrap_or(line).trim_start();
    let (address, rest) = match line.strip_prefix('<') {
        Some(inner) => inner.split_once('>')?,
        None => {
            let end = line.find([' ', '\t', ':', '(', '<']).unwrap_or(line.len());
            let (address, rest) = line.split_at(end);
            // Words that begin with an address and go on are a sentence.
            let rest = rest.trim_start();
            let goes_on = ["on ", "(", ":", "<", "..."].iter().any(|start| rest.starts_with(start));
            (rest.is_empty() || goes_on).then_some((address, rest))?
        }
    };
    let rest = rest.trim_start_matches([':', ' ', '\t', ')']).trim_end();
    let rest = if rest.starts_with("on ") || rest.starts_with('<') { "" } else { rest };
    Some((mailbox(address)?, rest))
}

fn mailbox(text: &str) -> Option<String> {
    let text = text.trim().trim_matches(['\'', '"', '<', '>', ',']);
    (text.len() <= 320 && text.contains('@') && Mailbox::parse(text).is_ok()).then(|| text.to_owned())
}

/// The first words of the report that hold a code.
fn first_said(report: &str) -> String {
    let mut lines = report.lines().take(LINES_MAX).map(str::trim);
    lines.find(|line| code_of(line).0.is_some() || code_of(line).1.is_some()).unwrap_or_default().to_owned()
}

/// `host mx.b.test[192.0.2.1] said:`, `<mx.b.test #5.1.1 …>`.
fn host_of(words: &str) -> Option<String> {
    let host = words
        .split_once("host ")
        .map(|(_, rest)| rest)
        .or_else(|| words.rsplit_once('<').filter(|(_, rest)| rest.contains('#')).map(|(_, rest)| rest))?;
    let host = host.split(['[', ' ', ':', ',', '#', '>', '(']).next()?.trim_end_matches('.');
    (host.contains('.') && crate::address::Domain::parse(host).is_ok()).then(|| host.to_owned())
}

fn has_code(text: &str) -> bool {
    code_of(text).0.is_some()
}

/// The SMTP code in words, the enhanced one, and the words from there on, with no code repeated in them.
pub fn code_of(words: &str) -> (Option<u16>, Option<Enhanced>, String) {
    let at = code_at(words);
    let (code, rest): (Option<u16>, &str) = match at {
        Some(at) => {
            (words[at..at + 3].parse().ok(), words[at + 3..].trim_start_matches(['-', ' ', ';', '_', ':', '#']))
        }
        None => (None, words),
    };
    // Right behind the code, or, without a code, anywhere.
    let bare = |word: &str| word.trim_matches(|c: char| !c.is_ascii_alphanumeric()).parse::<Enhanced>().ok();
    let enhanced = match code {
        Some(_) => rest.split_whitespace().next().and_then(bare).or_else(|| before(words, at).and_then(bare)),
        None => rest.split_whitespace().flat_map(|word| word.split([';', '#', '(', '<'])).find_map(bare),
    };
    let repeated = |word: &str| {
        let rest = code.and_then(|code| word.strip_prefix(&code.to_string()).map(str::to_owned));
        rest.as_deref()
            .and_then(|rest| rest.strip_prefix('-'))
            .is_some_and(|rest| rest.is_empty() || bare(rest).is_some())
    };
    let mut text = String::with_capacity(rest.len());
    for (nth, word) in rest.split_whitespace().enumerate() {
        let is_first_code = nth == 0 && code.is_some() && enhanced.is_some() && bare(word) == enhanced;
        if !is_first_code && !repeated(word) {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(word);
        }
    }
    (code, enhanced, text)
}

/// `#5.1.1` before `smtp;550`.
fn before(words: &str, at: Option<usize>) -> Option<&str> {
    let front = words[..at?].trim_end_matches("smtp;").trim_end();
    front.rsplit([' ', '#', '<']).next()
}

fn code_at(words: &str) -> Option<usize> {
    let octets = words.as_bytes();
    (0..octets.len().saturating_sub(2)).find(|at| {
        let is_code = matches!(octets[*at], b'4' | b'5')
            && matches!(octets[at + 1], b'0'..=b'5' | b'7')
            && octets[at + 2].is_ascii_digit();
        let apart =
            *at == 0 || matches!(octets[at - 1], b' ' | b'\'' | b'"' | b'(' | b':' | b';' | b'_' | b'<' | b'#' | b'\t');
        let ended = matches!(octets.get(at + 3), None | Some(b' ' | b'-' | b';' | b'_' | b':'));
        is_code && apart && ended
    })
}

/// As a header has them, whatever the text had.
fn with_line_ends(text: &str) -> String {
    text.lines().flat_map(|line| [line, "\r\n"]).collect()
}
