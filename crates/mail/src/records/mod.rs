//! What must a domain publish, and is what it publishes right?
//!
//! Told and asked: `judge` takes what is known of the DNS and says what was found, or what it has to know first; it looks
//! nothing up itself. The words of a finding say what is wrong and how to mend it, for someone who sees the DNS through the
//! form of a web site. All texts from the DNS are strangers' and are shortened and escaped before they are repeated.

mod alias;
mod dkim_key;
mod dmarc;
mod known;
mod mx;
mod proof;
mod spf;
mod tags;

use std::fmt;

use serde::Serialize;

use crate::address::Domain;

pub use dkim_key::{DkimKey, DkimKeyError, DkimKeyKind};
pub use dmarc::{Alignment, Dmarc, DmarcError, DmarcPolicy};
pub use known::{Answer, Kind, Known, Question};
pub use spf::{Mechanism, Qualifier, Spf, SpfError, SpfSource};

/// How it is. The mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// As it should be; a finding in this state is advice.
    Good,
    /// Nothing can be said now.
    NotCheckableNow,
    Missing,
    Wrong,
}

/// One thing to be said about what is published: as a code for programs, and in words for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding<F> {
    pub flaw: F,
    /// What this alone makes of the whole.
    pub state: State,
    pub words: String,
}

/// What findings come to.
pub fn worst<F>(findings: &[Finding<F>]) -> State {
    findings.iter().map(|finding| finding.state).max().unwrap_or(State::Good)
}

/// A record that should be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A text that only who governs the domain can publish.
    Proof { name: String, domain: Domain, text: String },
    /// The public key of a signer; `record` as `dkim::Signer::record` writes it.
    DkimKey { domain: Domain, selector: String, record: String },
    /// The return path's domain takes bounces at this host, and at no other.
    ReturnPathMx { domain: Domain, host: Domain, preference: u16 },
    /// Mail from the return path's domain may come from all of these.
    Spf { domain: Domain, sources: Vec<SpfSource> },
    /// A policy for the domain in From, that what we send of it passes.
    Dmarc { domain: Domain, return_path: Domain, signing: Vec<Domain> },
    /// A name that leads to us: a tracking host, or a DKIM key that we publish for the domain.
    Alias { name: String, domain: Domain, target: Domain },
}

/// Whether mail can do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    Required,
    /// Mail goes without it, and is trusted less.
    Recommended,
}

impl Wanted {
    pub fn name(&self) -> String {
        match self {
            Wanted::Proof { name, .. } | Wanted::Alias { name, .. } => known::canonical(name),
            Wanted::DkimKey { domain, selector, .. } => known::canonical(&format!("{selector}._domainkey.{domain}")),
            Wanted::ReturnPathMx { domain, .. } | Wanted::Spf { domain, .. } => domain.to_string(),
            Wanted::Dmarc { domain, .. } => format!("_dmarc.{domain}"),
        }
    }

    pub fn kind(&self) -> Kind {
        match self {
            Wanted::ReturnPathMx { .. } => Kind::Mx,
            Wanted::Alias { .. } => Kind::Cname,
            Wanted::Proof { .. } | Wanted::DkimKey { .. } | Wanted::Spf { .. } | Wanted::Dmarc { .. } => Kind::Txt,
        }
    }

    /// What to publish where nothing is yet.
    pub fn value(&self) -> String {
        match self {
            Wanted::Proof { text, .. } => text.clone(),
            Wanted::DkimKey { record, .. } => record.clone(),
            Wanted::ReturnPathMx { host, preference, .. } => format!("{preference} {host}"),
            Wanted::Spf { sources, .. } => spf::record_for(sources),
            Wanted::Dmarc { .. } => "v=DMARC1; p=none".to_owned(),
            Wanted::Alias { target, .. } => target.to_string(),
        }
    }

    pub fn need(&self) -> Need {
        match self {
            Wanted::Dmarc { .. } => Need::Recommended,
            _ => Need::Required,
        }
    }

    fn domain(&self) -> &Domain {
        match self {
            Wanted::Proof { domain, .. }
            | Wanted::DkimKey { domain, .. }
            | Wanted::ReturnPathMx { domain, .. }
            | Wanted::Spf { domain, .. }
            | Wanted::Dmarc { domain, .. }
            | Wanted::Alias { domain, .. } => domain,
        }
    }
}

/// What became of a wanted record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checked {
    pub name: String,
    pub kind: Kind,
    /// What to publish where nothing is yet.
    pub value: String,
    pub need: Need,
    /// What stands there, safe to show.
    pub found: Vec<String>,
    pub findings: Vec<Finding<Flaw>>,
}

impl Checked {
    pub fn state(&self) -> State {
        worst(&self.findings)
    }

    fn say(&mut self, flaw: Flaw, state: State, words: impl fmt::Display) {
        self.findings.push(Finding { flaw, state, words: words.to_string() });
    }
}

/// What can be said about a record. Which states a flaw can be in, its own module decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flaw {
    // Of any record.
    NoRecord,
    Later,
    /// It stands at a name with the domain in it twice.
    NameTwice,
    /// What stands there comes from a record for all names.
    Wildcard,
    OtherText,
    QuotesInside,
    BackslashesInside,
    // DKIM keys.
    SplitInTwo,
    CutOff,
    OtherKey,
    OtherKeyKind,
    NotAKey,
    SeveralKeys,
    Revoked,
    Testing,
    ForbidsHash,
    ForbidsMail,
    WeakKey,
    // Mail hosts.
    OtherHost,
    SeveralHosts,
    NullMx,
    OtherPreference,
    // SPF and DMARC.
    SeveralRecords,
    AlmostRecord,
    Unreadable,
    SourceNotAllowed,
    TooManyLookups,
    VoidLookups,
    IncludeBroken,
    LetsEverybody,
    OpenEnded,
    UsesPtr,
    AfterAll,
    PolicyNone,
    PolicyPartly,
    NoReports,
    Inherited,
    ReturnPathNotAligned,
    KeyNotAligned,
    NothingAligned,
    // Aliases.
    OtherTarget,
    AddressInstead,
    AliasCircle,
    Flattened,
}

