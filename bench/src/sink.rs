//! Where does the mail end, and was all of it there, once?
//!
//! Accepts everything. One thread per listener, each with its own epoll: a blocking thread per connection costs two
//! context switches per round trip, which is what this must not spend while it shares the machine with the server.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use memchr::{memchr, memmem};
use rustix::event::{Timespec, epoll};
use socket2::{Domain, Socket, Type};

use crate::figures::Figures;
use crate::letter::{HEADER_MAX, Run, mark_of};

#[derive(Clone, Debug)]
pub struct Settings {
    pub listen: SocketAddr,
    pub threads: usize,
    pub chunking: bool,
    /// Between the final dot and its answer.
    pub delay: Duration,
    /// Where the raw octets of all messages go, each after a line with its length.
    pub record: Option<PathBuf>,
}

/// A sink that is listening; it ends with the process.
pub struct Sink {
    tally: Arc<Mutex<Tally>>,
}

impl Sink {
    pub fn start(settings: &Settings) -> io::Result<Sink> {
        let record = settings.record.as_ref().map(File::create).transpose()?.map(BufWriter::new);
        let tally = Arc::new(Mutex::new(Tally { record, ..Tally::default() }));
        for _ in 0..settings.threads.max(1) {
            let worker = Worker::new(settings, Arc::clone(&tally))?;
            thread::spawn(move || {
                if let Err(fault) = worker.work() {
                    eprintln!("the sink has stopped: {fault}");
                    std::process::exit(1);
                }
            });
        }
        Ok(Sink { tally })
    }

    /// How many different messages of this run have come in.
    pub fn unique(&self, run: Run) -> u64 {
        self.tally().runs.get(&run).map_or(0, |seen| seen.unique)
    }

    /// How many messages of this run came more than once.
    pub fn duplicates(&self, run: Run) -> u64 {
        self.tally().runs.get(&run).map_or(0, |seen| seen.duplicates)
    }

    pub fn unique_of_all(&self) -> u64 {
        self.tally().runs.values().map(|seen| seen.unique).sum()
    }

    pub fn last_arrival(&self) -> Option<SystemTime> {
        self.tally().last
    }

