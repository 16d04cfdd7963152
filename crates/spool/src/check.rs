//! Is this spool whole? Reads every octet, changes none, and may run beside the process that owns it.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use crate::disk::{Disk, RealDisk};
use crate::events::EventLog;
use crate::fault::{Dropped, OpenFault};
use crate::recover::{Depth, load};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub segments: u64,
    pub segment_bytes: u64,
    /// Messages that will be sent.
    pub live: u64,
    /// Octets of them, with their newest states.
    pub live_bytes: u64,
    /// Messages whose end is recorded and whose octets are still on the disk.
    pub settled: u64,
    pub events: u64,
    /// Octets that are not whole records. While the owner runs, its last record may be among them.
    pub damaged: Vec<Dropped>,
}

pub fn check(dir: &Path) -> Result<Report, OpenFault> {
    check_on(Arc::new(RealDisk), dir)
}

pub fn check_on(disk: Arc<dyn Disk>, dir: &Path) -> Result<Report, OpenFault> {
    let queue = load(&*disk, &dir.join("queue"), Depth::Everything)?;
    let mut damaged = queue.dropped.clone();
    let fault = |cause| OpenFault::Disk { doing: "read the event log in", path: dir.to_owned(), cause };
    let (log, more_damaged) = EventLog::look(disk, &dir.join("events"))?;
    damaged.extend(more_damaged);
    let mut events = 0;
    let count = &mut |_, _: &[u8]| {
        events += 1;
        ControlFlow::Continue(())
    };
    log.scan_back(count).map_err(fault)?;
    let live = queue.book.index.len() as u64;
    let ever_put: BTreeSet<_> = queue.ever_put.iter().collect();
    Ok(Report {
        segments: queue.book.segments.len() as u64,
        segment_bytes: queue.book.disk_bytes(),
        live,
        live_bytes: queue.book.live_bytes(),
        settled: ever_put.len() as u64 - live,
        events,
        damaged,
    })
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { segments, segment_bytes, live, live_bytes, settled, events, damaged } = self;
        writeln!(out, "segments   {segments} ({segment_bytes} octets)")?;
        writeln!(out, "live       {live} messages ({live_bytes} octets)")?;
        writeln!(out, "settled    {settled} messages not yet cleared away")?;
        writeln!(out, "events     {events}")?;
        if damaged.is_empty() {
            return writeln!(out, "damaged    nothing");
        }
        writeln!(out, "damaged    {} places", damaged.len())?;
        damaged.iter().try_for_each(|dropped| writeln!(out, "  {dropped}"))
    }
}
