//! Tiers: among which others a sender shares IPs, why, and what is next. (R6.4)

use super::words::{Time, words};
use super::{Answer, At, Call, listed, told};
use crate::asked::{Body, Everything, Listed, Listing};
use crate::caller::Desk;
use crate::problem::Problem;
use control::tier as theirs;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<Desk> {
    OpenApiRouter::new().routes(routes!(tier, set_tier)).routes(routes!(tiers))
}

words!(
    /// `penalty`: its mail goes badly. `probation`: it is new. `standard`; `trusted`: its mail goes very well.
    Tier is engine::tier::Tier { Penalty, Probation, Standard, Trusted }
);

/// Where a sender of shared IPs stands.
#[derive(Serialize, ToSchema)]
struct PlacedSender {
    account: String,
    name: String,
    tier: Tier,
    since: Time,
    /// Why the operator put it there; none: it goes by its figures.
    #[schema(required)]
    reason: Option<String>,
    /// How many days in a row it has done well enough for the next tier.
    well_days: u32,
    /// Where its figures would put it now, and why.
    would: Tier,
    words: String,
    /// Newest first.
    moves: Vec<TierMove>,
}

#[derive(Serialize, ToSchema)]
struct TierMove {
    at: Time,
    was: Tier,
    became: Tier,
    words: String,
    actor: String,
}

impl From<theirs::Placed> for PlacedSender {
    fn from(placed: theirs::Placed) -> PlacedSender {
        let moved = |moved: theirs::Move| TierMove {
            at: Time(moved.at),
            was: moved.was.into(),
            became: moved.became.into(),
            words: moved.words,
            actor: moved.actor,
        };
        PlacedSender {
            account: placed.account,
            name: placed.name,
            tier: placed.tier.into(),
            since: Time(placed.since),
            reason: placed.reason,
            well_days: placed.well_days,
            would: placed.would.into(),
            words: placed.words,
            moves: placed.moves.into_iter().map(moved).collect(),
        }
    }
}

/// With a tier and a reason, it stands there by the operator's word; without both, it goes by its figures again.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TierChange {
    tier: Option<Tier>,
    /// The account reads it.
    reason: Option<String>,
}

/// Among which others an account shares IPs, why, and where it has been.
#[utoipa::path(get, path = "/accounts/{account}/tier", responses((status = 200, body = PlacedSender)))]
async fn tier(call: Call, At([account]): At<1>) -> Answer {
    told(PlacedSender::from(call.office.tier(&call.by, &account).await?))
}

/// Put an account into a tier, or let it go by its figures again. For the operator.
#[utoipa::path(put, path = "/accounts/{account}/tier", request_body = TierChange, responses((status = 200, body = PlacedSender)))]
async fn set_tier(call: Call, At([account]): At<1>, Body(to): Body<TierChange>) -> Answer {
    call.by.may_operate()?;
    let to = match (to.tier, to.reason) {
        (Some(tier), Some(reason)) => Some((tier.into(), reason)),
        (None, None) => None,
        (Some(_), None) => return Err(Problem::invalid("reason", "A tier needs a reason.", "The account reads it.")),
        (None, Some(_)) => return Err(Problem::invalid("tier", "A reason needs a tier.", "Say which one.")),
    };
    told(PlacedSender::from(call.office.set_tier(&call.by, &account, to).await?))
}

/// Where all accounts stand, and where their figures would put them now. For the operator.
#[utoipa::path(get, path = "/tiers", responses((status = 200, body = Listed<PlacedSender>)))]
async fn tiers(call: Call, list: Listing<Everything>) -> Answer {
    listed(call.office.tiers(&call.by, &list.window).await?, PlacedSender::from)
}
