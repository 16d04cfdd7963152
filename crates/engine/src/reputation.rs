//! How is an account, a domain, a pool or an IP doing? (R6.3)
//!
//! Judged by what became of its mail: on enough of it, and only as far as so many messages can say. Days are given by provider,
//! because some tell of complaints and some never do.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// As far as mail is looked back at.
pub const DAYS_LOOKED_AT: usize = 28;
/// Of so many messages at least is anything said (deliverability, 6.1).
pub const SENT_MIN: u64 = 1_000;
/// What stands for all mail of a sender: so many usual days, within these bounds.
const USUAL_DAYS: u64 = 10;
const VOLUME_MIN: u64 = 10_000;
const VOLUME_MAX: u64 = 1_000_000;
/// What is bad at once is seen in these, the present one included.
const RECENT_DAYS: usize = 2;
/// What is worse sooner still: who sends much would do much harm until yesterday's good mail is outweighed. Of bounces alone, because
/// complaints come later than the mail they are of.
const PRESENT_DAYS: usize = 1;
/// Nothing is done that is not surely over so much of the limit: three complaints of a thousand messages say little. Of a few days
/// even less, because every sender has many of those.
const SURELY: f64 = 0.5;
const SURELY_AT_ONCE: f64 = 1.0;
/// Fewer than this are chance, whatever share they are of.
const BOUNCES_MIN: u64 = 10;
const COMPLAINTS_MIN: u64 = 3;
/// A review is over when the share is under so much of what began it, in hundredths.
const HEALED_PERCENT: u64 = 80;
/// What was is worth half as much to the score after so many days.
const HALF_LIFE_DAYS: f64 = 3.0;
/// Standard deviations: 95 %, and 99.9 % where many senders are looked at again and again, of whom one is always unlucky.
const CERTAIN: f64 = 1.96;
const VERY_CERTAIN: f64 = 3.29;
/// A score needs so many messages, weighed like that.
const SCORED_MIN: f64 = 100.0;

/// What became of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcomes {
    pub delivered: u64,
    pub deferred: u64,
    /// The address does not exist.
    pub hard: u64,
    /// Refused for what says nothing against the sender.
    pub soft: u64,
    /// Refused because of the sender.
    pub blocked: u64,
    pub complained: u64,
}

impl Outcomes {
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.delivered + self.hard + self.soft + self.blocked
    }

    pub fn add(&mut self, other: &Outcomes) {
        self.delivered += other.delivered;
        self.deferred += other.deferred;
        self.hard += other.hard;
        self.soft += other.soft;
        self.blocked += other.blocked;
        self.complained += other.complained;
    }
}

/// One day, by provider.
pub type Day = BTreeMap<Arc<str>, Outcomes>;

/// So many of so many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Share {
    pub count: f64,
    pub of: f64,
}

impl Share {
    fn new(count: u64, of: u64) -> Share {
        Share { count: count as f64, of: of as f64 }
    }

    #[must_use]
    pub fn rate(self) -> f64 {
        if self.of > 0.0 { (self.count / self.of).min(1.0) } else { 0.0 }
    }

    /// Between these it is, with 95 % certainty.
    #[must_use]
    pub fn between(self) -> (f64, f64) {
        if self.of <= 0.0 {
            return (0.0, 1.0);
        }
        // Wilson's limit. Its lower one is too sure of few: one complaint of 65 would surely be more than any limit.
        let (n, z2, p) = (self.of, CERTAIN * CERTAIN, self.rate());
        let (middle, below) = (p + z2 / (2.0 * n), 1.0 + z2 / n);
        let spread = (z2 * (p * (1.0 - p) / n + z2 / (4.0 * n * n))).sqrt();
        (self.at_least(CERTAIN), ((middle + spread) / below).min(1.0))
    }

