//! Which hosts take mail for a domain, in which order, and may we speak to them?
//!
//! RFC 5321 5.1 with RFC 7505. A function of what the DNS says, of `Reach` and of a seed: it opens no connection.

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use mail::address::Domain;

use super::{AddressAnswer, Dns, DnsFault, Families, MxAnswer, Network, not_public};

/// A domain may publish hundreds of hosts; nobody tries more than these, the preferred ones first.
const HOSTS_MAX: usize = 16;
const ADDRESSES_PER_HOST_MAX: usize = 16;
const VALID_MIN: Duration = Duration::from_secs(60);
const VALID_MAX: Duration = Duration::from_secs(86_400);

/// Where mail may be taken at all.
#[derive(Clone, Debug)]
pub struct Reach {
    /// The families of our own addresses.
    pub families: Families,
    /// Our own addresses: mail that leads back here is a loop, whatever is allowed otherwise, unless
    /// `allow_private` names the address's network.
    pub own: Arc<BTreeSet<IpAddr>>,
    /// Networks that are allowed though they are not of the public Internet. Empty by default;
    /// `Network::ALL` allows everything.
    pub allow_private: Vec<Network>,
}

/// What became of the question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    Site(Site),
    /// The domain does not exist, or has neither MX nor address; in words.
    NoSuchDomain(String),
    /// RFC 7505: the domain says that it takes no mail.
    NullMx,
    /// It leads where we do not go.
    Refused(Refusal),
    /// Nothing can be said now; in words.
    Later(String),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{host} has only the {kind} address {address}")]
    NotPublic { host: String, address: IpAddr, kind: &'static str },
    #[error("{host} is this machine ({address}): the mail would loop")]
    Loop { host: String, address: IpAddr },
    #[error("{host} is an alias that leads in a circle")]
    AliasLoop { host: String },
    #[error("“{host}” is not the name of a mail host")]
    NotAHost { host: String },
}

/// Hosts that take a domain's mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// All its hosts, by preference: domains with the same name share connections. The less preferred ones count as well: a
    /// connection may be to any of them, and no domain's mail may go to a host that only another domain named.
    pub name: String,
    /// The order in which to try them.
    pub hosts: Vec<MxHost>,
    /// A trusted validator vouched for the MX records. An implicit MX never is: the proof that there is
    /// no MX record is not looked at.
    pub secure: bool,
    pub valid_for: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MxHost {
    /// As published in the MX record: the name that TLS policies speak of.
    pub name: String,
    pub preference: u16,
    /// The name after aliases; differs from `name` only when that is an alias.
    pub canonical: String,
    /// In the order to try, of the families asked for. Empty when this host cannot be used (now): it
    /// still counts for the site's name and provider.
    pub addresses: Vec<IpAddr>,
    /// A trusted validator vouched for the addresses.
    pub secure: bool,
}

impl Site {
    /// All addresses that `source` can reach, in the order to try.
    pub fn targets(&self, source: IpAddr) -> impl Iterator<Item = (&MxHost, IpAddr)> {
        self.hosts.iter().flat_map(move |host| {
            let reachable = move |to: &&IpAddr| to.is_ipv4() == source.is_ipv4();
            host.addresses.iter().filter(reachable).map(move |to| (host, *to))
        })
    }
}

/// The plan: ask for MX records; put them in order; look up the addresses of all of them at once; drop what may not be
/// reached; conclude.
pub async fn route_of(dns: &dyn Dns, domain: &Domain, reach: &Reach, seed: u64) -> Route {
    let mx = match dns.mx(domain).await {
        Ok(answer) if answer.hosts.iter().all(|(_, host)| host.is_empty()) && !answer.hosts.is_empty() => {
            return Route::NullMx;
        }
        Ok(answer) if !answer.hosts.is_empty() => answer,
        Ok(_) | Err(DnsFault::NoData) => return host_route(dns, domain, reach, seed).await,
        Err(DnsFault::NoSuchName) => {
            return Route::NoSuchDomain(format!("the domain {domain} does not exist"));
        }
        Err(fault) => return Route::Later(format!("the MX records of {domain}: {fault}")),
    };
    let ordered = in_order(&mx.hosts, seed);
    let answers = all(ordered.iter().map(|(_, host)| host_addresses(dns, host, reach)).collect()).await;
    conclude(domain, &mx, ordered, answers, reach, seed)
}

/// RFC 5321 5.1: no MX record, so the domain itself is the host. So is the name of a service that mail is handed over to.
pub async fn host_route(dns: &dyn Dns, domain: &Domain, reach: &Reach, seed: u64) -> Route {
    let host = domain.as_str();
    let answer = match dns.addresses(host, Families::Both).await {
        Err(DnsFault::NoData | DnsFault::NoSuchName) => {
            return Route::NoSuchDomain(format!("the domain {domain} has neither MX nor address records"));
        }
        answer => answer.map_err(HostFault::Dns),
    };
    let mx = MxAnswer { hosts: vec![(0, host.to_owned())], secure: false, valid_for: VALID_MAX };
    let ordered = mx.hosts.clone();
    conclude(domain, &mx, ordered, vec![answer], reach, seed)
}

/// Most preferred first, equals shuffled (RFC 5321 5.1), each host once.
fn in_order(hosts: &[(u16, String)], seed: u64) -> Vec<(u16, String)> {
    // Sorted first, so that the order in which the server told them makes no difference.
    let unique: BTreeSet<_> = hosts.iter().collect();
    let mut seen = BTreeSet::new();
    let mut ordered: Vec<_> = unique.into_iter().filter(|(_, host)| seen.insert(host.clone())).cloned().collect();
    shuffle(&mut ordered, seed);
    ordered.sort_by_key(|(preference, _)| *preference);
    ordered.truncate(HOSTS_MAX);
    ordered
}

