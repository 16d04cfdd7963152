//! Which parts has an account? Each with its own keys and figures, and at most one pool (R2.5).

use crate::account::{self, must_be_seen};
use crate::actor::Actor;
use crate::audit::{self, Line, Subject};
use crate::id;
use crate::name;
use crate::office::Office;
use crate::page::{Page, Window};
use crate::pool;
use crate::refusal::Refusal;
use crate::store::{Columns, Whose, number, q, row, rows, run, run_unless};
use engine::time::Timestamp;
use serde_json::json;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

const SUBACCOUNTS_MAX: i64 = 10_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subaccount {
    pub id: String,
    pub account: String,
    pub name: String,
    pub pool: Option<String>,
    pub sends: bool,
    pub revision: i64,
    pub created_at: Timestamp,
}

#[derive(Clone, Debug, Default)]
pub struct NewSubaccount {
    pub name: String,
    /// By id, or by name in the home region.
    pub pool: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct SubaccountChange {
    pub name: Option<String>,
    /// `Some(None)`: none of its own any more.
    pub pool: Option<Option<String>>,
    pub sends: Option<bool>,
    pub revision: Option<i64>,
}

macro_rules! columns {
    () => {
        "id, account, name, pool, sending, revision, created_at"
    };
}

fn read(row: &AnyRow) -> Result<Subaccount, Refusal> {
    Ok(Subaccount {
        id: row.text(0)?,
        account: row.text(1)?,
        name: row.text(2)?,
        pool: row.text_or_none(3)?,
        sends: row.yes(4)?,
        revision: row.whole(5)?,
        created_at: Timestamp(row.whole(6)?),
    })
}

pub(crate) async fn all(conn: &mut AnyConnection, whose: Whose<'_>) -> Result<Vec<Subaccount>, Refusal> {
    let query = whose.query(
        concat!("SELECT ", columns!(), " FROM subaccount"),
        concat!("SELECT ", columns!(), " FROM subaccount WHERE account = $1"),
    );
    rows(conn, query).await?.iter().map(read).collect()
}

/// By id or name; another account's is not there.
pub(crate) async fn own(conn: &mut AnyConnection, account: &str, called: &str) -> Result<Subaccount, Refusal> {
    let query = q!(
        concat!(
            "SELECT ",
            columns!(),
            " FROM subaccount WHERE account = $1 AND (id = $2 OR name = $2) ORDER BY id LIMIT 1"
        ),
        account.to_owned(),
        called.to_owned(),
    );
    match row(conn, query).await? {
        Some(row) => read(&row),
        None => Err(Refusal::not_found("subaccount", called)),
    }
}

fn taken(name: &str) -> Refusal {
    Refusal::conflict("name_taken", format!("There is a subaccount {name} already."), "Choose another name.").at("name")
}

impl Office {
    pub async fn create_subaccount(
        &self,
        by: &Actor,
        account: &str,
        new: NewSubaccount,
    ) -> Result<Subaccount, Refusal> {
        let now = self.now();
        let mut change = self.store().change().await?;
        let account = account::seen(change.conn(), by, account, Actor::may_manage).await?;
        let count = q!("SELECT COUNT(*) FROM subaccount WHERE account = $1", account.id.clone());
        if number(change.conn(), count).await? >= SUBACCOUNTS_MAX {
            let sentence = format!("The account has {SUBACCOUNTS_MAX} subaccounts, which is as many as it may have.");
            return Err(Refusal::conflict("subaccounts_max", sentence, "Use one that is there."));
        }
        let subaccount = Subaccount {
            id: id::fresh("sub"),
            account: account.id.clone(),
            name: name::account(&new.name)?,
            pool: self.chosen_pool(change.conn(), &account.id, new.pool.as_deref()).await?,
            sends: true,
            revision: 1,
            created_at: now,
        };
        let insert = q!(
            "INSERT INTO subaccount (id, account, name, pool, sending, revision, created_at) VALUES ($1, $2, $3, $4, 1, 1, $5)",
            subaccount.id.clone(),
            subaccount.account.clone(),
            subaccount.name.clone(),
            subaccount.pool.clone(),
            now.0,
        );
        run_unless(change.conn(), insert, || taken(&subaccount.name)).await?;
        let detail = json!({ "name": subaccount.name, "pool": subaccount.pool });
        let line = Line {
            subject: Subject::Subaccount,
            id: &subaccount.id,
            account: Some(&account.id),
            action: "created",
            detail,
        };
        audit::write(&mut change, by, now, line).await?;
        change.commit().await?;
        Ok(subaccount)
    }

