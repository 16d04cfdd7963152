//! What becomes of a domain's mail, asked of real servers on loopback.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mail::address::Domain;
use mail::dane::Tlsa;
use net::clock::Clock;
use net::dns::authority::{Authority, Trouble, Zone};
use net::dns::{
    Dane, Dns, DnsFault, Families, FixedAnswers, FixedDns, FixedRule, Network, Reach, Refusal, Resolver,
    ResolverSettings, Route, Servers, Site, dane_of, reverse_name, route_of, tlsa_name,
};

const SEED: u64 = 7;

const ZONE: &str = "
two.example       MX  20 mx-c.two.example
two.example       MX  10 mx-b.two.example
two.example       MX  10 mx-a.two.example
mx-a.two.example  A    203.0.113.1
mx-b.two.example  A    203.0.113.2
mx-b.two.example  AAAA 2001:db8::2
mx-c.two.example  A    203.0.113.3
same.example      MX  5 MX-A.two.example.
same.example      MX  5 mx-b.two.example
same.example      MX  6 mx-c.two.example
other.example     MX  5 MX-A.two.example.
other.example     MX  5 mx-b.two.example
plain.example     A   203.0.113.4
bare.example      TXT \"nothing else\"
null.example      MX  0 .
local.example     MX  10 localhost-of.local.example
localhost-of.local.example A 127.0.0.1
private.example   MX  10 mx.private.example
mx.private.example A  10.1.2.3
mixed.example     MX  10 mx.private.example
mixed.example     MX  20 mx-a.two.example
own.example       MX  10 mx-own.example
own.example       MX  10 mx-a.two.example
own.example       MX  20 mx-c.two.example
mx-own.example    A   198.51.100.25
backup.example    MX  10 mx-a.two.example
backup.example    MX  20 mx-own.example
backup.example    MX  30 mx-c.two.example
alias.example     CNAME two.example
viaalias.example  MX  10 mx-alias.example
mx-alias.example  CNAME mx-a.two.example
round.example     MX  10 round-a.example
round-a.example   CNAME round-b.example
round-b.example   CNAME round-a.example
dead.example      MX  10 nowhere.example
literal.example   MX  10 203.0.113.9.
label.example     MX  10 mailhost.
shaky.example     MX  10 mx.shaky.example
mx.shaky.example  A   203.0.113.5
quick.example     0 MX 10 mx-quick.example
mx-quick.example  0 A  203.0.113.6
";

/// 203.0.113.0/24 and 2001:db8::/32 are documentation networks, so nothing here could ever be reached by accident.
fn reach() -> Reach {
    Reach {
        families: Families::Both,
        own: Arc::new([[198, 51, 100, 25].into()].into()),
        allow_private: ["203.0.113.0/24", "2001:db8::/32"].map(|network| network.parse().unwrap()).to_vec(),
    }
}

fn resolver(server: SocketAddr) -> Resolver {
    let settings = ResolverSettings {
        servers: Servers::These(vec![server]),
        validator: None,
        timeout: Duration::from_secs(5),
        tries: 1,
    };
    Resolver::new(&settings, Clock::system()).unwrap()
}

fn validating(server: SocketAddr) -> Resolver {
    let settings = ResolverSettings {
        servers: Servers::These(Vec::new()),
        validator: Some(server),
        timeout: Duration::from_secs(5),
        tries: 1,
    };
    Resolver::new(&settings, Clock::system()).unwrap()
}

async fn authority(zone: Zone) -> Authority {
    Authority::start(([127, 0, 0, 1], 0).into(), zone).await.unwrap()
}

fn zone() -> Zone {
    Zone::parse(ZONE).unwrap()
}

