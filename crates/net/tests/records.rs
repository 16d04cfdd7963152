//! What a domain publishes, asked of a real server on loopback, and what is said about it.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use std::time::Duration;

use mail::address::Domain;
use mail::dkim::{self, KeyKind, Signer};
use mail::records::{Checked, Flaw, SpfSource, State, Wanted};
use net::clock::Clock;
use net::dns::authority::{Authority, Trouble, Zone};
use net::dns::{Resolver, ResolverSettings, Servers, records_of};

fn domain(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

/// In strings of no more than 255 octets, as a zone file has them.
fn txt(name: &str, text: &str) -> String {
    let strings: Vec<String> =
        text.as_bytes().chunks(200).map(|chunk| format!("\"{}\"", String::from_utf8_lossy(chunk))).collect();
    format!("{name} TXT {}\n", strings.join(" "))
}

async fn asked(zone: Zone, wanted: &Wanted) -> Checked {
    let server = Authority::start(([127, 0, 0, 1], 0).into(), zone).await.unwrap();
    let settings = ResolverSettings {
        servers: Servers::These(vec![server.address()]),
        validator: None,
        timeout: Duration::from_secs(5),
        tries: 1,
    };
    let dns = Resolver::new(&settings, Clock::system()).unwrap().only_fresh();
    records_of(&dns, wanted).await
}

/// The state, and the flaws in the order in which they are told; each with words that name what is in `words`.
async fn check(zone: &str, wanted: &Wanted, state: State, expected: &[(Flaw, &str)]) {
    let checked = asked(Zone::parse(zone).unwrap(), wanted).await;
    let flaws: Vec<Flaw> = checked.findings.iter().map(|finding| finding.flaw).collect();
    let wanted_flaws: Vec<Flaw> = expected.iter().map(|(flaw, _)| *flaw).collect();
    assert_eq!((checked.state(), &flaws), (state, &wanted_flaws), "{zone}\n{checked:#?}");
    for (finding, (_, words)) in checked.findings.iter().zip(expected) {
        assert!(finding.words.contains(words), "{zone}\n“{words}” is not in: {}", finding.words);
    }
}

const GOOD: &[(Flaw, &str)] = &[];

// R1.4
#[tokio::test]
async fn a_proof_stands_where_it_was_asked_for() {
    let wanted = Wanted::Proof {
        name: "_weir.example.com".to_owned(),
        domain: domain("example.com"),
        text: "weir-verification=abc".to_owned(),
    };
    let right = txt("_weir.example.com", "weir-verification=abc");
    check(&right, &wanted, State::Good, GOOD).await;
    check(&format!("{right}{}", txt("_weir.example.com", "other=1")), &wanted, State::Good, GOOD).await;
    check("example.com A 192.0.2.1", &wanted, State::Missing, &[(Flaw::NoRecord, "Publish: weir-verification=abc")])
        .await;
    let other = txt("_weir.example.com", "weir-verification=abd");
    check(&other, &wanted, State::Wrong, &[(Flaw::OtherText, "“weir-verification=abd”")]).await;
    let twice = txt("_weir.example.com.example.com", "weir-verification=abc");
    check(&twice, &wanted, State::Missing, &[(Flaw::NameTwice, "Enter _weir as its name")]).await;
    let star = txt("*.example.com", "v=spf1 -all");
    let flaws = [(Flaw::OtherText, "“v=spf1 -all”"), (Flaw::Wildcard, "*.example.com")];
    check(&star, &wanted, State::Wrong, &flaws).await;
    let fails = Zone::parse(&right).unwrap().trouble("_weir.example.com", Trouble::Fails).unwrap();
    let checked = asked(fails, &wanted).await;
    assert_eq!((checked.state(), checked.findings[0].flaw), (State::NotCheckableNow, Flaw::Later));
}

struct Keys {
    rsa: String,
    other: String,
    ed25519: String,
}

fn keys() -> Keys {
    let record = |kind| {
        let pair = dkim::generate(kind).unwrap();
        Signer::from_pem(&domain("example.com"), "s1", &pair.private_pem).unwrap().record().unwrap()
    };
    Keys { rsa: record(KeyKind::Rsa2048), other: record(KeyKind::Rsa2048), ed25519: record(KeyKind::Ed25519) }
}

// R1.4
#[tokio::test]
async fn a_dkim_key_is_ours_or_it_is_said_whose_and_why() {
    let keys = keys();
    let wanted = Wanted::DkimKey { domain: domain("example.com"), selector: "s1".to_owned(), record: keys.rsa.clone() };
    let name = "s1._domainkey.example.com";
    assert_eq!(wanted.name(), name);
    let is =
        async |text: &str, state, expected: &[(Flaw, &str)]| check(&txt(name, text), &wanted, state, expected).await;

    // Two character-strings, as every RSA key needs.
    is(&keys.rsa, State::Good, GOOD).await;
    is(&keys.rsa.replace("v=DKIM1; k=rsa; ", ""), State::Good, GOOD).await;
    is(&keys.rsa.replace("; p=", ";  s=email ; h=sha1:sha256; p="), State::Good, GOOD).await;
    is(&keys.other, State::Wrong, &[(Flaw::OtherKey, "holds another key than ours: it ends in")]).await;
    is(&keys.ed25519, State::Wrong, &[(Flaw::OtherKeyKind, "of the kind Ed25519; ours is RSA")]).await;
    is("v=DKIM1; k=rsa; p=", State::Wrong, &[(Flaw::Revoked, "p= is empty")]).await;
    is("v=spf1 -all", State::Wrong, &[(Flaw::NotAKey, "it says “v=spf1 -all”")]).await;
    is("k=rsa", State::Wrong, &[(Flaw::NotAKey, "p=, the key, is missing")]).await;
    is(&keys.rsa.replace("DKIM1", "DKIM2"), State::Wrong, &[(Flaw::NotAKey, "v= is not DKIM1")]).await;
    is(&keys.rsa[..255], State::Wrong, &[(Flaw::CutOff, "cut off: 237 of its 392")]).await;
    is(&keys.rsa.replace("; p=", "; t=y; p="), State::Good, &[(Flaw::Testing, "Remove t=y")]).await;
    is(&keys.rsa.replace("; p=", "; h=sha1; p="), State::Wrong, &[(Flaw::ForbidsHash, "Remove h=")]).await;
    is(&keys.rsa.replace("; p=", "; s=chat; p="), State::Wrong, &[(Flaw::ForbidsMail, "Remove s=")]).await;

    let both = txt(name, &keys.rsa) + &txt(name, &keys.other);
    check(&both, &wanted, State::Wrong, &[(Flaw::SeveralKeys, "Keep only ours")]).await;
    let split = txt(name, &keys.rsa[..200]) + &txt(name, &keys.rsa[200..]);
    check(&split, &wanted, State::Wrong, &[(Flaw::SplitInTwo, "spread over 2 TXT records")]).await;
    let none = txt(name, "one") + &txt(name, "two");
    check(&none, &wanted, State::Wrong, &[(Flaw::OtherKey, "none of the 2 TXT records")]).await;
    let twice = txt("s1._domainkey.example.com.example.com", &keys.rsa);
    check(&twice, &wanted, State::Missing, &[(Flaw::NameTwice, "Enter s1._domainkey as its name")]).await;
    check("example.com A 192.0.2.1", &wanted, State::Missing, &[(Flaw::NoRecord, &keys.rsa)]).await;
    let star = txt("*.example.com", "v=spf1 -all");
    check(
        &star,
        &wanted,
        State::Wrong,
        &[(Flaw::NotAKey, "v= is not DKIM1"), (Flaw::Wildcard, "*._domainkey.example.com")],
    )
    .await;
    // An alias to a key that we publish is as good.
    let alias = format!("{name} CNAME k1.weir.example\n{}", txt("k1.weir.example", &keys.rsa));
    check(&alias, &wanted, State::Good, GOOD).await;
    // The zone of a domain may be one above it.
    let below =
        Wanted::DkimKey { domain: domain("news.example.com"), selector: "s1".to_owned(), record: keys.rsa.clone() };
    let twice = txt("s1._domainkey.news.example.com.example.com", &keys.rsa);
    check(&twice, &below, State::Missing, &[(Flaw::NameTwice, "Enter s1._domainkey.news as its name")]).await;

    let wanted =
        Wanted::DkimKey { domain: domain("example.com"), selector: "s1".to_owned(), record: keys.ed25519.clone() };
    check(&txt(name, &keys.ed25519), &wanted, State::Good, GOOD).await;
    check(&txt(name, &keys.rsa), &wanted, State::Wrong, &[(Flaw::OtherKeyKind, "of the kind RSA; ours is Ed25519")])
        .await;
}

#[tokio::test]
async fn a_return_path_has_one_mail_host_and_it_is_ours() {
    let wanted = Wanted::ReturnPathMx {
        domain: domain("bounce.example.com"),
        host: domain("feedback.weir.example"),
        preference: 10,
    };
    let ours = "bounce.example.com MX 10 feedback.weir.example\n";
    check(ours, &wanted, State::Good, GOOD).await;
    let is = async |zone: &str, state, expected: &[(Flaw, &str)]| check(zone, &wanted, state, expected).await;
    is("bounce.example.com MX 20 Feedback.Weir.Example.", State::Good, &[(Flaw::OtherPreference, "20")]).await;
    is("bounce.example.com A 192.0.2.1", State::Missing, &[(Flaw::NoRecord, "Publish: 10 feedback.weir.example")])
        .await;
    is("bounce.example.com MX 0 .", State::Wrong, &[(Flaw::NullMx, "takes no mail")]).await;
    is("bounce.example.com MX 10 mx.other.example", State::Wrong, &[(Flaw::OtherHost, "“mx.other.example”")]).await;
    let more = format!("{ours}bounce.example.com MX 20 mx.other.example");
    is(&more, State::Wrong, &[(Flaw::SeveralHosts, "such as “mx.other.example”")]).await;
    let appended = "bounce.example.com MX 10 feedback.weir.example.example.com";
    is(appended, State::Wrong, &[(Flaw::OtherHost, "end the name with a dot")]).await;
    let twice = "bounce.example.com.example.com MX 10 feedback.weir.example";
    is(twice, State::Missing, &[(Flaw::NameTwice, "Enter bounce as its name")]).await;
}

fn spf(sources: &[&str]) -> Wanted {
    let source = |text: &&str| match text.parse() {
        Ok(address) => SpfSource::Address(address),
        Err(_) => SpfSource::Include(domain(text)),
    };
    Wanted::Spf { domain: domain("b.example.com"), sources: sources.iter().map(source).collect() }
}

async fn spf_is(record: &str, rest: &str, sources: &[&str], state: State, expected: &[(Flaw, &str)]) {
    check(&format!("{}{rest}\n", txt("b.example.com", record)), &spf(sources), state, expected).await;
}

#[tokio::test]
async fn spf_names_our_sources() {
    use Flaw::SourceNotAllowed;
    let weir = txt("spf.weir.example", "v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 ~all");
    let include = ["spf.weir.example"];
    spf_is("v=spf1 include:spf.weir.example ~all", &weir, &include, State::Good, GOOD).await;
    spf_is(
        "V=SPF1 mx INCLUDE:SPF.Weir.Example. -all",
        &(weir.clone() + "b.example.com MX 10 b.example.com"),
        &include,
        State::Good,
        GOOD,
    )
    .await;
    spf_is("v=spf1 redirect=spf.weir.example", &weir, &include, State::Good, GOOD).await;
    // What an included record includes counts, and so does any way in which an address is allowed.
    let nested = weir.clone() + &txt("all.example.com", "v=spf1 include:spf.weir.example -all");
    spf_is("v=spf1 include:all.example.com -all", &nested, &include, State::Good, GOOD).await;
    spf_is("v=spf1 include:all.example.com -all", &nested, &["192.0.2.7", "2001:db8::7"], State::Good, GOOD).await;
    spf_is("v=spf1 ip4:192.0.2.7 -all", "", &["192.0.2.7"], State::Good, GOOD).await;
    let hosts = "b.example.com A 192.0.2.1\nb.example.com MX 10 mx.b.example.com\nmx.b.example.com AAAA 2001:db8::1";
    spf_is("v=spf1 a/24 mx//64 -all", hosts, &["192.0.2.7", "2001:db8::7"], State::Good, GOOD).await;

    let mend = "Make it: v=spf1 mx include:spf.weir.example -all";
    let has_mx = "b.example.com MX 10 b.example.com";
    spf_is("v=spf1 mx -all", has_mx, &include, State::Wrong, &[(SourceNotAllowed, mend)]).await;
    let mend = "Make it: v=spf1 a:a.example ip4:192.0.2.7 ip6:2001:db8::7 redirect=c.example";
    let rest = format!("a.example A 192.0.2.99\n{}", txt("c.example", "v=spf1 -all"));
    let sources = ["192.0.2.7", "2001:db8::7"];
    spf_is("v=spf1 a:a.example redirect=c.example", &rest, &sources, State::Wrong, &[(SourceNotAllowed, mend)]).await;
    // Allowed, but after it was forbidden; and forbidden where it seems allowed.
    spf_is(
        "v=spf1 -ip4:192.0.2.0/24 ip4:192.0.2.7 -all",
        "",
        &["192.0.2.7"],
        State::Wrong,
        &[(SourceNotAllowed, "ip4:192.0.2.7")],
    )
    .await;
    let flaws = [(SourceNotAllowed, "include:spf.weir.example"), (Flaw::AfterAll, "Move all to its end")];
    spf_is("v=spf1 -all include:spf.weir.example", &weir, &include, State::Wrong, &flaws).await;
    spf_is("v=spf1 -include:spf.weir.example ~all", &weir, &include, State::Wrong, &[(SourceNotAllowed, "spf.weir")])
        .await;
}

#[tokio::test]
async fn spf_is_one_record_that_receivers_can_read() {
    let include = ["spf.weir.example"];
    let weir = txt("spf.weir.example", "v=spf1 ip4:192.0.2.0/24 ~all");
    let right = "v=spf1 include:spf.weir.example ~all";
    check(
        "b.example.com A 192.0.2.1",
        &spf(&include),
        State::Missing,
        &[(Flaw::NoRecord, "Publish: v=spf1 include:spf.weir.example ~all")],
    )
    .await;
    spf_is("google-site-verification=1", &weir, &include, State::Missing, &[(Flaw::NoRecord, "Publish")]).await;
    let second = weir.clone() + &txt("b.example.com", "v=spf1 mx a -all");
    let merged = "into one: v=spf1 include:spf.weir.example mx a -all";
    let checked = asked(Zone::parse(&(txt("b.example.com", right) + &second)).unwrap(), &spf(&include)).await;
    assert_eq!((checked.state(), checked.findings[0].flaw), (State::Wrong, Flaw::SeveralRecords));
    // The DNS gives them in any order.
    let other_order = "into one: v=spf1 mx a include:spf.weir.example -all";
    let words = &checked.findings[0].words;
    assert!(words.contains(merged) || words.contains(other_order), "{words}");
    for almost in
        ["v=spf1include:spf.weir.example ~all", "spf1 include:spf.weir.example", "v = spf1 ~all", "v=spf2.0/pra ~all"]
    {
        spf_is(almost, &weir, &include, State::Wrong, &[(Flaw::AlmostRecord, "must begin with v=spf1")]).await;
    }
    for (bad, why) in [
        ("v=spf1 ip4:192.0.2.256 -all", "“ip4:192.0.2.256” is no IPv4 address"),
        ("v=spf1 ip4:2001:db8::1 -all", "is no IPv4 address"),
        ("v=spf1 includes:spf.weir.example -all", "“includes:spf.weir.example” is no term"),
        ("v=spf1 include: spf.weir.example -all", "“include:” names no domain"),
        ("v=spf1 include:spf.weir.example - all", "“-” is no term"),
        ("v=spf1 a/33 -all", "wrong network length"),
        ("v=spf1 redirect=a.example redirect=b.example", "is there twice"),
    ] {
        spf_is(bad, &weir, &include, State::Wrong, &[(Flaw::Unreadable, why)]).await;
    }
    let fails = Zone::parse(&(txt("b.example.com", right) + &weir)).unwrap();
    let top = asked(fails.clone().trouble("b.example.com", Trouble::Fails).unwrap(), &spf(&include)).await;
    assert_eq!(top.state(), State::NotCheckableNow);
    let below = asked(fails.trouble("spf.weir.example", Trouble::Fails).unwrap(), &spf(&["192.0.2.7"])).await;
    let flaws: Vec<Flaw> = below.findings.iter().map(|finding| finding.flaw).collect();
    assert_eq!((below.state(), &flaws[..]), (State::NotCheckableNow, &[Flaw::SourceNotAllowed, Flaw::Later][..]));
}

#[tokio::test]
async fn spf_is_not_so_large_nor_so_wide_that_receivers_give_up() {
    let none: [&str; 0] = [];
    // Eleven in the record itself; eleven with those of the records it includes.
    let eleven: String = (0..11).map(|n| format!("exists:e{n}.example ")).collect();
    spf_is(&format!("v=spf1 {eleven}-all"), "", &none, State::Wrong, &[(Flaw::TooManyLookups, "needs 11 look-ups")])
        .await;
    let ten: String = (0..10).map(|n| format!("exists:e{n}.example ")).collect();
    spf_is(&format!("v=spf1 {ten}-all"), "", &none, State::Good, GOOD).await;
    let included = txt("i.example", &format!("v=spf1 {ten}-all"));
    spf_is(
        "v=spf1 include:i.example -all",
        &included,
        &none,
        State::Wrong,
        &[(Flaw::TooManyLookups, "include:i.example, exists:e0.example")],
    )
    .await;
    let bomb: String = (0..40).map(|n| format!("exists:e{n}.example ")).collect();
    spf_is(&format!("v=spf1 {bomb}-all"), "", &none, State::Wrong, &[(Flaw::TooManyLookups, "more than 30")]).await;

    spf_is("v=spf1 +all", "", &none, State::Wrong, &[(Flaw::LetsEverybody, "“+all” at “b.example.com”")]).await;
    spf_is("v=spf1 all", "", &none, State::Wrong, &[(Flaw::LetsEverybody, "lets everybody")]).await;
    spf_is("v=spf1 ip4:0.0.0.0/0 -all", "", &none, State::Wrong, &[(Flaw::LetsEverybody, "“0.0.0.0/0”")]).await;
    let open = txt("open.example", "v=spf1 +all");
    spf_is(
        "v=spf1 include:open.example -all",
        &open,
        &none,
        State::Wrong,
        &[(Flaw::LetsEverybody, "at “open.example”")],
    )
    .await;
    spf_is("v=spf1 ip4:192.0.2.1", "", &none, State::Good, &[(Flaw::OpenEnded, "says nothing of all others")]).await;
    spf_is("v=spf1 ip4:192.0.2.1 ?all", "", &none, State::Good, &[(Flaw::OpenEnded, "?all")]).await;
    spf_is("v=spf1 ptr -all", "", &none, State::Good, &[(Flaw::UsesPtr, "ptr")]).await;

    spf_is(
        "v=spf1 include:gone.example -all",
        "",
        &none,
        State::Wrong,
        &[(Flaw::IncludeBroken, "“gone.example”, and that has no SPF record")],
    )
    .await;
    let twice = txt("two.example", "v=spf1 -all") + &txt("two.example", "v=spf1 ~all");
    spf_is(
        "v=spf1 include:two.example -all",
        &twice,
        &none,
        State::Wrong,
        &[(Flaw::IncludeBroken, "it has 2 SPF records")],
    )
    .await;
    let round = txt("round.example", "v=spf1 include:b.example.com -all");
    spf_is(
        "v=spf1 include:round.example -all",
        &round,
        &none,
        State::Wrong,
        &[(Flaw::IncludeBroken, "leads back to itself")],
    )
    .await;
    spf_is(
        "v=spf1 include:round.example -all",
        &round,
        &["192.0.2.7"],
        State::Wrong,
        &[(Flaw::SourceNotAllowed, "192.0.2.7"), (Flaw::IncludeBroken, "itself")],
    )
    .await;
    spf_is(
        "v=spf1 a:x.example a:y.example mx:z.example -all",
        "",
        &none,
        State::Wrong,
        &[(Flaw::VoidLookups, "x.example, y.example, z.example")],
    )
    .await;
}

fn dmarc(from: &str, return_path: &str, signing: &[&str]) -> Wanted {
    Wanted::Dmarc {
        domain: domain(from),
        return_path: domain(return_path),
        signing: signing.iter().map(|name| domain(name)).collect(),
    }
}

#[tokio::test]
async fn dmarc_is_there_and_passes_for_what_we_send() {
    let all = dmarc("example.com", "b.example.com", &["example.com"]);
    let at = "_dmarc.example.com";
    let strong = "v=DMARC1; p=reject; rua=mailto:d@example.com";
    let is = async |record: &str, wanted: &Wanted, state, expected: &[(Flaw, &str)]| {
        check(&txt(at, record), wanted, state, expected).await;
    };
    is(strong, &all, State::Good, GOOD).await;
    is("v=DMARC1; p=none; rua=mailto:d@example.com", &all, State::Good, &[(Flaw::PolicyNone, "make it quarantine")])
        .await;
    is("v=DMARC1; p=reject", &all, State::Good, &[(Flaw::NoReports, "rua=mailto:")]).await;
    is("v=DMARC1; p=reject; pct=20; rua=mailto:d@example.com", &all, State::Good, &[(Flaw::PolicyPartly, "20 %")])
        .await;
    is("v=DMARC1; p=block", &all, State::Wrong, &[(Flaw::Unreadable, "p= is not none, quarantine or reject")]).await;
    is("v=DMARC1; rua=mailto:d@example.com", &all, State::Wrong, &[(Flaw::Unreadable, "p=, the policy, is missing")])
        .await;
    is("v=DMARC1 p=none", &all, State::Wrong, &[(Flaw::AlmostRecord, "must begin with v=DMARC1;")]).await;
    is("v=DMARC; p=none", &all, State::Wrong, &[(Flaw::AlmostRecord, "v=DMARC; p=none")]).await;
    let two = txt(at, strong) + &txt(at, "v=DMARC1; p=none");
    check(&two, &all, State::Wrong, &[(Flaw::SeveralRecords, "has 2 DMARC records")]).await;
    let missing = asked(Zone::parse("example.com A 192.0.2.1").unwrap(), &all).await;
    assert_eq!((missing.state(), missing.need), (State::Missing, mail::records::Need::Recommended));
    check(&txt("example.com", strong), &all, State::Missing, &[(Flaw::NoRecord, "Move it to _dmarc.example.com")])
        .await;
    check(
        &txt("_dmarc.example.com.example.com", strong),
        &all,
        State::Missing,
        &[(Flaw::NameTwice, "Enter _dmarc as")],
    )
    .await;

    // Below the domain, beside it below the same domain, and elsewhere.
    is(
        strong,
        &dmarc("example.com", "weir.example", &["example.com"]),
        State::Good,
        &[(Flaw::ReturnPathNotAligned, "at weir.example")],
    )
    .await;
    is(
        strong,
        &dmarc("example.com", "b.example.com", &["weir.example"]),
        State::Good,
        &[(Flaw::KeyNotAligned, "signed by weir.example")],
    )
    .await;
    is(
        strong,
        &dmarc("example.com", "weir.example", &["weir.example"]),
        State::Wrong,
        &[(Flaw::NothingAligned, "fails DMARC")],
    )
    .await;
    is(
        strong,
        &dmarc("example.com", "weir.example", &[]),
        State::Wrong,
        &[(Flaw::NothingAligned, "not signed at all")],
    )
    .await;
    let beside = dmarc("news.example.com", "b.example.com", &["weir.example", "key.example.com"]);
    is(strong, &beside, State::Good, &[(Flaw::Inherited, "has the DMARC policy of example.com")]).await;
    let weak = "v=DMARC1; p=reject; sp=none; rua=mailto:d@example.com";
    is(weak, &beside, State::Good, &[(Flaw::Inherited, "example.com"), (Flaw::PolicyNone, "none")]).await;
    // A policy of `com`'s own, were there one, would make no relatives of example.com and example.net.
    let strict = "v=DMARC1; p=reject; aspf=s; adkim=s; rua=mailto:d@example.com";
    is(strict, &all, State::Good, &[(Flaw::ReturnPathNotAligned, "exactly the same")]).await;
    is(
        strict,
        &dmarc("example.com", "example.com", &["mail.example.com"]),
        State::Good,
        &[(Flaw::KeyNotAligned, "exactly the same")],
    )
    .await;
    is(strict, &dmarc("example.com", "example.com", &["example.com"]), State::Good, GOOD).await;

    let fails = Zone::parse(&txt(at, strong)).unwrap().trouble(at, Trouble::Fails).unwrap();
    assert_eq!(asked(fails, &all).await.state(), State::NotCheckableNow);
}

#[tokio::test]
async fn a_tracking_host_is_an_alias_to_us() {
    let wanted = Wanted::Alias {
        name: "click.example.com".to_owned(),
        domain: domain("example.com"),
        target: domain("track.weir.example"),
    };
    let ours = "track.weir.example A 192.0.2.80\n";
    let is = async |zone: &str, state, expected: &[(Flaw, &str)]| {
        check(&format!("{ours}{zone}\n"), &wanted, state, expected).await;
    };
    is("click.example.com CNAME track.weir.example", State::Good, GOOD).await;
    is("click.example.com CNAME c.example.com\nc.example.com CNAME track.weir.example", State::Good, GOOD).await;
    is(
        "click.example.com CNAME other.example",
        State::Wrong,
        &[(Flaw::OtherTarget, "“other.example”. It must be: track.weir.example")],
    )
    .await;
    is(
        "click.example.com CNAME track.weir.example.example.com",
        State::Wrong,
        &[(Flaw::OtherTarget, "end the name with a dot")],
    )
    .await;
    is(
        "click.example.com CNAME c.example.com\nc.example.com CNAME click.example.com",
        State::Wrong,
        &[(Flaw::AliasCircle, "circle")],
    )
    .await;
    is("click.example.com A 192.0.2.80", State::Good, &[(Flaw::Flattened, "stops working")]).await;
    is("click.example.com A 198.51.100.1", State::Wrong, &[(Flaw::AddressInstead, "198.51.100.1 in place of a CNAME")])
        .await;
    is("click.example.com TXT \"x\"", State::Missing, &[(Flaw::NoRecord, "Publish: track.weir.example")]).await;
    is("", State::Missing, &[(Flaw::NoRecord, "there is no CNAME record at click.example.com")]).await;
    is(
        "click.example.com.example.com CNAME track.weir.example",
        State::Missing,
        &[(Flaw::NameTwice, "Enter click as its name")],
    )
    .await;
}
