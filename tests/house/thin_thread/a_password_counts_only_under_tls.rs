//! Can an application sign in from anywhere, and only where nobody can listen?

use crate::support::certificate::{CertificateAuthority, Certified};
use crate::support::{House, Manner, Message, Plan, Smtp, Town, among_others, until_true};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::path::{Path, PathBuf};

const NAME: &str = "weir.test";

/// A certificate and its key on disk; swept away when dropped.
struct Files(PathBuf);

impl Files {
    fn of(label: &str, certified: &Certified) -> Files {
        let files = Files(Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tls-{label}-{}", std::process::id())));
        std::fs::create_dir_all(&files.0).unwrap();
        files.write(certified);
        files
    }

    fn write(&self, certified: &Certified) {
        std::fs::write(self.0.join("certificate.pem"), &certified.pem).unwrap();
        std::fs::write(self.0.join("key.pem"), &certified.key_pem).unwrap();
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Doors 1 and 2 trust nobody: STARTTLS as on port 587, TLS at once as on port 465.
fn house(town: &Town, files: &Files) -> House {
    let (certificate, key) = (files.0.join("certificate.pem"), files.0.join("key.pem"));
    let sections = format!(
        "[tls]\ncertificate = {certificate:?}\nkey = {key:?}\n\
         [[listener]]\naddress = \"127.0.0.1:0\"\ntls = \"starttls\"\n\
         [[listener]]\naddress = \"127.0.0.1:0\"\ntls = \"implicit\"\n\
         [[credential]]\naccount = \"shop\"\nuser = \"app\"\npassword = \"a long password\"\n"
    );
    Plan::new(town).more(&sections).open()
}

fn plain(user: &str, password: &str) -> String {
    format!("AUTH PLAIN {}", STANDARD.encode(format!("\0{user}\0{password}")))
}

// R1.1: port 587. Nothing without a password, no password in clear, and with both it goes.
#[test]
fn behind_starttls_a_password_opens_the_door() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let authority = CertificateAuthority::new();
    let files = Files::of("587", &authority.for_names(&[NAME]));
    let house = house(&town, &files);
    let mut smtp = Smtp::open(house.doors()[1]);
    let offered = smtp.expect("EHLO app.test", 250).text;
    assert!(offered.contains("STARTTLS") && !offered.contains("AUTH"), "{offered}");
    assert!(smtp.say(&plain("app", "a long password")).unwrap().code >= 500);
    assert_eq!(smtp.say("MAIL FROM:<ann@shop.test>").unwrap().code, 530);

    smtp.expect("STARTTLS", 220);
    smtp.secure(&authority.client(), NAME);
    let offered = smtp.expect("EHLO app.test", 250).text;
    assert!(!offered.contains("STARTTLS") && offered.contains("AUTH"), "{offered}");
    assert_eq!(smtp.say("MAIL FROM:<ann@shop.test>").unwrap().code, 530);
    smtp.expect(&plain("app", "a wrong password"), 535);
    smtp.expect(&plain("nobody", "a long password"), 535);
    smtp.expect(&plain("app", "a long password"), 235);
    let id = smtp.take("ann@shop.test", &["bob@mail.test"], &Message::plain("587"));
    house.wait_state(&id, "delivered");
    let received = provider.all()[0].header("Received").unwrap();
    assert!(received.contains("with ESMTPSA"), "{received}");
}

// R1.1: port 465.
#[test]
fn under_tls_from_the_first_octet_a_password_opens_the_door() {
    let _others = among_others();
    let town = Town::new();
    let _provider = town.provider(1, Manner::default());
    let authority = CertificateAuthority::new();
    let files = Files::of("465", &authority.for_names(&[NAME]));
    let house = house(&town, &files);
    let mut smtp = Smtp::connect(house.doors()[2]).unwrap();
    smtp.secure(&authority.client(), NAME);
    assert_eq!(smtp.answer().unwrap().code, 220);
    smtp.expect("EHLO app.test", 250);
    smtp.expect("AUTH LOGIN", 334);
    smtp.expect(&STANDARD.encode("app"), 334);
    smtp.expect(&STANDARD.encode("a long password"), 235);
    let id = smtp.take("ann@shop.test", &["bob@mail.test"], &Message::plain("465"));
    house.wait_state(&id, "delivered");
}

// E7: a renewed certificate is taken into use by SIGHUP, without an end to anybody's conversation.
#[test]
fn a_renewed_certificate_is_shown_after_a_reload() {
    let _others = among_others();
    let town = Town::new();
    let _provider = town.provider(1, Manner::default());
    let authority = CertificateAuthority::new();
    let (first, second) = (authority.for_names(&[NAME]), authority.for_names(&[NAME]));
    let files = Files::of("renewed", &first);
    let house = house(&town, &files);
    let shown = || {
        let mut smtp = Smtp::connect(house.doors()[2]).unwrap();
        smtp.secure(&authority.client(), NAME);
        smtp.certificate().unwrap()
    };
    let mut old = Smtp::open(house.doors()[1]);
    assert_eq!(shown(), first.der);
    files.write(&second);
    house.signal("HUP");
    until_true("the second certificate is shown", || shown() == second.der);
    old.expect("NOOP", 250);
}

// A session that is open loses its right with its password.
#[test]
fn a_password_that_is_taken_back_opens_nothing_more() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let authority = CertificateAuthority::new();
    let files = Files::of("revoked", &authority.for_names(&[NAME]));
    let house = house(&town, &files);
    let mut smtp = Smtp::open(house.doors()[1]);
    smtp.expect("EHLO app.test", 250);
    smtp.expect("STARTTLS", 220);
    smtp.secure(&authority.client(), NAME);
    smtp.expect("EHLO app.test", 250);
    smtp.expect(&plain("app", "a long password"), 235);
    smtp.take("ann@shop.test", &["bob@mail.test"], &Message::plain("before"));
    let text = std::fs::read_to_string(&house.config).unwrap();
    std::fs::write(&house.config, text.replace("a long password", "another password")).unwrap();
    house.signal("HUP");
    house.wait_log("the configuration is read anew");
    let answer = smtp.say("MAIL FROM:<ann@shop.test>").unwrap();
    assert!(answer.code == 535, "{answer:?}");
    provider.wait_for(1);
    assert_eq!(provider.count(), 1);
}
