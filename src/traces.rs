//! How do events become spans for a collector? From the event log, from the start on, a moment after they happened.

use crate::rounds::{AGAIN_AFTER, closing, pause};
use api::trace::{Exporter, Tracer};
use mta::record;
use spool::EventLog;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// Spans that come together are sent together.
const GATHER: Duration = Duration::from_secs(1);
/// Records read at once.
const RECORDS_MAX: usize = 4_096;

/// Until the house closes.
pub async fn tell(tracer: Arc<Tracer>, mut exporter: Exporter, log: EventLog, mut stop: watch::Receiver<bool>) {
    let mut more = log.more();
    // What happened before is history.
    let mut at = *more.borrow_and_update();
    let mut reader = Some(log);
    loop {
        let Some(mut own) = reader.take() else { return };
        let (from, tracer) = (at, tracer.clone());
        let read = tokio::task::spawn_blocking(move || {
            let read = own.next(from, RECORDS_MAX).map(|records| {
                let entries: Vec<_> =
                    records.iter().filter_map(|(_, octets)| record::read_entries(octets).ok()).flatten().collect();
                (records.last().map(|(last, _)| *last), tracer.spans(&entries), records.len() == RECORDS_MAX)
            });
            (read, own)
        });
        let Ok((read, own)) = read.await else { return tracing::error!("reading the event log ended early") };
        reader = Some(own);
        let is_behind = match read {
            Ok((last, spans, is_behind)) => {
                at = last.unwrap_or(at);
                if !spans.is_empty() {
                    exporter.send(spans).await;
                }
                is_behind
            }
            Err(fault) => {
                tracing::error!(%fault, "the event log cannot be read");
                if pause(AGAIN_AFTER, &mut stop).await {
                    return;
                }
                continue;
            }
        };
        if is_behind {
            continue;
        }
        tokio::select! {
            changed = more.changed() => if changed.is_err() { return },
            () = closing(&mut stop) => return,
        }
        sleep(GATHER).await;
    }
}
