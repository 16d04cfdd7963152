//! How long do ninety days of a hundred thousand messages take in a rehearsal?
//!
//! `cargo run --release -p sim --example months`
#![allow(clippy::disallowed_methods)] // it measures, so it needs a clock

use sim::rehearsal::rehearse;
use sim::scenario::Scenario;
use std::time::Instant;

const MONTHS: &str = "name = \"months\"\ndays = 90\n[sender]\nper_day = 100_000\n[pool]\nips = 1\n";
const RUNS: u64 = 5;

fn main() {
    let scenario = Scenario::parse(MONTHS).expect("it stands above");
    let run = |seed| {
        let begun = Instant::now();
        let messages = rehearse(&scenario.setting(seed)).sum(|site| site.offered);
        (begun.elapsed().as_secs_f64(), messages)
    };
    let mut took: Vec<(f64, u64)> = (0..RUNS).map(run).collect();
    took.sort_by(|one, other| one.0.total_cmp(&other.0));
    let ((median, messages), (longest, _)) = (took[took.len() / 2], took[took.len() - 1]);
    println!(
        "{{\"trial\":\"months\",\"days\":90,\"messages\":{messages},\"p50_s\":{median:.3},\"longest_s\":{longest:.3}}}"
    );
}
