//! How does a mailbox provider answer an IP, given what it has seen of it?
//!
//! A provider keeps a reputation, a memory of volume and a pressure for every IP, and a reputation for every sending domain. What fits
//! the allowance is accepted, what exceeds it is deferred, and who keeps knocking while deferred is blocked. One message is asked for
//! with `receive`, many at once with `offer`; both know the same. The numbers are plausible, not measured: they exist to compare
//! policies and to make a demonstration behave like the world does.

use crate::dice::Dice;
use mail::reply::Reply;
use std::collections::BTreeMap;
use std::net::IpAddr;

const HOUR_S: f64 = 3_600.0;
const DAY_S: f64 = 86_400.0;
/// Unknown addresses start slightly below neutral: most of them are infected machines.
const REPUTATION_AT_FIRST_SIGHT: f64 = 0.35;
const REPUTATION_RISE: f64 = 0.06;
const REPUTATION_FALL: f64 = 0.30;
const REPUTATION_LOSS_BY_BLOCK: f64 = 0.8;
const REPUTATION_HALF_LIFE_DAYS: f64 = 12.0;
/// Each of these shares undoes what a good day earns: unknown mailboxes, complaints, spam traps.
const UNKNOWN_SHARE_BORNE: f64 = 0.05;
const COMPLAINT_SHARE_BORNE: f64 = 0.003;
const TRAP_SHARE_BORNE: f64 = 0.000_5;
/// Of readers, this share looks at mail that is wanted.
const ENGAGED_SHARE_USUAL: f64 = 0.05;
/// How much the IP's, its domain's and its network's reputation count.
const IP_WEIGHT: f64 = 0.5;
const DOMAIN_WEIGHT: f64 = 0.4;
const NETWORK_WEIGHT: f64 = 0.1;
const VOLUME_HALF_LIFE_DAYS: f64 = 7.0;
/// What is offered in one hour of an allowance for the day.
const HOUR_SHARE: f64 = 1.0 / 8.0;
/// Full weight of a day's figures on the reputation from this volume on.
const VOLUME_FULL_WEIGHT: f64 = 200.0;
const PRESSURE_HALF_LIFE_S: f64 = HOUR_S;
const BLOCK_LONGEST_S: f64 = DAY_S;

/// What is known of a kind of provider: limits, patience and its own words.
#[derive(Clone, Debug)]
pub struct Preset {
    pub name: &'static str,
    pub volume_first_day: f64,
    pub volume_max: f64,
    /// How many times its remembered volume an IP may send in a day.
    pub growth: f64,
    /// How steeply reputation bounds the volume.
    pub severity: f64,
    pub connections_max: u32,
    pub messages_per_connection: u32,
    /// Pressure above which deferring turns into blocking.
    pub pressure_max: f64,
    pub block_s: f64,
    /// Whether it reports complaints to who sent the mail.
    pub has_loop: bool,
    pub throttle: Words,
    pub block: Words,
}

impl Preset {
    /// Each figure up to so much of it more or less, so that nobody is made for one setting.
    #[must_use]
    pub fn varied(mut self, by: f64, seed: u64) -> Preset {
        let mut dice = Dice::new(seed);
        let mut vary = |figure: &mut f64| *figure *= 1.0 + by * (2.0 * dice.share() - 1.0);
        let Preset { volume_first_day, volume_max, growth, severity, pressure_max, block_s, .. } = &mut self;
        let mut beyond_one = *growth - 1.0;
        [volume_first_day, volume_max, &mut beyond_one, severity, pressure_max, block_s]
            .into_iter()
            .for_each(&mut vary);
        self.growth = 1.0 + beyond_one;
        self
    }
}

/// What a sender's mail is like, in shares of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quality {
    /// To mailboxes that do not exist.
    pub unknown: f64,
    /// Complained of, where it reaches the inbox.
    pub complaints: f64,
    /// To addresses that no person has.
    pub traps: f64,
    /// Looked at, where it reaches the inbox.
    pub engaged: f64,
}

