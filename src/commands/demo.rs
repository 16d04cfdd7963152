//! `weir demo`: all of it on one machine, with no configuration, no DNS, no root and no outside network. (R9.4)
//!
//! The house is opened on a configuration file as `weir serve` opens it; only the outside is made up (`world`). Everything the demo
//! knows, it reads from the event log, and at the end from the spool.

mod board;
mod house;
mod screen;
mod traffic;

use crate::commands::{Done, Failure, LogForm, runtime, serve, start_log};
use crate::{wire, world};
use board::{Board, Cell, Reader};
use engine::time::Timestamp;
use house::{Doors, Folder, Plan};
use net::clock::Clock;
use net::tls::{Connector, Roots};
use screen::{Screen, Size};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{ErrorKind, IsTerminal, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until};
use traffic::Traffic;
use world::World;

/// Seconds that pass for the providers in each of ours: one of their days is four minutes, so that allowances matter soon.
const PACE: f64 = 360.0;
const DRAW_EVERY: Duration = Duration::from_millis(500);
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// Longer than anybody watches.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 86_400);

#[derive(clap::Args)]
#[command(after_help = "Example:\n  weir demo --for 30s")]
pub struct Arguments {
    /// End by itself after this time, such as 20s or 2m
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    length: Option<Duration>,
    /// Print nothing but the summary
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Done {
    start_log(LogForm::Text, "error");
    runtime()?.block_on(show(arguments))
}

/// How what happens is shown.
enum View {
    Terminal { screen: Screen, size: Size },
    Lines,
    Nothing,
}

impl View {
    fn fitting(arguments: &Arguments) -> View {
        match (arguments.json, std::io::stdout().is_terminal()) {
            (true, _) => View::Nothing,
            (false, true) => View::Terminal { screen: Screen::default(), size: Size::ask() },
            (false, false) => View::Lines,
        }
    }

    fn period(&self) -> Duration {
        match self {
            View::Terminal { .. } => DRAW_EVERY,
            View::Lines | View::Nothing => STATUS_EVERY,
        }
    }
}

/// The plan: a world, a house in it, traffic through it; watch; then close in the opposite order and count what is left.
async fn show(arguments: &Arguments) -> Done {
    let mut stop = Stop::new()?;
    let mut view = View::fitting(arguments);
    let connector = Connector::new(Roots::system())?;
    let folder = Folder::make()?;
    let plan = Plan::make()?;
    let world = World::open(plan.senders(), PACE).await?;
    plan.write_keys(folder.path())?;
    let Open { running, config, options } = open(&plan, &folder, &world).await?;
    let (Some(smtp), Some(http)) = (running.smtp.first().copied(), running.http) else {
        return Err(Failure("the demo's own file names no listener".to_owned()));
    };
    if !arguments.json {
        say(&introduction(&plan, smtp, http, &config))?;
    }

    let clock = Clock::system();
    let traffic = Traffic::start(&plan.tenants, smtp, http, &connector, &clock);
    let began = Timestamp(clock.now());
    stop.at = Instant::now() + arguments.length.unwrap_or(FOREVER);
    let mut board = Board::default();
    let mut reader = Reader::new(running.plant.spool.events());
    let mut due = tokio::time::interval(view.period());
    due.tick().await;
    loop {
        tokio::select! {
            _ = due.tick() => {}
            told = stop.next() => match told {
                Told::Ended => break,
                Told::Resized => if let View::Terminal { size, .. } = &mut view {
                    *size = Size::ask();
                }
            }
        }
        tokio::task::block_in_place(|| reader.read(&mut board))?;
        board.look(&running.plant.driver.ask(|engine, _| engine.lanes()).await.unwrap_or_default());
        if let Heard::No = draw(&mut view, &mut board, &plan, began, Timestamp(clock.now()))? {
            break;
        }
    }

    let seconds = Timestamp(clock.now()).since(began).as_secs_f64();
    let refused = traffic.refused();
    traffic.stop().await;
    running.stop().await;
    let data = folder.data();
    let count = move || -> Result<(Board, u64), Failure> {
        let (spool, recovered) = spool::open(&data, options)?;
        reader.continued(spool.events()).read(&mut board)?;
        let waiting = board::waiting(recovered)?;
        spool.close();
        Ok((board, waiting))
    };
    let (board, queued) = tokio::task::spawn_blocking(count).await??;
    let summary = Summary::of(&board, seconds, queued, refused, &world.tally());
    match view {
        View::Terminal { .. } => say(&format!("\n{}", summary.spread()?))?,
        View::Lines | View::Nothing => say(&serde_json::to_string(&summary)?)?,
    };
    Ok(())
}

struct Open {
    running: wire::Running,
    config: PathBuf,
    options: spool::Options,
}

/// Opens the house on its file; when somebody else was faster at a usual port, on any other.
async fn open(plan: &Plan, folder: &Folder, world: &World) -> Result<Open, Failure> {
    let mut doors = Doors::usual();
    loop {
        let config = plan.write(folder.path(), world.dns(), world.port, doors)?;
        let house = serve::load(&config)?;
        let options = house.spool.clone();
        match wire::open(house, &folder.data()).await {
            Ok(running) => return Ok(Open { running, config, options }),
            Err(wire::OpenFault::Listen { .. }) if doors != Doors::ANY => doors = Doors::ANY,
            Err(fault) => return Err(fault.into()),
        }
    }
}

fn draw(view: &mut View, board: &mut Board, plan: &Plan, began: Timestamp, now: Timestamp) -> Result<Heard, Failure> {
    board.pass(now);
    match view {
        View::Terminal { screen, size } => {
            screen.draw(&screen::page(board, &plan.tenants, began, now, *size), *size)?;
            Ok(Heard::Yes)
        }
        View::Lines => say(&screen::status(board, &plan.tenants, began, now)),
        View::Nothing => Ok(Heard::Yes),
    }
}

/// Whether anybody reads on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Yes,
    /// It has seen enough, as `| head` does. That is the end, and no failure.
    No,
}

