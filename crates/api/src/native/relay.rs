//! Relays: SMTP services elsewhere that take what finds no place. (R4.2)

use super::words::{Address, Time, words};
use super::{Answer, At, Call, created, found, gone, listed};
use crate::asked::{Body, IfMatch, Listed, Listing, given};
use crate::caller::Desk;
use control::relay as theirs;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<Desk> {
    OpenApiRouter::new().routes(routes!(relays, create_relay)).routes(routes!(relay, change_relay, delete_relay))
}

words!(
    /// What protects the connection: `start-tls`, `tls` from the first octet, or `clear` for a service in one's own network. With TLS
    /// the service must show a certificate of its name.
    RelaySecurity is engine::snapshot::RelaySecurity { StartTls, Tls, Clear }
);

#[derive(Serialize, ToSchema)]
struct Relay {
    id: String,
    account: String,
    name: String,
    host: String,
    port: u16,
    security: RelaySecurity,
    /// The name it is signed in with. The password is shown to nobody.
    #[schema(required)]
    user: Option<String>,
    /// What stands for it where an IP would: events and figures of mail that left by it name this address.
    address: Address,
    revision: i64,
    created_at: Time,
}

impl From<theirs::Relay> for Relay {
    fn from(relay: theirs::Relay) -> Relay {
        Relay {
            id: relay.id,
            account: relay.account,
            name: relay.name,
            host: relay.host,
            port: relay.port,
            security: relay.security.into(),
            user: relay.user,
            address: Address(relay.address),
            revision: relay.revision,
            created_at: Time(relay.created_at),
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewRelay {
    name: String,
    host: String,
    /// Without it, 587; with `tls`, 465.
    port: Option<u16>,
    /// Without it, `start-tls`.
    security: Option<RelaySecurity>,
    user: Option<String>,
    password: Option<String>,
}

/// What is left out stays. Another host or another name needs the password anew.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RelayChange {
    name: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    security: Option<RelaySecurity>,
    /// Null: it asks for none any more, and the password is forgotten.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    user: Option<Option<String>>,
    password: Option<String>,
}

/// The account's relays, oldest first.
#[utoipa::path(get, path = "/accounts/{account}/relays", responses((status = 200, body = Listed<Relay>)))]
async fn relays(call: Call, At([account]): At<1>, list: Listing) -> Answer {
    listed(call.office.relays(&call.by, &account, &list.window).await?, Relay::from)
}

/// Make a relay known. Mail leaves by it where a pool says so.
#[utoipa::path(post, path = "/accounts/{account}/relays", request_body = NewRelay, responses((status = 201, body = Relay)))]
async fn create_relay(call: Call, At([account]): At<1>, Body(new): Body<NewRelay>) -> Answer {
    let security = new.security.unwrap_or(RelaySecurity::StartTls);
    let usual = if matches!(security, RelaySecurity::Tls) { 465 } else { 587 };
    let new = theirs::NewRelay {
        name: new.name,
        host: new.host,
        port: new.port.unwrap_or(usual),
        security: security.into(),
        user: new.user,
        password: new.password,
    };
    let made = call.office.create_relay(&call.by, &account, new).await?;
    created(&["accounts", &made.account.clone(), "relays", &made.id.clone()], Some(made.revision), Relay::from(made))
}

/// One relay.
#[utoipa::path(get, path = "/accounts/{account}/relays/{relay}", responses((status = 200, body = Relay)))]
async fn relay(call: Call, At([account, relay]): At<2>) -> Answer {
    let relay = call.office.relay(&call.by, &account, &relay).await?;
    found(relay.revision, Relay::from(relay))
}

/// Change a relay.
#[utoipa::path(patch, path = "/accounts/{account}/relays/{relay}", request_body = RelayChange, responses((status = 200, body = Relay)))]
async fn change_relay(
    call: Call,
    At([account, relay]): At<2>,
    IfMatch(revision): IfMatch,
    Body(to): Body<RelayChange>,
) -> Answer {
    let to = theirs::RelayChange {
        name: to.name,
        host: to.host,
        port: to.port,
        security: to.security.map(Into::into),
        user: to.user,
        password: to.password,
        revision,
    };
    let relay = call.office.change_relay(&call.by, &account, &relay, to).await?;
    found(relay.revision, Relay::from(relay))
}

/// Forget a relay that no pool uses. What was moved to it and waits goes back to its pool.
#[utoipa::path(delete, path = "/accounts/{account}/relays/{relay}", responses((status = 204, description = "It is gone")))]
async fn delete_relay(call: Call, At([account, relay]): At<2>) -> Answer {
    call.office.delete_relay(&call.by, &account, &relay).await?;
    gone()
}
