//! People come in by invitation, and do what their role says, on both engines.
#![allow(clippy::unwrap_used)] // A test may stop at the first surprise.

mod support;

use aws_lc_rs::hmac;
use control::account::{Account, NewAccount, Standing};
use control::id::Secret;
use control::person::{INVITATION_LIFETIME, Invited, LINK_LIFETIME, NewPerson, Role};
use control::session::{IDLE_MAX, SESSION_LIFETIME, SignIn, SignedIn};
use control::{Actor, ActorKind, Kind, Office, Refusal, Window};
use engine::id::AccountId;
use engine::snapshot::{Holder, Plan, Scope};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;
use support::{Bench, on_both};

const GOOD: &str = "correct horse battery";
const HERE: [u8; 4] = [192, 0, 2, 1];
const ELSEWHERE: [u8; 4] = [198, 51, 100, 7];

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
    bench.office.create_region(&bench.by, "local").await.unwrap();
    (account(bench, "Acme").await, account(bench, "Bolt").await)
}

fn new(email: &str, role: Role, account: Option<&str>) -> NewPerson {
    NewPerson { email: email.into(), role, account: account.map(str::to_owned) }
}

async fn invited(bench: &Bench, email: &str, role: Role, account: Option<&str>) -> Invited {
    bench.office.invite(&bench.by, new(email, role, account)).await.unwrap()
}

/// Somebody who has set a password.
async fn person(bench: &Bench, email: &str, role: Role, account: Option<&str>) -> Actor {
    let invited = invited(bench, email, role, account).await;
    bench.office.set_password(invited.link.show(), GOOD, None).await.unwrap().actor(Some(HERE.into()))
}

fn attempt(email: &str, password: &str, from: impl Into<IpAddr>) -> SignIn {
    let from = Some(from.into());
    SignIn { email: email.into(), password: Secret::new(password.into()), code: None, from, replaces: None }
}

async fn sign_in(office: &Office, email: &str, password: &str) -> Result<SignedIn, Refusal> {
    office.sign_in(attempt(email, password, HERE)).await
}

async fn is_in(office: &Office, who: &SignedIn) -> bool {
    office.actor_of_session(who.token.show(), Some(HERE.into())).await.is_ok()
}

async fn actions(bench: &Bench, subject: &str) -> Vec<String> {
    let window = Window { after: None, limit: Some(500) };
    let log = bench.office.audit(&bench.by, None, Some(subject), &window).await.unwrap();
    log.items.into_iter().map(|entry| entry.action).collect()
}

