//! What became of a message, and why? (R2.7)
//!
//! The story comes from the event log, newest first until the acceptance is found; what happens next comes from the engine.

use crate::record::{self, Entry};
use engine::envelope::Envelope;
use engine::id::MessageId;
use spool::{EventLog, Spool};
use std::io;
use std::ops::ControlFlow;

/// Where stories are kept. Cheap to clone.
#[derive(Clone)]
pub struct Stories(Spool);

impl Stories {
    #[must_use]
    pub fn of(spool: &Spool) -> Stories {
        Stories(spool.clone())
    }

    /// Everything the event log holds of a message, oldest first. Empty when nothing is known of it.
    pub async fn story(&self, message: MessageId) -> io::Result<Vec<Entry>> {
        let spool = self.0.clone();
        tokio::task::spawn_blocking(move || {
            let mut story = read_back(&spool.events(), message)?;
            // The log follows the queue at a little distance: who asks right after the acceptance is told of it all the same.
            if !story.iter().any(|entry| entry.accepted.is_some())
                && let Some(envelope) = queued(&spool, message)
            {
                story.insert(0, Entry::of_acceptance(&envelope));
            }
            Ok(story)
        })
        .await
        .map_err(io::Error::other)?
    }
}

fn queued(spool: &Spool, message: MessageId) -> Option<Envelope> {
    record::read_envelope(&spool.read(message.0).ok()?.head).ok()
}

fn read_back(log: &EventLog, message: MessageId) -> io::Result<Vec<Entry>> {
    let mut story = Vec::new();
    log.scan_back(&mut |_, octets| {
        if record::entries_of(octets) != Some(message) {
            return ControlFlow::Continue(());
        }
        match record::read_entries(octets) {
            Ok(entries) => {
                let began = entries.iter().any(|entry| entry.accepted.is_some());
                story.extend(entries.into_iter().rev());
                if began { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            }
            Err(fault) => {
                tracing::warn!(id = %message, %fault, "an event cannot be read");
                ControlFlow::Continue(())
            }
        }
    })?;
    story.reverse();
    Ok(story)
}
