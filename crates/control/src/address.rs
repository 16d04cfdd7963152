//! Which single addresses has an account shown to be its own?
//!
//! Whoever reads the mail of an address proves it by a token that is mailed there. The mail is sent by whoever calls; here is made
//! what it says. An address is compared as `Mailbox` writes it: the part before the @ letter by letter, the domain canonical.

use crate::account::{self, reach};
use crate::actor::Actor;
use crate::audit::{self, Line, Subject};
use crate::id;
use crate::office::Office;
use crate::page::{Page, Window};
use crate::refusal::{Kind, Refusal};
use crate::setting::{self, Setting};
use crate::store::{Change, Columns, Whose, number, q, row, rows, run};
use engine::id::AccountId;
use engine::time::Timestamp;
use mail::address::Mailbox;
use serde_json::{Value, json};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long a token is good. SES gives as long.
pub const CONFIRMATION_VALID: Duration = Duration::from_secs(24 * 3_600);
/// Nobody's mailbox is filled by asking again and again.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// Nor are strangers', one after the other.
const CONFIRMATIONS_A_DAY_MAX: i64 = 200;
const DAY: Duration = Duration::from_secs(86_400);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub id: String,
    pub account: String,
    /// In canonical form.
    pub address: String,
    pub verified_at: Option<Timestamp>,
    /// Until when the token that was mailed last is good.
    pub expires_at: Option<Timestamp>,
    pub created_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressState {
    /// A token is under way.
    Pending,
    Verified,
    /// Nobody came with the token in time.
    Expired,
}

impl AddressState {
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            AddressState::Pending => "pending",
            AddressState::Verified => "verified",
            AddressState::Expired => "expired",
        }
    }
}

impl Address {
    #[must_use]
    pub fn state(&self, now: Timestamp) -> AddressState {
        match (self.verified_at, self.expires_at) {
            (Some(_), _) => AddressState::Verified,
            (None, Some(expires_at)) if now < expires_at => AddressState::Pending,
            _ => AddressState::Expired,
        }
    }

    fn line<'a>(&'a self, action: &'static str, detail: Value) -> Line<'a> {
        Line { subject: Subject::Address, id: &self.id, account: Some(&self.account), action, detail }
    }
}

/// What is to be mailed to an address. The token is nowhere else.
#[derive(Clone, PartialEq, Eq)]
pub struct Confirmation {
    pub to: String,
    pub token: String,
    pub expires_at: Timestamp,
    /// Who asks, by name.
    account: String,
    host: String,
}

/// Tokens do not get into logs.
impl fmt::Debug for Confirmation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Confirmation").field("to", &self.to).finish_non_exhaustive()
    }
}

impl Confirmation {
    #[must_use]
    pub fn subject(&self) -> String {
        format!("Confirm that {} may be used to send mail", self.to)
    }

    /// `link`: where the token is shown, if there is such a page.
    #[must_use]
    pub fn text(&self, link: Option<&str>) -> String {
        let way = match link {
            Some(link) => format!("If that was you, confirm it here:\n\n{link}\n"),
            None => format!("If that was you, confirm it with this token:\n\n{}\n", self.token),
        };
        format!(
            "Somebody of the account “{}” wants to send mail as {} through {}.\n\n{way}\nThis is good until {}. If it was not you, do \
             nothing: without it, no mail is sent in your name.\n",
            self.account, self.to, self.host, self.expires_at
        )
    }
}

macro_rules! columns {
    () => {
        "id, account, address, verified_at, expires_at, created_at"
    };
}

fn read(row: &AnyRow) -> Result<Address, Refusal> {
    Ok(Address {
        id: row.text(0)?,
        account: row.text(1)?,
        address: row.text(2)?,
        verified_at: row.whole_or_none(3)?.map(Timestamp),
        expires_at: row.whole_or_none(4)?.map(Timestamp),
        created_at: Timestamp(row.whole(5)?),
    })
}

fn canonical(text: &str) -> Result<String, Refusal> {
    Mailbox::parse(text.trim()).map(|mailbox| mailbox.to_string()).map_err(|error| {
        Refusal::invalid("address", format!("This is no address: {error}."), "Give one such as ann@example.com.")
    })
}

/// The account's own, by id or as it is written; another's is not there (R2.8).
async fn find(conn: &mut AnyConnection, account: &str, called: &str) -> Result<Address, Refusal> {
    let written = Mailbox::parse(called.trim()).map(|mailbox| mailbox.to_string()).unwrap_or_default();
    let query = q!(
        concat!("SELECT ", columns!(), " FROM address WHERE account = $1 AND (id = $2 OR address = $3)"),
        account.to_owned(),
        called.to_owned(),
        written,
    );
    match row(conn, query).await? {
        Some(row) => read(&row),
        None => Err(Refusal::not_found("address", called)),
    }
}

