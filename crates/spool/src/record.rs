//! How is one record laid out, and how are records found again in a file that was damaged?
//!
//! The layout is written down in `docs/spool-format.md`.

use std::io;

use crate::Key;
use crate::disk::DiskFile;

pub const HEADER_BYTES: usize = 64;
/// The largest record that is written or believed.
pub const RECORD_BYTES_MAX: u64 = 256 << 20;
const MAGIC: [u8; 4] = *b"\xa7WR1";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A message: head, body, event.
    Put = 1,
    /// A message carried forward from an older segment: head, state, body. `origin` is the sequence of its Put.
    Carried = 2,
    /// The newest state of a message: state, event.
    Update = 3,
    /// The end of a message: event. `origin` is the segment that holds the message.
    Remove = 4,
    /// A Remove carried forward: no event. `origin` as there.
    Mark = 5,
    /// An event that belongs to no message.
    Note = 6,
    /// In the event log: a copy of the event of the queue record with the same sequence.
    Event = 7,
}

impl Kind {
    fn parse(octet: u8) -> Option<Kind> {
        [Kind::Put, Kind::Carried, Kind::Update, Kind::Remove, Kind::Mark, Kind::Note, Kind::Event]
            .into_iter()
            .find(|kind| *kind as u8 == octet)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub kind: Kind,
    pub head_len: u32,
    pub state_len: u32,
    pub body_len: u32,
    pub event_len: u32,
    pub key: Key,
    /// Grows by one or more from record to record.
    pub sequence: u64,
    pub origin: u64,
    pub payload_crc: u32,
}

/// The four parts of a payload, in the order in which they are written.
#[derive(Clone, Copy, Default)]
pub struct Parts<'a> {
    pub head: &'a [u8],
    pub state: &'a [u8],
    pub body: &'a [u8],
    pub event: &'a [u8],
}

impl Parts<'_> {
    pub fn crc(&self) -> u32 {
        let mut crc = crc32fast::Hasher::new();
        for part in [self.head, self.state, self.body, self.event] {
            crc.update(part);
        }
        crc.finalize()
    }

    pub fn record_len(&self) -> u64 {
        (HEADER_BYTES + self.head.len() + self.state.len() + self.body.len() + self.event.len()) as u64
    }
}

impl Header {
    /// Callers keep records under `RECORD_BYTES_MAX`, so that every length fits.
    pub fn new(kind: Kind, key: Key, sequence: u64, origin: u64, parts: &Parts<'_>, payload_crc: u32) -> Header {
        let [head_len, state_len, body_len, event_len] =
            [parts.head, parts.state, parts.body, parts.event].map(|part| part.len() as u32);
        Header { kind, head_len, state_len, body_len, event_len, key, sequence, origin, payload_crc }
    }

    pub fn record_len(&self) -> u64 {
        let parts = [self.head_len, self.state_len, self.body_len, self.event_len];
        HEADER_BYTES as u64 + parts.into_iter().map(u64::from).sum::<u64>()
    }

    /// The header's checksum is bound to the salt of its file and to its place, so that a record inside the body of a
    /// message, or left over from another file, is never taken for one of ours.
    pub fn write(&self, out: &mut Vec<u8>, salt: u32, offset: u64) {
        let start = out.len();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.payload_crc.to_le_bytes());
        out.extend_from_slice(&u32::from(self.kind as u8).to_le_bytes());
        for len in [self.head_len, self.state_len, self.body_len, self.event_len] {
            out.extend_from_slice(&len.to_le_bytes());
        }
        out.extend_from_slice(&self.key.to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.origin.to_le_bytes());
        let crc = header_crc(&out[start + 8..], salt, offset);
        out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    }

    pub fn parse(octets: &[u8], salt: u32, offset: u64) -> Option<Header> {
        let octets = octets.get(..HEADER_BYTES)?;
        if octets[..4] != MAGIC || u32_at(octets, 4) != header_crc(&octets[8..], salt, offset) {
            return None;
        }
        let header = Header {
            kind: Kind::parse(octets[12])?,
            payload_crc: u32_at(octets, 8),
            head_len: u32_at(octets, 16),
            state_len: u32_at(octets, 20),
            body_len: u32_at(octets, 24),
            event_len: u32_at(octets, 28),
            key: u128::from(u64_at(octets, 32)) | u128::from(u64_at(octets, 40)) << 64,
            sequence: u64_at(octets, 48),
            origin: u64_at(octets, 56),
        };
        (header.record_len() <= RECORD_BYTES_MAX).then_some(header)
    }

    /// Cuts a payload into its parts; None if it is not the payload that was written.
    pub fn parts<'a>(&self, payload: &'a [u8]) -> Option<Parts<'a>> {
        if payload.len() as u64 != self.record_len() - HEADER_BYTES as u64
            || crc32fast::hash(payload) != self.payload_crc
        {
            return None;
        }
        let (head, rest) = payload.split_at(self.head_len as usize);
        let (state, rest) = rest.split_at(self.state_len as usize);
        let (body, event) = rest.split_at(self.body_len as usize);
        Some(Parts { head, state, body, event })
    }
}

