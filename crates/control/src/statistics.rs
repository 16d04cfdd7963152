//! How much was sent, and what became of it? (R6.2)
//!
//! Counts by minute, hour and day, added up from the archive in its order. How far that is done is kept in the transaction of the
//! counts: a crash repeats nothing and forgets nothing. What is late is counted where it belongs, for as long as that is kept.

use crate::account;
use crate::actor::Actor;
use crate::archive::Archive;
use crate::block::{Kept, Wanted};
use crate::office::Office;
use crate::refusal::Refusal;
use crate::setting::{self, Setting};
use crate::store::{Change, Columns, Query, q, row, rows, run};
use crate::subaccount;
use engine::counts::{ALL, COUNTS, Count, Counted, GRAINS, Grain, STEPS, counted, step_of, within_s};
use engine::event::EventKind;
use engine::time::Timestamp;
use sqlx::AssertSqlSafe;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::Duration;

/// Its place in the archive.
const READER: &str = "statistics";
/// Events added up in one transaction.
const EVENTS_AT_ONCE: usize = 16_384;
/// Rows of one answer; more is asked for in parts.
pub const ROWS_MAX: usize = 10_000;
/// Where a site is no provider of the rule file, it counts as this: there are very many.
const OTHER_PROVIDER: &str = "other";
/// Series whose number is remembered.
const SERIES_REMEMBERED_MAX: usize = 100_000;
const DAY: Duration = Duration::from_secs(86_400);

/// What a count belongs to. Empty where the event does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Series {
    account: String,
    subaccount: String,
    set: String,
    pool: String,
    ip: String,
    provider: String,
    /// The sender's.
    domain: String,
    /// Of a managed pool, whose addresses are the operator's (R2.8).
    concealed: bool,
}

impl Series {
    fn of(kept: &Kept) -> Series {
        let (event, about) = (&kept.event, &kept.about);
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let provider = event.provider.as_deref();
        Series {
            account: text(event.account.as_ref().map(engine::id::AccountId::as_str)),
            subaccount: text(about.subaccount.as_deref()),
            set: text(about.set.as_deref()),
            pool: text(event.pool.as_ref().map(engine::id::PoolId::as_str)),
            ip: event.ip.map(|ip| ip.to_string()).unwrap_or_default(),
            // A site that has no name of its own is called by its hosts.
            provider: text(provider.map(|name| if name.contains('.') { OTHER_PROVIDER } else { name })),
            domain: text(about.domain.as_deref()),
            concealed: !about.concealed.is_empty(),
        }
    }
}

/// What is to be added at one time and place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sums {
    counts: [i64; COUNTS],
    steps: [i64; STEPS],
}

impl Default for Sums {
    fn default() -> Sums {
        Sums { counts: [0; COUNTS], steps: [0; STEPS] }
    }
}

/// What events add, by series, grain and time.
#[derive(Default)]
struct Added(HashMap<Series, HashMap<(Grain, i64), Sums>>);

impl Added {
    fn add(&mut self, kept: &Kept, count: Count, by: i64) {
        let of_series = self.0.entry(Series::of(kept)).or_default();
        for grain in GRAINS {
            let sums = of_series.entry((grain, grain.begin(kept.event.at))).or_default();
            sums.counts[count as usize] += by;
            if count == Count::Delivered
                && let Some(began) = kept.began
            {
                sums.steps[step_of(kept.event.at.since(began))] += by;
            }
        }
    }
}

/// As `count` of a delivery, at another time.
fn moved(delivery: &Kept, at: Timestamp) -> Kept {
    let mut moved = delivery.clone();
    moved.event.at = at;
    moved
}

