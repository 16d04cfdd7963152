//! Is an account's relay its own, its password sealed, and the data plane told of it? (R4.2)
#![allow(clippy::unwrap_used)] // A test may stop at the first surprise.

mod support;

use control::pool::PoolChange;
use control::publish::Publisher;
use control::relay::{NewRelay, RelayChange};
use control::{Kind, Refusal, Window};
use engine::snapshot::{Leaving, Plan, RelaySecurity, Snapshot};
use support::{Bench, on_both};

fn new() -> NewRelay {
    NewRelay {
        name: "before".into(),
        host: "smtp.before.test".into(),
        port: 587,
        security: RelaySecurity::StartTls,
        user: Some("ann".into()),
        // As a file has it.
        password: Some("a secret\n".into()),
    }
}

fn said<T: std::fmt::Debug>(result: Result<T, Refusal>) -> (Kind, &'static str, Option<String>) {
    let refusal = result.unwrap_err();
    (refusal.kind, refusal.code, refusal.field)
}

/// Name and password of the only relay, as the data plane signs in with them.
async fn signs_in(bench: &Bench) -> Option<(String, String)> {
    let publisher = Publisher::load(bench.office.clone(), &Snapshot::empty()).await.unwrap();
    let snapshot = publisher.snapshot();
    assert_eq!(snapshot.check(), []);
    let relays: Vec<_> = snapshot.ips.values().filter_map(|ip| ip.relay()).collect();
    assert!(relays.len() <= 1, "{relays:?}");
    relays.first()?.sign_in.clone()
}

#[test]
fn a_relay_is_made_changed_used_and_forgotten() {
    on_both(async |bench| {
        bench.region().await;
        let acme = bench.account("acme", Plan::Standard).await;
        let (office, own) = (&bench.office, &bench.key_of(&acme));
        let made = office.create_relay(own, &acme, new()).await.unwrap();
        assert_eq!(signs_in(bench).await, Some(("ann".into(), "a secret".into())));
        let mut conn = office.store().read().await.unwrap();
        let kept: Vec<u8> =
            sqlx::Row::get(&sqlx::query("SELECT password FROM relay").fetch_one(&mut *conn).await.unwrap(), 0);
        assert!(!kept.windows(8).any(|octets| octets == b"a secret"), "it is sealed");
        drop(conn);
        let lines = office.audit(own, None, Some(&made.id), &Window::default()).await.unwrap();
        assert!(!format!("{lines:?}").contains("secret"), "{lines:?}");

        bench.pool(&acme, "news").await;
        let by = |leaving, relay: Option<Option<&str>>| PoolChange {
            leaving,
            relay: relay.map(|name| name.map(str::to_owned)),
            ..PoolChange::default()
        };
        let change = async |to| office.change_pool(own, &acme, "news", to).await;
        let leaving = (Kind::Invalid, "invalid", Some("leaving".to_owned()));
        assert_eq!(said(change(by(Some(Leaving::Relay), None)).await).2, leaving.2);
        assert_eq!(said(change(by(None, Some(Some("nobodys")))).await).0, Kind::NotFound);
        let pool = change(by(Some(Leaving::Relay), Some(Some("before")))).await.unwrap();
        assert_eq!((pool.relay.as_deref(), pool.relay_address), (Some(made.id.as_str()), Some(made.address)));
        assert_eq!(said(change(by(Some(Leaving::Never), None)).await).2, leaving.2);
        assert_eq!(said(office.delete_relay(own, &acme, "before").await).1, "relay_in_use");

        // Its password is good for the host and the name it was given for.
        let to = async |to: RelayChange| office.change_relay(own, &acme, "before", to).await;
        let elsewhere = RelayChange { host: Some("smtp.else.test".into()), ..RelayChange::default() };
        assert_eq!(said(to(elsewhere.clone()).await).2.as_deref(), Some("password"));
        to(RelayChange { password: Some("another".into()), ..elsewhere }).await.unwrap();
        assert_eq!(signs_in(bench).await, Some(("ann".into(), "another".into())));
        to(RelayChange { port: Some(2525), ..RelayChange::default() }).await.unwrap();
        assert_eq!(signs_in(bench).await, Some(("ann".into(), "another".into())));
        let clear = RelayChange { security: Some(RelaySecurity::Clear), ..RelayChange::default() };
        assert_eq!(said(to(clear.clone()).await).2.as_deref(), Some("security"));
        to(RelayChange { user: Some(None), ..clear }).await.unwrap();
        assert_eq!(signs_in(bench).await, None);

        change(by(Some(Leaving::Shared), Some(None))).await.unwrap();
        office.delete_relay(own, &acme, "before").await.unwrap();
        let again = office.create_relay(own, &acme, new()).await.unwrap();
        assert_ne!(again.address, made.address, "what was queued for the old one is not for this");
    });
}

#[test]
fn what_is_no_relay_is_told_by_its_field() {
    on_both(async |bench| {
        bench.region().await;
        let acme = bench.account("acme", Plan::Standard).await;
        let other = bench.account("other", Plan::Standard).await;
        let own = &bench.key_of(&acme);
        let wrong: [(&str, NewRelay); 8] = [
            ("host", NewRelay { host: "127.0.0.1".into(), ..new() }),
            ("host", NewRelay { host: "localhost".into(), ..new() }),
            ("host", NewRelay { host: "smtp.before.test\r\nX: y".into(), ..new() }),
            ("port", NewRelay { port: 6_379, ..new() }),
            ("name", NewRelay { name: "no blanks".into(), ..new() }),
            ("password", NewRelay { password: None, ..new() }),
            ("user", NewRelay { user: Some("ann\0bob".into()), ..new() }),
            ("security", NewRelay { security: RelaySecurity::Clear, ..new() }),
        ];
        for (field, wrong) in wrong {
            let refusal = said(bench.office.create_relay(own, &acme, wrong).await);
            assert_eq!((refusal.0, refusal.2.as_deref()), (Kind::Invalid, Some(field)));
        }
        bench.office.create_relay(own, &acme, new()).await.unwrap();
        assert_eq!(said(bench.office.create_relay(own, &acme, new()).await).1, "name_taken");
        // R2.8
        bench.pool(&other, "news").await;
        let theirs = PoolChange { relay: Some(Some("before".into())), ..PoolChange::default() };
        let key = bench.key_of(&other);
        assert_eq!(said(bench.office.change_pool(&key, &other, "news", theirs).await).0, Kind::NotFound);
        assert_eq!(said(bench.office.relay(&key, &acme, "before").await).0, Kind::NotFound);
        assert_eq!(said(bench.office.create_relay(&key, &acme, new()).await).0, Kind::NotFound);
    });
}
