//! What has gone wrong with an account or an IP, since when, by what evidence, and where is it mended? (R6.3, R6.6)
//!
//! One incident of a kind is open for a subject and provider at a time; what is told again brings it up to date. Each ends with what
//! ended it, and is kept.

use crate::account;
use crate::actor::Actor;
use crate::audit::{self, Line, Subject};
use crate::id;
use crate::inventory;
use crate::office::Office;
use crate::page::{Page, Window};
use crate::pool;
use crate::refusal::Refusal;
use crate::store::{Change, Columns, q, row, rows, run};
use engine::event::{Event, EventKind};
use engine::provider::Providers;
use engine::snapshot::PoolKind;
use engine::time::Timestamp;
use engine::why::Why;
use serde_json::{Value, json};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use std::net::IpAddr;
use std::sync::LazyLock;

/// Who the mailbox providers are, which tell of complaints, and where each is asked for help.
pub(crate) static PROVIDERS: LazyLock<Providers> = LazyLock::new(Providers::shipped);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncidentKind {
    /// An account's.
    Bounces,
    Complaints,
    /// An IP's: a block list has it.
    Listed,
    /// An IP's: a provider takes nothing from it for a while.
    Suspended,
    /// An IP's or a domain's: its provider calls it bad.
    Signal,
    /// An account's: a day's quota is nearly used (R7.1).
    Quota,
    /// An account's: a test drive was stopped (R8.3).
    TestDrive,
    /// An account's: it sends much from shared IPs (R8.1).
    Outgrown,
    /// An IP's: it is sent from too little.
    IdleIp,
    /// An account's: kinds of mail that go differently share a pool.
    MixedMail,
}

const KINDS: [IncidentKind; 10] = [
    IncidentKind::Bounces,
    IncidentKind::Complaints,
    IncidentKind::Listed,
    IncidentKind::Suspended,
    IncidentKind::Signal,
    IncidentKind::Quota,
    IncidentKind::TestDrive,
    IncidentKind::Outgrown,
    IncidentKind::IdleIp,
    IncidentKind::MixedMail,
];

impl IncidentKind {
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            IncidentKind::Bounces => "bounces",
            IncidentKind::Complaints => "complaints",
            IncidentKind::Listed => "listed",
            IncidentKind::Suspended => "suspended",
            IncidentKind::Signal => "signal",
            IncidentKind::Quota => "quota",
            IncidentKind::TestDrive => "test-drive",
            IncidentKind::Outgrown => "outgrown",
            IncidentKind::IdleIp => "idle-ip",
            IncidentKind::MixedMail => "mixed-mail",
        }
    }

    fn of(code: &str) -> Option<IncidentKind> {
        KINDS.into_iter().find(|kind| kind.code() == code)
    }
}

/// What is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// It is told.
    Review,
    /// The account sends nothing, or the IP carries nothing new.
    Stopped,
}

impl Weight {
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Weight::Review => "review",
            Weight::Stopped => "stopped",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Incident {
    pub id: String,
    /// Whose it is to know; none: the operator's alone.
    pub account: Option<String>,
    /// Without it and a domain, it is the account's own.
    pub ip: Option<IpAddr>,
    pub domain: Option<String>,
    pub provider: Option<String>,
    pub kind: IncidentKind,
    pub weight: Weight,
    /// What is wrong, and what mends it.
    pub words: String,
    pub mend: String,
    /// Where somebody else is asked to end it.
    pub link: Option<String>,
    pub evidence: Value,
    pub opened_at: Timestamp,
    pub changed_at: Timestamp,
    /// When it ends by itself, where that is known.
    pub until: Option<Timestamp>,
    pub closed_at: Option<Timestamp>,
    pub closed_because: Option<String>,
}

/// What an incident is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Of<'a> {
    pub account: Option<&'a str>,
    pub ip: Option<IpAddr>,
    pub domain: Option<&'a str>,
    pub provider: &'a str,
    pub kind: IncidentKind,
}

impl Of<'_> {
    fn subject(&self) -> String {
        self.ip.map_or_else(|| self.domain.or(self.account).unwrap_or_default().to_owned(), |ip| ip.to_string())
    }
}

