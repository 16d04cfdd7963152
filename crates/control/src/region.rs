//! Where are there places to send from? A region is a name; nodes and IPs belong to one for ever.

use crate::actor::Actor;
use crate::audit::{self, Line, Subject};
use crate::id;
use crate::name;
use crate::office::Office;
use crate::refusal::Refusal;
use crate::store::{Change, Columns, q, row, rows, run_unless};
use engine::time::Timestamp;
use serde_json::json;
use sqlx::AnyConnection;

/// What the operator's shared pool of a region is called, unless it is named otherwise.
pub const SHARED_POOL: &str = "shared";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    pub id: String,
    pub created_at: Timestamp,
}

impl Office {
    /// With the operator's shared pool in it.
    pub async fn create_region(&self, by: &Actor, id: &str) -> Result<Region, Refusal> {
        by.may_operate()?;
        let id = name::region(id)?;
        let now = self.now();
        let mut change = self.store().change().await?;
        create(&mut change, by, now, &id).await?;
        change.commit().await?;
        Ok(Region { id, created_at: now })
    }

    /// Regions are no secret: who asks for IPs must name one.
    pub async fn regions(&self) -> Result<Vec<Region>, Refusal> {
        let mut conn = self.store().read().await?;
        let found = rows(&mut conn, q!("SELECT id, created_at FROM region ORDER BY id")).await?;
        found.iter().map(|row| Ok(Region { id: row.text(0)?, created_at: Timestamp(row.whole(1)?) })).collect()
    }
}

pub(crate) async fn create(change: &mut Change, by: &Actor, now: Timestamp, id: &str) -> Result<(), Refusal> {
    let taken = || {
        Refusal::conflict("name_taken", format!("There is a region {id} already."), "Choose another name.").at("region")
    };
    let insert = q!("INSERT INTO region (id, created_at) VALUES ($1, $2)", id.to_owned(), now.0);
    run_unless(change.conn(), insert, taken).await?;
    let pool = q!(
        "INSERT INTO pool (id, account, region, name, kind, is_default, overflow, revision, created_at) \
         VALUES ($1, NULL, $2, $3, 'shared', 1, NULL, 1, $4)",
        id::fresh("pool"),
        id.to_owned(),
        SHARED_POOL,
        now.0,
    );
    run_unless(change.conn(), pool, taken).await?;
    let line = Line { subject: Subject::Region, id, account: None, action: "created", detail: json!({}) };
    audit::write(change, by, now, line).await
}

pub(crate) async fn must_exist(conn: &mut AnyConnection, id: &str) -> Result<(), Refusal> {
    match row(conn, q!("SELECT id FROM region WHERE id = $1", id.to_owned())).await? {
        Some(_) => Ok(()),
        None => Err(Refusal::not_found("region", id).at("region")),
    }
}

pub(crate) async fn names(conn: &mut AnyConnection) -> Result<Vec<String>, Refusal> {
    rows(conn, q!("SELECT id FROM region ORDER BY id")).await?.iter().map(|row| row.text(0)).collect()
}
