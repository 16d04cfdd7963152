//! What do the real servers say?
//!
//! Ordinary questions go through hickory's resolver. When a validator is configured, all questions go to it with the
//! DNSSEC OK bit set, and its AD flag is believed: hickory's own validation is not ready to gate mail, and the
//! flag is worth nothing from a server that is not ours, hence normally loopback. Answers are kept by their TTL; what
//! has run out is still used for a while when no server answers (RFC 8767), so that mail to known domains goes on.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_net::runtime::TokioRuntimeProvider;
use hickory_net::{DnsError, NetError};
use hickory_proto::op::{DnsResponse, Edns, Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use mail::address::Domain;
use mail::dane::Tlsa;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use super::{
    AddressAnswer, Asked, CnameAnswer, Dns, DnsFault, Families, MxAnswer, PtrAnswer, TlsaAnswer, TxtAnswer,
    canonical_name, reverse_name,
};
use crate::clock::Clock;

/// DNS Flag Day 2020: answers of this size arrive unfragmented.
const UDP_PAYLOAD_MAX: u16 = 1232;
/// RFC 2308 7.1 advises minutes; a mistake that is mended must not be remembered for long.
const NEGATIVE_MAX: Duration = Duration::from_secs(300);
const NEGATIVE_MIN: Duration = Duration::from_secs(5);
const POSITIVE_MAX: Duration = Duration::from_secs(86_400);
/// RFC 8767 5: stale answers for a day or so.
const STALE_MAX_US: i64 = 86_400 * 1_000_000;
/// RFC 8767 5: an answer out of date is used this long before the servers are asked again.
const STALE_FOR: Duration = Duration::from_secs(30);
/// Chains of aliases that are longer are loops, or as good as.
const ALIASES_MAX: usize = 8;
const ENTRIES_MAX: usize = 50_000;
/// Each open question holds a socket.
const QUESTIONS_MAX: usize = 256;

/// Which servers to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Servers {
    /// Those of this machine (`/etc/resolv.conf`).
    System,
    These(Vec<SocketAddr>),
}

#[derive(Clone, Debug)]
pub struct ResolverSettings {
    pub servers: Servers,
    /// A validating resolver whose AD flag is believed; without one nothing is secure, and there is no DANE.
    pub validator: Option<SocketAddr>,
    /// How long one try may take, and how many there are.
    pub timeout: Duration,
    pub tries: usize,
}

impl Default for ResolverSettings {
    fn default() -> Self {
        ResolverSettings { servers: Servers::System, validator: None, timeout: Duration::from_secs(5), tries: 2 }
    }
}

/// Asks real servers, and remembers.
pub struct Resolver {
    upstream: Upstream,
    clock: Clock,
    cache: Mutex<Cache>,
    places: Semaphore,
    patience: Duration,
    uses_stale: bool,
}

enum Upstream {
    Ordinary(Box<Ordinary>),
    Validator(Validator),
}

/// Why there is no resolver.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolverError {
    #[error("the DNS servers of this machine cannot be found: {0}")]
    System(String),
    #[error("no DNS server is configured")]
    NoServer,
    #[error("the DNS resolver refuses its configuration: {0}")]
    Library(String),
}

impl Resolver {
    pub fn new(settings: &ResolverSettings, clock: Clock) -> Result<Resolver, ResolverError> {
        let upstream = match settings.validator {
            Some(server) => {
                Upstream::Validator(Validator { server, timeout: settings.timeout, tries: settings.tries.max(1) })
            }
            None => Upstream::Ordinary(Box::new(Ordinary::new(settings)?)),
        };
        Ok(Resolver {
            upstream,
            clock,
            cache: Mutex::new(Cache::default()),
            places: Semaphore::new(QUESTIONS_MAX),
            patience: patience(settings.timeout, settings.tries),
            uses_stale: true,
        })
    }

    /// For checks, whose finding must be of now: mail may use yesterday's MX records, but nobody is on a block list
    /// because he was yesterday.
    pub fn only_fresh(mut self) -> Resolver {
        self.uses_stale = false;
        self
    }

