//! What do we answer a client that brings mail?
//!
//! The session reads octets, keeps to the grammar and the order of commands, and asks its host whatever is not in the
//! standard: who this is, whether this sender or recipient will do, whether the message is taken. One question is open
//! at a time, and what the client pipelined behind it waits.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, general_purpose::STANDARD};

use crate::address::Mailbox;
use crate::reply::Reply;
use crate::smtp::command::{self, Chunk, Command, Line, LineReader, MailParameters, RecipientParameters};
use crate::smtp::data::{ContentFault, Decoder, Progress, received_max};

#[derive(Clone, Debug)]
pub struct Settings {
    /// Our name, in the banner and the greeting.
    pub host: String,
    pub size_max: u64,
    pub recipients_max: u32,
    /// Octets of a command line with its CRLF. RFC 5321 asks for 512, with all extensions offered here about 2,000.
    pub command_line_max: usize,
    /// Errors of the client that are borne; the next one ends the session with 421.
    pub errors_max: u32,
    pub auth: Auth,
    pub auth_required: bool,
    pub starttls: bool,
    /// Received fields that a message may bear. The host counts them, with `message`.
    pub hops_max: u32,
}

/// When AUTH is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    Never,
    UnderTls,
    Always,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    Send(Vec<u8>),
    /// Start the handshake once everything before this is written, then call `tls_started`.
    StartTls,
    Ask(Question),
    /// Close once everything before this is written.
    Close,
}

#[derive(PartialEq, Eq)]
pub enum Question {
    Authenticate {
        user: String,
        password: String,
    },
    Mail {
        from: Option<Mailbox>,
        parameters: MailParameters,
    },
    Recipient {
        to: Mailbox,
        parameters: RecipientParameters,
    },
    /// May the message come? Its size, if the client announced one.
    Data {
        size: Option<u64>,
    },
    /// The message is whole. Yes is a promise: it is kept safe from here on.
    Message(Box<Submission>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Yes,
    YesSaying(Reply),
    /// A refusal with code 421 also ends the session.
    Refuse(Reply),
}

/// A message with its envelope, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    pub ehlo: String,
    pub user: Option<String>,
    pub tls: bool,
    pub from: Option<Mailbox>,
    pub parameters: MailParameters,
    pub recipients: Vec<(Mailbox, RecipientParameters)>,
    /// Lines that all end with CRLF, without stuffed dots.
    pub body: Vec<u8>,
}

/// One connection of a client.
#[derive(Debug)]
pub struct Session {
    settings: Arc<Settings>,
    tls: bool,
    mode: Mode,
    lines: LineReader,
    /// Octets that wait behind an open question, from `input_at` on.
    input: Vec<u8>,
    input_at: usize,
    outputs: VecDeque<Output>,
    asked: Option<Asked>,
    hello: Option<String>,
    user: Option<String>,
    transaction: Option<Transaction>,
    errors: u32,
    shutting_down: Option<Reply>,
}

/// What the next octets are.
#[derive(Debug)]
enum Mode {
    Command,
    Auth(AuthStep),
    Data(Decoder),
    Chunk {
        remaining: u64,
        last: bool,
        refusal: Option<Reply>,
    },
    /// TLS is being started; octets that come now came in clear.
    Handshake,
    Closed,
}

#[derive(Debug)]
enum AuthStep {
    Plain,
    LoginUser,
    LoginPassword { user: String },
}

/// What to remember while the host thinks.
#[derive(Debug)]
enum Asked {
    Authenticate { user: String },
    Mail { from: Option<Mailbox>, parameters: MailParameters },
    Recipient { to: Mailbox, parameters: RecipientParameters },
    Data,
    FirstChunk,
    Message,
}

#[derive(Debug)]
struct Transaction {
    from: Option<Mailbox>,
    parameters: MailParameters,
    recipients: Vec<(Mailbox, RecipientParameters)>,
    chunks: Chunks,
}

