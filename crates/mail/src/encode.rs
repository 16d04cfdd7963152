//! How is a text written so that every relay and every reader takes it: dates, folds, encoded words, quoted-printable?
//!
//! Used by the modules that write messages. Nothing here decides whether a text is allowed: control characters must
//! have been refused before.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem;

/// RFC 5322 2.1.1: no line is longer than this, its line end not counted.
pub const LINE_MAX: usize = 998;
/// Where header lines are folded. RFC 5322 asks for 78, RFC 2047 for 76 once encoded words are in.
const COLUMNS: usize = 76;
/// RFC 2047 2: an encoded word with its delimiters.
const ENCODED_WORD_MAX: usize = 75;
const ENCODED_WORD_FRAME: usize = "=?utf-8?q??=".len();

/// The date of RFC 5322 3.3, always in UTC.
pub fn date(unix: i64) -> String {
    // The range of jiff is the years -9999 to 9999; a clock outside it is written as 1970 rather than not at all.
    let moment = jiff::Timestamp::from_second(unix).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    moment.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

/// One header field under construction; folds before a word that would pass the last column.
pub struct FieldWriter<'a> {
    out: &'a mut Vec<u8>,
    column: usize,
}

impl<'a> FieldWriter<'a> {
    pub fn new(out: &'a mut Vec<u8>, name: &str) -> Self {
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        let column = name.len() + 1;
        FieldWriter { out, column }
    }

    /// A space and a word that is not broken.
    pub fn word(&mut self, word: &str) {
        self.piece(" ", word);
    }

    /// Glued to what stands before.
    pub fn glue(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
        self.column += text.len();
    }

    /// Unstructured text: as it is when it is ASCII and can be folded, in encoded words otherwise.
    pub fn text(&mut self, text: &str) {
        let text = text.trim_matches([' ', '\t']);
        let longest = text.split([' ', '\t']).map(str::len).max().unwrap_or(0);
        if !text.is_ascii() || longest > LINE_MAX - COLUMNS {
            return self.encoded_words(text);
        }
        let mut rest = text;
        let mut space = " ";
        while !rest.is_empty() {
            let end = rest.find([' ', '\t']).unwrap_or(rest.len());
            self.piece(space, &rest[..end]);
            rest = &rest[end..];
            let next = rest.find(|c| c != ' ' && c != '\t').unwrap_or(0);
            (space, rest) = rest.split_at(next);
        }
    }

