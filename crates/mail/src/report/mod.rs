//! What does a message that came back say (RFC 3464, 5965, 6430, 6591, 3834, and what was common before them)?
//!
//! Anybody may send anything here, so everything that is looked at has a limit with a name, and what is beyond it is passed over. What
//! a report is about is told by the octets of the original's header; whether they are believed is decided elsewhere.

mod fields;
mod prose;

use crate::dsn::Action;
use crate::message::{self, HEADER_OCTETS_MAX};
use crate::parts::{ContentType, Encoding, delimiters, value};
use crate::reply::{Enhanced, Reply};
use std::borrow::Cow;

/// Parts within parts that are looked into: a report has two or three, one that was passed on some more.
const DEPTH_MAX: usize = 8;
/// Parts of a whole message that are looked at.
const PARTS_MAX: usize = 64;
/// Of a part that is made of fields or is text: what it has to say is at its front.
const PART_OCTETS_MAX: usize = 256 * 1024;
/// Of the original's header.
const ORIGINAL_OCTETS_MAX: usize = 64 * 1024;
/// Recipients of one report. A message has at most as many in one transaction anywhere.
pub const RECIPIENTS_MAX: usize = 1_000;
/// Of what a remote host said.
const SAID_CHARS_MAX: usize = 2_000;

/// What came back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    pub said: Said,
    /// The header of the message it is about, as far as it came along; empty where it did not.
    pub original: Vec<u8>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Said {
    /// What became of the message, for each recipient that is named; none is named where the report does not say.
    Delivery(Vec<Reported>),
    Feedback(Feedback),
    /// A program answers instead of a person (RFC 3834).
    Answer,
    /// Nothing that a program can read.
    #[default]
    Else,
}

/// What became of it for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reported {
    /// Addresses it may be known by, the one it was sent to first, where both are told.
    pub addresses: Vec<String>,
    pub action: Action,
    /// What the last host said, or what its words come to.
    pub reply: Reply,
    /// Whose words they are.
    pub host: Option<String>,
}

/// A complaint, or what else a receiver finds worth telling (RFC 5965).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feedback {
    pub kind: FeedbackKind,
    /// MAIL FROM of the message.
    pub original_from: Option<String>,
    /// As far as they were not blacked out.
    pub recipients: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FeedbackKind {
    Abuse,
    Fraud,
    Virus,
    Other,
    /// RFC 6430: taken for junk by mistake.
    NotSpam,
    /// RFC 6591: it failed SPF, DKIM or DMARC. Nobody complains.
    AuthFailure,
    /// From before RFC 5965: the recipient wants no more of it.
    OptOut,
}

impl FeedbackKind {
    fn of(word: &str) -> FeedbackKind {
        match word.trim().to_ascii_lowercase().as_str() {
            "abuse" | "complaint" => FeedbackKind::Abuse,
            "fraud" => FeedbackKind::Fraud,
            "virus" => FeedbackKind::Virus,
            "not-spam" | "notspam" => FeedbackKind::NotSpam,
            "auth-failure" => FeedbackKind::AuthFailure,
            "opt-out" | "opt-out-list" => FeedbackKind::OptOut,
            // RFC 5965 3.1: what is not known is taken as `other`.
            _ => FeedbackKind::Other,
        }
    }

    /// The word of the report.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            FeedbackKind::Abuse => "abuse",
            FeedbackKind::Fraud => "fraud",
            FeedbackKind::Virus => "virus",
            FeedbackKind::Other => "other",
            FeedbackKind::NotSpam => "not-spam",
            FeedbackKind::AuthFailure => "auth-failure",
            FeedbackKind::OptOut => "opt-out",
        }
    }
}

impl Read {
    /// The values of a field of the original, unfolded.
    pub fn original_fields<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Cow<'a, str>> {
        message::fields(&self.original).filter(move |field| field.is(name)).map(|field| match field.unfolded() {
            Cow::Borrowed(value) => String::from_utf8_lossy(value),
            Cow::Owned(value) => Cow::Owned(String::from_utf8_lossy(&value).into_owned()),
        })
    }
}

