//! Credentials let in whom they should, as long as they should, on both engines.
#![allow(clippy::unwrap_used)] // A test may stop at the first surprise.

mod support;

use control::account::{Account, NewAccount, Standing};
use control::credential::{
    CredentialChange, CredentialKind, NewCredential, OVERLAP_DEFAULT, OVERLAP_MAX, Shown, smtp_password,
};
use control::id::digest_of;
use control::person::Role;
use control::{Actor, ActorKind, Kind, Window};
use engine::id::AccountId;
use engine::snapshot::{Digest, Holder, Plan, Scope};
use engine::tally::Tally;
use engine::time::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use support::{Bench, on_both};

const ALL: [Scope; 3] = [Scope::Send, Scope::Read, Scope::Manage];
const REGIONS: [&str; 2] = ["eu", "local"];

async fn account(bench: &Bench, name: &str) -> Account {
    let new = NewAccount {
        name: name.into(),
        plan: Plan::Standard,
        standing: Standing::Production,
        has_payment_method: false,
    };
    bench.office.create_account(&bench.by, new).await.unwrap()
}

async fn two_accounts(bench: &Bench) -> (Account, Account) {
    for region in REGIONS {
        bench.office.create_region(&bench.by, region).await.unwrap();
    }
    (account(bench, "Acme").await, account(bench, "Bolt").await)
}

async fn subaccount(bench: &Bench, account: &str, id: &str) {
    let mut change = bench.office.store().change().await.unwrap();
    let insert = "INSERT INTO subaccount (id, account, name, pool, sending, revision, created_at) VALUES ($1, $2, $1, NULL, 1, 1, 0)";
    sqlx::query(insert).bind(id.to_owned()).bind(account.to_owned()).execute(change.conn()).await.unwrap();
    change.commit().await.unwrap();
}

fn new(kind: CredentialKind, account: Option<&str>, scopes: &[Scope]) -> NewCredential {
    NewCredential {
        kind,
        account: account.map(str::to_owned),
        subaccount: None,
        name: "for the shop".into(),
        scopes: scopes.iter().copied().collect(),
        networks: Vec::new(),
        expires_at: None,
    }
}

/// As a surface makes it of a key that was shown.
fn actor(key: &Shown) -> Actor {
    let published = key.credential.published();
    Actor {
        kind: ActorKind::Key,
        id: key.credential.id.clone(),
        name: key.credential.name.clone(),
        holder: published.holder,
        scopes: published.scopes,
        from: None,
    }
}

fn person(account: &Account, role: Role) -> Actor {
    Actor {
        kind: ActorKind::Person { is_owner: role == Role::Owner },
        id: "person_x".into(),
        name: "x@acme.test".into(),
        holder: Holder::Account { account: AccountId::new(&account.id), subaccount: None },
        scopes: role.scopes(),
        from: None,
    }
}

/// Every digest that opens something now, and what it opens.
async fn open(bench: &Bench) -> BTreeMap<Digest, String> {
    let mut conn = bench.office.store().read().await.unwrap();
    let regions = REGIONS.map(str::to_owned);
    let mut open = BTreeMap::new();
    for (digest, credential) in bench.office.keys(&mut conn, None).await.unwrap() {
        assert!(open.insert(digest, credential.id.to_string()).is_none());
    }
    for (name, login) in bench.office.logins(&mut conn, &regions, None).await.unwrap() {
        assert!(!name.is_empty() && !login.passwords.is_empty());
        for digest in &login.passwords {
            assert!(open.insert(*digest, login.credential.id.to_string()).is_none());
        }
    }
    open
}

/// What must open when this secret is good.
fn digests(kind: CredentialKind, secret: &str) -> Vec<Digest> {
    match kind {
        CredentialKind::Api | CredentialKind::Smtp => vec![digest_of(secret)],
        CredentialKind::Aws => REGIONS.iter().map(|region| digest_of(&smtp_password(secret, region))).collect(),
    }
}