#[derive(Debug)]
enum Chunks {
    None,
    Open(Decoder),
    /// Every further chunk gets the same answer, so that a client learns the reason whichever answer it looks at.
    Refused(Reply),
}

impl Session {
    /// The first output is the banner.
    pub fn new(settings: Arc<Settings>, tls_already: bool) -> Session {
        let banner = Reply::plain(220, format!("{} ESMTP", settings.host));
        let mut session = Session {
            settings,
            tls: tls_already,
            mode: Mode::Command,
            lines: LineReader::default(),
            input: Vec::new(),
            input_at: 0,
            outputs: VecDeque::new(),
            asked: None,
            hello: None,
            user: None,
            transaction: None,
            errors: 0,
            shutting_down: None,
        };
        session.say(&banner);
        session
    }

    pub fn receive(&mut self, bytes: &[u8]) {
        match self.mode {
            Mode::Closed => return,
            Mode::Handshake if bytes.is_empty() => return,
            // CVE-2011-0411: this came in clear.
            Mode::Handshake => return self.close(),
            _ => {}
        }
        if self.asked.is_some() {
            self.input.extend_from_slice(bytes);
            return;
        }
        let mut rest = bytes;
        self.advance(&mut rest);
        self.input.extend_from_slice(rest);
    }

    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Answers the one open question. Without one it does nothing.
    pub fn answer(&mut self, answer: Answer) {
        let Some(asked) = self.asked.take() else {
            return;
        };
        // Nobody is asked to send a message that would not be read.
        let unsaid = self.shutting_down.is_some() && matches!(asked, Asked::Data | Asked::FirstChunk);
        if !unsaid {
            self.answered(asked, answer);
        }
        if let Some(reply) = self.shutting_down.take() {
            return self.close_saying(&reply);
        }
        let mut input = std::mem::take(&mut self.input);
        let mut rest = &input[self.input_at..];
        self.advance(&mut rest);
        self.input_at = input.len() - rest.len();
        // A client that never stops pipelining must not make this grow.
        if self.input_at * 2 >= input.len() {
            input.drain(..self.input_at);
            self.input_at = 0;
        }
        self.input = input;
    }

    /// The handshake is done: everything learnt in clear is forgotten. The host hands clear octets that it had already
    /// read to `receive` before this; there they end the session (CVE-2011-0411).
    pub fn tls_started(&mut self) {
        if !matches!(self.mode, Mode::Handshake) {
            return;
        }
        self.tls = true;
        self.mode = Mode::Command;
        self.hello = None;
        self.user = None;
        self.transaction = None;
    }

    /// Ends the session at the next safe moment: now, or with the answer that is being thought about.
    pub fn shut_down(&mut self, reply: Reply) {
        match self.mode {
            Mode::Closed => {}
            Mode::Handshake => self.close(),
            _ if self.asked.is_some() => self.shutting_down = Some(reply),
            _ => self.close_saying(&reply),
        }
    }

    /// True while a question is open: the host need not read.
    pub fn asking(&self) -> bool {
        self.asked.is_some()
    }

    /// True while a message is coming in.
    pub fn in_data(&self) -> bool {
        matches!(self.mode, Mode::Data(_) | Mode::Chunk { .. })
    }

    /// Octets held for this client.
    pub fn buffered(&self) -> usize {
        let chunks = match self.transaction.as_ref().map(|transaction| &transaction.chunks) {
            Some(Chunks::Open(decoder)) => decoder.buffered(),
            _ => 0,
        };
        let data = match &self.mode {
            Mode::Data(decoder) => decoder.buffered(),
            _ => 0,
        };
        self.input.len() + self.lines.held() + chunks + data
    }

    /// Takes steps until one needs more octets, an answer, or a handshake.
    fn advance(&mut self, input: &mut &[u8]) {
        while self.asked.is_none() && self.step(input) {}
    }