impl Archive {
    /// Adds up what has come since the last time; whether there is more to do at once.
    pub async fn count(&self, kept_since: impl Fn(Grain) -> Timestamp) -> Result<bool, Refusal> {
        let mut conn = self.store().read().await?;
        let place = Archive::place(&mut conn, READER).await?;
        drop(conn);
        let read = self.read_on(&Wanted::default(), place, EVENTS_AT_ONCE).await?;
        if read.next == place {
            return Ok(false);
        }
        let mut added = Added::default();
        for kept in &read.events {
            match counted(&kept.event) {
                Counted::Not => {}
                Counted::Here(count) => added.add(kept, count, 1),
                late => self.add_late(&mut added, kept, late).await?,
            }
        }
        let mut change = self.store().change().await?;
        if Archive::place(change.conn(), READER).await? != place {
            // Another process was faster.
            return Ok(true);
        }
        let mut known = HashMap::new();
        for (series, sums) in added.0 {
            let mut id = None;
            for ((grain, at), sums) in sums.iter().filter(|((grain, at), _)| *at >= kept_since(*grain).unix_seconds()) {
                let id = match id {
                    Some(id) => id,
                    None => *id.insert(self.series(&mut change, &series).await?),
                };
                run(change.conn(), put(*grain, id, *at, sums)).await?;
            }
            known.extend(id.map(|id| (text_of(&series), id)));
        }
        Archive::set_place(change.conn(), READER, read.next).await?;
        change.commit().await?;
        let mut remembered = self.series_known();
        if remembered.len() + known.len() > SERIES_REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.extend(known);
        Ok(read.events.len() == EVENTS_AT_ONCE)
    }

    /// What comes back after a delivery: once for each recipient, whoever tells it how often (F4).
    async fn add_late(&self, added: &mut Added, kept: &Kept, late: Counted) -> Result<(), Refusal> {
        let Some(message) = kept.event.message else { return Ok(()) };
        let story = self.story(message).await?;
        let same = |other: &&Kept| other.event.recipient == kept.event.recipient && other.number < kept.number;
        let before: Vec<&Kept> = story.iter().filter(same).collect();
        let is_same = |other: &&Kept| match (counted(&other.event), late) {
            (Counted::InsteadOfDelivery(_), Counted::InsteadOfDelivery(_)) => true,
            (before, now) => before == now,
        };
        if before.iter().any(is_same) {
            return Ok(());
        }
        let delivery = before.iter().rev().find(|other| other.event.kind == EventKind::Delivered);
        match (late, delivery) {
            (Counted::InsteadOfDelivery(count), Some(delivery)) => {
                added.add(delivery, Count::Delivered, -1);
                added.add(&uncounted_time(delivery), count, 1);
            }
            (Counted::WithDelivery(count), Some(delivery)) => {
                added.add(&moved(delivery, kept.event.at), count, 1);
            }
            // It has met another fate, which is counted already.
            (Counted::InsteadOfDelivery(_), None) if before.iter().any(|other| is_refused(other.event.kind)) => {}
            (Counted::InsteadOfDelivery(count) | Counted::WithDelivery(count), None) => added.add(kept, count, 1),
            (Counted::Here(_) | Counted::Not, _) => {}
        }
        Ok(())
    }

    async fn series(&self, change: &mut Change, series: &Series) -> Result<i64, Refusal> {
        if let Some(id) = self.series_known().get(&text_of(series)) {
            return Ok(*id);
        }
        let with = |sql: &'static str| {
            q!(
                sql,
                series.account.clone(),
                series.subaccount.clone(),
                series.set.clone(),
                series.pool.clone(),
                series.ip.clone(),
                series.provider.clone(),
                i64::from(series.concealed),
                series.domain.clone(),
            )
        };
        const FIND: &str = "SELECT id FROM series WHERE account = $1 AND subaccount = $2 AND configuration_set = $3 AND \
                            pool = $4 AND ip = $5 AND provider = $6 AND concealed = $7 AND domain = $8";
        if let Some(row) = row(change.conn(), with(FIND)).await? {
            return row.whole(0);
        }
        const INSERT: &str = "INSERT INTO series (id, account, subaccount, configuration_set, pool, ip, provider, \
                              concealed, domain) SELECT COALESCE(MAX(id), 0) + 1, $1, $2, $3, $4, $5, $6, $7, $8 FROM series";
        run(change.conn(), with(INSERT)).await?;
        crate::store::number(change.conn(), with(FIND)).await
    }

    /// Lets go of counts from before these moments.
    pub async fn forget_counts(&self, kept_since: impl Fn(Grain) -> Timestamp) -> Result<(), Refusal> {
        for grain in GRAINS {
            let mut change = self.store().change().await?;
            let since = kept_since(grain).unix_seconds();
            let gone = q!("DELETE FROM rollup WHERE grain = $1 AND at < $2", grain.seconds(), since);
            run(change.conn(), gone).await?;
            change.commit().await?;
        }
        Ok(())
    }
}

