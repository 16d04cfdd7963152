//! What do readers do with the demo's mail? Some look at it, some follow a link, and now and then one has enough.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// Nobody reads sooner: who does is a machine, and counted as one.
const BEFORE_READING: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(10);
/// Of the messages that hear of their readers, one in so many is looked at, followed, and the last one.
const LOOKED_AT: u64 = 2;
const FOLLOWED: u64 = 4;
const ENOUGH: u64 = 12;
const PROGRAM: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

/// What can be done with a message, as its reader finds it there.
#[derive(Debug, Default, PartialEq, Eq)]
struct Offers {
    picture: Option<Address>,
    link: Option<Address>,
    end: Option<Address>,
}

#[derive(Debug, PartialEq, Eq)]
struct Address {
    host: String,
    path: String,
}

/// Whether there is something in it to be fetched or followed.
pub fn may_be_read(message: &[u8]) -> bool {
    offers(message) != Offers::default()
}

/// What a message's reader does with it. `number` is the message's among those that can be read; `door` is where the sender's links lead.
pub async fn read(number: u64, message: &[u8], door: SocketAddr) {
    let offers = offers(message);
    sleep(BEFORE_READING).await;
    let visits = [(LOOKED_AT, "GET", offers.picture), (FOLLOWED, "GET", offers.link), (ENOUGH, "POST", offers.end)];
    for (each, method, address) in visits {
        let Some(address) = address.filter(|_| number.is_multiple_of(each)) else { continue };
        // A reader whose network breaks down reads something else.
        let _ = timeout(PATIENCE, visit(method, &address, door)).await;
    }
}

fn offers(message: &[u8]) -> Offers {
    let text = String::from_utf8_lossy(message).replace("=\r\n", "").replace("=3D", "=");
    let between = |begin: &str, end: char| {
        let from = text.split_once(begin)?.1;
        address(from.split(end).next()?)
    };
    let quoted = |kind: &str| {
        text.split('"')
            .find(|part| part.starts_with("https://") && part.contains(kind))
            .and_then(|found| address(&found[8..]))
    };
    Offers { picture: quoted("/o/"), link: quoted("/c/"), end: between("List-Unsubscribe: <https://", '>') }
}

fn address(rest: &str) -> Option<Address> {
    let (host, path) = rest.split_once('/')?;
    let path: String = path.chars().filter(|letter| !letter.is_whitespace()).collect();
    Some(Address { host: host.to_owned(), path: format!("/{path}") })
}

async fn visit(method: &str, Address { host, path }: &Address, door: SocketAddr) -> io::Result<()> {
    let body = if method == "POST" { "List-Unsubscribe=One-Click" } else { "" };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {PROGRAM}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(door).await?;
    stream.write_all(request.as_bytes()).await?;
    stream.read_to_end(&mut Vec::new()).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::{Address, Offers, may_be_read, offers};

    #[test]
    fn a_reader_finds_what_is_offered() {
        let message = b"List-Unsubscribe: <https://mail.test/u/abc>,\r\n\t<mailto:a@b.test>\r\nSubject: x\r\n\r\n\
            <a href=3D\"https://links.test/c/d=\r\nef\">on</a><img src=3D\"https://links.test/o/ghi\">";
        let at = |host: &str, path: &str| Some(Address { host: host.into(), path: path.into() });
        let expected = Offers {
            picture: at("links.test", "/o/ghi"),
            link: at("links.test", "/c/def"),
            end: at("mail.test", "/u/abc"),
        };
        assert_eq!(offers(message), expected);
        assert!(!may_be_read(b"Subject: x\r\n\r\nNothing https://links.test/c/ here."));
    }
}
