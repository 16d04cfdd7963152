//! An account sends from domains that it has shown to be its own, signed with their own keys, on both engines.
#![allow(clippy::unwrap_used)] // A test may stop at the first surprise.

mod support;

use control::dkim::{Algorithm, Key, KeyState};
use control::domain::{Domain, DomainChange, NewDomain, Purpose, Record, RecordState, State};
use control::setting::Setting;
use control::{Actor, Kind, Refusal, Window};
use engine::id::AccountId;
use engine::snapshot::{Plan, SendingDomain};
use mail::dkim::{KeyKind, Signer, generate};
use net::dns::authority::Authority;
use std::sync::Arc;
use std::time::Duration;
use support::live_dns::{LiveDns, Published};
use support::{Bench, on_both, on_both_with};

const HOUR: Duration = Duration::from_secs(3_600);
const NAME: &str = "acme.example";

async fn accounts(bench: &Bench) {
    bench.region().await;
    for name in ["acme", "other"] {
        bench.account(name, Plan::Standard).await;
    }
}

/// A credential of this account, for everything.
async fn key_of(bench: &Bench, account: &str) -> Actor {
    bench.key_of(&bench.office.account(&bench.by, account).await.unwrap().id)
}

fn new(name: &str) -> NewDomain {
    NewDomain { name: name.into(), ..NewDomain::default() }
}

/// A bench with the account `acme`, its domain, and a DNS to publish in.
#[allow(clippy::needless_pass_by_value)] // It is written in the call.
fn with_domain<F: AsyncFn(&Scene)>(new: &NewDomain, test: F) {
    let dns = Arc::new(LiveDns::default());
    on_both_with(dns.clone(), async |bench| {
        let server = dns.serve().await;
        accounts(bench).await;
        bench.office.create_domain(&bench.by, "acme", new.clone()).await.unwrap();
        test(&Scene { bench, server }).await;
    });
}

struct Scene<'a> {
    bench: &'a Bench,
    server: Authority,
}

impl Scene<'_> {
    async fn records(&self) -> Vec<Record> {
        self.bench.office.domain_records(&self.bench.by, "acme", NAME).await.unwrap()
    }

    async fn record(&self, purpose: Purpose) -> Record {
        self.records().await.into_iter().find(|record| record.purpose == purpose).unwrap()
    }

    async fn keys(&self) -> Vec<Key> {
        self.bench.office.dkim_keys(&self.bench.by, "acme", NAME).await.unwrap()
    }

    async fn key(&self, algorithm: Algorithm, state: KeyState) -> Key {
        self.keys().await.into_iter().find(|key| (key.algorithm, key.state) == (algorithm, state)).unwrap()
    }

    /// Publishes what is asked for, as far as it is chosen.
    async fn publish(&self, chosen: impl Fn(&Record) -> bool) -> Published {
        let mut published =
            Published::default().with("weir.test A 203.0.113.1").txt("weir.test", "v=spf1 ip4:203.0.113.1 -all");
        for record in self.records().await.iter().filter(|record| chosen(record)) {
            published = match record.kind.as_str() {
                "TXT" => published.txt(&record.name, &record.value),
                kind => published.with(&format!("{} {kind} {}", record.name, record.value)),
            };
        }
        published
    }

    async fn check(&self) -> Domain {
        // What was looked at in the last seconds is not looked at again.
        self.bench.pass(Duration::from_secs(10));
        self.bench.office.check_domain(&self.bench.by, "acme", NAME).await.unwrap()
    }

    async fn sending(&self) -> Option<Arc<SendingDomain>> {
        let all = self.bench.office.sending_domains(None).await.unwrap();
        let account = AccountId::new(&self.bench.office.account(&self.bench.by, "acme").await.unwrap().id);
        let one = self.bench.office.sending_domains(Some(account.as_str())).await.unwrap();
        assert!(one.get(&account) == all.get(&account) && one.len() <= 1, "{one:?}");
        one.get(&account)?.values().next().cloned()
    }

    async fn signs_with(&self) -> Vec<String> {
        self.sending()
            .await
            .map(|domain| domain.dkim.iter().map(|key| key.selector.clone()).collect())
            .unwrap_or_default()
    }

    async fn log(&self) -> Vec<String> {
        let domain = self.bench.office.domain(&self.bench.by, "acme", NAME).await.unwrap();
        let log = self.bench.office.audit(&self.bench.by, None, Some(&domain.id), &Window::default()).await.unwrap();
        log.items.into_iter().rev().map(|entry| entry.action).collect()
    }
}

