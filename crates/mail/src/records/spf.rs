//! From where may a domain's mail come (RFC 7208), and are our sources among them?
//!
//! Records are evaluated for our own addresses, and read through for what receivers give up at: no more than ten terms that
//! cost a look-up, in all records together. Macros depend on the message, so terms with macros are counted and not followed;
//! `exists` and `ptr` likewise.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::known::{Answer, Kind, Known};
use super::{Checked, Flaw, State, absent, escaped, later, quoted, shortened, shown};
use crate::address::Domain;

/// RFC 7208 4.6.4.
const LOOKUPS_MAX: usize = 10;
const VOIDS_MAX: usize = 2;
const MX_HOSTS_MAX: usize = 10;
/// What is too much is counted further, to say how much it is, but not without end.
const LOOKUPS_COUNTED_MAX: usize = 30;
const DEPTH_MAX: usize = 10;
const TERMS_MAX: usize = 400;
/// A mended record is shown whole, to be copied.
const MENDED_SHOWN_MAX: usize = 2_000;

/// Where mail of ours comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpfSource {
    /// A domain whose record names our addresses.
    Include(Domain),
    Address(IpAddr),
}

impl fmt::Display for SpfSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpfSource::Include(domain) => write!(f, "include:{domain}"),
            SpfSource::Address(IpAddr::V4(v4)) => write!(f, "ip4:{v4}"),
            SpfSource::Address(IpAddr::V6(v6)) => write!(f, "ip6:{v6}"),
        }
    }
}

/// What to publish where nothing is yet.
pub(super) fn record_for(sources: &[SpfSource]) -> String {
    format!("v=spf1 {}~all", terms_of(sources))
}

fn terms_of<'a>(sources: impl IntoIterator<Item = &'a SpfSource>) -> String {
    sources.into_iter().map(|source| format!("{source} ")).collect()
}

