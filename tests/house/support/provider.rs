//! How does a mailbox provider behave that does what the test says?
//!
//! What a recipient's local part begins with says what happens to its mail; the rest is a manner of the whole host:
//!
//! | local part | what the host does |
//! | --- | --- |
//! | `grey` | 450 at the first RCPT, then takes it |
//! | `rcpt550` `data550` `dot550` | 550 at that moment, always |
//! | `rcpt421` | 421 and closes at the first RCPT, then takes it |
//! | `dotdrop` | takes the message, closes without an answer; then takes it |
//! | `dothang` | takes the message, never answers; then takes it |
//! | `rst` | resets the connection in the middle of the data; then takes it |
//! | anything else | takes it |

use super::{DEADLINE, until};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How the whole host behaves.
#[derive(Clone, Default)]
pub struct Manner {
    /// Said instead of a greeting; then it closes.
    pub banner: Option<&'static str>,
    /// Accepts connections and says nothing.
    pub silent: bool,
    /// More recipients in one transaction get 452 4.5.3.
    pub recipients_max: Option<usize>,
    /// After so many messages in one connection, the next MAIL gets 421.
    pub messages_max: Option<usize>,
    /// Waits this long before it answers the dot.
    pub slow: Duration,
    pub tls: Tls,
    /// Serves only who says this name and password.
    pub sign_in: Option<(&'static str, &'static str)>,
}

#[derive(Clone, Default)]
pub enum Tls {
    #[default]
    NotOffered,
    /// Offered, agreed to, and then rubbish.
    Broken,
    Works(Arc<ServerConfig>),
}

/// What became of a message here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    Accepted,
    Refused,
    /// Whole, but the peer never got an answer.
    Unanswered,
}

/// A message with all that is known of how it came.
#[derive(Clone, Debug)]
pub struct Received {
    /// What stood in MAIL FROM, without the brackets.
    pub from: String,
    pub to: Vec<String>,
    /// As it was meant: dots unstuffed, lines ended by CRLF.
    pub octets: Vec<u8>,
    pub peer: SocketAddr,
    pub ehlo: String,
    pub tls: bool,
    pub taken: Taken,
    pub at: Instant,
}

impl Received {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.octets).into_owned()
    }

    pub fn body(&self) -> &[u8] {
        let end = self.octets.windows(4).position(|four| four == b"\r\n\r\n");
        &self.octets[end.map_or(self.octets.len(), |end| end + 4)..]
    }

    /// The value of the first field of this name, unfolded.
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers().into_iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub fn headers(&self) -> Vec<(String, String)> {
        let text = self.text();
        let header = text.split("\r\n\r\n").next().unwrap_or_default().replace("\r\n ", " ").replace("\r\n\t", " ");
        let fields = header.split("\r\n").filter_map(|line| line.split_once(':'));
        fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
    }
}

#[derive(Default)]
struct Book {
    manner: Manner,
    received: Vec<Received>,
    /// Recipients whose first surprise is over.
    seen: HashSet<String>,
    connections: usize,
    open: HashMap<usize, Open>,
    cut_short: usize,
    /// What was said to us, in order, with the number of the connection.
    commands: Vec<(usize, String)>,
}

struct Open {
    stream: TcpStream,
    /// From MAIL until the peer shows, by its next command, that it has the answer.
    in_transaction: bool,
}

/// A server at work; it stops when it is dropped.
pub struct FakeProvider {
    address: SocketAddr,
    book: Arc<Mutex<Book>>,
    over: Arc<AtomicBool>,
    door: Option<JoinHandle<()>>,
}

impl FakeProvider {
    pub fn start(address: SocketAddr, manner: Manner) -> FakeProvider {
        let listener = TcpListener::bind(address).unwrap_or_else(|fault| panic!("cannot listen on {address}: {fault}"));
        let book = Arc::new(Mutex::new(Book { manner, ..Book::default() }));
        let over = Arc::new(AtomicBool::new(false));
        let door = std::thread::spawn({
            let (book, over) = (book.clone(), over.clone());
            move || serve(&listener, &book, &over)
        });
        FakeProvider { address, book, over, door: Some(door) }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }

