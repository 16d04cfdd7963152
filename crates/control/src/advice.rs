//! What is an account advised, by its figures and what it says; and what is it told without asking? (R8.1)

use crate::account::{self, Account};
use crate::actor::Actor;
use crate::incident::{self, IncidentKind, Of, Told, Weight};
use crate::managed::FitQuestion;
use crate::office::Office;
use crate::price;
use crate::refusal::Refusal;
use crate::reputation::outcomes;
use crate::statistics::{Dimension, Question};
use crate::store::{Columns, q, rows};
use engine::advice::{Advice, DEDICATED_FROM, Facts, advise, is_steady};
use engine::charge::Item;
use engine::counts::Grain;
use engine::drive::{Side, Verdict, compare};
use engine::fit::{PER_MONTH_ADVISED, Point};
use engine::snapshot::Plan;
use engine::time::Timestamp;
use serde_json::json;
use sqlx::any::AnyRow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);
/// Four weeks are what is looked at, and told as a month of thirty days.
const DAYS: u32 = 28;
/// A kind of mail has at least this part of all of it.
const KIND_PART: f64 = 0.1;
/// An IP must have had this long before it is called idle.
const SETTLED: Duration = Duration::from_secs(28 * 86_400);

/// What somebody says; what is left out is taken from the figures, or is not so.
#[derive(Clone, Debug, Default)]
pub struct Said {
    pub per_month: Option<u64>,
    pub is_steady: Option<bool>,
    pub kinds: Option<u32>,
    pub is_sensitive: bool,
    pub is_audited: bool,
    pub hands_off: bool,
    pub needs_addresses: bool,
}

/// What was weighed, and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Advised {
    pub per_month: u64,
    pub busiest: u64,
    /// None: nobody knows.
    pub is_steady: Option<bool>,
    pub kinds: u32,
    /// None: nothing was sent.
    pub days: Option<u32>,
    pub advice: Advice,
    /// What a managed pool requires.
    pub requirements: Vec<Point>,
}

/// An IP that an account has.
struct Leased {
    ip: IpAddr,
    is_managed: bool,
    started_at: Timestamp,
}

/// What an account sent in the last four weeks.
struct Measured {
    days: Vec<u64>,
    /// By configuration set.
    kinds: BTreeMap<String, Side>,
}

impl Measured {
    fn per_month(&self) -> u64 {
        self.days.iter().sum::<u64>() * 30 / u64::from(DAYS)
    }

    /// Each two of the kinds that go differently, and how.
    fn differing(&self) -> impl Iterator<Item = (&str, &str, String)> {
        let all: u64 = self.kinds.values().map(|side| side.outcomes.sent()).sum();
        let large: Vec<(&String, &Side)> =
            self.kinds.iter().filter(|(_, side)| side.outcomes.sent() as f64 >= all as f64 * KIND_PART).collect();
        let pairs = |place: usize| large[place + 1..].iter().map(move |beside| (place, *beside));
        let pairs: Vec<_> = (0..large.len()).flat_map(pairs).map(|(place, beside)| (large[place], beside)).collect();
        pairs.into_iter().filter_map(|((one, side), (other, beside))| {
            let comparison = compare(*side, *beside);
            if matches!(comparison.verdict, Verdict::TooLittle { .. }) {
                return None;
            }
            let figure = comparison.figures.iter().find(|figure| figure.differs())?;
            let words = format!("{} {:.2} % and {:.2} %", figure.figure.code(), figure.new * 100.0, figure.old * 100.0);
            Some((one.as_str(), other.as_str(), words))
        })
    }
}

