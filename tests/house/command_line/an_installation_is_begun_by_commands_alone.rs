//! From an empty folder to a message at its provider: begin, serve, account, keys, domain, IP, send. (R9.2)

use crate::support::installation::{Installation, printed, text, weir};
use crate::support::{Manner, Town, among_others, until};
use engine::time::Timestamp;
use serde_json::Value;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

// R9.2
#[test]
fn a_script_gets_from_nothing_to_a_message_at_its_provider() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let house = Installation::open(&town, "script");

    let account = house.ask("account create shop --standing production");
    assert_eq!((account["name"].as_str(), account["standing"].as_str()), (Some("shop"), Some("production")));
    assert!(!text(&account["id"]).is_empty());
    let key = text(&house.ask("key create --account shop --kind api")["key"]);
    let aws = house.ask("key create --account shop --kind aws");
    let passwords = aws["smtp_passwords"].as_object().unwrap();
    assert!(!text(&aws["access_key_id"]).is_empty() && !text(&aws["secret_access_key"]).is_empty());
    assert_eq!(passwords.keys().map(String::as_str).collect::<Vec<_>>(), [house.begun["region"].as_str().unwrap()]);
    let smtp = house.ask("key create --account shop --kind smtp");
    assert!(!text(&smtp["user"]).is_empty() && !text(&smtp["password"]).is_empty());

    // The domain need not be there, and may be.
    for _ in 0..2 {
        assert_eq!(house.ask("domain verify shop.test --account shop --without-dns")["state"], "verified");
    }
    house.say(&format!("ip unshare {}", text(&house.begun["ip"])));
    house.say(&format!("ip add {} --shared-pool shared", town.source(0)));
    assert_eq!(house.ask("ip list --state shared")["items"][0]["address"], town.source(0).to_string());

    let mut line =
        vec!["send", "--from", "ann@shop.test", "--to", "bob@mail.test", "--subject", "Hi", "--text", "Hello"];
    line.extend(["--idempotency-key", "order-1", "--header", "X-Order: 1", "--json"]);
    // What was changed is known to the mail path a moment later.
    let first = until("the key and its domain are known", || {
        let output = house.run(&key, &line);
        output.status.success().then(|| printed(&output))
    });
    assert_eq!(printed(&house.run(&key, &line)), first, "the same key is the same message");
    let message = provider.wait_for_one_to("bob@mail.test");
    assert_eq!((message.header("Subject").as_deref(), message.header("X-Order").as_deref()), (Some("Hi"), Some("1")));
    assert_eq!(provider.count(), 1);
    let route = house.ask("preview --account shop --from ann@shop.test --to bob@mail.test");
    assert_eq!(route["route"]["ip"], town.source(0).to_string());

    // One that waits for its time is taken back, once.
    let passed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_secs(3_600);
    let due = Timestamp(i64::try_from(passed.as_micros()).unwrap()).to_string();
    let line = ["send", "--from", "ann@shop.test", "--to", "cy@mail.test", "--text", "x", "--send-at", &due, "--json"];
    let later: Value = serde_json::from_str(&printed(&house.run(&key, &line))).unwrap();
    let cancel = ["cancel", later["id"].as_str().unwrap()];
    assert!(printed(&house.run(&key, &cancel)).ends_with("is cancelled.\n"));
    assert_eq!(house.run(&key, &cancel).status.code(), Some(1));
    let never = house.run(
        &key,
        &[
            "send",
            "--from",
            "ann@shop.test",
            "--to",
            "cy@mail.test",
            "--text",
            "x",
            "--send-at",
            "2999-01-01T00:00:00Z",
        ],
    );
    let words = String::from_utf8(never.stderr).unwrap();
    assert!(words.contains("field  send_at") && words.contains("mend   "), "{words}");
    assert_eq!(provider.count(), 1);
}

// R2.6, R3.5: what cannot be undone, or empties something, needs a word more.
#[test]
fn what_cannot_be_undone_needs_a_word_more() {
    let _others = among_others();
    let town = Town::new();
    let house = Installation::open(&town, "care");
    house.say("account create shop");
    house.say("setting set checks_required 0");
    let ip = town.source(0).to_string();
    house.say(&format!("ip add {ip}"));
    house.say("pool create news --account shop");
    let leased = house.say(&format!("lease grant --account shop --ips {ip} --pool news"));
    assert!(leased.contains(&ip) && leased.contains("news"), "{leased}");

    let held = house.refused("pool delete news --account shop");
    assert!(held.contains("field  move_ips_to") && held.contains("mend "), "{held}");
    let empties = house.refused(&format!("pool move-ip default {ip} --account shop"));
    assert!(empties.contains("although_empty"), "{empties}");
    house.say(&format!("pool move-ip default {ip} --account shop --although-empty"));
    assert_eq!(house.say("pool delete news --account shop"), "Pool news is gone.\n");

    let asked = house.say(&format!("lease release {ip} --account shop --although-empty"));
    assert!(asked.contains("cannot be undone"), "{asked}");
    assert_eq!(house.ask(&format!("ip show {ip}"))["state"], "leased");
    let confirm = asked.lines().find_map(|line| line.trim().strip_prefix("weir ")).unwrap();
    house.say(confirm);
    assert_eq!(house.ask("lease list --account shop --running")["items"].as_array().unwrap().len(), 0);
    // What is given back is in the audit log, under the name that the pool's table shows as well.
    assert!(house.say("audit").contains("release-asked"));
}

#[test]
fn who_types_is_told_what_is_missing() {
    let _others = among_others();
    let town = Town::new();
    let house = Installation::open(&town, "words");
    assert_eq!(house.say("account list"), "None.\n");
    // The operator has no account of its own.
    assert!(house.refused("pool list").contains("--account"));
    assert!(house.refused("account show nobody").contains("There is no account nobody."));
    let nameless = weir(&["account", "list", "--url", &house.url]).output().unwrap();
    assert!(String::from_utf8_lossy(&nameless.stderr).contains("WEIR_KEY"));
    let stranger = house.run("weir_key_of_nobody", &["account", "list"]);
    assert_eq!(stranger.status.code(), Some(1));
    let nowhere = weir(&["account", "list", "--key", "x", "--url", "http://127.0.0.1:1"]).output().unwrap();
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("Is weir serve running?"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(printed(&weir(&["completions", shell]).output().unwrap()).contains("account"), "{shell}");
    }
    // A person comes in by the link, with a password that no history keeps.
    let link = text(&house.begun["link"]);
    let set = weir(&["person", "set-password", "--link", &link, "--url", &house.url])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut set = set.unwrap();
    std::io::Write::write_all(&mut set.stdin.take().unwrap(), b"a long enough password\n").unwrap();
    assert!(printed(&set.wait_with_output().unwrap()).contains("has password"));
    let email = text(&house.begun["email"]);
    let signed_in = weir(&[
        "me",
        "sign-in",
        "--email",
        &email,
        "--password",
        "a long enough password",
        "--json",
        "--url",
        &house.url,
    ]);
    let signed_in: Value = serde_json::from_str(&printed(&{ signed_in }.output().unwrap())).unwrap();
    let shown = printed(&house.run(&text(&signed_in["token"]), &["me", "show"]));
    assert!(shown.contains(&email), "{shown}");
}
