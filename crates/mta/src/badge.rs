//! What does a message bear, so that we know it when it comes back, and so that its reader can end it?
//!
//! Fields of our own, written before the message is signed. What a submitter put in their place goes: a token of somebody else's message
//! must not come back from this one.

use crate::return_path::{Purpose, Sealer};
use aws_lc_rs::digest::{SHA256, digest};
use engine::id::{AccountId, MessageId, StreamId};
use engine::snapshot::SendingDomain;
use mail::address::Domain;
use mail::message::{fields, split};
use std::sync::Arc;

/// Carries a message's token; what submitters put there is removed.
pub const TOKEN_FIELD: &str = "X-Weir-Token";
/// In the path of links that end a stream, before the token.
pub const UNSUBSCRIBE_PATH: &str = "/unsubscribe/";
/// Of a name in `Feedback-ID`; what makes mail of a kind belong together is at its front.
const NAME_LETTERS_MAX: usize = 30;

#[derive(Clone, Debug)]
pub struct Settings {
    /// Where complaints and ends of streams go to.
    pub domain: Domain,
    /// The local part of the address for complaints.
    pub feedback: String,
    /// Signs beside the sender's domain where complaints go to another one (RFC 9477 3.1).
    pub signing: Option<Arc<SendingDomain>>,
    /// Last in `Feedback-ID`: who we are to Gmail. None: without that field.
    pub sender_id: Option<String>,
    /// How links that end a stream begin. None: they end by mail alone.
    pub origin: Option<String>,
}

/// Writes the fields of each message.
pub struct Badge {
    sealer: Arc<Sealer>,
    settings: Settings,
}

/// What is known of a message that is to bear them.
pub struct Bearer<'a> {
    pub message: MessageId,
    pub account: &'a AccountId,
    pub set: Option<&'a str>,
    pub stream: &'a StreamId,
    /// The domain it is signed for; none: it is not signed.
    pub signed: Option<&'a Domain>,
    /// Its reader is offered an end of the stream.
    pub unsubscribe: bool,
}

impl Badge {
    #[must_use]
    pub fn new(sealer: Arc<Sealer>, settings: Settings) -> Badge {
        Badge { sealer, settings }
    }

    /// Who signs beside the sender's own domain.
    #[must_use]
    pub fn signing(&self, bearer: &Bearer<'_>) -> Option<&Arc<SendingDomain>> {
        let signed = bearer.signed?;
        self.settings.signing.as_ref().filter(|_| !is_below(&self.settings.domain, signed))
    }