    /// Behaves otherwise from now on, also in connections that are open.
    pub fn change(&self, manner: Manner) {
        self.book().manner = manner;
    }

    pub fn all(&self) -> Vec<Received> {
        self.book().received.clone()
    }

    pub fn count(&self) -> usize {
        self.book().received.len()
    }

    /// Those that one recipient was named on, in the order they came.
    pub fn to(&self, address: &str) -> Vec<Received> {
        let book = self.book();
        book.received.iter().filter(|message| message.to.iter().any(|to| to == address)).cloned().collect()
    }

    /// Reads what is there without a copy of it.
    pub fn look<T>(&self, look: impl FnOnce(&[Received]) -> T) -> T {
        look(&self.book().received)
    }

    pub fn wait_for(&self, count: usize) -> Vec<Received> {
        until(&format!("{} has {count} messages (it has {})", self.address, self.count()), || {
            let book = self.book();
            (book.received.len() >= count).then(|| book.received.clone())
        })
    }

    pub fn wait_for_one_to(&self, address: &str) -> Received {
        until(&format!("mail for {address} is at {}", self.address), || self.to(address).into_iter().next())
    }

    /// Connections that were ever made.
    pub fn connections(&self) -> usize {
        self.book().connections
    }

    pub fn open(&self) -> usize {
        self.book().open.len()
    }

    /// Transactions that were open when their connection ended: the peer may not have read the answer.
    pub fn cut_short(&self) -> usize {
        self.book().cut_short
    }

    /// Commands that begin with these words, ever.
    pub fn heard(&self, words: &str) -> usize {
        self.book().commands.iter().filter(|(_, command)| command.starts_with(words)).count()
    }

    pub fn commands(&self) -> Vec<(usize, String)> {
        self.book().commands.clone()
    }
}

impl Drop for FakeProvider {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // Wakes the door.
        let _ = TcpStream::connect(self.address);
        if let Some(door) = self.door.take() {
            let _ = door.join();
        }
        for open in self.book().open.values() {
            let _ = open.stream.shutdown(Shutdown::Both);
        }
    }
}

fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(listener: &TcpListener, book: &Arc<Mutex<Book>>, over: &AtomicBool) {
    loop {
        let Ok((stream, peer)) = listener.accept() else { continue };
        if over.load(Ordering::SeqCst) {
            return;
        }
        let Ok(kept) = stream.try_clone() else { continue };
        let number = {
            let mut book = lock(book);
            book.connections += 1;
            let number = book.connections;
            book.open.insert(number, Open { stream: kept, in_transaction: false });
            number
        };
        let book = book.clone();
        std::thread::spawn(move || {
            let _ = Talk::new(stream, peer, number, &book).run();
            let mut book = lock(&book);
            let open = book.open.remove(&number);
            book.cut_short += usize::from(open.is_some_and(|open| open.in_transaction));
        });
    }
}

