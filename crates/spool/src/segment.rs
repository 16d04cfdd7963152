//! What is one file of a log, and which summary of it lets a start-up pass over the bodies?

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, DiskFile};
use crate::record::{HEADER_BYTES, Header, Kind, u32_at, u64_at};

pub const FORMAT: u32 = 1;
/// The first record of a segment starts here.
pub const START: u64 = 64;
/// Larger files are not read as segments: places in them are kept in 32 bits.
pub const SEGMENT_BYTES_MAX: u64 = u32::MAX as u64;

pub fn log_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:08}.log"))
}

pub fn sidecar_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:08}.idx"))
}

/// The number in the name of a segment or sidecar.
pub fn number_of(name: &str, ending: &str) -> Option<u32> {
    let digits = name.strip_suffix(ending)?;
    (digits.len() >= 8 && digits.bytes().all(|octet| octet.is_ascii_digit())).then(|| digits.parse().ok())?
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogKind {
    Queue,
    Events,
}

impl LogKind {
    fn magic(self) -> &'static [u8; 8] {
        match self {
            LogKind::Queue => b"WEIRQLOG",
            LogKind::Events => b"WEIRELOG",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    pub number: u32,
    /// Records of older segments with this sequence or a later one are void: their sync failed, and what was
    /// answered for was written again from here on.
    pub first_sequence: u64,
    pub salt: u32,
}

/// What the first octets of a file say.
pub enum Opening {
    Good(SegmentHeader),
    Newer(u32),
    /// Never written, or written and never synced: nothing in the file was answered for.
    Blank,
    Damaged,
}

impl SegmentHeader {
    pub fn write(&self, kind: LogKind) -> Vec<u8> {
        let mut out = Vec::with_capacity(START as usize);
        out.extend_from_slice(kind.magic());
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.first_sequence.to_le_bytes());
        out.extend_from_slice(&self.salt.to_le_bytes());
        out.resize(START as usize - 4, 0);
        out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
        out
    }

    pub fn read(file: &dyn DiskFile, kind: LogKind) -> io::Result<Opening> {
        let mut octets = vec![0; START.min(file.len()?) as usize];
        file.read_at(&mut octets, 0)?;
        if octets.len() < START as usize || octets.iter().all(|&octet| octet == 0) {
            return Ok(Opening::Blank);
        }
        let crc_good = crc32fast::hash(&octets[..60]) == u32_at(&octets, 60);
        if !crc_good || octets[..8] != *kind.magic() {
            return Ok(Opening::Damaged);
        }
        Ok(match u32_at(&octets, 8) {
            FORMAT => Opening::Good(SegmentHeader {
                number: u32_at(&octets, 12),
                first_sequence: u64_at(&octets, 16),
                salt: u32_at(&octets, 24),
            }),
            found => Opening::Newer(found),
        })
    }
}

/// The one segment of a log that is being written.
pub struct Tail {
    pub file: Arc<dyn DiskFile>,
    pub header: SegmentHeader,
    /// End of the last record that was written whole.
    pub len: u64,
    pub allocated: u64,
}

impl Tail {
    /// Makes the file and its name durable, so that only its octets need syncing from here on.
    pub fn create(disk: &dyn Disk, dir: &Path, kind: LogKind, number: u32, first_sequence: u64) -> io::Result<Tail> {
        let path = log_path(dir, number);
        let file = disk.create(&path)?;
        Tail::begin(disk, dir, kind, file, number, first_sequence).inspect_err(|_| {
            // Left behind it would be found blank at the next start and removed then.
            let _ = disk.remove(&path);
        })
    }

    /// Turns a file with blocks set aside into a segment: needs no new room on the disk.
    pub fn create_from(
        disk: &dyn Disk,
        dir: &Path,
        kind: LogKind,
        spare: &Path,
        number: u32,
        first_sequence: u64,
    ) -> io::Result<Tail> {
        let path = log_path(dir, number);
        disk.rename(spare, &path)?;
        let file = disk.open(&path)?;
        Tail::begin(disk, dir, kind, file, number, first_sequence)
    }

    fn begin(
        disk: &dyn Disk,
        dir: &Path,
        kind: LogKind,
        file: Arc<dyn DiskFile>,
        number: u32,
        first_sequence: u64,
    ) -> io::Result<Tail> {
        // The hash of nothing under fresh keys: as much chance as a salt needs.
        let salt = RandomState::new().hash_one(number) as u32;
        let header = SegmentHeader { number, first_sequence, salt };
        file.write_at(&header.write(kind), 0)?;
        file.sync_data()?;
        disk.sync_dir(dir)?;
        let allocated = file.len()?;
        Ok(Tail { file, header, len: START, allocated })
    }

    /// Sets blocks aside up to `len`. A disk that cannot is no fault: the write itself will tell.
    pub fn allocate(&mut self, len: u64) {
        if len > self.allocated && self.file.allocate(len).is_ok() {
            self.allocated = len;
        }
    }

    pub fn append(&mut self, octets: &[u8]) -> io::Result<()> {
        self.file.write_at(octets, self.len)?;
        self.len += octets.len() as u64;
        self.allocated = self.allocated.max(self.len);
        Ok(())
    }

    /// Takes back what lies behind the last whole record.
    pub fn cut(&mut self) -> io::Result<()> {
        self.file.set_len(self.len)?;
        self.allocated = self.len;
        Ok(())
    }
}

const SIDECAR_MAGIC: &[u8; 8] = b"WEIRQIDX";
const SIDECAR_START: usize = 64;
const ENTRY_BYTES: usize = HEADER_BYTES + 4;

/// All records of a closed segment without their bodies and events.
pub struct Sidecar {
    octets: Vec<u8>,
}

pub struct SidecarEntry<'a> {
    pub offset: u32,
    pub header: Header,
    pub head: &'a [u8],
    /// Of a message carried forward; states of updates stay in the log.
    pub state: &'a [u8],
}