/// What `judge` comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judged {
    Done(Checked),
    /// These have to be told first; never empty.
    Ask(Vec<Question>),
}

/// Judges one wanted record by what is known. To be called again when what it asked for has been told.
pub fn judge(wanted: &Wanted, known: &mut Known) -> Judged {
    let mut checked = Checked {
        name: wanted.name(),
        kind: wanted.kind(),
        value: wanted.value(),
        need: wanted.need(),
        found: Vec::new(),
        findings: Vec::new(),
    };
    let done = match wanted {
        Wanted::Proof { text, .. } => proof::judge(&mut checked, wanted.domain(), text, known),
        Wanted::DkimKey { record, .. } => dkim_key::judge(&mut checked, wanted.domain(), record, known),
        Wanted::ReturnPathMx { host, preference, .. } => {
            mx::judge(&mut checked, wanted.domain(), host, *preference, known)
        }
        Wanted::Spf { sources, .. } => spf::judge(&mut checked, sources, known),
        Wanted::Dmarc { domain, return_path, signing } => {
            dmarc::judge(&mut checked, domain, return_path, signing, known)
        }
        Wanted::Alias { target, .. } => alias::judge(&mut checked, wanted.domain(), target, known),
    };
    match done {
        Some(()) => Judged::Done(checked),
        None => Judged::Ask(known.take_open()),
    }
}

/// Nothing stands at the name. It may stand where a DNS host puts it that adds the domain to whatever is typed in: at
/// `s1._domainkey.example.com.example.com`.
fn absent(checked: &mut Checked, domain: &Domain, known: &mut Known, fits: &dyn Fn(&Answer) -> bool) -> Option<()> {
    let asked: Vec<(&str, Option<Answer>)> =
        zones_of(domain).map(|zone| (zone, known.ask(checked.kind, &format!("{}.{zone}", checked.name)))).collect();
    for (zone, answer) in asked {
        if fits(&answer?) {
            let (name, kind) = (checked.name.clone(), checked.kind);
            let short = name.strip_suffix(zone).map_or(&*name, |rest| rest.trim_end_matches('.'));
            let short = if short.is_empty() { "@" } else { short };
            let words = format!(
                "the {kind} record stands at {name}.{zone}, with {zone} in it twice: your DNS host adds {zone} by itself. \
                 Enter {short} as its name"
            );
            checked.say(Flaw::NameTwice, State::Missing, words);
            return Some(());
        }
    }
    let words = format!("there is no {} record at {}. Publish: {}", checked.kind, checked.name, checked.value);
    checked.say(Flaw::NoRecord, State::Missing, words);
    Some(())
}

/// A domain may be a zone of its own, or stand in that of a domain above it.
fn zones_of(domain: &Domain) -> impl Iterator<Item = &str> {
    const ZONES_MAX: usize = 4;
    std::iter::successors(Some(domain.as_str()), |name| name.split_once('.').map(|(_, above)| above))
        .take_while(|name| name.contains('.'))
        .take(ZONES_MAX)
}

/// The record that answered is none of this name, but of `*` above it: a name that nobody publishes says the same.
fn wildcard(checked: &mut Checked, texts: &[String], known: &mut Known) -> Option<()> {
    let Some((_, above)) = checked.name.split_once('.') else {
        return Some(());
    };
    let answer = known.ask(Kind::Txt, &format!("no-such-record-is-published.{above}"))?;
    if let Answer::Texts(others) = answer
        && texts.iter().all(|text| others.contains(text))
    {
        let words = format!(
            "what stands at {} comes from the record for all names, *.{above}. Publish one for {} itself; it goes before",
            checked.name, checked.name
        );
        checked.say(Flaw::Wildcard, State::Wrong, words);
    }
    Some(())
}

fn later(checked: &mut Checked, why: &str) {
    let words = format!(
        "the {} record of {} cannot be looked up now: {}. It will be looked up again",
        checked.kind,
        checked.name,
        shortened(why)
    );
    checked.say(Flaw::Later, State::NotCheckableNow, words);
}

/// The longest of a stranger's text that is repeated.
const SHOWN_MAX: usize = 200;

/// A name can have thousands of TXT records.
const FOUND_MAX: usize = 20;

fn shown<'a>(texts: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    texts.into_iter().take(FOUND_MAX).map(|text| quoted(text)).collect()
}

/// A stranger's text between quotation marks, with nothing in it that could act.
pub fn quoted(text: &str) -> String {
    format!("“{}”", shortened(text))
}

fn shortened(text: &str) -> String {
    escaped(text, SHOWN_MAX)
}

fn escaped(text: &str, octets_max: usize) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        if shown.len() >= octets_max {
            shown.push('…');
            break;
        }
        if c.is_control() || invisible(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// What turns the direction of writing, or takes no room.
fn invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Good => "good",
            State::NotCheckableNow => "not checkable now",
            State::Missing => "missing",
            State::Wrong => "wrong",
        })
    }
}

#[cfg(test)]
mod tests;
