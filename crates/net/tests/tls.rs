//! Who is believed over TLS, under which policy.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

mod support;

use std::time::Duration;

use aws_lc_rs::digest;
use mail::dane::{Tlsa, public_key_info};
use net::tls::{Acceptor, Connector, HandshakeFault, Negotiated, Policy, Roots, TlsFault};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use support::{Authority, Files, certificates};

const WITHIN: Duration = Duration::from_secs(20);

/// The handshake of both sides in memory, then one octet each way.
async fn meet(
    connector: &Connector,
    acceptor: &Acceptor,
    host: &str,
    policy: &Policy,
) -> Result<Negotiated, HandshakeFault> {
    let (near, far) = duplex(16_384);
    let serve = async {
        let mut stream = acceptor.accept(far, WITHIN).await?;
        stream.write_all(b"!").await.unwrap();
        // Ends when the other side closes.
        let _ = stream.read_to_end(&mut Vec::new()).await;
        Ok::<_, HandshakeFault>(())
    };
    let speak = async {
        let mut stream = connector.connect(near, host, policy, WITHIN).await?;
        let negotiated = Negotiated::of(stream.get_ref().1);
        assert_eq!(stream.read_u8().await.unwrap(), b'!');
        stream.shutdown().await.unwrap();
        Ok(negotiated)
    };
    let (_, outcome) = tokio::join!(serve, speak);
    outcome
}

fn connector(authority: &Authority) -> Connector {
    let roots = Roots::none().and_pem(authority.pem().as_bytes()).unwrap();
    Connector::new(roots).unwrap()
}

fn refused(outcome: Result<Negotiated, HandshakeFault>) -> String {
    match outcome {
        Err(HandshakeFault::Certificate(why)) => why,
        other => panic!("not refused: {other:?}"),
    }
}

// R5.1
#[tokio::test]
async fn opportunistic_takes_any_certificate() {
    let connector = connector(&Authority::new("Our root"));
    let acceptor = Acceptor::self_signed(&["wrong.example".to_owned()]).unwrap();
    for host in ["mx.example", "under_score.example", "not a name"] {
        let negotiated = meet(&connector, &acceptor, host, &Policy::Opportunistic).await.unwrap();
        assert_eq!(negotiated.version, "TLS 1.3");
        assert!(negotiated.to_string().starts_with("TLS 1.3, TLS13_AES_"), "{negotiated}");
    }
}

#[tokio::test]
async fn a_server_of_the_older_version_is_spoken_to() {
    let made = rcgen::generate_simple_self_signed(vec!["mx.example".to_owned()]).unwrap();
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let config = rustls::ServerConfig::builder_with_provider(provider.into())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let connector = connector(&Authority::new("Our root"));
    for policy in [Policy::Opportunistic, dane(tlsa(3, made.cert.der()))] {
        let (near, far) = duplex(16_384);
        let speak = connector.connect(near, "mx.example", &policy, WITHIN);
        let (_served, spoken) = tokio::join!(acceptor.accept(far), speak);
        let negotiated = Negotiated::of(spoken.unwrap().get_ref().1).to_string();
        assert!(negotiated.starts_with("TLS 1.2, TLS_ECDHE_"), "{negotiated}");
    }
}

// R5.1, B12
#[tokio::test]
async fn sts_wants_a_known_authority_and_the_right_name() {
    let authority = Authority::new("Our root");
    let connector = connector(&authority);
    let files = Files::new("sts", &authority.issue(&["mx.example", "*.wild.example"]));
    let acceptor = files.acceptor();
    for host in ["mx.example", "a.wild.example"] {
        meet(&connector, &acceptor, host, &Policy::Sts).await.unwrap();
    }
    for host in ["other.example", "a.b.wild.example"] {
        let why = refused(meet(&connector, &acceptor, host, &Policy::Sts).await);
        assert!(why.contains("not for"), "{why}");
    }
    let why = refused(meet(&connector, &acceptor, "not a name", &Policy::Sts).await);
    assert!(why.contains("not a name that a certificate can bear"), "{why}");

    let stranger = Files::new("sts-stranger", &Authority::new("Another root").issue(&["mx.example"]));
    let why = refused(meet(&connector, &stranger.acceptor(), "mx.example", &Policy::Sts).await);
    assert_eq!(why, "its issuer is not trusted");
    let own = Acceptor::self_signed(&["mx.example".to_owned()]).unwrap();
    refused(meet(&connector, &own, "mx.example", &Policy::Sts).await);
    // A session opened without proof is no proof later.
    meet(&connector, &own, "mx.example", &Policy::Opportunistic).await.unwrap();
    refused(meet(&connector, &own, "mx.example", &Policy::Sts).await);
}