    fn step(&mut self, input: &mut &[u8]) -> bool {
        match &mut self.mode {
            Mode::Command | Mode::Auth(_) => self.step_line(input),
            Mode::Data(decoder) => {
                let progress = decoder.receive(input);
                self.data_progressed(progress)
            }
            Mode::Chunk { .. } => self.step_chunk(input),
            Mode::Handshake | Mode::Closed => {
                *input = &[];
                false
            }
        }
    }

    fn step_line(&mut self, input: &mut &[u8]) -> bool {
        let in_auth = matches!(self.mode, Mode::Auth(_));
        let Some(line) = self.lines.take(input, self.settings.command_line_max, in_auth) else {
            return false;
        };
        match line {
            Line::Whole(line) => {
                match std::mem::replace(&mut self.mode, Mode::Command) {
                    Mode::Auth(step) => self.auth_line(step, &line),
                    _ => self.command_line(&line, input),
                }
                self.lines.give_back(line);
            }
            Line::Unclean => {
                self.mode = Mode::Command;
                self.fail(&Reply::new(
                    500,
                    (5, 5, 2),
                    "Lines must end with CR LF, and hold no CR, LF or NUL otherwise",
                ));
            }
            Line::TooLong => {
                self.mode = Mode::Command;
                self.fail(&Reply::new(500, (5, 5, 2), "This line is too long"));
            }
            Line::Endless => {
                self.close_saying(&Reply::new(421, (4, 5, 2), "This line is far too long; closing the connection"));
            }
        }
        true
    }

    fn command_line(&mut self, line: &[u8], behind: &[u8]) {
        let command = match command::parse(line, &self.settings.host) {
            Ok(command) => command,
            Err(reply) => return self.fail(&reply),
        };
        match command {
            Command::Ehlo(name) => self.ehlo(name),
            Command::Helo(name) => {
                self.greet(name);
                self.say(&Reply::plain(250, self.settings.host.clone()));
            }
            Command::Auth { mechanism, initial } => self.auth(&mechanism, initial.as_deref()),
            Command::StartTls => self.start_tls(behind),
            Command::Mail { from, parameters } => self.mail(from, parameters),
            Command::Recipient { to, parameters } => self.recipient(to, parameters, line.is_ascii()),
            Command::Data => self.data(),
            Command::Bdat(Some(chunk)) => self.chunk(chunk),
            Command::Bdat(None) => {
                self.close_saying(&Reply::new(
                    501,
                    (5, 5, 4),
                    "The size of this chunk can't be read, so where it ends is not known; closing the connection",
                ));
            }
            Command::Reset => {
                self.transaction = None;
                self.say(&Reply::new(250, (2, 0, 0), "Forgotten"));
            }
            Command::Noop => self.say(&Reply::new(250, (2, 0, 0), "Ok")),
            Command::Verify => {
                self.say(&Reply::new(252, (2, 5, 2), "Addresses are not confirmed here; send the message and see"));
            }
            Command::Expand => self.fail(&Reply::new(502, (5, 5, 1), "Lists are not shown here")),
            Command::Help => self.say(&Reply::new(
                214,
                (2, 0, 0),
                "EHLO HELO STARTTLS AUTH MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT\nsee RFC 5321",
            )),
            Command::Quit => self.close_saying(&Reply::new(221, (2, 0, 0), "Goodbye")),
        }
    }

    fn greet(&mut self, name: String) {
        self.hello = Some(name);
        self.transaction = None;
    }

    fn ehlo(&mut self, name: String) {
        let mut lines = format!(
            "{} greets {name}\nPIPELINING\nSIZE {}\n8BITMIME\nSMTPUTF8\nCHUNKING\nDSN\nENHANCEDSTATUSCODES",
            self.settings.host, self.settings.size_max
        );
        if self.settings.starttls && !self.tls {
            lines.push_str("\nSTARTTLS");
        }
        if self.auth_allowed() && self.user.is_none() {
            lines.push_str("\nAUTH PLAIN LOGIN");
        }
        self.greet(name);
        self.say(&Reply::plain(250, lines));
    }

