//! What does the outside look like where there is none? Mailbox providers and a name server, all on loopback addresses.
//!
//! What a provider answers is decided by `sim::provider`; here are its doors. Each provider has one address in 127.0.2.0/24, all
//! listen on one port, and the name server leads to them through MX hosts with the real providers' endings, so that they are
//! recognised as the real ones are.

use crate::commands::Failure;
use crate::readers;
use mail::dkim;
use mail::reply::Reply;
use mail::smtp::server::{Answer, Auth, Output, Question, Session, Settings, Submission};
use net::dns::authority::{Authority, Zone};
use net::tls::Acceptor;
use sim::provider::{self, Preset, Provider};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// A provider as the world knows it.
#[derive(Debug)]
pub struct Site {
    preset: &'static str,
    /// Its name in a narrow column.
    pub label: &'static str,
    /// Its name in `providers.toml`; a site without an entry there is named by its host.
    pub provider: &'static str,
    pub domains: &'static [&'static str],
    hosts: &'static [&'static str],
    /// Of a hundred recipients, so many are here.
    pub share: u64,
    /// What a stranger is given, as a part of the preset's first allowance.
    trust: f64,
}

/// Their shares add up to a hundred.
pub const SITES: &[Site] = &[
    Site {
        preset: "gmail-like",
        label: "gmail",
        provider: "google",
        domains: &["gmail.test", "workspace.test"],
        hosts: &["gmail-smtp-in.l.google.com", "alt1.gmail-smtp-in.l.google.com"],
        share: 30,
        trust: 1.0,
    },
    Site {
        preset: "microsoft-like",
        label: "outlook",
        provider: "microsoft-consumer",
        domains: &["outlook.test", "hotmail.test"],
        hosts: &["outlook-com.olc.protection.outlook.com"],
        share: 16,
        // So that a new IP meets its limits within seconds.
        trust: 0.1,
    },
    Site {
        preset: "yahoo-like",
        label: "yahoo",
        provider: "yahoo",
        domains: &["yahoo.test", "aol.test"],
        hosts: &["mta5.am0.yahoodns.net", "mta6.am0.yahoodns.net"],
        share: 14,
        trust: 1.0,
    },
    Site {
        preset: "apple-like",
        label: "apple",
        provider: "apple",
        domains: &["icloud.test"],
        hosts: &["mx01.mail.icloud.com", "mx02.mail.icloud.com"],
        share: 10,
        trust: 1.0,
    },
    Site {
        preset: "comcast-like",
        label: "comcast",
        provider: "comcast",
        domains: &["comcast.test"],
        hosts: &["mx1.mxge.comcast.net"],
        share: 7,
        trust: 1.0,
    },
    Site {
        preset: "gmx-like",
        label: "gmx",
        provider: "gmx",
        domains: &["gmx.test"],
        hosts: &["mx00.emig.gmx.net", "mx01.emig.gmx.net"],
        share: 8,
        trust: 1.0,
    },
    Site {
        preset: "small-site",
        label: "small",
        provider: "mx.small-site.test",
        domains: &["small-site.test"],
        hosts: &["mx.small-site.test"],
        share: 8,
        trust: 1.0,
    },
    Site {
        preset: "open",
        label: "company",
        provider: "mx.company.test",
        domains: &["company.test"],
        hosts: &["mx.company.test"],
        share: 7,
        trust: 1.0,
    },
];

/// What an IP that has been sending for long has earned.
const KNOWN_REPUTATION: f64 = 0.9;
const KNOWN_VOLUME: f64 = 20_000.0;
const PORT_TRIES: usize = 16;
const SILENCE_MAX: Duration = Duration::from_secs(180);
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Of the messages that were taken, one in so many comes back after a while; of another one in so many, somebody complains.
const COMES_BACK: u64 = 40;
const COMPLAINS: u64 = 75;
/// What is found out after the 250 takes its time.
const LATER: Duration = Duration::from_secs(2);

