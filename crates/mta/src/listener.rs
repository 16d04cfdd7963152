//! Who is at the door, and what may they say?
//!
//! The conversation itself is `mail::smtp::server`; here are the socket, the limits on time and number, and the answers that
//! need to know who is who.

use crate::connection::Connection;
use crate::guarded::Guarded;
use crate::intake::{Intake, Offer, Receiving, Right, Via, Visitor};
use crate::metrics::What;
use crate::refusal::{Kind, Refusal};
use crate::returns::Returns;
use engine::id::AccountId;
use mail::message::HOPS_MAX;
use mail::reply::Reply;
use mail::smtp::server::{Answer, Auth, Output, Question, Session, Settings};
use net::dns::Network;
use net::tls::Acceptor;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::server::TlsStream;

/// RFC 5321 asks for 512 octets; the extensions offered add up to about 2,000.
const COMMAND_LINE_MAX: usize = 2_048;
/// Mistakes borne in one session; the next one ends it.
const ERRORS_MAX: u32 = 20;

type Stream = Connection<TlsStream<TcpStream>>;

/// After a wrong password the answer comes late: guessing costs time, and typing wrongly once costs little.
const WRONG_PASSWORD_DELAY: Duration = Duration::from_secs(2);
/// When the process has no file descriptors left, accepting pauses for this long instead of spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);
const HANDSHAKE_MAX: Duration = Duration::from_secs(30);
/// What a peer may leave unread of our answers before we call it gone.
const WRITE_MAX: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoorTls {
    None,
    StartTls,
    Implicit,
}

/// One address that takes submissions.
#[derive(Clone, Debug)]
pub struct Door {
    pub tls: DoorTls,
    /// Who may submit without signing in, and for which account.
    pub trusted: Vec<Network>,
    pub account: Option<AccountId>,
}

#[derive(Clone, Debug)]
pub struct Limits {
    pub message_bytes_max: u64,
    pub recipients_max: u32,
    pub connections_max: u32,
    pub connections_per_peer_max: u32,
    /// Time for one command, one answer, or the next part of a message.
    pub idle: Duration,
    /// Time for one message's data, whole: nobody holds memory by sending an octet now and then.
    pub data: Duration,
    pub session: Duration,
}

/// Counts connections, so that no peer takes all of them, and who fails to sign in. One for all listeners.
pub struct Doorkeeper {
    guarded: Arc<Guarded>,
    open: AtomicU32,
    peers: Mutex<HashMap<IpAddr, u32>>,
}

impl Doorkeeper {
    #[must_use]
    pub fn new(guarded: Arc<Guarded>) -> Doorkeeper {
        Doorkeeper { guarded, open: AtomicU32::default(), peers: Mutex::default() }
    }

    fn enter(self: &Arc<Self>, peer: IpAddr, limits: &Limits) -> Result<Entered, &'static str> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= limits.connections_max {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err("connections_max");
        }
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let count = peers.entry(peer).or_default();
        if *count >= limits.connections_per_peer_max {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err("connections_per_peer_max");
        }
        *count += 1;
        Ok(Entered { keeper: self.clone(), peer })
    }
}

struct Entered {
    keeper: Arc<Doorkeeper>,
    peer: IpAddr,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.keeper.open.fetch_sub(1, Ordering::Relaxed);
        let mut peers = self.keeper.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = peers.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                peers.remove(&self.peer);
            }
        }
    }
}

/// Who is asked what may come in.
#[derive(Clone)]
pub enum Host {
    /// Submissions of those who may send.
    Intake(Intake),
    /// What comes back, from anybody.
    Returns(Returns),
}

impl Host {
    fn intake(&self) -> &Intake {
        match self {
            Host::Intake(intake) => intake,
            Host::Returns(returns) => returns.intake(),
        }
    }

    fn receiving(&self) -> Receiving {
        match self {
            Host::Intake(intake) => intake.receiving(),
            Host::Returns(returns) => returns.memory().receiving(),
        }
    }
}

/// Everything a conversation needs; one for all of a door's connections.
struct Porch {
    host: Host,
    door: Door,
    limits: Limits,
    acceptor: Acceptor,
    keeper: Arc<Doorkeeper>,
    for_trusted: Arc<Settings>,
    for_others: Arc<Settings>,
}

