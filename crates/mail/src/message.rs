//! What does a message say of itself, and what must change in it before it is sent?
//!
//! A message stays the octets it came as. Its header fields are found in one pass, and only touched lines are written anew.

use std::borrow::Cow;

use memchr::{memchr, memchr_iter, memchr2_iter, memchr3, memmem};

use crate::address::Mailbox;
use crate::encode::{self, LINE_MAX};
use crate::mailboxes::{self, MailboxesError};

/// The header block with its line ends.
pub const HEADER_OCTETS_MAX: usize = 256 * 1024;
pub const HEADER_FIELDS_MAX: usize = 1_000;
/// Received fields: one for each relay. RFC 5321 6.3 asks for at least 100.
pub const HOPS_MAX: usize = 100;

/// Why a message is not accepted. The sentences are for the customer who sent it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    #[error("line {0} of the message has a carriage return that is not followed by a line feed")]
    BareCr(usize),
    #[error("line {0} of the message ends with a line feed alone; lines must end with CRLF")]
    BareLf(usize),
    #[error("line {0} of the message contains a NUL octet")]
    Nul(usize),
    #[error("line {0} is neither a header field nor the continuation of one, nor the empty line before the body")]
    NotAField(usize),
    #[error("the header is larger than {HEADER_OCTETS_MAX} octets")]
    HeaderTooLarge,
    #[error("the header has more than {HEADER_FIELDS_MAX} fields")]
    TooManyFields,
    #[error("the header field {0} has a line longer than {LINE_MAX} octets and no space to fold it at")]
    HeaderLineTooLong(String),
    #[error("line {0} of the message is longer than {LINE_MAX} octets; encode the text as quoted-printable or base64")]
    BodyLineTooLong(usize),
    #[error("the message has no From field")]
    NoFrom,
    #[error("the message has more than one From field")]
    ManyFrom,
    #[error("the From field cannot be read: {0}")]
    From(MailboxesError),
    #[error("the message has passed {0} relays, which is more than {HOPS_MAX}: it is going round in a loop")]
    TooManyHops(usize),
}

impl MessageError {
    /// The status code of RFC 3463 to answer with.
    pub fn enhanced(&self) -> (u8, u16, u16) {
        match self {
            MessageError::TooManyHops(_) => (5, 4, 6),
            MessageError::HeaderTooLarge | MessageError::TooManyFields => (5, 3, 4),
            _ => (5, 6, 0),
        }
    }
}

/// One header field, as it lies in the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// As it is written.
    pub name: &'a str,
    /// Everything after the colon, folds as they are, without the last line end.
    pub value: &'a [u8],
    /// The whole field with its line end.
    pub octets: &'a [u8],
}

impl<'a> Field<'a> {
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// The value on one line, without space around it.
    pub fn unfolded(&self) -> Cow<'a, [u8]> {
        let value = self.value.trim_ascii();
        if memchr(b'\n', value).is_none() {
            return Cow::Borrowed(value);
        }
        Cow::Owned(value.iter().copied().filter(|b| !matches!(b, b'\r' | b'\n')).collect())
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.unfolded()).into_owned()
    }
}

/// A message that keeps the rules of RFC 5322 for lines and fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    octets: Vec<u8>,
    body_at: usize,
}

impl Message {
    pub fn parse(octets: Vec<u8>) -> Result<Message, MessageError> {
        let scan = scan(&octets)?;
        if let Some(field) = fields(&octets[..scan.header_end]).find(|field| longest_line(field.octets) > LINE_MAX) {
            return Err(MessageError::HeaderLineTooLong(field.name.to_owned()));
        }
        if let Some(line) = scan.long_body_line {
            return Err(MessageError::BodyLineTooLong(line));
        }
        Ok(Message { body_at: scan.body_at, octets })
    }

    /// The first field of that name, on one line.
    pub fn header(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        self.headers().find(|field| field.is(name)).map(|field| field.unfolded())
    }

    pub fn headers(&self) -> impl Iterator<Item = Field<'_>> {
        fields(split(&self.octets).0)
    }

    pub fn body(&self) -> &[u8] {
        &self.octets[self.body_at..]
    }

    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// Relays passed so far.
    pub fn hops(&self) -> usize {
        self.headers().filter(|field| field.is("Received")).count()
    }
}