async fn must_have_room(conn: &mut AnyConnection, account: &str) -> Result<(), Refusal> {
    let max = setting::value(conn, Setting::AddressesMax).await?;
    let there = number(conn, q!("SELECT COUNT(*) FROM address WHERE account = $1", account.to_owned())).await?;
    if there < max {
        return Ok(());
    }
    Err(Refusal::conflict(
        "addresses_max",
        format!("The account has {there} addresses; at most {max} are allowed."),
        "Delete one that is not needed, or verify the domain they are of.",
    ))
}

/// Counted in the audit log: what was deleted since counts too.
async fn may_mail(conn: &mut AnyConnection, account: &str, now: Timestamp) -> Result<(), Refusal> {
    let query = q!(
        "SELECT COUNT(*) FROM audit WHERE account = $1 AND action = 'confirmation-asked' AND at > $2",
        account.to_owned(),
        (now - DAY).0,
    );
    if number(conn, query).await? < CONFIRMATIONS_A_DAY_MAX {
        return Ok(());
    }
    Err(Refusal::new(
        Kind::TooOften,
        "confirmations_a_day",
        format!("An account asks for at most {CONFIRMATIONS_A_DAY_MAX} confirmations in 24 hours."),
        "Go on tomorrow, or verify the domain the addresses are of.",
    ))
}

async fn insert(change: &mut Change, address: &Address) -> Result<(), Refusal> {
    let insert = q!(
        "INSERT INTO address (id, account, address, created_at) VALUES ($1, $2, $3, $4)",
        address.id.clone(),
        address.account.clone(),
        address.address.clone(),
        address.created_at.0,
    );
    run(change.conn(), insert).await?;
    Ok(())
}

impl Office {
    /// Claims an address, or asks once more for one that is not verified yet. The answer holds what to mail to it; none where the
    /// address is verified already.
    pub async fn create_address(
        &self,
        by: &Actor,
        account: &str,
        address: &str,
    ) -> Result<(Address, Option<Confirmation>), Refusal> {
        let written = canonical(address)?;
        let now = self.now();
        let mut change = self.store().change().await?;
        let account = reach(change.conn(), by, account, Actor::may_manage).await?;
        let account = account::find(change.conn(), &account).await?;
        let mut address = match find(change.conn(), &account.id, &written).await {
            Ok(known) if known.verified_at.is_some() => return Ok((known, None)),
            Ok(known) => {
                let asked_at = known.expires_at.map(|expires_at| expires_at - CONFIRMATION_VALID);
                if asked_at.is_some_and(|asked_at| now < asked_at + ASK_AGAIN_AFTER) {
                    return Err(Refusal::new(
                        Kind::TooOften,
                        "confirmation_just_asked",
                        format!("A confirmation for {written} was asked for less than a minute ago."),
                        "Look into the mailbox, its spam folder too; ask again in a minute.",
                    ));
                }
                known
            }
            Err(refusal) if refusal.kind == Kind::NotFound => {
                must_have_room(change.conn(), &account.id).await?;
                let fresh = claimed(&account.id, &written, now);
                insert(&mut change, &fresh).await?;
                fresh
            }
            Err(refusal) => return Err(refusal),
        };
        may_mail(change.conn(), &account.id, now).await?;
        let token = id::secret("address")?;
        let expires_at = now + CONFIRMATION_VALID;
        address.expires_at = Some(expires_at);
        let update = q!(
            "UPDATE address SET digest = $2, expires_at = $3 WHERE id = $1",
            address.id.clone(),
            id::digest_of(&token).to_vec(),
            expires_at.0,
        );
        run(change.conn(), update).await?;
        let line = address.line("confirmation-asked", json!({ "address": written.as_str() }));
        audit::write(&mut change, by, now, line).await?;
        change.commit().await?;
        let confirmation =
            Confirmation { to: written, token, expires_at, account: account.name, host: self.host().to_owned() };
        Ok((address, Some(confirmation)))
    }

    /// Whoever has the token reads the address's mail: it needs no credential. Shown twice, it is good twice, because programs that
    /// look into mail follow links too.
    pub async fn confirm_address(&self, token: &str, from: Option<IpAddr>) -> Result<Address, Refusal> {
        let now = self.now();
        let mut change = self.store().change().await?;
        let query = q!(
            concat!("SELECT ", columns!(), " FROM address WHERE digest = $1"),
            id::digest_of(token.trim()).to_vec(),
        );
        let found = row(change.conn(), query).await?.as_ref().map(read).transpose()?;
        let Some(mut address) = found.filter(|address| address.expires_at.is_some_and(|until| now < until)) else {
            return Err(Refusal::new(
                Kind::NotFound,
                "confirmation_unknown",
                "This confirmation is not known, or not good any more: it is good for 24 hours, and only the last one that was \
                 mailed.",
                "Ask for a new one.",
            ));
        };
        if address.verified_at.is_some() {
            return Ok(address);
        }
        address.verified_at = Some(now);
        let update = q!("UPDATE address SET verified_at = $2 WHERE id = $1", address.id.clone(), now.0);
        run(change.conn(), update).await?;
        let by = Actor { name: format!("who reads {}", address.address), from, ..Actor::service() };
        let line = address.line("verified", json!({ "address": address.address.as_str(), "by": "mail" }));
        audit::write(&mut change, &by, now, line).await?;
        change.commit().await?;
        Ok(address)
    }

