//! What must the data plane be told?
//!
//! The whole is read once; after that the audit log says what changed, and only that is read anew. The tables of a snapshot are
//! shared between versions, so that a change copies one of them and nothing else. The last snapshot is kept beside the queue, sealed:
//! mail goes on from it when the database is gone, also after a restart.

use crate::account::{self, Account, Standing};
use crate::address;
use crate::audit::Subject;
use crate::configuration_set::ConfigurationSet;
use crate::domain;
use crate::inventory::{self, Ip, State};
use crate::office::Office;
use crate::pool::{self, Pool};
use crate::refusal::Refusal;
use crate::region;
use crate::relay;
use crate::seal::{KeepFault, Sealer, write_new};
use crate::store::{Columns, Whose, q, row, rows};
use crate::subaccount::Subaccount;
use crate::{configuration_set, drive, subaccount};
use engine::id::{AccountId, CredentialId, PoolId, RegionId, SubaccountId};
use engine::snapshot::{self, Digest, IpState, PoolKind, Sending, Snapshot};
use engine::suppression::Reason;
use engine::tier::Tier;
use mail::address::Domain;
use serde::{Deserialize, Serialize};
use sqlx::AnyConnection;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Lines of the audit log looked at in one go.
const BATCH: i64 = 10_000;

/// Knows the present and keeps it so.
pub struct Publisher {
    office: Office,
    snapshot: Snapshot,
    mark: Mark,
    /// In which pool each IP is, as the snapshot has it.
    homes: BTreeMap<IpAddr, PoolId>,
    /// Which relays each account has among them.
    relays: BTreeMap<String, Vec<IpAddr>>,
    /// What lets each credential in, as the snapshot has it.
    secrets: BTreeMap<CredentialId, Secrets>,
    /// Those that the installation's file gives.
    base_keys: Vec<Digest>,
}

/// How far a snapshot has come: the last line of the audit log that is in it, and when that was written. Another database that has come
/// as far has another time there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    line: i64,
    at: i64,
}

impl Mark {
    async fn of(conn: &mut AnyConnection) -> Result<Mark, Refusal> {
        let last = row(conn, q!("SELECT id, at FROM audit ORDER BY id DESC LIMIT 1")).await?;
        last.map_or(Ok(Mark::default()), |last| Ok(Mark { line: last.whole(0)?, at: last.whole(1)? }))
    }
}

#[derive(Default)]
struct Secrets {
    keys: Vec<Digest>,
    login: Option<Arc<str>>,
}

impl Publisher {
    /// Reads everything. What the installation's file decides (rules, delivery) comes from `base`.
    pub async fn load(office: Office, base: &Snapshot) -> Result<Publisher, Refusal> {
        let (homes, relays, secrets) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let base_keys = base.keys.keys().copied().collect();
        let mut publisher =
            Publisher { office, snapshot: base.clone(), mark: Mark::default(), homes, relays, secrets, base_keys };
        publisher.read_all().await?;
        Ok(publisher)
    }

