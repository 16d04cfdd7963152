//! What does an account owe for a month, and by which working? (R7.5)
//!
//! Whole numbers only: cents for a month, millionths of a cent for a thousand messages. **Rounding happens here and nowhere else**, once a
//! line, half away from zero. Part of a month costs the rounded price of the days up to its end, less the rounded price of the days before
//! it: so the parts of a month, however it is cut, sum up to the month, to the cent. Days are those of UTC. A day that has begun counts,
//! the last one too.

use crate::month::{Month, date_of};
use crate::snapshot::Plan;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The finest part of a price: a hundred millionth of a dollar.
pub const MICRO_CENTS: i64 = 1_000_000;
const DECIMALS: usize = 8;
/// A million dollars: more is a slip.
pub const CENTS_MAX: i64 = 100_000_000;

/// What has a price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Item {
    /// An IP that was granted, a month.
    Standard,
    /// An IP that was purchased in one step, a month.
    Purchase,
    /// An IP of a managed pool, a month.
    ManagedIp,
    /// A managed pool on the days that it has an IP of its own, a month.
    ManagedPool,
    /// All managed pools of an account in a region together, likewise.
    ManagedAccount,
    /// A thousand messages that left from IPs of managed pools.
    ManagedThousand,
}

pub const ITEMS: [Item; 6] =
    [Item::Standard, Item::Purchase, Item::ManagedIp, Item::ManagedPool, Item::ManagedAccount, Item::ManagedThousand];

impl Item {
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Item::Standard => "standard",
            Item::Purchase => "purchase",
            Item::ManagedIp => "managed-ip",
            Item::ManagedPool => "managed-pool",
            Item::ManagedAccount => "managed-account",
            Item::ManagedThousand => "managed-thousand",
        }
    }

    #[must_use]
    pub fn of(code: &str) -> Option<Item> {
        ITEMS.into_iter().find(|item| item.code() == code)
    }
}

/// Messages of the month up to this one (all further ones: none) cost so much a thousand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rung {
    pub up_to: Option<u64>,
    pub micro_cents: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rate {
    Month { cents: i64 },
    Thousand(Vec<Rung>),
}

/// What something costs from a day on, until there is another price for the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    pub item: Item,
    /// None: on every plan.
    pub plan: Option<Plan>,
    /// None: in every region.
    pub region: Option<String>,
    pub from_day: i64,
    pub rate: Rate,
}

/// All that was ever said of prices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prices(pub Vec<Price>);

impl Prices {
    /// What holds on a day: the one of this region and plan before the region's, that one before the plan's, that one before everybody's.
    #[must_use]
    pub fn on(&self, item: Item, plan: Plan, region: &str, day: i64) -> Option<&Rate> {
        let fits = |price: &&Price| {
            price.item == item
                && price.from_day <= day
                && price.plan.is_none_or(|of| of == plan)
                && price.region.as_deref().is_none_or(|of| of == region)
        };
        let rank = |price: &&Price| (price.region.is_some(), price.plan.is_some(), price.from_day);
        self.0.iter().filter(fits).max_by_key(rank).map(|price| &price.rate)
    }

    /// The days on which this price may change.
    fn turns(&self, item: Item) -> impl Iterator<Item = i64> + '_ {
        self.0.iter().filter(move |price| price.item == item).map(|price| price.from_day)
    }
}

/// An IP that an account has, on some days, at the price of one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stay {
    pub lease: String,
    pub item: Item,
    pub region: String,
    /// Of a managed pool: its id and its name.
    pub pool: Option<(String, String)>,
    /// What was agreed for this lease holds, whatever becomes of the prices.
    pub agreed_cents: Option<i64>,
    pub first_day: i64,
    /// None: it goes on.
    pub last_day: Option<i64>,
}

/// What left from IPs of managed pools on a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    pub region: String,
    pub day: i64,
    pub sent: u64,
}

/// What an account is charged for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// From which day on it is on which plan, oldest first.
    pub plans: Vec<(i64, Plan)>,
    pub stays: Vec<Stay>,
    pub uses: Vec<Use>,
}

