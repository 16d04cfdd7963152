//! What does the data plane need to know of accounts, domains, IPs, pools and policy? One value, replaced as a whole.

use crate::active::Active;
use crate::classify::Rules;
use crate::envelope::{Envelope, Recipient, TlsWish};
use crate::id::{AccountId, CredentialId, PoolId, RegionId, StreamId, SubaccountId};
use crate::judged::Ordered;
use crate::provider::Providers;
use crate::quota::{self, Quota};
use crate::retry::RetrySchedule;
use crate::schedule::Schedules;
use crate::simulator::{Simulated, simulated_at};
use crate::split::Split;
use crate::suppression::{self, Reason, Suppressed};
use crate::tier::Tier;
use crate::time::Timestamp;
use mail::address::{Domain, Mailbox};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// The tables are shared: a change copies the one it is about, and nothing else.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Grows with every change.
    pub version: u64,
    /// Where a submission belongs that names no region.
    pub region: RegionId,
    pub accounts: Arc<BTreeMap<AccountId, Arc<Account>>>,
    /// Those that are shown as a whole (`Authorization: Bearer`), by the SHA-256 of what is shown.
    pub keys: Arc<BTreeMap<Digest, Arc<Credential>>>,
    /// Those that sign in with a name: SMTP users, and access key ids.
    pub logins: Arc<BTreeMap<Arc<str>, Arc<Login>>>,
    pub pools: Arc<BTreeMap<PoolId, Arc<Pool>>>,
    /// The operator's pool of each region, for all tenants that may fall back to it.
    pub shared: Arc<BTreeMap<RegionId, PoolId>>,
    /// Shared pools for the senders of one tier (R6.4); a tier without one has the region's.
    pub tiers: Arc<BTreeMap<(RegionId, Tier), PoolId>>,
    pub ips: Arc<BTreeMap<IpAddr, Ip>>,
    pub rules: Arc<Rules>,
    pub providers: Arc<Providers>,
    /// By which IPs warm up (R4.1).
    pub schedules: Arc<Schedules>,
    pub delivery: Delivery,
    /// To whom each account sends nothing any more.
    pub suppressed: Suppressed,
    /// Who has opened its messages, or followed links, lately.
    pub active: Active,
}

/// SHA-256.
pub type Digest = [u8; 32];

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub plan: Plan,
    pub standing: Standing,
    pub senders: Senders,
    /// Among which others it shares IPs.
    pub tier: Tier,
    /// When not empty, only recipients in these domains are taken.
    pub recipients: Vec<DomainPattern>,
    pub default_pools: BTreeMap<RegionId, PoolId>,
    /// Its own pools by region and name; a message names one by its name or by its id.
    pub pools: BTreeMap<RegionId, BTreeMap<Arc<str>, PoolId>>,
    pub subaccounts: BTreeMap<SubaccountId, Subaccount>,
    pub sets: BTreeMap<Arc<str>, ConfigurationSet>,
    pub domains: BTreeMap<Domain, Arc<SendingDomain>>,
    /// Single addresses it has shown to be its own, in the form of `Mailbox`.
    pub addresses: BTreeSet<Arc<str>>,
    /// Where there is none, it has no limit, unless it is in the sandbox.
    pub quotas: BTreeMap<RegionId, Quota>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Plan {
    Free,
    #[default]
    Standard,
    Enterprise,
}

/// Whether an account may send, and to whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// Only to recipients it has shown to be its own (R7.1).
    Sandbox,
    #[default]
    Production,
    /// Nothing is taken until the reason is mended.
    Paused { reason: Arc<str> },
}

/// What an account may put into From and MAIL FROM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Senders {
    /// Only domains and addresses listed for it.
    #[default]
    Verified,
    /// Any domain: for try-outs on closed networks.
    Any,
}

/// A domain, or with `*.` all below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DomainPattern {
    Exactly(Domain),
    Below(Domain),
}

/// A named part of an account; at most one pool (R2.5).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subaccount {
    pub pool: Option<PoolId>,
    pub sending: Sending,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sending {
    #[default]
    On,
    Off,
}