fn is_ownership(record: &Record) -> bool {
    record.purpose == Purpose::Ownership
}

fn is_dkim(record: &Record) -> bool {
    record.purpose == Purpose::Dkim
}

fn refused<T>(result: Result<T, Refusal>) -> (Kind, &'static str) {
    result.map(|_| ()).map_err(|refusal| (refusal.kind, refusal.code)).unwrap_err()
}

#[test]
fn a_domain_is_claimed_shown_changed_and_deleted_and_every_step_is_written_down() {
    with_domain(&new("Acme.Example."), async |scene| {
        let (office, by) = (&scene.bench.office, &scene.bench.by);
        let domain = office.domain(by, "acme", NAME).await.unwrap();
        assert_eq!(office.domain(by, "acme", &domain.id).await.unwrap(), domain);
        assert_eq!((domain.state(), domain.name.as_str()), (State::Pending, NAME));
        // Two keys of its own, which sign nothing yet.
        let keys = scene.keys().await;
        let kinds: Vec<_> = keys.iter().map(|key| (key.algorithm, key.state, &key.selector[..6])).collect();
        assert_eq!(kinds, [(Algorithm::Rsa, KeyState::Next, "w2611r"), (Algorithm::Ed25519, KeyState::Next, "w2611e")]);
        let asked: Vec<_> = scene.records().await.into_iter().map(|record| (record.purpose, record.name)).collect();
        let of_key = |key: &Key| (Purpose::Dkim, format!("{}._domainkey.{NAME}", key.selector));
        assert_eq!(
            asked,
            [
                (Purpose::Ownership, format!("_weir.{NAME}")),
                of_key(&keys[0]),
                of_key(&keys[1]),
                (Purpose::Spf, NAME.to_owned()),
                (Purpose::Dmarc, format!("_dmarc.{NAME}")),
            ]
        );
        assert_eq!(refused(office.create_domain(by, "acme", new(NAME)).await), (Kind::Conflict, "domain_taken"));
        let change = DomainChange {
            mail_from: Some(Some("bounces.acme.example".into())),
            tracking_host: Some(Some("links.acme.example".into())),
            revision: Some(1),
        };
        let changed = office.change_domain(by, "acme", NAME, change.clone()).await.unwrap();
        assert_eq!((changed.revision, changed.tracking_host.unwrap().as_str()), (2, "links.acme.example"));
        assert_eq!(refused(office.change_domain(by, "acme", NAME, change).await), (Kind::Changed, "changed_meanwhile"));
        let asked: Vec<_> = scene.records().await.into_iter().map(|record| (record.kind, record.name)).collect();
        for wanted in [("MX", "bounces"), ("TXT", "bounces"), ("CNAME", "links")] {
            let wanted = (wanted.0.to_owned(), format!("{}.{NAME}", wanted.1));
            assert!(asked.contains(&wanted), "{wanted:?} in {asked:?}");
        }
        for (mail_from, tracking_host, field) in [
            ("acme.example", "links.acme.example", "mail_from"),
            ("notacme.example", "links.acme.example", "mail_from"),
            ("bounces.acme.example", "links.other.example", "tracking_host"),
            ("same.acme.example", "same.acme.example", "tracking_host"),
        ] {
            let change = DomainChange {
                mail_from: Some(Some(mail_from.into())),
                tracking_host: Some(Some(tracking_host.into())),
                revision: None,
            };
            let refusal = office.change_domain(by, "acme", NAME, change).await.unwrap_err();
            assert_eq!(refusal.field.as_deref(), Some(field), "{mail_from} {tracking_host}: {refusal:?}");
        }
        assert_eq!(scene.log().await, ["created", "changed"]);
        office.delete_domain(by, "acme", NAME).await.unwrap();
        assert_eq!(refused(office.domain(by, "acme", NAME).await), (Kind::NotFound, "not_found"));
        // It may come back, as another.
        let again = office.create_domain(by, "acme", new(NAME)).await.unwrap();
        assert!(again.id != domain.id && again.token != domain.token);
    });
}

