//! What does the client ask for in this line?

use std::fmt;

use memchr::{memchr, memchr2};
use serde::{Deserialize, Serialize};

use crate::address::Mailbox;
use crate::reply::Reply;

/// RFC 3461 4.4: an envelope id is at most 100 characters.
const ENVID_OCTETS_MAX: usize = 100;
/// RFC 3461 4.2: the ORCPT parameter is at most 500 characters.
const ORCPT_OCTETS_MAX: usize = 500;
/// RFC 5321 4.5.3.1.2: a domain is at most 255 octets.
const HELLO_OCTETS_MAX: usize = 255;

/// RFC 4954 4: lines of an AUTH exchange may be this long.
const AUTH_LINE_MAX: usize = 12_288;
/// Of a line that is too long, this much more is read in the hope of its end; then the connection is closed.
const LINE_OVERRUN_OCTETS: usize = 64 << 10;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Ehlo(String),
    Helo(String),
    Auth {
        mechanism: String,
        initial: Option<String>,
    },
    StartTls,
    Mail {
        from: Option<Mailbox>,
        parameters: MailParameters,
    },
    Recipient {
        to: Mailbox,
        parameters: RecipientParameters,
    },
    Data,
    /// `None`: its size can't be read, so nobody knows where its octets end.
    Bdat(Option<Chunk>),
    Reset,
    Verify,
    Expand,
    Help,
    Noop,
    Quit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    pub octets: u64,
    pub last: bool,
}

/// What MAIL FROM carries beside the address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailParameters {
    /// RFC 1870. A number too large to hold is `u64::MAX`: larger than any limit.
    pub size: Option<u64>,
    pub body_8bit: bool,
    pub smtputf8: bool,
    pub ret: Option<Ret>,
    /// Kept as given, in xtext; `decode_xtext` reads it.
    pub envid: Option<String>,
    /// RFC 8689. Not offered yet: a host that can't keep the promise refuses the sender.
    pub require_tls: bool,
}

/// How much of the message a report about it returns (RFC 3461 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Ret {
    Full,
    Headers,
}

impl fmt::Display for Ret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ret::Full => "FULL",
            Ret::Headers => "HDRS",
        })
    }
}

/// What RCPT TO carries beside the address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RecipientParameters {
    pub notify: Option<Notify>,
    /// `type;value`, kept as given, the value in xtext.
    pub orcpt: Option<String>,
}

/// Which fates of a recipient the sender wants a report of (RFC 3461 4.1). None of them is NEVER.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Notify {
    pub success: bool,
    pub failure: bool,
    pub delay: bool,
}

impl Notify {
    pub const NEVER: Notify = Notify { success: false, failure: false, delay: false };

    fn parse(text: &str) -> Option<Notify> {
        if text.eq_ignore_ascii_case("NEVER") {
            return Some(Notify::NEVER);
        }
        let mut notify = Notify::NEVER;
        for word in text.split(',') {
            match word.to_ascii_uppercase().as_str() {
                "SUCCESS" => notify.success = true,
                "FAILURE" => notify.failure = true,
                "DELAY" => notify.delay = true,
                _ => return None,
            }
        }
        Some(notify)
    }
}

impl fmt::Display for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Notify::NEVER {
            return f.write_str("NEVER");
        }
        let named = [(self.success, "SUCCESS"), (self.failure, "FAILURE"), (self.delay, "DELAY")];
        let words: Vec<&str> = named.iter().filter(|(wanted, _)| *wanted).map(|(_, word)| *word).collect();
        f.write_str(&words.join(","))
    }
}

/// Reads one line, without its CRLF. `host` is our own name: `<postmaster>` without a domain is there.
pub fn parse(line: &[u8], host: &str) -> Result<Command, Reply> {
    let line = std::str::from_utf8(line)
        .map_err(|_| Reply::new(500, (5, 5, 2), "This line is neither ASCII nor UTF-8"))?
        .trim_end_matches([' ', '\t']);
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let rest = rest.trim_start();
    match verb.to_ascii_uppercase().as_str() {
        "EHLO" => hello_name(rest).map(Command::Ehlo),
        "HELO" => hello_name(rest).map(Command::Helo),
        "AUTH" => auth(rest),
        "MAIL" => mail(rest),
        "RCPT" => recipient(rest, host),
        "BDAT" => Ok(Command::Bdat(chunk(rest))),
        "DATA" => alone(Command::Data, rest),
        "STARTTLS" => alone(Command::StartTls, rest),
        "RSET" => alone(Command::Reset, rest),
        "QUIT" => alone(Command::Quit, rest),
        "NOOP" => Ok(Command::Noop),
        "HELP" => Ok(Command::Help),
        "VRFY" => Ok(Command::Verify),
        "EXPN" => Ok(Command::Expand),
        _ => Err(Reply::new(500, (5, 5, 1), "This command is not known here")),
    }
}

