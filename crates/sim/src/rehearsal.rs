//! What would happen in three months? A sender, its pool and the providers, minute by minute.
//!
//! What decides is what decides in production: warm-ups, the ladder of overflow, what a reply means and does to a lane, when it is tried
//! again, how many IPs a managed pool needs. Messages of one minute are handled together, so that a day of a hundred thousand costs as
//! much as one of ten.

use crate::budget::{Budget, Daily};
use crate::dice::Dice;
use crate::provider::{Batch, Preset, Provider};
use crate::sender::Sender;
use engine::classify::{Meaning, MessageFate, Reaction, Rules, Scope};
use engine::judged::{Became, Step};
use engine::overflow::leaves_after;
use engine::provider::Providers;
use engine::retry::RetrySchedule;
use engine::scale::{self, Bounds, Decision};
use engine::schedule::{Per, Schedules};
use engine::shape::Shape;
use engine::time::Timestamp;
use engine::warmup::{Course, Warmth, answered};
use mail::reply::Reply;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const MINUTES_A_DAY: u64 = 1_440;
/// The midnight it begins with.
const START: Timestamp = Timestamp(20_000 * 86_400_000_000);
/// Messages that are under way to a provider when it says the first no.
const IN_FLIGHT: u64 = 5;
/// The sending domain's number at the providers.
const DOMAIN: u32 = 1;
/// Half of the complaints come within so many hours, and nearly all within 48.
const COMPLAINT_MEDIAN_HOURS: f64 = 6.0;
const COMPLAINT_SPREAD: f64 = 1.264;
/// What is longer is told as this.
const DELAY_MINUTES_MAX: usize = 4_320;
/// From so much of a day's mail on, it goes by the sender's own IPs.
pub const ARRIVED_PERCENT: u64 = 95;
/// And stays so for as many days more.
const ARRIVED_DAYS: usize = 2;
/// US dollars: an IP for a month, and a thousand messages by the shared pool.
const IP_MONTH: f64 = 24.95;
const SHARED_THOUSAND: f64 = 0.10;

/// Who says how much may go by the sender's own IPs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// Weir, learning what each provider bears.
    Learning,
    /// Weir, by the schedule of this name.
    Schedule(Arc<str>),
    /// A vendor's table of this name, without anything else.
    Table(Arc<str>),
    Aimd,
    /// A controller of the share of deferrals.
    Pid,
}

impl Control {
    /// `learning`, a schedule's name, or for comparison a vendor's table as it stands (`table ses`), `aimd` or `pid`.
    #[must_use]
    pub fn named(name: &str) -> Option<Control> {
        let schedules = Schedules::shipped();
        let table = name.strip_prefix("table ");
        match (name, table) {
            ("learning", _) => Some(Control::Learning),
            ("aimd", _) => Some(Control::Aimd),
            ("pid", _) => Some(Control::Pid),
            (_, Some(table)) => schedules.named(table).map(|_| Control::Table(table.into())),
            _ => schedules.named(name).map(|_| Control::Schedule(name.into())),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Site {
    pub preset: Preset,
    /// Its name in the provider file.
    pub provider: Arc<str>,
    pub volume: Volume,
}

/// How much is written to a provider.
#[derive(Clone, Debug, PartialEq)]
pub enum Volume {
    /// Of a hundred messages of the sender's so many, and none before this day.
    Share { percent: f64, from_day: u32 },
    /// What was really sent, day by day: chance has no part in it.
    Daily(Arc<[u64]>),
}

#[derive(Clone, Debug)]
pub struct Setting {
    pub days: u32,
    pub seed: u64,
    pub sender: Sender,
    pub sites: Vec<Site>,
    pub ips: u32,
    /// A managed pool: how many IPs there are is decided day by day.
    pub managed: Option<Bounds>,
    pub control: Control,
    /// Whether there is a shared pool that takes what has no place.
    pub shared: bool,
    /// IPs that come onto a block list.
    pub listings: Vec<Listing>,
}

/// An IP, counted from nought, is on a block list that providers ask; and is found there after so many minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listing {
    pub ip: usize,
    pub day: u32,
    pub found_after: u32,
}

/// Messages of a day to a provider, by what became of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SiteDay {
    pub offered: u64,
    /// Taken, or refused for good because of the recipient, from the sender's own IPs.
    pub dedicated: u64,
    pub shared: u64,
    /// Answers that asked to come again.
    pub deferred: u64,
    /// Answers that refused because of the IP.
    pub blocked: u64,
    pub unknown: u64,
    pub complaints: u64,
    /// That ended without being delivered, because their time was over or the provider refused them.
    pub lost: u64,
    /// At the end of the day.
    pub waiting: u64,
    /// What its IPs could send, all together, at the end of the day; none: without limit.
    pub allowed: Option<u64>,
    /// Attempts from the sender's own IPs.
    pub tried: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Day {
    pub sites: Vec<SiteDay>,
    pub ips: u32,
    pub cost: f64,
}

impl Day {
    fn sum(&self, figure: fn(&SiteDay) -> u64) -> u64 {
        self.sites.iter().map(figure).sum()
    }

    /// How much of what went out went by the sender's own IPs, in hundredths.
    #[must_use]
    pub fn dedicated_percent(&self) -> u64 {
        let (own, shared) = (self.sum(|site| site.dedicated), self.sum(|site| site.shared));
        (own * 100).checked_div(own + shared + self.sum(|site| site.waiting)).unwrap_or(0)
    }
}

/// A decision that was taken on the way.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Told {
    pub day: u32,
    pub minute: u32,
    pub ip: Option<IpAddr>,
    pub provider: Option<Arc<str>>,
    pub code: &'static str,
    pub words: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    pub sites: Vec<Arc<str>>,
    pub days: Vec<Day>,
    pub told: Vec<Told>,
    /// Delivered after so many minutes.
    #[serde(skip)]
    delays: Vec<u64>,
}

impl Outcome {
    #[must_use]
    pub fn sum(&self, figure: fn(&SiteDay) -> u64) -> u64 {
        self.days.iter().map(|day| day.sum(figure)).sum()
    }

