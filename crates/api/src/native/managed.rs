//! Managed pools: how many IPs each has and needs, by which figures, and whether one is right for an account. (R3.8, R6.5)

use super::words::{Time, words};
use super::{Answer, At, Call, told, whole};
use crate::asked::{Body, Everything, Listed, Listing};
use crate::caller::Desk;
use crate::problem::Problem;
use axum::extract::State;
use control::managed as theirs;
use engine::WarmUpView;
use engine::fit;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<Desk> {
    OpenApiRouter::new()
        .routes(routes!(managed_pool, set_bounds))
        .routes(routes!(fits))
        .routes(routes!(scalings))
        .routes(routes!(order_scaling))
}

words!(
    /// `proposed`: it waits for the operator. `failed`: it could not be done, and is decided anew the next day.
    ScalingOutcome is theirs::Outcome { Kept, Done, Proposed, Refused, Failed, Outdated }
);

/// One day's decision, with its figures.
#[derive(Serialize, ToSchema)]
struct Scaling {
    id: i64,
    pool: String,
    at: Time,
    /// So many IPs more, or fewer.
    change: i64,
    ips: i64,
    needed: i64,
    /// The provider that needs the most.
    #[schema(required)]
    provider: Option<String>,
    /// What is asked of it on a busy day, and what an IP carries there.
    busy_day: i64,
    per_ip: i64,
    words: String,
    outcome: ScalingOutcome,
    /// Why it failed.
    #[schema(required)]
    said: Option<String>,
    /// Who carried it out, approved or refused it.
    #[schema(required)]
    by: Option<String>,
}

impl From<theirs::Scaling> for Scaling {
    fn from(scaling: theirs::Scaling) -> Scaling {
        Scaling {
            id: scaling.id,
            pool: scaling.pool,
            at: Time(scaling.at),
            change: scaling.change,
            ips: scaling.ips,
            needed: scaling.needed,
            provider: scaling.provider,
            busy_day: scaling.busy_day,
            per_ip: scaling.per_ip,
            words: scaling.words,
            outcome: scaling.outcome.into(),
            said: scaling.said,
            by: scaling.by,
        }
    }
}

/// A managed pool as its account sees it: everything but the addresses.
#[derive(Serialize, ToSchema)]
struct ManagedPool {
    pool: String,
    name: String,
    ips: usize,
    ips_min: u32,
    ips_max: u32,
    /// Whether the operator is asked before there are more IPs or fewer.
    asks: bool,
    /// Messages of the last seven days, and those that left from the pool's own IPs.
    sent: u64,
    sent_on_own: u64,
    providers: Vec<ManagedProvider>,
    /// Newest first.
    decisions: Vec<Scaling>,
}

/// Messages a day.
#[derive(Serialize, ToSchema)]
struct ManagedProvider {
    provider: String,
    /// Of the last seven days.
    sent_per_day: u64,
    /// When all IPs are warm.
    carries_per_day: u64,
    /// What its IPs may send today. None: without limit, or nothing was sent to it from them yet.
    #[schema(required)]
    allowed_today: Option<u64>,
}

/// What is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ManagedBounds {
    ips_min: Option<u32>,
    ips_max: Option<u32>,
    /// For the operator to say.
    asks: Option<bool>,
}

#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum Burstiness {
    Steady,
    Bursts,
}

/// What would be sent from it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct FitQuestion {
    per_day: u64,
    per_month: u64,
    volume: Burstiness,
    /// Those it would send from.
    domains: Vec<String>,
    /// Where it sends from; without it, the home region.
    #[serde(default)]
    regions: Vec<String>,
    /// Whether somebody must put its addresses on a list.
    #[serde(default)]
    needs_addresses: bool,
}

#[derive(Serialize, ToSchema)]
struct FitPoint {
    code: &'static str,
    met: bool,
    words: String,
}

impl From<fit::Point> for FitPoint {
    fn from(point: fit::Point) -> FitPoint {
        FitPoint { code: point.code, met: point.met, words: point.words }
    }
}

/// Whether a managed pool may be had, and whether it would do good.
#[derive(Serialize, ToSchema)]
struct Fit {
    /// All requirements are met.
    may_have: bool,
    requirements: Vec<FitPoint>,
    /// What would hurt; empty: nothing speaks against it.
    advice: Vec<FitPoint>,
}

