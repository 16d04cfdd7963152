//! Among which others does a sender share IPs, why, and what is next? (R6.4)
//!
//! `engine::tier` decides from what became of its mail; here the decision is carried out, written down, and shown to both sides. What
//! the operator decides stays until the operator takes it back.

use crate::account::{self, Account};
use crate::actor::Actor;
use crate::audit::{self, Line, Subject};
use crate::office::Office;
use crate::page::{Page, Window};
use crate::refusal::Refusal;
use crate::store::{Change, Columns, q, row, rows, run};
use engine::counts::Grain;
use engine::reputation::Reputation;
use engine::tier::{Decided, Sender, Tier, decide};
use engine::time::Timestamp;
use serde_json::json;
use sqlx::AnyConnection;

const REASON_LETTERS_MAX: usize = 500;
const MOVES_SHOWN: i64 = 50;

/// Where a sender stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    pub account: String,
    pub name: String,
    pub tier: Tier,
    pub since: Timestamp,
    /// Why the operator put it there; none: it goes by its figures.
    pub reason: Option<String>,
    pub well_days: u32,
    /// Where its figures would put it now, and why.
    pub would: Tier,
    pub words: String,
    /// Newest first.
    pub moves: Vec<Move>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    pub at: Timestamp,
    pub was: Tier,
    pub became: Tier,
    pub words: String,
    pub actor: String,
}

/// What is kept of it.
struct Kept {
    since: Timestamp,
    reason: Option<String>,
    well_days: u32,
    /// The last one that counted, from 1970.
    well_day: i64,
}

async fn kept(conn: &mut AnyConnection, account: &str) -> Result<Kept, Refusal> {
    let query = q!(
        "SELECT tier_since, tier_reason, tier_well_days, tier_well_day FROM account WHERE id = $1",
        account.to_owned()
    );
    let row = row(conn, query).await?.ok_or_else(|| Refusal::not_found("account", account))?;
    Ok(Kept {
        since: Timestamp(row.whole(0)?),
        reason: row.text_or_none(1)?,
        well_days: u32::try_from(row.whole(2)?).unwrap_or(0),
        well_day: row.whole(3)?,
    })
}

impl Office {
    async fn decided(&self, account: &Account, well_days: u32, reputation: &Reputation) -> Result<Decided, Refusal> {
        let (sent, days) = self.sent_ever(&account.id).await?;
        Ok(decide(Sender { tier: account.tier, sent, days, reputation, well_days }))
    }

    /// How much, and since how many days, as far as days are kept.
    pub(crate) async fn sent_ever(&self, account: &str) -> Result<(u64, u32), Refusal> {
        let mut archive = self.archive().store().read().await?;
        let query = q!(
            "SELECT CAST(COALESCE(SUM(r.delivered + r.hard + r.soft + r.blocked + r.other), 0) AS BIGINT), \
             CAST(COALESCE(MIN(r.at), 0) AS BIGINT) FROM series s CROSS JOIN rollup r \
             WHERE r.grain = $1 AND r.series = s.id AND s.account = $2",
            Grain::Day.seconds(),
            account.to_owned(),
        );
        let found = row(&mut archive, query).await?;
        let (sent, first) = match found {
            Some(row) => (row.whole(0)?.unsigned_abs(), row.whole(1)?),
            None => (0, 0),
        };
        let days = if sent == 0 { 0 } else { self.now().day() - Timestamp::from_unix_seconds(first).day() };
        Ok((sent, u32::try_from(days).unwrap_or(0)))
    }

    /// Moves it where its figures put it; whether anything changed.
    pub(crate) async fn place_sender(
        &self,
        change: &mut Change,
        account: &Account,
        reputation: &Reputation,
        sent_today: bool,
    ) -> Result<bool, Refusal> {
        let kept = kept(change.conn(), &account.id).await?;
        if kept.reason.is_some() {
            return Ok(false);
        }
        let decided = self.decided(account, kept.well_days, reputation).await?;
        let today = self.now().day();
        if decided.tier != account.tier {
            self.put_tier(change, &Actor::service(), account, decided.tier, None, &decided.words).await?;
            return Ok(true);
        }
        // Only a day on which it sent says how it does.
        let well_days = match (decided.does_well, sent_today && kept.well_day < today) {
            (false, _) => 0,
            (true, true) => kept.well_days + 1,
            (true, false) => kept.well_days,
        };
        if well_days == kept.well_days {
            return Ok(false);
        }
        let update = q!(
            "UPDATE account SET tier_well_days = $2, tier_well_day = $3 WHERE id = $1",
            account.id.clone(),
            i64::from(well_days),
            if well_days == 0 { kept.well_day } else { today },
        );
        run(change.conn(), update).await?;
        Ok(true)
    }

