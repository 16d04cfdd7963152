//! What does a queue directory hold?

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::Key;
use crate::book::Book;
use crate::disk::Disk;
use crate::fault::{Dropped, OpenFault};
use crate::index::Place;
use crate::record::{Found, Header, Kind, Scanner};
use crate::segment::{FORMAT, LogKind, Opening, SEGMENT_BYTES_MAX, START, SegmentHeader, Sidecar, log_path, number_of};

/// How thoroughly to look.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Trust sidecars whose checksum is good: bodies are verified when they are read.
    Summaries,
    /// Every octet.
    Everything,
}

pub struct Loaded {
    pub book: Book,
    /// Live messages by the sequence of their first Put.
    pub order: Vec<(u64, Key)>,
    /// With those that have ended since, when everything was looked at.
    pub ever_put: Vec<Key>,
    pub dropped: Vec<Dropped>,
    pub last_sequence: u64,
    pub next_number: u32,
    /// Files that hold nothing anybody was told of.
    pub blank: Vec<PathBuf>,
    /// Segments that were read through, with the summary they lack.
    pub unsummed: Vec<(u32, Sidecar)>,
}

impl Loaded {
    /// The oldest record the queue log still has.
    pub fn first_sequence(&self) -> u64 {
        let firsts = self.book.segments.values().map(|segment| segment.header.first_sequence);
        firsts.min().unwrap_or(self.last_sequence + 1)
    }
}

pub fn load(disk: &dyn Disk, dir: &Path, depth: Depth) -> Result<Loaded, OpenFault> {
    let fault = |cause| OpenFault::Disk { doing: "read the queue in", path: dir.to_owned(), cause };
    let mut loaded = Loaded {
        book: Book::default(),
        order: Vec::new(),
        ever_put: Vec::new(),
        dropped: Vec::new(),
        last_sequence: 0,
        next_number: 1,
        blank: Vec::new(),
        unsummed: Vec::new(),
    };
    let headers = loaded.find_segments(disk, dir)?;
    for header in headers.values() {
        loaded.book.open_segment(*header);
    }
    for (&number, header) in &headers {
        let void = headers.range(number + 1..).map(|(&newer, header)| (header.first_sequence, newer)).min();
        loaded.last_sequence = loaded.last_sequence.max(header.first_sequence.saturating_sub(1));
        let summary = match depth {
            Depth::Summaries => loaded.read_summary(disk, dir, header).map_err(fault)?,
            Depth::Everything => None,
        };
        match summary {
            Some(sidecar) => loaded.replay_summary(number, &sidecar),
            None => loaded.replay(disk, dir, header, void).map_err(fault)?,
        }
        if let Some(segment) = loaded.book.segments.get_mut(&number) {
            segment.closed = true;
            loaded.last_sequence = loaded.last_sequence.max(segment.last_sequence);
        }
    }
    if depth == Depth::Everything {
        loaded.ever_put = loaded.order.iter().map(|(_, key)| *key).collect();
    }
    let index = &loaded.book.index;
    loaded.order.retain(|(_, key)| index.get(*key).is_some());
    loaded.order.sort_unstable();
    // A message that was being carried forward is there twice.
    loaded.order.dedup_by_key(|(_, key)| *key);
    loaded.order.shrink_to_fit();
    Ok(loaded)
}

