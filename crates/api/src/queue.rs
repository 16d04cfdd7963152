//! What waits, why, and what may be done about it? For the operator: everything; for an account: its own.

use crate::asked::{Asked, Body};
use crate::caller::{Caller, Desk};
use crate::explanation::{WhyView, parse_id};
use crate::problem::Problem;
use axum::Json;
use axum::extract::{Path, State};
use engine::envelope::Addresses;
use engine::id::{AccountId, PoolId, SubaccountId};
use engine::snapshot::{Scope, Snapshot};
use engine::{Filter, Input, Order, Shown};
use mail::address::Domain;
use mta::hidden::Hidden;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use utoipa::{IntoParams, ToSchema};

const LIST_DEFAULT: usize = 100;
const LIST_MAX: usize = 1_000;

/// Which messages are meant: those that every given field fits.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Which {
    message: Option<String>,
    account: Option<String>,
    subaccount: Option<String>,
    pool: Option<String>,
    domain: Option<String>,
    ip: Option<String>,
    provider: Option<String>,
    /// Orders without any of the fields above need it: nobody empties a queue by a slip.
    #[serde(default)]
    all: bool,
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct Listing {
    message: Option<String>,
    account: Option<String>,
    subaccount: Option<String>,
    pool: Option<String>,
    domain: Option<String>,
    ip: Option<String>,
    provider: Option<String>,
    limit: Option<usize>,
    after: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = QueuePage)]
pub struct Page {
    messages: Vec<Waiting>,
    /// For `after` of the next call; null when there is no more.
    next: Option<String>,
}