#[test]
fn a_secret_is_shown_once_and_kept_nowhere_and_every_step_is_written_down() {
    on_both(async |bench| {
        let (acme, _) = two_accounts(bench).await;
        let (office, by) = (&bench.office, &bench.by);
        let mut secrets = Vec::new();
        let mut made = new(CredentialKind::Api, Some("Acme"), &ALL);
        made.networks = vec!["192.0.2.0/24".into(), " 2001:db8::/32 ".into(), "192.0.2.0/24".into()];
        let key = office.create_credential(by, made).await.unwrap();
        assert!(key.secret.show().starts_with("weir_key_") && control::id::is_whole(key.secret.show()));
        assert_eq!(key.credential.published().networks.len(), 2);
        let smtp = office.create_credential(by, new(CredentialKind::Smtp, Some("Acme"), &[Scope::Send])).await.unwrap();
        assert!(smtp.credential.login.as_deref().unwrap().starts_with("smtp_"));
        let aws = office.create_credential(by, new(CredentialKind::Aws, Some("Acme"), &ALL)).await.unwrap();
        assert_eq!(aws.smtp_passwords.keys().collect::<Vec<_>>(), REGIONS.iter().collect::<Vec<_>>());
        assert_eq!(aws.smtp_passwords["eu"].show(), smtp_password(aws.secret.show(), "eu"));
        for shown in [&key, &smtp, &aws] {
            secrets.push(shown.secret.show().to_owned());
            let expected = digests(shown.credential.kind, shown.secret.show());
            let open = open(bench).await;
            assert!(expected.iter().all(|digest| open[digest] == shown.credential.id));
        }
        // Signatures are checked with the secret itself, and after a restart.
        let again = bench.again().await;
        let signer = again.signer(aws.credential.login.as_deref().unwrap()).await.unwrap().unwrap();
        assert_eq!(signer.secrets, std::slice::from_ref(&aws.secret));
        assert_eq!(signer.credential.holder, key.credential.published().holder);
        assert!(again.signer(smtp.credential.login.as_deref().unwrap()).await.unwrap().is_none());
        again.store().close().await;
        let renewed = office.rotate_credential(by, &key.credential.id, None).await.unwrap();
        secrets.push(renewed.secret.show().to_owned());
        office.revoke_credential(by, &smtp.credential.id).await.unwrap();
        let rename = CredentialChange { name: Some("old shop".into()), ..CredentialChange::default() };
        office.change_credential(by, &key.credential.id, rename).await.unwrap();
        // R7.6
        let log = office.audit(by, Some(&acme.id), None, &Window::default()).await.unwrap().items;
        let of = |id: &str| {
            log.iter().filter(|entry| entry.subject == id).map(|entry| entry.action.clone()).collect::<Vec<_>>()
        };
        assert_eq!(of(&key.credential.id), ["changed", "rotated", "created"]);
        assert_eq!(of(&smtp.credential.id), ["revoked", "created"]);
        let told = format!("{log:?} {key:?} {aws:?} {signer:?} {renewed:?}");
        let mut conn = office.store().read().await.unwrap();
        let stored = "SELECT digest, COALESCE(sealed, digest) FROM credential_secret";
        let stored = sqlx::query(stored).fetch_all(&mut *conn).await.unwrap();
        for secret in &secrets {
            assert!(!told.contains(secret.as_str()));
            for row in &stored {
                for at in 0..2 {
                    let octets: Vec<u8> = sqlx::Row::get(row, at);
                    assert!(!octets.windows(secret.len()).any(|part| part == secret.as_bytes()));
                }
            }
        }
    });
}

