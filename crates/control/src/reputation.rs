//! How are accounts, domains, pools and IPs doing? From the counts, by `engine::reputation`. (R6.3)

use crate::account;
use crate::actor::Actor;
use crate::incident::{self, Incident, IncidentKind, PROVIDERS, Weight};
use crate::office::Office;
use crate::page::{Page, Window};
use crate::refusal::Refusal;
use crate::setting::{self, Setting};
use crate::signal::{self, Signal};
use crate::statistics::{Dimension, Figures, Question};
use crate::store::{Columns, rows};
use engine::counts::Grain;
use engine::reputation::{Beside, DAYS_LOOKED_AT, Day, Outcomes, Reputation, Share, Thresholds, measure};
use engine::time::Timestamp;
use sqlx::AnyConnection;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

/// How somebody or something is doing, and what is wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Rated {
    /// The id of an account or pool, a domain, an address.
    pub of: String,
    pub whole: Reputation,
    pub by_provider: Vec<(Arc<str>, Reputation)>,
    pub incidents: Vec<Incident>,
    /// What providers say of it themselves: of each the newest, for the operator.
    pub signals: Vec<Signal>,
}

/// What is rated, of whose mail.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub by: Dimension,
    pub account: Option<String>,
    /// One of them.
    pub of: Option<String>,
}

pub(crate) async fn thresholds(conn: &mut AnyConnection) -> Result<Thresholds, Refusal> {
    let mut of = async |named: Setting| Ok::<u64, Refusal>(setting::value(conn, named).await?.unsigned_abs());
    Ok(Thresholds {
        bounce_review: of(Setting::BounceReview).await?,
        bounce_pause: of(Setting::BouncePause).await?,
        complaint_review: of(Setting::ComplaintReview).await?,
        complaint_pause: of(Setting::ComplaintPause).await?,
    })
}

pub(crate) fn tells(provider: &str) -> bool {
    PROVIDERS.named(provider).is_some_and(|provider| provider.tells)
}

pub(crate) fn outcomes(figures: &Figures) -> Outcomes {
    let of = |name: &str| figures.counts.get(name).map_or(0, |count| u64::try_from(*count).unwrap_or(0));
    Outcomes {
        delivered: of("delivered"),
        deferred: of("deferred"),
        hard: of("hard"),
        soft: of("soft") + of("other") + of("expired"),
        blocked: of("blocked"),
        complained: of("complained"),
    }
}

/// Days that the figures are of, oldest first, the present one last; those on which nothing happened are there and empty.
pub(crate) fn days_of(figures: &[Figures], now: Timestamp) -> Vec<Day> {
    let mut days = vec![Day::new(); DAYS_LOOKED_AT];
    for figures in figures {
        let Some(at) = figures.at else { continue };
        let age = now.day() - at.day();
        let place = usize::try_from(age).ok().and_then(|age| DAYS_LOOKED_AT.checked_sub(age + 1));
        let provider = figures.of.iter().find(|(dimension, _)| *dimension == Dimension::Provider);
        if let (Some(place), Some((_, provider))) = (place, provider) {
            days[place].entry(Arc::from(provider.as_str())).or_default().add(&outcomes(figures));
        }
    }
    days
}

impl Office {
    /// The days that are looked at, of what is asked for.
    pub(crate) async fn days(
        &self,
        mut asked: Question,
        grain: Grain,
        since: Option<Timestamp>,
    ) -> Result<Vec<Day>, Refusal> {
        let now = self.now();
        let begin = Timestamp::from_unix_seconds(Grain::Day.begin(now)) - DAY * (DAYS_LOOKED_AT as u32 - 1);
        asked.by = vec![Dimension::Provider];
        asked.grain = Some(grain);
        asked.from = Some(since.map_or(begin, |since| since.max(begin)));
        asked.until = Some(now + Duration::from_secs(1));
        Ok(days_of(&self.counts(&asked, true).await?.figures, now))
    }

