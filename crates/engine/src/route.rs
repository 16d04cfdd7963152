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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::choose;
    use crate::envelope::PoolRule;
    use crate::id::{AccountId, MessageId, PoolId};
    use crate::snapshot::{Account, Ip, IpState, Plan, Pool, PoolKind, Senders, Snapshot};
    use crate::why::Why;
    use std::collections::BTreeSet;
    use std::net::IpAddr;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    /// ann has the pools own (her default) and empty, bob the pool bobs; shared is the operator's.
    fn house(plan: Plan) -> Snapshot {
        let mut snapshot = Snapshot::empty();
        for (id, default_pool) in [("ann", Some("own")), ("bob", None)] {
            let default_pool = default_pool.map(PoolId::new);
            let account = Account { plan, default_pool, senders: Senders::Any, recipients: Vec::new() };
            snapshot.accounts.insert(AccountId::new(id), account);
        }
        let pools = [
            ("own", PoolKind::Standard, Some("ann"), vec![1, 2, 3]),
            ("empty", PoolKind::Standard, Some("ann"), vec![]),
            ("bobs", PoolKind::Standard, Some("bob"), vec![4]),
            ("shared", PoolKind::Shared, None, vec![5]),
        ];
        for (id, kind, account, ips) in pools {
            for last in &ips {
                let known = Ip { bind: ip(*last), ehlo: "mx.weir.test".into(), state: IpState::Active };
                snapshot.ips.insert(ip(*last), known);
            }
            let pool = Pool { kind, account: account.map(AccountId::new), ips: ips.into_iter().map(ip).collect() };
            snapshot.pools.insert(PoolId::new(id), pool);
        }
        assert_eq!(snapshot.check(), []);
        snapshot
    }

    fn route(snapshot: &Snapshot, account: &str, named: Option<&str>) -> Result<(String, PoolRule), Why> {
        let named = named.map(PoolId::new);
        choose(snapshot, &AccountId::new(account), named.as_ref(), MessageId(7))
            .map(|route| (route.pool.to_string(), route.rule))
    }

    // R2.1: the first rule that applies.
    #[test]
    fn the_named_pool_then_the_default_then_the_shared() {
        let mut snapshot = house(Plan::Standard);
        assert_eq!(route(&snapshot, "ann", Some("shared")), Ok(("shared".into(), PoolRule::NamedOnMessage)));
        assert_eq!(route(&snapshot, "ann", None), Ok(("own".into(), PoolRule::AccountDefault)));
        assert_eq!(route(&snapshot, "bob", None), Ok(("shared".into(), PoolRule::Shared)));
        // A default pool whose IPs take nothing new is as good as none.
        for last in [1, 2, 3] {
            snapshot.ips.get_mut(&ip(last)).unwrap().state = IpState::Draining;
        }
        assert_eq!(route(&snapshot, "ann", None), Ok(("shared".into(), PoolRule::Shared)));
    }

    // R2.1: an enterprise account has no shared fallback.
    #[test]
    fn enterprise_mail_does_not_fall_back() {
        let mut snapshot = house(Plan::Enterprise);
        assert_eq!(route(&snapshot, "ann", None), Ok(("own".into(), PoolRule::AccountDefault)));
        assert_eq!(route(&snapshot, "bob", None), Err(Why::NoPool));
        snapshot.pools.get_mut(&PoolId::new("own")).unwrap().ips.clear();
        assert_eq!(route(&snapshot, "ann", None), Err(Why::NoPool));
    }

    // R2.2: a named pool is meant. R2.8: somebody else's is as unknown as none.
    #[test]
    fn a_named_pool_never_falls_back() {
        let snapshot = house(Plan::Standard);
        let unknown = |pool: &str| Err(Why::PoolUnknown { pool: pool.into() });
        assert_eq!(route(&snapshot, "ann", Some("nowhere")), unknown("nowhere"));
        assert_eq!(route(&snapshot, "ann", Some("bobs")), unknown("bobs"));
        assert_eq!(route(&snapshot, "ann", Some("empty")), Err(Why::PoolEmpty { pool: "empty".into() }));
    }

    // R2.8: also not by way of a default pool that is not one's own.
    #[test]
    fn a_default_pool_of_somebody_else_is_not_used() {
        let mut snapshot = house(Plan::Standard);
        snapshot.accounts.get_mut(&AccountId::new("ann")).unwrap().default_pool = Some(PoolId::new("bobs"));
        assert_eq!(route(&snapshot, "ann", None), Ok(("shared".into(), PoolRule::Shared)));
    }

    // R2.4: the route carries the pool's IPs of this moment; the same message always gets the same one of them.
    #[test]
    fn messages_spread_over_all_ips_and_each_keeps_its_own() {
        let snapshot = house(Plan::Standard);
        let of = |id: u128| choose(&snapshot, &AccountId::new("ann"), None, MessageId(id)).unwrap();
        assert_eq!(of(1).candidates, [ip(1), ip(2), ip(3)]);
        assert!((0..100).all(|id| of(id) == of(id)));
        let used: BTreeSet<IpAddr> = (0..100).map(|id| of(id).chosen).collect();
        assert_eq!(used, BTreeSet::from([ip(1), ip(2), ip(3)]));
    }
}