    /// Without the suppression list, which has a feed of its own.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot.clone()
    }

    /// What is to be kept for a start without the database.
    #[must_use]
    pub fn to_keep(&self) -> ToKeep {
        ToKeep { snapshot: self.snapshot.clone(), mark: self.mark, base_keys: self.base_keys.clone() }
    }

    /// The installation's file was read anew.
    pub fn rebase(&mut self, base: &Snapshot) {
        self.snapshot.rules = base.rules.clone();
        self.snapshot.providers = base.providers.clone();
        self.snapshot.schedules = base.schedules.clone();
        self.snapshot.delivery = base.delivery.clone();
        let keys = Arc::make_mut(&mut self.snapshot.keys);
        for digest in self.base_keys.drain(..) {
            keys.remove(&digest);
        }
        keys.extend(base.keys.iter().map(|(digest, credential)| (*digest, credential.clone())));
        self.base_keys = base.keys.keys().copied().collect();
    }

    /// What is in the snapshot by now, the data plane has been told of.
    pub fn is_told(&self) {
        self.office.store().is_published(self.mark.line);
    }

    async fn read_all(&mut self) -> Result<(), Refusal> {
        let mut conn = self.office.store().read().await?;
        // First how far the log is, then the rest: what changes in between is read once more, which does no harm.
        self.mark = Mark::of(&mut conn).await?;
        let mut ips = inventory::bound(&mut conn, None).await?;
        ips.sort_by_key(|ip| ip.address);
        self.homes = ips.iter().filter_map(|ip| Some((ip.address, PoolId::new(ip.pool.as_deref()?)))).collect();
        let mut in_pool: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
        for ip in &ips {
            if let Some(pool) = &ip.pool {
                in_pool.entry(pool.clone()).or_default().push(ip.address);
            }
        }
        let mut pools = pool::all(&mut conn, Whose::All).await?;
        for pool in &mut pools {
            pool.ips = in_pool.remove(&pool.id).unwrap_or_default();
        }
        let accounts = self.read_accounts(&mut conn, Whose::All, &pools).await?;
        self.snapshot.ips = Arc::new(ips.iter().map(|ip| (ip.address, told_ip(ip))).collect());
        self.take_relays(&mut conn, Whose::All).await?;
        self.snapshot.shared = Arc::new(shared_of(&pools));
        self.snapshot.tiers = Arc::new(tiers_of(&pools));
        self.snapshot.pools = Arc::new(pools.iter().map(told_pool).collect());
        self.snapshot.accounts = Arc::new(accounts);
        self.take_credentials(&mut conn, None).await?;
        self.snapshot.version = self.mark.line.unsigned_abs();
        Ok(())
    }

    /// Takes in what has changed since; whether anything has.
    pub async fn refresh(&mut self) -> Result<bool, Refusal> {
        let mut any = false;
        loop {
            let mut conn = self.office.store().read().await?;
            let query = q!(
                "SELECT id, subject_kind, subject, account, at FROM audit WHERE id > $1 ORDER BY id LIMIT $2",
                self.mark.line,
                BATCH,
            );
            let lines = rows(&mut conn, query).await?;
            let Some(last) = lines.last() else { return Ok(any) };
            let last = Mark { line: last.whole(0)?, at: last.whole(4)? };
            let mut touched = Touched::default();
            for line in &lines {
                touched.add(&line.text(1)?, &line.text(2)?, line.text_or_none(3)?);
            }
            self.take_in(&mut conn, &touched).await?;
            self.mark = last;
            self.snapshot.version = last.line.unsigned_abs();
            any = true;
            if lines.len() < usize::try_from(BATCH).unwrap_or(0) {
                return Ok(true);
            }
        }
    }

    async fn take_in(&mut self, conn: &mut AnyConnection, touched: &Touched) -> Result<(), Refusal> {
        // IPs before pools, so that no pool names an IP that is not there.
        for address in &touched.ips {
            self.take_ip(conn, *address).await?;
        }
        for account in &touched.accounts {
            self.take_account(conn, account).await?;
        }
        if touched.shared {
            self.take_shared(conn).await?;
        }
        if touched.regions {
            // Every access key has a password for the new region.
            self.take_credentials(conn, None).await?;
        } else {
            for credential in &touched.credentials {
                self.take_credentials(conn, Some(credential)).await?;
            }
        }
        Ok(())
    }

    /// What lets one credential in, or every one.
    async fn take_credentials(&mut self, conn: &mut AnyConnection, only: Option<&str>) -> Result<(), Refusal> {
        let keys = self.office.keys(conn, only).await?;
        let regions = region::names(conn).await?;
        let logins = self.office.logins(conn, &regions, only).await?;
        let old: Vec<Secrets> = match only {
            Some(id) => self.secrets.remove(id).into_iter().collect(),
            None => std::mem::take(&mut self.secrets).into_values().collect(),
        };
        // Of these two long tables the one that changes is copied.
        if !keys.is_empty() || old.iter().any(|secrets| !secrets.keys.is_empty()) {
            let known = Arc::make_mut(&mut self.snapshot.keys);
            old.iter().flat_map(|secrets| &secrets.keys).for_each(|digest| drop(known.remove(digest)));
            for (digest, credential) in keys {
                self.secrets.entry(credential.id.clone()).or_default().keys.push(digest);
                known.insert(digest, credential);
            }
        }
        if !logins.is_empty() || old.iter().any(|secrets| secrets.login.is_some()) {
            let known = Arc::make_mut(&mut self.snapshot.logins);
            old.iter().filter_map(|secrets| secrets.login.as_ref()).for_each(|login| drop(known.remove(login)));
            for (name, login) in logins {
                self.secrets.entry(login.credential.id.clone()).or_default().login = Some(name.clone());
                known.insert(name, login);
            }
        }
        Ok(())
    }

    async fn take_ip(&mut self, conn: &mut AnyConnection, address: IpAddr) -> Result<(), Refusal> {
        let found = inventory::bound(conn, Some(address)).await?.pop();
        let home = found.as_ref().and_then(|ip| ip.pool.as_deref()).map(PoolId::new);
        let was = self.homes.get(&address).cloned();
        let ips = Arc::make_mut(&mut self.snapshot.ips);
        match &found {
            Some(ip) => ips.insert(address, told_ip(ip)),
            None => ips.remove(&address),
        };
        if was == home {
            return Ok(());
        }
        let pools = Arc::make_mut(&mut self.snapshot.pools);
        if let Some(pool) = was.as_ref().and_then(|was| pools.get_mut(was)) {
            Arc::make_mut(pool).ips.retain(|ip| *ip != address);
        }
        if let Some(pool) = home.as_ref().and_then(|home| pools.get_mut(home)) {
            let ips = &mut Arc::make_mut(pool).ips;
            if let Err(place) = ips.binary_search(&address) {
                ips.insert(place, address);
            }
        }
        match home {
            Some(home) => self.homes.insert(address, home),
            None => self.homes.remove(&address),
        };
        Ok(())
    }

    async fn take_relays(&mut self, conn: &mut AnyConnection, whose: Whose<'_>) -> Result<(), Refusal> {
        let told = relay::told(conn, self.office.sealer(), self.office.host(), whose).await?;
        let gone = match whose {
            Whose::Of(account) => self.relays.remove(account).unwrap_or_default(),
            Whose::All => std::mem::take(&mut self.relays).into_values().flatten().collect(),
        };
        // Nearly all accounts have none, and the table of all IPs is long.
        let is_same = |(address, ip): &(IpAddr, snapshot::Ip)| self.snapshot.ips.get(address) == Some(ip);
        if gone.len() != told.len() || !told.iter().all(is_same) {
            let ips = Arc::make_mut(&mut self.snapshot.ips);
            gone.iter().for_each(|address| drop(ips.remove(address)));
            ips.extend(told.iter().cloned());
        }
        for (address, ip) in told {
            if let Some(relay) = ip.relay() {
                self.relays.entry(relay.account.to_string()).or_default().push(address);
            }
        }
        Ok(())
    }

    async fn take_account(&mut self, conn: &mut AnyConnection, account: &str) -> Result<(), Refusal> {
        self.take_relays(conn, Whose::Of(account)).await?;
        let mut pools = pool::all(conn, Whose::Of(account)).await?;
        let id = AccountId::new(account);
        let had = self.snapshot.accounts.get(&id).map(|known| known.pools.clone()).unwrap_or_default();
        let is_gone = |had: &&PoolId| !pools.iter().any(|pool| pool.id == had.as_str());
        let gone: Vec<&PoolId> = had.values().flat_map(BTreeMap::values).filter(is_gone).collect();
        let mut changed = Vec::new();
        for pool in &mut pools {
            let known = self.snapshot.pools.get(pool.id.as_str());
            // The IPs are as the lines about them say; a new pool has those that were put into it already.
            pool.ips = match known {
                Some(known) => known.ips.clone(),
                None => {
                    let of_pool = |(ip, home): (&IpAddr, &PoolId)| (home.as_str() == pool.id).then_some(*ip);
                    self.homes.iter().filter_map(of_pool).collect()
                }
            };
            let (id, told) = told_pool(pool);
            if known != Some(&told) {
                changed.push((id, told));
            }
        }
        // Most changes of an account are about something else, and the table of all pools is long.
        if !gone.is_empty() || !changed.is_empty() {
            let table = Arc::make_mut(&mut self.snapshot.pools);
            gone.into_iter().for_each(|gone| drop(table.remove(gone)));
            table.extend(changed);
        }
        let read = self.read_accounts(conn, Whose::Of(account), &pools).await?;
        let accounts = Arc::make_mut(&mut self.snapshot.accounts);
        match read.into_iter().next() {
            Some((id, account)) => accounts.insert(id, account),
            None => accounts.remove(&id),
        };
        Ok(())
    }

    async fn take_shared(&mut self, conn: &mut AnyConnection) -> Result<(), Refusal> {
        let mut pools = pool::shared(conn).await?;
        let table = Arc::make_mut(&mut self.snapshot.pools);
        for pool in &mut pools {
            let of_pool = |(ip, home): (&IpAddr, &PoolId)| (home.as_str() == pool.id).then_some(*ip);
            pool.ips = self.homes.iter().filter_map(of_pool).collect();
            let (id, told) = told_pool(pool);
            table.insert(id, told);
        }
        self.snapshot.shared = Arc::new(shared_of(&pools));
        self.snapshot.tiers = Arc::new(tiers_of(&pools));
        Ok(())
    }

    /// The accounts with all that is theirs; their pools come along.
    async fn read_accounts(
        &self,
        conn: &mut AnyConnection,
        whose: Whose<'_>,
        pools: &[Pool],
    ) -> Result<BTreeMap<AccountId, Arc<snapshot::Account>>, Refusal> {
        let told = |account: &Account| (AccountId::new(&account.id), told_account(account));
        let mut accounts: BTreeMap<AccountId, snapshot::Account> =
            account::all(conn, whose).await?.iter().map(told).collect();
        for pool in pools {
            let Some(account) = pool.account.as_deref().and_then(|id| accounts.get_mut(id)) else { continue };
            let (id, region) = (PoolId::new(&pool.id), RegionId::new(&pool.region));
            if pool.is_default {
                account.default_pools.insert(region.clone(), id.clone());
            }
            account.pools.entry(region).or_default().insert(Arc::from(pool.name.as_str()), id);
        }
        for part in subaccount::all(conn, whose).await? {
            let Some(account) = accounts.get_mut(part.account.as_str()) else { continue };
            account.subaccounts.insert(SubaccountId::new(&part.id), told_subaccount(&part));
        }
        for set in configuration_set::all(conn, whose).await? {
            let Some(account) = accounts.get_mut(set.account.as_str()) else { continue };
            account.sets.insert(Arc::from(set.name.as_str()), told_set(&set));
        }
        for (id, set, split) in drive::splits(conn, whose).await? {
            let set = accounts.get_mut(id.as_str()).and_then(|account| account.sets.get_mut(set.as_str()));
            if let Some(set) = set {
                set.split = Some(split);
            }
        }
        for (id, domains) in domain::sending_domains(conn, self.office.sealer(), whose).await? {
            let Some(account) = accounts.get_mut(&id) else { continue };
            let was = self.snapshot.accounts.get(&id);
            account.domains = domains;
            for (name, is) in &mut account.domains {
                // The same value stays the same: what was made of its keys need not be made anew.
                if let Some(was) = was.and_then(|was| was.domains.get(name)).filter(|was| *was == is) {
                    *is = was.clone();
                }
            }
        }
        for (id, region, quota) in account::all_quotas(conn, whose).await? {
            if let Some(account) = accounts.get_mut(id.as_str()) {
                let (per_day, per_second) = (quota.per_day.unsigned_abs(), quota.per_second.unsigned_abs());
                let per_second = u32::try_from(per_second).unwrap_or(u32::MAX);
                account.quotas.insert(RegionId::new(&region), engine::quota::Quota { per_day, per_second });
            }
        }
        for (id, addresses) in address::sending_addresses(conn, whose).await? {
            if let Some(account) = accounts.get_mut(&id) {
                account.addresses = addresses;
            }
        }
        Ok(accounts.into_iter().map(|(id, account)| (id, Arc::new(account))).collect())
    }
}

