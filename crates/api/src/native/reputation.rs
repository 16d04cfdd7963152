//! How accounts, domains, pools and IPs are doing, what has gone wrong with them, and what mends it. (R6.3, R6.6)

use super::signal::Signal;
use super::words::{Address, Time, words};
use super::{Answer, At, Call, called, listed, told};
use crate::asked::{Body, Listed, Listing};
use crate::caller::Desk;
use control::incident as theirs;
use control::reputation::{Rated, Wanted};
use control::statistics::Dimension;
use engine::reputation::{self as judged, Concern, Score, Share};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<Desk> {
    OpenApiRouter::new()
        .routes(routes!(reputations))
        .routes(routes!(incidents))
        .routes(routes!(incident))
        .routes(routes!(order_incident))
}

/// What is rated.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum RatedBy {
    Account,
    Pool,
    Domain,
    Ip,
}

impl From<RatedBy> for Dimension {
    fn from(by: RatedBy) -> Dimension {
        match by {
            RatedBy::Account => Dimension::Account,
            RatedBy::Pool => Dimension::Pool,
            RatedBy::Domain => Dimension::Domain,
            RatedBy::Ip => Dimension::Ip,
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct OfReputations {
    /// By what mail is told apart.
    #[param(inline)]
    by: RatedBy,
    /// Only this one: an account's or pool's id, a domain, an address.
    of: Option<String>,
    /// Of this account's mail, by id or name; `self` is the caller's own.
    account: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct OfIncidents {
    /// That this account may know of, by id or name; `self` is the caller's own.
    account: Option<String>,
    /// Only those that are not over.
    #[serde(default)]
    open: bool,
}

words!(
    /// `healthy` from 80 on, `watch` from 60, `degraded` from 40.
    ReputationBand is judged::Band { Poor, Degraded, Watch, Healthy }
);
words!(
    /// `review` warns, `pause` stops.
    ReputationLevel is judged::Level { Good, Review, Pause }
);
words!(
    ReputationPart is judged::Part { HardBounces, Blocks, Complaints, Deferrals, Traps, Listings }
);
words!(
    ReputationMeasure is judged::Measure { Bounces, Complaints }
);
words!(
    /// `bounces`, `complaints`: of an account. `listed`: a block list has the IP. `suspended`: a provider takes nothing from it. `signal`:
    /// a provider calls the IP or domain bad.
    IncidentKind is theirs::IncidentKind { Bounces, Complaints, Listed, Suspended, Signal, Quota, TestDrive, Outgrown, IdleIp, MixedMail }
);
words!(
    /// `review`: it is told. `stopped`: the account sends nothing, or the IP carries nothing new.
    IncidentWeight is theirs::Weight { Review, Stopped }
);

/// So many of so many, and between which shares it surely is (95 %).
#[derive(Serialize, ToSchema)]
struct ReputationShare {
    count: f64,
    of: f64,
    rate: f64,
    low: f64,
    high: f64,
}

impl From<Share> for ReputationShare {
    fn from(share: Share) -> ReputationShare {
        let (low, high) = share.between();
        ReputationShare { count: share.count, of: share.of, rate: share.rate(), low, high }
    }
}

/// From 0 to 100: what is left of 100 when each part has taken away its own. `low` and `high` are what it can be as far as so many
/// messages say.
#[derive(Serialize, ToSchema)]
struct ReputationScore {
    value: u8,
    low: u8,
    high: u8,
    band: ReputationBand,
    components: Vec<ReputationComponent>,
}

#[derive(Serialize, ToSchema)]
struct ReputationComponent {
    part: ReputationPart,
    /// Weighed: what was three days ago counts half.
    share: ReputationShare,
    /// At this share nothing is left of the score.
    limit: f64,
    /// What it leaves of the score, from 0 to 1.
    leaves: f64,
}

impl From<Score> for ReputationScore {
    fn from(score: Score) -> ReputationScore {
        let component = |of: judged::Component| ReputationComponent {
            part: of.part.into(),
            share: of.share.into(),
            limit: of.limit,
            leaves: of.leaves,
        };
        ReputationScore {
            value: score.value,
            low: score.low,
            high: score.high,
            band: score.band.into(),
            components: score.components.into_iter().map(component).collect(),
        }
    }
}

/// A share that is too high.
#[derive(Serialize, ToSchema)]
struct ReputationConcern {
    measure: ReputationMeasure,
    level: ReputationLevel,
    words: String,
    /// How it is mended.
    mend: &'static str,
}

impl From<Concern> for ReputationConcern {
    fn from(concern: Concern) -> ReputationConcern {
        ReputationConcern {
            measure: concern.measure.into(),
            level: concern.level.into(),
            words: concern.words(),
            mend: concern.measure.mend(),
        }
    }
}

/// How mail is doing, as far as what was sent lately says.
#[derive(Serialize, ToSchema)]
struct Standing {
    /// Whether that was enough to judge by.
    enough: bool,
    /// Messages of the representative volume, and how many days they are of.
    sent: u64,
    days: u32,
    /// To addresses that do not exist.
    bounces: ReputationShare,
    /// Of messages to providers that tell of complaints.
    complaints: ReputationShare,
    /// None: too little was sent lately.
    #[schema(required)]
    score: Option<ReputationScore>,
    level: ReputationLevel,
    concerns: Vec<ReputationConcern>,
}

impl From<judged::Reputation> for Standing {
    fn from(reputation: judged::Reputation) -> Standing {
        Standing {
            enough: reputation.is_enough(),
            sent: reputation.sent,
            days: reputation.days,
            bounces: reputation.bounces.into(),
            complaints: reputation.complaints.into(),
            level: reputation.level().into(),
            score: reputation.score.map(ReputationScore::from),
            concerns: reputation.concerns.into_iter().map(ReputationConcern::from).collect(),
        }
    }
}

#[derive(Serialize, ToSchema)]
struct ReputationAt {
    provider: String,
    #[serde(flatten)]
    standing: Standing,
}

/// How an account, a pool, a domain or an IP is doing.
#[derive(Serialize, ToSchema)]
struct RatedOne {
    /// An id, a domain or an address.
    of: String,
    #[serde(flatten)]
    standing: Standing,
    providers: Vec<ReputationAt>,
    /// What is wrong with it at present.
    incidents: Vec<Incident>,
    /// What providers say of it themselves: of each the newest day, for the operator.
    signals: Vec<Signal>,
}

impl From<Rated> for RatedOne {
    fn from(rated: Rated) -> RatedOne {
        let at = |(provider, of): (Arc<str>, judged::Reputation)| ReputationAt {
            provider: provider.as_ref().to_owned(),
            standing: of.into(),
        };
        RatedOne {
            of: rated.of,
            standing: rated.whole.into(),
            providers: rated.by_provider.into_iter().map(at).collect(),
            incidents: rated.incidents.into_iter().map(Incident::from).collect(),
            signals: rated.signals.into_iter().map(Signal::from).collect(),
        }
    }
}

/// What has gone wrong, by what evidence, and what mends it.
#[derive(Serialize, ToSchema)]
struct Incident {
    id: String,
    kind: IncidentKind,
    weight: IncidentWeight,
    /// Whose it is to know; none: the operator's alone.
    #[schema(required)]
    account: Option<String>,
    #[schema(required)]
    ip: Option<Address>,
    #[schema(required)]
    domain: Option<String>,
    #[schema(required)]
    provider: Option<String>,
    words: String,
    mend: String,
    /// Where somebody else is asked to end it.
    #[schema(required)]
    link: Option<String>,
    /// Figures, or what was answered.
    evidence: Value,
    opened_at: Time,
    changed_at: Time,
    /// When it ends by itself, where that is known.
    #[schema(required)]
    until: Option<Time>,
    #[schema(required)]
    closed_at: Option<Time>,
    #[schema(required)]
    closed_because: Option<String>,
}

impl From<theirs::Incident> for Incident {
    fn from(incident: theirs::Incident) -> Incident {
        Incident {
            id: incident.id,
            kind: incident.kind.into(),
            weight: incident.weight.into(),
            account: incident.account,
            ip: incident.ip.map(Address),
            domain: incident.domain,
            provider: incident.provider,
            words: incident.words,
            mend: incident.mend,
            link: incident.link,
            evidence: incident.evidence,
            opened_at: Time(incident.opened_at),
            changed_at: Time(incident.changed_at),
            until: incident.until.map(Time),
            closed_at: incident.closed_at.map(Time),
            closed_because: incident.closed_because,
        }
    }
}

#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum IncidentOrderWord {
    Close,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewIncidentOrder {
    order: IncidentOrderWord,
}

/// How accounts, pools, domains or IPs are doing: the operator sees all mail, an account its own.
#[utoipa::path(get, path = "/reputations", params(OfReputations), responses((status = 200, body = Listed<RatedOne>)))]
async fn reputations(call: Call, list: Listing<OfReputations>) -> Answer {
    let wanted = Wanted { by: list.of.by.into(), account: called(&call.by, list.of.account)?, of: list.of.of };
    listed(call.office.reputations(&call.by, wanted, &list.window).await?, RatedOne::from)
}

/// What has gone wrong, newest first: the operator sees all, an account what is its own to know.
#[utoipa::path(get, path = "/incidents", params(OfIncidents), responses((status = 200, body = Listed<Incident>)))]
async fn incidents(call: Call, list: Listing<OfIncidents>) -> Answer {
    let account = called(&call.by, list.of.account)?;
    let page = call.office.incidents(&call.by, account.as_deref(), list.of.open, &list.window).await?;
    listed(page, Incident::from)
}

/// One incident, with its evidence.
#[utoipa::path(get, path = "/incidents/{incident}", responses((status = 200, body = Incident)))]
async fn incident(call: Call, At([incident]): At<1>) -> Answer {
    told(Incident::from(call.office.incident(&call.by, &incident).await?))
}

/// Close an incident; what is still wrong opens it anew. For the operator.
#[utoipa::path(post, path = "/incidents/{incident}/orders", request_body = NewIncidentOrder, responses((status = 200, body = Incident)))]
async fn order_incident(call: Call, At([incident]): At<1>, Body(order): Body<NewIncidentOrder>) -> Answer {
    match order.order {
        IncidentOrderWord::Close => told(Incident::from(call.office.close_incident(&call.by, &incident).await?)),
    }
}
