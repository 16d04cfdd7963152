//! How long does this disk take to make a message's worth of octets durable?

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Appends `size` octets and calls fdatasync, `rounds` times; what each took, in microseconds.
///
/// With a rate, at fixed moments: a disk, and a core, that were idle just before answer later than ones that are kept busy.
pub fn fdatasync_us(directory: &Path, size: usize, rounds: usize, rate: Option<f64>) -> io::Result<Vec<u32>> {
    fs::create_dir_all(directory)?;
    let path = directory.join(format!("fdatasync-{}", std::process::id()));
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    let octets = vec![b'x'; size];
    let start = Instant::now();
    let took = (0..rounds).map(|round| {
        if let Some(rate) = rate {
            let due = start + Duration::from_secs_f64(round as f64 / rate);
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let began = Instant::now();
        file.write_all(&octets)?;
        file.sync_data()?;
        Ok(u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX))
    });
    let took = took.collect();
    fs::remove_file(&path)?;
    took
}
