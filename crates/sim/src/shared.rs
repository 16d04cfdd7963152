//! What does one bad tenant cost the others of a shared pool, until it is stopped? (R6.4)
//!
//! Tenants of different sizes send by the same IPs. What becomes of their mail is counted as production counts it, by day and provider,
//! and judged by the same decisions: `engine::reputation` says how each is doing, `engine::tier` where it belongs, and who is over a
//! limit sends nothing more.

use crate::dice::Dice;
use crate::provider::{Provider, Quality, presets};
use crate::rehearsal::complaint_minutes;
use crate::sender::{Change, Sender};
use engine::reputation::{Beside, Day, Level, Outcomes, Reputation, Share, Thresholds, measure};
use engine::tier::{self, Decided, TIERS, Tier, decide};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

const MINUTES_A_DAY: u64 = 1_440;
/// The pool has been there for as long as figures are looked at.
const BEFORE_DAYS: u64 = 28;
const AFTER_DAYS: u64 = 7;
const TENANTS: usize = 50;
/// Nothing is new of who is good: this is often enough before anything happens.
const JUDGED_BEFORE_MINUTES: u64 = 360;
const IPS_A_POOL: u8 = 8;
/// Messages under way to a provider when it says the first no.
const IN_FLIGHT: u64 = 20;
/// To providers everybody who shares the IPs is one: what the pool's mail is like.
const DOMAIN: u32 = 1;
/// Where mail goes, in hundredths.
const MIX: [(&str, f64); 4] =
    [("gmail-like", 48.0), ("microsoft-like", 25.0), ("yahoo-like", 17.0), ("comcast-like", 10.0)];

/// Which IPs senders share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pools {
    /// One pool, whatever the tier: only a pause parts a bad tenant from the others.
    One,
    /// Each tier has its own.
    ByTier,
}

/// Whose mail is bad.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Culprit {
    /// A known tenant with so much of all mail, from a day on.
    GoesBad { share: f64 },
    /// Somebody who begins on that day, with so many messages a day.
    IsNew { per_day: f64 },
}

#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub seed: u64,
    pub pools: Pools,
    pub culprit: Culprit,
    pub quality: Quality,
    /// How often tenants are judged. Production does it every five minutes.
    pub judged_minutes: u64,
}

/// How it went, in hours from the culprit's first bad message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    pub reviewed_after: Option<u64>,
    pub penalty_after: Option<u64>,
    pub paused_after: Option<u64>,
    /// What it sent meanwhile.
    pub sent_bad: u64,
    /// The score of the pool that the known tenants share: on the evening before, and the worst since.
    pub before: u8,
    pub worst: u8,
    /// The worst of the pool that new tenants share, where they have one.
    pub worst_of_new: Option<u8>,
    /// Of the good tenants, how many were ever paused, in penalty, under review.
    pub good_paused: usize,
    pub good_in_penalty: usize,
    pub good_reviewed: usize,
}

impl Outcome {
    #[must_use]
    pub fn fall(&self) -> u8 {
        self.before.saturating_sub(self.worst)
    }
}

struct Tenant {
    sender: Sender,
    tier: Tier,
    begins: u64,
    well_days: u32,
    well_day: u64,
    is_paused: bool,
    was_reviewed: bool,
    was_in_penalty: bool,
    days: Vec<Day>,
    /// Deferred, by provider.
    waiting: [u64; MIX.len()],
}

struct Complaints {
    tenant: usize,
    pool: usize,
    site: usize,
    count: u64,
}

struct Run {
    setting: Setting,
    dice: Dice,
    names: [Arc<str>; MIX.len()],
    tells: [bool; MIX.len()],
    sites: Vec<Provider>,
    tenants: Vec<Tenant>,
    /// One for each tier, in their order.
    pools: Vec<Vec<Day>>,
    /// By the minute in which they come.
    complaints: BTreeMap<u64, Vec<Complaints>>,
}

