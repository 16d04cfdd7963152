//! How fast does a server take mail in, and how long does it let its clients wait?
//!
//! One thread drives all its sessions with one epoll, so that a round trip costs a read and a write and no context switch
//! of its own.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use memchr::{memchr, memmem};
use rustix::event::{Timespec, epoll};
use socket2::{Domain, Socket, Type};

use crate::figures::Figures;
use crate::letter::{Letter, Run};

#[derive(Clone, Debug)]
pub struct Order {
    pub to: SocketAddr,
    pub run: Run,
    pub messages: u64,
    pub sessions: usize,
    pub threads: usize,
    pub size: usize,
    pub connections: Connections,
    /// `%` stands for the number of the message modulo `domains`.
    pub recipients_domain: String,
    pub domains: u64,
    pub from: String,
    /// Messages per second, at fixed moments; as fast as possible without.
    pub rate: Option<f64>,
    /// `user:password` for AUTH PLAIN.
    pub auth: Option<String>,
    /// Gives up when nothing was answered for so long.
    pub patience: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    NewEach,
    KeepOpen,
}

/// What became of the messages.
pub struct Outcome {
    pub began: SystemTime,
    pub seconds: f64,
    pub acknowledged: u64,
    pub refused: u64,
    /// The connection broke, or the server fell silent, before there was an answer.
    pub unanswered: u64,
    /// Connections given up because no greeting came; the message was then begun anew on another.
    pub redials: u64,
    pub last_refusal: Option<String>,
    /// From the final dot to its answer, in microseconds.
    pub ack_us: Vec<u32>,
    /// From the moment the message was due (with a rate) or begun (without) to that answer, in microseconds.
    pub whole_us: Vec<u32>,
}

impl Outcome {
    pub fn figures(&mut self) -> Figures {
        let mut figures = Figures::default();
        figures.count("sent", self.acknowledged + self.refused + self.unanswered);
        figures.count("acknowledged", self.acknowledged);
        figures.count("refused", self.refused);
        figures.count("unanswered", self.unanswered);
        figures.count("redials", self.redials);
        figures.number("seconds", self.seconds);
        figures.number("per_second", self.acknowledged as f64 / self.seconds);
        figures.spread_ms("ack", &mut self.ack_us);
        figures.spread_ms("whole", &mut self.whole_us);
        if let Some(refusal) = &self.last_refusal {
            figures.text("last_refusal", refusal);
        }
        figures
    }

    pub fn absorb(&mut self, other: Outcome) {
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.unanswered += other.unanswered;
        self.redials += other.redials;
        self.last_refusal = self.last_refusal.take().or(other.last_refusal);
        self.ack_us.extend(other.ack_us);
        self.whole_us.extend(other.whole_us);
    }
}

/// Sends all messages of the order.
pub fn generate(order: &Order) -> io::Result<Outcome> {
    let began = SystemTime::now();
    let start = Instant::now();
    let numbers = Numbers { next: AtomicU64::new(0), total: order.messages, start, rate: order.rate };
    let threads = order.threads.clamp(1, order.sessions.max(1));
    let shares = (0..threads).map(|it| order.sessions / threads + usize::from(it < order.sessions % threads));
    let outcomes: Vec<io::Result<Outcome>> = thread::scope(|scope| {
        let numbers = &numbers;
        let threads: Vec<_> =
            shares.map(|share| scope.spawn(move || Driver::new(order, numbers, share)?.drive())).collect();
        threads.into_iter().map(|it| it.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))).collect()
    });
    let mut whole = Outcome { began, ..Outcome::empty() };
    whole.seconds = start.elapsed().as_secs_f64();
    for outcome in outcomes {
        whole.absorb(outcome?);
    }
    Ok(whole)
}

impl Outcome {
    pub fn empty() -> Outcome {
        Outcome {
            began: SystemTime::UNIX_EPOCH,
            seconds: 0.0,
            acknowledged: 0,
            refused: 0,
            unanswered: 0,
            redials: 0,
            last_refusal: None,
            ack_us: Vec::new(),
            whole_us: Vec::new(),
        }
    }
}

/// Hands out the numbers of the messages, each when it is due.
struct Numbers {
    next: AtomicU64,
    total: u64,
    start: Instant,
    rate: Option<f64>,
}

enum Claim {
    /// The number, and since when it has been due.
    Due(u64, Instant),
    Later(Instant),
    Exhausted,
}

impl Numbers {
    fn claim(&self) -> Claim {
        loop {
            let number = self.next.load(Ordering::Relaxed);
            if number >= self.total {
                return Claim::Exhausted;
            }
            let now = Instant::now();
            let due = match self.rate {
                Some(rate) => self.start + Duration::from_secs_f64(number as f64 / rate),
                None => now,
            };
            if due > now {
                return Claim::Later(due);
            }
            if self.next.compare_exchange(number, number + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return Claim::Due(number, due);
            }
        }
    }
}

