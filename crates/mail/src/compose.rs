//! How do a sender, a text and some files become a message?
//!
//! Whatever the caller gives, only the fields named here come out: a control character anywhere is an error that names
//! the field, and everything that is not plain ASCII is encoded. The same input gives the same octets.

use memchr::memmem;

use crate::encode::{self, FieldWriter, LINE_MAX};
pub use crate::mailboxes::NamedMailbox;
use crate::message::is_field_name;

/// RFC 5322 asks for lines of at most 78; a text with longer ones is encoded.
const PLAIN_LINE_MAX: usize = 78;
const HEADER_NAME_MAX: usize = 76;

/// Fields that have their own place in [`Compose`], or that only mail systems write.
const RESERVED: [&str; 17] = [
    "authentication-results",
    "bcc",
    "cc",
    "date",
    "delivered-to",
    "dkim-signature",
    "from",
    "message-id",
    "mime-version",
    "received",
    "received-spf",
    "reply-to",
    "return-path",
    "sender",
    "subject",
    "to",
    "x-google-dkim-signature",
];
const RESERVED_PREFIXES: [&str; 3] = ["content-", "arc-", "resent-"];

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct ComposeError {
    /// Such as `subject`, `headers[2].value`, `attachments[0].name`.
    pub field: String,
    pub problem: Problem,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("must not contain line breaks or other control characters")]
    Control,
    #[error("is not a header name: printable ASCII without spaces and colons, at most {HEADER_NAME_MAX} characters")]
    HeaderName,
    #[error("this header cannot be set here")]
    Reserved,
    #[error("is not a content type such as text/plain or application/pdf")]
    ContentType,
    #[error("content of this type must be lines of 7-bit text of at most {LINE_MAX} octets")]
    SevenBitContent,
    #[error("is not a message id such as <left@right>")]
    MessageId,
    #[error("is not a content id: printable ASCII without spaces and angle brackets")]
    ContentId,
    #[error("must not be empty")]
    Empty,
    #[error("is too long")]
    TooLong,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// May be empty for inline content.
    pub name: String,
    pub content_type: String,
    pub content: Vec<u8>,
    /// For content that the HTML shows by `cid:`; with or without angle brackets.
    pub content_id: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Compose {
    pub from: NamedMailbox,
    pub to: Vec<NamedMailbox>,
    pub cc: Vec<NamedMailbox>,
    pub reply_to: Vec<NamedMailbox>,
    pub subject: String,
    pub text: Option<String>,
    pub html: Option<String>,
    pub attachments: Vec<Attachment>,
    /// In the order given, after the fields that have a place of their own.
    pub headers: Vec<(String, String)>,
    pub date_unix: i64,
    /// With or without angle brackets.
    pub message_id: String,
    /// Decides the boundaries between parts.
    pub seed: u64,
}

impl Compose {
    /// From, To, Cc, Reply-To, Subject, Date, Message-ID, MIME-Version, the caller's own, then the parts.
    ///
    /// A local part outside ASCII stays as it is (RFC 6532): such a message needs SMTPUTF8 on its way.
    pub fn write(&self) -> Result<Vec<u8>, ComposeError> {
        let message_id = message_id(&self.message_id)?;
        let body = self.body()?;
        let mut out = Vec::with_capacity(2_048 + body.content.len());
        write_mailboxes(&mut out, "From", "from", std::slice::from_ref(&self.from))?;
        for (name, field, list) in
            [("To", "to", &self.to), ("Cc", "cc", &self.cc), ("Reply-To", "reply_to", &self.reply_to)]
        {
            write_mailboxes(&mut out, name, field, list)?;
        }
        check_text(&self.subject, || "subject".into())?;
        write_text(&mut out, "Subject", &self.subject);
        write_text(&mut out, "Date", &encode::date(self.date_unix));
        write_text(&mut out, "Message-ID", &message_id);
        write_text(&mut out, "MIME-Version", "1.0");
        for (index, (name, value)) in self.headers.iter().enumerate() {
            check_header(name, value, index)?;
            write_text(&mut out, name, value);
        }
        body.write(&mut out);
        Ok(out)
    }

