//! How does an application hand mail in? By SMTP, octet by octet where a test wants it, or by HTTP.

use super::DEADLINE;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection};
use serde_json::Value;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// One conversation.
pub struct Smtp {
    pub stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
    held: Vec<u8>,
}

/// What the server said; lines joined by LF, codes removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub code: u16,
    pub text: String,
}

impl Smtp {
    /// Connected and greeted by both sides.
    pub fn open(to: SocketAddr) -> Smtp {
        let mut smtp = Smtp::connect(to).unwrap();
        let banner = smtp.answer().unwrap();
        assert_eq!(banner.code, 220, "{banner:?}");
        smtp.expect("EHLO app.test", 250);
        smtp
    }

    pub fn connect(to: SocketAddr) -> io::Result<Smtp> {
        Smtp::on(TcpStream::connect(to)?)
    }

    /// From an address of loopback other than the usual one.
    pub fn connect_from(from: IpAddr, to: SocketAddr) -> io::Result<Smtp> {
        let socket = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((from, 0)).into())?;
        socket.connect(&to.into())?;
        Smtp::on(socket.into())
    }

    fn on(stream: TcpStream) -> io::Result<Smtp> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        Ok(Smtp { stream, tls: None, held: Vec::new() })
    }

    /// Goes on under TLS, with a server that must prove this name.
    pub fn secure(&mut self, config: &Arc<ClientConfig>, name: &str) {
        assert!(self.held.is_empty(), "the server has spoken in clear already");
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut connection = ClientConnection::new(config.clone(), name).unwrap();
        while connection.is_handshaking() {
            connection.complete_io(&mut self.stream).unwrap();
        }
        self.tls = Some(Box::new(connection));
    }

    /// The certificate the server has shown.
    pub fn certificate(&self) -> Option<CertificateDer<'static>> {
        self.tls.as_ref()?.peer_certificates()?.first().cloned().map(CertificateDer::into_owned)
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            Some(connection) => rustls::Stream::new(connection.as_mut(), &mut self.stream).read(buffer),
            None => self.stream.read(buffer),
        }
    }

    pub fn raw(&mut self, octets: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            Some(connection) => rustls::Stream::new(connection.as_mut(), &mut self.stream).write_all(octets),
            None => self.stream.write_all(octets),
        }
    }

    pub fn answer(&mut self) -> io::Result<Answer> {
        let mut lines = Vec::new();
        loop {
            let line = self.line()?;
            let code =
                line.get(..3).and_then(|code| code.parse().ok()).ok_or_else(|| io::Error::other(line.clone()))?;
            lines.push(line.get(4..).unwrap_or_default().to_owned());
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(Answer { code, text: lines.join("\n") });
            }
        }
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.held.iter().position(|octet| *octet == b'\n') {
                let line: Vec<u8> = self.held.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            let mut buffer = [0; 4 << 10];
            match self.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.held.extend_from_slice(&buffer[..count]),
            }
        }
    }

    pub fn say(&mut self, command: &str) -> io::Result<Answer> {
        self.raw(format!("{command}\r\n").as_bytes())?;
        self.answer()
    }

    pub fn expect(&mut self, command: &str, code: u16) -> Answer {
        let answer = self.say(command).unwrap_or_else(|fault| panic!("{command}: {fault}"));
        assert_eq!(answer.code, code, "{command}: {answer:?}");
        answer
    }

    /// One transaction to its end; the answer to the dot, or the first that was a no.
    pub fn send(&mut self, from: &str, to: &[&str], octets: &[u8]) -> io::Result<Answer> {
        let mut begin = format!("MAIL FROM:<{from}>\r\n");
        for to in to {
            begin.push_str(&format!("RCPT TO:<{to}>\r\n"));
        }
        self.raw(format!("{begin}DATA\r\n").as_bytes())?;
        let mut refused = None;
        for _ in 0..=to.len() {
            let answer = self.answer()?;
            if answer.code != 250 {
                refused = refused.or(Some(answer));
            }
        }
        let data = self.answer()?;
        if data.code != 354 {
            self.say("RSET")?;
            return Ok(refused.unwrap_or(data));
        }
        let mut stuffed = Vec::with_capacity(octets.len() + 16);
        for line in octets.split_inclusive(|octet| *octet == b'\n') {
            if line.starts_with(b".") {
                stuffed.push(b'.');
            }
            stuffed.extend_from_slice(line);
        }
        if !stuffed.ends_with(b"\r\n") {
            stuffed.extend_from_slice(b"\r\n");
        }
        stuffed.extend_from_slice(b".\r\n");
        self.raw(&stuffed)?;
        self.answer()
    }

    /// One transaction that is taken; the message's id.
    pub fn take(&mut self, from: &str, to: &[&str], octets: &[u8]) -> String {
        let answer = self.send(from, to, octets).unwrap();
        assert_eq!(answer.code, 250, "{answer:?}");
        answer.id().expect("the answer names the id").to_owned()
    }

    /// Whether the server has closed; waits for it.
    pub fn is_closed(&mut self) -> bool {
        let mut buffer = [0; 4 << 10];
        loop {
            match self.read(&mut buffer) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(fault) => return fault.kind() == io::ErrorKind::ConnectionReset,
            }
        }
    }
}

impl Answer {
    /// The id in the answer to a message that was taken.
    pub fn id(&self) -> Option<&str> {
        self.text.split_whitespace().last().filter(|word| word.len() == 32)
    }
}

/// A plain message with what a test wants in its header.
pub struct Message(String);

impl Message {
    pub fn new(subject: &str) -> Message {
        Message(format!("From: Ann <ann@shop.test>\r\nTo: someone@somewhere.test\r\nSubject: {subject}\r\n"))
    }

    pub fn field(mut self, line: &str) -> Message {
        self.0.push_str(line);
        self.0.push_str("\r\n");
        self
    }

    pub fn body(self, body: &str) -> Vec<u8> {
        format!("{}\r\n{body}\r\n", self.0).into_bytes()
    }

    pub fn plain(subject: &str) -> Vec<u8> {
        Message::new(subject).body("Hello.")
    }
}

/// What came back over HTTP.
#[derive(Clone, Debug)]
pub struct HttpAnswer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl HttpAnswer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// One request in one connection.
pub fn call(to: SocketAddr, method: &str, path: &str, key: Option<&str>, body: &[u8]) -> io::Result<HttpAnswer> {
    let key = key.map(|key| format!("Authorization: Bearer {key}\r\n")).unwrap_or_default();
    request(to, method, path, &format!("Host: weir.test\r\nContent-Type: application/json\r\n{key}"), body)
}

/// The same, with the fields of its head.
pub fn request(to: SocketAddr, method: &str, path: &str, fields: &str, body: &[u8]) -> io::Result<HttpAnswer> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(DEADLINE + Duration::from_secs(60)))?;
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\n{fields}Content-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    // A server that has refused already may close before it has read everything: its answer counts.
    let written = stream.write_all(body);
    let mut octets = Vec::new();
    if let Err(fault) = stream.read_to_end(&mut octets)
        && octets.is_empty()
    {
        written?;
        return Err(fault);
    }
    read_answer(&octets).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

fn read_answer(octets: &[u8]) -> Option<HttpAnswer> {
    let end = octets.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&octets[..end]).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let rest = &octets[end + 4..];
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { unchunked(rest)? } else { rest.to_vec() };
    Some(HttpAnswer { status, head, body })
}

fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?.trim(), 16).ok()?;
        rest = &rest[end + 2..];
        if length == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..length)?);
        rest = rest.get(length + 2..)?;
    }
}