fn domain(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

/// Asks twice: through hickory, and through the path to a validator. Both must say the same.
async fn route(zone: Zone, name: &str, reach: &Reach) -> Route {
    let server = authority(zone).await;
    let ordinary = resolver(server.address());
    let ordinary = route_of(&ordinary, &domain(name), reach, SEED).await;
    let validator = validating(server.address());
    let validated = route_of(&validator, &domain(name), reach, SEED).await;
    assert_eq!(ordinary, validated, "{name}");
    ordinary
}

async fn site(name: &str) -> Site {
    match route(zone(), name, &reach()).await {
        Route::Site(site) => site,
        other => panic!("{name}: {other:?}"),
    }
}

fn names(site: &Site) -> Vec<&str> {
    site.hosts.iter().map(|host| host.name.as_str()).collect()
}

// R5.1
#[tokio::test]
async fn mail_hosts_come_in_order_and_give_the_site_its_name() {
    let two = site("two.example").await;
    assert_eq!(two.name, "mx-a.two.example,mx-b.two.example;mx-c.two.example");
    let mut first = names(&two);
    assert_eq!(first.pop(), Some("mx-c.two.example"));
    first.sort_unstable();
    assert_eq!(first, ["mx-a.two.example", "mx-b.two.example"]);
    assert_eq!(two.valid_for, Duration::from_secs(300));

    // Another domain with the same hosts in the same order shares the connections, whatever the numbers.
    assert_eq!(site("same.example").await.name, two.name);
    // With the preferred hosts alone it does not: a connection may be to the host that only one of the two named.
    assert_eq!(site("other.example").await.name, "mx-a.two.example,mx-b.two.example");
}

#[tokio::test]
async fn equally_preferred_hosts_take_turns() {
    let server = authority(zone()).await;
    let dns = resolver(server.address());
    let mut firsts = Vec::new();
    for seed in 0..32 {
        let Route::Site(site) = route_of(&dns, &domain("two.example"), &reach(), seed).await else {
            panic!("no site");
        };
        firsts.push(site.hosts[0].name.clone());
    }
    firsts.sort_unstable();
    firsts.dedup();
    assert_eq!(firsts, ["mx-a.two.example", "mx-b.two.example"]);
}

#[tokio::test]
async fn a_source_sees_the_addresses_of_its_family() {
    let two = site("two.example").await;
    let v6: IpAddr = "2001:db8::1".parse().unwrap();
    let targets: Vec<_> = two.targets(v6).map(|(host, to)| (host.name.as_str(), to)).collect();
    assert_eq!(targets, [("mx-b.two.example", "2001:db8::2".parse().unwrap())]);
    let v4 = two.targets([203, 0, 113, 99].into());
    assert_eq!(v4.count(), 3);
}

// C1
#[tokio::test]
async fn a_name_that_does_not_exist_is_told_from_one_that_does() {
    let gone = route(zone(), "nowhere.example", &reach()).await;
    assert_eq!(gone, Route::NoSuchDomain("the domain nowhere.example does not exist".to_owned()));
    let bare = route(zone(), "bare.example", &reach()).await;
    assert_eq!(bare, Route::NoSuchDomain("the domain bare.example has neither MX nor address records".to_owned()));
}

// C1
#[tokio::test]
async fn a_domain_with_an_address_only_is_its_own_mail_host() {
    let plain = site("plain.example").await;
    assert_eq!(plain.name, "plain.example");
    assert_eq!(plain.hosts[0].addresses, [IpAddr::from([203, 0, 113, 4])]);
    assert!(!plain.secure);
}

// C1
#[tokio::test]
async fn mail_hosts_that_cannot_be_found_leave_it_for_later() {
    let Route::Later(why) = route(zone(), "dead.example", &reach()).await else {
        panic!("not later");
    };
    assert_eq!(why, "no mail host of dead.example: nowhere.example: the name does not exist");
}

// C3
#[tokio::test]
async fn a_null_mx_takes_no_mail() {
    assert_eq!(route(zone(), "null.example", &reach()).await, Route::NullMx);
}

// C4
#[tokio::test]
async fn loopback_and_private_hosts_are_refused() {
    let check = async |name: &str, address: [u8; 4], kind: &'static str| {
        let Route::Refused(Refusal::NotPublic { address: found, kind: said, .. }) = route(zone(), name, &reach()).await
        else {
            panic!("{name} was not refused");
        };
        assert_eq!((found, said), (IpAddr::from(address), kind), "{name}");
    };
    check("local.example", [127, 0, 0, 1], "loopback").await;
    check("private.example", [10, 1, 2, 3], "private").await;
}

// C4
#[tokio::test]
async fn the_operator_may_allow_private_networks() {
    let mut reach = reach();
    reach.allow_private.push("10.0.0.0/8".parse().unwrap());
    assert!(matches!(route(zone(), "private.example", &reach).await, Route::Site(_)));
    assert!(matches!(route(zone(), "local.example", &reach).await, Route::Refused(_)));
    reach.allow_private = Network::ALL.to_vec();
    assert!(matches!(route(zone(), "local.example", &reach).await, Route::Site(_)));
}