    /// So much it is at least, as sure as so many standard deviations (Byar's approximation of the exact limit).
    fn at_least(self, deviations: f64) -> f64 {
        if self.count <= 0.0 || self.of <= 0.0 {
            return 0.0;
        }
        let part = 1.0 - 1.0 / (9.0 * self.count) - deviations / (3.0 * self.count.sqrt());
        self.rate() * part.max(0.0).powi(3)
    }
}

/// From which shares on something is done, in ten thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    pub bounce_review: u64,
    pub bounce_pause: u64,
    pub complaint_review: u64,
    pub complaint_pause: u64,
}

impl Default for Thresholds {
    fn default() -> Thresholds {
        Thresholds { bounce_review: 500, bounce_pause: 1_000, complaint_review: 10, complaint_pause: 50 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    Bounces,
    Complaints,
}

impl Measure {
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Measure::Bounces => "bounces",
            Measure::Complaints => "complaints",
        }
    }

    /// How it is mended, in whole sentences.
    #[must_use]
    pub fn mend(self) -> &'static str {
        match self {
            Measure::Bounces => {
                "Stop writing to addresses that do not exist: take them off your lists, confirm new addresses before you write to \
                 them, and find out which list they came from."
            }
            Measure::Complaints => {
                "Write only to people who asked for it, make leaving easy, and stop the mailing that people complained of."
            }
        }
    }
}

/// How far it has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    #[default]
    Good,
    /// A warning.
    Review,
    /// It must not go on.
    Pause,
}

/// A share that is too high, and the limit it is over.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Concern {
    pub measure: Measure,
    pub level: Level,
    pub share: Share,
    /// In ten thousandths.
    pub limit: u64,
    /// Of how many days, this one included.
    pub days: u32,
}

impl Concern {
    /// Whether the share is surely over the limit, and no chance.
    #[must_use]
    pub fn is_sure(&self) -> bool {
        self.share.at_least(VERY_CERTAIN) * 10_000.0 >= self.limit as f64
    }

    /// A sentence without its full stop.
    #[must_use]
    pub fn words(&self) -> String {
        let Concern { measure, share, limit, days, .. } = self;
        let days = if *days == 1 { "one day".to_owned() } else { format!("{days} days") };
        let (what, of) = match measure {
            Measure::Bounces => ("went to addresses that do not exist", "messages"),
            Measure::Complaints => ("were complained of", "messages to providers that tell of complaints"),
        };
        let (low, high) = share.between();
        format!(
            "{} of {} {of} in {days} {what}: {}, surely between {} and {}; the limit is {}",
            share.count,
            share.of,
            percent(share.rate()),
            percent(low),
            percent(high),
            percent(*limit as f64 / 10_000.0)
        )
    }
}

#[must_use]
pub fn percent(share: f64) -> String {
    let hundredths = (share * 10_000.0).round() / 100.0;
    format!("{hundredths} %")
}

/// What a score is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    HardBounces,
    Blocks,
    Complaints,
    Deferrals,
    Traps,
    Listings,
}

/// With limit and weight (deliverability, 6.2): at the limit nothing is left of the score.
const PARTS: [(Part, f64, f64); 6] = [
    (Part::HardBounces, 0.05, 1.0),
    (Part::Blocks, 0.02, 1.5),
    (Part::Complaints, 0.003, 2.0),
    (Part::Deferrals, 0.5, 0.5),
    (Part::Traps, 0.001, 1.0),
    (Part::Listings, 1.0, 2.0),
];

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Component {
    pub part: Part,
    pub share: Share,
    pub limit: f64,
    /// What it leaves of the score, from 0 to 1.
    pub leaves: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Band {
    Poor,
    Degraded,
    Watch,
    Healthy,
}

/// From 0 to 100, and what it can be as far as so many messages say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    pub value: u8,
    pub low: u8,
    pub high: u8,
    pub band: Band,
    pub components: Vec<Component>,
}

impl Score {
    /// So good it is at most, and no chance: for what must not befall one of many good senders.
    #[must_use]
    pub fn surely_at_most(&self) -> u8 {
        let left = self.components.iter().zip(PARTS).map(|(component, (part, limit, weight))| {
            let least = match part {
                Part::Listings => component.share.rate(),
                _ => component.share.at_least(VERY_CERTAIN),
            };
            leaves(least, limit, weight)
        });
        points(left.product())
    }
}

