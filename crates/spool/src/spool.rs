//! How do the other rooms keep a message, read it and let it go?

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::disk::{Disk, RealDisk};
use crate::events::EventLog;
use crate::fault::{Dropped, Health, OpenFault, PutFault, ReadFault};
use crate::log::{LOCK, Log, Order, PutOrder, Small, What};
use crate::read::{Counts, Live, Patience, Shelf, Stored};
use crate::record::Parts;
use crate::{Cursor, Key, Options};

pub fn open(dir: &Path, options: Options) -> Result<(Spool, Recovered), OpenFault> {
    open_on(Arc::new(RealDisk), dir, options)
}

/// Whether nobody else works in this directory; asked by who must change something beside the spool before it is opened.
pub fn free(dir: &Path) -> Result<(), OpenFault> {
    let path = dir.join(LOCK);
    let lock = RealDisk.lock(&path).map_err(|cause| OpenFault::Disk { doing: "lock the spool", path, cause })?;
    lock.map(drop).ok_or_else(|| OpenFault::Locked(dir.to_owned()))
}

pub fn open_on(disk: Arc<dyn Disk>, dir: &Path, options: Options) -> Result<(Spool, Recovered), OpenFault> {
    let start = Instant::now();
    let waiting_bytes_max = options.waiting_bytes_max;
    let opened = Log::open(disk, dir, options, 0)?;
    let recovered = Recovered { live: opened.live, dropped: opened.dropped, events_until: opened.events_until };
    let (log, inbox) = (opened.log, Arc::new(Inbox::new(waiting_bytes_max)));
    let (shelf, events) = (log.shelf(), log.events().reader());
    let writer = std::thread::Builder::new().name("spool".into()).spawn({
        let inbox = inbox.clone();
        move || write(log, &inbox, start)
    });
    let writer =
        writer.map_err(|cause| OpenFault::Disk { doing: "start the writer of", path: dir.to_owned(), cause })?;
    let handle = Handle { inbox, shelf, events, writer: Mutex::new(Some(writer)) };
    Ok((Spool(Arc::new(handle)), recovered))
}

pub struct Recovered {
    pub live: Live,
    pub dropped: Vec<Dropped>,
    /// The newest event that was durable when the spool was opened.
    pub events_until: Cursor,
}

/// The spool of this process. When the last clone goes, everything is made durable and the writer stops.
#[derive(Clone)]
pub struct Spool(Arc<Handle>);

struct Handle {
    inbox: Arc<Inbox>,
    shelf: Arc<Shelf>,
    events: EventLog,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Spool {
    /// Ok = durable. The message is handed to the writer by this call, not by the first poll.
    pub fn put(
        &self,
        key: Key,
        head: Vec<u8>,
        body: Bytes,
        event: Vec<u8>,
    ) -> impl Future<Output = Result<(), PutFault>> + Send + 'static + use<> {
        let parts = Parts { head: &head, state: &[], body: &body, event: &event };
        let (bytes, payload_crc) = (parts.record_len(), parts.crc());
        let (answer, answered) = oneshot::channel();
        let refusal = match self.0.shelf.health() {
            Health::Accepting => {
                let order = PutOrder { key, head, body, event, payload_crc, answer };
                self.0.inbox.submit(Order::Put(order), bytes).err()
            }
            Health::Full { free, needed } => Some(PutFault::Full { free, needed }),
            Health::Failing { what } => Some(PutFault::Failing { what }),
        };
        async move {
            match refusal {
                Some(refusal) => Err(refusal),
                None => answered.await.unwrap_or(Err(PutFault::Closed)),
            }
        }
    }

    /// Replaces the state of a message; written at once, durable with the next sync. After `close` it does nothing.
    pub fn update(&self, key: Key, state: Vec<u8>, event: Vec<u8>) {
        self.small(What::Update(state), key, event);
    }

    /// Ends a message; as durable as `update`.
    pub fn remove(&self, key: Key, event: Vec<u8>) {
        self.small(What::Remove(None), key, event);
    }

    /// An event that belongs to no message.
    pub fn note(&self, event: Vec<u8>) {
        self.small(What::Note, 0, event);
    }