// C4
#[tokio::test]
async fn one_private_host_does_not_spoil_the_public_ones() {
    let mixed = site("mixed.example").await;
    assert_eq!(names(&mixed), ["mx.private.example", "mx-a.two.example"]);
    let targets: Vec<_> = mixed.targets([203, 0, 113, 99].into()).map(|(_, to)| to).collect();
    assert_eq!(targets, [IpAddr::from([203, 0, 113, 1])]);
}

// C4: RFC 5321 5.1, hosts as good as ourselves or worse are cut off.
#[tokio::test]
async fn mail_that_would_come_back_to_us_is_refused() {
    let server = authority(zone()).await;
    let dns = resolver(server.address());
    // Whichever of the equally preferred hosts comes first.
    for seed in 0..16 {
        let route = route_of(&dns, &domain("own.example"), &reach(), seed).await;
        let expected = Refusal::Loop { host: "mx-own.example".to_owned(), address: [198, 51, 100, 25].into() };
        assert_eq!(route, Route::Refused(expected));
    }
    // Where we are only the backup, the better host is used, and no worse one.
    assert_eq!(names(&site("backup.example").await), ["mx-a.two.example"]);
}

// C4
#[tokio::test]
async fn aliases_are_tolerated_and_circles_refused() {
    assert_eq!(site("alias.example").await.name, "mx-a.two.example,mx-b.two.example;mx-c.two.example");
    let via = site("viaalias.example").await;
    assert_eq!(via.name, "mx-alias.example");
    assert_eq!(via.hosts[0].canonical, "mx-a.two.example");
    assert_eq!(via.hosts[0].addresses, [IpAddr::from([203, 0, 113, 1])]);
    assert_eq!(
        route(zone(), "round.example", &reach()).await,
        Route::Refused(Refusal::AliasLoop { host: "round-a.example".to_owned() })
    );
}

// C4
#[tokio::test]
async fn what_is_not_a_host_is_refused_without_a_look_up() {
    for (name, host) in [("literal.example", "203.0.113.9"), ("label.example", "mailhost")] {
        assert_eq!(route(zone(), name, &reach()).await, Route::Refused(Refusal::NotAHost { host: host.to_owned() }));
    }
}

// C2
#[tokio::test]
async fn a_server_that_fails_is_no_verdict() {
    let failing = || zone().trouble("shaky.example", Trouble::Fails).unwrap();
    let Route::Later(why) = route(failing(), "shaky.example", &reach()).await else {
        panic!("not later");
    };
    assert!(why.contains("Server Failure"), "{why}");
    let failing = zone().trouble("mx.shaky.example", Trouble::Fails).unwrap();
    assert!(matches!(route(failing, "shaky.example", &reach()).await, Route::Later(_)));
}

// C2
#[tokio::test]
async fn a_server_that_says_nothing_is_no_verdict_and_costs_no_more_than_the_limit() {
    let silent = zone().trouble("shaky.example", Trouble::Silent).unwrap();
    let server = authority(silent).await;
    let limit = Duration::from_millis(200);
    for validator in [None, Some(server.address())] {
        let settings =
            ResolverSettings { servers: Servers::These(vec![server.address()]), validator, timeout: limit, tries: 1 };
        let dns = Resolver::new(&settings, Clock::system()).unwrap();
        let Route::Later(why) = route_of(&dns, &domain("shaky.example"), &reach(), SEED).await else {
            panic!("not later");
        };
        assert!(why.contains("no DNS server answered within 200ms"), "{why}");
    }
}

// C2
#[tokio::test]
async fn a_server_that_is_down_is_no_verdict_and_mail_goes_on_when_it_is_back() {
    // An address of its own, so that no other test takes the port meanwhile.
    let first = Authority::start(([127, 0, 1, 53], 0).into(), zone()).await.unwrap();
    let at = first.address();
    drop(first);
    let settings = ResolverSettings {
        servers: Servers::These(vec![at]),
        timeout: Duration::from_secs(1),
        tries: 1,
        ..ResolverSettings::default()
    };
    let dns = Resolver::new(&settings, Clock::system()).unwrap();
    let down = route_of(&dns, &domain("two.example"), &reach(), SEED).await;
    assert!(matches!(down, Route::Later(_)), "{down:?}");
    let _server = Authority::start(at, zone()).await.unwrap();
    let up = route_of(&dns, &domain("two.example"), &reach(), SEED).await;
    assert!(matches!(up, Route::Site(_)), "{up:?}");
}

