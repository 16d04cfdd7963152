//! What does the data plane need to know of accounts, domains, IPs, pools and policy? One value, replaced as a whole.

use crate::classify::Rules;
use crate::id::{AccountId, PoolId};
use crate::provider::Providers;
use crate::retry::RetrySchedule;
use mail::address::Domain;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Grows with every change.
    pub version: u64,
    pub accounts: BTreeMap<AccountId, Account>,
    pub domains: Vec<SendingDomain>,
    pub credentials: Vec<Credential>,
    pub pools: BTreeMap<PoolId, Pool>,
    pub ips: BTreeMap<IpAddr, Ip>,
    pub rules: Arc<Rules>,
    pub providers: Arc<Providers>,
    pub delivery: Delivery,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub plan: Plan,
    pub default_pool: Option<PoolId>,
    pub senders: Senders,
    /// When not empty, only recipients in these domains are taken.
    pub recipients: Vec<DomainPattern>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plan {
    Free,
    #[default]
    Standard,
    Enterprise,
}

/// What an account may put into From and MAIL FROM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Senders {
    /// Only domains listed for it.
    #[default]
    Verified,
    /// Any domain: for try-outs on closed networks.
    Any,
}

/// A domain, or with `*.` all below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DomainPattern {
    Exactly(Domain),
    Below(Domain),
}

/// A domain that an account has shown to be its own. It covers the domains below it.
#[derive(Clone, Debug)]
pub struct SendingDomain {
    pub name: Domain,
    pub account: AccountId,
    /// Where bounces go to; without one, `Delivery::return_path` or the sender's own address stands.
    pub return_path: Option<Domain>,
    pub dkim: Vec<DkimKey>,
}

/// Key material as it was read; only `mail::dkim` understands it.
#[derive(Clone, PartialEq, Eq)]
pub struct DkimKey {
    pub selector: String,
    pub pem: Arc<[u8]>,
}

/// Keys do not get into logs.
impl fmt::Debug for DkimKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DkimKey").field("selector", &self.selector).finish_non_exhaustive()
    }
}

/// A secret that signs an account in. Only its digest is here; the host compares digests, in constant time.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    pub account: AccountId,
    pub kind: CredentialKind,
    /// SHA-256 of the password or key.
    pub digest: [u8; 32],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// SMTP AUTH with this user name.
    Password { user: String },
    /// HTTP, `Authorization: Bearer`.
    Key,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("account", &self.account).field("kind", &self.kind).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    pub kind: PoolKind,
    /// Whose it is; a shared pool is the operator's.
    pub account: Option<AccountId>,
    pub ips: Vec<IpAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    Shared,
    Standard,
}

/// An address that mail leaves from. Its key in the snapshot is the public address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ip {
    /// What to bind; differs from the public address behind one-to-one NAT.
    pub bind: IpAddr,
    pub ehlo: String,
    pub state: IpState,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IpState {
    #[default]
    Active,
    /// Takes no new messages; what is queued on it still leaves from it (R2.4).
    Draining,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub lifetime: Duration,
    pub retry: RetrySchedule,
    /// After this long in the queue, the sender who asked for it is told.
    pub delay_notice: Duration,
    pub notify: NotifyDefault,
    pub tls: crate::envelope::TlsWish,
    pub return_path: Option<Domain>,
}

