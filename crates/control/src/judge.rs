//! Who must be warned, who must stop, and who shares IPs with whom from now on? (R6.3, R6.4)
//!
//! An account whose figures are over a limit is reviewed; over a higher one, it is paused, and reads in every refusal why and what to
//! do. Only the operator lets it go on, and then the figures from before do not count against it.

use crate::account::{self, Account, Standing};
use crate::actor::Actor;
use crate::audit::{self, Line, Subject};
use crate::incident::{self, IncidentKind, Of, Told, Weight};
use crate::inventory::{self, State};
use crate::office::Office;
use crate::refusal::Refusal;
use crate::reputation::{outcomes, tells, thresholds};
use crate::setting::{self, Setting};
use crate::statistics::{Dimension, Question};
use crate::store::{Change, Columns, q, rows, run};
use engine::counts::Grain;
use engine::quota::{self, WARN_AT};
use engine::reputation::{Beside, Concern, Level, Measure, Outcomes, Reputation, Share, is_healed, measure};
use engine::tier;
use engine::time::Timestamp;
use serde_json::json;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

/// Who sent nothing for so long is judged no more, until it sends again.
const SENT_WITHIN: Duration = Duration::from_secs(2 * 86_400);
/// For what a provider stops taking mail, it was sent in this time.
const BLAMED_WITHIN: Duration = Duration::from_secs(86_400);

fn kind_of(measure: Measure) -> IncidentKind {
    match measure {
        Measure::Bounces => IncidentKind::Bounces,
        Measure::Complaints => IncidentKind::Complaints,
    }
}

/// How much of a day's quota an account has used in a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaUsed {
    pub account: String,
    pub region: String,
    pub used: u64,
    pub per_day: u64,
}

impl QuotaUsed {
    fn percent(&self) -> u64 {
        quota::percent(self.used, self.per_day)
    }
}

impl Office {
    /// Reviews and pauses who must be, ends reviews of who has healed; how many were judged.
    pub async fn judge_accounts(&self) -> Result<usize, Refusal> {
        // By days, of which there are few rows.
        let since = Grain::Day.begin(self.now() - SENT_WITHIN);
        let mut archive = self.archive().store().read().await?;
        let query = q!(
            "SELECT DISTINCT s.account FROM rollup r JOIN series s ON s.id = r.series WHERE r.grain = $1 AND r.at >= $2",
            Grain::Day.seconds(),
            since,
        );
        let mut accounts: BTreeSet<String> =
            rows(&mut archive, query).await?.iter().map(|row| row.text(0)).collect::<Result<_, _>>()?;
        drop(archive);
        let mut conn = self.store().read().await?;
        let query =
            q!("SELECT DISTINCT subject FROM incident WHERE kind IN ('bounces', 'complaints') AND closed_at IS NULL");
        for row in rows(&mut conn, query).await? {
            accounts.insert(row.text(0)?);
        }
        drop(conn);
        for account in &accounts {
            self.judge_account(account).await?;
        }
        Ok(accounts.len())
    }

    async fn judge_account(&self, id: &str) -> Result<(), Refusal> {
        let mut conn = self.store().read().await?;
        let account = match account::find(&mut conn, id).await {
            Ok(account) => account,
            // Events without an account, or of one that is gone.
            Err(refusal) if refusal.kind == crate::refusal::Kind::NotFound => return Ok(()),
            Err(refusal) => return Err(refusal),
        };
        let (thresholds, judged_from) = (thresholds(&mut conn).await?, account.judged_from);
        let may_pause = setting::value(&mut conn, Setting::FiguresPause).await? != 0;
        drop(conn);
        let of = || Question { account: Some(account.id.clone()), ..Question::default() };
        let beside = Beside { tells: &tells, is_listed: false, traps: Share::default() };
        let days = self.days(of(), Grain::Day, None).await?;
        let sent_today = days.last().is_some_and(|today| today.values().any(|outcomes| outcomes.sent() > 0));
        let whole = measure(&days, beside, thresholds);
        // Who was let go on is stopped for what came since, and for nothing else.
        let since = match judged_from.0 {
            0 => whole.clone(),
            _ => measure(&self.days(of(), Grain::Hour, Some(next_hour(judged_from))).await?, beside, thresholds),
        };
        let mut change = self.store().change().await?;
        let mut is_changed = false;
        let mut is_paused = account.standing == Standing::Paused;
        for measure in [Measure::Bounces, Measure::Complaints] {
            let worst = |found: &Reputation| found.concerns.iter().find(|concern| concern.measure == measure).copied();
            let pausing = worst(&since).filter(|concern| may_pause && concern.level == Level::Pause);
            let of = Of { account: Some(&account.id), ip: None, domain: None, provider: "", kind: kind_of(measure) };
            match (pausing, worst(&whole)) {
                // What it was paused for is told already, and nothing new comes.
                _ if is_paused => {}
                (Some(concern), _) => {
                    self.pause(&mut change, &account, &of, &concern).await?;
                    (is_paused, is_changed) = (true, true);
                }
                (None, Some(concern)) => {
                    self.review(&mut change, &of, &concern).await?;
                    is_changed = true;
                }
                (None, None) if is_healed(&whole, measure, thresholds) => {
                    if incident::open_of(change.conn(), &of).await?.is_some() {
                        incident::end(&mut change, &of, "its figures are good again", self.now()).await?;
                        is_changed = true;
                    }
                }
                (None, None) => {}
            }
        }
        is_changed |= self.place_sender(&mut change, &account, &whole, sent_today).await?;
        if is_changed {
            change.commit().await?;
        }
        Ok(())
    }

