//! What does the operator's file say, and what is wrong with it?
//!
//! The file is read as it stands (`Written`), every value with its place, and then judged as a whole: `load` answers with the
//! settings or with every problem at once, each with its line, so that one round of mending is enough.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;

/// One thing that is wrong with the file: where, what, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub file: String,
    /// 0: the file as a whole.
    pub line: usize,
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.what),
            line => write!(f, "{}:{line}: {}", self.file, self.what),
        }
    }
}

/// The file as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    pub host: Spanned<String>,
    /// What the place is called that all IPs of this file are in.
    pub region: Option<Spanned<String>>,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub spool: SpoolSection,
    pub tls: Option<TlsSection>,
    #[serde(default, rename = "listener")]
    pub listeners: Vec<Listener>,
    pub http: Option<Http>,
    pub tracking: Option<TrackingSection>,
    pub returns: Option<ReturnsSection>,
    pub traces: Option<TracesSection>,
    /// Where accounts, IPs and pools are kept; without it they stand in this file.
    pub control: Option<ControlSection>,
    #[serde(default, rename = "account")]
    pub accounts: Vec<Account>,
    #[serde(default, rename = "credential")]
    pub credentials: Vec<Credential>,
    #[serde(default, rename = "domain")]
    pub domains: Vec<DomainSection>,
    #[serde(default, rename = "ip")]
    pub ips: Vec<Ip>,
    #[serde(default, rename = "pool")]
    pub pools: Vec<Pool>,
    #[serde(default)]
    pub delivery: Delivery,
    #[serde(default)]
    pub dns: Dns,
    #[serde(default)]
    pub warm_up: WarmUpSection,
    #[serde(default)]
    pub shaping: Vec<Shaping>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    pub message_bytes_max: Spanned<u64>,
    pub recipients_max: Spanned<u32>,
    pub queue_messages_max: Spanned<u64>,
    /// Sessions open at one time, all listeners together.
    pub connections_max: Spanned<u32>,
    pub connections_per_peer_max: Spanned<u32>,
    /// Octets of messages on their way in, held in memory at one time. What is not given depends on the machine.
    pub receiving_bytes_max: Option<Spanned<u64>>,
    pub idle_s: Spanned<u64>,
    /// For the data of one message, whole.
    pub data_s: Spanned<u64>,
    pub session_s: Spanned<u64>,
    /// How long a graceful stop waits for what is in flight.
    pub stop_s: Spanned<u64>,
}

fn plain<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            // SES takes 40 MiB, encoded.
            message_bytes_max: plain(40 << 20),
            recipients_max: plain(1_000),
            queue_messages_max: plain(5_000_000),
            connections_max: plain(2_000),
            connections_per_peer_max: plain(200),
            receiving_bytes_max: None,
            idle_s: plain(300),
            data_s: plain(900),
            session_s: plain(3_600),
            stop_s: plain(25),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpoolSection {
    pub segment_bytes: Spanned<u64>,
    pub free_bytes_min: Spanned<u64>,
    pub events_bytes_max: Spanned<u64>,
}

