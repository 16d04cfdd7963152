//! IPs: the operator's inventory, and what an account leases of it.

use super::words::{Address, Time, words};
use super::{Answer, At, Call, called, found, listed, told, whole};
use crate::asked::{Body, Everything, IfMatch, Listed, Listing, given};
use crate::caller::Desk;
use crate::problem::Problem;
use axum::Json;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use control::inventory as theirs;
use control::{Actor, Refusal};
use engine::snapshot::Hop;
use net::interfaces;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<Desk> {
    OpenApiRouter::new()
        .routes(routes!(ips, add_ips))
        .routes(routes!(discovered_ips))
        .routes(routes!(ip, change_ip))
        .routes(routes!(order_ip))
        .routes(routes!(ip_story))
        .routes(routes!(check_ip))
        .routes(routes!(ips_of_account))
}

words!(
    /// What an IP is for now.
    IpState is theirs::State { Available, Leased, Shared, Draining, Resting, OutOfService }
);
words!(Outcome is theirs::Outcome { Good, Bad, Unknown, Void });
words!(
    /// How far an address reaches. `private`: behind a translation, where the world sees another one.
    Reach is interfaces::Scope { Public, Private, LinkLocal, Loopback, Reserved }
);

/// An address of the machine.
#[derive(Serialize, ToSchema)]
struct DiscoveredIp {
    address: Address,
    interface: String,
    reach: Reach,
    /// Whether the interface is up.
    up: bool,
}

impl From<interfaces::Bound> for DiscoveredIp {
    fn from(bound: interfaces::Bound) -> DiscoveredIp {
        DiscoveredIp {
            address: Address(bound.address),
            interface: bound.interface,
            reach: bound.scope.into(),
            up: bound.up,
        }
    }
}

#[derive(Serialize, ToSchema)]
struct Ip {
    address: Address,
    region: String,
    ehlo: String,
    state: IpState,
    state_since: Time,
    #[schema(required)]
    state_until: Option<Time>,
    #[schema(required)]
    pool: Option<String>,
    /// Who leases it.
    #[schema(required)]
    account: Option<String>,
    /// Why it takes no new mail although it could.
    #[schema(required)]
    rotation_reason: Option<String>,
    revision: i64,
    /// What only the operator sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    wiring: Option<Wiring>,
}

#[derive(Serialize, ToSchema)]
struct Wiring {
    /// What is bound on the machine; differs behind one-to-one NAT.
    bind: Address,
    /// The machine that has the address: `socks5 192.0.2.1:1080` or `proxy 192.0.2.1:1080`.
    #[schema(required)]
    hop: Option<String>,
    created_at: Time,
}

