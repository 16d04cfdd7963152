//! How fast, at what cost, and did every message arrive once? The load generator, its sink, and a measured run of a server
//! between them. It knows nothing of the product's code: what it measures with must not share its faults.

mod figures;

mod disk;
mod fence;
mod letter;

mod generate;
mod http;
mod sink;

mod submit;
mod target;

mod trial;

mod backlog;
mod control;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::generate::{Connections, Order, generate};
use crate::letter::Run;
use crate::sink::{Settings, Sink};
use crate::submit::Door;
use crate::trial::{Told, Trial};

#[derive(Parser)]
#[command(about = "Load generator, sink and measured runs for SMTP servers. Figures go to standard output as JSON.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Sends messages, as fast as possible or at a rate
    Generate {
        /// Where the server listens
        #[arg(long)]
        to: SocketAddr,
        #[command(flatten)]
        load: Load,
        /// Messages per second, at fixed moments
        #[arg(long)]
        rate: Option<f64>,
    },
    /// Accepts every message and counts them
    Sink {
        #[arg(long)]
        listen: SocketAddr,
        #[command(flatten)]
        sink: SinkOptions,
        /// Ends when so many different messages have come; otherwise at SIGTERM or SIGINT
        #[arg(long)]
        expect: Option<u64>,
    },
    /// Starts a sink and a server, sends through it, and reports its speed and cost
    Run(Box<RunOptions>),
    /// Fills a server's queue with the sink away, kills it, starts it again, and reports memory and time to the first delivery
    Backlog(Box<RunOptions>),
    /// Starts a server with many tenants, calls it, and reports how soon it started, how many calls it answers, and how soon changes
    /// are known
    Control(Box<ControlOptions>),
}

#[derive(Args)]
struct ControlOptions {
    /// What the report calls the server
    #[arg(long)]
    name: String,
    /// Where the server takes calls
    #[arg(long)]
    to: SocketAddr,
    /// Keys of tenants, one a line; the first may send as --from
    #[arg(long)]
    keys: PathBuf,
    #[arg(long, default_value = "sender@d0.test")]
    from: String,
    #[arg(long, default_value_t = 20)]
    connections: usize,
    /// Seconds of each kind of call
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Changes of each kind that are followed until they are known
    #[arg(long, default_value_t = 100)]
    followed: usize,
    /// Where the server's own output goes
    #[arg(long)]
    log: Option<PathBuf>,
    /// The server's command; it stays in the foreground
    #[arg(last = true)]
    server: Vec<String>,
}

impl ControlOptions {
    fn order(&self) -> control::Order {
        control::Order {
            name: self.name.clone(),
            to: self.to,
            keys: self.keys.clone(),
            from: self.from.clone(),
            connections: self.connections,
            time: Duration::from_secs(self.seconds),
            followed: self.followed,
            log: self.log.clone(),
            server: self.server.clone(),
        }
    }
}

#[derive(Args)]
struct Load {
    #[arg(long, default_value_t = 10_000)]
    messages: u64,
    #[arg(long, default_value_t = 20)]
    sessions: usize,
    /// Threads of the generator
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Octets of a message
    #[arg(long, default_value_t = 10_240)]
    size: usize,
    /// Sends many messages over one connection, instead of dialling for each
    #[arg(long)]
    keep_open: bool,
    /// % stands for the message's number modulo --domains
    #[arg(long, default_value = "d%.test")]
    recipients_domain: String,
    #[arg(long, default_value_t = 100)]
    domains: u64,
    #[arg(long, default_value = "sender@bench.test")]
    from: String,
    /// user:password for AUTH PLAIN
    #[arg(long)]
    auth: Option<String>,
    /// Seconds without any answer after which the generator gives up
    #[arg(long, default_value_t = 60)]
    patience: u64,
}

#[derive(Args)]
struct SinkOptions {
    /// Threads of the sink
    #[arg(long, default_value_t = 1)]
    sink_threads: usize,
    /// Offers CHUNKING
    #[arg(long)]
    chunking: bool,
    /// Milliseconds between the final dot and its answer
    #[arg(long, default_value_t = 0)]
    delay_ms: u64,
    /// Keeps all messages in this file as they came over the wire (DATA: stuffed dots and final dot included), each after a line
    /// with its length
    #[arg(long)]
    record: Option<PathBuf>,
}

