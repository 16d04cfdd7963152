//! What has left from where so far? Counted from the event log, as any other reader of it would.

use engine::envelope::RecipientState;
use engine::event::{Event, EventKind};
use engine::time::Timestamp;
use engine::why::Why;
use engine::{LaneView, WarmUpView};
use mta::record::{self, Entry};
use serde::Serialize;
use spool::{Cursor, EventLog, Recovered};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::commands::Failure;

/// What counts as just now.
pub const RECENT: Duration = Duration::from_secs(5);
const STORIES_MAX: usize = 12;
/// Bounces are many and alike: so many of them are told, and deliveries one at a time.
const BOUNCES_MAX: usize = 2;
const EVENTS_AT_ONCE: usize = 10_000;

/// One IP at one provider.
pub type Lane = (IpAddr, Arc<str>);

/// Recipients, by what became of them. A recipient who is deferred twice counts twice there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cell {
    pub delivered: u64,
    pub deferred: u64,
    pub bounced: u64,
}

/// Of all recipients, those of one tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Share {
    pub accepted: u64,
    #[serde(flatten)]
    pub cell: Cell,
}

/// Something that happened, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    pub at: Timestamp,
    pub kind: EventKind,
    pub words: String,
}

/// How far an IP is warmed up, at the provider where it is furthest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Warming {
    /// Messages of today that went by it, and that had no place and left by others.
    pub went: u64,
    pub left: u64,
    stage: u32,
    stages: u32,
    is_over: bool,
}

impl Warming {
    pub fn words(&self) -> String {
        if self.is_over {
            return "is warm".to_owned();
        }
        let share = self.went * 100 / (self.went + self.left).max(1);
        format!("warms up, stage {} of {}: today {} went by it ({share} %)", self.stage, self.stages, self.went)
    }
}

#[derive(Debug, Default)]
pub struct Board {
    /// How much of the house's time passes in each second of ours.
    pace: u32,
    pub accepted: u64,
    pub total: Cell,
    pub expired: u64,
    pub deleted: u64,
    pub rejected: u64,
    pub returned: u64,
    pub complained: u64,
    pub suppressed: u64,
    pub opened: u64,
    pub clicked: u64,
    pub unsubscribed: u64,
    lanes: BTreeMap<Lane, Cell>,
    /// By the account's id.
    accounts: BTreeMap<String, Share>,
    /// Messages by the rule that chose their pool (R2.1).
    rules: BTreeMap<&'static str, u64>,
    /// Lanes that a provider's answer holds back, with the recipients that wait there.
    slowed: BTreeMap<Lane, u64>,
    recent: VecDeque<(Timestamp, Lane)>,
    recently_accepted: VecDeque<(Timestamp, u64)>,
    warming: BTreeMap<IpAddr, Warming>,
    /// Newest last; deliveries and bounces apart, they would drown the rest.
    stories: VecDeque<Story>,
    bounces: VecDeque<Story>,
    delivery: Option<Story>,
}

