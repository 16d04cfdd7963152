//! What can be typed? One file a command; each reads its arguments, does its work, and says in words what went wrong.
//!
//! What is a call of the interface and no more is a row of a table (`verb`), in the file of its noun.

pub mod check_config;
pub mod completions;
pub mod demo;
pub mod dkim;
pub mod explain;
pub mod init;
pub mod queue;
pub mod send;
pub mod serve;
pub mod simulate;

pub mod replay;

mod show;
mod verb;

mod account;
mod address;
mod alone;
mod domain;
mod events;
mod ip;
mod key;
mod lease;
mod me;
mod person;
mod pool;
mod region;
mod case;
mod charge;
mod drive;
mod relay;
mod set;
mod setting;
mod subaccount;
mod webhook;
mod suppression;
mod unmatched;
mod warm_up;
mod managed;
mod reputation;
mod signal;
mod tier;

#[cfg(test)]
mod covers_the_interface;

use clap::{ArgMatches, Command};
use std::fmt::Display;
use std::io::{IsTerminal, Write};
use tracing_subscriber::EnvFilter;

const NOUNS: &[verb::Noun] = &[
    account::NOUN,
    subaccount::NOUN,
    set::NOUN,
    key::NOUN,
    domain::NOUN,
    address::NOUN,
    ip::NOUN,
    warm_up::NOUN,
    managed::NOUN,
    reputation::NOUN,
    reputation::INCIDENT_NOUN,
    signal::NOUN,
    tier::NOUN,
    region::NOUN,
    pool::NOUN,
    relay::NOUN,
    suppression::NOUN,
    unmatched::NOUN,
    lease::NOUN,
    case::NOUN,
    case::POLICY_NOUN,
    drive::NOUN,
    charge::PRICES,
    charge::INVOICES,
    person::NOUN,
    me::NOUN,
    events::NOUN,
    webhook::NOUN,
    setting::NOUN,
];

/// What stands behind the nouns in the help: it is needed once, or asks no service.
const SELDOM: &[&str] = &["check-config", "dkim", "completions", "simulate", "replay", "demo", "help"];

/// The line with all that is a row of a table.
pub fn with_tables(line: Command) -> Command {
    let alone = alone::VERBS.iter().map(verb::Verb::command);
    let whole = line.subcommands(alone).subcommands(NOUNS.iter().map(verb::Noun::command));
    let last = SELDOM.iter().filter(|name| whole.find_subcommand(name).is_some()).collect::<Vec<_>>();
    last.into_iter().fold(whole, |whole, name| whole.mut_subcommand(name, |command| command.display_order(usize::MAX)))
}

/// Carries the line out, if it is a row of a table.
pub fn run_tables(line: &ArgMatches) -> Option<Done> {
    let (name, below) = line.subcommand()?;
    let noun = NOUNS.iter().find(|noun| noun.name == name).map(|noun| noun.run(below));
    noun.or_else(|| alone::VERBS.iter().find(|verb| verb.name == name).map(|verb| verb.run(below)))
}

/// Why a command failed, in words for who typed it.
#[derive(Debug)]
pub struct Failure(pub String);

impl<T: Display> From<T> for Failure {
    fn from(error: T) -> Failure {
        Failure(error.to_string())
    }
}

pub type Done = Result<(), Failure>;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogForm {
    /// For people: one line an event.
    Text,
    /// For machines: one JSON object an event.
    Json,
}

/// Logs go to standard error; `WEIR_LOG` chooses what is told (`info`, `debug`, `mta=debug`).
pub fn start_log(form: LogForm, usual: &str) {
    let filter = EnvFilter::try_from_env("WEIR_LOG").unwrap_or_else(|_| EnvFilter::new(usual));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    match form {
        LogForm::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
        LogForm::Json => log.json().flatten_event(true).init(),
    }
}

/// Prints for who typed the command. A reader that has seen enough (`| head`) ends the command quietly.
pub fn say(text: impl Display) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// The runtime of everything that waits.
pub fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
