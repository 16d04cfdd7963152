//! IPs are leased once, under the plan's conditions, checked; and given back in two steps.
#![allow(clippy::unwrap_used)] // A test may stop at the first surprise.

mod support;

use control::account::AccountChange;
use control::inventory::{Check, IpFilter, IpOrder, NewIps, Outcome, State};
use control::lease::{Grant, Into, Order};
use control::setting::Setting;
use control::{Kind, Refusal, Window};
use engine::snapshot::Plan;
use std::net::IpAddr;
use support::{Bench, on_both};

fn order(quantity: u32, into: Into) -> Order {
    Order { region: None, quantity, into }
}

fn said<T: std::fmt::Debug>(result: Result<T, Refusal>) -> (&'static str, Option<&'static str>) {
    let refusal = result.unwrap_err();
    (refusal.code, refusal.rule)
}

async fn state(bench: &Bench, ip: IpAddr) -> State {
    bench.office.ip(&bench.by, ip).await.unwrap().state
}

// R3.4: quantity; an existing or a new pool; the free plan needs a payment method; standard holds four, enterprise any number.
#[test]
fn spec_r3_4_a_purchase_is_one_step_under_the_plans_conditions() {
    on_both(async |bench| {
        bench.region().await;
        bench.ips(12).await;
        let (office, by) = (&bench.office, &bench.by);
        let free = bench.account("free", Plan::Free).await;
        let own = bench.key_of(&free);
        assert_eq!(
            said(office.purchase(&own, &free, &order(1, Into::Default)).await),
            ("payment_method_needed", Some("R3.4"))
        );
        let pays = AccountChange { has_payment_method: Some(true), ..AccountChange::default() };
        office.change_account(by, &free, pays).await.unwrap();
        let leased = office.purchase(&own, &free, &order(1, Into::Default)).await.unwrap();
        assert!(leased.pool.is_default && leased.pool.ips.len() == 1);
        assert_eq!(leased.leases[0].price_cents, 2_000);

        let standard = bench.account("standard", Plan::Standard).await;
        let own = bench.key_of(&standard);
        let leased = office.purchase(&own, &standard, &order(3, Into::New("news".into()))).await.unwrap();
        assert_eq!((leased.pool.name.as_str(), leased.pool.ips.len()), ("news", 3));
        let over = office.purchase(&own, &standard, &order(2, Into::Pool("news".into()))).await;
        assert_eq!(said(over), ("dedicated_ips_max", Some("R3.4")));
        let leased = office.purchase(&own, &standard, &order(1, Into::Pool("news".into()))).await.unwrap();
        assert_eq!(leased.pool.ips.len(), 4);
        // The limit is a setting.
        office.set_setting(by, Setting::DedicatedIpsMax, 5).await.unwrap();
        office.purchase(&own, &standard, &order(1, Into::Default)).await.unwrap();

        let enterprise = bench.account("enterprise", Plan::Enterprise).await;
        let own = bench.key_of(&enterprise);
        office.purchase(&own, &enterprise, &order(6, Into::Default)).await.unwrap();
        // R2.6: a new pool of a purchase has at most 20 letters and digits.
        for name in ["", "a-b", "aaaaaaaaaaaaaaaaaaaaa"] {
            assert_eq!(
                said(office.purchase(&own, &enterprise, &order(1, Into::New(name.into()))).await).1,
                Some("R2.6")
            );
        }
        // There are none left.
        assert_eq!(
            said(office.purchase(&own, &enterprise, &order(1, Into::Default)).await),
            ("too_few_ips", Some("R3.7"))
        );
    });
}

