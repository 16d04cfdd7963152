//! Is a case one record that both sides see, answered once, and done when it says so?
#![allow(clippy::unwrap_used)] // A test may stop at the first surprise.

mod support;

use control::account::{NewAccount, Quota, Standing};
use control::case::{
    Answer, Case, CaseFilter, Entry, Language, NewCase, Part, Party, PolicyChange, Request, Saying, Traffic,
};
use control::inventory::NewIps;
use control::lease::Into;
use control::{Actor, Kind, Office, Refusal, Window};
use engine::case::{CaseKind, CaseState};
use engine::policy::Criteria;
use engine::snapshot::Plan;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;
use support::sent::{Sent, send};
use support::{Bench, Engine, bench, good, no_dns, on_both};

fn said<T: std::fmt::Debug>(result: Result<T, Refusal>) -> (Kind, &'static str, Option<String>) {
    let refusal = result.unwrap_err();
    (refusal.kind, refusal.code, refusal.field)
}

fn part(region: &str) -> Part {
    Part { region: region.into(), ..Part::default() }
}

/// A form in which everything is answered.
fn form(parts: Vec<Part>) -> Request {
    let text = |text: &str| Some(text.to_owned());
    Request {
        mail_type: text("transactional"),
        website: text("https://acme.example/shop"),
        opted_in: text("At checkout, with a second mail to confirm."),
        bounces: text("They leave the list at once."),
        opting_out: text("By a link in each message."),
        number_chosen: text("Twice last December."),
        use_case: text("Receipts and shipping notices."),
        terms: Some(true),
        only_opted_in: Some(true),
        bounce_process: Some(true),
        parts,
        ..Request::default()
    }
}

fn new(kind: CaseKind, request: Request) -> NewCase {
    NewCase { kind, language: Language::English, request }
}

async fn read(office: &Office, by: &Actor, case: &Case) -> (Case, Vec<Entry>) {
    office.case(by, &case.account, &case.id).await.unwrap()
}

/// All that was said, in a row.
async fn told(office: &Office, by: &Actor, case: &Case) -> String {
    read(office, by, case).await.1.iter().map(|entry| entry.text.clone()).collect::<Vec<_>>().join("\n")
}

fn grant(parts: Vec<Part>, reason: Option<&str>) -> Answer {
    Answer::Grant { parts, reason: reason.map(str::to_owned) }
}

async fn running(bench: &Bench, account: &str) -> Vec<IpAddr> {
    let leases = bench.office.leases(&bench.by, Some(account), true, &Window::default()).await.unwrap();
    leases.items.into_iter().map(|lease| lease.ip).collect()
}

// R3.1, R3.2, R3.3, each step of SES's “To request dedicated IPs (standard)”: mail type, web site, opted-in recipients, bounces, terms;
// several regions in one case, a number or a rate; the use case; Japanese. The answer lists the IPs, and they warm up.
#[test]
fn spec_r3_1_dedicated_ips_are_requested_for_several_regions_at_once() {
    on_both(async |bench| {
        bench.region().await;
        bench.office.create_region(&bench.by, "tokyo").await.unwrap();
        bench.ips(2).await;
        let tokyo: Vec<IpAddr> = (1..=3).map(|last| IpAddr::from([198, 51, 100, last])).collect();
        let addresses = tokyo.iter().map(ToString::to_string).collect();
        let more = NewIps { addresses, region: Some("tokyo".into()), ..NewIps::default() };
        bench.office.add_ips(&bench.by, more).await.unwrap();
        for ip in &tokyo {
            bench.good(*ip).await;
        }
        let acme = bench.account("acme", Plan::Standard).await;
        let (office, own) = (&bench.office, &bench.key_of(&acme));
        bench.pool(&acme, "news").await;
        let parts = vec![Part { quantity: Some(2), ..part("local") }, Part { rate: Some(25), ..part("tokyo") }];
        let request = NewCase { language: Language::Japanese, ..new(CaseKind::DedicatedIps, form(parts)) };
        let case = office.open_case(own, &acme, request).await.unwrap();
        assert_eq!((case.state, case.request.parts[1].quantity), (CaseState::Open, Some(3)));
        let words = told(office, own, &case).await;
        assert!(
            words.contains("専用 IP アドレスのリクエストを受け付けました") && words.contains("切り上げて 3 個"),
            "{words}"
        );
        assert_eq!(case.due_at, Some(office.now() + Duration::from_secs(86_400)), "R7.3");

        let case =
            office.answer_case(&bench.by, &acme, &case.id, grant(vec![], None), Some(case.revision)).await.unwrap();
        assert_eq!((case.state, case.due_at), (CaseState::Granted, None));
        assert_eq!(running(bench, &acme).await.len(), 5);
        let words = told(office, own, &case).await;
        for ip in running(bench, &acme).await {
            assert!(words.contains(&ip.to_string()), "{ip} is listed: {words}");
            let ip = office.ip(&bench.by, ip).await.unwrap();
            assert!(ip.warm_up.is_some(), "R4.1");
        }
        let pools = office.pools(own, Some(&acme), &Window::default()).await.unwrap().items;
        let of_default = pools.iter().filter(|pool| pool.is_default).map(|pool| pool.ips.len()).sum::<usize>();
        assert_eq!(of_default, 5, "R3.3: in the default pool of each region");
    });
}