/// What lines of the audit log were about.
#[derive(Default)]
struct Touched {
    accounts: BTreeSet<String>,
    ips: BTreeSet<IpAddr>,
    credentials: BTreeSet<String>,
    shared: bool,
    regions: bool,
}

impl Touched {
    fn add(&mut self, kind: &str, subject: &str, account: Option<String>) {
        match Subject::of(kind) {
            Some(Subject::Ip) => self.ips.extend(subject.parse::<IpAddr>().ok()),
            Some(Subject::Credential) => {
                self.credentials.insert(subject.to_owned());
            }
            Some(Subject::Region) => {
                self.shared = true;
                self.regions = true;
            }
            Some(Subject::Pool) if account.is_none() => self.shared = true,
            Some(
                Subject::Account
                | Subject::Subaccount
                | Subject::ConfigurationSet
                | Subject::Pool
                | Subject::Domain
                | Subject::Address
                | Subject::Lease
                | Subject::Relay,
            ) => self.accounts.extend(account),
            // Nothing that mail depends on, or a kind that a newer program writes beside us.
            Some(
                Subject::Person
                | Subject::Setting
                | Subject::Signal
                | Subject::Suppression
                | Subject::Webhook
                | Subject::Case
                | Subject::Policy
                | Subject::Price
                | Subject::Billing
                | Subject::Invoice,
            )
            | None => {}
        }
    }
}