impl Held {
    fn plan_on(&self, day: i64) -> Plan {
        let began = self.plans.iter().rev().find(|(from, _)| *from <= day);
        began.or(self.plans.first()).map(|(_, plan)| *plan).unwrap_or_default()
    }
}

/// One line of an invoice, with its working.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub item: Item,
    pub region: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
    /// The name of a managed pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    pub first_day: i64,
    pub last_day: i64,
    pub month_days: i64,
    /// Messages, where they are what is charged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<u64>,
    /// Of a month, or of a thousand messages.
    pub micro_cents: i64,
    pub amount_cents: i64,
    pub words: String,
}

impl Line {
    #[must_use]
    pub fn days(&self) -> i64 {
        self.last_day - self.first_day + 1
    }
}

/// A sum that no number holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the amount is larger than any that can be written down")]
pub struct Overflow;

/// To the nearest whole number, half away from zero; nothing here is below it.
fn rounded(numerator: i128, denominator: i128) -> Result<i64, Overflow> {
    let twice = numerator.checked_mul(2).and_then(|twice| twice.checked_add(denominator)).ok_or(Overflow)?;
    i64::try_from(twice / (denominator * 2)).map_err(|_| Overflow)
}

/// What the days from `first` (counted from nought) to before `end` cost, of a month of so many days.
pub fn share(cents: i64, first: i64, end: i64, month_days: i64) -> Result<i64, Overflow> {
    let up_to = |day: i64| rounded(i128::from(cents) * i128::from(day), i128::from(month_days));
    up_to(end)?.checked_sub(up_to(first)?).ok_or(Overflow)
}

pub fn sum(lines: &[Line]) -> Result<i64, Overflow> {
    lines.iter().try_fold(0i64, |sum, line| sum.checked_add(line.amount_cents)).ok_or(Overflow)
}

/// What an account owes for a month, up to the end of this day.
pub fn charge(month: Month, until_day: i64, held: &Held, prices: &Prices) -> Result<Vec<Line>, Overflow> {
    let last = month.last_day().min(until_day);
    let mut lines = Vec::new();
    for stay in &held.stays {
        by_days(month, last, held, prices, stay, &mut lines)?;
    }
    for base in bases(month, last, &held.stays) {
        by_days(month, last, held, prices, &base, &mut lines)?;
    }
    by_thousands(month, last, held, prices, &mut lines)?;
    Ok(lines)
}

/// A line for each run of days at one price.
fn by_days(
    month: Month,
    last: i64,
    held: &Held,
    prices: &Prices,
    stay: &Stay,
    lines: &mut Vec<Line>,
) -> Result<(), Overflow> {
    let first = stay.first_day.max(month.first_day());
    let last = stay.last_day.map_or(last, |end| end.min(last));
    if first > last {
        return Ok(());
    }
    let mut turns: Vec<i64> = prices.turns(stay.item).chain(held.plans.iter().map(|(day, _)| *day)).collect();
    turns.retain(|day| (first + 1..=last).contains(day));
    turns.push(first);
    turns.sort_unstable();
    turns.dedup();
    let price_on = |day: i64| match (stay.agreed_cents, prices.on(stay.item, held.plan_on(day), &stay.region, day)) {
        (Some(agreed), _) => Some(agreed),
        (None, Some(Rate::Month { cents })) => Some(*cents),
        (None, _) => None,
    };
    let mut runs: Vec<(i64, Option<i64>)> = turns.into_iter().map(|day| (day, price_on(day))).collect();
    runs.dedup_by_key(|(_, price)| *price);
    for (place, (from, price)) in runs.iter().enumerate() {
        let Some(cents) = price else { continue };
        let to = runs.get(place + 1).map_or(last, |(next, _)| next - 1);
        lines.push(line_of_days(month, stay, (*from, to), *cents)?);
    }
    Ok(())
}