/// What became of many messages at the provider's door.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// That were tried; the rest was not, because of what was answered.
    pub tried: u64,
    pub accepted: u64,
    /// Of these, seen by a reader.
    pub inbox: u64,
    pub complaints: u64,
    pub deferred: u64,
    pub blocked: u64,
    pub unknown: u64,
}

/// A reply in the provider's own words; `{ip}` stands for the sender's address.
#[derive(Clone, Debug)]
pub struct Words {
    pub code: u16,
    pub enhanced: (u8, u16, u16),
    pub text: &'static str,
}

impl Words {
    #[must_use]
    pub fn reply(&self, ip: IpAddr) -> Reply {
        Reply::new(self.code, self.enhanced, self.text.replace("{ip}", &ip.to_string()))
    }
}

/// What became of one message at the provider's door.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Accepted(Reply),
    Deferred(Reply),
    Blocked(Reply),
    NoSuchMailbox(Reply),
}

impl Answer {
    #[must_use]
    pub fn reply(&self) -> &Reply {
        match self {
            Answer::Accepted(reply)
            | Answer::Deferred(reply)
            | Answer::Blocked(reply)
            | Answer::NoSuchMailbox(reply) => reply,
        }
    }
}

/// One provider and what it remembers of each IP.
#[derive(Debug)]
pub struct Provider {
    preset: Preset,
    dice: Dice,
    seen: BTreeMap<IpAddr, Acquaintance>,
    /// By the sending domains' numbers.
    domains: BTreeMap<u32, f64>,
}

#[derive(Debug)]
struct Acquaintance {
    reputation: f64,
    /// Remembered daily volume. A rise is remembered at once, so that a growth of 2 means that doubling is borne; a fall with a
    /// half-life of a week.
    volume: f64,
    pressure: f64,
    pressure_at_s: f64,
    block_until_s: f64,
    block_s: f64,
    day: i64,
    today: Day,
    hour: i64,
    arrived_this_hour: f64,
    connections: u32,
    /// Of whom the mail of today was, if it said so.
    domain: Option<u32>,
    /// What may come today, as long as the reputation stays.
    allowed: Option<f64>,
}

/// What one IP did on one day.
#[derive(Clone, Copy, Debug, Default)]
struct Day {
    arrived: f64,
    accepted: f64,
    unknown: f64,
    complaints: f64,
    traps: f64,
    engaged: f64,
}

impl Day {
    /// From -2 to 1: how good it was.
    fn verdict(&self) -> Option<f64> {
        let judged = self.accepted + self.unknown;
        if judged == 0.0 {
            return None;
        }
        let good = self.engaged / self.accepted.max(1.0) / ENGAGED_SHARE_USUAL;
        let bad = self.unknown / judged / UNKNOWN_SHARE_BORNE
            + self.complaints / self.accepted.max(1.0) / COMPLAINT_SHARE_BORNE
            + self.traps / judged / TRAP_SHARE_BORNE;
        Some((good - bad).clamp(-2.0, 1.0))
    }
}

/// How a day changes a reputation: good mail raises it slowly, bad mail lowers it fast; little mail does little.
fn moved(reputation: f64, verdict: f64, judged: f64) -> f64 {
    let weight = (judged / VOLUME_FULL_WEIGHT).min(1.0);
    let by = if verdict > 0.0 {
        REPUTATION_RISE * (1.0 - reputation) * verdict
    } else {
        REPUTATION_FALL * reputation * verdict
    };
    (reputation + weight * by).clamp(0.0, 1.0)
}

impl Provider {
    #[must_use]
    pub fn new(preset: Preset, seed: u64) -> Provider {
        Provider { preset, dice: Dice::new(seed), seen: BTreeMap::new(), domains: BTreeMap::new() }
    }

    #[must_use]
    pub fn preset(&self) -> &Preset {
        &self.preset
    }

    /// Makes an IP one that has been sending for long: so reputed, and with so much mail a day.
    pub fn acquaint(&mut self, ip: IpAddr, reputation: f64, volume: f64, now_s: f64) {
        let known = self.acquaintance(ip, now_s);
        known.reputation = reputation.clamp(0.0, 1.0);
        known.volume = volume;
        known.allowed = None;
    }

