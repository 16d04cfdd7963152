//! How do many events lie in one row? As a table of words, each written once, and a short line for every event.
//!
//! A block is read as a whole or not at all; looking for something in it compares numbers of words and builds only the events that
//! are wanted.

use engine::attempt::TlsUsed;
use engine::classify::Meaning;
use engine::envelope::{Addresses, Envelope, Route};
use engine::event::{Event, EventKind, Reader};
use engine::id::{AccountId, MessageId, PoolId};
use engine::time::Timestamp;
use engine::why::Why;
use mail::reply::Reply;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Postcard, first form.
const FORM: u8 = 2;
const FORM_AT_FIRST: u8 = 1;

#[derive(Debug, thiserror::Error)]
pub enum BlockFault {
    #[error("a block of form {0}, which this version does not know")]
    UnknownForm(u8),
    #[error("an empty block")]
    Empty,
    #[error("a block names a word that it does not hold")]
    NoSuchWord,
    #[error("a block that cannot be read: {0}")]
    Unreadable(#[from] postcard::Error),
}

/// Where an event stood in the log it came from: that names it for ever, however often it is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    pub source: i64,
    pub cursor: u64,
    /// Among the events of one record.
    pub index: u32,
}

/// What an event says besides itself: the same for all events of a message, and for many messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct About {
    pub subaccount: Option<Arc<str>>,
    pub set: Option<Arc<str>>,
    pub stream: Arc<str>,
    pub tags: Vec<(String, String)>,
    /// What the pool was called when it was chosen.
    pub pool_name: Option<Arc<str>>,
    /// IPs that are for the operator alone (R2.8): those of a managed pool that could have carried the message.
    pub concealed: Vec<IpAddr>,
    /// The sender's domain, in whose name it is signed.
    pub domain: Option<Arc<str>>,
}

/// As blocks of the first form have it.
#[derive(Deserialize)]
struct AboutAtFirst {
    subaccount: Option<Arc<str>>,
    set: Option<Arc<str>>,
    stream: Arc<str>,
    tags: Vec<(String, String)>,
    pool_name: Option<Arc<str>>,
    concealed: Vec<IpAddr>,
}

impl From<AboutAtFirst> for About {
    fn from(first: AboutAtFirst) -> About {
        let AboutAtFirst { subaccount, set, stream, tags, pool_name, concealed } = first;
        About { subaccount, set, stream, tags, pool_name, concealed, domain: None }
    }
}

impl About {
    #[must_use]
    pub fn of(envelope: &Envelope, route: Option<&Route>) -> About {
        let mut about = About {
            subaccount: envelope.wish.subaccount.as_ref().map(|subaccount| subaccount.0.clone()),
            set: envelope.wish.set.clone(),
            stream: envelope.stream.0.clone(),
            tags: envelope.tags.clone(),
            pool_name: None,
            concealed: Vec::new(),
            domain: envelope.sender_domain.as_ref().map(|domain| Arc::from(domain.as_str())),
        };
        about.take(route.or(envelope.route.as_ref()));
        about
    }

    /// The route, where it is decided by now.
    pub fn take(&mut self, route: Option<&Route>) {
        let Some(route) = route else { return };
        self.pool_name = Some(route.name.clone());
        if route.addresses == Addresses::Hidden {
            self.concealed.clone_from(&route.candidates);
        }
    }
}

/// An event as it is kept: with what a reader needs that has nothing else at hand.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// Its place in the archive; grows by one with every event.
    pub number: i64,
    pub origin: Origin,
    pub event: Event,
    pub address: Option<Arc<str>>,
    pub about: Arc<About>,
    /// From when on it could have been delivered: its acceptance, or the time it was scheduled for.
    pub began: Option<Timestamp>,
    /// With a message's first event, and with `Routed`: the record of the data plane's log, in a form that it alone reads.
    pub record: Option<Arc<[u8]>>,
}

