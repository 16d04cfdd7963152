//! Is an address on a block list, and can that list be believed (RFC 5782)?
//!
//! A list that is dead, expired or asked from the wrong place does not fall silent: it answers, for every address. So what a
//! list says of an address counts only beside what it says of its own test points, and an answer that is not in its own
//! language is told apart from a listing. Lists of domains are not asked: addresses are what Weir has.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use mail::address::Domain;
use mail::records::quoted;
use serde::Deserialize;

use super::route::{Waiting, all};
use super::{Asked, Dns, DnsFault, Families, reversed};

/// The lists that are shipped, as text: the operator's own file has the same form.
pub const SHIPPED: &str = include_str!("../../lists/blocklists.toml");

const LISTS_MAX: usize = 200;
/// What is kept of the texts of a listing.
const REASONS_MAX: usize = 4;

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockList {
    pub name: String,
    /// May hold the key of an account: words speak of the list by its name.
    pub zone: String,
    /// Whether to ask it at all.
    pub asked: bool,
    pub ipv6: Ipv6,
    /// Of codes that say nothing else.
    pub gravity: Gravity,
    #[serde(default)]
    pub note: String,
    #[serde(default)]
    pub codes: Vec<Code>,
}

/// What one answer of a list means.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Code {
    pub code: Ipv4Addr,
    pub means: String,
    #[serde(default)]
    pub gravity: Option<Gravity>,
    /// The list refuses the question.
    #[serde(default)]
    pub error: bool,
}

/// What a listing asks for. The lightest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gravity {
    Note,
    Watch,
    Mend,
    Bench,
}

/// Whether a list knows IPv6 addresses, and has RFC 5782's test point for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ipv6 {
    None,
    Untested,
    Tested,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockListError {
    #[error("the block lists cannot be read: {0}")]
    Unreadable(String),
    #[error("the block list “{list}”: {what}")]
    List { list: String, what: String },
    #[error("there are more than {LISTS_MAX} block lists")]
    TooMany,
}

/// Reads lists as they are written in `SHIPPED`.
pub fn parse(text: &str) -> Result<Vec<BlockList>, BlockListError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        #[serde(default)]
        list: Vec<BlockList>,
    }
    let File { list: lists } = toml::from_str(text).map_err(|fault| BlockListError::Unreadable(fault.to_string()))?;
    if lists.len() > LISTS_MAX {
        return Err(BlockListError::TooMany);
    }
    let mut seen = BTreeSet::new();
    for list in &lists {
        let wrong = |what: String| BlockListError::List { list: list.name.clone(), what };
        if list.name.trim().is_empty() {
            return Err(wrong("it has no name".to_owned()));
        }
        if Domain::parse(&list.zone).is_err() {
            return Err(wrong("its zone is not a domain name".to_owned()));
        }
        if !seen.insert(list.zone.to_ascii_lowercase()) {
            return Err(wrong("another list has the same zone".to_owned()));
        }
        for (index, code) in list.codes.iter().enumerate() {
            if !code.code.is_loopback() {
                return Err(wrong(format!("{} is not in 127.0.0.0/8, where answers of lists are", code.code)));
            }
            if list.codes[..index].iter().any(|before| before.code == code.code) {
                return Err(wrong(format!("the code {} is there twice", code.code)));
            }
        }
    }
    Ok(lists)
}

/// What a list says of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opinion {
    NotListed,
    Listed(Listing),
    /// The list does not answer us: a wrong name, a public resolver, too many questions. In words, with the mend.
    Refused {
        code: Ipv4Addr,
        words: String,
    },
    /// The list itself is not sound, and nothing it says counts.
    Broken {
        words: String,
    },
    /// It did not answer now.
    Unknown {
        words: String,
    },
    /// It lists no addresses of this family.
    NotCovered,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    pub entries: Vec<Entry>,
    /// The list's own texts about it, made safe to show.
    pub reasons: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub code: Ipv4Addr,
    pub means: String,
    pub gravity: Gravity,
}

impl Listing {
    /// The heaviest of its entries.
    pub fn gravity(&self) -> Gravity {
        self.entries.iter().map(|entry| entry.gravity).max().unwrap_or(Gravity::Note)
    }
}

/// Asks every list that is to be asked, all at once; in their order, each with its name.
///
/// `dns` is a resolver of the operator's own, and one that answers from fresh knowledge only (`Resolver::only_fresh`).
pub async fn check_all(dns: &dyn Dns, lists: &[BlockList], address: IpAddr) -> Vec<(String, Opinion)> {
    let asked: Vec<&BlockList> = lists.iter().filter(|list| list.asked).collect();
    let mut waiting: Vec<Waiting<'_, Opinion>> = Vec::new();
    for list in &asked {
        waiting.push(Box::pin(check(dns, list, address)));
    }
    let opinions = all(waiting).await;
    asked.into_iter().map(|list| list.name.clone()).zip(opinions).collect()
}

/// Asks one list about an address, and about its test points.
pub async fn check(dns: &dyn Dns, list: &BlockList, address: IpAddr) -> Opinion {
    let address = address.to_canonical();
    if address.is_ipv6() && list.ipv6 == Ipv6::None {
        return Opinion::NotCovered;
    }
    let (health, opinion) = tokio::join!(health_of(dns, list, address.is_ipv6()), opinion_of(dns, list, address));
    match health {
        Ok(()) => opinion,
        // An IPv6 listing that nobody can vouch for is still better doubted than believed.
        Err(unsound) => unsound,
    }
}

