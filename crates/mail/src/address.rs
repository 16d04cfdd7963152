//! Is this a mail address, and what is its domain?
//!
//! Deliberately lenient in one place: RFC 5321 4.5.3.1.1 caps a local part at 64 octets, but return paths in use
//! (VERP, SRS) are longer, and refusing one loses mail that its site would take. The whole address is capped instead.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// RFC 5321 4.5.3.1.3: a path is at most 256 octets, with its angle brackets.
pub const MAILBOX_OCTETS_MAX: usize = 254;
const DOMAIN_OCTETS_MAX: usize = 253;
const LABEL_OCTETS_MAX: usize = 63;

/// Why a text is not an address. The sentences are for the customer who wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AddressError {
    #[error("the address is empty")]
    Empty,
    #[error("the address {0:?} has no @")]
    NoAt(String),
    #[error("the address is longer than 254 octets")]
    TooLong,
    #[error("the part before the @ is empty")]
    LocalEmpty,
    #[error("the part before the @ has a dot at its start, at its end, or two in a row; put it in double quotes")]
    LocalDots,
    #[error("the part before the @ must not contain {0:?} unless it is in double quotes")]
    LocalCharacter(char),
    #[error("the quoted part before the @ is not well formed")]
    LocalQuotes,
    #[error("the domain is empty")]
    DomainEmpty,
    #[error("an IP address in place of a domain is not accepted")]
    DomainLiteral,
    #[error("{0:?} is not a domain name")]
    Domain(String),
}

/// Canonical domain: lower case, A-labels (IDNA), no final dot. Never an address literal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Domain(Arc<str>);