/// A record, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spf {
    pub terms: Vec<(Qualifier, Mechanism)>,
    pub redirect: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qualifier {
    Pass,
    Fail,
    SoftFail,
    Neutral,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mechanism {
    All,
    Include(String),
    /// The addresses of a domain (`None`: the one whose record it is), widened to networks.
    A {
        domain: Option<String>,
        v4: u8,
        v6: u8,
    },
    Mx {
        domain: Option<String>,
        v4: u8,
        v6: u8,
    },
    Ptr,
    Exists(String),
    Network {
        address: IpAddr,
        prefix: u8,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpfError {
    #[error("it does not begin with v=spf1 and a space")]
    Version,
    #[error("{} {what}", quoted(.term))]
    Term { term: String, what: &'static str },
    #[error("it has more than {TERMS_MAX} terms")]
    TooLong,
}

/// RFC 7208 4.5: a text that is an SPF record, good or bad.
fn is_spf(text: &str) -> bool {
    let version = text.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("v=spf1"));
    version && matches!(text.as_bytes().get(6), None | Some(b' '))
}

/// A text that means to be one: `v = spf1`, `spf1 …`, `v=spf1include:…`, `"v=spf1 …"`, `v=spf2 …`.
fn is_almost_spf(text: &str) -> bool {
    let start: String =
        text.chars().filter(|c| !c.is_whitespace() && !matches!(c, '"' | '\'' | '\\')).take(6).collect();
    let start = start.to_ascii_lowercase();
    !is_spf(text) && (start.starts_with("v=spf") || start.starts_with("spf1") || start.starts_with("spf="))
}

impl Spf {
    pub fn parse(text: &str) -> Result<Spf, SpfError> {
        if !is_spf(text) {
            return Err(SpfError::Version);
        }
        let mut spf = Spf { terms: Vec::new(), redirect: None };
        for (index, term) in text[6..].split(' ').filter(|term| !term.is_empty()).enumerate() {
            if index == TERMS_MAX {
                return Err(SpfError::TooLong);
            }
            let wrong = |what| SpfError::Term { term: term.to_owned(), what };
            if let Some((name, value)) = modifier(term) {
                if name.eq_ignore_ascii_case("redirect") {
                    if spf.redirect.is_some() {
                        return Err(wrong("is there twice"));
                    }
                    spf.redirect = Some(domain_spec(value).ok_or_else(|| wrong("names no domain"))?);
                }
                // RFC 7208 6: others, such as exp=, are passed over.
                continue;
            }
            let (qualifier, rest) = match term.as_bytes()[0] {
                b'+' => (Qualifier::Pass, &term[1..]),
                b'-' => (Qualifier::Fail, &term[1..]),
                b'~' => (Qualifier::SoftFail, &term[1..]),
                b'?' => (Qualifier::Neutral, &term[1..]),
                _ => (Qualifier::Pass, term),
            };
            spf.terms.push((qualifier, mechanism(rest).map_err(wrong)?));
        }
        Ok(spf)
    }

    fn all(&self) -> Option<Qualifier> {
        self.terms.iter().find(|(_, mechanism)| *mechanism == Mechanism::All).map(|(qualifier, _)| *qualifier)
    }
}

/// `name=value`, where the name is one; a `=` in the value of a mechanism does not make it a modifier.
fn modifier(term: &str) -> Option<(&str, &str)> {
    let (name, value) = term.split_once('=')?;
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    is_name.then_some((name, value))
}

fn mechanism(text: &str) -> Result<Mechanism, &'static str> {
    let end = text.find([':', '/']).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let value = rest.strip_prefix(':');
    let domain = || value.and_then(domain_spec).ok_or("names no domain");
    match name.to_ascii_lowercase().as_str() {
        "all" if rest.is_empty() => Ok(Mechanism::All),
        "all" => Err("must be nothing but all"),
        "include" => domain().map(Mechanism::Include),
        "exists" => domain().map(Mechanism::Exists),
        "ptr" if rest.is_empty() || domain().is_ok() => Ok(Mechanism::Ptr),
        "ptr" => Err("names no domain"),
        "ip4" => network(value.unwrap_or_default(), true).ok_or("is no IPv4 address or network"),
        "ip6" => network(value.unwrap_or_default(), false).ok_or("is no IPv6 address or network"),
        "a" => targeted(rest).map(|(domain, v4, v6)| Mechanism::A { domain, v4, v6 }),
        "mx" => targeted(rest).map(|(domain, v4, v6)| Mechanism::Mx { domain, v4, v6 }),
        _ => Err("is no term of SPF"),
    }
}

/// `[:domain][/v4][//v6]`
fn targeted(rest: &str) -> Result<(Option<String>, u8, u8), &'static str> {
    let (domain, lengths) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let domain = match domain.strip_prefix(':') {
        None => None,
        Some(domain) => Some(domain_spec(domain).ok_or("names no domain")?),
    };
    let (v4, v6) = match lengths.split_once("//") {
        Some((v4, v6)) => (v4.strip_prefix('/'), Some(v6)),
        None => (lengths.strip_prefix('/'), None),
    };
    let length = |text: Option<&str>, max: u8| match text {
        None => Some(max),
        Some(text) => prefix(text, max),
    };
    let wrong = "has a wrong network length";
    Ok((domain, length(v4, 32).ok_or(wrong)?, length(v6, 128).ok_or(wrong)?))
}

fn network(text: &str, v4: bool) -> Option<Mechanism> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let (address, max): (IpAddr, u8) = match v4 {
        true => (address.parse::<Ipv4Addr>().ok()?.into(), 32),
        false => (address.parse::<Ipv6Addr>().ok()?.into(), 128),
    };
    let prefix = match length {
        None => max,
        Some(length) => prefix(length, max)?,
    };
    Some(Mechanism::Network { address, prefix })
}

fn prefix(text: &str, max: u8) -> Option<u8> {
    let digits = text.len() <= 3 && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|length| digits && *length <= max)
}

fn domain_spec(text: &str) -> Option<String> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let good = text.contains('.') && text.len() <= 253 && text.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
    (good || (has_macro(text) && !text.is_empty())).then(|| text.to_ascii_lowercase())
}

fn has_macro(domain: &str) -> bool {
    domain.contains('%')
}

/// What a domain publishes.
enum Published {
    One(Spf, String),
    /// RFC 7208 4.5: several, or one that cannot be read, end the evaluation.
    Broken(Flaw, String),
    None,
    Later(String),
}

