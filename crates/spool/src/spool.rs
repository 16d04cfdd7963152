//! How do the other rooms keep a message, read it and let it go?
#![allow(
    clippy::unimplemented,
    clippy::needless_pass_by_value,
    unused_variables,
    reason = "the face first"
)]

use std::ops::ControlFlow;
use std::path::Path;

use bytes::Bytes;
use tokio::sync::watch;

use crate::{Dropped, Health, Key, OpenFault, Options, PutFault, ReadFault};

pub fn open(dir: &Path, options: Options) -> Result<(Spool, Recovered), OpenFault> {
    unimplemented!()
}

#[derive(Clone)]
pub struct Spool;

impl Spool {
    /// Ok = durable. The message is handed to the writer by this call, not by the first poll.
    pub fn put(
        &self,
        key: Key,
        head: Vec<u8>,
        body: Bytes,
        event: Vec<u8>,
    ) -> impl Future<Output = Result<(), PutFault>> + Send + 'static + use<> {
        async { unimplemented!() }
    }
    pub fn update(&self, key: Key, state: Vec<u8>, event: Vec<u8>) {}
    pub fn remove(&self, key: Key, event: Vec<u8>) {}
    pub fn note(&self, event: Vec<u8>) {}
    /// Blocks for the disk.
    pub fn read(&self, key: Key) -> Result<Stored, ReadFault> {
        unimplemented!()
    }
    /// Never waits for the disk; None = ask `read` from a thread that may block.
    pub fn read_if_cached(&self, key: Key) -> Option<Result<Stored, ReadFault>> {
        None
    }
    pub fn health(&self) -> Health {
        unimplemented!()
    }
    pub fn queued(&self) -> u64 {
        0
    }
    pub fn figures(&self) -> Figures {
        unimplemented!()
    }
    pub fn events(&self) -> EventLog {
        unimplemented!()
    }
    pub fn close(self) {}
}

pub struct Stored {
    pub head: Vec<u8>,
    /// The latest `update`; empty when there was none.
    pub state: Vec<u8>,
    pub body: Bytes,
}

pub struct Recovered {
    pub live: Live,
    pub dropped: Vec<Dropped>,
    /// The last event that was in the event log when the spool was opened.
    pub events_until: Cursor,
}

/// The messages that were live when the spool was opened, in the order they were put; heads are read as it goes.
pub struct Live;

pub struct LiveMessage {
    pub key: Key,
    pub head: Vec<u8>,
    pub state: Vec<u8>,
}

impl Iterator for Live {
    type Item = Result<LiveMessage, ReadFault>;
    fn next(&mut self) -> Option<Self::Item> {
        None
    }
}

/// A place in the event log that stays true over restarts: "everything up to here".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Cursor(pub u64);

#[derive(Clone)]
pub struct EventLog;

impl EventLog {
    /// Up to `max` events after the cursor, oldest first; empty when there is no more yet. Blocks for the disk, never for more events.
    pub fn next(&mut self, after: Cursor, max: usize) -> std::io::Result<Vec<(Cursor, Vec<u8>)>> {
        Ok(Vec::new())
    }
    /// Changes when there is more; holds the cursor of the newest event.
    pub fn more(&self) -> watch::Receiver<Cursor> {
        unimplemented!()
    }
    /// Newest to oldest.
    pub fn scan_back(
        &self,
        visitor: &mut dyn FnMut(Cursor, &[u8]) -> ControlFlow<()>,
    ) -> std::io::Result<()> {
        Ok(())
    }
}

#[derive(Clone, Debug)]
pub struct Figures {
    pub queued: u64,
    pub health: Health,
}
