//! How does one session carry out what the engine decided?
//!
//! One task is one connection: it dials the hosts of a site from one address, speaks `mail::smtp::client`, carries the messages
//! it is told to, and reports each answer. What to carry, how many and when to stop is never decided here.

use crate::connection::Connection;
use crate::record;
use bytes::Bytes;
use engine::Input;
use engine::attempt::{ConnectFailure, ConnectFailureKind, Outcome, Report, Stage, TlsUsed, TlsVerified};
use engine::envelope::{Envelope, Recipient, TlsWish};
use engine::id::{AttemptId, MessageId, SessionId};
use engine::snapshot::{Relay, RelaySecurity, Snapshot};
use engine::time::Timestamp;
use mail::address::Domain;
use mail::smtp::client::{self, Client, ClientSettings, Failure, Opening, Output, Phase, SignIn, Transaction};
use mail::smtp::command::RecipientParameters;
use mail::smtp::data::Piece;
use net::clock::Clock;
use net::dial::{DialFault, Via, dial_via};
use net::dns::{Dane, Dns, MxHost, Reach, Route, Site, dane_of, host_route};
use net::sts::{Sts, StsAnswer};
use net::tls::{Connector, Negotiated, Policy};
use spool::{ReadFault, Spool, Stored};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

/// Addresses tried for one session (RFC 5321 5.1 asks for at least two): one whose hosts all keep silent fails in minutes, and
/// the next session tries them in another order.
const TARGETS_MAX: usize = 6;

type Stream = Connection<TlsStream<TcpStream>>;

/// How long each step of a conversation with a remote host may take; RFC 5321 4.5.3.2 where it says a number.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    pub connect: Duration,
    pub banner: Duration,
    pub handshake: Duration,
    pub command: Duration,
    pub data_start: Duration,
    pub data_block: Duration,
    pub data_end: Duration,
    pub quit: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            connect: Duration::from_secs(30),
            // Shorter than the RFC's five minutes: a host that does not greet in one is passed over for the next.
            banner: Duration::from_secs(60),
            handshake: Duration::from_secs(30),
            command: Duration::from_secs(300),
            data_start: Duration::from_secs(120),
            data_block: Duration::from_secs(180),
            // The remote may have taken the message already: giving up early means sending it twice.
            data_end: Duration::from_secs(600),
            quit: Duration::from_secs(5),
        }
    }
}

impl Patience {
    fn for_phase(&self, phase: Phase) -> Duration {
        match phase {
            Phase::Banner => self.banner,
            Phase::StartTls => self.handshake,
            Phase::DataStart => self.data_start,
            Phase::DataBlock => self.data_block,
            Phase::DataEnd => self.data_end,
            Phase::Quit => self.quit,
            Phase::Hello | Phase::Ready | Phase::Mail | Phase::Recipient => self.command,
        }
    }
}

/// What every session shares.
pub struct Means {
    pub clock: Clock,
    pub spool: Spool,
    pub dns: Arc<dyn Dns>,
    pub connector: Connector,
    /// MTA-STS policies, where they are honoured.
    pub sts: Option<Sts>,
    pub dane: bool,
    pub port: u16,
    pub chunking: bool,
    pub patience: Patience,
}

/// The connection to make.
pub(crate) struct Job {
    pub session: SessionId,
    /// The way to the outside, and the address to leave from.
    pub via: Via,
    pub from: IpAddr,
    pub ehlo: String,
    pub domain: Domain,
    pub way: Way,
    pub tls: TlsWish,
}

/// Where the connection leads.
pub(crate) enum Way {
    Site(Arc<Site>),
    /// To a service that mail is handed over to, as far as its host may be reached.
    Relay(Arc<Relay>, Reach),
}

pub(crate) enum Command {
    Attempt { attempt: AttemptId, message: MessageId, recipients: Vec<u16>, snapshot: Arc<Snapshot> },
    Close,
}