fn published(known: &mut Known, domain: &str) -> Option<Published> {
    let texts = match known.ask(Kind::Txt, domain)? {
        Answer::Texts(texts) => texts,
        Answer::Later(why) => return Some(Published::Later(why)),
        _ => return Some(Published::None),
    };
    let records: Vec<&String> = texts.iter().filter(|text| is_spf(text)).collect();
    Some(match records[..] {
        [] => Published::None,
        [one] => match Spf::parse(one) {
            Ok(spf) => Published::One(spf, one.clone()),
            Err(why) => Published::Broken(Flaw::Unreadable, why.to_string()),
        },
        _ => Published::Broken(Flaw::SeveralRecords, format!("it has {} SPF records", records.len())),
    })
}

/// The plan: find the one record; read it and all that it refers to for what makes receivers give up; evaluate it for each
/// of our sources; say what is missing, with the record as it should be.
pub(super) fn judge(checked: &mut Checked, sources: &[SpfSource], known: &mut Known) -> Option<()> {
    let name = checked.name.clone();
    let texts = match known.ask(Kind::Txt, &name)? {
        Answer::Texts(texts) => texts,
        Answer::Later(why) => {
            later(checked, &why);
            return Some(());
        }
        _ => Vec::new(),
    };
    let records: Vec<&String> = texts.iter().filter(|text| is_spf(text)).collect();
    checked.found = shown(records.iter().copied());
    let (spf, record) = match published(known, &name)? {
        Published::One(spf, record) => (spf, record),
        Published::None => {
            if let Some(almost) = texts.iter().find(|text| is_almost_spf(text)) {
                checked.found = vec![quoted(almost)];
                let words = format!(
                    "the TXT record at {name} means to be SPF, but receivers do not take it for that: {}. It must begin with v=spf1 \
                     and a space, without quotation marks, as in: {}",
                    quoted(almost),
                    checked.value
                );
                checked.say(Flaw::AlmostRecord, State::Wrong, words);
                return Some(());
            }
            let Ok(domain) = Domain::parse(&name) else {
                return Some(());
            };
            let value = checked.value.clone();
            let holds = move |answer: &Answer| matches!(answer, Answer::Texts(texts) if texts.contains(&value));
            return absent(checked, &domain, known, &holds);
        }
        Published::Broken(Flaw::SeveralRecords, _) => {
            let words = format!(
                "{name} has {} SPF records, and receivers then take none. Put all their terms into one: {}",
                records.len(),
                merged(&records, sources)
            );
            checked.say(Flaw::SeveralRecords, State::Wrong, words);
            return Some(());
        }
        Published::Broken(flaw, why) => {
            let words =
                format!("the SPF record at {name} cannot be read, and receivers then take none: {why}. Correct it");
            checked.say(flaw, State::Wrong, words);
            return Some(());
        }
        Published::Later(why) => {
            later(checked, &why);
            return Some(());
        }
    };

    let mut survey = Survey::default();
    survey.read(known, &name, &spf, &mut Vec::new());
    let missing: Vec<Option<bool>> = sources
        .iter()
        .map(|source| match source {
            SpfSource::Include(domain) => Some(survey.included.contains(domain.as_str())),
            SpfSource::Address(address) => {
                let mut evaluation = Evaluation { known, address: address.to_canonical(), left: LOOKUPS_COUNTED_MAX };
                evaluation.of(&name, 0).map(|verdict| verdict == Verdict::Is(Qualifier::Pass))
            }
        })
        .collect();
    if survey.waiting {
        return None;
    }
    let missing: Option<Vec<bool>> = missing.into_iter().map(|allowed| allowed.map(|allowed| !allowed)).collect();
    let missing = missing?;
    say_missing(checked, &record, sources, &missing, &survey);
    say_survey(checked, &survey);
    say_ending(checked, &spf);
    Some(())
}