#[test]
fn the_first_operator_comes_in_by_a_link_that_is_good_once_and_for_a_day() {
    on_both(async |bench| {
        let office = &bench.office;
        let first = office.create_first_operator(" Ann@Weir.TEST ").await.unwrap();
        assert_eq!((first.person.email.as_str(), first.person.role), ("ann@weir.test", Role::Operator));
        assert_eq!(first.expires_at, office.now() + LINK_LIFETIME);
        assert_eq!(office.create_first_operator("bob@weir.test").await.unwrap_err().code, "not_the_first");
        let link = first.link.show();
        assert_eq!(office.person_of_link(link).await.unwrap(), first.person);
        for (password, why) in
            [("too short", "at least 12"), ("Ann@weir.test", "everybody knows"), (&"x".repeat(257), "at most 256")]
        {
            let refusal = office.set_password(link, password, None).await.unwrap_err();
            assert!(refusal.field.as_deref() == Some("password") && refusal.sentence.contains(why), "{refusal:?}");
        }
        // Nobody signs in without a password, not even with none.
        assert_eq!(sign_in(office, "ann@weir.test", "").await.unwrap_err().code, "sign_in_refused");
        office.set_password(link, GOOD, Some(HERE.into())).await.unwrap();
        assert_eq!(office.set_password(link, GOOD, None).await.unwrap_err().code, "link_over");
        assert_eq!(office.person_of_link(&link[..link.len() - 1]).await.unwrap_err().code, "link_over");
        let signed_in = sign_in(office, "ANN@weir.test", GOOD).await.unwrap();
        let (by, _) = office.actor_of_session(signed_in.token.show(), Some(HERE.into())).await.unwrap();
        assert!(by.may_operate().is_ok() && by.is_operator() && by.name == "ann@weir.test");
        // R7.6: who did what, when, from where.
        assert_eq!(actions(bench, &first.person.id).await, ["signed-in", "password-set", "invited"]);
        let log = office.audit(&by, None, Some(&first.person.id), &Window::default()).await.unwrap().items;
        assert_eq!(
            (log[0].actor.as_str(), log[0].actor_from.as_deref()),
            (first.person.id.as_str(), Some("192.0.2.1"))
        );
        let told = format!("{log:?} {first:?} {signed_in:?}");
        for secret in [link, signed_in.token.show(), GOOD] {
            assert!(!told.contains(secret));
        }
        // A link too old; a new one ends the one before.
        let late = office.invite(&by, new("bob@weir.test", Role::OperatorReadOnly, None)).await.unwrap();
        bench.pass(INVITATION_LIFETIME);
        assert_eq!(office.set_password(late.link.show(), GOOD, None).await.unwrap_err().code, "link_over");
        let again = office.renew_link(&by, "bob@weir.test").await.unwrap();
        let newest = office.renew_link(&by, &again.person.id).await.unwrap();
        assert_eq!(office.set_password(again.link.show(), GOOD, None).await.unwrap_err().code, "link_over");
        assert!(office.set_password(newest.link.show(), GOOD, None).await.is_ok());
    });
}

#[test]
fn each_role_does_what_it_says_and_no_more() {
    on_both(async |bench| {
        let (acme, _) = two_accounts(bench).await;
        let office = &bench.office;
        for (role, account, scopes) in [
            (Role::Operator, None, vec![Scope::Send, Scope::Read, Scope::Manage]),
            (Role::OperatorReadOnly, None, vec![Scope::Read]),
            (Role::Owner, Some("Acme"), vec![Scope::Send, Scope::Read, Scope::Manage]),
            (Role::Developer, Some("Acme"), vec![Scope::Send, Scope::Read, Scope::Manage]),
            (Role::Viewer, Some("Acme"), vec![Scope::Read]),
        ] {
            let email = format!("{}@a.test", role.code());
            let invited = person(bench, &email, role, account).await;
            let signed_in = sign_in(office, &email, GOOD).await.unwrap();
            let (by, _) = office.actor_of_session(signed_in.token.show(), Some(HERE.into())).await.unwrap();
            assert_eq!(by, invited);
            assert_eq!(by.scopes, BTreeSet::from_iter(scopes));
            assert_eq!(by.account().map(AccountId::as_str), account.map(|_| acme.id.as_str()));
            assert!(by.may_read(&acme.id).is_ok());
            assert_eq!(by.may_operate().is_ok(), role == Role::Operator);
            assert_eq!(by.may_watch().is_ok(), matches!(role, Role::Operator | Role::OperatorReadOnly));
            assert_eq!(by.may_manage(&acme.id).is_ok(), !matches!(role, Role::OperatorReadOnly | Role::Viewer));
            assert_eq!(by.may_own(&acme.id).is_ok(), matches!(role, Role::Operator | Role::Owner));
            let lets_in = office.invite(&by, new(&format!("x.{email}"), Role::Viewer, Some("Acme"))).await;
            assert_eq!(lets_in.is_ok(), matches!(role, Role::Operator | Role::Owner), "{role:?}");
            let operators = office.invite(&by, new(&format!("y.{email}"), Role::OperatorReadOnly, None)).await;
            assert_eq!(operators.is_ok(), role == Role::Operator, "{role:?}");
        }
        // A role belongs to its side.
        for (role, account) in [(Role::Operator, Some("Acme")), (Role::Owner, None), (Role::Viewer, None)] {
            let refusal = office.invite(&bench.by, new("z@a.test", role, account)).await.unwrap_err();
            assert_eq!(refusal.field.as_deref(), Some("role"));
        }
        let refusal = office.invite(&bench.by, new("no address", Role::Owner, Some("Acme"))).await.unwrap_err();
        assert_eq!(refusal.field.as_deref(), Some("email"));
        // One address is one person.
        let taken = office.invite(&bench.by, new("Owner@A.test", Role::Viewer, Some("Bolt"))).await.unwrap_err();
        assert_eq!(taken.code, "email_taken");
        // A key lets nobody in, whatever else it may.
        let holder = Holder::Account { account: AccountId::new(&acme.id), subaccount: None };
        let scopes = BTreeSet::from([Scope::Read, Scope::Manage]);
        let key = Actor { kind: ActorKind::Key, id: "k".into(), name: "k".into(), holder, scopes, from: None };
        assert_eq!(office.invite(&key, new("z@a.test", Role::Owner, None)).await.unwrap_err().code, "person_only");
    });
}

