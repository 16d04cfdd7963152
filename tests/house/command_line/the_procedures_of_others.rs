//! Can each numbered step of Amazon SES's procedures, of SparkPost's purchase and of Resend's request be typed? By the people who would: an
//! owner who has signed in, and the operator. The same steps by calls: crates/api/tests/procedures.rs.

use crate::support::installation::{Installation, printed, text, weir};
use crate::support::{Manner, Town, among_others, until_true};
use serde_json::Value;
use std::io::Write as _;
use std::process::Stdio;

const PASSWORD: &str = "a long enough password";

/// Who was invited sets a password.
fn take_up(house: &Installation, invited: &Value) {
    let set = ["person", "set-password", "--link", invited["link"].as_str().unwrap(), "--url", &house.url];
    let mut set = weir(&set).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    writeln!(set.stdin.take().unwrap(), "{PASSWORD}").unwrap();
    assert!(set.wait().unwrap().success());
}

/// An account, and what its owner has got by signing in.
struct Owner<'a> {
    house: &'a Installation,
    token: String,
}

impl Owner<'_> {
    /// Step 1 of each procedure: sign in.
    fn signed_in<'a>(house: &'a Installation, account: &str) -> Owner<'a> {
        house.say(&format!("account create {account} --standing production --has-payment-method"));
        let email = format!("ann@{account}.test");
        let invited = house.ask(&format!("person invite {email} --account {account} --role owner"));
        take_up(house, &invited);
        let sign_in =
            weir(&["me", "sign-in", "--email", &email, "--password", PASSWORD, "--json", "--url", &house.url]).output();
        let session: Value = serde_json::from_str(&printed(&sign_in.unwrap())).unwrap();
        Owner { house, token: text(&session["token"]) }
    }

    #[track_caller]
    fn words(&self, line: &[&str]) -> String {
        printed(&self.house.run(&self.token, line))
    }

    #[track_caller]
    fn say(&self, line: &str) -> String {
        self.words(&line.split_whitespace().collect::<Vec<_>>())
    }

    #[track_caller]
    fn ask(&self, line: &[&str]) -> Value {
        serde_json::from_str(&self.words(&[line, &["--json"]].concat())).unwrap()
    }
}

/// Addresses that may be leased, whatever the world thinks of them.
fn stock(house: &Installation, region: &str, ips: &[&str]) {
    house.say("setting set checks_required 0");
    for ip in ips {
        house.say(&format!("ip add {ip} --region {region}"));
    }
}

/// What both of SES's requests ask besides the numbers.
const FORM: &[&str] = &[
    "--mail-type",
    "transactional",
    "--website",
    "https://shop.example",
    "--opted-in",
    "at checkout, confirmed by mail",
    "--bounces",
    "they leave the list at once",
    "--use-case",
    "receipts; we want a reputation of our own",
    "--terms",
    "yes",
];

fn count(answer: &Value) -> usize {
    answer["items"].as_array().unwrap().len()
}

