//! Is an IP fit to be sent from? Is it on this machine, do its names lead back, is it on a block list (R3.7)?
//!
//! Looking takes seconds and other people's servers; deciding is `inventory::unfit`'s, from what was found.

use crate::actor::Actor;
use crate::incident::{self, Incident, IncidentKind, Of, Told, Weight};
use crate::inventory::{self, Check, IpOrder, Outcome};
use crate::office::Office;
use crate::refusal::Refusal;
use crate::setting::{self, Setting};
use crate::store::{Columns, q, rows};
use crate::warm_up::WarmUpOrder;
use engine::judged::Ordered;
use mail::records::State;
use net::dial;
use net::dns::blocklist::{self, Gravity, Listing, Opinion};
use net::dns::reverse_of;
use net::interfaces;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::time::Duration;

const HERE: &str = "address";
const REVERSE: &str = "reverse-dns";
/// How often lists are asked about an IP that is sent from, and how soon again about one that a list has for the first time.
const WATCHED_EVERY: Duration = Duration::from_secs(1_800);
const LISTED_AGAIN: Duration = Duration::from_secs(300);
/// How much of what it may send when it is warm an IP comes back with.
const BACK_PERCENT: u8 = 25;

impl Office {
    /// Looks now, keeps what was found, and tells it.
    pub async fn check_ip(&self, by: &Actor, address: IpAddr) -> Result<Vec<Check>, Refusal> {
        by.may_operate()?;
        Ok(self.look_at(address).await?.0)
    }

