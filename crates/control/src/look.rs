//! Is an IP fit to be sent from? Is it on this machine, do its names lead back, is it on a block list (R3.7)?
//!
//! Looking takes seconds and other people's servers; deciding is `inventory::unfit`'s, from what was found.

use crate::actor::Actor;
use crate::inventory::{self, Check, Outcome};
use crate::office::Office;
use crate::refusal::Refusal;
use crate::setting::{self, Setting};
use crate::store::{Columns, q, rows};
use mail::records::State;
use net::dial;
use net::dns::blocklist::{self, Gravity, Listing, Opinion};
use net::dns::reverse_of;
use net::interfaces;
use std::net::IpAddr;
use std::time::Duration;

pub(crate) const HERE: &str = "address";
pub(crate) const REVERSE: &str = "reverse-dns";

impl Office {
    /// Looks now, keeps what was found, and tells it.
    pub async fn check_ip(&self, by: &Actor, address: IpAddr) -> Result<Vec<Check>, Refusal> {
        by.may_operate()?;
        Ok(self.look_at(address).await?.0)
    }

    /// What was found, and the lists that have it.
    pub(crate) async fn look_at(&self, address: IpAddr) -> Result<(Vec<Check>, Vec<(String, Listing)>), Refusal> {
        let mut conn = self.store().read().await?;
        let ip = inventory::find(&mut conn, address).await?;
        drop(conn);
        let mut found = Vec::new();
        let mut say = |name: &str, (outcome, words): (Outcome, String)| {
            found.push(Check { name: name.to_owned(), at: self.now(), outcome, words });
        };
        say(
            HERE,
            match &ip.hop {
                Some(hop) => (Outcome::Good, format!("it lives behind a hop: {}", inventory::hop_text(hop))),
                None => here(ip.bind),
            },
        );
        let (reverse, listings) = tokio::join!(
            reverse_of(self.dns(), address, &ip.ehlo),
            blocklist::check_all(self.dns(), self.block_lists(), address)
        );
        let words: Vec<&str> = reverse.findings.iter().map(|finding| finding.words.as_str()).collect();
        let words = if words.is_empty() { "its names lead back to it".to_owned() } else { words.join(" ") };
        say(REVERSE, (outcome_of(reverse.state()), words));
        let mut listed = Vec::new();
        for (list, opinion) in listings {
            if let Opinion::Listed(listing) = &opinion {
                listed.push((list.clone(), listing.clone()));
            }
            if let Some(told) = listing(opinion) {
                say(&list, told);
            }
        }
        self.note_checks(address, &found).await?;
        Ok((found, listed))
    }

    /// Looks at IPs that can be leased and whose last look is half as old as is believed; how many it was.
    pub async fn check_due_ips(&self, ips_max: u32) -> Result<usize, Refusal> {
        let mut conn = self.store().read().await?;
        let hours = setting::value(&mut conn, Setting::CheckMaxAgeHours).await?;
        let half = Duration::from_secs(u64::try_from(hours).unwrap_or(0) * 1_800);
        let before = self.now() - half;
        let query = q!(
            "SELECT i.address FROM ip i LEFT JOIN ip_check c ON c.ip = i.address AND c.name = $1 \
             WHERE i.state = 'available' AND (c.at IS NULL OR c.at < $2) ORDER BY c.at, i.address LIMIT $3",
            HERE,
            before.0,
            i64::from(ips_max),
        );
        let due = rows(&mut conn, query).await?;
        drop(conn);
        for row in &due {
            if let Ok(address) = row.text(0)?.parse() {
                self.look_at(address).await?;
            }
        }
        Ok(due.len())
    }

    /// What is bound on this machine and not in the inventory yet, with what can be said of it.
    pub async fn discover_ips(&self, by: &Actor) -> Result<Vec<interfaces::Bound>, Refusal> {
        by.may_operate()?;
        let bound = interfaces::addresses().map_err(|fault| {
            Refusal::conflict("interfaces_unknown", format!("{fault}."), "Add the addresses by hand.")
        })?;
        let mut conn = self.store().read().await?;
        let mut fresh = Vec::new();
        for bound in bound {
            let known = q!("SELECT address FROM ip WHERE address = $1 OR bind = $1", bound.address.to_string());
            if rows(&mut conn, known).await?.is_empty() {
                fresh.push(bound);
            }
        }
        Ok(fresh)
    }
}

fn here(bind: IpAddr) -> (Outcome, String) {
    match dial::is_here(bind) {
        Ok(()) => (Outcome::Good, "it is on this machine".to_owned()),
        Err(fault) => (Outcome::Bad, fault.to_string()),
    }
}

fn outcome_of(state: State) -> Outcome {
    match state {
        State::Good => Outcome::Good,
        State::NotCheckableNow => Outcome::Unknown,
        State::Missing | State::Wrong => Outcome::Bad,
    }
}

/// None where a list says nothing of such addresses.
fn listing(opinion: Opinion) -> Option<(Outcome, String)> {
    match opinion {
        Opinion::NotCovered => None,
        Opinion::NotListed => Some((Outcome::Good, "not listed".to_owned())),
        Opinion::Refused { words, .. } | Opinion::Broken { words } => Some((Outcome::Void, words)),
        Opinion::Unknown { words } => Some((Outcome::Unknown, words)),
        Opinion::Listed(listing) => {
            let entries: Vec<String> =
                listing.entries.iter().map(|entry| format!("{} ({})", entry.means, entry.code)).collect();
            let why =
                if listing.reasons.is_empty() { String::new() } else { format!(": {}", listing.reasons.join(" ")) };
            let words = format!("listed: {}{why}", entries.join(", "));
            // A note is worth reading and keeps nobody from sending.
            Some((if listing.gravity() == Gravity::Note { Outcome::Good } else { Outcome::Bad }, words))
        }
    }
}
