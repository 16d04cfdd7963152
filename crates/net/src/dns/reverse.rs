//! Do an address and the name it greets with lead to each other?
//!
//! Large providers refuse mail from an address without a PTR record whose name leads back to it (forward-confirmed reverse
//! DNS), and distrust one that greets as somebody else.

use std::fmt::Write;
use std::net::IpAddr;

use mail::records::{Finding, State, quoted, worst};

use super::route::all;
use super::{Asked, Dns, DnsFault, Families, canonical_name, reverse_name};

/// An address may have hundreds of names; receivers look at a few of them.
const NAMES_MAX: usize = 10;
/// What is shown of the addresses of a name that leads elsewhere.
const ADDRESSES_SHOWN_MAX: usize = 4;

/// What was found about an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reverse {
    pub address: IpAddr,
    pub ehlo: String,
    /// Where its PTR records lead.
    pub names: Vec<String>,
    pub findings: Vec<Finding<ReverseFlaw>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReverseFlaw {
    NoPtr,
    /// The name does not exist, or has no address of this family.
    NameHasNoAddress,
    NameLeadsElsewhere,
    /// Confirmed, but not by the name the address greets with.
    EhloIsNotAName,
    EhloHasNoAddress,
    EhloLeadsElsewhere,
    SeveralNames,
    /// It is made of the address's own numbers, as providers name what they give to households.
    Generic,
    /// Nothing can be said of it now.
    Later,
}

impl Reverse {
    /// Good with findings is good with advice. Only what is good may be leased (R3.7).
    pub fn state(&self) -> State {
        worst(&self.findings)
    }
}

/// Looks up the names of an address, and where they and the EHLO name lead.
pub async fn reverse_of(dns: &dyn Dns, address: IpAddr, ehlo: &str) -> Reverse {
    let address = address.to_canonical();
    let ehlo = canonical_name(ehlo);
    let names = dns.ptr(address).await.map(|mut answer| {
        answer.names.sort();
        answer.names.dedup();
        answer.names
    });
    let mut asked: Vec<String> =
        names.as_ref().map_or(&[][..], |names| names).iter().take(NAMES_MAX).cloned().collect();
    if !asked.contains(&ehlo) {
        asked.push(ehlo.clone());
    }
    let answers = all(asked.iter().map(|name| forward(dns, name, address)).collect()).await;
    let leads: Vec<Lead> = asked.into_iter().zip(answers).map(|(name, to)| Lead { name, to }).collect();
    let findings = judge(address, &ehlo, &names, &leads);
    Reverse { address, ehlo, names: names.unwrap_or_default(), findings }
}

fn forward<'a>(dns: &'a dyn Dns, name: &'a str, address: IpAddr) -> Asked<'a, Vec<IpAddr>> {
    Box::pin(async move { Ok(dns.addresses(name, Families::of([address])).await?.addresses) })
}

/// Where a name leads.
struct Lead {
    name: String,
    to: Result<Vec<IpAddr>, DnsFault>,
}