/// What somebody publishes about names of theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub name: String,
    /// A, TXT, MX, PTR, CNAME.
    pub kind: String,
    pub value: String,
}

/// The world at work; it ends when this is dropped.
pub struct World {
    /// The port that all providers listen on.
    pub port: u16,
    dns: Authority,
    tally: Arc<Mutex<Tally>>,
    texts: Texts,
    back: Back,
    // Aborted on drop, and with them all conversations.
    _doors: JoinSet<()>,
}

/// Where those who send take what comes back, once that is known.
type Back = Arc<OnceLock<WaysBack>>;

struct WaysBack {
    /// For bounces that come late, and for complaints.
    door: SocketAddr,
    feedback: String,
    /// Where links lead.
    links: SocketAddr,
}

/// TXT records of those who send, by name: their DKIM keys are among them.
type Texts = Arc<RwLock<HashMap<String, String>>>;

/// What the providers have seen of us, by their own count.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Recipients whose mail was taken, by the IP it came from.
    pub received: BTreeMap<IpAddr, u64>,
    /// Messages whose every DKIM signature holds, and messages without one or with one that does not.
    pub signed: u64,
    pub unsigned: u64,
}

impl World {
    /// `known`: IPs that the providers have known for long; all others are strangers to them.
    /// `pace`: so many seconds pass for the providers in each of ours.
    pub async fn open(known: &[IpAddr], pace: f64) -> Result<World, Failure> {
        let (port, sockets) = listen_all().await?;
        let zone = Zone::parse(&zone_text(&[]))?;
        let dns = Authority::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), zone).await?;
        let hosts: Vec<String> = SITES.iter().flat_map(|site| site.hosts).map(ToString::to_string).collect();
        let acceptor = Acceptor::self_signed(&hosts)?;
        let (tally, texts, back) = (Arc::new(Mutex::new(Tally::default())), Texts::default(), Back::default());
        let (presets, taken, read) = (provider::presets(), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let mut doors = JoinSet::new();
        for ((place, site), socket) in (1..).zip(SITES).zip(sockets) {
            let preset = presets.iter().find(|preset| preset.name == site.preset);
            let preset = preset.ok_or_else(|| Failure(format!("there is no preset {}", site.preset)))?;
            let preset = Preset { volume_first_day: preset.volume_first_day * site.trust, ..preset.clone() };
            let mut provider = Provider::new(preset, place);
            for ip in known {
                provider.acquaint(*ip, KNOWN_REPUTATION, KNOWN_VOLUME, 0.0);
            }
            let door = Arc::new(Door {
                provider: Mutex::new(provider),
                began: Instant::now(),
                pace,
                settings: Arc::new(settings(site)),
                acceptor: acceptor.clone(),
                tally: tally.clone(),
                texts: texts.clone(),
                back: back.clone(),
                taken: taken.clone(),
                read: read.clone(),
            });
            doors.spawn(door.serve(socket));
        }
        Ok(World { port, dns, tally, texts, back, _doors: doors })
    }

    /// What those who send publish from now on; what they published before is gone.
    pub fn publish(&self, records: &[Record]) -> Result<(), Failure> {
        self.dns.replace(Zone::parse(&zone_text(records))?);
        let texts = records.iter().filter(|record| record.kind == "TXT");
        let texts = texts.map(|record| (record.name.clone(), record.value.clone())).collect();
        *self.texts.write().unwrap_or_else(PoisonError::into_inner) = texts;
        Ok(())
    }

    /// From now on bounces that come late go there, complaints to this address, and who follows a link is led to the other door.
    pub fn send_back_to(&self, door: SocketAddr, feedback: &str, links: SocketAddr) {
        // Once is enough.
        let _ = self.back.set(WaysBack { door, feedback: feedback.to_owned(), links });
    }

    /// Who answers questions about names.
    pub fn dns(&self) -> SocketAddr {
        self.dns.address()
    }

    pub fn tally(&self) -> Tally {
        locked(&self.tally).clone()
    }
}

fn address_of(place: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 2, place)
}