/// What an application sends with. What is not set is as the installation has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigurationSet {
    pub sending: Sending,
    pub pool: Option<PoolId>,
    pub tls: Option<TlsWish>,
    pub lifetime: Option<Duration>,
    /// None: its mail is not tracked.
    pub tracking: Option<Tracking>,
    /// Which bounces and complaints end its mail to an address; none: both do. What somebody put on the list always does.
    pub suppression: Option<Vec<Reason>>,
    /// Whether readers of its mail are offered an end of the stream (RFC 8058), where a message does not say.
    pub unsubscribe: bool,
    /// A part of its mail goes by another pool, to see how that does (R8.3).
    pub split: Option<Split>,
}

impl ConfigurationSet {
    /// Whether an entry of this reason counts for mail that names the set.
    #[must_use]
    pub fn heeds(&self, reason: Reason) -> bool {
        match (&self.suppression, reason) {
            (Some(reasons), Reason::Bounce | Reason::Complaint) => reasons.contains(&reason),
            _ => true,
        }
    }
}

/// What a sender wants to hear of those who read: at which host of its own, and what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tracking {
    pub host: Domain,
    pub opens: bool,
    pub clicks: bool,
}

/// A domain that an account has shown to be its own. It covers the domains below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendingDomain {
    pub name: Domain,
    /// Where bounces go to; without one, `Delivery::return_path` or the sender's own address stands.
    pub return_path: Option<Domain>,
    pub dkim: Vec<DkimKey>,
}

/// Key material as it was read; only `mail::dkim` understands it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
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

/// Who is let in by a secret, to do what, from where, until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// Its public name, for the log and for taking it back.
    pub id: CredentialId,
    pub holder: Holder,
    pub scopes: BTreeSet<Scope>,
    /// When not empty, only from these networks: address and length of the prefix.
    pub networks: Vec<(IpAddr, u8)>,
    pub expires_at: Option<Timestamp>,
}

impl Credential {
    #[must_use]
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }

    /// Whether it may be shown from this address. An IPv4 address that came as an IPv6 one is still an IPv4 one.
    #[must_use]
    pub fn is_good_from(&self, peer: IpAddr) -> bool {
        self.networks.is_empty() || self.networks.iter().any(|(network, prefix)| holds(*network, *prefix, peer))
    }
}

fn holds(network: IpAddr, prefix: u8, address: IpAddr) -> bool {
    // All bits of a shorter address are above those of a longer one, so that both count from the left.
    let bits = |address: IpAddr| match address {
        IpAddr::V4(own) => u128::from(u32::from(own)) << 96,
        IpAddr::V6(own) => u128::from(own),
    };
    let (network, address) = (network.to_canonical(), address.to_canonical());
    let differing = bits(network) ^ bits(address);
    network.is_ipv4() == address.is_ipv4() && differing.leading_zeros() >= u32::from(prefix)
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Holder {
    /// Who runs the installation.
    Operator,
    Account {
        account: AccountId,
        subaccount: Option<SubaccountId>,
    },
}

/// What a credential is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Hand in mail.
    Send,
    /// Look at everything of the holder's.
    Read,
    /// Change what is the holder's.
    Manage,
}

/// A credential that is named when signing in. The secrets are those that are good at this moment: two while one takes the place
/// of the other.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    pub credential: Arc<Credential>,
    /// SHA-256 of each password.
    pub passwords: Vec<Digest>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("credential", &self.credential).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    pub kind: PoolKind,
    /// What its owner calls it.
    pub name: Arc<str>,
    pub region: RegionId,
    /// Whose it is; a shared pool is the operator's.
    pub account: Option<AccountId>,
    pub ips: Vec<IpAddr>,
    /// Where mail goes that exceeds the allowance of a warming IP (R4.2); that pool's own overflow is not followed.
    pub overflow: Option<PoolId>,
    pub leaving: Leaving,
    /// The key in `ips` of another SMTP service that takes what finds no place (R4.2).
    pub relay: Option<IpAddr>,
    /// Mail to whoever was active within so many days goes to its warming IPs first.
    pub active_within: Option<u16>,
}

/// May mail that its IPs have no place for today leave from IPs that others send from too (R4.2)?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Leaving {
    /// By the region's shared pool, and then by its relay.
    #[default]
    Shared,
    /// It waits for its place.
    Never,
    /// By its relay alone.
    Relay,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PoolKind {
    Shared,
    Standard,
    /// Arranged by the service; its owner sees no addresses (R2.8).
    Managed,
}

