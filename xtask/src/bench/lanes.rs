//! What do warm-ups and quotas cost the engine, and how long does a rehearsal of months take?

use super::control::say;
use crate::tools::{Outcome, cargo, program, run, target};

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
    run(cargo(["build", "--release"]).args(["-p", "engine", "--example", "quotas"]))?;
    say("quotas", &mut program(target().join("release/examples/quotas"), [""; 0]))
}