struct Driver<'a> {
    order: &'a Order,
    numbers: &'a Numbers,
    epoll: OwnedFd,
    sessions: Vec<Session>,
    idle: Vec<usize>,
    letter: Letter,
    outcome: Outcome,
}

struct Session {
    stream: Option<TcpStream>,
    step: Step,
    pipelining: bool,
    number: u64,
    due: Instant,
    dialled: Instant,
    dotted: Instant,
    input: Vec<u8>,
    unwritten: Vec<u8>,
}

const INTEREST: epoll::EventFlags = epoll::EventFlags::IN.union(epoll::EventFlags::RDHUP);

impl Session {
    fn write(&mut self, epoll: &OwnedFd, index: usize, octets: &[u8]) -> io::Result<()> {
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        let count = match stream.write(octets) {
            Ok(count) => count,
            Err(fault) if fault.kind() == ErrorKind::WouldBlock => 0,
            // What the server still said, or that it closed, is told by the next read.
            Err(_) => return Ok(()),
        };
        if count < octets.len() {
            self.unwritten.extend_from_slice(&octets[count..]);
            let interest = INTEREST.union(epoll::EventFlags::OUT);
            epoll::modify(epoll, stream, epoll::EventData::new_u64(index as u64), interest)?;
        }
        Ok(())
    }
}

/// Whose reply comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Banner,
    Hello,
    Auth,
    Mail,
    Recipient,
    Data,
    End,
    Quit,
    Idle,
}

impl Step {
    /// A message is under way, and will be counted.
    fn is_busy(self) -> bool {
        !matches!(self, Step::Quit | Step::Idle)
    }
}

/// Longer than the slowest of greetings, one lost packet on the way included.
const GREETING_PATIENCE: Duration = Duration::from_secs(3);

enum Fate {
    Refused(String),
    Unanswered,
}

