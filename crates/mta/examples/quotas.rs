//! What does a quota cost: time to take a recipient out of it, with a day of 86,400 busy seconds behind it; and all that a submission
//! does about it, of one account or of 10,000 in turn? And what does a message cost more since there are quotas, where its account has none?
//!
//! Figures as JSON.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // it measures, so it needs a clock; and it may stop at the first surprise

use engine::id::{AccountId, RegionId};
use engine::quota::{Quota, Window};
use engine::simulator::{simulated, simulated_at};
use engine::snapshot::{Account, Snapshot};
use engine::split::reader_of;
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

/// Of a submission to one recipient, by one of so many accounts: taken, kept, and known to be over.
async fn submission_ns(accounts: u64) -> f64 {
    let (spool, _) = spool::open_on(Arc::new(SimDisk::new()), Path::new("/data"), Options::default()).unwrap();
    let newest = *spool.events().more().borrow();
    let quotas = Quotas::default();
    let none = Path::new("/nonexistent/handed-in");
    quotas.read(none, spool.events(), newest, &Snapshot::empty(), start()).unwrap();
    let region = RegionId::new("local");
    let all: Vec<AccountId> = (0..accounts).map(|number| AccountId::new(&format!("acc_{number:026}"))).collect();
    let mut began = Instant::now();
    for number in 0..2 * SUBMITTED {
        if number == SUBMITTED {
            // Every account has been there before.
            began = Instant::now();
        }
        let now = start() + Duration::from_micros(number * 200);
        // In no order that a cache would like.
        let account = &all[(number * 7_919 % accounts) as usize];
        quotas.take(account, &region, QUOTA, (1, 0), now).await.ok().unwrap().kept();
    }
    let took = began.elapsed();
    spool.close();
    took.as_nanos() as f64 / SUBMITTED as f64
}

/// Of a message to one recipient, whose account has no quota: whether there is one, whether the recipient is the simulator's (asked by the
/// door, by the list of who is written to no more, and by the engine), and its draw for a test drive.
fn without_ns() -> f64 {
    let (account, region) = (Account::default(), RegionId::new("local"));
    let addresses: Vec<String> =
        (0..1_000).map(|number| format!("reader-{number}@mail-{number}.example.com")).collect();
    let began = Instant::now();
    for number in 0..TAKEN {
        let address = &addresses[(number % 1_000) as usize];
        let (local, domain) = address.split_once('@').unwrap();
        let is_any = (account.quota_in(&region), simulated_at(local, domain), simulated_at(local, domain));
        black_box((is_any, simulated(address), reader_of(address), reader_of(address)));
    }
    began.elapsed().as_nanos() as f64 / TAKEN as f64
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let submission = |accounts| runtime.block_on(submission_ns(accounts));
    let (window_ns, without_ns) = (window_ns(), without_ns());
    let (submission_ns, of_many_ns) = (submission(1), submission(ACCOUNTS));
    println!(
        "{{\"window_ns\": {window_ns:.1}, \"submission_ns\": {submission_ns:.1}, \"of_many_ns\": {of_many_ns:.1}, \"without_ns\": {without_ns:.1}, \"mark_ns\": 200}}"
    );
}