#[test]
fn a_name_that_nobody_can_own_is_refused_in_words() {
    on_both(async |bench| {
        accounts(bench).await;
        for (name, words) in [
            ("localhost", "single label"),
            ("com", "single label"),
            ("co.uk", "public suffix"),
            ("a..b", "is no domain"),
            ("203.0.113.7", "is no domain"),
            ("", "is no domain"),
        ] {
            let refusal = bench.office.create_domain(&bench.by, "acme", new(name)).await.unwrap_err();
            assert_eq!(refusal.field.as_deref(), Some("name"));
            assert!(refusal.sentence.contains(words), "{name}: {}", refusal.sentence);
        }
        bench.office.set_setting(&bench.by, Setting::DomainsMax, 1).await.unwrap();
        bench.office.create_domain(&bench.by, "acme", new("acme.co.uk")).await.unwrap();
        let full = bench.office.create_domain(&bench.by, "acme", new("acme.example")).await;
        assert_eq!(refused(full), (Kind::Conflict, "domains_max"));
    });
}

// R2.8
#[test]
fn another_accounts_domains_are_as_unknown_as_none() {
    on_both(async |bench| {
        accounts(bench).await;
        let office = &bench.office;
        let (acme, other) = (key_of(bench, "acme").await, key_of(bench, "other").await);
        let own = office.create_domain(&acme, "acme", new(NAME)).await.unwrap();
        // Both may claim the name; neither learns of the other.
        let claimed = office.create_domain(&other, "other", new(NAME)).await.unwrap();
        assert_ne!(own.token, claimed.token);
        let selectors = |keys: Vec<Key>| keys.into_iter().map(|key| key.selector).collect::<Vec<_>>();
        assert_ne!(
            selectors(office.dkim_keys(&acme, "acme", NAME).await.unwrap()),
            selectors(office.dkim_keys(&other, "other", NAME).await.unwrap()),
        );
        assert_eq!(office.domains(&other, "other", &Window::default()).await.unwrap().items, [claimed]);
        // By its id within the own account; and within the other account, by its name or id.
        for account in ["other", "acme", &own.account] {
            let id = own.id.as_str();
            for refusal in [
                refused(office.domain(&other, account, id).await),
                refused(office.domain_records(&other, account, id).await),
                refused(office.dkim_keys(&other, account, id).await),
                refused(office.check_domain(&other, account, id).await),
                refused(office.change_domain(&other, account, id, DomainChange::default()).await),
                refused(office.rotate_dkim(&other, account, id).await),
                refused(office.bring_dkim_key(&other, account, id, "s", "pem").await),
                refused(office.remove_dkim_key(&other, account, id, "s").await),
                refused(office.delete_domain(&other, account, id).await),
            ] {
                assert_eq!(refusal, (Kind::NotFound, "not_found"), "{account}");
            }
        }
        let asked_by_name = office.domains(&other, "acme", &Window::default()).await.unwrap_err();
        assert!(!asked_by_name.sentence.contains(&own.account), "{}", asked_by_name.sentence);
        assert_eq!(
            refused(office.create_domain(&other, "acme", new("b.example")).await),
            (Kind::NotFound, "not_found")
        );
        let vouched = office.verify_domain_without_dns(&acme, "acme", NAME).await;
        assert_eq!(refused(vouched), (Kind::Forbidden, "operator_only"));
        assert_eq!(office.domain(&acme, "acme", &own.id).await.unwrap(), own);
    });
}

