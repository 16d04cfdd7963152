//! Who opened a message or followed a link: a person, a provider's proxy for one, or a machine that looks at everything?
//!
//! Only a name and times are to go by, so this marks and never hides: each visit becomes an event, and figures can be made with or
//! without those that were no person's.

use crate::event::Reader;
use crate::id::MessageId;
use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// Nobody reads so soon after a message was accepted: filters look then.
const TOO_SOON: Duration = Duration::from_secs(2);
/// Nobody follows more than these within `TOO_SOON`.
const AT_ONCE_MAX: u32 = 3;
/// How long visits of a message are counted together.
const WINDOW: Duration = Duration::from_secs(60);
/// Visits of a message within the window that become events; more are answered all the same.
pub const VISITS_MAX: u32 = 60;
/// Messages counted at one time.
const MESSAGES_MAX: usize = 10_000;

/// Of providers and browsers that fetch pictures on behalf of a reader.
const PROXIES: [&str; 5] =
    ["googleimageproxy", "yahoomailproxy", "ggpht.com", "duckduckgo-favicons-bot", "icloud private relay"];
/// What Apple Mail says when it fetches all pictures of all messages ahead of time.
const PREFETCH: &str = "Mozilla/5.0";
const MACHINES: [&str; 24] = [
    "bot",
    "crawl",
    "spider",
    "preview",
    "scan",
    "barracuda",
    "mimecast",
    "proofpoint",
    "symantec",
    "trendmicro",
    "fireeye",
    "cloudmark",
    "safelinks",
    "facebookexternalhit",
    "whatsapp",
    "headless",
    "phantomjs",
    "curl/",
    "wget/",
    "python",
    "java/",
    "go-http-client",
    "okhttp",
    "libwww",
];

/// What is known of a visit.
#[derive(Clone, Copy, Debug)]
pub struct Visit<'a> {
    /// As the visitor calls itself.
    pub agent: &'a str,
    /// It asked for the content, and not only whether there is any.
    pub fetched: bool,
    /// Since the message was accepted.
    pub age: Duration,
    /// It came together with so many others of the same message.
    pub at_once: u32,
}

#[must_use]
pub fn reader(visit: &Visit<'_>) -> Reader {
    let agent = visit.agent.trim();
    let lower = agent.to_ascii_lowercase();
    let is_any = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if is_any(&PROXIES) || agent == PREFETCH {
        return Reader::Proxy;
    }
    let is_machine = agent.is_empty() || is_any(&MACHINES);
    if is_machine || !visit.fetched || visit.age < TOO_SOON || visit.at_once > AT_ONCE_MAX {
        return Reader::Machine;
    }
    Reader::Person
}

/// How often each message was visited lately: a picture can be fetched without end, and the event log is not for that.
#[derive(Debug, Default)]
pub struct Visits(BTreeMap<MessageId, Lately>);

#[derive(Debug)]
struct Lately {
    since: Timestamp,
    count: u32,
    last_at: Timestamp,
    at_once: u32,
}

impl Visits {
    /// How many came together with this one; none: it is one too many to be written down.
    pub fn count(&mut self, message: MessageId, now: Timestamp) -> Option<u32> {
        if self.0.len() >= MESSAGES_MAX && !self.0.contains_key(&message) {
            self.0.retain(|_, lately| now.since(lately.since) < WINDOW);
            // All of them busy: what is begun anew counts a little too little.
            if self.0.len() >= MESSAGES_MAX {
                self.0.clear();
            }
        }
        let fresh = || Lately { since: now, count: 0, last_at: now, at_once: 0 };
        let lately = self.0.entry(message).or_insert_with(fresh);
        if now.since(lately.since) >= WINDOW {
            *lately = fresh();
        }
        if now.since(lately.last_at) >= TOO_SOON {
            lately.at_once = 0;
        }
        lately.last_at = now;
        lately.at_once = lately.at_once.saturating_add(1);
        lately.count = lately.count.saturating_add(1);
        (lately.count <= VISITS_MAX).then_some(lately.at_once)
    }
}

#[cfg(test)]
mod tests {
    use super::{AT_ONCE_MAX, MESSAGES_MAX, VISITS_MAX, Visit, Visits, reader};
    use crate::event::Reader;
    use crate::id::MessageId;
    use crate::time::Timestamp;
    use std::time::Duration;

    const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

    // F8
    #[test]
    fn proxies_and_machines_are_marked() {
        let visit = Visit { agent: FIREFOX, fetched: true, age: Duration::from_secs(60), at_once: 1 };
        assert_eq!(reader(&visit), Reader::Person);
        let agents = [
            (
                "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
                Reader::Proxy,
            ),
            ("YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html", Reader::Proxy),
            ("Mozilla/5.0", Reader::Proxy),
            ("", Reader::Machine),
            ("curl/8.5.0", Reader::Machine),
            ("Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)", Reader::Machine),
            ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 HeadlessChrome/120.0 Safari/537.36", Reader::Machine),
        ];
        for (agent, expected) in agents {
            assert_eq!(reader(&Visit { agent, ..visit }), expected, "{agent}");
        }
        assert_eq!(reader(&Visit { fetched: false, ..visit }), Reader::Machine);
        assert_eq!(reader(&Visit { age: Duration::from_secs(1), ..visit }), Reader::Machine);
        assert_eq!(reader(&Visit { at_once: AT_ONCE_MAX + 1, ..visit }), Reader::Machine);
    }

    #[test]
    fn visits_without_end_are_not_written_down_without_end() {
        let (mut visits, start) = (Visits::default(), Timestamp(1_000_000_000));
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let counted = |visits: &mut Visits, seconds| visits.count(MessageId(1), at(seconds));
        assert_eq!(
            [counted(&mut visits, 0), counted(&mut visits, 0), counted(&mut visits, 5)],
            [Some(1), Some(2), Some(1)]
        );
        for _ in 3..VISITS_MAX {
            assert!(counted(&mut visits, 6).is_some());
        }
        assert_eq!(counted(&mut visits, 7), None);
        assert_eq!(visits.count(MessageId(2), at(7)), Some(1), "another message's are counted apart");
        assert_eq!(counted(&mut visits, 61), Some(1));
        for other in 0..2 * MESSAGES_MAX as u128 {
            visits.count(MessageId(other), at(62));
        }
        assert!(visits.0.len() <= MESSAGES_MAX);
    }
}