fn line_of_days(month: Month, stay: &Stay, (from, to): (i64, i64), cents: i64) -> Result<Line, Overflow> {
    let begin = month.first_day();
    let amount_cents = share(cents, from - begin, to + 1 - begin, month.days())?;
    let pool = stay.pool.as_ref().map(|(_, name)| name.clone());
    let mut line = Line {
        item: stay.item,
        region: stay.region.clone(),
        lease: Some(stay.lease.clone()).filter(|lease| !lease.is_empty()),
        pool,
        first_day: from,
        last_day: to,
        month_days: month.days(),
        messages: None,
        micro_cents: cents.checked_mul(MICRO_CENTS).ok_or(Overflow)?,
        amount_cents,
        words: String::new(),
    };
    let what = match (&line.item, &line.pool) {
        (Item::Purchase, _) => "Purchased IP".to_owned(),
        (Item::ManagedIp, Some(pool)) => format!("IP of the managed pool {pool}"),
        (Item::ManagedPool, Some(pool)) => format!("Managed pool {pool}"),
        (Item::ManagedAccount, _) => "Managed pools".to_owned(),
        _ => "IP".to_owned(),
    };
    // Where a reader who rounds this line by itself finds another cent, it says why.
    let alone = rounded(i128::from(cents) * i128::from(line.days()), i128::from(line.month_days))?;
    line.words = format!(
        "{what} in region {}, {} to {}, {} of {} days × {}{} = {}{}",
        line.region,
        date_of(from),
        date_of(to),
        line.days(),
        line.month_days,
        Cents(cents),
        if stay.agreed_cents.is_some() { " (agreed)" } else { "" },
        Cents(amount_cents),
        if alone == amount_cents { "" } else { ", rounded with the days before it" },
    );
    Ok(line)
}

/// The days on which managed pools have an IP of their own: of each, and of all in a region.
fn bases(month: Month, last: i64, stays: &[Stay]) -> Vec<Stay> {
    type Days = Vec<(i64, i64)>;
    let mut of_pools: BTreeMap<(String, String, String), Days> = BTreeMap::new();
    let mut of_regions: BTreeMap<String, Days> = BTreeMap::new();
    for stay in stays {
        let (first, last) = (stay.first_day.max(month.first_day()), stay.last_day.map_or(last, |end| end.min(last)));
        let Some((id, name)) = stay.pool.as_ref().filter(|_| stay.item == Item::ManagedIp && first <= last) else {
            continue;
        };
        of_pools.entry((stay.region.clone(), id.clone(), name.clone())).or_default().push((first, last));
        of_regions.entry(stay.region.clone()).or_default().push((first, last));
    }
    let base = |item, region: &str, pool: Option<(String, String)>, (first, last)| Stay {
        lease: String::new(),
        item,
        region: region.to_owned(),
        pool,
        agreed_cents: None,
        first_day: first,
        last_day: Some(last),
    };
    let mut bases = Vec::new();
    for ((region, id, name), days) in of_pools {
        let pool = Some((id, name));
        bases.extend(joined(days).into_iter().map(|run| base(Item::ManagedPool, &region, pool.clone(), run)));
    }
    for (region, days) in of_regions {
        bases.extend(joined(days).into_iter().map(|run| base(Item::ManagedAccount, &region, None, run)));
    }
    bases
}

/// Each day once, as few runs as can be.
fn joined(mut days: Vec<(i64, i64)>) -> Vec<(i64, i64)> {
    days.sort_unstable();
    let mut runs: Vec<(i64, i64)> = Vec::new();
    for (first, last) in days {
        match runs.last_mut() {
            Some(run) if first <= run.1 + 1 => run.1 = run.1.max(last),
            _ => runs.push((first, last)),
        }
    }
    runs
}

/// What was sent at one price.
struct Sold {
    rung: Rung,
    above: u64,
    first_day: i64,
    last_day: i64,
    messages: u64,
}

