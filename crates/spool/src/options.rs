//! Which limits hold for a spool?

/// Every limit of the spool, by name.
#[derive(Clone, Debug)]
pub struct Options {
    /// A queue segment is closed when it has grown to this size.
    pub segment_bytes: u64,
    /// Small records (updates, removals, notes) are synced at the latest after this time.
    pub sync_delay_ms: u64,
    /// Messages are refused while less than this is free on the disk; small records still go.
    pub free_min_bytes: u64,
    /// Set aside on the disk for small records when it is full to the last block.
    pub reserve_bytes: u64,
    /// Small records held in memory while the disk takes none at all.
    pub held_bytes_max: u64,
    /// Messages waiting in memory for the disk; beyond this `put` answers `Busy`.
    pub waiting_bytes_max: u64,
    /// An event segment is closed when it has grown to this size.
    pub event_segment_bytes: u64,
    /// The oldest event segments are deleted when the event log is larger than this.
    pub events_bytes_max: u64,
    /// How many closed segments are kept open for reading.
    pub files_open_max: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            segment_bytes: 64 << 20,
            sync_delay_ms: 50,
            free_min_bytes: 64 << 20,
            reserve_bytes: 4 << 20,
            held_bytes_max: 64 << 20,
            waiting_bytes_max: 128 << 20,
            event_segment_bytes: 16 << 20,
            events_bytes_max: 1 << 30,
            files_open_max: 64,
        }
    }
}