/// The header block with its line ends, and the body after the empty line.
pub fn split(message: &[u8]) -> (&[u8], &[u8]) {
    if let Some(body) = message.strip_prefix(b"\r\n") {
        return (&[], body);
    }
    match memmem::find(message, b"\r\n\r\n") {
        Some(at) => (&message[..at + 2], &message[at + 4..]),
        None => (message, &[]),
    }
}

/// The fields of a header block, top down. Lines that are none are passed over.
pub fn fields(header: &[u8]) -> impl Iterator<Item = Field<'_>> {
    let mut rest = header;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let (octets, after) = rest.split_at(field_end(rest));
            rest = after;
            if let Some(field) = field(octets) {
                return Some(field);
            }
        }
        None
    })
}

/// What submission does to a message.
#[derive(Clone, Debug)]
pub struct Preparing<'a> {
    /// For the Date field, should there be none.
    pub date_unix: i64,
    /// For the Message-ID field, should there be none: `<left@right>`.
    pub message_id: String,
    /// Fields to take out besides Bcc and Resent-Bcc. A final `*` stands for any ending.
    pub remove: &'a [&'a str],
    /// A Received field to put on top, with or without its name. It is folded here.
    pub trace: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// Ends with CRLF.
    pub octets: Vec<u8>,
    /// The mailboxes of the From field: at least one.
    pub from: Vec<Mailbox>,
    /// Names as they were written and unfolded values, in order; Bcc among them.
    pub removed: Vec<(String, String)>,
    /// As in the message, with its angle brackets.
    pub message_id: String,
    /// Received fields the message came with.
    pub hops: usize,
}

