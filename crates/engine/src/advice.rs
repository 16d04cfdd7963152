//! Shared IPs, one of one's own, several pools, or a managed one: which, why, and at what cost a thousand? (R8.1)
//!
//! What speaks for dedicated IPs is volume, mail that must arrive, an audit; what speaks against them weighs more, because an IP that is
//! sent from too little, in bursts or badly is worse than shared ones. Each reason is told with its figure, and so is what would change
//! the answer.

use crate::charge::{Cents, Item, Prices, Rate};
use crate::fit::{BOUNCES_POOR, COMPLAINTS_POOR, NEW_DAYS, PER_MONTH_ADVISED, Point};
use crate::reputation::{Reputation, percent};
use crate::snapshot::Plan;
use serde::{Deserialize, Serialize};

/// Below so many a month, shared IPs; from so many on, dedicated ones; between them it depends.
pub const SHARED_BELOW: u64 = 50_000;
pub const DEDICATED_FROM: u64 = 100_000;
/// An IP that is warm carries about so many on a busy day without being noticed at the large providers.
const PER_DAY_OF_IP: u64 = 500_000;
/// A week with so many times the mail of another is a burst; and mail comes on at least so many days of four weeks.
const BURST: u64 = 3;
const DAYS_SENT_MIN: usize = 12;

/// What is known, or was typed in.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    pub plan: Plan,
    pub region: &'a str,
    pub day: i64,
    pub per_month: u64,
    /// On the busiest day.
    pub busiest: u64,
    /// None: nobody knows.
    pub is_steady: Option<bool>,
    /// Since it sent for the first time; none: nobody knows.
    pub days: Option<u32>,
    pub reputation: Option<&'a Reputation>,
    /// Password resets, receipts: mail that must arrive at once.
    pub is_sensitive: bool,
    /// Kinds of mail that go differently, such as receipts and newsletters.
    pub kinds: u32,
    /// Somebody asks who governs the IPs.
    pub is_audited: bool,
    /// Nobody is there to look after IPs.
    pub hands_off: bool,
    /// Somebody must put the addresses on a list.
    pub needs_addresses: bool,
    /// R3.4: on a plan that may have dedicated IPs.
    pub may_lease: bool,
    /// It has dedicated IPs already.
    pub has_own: bool,
    /// What a managed pool requires and is not met.
    pub unmet: &'a [Point],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    Shared,
    OneIp,
    Pools,
    Managed,
}

pub const WAYS: [Way; 4] = [Way::Shared, Way::OneIp, Way::Pools, Way::Managed];

impl Way {
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Way::Shared => "shared",
            Way::OneIp => "one-ip",
            Way::Pools => "pools",
            Way::Managed => "managed",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Way::Shared => "stay on shared IPs",
            Way::OneIp => "take dedicated IPs in one pool",
            Way::Pools => "take dedicated IPs, a pool for each kind of mail",
            Way::Managed => "take a managed pool",
        }
    }
}

/// What a way costs, beside what the mail itself does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    pub way: Way,
    pub ips: u64,
    pub cents_a_month: i64,
    /// In millionths of a cent, for a thousand messages.
    pub micro_cents_a_thousand: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    pub way: Way,
    /// A sentence.
    pub words: String,
    /// What was weighed; `met` is what speaks for dedicated IPs.
    pub reasons: Vec<Point>,
    pub costs: Vec<Cost>,
    pub would_change: Vec<String>,
}

fn point(code: &'static str, met: bool, words: String) -> Point {
    Point { code, met, words }
}

/// Whether mail of these days, oldest first, comes evenly enough for IPs of one's own.
#[must_use]
pub fn is_steady(days: &[u64]) -> bool {
    let weeks: Vec<u64> = days.rchunks(7).take(4).map(|week| week.iter().sum()).collect();
    let (most, least) = (weeks.iter().max().copied().unwrap_or(0), weeks.iter().min().copied().unwrap_or(0));
    let sent_on = days.iter().rev().take(28).filter(|sent| **sent > 0).count();
    weeks.len() == 4 && sent_on >= DAYS_SENT_MIN && most <= least.saturating_mul(BURST)
}

