//! What does a reply mean? `weir classify` says, by the rules that the service uses at that moment. (R5.3)

use crate::support::{Manner, Plan, Town, among_others};
use serde_json::Value;
use std::fs;

// R5.3: the rule file is changed and read again, without a restart.
#[test]
fn weir_classify_asks_the_rules_in_use() {
    let _others = among_others();
    let town = Town::new();
    let _provider = town.provider(1, Manner::default());
    let mut house = Plan::new(&town).delivery("reply_rules", "\"rules.toml\"").prepare();
    let (rules, shipped) =
        (house.config.with_file_name("rules.toml"), include_str!("../../../crates/engine/rules/replies.toml"));
    fs::write(&rules, shipped).unwrap();
    house.start();
    let told = |words: &[&str]| {
        let output = house.weir(&[&["classify"], words].concat());
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let page = told(&["550 5.1.1 The email account that you tried to reach does not exist", "--provider", "google"]);
    for words in
        ["hard", "google-unknown-user", "The message bounces.", "10 Invalid Recipient (Hard)", "Permanent/NoEmail"]
    {
        assert!(page.contains(words), "{words}:\n{page}");
    }
    let answer: Value = serde_json::from_str(&told(&["550 the stars are wrong", "--json"])).unwrap();
    assert_eq!(answer["rule"], "basic 5xx");

    let own = "[[rule]]\nname = \"stars\"\ntext = 'the stars'\nclass = \"block\"\nsubtype = \"policy\"\nthen = [{ suspend = \"1h\" }]\n";
    fs::write(&rules, format!("{own}{shipped}")).unwrap();
    house.signal("HUP");
    house.wait_log("the configuration is read anew");
    let page = told(&["550 the stars are wrong"]);
    assert!(page.contains("stars") && page.contains("waits for 1 hour"), "{page}");
    // What is no reply is told with what would be one.
    let refused = house.weir(&["classify", "no such user"]);
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && words.contains("not one SMTP reply"), "{words}");
}