    /// Down it goes, unless the operator put it where it is; whether it did.
    pub(crate) async fn blame_sender(
        &self,
        change: &mut Change,
        account: &Account,
        words: &str,
    ) -> Result<bool, Refusal> {
        if account.tier == Tier::Penalty || kept(change.conn(), &account.id).await?.reason.is_some() {
            return Ok(false);
        }
        self.put_tier(change, &Actor::service(), account, Tier::Penalty, None, words).await?;
        Ok(true)
    }

    async fn put_tier(
        &self,
        change: &mut Change,
        by: &Actor,
        account: &Account,
        tier: Tier,
        reason: Option<&str>,
        words: &str,
    ) -> Result<(), Refusal> {
        let now = self.now();
        let update = q!(
            "UPDATE account SET tier = $2, tier_since = CASE WHEN tier = $2 THEN tier_since ELSE $3 END, tier_reason = $4, \
             tier_well_days = 0, revision = revision + 1 WHERE id = $1",
            account.id.clone(),
            tier.code(),
            now.0,
            reason.map(str::to_owned),
        );
        run(change.conn(), update).await?;
        let insert = q!(
            "INSERT INTO tier_move (account, at, was, became, words, actor) VALUES ($1, $2, $3, $4, $5, $6)",
            account.id.clone(),
            now.0,
            account.tier.code(),
            tier.code(),
            words.to_owned(),
            by.name.clone(),
        );
        run(change.conn(), insert).await?;
        if tier < account.tier {
            tracing::warn!(account = account.id, was = account.tier.code(), tier = tier.code(), "{words}");
        }
        let detail = json!({ "was": account.tier.code(), "is": tier.code(), "words": words });
        let (id, of) = (account.id.as_str(), Some(account.id.as_str()));
        let line = Line { subject: Subject::Account, id, account: of, action: "moved-to-tier", detail };
        audit::write(change, by, now, line).await
    }

    /// Where the account stands, where its figures would put it, and where it has been.
    pub async fn tier(&self, by: &Actor, called: &str) -> Result<Placed, Refusal> {
        let mut conn = self.store().read().await?;
        let account = account::seen(&mut conn, by, called, Actor::may_read).await?;
        drop(conn);
        self.placed(account).await
    }

    /// Where every sender stands, and where it would go: what the next round does, before it does it.
    pub async fn tiers(&self, by: &Actor, window: &Window) -> Result<Page<Placed>, Refusal> {
        let accounts = self.accounts(by, window).await?;
        let mut items = Vec::with_capacity(accounts.items.len());
        for account in accounts.items {
            items.push(self.placed(account).await?);
        }
        Ok(Page { items, next: accounts.next })
    }

    async fn placed(&self, account: Account) -> Result<Placed, Refusal> {
        let reputation = self.reputation_of(&account.id).await?;
        let mut conn = self.store().read().await?;
        let kept = kept(&mut conn, &account.id).await?;
        let query = q!(
            "SELECT at, was, became, words, actor FROM tier_move WHERE account = $1 ORDER BY id DESC LIMIT $2",
            account.id.clone(),
            MOVES_SHOWN,
        );
        let moves = rows(&mut conn, query).await?;
        drop(conn);
        let decided = self.decided(&account, kept.well_days, &reputation).await?;
        let read = |row: &sqlx::any::AnyRow| {
            Ok(Move {
                at: Timestamp(row.whole(0)?),
                was: Tier::of(&row.text(1)?).unwrap_or_default(),
                became: Tier::of(&row.text(2)?).unwrap_or_default(),
                words: row.text(3)?,
                actor: row.text(4)?,
            })
        };
        Ok(Placed {
            account: account.id,
            name: account.name,
            tier: account.tier,
            since: kept.since,
            reason: kept.reason,
            well_days: kept.well_days,
            would: decided.tier,
            words: decided.words,
            moves: moves.iter().map(read).collect::<Result<_, Refusal>>()?,
        })
    }

    /// By the operator's word it stands there, whatever its figures, until the operator says that it goes by them again (`None`).
    pub async fn set_tier(&self, by: &Actor, called: &str, to: Option<(Tier, String)>) -> Result<Placed, Refusal> {
        by.may_operate()?;
        let mut change = self.store().change().await?;
        let account = account::find(change.conn(), called).await?;
        let (tier, reason, words) = match &to {
            Some((tier, reason)) => {
                let reason = reason.trim();
                let is_line = !reason.is_empty() && !reason.chars().any(char::is_control);
                if !is_line || reason.chars().count() > REASON_LETTERS_MAX {
                    let sentence = format!("A reason has 1 to {REASON_LETTERS_MAX} characters, in one line.");
                    return Err(Refusal::invalid("reason", sentence, "Say why: the account reads it."));
                }
                (*tier, Some(reason), format!("the operator put it there: {reason}"))
            }
            None => (account.tier, None, "it goes by its figures again".to_owned()),
        };
        self.put_tier(&mut change, by, &account, tier, reason, &words).await?;
        let account = account::find(change.conn(), &account.id).await?;
        change.commit().await?;
        self.placed(account).await
    }
}