/// Reads xtext (RFC 3461 4). `None` if it is malformed or hides a control character, which could end a line in a report.
pub fn decode_xtext(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut octets = text.bytes();
    while let Some(octet) = octets.next() {
        match octet {
            b'+' => out.push(hex(octets.next()?)? << 4 | hex(octets.next()?)?),
            b'=' | 0..=b' ' | 0x7f => return None,
            _ => out.push(octet),
        }
    }
    String::from_utf8(out).ok().filter(|text| !text.contains(char::is_control))
}

fn hex(octet: u8) -> Option<u8> {
    match octet {
        b'0'..=b'9' => Some(octet - b'0'),
        b'A'..=b'F' => Some(octet - b'A' + 10),
        _ => None,
    }
}

/// One line of the client, or why it is none.
#[derive(Debug)]
pub enum Line {
    /// Without its CRLF.
    Whole(Vec<u8>),
    /// With a CR, LF or NUL where none belongs. After a lone LF this is said of everything up to the next CRLF, once for
    /// each end of line that the client may believe in: none of it is carried out, and nobody waits for an answer.
    Unclean,
    TooLong,
    Endless,
}

/// Divides octets that come in any pieces into lines, holding no more than one line of permitted length.
#[derive(Debug, Default)]
pub struct LineReader {
    held: Vec<u8>,
    /// Octets of this line so far, held or not.
    seen: usize,
    last: u8,
    too_long: bool,
    unclean: bool,
}

impl LineReader {
    /// Takes octets from the front of `input`, up to the end of one line. An AUTH exchange has longer ones.
    pub fn take(&mut self, input: &mut &[u8], line_max: usize, in_auth: bool) -> Option<Line> {
        if input.is_empty() {
            return None;
        }
        let end = memchr(b'\n', input);
        let (piece, rest) = input.split_at(end.map_or(input.len(), |end| end + 1));
        *input = rest;
        let before_last = if piece.len() > 1 { piece[piece.len() - 2] } else { self.last };
        self.last = piece[piece.len() - 1];
        self.seen += piece.len();
        let room = line_max.max(AUTH_LINE_MAX) - self.held.len();
        self.held.extend_from_slice(&piece[..piece.len().min(room)]);
        let auth = in_auth || self.held.get(..5).is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH "));
        let limit = if auth { line_max.max(AUTH_LINE_MAX) } else { line_max };
        if self.seen > limit {
            self.too_long = true;
            if self.seen - limit > LINE_OVERRUN_OCTETS {
                return Some(Line::Endless);
            }
        }
        end.map(|_| self.ended(before_last == b'\r'))
    }

    fn ended(&mut self, by_crlf: bool) -> Line {
        let mut line = std::mem::take(&mut self.held);
        let LineReader { too_long, unclean, .. } = std::mem::take(self);
        self.unclean = !by_crlf;
        if !by_crlf || unclean {
            return Line::Unclean;
        }
        if too_long {
            return Line::TooLong;
        }
        line.truncate(line.len() - 2);
        if memchr2(b'\r', 0, &line).is_some() { Line::Unclean } else { Line::Whole(line) }
    }

    /// The next line is held in the same memory.
    pub fn give_back(&mut self, mut line: Vec<u8>) {
        line.clear();
        self.held = line;
    }

    pub fn held(&self) -> usize {
        self.held.len()
    }
}

fn bad_argument(text: impl Into<String>) -> Reply {
    Reply::new(501, (5, 5, 4), text)
}

fn alone(command: Command, rest: &str) -> Result<Command, Reply> {
    if rest.is_empty() { Ok(command) } else { Err(bad_argument("This command takes nothing behind it")) }
}

