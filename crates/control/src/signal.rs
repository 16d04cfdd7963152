//! What do providers themselves say of our IPs and domains, day by day? (R6.3)
//!
//! The operator fetches their files (Microsoft SNDS, Google Postmaster Tools) and imports them. A file is taken whole or not at all. What
//! is said counts: hits of traps in the score, a bad verdict as an incident until a later day is better.

use crate::actor::Actor;
use crate::audit::{self, Line, Subject};
use crate::csv;
use crate::domain;
use crate::incident::{self, IncidentKind, Of, PROVIDERS, Told, Weight};
use crate::office::Office;
use crate::page::{Page, Window};
use crate::refusal::{Kind, Refusal};
use crate::store::{Change, Columns, q, rows, run};
use engine::reputation::{DAYS_LOOKED_AT, Share, percent};
use engine::time::Timestamp;
use mail::address::Domain;
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

const DAY_S: i64 = 86_400;
/// What is older says nothing of how things are.
const KEPT_DAYS: i64 = 400;
const MICROSOFT: &str = "microsoft-consumer";
const GOOGLE: &str = "google";
/// In the order of the feed, which has no line of names.
const SNDS: [&str; 14] = [
    "IP address",
    "activity start",
    "activity end",
    "RCPT commands",
    "DATA commands",
    "message recipients",
    "filter result",
    "complaint rate",
    "trap message period start",
    "trap message period end",
    "trap hits",
    "sample HELO",
    "sample MAIL FROM",
    "comments",
];

/// Whose file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalKind {
    Snds,
    Postmaster,
}

/// How a provider calls an IP or a domain; the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SignalVerdict {
    /// Postmaster Tools.
    Bad,
    Low,
    Medium,
    High,
    /// SNDS.
    Red,
    Yellow,
    Green,
}

const VERDICTS: [(SignalVerdict, &str); 7] = [
    (SignalVerdict::Bad, "BAD"),
    (SignalVerdict::Low, "LOW"),
    (SignalVerdict::Medium, "MEDIUM"),
    (SignalVerdict::High, "HIGH"),
    (SignalVerdict::Red, "RED"),
    (SignalVerdict::Yellow, "YELLOW"),
    (SignalVerdict::Green, "GREEN"),
];

impl SignalVerdict {
    /// In the provider's own word.
    #[must_use]
    pub fn word(self) -> &'static str {
        VERDICTS.into_iter().find(|(verdict, _)| *verdict == self).map_or("", |(_, word)| word)
    }

    fn of(text: &str) -> Option<SignalVerdict> {
        VERDICTS.into_iter().find(|(_, word)| word.eq_ignore_ascii_case(text)).map(|(verdict, _)| verdict)
    }

    fn is_bad(self) -> bool {
        matches!(self, SignalVerdict::Bad | SignalVerdict::Red)
    }
}

/// A share as it is told: sometimes only that it is less.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ToldShare {
    /// In millionths.
    pub millionths: u32,
    pub is_below: bool,
}

impl ToldShare {
    #[must_use]
    pub fn share(self) -> f64 {
        f64::from(self.millionths) / 1e6
    }

    #[must_use]
    pub fn words(self) -> String {
        format!("{}{}", if self.is_below { "under " } else { "" }, percent(self.share()))
    }
}

/// What one provider says of one IP or domain for one day.
#[derive(Clone, Debug, PartialEq)]
pub struct Signal {
    pub provider: String,
    /// An address or a domain.
    pub of: String,
    /// Since 1970.
    pub day: i64,
    pub verdict: Option<SignalVerdict>,
    pub complaints: Option<ToldShare>,
    pub recipients: Option<u64>,
    pub traps: Option<u64>,
}

impl Signal {
    /// Such as 2026-01-15.
    #[must_use]
    pub fn date(&self) -> String {
        Timestamp::from_unix_seconds(self.day * DAY_S).to_string().chars().take(10).collect()
    }

    /// A sentence without its full stop.
    #[must_use]
    pub fn words(&self) -> String {
        let mut words = format!("{} says of {} for {}:", self.provider, self.of, self.date());
        let verdict = self.verdict.map(|verdict| verdict.word().to_owned());
        let complaints = self.complaints.map(|share| format!("{} complained of", share.words()));
        let traps = self.traps.map(|hits| format!("{hits} hits of traps"));
        let parts: Vec<String> = [verdict, complaints, traps].into_iter().flatten().collect();
        words.push_str(&format!(" {}", if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }));
        words
    }
}

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// A line, or of JSON the number of an entry; from one.
    pub place: String,
    pub field: String,
    pub detail: String,
    pub mend: &'static str,
}

