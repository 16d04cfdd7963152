//! Pools are arranged by whoever leases the IPs, and nothing is taken away silently.
#![allow(clippy::unwrap_used)] // A test may stop at the first surprise.

mod support;

use control::configuration_set::SetChange;
use control::inventory::IpFilter;
use control::lease::Into;
use control::pool::{NewPool, PoolChange, PoolEnd};
use control::subaccount::{NewSubaccount, SubaccountChange};
use control::{Kind, Refusal, Window};
use engine::snapshot::{Plan, PoolKind};
use support::on_both;

fn said<T: std::fmt::Debug>(result: Result<T, Refusal>) -> (Kind, &'static str) {
    let refusal = result.unwrap_err();
    (refusal.kind, refusal.code)
}

// R2.6: made, renamed, deleted; IPs move between an account's own, one pool at a time.
#[test]
fn spec_r2_6_pools_are_made_renamed_and_deleted_and_ips_move_between_them() {
    on_both(async |bench| {
        bench.region().await;
        let ips = bench.ips(3).await;
        let acme = bench.account("acme", Plan::Standard).await;
        let (office, own) = (&bench.office, &bench.key_of(&acme));
        bench.grant(&acme, &ips, Into::Default).await;
        let news = bench.pool(&acme, "news").await;
        assert_eq!(
            said(
                office
                    .create_pool(
                        own,
                        &acme,
                        NewPool {
                            region: None,
                            name: "news".into(),
                            kind: PoolKind::Standard,
                            overflow: None,
                            leaving: engine::snapshot::Leaving::Shared,
                            relay: None,
                            active_within: None,
                        }
                    )
                    .await
            ),
            (Kind::Conflict, "name_taken")
        );
        assert_eq!(
            said(
                office
                    .create_pool(
                        own,
                        &acme,
                        NewPool {
                            region: None,
                            name: "no blanks".into(),
                            kind: PoolKind::Standard,
                            overflow: None,
                            leaving: engine::snapshot::Leaving::Shared,
                            relay: None,
                            active_within: None,
                        }
                    )
                    .await
            )
            .0,
            Kind::Invalid
        );
        let renamed = PoolChange { name: Some("letters".into()), revision: Some(1), ..PoolChange::default() };
        assert_eq!(office.change_pool(own, &acme, &news.id, renamed).await.unwrap().name, "letters");
        let moved = office.move_ip(own, &acme, ips[0], "letters", false).await.unwrap();
        assert_eq!(moved.ips, ips[..1]);
        assert_eq!(office.pool(own, &acme, "default").await.unwrap().ips, ips[1..]);
        // By its id as well as by its name.
        office.move_ip(own, &acme, ips[0], &news.id, false).await.unwrap();
        assert_eq!(
            said(office.delete_pool(own, &acme, "letters", &PoolEnd::default()).await),
            (Kind::Conflict, "pool_has_ips")
        );
        let end = PoolEnd { move_ips_to: Some("default".into()), although_used: false };
        office.delete_pool(own, &acme, "letters", &end).await.unwrap();
        assert_eq!(office.pool(own, &acme, "default").await.unwrap().ips, ips);
        assert_eq!(said(office.delete_pool(own, &acme, "default", &end).await), (Kind::Conflict, "default_pool"));
    });
}

// R2.6: a pool that a configuration set or a subaccount uses is not deleted without saying so; R2.5: a subaccount has at most one.
#[test]
fn spec_r2_5_r2_6_a_pool_in_use_is_not_deleted_silently() {
    on_both(async |bench| {
        bench.region().await;
        let acme = bench.account("acme", Plan::Standard).await;
        let (office, own) = (&bench.office, &bench.key_of(&acme));
        bench.pool(&acme, "news").await;
        bench.pool(&acme, "other").await;
        let with = SetChange { pool: Some(Some("news".into())), ..SetChange::default() };
        office.create_set(own, &acme, "letters", with).await.unwrap();
        let shop = NewSubaccount { name: "shop".into(), pool: Some("news".into()) };
        office.create_subaccount(own, &acme, shop).await.unwrap();
        let refusal = office.delete_pool(own, &acme, "news", &PoolEnd::default()).await.unwrap_err();
        assert_eq!((refusal.code, refusal.rule), ("pool_in_use", Some("R2.6")));
        assert!(
            refusal.sentence.contains("configuration set letters") && refusal.sentence.contains("subaccount shop"),
            "{refusal}"
        );
        // Another pool takes the place of the one before.
        let other = SubaccountChange { pool: Some(Some("other".into())), ..SubaccountChange::default() };
        office.change_subaccount(own, &acme, "shop", other).await.unwrap();
        let end = PoolEnd { although_used: true, move_ips_to: None };
        office.delete_pool(own, &acme, "news", &end).await.unwrap();
        assert_eq!(office.set(own, &acme, "letters").await.unwrap().pool, None);
        assert!(office.subaccount(own, &acme, "shop").await.unwrap().pool.is_some());
    });
}