/// By region, the messages of the month in their order, each at the price of its day and of the rung that it stands on.
fn by_thousands(month: Month, last: i64, held: &Held, prices: &Prices, lines: &mut Vec<Line>) -> Result<(), Overflow> {
    let mut of_regions: BTreeMap<&str, BTreeMap<i64, u64>> = BTreeMap::new();
    for used in held.uses.iter().filter(|used| (month.first_day()..=last).contains(&used.day)) {
        let sent = of_regions.entry(&used.region).or_default().entry(used.day).or_default();
        *sent = sent.checked_add(used.sent).ok_or(Overflow)?;
    }
    for (region, days) in of_regions {
        let mut before = 0u64;
        let mut sold: Vec<Sold> = Vec::new();
        for (day, sent) in days {
            let after = before.checked_add(sent).ok_or(Overflow)?;
            if let Some(Rate::Thousand(rungs)) = prices.on(Item::ManagedThousand, held.plan_on(day), region, day) {
                sell(rungs, (before, after), day, &mut sold);
            }
            before = after;
        }
        for sold in sold {
            lines.push(line_of_messages(month, region, &sold)?);
        }
    }
    Ok(())
}

fn sell(rungs: &[Rung], (before, after): (u64, u64), day: i64, sold: &mut Vec<Sold>) {
    let mut above = 0;
    for rung in rungs {
        let top = rung.up_to.unwrap_or(u64::MAX);
        let messages = after.min(top).saturating_sub(before.max(above));
        if messages > 0 {
            match sold.iter_mut().find(|known| known.rung == *rung && known.above == above) {
                Some(known) => (known.last_day, known.messages) = (day, known.messages.saturating_add(messages)),
                None => sold.push(Sold { rung: *rung, above, first_day: day, last_day: day, messages }),
            }
        }
        above = top;
    }
}

fn line_of_messages(month: Month, region: &str, sold: &Sold) -> Result<Line, Overflow> {
    let price = i128::from(sold.rung.micro_cents);
    let amount = price.checked_mul(i128::from(sold.messages)).ok_or(Overflow)?;
    let amount_cents = rounded(amount, 1_000 * i128::from(MICRO_CENTS))?;
    let which = match (sold.above, sold.rung.up_to) {
        (0, None) => String::new(),
        (above, None) => format!(", beyond {}", grouped(above)),
        (0, Some(top)) => format!(", the first {}", grouped(top)),
        (above, Some(top)) => format!(", from {} to {}", grouped(above), grouped(top)),
    };
    let words = format!(
        "Messages from managed IPs in region {region}, {} to {}{which}: {} × {} a thousand = {}",
        date_of(sold.first_day),
        date_of(sold.last_day),
        grouped(sold.messages),
        Decimal(sold.rung.micro_cents),
        Cents(amount_cents),
    );
    Ok(Line {
        item: Item::ManagedThousand,
        region: region.to_owned(),
        lease: None,
        pool: None,
        first_day: sold.first_day,
        last_day: sold.last_day,
        month_days: month.days(),
        messages: Some(sold.messages),
        micro_cents: sold.rung.micro_cents,
        amount_cents,
        words,
    })
}

/// If the rest of the month goes like its days so far: each coming day as many as the mean of those that are over.
pub fn expected(uses: &[Use], month: Month, today: i64) -> Result<Vec<Use>, Overflow> {
    let mut so_far: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for used in uses.iter().filter(|used| (month.first_day()..=today).contains(&used.day)) {
        let (before, now) = so_far.entry(&used.region).or_default();
        let place = if used.day == today { now } else { before };
        *place = place.checked_add(used.sent).ok_or(Overflow)?;
    }
    let mut all: Vec<Use> = uses.iter().filter(|used| used.day < today).cloned().collect();
    for (region, (before, now)) in so_far {
        let over = u64::try_from(today - month.first_day()).unwrap_or(0);
        let mean = before.checked_div(over).unwrap_or(now);
        let of_day = |day, sent| Use { region: region.to_owned(), day, sent };
        all.push(of_day(today, now.max(mean)));
        all.extend((today + 1..=month.last_day()).map(|day| of_day(day, mean)));
    }
    Ok(all)
}