    fn start_tls(&mut self, behind: &[u8]) {
        if self.tls {
            return self.fail(&Reply::new(503, (5, 5, 1), "TLS is already in use"));
        }
        if !self.settings.starttls {
            return self.fail(&Reply::new(502, (5, 5, 1), "STARTTLS is not offered here"));
        }
        if !behind.is_empty() {
            // CVE-2011-0411: what is written in clear behind STARTTLS could pass for what came under TLS.
            return self.close_saying(&Reply::new(
                554,
                (5, 5, 1),
                "Nothing may be sent behind STARTTLS before its answer; closing the connection",
            ));
        }
        self.say(&Reply::new(220, (2, 0, 0), "Start TLS now"));
        self.outputs.push_back(Output::StartTls);
        self.mode = Mode::Handshake;
    }

    fn auth_allowed(&self) -> bool {
        match self.settings.auth {
            Auth::Never => false,
            Auth::UnderTls => self.tls,
            Auth::Always => true,
        }
    }

    fn auth(&mut self, mechanism: &str, initial: Option<&str>) {
        if self.settings.auth == Auth::Never {
            return self.fail(&Reply::new(502, (5, 5, 1), "AUTH is not offered here"));
        }
        if self.hello.is_none() {
            return self.fail(&hello_first());
        }
        if !self.auth_allowed() {
            return self.fail(&Reply::new(538, (5, 7, 11), "Sign in under TLS only: send STARTTLS first"));
        }
        if self.user.is_some() || self.transaction.is_some() {
            return self.fail(&Reply::new(503, (5, 5, 1), "AUTH comes once, before MAIL"));
        }
        let (step, prompt) = match mechanism {
            "PLAIN" => (AuthStep::Plain, ""),
            "LOGIN" => (AuthStep::LoginUser, "Username:"),
            _ => {
                return self.fail(&Reply::new(504, (5, 5, 4), "This mechanism is not offered; use PLAIN or LOGIN"));
            }
        };
        match initial {
            Some(initial) => self.auth_line(step, initial.as_bytes()),
            None => self.prompt(step, prompt),
        }
    }

    fn prompt(&mut self, step: AuthStep, text: &str) {
        self.say(&Reply::plain(334, STANDARD.encode(text)));
        self.mode = Mode::Auth(step);
    }

    fn auth_line(&mut self, step: AuthStep, line: &[u8]) {
        if line == b"*" {
            return self.fail(&Reply::new(501, (5, 7, 0), "Signing in was cancelled"));
        }
        // RFC 4954 4: a lone "=" is an empty response.
        let line = if line == b"=" { b"" } else { line };
        let Some(text) = LENIENT.decode(line).ok().and_then(|octets| String::from_utf8(octets).ok()) else {
            return self.fail(&Reply::new(501, (5, 5, 2), "This response is not Base64 of UTF-8 text"));
        };
        match step {
            AuthStep::LoginUser => self.prompt(AuthStep::LoginPassword { user: text }, "Password:"),
            AuthStep::LoginPassword { user } => self.authenticate(user, text),
            AuthStep::Plain => {
                let mut parts = text.split('\0');
                match (parts.next(), parts.next(), parts.next(), parts.next()) {
                    (Some(whose), Some(user), Some(password), None) if whose.is_empty() || whose == user => {
                        self.authenticate(user.to_owned(), password.to_owned());
                    }
                    (Some(_), Some(_), Some(_), None) => {
                        self.fail(&Reply::new(
                            535,
                            (5, 7, 8),
                            "Acting for another user is not offered; leave that name empty",
                        ));
                    }
                    _ => self.fail(&Reply::new(
                        501,
                        (5, 5, 2),
                        "A PLAIN response holds a name, NUL, a name, NUL, a password",
                    )),
                }
            }
        }
    }

    fn authenticate(&mut self, user: String, password: String) {
        if user.is_empty() || user.contains(char::is_control) || password.contains('\0') {
            return self.fail(&Reply::new(535, (5, 7, 8), "The user name or the password is not valid"));
        }
        self.ask(Asked::Authenticate { user: user.clone() }, Question::Authenticate { user, password });
    }