impl Kept {
    /// Its name for everybody outside, the same however often it is told.
    #[must_use]
    pub fn id(&self) -> String {
        let Origin { source, cursor, index } = self.origin;
        format!("evt_{source}_{cursor:x}_{index}")
    }
}

/// A word's place in the table, from one; nought is none.
type Word = u32;

#[derive(Serialize, Deserialize)]
struct Line {
    /// After the first of the block, in microseconds; may be before it.
    at: i64,
    source: i64,
    cursor: u64,
    index: u32,
    kind: EventKind,
    message: Word,
    recipient: Option<u16>,
    account: Word,
    pool: Word,
    ip: Word,
    provider: Word,
    host: Word,
    reply: Word,
    meaning: Word,
    why: Word,
    next_at: Option<i64>,
    attempt: u16,
    tls: Word,
    took: Option<Duration>,
    feedback: Word,
    link: Word,
    agent: Word,
    reader: Option<Reader>,
    address: Word,
    about: Word,
    began: Option<i64>,
    record: Word,
}

#[derive(Serialize, Deserialize)]
struct Written<'a> {
    first_at: i64,
    #[serde(borrow)]
    words: Vec<&'a [u8]>,
    lines: Vec<Line>,
}

#[derive(Default)]
struct Words {
    places: HashMap<Arc<[u8]>, Word>,
    words: Vec<Arc<[u8]>>,
}

impl Words {
    fn of(&mut self, octets: &[u8]) -> Word {
        if let Some(place) = self.places.get(octets) {
            return *place;
        }
        let word: Arc<[u8]> = octets.into();
        self.words.push(word.clone());
        let place = Word::try_from(self.words.len()).expect("a block holds far fewer words");
        self.places.insert(word, place);
        place
    }

    fn text(&mut self, text: Option<&str>) -> Word {
        text.map_or(0, |text| self.of(text.as_bytes()))
    }

    fn value<T: Serialize>(&mut self, value: Option<&T>) -> Word {
        value.map_or(0, |value| self.of(&postcard::to_stdvec(value).expect("plain values can always be written")))
    }
}

/// Writes these events, in their order.
#[must_use]
pub fn write(events: &[Arc<Kept>]) -> Vec<u8> {
    let mut words = Words::default();
    let first_at = events.first().map_or(0, |kept| kept.event.at.0);
    let after = |at: Timestamp| at.0.wrapping_sub(first_at);
    let mut last_about: Option<(&Arc<About>, Word)> = None;
    let mut lines = Vec::with_capacity(events.len());
    for kept in events {
        let event = &kept.event;
        let about = match last_about {
            Some((about, word)) if Arc::ptr_eq(about, &kept.about) => word,
            _ => words.value(Some(&*kept.about)),
        };
        last_about = Some((&kept.about, about));
        lines.push(Line {
            at: after(event.at),
            source: kept.origin.source,
            cursor: kept.origin.cursor,
            index: kept.origin.index,
            kind: event.kind,
            message: event.message.map_or(0, |message| words.of(&message.0.to_be_bytes())),
            recipient: event.recipient,
            account: words.text(event.account.as_ref().map(AccountId::as_str)),
            pool: words.text(event.pool.as_ref().map(PoolId::as_str)),
            ip: words.value(event.ip.as_ref()),
            provider: words.text(event.provider.as_deref()),
            host: words.text(event.host.as_deref()),
            reply: words.value(event.reply.as_ref()),
            meaning: words.value(event.meaning.as_ref()),
            why: words.value(event.why.as_ref()),
            next_at: event.next_at.map(after),
            attempt: event.attempt,
            tls: words.value(event.tls.as_ref()),
            took: event.took,
            feedback: words.text(event.feedback.as_deref()),
            link: words.text(event.link.as_deref()),
            agent: words.text(event.agent.as_deref()),
            reader: event.reader,
            address: words.text(kept.address.as_deref()),
            about,
            began: kept.began.map(after),
            record: kept.record.as_deref().map_or(0, |record| words.of(record)),
        });
    }
    let words = words.words.iter().map(AsRef::as_ref).collect();
    postcard::to_extend(&Written { first_at, words, lines }, vec![FORM]).expect("plain values can always be written")
}

