//! What can go wrong with bytes on a disk, in words an operator can act on?

use std::path::PathBuf;

use crate::Key;

/// Why a spool could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenFault {
    #[error("the spool {} is in use by another process; stop that one first, or give this one its own directory", .0.display())]
    Locked(PathBuf),
    #[error("the spool {} was written by a newer version (format {found}, this one knows {known}); it was left as it is", .path.display())]
    Newer { path: PathBuf, found: u32, known: u32 },
    #[error("cannot {doing} {}: {cause}", .path.display())]
    Disk { doing: &'static str, path: PathBuf, cause: std::io::Error },
}

/// Why a message was not taken. In every case it was not acknowledged and will not be sent by this run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PutFault {
    #[error("the disk is full: {free} octets are free and {needed} must stay free")]
    Full { free: u64, needed: u64 },
    #[error("the disk does not keep what is written: {what}")]
    Failing { what: String },
    #[error("more mail is waiting for the disk than may be held in memory")]
    Busy,
    #[error("the message has {octets} octets and the spool takes at most {octets_max}")]
    TooLarge { octets: u64, octets_max: u64 },
    #[error("a message with this key is already in the spool")]
    Taken,
    #[error("the spool is closed")]
    Closed,
}

/// Why a message could not be read back.
#[derive(Debug, thiserror::Error)]
pub enum ReadFault {
    #[error("no message has the key {0:032x}")]
    Unknown(Key),
    #[error("the message {key:032x} is damaged in {file} at octet {offset}")]
    Damaged { key: Key, file: String, offset: u64 },
    #[error("the message {key:032x} cannot be read: {cause}")]
    Disk { key: Key, cause: std::io::Error },
}

/// May mail be taken in now? Asked before any data is read from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    Accepting,
    /// Comes back by itself when space returns.
    Full {
        free: u64,
        needed: u64,
    },
    /// Comes back by itself when a probe is written and synced again.
    Failing {
        what: String,
    },
}

/// Octets that were found on the disk and not used, said once at start-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    pub file: String,
    pub offset: u64,
    pub octets: u64,
    pub why: &'static str,
}

impl std::fmt::Display for Dropped {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}: {} octets at {} not used: {}", self.file, self.octets, self.offset, self.why)
    }
}