impl Office {
    pub async fn advise(&self, by: &Actor, account: &str, said: &Said) -> Result<Advised, Refusal> {
        let mut conn = self.store().read().await?;
        let account = account::seen(&mut conn, by, account, Actor::may_read).await?;
        by.may_read_part(&account.id, None)?;
        let prices = price::all(&mut conn).await?;
        let verified = q!(
            "SELECT name FROM domain WHERE account = $1 AND verified_at IS NOT NULL ORDER BY name",
            account.id.clone()
        );
        let domains = rows(&mut conn, verified).await?.iter().map(|row| row.text(0)).collect::<Result<Vec<_>, _>>()?;
        drop(conn);
        let measured = self.measured(&account.id).await?;
        let reputation = self.reputation_of(&account.id).await?;
        let known = self.sent_ever(&account.id).await?;
        let per_month = said.per_month.unwrap_or(measured.per_month());
        // What is only said is spread as it usually is: the busiest day has a twentieth of the month.
        let busiest = match said.per_month {
            Some(typed) => typed.div_ceil(20),
            None => measured.days.iter().max().copied().unwrap_or(0),
        };
        // What is to come is not as what was, and four weeks are needed to see bursts.
        let is_seen = said.per_month.is_none() && known.0 > 0 && known.1 >= DAYS;
        let steady = said.is_steady.or_else(|| is_seen.then(|| is_steady(&measured.days)));
        let kinds = said.kinds.unwrap_or(if measured.differing().next().is_some() { 2 } else { 1 });
        let asked = FitQuestion {
            per_day: per_month / 30,
            per_month,
            is_steady: steady.unwrap_or(true),
            domains,
            regions: vec![self.home_region().to_string()],
            needs_addresses: said.needs_addresses,
        };
        let requirements = self.fits_managed(by, &account.id, &asked).await?.requirements;
        let unmet: Vec<Point> = requirements.iter().filter(|point| !point.met).cloned().collect();
        let days = (known.0 > 0).then_some(known.1);
        let region = self.home_region().to_string();
        let facts = Facts {
            plan: account.plan,
            region: &region,
            day: self.now().day(),
            per_month,
            busiest,
            is_steady: steady,
            // Who types in what it will send elsewhere is not new because it is new here.
            days: days.filter(|_| said.per_month.is_none()),
            reputation: Some(&reputation).filter(|_| known.0 > 0),
            is_sensitive: said.is_sensitive,
            kinds,
            is_audited: said.is_audited,
            hands_off: said.hands_off,
            needs_addresses: said.needs_addresses,
            may_lease: account.plan != Plan::Free || account.has_payment_method,
            has_own: !self.leased_by(&account.id).await?.is_empty(),
            unmet: &unmet,
        };
        let advice = advise(&facts, &prices);
        Ok(Advised { per_month, busiest, is_steady: steady, kinds, days, advice, requirements })
    }

    async fn measured(&self, account: &str) -> Result<Measured, Refusal> {
        let now = self.now();
        let first = now.day() - i64::from(DAYS);
        let asked = Question {
            account: Some(account.to_owned()),
            by: vec![Dimension::ConfigurationSet],
            grain: Some(Grain::Day),
            from: Some(Timestamp::from_unix_seconds(first * 86_400)),
            until: Some(Timestamp::from_unix_seconds(now.day() * 86_400)),
            ..Question::default()
        };
        let mut measured = Measured { days: vec![0; DAYS as usize], kinds: BTreeMap::new() };
        for figures in self.counts(&asked, true).await?.figures {
            let became = outcomes(&figures);
            let Some(day) = figures.at.map(|at| at.day() - first) else { continue };
            if let Some(place) = usize::try_from(day).ok().and_then(|day| measured.days.get_mut(day)) {
                *place += became.sent();
            }
            if let Some((_, set)) = figures.of.first().filter(|(_, set)| !set.is_empty()) {
                measured.kinds.entry(set.clone()).or_default().outcomes.add(&became);
            }
        }
        Ok(measured)
    }

    /// Once a day: who has outgrown shared IPs, has one too idle to stay warm, or kinds of mail that should not share a pool, is told;
    /// what is no longer so ends. How many accounts were looked at.
    pub async fn advise_all(&self) -> Result<usize, Refusal> {
        let mut conn = self.store().read().await?;
        let leasing = rows(&mut conn, q!("SELECT DISTINCT account FROM lease WHERE ended_at IS NULL")).await?;
        let told = q!(
            "SELECT DISTINCT account FROM incident WHERE kind IN ('outgrown', 'idle-ip', 'mixed-mail') AND closed_at IS NULL \
             AND account IS NOT NULL"
        );
        let told = rows(&mut conn, told).await?;
        drop(conn);
        let mut archive = self.archive().store().read().await?;
        let since = Grain::Day.begin(self.now() - DAY * DAYS);
        let sending = q!(
            "SELECT DISTINCT s.account FROM rollup r JOIN series s ON s.id = r.series WHERE r.grain = $1 AND r.at >= $2",
            Grain::Day.seconds(),
            since,
        );
        let sending = rows(&mut archive, sending).await?;
        drop(archive);
        let all = leasing.iter().chain(&told).chain(&sending).map(|row| row.text(0));
        let accounts = all.collect::<Result<BTreeSet<String>, Refusal>>()?;
        for id in &accounts {
            let found = account::find(&mut *self.store().read().await?, id).await;
            if let Ok(account) = found {
                self.speak_up(&account).await?;
            }
        }
        Ok(accounts.len())
    }