    /// What is known of the mail of those asked for: by account, pool, domain or IP. An account sees its own.
    pub async fn reputations(&self, by: &Actor, wanted: Wanted, window: &Window) -> Result<Page<Rated>, Refusal> {
        let mut conn = self.store().read().await?;
        let own = by.account().map(|own| own.as_str().to_owned());
        let account = match wanted.account.clone().or(own) {
            Some(called) => Some(account::seen(&mut conn, by, &called, Actor::may_read).await?.id),
            None => {
                by.may_watch()?;
                None
            }
        };
        // R2.8: the addresses of a managed pool are the operator's.
        let column = wanted.by.column(by.is_operator());
        let sql = format!(
            "SELECT DISTINCT {column} FROM series s WHERE {column} > $1 AND (CAST($2 AS TEXT) IS NULL OR s.account = $2) \
             AND (CAST($3 AS TEXT) IS NULL OR {column} = $3) ORDER BY 1 LIMIT $4"
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(window.after_text())
            .bind(account.clone())
            .bind(wanted.of.clone())
            .bind(window.fetch());
        let mut archive = self.archive().store().read().await?;
        let names = rows(&mut archive, query).await?;
        drop(archive);
        let names: Vec<String> = names.iter().map(|row| row.text(0)).collect::<Result<_, _>>()?;
        let thresholds = thresholds(&mut conn).await?;
        drop(conn);
        let page = Page::of(names, window, Clone::clone);
        let mut items = Vec::with_capacity(page.items.len());
        for of in page.items {
            items.push(self.rated(by, (wanted.by, of), account.as_deref(), thresholds).await?);
        }
        Ok(Page { items, next: page.next })
    }

    async fn rated(
        &self,
        by: &Actor,
        (what, of): (Dimension, String),
        account: Option<&str>,
        thresholds: Thresholds,
    ) -> Result<Rated, Refusal> {
        let mut asked = Question { account: account.map(str::to_owned), ..Question::default() };
        asked.only(what, &of);
        let days = self.days(asked, Grain::Day, None).await?;
        let (mut incidents, mut told) = (Vec::new(), Vec::new());
        if matches!(what, Dimension::Account | Dimension::Ip | Dimension::Domain) {
            let mut conn = self.store().read().await?;
            told = signal::lately(&mut conn, &of, self.now()).await?;
            let open = incident::open_about(&mut conn, &of).await?;
            incidents.extend(open.into_iter().filter(|found| by.is_operator() || found.account.as_deref() == account));
        }
        let is_listed = incidents
            .iter()
            .any(|incident| incident.kind == IncidentKind::Listed && incident.weight == Weight::Stopped);
        let beside =
            |provider: Option<&str>| Beside { tells: &tells, is_listed, traps: signal::traps(&told, provider) };
        let providers: BTreeSet<Arc<str>> =
            days.iter().flat_map(|day| day.keys().filter(|name| !name.is_empty()).cloned()).collect();
        let of_provider = |provider: &Arc<str>| {
            let only =
                |day: &Day| day.iter().filter(|(name, _)| *name == provider).map(|(n, o)| (n.clone(), *o)).collect();
            let days: Vec<Day> = days.iter().map(only).collect();
            (Arc::clone(provider), measure(&days, beside(Some(&**provider)), thresholds))
        };
        let by_provider = providers.iter().map(of_provider).collect();
        let whole = measure(&days, beside(None), thresholds);
        let mut named = BTreeSet::new();
        told.retain(|signal| by.is_operator() && named.insert(signal.provider.clone()));
        Ok(Rated { of, whole, by_provider, incidents, signals: told })
    }

    /// By all that is looked at.
    pub(crate) async fn reputation_of(&self, account: &str) -> Result<Reputation, Refusal> {
        let thresholds = thresholds(&mut *self.store().read().await?).await?;
        let asked = Question { account: Some(account.to_owned()), ..Question::default() };
        let beside = Beside { tells: &tells, is_listed: false, traps: Share::default() };
        Ok(measure(&self.days(asked, Grain::Day, None).await?, beside, thresholds))
    }
}