// G5, R7.6: a line for each name that is somebody's, and one for all that nobody has.
#[test]
fn guesses_at_the_doors_are_written_down() {
    on_both(async |bench| {
        let (acme, _) = two_accounts(bench).await;
        let (office, by) = (&bench.office, &bench.by);
        let smtp = office.create_credential(by, new(CredentialKind::Smtp, Some("Acme"), &[Scope::Send])).await.unwrap();
        let mut tally = Tally::default();
        let guess = [198, 51, 100, 9].into();
        for name in [smtp.credential.login.as_deref(), Some("nobody"), Some("somebody"), None] {
            tally.note(name, Some(guess), office.now());
            tally.note(name, None, office.now());
        }
        office.note_failed(&tally.due(office.now())).await.unwrap();
        bench.pass(Duration::from_secs(60));
        office.note_failed(&tally.due(office.now())).await.unwrap();
        let lines = office.audit(by, None, None, &Window::default()).await.unwrap().items;
        let failed: Vec<_> = lines.iter().filter(|line| line.action == "sign-in-failed").collect();
        let told: Vec<_> = failed.iter().map(|line| (line.subject.as_str(), &line.detail["times"])).collect();
        assert_eq!(told, [("unknown", &json!(6)), (smtp.credential.id.as_str(), &json!(2))]);
        assert_eq!(failed[1].account.as_deref(), Some(acme.id.as_str()));
        assert_eq!(failed[0].detail["from"], json!(["198.51.100.9"]));
    });
}

#[test]
fn an_old_secret_is_good_for_the_overlap_and_then_no_more() {
    on_both(async |bench| {
        two_accounts(bench).await;
        let (office, by) = (&bench.office, &bench.by);
        let first = office.create_credential(by, new(CredentialKind::Api, Some("Acme"), &ALL)).await.unwrap();
        let id = first.credential.id.as_str();
        let is_open = async |shown: &Shown| open(bench).await.contains_key(&digest_of(shown.secret.show()));
        let second = office.rotate_credential(by, id, None).await.unwrap();
        assert_eq!(second.credential.overlap_until, Some(office.now() + OVERLAP_DEFAULT));
        assert!(is_open(&first).await && is_open(&second).await);
        bench.pass(OVERLAP_DEFAULT - Duration::from_micros(1));
        office.tidy_credentials().await.unwrap();
        assert!(is_open(&first).await);
        bench.pass(Duration::from_micros(1));
        // Even before anybody tidied up.
        assert!(!is_open(&first).await && is_open(&second).await);
        office.tidy_credentials().await.unwrap();
        let log = office.audit(by, None, Some(id), &Window::default()).await.unwrap().items;
        assert_eq!((log[0].action.as_str(), log[0].actor_kind.as_str()), ("old-secret-ended", "service"));
        // Without overlap all before it end at once; so does what is being replaced.
        let third = office.rotate_credential(by, id, Some(Duration::from_secs(60))).await.unwrap();
        let fourth = office.rotate_credential(by, id, Some(Duration::ZERO)).await.unwrap();
        assert!(!is_open(&second).await && !is_open(&third).await && is_open(&fourth).await);
        let too_long = office.rotate_credential(by, id, Some(OVERLAP_MAX + Duration::from_secs(1))).await.unwrap_err();
        assert_eq!(too_long.field.as_deref(), Some("overlap_s"));
        for _ in 0..3 {
            office.rotate_credential(by, id, Some(OVERLAP_MAX)).await.unwrap();
        }
        assert_eq!(office.rotate_credential(by, id, None).await.unwrap_err().code, "too_many_secrets");
        // A shorter overlap shortens, a longer one does not lengthen.
        bench.days(30);
        office.rotate_credential(by, id, Some(Duration::from_secs(60))).await.unwrap();
        office.rotate_credential(by, id, Some(OVERLAP_MAX)).await.unwrap();
        bench.pass(Duration::from_secs(60));
        assert_eq!(open(bench).await.len(), 2);
        office.revoke_credential(by, id).await.unwrap();
        assert!(open(bench).await.is_empty());
        for over in [
            office.rotate_credential(by, id, None).await.map(|_| ()),
            office.change_credential(by, id, CredentialChange::default()).await.map(|_| ()),
        ] {
            assert_eq!(over.unwrap_err().code, "credential_over");
        }
        assert!(office.revoke_credential(by, id).await.is_ok(), "twice is once");
    });
}