// R3.3: less than was asked for needs a reason, and can be asked for once more; what there is not yet is waited for, and comes.
#[test]
fn what_there_is_not_yet_is_waited_for() {
    on_both(async |bench| {
        bench.region().await;
        bench.ips(1).await;
        let acme = bench.account("acme", Plan::Standard).await;
        let (office, own) = (&bench.office, &bench.key_of(&acme));
        bench.pool(&acme, "news").await;
        let parts = vec![Part { quantity: Some(5), ..part("local") }];
        let request = Request { pool: Some("news".into()), ..form(parts) };
        let case = office.open_case(own, &acme, new(CaseKind::DedicatedIps, request)).await.unwrap();
        let three = || vec![Part { quantity: Some(3), ..part("local") }];
        let refused = office.answer_case(&bench.by, &acme, &case.id, grant(three(), None), None).await;
        assert_eq!(said(refused).2.as_deref(), Some("reason"));
        let elsewhere = vec![Part { quantity: Some(1), ..part("tokyo") }];
        let refused = office.answer_case(&bench.by, &acme, &case.id, grant(elsewhere, None), None).await;
        assert_eq!(said(refused).2.as_deref(), Some("grants"));
        let answer = grant(three(), Some("three carry what you send"));
        let case = office.answer_case(&bench.by, &acme, &case.id, answer, None).await.unwrap();
        assert_eq!(case.state, CaseState::PartlyGranted);
        assert_eq!(running(bench, &acme).await.len(), 1);
        let waiting = office.waiting_for_ips(&bench.by).await.unwrap();
        assert_eq!((waiting.len(), waiting[0].quantity, waiting[0].case.as_str()), (1, 2, case.id.as_str()));
        assert_eq!(said(office.waiting_for_ips(own).await).0, Kind::Forbidden);
        assert_eq!(office.serve_waiting().await.unwrap(), 0);

        let more: Vec<IpAddr> = (11..=14).map(|last| IpAddr::from([192, 0, 2, last])).collect();
        let addresses = more.iter().map(ToString::to_string).collect();
        office.add_ips(&bench.by, NewIps { addresses, ..NewIps::default() }).await.unwrap();
        assert_eq!(office.serve_waiting().await.unwrap(), 0, "R3.7: not before they are looked at");
        good(office, more[0]).await;
        assert_eq!(office.serve_waiting().await.unwrap(), 1);
        for ip in &more {
            good(office, *ip).await;
        }
        assert_eq!(office.serve_waiting().await.unwrap(), 1);
        assert_eq!((office.serve_waiting().await.unwrap(), running(bench, &acme).await.len()), (0, 3));
        let words = told(office, own, &case).await;
        assert!(words.contains("2 more in local follow") && words.matches("Leased to you").count() == 3, "{words}");

        // R3.3: who wants no more of what is not there yet says so once.
        let two = vec![Part { quantity: Some(9), ..part("local") }];
        let much = office.open_case(own, &acme, new(CaseKind::DedicatedIps, form(two))).await.unwrap();
        office.answer_case(&bench.by, &acme, &much.id, grant(vec![], None), None).await.unwrap();
        let held = running(bench, &acme).await.len();
        assert!(office.waiting_for_ips(&bench.by).await.unwrap().iter().any(|wait| wait.case == much.id));
        office.stop_waiting(own, &acme, &much.id).await.unwrap();
        assert!(office.waiting_for_ips(&bench.by).await.unwrap().is_empty());
        assert_eq!(said(office.stop_waiting(own, &acme, &much.id).await).1, "nothing_waits");
        assert_eq!(running(bench, &acme).await.len(), held, "what was leased stays");
        assert!(told(office, own, &much).await.contains("are waited for no longer"));

        let case = office.reopen_case(own, &acme, &case.id, "We send more by now.".into()).await.unwrap();
        assert_eq!((case.state, case.is_overdue(office.now())), (CaseState::Open, false));
        bench.days(2);
        let overdue = CaseFilter { overdue: true, ..CaseFilter::default() };
        assert_eq!(office.cases(&bench.by, &overdue, &Window::default()).await.unwrap().items.len(), 1);
        assert_eq!(office.cases_open().await.unwrap(), (1, 1));
    });
}