enum HostFault {
    NotAHost,
    Dns(DnsFault),
}

type HostAnswer = Result<AddressAnswer, HostFault>;

fn host_addresses<'a>(
    dns: &'a dyn Dns,
    host: &'a str,
    reach: &'a Reach,
) -> Pin<Box<dyn Future<Output = HostAnswer> + Send + 'a>> {
    Box::pin(async move {
        if !is_host(host) {
            return Err(HostFault::NotAHost);
        }
        dns.addresses(host, reach.families).await.map_err(HostFault::Dns)
    })
}

/// An MX record must name a host: an address written as a name, or a name without a dot, is a mistake that no look-up
/// mends, and that must not become a look-up of something else.
fn is_host(host: &str) -> bool {
    let Some((_, last)) = host.rsplit_once('.') else {
        return false;
    };
    host.parse::<IpAddr>().is_err() && !last.is_empty() && !last.bytes().all(|b| b.is_ascii_digit())
}

fn conclude(
    domain: &Domain,
    mx: &MxAnswer,
    ordered: Vec<(u16, String)>,
    answers: Vec<HostAnswer>,
    reach: &Reach,
    seed: u64,
) -> Route {
    let name = site_name(&ordered);
    let mut valid_for = mx.valid_for;
    let mut hosts = Vec::new();
    let mut refusal = None;
    let mut later = Vec::new();
    for ((preference, name), answer) in ordered.into_iter().zip(answers) {
        let mut host = MxHost { canonical: name.clone(), name, preference, addresses: Vec::new(), secure: false };
        match answer {
            Ok(answer) => {
                valid_for = valid_for.min(answer.valid_for);
                host.secure = answer.secure;
                host.canonical = answer.name;
                let (allowed, refused) = allowed(&host.name, answer.addresses, reach);
                let led_here = refused.iter().any(|refusal| matches!(refusal, Refusal::Loop { .. }));
                refusal = refusal.or(refused.into_iter().next());
                host.addresses = allowed;
                shuffle(&mut host.addresses, seed);
                host.addresses.truncate(ADDRESSES_PER_HOST_MAX);
                if led_here {
                    // RFC 5321 5.1: we are a mail host of this domain ourselves; equal and less
                    // preferred hosts would only send it back.
                    hosts.retain(|other: &MxHost| other.preference < preference);
                    break;
                }
            }
            Err(HostFault::NotAHost) => {
                refusal = refusal.or(Some(Refusal::NotAHost { host: host.name.clone() }));
            }
            Err(HostFault::Dns(DnsFault::AliasLoop)) => {
                refusal = refusal.or(Some(Refusal::AliasLoop { host: host.name.clone() }));
            }
            Err(HostFault::Dns(fault)) => later.push(format!("{}: {fault}", host.name)),
        }
        hosts.push(host);
    }
    if hosts.iter().any(|host| !host.addresses.is_empty()) {
        return Route::Site(Site { name, hosts, secure: mx.secure, valid_for: valid_for.clamp(VALID_MIN, VALID_MAX) });
    }
    // A host that could not be looked up may be fine in an hour, so it outweighs a refusal.
    match (later.is_empty(), refusal) {
        (true, Some(refusal)) => Route::Refused(refusal),
        (true, None) => Route::Later(format!("no mail host of {domain} has an address we can reach")),
        (false, _) => Route::Later(format!("no mail host of {domain}: {}", later.join("; "))),
    }
}

/// Each preference's hosts sorted and joined by commas, the preferences by semicolons.
fn site_name(ordered: &[(u16, String)]) -> String {
    let mut ranks: BTreeMap<u16, BTreeSet<&str>> = BTreeMap::new();
    for (preference, host) in ordered {
        ranks.entry(*preference).or_default().insert(host);
    }
    let joined = |hosts: BTreeSet<&str>| hosts.into_iter().collect::<Vec<_>>().join(",");
    ranks.into_values().map(joined).collect::<Vec<_>>().join(";")
}

fn allowed(host: &str, addresses: Vec<IpAddr>, reach: &Reach) -> (Vec<IpAddr>, Vec<Refusal>) {
    let mut allowed = Vec::new();
    let mut refused = Vec::new();
    for address in addresses {
        // An implicit MX was asked for both families, to know whether it exists.
        if !reach.families.includes(address) {
            continue;
        }
        match refusal_of(host, address, reach) {
            None => allowed.push(address),
            Some(refusal) => refused.push(refusal),
        }
    }
    (allowed, refused)
}

fn refusal_of(host: &str, address: IpAddr, reach: &Reach) -> Option<Refusal> {
    let in_network = |network: &Network| network.contains(address);
    if reach.own.contains(&address.to_canonical()) && !reach.allow_private.iter().any(in_network) {
        return Some(Refusal::Loop { host: host.to_owned(), address });
    }
    not_public(address, &reach.allow_private).map(|kind| Refusal::NotPublic { host: host.to_owned(), address, kind })
}

/// Fisher and Yates on SplitMix64: the same seed gives the same order.
fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut state = seed;
    for last in (1..items.len()).rev() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let other = (mixed % (last as u64 + 1)) as usize;
        items.swap(last, other);
    }
}

/// One of many that are waited for.
pub(super) type Waiting<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Waits for all at once, and keeps their order.
pub(super) async fn all<T>(mut waiting: Vec<Waiting<'_, T>>) -> Vec<T> {
    let mut done: Vec<Option<T>> = waiting.iter().map(|_| None).collect();
    poll_fn(|context| {
        for (future, slot) in waiting.iter_mut().zip(&mut done) {
            if slot.is_none()
                && let Poll::Ready(value) = future.as_mut().poll(context)
            {
                *slot = Some(value);
            }
        }
        if done.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}