    /// A display name: atoms as they are, other ASCII as a quoted string, the rest in encoded words.
    pub fn phrase(&mut self, name: &str) {
        let atom = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c);
        if !name.is_ascii() || name.len() > LINE_MAX - COLUMNS {
            self.encoded_words(name);
        } else if name.split(' ').all(|word| !word.is_empty() && word.chars().all(atom)) {
            self.text(name);
        } else {
            self.word(&quoted(name));
        }
    }

    /// RFC 2047: `utf-8` words, Q or B by which is shorter, no character split between two words.
    pub fn encoded_words(&mut self, text: &str) {
        let q_length: usize = text.bytes().map(q_width).sum();
        let b = text.len().div_ceil(3) * 4 < q_length;
        let mut rest = text;
        while !rest.is_empty() {
            let room_here = COLUMNS.saturating_sub(self.column + 1);
            // A word of less than 24 columns would hold next to nothing: begin a line instead.
            let room = if room_here < 24 { ENCODED_WORD_MAX } else { room_here.min(ENCODED_WORD_MAX) };
            let payload_max = room - ENCODED_WORD_FRAME;
            let mut width = 0;
            let mut end = 0;
            for c in rest.chars() {
                let after = if b {
                    (end + c.len_utf8()).div_ceil(3) * 4
                } else {
                    width + c.encode_utf8(&mut [0; 4]).bytes().map(q_width).sum::<usize>()
                };
                if after > payload_max {
                    break;
                }
                width = after;
                end += c.len_utf8();
            }
            let (now, later) = rest.split_at(end);
            let word =
                if b { format!("=?utf-8?b?{}?=", STANDARD.encode(now)) } else { format!("=?utf-8?q?{}?=", q(now)) };
            self.piece(" ", &word);
            rest = later;
        }
    }

    /// `; name="value"`, or RFC 2231 (percent-encoded, in numbered parts when long) where a quoted string will not do.
    pub fn parameter(&mut self, name: &str, value: &str) {
        self.glue(";");
        let bare = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if (1..40).contains(&value.len()) && value.bytes().all(bare) {
            return self.word(&format!("{name}={value}"));
        }
        let plain = format!("{name}={}", quoted(value));
        if value.is_ascii() && plain.len() < COLUMNS - 1 {
            return self.word(&plain);
        }
        let mut parts = vec![String::from("utf-8''")];
        for c in value.chars() {
            let mut encoded = String::new();
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                // RFC 2231 7: attribute-char.
                if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`{|}~".contains(&byte) {
                    encoded.push(char::from(byte));
                } else {
                    // Writing to a String does not fail.
                    let _ = write!(encoded, "%{byte:02X}");
                }
            }
            let part = parts.last_mut().expect("begun with one part");
            if part.len() + encoded.len() + name.len() > COLUMNS - 10 {
                parts.push(encoded);
            } else {
                part.push_str(&encoded);
            }
        }
        if let [only] = parts.as_slice() {
            return self.word(&format!("{name}*={only}"));
        }
        let last = parts.len() - 1;
        for (number, part) in parts.iter().enumerate() {
            self.word(&format!("{name}*{number}*={part}"));
            if number < last {
                self.glue(";");
            }
        }
    }

    pub fn end(self) {
        self.out.extend_from_slice(b"\r\n");
    }

    fn piece(&mut self, space: &str, word: &str) {
        if self.column + space.len() + word.len() > COLUMNS && self.column > 1 {
            self.out.extend_from_slice(b"\r\n");
            self.column = 0;
        }
        self.glue(space);
        self.glue(word);
    }
}

/// A quoted-string of RFC 5322 3.2.4.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        if c == '"' || c == '\\' {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

/// RFC 2045 6.7. CRLF in the input is a line break of the text; a lone CR or LF is encoded.
pub fn quoted_printable(text: &[u8], out: &mut Vec<u8>) {
    out.reserve(text.len() + text.len() / 16);
    let mut rest = text;
    while let Some(at) = memmem::find(rest, b"\r\n") {
        quoted_line(&rest[..at], out);
        out.extend_from_slice(b"\r\n");
        rest = &rest[at + 2..];
    }
    quoted_line(rest, out);
}

/// The soft line break takes the last of the columns, but for what ends its line anyway.
fn quoted_line(line: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    // Space at the end of a line may be lost on the way.
    let plain_max = line.len() - usize::from(line.ends_with(b" ") || line.ends_with(b"\t"));
    let (mut column, mut at) = (0, 0);
    while at < line.len() {
        // A line that begins so might be read as the delimiter of a part, where this text stands within parts.
        let is_delimiter_like = column == 0 && line[at..].starts_with(b"--");
        let plain = &line[at..plain_max.max(at)];
        let run = if is_delimiter_like { 0 } else { plain.iter().take_while(|byte| quoted_plain(**byte)).count() };
        let width = if run == 0 { 3 } else { run };
        let ends = at + run.max(1) == line.len();
        let (fits, room) = (width <= COLUMNS - usize::from(!ends) - column, COLUMNS - 1 - column);
        if run == 0 && fits {
            let byte = line[at];
            out.extend_from_slice(&[b'=', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            (at, column) = (at + 1, column + 3);
            continue;
        }
        let taken = if fits { run } else { run.min(room) };
        out.extend_from_slice(&line[at..at + taken]);
        (at, column) = (at + taken, column + taken);
        if !fits {
            out.extend_from_slice(b"=\r\n");
            column = 0;
        }
    }
}

fn quoted_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'<' | b'>'..=b'~' | b'\t')
}

/// Base64 in lines of 76, each ended by CRLF.
pub fn base64_lines(content: &[u8], out: &mut Vec<u8>) {
    let mut line = String::with_capacity(COLUMNS);
    for chunk in content.chunks(COLUMNS / 4 * 3) {
        line.clear();
        STANDARD.encode_string(chunk, &mut line);
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

fn q_width(byte: u8) -> usize {
    if q_plain(byte) || byte == b' ' { 1 } else { 3 }
}

// RFC 2047 5 (3): the narrow set, which is right in a phrase too.
fn q_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!*+-/".contains(&byte)
}

fn q(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if q_plain(byte) {
            out.push(char::from(byte));
        } else if byte == b' ' {
            out.push('_');
        } else {
            // Writing to a String does not fail.
            let _ = write!(out, "={byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use proptest::prelude::*;

    fn field(write: impl FnOnce(&mut FieldWriter<'_>)) -> String {
        let mut out = Vec::new();
        let mut line = FieldWriter::new(&mut out, "Subject");
        write(&mut line);
        line.end();
        String::from_utf8(out).unwrap()
    }

    /// An independent reading of encoded words, as a mail reader does it.
    fn decode_words(field: &str) -> String {
        let mut octets = Vec::new();
        for word in field.split_whitespace().skip(1) {
            let inner = word.strip_prefix("=?utf-8?").and_then(|w| w.strip_suffix("?=")).unwrap();
            let (kind, payload) = inner.split_once('?').unwrap();
            if kind == "b" {
                octets.extend(STANDARD.decode(payload).unwrap());
                continue;
            }
            let mut bytes = payload.bytes();
            while let Some(b) = bytes.next() {
                match b {
                    b'_' => octets.push(b' '),
                    b'=' => {
                        let hex = [bytes.next().unwrap(), bytes.next().unwrap()];
                        octets.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
                    }
                    b => octets.push(b),
                }
            }
        }
        String::from_utf8(octets).unwrap()
    }

    fn decode_quoted_printable(encoded: &[u8]) -> Vec<u8> {
        let text = String::from_utf8(encoded.to_vec()).unwrap().replace("=\r\n", "");
        let mut out = Vec::new();
        let mut bytes = text.bytes();
        while let Some(b) = bytes.next() {
            if b == b'=' {
                let hex = [bytes.next().unwrap(), bytes.next().unwrap()];
                out.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
            } else {
                out.push(b);
            }
        }
        out
    }

    #[test]
    fn a_date_is_written_in_utc() {
        assert_eq!(date(1_700_000_000), "Tue, 14 Nov 2023 22:13:20 +0000");
        assert_eq!(date(0), "Thu, 01 Jan 1970 00:00:00 +0000");
    }

    #[test]
    fn ascii_text_is_folded_at_its_own_spaces() {
        let text = "word ".repeat(40);
        let folded = field(|f| f.text(&text));
        assert!(folded.lines().all(|l| l.len() <= 76));
        assert_eq!(folded.replace("\r\n", ""), format!("Subject: {}", text.trim()));
    }

    #[test]
    fn a_word_too_long_for_any_line_becomes_encoded_words() {
        let text = "x".repeat(2_000);
        let written = field(|f| f.text(&text));
        assert!(written.lines().all(|l| l.len() <= 76));
        assert_eq!(decode_words(&written), text);
    }

    #[test]
    fn a_long_parameter_is_continued() {
        let name = "Übersicht ".repeat(20);
        let written = field(|f| f.parameter("filename", &name));
        assert!(written.contains("filename*0*=utf-8''%C3%9Cbersicht%20"));
        assert!(written.contains("filename*1*="));
        assert!(written.lines().all(|l| l.len() <= 78), "{written}");
        assert_eq!(field(|f| f.parameter("filename", "a \"b\".txt")), "Subject:; filename=\"a \\\"b\\\".txt\"\r\n");
    }

    proptest! {
        #[test]
        fn encoded_words_say_the_same(text in "[\\PC ]{1,200}") {
            let written = field(|f| f.encoded_words(&text));
            prop_assert!(written.lines().all(|l| l.len() <= 76), "{}", written);
            prop_assert!(written.is_ascii());
            prop_assert_eq!(decode_words(&written), text);
        }

        #[test]
        fn quoted_printable_says_the_same(text in proptest::collection::vec(
            prop_oneof![Just(b"\r\n".to_vec()), Just(b" ".to_vec()), Just(b"=".to_vec()), Just(b"-".to_vec()), any::<u8>().prop_map(|b| vec![b]), Just(b"plain text".to_vec())], 0..200)) {
            let text: Vec<u8> = text.concat();
            let mut out = Vec::new();
            quoted_printable(&text, &mut out);
            prop_assert!(out.is_ascii());
            for line in out.split(|b| *b == b'\n') {
                prop_assert!(line.len() <= 77);
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                prop_assert!(!line.ends_with(b" ") && !line.ends_with(b"\t"));
            }
            prop_assert!(!out.starts_with(b"--") && memmem::find(&out, b"\n--").is_none());
            prop_assert_eq!(decode_quoted_printable(&out), text);
        }
    }
}