enum Line {
    Clear(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

struct Talk<'a> {
    line: Line,
    held: Vec<u8>,
    peer: SocketAddr,
    number: usize,
    book: &'a Mutex<Book>,
    ehlo: String,
    from: String,
    to: Vec<String>,
    messages: usize,
    signed_in: bool,
}

/// How a conversation ends, as an error that `?` carries.
fn over() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

impl<'a> Talk<'a> {
    fn new(stream: TcpStream, peer: SocketAddr, number: usize, book: &'a Mutex<Book>) -> Talk<'a> {
        let _ = stream.set_nodelay(true);
        let _ = stream.set_read_timeout(Some(4 * DEADLINE));
        Talk {
            line: Line::Clear(stream),
            held: Vec::new(),
            peer,
            number,
            book,
            ehlo: String::new(),
            from: String::new(),
            to: Vec::new(),
            messages: 0,
            signed_in: false,
        }
    }

    fn run(mut self) -> io::Result<()> {
        let manner = self.manner();
        if manner.silent {
            return self.wait_until_the_peer_leaves();
        }
        if let Some(banner) = manner.banner {
            self.say(banner)?;
            return self.wait_until_the_peer_leaves();
        }
        self.say("220 mx.fake.test ESMTP")?;
        loop {
            let command = String::from_utf8_lossy(&self.next_line()?).into_owned();
            {
                let mut book = lock(self.book);
                book.commands.push((self.number, command.clone()));
                if let Some(open) = book.open.get_mut(&self.number) {
                    open.in_transaction &= !self.from.is_empty() || !self.to.is_empty();
                }
            }
            self.obey(&command)?;
        }
    }

    fn obey(&mut self, command: &str) -> io::Result<()> {
        let manner = self.manner();
        let (verb, rest) = command.split_once([' ', ':']).unwrap_or((command, ""));
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" | "HELO" => {
                self.ehlo = rest.trim().to_owned();
                let offers = !matches!(manner.tls, Tls::NotOffered) && matches!(self.line, Line::Clear(_));
                let tls = if offers { "250-STARTTLS\r\n" } else { "" };
                let auth = if manner.sign_in.is_some() { "250-AUTH LOGIN PLAIN\r\n" } else { "" };
                self.say(&format!(
                    "250-mx.fake.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n{tls}{auth}250 SIZE 52428800"
                ))
            }
            "AUTH" => {
                let known = |(user, password)| format!("PLAIN {}", STANDARD.encode(format!("\0{user}\0{password}")));
                self.signed_in = manner.sign_in.map(known).as_deref() == Some(rest);
                self.say(if self.signed_in {
                    "235 2.7.0 Welcome"
                } else {
                    "535 5.7.8 Authentication credentials invalid"
                })
            }
            "MAIL" if manner.sign_in.is_some() && !self.signed_in => self.say("530 5.7.0 Authentication required"),
            "STARTTLS" => self.start_tls(&manner.tls),
            "MAIL" => {
                if manner.messages_max.is_some_and(|max| self.messages >= max) {
                    self.say("421 4.7.0 That is enough for one connection")?;
                    return Err(over());
                }
                if let Some(open) = lock(self.book).open.get_mut(&self.number) {
                    open.in_transaction = true;
                }
                self.from = path(rest);
                self.to.clear();
                self.say("250 2.1.0 Go on")
            }
            "RCPT" => self.recipient(&path(rest), &manner),
            "DATA" if self.to.iter().any(|to| to.starts_with("data550")) => self.refuse("550 5.7.1 Not at DATA"),
            "DATA" if self.to.is_empty() => self.say("554 5.5.1 No recipient was taken"),
            "DATA" => {
                self.say("354 Go on")?;
                self.data(&manner)
            }
            "RSET" => {
                self.forget_transaction();
                self.say("250 2.0.0 Forgotten")
            }
            "QUIT" => {
                self.say("221 2.0.0 Bye")?;
                Err(over())
            }
            "NOOP" => self.say("250 2.0.0 Done"),
            _ => self.say("502 5.5.1 Unknown"),
        }
    }

    fn recipient(&mut self, to: &str, manner: &Manner) -> io::Result<()> {
        if to.starts_with("rcpt550") {
            return self.say("550 5.1.1 No such user here");
        }
        if to.starts_with("grey") && self.first_time(to) {
            return self.say("450 4.7.1 Greylisted, come back later");
        }
        if to.starts_with("rcpt421") && self.first_time(to) {
            self.say("421 4.3.2 Not now")?;
            return Err(over());
        }
        if manner.recipients_max.is_some_and(|max| self.to.len() >= max) {
            return self.say("452 4.5.3 Too many recipients");
        }
        self.to.push(to.to_owned());
        self.say("250 2.1.5 Known")
    }

    fn data(&mut self, manner: &Manner) -> io::Result<()> {
        let surprise = |kind: &str| self.to.iter().find(|to| to.starts_with(kind)).cloned();
        let (reset, drops, hangs) = (surprise("rst"), surprise("dotdrop"), surprise("dothang"));
        if let Some(to) = reset
            && self.first_time(&to)
        {
            self.next_line()?;
            return self.reset();
        }
        let octets = self.message()?;
        if let Some(to) = drops
            && self.first_time(&to)
        {
            self.keep(octets, Taken::Unanswered);
            return Err(over());
        }
        if let Some(to) = hangs
            && self.first_time(&to)
        {
            self.keep(octets, Taken::Unanswered);
            return self.wait_until_the_peer_leaves();
        }
        if self.to.iter().any(|to| to.starts_with("dot550")) {
            self.keep(octets, Taken::Refused);
            return self.refuse("550 5.7.1 Not after the dot");
        }
        if manner.slow > Duration::ZERO {
            std::thread::sleep(manner.slow);
        }
        self.keep(octets, Taken::Accepted);
        self.messages += 1;
        self.forget_transaction();
        self.say("250 2.0.0 Taken")
    }

