//! From which domains may an account send, and what must they publish?
//!
//! An account claims a domain by name; several may claim the same one, and each has to show that it is its own (R1.4): by a TXT record
//! with a token, or by the record of a DKIM key that was made here, either of which only who governs the domain can publish. A key
//! that was brought proves nothing: it may be published for somebody else. To send, it takes a published key besides: mail that is
//! not signed is nobody's.

mod check;
mod keys;
mod records;
mod sending;
mod standing;

pub use records::{Problem, Purpose, Record, RecordState};
pub use sending::SendingDomains;
pub(crate) use sending::sending_domains;
pub use standing::{GONE_MAX, Proof, Seen, State, VerifiedBy, check_again};

use crate::account::{must_be_seen, reach};
use crate::actor::Actor;
use crate::audit::{self, Line, Subject};
use crate::dkim::{self, ALGORITHMS, Key};
use crate::id;
use crate::name;
use crate::office::Office;
use crate::page::{Page, Window};
use crate::refusal::Refusal;
use crate::setting::{self, Setting};
use crate::store::{Change, Columns, number, q, row, rows, run, run_unless};
use engine::time::Timestamp;
use mail::address::Domain as DomainName;
use serde_json::{Value, json};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    pub id: String,
    pub account: String,
    pub name: DomainName,
    /// What is published to show that the domain is the account's.
    pub token: String,
    pub proof: Proof,
    pub mail_from: Option<MailFrom>,
    /// A name below the domain that leads to us, for links and pictures in its mail.
    pub tracking_host: Option<DomainName>,
    /// When a record to publish was last added.
    pub asked_at: Timestamp,
    pub checked_at: Option<Timestamp>,
    pub check_at: Timestamp,
    pub revision: i64,
    pub created_at: Timestamp,
}

/// A name below the domain that bounces of its mail go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailFrom {
    pub name: DomainName,
    /// Whether its records were right when they were last seen. It is used only then.
    pub is_good: bool,
}

#[derive(Clone, Debug, Default)]
pub struct NewDomain {
    pub name: String,
    pub mail_from: Option<String>,
    pub tracking_host: Option<String>,
}

/// What is to be changed; the rest stays. `Some(None)` takes away.
#[derive(Clone, Debug, Default)]
pub struct DomainChange {
    pub mail_from: Option<Option<String>>,
    pub tracking_host: Option<Option<String>>,
    /// The revision the caller saw.
    pub revision: Option<i64>,
}

impl Domain {
    #[must_use]
    pub fn state(&self) -> State {
        self.proof.state()
    }

    /// How it stands and why, for whoever looks at it.
    #[must_use]
    pub fn words(&self) -> String {
        match (self.proof.verified, self.state()) {
            (_, State::Pending) => {
                "Not verified yet. Publish the records that are listed; they are looked for by themselves.".to_owned()
            }
            (Some((at, VerifiedBy::Operator)), _) => {
                format!("Verified by the operator since {at}. Its records are looked at, but nothing depends on them.")
            }
            (_, State::Verified) => "Verified.".to_owned(),
            (_, State::Losing { since, until }) => format!(
                "Verified, but since {since} the records that show it to be yours are not published any more. If they are not \
                 back by {until}, mail from this domain is refused."
            ),
            (_, State::Lost { at }) => format!(
                "Not verified any more since {at}: the records that show it to be yours had not been published for 72 hours. \
                 Publish them again."
            ),
        }
    }

    fn line<'a>(&'a self, action: &'static str, detail: Value) -> Line<'a> {
        Line { subject: Subject::Domain, id: &self.id, account: Some(&self.account), action, detail }
    }
}

macro_rules! columns {
    () => {
        "id, account, name, token, verified_at, verified_by, gone_since, lost_at, mail_from, mail_from_good, tracking_host, \
         asked_at, checked_at, check_at, revision, created_at"
    };
}

fn read(row: &AnyRow) -> Result<Domain, Refusal> {
    let time = |at| Ok::<_, Refusal>(row.whole_or_none(at)?.map(Timestamp));
    let name = |at| Ok::<_, Refusal>(row.text_or_none(at)?.and_then(|text| stored(&text)));
    let verified_by = row.text_or_none(5)?;
    let is_good = row.yes(9)?;
    Ok(Domain {
        id: row.text(0)?,
        account: row.text(1)?,
        name: name(2)?.ok_or_else(unreadable)?,
        token: row.text(3)?,
        proof: Proof {
            verified: time(4)?.zip(verified_by.as_deref().map(VerifiedBy::of)),
            gone_since: time(6)?,
            lost_at: time(7)?,
        },
        mail_from: name(8)?.map(|name| MailFrom { name, is_good }),
        tracking_host: name(10)?,
        asked_at: Timestamp(row.whole(11)?),
        checked_at: time(12)?,
        check_at: Timestamp(row.whole(13)?),
        revision: row.whole(14)?,
        created_at: Timestamp(row.whole(15)?),
    })
}

