//! What must the domain publish, and what was found?

use super::Domain;
use crate::dkim::{Algorithm, Key, KeyState, Origin};
use crate::office::Office;
use crate::refusal::{Kind, Refusal};
use engine::time::Timestamp;
use mail::address::Domain as DomainName;
use mail::records::{Checked, Need, SpfSource, State, Wanted};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What everybody suggests; with one mail host it makes no difference.
const MX_PREFERENCE: u16 = 10;
/// A record that may be taken down is mentioned for so long.
const RETIRED_SHOWN: Duration = Duration::from_secs(30 * 86_400);

/// What a record is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// Shows that the domain is the account's.
    Ownership,
    Dkim,
    /// Not to be published: it may be taken down.
    DkimRetired,
    ReturnPath,
    Spf,
    Dmarc,
    Tracking,
}

/// A record to publish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub purpose: Purpose,
    /// In full; many DNS hosts add the domain by themselves.
    pub name: String,
    /// TXT, MX, CNAME.
    pub kind: String,
    pub value: String,
    /// Mail goes without the others, and is trusted less.
    pub required: bool,
    pub state: RecordState,
    /// What stands there, safe to show.
    pub found: Vec<String>,
    /// What is wrong and how to mend it; with a good record, advice.
    pub problems: Vec<Problem>,
    /// What there is to know beside that.
    pub note: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordState {
    /// It has not been looked for yet.
    NotChecked,
    Good,
    /// The DNS gave no answer.
    NotCheckableNow,
    Missing,
    Wrong,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Stable, for programs: `name-twice`.
    pub code: String,
    pub state: RecordState,
    pub words: String,
}

impl RecordState {
    fn of(state: State) -> RecordState {
        match state {
            State::Good => RecordState::Good,
            State::NotCheckableNow => RecordState::NotCheckableNow,
            State::Missing => RecordState::Missing,
            State::Wrong => RecordState::Wrong,
        }
    }
}

/// One that is to be looked for.
pub(super) struct Asked {
    pub purpose: Purpose,
    pub wanted: Wanted,
    required: bool,
    note: Option<String>,
}

impl Asked {
    fn of(purpose: Purpose, wanted: Wanted) -> Asked {
        Asked { purpose, required: wanted.need() == Need::Required, wanted, note: None }
    }

    pub(super) fn unchecked(&self) -> Record {
        Record {
            purpose: self.purpose,
            name: self.wanted.name(),
            kind: self.wanted.kind().to_string(),
            value: self.wanted.value(),
            required: self.required,
            state: RecordState::NotChecked,
            found: Vec::new(),
            problems: Vec::new(),
            note: self.note.clone(),
        }
    }

    pub(super) fn checked(&self, checked: Checked) -> Record {
        let state = RecordState::of(checked.state());
        let problems = checked.findings.into_iter().map(|finding| Problem {
            code: serde_json::to_value(finding.flaw)
                .ok()
                .and_then(|code| Some(code.as_str()?.to_owned()))
                .unwrap_or_default(),
            state: RecordState::of(finding.state),
            words: sentence(&finding.words),
        });
        Record { state, problems: problems.collect(), found: checked.found, ..self.unchecked() }
    }

    pub(super) fn unanswered(&self, time: Duration) -> Record {
        let record = self.unchecked();
        let words = format!("The DNS gave no answer for {} within {} seconds.", record.name, time.as_secs());
        let state = RecordState::NotCheckableNow;
        Record { state, problems: vec![Problem { code: "later".to_owned(), state, words }], ..record }
    }
}

impl Record {
    /// Whether both speak of the same record.
    fn is(&self, other: &Record) -> bool {
        (self.purpose, &self.name, &self.value) == (other.purpose, &other.name, &other.value)
    }
}

fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    let first = letters.next().map(|first| first.to_uppercase().collect::<String>()).unwrap_or_default();
    // What ends with a value to copy has no full stop after it.
    first + letters.as_str()
}

/// What records of a domain point to.
pub(super) struct Ours {
    /// Its own record must name all our addresses (`include:`), and it takes bounces and shows links.
    host: DomainName,
    return_path: Option<DomainName>,
}

impl Ours {
    pub(super) fn of(office: &Office) -> Result<Ours, Refusal> {
        let host = DomainName::parse(office.host()).map_err(|error| {
            tracing::error!(host = office.host(), %error, "the name of this installation is no domain");
            Refusal::new(
                Kind::Unavailable,
                "host_unusable",
                "This installation has no name that records could point to.",
                "Ask who runs it to give it one (host).",
            )
        })?;
        Ok(Ours { host, return_path: office.return_path().cloned() })
    }
}

