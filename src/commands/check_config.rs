//! `weir check-config`: is the file good, and if not, what is wrong in which line? And what is good and hardly meant?

use crate::commands::{Done, Failure, say};
use crate::judge;
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(after_help = "Example:\n  weir check-config /etc/weir/weir.toml")]
pub struct Arguments {
    /// The configuration file
    #[arg(value_name = "FILE")]
    config: PathBuf,
}

pub fn run(arguments: &Arguments) -> Done {
    match judge::load(&arguments.config) {
        Ok(house) => {
            let snapshot = &house.snapshot;
            for warning in &house.warnings {
                say(format!("{warning} (a warning)"));
            }
            say(format!(
                "{} is good: {} accounts, {} domains, {} IPs, {} pools",
                arguments.config.display(),
                snapshot.accounts.len(),
                snapshot.accounts.values().map(|account| account.domains.len()).sum::<usize>(),
                snapshot.ips.len(),
                snapshot.pools.len()
            ));
            Ok(())
        }
        Err(problems) => {
            for problem in &problems {
                say(problem);
            }
            let count = problems.len();
            Err(Failure(format!("{count} {} to mend", if count == 1 { "problem" } else { "problems" })))
        }
    }
}
