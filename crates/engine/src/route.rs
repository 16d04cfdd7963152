//! Which pool and which IP carries this message?

pub use crate::envelope::Wish;
use crate::envelope::{Addresses, PoolRule, Route};
use crate::id::{AccountId, MessageId, PoolId, RegionId};
use crate::retry::draw;
use crate::snapshot::{Account, Plan, Pool, PoolKind, Snapshot};
use crate::split::Reader;
use crate::why::Why;
use std::net::IpAddr;
use std::sync::Arc;

/// More are not needed for a message to leave when its IP is benched.
const CANDIDATES_MAX: usize = 16;
/// By which order messages go over the parts of a large pool; 0 is that of the choice, 1 that of taking over.
const PART_ROUND: u64 = 2;

/// The route of a message that leaves now: the first rule of R2.1 that applies.
pub fn choose(
    snapshot: &Snapshot,
    id: &AccountId,
    wish: &Wish,
    reader: Reader,
    message: MessageId,
) -> Result<Route, Why> {
    let account = snapshot.accounts.get(id).ok_or(Why::NoPool)?;
    if let Some(route) = tried(snapshot, id, account, wish, reader, message) {
        return Ok(route);
    }
    // R2.2: a pool that somebody named is meant; there is no falling back from it.
    if let Some((rule, named, pool)) = meant(snapshot, id, account, wish) {
        let (pool_id, pool) = pool.ok_or(Why::PoolUnknown { pool: named.clone() })?;
        let route = spread(snapshot, pool_id, pool, rule, message);
        let route = route.or_else(|| lent(snapshot, account, pool_id, pool, rule, message));
        return route.ok_or(Why::PoolEmpty { pool: named });
    }
    unnamed(snapshot, id, account, &wish.region, message)
}

/// R2.3: the route of a scheduled message whose time has come, and why it is that one. Where what it named is gone or empty by now,
/// it falls back as if it had named nothing.
pub fn choose_when_due(
    snapshot: &Snapshot,
    id: &AccountId,
    wish: &Wish,
    reader: Reader,
    message: MessageId,
) -> Result<(Route, Why), Why> {
    let (route, instead_of) = match choose(snapshot, id, wish, reader, message) {
        Err(Why::PoolUnknown { pool } | Why::PoolEmpty { pool }) => {
            let account = snapshot.accounts.get(id).ok_or(Why::NoPool)?;
            (unnamed(snapshot, id, account, &wish.region, message)?, Some(pool))
        }
        decided => (decided?, None),
    };
    let why = Why::PoolChosen { rule: route.rule, instead_of };
    Ok((route, why))
}

type Found<'a> = Option<(&'a PoolId, &'a Pool)>;

/// The pool that was named by somebody, and what it was called: on the message, in its configuration set, for its subaccount. Another
/// account's pool is as unknown as one that is not there: its name is nobody else's business (R2.8).
fn meant<'a>(
    snapshot: &'a Snapshot,
    id: &AccountId,
    account: &'a Account,
    wish: &Wish,
) -> Option<(PoolRule, String, Found<'a>)> {
    let own = |pool: &str| -> Found<'a> {
        let (pool_id, pool) = snapshot.pools.get_key_value(pool)?;
        may_use(snapshot, (pool_id, pool), id, account).then_some((pool_id, &**pool))
    };
    if let Some(name) = &wish.pool {
        let pool = match account.pool_named(&wish.region, name) {
            Some(pool) => own(pool.as_str()),
            None => own(name),
        };
        return Some((PoolRule::NamedOnMessage, name.to_string(), pool));
    }
    let called =
        |pool: &PoolId| snapshot.pools.get(pool).map_or_else(|| pool.to_string(), |known| known.name.to_string());
    let of_set = wish.set.as_ref().and_then(|set| account.sets.get(set)?.pool.as_ref());
    if let Some(pool) = of_set {
        return Some((PoolRule::ConfigurationSet, called(pool), own(pool.as_str())));
    }
    let of_subaccount = wish.subaccount.as_ref().and_then(|part| account.subaccounts.get(part)?.pool.as_ref());
    of_subaccount.map(|pool| (PoolRule::Subaccount, called(pool), own(pool.as_str())))
}