impl Domain {
    pub fn parse(text: &str) -> Result<Domain, AddressError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Err(AddressError::DomainEmpty);
        }
        if text.starts_with('[') {
            return Err(AddressError::DomainLiteral);
        }
        let refused = || AddressError::Domain(shortened(text));
        // The cap holds before IDNA looks at it; UTF-8 needs no more than four octets for each octet of an A-label.
        if text.len() > DOMAIN_OCTETS_MAX * 4 {
            return Err(refused());
        }
        let mut ascii = text.to_ascii_lowercase();
        if !ascii.is_ascii() || ascii.contains("xn--") {
            ascii = idna::domain_to_ascii(&ascii).map_err(|_| refused())?;
        }
        let last_is_number = ascii.rsplit('.').next().is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit()));
        if ascii.len() > DOMAIN_OCTETS_MAX || !ascii.split('.').all(is_label) {
            return Err(refused());
        }
        if last_is_number {
            return Err(AddressError::DomainLiteral);
        }
        Ok(Domain(ascii.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Tables are asked with the text at hand; it must be in the canonical form.
impl std::borrow::Borrow<str> for Domain {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Domain {
    type Error = AddressError;
    fn try_from(text: String) -> Result<Domain, AddressError> {
        Domain::parse(&text)
    }
}

/// `local@domain` (RFC 5321, RFC 6531). The local part is kept as it was given, quotes included.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mailbox {
    local: Arc<str>,
    domain: Domain,
}

impl Mailbox {
    pub fn parse(text: &str) -> Result<Mailbox, AddressError> {
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        // A domain holds no @, so the last one divides, whatever a quoted local part holds.
        let (local, domain) = text.rsplit_once('@').ok_or_else(|| AddressError::NoAt(shortened(text)))?;
        let domain = Domain::parse(domain)?;
        check_local(local)?;
        if local.len() + 1 + domain.as_str().len() > MAILBOX_OCTETS_MAX {
            return Err(AddressError::TooLong);
        }
        Ok(Mailbox { local: local.into(), domain })
    }

    pub fn local(&self) -> &str {
        &self.local
    }

    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The domain is always written in A-labels, so only the local part can need RFC 6531.
    pub fn needs_smtputf8(&self) -> bool {
        !self.local.is_ascii()
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}

impl TryFrom<String> for Mailbox {
    type Error = AddressError;
    fn try_from(text: String) -> Result<Mailbox, AddressError> {
        Mailbox::parse(&text)
    }
}

impl From<Mailbox> for String {
    fn from(mailbox: Mailbox) -> String {
        mailbox.to_string()
    }
}

/// The underscore is no host name character, yet domains with it receive mail.
fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= LABEL_OCTETS_MAX
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
}

fn check_local(local: &str) -> Result<(), AddressError> {
    if local.is_empty() {
        return Err(AddressError::LocalEmpty);
    }
    if let Some(inside) = local.strip_prefix('"') {
        return check_quoted(inside);
    }
    if local.split('.').any(str::is_empty) {
        return Err(AddressError::LocalDots);
    }
    match local.chars().find(|&c| c != '.' && !is_atext(c)) {
        Some(c) => Err(AddressError::LocalCharacter(c)),
        None => Ok(()),
    }
}

/// What follows the opening quote must be quoted content and one closing quote at the very end.
fn check_quoted(inside: &str) -> Result<(), AddressError> {
    let mut chars = inside.chars();
    while let Some(c) = chars.next() {
        let well_formed = match c {
            '"' => {
                return if chars.as_str().is_empty() { Ok(()) } else { Err(AddressError::LocalQuotes) };
            }
            '\\' => chars.next().is_some_and(|c| matches!(c, ' '..='~')),
            c => c == ' ' || is_visible(c),
        };
        if !well_formed {
            return Err(AddressError::LocalQuotes);
        }
    }
    Err(AddressError::LocalQuotes)
}

/// RFC 5322 atext, widened by RFC 6531 to characters beyond ASCII.
fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || (!c.is_ascii() && is_visible(c))
}

fn is_visible(c: char) -> bool {
    !c.is_control() && !c.is_whitespace()
}

/// An error repeats the text it is about, but never a megabyte of it.
fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may stop at the first surprise
    use super::*;

    #[test]
    fn domains_become_canonical() {
        for (given, canonical) in [
            ("Example.COM", "example.com"),
            ("example.com.", "example.com"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("BÜCHER.example", "xn--bcher-kva.example"),
            ("XN--bcher-kva.example", "xn--bcher-kva.example"),
            ("日本語。jp", "xn--wgv71a119e.jp"),
            ("a_b.example", "a_b.example"),
            ("r3---sn.example", "r3---sn.example"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(Domain::parse(given).unwrap().as_str(), canonical);
        }
    }

    #[test]
    fn domains_that_are_none_are_refused() {
        for given in [
            "",
            ".",
            "..",
            "a..b",
            "-a.b",
            "a-.b",
            "a b",
            "a\r\nb",
            "a@b",
            "[1.2.3.4]",
            "1.2.3.4",
            "a.\0",
            "xn--\u{7f}",
        ] {
            assert!(Domain::parse(given).is_err(), "{given:?}");
        }
        assert!(Domain::parse(&"a".repeat(64)).is_err());
        assert!(Domain::parse(&"a.".repeat(127)).is_ok());
        assert!(Domain::parse(&"a.".repeat(128)).is_err());
        assert!(Domain::parse(&"ü".repeat(100_000)).is_err());
    }

    #[test]
    fn mailboxes_keep_their_local_part() {
        for (given, local, domain) in [
            ("Ann.Lee+x@Example.com", "Ann.Lee+x", "example.com"),
            (r#""a@b c\"d"@x.org"#, r#""a@b c\"d""#, "x.org"),
            (r#""a..b"@docomo.example"#, r#""a..b""#, "docomo.example"),
            ("用户@例え.jp", "用户", "xn--r8jz45g.jp"),
        ] {
            let mailbox = Mailbox::parse(given).unwrap();
            assert_eq!((mailbox.local(), mailbox.domain().as_str()), (local, domain));
        }
        assert!(Mailbox::parse("用户@x.jp").unwrap().needs_smtputf8());
        assert!(!Mailbox::parse("user@例え.jp").unwrap().needs_smtputf8());
    }

    // D4: nothing that could end a line or a path gets into an address.
    #[test]
    fn mailboxes_that_are_none_are_refused() {
        for given in [
            "",
            "a",
            "@b",
            "a@",
            "a@b@c",
            "a b@c",
            ".a@b",
            "a.@b",
            "a..b@c",
            "a@b\r\nRCPT TO:<c@d>",
            "a\r\n@b",
            "a\0@b",
            "<a@b>",
            "a@b>",
            "a>@b",
            "\"a@b",
            "\"a\"b@c",
            "\"a\\\"@b",
            "\"a\r\n\"@b",
            "a\u{85}@b",
            "a\u{2028}@b",
            "a,b@c",
            "a@[127.0.0.1]",
        ] {
            assert!(Mailbox::parse(given).is_err(), "{given:?}");
        }
        assert!(Mailbox::parse(&format!("{}@{}", "a".repeat(250), "b.c")).is_ok());
        assert_eq!(Mailbox::parse(&format!("{}@{}", "a".repeat(251), "b.c")), Err(AddressError::TooLong));
    }
}
