//! What did the other side answer, and how do we write an answer?

use std::fmt;
use std::str::FromStr;

use memchr::memchr;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// RFC 5321 4.5.3.1.5: a reply line is at most 512 octets with its code and CRLF.
const LINE_TEXT_WRITTEN_MAX: usize = 480;
/// Kept of one line that is read; peers write longer ones than they may. What is beyond is dropped, not refused.
const LINE_OCTETS_MAX: usize = 2_048;
/// Of what is no reply, for whoever looks into it.
const NO_REPLY_CHARS: usize = 200;
/// The longest reply in use is that to EHLO.
const LINES_MAX: usize = 100;

/// One SMTP reply, read or to be written. `text` holds its lines joined by `\n`, without the enhanced code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    pub code: u16,
    pub enhanced: Option<Enhanced>,
    pub text: String,
}

impl Reply {
    pub fn new(code: u16, enhanced: (u8, u16, u16), text: impl Into<String>) -> Reply {
        let (class, subject, detail) = enhanced;
        Reply { code, enhanced: Some(Enhanced { class, subject, detail }), text: text.into() }
    }

    /// For the few replies that have no enhanced code: banner, EHLO, 334 and 354.
    pub fn plain(code: u16, text: impl Into<String>) -> Reply {
        Reply { code, enhanced: None, text: text.into() }
    }

    /// 2yz: done. (354 is not: it asks for more.)
    pub fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    pub fn is_transient(&self) -> bool {
        self.code / 100 == 4
    }

    pub fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }

    /// Appends the reply as it goes on the wire. Whatever the text holds, only printable ASCII and CRLF get out.
    pub fn write(&self, out: &mut Vec<u8>) {
        let lines: Vec<String> = self.text.split('\n').flat_map(|line| wrapped(&printable(line))).collect();
        let last = lines.len() - 1; // `split` yields at least one line, and `wrapped` at least one of each
        for (i, line) in lines.iter().enumerate() {
            let mark = if i == last { ' ' } else { '-' };
            out.extend_from_slice(format!("{:03}{mark}", self.code).as_bytes());
            if let Some(enhanced) = self.enhanced {
                out.extend_from_slice(format!("{enhanced} ").as_bytes());
            }
            out.extend_from_slice(line.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03} ", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, "{enhanced} ")?;
        }
        f.write_str(&self.text.replace('\n', " "))
    }
}

/// A whole reply and nothing after it, as it came, on one line or several.
impl FromStr for Reply {
    type Err = ReplyError;

    fn from_str(text: &str) -> Result<Reply, ReplyError> {
        let octets = [text.trim().as_bytes(), b"\n"].concat();
        let mut rest = &octets[..];
        let read = ReplyReader::default().receive(&mut rest)?;
        read.filter(|_| rest.is_empty()).ok_or_else(|| ReplyError::NoReply(text.chars().take(NO_REPLY_CHARS).collect()))
    }
}

/// RFC 3463 status code, such as 5.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Enhanced {
    pub class: u8,
    pub subject: u16,
    pub detail: u16,
}

impl fmt::Display for Enhanced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("an enhanced status code looks like 5.1.1")]
pub struct EnhancedError;

impl FromStr for Enhanced {
    type Err = EnhancedError;

    fn from_str(text: &str) -> Result<Enhanced, EnhancedError> {
        let mut parts = text.split('.');
        let (Some(class), Some(subject), Some(detail), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(EnhancedError);
        };
        let class = match class {
            "2" => 2,
            "4" => 4,
            "5" => 5,
            _ => return Err(EnhancedError),
        };
        Ok(Enhanced { class, subject: three_digits(subject)?, detail: three_digits(detail)? })
    }
}

fn three_digits(text: &str) -> Result<u16, EnhancedError> {
    if (1..=3).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()) {
        text.parse().map_err(|_| EnhancedError)
    } else {
        Err(EnhancedError)
    }
}

/// Why what came back is no reply. After it the connection is out of step and of no more use.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReplyError {
    #[error("the remote server answered {0:?}, which is no SMTP reply")]
    NoReply(String),
    #[error("the remote server answered with more than {LINES_MAX} lines")]
    TooManyLines,
}

