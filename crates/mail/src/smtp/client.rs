//! How do we hand a message to another server, and what did it say to each recipient?
//!
//! Two things are decided here once:
//! - 8-bit octets go out as they are to a server that does not offer 8BITMIME. Nearly all of them take it, a bounce helps
//!   nobody, and a conversion would break the signature.
//! - Where nothing needs to be sent to know the answer (the server's SIZE is too small, it lacks SMTPUTF8), we answer
//!   ourselves, with `Stage::Local`.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem;

use crate::address::Mailbox;
use crate::reply::{Reply, ReplyReader};
use crate::smtp::command::{RecipientParameters, Ret, decode_xtext, is_orcpt};
use crate::smtp::data::{ContentFault, Outgoing, Piece};

#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// Our name in EHLO.
    pub ehlo: String,
    pub tls: TlsWish,
    /// Send the message along with its envelope, where the server offers CHUNKING and PIPELINING: one round trip for
    /// all, at the price of octets sent in vain when every recipient is refused.
    pub chunking: bool,
    /// Whom we say that we are, where the server serves only who signs in. It is said as soon as TLS allows; whether a connection
    /// in clear is good enough is the host's to say, by `tls`.
    pub sign_in: Option<SignIn>,
}

/// A name and a password for AUTH (RFC 4954). The debug form hides the password.
#[derive(Clone, PartialEq, Eq)]
pub struct SignIn {
    pub user: String,
    pub password: String,
}

impl fmt::Debug for SignIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignIn").field("user", &self.user).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsWish {
    Never,
    IfOffered,
    Required,
}

#[derive(Debug)]
pub enum Output {
    /// Write all of it, then poll again before reading: `phase` tells by that whether the message is out.
    Send(Vec<Piece>),
    /// Start the handshake, then call `tls_started`. If it fails, call `lost`.
    StartTls,
    /// A transaction may begin.
    Ready,
    /// No transaction can ever begin on this connection.
    NotReady(Failure),
    /// What became of each recipient, in the order they were given.
    Done(Vec<Outcome>),
    Close,
}

/// Why a connection never came to a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub stage: Opening,
    /// `None`: the connection was lost, or what came was no reply.
    pub reply: Option<Reply>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    Banner,
    Hello,
    StartTls,
    /// TLS is required and the server does not offer it. The reply is the one to EHLO.
    TlsNotOffered,
    /// It offers no way to sign in that we know. The reply is the one to EHLO.
    AuthNotOffered,
    Auth,
}

/// What the connection is waiting for, for the deadlines of RFC 5321 4.5.3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Banner,
    /// Also signing in.
    Hello,
    StartTls,
    Ready,
    /// Also the RSET behind a transaction that failed.
    Mail,
    Recipient,
    DataStart,
    DataBlock,
    DataEnd,
    Quit,
}

/// One message to some recipients. An address or parameter that is not well formed is not sent: nothing in a field can
/// end a line.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// The return path. `None` is the empty one.
    pub from: Option<String>,
    pub recipients: Vec<(String, RecipientParameters)>,
    /// Header lines to put before the body, or nothing.
    pub prefix: Arc<[u8]>,
    /// The message: lines that end with CRLF, without stuffed dots.
    pub body: Arc<[u8]>,
    pub ret: Option<Ret>,
    pub envid: Option<String>,
    /// It came with SMTPUTF8. Sent so only if an address or the header needs it (RFC 6531 3.6).
    pub smtputf8: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Answered {
        stage: Stage,
        reply: Reply,
    },
    /// The connection ended. At `Stage::End` nobody knows whether the server has the message; earlier it has not.
    Lost {
        stage: Stage,
    },
    /// The server takes no more recipients at a time: the next transaction will do.
    NotTried,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nothing was sent: the reply is our own.
    Local,
    Mail,
    Recipient,
    Data,
    End,
}

/// One connection to a server.
#[derive(Debug)]
pub struct Client {
    settings: ClientSettings,
    tls: bool,
    reader: ReplyReader,
    offers: Offers,
    awaited: VecDeque<Awaited>,
    outputs: VecDeque<Output>,
    open: Option<Open>,
    state: State,
    writing: Writing,
    farewell: Option<Reply>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Opening,
    Handshake,
    InUse,
    Closed,
}