/// One queued message towards one domain.
#[derive(Debug, Serialize, ToSchema)]
pub struct Waiting {
    message: String,
    account: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    subaccount: Option<String>,
    stream: String,
    /// Null until the time of a scheduled message.
    pool: Option<String>,
    /// Null also where the pool is a managed one.
    ip: Option<String>,
    accepted_at: String,
    expires_at: String,
    domain: String,
    provider: Option<String>,
    recipients: usize,
    attempts: u16,
    why: WhyView,
    until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_reply: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Lanes {
    lanes: Vec<Lane>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Lane {
    ip: String,
    provider: String,
    waiting: u64,
    sessions: u32,
    sessions_allowed: u32,
    sessions_max: u32,
    /// Thousandths of the full pace.
    pace: u32,
    why: Option<WhyView>,
    until: Option<String>,
}

/// Which lane is meant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WhichLane {
    ip: String,
    provider: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Concerned {
    messages: u64,
}

impl Which {
    fn names_something(&self) -> bool {
        [&self.message, &self.account, &self.subaccount, &self.pool, &self.domain, &self.ip, &self.provider]
            .iter()
            .any(|field| field.is_some())
    }

    fn filter(&self, caller: &Caller) -> Result<Filter, Problem> {
        let account = caller.account().cloned().or_else(|| self.account.as_deref().map(AccountId::new));
        let named = self.subaccount.as_deref().map(SubaccountId::new);
        let subaccount = caller.subaccount().cloned().or(named);
        let message = self.message.as_deref().map(|text| {
            parse_id(text).ok_or_else(|| {
                Problem::invalid("message", "This is not a message's id.", "It has 32 hexadecimal digits.")
            })
        });
        let domain = self.domain.as_deref().map(|text| {
            Domain::parse(text)
                .map_err(|error| Problem::invalid("domain", format!("{error}."), "Write it as example.com."))
        });
        let ip = self.ip.as_deref().map(read_ip);
        Ok(Filter {
            message: message.transpose()?,
            account,
            subaccount,
            pool: self.pool.as_deref().map(PoolId::new),
            domain: domain.transpose()?,
            ip: ip.transpose()?,
            provider: self.provider.clone(),
            sees_hidden: caller.is_operator(),
        })
    }
}

/// What waits, and why: one entry for each message and recipient domain.
#[utoipa::path(get, path = "/queue", operation_id = "queue", params(Listing), responses((status = 200, body = Page)))]
pub async fn list(
    State(desk): State<Desk>,
    caller: Caller,
    Asked(listing): Asked<Listing>,
) -> Result<Json<Page>, Problem> {
    caller.may(Scope::Read)?;
    let after = listing.after.as_deref().map(|text| {
        parse_id(text).ok_or_else(|| {
            Problem::invalid("after", "This is not a message's id.", "Take it from next of the page before.")
        })
    });
    let (after, limit) = (after.transpose()?, listing.limit.unwrap_or(LIST_DEFAULT).clamp(1, LIST_MAX));
    let which = Which {
        message: listing.message,
        account: listing.account,
        subaccount: listing.subaccount,
        pool: listing.pool,
        domain: listing.domain,
        ip: listing.ip,
        provider: listing.provider,
        all: true,
    };
    let filter = which.filter(&caller)?;
    let shown =
        desk.driver.ask(move |engine, _| engine.list(&filter, limit, after)).await.map_err(|_| Problem::stopping())?;
    let next = (shown.len() == limit).then(|| shown.last().map(|shown| shown.message.to_string())).flatten();
    let snapshot = desk.intake.snapshot();
    let messages = shown.iter().flat_map(|shown| waiting(shown, &caller, &snapshot)).collect();
    Ok(Json(Page { messages, next }))
}

/// One row for each domain of a message that still waits.
fn waiting(shown: &Shown, caller: &Caller, snapshot: &Snapshot) -> Vec<Waiting> {
    let mut rows: Vec<Waiting> = Vec::new();
    let home = shown.home.as_ref();
    let hides = home.is_some_and(|home| home.addresses == Addresses::Hidden) && !caller.is_operator();
    for recipient in &shown.recipients {
        let domain = recipient.domain.to_string();
        if let Some(row) = rows.iter_mut().find(|row| row.domain == domain) {
            row.recipients += 1;
            continue;
        }
        // R2.8: also in the words of others.
        let last = recipient.last.as_ref();
        let been = home.map(|home| home.ip).into_iter().chain(last.map(|last| last.ip));
        let been = been.chain(shown.moved.iter().flat_map(|moved| [moved.from, moved.to]));
        let hidden = if hides { Hidden::these(been, snapshot) } else { Hidden::default() };
        rows.push(Waiting {
            message: shown.message.to_string(),
            account: shown.account.to_string(),
            stream: shown.stream.to_string(),
            subaccount: shown.subaccount.as_ref().map(ToString::to_string),
            pool: home.map(|home| home.name.to_string()),
            ip: home.filter(|_| !hides).map(|home| home.ip.to_string()),
            accepted_at: shown.accepted_at.to_string(),
            expires_at: shown.expires_at.to_string(),
            domain,
            provider: recipient.provider.as_deref().map(str::to_owned),
            recipients: 1,
            attempts: recipient.attempts,
            why: WhyView::of(&recipient.why, &hidden),
            until: recipient.until.map(|at| at.to_string()),
            last_reply: last.and_then(|last| last.reply.as_ref()).map(|reply| hidden.words(&reply.to_string())),
        });
    }
    rows
}

/// Hold, release, retry or delete what waits. It is carried out in the background.
#[utoipa::path(post, path = "/queue/{order}", operation_id = "order_queue", request_body = Which, responses((status = 200, body = Concerned)))]
pub async fn order(
    State(desk): State<Desk>,
    caller: Caller,
    Path(name): Path<String>,
    Body(which): Body<Which>,
) -> Result<Json<Concerned>, Problem> {
    caller.may(Scope::Manage)?;
    let make: fn(Filter) -> Order = match name.as_str() {
        "hold" => Order::Hold,
        "release" => Order::Release,
        "retry" => Order::Retry,
        "delete" => Order::Delete,
        _ => return Err(Problem::not_found("This order")),
    };
    if !which.names_something() && !which.all {
        let detail = format!("It is not said what to {name}.");
        return Err(Problem::invalid(
            "all",
            detail,
            "Name a message, account, subaccount, pool, domain, ip or provider, or say \"all\": true.",
        ));
    }
    let filter = which.filter(&caller)?;
    tracing::info!(
        order = %name,
        by = caller.name(),
        id = filter.message.map(tracing::field::display),
        account = filter.account.as_ref().map(tracing::field::display),
        pool = filter.pool.as_ref().map(tracing::field::display),
        domain = filter.domain.as_ref().map(tracing::field::display),
        ip = filter.ip.map(tracing::field::display),
        provider = filter.provider.as_deref(),
        "an order for the queue"
    );
    let messages = desk
        .driver
        .ask(move |engine, now| {
            let messages = engine.count(&filter);
            engine.handle(Input::Order(make(filter)), now);
            messages
        })
        .await
        .map_err(|_| Problem::stopping())?;
    Ok(Json(Concerned { messages }))
}

fn read_ip(text: &str) -> Result<IpAddr, Problem> {
    text.parse()
        .map_err(|_| Problem::invalid("ip", "This is not an IP address.", "Write it as 192.0.2.1 or 2001:db8::1."))
}

/// Whatever a provider's answers, or an order, hold the lane back with is forgotten, and it goes on at once. For the operator.
#[utoipa::path(post, path = "/lanes/resume", operation_id = "resume_lane", request_body = WhichLane, responses((status = 200, body = Concerned)))]
pub async fn resume(
    State(desk): State<Desk>,
    caller: Caller,
    Body(which): Body<WhichLane>,
) -> Result<Json<Concerned>, Problem> {
    // R2.8: lanes are shared by tenants.
    caller.operates(Scope::Manage, "Lanes")?;
    let (ip, provider) = (read_ip(&which.ip)?, which.provider);
    tracing::info!(order = "resume", by = caller.name(), %ip, provider, "an order for a lane");
    let found = desk
        .driver
        .ask(move |engine, now| {
            let lanes = engine.lanes();
            let lane = lanes.iter().find(|lane| lane.ip == ip && *lane.provider == *provider)?;
            let messages = lane.ready;
            engine.handle(Input::Order(Order::ResumeLane { ip, provider }), now);
            Some(messages)
        })
        .await
        .map_err(|_| Problem::stopping())?;
    found.map(|messages| Json(Concerned { messages })).ok_or_else(|| Problem::not_found("This lane"))
}

/// Each IP towards each provider. For the operator.
#[utoipa::path(get, path = "/lanes", responses((status = 200, body = Lanes)))]
pub async fn lanes(State(desk): State<Desk>, caller: Caller) -> Result<Json<Lanes>, Problem> {
    // R2.8: lanes tell of other tenants' IPs and figures.
    caller.operates(Scope::Read, "Lanes")?;
    let lanes = desk.driver.ask(|engine, _| engine.lanes()).await.map_err(|_| Problem::stopping())?;
    let view = |lane: engine::LaneView| Lane {
        ip: lane.ip.to_string(),
        provider: lane.provider.to_string(),
        waiting: lane.ready,
        sessions: lane.sessions,
        sessions_allowed: lane.connections_allowed,
        sessions_max: lane.connections_max,
        pace: lane.pace,
        why: lane.why.as_ref().map(|why| WhyView::of(why, &Hidden::default())),
        until: lane.until.map(|at| at.to_string()),
    };
    Ok(Json(Lanes { lanes: lanes.into_iter().map(view).collect() }))
}
