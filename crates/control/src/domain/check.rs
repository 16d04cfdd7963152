//! Is what must be published there, and what follows from it?

use super::records::{self, Asked, Ours, Purpose, Record, RecordState};
use super::standing::{Seen, State, check_again};
use super::{Domain, find, find_by_id, write};
use crate::account::reach;
use crate::actor::Actor;
use crate::audit;
use crate::dkim::{self, Key, KeyState, Origin};
use crate::office::Office;
use crate::refusal::{Kind, Refusal};
use crate::setting::{self, Setting};
use crate::store::{Change, Columns, q, rows, run};
use engine::time::Timestamp;
use net::dns::records_of;
use serde_json::json;
use std::time::Duration;
use tokio::task::JoinSet;

/// For all records of a domain, which are looked for at once.
const CHECK_TIME_MAX: Duration = Duration::from_secs(20);
/// The DNS would only say again what it has said.
const CHECK_PAUSE: Duration = Duration::from_secs(5);
/// Domains that are looked at beside each other.
const CHECKS_AT_ONCE_MAX: usize = 8;
/// Whoever was to look at a domain and has not said anything for so long is gone.
const CLAIM: Duration = Duration::from_secs(600);

impl Office {
    /// Looks for the records now. What was looked at seconds ago is as it was.
    pub async fn check_domain(&self, by: &Actor, account: &str, called: &str) -> Result<Domain, Refusal> {
        let domain = {
            let mut conn = self.store().read().await?;
            let account = reach(&mut conn, by, account, Actor::may_manage).await?;
            find(&mut conn, &account, called).await?
        };
        let is_fresh = |checked_at| self.now() < checked_at + CHECK_PAUSE && domain.asked_at <= checked_at;
        if domain.checked_at.is_some_and(is_fresh) {
            return Ok(domain);
        }
        self.check(by, &domain.id).await
    }

    /// Looks at the domains that it is time for, the longest overdue first, and says how many there were. Several processes may
    /// do so at once; each domain is looked at by one.
    pub async fn check_due_domains(&self, limit: u32) -> Result<usize, Refusal> {
        let due = self.claim_due(limit).await?;
        let count = due.len();
        let mut tasks = JoinSet::new();
        for id in due {
            if tasks.len() >= CHECKS_AT_ONCE_MAX {
                tasks.join_next().await;
            }
            let office = self.clone();
            tasks.spawn(async move {
                match office.check(&Actor::service(), &id).await {
                    Ok(_) => {}
                    // It was deleted meanwhile.
                    Err(refusal) if refusal.kind == Kind::NotFound => {}
                    Err(refusal) => tracing::warn!(domain = id, %refusal, "a domain's records could not be checked"),
                }
            });
        }
        while tasks.join_next().await.is_some() {}
        Ok(count)
    }

    async fn claim_due(&self, limit: u32) -> Result<Vec<String>, Refusal> {
        let now = self.now();
        let due =
            || q!("SELECT id FROM domain WHERE check_at <= $1 ORDER BY check_at LIMIT $2", now.0, i64::from(limit));
        // Mostly there is none, and nobody has to wait.
        if rows(&mut *self.store().read().await?, due()).await?.is_empty() {
            return Ok(Vec::new());
        }
        let mut change = self.store().change().await?;
        let ids = rows(change.conn(), due()).await?;
        let ids = ids.iter().map(|row| row.text(0)).collect::<Result<Vec<_>, _>>()?;
        for id in &ids {
            let update = q!("UPDATE domain SET check_at = $2 WHERE id = $1", id.clone(), (now + CLAIM).0);
            run(change.conn(), update).await?;
        }
        change.commit().await?;
        Ok(ids)
    }

    /// The plan: read what to look for; look, with no transaction open; write down what was found, for what is still wanted.
    async fn check(&self, by: &Actor, id: &str) -> Result<Domain, Refusal> {
        let asked = {
            let mut conn = self.store().read().await?;
            let domain = find_by_id(&mut conn, id).await?;
            let keys = dkim::of_domain(&mut conn, id).await?;
            records::asked(&Ours::of(self)?, &domain, &keys)
        };
        let found = self.look_up(asked).await;
        let now = self.now();
        let mut change = self.store().change().await?;
        let mut domain = find_by_id(change.conn(), id).await?;
        let mut keys = dkim::of_domain(change.conn(), id).await?;
        self.activate_keys(&mut change, by, &domain, &mut keys, &found, now).await?;
        dkim::forget_retired(&mut change, id, now).await?;
        let was = domain.clone();
        domain.proof = was.proof.after(seen(&domain, &keys, &found), now);
        if let Some(mail_from) = &mut domain.mail_from {
            mail_from.is_good = mail_from_is_good(mail_from.name.as_str(), mail_from.is_good, &found);
        }
        domain.checked_at = Some(now);
        domain.check_at = check_again(&domain.proof, waiting_since(&domain, &keys, &found), now);
        write(&mut change, &domain).await?;
        let report = serde_json::to_string(&found).unwrap_or_default();
        run(change.conn(), q!("UPDATE domain SET report = $2 WHERE id = $1", id.to_owned(), report)).await?;
        self.tell(&mut change, by, &was, &domain, now).await?;
        let days = setting::value(change.conn(), Setting::DkimRotationDays).await?;
        change.commit().await?;
        let due = if domain.proof.verified.is_some() { dkim::due(&keys, days, now) } else { Vec::new() };
        if !due.is_empty() {
            let fresh = dkim::make(self, &due).await?;
            self.prepare_keys(&Actor::service(), &domain.account, id, fresh, "dkim-prepared").await?;
        }
        Ok(domain)
    }

