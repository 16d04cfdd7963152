//! Of what parts is a message made, and how does the text of one change without the rest of it?
//!
//! A part is decoded, changed and encoded again; everything else stays the octets it was. What is signed or encrypted is left alone:
//! whoever signed it meant it as it is.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use memchr::{memchr, memmem};

use crate::encode;
use crate::message::{Field, fields, split};

/// Parts within parts; deeper ones are left as they are.
const DEPTH_MAX: usize = 10;
/// Parts of a whole message; further ones are left as they are.
const PARTS_MAX: usize = 200;

/// Some encoders leave the padding out, and RFC 2045 has line ends passed over.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The message with its HTML texts changed; none where nothing is another. Attached files are no texts, and neither is what bears a
/// signature.
pub fn with_html(message: &[u8], change: &mut dyn FnMut(&[u8]) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let (header, _) = split(message);
    if fields(header).any(|field| field.is("DKIM-Signature")) {
        return None;
    }
    let mut left = PARTS_MAX;
    entity(message, change, &mut left, 0)
}

fn entity(
    octets: &[u8],
    change: &mut dyn FnMut(&[u8]) -> Option<Vec<u8>>,
    left: &mut usize,
    depth: usize,
) -> Option<Vec<u8>> {
    if *left == 0 || depth > DEPTH_MAX {
        return None;
    }
    *left -= 1;
    let (header, body) = split(octets);
    let kind = ContentType::of(header);
    if kind.main == "multipart" {
        if matches!(kind.sub.as_str(), "signed" | "encrypted" | "report") {
            return None;
        }
        let (head, body_at) = (octets, octets.len() - body.len());
        return multipart(body, kind.boundary.as_deref()?, change, left, depth)
            .map(|body| [&head[..body_at], &body].concat());
    }
    let is_html = kind.main == "text" && kind.sub == "html" && !is_attached(header);
    if !is_html || !kind.is_like_ascii() {
        return None;
    }
    let encoding = Encoding::of(header)?;
    let changed = change(&encoding.decode(body)?)?;
    let mut out = Vec::with_capacity(octets.len() + changed.len());
    for field in fields(header).filter(|field| !field.is("Content-Transfer-Encoding")) {
        out.extend_from_slice(field.octets);
        // The last one of a part without a body has no line end of its own.
        if !field.octets.ends_with(b"\n") {
            out.extend_from_slice(b"\r\n");
        }
    }
    // Text that was plain may have lines by now that are too long for that.
    let encoding = if encoding == Encoding::Base64 { encoding } else { Encoding::QuotedPrintable };
    out.extend_from_slice(format!("Content-Transfer-Encoding: {}\r\n\r\n", encoding.name()).as_bytes());
    encoding.encode(&changed, &mut out);
    if body.ends_with(b"\r\n") && !out.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    Some(out)
}

fn multipart(
    body: &[u8],
    boundary: &str,
    change: &mut dyn FnMut(&[u8]) -> Option<Vec<u8>>,
    left: &mut usize,
    depth: usize,
) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut copied = 0;
    let mut begun: Option<usize> = None;
    for line in delimiters(body, boundary) {
        if let Some(from) = begun {
            // The line end before a delimiter belongs to the delimiter.
            let before = body[from..line.at.max(from)].strip_suffix(b"\n").unwrap_or_default();
            let to = from + before.strip_suffix(b"\r").unwrap_or(before).len();
            if let Some(changed) = entity(&body[from..to], change, left, depth + 1) {
                out.extend_from_slice(&body[copied..from]);
                out.extend_from_slice(&changed);
                copied = to;
            }
        }
        begun = (!line.is_last).then_some(line.end);
        if line.is_last {
            break;
        }
    }
    if copied == 0 {
        return None;
    }
    out.extend_from_slice(&body[copied..]);
    Some(out)
}

pub(crate) struct Delimiter {
    pub at: usize,
    pub end: usize,
    pub is_last: bool,
}

