//! How many messages a second does this machine's disk keep safe, and how long does a start-up take?
//!
//! `throughput DIR [MESSAGES]`: 64 submitters, 10 KiB each, a consumer that reads and removes 20,000 behind.
//! `throughput DIR --recover MESSAGES`: fills the queue, opens it again, prints time and memory.
#![allow(clippy::unwrap_used, reason = "a measurement stops at the first surprise")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use spool::{Options, Spool, open};

const SUBMITTERS: u64 = 64;
const BODY_BYTES: usize = 10 << 10;
const BEHIND: u64 = 20_000;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let dir = arguments.get(1).expect("usage: throughput DIR [MESSAGES | --recover MESSAGES]").clone();
    let number = |at: usize| arguments.get(at).and_then(|text| text.parse().ok());
    if arguments.get(2).is_some_and(|argument| argument == "--recover") {
        recover(dir, number(3).unwrap_or(1_000_000)).await;
    } else {
        throughput(&dir, number(2).unwrap_or(200_000)).await;
    }
}

async fn throughput(dir: &str, messages: u64) {
    let (spool, _) = open(Path::new(dir), Options::default()).unwrap();
    let start = (Instant::now(), cpu());
    let acknowledged = Arc::new(AtomicU64::new(0));
    let consumer = std::thread::spawn({
        let (spool, acknowledged) = (spool.clone(), acknowledged.clone());
        move || consume(&spool, &acknowledged, messages)
    });
    let mut waits = submit(&spool, messages, &acknowledged).await;
    let took = start.0.elapsed();
    consumer.join().unwrap();
    let spent = cpu() - start.1;
    waits.sort_unstable();
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!("messages/s      {:.0}", messages as f64 / took.as_secs_f64());
    println!("ack p50 / p99   {:.2} / {:.2} ms", at(0.5), at(0.99));
    println!("CPU per message {:.1} us", spent.as_secs_f64() * 1e6 / messages as f64);
    println!("{:#?}", spool.figures());
    spool.close();
}

fn consume(spool: &Spool, acknowledged: &AtomicU64, messages: u64) {
    for nth in 0..messages {
        while nth + BEHIND.min(messages - 1) >= acknowledged.load(Ordering::Relaxed)
            && acknowledged.load(Ordering::Relaxed) < messages
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        // Submitters finish out of order: one that is late is waited for.
        while spool.read(key(nth)).is_err() {
            std::thread::sleep(Duration::from_millis(1));
        }
        spool.remove(key(nth), vec![b'd'; 200]);
    }
}

async fn submit(spool: &Spool, messages: u64, acknowledged: &Arc<AtomicU64>) -> Vec<Duration> {
    let next = Arc::new(AtomicU64::new(0));
    let body = Bytes::from(vec![b'm'; BODY_BYTES]);
    let submitters: Vec<_> = (0..SUBMITTERS)
        .map(|_| {
            let (spool, next, body, acknowledged) = (spool.clone(), next.clone(), body.clone(), acknowledged.clone());
            tokio::spawn(async move {
                let mut waits = Vec::new();
                loop {
                    let nth = next.fetch_add(1, Ordering::Relaxed);
                    if nth >= messages {
                        return waits;
                    }
                    let asked = Instant::now();
                    spool.put(key(nth), vec![b'h'; 200], body.clone(), vec![b'a'; 200]).await.unwrap();
                    waits.push(asked.elapsed());
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let mut waits = Vec::new();
    for submitter in submitters {
        waits.extend(submitter.await.unwrap());
    }
    waits
}

async fn recover(dir: String, messages: u64) {
    let (spool, recovered) = open(Path::new(&dir), Options::default()).unwrap();
    drop(recovered);
    let have = spool.queued();
    if have < messages {
        submit(&spool, messages, &Arc::default()).await;
    }
    spool.close();
    let before = resident();
    let start = Instant::now();
    let (spool, recovered) = open(Path::new(&dir), Options::default()).unwrap();
    println!("open            {:.2} s for {} messages", start.elapsed().as_secs_f64(), spool.queued());
    println!("resident        {} KiB more, with the order of put", resident().saturating_sub(before));
    let live = recovered.live.map(|message| message.unwrap().head.len()).filter(|len| *len == 200).count();
    println!("heads read      {live} after {:.2} s", start.elapsed().as_secs_f64());
    println!("resident        {} KiB more, with the order gone", resident().saturating_sub(before));
}

/// As a UUIDv7 would be: time first, chance behind.
fn key(nth: u64) -> u128 {
    u128::from(nth) << 80 | u128::from(nth.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // utime and stime, in the kernel's hundredths of a second.
    Duration::from_millis(10 * (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()))
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