    fn mail(&mut self, from: Option<Mailbox>, parameters: MailParameters) {
        if self.hello.is_none() {
            return self.fail(&hello_first());
        }
        if self.transaction.is_some() {
            return self.fail(&Reply::new(503, (5, 5, 1), "A message is already begun; send RSET to drop it"));
        }
        if self.settings.auth_required && self.user.is_none() {
            let text = match self.auth_allowed() {
                true => "Sign in first, with AUTH",
                false => "Sign in first: send STARTTLS, then AUTH",
            };
            return self.fail(&Reply::new(530, (5, 7, 0), text));
        }
        if parameters.require_tls && !self.tls {
            return self.fail(&Reply::new(530, (5, 7, 10), "REQUIRETLS can be asked for under TLS only"));
        }
        if parameters.size.is_some_and(|size| size > self.settings.size_max) {
            return self.say(&self.too_large());
        }
        self.ask(
            Asked::Mail { from: from.clone(), parameters: parameters.clone() },
            Question::Mail { from, parameters },
        );
    }

    fn recipient(&mut self, to: Mailbox, parameters: RecipientParameters, ascii: bool) {
        let Some(transaction) = &self.transaction else {
            return self.fail(&Reply::new(503, (5, 5, 1), "Name the sender first, with MAIL FROM"));
        };
        if !matches!(transaction.chunks, Chunks::None) {
            return self.fail(&Reply::new(503, (5, 5, 1), "The message has begun; it takes no more recipients"));
        }
        if !ascii && !transaction.parameters.smtputf8 {
            return self.fail(&command::needs_smtputf8());
        }
        if transaction.recipients.len() >= self.settings.recipients_max as usize {
            let text = format!(
                "Too many recipients: a message takes {}; send it again to the others",
                self.settings.recipients_max
            );
            return self.say(&Reply::new(452, (4, 5, 3), text));
        }
        self.ask(
            Asked::Recipient { to: to.clone(), parameters: parameters.clone() },
            Question::Recipient { to, parameters },
        );
    }

    fn data(&mut self) {
        match &self.transaction {
            None => self.fail(&Reply::new(503, (5, 5, 1), "Name the sender first, with MAIL FROM")),
            Some(Transaction { chunks: Chunks::Open(_) | Chunks::Refused(_), .. }) => {
                self.fail(&Reply::new(503, (5, 5, 1), "The message has begun with BDAT and must end with it"));
            }
            Some(transaction) if transaction.recipients.is_empty() => self.say(&no_recipients()),
            Some(transaction) => {
                let size = transaction.parameters.size;
                self.ask(Asked::Data, Question::Data { size });
            }
        }
    }

    /// The octets of a chunk come whatever we think of it, so they are read first and refused after.
    fn chunk(&mut self, chunk: Chunk) {
        if chunk.octets > received_max(self.settings.size_max) {
            return self.close_saying(&self.too_large());
        }
        let (refusal, first) = match &self.transaction {
            None => (Some(Reply::new(503, (5, 5, 1), "Name the sender first, with MAIL FROM")), None),
            Some(transaction) => match &transaction.chunks {
                Chunks::Refused(reply) => (Some(reply.clone()), None),
                Chunks::Open(_) => (None, None),
                Chunks::None if transaction.recipients.is_empty() => (Some(no_recipients()), None),
                Chunks::None => (None, Some(transaction.parameters.size)),
            },
        };
        self.mode = Mode::Chunk { remaining: chunk.octets, last: chunk.last, refusal };
        if let Some(size) = first {
            self.ask(Asked::FirstChunk, Question::Data { size });
        }
    }