// R3.5, each step of SES's “To relinquish dedicated IPs (standard)”: region, which or how many; a message asks for the confirmation; then
// they go, once, and not before.
#[test]
fn spec_r3_5_giving_back_is_confirmed_and_not_undone() {
    on_both(async |bench| {
        bench.region().await;
        let ips = bench.ips(3).await;
        let acme = bench.account("acme", Plan::Standard).await;
        let (office, own) = (&bench.office, &bench.key_of(&acme));
        bench.grant(&acme, &ips, Into::Default).await;
        let open = async |parts: Vec<Part>| {
            let request = Request { parts, ..Request::default() };
            office.open_case(own, &acme, new(CaseKind::Relinquish, request)).await
        };
        let wrong = [
            vec![],
            vec![part("local")],
            vec![Part { quantity: Some(4), ..part("local") }],
            vec![Part { ips: vec![IpAddr::from([192, 0, 2, 99])], ..part("local") }],
        ];
        for parts in wrong {
            assert!(open(parts).await.is_err());
        }
        let case = open(vec![Part { quantity: Some(1), ..part("local") }]).await.unwrap();
        assert_eq!((case.state, case.due_at), (CaseState::Waiting, None));
        let words = told(office, own, &case).await;
        assert!(words.contains("Please confirm that you give back") && words.contains("cannot be undone"), "{words}");
        let answer = office.answer_case(&bench.by, &acme, &case.id, grant(vec![], None), None).await;
        assert_eq!(said(answer).1, "case_state", "nobody confirms for the customer");
        assert_eq!(running(bench, &acme).await.len(), 3, "nothing happens before");

        let done = office.confirm_case(own, &acme, &case.id).await.unwrap();
        assert_eq!((done.state, running(bench, &acme).await.len()), (CaseState::Confirmed, 2));
        assert_eq!(said(office.confirm_case(own, &acme, &case.id).await).1, "case_state");
        assert_eq!(said(office.reopen_case(own, &acme, &case.id, "Back, please".into()).await).1, "case_state");

        // A confirmation that comes too late gives back nothing.
        let late = open(vec![Part { ips: vec![running(bench, &acme).await[0]], ..part("local") }]).await.unwrap();
        bench.days(8);
        assert_eq!(said(office.confirm_case(own, &acme, &late.id).await).1, "too_late");
        assert_eq!(
            (read(office, own, &late).await.0.state, running(bench, &acme).await.len()),
            (CaseState::Waiting, 2)
        );
    });
}

// R7.3, each step of SES's “To request higher sending quotas”: several requests in one case, the three statements, the four answers; a
// grant may be lower. R7.4: of two operators, one answers.
#[test]
fn spec_r7_3_quotas_are_asked_for_and_set_once() {
    on_both(async |bench| {
        bench.region().await;
        bench.office.create_region(&bench.by, "tokyo").await.unwrap();
        let acme = bench.account("acme", Plan::Standard).await;
        let (office, own) = (&bench.office, &bench.key_of(&acme));
        let parts = vec![
            Part { per_day: Some(50_000), per_second: Some(14), ..part("local") },
            Part { per_second: Some(5), ..part("tokyo") },
        ];
        let case = office.open_case(own, &acme, new(CaseKind::Quota, form(parts))).await.unwrap();
        let half = vec![Part { per_day: Some(20_000), ..part("local") }, Part { per_second: Some(5), ..part("tokyo") }];
        let one =
            office.answer_case(&bench.by, &acme, &case.id, grant(half, Some("a start")), Some(case.revision)).await;
        let answered = one.unwrap();
        assert_eq!(answered.state, CaseState::PartlyGranted);
        let other = office.answer_case(&bench.by, &acme, &case.id, grant(vec![], None), Some(case.revision)).await;
        assert_eq!(said(other).0, Kind::Changed);
        let unseen = office.answer_case(&bench.by, &acme, &case.id, grant(vec![], None), None).await;
        assert_eq!(said(unseen).1, "case_state");
        let quotas = office.quotas(own, &acme).await.unwrap();
        assert_eq!(quotas["local"], Quota { per_day: 20_000, per_second: 5 });
        assert_eq!(quotas["tokyo"], Quota { per_day: 18_000, per_second: 5 });
        assert_eq!(answered.decision.unwrap().reason.as_deref(), Some("a start"));

        // What is denied says why, and what would change it.
        let case = office.reopen_case(own, &acme, &case.id, "More, please.".into()).await.unwrap();
        let deny = |would_change: &str| Answer::Deny {
            reason: "4 % of your mail bounced".into(),
            would_change: would_change.into(),
        };
        let refused = office.answer_case(&bench.by, &acme, &case.id, deny(" "), None).await;
        assert_eq!(said(refused).2.as_deref(), Some("would_change"));
        let case = office.answer_case(&bench.by, &acme, &case.id, deny("under 2 % for 30 days"), None).await.unwrap();
        assert_eq!(case.state, CaseState::Denied);
        let words = told(office, own, &case).await;
        assert!(words.contains("What would change this answer: under 2 %"), "{words}");
        assert_eq!(office.quotas(own, &acme).await.unwrap(), quotas, "what was granted stays");
    });
}

