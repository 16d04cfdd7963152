//! What does a server with many tenants do under calls: how soon does it start, how many reads and changes a second, and how soon
//! is a change known where mail is taken?

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Child;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::fence::Fence;
use crate::figures::Figures;
use crate::http::{Answer, Line};
use crate::trial::spawn;

const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at whether the server answers, or knows of a change.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Long enough for the caches and pools of a server to be in use.
const WARM_UP: Duration = Duration::from_secs(1);

pub struct Order {
    pub name: String,
    pub to: SocketAddr,
    /// Keys that may do everything in an account of their own, one a line: there is a limit to how often each may call.
    pub keys: PathBuf,
    /// `from` of the first message.
    pub from: String,
    pub connections: usize,
    pub time: Duration,
    /// Changes that are followed until they are known.
    pub followed: usize,
    pub log: Option<PathBuf>,
    pub server: Vec<String>,
}

/// Starts the server, calls it, follows changes, ends it, and starts it once more on what it kept.
pub fn run(order: &Order) -> io::Result<Figures> {
    let text = fs::read_to_string(&order.keys)?;
    let keys = Keys { keys: text.lines().collect(), next: AtomicU64::new(0) };
    if keys.keys.is_empty() {
        return Err(io::Error::other("there are no keys"));
    }
    let mut figures = Figures::default();
    figures.text("name", &order.name);
    started(order, |fence, server, began| measure(order, &keys, &mut figures, fence, server, began))?;
    started(order, |_, server, began| {
        let first = first_message(order, server, &keys, began)?;
        figures.number("start_again_to_first_message_seconds", first.as_secs_f64());
        Ok(())
    })?;
    Ok(figures)
}

/// A server for as long as something is done with it; then it is asked to end.
fn started(order: &Order, with: impl FnOnce(&Fence, &mut Child, Instant) -> io::Result<()>) -> io::Result<()> {
    let fence = Fence::raise()?;
    let began = Instant::now();
    let mut server = spawn(&fence, &order.server, order.log.as_deref())?;
    let outcome = with(&fence, &mut server, began);
    fence.clear(Duration::from_secs(10))?;
    server.wait()?;
    fence.remove()?;
    outcome
}

fn measure(
    order: &Order,
    keys: &Keys<'_>,
    figures: &mut Figures,
    fence: &Fence,
    server: &mut Child,
    began: Instant,
) -> io::Result<()> {
    let first = first_message(order, server, keys, began)?;
    figures.number("start_to_first_message_seconds", first.as_secs_f64());
    // What is done at the start beside mail (the snapshot is kept, what is due is looked for) is not what is measured next.
    thread::sleep(Duration::from_secs(3));
    let resting = fence.watch_memory();
    thread::sleep(Duration::from_secs(1));
    figures.number("resting_rss_mib", resting.stop().rss_kib as f64 / 1024.0);

    let memory = fence.watch_memory();
    for (name, call) in [("account", Call::Account), ("pools", Call::Pools), ("change", Call::Subaccount)] {
        let warm_up = calls(order, keys, call, WARM_UP)?;
        let cpu = fence.cpu()?;
        let mut round = calls(order, keys, call, order.time)?;
        let spent = fence.cpu()?;
        let cpu = spent.user_seconds + spent.system_seconds - cpu.user_seconds - cpu.system_seconds;
        let good = round.good.max(1) as f64;
        figures.number(&format!("{name}_per_second"), round.good as f64 / round.seconds);
        figures.count(&format!("{name}_failed"), round.failed + warm_up.failed);
        figures.number(&format!("{name}_server_cpu_us"), cpu * 1e6 / good);
        figures.spread_ms(name, &mut round.took_us);
        if let Some(failure) = round.last_failure {
            figures.text(&format!("{name}_last_failure"), &failure);
        }
    }
    for (name, change) in [("known_subaccount", follow_subaccount as Follow), ("known_key", follow_key as Follow)] {
        let mut took_us = Vec::new();
        let mut line = Line::open(order.to, PATIENCE)?;
        for number in 0..order.followed {
            took_us.push(micros(change(&mut line, keys.next(), number)?));
        }
        figures.spread_ms(name, &mut took_us);
    }
    figures.number("peak_rss_mib", memory.stop().rss_kib as f64 / 1024.0);
    Ok(())
}

struct Keys<'a> {
    keys: Vec<&'a str>,
    next: AtomicU64,
}

impl<'a> Keys<'a> {
    fn next(&self) -> &'a str {
        self.keys[self.next.fetch_add(1, Ordering::Relaxed) as usize % self.keys.len()]
    }
}