/// A block that is looked into.
pub struct Block<'a> {
    first: i64,
    form: u8,
    written: Written<'a>,
}

/// What is looked for in one event. What is not said is not looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    pub account: Option<String>,
    pub subaccount: Option<String>,
    pub message: Option<MessageId>,
    /// In the form of `folded`.
    pub recipient: Option<String>,
    pub tag: Option<(String, Option<String>)>,
    pub stream: Option<String>,
    pub set: Option<String>,
    pub ip: Option<IpAddr>,
    /// By its id or by what it was called.
    pub pool: Option<String>,
    pub provider: Option<String>,
    /// `hard`, `soft` …, as its code.
    pub class: Option<String>,
    pub kinds: Vec<EventKind>,
    pub from: Option<Timestamp>,
    /// Not this moment itself.
    pub until: Option<Timestamp>,
    /// Managed pools' IPs answer to nobody but the operator (R2.8).
    pub concealing: bool,
}

impl Wanted {
    /// As of a block that is looked into, of an event that is at hand.
    #[must_use]
    pub fn fits(&self, kept: &Kept) -> bool {
        let (event, about) = (&kept.event, &*kept.about);
        let is =
            |asked: &Option<String>, found: Option<&str>| asked.as_deref().is_none_or(|asked| found == Some(asked));
        let is_pool = |asked: &str| {
            event.pool.as_ref().is_some_and(|pool| pool.as_str() == asked) || about.pool_name.as_deref() == Some(asked)
        };
        (self.kinds.is_empty() || self.kinds.contains(&event.kind))
            && self.from.is_none_or(|from| event.at >= from)
            && self.until.is_none_or(|until| event.at < until)
            && is(&self.account, event.account.as_ref().map(AccountId::as_str))
            && is(&self.provider, event.provider.as_deref())
            && self.message.is_none_or(|message| event.message == Some(message))
            && self
                .recipient
                .as_ref()
                .is_none_or(|asked| kept.address.as_deref().is_some_and(|is| folded(is) == *asked))
            && is(&self.class, event.meaning.as_ref().map(class_code))
            && self.ip.is_none_or(|ip| event.ip == Some(ip) && (!self.concealing || about.concealed.is_empty()))
            && self.pool.as_deref().is_none_or(is_pool)
            && self.fits_about(about)
    }

    /// What it says besides the event itself and the pool.
    fn fits_about(&self, about: &About) -> bool {
        let is =
            |asked: &Option<String>, found: Option<&str>| asked.as_deref().is_none_or(|asked| found == Some(asked));
        let is_tagged = self.tag.as_ref().is_none_or(|(name, value)| {
            let fits = |tag: &(String, String)| tag.0 == *name && value.as_ref().is_none_or(|value| tag.1 == *value);
            about.tags.iter().any(fits)
        });
        is_tagged
            && is(&self.subaccount, about.subaccount.as_deref())
            && is(&self.stream, Some(&*about.stream))
            && is(&self.set, about.set.as_deref())
    }
}

/// Addresses are compared without regard to case: nobody runs two mailboxes that differ in it.
#[must_use]
pub fn folded(address: &str) -> String {
    address.to_lowercase()
}

impl<'a> Block<'a> {
    /// `first` is the number of its first event.
    pub fn read(first: i64, octets: &'a [u8]) -> Result<Block<'a>, BlockFault> {
        match octets.split_first() {
            Some((&form @ (FORM_AT_FIRST | FORM), rest)) => {
                Ok(Block { first, form, written: postcard::from_bytes(rest)? })
            }
            Some((form, _)) => Err(BlockFault::UnknownForm(*form)),
            None => Err(BlockFault::Empty),
        }
    }

    fn word(&self, word: Word) -> Result<Option<&'a [u8]>, BlockFault> {
        match word.checked_sub(1) {
            None => Ok(None),
            Some(at) => self.written.words.get(at as usize).copied().map(Some).ok_or(BlockFault::NoSuchWord),
        }
    }