/// How somebody or something is doing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reputation {
    /// Of the representative volume.
    pub sent: u64,
    pub days: u32,
    pub bounces: Share,
    pub complaints: Share,
    /// None: too little was sent to say.
    pub score: Option<Score>,
    /// The worst of each measure; empty where nothing is wrong, or too little was sent.
    pub concerns: Vec<Concern>,
}

impl Reputation {
    #[must_use]
    pub fn is_enough(&self) -> bool {
        self.sent >= SENT_MIN
    }

    #[must_use]
    pub fn level(&self) -> Level {
        self.concerns.iter().map(|concern| concern.level).max().unwrap_or_default()
    }
}

/// What is known besides the mail itself.
#[derive(Clone, Copy)]
pub struct Beside<'a> {
    /// Whether a provider tells of complaints. One that did is taken for one that does.
    pub tells: &'a (dyn Fn(&str) -> bool + Sync),
    /// Whether a block list that matters has it.
    pub is_listed: bool,
    /// Mail to addresses that nobody ever had, as providers told: so many of so many.
    pub traps: Share,
}

/// `days` are the last ones, oldest first; the last is the present one.
#[must_use]
pub fn measure(days: &[Day], beside: Beside<'_>, thresholds: Thresholds) -> Reputation {
    let days = &days[days.len().saturating_sub(DAYS_LOOKED_AT)..];
    let all = window(days);
    let tells =
        |provider: &str| (beside.tells)(provider) || all.get(provider).is_some_and(|outcomes| outcomes.complained > 0);
    let looked_at = representative(days);
    let whole = Figures::of(&days[days.len() - looked_at..], &tells);
    let last = |count: usize| Figures::of(&days[days.len().saturating_sub(count)..], &tells);
    let (present, recent) = (last(PRESENT_DAYS), last(RECENT_DAYS));
    let mut concerns = Vec::new();
    for (measure, at_once) in [(Measure::Bounces, &[present, recent][..]), (Measure::Complaints, &[recent])] {
        let at_once = at_once.iter().filter_map(|figures| figures.concern(measure, thresholds, SURELY_AT_ONCE));
        let found = at_once.chain(whole.concern(measure, thresholds, SURELY));
        concerns.extend(found.max_by_key(|concern| concern.level));
    }
    Reputation {
        sent: whole.sent,
        days: u32::try_from(looked_at).unwrap_or(u32::MAX),
        bounces: whole.bounces,
        complaints: whole.complaints,
        score: score(days, &tells, beside),
        concerns,
    }
}

/// Whether what is under review has healed: the share is well under what began it, or too little is sent to be bad.
#[must_use]
pub fn is_healed(now: &Reputation, measure: Measure, thresholds: Thresholds) -> bool {
    let (share, limit) = match measure {
        Measure::Bounces => (now.bounces, thresholds.bounce_review),
        Measure::Complaints => (now.complaints, thresholds.complaint_review),
    };
    let is_of_concern = now.concerns.iter().any(|concern| concern.measure == measure);
    !is_of_concern && share.rate() * 10_000.0 * 100.0 < (limit * HEALED_PERCENT) as f64
}

fn window(days: &[Day]) -> Day {
    let mut all = Day::new();
    for (provider, outcomes) in days.iter().flatten() {
        all.entry(Arc::clone(provider)).or_default().add(outcomes);
    }
    all
}

fn sent_on(day: &Day) -> u64 {
    day.values().map(Outcomes::sent).sum()
}