/// What a session tells: the engine's input, the envelope it is about where it had it in hands, and whether the session is over.
pub(crate) struct Told {
    pub input: Input,
    pub envelope: Option<Arc<Envelope>>,
    pub over: Option<SessionId>,
}

/// Tells of a session; whatever becomes of it, its end is told once.
struct Teller<F: Fn(Told)> {
    session: SessionId,
    tell: F,
    opened: bool,
    over: bool,
}

impl<F: Fn(Told)> Teller<F> {
    fn opened(&mut self, host: &str) {
        self.opened = true;
        let input = Input::SessionOpened { session: self.session, host: host.to_owned() };
        (self.tell)(Told { input, envelope: None, over: None });
    }

    /// The session goes on after it.
    fn attempt_ended(&self, attempt: AttemptId, report: Report, envelope: Option<Arc<Envelope>>) {
        (self.tell)(Told { input: Input::AttemptEnded { attempt, report }, envelope, over: None });
    }

    fn over(&mut self, input: Input, envelope: Option<Arc<Envelope>>) {
        self.over = true;
        (self.tell)(Told { input, envelope, over: Some(self.session) });
    }
}

/// A session that panicked must not keep its place in the lane.
impl<F: Fn(Told)> Drop for Teller<F> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let session = self.session;
        let input = if self.opened {
            Input::SessionClosed { session, reply: None }
        } else {
            let failure = failed(ConnectFailureKind::Local, None, "the session ended early".to_owned());
            Input::SessionFailed { session, failure }
        };
        self.over(input, None);
    }
}

/// The whole life of a session.
pub(crate) async fn run(means: Arc<Means>, job: Job, mut commands: UnboundedReceiver<Command>, tell: impl Fn(Told)) {
    let session = job.session;
    let mut teller = Teller { session, tell, opened: false, over: false };
    let connected = tokio::select! {
        biased;
        // Nothing but a good-bye comes before the session is open: it is not waited for what does not answer.
        _ = commands.recv() => return teller.over(Input::SessionClosed { session, reply: None }, None),
        connected = connect(&means, &job) => connected,
    };
    let mut line = match connected {
        Ok(line) => line,
        Err(failure) => return teller.over(Input::SessionFailed { session, failure }, None),
    };
    teller.opened(&line.host);
    loop {
        match line.wait(&mut commands).await {
            Waited::Command(Some(Command::Attempt { attempt, message, recipients, snapshot })) => {
                let (report, envelope) = line.carry(&means, message, &recipients, &snapshot).await;
                if report.session_usable {
                    teller.attempt_ended(attempt, report, envelope);
                    continue;
                }
                // A report that says the session is not usable is its end; nothing more is told then.
                teller.over(Input::AttemptEnded { attempt, report }, envelope);
                return line.close(means.patience.quit).await;
            }
            Waited::Command(Some(Command::Close) | None) => {
                // Who is slow to say good-bye is not waited for longer than this.
                let _ = timeout(means.patience.quit, line.quit()).await;
                break;
            }
            Waited::Gone => break,
        }
    }
    // What was ordered while the connection ended was not tried; what is ordered from here on comes back to the driver.
    commands.close();
    let ordered = std::iter::from_fn(|| commands.try_recv().ok()).find_map(|command| match command {
        Command::Attempt { attempt, .. } => Some(attempt),
        Command::Close => None,
    });
    let input = match ordered {
        Some(attempt) => Input::AttemptEnded { attempt, report: not_tried() },
        None => Input::SessionClosed { session, reply: line.client.farewell().cloned() },
    };
    teller.over(input, None);
    line.close(means.patience.quit).await;
}

/// The report of an attempt whose session was gone before it began.
pub(crate) fn not_tried() -> Report {
    Report { results: Vec::new(), host: None, tls: None, took: Duration::ZERO, session_usable: false }
}

/// An open connection whose greeting is done.
struct Line {
    stream: Stream,
    client: Client,
    host: String,
    tls: Option<TlsUsed>,
    patience: Patience,
    clock: Clock,
}

enum Waited {
    Command(Option<Command>),
    Gone,
}