impl Sidecar {
    pub fn new() -> Sidecar {
        Sidecar { octets: vec![0; SIDECAR_START] }
    }

    pub fn add(&mut self, offset: u32, header: &Header, head: &[u8], state: &[u8]) {
        self.octets.extend_from_slice(&offset.to_le_bytes());
        // The checksum of each entry is not needed: one covers the file.
        header.write(&mut self.octets, 0, u64::from(offset));
        if matches!(header.kind, Kind::Put | Kind::Carried) {
            self.octets.extend_from_slice(head);
            self.octets.extend_from_slice(state);
        }
    }

    pub fn write(&mut self, disk: &dyn Disk, dir: &Path, segment: &SegmentHeader, log_end: u64) -> io::Result<()> {
        let path = sidecar_path(dir, segment.number);
        let mut front = Vec::with_capacity(SIDECAR_START);
        front.extend_from_slice(SIDECAR_MAGIC);
        front.extend_from_slice(&FORMAT.to_le_bytes());
        front.extend_from_slice(&segment.number.to_le_bytes());
        front.extend_from_slice(&segment.first_sequence.to_le_bytes());
        front.extend_from_slice(&segment.salt.to_le_bytes());
        front.extend_from_slice(&crc32fast::hash(&self.octets[SIDECAR_START..]).to_le_bytes());
        front.extend_from_slice(&log_end.to_le_bytes());
        front.extend_from_slice(&(self.octets.len() as u64).to_le_bytes());
        front.resize(SIDECAR_START - 4, 0);
        front.extend_from_slice(&crc32fast::hash(&front).to_le_bytes());
        self.octets[..SIDECAR_START].copy_from_slice(&front);
        match disk.remove(&path) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
            _ => {}
        }
        disk.create(&path)?.write_at(&self.octets, 0)
    }

    /// None = missing, damaged or of another file: the segment itself has to be read.
    pub fn read(disk: &dyn Disk, dir: &Path, number: u32) -> Option<(SegmentHeader, u64, Sidecar)> {
        let file = disk.open(&sidecar_path(dir, number)).ok()?;
        let len = file.len().ok().filter(|&len| len >= SIDECAR_START as u64 && len <= SEGMENT_BYTES_MAX)?;
        let mut octets = vec![0; len as usize];
        file.read_at(&mut octets, 0).ok()?;
        let good = octets[..8] == *SIDECAR_MAGIC
            && crc32fast::hash(&octets[..60]) == u32_at(&octets, 60)
            && u32_at(&octets, 8) == FORMAT
            && u32_at(&octets, 12) == number
            && u64_at(&octets, 40) == len
            && crc32fast::hash(&octets[SIDECAR_START..]) == u32_at(&octets, 28);
        let segment = SegmentHeader { number, first_sequence: u64_at(&octets, 16), salt: u32_at(&octets, 24) };
        let log_end = u64_at(&octets, 32);
        good.then_some((segment, log_end, Sidecar { octets }))
    }

    pub fn entries(&self) -> SidecarEntries<'_> {
        SidecarEntries { octets: &self.octets, at: SIDECAR_START }
    }

    /// The entry at a place that `SidecarEntries::at` named.
    pub fn entry_at(&self, at: u32) -> Option<SidecarEntry<'_>> {
        SidecarEntries { octets: &self.octets, at: at as usize }.next()
    }
}

pub struct SidecarEntries<'a> {
    octets: &'a [u8],
    at: usize,
}

impl SidecarEntries<'_> {
    pub fn at(&self) -> u32 {
        self.at as u32
    }
}

impl<'a> Iterator for SidecarEntries<'a> {
    type Item = SidecarEntry<'a>;

    fn next(&mut self) -> Option<SidecarEntry<'a>> {
        let rest = self.octets.get(self.at..).filter(|rest| rest.len() >= ENTRY_BYTES)?;
        let offset = u32_at(rest, 0);
        let header = Header::parse(&rest[4..ENTRY_BYTES], 0, u64::from(offset))?;
        let (head_len, state_len) = match header.kind {
            Kind::Put | Kind::Carried => (header.head_len as usize, header.state_len as usize),
            _ => (0, 0),
        };
        let head = rest.get(ENTRY_BYTES..ENTRY_BYTES + head_len)?;
        let state = rest.get(ENTRY_BYTES + head_len..ENTRY_BYTES + head_len + state_len)?;
        self.at += ENTRY_BYTES + head_len + state_len;
        Some(SidecarEntry { offset, header, head, state })
    }
}
