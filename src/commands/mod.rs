//! What can be typed? One file a command; each reads its arguments, does its work, and says in words what went wrong.

pub mod check_config;
pub mod demo;
pub mod dkim;
pub mod explain;
pub mod init;
pub mod queue;
pub mod send;
pub mod serve;

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use tracing_subscriber::EnvFilter;

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