async fn connect(means: &Arc<Means>, job: &Job) -> Result<Line, ConnectFailure> {
    match &job.way {
        Way::Site(site) => connect_to_site(means, job, site).await,
        Way::Relay(relay, reach) => connect_to_relay(means, job, relay, reach).await,
    }
}

/// Hosts by preference, addresses of each, until one greets us; the failure tells what the last of each kind said.
async fn connect_to_site(means: &Arc<Means>, job: &Job, site: &Site) -> Result<Line, ConnectFailure> {
    let what = format!("no host of {} has an address that {} can reach", job.domain, job.from);
    let mut failure = failed(ConnectFailureKind::Dns, None, what);
    for (host, address) in site.targets(job.from).take(TARGETS_MAX) {
        let policy = match policy_for(means, job, site, host).await {
            Ok(policy) => policy,
            Err(refused) => {
                failure = refused;
                continue;
            }
        };
        match greet_host(means, job, host, address, &policy).await {
            Ok(line) => return Ok(line),
            Err(refused) => {
                let ours = matches!(refused.kind, ConnectFailureKind::AddressMissing | ConnectFailureKind::Local);
                failure = refused;
                // Another host would not mend what is wrong on our side.
                if ours {
                    break;
                }
            }
        }
    }
    Err(failure)
}

/// The name of the relay is looked up as any host's, and nothing is said to it before it has proven that name.
async fn connect_to_relay(means: &Arc<Means>, job: &Job, relay: &Relay, reach: &Reach) -> Result<Line, ConnectFailure> {
    let said = |kind, what: String| failed(kind, Some(relay.host.as_str()), what);
    let site = match host_route(means.dns.as_ref(), &relay.host, reach, job.session.0).await {
        Route::Site(site) => site,
        Route::Refused(refusal) => return Err(said(ConnectFailureKind::Unreachable, refusal.to_string())),
        Route::NoSuchDomain(what) | Route::Later(what) => return Err(said(ConnectFailureKind::Dns, what)),
        Route::NullMx => return Err(said(ConnectFailureKind::Dns, format!("{} takes no mail", relay.host))),
    };
    let (wish, proof) = match relay.security {
        RelaySecurity::StartTls => (TlsWish::Required, Policy::Sts),
        RelaySecurity::Tls => (TlsWish::Never, Policy::Sts),
        RelaySecurity::Clear => (TlsWish::Never, Policy::Opportunistic),
    };
    let sign_in =
        relay.sign_in.as_ref().map(|(user, password)| SignIn { user: user.clone(), password: password.clone() });
    let settings = ClientSettings { ehlo: job.ehlo.clone(), tls: client_wish(wish), chunking: means.chunking, sign_in };
    let mut failure = said(ConnectFailureKind::Dns, format!("{} has no address", relay.host));
    for address in site.hosts.iter().flat_map(|host| &host.addresses).take(TARGETS_MAX) {
        let from = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let call = Call {
            via: &Via::Direct,
            from,
            to: SocketAddr::new(*address, relay.port),
            host: relay.host.as_str(),
            first: if relay.security == RelaySecurity::Tls { First::Tls } else { First::Banner },
            proof: &proof,
            verified: TlsVerified::WebPki,
        };
        match greet(means, &call, settings.clone()).await {
            Ok(line) => return Ok(line),
            Err(refused) => failure = refused,
        }
    }
    Err(failure)
}

/// What TLS must prove towards this host, or why it may not be spoken to.
struct TlsPolicy {
    wish: TlsWish,
    proof: Policy,
    /// Whether a failed handshake may be followed by a try in clear.
    clear_allowed: bool,
}