    /// Known, or asked; out of date when nobody answers.
    async fn ask(&self, name: &str, kind: RecordType) -> Result<Found, DnsFault> {
        let Ok(name) = absolute(name) else {
            // What cannot be a name cannot exist.
            return Err(DnsFault::NoSuchName);
        };
        let key = (name.to_lowercase(), kind);
        if let Some(known) = self.cache().fresh(&key, self.clock.now()) {
            return known;
        }
        let answer = match tokio::time::timeout(self.patience, self.places.acquire()).await {
            Ok(_place) => {
                // Somebody may have asked the same while we waited.
                if let Some(known) = self.cache().fresh(&key, self.clock.now()) {
                    return known;
                }
                match &self.upstream {
                    Upstream::Ordinary(ordinary) => ordinary.ask(name, kind).await,
                    Upstream::Validator(validator) => validator.ask(&name, kind).await,
                }
            }
            Err(_) => Err(Failure::Unanswered(format!(
                "{QUESTIONS_MAX} other questions have been waiting for the DNS servers for {:?}",
                self.patience
            ))),
        };
        let now = self.clock.now();
        match answer {
            Ok(found) => {
                let valid_for = found.valid_for.min(POSITIVE_MAX);
                self.cache().keep(key, Ok(found.clone()), valid_for, now);
                Ok(found)
            }
            Err(Failure::Negative { fault, valid_for }) => {
                let valid_for = valid_for.clamp(NEGATIVE_MIN, NEGATIVE_MAX);
                self.cache().keep(key, Err(fault.clone()), valid_for, now);
                Err(fault)
            }
            Err(Failure::Unanswered(why)) => {
                let stale = if self.uses_stale { self.cache().stale(&key, now) } else { None };
                stale.ok_or(DnsFault::Later(why))
            }
        }
    }

    async fn find_addresses(&self, host: &str, families: Families) -> Result<AddressAnswer, DnsFault> {
        let answers = match families {
            Families::V4 => vec![self.ask(host, RecordType::A).await],
            Families::V6 => vec![self.ask(host, RecordType::AAAA).await],
            Families::Both => {
                let (v4, v6) = tokio::join!(self.ask(host, RecordType::A), self.ask(host, RecordType::AAAA));
                vec![v4, v6]
            }
        };
        let mut together: Option<AddressAnswer> = None;
        let mut fault = None;
        for answer in answers {
            match answer {
                Ok(found) => {
                    let part = found.into_addresses();
                    together = Some(match together {
                        None => part,
                        Some(other) => other.and(part),
                    });
                }
                // One family that is not known now says more than one that is not there.
                Err(later @ DnsFault::Later(_)) => fault = Some(later),
                Err(other) => fault = fault.or(Some(other)),
            }
        }
        match (together, fault) {
            (Some(answer), _) => Ok(answer),
            (None, Some(DnsFault::NoData)) if self.alias_loops(host).await => Err(DnsFault::AliasLoop),
            (None, fault) => Err(fault.unwrap_or(DnsFault::NoData)),
        }
    }

