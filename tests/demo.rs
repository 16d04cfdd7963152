//! Does the demo show what it promises, and is nothing lost in it? (R9.4)
#![allow(clippy::unwrap_used)] // A test may stop at the first surprise.

use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;

/// The real binary, for a few seconds; what it printed.
fn demo(arguments: &[&str]) -> String {
    let folder = tempdir();
    let ended =
        Command::new(env!("CARGO_BIN_EXE_weir")).arg("demo").args(arguments).env("TMPDIR", &folder).output().unwrap();
    let printed = String::from_utf8(ended.stdout).unwrap();
    assert!(ended.status.success(), "{printed}\n{}", String::from_utf8_lossy(&ended.stderr));
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "", "nothing alarms");
    let left: Vec<_> = std::fs::read_dir(&folder).unwrap().collect();
    assert!(left.is_empty(), "left behind: {left:?}");
    std::fs::remove_dir(&folder).unwrap();
    printed
}

fn tempdir() -> std::path::PathBuf {
    let folder =
        std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("demo-{}", uuid::Uuid::now_v7().simple()));
    std::fs::create_dir(&folder).unwrap();
    folder
}

#[test]
fn mail_leaves_from_several_ips_to_several_providers_and_none_is_lost() {
    // Nobody reads within three seconds of a delivery.
    let printed = demo(&["--for", "12s"]);
    assert!(printed.contains("curl http://127.0.0.1:"), "{printed}");
    let summary: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    let count = |name: &str| summary[name].as_u64().unwrap_or_else(|| panic!("{name} in {summary}"));

    assert!(count("accepted") > 0 && count("delivered") > 0, "{summary}");
    // R9.4: accepted is delivered, bounced, or still there; counted by the log, the spool and the providers, each for itself.
    let settled = count("delivered") + count("bounced") + count("expired") + count("deleted") + count("rejected");
    assert_eq!(count("accepted"), settled + count("queued"), "{summary}");
    assert_eq!(count("delivered"), count("received"), "{summary}");
    assert_eq!(count("refused"), 0, "{summary}");
    // Every provider finds both signatures good.
    assert!(count("signed") > 0, "{summary}");
    assert_eq!(count("unsigned"), 0, "{summary}");

    let by_ip = summary["by_ip"].as_object().unwrap();
    let providers: BTreeSet<&String> = by_ip.values().flat_map(|lanes| lanes.as_object().unwrap().keys()).collect();
    assert!(by_ip.len() > 1, "{summary}");
    assert!(providers.len() > 2 && providers.iter().any(|name| *name == "google"), "{summary}");
    let delivered: u64 = by_ip
        .values()
        .flat_map(|lanes| lanes.as_object().unwrap().values())
        .map(|lane| lane["delivered"].as_u64().unwrap())
        .sum();
    assert_eq!(delivered, count("delivered"), "{summary}");

    // R6.1: what happens to acme's mail is told to its own program, and what its readers do too.
    let told = |kind: &str| summary["told"][kind].as_u64().unwrap_or_default();
    assert!(told("accepted") > 0 && told("delivered") > 0, "{summary}");
    assert!(told("accepted") <= summary["by_tenant"]["acme"]["accepted"].as_u64().unwrap(), "{summary}");
    assert!(count("opened") > 0 && told("opened") > 0 && told("opened") <= count("opened"), "{summary}");

    // R2.1: what names nothing goes by its account's pool or the shared one, the rest by what it names.
    let by_rule = summary["by_rule"].as_object().unwrap();
    for rule in ["account-default", "shared", "configuration-set", "named-on-message"] {
        assert!(by_rule.get(rule).is_some_and(|count| count.as_u64() > Some(0)), "{rule}: {summary}");
    }
    let by_tenant = summary["by_tenant"].as_object().unwrap();
    assert_eq!(by_tenant.len(), 3, "{summary}");
    let accepted: u64 = by_tenant.values().map(|share| share["accepted"].as_u64().unwrap()).sum();
    assert_eq!(accepted, count("accepted"), "{summary}");
}

#[test]
fn the_summary_can_be_had_alone() {
    let printed = demo(&["--for", "1s", "--json"]);
    assert!(serde_json::from_str::<Value>(&printed).unwrap()["seconds"].is_number());
}