/// All that the domain should publish, in the order in which it matters.
pub(super) fn asked(ours: &Ours, domain: &Domain, keys: &[Key]) -> Vec<Asked> {
    let Ours { host, return_path } = ours;
    let name = &domain.name;
    let mut asked = vec![Asked::of(
        Purpose::Ownership,
        Wanted::Proof {
            name: format!("_weir.{name}"),
            domain: name.clone(),
            text: format!("weir-verification={}", domain.token),
        },
    )];
    for key in keys.iter().filter(|key| key.state != KeyState::Retired) {
        let required = is_required(key, keys);
        asked.push(Asked { required, note: note(key, keys), ..Asked::of(Purpose::Dkim, key.wanted(name)) });
    }
    let spf = |domain: &DomainName| {
        let sources = vec![SpfSource::Include(host.clone())];
        Asked::of(Purpose::Spf, Wanted::Spf { domain: domain.clone(), sources })
    };
    let return_path = match (&domain.mail_from, return_path) {
        (Some(mail_from), _) => {
            let domain = mail_from.name.clone();
            let wanted = Wanted::ReturnPathMx { domain, host: host.clone(), preference: MX_PREFERENCE };
            asked.push(Asked::of(Purpose::ReturnPath, wanted));
            asked.push(spf(&mail_from.name));
            &mail_from.name
        }
        (None, Some(return_path)) => return_path,
        // The sender's own address stands, so its domain is where SPF is looked for.
        (None, None) => {
            asked.push(spf(name));
            name
        }
    };
    let dmarc = Wanted::Dmarc { domain: name.clone(), return_path: return_path.clone(), signing: vec![name.clone()] };
    asked.push(Asked::of(Purpose::Dmarc, dmarc));
    if let Some(tracking_host) = &domain.tracking_host {
        let wanted = Wanted::Alias { name: tracking_host.to_string(), domain: name.clone(), target: host.clone() };
        asked.push(Asked::of(Purpose::Tracking, wanted));
    }
    asked
}

/// RSA keys, which all receivers know, and what the account brought itself. A successor is not, while there is one that signs.
fn is_required(key: &Key, keys: &[Key]) -> bool {
    let of_kind = |state| keys.iter().filter(move |other| other.algorithm == key.algorithm && other.state == state);
    let expected = key.algorithm == Algorithm::Rsa || key.origin == Origin::Brought;
    let first = of_kind(KeyState::Next).next().is_some_and(|newest| newest.id == key.id);
    expected && (key.state == KeyState::Active || (of_kind(KeyState::Active).next().is_none() && first))
}

fn note(key: &Key, keys: &[Key]) -> Option<String> {
    let before = keys.iter().find(|other| other.algorithm == key.algorithm && other.state == KeyState::Active);
    match (key.state, before) {
        (KeyState::Next, Some(before)) => Some(format!(
            "A new key: mail is signed with it, and not with {} any more, as soon as its record is seen. Leave the record of {} \
             until then and for 7 days after.",
            before.selector, before.selector
        )),
        (KeyState::Next, None) => Some("Mail is signed with this key as soon as its record is seen.".to_owned()),
        _ => None,
    }
}

/// The records with what was found, where it was looked for.
pub(super) fn list(ours: &Ours, domain: &Domain, keys: &[Key], report: Option<&str>, now: Timestamp) -> Vec<Record> {
    // An older program may have written it; then it is as if nothing had been looked for.
    let report: Vec<Record> = report.and_then(|report| serde_json::from_str(report).ok()).unwrap_or_default();
    let known = |record: Record| match report.iter().find(|known| known.is(&record)) {
        Some(known) => {
            let Record { state, found, problems, .. } = known.clone();
            Record { state, found, problems, ..record }
        }
        None => record,
    };
    let mut records: Vec<Record> = asked(ours, domain, keys).iter().map(|asked| known(asked.unchecked())).collect();
    records.extend(keys.iter().filter_map(|key| retired(key, &domain.name, now)));
    records
}

