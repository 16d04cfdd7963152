//! What the world says of an address, asked of a real server on loopback: its names, and block lists.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mail::records::State;
use net::clock::Clock;
use net::dns::authority::{Authority, Trouble, Zone};
use net::dns::blocklist::{self, BlockList, Gravity, Ipv6, Opinion, check, check_all};
use net::dns::{Resolver, ResolverSettings, Reverse, ReverseFlaw, Servers, reverse_of};

async fn authority(zone: Zone) -> Authority {
    Authority::start(([127, 0, 0, 1], 0).into(), zone).await.unwrap()
}

fn resolver(server: SocketAddr) -> Resolver {
    let settings = ResolverSettings {
        servers: Servers::These(vec![server]),
        validator: None,
        timeout: Duration::from_secs(5),
        tries: 1,
    };
    Resolver::new(&settings, Clock::system()).unwrap().only_fresh()
}

const V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 7));

async fn reverse(zone: Zone, address: IpAddr, ehlo: &str) -> Reverse {
    let server = authority(zone).await;
    reverse_of(&resolver(server.address()), address, ehlo).await
}

async fn leads(zone: &str, state: State, expected: &[(ReverseFlaw, &str)]) {
    let found = reverse(Zone::parse(zone).unwrap(), V4, "out7.example").await;
    let flaws: Vec<ReverseFlaw> = found.findings.iter().map(|finding| finding.flaw).collect();
    let wanted: Vec<ReverseFlaw> = expected.iter().map(|(flaw, _)| *flaw).collect();
    assert_eq!((found.state(), &flaws), (state, &wanted), "{zone}\n{found:#?}");
    for (finding, (_, words)) in found.findings.iter().zip(expected) {
        assert!(finding.words.contains(words), "“{words}” is not in: {}", finding.words);
    }
}

// R3.7
#[tokio::test]
async fn an_address_and_its_ehlo_name_lead_to_each_other() {
    use ReverseFlaw::{
        EhloHasNoAddress, EhloIsNotAName, EhloLeadsElsewhere, Generic, NameHasNoAddress, NameLeadsElsewhere, NoPtr,
        SeveralNames,
    };
    const BACK: &str = "7.113.0.203.in-addr.arpa PTR";
    const OUT: &str = "out7.example A 203.0.113.7\n";
    leads(&format!("{OUT}{BACK} Out7.Example."), State::Good, &[]).await;
    leads(OUT, State::Missing, &[(NoPtr, "7.113.0.203.in-addr.arpa PTR out7.example")]).await;
    let elsewhere = "out7.example A 203.0.113.8\n";
    let both =
        [(NameLeadsElsewhere, "leads to 203.0.113.8 and not back"), (EhloLeadsElsewhere, "Publish out7.example A")];
    leads(&format!("{elsewhere}{BACK} out7.example"), State::Wrong, &both).await;
    let gone = [(NameHasNoAddress, "“gone.example”, which has no A record")];
    leads(&format!("{OUT}{BACK} gone.example"), State::Wrong, &gone).await;
    let v6_only = [(NameHasNoAddress, "no A record"), (EhloHasNoAddress, "Publish out7.example A 203.0.113.7")];
    leads(&format!("out7.example AAAA 2001:db8::7\n{BACK} out7.example"), State::Wrong, &v6_only).await;
    let other = format!("{OUT}mail.example A 203.0.113.7\n{BACK} mail.example");
    leads(&other, State::Good, &[(EhloIsNotAName, "greets as out7.example, but its PTR record names “mail.example”")])
        .await;
    leads(
        &format!("mail.example A 203.0.113.7\n{BACK} mail.example"),
        State::Wrong,
        &[(EhloHasNoAddress, "no A record")],
    )
    .await;
    let several = format!("{OUT}mail.example A 203.0.113.9\n{BACK} mail.example\n{BACK} out7.example");
    leads(&several, State::Good, &[(NameLeadsElsewhere, "“mail.example”"), (SeveralNames, "has 2 PTR records")]).await;
    let generic = format!("{OUT}203-0-113-7.dyn.example A 203.0.113.7\n{BACK} 203-0-113-7.dyn.example");
    leads(&generic, State::Good, &[(Generic, "made of the numbers"), (EhloIsNotAName, "out7")]).await;
    // A crowd of names is not looked up without end.
    let crowd: String = (0..200).map(|n| format!("{BACK} a{n}.example\n")).collect();
    let found = reverse(Zone::parse(&format!("{OUT}{crowd}")).unwrap(), V4, "out7.example").await;
    assert_eq!((found.state(), found.names.len()), (State::Wrong, 200));
    assert!(found.findings.len() < 20);
}