/// Where the message itself is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    Nothing,
    /// In an output that the host has not taken.
    Queued,
    /// In the host's hands until it polls again.
    Taken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    Banner,
    Ehlo,
    Helo,
    StartTls,
    /// The answer to AUTH PLAIN, with all that it needs.
    AuthPlain,
    /// AUTH LOGIN asks for the name, then for the password, then says yes or no.
    AuthName,
    AuthPassword,
    Auth,
    Mail,
    Recipient(usize),
    Data,
    /// The answer to the dot, to BDAT, or to a dot without a message.
    End,
    Reset,
    Quit,
}

/// What the server said it can do.
#[derive(Debug, Default)]
struct Offers {
    size: Option<u64>,
    pipelining: bool,
    chunking: bool,
    dsn: bool,
    eight_bit: bool,
    smtputf8: bool,
    starttls: bool,
    auth_plain: bool,
    auth_login: bool,
}

/// The transaction that is under way.
#[derive(Debug)]
struct Open {
    outgoing: Outgoing,
    recipients: Vec<Slot>,
    /// RCPT commands still to write, where they go one by one.
    commands: VecDeque<(usize, Vec<u8>)>,
    chunked: bool,
    /// The whole message, with its end, is out of our hands.
    sent: bool,
    mail_refused: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Slot {
    Waiting,
    Accepted,
    Settled(Outcome),
}

impl Client {
    pub fn new(settings: ClientSettings) -> Client {
        Client {
            settings,
            tls: false,
            reader: ReplyReader::default(),
            offers: Offers::default(),
            awaited: VecDeque::from([Awaited::Banner]),
            outputs: VecDeque::new(),
            open: None,
            state: State::Opening,
            writing: Writing::Nothing,
            farewell: None,
        }
    }

    pub fn receive(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.state {
                State::Closed => return,
                // The same trick as CVE-2011-0411, from the server's side.
                State::Handshake => return self.fail_opening(Opening::StartTls, None),
                State::Opening | State::InUse => {}
            }
            match self.reader.receive(&mut rest) {
                Ok(Some(reply)) => self.replied(reply),
                Ok(None) => {}
                Err(_) => self.lost(),
            }
        }
    }

    /// The handshake is done, and the server is greeted again: what it said in clear counts no more.
    pub fn tls_started(&mut self) {
        if self.state != State::Handshake {
            return;
        }
        self.tls = true;
        self.state = State::Opening;
        self.hello(Awaited::Ehlo);
    }

    /// Begins a transaction; only after `Ready`. `Done` answers it, and `Ready` or `Close` follows.
    pub fn begin(&mut self, transaction: Transaction) {
        let count = transaction.recipients.len();
        if self.state != State::InUse || !self.awaited.is_empty() || self.open.is_some() {
            let lost = Outcome::Lost { stage: Stage::Mail };
            return self.outputs.push_back(Output::Done(vec![lost; count]));
        }
        let refused = match self.start(transaction) {
            Ok(()) => return,
            Err(reply) => Outcome::Answered { stage: Stage::Local, reply },
        };
        self.outputs.push_back(Output::Done(vec![refused; count]));
        self.outputs.push_back(Output::Ready);
    }

    /// Says goodbye; `Close` follows its answer.
    pub fn quit(&mut self) {
        match self.state {
            State::Closed => {}
            State::InUse if self.awaited.is_empty() && self.open.is_none() => {
                self.command(b"QUIT\r\n".to_vec(), Awaited::Quit);
            }
            _ => self.lost(),
        }
    }

    pub fn poll(&mut self) -> Option<Output> {
        if self.writing == Writing::Taken {
            self.writing = Writing::Nothing;
            if let Some(open) = &mut self.open {
                open.sent = true;
            }
        }
        let output = self.outputs.pop_front();
        // The message is always in the last Send there is: the server must answer before anything more is sent.
        let sends_left = self.outputs.iter().any(|output| matches!(output, Output::Send(_)));
        if self.writing == Writing::Queued && matches!(output, Some(Output::Send(_))) && !sends_left {
            self.writing = Writing::Taken;
        }
        output
    }

