//! Which mailboxes does a From, To or Cc field name?
//!
//! RFC 5322 3.4 with quoted names, comments, groups and the obsolete route. Encoded words (RFC 2047) are atoms here and
//! stay as they are: a name is carried, never judged.

use crate::address::{AddressError, Mailbox};

/// `Ann <ann@example.org>`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedMailbox {
    /// The display name without quotes; never empty.
    pub name: Option<String>,
    pub mailbox: Mailbox,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MailboxesError {
    #[error("there is no address")]
    Empty,
    #[error("there is more than one address")]
    Many,
    #[error("`{0}` has no address of the form local@domain")]
    NoAddress(String),
    #[error("`{0}` is not expected here")]
    Unexpected(String),
    #[error("the {0} is not closed")]
    Unclosed(&'static str),
    #[error("{0}")]
    Address(#[from] AddressError),
}

impl NamedMailbox {
    /// Exactly one mailbox, with or without a name.
    pub fn parse(text: &str) -> Result<NamedMailbox, MailboxesError> {
        let mut list = parse_list(text)?;
        match (list.pop(), list.is_empty()) {
            (Some(only), true) => Ok(only),
            (None, _) => Err(MailboxesError::Empty),
            (Some(_), false) => Err(MailboxesError::Many),
        }
    }
}

impl From<Mailbox> for NamedMailbox {
    fn from(mailbox: Mailbox) -> NamedMailbox {
        NamedMailbox { name: None, mailbox }
    }
}

/// The mailboxes of an address list, those inside groups too. The list may be folded; it may be empty.
pub fn parse_list(text: &str) -> Result<Vec<NamedMailbox>, MailboxesError> {
    let mut reader = Reader { rest: text };
    let mut found = Vec::new();
    let mut words: Vec<Word<'_>> = Vec::new();
    let mut in_group = false;
    // Whether this element of the list has had its address, so that only a separator may follow.
    let mut complete = false;
    loop {
        match reader.next()? {
            Some(Token::Word(word)) if !complete => words.push(word),
            Some(Token::Special('<')) if !complete => {
                let mailbox = reader.angle_address()?;
                found.push(NamedMailbox { name: phrase(&words), mailbox });
                words.clear();
                complete = true;
            }
            Some(Token::Special('@')) if !complete => {
                let [local] = words.as_slice() else {
                    return Err(MailboxesError::Unexpected(format!("{}@", said(&words))));
                };
                found.push(NamedMailbox { name: None, mailbox: reader.domain_after(local)? });
                words.clear();
                complete = true;
            }
            Some(Token::Special(':')) if !complete && !in_group && !words.is_empty() => {
                words.clear();
                in_group = true;
            }
            Some(Token::Special(end @ (',' | ';'))) if end == ',' || in_group => {
                if !words.is_empty() {
                    return Err(MailboxesError::NoAddress(said(&words)));
                }
                complete = false;
                if end == ';' {
                    in_group = false;
                    // Only a comma may follow a group.
                    complete = true;
                }
            }
            None if in_group => return Err(MailboxesError::Unclosed("group")),
            None if words.is_empty() => return Ok(found),
            None => return Err(MailboxesError::NoAddress(said(&words))),
            Some(Token::Word(word)) => return Err(MailboxesError::Unexpected(said(&[word]))),
            Some(Token::Special(c)) => return Err(MailboxesError::Unexpected(c.to_string())),
        }
    }
}

enum Word<'a> {
    /// Letters, dots and whatever else needs no quotes; as it stands.
    Atom(&'a str),
    /// As it stands with its quotes, and what it says.
    Quoted(&'a str, String),
    /// `[192.0.2.1]`
    Literal(&'a str),
}

impl Word<'_> {
    fn raw(&self) -> &str {
        match self {
            Word::Atom(raw) | Word::Quoted(raw, _) | Word::Literal(raw) => raw,
        }
    }
}

enum Token<'a> {
    Word(Word<'a>),
    Special(char),
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Option<Token<'a>>, MailboxesError> {
        self.skip_comments()?;
        let Some(first) = self.rest.chars().next() else {
            return Ok(None);
        };
        let token = match first {
            '"' => Token::Word(self.quoted()?),
            '[' => {
                let end = self.rest.find(']').ok_or(MailboxesError::Unclosed("address literal"))?;
                Token::Word(Word::Literal(self.take(end + 1)))
            }
            _ if is_atom(first) => {
                let end = self.rest.find(|c| !is_atom(c)).unwrap_or(self.rest.len());
                Token::Word(Word::Atom(self.take(end)))
            }
            _ => {
                self.take(first.len_utf8());
                Token::Special(first)
            }
        };
        Ok(Some(token))
    }

    /// White space and nested comments.
    fn skip_comments(&mut self) -> Result<(), MailboxesError> {
        let mut depth = 0_usize;
        let mut escaped = false;
        for (at, c) in self.rest.char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' if depth > 0 => escaped = true,
                '(' => depth += 1,
                ')' if depth > 0 => depth -= 1,
                ' ' | '\t' | '\r' | '\n' => {}
                _ if depth > 0 => {}
                _ => {
                    self.take(at);
                    return Ok(());
                }
            }
        }
        self.rest = "";
        if depth == 0 { Ok(()) } else { Err(MailboxesError::Unclosed("comment")) }
    }

    fn quoted(&mut self) -> Result<Word<'a>, MailboxesError> {
        let mut says = String::new();
        let mut escaped = false;
        for (at, c) in self.rest.char_indices().skip(1) {
            match c {
                _ if escaped => {
                    says.push(c);
                    escaped = false;
                }
                '\\' => escaped = true,
                '"' => return Ok(Word::Quoted(self.take(at + 1), says)),
                // The line end of a fold is not part of the text.
                '\r' | '\n' => {}
                c => says.push(c),
            }
        }
        Err(MailboxesError::Unclosed("quoted string"))
    }

    /// After `<`: an optional route, `local@domain`, `>`.
    fn angle_address(&mut self) -> Result<Mailbox, MailboxesError> {
        let mut token = self.next()?;
        if matches!(token, Some(Token::Special('@'))) {
            // RFC 5322 4.4, obs-route: relays long gone, passed over up to the colon.
            let end = self.rest.find(':').ok_or(MailboxesError::Unclosed("route"))?;
            self.take(end + 1);
            token = self.next()?;
        }
        let local = match token {
            Some(Token::Word(word)) => word,
            Some(Token::Special('>')) => return Err(MailboxesError::NoAddress("<>".into())),
            Some(Token::Special(c)) => return Err(MailboxesError::Unexpected(c.to_string())),
            None => return Err(MailboxesError::Unclosed("angle bracket")),
        };
        match self.next()? {
            Some(Token::Special('@')) => {}
            Some(Token::Special('>')) => return Err(MailboxesError::NoAddress(said(&[local]))),
            Some(Token::Special(c)) => return Err(MailboxesError::Unexpected(c.to_string())),
            Some(Token::Word(word)) => return Err(MailboxesError::Unexpected(said(&[word]))),
            None => return Err(MailboxesError::Unclosed("angle bracket")),
        }
        let mailbox = self.domain_after(&local)?;
        match self.next()? {
            Some(Token::Special('>')) => Ok(mailbox),
            Some(Token::Special(c)) => Err(MailboxesError::Unexpected(c.to_string())),
            Some(Token::Word(word)) => Err(MailboxesError::Unexpected(said(&[word]))),
            None => Err(MailboxesError::Unclosed("angle bracket")),
        }
    }

    fn domain_after(&mut self, local: &Word<'_>) -> Result<Mailbox, MailboxesError> {
        let Some(Token::Word(domain @ (Word::Atom(_) | Word::Literal(_)))) = self.next()? else {
            return Err(MailboxesError::NoAddress(format!("{}@", local.raw())));
        };
        Ok(Mailbox::parse(&format!("{}@{}", local.raw(), domain.raw()))?)
    }

    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }
}