    /// R6.4: a provider takes nothing from a shared IP any more: whoever's mail it was shares IPs with its like from now on.
    pub(crate) async fn blame(&self, address: IpAddr, provider: &str) -> Result<(), Refusal> {
        let mut conn = self.store().read().await?;
        let ip = match inventory::find(&mut conn, address).await {
            Ok(ip) if ip.state == State::Shared => ip,
            _ => return Ok(()),
        };
        drop(conn);
        let asked = Question {
            ip: Some(ip.address),
            provider: Some(provider.to_owned()),
            by: vec![Dimension::Account],
            grain: None,
            from: Some(self.now() - BLAMED_WITHIN),
            until: Some(self.now() + Duration::from_secs(1)),
            ..Question::default()
        };
        let senders = self.counts(&asked, true).await?.figures;
        let became: Vec<Outcomes> = senders.iter().map(outcomes).collect();
        let Some(at) = tier::to_blame(&became) else { return Ok(()) };
        let Some((_, id)) = senders[at].of.first() else { return Ok(()) };
        let mut change = self.store().change().await?;
        let Ok(account) = account::find(change.conn(), id).await else { return Ok(()) };
        let Outcomes { hard, blocked, complained, .. } = became[at];
        let words = format!(
            "{provider} stopped taking mail from an IP that it shared, and most of what went badly there in the last day was its own: \
             {} of {} messages bounced, {complained} were complained of",
            hard + blocked,
            became[at].sent(),
        );
        if self.blame_sender(&mut change, &account, &words).await? {
            change.commit().await?;
        }
        Ok(())
    }

    /// R7.1: who has used most of a day's quota is told, until it is well below again. What is used, the data plane knows.
    pub async fn tell_quotas(&self, used: &[QuotaUsed]) -> Result<(), Refusal> {
        let mut change = self.store().change().await?;
        let query = q!("SELECT DISTINCT subject FROM incident WHERE kind = 'quota' AND closed_at IS NULL");
        let mut accounts: BTreeSet<String> =
            rows(change.conn(), query).await?.iter().map(|row| row.text(0)).collect::<Result<_, _>>()?;
        let is_open = accounts.clone();
        accounts.extend(
            used.iter().filter(|used| used.percent() >= u64::from(WARN_AT[0])).map(|used| used.account.clone()),
        );
        if accounts.is_empty() {
            return Ok(());
        }
        for account in &accounts {
            let of = Of { account: Some(account), ip: None, domain: None, provider: "", kind: IncidentKind::Quota };
            let own: Vec<&QuotaUsed> = used.iter().filter(|used| used.account == *account).collect();
            let Some(most) = own.iter().max_by_key(|used| used.percent()) else {
                incident::end(&mut change, &of, "enough of the quota is free again", self.now()).await?;
                continue;
            };
            // One that is told already changes with its mark, not with each message.
            let mark = WARN_AT.into_iter().rfind(|mark| most.percent() >= u64::from(*mark)).unwrap_or(WARN_AT[0]);
            if is_open.contains(account) {
                let known = incident::open_of(change.conn(), &of).await?;
                if known.is_some_and(|known| known.evidence["mark"].as_u64() >= Some(u64::from(mark))) {
                    continue;
                }
            }
            let words = format!(
                "{} % of the quota in {} are used: {} of {} recipients in 24 hours",
                most.percent(),
                most.region,
                most.used,
                most.per_day
            );
            let evidence = json!({ "mark": mark, "region": most.region, "used": most.used, "per_day": most.per_day });
            let mend = "What was sent leaves the count 24 hours later. If that is too little, ask by a case for a higher quota \
                        (weir case open quota).";
            let told = Told { weight: Weight::Review, words: &words, mend, link: None, evidence, until: None };
            incident::tell(&mut change, &of, told, self.now()).await?;
        }
        change.commit().await
    }

    async fn review(&self, change: &mut Change, of: &Of<'_>, concern: &Concern) -> Result<(), Refusal> {
        let words = format!("The account is under review: {}", concern.words());
        let told = Told {
            weight: Weight::Review,
            words: &words,
            mend: concern.measure.mend(),
            link: None,
            evidence: json!(concern),
            until: None,
        };
        incident::tell(change, of, told, self.now()).await.map(|_| ())
    }

    /// R6.3: it sends nothing any more, what is queued included, until the operator lets it go on.
    async fn pause(
        &self,
        change: &mut Change,
        account: &Account,
        of: &Of<'_>,
        concern: &Concern,
    ) -> Result<(), Refusal> {
        let mend = format!("{} Then ask the operator to let the account send again.", concern.measure.mend());
        let words = format!("The account is paused: {}", concern.words());
        let told = Told {
            weight: Weight::Stopped,
            words: &words,
            mend: &mend,
            link: None,
            evidence: json!(concern),
            until: None,
        };
        incident::tell(change, of, told, self.now()).await?;
        let reason = format!("{}. {mend}", concern.words());
        let update = q!(
            "UPDATE account SET standing = 'paused', standing_reason = $2, revision = revision + 1 WHERE id = $1",
            account.id.clone(),
            reason.clone(),
        );
        run(change.conn(), update).await?;
        let detail = json!({ "was": account.standing.code(), "reason": reason, "figures": concern });
        let line = Line {
            subject: Subject::Account,
            id: &account.id,
            account: Some(&account.id),
            action: "paused-by-its-figures",
            detail,
        };
        audit::write(change, &Actor::service(), self.now(), line).await
    }
}

/// Counts are kept by the hour, and the one that began before is left out.
fn next_hour(at: Timestamp) -> Timestamp {
    Timestamp::from_unix_seconds(Grain::Hour.begin(at) + Grain::Hour.seconds())
}