#[test]
fn the_last_who_could_let_others_in_stays() {
    on_both(async |bench| {
        two_accounts(bench).await;
        let office = &bench.office;
        for (role, lesser, account, code) in [
            (Role::Operator, Role::OperatorReadOnly, None, "last_operator"),
            (Role::Owner, Role::Developer, Some("Acme"), "last_owner"),
        ] {
            let email = |name: &str| format!("{name}@{}.test", role.code());
            let first = person(bench, &email("ann"), role, account).await;
            person(bench, &email("dev"), lesser, account).await;
            // Who has not come in yet cannot let others in.
            let second = invited(bench, &email("bob"), role, account).await;
            for refusal in [
                office.change_role(&first, &first.id, lesser, None).await.map(|_| ()),
                office.disable_person(&bench.by, &first.id).await.map(|_| ()),
                office.remove_person(&first, &first.id).await,
            ] {
                let refusal = refusal.unwrap_err();
                assert_eq!((refusal.kind, refusal.code), (Kind::Conflict, code));
            }
            office.set_password(second.link.show(), GOOD, None).await.unwrap();
            office.change_role(&first, &first.id, lesser, Some(2)).await.unwrap();
            let late = office.change_role(&bench.by, &first.id, role, Some(2)).await.unwrap_err();
            assert_eq!(late.kind, Kind::Changed);
            assert_eq!(office.disable_person(&bench.by, &email("bob")).await.unwrap_err().code, code);
            office.change_role(&bench.by, &first.id, role, Some(3)).await.unwrap();
            office.disable_person(&bench.by, &email("bob")).await.unwrap();
            assert_eq!(office.remove_person(&bench.by, &first.id).await.unwrap_err().code, code, "one is disabled");
            office.remove_person(&first, &email("bob")).await.unwrap();
            assert_eq!(office.person(&first, &email("bob")).await.unwrap_err().kind, Kind::NotFound);
        }
    });
}

