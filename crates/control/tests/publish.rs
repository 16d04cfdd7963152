//! The data plane is told of every change, and the same whether it was told step by step or all at once.
#![allow(clippy::unwrap_used)] // A test may stop at the first surprise.

mod support;

use control::account::{AccountChange, Standing};
use control::inventory::{IpOrder, NewIps};
use control::lease::Into;
use control::pool::{PoolChange, PoolEnd};
use control::publish::{self, Publisher, kept};
use control::relay::NewRelay;
use control::seal::Sealer;
use control::subaccount::{NewSubaccount, SubaccountChange};
use control::{Actor, Office, Refusal};
use engine::envelope::PoolRule;
use engine::id::{AccountId, CredentialId, MessageId, RegionId};
use engine::route::{self, Wish};
use engine::snapshot::{self, Holder, IpState, Leaving, Plan, RelaySecurity, Snapshot};
use engine::why::Why;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use support::{Bench, Engine, bench, good, no_dns, on_both};

/// What is told of tenants, to be compared.
fn told(snapshot: &Snapshot) -> String {
    let Snapshot { accounts, keys, logins, pools, shared, ips, .. } = snapshot;
    format!("{accounts:#?}\n{keys:#?}\n{logins:#?}\n{pools:#?}\n{shared:#?}\n{ips:#?}")
}

/// Where the two differ first; both are long.
fn difference(one: &Snapshot, other: &Snapshot) -> Option<(String, String)> {
    let (one, other) = (told(one), told(other));
    let (mut one, mut other) = (one.lines(), other.lines());
    loop {
        match (one.next(), other.next()) {
            (None, None) => return None,
            (a, b) if a == b => {}
            (a, b) => return Some((a.unwrap_or("nothing").to_owned(), b.unwrap_or("nothing").to_owned())),
        }
    }
}

async fn fresh(office: &Office) -> Snapshot {
    Publisher::load(office.clone(), &Snapshot::empty()).await.unwrap().snapshot()
}

fn wish(pool: Option<&str>) -> Wish {
    Wish { region: RegionId::new("local"), pool: pool.map(Arc::from), set: None, subaccount: None }
}

#[test]
fn what_is_published_routes_mail_by_the_rules_and_follows_every_change() {
    on_both(async |bench| {
        bench.region().await;
        let (office, by) = (&bench.office, &bench.by);
        let mut publisher = Publisher::load(office.clone(), &Snapshot::empty()).await.unwrap();
        let acme = bench.account("acme", Plan::Standard).await;
        let id = AccountId::new(&acme);
        let pool_of = |publisher: &Publisher, pool: Option<&str>| {
            let snapshot = publisher.snapshot();
            assert_eq!(snapshot.check(), []);
            route::choose(&snapshot, &id, &wish(pool), engine::split::Reader::default(), MessageId(7))
                .map(|route| (route.rule, route.chosen))
        };
        assert!(publisher.refresh().await.unwrap());
        // R2.1: the default may be empty, and the shared one too.
        assert_eq!(pool_of(&publisher, None), Err(Why::NoPool));
        let shared =
            NewIps { addresses: vec!["198.51.100.1".into()], shared_pool: Some("shared".into()), ..NewIps::default() };
        let shared = office.add_ips(by, shared).await.unwrap()[0].address;
        let ips = bench.ips(1).await;
        publisher.refresh().await.unwrap();
        assert_eq!(pool_of(&publisher, None), Ok((PoolRule::Shared, shared)));
        bench.grant(&acme, &ips, Into::Default).await;
        publisher.refresh().await.unwrap();
        assert_eq!(pool_of(&publisher, None), Ok((PoolRule::AccountDefault, ips[0])));
        bench.pool(&acme, "news").await;
        office.move_ip(by, &acme, ips[0], "news", true).await.unwrap();
        publisher.refresh().await.unwrap();
        assert_eq!(pool_of(&publisher, Some("news")), Ok((PoolRule::NamedOnMessage, ips[0])));
        let rename = PoolChange { name: Some("letters".into()), ..PoolChange::default() };
        office.change_pool(by, &acme, "news", rename).await.unwrap();
        publisher.refresh().await.unwrap();
        assert_eq!(pool_of(&publisher, Some("news")), Err(Why::PoolUnknown { pool: "news".into() }));
        let burns = IpOrder::OutOfRotation { reason: "its machine burns".into() };
        office.order_ip(by, ips[0], &burns).await.unwrap();
        publisher.refresh().await.unwrap();
        assert_eq!(pool_of(&publisher, Some("letters")), Err(Why::PoolEmpty { pool: "letters".into() }));
        // R2.4: given back, it stays bound, also while it rests.
        let asked = office.ask_release(by, &acme, &ips, true).await.unwrap();
        office.confirm_release(by, &acme, &asked.id, &asked.token).await.unwrap();
        bench.drained(ips[0]).await;
        publisher.refresh().await.unwrap();
        assert_eq!(publisher.snapshot().ips[&ips[0]].state, IpState::Draining);
        bench.days(31);
        office.end_rests().await.unwrap();
        publisher.refresh().await.unwrap();
        assert!(!publisher.snapshot().ips.contains_key(&ips[0]));
        let paused = AccountChange {
            standing: Some((Standing::Paused, Some("it sent to traps".into()))),
            ..AccountChange::default()
        };
        office.change_account(by, &acme, paused).await.unwrap();
        publisher.refresh().await.unwrap();
        let reason = snapshot::Standing::Paused { reason: "it sent to traps".into() };
        assert_eq!(publisher.snapshot().accounts[&id].standing, reason);
        assert!(!publisher.refresh().await.unwrap());
        assert_eq!(difference(&publisher.snapshot(), &fresh(office).await), None);
    });
}