/// Reads a whole message. The plan: its parts; a report in fields, if there is one; else a program's answer, which says so in its
/// header; else prose of a kind that is known.
#[must_use]
pub fn read(octets: &[u8]) -> Read {
    let mut found = Found::default();
    let mut left = PARTS_MAX;
    found.look_at(octets, &mut left, 0);
    let (header, _) = split(octets);
    let said = if let Some(feedback) = found.feedback.as_deref() {
        Said::Feedback(fields::feedback(feedback))
    } else if let Some(status) = found.status.as_deref() {
        Said::Delivery(fields::delivery(status))
    } else {
        let text = found.text.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
        match prose::read(header, &text) {
            Some(prose) => {
                if found.original.is_empty() {
                    found.original = truncated(prose.original.as_bytes(), ORIGINAL_OCTETS_MAX).to_vec();
                }
                Said::Delivery(prose.recipients)
            }
            None if is_answer(header) => Said::Answer,
            None => Said::Else,
        }
    };
    Read { said, original: found.original }
}

/// The parts that matter, the first of each.
#[derive(Default)]
struct Found {
    status: Option<Vec<u8>>,
    feedback: Option<Vec<u8>>,
    text: Option<Vec<u8>>,
    original: Vec<u8>,
}

impl Found {
    fn look_at(&mut self, octets: &[u8], left: &mut usize, depth: usize) {
        if *left == 0 || depth > DEPTH_MAX {
            return;
        }
        *left -= 1;
        let (header, body) = split(octets);
        let kind = ContentType::of(header);
        match (kind.main.as_str(), kind.sub.as_str()) {
            ("multipart", _) => {
                let Some(boundary) = kind.boundary.as_deref().filter(|boundary| !boundary.is_empty()) else { return };
                self.look_into(body, boundary, left, depth);
            }
            ("message", "delivery-status" | "global-delivery-status") => keep(&mut self.status, header, body),
            ("message", "feedback-report") => keep(&mut self.feedback, header, body),
            ("message", "rfc822" | "global") => self.found_original(header, body),
            ("text" | "message", "rfc822-headers" | "global-headers") => self.found_original(header, body),
            ("text", "html") if self.text.is_none() => {
                let mut html = None;
                keep(&mut html, header, body);
                self.text = html.map(|html| without_tags(&html));
            }
            ("text", _) => keep(&mut self.text, header, body),
            _ => {}
        }
    }

    fn look_into(&mut self, body: &[u8], boundary: &str, left: &mut usize, depth: usize) {
        let mut begun: Option<usize> = None;
        for line in delimiters(body, boundary) {
            if let Some(from) = begun {
                self.look_at(&body[from..line.at.max(from)], left, depth + 1);
            }
            begun = (!line.is_last).then_some(line.end);
            if line.is_last || *left == 0 {
                break;
            }
        }
        // One that was cut off on its way has no end, and often all that matters.
        if let Some(from) = begun {
            self.look_at(&body[from..], left, depth + 1);
        }
    }

    fn found_original(&mut self, header: &[u8], body: &[u8]) {
        if self.original.is_empty() {
            let octets = decoded(header, body);
            let octets = octets.strip_prefix(b"\r\n").unwrap_or(&octets);
            self.original = truncated(split(octets).0, ORIGINAL_OCTETS_MAX).to_vec();
        }
    }
}

/// As `message::split`, with a header that ends at its limit.
fn split(octets: &[u8]) -> (&[u8], &[u8]) {
    let (header, body) = message::split(octets);
    (truncated(header, HEADER_OCTETS_MAX), body)
}

fn truncated(octets: &[u8], max: usize) -> &[u8] {
    &octets[..octets.len().min(max)]
}