#[test]
fn a_session_ends_by_idleness_by_age_by_wish_and_with_its_person() {
    on_both(async |bench| {
        two_accounts(bench).await;
        let office = &bench.office;
        let owner = person(bench, "ann@a.test", Role::Owner, Some("Acme")).await;
        let dev = person(bench, "dev@a.test", Role::Developer, Some("Acme")).await;
        let enter = async || sign_in(office, "dev@a.test", GOOD).await.unwrap();
        // Idle.
        let one = enter().await;
        bench.pass(IDLE_MAX - Duration::from_micros(1));
        assert!(is_in(office, &one).await, "and was seen");
        bench.pass(IDLE_MAX - Duration::from_micros(1));
        assert!(is_in(office, &one).await);
        bench.pass(IDLE_MAX);
        let over = office.actor_of_session(one.token.show(), None).await.unwrap_err();
        assert_eq!((over.kind, over.code), (Kind::Unknown, "session_over"));
        // Old, however busy.
        let one = enter().await;
        for _ in 0..SESSION_LIFETIME.as_secs() / 3_600 {
            assert!(is_in(office, &one).await);
            bench.pass(Duration::from_secs(3_600));
        }
        assert!(!is_in(office, &one).await);
        // By wish: this one; another; all.
        let (one, two, three) = (enter().await, enter().await, enter().await);
        let listed = office.sessions(&dev, "dev@a.test", &Window::default()).await.unwrap().items;
        assert_eq!(listed, [one.session.clone(), two.session.clone(), three.session.clone()]);
        office.sign_out(one.token.show(), None).await.unwrap();
        office.sign_out(one.token.show(), None).await.unwrap();
        office.end_session(&dev, &dev.id, &two.session.id).await.unwrap();
        assert_eq!(office.end_session(&dev, &dev.id, &two.session.id).await.unwrap_err().kind, Kind::NotFound);
        assert!(!is_in(office, &one).await && !is_in(office, &two).await && is_in(office, &three).await);
        office.sign_out_everywhere(&owner, &dev.id).await.unwrap();
        assert!(!is_in(office, &three).await);
        // The token is new at every sign-in, and takes the place of the one the caller came with.
        let one = enter().await;
        let again = SignIn { replaces: Some(one.token.clone()), ..attempt("dev@a.test", GOOD, HERE) };
        let two = office.sign_in(again).await.unwrap();
        assert!(one.token != two.token && !is_in(office, &one).await && is_in(office, &two).await);
        // With its person, its role, its password.
        office.change_role(&owner, &dev.id, Role::Viewer, None).await.unwrap();
        let (by, _) = office.actor_of_session(two.token.show(), None).await.unwrap();
        assert_eq!(by.scopes, Role::Viewer.scopes());
        office.change_role(&owner, &dev.id, Role::Developer, None).await.unwrap();
        assert_eq!(
            office.change_password(&dev, "wrong password", "another good one").await.unwrap_err().code,
            "invalid_field"
        );
        assert!(is_in(office, &two).await);
        office.change_password(&dev, GOOD, "another good one").await.unwrap();
        assert!(!is_in(office, &two).await && sign_in(office, "dev@a.test", GOOD).await.is_err());
        let link = office.renew_link(&owner, &dev.id).await.unwrap();
        let three = sign_in(office, "dev@a.test", "another good one").await.unwrap();
        office.set_password(link.link.show(), GOOD, None).await.unwrap();
        assert!(!is_in(office, &three).await);
        let four = enter().await;
        let link = office.renew_link(&owner, &dev.id).await.unwrap();
        office.disable_person(&owner, &dev.id).await.unwrap();
        assert!(!is_in(office, &four).await);
        assert_eq!(sign_in(office, "dev@a.test", GOOD).await.unwrap_err().code, "sign_in_refused");
        assert_eq!(office.set_password(link.link.show(), GOOD, None).await.unwrap_err().code, "link_over");
        assert_eq!(office.renew_link(&owner, &dev.id).await.unwrap_err().code, "person_disabled");
        office.enable_person(&owner, &dev.id).await.unwrap();
        let five = enter().await;
        assert!(is_in(office, &five).await && !is_in(office, &four).await);
        // So many at a time; what is over is taken away.
        for _ in 0..50 {
            enter().await;
        }
        assert!(!is_in(office, &five).await);
        bench.pass(SESSION_LIFETIME);
        office.tidy_people().await.unwrap();
        let mut conn = office.store().read().await.unwrap();
        let left: i64 = sqlx::query_scalar("SELECT (SELECT COUNT(*) FROM session) + (SELECT COUNT(*) FROM link)")
            .fetch_one(&mut *conn)
            .await
            .unwrap();
        assert_eq!(left, 0);
    });
}