/// What is told of it now.
pub(crate) struct Told<'a> {
    pub weight: Weight,
    pub words: &'a str,
    pub mend: &'a str,
    pub link: Option<&'a str>,
    pub evidence: Value,
    pub until: Option<Timestamp>,
}

macro_rules! columns {
    () => {
        "id, account, ip, provider, kind, weight, words, mend, link, evidence, opened_at, changed_at, until_at, closed_at, \
         closed_because, subject"
    };
}

fn read(row: &AnyRow) -> Result<Incident, Refusal> {
    let provider = row.text(3)?;
    let (account, ip, subject) = (row.text_or_none(1)?, row.text_or_none(2)?, row.text(15)?);
    let is_domain = ip.is_none() && account.as_ref() != Some(&subject);
    Ok(Incident {
        id: row.text(0)?,
        account,
        ip: ip.and_then(|text| text.parse().ok()),
        domain: is_domain.then_some(subject),
        provider: Some(provider).filter(|provider| !provider.is_empty()),
        kind: IncidentKind::of(&row.text(4)?).unwrap_or(IncidentKind::Suspended),
        weight: if row.text(5)? == "stopped" { Weight::Stopped } else { Weight::Review },
        words: row.text(6)?,
        mend: row.text(7)?,
        link: row.text_or_none(8)?,
        evidence: serde_json::from_str(&row.text(9)?).unwrap_or(Value::Null),
        opened_at: Timestamp(row.whole(10)?),
        changed_at: Timestamp(row.whole(11)?),
        until: row.whole_or_none(12)?.map(Timestamp),
        closed_at: row.whole_or_none(13)?.map(Timestamp),
        closed_because: row.text_or_none(14)?,
    })
}

pub(crate) async fn open_of(conn: &mut AnyConnection, of: &Of<'_>) -> Result<Option<Incident>, Refusal> {
    let query = q!(
        concat!(
            "SELECT ",
            columns!(),
            " FROM incident WHERE subject = $1 AND provider = $2 AND kind = $3 AND closed_at IS NULL"
        ),
        of.subject(),
        of.provider.to_owned(),
        of.kind.code(),
    );
    row(conn, query).await?.as_ref().map(read).transpose()
}

/// Those that are open about an account, an address or a domain.
pub(crate) async fn open_about(conn: &mut AnyConnection, subject: &str) -> Result<Vec<Incident>, Refusal> {
    let query = q!(
        concat!("SELECT ", columns!(), " FROM incident WHERE subject = $1 AND closed_at IS NULL ORDER BY number"),
        subject.to_owned()
    );
    rows(conn, query).await?.iter().map(read).collect()
}

/// Those that are open, and of which less was told than there is.
pub(crate) async fn untold(conn: &mut AnyConnection, most: i64) -> Result<Vec<Incident>, Refusal> {
    let query = q!(
        concat!(
            "SELECT ",
            columns!(),
            " FROM incident WHERE closed_at IS NULL AND told <> weight AND NOT (told = 'stopped' AND weight = 'review') \
             ORDER BY number LIMIT $1"
        ),
        most
    );
    rows(conn, query).await?.iter().map(read).collect()
}

/// Opens it, or brings it up to date. Whether it is new, or weighs more than before.
pub(crate) async fn tell(change: &mut Change, of: &Of<'_>, told: Told<'_>, now: Timestamp) -> Result<bool, Refusal> {
    if let Some(was) = open_of(change.conn(), of).await? {
        let is_worse = told.weight == Weight::Stopped && was.weight == Weight::Review;
        let update = q!(
            "UPDATE incident SET weight = $2, words = $3, mend = $4, link = $5, evidence = $6, until_at = $7, \
             changed_at = $8 WHERE id = $1",
            was.id,
            told.weight.code(),
            told.words.to_owned(),
            told.mend.to_owned(),
            told.link.map(str::to_owned),
            told.evidence.to_string(),
            told.until.map(|until| until.0),
            now.0,
        );
        run(change.conn(), update).await?;
        return Ok(is_worse);
    }
    let id = id::fresh("inc");
    let insert = q!(
        "INSERT INTO incident (id, account, ip, subject, provider, kind, weight, words, mend, link, evidence, opened_at, \
         changed_at, until_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12, $13)",
        id.clone(),
        of.account.map(str::to_owned),
        of.ip.map(|ip| ip.to_string()),
        of.subject(),
        of.provider.to_owned(),
        of.kind.code(),
        told.weight.code(),
        told.words.to_owned(),
        told.mend.to_owned(),
        told.link.map(str::to_owned),
        told.evidence.to_string(),
        now.0,
        told.until.map(|until| until.0),
    );
    run(change.conn(), insert).await?;
    tracing::warn!(
        incident = id,
        account = of.account,
        ip = of.ip.map(|ip| ip.to_string()),
        provider = of.provider,
        kind = of.kind.code(),
        "{}. {}",
        told.words,
        told.mend
    );
    Ok(true)
}