/// An address that mail leaves from. Its key in the snapshot is the public address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ip {
    /// What to bind; differs from the public address behind one-to-one NAT.
    pub bind: IpAddr,
    pub ehlo: String,
    pub state: IpState,
    /// For an address that lives on another machine.
    pub hop: Option<Hop>,
    /// None: it is warm, and has no limit.
    pub warm_up: Option<WarmUp>,
}

impl Ip {
    #[must_use]
    pub fn relay(&self) -> Option<&Arc<Relay>> {
        match &self.hop {
            Some(Hop::Relay(relay)) => Some(relay),
            _ => None,
        }
    }
}

/// By what an IP warms up, and the last order about it (R4.5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarmUp {
    pub by: WarmUpBy,
    pub ordered: Ordered,
    pub ordered_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WarmUpBy {
    /// The schedule of this name.
    Schedule(Arc<str>),
    /// What each provider bears (R4.3).
    Learning,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IpState {
    #[default]
    Active,
    /// Takes no new messages; what is queued on it still leaves from it (R2.4).
    Draining,
}

/// The machine that has the address, and how it is asked to connect from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hop {
    /// RFC 1928: the proxy connects from the address it was asked by.
    Socks5 { proxy: SocketAddr },
    /// HAProxy's PROXY protocol, second version: the header names the source and the target.
    Proxy { proxy: SocketAddr },
    /// No address of ours at all: another SMTP service takes the mail, wherever it goes.
    Relay(Arc<Relay>),
}

/// An SMTP service that an account has elsewhere, and how it signs in there (R4.2).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relay {
    pub account: AccountId,
    pub name: Arc<str>,
    pub host: Domain,
    pub port: u16,
    pub security: RelaySecurity,
    /// Name and password.
    pub sign_in: Option<(String, String)>,
}

/// Passwords do not get into logs.
impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("account", &self.account).field("name", &self.name).finish_non_exhaustive()
    }
}

/// What must protect the connection to a relay. Both kinds of TLS ask for a certificate of its name from a public authority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RelaySecurity {
    #[default]
    StartTls,
    /// TLS from the first octet (RFC 8314).
    Tls,
    /// Nothing: for a service in one's own network.
    Clear,
}

/// Relays stand among the IPs under addresses that nobody can have (RFC 6666): this is the one of the relay with this number.
#[must_use]
pub fn relay_address(number: u32) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from((0x0100_u128 << 112) | u128::from(number)))
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub lifetime: Duration,
    pub retry: RetrySchedule,
    /// After this long in the queue, the sender who asked for it is told.
    pub delay_notice: Duration,
    pub notify: NotifyDefault,
    pub tls: TlsWish,
    pub return_path: Option<Domain>,
}

impl Default for Delivery {
    fn default() -> Delivery {
        Delivery {
            lifetime: Duration::from_secs(72 * 3600),
            retry: RetrySchedule::default(),
            delay_notice: Duration::from_secs(4 * 3600),
            notify: NotifyDefault::Asked,
            tls: TlsWish::IfOffered,
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
            DomainPattern::Below(own) => is_below(domain, own),
        }
    }
}

impl Account {
    /// R7.1: how much it may send in this region; none: as much as it likes.
    #[must_use]
    pub fn quota_in(&self, region: &RegionId) -> Option<Quota> {
        let of_sandbox = (self.standing == Standing::Sandbox).then_some(quota::OF_SANDBOX);
        self.quotas.get(region).copied().or(of_sandbox)
    }

    #[must_use]
    pub fn has_quota(&self) -> bool {
        !self.quotas.is_empty() || self.standing == Standing::Sandbox
    }

    /// Its domain that covers this one; the closest if there are several.
    #[must_use]
    pub fn sending_domain(&self, domain: &Domain) -> Option<&Arc<SendingDomain>> {
        let mut name = Some(domain.as_str());
        while let Some(here) = name {
            if let Some(own) = self.domains.get(here) {
                return Some(own);
            }
            name = here.split_once('.').map(|(_, above)| above);
        }
        None
    }

    /// Whether it has shown this single address to be its own.
    #[must_use]
    pub fn owns_address(&self, mailbox: &Mailbox) -> bool {
        !self.addresses.is_empty() && self.addresses.contains(mailbox.to_string().as_str())
    }