impl From<Wrong> for Refusal {
    fn from(wrong: Wrong) -> Refusal {
        let Wrong { place, field, detail, mend } = wrong;
        let sentence = format!("{place}, {field}: {detail}. Nothing of the file was taken.");
        Refusal::new(Kind::Invalid, "signal_unreadable", sentence, mend).at("text")
    }
}

/// What is wrong with a field.
type Flaw = (String, &'static str);

/// What a file says.
pub fn read(kind: SignalKind, text: &str) -> Result<Vec<Signal>, Wrong> {
    let found = match kind {
        SignalKind::Snds => snds(text)?,
        SignalKind::Postmaster if text.trim_start().starts_with(['{', '[']) => postmaster_json(text)?,
        SignalKind::Postmaster => postmaster_table(text)?,
    };
    if found.is_empty() {
        let mend = "Check that it is the whole file, and that --kind says whose it is.";
        let detail = "there is nothing in it".to_owned();
        return Err(Wrong { place: "line 1".into(), field: "the file".into(), detail, mend });
    }
    Ok(found)
}

fn snds(text: &str) -> Result<Vec<Signal>, Wrong> {
    let mut found = Vec::new();
    for (line, record) in csv::records(text) {
        // Who saved it from a page may have names on top.
        if line == 1 && record.first().is_some_and(|name| name.trim().to_lowercase().starts_with("ip")) {
            continue;
        }
        let place = || format!("line {line}");
        // Trailing fields without anything in them are left out by some.
        if !(11..=SNDS.len()).contains(&record.len()) {
            let detail = format!("it has {} fields, and the feed has {}", record.len(), SNDS.len());
            let mend = "Import the CSV of SNDS as it was fetched, with its fields in their order.";
            return Err(Wrong { place: place(), field: "the whole line".into(), detail, mend });
        }
        let text = |at: usize| record.get(at).map_or("", |text| text.trim());
        let at = |at: usize, (detail, mend): Flaw| Wrong { place: place(), field: SNDS[at].into(), detail, mend };
        let count = |field: usize| whole_or_none(text(field)).map_err(|flaw| at(field, flaw));
        let ended = us_time(text(2)).map_err(|flaw| at(2, flaw))?;
        found.push(Signal {
            provider: MICROSOFT.into(),
            of: address(text(0)).map_err(|flaw| at(0, flaw))?,
            // Midnight is the end of the day before.
            day: Timestamp::from_unix_seconds(ended - 1).day(),
            verdict: Some(
                verdict(text(6), &[SignalVerdict::Green, SignalVerdict::Yellow, SignalVerdict::Red])
                    .map_err(|flaw| at(6, flaw))?,
            ),
            complaints: match text(7) {
                "" => None,
                told => Some(share(told).map_err(|flaw| at(7, flaw))?),
            },
            recipients: count(5)?,
            traps: Some(count(10)?.unwrap_or(0)),
        });
    }
    Ok(found)
}

fn address(text: &str) -> Result<String, Flaw> {
    let mend = "Write an IPv4 or IPv6 address, such as 192.0.2.1.";
    text.parse::<IpAddr>().map(|ip| ip.to_string()).map_err(|_| (format!("{} is no address", shown(text)), mend))
}

fn domain(text: &str) -> Result<String, Flaw> {
    let mend = "Write the domain as it is registered at Postmaster Tools, such as example.com.";
    Domain::parse(text)
        .map(|domain| domain.as_str().to_owned())
        .map_err(|_| (format!("{} is no domain", shown(text)), mend))
}

fn verdict(text: &str, known: &[SignalVerdict]) -> Result<SignalVerdict, Flaw> {
    let mend = "SNDS says GREEN, YELLOW or RED; Postmaster Tools HIGH, MEDIUM, LOW or BAD.";
    let found = SignalVerdict::of(text).filter(|verdict| known.contains(verdict));
    found.ok_or_else(|| (format!("{} is no word for it", shown(text)), mend))
}

fn whole_or_none(text: &str) -> Result<Option<u64>, Flaw> {
    let mend = "Write a whole number, or nothing.";
    if text.is_empty() {
        return Ok(None);
    }
    // More than any day's mail, and still a number that databases have.
    let found = text.parse().ok().filter(|number| *number <= u64::from(u32::MAX));
    found.map(Some).ok_or_else(|| (format!("{} is no number", shown(text)), mend))
}

/// `0.3%`, `< 0.1%`; without the sign it is a part of one.
fn share(text: &str) -> Result<ToldShare, Flaw> {
    let mend = "Write a share such as 0.3%, < 0.1%, or 0.003.";
    let (is_below, rest) = text.strip_prefix('<').map_or((false, text), |rest| (true, rest));
    let rest = rest.trim();
    let (number, of) = rest.strip_suffix('%').map_or((rest, 1.0), |number| (number.trim(), 100.0));
    let share = number.parse::<f64>().ok().map(|number| number / of).filter(|share| (0.0..=1.0).contains(share));
    let millionths = share.map(|share| (share * 1e6).round() as u32);
    millionths
        .map(|millionths| ToldShare { millionths, is_below })
        .ok_or_else(|| (format!("{} is no share", shown(text)), mend))
}

/// `9/29/2020 8:07 AM`, in seconds since 1970.
fn us_time(text: &str) -> Result<i64, Flaw> {
    let mend = "SNDS writes times as 9/29/2020 8:07 AM.";
    let read = || {
        let (date, rest) = text.split_once(' ')?;
        let (clock, half) = rest.split_once(' ')?;
        let mut date = date.split('/').map(str::parse::<u32>);
        let (month, day, year) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
        let mut clock = clock.split(':').map(str::parse::<u32>);
        let (hour, minute) = (clock.next()?.ok()?, clock.next()?.ok()?);
        let afternoon = match half {
            "AM" => 0,
            "PM" => 12,
            _ => return None,
        };
        if !(1..=12).contains(&hour) {
            return None;
        }
        let hour = hour % 12 + afternoon;
        let written = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:00Z");
        written.parse::<Timestamp>().ok().map(Timestamp::unix_seconds)
    };
    read().ok_or_else(|| (format!("{} is no time", shown(text)), mend))
}

/// `2026-01-15` or `20260115`, since 1970.
fn day_of(text: &str) -> Result<i64, Flaw> {
    let mend = "Write a day such as 2026-01-15 or 20260115.";
    let written = match text.len() {
        8 if text.is_ascii() => format!("{}-{}-{}", &text[..4], &text[4..6], &text[6..]),
        _ => text.to_owned(),
    };
    let found = format!("{written}T00:00:00Z").parse::<Timestamp>();
    found.map(Timestamp::day).map_err(|_| (format!("{} is no day", shown(text)), mend))
}

/// In part only: it may be anything.
fn shown(text: &str) -> String {
    let part: String = text.chars().filter(|letter| !letter.is_control()).take(60).collect();
    if part.is_empty() { "nothing".into() } else { part }
}

const POSTMASTER_WORDS: [SignalVerdict; 4] =
    [SignalVerdict::High, SignalVerdict::Medium, SignalVerdict::Low, SignalVerdict::Bad];

fn postmaster_table(text: &str) -> Result<Vec<Signal>, Wrong> {
    let mut records = csv::records(text);
    let (_, head) = records.next().unwrap_or_default();
    let plain = |name: &str| name.to_lowercase().replace(|letter: char| !letter.is_ascii_alphanumeric(), "");
    let column = |names: &[&str]| head.iter().position(|name| names.contains(&plain(name).as_str()));
    let needed = |names: &[&str]| {
        column(names).ok_or_else(|| Wrong {
            place: "line 1".into(),
            field: names[0].into(),
            detail: "no column has this name".into(),
            mend: "The first line names the columns: domain, date, spam rate, domain reputation.",
        })
    };
    let (domains, days) = (needed(&["domain"])?, needed(&["date", "day"])?);
    let spam = column(&["spamrate", "userreportedspamrate", "userreportedspamratio"]);
    let reputation = column(&["domainreputation", "reputation"]);
    let mut found = Vec::new();
    for (line, record) in records {
        let field = |column: Option<usize>| column.and_then(|at| record.get(at)).map_or("", |text| text.trim());
        let at = |field: &str, (detail, mend): Flaw| Wrong {
            place: format!("line {line}"),
            field: field.into(),
            detail,
            mend,
        };
        found.push(Signal {
            provider: GOOGLE.into(),
            of: domain(field(Some(domains))).map_err(|flaw| at("domain", flaw))?,
            day: day_of(field(Some(days))).map_err(|flaw| at("date", flaw))?,
            verdict: match field(reputation) {
                "" | "REPUTATION_CATEGORY_UNSPECIFIED" => None,
                word => Some(verdict(word, &POSTMASTER_WORDS).map_err(|flaw| at("domain reputation", flaw))?),
            },
            complaints: match field(spam) {
                "" => None,
                told => Some(share(told).map_err(|flaw| at("spam rate", flaw))?),
            },
            recipients: None,
            traps: None,
        });
    }
    Ok(found)
}

/// As the interface of Postmaster Tools answers.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TrafficStats {
    name: String,
    user_reported_spam_ratio: Option<f64>,
    domain_reputation: Option<String>,
    #[serde(default)]
    ip_reputations: Vec<IpReputation>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IpReputation {
    reputation: String,
    #[serde(default)]
    sample_ips: Vec<String>,
}

fn postmaster_json(text: &str) -> Result<Vec<Signal>, Wrong> {
    let mend = "Import what the interface answers to trafficStats.list: one object, or a list of them.";
    let unreadable = |place: String, fault: &serde_json::Error| Wrong {
        place,
        field: "the whole entry".into(),
        detail: fault.to_string(),
        mend,
    };
    let whole: Value =
        serde_json::from_str(text).map_err(|fault| unreadable(format!("line {}", fault.line()), &fault))?;
    let entries = match whole {
        Value::Array(entries) => entries,
        Value::Object(mut fields) => match fields.remove("trafficStats") {
            Some(Value::Array(entries)) => entries,
            _ => vec![Value::Object(fields)],
        },
        _ => Vec::new(),
    };
    let mut found = Vec::new();
    // Each domain names the IPs that its mail came from: one IP may be named by many.
    let mut ips: BTreeMap<(String, i64), SignalVerdict> = BTreeMap::new();
    for (number, entry) in (1..).zip(entries) {
        let place = || format!("entry {number}");
        let at = |field: &str, (detail, mend): Flaw| Wrong { place: place(), field: field.into(), detail, mend };
        let stats: TrafficStats = serde_json::from_value(entry).map_err(|fault| unreadable(place(), &fault))?;
        let named = stats.name.strip_prefix("domains/").and_then(|rest| rest.split_once("/trafficStats/"));
        let (of, date) = named.ok_or_else(|| {
            at(
                "name",
                (
                    format!("{} names no domain and day", shown(&stats.name)),
                    "It looks like domains/example.com/trafficStats/20260115.",
                ),
            )
        })?;
        let day = day_of(date).map_err(|flaw| at("name", flaw))?;
        let word = |word: &str, field: &str| match word {
            "REPUTATION_CATEGORY_UNSPECIFIED" => Ok(None),
            word => verdict(word, &POSTMASTER_WORDS).map(Some).map_err(|flaw| at(field, flaw)),
        };
        let ratio = |ratio: f64| share(&ratio.to_string()).map_err(|flaw| at("userReportedSpamRatio", flaw));
        found.push(Signal {
            provider: GOOGLE.into(),
            of: domain(of).map_err(|flaw| at("name", flaw))?,
            day,
            verdict: stats.domain_reputation.map_or(Ok(None), |is| word(&is, "domainReputation"))?,
            complaints: stats.user_reported_spam_ratio.map(ratio).transpose()?,
            recipients: None,
            traps: None,
        });
        for group in stats.ip_reputations {
            let Some(verdict) = word(&group.reputation, "ipReputations")? else { continue };
            for ip in group.sample_ips {
                let ip = address(&ip).map_err(|flaw| at("sampleIps", flaw))?;
                let worst = ips.entry((ip, day)).or_insert(verdict);
                *worst = verdict.min(*worst);
            }
        }
    }
    found.extend(ips.into_iter().map(|((of, day), verdict)| Signal {
        provider: GOOGLE.into(),
        of,
        day,
        verdict: Some(verdict),
        complaints: None,
        recipients: None,
        traps: None,
    }));
    Ok(found)
}

macro_rules! columns {
    () => {
        "provider, subject, day, verdict, complaints, complaints_below, recipients, traps"
    };
}

fn kept(row: &AnyRow) -> Result<Signal, Refusal> {
    let is_below = row.yes(5)?;
    let count = |at: usize| Ok::<_, Refusal>(row.whole_or_none(at)?.and_then(|count| u64::try_from(count).ok()));
    let share = |millionths| ToldShare { millionths, is_below };
    Ok(Signal {
        provider: row.text(0)?,
        of: row.text(1)?,
        day: row.whole(2)?,
        verdict: row.text_or_none(3)?.and_then(|word| SignalVerdict::of(&word)),
        complaints: row.whole_or_none(4)?.and_then(|millionths| u32::try_from(millionths).ok()).map(share),
        recipients: count(6)?,
        traps: count(7)?,
    })
}

/// What providers say of an IP or domain for the days that are looked at, the newest first.
pub(crate) async fn lately(conn: &mut AnyConnection, of: &str, now: Timestamp) -> Result<Vec<Signal>, Refusal> {
    let query = q!(
        concat!("SELECT ", columns!(), " FROM signal WHERE subject = $1 AND day > $2 ORDER BY day DESC, provider"),
        of.to_owned(),
        now.day() - DAYS_LOOKED_AT as i64,
    );
    rows(conn, query).await?.iter().map(kept).collect()
}

/// Hits of traps, of the recipients that the same provider counted; of one provider, or of all.
pub(crate) fn traps(lately: &[Signal], provider: Option<&str>) -> Share {
    let of = lately.iter().filter(|signal| provider.is_none_or(|provider| signal.provider == provider));
    of.fold(Share::default(), |sum, signal| match (signal.traps, signal.recipients) {
        (Some(hits), Some(recipients)) => Share { count: sum.count + hits as f64, of: sum.of + recipients as f64 },
        _ => sum,
    })
}

/// What became of an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    pub put: usize,
    /// Incidents that were opened by it, in words.
    pub opened: Vec<String>,
}

