//! What does a domain want done with mail that is not its own (RFC 7489), and is ours taken for its own?
//!
//! Which domain two others belong to is found by going up from each (as in DMARC's successor, draft-ietf-dmarc-dmarcbis 4.10)
//! and not from the public suffix list: the shortest name above it that has a policy. A list that is shipped grows old.

use super::known::{Answer, Kind, Known};
use super::tags::{Tags, TagsError};
use super::{Checked, Flaw, State, later, quoted, zones_of};
use crate::address::Domain;

/// dmarcbis 4.10: names with more labels are cut to this many, but for the first step.
const LABELS_MAX: usize = 8;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dmarc {
    pub policy: DmarcPolicy,
    /// For names below the domain.
    pub subdomain_policy: Option<DmarcPolicy>,
    pub dkim: Alignment,
    pub spf: Alignment,
    /// How much of the mail the policy is for, in hundredths.
    pub percent: u8,
    pub reports_to: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DmarcPolicy {
    None,
    Quarantine,
    Reject,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alignment {
    Relaxed,
    Strict,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DmarcError {
    #[error(transparent)]
    Tags(#[from] TagsError),
    #[error("it does not begin with v=DMARC1")]
    Version,
    #[error("p=, the policy, is missing")]
    NoPolicy,
    #[error("{}= is not none, quarantine or reject", .0)]
    Policy(&'static str),
    #[error("{}= is not r or s", .0)]
    Alignment(&'static str),
    #[error("pct= is not a number up to 100")]
    Percent,
}

impl Dmarc {
    /// Stricter than receivers, who pass over what they cannot read in an optional tag: its author means something by it.
    pub fn parse(text: &str) -> Result<Dmarc, DmarcError> {
        let tags = Tags::parse(text)?;
        if tags.first() != Some(("v", "DMARC1")) {
            return Err(DmarcError::Version);
        }
        let policy = |name| match tags.get(name).map(str::to_ascii_lowercase).as_deref() {
            None => Ok(None),
            Some("none") => Ok(Some(DmarcPolicy::None)),
            Some("quarantine") => Ok(Some(DmarcPolicy::Quarantine)),
            Some("reject") => Ok(Some(DmarcPolicy::Reject)),
            Some(_) => Err(DmarcError::Policy(name)),
        };
        let alignment = |name| match tags.get(name).map(str::to_ascii_lowercase).as_deref() {
            None | Some("r") => Ok(Alignment::Relaxed),
            Some("s") => Ok(Alignment::Strict),
            Some(_) => Err(DmarcError::Alignment(name)),
        };
        let percent = match tags.get("pct") {
            None => 100,
            Some(text) => text.parse().ok().filter(|percent| *percent <= 100).ok_or(DmarcError::Percent)?,
        };
        let uris = tags.get("rua").unwrap_or_default().split(',').map(str::trim).filter(|uri| !uri.is_empty());
        Ok(Dmarc {
            policy: policy("p")?.ok_or(DmarcError::NoPolicy)?,
            subdomain_policy: policy("sp")?,
            dkim: alignment("adkim")?,
            spf: alignment("aspf")?,
            percent,
            reports_to: uris.map(str::to_owned).collect(),
        })
    }
}

/// RFC 7489 6.6.3: whatever does not begin so is not looked at.
fn is_dmarc(text: &str) -> bool {
    let text = text.trim_start();
    let version = text.split(';').next().unwrap_or_default();
    version.split_once('=').is_some_and(|(v, one)| v.trim() == "v" && one.trim() == "DMARC1")
}

fn is_almost_dmarc(text: &str) -> bool {
    let start: String =
        text.chars().filter(|c| !c.is_whitespace() && !matches!(c, '"' | '\'' | '\\')).take(8).collect();
    !is_dmarc(text) && (start.to_ascii_lowercase().starts_with("v=dmarc") || text.contains("p="))
}

enum Published {
    One(Dmarc, String),
    Unreadable(String, String),
    Several(usize),
    Almost(String),
    None,
    Later(String),
}

fn published(known: &mut Known, domain: &str) -> Option<Published> {
    let texts = match known.ask(Kind::Txt, &format!("_dmarc.{domain}"))? {
        Answer::Texts(texts) => texts,
        Answer::Later(why) => return Some(Published::Later(why)),
        _ => return Some(Published::None),
    };
    let records: Vec<&String> = texts.iter().filter(|text| is_dmarc(text)).collect();
    Some(match records[..] {
        [] => match texts.iter().find(|text| is_almost_dmarc(text)) {
            Some(almost) => Published::Almost(almost.clone()),
            None => Published::None,
        },
        [one] => match Dmarc::parse(one) {
            Ok(dmarc) => Published::One(dmarc, one.clone()),
            Err(why) => Published::Unreadable(one.clone(), why.to_string()),
        },
        _ => Published::Several(records.len()),
    })
}

/// The shortest name at or above a domain that has a policy; the domain itself where none has. `None` when something has to
/// be asked first.
fn organisation(known: &mut Known, domain: &Domain) -> Option<String> {
    let labels = domain.as_str().split('.').count();
    let above = std::iter::successors(Some(domain.as_str()), |name| name.split_once('.').map(|(_, rest)| rest));
    let kept = above.enumerate().filter(|(index, name)| {
        let left = labels - index;
        // A top-level domain is nobody's.
        name.contains('.') && (*index == 0 || left < LABELS_MAX)
    });
    // All are asked for at once, and only then is one waited for.
    let found: Vec<(&str, Option<bool>)> = kept
        .map(|(_, name)| (name, published(known, name).map(|published| matches!(published, Published::One(..)))))
        .collect();
    let mut shortest = domain.as_str();
    for (name, has) in found {
        if has? {
            shortest = name;
        }
    }
    Some(shortest.to_owned())
}

pub(super) fn judge(
    checked: &mut Checked,
    domain: &Domain,
    return_path: &Domain,
    signing: &[Domain],
    known: &mut Known,
) -> Option<()> {
    // Asked for together.
    let own = organisation(known, domain);
    let return_path_of = organisation(known, return_path);
    let signing_of: Vec<Option<String>> = signing.iter().map(|domain| organisation(known, domain)).collect();
    let (own, return_path_of) = (own?, return_path_of?);
    let signing_of: Vec<String> = signing_of.into_iter().collect::<Option<_>>()?;

    let name = checked.name.clone();
    let mut found = published(known, domain.as_str())?;
    let mut at = domain.as_str();
    if matches!(found, Published::None) && own != domain.as_str() {
        at = &own;
        found = published(known, &own)?;
    }
    let (dmarc, record) = match found {
        Published::One(dmarc, record) => (dmarc, record),
        Published::Later(why) => {
            later(checked, &why);
            return Some(());
        }
        Published::None => return none(checked, domain, known),
        Published::Several(count) => {
            let words = format!("{name} has {count} DMARC records, and receivers then take none. Keep one");
            checked.say(Flaw::SeveralRecords, State::Wrong, words);
            return Some(());
        }
        Published::Almost(text) => {
            checked.found = vec![quoted(&text)];
            let words = format!(
                "the TXT record at {name} means to be DMARC, but receivers do not take it for that: {}. It must begin with \
                 v=DMARC1; and have no quotation marks in it, as in: {}",
                quoted(&text),
                checked.value
            );
            checked.say(Flaw::AlmostRecord, State::Wrong, words);
            return Some(());
        }
        Published::Unreadable(text, why) => {
            checked.found = vec![quoted(&text)];
            let words = format!(
                "the DMARC record at {name} is not as it must be, and receivers pass over it, or over its policy: {why}. Correct \
                 it"
            );
            checked.say(Flaw::Unreadable, State::Wrong, words);
            return Some(());
        }
    };
    checked.found = vec![quoted(&record)];
    let policy = if at == domain.as_str() { dmarc.policy } else { dmarc.subdomain_policy.unwrap_or(dmarc.policy) };
    if at != domain.as_str() {
        checked.say(
            Flaw::Inherited,
            State::Good,
            format!("{domain} has the DMARC policy of {at}, having none of its own"),
        );
    }
    say_policy(checked, at, &dmarc, policy);

    let aligned = |other: &Domain, organisation: &str, how: Alignment| {
        other == domain || (how == Alignment::Relaxed && (organisation == own || within(other, domain)))
    };
    let by_spf = aligned(return_path, &return_path_of, dmarc.spf);
    let by_dkim = signing.iter().zip(&signing_of).any(|(other, organisation)| aligned(other, organisation, dmarc.dkim));
    say_alignment(checked, domain, return_path, signing, &dmarc, (by_spf, by_dkim));
    Some(())
}

/// One is the other, or stands below it.
fn within(a: &Domain, b: &Domain) -> bool {
    let below = |a: &str, b: &str| b.contains('.') && a.strip_suffix(b).is_some_and(|rest| rest.ends_with('.'));
    a == b || below(a.as_str(), b.as_str()) || below(b.as_str(), a.as_str())
}

/// Nothing stands there, nor above.
fn none(checked: &mut Checked, domain: &Domain, known: &mut Known) -> Option<()> {
    let name = checked.name.clone();
    let asked: Vec<(&str, Option<Answer>)> =
        zones_of(domain).map(|zone| (zone, known.ask(Kind::Txt, &format!("{name}.{zone}")))).collect();
    for (zone, answer) in asked {
        if let Answer::Texts(texts) = answer?
            && texts.iter().any(|text| is_dmarc(text))
        {
            let short = name.strip_suffix(zone).map_or(&*name, |rest| rest.trim_end_matches('.'));
            let words = format!(
                "the DMARC record stands at {name}.{zone}, with {zone} in it twice: your DNS host adds {zone} by itself. Enter \
                 {short} as its name"
            );
            checked.say(Flaw::NameTwice, State::Missing, words);
            return Some(());
        }
    }
    if let Answer::Texts(texts) = known.ask(Kind::Txt, domain.as_str())?
        && texts.iter().any(|text| is_dmarc(text))
    {
        let words = format!("a DMARC record stands at {domain} itself, where nobody looks for it. Move it to {name}");
        checked.say(Flaw::NoRecord, State::Missing, words);
        return Some(());
    }
    let words = format!(
        "{domain} has no DMARC record. Large providers want one from whoever sends them thousands of messages a day. Publish at \
         {name}: {}",
        checked.value
    );
    checked.say(Flaw::NoRecord, State::Missing, words);
    Some(())
}

fn say_policy(checked: &mut Checked, at: &str, dmarc: &Dmarc, policy: DmarcPolicy) {
    if policy == DmarcPolicy::None {
        let words = format!(
            "the DMARC policy of {at} is none: forged mail is let through. Once the reports show that all your mail passes, make \
             it quarantine, and then reject"
        );
        checked.say(Flaw::PolicyNone, State::Good, words);
    } else if dmarc.percent < 100 {
        let words = format!(
            "the DMARC policy of {at} is for {} % of the mail; some receivers pass over pct=. Remove it",
            dmarc.percent
        );
        checked.say(Flaw::PolicyPartly, State::Good, words);
    }
    let mails = |uri: &String| uri.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("mailto:"));
    if !dmarc.reports_to.iter().any(mails) {
        let words = format!(
            "the DMARC record of {at} asks for no reports, so nobody sees whose mail fails. Add: rua=mailto: and an address of \
             yours"
        );
        checked.say(Flaw::NoReports, State::Good, words);
    }
}

/// DMARC passes by SPF or by DKIM. One of them is enough until forwarding breaks SPF, or a change of the text DKIM.
fn say_alignment(
    checked: &mut Checked,
    domain: &Domain,
    return_path: &Domain,
    signing: &[Domain],
    dmarc: &Dmarc,
    (by_spf, by_dkim): (bool, bool),
) {
    let how = |alignment: Alignment| match alignment {
        Alignment::Relaxed => "of the same organisation",
        Alignment::Strict => "exactly the same, as its DMARC record demands",
    };
    let keys = match signing {
        [] => "not signed at all".to_owned(),
        signing => {
            format!("signed by {}", signing.iter().map(Domain::as_str).collect::<Vec<_>>().join(", "))
        }
    };
    match (by_spf, by_dkim) {
        (true, true) => {}
        (false, false) => {
            let words = format!(
                "mail from {domain} fails DMARC: its return path is at {return_path}, and it is {keys}; one of them must be {}. Sign \
                 with a key of {domain}, and use a return path below {domain}",
                if dmarc.spf == Alignment::Strict && dmarc.dkim == Alignment::Strict {
                    how(Alignment::Strict)
                } else {
                    how(Alignment::Relaxed)
                }
            );
            checked.say(Flaw::NothingAligned, State::Wrong, words);
        }
        (false, true) => {
            let words = format!(
                "mail from {domain} passes DMARC by its signature alone: its return path is at {return_path}, which is not {}. Use a \
                 return path at or below {domain}",
                how(dmarc.spf)
            );
            checked.say(Flaw::ReturnPathNotAligned, State::Good, words);
        }
        (true, false) => {
            let words = format!(
                "mail from {domain} passes DMARC by its return path alone, and fails when it is forwarded: it is {keys}, which is not \
                 {}. Sign with a key of {domain}",
                how(dmarc.dkim)
            );
            checked.say(Flaw::KeyNotAligned, State::Good, words);
        }
    }
}
