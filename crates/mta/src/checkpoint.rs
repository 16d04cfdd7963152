//! How need a start not read the whole event log again?
//!
//! What is made of the log is written down now and then: a *checkpoint* is a file that holds it, and the cursor of the log up to which it
//! is true. What came behind the cursor is read on. A crash leaves the checkpoint before, and a damaged one is not believed.

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use engine::time::Timestamp;
use spool::{Cursor, EventLog};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;
use tokio::sync::watch;

/// Between two checkpoints; the event log of twice this time is read at a start.
pub const CHECKPOINT_EVERY: Duration = Duration::from_secs(300);
/// Events read at once at a start.
const EVENTS_AT_ONCE: usize = 4_096;

/// The first words of a kind of files.
pub(crate) type Magic = [u8; 16];

/// Which moments of the log are behind everything that was under way then: only up to such a one may a checkpoint claim to be true.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    /// What is under way: begun before the mark, and since.
    under_way: [u64; 2],
    /// In which of them counts what begins now.
    now: usize,
    mark: Option<(Cursor, Timestamp)>,
}

/// Something is under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UnderWay(usize);

impl Marks {
    pub fn begin(&mut self) -> UnderWay {
        self.under_way[self.now] += 1;
        UnderWay(self.now)
    }

    pub fn end(&mut self, UnderWay(when): UnderWay) {
        self.under_way[when] -= 1;
    }

    /// The last mark, once all is over that was under way when it was set; then `newest`, the log's newest event by now, is the next one.
    pub fn pass(&mut self, newest: Cursor, now: Timestamp) -> Option<(Cursor, Timestamp)> {
        let before = 1 - self.now;
        if self.under_way[before] > 0 {
            return None;
        }
        self.now = before;
        self.mark.replace((newest, now))
    }

    pub fn is_idle(&self) -> bool {
        self.under_way == [0, 0]
    }
}

/// Right after a start, until what came before is known.
pub(crate) async fn known(is_read: &watch::Sender<bool>) {
    // Nearly always; waiting for it costs more than looking.
    if !*is_read.borrow() {
        // The sender is held by the caller, so that there is always an answer.
        let _ = is_read.subscribe().wait_for(|ready| *ready).await;
    }
}

/// Reading what came before. However it ends, whoever waits for it goes on.
pub(crate) struct Reading<'a>(pub &'a watch::Sender<bool>);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

/// A file's first octets; what follows is the holder's.
pub(crate) fn begun(magic: &Magic, cursor: Cursor, octets: usize) -> Vec<u8> {
    let mut content = Vec::with_capacity(magic.len() + 8 + octets + SHA256_OUTPUT_LEN);
    content.extend_from_slice(magic);
    content.extend_from_slice(&cursor.0.to_be_bytes());
    content
}

/// The cursor up to which it is true, and what the holder wrote; none: there is none.
pub(crate) fn read(path: &Path, magic: &Magic) -> io::Result<Option<(Cursor, Vec<u8>)>> {
    let Some(content) = read_sealed(path, magic)? else { return Ok(None) };
    let (cursor, rest) = content.split_first_chunk().ok_or_else(damaged)?;
    Ok(Some((Cursor(u64::from_be_bytes(*cursor)), rest.to_vec())))
}

/// Each record of the log behind the cursor.
pub(crate) fn read_on(mut log: EventLog, mut cursor: Cursor, visit: &mut dyn FnMut(Cursor, &[u8])) -> io::Result<()> {
    loop {
        let events = log.next(cursor, EVENTS_AT_ONCE)?;
        let Some((last, _)) = events.last() else { return Ok(()) };
        cursor = *last;
        for (at, octets) in &events {
            visit(*at, octets);
        }
    }
}

pub(crate) fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the file is damaged")
}

/// What stands behind the magic words of a file that ends with the digest of the rest; none: there is no such file.
pub(crate) fn read_sealed(path: &Path, magic: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let octets = match fs::read(path) {
        Ok(octets) => octets,
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(fault) => return Err(fault),
    };
    let (content, sum) = octets.split_last_chunk::<SHA256_OUTPUT_LEN>().ok_or_else(damaged)?;
    let rest = content.strip_prefix(magic).ok_or_else(damaged)?;
    if digest(&SHA256, content).as_ref() != sum {
        return Err(damaged());
    }
    Ok(Some(rest.to_vec()))
}

/// With its digest behind it; under another name first: a crash in between leaves the one before.
pub(crate) fn write_sealed(path: &Path, mut octets: Vec<u8>) -> io::Result<()> {
    let sum = digest(&SHA256, &octets);
    octets.extend_from_slice(sum.as_ref());
    let fresh = path.with_extension("new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(&octets)?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use super::Marks;
    use engine::time::Timestamp;
    use spool::Cursor;

    // What is under way at a mark may stand in the log before it: such a mark is of no use until it is over.
    #[test]
    fn a_mark_counts_once_all_is_over_that_was_under_way() {
        let mut marks = Marks::default();
        let at = |number: i64| Timestamp(number);
        let one = marks.begin();
        assert_eq!(marks.pass(Cursor(5), at(5)), None, "nothing is known of an earlier moment");
        let two = marks.begin();
        assert_eq!(marks.pass(Cursor(6), at(6)), None, "one is under way");
        marks.end(one);
        assert_eq!(marks.pass(Cursor(7), at(7)), Some((Cursor(5), at(5))));
        assert_eq!(marks.pass(Cursor(8), at(8)), None, "two is under way, and was at 7");
        assert!(!marks.is_idle());
        marks.end(two);
        assert!(marks.is_idle());
        assert_eq!(marks.pass(Cursor(9), at(9)), Some((Cursor(7), at(7))));
        assert_eq!(marks.pass(Cursor(9), at(10)), Some((Cursor(9), at(9))));
    }
}