/// From the start of the process until a message is durable.
fn first_message(order: &Order, server: &mut Child, keys: &Keys<'_>, began: Instant) -> io::Result<Duration> {
    let body = format!(r#"{{"from":"{}","to":"reader@d0.test","subject":"first","text":"first"}}"#, order.from);
    while began.elapsed() < PATIENCE {
        let said = Line::open(order.to, PATIENCE)
            .and_then(|mut line| line.call("POST", "/api/v1/messages", keys.keys[0], body.as_bytes()));
        match said {
            Ok(Answer { status: 200, .. }) => return Ok(began.elapsed()),
            Ok(refused) => return Err(refusal(&refused)),
            Err(_) => thread::sleep(LOOK_EVERY),
        }
        if let Some(status) = server.try_wait()? {
            return Err(io::Error::other(format!("the server ended before it was ready: {status}")));
        }
    }
    Err(io::Error::other("the server takes no message"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Account,
    Pools,
    Subaccount,
}

impl Call {
    fn make(self, line: &mut Line, key: &str, number: u64) -> io::Result<Answer> {
        match self {
            Call::Account => line.call("GET", "/api/v1/accounts/self", key, b""),
            Call::Pools => line.call("GET", "/api/v1/accounts/self/pools", key, b""),
            Call::Subaccount => {
                let body = format!(r#"{{"name":"part {}-{number}"}}"#, std::process::id());
                line.call("POST", "/api/v1/accounts/self/subaccounts", key, body.as_bytes())
            }
        }
    }
}

#[derive(Default)]
struct Round {
    good: u64,
    failed: u64,
    last_failure: Option<String>,
    seconds: f64,
    took_us: Vec<u32>,
}

/// Each connection calls again as soon as it has its answer.
fn calls(order: &Order, keys: &Keys<'_>, call: Call, time: Duration) -> io::Result<Round> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let began = Instant::now();
    let one = || -> io::Result<Round> {
        let mut round = Round::default();
        let mut line = Line::open(order.to, PATIENCE)?;
        while began.elapsed() < time {
            let asked = Instant::now();
            let answer = call.make(&mut line, keys.next(), NUMBER.fetch_add(1, Ordering::Relaxed))?;
            if (200..300).contains(&answer.status) {
                round.good += 1;
                round.took_us.push(micros(asked.elapsed()));
            } else {
                round.failed += 1;
                round.last_failure = Some(refusal(&answer).to_string());
            }
        }
        Ok(round)
    };
    let rounds: Vec<io::Result<Round>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..order.connections).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|it| it.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))).collect()
    });
    let mut whole = Round { seconds: began.elapsed().as_secs_f64(), ..Round::default() };
    for round in rounds {
        let round = round?;
        whole.good += round.good;
        whole.failed += round.failed;
        whole.last_failure = whole.last_failure.or(round.last_failure);
        whole.took_us.extend(round.took_us);
    }
    Ok(whole)
}

type Follow = fn(&mut Line, &str, usize) -> io::Result<Duration>;

/// From asking for a subaccount until mail would be taken for it: a preview is answered as a submission is.
fn follow_subaccount(line: &mut Line, key: &str, number: usize) -> io::Result<Duration> {
    let began = Instant::now();
    let body = format!(r#"{{"name":"followed {}-{number}"}}"#, std::process::id());
    let made = good(line.call("POST", "/api/v1/accounts/self/subaccounts", key, body.as_bytes())?)?;
    let id = made.field("id").ok_or_else(|| io::Error::other("a new subaccount has no id"))?;
    let asked = format!(r#"{{"subaccount":"{id}"}}"#);
    until(began, || line.call("POST", "/api/v1/routes:preview", key, asked.as_bytes()))
}

/// From asking for a key until it lets in.
fn follow_key(line: &mut Line, key: &str, number: usize) -> io::Result<Duration> {
    let began = Instant::now();
    let body = format!(r#"{{"kind":"api","name":"followed {number}","scopes":["read"]}}"#);
    let made = good(line.call("POST", "/api/v1/accounts/self/credentials", key, body.as_bytes())?)?;
    let fresh = made.field("key").ok_or_else(|| io::Error::other("a new key is not shown"))?;
    until(began, || line.call("GET", "/api/v1/accounts/self", &fresh, b""))
}

fn until(began: Instant, mut ask: impl FnMut() -> io::Result<Answer>) -> io::Result<Duration> {
    loop {
        let answer = ask()?;
        let took = began.elapsed();
        if answer.status == 200 {
            return Ok(took);
        }
        if took > PATIENCE {
            return Err(refusal(&answer));
        }
        thread::sleep(LOOK_EVERY);
    }
}

fn good(answer: Answer) -> io::Result<Answer> {
    if (200..300).contains(&answer.status) { Ok(answer) } else { Err(refusal(&answer)) }
}

fn refusal(answer: &Answer) -> io::Error {
    io::Error::other(format!("{}: {}", answer.status, String::from_utf8_lossy(&answer.body)))
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}
