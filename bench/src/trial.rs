//! What does a server do under load: how fast is mail through it, and at what cost?
//!
//! Sink and generator run here, in this process; the server runs outside, fenced, so that what it costs is its own.

use std::fs::File;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::disk;
use crate::fence::{Fence, own_cpu_seconds};
use crate::figures::Figures;
use crate::generate::{Order, Outcome, generate};
use crate::letter::Run;
use crate::sink::{self, Sink};
use crate::submit::{Door, submit};
use crate::target::Target;

/// Enough for a 99th percentile that one hiccup does not make.
const PROBES: usize = 300;
/// Four seconds at 200 a second.
const PACED_PROBES: usize = 800;

#[derive(Debug)]
pub struct Trial {
    pub name: String,
    pub sink: sink::Settings,
    /// As for the measurement; the warm-up and the paced part take its other settings.
    pub order: Order,
    /// Messages are handed in here instead, over HTTP.
    pub door: Option<Door>,
    /// Webhooks are listened for.
    pub told: Option<Told>,
    pub warm_up: u64,
    pub paced: u64,
    pub paced_rate: f64,
    /// Where the server keeps its mail: there the disk is probed.
    pub disk: PathBuf,
    pub log: Option<PathBuf>,
    /// Nothing: the generator goes straight into the sink.
    pub server: Vec<String>,
    pub ready_within: Duration,
    /// How long the sink may see nothing new before the rest counts as lost.
    pub drain_patience: Duration,
}

/// Where webhooks are told, and of how many events for each message.
#[derive(Clone, Debug)]
pub struct Told {
    pub listen: SocketAddr,
    pub events: u64,
}

/// One measured run.
pub fn run(trial: &Trial) -> io::Result<Figures> {
    let sink = Sink::start(&trial.sink)?;
    let target = trial.told.as_ref().map(|told| Target::listen(told.listen)).transpose()?;
    let fence = Fence::raise()?;
    let mut server = start(trial, &fence)?;
    let outcome = measure(trial, &fence, &sink, target.as_ref(), &mut server);
    // The processes are ended whatever came of the measurement.
    fence.clear(Duration::from_secs(10))?;
    if let Some(server) = &mut server {
        server.wait()?;
    }
    fence.remove()?;
    outcome
}

pub fn start(trial: &Trial, fence: &Fence) -> io::Result<Option<Child>> {
    if trial.server.is_empty() {
        return Ok(None);
    }
    spawn(fence, &trial.server, trial.log.as_deref()).map(Some)
}

/// Starts a server inside the fence; what it says goes to the log.
pub fn spawn(fence: &Fence, words: &[String], log: Option<&Path>) -> io::Result<Child> {
    let mut command = fence.command(words);
    command.stdin(Stdio::null());
    if let Some(path) = log {
        let log = File::create(path)?;
        command.stdout(log.try_clone()?).stderr(log);
    }
    command.spawn()
}

