//! What comes back, of which message, and what does it change? (R5.4)
//!
//! The door takes return paths, the addresses for complaints, and those that end a stream of mail; nothing else. What is matched becomes
//! an event, once, and is durable before the reporter hears 250; what is not is kept for the operator. Nothing is ever answered by mail:
//! a loop of two programs that answer each other ends here.

use crate::badge::{self, TOKEN_FIELD};
use crate::explain::{Fate, Past, Stories, made_at};
use crate::heard::{Heard, TOKEN_LIFE, What};
use crate::intake::{Intake, Memory};
use crate::metrics::What as Label;
use crate::record::{self, Entry};
use crate::return_path::{Purpose, Sealer};
use crate::unmatched::{self, Cause, Shelf, Unmatched};
use engine::aftermath::{self, Tidings};
use engine::event::{Event, EventKind};
use engine::id::MessageId;
use engine::pace::{self, Pace};
use engine::time::Timestamp;
use engine::why::Why;
use mail::address::Mailbox;
use mail::dsn::Action;
use mail::reply::Reply;
use mail::report::{self, FeedbackKind, Read, Reported, Said};
use mail::smtp::server::Submission;
use spool::Spool;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Messages read at one time: reading costs a processor, and the mail that leaves needs it more.
const READERS: usize = 2;
/// Messages whose past is remembered: a flood comes at few of them.
const PASTS_MAX: usize = 64;
/// How long the event log may be behind a fate before the reporter is asked to come again.
const LOG_BEHIND_MAX: Duration = Duration::from_secs(2);
/// Addresses of one transaction.
pub const RECIPIENTS_MAX: u32 = 100;
/// Forged tokens and letters of no use that are kept within an hour; more are only counted.
const KEPT_PER_HOUR: u32 = 600;

#[derive(Clone, Debug)]
pub struct Settings {
    /// What messages bear, and where complaints and ends of streams are taken, beside return paths.
    pub badge: badge::Settings,
    /// Local parts there, and at the machine's own name, where complaints go; the first stands in messages.
    pub feedback: Vec<String>,
    pub receiving_bytes_max: u64,
    pub pace: pace::Limits,
    pub unmatched: unmatched::Limits,
}

/// Takes what comes back. Cheap to clone.
#[derive(Clone)]
pub struct Returns(Arc<Inner>);

struct Inner {
    intake: Intake,
    sealer: Arc<Sealer>,
    spool: Spool,
    stories: Stories,
    heard: Heard,
    /// None: no door is open.
    settings: Option<Settings>,
    shelf: Shelf,
    pace: Mutex<Pace>,
    keeping: Mutex<Pace>,
    readers: Semaphore,
    pasts: Mutex<VecDeque<Arc<Past>>>,
    memory: Arc<Memory>,
}

/// What an address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    ReturnPath(MessageId),
    Unsubscribe(MessageId),
    Feedback,
    /// It means to be one of ours, and is not.
    Forged,
}

/// Why nothing came of it.
enum Lost {
    Unmatched(Cause),
    /// Not now.
    Later(&'static str),
}

/// Why a stream goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotEnded {
    /// The link was not made here, or is too old.
    Unknown,
    Later,
}

/// Something that was said of a message.
struct Saying {
    tidings: Tidings,
    /// None: of whom is not said.
    addresses: Vec<String>,
    reply: Option<Reply>,
    host: Option<String>,
}

impl Returns {
    #[must_use]
    pub fn new(
        intake: Intake,
        sealer: Arc<Sealer>,
        spool: Spool,
        heard: Heard,
        shelf: Shelf,
        settings: Option<Settings>,
    ) -> Returns {
        let (stories, now) = (Stories::of(&spool), intake.now());
        let limits = settings.as_ref().map_or_else(pace::Limits::default, |settings| settings.pace);
        let memory = Memory::new(settings.as_ref().map_or(0, |settings| settings.receiving_bytes_max), None);
        let kept = pace::Limits { of_one_at_once: KEPT_PER_HOUR, of_one_per_hour: KEPT_PER_HOUR, ..limits };
        Returns(Arc::new(Inner {
            intake,
            sealer,
            spool,
            stories,
            heard,
            settings,
            shelf,
            pace: Mutex::new(Pace::new(limits, now)),
            keeping: Mutex::new(Pace::new(kept, now)),
            readers: Semaphore::new(READERS),
            pasts: Mutex::default(),
            memory,
        }))
    }

