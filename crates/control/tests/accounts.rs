//! Accounts are what the operator says they are, on both engines.
#![allow(clippy::unwrap_used)] // A test may stop at the first surprise.

mod support;

use control::account::{AccountChange, NewAccount, Quota, Standing};
use control::incident::{IncidentKind, Weight};
use control::judge::QuotaUsed;
use control::setting::Setting;
use control::{Actor, Kind, Window};
use engine::snapshot::Plan;
use support::{Bench, on_both};

fn plain(name: &str) -> NewAccount {
    NewAccount { name: name.into(), plan: Plan::Standard, standing: Standing::Production, has_payment_method: false }
}

async fn region(bench: &Bench) {
    bench.office.create_region(&bench.by, "local").await.unwrap();
}

#[test]
fn an_account_is_made_found_and_changed_and_every_step_is_written_down() {
    on_both(async |bench| {
        region(bench).await;
        let (office, by) = (&bench.office, &bench.by);
        let acme = office.create_account(by, plain("Acme")).await.unwrap();
        assert_eq!(office.account(by, "Acme").await.unwrap(), acme);
        assert_eq!(office.account(by, &acme.id).await.unwrap(), acme);
        // A name is used once.
        let again = office.create_account(by, plain("Acme")).await.unwrap_err();
        assert_eq!((again.kind, again.code), (Kind::Conflict, "name_taken"));
        let paused = AccountChange { standing: Some((Standing::Paused, None)), ..AccountChange::default() };
        let refused = office.change_account(by, "Acme", paused).await.unwrap_err();
        assert_eq!(refused.field.as_deref(), Some("standing_reason"));
        let plan = AccountChange { plan: Some(Plan::Enterprise), revision: Some(1), ..AccountChange::default() };
        let changed = office.change_account(by, "Acme", plan.clone()).await.unwrap();
        assert_eq!((changed.plan, changed.revision), (Plan::Enterprise, 2));
        // G: two operators change the same thing; the slower one is told.
        let late = office.change_account(by, "Acme", plan).await.unwrap_err();
        assert_eq!((late.kind, late.code), (Kind::Changed, "changed_meanwhile"));
        office.set_quota(by, "Acme", "local", Quota { per_day: 1_000, per_second: 10 }).await.unwrap();
        assert_eq!(office.quotas(by, "Acme").await.unwrap()["local"].per_day, 1_000);
        // R7.6
        let log = office.audit(by, Some(&acme.id), None, &Window::default()).await.unwrap();
        let actions: Vec<&str> = log.items.iter().map(|entry| entry.action.as_str()).collect();
        assert_eq!(actions, ["quota-set", "changed", "created"]);
        assert_eq!(log.items[1].detail["was"]["plan"], "standard");
    });
}

#[test]
fn a_list_is_read_in_pages_and_after_a_restart() {
    on_both(async |bench| {
        region(bench).await;
        for at in 0..7 {
            bench.office.create_account(&bench.by, plain(&format!("a{at}"))).await.unwrap();
        }
        let office = bench.again().await;
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let window = Window { after, limit: Some(3) };
            let page = office.accounts(&bench.by, &window).await.unwrap();
            seen.extend(page.items.into_iter().map(|account| account.name));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, ["a0", "a1", "a2", "a3", "a4", "a5", "a6"]);
        office.store().close().await;
    });
}

// R7.6: also who has the database at hand through us cannot rewrite the log.
#[test]
fn the_audit_log_is_only_added_to() {
    on_both(async |bench| {
        region(bench).await;
        for statement in ["UPDATE audit SET action = 'nothing'", "DELETE FROM audit"] {
            let mut conn = bench.office.store().read().await.unwrap();
            let fault = sqlx::query(statement).execute(&mut *conn).await.unwrap_err();
            assert!(fault.to_string().contains("the audit log is only added to"), "{fault}");
        }
        assert_eq!(
            bench.office.audit(&Actor::command_line(), None, None, &Window::default()).await.unwrap().items.len(),
            1
        );
    });
}

// R7.1: who comes into production gets what the operator's settings give, in every region, and nothing that was set is touched.
#[test]
fn spec_r7_1_production_begins_with_the_settings_quotas() {
    on_both(async |bench| {
        region(bench).await;
        let (office, by) = (&bench.office, &bench.by);
        office.create_region(by, "tokyo").await.unwrap();
        let free = office.create_account(by, plain("before")).await.unwrap();
        assert!(office.quotas(by, &free.id).await.unwrap().is_empty(), "no limit unless the operator has one");
        office.set_setting(by, Setting::QuotaPerDay, 50_000).await.unwrap();
        let acme = office.create_account(by, plain("acme")).await.unwrap();
        let given = Quota { per_day: 50_000, per_second: 14 };
        let quotas = office.quotas(by, &acme.id).await.unwrap();
        assert_eq!((quotas["local"], quotas["tokyo"], quotas.len()), (given, given, 2));

        let boxed = NewAccount { standing: Standing::Sandbox, ..plain("boxed") };
        let boxed = office.create_account(by, boxed).await.unwrap();
        assert!(office.quotas(by, &boxed.id).await.unwrap().is_empty());
        let own = Quota { per_day: 500, per_second: 2 };
        office.set_quota(by, &boxed.id, "tokyo", own).await.unwrap();
        let out = AccountChange { standing: Some((Standing::Production, None)), ..AccountChange::default() };
        office.change_account(by, &boxed.id, out).await.unwrap();
        let quotas = office.quotas(by, &boxed.id).await.unwrap();
        assert_eq!((quotas["local"], quotas["tokyo"]), (given, own));
    });
}

// R7.1: at 80 and at 95 % the account is told, once each, until enough is free again.
#[test]
fn spec_r7_1_a_quota_that_is_nearly_used_is_told() {
    on_both(async |bench| {
        region(bench).await;
        let (office, by) = (&bench.office, &bench.by);
        let acme = office.create_account(by, plain("acme")).await.unwrap();
        let used = |used: u64| QuotaUsed { account: acme.id.clone(), region: "local".into(), used, per_day: 1_000 };
        let open = async || office.incidents(by, Some(&acme.id), true, &Window::default()).await.unwrap().items;
        office.tell_quotas(&[used(790)]).await.unwrap();
        assert!(open().await.is_empty());
        office.tell_quotas(&[used(800)]).await.unwrap();
        let told = open().await;
        assert_eq!((told.len(), told[0].kind, told[0].weight), (1, IncidentKind::Quota, Weight::Review));
        assert!(told[0].words.contains("80 % of the quota in local are used: 800 of 1000"), "{}", told[0].words);
        office.tell_quotas(&[used(850)]).await.unwrap();
        assert_eq!(open().await[0].words, told[0].words, "it is told by marks, not by messages");
        office.tell_quotas(&[used(960)]).await.unwrap();
        assert!(open().await[0].words.contains("96 %"));
        // As the data plane has it: from 75 % on.
        office.tell_quotas(&[used(760)]).await.unwrap();
        assert_eq!(open().await.len(), 1);
        office.tell_quotas(&[]).await.unwrap();
        assert!(open().await.is_empty());
    });
}