fn ips(facts: &Facts<'_>) -> u64 {
    facts.busiest.div_ceil(PER_DAY_OF_IP).max(1)
}

fn month(prices: &Prices, item: Item, facts: &Facts<'_>) -> i64 {
    match prices.on(item, facts.plan, facts.region, facts.day) {
        Some(Rate::Month { cents }) => *cents,
        _ => 0,
    }
}

fn thousands(prices: &Prices, facts: &Facts<'_>) -> i64 {
    let Some(Rate::Thousand(rungs)) = prices.on(Item::ManagedThousand, facts.plan, facts.region, facts.day) else {
        return 0;
    };
    let (mut above, mut micro_cents) = (0, 0i128);
    for rung in rungs {
        let top = rung.up_to.unwrap_or(u64::MAX);
        let messages = facts.per_month.min(top).saturating_sub(above);
        micro_cents += i128::from(messages) * i128::from(rung.micro_cents) / 1_000;
        above = top;
    }
    i64::try_from(micro_cents / i128::from(crate::charge::MICRO_CENTS)).unwrap_or(i64::MAX)
}

fn cost(way: Way, facts: &Facts<'_>, prices: &Prices) -> Cost {
    let ips = match way {
        Way::Shared => 0,
        Way::OneIp | Way::Managed => ips(facts),
        // Each kind has its own, whatever it carries.
        Way::Pools => ips(facts).max(u64::from(facts.kinds.max(2))),
    };
    let count = i64::try_from(ips).unwrap_or(i64::MAX);
    let cents_a_month = match way {
        Way::Shared => 0,
        Way::OneIp | Way::Pools => month(prices, Item::Standard, facts).saturating_mul(count),
        Way::Managed => month(prices, Item::ManagedIp, facts)
            .saturating_mul(count)
            .saturating_add(month(prices, Item::ManagedPool, facts))
            .saturating_add(month(prices, Item::ManagedAccount, facts))
            .saturating_add(thousands(prices, facts)),
    };
    let micro = i128::from(cents_a_month) * i128::from(crate::charge::MICRO_CENTS) * 1_000;
    let micro_cents_a_thousand = match facts.per_month {
        0 => 0,
        sent => i64::try_from(micro / i128::from(sent)).unwrap_or(i64::MAX),
    };
    Cost { way, ips, cents_a_month, micro_cents_a_thousand }
}

