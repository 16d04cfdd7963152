//! What webhooks are sent to: a host that answers as it is told, and keeps what it was sent.

use super::until;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How it answers.
#[derive(Clone, Debug)]
pub enum Answering {
    Status(u16),
    /// Reads, and says nothing.
    Nothing,
    /// One octet of an answer every 200 ms.
    ByOctets,
    /// 200, and a gigabyte.
    Endless,
    /// 200, and half of what it announced.
    Half,
    /// 302 to there.
    Elsewhere(String),
}

/// One request.
#[derive(Clone, Debug)]
pub struct Told {
    pub head: String,
    pub body: Vec<u8>,
}

impl Told {
    pub fn header(&self, name: &str) -> String {
        let field = |line: &str| {
            let (own, value) = line.split_once(':')?;
            own.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        };
        self.head.lines().find_map(field).unwrap_or_default()
    }

    pub fn events(&self) -> Vec<Value> {
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        body["data"]["events"].as_array().unwrap().clone()
    }

    /// Whether it is signed with this secret, as Standard Webhooks has it.
    pub fn is_signed_with(&self, secret: &str) -> bool {
        let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        let mut signed = format!("{}.{}.", self.header("webhook-id"), self.header("webhook-timestamp")).into_bytes();
        signed.extend_from_slice(&self.body);
        self.header("webhook-signature").split(' ').filter_map(|one| one.strip_prefix("v1,")).any(|signature| {
            STANDARD.decode(signature).is_ok_and(|signature| hmac::verify(&key, &signed, &signature).is_ok())
        })
    }
}

struct Inner {
    answering: Mutex<Answering>,
    told: Mutex<Vec<Told>>,
    stop: AtomicBool,
}

pub struct Target {
    inner: Arc<Inner>,
    at: SocketAddr,
}

impl Target {
    /// Where the houses of these tests allow targets.
    pub fn start(answering: Answering) -> Target {
        Target::start_at(Ipv4Addr::new(127, 9, 0, 1), answering)
    }

    pub fn start_at(address: Ipv4Addr, answering: Answering) -> Target {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let at = listener.local_addr().unwrap();
        let inner =
            Arc::new(Inner { answering: Mutex::new(answering), told: Mutex::default(), stop: AtomicBool::new(false) });
        let own = inner.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if own.stop.load(Ordering::SeqCst) {
                    return;
                }
                let own = own.clone();
                std::thread::spawn(move || own.serve(stream));
            }
        });
        Target { inner, at }
    }

    pub fn url(&self) -> String {
        format!("http://{}/events?from=weir", self.at)
    }

    pub fn port(&self) -> u16 {
        self.at.port()
    }

    pub fn answer(&self, answering: Answering) {
        *self.inner.answering.lock().unwrap() = answering;
    }

    pub fn all(&self) -> Vec<Told> {
        self.inner.told.lock().unwrap().clone()
    }

    /// All events of all requests, in the order in which they came.
    pub fn events(&self) -> Vec<Value> {
        self.all().iter().flat_map(Told::events).collect()
    }

    pub fn wait_for(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        until(what, || self.events().into_iter().find(|event| fits(event)))
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.inner.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.at);
    }
}

impl Inner {
    fn serve(&self, mut stream: TcpStream) {
        let Some(told) = read(&mut stream) else { return };
        self.told.lock().unwrap().push(told);
        let answering = self.answering.lock().unwrap().clone();
        let _ = match answering {
            Answering::Status(status) => {
                write!(stream, "HTTP/1.1 {status} So\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
            }
            Answering::Nothing => self.hold(),
            Answering::ByOctets => {
                for octet in b"HTTP/1.1 200 OK\r\nX-Long: ".iter().chain([b'x'; 4_000].iter()) {
                    if stream.write_all(&[*octet]).is_err() || self.stop.load(Ordering::SeqCst) {
                        return;
                    }
                    std::thread::park_timeout(Duration::from_millis(200));
                }
                Ok(())
            }
            Answering::Endless => {
                let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
                let piece = [b'x'; 65_536];
                while stream.write_all(&piece).is_ok() && !self.stop.load(Ordering::SeqCst) {}
                Ok(())
            }
            Answering::Half => write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhalf of it"),
            Answering::Elsewhere(url) => {
                write!(
                    stream,
                    "HTTP/1.1 302 Found\r\nLocation: {url}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )
            }
        };
    }

    fn hold(&self) -> std::io::Result<()> {
        while !self.stop.load(Ordering::SeqCst) {
            std::thread::park_timeout(Duration::from_millis(200));
        }
        Ok(())
    }
}

fn read(stream: &mut TcpStream) -> Option<Told> {
    let mut octets = Vec::new();
    let mut buffer = [0; 65_536];
    loop {
        let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        octets.extend_from_slice(&buffer[..count]);
        let Some(end) = octets.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&octets[..end]).into_owned();
        let told = Told { head, body: octets[end + 4..].to_vec() };
        if told.body.len() >= told.header("content-length").parse::<usize>().ok()? {
            return Some(told);
        }
    }
}