    /// Makes a sending domain one that is known.
    pub fn introduce(&mut self, domain: u32, reputation: f64) {
        self.domains.insert(domain, reputation.clamp(0.0, 1.0));
    }

    #[must_use]
    pub fn reputation(&self, ip: IpAddr) -> f64 {
        self.seen.get(&ip).map_or(REPUTATION_AT_FIRST_SIGHT, |known| known.reputation)
    }

    /// Many messages of one sender come within a moment. Who sends stops when so many are deferred: the rest was not tried.
    pub fn offer(
        &mut self,
        ip: IpAddr,
        domain: u32,
        messages: u64,
        quality: &Quality,
        deferred_max: u64,
        now_s: f64,
    ) -> Batch {
        self.acquaintance(ip, now_s).domain = Some(domain);
        let allowed = self.allowed(ip);
        let effective = self.effective(ip);
        let Preset { pressure_max, block_s, .. } = self.preset;
        let (dice, Some(known)) = (&mut self.dice, self.seen.get_mut(&ip)) else { return Batch::default() };
        if now_s < known.block_until_s {
            let blocked = messages.min(deferred_max);
            return Batch { tried: blocked, blocked, ..Batch::default() };
        }
        let n = messages as f64;
        let share =
            |before: f64, allowed: f64| (excesses(before + n, allowed) - excesses(before, allowed)) / n.max(1.0);
        let hourly = (allowed * HOUR_SHARE).max(1.0);
        let chance = share(known.today.arrived, allowed).max(share(known.arrived_this_hour, hourly));
        let mut batch = Batch { tried: messages, deferred: dice.binomial(messages, chance), ..Batch::default() };
        if batch.deferred > deferred_max {
            batch.tried = (messages * deferred_max).div_ceil(batch.deferred).max(deferred_max);
            batch.deferred = deferred_max;
        }
        known.pressure += batch.deferred as f64 / allowed;
        if known.pressure > pressure_max {
            let over = ((known.pressure - pressure_max) * allowed).ceil().max(1.0) as u64;
            batch.blocked = over.min(batch.deferred).max(1);
            batch.deferred = batch.deferred.saturating_sub(batch.blocked);
            known.block(block_s, now_s);
        }
        known.today.arrived += batch.tried as f64;
        known.arrived_this_hour += batch.tried as f64;
        let through = batch.tried.saturating_sub(batch.deferred + batch.blocked);
        batch.unknown = dice.binomial(through, quality.unknown);
        batch.accepted = through - batch.unknown;
        batch.inbox = dice.binomial(batch.accepted, effective);
        batch.complaints = dice.poisson(batch.inbox as f64 * quality.complaints).min(batch.inbox);
        known.today.accepted += batch.accepted as f64;
        known.today.unknown += batch.unknown as f64;
        known.today.complaints += batch.complaints as f64;
        known.today.traps += dice.poisson(batch.accepted as f64 * quality.traps) as f64;
        known.today.engaged += batch.inbox as f64 * quality.engaged;
        batch
    }

    /// What an IP may send today.
    fn allowed(&mut self, ip: IpAddr) -> f64 {
        if let Some(allowed) = self.seen.get(&ip).and_then(|known| known.allowed) {
            return allowed;
        }
        let Preset { volume_first_day, volume_max, growth, severity, .. } = self.preset;
        let effective = self.effective(ip);
        let Some(known) = self.seen.get_mut(&ip) else { return volume_first_day };
        let allowed = (volume_max * effective.powf(severity)).min(growth * known.volume).max(volume_first_day);
        known.allowed = Some(allowed);
        allowed
    }

