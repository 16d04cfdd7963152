//! Is it heard who opens and who follows, and is no link of ours a way to somewhere else?

use crate::support::house::House;
use crate::support::submitter::{HttpAnswer, request};
use crate::support::tenants::Tenant;
use crate::support::{Manner, Plan, Town, among_others, until};
use serde_json::{Value, json};
use std::net::SocketAddr;

pub const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
const HTML: &str = "<html><body><p>Read <a href=\"https://shop.test/sale?a=1&amp;b=2\">on</a>.</p></body></html>";

pub fn visit(door: SocketAddr, method: &str, host: &str, path: &str, agent: &str) -> HttpAnswer {
    request(door, method, path, &format!("Host: {host}:8443\r\nUser-Agent: {agent}\r\n"), b"").unwrap()
}

fn field(answer: &HttpAnswer, name: &str) -> Option<String> {
    let lines = answer.head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).next()
}

/// With a host for links below a domain of its own.
pub fn tracking_tenant(house: &House, name: &str) -> Tenant {
    let tenant = house.tenant(name, "standard");
    house.ask("POST", &tenant.at("domains"), &tenant.key, &json!({ "name": format!("{name}.test") }));
    house.operate("POST", &tenant.at(&format!("domains/{name}.test/verification")), &Value::Null);
    let set = json!({
        "name": "news", "tracking_host": format!("links.{name}.test"), "tracks_opens": true, "tracks_clicks": true,
    });
    house.ask("POST", &tenant.at("configuration-sets"), &tenant.key, &set);
    tenant
}

/// The paths of the link and of the picture, as a reader gets them.
pub fn paths(text: &str, host: &str) -> (String, String) {
    let text = text.replace("=\r\n", "").replace("=3D", "=");
    let path = |kind: &str| {
        let from = text.split(&format!("https://{host}{kind}")).nth(1).unwrap_or_else(|| panic!("no {kind} in {text}"));
        format!("{kind}{}", from.split('"').next().unwrap())
    };
    (path("/c/"), path("/o/"))
}

fn wait_events(house: &House, id: &str, kind: &str, count: usize) -> Vec<Value> {
    until(&format!("{count} events {kind}"), || {
        let recipient = house.recipient(id);
        let all = recipient["events"].as_array().unwrap().iter().filter(|event| event["kind"] == kind).cloned();
        let all: Vec<Value> = all.collect();
        (all.len() >= count).then_some(all)
    })
}

// F8, R6.1: altered, of another tenant, of a deleted configuration set; proxies marked.
#[test]
fn a_link_leads_where_it_led_and_it_is_heard_who_follows() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let house = Plan::new(&town).control(None).more("[tracking]\naddress = \"127.0.0.1:0\"\n").open();
    let door = house.door("leading readers on");
    house.share(&[town.source(0)]);
    let (shop, other) = (tracking_tenant(&house, "shop"), tracking_tenant(&house, "other"));
    let strange = json!({ "tracking_host": "links.other.test" });
    let refused = house.refused("PATCH", &shop.at("configuration-sets/news"), &shop.key, &strange);
    assert_eq!(refused.1, "invalid_field", "{refused:?}");

    let more = json!({ "from": "ann@shop.test", "configuration_set": "news", "html": HTML });
    let id = house.send(&shop.key, "bob@mail.test", more);
    let received = provider.wait_for_one_to("bob@mail.test");
    let (click, open) = paths(&received.text(), "links.shop.test");

    let answer = visit(door, "GET", "links.shop.test", &click, FIREFOX);
    assert_eq!((answer.status, field(&answer, "location").as_deref()), (302, Some("https://shop.test/sale?a=1&b=2")));
    let clicked = wait_events(&house, &id, "clicked", 1);
    assert_eq!(clicked[0]["link"], "https://shop.test/sale?a=1&b=2");
    assert_eq!(clicked[0]["agent"], FIREFOX);
    let answer = visit(door, "GET", "LINKS.shop.test", &open, "Mozilla/5.0 (via ggpht.com GoogleImageProxy)");
    assert_eq!((answer.status, field(&answer, "content-type").as_deref()), (200, Some("image/gif")));
    assert_eq!(wait_events(&house, &id, "opened", 1)[0]["reader"], "proxy");
    let told = house.weir_as(&shop.key, &["explain", &id]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("clicked") && told.contains("https://shop.test/sale"), "{told}");

    // What was altered, or shown at another's host, leads nowhere and is nobody's.
    let altered = format!("{}A{}", &click[..20], &click[21..]);
    let foreign = [
        ("links.shop.test", altered.as_str()),
        ("links.other.test", click.as_str()),
        ("links.shop.test", "/c/"),
        ("nobody.test", click.as_str()),
        ("links.shop.test", &open.replace("/o/", "/c/")),
    ];
    for (host, path) in foreign {
        let answer = visit(door, "GET", host, path, FIREFOX);
        assert_eq!((answer.status, field(&answer, "location")), (404, None), "{host}{path}");
    }
    // The picture is always a picture.
    assert_eq!(visit(door, "GET", "links.other.test", &open, FIREFOX).status, 200);
    assert_eq!(visit(door, "HEAD", "links.shop.test", &click, FIREFOX).status, 302);
    let clicked = wait_events(&house, &id, "clicked", 2);
    assert_eq!(clicked[1]["reader"], "machine");

    // Its sender does not use it any more: the page says where it led, and does not lead there.
    house.ask("DELETE", &shop.at("configuration-sets/news"), &shop.key, &Value::Null);
    let answer = visit(door, "GET", "links.shop.test", &click, FIREFOX);
    assert_eq!((answer.status, field(&answer, "location")), (410, None));
    let page = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(page.contains("https://shop.test/sale?a=1&amp;b=2") && !page.contains("href"), "{page}");
    let policy = field(&answer, "content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    let recipient = house.recipient(&id);
    let kinds: Vec<&str> =
        recipient["events"].as_array().unwrap().iter().filter_map(|event| event["kind"].as_str()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "clicked").count(), 2, "{kinds:?}");
    assert_eq!(kinds.iter().filter(|kind| **kind == "opened").count(), 1, "{kinds:?}");
    drop(other);
}

// Off by default; by SMTP as by HTTP; and what was signed before stays as it is.
#[test]
fn mail_is_tracked_only_where_its_set_asks_for_it() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let house = Plan::new(&town).control(None).open();
    house.share(&[town.source(0)]);
    let shop = tracking_tenant(&house, "shop");
    let login = house.login(&shop);
    house.send(&shop.key, "plain@mail.test", json!({ "from": "ann@shop.test", "html": HTML }));
    assert!(provider.wait_for_one_to("plain@mail.test").text().contains("https://shop.test/sale"));
    let head = "From: ann@shop.test\r\nX-SES-CONFIGURATION-SET: news\r\nContent-Type: text/html\r\n";
    let mut smtp = house.smtp_as(&login);
    smtp.take("ann@shop.test", &["smtp@mail.test"], format!("{head}\r\n{HTML}\r\n").as_bytes());
    paths(&provider.wait_for_one_to("smtp@mail.test").text(), "links.shop.test");
    let signed =
        format!("{head}DKIM-Signature: v=1; a=rsa-sha256; d=shop.test; s=x; h=from; bh=x; b=x\r\n\r\n{HTML}\r\n");
    smtp.take("ann@shop.test", &["signed@mail.test"], signed.as_bytes());
    assert!(provider.wait_for_one_to("signed@mail.test").text().contains("https://shop.test/sale"));
}