    /// To the dot, unstuffed.
    fn message(&mut self) -> io::Result<Vec<u8>> {
        let mut octets = Vec::new();
        loop {
            let line = self.next_line()?;
            if line == b"." {
                return Ok(octets);
            }
            octets.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
            octets.extend_from_slice(b"\r\n");
        }
    }

    fn keep(&mut self, octets: Vec<u8>, taken: Taken) {
        let received = Received {
            from: self.from.clone(),
            to: self.to.clone(),
            octets,
            peer: self.peer,
            ehlo: self.ehlo.clone(),
            tls: matches!(self.line, Line::Tls(_)),
            taken,
            at: Instant::now(),
        };
        lock(self.book).received.push(received);
    }

    fn start_tls(&mut self, tls: &Tls) -> io::Result<()> {
        match tls {
            Tls::NotOffered => self.say("502 5.5.1 Not offered"),
            Tls::Broken => {
                self.say("220 2.0.0 Go on")?;
                // Once the peer has begun.
                self.hear()?;
                self.say("This is no handshake at all, and never was one")?;
                self.wait_until_the_peer_leaves()
            }
            Tls::Works(config) => {
                self.say("220 2.0.0 Go on")?;
                let Line::Clear(stream) = &self.line else { return Err(over()) };
                let stream = stream.try_clone()?;
                let connection = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
                self.line = Line::Tls(Box::new(StreamOwned::new(connection, stream)));
                self.held.clear();
                Ok(())
            }
        }
    }

    fn manner(&self) -> Manner {
        lock(self.book).manner.clone()
    }

    fn first_time(&self, to: &str) -> bool {
        lock(self.book).seen.insert(to.to_owned())
    }

    fn refuse(&mut self, words: &str) -> io::Result<()> {
        self.forget_transaction();
        self.say(words)
    }

    fn forget_transaction(&mut self) {
        self.from.clear();
        self.to.clear();
    }

    fn say(&mut self, words: &str) -> io::Result<()> {
        let octets = format!("{words}\r\n").into_bytes();
        match &mut self.line {
            Line::Clear(stream) => stream.write_all(&octets),
            Line::Tls(stream) => stream.write_all(&octets).and_then(|()| stream.flush()),
        }
    }

    /// Strictly to CRLF: a bare CR or LF stays where it is, so that a test sees it.
    fn next_line(&mut self) -> io::Result<Vec<u8>> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.held[searched..].windows(2).position(|two| two == b"\r\n") {
                let line = self.held[..searched + end].to_vec();
                self.held.drain(..searched + end + 2);
                return Ok(line);
            }
            searched = self.held.len().saturating_sub(1);
            self.hear()?;
        }
    }

    fn hear(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 << 10];
        let count = match &mut self.line {
            Line::Clear(stream) => stream.read(&mut buffer),
            Line::Tls(stream) => stream.read(&mut buffer),
        }?;
        if count == 0 {
            return Err(over());
        }
        self.held.extend_from_slice(&buffer[..count]);
        Ok(())
    }

    fn wait_until_the_peer_leaves(&mut self) -> io::Result<()> {
        loop {
            self.hear()?;
        }
    }

    fn reset(&mut self) -> io::Result<()> {
        if let Line::Clear(stream) = &self.line {
            socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))?;
        }
        // The other handle must go first: the last one to close resets.
        lock(self.book).open.remove(&self.number);
        Err(over())
    }
}

/// `FROM:<a@b> SIZE=3` or `TO:<a@b>` to `a@b`.
fn path(rest: &str) -> String {
    let begin = rest.find('<').map_or(0, |at| at + 1);
    let end = rest.find('>').unwrap_or(rest.len());
    rest[begin..end].to_owned()
}