    /// Servers answer a loop of aliases with “no data”; only a look at the aliases tells it from an honest one.
    async fn alias_loops(&self, host: &str) -> bool {
        let mut name = canonical_name(host);
        for _ in 0..ALIASES_MAX {
            let Ok(found) = self.ask(&name, RecordType::CNAME).await else {
                return false;
            };
            let Some(RData::CNAME(target)) = found.records.first() else {
                return false;
            };
            name = canonical_name(&target.to_ascii());
        }
        true
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        // Every entry is written whole, so a poisoned cache is as good as any.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dns for Resolver {
    fn outdate(&self, domain: &Domain) {
        self.cache().outdate(domain.as_str(), self.clock.now());
    }

    fn mx<'a>(&'a self, domain: &'a Domain) -> Asked<'a, MxAnswer> {
        Box::pin(async {
            let found = self.ask(domain.as_str(), RecordType::MX).await?;
            let host = |record: &RData| match record {
                RData::MX(mx) => Some((mx.preference, canonical_name(&mx.exchange.to_ascii()))),
                _ => None,
            };
            Ok(MxAnswer {
                hosts: found.records.iter().filter_map(host).collect(),
                secure: found.secure,
                valid_for: found.valid_for,
            })
        })
    }

    fn addresses<'a>(&'a self, host: &'a str, families: Families) -> Asked<'a, AddressAnswer> {
        Box::pin(self.find_addresses(host, families))
    }

    fn txt<'a>(&'a self, name: &'a str) -> Asked<'a, TxtAnswer> {
        Box::pin(async {
            let found = self.ask(name, RecordType::TXT).await?;
            let text = |record: &RData| match record {
                RData::TXT(txt) => Some(String::from_utf8_lossy(&txt.txt_data.concat()).into_owned()),
                _ => None,
            };
            Ok(TxtAnswer { texts: found.records.iter().filter_map(text).collect(), valid_for: found.valid_for })
        })
    }

    fn tlsa<'a>(&'a self, name: &'a str) -> Asked<'a, TlsaAnswer> {
        Box::pin(async {
            let found = self.ask(name, RecordType::TLSA).await?;
            let tlsa = |record: &RData| match record {
                RData::TLSA(tlsa) => Some(Tlsa {
                    usage: tlsa.cert_usage.into(),
                    selector: tlsa.selector.into(),
                    matching: tlsa.matching.into(),
                    data: tlsa.cert_data.clone(),
                }),
                _ => None,
            };
            Ok(TlsaAnswer {
                records: found.records.iter().filter_map(tlsa).collect(),
                secure: found.secure,
                valid_for: found.valid_for,
            })
        })
    }

    fn ptr<'a>(&'a self, address: IpAddr) -> Asked<'a, PtrAnswer> {
        Box::pin(async move {
            let found = self.ask(&reverse_name(address), RecordType::PTR).await?;
            let name = |record: &RData| match record {
                RData::PTR(name) => Some(canonical_name(&name.to_ascii())),
                _ => None,
            };
            Ok(PtrAnswer { names: found.records.iter().filter_map(name).collect(), valid_for: found.valid_for })
        })
    }

    fn cname<'a>(&'a self, name: &'a str) -> Asked<'a, CnameAnswer> {
        Box::pin(async {
            let found = self.ask(name, RecordType::CNAME).await?;
            let target = |record: &RData| match record {
                RData::CNAME(target) => Some(canonical_name(&target.to_ascii())),
                _ => None,
            };
            let target = found.records.iter().find_map(target).ok_or(DnsFault::NoData)?;
            Ok(CnameAnswer { target, valid_for: found.valid_for })
        })
    }
}

/// Records of the kind that was asked for.
#[derive(Clone, Debug)]
struct Found {
    /// Who bears them, after aliases.
    name: String,
    records: Vec<RData>,
    secure: bool,
    valid_for: Duration,
}

enum Failure {
    /// The servers say that there is none.
    Negative { fault: DnsFault, valid_for: Duration },
    /// The servers say nothing of use.
    Unanswered(String),
}

impl Found {
    fn among(answers: &[Record], kind: RecordType, secure: bool) -> Option<Found> {
        let of_kind = || answers.iter().filter(|record| record.record_type() == kind);
        let name = canonical_name(&of_kind().next()?.name.to_ascii());
        // The aliases on the way count: the answer is as short-lived as the shortest of them.
        let ttl = answers.iter().map(|record| record.ttl).min()?;
        Some(Found {
            name,
            records: of_kind().map(|record| record.data.clone()).collect(),
            secure,
            valid_for: Duration::from_secs(ttl.into()),
        })
    }

    fn into_addresses(self) -> AddressAnswer {
        let address = |record: &RData| match record {
            RData::A(a) => Some(IpAddr::V4(a.0)),
            RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
            _ => None,
        };
        AddressAnswer {
            addresses: self.records.iter().filter_map(address).collect(),
            name: self.name,
            secure: self.secure,
            valid_for: self.valid_for,
        }
    }
}

impl AddressAnswer {
    fn and(mut self, other: AddressAnswer) -> AddressAnswer {
        self.addresses.extend(other.addresses);
        self.secure &= other.secure;
        self.valid_for = self.valid_for.min(other.valid_for);
        self
    }
}

impl Failure {
    fn of(error: NetError, timeout: Duration) -> Failure {
        match error {
            NetError::Dns(DnsError::NoRecordsFound(none)) => {
                let seconds = none.negative_ttl.map_or(0, u64::from);
                Failure::none(none.response_code, Duration::from_secs(seconds))
            }
            NetError::Dns(DnsError::ResponseCode(code)) => {
                Failure::Unanswered(format!("the DNS server answered {code}"))
            }
            NetError::Timeout => Failure::silence(timeout),
            other => Failure::Unanswered(format!("the DNS look-up failed: {other}")),
        }
    }

    fn none(code: ResponseCode, valid_for: Duration) -> Failure {
        let fault = match code {
            ResponseCode::NXDomain => DnsFault::NoSuchName,
            _ => DnsFault::NoData,
        };
        Failure::Negative { fault, valid_for }
    }

    fn silence(timeout: Duration) -> Failure {
        Failure::Unanswered(format!("no DNS server answered within {timeout:?}"))
    }
}