/// DANE before MTA-STS (RFC 8461 2), both before what the message or the operator asks for.
async fn policy_for(means: &Means, job: &Job, site: &Site, host: &MxHost) -> Result<TlsPolicy, ConnectFailure> {
    let required = job.tls == TlsWish::Required;
    if job.tls == TlsWish::Never {
        return Ok(TlsPolicy { wish: TlsWish::Never, proof: Policy::Opportunistic, clear_allowed: true });
    }
    if means.dane {
        match dane_of(means.dns.as_ref(), &job.domain, site, host, means.port).await {
            Dane::Absent => {}
            Dane::Records { records, names } => {
                return Ok(TlsPolicy {
                    wish: TlsWish::Required,
                    proof: Policy::Dane { records, names },
                    clear_allowed: false,
                });
            }
            Dane::Later(what) => return Err(failed(ConnectFailureKind::Tls, Some(&host.name), what)),
        }
    }
    let answer = match &means.sts {
        Some(sts) => sts.policy(&job.domain).await,
        None => StsAnswer::default(),
    };
    if let Some(policy) = answer.enforced() {
        if !policy.covers(&host.name) {
            let what = format!("the MTA-STS policy of {} does not list the host {}", job.domain, host.name);
            return Err(failed(ConnectFailureKind::Tls, Some(&host.name), what));
        }
        return Ok(TlsPolicy { wish: TlsWish::Required, proof: Policy::Sts, clear_allowed: false });
    }
    Ok(TlsPolicy {
        wish: if required { TlsWish::Required } else { TlsWish::IfOffered },
        proof: Policy::Opportunistic,
        clear_allowed: !required,
    })
}

/// May a domain's mail share connections with other domains that have the same hosts?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    Allowed,
    /// Its MTA-STS policy asks of the connection what other domains do not.
    Forbidden,
}

pub(crate) async fn sharing(means: &Means, domain: &Domain) -> Sharing {
    let Some(sts) = &means.sts else { return Sharing::Allowed };
    if sts.policy(domain).await.enforced().is_some() { Sharing::Forbidden } else { Sharing::Allowed }
}

async fn greet_host(
    means: &Arc<Means>,
    job: &Job,
    host: &MxHost,
    address: IpAddr,
    policy: &TlsPolicy,
) -> Result<Line, ConnectFailure> {
    let call = Call {
        via: &job.via,
        from: job.from,
        to: SocketAddr::new(address, means.port),
        host: &host.name,
        first: First::Banner,
        proof: &policy.proof,
        verified: match policy.proof {
            Policy::Opportunistic => TlsVerified::No,
            Policy::Sts => TlsVerified::Sts,
            Policy::Dane { .. } => TlsVerified::Dane,
        },
    };
    let settings = |wish| ClientSettings {
        ehlo: job.ehlo.clone(),
        tls: client_wish(wish),
        chunking: means.chunking,
        sign_in: None,
    };
    match greet(means, &call, settings(policy.wish)).await {
        Err(failure) if failure.kind == ConnectFailureKind::Tls && policy.clear_allowed => {
            // Opportunistic means: rather in clear than not at all.
            greet(means, &call, settings(TlsWish::Never)).await
        }
        ended => ended,
    }
}

/// One try to connect.
struct Call<'a> {
    via: &'a Via,
    from: IpAddr,
    to: SocketAddr,
    host: &'a str,
    first: First,
    /// What TLS must prove, where it comes to that, and what is known then.
    proof: &'a Policy,
    verified: TlsVerified,
}

/// What a connection begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    Banner,
    Tls,
}

async fn greet(means: &Arc<Means>, call: &Call<'_>, settings: ClientSettings) -> Result<Line, ConnectFailure> {
    let host = call.host;
    let stream = dial_via(call.via, call.from, call.to, means.patience.connect)
        .await
        .map_err(|fault| dial_failure(host, &fault))?;
    let mut line = Line {
        stream: Connection::Clear(stream),
        client: Client::new(settings),
        host: host.to_owned(),
        tls: None,
        patience: means.patience,
        clock: means.clock.clone(),
    };
    if call.first == First::Tls {
        line.secure(means, call).await?;
    }
    loop {
        match line.client.poll() {
            Some(Output::Send(pieces)) => {
                line.send(&pieces).await.map_err(|what| lost(host, what))?;
            }
            Some(Output::StartTls) => {
                line.secure(means, call).await?;
                line.client.tls_started();
            }
            Some(Output::Ready) => return Ok(line),
            Some(Output::NotReady(failure)) => return Err(greeting_failure(host, failure)),
            Some(Output::Close) => {
                return Err(lost(host, "the connection closed before it was ready".to_owned()));
            }
            Some(Output::Done(_)) => {}
            None => {
                if let Err(what) = line.hear().await {
                    return Err(lost(host, what));
                }
            }
        }
    }
}