/// Everybody who is in `setting` for a week after the day on which it becomes bad.
#[must_use]
pub fn play(setting: Setting) -> Outcome {
    let mut run = Run::new(setting);
    let mut outcome = Outcome { worst: 100, ..Outcome::default() };
    let bad_from = BEFORE_DAYS * MINUTES_A_DAY;
    let mut minute = 0;
    while minute < (BEFORE_DAYS + AFTER_DAYS) * MINUTES_A_DAY {
        let step = if minute < bad_from { JUDGED_BEFORE_MINUTES } else { setting.judged_minutes };
        run.send(minute, step);
        minute += step;
        // The last minute that is over: a day ends with its own figures.
        let now = minute - 1;
        run.hear_complaints(now);
        run.judge(now);
        let score = run.score(Tier::Standard);
        if minute <= bad_from {
            outcome.before = score;
            continue;
        }
        outcome.worst = outcome.worst.min(score);
        if setting.pools == Pools::ByTier && matches!(setting.culprit, Culprit::IsNew { .. }) {
            outcome.worst_of_new = Some(outcome.worst_of_new.unwrap_or(100).min(run.score(Tier::Probation)));
        }
        let culprit = &run.tenants[0];
        let hours = (minute - bad_from).div_ceil(60);
        for (is, after) in [
            (culprit.was_reviewed, &mut outcome.reviewed_after),
            (culprit.was_in_penalty, &mut outcome.penalty_after),
            (culprit.is_paused, &mut outcome.paused_after),
        ] {
            if is && after.is_none() {
                *after = Some(hours);
            }
        }
    }
    outcome.sent_bad =
        run.tenants[0].days[BEFORE_DAYS as usize..].iter().flat_map(Day::values).map(Outcomes::sent).sum();
    let good = |is: fn(&Tenant) -> bool| run.tenants[1..].iter().filter(|tenant| is(tenant)).count();
    outcome.good_paused = good(|tenant| tenant.is_paused);
    outcome.good_in_penalty = good(|tenant| tenant.was_in_penalty);
    outcome.good_reviewed = good(|tenant| tenant.was_reviewed);
    outcome
}

impl Run {
    fn new(setting: Setting) -> Run {
        let mut dice = Dice::new(setting.seed);
        // A thousand to twelve thousand a day, most of them small; lists as well kept as those of companies that ask first.
        let mut tenants: Vec<Tenant> = (0..TENANTS).map(|_| Tenant::good(&mut dice)).collect();
        let others: f64 = tenants[1..].iter().map(|tenant| tenant.sender.per_day).sum();
        let culprit = &mut tenants[0];
        let goes_bad = |per_day| vec![Change { day: BEFORE_DAYS as u32, per_day, quality: setting.quality }];
        match setting.culprit {
            Culprit::GoesBad { share } => {
                culprit.sender.per_day = others * share / (1.0 - share);
                culprit.sender.changes = goes_bad(culprit.sender.per_day);
            }
            Culprit::IsNew { per_day } => {
                (culprit.tier, culprit.begins) = (Tier::Probation, BEFORE_DAYS);
                culprit.sender.per_day = 0.0;
                culprit.sender.changes = goes_bad(per_day);
                // Others are new, too.
                for newcomer in &mut tenants[1..5] {
                    (newcomer.tier, newcomer.begins) = (Tier::Probation, BEFORE_DAYS - 7);
                    let (per_day, quality) = (newcomer.sender.per_day, newcomer.sender.quality);
                    newcomer.sender.per_day = 0.0;
                    newcomer.sender.changes = vec![Change { day: BEFORE_DAYS as u32 - 7, per_day, quality }];
                }
            }
        }
        let known = |(at, (name, _)): (usize, &(&str, f64))| {
            let preset = presets().into_iter().find(|preset| preset.name == *name)?;
            let mut site =
                Provider::new(preset.varied(0.3, setting.seed ^ at as u64), setting.seed.wrapping_add(at as u64));
            site.introduce(DOMAIN, 0.9);
            for ip in (0..TIERS.len()).flat_map(ips) {
                site.acquaint(ip, 0.9, others, 0.0);
            }
            Some(site)
        };
        let sites: Vec<Provider> = MIX.iter().enumerate().filter_map(known).collect();
        Run {
            setting,
            dice,
            names: MIX.map(|(name, _)| Arc::from(name)),
            tells: std::array::from_fn(|at| sites[at].preset().has_loop),
            sites,
            tenants,
            pools: vec![Vec::new(); TIERS.len()],
            complaints: BTreeMap::new(),
        }
    }

    fn pool_of(&self, tier: Tier) -> usize {
        match self.setting.pools {
            Pools::One => Tier::Standard as usize,
            Pools::ByTier => tier as usize,
        }
    }