    fn step_chunk(&mut self, input: &mut &[u8]) -> bool {
        let Mode::Chunk { remaining, refusal, .. } = &mut self.mode else {
            return false;
        };
        let taken = usize::try_from(*remaining).unwrap_or(usize::MAX).min(input.len());
        let (mut octets, rest) = input.split_at(taken);
        *remaining -= taken as u64;
        *input = rest;
        let more = *remaining > 0;
        if let (None, Some(Transaction { chunks: Chunks::Open(decoder), .. })) = (refusal, &mut self.transaction)
            && decoder.receive(&mut octets) == Progress::Endless
        {
            self.close_saying(&self.endless());
            return true;
        }
        if more {
            return false;
        }
        self.chunk_ended();
        true
    }

    fn chunk_ended(&mut self) {
        let Mode::Chunk { last, refusal, .. } = std::mem::replace(&mut self.mode, Mode::Command) else {
            return;
        };
        let Some(mut transaction) = self.transaction.take() else {
            return self.fail(&refusal.unwrap_or_else(no_recipients));
        };
        let chunks = std::mem::replace(&mut transaction.chunks, Chunks::None);
        let refusal = match (&chunks, refusal) {
            (_, Some(reply)) => Some(reply),
            (Chunks::Open(decoder), None) => decoder.fault().map(|fault| self.content_refusal(fault)),
            (_, None) => None,
        };
        match (chunks, refusal, last) {
            (_, Some(reply), true) => self.say(&reply), // the transaction ends here
            (chunks, Some(reply), false) => {
                self.say(&reply);
                if !matches!(chunks, Chunks::None) {
                    transaction.chunks = Chunks::Refused(reply);
                }
                self.transaction = Some(transaction);
            }
            (Chunks::Open(decoder), None, true) => self.message_ended(transaction, decoder),
            (chunks, None, _) => {
                transaction.chunks = chunks;
                self.transaction = Some(transaction);
                self.say(&Reply::new(250, (2, 0, 0), "The chunk is read"));
            }
        }
    }

    fn data_progressed(&mut self, progress: Progress) -> bool {
        match progress {
            Progress::More => return false,
            Progress::Endless => self.close_saying(&self.endless()),
            Progress::Ended => {
                let mode = std::mem::replace(&mut self.mode, Mode::Command);
                if let (Mode::Data(decoder), Some(transaction)) = (mode, self.transaction.take()) {
                    self.message_ended(transaction, decoder);
                }
            }
        }
        true
    }

    fn message_ended(&mut self, transaction: Transaction, decoder: Decoder) {
        let suspect = decoder.suspect();
        match decoder.finish() {
            Ok(body) => {
                let submission = Submission {
                    ehlo: self.hello.clone().unwrap_or_default(),
                    user: self.user.clone(),
                    tls: self.tls,
                    from: transaction.from,
                    parameters: transaction.parameters,
                    recipients: transaction.recipients,
                    body,
                };
                self.ask(Asked::Message, Question::Message(Box::new(submission)));
            }
            Err(fault) => {
                let reply = self.content_refusal(fault);
                if suspect {
                    self.close_saying(&reply);
                } else {
                    self.say(&reply);
                }
            }
        }
    }

    fn answered(&mut self, asked: Asked, answer: Answer) {
        let (saying, refusal) = match answer {
            Answer::Yes => (None, None),
            Answer::YesSaying(reply) => (Some(reply), None),
            Answer::Refuse(reply) => (None, Some(reply)),
        };
        if let Some(reply) = refusal {
            return self.refused(&asked, &reply);
        }
        let usual = match asked {
            Asked::Authenticate { user } => {
                self.user = Some(user);
                Reply::new(235, (2, 7, 0), "Signed in")
            }
            Asked::Mail { from, parameters } => {
                self.transaction = Some(Transaction { from, parameters, recipients: Vec::new(), chunks: Chunks::None });
                Reply::new(250, (2, 1, 0), "Sender accepted")
            }
            Asked::Recipient { to, parameters } => {
                if let Some(transaction) = &mut self.transaction {
                    transaction.recipients.push((to, parameters));
                }
                Reply::new(250, (2, 1, 5), "Recipient accepted")
            }
            Asked::Data => {
                let announced = self.transaction.as_ref().and_then(|transaction| transaction.parameters.size);
                self.mode = Mode::Data(Decoder::dotted(self.settings.size_max, announced));
                Reply::plain(354, "Send the message, and a dot on a line of its own behind it")
            }
            Asked::FirstChunk => {
                if let Some(transaction) = &mut self.transaction {
                    transaction.chunks = Chunks::Open(Decoder::chunked(self.settings.size_max));
                }
                return; // the chunk itself is answered once it is read
            }
            Asked::Message => Reply::new(250, (2, 0, 0), "Message accepted"),
        };
        self.say(saying.as_ref().unwrap_or(&usual));
    }