// G2: the last snapshot is kept, sealed, for a start without the database.
#[test]
fn the_last_snapshot_is_kept_beside_the_queue() {
    on_both(async |bench| {
        bench.region().await;
        let ips = bench.ips(2).await;
        let acme = bench.account("acme", Plan::Standard).await;
        bench.grant(&acme, &ips, Into::Default).await;
        let publisher = Publisher::load(bench.office.clone(), &Snapshot::empty()).await.unwrap();
        let snapshot = publisher.snapshot();
        let folder = std::env::temp_dir().join(format!("weir-kept-{}", uuid::Uuid::now_v7().simple()));
        std::fs::create_dir_all(&folder).unwrap();
        let (path, sealer) = (folder.join("snapshot.sealed"), Sealer::of_key(&[7; 32]).unwrap());
        assert!(kept(&Snapshot::empty(), &sealer, &path).unwrap().is_none());
        publisher.to_keep().write(&sealer, &path).unwrap();
        let found = kept(&Snapshot::empty(), &sealer, &path).unwrap().unwrap();
        assert_eq!((difference(&found, &snapshot), found.version), (None, snapshot.version));
        assert!(!std::fs::read(&path).unwrap().windows(4).any(|octets| octets == b"acme" || octets == b"192."));
        assert!(kept(&Snapshot::empty(), &Sealer::of_key(&[8; 32]).unwrap(), &path).is_err());
        // It is as good as reading everything, until something changes; and the keys of the file are those of the file.
        let mut base = Snapshot::empty();
        Arc::make_mut(&mut base.keys).insert([1; 32], a_key());
        let present = publish::present(&bench.office, &base, &sealer, &path).await.unwrap();
        assert!(present.keys.contains_key(&[1; 32]) && present.accounts.len() == snapshot.accounts.len());
        let publisher = Publisher::load(bench.office.clone(), &base).await.unwrap();
        publisher.to_keep().write(&sealer, &path).unwrap();
        let without = publish::present(&bench.office, &Snapshot::empty(), &sealer, &path).await.unwrap();
        assert!(!without.keys.contains_key(&[1; 32]));
        bench.account("other", Plan::Standard).await;
        assert!(publish::present(&bench.office, &base, &sealer, &path).await.is_none());
        std::fs::remove_dir_all(&folder).unwrap();
    });
}

fn a_key() -> Arc<snapshot::Credential> {
    let (id, holder) = (CredentialId::new("file"), Holder::Operator);
    Arc::new(snapshot::Credential { id, holder, scopes: BTreeSet::new(), networks: Vec::new(), expires_at: None })
}

#[derive(Clone, Debug)]
enum Step {
    Grant {
        account: u8,
        ip: u8,
        pool: u8,
    },
    Move {
        account: u8,
        ip: u8,
        pool: u8,
    },
    Make {
        account: u8,
        pool: u8,
    },
    Rename {
        account: u8,
        pool: u8,
        to: u8,
    },
    Delete {
        account: u8,
        pool: u8,
        into: u8,
    },
    Release {
        account: u8,
        ip: u8,
    },
    Drained {
        ip: u8,
    },
    Rested,
    Share {
        ip: u8,
    },
    Unshare {
        ip: u8,
    },
    Subaccount {
        account: u8,
        pool: u8,
    },
    Relay {
        account: u8,
        pool: u8,
        gone: bool,
    },
    /// A change that is not committed: as a crash in the middle of it.
    Crash,
    Restart,
    Refresh,
}

const IPS: u8 = 5;
const ACCOUNTS: u8 = 2;