/// Removes Bcc, Resent-Bcc and the named fields, adds Date and Message-ID when missing, puts the trace on top.
///
/// Header lines over 998 octets are folded where they have a space. Body lines over 998 octets: a message of one text
/// part (no content, 7bit or 8bit encoding named, no DKIM-Signature yet) is re-encoded as quoted-printable; every other
/// is refused, as its parts or its signature would have to change. All other octets stay as they came, save that a
/// missing last CRLF is added.
pub fn prepare(octets: Vec<u8>, options: &Preparing<'_>) -> Result<Prepared, MessageError> {
    let scan = scan(&octets)?;
    let (header, body) = (&octets[..scan.header_end], &octets[scan.body_at..]);
    let encoded = match scan.long_body_line {
        Some(line) => Some(reencode(header, body).ok_or(MessageError::BodyLineTooLong(line))?),
        None => None,
    };
    let survey = survey(header, options.remove, encoded.is_some())?;
    if let Some(message_id) = &survey.message_id
        && survey.has_date
        && survey.changes.is_empty()
        && encoded.is_none()
        && options.trace.is_none()
        && !body.is_empty()
        && octets.ends_with(b"\r\n")
    {
        let message_id = message_id.clone();
        let Survey { from, removed, hops, .. } = survey;
        return Ok(Prepared { octets, from, removed, message_id, hops });
    }

    let encoded_octets = encoded.as_ref().map_or(0, |encoded| encoded.body.len());
    let mut out = Vec::with_capacity(octets.len() + encoded_octets + 1_024);
    if let Some(trace) = &options.trace {
        write_trace(trace, &mut out);
    }
    let mut copied = 0;
    for change in &survey.changes {
        out.extend_from_slice(&header[copied..change.at]);
        out.extend_from_slice(&change.instead);
        copied = change.at + change.octets;
    }
    out.extend_from_slice(&header[copied..]);
    end_line(&mut out);
    if !survey.has_date {
        write_field(&mut out, "Date", &encode::date(options.date_unix));
    }
    let message_id = survey.message_id.unwrap_or_else(|| {
        write_field(&mut out, "Message-ID", &options.message_id);
        options.message_id.clone()
    });
    if let Some(encoded) = &encoded {
        out.extend_from_slice(&encoded.fields);
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(encoded.as_ref().map_or(body, |encoded| &encoded.body));
    end_line(&mut out);
    let Survey { from, removed, hops, .. } = survey;
    Ok(Prepared { octets: out, from, removed, message_id, hops })
}

/// For faces where the end of a message is not found by its lines (HTTP): every bare CR or LF becomes CRLF.
pub fn mend_line_ends(octets: Vec<u8>) -> Vec<u8> {
    let ends = || memchr2_iter(b'\r', b'\n', &octets);
    let sound = |at: usize| match octets[at] {
        b'\r' => octets.get(at + 1) == Some(&b'\n'),
        _ => at > 0 && octets[at - 1] == b'\r',
    };
    if ends().all(sound) {
        return octets;
    }
    let mut out = Vec::with_capacity(octets.len() + octets.len() / 32);
    let mut copied = 0;
    for at in ends() {
        if at < copied {
            continue;
        }
        out.extend_from_slice(&octets[copied..at]);
        out.extend_from_slice(b"\r\n");
        let pair = octets[at..].starts_with(b"\r\n");
        copied = at + if pair { 2 } else { 1 };
    }
    out.extend_from_slice(&octets[copied..]);
    out
}

/// Where header and body lie, once every line has been looked at.
struct Scan {
    header_end: usize,
    body_at: usize,
    long_body_line: Option<usize>,
}

fn scan(octets: &[u8]) -> Result<Scan, MessageError> {
    let mut header: Option<(usize, usize)> = None;
    let mut long_body_line = None;
    let mut field_count = 0;
    let mut number = 0;
    let mut at = 0;
    while at < octets.len() {
        number += 1;
        let rest = &octets[at..];
        let length = match memchr3(b'\r', b'\n', 0, rest) {
            None => rest.len(),
            Some(end) => match (rest[end], rest.get(end + 1)) {
                (b'\r', Some(b'\n')) => end,
                (b'\r', _) => return Err(MessageError::BareCr(number)),
                (b'\n', _) => return Err(MessageError::BareLf(number)),
                _ => return Err(MessageError::Nul(number)),
            },
        };
        let next = (at + length + 2).min(octets.len());
        if header.is_some() {
            if length > LINE_MAX {
                long_body_line = long_body_line.or(Some(number));
            }
        } else if length == 0 {
            header = Some((at, next));
        } else {
            let line = &rest[..length];
            let continues = matches!(line[0], b' ' | b'\t');
            if continues && number == 1 || !continues && field(line).is_none() {
                return Err(MessageError::NotAField(number));
            }
            field_count += usize::from(!continues);
            if field_count > HEADER_FIELDS_MAX {
                return Err(MessageError::TooManyFields);
            }
            if next > HEADER_OCTETS_MAX {
                return Err(MessageError::HeaderTooLarge);
            }
        }
        at = next;
    }
    let (header_end, body_at) = header.unwrap_or((octets.len(), octets.len()));
    Ok(Scan { header_end, body_at, long_body_line })
}

/// What the header holds and what is to change in it.
struct Survey {
    from: Vec<Mailbox>,
    removed: Vec<(String, String)>,
    message_id: Option<String>,
    has_date: bool,
    hops: usize,
    changes: Vec<Change>,
}

struct Change {
    at: usize,
    octets: usize,
    instead: Vec<u8>,
}

fn survey(header: &[u8], remove: &[&str], reencoded: bool) -> Result<Survey, MessageError> {
    let mut survey = Survey {
        from: Vec::new(),
        removed: Vec::new(),
        message_id: None,
        has_date: false,
        hops: 0,
        changes: Vec::new(),
    };
    let mut from: Option<Field<'_>> = None;
    let mut at = 0;
    for field in fields(header) {
        let mut instead = None;
        let listed = |pattern: &&str| match pattern.strip_suffix('*') {
            Some(start) => field.name.get(..start.len()).is_some_and(|name| name.eq_ignore_ascii_case(start)),
            None => field.is(pattern),
        };
        if field.is("Bcc") || field.is("Resent-Bcc") || remove.iter().any(listed) {
            survey.removed.push((field.name.to_owned(), field.text()));
            instead = Some(Vec::new());
        } else if reencoded && field.is("Content-Transfer-Encoding") {
            instead = Some(Vec::new());
        } else if field.is("From") {
            if from.replace(field).is_some() {
                return Err(MessageError::ManyFrom);
            }
        } else if field.is("Received") {
            survey.hops += 1;
        } else if field.is("Date") || field.is("Message-ID") {
            // An empty one counts as missing, and a second one would be no better.
            if field.value.trim_ascii().is_empty() {
                instead = Some(Vec::new());
            } else if field.is("Date") {
                survey.has_date = true;
            } else if survey.message_id.is_none() {
                survey.message_id = Some(field.text());
            }
        }
        if instead.is_none() && longest_line(field.octets) > LINE_MAX {
            let folded = fold(field.octets).ok_or_else(|| MessageError::HeaderLineTooLong(field.name.to_owned()))?;
            instead = Some(folded);
        }
        if let Some(instead) = instead {
            survey.changes.push(Change { at, octets: field.octets.len(), instead });
        }
        at += field.octets.len();
    }
    if survey.hops > HOPS_MAX {
        return Err(MessageError::TooManyHops(survey.hops));
    }
    survey.from = from_mailboxes(&from.ok_or(MessageError::NoFrom)?)?;
    Ok(survey)
}

fn from_mailboxes(from: &Field<'_>) -> Result<Vec<Mailbox>, MessageError> {
    // Names in old character sets are common, so only an address must be UTF-8: U+FFFD stands for what is not.
    let list = mailboxes::parse_list(&String::from_utf8_lossy(from.value)).map_err(MessageError::From)?;
    if list.is_empty() {
        return Err(MessageError::From(MailboxesError::Empty));
    }
    if let Some(named) = list.iter().find(|named| named.mailbox.local().contains('\u{fffd}')) {
        return Err(MessageError::From(MailboxesError::NoAddress(named.mailbox.to_string())));
    }
    Ok(list.into_iter().map(|named| named.mailbox).collect())
}

/// The octets up to the line end after which no continuation follows.
fn field_end(header: &[u8]) -> usize {
    memchr_iter(b'\n', header)
        .map(|at| at + 1)
        .find(|end| !matches!(header.get(*end), Some(b' ' | b'\t')))
        .unwrap_or(header.len())
}

fn field(octets: &[u8]) -> Option<Field<'_>> {
    let (name, value) = octets.split_at(memchr(b':', octets)?);
    // RFC 5322 3.6.8 ftext, which is printable ASCII; the obsolete space before the colon is refused.
    let name = std::str::from_utf8(name).ok().filter(|name| is_field_name(name))?;
    let value = &value[1..];
    let value = value.strip_suffix(b"\r\n").or_else(|| value.strip_suffix(b"\n")).unwrap_or(value);
    Some(Field { name, value, octets })
}

