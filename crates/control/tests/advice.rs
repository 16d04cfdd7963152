//! Is an account advised by its own figures, and told without asking what it should know? (R8.1)
#![allow(clippy::unwrap_used)] // A test may stop at the first surprise.

mod support;

use control::Window;
use control::advice::Said;
use control::configuration_set::SetChange;
use control::incident::IncidentKind;
use control::lease::Into;
use control::setting::Setting;
use engine::advice::Way;
use engine::snapshot::Plan;
use std::net::IpAddr;
use support::sent::{OUT, Sent, send_in};
use support::{Bench, on_both};

async fn open(bench: &Bench, account: &str) -> Vec<(IncidentKind, Option<IpAddr>)> {
    let own = bench.key_of(account);
    let all = bench.office.incidents(&own, None, true, &Window::default()).await.unwrap().items;
    all.into_iter().map(|incident| (incident.kind, incident.ip)).collect()
}

// R8.1: measured, typed in, or both; what a managed pool requires stands beside it.
#[test]
fn spec_r8_1_figures_and_answers_are_weighed() {
    on_both(async |bench| {
        bench.region().await;
        let acme = bench.account("acme", Plan::Standard).await;
        let (office, own) = (&bench.office, &bench.key_of(&acme));
        let nothing = office.advise(own, &acme, &Said::default()).await.unwrap();
        assert_eq!((nothing.per_month, nothing.days, nothing.advice.way), (0, None, Way::Shared));
        let typed = Said { per_month: Some(150_000), is_steady: Some(true), ..Said::default() };
        let advised = office.advise(own, &acme, &typed).await.unwrap();
        assert_eq!((advised.advice.way, advised.advice.costs[1].cents_a_month), (Way::OneIp, 2_495));
        let hands_off = Said { hands_off: true, ..typed };
        let advised = office.advise(own, &acme, &hands_off).await.unwrap();
        assert_eq!(advised.advice.way, Way::OneIp, "no domain is verified");
        assert!(advised.requirements.iter().any(|point| point.code == "domains" && !point.met), "{advised:?}");

        // Four weeks of 4,000 a day: a sender of 120,000 a month, who is new for two days more.
        for _ in 0..28 {
            send_in(bench, &acme, "letters", ("pool_s", OUT), "google", Sent { delivered: 4_000, ..Sent::default() })
                .await;
            bench.days(1);
        }
        let advised = office.advise(own, &acme, &Said::default()).await.unwrap();
        assert_eq!(
            (advised.per_month, advised.busiest, advised.is_steady, advised.days),
            (120_000, 4_000, Some(true), Some(28))
        );
        assert_eq!(advised.advice.way, Way::Shared);
        assert!(advised.advice.words.contains("until you are known"), "{}", advised.advice.words);
        for _ in 0..3 {
            send_in(bench, &acme, "letters", ("pool_s", OUT), "google", Sent { delivered: 4_000, ..Sent::default() })
                .await;
            bench.days(1);
        }
        let advised = office.advise(own, &acme, &Said::default()).await.unwrap();
        assert_eq!(advised.advice.way, Way::OneIp, "{advised:?}");
        // A campaign that is five times a week's mail.
        for _ in 0..5 {
            send_in(bench, &acme, "letters", ("pool_s", OUT), "google", Sent { delivered: 20_000, ..Sent::default() })
                .await;
        }
        bench.days(1);
        let advised = office.advise(own, &acme, &Said::default()).await.unwrap();
        assert_eq!((advised.is_steady, advised.advice.way), (Some(false), Way::Shared));
        // What is typed in is not as what was: its bursts are not held against it.
        let advised = office.advise(own, &acme, &Said { per_month: Some(150_000), ..Said::default() }).await.unwrap();
        assert_eq!((advised.is_steady, advised.advice.way), (None, Way::OneIp));
    });
}

// R8.1: it speaks up by itself, once, until it is not so any more; never of a managed pool's addresses (R2.8).
#[test]
fn spec_r8_1_it_speaks_up_by_itself() {
    on_both(async |bench| {
        bench.region().await;
        bench.office.set_setting(&bench.by, Setting::CheckMaxAgeHours, 80_000).await.unwrap();
        let ips = bench.ips(2).await;
        let acme = bench.account("acme", Plan::Standard).await;
        let (office, own) = (&bench.office, &bench.key_of(&acme));
        for set in ["receipts", "letters"] {
            office.create_set(own, &acme, set, SetChange::default()).await.unwrap();
        }
        for _ in 0..28 {
            let good = Sent { delivered: 2_500, hard: 5, ..Sent::default() };
            send_in(bench, &acme, "receipts", ("pool_s", OUT), "google", good).await;
            let bad = Sent { delivered: 1_500, hard: 60, ..Sent::default() };
            send_in(bench, &acme, "letters", ("pool_s", OUT), "google", bad).await;
            bench.days(1);
        }
        office.advise_all().await.unwrap();
        let mut told = open(bench, &acme).await;
        told.retain(|(kind, _)| !matches!(kind, IncidentKind::Bounces));
        assert_eq!(told, [(IncidentKind::MixedMail, None), (IncidentKind::Outgrown, None)]);
        office.advise_all().await.unwrap();
        assert_eq!(open(bench, &acme).await.len(), told.len(), "once");
        // Who gives one of them up has nothing to part any more.
        office.delete_set(own, &acme, "letters").await.unwrap();
        office.advise_all().await.unwrap();
        let left = open(bench, &acme).await;
        assert!(!left.contains(&(IncidentKind::MixedMail, None)) && left.contains(&(IncidentKind::Outgrown, None)));
        office.create_set(own, &acme, "letters", SetChange::default()).await.unwrap();

        // Each set gets its pool, and the account an IP, which then carries too little.
        let pool = bench.pool(&acme, "fresh").await.id;
        bench.grant(&acme, &ips[..1], Into::Pool("fresh".into())).await;
        let to = SetChange { pool: Some(Some("fresh".into())), ..SetChange::default() };
        office.change_set(own, &acme, "receipts", to).await.unwrap();
        office.advise_all().await.unwrap();
        assert_eq!(open(bench, &acme).await, []);
        for _ in 0..29 {
            bench.days(1);
            send_in(bench, &acme, "receipts", (&pool, ips[0]), "google", Sent { delivered: 500, ..Sent::default() })
                .await;
        }
        office.advise_all().await.unwrap();
        assert_eq!(open(bench, &acme).await, [(IncidentKind::IdleIp, Some(ips[0]))]);
        let asked = office.ask_release(own, &acme, &ips[..1], true).await.unwrap();
        office.confirm_release(own, &acme, &asked.id, &asked.token).await.unwrap();
        office.advise_all().await.unwrap();
        assert_eq!(open(bench, &acme).await, []);
    });
}