// R1.4
#[test]
fn a_domain_that_publishes_all_sends_and_is_signed_with_its_own_keys() {
    let wanted = NewDomain {
        mail_from: Some("bounces.acme.example".into()),
        tracking_host: Some("links.acme.example".into()),
        ..new(NAME)
    };
    with_domain(&wanted, async |scene| {
        assert_eq!(scene.sending().await, None);
        scene.publish(|_| true).await.at(&scene.server);
        let domain = scene.check().await;
        for record in scene.records().await {
            assert_eq!(record.state, RecordState::Good, "{record:?}");
        }
        assert_eq!(domain.state(), State::Verified);
        assert!(domain.mail_from.as_ref().unwrap().is_good);
        let sending = scene.sending().await.unwrap();
        assert_eq!(sending.name.as_str(), NAME);
        assert_eq!(sending.return_path.as_ref().unwrap().as_str(), "bounces.acme.example");
        // RSA first; and what is handed out is the key whose record is published.
        let keys = scene.keys().await;
        for (given, key) in sending.dkim.iter().zip([Algorithm::Rsa, Algorithm::Ed25519]) {
            let key = keys.iter().find(|own| own.algorithm == key).unwrap();
            assert_eq!((&given.selector, key.state), (&key.selector, KeyState::Active));
            let pem = String::from_utf8(given.pem.to_vec()).unwrap();
            let signer = Signer::from_pem(&domain.name, &given.selector, &pem).unwrap();
            assert_eq!(signer.record().unwrap(), key.record);
        }
        assert_eq!(sending.dkim.len(), 2);
        assert_eq!(scene.log().await, ["created", "dkim-activated", "dkim-activated", "verified", "mail-from-good"]);
        // A check that finds nothing new tells nothing new, and the next is a day away.
        let checked = scene.check().await;
        assert_eq!(checked.check_at.since(checked.checked_at.unwrap()), 24 * HOUR);
        assert_eq!(scene.log().await.len(), 5);
        // A return path whose records are wrong is not used; one that cannot be looked up is.
        let without_mx = scene.publish(|record| record.purpose != Purpose::ReturnPath).await;
        without_mx.clone().failing("bounces.acme.example").at(&scene.server);
        scene.check().await;
        assert!(scene.sending().await.unwrap().return_path.is_some());
        without_mx.at(&scene.server);
        assert_eq!(scene.check().await.state(), State::Verified);
        assert_eq!(scene.sending().await.unwrap().return_path, None);
        assert_eq!(scene.log().await.last().unwrap(), "mail-from-failed");
    });
}

// R1.4
#[test]
fn what_is_missing_or_wrong_is_told_in_words_and_sends_nothing() {
    with_domain(&new(NAME), async |scene| {
        let must_wait = async |published: Published, purpose, state, code: &str| {
            published.at(&scene.server);
            assert_eq!(scene.check().await.state(), State::Pending, "{code}");
            let record = scene.record(purpose).await;
            assert_eq!(record.state, state, "{record:?}");
            let codes: Vec<&str> = record.problems.iter().map(|problem| problem.code.as_str()).collect();
            assert!(codes.contains(&code), "{codes:?}");
            assert!(record.problems.iter().all(|problem| problem.words.len() > 20), "{record:?}");
            assert_eq!(scene.sending().await, None, "{code}");
        };
        let token = scene.publish(is_ownership).await;
        must_wait(Published::default(), Purpose::Ownership, RecordState::Missing, "no-record").await;
        // The token alone shows whose the domain is, but leaves its mail unsigned.
        must_wait(token.clone(), Purpose::Dkim, RecordState::Missing, "no-record").await;
        assert_eq!(scene.record(Purpose::Ownership).await.state, RecordState::Good);
        let name = scene.record(Purpose::Dkim).await.name;
        let other = generate(KeyKind::Rsa2048).unwrap().record;
        must_wait(token.clone().txt(&name, &other), Purpose::Dkim, RecordState::Wrong, "other-key").await;
        let value = scene.record(Purpose::Dkim).await.value;
        let twice = token.clone().txt(&format!("{name}.{NAME}"), &value);
        must_wait(twice, Purpose::Dkim, RecordState::Missing, "name-twice").await;
        let failing = token.clone().failing(&name);
        must_wait(failing, Purpose::Dkim, RecordState::NotCheckableNow, "later").await;
        let stranger = Published::default().txt("_weir.acme.example", "weir-verification=something-else");
        must_wait(stranger, Purpose::Ownership, RecordState::Wrong, "other-text").await;
        // The record of the other account that claims the name shows nothing for this one.
        let office = &scene.bench.office;
        office.create_domain(&scene.bench.by, "other", new(NAME)).await.unwrap();
        let mut theirs = Published::default();
        for record in office.domain_records(&scene.bench.by, "other", NAME).await.unwrap() {
            theirs = if record.kind == "TXT" { theirs.txt(&record.name, &record.value) } else { theirs };
        }
        must_wait(theirs.clone(), Purpose::Ownership, RecordState::Wrong, "other-text").await;
        let checked = office.check_domain(&scene.bench.by, "other", NAME).await.unwrap();
        assert_eq!(checked.state(), State::Verified);
        // A key made here, published, is proof and key in one.
        token.txt(&name, &value).at(&scene.server);
        assert_eq!(scene.check().await.state(), State::Verified);
        assert_eq!(scene.signs_with().await, [name.split('.').next().unwrap()]);
    });
}

