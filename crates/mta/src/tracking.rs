//! Did anybody open it, and what did they follow?
//!
//! Visits become events, and nothing of who visits is kept but what the browser calls itself.

use crate::intake::Intake;
use crate::links::{Links, Mark};
use crate::record::{self, Entry};
use engine::event::{Event, EventKind};
use engine::id::MessageId;
use engine::reader::{self, Visits};
use engine::snapshot::{Snapshot, Standing};
use engine::time::Timestamp;
use mail::address::Domain;
use spool::Spool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What is kept of a visitor's own name.
const AGENT_OCTETS_MAX: usize = 256;

/// What a visitor asks for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub host: &'a str,
    pub token: &'a str,
    pub agent: &'a str,
    /// The content itself, and not only whether there is any.
    pub fetched: bool,
}

/// What a visitor is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// There.
    Lead(String),
    /// Nowhere: whoever sent it does not follow its links any more. What it led to is said in words.
    Over(String),
    /// This address was not made here, or was changed on its way.
    Unknown,
}

/// Hears visitors. Cheap to clone.
#[derive(Clone)]
pub struct Tracking(Arc<Inner>);

struct Inner {
    links: Arc<Links>,
    intake: Intake,
    spool: Spool,
    visits: Mutex<Visits>,
}

impl Tracking {
    #[must_use]
    pub fn new(links: Arc<Links>, intake: Intake, spool: Spool) -> Tracking {
        Tracking(Arc::new(Inner { links, intake, spool, visits: Mutex::default() }))
    }

    /// Somebody follows a link.
    #[must_use]
    pub fn click(&self, asked: &Asked<'_>) -> Answer {
        let Some((mark, host)) = self.mark(asked) else { return Answer::Unknown };
        let Some(target) = mark.target.clone() else { return Answer::Unknown };
        if !is_tracked(&self.0.intake.snapshot(), &mark, &host) {
            return Answer::Over(target);
        }
        self.note(EventKind::Clicked, &mark, asked);
        Answer::Lead(target)
    }

    /// Somebody fetches the picture, which is there for everybody: a missing one would be seen.
    pub fn open(&self, asked: &Asked<'_>) {
        if let Some((mark, host)) = self.mark(asked)
            && mark.target.is_none()
            && is_tracked(&self.0.intake.snapshot(), &mark, &host)
        {
            self.note(EventKind::Opened, &mark, asked);
        }
    }

    fn mark(&self, asked: &Asked<'_>) -> Option<(Mark, Domain)> {
        let host = Domain::parse(asked.host).ok()?;
        let mark = self.0.links.open(&host, asked.token)?;
        Some((mark, host))
    }

    fn note(&self, kind: EventKind, mark: &Mark, asked: &Asked<'_>) {
        let (message, now) = (MessageId(mark.message), self.0.intake.now());
        let at_once = self.0.visits.lock().unwrap_or_else(PoisonError::into_inner).count(message, now);
        let Some(at_once) = at_once else {
            self.0.intake.metrics().visits_unnoted.inc();
            return;
        };
        let visit = reader::Visit { agent: asked.agent, fetched: asked.fetched, age: age(message, now), at_once };
        let agent = &asked.agent[..asked.agent.floor_char_boundary(AGENT_OCTETS_MAX)];
        let event = Event {
            message: Some(message),
            recipient: mark.recipient,
            account: Some(mark.account.clone()),
            agent: (!agent.is_empty()).then(|| agent.into()),
            link: mark.target.as_deref().map(Into::into),
            reader: Some(reader::reader(&visit)),
            ..Event::new(now, kind)
        };
        self.0.spool.note(record::write_entries(message, &[Entry::plain(event)]));
    }
}

/// Whether its sender still wants to hear of it, at this host.
fn is_tracked(snapshot: &Snapshot, mark: &Mark, host: &Domain) -> bool {
    let Some(account) = snapshot.accounts.get(&mark.account) else { return false };
    let tracking = account.sets.get(&mark.set).and_then(|set| set.tracking.as_ref());
    !matches!(account.standing, Standing::Paused { .. }) && tracking.is_some_and(|tracking| tracking.host == *host)
}

/// Ids begin with the millisecond they were made in.
fn age(message: MessageId, now: Timestamp) -> Duration {
    let made_ms = i64::try_from(message.0 >> 80).unwrap_or(i64::MAX);
    now.since(Timestamp(made_ms.saturating_mul(1_000)))
}

#[cfg(test)]
mod tests {
    use super::age;
    use engine::id::MessageId;
    use engine::time::Timestamp;
    use std::time::Duration;

    #[test]
    fn an_id_tells_its_age() {
        let made = Timestamp(1_800_000_000_000_000);
        let message = MessageId(1_800_000_000_000u128 << 80 | 7);
        assert_eq!(age(message, made + Duration::from_secs(3)), Duration::from_secs(3));
        assert_eq!(age(message, Timestamp(0)), Duration::ZERO);
    }
}
