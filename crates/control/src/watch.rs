//! Is an IP that is sent from on a block list, and what is done about it? (R6.6)
//!
//! What is found, told and done stands in one change: an IP is never told to be out of rotation that is in it.

use crate::actor::Actor;
use crate::incident::{self, Incident, IncidentKind, Of, Told, Weight};
use crate::inventory::{self, Ip, IpOrder, Outcome};
use crate::look::{HERE, REVERSE};
use crate::office::Office;
use crate::refusal::Refusal;
use crate::store::{Columns, q, rows};
use crate::warm_up::WarmUpOrder;
use engine::judged::Ordered;
use net::dns::blocklist::{Gravity, Listing};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::time::Duration;

/// How often lists are asked about an IP that is sent from, and how soon again about one that a list has for the first time.
const WATCHED_EVERY: Duration = Duration::from_secs(1_800);
const LISTED_AGAIN: Duration = Duration::from_secs(300);
/// How much of what it may send when it is warm an IP comes back with.
const BACK_PERCENT: u8 = 25;
/// As long as a reason may be.
const REASON_LETTERS_MAX: usize = 500;

/// What is done to an IP because of a listing. It is found again in the incident's evidence when the list lets go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Act {
    Nothing,
    Rest,
    PauseWarmUp,
}

impl Act {
    /// Only when it opens or gets graver: what the operator undoes meanwhile stays undone.
    fn on(gravity: Gravity, ip: &Ip, open: Option<&Incident>) -> Act {
        let is_graver = open.is_none_or(|open| open.weight == Weight::Review);
        let grows = |ordered| !matches!(ordered, Ordered::Pause | Ordered::Done | Ordered::Off);
        match gravity {
            Gravity::Bench if is_graver && ip.rotation_reason.is_none() => Act::Rest,
            Gravity::Watch if open.is_none() && ip.warm_up.as_ref().is_some_and(|is| grows(is.ordered)) => {
                Act::PauseWarmUp
            }
            _ => Act::Nothing,
        }
    }
}

impl Office {
    /// Looks at the IPs that are sent from, each some times an hour, and acts on what lists say twice; how many it was.
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
        let open = incident::open_of(&mut conn, &of(None, address)).await?;
        drop(conn);
        let (found, listed) = self.look_at(address).await?;
        let was_bad = |list: &str| before.iter().any(|check| check.name == list && check.outcome == Outcome::Bad);
        // Once may be a slip of the list's; and a note keeps nobody from sending.
        let sure: Vec<&(String, Listing)> = listed
            .iter()
            .filter(|(list, listing)| listing.gravity() > Gravity::Note && (open.is_some() || was_bad(list)))
            .collect();
        if let Some(gravest) = sure.iter().map(|(_, listing)| listing.gravity()).max() {
            return self.listed(address, &sure, gravest, open.as_ref()).await;
        }
        let Some(open) = open else { return Ok(()) };
        // A list that does not answer has not let go of it.
        let lists = open.evidence["lists"].as_array().cloned().unwrap_or_default();
        let is_good = |list: &str| found.iter().any(|check| check.name == list && check.outcome == Outcome::Good);
        let lets_go = |list: &Value| list["list"].as_str().is_some_and(is_good);
        if listed.is_empty() && lists.iter().all(lets_go) { self.delisted(address, &open).await } else { Ok(()) }
    }

    async fn listed(
        &self,
        address: IpAddr,
        sure: &[&(String, Listing)],
        gravity: Gravity,
        open: Option<&Incident>,
    ) -> Result<(), Refusal> {
        let by = Actor::service();
        let mut change = self.store().change().await?;
        let account = incident::whose(change.conn(), address).await?;
        let act = Act::on(gravity, &inventory::find(change.conn(), address).await?, open);
        let was_done = |key: &str| open.is_some_and(|open| open.evidence[key] == true);
        let rests = act == Act::Rest || was_done("out_of_rotation");
        let words = words(address, sure);
        let link = sure.iter().flat_map(|(_, listing)| &listing.reasons).find_map(|reason| link_in(reason));
        let told = Told {
            weight: if rests || gravity == Gravity::Bench { Weight::Stopped } else { Weight::Review },
            words: &words,
            mend: &mend(gravity, link),
            link,
            evidence: json!({
                "lists": sure.iter().map(|listed| evidence(listed)).collect::<Vec<_>>(),
                "out_of_rotation": rests,
                "warm_up_paused": act == Act::PauseWarmUp || was_done("warm_up_paused"),
            }),
            until: None,
        };
        incident::tell(&mut change, &of(account.as_deref(), address), told, self.now()).await?;
        match act {
            Act::Nothing => {}
            Act::Rest => {
                let reason = words.chars().take(REASON_LETTERS_MAX).collect();
                self.order_ip_in(&mut change, &by, address, &IpOrder::OutOfRotation { reason }).await?;
            }
            Act::PauseWarmUp => {
                self.order_warm_up_in(&mut change, &by, address, &WarmUpOrder::Pause).await?;
            }
        }
        change.commit().await
    }

    /// It comes back, and not with all it could send before.
    async fn delisted(&self, address: IpAddr, open: &Incident) -> Result<(), Refusal> {
        let by = Actor::service();
        let mut change = self.store().change().await?;
        if open.evidence["out_of_rotation"] == true {
            self.order_warm_up_in(&mut change, &by, address, &WarmUpOrder::Percent(BACK_PERCENT)).await?;
            self.order_ip_in(&mut change, &by, address, &IpOrder::IntoRotation).await?;
        } else if open.evidence["warm_up_paused"] == true {
            self.order_warm_up_in(&mut change, &by, address, &WarmUpOrder::Resume).await?;
        }
        incident::end(&mut change, &of(None, address), "no list has it any more", self.now()).await?;
        change.commit().await
    }
}

