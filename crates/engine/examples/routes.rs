//! How long does it take to decide where a message leaves from, where tenants are many?
//!
//! `cargo run --release -p engine --example routes [SHARED_IPS]`
#![allow(clippy::disallowed_methods)] // it measures, so it needs a clock

use engine::envelope::Wish;
use engine::id::{AccountId, MessageId, PoolId};
use engine::route::{choose, place};
use engine::snapshot::{Account, ConfigurationSet, Ip, IpState, Leaving, Pool, PoolKind, Snapshot};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

const ACCOUNTS: u32 = 10_000;
const POOLS_PER_ACCOUNT: u32 = 5;
const IPS: u32 = 5_000;
const DECISIONS: u128 = 2_000_000;
/// In the default pool of each account that has IPs of its own, as many as the standard plan allows.
const IPS_OF_ACCOUNT: u32 = 4;

fn main() {
    let shared: u32 = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(100);
    let snapshot = town(shared.min(IPS));
    let accounts: Vec<AccountId> = snapshot.accounts.keys().cloned().collect();
    let wish = |pool: Option<&str>, set: Option<&str>| Wish {
        region: snapshot.region.clone(),
        pool: pool.map(Arc::from),
        set: set.map(Arc::from),
        subaccount: None,
    };
    // Most mail names nothing; some has a set, some names a pool. Those that are refused are decisions too.
    let wishes = [wish(None, None), wish(None, None), wish(None, Some("letters")), wish(Some("pool1"), None)];
    let mut took: Vec<u32> = Vec::with_capacity(DECISIONS as usize);
    let mut refused = 0u64;
    for number in 0..DECISIONS {
        let message = MessageId(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let at = |round, count| place(message, round, count).unwrap_or(0);
        let (account, wish) = (&accounts[at(1, accounts.len())], &wishes[at(2, wishes.len())]);
        let began = Instant::now();
        let decided = std::hint::black_box(choose(&snapshot, account, wish, engine::split::Reader::default(), message));
        took.push(u32::try_from(began.elapsed().as_nanos()).unwrap_or(u32::MAX));
        refused += u64::from(decided.is_err());
    }
    took.sort_unstable();
    let quantile = |share: f64| f64::from(took[((took.len() - 1) as f64 * share) as usize]) / 1_000.0;
    println!(
        "{{\"accounts\":{},\"pools\":{},\"ips\":{},\"shared_ips\":{shared},\"decisions\":{DECISIONS},\"refused\":{refused},\
         \"p50_us\":{:.3},\"p90_us\":{:.3},\"p99_us\":{:.3},\"p999_us\":{:.3},\"max_us\":{:.3}}}",
        snapshot.accounts.len(),
        snapshot.pools.len(),
        snapshot.ips.len(),
        quantile(0.5),
        quantile(0.9),
        quantile(0.99),
        quantile(0.999),
        quantile(1.0),
    );
}

fn town(shared_ips: u32) -> Snapshot {
    let mut snapshot = Snapshot::empty();
    let region = snapshot.region.clone();
    let address = |number: u32| IpAddr::from((0x0a00_0000 + number).to_be_bytes());
    let ips = (0..IPS).map(|number| {
        let ip = address(number);
        (ip, Ip { bind: ip, ehlo: format!("m{number}.weir.test"), state: IpState::Active, hop: None, warm_up: None })
    });
    snapshot.ips = Arc::new(ips.collect());
    let mut next_ip = shared_ips;
    let pools = Arc::make_mut(&mut snapshot.pools);
    let accounts = Arc::make_mut(&mut snapshot.accounts);
    let mut add = |id: PoolId, name: &str, kind, account, ips: Vec<IpAddr>| {
        pools.insert(
            id,
            Arc::new(Pool {
                kind,
                name: name.into(),
                region: region.clone(),
                account,
                ips,
                overflow: None,
                leaving: Leaving::Shared,
                relay: None,
                active_within: None,
            }),
        );
    };
    for number in 0..ACCOUNTS {
        let id = AccountId::new(&format!("acc_{number:026}"));
        let mut account = Account::default();
        let names = account.pools.entry(region.clone()).or_default();
        for pool in 0..POOLS_PER_ACCOUNT {
            let pool_id = PoolId::new(&format!("pool_{number:020}{pool:06}"));
            let name = if pool == 0 { "default".to_owned() } else { format!("pool{pool}") };
            let count = if pool > 1 { 0 } else { IPS_OF_ACCOUNT.min(IPS - next_ip) / (1 + pool) };
            add(
                pool_id.clone(),
                &name,
                PoolKind::Standard,
                Some(id.clone()),
                (next_ip..next_ip + count).map(address).collect(),
            );
            next_ip += count;
            names.insert(name.as_str().into(), pool_id.clone());
            if pool == 0 {
                account.default_pools.insert(region.clone(), pool_id.clone());
            }
            if pool == 1 {
                let set = ConfigurationSet { pool: (count > 0).then_some(pool_id), ..ConfigurationSet::default() };
                account.sets.insert("letters".into(), set);
            }
        }
        accounts.insert(id, Arc::new(account));
    }
    add(PoolId::new("shared"), "shared", PoolKind::Shared, None, (0..shared_ips).map(address).collect());
    Arc::make_mut(&mut snapshot.shared).insert(region, PoolId::new("shared"));
    snapshot
}
