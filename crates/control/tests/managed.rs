//! Does a managed pool get its first IP when it is worth it, more ahead of need, fewer after quiet, and does everybody see why? (R3.8, R6.5)
#![allow(clippy::unwrap_used)] // A test may stop at the first surprise.

mod support;

use control::inventory::NewIps;
use control::managed::{BoundsChange, FitQuestion, Outcome};
use control::pool::{NewPool, Pool};
use control::setting::Setting;
use control::{Kind, Window};
use engine::snapshot::{Leaving, Plan, PoolKind, WarmUpBy};
use std::net::IpAddr;
use support::sent::{Sent, send_by};
use support::{Bench, on_both};

const OF_OTHERS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 200));

async fn managed_pool(bench: &Bench, account: &str) -> Pool {
    let new = NewPool {
        region: None,
        name: "bulk".into(),
        kind: PoolKind::Managed,
        overflow: None,
        leaving: Leaving::Shared,
        relay: None,
        active_within: None,
    };
    bench.office.create_pool(&bench.by, account, new).await.unwrap()
}

/// So many on this day from this IP; the next morning it is decided.
async fn day(bench: &Bench, account: &str, pool: &Pool, ip: IpAddr, delivered: u16) {
    send_by(bench, account, (&pool.id, ip), "google", Sent { delivered, ..Sent::default() }).await;
    bench.days(1);
    bench.office.scale_pools().await.unwrap();
}

// R3.8, R6.5
#[test]
fn spec_r6_5_a_managed_pool_grows_ahead_of_need_and_shrinks_after_quiet() {
    on_both(async |bench| {
        bench.region().await;
        let acme = bench.account("acme", Plan::Standard).await;
        let own = bench.key_of(&acme);
        bench.ips(2).await;
        bench.office.set_setting(&bench.by, Setting::CheckMaxAgeHours, 10_000).await.unwrap();
        let pool = managed_pool(bench, &acme).await;
        let look = async || bench.office.managed_pool(&own, &acme, &pool.id).await.unwrap();
        assert_eq!(bench.office.scale_pools().await.unwrap(), 1);
        assert_eq!(bench.office.scale_pools().await.unwrap(), 0, "once a day");
        for _ in 0..2 {
            day(bench, &acme, &pool, OF_OTHERS, 400).await;
        }
        let before = look().await;
        assert_eq!((before.ips.len(), before.decisions[0].outcome), (0, Outcome::Kept));
        assert!(before.decisions[0].words.contains("too little is sent"), "{:?}", before.decisions[0]);
        day(bench, &acme, &pool, OF_OTHERS, 400).await;
        let first = look().await;
        assert_eq!((first.ips.len(), first.decisions[0].outcome, first.decisions[0].change), (1, Outcome::Done, 1));
        assert!(first.decisions[0].words.contains("enough is sent for the first IP of its own"));
        assert_eq!((first.sent, first.sent_on_own), (1_200, 0));
        // It learns, at the price of managed ones; its address is nobody's but the operator's (R2.8).
        let ip = bench.office.ip(&bench.by, first.ips[0]).await.unwrap();
        assert_eq!(ip.warm_up.unwrap().by, WarmUpBy::Learning);
        assert_eq!(bench.office.ip(&own, first.ips[0]).await.unwrap_err().kind, Kind::NotFound);
        assert!(first.pool.ips.is_empty());

        day(bench, &acme, &pool, first.ips[0], 400).await;
        let used = look().await;
        assert_eq!((used.sent, used.sent_on_own), (1_600, 400));
        assert_eq!((&*used.providers[0].provider, used.providers[0].carries_per_day), ("google", 500_000));

        // Two quiet weeks, and the last one goes: it drains, rests and returns.
        for _ in 0..14 {
            day(bench, &acme, &pool, first.ips[0], 10).await;
        }
        let last = look().await;
        assert_eq!((last.ips.len(), last.decisions[0].change), (0, -1), "{:?}", last.decisions[0]);
        let gone = bench.office.ip(&bench.by, first.ips[0]).await.unwrap();
        assert_eq!(gone.state.code(), "draining");
        let audit = bench.office.audit(&own, Some(&acme), Some(&pool.id), &Window::default()).await.unwrap();
        assert!(audit.items.iter().any(|line| line.action == "scaled"), "{audit:?}");
        assert!(!audit.items.iter().any(|line| line.detail.to_string().contains("192.0.2.")), "{audit:?}");
    });
}