    /// The message with its fields on top.
    #[must_use]
    pub fn put_on(&self, octets: &[u8], bearer: &Bearer<'_>) -> Vec<u8> {
        let (header, _) = split(octets);
        let mut out = Vec::with_capacity(octets.len() + 1_024);
        let has_feedback_id = fields(header).any(|field| field.is("Feedback-ID"));
        for (name, value) in self.fields(bearer, has_feedback_id) {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        let goes = |name: &str| {
            let starts = |start: &str| name.get(..start.len()).is_some_and(|front| front.eq_ignore_ascii_case(start));
            starts("CFBL-") || bearer.unsubscribe && starts("List-Unsubscribe")
        };
        for field in fields(header).filter(|field| !goes(field.name)) {
            out.extend_from_slice(field.octets);
        }
        out.extend_from_slice(&octets[header.len()..]);
        out
    }

    fn fields(&self, bearer: &Bearer<'_>, has_feedback_id: bool) -> Vec<(&'static str, String)> {
        let Settings { domain, feedback, sender_id, origin, .. } = &self.settings;
        let token = self.sealer.token(Purpose::Report, bearer.message);
        let mut all = Vec::new();
        // RFC 9477 3.1: signed, for the domain that complaints go to.
        if bearer.signed.is_some_and(|signed| is_below(domain, signed)) || self.signing(bearer).is_some() {
            all.push(("CFBL-Address", format!("{feedback}@{domain}; report=arf")));
            all.push(("CFBL-Feedback-ID", token.clone()));
        }
        all.push((TOKEN_FIELD, token));
        if let Some(sender) = sender_id.as_ref().filter(|_| bearer.signed.is_some() && !has_feedback_id) {
            let (set, stream) = (plain(bearer.set.unwrap_or_default()), plain(bearer.stream.as_str()));
            all.push(("Feedback-ID", format!("{set}:{stream}:{}:{sender}", short(bearer.account))));
        }
        if bearer.unsubscribe {
            let token = self.sealer.token(Purpose::Unsubscribe, bearer.message);
            let by_mail = format!("<mailto:{token}@{domain}?subject=unsubscribe>");
            // RFC 8058 4: only where a signature covers both fields.
            match origin.as_ref().filter(|_| bearer.signed.is_some()) {
                Some(origin) => {
                    let link = format!("<{origin}{UNSUBSCRIBE_PATH}{token}>");
                    all.push(("List-Unsubscribe", format!("{link},\r\n\t{by_mail}")));
                    all.push(("List-Unsubscribe-Post", "List-Unsubscribe=One-Click".to_owned()));
                }
                None => all.push(("List-Unsubscribe", by_mail)),
            }
        }
        all
    }
}

/// Whether a domain is another one, or below it.
fn is_below(domain: &Domain, above: &Domain) -> bool {
    let rest = domain.as_str().strip_suffix(above.as_str());
    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// As it may stand between colons.
fn plain(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
    name.chars().take(NAME_LETTERS_MAX).map(plain).collect()
}

/// Recipients learn that mail is of one account, and not of which.
fn short(account: &AccountId) -> String {
    digest(&SHA256, account.as_str().as_bytes()).as_ref().iter().take(5).map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::{Badge, Bearer, Settings};
    use crate::return_path::{Purpose, Sealer};
    use engine::id::{AccountId, MessageId, StreamId};
    use engine::snapshot::SendingDomain;
    use mail::address::Domain;
    use std::sync::Arc;

    fn domain(name: &str) -> Domain {
        Domain::parse(name).unwrap()
    }

    fn badge(change: impl FnOnce(&mut Settings)) -> Badge {
        let mut settings = Settings {
            domain: domain("back.weir.test"),
            feedback: "feedback".into(),
            signing: None,
            sender_id: None,
            origin: None,
        };
        change(&mut settings);
        Badge::new(Arc::new(Sealer::new(&[7; 32])), settings)
    }

    fn put_on(badge: &Badge, header: &str, signed: Option<&str>, unsubscribe: bool) -> String {
        let (account, stream) = (AccountId::new("acc_shop"), StreamId::new("news letters"));
        let signed = signed.map(domain);
        let message = MessageId(7);
        let bearer = Bearer {
            message,
            account: &account,
            set: Some("s"),
            stream: &stream,
            signed: signed.as_ref(),
            unsubscribe,
        };
        let octets = format!("{header}From: ann@shop.test\r\n\r\nCFBL-Address: in the text\r\n");
        String::from_utf8(badge.put_on(octets.as_bytes(), &bearer)).unwrap()
    }

    // F1: another message's token does not come back from this one.
    #[test]
    fn a_message_bears_its_own_token_and_no_other() {
        let theirs = "CFBL-Address: fbl@else.test\r\nCFBL-Feedback-ID: r-of\r\n\tanother\r\nSubject: x\r\n";
        let worn = put_on(&badge(|_| ()), theirs, None, false);
        let token = Sealer::new(&[7; 32]).token(Purpose::Report, MessageId(7));
        assert_eq!(
            worn,
            format!("X-Weir-Token: {token}\r\nSubject: x\r\nFrom: ann@shop.test\r\n\r\nCFBL-Address: in the text\r\n")
        );
    }

    // RFC 9477 3.1
    #[test]
    fn complaints_are_asked_for_where_a_signature_vouches_for_their_address() {
        let asks = |badge: &Badge, signed| {
            put_on(badge, "", signed, false)
                .starts_with("CFBL-Address: feedback@back.weir.test; report=arf\r\nCFBL-Feedback-ID: r-")
        };
        let plain = badge(|_| ());
        assert!(asks(&plain, Some("weir.test")) && asks(&plain, Some("back.weir.test")));
        assert!(!asks(&plain, None) && !asks(&plain, Some("shop.test")) && !asks(&plain, Some("eir.test")));
        let own = Arc::new(SendingDomain { name: domain("back.weir.test"), return_path: None, dkim: Vec::new() });
        let signing = badge(|settings| settings.signing = Some(own));
        assert!(asks(&signing, Some("shop.test")) && !asks(&signing, None));
    }

    #[test]
    fn gmail_is_told_what_belongs_together() {
        let named = badge(|settings| settings.sender_id = Some("weirtest".into()));
        let worn = put_on(&named, "", Some("shop.test"), false);
        assert!(worn.contains("\r\nFeedback-ID: s:news-letters:") && worn.contains(":weirtest\r\n"), "{worn}");
        assert!(!worn.contains("acc_shop"));
        let own = put_on(&named, "Feedback-ID: a:b:c:mine\r\n", Some("shop.test"), false);
        assert!(own.contains("a:b:c:mine") && !own.contains("weirtest"));
    }

    // RFC 8058
    #[test]
    fn a_stream_is_ended_by_link_and_by_mail() {
        let badge = badge(|settings| settings.origin = Some("https://mail.weir.test".into()));
        let worn = put_on(&badge, "List-Unsubscribe: <https://else.test>\r\n", Some("shop.test"), true);
        let token = Sealer::new(&[7; 32]).token(Purpose::Unsubscribe, MessageId(7));
        let expected = format!(
            "List-Unsubscribe: <https://mail.weir.test/unsubscribe/{token}>,\r\n\t<mailto:{token}@back.weir.test?subject=unsubscribe>\r\n\
             List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
        );
        assert!(worn.contains(&expected) && !worn.contains("else.test"), "{worn}");
        let unsigned = put_on(&badge, "", None, true);
        assert!(unsigned.contains("List-Unsubscribe: <mailto:u-") && !unsigned.contains("One-Click"), "{unsigned}");
        assert!(!put_on(&badge, "", Some("shop.test"), false).contains("List-Unsubscribe"));
    }
}
