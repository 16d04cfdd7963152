//! What does the control plane do with many tenants: routes, start, calls, changes?

use std::fs;

use crate::tools::{Fault, Outcome, answer, directory, program, run, target, workspace};

/// As many of each as a large installation has.
const ACCOUNTS: &str = "10000";
const CREDENTIALS: &str = "100000";
const SUPPRESSED: &str = "1000000";
/// Entries of the suppression list that is looked into.
const LISTED: &str = "10000000";
/// IPs of the shared pool that a route is chosen from.
const SHARED_IPS: [&str; 3] = ["20", "100", "1000"];
/// As in `bench/control.toml`.
const CALLS_AT: &str = "127.0.0.1:8045";

/// Builds, fills a data folder, measures, and prints the figures as JSON, one line a run.
pub fn control() -> Outcome<()> {
    super::build()?;
    for shared in SHARED_IPS {
        say("routes", &mut program(target().join("release/examples/routes"), [shared]))?;
    }
    say("suppression", &mut program(target().join("release/examples/suppression"), [LISTED]))?;
    let folder = target().join("bench/control");
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(Fault::at(folder.display()))?;
    }
    let data = directory(folder)?.join("data");
    run(program(target().join("release/examples/fill"), [&data]).args([ACCOUNTS, CREDENTIALS, SUPPRESSED]))?;
    let mut measure = program(target().join("release/bench"), ["control", "--name", "weir", "--to", CALLS_AT]);
    measure.arg("--keys").arg(data.join("keys.txt")).arg("--log").arg(data.with_file_name("log")).arg("--");
    measure.arg(target().join("release/weir")).args(["serve", "--config"]).arg(workspace().join("bench/control.toml"));
    measure.arg("--data").arg(&data);
    say("bench control", &mut measure)
}

pub fn say(name: &str, command: &mut std::process::Command) -> Outcome<()> {
    let figures = answer(command).ok_or_else(|| Fault(format!("{name} has no figures: {command:?}")))?;
    println!("{figures}");
    Ok(())
}