    pub fn phase(&self) -> Phase {
        if self.state == State::Handshake {
            return Phase::StartTls;
        }
        if self.writing != Writing::Nothing {
            return Phase::DataBlock;
        }
        match self.awaited.front() {
            None => Phase::Ready,
            Some(Awaited::Banner) => Phase::Banner,
            Some(Awaited::Ehlo | Awaited::Helo) => Phase::Hello,
            Some(Awaited::AuthPlain | Awaited::AuthName | Awaited::AuthPassword | Awaited::Auth) => Phase::Hello,
            Some(Awaited::StartTls) => Phase::StartTls,
            Some(Awaited::Mail | Awaited::Reset) => Phase::Mail,
            Some(Awaited::Recipient(_)) => Phase::Recipient,
            Some(Awaited::Data) => Phase::DataStart,
            Some(Awaited::End) => Phase::DataEnd,
            Some(Awaited::Quit) => Phase::Quit,
        }
    }

    /// What the server said when it ended the connection, if it said so: mostly a 421, also outside of a transaction.
    pub fn farewell(&self) -> Option<&Reply> {
        self.farewell.as_ref()
    }

    /// The server closed, a deadline passed, the handshake failed, or what came was no reply.
    pub fn lost(&mut self) {
        match self.state {
            State::Closed => {}
            State::Handshake => self.fail_opening(Opening::StartTls, None),
            State::Opening => {
                let stage = match self.awaited.front() {
                    Some(Awaited::Banner) | None => Opening::Banner,
                    Some(Awaited::StartTls) => Opening::StartTls,
                    Some(Awaited::AuthPlain | Awaited::AuthName | Awaited::AuthPassword | Awaited::Auth) => {
                        Opening::Auth
                    }
                    Some(_) => Opening::Hello,
                };
                self.fail_opening(stage, None);
            }
            State::InUse => {
                let stage = self.stage_lost();
                self.settle_open(|| Outcome::Lost { stage });
                self.close();
            }
        }
    }

    fn replied(&mut self, reply: Reply) {
        let Some(awaited) = self.awaited.pop_front() else {
            // Nobody asked: the server says goodbye, or is out of step. Neither serves another transaction.
            self.farewell = Some(reply);
            return self.close();
        };
        match awaited {
            Awaited::Banner | Awaited::Ehlo | Awaited::Helo | Awaited::StartTls => {
                self.opening_replied(awaited, reply);
            }
            Awaited::AuthPlain | Awaited::AuthName | Awaited::AuthPassword | Awaited::Auth => {
                self.auth_replied(awaited, reply);
            }
            Awaited::Quit => self.close(),
            Awaited::Reset if reply.is_positive() => self.outputs.push_back(Output::Ready),
            Awaited::Reset => {
                self.farewell = Some(reply);
                self.close();
            }
            Awaited::Mail | Awaited::Recipient(_) | Awaited::Data | Awaited::End => {
                self.transaction_replied(awaited, reply);
            }
        }
    }

    // Opening

    fn opening_replied(&mut self, awaited: Awaited, reply: Reply) {
        let refused = !reply.is_positive();
        match awaited {
            Awaited::Banner if refused => self.fail_opening(Opening::Banner, Some(reply)),
            Awaited::Banner => self.hello(Awaited::Ehlo),
            // RFC 5321 3.2: a server that knows no EHLO may know HELO.
            Awaited::Ehlo if reply.is_permanent() => self.hello(Awaited::Helo),
            Awaited::StartTls if reply.code == 220 => {
                self.state = State::Handshake;
                self.outputs.push_back(Output::StartTls);
            }
            Awaited::StartTls if reply.code != 421 && self.settings.tls != TlsWish::Required => {
                self.introduced(reply);
            }
            Awaited::StartTls => self.fail_opening(Opening::StartTls, Some(reply)),
            _ if refused => self.fail_opening(Opening::Hello, Some(reply)),
            Awaited::Ehlo => {
                self.offers = Offers::read(&reply.text);
                self.greeted(reply);
            }
            _ => {
                self.offers = Offers::default();
                self.greeted(reply);
            }
        }
    }