impl Default for SpoolSection {
    fn default() -> SpoolSection {
        SpoolSection {
            segment_bytes: plain(64 << 20),
            free_bytes_min: plain(64 << 20),
            events_bytes_max: plain(1 << 30),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSection {
    pub certificate: Spanned<PathBuf>,
    pub key: Spanned<PathBuf>,
}

/// Accounts, IPs, leases and pools live in a database and are changed by calls.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ControlSection {
    /// `postgres://user@host/name`; without one, a file in the data folder.
    pub database: Option<Spanned<String>>,
    /// Block lists to ask about IPs, in the form of the shipped ones; without it, those.
    pub block_lists: Option<Spanned<PathBuf>>,
    /// Networks that webhooks may be in although they are private or loopback.
    pub webhooks_allow_private: Vec<Spanned<String>>,
    /// Letters to owners and operators: who they come from, and the account that sends them. Both, or there are none.
    pub letters_from: Option<Spanned<String>>,
    pub letters_account: Option<Spanned<String>>,
    /// The program that hears of invoices and takes the money, and what requests to it are signed with. Both, or there is none.
    pub payments_url: Option<Spanned<String>>,
    pub payments_secret: Option<Spanned<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListenerTls {
    None,
    Starttls,
    Implicit,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    pub address: Spanned<SocketAddr>,
    pub tls: Spanned<ListenerTls>,
    /// Networks that may submit without signing in, for `account`.
    #[serde(default)]
    pub trusted: Vec<Spanned<String>>,
    pub account: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    pub address: Spanned<SocketAddr>,
    /// The key of the operator's own calls: queue, lanes, explain for all accounts.
    pub operator_key: Option<Spanned<String>>,
    /// Calls a second that one credential may go on with; ten times as many at once. Submissions are not counted.
    pub calls_per_second: Option<Spanned<u32>>,
}

/// The door for who follows links, and where it is reached.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrackingSection {
    pub address: Spanned<SocketAddr>,
    /// A folder of certificates, one for each tracking host; without it, the door speaks no TLS itself.
    pub certificates: Option<Spanned<PathBuf>>,
    /// How links begin, with `{host}` for the tracking host.
    pub origin: Option<Spanned<String>>,
}

/// Where traces of messages are sent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TracesSection {
    /// Takes OTLP over HTTP, such as `http://127.0.0.1:4318/v1/traces`.
    pub url: Spanned<String>,
    /// Of messages whose submission says nothing of it, from 0 to 1.
    #[serde(default = "every_hundredth")]
    pub share: Spanned<f64>,
    /// Sent with each request.
    #[serde(default)]
    pub headers: BTreeMap<String, Spanned<String>>,
}

fn every_hundredth() -> Spanned<f64> {
    plain(0.01)
}

/// The door for what comes back.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReturnsSection {
    pub address: Spanned<SocketAddr>,
    /// Where complaints and ends of streams go to; return paths too, unless `[delivery]` or a domain says otherwise.
    pub domain: Spanned<String>,
    /// Local parts of the addresses for complaints; the first stands in messages.
    #[serde(default = "feedback")]
    pub feedback: Spanned<Vec<String>>,
    /// Signs beside the sender's own domain, for `domain`.
    #[serde(default)]
    pub dkim: Vec<Dkim>,
    /// Who we are to Gmail: last in `Feedback-ID`.
    pub sender_id: Option<Spanned<String>>,
    /// How links begin that end a stream of mail; without it, they are ended by mail alone.
    pub unsubscribe_origin: Option<Spanned<String>>,
    #[serde(default)]
    pub limits: ReturnsLimits,
}