fn is_refused(kind: EventKind) -> bool {
    matches!(kind, EventKind::Bounced | EventKind::Expired | EventKind::Deleted | EventKind::Rejected)
}

/// A delivery that was none took no time.
fn uncounted_time(delivery: &Kept) -> Kept {
    Kept { began: None, ..delivery.clone() }
}

/// For the table of numbers; fields are parted by what none of them holds.
fn text_of(series: &Series) -> String {
    let Series { account, subaccount, set, pool, ip, provider, domain, concealed } = series;
    format!("{account}\0{subaccount}\0{set}\0{pool}\0{ip}\0{provider}\0{domain}\0{concealed}")
}

fn columns() -> impl Iterator<Item = String> {
    ALL.iter().map(|count| count.code().to_owned()).chain((0..STEPS).map(|step| format!("step{step}")))
}

/// Adds to what is there.
static PUT: LazyLock<String> = LazyLock::new(|| {
    let columns: Vec<String> = columns().collect();
    let values: Vec<String> = (1..=columns.len() + 3).map(|place| format!("${place}")).collect();
    let sums: Vec<String> =
        columns.iter().map(|column| format!("{column} = rollup.{column} + excluded.{column}")).collect();
    format!(
        "INSERT INTO rollup (grain, series, at, {}) VALUES ({}) ON CONFLICT (grain, series, at) DO UPDATE SET {}",
        columns.join(", "),
        values.join(", "),
        sums.join(", ")
    )
});

fn put(grain: Grain, series: i64, at: i64, sums: &Sums) -> Query {
    // Ours, from the names above.
    let query = sqlx::query(AssertSqlSafe(PUT.as_str())).bind(grain.seconds()).bind(series).bind(at);
    sums.counts.iter().chain(&sums.steps).fold(query, |query, sum| query.bind(*sum))
}

/// By what counts are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dimension {
    Account,
    Subaccount,
    ConfigurationSet,
    Pool,
    Ip,
    Provider,
    Domain,
}

impl Dimension {
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Dimension::Account => "account",
            Dimension::Subaccount => "subaccount",
            Dimension::ConfigurationSet => "configuration_set",
            Dimension::Pool => "pool",
            Dimension::Ip => "ip",
            Dimension::Provider => "provider",
            Dimension::Domain => "domain",
        }
    }

    #[must_use]
    pub fn of(code: &str) -> Option<Dimension> {
        use Dimension::{Account, ConfigurationSet, Domain, Ip, Pool, Provider, Subaccount};
        [Account, Subaccount, ConfigurationSet, Pool, Ip, Provider, Domain].into_iter().find(|is| is.code() == code)
    }
}

impl Dimension {
    /// R2.8: to others than the operator, what a managed pool sent has no IP.
    pub(crate) fn column(self, is_operator: bool) -> String {
        match self {
            Dimension::Ip if !is_operator => "CASE WHEN s.concealed = 1 THEN '' ELSE s.ip END".to_owned(),
            dimension => format!("s.{}", dimension.code()),
        }
    }
}