/// Cents as dollars: `16.10`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cents(pub i64);

impl fmt::Display for Cents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let cents = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:02}", grouped(cents / 100), cents % 100)
    }
}

/// Millionths of a cent as dollars, with two decimals or as many as it needs: `24.95`, `0.0125`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal(pub i64);

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = 100 * MICRO_CENTS.unsigned_abs();
        let sign = if self.0 < 0 { "-" } else { "" };
        let (whole, part) = (self.0.unsigned_abs() / one, self.0.unsigned_abs() % one);
        let part = format!("{part:0DECIMALS$}");
        let kept = part.trim_end_matches('0').len().max(2);
        write!(f, "{sign}{whole}.{}", &part[..kept])
    }
}

/// A text that is no price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAPrice;

/// Dollars with up to eight decimals, to millionths of a cent; nothing below zero, nothing beyond a million.
pub fn price_of(text: &str) -> Result<i64, NotAPrice> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits =
        |text: &str, most: usize| (1..=most).contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_digit());
    if !digits(whole, 7) || !digits(part, DECIMALS) {
        return Err(NotAPrice);
    }
    let number = format!("{whole}{part:0<DECIMALS$}").parse::<i64>().map_err(|_| NotAPrice)?;
    if number <= CENTS_MAX * MICRO_CENTS { Ok(number) } else { Err(NotAPrice) }
}

