//! Leases: how an account gets dedicated IPs and gives them back.

use super::pool::Pool;
use super::words::{Address, Time, words};
use super::{Answer, At, Call, called, created, listed, whole};
use crate::asked::{Body, Listed, Listing};
use crate::caller::Desk;
use crate::problem::Problem;
use axum::Json;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use control::lease as theirs;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<Desk> {
    OpenApiRouter::new()
        .routes(routes!(leases))
        .routes(routes!(leases_of_account, purchase))
        .routes(routes!(grant))
        .routes(routes!(ask_release))
        .routes(routes!(confirm_release))
}

words!(
    /// `purchase`: in one step, by the account. `grant`: by the operator.
    Origin is theirs::Origin { Purchase, Grant }
);

#[derive(Serialize, ToSchema)]
struct Lease {
    id: String,
    ip: Address,
    account: String,
    origin: Origin,
    /// US cents a month, charged by the day.
    price_cents: i64,
    started_at: Time,
    #[schema(required)]
    ended_at: Option<Time>,
}

impl From<theirs::Lease> for Lease {
    fn from(lease: theirs::Lease) -> Lease {
        Lease {
            id: lease.id,
            ip: Address(lease.ip),
            account: lease.account,
            origin: lease.origin.into(),
            price_cents: lease.price_cents,
            started_at: Time(lease.started_at),
            ended_at: lease.ended_at.map(Time),
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Purchase {
    /// How many, from 1 to 256.
    quantity: u32,
    /// Without it, the home region.
    region: Option<String>,
    /// The pool they go into, by id or name. Without it and `new_pool`, the account's default pool.
    pool: Option<String>,
    /// A pool to be made for them: 1 to 20 letters and digits.
    new_pool: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Grant {
    /// How many, from 1 to 256; not with `ips`.
    quantity: Option<u32>,
    /// These and no others.
    #[serde(default)]
    ips: Vec<Address>,
    /// Without it, the home region.
    region: Option<String>,
    /// The pool they go into, by id or name. Without it and `new_pool`, the account's default pool.
    pool: Option<String>,
    /// A pool to be made for them.
    new_pool: Option<String>,
    /// What each costs a month, whatever becomes of the prices; without it, as the list says.
    agreed_price: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct Leased {
    leases: Vec<Lease>,
    /// Where the IPs are now.
    pool: Pool,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewRelease {
    ips: Vec<Address>,
    /// Pools may be without IPs then.
    #[serde(default)]
    although_empty: bool,
}

/// A release that waits for its confirmation; nothing has changed yet.
#[derive(Serialize, ToSchema)]
struct Release {
    id: String,
    ips: Vec<Address>,
    expires_at: Time,
    /// What is about to happen.
    words: String,
    /// To be sent back with the confirmation; it is shown only here.
    token: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Confirmation {
    token: String,
}

#[derive(Deserialize, IntoParams, Default)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
struct OfAccount {
    /// Only those that have not ended.
    running: bool,
}

#[derive(Deserialize, IntoParams, Default)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
struct Of {
    /// By id or name.
    account: Option<String>,
    /// Only those that have not ended.
    running: bool,
}

fn into(pool: Option<String>, new_pool: Option<String>) -> Result<theirs::Into, Problem> {
    match (pool, new_pool) {
        (None, None) => Ok(theirs::Into::Default),
        (Some(pool), None) => Ok(theirs::Into::Pool(pool)),
        (None, Some(name)) => Ok(theirs::Into::New(name)),
        (Some(_), Some(_)) => {
            Err(Problem::invalid("new_pool", "Both a pool and a new pool are named.", "Name one of them."))
        }
    }
}

fn leased(account: &str, leased: theirs::Leased) -> Answer {
    let account = leased.leases.first().map_or(account, |lease| lease.account.as_str()).to_owned();
    let view = Leased { leases: leased.leases.into_iter().map(Lease::from).collect(), pool: leased.pool.into() };
    created(&["accounts", &account, "leases"], None, view)
}

/// All leases, of all accounts or one, oldest first. For the operator; an account sees its own.
#[utoipa::path(get, path = "/leases", params(Of), responses((status = 200, body = Listed<Lease>)))]
async fn leases(call: Call, list: Listing<Of>) -> Answer {
    let own = call.by.account().map(|own| own.as_str().to_owned());
    let account = called(&call.by, list.of.account)?.or(own);
    listed(call.office.leases(&call.by, account.as_deref(), list.of.running, &list.window).await?, Lease::from)
}

/// The account's leases, oldest first: what it has and had, and what it costs.
#[utoipa::path(get, path = "/accounts/{account}/leases", params(OfAccount), responses((status = 200, body = Listed<Lease>)))]
async fn leases_of_account(call: Call, At([account]): At<1>, list: Listing<OfAccount>) -> Answer {
    listed(call.office.leases(&call.by, Some(&account), list.of.running, &list.window).await?, Lease::from)
}

/// Purchase dedicated IPs in one step. (R3.4)
#[utoipa::path(post, path = "/accounts/{account}/leases", request_body = Purchase, responses((status = 201, body = Leased)))]
async fn purchase(call: Call, At([account]): At<1>, Body(order): Body<Purchase>) -> Answer {
    let into = into(order.pool, order.new_pool)?;
    let order = theirs::Order { region: order.region, quantity: order.quantity, into };
    leased(&account, call.office.purchase(&call.by, &account, &order).await?)
}

/// Grant dedicated IPs to the account. For the operator. (R3.3)
#[utoipa::path(post, path = "/accounts/{account}/grants", request_body = Grant, responses((status = 201, body = Leased)))]
async fn grant(call: Call, At([account]): At<1>, Body(grant): Body<Grant>) -> Answer {
    call.by.may_operate()?;
    if grant.quantity.is_some() != grant.ips.is_empty() {
        let detail = "Either a number of IPs is granted, or IPs by name.";
        return Err(Problem::invalid("quantity", detail, "Give quantity or ips."));
    }
    let into = into(grant.pool, grant.new_pool)?;
    let order = theirs::Order { region: grant.region, quantity: grant.quantity.unwrap_or_default(), into };
    let agreed_cents = grant.agreed_price.map(|price| super::charge::cents("agreed_price", &price)).transpose()?;
    let grant = theirs::Grant { order, ips: grant.ips.into_iter().map(|ip| ip.0).collect(), agreed_cents };
    leased(&account, call.office.grant(&call.by, &account, &grant).await?)
}

/// Ask to give IPs back. It cannot be undone, so nothing happens before it is confirmed. (R3.5)
#[utoipa::path(post, path = "/accounts/{account}/releases", request_body = NewRelease,
    responses((status = 202, body = Release, description = "It waits for its confirmation")))]
async fn ask_release(call: Call, At([account]): At<1>, Body(body): Body<NewRelease>) -> Answer {
    let ips: Vec<_> = body.ips.into_iter().map(|ip| ip.0).collect();
    let asked = call.office.ask_release(&call.by, &account, &ips, body.although_empty).await?;
    let view = Release {
        id: asked.id,
        ips: asked.ips.into_iter().map(Address).collect(),
        expires_at: Time(asked.expires_at),
        words: asked.words,
        token: asked.token,
    };
    Ok((StatusCode::ACCEPTED, Json(view)).into_response())
}

/// Confirm a release: the IPs take no new mail, drain, rest, and are the operator's again. The leases end now.
#[utoipa::path(post, path = "/accounts/{account}/releases/{release}/confirmation", request_body = Confirmation,
    responses((status = 200, body = Listed<Lease>)))]
async fn confirm_release(call: Call, At([account, release]): At<2>, Body(body): Body<Confirmation>) -> Answer {
    whole(call.office.confirm_release(&call.by, &account, &release, &body.token).await?, Lease::from)
}