fn measure(
    trial: &Trial,
    fence: &Fence,
    sink: &Sink,
    target: Option<&Target>,
    server: &mut Option<Child>,
) -> io::Result<Figures> {
    let mut figures = Figures::default();
    figures.text("name", &trial.name);
    if let Some(server) = server {
        await_banner(trial, server)?;
    }
    let mut fdatasync_us = disk::fdatasync_us(&trial.disk, trial.order.size, PROBES, None)?;
    figures.spread_ms("fdatasync", &mut fdatasync_us);

    let mut warm_up = Order { run: trial.order.run + 1, messages: trial.warm_up, ..trial.order.clone() };
    warm_up.rate = None;
    let outcome = hand_in(trial, &warm_up)?;
    drain(trial, sink, warm_up.run, &outcome);
    let before = hear(trial, target, outcome.acknowledged);

    let watch = fence.watch_memory();
    let (cpu_before, own_before) = (fence.cpu()?, own_cpu_seconds()?);
    let mut outcome = hand_in(trial, &trial.order)?;
    drain(trial, sink, trial.order.run, &outcome);
    let told = hear(trial, target, outcome.acknowledged + trial.warm_up);
    let own_seconds = own_cpu_seconds()? - own_before;
    // What the server still has to do for these messages belongs to their price: it removes them, it writes its log.
    thread::sleep(Duration::from_secs(1));
    let cpu_after = fence.cpu()?;
    let memory = watch.stop();

    let received = sink.unique(trial.order.run);
    let until = |last: Option<SystemTime>| {
        last.and_then(|last| last.duration_since(outcome.began).ok()).unwrap_or_default().as_secs_f64()
    };
    let end_to_end = until(sink.last_arrival());
    let user = cpu_after.user_seconds - cpu_before.user_seconds;
    let system = cpu_after.system_seconds - cpu_before.system_seconds;
    figures.count("received", received);
    figures.count("lost", outcome.acknowledged.saturating_sub(received));
    figures.count("duplicates", sink.duplicates(trial.order.run));
    figures.number("end_to_end_seconds", end_to_end);
    figures.number("end_to_end_per_second", received as f64 / end_to_end);
    figures.number("cpu_user_seconds", user);
    figures.number("cpu_system_seconds", system);
    figures.number("cpu_seconds_per_1000", (user + system) * 1000.0 / received.max(1) as f64);
    figures.text("cpu_method", fence.method());
    figures.number("bench_cpu_seconds", own_seconds);
    figures.number("peak_rss_mib", memory.rss_kib as f64 / 1024.0);
    figures.number("peak_pss_mib", memory.pss_kib as f64 / 1024.0);
    figures.count("processes", memory.processes);
    if let Some(target) = target {
        let heard = target.heard();
        figures.count("events_told", told - before);
        figures.count("events_told_again", heard.again);
        figures.count("event_requests", heard.requests);
        figures.number("told_after_mail_seconds", until(heard.last) - end_to_end);
        figures.number("all_told_per_second", received as f64 / until(heard.last));
    }
    figures.absorb("", outcome.figures());

    if trial.paced > 0 {
        let mut paced = trial.order.clone();
        (paced.run, paced.messages, paced.rate) = (trial.order.run + 2, trial.paced, Some(trial.paced_rate));
        let mut outcome = generate(&paced)?;
        drain(trial, sink, paced.run, &outcome);
        figures.absorb("paced_", outcome.figures());
        let mut again_us = disk::fdatasync_us(&trial.disk, trial.order.size, PROBES, None)?;
        figures.spread_ms("fdatasync_after", &mut again_us);
        // What an acknowledgement can be held against: the bare disk, asked as seldom as the server asked it.
        let mut paced_us = disk::fdatasync_us(&trial.disk, trial.order.size, PACED_PROBES, Some(trial.paced_rate))?;
        figures.spread_ms("paced_fdatasync", &mut paced_us);
    }
    Ok(figures)
}

/// Waits until the targets have heard of all events of so many messages, or of nothing new for too long.
fn hear(trial: &Trial, target: Option<&Target>, messages: u64) -> u64 {
    let (Some(target), Some(told)) = (target, &trial.told) else { return 0 };
    let (mut heard, mut since) = (target.heard().events, Instant::now());
    while heard < messages * told.events && since.elapsed() < trial.drain_patience {
        thread::sleep(Duration::from_millis(10));
        let now = target.heard().events;
        if now > heard {
            (heard, since) = (now, Instant::now());
        }
    }
    heard
}

fn hand_in(trial: &Trial, order: &Order) -> io::Result<Outcome> {
    match &trial.door {
        Some(door) => submit(order, door),
        None => generate(order),
    }
}

/// Until the server greets: only then are all its parts in place.
pub fn await_banner(trial: &Trial, server: &mut Child) -> io::Result<()> {
    let began = Instant::now();
    while began.elapsed() < trial.ready_within {
        if greets(trial.order.to) {
            return Ok(());
        }
        if let Some(status) = server.try_wait()? {
            return Err(io::Error::other(format!("{} ended before it was ready: {status}", trial.name)));
        }
        thread::sleep(Duration::from_millis(100));
    }
    Err(io::Error::other(format!(
        "{} does not greet at {} within {:?}",
        trial.name, trial.order.to, trial.ready_within
    )))
}

fn greets(address: SocketAddr) -> bool {
    let greeting = || -> io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut begin = [0; 3];
        stream.read_exact(&mut begin)?;
        Ok(&begin == b"220")
    };
    greeting().unwrap_or(false)
}

/// Waits until the sink has all that was acknowledged, or has seen nothing new for too long.
fn drain(trial: &Trial, sink: &Sink, run: Run, outcome: &Outcome) {
    let (mut seen, mut since) = (sink.unique(run), Instant::now());
    while seen < outcome.acknowledged && since.elapsed() < trial.drain_patience {
        thread::sleep(Duration::from_millis(10));
        let now = sink.unique(run);
        if now > seen {
            (seen, since) = (now, Instant::now());
        }
    }
}