fn judge(
    address: IpAddr,
    ehlo: &str,
    names: &Result<Vec<String>, DnsFault>,
    leads: &[Lead],
) -> Vec<Finding<ReverseFlaw>> {
    let mut findings = Vec::new();
    let mut say = |flaw, state, words| findings.push(Finding { flaw, state, words });
    let at = reverse_name(address);
    let back = |lead: &Lead| lead.to.as_ref().is_ok_and(|to| to.contains(&address));
    let kind = if address.is_ipv4() { "A" } else { "AAAA" };

    // The way back: from the address to its names.
    let none = Vec::new();
    let names = match names {
        Ok(names) => names,
        Err(DnsFault::NoSuchName | DnsFault::NoData) => {
            say(
                ReverseFlaw::NoPtr,
                State::Missing,
                format!(
                    "{address} has no PTR record, and most providers refuse mail from it. Whoever gave you the address \
                     must publish: {at} PTR {ehlo}"
                ),
            );
            &none
        }
        Err(fault) => {
            let words = format!("the PTR record of {address} cannot be looked up now: {fault}");
            say(ReverseFlaw::Later, State::NotCheckableNow, words);
            &none
        }
    };
    let own: Vec<&Lead> = leads.iter().filter(|lead| names.contains(&lead.name)).collect();
    let confirmed: Vec<&str> = own.iter().filter(|lead| back(lead)).map(|lead| &*lead.name).collect();
    for lead in own.iter().filter(|lead| !back(lead)) {
        // One name that leads back is enough for receivers; the others are then untidy only.
        let state = if confirmed.is_empty() { State::Wrong } else { State::Good };
        let name = quoted(&lead.name);
        match &lead.to {
            Ok(to) => say(
                ReverseFlaw::NameLeadsElsewhere,
                state,
                format!(
                    "the PTR record of {address} names {name}, which leads to {} and not back. Publish {name} {kind} \
                     {address}, or let the PTR record name {ehlo}",
                    shown(to)
                ),
            ),
            Err(DnsFault::Later(why)) => say(
                ReverseFlaw::Later,
                if confirmed.is_empty() { State::NotCheckableNow } else { State::Good },
                format!("where {name} leads, which the PTR record of {address} names, cannot be looked up now: {why}"),
            ),
            Err(_) => say(
                ReverseFlaw::NameHasNoAddress,
                state,
                format!(
                    "the PTR record of {address} names {name}, which has no {kind} record. Publish {name} {kind} \
                     {address}"
                ),
            ),
        }
    }
    if names.len() > 1 {
        let words = format!(
            "{address} has {} PTR records; some receivers look at one of them, and it is not told which. Keep the one that \
             names {ehlo}",
            names.len()
        );
        say(ReverseFlaw::SeveralNames, State::Good, words);
    }
    if let Some(name) = confirmed.iter().find(|name| is_generic(name, address)) {
        let words = format!(
            "{} is made of the numbers of {address}, as names of household connections are; some receivers refuse mail from \
             such. Choose a name that says that mail comes from here",
            quoted(name)
        );
        say(ReverseFlaw::Generic, State::Good, words);
    }

    // The way forth: from the name it greets with to the address.
    let greets = leads.iter().find(|lead| lead.name == ehlo);
    match greets.map(|lead| &lead.to) {
        Some(Ok(to)) if !to.contains(&address) => say(
            ReverseFlaw::EhloLeadsElsewhere,
            State::Wrong,
            format!("{address} greets as {ehlo}, which leads to {}. Publish {ehlo} {kind} {address}", shown(to)),
        ),
        Some(Ok(_)) if !confirmed.is_empty() && !confirmed.contains(&ehlo) => say(
            ReverseFlaw::EhloIsNotAName,
            State::Good,
            format!(
                "{address} greets as {ehlo}, but its PTR record names {}. Some receivers want them to be the same: let the \
                 PTR record name {ehlo}",
                quoted(confirmed[0])
            ),
        ),
        Some(Ok(_)) | None => {}
        Some(Err(DnsFault::Later(why))) => say(
            ReverseFlaw::Later,
            State::NotCheckableNow,
            format!("where the EHLO name {ehlo} leads cannot be looked up now: {why}"),
        ),
        Some(Err(_)) => say(
            ReverseFlaw::EhloHasNoAddress,
            State::Wrong,
            format!("{address} greets as {ehlo}, which has no {kind} record. Publish {ehlo} {kind} {address}"),
        ),
    }
    findings
}

/// Whether the numbers of an IPv4 address stand in the name, in either order, as in `7-113-0-203.pool.example`.
fn is_generic(name: &str, address: IpAddr) -> bool {
    let IpAddr::V4(v4) = address else {
        return false;
    };
    let numbers: Vec<&str> = name.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty()).collect();
    let forth = v4.octets().map(|octet| octet.to_string());
    let mut back = forth.clone();
    back.reverse();
    numbers.windows(4).any(|window| window == forth || window == back)
}

fn shown(addresses: &[IpAddr]) -> String {
    let mut shown = String::new();
    for (index, address) in addresses.iter().take(ADDRESSES_SHOWN_MAX).enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        let _ = write!(shown, "{comma}{address}");
    }
    if addresses.len() > ADDRESSES_SHOWN_MAX {
        let _ = write!(shown, " and {} more", addresses.len() - ADDRESSES_SHOWN_MAX);
    }
    shown
}
