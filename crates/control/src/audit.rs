//! Who did what, when, from where? (R7.6)
//!
//! A line for every change, written in the change's own transaction. The publisher reads these lines too, to know what the data
//! plane must be told: so nothing can change without one.

use crate::actor::Actor;
use crate::page::{Page, Window};
use crate::refusal::Refusal;
use crate::store::{Change, Columns, number, q, rows};
use engine::tally::Failed;
use engine::time::Timestamp;
use serde_json::{Value, json};
use sqlx::AnyConnection;

/// What kind of thing a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    Region,
    Account,
    Subaccount,
    ConfigurationSet,
    Pool,
    Ip,
    Lease,
    Credential,
    Domain,
    Address,
    Person,
    Setting,
    Webhook,
    Suppression,
    Signal,
    Relay,
    Case,
    Policy,
    Price,
    Billing,
    Invoice,
}

const SUBJECTS: [Subject; 21] = [
    Subject::Region,
    Subject::Account,
    Subject::Subaccount,
    Subject::ConfigurationSet,
    Subject::Pool,
    Subject::Ip,
    Subject::Lease,
    Subject::Credential,
    Subject::Domain,
    Subject::Address,
    Subject::Person,
    Subject::Setting,
    Subject::Webhook,
    Subject::Suppression,
    Subject::Signal,
    Subject::Relay,
    Subject::Case,
    Subject::Policy,
    Subject::Price,
    Subject::Billing,
    Subject::Invoice,
];

impl Subject {
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Subject::Region => "region",
            Subject::Account => "account",
            Subject::Subaccount => "subaccount",
            Subject::ConfigurationSet => "configuration-set",
            Subject::Pool => "pool",
            Subject::Ip => "ip",
            Subject::Lease => "lease",
            Subject::Credential => "credential",
            Subject::Domain => "domain",
            Subject::Address => "address",
            Subject::Person => "person",
            Subject::Setting => "setting",
            Subject::Webhook => "webhook",
            Subject::Suppression => "suppression",
            Subject::Signal => "signal",
            Subject::Relay => "relay",
            Subject::Case => "case",
            Subject::Policy => "policy",
            Subject::Price => "price",
            Subject::Billing => "billing",
            Subject::Invoice => "invoice",
        }
    }

    #[must_use]
    pub fn of(code: &str) -> Option<Subject> {
        SUBJECTS.into_iter().find(|subject| subject.code() == code)
    }
}

/// What a change writes down.
pub(crate) struct Line<'a> {
    pub subject: Subject,
    pub id: &'a str,
    pub account: Option<&'a str>,
    /// A word in the past: `created`, `moved`.
    pub action: &'static str,
    /// What was and what is, without secrets.
    pub detail: Value,
}

pub(crate) async fn write(change: &mut Change, by: &Actor, now: Timestamp, line: Line<'_>) -> Result<(), Refusal> {
    let insert = q!(
        "INSERT INTO audit (at, actor_kind, actor, actor_name, actor_from, account, subject_kind, subject, action, detail) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING id",
        now.0,
        by.kind.code(),
        by.id.clone(),
        by.name.clone(),
        by.from.map(|from| from.to_string()),
        line.account.map(str::to_owned),
        line.subject.code(),
        line.id.to_owned(),
        line.action,
        line.detail.to_string(),
    );
    let id = number(change.conn(), insert).await?;
    change.wrote(id);
    Ok(())
}

/// Sign-ins that failed, of somebody or of all whom nobody knows.
pub(crate) async fn write_failed(
    change: &mut Change,
    (subject, id): (Subject, Option<&str>),
    account: Option<&str>,
    failed: &Failed,
    now: Timestamp,
) -> Result<(), Refusal> {
    let from: Vec<String> = failed.from.iter().map(ToString::to_string).collect();
    let detail = json!({
        "times": failed.times, "first_at": failed.first_at.to_string(), "last_at": failed.last_at.to_string(), "from": from,
    });
    let line = Line { subject, id: id.unwrap_or("unknown"), account, action: "sign-in-failed", detail };
    write(change, &Actor::service(), now, line).await
}

/// A line as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub id: i64,
    pub at: Timestamp,
    pub actor_kind: String,
    pub actor: String,
    pub actor_name: String,
    pub actor_from: Option<String>,
    pub account: Option<String>,
    pub subject_kind: String,
    pub subject: String,
    pub action: String,
    pub detail: Value,
}

/// Newest first; of one account, or of one subject, or of all.
pub(crate) async fn list(
    conn: &mut AnyConnection,
    account: Option<&str>,
    subject: Option<&str>,
    sees_hidden: bool,
    window: &Window,
) -> Result<Page<Entry>, Refusal> {
    let before: i64 = window.after.as_deref().and_then(|after| after.parse().ok()).unwrap_or(i64::MAX);
    macro_rules! statement {
        ($which:literal) => {
            concat!(
                "SELECT id, at, actor_kind, actor, actor_name, actor_from, account, subject_kind, subject, action, detail \
                 FROM audit WHERE id < $1",
                $which,
                " AND ($3 = 1 OR subject_kind NOT IN ('ip', 'lease') OR NOT EXISTS (SELECT 1 FROM audit m WHERE m.account = \
                 audit.account AND m.subject_kind = 'pool' AND m.detail LIKE '%\"kind\":\"managed\"%') OR (EXISTS (SELECT 1 FROM \
                 pool p WHERE p.account = audit.account AND p.kind = 'standard' AND audit.detail LIKE '%' || p.id || '%') AND NOT \
                 EXISTS (SELECT 1 FROM pool p WHERE p.account = audit.account AND p.kind = 'managed' AND audit.detail LIKE '%' || \
                 p.id || '%'))) ORDER BY id DESC LIMIT $2"
            )
        };
    }
    // R2.8: the addresses of a managed pool are the operator's alone. Once an account has had such a pool, it sees of its IPs and
    // leases only the lines that name a pool it arranges itself.
    let sees = i64::from(sees_hidden);
    // Each of the four goes by an index of its own.
    let limit = window.fetch();
    let query = match (account.map(str::to_owned), subject.map(str::to_owned)) {
        (None, None) => q!(statement!(""), before, limit, sees),
        (Some(account), None) => q!(statement!(" AND account = $4"), before, limit, sees, account),
        (None, Some(subject)) => q!(statement!(" AND subject = $4"), before, limit, sees, subject),
        (Some(account), Some(subject)) => {
            q!(statement!(" AND subject = $4 AND account = $5"), before, limit, sees, subject, account)
        }
    };
    let found = rows(conn, query).await?;
    let entries = found.iter().map(|row| {
        Ok(Entry {
            id: row.whole(0)?,
            at: Timestamp(row.whole(1)?),
            actor_kind: row.text(2)?,
            actor: row.text(3)?,
            actor_name: row.text(4)?,
            actor_from: row.text_or_none(5)?,
            account: row.text_or_none(6)?,
            subject_kind: row.text(7)?,
            subject: row.text(8)?,
            action: row.text(9)?,
            detail: serde_json::from_str(&row.text(10)?).unwrap_or(Value::Null),
        })
    });
    let entries: Vec<Entry> = entries.collect::<Result<_, Refusal>>()?;
    Ok(Page::of(entries, window, |entry| entry.id.to_string()))
}