    /// What all of them send within so many minutes.
    fn send(&mut self, minute: u64, minutes: u64) {
        let day = (minute / MINUTES_A_DAY) as usize;
        let begin_all = |days: &mut Vec<Day>| days.resize_with(day + 1, Day::new);
        self.tenants.iter_mut().for_each(|tenant| begin_all(&mut tenant.days));
        self.pools.iter_mut().for_each(begin_all);
        for at in 0..self.tenants.len() {
            let pool = self.pool_of(self.tenants[at].tier);
            let tenant = &mut self.tenants[at];
            if tenant.is_paused {
                continue;
            }
            let quality = tenant.sender.on(day as u64).1;
            let expected: f64 = (minute..minute + minutes).map(|minute| tenant.sender.rate(minute)).sum();
            for (site, (_, percent)) in MIX.into_iter().enumerate() {
                let new = self.dice.poisson(expected * percent / 100.0);
                let offered = new + std::mem::take(&mut tenant.waiting[site]);
                let ip = ips(pool)
                    .nth(self.dice.below(IPS_A_POOL.into()) as usize)
                    .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
                let now_s = (minute * 60) as f64;
                let batch = self.sites[site].offer(ip, DOMAIN, offered, &quality, IN_FLIGHT.max(offered / 10), now_s);
                tenant.waiting[site] = offered - batch.accepted - batch.unknown - batch.blocked;
                let outcomes = Outcomes {
                    delivered: batch.accepted,
                    deferred: batch.deferred,
                    hard: batch.unknown,
                    blocked: batch.blocked,
                    ..Outcomes::default()
                };
                for days in [&mut tenant.days, &mut self.pools[pool]] {
                    days[day].entry(Arc::clone(&self.names[site])).or_default().add(&outcomes);
                }
                if self.tells[site] {
                    for _ in 0..batch.complaints {
                        // Within the step, the mail came at any minute.
                        let delivered = minute + self.dice.below(minutes);
                        let comes = delivered + complaint_minutes(&mut self.dice);
                        let told = Complaints { tenant: at, pool, site, count: 1 };
                        self.complaints.entry(comes).or_default().push(told);
                    }
                }
            }
        }
    }

    /// They count on the day on which they come, with the pool that the mail left by.
    fn hear_complaints(&mut self, now: u64) {
        let day = (now / MINUTES_A_DAY) as usize;
        let later = self.complaints.split_off(&(now + 1));
        for told in std::mem::replace(&mut self.complaints, later).into_values().flatten() {
            let outcomes = Outcomes { complained: told.count, ..Outcomes::default() };
            for days in [&mut self.tenants[told.tenant].days, &mut self.pools[told.pool]] {
                days[day].entry(Arc::clone(&self.names[told.site])).or_default().add(&outcomes);
            }
        }
    }

    fn measured(&self, days: &[Day]) -> Reputation {
        let tells =
            |provider: &str| self.names.iter().zip(self.tells).any(|(name, tells)| **name == *provider && tells);
        let beside = Beside { tells: &tells, is_listed: false, traps: Share::default() };
        measure(days, beside, Thresholds::default())
    }

    /// Of an untouched pool there is nothing to say against.
    fn score(&self, tier: Tier) -> u8 {
        self.measured(&self.pools[self.pool_of(tier)]).score.map_or(100, |score| score.value)
    }

    /// As the control plane does it: who is over a limit stops, everybody else goes where it belongs.
    fn judge(&mut self, now: u64) {
        let day = now / MINUTES_A_DAY;
        for at in 0..self.tenants.len() {
            let tenant = &self.tenants[at];
            if tenant.is_paused || tenant.begins > day {
                continue;
            }
            let reputation = self.measured(&tenant.days);
            let days = if tenant.begins == 0 { tier::NEW_DAYS.max(100) } else { (day - tenant.begins) as u32 };
            let sent = tenant.days.iter().flat_map(Day::values).map(Outcomes::sent).sum();
            let sender =
                tier::Sender { tier: tenant.tier, sent, days, reputation: &reputation, well_days: tenant.well_days };
            let Decided { tier, does_well, .. } = decide(sender);
            let tenant = &mut self.tenants[at];
            tenant.is_paused = reputation.level() == Level::Pause;
            tenant.was_reviewed |= reputation.level() >= Level::Review;
            tenant.was_in_penalty |= tier == Tier::Penalty;
            if tier != tenant.tier || !does_well {
                tenant.well_days = 0;
            } else if tenant.well_day < day {
                (tenant.well_days, tenant.well_day) = (tenant.well_days + 1, day);
            }
            tenant.tier = tier;
        }
    }
}

impl Tenant {
    fn good(dice: &mut Dice) -> Tenant {
        let per_day = 1_000.0 * (12.0f64.ln() * dice.share()).exp();
        let quality = Quality {
            unknown: 0.001 + 0.011 * dice.share(),
            complaints: 0.000_05 + 0.000_35 * dice.share(),
            traps: 0.0,
            engaged: 0.2,
        };
        Tenant {
            sender: Sender { quality, ..Sender::good(per_day) },
            tier: Tier::Standard,
            begins: 0,
            well_days: 0,
            well_day: 0,
            is_paused: false,
            was_reviewed: false,
            was_in_penalty: false,
            days: Vec::new(),
            waiting: [0; MIX.len()],
        }
    }
}

/// Each pool's are in a network of their own.
fn ips(pool: usize) -> impl Iterator<Item = IpAddr> {
    (1..=IPS_A_POOL).map(move |host| IpAddr::V4(Ipv4Addr::new(192, 0, pool as u8, host)))
}