/// R8.3: the new side of a test drive, for whom it takes. A new pool that has no IP stops nobody's mail: the old side carries it.
fn tried(
    snapshot: &Snapshot,
    id: &AccountId,
    account: &Account,
    wish: &Wish,
    reader: Reader,
    message: MessageId,
) -> Option<Route> {
    if wish.pool.is_some() {
        return None;
    }
    let split = account.sets.get(wish.set.as_ref()?)?.split.as_ref().filter(|split| split.takes(reader))?;
    let pool = snapshot.pools.get(&split.to).filter(|pool| may_use(snapshot, (&split.to, pool), id, account))?;
    spread(snapshot, &split.to, pool, PoolRule::TestDrive, message)
        .or_else(|| lent(snapshot, account, &split.to, pool, PoolRule::TestDrive, message))
}

/// The account's default pool if it has IPs; then, but for enterprise, the region's shared pool.
fn unnamed(
    snapshot: &Snapshot,
    id: &AccountId,
    account: &Account,
    region: &RegionId,
    message: MessageId,
) -> Result<Route, Why> {
    if let Some(pool_id) = account.default_pools.get(region)
        && let Some(pool) = snapshot.pools.get(pool_id).filter(|pool| may_use(snapshot, (pool_id, pool), id, account))
        && let Some(route) = spread(snapshot, pool_id, pool, PoolRule::AccountDefault, message)
    {
        return Ok(route);
    }
    if account.plan == Plan::Enterprise {
        return Err(Why::NoDedicatedIp);
    }
    let mut shared = snapshot.shared_for(region, account.tier);
    shared.find_map(|(id, pool)| spread(snapshot, id, pool, PoolRule::Shared, message)).ok_or(Why::NoPool)
}

/// R3.8: until enough is sent for a managed pool's first IP, its mail leaves from shared ones; it is the pool's all the same.
fn lent(
    snapshot: &Snapshot,
    account: &Account,
    id: &PoolId,
    pool: &Pool,
    rule: PoolRule,
    message: MessageId,
) -> Option<Route> {
    if pool.kind != PoolKind::Managed || account.plan == Plan::Enterprise {
        return None;
    }
    let mut shared = snapshot.shared_for(&pool.region, account.tier);
    let route = shared.find_map(|(id, pool)| spread(snapshot, id, pool, rule, message))?;
    Some(Route { pool: id.clone(), name: Arc::clone(&pool.name), ..route })
}

/// R2.8; and an enterprise account never sends from shared IPs, also not by naming them, nor anybody from those of another tier (R6.4).
fn may_use(snapshot: &Snapshot, (pool_id, pool): (&PoolId, &Pool), id: &AccountId, account: &Account) -> bool {
    let is_of_other_tier =
        || snapshot.tiers.iter().any(|((_, tier), of_tier)| of_tier == pool_id && *tier != account.tier);
    match pool.kind {
        PoolKind::Shared => account.plan != Plan::Enterprise && !is_of_other_tier(),
        PoolKind::Standard | PoolKind::Managed => pool.account.as_ref() == Some(id),
    }
}

fn spread(snapshot: &Snapshot, id: &PoolId, pool: &Pool, rule: PoolRule, message: MessageId) -> Option<Route> {
    let candidates = candidates(snapshot, pool, message);
    let chosen = *candidates.get(place(message, 0, candidates.len())?)?;
    let addresses = if pool.kind == PoolKind::Managed { Addresses::Hidden } else { Addresses::Shown };
    Some(Route { pool: id.clone(), name: Arc::clone(&pool.name), addresses, rule, candidates, chosen })
}