#[test]
fn a_made_key_is_proof_and_a_brought_one_is_not() {
    with_domain(&new(NAME), async |scene| {
        let (office, by) = (&scene.bench.office, &scene.bench.by);
        let own = generate(KeyKind::Rsa2048).unwrap();
        office.bring_dkim_key(by, "acme", NAME, "own", &own.private_pem).await.unwrap();
        let again = office.bring_dkim_key(by, "acme", NAME, "OWN", &own.private_pem).await;
        assert_eq!(refused(again), (Kind::Conflict, "selector_taken"));
        let brought = Published::default().txt("own._domainkey.acme.example", &own.record);
        brought.clone().at(&scene.server);
        assert_eq!(scene.check().await.state(), State::Pending);
        let token = scene.record(Purpose::Ownership).await;
        brought.txt(&token.name, &token.value).at(&scene.server);
        assert_eq!(scene.check().await.state(), State::Verified);
        assert_eq!(scene.signs_with().await, ["own"]);
        assert_eq!(refused(office.remove_dkim_key(by, "acme", NAME, "own").await), (Kind::Conflict, "key_in_use"));
        // The made one takes over when it is published; then the brought one may go.
        let made = scene.key(Algorithm::Rsa, KeyState::Next).await.selector;
        scene.publish(|record| record.name.starts_with(&made)).await.at(&scene.server);
        scene.check().await;
        assert_eq!(scene.signs_with().await, [made]);
        office.remove_dkim_key(by, "acme", NAME, "own").await.unwrap();
        assert_eq!(scene.keys().await.len(), 2);
        // No more wait than a check can look for.
        for number in 0..7 {
            office.bring_dkim_key(by, "acme", NAME, &format!("s{number}"), &own.private_pem).await.unwrap();
        }
        let full = office.bring_dkim_key(by, "acme", NAME, "s9", &own.private_pem).await;
        assert_eq!(refused(full), (Kind::Conflict, "keys_max"));
    });
}

#[test]
fn a_domain_is_lost_when_every_answer_of_72_hours_lacks_the_proof() {
    with_domain(&new(NAME), async |scene| {
        let all = scene.publish(|_| true).await;
        all.clone().at(&scene.server);
        assert_eq!(scene.check().await.state(), State::Verified);
        // One of the proofs is enough.
        scene.publish(is_dkim).await.at(&scene.server);
        assert_eq!(scene.check().await.state(), State::Verified);
        let names: Vec<String> = scene.records().await.into_iter().map(|record| record.name).collect();
        let failing = names.iter().fold(Published::default(), |zone, name| zone.failing(name));
        // No answer, for however long, says nothing.
        failing.clone().at(&scene.server);
        for _ in 0..10 {
            scene.bench.pass(24 * HOUR);
            assert_eq!(scene.check().await.state(), State::Verified);
        }
        Published::default().at(&scene.server);
        let losing = scene.check().await;
        assert_eq!(losing.state().code(), "losing");
        assert!(losing.words().contains("not published any more"), "{}", losing.words());
        assert_eq!(losing.check_at.since(losing.checked_at.unwrap()), 4 * HOUR);
        assert!(scene.sending().await.is_some());
        scene.bench.pass(71 * HOUR);
        failing.at(&scene.server);
        assert_eq!(scene.check().await.state(), State::Verified);
        Published::default().at(&scene.server);
        for _ in 0..18 {
            assert_eq!(scene.check().await.state().code(), "losing");
            scene.bench.pass(4 * HOUR);
        }
        let lost = scene.check().await;
        assert_eq!(lost.state().code(), "lost");
        assert!(lost.words().contains("72 hours"), "{}", lost.words());
        assert_eq!(scene.sending().await, None);
        // With both gone and only the token back, there is nothing to sign with.
        scene.publish(is_ownership).await.at(&scene.server);
        assert_eq!(scene.check().await.state().code(), "lost");
        all.at(&scene.server);
        assert_eq!(scene.check().await.state(), State::Verified);
        assert!(scene.sending().await.is_some());
        let log = scene.log().await;
        let of_proof = ["verified", "proof-gone", "proof-back", "lost"];
        let told: Vec<&str> = log.iter().map(String::as_str).filter(|action| of_proof.contains(action)).collect();
        assert_eq!(told, ["verified", "proof-gone", "proof-back", "proof-gone", "lost", "verified"]);
    });
}