/// Each point that was weighed; the first that stops is why dedicated IPs are not advised.
fn reasons(facts: &Facts<'_>) -> Vec<Point> {
    let volume = match facts.per_month {
        sent if sent < SHARED_BELOW => {
            format!("{sent} messages a month: under {SHARED_BELOW}, an IP of one's own costs more than it brings.")
        }
        sent if sent < DEDICATED_FROM => {
            format!("{sent} messages a month: between {SHARED_BELOW} and {DEDICATED_FROM} it depends on what they are.")
        }
        sent => format!("{sent} messages a month: from {DEDICATED_FROM} on, IPs of one's own pay."),
    };
    let mut reasons = vec![point("volume", facts.per_month >= DEDICATED_FROM, volume)];
    reasons.extend(facts.is_steady.map(|is_steady| {
        match is_steady {
            true => point("steady", true, "It comes evenly, which keeps an IP warm.".into()),
            false => point(
                "steady",
                false,
                "It comes in bursts, or not on most days: shared IPs bear that, an IP of one's own cools between them."
                    .into(),
            ),
        }
    }));
    if let Some(reputation) = facts.reputation.filter(|reputation| reputation.is_enough()) {
        let (bounces, complaints) = (reputation.bounces.rate(), reputation.complaints.rate());
        let good = bounces < BOUNCES_POOR && complaints < COMPLAINTS_POOR;
        let words = format!(
            "{} of it bounced, {} was complained of; alone on an IP, nobody makes up for that.",
            percent(bounces),
            percent(complaints)
        );
        reasons.push(point("figures", good, words));
    }
    if let Some(days) = facts.days {
        let words =
            format!("It has been sending for {days} days; a sender whom nobody knows warms up better in company.");
        reasons.push(point("known", days >= NEW_DAYS, words));
    }
    let mut adds = |is: bool, code, words: &str| {
        if is {
            reasons.push(point(code, true, words.to_owned()));
        }
    };
    adds(facts.is_sensitive, "sensitive", "Mail that must arrive at once should not share the fate of others' mail.");
    adds(facts.is_audited, "compliance", "An audit asks who governs the IPs; of shared ones, that is not the account.");
    adds(
        facts.kinds > 1,
        "mixed",
        "Kinds of mail that go differently should not pay for each other: a pool for each keeps them apart.",
    );
    adds(facts.hands_off, "hands-off", "Nobody is there to watch warm-up and scale: a managed pool does both.");
    adds(
        has_no_shared(facts),
        "plan",
        "On the enterprise plan no mail leaves from shared IPs: what speaks against IPs of one's own must be mended.",
    );
    if !facts.may_lease {
        reasons.push(point("plan", false, "A free account without a payment method gets no dedicated IPs.".to_owned()));
    }
    reasons
}

/// R2.1: an enterprise account has no shared IPs to stay on.
fn has_no_shared(facts: &Facts<'_>) -> bool {
    facts.plan == Plan::Enterprise
}

#[must_use]
pub fn advise(facts: &Facts<'_>, prices: &Prices) -> Advice {
    let reasons = reasons(facts);
    let is_bad = |code: &str| reasons.iter().any(|point| point.code == code && !point.met);
    // An IP that would not stay warm is none, however much it is wanted.
    let least = match (facts.is_audited, facts.is_sensitive) {
        (true, _) => PER_MONTH_ADVISED,
        (false, true) => SHARED_BELOW,
        (false, false) => DEDICATED_FROM,
    };
    let is_enough = facts.per_month >= least;
    let against = ["figures", "steady", "known"].into_iter().find(|code| is_bad(code));
    let each = facts.per_month / u64::from(facts.kinds.max(1));
    let is_managed = facts.hands_off && facts.unmet.is_empty() && !facts.needs_addresses;
    let way = match (against, is_enough) {
        (Some(_), _) | (None, false) if has_no_shared(facts) => Way::OneIp,
        (Some(_), _) | (None, false) => Way::Shared,
        // A pool that is too small cools: then all of it stays together.
        (None, true) if facts.kinds > 1 && each >= PER_MONTH_ADVISED && !is_managed => Way::Pools,
        (None, true) if is_managed => Way::Managed,
        (None, true) => Way::OneIp,
    };
    let ways = WAYS.into_iter().filter(|way| *way != Way::Shared || !has_no_shared(facts));
    let costs: Vec<Cost> = ways.map(|way| cost(way, facts, prices)).collect();
    let would_change = would_change(facts, way, against, each);
    let of = costs.iter().find(|cost| cost.way == way);
    let money = of.filter(|cost| cost.cents_a_month > 0).map_or_else(String::new, |cost| {
        format!(" That is {} a month for {} IPs.", Cents(cost.cents_a_month), cost.ips)
    });
    let words = match (way, against) {
        (Way::Shared, Some("figures")) => "Stay on shared IPs, and clean the lists first.".to_owned(),
        (Way::Shared, Some("known")) => "Stay on shared IPs until you are known.".to_owned(),
        _ => {
            let mut words = way.words().to_owned();
            words[..1].make_ascii_uppercase();
            format!("{words}.{money}{}", first(facts, way, against))
        }
    };
    Advice { way, words, reasons, costs, would_change }
}