/// One port that is free on all their addresses.
async fn listen_all() -> Result<(u16, Vec<TcpListener>), Failure> {
    let mut last = None;
    for _ in 0..PORT_TRIES {
        match listen_on_one_port().await {
            Ok(found) => return Ok(found),
            Err(fault) => last = Some(fault),
        }
    }
    let why = last.map(|fault| fault.to_string()).unwrap_or_default();
    Err(Failure(format!(
        "the simulated providers cannot listen on 127.0.2.1 to 127.0.2.{}: {why}. Linux lends the whole of 127.0.0.0/8; elsewhere \
         add these addresses to the loopback interface first",
        SITES.len()
    )))
}

async fn listen_on_one_port() -> io::Result<(u16, Vec<TcpListener>)> {
    let mut port = 0;
    let mut sockets = Vec::with_capacity(SITES.len());
    for (place, _) in (1..).zip(SITES) {
        let socket = TcpListener::bind((address_of(place), port)).await?;
        port = socket.local_addr()?.port();
        sockets.push(socket);
    }
    Ok((port, sockets))
}

fn zone_text(records: &[Record]) -> String {
    let mut text = String::new();
    for (place, site) in (1..).zip(SITES) {
        for domain in site.domains {
            for (preference, host) in (1..).zip(site.hosts) {
                let _ = writeln!(text, "{domain}. MX {} {host}.", preference * 10);
            }
        }
        for host in site.hosts {
            let _ = writeln!(text, "{host}. A {}", address_of(place));
        }
    }
    for Record { name, kind, value } in records {
        if kind == "TXT" {
            // One string of a TXT record holds 255 octets; a key of RSA is longer.
            let strings: Vec<String> =
                value.as_bytes().chunks(255).map(|part| format!("\"{}\"", String::from_utf8_lossy(part))).collect();
            let _ = writeln!(text, "{name}. TXT {}", strings.join(" "));
        } else {
            let _ = writeln!(text, "{name}. {kind} {value}");
        }
    }
    text
}