fn say_missing(checked: &mut Checked, record: &str, sources: &[SpfSource], missing: &[bool], survey: &Survey) {
    let missing: Vec<&SpfSource> =
        sources.iter().zip(missing).filter(|(_, missing)| **missing).map(|(source, _)| source).collect();
    if missing.is_empty() {
        return;
    }
    // What cannot be looked up now may allow what seems missing.
    let state = if survey.later.is_some() { State::NotCheckableNow } else { State::Wrong };
    let words = format!(
        "the SPF record at {} does not allow {}: it says {}. Make it: {}",
        checked.name,
        terms_of(missing.iter().copied()).trim_end(),
        quoted(record),
        escaped(&mended(record, &missing), MENDED_SHOWN_MAX)
    );
    checked.say(Flaw::SourceNotAllowed, state, words);
}

fn say_survey(checked: &mut Checked, survey: &Survey) {
    let name = checked.name.clone();
    let count = survey.lookups.len();
    if count > LOOKUPS_MAX {
        let more = if count > LOOKUPS_COUNTED_MAX { "more than " } else { "" };
        let words = format!(
            "the SPF record at {name} needs {more}{} look-ups, and receivers give up after {LOOKUPS_MAX}: {}. Remove what no \
             longer sends, or name addresses with ip4: and ip6:",
            count.min(LOOKUPS_COUNTED_MAX),
            survey.lookups.iter().take(LOOKUPS_COUNTED_MAX).map(|term| shortened(term)).collect::<Vec<_>>().join(", ")
        );
        checked.say(Flaw::TooManyLookups, State::Wrong, words);
    }
    for (domain, why) in &survey.broken {
        let words = format!(
            "the SPF record at {name} refers to {}, and {why}: receivers then take none of it. Remove that reference",
            quoted(domain)
        );
        checked.say(Flaw::IncludeBroken, State::Wrong, words);
    }
    if survey.voids.len() > VOIDS_MAX {
        let words = format!(
            "the SPF record at {name} names {} hosts that have no address, and receivers may give up after {VOIDS_MAX}: {}. Remove \
             them",
            survey.voids.len(),
            survey.voids.iter().map(|name| shortened(name)).collect::<Vec<_>>().join(", ")
        );
        checked.say(Flaw::VoidLookups, State::Wrong, words);
    }
    for (domain, term) in &survey.open_doors {
        let words = format!(
            "{} at {} lets everybody send as {name}, and receivers distrust such a domain. End the record with ~all or -all",
            quoted(term),
            quoted(domain)
        );
        checked.say(Flaw::LetsEverybody, State::Wrong, words);
    }
    if survey.uses_ptr {
        let words =
            format!("the SPF record at {name} uses ptr, which many receivers pass over. Name the addresses instead");
        checked.say(Flaw::UsesPtr, State::Good, words);
    }
    if let Some((domain, why)) = &survey.later {
        let words = format!(
            "the SPF record at {name} refers to {}, which cannot be looked up now: {}",
            quoted(domain),
            shortened(why)
        );
        checked.say(Flaw::Later, State::NotCheckableNow, words);
    }
}

fn say_ending(checked: &mut Checked, spf: &Spf) {
    let name = checked.name.clone();
    match spf.all() {
        None if spf.redirect.is_none() => {
            let words = format!("the SPF record at {name} says nothing of all others. End it with ~all or -all");
            checked.say(Flaw::OpenEnded, State::Good, words);
        }
        Some(Qualifier::Neutral) => {
            let words =
                format!("the SPF record at {name} ends in ?all, which protects nothing. End it with ~all or -all");
            checked.say(Flaw::OpenEnded, State::Good, words);
        }
        Some(_) if !matches!(spf.terms.last(), Some((_, Mechanism::All))) => {
            let words = format!(
                "the SPF record at {name} goes on after all, and receivers do not read on. Move all to its end"
            );
            checked.say(Flaw::AfterAll, State::Good, words);
        }
        _ => {}
    }
}

/// The record with more terms, before it comes to others.
fn mended(record: &str, missing: &[&SpfSource]) -> String {
    let mut terms: Vec<String> = record.split(' ').filter(|term| !term.is_empty()).map(str::to_owned).collect();
    let ends = |term: &String| {
        let bare = term.trim_start_matches(['+', '-', '~', '?']);
        bare.eq_ignore_ascii_case("all") || term.get(..9).is_some_and(|start| start.eq_ignore_ascii_case("redirect="))
    };
    let at = terms.iter().position(ends).unwrap_or(terms.len());
    for (index, source) in missing.iter().enumerate() {
        terms.insert(at + index, source.to_string());
    }
    terms.join(" ")
}