    fn text(&self, word: Word) -> Result<Option<&'a str>, BlockFault> {
        let octets = self.word(word)?;
        octets.map(std::str::from_utf8).transpose().map_err(|_| postcard::Error::DeserializeBadUtf8.into())
    }

    fn value<T: DeserializeOwned>(&self, word: Word) -> Result<Option<T>, BlockFault> {
        Ok(self.word(word)?.map(postcard::from_bytes).transpose()?)
    }

    fn about(&self, word: Word) -> Result<About, BlockFault> {
        let about = match self.form {
            FORM_AT_FIRST => self.value::<AboutAtFirst>(word)?.map(About::from),
            _ => self.value(word)?,
        };
        Ok(about.unwrap_or_default())
    }

    fn event(&self, at: usize, line: &Line, about: Arc<About>) -> Result<Kept, BlockFault> {
        let moment = |after: i64| Timestamp(self.written.first_at.wrapping_add(after));
        let message = self.word(line.message)?.and_then(|octets| octets.try_into().ok());
        let event = Event {
            at: moment(line.at),
            kind: line.kind,
            message: message.map(|octets| MessageId(u128::from_be_bytes(octets))),
            recipient: line.recipient,
            account: self.text(line.account)?.map(AccountId::new),
            pool: self.text(line.pool)?.map(PoolId::new),
            ip: self.value(line.ip)?,
            provider: self.text(line.provider)?.map(Arc::from),
            host: self.text(line.host)?.map(Arc::from),
            reply: self.value::<Reply>(line.reply)?,
            meaning: self.value::<Meaning>(line.meaning)?,
            why: self.value::<Why>(line.why)?,
            next_at: line.next_at.map(moment),
            attempt: line.attempt,
            tls: self.value::<TlsUsed>(line.tls)?,
            took: line.took,
            feedback: self.text(line.feedback)?.map(Arc::from),
            link: self.text(line.link)?.map(Arc::from),
            agent: self.text(line.agent)?.map(Arc::from),
            reader: line.reader,
        };
        Ok(Kept {
            number: self.first.saturating_add(i64::try_from(at).unwrap_or(i64::MAX)),
            origin: Origin { source: line.source, cursor: line.cursor, index: line.index },
            event,
            address: self.text(line.address)?.map(Arc::from),
            about,
            began: line.began.map(moment),
            record: self.word(line.record)?.map(Arc::from),
        })
    }

    /// All of its events.
    pub fn events(&self) -> Result<Vec<Kept>, BlockFault> {
        self.wanted(&Wanted::default(), i64::MIN, i64::MAX)
    }

    /// Those that are wanted, from one number to before another, in their order.
    pub fn wanted(&self, wanted: &Wanted, from: i64, before: i64) -> Result<Vec<Kept>, BlockFault> {
        let mut abouts: HashMap<Word, Arc<About>> = HashMap::new();
        let mut found = Vec::new();
        let mut look = Look::new(self, wanted);
        for (at, line) in self.written.lines.iter().enumerate() {
            let number = self.first.saturating_add(i64::try_from(at).unwrap_or(i64::MAX));
            if number < from || number >= before || !look.fits(line)? {
                continue;
            }
            let about = match abouts.get(&line.about) {
                Some(about) => about.clone(),
                None => {
                    let about: Arc<About> = Arc::new(self.about(line.about)?);
                    abouts.insert(line.about, about.clone());
                    about
                }
            };
            found.push(self.event(at, line, about)?);
        }
        Ok(found)
    }
}

