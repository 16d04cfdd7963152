//! An account sends from single addresses whose mail it reads, on both engines.
#![allow(clippy::unwrap_used)] // A test may stop at the first surprise.

mod support;

use control::address::AddressState;
use control::setting::Setting;
use control::{Actor, Kind, Refusal, Window};
use engine::id::AccountId;
use engine::snapshot::Plan;
use std::time::Duration;
use support::{Bench, on_both};

async fn accounts(bench: &Bench) {
    bench.region().await;
    for name in ["acme", "other"] {
        bench.account(name, Plan::Standard).await;
    }
}

async fn key_of(bench: &Bench, account: &str) -> Actor {
    bench.key_of(&bench.office.account(&bench.by, account).await.unwrap().id)
}

fn refused<T>(result: Result<T, Refusal>) -> (Kind, &'static str) {
    result.map(|_| ()).map_err(|refusal| (refusal.kind, refusal.code)).unwrap_err()
}

async fn verified(bench: &Bench) -> Vec<String> {
    let all = bench.office.sending_addresses(None).await.unwrap();
    let account = AccountId::new(&bench.office.account(&bench.by, "acme").await.unwrap().id);
    let one = bench.office.sending_addresses(Some(account.as_str())).await.unwrap();
    assert!(one.get(&account) == all.get(&account) && one.len() <= 1, "{one:?}");
    one.get(&account).into_iter().flatten().map(ToString::to_string).collect()
}

// R1.4
#[test]
fn an_address_is_verified_by_the_token_that_was_mailed_to_it() {
    on_both(async |bench| {
        accounts(bench).await;
        let (office, by) = (&bench.office, &bench.by);
        let (address, mailed) = office.create_address(by, "acme", " Ann.Lee@Bücher.Example ").await.unwrap();
        let mailed = mailed.unwrap();
        assert_eq!(address.address, "Ann.Lee@xn--bcher-kva.example");
        assert_eq!((address.state(office.now()), &mailed.to), (AddressState::Pending, &address.address));
        assert!(mailed.text(None).contains(&mailed.token) && mailed.text(None).contains("acme"));
        assert!(mailed.text(Some("https://weir.test/c")).contains("https://weir.test/c"));
        assert!(!format!("{mailed:?}").contains(&mailed.token));
        assert!(verified(bench).await.is_empty());
        // Not the token, nor a part of it; not even the id.
        for token in ["", &mailed.token[..20], &address.id, "weir_address_x"] {
            assert_eq!(refused(office.confirm_address(token, None).await), (Kind::NotFound, "confirmation_unknown"));
        }
        let from = Some("203.0.113.7".parse().unwrap());
        let confirmed = office.confirm_address(&mailed.token, from).await.unwrap();
        assert_eq!(confirmed.state(office.now()), AddressState::Verified);
        assert_eq!(verified(bench).await, ["Ann.Lee@xn--bcher-kva.example"]);
        // A program that looks into the mail may have been first.
        assert_eq!(office.confirm_address(&mailed.token, from).await.unwrap(), confirmed);
        let (again, nothing) = office.create_address(by, "acme", "Ann.Lee@bücher.example").await.unwrap();
        assert_eq!((again, nothing), (confirmed.clone(), None));
        let log = office.audit(by, None, Some(&address.id), &Window::default()).await.unwrap().items;
        let told: Vec<_> = log.iter().map(|line| (line.action.as_str(), line.actor_from.as_deref())).collect();
        assert_eq!(told, [("verified", Some("203.0.113.7")), ("confirmation-asked", None)]);
        assert!(log.iter().all(|line| !line.detail.to_string().contains(&mailed.token)));
        office.delete_address(by, "acme", &address.id).await.unwrap();
        assert!(verified(bench).await.is_empty());
        assert_eq!(
            refused(office.confirm_address(&mailed.token, None).await),
            (Kind::NotFound, "confirmation_unknown")
        );
    });
}