    #[must_use]
    pub fn intake(&self) -> &Intake {
        &self.0.intake
    }

    #[must_use]
    pub fn shelf(&self) -> &Shelf {
        &self.0.shelf
    }

    #[must_use]
    pub fn memory(&self) -> &Arc<Memory> {
        &self.0.memory
    }

    /// Whether anything is taken at this address now.
    pub fn may_come(&self, to: &Mailbox) -> Result<(), Reply> {
        let Some(place) = self.place(to) else {
            self.turned_away("not_ours");
            return Err(Reply::new(
                550,
                (5, 1, 1),
                "Only what comes back of mail that was sent from here is taken here",
            ));
        };
        let (address, now) = (number_of(place), self.0.intake.now());
        let taken = self.0.pace.lock().unwrap_or_else(PoisonError::into_inner).take(address, now);
        taken.map_err(|too_much| {
            self.turned_away(too_much.code());
            Reply::new(450, (4, 2, 1), "Too much comes back at this moment; try again later")
        })
    }

    fn turned_away(&self, what: &'static str) {
        self.0.intake.metrics().returns_turned_away.get_or_create(&Label { what }).inc();
    }

    fn place(&self, to: &Mailbox) -> Option<Place> {
        let (local, domain) = (to.local(), to.domain());
        let settings = self.0.settings.as_ref()?;
        if let Some(message) = self.0.sealer.open(local, domain) {
            return Some(Place::ReturnPath(message));
        }
        let snapshot = self.0.intake.snapshot();
        let is_own = *domain == settings.badge.domain || snapshot.delivery.return_path.as_ref() == Some(domain);
        let is_host = domain.as_str() == self.0.intake.host();
        if (is_own || is_host) && settings.feedback.iter().any(|own| own.eq_ignore_ascii_case(local)) {
            return Some(Place::Feedback);
        }
        match Purpose::of(local).filter(|_| is_own)? {
            Purpose::Unsubscribe => {
                let message = self.0.sealer.message(Purpose::Unsubscribe, local);
                Some(message.map_or(Place::Forged, Place::Unsubscribe))
            }
            Purpose::ReturnPath | Purpose::Report => Some(Place::Forged),
        }
    }

    /// Takes a message in for each address it came to. 250 means that whatever it changed is durable.
    pub async fn hear(&self, submission: Submission, peer: IpAddr) -> Reply {
        self.0.heard.ready().await;
        let from = submission.from.as_ref().map(ToString::to_string);
        let body = Arc::new(submission.body);
        let octets = body.clone();
        let Some(read) = self.reading(move || report::read(&octets)).await else { return later() };
        for (to, _) in &submission.recipients {
            let Some(place) = self.place(to) else { continue };
            let cause = match self.hear_at(place, &read).await {
                Ok(()) => continue,
                Err(Lost::Later(what)) => {
                    self.turned_away(what);
                    return later();
                }
                Err(Lost::Unmatched(cause)) => cause,
            };
            let unmatched = Unmatched {
                id: unmatched::new_id(),
                at: self.0.intake.now(),
                cause,
                to: to.to_string(),
                from: from.clone(),
                peer,
                octets: body.len() as u64,
            };
            if self.keep(unmatched, body.clone()).await.is_err() {
                return later();
            }
        }
        Reply::new(250, (2, 0, 0), "Heard")
    }