    /// For addresses that the operator knows to be the account's.
    pub async fn verify_address_without_mail(
        &self,
        by: &Actor,
        account: &str,
        address: &str,
    ) -> Result<Address, Refusal> {
        by.may_operate()?;
        let written = canonical(address)?;
        let now = self.now();
        let mut change = self.store().change().await?;
        let account = reach(change.conn(), by, account, Actor::may_manage).await?;
        let mut address = match find(change.conn(), &account, &written).await {
            Ok(known) if known.verified_at.is_some() => return Ok(known),
            Ok(known) => known,
            Err(refusal) if refusal.kind == Kind::NotFound => {
                must_have_room(change.conn(), &account).await?;
                let fresh = claimed(&account, &written, now);
                insert(&mut change, &fresh).await?;
                fresh
            }
            Err(refusal) => return Err(refusal),
        };
        (address.verified_at, address.expires_at) = (Some(now), None);
        let update = q!(
            "UPDATE address SET verified_at = $2, digest = NULL, expires_at = NULL WHERE id = $1",
            address.id.clone(),
            now.0,
        );
        run(change.conn(), update).await?;
        let line = address.line("verified", json!({ "address": written, "by": "operator" }));
        audit::write(&mut change, by, now, line).await?;
        change.commit().await?;
        Ok(address)
    }

    pub async fn address(&self, by: &Actor, account: &str, called: &str) -> Result<Address, Refusal> {
        let mut conn = self.store().read().await?;
        let account = reach(&mut conn, by, account, Actor::may_read).await?;
        find(&mut conn, &account, called).await
    }

    pub async fn addresses(&self, by: &Actor, account: &str, window: &Window) -> Result<Page<Address>, Refusal> {
        let mut conn = self.store().read().await?;
        let account = reach(&mut conn, by, account, Actor::may_read).await?;
        let query = q!(
            concat!("SELECT ", columns!(), " FROM address WHERE account = $1 AND id > $2 ORDER BY id LIMIT $3"),
            account,
            window.after_text(),
            window.fetch(),
        );
        let found = rows(&mut conn, query).await?.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::of(found, window, |address| address.id.clone()))
    }

    pub async fn delete_address(&self, by: &Actor, account: &str, called: &str) -> Result<(), Refusal> {
        let mut change = self.store().change().await?;
        let account = reach(change.conn(), by, account, Actor::may_manage).await?;
        let address = find(change.conn(), &account, called).await?;
        run(change.conn(), q!("DELETE FROM address WHERE id = $1", address.id.clone())).await?;
        let line = address.line("deleted", json!({ "address": address.address.as_str() }));
        audit::write(&mut change, by, self.now(), line).await?;
        change.commit().await
    }
}

impl Office {
    /// The verified addresses of one account, or of all: for the data plane.
    pub async fn sending_addresses(
        &self,
        account: Option<&str>,
    ) -> Result<BTreeMap<AccountId, BTreeSet<Arc<str>>>, Refusal> {
        let mut conn = self.store().read().await?;
        sending_addresses(&mut conn, account.map_or(Whose::All, Whose::Of)).await
    }
}

fn claimed(account: &str, written: &str, now: Timestamp) -> Address {
    Address {
        id: id::fresh("addr"),
        account: account.to_owned(),
        address: written.to_owned(),
        verified_at: None,
        expires_at: None,
        created_at: now,
    }
}

pub(crate) async fn sending_addresses(
    conn: &mut AnyConnection,
    whose: Whose<'_>,
) -> Result<BTreeMap<AccountId, BTreeSet<Arc<str>>>, Refusal> {
    let query = whose.query(
        "SELECT account, address FROM address WHERE verified_at IS NOT NULL",
        "SELECT account, address FROM address WHERE verified_at IS NOT NULL AND account = $1",
    );
    let mut out: BTreeMap<AccountId, BTreeSet<Arc<str>>> = BTreeMap::new();
    for row in rows(conn, query).await? {
        out.entry(AccountId::new(&row.text(0)?)).or_default().insert(row.text(1)?.into());
    }
    Ok(out)
}