impl Office {
    /// Takes in a provider's file, whole or not at all; what was known of the same days is replaced.
    pub async fn import_signals(&self, by: &Actor, kind: SignalKind, text: &str) -> Result<Imported, Refusal> {
        by.may_operate()?;
        let signals = read(kind, text)?;
        let now = self.now();
        let mut change = self.store().change().await?;
        for signal in &signals {
            put(&mut change, signal, now).await?;
        }
        let old = q!("DELETE FROM signal WHERE day < $1", now.day() - KEPT_DAYS);
        run(change.conn(), old).await?;
        let told_of: BTreeSet<(&str, &str)> =
            signals.iter().map(|signal| (signal.provider.as_str(), signal.of.as_str())).collect();
        let mut opened = Vec::new();
        for (provider, of) in told_of {
            opened.extend(self.heed_signal(&mut change, provider, of).await?);
        }
        let provider = signals.first().map_or("", |signal| signal.provider.as_str());
        let detail = json!({ "put": signals.len(), "opened": opened });
        let line = Line { subject: Subject::Signal, id: provider, account: None, action: "imported", detail };
        audit::write(&mut change, by, now, line).await?;
        change.commit().await?;
        Ok(Imported { put: signals.len(), opened })
    }

    /// A bad word opens an incident, a better one of a later day ends it. What was opened, in words.
    async fn heed_signal(&self, change: &mut Change, provider: &str, subject: &str) -> Result<Option<String>, Refusal> {
        let lately = lately(change.conn(), subject, self.now()).await?;
        let mut of_provider = lately.iter().filter(|signal| signal.provider == provider && signal.verdict.is_some());
        let Some(last) = of_provider.next() else { return Ok(None) };
        let Some(verdict) = last.verdict else { return Ok(None) };
        let ip: Option<IpAddr> = subject.parse().ok();
        let account = match ip {
            Some(ip) => match incident::whose(change.conn(), ip).await {
                Ok(account) => account,
                // It is not ours, or was.
                Err(refusal) if refusal.kind == Kind::NotFound => return Ok(None),
                Err(refusal) => return Err(refusal),
            },
            None => domain::owner(change.conn(), subject).await?,
        };
        let domain = ip.is_none().then_some(subject);
        let of = Of { account: account.as_deref(), ip, domain, provider, kind: IncidentKind::Signal };
        if !verdict.is_bad() {
            let because = format!("a later day is better: {} for {}", verdict.word(), last.date());
            incident::end(change, &of, &because, self.now()).await?;
            return Ok(None);
        }
        let link = PROVIDERS.named(provider).and_then(|known| known.help.as_deref());
        let words = last.words();
        let mend = "Look at what was sent from it lately, and to whom: stop what nobody asked for, and take addresses off the lists that \
                    nobody reads. Import the file of a later day; a better word ends this.";
        let told = Told {
            weight: Weight::Review,
            words: &words,
            mend,
            link,
            evidence: json!({
                "date": last.date(),
                "verdict": verdict.word(),
                "complaints": last.complaints.map(ToldShare::words),
                "recipients": last.recipients,
                "traps": last.traps,
            }),
            until: None,
        };
        let is_new = incident::tell(change, &of, told, self.now()).await?;
        Ok(is_new.then_some(words))
    }

