//! What costs how much, since when? (R7.5)
//!
//! A list that only grows: a price holds from a day on, until there is another for the same. None begins before today, so that no past
//! day, and no month that is over, ever costs something else.

use crate::actor::Actor;
use crate::audit::{self, Line, Subject};
use crate::office::Office;
use crate::refusal::Refusal;
use crate::region;
use crate::store::{Columns, q, row, rows, run};
use engine::charge::{CENTS_MAX, Item, MICRO_CENTS, Price, Prices, Rate, Rung};
use engine::month::date_of;
use engine::snapshot::Plan;
use serde_json::json;
use sqlx::AnyConnection;

/// What is charged where the operator has said nothing: SES's price of a month, and SparkPost's.
const DEFAULTS: [(Item, i64); 3] = [(Item::Standard, 2_495), (Item::Purchase, 2_000), (Item::ManagedIp, 2_495)];
/// Steps of a price by the thousand; more than anybody reads.
const RUNGS_MAX: usize = 20;
/// A price may be told so far ahead.
const AHEAD_MAX_DAYS: i64 = 3_660;

#[derive(Clone, Debug)]
pub struct NewPrice {
    pub item: Item,
    pub plan: Option<Plan>,
    pub region: Option<String>,
    /// None: from today.
    pub from_day: Option<i64>,
    pub rate: Rate,
}

/// Those that hold without a word, first; then what the operator has said.
pub(crate) async fn all(conn: &mut AnyConnection) -> Result<Prices, Refusal> {
    let default = |(item, cents)| Price { item, plan: None, region: None, from_day: 0, rate: Rate::Month { cents } };
    let mut prices: Vec<Price> = DEFAULTS.into_iter().map(default).collect();
    let query = q!("SELECT item, plan, region, from_day, rate FROM price ORDER BY from_day, item, plan, region");
    for row in rows(conn, query).await? {
        let (item, plan, region) = (row.text(0)?, row.text(1)?, row.text(2)?);
        // What another version wrote is no price of this one.
        let (Some(item), Ok(rate)) = (Item::of(&item), serde_json::from_str::<Rate>(&row.text(4)?)) else { continue };
        prices.push(Price {
            item,
            plan: crate::account::plan_of(&plan),
            region: Some(region).filter(|region| !region.is_empty()),
            from_day: row.whole(3)?,
            rate,
        });
    }
    Ok(Prices(prices))
}

/// What a month of it costs as of this day.
pub(crate) async fn of_month(
    conn: &mut AnyConnection,
    item: Item,
    plan: Plan,
    region: &str,
    day: i64,
) -> Result<i64, Refusal> {
    Ok(match all(conn).await?.on(item, plan, region, day) {
        Some(Rate::Month { cents }) => *cents,
        _ => 0,
    })
}

impl Office {
    /// All that was ever said, oldest first; everybody may know what things cost.
    pub async fn prices(&self, _: &Actor) -> Result<Vec<Price>, Refusal> {
        Ok(all(&mut *self.store().read().await?).await?.0)
    }

    pub async fn set_price(&self, by: &Actor, new: NewPrice) -> Result<Price, Refusal> {
        by.may_operate()?;
        let today = self.now().day();
        let from_day = new.from_day.unwrap_or(today);
        if !(today..=today + AHEAD_MAX_DAYS).contains(&from_day) {
            let sentence = format!("A price begins today ({}) or later.", date_of(today));
            let mend = "What is past is charged as it was; name a day to come, or none.";
            return Err(Refusal::invalid("from", sentence, mend).by_rule("R7.5"));
        }
        fits(new.item, &new.rate)?;
        let mut change = self.store().change().await?;
        if let Some(region) = &new.region {
            region::must_exist(change.conn(), region).await?;
        }
        let plan = new.plan.map(crate::account::plan_code).unwrap_or_default();
        let region = new.region.clone().unwrap_or_default();
        let key = format!("{} {plan} {region}", new.item.code());
        let query = q!(
            "SELECT rate FROM price WHERE item = $1 AND plan = $2 AND region = $3 AND from_day = $4",
            new.item.code(),
            plan,
            region.clone(),
            from_day,
        );
        let was = row(change.conn(), query).await?.map(|row| row.text(0)).transpose()?;
        let put = q!(
            "INSERT INTO price (item, plan, region, from_day, rate) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (item, plan, region, from_day) DO UPDATE SET rate = excluded.rate",
            new.item.code(),
            plan,
            region,
            from_day,
            json!(new.rate).to_string(),
        );
        run(change.conn(), put).await?;
        let detail = json!({ "from": date_of(from_day), "was": was, "is": new.rate });
        let line = Line { subject: Subject::Price, id: key.trim(), account: None, action: "set", detail };
        audit::write(&mut change, by, self.now(), line).await?;
        change.commit().await?;
        Ok(Price { item: new.item, plan: new.plan, region: new.region, from_day, rate: new.rate })
    }
}

/// A month has one price, a thousand messages have steps that rise and end with one for all the rest.
fn fits(item: Item, rate: &Rate) -> Result<(), Refusal> {
    let is_money = |micro_cents: i64| (0..=CENTS_MAX * MICRO_CENTS).contains(&micro_cents);
    match (item, rate) {
        (Item::ManagedThousand, Rate::Thousand(rungs)) => {
            let tops: Vec<u64> = rungs.iter().map(|rung: &Rung| rung.up_to.unwrap_or(u64::MAX)).collect();
            let rises = tops.first().is_some_and(|first| *first > 0) && tops.windows(2).all(|pair| pair[0] < pair[1]);
            let ends = rungs.last().is_some_and(|rung| rung.up_to.is_none());
            if rises && ends && rungs.len() <= RUNGS_MAX && rungs.iter().all(|rung| is_money(rung.micro_cents)) {
                return Ok(());
            }
            let sentence = format!("From 1 to {RUNGS_MAX} steps that rise; the last one holds for all the rest.");
            Err(Refusal::invalid("thousand", sentence, "Such as up_to=1000000,price=0.40 and then price=0.25."))
        }
        (Item::ManagedThousand, Rate::Month { .. }) => {
            Err(Refusal::invalid("thousand", "Messages have a price a thousand.", "Say thousand in place of month."))
        }
        (_, Rate::Month { cents }) if is_money(cents.saturating_mul(MICRO_CENTS)) => Ok(()),
        (_, Rate::Month { .. }) => {
            Err(Refusal::invalid("month", "A price is from 0 to 1,000,000.00.", "Write it such as 24.95."))
        }
        (_, Rate::Thousand(_)) => {
            Err(Refusal::invalid("month", "This has a price a month.", "Say month in place of thousand."))
        }
    }
}