#[test]
fn what_the_operator_vouches_for_sends_without_dns_and_stays() {
    with_domain(&new(NAME), async |scene| {
        let (office, by) = (&scene.bench.office, &scene.bench.by);
        let domain = office.verify_domain_without_dns(by, "acme", NAME).await.unwrap();
        assert_eq!(domain.state(), State::Verified);
        assert!(domain.words().contains("by the operator"), "{}", domain.words());
        let next: Vec<String> = scene.keys().await.into_iter().map(|key| key.selector).collect();
        assert_eq!(scene.signs_with().await, next);
        for _ in 0..5 {
            scene.bench.pass(24 * HOUR);
            assert_eq!(scene.check().await.state(), State::Verified);
        }
        assert_eq!(scene.signs_with().await, next);
        assert_eq!(refused(office.remove_dkim_key(by, "acme", NAME, &next[0]).await), (Kind::Conflict, "key_in_use"));
        // From the first key on that is published, only published ones sign.
        let published = scene.key(Algorithm::Ed25519, KeyState::Next).await.selector;
        scene.publish(|record| record.name.starts_with(&published)).await.at(&scene.server);
        scene.check().await;
        assert_eq!(scene.signs_with().await, [published]);
        assert_eq!(scene.log().await, ["created", "verified", "dkim-activated"]);
    });
}

#[test]
fn new_keys_sign_when_they_are_published_and_not_before() {
    with_domain(&new(NAME), async |scene| {
        let (office, by) = (&scene.bench.office, &scene.bench.by);
        let waits = office.rotate_dkim(by, "acme", NAME).await;
        assert_eq!(refused(waits), (Kind::Conflict, "rotation_under_way"));
        let before = scene.publish(|_| true).await;
        before.clone().at(&scene.server);
        scene.check().await;
        let old = scene.signs_with().await;
        let fresh = office.rotate_dkim(by, "acme", NAME).await.unwrap();
        assert_eq!(fresh.len(), 2);
        let asked = scene.record_of(&fresh[0]).await;
        assert!(asked.note.unwrap().contains(&old[0]) && !asked.required);
        // Unpublished, in doubt, or wrongly published: the old ones go on.
        for published in [
            before.clone(),
            before.clone().failing(&scene.record_of(&fresh[0]).await.name),
            before.clone().txt(&scene.record_of(&fresh[0]).await.name, "v=DKIM1; k=rsa; p="),
        ] {
            published.at(&scene.server);
            scene.check().await;
            assert_eq!(scene.signs_with().await, old);
        }
        // Each kind by itself.
        let rsa = scene.record_of(&fresh[0]).await;
        before.clone().txt(&rsa.name, &rsa.value).at(&scene.server);
        let at = scene.check().await.checked_at.unwrap();
        assert_eq!(scene.signs_with().await, [fresh[0].selector.clone(), old[1].clone()]);
        let retired = scene.record(Purpose::DkimRetired).await;
        assert!(retired.name.starts_with(&old[0]), "{retired:?}");
        assert!(retired.note.unwrap().contains(&(at + 7 * 24 * HOUR).to_string()));
        scene.publish(|_| true).await.at(&scene.server);
        scene.check().await;
        assert_eq!(scene.signs_with().await, [fresh[0].selector.clone(), fresh[1].selector.clone()]);
        // After seven days the records may go, and the private keys are gone.
        assert_eq!(sealed(scene.bench).await, 4);
        scene.bench.days(8);
        scene.check().await;
        assert!(scene.record(Purpose::DkimRetired).await.note.unwrap().contains("can be taken down"));
        assert_eq!(sealed(scene.bench).await, 2);
        assert_eq!(scene.signs_with().await, [fresh[0].selector.clone(), fresh[1].selector.clone()]);
    });
}