fn view(by: &Actor, ip: theirs::Ip) -> Ip {
    let wiring = by.is_operator().then(|| Wiring {
        bind: Address(ip.bind),
        hop: ip.hop.as_ref().map(theirs::hop_text),
        created_at: Time(ip.created_at),
    });
    Ip {
        address: Address(ip.address),
        region: ip.region,
        ehlo: ip.ehlo,
        state: ip.state.into(),
        state_since: Time(ip.state_since),
        state_until: ip.state_until.map(Time),
        pool: ip.pool,
        account: ip.account,
        rotation_reason: ip.rotation_reason,
        revision: ip.revision,
        wiring,
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewIps {
    /// Addresses, or networks written as 192.0.2.0/28.
    addresses: Vec<String>,
    /// Without it, the home region. An IP stays in its region for ever.
    region: Option<String>,
    /// The name it greets with; `{ip}` stands for the address with hyphens. Without it, the installation's own.
    ehlo: Option<String>,
    /// Behind one-to-one NAT; only with a single address.
    bind: Option<Address>,
    /// `socks5 192.0.2.1:1080` or `proxy 192.0.2.1:1080`.
    hop: Option<String>,
    /// A shared pool they go into at once, by id or name.
    shared_pool: Option<String>,
}

/// What is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct IpChange {
    ehlo: Option<String>,
    bind: Option<Address>,
    /// Null: it is on this machine.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    hop: Option<Option<String>>,
}

/// `share` puts it into a shared pool, `unshare` takes it out. `out-of-service` and `available` are for what nobody leases.
/// `out-of-rotation`: it takes no new mail, wherever it is; what is queued on it still leaves.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum OrderWord {
    Share,
    Unshare,
    OutOfService,
    Available,
    OutOfRotation,
    IntoRotation,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct IpOrder {
    order: OrderWord,
    /// For `share`, by id or name.
    pool: Option<String>,
    /// For `out-of-service`, `available` and `out-of-rotation`.
    reason: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct IpStory {
    /// Oldest first.
    steps: Vec<Step>,
    /// What the newest look at it found; an IP is leased only when all are good.
    checks: Vec<Check>,
}

#[derive(Serialize, ToSchema)]
struct Step {
    at: Time,
    state: String,
    reason: String,
    actor: String,
}

#[derive(Serialize, ToSchema)]
struct Check {
    name: String,
    at: Time,
    outcome: Outcome,
    words: String,
}

impl From<theirs::Check> for Check {
    fn from(check: theirs::Check) -> Check {
        Check { name: check.name, at: Time(check.at), outcome: check.outcome.into(), words: check.words }
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Of {
    region: Option<String>,
    state: Option<IpState>,
    /// By id or name.
    pool: Option<String>,
    /// Who leases it, by id or name.
    account: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct OfAccount {
    region: Option<String>,
    state: Option<IpState>,
    /// By id or name.
    pool: Option<String>,
}

/// Nothing else is called by what is not an address.
fn address(text: &str) -> Result<IpAddr, Refusal> {
    text.parse().map_err(|_| Refusal::not_found("IP", text))
}

fn hop(text: &str) -> Result<Hop, Problem> {
    const MEND: &str = "Write it as socks5 192.0.2.1:1080 or proxy 192.0.2.1:1080.";
    theirs::hop_of(text).ok_or_else(|| Problem::invalid("hop", "This is no way to another machine.", MEND))
}

fn order_of(body: IpOrder) -> Result<theirs::IpOrder, Problem> {
    let needed = |field: &str, value: Option<String>| {
        let detail = format!("This order needs {field}.");
        value.ok_or_else(|| Problem::invalid(field, detail, "Add the field."))
    };
    let reason = body.reason;
    Ok(match body.order {
        OrderWord::Share => theirs::IpOrder::Share { pool: needed("pool", body.pool)? },
        OrderWord::Unshare => theirs::IpOrder::Unshare,
        OrderWord::OutOfService => theirs::IpOrder::OutOfService { reason: needed("reason", reason)? },
        OrderWord::Available => theirs::IpOrder::Available { reason: needed("reason", reason)? },
        OrderWord::OutOfRotation => theirs::IpOrder::OutOfRotation { reason: needed("reason", reason)? },
        OrderWord::IntoRotation => theirs::IpOrder::IntoRotation,
    })
}

/// IPs by address: the operator sees all, an account those it leases.
#[utoipa::path(get, path = "/ips", params(Of), responses((status = 200, body = Listed<Ip>)))]
async fn ips(call: Call, list: Listing<Of>) -> Answer {
    let filter = theirs::IpFilter {
        region: list.of.region,
        state: list.of.state.map(Into::into),
        account: called(&call.by, list.of.account)?,
        pool: list.of.pool,
    };
    listed(call.office.ips(&call.by, &filter, &list.window).await?, |ip| view(&call.by, ip))
}

/// Add IPs to the inventory, all or none. For the operator.
#[utoipa::path(post, path = "/ips", request_body = NewIps, responses((status = 201, body = Listed<Ip>)))]
async fn add_ips(call: Call, Body(new): Body<NewIps>) -> Answer {
    call.by.may_operate()?;
    let new = theirs::NewIps {
        addresses: new.addresses,
        region: new.region,
        ehlo: new.ehlo,
        bind: new.bind.map(|bind| bind.0),
        hop: new.hop.as_deref().map(hop).transpose()?,
        shared_pool: new.shared_pool,
    };
    let added = call.office.add_ips(&call.by, new).await?;
    let items = added.into_iter().map(|ip| view(&call.by, ip)).collect();
    Ok((StatusCode::CREATED, Json(Listed { items, next: None })).into_response())
}

/// What is bound on the machine and not in the inventory yet. For the operator.
#[utoipa::path(get, path = "/ips/discovered", responses((status = 200, body = Listed<DiscoveredIp>)))]
async fn discovered_ips(call: Call, _: Listing<Everything>) -> Answer {
    whole(call.office.discover_ips(&call.by).await?, DiscoveredIp::from)
}

/// One IP. An account sees those it leases.
#[utoipa::path(get, path = "/ips/{ip}", responses((status = 200, body = Ip)))]
async fn ip(call: Call, At([ip]): At<1>) -> Answer {
    let ip = call.office.ip(&call.by, address(&ip)?).await?;
    found(ip.revision, view(&call.by, ip))
}

/// Change an IP's name or wiring. For the operator.
#[utoipa::path(patch, path = "/ips/{ip}", request_body = IpChange, responses((status = 200, body = Ip)))]
async fn change_ip(call: Call, At([ip]): At<1>, IfMatch(revision): IfMatch, Body(to): Body<IpChange>) -> Answer {
    call.by.may_operate()?;
    let to = theirs::IpChange {
        ehlo: to.ehlo,
        bind: to.bind.map(|bind| bind.0),
        hop: to.hop.map(|given| given.as_deref().map(hop).transpose()).transpose()?,
        revision,
    };
    let ip = call.office.change_ip(&call.by, address(&ip)?, to).await?;
    found(ip.revision, view(&call.by, ip))
}

/// Say what an IP is for now. For the operator.
#[utoipa::path(post, path = "/ips/{ip}/orders", request_body = IpOrder, responses((status = 200, body = Ip)))]
async fn order_ip(call: Call, At([ip]): At<1>, Body(order): Body<IpOrder>) -> Answer {
    call.by.may_operate()?;
    let ip = call.office.order_ip(&call.by, address(&ip)?, &order_of(order)?).await?;
    found(ip.revision, view(&call.by, ip))
}

/// An IP's life, and what its checks found. For the operator.
#[utoipa::path(get, path = "/ips/{ip}/story", responses((status = 200, body = IpStory)))]
async fn ip_story(call: Call, At([ip]): At<1>) -> Answer {
    call.by.may_watch()?;
    let (steps, checks) = call.office.ip_story(&call.by, address(&ip)?).await?;
    let step =
        |step: theirs::Step| Step { at: Time(step.at), state: step.state, reason: step.reason, actor: step.actor };
    told(IpStory {
        steps: steps.into_iter().map(step).collect(),
        checks: checks.into_iter().map(Check::from).collect(),
    })
}

/// Look at an IP now: is it here, do its names lead back, is it on a block list. For the operator.
#[utoipa::path(post, path = "/ips/{ip}/checks", responses((status = 200, body = Listed<Check>)))]
async fn check_ip(call: Call, At([ip]): At<1>) -> Answer {
    call.by.may_operate()?;
    whole(call.office.check_ip(&call.by, address(&ip)?).await?, Check::from)
}

/// The IPs that the account leases; those of managed pools are the operator's to see.
#[utoipa::path(get, path = "/accounts/{account}/ips", params(OfAccount), responses((status = 200, body = Listed<Ip>)))]
async fn ips_of_account(call: Call, At([account]): At<1>, list: Listing<OfAccount>) -> Answer {
    let OfAccount { region, state, pool } = list.of;
    let filter = theirs::IpFilter { region, state: state.map(Into::into), account: Some(account), pool };
    listed(call.office.ips(&call.by, &filter, &list.window).await?, |ip| view(&call.by, ip))
}