    /// The first day, counted from 1, from which on all but a little of the mail goes by the sender's own IPs.
    #[must_use]
    pub fn arrived(&self) -> Option<u32> {
        let is_there = |day: &Day| day.dedicated_percent() >= ARRIVED_PERCENT;
        let from = self.days.windows(ARRIVED_DAYS + 1).position(|days| days.iter().all(is_there))?;
        u32::try_from(from + 1).ok()
    }

    /// Answers that asked to come again, of all that were given, in ten thousandths.
    #[must_use]
    pub fn deferred_share(&self) -> u64 {
        (self.sum(|site| site.deferred) * 10_000).checked_div(self.sum(|site| site.tried)).unwrap_or(0)
    }

    /// So many of a hundred messages had arrived after so many minutes.
    #[must_use]
    pub fn delay_minutes(&self, percent: u64) -> u64 {
        let all: u64 = self.delays.iter().sum();
        let mut left = all * percent / 100;
        for (minutes, count) in (0..).zip(&self.delays) {
            if *count >= left {
                return minutes;
            }
            left -= count;
        }
        0
    }

    #[must_use]
    pub fn cost(&self) -> f64 {
        self.days.iter().map(|day| day.cost).sum()
    }
}

/// Messages that came in one minute and go the same way.
#[derive(Clone, Copy, Debug)]
struct Cohort {
    since: u64,
    attempts: u16,
    count: u64,
}

/// What a provider's word means, found out once.
struct Word {
    meaning: Meaning,
    reactions: Vec<Reaction>,
    reply: Reply,
    said: String,
    /// Whether the message goes on waiting.
    again: bool,
}

struct Lane {
    ip: usize,
    shape: Shape,
    /// In `World::budgets`.
    budget: usize,
}

struct Post {
    provider: Provider,
    name: Arc<str>,
    volume: Volume,
    throttle: Word,
    block: Word,
    lanes: Vec<Lane>,
    /// What waits for a place, oldest first.
    ready: VecDeque<Cohort>,
    /// What is tried again, by its minute.
    again: BTreeMap<u64, Vec<Cohort>>,
    /// What was written and has not met its end.
    open: u64,
    today: SiteDay,
}

struct World<'a> {
    setting: &'a Setting,
    providers: Providers,
    schedules: Schedules,
    /// Where a schedule counts per IP, the budget of each.
    of_ip: BTreeMap<usize, usize>,
    /// How many IPs there ever were, and those that send now.
    ips_made: usize,
    ips: Vec<usize>,
    /// What was asked for, day by day.
    asked: Vec<scale::Day>,
    grown_on: u32,
    sender: Sender,
    dice: Dice,
    retry: RetrySchedule,
    budgets: Vec<Budget>,
    spills_at_once: bool,
    shared: bool,
    /// Complaints on their way back: minute, budget, how many.
    complaints: BTreeMap<u64, Vec<(usize, u64)>>,
    delays: Vec<u64>,
    told: Vec<Told>,
}