/// RFC 5322 3.6.8.
pub fn is_field_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && b != b':')
}

fn longest_line(octets: &[u8]) -> usize {
    if octets.len() <= LINE_MAX {
        return octets.len();
    }
    octets.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line).len()).max().unwrap_or(0)
}

/// Breaks lines over 998 octets before their last space that fits; `None` where there is none.
fn fold(field: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(field.len() + 64);
    for line in field.split_inclusive(|b| *b == b'\n') {
        let mut text = line.strip_suffix(b"\r\n").unwrap_or(line);
        while text.len() > LINE_MAX {
            // Neither part may be white space alone.
            let at = (1..=LINE_MAX).rev().find(|at| {
                matches!(text[*at], b' ' | b'\t')
                    && !text[..*at].trim_ascii().is_empty()
                    && !text[*at..].trim_ascii().is_empty()
            })?;
            out.extend_from_slice(&text[..at]);
            out.extend_from_slice(b"\r\n");
            text = &text[at..];
        }
        out.extend_from_slice(text);
        out.extend_from_slice(b"\r\n");
    }
    Some(out)
}

struct Encoded {
    /// Fields that must be added for the encoding to be understood.
    fields: Vec<u8>,
    body: Vec<u8>,
}

/// A body of plain text as quoted-printable; `None` where that would take more than adding fields.
fn reencode(header: &[u8], body: &[u8]) -> Option<Encoded> {
    let has = |name: &str| fields(header).any(|field| field.is(name));
    let value = |name: &str| fields(header).find(|field| field.is(name)).map(|field| field.text().to_ascii_lowercase());
    let content_type = value("Content-Type");
    let text = content_type.as_deref().is_none_or(|kind| kind.starts_with("text/"));
    let encoding = value("Content-Transfer-Encoding");
    let plain = encoding.is_none_or(|encoding| matches!(encoding.as_str(), "" | "7bit" | "8bit" | "binary"));
    if !text || !plain || has("DKIM-Signature") {
        return None;
    }
    let mut added = Vec::new();
    if !has("MIME-Version") {
        write_field(&mut added, "MIME-Version", "1.0");
    }
    if content_type.is_none() {
        // RFC 2046 4.1.2: without a type the text is US-ASCII. More can be said of it only if it is UTF-8.
        std::str::from_utf8(body).ok()?;
        write_field(&mut added, "Content-Type", "text/plain; charset=utf-8");
    }
    write_field(&mut added, "Content-Transfer-Encoding", "quoted-printable");
    let mut encoded = Vec::with_capacity(body.len() + body.len() / 8);
    encode::quoted_printable(body, &mut encoded);
    Some(Encoded { fields: added, body: encoded })
}