    /// What the host refuses is no error of the client, but for a wrong password.
    fn refused(&mut self, asked: &Asked, reply: &Reply) {
        if reply.code == 421 {
            return self.close_saying(reply);
        }
        match asked {
            Asked::Authenticate { .. } => self.fail(reply),
            Asked::FirstChunk => {
                if let Some(transaction) = &mut self.transaction {
                    transaction.chunks = Chunks::Refused(reply.clone());
                }
                if let Mode::Chunk { refusal, .. } = &mut self.mode {
                    *refusal = Some(reply.clone());
                }
            }
            _ => self.say(reply),
        }
    }

    fn content_refusal(&self, fault: ContentFault) -> Reply {
        match fault {
            ContentFault::TooLarge => self.too_large(),
            ContentFault::BareLineEnd | ContentFault::Nul => Reply::new(550, (5, 6, 0), fault.to_string()),
        }
    }

    fn too_large(&self) -> Reply {
        Reply::new(
            552,
            (5, 3, 4),
            format!("The message is too large: {} octets are taken at most", self.settings.size_max),
        )
    }

    fn endless(&self) -> Reply {
        Reply::new(
            421,
            (4, 3, 4),
            format!(
                "The message is far too large: {} octets are taken at most; closing the connection",
                self.settings.size_max
            ),
        )
    }

    fn ask(&mut self, asked: Asked, question: Question) {
        self.asked = Some(asked);
        self.outputs.push_back(Output::Ask(question));
    }

    fn say(&mut self, reply: &Reply) {
        match self.outputs.back_mut() {
            Some(Output::Send(octets)) => reply.write(octets),
            _ => {
                let mut octets = Vec::with_capacity(128);
                reply.write(&mut octets);
                self.outputs.push_back(Output::Send(octets));
            }
        }
    }

    /// Says no to an error of the client, and counts it.
    fn fail(&mut self, reply: &Reply) {
        self.errors += 1;
        if self.errors > self.settings.errors_max {
            return self.close_saying(&Reply::new(421, (4, 7, 0), "Too many errors; closing the connection"));
        }
        self.say(reply);
    }

    fn close_saying(&mut self, reply: &Reply) {
        self.say(reply);
        self.close();
    }

    fn close(&mut self) {
        self.outputs.push_back(Output::Close);
        self.mode = Mode::Closed;
        self.lines = LineReader::default();
        self.transaction = None;
        self.input = Vec::new();
        self.input_at = 0;
    }
}

fn hello_first() -> Reply {
    Reply::new(503, (5, 5, 1), "Say EHLO first")
}

fn no_recipients() -> Reply {
    Reply::new(554, (5, 5, 1), "No recipient was accepted, so there is nobody to send the message to")
}

/// Clients differ about the padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A password is for the host's eyes, not for a log.
impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Question::Authenticate { user, .. } => {
                f.debug_struct("Authenticate").field("user", user).finish_non_exhaustive()
            }
            Question::Mail { from, parameters } => {
                f.debug_struct("Mail").field("from", from).field("parameters", parameters).finish()
            }
            Question::Recipient { to, parameters } => {
                f.debug_struct("Recipient").field("to", to).field("parameters", parameters).finish()
            }
            Question::Data { size } => f.debug_struct("Data").field("size", size).finish(),
            Question::Message(submission) => f.debug_tuple("Message").field(submission).finish(),
        }
    }
}