// C2, RFC 8767
#[tokio::test]
async fn what_was_known_is_used_while_the_servers_fail() {
    for validating_too in [false, true] {
        let server = authority(zone()).await;
        let dns = if validating_too { validating(server.address()) } else { resolver(server.address()) };
        let quick = domain("quick.example");
        let Route::Site(before) = route_of(&dns, &quick, &reach(), SEED).await else {
            panic!("no site");
        };
        assert_eq!(before.valid_for, Duration::from_secs(60));
        // Its time to live is nothing, so it is asked for again, and answered no more.
        let failing = zone()
            .trouble("quick.example", Trouble::Fails)
            .and_then(|zone| zone.trouble("mx-quick.example", Trouble::Fails))
            .unwrap();
        server.replace(failing);
        let asked = server.questions();
        let after = route_of(&dns, &quick, &reach(), SEED).await;
        assert_eq!(after, Route::Site(before));
        assert!(server.questions() > asked);
        // A domain that was never known stays unknown.
        let failing = zone().trouble("shaky.example", Trouble::Fails).unwrap();
        server.replace(failing);
        let never = route_of(&dns, &domain("shaky.example"), &reach(), SEED).await;
        assert!(matches!(never, Route::Later(_)), "{never:?}");
    }
}

#[tokio::test]
async fn answers_are_remembered() {
    let server = authority(zone()).await;
    let dns = resolver(server.address());
    for name in ["two.example", "nowhere.example"] {
        let first = route_of(&dns, &domain(name), &reach(), SEED).await;
        let asked = server.questions();
        let second = route_of(&dns, &domain(name), &reach(), SEED).await;
        assert_eq!(server.questions(), asked, "{name}");
        match (first, second) {
            (Route::Site(first), Route::Site(second)) => {
                assert_eq!(first.hosts, second.hosts);
                assert!(second.valid_for <= first.valid_for);
            }
            (first, second) => assert_eq!(first, second),
        }
    }
}

#[tokio::test]
async fn an_answer_too_long_for_udp_comes_over_tcp() {
    let mut text = String::new();
    for host in 0..120 {
        text.push_str(&format!("long.example MX {host} a-mail-host-with-number-{host}.long.example\n"));
        text.push_str(&format!("a-mail-host-with-number-{host}.long.example A 203.0.113.7\n"));
    }
    let Route::Site(long) = route(Zone::parse(&text).unwrap(), "long.example", &reach()).await else {
        panic!("no site");
    };
    assert!(long.name.starts_with("a-mail-host-with-number-0.long.example;a-mail-host-with-number-1.long.example;"));
    // A limit: nobody tries 120 hosts.
    assert_eq!(long.hosts.len(), 16);
}

const SIGNED: &str = "
signed.example            MX 10 mx.signed.example
mx.signed.example         A  203.0.113.8
_25._tcp.mx.signed.example TLSA 3 1 1 aabbccddeeff00112233445566778899aabbccddeeff00112233445566778899
signed.example            TXT \"v=one;\" \" two\"
";

// R5.1
#[tokio::test]
async fn only_a_trusted_validator_makes_answers_secure() {
    let server = authority(Zone::parse(SIGNED).unwrap().validated()).await;
    let name = tlsa_name("mx.signed.example", 25);
    let expected = Tlsa {
        usage: 3,
        selector: 1,
        matching: 1,
        data: (0..32)
            .map(|i| {
                [0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99][i % 16]
            })
            .collect(),
    };
    for (dns, secure) in [(validating(server.address()), true), (resolver(server.address()), false)] {
        let answer = dns.tlsa(&name).await.unwrap();
        assert_eq!(answer.records, std::slice::from_ref(&expected));
        assert_eq!(answer.secure, secure);
        let Route::Site(site) = route_of(&dns, &domain("signed.example"), &reach(), SEED).await else {
            panic!("no site");
        };
        assert_eq!((site.secure, site.hosts[0].secure), (secure, secure));
        let asked = server.questions();
        assert!(dns.tlsa(&name).await.is_ok());
        assert_eq!(server.questions(), asked, "a TLSA answer is remembered");
    }
    // And an answer that the validator does not vouch for is not.
    let unsigned = authority(Zone::parse(SIGNED).unwrap()).await;
    let answer = validating(unsigned.address()).tlsa(&name).await.unwrap();
    assert!(!answer.secure);
}