fn parameters(recipient: &Recipient) -> RecipientParameters {
    RecipientParameters { notify: recipient.notify, orcpt: recipient.orcpt.clone() }
}

fn client_wish(wish: TlsWish) -> client::TlsWish {
    match wish {
        TlsWish::Never => client::TlsWish::Never,
        TlsWish::IfOffered => client::TlsWish::IfOffered,
        TlsWish::Required => client::TlsWish::Required,
    }
}

pub(crate) fn failed(kind: ConnectFailureKind, host: Option<&str>, text: String) -> ConnectFailure {
    ConnectFailure { kind, host: host.map(str::to_owned), reply: None, text }
}

fn lost(host: &str, text: String) -> ConnectFailure {
    failed(ConnectFailureKind::Closed, Some(host), text)
}

fn dial_failure(host: &str, fault: &DialFault) -> ConnectFailure {
    let kind = match fault {
        DialFault::AddressMissing { .. } => ConnectFailureKind::AddressMissing,
        DialFault::Refused { .. } => ConnectFailureKind::Refused,
        DialFault::TimedOut { .. } => ConnectFailureKind::TimedOut,
        DialFault::Unreachable { .. } | DialFault::FamilyDiffers { .. } => ConnectFailureKind::Unreachable,
        DialFault::Other { .. } => ConnectFailureKind::Local,
    };
    failed(kind, Some(host), fault.to_string())
}

fn greeting_failure(host: &str, failure: Failure) -> ConnectFailure {
    match (failure.stage, failure.reply) {
        // The reply is a friendly one to EHLO: what is missing in it is the fault, not what it says.
        (Opening::TlsNotOffered, _) => {
            failed(ConnectFailureKind::Tls, Some(host), "STARTTLS is not offered".to_owned())
        }
        (Opening::AuthNotOffered, _) => {
            let text = "it offers no sign-in that we know (AUTH PLAIN or LOGIN)".to_owned();
            failed(ConnectFailureKind::Greeting, Some(host), text)
        }
        (Opening::Auth, Some(reply)) => {
            // Not told as an answer to mail: a wrong password says nothing about what we send.
            let text = format!("it does not take the name and password: {reply}");
            failed(ConnectFailureKind::Greeting, Some(host), text)
        }
        (Opening::StartTls, Some(reply)) => {
            let text = format!("STARTTLS was answered {reply}");
            ConnectFailure { reply: Some(reply), ..failed(ConnectFailureKind::Tls, Some(host), text) }
        }
        (_, Some(reply)) => ConnectFailure {
            text: format!("{host} answered {reply}"),
            reply: Some(reply),
            ..failed(ConnectFailureKind::Greeting, Some(host), String::new())
        },
        (_, None) => lost(host, "the connection closed before it was ready".to_owned()),
    }
}

fn tls_used(negotiated: &Negotiated, verified: TlsVerified) -> TlsUsed {
    TlsUsed { version: negotiated.version.clone(), cipher: negotiated.cipher.clone(), verified }
}

/// The protocol's word for what a recipient was answered, in the engine's.
fn outcome(outcome: client::Outcome) -> Outcome {
    match outcome {
        client::Outcome::Answered { stage, reply } => match self::stage(stage) {
            Some(stage) => Outcome::Answered { stage, reply },
            None => Outcome::Ours { reply },
        },
        client::Outcome::Lost { stage } => Outcome::Lost { stage: self::stage(stage).unwrap_or(Stage::Mail) },
        client::Outcome::NotTried => Outcome::NotTried,
    }
}