/// Hickory's resolver, with its cache turned off: ours keeps what has run out, too.
struct Ordinary {
    resolver: TokioResolver,
    timeout: Duration,
}

impl Ordinary {
    fn new(settings: &ResolverSettings) -> Result<Ordinary, ResolverError> {
        let config = match &settings.servers {
            Servers::System => {
                let (config, _) = hickory_resolver::system_conf::read_system_conf()
                    .map_err(|error| ResolverError::System(error.to_string()))?;
                // Only its servers: names are absolute, so its search list is none of our business.
                ResolverConfig::from_name_servers(config.name_servers().to_vec())
            }
            Servers::These(servers) => ResolverConfig::from_name_servers(servers.iter().map(name_server).collect()),
        };
        if config.name_servers().is_empty() {
            return Err(ResolverError::NoServer);
        }
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let options = builder.options_mut();
        options.timeout = settings.timeout;
        options.attempts = settings.tries.saturating_sub(1);
        options.edns0 = true;
        options.edns_payload_len = UDP_PAYLOAD_MAX;
        options.use_hosts_file = ResolveHosts::Never;
        options.cache_size = 0;
        let resolver = builder.build().map_err(|error| ResolverError::Library(error.to_string()))?;
        Ok(Ordinary { resolver, timeout: patience(settings.timeout, settings.tries) })
    }

    async fn ask(&self, name: Name, kind: RecordType) -> Result<Found, Failure> {
        // A limit of our own around hickory's: it counts per server and transport.
        let asked = tokio::time::timeout(self.timeout, self.resolver.lookup(name, kind)).await;
        let lookup =
            asked.map_err(|_| Failure::silence(self.timeout))?.map_err(|error| Failure::of(error, self.timeout))?;
        Found::among(lookup.answers(), kind, false).ok_or_else(|| Failure::none(ResponseCode::NoError, Duration::ZERO))
    }
}

fn name_server(at: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = at.port();
        connection
    });
    NameServerConfig::new(at.ip(), true, connections.to_vec())
}

fn patience(timeout: Duration, tries: usize) -> Duration {
    timeout.saturating_mul(u32::try_from(tries.max(1)).unwrap_or(u32::MAX))
}

/// One server that validates, asked with the DNSSEC OK bit and believed.
struct Validator {
    server: SocketAddr,
    timeout: Duration,
    tries: usize,
}

impl Validator {
    async fn ask(&self, name: &Name, kind: RecordType) -> Result<Found, Failure> {
        let patience = patience(self.timeout, self.tries);
        let mut failure = Failure::silence(patience);
        for _ in 0..self.tries {
            match tokio::time::timeout(self.timeout, self.exchange(name, kind)).await {
                Ok(Ok(message)) => return found_in(message, kind, patience),
                Ok(Err(detail)) => {
                    failure = Failure::Unanswered(format!("the validating DNS server {}: {detail}", self.server));
                }
                Err(_) => failure = Failure::silence(patience),
            }
        }
        Err(failure)
    }

    /// Over UDP; over TCP when the answer did not fit.
    async fn exchange(&self, name: &Name, kind: RecordType) -> Result<Message, NetError> {
        let query = query(name, kind);
        let octets = query.to_vec()?;
        let answer = self.over_udp(&query, &octets).await?;
        if answer.metadata.truncation {
            return self.over_tcp(&query, &octets).await;
        }
        Ok(answer)
    }

    async fn over_udp(&self, query: &Message, octets: &[u8]) -> Result<Message, NetError> {
        let any: SocketAddr = match self.server {
            SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
            SocketAddr::V6(_) => ([0; 8], 0).into(),
        };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(self.server).await?;
        socket.send(octets).await?;
        let mut buffer = [0; 4_096];
        loop {
            let length = socket.recv(&mut buffer).await?;
            // What does not belong to the question is somebody else's, or forged: keep waiting.
            if let Ok(message) = Message::from_vec(&buffer[..length])
                && belongs(&message, query)
            {
                return Ok(message);
            }
        }
    }

    async fn over_tcp(&self, query: &Message, octets: &[u8]) -> Result<Message, NetError> {
        let mut stream = TcpStream::connect(self.server).await?;
        let length = u16::try_from(octets.len()).map_err(|_| NetError::from("the question is too long"))?;
        stream.write_all(&[&length.to_be_bytes(), octets].concat()).await?;
        let length = stream.read_u16().await?;
        let mut answer = vec![0; length.into()];
        stream.read_exact(&mut answer).await?;
        let message = Message::from_vec(&answer)?;
        if !belongs(&message, query) {
            return Err(NetError::from("the answer belongs to another question"));
        }
        Ok(message)
    }
}