impl Board {
    pub fn note(&mut self, entry: &Entry) {
        let event = &entry.event;
        match event.kind {
            EventKind::Accepted => {
                let count = entry.accepted.as_ref().map_or(0, |envelope| envelope.recipients.len() as u64);
                self.accepted += count;
                if let Some(account) = &event.account {
                    self.accounts.entry(account.to_string()).or_default().accepted += count;
                }
                self.recently_accepted.push_back((event.at, count));
            }
            EventKind::Delivered => self.count(event, |cell| cell.delivered += 1),
            EventKind::Deferred => self.count(event, |cell| cell.deferred += 1),
            EventKind::Bounced => self.count(event, |cell| cell.bounced += 1),
            EventKind::Expired => self.expired += 1,
            EventKind::Deleted => self.deleted += 1,
            EventKind::Rejected => self.rejected += 1,
            EventKind::Returned => self.returned += 1,
            EventKind::Complained => self.complained += 1,
            EventKind::Suppressed => self.suppressed += 1,
            EventKind::Opened => self.opened += 1,
            EventKind::Clicked => self.clicked += 1,
            EventKind::Unsubscribed => self.unsubscribed += 1,
            _ => {}
        }
        // A scheduled message is routed when it is due, every other one when it is accepted.
        let at_acceptance = entry.accepted.as_ref().and_then(|envelope| envelope.route.as_ref());
        if let Some(route) = entry.route.as_ref().or(at_acceptance) {
            *self.rules.entry(Why::PoolChosen { rule: route.rule, instead_of: None }.code()).or_default() += 1;
        }
        if let Some(lane) = lane_of(event) {
            match event.kind {
                EventKind::Delivered => self.recent.push_back((event.at, lane)),
                EventKind::LaneSlowed | EventKind::LaneSuspended => {
                    self.slowed.entry(lane).or_default();
                }
                EventKind::LaneResumed => {
                    self.slowed.remove(&lane);
                }
                _ => {}
            }
        }
        if let Some(story) = story(entry) {
            self.tell(story);
        }
    }

    fn count(&mut self, event: &Event, add: impl Fn(&mut Cell)) {
        add(&mut self.total);
        if let Some(account) = &event.account {
            add(&mut self.accounts.entry(account.to_string()).or_default().cell);
        }
        if let Some(lane) = lane_of(event) {
            add(self.lanes.entry(lane).or_default());
        }
    }

    fn tell(&mut self, story: Story) {
        let (stories, most) = match story.kind {
            EventKind::Delivered => {
                self.delivery = Some(story);
                return;
            }
            EventKind::Bounced => (&mut self.bounces, BOUNCES_MAX),
            _ => (&mut self.stories, STORIES_MAX),
        };
        if stories.len() == most {
            stories.pop_front();
        }
        stories.push_back(story);
    }

    /// What the engine says of IPs that warm up, lane by lane.
    pub fn look_at_warm_ups(&mut self, views: &[WarmUpView]) {
        self.warming.clear();
        for view in views {
            let warming = self.warming.entry(view.ip).or_default();
            warming.went += view.today.taken;
            warming.left += view.today.turned_away;
            warming.stage = warming.stage.max(view.stage);
            warming.stages = view.stages.unwrap_or(0);
            warming.is_over = view.allowed.is_none();
        }
    }

    pub fn warming(&self, ip: IpAddr) -> Option<&Warming> {
        self.warming.get(&ip)
    }

    /// What the engine says of its lanes.
    pub fn look(&mut self, lanes: &[LaneView]) {
        for lane in lanes {
            if let Some(waiting) = self.slowed.get_mut(&(lane.ip, lane.provider.clone())) {
                *waiting = lane.ready;
            }
        }
    }

    /// Forgets what is no longer recent.
    pub fn paced(pace: u32) -> Board {
        Board { pace, ..Board::default() }
    }

    pub fn pass(&mut self, now: Timestamp) {
        let recent = RECENT * self.pace.max(1);
        while self.recent.front().is_some_and(|(at, _)| now.since(*at) > recent) {
            self.recent.pop_front();
        }
        while self.recently_accepted.front().is_some_and(|(at, _)| now.since(*at) > recent) {
            self.recently_accepted.pop_front();
        }
    }

    pub fn cell(&self, ip: IpAddr, provider: &str) -> Cell {
        self.lanes.get(&(ip, Arc::from(provider))).copied().unwrap_or_default()
    }

    pub fn recently_delivered(&self, ip: IpAddr, provider: &str) -> usize {
        self.recent.iter().filter(|(_, lane)| lane.0 == ip && *lane.1 == *provider).count()
    }

    pub fn share(&self, account: &str) -> Share {
        self.accounts.get(account).copied().unwrap_or_default()
    }

