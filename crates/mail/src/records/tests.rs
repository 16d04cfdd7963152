#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use std::net::IpAddr;
use std::ops::ControlFlow;

use proptest::prelude::*;

use super::*;
use crate::dkim::{self, KeyKind};

fn domain(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

/// Judges with a world that answers every question; more rounds or questions than this are a fault.
fn judged(wanted: &Wanted, world: &dyn Fn(&Question) -> Answer) -> Checked {
    const QUESTIONS_MAX: usize = 120;
    let mut known = Known::new();
    let mut asked = 0;
    let end = (0..=QUESTIONS_MAX).try_for_each(|_| match judge(wanted, &mut known) {
        Judged::Done(checked) => ControlFlow::Break(checked),
        Judged::Ask(questions) => {
            assert!(!questions.is_empty());
            asked += questions.len();
            assert!(asked <= QUESTIONS_MAX, "{asked} questions");
            for question in questions {
                let answer = world(&question);
                known.tell(question, answer);
            }
            ControlFlow::Continue(())
        }
    });
    end.break_value().expect("every round answers what was open, and there is a limit to what is asked")
}

/// Only these texts exist, all at one name.
fn with_texts(wanted: &Wanted, texts: &[&str]) -> Checked {
    let at = wanted.name();
    judged(wanted, &|question| match question {
        Question { kind: Kind::Txt, name } if *name == at => {
            Answer::Texts(texts.iter().map(|text| (*text).to_owned()).collect())
        }
        _ => Answer::NoSuchName,
    })
}

fn flaws(checked: &Checked) -> Vec<Flaw> {
    checked.findings.iter().map(|finding| finding.flaw).collect()
}

#[test]
fn what_a_web_form_added_is_told_apart() {
    let key = dkim::generate(KeyKind::Rsa2048).unwrap().record;
    let wanted = Wanted::DkimKey { domain: domain("example.com"), selector: "s1".to_owned(), record: key.clone() };
    let check = |text: &str, expected: Flaw| {
        let checked = with_texts(&wanted, &[text]);
        assert_eq!((checked.state(), flaws(&checked)), (State::Wrong, vec![expected]), "{text}");
    };
    check(&format!("\"{key}\""), Flaw::QuotesInside);
    check(&format!("\"{}\" \"{}\"", &key[..200], &key[200..]), Flaw::QuotesInside);
    check(&key.replace(';', "\\;"), Flaw::BackslashesInside);
    // Where a piece of the key is lost, it is not a slip of form.
    check(&format!("\"{}\"", &key[..200]), Flaw::NotAKey);
    let pieces = [&key[250..], &key[..100], &key[100..250]];
    let split = with_texts(&wanted, &pieces);
    assert_eq!(flaws(&split), [Flaw::SplitInTwo]);

    let proof = Wanted::Proof { name: "example.com".to_owned(), domain: domain("example.com"), text: "x=1".to_owned() };
    assert_eq!(flaws(&with_texts(&proof, &["v=spf1 -all", "\"x=1\""])), [Flaw::QuotesInside]);
    assert_eq!(flaws(&with_texts(&proof, &["v=spf1 -all", " x=1 "])), []);
}

// RFC 6376 C.2: a key of 1024 bits.
#[test]
fn a_short_key_is_advised_against() {
    let key = "v=DKIM1; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYtIxN2SnFCjxOCKG9v\
               3b4jYfcTNh5ijSsq631uBItLa7od+v/RtdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhitdY9tf6mcwGjaNBcWToIMmPSPDdQPNUYck\
               cQ2QIDAQAB";
    let wanted =
        Wanted::DkimKey { domain: domain("example.com"), selector: "brisbane".to_owned(), record: key.to_owned() };
    let checked = with_texts(&wanted, &[key]);
    assert_eq!((checked.state(), flaws(&checked)), (State::Good, vec![Flaw::WeakKey]));
    assert!(checked.findings[0].words.contains("has 1024 bits"), "{:?}", checked.findings);
    // The same key without its clothes, as the RFC has it.
    let whole = DkimKey::parse(key).unwrap().key;
    let bare = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &whole[22..]);
    assert_eq!(flaws(&with_texts(&wanted, &[&format!("v=DKIM1; k=rsa; p={bare}")])), [Flaw::WeakKey]);
}