    /// The id of its pool of this name in the region; an id names itself, where it is known to be the account's.
    #[must_use]
    pub fn pool_named(&self, region: &RegionId, name: &str) -> Option<&PoolId> {
        self.pools.get(region)?.get(name)
    }
}

fn is_below(domain: &Domain, own: &Domain) -> bool {
    domain.as_str().strip_suffix(own.as_str()).is_some_and(|rest| rest.ends_with('.') && rest.len() > 1)
}

impl Snapshot {
    /// A snapshot with the shipped rules and nothing in it.
    #[must_use]
    pub fn empty() -> Snapshot {
        Snapshot {
            version: 0,
            region: RegionId::new("local"),
            accounts: Arc::default(),
            keys: Arc::default(),
            logins: Arc::default(),
            pools: Arc::default(),
            shared: Arc::default(),
            tiers: Arc::default(),
            ips: Arc::default(),
            rules: Arc::new(Rules::shipped()),
            providers: Arc::new(Providers::shipped()),
            schedules: Arc::new(Schedules::shipped()),
            delivery: Delivery::default(),
            suppressed: Suppressed::empty([0; 16]),
            active: Active::empty([0; 16]),
        }
    }

    /// Where mail of this tier goes that has no pool of its own: its tier's pool, then the region's.
    pub fn shared_for(&self, region: &RegionId, tier: Tier) -> impl Iterator<Item = (&PoolId, &Arc<Pool>)> {
        let of_tier = self.tiers.get(&(region.clone(), tier));
        of_tier.into_iter().chain(self.shared.get(region)).filter_map(|id| self.pools.get_key_value(id))
    }

    /// Whether it may take new messages.
    #[must_use]
    pub fn is_usable(&self, ip: IpAddr) -> bool {
        self.ips.get(&ip).is_some_and(|ip| ip.state == IpState::Active)
    }

    /// R5.5: why the account sends nothing to this address, as its configuration set heeds the list.
    #[must_use]
    pub fn suppressed_for(
        &self,
        account: &AccountId,
        set: Option<&ConfigurationSet>,
        stream: &StreamId,
        to: &Mailbox,
        now: Timestamp,
    ) -> Option<Reason> {
        if simulated_at(to.local(), to.domain().as_str()) == Some(Simulated::Suppressed) {
            return Some(Reason::Bounce);
        }
        if self.suppressed.is_empty() {
            return None;
        }
        let heeds = |reason| set.is_none_or(|set| set.heeds(reason));
        let address = suppression::canonical(to);
        Some(self.suppressed.find(account.as_str(), &address, stream.as_str(), now, heeds)?.reason)
    }

    /// The same of a recipient of a message that is queued.
    #[must_use]
    pub fn suppressed_by_now(&self, envelope: &Envelope, to: &str, now: Timestamp) -> Option<Reason> {
        if self.suppressed.is_empty() {
            return None;
        }
        let account = self.accounts.get(&envelope.account);
        let set = account.zip(envelope.wish.set.as_ref()).and_then(|(account, set)| account.sets.get(set));
        self.suppressed_for(&envelope.account, set, &envelope.stream, &Mailbox::parse(to).ok()?, now)
    }

    /// Days since that of a message's recipients was active who was longest ago; the maximum where nobody asks, or nothing is known.
    #[must_use]
    pub fn idle_days(&self, envelope: &Envelope, now: Timestamp) -> u16 {
        let asks = |account: &Account| {
            let mut pools = account.pools.values().flat_map(BTreeMap::values);
            pools.any(|id| self.pools.get(id).is_some_and(|pool| pool.active_within.is_some()))
        };
        let account = &envelope.account;
        if self.active.is_empty() || !self.accounts.get(account).is_some_and(|account| asks(account)) {
            return u16::MAX;
        }
        let idle = |to: &Recipient| {
            let address = suppression::canonical(&Mailbox::parse(&to.address).ok()?);
            self.active.idle_days(account.as_str(), &address, now)
        };
        envelope.recipients.iter().map(|to| idle(to).unwrap_or(u16::MAX)).max().unwrap_or(u16::MAX)
    }