/// How many of the days, from the last one backwards, stand for all.
fn representative(days: &[Day]) -> usize {
    let mut volumes: Vec<u64> = days.iter().map(sent_on).filter(|sent| *sent > 0).collect();
    volumes.sort_unstable();
    let usual = volumes.get(volumes.len() / 2).copied().unwrap_or(0);
    let wanted = (usual * USUAL_DAYS).clamp(VOLUME_MIN, VOLUME_MAX);
    let mut sent = 0;
    for (back, day) in days.iter().rev().enumerate() {
        sent += sent_on(day);
        if sent >= wanted {
            return back + 1;
        }
    }
    // Since it began.
    days.len() - days.iter().take_while(|day| sent_on(day) == 0).count()
}

#[derive(Clone, Copy)]
struct Figures {
    days: u32,
    sent: u64,
    bounces: Share,
    complaints: Share,
}

impl Figures {
    fn of(days: &[Day], tells: &dyn Fn(&str) -> bool) -> Figures {
        let (mut sum, mut telling) = (Outcomes::default(), Outcomes::default());
        for (provider, outcomes) in &window(days) {
            sum.add(outcomes);
            if tells(provider) {
                telling.add(outcomes);
            }
        }
        Figures {
            days: u32::try_from(days.len()).unwrap_or(u32::MAX),
            sent: sum.sent(),
            bounces: Share::new(sum.hard, sum.sent()),
            complaints: Share::new(telling.complained, telling.delivered),
        }
    }

    /// It must be over a limit, and surely over such a part of it.
    fn concern(&self, measure: Measure, thresholds: Thresholds, surely: f64) -> Option<Concern> {
        let (share, review, pause, least) = match measure {
            Measure::Bounces => (self.bounces, thresholds.bounce_review, thresholds.bounce_pause, BOUNCES_MIN),
            Measure::Complaints => {
                (self.complaints, thresholds.complaint_review, thresholds.complaint_pause, COMPLAINTS_MIN)
            }
        };
        if self.sent < SENT_MIN || share.count < least as f64 {
            return None;
        }
        let in_parts = |share: f64| share * 10_000.0;
        let (rate, sure) = (in_parts(share.rate()), in_parts(share.between().0));
        let is_over = |limit: u64| rate >= limit as f64 && sure >= limit as f64 * surely;
        let (level, limit) = match (is_over(pause.max(review)), is_over(review)) {
            (true, _) => (Level::Pause, pause.max(review)),
            (false, true) => (Level::Review, review),
            (false, false) => return None,
        };
        Some(Concern { measure, level, share, limit, days: self.days })
    }
}

fn score(days: &[Day], tells: &dyn Fn(&str) -> bool, beside: Beside<'_>) -> Option<Score> {
    // What was is worth less; the same sums, weighed.
    let mut sums = [(0.0, 0.0); 4];
    for (age, day) in days.iter().rev().enumerate() {
        let worth = (-(age as f64) / HALF_LIFE_DAYS).exp2();
        for (provider, outcomes) in day {
            let (sent, delivered) = (outcomes.sent() as f64, outcomes.delivered as f64);
            let telling = if tells(provider) { delivered } else { 0.0 };
            let deferred = outcomes.deferred as f64;
            let counts = [
                (outcomes.hard as f64, sent),
                (outcomes.blocked as f64, sent),
                (outcomes.complained as f64, telling),
                (deferred, sent + deferred),
            ];
            for (sum, (count, of)) in sums.iter_mut().zip(counts) {
                sum.0 += count * worth;
                sum.1 += of * worth;
            }
        }
    }
    if sums[0].1 < SCORED_MIN {
        return None;
    }
    let listed = Share { count: f64::from(u8::from(beside.is_listed)), of: 1.0 };
    let [hard, blocked, complained, deferred] = sums.map(|(count, of)| Share { count, of });
    let shares = [hard, blocked, complained, deferred, beside.traps, listed];
    let mut score = Score { value: 0, low: 0, high: 0, band: Band::Poor, components: Vec::new() };
    let (mut value, mut low, mut high) = (1.0, 1.0, 1.0);
    for ((part, limit, weight), share) in PARTS.into_iter().zip(shares) {
        let left = leaves(share.rate(), limit, weight);
        // A listing is no estimate, and what nobody tells of is none either.
        let (least, most) = match part {
            Part::Listings => (share.rate(), share.rate()),
            _ if share.of <= 0.0 => (0.0, 0.0),
            _ => share.between(),
        };
        value *= left;
        high *= leaves(least, limit, weight);
        low *= leaves(most, limit, weight);
        score.components.push(Component { part, share, limit, leaves: left });
    }
    (score.value, score.low, score.high) = (points(value), points(low), points(high));
    score.band = band(score.value);
    Some(score)
}

