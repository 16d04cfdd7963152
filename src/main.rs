//! Weir: an outbound e-mail service on your own machines and addresses. Which rooms are open tonight?

mod client;
mod commands;
mod config;
mod events;
mod judge;
mod letters;
mod machine;
mod readers;
mod rounds;
mod traces;
mod wire;
mod world;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use std::process::ExitCode;

// The system's allocator gives memory back late under many small, short-lived allocations, which is what mail is.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(
    name = "weir",
    version,
    about = "Outbound e-mail on your own machines and IP addresses",
    propagate_version = true
)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
#[allow(clippy::large_enum_variant)] // One is read in a run.
enum Command {
    /// Begin a new installation in a folder, and print the operator's key
    Init(commands::init::Arguments),
    /// Take mail in, keep it safe and deliver it
    Serve(commands::serve::Arguments),
    /// Read a configuration file and name every bad value with its line
    CheckConfig(commands::check_config::Arguments),
    /// Hand in a message
    Send(commands::send::Arguments),
    /// See what waits and why; hold, release, retry, delete
    Queue(commands::queue::Arguments),
    /// Tell what became of a message, and why
    Explain(commands::explain::Arguments),
    /// Make DKIM keys
    Dkim(commands::dkim::Arguments),
    /// Rehearse months of sending, in seconds
    Simulate(commands::simulate::Arguments),
    /// Play what was really sent by two ways of warming up, side by side
    Replay(commands::replay::Arguments),
    /// See all of it work on this machine: no configuration, no DNS, no root
    Demo(commands::demo::Arguments),
    /// Let the shell complete what you type
    Completions(commands::completions::Arguments),
}

/// Everything that can be typed.
fn line() -> clap::Command {
    commands::with_tables(Line::command())
}

fn main() -> ExitCode {
    let typed = line().get_matches();
    let result = commands::run_tables(&typed).unwrap_or_else(|| run(&typed));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(commands::Failure(words)) => {
            eprintln!("weir: {words}");
            ExitCode::FAILURE
        }
    }
}

fn run(typed: &clap::ArgMatches) -> commands::Done {
    match Line::from_arg_matches(typed)?.command {
        Command::Init(arguments) => commands::init::run(&arguments),
        Command::Serve(arguments) => commands::serve::run(&arguments),
        Command::CheckConfig(arguments) => commands::check_config::run(&arguments),
        Command::Send(arguments) => commands::send::run(&arguments),
        Command::Queue(arguments) => commands::queue::run(&arguments),
        Command::Explain(arguments) => commands::explain::run(&arguments),
        Command::Dkim(arguments) => commands::dkim::run(&arguments),
        Command::Simulate(arguments) => commands::simulate::run(&arguments),
        Command::Replay(arguments) => commands::replay::run(&arguments),
        Command::Demo(arguments) => commands::demo::run(&arguments),
        Command::Completions(arguments) => commands::completions::run(&arguments, line()),
    }
}