impl Scene<'_> {
    async fn record_of(&self, key: &Key) -> Record {
        self.records().await.into_iter().find(|record| record.name.starts_with(&key.selector)).unwrap()
    }
}

/// How many private keys there are.
async fn sealed(bench: &Bench) -> i64 {
    let mut conn = bench.office.store().read().await.unwrap();
    sqlx::query_scalar("SELECT COUNT(*) FROM dkim_key WHERE sealed IS NOT NULL").fetch_one(&mut *conn).await.unwrap()
}

#[test]
fn old_keys_get_successors_by_themselves_that_wait_to_be_published() {
    with_domain(&new(NAME), async |scene| {
        scene.publish(|_| true).await.at(&scene.server);
        scene.check().await;
        let old = scene.signs_with().await;
        let (office, by) = (&scene.bench.office, &scene.bench.by);
        scene.bench.days(200);
        office.set_setting(by, Setting::DkimRotationDays, 0).await.unwrap();
        scene.check().await;
        assert_eq!(scene.keys().await.len(), 2);
        office.set_setting(by, Setting::DkimRotationDays, 180).await.unwrap();
        scene.check().await;
        let next = scene.key(Algorithm::Rsa, KeyState::Next).await;
        assert_eq!(&next.selector[..6], "w2705r");
        scene.check().await;
        scene.bench.days(200);
        scene.check().await;
        assert_eq!(scene.keys().await.len(), 4);
        assert_eq!(scene.signs_with().await, old);
        assert_eq!(scene.log().await.last().unwrap(), "dkim-prepared");
        scene.publish(|_| true).await.at(&scene.server);
        scene.check().await;
        assert_eq!(scene.signs_with().await[0], next.selector);
    });
}

#[test]
fn domains_are_looked_at_when_it_is_time_and_once() {
    with_domain(&new(NAME), async |scene| {
        let (office, by) = (&scene.bench.office, &scene.bench.by);
        for name in ["b.example", "c.example"] {
            office.create_domain(by, "acme", new(name)).await.unwrap();
        }
        scene.publish(|_| true).await.at(&scene.server);
        assert_eq!(office.check_due_domains(2).await.unwrap(), 2);
        // Two who look at once do not look at the same.
        let (one, other) = tokio::join!(office.check_due_domains(10), office.check_due_domains(10));
        assert_eq!(one.unwrap() + other.unwrap(), 1);
        assert_eq!(office.check_due_domains(10).await.unwrap(), 0);
        assert_eq!(office.domain(by, "acme", NAME).await.unwrap().state(), State::Verified);
        // What waits is looked at after a minute, what is verified after a day.
        scene.bench.pass(Duration::from_secs(60));
        assert_eq!(office.check_due_domains(10).await.unwrap(), 2);
        scene.bench.pass(24 * HOUR);
        assert_eq!(office.check_due_domains(10).await.unwrap(), 3);
        // What is asked for anew is looked at at once.
        let change = DomainChange { mail_from: Some(Some("m.acme.example".into())), ..DomainChange::default() };
        office.change_domain(by, "acme", NAME, change).await.unwrap();
        assert_eq!(office.check_due_domains(10).await.unwrap(), 1);
    });
}

#[test]
fn a_key_that_was_put_into_another_row_signs_nothing() {
    with_domain(&new(NAME), async |scene| {
        scene.publish(|_| true).await.at(&scene.server);
        scene.check().await;
        assert_eq!(scene.signs_with().await.len(), 2);
        let ed25519 = scene.key(Algorithm::Ed25519, KeyState::Active).await;
        let mut change = scene.bench.office.store().change().await.unwrap();
        let copy = "UPDATE dkim_key SET sealed = (SELECT sealed FROM dkim_key WHERE id = $1) WHERE id <> $1";
        sqlx::query(copy).bind(ed25519.id.clone()).execute(change.conn()).await.unwrap();
        change.commit().await.unwrap();
        assert_eq!(scene.signs_with().await, [ed25519.selector]);
    });
}