// R3.7
#[tokio::test]
async fn what_cannot_be_looked_up_now_is_no_verdict_on_an_address() {
    let zone = || Zone::parse("out7.example A 203.0.113.7\n7.113.0.203.in-addr.arpa PTR out7.example").unwrap();
    for name in ["7.113.0.203.in-addr.arpa", "out7.example"] {
        let found = reverse(zone().trouble(name, Trouble::Fails).unwrap(), V4, "out7.example").await;
        assert_eq!(found.state(), State::NotCheckableNow, "{found:#?}");
        assert!(found.findings.iter().all(|finding| finding.flaw == ReverseFlaw::Later));
    }
    let v6: IpAddr = "2001:db8::7".parse().unwrap();
    let at = net::dns::reverse_name(v6);
    let zone = Zone::parse(&format!("out7.example AAAA 2001:db8::7\n{at} PTR out7.example")).unwrap();
    let found = reverse(zone, v6, "out7.example.").await;
    assert_eq!((found.state(), found.findings.len()), (State::Good, 0), "{found:#?}");
}

const ZEN: &str = "
2.0.0.127.zen.example       A   127.0.0.2
2.0.0.127.zen.example       A   127.0.0.10
7.113.0.203.zen.example     A   127.0.0.3
7.113.0.203.zen.example     A   127.0.0.10
7.113.0.203.zen.example     TXT \"https://zen.example/203.0.113.7\"
8.113.0.203.zen.example     A   127.0.0.77
9.113.0.203.zen.example     A   127.255.255.254
7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.zen.example A 127.0.0.2
";

/// RFC 5782 5, for IPv6.
const V6_POINT: &str = "2.0.0.0.0.0.f.7.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.zen.example A 127.0.0.2\n";

fn zen() -> BlockList {
    let mut list = blocklist::parse(blocklist::SHIPPED).unwrap().remove(0);
    list.zone = "zen.example".to_owned();
    list
}

async fn opinion(zone: &str, list: &BlockList, address: &str) -> Opinion {
    let server = authority(Zone::parse(zone).unwrap()).await;
    check(&resolver(server.address()), list, address.parse().unwrap()).await
}

fn words(opinion: &Opinion) -> &str {
    match opinion {
        Opinion::Refused { words, .. } | Opinion::Broken { words } | Opinion::Unknown { words } => words,
        other => panic!("no words: {other:?}"),
    }
}

// R3.7, R6.6
#[tokio::test]
async fn a_listing_is_told_with_its_meaning_and_its_reason() {
    let Opinion::Listed(listing) = opinion(ZEN, &zen(), "203.0.113.7").await else { panic!("not listed") };
    let entries: Vec<(String, Gravity)> =
        listing.entries.iter().map(|entry| (format!("{} {}", entry.code, entry.means), entry.gravity)).collect();
    assert_eq!(
        entries,
        [
            ("127.0.0.3 CSS: low reputation, sends like a spammer".to_owned(), Gravity::Bench),
            ("127.0.0.10 PBL: the provider says that no mail should come from here".to_owned(), Gravity::Mend),
        ]
    );
    assert_eq!(listing.gravity(), Gravity::Bench);
    assert_eq!(listing.reasons, ["“https://zen.example/203.0.113.7”"]);
    assert_eq!(opinion(ZEN, &zen(), "203.0.113.10").await, Opinion::NotListed);
    assert_eq!(opinion(ZEN, &zen(), "::ffff:203.0.113.10").await, Opinion::NotListed);
    // A code that is in no table is a listing; without a text it has no reason.
    let Opinion::Listed(unknown) = opinion(ZEN, &zen(), "203.0.113.8").await else { panic!("not listed") };
    assert_eq!((unknown.gravity(), unknown.reasons.len()), (Gravity::Bench, 0));
}

// R6.6: each of these has been taken for a listing by somebody.
#[tokio::test]
async fn what_is_no_answer_of_a_list_is_never_a_listing() {
    let zen = zen();
    let refused = opinion(ZEN, &zen, "203.0.113.9").await;
    assert!(words(&refused).contains("127.255.255.254: the question came through a public resolver"), "{refused:?}");
    for (code, expected) in [("252", "written wrongly"), ("255", "too many questions"), ("7", "does not know")] {
        let everything = format!("*.zen.example A 127.255.255.{code}");
        let refused = opinion(&everything, &zen, "203.0.113.7").await;
        assert!(matches!(&refused, Opinion::Refused { words, .. } if words.contains(expected)), "{refused:?}");
    }
    let refused = opinion(&format!("{ZEN}\n1.113.0.203.zen.example A 127.0.0.1"), &zen, "203.0.113.1").await;
    assert!(matches!(refused, Opinion::Refused { .. }), "{refused:?}");

    // Expired, parked, and listing the whole world.
    let everything = opinion("*.zen.example A 127.0.0.2", &zen, "203.0.113.7").await;
    assert!(matches!(&everything, Opinion::Broken { words } if words.contains("127.0.0.1")), "{everything:?}");
    let parked = opinion("*.zen.example A 192.0.2.80", &zen, "203.0.113.7").await;
    assert!(
        matches!(&parked, Opinion::Broken { words } if words.contains("192.0.2.80 came as an answer")),
        "{parked:?}"
    );
    let half_parked = opinion(&format!("{ZEN}\n11.113.0.203.zen.example A 192.0.2.80"), &zen, "203.0.113.11").await;
    assert!(matches!(half_parked, Opinion::Broken { .. }));
    let empty = opinion("zen.example A 192.0.2.1", &zen, "203.0.113.7").await;
    assert!(matches!(&empty, Opinion::Broken { words } if words.contains("empty or gone")), "{empty:?}");
    // Emptied, but for the address: nothing it says counts.
    let left = opinion("7.113.0.203.zen.example A 127.0.0.2", &zen, "203.0.113.7").await;
    assert!(matches!(left, Opinion::Broken { .. }));
}