/// Written by us in canonical form, so it is read as it was.
fn stored(name: &str) -> Option<DomainName> {
    DomainName::parse(name).inspect_err(|_| tracing::error!(name, "the database holds what is no domain")).ok()
}

fn unreadable() -> Refusal {
    Refusal::new(
        crate::refusal::Kind::Unavailable,
        "database_unreadable",
        "A domain cannot be read from the database.",
        "Ask who runs this installation; the service's log names the cause.",
    )
}

/// The account's own, by id or by name; another's is not there (R2.8).
async fn find(conn: &mut AnyConnection, account: &str, called: &str) -> Result<Domain, Refusal> {
    let name = DomainName::parse(called.trim()).map(|name| name.to_string()).unwrap_or_default();
    let query = q!(
        concat!("SELECT ", columns!(), " FROM domain WHERE account = $1 AND (id = $2 OR name = $3)"),
        account.to_owned(),
        called.to_owned(),
        name,
    );
    match row(conn, query).await? {
        Some(row) => read(&row),
        None => Err(Refusal::not_found("domain", called)),
    }
}

async fn find_by_id(conn: &mut AnyConnection, id: &str) -> Result<Domain, Refusal> {
    match row(conn, q!(concat!("SELECT ", columns!(), " FROM domain WHERE id = $1"), id.to_owned())).await? {
        Some(row) => read(&row),
        None => Err(Refusal::not_found("domain", id)),
    }
}

/// Writes all of it that changes.
async fn write(change: &mut Change, domain: &Domain) -> Result<(), Refusal> {
    let time = |time: Option<Timestamp>| time.map(|time| time.0);
    let update = q!(
        "UPDATE domain SET verified_at = $2, verified_by = $3, gone_since = $4, lost_at = $5, mail_from = $6, \
         mail_from_good = $7, tracking_host = $8, asked_at = $9, checked_at = $10, check_at = $11, revision = $12 WHERE id = $1",
        domain.id.clone(),
        time(domain.proof.verified.map(|(at, _)| at)),
        domain.proof.verified.map(|(_, by)| by.code()),
        time(domain.proof.gone_since),
        time(domain.proof.lost_at),
        domain.mail_from.as_ref().map(|mail_from| mail_from.name.to_string()),
        i64::from(domain.mail_from.as_ref().is_some_and(|mail_from| mail_from.is_good)),
        domain.tracking_host.as_ref().map(ToString::to_string),
        domain.asked_at.0,
        time(domain.checked_at),
        domain.check_at.0,
        domain.revision,
    );
    run(change.conn(), update).await?;
    Ok(())
}

