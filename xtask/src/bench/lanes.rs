//! What do warm-ups and quotas cost the engine, how long does a rehearsal of months take, and closing a month of very many leases?

use super::control::say;
use crate::tools::{Fault, Outcome, cargo, program, run, target};
use std::fs;

/// A lane for each of them at ten providers.
const IPS: &str = "1000";
const MESSAGES: &str = "500000";

/// Builds, measures, and prints the figures as JSON, one line a trial.
pub fn lanes() -> Outcome<()> {
    let packages = ["-p", "engine", "-p", "sim", "--example", "lanes", "--example", "months"];
    run(cargo(["build", "--release"]).args(packages))?;
    say("lanes", &mut program(target().join("release/examples/lanes"), [IPS, MESSAGES]))?;
    say("months", &mut program(target().join("release/examples/months"), [""; 0]))
}

/// What a quota costs.
pub fn quotas() -> Outcome<()> {
    run(cargo(["build", "--release"]).args(["-p", "mta", "--example", "quotas"]))?;
    say("quotas", &mut program(target().join("release/examples/quotas"), [""; 0]))
}

/// What it costs to close a month.
pub fn invoices() -> Outcome<()> {
    run(cargo(["build", "--release"]).args(["-p", "control", "--example", "invoices"]))?;
    let folder = target().join("bench/invoices");
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(Fault::at(folder.display()))?;
    }
    say("invoices", &mut program(target().join("release/examples/invoices"), [&folder]))
}