#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum ScalingOrderWord {
    Approve,
    Refuse,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewScalingOrder {
    order: ScalingOrderWord,
}

fn allowed(provider: &str, views: &[WarmUpView]) -> Option<u64> {
    let of_it = views.iter().filter(|view| view.provider.as_deref() == Some(provider));
    let each: Vec<Option<u64>> = of_it.map(|view| view.allowed).collect();
    if each.is_empty() { None } else { each.into_iter().sum() }
}

async fn view(desk: &Desk, managed: theirs::Managed) -> Answer {
    let ips = managed.ips.clone();
    let views = desk.driver.ask(move |engine, _| engine.warm_ups(&ips)).await.map_err(|_| Problem::stopping())?;
    let of_provider = |of: theirs::ProviderUse| ManagedProvider {
        allowed_today: allowed(&of.provider, &views),
        provider: of.provider.as_ref().to_owned(),
        sent_per_day: of.sent_per_day,
        carries_per_day: of.carries_per_day,
    };
    told(ManagedPool {
        pool: managed.pool.id,
        name: managed.pool.name,
        ips: managed.ips.len(),
        ips_min: managed.bounds.ips_min,
        ips_max: managed.bounds.ips_max,
        asks: managed.asks,
        sent: managed.sent,
        sent_on_own: managed.sent_on_own,
        providers: managed.providers.into_iter().map(of_provider).collect(),
        decisions: managed.decisions.into_iter().map(Scaling::from).collect(),
    })
}

/// How many IPs a managed pool has and needs, what it carries, and every decision.
#[utoipa::path(get, path = "/accounts/{account}/pools/{pool}/scaling", responses((status = 200, body = ManagedPool)))]
async fn managed_pool(State(desk): State<Desk>, call: Call, At([account, pool]): At<2>) -> Answer {
    view(&desk, call.office.managed_pool(&call.by, &account, &pool).await?).await
}

/// Say how many IPs a managed pool may have, and whether the operator is asked first.
#[utoipa::path(patch, path = "/accounts/{account}/pools/{pool}/scaling", request_body = ManagedBounds, responses((status = 200, body = ManagedPool)))]
async fn set_bounds(
    State(desk): State<Desk>,
    call: Call,
    At([account, pool]): At<2>,
    Body(to): Body<ManagedBounds>,
) -> Answer {
    let to = theirs::BoundsChange { ips_min: to.ips_min, ips_max: to.ips_max, asks: to.asks };
    view(&desk, call.office.set_bounds(&call.by, &account, &pool, to).await?).await
}

/// Whether a managed pool may be had for such mail, and whether it would do good.
#[utoipa::path(post, path = "/accounts/{account}/managed-pool-fit", request_body = FitQuestion, responses((status = 200, body = Fit)))]
async fn fits(call: Call, At([account]): At<1>, Body(asked): Body<FitQuestion>) -> Answer {
    let asked = theirs::FitQuestion {
        per_day: asked.per_day,
        per_month: asked.per_month,
        is_steady: matches!(asked.volume, Burstiness::Steady),
        domains: asked.domains,
        regions: asked.regions,
        needs_addresses: asked.needs_addresses,
    };
    let fit = call.office.fits_managed(&call.by, &account, &asked).await?;
    told(Fit {
        may_have: fit.requirements.iter().all(|point| point.met),
        requirements: fit.requirements.into_iter().map(FitPoint::from).collect(),
        advice: fit.advice.into_iter().map(FitPoint::from).collect(),
    })
}

/// Decisions about managed pools that wait for an answer. For the operator.
#[utoipa::path(get, path = "/scalings", responses((status = 200, body = Listed<Scaling>)))]
async fn scalings(call: Call, _: Listing<Everything>) -> Answer {
    whole(call.office.proposed_scalings(&call.by).await?, Scaling::from)
}

/// Approve or refuse a decision about a managed pool. For the operator.
#[utoipa::path(post, path = "/scalings/{scaling}/orders", request_body = NewScalingOrder, responses((status = 200, body = Scaling)))]
async fn order_scaling(call: Call, At([scaling]): At<1>, Body(order): Body<NewScalingOrder>) -> Answer {
    call.by.may_operate()?;
    let id = scaling.parse().map_err(|_| control::Refusal::not_found("decision", &scaling))?;
    let approved = matches!(order.order, ScalingOrderWord::Approve);
    told(Scaling::from(call.office.answer_scaling(&call.by, id, approved).await?))
}