/// RFC 5782 5: 127.0.0.2 is always listed, 127.0.0.1 never; for IPv6 the same two in IPv6 clothes. What is wrong, as what is
/// to be told instead of an answer.
pub async fn health_of(dns: &dyn Dns, list: &BlockList, ipv6: bool) -> Result<(), Opinion> {
    let point = |last: u8| match ipv6 {
        false => IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)),
        true => IpAddr::V6(Ipv4Addr::new(127, 0, 0, last).to_ipv6_mapped()),
    };
    let (listed, unlisted) = tokio::join!(codes_of(dns, list, point(2)), codes_of(dns, list, point(1)));
    let broken = |what: &str| {
        let words = format!("the block list {} is out of order: {what}. What it says does not count", list.name);
        Err(Opinion::Broken { words })
    };
    match (read(list, listed), read(list, unlisted)) {
        (Answer::Listed(_), Answer::NotListed) => Ok(()),
        (Answer::NotListed, Answer::NotListed) if ipv6 && list.ipv6 == Ipv6::Untested => Ok(()),
        // A refusal tells more than what follows from it; silence says nothing of the list.
        (Answer::Opinion(opinion @ Opinion::Refused { .. }), _)
        | (_, Answer::Opinion(opinion @ Opinion::Refused { .. }))
        | (Answer::Opinion(opinion), _)
        | (_, Answer::Opinion(opinion)) => Err(opinion),
        (_, Answer::Listed(_)) => broken("it lists even 127.0.0.1, and so would list everybody"),
        (Answer::NotListed, Answer::NotListed) => {
            broken("it does not list its test point 127.0.0.2, so it is empty or gone")
        }
    }
}

async fn opinion_of(dns: &dyn Dns, list: &BlockList, address: IpAddr) -> Opinion {
    match read(list, codes_of(dns, list, address).await) {
        Answer::NotListed => Opinion::NotListed,
        Answer::Opinion(opinion) => opinion,
        Answer::Listed(entries) => {
            // Why, is worth a question, but no listing becomes doubtful without an answer.
            let told = dns.txt(&question(list, address)).await.map_or_else(|_| Vec::new(), |answer| answer.texts);
            let reasons = told.iter().take(REASONS_MAX).map(|text| quoted(text)).collect();
            Opinion::Listed(Listing { entries, reasons })
        }
    }
}

fn question(list: &BlockList, address: IpAddr) -> String {
    format!("{}.{}", reversed(address), list.zone)
}

fn codes_of<'a>(dns: &'a dyn Dns, list: &'a BlockList, address: IpAddr) -> Asked<'a, Vec<Ipv4Addr>> {
    Box::pin(async move {
        let name = question(list, address);
        let answer = dns.addresses(&name, Families::V4).await?;
        let v4 = |address: IpAddr| match address {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(_) => None,
        };
        Ok(answer.addresses.into_iter().filter_map(v4).collect())
    })
}

/// An answer in the list's own language, or none.
enum Answer {
    NotListed,
    Listed(Vec<Entry>),
    Opinion(Opinion),
}

fn read(list: &BlockList, answer: Result<Vec<Ipv4Addr>, DnsFault>) -> Answer {
    let mut codes = match answer {
        Ok(codes) => codes,
        Err(DnsFault::NoSuchName | DnsFault::NoData) => return Answer::NotListed,
        Err(fault) => {
            let words = format!("the block list {} did not answer: {fault}", list.name);
            return Answer::Opinion(Opinion::Unknown { words });
        }
    };
    codes.sort_unstable();
    codes.dedup();
    if let Some(foreign) = codes.iter().find(|code| !code.is_loopback()) {
        let words = format!(
            "{foreign} came as an answer of the block list {}, which is not in 127.0.0.0/8: the list's domain is gone, or the \
             resolver puts addresses of its own in place of “does not exist”. What it says does not count",
            list.name
        );
        return Answer::Opinion(Opinion::Broken { words });
    }
    if let Some((code, why)) = codes.iter().find_map(|code| Some((*code, refusal(list, *code)?))) {
        let words = format!("the block list {} answers {code}: {why}", list.name);
        return Answer::Opinion(Opinion::Refused { code, words });
    }
    match codes.is_empty() {
        true => Answer::NotListed,
        false => Answer::Listed(codes.into_iter().map(|code| entry(list, code)).collect()),
    }
}

/// Why the list refuses the question, when the code says so.
fn refusal(list: &BlockList, code: Ipv4Addr) -> Option<String> {
    if let Some(known) = list.codes.iter().find(|known| known.code == code) {
        return known.error.then(|| known.means.clone());
    }
    let why = match code.octets() {
        [127, 255, 255, 252] => "its zone is written wrongly. Correct the zone in your block lists",
        [127, 255, 255, 254] => {
            "the question came through a public resolver, or from an address with a generic name. Ask through a resolver of \
             your own"
        }
        [127, 255, 255, 255] => "too many questions. Ask less often, or get an account with the list",
        [127, 255, 255, _] => "it does not answer us, for a reason this version does not know",
        [127, 0, 0, 1] => {
            "it refuses the question. Ask through a resolver of your own, or get an account with the list"
        }
        _ => return None,
    };
    Some(why.to_owned())
}

fn entry(list: &BlockList, code: Ipv4Addr) -> Entry {
    match list.codes.iter().find(|known| known.code == code) {
        Some(known) => Entry { code, means: known.means.clone(), gravity: known.gravity.unwrap_or(list.gravity) },
        None => Entry { code, means: "a code that is in no table".to_owned(), gravity: list.gravity },
    }
}