#[tokio::test]
async fn kinds_of_no_are_told_apart_for_every_kind_of_record() {
    let server = authority(Zone::parse(SIGNED).unwrap()).await;
    for dns in [resolver(server.address()), validating(server.address())] {
        assert_eq!(dns.txt("signed.example").await.unwrap().texts, ["v=one; two"]);
        assert_eq!(dns.txt("mx.signed.example.").await, Err(DnsFault::NoData));
        assert_eq!(dns.txt("not.signed.example").await, Err(DnsFault::NoSuchName));
        assert_eq!(dns.tlsa("_25._tcp.signed.example").await, Err(DnsFault::NoSuchName));
        let v6 = dns.addresses("mx.signed.example", Families::V6).await;
        assert_eq!(v6, Err(DnsFault::NoData));
        let never = format!("{}.example", "x".repeat(64));
        assert_eq!(dns.txt(&never).await, Err(DnsFault::NoSuchName));
    }
}

const NAMES: &str = "
7.113.0.203.in-addr.arpa      PTR  Out7.Example.
8.113.0.203.in-addr.arpa      PTR  out8.example
8.113.0.203.in-addr.arpa      PTR  also8.example
9.113.0.203.in-addr.arpa      CNAME 9.part.example
9.part.example                PTR  out9.example
7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa PTR out7.example
one.example                   CNAME Two.Example.
two.example                   CNAME three.example
three.example                 A    203.0.113.3
";

#[test]
fn an_address_has_a_name_in_the_reverse_tree() {
    let name = |address: &str| reverse_name(address.parse().unwrap());
    assert_eq!(name("203.0.113.7"), "7.113.0.203.in-addr.arpa");
    assert_eq!(name("::ffff:203.0.113.7"), "7.113.0.203.in-addr.arpa");
    // RFC 3596 2.5
    let expected = "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.0.0.0.0.1.2.3.4.ip6.arpa";
    assert_eq!(name("4321:0:1:2:3:4:567:89ab"), expected);
}

// R3.7
#[tokio::test]
async fn addresses_lead_back_to_names_and_aliases_are_shown_one_step_at_a_time() {
    let server = authority(Zone::parse(NAMES).unwrap()).await;
    for dns in [resolver(server.address()), validating(server.address())] {
        let names = async |address: &str| {
            dns.ptr(address.parse().unwrap()).await.map(|mut answer| {
                answer.names.sort();
                answer.names
            })
        };
        assert_eq!(names("203.0.113.7").await.unwrap(), ["out7.example"]);
        assert_eq!(names("203.0.113.8").await.unwrap(), ["also8.example", "out8.example"]);
        // RFC 2317: the reverse names of a small network are delegated by aliases.
        assert_eq!(names("203.0.113.9").await.unwrap(), ["out9.example"]);
        assert_eq!(names("2001:db8::7").await.unwrap(), ["out7.example"]);
        assert_eq!(names("203.0.113.10").await, Err(DnsFault::NoSuchName));
        assert_eq!(names("2001:db8::8").await, Err(DnsFault::NoSuchName));
        assert_eq!(dns.cname("one.example").await.unwrap().target, "two.example");
        assert_eq!(dns.cname("two.example.").await.unwrap().target, "three.example");
        assert_eq!(dns.cname("three.example").await, Err(DnsFault::NoData));
        assert_eq!(dns.cname("four.example").await, Err(DnsFault::NoSuchName));
    }
    server.replace(Zone::parse(NAMES).unwrap().trouble("10.113.0.203.in-addr.arpa", Trouble::Fails).unwrap());
    let failing = resolver(server.address()).ptr([203, 0, 113, 10].into()).await;
    assert!(matches!(failing, Err(DnsFault::Later(_))), "{failing:?}");

    // A fixed name has what is fixed; others are asked for.
    let rule = |pattern: &str| FixedRule { pattern: pattern.to_owned(), ..FixedRule::default() };
    let gone = FixedRule { no_such: true, ..rule("8.113.0.203.in-addr.arpa") };
    let rules = vec![rule("one.example"), gone];
    let next: Arc<dyn Dns> = Arc::new(resolver(server.address()));
    let fixed = FixedDns::new(FixedAnswers { rules }, Some(next));
    assert_eq!(fixed.cname("one.example").await, Err(DnsFault::NoData));
    assert_eq!(fixed.cname("two.example").await.unwrap().target, "three.example");
    assert_eq!(fixed.ptr([203, 0, 113, 8].into()).await, Err(DnsFault::NoSuchName));
    assert_eq!(fixed.ptr([203, 0, 113, 7].into()).await.unwrap().names, ["out7.example"]);
}

