//! Does what a new IP has no place for leave by the service that its account had before, protected, and by nobody else's?

use crate::support::certificate::CertificateAuthority;
use crate::support::provider::Tls;
use crate::support::{Manner, NameServer, Plan, Town, among_others, until};
use serde_json::{Value, json};

const COUNT: usize = 40;

// R4.2: the relay is asked for its certificate before it hears the password; wrong words keep nothing; what is given to it is told.
#[test]
fn the_service_of_before_carries_the_rest() {
    let _others = among_others();
    let town = Town::new();
    let authority = CertificateAuthority::new();
    let zone =
        format!("mail.test MX 10 mx.mail.test\nmx.mail.test A {}\nsmtp.before.test A {}", town.host(1), town.host(2));
    let names = NameServer::of(&zone);
    let provider = town.provider(1, Manner::default());
    let manner = |name: &str| Manner {
        tls: Tls::Works(authority.for_names(&[name]).config),
        sign_in: Some(("ann", "a secret")),
        ..Manner::default()
    };
    let before = town.provider(2, manner("other.before.test"));
    let roots = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("relay-{}.pem", std::process::id()));
    std::fs::write(&roots, authority.pem()).unwrap();
    let plan = Plan::new(&town).ask(names.address()).control(None);
    let mut house = plan.delivery("extra_roots", &format!("{:?}", roots.display().to_string())).open();
    house.share(&[town.source(0)]);
    let shop = house.tenant("shop", "standard");
    let ip = town.source(1);
    house.new_pool(&shop, "news");
    house.grant_new(&shop, &[ip], Some("news"));

    let relay = json!({
        "name": "before", "host": "smtp.before.test", "port": town.port(), "user": "ann", "password": "wrong",
    });
    let pool = shop.at("pools/news");
    let refused = house.refused("POST", &shop.at("relays"), &shop.key, &relay);
    assert_eq!(refused.0, 400, "an account does not knock at any port: {refused:?}");
    let made = house.operate("POST", &shop.at("relays"), &relay);
    assert!(!made.to_string().contains("wrong"), "{made}");
    let by_relay = json!({ "relay": "before", "leaving": "relay" });
    let other = house.tenant("other", "standard");
    house.new_pool(&other, "mine");
    assert_eq!(house.refused("PATCH", &other.at("pools/mine"), &other.key, &by_relay).0, 404, "R2.8");
    house.ask("PATCH", &pool, &shop.key, &by_relay);

    let ids: Vec<String> = (0..COUNT)
        .map(|number| house.send(&shop.key, &format!("u{number}@mail.test"), json!({ "pool": "news" })))
        .collect();
    let refusals = |words: &str| {
        let path = "/events?kind=site-unreachable";
        let events = house.operate("GET", path, &Value::Null)["items"].to_string();
        events.contains(words).then_some(())
    };
    until("a wrong certificate is refused", || refusals("smtp.before.test"));
    assert_eq!(before.heard("AUTH"), 0, "nobody hears the password who has not proven its name");
    before.change(manner("smtp.before.test"));
    let password = |said: &str| house.operate("PATCH", &shop.at("relays/before"), &json!({ "password": said }));
    password("also wrong");
    house.retry(ids.last().unwrap());
    until("a wrong password is told", || refusals("it does not take the name and password"));
    password("a secret");

    let by_it = until("all of it has left", || {
        let here = provider.count();
        (here + before.count() == COUNT).then_some(here)
    });
    assert!((5..=24).contains(&by_it), "{by_it} of {COUNT} went by {ip}");
    assert!(before.all().iter().all(|message| message.tls));
    let address = made["address"].as_str().unwrap().to_owned();
    let stories: Vec<Value> = ids.iter().map(|id| house.wait_state(id, "delivered")).collect();
    let told = stories.iter().filter(|story| story.to_string().contains(&address)).count();
    assert!(told >= COUNT - by_it, "each says that the relay took it: {told}, {}", stories[COUNT - 1]);
    let used = house.refused("DELETE", &shop.at("relays/before"), &shop.key, &Value::Null);
    assert_eq!(used, (409, "relay_in_use".to_owned()));
    house.ask("PATCH", &pool, &shop.key, &json!({ "relay": null, "leaving": "shared" }));
    house.ask("DELETE", &shop.at("relays/before"), &shop.key, &Value::Null);

    // What was sealed is opened again after a restart; here there is none left.
    house.kill();
    house.start();
    assert_eq!(house.ask("GET", &shop.at("relays"), &shop.key, &Value::Null)["items"], json!([]));
    let _ = std::fs::remove_file(roots);
}
