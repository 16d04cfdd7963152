//! Which pool and which IP carries this message?

use crate::envelope::{PoolRule, Route};
use crate::id::{AccountId, MessageId, PoolId};
use crate::retry::draw;
use crate::snapshot::{Plan, Pool, PoolKind, Snapshot};
use crate::why::Why;
use std::net::IpAddr;

/// The route of a new message: the first rule of R2.1 that applies. `named` is the pool named on the message.
pub fn choose(
    snapshot: &Snapshot,
    account: &AccountId,
    named: Option<&PoolId>,
    message: MessageId,
) -> Result<Route, Why> {
    // R2.2: a named pool is meant; there is no falling back from it.
    if let Some(id) = named {
        // Another account's pool is as unknown as one that is not there: its name is nobody else's business (R2.8).
        let unknown = || Why::PoolUnknown { pool: id.to_string() };
        let pool = snapshot.pools.get(id).filter(|pool| may_name(pool, account)).ok_or_else(unknown)?;
        let candidates = snapshot.usable_ips(pool);
        return spread(id, PoolRule::NamedOnMessage, candidates, message)
            .ok_or_else(|| Why::PoolEmpty { pool: id.to_string() });
    }
    let known = snapshot.accounts.get(account).ok_or(Why::NoPool)?;
    if let Some(id) = &known.default_pool
        && let Some(pool) = snapshot.pools.get(id).filter(|pool| may_name(pool, account))
        && let Some(route) = spread(id, PoolRule::AccountDefault, snapshot.usable_ips(pool), message)
    {
        return Ok(route);
    }
    if known.plan == Plan::Enterprise {
        return Err(Why::NoPool);
    }
    let shared = snapshot.pools.iter().filter(|(_, pool)| pool.kind == PoolKind::Shared);
    shared
        .filter_map(|(id, pool)| spread(id, PoolRule::Shared, snapshot.usable_ips(pool), message))
        .next()
        .ok_or(Why::NoPool)
}

fn may_name(pool: &Pool, account: &AccountId) -> bool {
    pool.kind == PoolKind::Shared || pool.account.as_ref() == Some(account)
}

fn spread(pool: &PoolId, rule: PoolRule, candidates: Vec<IpAddr>, message: MessageId) -> Option<Route> {
    let chosen = *candidates.get(place(message, 0, candidates.len())?)?;
    Some(Route { pool: pool.clone(), rule, candidates, chosen })
}

/// Spreads messages over `count` places by their id; a `round` of its own gives another, independent order.
#[must_use]
pub fn place(message: MessageId, round: u64, count: usize) -> Option<usize> {
    let folded = (message.0 as u64) ^ ((message.0 >> 64) as u64).rotate_left(32);
    let count = u64::try_from(count).ok().filter(|count| *count > 0)?;
    usize::try_from(draw(folded, round) % count).ok()
}