    /// As `note`; Ok = durable. Unlike `note` it may be refused, and is then as if it had never been.
    pub fn tell(&self, event: Vec<u8>) -> impl Future<Output = Result<(), PutFault>> + Send + 'static + use<> {
        let (answer, answered) = oneshot::channel();
        let refusal = match self.0.shelf.health() {
            Health::Accepting => {
                let bytes = event.len() as u64;
                let small = Small { what: What::Note, key: 0, event, answer: Some(answer) };
                self.0.inbox.submit(Order::Small(small), bytes).err()
            }
            Health::Full { free, needed } => Some(PutFault::Full { free, needed }),
            Health::Failing { what } => Some(PutFault::Failing { what }),
        };
        async move {
            match refusal {
                Some(refusal) => Err(refusal),
                None => answered.await.unwrap_or(Err(PutFault::Closed)),
            }
        }
    }

    fn small(&self, what: What, key: Key, event: Vec<u8>) {
        // Small records are never refused; only a closed spool takes none.
        let _ = self.0.inbox.submit(Order::Small(Small { what, key, event, answer: None }), 0);
    }

    /// Blocks for the disk.
    pub fn read(&self, key: Key) -> Result<Stored, ReadFault> {
        self.0.shelf.read(key, Patience::MayBlock)
    }

    /// Never waits for the disk; None = ask `read` from a thread that may block.
    pub fn read_if_cached(&self, key: Key) -> Option<Result<Stored, ReadFault>> {
        match self.0.shelf.read(key, Patience::OnlyCached) {
            // Also where the file system cannot say what it has in memory.
            Err(ReadFault::Disk { .. }) => None,
            outcome => Some(outcome),
        }
    }

    pub fn health(&self) -> Health {
        self.0.shelf.health()
    }

    /// Whether a message has this key; looks at no disk.
    pub fn holds(&self, key: Key) -> bool {
        self.0.shelf.book().index.get(key).is_some()
    }

    pub fn queued(&self) -> u64 {
        self.0.shelf.book().index.len() as u64
    }

    pub fn figures(&self) -> Figures {
        let (waiting_records, waiting_bytes) = self.0.inbox.waiting();
        let health = self.health();
        let counts = &self.0.shelf.counts;
        let book = self.0.shelf.book();
        Figures {
            queued: book.index.len() as u64,
            queue_bytes: book.disk_bytes(),
            live_bytes: book.live_bytes(),
            segments: book.segments.len() as u64,
            waiting_records,
            waiting_bytes,
            held_records: Counts::read(&counts.records_held),
            puts: Counts::read(&counts.puts),
            syncs: Counts::read(&counts.syncs),
            written_bytes: Counts::read(&counts.bytes_written),
            carried_bytes: Counts::read(&counts.bytes_carried),
            events_lost: Counts::read(&counts.events_lost),
            states_lost: Counts::read(&counts.states_lost),
            unreadable_records: Counts::read(&counts.records_unreadable),
            health,
        }
    }

    pub fn events(&self) -> EventLog {
        self.0.events.clone()
    }

    /// Makes everything durable and stops the writer; other clones are closed with it. Blocks for the disk.
    pub fn close(self) {
        self.0.stop();
    }
}

/// How the spool is doing. The doc comments are the help texts of the metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Messages in the queue.
    pub queued: u64,
    /// Octets of queue segments on the disk.
    pub queue_bytes: u64,
    /// Octets of those that still matter.
    pub live_bytes: u64,
    /// Queue segments on the disk.
    pub segments: u64,
    /// Records handed over and not yet written.
    pub waiting_records: u64,
    /// Octets of messages handed over and not yet written.
    pub waiting_bytes: u64,
    /// Small records held in memory because the disk takes nothing.
    pub held_records: u64,
    /// Messages made durable since the start.
    pub puts: u64,
    /// Syncs of the queue log since the start.
    pub syncs: u64,
    /// Octets written to the queue log since the start.
    pub written_bytes: u64,
    /// Octets of live records carried forward out of segments that were mostly dead, since the start.
    pub carried_bytes: u64,
    /// Events given up because the disk took nothing for too long.
    pub events_lost: u64,
    /// Message states given up for the same reason; the message is tried earlier than it would have been.
    pub states_lost: u64,
    /// Records that could not be read back; their segments are kept.
    pub unreadable_records: u64,
    pub health: Health,
}

impl Handle {
    fn stop(&self) {
        self.inbox.close();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            // Its panic has been printed; there is nothing left to do about it.
            let _ = writer.join();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Orders on their way to the writer.
struct Inbox {
    queue: Mutex<Waiting>,
    bell: Condvar,
    bytes_max: u64,
}

#[derive(Default)]
struct Waiting {
    orders: Vec<Order>,
    bytes: u64,
    closed: bool,
}

impl Inbox {
    fn new(bytes_max: u64) -> Inbox {
        Inbox { queue: Mutex::default(), bell: Condvar::new(), bytes_max }
    }

    fn submit(&self, order: Order, bytes: u64) -> Result<(), PutFault> {
        let mut waiting = self.queue();
        if waiting.closed {
            return Err(PutFault::Closed);
        }
        if bytes > 0 && waiting.bytes > 0 && waiting.bytes + bytes > self.bytes_max {
            return Err(PutFault::Busy);
        }
        waiting.bytes += bytes;
        waiting.orders.push(order);
        // The writer sleeps only on an empty inbox, so the first order rings for all.
        if waiting.orders.len() == 1 {
            drop(waiting);
            self.bell.notify_one();
        }
        Ok(())
    }

    fn close(&self) {
        self.queue().closed = true;
        self.bell.notify_one();
    }

    fn waiting(&self) -> (u64, u64) {
        let waiting = self.queue();
        (waiting.orders.len() as u64, waiting.bytes)
    }

    /// All that waits, once something does or the deadline has come. False = closed, and nothing is left.
    fn take(&self, orders: &mut Vec<Order>, until: Option<Instant>) -> bool {
        let mut waiting = self.queue();
        while waiting.orders.is_empty() && !waiting.closed {
            waiting = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => self.bell.wait(waiting).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => break,
                Some(left) => self.bell.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
        std::mem::swap(orders, &mut waiting.orders);
        waiting.bytes = 0;
        !(waiting.closed && orders.is_empty())
    }

    fn queue(&self) -> MutexGuard<'_, Waiting> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writer's life. The only place here that reads a clock, and only for how long something has waited.
fn write(mut log: Log, inbox: &Inbox, start: Instant) {
    let _closing = CloseAtEnd(inbox);
    let now_ms = || start.elapsed().as_millis() as u64;
    let mut orders = Vec::new();
    while inbox.take(&mut orders, log.deadline().map(|at_ms| start + Duration::from_millis(at_ms))) {
        log.commit(&mut orders, now_ms());
        log.tend(now_ms());
    }
    log.close();
}

/// However the writer ends, nobody waits for it afterwards.
struct CloseAtEnd<'a>(&'a Inbox);

impl Drop for CloseAtEnd<'_> {
    fn drop(&mut self) {
        let mut waiting = self.0.queue();
        waiting.closed = true;
        waiting.orders.clear();
    }
}