    pub fn by_rule(&self) -> &BTreeMap<&'static str, u64> {
        &self.rules
    }

    pub fn delivered_from(&self, ip: IpAddr) -> u64 {
        self.lanes.iter().filter(|((of, _), _)| *of == ip).map(|(_, cell)| cell.delivered).sum()
    }

    /// How many recipients wait on a lane that a provider holds back; none where it does not.
    pub fn held_back(&self, ip: IpAddr, provider: &str) -> Option<u64> {
        self.slowed.get(&(ip, Arc::from(provider))).copied()
    }

    /// Recipients a second, of late.
    pub fn accepted_rate(&self) -> f64 {
        self.recently_accepted.iter().map(|(_, count)| count).sum::<u64>() as f64 / RECENT.as_secs_f64()
    }

    /// Recipients whose fate is open, by the events.
    pub fn open(&self) -> u64 {
        let settled = self.total.delivered + self.total.bounced + self.expired + self.deleted + self.rejected;
        self.accepted.saturating_sub(settled)
    }

    /// The last `count` things that happened, in their order: the last delivery, the last bounces, and as many others as fit.
    pub fn latest(&self, count: usize) -> Vec<&Story> {
        let many = self.delivery.iter().chain(self.bounces.iter().rev());
        let mut latest: Vec<&Story> = many.chain(self.stories.iter().rev()).take(count).collect();
        latest.sort_by_key(|story| story.at);
        latest
    }

    pub fn by_ip(&self) -> BTreeMap<String, BTreeMap<String, Cell>> {
        let mut by_ip: BTreeMap<String, BTreeMap<String, Cell>> = BTreeMap::new();
        for ((ip, provider), cell) in &self.lanes {
            by_ip.entry(ip.to_string()).or_default().insert(provider.to_string(), *cell);
        }
        by_ip
    }
}

fn lane_of(event: &Event) -> Option<Lane> {
    Some((event.ip?, event.provider.clone()?))
}

fn story(entry: &Entry) -> Option<Story> {
    let event = &entry.event;
    let whom = entry.address.as_deref().unwrap_or("a message");
    let ip = event.ip.map_or_else(String::new, |ip| format!(" from {ip}"));
    let provider = event.provider.as_deref().unwrap_or("a provider");
    let reply = event.reply.as_ref().map(|reply| format!(": {reply}"));
    let why = event.why.as_ref().map(|why| format!(": {why}"));
    let said = reply.clone().or_else(|| why.clone()).unwrap_or_default();
    let words = match event.kind {
        EventKind::Delivered => format!("{whom} delivered{ip}{said}"),
        EventKind::Deferred => format!("{whom} deferred{ip}{said}"),
        EventKind::Bounced => format!("{whom} bounced{ip}{said}"),
        EventKind::Expired
        | EventKind::Rejected
        | EventKind::Deleted
        | EventKind::Held
        | EventKind::Released
        | EventKind::Routed
        | EventKind::Moved => {
            format!("{whom} {}{}", event.kind.code(), why.unwrap_or_default())
        }
        // The words say what the lane does now.
        EventKind::LaneSlowed | EventKind::LaneSuspended | EventKind::LaneResumed => {
            format!("{} to {provider}{}", event.ip?, why.or(reply).unwrap_or_default())
        }
        EventKind::WarmUp => {
            let provider = event.provider.as_deref().map_or_else(String::new, |provider| format!(" to {provider}"));
            format!("{}{provider}{}", event.ip?, why.unwrap_or_default())
        }
        EventKind::SiteUnreachable => format!("{provider} cannot be reached{ip}{said}"),
        EventKind::SiteReachable => format!("{provider} is reached again{ip}"),
        EventKind::Returned => format!("{provider} took a message and sent it back later{ip}{said}"),
        EventKind::Complained => format!("a reader at {provider} complains{ip}"),
        EventKind::Opened => format!("{whom} is looked at by a {}", event.reader.map_or("reader", |is| is.code())),
        EventKind::Clicked => {
            format!(
                "{whom}: a {} follows {}",
                event.reader.map_or("reader", |is| is.code()),
                event.link.as_deref().unwrap_or("a link")
            )
        }
        EventKind::Unsubscribed => format!("{whom} wants no more of it{}", why.unwrap_or_default()),
        EventKind::Answered
        | EventKind::Suppressed
        | EventKind::Accepted
        | EventKind::Delayed
        | EventKind::IpGone
        | EventKind::IpBack
        | EventKind::IpDrained => return None,
    };
    Some(Story { at: event.at, kind: event.kind, words })
}

