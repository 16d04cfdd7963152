//! Does mail that must not travel in clear stay here until it need not?

use crate::support::certificate::CertificateAuthority;
use crate::support::provider::Tls;
use crate::support::{FakeProvider, House, Manner, NameServer, Plan, Town, among_others, skip};
use aws_lc_rs::digest;
use net::dns::authority::Zone;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;

fn with(tls: Tls) -> Manner {
    Manner { tls, ..Manner::default() }
}

/// It waits for want of protection, and not a word of the message was said in clear.
fn waits_and_says_nothing_in_clear(house: &House, provider: &FakeProvider, id: &str) {
    house.wait_why(id, "tls-unavailable");
    house.retry(id);
    house.wait_why(id, "tls-unavailable");
    assert_eq!(provider.heard("MAIL"), 0, "{:?}", provider.commands());
    assert_eq!(provider.count(), 0);
}

// B12, R5.1
#[test]
fn tls_that_is_offered_is_used_whoever_vouches_for_it() {
    let _others = among_others();
    let town = Town::new();
    let certified = CertificateAuthority::new().for_names(&["somebody.else.test"]);
    let provider = town.provider(1, with(Tls::Works(certified.config)));
    let house = Plan::new(&town).delivery("tls", "\"opportunistic\"").open();
    let id = house.submit_to("bob@mail.test");
    let recipient = house.wait_state(&id, "delivered");
    assert!(provider.all()[0].tls);
    assert!(
        recipient["events"].as_array().unwrap().last().unwrap()["tls"].as_str().unwrap().contains("1.3"),
        "{recipient}"
    );
}

// B12: opportunistic means rather in clear than not at all.
#[test]
fn a_broken_handshake_is_followed_by_a_try_in_clear_where_nothing_was_promised() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, with(Tls::Broken));
    let house = Plan::new(&town).delivery("tls", "\"opportunistic\"").open();
    let id = house.submit_to("bob@mail.test");
    house.wait_state(&id, "delivered");
    assert!(!provider.all()[0].tls);
    assert_eq!(provider.heard("STARTTLS"), 1);
}

// B12
#[test]
fn where_tls_is_required_nothing_leaves_without_it() {
    let _others = among_others();
    for tls in [Tls::NotOffered, Tls::Broken] {
        let town = Town::new();
        let provider = town.provider(1, with(tls));
        let house = Plan::new(&town).delivery("tls", "\"required\"").open();
        let id = house.submit_to("bob@mail.test");
        waits_and_says_nothing_in_clear(&house, &provider, &id);
        // The remote mends itself, and it goes, protected.
        let certified = CertificateAuthority::new().for_names(&["mx.sink.test"]);
        provider.change(with(Tls::Works(certified.config)));
        house.retry(&id);
        house.wait_state(&id, "delivered");
        assert!(provider.all()[0].tls);
    }
}

// B12: one message may ask for it, and others are not held up by that.
#[test]
fn one_message_may_require_tls_where_others_do_not() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, with(Tls::NotOffered));
    let house = Plan::new(&town).delivery("tls", "\"opportunistic\"").open();
    let strict =
        house.submit(&json!({ "from": "ann@shop.test", "to": "bob@mail.test", "text": "x", "tls": "required" }));
    house.wait_why(&strict, "tls-unavailable");
    let easy = house.submit_to("cy@mail.test");
    house.wait_state(&easy, "delivered");
    house.wait_why(&strict, "tls-unavailable");
    assert!(provider.to("bob@mail.test").is_empty());
}

// B12: DANE. A certificate that the TLSA record does not vouch for gets nothing, not even in clear.
#[test]
fn a_certificate_that_dane_does_not_vouch_for_gets_nothing() {
    let _others = among_others();
    let town = Town::new();
    let authority = CertificateAuthority::new();
    let (right, wrong) = (authority.for_names(&["mx.mail.test"]), authority.for_names(&["mx.mail.test"]));
    let sum = digest::digest(&digest::SHA256, &right.der);
    let hex: String = sum.as_ref().iter().map(|octet| format!("{octet:02x}")).collect();
    let zone = format!(
        "mail.test MX 10 mx.mail.test\nmx.mail.test A {}\n_{}._tcp.mx.mail.test TLSA 3 0 1 {hex}",
        town.host(1),
        town.port()
    );
    let names = NameServer::start(Zone::parse(&zone).unwrap().validated());
    let provider = town.provider(1, with(Tls::Works(wrong.config)));
    let plan = Plan::new(&town).ask(names.address()).believe(names.address());
    let house = plan.delivery("tls", "\"opportunistic\"").delivery("dane", "true").open();
    let id = house.submit_to("bob@mail.test");
    waits_and_says_nothing_in_clear(&house, &provider, &id);
    // Not offered at all is no way around it.
    provider.change(with(Tls::NotOffered));
    house.retry(&id);
    waits_and_says_nothing_in_clear(&house, &provider, &id);
    provider.change(with(Tls::Works(right.config)));
    house.retry(&id);
    house.wait_state(&id, "delivered");
    assert!(provider.all()[0].tls);
}

// B12: MTA-STS in mode enforce. A certificate for another name gets nothing.
#[test]
fn a_certificate_with_a_wrong_name_gets_nothing_under_mta_sts() {
    let _others = among_others();
    let town = Town::new();
    let authority = CertificateAuthority::new();
    // RFC 8461 3.3: the policy is at the HTTPS port and nowhere else.
    let Ok(listener) = TcpListener::bind((town.host(50), 443)) else {
        return skip("port 443 cannot be listened on without root");
    };
    serve_policy(listener, authority.for_names(&["mta-sts.mail.test"]).config);
    let zone = format!(
        "mail.test MX 10 mx.mail.test\nmx.mail.test A {}\n_mta-sts.mail.test TXT \"v=STSv1; id=1;\"\nmta-sts.mail.test A {}",
        town.host(1),
        town.host(50)
    );
    let names = NameServer::of(&zone);
    let wrong = authority.for_names(&["other.mail.test"]);
    let provider = town.provider(1, with(Tls::Works(wrong.config)));
    let roots = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("roots-{}.pem", std::process::id()));
    std::fs::write(&roots, authority.pem()).unwrap();
    let plan = Plan::new(&town).ask(names.address()).delivery("tls", "\"opportunistic\"").delivery("mta_sts", "true");
    let house = plan.delivery("extra_roots", &format!("{:?}", roots.display().to_string())).open();
    let id = house.submit_to("bob@mail.test");
    waits_and_says_nothing_in_clear(&house, &provider, &id);
    provider.change(with(Tls::NotOffered));
    house.retry(&id);
    waits_and_says_nothing_in_clear(&house, &provider, &id);
    provider.change(with(Tls::Works(authority.for_names(&["mx.mail.test"]).config)));
    house.retry(&id);
    house.wait_state(&id, "delivered");
    assert!(provider.all()[0].tls);
    let _ = std::fs::remove_file(roots);
}

const POLICY: &str = "version: STSv1\r\nmode: enforce\r\nmx: mx.mail.test\r\nmax_age: 86400\r\n";

/// Answers every request with the policy, until the process ends.
fn serve_policy(listener: TcpListener, config: Arc<ServerConfig>) {
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = ServerConnection::new(config.clone()).unwrap();
            let mut stream = StreamOwned::new(connection, stream);
            let mut request = [0; 4096];
            let length = POLICY.len();
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close";
            // Whoever goes away early has no policy.
            let _ = stream.read(&mut request);
            let _ = stream.write_all(format!("{head}\r\nContent-Length: {length}\r\n\r\n{POLICY}").as_bytes());
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
}