// R2.8: every call, with everybody of another account and of the operator.
#[test]
fn people_of_another_account_are_not_there() {
    on_both(async |bench| {
        let (_, bolt) = two_accounts(bench).await;
        let office = &bench.office;
        let by = person(bench, "ann@a.test", Role::Owner, Some("Acme")).await;
        let theirs = person(bench, "bob@b.test", Role::Owner, Some("Bolt")).await;
        person(bench, "bea@b.test", Role::Owner, Some("Bolt")).await;
        let operator = person(bench, "op@weir.test", Role::Operator, None).await;
        let session = sign_in(office, "bob@b.test", GOOD).await.unwrap();
        for called in
            [theirs.id.as_str(), "bob@b.test", operator.id.as_str(), "op@weir.test", "person_none", "no@b.test"]
        {
            for refusal in [
                office.person(&by, called).await.map(|_| ()),
                office.renew_link(&by, called).await.map(|_| ()),
                office.change_role(&by, called, Role::Viewer, None).await.map(|_| ()),
                office.disable_person(&by, called).await.map(|_| ()),
                office.enable_person(&by, called).await.map(|_| ()),
                office.remove_person(&by, called).await,
                office.sessions(&by, called, &Window::default()).await.map(|_| ()),
                office.end_session(&by, called, &session.session.id).await,
                office.sign_out_everywhere(&by, called).await,
                office.turn_off_totp(&by, called, None).await.map(|_| ()),
            ] {
                let refusal = refusal.unwrap_err();
                assert_eq!((refusal.kind, refusal.sentence), (Kind::NotFound, format!("There is no person {called}.")));
            }
        }
        assert!(is_in(office, &session).await);
        assert_eq!(office.end_session(&by, &by.id, &session.session.id).await.unwrap_err().kind, Kind::NotFound);
        for called in [bolt.id.as_str(), "Bolt", "Nobody"] {
            let listed = office.people(&by, Some(called), &Window::default()).await.map(|_| ());
            let invited = office.invite(&by, new("x@a.test", Role::Owner, Some(called))).await.map(|_| ());
            for refusal in [listed.unwrap_err(), invited.unwrap_err()] {
                assert_eq!(
                    (refusal.kind, refusal.sentence),
                    (Kind::NotFound, format!("There is no account {called}."))
                );
            }
        }
        let own = office.people(&by, None, &Window::default()).await.unwrap().items;
        assert_eq!(own.iter().map(|one| one.email.as_str()).collect::<Vec<_>>(), ["ann@a.test"]);
        let operators = office.people(&operator, None, &Window::default()).await.unwrap().items;
        assert_eq!(operators.iter().map(|one| one.email.as_str()).collect::<Vec<_>>(), ["op@weir.test"]);
        let page = office.people(&operator, Some("Bolt"), &Window { after: None, limit: Some(1) }).await.unwrap();
        let rest = office.people(&operator, Some("Bolt"), &Window { after: page.next, limit: Some(1) }).await.unwrap();
        assert_eq!(
            (page.items[0].email.as_str(), rest.items[0].email.as_str(), rest.next),
            ("bob@b.test", "bea@b.test", None)
        );
    });
}

/// The code of an authenticator app, from what it was told.
fn app(secret: &str, bench: &Bench) -> String {
    const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let bits: String = secret.chars().map(|letter| format!("{:05b}", LETTERS.find(letter).unwrap())).collect();
    let key: Vec<u8> =
        (0..bits.len() / 8).map(|at| u8::from_str_radix(&bits[at * 8..at * 8 + 8], 2).unwrap()).collect();
    let step = u64::try_from(bench.office.now().unix_seconds()).unwrap() / 30;
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &key), &step.to_be_bytes());
    let at = usize::from(tag.as_ref()[19] & 15);
    let cut = u32::from_be_bytes(tag.as_ref()[at..at + 4].try_into().unwrap()) & 0x7fff_ffff;
    format!("{:06}", cut % 1_000_000)
}