// R3.3: a grant leases IPs of the region, into the default pool or a named one.
#[test]
fn spec_r3_3_a_grant_leases_these_ips_or_any_that_are_fit() {
    on_both(async |bench| {
        bench.region().await;
        let ips = bench.ips(4).await;
        let acme = bench.account("acme", Plan::Standard).await;
        let leased = bench.grant(&acme, &ips[2..3], Into::Default).await;
        assert_eq!(leased.leases[0].ip, ips[2]);
        assert_eq!(leased.leases[0].price_cents, 2_495);
        let any = Grant { order: order(2, Into::New("more".into())), ips: Vec::new(), agreed_cents: None };
        let leased = bench.office.grant(&bench.by, &acme, &any).await.unwrap();
        assert_eq!(leased.pool.ips, ips[..2]);
        // Only the operator grants.
        let own = bench.key_of(&acme);
        assert_eq!(bench.office.grant(&own, &acme, &any).await.unwrap_err().kind, Kind::Forbidden);
        // R3.6
        let again = Grant { order: order(0, Into::Default), ips: vec![ips[2]], agreed_cents: None };
        assert_eq!(said(bench.office.grant(&bench.by, &acme, &again).await), ("ip_taken", Some("R3.6")));
        let log = bench.office.audit(&own, None, None, &Window::default()).await.unwrap();
        assert_eq!(log.items.iter().filter(|entry| entry.subject_kind == "lease").count(), 3);
    });
}

// R3.3: the limit of R3.4 is one of purchases; what the operator grants has none.
#[test]
fn a_grant_may_go_beyond_what_can_be_purchased() {
    on_both(async |bench| {
        bench.region().await;
        bench.ips(7).await;
        let acme = bench.account("acme", Plan::Standard).await;
        let grant = Grant { order: order(6, Into::Default), ips: Vec::new(), agreed_cents: None };
        assert_eq!(bench.office.grant(&bench.by, &acme, &grant).await.unwrap().leases.len(), 6);
        let more = bench.office.purchase(&bench.key_of(&acme), &acme, &order(1, Into::Default)).await;
        assert_eq!(said(more), ("dedicated_ips_max", Some("R3.4")));
    });
}

// R3.1, R3.3: each region is asked for by itself; an IP belongs to one, and its lease and its pool with it.
#[test]
fn an_ip_is_leased_in_its_own_region_only() {
    on_both(async |bench| {
        bench.region().await;
        bench.office.create_region(&bench.by, "north").await.unwrap();
        let ips = bench.ips(2).await;
        let acme = bench.account("acme", Plan::Enterprise).await;
        let own = bench.key_of(&acme);
        let in_north = |quantity, into| Order { region: Some("north".into()), quantity, into };
        let (office, by) = (&bench.office, &bench.by);
        let named = Grant { order: in_north(0, Into::Default), ips: ips.clone(), agreed_cents: None };
        assert_eq!(said(office.grant(by, &acme, &named).await).0, "ip_taken");
        let any = office.purchase(&own, &acme, &in_north(1, Into::Default)).await;
        assert_eq!(said(any).0, "too_few_ips");
        let leased = bench.grant(&acme, &ips[..1], Into::New("here".into())).await;
        assert_eq!(leased.pool.region, "local");
        let there = office.purchase(&own, &acme, &in_north(1, Into::Pool(leased.pool.id))).await;
        assert_eq!(there.unwrap_err().field.as_deref(), Some("pool"));
        assert_eq!(state(bench, ips[1]).await, State::Available);
    });
}

// R3.7: not looked at, found bad, or looked at too long ago: shown, and not handed out.
#[test]
fn spec_r3_7_an_ip_whose_check_failed_is_not_handed_out() {
    on_both(async |bench| {
        bench.region().await;
        let (office, by) = (&bench.office, &bench.by);
        let acme = bench.account("acme", Plan::Enterprise).await;
        let new = NewIps { addresses: vec!["192.0.2.1".into()], ..NewIps::default() };
        let ip = office.add_ips(by, new).await.unwrap()[0].address;
        let grant = Grant { order: order(0, Into::Default), ips: vec![ip], agreed_cents: None };
        assert_eq!(said(office.grant(by, &acme, &grant).await), ("ip_not_fit", Some("R3.7")));
        bench.good(ip).await;
        let listed = Check {
            name: "zen.example".into(),
            at: office.now(),
            outcome: Outcome::Bad,
            words: "listed: sends spam".into(),
        };
        office.note_checks(ip, std::slice::from_ref(&listed)).await.unwrap();
        let refusal = office.grant(by, &acme, &grant).await.unwrap_err();
        assert!(refusal.sentence.contains("zen.example: listed: sends spam"), "{refusal}");
        let any = Grant { order: order(1, Into::Default), ips: Vec::new(), agreed_cents: None };
        let refusal = office.grant(by, &acme, &any).await.unwrap_err();
        assert!(refusal.sentence.contains("zen.example: listed: sends spam"), "{refusal}");
        let reverse = Check { name: "reverse-dns".into(), outcome: Outcome::Good, ..listed.clone() };
        let not_listed = Check { outcome: Outcome::Good, words: "not listed".into(), ..listed };
        // What is found takes the place of what was found before.
        office.note_checks(ip, &[reverse, not_listed]).await.unwrap();
        bench.days(2);
        assert!(office.grant(by, &acme, &grant).await.unwrap_err().sentence.contains("too old"));
        // The operator may lend without.
        office.set_setting(by, Setting::ChecksRequired, 0).await.unwrap();
        office.grant(by, &acme, &grant).await.unwrap();
        let (_, checks) = office.ip_story(by, ip).await.unwrap();
        assert_eq!(checks.len(), 2);
    });
}