/// What is asked of the counts.
#[derive(Clone, Debug, Default)]
pub struct Question {
    pub account: Option<String>,
    pub subaccount: Option<String>,
    pub set: Option<String>,
    pub pool: Option<String>,
    pub ip: Option<IpAddr>,
    pub provider: Option<String>,
    /// The sender's.
    pub domain: Option<String>,
    pub by: Vec<Dimension>,
    /// None: one sum over all the time.
    pub grain: Option<Grain>,
    pub from: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

impl Question {
    /// Of nothing but this.
    pub(crate) fn only(&mut self, dimension: Dimension, of: &str) {
        let of = Some(of.to_owned());
        match dimension {
            Dimension::Account => self.account = of,
            Dimension::Subaccount => self.subaccount = of,
            Dimension::ConfigurationSet => self.set = of,
            Dimension::Pool => self.pool = of,
            Dimension::Ip => self.ip = of.and_then(|of| of.parse().ok()),
            Dimension::Provider => self.provider = of,
            Dimension::Domain => self.domain = of,
        }
    }
}

/// One line of the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// The beginning of the minute, hour or day.
    pub at: Option<Timestamp>,
    /// In the order of the question.
    pub of: Vec<(Dimension, String)>,
    pub counts: BTreeMap<&'static str, i64>,
    /// How many were delivered within each step of `engine::counts`.
    pub steps: [i64; STEPS],
    /// Within how many seconds half of it was delivered, and 95 %.
    pub p50_s: Option<f64>,
    pub p95_s: Option<f64>,
}

/// The answer, and from when until when it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    pub from: Timestamp,
    pub until: Timestamp,
    pub figures: Vec<Figures>,
}

impl Office {
    /// How long counts of each grain are kept, from now on backwards.
    pub async fn counts_kept_since(&self) -> Result<impl Fn(Grain) -> Timestamp, Refusal> {
        let mut conn = self.store().read().await?;
        let now = self.now();
        let mut since = BTreeMap::new();
        for (grain, named) in [
            (Grain::Minute, Setting::CountsMinutesDays),
            (Grain::Hour, Setting::CountsHoursDays),
            (Grain::Day, Setting::CountsDaysDays),
        ] {
            let days = u32::try_from(setting::value(&mut conn, named).await?).unwrap_or(0);
            since.insert(grain, now - DAY * days);
        }
        Ok(move |grain: Grain| since.get(&grain).copied().unwrap_or(now))
    }

    /// Events, counts and deliveries that are older than their settings say go.
    pub async fn tidy_archive(&self) -> Result<(), Refusal> {
        let mut conn = self.store().read().await?;
        let days = u32::try_from(setting::value(&mut conn, Setting::EventsDays).await?).unwrap_or(0);
        let gib = setting::value(&mut conn, Setting::EventsGibMax).await?;
        drop(conn);
        self.archive().forget(self.now() - DAY * days, gib.saturating_mul(1 << 30)).await?;
        let since = self.counts_kept_since().await?;
        self.archive().forget_counts(since).await
    }

    /// Sums of what became of mail. Without a grain the range is widened to whole hours, or to whole days where it is of such.
    pub async fn statistics(&self, by: &Actor, mut asked: Question) -> Result<Statistics, Refusal> {
        let own = by.account().map(|own| own.as_str().to_owned());
        match asked.account.take().or(own) {
            Some(called) => {
                let mut conn = self.store().read().await?;
                let account = account::seen(&mut conn, by, &called, Actor::may_read).await?;
                if let Some(part) = asked.subaccount.take() {
                    let part = subaccount::own(&mut conn, &account.id, &part).await?;
                    by.may_read_part(&account.id, Some(&part.id))?;
                    asked.subaccount = Some(part.id);
                }
                if let Some(part) = by.subaccount() {
                    asked.subaccount = Some(part.as_str().to_owned());
                }
                asked.account = Some(account.id);
            }
            None => by.may_watch()?,
        }
        self.counts(&asked, by.is_operator()).await
    }