/// The lines `--boundary` and `--boundary--`, of which the second ends the parts.
pub(crate) fn delimiters<'a>(body: &'a [u8], boundary: &'a str) -> impl Iterator<Item = Delimiter> + 'a {
    let dashed = format!("--{boundary}");
    let mut from = 0;
    std::iter::from_fn(move || {
        while let Some(found) = memmem::find(body.get(from..)?, dashed.as_bytes()) {
            let at = from + found;
            let after = at + dashed.len();
            from = after;
            if at > 0 && body[at - 1] != b'\n' {
                continue;
            }
            let is_last = body[after..].starts_with(b"--");
            let rest = &body[after + if is_last { 2 } else { 0 }..];
            let line_octets = memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
            // Only space may follow: a longer boundary may begin with this one.
            if !rest[..line_octets].iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let end = body.len() - rest.len() + line_octets;
            from = end;
            return Some(Delimiter { at, end, is_last });
        }
        None
    })
}

pub(crate) struct ContentType {
    pub main: String,
    pub sub: String,
    pub boundary: Option<String>,
    charset: Option<String>,
}

impl ContentType {
    /// RFC 2045 5.2: without one, it is plain text.
    pub fn of(header: &[u8]) -> ContentType {
        let value = value(header, "Content-Type").unwrap_or_else(|| "text/plain".to_owned());
        let (kind, parameters) = value.split_once(';').unwrap_or((&value, ""));
        let (main, sub) = kind.split_once('/').unwrap_or((kind, ""));
        let lower = |text: &str| text.trim().to_ascii_lowercase();
        ContentType {
            main: lower(main),
            sub: lower(sub),
            boundary: parameter(parameters, "boundary"),
            charset: parameter(parameters, "charset").map(|charset| charset.to_ascii_lowercase()),
        }
    }

    /// Whether an octet below 128 is always the character of ASCII.
    fn is_like_ascii(&self) -> bool {
        let unlike = ["utf-16", "utf-32", "utf-7", "iso-2022", "iso-10646", "hz", "ucs"];
        self.charset.as_deref().is_none_or(|charset| !unlike.iter().any(|start| charset.starts_with(start)))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Plain,
    QuotedPrintable,
    Base64,
}

impl Encoding {
    /// None: one that nobody knows.
    pub fn of(header: &[u8]) -> Option<Encoding> {
        let name = value(header, "Content-Transfer-Encoding").unwrap_or_default();
        match name.trim().to_ascii_lowercase().as_str() {
            "" | "7bit" | "8bit" | "binary" => Some(Encoding::Plain),
            "quoted-printable" => Some(Encoding::QuotedPrintable),
            "base64" => Some(Encoding::Base64),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Encoding::Plain => "8bit",
            Encoding::QuotedPrintable => "quoted-printable",
            Encoding::Base64 => "base64",
        }
    }

    pub fn decode(self, body: &[u8]) -> Option<Cow<'_, [u8]>> {
        match self {
            Encoding::Plain => Some(Cow::Borrowed(body)),
            Encoding::QuotedPrintable => Some(Cow::Owned(from_quoted_printable(body))),
            Encoding::Base64 => {
                let text: Vec<u8> = body.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
                BASE64.decode(text).ok().map(Cow::Owned)
            }
        }
    }

    fn encode(self, content: &[u8], out: &mut Vec<u8>) {
        match self {
            Encoding::Plain => out.extend_from_slice(content),
            Encoding::QuotedPrintable => encode::quoted_printable(content, out),
            Encoding::Base64 => encode::base64_lines(content, out),
        }
    }
}