/// Reads the event log on from where it last was.
pub struct Reader {
    log: EventLog,
    cursor: Cursor,
}

impl Reader {
    pub fn new(log: EventLog) -> Reader {
        Reader { log, cursor: Cursor::default() }
    }

    /// Everything since the last time. Blocks for the disk.
    pub fn read(&mut self, board: &mut Board) -> io::Result<()> {
        loop {
            let records = self.log.next(self.cursor, EVENTS_AT_ONCE)?;
            let Some((last, _)) = records.last() else { return Ok(()) };
            self.cursor = *last;
            for (_, octets) in &records {
                for entry in record::read_entries(octets).map_err(io::Error::other)? {
                    board.note(&entry);
                }
            }
        }
    }

    /// The same place in the log of a spool that was opened anew.
    pub fn continued(self, log: EventLog) -> Reader {
        Reader { log, cursor: self.cursor }
    }
}

/// Recipients that still wait, by what the spool holds and not by what was told of it.
pub fn waiting(recovered: Recovered) -> Result<u64, Failure> {
    let mut count = 0;
    for message in recovered.live {
        let message = message?;
        let open = match record::read_standing(&message.state)? {
            Some(standing) => {
                standing.state.recipients.iter().filter(|recipient| !RecipientState::finished(recipient)).count()
            }
            None => record::read_envelope(&message.head)?.recipients.len(),
        };
        count += open as u64;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::{Board, Cell};
    use engine::event::{Event, EventKind};
    use engine::time::Timestamp;
    use mail::reply::Reply;
    use mta::record::Entry;
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;

    const IP: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 1, 1));

    fn entry(seconds: i64, kind: EventKind) -> Entry {
        let event = Event {
            ip: Some(IP),
            provider: Some(Arc::from("google")),
            reply: Some(Reply::new(421, (4, 7, 28), "rate limited")),
            ..Event::new(Timestamp::from_unix_seconds(seconds), kind)
        };
        Entry { address: Some("ann@gmail.test".to_owned()), ..Entry::plain(event) }
    }

    #[test]
    fn events_are_counted_by_lane_and_the_recent_ones_are_forgotten() {
        let mut board = Board::default();
        for (seconds, kind) in [
            (1, EventKind::Delivered),
            (2, EventKind::Deferred),
            (3, EventKind::LaneSlowed),
            (9, EventKind::Delivered),
            (9, EventKind::Bounced),
        ] {
            board.note(&entry(seconds, kind));
        }
        board.pass(Timestamp::from_unix_seconds(10));
        assert_eq!(board.cell(IP, "google"), Cell { delivered: 2, deferred: 1, bounced: 1 });
        assert_eq!(board.cell(IP, "yahoo"), Cell::default());
        assert_eq!((board.recently_delivered(IP, "google"), board.delivered_from(IP)), (1, 2));
        assert_eq!(board.held_back(IP, "google"), Some(0));
        board.note(&entry(11, EventKind::LaneResumed));
        assert_eq!(board.held_back(IP, "google"), None);
    }

    #[test]
    fn what_happened_is_told_in_words_and_deliveries_do_not_drown_it() {
        let mut board = Board::default();
        board.note(&entry(1, EventKind::Deferred));
        for seconds in 2..100 {
            board.note(&entry(seconds, EventKind::Delivered));
            board.note(&entry(seconds, EventKind::Bounced));
        }
        let words: Vec<&str> = board.latest(4).iter().map(|story| story.words.as_str()).collect();
        assert_eq!(words.len(), 4);
        assert_eq!(words[0], "ann@gmail.test deferred from 127.0.1.1: 421 4.7.28 rate limited");
    }
}
