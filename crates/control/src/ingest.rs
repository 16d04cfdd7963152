//! What did the data plane tell us? Events come up, in order, and each is taken in once in effect.
//!
//! How far a source was read is kept in the same transaction as what its events changed: after a crash it is read on from there, and
//! what is told twice changes nothing.

use crate::actor::Actor;
use crate::office::Office;
use crate::refusal::Refusal;
use crate::store::{Change, Columns, q, row, run};
use crate::suppression::Word;
use engine::event::{Event, EventKind};
use std::net::IpAddr;

impl Office {
    /// How far this source has been taken in; none: nothing of it yet.
    pub async fn taken_in(&self, source: &str) -> Result<Option<u64>, Refusal> {
        let mut conn = self.store().read().await?;
        let query = q!("SELECT position FROM taken_in WHERE source = $1", source.to_owned());
        let found = row(&mut conn, query).await?.map(|row| row.text(0)).transpose()?;
        Ok(found.and_then(|position| position.parse().ok()))
    }

    /// The source is taken in up to this position.
    pub(crate) async fn note_taken_in(&self, change: &mut Change, source: &str, position: &str) -> Result<(), Refusal> {
        let put = q!(
            "INSERT INTO taken_in (source, position) VALUES ($1, $2) \
             ON CONFLICT (source) DO UPDATE SET position = excluded.position",
            source.to_owned(),
            position.to_owned(),
        );
        run(change.conn(), put).await?;
        Ok(())
    }

    /// Takes in what the source says up to this position: events of IPs, and what is said of addresses. Most events change nothing
    /// here; then only the position is kept.
    pub async fn take_in(&self, source: &str, position: u64, events: &[Event], words: &[Word]) -> Result<(), Refusal> {
        let by = Actor::service();
        let mut change = self.store().change().await?;
        for address in drained(events) {
            self.rest(&mut change, &by, address).await?;
        }
        for event in events.iter().filter(|event| event.kind != EventKind::IpDrained) {
            self.heed_lane(&mut change, event).await?;
        }
        self.heed(&mut change, words).await?;
        self.note_taken_in(&mut change, source, &position.to_string()).await?;
        change.commit().await?;
        // Of what was counted by now; the rest says nothing else.
        for event in events.iter().filter(|event| event.kind == EventKind::LaneSuspended) {
            if let (Some(ip), Some(provider)) = (event.ip, event.provider.as_deref()) {
                self.blame(ip, provider).await?;
            }
        }
        Ok(())
    }
}

fn drained(events: &[Event]) -> impl Iterator<Item = IpAddr> + '_ {
    events.iter().filter(|event| event.kind == EventKind::IpDrained).filter_map(|event| event.ip)
}