fn of(account: Option<&str>, address: IpAddr) -> Of<'_> {
    Of { account, ip: Some(address), domain: None, provider: "", kind: IncidentKind::Listed }
}

/// A sentence without its full stop.
fn words(address: IpAddr, sure: &[&(String, Listing)]) -> String {
    let names: Vec<&str> = sure.iter().map(|(list, _)| list.as_str()).collect();
    let entries = sure.iter().flat_map(|(_, listing)| &listing.entries);
    let means: Vec<&str> = entries.map(|entry| entry.means.as_str()).collect();
    format!("{address} is on the block list {} ({})", names.join(" and "), means.join(", "))
}

fn mend(gravity: Gravity, link: Option<&str>) -> String {
    let what_is_done = match gravity {
        Gravity::Bench => "It carries nothing new, and comes back with a short warm-up when the list has let go of it.",
        Gravity::Mend => "The list says what is to be mended; it goes on sending.",
        Gravity::Watch | Gravity::Note => "It goes on sending, and what it may send does not grow.",
    };
    let ask = match link {
        Some(link) => format!("ask to be taken off at {link}"),
        None => "ask the list to take it off".to_owned(),
    };
    format!("{what_is_done} Find out what was sent, end it, then {ask}.")
}

fn evidence((list, listing): &(String, Listing)) -> Value {
    let codes: Vec<String> = listing.entries.iter().map(|entry| entry.code.to_string()).collect();
    let means: Vec<&str> = listing.entries.iter().map(|entry| entry.means.as_str()).collect();
    json!({ "list": list, "codes": codes, "means": means, "said": listing.reasons })
}

/// What a list's text says where more is told, without what closes a sentence.
fn link_in(reason: &str) -> Option<&str> {
    let begin = reason.find("https://").or_else(|| reason.find("http://"))?;
    let link =
        reason[begin..].split(|c: char| c.is_whitespace() || matches!(c, '"' | '<' | '>' | ')' | '”' | '“')).next()?;
    Some(link.trim_end_matches(['.', ',', ';']))
}