#[derive(Args)]
struct RunOptions {
    /// What the report calls the server
    #[arg(long)]
    name: String,
    /// Where the server listens; the sink's own address when there is no server
    #[arg(long)]
    to: Option<SocketAddr>,
    /// Where the sink listens, and the server relays to
    #[arg(long)]
    sink: SocketAddr,
    #[command(flatten)]
    load: Load,
    #[command(flatten)]
    sink_options: SinkOptions,
    /// Hands messages in here instead, over HTTP; needs --key
    #[arg(long, requires = "key")]
    http: Option<SocketAddr>,
    #[arg(long)]
    key: Option<String>,
    /// Listens here for webhooks, and waits until as many events have come as --events says for each message
    #[arg(long, requires = "events")]
    webhooks: Option<SocketAddr>,
    /// Events of a message at all targets together
    #[arg(long)]
    events: Option<u64>,
    /// Messages before the measurement
    #[arg(long, default_value_t = 500)]
    warm_up: u64,
    /// Messages of the part at a fixed rate, for the latency of the acknowledgement
    #[arg(long, default_value_t = 0)]
    paced: u64,
    #[arg(long, default_value_t = 200.0)]
    paced_rate: f64,
    /// The directory whose disk is probed with fdatasync
    #[arg(long, default_value = ".")]
    disk: PathBuf,
    /// Where the server's own output goes
    #[arg(long)]
    log: Option<PathBuf>,
    /// Seconds until the server must greet
    #[arg(long, default_value_t = 30)]
    ready_within: u64,
    /// Seconds without a new message at the sink after which the rest counts as lost
    #[arg(long, default_value_t = 60)]
    drain_patience: u64,
    /// The server's command; it stays in the foreground
    #[arg(last = true)]
    server: Vec<String>,
}

impl Load {
    fn order(&self, to: SocketAddr, rate: Option<f64>) -> Order {
        Order {
            to,
            run: fresh_run(),
            messages: self.messages,
            sessions: self.sessions,
            threads: self.threads,
            size: self.size,
            connections: if self.keep_open { Connections::KeepOpen } else { Connections::NewEach },
            recipients_domain: self.recipients_domain.clone(),
            domains: self.domains,
            from: self.from.clone(),
            rate,
            auth: self.auth.clone(),
            patience: Duration::from_secs(self.patience),
        }
    }
}

impl SinkOptions {
    fn settings(&self, listen: SocketAddr) -> Settings {
        Settings {
            listen,
            threads: self.sink_threads,
            chunking: self.chunking,
            delay: Duration::from_millis(self.delay_ms),
            record: self.record.clone(),
        }
    }
}

impl RunOptions {
    fn trial(&self) -> Trial {
        Trial {
            name: self.name.clone(),
            sink: self.sink_options.settings(self.sink),
            order: self.load.order(self.to.unwrap_or(self.sink), None),
            told: self.webhooks.zip(self.events).map(|(listen, events)| Told { listen, events }),
            door: self.http.zip(self.key.clone()).map(|(to, key)| Door { to, key }),
            warm_up: self.warm_up,
            paced: self.paced,
            paced_rate: self.paced_rate,
            disk: self.disk.clone(),
            log: self.log.clone(),
            server: self.server.clone(),
            ready_within: Duration::from_secs(self.ready_within),
            drain_patience: Duration::from_secs(self.drain_patience),
        }
    }
}

fn main() -> ExitCode {
    let figures = match Cli::parse().command {
        Command::Generate { to, load, rate } => generate(&load.order(to, rate)).map(|mut outcome| outcome.figures()),
        Command::Sink { listen, sink, expect } => Sink::start(&sink.settings(listen)).and_then(|sink| {
            eprintln!("listening at {listen}");
            await_end(&sink, expect)?;
            sink.figures(expect)
        }),
        Command::Run(options) => trial::run(&options.trial()),
        Command::Control(options) => control::run(&options.order()),
        Command::Backlog(options) => backlog::run(&options.trial()),
    };
    match figures {
        Ok(figures) => {
            println!("{figures}");
            ExitCode::SUCCESS
        }
        Err(fault) => {
            eprintln!("bench: {fault}");
            ExitCode::FAILURE
        }
    }
}

/// Different from the last one's, and from the few that follow it within one run.
fn fresh_run() -> Run {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (since.as_millis() as Run).wrapping_mul(16)
}

fn await_end(sink: &Sink, expect: Option<u64>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        loop {
            tokio::select! {
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
                () = tokio::time::sleep(Duration::from_millis(20)) => {
                    if expect.is_some_and(|expect| sink.unique_of_all() >= expect) {
                        return Ok(());
                    }
                }
            }
        }
    })
}
