//! What does one run here? Checks, tests, fuzzing, and the comparison with the peers: `cargo xtask` says how.

#[path = "../../crates/control/tests/support/postgres.rs"]
mod postgres;
mod tools;

mod bench;
mod checks;

use std::env;
use std::process::ExitCode;

use tools::{Fault, Outcome};

const HELP: &str = "\
cargo xtask check     formatting, lints, dependencies, walls: before you hand over
cargo xtask test      installs what the tests need, then checks, builds and runs them all
cargo xtask bench     Weir and its peers, measured in turn on this machine (the peers need root)
    --quick                  one short round, to see that it works
    --only NAME,NAME         weir, weir+http, weir+dkim, postfix, postfix+opendkim, opensmtpd
    --messages N --rounds N
    --new-each | --keep-open only one way of connecting
cargo xtask bench --control  routes, start, calls and changes with 10,000 tenants
cargo xtask bench --lanes    what warm-ups of 10,000 lanes cost, and months of a rehearsal
cargo xtask bench --quotas   what it costs to take a recipient out of a quota
cargo xtask bench --invoices what it costs to close a month of 100,000 leases
cargo xtask fuzz [TARGET] [--seconds N]
";

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    match dispatch(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Fault(why)) => {
            eprintln!("xtask: {why}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(words: &[String]) -> Outcome<()> {
    let (command, rest) = words.split_first().map_or(("help", words), |(command, rest)| (command.as_str(), rest));
    match (command, rest) {
        ("check", []) => checks::check(),
        ("test", []) => checks::test(),
        ("bench", options) => bench::bench(options),
        ("fuzz", options) => checks::fuzz(options),
        ("help" | "--help", _) => {
            print!("{HELP}");
            Ok(())
        }
        _ => Err(Fault(format!("there is no `{}`\n{HELP}", words.join(" ")))),
    }
}