fn told_account(account: &Account) -> snapshot::Account {
    let standing = match account.standing {
        Standing::Sandbox => snapshot::Standing::Sandbox,
        Standing::Production => snapshot::Standing::Production,
        Standing::Paused => {
            let reason = account.standing_reason.as_deref().unwrap_or("ask the operator");
            snapshot::Standing::Paused { reason: Arc::from(reason) }
        }
    };
    let (plan, senders, tier) = (account.plan, account.senders, account.tier);
    snapshot::Account { plan, standing, senders, tier, ..snapshot::Account::default() }
}

fn told_subaccount(part: &Subaccount) -> snapshot::Subaccount {
    snapshot::Subaccount { pool: part.pool.as_deref().map(PoolId::new), sending: told_sending(part.sends) }
}

fn told_set(set: &ConfigurationSet) -> snapshot::ConfigurationSet {
    snapshot::ConfigurationSet {
        sending: told_sending(set.sends),
        pool: set.pool.as_deref().map(PoolId::new),
        tls: set.tls,
        lifetime: set.lifetime_s.map(|seconds| Duration::from_secs(seconds.unsigned_abs())),
        tracking: told_tracking(set),
        unsubscribe: set.unsubscribe,
        suppression: set
            .suppression
            .as_ref()
            .map(|reasons| reasons.iter().map(|reason| told_reason(*reason)).collect()),
        split: None,
    }
}