/// Reads replies from octets that come in any pieces, with bounded memory.
#[derive(Debug, Default)]
pub struct ReplyReader {
    line: Vec<u8>,
    lines: Vec<String>,
}

impl ReplyReader {
    /// Takes octets from the front of `bytes`, up to the end of one reply.
    pub fn receive(&mut self, bytes: &mut &[u8]) -> Result<Option<Reply>, ReplyError> {
        loop {
            let end = memchr(b'\n', bytes);
            let taken = end.unwrap_or(bytes.len());
            let room = LINE_OCTETS_MAX - self.line.len();
            self.line.extend_from_slice(&bytes[..taken.min(room)]);
            *bytes = &bytes[end.map_or(taken, |end| end + 1)..];
            if end.is_none() {
                return Ok(None);
            }
            if let Some(reply) = self.line_ended()? {
                return Ok(Some(reply));
            }
        }
    }

    /// True while a reply has begun and not ended.
    pub fn inside(&self) -> bool {
        !self.line.is_empty() || !self.lines.is_empty()
    }

    fn line_ended(&mut self) -> Result<Option<Reply>, ReplyError> {
        let line = std::mem::take(&mut self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        let text = String::from_utf8_lossy(line).replace(char::is_control, " ");
        let code = text
            .get(..3)
            .filter(|digits| matches!(digits.as_bytes(), [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9']))
            .and_then(|digits| digits.parse::<u16>().ok());
        let (Some(code), None | Some(' ' | '-')) = (code, text.chars().nth(3)) else {
            return Err(ReplyError::NoReply(text.chars().take(NO_REPLY_CHARS).collect()));
        };
        if self.lines.len() == LINES_MAX {
            return Err(ReplyError::TooManyLines);
        }
        self.lines.push(text.get(4..).unwrap_or("").to_owned());
        if text[3..].starts_with('-') {
            return Ok(None);
        }
        // The codes of all lines should agree. When they do not, the last one is the answer.
        Ok(Some(joined(code, &std::mem::take(&mut self.lines))))
    }
}

fn joined(code: u16, lines: &[String]) -> Reply {
    let enhanced = lines.first().and_then(|line| line.split(' ').next()).and_then(|word| Enhanced::from_str(word).ok());
    let Some(enhanced) = enhanced else {
        return Reply { code, enhanced: None, text: lines.join("\n") };
    };
    // Some repeat the enhanced code on every line, some do not.
    let prefix = enhanced.to_string();
    let stripped: Vec<&str> = lines
        .iter()
        .map(|line| match line.strip_prefix(&prefix) {
            Some("") => "",
            Some(rest) if rest.starts_with(' ') => rest.trim_start(),
            _ => line,
        })
        .collect();
    Reply { code, enhanced: Some(enhanced), text: stripped.join("\n") }
}

/// Replies go to peers that may not have SMTPUTF8; the escape is that of RFC 6533.
fn printable(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    for c in line.chars() {
        match c {
            ' '..='~' => out.push(c),
            c if c.is_control() => out.push(' '),
            c => out.push_str(&format!("\\x{{{:X}}}", u32::from(c))),
        }
    }
    out
}

/// Breaks one line of ASCII at a space where there is one, into lines that fit.
fn wrapped(line: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest = line.trim_end();
    while rest.len() > LINE_TEXT_WRITTEN_MAX {
        let (head, _) = rest.split_at(LINE_TEXT_WRITTEN_MAX);
        let at = head.rfind(' ').filter(|&at| at > 0).unwrap_or(LINE_TEXT_WRITTEN_MAX);
        let (head, tail) = rest.split_at(at);
        lines.push(head.to_owned());
        rest = tail.trim_start();
    }
    lines.push(rest.to_owned());
    lines
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may stop at the first surprise
    use super::*;

    fn read(text: &str) -> Result<Option<Reply>, ReplyError> {
        ReplyReader::default().receive(&mut text.as_bytes())
    }

    fn written(reply: &Reply) -> String {
        let mut out = Vec::new();
        reply.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn replies_are_read() {
        assert_eq!(read("250 2.1.5 Ok\r\n").unwrap().unwrap(), Reply::new(250, (2, 1, 5), "Ok"));
        assert_eq!(read("250 Ok\r\n").unwrap().unwrap(), Reply::plain(250, "Ok"));
        assert_eq!(read("250\r\n").unwrap().unwrap(), Reply::plain(250, ""));
        assert_eq!(read("250 ok\n").unwrap().unwrap(), Reply::plain(250, "ok"));
        assert_eq!(
            read("550-5.7.1 first\r\n550 5.7.1 second\r\n").unwrap().unwrap(),
            Reply::new(550, (5, 7, 1), "first\nsecond")
        );
        assert_eq!(
            read("550-5.7.1 first\r\n550 second\r\n").unwrap().unwrap(),
            Reply::new(550, (5, 7, 1), "first\nsecond")
        );
        assert_eq!(read("450 5.7.1 contradictory\r\n").unwrap().unwrap(), Reply::new(450, (5, 7, 1), "contradictory"));
        assert_eq!(read("220 1.2.3.4 ready\r\n").unwrap().unwrap(), Reply::plain(220, "1.2.3.4 ready"));
        assert_eq!(read("250 2.0.0\u{7}x\r\n").unwrap().unwrap(), Reply::new(250, (2, 0, 0), "x"));
        assert_eq!(read("250-unfinished\r\n250 mor").unwrap(), None);
    }

    #[test]
    fn what_is_no_reply_is_an_error() {
        for text in
            ["\r\n", "25\r\n", "abc hello\r\n", "199 x\r\n", "600 x\r\n", "2500 x\r\n", "25ü x\r\n", "HTTP/1.1 400\r\n"]
        {
            assert!(matches!(read(text), Err(ReplyError::NoReply(_))), "{text:?}");
        }
        assert_eq!(read(&"250-x\r\n".repeat(101)), Err(ReplyError::TooManyLines));
    }

    #[test]
    fn a_text_is_one_whole_reply() {
        let told = |text: &str| text.parse::<Reply>();
        assert_eq!(told(" 550 5.1.1 No such user\n"), Ok(Reply::new(550, (5, 1, 1), "No such user")));
        assert_eq!(told("550-5.1.1 No\r\n550 5.1.1 such user"), Ok(Reply::new(550, (5, 1, 1), "No\nsuch user")));
        for text in ["", "no such user", "550-5.1.1 No 550 5.1.1 such user", "550 5.1.1 No\n550 5.1.1 such user"] {
            assert!(matches!(told(text), Err(ReplyError::NoReply(_))), "{text:?}");
        }
    }

    #[test]
    fn long_lines_are_cut_in_bounded_memory() {
        let mut reader = ReplyReader::default();
        assert_eq!(reader.receive(&mut &b"250 "[..]).unwrap(), None);
        for _ in 0..100 {
            assert_eq!(reader.receive(&mut &[b'x'; 10_000][..]).unwrap(), None);
            assert!(reader.line.capacity() <= 2 * LINE_OCTETS_MAX);
        }
        let reply = reader.receive(&mut &b"\r\n"[..]).unwrap().unwrap();
        assert_eq!((reply.code, reply.text.len()), (250, LINE_OCTETS_MAX - 4));
    }

    #[test]
    fn replies_are_written_as_lines_that_cannot_be_broken() {
        assert_eq!(written(&Reply::new(250, (2, 0, 0), "Ok")), "250 2.0.0 Ok\r\n");
        assert_eq!(written(&Reply::plain(354, "Go on")), "354 Go on\r\n");
        assert_eq!(written(&Reply::new(550, (5, 1, 1), "a\nb")), "550-5.1.1 a\r\n550 5.1.1 b\r\n");
        assert_eq!(written(&Reply::new(550, (5, 1, 1), "a\r\n250 b\0")), "550-5.1.1 a\r\n550 5.1.1 250 b\r\n");
        assert_eq!(written(&Reply::new(550, (5, 1, 1), "é")), "550 5.1.1 \\x{E9}\r\n");
        let long = written(&Reply::new(550, (5, 1, 1), "word ".repeat(1_000)));
        assert!(long.lines().count() > 10);
        assert!(long.split("\r\n").all(|line| line.len() <= 510));
        let reread = read(&long).unwrap().unwrap();
        assert_eq!(reread.text.split_whitespace().count(), 1_000);
    }
}
