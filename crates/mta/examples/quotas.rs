//! What does a quota cost: time to take a recipient out of it, with a day of 86,400 busy seconds behind it; and all that a submission
//! does about it, in a table of 10,000 accounts?
//!
//! Figures as JSON.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // it measures, so it needs a clock; and it may stop at the first surprise

use engine::id::{AccountId, RegionId};
use engine::quota::{Quota, Window};
use engine::snapshot::Snapshot;
use engine::time::Timestamp;
use mta::quotas::Quotas;
use spool::Options;
use spool::sim::SimDisk;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const DAY_S: u64 = 86_400;
const TAKEN: u64 = 5_000_000;
/// Recipients in each second.
const A_SECOND: u64 = 50;
const ACCOUNTS: u64 = 10_000;
const SUBMITTED: u64 = 1_000_000;
const QUOTA: Quota = Quota { per_day: 1_000_000_000, per_second: 1_000_000 };

fn start() -> Timestamp {
    Timestamp::from_unix_seconds(1_800_000_000)
}

/// Of a recipient, in the window alone.
fn window_ns() -> f64 {
    let mut window = Window::default();
    for second in 0..DAY_S {
        window.note(1, start() + Duration::from_secs(second));
    }
    let began = Instant::now();
    for number in 0..TAKEN {
        let now = start() + Duration::from_secs(DAY_S) + Duration::from_micros(number * 1_000_000 / A_SECOND);
        black_box(window.take(1, QUOTA, now)).unwrap();
    }
    began.elapsed().as_nanos() as f64 / TAKEN as f64
}

/// Of a submission to one recipient: taken, kept, and known to be over.
async fn submission_ns() -> f64 {
    let (spool, _) = spool::open_on(Arc::new(SimDisk::new()), Path::new("/data"), Options::default()).unwrap();
    let newest = *spool.events().more().borrow();
    let quotas = Quotas::default();
    let none = Path::new("/nonexistent/handed-in");
    quotas.read(none, spool.events(), newest, &Snapshot::empty(), start()).unwrap();
    let region = RegionId::new("local");
    let accounts: Vec<AccountId> = (0..ACCOUNTS).map(|number| AccountId::new(&format!("acc_{number:026}"))).collect();
    let began = Instant::now();
    for number in 0..SUBMITTED {
        let now = start() + Duration::from_micros(number * 200);
        // In no order that a cache would like.
        let account = &accounts[(number * 7_919 % ACCOUNTS) as usize];
        quotas.take(account, &region, QUOTA, (1, 0), now).await.ok().unwrap().kept();
    }
    let took = began.elapsed();
    spool.close();
    took.as_nanos() as f64 / SUBMITTED as f64
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (window_ns, submission_ns) = (window_ns(), runtime.block_on(submission_ns()));
    println!("{{\"window_ns\": {window_ns:.1}, \"submission_ns\": {submission_ns:.1}, \"mark_ns\": 200}}");
}