/// None: nothing was sent, the reply is our own.
fn stage(stage: client::Stage) -> Option<Stage> {
    match stage {
        client::Stage::Local => None,
        client::Stage::Mail => Some(Stage::Mail),
        client::Stage::Recipient => Some(Stage::Recipient),
        client::Stage::Data => Some(Stage::Data),
        client::Stage::End => Some(Stage::End),
    }
}

impl Line {
    async fn secure(&mut self, means: &Means, call: &Call<'_>) -> Result<(), ConnectFailure> {
        let stream = self.stream.take_clear().expect("a connection is secured once, while it is in clear");
        match means.connector.connect(stream, call.host, call.proof, means.patience.handshake).await {
            Ok(stream) => {
                self.tls = Some(tls_used(&Negotiated::of(stream.get_ref().1), call.verified));
                self.stream.secured(stream);
                Ok(())
            }
            Err(fault) => Err(failed(ConnectFailureKind::Tls, Some(call.host), fault.to_string())),
        }
    }

    async fn send(&mut self, pieces: &[Piece]) -> Result<(), String> {
        let patience = self.patience.for_phase(Phase::DataBlock);
        match timeout(patience, self.stream.send_pieces(pieces)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(fault)) => Err(fault.to_string()),
            Err(_) => Err(format!("nothing could be written for {} s", patience.as_secs())),
        }
    }

    /// Waits for the peer's next octets and feeds them; an error ends the connection.
    async fn hear(&mut self) -> Result<(), String> {
        let patience = self.patience.for_phase(self.client.phase());
        let client = &mut self.client;
        match timeout(patience, self.stream.receive(|octets| client.receive(octets))).await {
            Ok(Ok(0)) => Err("the remote host closed the connection".to_owned()),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(fault)) => Err(fault.to_string()),
            Err(_) => Err(format!("no answer within {} s", patience.as_secs())),
        }
    }

    /// Idle until there is something to carry, or the peer ends the connection.
    async fn wait(&mut self, commands: &mut UnboundedReceiver<Command>) -> Waited {
        let client = &mut self.client;
        tokio::select! {
            biased;
            command = commands.recv() => Waited::Command(command),
            // An idle server speaks only to say good-bye, or is gone.
            _ = self.stream.receive(|octets| client.receive(octets)) => Waited::Gone,
        }
    }

    /// One transaction: from the spool to the remote's answers.
    async fn carry(
        &mut self,
        means: &Arc<Means>,
        message: MessageId,
        recipients: &[u16],
        snapshot: &Snapshot,
    ) -> (Report, Option<Arc<Envelope>>) {
        let began_us = self.clock.now();
        let (envelope, body) = match fetch(means, message).await {
            Ok(found) => found,
            Err(said) => {
                let results = recipients
                    .iter()
                    .map(|recipient| (*recipient, Outcome::Unreadable { said: said.clone() }))
                    .collect();
                return (self.report(results, began_us, true), None);
            }
        };
        let (mut results, mut wanted) = (Vec::new(), Vec::new());
        for index in recipients {
            let Some(recipient) = envelope.recipients.get(usize::from(*index)) else { continue };
            match snapshot.suppressed_by_now(&envelope, &recipient.address, Timestamp(began_us)) {
                // What we tell senders of their mail is no mail of theirs, and goes to no list.
                Some(reason) if envelope.sender.is_some() => results.push((*index, Outcome::Suppressed { reason })),
                _ => wanted.push((*index, recipient)),
            }
        }
        if wanted.is_empty() {
            return (self.report(results, began_us, true), Some(envelope));
        }
        self.client.begin(Transaction {
            from: Some(envelope.return_path.clone()).filter(|path| !path.is_empty()),
            recipients: wanted.iter().map(|(_, to)| (to.address.clone(), parameters(to))).collect(),
            prefix: Arc::from([]),
            body: body.as_ref().into(),
            smtputf8: envelope.smtputf8,
            ret: envelope.ret,
            envid: envelope.envid.clone(),
        });
        let (outcomes, usable) = self.converse().await;
        results.extend(wanted.iter().map(|(index, _)| *index).zip(outcomes.into_iter().map(outcome)));
        (self.report(results, began_us, usable), Some(envelope))
    }

    /// Drives the client until the transaction has an outcome for each recipient, and it is known whether the connection can
    /// carry another.
    async fn converse(&mut self) -> (Vec<client::Outcome>, bool) {
        let mut outcomes = Vec::new();
        loop {
            match self.client.poll() {
                Some(Output::Send(pieces)) => {
                    if self.send(&pieces).await.is_err() {
                        self.client.lost();
                    }
                }
                Some(Output::Done(done)) => outcomes = done,
                Some(Output::Ready) => return (outcomes, true),
                Some(Output::Close | Output::NotReady(_) | Output::StartTls) => return (outcomes, false),
                None => {
                    if self.hear().await.is_err() {
                        self.client.lost();
                    }
                }
            }
        }
    }

    fn report(&self, results: Vec<(u16, Outcome)>, began_us: i64, session_usable: bool) -> Report {
        let took_us = u64::try_from(self.clock.now() - began_us).unwrap_or(0);
        Report {
            results,
            host: Some(self.host.clone()),
            tls: self.tls.clone(),
            took: Duration::from_micros(took_us),
            session_usable,
        }
    }

    async fn quit(&mut self) {
        self.client.quit();
        while let Some(output) = self.client.poll() {
            if let Output::Send(pieces) = output
                && self.send(&pieces).await.is_err()
            {
                return;
            }
        }
        // The answer to QUIT changes nothing; waiting for it keeps the close orderly.
        let _ = self.stream.receive(|_| ()).await;
    }

    async fn close(&mut self, patience: Duration) {
        let _ = timeout(patience, self.stream.close()).await;
    }
}

