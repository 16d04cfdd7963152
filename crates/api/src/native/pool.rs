//! Pools: an account's own, and the operator's shared ones.

use super::tier::Tier;
use super::words::{Address, Time, words};
use super::{Answer, At, Call, created, found, gone, listed};
use crate::asked::{Asked, Body, IfMatch, Listed, Listing, given};
use crate::caller::Desk;
use control::pool as theirs;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<Desk> {
    OpenApiRouter::new()
        .routes(routes!(pools, create_pool))
        .routes(routes!(pool, change_pool, delete_pool))
        .routes(routes!(move_ip))
        .routes(routes!(shared_pools, create_shared_pool))
}

words!(
    /// `shared` is the operator's, `standard` is arranged by the account, `managed` by the service.
    PoolKind is engine::snapshot::PoolKind { Shared, Standard, Managed }
);

words!(
    /// Where mail goes that its IPs have no place for today, after the overflow pool: by the `shared` pool and then the relay, by the
    /// `relay` alone, or `never` away from its own IPs.
    Leaving is engine::snapshot::Leaving { Shared, Never, Relay }
);

#[derive(Serialize, ToSchema)]
pub struct Pool {
    id: String,
    /// None: the operator's.
    #[schema(required)]
    account: Option<String>,
    region: String,
    name: String,
    kind: PoolKind,
    is_default: bool,
    /// The pool that takes what exceeds this one's allowance.
    #[schema(required)]
    overflow: Option<String>,
    leaving: Leaving,
    /// The account's relay that takes what finds no place.
    #[schema(required)]
    relay: Option<String>,
    /// While its IPs warm up, mail to whoever opened or clicked within so many days goes by them first.
    #[schema(required)]
    active_within: Option<u16>,
    /// Of a shared one: it is for the senders of this tier.
    #[schema(required)]
    tier: Option<Tier>,
    /// Empty for a managed pool: its addresses are the operator's to know.
    ips: Vec<Address>,
    revision: i64,
    created_at: Time,
}

