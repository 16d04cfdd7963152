//! `weir demo`: all of it on one machine, with no configuration, no DNS, no root and no outside network. (R9.4)
//!
//! The house is opened on a configuration file as `weir serve` opens it; only the outside is made up (`world`). Everything the demo
//! knows, it reads from the event log, and at the end from the spool.

mod board;
mod house;
mod target;
mod tenants;

mod screen;
mod traffic;

use crate::commands::{Done, Failure, LogForm, runtime, serve, start_log};
use crate::{wire, world};
use board::{Board, Cell, Reader, Share};
use engine::time::Timestamp;
use house::{Doors, Folder};
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
use target::Target;
use tenants::{NEWSLETTERS, PLANNED, Tenants, WEBHOOK};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until};
use traffic::Traffic;
use world::World;

const DAY_S: u64 = 86_400;
/// A day is four minutes, so that allowances matter soon and a warm-up is seen to happen.
const DAY: Duration = Duration::from_secs(240);
const DAY_SHORTEST: Duration = Duration::from_secs(10);
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
    /// How long a day is, such as 30s: the house's clock and the providers' run so much faster
    #[arg(long, value_name = "TIME", value_parser = day)]
    day: Option<Duration>,
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
    let day = arguments.day.unwrap_or(DAY);
    let pace = u32::try_from(DAY_S / day.as_secs()).unwrap_or(1);
    let clock = Clock::paced(pace);
    let world = World::open(&tenants::known_ips(), f64::from(pace)).await?;
    let Open { running, config, options } = open(&folder, &world, &clock).await?;
    let (Some(smtp), Some(http)) = (running.smtp.first().copied(), running.http) else {
        return Err(Failure("the demo's own file names no listener".to_owned()));
    };
    let Some(office) = &running.office else {
        return Err(Failure("the demo's own file has no control plane".to_owned()));
    };
    let target = Target::open().await?;
    let tenants = tenants::arrange(office, &world, target.address).await?;
    if let (Some(returns), Some(links)) = (running.returns, running.tracking) {
        world.send_back_to(returns, &house::feedback(), links);
    }
    if !arguments.json {
        say(&introduction(&tenants, smtp, http, &config, day))?;
    }

    let traffic = Traffic::start(&tenants.tenants, smtp, http, &connector, &clock);
    let began = Timestamp(clock.now());
    stop.at = Instant::now() + arguments.length.unwrap_or(FOREVER);
    let watched = Instant::now();
    let mut board = Board::paced(pace);
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
        let fresh: Vec<_> = PLANNED.iter().flat_map(|planned| planned.fresh()).collect();
        let warming = running.plant.driver.ask(move |engine, _| engine.warm_ups(&fresh)).await;
        board.look_at_warm_ups(&warming.unwrap_or_default());
        let counts = (traffic.refused(), target.heard().values().sum());
        if let Heard::No = draw(&mut view, &mut board, &tenants, counts, (began, Timestamp(clock.now())))? {
            break;
        }
    }

    let seconds = watched.elapsed().as_secs_f64();
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
    let summary = Summary::of(&board, &tenants, seconds, (queued, refused), &world.tally(), target.heard());
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
async fn open(folder: &Folder, world: &World, clock: &Clock) -> Result<Open, Failure> {
    let mut doors = Doors::usual();
    loop {
        let config = house::write(folder.path(), world, doors)?;
        let house = serve::load(&config)?;
        let options = house.spool.clone();
        match wire::open(house, &folder.data(), clock.clone()).await {
            Ok(running) => return Ok(Open { running, config, options }),
            Err(wire::OpenFault::Listen { .. }) if doors != Doors::ANY => doors = Doors::ANY,
            Err(fault) => return Err(fault.into()),
        }
    }
}

