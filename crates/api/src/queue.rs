//! What waits, why, and what may be done about it? For the operator: everything; for an account: its own.

use crate::caller::{Caller, Desk};
use crate::explanation::{WhyView, parse_id};
use crate::problem::Problem;
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use engine::id::{AccountId, PoolId};
use engine::{Filter, Input, Order, Shown};
use mail::address::Domain;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

const LIST_DEFAULT: usize = 100;
const LIST_MAX: usize = 1_000;

/// Which messages are meant: those that every given field fits.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Which {
    message: Option<String>,
    account: Option<String>,
    pool: Option<String>,
    domain: Option<String>,
    ip: Option<String>,
    provider: Option<String>,
    /// Orders without any of the fields above need it: nobody empties a queue by a slip.
    all: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listing {
    message: Option<String>,
    account: Option<String>,
    pool: Option<String>,
    domain: Option<String>,
    ip: Option<String>,
    provider: Option<String>,
    limit: Option<usize>,
    after: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct Page {
    messages: Vec<Waiting>,
    /// For `after` of the next call; null when there is no more.
    next: Option<String>,
}

/// One queued message towards one domain.
#[derive(Debug, Serialize)]
pub struct Waiting {
    message: String,
    account: String,
    stream: String,
    pool: String,
    ip: String,
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

#[derive(Debug, Serialize)]
pub struct Lanes {
    lanes: Vec<Lane>,
}

#[derive(Debug, Serialize)]
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
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhichLane {
    ip: String,
    provider: String,
}

#[derive(Debug, Serialize)]
pub struct Concerned {
    messages: u64,
}

impl Which {
    fn names_something(&self) -> bool {
        [&self.message, &self.account, &self.pool, &self.domain, &self.ip, &self.provider]
            .iter()
            .any(|field| field.is_some())
    }

    fn filter(&self, caller: &Caller) -> Result<Filter, Problem> {
        let own = match caller {
            Caller::Operator => self.account.as_deref().map(AccountId::new),
            Caller::Account(own) => Some(own.clone()),
        };
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
            account: own,
            pool: self.pool.as_deref().map(PoolId::new),
            domain: domain.transpose()?,
            ip: ip.transpose()?,
            provider: self.provider.clone(),
        })
    }
}

pub async fn list(
    State(desk): State<Desk>,
    caller: Caller,
    listing: Result<Query<Listing>, QueryRejection>,
) -> Result<Json<Page>, Problem> {
    let Query(listing) = listing.map_err(|rejection| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "invalid_query",
            rejection.body_text(),
            "See the documentation of this call.",
        )
    })?;
    let after = listing.after.as_deref().map(|text| {
        parse_id(text).ok_or_else(|| {
            Problem::invalid("after", "This is not a message's id.", "Take it from next of the page before.")
        })
    });
    let (after, limit) = (after.transpose()?, listing.limit.unwrap_or(LIST_DEFAULT).clamp(1, LIST_MAX));
    let which = Which {
        message: listing.message,
        account: listing.account,
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
    Ok(Json(Page { messages: shown.iter().flat_map(waiting).collect(), next }))
}

/// One row for each domain of a message that still waits.
fn waiting(shown: &Shown) -> Vec<Waiting> {
    let mut rows: Vec<Waiting> = Vec::new();
    for recipient in &shown.recipients {
        let domain = recipient.domain.to_string();
        if let Some(row) = rows.iter_mut().find(|row| row.domain == domain) {
            row.recipients += 1;
            continue;
        }
        rows.push(Waiting {
            message: shown.message.to_string(),
            account: shown.account.to_string(),
            stream: shown.stream.to_string(),
            pool: shown.pool.to_string(),
            ip: shown.ip.to_string(),
            accepted_at: shown.accepted_at.to_string(),
            expires_at: shown.expires_at.to_string(),
            domain,
            provider: recipient.provider.as_deref().map(str::to_owned),
            recipients: 1,
            attempts: recipient.attempts,
            why: WhyView::from(&recipient.why),
            until: recipient.until.map(|at| at.to_string()),
            last_reply: recipient.last.as_ref().and_then(|last| last.reply.as_ref()).map(ToString::to_string),
        });
    }
    rows
}

pub async fn order(
    State(desk): State<Desk>,
    caller: Caller,
    Path(name): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Concerned>, Problem> {
    let make: fn(Filter) -> Order = match name.as_str() {
        "hold" => Order::Hold,
        "release" => Order::Release,
        "retry" => Order::Retry,
        "delete" => Order::Delete,
        _ => return Err(Problem::not_found("This order")),
    };
    let body = body.map_err(|rejection| {
        Problem::new(rejection.status(), "body_unreadable", rejection.body_text(), "Send the body again.")
    })?;
    let which: Which = if body.is_empty() { Which::default() } else { read(&body)? };
    if !which.names_something() && !which.all {
        let detail = format!("It is not said what to {name}.");
        return Err(Problem::invalid(
            "all",
            detail,
            "Name a message, account, pool, domain, ip or provider, or say \"all\": true.",
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

/// JSON to what is meant; nothing may follow it.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    const MEND: &str = "See the documentation of this call.";
    let mut reader = serde_json::Deserializer::from_slice(body);
    let which = serde_path_to_error::deserialize(&mut reader)
        .map_err(|error| Problem::invalid(&error.path().to_string(), format!("{}.", error.inner()), MEND))?;
    let after = |error| Problem::new(StatusCode::BAD_REQUEST, "invalid_json", format!("{error}."), MEND);
    reader.end().map_err(after)?;
    Ok(which)
}

/// R2.8: lanes tell of other tenants' IPs and figures, and are shared by them.
fn operator_only(caller: &Caller) -> Result<(), Problem> {
    if *caller == Caller::Operator {
        return Ok(());
    }
    Err(Problem::new(StatusCode::FORBIDDEN, "operator_only", "Lanes are the operator's.", "Use the operator's key."))
}

/// Whatever a provider's answers, or an order, hold the lane back with is forgotten, and it goes on at once.
pub async fn resume(
    State(desk): State<Desk>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Concerned>, Problem> {
    operator_only(&caller)?;
    let body = body.map_err(|rejection| {
        Problem::new(rejection.status(), "body_unreadable", rejection.body_text(), "Send the body again.")
    })?;
    let which: WhichLane = read(&body)?;
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

pub async fn lanes(State(desk): State<Desk>, caller: Caller) -> Result<Json<Lanes>, Problem> {
    operator_only(&caller)?;
    let lanes = desk.driver.ask(|engine, _| engine.lanes()).await.map_err(|_| Problem::stopping())?;
    let view = |lane: engine::LaneView| Lane {
        ip: lane.ip.to_string(),
        provider: lane.provider.to_string(),
        waiting: lane.ready,
        sessions: lane.sessions,
        sessions_allowed: lane.connections_allowed,
        sessions_max: lane.connections_max,
        pace: lane.pace,
        why: lane.why.as_ref().map(WhyView::from),
        until: lane.until.map(|at| at.to_string()),
    };
    Ok(Json(Lanes { lanes: lanes.into_iter().map(view).collect() }))
}