// R7.3: each answer that is missing is named.
#[test]
fn what_is_missing_is_named() {
    on_both(async |bench| {
        bench.region().await;
        let acme = bench.account("acme", Plan::Standard).await;
        let own = &bench.key_of(&acme);
        let whole = || form(vec![Part { per_day: Some(1_000), ..part("local") }]);
        let wrong: Vec<(&str, Request)> = vec![
            ("mail_type", Request { mail_type: Some("spam".into()), ..whole() }),
            ("website", Request { website: Some("javascript:alert(1)".into()), ..whole() }),
            ("website", Request { website: None, ..whole() }),
            ("opted_in", Request { opted_in: Some("  ".into()), ..whole() }),
            ("bounces", Request { bounces: None, ..whole() }),
            ("opting_out", Request { opting_out: None, ..whole() }),
            ("number_chosen", Request { number_chosen: None, ..whole() }),
            ("use_case", Request { use_case: Some("a\0b".into()), ..whole() }),
            ("use_case", Request { use_case: Some("x".repeat(5_001)), ..whole() }),
            ("terms", Request { terms: Some(false), ..whole() }),
            ("only_opted_in", Request { only_opted_in: None, ..whole() }),
            ("bounce_process", Request { bounce_process: None, ..whole() }),
            ("requests", form(vec![])),
            ("requests", form(vec![part("local")])),
            ("requests", form(vec![Part { per_day: Some(-1), ..part("local") }])),
            ("requests", form(vec![Part { per_day: Some(i64::MAX), ..part("local") }])),
            ("requests", form(vec![Part { per_day: Some(1), ..part("mars") }])),
            (
                "requests",
                form(vec![Part { per_day: Some(1), ..part("local") }, Part { per_day: Some(2), ..part("local") }]),
            ),
        ];
        for (field, request) in wrong {
            let refusal = said(bench.office.open_case(own, &acme, new(CaseKind::Quota, request.clone())).await);
            assert_eq!(refusal.2.as_deref(), Some(field), "{request:?}");
        }
        let in_production = bench.office.open_case(own, &acme, new(CaseKind::LeaveSandbox, whole())).await;
        assert_eq!(said(in_production).1, "not_in_sandbox");
    });
}