fn step() -> impl Strategy<Value = Step> {
    let (account, ip, pool) = (0..ACCOUNTS, 0..IPS, 0..4u8);
    prop_oneof![
        4 => (account.clone(), ip.clone(), pool.clone()).prop_map(|(account, ip, pool)| Step::Grant { account, ip, pool }),
        4 => (account.clone(), ip.clone(), pool.clone()).prop_map(|(account, ip, pool)| Step::Move { account, ip, pool }),
        2 => (account.clone(), pool.clone()).prop_map(|(account, pool)| Step::Make { account, pool }),
        1 => (account.clone(), pool.clone(), pool.clone()).prop_map(|(account, pool, to)| Step::Rename { account, pool, to }),
        2 => (account.clone(), pool.clone(), pool.clone()).prop_map(|(account, pool, into)| Step::Delete { account, pool, into }),
        2 => (account.clone(), ip.clone()).prop_map(|(account, ip)| Step::Release { account, ip }),
        2 => ip.clone().prop_map(|ip| Step::Drained { ip }),
        1 => Just(Step::Rested),
        1 => ip.clone().prop_map(|ip| Step::Share { ip }),
        1 => ip.prop_map(|ip| Step::Unshare { ip }),
        1 => (account.clone(), pool.clone()).prop_map(|(account, pool)| Step::Subaccount { account, pool }),
        2 => (account, pool, any::<bool>()).prop_map(|(account, pool, gone)| Step::Relay { account, pool, gone }),
        1 => Just(Step::Crash),
        1 => Just(Step::Restart),
        3 => Just(Step::Refresh),
    ]
}

// G4, R3.6, R2.8, R2.4: whatever is done in whatever order, no IP is leased twice, no tenant's pool holds another's IP, what was given
// back stays bound until it has drained and rested, and what is told step by step is what is there.
#[test]
fn random_sequences_leave_every_ip_with_one_home() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let cases = if engine == Engine::Sqlite { 12 } else { 2 };
        let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
        let steps = proptest::collection::vec(step(), 1..50);
        runner.run(&steps, |steps| runtime.block_on(play(engine, &steps))).unwrap();
    }
}

async fn play(engine: Engine, steps: &[Step]) -> Result<(), TestCaseError> {
    let bench = bench(engine, no_dns()).await;
    bench.region().await;
    let ips = bench.ips(IPS).await;
    let mut accounts = Vec::new();
    for at in 0..ACCOUNTS {
        let account = bench.account(&format!("a{at}"), Plan::Standard).await;
        for pool in 1..4 {
            bench.pool(&account, &format!("p{pool}")).await;
        }
        accounts.push(account);
    }
    let mut office = bench.office.clone();
    let mut publisher = Publisher::load(office.clone(), &Snapshot::empty()).await.unwrap();
    for step in steps {
        match step {
            Step::Restart => {
                office.store().close().await;
                office = bench.again().await;
                publisher = Publisher::load(office.clone(), &Snapshot::empty()).await.unwrap();
            }
            Step::Refresh => {
                publisher.refresh().await.unwrap();
                prop_assert_eq!(publisher.snapshot().check(), []);
            }
            other => carry_out(&bench, &office, &accounts, &ips, other).await,
        }
        holds(&office, &accounts).await?;
    }
    publisher.refresh().await.unwrap();
    let now = fresh(&office).await;
    prop_assert_eq!(now.check(), []);
    prop_assert_eq!(difference(&publisher.snapshot(), &now), None);
    office.store().close().await;
    Ok(())
}

