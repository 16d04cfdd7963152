//! What does a long queue cost, and how soon after a crash does it move?
//!
//! The next hop is away while the queue fills; then the server is killed, the next hop comes back, and the server starts again.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crate::fence::Fence;
use crate::figures::Figures;
use crate::generate::generate;
use crate::sink::Sink;
use crate::trial::{Trial, await_banner, start};

/// How long the server rests before what it holds is measured: caches are given back, logs are written.
const REST: Duration = Duration::from_secs(5);
/// How long after the first delivery memory is still watched.
const WATCHED_AFTER_START: Duration = Duration::from_secs(10);

/// Fills the queue, kills, starts again.
pub fn run(trial: &Trial) -> io::Result<Figures> {
    let fence = Fence::raise()?;
    let figures = measure(trial, &fence);
    fence.clear(Duration::ZERO)?;
    fence.remove()?;
    figures
}

fn measure(trial: &Trial, fence: &Fence) -> io::Result<Figures> {
    let mut figures = Figures::default();
    figures.text("name", &trial.name);
    let mut server = start(trial, fence)?.ok_or_else(|| io::Error::other("a backlog needs a server"))?;
    await_banner(trial, &mut server)?;

    let filling = fence.watch_memory();
    let mut outcome = generate(&trial.order)?;
    let filled = filling.stop();
    let resting = fence.watch_memory();
    thread::sleep(REST);
    let rested = resting.stop();
    fence.clear(Duration::ZERO)?;
    server.wait()?;
    figures.count("queued", outcome.acknowledged);
    figures.number("filling_peak_rss_mib", filled.rss_kib as f64 / 1024.0);
    figures.number("resting_rss_mib", rested.rss_kib as f64 / 1024.0);
    figures.absorb("filling_", outcome.figures());

    let sink = Sink::start(&trial.sink)?;
    let began = Instant::now();
    let mut server = start(trial, fence)?.ok_or_else(|| io::Error::other("a backlog needs a server"))?;
    let starting = fence.watch_memory();
    while sink.unique(trial.order.run) == 0 {
        if began.elapsed() > trial.drain_patience {
            return Err(io::Error::other("nothing was delivered after the second start"));
        }
        thread::sleep(Duration::from_millis(5));
    }
    figures.number("start_to_first_delivery_seconds", began.elapsed().as_secs_f64());
    thread::sleep(WATCHED_AFTER_START);
    figures.number("starting_peak_rss_mib", starting.stop().rss_kib as f64 / 1024.0);
    figures.count("delivered_soon_after", sink.unique(trial.order.run));
    figures.count("duplicates", sink.duplicates(trial.order.run));
    fence.clear(Duration::ZERO)?;
    server.wait()?;
    Ok(figures)
}