/// What such a share of something leaves of the score, from 0 to 1.
fn leaves(rate: f64, limit: f64, weight: f64) -> f64 {
    (1.0 - rate / limit).clamp(0.0, 1.0).powf(weight)
}

fn points(part: f64) -> u8 {
    (part * 100.0).round() as u8
}

fn band(score: u8) -> Band {
    match score {
        80.. => Band::Healthy,
        60.. => Band::Watch,
        40.. => Band::Degraded,
        _ => Band::Poor,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A failing unwrap is a failing test.
    use super::{Band, Beside, Day, Level, Measure, Outcomes, Part, Reputation, Share, Thresholds, is_healed, measure};
    use std::sync::Arc;

    fn day(sent: u64, hard: u64, complained: u64) -> Day {
        // Of two providers, one tells of complaints.
        let half = Outcomes { delivered: (sent - hard) / 2, hard: hard / 2, ..Outcomes::default() };
        let telling = Outcomes { hard: hard - hard / 2, complained, ..half };
        Day::from([(Arc::from("google"), half), (Arc::from("yahoo"), telling)])
    }

    fn beside(tells: &(dyn Fn(&str) -> bool + Sync)) -> Beside<'_> {
        Beside { tells, is_listed: false, traps: Share::default() }
    }

    fn measured(days: &[Day]) -> Reputation {
        measure(days, beside(&|provider| provider == "yahoo"), Thresholds::default())
    }

    // R6.3: published thresholds.
    #[test]
    fn spec_r6_3_a_review_warns_and_a_pause_stops() {
        assert_eq!(measured(&vec![day(10_000, 100, 2); 10]).level(), Level::Good);
        assert_eq!(measured(&vec![day(10_000, 600, 2); 10]).level(), Level::Review);
        let bad = measured(&vec![day(10_000, 1_200, 2); 10]);
        assert_eq!((bad.level(), bad.concerns[0].measure), (Level::Pause, Measure::Bounces));
        assert!(bad.concerns[0].words().contains("12 %"), "{}", bad.concerns[0].words());
        // 10 of 5,000 are 0.2 %: only who tells of complaints is counted.
        let complained = measured(&vec![day(10_000, 0, 10); 10]);
        assert_eq!((complained.level(), complained.concerns[0].measure), (Level::Review, Measure::Complaints));
        assert_eq!(measured(&vec![day(10_000, 0, 30); 10]).level(), Level::Pause);
    }

    // R6.3: representative volume.
    #[test]
    fn spec_r6_3_little_says_nothing() {
        let few = measured(&[day(900, 300, 20)]);
        assert!(!few.is_enough() && few.level() == Level::Good && few.concerns.is_empty());
        // Three complaints of 500 are over the limit and may be chance.
        assert_eq!(measured(&[day(1_000, 0, 3)]).level(), Level::Review);
        // Ten usual days stand for all: what was before does not.
        let mut days = vec![day(10_000, 3_000, 0); 10];
        days.extend(vec![day(10_000, 100, 0); 12]);
        let now = measured(&days);
        assert_eq!((now.sent, now.days, now.level()), (100_000, 10, Level::Good));
        // A small sender is looked at for longer.
        assert_eq!(measured(&vec![day(100, 1, 0); 40]).days, 28);
        // A new one for as long as it is there.
        let mut days = vec![Day::new(); 25];
        days.extend(vec![day(1_000, 1, 0); 3]);
        assert_eq!((measured(&days).days, measured(&[]).days), (3, 0));
    }

    // R6.4: chance puts nobody among the bad ones, and what is bad is sure soon.
    #[test]
    fn few_are_chance_and_many_are_sure() {
        let surely = |days: &[Day]| measured(days).score.unwrap().surely_at_most();
        // One complaint of 65, or three of 500, are over the limit of the score and still say little.
        for (sent, complained) in [(130, 1), (1_000, 3)] {
            let unlucky = [day(sent, 0, complained)];
            assert_eq!(measured(&unlucky).score.unwrap().value, 0);
            assert!(surely(&unlucky) > 70, "{}", surely(&unlucky));
        }
        assert!(surely(&[day(500, 100, 0)]) == 0 && surely(&vec![day(10_000, 600, 0); 3]) == 0);
        let is_sure = |days: &[Day]| measured(days).concerns[0].is_sure();
        assert!(!is_sure(&[day(1_000, 0, 3)]) && is_sure(&vec![day(10_000, 600, 0); 3]));
        // Of two days more is asked: four complaints of 1,000 come to every small sender some day.
        let mut days = vec![day(2_000, 5, 0); 10];
        days.push(day(1_400, 5, 4));
        assert_eq!(measured(&days).level(), Level::Good);
    }

    // R6.4: pause before harm.
    #[test]
    fn what_is_bad_today_is_not_outweighed_by_yesterday() {
        let mut days = vec![day(40_000, 200, 0); 20];
        days.push(day(2_000, 400, 0));
        let gone_bad = measured(&days);
        assert_eq!((gone_bad.level(), gone_bad.concerns[0].days), (Level::Pause, 1));
        assert!(gone_bad.concerns[0].words().contains("in one day"), "{}", gone_bad.concerns[0].words());
    }

    // R6.4: pause before harm.
    #[test]
    fn what_is_bad_at_once_is_seen_at_once() {
        let mut days = vec![day(10_000, 50, 0); 20];
        assert_eq!(measured(&days).level(), Level::Good);
        days.push(day(8_000, 4_000, 0));
        let gone_bad = measured(&days);
        assert_eq!((gone_bad.level(), gone_bad.concerns[0].days), (Level::Pause, 2));
    }

    #[test]
    fn a_review_ends_well_under_what_began_it() {
        let thresholds = Thresholds::default();
        let healed = |hard| is_healed(&measured(&vec![day(10_000, hard, 0); 10]), Measure::Bounces, thresholds);
        assert_eq!([300, 390, 420, 480, 510].map(healed), [true, true, false, false, false]);
    }

    #[test]
    fn a_score_has_named_parts_and_says_how_sure_it_is() {
        let good = measured(&vec![day(10_000, 50, 1); 10]).score.unwrap();
        assert!(good.value >= 75 && good.low <= good.value && good.value <= good.high, "{good:?}");
        assert_eq!(good.components.iter().map(|component| component.part).next(), Some(Part::HardBounces));
        let little = measured(&vec![day(200, 1, 0); 10]).score.unwrap();
        assert!(little.high - little.low > good.high - good.low, "{little:?}");
        assert_eq!(measured(&[day(90, 0, 0)]).score, None);
        let tells = |provider: &str| provider == "yahoo";
        let listed = Beside { is_listed: true, ..beside(&tells) };
        let listed = measure(&vec![day(10_000, 0, 0); 3], listed, Thresholds::default()).score.unwrap();
        assert_eq!((listed.value, listed.band), (0, Band::Poor));
        assert_eq!(measured(&vec![day(10_000, 0, 0); 3]).score.unwrap().value, 100);
    }

    // A provider that told of a complaint once is one that tells.
    #[test]
    fn whoever_complains_counts() {
        let small = Outcomes { delivered: 2_000, complained: 20, ..Outcomes::default() };
        let days = vec![Day::from([(Arc::from("small.example"), small)])];
        let found = measured(&days);
        assert_eq!((found.complaints.of, found.level()), (2_000.0, Level::Pause));
    }
}