// R6.6
#[tokio::test]
async fn silence_is_told_from_not_listed() {
    for name in ["10.113.0.203.zen.example", "2.0.0.127.zen.example", "1.0.0.127.zen.example"] {
        let failing = Zone::parse(ZEN).unwrap().trouble(name, Trouble::Fails).unwrap();
        let server = authority(failing).await;
        let opinion = check(&resolver(server.address()), &zen(), [203, 0, 113, 10].into()).await;
        assert!(matches!(&opinion, Opinion::Unknown { words } if words.contains("Spamhaus ZEN did not answer")));
    }
    // What was listed before is not listed for that when the servers fail.
    let brief = ZEN.replace("7.113.0.203.zen.example     A", "7.113.0.203.zen.example 0 A");
    let server = authority(Zone::parse(&brief).unwrap()).await;
    let dns = resolver(server.address());
    assert!(matches!(check(&dns, &zen(), V4).await, Opinion::Listed(_)));
    server.replace(Zone::parse(&brief).unwrap().trouble("7.113.0.203.zen.example", Trouble::Fails).unwrap());
    assert!(matches!(check(&dns, &zen(), V4).await, Opinion::Unknown { .. }));
}

#[tokio::test]
async fn ipv6_addresses_are_asked_for_by_nibbles_where_a_list_knows_them() {
    let untested = zen();
    assert_eq!(untested.ipv6, Ipv6::Untested);
    let tested = BlockList { ipv6: Ipv6::Tested, ..zen() };
    let none = BlockList { ipv6: Ipv6::None, ..zen() };
    assert!(matches!(opinion(ZEN, &untested, "2001:db8::7").await, Opinion::Listed(_)));
    assert_eq!(opinion(ZEN, &untested, "2001:db8::8").await, Opinion::NotListed);
    assert!(matches!(opinion(ZEN, &tested, "2001:db8::8").await, Opinion::Broken { .. }));
    let with_point = format!("{ZEN}{V6_POINT}");
    assert!(matches!(opinion(&with_point, &tested, "2001:db8::7").await, Opinion::Listed(_)));
    assert_eq!(opinion(&with_point, &tested, "2001:db8::8").await, Opinion::NotListed);
    assert_eq!(opinion(ZEN, &none, "2001:db8::7").await, Opinion::NotCovered);
    assert!(matches!(opinion("*.zen.example A 127.0.0.2", &untested, "2001:db8::7").await, Opinion::Broken { .. }));
}

#[tokio::test]
async fn lists_are_asked_together_and_those_that_are_off_are_not() {
    let off = BlockList { name: "off".to_owned(), zone: "off.example".to_owned(), asked: false, ..zen() };
    let dead = BlockList { name: "dead".to_owned(), zone: "dead.example".to_owned(), ..zen() };
    let server = authority(Zone::parse(ZEN).unwrap()).await;
    let found = check_all(&resolver(server.address()), &[dead, off, zen()], V4).await;
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["dead", "Spamhaus ZEN"]);
    assert!(matches!((&found[0].1, &found[1].1), (Opinion::Broken { .. }, Opinion::Listed(_))), "{found:?}");
}

#[test]
fn the_shipped_lists_are_sound_and_a_wrong_file_says_where() {
    let lists = blocklist::parse(blocklist::SHIPPED).unwrap();
    let asked: Vec<&str> = lists.iter().filter(|list| list.asked).map(|list| list.zone.as_str()).collect();
    assert_eq!(asked, ["zen.spamhaus.org", "bl.spamcop.net", "psbl.surriel.com", "dnsbl-1.uceprotect.net"]);
    let with = |change: &dyn Fn(&str) -> String| blocklist::parse(&change(blocklist::SHIPPED)).unwrap_err().to_string();
    assert!(with(&|text| text.replacen("gravity =", "gravitas =", 1)).contains("gravitas"));
    assert!(with(&|text| text.replace("127.0.0.9", "192.0.2.9")).contains("“Spamhaus ZEN”: 192.0.2.9 is not in 127"));
    assert!(with(&|text| text.replace("127.0.0.9", "127.0.0.3")).contains("is there twice"));
    assert!(with(&|text| text.replace("bl.spamcop.net", "not a zone")).contains("“SpamCop”: its zone"));
    assert!(with(&|text| text.replace("bl.spamcop.net", "ZEN.spamhaus.org")).contains("same zone"));
}