    /// mixed(alternative(text, related(html, inline…)), attachment…), each shell only where it holds two.
    fn body(&self) -> Result<Part, ComposeError> {
        let mut inline = Vec::new();
        let mut attached = Vec::new();
        for (index, attachment) in self.attachments.iter().enumerate() {
            let shown = attachment.content_id.is_some() && self.html.is_some();
            let part = attachment.part(index, shown)?;
            if shown {
                inline.push(part);
            } else {
                attached.push(part);
            }
        }
        let mut seed = self.seed;
        let mut shell = |kind: &str, mut parts: Vec<Part>| {
            if parts.len() == 1 {
                return parts.remove(0);
            }
            multipart(kind, &parts, &mut seed)
        };
        let html = self.html.as_ref().map(|html| {
            let mut parts = vec![text_part("text/html", html)];
            parts.append(&mut inline);
            shell("related; type=\"text/html\"", parts)
        });
        let text = self.text.as_ref().map(|text| text_part("text/plain", text));
        let mut readable: Vec<Part> = text.into_iter().chain(html).collect();
        if readable.is_empty() {
            readable.push(text_part("text/plain", ""));
        }
        let mut parts = vec![shell("alternative", readable)];
        parts.append(&mut attached);
        Ok(shell("mixed", parts))
    }
}

impl Attachment {
    fn part(&self, index: usize, shown: bool) -> Result<Part, ComposeError> {
        let field = |name: &str| format!("attachments[{index}].{name}");
        check_text(&self.name, || field("name"))?;
        if self.name.is_empty() && self.content_id.is_none() {
            return refuse(field("name"), Problem::Empty);
        }
        if self.name.len() > 1_024 {
            return refuse(field("name"), Problem::TooLong);
        }
        let Some(content_type) = ContentType::parse(&self.content_type) else {
            return refuse(field("content_type"), Problem::ContentType);
        };
        let mut fields = Vec::new();
        let mut line = FieldWriter::new(&mut fields, "Content-Type");
        line.word(&content_type.kind);
        for (name, value) in &content_type.parameters {
            line.parameter(name, value);
        }
        if !self.name.is_empty() {
            line.parameter("name", &self.name);
        }
        line.end();
        let mut line = FieldWriter::new(&mut fields, "Content-Disposition");
        line.word(if shown { "inline" } else { "attachment" });
        if !self.name.is_empty() {
            line.parameter("filename", &self.name);
        }
        line.end();
        if let Some(id) = &self.content_id {
            let id = id.strip_prefix('<').and_then(|id| id.strip_suffix('>')).unwrap_or(id);
            if id.is_empty() || id.len() > 255 || !id.bytes().all(|b| b.is_ascii_graphic() && !b"<>".contains(&b)) {
                return refuse(field("content_id"), Problem::ContentId);
            }
            write_text(&mut fields, "Content-ID", &format!("<{id}>"));
        }
        let mut content = Vec::new();
        if content_type.kind.starts_with("message/") {
            // RFC 2046 5.2: a message inside a message is not encoded.
            if !is_seven_bit(&self.content, LINE_MAX) {
                return refuse(field("content"), Problem::SevenBitContent);
            }
            write_text(&mut fields, "Content-Transfer-Encoding", "7bit");
            content.extend_from_slice(&self.content);
        } else {
            write_text(&mut fields, "Content-Transfer-Encoding", "base64");
            encode::base64_lines(&self.content, &mut content);
        }
        Ok(Part { fields, content })
    }
}

/// One MIME entity: its own fields, and its content as it goes on the wire.
pub(crate) struct Part {
    fields: Vec<u8>,
    content: Vec<u8>,
}

impl Part {
    /// Content that is on the wire as it is.
    pub(crate) fn encoded(kind: &str, content: Vec<u8>) -> Part {
        let mut fields = Vec::new();
        write_text(&mut fields, "Content-Type", kind);
        let encoding = if content.is_ascii() { "7bit" } else { "8bit" };
        write_text(&mut fields, "Content-Transfer-Encoding", encoding);
        Part { fields, content }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.fields);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.content);
        if !out.ends_with(b"\r\n") {
            out.extend_from_slice(b"\r\n");
        }
    }
}

pub(crate) fn text_part(kind: &str, text: &str) -> Part {
    let text = with_crlf(text);
    let mut fields = Vec::new();
    write_text(&mut fields, "Content-Type", &format!("{kind}; charset=utf-8"));
    let mut content = Vec::new();
    // Quoted-printable takes three octets for one that is not plain, base64 four for three of any kind.
    let odd =
        text.bytes().filter(|b| !b.is_ascii_graphic() && !matches!(b, b' ' | b'\t' | b'\r' | b'\n') || *b == b'=');
    let encoding = if is_seven_bit(text.as_bytes(), PLAIN_LINE_MAX) && !mangled(&text) {
        content.extend_from_slice(text.as_bytes());
        "7bit"
    } else if odd.count() * 6 <= text.len() {
        encode::quoted_printable(text.as_bytes(), &mut content);
        "quoted-printable"
    } else {
        encode::base64_lines(text.as_bytes(), &mut content);
        "base64"
    };
    write_text(&mut fields, "Content-Transfer-Encoding", encoding);
    Part { fields, content }
}

