//! `weir demo`: all of it on one machine, with no configuration, no DNS, no root and no outside network.

use crate::commands::{Done, Failure};

#[derive(clap::Args)]
pub struct Arguments {}

pub fn run(_arguments: &Arguments) -> Done {
    Err(Failure("the demo is not in this build".to_owned()))
}
