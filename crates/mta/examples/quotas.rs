//! What does a quota cost: time to take a recipient out of it, with a day of 86,400 busy seconds behind it?
//!
//! Figures as JSON.

#![allow(clippy::disallowed_methods)] // it measures, so it needs a clock

use engine::quota::{Quota, Window};
use engine::time::Timestamp;
use std::hint::black_box;
use std::time::{Duration, Instant};

const DAY_S: u64 = 86_400;
const TAKEN: u64 = 5_000_000;
/// Recipients in each second.
const A_SECOND: u64 = 50;

fn main() {
    let quota = Quota { per_day: 1_000_000_000, per_second: 1_000_000 };
    let start = Timestamp::from_unix_seconds(1_800_000_000);
    let mut window = Window::default();
    for second in 0..DAY_S {
        window.note(1, start + Duration::from_secs(second));
    }
    let mut taken = 0;
    let began = Instant::now();
    for number in 0..TAKEN {
        let now = start + Duration::from_secs(DAY_S) + Duration::from_micros(number * 1_000_000 / A_SECOND);
        taken += u64::from(black_box(window.take(1, quota, now)).is_ok());
    }
    let took_ns = began.elapsed().as_nanos() as f64 / TAKEN as f64;
    println!("{{\"taken\": {taken}, \"ns_a_recipient\": {took_ns:.1}, \"mark_ns\": 200}}");
}
