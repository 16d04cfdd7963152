//! Where does an HTML text lead to, and how does it lead elsewhere?
//!
//! The text is read as octets: every character set in use for mail but a few (which the caller leaves out) writes tags, names of
//! attributes and links in ASCII. Only the values that are replaced change; whatever cannot be read is passed over as it is.

use memchr::{memchr, memmem};

/// Longer links are left as they are.
pub const LINK_OCTETS_MAX: usize = 2_048;
/// Further links of one text are left as they are.
pub const LINKS_MAX: usize = 1_000;
/// An element that bears one of these is left as it is: the first is what users of Amazon SES write.
const LEFT_ALONE: [&[u8]; 2] = [b"ses:no-track", b"data-no-track"];
/// Elements whose content is no markup.
const RAW: [&[u8]; 4] = [b"script", b"style", b"textarea", b"title"];

/// The text with other links, where `to` knows one: those of `a` and `area` elements to `http` and `https`. What `to` answers is put
/// between the quotes as it is. None: nothing is another.
pub fn with_links(html: &[u8], to: &mut dyn FnMut(&str) -> Option<String>) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut copied = 0;
    for link in links(html).take(LINKS_MAX) {
        let Some(other) = to(&link.target) else { continue };
        out.extend_from_slice(&html[copied..link.at]);
        let quote: &[u8] = if link.quoted { b"" } else { b"\"" };
        out.extend_from_slice(&[quote, other.as_bytes(), quote].concat());
        copied = link.at + link.octets;
    }
    if copied == 0 {
        return None;
    }
    out.extend_from_slice(&html[copied..]);
    Some(out)
}

/// The text with something put at the end of what is shown.
pub fn with_at_end(html: &[u8], what: &str) -> Vec<u8> {
    let lower = html.to_ascii_lowercase();
    let end = memmem::rfind(&lower, b"</body").or_else(|| memmem::rfind(&lower, b"</html")).unwrap_or(html.len());
    [&html[..end], what.as_bytes(), &html[end..]].concat()
}

struct Link {
    at: usize,
    octets: usize,
    quoted: bool,
    target: String,
}

fn links(html: &[u8]) -> impl Iterator<Item = Link> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        while let Some(open) = memchr(b'<', html.get(at..)?) {
            let tag = at + open + 1;
            let rest = &html[tag..];
            if let Some(comment) = rest.strip_prefix(b"!--") {
                at = memmem::find(comment, b"-->").map_or(html.len(), |end| tag + 3 + end + 3);
                continue;
            }
            if !rest.first().is_some_and(u8::is_ascii_alphabetic) {
                at = tag;
                continue;
            }
            let name_octets = rest.iter().position(|b| ends_name(*b)).unwrap_or(rest.len());
            let name = &rest[..name_octets];
            let (end, href) = attributes(html, tag + name_octets);
            at = end;
            if RAW.iter().any(|raw| name.eq_ignore_ascii_case(raw)) {
                at = after_raw(html, end, name);
            }
            if name.eq_ignore_ascii_case(b"a") || name.eq_ignore_ascii_case(b"area") {
                let Some(value) = href else { continue };
                if let Some(target) = target(&html[value.at..value.at + value.octets]) {
                    return Some(Link { at: value.at, octets: value.octets, quoted: value.quoted, target });
                }
            }
        }
        None
    })
}

struct Value {
    at: usize,
    octets: usize,
    quoted: bool,
}

/// Where the tag ends, and the value of its first `href`; none where the element is to be left alone or the tag does not end.
fn attributes(html: &[u8], from: usize) -> (usize, Option<Value>) {
    let mut at = from;
    let mut href = None;
    let mut left_alone = false;
    loop {
        at += html[at..].iter().take_while(|b| b.is_ascii_whitespace() || **b == b'/').count();
        match html.get(at) {
            None => return (html.len(), None),
            Some(b'>') => return (at + 1, if left_alone { None } else { href }),
            Some(_) => {}
        }
        // A stray `=` begins a name, as browsers have it.
        let name_octets = 1 + html[at + 1..].iter().take_while(|b| !ends_name(**b) && **b != b'=').count();
        let name = &html[at..at + name_octets];
        left_alone |= LEFT_ALONE.iter().any(|word| name.eq_ignore_ascii_case(word));
        at += name_octets;
        let spaces = html[at..].iter().take_while(|b| b.is_ascii_whitespace()).count();
        if html.get(at + spaces) != Some(&b'=') {
            continue;
        }
        at += spaces + 1;
        at += html[at..].iter().take_while(|b| b.is_ascii_whitespace()).count();
        let value = match html.get(at) {
            Some(quote @ (b'"' | b'\'')) => {
                let Some(octets) = memchr(*quote, &html[at + 1..]) else { return (html.len(), None) };
                Value { at: at + 1, octets, quoted: true }
            }
            _ => {
                let octets = html[at..].iter().take_while(|b| !b.is_ascii_whitespace() && **b != b'>').count();
                Value { at, octets, quoted: false }
            }
        };
        at = value.at + value.octets + usize::from(value.quoted);
        if href.is_none() && name.eq_ignore_ascii_case(b"href") {
            href = Some(value);
        }
    }
}

fn ends_name(octet: u8) -> bool {
    octet.is_ascii_whitespace() || octet == b'/' || octet == b'>'
}

/// After the end tag of an element whose content is no markup.
fn after_raw(html: &[u8], from: usize, name: &[u8]) -> usize {
    let mut at = from;
    while let Some(found) = memmem::find(&html[at..], b"</") {
        at += found + 2;
        if html[at..].get(..name.len()).is_some_and(|word| word.eq_ignore_ascii_case(name)) {
            return at;
        }
    }
    html.len()
}