fn retired(key: &Key, domain: &DomainName, now: Timestamp) -> Option<Record> {
    let until = key.record_until().filter(|until| now < *until + RETIRED_SHOWN)?;
    let words = if now < until {
        format!("This key does not sign any more. Leave its record until {until}: mail that it signed is still read.")
    } else {
        "This key does not sign any more; its record can be taken down.".to_owned()
    };
    let asked = Asked { required: false, note: Some(words), ..Asked::of(Purpose::DkimRetired, key.wanted(domain)) };
    Some(asked.unchecked())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::{Ours, Purpose, RecordState, asked, list};
    use crate::dkim::{Algorithm, Key, KeyState, Origin};
    use crate::domain::{Domain, MailFrom, Proof};
    use engine::time::Timestamp;
    use mail::address::Domain as DomainName;
    use mail::records::Wanted;
    use std::time::Duration;

    const NOW: Timestamp = Timestamp(1_793_491_200_000_000);

    fn name(text: &str) -> DomainName {
        DomainName::parse(text).unwrap()
    }

    fn domain(mail_from: Option<&str>) -> Domain {
        Domain {
            id: "dom_1".into(),
            account: "acc_1".into(),
            name: name("acme.example"),
            token: "t".into(),
            proof: Proof::default(),
            mail_from: mail_from.map(|text| MailFrom { name: name(text), is_good: false }),
            tracking_host: None,
            asked_at: NOW,
            checked_at: None,
            check_at: NOW,
            revision: 1,
            created_at: NOW,
        }
    }

    fn key(selector: &str, algorithm: Algorithm, origin: Origin, state: KeyState) -> Key {
        Key {
            id: selector.into(),
            selector: selector.into(),
            algorithm,
            origin,
            record: format!("v=DKIM1; p={selector}"),
            state,
            state_since: NOW,
            created_at: NOW,
        }
    }

    #[test]
    fn spf_is_asked_for_where_receivers_look_for_it() {
        let asks = |mail_from: Option<&str>, return_path: Option<&str>| {
            let ours = Ours { host: name("weir.test"), return_path: return_path.map(name) };
            let asked = asked(&ours, &domain(mail_from), &[]);
            let spf = asked.iter().find(|asked| asked.purpose == Purpose::Spf).map(|asked| asked.wanted.name());
            let dmarc = asked.iter().find_map(|asked| match &asked.wanted {
                Wanted::Dmarc { return_path, .. } => Some(return_path.to_string()),
                _ => None,
            });
            (spf, dmarc.unwrap())
        };
        let own = || "acme.example".to_owned();
        let below = || "b.acme.example".to_owned();
        assert_eq!(asks(None, None), (Some(own()), own()));
        // The return path is the operator's, and so is its record.
        assert_eq!(asks(None, Some("r.weir.test")), (None, "r.weir.test".to_owned()));
        assert_eq!(asks(Some("b.acme.example"), Some("r.weir.test")), (Some(below()), below()));
        assert_eq!(asks(Some("b.acme.example"), None), (Some(below()), below()));
    }

    #[test]
    fn a_successor_is_asked_for_and_mail_can_do_without_it() {
        use {Algorithm::*, KeyState::*, Origin::*};
        let ours = Ours { host: name("weir.test"), return_path: None };
        let must = |keys: &[Key]| {
            let asked = asked(&ours, &domain(None), keys);
            let keys = asked.iter().filter(|asked| asked.purpose == Purpose::Dkim && asked.required);
            keys.map(|asked| asked.wanted.name().split('.').next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let (first, second) = (key("one", Rsa, Made, Next), key("two", Rsa, Made, Next));
        let ed25519 = key("three", Ed25519, Made, Next);
        assert_eq!(must(&[first.clone(), ed25519.clone()]), ["one"]);
        // Newest first.
        assert_eq!(must(&[second, first.clone(), ed25519.clone()]), ["two"]);
        let active = key("four", Rsa, Made, Active);
        assert_eq!(must(&[first, active, ed25519]), ["four"]);
        assert_eq!(must(&[key("own", Ed25519, Brought, Active)]), ["own"]);
    }

    #[test]
    fn what_may_be_taken_down_is_said_for_a_while() {
        let ours = Ours { host: name("weir.test"), return_path: None };
        let retired = [key("old", Algorithm::Rsa, Origin::Made, KeyState::Retired)];
        let note = |days: u32| {
            let now = NOW + Duration::from_secs(86_400) * days;
            let records = list(&ours, &domain(None), &retired, Some("not what is read today"), now);
            assert!(records.iter().all(|record| record.state == RecordState::NotChecked));
            records.into_iter().find(|record| record.purpose == Purpose::DkimRetired).and_then(|record| record.note)
        };
        assert!(note(6).unwrap().contains("Leave its record until 2026-11-08"));
        assert!(note(7).unwrap().contains("can be taken down"));
        assert_eq!(note(37), None);
    }
}