    /// Everything that is wrong with it, so that one round of mending is enough. Empty: it may be used.
    #[must_use]
    pub fn check(&self) -> Vec<SnapshotFault> {
        let mut faults = Vec::new();
        for (id, account) in self.accounts.iter() {
            self.check_account(id, account, &mut faults);
        }
        self.check_credentials(&mut faults);
        self.check_pools(&mut faults);
        let mut wrong = |place: String, what: String| faults.push(SnapshotFault { place, what });
        for (address, ip) in self.ips.iter() {
            if ip.bind.is_ipv4() != address.is_ipv4() {
                wrong(format!("ip {address}"), format!("cannot be bound as {}, which is of the other family", ip.bind));
            }
            if ip.ehlo.is_empty() {
                wrong(format!("ip {address}"), "has no EHLO name".into());
            }
            if let Some(WarmUp { by: WarmUpBy::Schedule(name), .. }) = &ip.warm_up
                && self.schedules.named(name).is_none()
            {
                wrong(format!("ip {address}"), format!("warms up by the schedule {name}, which does not exist"));
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

    fn check_account(&self, id: &AccountId, account: &Account, faults: &mut Vec<SnapshotFault>) {
        let named =
            account.default_pools.iter().map(|(region, pool)| (format!("its default pool for {region},"), pool));
        let of_sets =
            account.sets.iter().filter_map(|(name, set)| Some((format!("its set {name} uses"), set.pool.as_ref()?)));
        let of_subaccounts = account
            .subaccounts
            .iter()
            .filter_map(|(name, sub)| Some((format!("its subaccount {name} uses"), sub.pool.as_ref()?)));
        let own = account.pools.iter().flat_map(|(region, pools)| {
            pools.iter().map(move |(name, pool)| (format!("its pool {name} in {region} is"), pool))
        });
        for (what, pool) in named.chain(of_sets).chain(of_subaccounts).chain(own) {
            let fault = match self.pools.get(pool) {
                None => "which does not exist",
                // R2.8
                Some(known) if known.account.as_ref().is_some_and(|owner| owner != id) => "which is not its own",
                Some(_) => continue,
            };
            faults.push(SnapshotFault { place: format!("account {id}"), what: format!("{what} {pool}, {fault}") });
        }
    }

    fn check_credentials(&self, faults: &mut Vec<SnapshotFault>) {
        let logins = self.logins.values().map(|login| &login.credential);
        for credential in self.keys.values().chain(logins) {
            if let Holder::Account { account, .. } = &credential.holder
                && !self.accounts.contains_key(account)
            {
                let what = format!("its account {account} does not exist");
                faults.push(SnapshotFault { place: format!("credential {}", credential.id), what });
            }
        }
    }

    fn check_pools(&self, faults: &mut Vec<SnapshotFault>) {
        let mut owner: BTreeMap<IpAddr, &PoolId> = BTreeMap::new();
        for (id, pool) in self.pools.iter() {
            let mut wrong = |what: String| faults.push(SnapshotFault { place: format!("pool {id}"), what });
            match (&pool.account, pool.kind) {
                (Some(_), PoolKind::Shared) => wrong("a shared pool belongs to no account".into()),
                (Some(account), _) if !self.accounts.contains_key(account) => {
                    wrong(format!("its account {account} does not exist"));
                }
                (None, PoolKind::Standard | PoolKind::Managed) => {
                    wrong("a dedicated pool belongs to an account".into());
                }
                _ => {}
            }
            // R4.2: one step, and no further.
            match pool.overflow.as_ref().map(|id| (id, self.pools.get(id))) {
                Some((other, None)) => wrong(format!("its overflow pool {other} does not exist")),
                Some((other, Some(known))) if known.account.is_some() && known.account != pool.account => {
                    wrong(format!("its overflow pool {other} is not its account's"));
                }
                _ => {}
            }
            if let Some(address) = pool.relay {
                let relay = self.ips.get(&address).and_then(Ip::relay);
                if relay.is_none_or(|relay| Some(&relay.account) != pool.account.as_ref()) {
                    wrong(format!("its relay {address} is none of its account's"));
                }
            }
            for ip in &pool.ips {
                match self.ips.get(ip) {
                    None => wrong(format!("its IP {ip} does not exist")),
                    Some(known) if known.relay().is_some() => wrong(format!("its IP {ip} is a relay")),
                    Some(_) => {}
                }
                // R2.8, R2.6: an IP in two pools would be sent from by two tenants.
                if let Some(other) = owner.insert(*ip, id) {
                    wrong(format!("its IP {ip} is in the pool {other} too"));
                }
            }
        }
        let of_tiers = self.tiers.iter().map(|((region, _), id)| (region, id));
        for (region, id) in self.shared.iter().chain(of_tiers) {
            if self.pools.get(id).is_none_or(|pool| pool.kind != PoolKind::Shared) {
                let what = format!("its shared pool {id} is none");
                faults.push(SnapshotFault { place: format!("region {region}"), what });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::{
        Account, Credential, Holder, Ip, IpState, Leaving, Pool, PoolKind, SendingDomain, Snapshot, WarmUp, WarmUpBy,
    };
    use crate::id::{AccountId, CredentialId, PoolId, RegionId};
    use crate::judged::Ordered;
    use crate::time::Timestamp;
    use mail::address::Domain;
    use std::collections::BTreeSet;
    use std::net::IpAddr;
    use std::sync::Arc;
    use std::time::Duration;

    const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn pool(kind: PoolKind, account: Option<&str>, ips: Vec<IpAddr>) -> Arc<Pool> {
        let account = account.map(AccountId::new);
        Arc::new(Pool {
            kind,
            name: "a pool".into(),
            region: RegionId::new("local"),
            account,
            ips,
            overflow: None,
            leaving: Leaving::Shared,
            relay: None,
            active_within: None,
        })
    }

    fn key(account: &str) -> Arc<Credential> {
        let holder = Holder::Account { account: AccountId::new(account), subaccount: None };
        let id = CredentialId::new("k1");
        Arc::new(Credential { id, holder, scopes: BTreeSet::new(), networks: Vec::new(), expires_at: None })
    }

    fn house() -> Snapshot {
        let (ann, own) = (AccountId::new("ann"), PoolId::new("own"));
        let mut snapshot = Snapshot::empty();
        let mut account = Account::default();
        account.default_pools.insert(snapshot.region.clone(), own.clone());
        let name = Domain::parse("a.test").unwrap();
        account.domains.insert(name.clone(), Arc::new(SendingDomain { name, return_path: None, dkim: Vec::new() }));
        Arc::make_mut(&mut snapshot.accounts).insert(ann, Arc::new(account));
        Arc::make_mut(&mut snapshot.keys).insert([0; 32], key("ann"));
        Arc::make_mut(&mut snapshot.pools).insert(own, pool(PoolKind::Standard, Some("ann"), vec![IP]));
        let ip = Ip { bind: IP, ehlo: "mx.weir.test".into(), state: IpState::Active, hop: None, warm_up: None };
        Arc::make_mut(&mut snapshot.ips).insert(IP, ip);
        snapshot
    }

    #[test]
    fn the_closest_domain_covers_a_name() {
        let mut account = Account::default();
        for name in ["a.test", "mail.a.test", "b.test"] {
            let name = Domain::parse(name).unwrap();
            let own = SendingDomain { name: name.clone(), return_path: None, dkim: Vec::new() };
            account.domains.insert(name, Arc::new(own));
        }
        let cases = [
            ("a.test", Some("a.test")),
            ("x.a.test", Some("a.test")),
            ("mail.a.test", Some("mail.a.test")),
            ("x.y.mail.a.test", Some("mail.a.test")),
            ("xa.test", None),
            ("test", None),
            ("a.test.example", None),
        ];
        for (name, covering) in cases {
            let found = account.sending_domain(&Domain::parse(name).unwrap());
            assert_eq!(found.map(|own| own.name.as_str()), covering, "{name}");
        }
    }

    #[test]
    fn a_credential_is_good_from_its_networks() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let good = |networks: &[(&str, u8)], peer: &str| {
            let mut credential = (*key("ann")).clone();
            credential.networks = networks.iter().map(|(network, prefix)| (ip(network), *prefix)).collect();
            credential.is_good_from(ip(peer))
        };
        assert!(good(&[], "192.0.2.1"));
        assert!(good(&[("10.0.0.0", 8), ("192.0.2.0", 25)], "192.0.2.127"));
        assert!(!good(&[("10.0.0.0", 8), ("192.0.2.0", 25)], "192.0.2.128"));
        assert!(good(&[("192.0.2.1", 32)], "::ffff:192.0.2.1") && !good(&[("192.0.2.1", 32)], "192.0.2.0"));
        assert!(good(&[("0.0.0.0", 0)], "203.0.113.9") && !good(&[("0.0.0.0", 0)], "2001:db8::1"));
        assert!(good(&[("2001:db8::", 32)], "2001:db8:ffff::1") && !good(&[("2001:db8::", 32)], "2001:db9::1"));
        assert!(good(&[("2001:db8::1", 128)], "2001:db8::1") && !good(&[("2001:db8::1", 128)], "2001:db8::2"));
    }

    type Spoil = fn(&mut Snapshot);

    // Every fault is found, and told with its place.
    #[test]
    fn each_fault_is_named() {
        fn ann(snapshot: &mut Snapshot) -> &mut Account {
            Arc::make_mut(Arc::make_mut(&mut snapshot.accounts).get_mut(&AccountId::new("ann")).unwrap())
        }
        fn set_pool(snapshot: &mut Snapshot, id: &str, pool: Arc<Pool>) {
            Arc::make_mut(&mut snapshot.pools).insert(PoolId::new(id), pool);
        }
        fn ip(snapshot: &mut Snapshot) -> &mut Ip {
            Arc::make_mut(&mut snapshot.ips).get_mut(&IP).unwrap()
        }
        assert_eq!(house().check(), []);
        let cases: [(Spoil, &str); 16] = [
            (
                |s| {
                    let region = s.region.clone();
                    ann(s).default_pools.insert(region, PoolId::new("gone"));
                },
                "account ann: its default pool for local, gone, which does not exist",
            ),
            // R2.8
            (
                |s| {
                    Arc::make_mut(&mut s.accounts).insert(AccountId::new("bob"), Arc::default());
                    set_pool(s, "own", pool(PoolKind::Standard, Some("bob"), vec![]));
                },
                "account ann: its default pool for local, own, which is not its own",
            ),
            (
                |s| {
                    Arc::make_mut(&mut s.keys).insert([1; 32], key("bob"));
                },
                "credential k1: its account bob does not exist",
            ),
            (
                |s| set_pool(s, "two", pool(PoolKind::Standard, Some("bob"), vec![])),
                "pool two: its account bob does not exist",
            ),
            (
                |s| set_pool(s, "two", pool(PoolKind::Standard, None, vec![])),
                "pool two: a dedicated pool belongs to an account",
            ),
            (
                |s| set_pool(s, "two", pool(PoolKind::Shared, Some("ann"), vec![])),
                "pool two: a shared pool belongs to no account",
            ),
            // R2.6
            (
                |s| set_pool(s, "two", pool(PoolKind::Shared, None, vec![IP])),
                "pool two: its IP 192.0.2.1 is in the pool own too",
            ),
            (
                |s| set_pool(s, "own", pool(PoolKind::Standard, Some("ann"), vec![[192, 0, 2, 9].into()])),
                "pool own: its IP 192.0.2.9 does not exist",
            ),
            (
                |s| {
                    Arc::make_mut(&mut s.shared).insert(RegionId::new("local"), PoolId::new("own"));
                },
                "region local: its shared pool own is none",
            ),
            (
                |s| ip(s).bind = "::1".parse().unwrap(),
                "ip 192.0.2.1: cannot be bound as ::1, which is of the other family",
            ),
            (|s| ip(s).ehlo.clear(), "ip 192.0.2.1: has no EHLO name"),
            (
                |s| {
                    let by = WarmUpBy::Schedule("fast".into());
                    let (ordered, ordered_at) = (Ordered::Restart, Timestamp(1));
                    ip(s).warm_up = Some(WarmUp { by, ordered, ordered_at });
                },
                "ip 192.0.2.1: warms up by the schedule fast, which does not exist",
            ),
            // R4.2
            (
                |s| {
                    let mut own = (*s.pools[&PoolId::new("own")]).clone();
                    own.overflow = Some(PoolId::new("gone"));
                    set_pool(s, "own", Arc::new(own));
                },
                "pool own: its overflow pool gone does not exist",
            ),
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