#[tokio::test]
async fn a_check_uses_nothing_that_is_out_of_date() {
    let server = authority(zone()).await;
    let dns = resolver(server.address()).only_fresh();
    assert!(dns.addresses("mx-quick.example", Families::V4).await.is_ok());
    server.replace(zone().trouble("mx-quick.example", Trouble::Fails).unwrap());
    let after = dns.addresses("mx-quick.example", Families::V4).await;
    assert!(matches!(after, Err(DnsFault::Later(_))), "{after:?}");
}

#[tokio::test]
async fn fixed_answers_come_first_and_the_rest_is_asked_for() {
    let server = authority(zone()).await;
    let rule = |pattern: &str| FixedRule { pattern: pattern.to_owned(), ..FixedRule::default() };
    let address = IpAddr::from([127, 0, 1, 9]);
    let rules = vec![
        FixedRule { mx: vec![(10, "mx.gmail.test".to_owned())], addresses: vec![address], ..rule("*.test") },
        FixedRule { no_such: true, ..rule("gone.test") },
        FixedRule { mx: vec![(0, ".".to_owned())], ..rule("null.test") },
        FixedRule { addresses: vec![address], ..rule("Host.Test.") },
        FixedRule { mx: vec![(5, "mx-a.two.example".to_owned())], ..rule("via.example") },
        FixedRule {
            mx: vec![(5, "sink.invalid.example".to_owned())],
            addresses: vec![address],
            ..rule("sunk.example")
        },
    ];
    let next: Arc<dyn Dns> = Arc::new(resolver(server.address()));
    let dns = FixedDns::new(FixedAnswers { rules: rules.clone() }, Some(next));
    let reach = Reach { allow_private: Network::ALL.to_vec(), ..reach() };
    let check = async |name: &str, expected: Result<(&str, [u8; 4]), Route>| {
        let found = match route_of(&dns, &domain(name), &reach, SEED).await {
            Route::Site(site) => Ok((site.name, site.hosts[0].addresses[0])),
            other => Err(other),
        };
        let expected = expected.map(|(site, address)| (site.to_owned(), IpAddr::from(address)));
        assert_eq!(found, expected, "{name}");
    };
    check("gmail.test", Ok(("mx.gmail.test", [127, 0, 1, 9]))).await;
    check("gone.test", Err(Route::NoSuchDomain("the domain gone.test does not exist".to_owned()))).await;
    check("null.test", Err(Route::NullMx)).await;
    check("host.test", Ok(("host.test", [127, 0, 1, 9]))).await;
    check("sunk.example", Ok(("sink.invalid.example", [127, 0, 1, 9]))).await;
    // A fixed mail host that the real DNS knows; and a domain that only the real DNS knows.
    check("via.example", Ok(("mx-a.two.example", [203, 0, 113, 1]))).await;
    check("plain.example", Ok(("plain.example", [203, 0, 113, 4]))).await;

    let alone = FixedDns::new(FixedAnswers { rules }, None);
    let unknown = route_of(&alone, &domain("plain.example"), &reach, SEED).await;
    assert!(matches!(unknown, Route::NoSuchDomain(_)), "{unknown:?}");
}