/// `10,000,000`
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::*;
    use crate::month::day_of;
    use proptest::prelude::*;

    fn day(date: &str) -> i64 {
        day_of(date).unwrap()
    }

    fn month(text: &str) -> Month {
        text.parse().unwrap()
    }

    fn price(item: Item, from: &str, cents: i64) -> Price {
        Price { item, plan: None, region: None, from_day: day(from), rate: Rate::Month { cents } }
    }

    fn stay(item: Item, first: &str, last: Option<&str>) -> Stay {
        let pool = (item == Item::ManagedIp).then(|| ("pool_1".to_owned(), "bulk".to_owned()));
        let (lease, region) = ("lease_1".to_owned(), "local".to_owned());
        Stay { lease, item, region, pool, agreed_cents: None, first_day: day(first), last_day: last.map(day) }
    }

    fn of(stays: Vec<Stay>) -> Held {
        Held { plans: vec![(0, Plan::Standard)], stays, uses: Vec::new() }
    }

    fn whole(text: &str, held: &Held, prices: Vec<Price>) -> Vec<(String, i64)> {
        let lines = charge(month(text), i64::MAX, held, &Prices(prices)).unwrap();
        lines.into_iter().map(|line| (line.words, line.amount_cents)).collect()
    }

    // R7.5: prorated by day in the month of the start and of the end.
    #[test]
    fn spec_r7_5_a_month_is_charged_by_the_days_of_the_lease() {
        let prices = || vec![price(Item::Standard, "1970-01-01", 2_495)];
        let cases = [
            // (start, end, month, amount)
            ("2026-10-12", None, "2026-10", Some(1_610)),
            ("2026-10-12", None, "2026-11", Some(2_495)),
            ("2026-10-12", None, "2026-09", None),
            // An hour is a day.
            ("2026-10-01", Some("2026-10-01"), "2026-10", Some(80)),
            ("2024-02-29", Some("2024-02-29"), "2024-02", Some(86)),
            ("2024-01-15", Some("2024-03-02"), "2024-02", Some(2_495)),
            ("2024-01-15", Some("2024-03-02"), "2024-03", Some(161)),
            ("2026-02-28", None, "2026-02", Some(89)),
        ];
        for (start, end, text, amount) in cases {
            let lines = whole(text, &of(vec![stay(Item::Standard, start, end)]), prices());
            assert_eq!(lines.first().map(|(_, amount)| *amount), amount, "{start} {end:?} {text}: {lines:?}");
        }
        let lines = whole("2026-10", &of(vec![stay(Item::Standard, "2026-10-12", None)]), prices());
        assert_eq!(lines[0].0, "IP in region local, 2026-10-12 to 2026-10-31, 20 of 31 days × 24.95 = 16.10");
    }

    // R7.5: a running lease has the new price from its day on; one with an agreed price keeps it; a past month stays as it was.
    #[test]
    fn a_price_changes_on_its_day() {
        let prices = || vec![price(Item::Standard, "1970-01-01", 3_100), price(Item::Standard, "2026-10-11", 6_200)];
        let held = of(vec![stay(Item::Standard, "2026-01-01", None)]);
        let lines = whole("2026-10", &held, prices());
        assert_eq!(lines.iter().map(|(_, amount)| *amount).collect::<Vec<_>>(), [1_000, 4_200]);
        assert!(lines[1].0.contains("2026-10-11 to 2026-10-31, 21 of 31 days × 62.00 = 42.00"), "{lines:?}");
        assert_eq!(whole("2026-09", &held, prices())[0].1, 3_100);
        let mut agreed = held;
        agreed.stays[0].agreed_cents = Some(1_000);
        let lines = whole("2026-10", &agreed, prices());
        assert_eq!((lines.len(), lines[0].1), (1, 1_000));
        assert!(lines[0].0.ends_with("31 of 31 days × 10.00 (agreed) = 10.00"), "{lines:?}");
    }

    #[test]
    fn the_closest_price_holds() {
        let general = price(Item::Standard, "1970-01-01", 1);
        let of_plan = Price { plan: Some(Plan::Enterprise), ..price(Item::Standard, "2026-01-01", 2) };
        let of_region = Price { region: Some("local".into()), ..price(Item::Standard, "2026-02-01", 3) };
        let of_both = Price { plan: Some(Plan::Enterprise), region: Some("local".into()), ..general.clone() };
        let of_both = Price { from_day: day("2026-03-01"), rate: Rate::Month { cents: 4 }, ..of_both };
        let later = price(Item::Standard, "2026-04-01", 5);
        let prices = Prices(vec![of_both, later, of_region, of_plan, general]);
        let on = |plan, region: &str, date: &str| match prices.on(Item::Standard, plan, region, day(date)) {
            Some(Rate::Month { cents }) => *cents,
            other => panic!("{other:?}"),
        };
        assert_eq!(on(Plan::Enterprise, "local", "2025-12-31"), 1);
        assert_eq!(on(Plan::Enterprise, "local", "2026-01-31"), 2);
        assert_eq!(on(Plan::Enterprise, "local", "2026-02-28"), 3);
        assert_eq!(on(Plan::Enterprise, "local", "2026-03-01"), 4);
        assert_eq!(on(Plan::Standard, "local", "2026-04-01"), 3);
        assert_eq!(on(Plan::Standard, "north", "2026-03-31"), 1);
        assert_eq!(on(Plan::Standard, "north", "2026-04-01"), 5);
        assert_eq!(on(Plan::Enterprise, "north", "2026-04-01"), 2);
        assert_eq!(prices.on(Item::Purchase, Plan::Free, "local", i64::MAX), None);
        // A plan counts from its day on.
        let held = Held {
            plans: vec![(0, Plan::Standard), (day("2026-01-17"), Plan::Enterprise)],
            ..of(vec![stay(Item::Standard, "2026-01-01", None)])
        };
        let plans = Price { plan: Some(Plan::Enterprise), ..price(Item::Standard, "1970-01-01", 0) };
        let lines = whole("2026-01", &held, vec![price(Item::Standard, "1970-01-01", 3_100), plans]);
        assert_eq!(lines.iter().map(|(_, amount)| *amount).collect::<Vec<_>>(), [1_600, 0]);
    }

    // R7.5: a managed pool's base counts the days on which it has an IP, each once.
    #[test]
    fn a_base_is_charged_once_however_many_ips() {
        let prices = vec![
            price(Item::ManagedIp, "1970-01-01", 0),
            price(Item::ManagedPool, "1970-01-01", 3_000),
            price(Item::ManagedAccount, "1970-01-01", 1_500),
        ];
        let mut other = stay(Item::ManagedIp, "2026-09-20", None);
        other.pool = Some(("pool_2".into(), "other".into()));
        let stays = vec![
            stay(Item::ManagedIp, "2026-09-01", Some("2026-09-10")),
            stay(Item::ManagedIp, "2026-09-05", Some("2026-09-15")),
            other,
            stay(Item::Standard, "2026-09-16", None),
        ];
        let lines = whole("2026-09", &of(stays), prices);
        let told: Vec<&str> = lines.iter().map(|(words, _)| words.as_str()).collect();
        assert_eq!(
            told[3..],
            [
                "Managed pool bulk in region local, 2026-09-01 to 2026-09-15, 15 of 30 days × 30.00 = 15.00",
                "Managed pool other in region local, 2026-09-20 to 2026-09-30, 11 of 30 days × 30.00 = 11.00",
                "Managed pools in region local, 2026-09-01 to 2026-09-15, 15 of 30 days × 15.00 = 7.50",
                "Managed pools in region local, 2026-09-20 to 2026-09-30, 11 of 30 days × 15.00 = 5.50",
            ]
        );
    }

    fn rungs(rungs: &[(Option<u64>, i64)]) -> Rate {
        Rate::Thousand(
            rungs.iter().map(|(up_to, micro_cents)| Rung { up_to: *up_to, micro_cents: *micro_cents }).collect(),
        )
    }

    // R7.5: tiers over the calendar month, in the order in which it was sent.
    #[test]
    fn a_thousand_costs_what_its_rung_and_its_day_say() {
        let sent = |date: &str, sent| Use { region: "local".into(), day: day(date), sent };
        let held = Held {
            uses: vec![
                sent("2026-10-01", 9_000_000),
                sent("2026-10-02", 2_000_000),
                sent("2026-10-20", 500),
                sent("2026-11-01", 7),
            ],
            ..of(Vec::new())
        };
        let general = |from: &str, rate| Price { rate, ..price(Item::ManagedThousand, from, 0) };
        let tiers = rungs(&[(Some(10_000_000), 8_000_000), (Some(50_000_000), 4_000_000), (None, 2_000_000)]);
        let told = whole("2026-10", &held, vec![general("1970-01-01", tiers.clone())]);
        assert_eq!(
            told,
            [
                (
                    "Messages from managed IPs in region local, 2026-10-01 to 2026-10-02, the first 10,000,000: 10,000,000 × 0.08 a thousand = 800.00".into(),
                    80_000
                ),
                (
                    "Messages from managed IPs in region local, 2026-10-02 to 2026-10-20, from 10,000,000 to 50,000,000: 1,000,500 × 0.04 a thousand = 40.02".into(),
                    4_002
                ),
            ]
        );
        // The prices of a day are those of the day; how far the month is, is not forgotten.
        let prices =
            vec![general("1970-01-01", tiers), general("2026-10-20", rungs(&[(Some(11_000_100), 999_999), (None, 0)]))];
        let told = whole("2026-10", &held, prices);
        assert!(told[2].0.ends_with("the first 11,000,100: 100 × 0.00999999 a thousand = 0.00"), "{told:?}");
        assert!(told[3].0.ends_with("beyond 11,000,100: 400 × 0.00 a thousand = 0.00"), "{told:?}");
        assert!(whole("2026-10", &held, Vec::new()).is_empty());
    }

    #[test]
    fn the_rest_of_a_month_goes_like_its_beginning() {
        let sent = |date: &str, sent| Use { region: "local".into(), day: day(date), sent };
        let total = |uses: &[Use], today: &str| {
            let all = expected(uses, month("2026-02"), day(today)).unwrap();
            all.iter().map(|used| used.sent).sum::<u64>()
        };
        assert_eq!(
            total(&[sent("2026-02-01", 100), sent("2026-02-02", 300), sent("2026-02-03", 50)], "2026-02-03"),
            400 + 26 * 200
        );
        assert_eq!(total(&[sent("2026-02-01", 10)], "2026-02-01"), 280);
        assert_eq!(total(&[sent("2026-02-27", 26), sent("2026-02-28", 999)], "2026-02-28"), 26 + 999);
        assert_eq!(total(&[], "2026-02-10"), 0);
    }

    #[test]
    fn prices_are_read_and_written_exactly() {
        for (text, micro_cents, again) in [
            ("24.95", 2_495_000_000, "24.95"),
            ("0.08", 8_000_000, "0.08"),
            ("20", 2_000_000_000, "20.00"),
            ("0.00000001", 1, "0.00000001"),
            ("1000000.00", CENTS_MAX * MICRO_CENTS, "1000000.00"),
            ("0.1250", 12_500_000, "0.125"),
        ] {
            assert_eq!(price_of(text), Ok(micro_cents), "{text}");
            assert_eq!(Decimal(micro_cents).to_string(), again);
        }
        for wrong in ["", ".", "1.", ".5", "-1", "+1", "1e3", "1,5", "1 ", "0.000000001", "1000000.01", "99999999", "١"]
        {
            assert_eq!(price_of(wrong), Err(NotAPrice), "{wrong}");
        }
        assert_eq!(Cents(123_456_789).to_string(), "1,234,567.89");
        assert_eq!(Cents(-5).to_string(), "-0.05");
    }

    #[test]
    fn what_no_number_holds_is_refused() {
        let held = of(vec![stay(Item::Standard, "2026-10-01", None)]);
        let most = Prices(vec![price(Item::Standard, "1970-01-01", i64::MAX)]);
        assert_eq!(charge(month("2026-10"), i64::MAX, &held, &most), Err(Overflow));
        let used = |sent| Use { region: "local".into(), day: day("2026-10-01"), sent };
        let most = Price { rate: rungs(&[(None, i64::MAX)]), ..price(Item::ManagedThousand, "1970-01-01", 0) };
        let held = Held { uses: vec![used(u64::MAX)], ..of(Vec::new()) };
        assert_eq!(charge(month("2026-10"), i64::MAX, &held, &Prices(vec![most])), Err(Overflow));
        let held = Held { uses: vec![used(u64::MAX), used(1)], ..of(Vec::new()) };
        assert_eq!(charge(month("2026-10"), i64::MAX, &held, &Prices::default()), Err(Overflow));
        assert_eq!(expected(&held.uses, month("2026-10"), day("2026-10-01")), Err(Overflow));
    }

    proptest! {
        // R7.5: exact to the cent: however a month is cut, its parts sum up to it. Months of 28 to 31 days, leap years too.
        #[test]
        fn spec_r7_5_parts_of_a_month_sum_up_to_the_month(
            number in 1_970i64 * 12..2_400 * 12,
            cents in 0i64..=CENTS_MAX,
            cuts in proptest::collection::vec(0i64..31, 0..12),
        ) {
            let month = Month::numbered(number).unwrap();
            let mut ends: Vec<i64> = cuts.into_iter().map(|cut| cut % month.days()).filter(|cut| *cut > 0).collect();
            ends.push(month.days());
            ends.sort_unstable();
            ends.dedup();
            let mut first = month.first_day();
            let mut stays = Vec::new();
            for end in ends {
                let last = month.first_day() + end - 1;
                stays.push(Stay { first_day: first, last_day: Some(last), ..stay(Item::Standard, "1970-01-01", None) });
                first = last + 1;
            }
            let prices = Prices(vec![price(Item::Standard, "1970-01-01", cents)]);
            let lines = charge(month, i64::MAX, &of(stays), &prices).unwrap();
            prop_assert_eq!(sum(&lines), Ok(cents));
            for line in &lines {
                // No part is off by more than the cent that rounding moves.
                let exact = i128::from(cents) * i128::from(line.days());
                let charged = i128::from(line.amount_cents) * i128::from(line.month_days);
                prop_assert!((exact - charged).abs() <= i128::from(line.month_days));
            }
        }
    }
}