/// Looking through a block: what a word means for the question is found out once a word.
struct Look<'a, 'b> {
    block: &'b Block<'a>,
    wanted: &'b Wanted,
    message: Option<[u8; 16]>,
    recipients: HashMap<Word, bool>,
    abouts: HashMap<Word, (bool, bool)>,
    classes: HashMap<Word, bool>,
}

impl<'a, 'b> Look<'a, 'b> {
    fn new(block: &'b Block<'a>, wanted: &'b Wanted) -> Look<'a, 'b> {
        Look {
            block,
            wanted,
            message: wanted.message.map(|message| message.0.to_be_bytes()),
            recipients: HashMap::new(),
            abouts: HashMap::new(),
            classes: HashMap::new(),
        }
    }

    fn fits(&mut self, line: &Line) -> Result<bool, BlockFault> {
        let (block, wanted) = (self.block, self.wanted);
        let at = block.written.first_at.wrapping_add(line.at);
        if !wanted.kinds.is_empty() && !wanted.kinds.contains(&line.kind)
            || wanted.from.is_some_and(|from| at < from.0)
            || wanted.until.is_some_and(|until| at >= until.0)
        {
            return Ok(false);
        }
        if let Some(message) = &self.message
            && block.word(line.message)? != Some(&message[..])
        {
            return Ok(false);
        }
        for (asked, word) in [(&wanted.account, line.account), (&wanted.provider, line.provider)] {
            if let Some(asked) = asked
                && block.text(word)? != Some(asked)
            {
                return Ok(false);
            }
        }
        if let Some(recipient) = &wanted.recipient {
            let fits = match self.recipients.get(&line.address) {
                Some(fits) => *fits,
                None => {
                    let fits = block.text(line.address)?.is_some_and(|address| folded(address) == *recipient);
                    self.recipients.insert(line.address, fits);
                    fits
                }
            };
            if !fits {
                return Ok(false);
            }
        }
        if let Some(class) = &wanted.class {
            let fits = match self.classes.get(&line.meaning) {
                Some(fits) => *fits,
                None => {
                    let meaning: Option<Meaning> = block.value(line.meaning)?;
                    let fits = meaning.is_some_and(|meaning| class_code(&meaning) == class);
                    self.classes.insert(line.meaning, fits);
                    fits
                }
            };
            if !fits {
                return Ok(false);
            }
        }
        self.about_fits(line)
    }

    fn about_fits(&mut self, line: &Line) -> Result<bool, BlockFault> {
        let (block, wanted) = (self.block, self.wanted);
        let asks = wanted.subaccount.is_some()
            || wanted.tag.is_some()
            || wanted.stream.is_some()
            || wanted.set.is_some()
            || wanted.pool.is_some()
            || wanted.ip.is_some();
        if !asks {
            return Ok(true);
        }
        let (fits, is_concealed) = match self.abouts.get(&line.about) {
            Some(known) => *known,
            None => {
                let about = block.about(line.about)?;
                let known = (wanted.fits_about(&about), !about.concealed.is_empty());
                self.abouts.insert(line.about, known);
                known
            }
        };
        if !fits {
            return Ok(false);
        }
        if let Some(ip) = wanted.ip
            && (block.value::<IpAddr>(line.ip)? != Some(ip) || wanted.concealing && is_concealed)
        {
            return Ok(false);
        }
        if let Some(pool) = wanted.pool.as_deref()
            && block.text(line.pool)? != Some(pool)
        {
            let about = block.about(line.about)?;
            return Ok(about.pool_name.as_deref() == Some(pool));
        }
        Ok(true)
    }
}

/// The word for a class, as it is asked for and told.
#[must_use]
pub fn class_code(meaning: &Meaning) -> &'static str {
    use engine::classify::Class;
    match meaning.class {
        Class::Hard => "hard",
        Class::Soft => "soft",
        Class::Block => "block",
        Class::Admin => "admin",
        Class::Undetermined => "undetermined",
        Class::Throttle => "throttle",
    }
}