impl From<theirs::Pool> for Pool {
    fn from(pool: theirs::Pool) -> Pool {
        Pool {
            id: pool.id,
            account: pool.account,
            region: pool.region,
            name: pool.name,
            kind: pool.kind.into(),
            is_default: pool.is_default,
            overflow: pool.overflow,
            leaving: pool.leaving.into(),
            relay: pool.relay,
            active_within: pool.active_within,
            tier: pool.tier.map(Tier::from),
            ips: pool.ips.into_iter().map(Address).collect(),
            revision: pool.revision,
            created_at: Time(pool.created_at),
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewPool {
    name: String,
    /// Without it, the home region.
    region: Option<String>,
    /// Without it, `standard`; `managed` is the operator's to make.
    kind: Option<PoolKind>,
    /// By id or name.
    overflow: Option<String>,
    /// Without it, `shared`.
    leaving: Option<Leaving>,
    /// By id or name.
    relay: Option<String>,
    /// Days, 1 to 365.
    active_within: Option<u16>,
}

/// What is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PoolChange {
    name: Option<String>,
    /// By id or name; null takes it away.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    overflow: Option<Option<String>>,
    leaving: Option<Leaving>,
    /// By id or name; null takes it away.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    relay: Option<Option<String>>,
    /// Days, 1 to 365; null makes all mail alike.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u16>)]
    active_within: Option<Option<u16>>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
#[derive(Default)]
struct PoolEnd {
    /// The pool its IPs go to, by id or name. Without it, a pool that has IPs stays.
    move_ips_to: Option<String>,
    /// What uses the pool uses none from then on. Without it, a pool in use stays.
    although_used: bool,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Move {
    ip: Address,
    /// The pool it leaves may be without IPs then.
    #[serde(default)]
    although_empty: bool,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewSharedPool {
    name: String,
    /// Without it, the home region.
    region: Option<String>,
    /// The senders it is for; without it, whoever names it.
    tier: Option<Tier>,
}

/// The account's pools, oldest first.
#[utoipa::path(get, path = "/accounts/{account}/pools", responses((status = 200, body = Listed<Pool>)))]
async fn pools(call: Call, At([account]): At<1>, list: Listing) -> Answer {
    listed(call.office.pools(&call.by, Some(&account), &list.window).await?, Pool::from)
}

/// Make a pool. (R2.6)
#[utoipa::path(post, path = "/accounts/{account}/pools", request_body = NewPool, responses((status = 201, body = Pool)))]
async fn create_pool(call: Call, At([account]): At<1>, Body(new): Body<NewPool>) -> Answer {
    let new = theirs::NewPool {
        region: new.region,
        name: new.name,
        kind: new.kind.unwrap_or(PoolKind::Standard).into(),
        overflow: new.overflow,
        leaving: new.leaving.unwrap_or(Leaving::Shared).into(),
        relay: new.relay,
        active_within: new.active_within,
    };
    let pool = call.office.create_pool(&call.by, &account, new).await?;
    let account = pool.account.clone().unwrap_or_default();
    created(&["accounts", &account, "pools", &pool.id.clone()], Some(pool.revision), Pool::from(pool))
}

/// One pool, with its IPs.
#[utoipa::path(get, path = "/accounts/{account}/pools/{pool}", responses((status = 200, body = Pool)))]
async fn pool(call: Call, At([account, pool]): At<2>) -> Answer {
    let pool = call.office.pool(&call.by, &account, &pool).await?;
    found(pool.revision, Pool::from(pool))
}

/// Rename a pool, or give it another overflow.
#[utoipa::path(patch, path = "/accounts/{account}/pools/{pool}", request_body = PoolChange, responses((status = 200, body = Pool)))]
async fn change_pool(
    call: Call,
    At([account, pool]): At<2>,
    IfMatch(revision): IfMatch,
    Body(to): Body<PoolChange>,
) -> Answer {
    let leaving = to.leaving.map(Into::into);
    let (overflow, relay, active_within) = (to.overflow, to.relay, to.active_within);
    let to = theirs::PoolChange { name: to.name, overflow, leaving, relay, active_within, revision };
    let pool = call.office.change_pool(&call.by, &account, &pool, to).await?;
    found(pool.revision, Pool::from(pool))
}

/// Delete a pool. What is queued from it leaves all the same.
#[utoipa::path(delete, path = "/accounts/{account}/pools/{pool}", params(PoolEnd), responses((status = 204, description = "It is gone")))]
async fn delete_pool(call: Call, At([account, pool]): At<2>, Asked(end): Asked<PoolEnd>) -> Answer {
    let end = theirs::PoolEnd { move_ips_to: end.move_ips_to, although_used: end.although_used };
    call.office.delete_pool(&call.by, &account, &pool, &end).await?;
    gone()
}

/// Move one of the account's IPs into this pool; it leaves the one it is in.
#[utoipa::path(post, path = "/accounts/{account}/pools/{pool}/ips", request_body = Move, responses((status = 200, body = Pool)))]
async fn move_ip(call: Call, At([account, pool]): At<2>, Body(body): Body<Move>) -> Answer {
    let pool = call.office.move_ip(&call.by, &account, body.ip.0, &pool, body.although_empty).await?;
    found(pool.revision, Pool::from(pool))
}

/// The shared pools of all regions. For the operator.
#[utoipa::path(get, path = "/shared-pools", responses((status = 200, body = Listed<Pool>)))]
async fn shared_pools(call: Call, list: Listing) -> Answer {
    listed(call.office.pools(&call.by, None, &list.window).await?, Pool::from)
}

/// Make a further shared pool. For the operator.
#[utoipa::path(post, path = "/shared-pools", request_body = NewSharedPool, responses((status = 201, body = Pool)))]
async fn create_shared_pool(call: Call, Body(new): Body<NewSharedPool>) -> Answer {
    let region = new.region.unwrap_or_else(|| call.office.home_region().to_string());
    let pool = call.office.create_shared_pool(&call.by, &region, &new.name, new.tier.map(Into::into)).await?;
    created(&["shared-pools"], Some(pool.revision), Pool::from(pool))
}
