//! Which IPs should an account have? (R8.1)

use super::words::words;
use super::{Answer, At, Call, told};
use crate::asked::Asked;
use crate::caller::Desk;
use control::advice as theirs;
use engine::advice as weighed;
use engine::charge::{Cents, Decimal};
use engine::fit::Point;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<Desk> {
    OpenApiRouter::new().routes(routes!(advice))
}

words!(
    /// `one-ip`: dedicated IPs in one pool. `pools`: a pool for each kind of mail.
    AdviceWay is weighed::Way { Shared, OneIp, Pools, Managed }
);

/// What was weighed; `met`: it speaks for IPs of one's own, or, of what is required, it is so.
#[derive(Serialize, ToSchema)]
struct AdvicePoint {
    code: String,
    met: bool,
    words: String,
}

impl From<Point> for AdvicePoint {
    fn from(point: Point) -> AdvicePoint {
        AdvicePoint { code: point.code.to_owned(), met: point.met, words: point.words }
    }
}

/// Beside what the mail itself costs.
#[derive(Serialize, ToSchema)]
struct AdviceCost {
    way: AdviceWay,
    ips: u64,
    a_month: String,
    a_thousand: String,
}

#[derive(Serialize, ToSchema)]
struct AdviceGiven {
    way: AdviceWay,
    words: String,
    reasons: Vec<AdvicePoint>,
    costs: Vec<AdviceCost>,
    /// What would change this answer.
    would_change: Vec<String>,
    /// What a managed pool requires.
    requirements: Vec<AdvicePoint>,
    /// What was weighed: messages a month, on the busiest day, whether they come evenly, kinds that go differently.
    per_month: u64,
    busiest: u64,
    /// Null: not known.
    #[schema(required)]
    is_steady: Option<bool>,
    kinds: u32,
    /// Since the first message; null: nothing was sent.
    #[schema(required)]
    days: Option<u32>,
}

/// What is left out is taken from the account's figures, or is not so.
#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
struct AdviceAnswers {
    /// Messages a month.
    per_month: Option<u64>,
    /// They come evenly.
    steady: Option<bool>,
    /// Kinds of mail that go differently.
    kinds: Option<u32>,
    /// Mail that must arrive at once.
    sensitive: bool,
    /// Somebody asks who governs the IPs.
    audited: bool,
    /// Nobody is there to look after IPs.
    hands_off: bool,
    /// Somebody must put the addresses on a list.
    needs_addresses: bool,
}

/// Which IPs the account should have, why, and at what cost a thousand.
#[utoipa::path(get, path = "/accounts/{account}/advice", params(AdviceAnswers), responses((status = 200, body = AdviceGiven)))]
async fn advice(call: Call, At([account]): At<1>, Asked(said): Asked<AdviceAnswers>) -> Answer {
    let said = theirs::Said {
        per_month: said.per_month,
        is_steady: said.steady,
        kinds: said.kinds,
        is_sensitive: said.sensitive,
        is_audited: said.audited,
        hands_off: said.hands_off,
        needs_addresses: said.needs_addresses,
    };
    let advised = call.office.advise(&call.by, &account, &said).await?;
    let cost = |cost: weighed::Cost| AdviceCost {
        way: cost.way.into(),
        ips: cost.ips,
        a_month: Cents(cost.cents_a_month).to_string().replace(',', ""),
        a_thousand: Decimal(cost.micro_cents_a_thousand).to_string(),
    };
    told(AdviceGiven {
        way: advised.advice.way.into(),
        words: advised.advice.words,
        reasons: advised.advice.reasons.into_iter().map(AdvicePoint::from).collect(),
        costs: advised.advice.costs.into_iter().map(cost).collect(),
        would_change: advised.advice.would_change,
        requirements: advised.requirements.into_iter().map(AdvicePoint::from).collect(),
        per_month: advised.per_month,
        busiest: advised.busiest,
        is_steady: advised.is_steady,
        kinds: advised.kinds,
        days: advised.days,
    })
}