#[test]
fn a_code_is_asked_for_once_it_is_on_and_good_once() {
    on_both(async |bench| {
        two_accounts(bench).await;
        let office = &bench.office;
        let ann = person(bench, "ann@a.test", Role::Developer, Some("Acme")).await;
        let owner = person(bench, "own@a.test", Role::Owner, Some("Acme")).await;
        let with = async |code: Option<String>| {
            office.sign_in(SignIn { code, ..attempt("ann@a.test", GOOD, HERE) }).await.map_err(|refusal| refusal.code)
        };
        assert_eq!(office.confirm_totp(&ann, "000000").await.unwrap_err().code, "totp_not_enrolled");
        let enrolled = office.enrol_totp(&ann).await.unwrap();
        let secret = enrolled.secret.show();
        assert!(enrolled.url.show().contains(&format!("weir.test:ann%40a.test?secret={secret}&")));
        assert!(with(None).await.is_ok(), "not on yet");
        bench.pass(Duration::from_secs(30));
        assert_eq!(office.confirm_totp(&ann, "no code").await.unwrap_err().code, "code_wrong");
        assert!(office.confirm_totp(&ann, &app(secret, bench)).await.unwrap().has_totp);
        assert_eq!(office.enrol_totp(&ann).await.unwrap_err().code, "totp_on");
        assert_eq!(with(None).await.unwrap_err(), "code_needed");
        assert_eq!(with(Some(app(secret, bench))).await.unwrap_err(), "code_wrong", "it confirmed already");
        bench.pass(Duration::from_secs(30));
        let code = app(secret, bench);
        assert!(with(Some(code.clone())).await.is_ok());
        assert_eq!(with(Some(code.clone())).await.unwrap_err(), "code_wrong", "a code is good once");
        // The right code is no way around a wrong password, and does not say that it was right.
        bench.pass(Duration::from_secs(30));
        let wrong = SignIn { code: Some(app(secret, bench)), ..attempt("ann@a.test", "wrong password", HERE) };
        assert_eq!(office.sign_in(wrong).await.unwrap_err().code, "sign_in_refused");
        // A new password does not turn it off: whoever makes links does not get in by one.
        let link = office.renew_link(&owner, &ann.id).await.unwrap();
        office.set_password(link.link.show(), GOOD, None).await.unwrap();
        assert_eq!(with(None).await.unwrap_err(), "code_needed");
        // Off: with a code, or by the operator.
        assert_eq!(office.turn_off_totp(&owner, &ann.id, None).await.unwrap_err().code, "operator_only");
        assert_eq!(office.turn_off_totp(&ann, &ann.id, None).await.unwrap_err().code, "code_wrong");
        bench.pass(Duration::from_secs(60));
        assert!(!office.turn_off_totp(&ann, &ann.id, Some(&app(secret, bench))).await.unwrap().has_totp);
        assert!(with(None).await.is_ok());
        let again = office.enrol_totp(&ann).await.unwrap();
        bench.pass(Duration::from_secs(30));
        office.confirm_totp(&ann, &app(again.secret.show(), bench)).await.unwrap();
        office.turn_off_totp(&bench.by, "ann@a.test", None).await.unwrap();
        assert!(with(None).await.is_ok());
        let log = actions(bench, &ann.id).await;
        assert_eq!(log.iter().filter(|action| *action == "totp-off").count(), 2);
        assert_eq!(log.iter().filter(|action| *action == "totp-on").count(), 2);
        // The secret lies sealed.
        let mut conn = office.store().read().await.unwrap();
        let none: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM person WHERE totp IS NOT NULL")
            .fetch_one(&mut *conn)
            .await
            .unwrap();
        assert_eq!(none, 0);
    });
}