/// The message as the spool has it: from memory where it is there, else from a thread that may wait for the disk.
async fn fetch(means: &Arc<Means>, message: MessageId) -> Result<(Arc<Envelope>, Bytes), String> {
    let found: Result<Stored, ReadFault> = match means.spool.read_if_cached(message.0) {
        Some(found) => found,
        None => {
            let spool = means.spool.clone();
            tokio::task::spawn_blocking(move || spool.read(message.0)).await.map_err(|fault| fault.to_string())?
        }
    };
    let stored = found.map_err(|fault| fault.to_string())?;
    let envelope = record::read_envelope(&stored.head).map_err(|fault| fault.to_string())?;
    Ok((Arc::new(envelope), stored.body))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::{Teller, Told};
    use engine::Input;
    use engine::attempt::ConnectFailureKind;
    use engine::id::SessionId;
    use std::cell::RefCell;

    fn told(life: impl FnOnce(&mut Teller<Box<dyn Fn(Told) + '_>>)) -> Vec<(Input, Option<SessionId>)> {
        let words = RefCell::new(Vec::new());
        let tell: Box<dyn Fn(Told) + '_> = Box::new(|told: Told| words.borrow_mut().push((told.input, told.over)));
        let mut teller = Teller { session: SessionId(1), tell, opened: false, over: false };
        life(&mut teller);
        drop(teller);
        words.into_inner()
    }

    // A session whose task stops in the middle gives its place back, and one that ended well says so once.
    #[test]
    fn every_session_tells_its_end_once() {
        let session = SessionId(1);
        let early = told(|_| ());
        assert!(
            matches!(&early[..], [(Input::SessionFailed { failure, .. }, Some(over))]
                if failure.kind == ConnectFailureKind::Local && *over == session),
            "{early:?}"
        );
        let late = told(|teller| teller.opened("mx.test"));
        assert!(
            matches!(&late[..], [(Input::SessionOpened { .. }, None), (Input::SessionClosed { .. }, Some(over))]
                if *over == session),
            "{late:?}"
        );
        let well = told(|teller| teller.over(Input::SessionClosed { session, reply: None }, None));
        assert_eq!(well.len(), 1, "{well:?}");
    }
}