/// All records' terms, each once, the strictest ending; and ours.
fn merged(records: &[&String], sources: &[SpfSource]) -> String {
    let mut terms: Vec<String> = Vec::new();
    let mut ending = "~all";
    let ours = sources.iter().map(ToString::to_string);
    let theirs = records.iter().flat_map(|record| record.split(' ').skip(1)).map(str::to_owned);
    for term in theirs.chain(ours).filter(|term| !term.is_empty()) {
        let bare = term.trim_start_matches(['+', '-', '~', '?']);
        if bare.eq_ignore_ascii_case("all") {
            ending = if term.starts_with('-') { "-all" } else { ending };
        } else if !terms.contains(&term) {
            terms.push(term);
        }
    }
    escaped(&format!("v=spf1 {} {ending}", terms.join(" ")), MENDED_SHOWN_MAX)
}

/// What reading a record, and all it refers to, brings to light.
#[derive(Default)]
struct Survey {
    /// Something has to be asked first.
    waiting: bool,
    /// Each term that costs a look-up, in the order in which receivers come to it.
    lookups: Vec<String>,
    included: BTreeSet<String>,
    voids: Vec<String>,
    /// Domains referred to without a record that can be used, and why.
    broken: Vec<(String, String)>,
    /// Which domain's record lets everybody pass, by which term.
    open_doors: Vec<(String, String)>,
    uses_ptr: bool,
    later: Option<(String, String)>,
}

impl Survey {
    fn read(&mut self, known: &mut Known, domain: &str, spf: &Spf, path: &mut Vec<String>) {
        path.push(domain.to_owned());
        for (qualifier, mechanism) in &spf.terms {
            if self.lookups.len() > LOOKUPS_COUNTED_MAX {
                break;
            }
            match mechanism {
                Mechanism::All => {
                    if *qualifier == Qualifier::Pass {
                        self.open_door(domain, "+all");
                    }
                    // Whatever follows is not read by anybody.
                    path.pop();
                    return;
                }
                Mechanism::Network { prefix: 0, address } if *qualifier == Qualifier::Pass => {
                    self.open_door(domain, &format!("{address}/0"));
                }
                Mechanism::Network { .. } => {}
                Mechanism::Include(other) => {
                    self.lookups.push(format!("include:{other}"));
                    self.follow(known, other, *qualifier, path);
                }
                Mechanism::A { domain: of, .. } => {
                    let of = of.as_deref().unwrap_or(domain);
                    self.lookups.push(format!("a:{of}"));
                    self.try_for_void(known, Kind::Addresses, of);
                }
                Mechanism::Mx { domain: of, .. } => {
                    let of = of.as_deref().unwrap_or(domain);
                    self.lookups.push(format!("mx:{of}"));
                    self.try_for_void(known, Kind::Mx, of);
                }
                Mechanism::Exists(of) => self.lookups.push(format!("exists:{of}")),
                Mechanism::Ptr => {
                    self.lookups.push("ptr".to_owned());
                    self.uses_ptr = true;
                }
            }
        }
        if let Some(other) = &spf.redirect
            && self.lookups.len() <= LOOKUPS_COUNTED_MAX
        {
            self.lookups.push(format!("redirect={other}"));
            self.follow(known, other, Qualifier::Pass, path);
        }
        path.pop();
    }

    fn follow(&mut self, known: &mut Known, other: &str, qualifier: Qualifier, path: &mut Vec<String>) {
        if has_macro(other) {
            return;
        }
        if qualifier == Qualifier::Pass {
            self.included.insert(other.to_owned());
        }
        if path.iter().any(|above| above == other) {
            self.broken(other, "it leads back to itself".to_owned());
            return;
        }
        if path.len() > DEPTH_MAX {
            return;
        }
        match published(known, other) {
            None => self.waiting = true,
            Some(Published::One(spf, _)) => self.read(known, other, &spf, path),
            Some(Published::None) => self.broken(other, "that has no SPF record".to_owned()),
            Some(Published::Broken(_, why)) => self.broken(other, format!("its record cannot be used: {why}")),
            Some(Published::Later(why)) => self.later = self.later.take().or(Some((other.to_owned(), why))),
        }
    }

