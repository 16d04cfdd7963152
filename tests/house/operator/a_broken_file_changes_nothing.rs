//! Is a bad configuration told whole, and never half used?

use crate::support::{Manner, Plan, Town, among_others, until_true};
use std::fs;
use std::process::Command;

// E7: SIGHUP with a broken file: the old one stays in use, the fault is told, no message is dropped.
#[test]
fn a_broken_file_on_reload_changes_nothing() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let house = Plan::new(&town).open();
    let good = fs::read_to_string(&house.config).unwrap();
    let waiting = house.submit_to("grey@mail.test");
    house.wait_why(&waiting, "greylisted");

    fs::write(&house.config, good.replace("senders = \"any\"", "senders = \"anybody\"")).unwrap();
    house.signal("HUP");
    let told = house.wait_log("the new configuration is not used");
    let line = good.lines().position(|line| line == "senders = \"any\"").unwrap() + 1;
    assert!(told.contains(&format!("weir.toml:{line}:")), "{told}");
    let id = house.submit_to("bob@mail.test");
    house.wait_state(&id, "delivered");

    // A good one is taken into use, and what waits is still there.
    fs::write(&house.config, good.replace("out0.weir.test", "renamed.weir.test")).unwrap();
    house.signal("HUP");
    house.wait_log("the configuration is read anew");
    house.retry(&waiting);
    house.wait_state(&waiting, "delivered");
    until_true("new connections bear the new name", || {
        let id = house.submit_to("cy@mail.test");
        house.wait_state(&id, "delivered");
        // Connections that were open keep the name they were opened under.
        provider.commands().iter().any(|(_, command)| command == "EHLO renamed.weir.test") || {
            provider.change(Manner { messages_max: Some(1), ..Manner::default() });
            false
        }
    });
}

// Every bad value is named at once, with its line and what would be right.
#[test]
fn check_config_names_each_bad_value_with_its_line() {
    let _others = among_others();
    let town = Town::new();
    let good = Plan::new(&town).text();
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("bad-{}.toml", std::process::id()));
    let check = |text: &str| {
        fs::write(&file, text).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_weir")).arg("check-config").arg(&file).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr))
    };
    let (fine, words) = check(&good);
    assert!(fine, "{words}");

    let source = town.source(0).to_string();
    let bad = good
        .replace("[limits]\n", "[limits]\nrecipients_max = 5\n")
        .replace("host = \"weir.test\"", "host = \"not a host\"")
        .replace("trusted = [\"127.0.0.0/8\"]", "trusted = [\"127.0.0.0/99\"]")
        .replace("[delivery]\n", "[delivery]\nretry_minutes = []\n")
        .replace(&format!("ips = [\"{source}\"]"), "ips = [\"198.51.100.7\"]")
        .replace("provider = \"default\"", "provider = \"nobody-known\"");
    let (fine, words) = check(&bad);
    assert!(!fine);
    for (number, line) in bad.lines().enumerate().map(|(number, line)| (number + 1, line)) {
        let wrong = ["recipients_max", "host =", "trusted", "retry_minutes", "198.51.100.7", "nobody-known"];
        if wrong.iter().any(|word| line.contains(word)) {
            assert!(words.contains(&format!(":{number}: ")), "line {number} ({line}) is not named:\n{words}");
        }
    }
    assert!(words.contains("6 problems"), "{words}");

    // What is no TOML, and what nobody knows, too.
    let half = good.replace("[[account]]\nid = \"shop\"\n", "[[account]]\nid = \"shop\"\nper_day = 5\n");
    let (fine, words) = check(&half);
    assert!(!fine && words.contains("per_day and per_second stand together"), "{words}");
    for (line, words_of_it) in [("colour = \"blue\"", "colour"), ("host = ", "")] {
        let (fine, words) = check(&format!("{line}\n{good}"));
        assert!(!fine && words.contains(":1: ") && words.contains(words_of_it), "{words}");
    }
    // Serving with it is refused with the same words.
    fs::write(&file, &bad).unwrap();
    let mut serve = Command::new(env!("CARGO_BIN_EXE_weir"));
    let output = serve.args(["serve", "--data", "/nonexistent", "--config"]).arg(&file).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("recipients_max must be"));
    let _ = fs::remove_file(file);
}

// What is allowed and hardly meant is told with its line, and the file is good all the same.
#[test]
fn check_config_warns_of_what_is_hardly_meant() {
    let _others = among_others();
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("warned-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("weir.toml");
    let check = |text: &str| {
        fs::write(&file, text).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_weir")).arg("check-config").arg(&file).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let good = Plan::new(&Town::new()).text();
    let (fine, words) = check(&good);
    assert!(fine && !words.contains("warning"), "{words}");

    let rule = "[[rule]]\nname = \"odd\"\nprovider = \"nobody-known\"\ncode = \"5xx\"\nclass = \"block\"\nsubtype = \"policy\"\n";
    fs::write(folder.join("rules.toml"), rule).unwrap();
    let odd = good.replace("[delivery]\n", "[delivery]\nlifetime_hours = 2000\ndelay_notice_hours = 3000\nretry_minutes = [200000]\nreply_rules = \"rules.toml\"\n")
        + "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = \"starttls\"\n\
           [[ip]]\naddress = \"198.51.100.7\"\n\
           [[domain]]\nname = \"unsigned.test\"\naccount = \"shop\"\n";
    let (fine, words) = check(&odd);
    assert!(fine, "{words}");
    let hardly_meant = [
        "lifetime_hours",
        "delay_notice_hours",
        "retry_minutes",
        "reply_rules",
        "tls = \"starttls\"",
        "198.51.100.7",
        "unsigned.test",
    ];
    for (number, line) in (1..).zip(odd.lines()) {
        let expected = hardly_meant.iter().any(|word| line.contains(word));
        let told =
            words.lines().any(|told| told.contains(&format!("weir.toml:{number}: ")) && told.ends_with("(a warning)"));
        assert_eq!(told, expected, "line {number} ({line}):\n{words}");
    }
    assert!(words.contains("is good"), "{words}");
    let _ = fs::remove_dir_all(&folder);
}