    /// The reputation that counts: the IP's, with its domain's and its network's where those are known.
    fn effective(&self, ip: IpAddr) -> f64 {
        let Some(known) = self.seen.get(&ip) else { return REPUTATION_AT_FIRST_SIGHT };
        let Some(domain) = known.domain else { return known.reputation };
        let domain = self.domains.get(&domain).copied().unwrap_or(REPUTATION_AT_FIRST_SIGHT);
        let (sum, count) = self
            .seen
            .iter()
            .filter(|(other, _)| network(**other) == network(ip))
            .fold((0.0, 0.0), |(sum, count), (_, known)| (sum + known.reputation, count + 1.0));
        let near = sum / f64::max(count, 1.0);
        known.reputation.powf(IP_WEIGHT) * domain.powf(DOMAIN_WEIGHT) * near.powf(NETWORK_WEIGHT)
    }

    /// May another message come on a connection that has carried so many?
    pub fn begin(&self, carried: u32) -> Result<(), Reply> {
        if carried < self.preset.messages_per_connection {
            return Ok(());
        }
        Err(Reply::new(421, (4, 7, 0), "Too many messages for this connection, please reconnect"))
    }

    /// A connection is made; `Err` is the greeting that turns it away.
    pub fn connect(&mut self, ip: IpAddr, now_s: f64) -> Result<(), Reply> {
        let connections_max = self.preset.connections_max;
        let known = self.acquaintance(ip, now_s);
        // A poor reputation is given fewer connections, but always one.
        let allowed = (f64::from(connections_max) * known.reputation.max(0.2)).ceil() as u32;
        if known.connections >= allowed.max(1) {
            return Err(Reply::new(421, (4, 7, 0), format!("Too many connections from {ip}, try again later")));
        }
        known.connections += 1;
        Ok(())
    }

    pub fn disconnect(&mut self, ip: IpAddr) {
        if let Some(known) = self.seen.get_mut(&ip) {
            known.connections = known.connections.saturating_sub(1);
        }
    }

    /// A message is offered to a mailbox; a local part that begins with `unknown` has none.
    pub fn receive(&mut self, ip: IpAddr, local_part: &str, now_s: f64) -> Answer {
        let share = self.dice.share();
        let Preset { pressure_max, block_s, .. } = self.preset;
        self.acquaintance(ip, now_s);
        let allowed = self.allowed(ip);
        let known = self.acquaintance(ip, now_s);
        if now_s < known.block_until_s {
            return Answer::Blocked(self.preset.block.reply(ip));
        }
        known.today.arrived += 1.0;
        known.arrived_this_hour += 1.0;
        let over_day = excess(known.today.arrived, allowed);
        let over_hour = excess(known.arrived_this_hour, (allowed * HOUR_SHARE).max(1.0));
        if share < over_day.max(over_hour) {
            known.pressure += 1.0 / allowed;
            if known.pressure > pressure_max {
                known.block(block_s, now_s);
                return Answer::Blocked(self.preset.block.reply(ip));
            }
            return Answer::Deferred(self.preset.throttle.reply(ip));
        }
        if local_part.starts_with("unknown") {
            known.today.unknown += 1.0;
            return Answer::NoSuchMailbox(Reply::new(
                550,
                (5, 1, 1),
                "The account that you tried to reach does not exist",
            ));
        }
        known.today.accepted += 1.0;
        // Who reads it is not asked here: as many as usual.
        known.today.engaged += ENGAGED_SHARE_USUAL;
        Answer::Accepted(Reply::new(250, (2, 0, 0), "OK, queued"))
    }

    fn acquaintance(&mut self, ip: IpAddr, now_s: f64) -> &mut Acquaintance {
        let known = self.seen.entry(ip).or_insert_with(|| Acquaintance {
            reputation: REPUTATION_AT_FIRST_SIGHT,
            volume: 0.0,
            pressure: 0.0,
            pressure_at_s: now_s,
            block_until_s: 0.0,
            block_s: 0.0,
            day: (now_s / DAY_S) as i64,
            today: Day::default(),
            hour: (now_s / HOUR_S) as i64,
            arrived_this_hour: 0.0,
            connections: 0,
            domain: None,
            allowed: None,
        });
        if known.pressure > 0.0 {
            known.pressure *= 0.5f64.powf((now_s - known.pressure_at_s).max(0.0) / PRESSURE_HALF_LIFE_S);
        }
        known.pressure_at_s = now_s;
        for (domain, verdict, judged) in known.turn_pages(now_s) {
            let reputation = self.domains.entry(domain).or_insert(REPUTATION_AT_FIRST_SIGHT);
            *reputation = moved(*reputation, verdict, judged);
        }
        known
    }
}