/// Plays it.
#[must_use]
pub fn rehearse(setting: &Setting) -> Outcome {
    let mut world = World {
        setting,
        providers: Providers::shipped(),
        schedules: Schedules::shipped(),
        of_ip: BTreeMap::new(),
        ips_made: 0,
        ips: Vec::new(),
        asked: Vec::new(),
        grown_on: 0,
        sender: setting.sender.clone(),
        dice: Dice::new(setting.seed),
        retry: RetrySchedule::default(),
        budgets: Vec::new(),
        spills_at_once: matches!(setting.control, Control::Table(_) | Control::Aimd | Control::Pid),
        shared: setting.shared,
        complaints: BTreeMap::new(),
        delays: vec![0; DELAY_MINUTES_MAX + 1],
        told: Vec::new(),
    };
    let mut posts = world.posts();
    (0..setting.ips).for_each(|_| world.add_ip(&mut posts, START));
    let mut days = Vec::new();
    for day in 0..u64::from(setting.days) {
        for minute in day * MINUTES_A_DAY..(day + 1) * MINUTES_A_DAY {
            world.bring_complaints(minute, &posts);
            for post in &mut posts {
                world.minute(post, minute);
            }
        }
        days.push(world.end_day(&mut posts));
        world.scale(&mut posts, u32::try_from(day).unwrap_or(u32::MAX));
    }
    Outcome {
        sites: posts.iter().map(|post| Arc::clone(&post.name)).collect(),
        days,
        told: world.told,
        delays: world.delays,
    }
}

fn ip(number: usize) -> IpAddr {
    let last = u8::try_from(number % 250 + 1).unwrap_or(1);
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, last))
}

fn at(minute: u64) -> Timestamp {
    START + MINUTE * u32::try_from(minute).unwrap_or(u32::MAX)
}

fn word(rules: &Rules, provider: &str, reply: Reply) -> Word {
    let reading = rules.classify(provider, &reply);
    Word {
        reactions: reading.reactions.iter().filter(|reaction| reaction.scope == Scope::Lane).cloned().collect(),
        again: reading.fate == MessageFate::Retry || !reading.is_final(&reply, 1),
        said: reply.to_string(),
        meaning: reading.meaning,
        reply,
    }
}