/// Ends it, if it is open.
pub(crate) async fn end(change: &mut Change, of: &Of<'_>, because: &str, now: Timestamp) -> Result<(), Refusal> {
    let Some(was) = open_of(change.conn(), of).await? else { return Ok(()) };
    close(change, &was, because, now).await
}

async fn close(change: &mut Change, was: &Incident, because: &str, now: Timestamp) -> Result<(), Refusal> {
    let update = q!(
        "UPDATE incident SET closed_at = $2, closed_because = $3, changed_at = $2 WHERE id = $1 AND closed_at IS NULL",
        was.id.clone(),
        now.0,
        because.to_owned(),
    );
    run(change.conn(), update).await?;
    tracing::info!(incident = was.id, kind = was.kind.code(), "an incident is over: {because}");
    Ok(())
}

/// R2.8: what befalls a managed or shared pool's IP is the operator's to know.
pub(crate) async fn whose(conn: &mut AnyConnection, address: IpAddr) -> Result<Option<String>, Refusal> {
    let ip = inventory::find(conn, address).await?;
    let pool = match &ip.pool {
        Some(pool) => pool::by_id(conn, pool).await?,
        None => None,
    };
    Ok(ip.account.filter(|_| pool.is_none_or(|pool| pool.kind == PoolKind::Standard)))
}

impl Office {
    /// What a lane says of itself: a provider takes nothing from an IP, or does again.
    pub(crate) async fn heed_lane(&self, change: &mut Change, event: &Event) -> Result<(), Refusal> {
        let (Some(ip), Some(provider)) = (event.ip, event.provider.as_deref()) else { return Ok(()) };
        let account = match whose(change.conn(), ip).await {
            Ok(account) => account,
            // It left the inventory meanwhile.
            Err(refusal) if refusal.kind == crate::refusal::Kind::NotFound => return Ok(()),
            Err(refusal) => return Err(refusal),
        };
        let of =
            Of { account: account.as_deref(), ip: Some(ip), domain: None, provider, kind: IncidentKind::Suspended };
        match (event.kind, &event.why) {
            (EventKind::LaneSuspended, Some(why @ Why::LaneSuspended { said })) => {
                let known = PROVIDERS.named(provider);
                let link = known.and_then(|known| known.help.as_deref());
                let mend = match link {
                    Some(link) => format!(
                        "Look at what was sent from it lately. If {provider} goes on refusing it, ask for help at {link}. It comes \
                         back by itself, and begins with less."
                    ),
                    None => {
                        "Look at what was sent from it lately. It comes back by itself, and begins with less.".into()
                    }
                };
                let told = Told {
                    weight: Weight::Stopped,
                    words: &format!("{provider} takes no mail from {ip}: {}", why.words()),
                    mend: &mend,
                    link,
                    evidence: json!({ "said": said, "at": event.at.to_string() }),
                    until: event.next_at,
                };
                tell(change, &of, told, self.now()).await.map(|_| ())
            }
            (EventKind::LaneResumed, _) => end(change, &of, "it sends to the provider again", self.now()).await,
            _ => Ok(()),
        }
    }

    /// Those whose end was known and has come.
    pub async fn end_incidents(&self) -> Result<usize, Refusal> {
        let mut change = self.store().change().await?;
        let query = q!(
            concat!("SELECT ", columns!(), " FROM incident WHERE closed_at IS NULL AND until_at <= $1"),
            self.now().0
        );
        let over = rows(change.conn(), query).await?.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        for incident in &over {
            close(&mut change, incident, "its time was over", self.now()).await?;
        }
        if !over.is_empty() {
            change.commit().await?;
        }
        Ok(over.len())
    }