/// RFC 2045 6.7; what is no code stays as it is.
fn from_quoted_printable(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for line in text.split_inclusive(|b| *b == b'\n') {
        let content = line.strip_suffix(b"\n").unwrap_or(line);
        let content = content.strip_suffix(b"\r").unwrap_or(content);
        let ending = &line[content.len()..];
        // Space at the end of a line was added on the way.
        let mut rest = content.trim_ascii_end();
        let soft = rest.strip_suffix(b"=");
        rest = soft.unwrap_or(rest);
        while let Some(at) = memchr(b'=', rest) {
            out.extend_from_slice(&rest[..at]);
            let digit = |place| rest.get(place).and_then(|letter| char::from(*letter).to_digit(16));
            let code = digit(at + 1).zip(digit(at + 2));
            match code.and_then(|(high, low)| u8::try_from(high * 16 + low).ok()) {
                Some(octet) => {
                    out.push(octet);
                    rest = &rest[at + 3..];
                }
                None => {
                    out.push(b'=');
                    rest = &rest[at + 1..];
                }
            }
        }
        out.extend_from_slice(rest);
        if soft.is_none() {
            out.extend_from_slice(ending);
        }
    }
    out
}

fn is_attached(header: &[u8]) -> bool {
    value(header, "Content-Disposition")
        .is_some_and(|value| value.trim_start().to_ascii_lowercase().starts_with("attachment"))
}

pub(crate) fn value(header: &[u8], name: &str) -> Option<String> {
    let field: Field<'_> = fields(header).find(|field| field.is(name))?;
    Some(String::from_utf8_lossy(&field.unfolded()).into_owned())
}