    fn broken(&mut self, domain: &str, why: String) {
        if !self.broken.iter().any(|(known, _)| known == domain) {
            self.broken.push((domain.to_owned(), why));
        }
    }

    fn open_door(&mut self, domain: &str, term: &str) {
        if !self.open_doors.iter().any(|(known, _)| known == domain) {
            self.open_doors.push((domain.to_owned(), term.to_owned()));
        }
    }

    fn try_for_void(&mut self, known: &mut Known, kind: Kind, name: &str) {
        if has_macro(name) {
            return;
        }
        match known.ask(kind, name) {
            None => self.waiting = true,
            Some(Answer::NoData | Answer::NoSuchName) => self.voids.push(name.to_owned()),
            Some(_) => {}
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Is(Qualifier),
    /// RFC 7208 2.6: permerror, or none; temperror, or what depends on the message.
    Broken,
    Unknown,
}

/// RFC 7208 4 and 5, `check_host` for one address. `None` when something has to be asked first.
struct Evaluation<'k> {
    known: &'k mut Known,
    address: IpAddr,
    left: usize,
}

impl Evaluation<'_> {
    fn of(&mut self, domain: &str, depth: usize) -> Option<Verdict> {
        if depth > DEPTH_MAX {
            return Some(Verdict::Broken);
        }
        let spf = match published(self.known, domain)? {
            Published::One(spf, _) => spf,
            Published::Later(_) => return Some(Verdict::Unknown),
            Published::None | Published::Broken(..) => return Some(Verdict::Broken),
        };
        for (qualifier, mechanism) in &spf.terms {
            let matches = match mechanism {
                Mechanism::All => true,
                Mechanism::Network { address, prefix } => self.is_in(*address, *prefix, *prefix),
                Mechanism::Include(other) => {
                    self.left = self.left.saturating_sub(1);
                    if self.left == 0 {
                        return Some(Verdict::Broken);
                    }
                    match if has_macro(other) { Verdict::Unknown } else { self.of(other, depth + 1)? } {
                        Verdict::Is(qualifier) => qualifier == Qualifier::Pass,
                        ends => return Some(ends),
                    }
                }
                Mechanism::A { domain: of, v4, v6 } => self.has(of.as_deref().unwrap_or(domain), *v4, *v6)?,
                Mechanism::Mx { domain: of, v4, v6 } => {
                    let hosts = match self.known.ask(Kind::Mx, of.as_deref().unwrap_or(domain))? {
                        Answer::Hosts(hosts) => hosts,
                        _ => Vec::new(),
                    };
                    let found: Vec<Option<bool>> =
                        hosts.iter().take(MX_HOSTS_MAX).map(|(_, host)| self.has(host, *v4, *v6)).collect();
                    found.into_iter().collect::<Option<Vec<bool>>>()?.contains(&true)
                }
                // They depend on the message, or on what others say of the address.
                Mechanism::Ptr | Mechanism::Exists(_) => false,
            };
            if matches {
                return Some(Verdict::Is(*qualifier));
            }
        }
        match &spf.redirect {
            Some(other) if !has_macro(other) => {
                self.left = self.left.saturating_sub(1);
                if self.left == 0 { Some(Verdict::Broken) } else { self.of(other, depth + 1) }
            }
            Some(_) => Some(Verdict::Unknown),
            None => Some(Verdict::Is(Qualifier::Neutral)),
        }
    }

    fn has(&mut self, host: &str, v4: u8, v6: u8) -> Option<bool> {
        if has_macro(host) {
            return Some(false);
        }
        Some(match self.known.ask(Kind::Addresses, host)? {
            Answer::Addresses(addresses) => addresses.iter().any(|address| self.is_in(*address, v4, v6)),
            _ => false,
        })
    }

    fn is_in(&self, network: IpAddr, v4: u8, v6: u8) -> bool {
        match (network, self.address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                (u32::from(a) ^ u32::from(b)).checked_shr(32 - u32::from(v4.min(32))).unwrap_or(0) == 0
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                (u128::from(a) ^ u128::from(b)).checked_shr(128 - u32::from(v6.min(128))).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}