/// A name of its own below the domain.
fn below(field: &str, text: &str, domain: &DomainName) -> Result<DomainName, Refusal> {
    let example = if field == "mail_from" { "bounces" } else { "links" };
    let mend = format!("Give one such as {example}.{domain}.");
    let name = DomainName::parse(text.trim())
        .map_err(|error| Refusal::invalid(field, format!("This is no domain: {error}."), mend.clone()))?;
    let is_below =
        name.as_str().strip_suffix(domain.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'));
    if is_below {
        return Ok(name);
    }
    Err(Refusal::invalid(field, format!("{name} is not below {domain}."), mend))
}

/// RFC 1034 3.6.2: beside an alias nothing else stands.
fn must_differ(mail_from: Option<&DomainName>, tracking_host: Option<&DomainName>) -> Result<(), Refusal> {
    match (mail_from, tracking_host) {
        (Some(one), Some(other)) if one == other => Err(Refusal::invalid(
            "tracking_host",
            format!(
                "{one} cannot be both: the tracking host is an alias, and beside an alias there are no mail hosts."
            ),
            "Choose two names.",
        )),
        _ => Ok(()),
    }
}

async fn must_have_room(conn: &mut AnyConnection, account: &str, name: &DomainName) -> Result<(), Refusal> {
    let query = q!("SELECT id FROM domain WHERE account = $1 AND name = $2", account.to_owned(), name.to_string());
    if row(conn, query).await?.is_some() {
        return Err(taken(name));
    }
    let max = setting::value(conn, Setting::DomainsMax).await?;
    let there = number(conn, q!("SELECT COUNT(*) FROM domain WHERE account = $1", account.to_owned())).await?;
    if there < max {
        return Ok(());
    }
    Err(Refusal::conflict(
        "domains_max",
        format!("The account has {there} domains; at most {max} are allowed."),
        "Delete one that is not needed, or ask who runs this installation to move the limit.",
    ))
}

fn taken(name: &DomainName) -> Refusal {
    let sentence = format!("The account has the domain {name} already.");
    Refusal::conflict("domain_taken", sentence, "Use the one that is there.").at("name")
}

/// Who has proved that the domain is its own; none where nobody has, or more than one.
pub(crate) async fn owner(conn: &mut AnyConnection, name: &str) -> Result<Option<String>, Refusal> {
    let query = q!(
        "SELECT account FROM domain WHERE name = $1 AND verified_at IS NOT NULL AND lost_at IS NULL LIMIT 2",
        name.to_owned()
    );
    match rows(conn, query).await?.as_slice() {
        [only] => only.text(0).map(Some),
        _ => Ok(None),
    }
}

/// Whether the account has proved that this domain is its own.
pub(crate) async fn is_verified(conn: &mut AnyConnection, account: &str, name: &str) -> Result<bool, Refusal> {
    let query = q!(
        "SELECT COUNT(*) FROM domain WHERE account = $1 AND name = $2 AND verified_at IS NOT NULL AND lost_at IS NULL",
        account.to_owned(),
        name.to_ascii_lowercase(),
    );
    Ok(number(conn, query).await? > 0)
}

impl Office {
    /// With two keys for it, RSA and Ed25519.
    pub async fn create_domain(&self, by: &Actor, account: &str, new: NewDomain) -> Result<Domain, Refusal> {
        let name = name::domain(&new.name)?;
        let own = |field, text: &Option<String>| text.as_ref().map(|text| below(field, text, &name)).transpose();
        let (mail_from, tracking_host) = (own("mail_from", &new.mail_from)?, own("tracking_host", &new.tracking_host)?);
        must_differ(mail_from.as_ref(), tracking_host.as_ref())?;
        let account = {
            let mut conn = self.store().read().await?;
            let account = reach(&mut conn, by, account, Actor::may_manage).await?;
            // Before keys are made for nothing.
            must_have_room(&mut conn, &account, &name).await?;
            account
        };
        let keys = dkim::make(self, &ALGORITHMS).await?;
        let now = self.now();
        let domain = Domain {
            id: id::fresh("dom"),
            account: account.clone(),
            name: name.clone(),
            token: id::token()?,
            proof: Proof::default(),
            mail_from: mail_from.map(|name| MailFrom { name, is_good: false }),
            tracking_host,
            asked_at: now,
            checked_at: None,
            check_at: now,
            revision: 1,
            created_at: now,
        };
        let mut change = self.store().change().await?;
        must_have_room(change.conn(), &account, &name).await?;
        let insert = q!(
            "INSERT INTO domain (id, account, name, token, mail_from_good, asked_at, check_at, revision, created_at) \
             VALUES ($1, $2, $3, $4, 0, $5, $5, 1, $5)",
            domain.id.clone(),
            account,
            name.to_string(),
            domain.token.clone(),
            now.0,
        );
        run_unless(change.conn(), insert, || taken(&name)).await?;
        write(&mut change, &domain).await?;
        let selectors: Vec<String> = keys.iter().map(|key| key.selector.clone()).collect();
        for key in keys {
            dkim::insert(&mut change, &domain.id, key, now).await?;
        }
        let detail = json!({
            "name": name.as_str(), "selectors": selectors, "tracking_host": told(domain.tracking_host.as_ref()),
            "mail_from": told(domain.mail_from.as_ref().map(|mail_from| &mail_from.name)),
        });
        audit::write(&mut change, by, now, domain.line("created", detail)).await?;
        change.commit().await?;
        Ok(domain)
    }

    pub async fn domain(&self, by: &Actor, account: &str, called: &str) -> Result<Domain, Refusal> {
        let mut conn = self.store().read().await?;
        let account = reach(&mut conn, by, account, Actor::may_read).await?;
        find(&mut conn, &account, called).await
    }

    pub async fn domains(&self, by: &Actor, account: &str, window: &Window) -> Result<Page<Domain>, Refusal> {
        let mut conn = self.store().read().await?;
        let account = reach(&mut conn, by, account, Actor::may_read).await?;
        let query = q!(
            concat!("SELECT ", columns!(), " FROM domain WHERE account = $1 AND id > $2 ORDER BY id LIMIT $3"),
            account,
            window.after_text(),
            window.fetch(),
        );
        let found = rows(&mut conn, query).await?.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::of(found, window, |domain| domain.id.clone()))
    }

    pub async fn change_domain(
        &self,
        by: &Actor,
        account: &str,
        called: &str,
        to: DomainChange,
    ) -> Result<Domain, Refusal> {
        let mut change = self.store().change().await?;
        let account = reach(change.conn(), by, account, Actor::may_manage).await?;
        let was = find(change.conn(), &account, called).await?;
        must_be_seen("domain", to.revision, was.revision)?;
        let mut is = was.clone();
        let own = |field, text: Option<String>| text.map(|text| below(field, &text, &was.name)).transpose();
        if let Some(mail_from) = to.mail_from {
            let name = own("mail_from", mail_from)?;
            let stays = name.is_some() && name.as_ref() == was.mail_from.as_ref().map(|mail_from| &mail_from.name);
            if !stays {
                is.mail_from = name.map(|name| MailFrom { name, is_good: false });
            }
        }
        if let Some(tracking_host) = to.tracking_host {
            is.tracking_host = own("tracking_host", tracking_host)?;
        }
        must_differ(is.mail_from.as_ref().map(|mail_from| &mail_from.name), is.tracking_host.as_ref())?;
        if is == was {
            return Ok(was);
        }
        let now = self.now();
        (is.asked_at, is.check_at, is.revision) = (now, now, was.revision + 1);
        write(&mut change, &is).await?;
        let told = |domain: &Domain| {
            let mail_from = domain.mail_from.as_ref().map(|mail_from| &mail_from.name);
            json!({ "mail_from": told(mail_from), "tracking_host": told(domain.tracking_host.as_ref()) })
        };
        let detail = json!({ "name": is.name.as_str(), "was": told(&was), "is": told(&is) });
        audit::write(&mut change, by, now, is.line("changed", detail)).await?;
        change.commit().await?;
        Ok(is)
    }

    /// With its keys. Mail that was taken before is signed already and goes out.
    pub async fn delete_domain(&self, by: &Actor, account: &str, called: &str) -> Result<(), Refusal> {
        let mut change = self.store().change().await?;
        let account = reach(change.conn(), by, account, Actor::may_manage).await?;
        let domain = find(change.conn(), &account, called).await?;
        run(change.conn(), q!("DELETE FROM dkim_key WHERE domain = $1", domain.id.clone())).await?;
        run(change.conn(), q!("DELETE FROM domain WHERE id = $1", domain.id.clone())).await?;
        let detail = json!({ "name": domain.name.as_str(), "state": domain.state().code() });
        audit::write(&mut change, by, self.now(), domain.line("deleted", detail)).await?;
        change.commit().await
    }

    /// For networks without DNS, and for domains that the operator knows to be the account's. Checks never take it back. Its mail is
    /// signed with the keys that are there, published or not.
    pub async fn verify_domain_without_dns(&self, by: &Actor, account: &str, called: &str) -> Result<Domain, Refusal> {
        by.may_operate()?;
        let mut change = self.store().change().await?;
        let account = reach(change.conn(), by, account, Actor::may_manage).await?;
        let mut domain = find(change.conn(), &account, called).await?;
        if domain.proof.verified.is_some_and(|(_, by)| by == VerifiedBy::Operator) {
            return Ok(domain);
        }
        let was = domain.state();
        let now = self.now();
        domain.proof = Proof { verified: Some((now, VerifiedBy::Operator)), gone_since: None, lost_at: None };
        domain.revision += 1;
        write(&mut change, &domain).await?;
        let detail = json!({ "name": domain.name.as_str(), "by": "operator", "was": was.code() });
        audit::write(&mut change, by, now, domain.line("verified", detail)).await?;
        change.commit().await?;
        Ok(domain)
    }

    /// What to publish, and what was found when it was last looked for.
    pub async fn domain_records(&self, by: &Actor, account: &str, called: &str) -> Result<Vec<Record>, Refusal> {
        let mut conn = self.store().read().await?;
        let account = reach(&mut conn, by, account, Actor::may_read).await?;
        let domain = find(&mut conn, &account, called).await?;
        let keys = dkim::of_domain(&mut conn, &domain.id).await?;
        let query = q!("SELECT report FROM domain WHERE id = $1", domain.id.clone());
        let report = row(&mut conn, query).await?.map(|row| row.text_or_none(0)).transpose()?.flatten();
        Ok(records::list(&records::Ours::of(self)?, &domain, &keys, report.as_deref(), self.now()))
    }

    pub async fn dkim_keys(&self, by: &Actor, account: &str, called: &str) -> Result<Vec<Key>, Refusal> {
        let mut conn = self.store().read().await?;
        let account = reach(&mut conn, by, account, Actor::may_read).await?;
        let domain = find(&mut conn, &account, called).await?;
        dkim::of_domain(&mut conn, &domain.id).await
    }
}

fn told(name: Option<&DomainName>) -> Value {
    name.map_or(Value::Null, |name| Value::from(name.as_str()))
}
