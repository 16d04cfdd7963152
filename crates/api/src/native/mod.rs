//! What of the control plane is there to see and to change? One file for each noun; here is what all of them share.
//!
//! A call is: `Call` (who asks, at which office), `At` (what the address names), a body or a list from `asked`, one question to the
//! office, and an answer. What may be done is decided there, not here.

mod words;
pub mod once;

mod account;
mod address;
mod audit;
mod configuration_set;
mod credential;
mod domain;
mod event;
mod inventory;
mod lease;
mod person;
mod pool;
mod region;
mod setting;
mod statistics;
mod subaccount;
mod webhook;
mod suppression;
mod warm_up;
mod managed;
mod case;
mod advice;
pub(crate) mod charge;
mod drive;
mod policy;
mod relay;
mod signal;
mod reputation;
mod tier;

use crate::asked::Listed;
use crate::caller::{Caller, Desk};
use crate::problem::Problem;
use axum::Json;
use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use control::{Actor, Office, Page, Refusal};
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;

/// Where all of Weir's own calls begin.
pub const BASE: &str = "/api/v1";
/// What names the caller's own account in an address.
const OWN: &str = "self";

/// Every call about the control plane that needs a credential.
#[must_use]
pub fn routes() -> OpenApiRouter<Desk> {
    [
        account::routes(),
        address::routes(),
        audit::routes(),
        configuration_set::routes(),
        credential::routes(),
        domain::routes(),
        event::routes(),
        inventory::routes(),
        lease::routes(),
        person::routes(),
        pool::routes(),
        region::routes(),
        setting::routes(),
        statistics::routes(),
        subaccount::routes(),
        webhook::routes(),
        suppression::routes(),
        warm_up::routes(),
        managed::routes(),
        case::routes(),
        advice::routes(),
        charge::routes(),
        drive::routes(),
        policy::routes(),
        relay::routes(),
        signal::routes(),
        reputation::routes(),
        tier::routes(),
    ]
    .into_iter()
    .fold(OpenApiRouter::new(), OpenApiRouter::merge)
}

/// What needs no credential: it is how one gets one, or shows to read a mailbox.
#[must_use]
pub fn doors() -> OpenApiRouter<Desk> {
    person::doors().merge(address::doors())
}

/// Who asks, and whom.
pub struct Call {
    pub office: Office,
    pub by: Actor,
}

impl FromRequestParts<Desk> for Call {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, desk: &Desk) -> Result<Call, Problem> {
        let caller = Caller::from_request_parts(parts, desk).await?;
        Ok(Call { office: desk.office()?.clone(), by: caller.actor().clone() })
    }
}

/// What the address names, in its order; `self` is put in the caller's own words.
pub struct At<const N: usize>(pub [String; N]);

impl<const N: usize> FromRequestParts<Desk> for At<N> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, desk: &Desk) -> Result<At<N>, Problem> {
        let caller = Caller::from_request_parts(parts, desk).await?;
        let unknown = || Problem::not_found("This address");
        let params = RawPathParams::from_request_parts(parts, desk).await.map_err(|_| unknown())?;
        let mut names = Vec::with_capacity(N);
        for (param, value) in &params {
            let name = match (param, value) {
                ("account", OWN) => own(caller.actor())?,
                // PostgreSQL keeps no such text, so nothing is called that.
                (_, value) if value.contains('\0') => return Err(unknown()),
                (_, value) => value.to_owned(),
            };
            names.push(name);
        }
        names.try_into().map(At).map_err(|_| unknown())
    }
}

fn own(by: &Actor) -> Result<String, Problem> {
    let own = by.account().map(|own| own.as_str().to_owned());
    own.ok_or_else(|| Problem::from(Refusal::not_found("account", OWN)))
}

/// An account as a query names it.
fn called(by: &Actor, account: Option<String>) -> Result<Option<String>, Problem> {
    if account.as_deref() == Some(OWN) { own(by).map(Some) } else { Ok(account) }
}

pub type Answer = Result<Response, Problem>;

/// 200, with what the next change may be made conditional on.
fn found<V: Serialize>(revision: i64, view: V) -> Answer {
    Ok(([(header::ETAG, etag(revision))], Json(view)).into_response())
}

/// 200
fn told<V: Serialize>(view: V) -> Answer {
    Ok(Json(view).into_response())
}

fn listed<T, V: Serialize>(page: Page<T>, view: impl Fn(T) -> V) -> Answer {
    told(Listed { items: page.items.into_iter().map(view).collect(), next: page.next })
}

/// All there is, on one page.
fn whole<T, V: Serialize>(items: Vec<T>, view: impl Fn(T) -> V) -> Answer {
    listed(Page { items, next: None }, view)
}

/// 201, and where it is from now on; `place` comes after the base.
fn created<V: Serialize>(place: &[&str], revision: Option<i64>, view: V) -> Answer {
    let place: String = place.iter().map(|part| format!("/{}", escaped(part))).collect();
    let location = HeaderValue::try_from(format!("{BASE}{place}")).expect("what is escaped may stand in a header");
    let mut response = (StatusCode::CREATED, [(header::LOCATION, location)], Json(view)).into_response();
    if let Some(revision) = revision {
        response.headers_mut().insert(header::ETAG, etag(revision));
    }
    Ok(response)
}

/// 204
fn gone() -> Answer {
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn etag(revision: i64) -> HeaderValue {
    HeaderValue::try_from(format!("\"{revision}\"")).expect("digits may stand in a header")
}

/// For a part of an address.
fn escaped(text: &str) -> String {
    let plain = |octet: u8| octet.is_ascii_alphanumeric() || b"-._~@:".contains(&octet);
    text.bytes()
        .map(|octet| if plain(octet) { char::from(octet).to_string() } else { format!("%{octet:02X}") })
        .collect()
}