    /// What takes a processor or the disk, a few at a time. None: the service is stopping.
    async fn reading<T: Send + 'static>(&self, read: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let _one = self.0.readers.acquire().await.ok()?;
        tokio::task::spawn_blocking(read).await.ok()
    }

    async fn hear_at(&self, place: Place, read: &Read) -> Result<(), Lost> {
        match place {
            Place::Forged => Err(Lost::Unmatched(Cause::Forged)),
            Place::Unsubscribe(message) => self.leave(message).await,
            Place::ReturnPath(message) => {
                // Of the message that the address is of, and no other.
                if self.token_of(read).is_some_and(|told| told != Some(message)) {
                    return Err(Lost::Unmatched(Cause::Foreign));
                }
                match sayings(&read.said) {
                    Some(sayings) => self.note(message, sayings).await,
                    None => Err(Lost::Unmatched(Cause::Unreadable)),
                }
            }
            Place::Feedback => {
                let sayings = match (&read.said, self.token_of(read)) {
                    // Some send the message itself and nothing else, which says enough at this address.
                    (Said::Else, Some(_)) => Some(vec![Saying::of(Tidings::Feedback(FeedbackKind::Abuse))]),
                    (said, _) => sayings(said),
                };
                let sayings = sayings.ok_or(Lost::Unmatched(Cause::Unreadable))?;
                match self.token_of(read) {
                    Some(Some(message)) => self.note(message, sayings).await,
                    Some(None) => Err(Lost::Unmatched(Cause::Forged)),
                    None => Err(Lost::Unmatched(Cause::NoToken)),
                }
            }
        }
    }

    /// The message that a report is of, by what it tells of it; `Some(None)`: by a token that is none of ours.
    fn token_of(&self, read: &Read) -> Option<Option<MessageId>> {
        let sealer = &self.0.sealer;
        let by_field = [TOKEN_FIELD, "CFBL-Feedback-ID"].into_iter().find_map(|name| {
            let token = read.original_fields(name).next()?;
            let token: String = token.chars().filter(|c| !c.is_whitespace()).collect();
            (Purpose::of(&token) == Some(Purpose::Report)).then(|| sealer.message(Purpose::Report, &token))
        });
        let by_path = || {
            let told = match &read.said {
                Said::Feedback(feedback) => feedback.original_from.clone(),
                _ => None,
            };
            let path = told.or_else(|| read.original_fields("Return-Path").next().map(std::borrow::Cow::into_owned))?;
            let path = Mailbox::parse(path.trim().trim_matches(['<', '>'])).ok()?;
            (Purpose::of(path.local()) == Some(Purpose::ReturnPath)).then(|| sealer.open(path.local(), path.domain()))
        };
        by_field.or_else(by_path)
    }

    /// Somebody has pressed the button behind a link. Ok: it is written down, or was before.
    pub async fn end_stream(&self, token: &str) -> Result<(), NotEnded> {
        let Some(message) = self.0.sealer.message(Purpose::Unsubscribe, token) else { return Err(NotEnded::Unknown) };
        let taken = {
            let mut pace = self.0.pace.lock().unwrap_or_else(PoisonError::into_inner);
            pace.take(number_of(Place::Unsubscribe(message)), self.0.intake.now())
        };
        if taken.is_err() {
            return Err(NotEnded::Later);
        }
        self.0.heard.ready().await;
        match self.leave(message).await {
            Ok(()) => Ok(()),
            Err(Lost::Later(_)) => Err(NotEnded::Later),
            Err(Lost::Unmatched(_)) => Err(NotEnded::Unknown),
        }
    }

    /// Whether a link that ends a stream was made here.
    #[must_use]
    pub fn ends_a_stream(&self, token: &str) -> bool {
        self.0.sealer.message(Purpose::Unsubscribe, token).is_some()
    }

    /// Its recipient wants no more of its stream: once in effect, and durable with Ok.
    async fn leave(&self, message: MessageId) -> Result<(), Lost> {
        self.note(message, vec![Saying::of(Tidings::Unsubscribed)]).await
    }

    /// Writes down what follows from what was said; Ok = durable, or nothing follows.
    async fn note(&self, message: MessageId, sayings: Vec<Saying>) -> Result<(), Lost> {
        let now = self.0.intake.now();
        if now.since(made_at(message)) > TOKEN_LIFE {
            return Err(Lost::Unmatched(Cause::Expired));
        }
        let mut past = self.past(message).await?;
        let mut log = self.0.spool.events().more();
        let waited = tokio::time::timeout(LOG_BEHIND_MAX, async {
            while past.fates.iter().any(|fate| matches!(fate, Fate::NotTold)) && log.changed().await.is_ok() {
                past = self.past(message).await?;
            }
            Ok(())
        });
        // What is still not told may be of another recipient than this is about.
        waited.await.unwrap_or(Ok(()))?;
        let mut events: Vec<(What, Entry)> = Vec::new();
        let (mut matched, mut late) = (false, false);
        for saying in &sayings {
            let Some(recipient) = recipient(&past, saying) else { continue };
            matched = true;
            let fate = recipient.and_then(|at| past.fates.get(usize::from(at)));
            let kind = match fate {
                Some(Fate::NotTold) => {
                    late = true;
                    continue;
                }
                fate => {
                    let heard = self.0.heard.of(message, recipient);
                    let fate = fate.map_or(Some(EventKind::Delivered), |fate| match fate {
                        Fate::Met(event) => Some(event.kind),
                        Fate::Waiting | Fate::NotTold => None,
                    });
                    aftermath::aftermath(aftermath::Past { fate, heard: &heard }, saying.tidings)
                }
            };
            let what = kind.map_or_else(aftermath::Nothing::code, EventKind::code);
            self.0.intake.metrics().returns.get_or_create(&Label { what }).inc();
            let Ok(kind) = kind else { continue };
            let key = (message, recipient, kind);
            if events.iter().all(|(other, _)| *other != key) {
                events.push((key, self.entry(&past, recipient, kind, saying, now)));
            }
        }
        if !matched {
            return Err(Lost::Unmatched(Cause::RecipientUnknown));
        }
        if !events.is_empty() {
            let (keys, entries): (Vec<What>, Vec<Entry>) = events.into_iter().unzip();
            // Somebody else brings the same at this moment; it is durable when they come again.
            let hearing = self.0.heard.begin(&keys).ok_or(Lost::Later("heard_now"))?;
            let told: Vec<Event> = entries.iter().map(|entry| entry.event.clone()).collect();
            let telling = self.0.spool.tell(record::write_entries(message, &entries));
            telling.await.map_err(|_| Lost::Later("spool"))?;
            hearing.done(now);
            told.into_iter().for_each(|event| self.0.intake.driver().heard(event));
            for (_, recipient, kind) in keys {
                tracing::info!(id = %message, recipient, "{}", kind.code());
            }
        }
        if late { Err(Lost::Later("log_behind")) } else { Ok(()) }
    }

    async fn past(&self, message: MessageId) -> Result<Arc<Past>, Lost> {
        let known = {
            let pasts = self.0.pasts.lock().unwrap_or_else(PoisonError::into_inner);
            pasts.iter().find(|past| past.envelope.message == message).cloned()
        };
        if let Some(past) = known {
            return Ok(past);
        }
        let stories = self.0.stories.clone();
        let past = match self.reading(move || stories.past(message)).await {
            Some(Ok(Some(past))) => Arc::new(past),
            Some(Ok(None)) => return Err(Lost::Unmatched(Cause::Forgotten)),
            Some(Err(fault)) => {
                tracing::error!(id = %message, %fault, "the event log cannot be read; what came back is asked for again");
                return Err(Lost::Later("log_unreadable"));
            }
            None => return Err(Lost::Later("stopping")),
        };
        if past.is_settled() {
            let mut pasts = self.0.pasts.lock().unwrap_or_else(PoisonError::into_inner);
            pasts.push_back(past.clone());
            if pasts.len() > PASTS_MAX {
                pasts.pop_front();
            }
        }
        Ok(past)
    }

    fn entry(&self, past: &Past, recipient: Option<u16>, kind: EventKind, saying: &Saying, now: Timestamp) -> Entry {
        let envelope = &past.envelope;
        let delivered = recipient.and_then(|at| match past.fates.get(usize::from(at))? {
            Fate::Met(event) => Some(event),
            Fate::Waiting | Fate::NotTold => None,
        });
        let provider = delivered.and_then(|event| event.provider.clone());
        let reply = saying.reply.clone().filter(|_| kind == EventKind::Returned);
        let meaning = reply.as_ref().map(|reply| {
            let snapshot = self.0.intake.snapshot();
            snapshot.rules.classify(provider.as_deref().unwrap_or_default(), reply).meaning
        });
        let route = envelope.route.as_ref();
        let event = Event {
            message: Some(envelope.message),
            recipient,
            account: Some(envelope.account.clone()),
            pool: delivered.and_then(|event| event.pool.clone()).or_else(|| route.map(|route| route.pool.clone())),
            ip: delivered.and_then(|event| event.ip),
            provider,
            host: saying.host.as_deref().filter(|_| kind == EventKind::Returned).map(Into::into),
            reply,
            meaning,
            why: (kind == EventKind::Unsubscribed).then(|| Why::StreamLeft { stream: envelope.stream.to_string() }),
            feedback: match saying.tidings {
                Tidings::Feedback(kind) => Some(kind.code().into()),
                _ => None,
            },
            ..Event::new(now, kind)
        };
        let address = recipient.and_then(|at| envelope.recipients.get(usize::from(at))).map(|to| to.address.clone());
        Entry { address, ..Entry::plain(event) }
    }

    /// For the operator to look at. Err: there is no room on the disk.
    async fn keep(&self, unmatched: Unmatched, octets: Arc<Vec<u8>>) -> Result<(), ()> {
        let what = unmatched.cause.code();
        let metrics = self.0.intake.metrics();
        metrics.unmatched.get_or_create(&Label { what }).inc();
        tracing::info!(to = %unmatched.to, peer = %unmatched.peer, why = what, "something came back that belongs to no message");
        let kept = self.0.keeping.lock().unwrap_or_else(PoisonError::into_inner).take(0, self.0.intake.now());
        if kept.is_err() {
            metrics.unmatched_dropped.inc();
            return Ok(());
        }
        let shelf = self.0.shelf.clone();
        match tokio::task::spawn_blocking(move || shelf.keep(unmatched, &octets)).await {
            Ok(Ok(dropped)) => {
                metrics.unmatched_dropped.inc_by(dropped);
                Ok(())
            }
            Ok(Err(fault)) => {
                tracing::error!(%fault, "an unmatched message cannot be kept");
                Err(())
            }
            Err(_) => Err(()),
        }
    }
}

