//! Accounts are what the operator says they are, on both engines.
#![allow(clippy::unwrap_used)] // A test may stop at the first surprise.

mod support;

use control::account::{AccountChange, NewAccount, Quota, Standing};
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