    /// What providers say, the newest day first.
    pub async fn signals(&self, by: &Actor, of: Option<&str>, window: &Window) -> Result<Page<Signal>, Refusal> {
        by.may_watch()?;
        let place = window.after.as_deref().and_then(|after| {
            let mut parts = after.splitn(3, ' ');
            Some((parts.next()?.parse::<i64>().ok()?, parts.next()?.to_owned(), parts.next()?.to_owned()))
        });
        let (day, subject, provider) = place.unwrap_or((i64::MAX, String::new(), String::new()));
        let mut conn = self.store().read().await?;
        let query = q!(
            concat!(
                "SELECT ",
                columns!(),
                " FROM signal WHERE (CAST($1 AS TEXT) IS NULL OR subject = $1) AND (day < $2 OR (day = $2 AND (subject > $3 \
                 OR (subject = $3 AND provider > $4)))) ORDER BY day DESC, subject, provider LIMIT $5"
            ),
            of.map(called),
            day,
            subject,
            provider,
            window.fetch(),
        );
        let found = rows(&mut conn, query).await?.iter().map(kept).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::of(found, window, |signal| format!("{} {} {}", signal.day, signal.of, signal.provider)))
    }
}

/// As it is kept: addresses and domains have one form each.
fn called(of: &str) -> String {
    address(of).or_else(|_| domain(of)).unwrap_or_else(|_| of.to_owned())
}