// R5.1, B12
#[tokio::test]
async fn sts_refuses_a_certificate_that_has_run_out() {
    let authority = Authority::new("Our root");
    let files = Files::new("sts-expired", &authority.issue_expired("mx.example"));
    let why = refused(meet(&connector(&authority), &files.acceptor(), "mx.example", &Policy::Sts).await);
    assert_eq!(why, "it has expired");
}

fn dane(record: Tlsa) -> Policy {
    Policy::Dane { records: vec![record], names: vec!["mx.example".to_owned(), "example".to_owned()] }
}

/// `usage` 1 1 over the certificate's key.
fn tlsa(usage: u8, certificate: &[u8]) -> Tlsa {
    let key = public_key_info(certificate).unwrap();
    Tlsa { usage, selector: 1, matching: 1, data: digest::digest(&digest::SHA256, key).as_ref().to_vec() }
}

// R5.1, B12
#[tokio::test]
async fn dane_believes_the_named_key_whatever_name_and_date_it_bears() {
    let authority = Authority::new("Unknown root");
    let connector = connector(&Authority::new("Our root"));
    let issued = authority.issue_expired("wrong.example");
    let acceptor = Files::new("dane-ee", &issued).acceptor();
    let own = &certificates(&issued.chain)[0];
    meet(&connector, &acceptor, "mx.example", &dane(tlsa(3, own))).await.unwrap();

    let another = &certificates(&authority.issue(&["mx.example"]).chain)[0];
    let why = refused(meet(&connector, &acceptor, "mx.example", &dane(tlsa(3, another))).await);
    assert_eq!(why, "the host's TLSA records name another");
    // The match just now was not remembered as a session that needs no match.
    meet(&connector, &acceptor, "mx.example", &dane(tlsa(3, own))).await.unwrap();
    refused(meet(&connector, &acceptor, "mx.example", &dane(tlsa(3, another))).await);
}

// R5.1, B12
#[tokio::test]
async fn dane_believes_a_named_authority_for_the_right_names_and_dates() {
    let authority = Authority::new("Unknown root");
    let connector = connector(&Authority::new("Our root"));
    let anchor = tlsa(2, &certificates(&authority.pem())[0]);
    let met = async |label: &str, issued| {
        let acceptor = Files::new(label, &issued).acceptor();
        meet(&connector, &acceptor, "mx.example", &dane(anchor.clone())).await
    };
    met("dane-ta", authority.issue(&["mx.example"])).await.unwrap();
    met("dane-ta-domain", authority.issue(&["example"])).await.unwrap();
    let why = refused(met("dane-ta-name", authority.issue(&["wrong.example"])).await);
    assert!(why.contains("not for"), "{why}");
    let why = refused(met("dane-ta-date", authority.issue_expired("mx.example")).await);
    assert_eq!(why, "it has expired");
    // The authority's certificate is shown, but did not sign: showing it proves nothing.
    let mut forged = Authority::new("Unknown root").issue(&["mx.example"]);
    forged.chain = format!("{}{}", support::first(&forged.chain), authority.pem());
    refused(met("dane-ta-forged", forged).await);
}

// R5.1: RFC 7672 2.1.3
#[tokio::test]
async fn unusable_tlsa_records_leave_encryption() {
    let connector = connector(&Authority::new("Our root"));
    let acceptor = Acceptor::self_signed(&["wrong.example".to_owned()]).unwrap();
    let unusable = Tlsa { usage: 1, selector: 1, matching: 1, data: vec![0; 32] };
    meet(&connector, &acceptor, "mx.example", &dane(unusable)).await.unwrap();
}