fn header_crc(octets: &[u8], salt: u32, offset: u64) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&salt.to_le_bytes());
    crc.update(&offset.to_le_bytes());
    crc.update(octets);
    crc.finalize()
}

pub fn u32_at(octets: &[u8], at: usize) -> u32 {
    octets[at..at + 4].iter().rev().fold(0, |sum, &octet| sum << 8 | u32::from(octet))
}

pub fn u64_at(octets: &[u8], at: usize) -> u64 {
    u64::from(u32_at(octets, at)) | u64::from(u32_at(octets, at + 4)) << 32
}

/// What lies at the scanner's place.
pub enum Found<'a> {
    Record { offset: u64, header: Header, parts: Parts<'a> },
    Damage { offset: u64, octets: u64, why: &'static str },
}

/// Reads the records of a file one after the other, and goes on behind damage.
pub struct Scanner<'f> {
    file: &'f dyn DiskFile,
    salt: u32,
    at: u64,
    end: u64,
    window: Vec<u8>,
    window_at: u64,
    window_bytes: usize,
}

impl<'f> Scanner<'f> {
    pub fn new(file: &'f dyn DiskFile, salt: u32, from: u64, end: u64, window_bytes: usize) -> Scanner<'f> {
        Scanner { file, salt, at: from, end, window: Vec::new(), window_at: 0, window_bytes }
    }

    pub fn next(&mut self) -> io::Result<Option<Found<'_>>> {
        let offset = self.at;
        let left = self.end.saturating_sub(offset);
        if left == 0 {
            return Ok(None);
        }
        let salt = self.salt;
        let here = self.octets(offset, left.min(HEADER_BYTES as u64))?;
        let Some(header) = Header::parse(here, salt, offset) else {
            return self.find_again(offset);
        };
        let len = header.record_len();
        if len > left {
            self.at = self.end;
            return Ok(Some(Found::Damage { offset, octets: left, why: "the record was cut off" }));
        }
        self.at = offset + len;
        let payload = &self.octets(offset, len)?[HEADER_BYTES..];
        Ok(Some(match header.parts(payload) {
            Some(parts) => Found::Record { offset, header, parts },
            None => Found::Damage { offset, octets: len, why: "the contents do not match their checksum" },
        }))
    }

    /// No record starts here: look for the next one. Zeros up to the end are blocks set aside, not damage.
    fn find_again(&mut self, from: u64) -> io::Result<Option<Found<'_>>> {
        let (salt, end) = (self.salt, self.end);
        let (mut at, mut only_zeros) = (from, true);
        while at < end {
            let len = (end - at).min(self.window_bytes.max(2 * HEADER_BYTES) as u64);
            let octets = self.octets(at, len)?;
            only_zeros = only_zeros && octets.iter().all(|&octet| octet == 0);
            let found = (!only_zeros).then(|| next_header(octets, salt, at)).flatten();
            if let Some(found) = found {
                self.at = found;
                return Ok(Some(Found::Damage { offset: from, octets: found - from, why: "no record here" }));
            }
            if at + len == end {
                break;
            }
            // A header may lie across the edge of the window.
            at += len - (HEADER_BYTES as u64 - 1);
        }
        self.at = end;
        Ok((!only_zeros).then_some(Found::Damage {
            offset: from,
            octets: end - from,
            why: "no record here, nor behind",
        }))
    }

    fn octets(&mut self, offset: u64, len: u64) -> io::Result<&[u8]> {
        let inside = |at: u64, have: usize| offset >= at && offset + len <= at + have as u64;
        if !inside(self.window_at, self.window.len()) {
            let wanted = len.max(self.window_bytes as u64).min(self.end - offset);
            self.window.resize(wanted as usize, 0);
            self.window_at = offset;
            if let Err(cause) = self.file.read_at(&mut self.window, offset) {
                self.window.clear();
                return Err(cause);
            }
        }
        let start = (offset - self.window_at) as usize;
        Ok(&self.window[start..start + len as usize])
    }
}

fn next_header(octets: &[u8], salt: u32, at: u64) -> Option<u64> {
    (0..octets.len().saturating_sub(HEADER_BYTES - 1))
        .filter(|&i| octets[i] == MAGIC[0] && octets[i..i + 4] == MAGIC)
        .find(|&i| Header::parse(&octets[i..], salt, at + i as u64).is_some())
        .map(|i| at + i as u64)
}
