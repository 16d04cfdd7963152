//! What does the suppression list cost: memory for an entry, time for a look-up and a change?
//!
//! `suppression ENTRIES`; figures as JSON.

#![allow(clippy::disallowed_methods)] // it measures, so it needs a clock

use engine::suppression::{Listed, Place, Reason, Suppressed};
use engine::time::Timestamp;
use std::hint::black_box;
use std::time::Instant;

const LOOK_UPS: usize = 2_000_000;
const CHANGES: usize = 2_000;
const BATCH: usize = 10_000;

fn main() {
    let entries: usize = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(10_000_000);
    let now = Timestamp::from_unix_seconds(1_800_000_000);
    let address = |number: usize| format!("reader{number}@somewhere{}.test", number % 1_000);
    let account = |number: usize| format!("acc_{:026}", number % 10_000);
    let listed = Some(Listed { reason: Reason::Bounce, until: None });
    let before = resident_kib();
    let mut list = Suppressed::empty([7; 16]);
    let began = Instant::now();
    for batch in (0..entries).step_by(BATCH) {
        let named: Vec<_> = (batch..(batch + BATCH).min(entries)).map(|at| (account(at), address(at))).collect();
        list.change(named.iter().map(|(account, address)| (Place { account, address, stream: None }, listed)));
    }
    let filled_s = began.elapsed().as_secs_f64();
    let memory_kib = resident_kib().saturating_sub(before);

    // Every other one is listed; each is looked for with a stream too, as mail is.
    let asked: Vec<_> =
        (0..LOOK_UPS / 100).map(|at| at * 2_654_435_761 % (2 * entries)).map(|at| (account(at), address(at))).collect();
    let mut took_ns = Vec::with_capacity(LOOK_UPS);
    let mut found = 0;
    for _ in 0..100 {
        for (account, address) in &asked {
            let began = Instant::now();
            found += usize::from(black_box(list.find(account, address, "letters", now, |_| true)).is_some());
            took_ns.push(began.elapsed().as_nanos() as u64);
        }
    }
    took_ns.sort_unstable();
    let mean_ns = took_ns.iter().sum::<u64>() as f64 / took_ns.len() as f64;

    let mut change_us: Vec<u64> = (0..CHANGES)
        .map(|at| {
            let (account, address) = (account(at), format!("new{at}@else.test"));
            let published = list.clone();
            let began = Instant::now();
            list.change([(Place { account: &account, address: &address, stream: None }, listed)]);
            let took = began.elapsed().as_micros() as u64;
            drop(published);
            took
        })
        .collect();
    change_us.sort_unstable();
    println!(
        "{{\"entries\":{entries},\"filled_seconds\":{filled_s:.2},\"octets_an_entry\":{:.1},\"memory_mib\":{:.0},\"look_up_mean_ns\":{mean_ns:.0},\
         \"look_up_p99_ns\":{},\"found\":{found},\"change_p50_us\":{},\"change_p99_us\":{}}}",
        memory_kib as f64 * 1024.0 / entries as f64,
        memory_kib as f64 / 1024.0,
        took_ns[took_ns.len() * 99 / 100],
        change_us[change_us.len() / 2],
        change_us[change_us.len() * 99 / 100],
    );
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