/// A line to standard output.
fn say(text: &str) -> Result<Heard, Failure> {
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => Ok(Heard::Yes),
        Err(fault) if fault.kind() == ErrorKind::BrokenPipe => Ok(Heard::No),
        Err(fault) => Err(fault.into()),
    }
}

/// When it ends, and when the terminal changes.
struct Stop {
    at: Instant,
    interrupt: Signal,
    terminate: Signal,
    window: Signal,
}

impl Stop {
    /// From here on a signal is heard here, and kills nothing half made.
    fn new() -> Result<Stop, Failure> {
        Ok(Stop {
            at: Instant::now() + FOREVER,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            window: signal(SignalKind::window_change())?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            () = sleep_until(self.at) => Told::Ended,
            _ = self.interrupt.recv() => Told::Ended,
            _ = self.terminate.recv() => Told::Ended,
            _ = self.window.recv() => Told::Resized,
        }
    }
}

enum Told {
    Ended,
    Resized,
}

/// What the demo did. All numbers are recipients: what was accepted was delivered, bounced, expired, deleted, or is queued.
#[derive(Serialize)]
struct Summary {
    seconds: f64,
    accepted: u64,
    delivered: u64,
    /// Times that a provider asked to come again.
    deferred: u64,
    bounced: u64,
    expired: u64,
    deleted: u64,
    /// Those that the spool still held after everything was closed.
    queued: u64,
    /// Submissions that failed; nothing of them was accepted.
    refused: u64,
    /// Recipients that the providers took mail for, by their own count.
    received: u64,
    /// Messages at the providers whose every DKIM signature holds, and all others.
    signed: u64,
    unsigned: u64,
    by_ip: BTreeMap<String, BTreeMap<String, Cell>>,
}

impl Summary {
    fn of(board: &Board, seconds: f64, queued: u64, refused: u64, tally: &world::Tally) -> Summary {
        Summary {
            seconds: (seconds * 10.0).round() / 10.0,
            accepted: board.accepted,
            delivered: board.total.delivered,
            deferred: board.total.deferred,
            bounced: board.total.bounced,
            expired: board.expired,
            deleted: board.deleted,
            queued,
            refused,
            received: tally.received.values().sum(),
            signed: tally.signed,
            unsigned: tally.unsigned,
            by_ip: board.by_ip(),
        }
    }

