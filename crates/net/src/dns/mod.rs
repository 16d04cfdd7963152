//! What does the DNS say?
//!
//! Three who answer: `Resolver` (real servers), `FixedDns` (answers from the configuration, before another `Dns`), and
//! behind them, for the demo and for tests, `Authority` (a server on a socket). Two who ask: `route_of` and
//! `dane_of`.

pub mod authority;
mod dane;
mod fixed;
mod network;
mod resolver;
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
pub use resolver::{Resolver, ResolverError, ResolverSettings, Servers};
pub use route::{MxHost, Reach, Refusal, Route, Site, route_of};

/// An answer that is being waited for.
pub type Asked<'a, T> = Pin<Box<dyn Future<Output = Result<T, DnsFault>> + Send + 'a>>;

/// Who answers questions about names. Host names are absolute; a final dot is not needed and not minded.
pub trait Dns: Send + Sync {
    fn mx<'a>(&'a self, domain: &'a Domain) -> Asked<'a, MxAnswer>;
    fn addresses<'a>(&'a self, host: &'a str, families: Families) -> Asked<'a, AddressAnswer>;
    fn txt<'a>(&'a self, name: &'a str) -> Asked<'a, TxtAnswer>;
    /// `name` as `tlsa_name` makes it.
    fn tlsa<'a>(&'a self, name: &'a str) -> Asked<'a, TlsaAnswer>;

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

/// Where the TLSA records of an SMTP server stand: `_25._tcp.mx.example.org`.
pub fn tlsa_name(host: &str, port: u16) -> String {
    format!("_{port}._tcp.{host}")
}

/// As names are compared here: lower case, without the final dot.
fn canonical_name(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}