/// Refusals are as good as deeds here; faults are not.
async fn carry_out(bench: &Bench, office: &Office, accounts: &[String], ips: &[IpAddr], step: &Step) {
    let by = &bench.by;
    let pool = |at: u8| if at == 0 { "default".to_owned() } else { format!("p{at}") };
    let account = |at: u8| accounts[usize::from(at)].as_str();
    let ip = |at: u8| ips[usize::from(at)];
    let outcome = match step {
        Step::Grant { account: of, ip: which, pool: into } => {
            good(office, ip(*which)).await;
            let order = control::lease::Order { region: None, quantity: 0, into: Into::Pool(pool(*into)) };
            let grant = control::lease::Grant { order, ips: vec![ip(*which)], agreed_cents: None };
            office.grant(by, account(*of), &grant).await.map(|_| ())
        }
        Step::Move { account: of, ip: which, pool: to } => {
            office.move_ip(&bench.key_of(account(*of)), account(*of), ip(*which), &pool(*to), true).await.map(|_| ())
        }
        Step::Make { account: of, pool: name } => {
            let new = control::pool::NewPool {
                region: None,
                name: pool(*name),
                kind: engine::snapshot::PoolKind::Standard,
                overflow: None,
                leaving: engine::snapshot::Leaving::Shared,
                relay: None,
                active_within: None,
            };
            office.create_pool(by, account(*of), new).await.map(|_| ())
        }
        Step::Rename { account: of, pool: which, to } => {
            let to = PoolChange { name: Some(pool(*to)), ..PoolChange::default() };
            office.change_pool(by, account(*of), &pool(*which), to).await.map(|_| ())
        }
        Step::Delete { account: of, pool: which, into } => {
            let end = PoolEnd { move_ips_to: Some(pool(*into)), although_used: true };
            office.delete_pool(by, account(*of), &pool(*which), &end).await
        }
        Step::Release { account: of, ip: which } => {
            match office.ask_release(by, account(*of), &[ip(*which)], true).await {
                Ok(asked) => office.confirm_release(by, account(*of), &asked.id, &asked.token).await.map(|_| ()),
                Err(refusal) => Err(refusal),
            }
        }
        Step::Drained { ip: which } => office.take_in("queue", 1, &[support::drained(ip(*which))], &[]).await,
        Step::Rested => {
            bench.days(31);
            office.end_rests().await.map(|_| ())
        }
        Step::Share { ip: which } => {
            office.order_ip(by, ip(*which), &IpOrder::Share { pool: "shared".into() }).await.map(|_| ())
        }
        Step::Unshare { ip: which } => office.order_ip(by, ip(*which), &IpOrder::Unshare).await.map(|_| ()),
        Step::Subaccount { account: of, pool: with } => {
            let new = NewSubaccount { name: "part".into(), pool: Some(pool(*with)) };
            match office.create_subaccount(by, account(*of), new).await {
                Err(refusal) if refusal.code == "name_taken" => {
                    let to = SubaccountChange { pool: Some(Some(pool(*with))), ..SubaccountChange::default() };
                    office.change_subaccount(by, account(*of), "part", to).await.map(|_| ())
                }
                other => other.map(|_| ()),
            }
        }
        Step::Relay { account: of, pool: which, gone } => relay(office, by, account(*of), &pool(*which), *gone).await,
        Step::Crash => {
            let mut change = office.store().change().await.unwrap();
            let halfway = "UPDATE ip SET pool = NULL WHERE state = 'leased'";
            sqlx::query(halfway).execute(change.conn()).await.unwrap();
            drop(change);
            Ok(())
        }
        Step::Restart | Step::Refresh => Ok(()),
    };
    if let Err(refusal) = outcome {
        assert_ne!(refusal.kind, control::Kind::Unavailable, "{step:?}: {refusal}");
    }
}

/// The account's relay takes what this pool has no place for; or the pool has none, and no relay is left if nobody else uses it.
async fn relay(office: &Office, by: &Actor, account: &str, pool: &str, gone: bool) -> Result<(), Refusal> {
    if gone {
        let none = PoolChange { relay: Some(None), leaving: Some(Leaving::Shared), ..PoolChange::default() };
        office.change_pool(by, account, pool, none).await?;
        return office.delete_relay(by, account, "before").await;
    }
    let new = NewRelay {
        name: "before".into(),
        host: "smtp.before.test".into(),
        port: 587,
        security: RelaySecurity::StartTls,
        user: Some("ann".into()),
        password: Some("secret".into()),
    };
    match office.create_relay(by, account, new).await {
        Err(refusal) if refusal.code == "name_taken" => {}
        other => drop(other?),
    }
    let to = PoolChange { relay: Some(Some("before".into())), ..PoolChange::default() };
    office.change_pool(by, account, pool, to).await.map(|_| ())
}

async fn holds(office: &Office, accounts: &[String]) -> Result<(), TestCaseError> {
    let mut conn = office.store().read().await.unwrap();
    let count = async |statement: &'static str, conn: &mut sqlx::AnyConnection| -> i64 {
        sqlx::Row::get(&sqlx::query(statement).fetch_one(conn).await.unwrap(), 0)
    };
    // A leased IP is in a pool of who leases it; an IP that is leased is leased once, and by a running lease.
    let strays = "SELECT COUNT(*) FROM ip i LEFT JOIN pool p ON p.id = i.pool \
                  LEFT JOIN lease l ON l.ip = i.address AND l.ended_at IS NULL \
                  WHERE (i.state = 'leased') <> (l.id IS NOT NULL) \
                  OR (i.state = 'leased' AND (p.account IS NULL OR p.account <> l.account)) \
                  OR (i.state = 'shared' AND (p.id IS NULL OR p.account IS NOT NULL))";
    prop_assert_eq!(count(strays, &mut conn).await, 0);
    let doubled = "SELECT COUNT(*) FROM lease a JOIN lease b ON a.ip = b.ip AND a.id < b.id \
                   WHERE COALESCE(a.ended_at, 9223372036854775807) > b.started_at \
                   AND COALESCE(b.ended_at, 9223372036854775807) > a.started_at";
    prop_assert_eq!(count(doubled, &mut conn).await, 0);
    let defaults = "SELECT COUNT(*) FROM pool WHERE is_default = 1 AND account IS NOT NULL";
    prop_assert_eq!(count(defaults, &mut conn).await, i64::try_from(accounts.len()).unwrap());
    Ok(())
}