// B12
#[tokio::test]
async fn a_handshake_that_breaks_or_hangs_says_so() {
    let connector = connector(&Authority::new("Our root"));
    let (near, mut far) = duplex(16_384);
    far.write_all(b"220 no TLS here\r\n").await.unwrap();
    let broken = connector.connect(near, "mx.example", &Policy::Opportunistic, WITHIN).await;
    assert!(matches!(broken, Err(HandshakeFault::Broken(_))));

    let (near, _far) = duplex(16_384);
    let within = Duration::from_millis(50);
    let hung = connector.connect(near, "mx.example", &Policy::Opportunistic, within).await;
    assert_eq!(hung.err(), Some(HandshakeFault::TimedOut { within }));
}

// E7
#[tokio::test]
async fn a_certificate_is_replaced_under_a_running_server_and_a_broken_one_is_not_taken() {
    let authority = Authority::new("Our root");
    let connector = connector(&authority);
    let files = Files::new("reload", &authority.issue(&["old.example"]));
    let acceptor = files.acceptor();
    assert_eq!(acceptor.reload(), Ok(false));
    meet(&connector, &acceptor, "old.example", &Policy::Sts).await.unwrap();

    files.write(&authority.issue(&["new.example"]));
    assert_eq!(acceptor.reload(), Ok(true));
    meet(&connector, &acceptor, "new.example", &Policy::Sts).await.unwrap();

    let mut broken = authority.issue(&["broken.example"]);
    broken.key = authority.issue(&["another.example"]).key;
    files.write(&broken);
    assert!(matches!(acceptor.reload(), Err(TlsFault::Key(_))));
    broken.chain = "nothing".to_owned();
    files.write(&broken);
    assert!(matches!(acceptor.reload(), Err(TlsFault::Certificate(_))));
    meet(&connector, &acceptor, "new.example", &Policy::Sts).await.unwrap();
}

// E7: one host's certificate is neither another's nor in its way.
#[tokio::test]
async fn each_host_of_a_folder_has_its_own_certificate() {
    let authority = Authority::new("Our root");
    let connector = connector(&authority);
    let folder = support::folder("hosts");
    let write = |certificate: &str, key: &str, names: &[&str]| {
        let issued = authority.issue(names);
        std::fs::create_dir_all(folder.join(certificate).parent().unwrap()).unwrap();
        std::fs::write(folder.join(certificate), issued.chain).unwrap();
        std::fs::write(folder.join(key), issued.key).unwrap();
    };
    write("links.one.example.pem", "links.one.example.key", &["links.one.example"]);
    write("links.two.example/fullchain.pem", "links.two.example/privkey.pem", &["links.two.example"]);
    std::fs::write(folder.join("broken.example.pem"), "nothing").unwrap();
    let acceptor = Acceptor::from_folder(&folder).unwrap();
    for host in ["links.one.example", "links.two.example"] {
        meet(&connector, &acceptor, host, &Policy::Sts).await.unwrap();
    }
    let stranger = meet(&connector, &acceptor, "links.three.example", &Policy::Opportunistic).await;
    assert!(matches!(stranger, Err(HandshakeFault::Broken(_))), "{stranger:?}");

    assert_eq!(acceptor.reload(), Ok(false));
    write("links.three.example.pem", "links.three.example.key", &["links.three.example"]);
    assert_eq!(acceptor.reload(), Ok(true));
    meet(&connector, &acceptor, "links.three.example", &Policy::Sts).await.unwrap();
    assert!(matches!(Acceptor::from_folder(&folder.join("missing")), Err(TlsFault::Unreadable { .. })));
}

#[test]
fn a_certificate_says_when_it_runs_out() {
    let authority = Authority::new("Our root");
    let files = Files::new("expiry", &authority.issue_expired("mx.example"));
    // 2001-01-01
    assert_eq!(files.acceptor().expires_at(), Some(978_307_200));
    assert!(Acceptor::self_signed(&["mx.example".to_owned()]).unwrap().expires_at() > Some(0));
}

#[test]
fn the_roots_of_this_machine_or_the_bundled_ones_are_there() {
    assert!(Connector::new(Roots::system()).is_ok());
}