// R7.1, R7.4: messages back and forth, with files; who is not asked sees nothing of it. R2.8: nor who the operator is.
#[test]
fn both_sides_talk_until_the_sandbox_is_left() {
    on_both(async |bench| {
        bench.region().await;
        let new_account = NewAccount {
            name: "acme".into(),
            plan: Plan::Standard,
            standing: Standing::Sandbox,
            has_payment_method: false,
        };
        let acme = bench.office.create_account(&bench.by, new_account).await.unwrap().id;
        let other = bench.account("other", Plan::Standard).await;
        let (office, own) = (&bench.office, &bench.key_of(&acme));
        let parts = vec![Part { per_day: Some(50_000), ..part("local") }];
        let case = office.open_case(own, &acme, new(CaseKind::LeaveSandbox, form(parts))).await.unwrap();
        let say = |text: &str, asks| Saying { text: text.into(), asks, ..Saying::default() };
        let asked = office.say_in_case(&bench.by, &acme, &case.id, say("Which lists?", true)).await.unwrap();
        assert_eq!((asked.state, asked.due_at), (CaseState::Waiting, None));
        assert!(asked.answered_at.is_some());
        let file =
            |octets: usize| Saying { attachments: vec![("list.csv".into(), vec![7; octets])], ..say("These.", false) };
        for wrong in [0, (1 << 20) + 1] {
            let refused = office.say_in_case(own, &acme, &case.id, file(wrong)).await;
            assert_eq!(said(refused).2.as_deref(), Some("attachments"));
        }
        let path = Saying { attachments: vec![("../list".into(), vec![7])], ..say("These.", false) };
        assert!(office.say_in_case(own, &acme, &case.id, path).await.is_err());
        assert_eq!(said(office.say_in_case(own, &acme, &case.id, say("?", true)).await).2.as_deref(), Some("asks"));
        let answered = office.say_in_case(own, &acme, &case.id, file(100)).await.unwrap();
        assert_eq!(answered.state, CaseState::Open);
        assert!(answered.due_at.is_some(), "the operator's turn again, and its day");
        let (_, entries) = read(office, own, &case).await;
        let attached = entries.iter().flat_map(|entry| &entry.attachments).next().unwrap();
        let (name, octets) = office.case_attachment(own, &acme, &case.id, &attached.id).await.unwrap();
        assert_eq!((name.as_str(), octets.len(), attached.octets), ("list.csv", 100, 100));
        let operators: Vec<&str> =
            entries.iter().filter(|entry| entry.party == Party::Operator).map(|entry| entry.name.as_str()).collect();
        assert_eq!(operators, ["the operator"]);

        let theirs = &bench.key_of(&other);
        for refused in [
            said(office.case(theirs, &acme, &case.id).await),
            said(office.case(theirs, &other, &case.id).await),
            said(office.case_attachment(theirs, &other, &case.id, &attached.id).await),
            said(office.close_case(theirs, &other, &case.id).await),
        ] {
            assert_eq!(refused.0, Kind::NotFound);
        }
        let answer = office.answer_case(own, &acme, &case.id, grant(vec![], None), None).await;
        assert_eq!(said(answer).0, Kind::Forbidden, "nobody grants to itself");
        let done = office.answer_case(&bench.by, &acme, &case.id, grant(vec![], None), None).await.unwrap();
        assert_eq!(done.state, CaseState::Granted);
        assert_eq!(office.account(own, &acme).await.unwrap().standing, Standing::Production);
        assert_eq!(office.quotas(own, &acme).await.unwrap()["local"].per_day, 50_000);
        assert_eq!(said(office.say_in_case(own, &acme, &case.id, say("Thanks", false)).await).1, "case_state");
    });
}

// R3.8, Resend's request: which mail, how much a day and month, steady or bursts, which domains; what is missing is told at once; the
// pool that is granted shows no address.
#[test]
fn spec_r3_8_a_managed_pool_is_requested() {
    on_both(async |bench| {
        bench.region().await;
        let acme = bench.account("acme", Plan::Standard).await;
        let (office, own) = (&bench.office, &bench.key_of(&acme));
        let traffic = Traffic {
            kinds: "newsletters".into(),
            per_day: 400,
            per_month: 12_000,
            is_steady: false,
            domains: vec!["acme.example".into()],
        };
        let request =
            |traffic| Request { pool: Some("bulk".into()), traffic, parts: vec![part("local")], ..Request::default() };
        let missing = office.open_case(own, &acme, new(CaseKind::ManagedPool, request(None))).await;
        assert_eq!(said(missing).2.as_deref(), Some("traffic"));
        let case = office.open_case(own, &acme, new(CaseKind::ManagedPool, request(Some(traffic)))).await.unwrap();
        let words = told(office, own, &case).await;
        for part in ["400 messages a day; more than 500 are needed", "Verify acme.example first", "Bursts look like"] {
            assert!(words.contains(part), "{part}: {words}");
        }
        office.answer_case(&bench.by, &acme, &case.id, grant(vec![], None), None).await.unwrap();
        let pool = office.managed_pool(own, &acme, "bulk").await.unwrap();
        assert!(pool.ips.is_empty());
        let words = told(office, own, &case).await;
        assert!(words.contains("Your managed pool is called bulk") && !words.contains("192.0.2."), "{words}");
    });
}

