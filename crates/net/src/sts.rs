//! Which MTA-STS policy (RFC 8461) does a domain publish?
//!
//! A record says that there is one, and which; it is fetched over HTTPS from the one host that may tell it. What the
//! answers mean is decided in `mail::mta_sts`. Policies are remembered until the process ends.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request, Response, StatusCode, body::Incoming};
use hyper_util::rt::TokioIo;
use mail::address::Domain;
use mail::mta_sts::{self, CacheDecision, Cached, Mode, POLICY_OCTETS_MAX};
use tokio::net::TcpStream;

use crate::clock::Clock;
use crate::dns::{Dns, DnsFault, Families, Network, not_public};
use crate::tls::{Connector, Policy as TlsPolicy};

/// RFC 8461 3.3: a fetch that failed is not repeated at once.
const RETRY_AFTER_SECONDS: i64 = 300;
const DOMAINS_MAX: usize = 50_000;
const HEAD_OCTETS_MAX: usize = 64 * 1024;

#[derive(Clone, Debug)]
pub struct StsSettings {
    /// For the whole of one fetch.
    pub timeout: Duration,
    pub port: u16,
    /// Where all policy hosts are, in place of their DNS addresses: for trials.
    pub address: Option<IpAddr>,
    /// Networks that a policy host may be in though they are not of the public Internet.
    pub allow_private: Vec<Network>,
}

impl Default for StsSettings {
    fn default() -> Self {
        StsSettings { timeout: Duration::from_secs(30), port: 443, address: None, allow_private: Vec::new() }
    }
}

/// Finds and remembers policies.
pub struct Sts {
    dns: Arc<dyn Dns>,
    connector: Connector,
    clock: Clock,
    settings: StsSettings,
    known: Mutex<HashMap<Domain, Known>>,
}

/// What holds for a domain now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StsAnswer {
    pub policy: Option<mta_sts::Policy>,
    /// Why a newer policy, or any, could not be had; for the record, it changes nothing.
    pub fault: Option<StsFault>,
}

impl StsAnswer {
    /// The policy that must be obeyed. One in testing mode is only reported on.
    pub fn enforced(&self) -> Option<&mta_sts::Policy> {
        self.policy.as_ref().filter(|policy| policy.mode() == Mode::Enforce)
    }
}

/// Why a policy could not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StsFault {
    #[error("{host} cannot be found: {fault}")]
    Host { host: String, fault: DnsFault },
    #[error("{host} is at the {kind} address {address}")]
    NotPublic { host: String, address: IpAddr, kind: &'static str },
    #[error("cannot connect to {host}: {detail}")]
    Connect { host: String, detail: String },
    #[error("{host}: {detail}")]
    Http { host: String, detail: String },
    /// Redirects are not followed (RFC 8461 3.3).
    #[error("{host} answered {status} instead of a policy")]
    Status { host: String, status: u16 },
    #[error("{host} sent a policy that is not text/plain")]
    NotText { host: String },
    #[error("{host} sent more than {POLICY_OCTETS_MAX} octets")]
    TooLarge { host: String },
    #[error("{host}: {error}")]
    Policy { host: String, error: mta_sts::PolicyError },
    #[error("{host} did not deliver its policy within {within:?}")]
    TimedOut { host: String, within: Duration },
}

#[derive(Clone, Default)]
struct Known {
    cached: Option<Cached>,
    /// The record's id that could not be fetched, when, and why.
    failed: Option<(String, i64, StsFault)>,
}

impl Sts {
    pub fn new(dns: Arc<dyn Dns>, connector: Connector, clock: Clock, settings: StsSettings) -> Sts {
        Sts { dns, connector, clock, settings, known: Mutex::new(HashMap::new()) }
    }

    /// What holds for mail to `domain`: looks up the record, and fetches when it must.
    pub async fn policy(&self, domain: &Domain) -> StsAnswer {
        let record = self.dns.txt(&format!("_mta-sts.{domain}")).await;
        let id = record.ok().and_then(|answer| mta_sts::record_id(&answer.texts));
        let now = self.now_unix();
        let known = self.known().get(domain).cloned().unwrap_or_default();
        match (mta_sts::decide(known.cached.as_ref(), id.as_deref(), now), id) {
            (CacheDecision::None, _) => StsAnswer::default(),
            (CacheDecision::Use, _) => known.answer(now),
            // `decide` asks for a fetch only when there is an id to fetch for.
            (CacheDecision::Refetch, None) => known.answer(now),
            (CacheDecision::Refetch, Some(id)) if known.failed_lately(&id, now) => known.answer(now),
            (CacheDecision::Refetch, Some(id)) => {
                let fetched = self.fetch(domain).await;
                self.learn(domain, known, id, fetched)
            }
        }
    }