/// The pool's IPs that may take new messages. A large pool is cut into parts, and each message gets one, so that a decision and what is
/// kept of it cost no more than in a small pool.
fn candidates(snapshot: &Snapshot, pool: &Pool, message: MessageId) -> Vec<IpAddr> {
    let parts = pool.ips.len().div_ceil(CANDIDATES_MAX);
    let first = place(message, PART_ROUND, parts).unwrap_or(0);
    let edge = |part: usize| pool.ips.len() * part / parts;
    let of_part = |part: usize| -> Vec<IpAddr> {
        let ips = &pool.ips[edge(part)..edge(part + 1)];
        ips.iter().filter(|ip| snapshot.is_usable(**ip)).copied().collect()
    };
    // A part of which nothing can be used leaves its messages to the next.
    (first..parts).chain(0..first).map(of_part).find(|ips| !ips.is_empty()).unwrap_or_default()
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
    use super::{Wish, choose, choose_when_due};
    use crate::envelope::PoolRule;
    use crate::id::{AccountId, MessageId, PoolId, RegionId, SubaccountId};
    use crate::snapshot::{
        Account, ConfigurationSet, Ip, IpState, Leaving, Plan, Pool, PoolKind, Snapshot, Subaccount,
    };
    use crate::split::{Reader, Split, reader_of};
    use crate::tier::Tier;
    use crate::why::Why;
    use std::collections::{BTreeMap, BTreeSet};
    use std::net::IpAddr;
    use std::sync::Arc;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn account<'a>(snapshot: &'a mut Snapshot, id: &str) -> &'a mut Account {
        Arc::make_mut(Arc::make_mut(&mut snapshot.accounts).get_mut(&AccountId::new(id)).unwrap())
    }

    fn empty(snapshot: &mut Snapshot, pool: &str) {
        Arc::make_mut(Arc::make_mut(&mut snapshot.pools).get_mut(&PoolId::new(pool)).unwrap()).ips.clear();
    }

    /// ann has the pools p1 (“own”, her default), p2 (“empty”) and p3 (“news”), bob has p4; p5 is the operator's shared one.
    fn house(plan: Plan) -> Snapshot {
        let mut snapshot = Snapshot::empty();
        let region = snapshot.region.clone();
        for id in ["ann", "bob"] {
            let account = Account { plan, ..Account::default() };
            Arc::make_mut(&mut snapshot.accounts).insert(AccountId::new(id), Arc::new(account));
        }
        let pools = [
            ("p1", "own", PoolKind::Standard, Some("ann"), vec![1, 2, 3]),
            ("p2", "empty", PoolKind::Standard, Some("ann"), vec![]),
            ("p3", "news", PoolKind::Standard, Some("ann"), vec![6]),
            ("p4", "bobs", PoolKind::Standard, Some("bob"), vec![4]),
            ("p5", "shared", PoolKind::Shared, None, vec![5]),
        ];
        for (id, name, kind, owner, ips) in pools {
            for last in &ips {
                let known = Ip {
                    bind: ip(*last),
                    ehlo: "mx.weir.test".into(),
                    state: IpState::Active,
                    hop: None,
                    warm_up: None,
                };
                Arc::make_mut(&mut snapshot.ips).insert(ip(*last), known);
            }
            if let Some(owner) = owner {
                let names = account(&mut snapshot, owner).pools.entry(region.clone()).or_default();
                names.insert(name.into(), PoolId::new(id));
            }
            let pool = Pool {
                kind,
                name: name.into(),
                region: region.clone(),
                account: owner.map(AccountId::new),
                ips: ips.into_iter().map(ip).collect(),
                overflow: None,
                leaving: Leaving::Shared,
                relay: None,
                active_within: None,
            };
            Arc::make_mut(&mut snapshot.pools).insert(PoolId::new(id), Arc::new(pool));
        }
        let ann = account(&mut snapshot, "ann");
        ann.default_pools.insert(region.clone(), PoolId::new("p1"));
        let news = Some(PoolId::new("p3"));
        ann.sets.insert("letters".into(), ConfigurationSet { pool: news.clone(), ..ConfigurationSet::default() });
        ann.sets.insert("plain".into(), ConfigurationSet::default());
        ann.subaccounts.insert(SubaccountId::new("shop"), Subaccount { pool: news, ..Subaccount::default() });
        ann.subaccounts.insert(SubaccountId::new("blog"), Subaccount::default());
        Arc::make_mut(&mut snapshot.shared).insert(region, PoolId::new("p5"));
        assert_eq!(snapshot.check(), []);
        snapshot
    }

    fn wish(pool: Option<&str>, set: Option<&str>, subaccount: Option<&str>) -> Wish {
        let (pool, set) = (pool.map(Arc::from), set.map(Arc::from));
        Wish { region: RegionId::new("local"), pool, set, subaccount: subaccount.map(SubaccountId::new) }
    }

    type Chosen = Result<(String, PoolRule), Why>;

    fn route(snapshot: &Snapshot, account: &str, wish: &Wish) -> Chosen {
        choose(snapshot, &AccountId::new(account), wish, Reader::default(), MessageId(7))
            .map(|route| (route.pool.to_string(), route.rule))
    }

    fn route_when_due(snapshot: &Snapshot, account: &str, wish: &Wish) -> Chosen {
        choose_when_due(snapshot, &AccountId::new(account), wish, Reader::default(), MessageId(7))
            .map(|(route, _)| (route.pool.to_string(), route.rule))
    }

    fn by(pool: &str, rule: PoolRule) -> Chosen {
        Ok((pool.into(), rule))
    }

    // R2.1: the first rule that applies, in this order.
    #[test]
    fn the_first_rule_that_applies_picks_the_pool() {
        let mut snapshot = house(Plan::Standard);
        let everything = wish(Some("own"), Some("letters"), Some("shop"));
        assert_eq!(route(&snapshot, "ann", &everything), by("p1", PoolRule::NamedOnMessage));
        assert_eq!(route(&snapshot, "ann", &wish(Some("p1"), None, None)), by("p1", PoolRule::NamedOnMessage));
        assert_eq!(route(&snapshot, "ann", &wish(Some("p5"), None, None)), by("p5", PoolRule::NamedOnMessage));
        let set = wish(None, Some("letters"), Some("blog"));
        assert_eq!(route(&snapshot, "ann", &set), by("p3", PoolRule::ConfigurationSet));
        // R2.5: a subaccount's mail uses its pool without naming it.
        let shop = wish(None, Some("plain"), Some("shop"));
        assert_eq!(route(&snapshot, "ann", &shop), by("p3", PoolRule::Subaccount));
        let blog = wish(None, Some("plain"), Some("blog"));
        assert_eq!(route(&snapshot, "ann", &blog), by("p1", PoolRule::AccountDefault));
        assert_eq!(route(&snapshot, "bob", &wish(None, None, None)), by("p5", PoolRule::Shared));
        // A default pool whose IPs take nothing new is as good as none.
        for last in [1, 2, 3] {
            Arc::make_mut(&mut snapshot.ips).get_mut(&ip(last)).unwrap().state = IpState::Draining;
        }
        assert_eq!(route(&snapshot, "ann", &wish(None, None, None)), by("p5", PoolRule::Shared));
    }

    // R6.4: each tier has its pool, where there is one; nobody leaves from another's, also not by naming it.
    #[test]
    fn senders_of_a_tier_leave_from_its_pool() {
        let mut snapshot = house(Plan::Standard);
        let region = snapshot.region.clone();
        let low = Pool { ips: vec![ip(8)], name: "low".into(), ..(*snapshot.pools[&PoolId::new("p5")]).clone() };
        let known = snapshot.ips[&ip(5)].clone();
        Arc::make_mut(&mut snapshot.ips).insert(ip(8), Ip { bind: ip(8), ..known });
        Arc::make_mut(&mut snapshot.pools).insert(PoolId::new("p8"), Arc::new(low));
        Arc::make_mut(&mut snapshot.tiers).insert((region, Tier::Penalty), PoolId::new("p8"));
        assert_eq!(snapshot.check(), []);
        let unnamed = wish(None, None, None);
        assert_eq!(route(&snapshot, "bob", &unnamed), by("p5", PoolRule::Shared));
        let named = wish(Some("p8"), None, None);
        assert_eq!(route(&snapshot, "bob", &named), Err(Why::PoolUnknown { pool: "p8".into() }));
        account(&mut snapshot, "bob").tier = Tier::Penalty;
        assert_eq!(route(&snapshot, "bob", &unnamed), by("p8", PoolRule::Shared));
        assert_eq!(route(&snapshot, "bob", &named), by("p8", PoolRule::NamedOnMessage));
        // Without an IP it is as good as none.
        empty(&mut snapshot, "p8");
        assert_eq!(route(&snapshot, "bob", &unnamed), by("p5", PoolRule::Shared));
    }

    // R3.8: until its first IP comes, a managed pool's mail leaves from shared ones, as the pool's own.
    #[test]
    fn a_managed_pool_without_an_ip_borrows() {
        for (plan, expected) in [
            (Plan::Standard, by("p2", PoolRule::NamedOnMessage)),
            (Plan::Enterprise, Err(Why::PoolEmpty { pool: "empty".into() })),
        ] {
            let mut snapshot = house(plan);
            let managed = Arc::make_mut(&mut snapshot.pools).get_mut(&PoolId::new("p2"));
            Arc::make_mut(managed.unwrap()).kind = PoolKind::Managed;
            let named = wish(Some("empty"), None, None);
            assert_eq!(route(&snapshot, "ann", &named), expected);
            let chosen = choose(&snapshot, &AccountId::new("ann"), &named, Reader::default(), MessageId(7))
                .map(|route| route.candidates);
            assert_eq!(chosen.ok(), expected.ok().map(|_| vec![ip(5)]));
        }
    }

    // R2.1: an enterprise account has no shared fallback, and no way of its own to shared IPs.
    #[test]
    fn enterprise_mail_does_not_fall_back() {
        let mut snapshot = house(Plan::Enterprise);
        let plain = wish(None, None, None);
        assert_eq!(route(&snapshot, "ann", &plain), by("p1", PoolRule::AccountDefault));
        assert_eq!(route(&snapshot, "bob", &plain), Err(Why::NoDedicatedIp));
        let shared = route(&snapshot, "ann", &wish(Some("p5"), None, None));
        assert_eq!(shared, Err(Why::PoolUnknown { pool: "p5".into() }));
        empty(&mut snapshot, "p1");
        assert_eq!(route(&snapshot, "ann", &plain), Err(Why::NoDedicatedIp));
    }

    // R2.2: a named pool is meant. R2.8: somebody else's is as unknown as none.
    #[test]
    fn a_named_pool_never_falls_back() {
        let mut snapshot = house(Plan::Standard);
        for name in ["nowhere", "bobs", "p4"] {
            let unknown = Err(Why::PoolUnknown { pool: name.into() });
            assert_eq!(route(&snapshot, "ann", &wish(Some(name), None, None)), unknown, "{name}");
        }
        let empty_pool = |pool: &str| Err(Why::PoolEmpty { pool: pool.into() });
        assert_eq!(route(&snapshot, "ann", &wish(Some("empty"), None, None)), empty_pool("empty"));
        empty(&mut snapshot, "p3");
        assert_eq!(route(&snapshot, "ann", &wish(None, Some("letters"), None)), empty_pool("news"));
        assert_eq!(route(&snapshot, "ann", &wish(None, None, Some("shop"))), empty_pool("news"));
    }

    // R2.3: gone or empty at its time: the default pool, then the shared one, and for enterprise neither.
    #[test]
    fn a_scheduled_message_falls_back_when_its_pool_is_gone_or_empty() {
        for named in [wish(Some("nowhere"), None, None), wish(Some("empty"), None, None)] {
            let mut snapshot = house(Plan::Standard);
            assert_eq!(route_when_due(&snapshot, "ann", &named), by("p1", PoolRule::AccountDefault));
            empty(&mut snapshot, "p1");
            assert_eq!(route_when_due(&snapshot, "ann", &named), by("p5", PoolRule::Shared));
            account(&mut snapshot, "ann").plan = Plan::Enterprise;
            assert_eq!(route_when_due(&snapshot, "ann", &named), Err(Why::NoDedicatedIp));
        }
        let mut snapshot = house(Plan::Standard);
        let there = wish(Some("news"), None, None);
        assert_eq!(route_when_due(&snapshot, "ann", &there), by("p3", PoolRule::NamedOnMessage));
        // What is told is what happened: no pool was named is not true here.
        empty(&mut snapshot, "p3");
        let why =
            choose_when_due(&snapshot, &AccountId::new("ann"), &there, Reader::default(), MessageId(7)).unwrap().1;
        assert_eq!(why.code(), "account-default");
        assert!(why.words().contains("the pool news was gone or had no IP"), "{why}");
    }

    // R2.8: also not by way of a default pool, a set or a subaccount that names one that is not one's own.
    #[test]
    fn a_pool_of_somebody_else_is_never_used() {
        let mut snapshot = house(Plan::Standard);
        let bobs = PoolId::new("p4");
        let region = snapshot.region.clone();
        let ann = account(&mut snapshot, "ann");
        ann.default_pools.insert(region, bobs.clone());
        ann.sets.get_mut("letters").unwrap().pool = Some(bobs);
        assert_eq!(route(&snapshot, "ann", &wish(None, None, None)), by("p5", PoolRule::Shared));
        let set = route(&snapshot, "ann", &wish(None, Some("letters"), None));
        assert!(matches!(set, Err(Why::PoolUnknown { .. })), "{set:?}");
    }

    // R2.4: the route carries the pool's IPs of this moment; the same message always gets the same one of them.
    #[test]
    fn messages_spread_over_all_ips_and_each_keeps_its_own() {
        let snapshot = house(Plan::Standard);
        let of = |id: u128| {
            choose(&snapshot, &AccountId::new("ann"), &wish(None, None, None), Reader::default(), MessageId(id))
                .unwrap()
        };
        assert_eq!(of(1).candidates, [ip(1), ip(2), ip(3)]);
        assert!((0..100).all(|id| of(id) == of(id)));
        let used: BTreeSet<IpAddr> = (0..100).map(|id| of(id).chosen).collect();
        assert_eq!(used, BTreeSet::from([ip(1), ip(2), ip(3)]));
    }

    // R2.4: of a large pool a route carries some, and all of them get their share.
    #[test]
    fn a_large_pool_is_used_as_a_whole_by_routes_that_carry_a_part_of_it() {
        const IPS: u8 = 100;
        let mut snapshot = house(Plan::Standard);
        for last in 1..=IPS {
            let state = if last % 10 == 0 { IpState::Draining } else { IpState::Active };
            let known = Ip { bind: ip(last), ehlo: "mx.weir.test".into(), state, hop: None, warm_up: None };
            Arc::make_mut(&mut snapshot.ips).insert(ip(last), known);
        }
        let pools = Arc::make_mut(&mut snapshot.pools);
        Arc::make_mut(pools.get_mut(&PoolId::new("p1")).unwrap()).ips = (1..=IPS).map(ip).collect();
        let of = |id: u128| {
            choose(&snapshot, &AccountId::new("ann"), &wish(None, None, None), Reader::default(), MessageId(id))
                .unwrap()
        };
        let mut messages_of: BTreeMap<IpAddr, u32> = BTreeMap::new();
        for id in 0..9_000 {
            let route = of(id);
            assert!((12..=15).contains(&route.candidates.len()));
            assert!(route.candidates.iter().all(|ip| snapshot.is_usable(*ip)));
            *messages_of.entry(route.chosen).or_default() += 1;
        }
        assert_eq!(messages_of.len(), 90);
        // A hundred each would be even.
        assert!(messages_of.values().all(|messages| (50..=150).contains(messages)), "{messages_of:?}");
    }

    // R8.3: a share of the recipients takes the new pool, always the same ones; a pool named on the message, and a new pool without an IP,
    // leave them where they were.
    #[test]
    fn spec_r8_3_a_test_drive_splits_a_sets_mail() {
        let mut snapshot = house(Plan::Standard);
        let split = Split { to: PoolId::new("p1"), share: 5_000, salt: 3 };
        account(&mut snapshot, "ann").sets.get_mut("letters").unwrap().split = Some(split.clone());
        let readers: Vec<Reader> = (0..200).map(|n| reader_of(&format!("reader{n}@b.test"))).collect();
        let of = |snapshot: &Snapshot, wish: &Wish, reader: Reader| {
            let route = choose(snapshot, &AccountId::new("ann"), wish, reader, MessageId(7)).unwrap();
            (route.pool.to_string(), route.rule)
        };
        let letters = wish(None, Some("letters"), None);
        let mut taken = 0;
        for reader in &readers {
            let (pool, rule) = of(&snapshot, &letters, *reader);
            let expected =
                if split.takes(*reader) { ("p1", PoolRule::TestDrive) } else { ("p3", PoolRule::ConfigurationSet) };
            assert_eq!((pool.as_str(), rule), expected);
            taken += u32::from(split.takes(*reader));
            let named = wish(Some("own"), Some("letters"), None);
            assert_eq!(of(&snapshot, &named, *reader).1, PoolRule::NamedOnMessage);
        }
        assert!((70..=130).contains(&taken), "{taken}");
        empty(&mut snapshot, "p1");
        assert!(readers.iter().all(|reader| of(&snapshot, &letters, *reader).0 == "p3"));
        // Another account's pool is nobody's new side (R2.8).
        account(&mut snapshot, "ann").sets.get_mut("letters").unwrap().split.as_mut().unwrap().to = PoolId::new("p4");
        assert!(readers.iter().all(|reader| of(&snapshot, &letters, *reader).0 == "p3"));
    }
}