    async fn speak_up(&self, account: &Account) -> Result<(), Refusal> {
        let measured = self.measured(&account.id).await?;
        let leases = self.leased_by(&account.id).await?;
        let sent = measured.per_month();
        let of_account = |kind| Of { account: Some(account.id.as_str()), ip: None, domain: None, provider: "", kind };
        let mut told: Vec<(Of<'_>, Option<(String, &str)>)> = Vec::new();
        let outgrown = (leases.is_empty() && sent >= DEDICATED_FROM).then(|| {
            let words = format!(
                "It sends {sent} messages a month from shared IPs: from {DEDICATED_FROM} on, IPs of its own pay"
            );
            (words, "weir advise says what they would cost; weir test-drive tries them with a part of the mail.")
        });
        told.push((of_account(IncidentKind::Outgrown), outgrown));
        let pools = self.pools_of_sets(&account.id).await?;
        // Of a set that is gone, nothing needs to be said any more.
        let share = |one: &str, other: &str| pools.get(one).is_some_and(|pool| pools.get(other) == Some(pool));
        let mixed = measured.differing().find(|(one, other, _)| share(one, other)).map(|(one, other, figures)| {
            let words = format!("Mail of the configuration sets {one} and {other} goes differently ({figures}), and pays for each other where it shares a pool");
            (words, "Give each a pool of its own (weir set change … --pool), or a test drive first.")
        });
        told.push((of_account(IncidentKind::MixedMail), mixed));
        // R2.8: a managed pool's IPs are the operator's to see, and are given back by themselves.
        let settled = |lease: &&Leased| !lease.is_managed && lease.started_at + SETTLED <= self.now();
        for lease in leases.iter().filter(settled) {
            let sent = self.sent_from(&account.id, lease.ip).await?;
            let idle = (sent < PER_MONTH_ADVISED).then(|| {
                let words = format!(
                    "Only {sent} messages a month leave from {}: under {PER_MONTH_ADVISED}, providers forget it",
                    lease.ip
                );
                (words, "Move more mail to its pool, or give it back (weir case open relinquish).")
            });
            let of = Of {
                account: Some(account.id.as_str()),
                ip: Some(lease.ip),
                domain: None,
                provider: "",
                kind: IncidentKind::IdleIp,
            };
            told.push((of, idle));
        }
        self.tell_advice(&told).await?;
        self.forget_idle(&account.id, &leases).await
    }

    async fn tell_advice(&self, told: &[(Of<'_>, Option<(String, &str)>)]) -> Result<(), Refusal> {
        let mut change = self.store().change().await?;
        let mut is_changed = false;
        for (of, said) in told {
            let open = incident::open_of(change.conn(), of).await?;
            match (said, open) {
                (Some((words, mend)), None) => {
                    let evidence = json!({ "since_days": DAYS });
                    let told = Told { weight: Weight::Review, words, mend, link: None, evidence, until: None };
                    incident::tell(&mut change, of, told, self.now()).await?;
                    is_changed = true;
                }
                (None, Some(_)) => {
                    incident::end(&mut change, of, "it is not so any more", self.now()).await?;
                    is_changed = true;
                }
                // Told once, while it holds.
                (Some(_), Some(_)) | (None, None) => {}
            }
        }
        if is_changed { change.commit().await } else { Ok(()) }
    }

    /// An IP that was given back is nobody's to be idle.
    async fn forget_idle(&self, account: &str, leases: &[Leased]) -> Result<(), Refusal> {
        let query = q!(
            "SELECT DISTINCT subject FROM incident WHERE kind = 'idle-ip' AND closed_at IS NULL AND account = $1",
            account.to_owned()
        );
        let open = rows(&mut *self.store().read().await?, query).await?;
        for row in open {
            let Ok(ip) = row.text(0)?.parse::<IpAddr>() else { continue };
            if !leases.iter().any(|lease| lease.ip == ip) {
                let of =
                    Of { account: Some(account), ip: Some(ip), domain: None, provider: "", kind: IncidentKind::IdleIp };
                self.tell_advice(&[(of, None)]).await?;
            }
        }
        Ok(())
    }

    async fn leased_by(&self, account: &str) -> Result<Vec<Leased>, Refusal> {
        let query = q!(
            "SELECT ip, item, started_at FROM lease WHERE account = $1 AND ended_at IS NULL ORDER BY id",
            account.to_owned()
        );
        let found = rows(&mut *self.store().read().await?, query).await?;
        let read = |row: &AnyRow| {
            Ok(Leased {
                ip: row.text(0)?.parse().unwrap_or(IpAddr::from([0, 0, 0, 0])),
                is_managed: row.text(1)? == Item::ManagedIp.code(),
                started_at: Timestamp(row.whole(2)?),
            })
        };
        found.iter().map(read).collect()
    }

    /// Messages a month from this IP.
    async fn sent_from(&self, account: &str, ip: IpAddr) -> Result<u64, Refusal> {
        let asked = Question {
            account: Some(account.to_owned()),
            ip: Some(ip),
            grain: None,
            from: Some(self.now() - DAY * DAYS),
            until: Some(self.now()),
            ..Question::default()
        };
        let sent: u64 = self.counts(&asked, true).await?.figures.iter().map(|figures| outcomes(figures).sent()).sum();
        Ok(sent * 30 / u64::from(DAYS))
    }

    /// The pool of each configuration set; empty where it has none of its own.
    async fn pools_of_sets(&self, account: &str) -> Result<BTreeMap<String, String>, Refusal> {
        let query = q!("SELECT name, COALESCE(pool, '') FROM configuration_set WHERE account = $1", account.to_owned());
        let found = rows(&mut *self.store().read().await?, query).await?;
        found.iter().map(|row| Ok((row.text(0)?, row.text(1)?))).collect()
    }
}