    /// What was asked, by somebody who may ask it.
    pub(crate) async fn counts(&self, asked: &Question, is_operator: bool) -> Result<Statistics, Refusal> {
        let until = asked.until.unwrap_or(self.now());
        let from = asked.from.unwrap_or(until - DAY);
        let grain = asked.grain.unwrap_or_else(|| grain_of(from, until));
        let (begin, end) = (grain.begin(from), grain.begin(Timestamp(until.0 - 1)) + grain.seconds());
        let sql = sql(asked, is_operator);
        let mut query: Query = sqlx::query(AssertSqlSafe(sql)).bind(grain.seconds()).bind(begin).bind(end);
        for value in conditions(asked).into_iter().map(|(_, value)| value) {
            query = query.bind(value);
        }
        let mut conn = self.archive().store().read().await?;
        let found = rows(&mut conn, query).await?;
        if found.len() > ROWS_MAX {
            let sentence = format!("The answer has more than {ROWS_MAX} rows.");
            return Err(Refusal::invalid(
                "by",
                sentence,
                "Ask for a shorter time, a coarser resolution, or less detail.",
            ));
        }
        let figures = found.iter().map(|row| figures(row, asked)).collect::<Result<Vec<_>, Refusal>>()?;
        let (from, until) = (Timestamp::from_unix_seconds(begin), Timestamp::from_unix_seconds(end));
        Ok(Statistics { from, until, figures })
    }
}

fn grain_of(from: Timestamp, until: Timestamp) -> Grain {
    let is_whole = |at: Timestamp| Timestamp::from_unix_seconds(Grain::Day.begin(at)) == at;
    if is_whole(from) && is_whole(until) || until.since(from) > DAY * 60 { Grain::Day } else { Grain::Hour }
}

fn conditions(asked: &Question) -> Vec<(Dimension, String)> {
    let given = [
        (Dimension::Account, asked.account.clone()),
        (Dimension::Subaccount, asked.subaccount.clone()),
        (Dimension::ConfigurationSet, asked.set.clone()),
        (Dimension::Pool, asked.pool.clone()),
        (Dimension::Ip, asked.ip.map(|ip| ip.to_string())),
        (Dimension::Provider, asked.provider.clone()),
        (Dimension::Domain, asked.domain.clone()),
    ];
    given.into_iter().filter_map(|(dimension, value)| Some((dimension, value?))).collect()
}

fn sql(asked: &Question, is_operator: bool) -> String {
    let column = |dimension: Dimension| dimension.column(is_operator);
    let mut groups: Vec<String> = asked.by.iter().copied().map(column).collect();
    if asked.grain.is_some() {
        groups.insert(0, "r.at".to_owned());
    }
    let sums = columns().map(|column| format!("CAST(COALESCE(SUM(r.{column}), 0) AS BIGINT)"));
    let selected: Vec<String> = groups.iter().cloned().chain(sums).collect();
    // The few series first, then of each what is of that time.
    let mut sql = format!(
        "SELECT {} FROM series s CROSS JOIN rollup r WHERE r.grain = $1 AND r.series = s.id AND r.at >= $2 AND r.at < $3",
        selected.join(", ")
    );
    for (place, (dimension, _)) in conditions(asked).into_iter().enumerate() {
        sql.push_str(&format!(" AND {} = ${}", column(dimension), place + 4));
    }
    if !groups.is_empty() {
        let groups = groups.join(", ");
        sql.push_str(&format!(" GROUP BY {groups} ORDER BY {groups}"));
    }
    sql + &format!(" LIMIT {}", ROWS_MAX + 1)
}

fn figures(row: &sqlx::any::AnyRow, asked: &Question) -> Result<Figures, Refusal> {
    let mut place = 0;
    let mut next = || {
        place += 1;
        place - 1
    };
    let at = match asked.grain {
        Some(_) => Some(Timestamp::from_unix_seconds(row.whole(next())?)),
        None => None,
    };
    let of = asked.by.iter().map(|dimension| Ok((*dimension, row.text(next())?))).collect::<Result<_, Refusal>>()?;
    let counts = ALL.iter().map(|count| Ok((count.code(), row.whole(next())?))).collect::<Result<_, Refusal>>()?;
    let mut steps = [0; STEPS];
    for step in &mut steps {
        *step = row.whole(next())?;
    }
    Ok(Figures { at, of, counts, steps, p50_s: within_s(&steps, 0.5), p95_s: within_s(&steps, 0.95) })
}