// G5: brute force on sign-in is slowed, audited, and holds up nobody else.
#[test]
fn guessing_is_slowed_and_written_down_and_others_come_in() {
    on_both(async |bench| {
        two_accounts(bench).await;
        let office = &bench.office;
        let ann = person(bench, "ann@a.test", Role::Owner, Some("Acme")).await;
        person(bench, "bob@b.test", Role::Owner, Some("Bolt")).await;
        sign_in(office, "ann@a.test", GOOD).await.unwrap();
        let guess = async |email: &str| {
            office.sign_in(attempt(email, "a wrong password", ELSEWHERE)).await.map(|_| ()).unwrap_err()
        };
        // Known or not: the same words.
        let (known, unknown) = (guess("ann@a.test").await, guess("nobody@a.test").await);
        assert_eq!(known, unknown);
        assert_eq!((known.kind, known.code), (Kind::Unknown, "sign_in_refused"));
        for _ in 0..4 {
            assert_eq!(guess("ann@a.test").await, guess("nobody@a.test").await);
        }
        let (known, unknown) = (guess("ann@a.test").await, guess("nobody@a.test").await);
        assert_eq!(known, unknown);
        assert_eq!(
            (known.kind, known.code, known.mend.as_str()),
            (Kind::TooOften, "too_many_failures", "Try again in 1 second.")
        );
        // Not even with the right password, from there; where she was right before, she comes in, and so does another from there.
        let held_up = office.sign_in(attempt("ann@a.test", GOOD, ELSEWHERE)).await.unwrap_err();
        assert_eq!(held_up.code, "too_many_failures");
        assert!(sign_in(office, "ann@a.test", GOOD).await.is_ok());
        assert!(office.sign_in(attempt("bob@b.test", GOOD, ELSEWHERE)).await.is_ok());
        // After the wait, it is open again, once.
        bench.pass(Duration::from_secs(1));
        assert_eq!(guess("ann@a.test").await.code, "sign_in_refused");
        assert_eq!(guess("ann@a.test").await.mend, "Try again in 2 seconds.");
        // Whole lists of addresses are slowed by where they come from.
        let codes: Vec<&str> = {
            let mut codes = Vec::new();
            for at in 0..15 {
                codes.push(guess(&format!("n{at}@a.test")).await.code);
            }
            codes
        };
        assert_eq!(codes.last(), Some(&"too_many_failures"));
        // R7.6: one line a person and minute, however many guesses.
        office.tidy_people().await.unwrap();
        assert!(!actions(bench, &ann.id).await.contains(&"sign-in-failed".to_owned()), "the minute is not over");
        bench.pass(Duration::from_secs(60));
        office.tidy_people().await.unwrap();
        office.tidy_people().await.unwrap();
        for (subject, times) in [(ann.id.as_str(), 6), ("unknown", 14)] {
            let log = office.audit(&bench.by, None, Some(subject), &Window::default()).await.unwrap().items;
            let failed: Vec<_> = log.iter().filter(|entry| entry.action == "sign-in-failed").collect();
            assert_eq!(failed.len(), 1);
            assert_eq!(failed[0].detail["times"], times, "{failed:?}");
            assert_eq!(failed[0].detail["from"][0], "198.51.100.7");
        }
        // Her account reads it.
        let log = office.audit(&ann, None, Some(&ann.id), &Window::default()).await.unwrap().items;
        assert!(log.iter().any(|entry| entry.action == "sign-in-failed"));
    });
}

// G5: also when all of them are under way at once.
#[test]
fn guesses_side_by_side_are_as_slow_as_one_after_another() {
    on_both(async |bench| {
        two_accounts(bench).await;
        person(bench, "ann@a.test", Role::Owner, Some("Acme")).await;
        let tries: Vec<_> = (0..20)
            .map(|at: u8| {
                let office = bench.office.clone();
                tokio::spawn(
                    async move { office.sign_in(attempt("ann@a.test", "a wrong password", [10, 0, 0, at])).await },
                )
            })
            .collect();
        let mut looked_at = 0;
        for one in tries {
            looked_at += usize::from(one.await.unwrap().unwrap_err().code == "sign_in_refused");
        }
        assert_eq!(looked_at, 5);
    });
}