// R7.4: criteria as data, tried on past cases before they count; the answer names the rule and its figures; whoever may ask sees how close
// it is.
#[test]
fn spec_r7_4_a_policy_answers_by_rule() {
    on_both(async |bench| {
        bench.region().await;
        let acme = bench.account("acme", Plan::Standard).await;
        let (office, own) = (&bench.office, &bench.key_of(&acme));
        let wish = |per_day| form(vec![Part { per_day: Some(per_day), ..part("local") }]);
        let criteria = Criteria {
            standing_days_min: Some(30),
            bounces_below: Some(200),
            times_peak_max: Some(3),
            ..Criteria::default()
        };
        send(bench, &acme, "google", Sent { delivered: 99, hard: 1, ..Sent::default() }).await;
        let early = office.open_case(own, &acme, new(CaseKind::Quota, wish(300))).await.unwrap();
        let made = office.create_policy(&bench.by, "good", CaseKind::Quota, criteria.clone()).await.unwrap();
        assert!(!made.is_on);
        bench.days(31);
        send(bench, &acme, "google", Sent { delivered: 99, hard: 1, ..Sent::default() }).await;
        let off = office.open_case(own, &acme, new(CaseKind::Quota, wish(300))).await.unwrap();
        assert_eq!(off.state, CaseState::Open, "it is not on yet");
        // By what was known at the time.
        let past = office.rehearse_policy(&bench.by, "good").await.unwrap();
        let would: Vec<_> = past.iter().map(|past| (past.case.as_str(), past.would_grant)).collect();
        assert_eq!(would, [(off.id.as_str(), true), (early.id.as_str(), false)]);
        let unmet: Vec<&str> = past[1].points.iter().filter(|point| !point.met).map(|point| point.code).collect();
        assert_eq!(unmet, ["standing"]);

        let on = PolicyChange { is_on: Some(true), ..PolicyChange::default() };
        office.change_policy(&bench.by, "good", on.clone()).await.unwrap();
        let close = office.criteria(own, &acme, CaseKind::Quota, &wish(301)).await.unwrap();
        let points: Vec<_> = close[0].points.iter().map(|point| (point.code, point.met)).collect();
        assert_eq!(points, [("standing", true), ("bounces", true), ("times-peak", false)]);
        let too_much = office.open_case(own, &acme, new(CaseKind::Quota, wish(301))).await.unwrap();
        assert_eq!(too_much.state, CaseState::Open, "a person answers");
        let case = office.open_case(own, &acme, new(CaseKind::Quota, wish(300))).await.unwrap();
        assert_eq!(case.state, CaseState::Granted);
        let decision = case.decision.clone().unwrap();
        assert_eq!(decision.policy.as_deref(), Some("good"));
        assert_eq!(office.quotas(own, &acme).await.unwrap()["local"].per_day, 300);
        let words = told(office, own, &case).await;
        assert!(words.contains("1.00 % of its mail bounced; it must be under 2.00 %"), "{words}");
        let (_, entries) = read(office, own, &case).await;
        assert!(entries.iter().any(|entry| entry.name == "the policy good"), "{entries:?}");

        // What would let in everybody, or says nothing, is no policy; and a tenant makes none.
        let nothing =
            office.create_policy(&bench.by, "all", CaseKind::LeaveSandbox, Criteria::default()).await.unwrap();
        assert_eq!(said(office.change_policy(&bench.by, &nothing.id, on).await).2.as_deref(), Some("criteria"));
        let ips = Criteria { ips_max: Some(4), ..Criteria::default() };
        let wrong = office.create_policy(&bench.by, "ips", CaseKind::Quota, ips.clone()).await;
        assert_eq!(said(wrong).2.as_deref(), Some("ips_max"));
        let gives_back = office.create_policy(&bench.by, "back", CaseKind::Relinquish, Criteria::default()).await;
        assert_eq!(said(gives_back).2.as_deref(), Some("kind"));
        let strange = Criteria { plans: vec!["gold".into()], ..Criteria::default() };
        let wrong = office.create_policy(&bench.by, "gold", CaseKind::Quota, strange).await;
        assert_eq!(said(wrong).2.as_deref(), Some("plans"));
        assert_eq!(said(office.create_policy(own, "mine", CaseKind::DedicatedIps, ips).await).0, Kind::Forbidden);
        assert_eq!(said(office.rehearse_policy(own, "good").await).0, Kind::Forbidden);
    });
}