fn keep(place: &mut Option<Vec<u8>>, header: &[u8], body: &[u8]) {
    if place.is_none() {
        *place = Some(decoded(header, body).into_owned());
    }
}

/// The front of a part, decoded; as it is, where its encoding is none.
fn decoded<'a>(header: &[u8], body: &'a [u8]) -> Cow<'a, [u8]> {
    let body = truncated(body, PART_OCTETS_MAX);
    match Encoding::of(header) {
        // A cut must not fall within a group of base64.
        Some(Encoding::Base64) => {
            let letters: Vec<u8> = body.iter().copied().filter(|letter| !letter.is_ascii_whitespace()).collect();
            let whole = letters.len() - letters.len() % 4;
            Encoding::Base64.decode(&letters[..whole]).map_or(Cow::Borrowed(body), |text| Cow::Owned(text.into_owned()))
        }
        Some(encoding) => encoding.decode(body).unwrap_or(Cow::Borrowed(body)),
        None => Cow::Borrowed(body),
    }
}

/// Enough of it for prose to be recognised: a break is a line's end, every other mark nothing.
fn without_tags(html: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(html);
    let mut out = String::with_capacity(text.len());
    for (at, piece) in text.split('<').enumerate() {
        let (tag, words) = if at == 0 { ("", piece) } else { piece.split_once('>').unwrap_or((piece, "")) };
        let name: String = tag.trim_start_matches('/').chars().take_while(char::is_ascii_alphanumeric).collect();
        if matches!(name.to_ascii_lowercase().as_str(), "br" | "p" | "div" | "tr" | "li" | "h1" | "h2" | "h3" | "pre") {
            out.push('\n');
        }
        out.push_str(words);
    }
    let named = [("&lt;", "<"), ("&gt;", ">"), ("&nbsp;", " "), ("&#39;", "'"), ("&quot;", "\""), ("&amp;", "&")];
    named.iter().fold(out, |text, (name, letter)| text.replace(name, letter)).into_bytes()
}

/// RFC 3834 5, and what programs did before it.
fn is_answer(header: &[u8]) -> bool {
    let says = |name: &str| value(header, name).map(|value| value.trim().to_ascii_lowercase());
    if says("Auto-Submitted").is_some_and(|value| !value.starts_with("no")) {
        return true;
    }
    let bare = ["X-Autoreply", "X-Autorespond", "X-Autoresponder", "X-Auto-Reply-From", "X-Mail-Autoreply"];
    if bare.iter().any(|name| says(name).is_some_and(|value| value != "no")) {
        return true;
    }
    if says("Precedence").is_some_and(|value| value.replace('-', "_") == "auto_reply") {
        return true;
    }
    let subject = says("Subject").unwrap_or_default();
    const STARTS: [&str; 14] = [
        "automatic reply",
        "auto reply",
        "auto-reply",
        "autoreply",
        "auto response",
        "out of office",
        "out of the office",
        "vacation",
        "automatische antwort",
        "abwesenheit",
        "réponse automatique",
        "respuesta automática",
        "risposta automatica",
        "自動応答",
    ];
    STARTS.iter().any(|start| subject.starts_with(start))
}

/// A reply out of words such as `550 5.1.1 no such user`, `#5.2.2 smtp;552 full` or none of that, and what the report says besides.
fn reply_of(words: &str, status: Option<Enhanced>, action: Action) -> Reply {
    let (code, enhanced, text) = prose::code_of(words);
    let enhanced = enhanced.or(status);
    let class = enhanced.map(|enhanced| u16::from(enhanced.class));
    let code = code.unwrap_or(match (class, action) {
        (Some(4), _) | (None, Action::Delayed) => 450,
        (Some(2), _) | (None, Action::Delivered | Action::Relayed) => 250,
        _ => 550,
    });
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SAID_CHARS_MAX).collect();
    Reply { code, enhanced, text: text.trim().to_owned() }
}

#[cfg(test)]
mod tests;