#[test]
fn what_expired_is_shown_for_a_while_and_then_forgotten() {
    on_both(async |bench| {
        two_accounts(bench).await;
        let (office, by) = (&bench.office, &bench.by);
        let mut short = new(CredentialKind::Smtp, Some("Acme"), &[Scope::Send]);
        short.expires_at = Some(office.now());
        let over = office.create_credential(by, short.clone()).await.unwrap_err();
        assert_eq!(over.field.as_deref(), Some("expires_at"));
        short.expires_at = Some(office.now() + Duration::from_secs(3_600));
        let shown = office.create_credential(by, short).await.unwrap();
        let id = shown.credential.id.as_str();
        assert_eq!(open(bench).await.len(), 1);
        bench.pass(Duration::from_secs(3_600));
        assert!(open(bench).await.is_empty());
        office.tidy_credentials().await.unwrap();
        assert_eq!(office.credential(by, id).await.unwrap().id, id);
        let later = CredentialChange { expires_at: Some(None), ..CredentialChange::default() };
        assert_eq!(office.change_credential(by, id, later).await.unwrap_err().code, "credential_over");
        // Taken back together with what it was for: not by us, and with its secret still there.
        let other = office.create_credential(by, new(CredentialKind::Aws, Some("Acme"), &[Scope::Send])).await.unwrap();
        let mut change = office.store().change().await.unwrap();
        let revoke = "UPDATE credential SET subaccount = NULL, revoked_at = $2 WHERE id = $1";
        let revoke = sqlx::query(revoke).bind(other.credential.id.clone()).bind(office.now().0);
        revoke.execute(change.conn()).await.unwrap();
        change.commit().await.unwrap();
        assert!(open(bench).await.is_empty());
        assert!(office.signer(other.credential.login.as_deref().unwrap()).await.unwrap().is_none());
        office.tidy_credentials().await.unwrap();
        let mut conn = office.store().read().await.unwrap();
        let left = sqlx::query("SELECT id FROM credential_secret").fetch_all(&mut *conn).await.unwrap();
        assert!(left.is_empty(), "what is sealed does not stay");
        drop(conn);
        bench.days(90);
        office.tidy_credentials().await.unwrap();
        assert_eq!(office.credential(by, &other.credential.id).await.unwrap_err().kind, Kind::NotFound);
        assert_eq!(office.credential(by, id).await.unwrap_err().kind, Kind::NotFound);
        let log = office.audit(by, None, Some(id), &Window::default()).await.unwrap().items;
        assert_eq!(
            log.iter().map(|entry| entry.action.as_str()).collect::<Vec<_>>(),
            ["forgotten", "expired", "created"]
        );
    });
}

#[test]
fn a_wrong_wish_names_the_field() {
    on_both(async |bench| {
        two_accounts(bench).await;
        let (office, by) = (&bench.office, &bench.by);
        let check = async |wish: NewCredential, field: &str| {
            let refusal = office.create_credential(by, wish).await.unwrap_err();
            assert_eq!(refusal.field.as_deref(), Some(field), "{refusal:?}");
        };
        check(new(CredentialKind::Api, Some("Acme"), &[]), "scopes").await;
        check(new(CredentialKind::Smtp, Some("Acme"), &ALL), "scopes").await;
        check(new(CredentialKind::Smtp, None, &[Scope::Send]), "account").await;
        check(new(CredentialKind::Aws, None, &ALL), "account").await;
        check(new(CredentialKind::Api, Some("Nobody"), &ALL), "account").await;
        let mut wish = new(CredentialKind::Api, Some("Acme"), &ALL);
        wish.networks = vec!["10.0.0.0/8".into(), "10.0.0.0/33".into()];
        check(wish.clone(), "networks[1]").await;
        wish.networks = (0..101).map(|at| format!("10.0.0.{at}")).collect();
        check(wish.clone(), "networks").await;
        wish.networks.clear();
        wish.subaccount = Some("shop".into());
        check(wish.clone(), "subaccount").await;
        wish.subaccount = None;
        wish.name = "x".repeat(129);
        check(wish, "name").await;
        let made = office.create_credential(by, new(CredentialKind::Api, Some("Acme"), &ALL)).await.unwrap();
        let change = CredentialChange { name: Some("a".into()), revision: Some(1), ..CredentialChange::default() };
        assert_eq!(office.change_credential(by, &made.credential.id, change.clone()).await.unwrap().revision, 2);
        let late = office.change_credential(by, &made.credential.id, change).await.unwrap_err();
        assert_eq!((late.kind, late.code), (Kind::Changed, "changed_meanwhile"));
    });
}