fn settings(site: &Site) -> Settings {
    Settings {
        host: site.hosts[0].to_owned(),
        size_max: 50 << 20,
        recipients_max: 100,
        command_line_max: 2_048,
        errors_max: 20,
        auth: Auth::Never,
        auth_required: false,
        starttls: true,
        hops_max: 100,
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection, in clear or under TLS.
pub trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// Where a provider takes mail.
struct Door {
    provider: Mutex<Provider>,
    began: Instant,
    pace: f64,
    settings: Arc<Settings>,
    acceptor: Acceptor,
    tally: Arc<Mutex<Tally>>,
    texts: Texts,
    back: Back,
    /// Messages that all of them have taken.
    taken: Arc<AtomicU64>,
    /// Of them, those in which there is something to follow.
    read: Arc<AtomicU64>,
}

impl Door {
    async fn serve(self: Arc<Door>, socket: TcpListener) {
        let mut conversations = JoinSet::new();
        loop {
            let Ok((stream, peer)) = socket.accept().await else {
                // No descriptors left: a pause is better than spinning.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let door = self.clone();
            // A peer that breaks off ends its own conversation and nothing else.
            conversations.spawn(async move { door.receive(stream, peer.ip()).await.is_ok() });
            while conversations.try_join_next().is_some() {}
        }
    }

    fn now_s(&self) -> f64 {
        self.began.elapsed().as_secs_f64() * self.pace
    }

    async fn receive(self: Arc<Door>, mut stream: TcpStream, ip: IpAddr) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let welcome = locked(&self.provider).connect(ip, self.now_s());
        if let Err(reply) = welcome {
            let mut octets = Vec::new();
            reply.write(&mut octets);
            return stream.write_all(&octets).await;
        }
        let mut visit = Visit { door: self, ip, carried: 0 };
        visit.converse(stream).await
    }
}

/// One connection of an IP.
struct Visit {
    door: Arc<Door>,
    ip: IpAddr,
    /// Messages it has brought.
    carried: u32,
}

impl Drop for Visit {
    fn drop(&mut self) {
        locked(&self.door.provider).disconnect(self.ip);
    }
}

impl Visit {
    async fn converse(&mut self, stream: TcpStream) -> io::Result<()> {
        let mut session = Session::new(self.door.settings.clone(), false);
        let mut stream: Box<dyn Wire> = Box::new(stream);
        let mut buffer = vec![0; 16 << 10];
        loop {
            let mut out = Vec::new();
            while let Some(output) = session.poll() {
                match output {
                    Output::Send(octets) => out.extend_from_slice(&octets),
                    Output::Ask(question) => session.answer(self.answer(question)),
                    Output::StartTls => {
                        stream.write_all(&out).await?;
                        out.clear();
                        let secured = self.door.acceptor.accept(stream, HANDSHAKE_MAX).await;
                        stream = Box::new(secured.map_err(io::Error::other)?);
                        session.tls_started();
                    }
                    Output::Close => {
                        stream.write_all(&out).await?;
                        return stream.shutdown().await;
                    }
                }
            }
            stream.write_all(&out).await?;
            stream.flush().await?;
            let heard = timeout(SILENCE_MAX, stream.read(&mut buffer)).await??;
            if heard == 0 {
                return Ok(());
            }
            session.receive(&buffer[..heard]);
        }
    }

    fn answer(&mut self, question: Question) -> Answer {
        match question {
            Question::Authenticate { .. } => Answer::Refuse(Reply::new(502, (5, 5, 1), "Not offered here")),
            Question::Mail { .. } => match locked(&self.door.provider).begin(self.carried) {
                Ok(()) => Answer::Yes,
                Err(reply) => Answer::Refuse(reply),
            },
            Question::Recipient { to, .. } => {
                match locked(&self.door.provider).receive(self.ip, to.local(), self.door.now_s()) {
                    provider::Answer::Accepted(_) => Answer::Yes,
                    provider::Answer::Deferred(reply)
                    | provider::Answer::Blocked(reply)
                    | provider::Answer::NoSuchMailbox(reply) => Answer::Refuse(reply),
                }
            }
            Question::Data { .. } => Answer::Yes,
            Question::Message(submission) => {
                self.carried += 1;
                self.keep(&submission);
                self.answer_later(&submission);
                Answer::YesSaying(Reply::new(250, (2, 0, 0), "OK, delivered to the mailbox"))
            }
        }
    }

    /// What a provider finds out when it has taken a message: that nobody is there, or that somebody did not want it.
    fn answer_later(&self, submission: &Submission) {
        let number = self.door.taken.fetch_add(1, Ordering::Relaxed) + 1;
        let (Some(back), Some(path)) = (self.door.back.get(), submission.from.as_ref()) else { return };
        let Some((to, _)) = submission.recipients.first() else { return };
        let (door, host) = (back.door, self.door.settings.host.clone());
        let (address, octets) = if number.is_multiple_of(COMES_BACK) {
            (path.to_string(), bounce(&host, &to.to_string()))
        } else if number.is_multiple_of(COMPLAINS) {
            (back.feedback.clone(), complaint(&submission.body))
        } else {
            self.hand_to_reader(&submission.body, back.links);
            return;
        };
        tokio::spawn(async move {
            tokio::time::sleep(LATER).await;
            // What cannot be told is not: that is how it is out there.
            let _ = timeout(SILENCE_MAX, hand_in(door, &host, &address, &octets)).await;
        });
    }

    fn hand_to_reader(&self, message: &[u8], links: SocketAddr) {
        if readers::may_be_read(message) {
            let number = self.door.read.fetch_add(1, Ordering::Relaxed) + 1;
            let message = message.to_vec();
            tokio::spawn(async move { readers::read(number, &message, links).await });
        }
    }

    fn keep(&self, submission: &Submission) {
        let texts = self.door.texts.read().unwrap_or_else(PoisonError::into_inner);
        let signatures = dkim::verify(&submission.body, &|name: &str| {
            texts.get(name.trim_end_matches('.').to_ascii_lowercase().as_str()).cloned()
        });
        let holds = !signatures.is_empty() && signatures.iter().all(|signature| signature.result.is_ok());
        let mut tally = locked(&self.door.tally);
        *tally.received.entry(self.ip).or_default() += submission.recipients.len() as u64;
        *if holds { &mut tally.signed } else { &mut tally.unsigned } += 1;
    }
}

fn bounce(host: &str, to: &str) -> Vec<u8> {
    format!(
        "From: MAILER-DAEMON@{host}\r\nSubject: Undelivered mail\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n\
         --b\r\n\r\nThere is no such mailbox.\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n\
         Reporting-MTA: dns; {host}\r\n\r\nFinal-Recipient: rfc822; {to}\r\nAction: failed\r\nStatus: 5.1.1\r\n\
         Diagnostic-Code: smtp; 550 5.1.1 No such mailbox here\r\n\r\n--b--\r\n"
    )
    .into_bytes()
}

fn complaint(message: &[u8]) -> Vec<u8> {
    let head = "From: feedback@loop.test\r\nSubject: A complaint\r\nMIME-Version: 1.0\r\n\
        Content-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n\
        --b\r\n\r\nSomebody complains of this.\r\n--b\r\nContent-Type: message/feedback-report\r\n\r\n\
        Feedback-Type: abuse\r\nUser-Agent: loop\r\nVersion: 1\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n";
    [head.as_bytes(), message, b"\r\n--b--\r\n"].concat()
}

/// One message by SMTP, a command at a time.
async fn hand_in(door: SocketAddr, host: &str, to: &str, octets: &[u8]) -> io::Result<()> {
    let mut stream = BufReader::new(TcpStream::connect(door).await?);
    let envelope = [format!("EHLO {host}"), "MAIL FROM:<>".to_owned(), format!("RCPT TO:<{to}>"), "DATA".to_owned()];
    for command in envelope {
        hear(&mut stream).await?;
        stream.write_all(format!("{command}\r\n").as_bytes()).await?;
    }
    hear(&mut stream).await?;
    let text = String::from_utf8_lossy(octets).replace("\r\n.", "\r\n..");
    stream.write_all(format!("{text}.\r\n").as_bytes()).await?;
    hear(&mut stream).await?;
    stream.write_all(b"QUIT\r\n").await?;
    hear(&mut stream).await
}

/// A whole answer that is no refusal.
async fn hear(stream: &mut BufReader<TcpStream>) -> io::Result<()> {
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 || line.starts_with(['4', '5']) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        if line.as_bytes().get(3) != Some(&b'-') {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::{Record, SITES, zone_text};
    use engine::provider::Providers;
    use net::dns::authority::Zone;

    // What the demo shows as a provider is what the shipped rules take it for.
    #[test]
    fn each_site_is_recognised_by_its_hosts() {
        let providers = Providers::shipped();
        for site in SITES {
            let hosts: Vec<String> = site.hosts.iter().map(ToString::to_string).collect();
            let name = providers.provider_of(&hosts).map_or(site.hosts[0], |found| &*found.name);
            assert_eq!(name, site.provider);
        }
    }

    #[test]
    fn shares_add_up() {
        assert_eq!(SITES.iter().map(|site| site.share).sum::<u64>(), 100);
    }

    #[test]
    fn the_zone_can_be_read_with_a_long_key_in_it() {
        let record = |name: &str, kind: &str, value: String| Record { name: name.into(), kind: kind.into(), value };
        let records = [
            record("s1._domainkey.acme.test", "TXT", format!("v=DKIM1; p={}", "A".repeat(400))),
            record("1.1.0.127.in-addr.arpa", "PTR", "m1.weir.test".to_owned()),
            record("bounces.acme.test", "MX", "10 mail.weir.test".to_owned()),
        ];
        Zone::parse(&zone_text(&records)).unwrap();
    }
}