/// The name is only repeated in a trace line and in our greeting, so it is made harmless, not refused: clients send
/// their computer's name, whatever it may be.
fn hello_name(rest: &str) -> Result<String, Reply> {
    if rest.is_empty() || rest.len() > HELLO_OCTETS_MAX {
        return Err(bad_argument("Say your host name, such as EHLO mail.example.com"));
    }
    let harmless = |c: char| {
        if c.is_ascii_alphanumeric() || "-._:[]".contains(c) { c } else { '?' }
    };
    Ok(rest.chars().map(harmless).collect())
}

fn auth(rest: &str) -> Result<Command, Reply> {
    let mut words = rest.split_ascii_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some(mechanism), initial, None) => {
            Ok(Command::Auth { mechanism: mechanism.to_ascii_uppercase(), initial: initial.map(str::to_owned) })
        }
        _ => Err(bad_argument("Say a mechanism, such as AUTH PLAIN")),
    }
}

fn chunk(rest: &str) -> Option<Chunk> {
    let mut words = rest.split_ascii_whitespace();
    let octets = words.next().filter(|size| is_number(size))?.parse().ok()?;
    match (words.next(), words.next()) {
        (None, _) => Some(Chunk { octets, last: false }),
        (Some(last), None) if last.eq_ignore_ascii_case("LAST") => Some(Chunk { octets, last: true }),
        _ => None,
    }
}

fn mail(rest: &str) -> Result<Command, Reply> {
    let (path, words) = path_of(rest, "FROM:", "MAIL FROM:<user@example.com>")?;
    let parameters = mail_parameters(words)?;
    if path.is_empty() {
        return Ok(Command::Mail { from: None, parameters });
    }
    if !path.is_ascii() && !parameters.smtputf8 {
        return Err(needs_smtputf8());
    }
    let from = Mailbox::parse(path)
        .map_err(|error| Reply::new(501, (5, 1, 7), format!("The sender address is not valid: {error}")))?;
    Ok(Command::Mail { from: Some(from), parameters })
}

fn recipient(rest: &str, host: &str) -> Result<Command, Reply> {
    let (path, words) = path_of(rest, "TO:", "RCPT TO:<user@example.com>")?;
    let parameters = recipient_parameters(words)?;
    // RFC 5321 4.5.1: postmaster is there without a domain too.
    let parsed = match path.eq_ignore_ascii_case("postmaster") {
        true => Mailbox::parse(&format!("{path}@{host}")),
        false => Mailbox::parse(path),
    };
    let to =
        parsed.map_err(|error| Reply::new(501, (5, 1, 3), format!("The recipient address is not valid: {error}")))?;
    Ok(Command::Recipient { to, parameters })
}

/// RFC 6531 3.5: an address beyond ASCII needs the SMTPUTF8 parameter.
pub fn needs_smtputf8() -> Reply {
    Reply::new(553, (5, 6, 7), "An address with characters beyond ASCII needs SMTPUTF8 on the MAIL command")
}

/// Divides `FROM:<path> words`. A space before the path and a path without brackets are common enough to be read.
fn path_of<'a>(rest: &'a str, keyword: &str, example: &str) -> Result<(&'a str, &'a str), Reply> {
    let malformed = || bad_argument(format!("Write it so: {example}"));
    let behind = rest
        .get(..keyword.len())
        .filter(|word| word.eq_ignore_ascii_case(keyword))
        .map(|_| rest[keyword.len()..].trim_start())
        .ok_or_else(malformed)?;
    let (path, words) = match behind.strip_prefix('<') {
        Some(inside) => {
            let end = bracket_end(inside).ok_or_else(malformed)?;
            (&inside[..end], &inside[end + 1..])
        }
        None if behind.is_empty() => return Err(malformed()),
        None => behind.split_at(behind.find(' ').unwrap_or(behind.len())),
    };
    if !words.is_empty() && !words.starts_with(' ') {
        return Err(malformed());
    }
    // RFC 5321 F.2: a source route is read over.
    let path = match path.strip_prefix('@') {
        Some(route) => route.split_once(':').map(|(_, path)| path).ok_or_else(malformed)?,
        None => path,
    };
    Ok((path, words))
}