fn query(name: &Name, kind: RecordType) -> Message {
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    // RFC 6840 5.7: we understand the flag.
    query.metadata.authentic_data = true;
    query.add_query(Query::query(name.clone(), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_PAYLOAD_MAX).set_dnssec_ok(true);
    query.set_edns(edns);
    query
}

fn belongs(answer: &Message, query: &Message) -> bool {
    answer.metadata.id == query.metadata.id
        && answer.metadata.message_type == MessageType::Response
        && answer.queries == query.queries
}

fn found_in(message: Message, kind: RecordType, patience: Duration) -> Result<Found, Failure> {
    let code = message.metadata.response_code;
    let secure = message.metadata.authentic_data;
    let checked = DnsResponse::from_message(message)
        .map_err(NetError::from)
        .and_then(|response| DnsError::from_response(response).map_err(NetError::from))
        .map_err(|error| Failure::of(error, patience))?;
    let negative_for = Duration::from_secs(checked.negative_ttl().map_or(0, u64::from));
    // Aliases that lead to nothing are an answer without records.
    Found::among(&checked.answers, kind, secure).ok_or(Failure::none(code, negative_for))
}

fn absolute(name: &str) -> Result<Name, hickory_proto::ProtoError> {
    let mut name = Name::from_ascii(name)?;
    name.set_fqdn(true);
    Ok(name)
}

/// What the servers said, and until when they said it holds.
#[derive(Default)]
struct Cache {
    entries: HashMap<Key, Entry>,
}

type Key = (Name, RecordType);

struct Entry {
    answer: Result<Found, DnsFault>,
    expires_at: i64,
}

impl Cache {
    fn fresh(&self, key: &Key, now: i64) -> Option<Result<Found, DnsFault>> {
        let entry = self.entries.get(key)?;
        let left_us = u64::try_from(entry.expires_at - now).ok().filter(|left| *left > 0)?;
        let mut answer = entry.answer.clone();
        if let Ok(found) = &mut answer {
            found.valid_for = Duration::from_micros(left_us);
        }
        Some(answer)
    }

    /// What was once found, for mail that would otherwise wait. TLSA and TXT records are not used out of date: with them
    /// a policy would be upheld that may have been replaced.
    fn stale(&self, key: &Key, now: i64) -> Option<Found> {
        if !matches!(key.1, RecordType::MX | RecordType::A | RecordType::AAAA) {
            return None;
        }
        let entry = self.entries.get(key)?;
        let mut found = entry.answer.clone().ok()?;
        if now - entry.expires_at > STALE_MAX_US {
            return None;
        }
        found.valid_for = STALE_FOR;
        Some(found)
    }

    /// A domain's MX records, and the addresses of the hosts they name. What was found stays, for when no server answers.
    fn outdate(&mut self, domain: &str, now: i64) {
        let Ok(domain) = absolute(domain) else { return };
        let domain = domain.to_lowercase();
        let mut names = vec![domain.clone()];
        if let Some(Entry { answer: Ok(found), .. }) = self.entries.get(&(domain, RecordType::MX)) {
            names.extend(found.records.iter().filter_map(|record| match record {
                RData::MX(mx) => Some(mx.exchange.to_lowercase()),
                _ => None,
            }));
        }
        for name in names {
            for kind in [RecordType::MX, RecordType::A, RecordType::AAAA, RecordType::CNAME] {
                if let Some(entry) = self.entries.get_mut(&(name.clone(), kind)) {
                    entry.expires_at = entry.expires_at.min(now);
                }
            }
        }
    }

    fn keep(&mut self, key: Key, answer: Result<Found, DnsFault>, valid_for: Duration, now: i64) {
        if self.entries.len() >= ENTRIES_MAX {
            self.entries.retain(|_, entry| entry.expires_at > now);
        }
        // All still valid: to start afresh costs a look-up each, and is rarer than any order is worth.
        if self.entries.len() >= ENTRIES_MAX {
            self.entries.clear();
        }
        let expires_at = now.saturating_add(valid_for.as_micros().try_into().unwrap_or(i64::MAX));
        self.entries.insert(key, Entry { answer, expires_at });
    }
}