    /// What was found, and the lists that have it.
    async fn look_at(&self, address: IpAddr) -> Result<(Vec<Check>, Vec<(String, Listing)>), Refusal> {
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

    /// R6.6: looks at the IPs that are sent from, each some times an hour, and acts on what lists say twice; how many it was.
    pub async fn watch_lists(&self, ips_max: u32) -> Result<usize, Refusal> {
        if self.block_lists().is_empty() {
            return Ok(0);
        }
        let mut conn = self.store().read().await?;
        // What was bad at the last look is looked at again soon.
        let query = q!(
            "SELECT i.address, (SELECT MIN(c.at) FROM ip_check c WHERE c.ip = i.address) AS seen FROM ip i \
             WHERE i.state IN ('leased', 'shared') AND COALESCE((SELECT MIN(c.at) FROM ip_check c WHERE c.ip = i.address), 0) < \
             CASE WHEN EXISTS (SELECT 1 FROM ip_check b WHERE b.ip = i.address AND b.outcome = 'bad' AND b.name NOT IN ($1, $2)) \
             AND NOT EXISTS (SELECT 1 FROM incident n WHERE n.subject = i.address AND n.kind = 'listed' AND n.closed_at IS NULL) \
             THEN CAST($3 AS BIGINT) ELSE CAST($4 AS BIGINT) END ORDER BY seen, i.address LIMIT $5",
            HERE,
            REVERSE,
            (self.now() - LISTED_AGAIN).0,
            (self.now() - WATCHED_EVERY).0,
            i64::from(ips_max),
        );
        let due = rows(&mut conn, query).await?;
        drop(conn);
        for row in &due {
            if let Ok(address) = row.text(0)?.parse() {
                self.watch(address).await?;
            }
        }
        Ok(due.len())
    }

    async fn watch(&self, address: IpAddr) -> Result<(), Refusal> {
        let mut conn = self.store().read().await?;
        let before = inventory::checks(&mut conn, address).await?;
        let of = Of { account: None, ip: Some(address), domain: None, provider: "", kind: IncidentKind::Listed };
        let open = incident::open_of(&mut conn, &of).await?;
        drop(conn);
        let (found, listed) = self.look_at(address).await?;
        let was_bad = |list: &str| before.iter().any(|check| check.name == list && check.outcome == Outcome::Bad);
        // Once may be a slip of the list's; and a note keeps nobody from sending.
        let sure: Vec<&(String, Listing)> = listed
            .iter()
            .filter(|(list, listing)| listing.gravity() > Gravity::Note && (open.is_some() || was_bad(list)))
            .collect();
        if let Some((_, gravest)) = sure.iter().max_by_key(|(_, listing)| listing.gravity()) {
            return self.listed(address, &sure, gravest.gravity(), open.as_ref()).await;
        }
        let Some(open) = open else { return Ok(()) };
        // A list that does not answer has not let go of it.
        let lists = open.evidence["lists"].as_array().cloned().unwrap_or_default();
        let lets_go = |list: &Value| {
            found
                .iter()
                .any(|check| Some(check.name.as_str()) == list["list"].as_str() && check.outcome == Outcome::Good)
        };
        if listed.is_empty() && lists.iter().all(lets_go) { self.delisted(address, &open).await } else { Ok(()) }
    }

    async fn listed(
        &self,
        address: IpAddr,
        sure: &[&(String, Listing)],
        gravity: Gravity,
        open: Option<&Incident>,
    ) -> Result<(), Refusal> {
        let mut change = self.store().change().await?;
        let account = incident::whose(change.conn(), address).await?;
        let names: Vec<&str> = sure.iter().map(|(list, _)| list.as_str()).collect();
        let means: Vec<&str> =
            sure.iter().flat_map(|(_, listing)| &listing.entries).map(|entry| entry.means.as_str()).collect();
        let words = format!("{address} is on the block list {} ({})", names.join(" and "), means.join(", "));
        let reasons: Vec<&str> = sure.iter().flat_map(|(_, listing)| &listing.reasons).map(String::as_str).collect();
        let link = reasons.iter().find_map(|reason| link_in(reason));
        let ip = inventory::find(change.conn(), address).await?;
        // Only when it opens: what the operator puts back meanwhile stays there.
        let is_benched = gravity == Gravity::Bench && open.is_none_or(|open| open.weight == Weight::Review);
        let rests = is_benched && ip.rotation_reason.is_none();
        let pauses = gravity == Gravity::Watch
            && open.is_none()
            && ip
                .warm_up
                .as_ref()
                .is_some_and(|warm_up| !matches!(warm_up.ordered, Ordered::Pause | Ordered::Done | Ordered::Off));
        let kept = |key: &str| open.is_some_and(|open| open.evidence[key] == true);
        let what_is_done = match gravity {
            Gravity::Bench => {
                "It carries nothing new, and comes back with a short warm-up when the list has let go of it."
            }
            Gravity::Mend => "The list says what is to be mended; it goes on sending.",
            Gravity::Watch | Gravity::Note => "It goes on sending, and what it may send does not grow.",
        };
        let ask = match link {
            Some(link) => format!(" Find out what was sent, end it, then ask to be taken off at {link}."),
            None => " Find out what was sent, end it, then ask the list to take it off.".to_owned(),
        };
        let told = Told {
            weight: if gravity == Gravity::Bench { Weight::Stopped } else { Weight::Review },
            words: &words,
            mend: &format!("{what_is_done}{ask}"),
            link,
            evidence: json!({
                "lists": sure.iter().map(|(list, listing)| json!({
                    "list": list,
                    "codes": listing.entries.iter().map(|entry| entry.code.to_string()).collect::<Vec<_>>(),
                    "means": listing.entries.iter().map(|entry| &entry.means).collect::<Vec<_>>(),
                    "said": listing.reasons,
                })).collect::<Vec<_>>(),
                "out_of_rotation": rests || kept("out_of_rotation"),
                "warm_up_paused": pauses || kept("warm_up_paused"),
            }),
            until: None,
        };
        let of = Of {
            account: account.as_deref(),
            ip: Some(address),
            domain: None,
            provider: "",
            kind: IncidentKind::Listed,
        };
        incident::tell(&mut change, &of, told, self.now()).await?;
        change.commit().await?;
        let by = Actor::service();
        if rests {
            self.order_ip(&by, address, &IpOrder::OutOfRotation { reason: words }).await?;
        }
        if pauses {
            self.order_warm_up(&by, address, &WarmUpOrder::Pause).await?;
        }
        Ok(())
    }

    /// It comes back, and not with all it could send before.
    async fn delisted(&self, address: IpAddr, open: &Incident) -> Result<(), Refusal> {
        let by = Actor::service();
        if open.evidence["out_of_rotation"] == true {
            self.order_warm_up(&by, address, &WarmUpOrder::Percent(BACK_PERCENT)).await?;
            self.order_ip(&by, address, &IpOrder::IntoRotation).await?;
        } else if open.evidence["warm_up_paused"] == true {
            self.order_warm_up(&by, address, &WarmUpOrder::Resume).await?;
        }
        let mut change = self.store().change().await?;
        let of = Of { account: None, ip: Some(address), domain: None, provider: "", kind: IncidentKind::Listed };
        incident::end(&mut change, &of, "no list has it any more", self.now()).await?;
        change.commit().await
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

/// What a list's text says where more is told, without what closes a sentence.
fn link_in(reason: &str) -> Option<&str> {
    let begin = reason.find("https://").or_else(|| reason.find("http://"))?;
    let link =
        reason[begin..].split(|c: char| c.is_whitespace() || matches!(c, '"' | '<' | '>' | ')' | '”' | '“')).next()?;
    Some(link.trim_end_matches(['.', ',', ';']))
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