// R6.5: bounds, the operator's approval, and what cannot be done.
#[test]
fn an_operator_who_is_asked_decides_and_bounds_hold() {
    on_both(async |bench| {
        bench.region().await;
        let acme = bench.account("acme", Plan::Standard).await;
        let own = bench.key_of(&acme);
        let pool = managed_pool(bench, &acme).await;
        let office = &bench.office;
        let refused =
            office.set_bounds(&own, &acme, &pool.id, BoundsChange { asks: Some(true), ..BoundsChange::default() });
        assert_eq!(refused.await.unwrap_err().kind, Kind::Forbidden, "whether it is asked, the operator says");
        let slip = BoundsChange { ips_min: Some(3), ips_max: Some(2), ..BoundsChange::default() };
        let slip = office.set_bounds(&own, &acme, &pool.id, slip).await.unwrap_err();
        assert_eq!(slip.field.as_deref(), Some("ips_max"));
        let asks = BoundsChange { asks: Some(true), ips_min: Some(1), ..BoundsChange::default() };
        office.set_bounds(&bench.by, &acme, &pool.id, asks).await.unwrap();
        office.scale_pools().await.unwrap();
        let proposed = office.proposed_scalings(&bench.by).await.unwrap();
        assert_eq!((proposed.len(), proposed[0].change), (1, 1));
        assert!(office.proposed_scalings(&own).await.is_err());

        // There is none to be had, and it says so; on the next day it is proposed anew.
        let failed = office.answer_scaling(&bench.by, proposed[0].id, true).await.unwrap();
        assert_eq!(failed.outcome, Outcome::Failed);
        assert!(failed.said.unwrap().contains("0 can be handed out"));
        assert_eq!(office.answer_scaling(&bench.by, proposed[0].id, true).await.unwrap_err().code, "not_proposed");
        // R2.8: one that is not fit is named to the operator alone.
        bench.days(1);
        let unfit = NewIps { addresses: vec!["192.0.2.9".into()], ..NewIps::default() };
        office.add_ips(&bench.by, unfit).await.unwrap();
        office.scale_pools().await.unwrap();
        let proposed = office.proposed_scalings(&bench.by).await.unwrap();
        let failed = office.answer_scaling(&bench.by, proposed[0].id, true).await.unwrap();
        assert!(failed.said.unwrap().contains("192.0.2.9"));
        let told = office.managed_pool(&own, &acme, &pool.id).await.unwrap();
        assert!(told.decisions[0].said.is_some() && !format!("{told:?}").contains("192.0.2."), "{told:?}");
        let audit = office.audit(&own, Some(&acme), Some(&pool.id), &Window::default()).await.unwrap();
        assert!(!format!("{audit:?}").contains("192.0.2."), "{audit:?}");
        bench.days(1);
        bench.ips(1).await;
        office.scale_pools().await.unwrap();
        let again = office.proposed_scalings(&bench.by).await.unwrap();
        assert_eq!(office.answer_scaling(&bench.by, again[0].id, false).await.unwrap().outcome, Outcome::Refused);
        bench.days(1);
        office.scale_pools().await.unwrap();
        let third = office.proposed_scalings(&bench.by).await.unwrap();
        assert_eq!(office.answer_scaling(&bench.by, third[0].id, true).await.unwrap().outcome, Outcome::Done);
        let seen = office.managed_pool(&own, &acme, &pool.id).await.unwrap();
        assert_eq!((seen.ips.len(), seen.decisions[0].by.as_deref()), (1, Some("the command line")));
        let standard = bench.pool(&acme, "news").await;
        assert_eq!(office.managed_pool(&own, &acme, &standard.id).await.unwrap_err().kind, Kind::NotFound);
    });
}

// R3.8
#[test]
fn spec_r3_8_an_account_learns_whether_a_managed_pool_is_right_for_it() {
    on_both(async |bench| {
        bench.region().await;
        let acme = bench.account("acme", Plan::Standard).await;
        let own = bench.key_of(&acme);
        let asked = FitQuestion {
            per_day: 5_000,
            per_month: 100_000,
            is_steady: true,
            domains: vec!["acme.example".into()],
            regions: Vec::new(),
            needs_addresses: false,
        };
        let fit = bench.office.fits_managed(&own, &acme, &asked).await.unwrap();
        let missing: Vec<&str> = fit.requirements.iter().filter(|point| !point.met).map(|point| point.code).collect();
        let advice: Vec<&str> = fit.advice.iter().map(|point| point.code).collect();
        assert_eq!((missing, advice), (vec!["domains"], vec!["known-sender"]));
        let other = bench.account("other", Plan::Standard).await;
        assert_eq!(bench.office.fits_managed(&own, &other, &asked).await.unwrap_err().kind, Kind::NotFound);
    });
}
