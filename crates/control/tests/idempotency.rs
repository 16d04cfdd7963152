//! A call with a key is carried out once, on both engines.
#![allow(clippy::unwrap_used)] // A test may stop at the first surprise.

mod support;

use control::idempotency::{Begun, Once};
use control::store::{Location, Store};
use std::time::Duration;
use support::on_both;

fn once(holder: &str, key: &str, call: u8) -> Once {
    Once::new(holder.into(), key, &[b"POST", &[call]])
}

// R1.5
#[test]
fn the_first_answer_is_given_again_for_a_day_also_after_a_restart() {
    on_both(async |bench| {
        let (office, first) = (&bench.office, once("key a", "k", 1));
        assert_eq!(office.begin_once(&first).await.unwrap(), Begun::First);
        // While it is under way, and when it never came to an end.
        let refused = office.begin_once(&first).await.unwrap_err();
        assert_eq!(refused.code, "idempotency_in_progress");
        bench.pass(Duration::from_secs(301));
        assert_eq!(office.begin_once(&first).await.unwrap_err().code, "outcome_unknown");
        office.end_once(&first, 201, b"made").await.unwrap();
        let again = bench.again().await;
        assert_eq!(again.begin_once(&first).await.unwrap(), Begun::Again(b"made".to_vec()));
        again.store().close().await;
        let other = office.begin_once(&once("key a", "k", 2)).await.unwrap_err();
        assert_eq!((other.code, other.field.as_deref()), ("idempotency_key_reused", Some("Idempotency-Key")));
        // Another's key of the same name is another key.
        assert_eq!(office.begin_once(&once("key b", "k", 2)).await.unwrap(), Begun::First);
        bench.pass(Duration::from_secs(24 * 3_600 - 302));
        assert_eq!(office.begin_once(&first).await.unwrap(), Begun::Again(b"made".to_vec()));
        bench.pass(Duration::from_secs(1));
        assert_eq!(office.begin_once(&first).await.unwrap(), Begun::First);
        // What changed nothing is forgotten.
        office.withdraw_once(&first).await.unwrap();
        assert_eq!(office.begin_once(&once("key a", "k", 2)).await.unwrap(), Begun::First);
    });
}

// An answer may hold a secret that is shown once: who reads the database reads none of it.
#[test]
fn answers_lie_sealed() {
    on_both(async |bench| {
        let first = once("key a", "k", 1);
        bench.office.begin_once(&first).await.unwrap();
        bench.office.end_once(&first, 201, b"weir_key_0q1z2x").await.unwrap();
        let store = Store::open(&bench.location).await.unwrap();
        let mut conn = store.read().await.unwrap();
        let body: Vec<u8> = sqlx::query_scalar("SELECT body FROM idempotency").fetch_one(&mut *conn).await.unwrap();
        assert!(body.len() > 15 && !body.windows(6).any(|part| part == b"0q1z2x"));
        drop(conn);
        store.close().await;
        if let Location::Sqlite(path) = &bench.location {
            bench.office.store().close().await;
            let file = std::fs::read(path).unwrap();
            assert!(!file.windows(6).any(|part| part == b"0q1z2x"));
        }
    });
}