    fn greeted(&mut self, reply: Reply) {
        match self.settings.tls {
            _ if self.tls => self.introduced(reply),
            TlsWish::Never => self.introduced(reply),
            TlsWish::IfOffered | TlsWish::Required if self.offers.starttls => {
                self.command(b"STARTTLS\r\n".to_vec(), Awaited::StartTls);
            }
            TlsWish::IfOffered => self.introduced(reply),
            TlsWish::Required => self.fail_opening(Opening::TlsNotOffered, Some(reply)),
        }
    }

    /// Both sides know with whom they speak, as far as no password is needed.
    fn introduced(&mut self, reply: Reply) {
        let Some(sign_in) = &self.settings.sign_in else { return self.opened() };
        if self.offers.auth_plain {
            // RFC 4616: nobody else is acted for.
            let said = STANDARD.encode(format!("\0{}\0{}", sign_in.user, sign_in.password));
            self.command(format!("AUTH PLAIN {said}\r\n").into_bytes(), Awaited::AuthPlain);
        } else if self.offers.auth_login {
            self.command(b"AUTH LOGIN\r\n".to_vec(), Awaited::AuthName);
        } else {
            self.fail_opening(Opening::AuthNotOffered, Some(reply));
        }
    }

    fn auth_replied(&mut self, awaited: Awaited, reply: Reply) {
        let Some(sign_in) = &self.settings.sign_in else { return self.lost() };
        let (said, next) = match awaited {
            Awaited::AuthPlain | Awaited::Auth if reply.is_positive() => return self.opened(),
            Awaited::AuthName if reply.code == 334 => (&sign_in.user, Awaited::AuthPassword),
            Awaited::AuthPassword if reply.code == 334 => (&sign_in.password, Awaited::Auth),
            _ => return self.fail_opening(Opening::Auth, Some(reply)),
        };
        let line = format!("{}\r\n", STANDARD.encode(said));
        self.command(line.into_bytes(), next);
    }

    fn opened(&mut self) {
        self.state = State::InUse;
        self.outputs.push_back(Output::Ready);
    }

    fn hello(&mut self, awaited: Awaited) {
        let verb = if awaited == Awaited::Helo { "HELO" } else { "EHLO" };
        let name: String = self.settings.ehlo.chars().filter(char::is_ascii_graphic).collect();
        self.command(format!("{verb} {name}\r\n").into_bytes(), awaited);
    }

    fn fail_opening(&mut self, stage: Opening, reply: Option<Reply>) {
        // A server that answered, and is not gone by its answer, is told that we leave.
        if reply.as_ref().is_some_and(|reply| reply.code != 421) {
            self.send(vec![Piece::Own(b"QUIT\r\n".to_vec())]);
        }
        self.outputs.push_back(Output::NotReady(Failure { stage, reply }));
        self.close();
    }

    // Transaction

