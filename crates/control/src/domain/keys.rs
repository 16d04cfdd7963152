//! How does a domain come to new keys?

use super::{Domain, find, write};
use crate::account::reach;
use crate::actor::Actor;
use crate::audit;
use crate::dkim::{self, ALGORITHMS, Algorithm, Fresh, KEYS_PER_DOMAIN_MAX, KEYS_WAITING_MAX, Key, KeyState};
use crate::office::Office;
use crate::refusal::Refusal;
use crate::store::{Change, q, run};
use engine::time::Timestamp;
use serde_json::json;

impl Office {
    /// Makes a successor for each kind of key. It signs when its record is seen in the DNS; until then nothing changes.
    pub async fn rotate_dkim(&self, by: &Actor, account: &str, called: &str) -> Result<Vec<Key>, Refusal> {
        let (domain, kinds) = {
            let mut conn = self.store().read().await?;
            let account = reach(&mut conn, by, account, Actor::may_manage).await?;
            let domain = find(&mut conn, &account, called).await?;
            let keys = dkim::of_domain(&mut conn, &domain.id).await?;
            (domain, without_successor(&keys))
        };
        if kinds.is_empty() {
            return Err(Refusal::conflict(
                "rotation_under_way",
                format!("New keys of {} wait already for their records to be published.", domain.name),
                "Publish their records; or remove these keys, and rotate then.",
            ));
        }
        let fresh = dkim::make(self, &kinds).await?;
        self.prepare_keys(by, &domain.account, &domain.id, fresh, "dkim-prepared").await
    }

    /// A key of the account's own. It takes the place of the key of its kind when its record is seen in the DNS.
    pub async fn bring_dkim_key(
        &self,
        by: &Actor,
        account: &str,
        called: &str,
        selector: &str,
        pem: &str,
    ) -> Result<Vec<Key>, Refusal> {
        let domain = {
            let mut conn = self.store().read().await?;
            let account = reach(&mut conn, by, account, Actor::may_manage).await?;
            find(&mut conn, &account, called).await?
        };
        let fresh = dkim::bring(self.sealer(), &domain.name, selector, pem)?;
        self.prepare_keys(by, &domain.account, &domain.id, vec![fresh], "dkim-brought").await
    }

    /// Takes away a key that does not sign.
    pub async fn remove_dkim_key(
        &self,
        by: &Actor,
        account: &str,
        called: &str,
        selector: &str,
    ) -> Result<(), Refusal> {
        let mut change = self.store().change().await?;
        let account = reach(change.conn(), by, account, Actor::may_manage).await?;
        let domain = find(change.conn(), &account, called).await?;
        let keys = dkim::of_domain(change.conn(), &domain.id).await?;
        let Some(key) = keys.iter().find(|key| key.selector.eq_ignore_ascii_case(selector)) else {
            return Err(Refusal::not_found("key", selector));
        };
        if signing(&keys, |key| (key.algorithm, key.state)).iter().any(|signing| signing.id == key.id) {
            return Err(Refusal::conflict(
                "key_in_use",
                format!("Mail of {} is signed with this key, or will be first of all.", domain.name),
                "Rotate, and publish the records of the new keys; then this one is not used any more.",
            ));
        }
        run(change.conn(), q!("DELETE FROM dkim_key WHERE id = $1", key.id.clone())).await?;
        let detail =
            json!({ "name": domain.name.as_str(), "selector": key.selector.as_str(), "was": key.state.code() });
        audit::write(&mut change, by, self.now(), domain.line("dkim-removed", detail)).await?;
        change.commit().await
    }

    pub(super) async fn prepare_keys(
        &self,
        by: &Actor,
        account: &str,
        domain: &str,
        fresh: Vec<Fresh>,
        action: &'static str,
    ) -> Result<Vec<Key>, Refusal> {
        let now = self.now();
        let mut change = self.store().change().await?;
        // It may have been deleted meanwhile.
        let mut domain = find(change.conn(), account, domain).await?;
        must_have_room(&mut change, &domain, fresh.len()).await?;
        let selectors: Vec<String> = fresh.iter().map(|key| key.selector.clone()).collect();
        for key in fresh {
            dkim::insert(&mut change, &domain.id, key, now).await?;
        }
        (domain.asked_at, domain.check_at) = (now, next_look(&domain, now));
        write(&mut change, &domain).await?;
        let detail = json!({ "name": domain.name.as_str(), "selectors": selectors.as_slice() });
        audit::write(&mut change, by, now, domain.line(action, detail)).await?;
        let keys = dkim::of_domain(change.conn(), &domain.id).await?;
        change.commit().await?;
        Ok(keys.into_iter().filter(|key| selectors.contains(&key.selector)).collect())
    }
}

/// A key that is there already, published, is seen at once.
fn next_look(domain: &Domain, now: Timestamp) -> Timestamp {
    domain.check_at.min(now)
}

async fn must_have_room(change: &mut Change, domain: &Domain, more: usize) -> Result<(), Refusal> {
    let keys = dkim::of_domain(change.conn(), &domain.id).await?;
    let (there, waiting) = (keys.len(), keys.iter().filter(|key| key.state == KeyState::Next).count());
    if waiting + more > KEYS_WAITING_MAX {
        let sentence =
            format!("Of {} {waiting} keys wait to be published; at most {KEYS_WAITING_MAX} do.", domain.name);
        return Err(Refusal::conflict("keys_max", sentence, "Publish them, or remove those that are not needed."));
    }
    if there + more > KEYS_PER_DOMAIN_MAX {
        let sentence =
            format!("{} has {there} keys, old ones included; at most {KEYS_PER_DOMAIN_MAX} are kept.", domain.name);
        return Err(Refusal::conflict("keys_max", sentence, "Remove keys that are retired."));
    }
    Ok(())
}

fn without_successor(keys: &[Key]) -> Vec<Algorithm> {
    let waits = |kind: &Algorithm| keys.iter().any(|key| key.algorithm == *kind && key.state == KeyState::Next);
    ALGORITHMS.into_iter().filter(|kind| !waits(kind)).collect()
}

/// With which of its keys a domain's mail is signed, RSA first: those whose records have been seen. Where none has been, and the domain
/// sends all the same because the operator vouches for it, the newest of each kind: receivers that do not find the key take the mail
/// for unsigned, which it would be otherwise.
///
/// `keys` in the order of `dkim::of_domain`.
pub(super) fn signing<K>(keys: &[K], of: impl Fn(&K) -> (Algorithm, KeyState)) -> Vec<&K> {
    let active: Vec<&K> = keys.iter().filter(|key| of(key).1 == KeyState::Active).collect();
    if !active.is_empty() {
        return active;
    }
    let newest = |kind| keys.iter().find(|key| of(key) == (kind, KeyState::Next));
    ALGORITHMS.into_iter().filter_map(newest).collect()
}