/// Where the path ends: at the first `>` that no quotes hold.
fn bracket_end(inside: &str) -> Option<usize> {
    let mut quoted = false;
    let mut octets = inside.bytes().enumerate();
    while let Some((at, octet)) = octets.next() {
        match octet {
            b'"' => quoted = !quoted,
            b'\\' if quoted => drop(octets.next()),
            b'>' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

fn mail_parameters(words: &str) -> Result<MailParameters, Reply> {
    let mut parameters = MailParameters::default();
    each_parameter(words, |name, value| {
        match (name, value) {
            ("SIZE", Some(value)) if is_number(value) => {
                // Too large to hold is larger than any limit.
                parameters.size = Some(value.parse().unwrap_or(u64::MAX));
            }
            ("BODY", Some(value)) if value.eq_ignore_ascii_case("7BIT") => {
                parameters.body_8bit = false;
            }
            ("BODY", Some(value)) if value.eq_ignore_ascii_case("8BITMIME") => {
                parameters.body_8bit = true;
            }
            ("SMTPUTF8", None) => parameters.smtputf8 = true,
            ("RET", Some(value)) if value.eq_ignore_ascii_case("FULL") => {
                parameters.ret = Some(Ret::Full);
            }
            ("RET", Some(value)) if value.eq_ignore_ascii_case("HDRS") => {
                parameters.ret = Some(Ret::Headers);
            }
            ("ENVID", Some(value)) if value.len() <= ENVID_OCTETS_MAX && decode_xtext(value).is_some() => {
                parameters.envid = Some(value.to_owned());
            }
            ("REQUIRETLS", None) => parameters.require_tls = true,
            // RFC 4954 5: who wrote it first. Nobody here trusts it, and it must be taken.
            ("AUTH", Some(value)) if decode_xtext(value).is_some() => {}
            ("SIZE" | "BODY" | "SMTPUTF8" | "RET" | "ENVID" | "REQUIRETLS" | "AUTH", _) => {
                return Some(Err(name.to_owned()));
            }
            _ => return None,
        }
        Some(Ok(()))
    })?;
    Ok(parameters)
}

fn recipient_parameters(words: &str) -> Result<RecipientParameters, Reply> {
    let mut parameters = RecipientParameters::default();
    each_parameter(words, |name, value| {
        match (name, value) {
            ("NOTIFY", Some(value)) => match Notify::parse(value) {
                Some(notify) => parameters.notify = Some(notify),
                None => return Some(Err(name.to_owned())),
            },
            ("ORCPT", Some(value)) if is_orcpt(value) => parameters.orcpt = Some(value.to_owned()),
            ("ORCPT" | "NOTIFY", _) => return Some(Err(name.to_owned())),
            _ => return None,
        }
        Some(Ok(()))
    })?;
    Ok(parameters)
}

/// Hands over each parameter once. `read` says `None` for an unknown one and `Err` for a value it can't read.
fn each_parameter(
    words: &str,
    mut read: impl FnMut(&str, Option<&str>) -> Option<Result<(), String>>,
) -> Result<(), Reply> {
    let mut seen: Vec<String> = Vec::new();
    for word in words.split_ascii_whitespace() {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        let name = name.to_ascii_uppercase();
        if seen.contains(&name) {
            return Err(bad_argument(format!("The parameter {name} is given twice")));
        }
        match read(&name, value) {
            Some(Ok(())) => seen.push(name),
            Some(Err(name)) => {
                return Err(bad_argument(format!("The value of the parameter {name} is not valid")));
            }
            None => {
                return Err(Reply::new(555, (5, 5, 4), format!("The parameter {name} is not known here")));
            }
        }
    }
    Ok(())
}

fn is_number(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit())
}

/// `type;xtext`, as in `rfc822;ann@example.com`.
pub fn is_orcpt(value: &str) -> bool {
    value.len() <= ORCPT_OCTETS_MAX
        && value.split_once(';').is_some_and(|(kind, address)| {
            !kind.is_empty()
                && kind.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && decode_xtext(address).is_some_and(|address| !address.is_empty())
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may stop at the first surprise
    use super::*;

    fn code(line: &str) -> (u16, String) {
        let reply = parse(line.as_bytes(), "mx.example").unwrap_err();
        (reply.code, reply.enhanced.unwrap().to_string())
    }

    #[test]
    fn paths_are_read_as_clients_write_them() {
        for (line, path) in [
            ("RCPT TO:<a@b.c>", "a@b.c"),
            ("rcpt to: <a@b.c>", "a@b.c"),
            ("RCPT TO:a@b.c", "a@b.c"),
            ("RCPT TO:<@x.y,@z:a@b.c>", "a@b.c"),
            (r#"RCPT TO:<"a> b\"@"@b.c> NOTIFY=NEVER"#, r#""a> b\"@"@b.c"#),
            ("RCPT TO:<Postmaster>", "Postmaster@mx.example"),
        ] {
            match parse(line.as_bytes(), "mx.example").unwrap() {
                Command::Recipient { to, .. } => assert_eq!(to.to_string(), path),
                other => panic!("{line}: {other:?}"),
            }
        }
        assert_eq!(
            parse(b"MAIL FROM:<>", "h").unwrap(),
            Command::Mail { from: None, parameters: MailParameters::default() }
        );
        for line in [
            "RCPT",
            "RCPT TO",
            "RCPT TO:",
            "RCPT TO:<>",
            "RCPT TO:<a@b.c",
            "RCPT TO:<a@b.c>x",
            "RCPT <a@b.c>",
            "RCPT TO:<@b>",
            "RCPT TO:<a b@c>",
        ] {
            assert_eq!(code(line).0, 501, "{line}");
        }
    }

    #[test]
    fn parameters_are_read_or_refused_by_name() {
        let line = b"MAIL FROM:<a@b.c> SIZE=99999999999999999999 body=8bitmime SMTPUTF8 RET=HDRS ENVID=a+2Bb REQUIRETLS AUTH=<>";
        let Command::Mail { parameters, .. } = parse(line, "h").unwrap() else { panic!() };
        let expected = MailParameters {
            size: Some(u64::MAX),
            body_8bit: true,
            smtputf8: true,
            ret: Some(Ret::Headers),
            envid: Some("a+2Bb".to_owned()),
            require_tls: true,
        };
        assert_eq!(parameters, expected);
        for (line, expected) in [
            ("MAIL FROM:<a@b.c> SIZE=-1", (501, "5.5.4")),
            ("MAIL FROM:<a@b.c> SIZE=", (501, "5.5.4")),
            ("MAIL FROM:<a@b.c> SIZE=1 SIZE=2", (501, "5.5.4")),
            ("MAIL FROM:<a@b.c> BODY=BINARYMIME", (501, "5.5.4")),
            ("MAIL FROM:<a@b.c> ENVID=a+0D+0Ab", (501, "5.5.4")),
            ("MAIL FROM:<a@b.c> FOO=1", (555, "5.5.4")),
            ("MAIL FROM:<é@b.c>", (553, "5.6.7")),
            ("RCPT TO:<a@b.c> NOTIFY=NEVER,DELAY", (501, "5.5.4")),
            ("RCPT TO:<a@b.c> ORCPT=rfc822;a+0Ab", (501, "5.5.4")),
            ("RCPT TO:<a@b.c> ORCPT=a@b.c", (501, "5.5.4")),
            ("FOO", (500, "5.5.1")),
            ("", (500, "5.5.1")),
            ("DATA x", (501, "5.5.4")),
            ("EHLO", (501, "5.5.4")),
        ] {
            let (found, enhanced) = code(line);
            assert_eq!((found, enhanced.as_str()), expected, "{line}");
        }
    }

    #[test]
    fn notify_is_written_as_it_was_read() {
        for text in ["NEVER", "SUCCESS", "FAILURE,DELAY", "SUCCESS,FAILURE,DELAY"] {
            assert_eq!(Notify::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn chunks_have_a_size_that_can_be_read() {
        let read = |line: &str| parse(line.as_bytes(), "h").unwrap();
        assert_eq!(read("BDAT 10"), Command::Bdat(Some(Chunk { octets: 10, last: false })));
        assert_eq!(read("bdat 0 last"), Command::Bdat(Some(Chunk { octets: 0, last: true })));
        for line in
            ["BDAT", "BDAT x", "BDAT +1", "BDAT -1", "BDAT 99999999999999999999", "BDAT 1 FIRST", "BDAT 1 LAST x"]
        {
            assert_eq!(read(line), Command::Bdat(None), "{line}");
        }
    }

    #[test]
    fn a_hello_name_is_made_harmless() {
        assert_eq!(parse("EHLO a(b)\u{e9}<c>".as_bytes(), "h").unwrap(), Command::Ehlo("a?b???c?".to_owned()));
    }
}