// R7.4: what a policy grants and cannot be done stays the operator's, and nothing of it is there.
#[test]
fn a_policy_that_cannot_be_carried_out_leaves_the_case_open() {
    on_both(async |bench| {
        bench.region().await;
        let acme = bench.account("acme", Plan::Standard).await;
        let (office, own) = (&bench.office, &bench.key_of(&acme));
        bench.pool(&acme, "bulk").await;
        let plans = Criteria { plans: vec!["standard".into()], ..Criteria::default() };
        office.create_policy(&bench.by, "pools", CaseKind::ManagedPool, plans).await.unwrap();
        let on = PolicyChange { is_on: Some(true), ..PolicyChange::default() };
        office.change_policy(&bench.by, "pools", on).await.unwrap();
        let traffic = Traffic { kinds: "news".into(), domains: vec!["acme.example".into()], ..Traffic::default() };
        let request = Request {
            pool: Some("bulk".into()),
            traffic: Some(traffic),
            parts: vec![part("local")],
            ..Request::default()
        };
        let case = office.open_case(own, &acme, new(CaseKind::ManagedPool, request)).await.unwrap();
        let (case, entries) = read(office, own, &case).await;
        assert_eq!((case.state, case.decision), (CaseState::Open, None));
        assert!(!entries.iter().any(|entry| entry.name.contains("policy")), "{entries:?}");
    });
}

/// What anybody does with one of the cases.
#[derive(Clone, Debug)]
enum Step {
    Open {
        kind: u8,
        quantity: u8,
    },
    Say {
        case: u8,
        operator: bool,
        asks: bool,
    },
    Grant {
        case: u8,
        quantity: u8,
    },
    Deny {
        case: u8,
    },
    Confirm {
        case: u8,
    },
    Close {
        case: u8,
        operator: bool,
    },
    Reopen {
        case: u8,
    },
    Serve,
    /// A change that is not committed: as a crash in the middle of it.
    Crash {
        case: u8,
    },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let case = 0..6u8;
    prop_oneof![
        4 => (0..3u8, 1..4u8).prop_map(|(kind, quantity)| Step::Open { kind, quantity }),
        2 => (case.clone(), any::<bool>(), any::<bool>()).prop_map(|(case, operator, asks)| Step::Say { case, operator, asks }),
        4 => (case.clone(), 1..4u8).prop_map(|(case, quantity)| Step::Grant { case, quantity }),
        1 => case.clone().prop_map(|case| Step::Deny { case }),
        4 => case.clone().prop_map(|case| Step::Confirm { case }),
        1 => (case.clone(), any::<bool>()).prop_map(|(case, operator)| Step::Close { case, operator }),
        2 => case.clone().prop_map(|case| Step::Reopen { case }),
        2 => Just(Step::Serve),
        1 => case.prop_map(|case| Step::Crash { case }),
        1 => Just(Step::Restart),
    ]
}

// R7.4, R3.6: whoever does whatever in whatever order, with crashes between: no IP is leased by two cases, no confirmation is acted on
// twice, no quota is applied twice.
#[test]
fn any_steps_in_any_order_are_done_once() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let cases = if engine == Engine::Sqlite { 12 } else { 2 };
        let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
        let steps = proptest::collection::vec(step(), 1..40);
        runner.run(&steps, |steps| runtime.block_on(play(engine, &steps))).unwrap();
    }
}

/// What must have come of it.
#[derive(Default)]
struct Book {
    cases: Vec<Case>,
    /// IPs granted by each case, leased or waited for.
    granted: BTreeMap<String, u64>,
    given_back: usize,
    quota: Option<i64>,
}

async fn play(engine: Engine, steps: &[Step]) -> Result<(), TestCaseError> {
    let bench = bench(engine, no_dns()).await;
    bench.region().await;
    bench.ips(6).await;
    let acme = bench.account("acme", Plan::Standard).await;
    let own = bench.key_of(&acme);
    let mut office = bench.office.clone();
    let mut book = Book::default();
    for step in steps {
        match step {
            Step::Restart => {
                office.store().close().await;
                office = bench.again().await;
            }
            Step::Serve => drop(office.serve_waiting().await.unwrap()),
            other => take(&office, &bench.by, &own, &acme, other, &mut book).await?,
        }
        holds(&office, &bench.by, &acme, &book).await?;
    }
    Ok(())
}

