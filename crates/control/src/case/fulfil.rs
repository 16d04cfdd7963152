//! What does a grant do? IPs are leased, a pool is made, quotas are set, the sandbox is left; what cannot be had yet is waited for.

use super::{Case, Part, Party, Says};
use crate::account::{AccountChange, Quota, Standing};
use crate::actor::Actor;
use crate::lease::{Grant, Into, Order};
use crate::office::Office;
use crate::pool::NewPool;
use crate::refusal::Refusal;
use crate::store::{Change, Columns, q, row, rows, run};
use engine::case::CaseKind;
use engine::snapshot::{Leaving, PoolKind};
use engine::time::Timestamp;
use serde_json::json;
use std::net::IpAddr;

/// Where only one of the two was asked for and the other was never set: a day's quota can be sent within an hour.
const SECONDS_OF_QUOTA: i64 = 3_600;
/// Parts that are served in one round.
const SERVED_A_ROUND: i64 = 50;

/// A part of a grant that waits for IPs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub case: String,
    pub account: String,
    pub region: String,
    pub quantity: u32,
    pub since: Timestamp,
}

/// What is granted of what was asked for: all of it, or the parts that are named, none of which may be of a region that was not asked for.
pub(super) fn granted(case: &Case, parts: Vec<Part>) -> Result<Vec<Part>, Refusal> {
    let asked = &case.request.parts;
    if parts.is_empty() {
        return Ok(asked.clone());
    }
    for part in &parts {
        let wrong = |sentence: String, mend: &str| Err(Refusal::invalid("grants", sentence, mend));
        if !asked.iter().any(|asked| asked.region == part.region) {
            return wrong(format!("Nothing was asked for in {}.", part.region), "Grant what was asked for, or less.");
        }
        let is_number = match case.kind {
            CaseKind::DedicatedIps => part.quantity.is_some_and(|quantity| (1..=256).contains(&quantity)),
            CaseKind::Quota | CaseKind::LeaveSandbox => {
                let value = part.per_day.into_iter().chain(part.per_second);
                value.clone().next().is_some() && value.into_iter().all(|value| value > 0)
            }
            CaseKind::ManagedPool | CaseKind::Relinquish => true,
        };
        if !is_number {
            return wrong(
                "How much is granted is missing, or out of range.".into(),
                "Say quantity, per_day or per_second.",
            );
        }
    }
    Ok(parts)
}

/// Whether that is all that was asked for.
pub(super) fn is_whole(case: &Case, granted: &[Part]) -> bool {
    let covers = |asked: &Part, part: &Part| {
        let at_least =
            |asked: Option<i64>, part: Option<i64>| asked.is_none_or(|asked| part.is_some_and(|part| part >= asked));
        part.region == asked.region
            && asked.quantity.is_none_or(|asked| part.quantity.is_some_and(|part| part >= asked))
            && at_least(asked.per_day, part.per_day)
            && at_least(asked.per_second, part.per_second)
    };
    case.request.parts.iter().all(|asked| granted.iter().any(|part| covers(asked, part)))
}

impl Office {
    /// All of it in the change that answers the case: what is told as granted is there.
    pub(super) async fn fulfil(
        &self,
        change: &mut Change,
        by: &Actor,
        case: &Case,
        granted: &[Part],
    ) -> Result<(), Refusal> {
        match case.kind {
            CaseKind::DedicatedIps => {
                for part in granted {
                    self.lease_for(change, by, case, &part.region, part.quantity.unwrap_or(0)).await?;
                }
                Ok(())
            }
            CaseKind::ManagedPool => {
                let pool = case.request.pool.clone().unwrap_or_default();
                let region = case.request.parts.first().map(|part| part.region.clone());
                let new = NewPool {
                    region,
                    name: pool.clone(),
                    kind: PoolKind::Managed,
                    overflow: None,
                    leaving: Leaving::Shared,
                    relay: None,
                    active_within: None,
                };
                self.create_pool_in(change, by, &case.account, new).await.map_err(|refusal| refusal.at("pool"))?;
                self.say(change, case, &Says::PoolMade { pool: &pool }).await
            }
            CaseKind::Quota => self.set_quotas(change, by, case, granted).await,
            CaseKind::LeaveSandbox => {
                let to = AccountChange { standing: Some((Standing::Production, None)), ..AccountChange::default() };
                self.change_account_in(change, by, &case.account, to).await?;
                self.say(change, case, &Says::InProduction).await?;
                self.set_quotas(change, by, case, granted).await
            }
            CaseKind::Relinquish => Ok(()),
        }
    }

    async fn set_quotas(&self, change: &mut Change, by: &Actor, case: &Case, granted: &[Part]) -> Result<(), Refusal> {
        for part in granted {
            let query = q!(
                "SELECT per_day, per_second FROM quota WHERE account = $1 AND region = $2",
                case.account.clone(),
                part.region.clone(),
            );
            let known = match row(change.conn(), query).await? {
                Some(row) => Some((row.whole(0)?, row.whole(1)?)),
                None => None,
            };
            let per_day = part.per_day.or(known.map(|(per_day, _)| per_day));
            let per_second = part.per_second.or(known.map(|(_, per_second)| per_second));
            let quota = match (per_day, per_second) {
                (Some(per_day), Some(per_second)) => Quota { per_day, per_second },
                (Some(per_day), None) => Quota { per_day, per_second: (per_day / SECONDS_OF_QUOTA).max(1) },
                (None, Some(per_second)) => Quota { per_day: per_second.saturating_mul(SECONDS_OF_QUOTA), per_second },
                (None, None) => continue,
            };
            self.set_quota_in(change, by, &case.account, &part.region, quota).await?;
            let Quota { per_day, per_second } = quota;
            self.say(change, case, &Says::QuotaSet { region: &part.region, per_day, per_second }).await?;
        }
        Ok(())
    }