impl World<'_> {
    fn posts(&mut self) -> Vec<Post> {
        let (rules, setting) = (Rules::shipped(), self.setting);
        let post = |(number, site): (u64, &Site)| {
            let mut provider = Provider::new(site.preset.clone(), setting.seed ^ (number + 1) << 32);
            provider.introduce(DOMAIN, setting.sender.domain_reputation);
            let (throttle, block) = (site.preset.throttle.reply(ip(0)), site.preset.block.reply(ip(0)));
            Post {
                throttle: word(&rules, &site.provider, throttle),
                block: word(&rules, &site.provider, block),
                provider,
                name: Arc::clone(&site.provider),
                volume: site.volume.clone(),
                lanes: Vec::new(),
                ready: VecDeque::new(),
                again: BTreeMap::new(),
                open: 0,
                today: SiteDay::default(),
            }
        };
        (0..).zip(&setting.sites).map(post).collect()
    }

    /// One IP more, which nobody knows.
    fn add_ip(&mut self, posts: &mut [Post], now: Timestamp) {
        let ip = self.ips_made;
        self.ips_made += 1;
        self.ips.push(ip);
        for post in posts {
            let known = self.providers.rules_of(&post.name).clone();
            let (slope, control) = (Course::Learned(known.warm_up), &self.setting.control);
            let schedule = match control {
                Control::Schedule(name) | Control::Table(name) => self.schedules.named(name).cloned(),
                Control::Learning | Control::Aimd | Control::Pid => None,
            };
            let of_ip = schedule.as_ref().is_some_and(|schedule| schedule.per == Per::Ip);
            let budget = match self.of_ip.get(&ip).filter(|_| of_ip) {
                Some(budget) => *budget,
                None => {
                    self.budgets.push(match control {
                        Control::Aimd => Budget::Daily(Daily::aimd(known.warm_up, now)),
                        Control::Pid => Budget::Daily(Daily::pid(known.warm_up, now)),
                        _ => begun(schedule.map_or(slope, Course::Fixed), control, now),
                    });
                    self.of_ip.insert(ip, self.budgets.len() - 1);
                    self.budgets.len() - 1
                }
            };
            post.lanes.push(Lane { ip, shape: Shape::new(known, now), budget });
        }
    }

    /// R6.5: asked at the end of each day.
    fn scale(&mut self, posts: &mut [Post], day: u32) {
        let Some(bounds) = self.setting.managed else { return };
        let ips = u32::try_from(self.ips.len()).unwrap_or(u32::MAX);
        let carries = |provider: &str| self.providers.rules_of(provider).warm_up.slow_from;
        let decided = scale::decide(&self.asked, ips, day - self.grown_on, bounds, &carries);
        let code = match decided.decision {
            Decision::Keep => return,
            Decision::Add(count) => {
                self.grown_on = day;
                (0..count).for_each(|_| self.add_ip(posts, at(u64::from(day + 1) * MINUTES_A_DAY)));
                "scaled-out"
            }
            Decision::Remove => {
                if let Some(last) = self.ips.pop() {
                    posts.iter_mut().for_each(|post| post.lanes.retain(|lane| lane.ip != last));
                }
                "scaled-in"
            }
        };
        let words = decided.words();
        self.told.push(Told { day: day + 1, minute: 0, ip: None, provider: None, code, words });
    }

    /// Whether the IP is known to be on a block list, and sends nothing; whether it is and does.
    fn listed(&self, ip: usize, minute: u64) -> (bool, bool) {
        let mut listings = self.setting.listings.iter().filter(|listing| listing.ip == ip);
        let Some(listing) = listings.find(|listing| minute >= u64::from(listing.day) * MINUTES_A_DAY) else {
            return (false, false);
        };
        let found = u64::from(listing.day) * MINUTES_A_DAY + u64::from(listing.found_after);
        (minute >= found, minute < found)
    }

    fn tell(&mut self, minute: u64, ip: IpAddr, provider: &Arc<str>, step: &Step) {
        // A day like the one before is not worth a word.
        if step.from == step.to && step.until.is_none() {
            return;
        }
        self.told.push(Told {
            day: u32::try_from(minute / MINUTES_A_DAY).unwrap_or(u32::MAX),
            minute: u32::try_from(minute % MINUTES_A_DAY).unwrap_or(0),
            ip: Some(ip),
            provider: Some(Arc::clone(provider)),
            code: step.judged.code(),
            words: step.words(),
        });
    }

    fn bring_complaints(&mut self, minute: u64, posts: &[Post]) {
        while let Some(entry) = self.complaints.first_entry().filter(|entry| *entry.key() <= minute) {
            for (budget, count) in entry.remove() {
                self.budgets[budget].turn(at(minute));
                let Some(step) = self.budgets[budget].complained(count, at(minute)) else { continue };
                let lanes = posts.iter().flat_map(|post| post.lanes.iter().map(move |lane| (post, lane)));
                if let Some((post, lane)) = lanes.into_iter().find(|(_, lane)| lane.budget == budget) {
                    self.tell(minute, ip(lane.ip), &post.name, &step);
                }
            }
        }
    }

    /// What comes in, what goes by the sender's own IPs, what leaves otherwise, what waits.
    fn minute(&mut self, post: &mut Post, minute: u64) {
        let now = at(minute);
        let count = self.written(&post.volume, minute);
        if count > 0 {
            post.today.offered += count;
            post.open += count;
            post.ready.push_back(Cohort { since: minute, attempts: 0, count });
        }
        while let Some(entry) = post.again.first_entry().filter(|entry| *entry.key() <= minute) {
            // They have waited longer than what just came.
            entry.remove().into_iter().for_each(|cohort| post.ready.push_front(cohort));
        }
        for lane in &post.lanes {
            let steps = self.budgets[lane.budget].turn(now);
            let (ip, name) = (ip(lane.ip), Arc::clone(&post.name));
            steps.iter().for_each(|step| self.tell(minute, ip, &name, step));
        }
        if post.ready.is_empty() {
            return;
        }
        self.expire(post, minute);
        for lane in 0..post.lanes.len() {
            self.send(post, lane, minute);
        }
        self.overflow(post, minute);
    }

    /// What comes in in this minute.
    fn written(&mut self, volume: &Volume, minute: u64) -> u64 {
        let day = minute / MINUTES_A_DAY;
        match volume {
            Volume::Share { from_day, .. } if day < u64::from(*from_day) => 0,
            Volume::Share { percent, .. } => self.dice.poisson(self.sender.rate(minute) * (percent / 100.0)),
            Volume::Daily(days) => {
                let of_day = usize::try_from(day).ok().and_then(|day| days.get(day)).copied().unwrap_or(0);
                self.sender.rhythm.in_minute(of_day, minute % MINUTES_A_DAY)
            }
        }
    }

    fn expire(&self, post: &mut Post, minute: u64) {
        let lifetime = self.sender.lifetime_hours * 60;
        let mut over = 0;
        post.ready.retain(|cohort| {
            let is_over = cohort.since + lifetime <= minute;
            over += if is_over { cohort.count } else { 0 };
            !is_over
        });
        post.today.lost += over;
        post.open -= over;
    }

    fn send(&mut self, post: &mut Post, lane: usize, minute: u64) {
        let now = at(minute);
        let ready: u64 = post.ready.iter().map(|cohort| cohort.count).sum();
        let lanes = post.lanes.len() as u64;
        let own = &post.lanes[lane];
        let (is_out, is_refused) = self.listed(own.ip, minute);
        if is_out {
            return;
        }
        let places = self.budgets[own.budget].free(ready / lanes.max(1), now);
        let may = ready.min(places).min(own.shape.most_in(MINUTE, now));
        if may == 0 {
            return;
        }
        let (_, quality) = self.sender.on(minute / MINUTES_A_DAY);
        let batch = if is_refused {
            let blocked = may.min(IN_FLIGHT);
            Batch { tried: blocked, blocked, ..Batch::default() }
        } else {
            post.provider.offer(ip(own.ip), DOMAIN, may, &quality, IN_FLIGHT, minute as f64 * 60.0)
        };
        let budget = own.budget;
        self.budgets[budget].take(batch.tried);
        post.today.tried += batch.tried;
        let heard = [
            (batch.accepted, Some(Became::Delivered)),
            (batch.unknown, Some(Became::Bounced)),
            (
                batch.deferred,
                answered(&post.throttle.meaning, post.throttle.reply.is_permanent(), false, attempt(post)),
            ),
            (batch.blocked, answered(&post.block.meaning, post.block.reply.is_permanent(), false, attempt(post))),
        ];
        for (count, became) in heard {
            let Some(became) = became.filter(|_| count > 0) else { continue };
            if let Some(step) = self.budgets[budget].note(became, count, now) {
                self.tell(minute, ip(post.lanes[lane].ip), &post.name.clone(), &step);
            }
        }
        self.react(post, lane, &batch, now);
        self.settle(post, &batch, minute);
        self.complain(post, budget, batch.complaints, minute);
    }

    /// What the answers do to the lane, as in production.
    fn react(&mut self, post: &mut Post, lane: usize, batch: &Batch, now: Timestamp) {
        let Post { lanes, throttle, block, .. } = post;
        let shape = &mut lanes[lane].shape;
        for (count, word) in [(batch.deferred, throttle), (batch.blocked, block)] {
            for _ in 0..count.min(IN_FLIGHT) {
                for reaction in &word.reactions {
                    let _ = shape.react(reaction, &word.meaning.rule, &word.said, now, self.dice.number());
                }
            }
        }
        if batch.deferred + batch.blocked == 0 && shape.pace() < 1_000 {
            (0..batch.accepted.min(200)).for_each(|_| shape.accepted(now));
        }
    }

    /// The oldest ones that were tried met their end; the rest comes again.
    fn settle(&mut self, post: &mut Post, batch: &Batch, minute: u64) {
        let mut arrived = batch.accepted + batch.unknown;
        let mut refused = if post.block.again { 0 } else { batch.blocked };
        let mut left = batch.tried;
        let today = &mut post.today;
        today.dedicated += arrived;
        today.unknown += batch.unknown;
        today.deferred += batch.deferred;
        today.blocked += batch.blocked;
        today.lost += refused;
        post.open -= arrived + refused;
        while left > 0 {
            let Some(mut cohort) = post.ready.pop_front() else { break };
            let tried = cohort.count.min(left);
            left -= tried;
            let here = tried.min(arrived);
            arrived -= here;
            let waited = usize::try_from(minute - cohort.since).unwrap_or(DELAY_MINUTES_MAX);
            self.delays[waited.min(DELAY_MINUTES_MAX)] += here;
            let ended = (tried - here).min(refused);
            refused -= ended;
            let again = tried - here - ended;
            if again > 0 {
                let attempts = cohort.attempts.saturating_add(1);
                let wait = self.retry.after(attempts);
                let due = self.retry.jittered(at(minute), wait, self.dice.number()).since(START).as_secs() / 60;
                let due = due.max(minute + 1);
                post.again.entry(due).or_default().push(Cohort { attempts, count: again, ..cohort });
            }
            cohort.count -= tried;
            if cohort.count > 0 {
                post.ready.push_front(cohort);
            }
        }
    }

    fn complain(&mut self, post: &mut Post, budget: usize, count: u64, minute: u64) {
        post.today.complaints += count;
        if !post.provider.preset().has_loop {
            return;
        }
        for _ in 0..count {
            let comes = minute + complaint_minutes(&mut self.dice);
            self.complaints.entry(comes).or_default().push((budget, 1));
        }
    }

    /// R4.2: what found no place leaves, or waits.
    fn overflow(&mut self, post: &mut Post, minute: u64) {
        if !self.shared || post.ready.is_empty() {
            return;
        }
        let now = at(minute);
        let ready: u64 = post.ready.iter().map(|cohort| cohort.count).sum();
        let lanes = post.lanes.len() as u64;
        let (mut of_day, mut of_hour) = ((0u64, 0u64), (0u64, 0u64));
        for lane in &post.lanes {
            let (budget, waiting) = (&self.budgets[lane.budget], ready / lanes.max(1));
            let (Some(allowed), Some(asked)) = (budget.allowed(), budget.wanted(waiting, now)) else { continue };
            // What is shut for now sends no more than it has.
            let is_shut = budget.is_closed(now) || lane.shape.most_in(MINUTE, now) < waiting;
            of_day.0 += if is_shut { budget.taken() } else { allowed };
            of_day.1 += asked;
            let (in_hour, asked) = budget.hour(waiting).unwrap_or_default();
            of_hour = (of_hour.0 + in_hour, of_hour.1 + asked);
        }
        let percent = |(may, wanted): (u64, u64)| (may * 100).checked_div(wanted).unwrap_or(100).min(100);
        let fits = if lanes == 0 { 0 } else { percent(of_day).min(percent(of_hour)) };
        let lifetime = Duration::from_secs(self.sender.lifetime_hours * 3_600);
        let wait = if self.spills_at_once { 0 } else { leaves_after(fits, lifetime).as_secs() / 60 };
        let mut left = 0;
        let delays = &mut self.delays;
        post.ready.retain(|cohort| {
            let waited = minute - cohort.since;
            if waited < wait {
                return true;
            }
            delays[usize::try_from(waited).unwrap_or(DELAY_MINUTES_MAX).min(DELAY_MINUTES_MAX)] += cohort.count;
            left += cohort.count;
            false
        });
        post.today.shared += left;
        post.open -= left;
        for (number, lane) in (0u64..).zip(&post.lanes) {
            let part = left / lanes + u64::from(number < left % lanes);
            self.budgets[lane.budget].turned_away(part);
        }
    }

    fn end_day(&mut self, posts: &mut [Post]) -> Day {
        let ips = u32::try_from(self.ips.len()).unwrap_or(u32::MAX);
        let mut day = Day { ips, ..Day::default() };
        self.asked.push(posts.iter().map(|post| (Arc::clone(&post.name), post.today.offered)).collect());
        for post in posts {
            post.today.waiting = post.open;
            let allowed = post.lanes.iter().map(|lane| self.budgets[lane.budget].allowed());
            post.today.allowed = allowed.sum();
            day.cost += post.today.shared as f64 / 1_000.0 * SHARED_THOUSAND;
            day.sites.push(std::mem::take(&mut post.today));
        }
        day.cost += f64::from(ips) * IP_MONTH / 30.0;
        day
    }
}

/// How long after its message a complaint comes.
pub(crate) fn complaint_minutes(dice: &mut Dice) -> u64 {
    let hours = COMPLAINT_MEDIAN_HOURS * (COMPLAINT_SPREAD * dice.normal()).exp();
    (hours * 60.0) as u64 + 1
}

fn begun(course: Course, control: &Control, now: Timestamp) -> Budget {
    let warmth = Warmth::begun(&course, now);
    match control {
        Control::Table(_) => Budget::Table { course, warmth },
        _ => Budget::Own { course, warmth },
    }
}

/// Which attempt of the oldest ones that wait this is.
fn attempt(post: &Post) -> u16 {
    post.ready.front().map_or(1, |cohort| cohort.attempts.saturating_add(1))
}