// R2.8: every call, with every id of another.
#[test]
fn credentials_of_another_account_are_not_there() {
    on_both(async |bench| {
        let (acme, bolt) = two_accounts(bench).await;
        let office = &bench.office;
        let theirs = office.create_credential(&bench.by, new(CredentialKind::Api, Some(&bolt.id), &ALL)).await.unwrap();
        let operators = office.create_credential(&bench.by, new(CredentialKind::Api, None, &ALL)).await.unwrap();
        let own = office.create_credential(&bench.by, new(CredentialKind::Api, Some(&acme.id), &ALL)).await.unwrap();
        let before = open(bench).await;
        for by in [actor(&own), person(&acme, Role::Owner), person(&acme, Role::Developer)] {
            for id in [&theirs.credential.id, &operators.credential.id, "cred_none"] {
                let rename = CredentialChange { name: Some("mine".into()), ..CredentialChange::default() };
                for refusal in [
                    office.credential(&by, id).await.map(|_| ()),
                    office.change_credential(&by, id, rename).await.map(|_| ()),
                    office.rotate_credential(&by, id, None).await.map(|_| ()),
                    office.revoke_credential(&by, id).await.map(|_| ()),
                ] {
                    let refusal = refusal.unwrap_err();
                    assert_eq!(
                        (refusal.kind, refusal.sentence),
                        (Kind::NotFound, format!("There is no credential {id}."))
                    );
                }
            }
            for called in [bolt.id.as_str(), "Bolt", "Nobody"] {
                let made = office.create_credential(&by, new(CredentialKind::Api, Some(called), &[Scope::Read])).await;
                let listed = office.credentials(&by, Some(called), &Window::default()).await;
                for refusal in [made.map(|_| ()).unwrap_err(), listed.map(|_| ()).unwrap_err()] {
                    assert_eq!(
                        (refusal.kind, refusal.sentence),
                        (Kind::NotFound, format!("There is no account {called}."))
                    );
                }
            }
            let listed = office.credentials(&by, None, &Window::default()).await.unwrap().items;
            assert_eq!(listed, std::slice::from_ref(&own.credential));
        }
        assert_eq!(open(bench).await, before);
        // Only the operator makes the operator's keys.
        let operator = actor(&operators);
        let by_operator =
            office.create_credential(&operator, new(CredentialKind::Api, None, &[Scope::Read])).await.unwrap();
        assert_eq!(by_operator.credential.account, None);
        let reader = actor(&by_operator);
        assert_eq!(office.credentials(&reader, None, &Window::default()).await.unwrap().items.len(), 2);
        let refused =
            office.create_credential(&reader, new(CredentialKind::Api, None, &[Scope::Read])).await.unwrap_err();
        assert_eq!(refused.code, "scope_missing");
    });
}