/// The networks whose addresses are looked at together.
fn network(ip: IpAddr) -> [u8; 8] {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            [4, a, b, c, 0, 0, 0, 0]
        }
        IpAddr::V6(ip) => {
            let [a, b, c, d, e, f, g, h, ..] = ip.octets();
            [a, b, c, d, e, f, g, h]
        }
    }
}

impl Acquaintance {
    /// What the days that are over by now say of the domains whose mail came: how good it was, and how much.
    fn turn_pages(&mut self, now_s: f64) -> Vec<(u32, f64, f64)> {
        let hour = (now_s / HOUR_S) as i64;
        if hour != self.hour {
            self.hour = hour;
            self.arrived_this_hour = 0.0;
        }
        let day = (now_s / DAY_S) as i64;
        let mut told = Vec::new();
        while self.day < day {
            let today = std::mem::take(&mut self.today);
            if let (Some(domain), Some(verdict)) = (self.domain, today.verdict()) {
                told.push((domain, verdict, today.accepted + today.unknown));
            }
            self.close(today);
            self.allowed = None;
            self.day += 1;
        }
        told
    }

    fn block(&mut self, block_s: f64, now_s: f64) {
        self.block_s = (self.block_s * 2.0).clamp(block_s, BLOCK_LONGEST_S);
        self.block_until_s = now_s + self.block_s;
        self.pressure = 0.0;
        self.reputation *= REPUTATION_LOSS_BY_BLOCK;
        self.allowed = None;
    }

    /// Midnight: the day becomes memory, and silence lets the reputation fade to that of a stranger.
    fn close(&mut self, day: Day) {
        self.volume = if day.accepted > self.volume {
            day.accepted
        } else {
            day.accepted + (self.volume - day.accepted) * 0.5f64.powf(1.0 / VOLUME_HALF_LIFE_DAYS)
        };
        self.reputation = match day.verdict() {
            Some(verdict) => moved(self.reputation, verdict, day.accepted + day.unknown),
            None => {
                let above = self.reputation - REPUTATION_AT_FIRST_SIGHT;
                REPUTATION_AT_FIRST_SIGHT + above * 0.5f64.powf(1.0 / REPUTATION_HALF_LIFE_DAYS)
            }
        };
    }
}

/// So many of the first ones are deferred on average: the sum of `excess` up to there.
fn excesses(count: f64, allowed: f64) -> f64 {
    let over = (count - allowed).max(0.0);
    let half = 0.5 * allowed;
    if over <= half { over * over / allowed } else { half * half / allowed + (over - half) }
}

/// The chance to be deferred: none within the allowance, certain from one and a half times on.
fn excess(count: f64, allowed: f64) -> f64 {
    ((count - allowed) / (0.5 * allowed)).clamp(0.0, 1.0)
}

macro_rules! preset {
    ($name:literal, $first:literal, $max:literal, $growth:literal, $severity:literal, $conns:literal, $per:literal, $pressure:literal, $block_h:literal,
     $loop:literal,
     ($tc:literal, $te:expr, $tt:literal), ($bc:literal, $be:expr, $bt:literal)) => {
        Preset {
            name: $name,
            volume_first_day: $first,
            volume_max: $max,
            growth: $growth,
            severity: $severity,
            connections_max: $conns,
            messages_per_connection: $per,
            pressure_max: $pressure,
            block_s: $block_h * HOUR_S,
            has_loop: $loop,
            throttle: Words { code: $tc, enhanced: $te, text: $tt },
            block: Words { code: $bc, enhanced: $be, text: $bt },
        }
    };
}