pub(crate) fn multipart(kind: &str, parts: &[Part], seed: &mut u64) -> Part {
    let boundary = loop {
        let boundary = format!("=_{:016x}", mixed(seed));
        // Plain parts could hold anything.
        let taken = |part: &Part| memmem::find(&part.content, boundary.as_bytes()).is_some();
        if !parts.iter().any(taken) {
            break boundary;
        }
    };
    let mut fields = Vec::new();
    let mut line = FieldWriter::new(&mut fields, "Content-Type");
    line.word(&format!("multipart/{kind};"));
    line.word(&format!("boundary=\"{boundary}\""));
    line.end();
    // RFC 2045 6.4: a shell says so when a part of it is not 7-bit.
    if !parts.iter().all(|part| part.content.is_ascii()) {
        write_text(&mut fields, "Content-Transfer-Encoding", "8bit");
    }
    let mut content = Vec::with_capacity(parts.iter().map(|part| part.content.len() + 512).sum());
    for part in parts {
        content.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
        part.write(&mut content);
    }
    content.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    Part { fields, content }
}

/// SplitMix64: boundaries need to differ, not to be secret.
fn mixed(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn write_mailboxes(out: &mut Vec<u8>, name: &str, field: &str, list: &[NamedMailbox]) -> Result<(), ComposeError> {
    if list.is_empty() {
        return Ok(());
    }
    let mut line = FieldWriter::new(out, name);
    for (index, named) in list.iter().enumerate() {
        let comma = if index + 1 < list.len() { "," } else { "" };
        match &named.name {
            Some(display) => {
                check_text(display, || if list.len() == 1 { field.into() } else { format!("{field}[{index}]") })?;
                line.phrase(display);
                line.word(&format!("<{}>{comma}", named.mailbox));
            }
            None => line.word(&format!("{}{comma}", named.mailbox)),
        }
    }
    line.end();
    Ok(())
}

fn write_text(out: &mut Vec<u8>, name: &str, value: &str) {
    let mut line = FieldWriter::new(out, name);
    line.text(value);
    line.end();
}

// D4
fn check_text(text: &str, field: impl FnOnce() -> String) -> Result<(), ComposeError> {
    if text.chars().any(|c| c.is_control() && c != '\t') {
        return refuse(field(), Problem::Control);
    }
    Ok(())
}

fn check_header(name: &str, value: &str, index: usize) -> Result<(), ComposeError> {
    let lower = name.to_ascii_lowercase();
    if !is_field_name(name) || name.len() > HEADER_NAME_MAX {
        return refuse(format!("headers[{index}].name"), Problem::HeaderName);
    }
    if RESERVED.contains(&lower.as_str()) || RESERVED_PREFIXES.iter().any(|prefix| lower.starts_with(prefix)) {
        return refuse(format!("headers[{index}].name"), Problem::Reserved);
    }
    check_text(value, || format!("headers[{index}].value"))
}

fn message_id(text: &str) -> Result<String, ComposeError> {
    let id = text.strip_prefix('<').and_then(|id| id.strip_suffix('>')).unwrap_or(text);
    let sound = id.bytes().all(|b| b.is_ascii_graphic() && !b"<>".contains(&b));
    let halves = id.split_once('@').is_some_and(|(left, right)| !left.is_empty() && !right.is_empty());
    if !sound || !halves || id.len() > 255 {
        return refuse("message_id".into(), Problem::MessageId);
    }
    Ok(format!("<{id}>"))
}

fn refuse<T>(field: String, problem: Problem) -> Result<T, ComposeError> {
    Err(ComposeError { field, problem })
}

/// RFC 2045 5.1; `name` is left out, as the attachment has its own.
struct ContentType {
    kind: String,
    parameters: Vec<(String, String)>,
}

impl ContentType {
    fn parse(text: &str) -> Option<ContentType> {
        let token = |text: &str| {
            !text.is_empty()
                && text.len() <= 127
                && text.bytes().all(|b| b.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&b))
        };
        let mut pieces = text.split(';');
        let kind = pieces.next()?.trim_matches([' ', '\t']);
        let (main, sub) = kind.split_once('/')?;
        if !token(main) || !token(sub) || main.eq_ignore_ascii_case("multipart") {
            return None;
        }
        let mut parameters = Vec::new();
        for piece in pieces.filter(|piece| !piece.trim_matches([' ', '\t']).is_empty()) {
            let (name, value) = piece.trim_matches([' ', '\t']).split_once('=')?;
            let inside = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            let value = inside.unwrap_or(value);
            let quotable = |b: u8| (b.is_ascii_graphic() || b == b' ') && b != b'"' && b != b'\\';
            let sound = if inside.is_some() { value.bytes().all(quotable) && value.len() <= 127 } else { token(value) };
            if !token(name) || !sound {
                return None;
            }
            if !name.eq_ignore_ascii_case("name") {
                parameters.push((name.to_ascii_lowercase(), value.to_owned()));
            }
        }
        Some(ContentType { kind: kind.to_ascii_lowercase(), parameters })
    }
}