#[test]
fn nobody_hands_out_more_than_they_have() {
    on_both(async |bench| {
        let (acme, bolt) = two_accounts(bench).await;
        subaccount(bench, &acme.id, "sub_shop").await;
        subaccount(bench, &acme.id, "sub_blog").await;
        subaccount(bench, &bolt.id, "sub_bolt").await;
        let office = &bench.office;
        let now = office.now();
        let mut wish = new(CredentialKind::Api, Some(&acme.id), &[Scope::Read, Scope::Manage]);
        wish.networks = vec!["10.0.0.0/8".into()];
        wish.expires_at = Some(now + Duration::from_secs(3_600));
        let own = office.create_credential(&bench.by, wish.clone()).await.unwrap();
        let by = actor(&own);
        let code = async |change: fn(&mut NewCredential, Timestamp)| {
            let mut wish = wish.clone();
            change(&mut wish, now);
            office.create_credential(&by, wish).await.map(|_| ()).map_err(|refusal| refusal.code)
        };
        assert_eq!(code(|_, _| ()).await, Ok(()));
        assert_eq!(code(|wish, _| wish.networks = vec!["10.1.0.0/16".into(), "10.2.2.2".into()]).await, Ok(()));
        assert_eq!(code(|wish, _| wish.scopes = BTreeSet::from(ALL)).await, Err("scope_beyond_own"));
        assert_eq!(code(|wish, _| wish.networks.clear()).await, Err("network_beyond_own"));
        assert_eq!(code(|wish, _| wish.networks.push("11.0.0.0/8".into())).await, Err("network_beyond_own"));
        assert_eq!(code(|wish, _| wish.networks = vec!["0.0.0.0/0".into()]).await, Err("network_beyond_own"));
        assert_eq!(code(|wish, _| wish.expires_at = None).await, Err("expiry_beyond_own"));
        assert_eq!(
            code(|wish, now| wish.expires_at = Some(now + Duration::from_secs(3_601))).await,
            Err("expiry_beyond_own")
        );
        // Nor does it take what reaches further by renewing or changing it; it may take it back.
        let wide = office.create_credential(&bench.by, new(CredentialKind::Api, Some(&acme.id), &ALL)).await.unwrap();
        let narrow = CredentialChange { scopes: Some(BTreeSet::from([Scope::Read])), ..CredentialChange::default() };
        assert_eq!(
            office.rotate_credential(&by, &wide.credential.id, None).await.unwrap_err().code,
            "scope_beyond_own"
        );
        assert_eq!(
            office.change_credential(&by, &wide.credential.id, narrow).await.unwrap_err().code,
            "scope_beyond_own"
        );
        assert!(office.revoke_credential(&by, &wide.credential.id).await.is_ok());
        let widen = CredentialChange { networks: Some(Vec::new()), ..CredentialChange::default() };
        assert_eq!(office.change_credential(&by, &by.id, widen).await.unwrap_err().code, "network_beyond_own");
        // Its end is the end of what it may do.
        bench.pass(Duration::from_secs(3_600));
        assert_eq!(
            code(|wish, now| wish.expires_at = Some(now + Duration::from_secs(7_200))).await,
            Err("key_unknown")
        );

        // A subaccount's key works for its own part, and sees no other.
        let mut part = new(CredentialKind::Api, Some(&acme.id), &ALL);
        part.subaccount = Some("sub_shop".into());
        let shop = office.create_credential(&bench.by, part.clone()).await.unwrap();
        let of_account =
            office.create_credential(&bench.by, new(CredentialKind::Api, Some(&acme.id), &ALL)).await.unwrap();
        let by = actor(&shop);
        let made = office.create_credential(&by, new(CredentialKind::Smtp, None, &[Scope::Send])).await.unwrap();
        assert_eq!(made.credential.subaccount.as_deref(), Some("sub_shop"));
        for other in ["sub_blog", "sub_bolt", "nothing"] {
            part.subaccount = Some(other.into());
            let refusal = office.create_credential(&by, part.clone()).await.unwrap_err();
            assert_eq!((refusal.kind, refusal.field.as_deref()), (Kind::NotFound, Some("subaccount")));
        }
        assert_eq!(
            office.rotate_credential(&by, &of_account.credential.id, None).await.unwrap_err().kind,
            Kind::NotFound
        );
        assert_eq!(office.credential(&by, &of_account.credential.id).await.unwrap_err().kind, Kind::NotFound);
        let seen = office.credentials(&by, None, &Window::default()).await.unwrap().items;
        assert_eq!(
            seen.iter().map(|one| one.id.clone()).collect::<Vec<_>>(),
            [shop.credential.id.clone(), made.credential.id]
        );

        // Who is no owner makes no key that could do an owner's work, and takes none by renewing it.
        let developer = person(&acme, Role::Developer);
        let sender = new(CredentialKind::Aws, None, &[Scope::Send, Scope::Read]);
        assert!(office.create_credential(&developer, sender).await.is_ok());
        let manager = new(CredentialKind::Api, None, &[Scope::Manage]);
        assert_eq!(office.create_credential(&developer, manager.clone()).await.unwrap_err().code, "owner_only");
        assert_eq!(
            office.rotate_credential(&developer, &of_account.credential.id, None).await.unwrap_err().code,
            "owner_only"
        );
        assert!(office.create_credential(&person(&acme, Role::Owner), manager.clone()).await.is_ok());
        let viewer = person(&acme, Role::Viewer);
        assert_eq!(office.create_credential(&viewer, manager).await.unwrap_err().code, "scope_missing");
        assert!(office.credentials(&viewer, None, &Window::default()).await.is_ok());
    });
}

