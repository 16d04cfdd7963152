//! Do people hear of what happened while they did not look, once, and in their language?
#![allow(clippy::unwrap_used)] // A test may stop at the first surprise.

mod support;

use control::Office;
use control::case::{Answer, Language, NewCase, Part, Request, Saying};
use control::judge::QuotaUsed;
use control::letter::{Letter, Told};
use control::person::{NewPerson, Role};
use engine::case::CaseKind;
use engine::snapshot::Plan;
use support::{Bench, on_both};

async fn person(bench: &Bench, email: &str, role: Role, account: Option<&str>) {
    let new = NewPerson { email: email.into(), role, account: account.map(str::to_owned) };
    let invited = bench.office.invite(&bench.by, new).await.unwrap();
    bench.office.set_password(invited.link.show(), "a long enough password", None).await.unwrap();
}

/// What is due leaves.
async fn letters(office: &Office) -> Vec<Letter> {
    let mut letters = Vec::new();
    for one in office.letters_due().await.unwrap() {
        office.is_told(&one.told).await.unwrap();
        letters.extend(one.letters.into_iter().filter(|letter| !letter.to.is_empty()));
    }
    letters
}

fn quota(language: Language) -> NewCase {
    let text = |text: &str| Some(text.to_owned());
    let part = Part { region: "local".into(), per_day: Some(50_000), per_second: Some(14), ..Part::default() };
    let request = Request {
        mail_type: text("transactional"),
        website: text("https://acme.example"),
        opted_in: text("x"),
        bounces: text("x"),
        opting_out: text("x"),
        number_chosen: text("x"),
        use_case: text("x"),
        terms: Some(true),
        only_opted_in: Some(true),
        bounce_process: Some(true),
        parts: vec![part],
        ..Request::default()
    };
    NewCase { kind: CaseKind::Quota, language, request }
}

// R7.3, R7.4: the operator hears of a case, the owner of its answer, in Japanese; each once, also after a restart.
#[test]
fn both_sides_of_a_case_hear_of_each_other() {
    on_both(async |bench| {
        bench.region().await;
        let acme = bench.account("acme", Plan::Standard).await;
        let own = bench.key_of(&acme);
        person(bench, "op@weir.test", Role::Operator, None).await;
        person(bench, "owner@acme.test", Role::Owner, Some(&acme)).await;
        person(bench, "dev@acme.test", Role::Developer, Some(&acme)).await;
        // What was before is told to nobody.
        bench.office.open_case(&own, &acme, quota(Language::English)).await.unwrap();
        assert!(letters(&bench.office).await.is_empty());

        let case = bench.office.open_case(&own, &acme, quota(Language::Japanese)).await.unwrap();
        let told = letters(&bench.office).await;
        let to: Vec<&str> = told.iter().map(|letter| letter.to[0].as_str()).collect();
        assert_eq!(to, ["owner@acme.test", "op@weir.test"]);
        assert!(
            told[0].subject.contains("送信クォータの引き上げ") && told[0].text.contains("受け付けました"),
            "{told:?}"
        );
        assert!(
            told[1].subject.starts_with("acme: a case for higher quotas") && told[1].text.contains("due by"),
            "{told:?}"
        );
        bench.pass(std::time::Duration::from_secs(60));
        let saying = Saying { text: "It is for Christmas.".into(), ..Saying::default() };
        bench.office.say_in_case(&own, &acme, &case.id, saying).await.unwrap();
        // A stop before it was noted: it is due again, under the same key.
        let first = bench.office.letters_due().await.unwrap();
        let office = bench.again().await;
        assert_eq!(office.letters_due().await.unwrap(), first);
        let told = letters(&office).await;
        assert_eq!((told.len(), told[0].to[0].as_str()), (1, "op@weir.test"));
        assert!(told[0].text.contains("It is for Christmas."));

        let answer = Answer::Grant { parts: vec![], reason: None };
        office.answer_case(&bench.by, &acme, &case.id, answer, None).await.unwrap();
        let told = letters(&office).await;
        assert_eq!((told.len(), told[0].to[0].as_str()), (1, "owner@acme.test"));
        assert!(told[0].subject.ends_with("承認") && told[0].text.contains("50000"), "{told:?}");
        assert!(letters(&office).await.is_empty(), "once");
    });
}

// R7.3: what is overdue is told to operators once for each due time. R6.3: incidents are told, and again when they weigh more.
#[test]
fn what_is_overdue_and_what_goes_wrong_is_told() {
    on_both(async |bench| {
        bench.region().await;
        let acme = bench.account("acme", Plan::Standard).await;
        let own = bench.key_of(&acme);
        person(bench, "op@weir.test", Role::Operator, None).await;
        person(bench, "owner@acme.test", Role::Owner, Some(&acme)).await;
        letters(&bench.office).await;
        bench.office.open_case(&own, &acme, quota(Language::English)).await.unwrap();
        letters(&bench.office).await;
        bench.days(1);
        let told = letters(&bench.office).await;
        assert_eq!((told.len(), told[0].to[0].as_str()), (1, "op@weir.test"));
        assert!(told[0].subject.starts_with("Overdue: acme"), "{told:?}");
        assert!(letters(&bench.office).await.is_empty());

        let used = |used: u64| QuotaUsed { account: acme.clone(), region: "local".into(), used, per_day: 100 };
        bench.office.tell_quotas(&[used(85)]).await.unwrap();
        let told = letters(&bench.office).await;
        let to: Vec<&str> = told.iter().map(|letter| letter.to[0].as_str()).collect();
        assert_eq!(to, ["owner@acme.test", "op@weir.test"]);
        assert!(told[1].subject.starts_with("acme: 85 %") && told[0].text.contains("weir case open quota"), "{told:?}");
        assert!(letters(&bench.office).await.is_empty());
        // R7.5: what is owed, to who owes it.
        bench.ips(1).await;
        let ips = vec![std::net::IpAddr::from([192, 0, 2, 1])];
        bench.grant(&acme, &ips, control::lease::Into::Default).await;
        bench.office.close_months().await.unwrap();
        bench.days(30);
        bench.office.close_months().await.unwrap();
        let told = letters(&bench.office).await;
        let told: Vec<&Letter> = told.iter().filter(|letter| letter.subject.starts_with("Invoice")).collect();
        assert_eq!((told.len(), told[0].to[0].as_str()), (1, "owner@acme.test"));
        assert!(
            told[0].subject.starts_with("Invoice 2026-000001 for 2026-11: 24.1") && told[0].text.contains("of 30 days"),
            "{told:?}"
        );
        // Letters that were switched on long after say nothing of it.
        bench.office.tell_quotas(&[]).await.unwrap();
        bench.office.tell_quotas(&[used(90)]).await.unwrap();
        bench.days(3);
        let due = bench.office.letters_due().await.unwrap();
        assert!(due.iter().any(|one| matches!(one.told, Told::Incident(..)) && one.letters.is_empty()), "{due:?}");
    });
}