    /// `expect` is how many different messages were due.
    pub fn figures(&self, expect: Option<u64>) -> io::Result<Figures> {
        let mut tally = self.tally();
        if let Some(record) = &mut tally.record {
            record.flush()?;
        }
        let unique: u64 = tally.runs.values().map(|seen| seen.unique).sum();
        let between = match (tally.first, tally.last) {
            (Some(first), Some(last)) => last.duration_since(first).unwrap_or_default(),
            _ => Duration::ZERO,
        };
        let mut figures = Figures::default();
        figures.count("received", tally.received);
        figures.count("unique", unique);
        figures.count("duplicates", tally.runs.values().map(|seen| seen.duplicates).sum());
        figures.count("unmarked", tally.unmarked);
        figures.count("bytes", tally.bytes);
        figures.number("seconds", between.as_secs_f64());
        figures.count("first_arrival_epoch_ms", epoch_ms(tally.first));
        figures.count("last_arrival_epoch_ms", epoch_ms(tally.last));
        if let Some(expect) = expect {
            figures.count("expected", expect);
            figures.count("missing", expect.saturating_sub(unique));
        }
        if let [seen] = tally.runs.values().collect::<Vec<_>>()[..] {
            let due = expect.unwrap_or(seen.highest + 1);
            figures.counts("first_missing", &seen.first_missing(due, 20));
        }
        Ok(figures)
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Tally {
    received: u64,
    unmarked: u64,
    bytes: u64,
    first: Option<SystemTime>,
    last: Option<SystemTime>,
    runs: HashMap<Run, Seen>,
    record: Option<BufWriter<File>>,
}

impl Tally {
    fn arrived(&mut self, mark: Option<(Run, u64)>, bytes: u64, octets: &[u8]) -> io::Result<()> {
        let now = SystemTime::now();
        self.first.get_or_insert(now);
        self.last = Some(now);
        self.received += 1;
        self.bytes += bytes;
        match mark {
            Some((run, number)) => self.runs.entry(run).or_default().note(number),
            None => self.unmarked += 1,
        }
        if let Some(record) = &mut self.record {
            writeln!(record, "{}", octets.len())?;
            record.write_all(octets)?;
        }
        Ok(())
    }
}

/// Which numbers of one run have come, one bit each.
#[derive(Default)]
struct Seen {
    numbers: Vec<u64>,
    highest: u64,
    unique: u64,
    duplicates: u64,
}

/// A mark beyond this did not come from the generator; it would cost memory by its mere size.
const NUMBER_MAX: u64 = 1 << 32;

impl Seen {
    fn note(&mut self, number: u64) {
        if number >= NUMBER_MAX {
            return;
        }
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if word >= self.numbers.len() {
            self.numbers.resize(word + 1, 0);
        }
        self.highest = self.highest.max(number);
        if self.numbers[word] & bit == 0 {
            self.numbers[word] |= bit;
            self.unique += 1;
        } else {
            self.duplicates += 1;
        }
    }

    fn first_missing(&self, due: u64, most: usize) -> Vec<u64> {
        let bit =
            |number: u64| self.numbers.get((number / 64) as usize).is_some_and(|word| word >> (number % 64) & 1 == 1);
        (0..due).filter(|number| !bit(*number)).take(most).collect()
    }
}

fn epoch_ms(moment: Option<SystemTime>) -> u64 {
    moment.and_then(|moment| moment.duration_since(UNIX_EPOCH).ok()).map_or(0, |since| since.as_millis() as u64)
}

const LISTENER: u64 = u64::MAX;
const READ_SIZE: usize = 128 * 1024;
const LINE_MAX: usize = 4096;

struct Worker {
    listener: TcpListener,
    epoll: OwnedFd,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// Whose answer is due when; in order, because the delay is the same for all.
    held: VecDeque<(Instant, usize, u64)>,
    generation: u64,
    delay: Duration,
    host: Host,
}

impl Worker {
    fn new(settings: &Settings, tally: Arc<Mutex<Tally>>) -> io::Result<Worker> {
        let socket = Socket::new(Domain::for_address(settings.listen), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(settings.threads > 1)?;
        socket.bind(&settings.listen.into())?;
        socket.listen(4096)?;
        socket.set_nonblocking(true)?;
        let listener = TcpListener::from(socket);
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
        let mut hello = "250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n".to_owned();
        if settings.chunking {
            hello.push_str("250-CHUNKING\r\n");
        }
        hello.push_str("250 SIZE 104857600\r\n");
        let host = Host {
            tally,
            hello,
            chunking: settings.chunking,
            recording: settings.record.is_some(),
            end: memmem::Finder::new(b"\r\n.\r\n"),
        };
        Ok(Worker {
            listener,
            epoll,
            connections: Vec::new(),
            free: Vec::new(),
            held: VecDeque::new(),
            generation: 0,
            delay: settings.delay,
            host,
        })
    }

    fn work(mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(256);
        let mut buffer = vec![0; READ_SIZE];
        loop {
            let patience = self.held.front().map(|(due, _, _)| timespec(due.saturating_duration_since(Instant::now())));
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), patience.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(fault) => return Err(fault.into()),
            }
            for event in &events {
                match event.data.u64() {
                    LISTENER => self.accept()?,
                    index => self.serve(index as usize, &mut buffer)?,
                }
            }
            self.release()?;
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(fault) if fault.kind() == ErrorKind::WouldBlock => return Ok(()),
                // The peer went away while it was waiting.
                Err(fault) if fault.kind() == ErrorKind::ConnectionAborted => continue,
                Err(fault) => return Err(fault),
            };
            stream.set_nonblocking(true)?;
            let index = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            epoll::add(
                &self.epoll,
                &stream,
                epoll::EventData::new_u64(index as u64),
                epoll::EventFlags::IN | epoll::EventFlags::RDHUP,
            )?;
            self.generation += 1;
            let mut connection = Connection::new(stream, self.generation);
            let greeted = connection.stream.write_all(b"220 sink.test ESMTP\r\n").is_ok();
            self.connections[index] = Some(connection);
            if !greeted {
                self.close(index);
            }
        }
    }