// R3.5: asked, confirmed, drained, rested, back in the inventory; R7.5: the lease ends with the confirmation.
#[test]
fn spec_r3_5_giving_back_takes_a_confirmation_and_then_its_time() {
    on_both(async |bench| {
        bench.region().await;
        let (office, by) = (&bench.office, &bench.by);
        let ips = bench.ips(2).await;
        let acme = bench.account("acme", Plan::Standard).await;
        let own = bench.key_of(&acme);
        bench.grant(&acme, &ips, Into::Default).await;
        let asked = office.ask_release(&own, &acme, &ips[..1], false).await.unwrap();
        assert!(asked.words.contains("192.0.2.1") && asked.words.contains("cannot be undone"), "{}", asked.words);
        // Nothing has happened yet.
        assert_eq!(state(bench, ips[0]).await, State::Leased);
        let wrong = office.confirm_release(&own, &acme, &asked.id, "weir_release_0").await;
        assert_eq!(wrong.unwrap_err().field.as_deref(), Some("token"));
        let other = bench.account("other", Plan::Standard).await;
        let foreign = office.confirm_release(&bench.key_of(&other), &other, &asked.id, &asked.token).await;
        assert_eq!(foreign.unwrap_err().kind, Kind::NotFound);
        let ended = office.confirm_release(&own, &acme, &asked.id, &asked.token).await.unwrap();
        assert_eq!(ended[0].ended_at, Some(office.now()));
        assert_eq!(state(bench, ips[0]).await, State::Draining);
        assert_eq!(said(office.confirm_release(&own, &acme, &asked.id, &asked.token).await).0, "confirmed_already");
        // It is not the account's any more, and not yet anybody's.
        assert_eq!(office.ip(&own, ips[0]).await.unwrap_err().kind, Kind::NotFound);
        let again = Grant { order: order(0, Into::Default), ips: vec![ips[0]], agreed_cents: None };
        assert_eq!(said(office.grant(by, &acme, &again).await).0, "ip_taken");
        bench.drained(ips[0]).await;
        bench.drained(ips[0]).await;
        assert_eq!(state(bench, ips[0]).await, State::Resting);
        bench.days(29);
        assert_eq!(office.end_rests().await.unwrap(), 0);
        bench.days(1);
        assert_eq!(office.end_rests().await.unwrap(), 1);
        assert_eq!(state(bench, ips[0]).await, State::Available);
        let (steps, _) = office.ip_story(by, ips[0]).await.unwrap();
        let states: Vec<&str> = steps.iter().map(|step| step.state.as_str()).collect();
        assert_eq!(states, ["available", "leased", "draining", "resting", "available"]);
        // A release that is not confirmed in time is none.
        let late = office.ask_release(&own, &acme, &ips[1..], true).await.unwrap();
        bench.days(8);
        assert_eq!(said(office.confirm_release(&own, &acme, &late.id, &late.token).await).0, "too_late");
        assert_eq!(state(bench, ips[1]).await, State::Leased);
    });
}

// R2.6: the last IP of a pool is not taken away silently.
#[test]
fn the_last_ip_of_a_pool_is_given_back_only_when_it_is_said() {
    on_both(async |bench| {
        bench.region().await;
        let ips = bench.ips(1).await;
        let acme = bench.account("acme", Plan::Standard).await;
        bench.grant(&acme, &ips, Into::Default).await;
        let refusal = bench.office.ask_release(&bench.by, &acme, &ips, false).await.unwrap_err();
        assert_eq!((refusal.code, refusal.rule), ("pool_would_be_empty", Some("R2.6")));
        assert!(refusal.sentence.contains("default pool") && refusal.sentence.contains("shared pool"), "{refusal}");
        bench.office.ask_release(&bench.by, &acme, &ips, true).await.unwrap();
    });
}