const DANE: &str = "
dane.example               MX 10 mx.dane.example
mx.dane.example            A  203.0.113.8
_25._tcp.mx.dane.example   TLSA 3 1 1 aabbccddeeff00112233445566778899aabbccddeeff00112233445566778899
via.example                MX 10 mx.via.example
mx.via.example             CNAME mx.dane.example
own.example                MX 10 mx.own.example
mx.own.example             CNAME host.own.example
host.own.example           A 203.0.113.9
_25._tcp.mx.own.example    TLSA 2 0 1 aabbccddeeff00112233445566778899aabbccddeeff00112233445566778899
none.example               MX 10 mx.none.example
mx.none.example            A 203.0.113.10
";

// R5.1
#[tokio::test]
async fn dane_holds_where_a_validator_vouches_for_every_step() {
    let found = async |zone: Zone, name: &str| {
        let server = authority(zone).await;
        let dns = validating(server.address());
        let Route::Site(site) = route_of(&dns, &domain(name), &reach(), SEED).await else {
            panic!("no site");
        };
        dane_of(&dns, &domain(name), &site, &site.hosts[0], 25).await
    };
    let signed = || Zone::parse(DANE).unwrap().validated();
    let names = |dane: Dane| match dane {
        Dane::Records { records, names } => (records[0].usage, names.join(" ")),
        other => panic!("{other:?}"),
    };
    let check = async |name: &str, usage: u8, expected: &str| {
        assert_eq!(names(found(signed(), name).await), (usage, expected.to_owned()), "{name}");
    };
    check("dane.example", 3, "mx.dane.example dane.example").await;
    check("via.example", 3, "mx.dane.example mx.via.example via.example").await;
    check("own.example", 2, "mx.own.example own.example").await;
    assert_eq!(found(signed(), "none.example").await, Dane::Absent);
    assert_eq!(found(Zone::parse(DANE).unwrap(), "dane.example").await, Dane::Absent);
    let failing = signed().trouble("_25._tcp.mx.dane.example", Trouble::Fails).unwrap();
    let Dane::Later(why) = found(failing, "dane.example").await else {
        panic!("not later");
    };
    assert!(why.starts_with("the TLSA records of mx.dane.example: "), "{why}");
}

// C2, E2
#[tokio::test]
async fn many_questions_at_once_share_a_bounded_number_of_sockets() {
    let mut text = String::new();
    for number in 0..2_000 {
        text.push_str(&format!("d{number}.example MX 10 mx.shared.example\n"));
    }
    text.push_str("mx.shared.example A 203.0.113.11\n");
    let server = authority(Zone::parse(&text).unwrap()).await;
    let dns = Arc::new(resolver(server.address()));
    let mut routes = tokio::task::JoinSet::new();
    for number in 0..2_000 {
        let dns = dns.clone();
        routes.spawn(async move { route_of(&*dns, &domain(&format!("d{number}.example")), &reach(), SEED).await });
    }
    let mut most = 0;
    while let Some(route) = routes.join_next().await {
        let open = std::fs::read_dir("/proc/self/fd").unwrap().count();
        most = most.max(open);
        assert!(matches!(route.unwrap(), Route::Site(_)));
    }
    // Other tests of this file have sockets open as well.
    assert!(most < 700, "{most} open files");
}

// An operator who has mended DNS wants the try to go where it leads now; and when no server answers, what was known still serves.
#[tokio::test]
async fn an_answer_that_is_outdated_is_asked_for_again_and_kept_for_the_worst() {
    let zone =
        |address: &str| Zone::parse(&format!("moved.example MX 10 mx.moved.example\nmx.moved.example A {address}"));
    let server = authority(zone("203.0.113.7").unwrap()).await;
    let resolver = resolver(server.address());
    let domain = Domain::parse("moved.example").unwrap();
    let found = async || resolver.addresses("mx.moved.example", Families::V4).await.unwrap().addresses;
    resolver.mx(&domain).await.unwrap();
    assert_eq!(found().await, [IpAddr::from([203, 0, 113, 7])]);
    server.replace(zone("203.0.113.8").unwrap());
    assert_eq!(found().await, [IpAddr::from([203, 0, 113, 7])], "it is remembered");
    resolver.outdate(&domain);
    assert_eq!(found().await, [IpAddr::from([203, 0, 113, 8])]);
    let asked = server.questions();
    resolver.mx(&domain).await.unwrap();
    assert!(server.questions() > asked, "the MX records too are asked for again");
    drop(server);
    resolver.outdate(&domain);
    assert_eq!(found().await, [IpAddr::from([203, 0, 113, 8])]);
}