    fn learn(
        &self,
        domain: &Domain,
        mut known: Known,
        id: String,
        fetched: Result<mta_sts::Policy, StsFault>,
    ) -> StsAnswer {
        let now = self.now_unix();
        match fetched {
            Ok(policy) => {
                known.failed = None;
                known.cached = Some(Cached { policy, id, fetched_at_unix: now });
            }
            Err(fault) => known.failed = Some((id, now, fault)),
        }
        let answer = known.answer(now);
        let mut all = self.known();
        if all.len() >= DOMAINS_MAX && !all.contains_key(domain) {
            make_room(&mut all, now);
        }
        all.insert(domain.clone(), known);
        answer
    }

    async fn fetch(&self, domain: &Domain) -> Result<mta_sts::Policy, StsFault> {
        let host = format!("mta-sts.{domain}");
        let within = self.settings.timeout;
        match tokio::time::timeout(within, self.fetch_from(&host)).await {
            Ok(result) => result,
            Err(_) => Err(StsFault::TimedOut { host, within }),
        }
    }

    async fn fetch_from(&self, host: &str) -> Result<mta_sts::Policy, StsFault> {
        let stream = self.connect(host).await?;
        let stream = self
            .connector
            .connect(stream, host, &TlsPolicy::Sts, self.settings.timeout)
            .await
            .map_err(|fault| StsFault::Connect { host: host.to_owned(), detail: fault.to_string() })?;
        let http = |error: hyper::Error| StsFault::Http { host: host.to_owned(), detail: error.to_string() };
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(HEAD_OCTETS_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(http)?;
        let conversation = async {
            let response = sender.send_request(request(host)).await.map_err(http)?;
            policy_in(host, response).await
        };
        tokio::pin!(conversation, connection);
        tokio::select! {
            result = &mut conversation => result,
            // The peer is done with the connection; what it said before may still wait to be read.
            _ = &mut connection => conversation.await,
        }
    }

    async fn connect(&self, host: &str) -> Result<TcpStream, StsFault> {
        let mut last = None;
        for address in self.addresses(host).await? {
            let to = SocketAddr::new(address, self.settings.port);
            match TcpStream::connect(to).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some(format!("{to}: {error}")),
            }
        }
        Err(StsFault::Connect { host: host.to_owned(), detail: last.unwrap_or_else(|| "it has no address".to_owned()) })
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, StsFault> {
        if let Some(address) = self.settings.address {
            return Ok(vec![address]);
        }
        let answer = self.dns.addresses(host, Families::Both).await;
        let found = answer.map_err(|fault| StsFault::Host { host: host.to_owned(), fault })?;
        // A stranger's record must not make us speak to our own network.
        for address in &found.addresses {
            if let Some(kind) = not_public(*address, &self.settings.allow_private) {
                return Err(StsFault::NotPublic { host: host.to_owned(), address: *address, kind });
            }
        }
        Ok(found.addresses)
    }

    fn now_unix(&self) -> i64 {
        self.clock.now() / 1_000_000
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Domain, Known>> {
        // Every entry is written whole, so a poisoned map is as good as any.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn answer(&self, now: i64) -> StsAnswer {
        let cached = self.cached.as_ref().filter(|cached| cached.fresh(now));
        StsAnswer {
            policy: cached.map(|cached| cached.policy.clone()),
            fault: self.failed.as_ref().map(|(_, _, fault)| fault.clone()),
        }
    }

    fn failed_lately(&self, id: &str, now: i64) -> bool {
        self.failed
            .as_ref()
            .is_some_and(|(failed, at, _)| failed == id && now.saturating_sub(*at) < RETRY_AFTER_SECONDS)
    }

    fn fresh(&self, now: i64) -> bool {
        self.cached.as_ref().is_some_and(|cached| cached.fresh(now))
    }
}

/// Forgets what is of no use any more; and if that is nothing, one of the rest.
fn make_room(known: &mut HashMap<Domain, Known>, now: i64) {
    known.retain(|_, known| known.fresh(now));
    if known.len() >= DOMAINS_MAX
        && let Some(any) = known.keys().next().cloned()
    {
        known.remove(&any);
    }
}

fn request(host: &str) -> Request<Empty<Bytes>> {
    Request::get("/.well-known/mta-sts.txt")
        .header(HOST, host)
        .header(USER_AGENT, "weir")
        .body(Empty::new())
        .expect("a domain holds letters, digits, dots and hyphens only")
}

async fn policy_in(host: &str, response: Response<Incoming>) -> Result<mta_sts::Policy, StsFault> {
    let host = || host.to_owned();
    if response.status() != StatusCode::OK {
        return Err(StsFault::Status { host: host(), status: response.status().as_u16() });
    }
    // RFC 8461 3.2: against web servers that let strangers store files.
    let text = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().get(..10).is_some_and(|start| start.eq_ignore_ascii_case(b"text/plain")));
    if !text {
        return Err(StsFault::NotText { host: host() });
    }
    let limited = Limited::new(response.into_body(), POLICY_OCTETS_MAX);
    let body = limited.collect().await.map_err(|error| {
        if error.is::<http_body_util::LengthLimitError>() {
            StsFault::TooLarge { host: host() }
        } else {
            StsFault::Http { host: host(), detail: error.to_string() }
        }
    })?;
    let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    mta_sts::Policy::parse(&text).map_err(|error| StsFault::Policy { host: host(), error })
}