// G1, R3.6: fifty at once want the last IP; one gets it, the rest a clear conflict.
#[test]
fn spec_r3_6_one_ip_wanted_fifty_times_at_once_is_leased_once() {
    on_both(async |bench| {
        bench.region().await;
        let ips = bench.ips(1).await;
        let mut racing = tokio::task::JoinSet::new();
        for at in 0..50 {
            let account = bench.account(&format!("a{at}"), Plan::Standard).await;
            let (office, by) = (bench.office.clone(), bench.by.clone());
            racing.spawn(async move {
                let grant = Grant { order: order(1, Into::Default), ips: Vec::new(), agreed_cents: None };
                office.grant(&by, &account, &grant).await
            });
        }
        let (mut won, mut lost) = (0, 0);
        while let Some(result) = racing.join_next().await {
            match result.unwrap() {
                Ok(_) => won += 1,
                Err(refusal) => {
                    assert_eq!((refusal.kind, refusal.code), (Kind::Conflict, "too_few_ips"));
                    lost += 1;
                }
            }
        }
        assert_eq!((won, lost), (1, 49));
        assert_eq!(bench.office.leases(&bench.by, None, true, &Window::default()).await.unwrap().items.len(), 1);
        // And the database itself says no, whoever writes to it.
        let mut change = bench.office.store().change().await.unwrap();
        for statement in [
            "INSERT INTO lease (id, ip, account, origin, price_cents, started_at) SELECT 'second', ip, account, 'grant', 0, started_at FROM lease",
            "INSERT INTO lease (id, ip, account, origin, price_cents, started_at, ended_at) \
             SELECT 'inside', ip, account, 'grant', 0, started_at + 5, started_at + 9 FROM lease",
        ] {
            let mut inner = sqlx::Connection::begin(change.conn()).await.unwrap();
            let fault = sqlx::query(statement).execute(&mut *inner).await.unwrap_err();
            assert!(fault.as_database_error().is_some(), "{fault}");
            inner.rollback().await.unwrap();
        }
        drop(change);
        assert_eq!(state(bench, ips[0]).await, State::Leased);
    });
}

#[test]
fn the_operator_takes_ips_in_and_out_of_service_and_rotation() {
    on_both(async |bench| {
        bench.region().await;
        let (office, by) = (&bench.office, &bench.by);
        let ips = bench.ips(2).await;
        let acme = bench.account("acme", Plan::Standard).await;
        let reason = || "its machine burns".to_owned();
        office.order_ip(by, ips[0], &IpOrder::OutOfService { reason: reason() }).await.unwrap();
        bench.grant(&acme, &ips[1..], Into::Default).await;
        assert_eq!(said(office.order_ip(by, ips[1], &IpOrder::OutOfService { reason: reason() }).await).0, "ip_state");
        let out = office.order_ip(by, ips[1], &IpOrder::OutOfRotation { reason: reason() }).await.unwrap();
        assert_eq!((out.state, out.rotation_reason), (State::Leased, Some(reason())));
        let back = office.order_ip(by, ips[1], &IpOrder::IntoRotation).await.unwrap();
        assert_eq!(back.rotation_reason, None);
        office.order_ip(by, ips[0], &IpOrder::Available { reason: "a new machine".into() }).await.unwrap();
        office.order_ip(by, ips[0], &IpOrder::Share { pool: "shared".into() }).await.unwrap();
        office.order_ip(by, ips[0], &IpOrder::Unshare).await.unwrap();
        assert_eq!(state(bench, ips[0]).await, State::Draining);
        let filter = IpFilter { state: Some(State::Leased), ..IpFilter::default() };
        let leased = office.ips(by, &filter, &Window::default()).await.unwrap();
        assert_eq!(leased.items.iter().map(|ip| ip.address).collect::<Vec<_>>(), ips[1..]);
        // R2.8: what an IP was before is the operator's business.
        assert_eq!(office.ip_story(&bench.key_of(&acme), ips[1]).await.unwrap_err().kind, Kind::Forbidden);
    });
}