async fn take(
    office: &Office,
    by: &Actor,
    own: &Actor,
    acme: &str,
    step: &Step,
    book: &mut Book,
) -> Result<(), TestCaseError> {
    let case = |at: u8| book.cases.get(usize::from(at)).cloned();
    let side = |operator: bool| if operator { by } else { own };
    match step {
        Step::Open { kind, quantity } => {
            let kind = [CaseKind::DedicatedIps, CaseKind::Relinquish, CaseKind::Quota][usize::from(*kind)];
            let asked = match kind {
                CaseKind::Quota => {
                    Part { per_day: Some(i64::from(*quantity) * 1_000), per_second: Some(1), ..part("local") }
                }
                _ => Part { quantity: Some(u32::from(*quantity)), ..part("local") },
            };
            let request = Request { although_empty: true, ..form(vec![asked]) };
            match office.open_case(own, acme, new(kind, request)).await {
                Ok(case) => book.cases.push(case),
                // It holds fewer than it wants to give back.
                Err(refusal) => {
                    prop_assert!(kind == CaseKind::Relinquish && refusal.kind == Kind::Conflict, "{refusal}");
                }
            }
        }
        Step::Say { case: at, operator, asks } => {
            let Some(case) = case(*at) else { return Ok(()) };
            let saying = Saying { text: "hello".into(), asks: *asks && *operator, ..Saying::default() };
            let _ = office.say_in_case(side(*operator), acme, &case.id, saying).await;
        }
        Step::Grant { case: at, quantity } => {
            let Some(case) = case(*at) else { return Ok(()) };
            let granted = match case.kind {
                CaseKind::Quota => {
                    Part { per_day: Some(i64::from(*quantity) * 1_000), per_second: Some(1), ..part("local") }
                }
                _ => Part { quantity: Some(u32::from(*quantity)), ..part("local") },
            };
            if office.answer_case(by, acme, &case.id, grant(vec![granted], Some("enough")), None).await.is_ok() {
                match case.kind {
                    CaseKind::Quota => book.quota = Some(i64::from(*quantity) * 1_000),
                    _ => *book.granted.entry(case.id).or_default() += u64::from(*quantity),
                }
            }
        }
        Step::Deny { case: at } => {
            let Some(case) = case(*at) else { return Ok(()) };
            let answer = Answer::Deny { reason: "no".into(), would_change: "yes".into() };
            let _ = office.answer_case(by, acme, &case.id, answer, None).await;
        }
        Step::Confirm { case: at } => {
            let Some(case) = case(*at) else { return Ok(()) };
            let before = office.leases(by, Some(acme), true, &Window::default()).await.unwrap().items.len();
            if office.confirm_case(own, acme, &case.id).await.is_ok() {
                prop_assert_eq!(case.kind, CaseKind::Relinquish);
                let after = office.leases(by, Some(acme), true, &Window::default()).await.unwrap().items.len();
                book.given_back += before - after;
                prop_assert!(office.confirm_case(own, acme, &case.id).await.is_err());
            }
        }
        Step::Close { case: at, operator } => {
            let Some(case) = case(*at) else { return Ok(()) };
            let _ = office.close_case(side(*operator), acme, &case.id).await;
        }
        Step::Reopen { case: at } => {
            let Some(case) = case(*at) else { return Ok(()) };
            let _ = office.reopen_case(own, acme, &case.id, "again".into()).await;
        }
        Step::Crash { case: at } => {
            let Some(case) = case(*at) else { return Ok(()) };
            let mut change = office.store().change().await.unwrap();
            let halfway = "UPDATE cases SET state = 'granted' WHERE id = $1";
            sqlx::query(halfway).bind(case.id).execute(change.conn()).await.unwrap();
            drop(change);
        }
        Step::Serve | Step::Restart => {}
    }
    Ok(())
}

async fn holds(office: &Office, by: &Actor, acme: &str, book: &Book) -> Result<(), TestCaseError> {
    let mut conn = office.store().read().await.unwrap();
    let doubled = "SELECT COUNT(*) FROM lease a JOIN lease b ON a.ip = b.ip AND a.id < b.id \
                   WHERE a.ended_at IS NULL AND b.ended_at IS NULL";
    let doubled: i64 = sqlx::Row::get(&sqlx::query(doubled).fetch_one(&mut *conn).await.unwrap(), 0);
    prop_assert_eq!(doubled, 0);
    drop(conn);
    let running = office.leases(by, Some(acme), true, &Window::default()).await.unwrap().items.len();
    let waiting: u64 = office.waiting_for_ips(by).await.unwrap().iter().map(|wait| u64::from(wait.quantity)).sum();
    let granted: u64 = book.granted.values().sum();
    prop_assert_eq!(
        running as u64 + book.given_back as u64 + waiting,
        granted,
        "what was granted is leased, waited for or given back"
    );
    let quota = office.quotas(by, acme).await.unwrap().get("local").map(|quota| quota.per_day);
    prop_assert_eq!(quota, book.quota);
    Ok(())
}