#[test]
fn key_records_are_read_as_verifiers_read_them() {
    let check = |text: &str, expected: Result<(), &str>| match (DkimKey::parse(text), expected) {
        (Ok(_), Ok(())) => {}
        (Err(why), Err(words)) if why.to_string().contains(words) => {}
        (read, _) => panic!("{text}: {read:?}"),
    };
    check("p=", Ok(()));
    check("v=DKIM1;p=AAAA;", Ok(()));
    check("v = DKIM1 ; p = AA AA ; n=note; x=y", Ok(()));
    check("p=AAA", Ok(()));
    check("", Err("p=, the key"));
    check("v=DKIM1", Err("p=, the key"));
    check("p=AAAA; v=DKIM1", Err("not the first"));
    check("v=DKIM1; p=A*", Err("base64"));
    check("v=DKIM1; p=AAAA; p=BBBB", Err("p= is there twice"));
    check("just words", Err("“just words” is no tag"));
}

#[test]
fn spf_terms_are_read() {
    let read = |text: &str| Spf::parse(text).unwrap();
    let spf = read(
        "v=spf1  +mx:Mx.Example.Com./24//64 ?a ~include:x.example -exists:%{i}.e.example exp=why.example redirect=r.example",
    );
    assert_eq!(
        spf.terms,
        [
            (Qualifier::Pass, Mechanism::Mx { domain: Some("mx.example.com".to_owned()), v4: 24, v6: 64 }),
            (Qualifier::Neutral, Mechanism::A { domain: None, v4: 32, v6: 128 }),
            (Qualifier::SoftFail, Mechanism::Include("x.example".to_owned())),
            (Qualifier::Fail, Mechanism::Exists("%{i}.e.example".to_owned())),
        ]
    );
    assert_eq!(spf.redirect.as_deref(), Some("r.example"));
    assert_eq!(read("v=spf1").terms, []);
    let network =
        |address: &str, prefix| (Qualifier::Pass, Mechanism::Network { address: address.parse().unwrap(), prefix });
    assert_eq!(
        read("v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32").terms,
        [network("192.0.2.0", 24), network("2001:db8::", 32)]
    );
    for bad in [
        "",
        "v=spf1;",
        "v=spf10 a",
        "v=spf1 a:",
        "v=spf1 ip4:192.0.2.1/-1",
        "v=spf1 ip6:::1/129",
        "v=spf1 all:x",
        "v=spf1 mx/24/64",
    ] {
        assert!(Spf::parse(bad).is_err(), "{bad}");
    }
    let long = format!("v=spf1 {}", "a ".repeat(1_000));
    assert_eq!(Spf::parse(&long), Err(SpfError::TooLong));
}