fn told_reason(reason: configuration_set::Reason) -> Reason {
    match reason {
        configuration_set::Reason::Bounce => Reason::Bounce,
        configuration_set::Reason::Complaint => Reason::Complaint,
    }
}

fn told_tracking(set: &ConfigurationSet) -> Option<snapshot::Tracking> {
    let host = Domain::parse(set.tracking_host.as_deref()?).ok()?;
    let (opens, clicks) = (set.tracks_opens, set.tracks_clicks);
    (opens || clicks).then_some(snapshot::Tracking { host, opens, clicks })
}

fn told_sending(sends: bool) -> Sending {
    if sends { Sending::On } else { Sending::Off }
}

fn told_pool(pool: &Pool) -> (PoolId, Arc<snapshot::Pool>) {
    let told = snapshot::Pool {
        kind: pool.kind,
        name: Arc::from(pool.name.as_str()),
        region: RegionId::new(&pool.region),
        account: pool.account.as_deref().map(AccountId::new),
        ips: pool.ips.clone(),
        overflow: pool.overflow.as_deref().map(PoolId::new),
        leaving: pool.leaving,
        relay: pool.relay_address,
        active_within: pool.active_within,
    };
    (PoolId::new(&pool.id), Arc::new(told))
}

fn told_ip(ip: &Ip) -> snapshot::Ip {
    let takes_new = matches!(ip.state, State::Leased | State::Shared) && ip.rotation_reason.is_none();
    let state = if takes_new { IpState::Active } else { IpState::Draining };
    let warm_up = ip.warm_up.clone();
    snapshot::Ip { bind: ip.bind, ehlo: ip.ehlo.clone(), state, hop: ip.hop.clone(), warm_up }
}