impl Loaded {
    fn find_segments(&mut self, disk: &dyn Disk, dir: &Path) -> Result<BTreeMap<u32, SegmentHeader>, OpenFault> {
        let fault = |cause| OpenFault::Disk { doing: "read the queue in", path: dir.to_owned(), cause };
        let mut headers = BTreeMap::new();
        let mut names = disk.list(dir).map_err(fault)?;
        names.sort_unstable();
        for number in names.iter().filter_map(|name| number_of(name, ".log")) {
            self.next_number = self.next_number.max(number + 1);
            let path = log_path(dir, number);
            let file = disk.open(&path).map_err(fault)?;
            let len = file.len().map_err(fault)?;
            let opening = match SegmentHeader::read(&*file, LogKind::Queue).map_err(fault)? {
                // The sidecar keeps a copy of what the header says.
                Opening::Damaged => {
                    Sidecar::read(disk, dir, number).map_or(Opening::Damaged, |(header, ..)| Opening::Good(header))
                }
                opening => opening,
            };
            match opening {
                Opening::Good(header) if header.number == number && len <= SEGMENT_BYTES_MAX => {
                    headers.insert(number, header);
                }
                Opening::Newer(found) => {
                    return Err(OpenFault::Newer { path, found, known: FORMAT });
                }
                Opening::Blank => self.blank.push(path),
                Opening::Good(_) | Opening::Damaged => self.dropped.push(Dropped {
                    file: path.display().to_string(),
                    offset: 0,
                    octets: len,
                    why: "the file does not begin as a segment does; it was left as it is",
                }),
            }
        }
        Ok(headers)
    }

    fn read_summary(&self, disk: &dyn Disk, dir: &Path, header: &SegmentHeader) -> io::Result<Option<Sidecar>> {
        let Some((summed, log_end, sidecar)) = Sidecar::read(disk, dir, header.number) else {
            return Ok(None);
        };
        let log_len = disk.open(&log_path(dir, header.number))?.len()?;
        Ok((summed == *header && log_end <= log_len).then_some(sidecar))
    }

    fn replay_summary(&mut self, number: u32, sidecar: &Sidecar) {
        for entry in sidecar.entries() {
            self.apply(number, entry.offset, &entry.header);
        }
    }

    fn replay(
        &mut self,
        disk: &dyn Disk,
        dir: &Path,
        segment: &SegmentHeader,
        void: Option<(u64, u32)>,
    ) -> io::Result<()> {
        let number = segment.number;
        let path = log_path(dir, number);
        let file = disk.open(&path)?;
        let mut sidecar = Sidecar::new();
        let mut tail_is_void = false;
        let mut last = segment.first_sequence.saturating_sub(1);
        let mut scanner = Scanner::new(&*file, segment.salt, START, file.len()?, 1 << 20);
        while let Some(found) = scanner.next()? {
            match found {
                Found::Record { header, .. } if header.sequence >= void.map_or(u64::MAX, |(from, _)| from) => {
                    tail_is_void = true;
                }
                // Left from a write that failed and was taken back.
                Found::Record { header, .. } if header.sequence <= last => {}
                Found::Record { offset, header, parts } => {
                    last = header.sequence;
                    sidecar.add(offset as u32, &header, parts.head, parts.state);
                    self.apply(number, offset as u32, &header);
                }
                Found::Damage { offset, octets, why } => {
                    self.dropped.push(Dropped { file: path.display().to_string(), offset, octets, why });
                }
            }
        }
        if let (true, Some((_, newer))) = (tail_is_void, void) {
            self.book.distrust(number, newer);
        } else {
            self.unsummed.push((number, sidecar));
        }
        Ok(())
    }

    fn apply(&mut self, segment: u32, offset: u32, header: &Header) {
        let len = header.record_len();
        let place = Place { segment, offset, len: len as u32 };
        let origin = u32::try_from(header.origin).unwrap_or(0);
        self.book.extend(segment, u64::from(offset) + len, header.sequence);
        match header.kind {
            Kind::Put | Kind::Carried => {
                self.book.put(header.key, place);
                self.order.push((header.origin, header.key));
            }
            Kind::Update => {
                self.book.update(header.key, place);
            }
            Kind::Remove => {
                self.book.remove(header.key);
                self.book.ended(segment, origin);
            }
            Kind::Mark => {
                // Written later than it was meant: it ends this copy of the message and no other.
                if self.book.index.get(header.key).is_some_and(|entry| entry.message.segment == origin) {
                    self.book.remove(header.key);
                }
                self.book.ended(segment, origin);
            }
            Kind::Note | Kind::Event => {}
        }
    }
}