#[test]
fn dmarc_tags_are_read() {
    let dmarc = Dmarc::parse(
        "v=DMARC1; p=Quarantine; sp=none; adkim=s; pct=50; rua=mailto:a@x.example, mailto:b@x.example!10m",
    )
    .unwrap();
    assert_eq!((dmarc.policy, dmarc.subdomain_policy), (DmarcPolicy::Quarantine, Some(DmarcPolicy::None)));
    assert_eq!((dmarc.dkim, dmarc.spf, dmarc.percent), (Alignment::Strict, Alignment::Relaxed, 50));
    assert_eq!(dmarc.reports_to, ["mailto:a@x.example", "mailto:b@x.example!10m"]);
    for bad in
        ["", "p=none; v=DMARC1", "v=DMARC1; p=none; pct=101", "v=DMARC1; p=none; aspf=x", "v=DMARC1;; p=none; p=none"]
    {
        assert!(Dmarc::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_strangers_text_cannot_act() {
    let shown = quoted("a\r\nb\u{1b}[2J\u{202e}c\u{200b}");
    assert_eq!(shown, "“a\\u{d}\\u{a}b\\u{1b}[2J\\u{202e}c\\u{200b}”");
    assert!(quoted(&"ä".repeat(10_000)).len() < 230);
}

// Every record includes thirty others, each of which includes thirty others: thirty to the power of ten look-ups.
#[test]
fn records_that_refer_to_each_other_without_end_cost_little() {
    let everything = |question: &Question| match question.kind {
        Kind::Txt => {
            let terms: String = (0..30).map(|n| format!("include:i{n}.{} ", question.name)).collect();
            Answer::Texts(vec![format!("v=spf1 {terms}-all")])
        }
        _ => Answer::NoData,
    };
    let source = SpfSource::Address(IpAddr::from([192, 0, 2, 7]));
    let wanted = Wanted::Spf { domain: domain("a.example"), sources: vec![source] };
    let checked = judged(&wanted, &everything);
    assert!(flaws(&checked).contains(&Flaw::TooManyLookups), "{checked:#?}");
    let crowd = |question: &Question| match question.kind {
        Kind::Txt => Answer::Texts(vec![format!("v=spf1 {}-all", "a mx ".repeat(190))]),
        Kind::Mx => Answer::Hosts((0..400).map(|n| (n, format!("h{n}.example"))).collect()),
        _ => Answer::NoData,
    };
    assert!(flaws(&judged(&wanted, &crowd)).contains(&Flaw::TooManyLookups));
}

/// Texts that look like what is looked for, about a few names that refer to each other.
fn text() -> impl Strategy<Value = String> {
    let spf_term = prop_oneof![
        "[-+~?]?(include|a|mx|exists|ptr|redirect|ip4|ip6)[:=][abc]\\.(x|y)\\.example",
        "[-+~?]?(a|mx|ptr|all)(/[0-9]{1,3})?(//[0-9]{1,3})?",
        "ip4:[0-9]{1,3}\\.0\\.2\\.1(/[0-9]{1,2})?",
        "[ -~]{0,12}",
    ];
    let tag = "(v|p|k|t|h|s|sp|pct|rua|adkim|aspf)=(DKIM1|DMARC1|rsa|none|reject|y|s|[A-Za-z0-9+/=]{0,80})";
    prop_oneof![
        proptest::collection::vec(spf_term, 0..8).prop_map(|terms| format!("v=spf1 {}", terms.join(" "))),
        proptest::collection::vec(tag, 0..8).prop_map(|tags| tags.join("; ")),
        proptest::collection::vec(tag, 0..8).prop_map(|tags| format!("v=DMARC1; {}", tags.join(";"))),
        Just("p=1".to_owned()),
        "\\PC{0,80}",
        any::<String>(),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    let name = "[abc]\\.(x|y)\\.example";
    prop_oneof![
        4 => proptest::collection::vec(text(), 0..4).prop_map(Answer::Texts),
        1 => proptest::collection::vec((any::<u16>(), name), 0..4).prop_map(Answer::Hosts),
        1 => name.prop_map(Answer::Target),
        1 => proptest::collection::vec(any::<IpAddr>(), 0..4).prop_map(Answer::Addresses),
        1 => Just(Answer::NoData),
        1 => Just(Answer::NoSuchName),
        1 => "\\PC{0,80}".prop_map(Answer::Later),
    ]
}

proptest! {
    #[test]
    fn no_text_is_too_strange_to_read(text in text()) {
        let _ = (Spf::parse(&text), Dmarc::parse(&text), DkimKey::parse(&text));
        prop_assert!(!quoted(&text).chars().any(char::is_control));
    }

    #[test]
    fn whatever_the_dns_says_the_judgement_ends_and_can_be_shown(answers in proptest::collection::vec(answer(), 1..24)) {
        // The same question has the same answer, of whatever kind: a server may be that wrong.
        let world = |question: &Question| {
            let number = question.name.bytes().fold(question.kind as usize, |sum, byte| sum.wrapping_mul(31) + usize::from(byte));
            answers[number % answers.len()].clone()
        };
        let from = domain("a.x.example");
        let source = [SpfSource::Include(domain("b.x.example")), SpfSource::Address(IpAddr::from([192, 0, 2, 1]))];
        let wanted = [
            Wanted::Proof { name: "_p.a.x.example".to_owned(), domain: from.clone(), text: "p=1".to_owned() },
            Wanted::DkimKey { domain: from.clone(), selector: "s".to_owned(), record: "v=DKIM1; k=ed25519; p=AAAA".to_owned() },
            Wanted::ReturnPathMx { domain: from.clone(), host: domain("c.y.example"), preference: 10 },
            Wanted::Spf { domain: from.clone(), sources: source.to_vec() },
            Wanted::Dmarc { domain: from.clone(), return_path: domain("b.x.example"), signing: vec![domain("c.y.example")] },
            Wanted::Alias { name: "t.a.x.example".to_owned(), domain: from, target: domain("c.y.example") },
        ];
        for wanted in wanted {
            let checked = judged(&wanted, &world);
            for words in checked.findings.iter().map(|finding| &finding.words).chain(&checked.found) {
                prop_assert!(!words.chars().any(char::is_control), "{words:?}");
                prop_assert!(words.len() < 20_000);
            }
            // Nothing is proven by what was not found.
            if let Wanted::Proof { name, text, .. } = &wanted
                && checked.state() == State::Good
            {
                let answer = world(&Question { kind: Kind::Txt, name: name.clone() });
                prop_assert!(matches!(answer, Answer::Texts(texts) if texts.iter().any(|found| found.trim() == text)));
            }
        }
    }
}