fn draw(
    view: &mut View,
    board: &mut Board,
    tenants: &Tenants,
    counts: (u64, u64),
    span: screen::Span,
) -> Result<Heard, Failure> {
    board.pass(span.1);
    match view {
        View::Terminal { screen, size } => {
            screen.draw(&screen::page(board, &tenants.tenants, counts, span, *size), *size)?;
            Ok(Heard::Yes)
        }
        View::Lines => say(&screen::status(board, counts, span)),
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

/// What the demo did. All numbers are recipients: what was accepted was delivered, bounced, expired, deleted, rejected, or is queued.
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
    /// Those that came onto the suppression list while they waited.
    rejected: u64,
    /// Of those delivered: sent back later, and complained of.
    returned: u64,
    complained: u64,
    /// What readers did.
    opened: u64,
    clicked: u64,
    unsubscribed: u64,
    /// Recipients that nothing was sent to any more, because they had bounced, complained or ended it; they were not accepted.
    suppressed: u64,
    /// Those that the spool still held after everything was closed.
    queued: u64,
    /// Submissions that failed; nothing of them was accepted.
    refused: u64,
    /// Recipients that the providers took mail for, by their own count.
    received: u64,
    /// Messages at the providers whose every DKIM signature holds, and all others.
    signed: u64,
    unsigned: u64,
    by_tenant: BTreeMap<&'static str, Share>,
    /// Messages by the rule that chose their pool.
    by_rule: BTreeMap<&'static str, u64>,
    by_ip: BTreeMap<String, BTreeMap<String, Cell>>,
    /// Events of acme's mail that its own program was told of, by kind.
    told: BTreeMap<String, u64>,
}

impl Summary {
    fn of(
        board: &Board,
        tenants: &Tenants,
        seconds: f64,
        (queued, refused): (u64, u64),
        tally: &world::Tally,
        told: BTreeMap<String, u64>,
    ) -> Summary {
        let tenants = tenants.tenants.iter();
        Summary {
            seconds: (seconds * 10.0).round() / 10.0,
            accepted: board.accepted,
            delivered: board.total.delivered,
            deferred: board.total.deferred,
            bounced: board.total.bounced,
            expired: board.expired,
            deleted: board.deleted,
            rejected: board.rejected,
            returned: board.returned,
            complained: board.complained,
            opened: board.opened,
            clicked: board.clicked,
            unsubscribed: board.unsubscribed,
            suppressed: board.suppressed,
            queued,
            refused,
            received: tally.received.values().sum(),
            signed: tally.signed,
            unsigned: tally.unsigned,
            by_tenant: tenants.map(|tenant| (tenant.planned.account, board.share(&tenant.id))).collect(),
            by_rule: board.by_rule().clone(),
            by_ip: board.by_ip(),
            told,
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
        let mut of_tenants = Vec::new();
        for (tenant, share) in &self.by_tenant {
            of_tenants.push(format!("    \"{tenant}\": {}", serde_json::to_string(share)?));
        }
        let mut fields = vec![
            format!("  \"by_ip\": {{\n{}\n  }}", of_ips.join(",\n")),
            format!("  \"by_tenant\": {{\n{}\n  }}", of_tenants.join(",\n")),
            format!("  \"by_rule\": {}", serde_json::to_string(&self.by_rule)?),
            format!("  \"told\": {}", serde_json::to_string(&self.told)?),
        ];
        if let Value::Object(whole) = serde_json::to_value(self)? {
            let numbers = whole.iter().filter(|(_, value)| value.is_number());
            fields.extend(numbers.map(|(name, value)| format!("  \"{name}\": {value}")));
        }
        Ok(format!("{{\n{}\n}}", fields.join(",\n")))
    }
}

/// What to know and what to try, ready to paste.
fn introduction(tenants: &Tenants, smtp: SocketAddr, http: SocketAddr, config: &Path, day: Duration) -> String {
    let [acme, globex, shop] = &tenants.tenants[..] else { return String::new() };
    let weir = std::env::args_os().next().map_or_else(|| PathBuf::from("weir"), PathBuf::from);
    let (weir, config, operator) = (weir.display(), config.display(), &tenants.operator_key);
    let domains: Vec<&str> = world::SITES.iter().map(|site| site.domains[0]).collect();
    let who: Vec<String> = PLANNED.iter().map(|one| format!("  {:<13} {}", one.account, one.words)).collect();
    let (acme_domain, shop_domain) = (acme.planned.domain, shop.planned.domain);
    let places = globex.planned.places().iter();
    let globex_ips: Vec<String> = places.map(|place| place.ip().to_string()).collect();
    format!(
        r#"Weir is open, and three tenants are sending. All of it stays on this machine, and a day is over
in {} seconds: two IPs are new, and carry more every day.
  HTTP API      http://{http}
  SMTP          {smtp}, with STARTTLS
  configuration {config}
{}

Send a message over HTTP; it goes by the pool that its configuration set chooses:

curl http://{http}/api/v1/messages \
  -H 'Authorization: Bearer {}' \
  -d '{{"from":"hello@{acme_domain}","to":"ann@gmail.test","text":"Hello","configuration_set":"{NEWSLETTERS}"}}'

Send one over SMTP, from the shared pool:

printf 'From: hello@{shop_domain}\r\nTo: bo@outlook.test\r\n\r\nHello\r\n' |
curl smtp://{smtp} --ssl-reqd --insecure --user {}:{} \
  --mail-from hello@{shop_domain} --mail-rcpt bo@outlook.test -T -

See what became of a message (by its id) and why it took that way, how each IP stands
with each provider, and what waits:

export WEIR_URL=http://{http} WEIR_KEY={operator}
{weir} explain ID
{weir} queue lanes
{weir} queue list

Hear what happens as it happens, count it, see who is written to no more, and what acme's
own program is told:

{weir} events follow --kind bounced,returned,complained,opened,clicked,unsubscribed
{weir} stats --by account
{weir} suppression list --account {}
{weir} webhook deliveries {WEBHOOK} --account {}

Ask where mail would go now, and by which rule:

curl $WEIR_URL/api/v1/routes:preview -H "Authorization: Bearer $WEIR_KEY" \
  -d '{{"account":"{}","configuration_set":"{NEWSLETTERS}"}}'

Take the IPs of {} out of rotation: its mail has no other way and is refused, which
the count shows. Ask the same about it. “into-rotation” brings them back:

for ip in {}; do
curl $WEIR_URL/api/v1/ips/$ip/orders -H "Authorization: Bearer $WEIR_KEY" \
  -d '{{"order":"out-of-rotation","reason":"to see what happens"}}'; done
curl $WEIR_URL/api/v1/routes:preview -H "Authorization: Bearer $WEIR_KEY" -d '{{"account":"{}"}}'

There are mailboxes at {}
and {}; names that begin with “unknown” bounce.
Ctrl-C ends the demo and removes all of it."#,
        day.as_secs(),
        who.join("\n"),
        acme.key,
        shop.user,
        shop.password,
        acme.planned.account,
        acme.planned.account,
        acme.id,
        globex.planned.account,
        globex_ips.join(" "),
        globex.id,
        domains[..5].join(", "),
        domains[5..].join(", "),
    )
}

/// Faster than that, a day is over before a message is handed over.
fn day(text: &str) -> Result<Duration, String> {
    let day = time(text)?;
    let fits = (DAY_SHORTEST..=Duration::from_secs(DAY_S)).contains(&day);
    if fits { Ok(day) } else { Err("a day has from 10s to 24h".to_owned()) }
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