/// RFC 5322 atext, RFC 6532, and the dot, which RFC 5322 4.1 tolerates in names too.
fn is_atom(c: char) -> bool {
    c.is_ascii_alphanumeric() || !c.is_ascii() || "!#$%&'*+-/=?^_`{|}~.".contains(c)
}

fn phrase(words: &[Word<'_>]) -> Option<String> {
    let name = words
        .iter()
        .map(|word| match word {
            Word::Quoted(_, says) => says.as_str(),
            word => word.raw(),
        })
        .collect::<Vec<_>>()
        .join(" ");
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// What stood there, short enough for an error.
fn said(words: &[Word<'_>]) -> String {
    let text = words.iter().map(Word::raw).collect::<Vec<_>>().join(" ");
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn check(text: &str, expected: &[(&str, &str)]) {
        let found: Vec<(String, String)> = parse_list(text)
            .unwrap_or_else(|error| panic!("{text}: {error}"))
            .into_iter()
            .map(|m| (m.name.unwrap_or_default(), m.mailbox.to_string()))
            .collect();
        let found: Vec<(&str, &str)> = found.iter().map(|(n, m)| (n.as_str(), m.as_str())).collect();
        assert_eq!(found, expected, "{text}");
    }

    // R1.4
    #[test]
    fn the_mailboxes_of_a_list_are_found() {
        check("ann@example.org", &[("", "ann@example.org")]);
        check("Ann <ann@example.org>", &[("Ann", "ann@example.org")]);
        check("<ann@example.org>", &[("", "ann@example.org")]);
        check(r#""Ann, \"the\" Great" <ann@example.org>"#, &[("Ann, \"the\" Great", "ann@example.org")]);
        check(r#""evil@bank.test" <ann@example.org>"#, &[("evil@bank.test", "ann@example.org")]);
        check(r#""<evil@bank.test>" <ann@example.org>"#, &[("<evil@bank.test>", "ann@example.org")]);
        check("(evil@bank.test) ann@example.org (nested (x@y) \\) )", &[("", "ann@example.org")]);
        check(
            "=?utf-8?q?Ann=2C_evil=40bank?= <ann@example.org>",
            &[("=?utf-8?q?Ann=2C_evil=40bank?=", "ann@example.org")],
        );
        check(
            "Ann\r\n\tB. C. <ann@example.org>,\r\n bob@example.net",
            &[("Ann B. C.", "ann@example.org"), ("", "bob@example.net")],
        );
        check(
            "Team: Ann <ann@example.org>, bob@example.net;, c@example.com",
            &[("Ann", "ann@example.org"), ("", "bob@example.net"), ("", "c@example.com")],
        );
        check("undisclosed-recipients:;", &[]);
        check(", ann@example.org,,", &[("", "ann@example.org")]);
        check("Ann <@relay.test,@b.test:ann@example.org>", &[("Ann", "ann@example.org")]);
        check("\"ann b\"@example.org", &[("", "\"ann b\"@example.org")]);
        check("Änn Ü <ann@example.org>", &[("Änn Ü", "ann@example.org")]);
        check("ann @ example.org", &[("", "ann@example.org")]);
        check("", &[]);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in [
            "Ann",
            "Ann, Bob <bob@example.org>",
            "Ann <ann@example.org",
            "Ann <ann@example.org> Bob",
            "Ann <ann@example.org> <evil@bank.test>",
            "ann@example.org evil@bank.test",
            "ann@evil@bank.test",
            "<>",
            "<ann>",
            "\"Ann <ann@example.org>",
            "(Ann <ann@example.org>",
            "Team: ann@example.org",
            "a: b: c@example.org;;",
            "ann@example.org;",
            "ann@",
            "@example.org",
            "a b@example.org",
            "ann@example.org>",
            "x: a@example.org; b@example.org",
        ] {
            assert!(parse_list(text).is_err(), "{text} gave {:?}", parse_list(text));
        }
    }

    #[test]
    fn one_mailbox_is_one() {
        assert_eq!(NamedMailbox::parse("a@example.org, b@example.org"), Err(MailboxesError::Many));
        assert_eq!(NamedMailbox::parse(" "), Err(MailboxesError::Empty));
        assert_eq!(NamedMailbox::parse("Ann <a@example.org>").unwrap().name.as_deref(), Some("Ann"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[\\PC\\r\\n<>@,;:\"()\\\\]{0,60}") {
            let _ = parse_list(&text);
        }
    }
}
