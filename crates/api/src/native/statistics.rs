//! How much was sent, and what became of it. (R6.2)

use super::words::{Address, Time, words};
use super::{Answer, Call, called, told};
use crate::asked::Asked;
use crate::caller::Desk;
use crate::problem::Problem;
use control::Refusal;
use control::statistics::{self as theirs, Dimension, Question};
use engine::counts;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<Desk> {
    OpenApiRouter::new().routes(routes!(statistics))
}

words!(
    /// How finely time is divided.
    Resolution is counts::Grain { Minute, Hour, Day }
);

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Of {
    /// Of one account, by id or name; `self` is the caller's own.
    account: Option<String>,
    /// Of one part of it, by name or id.
    subaccount: Option<String>,
    configuration_set: Option<String>,
    /// By its id.
    pool: Option<String>,
    ip: Option<Address>,
    /// Such as `gmail`; what has no name of its own is `other`.
    provider: Option<String>,
    /// The sender's.
    domain: Option<String>,
    /// What they are told apart by, with commas between: `account`, `subaccount`, `configuration_set`, `pool`, `ip`, `provider`,
    /// `domain`.
    by: Option<String>,
    /// A line for each minute, hour or day; without it, one for all the time.
    #[param(inline)]
    resolution: Option<Resolution>,
    /// From the minute, hour or day of this moment on; without it, a day before the end.
    from: Option<Time>,
    /// Before this moment; without it, now.
    until: Option<Time>,
}

/// What came of what was sent. All counts are of recipients, but `deferred`, which is of tries.
#[derive(Serialize, ToSchema)]
struct Figures {
    /// The beginning of the minute, hour or day.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Time>,
    /// The values of what they are told apart by; empty where an event does not say.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    of: BTreeMap<&'static str, String>,
    accepted: i64,
    delivered: i64,
    deferred: i64,
    /// Bounces: the address does not exist.
    hard: i64,
    /// Bounces: it does, and took no mail.
    soft: i64,
    /// Bounces because of the sender.
    blocked: i64,
    /// Bounces of other kinds.
    other: i64,
    expired: i64,
    deleted: i64,
    rejected: i64,
    suppressed: i64,
    complained: i64,
    unsubscribed: i64,
    /// By people or on their behalf; machines are left out.
    opened: i64,
    clicked: i64,
    /// Within how many seconds half of it was delivered; null where that is not known.
    #[schema(required)]
    delivered_p50_s: Option<f64>,
    #[schema(required)]
    delivered_p95_s: Option<f64>,
}

impl From<theirs::Figures> for Figures {
    fn from(figures: theirs::Figures) -> Figures {
        let count = |count: counts::Count| figures.counts.get(count.code()).copied().unwrap_or_default();
        Figures {
            at: figures.at.map(Time),
            of: figures.of.iter().map(|(dimension, value)| (dimension.code(), value.clone())).collect(),
            accepted: count(counts::Count::Accepted),
            delivered: count(counts::Count::Delivered),
            deferred: count(counts::Count::Deferred),
            hard: count(counts::Count::Hard),
            soft: count(counts::Count::Soft),
            blocked: count(counts::Count::Blocked),
            other: count(counts::Count::Other),
            expired: count(counts::Count::Expired),
            deleted: count(counts::Count::Deleted),
            rejected: count(counts::Count::Rejected),
            suppressed: count(counts::Count::Suppressed),
            complained: count(counts::Count::Complained),
            unsubscribed: count(counts::Count::Unsubscribed),
            opened: count(counts::Count::Opened),
            clicked: count(counts::Count::Clicked),
            delivered_p50_s: figures.p50_s,
            delivered_p95_s: figures.p95_s,
        }
    }
}

/// Figures, and the time they are about: what was asked for, widened to whole minutes, hours or days.
#[derive(Serialize, ToSchema)]
struct Statistics {
    from: Time,
    until: Time,
    items: Vec<Figures>,
}

fn dimensions(by: Option<&str>) -> Result<Vec<Dimension>, Problem> {
    let dimension = |word: &str| {
        Dimension::of(word.trim()).ok_or_else(|| {
            let sentence = format!("Counts are not told apart by {}.", word.escape_debug());
            Refusal::invalid(
                "by",
                sentence,
                "Give account, subaccount, configuration_set, pool, ip, provider or domain.",
            )
        })
    };
    let mut by: Vec<Dimension> =
        by.into_iter().flat_map(|by| by.split(',')).map(dimension).collect::<Result<_, Refusal>>()?;
    by.sort_unstable();
    by.dedup();
    Ok(by)
}

/// How much was sent, and what became of it, told apart as asked. A bounce that comes back after the delivery counts in the hour in
/// which it seemed delivered.
#[utoipa::path(get, path = "/statistics", params(Of), responses((status = 200, body = Statistics)))]
async fn statistics(call: Call, Asked(of): Asked<Of>) -> Answer {
    let question = Question {
        account: called(&call.by, of.account)?,
        subaccount: of.subaccount,
        set: of.configuration_set,
        pool: of.pool,
        ip: of.ip.map(|ip| ip.0),
        provider: of.provider,
        domain: of.domain,
        by: dimensions(of.by.as_deref())?,
        grain: of.resolution.map(Into::into),
        from: of.from.map(|from| from.0),
        until: of.until.map(|until| until.0),
    };
    let found = call.office.statistics(&call.by, question).await?;
    told(Statistics {
        from: Time(found.from),
        until: Time(found.until),
        items: found.figures.into_iter().map(Figures::from).collect(),
    })
}