impl Saying {
    fn of(tidings: Tidings) -> Saying {
        Saying { tidings, addresses: Vec::new(), reply: None, host: None }
    }
}

fn later() -> Reply {
    Reply::new(451, (4, 3, 0), "This cannot be written down right now; try again later")
}

/// What addresses are counted by: those that carry no message of ours all as one.
fn number_of(place: Place) -> u128 {
    match place {
        Place::ReturnPath(message) | Place::Unsubscribe(message) => message.0,
        Place::Feedback => 1,
        Place::Forged => 0,
    }
}

/// None: nothing that a program can read.
fn sayings(said: &Said) -> Option<Vec<Saying>> {
    match said {
        Said::Delivery(recipients) => Some(recipients.iter().map(Saying::from).collect()),
        Said::Feedback(feedback) => Some(vec![Saying {
            addresses: feedback.recipients.clone(),
            ..Saying::of(Tidings::Feedback(feedback.kind))
        }]),
        Said::Answer => Some(vec![Saying::of(Tidings::Answer)]),
        Said::Else => None,
    }
}

impl From<&Reported> for Saying {
    fn from(reported: &Reported) -> Saying {
        let tidings = match reported.action {
            Action::Failed => Tidings::Failed,
            Action::Delayed | Action::Relayed | Action::Delivered => Tidings::UnderWay,
        };
        Saying {
            tidings,
            addresses: reported.addresses.clone(),
            reply: Some(reported.reply.clone()),
            host: reported.host.clone(),
        }
    }
}

/// Of which recipient it is said; `Some(None)`: of one of several, and it does not matter of which.
fn recipient(past: &Past, saying: &Saying) -> Option<Option<u16>> {
    let named = |address: &String| {
        let is_it = |to: &engine::envelope::Recipient| to.address.eq_ignore_ascii_case(address);
        past.envelope.recipients.iter().position(is_it).and_then(|at| u16::try_from(at).ok())
    };
    if let Some(at) = saying.addresses.iter().find_map(named) {
        return Some(Some(at));
    }
    match (past.envelope.recipients.len(), saying.tidings) {
        // It was passed on to another address, or that was blacked out.
        (1, _) => Some(Some(0)),
        // Somebody complains; of the message, that is certain.
        (_, Tidings::Feedback(_)) => Some(None),
        _ => None,
    }
}