/// What a value leads to, if it is a whole address of the web.
fn target(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?.trim_matches(|c: char| c.is_ascii_whitespace());
    let text = decoded(text);
    let is_web = ["http://", "https://"].iter().any(|scheme| {
        text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)) && text.len() > scheme.len()
    });
    let is_plain = text.len() <= LINK_OCTETS_MAX && text.chars().all(|c| !c.is_control() && !c.is_whitespace());
    (is_web && is_plain).then_some(text)
}

/// Character references that stand in links; others, and what only looks like one, stay as they are.
fn decoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest.get(..rest.len().min(12)).and_then(|start| start.find(';'));
        match end.and_then(|end| Some((end, reference(&rest[1..end])?))) {
            Some((end, c)) => {
                out.push(c);
                rest = &rest[end + 1..];
            }
            None => {
                out.push('&');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

fn reference(name: &str) -> Option<char> {
    // A sign in front would be read too.
    let number = |digits: &str, base| {
        let is_digits = digits.chars().all(|digit| digit.is_digit(base));
        u32::from_str_radix(digits, base).ok().filter(|_| is_digits).and_then(char::from_u32)
    };
    match name {
        "amp" => Some('&'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        "lt" => Some('<'),
        "gt" => Some('>'),
        _ => match name.strip_prefix('#')? {
            hex if hex.starts_with(['x', 'X']) => number(&hex[1..], 16),
            digits => number(digits, 10),
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use proptest::prelude::*;

    fn led(html: &str) -> Vec<String> {
        links(html.as_bytes()).map(|link| link.target).collect()
    }

    #[test]
    fn links_are_found_where_browsers_find_them() {
        let cases: [(&str, &[&str]); 15] = [
            (r#"<a href="https://a.test/x">x</a>"#, &["https://a.test/x"]),
            (r#"<A class=b HREF = 'HTTP://a.test?p=1&amp;q=2#f' >"#, &["HTTP://a.test?p=1&q=2#f"]),
            ("<a href=https://a.test/x>x</a><area href=http://b.test>", &["https://a.test/x", "http://b.test"]),
            ("<a title='a > b' href='https://a.test'>", &["https://a.test"]),
            ("<a href=\" https://a.test/x \n\">", &["https://a.test/x"]),
            ("<a href='https://a.test/&#x26;&#38;&copy=1'>", &["https://a.test/&&&copy=1"]),
            ("<a href='https://a.test/&#+38;&#x+26;'>", &["https://a.test/&#+38;&#x+26;"]),
            ("<a href='mailto:a@b.test'><a href='#top'><a href='/x'><a href='javascript:1'><a href='http://'>", &[]),
            ("<a href='https://a.test/one two'>", &[]),
            ("<link href='https://a.test/style.css'><img src='https://a.test/i.png'>", &[]),
            ("<!-- <a href='https://a.test'> --><a href='https://b.test'>", &["https://b.test"]),
            ("<script>'<a href=\"https://a.test\">'</script><a href='https://b.test'>", &["https://b.test"]),
            ("<a ses:no-track href='https://a.test'><a href='https://b.test' data-no-track>", &[]),
            ("<a data-href='https://a.test'><abbr href='https://a.test'>", &[]),
            ("<a href='https://a.test", &[]),
        ];
        for (html, expected) in cases {
            assert_eq!(led(html), expected, "{html}");
        }
    }

    #[test]
    fn only_what_is_replaced_changes() {
        let html =
            b"<p>1 < 2<a href='https://a.test'>a</a><a href=https://b.test>b</a><a href=\"https://c.test\">c</a>";
        let mut to = |link: &str| (!link.contains("c.test")).then(|| format!("https://t.test/{}", &link[8..9]));
        let changed = String::from_utf8(with_links(html, &mut to).unwrap()).unwrap();
        let expected = "<p>1 < 2<a href='https://t.test/a'>a</a><a href=\"https://t.test/b\">b</a><a href=\"https://c.test\">c</a>";
        assert_eq!(changed, expected);
        assert_eq!(with_links(html, &mut |_| None), None);
    }

    #[test]
    fn what_is_put_at_the_end_stands_within_the_body() {
        let cases = [
            ("<BODY>a</BODY></html>", "<BODY>a!</BODY></html>"),
            ("a</html>", "a!</html>"),
            ("a", "a!"),
            ("</body>a</body>", "</body>a!</body>"),
        ];
        for (html, expected) in cases {
            assert_eq!(with_at_end(html.as_bytes(), "!"), expected.as_bytes(), "{html}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_and_other_octets_stay(html in proptest::collection::vec(prop_oneof![
            Just(b"<a href=".to_vec()), Just(b"'".to_vec()), Just(b"\"".to_vec()), Just(b">".to_vec()), Just(b"https://a.test/".to_vec()),
            Just(b"<!--".to_vec()), Just(b"-->".to_vec()), Just(b"<script>".to_vec()), Just(b"</script".to_vec()), Just(b" ".to_vec()),
            any::<u8>().prop_map(|b| vec![b])], 0..60)) {
            let html = html.concat();
            let same = with_links(&html, &mut |_| None);
            prop_assert_eq!(same, None);
            let count = links(&html).count();
            let changed = with_links(&html, &mut |_| Some("https://t.test/".to_owned()));
            prop_assert_eq!(changed.is_some(), count > 0);
            let longer = with_at_end(&html, "xyz");
            prop_assert_eq!(longer.len(), html.len() + 3);
        }
    }
}