#[test]
fn a_list_of_credentials_is_read_in_pages() {
    on_both(async |bench| {
        two_accounts(bench).await;
        let office = &bench.office;
        let mut made = Vec::new();
        for at in 0..7 {
            let kind = [CredentialKind::Api, CredentialKind::Aws, CredentialKind::Smtp][at % 3];
            let shown = office.create_credential(&bench.by, new(kind, Some("Acme"), &[Scope::Send])).await.unwrap();
            made.push(shown.credential);
        }
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = office.credentials(&bench.by, Some("Acme"), &Window { after, limit: Some(3) }).await.unwrap();
            seen.extend(page.items);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, made);
        // One alone, as the publisher asks after a change.
        let mut conn = office.store().read().await.unwrap();
        assert_eq!(office.keys(&mut conn, Some(&made[0].id)).await.unwrap().len(), 1);
        assert_eq!(office.keys(&mut conn, Some(&made[1].id)).await.unwrap().len(), 0);
        let logins = office.logins(&mut conn, &REGIONS.map(str::to_owned), Some(&made[1].id)).await.unwrap();
        assert_eq!((logins.len(), logins[0].1.passwords.len()), (1, 2));
        assert_eq!(Some(&*logins[0].0), made[1].login.as_deref());
    });
}

#[derive(Clone, Debug)]
enum Step {
    Create { kind: u8, lasts_h: Option<u64> },
    Rotate { which: usize, overlap_h: u64 },
    Revoke { which: usize },
    Expire { which: usize, after_h: u64 },
    Pass { hours: u64 },
    Tidy,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..3u8, proptest::option::of(1..100u64)).prop_map(|(kind, lasts_h)| Step::Create { kind, lasts_h }),
        4 => (0..8usize, prop_oneof![Just(0), 1..720u64]).prop_map(|(which, overlap_h)| Step::Rotate { which, overlap_h }),
        1 => (0..8usize).prop_map(|which| Step::Revoke { which }),
        1 => (0..8usize, 1..200u64).prop_map(|(which, after_h)| Step::Expire { which, after_h }),
        3 => (1..200u64).prop_map(|hours| Step::Pass { hours }),
        2 => Just(Step::Tidy),
    ]
}

#[derive(Default)]
struct Model {
    made: Vec<Known>,
}

struct Known {
    id: String,
    kind: CredentialKind,
    end: Option<Timestamp>,
    /// And until when each is good.
    secrets: Vec<(String, Option<Timestamp>)>,
}

