//! Are real replies understood? Each line of `replies.txt` is one.
#![allow(clippy::unwrap_used)] // a failing unwrap is a failing test

use engine::classify::{Class, MessageFate, Rules, Subtype, normalised};
use engine::provider::Providers;
use engine::vocabulary::{BounceClass, ses};
use mail::reply::{Enhanced, Reply};

fn reply(text: &str) -> Reply {
    let (code, rest) = text.split_once(' ').unwrap();
    let (first, after) = rest.split_once(' ').unwrap_or((rest, ""));
    match first.parse::<Enhanced>() {
        Ok(enhanced) => Reply { code: code.parse().unwrap(), enhanced: Some(enhanced), text: after.to_owned() },
        Err(_) => Reply { code: code.parse().unwrap(), enhanced: None, text: rest.to_owned() },
    }
}

/// The fields of each sample.
fn samples() -> impl Iterator<Item = [&'static str; 4]> {
    let lines = include_str!("replies.txt").lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(|line| line.split(" | ").collect::<Vec<_>>().try_into().unwrap_or_else(|_| panic!("four fields: {line}")))
}

// R5.3
#[test]
fn every_sample_is_understood_as_it_should_be() {
    let rules = Rules::shipped();
    let mut wrong = Vec::new();
    let mut count = 0;
    for [provider, text, expected, theirs] in samples() {
        let reply = reply(text);
        let reading = rules.classify(provider, &reply);
        let class = format!("{:?}", reading.meaning.class).to_lowercase();
        let fate = if reading.is_final(&reply, 1) { "end" } else { "again" };
        let found = format!("{}, {class}, {fate}", reading.meaning.rule);
        let bounce = ses(&reading.meaning);
        let words = format!("{} {}/{}", BounceClass::of(&reading.meaning).code(), bounce.kind, bounce.subtype);
        if found != expected || words != theirs {
            wrong.push(format!("{provider} | {text} | {found} | {words}\n  expected {expected} | {theirs}"));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 150, "{count} samples");
}

#[test]
fn every_provider_has_samples() {
    for name in Providers::shipped().names() {
        let count = samples().filter(|[provider, ..]| *provider == name).count();
        assert!(count >= 2, "{name}: {count}");
    }
}

#[test]
fn rules_name_only_providers_that_exist() {
    let text = include_str!("../rules/replies.toml");
    let providers = Providers::shipped();
    let names: Vec<&str> = providers.names().collect();
    let file: toml::Table = text.parse().unwrap();
    for rule in file["rule"].as_array().unwrap() {
        let Some(named) = rule.get("provider") else {
            continue;
        };
        let list: Vec<&str> = match named {
            toml::Value::Array(list) => list.iter().map(|name| name.as_str().unwrap()).collect(),
            one => vec![one.as_str().unwrap()],
        };
        for name in list {
            assert!(names.contains(&name), "{}: no provider {name}", rule["name"]);
        }
    }
}

#[test]
fn a_soft_failure_ends_after_its_tries() {
    let rules = Rules::shipped();
    let full = reply("554 5.2.2 mailbox full");
    let reading = rules.classify("microsoft-365", &full);
    assert_eq!((reading.meaning.subtype, reading.fate), (Subtype::MailboxFull, MessageFate::Retry));
    assert!(!reading.is_final(&full, 2));
    assert!(reading.is_final(&full, 3));
}

#[test]
fn text_is_made_one_line_before_it_is_compared() {
    assert_eq!(
        normalised("4.7.28 Our system has\n421-4.7.28  detected an\t unusual\n rate"),
        "Our system has detected an unusual rate"
    );
    let long = "word ".repeat(10_000);
    assert!(normalised(&long).len() <= 4096);
    let rules = Rules::shipped();
    let split =
        Reply { code: 421, enhanced: "4.7.28".parse().ok(), text: "an unusual rate of\nmail from your IP".into() };
    assert_eq!(&*rules.classify("google", &split).meaning.rule, "google-ip-rate");
}

#[test]
fn a_wrong_file_is_told_by_line_rule_and_field() {
    let check = |text: &str, expected: &str| {
        let error = Rules::parse(text).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    };
    let head = "[[rule]]\nname = \"a\"\nclass = \"soft\"\nsubtype = \"transient\"\n";
    check(&format!("{head}text = '('\n"), "line 5: a: text: ");
    check(&format!("{head}code = \"6xx\"\n"), "line 5: a: code: \"6xx\" is not a code pattern");
    check(&format!("{head}code = \"4xx\"\nenhanced = [\"4.7\"]\n"), "line 6: a: enhanced: \"4.7\" is not");
    check(
        &format!("{head}code = \"4xx\"\nthen = [{{ slow = \"fast\", for = \"1h\" }}]\n"),
        "line 6: a: then: \"fast\" is neither",
    );
    check(&format!("{head}code = \"4xx\"\nthen = [{{ slow = \"half\" }}]\n"), "line 6: a: then: needs `for`");
    check(&format!("{head}code = \"4xx\"\ncolour = 3\n"), "line 6: a: colour: ");
    check("[[rule]]\nname = \"a\"\nclass = \"odd\"\nsubtype = \"transient\"\n", "line 3: a: class: ");
    check(head, "line 2: a: text: without code");
    check(&format!("{head}code = \"4xx\"\n{head}code = \"5xx\"\n"), "line 7: a: name: another rule");
    check("[[rule]\n", "line 1: file: ");
}

// Unknown text under an unknown code is still an answer with a class.
#[test]
fn nothing_is_left_without_a_meaning() {
    let none = Rules::parse("").unwrap();
    let reading = none.classify("google", &reply("550 5.1.1 gone"));
    assert_eq!(reading.meaning.class, Class::Undetermined);
    assert!(reading.is_final(&reply("550 5.1.1 gone"), 1));
}