fn feedback() -> Spanned<Vec<String>> {
    plain(["feedback", "abuse", "postmaster"].map(str::to_owned).into())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReturnsLimits {
    pub message_bytes_max: Spanned<u64>,
    /// Octets of messages on their way in, held in memory at one time.
    pub receiving_bytes_max: Spanned<u64>,
    pub connections_max: Spanned<u32>,
    pub connections_per_peer_max: Spanned<u32>,
    /// Going on, all together; ten times as many at once.
    pub reports_per_second: Spanned<u32>,
    pub unmatched_max: Spanned<u32>,
    pub unmatched_bytes_max: Spanned<u64>,
}

impl Default for ReturnsLimits {
    fn default() -> ReturnsLimits {
        ReturnsLimits {
            // A report brings the whole message back at times.
            message_bytes_max: plain(40 << 20),
            receiving_bytes_max: plain(64 << 20),
            connections_max: plain(200),
            connections_per_peer_max: plain(20),
            reports_per_second: plain(200),
            unmatched_max: plain(1_000),
            unmatched_bytes_max: plain(64 << 20),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Plan {
    Free,
    #[default]
    Standard,
    Enterprise,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Senders {
    /// Only domains listed for this account.
    #[default]
    Verified,
    /// Any domain: for try-outs on closed networks.
    Any,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    pub id: Spanned<String>,
    #[serde(default)]
    pub plan: Plan,
    pub default_pool: Option<Spanned<String>>,
    #[serde(default)]
    pub senders: Senders,
    /// When given, only recipients in these domains are taken (`*.test` covers all below).
    #[serde(default)]
    pub recipients: Vec<Spanned<String>>,
    /// Recipients in any 24 hours, and a second: both or none.
    pub per_day: Option<Spanned<u64>>,
    pub per_second: Option<Spanned<u32>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    pub account: Spanned<String>,
    pub user: Option<Spanned<String>>,
    pub password: Option<Spanned<String>>,
    /// An HTTP key, sent as `Authorization: Bearer KEY`.
    pub key: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DomainSection {
    pub name: Spanned<String>,
    pub account: Spanned<String>,
    pub return_path: Option<Spanned<String>>,
    #[serde(default)]
    pub dkim: Vec<Dkim>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dkim {
    pub selector: Spanned<String>,
    pub key: Spanned<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ip {
    pub address: Spanned<IpAddr>,
    pub ehlo: Option<Spanned<String>>,
    /// What to bind where the public address differs (one-to-one NAT).
    pub bind: Option<Spanned<IpAddr>>,
    /// By which schedule it warms up, or `learning`; without it, it has no limit.
    pub warm_up: Option<Spanned<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PoolKind {
    Shared,
    Standard,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    pub id: Spanned<String>,
    pub kind: PoolKind,
    pub account: Option<Spanned<String>>,
    #[serde(default)]
    pub ips: Vec<Spanned<IpAddr>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryTls {
    Never,
    Opportunistic,
    Required,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NotifyDefault {
    /// A notice goes to the sender only where NOTIFY asks for it.
    Asked,
    /// Without NOTIFY, failures are told, as classic mail servers do.
    Failure,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Delivery {
    pub port: Spanned<u16>,
    pub tls: DeliveryTls,
    pub dane: bool,
    pub mta_sts: bool,
    pub chunking: bool,
    /// Networks that mail may be delivered to although they are private or loopback.
    pub allow_private: Vec<Spanned<String>>,
    pub lifetime_hours: Spanned<u32>,
    pub retry_minutes: Spanned<Vec<u32>>,
    pub delay_notice_hours: Spanned<u32>,
    pub notify: NotifyDefault,
    /// Where bounces go for domains that name no return path of their own; without one, the sender's address stands.
    pub return_path: Option<Spanned<String>>,
    pub reply_rules: Option<Spanned<PathBuf>>,
    pub provider_rules: Option<Spanned<PathBuf>>,
    /// Certificates to trust besides the system's, for MTA-STS.
    pub extra_roots: Option<Spanned<PathBuf>>,
    pub patience: PatienceSection,
}

/// How long a remote host may take; what is not given stays as the standard advises.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PatienceSection {
    pub connect_s: Option<Spanned<u64>>,
    pub banner_s: Option<Spanned<u64>>,
    pub command_s: Option<Spanned<u64>>,
    pub data_end_s: Option<Spanned<u64>>,
}

impl Default for Delivery {
    fn default() -> Delivery {
        Delivery {
            port: plain(25),
            tls: DeliveryTls::Opportunistic,
            dane: true,
            mta_sts: true,
            chunking: false,
            allow_private: Vec::new(),
            lifetime_hours: plain(72),
            retry_minutes: plain(vec![5, 15, 30, 60, 120, 240]),
            delay_notice_hours: plain(4),
            notify: NotifyDefault::Asked,
            return_path: None,
            reply_rules: None,
            provider_rules: None,
            extra_roots: None,
            patience: PatienceSection::default(),
        }
    }
}

/// By what new IPs warm up.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WarmUpSection {
    /// The schedule of IPs for which nobody chose one.
    pub schedule: Option<Spanned<String>>,
    /// A file of schedules, besides the shipped ones.
    pub schedules: Option<Spanned<PathBuf>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dns {
    pub servers: Vec<Spanned<SocketAddr>>,
    /// A validating resolver that is trusted to say what is signed; normally on loopback.
    pub validator: Option<Spanned<SocketAddr>>,
    /// Ask nobody: names without an answer below do not exist.
    pub only_answers: bool,
    #[serde(rename = "answer")]
    pub answers: Vec<Answer>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    pub domain: Spanned<String>,
    #[serde(default)]
    pub mx: Vec<Spanned<String>>,
    #[serde(default)]
    pub addresses: Vec<Spanned<IpAddr>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shaping {
    /// A provider of the rule file, or `default`.
    pub provider: Spanned<String>,
    pub connections_max: Option<Spanned<u32>>,
    pub messages_per_connection: Option<Spanned<u32>>,
    pub messages_per_second: Option<Spanned<u32>>,
    /// Whether a lane begins with one connection and grows, or opens what it needs at once.
    pub ramp: Option<bool>,
}

/// Reads the file and answers with what it says; a file that cannot be read at all is one problem.
pub fn read(path: &Path) -> Result<(Written, Source), Vec<Problem>> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|fault| vec![Problem { file: file.clone(), line: 0, what: format!("cannot be read: {fault}") }])?;
    let source = Source { file, text };
    match toml::from_str::<Written>(&source.text) {
        Ok(written) => Ok((written, source)),
        Err(error) => {
            let line = source.line(error.span().unwrap_or(0..0));
            Err(vec![Problem { file: source.file, line, what: error.message().trim().to_owned() }])
        }
    }
}

/// The text a file held, to turn places into lines.
#[derive(Debug)]
pub struct Source {
    file: String,
    text: String,
}

impl Source {
    #[must_use]
    pub fn line(&self, span: Range<usize>) -> usize {
        self.text.as_bytes().iter().take(span.start).filter(|octet| **octet == b'\n').count() + 1
    }

    #[must_use]
    pub fn problem<T>(&self, at: &Spanned<T>, what: impl Into<String>) -> Problem {
        Problem { file: self.file.clone(), line: self.line(at.span()), what: what.into() }
    }
}
