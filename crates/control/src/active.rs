//! Who has read lately? Followed in the events that are kept, and told to the data plane. (R4.2)
//!
//! There is no table of it: what is known lies in a sealed file beside the queue, with the number of the event it goes up to. Where the
//! file is gone, all events that are kept are read once more.

use crate::archive::Archive;
use crate::block::Wanted;
use crate::refusal::Refusal;
use crate::seal::{KeepFault, Sealer, random, write_new};
use engine::active::Active;
use engine::event::{EventKind, Reader};
use engine::suppression::canonical;
use mail::address::Mailbox;
use std::io;
use std::path::Path;

/// Events read at once.
const EVENTS_MAX: usize = 2_000;
/// What the seal is bound to.
const KEPT_AS: &str = "active recipients 1";

pub struct Readership {
    list: Active,
    /// Of the next event.
    number: i64,
    unkept: bool,
}

impl Readership {
    /// As it was kept last; empty where it never was, or where it cannot be read.
    pub fn kept(sealer: &Sealer, path: &Path) -> Result<Readership, KeepFault> {
        match std::fs::read(path) {
            Ok(sealed) => match Readership::opened(sealer, &sealed) {
                Ok(kept) => return Ok(kept),
                Err(fault) => {
                    tracing::warn!(%fault, "what is kept of active recipients cannot be used; it is made anew");
                }
            },
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => {}
            Err(fault) => tracing::warn!(%fault, "what is kept of active recipients cannot be read; it is made anew"),
        }
        Ok(Readership { list: Active::empty(random()?), number: 0, unkept: false })
    }

    fn opened(sealer: &Sealer, sealed: &[u8]) -> Result<Readership, KeepFault> {
        let octets = sealer.open(KEPT_AS, sealed)?;
        let form =
            || KeepFault::Io(io::Error::new(io::ErrorKind::InvalidData, "it has not the form that is written here"));
        let (number, list) = octets.split_first_chunk::<8>().ok_or_else(form)?;
        let list = Active::of_octets(list).ok_or_else(form)?;
        Ok(Readership { list, number: i64::from_le_bytes(*number), unkept: false })
    }

    #[must_use]
    pub fn list(&self) -> &Active {
        &self.list
    }

    #[must_use]
    pub fn is_unkept(&self) -> bool {
        self.unkept
    }

    /// Takes in the next events; whether there may be more.
    pub async fn read_on(&mut self, archive: &Archive) -> Result<bool, Refusal> {
        let end = archive.look_for_end().await?;
        if self.number > end {
            // Another archive than before.
            self.number = 0;
        }
        let wanted = Wanted { kinds: vec![EventKind::Opened, EventKind::Clicked], ..Wanted::default() };
        let read = archive.read_on(&wanted, self.number, EVENTS_MAX).await?;
        let seen: Vec<(&str, String, i64)> = read
            .events
            .iter()
            // Who looks at everything is no sign of interest.
            .filter(|kept| kept.event.reader != Some(Reader::Machine))
            .filter_map(|kept| {
                let address = Mailbox::parse(kept.address.as_deref()?).ok()?;
                Some((kept.event.account.as_ref()?.as_str(), canonical(&address), kept.event.at.day()))
            })
            .collect();
        self.unkept |= !seen.is_empty();
        self.list.note(seen.iter().map(|(account, address, day)| (*account, address.as_str(), *day)));
        let is_more = read.next > self.number && read.next < end;
        self.number = read.next;
        Ok(is_more)
    }

    /// What is to be kept; writing it takes its time.
    #[must_use]
    pub fn to_keep(&self) -> ReadershipToKeep {
        ReadershipToKeep { list: self.list.clone(), number: self.number }
    }

    pub fn is_kept(&mut self) {
        self.unkept = false;
    }
}

pub struct ReadershipToKeep {
    list: Active,
    number: i64,
}

impl ReadershipToKeep {
    pub fn write(self, sealer: &Sealer, path: &Path) -> Result<(), KeepFault> {
        let octets = [&self.number.to_le_bytes()[..], &self.list.to_octets()].concat();
        Ok(write_new(path, &sealer.seal(KEPT_AS, &octets)?)?)
    }
}
