//! What are webhooks told? A target that takes every request and counts the events in it, each once for a path.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::SystemTime;

use memchr::memmem;

/// Longer than any request of these servers.
const BODY_MAX: usize = 16 << 20;
/// How an event begins in the body of a request.
const EVENT: &[u8] = b"{\"id\":\"";

/// A target that is listening; it ends with the process.
#[derive(Clone)]
pub struct Target {
    heard: Arc<Mutex<Heard>>,
}

#[derive(Default)]
pub struct Heard {
    pub requests: u64,
    /// Events that came first, by path and id.
    pub events: u64,
    pub again: u64,
    pub last: Option<SystemTime>,
    ids: HashSet<u64>,
}

impl Target {
    pub fn listen(at: SocketAddr) -> io::Result<Target> {
        let listener = TcpListener::bind(at)?;
        let target = Target { heard: Arc::default() };
        let heard = target.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let heard = heard.clone();
                // A connection that breaks is the sender's to mend: it counts what was answered.
                thread::spawn(move || {
                    let _ = heard.converse(stream);
                });
            }
        });
        Ok(target)
    }

    pub fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn converse(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::with_capacity(64 << 10, stream);
        loop {
            let Some((path, length)) = head(&mut reader)? else { return Ok(()) };
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            self.heard().note(&path, &body);
            reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
        }
    }
}

impl Heard {
    fn note(&mut self, path: &str, body: &[u8]) {
        self.requests += 1;
        self.last = Some(SystemTime::now());
        for at in memmem::find_iter(body, EVENT) {
            let id = &body[at + EVENT.len()..];
            let id = &id[..memchr::memchr(b'"', id).unwrap_or(0)];
            let mut hash = DefaultHasher::new();
            (path, id).hash(&mut hash);
            match self.ids.insert(hash.finish()) {
                true => self.events += 1,
                false => self.again += 1,
            }
        }
    }
}

/// Path and length of the next request; `None` where there is none.
fn head(reader: &mut impl BufRead) -> io::Result<Option<(String, usize)>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    if length > BODY_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a request of that length is none of ours"));
    }
    Ok(Some((path, length)))
}

#[cfg(test)]
mod tests {
    // A failed unwrap is a failed test.
    #![allow(clippy::unwrap_used)]
    use super::{Heard, head};

    #[test]
    fn events_are_counted_once_for_each_path() {
        let mut heard = Heard::default();
        let body = br#"{"type":"events","data":{"webhook":"w","events":[{"id":"a","kind":"x"},{"id":"b"}]}}"#;
        heard.note("/1", body);
        heard.note("/2", body);
        heard.note("/1", body);
        assert_eq!((heard.requests, heard.events, heard.again), (3, 4, 2));
    }

    #[test]
    fn a_request_ends_where_its_length_says() {
        let mut octets = &b"POST /hook HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"[..];
        assert_eq!(head(&mut octets).unwrap(), Some(("/hook".to_owned(), 3)));
        assert_eq!(octets, b"abc");
        assert_eq!(head(&mut &b""[..]).unwrap(), None);
    }
}