    /// How many are open, of each kind.
    pub async fn incidents_open(&self) -> Result<Vec<(IncidentKind, i64)>, Refusal> {
        let mut conn = self.store().read().await?;
        let query = q!("SELECT kind, COUNT(*) FROM incident WHERE closed_at IS NULL GROUP BY kind");
        let found = rows(&mut conn, query).await?;
        let counts = found.iter().map(|row| Ok((row.text(0)?, row.whole(1)?))).collect::<Result<Vec<_>, Refusal>>()?;
        let of =
            |kind: IncidentKind| counts.iter().find(|(code, _)| code == kind.code()).map_or(0, |(_, count)| *count);
        Ok(KINDS.into_iter().map(|kind| (kind, of(kind))).collect())
    }

    /// Newest first; an account sees what is its own to know.
    pub async fn incidents(
        &self,
        by: &Actor,
        account: Option<&str>,
        only_open: bool,
        window: &Window,
    ) -> Result<Page<Incident>, Refusal> {
        let mut conn = self.store().read().await?;
        let account = match account.map(str::to_owned).or_else(|| by.account().map(|own| own.as_str().to_owned())) {
            Some(called) => Some(account::seen(&mut conn, by, &called, Actor::may_read).await?.id),
            None => {
                by.may_watch()?;
                None
            }
        };
        let before: i64 = window.after.as_deref().and_then(|after| after.parse().ok()).unwrap_or(i64::MAX);
        let query = q!(
            concat!(
                "SELECT ",
                columns!(),
                ", number FROM incident WHERE number < $1 AND (CAST($2 AS TEXT) IS NULL OR account = $2) \
                 AND ($3 = 0 OR closed_at IS NULL) ORDER BY number DESC LIMIT $4"
            ),
            before,
            account,
            i64::from(only_open),
            window.fetch(),
        );
        let found = rows(&mut conn, query).await?;
        let found: Vec<(i64, Incident)> =
            found.iter().map(|row| Ok((row.whole(16)?, read(row)?))).collect::<Result<_, Refusal>>()?;
        let page = Page::of(found, window, |(number, _)| number.to_string());
        Ok(Page { items: page.items.into_iter().map(|(_, incident)| incident).collect(), next: page.next })
    }

    pub async fn incident(&self, by: &Actor, id: &str) -> Result<Incident, Refusal> {
        let mut conn = self.store().read().await?;
        visible(&mut conn, by, id).await
    }

    /// By the operator's word. What is wrong still opens it anew.
    pub async fn close_incident(&self, by: &Actor, id: &str) -> Result<Incident, Refusal> {
        by.may_operate()?;
        let mut change = self.store().change().await?;
        let was = visible(change.conn(), by, id).await?;
        if was.closed_at.is_some() {
            return Ok(was);
        }
        close(&mut change, &was, "the operator closed it", self.now()).await?;
        let ip = was.ip.map(|ip| ip.to_string());
        let (subject, of) = match (&ip, &was.domain) {
            (Some(ip), _) => (Subject::Ip, ip.as_str()),
            (None, Some(domain)) => (Subject::Domain, domain.as_str()),
            (None, None) => (Subject::Account, was.account.as_deref().unwrap_or_default()),
        };
        let detail = json!({ "incident": was.id, "kind": was.kind.code(), "words": was.words });
        let line = Line { subject, id: of, account: was.account.as_deref(), action: "incident-closed", detail };
        audit::write(&mut change, by, self.now(), line).await?;
        let is = visible(change.conn(), by, id).await?;
        change.commit().await?;
        Ok(is)
    }
}

async fn visible(conn: &mut AnyConnection, by: &Actor, id: &str) -> Result<Incident, Refusal> {
    let unknown = || Refusal::not_found("incident", id);
    let query = q!(concat!("SELECT ", columns!(), " FROM incident WHERE id = $1"), id.to_owned());
    let found = read(&row(conn, query).await?.ok_or_else(unknown)?)?;
    match &found.account {
        _ if by.is_operator() => by.may_watch()?,
        Some(account) => by.may_read(account).map_err(|_| unknown())?,
        None => return Err(unknown()),
    }
    Ok(found)
}