    /// Checks all that can be known without the server, then writes the first flight.
    fn start(&mut self, transaction: Transaction) -> Result<(), Reply> {
        let Transaction { from, recipients, prefix, body, ret, envid, smtputf8 } = transaction;
        let from = match from.as_deref().map(Mailbox::parse).transpose() {
            Ok(from) => from,
            Err(error) => {
                return Err(Reply::new(553, (5, 1, 7), format!("The return path is not valid: {error}")));
            }
        };
        let outgoing = Outgoing::new(prefix, body).map_err(content_refusal)?;
        if let Some(limit) = self.offers.size.filter(|&limit| limit > 0 && outgoing.size() > limit) {
            let text =
                format!("The receiving server takes messages up to {limit} octets; this one has {}", outgoing.size());
            return Err(Reply::new(552, (5, 3, 4), text));
        }
        let utf8 = from.as_ref().is_some_and(Mailbox::needs_smtputf8) || (smtputf8 && !outgoing.header_is_ascii());
        if utf8 && !self.offers.smtputf8 {
            return Err(lacks_smtputf8());
        }

        let mut slots = Vec::with_capacity(recipients.len());
        let mut commands = VecDeque::with_capacity(recipients.len());
        let mut utf8 = utf8;
        for (at, (address, parameters)) in recipients.iter().enumerate() {
            let refusal = match Mailbox::parse(address) {
                Err(error) => Reply::new(553, (5, 1, 3), format!("The recipient address is not valid: {error}")),
                Ok(to) if to.needs_smtputf8() && !self.offers.smtputf8 => lacks_smtputf8(),
                Ok(to) => {
                    utf8 |= to.needs_smtputf8();
                    commands.push_back((at, self.recipient_command(&to, parameters)));
                    slots.push(Slot::Waiting);
                    continue;
                }
            };
            slots.push(Slot::Settled(Outcome::Answered { stage: Stage::Local, reply: refusal }));
        }

        let chunked = self.settings.chunking && self.offers.chunking && self.offers.pipelining;
        let mail = self.mail_command(from.as_ref(), &outgoing, ret, envid.as_deref(), utf8);
        let idle = commands.is_empty();
        self.open = Some(Open { outgoing, recipients: slots, commands, chunked, sent: false, mail_refused: false });
        if idle {
            self.finish(false);
        } else if self.offers.pipelining {
            self.send_flight(mail);
        } else {
            self.command(mail, Awaited::Mail);
        }
        Ok(())
    }

    /// MAIL, every RCPT, and DATA or the message itself, in one go.
    fn send_flight(&mut self, mut flight: Vec<u8>) {
        let Some(open) = &mut self.open else { return };
        self.awaited.push_back(Awaited::Mail);
        for (at, command) in open.commands.drain(..) {
            flight.extend_from_slice(&command);
            self.awaited.push_back(Awaited::Recipient(at));
        }
        if !open.chunked {
            flight.extend_from_slice(b"DATA\r\n");
            self.awaited.push_back(Awaited::Data);
            return self.send(vec![Piece::Own(flight)]);
        }
        flight.extend_from_slice(format!("BDAT {} LAST\r\n", open.outgoing.size()).as_bytes());
        let mut pieces = vec![Piece::Own(flight)];
        pieces.extend(open.outgoing.plain());
        self.awaited.push_back(Awaited::End);
        self.writing = Writing::Queued;
        self.send(pieces);
    }

    fn transaction_replied(&mut self, awaited: Awaited, reply: Reply) {
        let stage = stage_of(awaited);
        if reply.code == 421 {
            self.settle_open(|| Outcome::Answered { stage, reply: reply.clone() });
            self.farewell = Some(reply);
            return self.close();
        }
        // "Go on" is due to DATA alone, and no other yes is due to DATA. Else we no longer know what it is that the server
        // answers, and must not take its yes for this message's.
        let in_step = match awaited {
            Awaited::Data => !reply.is_positive(),
            _ => !asks_for_more(&reply),
        };
        if !in_step {
            self.awaited.push_front(awaited);
            return self.lost();
        }
        match awaited {
            Awaited::Mail => self.mail_replied(&reply),
            Awaited::Recipient(at) => self.recipient_replied(at, reply),
            Awaited::Data => self.data_replied(&reply),
            _ => self.end_replied(&reply),
        }
    }

    fn mail_replied(&mut self, reply: &Reply) {
        let refused = !reply.is_positive();
        let Some(open) = &mut self.open else { return };
        open.mail_refused = refused;
        if refused {
            open.settle(|| Outcome::Answered { stage: Stage::Mail, reply: reply.clone() });
        }
        if self.awaited.is_empty() {
            if refused {
                self.finish(false);
            } else {
                self.next_command();
            }
        }
    }

