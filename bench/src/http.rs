//! How is a server asked over HTTP? One connection that stays open, and just enough of HTTP/1.1 to hear an answer.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use memchr::memmem;

/// Longer than any answer asked for here.
const ANSWER_MAX: usize = 1 << 20;

pub struct Line {
    stream: TcpStream,
    to: SocketAddr,
    input: Vec<u8>,
    output: Vec<u8>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    /// The text of a field, as it stands; these servers' ids and secrets need no escapes.
    pub fn field(&self, name: &str) -> Option<String> {
        let quoted = format!("\"{name}\":\"");
        let at = memmem::find(&self.body, quoted.as_bytes())? + quoted.len();
        let text = &self.body[at..];
        let end = memchr::memchr(b'"', text)?;
        String::from_utf8(text[..end].to_vec()).ok()
    }
}

impl Line {
    pub fn open(to: SocketAddr, patience: Duration) -> io::Result<Line> {
        let stream = TcpStream::connect_timeout(&to, patience)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        Ok(Line { stream, to, input: Vec::new(), output: Vec::new() })
    }

    pub fn call(&mut self, method: &str, path: &str, key: &str, body: &[u8]) -> io::Result<Answer> {
        self.output.clear();
        write!(
            self.output,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            self.to,
            body.len()
        )?;
        self.output.extend_from_slice(body);
        self.stream.write_all(&self.output)?;
        loop {
            if let Some((answer, end)) = parse(&self.input)? {
                self.input.drain(..end);
                return Ok(answer);
            }
            let mut buffer = [0; 16 << 10];
            let count = self.stream.read(&mut buffer)?;
            if count == 0 || self.input.len() > ANSWER_MAX {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, "the connection ended within an answer"));
            }
            self.input.extend_from_slice(&buffer[..count]);
        }
    }
}

/// The first answer and where it ends; `None` while it is not whole.
fn parse(input: &[u8]) -> io::Result<Option<(Answer, usize)>> {
    let Some(head) = memmem::find(input, b"\r\n\r\n") else { return Ok(None) };
    let invalid = || io::Error::new(ErrorKind::InvalidData, "this is no answer of HTTP/1.1");
    let text = std::str::from_utf8(&input[..head]).map_err(|_| invalid())?;
    let status = text.get(9..12).and_then(|code| code.parse().ok()).ok_or_else(invalid)?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    // Without a length there is no body in any answer asked for here (204).
    let end = head + 4 + length.unwrap_or(0);
    let whole = input.get(head + 4..end);
    Ok(whole.map(|body| (Answer { status, body: body.to_vec() }, end)))
}

#[cfg(test)]
mod tests {
    // A failed unwrap is a failed test.
    #![allow(clippy::unwrap_used)]
    use super::parse;

    #[test]
    fn an_answer_ends_where_its_length_says() {
        let octets = b"HTTP/1.1 201 Created\r\nContent-Length: 15\r\n\r\n{\"id\":\"a\",\"b\":1HTTP/1.1 204";
        let (answer, end) = parse(octets).unwrap().unwrap();
        assert_eq!((answer.status, answer.field("id").as_deref()), (201, Some("a")));
        assert_eq!(&octets[end..], b"HTTP/1.1 204");
        assert!(parse(&octets[..50]).unwrap().is_none() && parse(&octets[..20]).unwrap().is_none());
        let (gone, _) = parse(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().unwrap();
        assert_eq!((gone.status, gone.body.len()), (204, 0));
        assert!(parse(b"HTTP/1.1 x\r\n\r\n").is_err());
    }
}