impl<'a> Driver<'a> {
    fn new(order: &'a Order, numbers: &'a Numbers, sessions: usize) -> io::Result<Driver<'a>> {
        let now = Instant::now();
        let new = |_| Session {
            stream: None,
            step: Step::Idle,
            pipelining: false,
            number: 0,
            due: now,
            dialled: now,
            dotted: now,
            input: Vec::new(),
            unwritten: Vec::new(),
        };
        Ok(Driver {
            order,
            numbers,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            sessions: (0..sessions).map(new).collect(),
            idle: (0..sessions).rev().collect(),
            letter: Letter::new(
                &order.from,
                &format!("reader@{}", order.recipients_domain.replace('%', "0")),
                order.size,
            ),
            outcome: Outcome::empty(),
        })
    }

    fn drive(mut self) -> io::Result<Outcome> {
        let mut events = Vec::with_capacity(256);
        let mut buffer = vec![0; 8192];
        let mut answered = Instant::now();
        let mut looked = answered;
        loop {
            let mut wake = answered + self.order.patience;
            while let Some(index) = self.idle.last().copied() {
                match self.numbers.claim() {
                    Claim::Due(number, due) => {
                        self.idle.pop();
                        self.start(index, number, due)?;
                    }
                    Claim::Later(due) => {
                        // Waiting for the next due moment is not the server's silence.
                        answered = answered.max(Instant::now().min(due));
                        wake = due;
                        break;
                    }
                    Claim::Exhausted if self.idle.len() == self.sessions.len() => {
                        return Ok(self.farewell());
                    }
                    Claim::Exhausted => break,
                }
            }
            if answered.elapsed() > self.order.patience {
                self.abandon();
                return Ok(self.outcome);
            }
            if looked.elapsed() > GREETING_PATIENCE {
                looked = Instant::now();
                self.redial()?;
            }
            events.clear();
            wake = wake.min(looked + GREETING_PATIENCE);
            let patience = timespec(wake.saturating_duration_since(Instant::now()));
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&patience)) {
                Ok(0) => {}
                Ok(_) => answered = Instant::now(),
                Err(rustix::io::Errno::INTR) => {}
                Err(fault) => return Err(fault.into()),
            }
            for event in &events {
                let (index, flags) = (event.data.u64() as usize, event.flags);
                if flags.contains(epoll::EventFlags::OUT) && !self.sessions[index].unwritten.is_empty() {
                    self.write_on(index)?;
                }
                if flags != epoll::EventFlags::OUT {
                    self.read(index, &mut buffer)?;
                }
            }
        }
    }

    /// Begins a message: on the open connection, or by dialling.
    fn start(&mut self, index: usize, number: u64, due: Instant) -> io::Result<()> {
        let session = &mut self.sessions[index];
        session.number = number;
        session.due = due;
        if session.stream.is_some() {
            return self.begin(index);
        }
        session.step = Step::Banner;
        session.dialled = Instant::now();
        session.input.clear();
        session.unwritten.clear();
        match dial(self.order.to) {
            Ok(stream) => {
                epoll::add(&self.epoll, &stream, epoll::EventData::new_u64(index as u64), INTEREST)?;
                session.stream = Some(stream);
            }
            Err(_) => self.fail(index, Fate::Unanswered),
        }
        Ok(())
    }

    /// Dials anew where no greeting has come. When a server's backlog overflows, the kernel may drop the last packet of a
    /// handshake: the client believes to be connected, the server knows nothing, and each waits for the other.
    fn redial(&mut self) -> io::Result<()> {
        for index in 0..self.sessions.len() {
            let session = &mut self.sessions[index];
            if session.step == Step::Banner && session.dialled.elapsed() > GREETING_PATIENCE {
                session.stream = None;
                let (number, due) = (session.number, session.due);
                self.outcome.redials += 1;
                self.start(index, number, due)?;
            }
        }
        Ok(())
    }

    fn begin(&mut self, index: usize) -> io::Result<()> {
        let session = &mut self.sessions[index];
        session.step = Step::Mail;
        let mut flight = format!("MAIL FROM:<{}>\r\n", self.order.from);
        if session.pipelining {
            flight.push_str(&recipient(self.order, session.number));
            flight.push_str("DATA\r\n");
        }
        self.write(index, flight.as_bytes())
    }

    fn read(&mut self, index: usize, buffer: &mut [u8]) -> io::Result<()> {
        let session = &mut self.sessions[index];
        let Some(stream) = &mut session.stream else {
            return Ok(());
        };
        match stream.read(buffer) {
            Ok(0) => self.closed(index),
            Ok(count) => {
                session.input.extend_from_slice(&buffer[..count]);
                while let Some(reply) = take_reply(&mut self.sessions[index].input) {
                    self.hear(index, &reply)?;
                }
            }
            Err(fault) if fault.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.closed(index),
        }
        Ok(())
    }

    fn hear(&mut self, index: usize, reply: &[u8]) -> io::Result<()> {
        let order = self.order;
        let session = &mut self.sessions[index];
        let wanted = match session.step {
            Step::Data => b'3',
            _ => b'2',
        };
        let welcome = reply.first() == Some(&wanted);
        if !welcome && session.step.is_busy() && session.step != Step::End {
            let refusal = String::from_utf8_lossy(reply).trim_end().to_owned();
            self.fail(index, Fate::Refused(refusal));
            return Ok(());
        }
        match session.step {
            // Nothing of ours is open: a server that says good-bye here will also close, as after QUIT.
            Step::Idle | Step::Quit => Ok(()),
            Step::End => self.answered(index, welcome, reply),
            Step::Banner => {
                session.step = Step::Hello;
                self.write(index, b"EHLO bench.test\r\n")
            }
            Step::Hello => {
                session.pipelining = memmem::find(reply, b"PIPELINING").is_some();
                match &order.auth {
                    Some(auth) => {
                        session.step = Step::Auth;
                        let command = format!(
                            "AUTH PLAIN {}\r\n",
                            base64(format!("\0{}", auth.replacen(':', "\0", 1)).as_bytes())
                        );
                        self.write(index, command.as_bytes())
                    }
                    None => self.begin(index),
                }
            }
            Step::Auth => self.begin(index),
            Step::Mail => {
                session.step = Step::Recipient;
                let command = recipient(order, session.number);
                if session.pipelining { Ok(()) } else { self.write(index, command.as_bytes()) }
            }
            Step::Recipient => {
                session.step = Step::Data;
                if session.pipelining { Ok(()) } else { self.write(index, b"DATA\r\n") }
            }
            Step::Data => {
                session.step = Step::End;
                let number = session.number;
                session.dotted = Instant::now();
                session.write(&self.epoll, index, self.letter.marked(order.run, number))
            }
        }
    }

    /// The answer to the final dot.
    fn answered(&mut self, index: usize, welcome: bool, reply: &[u8]) -> io::Result<()> {
        let session = &mut self.sessions[index];
        if welcome {
            let now = Instant::now();
            self.outcome.acknowledged += 1;
            self.outcome.ack_us.push(micros(now - session.dotted));
            self.outcome.whole_us.push(micros(now - session.due));
        } else {
            self.outcome.refused += 1;
            self.outcome.last_refusal = Some(String::from_utf8_lossy(reply).trim_end().to_owned());
        }
        match self.order.connections {
            Connections::KeepOpen => {
                session.step = Step::Idle;
                self.idle.push(index);
                Ok(())
            }
            Connections::NewEach => {
                session.step = Step::Quit;
                self.write(index, b"QUIT\r\n")
            }
        }
    }

    fn closed(&mut self, index: usize) {
        if self.sessions[index].step.is_busy() {
            return self.fail(index, Fate::Unanswered);
        }
        // An idle session is in the list already.
        if self.sessions[index].step == Step::Quit {
            self.idle.push(index);
        }
        self.hang_up(index);
    }

    fn fail(&mut self, index: usize, fate: Fate) {
        match fate {
            Fate::Refused(reply) => {
                self.outcome.refused += 1;
                self.outcome.last_refusal = Some(reply);
            }
            Fate::Unanswered => self.outcome.unanswered += 1,
        }
        self.idle.push(index);
        self.hang_up(index);
    }

    fn hang_up(&mut self, index: usize) {
        let session = &mut self.sessions[index];
        session.stream = None;
        session.step = Step::Idle;
        session.input.clear();
    }

    fn write(&mut self, index: usize, octets: &[u8]) -> io::Result<()> {
        self.sessions[index].write(&self.epoll, index, octets)
    }

    fn write_on(&mut self, index: usize) -> io::Result<()> {
        let session = &mut self.sessions[index];
        let unwritten = std::mem::take(&mut session.unwritten);
        if let Some(stream) = &session.stream {
            epoll::modify(&self.epoll, stream, epoll::EventData::new_u64(index as u64), INTEREST)?;
        }
        // The final dot is going out only now.
        session.dotted = Instant::now();
        session.write(&self.epoll, index, &unwritten)
    }

    /// The server fell silent: what is under way has no answer, and what was not begun is not sent.
    fn abandon(&mut self) {
        self.outcome.unanswered += self.sessions.iter().filter(|session| session.step.is_busy()).count() as u64;
    }

    /// Leaves the kept connections politely, so that the server does not note as many broken ones.
    fn farewell(mut self) -> Outcome {
        for session in &mut self.sessions {
            if let Some(stream) = &mut session.stream {
                // The measurement is over; whether the good-bye arrives changes nothing in it.
                let _ = stream.write_all(b"QUIT\r\n");
                let _ = stream.set_nonblocking(false);
                let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
                let _ = stream.read(&mut [0; 128]);
            }
        }
        self.outcome
    }
}