#[test]
fn a_token_is_good_for_a_day_and_only_the_last() {
    on_both(async |bench| {
        accounts(bench).await;
        let (office, by) = (&bench.office, &bench.by);
        let ask = async || office.create_address(by, "acme", "ann@example.com").await;
        let first = ask().await.unwrap().1.unwrap();
        assert_eq!(refused(ask().await), (Kind::TooOften, "confirmation_just_asked"));
        bench.pass(Duration::from_secs(61));
        let second = ask().await.unwrap().1.unwrap();
        assert_eq!(refused(office.confirm_address(&first.token, None).await), (Kind::NotFound, "confirmation_unknown"));
        bench.pass(Duration::from_secs(24 * 3_600));
        assert_eq!(
            refused(office.confirm_address(&second.token, None).await),
            (Kind::NotFound, "confirmation_unknown")
        );
        let address = office.address(by, "acme", "ann@example.com").await.unwrap();
        assert_eq!(address.state(office.now()), AddressState::Expired);
        let third = ask().await.unwrap().1.unwrap();
        office.confirm_address(&third.token, None).await.unwrap();
        assert_eq!(office.addresses(by, "acme", &Window::default()).await.unwrap().items.len(), 1);
    });
}

#[test]
fn nobodys_mailbox_is_filled_with_confirmations() {
    on_both(async |bench| {
        accounts(bench).await;
        let (office, by) = (&bench.office, &bench.by);
        for number in 0..200 {
            office.create_address(by, "acme", &format!("a{number}@example.com")).await.unwrap();
            // Deleting does not make room.
            office.delete_address(by, "acme", &format!("a{number}@example.com")).await.unwrap();
        }
        let next = office.create_address(by, "acme", "b@example.com").await;
        assert_eq!(refused(next), (Kind::TooOften, "confirmations_a_day"));
        assert!(office.addresses(by, "acme", &Window::default()).await.unwrap().items.is_empty());
        office.create_address(by, "other", "b@example.com").await.unwrap();
        bench.days(1);
        office.create_address(by, "acme", "b@example.com").await.unwrap();
        office.set_setting(by, Setting::AddressesMax, 1).await.unwrap();
        let full = office.create_address(by, "acme", "c@example.com").await;
        assert_eq!(refused(full), (Kind::Conflict, "addresses_max"));
        let wrong = office.create_address(by, "acme", "no address").await.unwrap_err();
        assert_eq!(wrong.field.as_deref(), Some("address"));
    });
}

// R2.8
#[test]
fn another_accounts_addresses_are_as_unknown_as_none() {
    on_both(async |bench| {
        accounts(bench).await;
        let office = &bench.office;
        let (acme, other) = (key_of(bench, "acme").await, key_of(bench, "other").await);
        let (own, _) = office.create_address(&acme, "acme", "ann@example.com").await.unwrap();
        for account in ["other", "acme", &own.account] {
            assert_eq!(refused(office.address(&other, account, &own.id).await), (Kind::NotFound, "not_found"));
            assert_eq!(refused(office.delete_address(&other, account, &own.id).await), (Kind::NotFound, "not_found"));
        }
        let by_name = office.create_address(&other, "acme", "ann@example.com").await.unwrap_err();
        assert!(by_name.kind == Kind::NotFound && !by_name.sentence.contains(&own.account), "{}", by_name.sentence);
        // Each may have it, each by a confirmation of its own.
        let (claimed, mailed) = office.create_address(&other, "other", "ann@example.com").await.unwrap();
        assert!(claimed.id != own.id && mailed.is_some());
        // Without mail it is the operator's word alone.
        let vouched = office.verify_address_without_mail(&acme, "acme", "ann@example.com").await;
        assert_eq!(refused(vouched), (Kind::Forbidden, "operator_only"));
        assert!(verified(bench).await.is_empty());
        office.verify_address_without_mail(&bench.by, "acme", "ann@example.com").await.unwrap();
        office.verify_address_without_mail(&bench.by, "acme", "bob@example.com").await.unwrap();
        assert_eq!(verified(bench).await, ["ann@example.com", "bob@example.com"]);
    });
}