    /// Reads what is there and answers it with one write.
    fn serve(&mut self, index: usize, buffer: &mut [u8]) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(index).and_then(Option::as_mut) else {
            return Ok(());
        };
        let count = match connection.stream.read(buffer) {
            Ok(count) => count,
            Err(fault) if fault.kind() == ErrorKind::WouldBlock => return Ok(()),
            // A connection that breaks is closed like one that ends.
            Err(_) => 0,
        };
        if count == 0 {
            self.close(index);
            return Ok(());
        }
        if connection.held {
            connection.stash.extend_from_slice(&buffer[..count]);
            return Ok(());
        }
        self.digest(index, &buffer[..count])
    }

    fn digest(&mut self, index: usize, bytes: &[u8]) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(index).and_then(Option::as_mut) else {
            return Ok(());
        };
        let mut out = Vec::with_capacity(256);
        let mut rest = bytes;
        while (!rest.is_empty() || connection.is_at_end_of_chunk()) && !connection.held && !connection.leaving {
            let arrived = connection.take(&mut rest, &self.host, &mut out)?;
            if arrived && !self.delay.is_zero() {
                connection.held = true;
                connection.stash = rest.to_vec();
                self.held.push_back((Instant::now() + self.delay, index, connection.generation));
            } else if arrived {
                out.extend_from_slice(ACCEPTED);
            }
        }
        // Answers are a few octets: a peer that lets even those pile up until the socket is full is dropped.
        let written = out.is_empty() || connection.stream.write_all(&out).is_ok();
        if !written || connection.leaving {
            self.close(index);
        }
        Ok(())
    }

    /// Gives the answers whose delay is over, and reads on behind them.
    fn release(&mut self) -> io::Result<()> {
        while let Some((due, index, generation)) = self.held.front().copied() {
            if due > Instant::now() {
                return Ok(());
            }
            self.held.pop_front();
            let Some(connection) = self.connections[index].as_mut().filter(|it| it.generation == generation) else {
                continue;
            };
            connection.held = false;
            let stash = std::mem::take(&mut connection.stash);
            if connection.stream.write_all(ACCEPTED).is_err() {
                self.close(index);
            } else {
                self.digest(index, &stash)?;
            }
        }
        Ok(())
    }

    fn close(&mut self, index: usize) {
        if self.connections[index].take().is_some() {
            self.free.push(index);
        }
    }
}

fn timespec(wait: Duration) -> Timespec {
    Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) }
}

const ACCEPTED: &[u8] = b"250 2.0.0 Ok\r\n";

/// What all connections of a worker share.
struct Host {
    tally: Arc<Mutex<Tally>>,
    hello: String,
    chunking: bool,
    recording: bool,
    end: memmem::Finder<'static>,
}

enum Mode {
    Command,
    /// Until the final dot; with the last octets before, because it may come in pieces.
    Data(Vec<u8>),
    Chunk {
        left: u64,
        last: bool,
    },
}

struct Connection {
    stream: TcpStream,
    generation: u64,
    mode: Mode,
    line: Vec<u8>,
    head: Vec<u8>,
    octets: Vec<u8>,
    mark: Option<(Run, u64)>,
    bytes: u64,
    held: bool,
    stash: Vec<u8>,
    leaving: bool,
}

impl Connection {
    fn new(stream: TcpStream, generation: u64) -> Connection {
        Connection {
            stream,
            generation,
            mode: Mode::Command,
            line: Vec::new(),
            head: Vec::new(),
            octets: Vec::new(),
            mark: None,
            bytes: 0,
            held: false,
            stash: Vec::new(),
            leaving: false,
        }
    }

    /// Takes the next piece that belongs together; true when it ended a message.
    fn take(&mut self, rest: &mut &[u8], host: &Host, out: &mut Vec<u8>) -> io::Result<bool> {
        match &mut self.mode {
            Mode::Command => {
                self.command(rest, host, out);
                Ok(false)
            }
            Mode::Data(tail) => {
                let end = end_of_data(&host.end, tail, rest);
                let (piece, behind) = rest.split_at(end.unwrap_or(rest.len()));
                *rest = behind;
                self.body(piece, host);
                match end {
                    Some(_) => self.arrived(host).map(|()| true),
                    None => Ok(false),
                }
            }
            Mode::Chunk { left, last } => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                *left -= length as u64;
                let (done, last) = (*left == 0, *last);
                let (piece, behind) = rest.split_at(length);
                *rest = behind;
                self.body(piece, host);
                if done && last {
                    return self.arrived(host).map(|()| true);
                }
                if done {
                    out.extend_from_slice(ACCEPTED);
                    self.mode = Mode::Command;
                }
                Ok(false)
            }
        }
    }

    /// `BDAT 0 LAST` ends a message without another octet.
    fn is_at_end_of_chunk(&self) -> bool {
        matches!(self.mode, Mode::Chunk { left: 0, .. })
    }

    fn command(&mut self, rest: &mut &[u8], host: &Host, out: &mut Vec<u8>) {
        let Some(end) = memchr(b'\n', rest) else {
            self.line.extend_from_slice(rest);
            *rest = &[];
            self.leaving = self.line.len() > LINE_MAX;
            return;
        };
        self.line.extend_from_slice(&rest[..end]);
        *rest = &rest[end + 1..];
        let verb = self.line.get(..4).unwrap_or(&self.line).to_ascii_uppercase();
        match &verb[..] {
            b"EHLO" => out.extend_from_slice(host.hello.as_bytes()),
            b"HELO" => out.extend_from_slice(b"250 sink.test\r\n"),
            b"MAIL" | b"RCPT" | b"NOOP" => out.extend_from_slice(b"250 Ok\r\n"),
            b"RSET" => {
                self.forget();
                out.extend_from_slice(b"250 Ok\r\n");
            }
            b"DATA" => {
                out.extend_from_slice(b"354 Go on\r\n");
                // As if behind a line's end: a message may be nothing but the dot.
                self.mode = Mode::Data(b"\r\n".to_vec());
            }
            b"BDAT" if host.chunking => match chunk(&self.line) {
                Some((left, last)) => self.mode = Mode::Chunk { left, last },
                None => out.extend_from_slice(b"501 BDAT length [LAST]\r\n"),
            },
            b"QUIT" => {
                out.extend_from_slice(b"221 Bye\r\n");
                self.leaving = true;
            }
            _ => out.extend_from_slice(b"502 Not here\r\n"),
        }
        self.line.clear();
    }

    fn body(&mut self, piece: &[u8], host: &Host) {
        self.bytes += piece.len() as u64;
        if host.recording {
            self.octets.extend_from_slice(piece);
        }
        if self.mark.is_some() || self.head.len() > HEADER_MAX {
            return;
        }
        // Nearly always the whole header is in the first piece; only otherwise is it worth a copy.
        if self.head.is_empty() {
            self.mark = mark_of(piece);
        }
        if self.mark.is_none() {
            self.head.extend_from_slice(piece);
            self.mark = mark_of(&self.head);
        }
    }

    fn arrived(&mut self, host: &Host) -> io::Result<()> {
        let mut tally = host.tally.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = tally.arrived(self.mark, self.bytes, &self.octets);
        drop(tally);
        self.forget();
        outcome
    }

    fn forget(&mut self) {
        self.mode = Mode::Command;
        self.mark = None;
        self.bytes = 0;
        self.head.clear();
        self.octets.clear();
    }
}