fn recipient(order: &Order, number: u64) -> String {
    let domain = order.recipients_domain.replace('%', &(number % order.domains.max(1)).to_string());
    format!("RCPT TO:<reader@{domain}>\r\n")
}

fn dial(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&to.into()) {
        Ok(()) => {}
        Err(fault) if fault.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(fault) => return Err(fault),
    }
    Ok(socket.into())
}

/// The next whole reply, all its lines.
fn take_reply(input: &mut Vec<u8>) -> Option<Vec<u8>> {
    let mut from = 0;
    loop {
        let end = from + memchr(b'\n', &input[from..])? + 1;
        if input.get(from + 3) != Some(&b'-') {
            return Some(input.drain(..end).collect());
        }
        from = end;
    }
}

fn base64(octets: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in octets.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, octet| bits << 8 | u32::from(*octet)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place) & 63) as usize];
            out.push(if place <= group.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

fn timespec(wait: Duration) -> Timespec {
    Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) }
}

fn micros(took: Duration) -> u32 {
    u32::try_from(took.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_taken_whole() {
        let mut input = b"250-a\r\n250 b\r\n354 go\r\n25".to_vec();
        assert_eq!(take_reply(&mut input).as_deref(), Some(&b"250-a\r\n250 b\r\n"[..]));
        assert_eq!(take_reply(&mut input).as_deref(), Some(&b"354 go\r\n"[..]));
        assert_eq!(take_reply(&mut input), None);
        assert_eq!(input, b"25");
    }

    #[test]
    fn base64_has_its_padding() {
        let expected = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("\0user\0pass", "AHVzZXIAcGFzcw==")];
        for (plain, coded) in expected {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn with_a_rate_a_number_is_due_at_its_moment() {
        let start = Instant::now();
        let numbers = Numbers { next: AtomicU64::new(0), total: 2, start, rate: Some(0.001) };
        assert!(matches!(numbers.claim(), Claim::Due(0, due) if due == start));
        assert!(matches!(numbers.claim(), Claim::Later(due) if due == start + Duration::from_secs(1000)));
        let numbers = Numbers { next: AtomicU64::new(2), total: 2, start, rate: None };
        assert!(matches!(numbers.claim(), Claim::Exhausted));
    }
}