/// Takes connections until told to stop, then waits for the conversations to end.
pub async fn serve(
    host: Host,
    door: Door,
    limits: Limits,
    acceptor: Acceptor,
    socket: TcpListener,
    keeper: Arc<Doorkeeper>,
    mut stop: watch::Receiver<bool>,
) {
    let intake = host.intake().clone();
    let is_open = matches!(host, Host::Returns(_));
    let settings = |trusted: bool| {
        let auth = if trusted { Auth::Always } else { Auth::UnderTls };
        Arc::new(Settings {
            host: intake.host().to_owned(),
            size_max: limits.message_bytes_max,
            recipients_max: limits.recipients_max,
            auth: if is_open { Auth::Never } else { auth },
            auth_required: !trusted && !is_open,
            starttls: door.tls == DoorTls::StartTls,
            command_line_max: COMMAND_LINE_MAX,
            errors_max: ERRORS_MAX,
            hops_max: HOPS_MAX as u32,
        })
    };
    let porch = Arc::new(Porch {
        for_trusted: settings(true),
        for_others: settings(false),
        host,
        door,
        limits,
        acceptor,
        keeper: keeper.clone(),
    });
    let mut conversations = JoinSet::new();
    loop {
        let taken = tokio::select! {
            taken = socket.accept() => taken,
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = conversations.join_next(), if !conversations.is_empty() => continue,
        };
        match taken {
            Ok((stream, peer)) => match keeper.enter(peer.ip(), &porch.limits) {
                Ok(entered) => {
                    let (porch, stop) = (porch.clone(), stop.clone());
                    conversations.spawn(async move {
                        converse(&porch, stream, peer, stop).await;
                        drop(entered);
                    });
                }
                Err(limit) => turn_away(&intake, &stream, limit),
            },
            Err(fault) => {
                tracing::warn!(%fault, pause_ms = ACCEPT_PAUSE.as_millis() as u64, "cannot accept connections for a moment");
                intake.metrics().turned_away.get_or_create(&What { what: "no_descriptors" }).inc();
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // No new connection from here on, also none waiting in the kernel.
    drop(socket);
    while conversations.join_next().await.is_some() {}
}

fn turn_away(intake: &Intake, stream: &TcpStream, limit: &'static str) {
    intake.metrics().turned_away.get_or_create(&What { what: limit }).inc();
    // One try without waiting: who floods us is not worth a task.
    let _ = stream.try_write(b"421 4.7.0 Too many connections at this time; close some or try again later\r\n");
}

async fn converse(porch: &Porch, stream: TcpStream, peer: SocketAddr, mut stop: watch::Receiver<bool>) {
    let sessions = porch.host.intake().metrics().sessions.get_or_create(&What { what: "in" }).clone();
    sessions.inc();
    let mut conversation = Conversation::new(porch, stream, peer);
    conversation.run(&mut stop).await;
    let _ = timeout(WRITE_MAX, conversation.stream.close()).await;
    sessions.dec();
}

struct Conversation<'a> {
    porch: &'a Porch,
    peer: SocketAddr,
    stream: Stream,
    session: Session,
    visitor: Visitor,
    receiving: Receiving,
    out: Vec<u8>,
}

/// How a turn of the conversation ended.
enum Turn {
    /// Whether anything was said: then the peer has finished a step, and may take its time for the next one.
    Listen {
        said: bool,
    },
    Close,
}

impl<'a> Conversation<'a> {
    fn new(porch: &'a Porch, stream: TcpStream, peer: SocketAddr) -> Conversation<'a> {
        let _ = stream.set_nodelay(true);
        let trusted = porch.door.trusted.iter().any(|network| network.contains(peer.ip()));
        let settings = if trusted { &porch.for_trusted } else { &porch.for_others };
        let account = porch.door.account.clone().filter(|_| trusted);
        let right = account.map_or(Right::Nothing, Right::Account);
        Conversation {
            porch,
            peer,
            stream: Connection::Clear(stream),
            session: Session::new(settings.clone(), porch.door.tls == DoorTls::Implicit),
            visitor: Visitor { via: Via::Smtp, peer: Some(peer.ip()), right },
            receiving: porch.host.receiving(),
            out: Vec::new(),
        }
    }

    async fn run(&mut self, stop: &mut watch::Receiver<bool>) {
        if self.porch.door.tls == DoorTls::Implicit && self.secure().await.is_err() {
            return;
        }
        // An admission under way is never cut short: limits on time count only while we listen.
        let limits = &self.porch.limits;
        let begun = Instant::now();
        let mut step = begun;
        let mut stopping = false;
        loop {
            match self.speak().await {
                Ok(Turn::Listen { said: true }) => step = Instant::now(),
                Ok(Turn::Listen { said: false }) => {}
                Ok(Turn::Close) | Err(_) => return,
            }
            let step_max = if self.session.in_data() { limits.data } else { limits.idle };
            let ends = (step + step_max).min(Instant::now() + limits.idle).min(begun + limits.session);
            let session = &mut self.session;
            let heard = tokio::select! {
                heard = timeout_at(ends, self.stream.receive(|octets| session.receive(octets))) => heard,
                _ = stop.wait_for(|stop| *stop), if !stopping => {
                    stopping = true;
                    self.session.shut_down(Reply::new(421, (4, 3, 2), "This server is stopping; try again in a moment"));
                    continue;
                }
            };
            match heard {
                Ok(Ok(0) | Err(_)) => return,
                Ok(Ok(_)) => {
                    let held = if self.session.in_data() { self.session.buffered() } else { 0 };
                    if let Err(refusal) = self.receiving.hold(held as u64) {
                        let reply = refusal.to_reply();
                        return self.farewell(Reply { code: 421, ..reply }).await;
                    }
                }
                Err(_) => {
                    let words = if begun.elapsed() >= limits.session {
                        "This session has lasted too long"
                    } else {
                        "Nothing whole was heard in time; closing"
                    };
                    return self.farewell(Reply::new(421, (4, 4, 2), words)).await;
                }
            }
        }
    }

    /// Says and answers all there is, with as few writes as possible.
    async fn speak(&mut self) -> io::Result<Turn> {
        let mut said = false;
        while let Some(output) = self.session.poll() {
            match output {
                Output::Send(octets) => {
                    said = true;
                    if self.out.is_empty() {
                        self.out = octets;
                    } else {
                        self.out.extend_from_slice(&octets);
                    }
                }
                Output::StartTls => {
                    self.flush().await?;
                    self.secure().await?;
                    self.session.tls_started();
                }
                Output::Ask(question) => {
                    let answer = self.answer(question).await;
                    self.session.answer(answer);
                }
                Output::Close => {
                    self.flush().await?;
                    return Ok(Turn::Close);
                }
            }
        }
        self.flush().await?;
        Ok(Turn::Listen { said })
    }

    async fn flush(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let out = std::mem::take(&mut self.out);
        timeout(WRITE_MAX, self.stream.send(&out)).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
    }

    async fn farewell(&mut self, reply: Reply) {
        let mut octets = Vec::new();
        reply.write(&mut octets);
        let _ = timeout(WRITE_MAX, self.stream.send(&octets)).await;
    }

    async fn secure(&mut self) -> io::Result<()> {
        let Some(stream) = self.stream.take_clear() else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        match self.porch.acceptor.accept(stream, HANDSHAKE_MAX).await {
            Ok(stream) => {
                self.stream.secured(stream);
                Ok(())
            }
            Err(fault) => {
                tracing::debug!(%fault, "a submitter's TLS handshake failed");
                Err(io::ErrorKind::ConnectionAborted.into())
            }
        }
    }

    async fn answer(&mut self, question: Question) -> Answer {
        let intake = match &self.porch.host {
            Host::Intake(intake) => intake,
            Host::Returns(returns) => return self.answer_for(returns, question).await,
        };
        let verdict = match question {
            Question::Authenticate { user, password } => {
                let visitor = Visitor { right: Right::login(&user, &password), ..self.visitor.clone() };
                let (from, door) = (self.peer.ip(), &self.porch.keeper.guarded);
                match door.name(from, &user, intake.now(), || intake.may_submit(&visitor)) {
                    Ok(()) => {
                        self.visitor = visitor;
                        return Answer::Yes;
                    }
                    Err(refusal) => {
                        // Who guesses is turned away most of the time, and then fills no log.
                        if refusal.kind == Kind::Busy {
                            tracing::debug!(peer = %from, %user, "a sign-in was turned away: too many have failed");
                        } else {
                            tracing::warn!(peer = %from, %user, code = refusal.code, "a sign-in failed");
                        }
                        intake.count_failed_sign_in(Via::Smtp, refusal.code);
                        tokio::time::sleep(WRONG_PASSWORD_DELAY).await;
                        return Answer::Refuse(refusal.to_reply());
                    }
                }
            }
            // RFC 8689: a promise that every host on the way keeps; most hosts cannot be asked for it yet.
            Question::Mail { parameters, .. } if parameters.require_tls => Err(Refusal::new(
                Kind::Invalid,
                "requiretls_unsupported",
                (5, 7, 30),
                "REQUIRETLS is not offered here.",
                "Ask for TLS to the recipient's host with the header X-Weir-TLS: required.",
            )),
            Question::Mail { from, .. } => intake.may_send(&self.visitor, from.as_ref()),
            Question::Recipient { to, .. } => intake.may_receive(&self.visitor, &to),
            Question::Data { size } => self.visitor_brings(size),
            Question::Message(submission) => {
                // Whole, and still in memory until the disk has it.
                if let Err(refusal) = self.receiving.hold(submission.body.len() as u64) {
                    intake.count_refusal(&self.visitor, &refusal);
                    return Answer::Refuse(refusal.to_reply());
                }
                let answer = match intake.admit(&self.visitor, Offer::from_smtp(*submission)).await {
                    Ok(admitted) => {
                        Answer::YesSaying(Reply::new(250, (2, 0, 0), format!("Queued as {}", admitted.message)))
                    }
                    Err(refusal) => Answer::Refuse(refusal.to_reply()),
                };
                // Less than before is never refused.
                let _ = self.receiving.hold(0);
                return answer;
            }
        };
        match verdict {
            Ok(()) => Answer::Yes,
            Err(refusal) => {
                intake.count_refusal(&self.visitor, &refusal);
                Answer::Refuse(refusal.to_reply())
            }
        }
    }

    /// Where things come back, it does not matter who brings them.
    async fn answer_for(&mut self, returns: &Returns, question: Question) -> Answer {
        match question {
            // Never offered; a client that tries it all the same is told so by the session.
            Question::Authenticate { .. } => {
                Answer::Refuse(Reply::new(503, (5, 5, 1), "Nobody signs in where mail comes back"))
            }
            Question::Mail { .. } => match returns.memory().has_room() {
                Ok(()) => Answer::Yes,
                Err(refusal) => Answer::Refuse(refusal.to_reply()),
            },
            Question::Recipient { to, .. } => match returns.may_come(&to) {
                Ok(()) => Answer::Yes,
                Err(reply) => Answer::Refuse(reply),
            },
            Question::Data { size } => match self.fits(size) {
                Ok(()) => Answer::Yes,
                Err(refusal) => Answer::Refuse(refusal.to_reply()),
            },
            Question::Message(submission) => {
                if let Err(refusal) = self.receiving.hold(submission.body.len() as u64) {
                    return Answer::Refuse(refusal.to_reply());
                }
                let reply = returns.hear(*submission, self.peer.ip()).await;
                // Less than before is never refused.
                let _ = self.receiving.hold(0);
                if reply.is_positive() { Answer::YesSaying(reply) } else { Answer::Refuse(reply) }
            }
        }
    }

    fn fits(&self, size: Option<u64>) -> Result<(), Refusal> {
        if size.is_some_and(|size| size > self.porch.limits.message_bytes_max) {
            return Err(Refusal::new(
                Kind::TooLarge,
                "message_too_large",
                (5, 3, 4),
                format!(
                    "The message is larger than message_bytes_max, {} octets.",
                    self.porch.limits.message_bytes_max
                ),
                "Send large files as links.",
            ));
        }
        Ok(())
    }

    /// Before data starts: is there room in memory for it, and on the disk?
    fn visitor_brings(&mut self, size: Option<u64>) -> Result<(), Refusal> {
        self.fits(size)?;
        self.porch.host.intake().has_room()
    }
}