    /// As many as there are; the rest is waited for.
    async fn lease_for(
        &self,
        change: &mut Change,
        by: &Actor,
        case: &Case,
        region: &str,
        quantity: u32,
    ) -> Result<(), Refusal> {
        let left = quantity - self.lease_what_there_is(change, by, case, region, quantity).await?;
        if left == 0 {
            return Ok(());
        }
        let insert = q!(
            "INSERT INTO case_wait (of_case, region, quantity, since) VALUES ($1, $2, $3, $4)",
            case.id.clone(),
            region.to_owned(),
            i64::from(left),
            self.now().0,
        );
        run(change.conn(), insert).await?;
        self.say(change, case, &Says::WaitsForIps { region, quantity: left }).await
    }

    async fn lease_what_there_is(
        &self,
        change: &mut Change,
        by: &Actor,
        case: &Case,
        region: &str,
        quantity: u32,
    ) -> Result<u32, Refusal> {
        let ips = self.fit_ips(change.conn(), region, quantity).await?;
        if ips.is_empty() {
            return Ok(0);
        }
        let into = case.request.pool.clone().map_or(Into::Default, Into::Pool);
        let order = Order { region: Some(region.to_owned()), quantity: 0, into };
        let leased = self.grant_in(change, by, &case.account, &Grant { order, ips, agreed_cents: None }).await?;
        let ips: Vec<IpAddr> = leased.leases.iter().map(|lease| lease.ip).collect();
        self.say(change, case, &Says::Leased { region, pool: &leased.pool.name, ips: &ips }).await?;
        Ok(u32::try_from(ips.len()).unwrap_or(quantity))
    }

    /// Grants that wait for IPs, in their order; how many IPs were handed out. Who asked for more than there is does not hold up the
    /// others of another region.
    pub async fn serve_waiting(&self) -> Result<u32, Refusal> {
        let query = q!("SELECT id, of_case, region FROM case_wait ORDER BY id LIMIT $1", SERVED_A_ROUND);
        let waiting = rows(&mut *self.store().read().await?, query).await?;
        let mut handed_out = 0;
        for wait in &waiting {
            let (id, case, region) = (wait.whole(0)?, wait.text(1)?, wait.text(2)?);
            let mut change = self.store().change().await?;
            let left = q!("SELECT quantity FROM case_wait WHERE id = $1", id);
            let left = row(change.conn(), left).await?.map(|row| row.whole(0)).transpose()?;
            let Some(quantity) = left.and_then(|left| u32::try_from(left).ok()) else { continue };
            if self.fit_ips(change.conn(), &region, 1).await?.is_empty() {
                continue;
            }
            let case = self.case_in(&mut change, None, &case).await?;
            let served = self.lease_what_there_is(&mut change, &Actor::service(), &case, &region, quantity).await;
            let served = match served {
                Ok(served) => served,
                // Its pool is gone, or its account cannot have it any more: the operator sees it in the list, and the rest goes on.
                Err(refusal) => {
                    tracing::warn!(case = case.id, %refusal, "a granted request for IPs cannot be served");
                    continue;
                }
            };
            let update = match quantity - served {
                0 => q!("DELETE FROM case_wait WHERE id = $1", id),
                left => q!("UPDATE case_wait SET quantity = $2 WHERE id = $1", id, i64::from(left)),
            };
            run(change.conn(), update).await?;
            change.commit().await?;
            handed_out += served;
        }
        Ok(handed_out)
    }

    /// What was granted and is not there yet is wanted no more, or cannot be had; what was leased stays.
    pub async fn stop_waiting(&self, by: &Actor, account: &str, case: &str) -> Result<Case, Refusal> {
        let mut change = self.store().change().await?;
        let mut case = self.case_to_change(&mut change, by, account, case, Actor::may_own).await?;
        let query = q!("SELECT region, quantity FROM case_wait WHERE of_case = $1 ORDER BY id", case.id.clone());
        let waiting = rows(change.conn(), query).await?;
        if waiting.is_empty() {
            let sentence = "Nothing of this case waits for IPs.";
            return Err(Refusal::conflict("nothing_waits", sentence, "Give back what is leased by a case of its own."));
        }
        run(change.conn(), q!("DELETE FROM case_wait WHERE of_case = $1", case.id.clone())).await?;
        let party = if by.is_operator() { Party::Operator } else { Party::Customer };
        self.add_entry(&mut change, &case, (party, &by.name), "waiting-ended", "").await?;
        for row in &waiting {
            let (region, quantity) = (row.text(0)?, row.whole(1)?);
            self.say(&mut change, &case, &Says::WaitEnded { region: &region, quantity }).await?;
        }
        self.put_case(&mut change, by, &mut case, "waiting-ended", json!({ "parts": waiting.len() })).await?;
        change.commit().await?;
        Ok(case)
    }

    /// What was granted and waits for IPs, the longest first. For the operator.
    pub async fn waiting_for_ips(&self, by: &Actor) -> Result<Vec<Waiting>, Refusal> {
        by.may_watch()?;
        let query = q!(
            "SELECT w.of_case, c.account, w.region, w.quantity, w.since FROM case_wait w JOIN cases c ON c.id = w.of_case ORDER BY w.id"
        );
        let found = rows(&mut *self.store().read().await?, query).await?;
        let read = |row: &sqlx::any::AnyRow| {
            Ok(Waiting {
                case: row.text(0)?,
                account: row.text(1)?,
                region: row.text(2)?,
                quantity: u32::try_from(row.whole(3)?).unwrap_or(0),
                since: Timestamp(row.whole(4)?),
            })
        };
        found.iter().map(read).collect()
    }
}