// R3.1, R3.5: “To request dedicated IPs (standard)” and “To relinquish dedicated IPs (standard)”.
#[test]
fn ses_dedicated_ips_are_requested_and_relinquished_by_commands() {
    let _others = among_others();
    let town = Town::new();
    let house = Installation::open(&town, "ses-ips");
    let region = text(&house.begun["region"]);
    house.say("region create tokyo");
    stock(&house, &region, &["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    stock(&house, "tokyo", &["198.51.100.1"]);

    // 1: sign in. 2: dedicated IPs. 3: the standard pools. 4: request or relinquish.
    let owner = Owner::signed_in(&house, "shop");
    assert_eq!(owner.say("lease list --running"), "None.\n");
    assert!(owner.say("pool list").contains("standard"));
    assert!(owner.say("case criteria dedicated-ips --quantity 3").contains("a person answers, within a day"));
    // 5: the kind. 6: the details. 7: “add another request” for a second region. 8: the use case. 9: the language, and submit.
    let (here, there) = (format!("region={region},quantity=3"), "region=tokyo,rate=8");
    let open = [&["case", "open", "dedicated-ips", "--requests", &here, "--requests", there, "--language", "en"], FORM];
    let case = text(&owner.ask(&open.concat())["id"]);
    let shown = house.say("case list --state open --kind dedicated-ips");
    assert!(shown.contains(&case) && shown.contains("open"), "{shown}");
    assert_eq!(house.say("case list --overdue"), "None.\n");
    // The answer, with the addresses; they are in the default pools.
    house.say(&format!("case grant {case} --account shop"));
    let told = owner.say(&format!("case show {case}"));
    for ip in ["192.0.2.1", "192.0.2.2", "192.0.2.3", "198.51.100.1"] {
        assert!(told.contains(ip), "{ip}: {told}");
    }
    assert!(told.contains("10 messages a second") || told.contains("8 messages a second"), "R3.2: {told}");
    assert_eq!(count(&owner.ask(&["lease", "list", "--running"])), 4);

    // To relinquish. 1 to 4 as above; 5: the kind, and nothing else of the form. 6 and 7: one of a region, and how many of another.
    let (which, many) = (format!("region={region},ips=192.0.2.2"), "region=tokyo,quantity=1");
    let line = ["case", "open", "relinquish", "--requests", &which, "--requests", many, "--although-empty"];
    let case = text(&owner.ask(&[&line[..], &["--language", "en"]].concat())["id"]);
    // 8 and 9 are done; a message asks for the confirmation, and nothing happens before.
    let told = owner.say(&format!("case show {case}"));
    assert!(told.contains("192.0.2.2") && told.contains("cannot be undone"), "{told}");
    assert_eq!(count(&owner.ask(&["lease", "list", "--running"])), 4);
    owner.say(&format!("case confirm {case}"));
    assert_eq!(count(&owner.ask(&["lease", "list", "--running"])), 2);
    assert_eq!(house.ask("ip show 192.0.2.2")["state"], "draining");
}

// R7.3: “To request higher sending quotas”.
#[test]
fn ses_quotas_are_requested_by_commands() {
    let _others = among_others();
    let town = Town::new();
    let house = Installation::open(&town, "ses-quotas");
    let region = text(&house.begun["region"]);
    // 1: sign in. 2 and 3: the cases. 4: the kind.
    let owner = Owner::signed_in(&house, "shop");
    assert_eq!(owner.say("case list"), "None.\n");
    // 5: the statements. 6: a quota and a rate. 7: the four answers. 8: the language. 9: submit.
    let wanted = format!("region={region},per_day=50000,per_second=14");
    let answers = ["--opting-out", "a link in each message", "--number-chosen", "twice our busiest day"];
    let statements = ["--only-opted-in", "yes", "--bounce-process", "yes", "--language", "ja"];
    let open = [&["case", "open", "quota", "--requests", &wanted], FORM, &answers, &statements].concat();
    let opened = owner.ask(&open);
    let case = text(&opened["id"]);
    assert!(opened["due_at"].is_string(), "within 24 hours");
    // “If we need to obtain additional information from you”; “you aren't guaranteed to receive the amount that you request”.
    house.say(&format!("case say {case} Why? --account shop --asks"));
    owner.words(&["case", "say", &case, "Our shop grows."]);
    let less = format!("region={region},per_day=20000,per_second=14");
    let grant = ["case", "grant", &case, "--account", "shop", "--grants", &less, "--reason", "a start"];
    printed(&house.run(house.key(), &grant));
    assert!(owner.say("account quota self").contains("20000"));
    // “We might not be able to grant your request”: with the reason, and what would change it.
    owner.words(&["case", "reopen", &case, "More, please."]);
    let deny = ["case", "deny", &case, "--account", "shop", "--reason", "4 % bounce", "--would-change", "under 2 %"];
    printed(&house.run(house.key(), &deny));
    let told = owner.say(&format!("case show {case}"));
    assert!(told.contains("4 % bounce") && told.contains("under 2 %") && told.contains("20000"), "{told}");
}

// R7.3, R7.4: who has asked hears of the answer by mail, in the language of the case, and the operator of the question.
#[test]
fn both_sides_hear_by_mail() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let lines = "letters_from = \"Weir <weir@house.test>\"\nletters_account = \"house\"";
    let house = Installation::open_with(&town, "letters", lines);
    let region = text(&house.begun["region"]);
    house.say(&format!("ip unshare {}", text(&house.begun["ip"])));
    house.say(&format!("ip add {} --shared-pool shared", town.source(0)));
    house.say("account create house --standing production");
    house.say("domain verify house.test --account house --without-dns");
    let invited = house.ask("person invite op@house.test --role operator");
    take_up(&house, &invited);

    let owner = Owner::signed_in(&house, "shop");
    let wanted = format!("region={region},per_day=50000,per_second=14");
    let answers = ["--opting-out", "a link in each message", "--number-chosen", "twice our busiest day"];
    let statements = ["--only-opted-in", "yes", "--bounce-process", "yes", "--language", "ja"];
    let open = [&["case", "open", "quota", "--requests", &wanted], FORM, &answers, &statements].concat();
    let case = text(&owner.ask(&open)["id"]);
    let asked = provider.wait_for_one_to("op@house.test");
    assert_eq!(asked.header("Subject").as_deref(), Some("shop: a case for higher quotas, open"));
    assert_eq!(asked.header("From").as_deref(), Some("Weir <weir@house.test>"));
    assert_eq!(asked.header("Auto-Submitted").as_deref(), Some("auto-generated"));
    house.say(&format!("case grant {case} --account shop"));
    until_true("the owner hears of the answer, after the receipt", || provider.to("ann@shop.test").len() == 2);
    assert_eq!(provider.to("op@house.test").len(), 1, "who answers is not told of it");
}

// R3.4, R2.6: “Purchasing Dedicated IPs” and “Managing Dedicated IP Pools”.
#[test]
fn sparkpost_ips_are_purchased_by_commands() {
    let _others = among_others();
    let town = Town::new();
    let house = Installation::open(&town, "sparkpost");
    let region = text(&house.begun["region"]);
    stock(&house, &region, &["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5"]);
    let owner = Owner::signed_in(&house, "shop");
    // 1 and 2: the quantity, and a new pool, whose id is shown. 3: confirm; then more, into the pool that there is.
    let bought = owner.ask(&["lease", "purchase", "--quantity", "2", "--new-pool", "news"]);
    assert!(text(&bought["pool"]["id"]).starts_with("pool_"));
    owner.say("lease purchase --quantity 2 --pool news");
    let refused = house.run(&owner.token, &["lease", "purchase"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("4 dedicated IPs"), "{refused:?}");
    // 4: what it costs, and what the running month will.
    let leases = owner.ask(&["lease", "list", "--running"]);
    assert!(leases["items"].as_array().unwrap().iter().all(|lease| lease["price_cents"] == 2_000));
    let forecast = owner.say("invoice forecast");
    assert!(forecast.contains("Purchased IP") && forecast.contains("expected"), "{forecast}");
    assert_eq!(owner.say("invoice list --open"), "None.\n");
    // Pools are created and edited, IPs moved between them.
    owner.say("pool create receipts");
    let ip = text(&leases["items"][0]["ip"]);
    owner.say(&format!("pool move-ip receipts {ip}"));
    assert_eq!(owner.ask(&["pool", "show", "receipts"])["ips"], serde_json::json!([ip]));
}

// R3.8: “How to request a Dedicated IP”: Resend's four questions.
#[test]
fn resend_a_managed_pool_is_requested_by_commands() {
    let _others = among_others();
    let town = Town::new();
    let house = Installation::open(&town, "resend");
    let region = text(&house.begun["region"]);
    let owner = Owner::signed_in(&house, "shop");
    house.say("domain verify shop.test --account shop --without-dns");
    let traffic = "kinds=receipts,per_day=2000,per_month=60000,is_steady=true,domains=shop.test";
    let requests = format!("region={region}");
    let open = ["case", "open", "managed-pool", "--pool", "bulk", "--traffic", traffic, "--requests", &requests];
    let case = text(&owner.ask(&open)["id"]);
    house.say(&format!("case grant {case} --account shop"));
    let shown = owner.say("managed show bulk");
    assert!(shown.contains("bulk"), "{shown}");
}