// R2.6: the last IP of a pool in use does not go silently.
#[test]
fn the_last_ip_of_a_pool_moves_only_when_it_is_said() {
    on_both(async |bench| {
        bench.region().await;
        let ips = bench.ips(1).await;
        let acme = bench.account("acme", Plan::Enterprise).await;
        bench.grant(&acme, &ips, Into::Default).await;
        bench.pool(&acme, "news").await;
        assert_eq!(
            said(bench.office.move_ip(&bench.by, &acme, ips[0], "news", false).await),
            (Kind::Conflict, "pool_would_be_empty")
        );
        bench.office.move_ip(&bench.by, &acme, ips[0], "news", true).await.unwrap();
    });
}

// R4.2: an overflow pool per pool, no chains; the database refuses them too.
#[test]
fn spec_r4_2_overflow_goes_one_step() {
    on_both(async |bench| {
        bench.region().await;
        let acme = bench.account("acme", Plan::Standard).await;
        let (office, by) = (&bench.office, &bench.by);
        for name in ["a", "b", "c"] {
            bench.pool(&acme, name).await;
        }
        let to = |pool: &str| PoolChange { overflow: Some(Some(pool.to_owned())), ..PoolChange::default() };
        office.change_pool(by, &acme, "a", to("b")).await.unwrap();
        assert_eq!(said(office.change_pool(by, &acme, "b", to("c")).await), (Kind::Conflict, "overflow_chain"));
        assert_eq!(said(office.change_pool(by, &acme, "c", to("a")).await), (Kind::Conflict, "overflow_chain"));
        assert_eq!(said(office.change_pool(by, &acme, "c", to("nowhere")).await).0, Kind::NotFound);
        office.change_pool(by, &acme, "c", to("shared")).await.unwrap();
        let mut change = office.store().change().await.unwrap();
        let chain = "UPDATE pool SET overflow = (SELECT id FROM pool WHERE name = 'c') WHERE name = 'b'";
        assert!(sqlx::query(chain).execute(change.conn()).await.is_err());
        drop(change);
        // Taken away again.
        let none = PoolChange { overflow: Some(None), ..PoolChange::default() };
        office.change_pool(by, &acme, "a", none).await.unwrap();
        office.change_pool(by, &acme, "b", to("shared")).await.unwrap();
    });
}

// R2.8: nothing of another tenant's can be seen, named, moved or inferred; a managed pool's addresses are the operator's alone.
#[test]
fn spec_r2_8_other_tenants_and_managed_pools_stay_out_of_sight() {
    on_both(async |bench| {
        bench.region().await;
        let ips = bench.ips(3).await;
        let (ann, bob) = (bench.account("ann", Plan::Standard).await, bench.account("bob", Plan::Standard).await);
        let (office, own) = (&bench.office, &bench.key_of(&ann));
        let bobs = bench.grant(&bob, &ips[..1], Into::New("bobs".into())).await.pool;
        let new = NewPool {
            region: None,
            name: "auto".into(),
            kind: PoolKind::Managed,
            overflow: None,
            leaving: engine::snapshot::Leaving::Shared,
            relay: None,
            active_within: None,
        };
        assert_eq!(said(office.create_pool(own, &ann, new.clone()).await).0, Kind::Forbidden);
        let auto = office.create_pool(&bench.by, &ann, new).await.unwrap();
        bench.grant(&ann, &ips[1..2], Into::Pool(auto.id.clone())).await;
        bench.grant(&ann, &ips[2..], Into::Default).await;

        for account in [bob.as_str(), "bob", "nobody"] {
            assert_eq!(office.account(own, account).await.unwrap_err(), Refusal::not_found("account", account));
            assert_eq!(said(office.pools(own, Some(account), &Window::default()).await).0, Kind::NotFound);
            assert_eq!(said(office.pool(own, account, &bobs.id).await).0, Kind::NotFound);
            assert_eq!(said(office.leases(own, Some(account), true, &Window::default()).await).0, Kind::NotFound);
        }
        for called in [bobs.id.as_str(), "bobs", "nowhere"] {
            assert_eq!(
                office.pool(own, &ann, called).await.unwrap_err(),
                Refusal::not_found("pool", called).by_rule("R2.2")
            );
            let with = SetChange { pool: Some(Some(called.to_owned())), ..SetChange::default() };
            assert_eq!(said(office.create_set(own, &ann, "x", with).await).0, Kind::NotFound);
        }
        for ip in [ips[0], ips[1], "192.0.2.99".parse().unwrap()] {
            assert_eq!(said(office.move_ip(own, &ann, ip, "default", true).await).0, Kind::NotFound);
            assert_eq!(said(office.ask_release(own, &ann, &[ip], true).await).0, Kind::NotFound);
            assert_eq!(said(office.ip(own, ip).await).0, Kind::NotFound);
        }
        assert!(office.pool(own, &ann, "auto").await.unwrap().ips.is_empty());
        assert_eq!(office.pool(&bench.by, &ann, "auto").await.unwrap().ips, ips[1..2]);
        let seen = office.ips(own, &IpFilter::default(), &Window::default()).await.unwrap();
        assert_eq!(seen.items.iter().map(|ip| ip.address).collect::<Vec<_>>(), ips[2..]);
        let leases = office.leases(own, Some(&ann), true, &Window::default()).await.unwrap();
        assert_eq!(leases.items.iter().map(|lease| lease.ip).collect::<Vec<_>>(), ips[2..]);
    });
}
