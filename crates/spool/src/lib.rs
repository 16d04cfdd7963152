//! Is it safe yet? A queue of messages and a log of events that survive a power cut.
//!
//! Law of use: a key is put once while it lives; after `put` answered Ok it may be updated and must in the end be
//! removed. A `put` whose future is dropped before it answered may or may not exist: await it to its end.

// From the ground up: a module uses only those above its line. (Blank lines keep rustfmt from sorting them.)

pub mod fault;

pub mod options;

pub mod disk;

pub mod sim;

mod record;

mod segment;

mod index;

mod book;

mod events;

mod recover;

pub mod check;

mod read;

mod log;

mod spool;

#[cfg(test)]
mod model;

pub use disk::{Disk, DiskFile, RealDisk};
pub use events::{Cursor, EventLog};
pub use fault::{Dropped, Health, OpenFault, PutFault, ReadFault};
pub use options::Options;
pub use read::{Live, LiveMessage, Stored};
pub use spool::{Figures, Recovered, Spool, free, open, open_on};

/// What a message is found by: 128 bits chosen by the caller, never used twice (a UUIDv7 does well).
pub type Key = u128;