fn shared_of(pools: &[Pool]) -> BTreeMap<RegionId, PoolId> {
    let shared = pools.iter().filter(|pool| pool.kind == PoolKind::Shared && pool.is_default);
    shared.map(|pool| (RegionId::new(&pool.region), PoolId::new(&pool.id))).collect()
}

fn tiers_of(pools: &[Pool]) -> BTreeMap<(RegionId, Tier), PoolId> {
    let of_tier = |pool: &Pool| Some(((RegionId::new(&pool.region), pool.tier?), PoolId::new(&pool.id)));
    pools.iter().filter_map(of_tier).collect()
}

/// What of a snapshot comes from the database.
#[derive(Serialize, Deserialize)]
struct Kept {
    mark: Mark,
    accounts: Arc<BTreeMap<AccountId, Arc<snapshot::Account>>>,
    keys: Arc<BTreeMap<snapshot::Digest, Arc<snapshot::Credential>>>,
    logins: Arc<BTreeMap<Arc<str>, Arc<snapshot::Login>>>,
    pools: Arc<BTreeMap<PoolId, Arc<snapshot::Pool>>>,
    shared: Arc<BTreeMap<RegionId, PoolId>>,
    tiers: Arc<BTreeMap<(RegionId, Tier), PoolId>>,
    ips: Arc<BTreeMap<IpAddr, snapshot::Ip>>,
}

/// What the seal is bound to: a snapshot is never taken for anything else.
const KEPT_AS: &str = "snapshot 9";

/// A snapshot to be kept; writing it takes its time.
pub struct ToKeep {
    snapshot: Snapshot,
    mark: Mark,
    base_keys: Vec<Digest>,
}

impl ToKeep {
    pub fn write(self, sealer: &Sealer, path: &Path) -> Result<(), KeepFault> {
        let mut snapshot = self.snapshot;
        // The installation's file may be another by then.
        if !self.base_keys.is_empty() {
            let keys = Arc::make_mut(&mut snapshot.keys);
            self.base_keys.iter().for_each(|digest| drop(keys.remove(digest)));
        }
        let Snapshot { accounts, keys, logins, pools, shared, tiers, ips, .. } = snapshot;
        let kept = Kept { mark: self.mark, accounts, keys, logins, pools, shared, tiers, ips };
        let sealed = sealer.seal(KEPT_AS, &postcard::to_stdvec(&kept)?)?;
        Ok(write_new(path, &sealed)?)
    }
}

/// The snapshot that was kept last, on the installation's own rules; none where there never was one.
pub fn kept(base: &Snapshot, sealer: &Sealer, path: &Path) -> Result<Option<Snapshot>, KeepFault> {
    Ok(read_kept(base, sealer, path)?.map(|(snapshot, _)| snapshot))
}

/// The snapshot that was kept last, if the database has not changed since: read in a fraction of the time that the database takes.
pub async fn present(office: &Office, base: &Snapshot, sealer: &Sealer, path: &Path) -> Option<Snapshot> {
    let (snapshot, mark) = read_kept(base, sealer, path).ok()??;
    let mut conn = office.store().read().await.ok()?;
    (Mark::of(&mut conn).await.ok()? == mark).then_some(snapshot)
}

fn read_kept(base: &Snapshot, sealer: &Sealer, path: &Path) -> Result<Option<(Snapshot, Mark)>, KeepFault> {
    let sealed = match std::fs::read(path) {
        Ok(sealed) => sealed,
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(fault) => return Err(fault.into()),
    };
    let kept: Kept = postcard::from_bytes(&sealer.open(KEPT_AS, &sealed)?)?;
    let Kept { mark, accounts, mut keys, logins, pools, shared, tiers, ips } = kept;
    Arc::make_mut(&mut keys).extend(base.keys.iter().map(|(digest, key)| (*digest, key.clone())));
    let version = mark.line.unsigned_abs();
    Ok(Some((Snapshot { version, accounts, keys, logins, pools, shared, tiers, ips, ..base.clone() }, mark)))
}