    async fn look_up(&self, asked: Vec<Asked>) -> Vec<Record> {
        let mut tasks = JoinSet::new();
        for (place, asked) in asked.into_iter().enumerate() {
            let office = self.clone();
            tasks.spawn(async move {
                let looking = records_of(office.dns(), &asked.wanted);
                let record = match tokio::time::timeout(CHECK_TIME_MAX, looking).await {
                    Ok(checked) => asked.checked(checked),
                    Err(_) => asked.unanswered(CHECK_TIME_MAX),
                };
                (place, record)
            });
        }
        let mut found = Vec::new();
        while let Some(done) = tasks.join_next().await {
            found.extend(done);
        }
        found.sort_by_key(|(place, _)| *place);
        found.into_iter().map(|(_, record)| record).collect()
    }

    /// Of several that were seen at once the newest is left to sign.
    async fn activate_keys(
        &self,
        change: &mut Change,
        by: &Actor,
        domain: &Domain,
        keys: &mut [Key],
        found: &[Record],
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let seen = |key: &&Key| key.state == KeyState::Next && state_of_key(domain, key, found) == RecordState::Good;
        let selectors: Vec<String> = keys.iter().rev().filter(seen).map(|key| key.selector.clone()).collect();
        for selector in selectors {
            let retired = dkim::activate(change, keys, &selector, now).await?;
            let detail = json!({ "name": domain.name.as_str(), "selector": selector, "retired": retired });
            audit::write(change, by, now, domain.line("dkim-activated", detail)).await?;
        }
        Ok(())
    }

    /// A line for what the data plane, or whoever looks for a reason, must learn. That a check was made is no such thing.
    async fn tell(
        &self,
        change: &mut Change,
        by: &Actor,
        was: &Domain,
        is: &Domain,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let action = match (was.state(), is.state()) {
            (State::Pending | State::Lost { .. }, State::Verified) => Some("verified"),
            (State::Losing { .. }, State::Verified) => Some("proof-back"),
            (State::Verified, State::Losing { .. }) => Some("proof-gone"),
            (State::Verified | State::Losing { .. }, State::Lost { .. }) => Some("lost"),
            _ => None,
        };
        if let Some(action) = action {
            let detail = json!({ "name": is.name.as_str(), "by": "dns", "words": is.words() });
            audit::write(change, by, now, is.line(action, detail)).await?;
        }
        if was.mail_from != is.mail_from
            && let Some(mail_from) = &is.mail_from
        {
            let action = if mail_from.is_good { "mail-from-good" } else { "mail-from-failed" };
            let detail = json!({ "name": is.name.as_str(), "mail_from": mail_from.name.as_str() });
            audit::write(change, by, now, is.line(action, detail)).await?;
        }
        Ok(())
    }
}

fn state_of_key(domain: &Domain, key: &Key, found: &[Record]) -> RecordState {
    let wanted = key.wanted(&domain.name);
    let (name, value) = (wanted.name(), wanted.value());
    let is_it = |record: &&Record| record.purpose == Purpose::Dkim && record.name == name && record.value == value;
    found.iter().find(is_it).map_or(RecordState::NotChecked, |record| record.state)
}

fn seen(domain: &Domain, keys: &[Key], found: &[Record]) -> Seen {
    let token = found.iter().filter(|record| record.purpose == Purpose::Ownership).map(|record| record.state);
    let keys = || keys.iter().filter(|key| key.state != KeyState::Retired);
    let made = keys().filter(|key| key.origin == Origin::Made).map(|key| state_of_key(domain, key, found));
    let proofs: Vec<RecordState> = token.chain(made).collect();
    let signs = keys().any(|key| state_of_key(domain, key, found) == RecordState::Good);
    let unknown = |state: &RecordState| matches!(state, RecordState::NotCheckableNow | RecordState::NotChecked);
    if proofs.contains(&RecordState::Good) {
        if signs { Seen::Whole } else { Seen::Proof }
    } else if proofs.is_empty() || proofs.iter().any(unknown) {
        Seen::Unanswered
    } else {
        Seen::Gone
    }
}

/// What is wrong is not used from now on: bounces that go astray are worse than the common return path. What is not known stays.
fn mail_from_is_good(name: &str, was: bool, found: &[Record]) -> bool {
    let of_it = |record: &&Record| matches!(record.purpose, Purpose::ReturnPath | Purpose::Spf) && record.name == name;
    let states: Vec<RecordState> = found.iter().filter(of_it).map(|record| record.state).collect();
    if states.iter().any(|state| matches!(state, RecordState::Missing | RecordState::Wrong)) {
        return false;
    }
    was || (states.len() == 2 && states.iter().all(|state| *state == RecordState::Good))
}

fn waiting_since(domain: &Domain, keys: &[Key], found: &[Record]) -> Option<Timestamp> {
    let unseen = |record: &&Record| record.purpose == Purpose::Tracking && record.state != RecordState::Good;
    let waits = domain.proof.verified.is_none()
        || keys.iter().any(|key| key.state == KeyState::Next)
        || domain.mail_from.as_ref().is_some_and(|mail_from| !mail_from.is_good)
        || found.iter().any(|record| unseen(&record));
    waits.then(|| domain.asked_at.max(domain.proof.lost_at.unwrap_or(domain.asked_at)))
}