fn write_field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend(value.bytes().filter(|b| !b.is_ascii_control()));
    out.extend_from_slice(b"\r\n");
}

fn end_line(out: &mut Vec<u8>) {
    if !out.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
}

/// The trace holds what the other side said of itself: whatever that was, one well-folded field comes out.
fn write_trace(trace: &str, out: &mut Vec<u8>) {
    let value = trace.strip_prefix("Received:").unwrap_or(trace);
    let mut field = encode::FieldWriter::new(out, "Received");
    for word in value.split_ascii_whitespace() {
        let word: String = word.chars().filter(|c| !c.is_control()).take(LINE_MAX / 4 - 2).collect();
        if !word.is_empty() {
            field.word(&word);
        }
    }
    field.end();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use proptest::prelude::*;

    const HEAD: &str =
        "From: Ann <ann@example.org>\r\nDate: Tue, 14 Nov 2023 22:13:20 +0000\r\nMessage-ID: <1@example.org>\r\n";

    fn options<'a>() -> Preparing<'a> {
        Preparing {
            date_unix: 1_700_000_000,
            message_id: "<new@weir.test>".into(),
            remove: &["X-MSYS-API", "X-Weir-*"],
            trace: None,
        }
    }

    fn prepared(message: &str) -> Prepared {
        prepare(message.as_bytes().to_vec(), &options()).unwrap()
    }

    fn text(prepared: &Prepared) -> &str {
        std::str::from_utf8(&prepared.octets).unwrap()
    }

    fn refused(message: impl Into<Vec<u8>>, expected: MessageError) {
        let message = message.into();
        assert_eq!(prepare(message.clone(), &options()), Err(expected), "{}", String::from_utf8_lossy(&message));
    }

    #[test]
    fn a_complete_message_stays_as_it_is() {
        let message = format!("{HEAD}Subject: a\r\n  b\r\n \r\n\r\n.\r\nbody \t\r\n\r\n");
        let done = prepared(&message);
        assert_eq!(text(&done), message);
        assert_eq!(done.message_id, "<1@example.org>");
        assert_eq!(done.from, [Mailbox::parse("ann@example.org").unwrap()]);
        assert_eq!(done.hops, 0);
    }

    // R1.3
    #[test]
    fn control_fields_and_bcc_are_taken_out() {
        let message = format!(
            "bcc: x@example.org\r\nX-Msys-Api: {{\"options\":\r\n {{\"ip_pool\":\"p\"}}}}\r\n{HEAD}Resent-BCC: y@example.org,\r\n\tz@example.org\r\nx-weir-pool: q\r\nX-Weird: stays\r\n\r\nb\r\n"
        );
        let done = prepared(&message);
        assert_eq!(text(&done), format!("{HEAD}X-Weird: stays\r\n\r\nb\r\n"));
        let removed: Vec<(&str, &str)> = done.removed.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(
            removed,
            [
                ("bcc", "x@example.org"),
                ("X-Msys-Api", "{\"options\": {\"ip_pool\":\"p\"}}"),
                ("Resent-BCC", "y@example.org,\tz@example.org"),
                ("x-weir-pool", "q")
            ]
        );
    }

    #[test]
    fn what_is_missing_is_added() {
        let done = prepared("From: a@example.org\r\nMessage-Id: \r\n\r\nbody");
        assert_eq!(
            text(&done),
            "From: a@example.org\r\nDate: Tue, 14 Nov 2023 22:13:20 +0000\r\nMessage-ID: <new@weir.test>\r\n\r\nbody\r\n"
        );
        assert_eq!(done.message_id, "<new@weir.test>");
        // A message may be a header alone, even without its last line end.
        for header in ["From: a@example.org", "From: a@example.org\r\n", "From: a@example.org\r\n\r\n"] {
            let done = prepared(header);
            assert!(text(&done).starts_with("From: a@example.org\r\nDate:"), "{}", text(&done));
            assert!(text(&done).ends_with("<new@weir.test>\r\n\r\n"), "{}", text(&done));
        }
    }

    // D4
    #[test]
    fn the_trace_is_one_folded_field_whatever_it_holds() {
        let trace = format!("from {}\r\nX-Injected: 1\r\n\r\nbody\0\x07 by weir.test with ESMTPS", "long.".repeat(400));
        let done = prepare(format!("{HEAD}\r\n").into_bytes(), &Preparing { trace: Some(trace), ..options() }).unwrap();
        let message = Message::parse(done.octets).unwrap();
        let first = message.headers().next().unwrap();
        assert_eq!(first.name, "Received");
        assert!(first.text().ends_with("X-Injected: 1 body by weir.test with ESMTPS"), "{}", first.text());
        assert_eq!(message.headers().count(), 4);
        assert_eq!(message.hops(), 1);
    }

    // R1.4
    #[test]
    fn the_from_field_must_be_one_and_readable() {
        refused("Subject: x\r\n\r\n", MessageError::NoFrom);
        refused("From: a@example.org\r\nfrom: b@example.org\r\n\r\n", MessageError::ManyFrom);
        refused("From: \r\n\r\n", MessageError::From(MailboxesError::Empty));
        refused("From: Ann\r\n\r\n", MessageError::From(MailboxesError::NoAddress("Ann".into())));
        refused(
            b"From: J\xfcrgen <j\xfcrgen@example.org>\r\n\r\n".to_vec(),
            MessageError::From(MailboxesError::NoAddress("j\u{fffd}rgen@example.org".into())),
        );
        let latin = prepare(b"From: J\xfcrgen <j@example.org>\r\n\r\n".to_vec(), &options()).unwrap();
        assert_eq!(latin.from[0].to_string(), "j@example.org");
        let two = prepared("From: \"a, b\" <a@example.org>,\r\n b@example.net\r\n\r\n");
        assert_eq!(two.from.len(), 2);
    }

    // D1, D2
    #[test]
    fn bare_line_ends_and_nul_are_refused_with_their_line() {
        refused(format!("{HEAD}\r\na\nb\r\n"), MessageError::BareLf(5));
        refused(format!("{HEAD}\r\na\rb\r\n"), MessageError::BareCr(5));
        refused(format!("{HEAD}\r\na\r\r\n"), MessageError::BareCr(5));
        refused(format!("{HEAD}\r\na\r"), MessageError::BareCr(5));
        refused(format!("{HEAD}\r\na\0\r\n"), MessageError::Nul(5));
        refused("From: a@example.org\nX: y\r\n\r\n", MessageError::BareLf(1));
    }

    // D6
    #[test]
    fn the_header_has_limits() {
        refused(format!("{HEAD}X: {}\r\n\r\n", "y".repeat(1_000)), MessageError::HeaderLineTooLong("X".into()));
        refused(format!("{HEAD}{}\r\n", "X: y\r\n".repeat(HEADER_FIELDS_MAX)), MessageError::TooManyFields);
        refused(
            format!("{HEAD}X: y\r\n{}\r\n", format!(" {}\r\n", "z".repeat(900)).repeat(300)),
            MessageError::HeaderTooLarge,
        );
        refused(format!("{HEAD}no field\r\n\r\n"), MessageError::NotAField(4));
        refused(format!("{HEAD}X : y\r\n\r\n"), MessageError::NotAField(4));
        refused(format!(" folded\r\n{HEAD}\r\n"), MessageError::NotAField(1));
        refused(format!("From ann@example.org Sat Nov 21 09:00:00 2026\r\n{HEAD}\r\n"), MessageError::NotAField(1));
        refused("", MessageError::NoFrom);
        // A control field may be as long as it likes: it is taken out.
        let long = format!("{HEAD}X-MSYS-API: {}\r\n\r\n", "y".repeat(5_000));
        assert_eq!(prepared(&long).removed[0].1.len(), 5_000);
    }

    // D6, D14
    #[test]
    fn a_long_header_line_is_folded_at_its_spaces() {
        let value = "seven77 ".repeat(400);
        let done = prepared(&format!("{HEAD}References: {}\r\n\r\n", value.trim_end()));
        let message = Message::parse(done.octets).unwrap();
        assert_eq!(message.header("References").unwrap(), value.trim_end().as_bytes());
    }

    // D15
    #[test]
    fn a_message_that_goes_round_is_refused() {
        let hops = |count: usize| format!("{}{HEAD}\r\n", "Received: from a by b; now\r\n".repeat(count));
        assert_eq!(prepared(&hops(100)).hops, 100);
        refused(hops(150), MessageError::TooManyHops(150));
        assert_eq!(MessageError::TooManyHops(150).enhanced(), (5, 4, 6));
    }

    // D6
    #[test]
    fn a_long_body_line_is_encoded_in_plain_text_and_refused_elsewhere() {
        let line = "ü=".repeat(600);
        let done = prepared(&format!("{HEAD}\r\nshort\r\n{line}\r\n"));
        let message = Message::parse(done.octets).unwrap();
        assert_eq!(message.header("Content-Transfer-Encoding").unwrap(), &b"quoted-printable"[..]);
        assert_eq!(message.header("Content-Type").unwrap(), &b"text/plain; charset=utf-8"[..]);
        assert_eq!(message.header("MIME-Version").unwrap(), &b"1.0"[..]);
        let body = String::from_utf8(message.body().to_vec()).unwrap();
        assert_eq!(body.replace("=\r\n", ""), format!("short\r\n{}\r\n", "=C3=BC=3D".repeat(600)));

        let html = prepared(&format!(
            "MIME-Version: 1.0\r\nContent-Type: TEXT/html;\r\n charset=latin1\r\nContent-transfer-encoding: 8bit\r\n{HEAD}\r\n{line}\r\n"
        ));
        assert_eq!(text(&html).to_ascii_lowercase().matches("content-transfer-encoding").count(), 1);
        assert!(text(&html).contains("charset=latin1"));

        for head in [
            "Content-Type: multipart/mixed; boundary=x\r\n",
            "Content-Transfer-Encoding: base64\r\n",
            "DKIM-Signature: v=1\r\n",
        ] {
            refused(format!("{head}{HEAD}\r\nshort\r\n{line}\r\n"), MessageError::BodyLineTooLong(7));
        }
    }

    #[test]
    fn line_ends_are_mended_where_that_is_safe() {
        let check = |from: &str, to: &str| {
            assert_eq!(mend_line_ends(from.into()), to.as_bytes(), "{from:?}");
        };
        check("a\nb\n", "a\r\nb\r\n");
        check("a\r\nb\r\n", "a\r\nb\r\n");
        check("\na\rb\r\r\n\n\r", "\r\na\r\nb\r\n\r\n\r\n\r\n");
        check("", "");
    }

    proptest! {
        // D14
        #[test]
        fn octets_that_need_no_change_are_kept(
            fields in proptest::collection::vec("[A-Za-z-]{1,20}:[ -~]{0,40}(\r\n [!-~]{1,40})?", 0..10),
            body in proptest::collection::vec("[ -~äß\t.]{0,80}", 0..20),
        ) {
            let fields: Vec<String> = fields.into_iter().map(|f| format!("X-{f}\r\n")).collect();
            let message = format!("{HEAD}{}\r\n{}\r\n", fields.concat(), body.join("\r\n"));
            let traced = prepare(message.clone().into_bytes(), &Preparing { trace: Some("from x".into()), ..options() });
            prop_assert_eq!(traced.unwrap().octets, format!("Received: from x\r\n{message}").into_bytes());
            prop_assert_eq!(prepared(&message).octets, message.into_bytes());
        }

        // D1, D2, D6
        #[test]
        fn what_comes_out_keeps_the_rules(octets in "(From: a@example.org\r\n)?[\\PC\r\n\t :]{0,200}") {
            if let Ok(done) = prepare(octets.into_bytes(), &options()) {
                let message = Message::parse(done.octets).unwrap();
                prop_assert_eq!(message.headers().filter(|f| f.is("From")).count(), 1);
                prop_assert!(message.header("Message-ID").is_some());
                prop_assert!(message.octets().ends_with(b"\r\n"));
            }
        }
    }
}