/// What comes before it.
fn first(facts: &Facts<'_>, way: Way, against: Option<&str>) -> String {
    let mut said = String::new();
    if way == Way::Shared {
        return said;
    }
    if against == Some("figures") {
        said.push_str(" Clean the lists first.");
    }
    if !facts.may_lease {
        said.push_str(" Add a payment method first, or change the plan.");
    }
    if !facts.has_own && !has_no_shared(facts) && way != Way::Managed {
        said.push_str(
            " Begin with one IP and a test drive of two to four weeks: a new IP has no name yet, and needs four to six weeks to get one.",
        );
    }
    said
}

fn would_change(facts: &Facts<'_>, way: Way, against: Option<&str>, each: u64) -> Vec<String> {
    let mut said: Vec<String> = Vec::new();
    match against {
        Some("figures") => said.push(format!(
            "Under {} bounces and {} complaints, the rest is weighed again.",
            percent(BOUNCES_POOR),
            percent(COMPLAINTS_POOR)
        )),
        Some("steady") => said.push(format!("Mail on at least {DAYS_SENT_MIN} days of four weeks, no week with more than {BURST} times the mail of another.")),
        Some(_) => said.push(format!("After {NEW_DAYS} days of sending, ask again.")),
        None => {}
    }
    if way == Way::Shared && facts.per_month < DEDICATED_FROM {
        said.push(format!("From {DEDICATED_FROM} messages a month on, dedicated IPs; from {SHARED_BELOW} on, if it must arrive at once."));
        if !facts.is_audited {
            said.push(format!("Where an audit asks for it, from {PER_MONTH_ADVISED} messages a month on."));
        }
    }
    if facts.kinds > 1 && each < PER_MONTH_ADVISED && way == Way::OneIp {
        said.push(format!("With {PER_MONTH_ADVISED} messages a month of each kind, a pool for each."));
    }
    if facts.kinds <= 1 && way == Way::OneIp {
        said.push("A second kind of mail that goes differently: a pool for each.".to_owned());
    }
    if facts.hands_off && way != Way::Managed && way != Way::Shared {
        said.extend(facts.unmet.iter().map(|point| format!("For a managed pool: {}", point.words)));
        if facts.needs_addresses {
            said.push("A managed pool shows no addresses; if nobody must list them, it would do.".to_owned());
        }
    }
    if facts.is_steady.is_none() && way != Way::Shared && !has_no_shared(facts) {
        said.push("Whether it comes evenly is not known: if it comes in bursts, shared IPs.".to_owned());
    }
    if has_no_shared(facts) && (against.is_some() || facts.per_month < SHARED_BELOW) {
        said.push("On another plan: shared IPs.".to_owned());
    } else if way == Way::OneIp || way == Way::Pools {
        said.push(format!("Under {SHARED_BELOW} messages a month, or in bursts: back to shared IPs."));
    }
    said
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::{Facts, Way, advise, is_steady};
    use crate::charge::{Item, Price, Prices, Rate, Rung};
    use crate::fit::Point;
    use crate::reputation::{Reputation, SENT_MIN, Share};
    use crate::snapshot::Plan;

    fn facts(per_month: u64) -> Facts<'static> {
        Facts {
            plan: Plan::Standard,
            region: "local",
            day: 20_000,
            per_month,
            busiest: per_month / 20,
            is_steady: Some(true),
            days: Some(90),
            reputation: None,
            is_sensitive: false,
            kinds: 1,
            is_audited: false,
            hands_off: false,
            needs_addresses: false,
            may_lease: true,
            has_own: true,
            unmet: &[],
        }
    }

    fn prices() -> Prices {
        let month = |item, cents| Price { item, plan: None, region: None, from_day: 0, rate: Rate::Month { cents } };
        let rung = |up_to, micro_cents| Rung { up_to, micro_cents };
        let rate = Rate::Thousand(vec![rung(Some(100_000), 40_000_000), rung(None, 10_000_000)]);
        let thousand = Price { item: Item::ManagedThousand, plan: None, region: None, from_day: 0, rate };
        Prices(vec![
            month(Item::Standard, 2_495),
            month(Item::ManagedIp, 2_495),
            month(Item::ManagedPool, 1_500),
            thousand,
        ])
    }

    fn way(facts: &Facts<'_>) -> Way {
        advise(facts, &prices()).way
    }

    // R8.1: each threshold of the seed from both sides.
    #[test]
    fn spec_r8_1_volume_decides_and_the_rest_weighs() {
        let sensitive = |per_month| Facts { is_sensitive: true, ..facts(per_month) };
        let audited = |per_month| Facts { is_audited: true, ..facts(per_month) };
        for (facts, expected) in [
            (facts(49_999), Way::Shared),
            (facts(99_999), Way::Shared),
            (facts(100_000), Way::OneIp),
            (sensitive(49_999), Way::Shared),
            (sensitive(50_000), Way::OneIp),
            (audited(29_999), Way::Shared),
            (audited(30_000), Way::OneIp),
            (Facts { is_steady: Some(false), ..facts(500_000) }, Way::Shared),
            // What nobody knows is not held against it.
            (Facts { is_steady: None, ..facts(500_000) }, Way::OneIp),
            (Facts { days: Some(29), ..facts(500_000) }, Way::Shared),
            (Facts { days: Some(30), ..facts(500_000) }, Way::OneIp),
            (Facts { days: None, ..facts(500_000) }, Way::OneIp),
            (Facts { kinds: 2, ..facts(200_000) }, Way::Pools),
            (Facts { kinds: 4, ..facts(100_000) }, Way::OneIp),
            (Facts { hands_off: true, ..facts(100_000) }, Way::Managed),
            (Facts { hands_off: true, kinds: 2, ..facts(200_000) }, Way::Managed),
            (Facts { hands_off: true, needs_addresses: true, ..facts(100_000) }, Way::OneIp),
        ] {
            assert_eq!(way(&facts), expected, "{facts:?}");
        }
        let unmet = [Point { code: "domains", met: false, words: "Verify shop.test first.".into() }];
        let advice = advise(&Facts { hands_off: true, unmet: &unmet, ..facts(100_000) }, &prices());
        assert_eq!(advice.way, Way::OneIp);
        assert!(advice.would_change.iter().any(|said| said.contains("Verify shop.test first.")), "{advice:?}");
    }

    // R8.1: who does badly is alone with it on an IP of its own; of too little mail, nothing is said.
    #[test]
    fn spec_r8_1_poor_figures_keep_a_sender_on_shared_ips() {
        let did = |sent: u64, bounced: f64, complained: f64| {
            let share = |count: f64| Share { count, of: 10_000.0 };
            Reputation { sent, bounces: share(bounced), complaints: share(complained), ..Reputation::default() }
        };
        for (reputation, expected) in [
            (did(10_000, 249.0, 4.0), Way::OneIp),
            (did(10_000, 250.0, 4.0), Way::Shared),
            (did(10_000, 249.0, 5.0), Way::Shared),
            (did(SENT_MIN, 250.0, 0.0), Way::Shared),
            (did(SENT_MIN - 1, 250.0, 0.0), Way::OneIp),
        ] {
            let advice = advise(&Facts { reputation: Some(&reputation), ..facts(500_000) }, &prices());
            assert_eq!(advice.way, expected, "{reputation:?}");
            let says_clean = advice.words.contains("clean the lists first");
            assert_eq!(says_clean, expected == Way::Shared, "{}", advice.words);
        }
        // Who has no shared IPs to stay on is told to mend it.
        let poor = did(10_000, 250.0, 4.0);
        let facts = Facts { plan: Plan::Enterprise, reputation: Some(&poor), ..facts(500_000) };
        let words = advise(&facts, &prices()).words;
        assert!(words.starts_with("Take dedicated IPs") && words.ends_with("Clean the lists first."), "{words}");
    }

    // R8.1, R2.1, R3.4: nobody is advised what its plan does not let it have, or without what must come first.
    #[test]
    fn spec_r8_1_the_plan_is_heeded() {
        for (is_steady, per_month) in [(Some(false), 500_000), (Some(true), 1_000)] {
            let facts = Facts { plan: Plan::Enterprise, is_steady, ..facts(per_month) };
            let advice = advise(&facts, &prices());
            assert_eq!(advice.way, Way::OneIp, "{facts:?}");
            assert!(advice.costs.iter().all(|cost| cost.way != Way::Shared), "{advice:?}");
            assert!(advice.reasons.iter().any(|point| point.code == "plan" && point.met), "{advice:?}");
            assert_eq!(advice.would_change.last().unwrap(), "On another plan: shared IPs.");
        }
        let free = |per_month| Facts { plan: Plan::Free, may_lease: false, ..facts(per_month) };
        let advice = advise(&free(200_000), &prices());
        assert_eq!(advice.way, Way::OneIp);
        assert!(advice.words.ends_with("Add a payment method first, or change the plan."), "{}", advice.words);
        assert!(!advise(&free(20_000), &prices()).words.contains("payment"));

        // The first IP is tried before all mail leaves from it; who has one knows.
        let first = advise(&Facts { has_own: false, ..facts(200_000) }, &prices());
        assert!(first.words.contains("a test drive of two to four weeks"), "{}", first.words);
        assert!(!advise(&facts(200_000), &prices()).words.contains("test drive"));
        let unknown = advise(&Facts { is_steady: None, ..facts(200_000) }, &prices());
        assert!(unknown.reasons.iter().all(|point| point.code != "steady"), "{unknown:?}");
        assert!(unknown.would_change.iter().any(|said| said.contains("evenly is not known")), "{unknown:?}");
    }

    // R8.1: the cost of a thousand, for each way; and what would change the answer.
    #[test]
    fn spec_r8_1_each_way_has_its_cost() {
        let advice = advise(&Facts { kinds: 3, ..facts(200_000) }, &prices());
        let costs: Vec<(Way, u64, i64, i64)> = advice
            .costs
            .iter()
            .map(|cost| (cost.way, cost.ips, cost.cents_a_month, cost.micro_cents_a_thousand))
            .collect();
        assert_eq!(
            costs,
            [
                (Way::Shared, 0, 0, 0),
                // 24.95 for 200 thousands: 0.12475.
                (Way::OneIp, 1, 2_495, 12_475_000),
                (Way::Pools, 3, 7_485, 37_425_000),
                // 24.95 + 15.00 + 100 × 0.40 + 100 × 0.10 = 89.95.
                (Way::Managed, 1, 8_995, 44_975_000),
            ]
        );
        assert!(advice.words.contains("74.85 a month for 3 IPs"), "{}", advice.words);
        let small = advise(&facts(20_000), &prices());
        assert!(small.would_change[0].contains("100000 messages a month"), "{small:?}");
        assert_eq!(advise(&facts(0), &prices()).way, Way::Shared);
    }

    #[test]
    fn bursts_are_seen() {
        assert!(is_steady(&[100; 28]));
        let weekdays: Vec<u64> = (0..28).map(|day| if day % 7 < 5 { 1_000 } else { 0 }).collect();
        assert!(is_steady(&weekdays));
        let weekly: Vec<u64> = (0..28).map(|day| if day % 7 == 0 { 10_000 } else { 0 }).collect();
        assert!(!is_steady(&weekly), "a campaign a week");
        let mut jump = vec![100; 28];
        jump[27] = 5_000;
        assert!(!is_steady(&jump));
        assert!(!is_steady(&[100; 20]), "too short to tell");
    }
}