impl Model {
    fn open(&self, now: Timestamp) -> BTreeMap<Digest, String> {
        let is_good = |until: &Option<Timestamp>| until.is_none_or(|until| until > now);
        let of = |known: &Known| {
            let good = known.secrets.iter().filter(|(_, until)| is_good(until) && is_good(&known.end));
            good.flat_map(|(secret, _)| digests(known.kind, secret))
                .map(|digest| (digest, known.id.clone()))
                .collect::<Vec<_>>()
        };
        self.made.iter().flat_map(of).collect()
    }
}

async fn take(bench: &Bench, model: &mut Model, step: Step) {
    let (office, by) = (&bench.office, &bench.by);
    let now = office.now();
    let hours = |hours: u64| Duration::from_secs(hours * 3_600);
    match step {
        Step::Create { kind, lasts_h } => {
            let kind = [CredentialKind::Api, CredentialKind::Aws, CredentialKind::Smtp][usize::from(kind)];
            let mut wish = new(kind, Some("Acme"), &[Scope::Send]);
            wish.expires_at = lasts_h.map(|lasts| now + hours(lasts));
            let end = wish.expires_at;
            let shown = office.create_credential(by, wish).await.unwrap();
            let secrets = vec![(shown.secret.show().to_owned(), None)];
            model.made.push(Known { id: shown.credential.id, kind, end, secrets });
        }
        Step::Rotate { which, overlap_h } => {
            let Some(known) = model.made.get_mut(which) else { return };
            let good = |until: &Option<Timestamp>| until.is_none_or(|until| until > now);
            let count = known.secrets.iter().filter(|(_, until)| good(until)).count();
            let done = office.rotate_credential(by, &known.id, Some(hours(overlap_h))).await;
            if !good(&known.end) {
                assert!(matches!(done.unwrap_err().kind, Kind::Conflict | Kind::NotFound));
            } else if count >= 4 && overlap_h > 0 {
                assert_eq!(done.unwrap_err().code, "too_many_secrets");
            } else {
                let end = now + hours(overlap_h);
                for (_, until) in &mut known.secrets {
                    *until = Some(until.map_or(end, |until| until.min(end)));
                }
                known.secrets.push((done.unwrap().secret.show().to_owned(), None));
            }
        }
        Step::Revoke { which } => {
            let Some(known) = model.made.get_mut(which) else { return };
            let done = office.revoke_credential(by, &known.id).await;
            assert!(done.is_ok() || done.is_err_and(|refusal| refusal.kind == Kind::NotFound));
            known.end = Some(known.end.map_or(now, |end| end.min(now)));
        }
        Step::Expire { which, after_h } => {
            let Some(known) = model.made.get_mut(which) else { return };
            let end = now + hours(after_h);
            let to = CredentialChange { expires_at: Some(Some(end)), ..CredentialChange::default() };
            let done = office.change_credential(by, &known.id, to).await;
            if known.end.is_some_and(|end| end <= now) {
                assert!(done.is_err());
            } else {
                done.unwrap();
                known.end = Some(end);
            }
        }
        Step::Pass { hours: passed } => bench.pass(hours(passed)),
        Step::Tidy => office.tidy_credentials().await.unwrap(),
    }
}

// Whatever is made, renewed, taken back, or runs out: the secrets that open are those that should.
#[test]
fn what_opens_is_what_should_after_any_sequence_of_steps() {
    on_both(async |bench| {
        two_accounts(bench).await;
        let config = Config { cases: 16, failure_persistence: None, ..Config::default() };
        let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
        let runtime = tokio::runtime::Handle::current();
        let sequences = proptest::collection::vec(step(), 1..30);
        let run = runner.run(&sequences, |steps| {
            tokio::task::block_in_place(|| {
                runtime.block_on(async {
                    let mut model = Model::default();
                    for step in steps {
                        take(bench, &mut model, step.clone()).await;
                        let now = bench.office.now();
                        assert_eq!(open(bench).await, model.open(now), "after {step:?} at {now}");
                    }
                    // Room for the next sequence.
                    for known in &model.made {
                        let _ = bench.office.revoke_credential(&bench.by, &known.id).await;
                    }
                });
            });
            Ok(())
        });
        run.unwrap();
    });
}