impl Default for Delivery {
    fn default() -> Delivery {
        Delivery {
            lifetime: Duration::from_secs(72 * 3600),
            retry: RetrySchedule::default(),
            delay_notice: Duration::from_secs(4 * 3600),
            notify: NotifyDefault::Asked,
            tls: crate::envelope::TlsWish::IfOffered,
            return_path: None,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NotifyDefault {
    /// A notice goes to the sender only where NOTIFY asks for it.
    #[default]
    Asked,
    /// Without NOTIFY, failures are told.
    Failure,
}

/// One thing that is wrong with a snapshot, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub struct SnapshotFault {
    pub place: String,
    pub what: String,
}

impl DomainPattern {
    #[must_use]
    pub fn covers(&self, domain: &Domain) -> bool {
        match self {
            DomainPattern::Exactly(own) => own == domain,
            DomainPattern::Below(own) => {
                domain.as_str().strip_suffix(own.as_str()).is_some_and(|rest| rest.ends_with('.') && rest.len() > 1)
            }
        }
    }
}

impl Snapshot {
    /// A snapshot with the shipped rules and nothing in it.
    #[must_use]
    pub fn empty() -> Snapshot {
        Snapshot {
            version: 0,
            accounts: BTreeMap::new(),
            domains: Vec::new(),
            credentials: Vec::new(),
            pools: BTreeMap::new(),
            ips: BTreeMap::new(),
            rules: Arc::new(Rules::shipped()),
            providers: Arc::new(Providers::shipped()),
            delivery: Delivery::default(),
        }
    }

    /// The account's domain that covers this one; the closest if there are several.
    #[must_use]
    pub fn sending_domain(&self, account: &AccountId, domain: &Domain) -> Option<&SendingDomain> {
        self.domains
            .iter()
            .filter(|own| own.account == *account)
            .filter(|own| own.name == *domain || DomainPattern::Below(own.name.clone()).covers(domain))
            .max_by_key(|own| own.name.as_str().len())
    }

    /// The pool's IPs that may take new messages.
    #[must_use]
    pub fn usable_ips(&self, pool: &Pool) -> Vec<IpAddr> {
        let active = |ip: &&IpAddr| self.ips.get(*ip).is_some_and(|ip| ip.state == IpState::Active);
        pool.ips.iter().filter(active).copied().collect()
    }

    /// Everything that is wrong with it, so that one round of mending is enough. Empty: it may be used.
    #[must_use]
    pub fn check(&self) -> Vec<SnapshotFault> {
        let mut faults = Vec::new();
        let mut wrong = |place: String, what: String| faults.push(SnapshotFault { place, what });
        for (id, account) in &self.accounts {
            let Some(pool_id) = &account.default_pool else {
                continue;
            };
            match self.pools.get(pool_id) {
                None => wrong(format!("account {id}"), format!("its default pool {pool_id} does not exist")),
                Some(pool) if pool.kind == PoolKind::Standard && pool.account.as_ref() != Some(id) => {
                    wrong(format!("account {id}"), format!("its default pool {pool_id} is not its own"));
                }
                Some(_) => {}
            }
        }
        for domain in &self.domains {
            if !self.accounts.contains_key(&domain.account) {
                wrong(format!("domain {}", domain.name), format!("its account {} does not exist", domain.account));
            }
        }
        for credential in &self.credentials {
            if !self.accounts.contains_key(&credential.account) {
                wrong("credential".into(), format!("its account {} does not exist", credential.account));
            }
        }
        let mut owner: BTreeMap<IpAddr, &PoolId> = BTreeMap::new();
        for (id, pool) in &self.pools {
            match (&pool.account, pool.kind) {
                (Some(account), PoolKind::Standard) if !self.accounts.contains_key(account) => {
                    wrong(format!("pool {id}"), format!("its account {account} does not exist"));
                }
                (None, PoolKind::Standard) => {
                    wrong(format!("pool {id}"), "a standard pool belongs to an account".into());
                }
                (Some(_), PoolKind::Shared) => {
                    wrong(format!("pool {id}"), "a shared pool belongs to no account".into());
                }
                _ => {}
            }
            for ip in &pool.ips {
                if !self.ips.contains_key(ip) {
                    wrong(format!("pool {id}"), format!("its IP {ip} does not exist"));
                }
                // R2.8, R2.6: an IP in two pools would be sent from by two tenants.
                if let Some(other) = owner.insert(*ip, id) {
                    wrong(format!("pool {id}"), format!("its IP {ip} is in the pool {other} too"));
                }
            }
        }
        for (address, ip) in &self.ips {
            if ip.bind.is_ipv4() != address.is_ipv4() {
                wrong(format!("ip {address}"), format!("cannot be bound as {}, which is of the other family", ip.bind));
            }
            if ip.ehlo.is_empty() {
                wrong(format!("ip {address}"), "has no EHLO name".into());
            }
        }
        let retry = &self.delivery.retry;
        for (name, steps) in [("retry", &retry.steps), ("connect retry", &retry.connect_steps)] {
            if steps.is_empty() || steps.iter().any(|step| step.as_secs() == 0) {
                wrong(
                    "delivery".into(),
                    format!("the {name} schedule needs at least one wait, each of a second or more"),
                );
            }
        }
        if self.delivery.lifetime.is_zero() {
            wrong("delivery".into(), "a lifetime of nothing delivers nothing".into());
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::{
        Account, Credential, CredentialKind, Ip, IpState, Plan, Pool, PoolKind, Senders, SendingDomain, Snapshot,
    };
    use crate::id::{AccountId, PoolId};
    use mail::address::Domain;
    use std::net::IpAddr;
    use std::time::Duration;

    const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn house() -> Snapshot {
        let (ann, own) = (AccountId::new("ann"), PoolId::new("own"));
        let mut snapshot = Snapshot::empty();
        let account = Account {
            plan: Plan::Standard,
            default_pool: Some(own.clone()),
            senders: Senders::Verified,
            recipients: Vec::new(),
        };
        snapshot.accounts.insert(ann.clone(), account);
        let name = Domain::parse("a.test").unwrap();
        snapshot.domains.push(SendingDomain { name, account: ann.clone(), return_path: None, dkim: Vec::new() });
        snapshot.credentials.push(Credential { account: ann.clone(), kind: CredentialKind::Key, digest: [0; 32] });
        snapshot.pools.insert(own, Pool { kind: PoolKind::Standard, account: Some(ann), ips: vec![IP] });
        snapshot.ips.insert(IP, Ip { bind: IP, ehlo: "mx.weir.test".into(), state: IpState::Active });
        snapshot
    }

    type Spoil = fn(&mut Snapshot);

    // Every fault is found, and told with its place.
    #[test]
    fn each_fault_is_named() {
        fn own(snapshot: &mut Snapshot) -> &mut Pool {
            snapshot.pools.get_mut(&PoolId::new("own")).unwrap()
        }
        fn ann(snapshot: &mut Snapshot) -> &mut Account {
            snapshot.accounts.get_mut(&AccountId::new("ann")).unwrap()
        }
        fn another_pool(snapshot: &mut Snapshot, kind: PoolKind, account: Option<&str>, ips: Vec<IpAddr>) {
            let pool = Pool { kind, account: account.map(AccountId::new), ips };
            snapshot.pools.insert(PoolId::new("two"), pool);
        }
        assert_eq!(house().check(), []);
        let cases: [(Spoil, &str); 14] = [
            (|s| ann(s).default_pool = Some(PoolId::new("gone")), "account ann: its default pool gone does not exist"),
            // R2.8
            (|s| own(s).account = Some(AccountId::new("bob")), "account ann: its default pool own is not its own"),
            (|s| s.domains[0].account = AccountId::new("bob"), "domain a.test: its account bob does not exist"),
            (|s| s.credentials[0].account = AccountId::new("bob"), "credential: its account bob does not exist"),
            (|s| another_pool(s, PoolKind::Standard, Some("bob"), vec![]), "pool two: its account bob does not exist"),
            (|s| another_pool(s, PoolKind::Standard, None, vec![]), "pool two: a standard pool belongs to an account"),
            (
                |s| another_pool(s, PoolKind::Shared, Some("ann"), vec![]),
                "pool two: a shared pool belongs to no account",
            ),
            // R2.6
            (
                |s| another_pool(s, PoolKind::Shared, None, vec![IP]),
                "pool two: its IP 192.0.2.1 is in the pool own too",
            ),
            (|s| own(s).ips.push([192, 0, 2, 9].into()), "pool own: its IP 192.0.2.9 does not exist"),
            (
                |s| s.ips.get_mut(&IP).unwrap().bind = "::1".parse().unwrap(),
                "ip 192.0.2.1: cannot be bound as ::1, which is of the other family",
            ),
            (|s| s.ips.get_mut(&IP).unwrap().ehlo.clear(), "ip 192.0.2.1: has no EHLO name"),
            (
                |s| s.delivery.retry.steps.clear(),
                "delivery: the retry schedule needs at least one wait, each of a second or more",
            ),
            (
                |s| s.delivery.retry.connect_steps = vec![Duration::ZERO],
                "delivery: the connect retry schedule needs at least one wait, each of a second or more",
            ),
            (|s| s.delivery.lifetime = Duration::ZERO, "delivery: a lifetime of nothing delivers nothing"),
        ];
        for (spoil, expected) in cases {
            let mut snapshot = house();
            spoil(&mut snapshot);
            let told: Vec<String> = snapshot.check().iter().map(ToString::to_string).collect();
            assert!(told.iter().any(|fault| fault == expected), "{expected}: {told:?}");
        }
    }
}