/// A parameter's value, without its quotes.
fn parameter(parameters: &str, name: &str) -> Option<String> {
    let mut rest = parameters;
    loop {
        let (found, after) = rest.split_once('=')?;
        let found = found.trim_matches(|c: char| c.is_ascii_whitespace() || c == ';');
        let after = after.trim_start();
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => {
                let end = quoted.find('"')?;
                (quoted[..end].to_owned(), &quoted[end + 1..])
            }
            None => {
                let end = after.find(';').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
        };
        if found.eq_ignore_ascii_case(name) {
            return Some(value);
        }
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use proptest::prelude::*;

    /// Puts “!” after each HTML text.
    fn marked(message: &str) -> Option<String> {
        let changed = with_html(message.as_bytes(), &mut |html| Some([html, b"!"].concat()))?;
        Some(String::from_utf8(changed).unwrap())
    }

    #[test]
    fn a_text_is_changed_in_its_own_encoding() {
        let head = "From: a@a.test\r\nContent-Type: text/html; charset=utf-8\r\n";
        let cases = [
            ("", "\r\n<p>a = b\r\n", "\r\n<p>a =3D b\r\n!\r\n", "quoted-printable"),
            ("Content-Transfer-Encoding: 8bit\r\n", "\r\n<p>ü", "\r\n<p>=C3=BC!", "quoted-printable"),
            (
                "Content-Transfer-Encoding: Quoted-Printable\r\n",
                "\r\n<p>=C3=\r\n=BC=3D\r\n",
                "\r\n<p>=C3=BC=3D\r\n!\r\n",
                "quoted-printable",
            ),
            ("Content-Transfer-Encoding: base64\r\n", "\r\nPHA+\r\nYQ==\r\n", "\r\nPHA+YSE=\r\n", "base64"),
        ];
        for (encoding, body, expected, named) in cases {
            let changed = marked(&format!("{head}{encoding}{body}")).unwrap();
            assert_eq!(changed, format!("{head}Content-Transfer-Encoding: {named}\r\n{expected}"));
        }
    }

    // Found by fuzzing: the encoding was written behind the last field, on its line.
    #[test]
    fn a_part_without_a_body_keeps_its_fields_apart() {
        let message =
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\nX-Last: x\r\n--b--\r\n";
        let changed = marked(message).unwrap();
        let part = "X-Last: x\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n!\r\n--b--";
        assert!(changed.contains(part), "{changed}");
    }

    // Found by fuzzing: the text was put before the delimiter, on its line.
    #[test]
    fn a_delimiter_stays_on_its_line_whatever_ends_the_line_before() {
        for end in ["\n", "\r\n"] {
            let head = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n";
            let changed = marked(&format!("{head}<p>{end}--b--{end}")).unwrap();
            assert!(changed.ends_with(&format!("\r\n\r\n<p>!{end}--b--{end}")), "{changed:?}");
        }
    }

    // Found by fuzzing: where a long line was broken, what followed began with the delimiter.
    #[test]
    fn a_text_that_holds_the_delimiter_stays_one_text() {
        let head = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n";
        let long = format!("\r\n{}--b\r\n--b--", "x".repeat(75));
        let coded = "Content-Transfer-Encoding: quoted-printable\r\n\r\n=2D-b\r\n--b--";
        for (body, text) in [(long.as_str(), format!("{}--b!", "x".repeat(75))), (coded, "--b!".to_owned())] {
            let changed = marked(&format!("{head}{body}")).unwrap();
            let mut read = Vec::new();
            let nothing = with_html(changed.as_bytes(), &mut |html| {
                read.push(String::from_utf8(html.to_vec()).unwrap());
                None
            });
            assert!(nothing.is_none() && read == [text], "{read:?}");
        }
    }

    #[test]
    fn what_is_no_code_stays_as_it_is() {
        assert_eq!(from_quoted_printable(b"=3D=3d=+A=-1=G0=4"), b"===+A=-1=G0=4");
    }

    #[test]
    fn only_texts_of_a_message_in_parts_are_changed() {
        let message = "Content-Type: multipart/mixed;\r\n boundary=\"b 1\"\r\n\r\npreamble\r\n--b 1\r\n\
            Content-Type: multipart/alternative; boundary=b2\r\n\r\n--b2\r\n\r\nplain <a>\r\n--b2\r\n\
            Content-Type: TEXT/HTML\r\n\r\n<p>a</p>\r\n--b2--\r\n\r\n--b 1\r\n\
            Content-Type: text/html\r\nContent-Disposition: attachment; filename=a.html\r\n\r\n<p>b</p>\r\n--b 1--\r\nepilogue\r\n";
        let changed = marked(message).unwrap();
        let expected = message.replace(
            "Content-Type: TEXT/HTML\r\n\r\n<p>a</p>",
            "Content-Type: TEXT/HTML\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<p>a</p>!",
        );
        assert_eq!(changed, expected);
    }

    #[test]
    fn what_is_signed_or_no_text_is_left_alone() {
        let cases = [
            "Content-Type: text/plain\r\n\r\n<p>",
            "\r\n<p>",
            "Content-Type: text/html; charset=UTF-16\r\n\r\n<p>",
            "Content-Type: text/html\r\nContent-Transfer-Encoding: x-uuencode\r\n\r\n<p>",
            "Content-Type: text/html\r\nDKIM-Signature: v=1\r\n\r\n<p>",
            "Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>\r\n--b--\r\n",
            "Content-Type: multipart/mixed\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>\r\n--b--\r\n",
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n--bb\r\nContent-Type: text/html\r\n\r\n<p>\r\n--bb--\r\n",
        ];
        for message in cases {
            assert_eq!(marked(message), None, "{message}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read(message in proptest::collection::vec(prop_oneof![
            Just(b"Content-Type: multipart/mixed; boundary=b\r\n".to_vec()), Just(b"Content-Type: text/html\r\n".to_vec()),
            Just(b"Content-Transfer-Encoding: base64\r\n".to_vec()), Just(b"\r\n".to_vec()), Just(b"--b\r\n".to_vec()),
            Just(b"--b--\r\n".to_vec()), Just(b"=4".to_vec()), Just(b"boundary=\"".to_vec()), any::<u8>().prop_map(|b| vec![b])], 0..60)) {
            let message = message.concat();
            with_html(&message, &mut |html| Some([html, b"!"].concat()));
            prop_assert_eq!(with_html(&message, &mut |_| None), None);
        }

        #[test]
        fn quoted_printable_is_read_as_it_is_written(text in "[ -~\u{e4}\t=]{0,200}(\r\n[a-z =]{0,100}){0,3}") {
            let mut written = Vec::new();
            encode::quoted_printable(text.as_bytes(), &mut written);
            prop_assert_eq!(from_quoted_printable(&written), text.as_bytes());
        }
    }
}