/// `BDAT 1024 LAST`
fn chunk(line: &[u8]) -> Option<(u64, bool)> {
    let text = std::str::from_utf8(line).ok()?;
    let mut words = text.split_ascii_whitespace().skip(1);
    let length = words.next()?.parse().ok()?;
    match words.next() {
        None => Some((length, false)),
        Some(word) if word.eq_ignore_ascii_case("LAST") => Some((length, true)),
        Some(_) => None,
    }
}

/// Where the final dot ends in `bytes`. `tail` bears the up to four octets before them, and those of the next call after.
fn end_of_data(end: &memmem::Finder<'_>, tail: &mut Vec<u8>, bytes: &[u8]) -> Option<usize> {
    let before = tail.len();
    tail.extend_from_slice(&bytes[..bytes.len().min(4)]);
    if let Some(at) = end.find(tail) {
        return Some(at + 5 - before);
    }
    if let Some(at) = end.find(bytes) {
        return Some(at + 5);
    }
    if bytes.len() >= 4 {
        tail.clear();
        tail.extend_from_slice(&bytes[bytes.len() - 4..]);
    } else {
        tail.drain(..tail.len().saturating_sub(4));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_final_dot_is_found_however_it_is_cut() {
        let finder = memmem::Finder::new(b"\r\n.\r\n");
        for text in ["a line\r\n..dot\r\n.\r\nQUIT\r\n", ".\r\nQUIT\r\n", "x\r\n\r\n.\r\nQUIT\r\n"] {
            let end = text.find("QUIT").unwrap_or_default();
            for first in 0..text.len() {
                for second in first..text.len() {
                    let mut tail = b"\r\n".to_vec();
                    let mut before = 0;
                    let mut found = None;
                    for piece in [&text[..first], &text[first..second], &text[second..]] {
                        found = end_of_data(&finder, &mut tail, piece.as_bytes()).map(|at| before + at);
                        before += piece.len();
                        if found.is_some() {
                            break;
                        }
                    }
                    assert_eq!(found, Some(end), "{text:?} cut at {first} and {second}");
                }
            }
        }
    }

    #[test]
    fn losses_and_duplicates_are_told_apart() {
        let mut seen = Seen::default();
        for number in [0, 1, 3, 3, 70] {
            seen.note(number);
        }
        assert_eq!((seen.unique, seen.duplicates, seen.highest), (4, 1, 70));
        assert_eq!(seen.first_missing(71, 3), [2, 4, 5]);
    }

    #[test]
    fn chunks_are_read() {
        assert_eq!(chunk(b"BDAT 12\r"), Some((12, false)));
        assert_eq!(chunk(b"bdat 0 last\r"), Some((0, true)));
        assert_eq!(chunk(b"BDAT\r"), None);
        assert_eq!(chunk(b"BDAT 1 MORE\r"), None);
    }
}