/// Lines of printable ASCII, ended by CRLF alone, none longer than `line_max`.
fn is_seven_bit(text: &[u8], line_max: usize) -> bool {
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t');
    let mut lines = text.split(|byte| *byte == b'\n');
    // What follows the last line break is no ended line.
    let last = lines.next_back().unwrap_or_default();
    // Every octet is looked at: without a way out in the middle, many are at once.
    let is_good = |line: &[u8]| line.len() <= line_max && line.iter().fold(true, |good, byte| good & is_plain(byte));
    is_good(last) && lines.all(|line| line.strip_suffix(b"\r").is_some_and(is_good))
}

/// What some relays change in passing: space at the end of a line, `From ` at its start.
fn mangled(text: &str) -> bool {
    text.split("\r\n").any(|line| line.ends_with([' ', '\t']) || line.starts_with("From "))
}

fn with_crlf(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 32 + 2);
    let mut rest = text;
    while let Some(at) = memchr::memchr2(b'\r', b'\n', rest.as_bytes()) {
        out.push_str(&rest[..at]);
        out.push_str("\r\n");
        let ended = if rest[at..].starts_with("\r\n") { 2 } else { 1 };
        rest = &rest[at + ended..];
    }
    out.push_str(rest);
    if !text.is_empty() && !out.ends_with("\r\n") {
        out.push_str("\r\n");
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::address::Mailbox;
    use crate::mailboxes::parse_list;
    use crate::message::{self, Message};
    use proptest::prelude::*;

    fn plain() -> Compose {
        Compose {
            from: NamedMailbox::parse("Ann <ann@example.org>").unwrap(),
            to: vec![NamedMailbox::parse("bob@example.net").unwrap()],
            cc: Vec::new(),
            reply_to: Vec::new(),
            subject: "Hello".into(),
            text: Some("Hi Bob,\nall well?\n".into()),
            html: None,
            attachments: Vec::new(),
            headers: Vec::new(),
            date_unix: 1_700_000_000,
            message_id: "1@weir.test".into(),
            seed: 7,
        }
    }

    fn written(compose: &Compose) -> String {
        String::from_utf8(compose.write().unwrap()).unwrap()
    }

    fn refused(change: impl FnOnce(&mut Compose), field: &str, problem: Problem) {
        let mut compose = plain();
        change(&mut compose);
        assert_eq!(compose.write(), Err(ComposeError { field: field.into(), problem }));
    }

    fn file(name: &str, content_type: &str, content: &[u8], content_id: Option<&str>) -> Attachment {
        Attachment {
            name: name.into(),
            content_type: content_type.into(),
            content: content.to_vec(),
            content_id: content_id.map(Into::into),
        }
    }

    #[test]
    fn a_text_is_one_part() {
        assert_eq!(
            written(&plain()),
            "From: Ann <ann@example.org>\r\nTo: bob@example.net\r\nSubject: Hello\r\n\
             Date: Tue, 14 Nov 2023 22:13:20 +0000\r\nMessage-ID: <1@weir.test>\r\nMIME-Version: 1.0\r\n\
             Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 7bit\r\n\r\nHi Bob,\r\nall well?\r\n"
        );
    }

    #[test]
    fn parts_are_nested_by_what_is_there() {
        let structure = |compose: &Compose| -> Vec<String> {
            let text = written(compose);
            text.lines()
                .filter_map(|line| line.strip_prefix("Content-Type: "))
                .map(|kind| kind.split(';').next().unwrap().to_owned())
                .collect()
        };
        let mut compose = plain();
        compose.html = Some("<p>Hi</p>".into());
        assert_eq!(structure(&compose), ["multipart/alternative", "text/plain", "text/html"]);
        compose.attachments =
            vec![file("a.pdf", "application/pdf", b"%PDF", None), file("l.png", "image/png", b"png", Some("<logo>"))];
        assert_eq!(
            structure(&compose),
            [
                "multipart/mixed",
                "multipart/alternative",
                "text/plain",
                "multipart/related",
                "text/html",
                "image/png",
                "application/pdf"
            ]
        );
        let text = written(&compose);
        assert!(text.contains("Content-ID: <logo>\r\n"));
        assert!(text.contains("Content-Disposition: inline; filename=\"l.png\"\r\n"));
        assert!(text.contains("Content-Disposition: attachment; filename=\"a.pdf\"\r\n"));
        compose.text = None;
        compose.attachments.remove(0);
        assert_eq!(structure(&compose), ["multipart/related", "text/html", "image/png"]);
        // Nothing can show it: an attachment like any other.
        compose.html = None;
        assert_eq!(structure(&compose), ["multipart/mixed", "text/plain", "image/png"]);
    }

    #[test]
    fn the_same_input_gives_the_same_octets() {
        let mut compose = plain();
        compose.html = Some("x".into());
        let first = written(&compose);
        assert_eq!(written(&compose), first);
        compose.seed = 8;
        assert_ne!(written(&compose), first);
        // A text that holds the boundary moves it.
        let boundary = first.split("boundary=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        compose.seed = 7;
        compose.text = Some(boundary.clone());
        assert!(!written(&compose).contains(&format!("--{boundary}")));
    }

    // D4
    #[test]
    fn control_characters_are_refused_in_every_field() {
        for bad in ["a\r\nBcc: x@y.z", "a\nb", "a\rb", "a\0b", "a\u{7f}", "a\u{85}b"] {
            let named =
                |name: &str| NamedMailbox { name: Some(name.into()), mailbox: Mailbox::parse("a@b.org").unwrap() };
            refused(|c| c.subject = bad.into(), "subject", Problem::Control);
            refused(|c| c.from = named(bad), "from", Problem::Control);
            refused(|c| c.to = vec![named("x"), named(bad)], "to[1]", Problem::Control);
            refused(|c| c.cc = vec![named(bad)], "cc", Problem::Control);
            refused(|c| c.reply_to = vec![named(bad)], "reply_to", Problem::Control);
            refused(
                |c| c.headers = vec![("X-A".into(), "1".into()), ("X-B".into(), bad.into())],
                "headers[1].value",
                Problem::Control,
            );
            refused(|c| c.headers = vec![(bad.into(), "1".into())], "headers[0].name", Problem::HeaderName);
            refused(|c| c.attachments = vec![file(bad, "a/b", b"", None)], "attachments[0].name", Problem::Control);
            refused(
                |c| c.attachments = vec![file("a", &format!("a/b; c=\"{bad}\""), b"", None)],
                "attachments[0].content_type",
                Problem::ContentType,
            );
            refused(
                |c| c.attachments = vec![file("a", &format!("a/{bad}"), b"", None)],
                "attachments[0].content_type",
                Problem::ContentType,
            );
            refused(
                |c| c.attachments = vec![file("a", "a/b", b"", Some(bad))],
                "attachments[0].content_id",
                Problem::ContentId,
            );
            refused(|c| c.message_id = format!("{bad}@x"), "message_id", Problem::MessageId);
        }
    }

    #[test]
    fn fields_with_a_place_of_their_own_are_refused() {
        for name in [
            "Content-Type",
            "MIME-version",
            "FROM",
            "to",
            "Dkim-Signature",
            "Received",
            "Return-Path",
            "Bcc",
            "ARC-Seal",
            "Resent-From",
            "Sender",
        ] {
            refused(|c| c.headers = vec![(name.into(), "x".into())], "headers[0].name", Problem::Reserved);
        }
        for name in ["", "X A", "X:", "Ü", "X\t"] {
            refused(|c| c.headers = vec![(name.into(), "x".into())], "headers[0].name", Problem::HeaderName);
        }
    }

    #[test]
    fn wrong_attachments_are_refused() {
        for kind in [
            "",
            "text",
            "text/",
            "/plain",
            "text/plain; x",
            "text/plain; x=a b",
            "multipart/mixed; boundary=x",
            "a/b/c",
            "text/plain; x=\"a\"b\"",
        ] {
            refused(
                |c| c.attachments = vec![file("a", kind, b"", None)],
                "attachments[0].content_type",
                Problem::ContentType,
            );
        }
        refused(|c| c.attachments = vec![file("", "a/b", b"", None)], "attachments[0].name", Problem::Empty);
        refused(
            |c| c.attachments = vec![file("m.eml", "message/rfc822", "From: ü".as_bytes(), None)],
            "attachments[0].content",
            Problem::SevenBitContent,
        );
        let mut compose = plain();
        compose.attachments = vec![
            file("m.eml", "message/rfc822", b"From: a@b.c\r\n\r\nx", None),
            file("i.ics", "Text/Calendar; METHOD=REQUEST; charset=\"utf-8\"; name=x", b"BEGIN", None),
        ];
        let text = written(&compose);
        assert!(text.contains("\r\n\r\nFrom: a@b.c\r\n\r\nx\r\n--"));
        assert!(
            text.contains("Content-Type: text/calendar; method=REQUEST; charset=utf-8; name=\"i.ics\"\r\n"),
            "{text}"
        );
    }

    #[test]
    fn names_are_written_so_that_they_are_read_back() {
        let mut compose = plain();
        let names =
            ["Ann", "Ann B.", "Bell, Ann (Sales) \"x\\y\"", "Ünal", "a@b", "=?x?=", "日本語の名前".repeat(8).leak()];
        compose.to = names
            .iter()
            .map(|n| NamedMailbox { name: Some((*n).into()), mailbox: Mailbox::parse("x@bücher.example").unwrap() })
            .collect();
        let octets = compose.write().unwrap();
        let text = String::from_utf8(octets.clone()).unwrap();
        assert!(text.is_ascii() && text.lines().all(|l| l.len() <= 78), "{text}");
        let message = Message::parse(octets).unwrap();
        let list = parse_list(std::str::from_utf8(&message.header("To").unwrap()).unwrap()).unwrap();
        assert_eq!(list.len(), names.len());
        for (read, name) in list.iter().zip(names).filter(|(_, name)| name.is_ascii()) {
            assert_eq!(read.name.as_deref(), Some(name));
        }
        // IDN domains go out as A-labels.
        assert_eq!(list[0].mailbox.to_string(), "x@xn--bcher-kva.example");
    }

    #[test]
    fn texts_are_encoded_by_what_they_hold() {
        let encoding = |text: &str| {
            let compose = Compose { text: Some(text.into()), ..plain() };
            let message = Message::parse(compose.write().unwrap()).unwrap();
            String::from_utf8(message.header("Content-Transfer-Encoding").unwrap().into_owned()).unwrap()
        };
        assert_eq!(encoding("plain"), "7bit");
        assert_eq!(encoding(""), "7bit");
        assert_eq!(encoding("trailing \nspace"), "quoted-printable");
        assert_eq!(encoding("From here"), "quoted-printable");
        assert_eq!(encoding(&"long ".repeat(100)), "quoted-printable");
        assert_eq!(encoding("mostly ASCII, with an ü"), "quoted-printable");
        assert_eq!(encoding("日本語の本文"), "base64");
    }

    proptest! {
        // D4, D6
        #[test]
        fn whatever_is_written_is_a_sound_message(
            subject in "\\PC{0,120}", name in "\\PC{1,40}", text in "[\\PC\r\n\t]{0,300}", value in "[\\PC\t]{0,1200}",
            file_name in "\\PC{1,60}", content in proptest::collection::vec(any::<u8>(), 0..200), seed in any::<u64>(),
        ) {
            let mut compose = plain();
            compose.from.name = Some(name);
            compose.subject = subject;
            compose.html = Some(text.clone());
            compose.text = Some(text);
            compose.headers = vec![("X-Custom".into(), value)];
            compose.attachments = vec![file(&file_name, "application/x", &content, None)];
            compose.seed = seed;
            let octets = compose.write().unwrap();
            prop_assert!(octets.is_ascii());
            let message = Message::parse(octets.clone()).unwrap();
            let names: Vec<&str> = message.headers().map(|field| field.name).collect();
            prop_assert_eq!(names, ["From", "To", "Subject", "Date", "Message-ID", "MIME-Version", "X-Custom", "Content-Type"]);
            let options = message::Preparing { date_unix: 0, message_id: String::new(), remove: &[], trace: None };
            let prepared = message::prepare(octets.clone(), &options).unwrap();
            prop_assert_eq!(prepared.octets, octets);
            prop_assert_eq!(prepared.from[0].to_string(), "ann@example.org");
        }
    }
}