/// The kinds of provider that most mail goes to, each in its own words.
#[must_use]
pub fn presets() -> Vec<Preset> {
    vec![
        preset!(
            "gmail-like",
            500.0,
            2e6,
            2.0,
            1.5,
            20,
            100,
            3.0,
            1.0,
            false,
            (
                421,
                (4, 7, 28),
                "Gmail has detected an unusual rate of mail originating from your IP address [{ip}]. To protect our users, mail sent from your IP address has been temporarily rate limited."
            ),
            (
                550,
                (5, 7, 1),
                "Our system has detected an unusual rate of unsolicited mail originating from your IP address [{ip}]."
            )
        ),
        preset!(
            "microsoft-like",
            200.0,
            1e6,
            1.5,
            2.5,
            10,
            50,
            0.5,
            4.0,
            true,
            (451, (4, 7, 650), "The mail server [{ip}] has been temporarily rate limited due to IP reputation. (S775)"),
            (
                550,
                (5, 7, 1),
                "Unfortunately, messages from [{ip}] weren't sent. Please contact your Internet service provider since part of their network is on our block list (S3150)."
            )
        ),
        preset!(
            "yahoo-like",
            300.0,
            1.5e6,
            1.7,
            2.0,
            15,
            20,
            2.0,
            2.0,
            true,
            (
                421,
                (4, 7, 0),
                "[TSS04] Messages from {ip} temporarily deferred due to unexpected volume or user complaints"
            ),
            (553, (5, 7, 2), "[TSS09] All messages from {ip} will be permanently deferred; Retrying will NOT succeed.")
        ),
        preset!(
            "apple-like",
            100.0,
            5e5,
            1.5,
            2.0,
            10,
            5,
            1.0,
            0.5,
            false,
            (451, (4, 7, 1), "Service unavailable - try again later"),
            (550, (5, 7, 1), "[CS01] Message rejected due to local policy.")
        ),
        preset!(
            "comcast-like",
            100.0,
            3e5,
            1.7,
            1.5,
            25,
            1000,
            2.0,
            2.0,
            true,
            (421, (4, 1, 0), "{ip} Throttled - try again later. RL000001"),
            (554, (5, 7, 1), "{ip} - BL000000 : blocked for spam patterns")
        ),
        preset!(
            "gmx-like",
            100.0,
            2e5,
            1.7,
            1.5,
            4,
            20,
            2.0,
            1.0,
            false,
            (421, (4, 7, 0), "Reject due to policy restrictions: Too many connections"),
            (554, (5, 7, 0), "Transaction failed. Reject due to policy restrictions.")
        ),
        preset!(
            "small-site",
            100.0,
            5e4,
            3.0,
            1.0,
            5,
            50,
            5.0,
            1.0,
            false,
            (450, (4, 2, 0), "Greylisted, please try again in 300 seconds"),
            (554, (5, 7, 1), "Service unavailable; client host [{ip}] blocked using a local list")
        ),
        preset!(
            "open",
            1e12,
            1e12,
            1e12,
            0.0,
            100,
            1000,
            1e12,
            0.0,
            true,
            (451, (4, 0, 0), "Try again"),
            (554, (5, 0, 0), "No")
        ),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::{Answer, DAY_S, Provider, presets};
    use std::net::IpAddr;

    fn provider(name: &str) -> Provider {
        Provider::new(presets().into_iter().find(|preset| preset.name == name).unwrap(), 1)
    }

    fn count_accepted(provider: &mut Provider, ip: IpAddr, messages: u32, from_s: f64, spread_s: f64) -> u32 {
        (0..messages)
            .filter(|n| {
                let now_s = from_s + spread_s * f64::from(*n) / f64::from(messages);
                matches!(provider.receive(ip, "ann", now_s), Answer::Accepted(_))
            })
            .count() as u32
    }

    #[test]
    fn a_cold_ip_that_stays_within_the_first_allowance_is_accepted() {
        let ip = "127.0.1.1".parse().unwrap();
        for preset in presets() {
            let mut provider = Provider::new(preset, 3);
            assert_eq!(count_accepted(&mut provider, ip, 96, 0.0, DAY_S), 96, "{}", provider.preset().name);
        }
    }

    #[test]
    fn a_cold_ip_that_bursts_is_throttled_in_the_providers_words_and_then_blocked() {
        let ip: IpAddr = "127.0.1.1".parse().unwrap();
        let mut provider = provider("microsoft-like");
        let answers: Vec<Answer> = (0..5_000).map(|n| provider.receive(ip, "ann", f64::from(n))).collect();
        let deferred = answers.iter().find(|answer| matches!(answer, Answer::Deferred(_))).unwrap();
        assert!(deferred.reply().text.contains("rate limited due to IP reputation"));
        assert!(answers.iter().any(|answer| matches!(answer, Answer::Blocked(reply) if reply.text.contains("S3150"))));
    }

    #[test]
    fn steady_growth_is_remembered_and_allowed() {
        let ip = "127.0.1.1".parse().unwrap();
        let mut provider = provider("gmail-like");
        let mut last = 0;
        for day in 0..20 {
            let offered = (300.0 * 1.1f64.powi(day)) as u32;
            last = count_accepted(&mut provider, ip, offered, f64::from(day) * DAY_S, DAY_S);
            assert_eq!(last, offered, "day {day}");
        }
        assert!(last > 1_500);
        // Ten times as much from one day to the next is not growth.
        let burst = count_accepted(&mut provider, ip, last * 10, 20.0 * DAY_S, DAY_S);
        assert!(burst < last * 4, "{burst}");
    }

    #[test]
    fn a_stranger_is_given_less_than_an_ip_that_is_known() {
        let [stranger, known]: [IpAddr; 2] = ["127.0.1.1".parse().unwrap(), "127.0.1.2".parse().unwrap()];
        let mut provider = provider("microsoft-like");
        provider.acquaint(known, 0.9, 10_000.0, 0.0);
        assert!(count_accepted(&mut provider, stranger, 5_000, 0.0, DAY_S) < 500);
        assert_eq!(count_accepted(&mut provider, known, 5_000, 0.0, DAY_S), 5_000);
    }

    #[test]
    fn mail_to_nobody_costs_reputation_and_silence_is_forgotten() {
        let ip: IpAddr = "127.0.1.1".parse().unwrap();
        let reputation = |provider: &Provider| provider.seen[&ip].reputation;
        let mut provider = provider("gmail-like");
        provider.acquaint(ip, 0.9, 10_000.0, 0.0);
        for n in 0..1_000 {
            let local_part = if n % 10 == 0 { "unknown-7" } else { "ann" };
            provider.receive(ip, local_part, f64::from(n));
        }
        provider.receive(ip, "ann", DAY_S);
        let after_a_bad_day = reputation(&provider);
        assert!((0.5..0.7).contains(&after_a_bad_day), "{after_a_bad_day}");
        provider.receive(ip, "ann", 200.0 * DAY_S);
        let after_a_pause = reputation(&provider);
        assert!((after_a_pause - super::REPUTATION_AT_FIRST_SIGHT).abs() < 0.01, "{after_a_pause}");
    }

    #[test]
    fn a_connection_carries_so_many_messages_and_no_more() {
        let provider = provider("apple-like");
        assert!(provider.begin(4).is_ok());
        assert_eq!(provider.begin(5).unwrap_err().code, 421);
    }

    #[test]
    fn connections_are_limited_and_given_back() {
        let ip = "127.0.1.1".parse().unwrap();
        let mut provider = provider("gmx-like");
        let mut open = 0;
        while provider.connect(ip, 0.0).is_ok() {
            open += 1;
        }
        assert!((1..=4).contains(&open));
        provider.disconnect(ip);
        assert!(provider.connect(ip, 0.0).is_ok());
    }

    #[test]
    fn an_unknown_mailbox_is_named() {
        let mut provider = provider("open");
        let answer = provider.receive("127.0.1.1".parse().unwrap(), "unknown-7", 0.0);
        assert!(matches!(answer, Answer::NoSuchMailbox(reply) if reply.code == 550));
    }
}