    fn recipient_replied(&mut self, at: usize, reply: Reply) {
        let Some(open) = &mut self.open else { return };
        let accepted_before = open.recipients.contains(&Slot::Accepted);
        if open.recipients[at] == Slot::Waiting {
            open.recipients[at] = if reply.is_positive() {
                Slot::Accepted
            } else if accepted_before && is_too_many(&reply) {
                // RFC 5321 4.5.3.1.10. What is not yet named would get the same answer.
                for (at, _) in open.commands.drain(..) {
                    open.recipients[at] = Slot::Settled(Outcome::NotTried);
                }
                Slot::Settled(Outcome::NotTried)
            } else {
                Slot::Settled(Outcome::Answered { stage: Stage::Recipient, reply })
            };
        }
        if self.awaited.is_empty() {
            self.next_command();
        }
    }

    /// Without PIPELINING: what comes after the answer to MAIL or RCPT.
    fn next_command(&mut self) {
        let Some(open) = &mut self.open else { return };
        if let Some((at, command)) = open.commands.pop_front() {
            self.command(command, Awaited::Recipient(at));
        } else if open.recipients.contains(&Slot::Accepted) {
            self.command(b"DATA\r\n".to_vec(), Awaited::Data);
        } else {
            self.finish(true);
        }
    }

    fn data_replied(&mut self, reply: &Reply) {
        let Some(open) = &mut self.open else { return };
        if !asks_for_more(reply) {
            let reset = !open.mail_refused;
            open.settle(|| Outcome::Answered { stage: Stage::Data, reply: reply.clone() });
            return self.finish(reset);
        }
        self.awaited.push_back(Awaited::End);
        if open.recipients.contains(&Slot::Accepted) {
            let pieces = open.outgoing.dotted();
            self.writing = Writing::Queued;
            self.send(pieces);
        } else {
            // RFC 2920 3.1: it lets us go on though it refused everybody. Nothing is the message then.
            self.send(vec![Piece::Own(b".\r\n".to_vec())]);
        }
    }

    fn end_replied(&mut self, reply: &Reply) {
        let Some(open) = &mut self.open else { return };
        // RFC 3030 4.2: after a refused BDAT only RSET brings both sides into step.
        let reset = open.chunked && !reply.is_positive() && !open.mail_refused;
        open.settle(|| Outcome::Answered { stage: Stage::End, reply: reply.clone() });
        self.finish(reset);
    }

    /// Hands over the outcomes; every slot is settled by now. With `reset` the server still holds half a transaction.
    fn finish(&mut self, reset: bool) {
        self.settle_open(|| Outcome::Lost { stage: Stage::End });
        self.writing = Writing::Nothing;
        if reset {
            self.command(b"RSET\r\n".to_vec(), Awaited::Reset);
        } else {
            self.outputs.push_back(Output::Ready);
        }
    }

    fn settle_open(&mut self, outcome: impl Fn() -> Outcome) {
        let Some(mut open) = self.open.take() else {
            return;
        };
        open.settle(outcome);
        let outcomes = open.recipients.into_iter().filter_map(|slot| match slot {
            Slot::Settled(outcome) => Some(outcome),
            Slot::Waiting | Slot::Accepted => None, // `settle` leaves none
        });
        self.outputs.push_back(Output::Done(outcomes.collect()));
    }

    /// How far the open transaction is, for one that is lost now. Once all of the message is written, only an answer
    /// could tell whether the server has it; before that it has no end, and so no message.
    fn stage_lost(&self) -> Stage {
        let awaited = self.awaited.front().copied().unwrap_or(Awaited::Mail);
        match &self.open {
            Some(open) if open.sent && (open.chunked || awaited == Awaited::End) => Stage::End,
            _ if awaited == Awaited::End => Stage::Data,
            _ => stage_of(awaited),
        }
    }

    fn recipient_command(&self, to: &Mailbox, parameters: &RecipientParameters) -> Vec<u8> {
        let mut command = format!("RCPT TO:<{to}>");
        if self.offers.dsn {
            if let Some(notify) = parameters.notify {
                command.push_str(&format!(" NOTIFY={notify}"));
            }
            if let Some(orcpt) = parameters.orcpt.as_deref().filter(|orcpt| orcpt.is_ascii() && is_orcpt(orcpt)) {
                command.push_str(&format!(" ORCPT={orcpt}"));
            }
        }
        command.push_str("\r\n");
        command.into_bytes()
    }

