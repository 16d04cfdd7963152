//! How long does this disk take to make a message's worth of octets durable?

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

/// Appends `size` octets and calls fdatasync, `rounds` times; what each took, in microseconds.
pub fn fdatasync_us(directory: &Path, size: usize, rounds: usize) -> io::Result<Vec<u32>> {
    fs::create_dir_all(directory)?;
    let path = directory.join(format!("fdatasync-{}", std::process::id()));
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    let octets = vec![b'x'; size];
    let took = (0..rounds).map(|_| {
        let began = Instant::now();
        file.write_all(&octets)?;
        file.sync_data()?;
        Ok(u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX))
    });
    let took = took.collect();
    fs::remove_file(&path)?;
    took
}
