//! What does the DNS say?
//!
//! Three who answer: `Resolver` (real servers), `FixedDns` (answers from the configuration, before another `Dns`), and
//! behind them, for the demo and for tests, `Authority` (a server on a socket). Who ask: `route_of` and `dane_of` for mail;
//! `reverse_of`, `blocklist` and `records_of` to check what is published about us and our customers.

pub mod authority;
pub mod blocklist;
mod dane;
mod fixed;
mod network;
mod records;
mod resolver;
mod reverse;
mod route;

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use mail::address::Domain;
use mail::dane::Tlsa;

pub use dane::{Dane, dane_of};
pub use fixed::{FixedAnswers, FixedDns, FixedRule};
pub use network::{Network, NetworkError, not_public};
pub use records::records_of;
pub use resolver::{Resolver, ResolverError, ResolverSettings, Servers};
pub use reverse::{Reverse, ReverseFlaw, reverse_of};
pub use route::{MxHost, Reach, Refusal, Route, Site, host_route, route_of};

/// An answer that is being waited for.
pub type Asked<'a, T> = Pin<Box<dyn Future<Output = Result<T, DnsFault>> + Send + 'a>>;

/// Who answers questions about names. Host names are absolute; a final dot is not needed and not minded.
pub trait Dns: Send + Sync {
    fn mx<'a>(&'a self, domain: &'a Domain) -> Asked<'a, MxAnswer>;
    fn addresses<'a>(&'a self, host: &'a str, families: Families) -> Asked<'a, AddressAnswer>;
    fn txt<'a>(&'a self, name: &'a str) -> Asked<'a, TxtAnswer>;
    /// `name` as `tlsa_name` makes it.
    fn tlsa<'a>(&'a self, name: &'a str) -> Asked<'a, TlsaAnswer>;
    /// The names that an address leads back to.
    fn ptr<'a>(&'a self, address: IpAddr) -> Asked<'a, PtrAnswer>;
    /// What a name is an alias of: one step, as published.
    fn cname<'a>(&'a self, name: &'a str) -> Asked<'a, CnameAnswer>;

    /// What is remembered of where this domain's mail goes is not to be answered again without asking: its hosts, and theirs.
    fn outdate(&self, domain: &Domain);
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnsFault {
    /// NXDOMAIN: the name does not exist.
    #[error("the name does not exist")]
    NoSuchName,
    /// The name exists, without such a record.
    #[error("the name has no such record")]
    NoData,
    /// The name is an alias that leads back to itself.
    #[error("the name is an alias that leads in a circle")]
    AliasLoop,
    /// SERVFAIL, a time-out, a server that is down: nothing is known, ask again later.
    #[error("{0}")]
    Later(String),
}

/// Which addresses are wanted: those that our own addresses can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Families {
    V4,
    V6,
    Both,
}

impl Families {
    /// The families of these addresses of ours.
    pub fn of(sources: impl IntoIterator<Item = IpAddr>) -> Families {
        let (mut v4, mut v6) = (false, false);
        for source in sources {
            v4 |= source.is_ipv4();
            v6 |= source.is_ipv6();
        }
        match (v4, v6) {
            (true, false) => Families::V4,
            (false, true) => Families::V6,
            _ => Families::Both,
        }
    }

    pub fn includes(self, address: IpAddr) -> bool {
        match self {
            Families::V4 => address.is_ipv4(),
            Families::V6 => address.is_ipv6(),
            Families::Both => true,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MxAnswer {
    /// Preference and host as published (lower case, no final dot); a null MX is one host with an empty name.
    pub hosts: Vec<(u16, String)>,
    /// A trusted validator vouched for it (DNSSEC).
    pub secure: bool,
    pub valid_for: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressAnswer {
    /// The name that bears the addresses, after aliases.
    pub name: String,
    pub addresses: Vec<IpAddr>,
    pub secure: bool,
    pub valid_for: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxtAnswer {
    /// Each record with its strings joined.
    pub texts: Vec<String>,
    pub valid_for: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsaAnswer {
    pub records: Vec<Tlsa>,
    /// Records that are not secure must not be used (RFC 7672 2.1).
    pub secure: bool,
    pub valid_for: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PtrAnswer {
    /// In lower case, without the final dot.
    pub names: Vec<String>,
    pub valid_for: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CnameAnswer {
    pub target: String,
    pub valid_for: Duration,
}

/// Where the PTR records of an address stand: `7.113.0.203.in-addr.arpa`, or 32 nibbles under `ip6.arpa` (RFC 3596 2.5).
pub fn reverse_name(address: IpAddr) -> String {
    // An IPv4 address in IPv6 clothes is the IPv4 address.
    let address = address.to_canonical();
    format!("{}.{}", reversed(address), if address.is_ipv4() { "in-addr.arpa" } else { "ip6.arpa" })
}

/// The labels of an address, the last octet or nibble first.
fn reversed(address: IpAddr) -> String {
    let labels: Vec<String> = match address {
        IpAddr::V4(v4) => v4.octets().iter().rev().map(u8::to_string).collect(),
        IpAddr::V6(v6) => {
            let nibbles = v6.octets().into_iter().rev().flat_map(|octet| [octet & 15, octet >> 4]);
            nibbles.map(|nibble| format!("{nibble:x}")).collect()
        }
    };
    labels.join(".")
}

/// Where the TLSA records of an SMTP server stand: `_25._tcp.mx.example.org`.
pub fn tlsa_name(host: &str, port: u16) -> String {
    format!("_{port}._tcp.{host}")
}

/// As names are compared here: lower case, without the final dot.
fn canonical_name(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}