    fn mail_command(
        &self,
        from: Option<&Mailbox>,
        outgoing: &Outgoing,
        ret: Option<Ret>,
        envid: Option<&str>,
        utf8: bool,
    ) -> Vec<u8> {
        let mut command = match from {
            Some(from) => format!("MAIL FROM:<{from}>"),
            None => "MAIL FROM:<>".to_owned(),
        };
        if self.offers.size.is_some() {
            command.push_str(&format!(" SIZE={}", outgoing.size()));
        }
        if self.offers.eight_bit && !outgoing.is_ascii() {
            command.push_str(" BODY=8BITMIME");
        }
        if utf8 {
            command.push_str(" SMTPUTF8");
        }
        if self.offers.dsn {
            if let Some(ret) = ret {
                command.push_str(&format!(" RET={ret}"));
            }
            if let Some(envid) = envid.filter(|envid| envid.is_ascii() && decode_xtext(envid).is_some()) {
                command.push_str(&format!(" ENVID={envid}"));
            }
        }
        command.push_str("\r\n");
        command.into_bytes()
    }

    fn command(&mut self, line: Vec<u8>, awaited: Awaited) {
        self.awaited.push_back(awaited);
        self.send(vec![Piece::Own(line)]);
    }

    fn send(&mut self, pieces: Vec<Piece>) {
        self.outputs.push_back(Output::Send(pieces));
    }

    fn close(&mut self) {
        self.state = State::Closed;
        self.awaited.clear();
        self.writing = Writing::Nothing;
        self.outputs.push_back(Output::Close);
    }
}

impl Open {
    /// Whoever has no outcome yet gets this one.
    fn settle(&mut self, outcome: impl Fn() -> Outcome) {
        for slot in &mut self.recipients {
            if !matches!(slot, Slot::Settled(_)) {
                *slot = Slot::Settled(outcome());
            }
        }
    }
}

impl Offers {
    /// The first line is the server's name.
    fn read(text: &str) -> Offers {
        let mut offers = Offers::default();
        for line in text.split('\n').skip(1) {
            let mut words = line.split_ascii_whitespace();
            match words.next().unwrap_or("").to_ascii_uppercase().as_str() {
                "SIZE" => {
                    offers.size = Some(words.next().and_then(|size| size.parse().ok()).unwrap_or(0));
                }
                "PIPELINING" => offers.pipelining = true,
                "CHUNKING" => offers.chunking = true,
                "DSN" => offers.dsn = true,
                "8BITMIME" => offers.eight_bit = true,
                "SMTPUTF8" => offers.smtputf8 = true,
                "STARTTLS" => offers.starttls = true,
                "AUTH" => {
                    for way in words {
                        offers.auth_plain |= way.eq_ignore_ascii_case("PLAIN");
                        offers.auth_login |= way.eq_ignore_ascii_case("LOGIN");
                    }
                }
                _ => {}
            }
        }
        offers
    }
}

fn stage_of(awaited: Awaited) -> Stage {
    match awaited {
        Awaited::Recipient(_) => Stage::Recipient,
        Awaited::Data => Stage::Data,
        Awaited::End => Stage::End,
        _ => Stage::Mail,
    }
}

fn asks_for_more(reply: &Reply) -> bool {
    reply.code / 100 == 3
}

/// RFC 5321 4.5.3.1.10: 452, and 552 from servers of older days, mean "no more for now" if they say so.
fn is_too_many(reply: &Reply) -> bool {
    let says_so = reply.enhanced.is_some_and(|enhanced| (enhanced.subject, enhanced.detail) == (5, 3))
        || memmem::find(reply.text.to_ascii_lowercase().as_bytes(), b"too many recipients").is_some();
    matches!(reply.code, 452 | 552) && says_so
}

fn lacks_smtputf8() -> Reply {
    Reply::new(553, (5, 6, 7), "The receiving server does not take addresses or headers with characters beyond ASCII")
}

fn content_refusal(fault: ContentFault) -> Reply {
    Reply::new(550, (5, 6, 0), fault.to_string())
}