async fn put(change: &mut Change, signal: &Signal, now: Timestamp) -> Result<(), Refusal> {
    let insert = q!(
        "INSERT INTO signal (provider, subject, day, verdict, complaints, complaints_below, recipients, traps, imported_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (provider, subject, day) DO UPDATE SET verdict = $4, \
         complaints = $5, complaints_below = $6, recipients = $7, traps = $8, imported_at = $9",
        signal.provider.clone(),
        signal.of.clone(),
        signal.day,
        signal.verdict.map(SignalVerdict::word),
        signal.complaints.map(|share| i64::from(share.millionths)),
        i64::from(signal.complaints.is_some_and(|share| share.is_below)),
        signal.recipients.and_then(|count| i64::try_from(count).ok()),
        signal.traps.and_then(|count| i64::try_from(count).ok()),
        now.0,
    );
    run(change.conn(), insert).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::{Signal, SignalKind, SignalVerdict, ToldShare, Wrong, read, traps};

    const FEED: &str = "192.0.2.1,9/28/2026 9:00 PM,9/29/2026 9:00 PM,14129,14129,13025,GREEN,< 0.1%,,,0,,,\r\n\
        192.0.2.2,9/28/2026 9:00 PM,9/29/2026 12:00 AM,47386,47386,47384,RED,0.4%,9/28/2026 9:08 PM,9/28/2026 11:09 PM,40,\
        mx.example.com,news@example.com,\"blocked, partly\"\r\n";

    fn wrong(kind: SignalKind, text: &str) -> (String, String) {
        let Wrong { place, field, mend, .. } = read(kind, text).unwrap_err();
        assert!(!mend.is_empty());
        (place, field)
    }

    #[test]
    fn a_feed_of_snds_is_read_as_it_is_fetched() {
        let found = read(SignalKind::Snds, FEED).unwrap();
        let green = Signal {
            provider: "microsoft-consumer".into(),
            of: "192.0.2.1".into(),
            day: 20_725,
            verdict: Some(SignalVerdict::Green),
            complaints: Some(ToldShare { millionths: 1_000, is_below: true }),
            recipients: Some(13_025),
            traps: Some(0),
        };
        assert_eq!((&found[0], found[0].date().as_str()), (&green, "2026-09-29"));
        // Midnight is the end of the day before.
        assert_eq!((found[1].date().as_str(), found[1].traps), ("2026-09-28", Some(40)));
        let words = "microsoft-consumer says of 192.0.2.2 for 2026-09-28: RED, 0.4 % complained of, 40 hits of traps";
        assert_eq!(found[1].words(), words);
        assert_eq!((traps(&found, None).count, traps(&found, None).of), (40.0, 60_409.0));
        assert_eq!(traps(&found, Some("google")).of, 0.0);
    }

    #[test]
    fn what_is_wrong_is_told_by_line_and_field() {
        let with = |from: &str, to: &str| wrong(SignalKind::Snds, &FEED.replace(from, to));
        let at = |place: &str, field: &str| (place.to_owned(), field.to_owned());
        assert_eq!(with("192.0.2.2", "192.0.2"), at("line 2", "IP address"));
        assert_eq!(with("GREEN", "BLUE"), at("line 1", "filter result"));
        assert_eq!(with("GREEN", "HIGH"), at("line 1", "filter result"));
        assert_eq!(with("0.4%", "much"), at("line 2", "complaint rate"));
        assert_eq!(with("0.4%", "140%"), at("line 2", "complaint rate"));
        assert_eq!(with(",40,", ",-40,"), at("line 2", "trap hits"));
        assert_eq!(with("9/29/2026 9:00 PM", "29/9/2026 9:00 PM"), at("line 1", "activity end"));
        assert_eq!(with("9/29/2026 9:00 PM", "9/29/2026 13:00 PM"), at("line 1", "activity end"));
        assert_eq!(wrong(SignalKind::Snds, "<html>sign in</html>"), at("line 1", "the whole line"));
        assert_eq!(wrong(SignalKind::Snds, ""), at("line 1", "the file"));
        assert_eq!(wrong(SignalKind::Postmaster, FEED), at("line 1", "domain"));
        let table = "domain,date,spam rate\nexample.com,2026-01-15,0.1%\nexample.com,2026-02-30,0.1%\n";
        assert_eq!(wrong(SignalKind::Postmaster, table), at("line 3", "date"));
        let json = r#"[{"name":"domains/a.example/trafficStats/20260115"},{"name":"domains/a.example"}]"#;
        assert_eq!(wrong(SignalKind::Postmaster, json), at("entry 2", "name"));
        assert_eq!(wrong(SignalKind::Postmaster, "{\"name\":"), at("line 1", "the whole entry"));
    }

    #[test]
    fn postmaster_tools_are_read_as_table_and_as_answered() {
        let table =
            "Domain,Date,Spam Rate,Domain Reputation\nExample.com,2026-01-15,0.12%,HIGH\nexample.com,20260116,0.003,\n";
        let found = read(SignalKind::Postmaster, table).unwrap();
        assert_eq!((found[0].of.as_str(), found[0].verdict), ("example.com", Some(SignalVerdict::High)));
        let share = |signal: &Signal| signal.complaints.unwrap().words();
        assert_eq!((share(&found[0]).as_str(), share(&found[1]).as_str()), ("0.12 %", "0.3 %"));
        assert_eq!((found[1].date().as_str(), found[1].verdict), ("2026-01-16", None));
        let answer = r#"{"trafficStats": [
            {"name": "domains/example.com/trafficStats/20260115", "userReportedSpamRatio": 0.001, "domainReputation": "BAD",
             "spfSuccessRatio": 1.0, "ipReputations": [{"reputation": "HIGH", "ipCount": "1", "sampleIps": ["192.0.2.1"]}]},
            {"name": "domains/other.example/trafficStats/20260115", "domainReputation": "REPUTATION_CATEGORY_UNSPECIFIED",
             "ipReputations": [{"reputation": "LOW", "sampleIps": ["192.0.2.1", "2001:DB8::1"]}, {"reputation": "BAD"}]}
        ], "nextPageToken": ""}"#;
        let found = read(SignalKind::Postmaster, answer).unwrap();
        let told: Vec<_> = found.iter().map(|signal| (signal.of.as_str(), signal.verdict)).collect();
        let expected = [
            ("example.com", Some(SignalVerdict::Bad)),
            ("other.example", None),
            ("192.0.2.1", Some(SignalVerdict::Low)),
            ("2001:db8::1", Some(SignalVerdict::Low)),
        ];
        assert_eq!(told, expected);
    }
}