    pub async fn subaccounts(&self, by: &Actor, account: &str, window: &Window) -> Result<Page<Subaccount>, Refusal> {
        let mut conn = self.store().read().await?;
        let account = account::seen(&mut conn, by, account, Actor::may_read).await?;
        let query = q!(
            concat!("SELECT ", columns!(), " FROM subaccount WHERE account = $1 AND id > $2 ORDER BY id LIMIT $3"),
            account.id,
            window.after_text(),
            window.fetch(),
        );
        let found = rows(&mut conn, query).await?.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::of(found, window, |subaccount| subaccount.id.clone()))
    }

    pub async fn subaccount(&self, by: &Actor, account: &str, called: &str) -> Result<Subaccount, Refusal> {
        let mut conn = self.store().read().await?;
        let account = account::seen(&mut conn, by, account, Actor::may_read).await?;
        own(&mut conn, &account.id, called).await
    }

    pub async fn change_subaccount(
        &self,
        by: &Actor,
        account: &str,
        called: &str,
        to: SubaccountChange,
    ) -> Result<Subaccount, Refusal> {
        let mut change = self.store().change().await?;
        let account = account::seen(change.conn(), by, account, Actor::may_manage).await?;
        let was = own(change.conn(), &account.id, called).await?;
        must_be_seen("subaccount", to.revision, was.revision)?;
        let mut is = was.clone();
        if let Some(name) = &to.name {
            is.name = name::account(name)?;
        }
        if let Some(pool) = to.pool {
            is.pool = self.chosen_pool(change.conn(), &account.id, pool.as_deref()).await?;
        }
        is.sends = to.sends.unwrap_or(was.sends);
        if is == was {
            return Ok(was);
        }
        is.revision += 1;
        let update = q!(
            "UPDATE subaccount SET name = $2, pool = $3, sending = $4, revision = $5 WHERE id = $1",
            is.id.clone(),
            is.name.clone(),
            is.pool.clone(),
            i64::from(is.sends),
            is.revision,
        );
        run_unless(change.conn(), update, || taken(&is.name)).await?;
        let told = |sub: &Subaccount| json!({ "name": sub.name, "pool": sub.pool, "sends": sub.sends });
        let detail = json!({ "was": told(&was), "is": told(&is) });
        let line =
            Line { subject: Subject::Subaccount, id: &is.id, account: Some(&account.id), action: "changed", detail };
        audit::write(&mut change, by, self.now(), line).await?;
        change.commit().await?;
        Ok(is)
    }

    /// Its credentials stop with it.
    pub async fn delete_subaccount(&self, by: &Actor, account: &str, called: &str) -> Result<(), Refusal> {
        let now = self.now();
        let mut change = self.store().change().await?;
        let account = account::seen(change.conn(), by, account, Actor::may_manage).await?;
        let subaccount = own(change.conn(), &account.id, called).await?;
        let credentials = q!("SELECT id FROM credential WHERE subaccount = $1", subaccount.id.clone());
        let credentials = rows(change.conn(), credentials).await?;
        for row in &credentials {
            let id = row.text(0)?;
            let revoke = q!(
                "UPDATE credential SET subaccount = NULL, revoked_at = COALESCE(revoked_at, $2), revision = revision + 1 WHERE id = $1",
                id.clone(),
                now.0,
            );
            run(change.conn(), revoke).await?;
            let detail = json!({ "because": "its subaccount was deleted" });
            let line =
                Line { subject: Subject::Credential, id: &id, account: Some(&account.id), action: "revoked", detail };
            audit::write(&mut change, by, now, line).await?;
        }
        run(change.conn(), q!("DELETE FROM subaccount WHERE id = $1", subaccount.id.clone())).await?;
        let detail = json!({ "name": subaccount.name, "credentials_revoked": credentials.len() });
        let line = Line {
            subject: Subject::Subaccount,
            id: &subaccount.id,
            account: Some(&account.id),
            action: "deleted",
            detail,
        };
        audit::write(&mut change, by, now, line).await?;
        change.commit().await
    }

    /// A pool to be used without being named: the account's own, of any kind.
    pub(crate) async fn chosen_pool(
        &self,
        conn: &mut AnyConnection,
        account: &str,
        called: Option<&str>,
    ) -> Result<Option<String>, Refusal> {
        let Some(called) = called else { return Ok(None) };
        let pool = pool::own(conn, account, self.home_region().as_str(), called).await;
        pool.map(|pool| Some(pool.id)).map_err(|refusal| refusal.at("pool"))
    }
}