    /// The same JSON for people: a line for each lane, and the whole at the end, where it is seen first.
    fn spread(&self) -> Result<String, Failure> {
        let mut of_ips = Vec::new();
        for (ip, lanes) in &self.by_ip {
            let mut lines = Vec::new();
            for (provider, cell) in lanes {
                lines.push(format!("      \"{provider}\": {}", serde_json::to_string(cell)?));
            }
            of_ips.push(format!("    \"{ip}\": {{\n{}\n    }}", lines.join(",\n")));
        }
        let mut fields = vec![format!("  \"by_ip\": {{\n{}\n  }}", of_ips.join(",\n"))];
        if let Value::Object(whole) = serde_json::to_value(self)? {
            let numbers = whole.iter().filter(|(_, value)| value.is_number());
            fields.extend(numbers.map(|(name, value)| format!("  \"{name}\": {value}")));
        }
        Ok(format!("{{\n{}\n}}", fields.join(",\n")))
    }
}

/// What to know and what to try, ready to paste.
fn introduction(plan: &Plan, smtp: SocketAddr, http: SocketAddr, config: &Path) -> String {
    let [acme, shop] = &plan.tenants;
    let weir = std::env::args_os().next().map_or_else(|| PathBuf::from("weir"), PathBuf::from);
    let (weir, config, operator) = (weir.display(), config.display(), &plan.operator_key);
    let domains: Vec<&str> = world::SITES.iter().map(|site| site.domains[0]).collect();
    format!(
        r#"Weir is open, and {} and {} are sending. All of it stays on this machine.
  HTTP API       http://{http}
  SMTP           {smtp}, with STARTTLS
  configuration  {config}

Send a message over HTTP:

curl http://{http}/api/v1/messages \
  -H 'Authorization: Bearer {}' \
  -d '{{"from":"hello@{}","to":"ann@gmail.test","text":"Hello"}}'

Send one over SMTP:

printf 'From: hello@{}\r\nTo: bo@outlook.test\r\n\r\nHello\r\n' |
curl smtp://{smtp} --ssl-reqd --insecure --user {}:{} \
  --mail-from hello@{} --mail-rcpt bo@outlook.test -T -

See what became of a message (by its id), how each IP stands with each provider,
and what waits:

export WEIR_URL=http://{http} WEIR_KEY={operator}
{weir} explain ID
{weir} queue lanes
{weir} queue list

There are mailboxes at {}
and {}; names that begin with “unknown” bounce.
Ctrl-C ends the demo and removes all of it."#,
        acme.account,
        shop.account,
        acme.key,
        acme.domain,
        shop.domain,
        shop.user,
        shop.password,
        shop.domain,
        domains[..5].join(", "),
        domains[5..].join(", "),
    )
}

/// A length of time as people write it.
fn time(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic()).len());
    let seconds = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return Err("write it as 20s, 2m or 1h".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "write it as 20s, 2m or 1h".to_owned())?;
    let seconds = number.checked_mul(seconds).filter(|seconds| *seconds > 0 && *seconds <= FOREVER.as_secs());
    seconds.map(Duration::from_secs).ok_or_else(|| "that is no time to watch".to_owned())
}

#[cfg(test)]
mod tests {
    use super::time;
    use std::time::Duration;

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, seconds) in [("20s", Some(20)), ("2m", Some(120)), ("1h", Some(3_600)), ("90", Some(90))] {
            assert_eq!(time(text).ok(), seconds.map(Duration::from_secs), "{text}");
        }
        for text in ["", "s", "0s", "-1s", "2d", "1.5m", "99999999999999999999h", "9999999999999999h"] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
