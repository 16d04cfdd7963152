//! Where do the links of a message lead, where its sender wants to hear of readers?
//!
//! Where a configuration set asks for it, the links of a message lead through a host of the sender's own, and a picture of one pixel is
//! fetched from there. Each such address carries a seal over all it says: what it leads to, of which message, of which sender, at which
//! host. So nobody can make one up, and none leads anywhere else than the message said (F8).

use aws_lc_rs::{constant_time, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use engine::id::{AccountId, MessageId};
use engine::snapshot;
use mail::address::Domain;
use mail::{html, parts};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const SEAL_OCTETS: usize = 12;
/// Longer ones are none of ours.
const TOKEN_LETTERS_MAX: usize = 2 * html::LINK_OCTETS_MAX;
/// In the path, before the token.
const CLICK: &str = "c";
const OPEN: &str = "o";

/// What stands for `{host}` in the address of links.
pub const HOST: &str = "{host}";
/// Where links lead where the installation says nothing else.
pub const ORIGIN: &str = "https://{host}";

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub message: u128,
    /// None: several recipients have the same text.
    pub recipient: Option<u16>,
    pub account: AccountId,
    pub set: Arc<str>,
    /// None: the picture.
    pub target: Option<String>,
}

/// Makes and opens the tokens of this installation.
pub struct Links {
    key: hmac::Key,
    origin: String,
}

impl Links {
    /// `origin` is where tracking hosts are reached, with `HOST` in the place of their name.
    #[must_use]
    pub fn new(secret: &[u8], origin: &str) -> Links {
        Links { key: hmac::Key::new(hmac::HMAC_SHA256, secret), origin: origin.trim_end_matches('/').to_owned() }
    }

    fn address(&self, host: &Domain, mark: &Mark) -> String {
        let origin = self.origin.replace(HOST, host.as_str());
        let kind = if mark.target.is_some() { CLICK } else { OPEN };
        format!("{origin}/{kind}/{}", self.seal(host, mark))
    }

    fn seal(&self, host: &Domain, mark: &Mark) -> String {
        let said = postcard::to_stdvec(mark).expect("plain values can always be written");
        let tag = self.tag(host, &said);
        URL_SAFE_NO_PAD.encode([&tag.as_ref()[..SEAL_OCTETS], &said].concat())
    }

    /// What a token says, if it was sealed here for this host.
    #[must_use]
    pub fn open(&self, host: &Domain, token: &str) -> Option<Mark> {
        if token.len() > TOKEN_LETTERS_MAX {
            return None;
        }
        let octets = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (seal, said) = octets.split_at_checked(SEAL_OCTETS)?;
        let tag = self.tag(host, said);
        constant_time::verify_slices_are_equal(seal, &tag.as_ref()[..SEAL_OCTETS]).ok()?;
        postcard::from_bytes(said).ok()
    }

    fn tag(&self, host: &Domain, said: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(b"links/1\0");
        context.update(host.as_str().as_bytes());
        context.update(b"\0");
        context.update(said);
        context.sign()
    }

    /// The message with what its configuration set wants to hear of; as it was where there is nothing to hear.
    #[must_use]
    pub fn track(&self, octets: Vec<u8>, set: &snapshot::Tracking, whose: &Whose<'_>) -> Vec<u8> {
        let mark = |target: Option<String>| Mark {
            message: whose.message.0,
            recipient: (whose.recipients == 1).then_some(0),
            account: whose.account.clone(),
            set: whose.set.into(),
            target,
        };
        let mut change = |text: &[u8]| {
            let mut to = |link: &str| {
                let is_own = link.starts_with(&self.origin.replace(HOST, set.host.as_str()));
                (!is_own).then(|| self.address(&set.host, &mark(Some(link.to_owned()))))
            };
            let led = if set.clicks { html::with_links(text, &mut to) } else { None };
            if !set.opens {
                return led;
            }
            let picture = format!(
                "<img src=\"{}\" alt=\"\" width=\"1\" height=\"1\" style=\"border:0\">",
                self.address(&set.host, &mark(None))
            );
            Some(html::with_at_end(led.as_deref().unwrap_or(text), &picture))
        };
        parts::with_html(&octets, &mut change).unwrap_or(octets)
    }
}

/// Of whom a message is that is to be tracked.
pub struct Whose<'a> {
    pub message: MessageId,
    pub account: &'a AccountId,
    pub set: &'a str,
    pub recipients: usize,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::{HOST, Links, Mark, ORIGIN, Whose};
    use engine::id::{AccountId, MessageId};
    use engine::snapshot::Tracking;
    use mail::address::Domain;

    fn host(name: &str) -> Domain {
        Domain::parse(name).unwrap()
    }

    fn links() -> Links {
        Links::new(&[7; 32], ORIGIN)
    }

    fn mark(target: &str) -> Mark {
        Mark {
            message: 7,
            recipient: Some(0),
            account: AccountId::new("acc_shop"),
            set: "news".into(),
            target: Some(target.to_owned()),
        }
    }

    // F8: altered, of another host, of another installation.
    #[test]
    fn a_link_leads_where_it_led_and_no_altered_one_does() {
        let (links, own) = (links(), host("links.shop.test"));
        let token = links.seal(&own, &mark("https://shop.test/a?b=c"));
        assert_eq!(links.open(&own, &token), Some(mark("https://shop.test/a?b=c")));
        for place in 0..token.len() {
            let mut altered = token.clone().into_bytes();
            altered[place] = if altered[place] == b'A' { b'B' } else { b'A' };
            assert_eq!(links.open(&own, std::str::from_utf8(&altered).unwrap()), None, "{place}");
        }
        assert_eq!(links.open(&own, &token[..token.len() - 1]), None);
        assert_eq!(links.open(&own, ""), None);
        assert_eq!(links.open(&host("links.other.test"), &token), None);
        assert_eq!(Links::new(&[8; 32], ORIGIN).open(&own, &token), None);
    }

    #[test]
    fn what_is_asked_for_is_tracked_and_nothing_else() {
        let (links, own) = (links(), host("links.shop.test"));
        let account = AccountId::new("acc_shop");
        let whose = Whose { message: MessageId(7), account: &account, set: "news", recipients: 1 };
        let message = b"Content-Type: text/html\r\n\r\n<a href='https://shop.test/'>a</a>".to_vec();
        let tracked = |opens, clicks, whose: &Whose<'_>| {
            let set = Tracking { host: own.clone(), opens, clicks };
            String::from_utf8(links.track(message.clone(), &set, whose)).unwrap()
        };
        assert_eq!(tracked(false, false, &whose).as_bytes(), message);
        let opens = tracked(true, false, &whose);
        assert!(
            opens.contains("https://shop.test/") && opens.contains("src=3D\"https://links.shop.test/o/"),
            "{opens}"
        );
        let clicks = tracked(false, true, &whose);
        assert!(!clicks.contains("https://shop.test/") && !clicks.contains("<img"), "{clicks}");
        let flat = clicks.replace("=\r\n", "");
        let token = flat.split("https://links.shop.test/c/").nth(1).unwrap().split('\'').next().unwrap();
        assert_eq!(links.open(&own, token), Some(mark("https://shop.test/")));
        let several = tracked(false, true, &Whose { recipients: 2, ..whose }).replace("=\r\n", "");
        let token = several.split("https://links.shop.test/c/").nth(1).unwrap().split('\'').next().unwrap();
        assert_eq!(links.open(&own, token).unwrap().recipient, None);
        assert!(ORIGIN.contains(HOST));
    }
}
