//! How do we open a connection from a chosen address, here or through the hop where that address lives?
//!
//! The port is taken when the address is bound, so one source address bears as many connections as there are ephemeral
//! ports, about 28,000, whatever their destinations. `IP_BIND_ADDRESS_NO_PORT` would lift that; the socket library has no
//! safe way to it.

use std::fmt;
use std::io::{Error, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::dns::not_public;

/// Connects to `to` from `source`, whose port the kernel chooses.
pub async fn dial(source: IpAddr, to: SocketAddr, within: Duration) -> Result<TcpStream, DialFault> {
    if source.is_ipv4() != to.is_ipv4() {
        return Err(DialFault::FamilyDiffers { from: source, to });
    }
    let socket = bound(source)?;
    let stream = tokio::time::timeout(within, socket.connect(to))
        .await
        .map_err(|_| DialFault::TimedOut { to, within })?
        .map_err(|error| DialFault::connecting(source, to, &error))?;
    stream.set_nodelay(true).map_err(|error| DialFault::connecting(source, to, &error))?;
    Ok(stream)
}

/// Whether connections can be made from this address: it is configured on this host.
pub fn is_here(source: IpAddr) -> Result<(), DialFault> {
    bound(source).map(|_| ())
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialFault {
    /// Ours to mend: the address is not configured on this host.
    #[error("{address} is not an address of this host")]
    AddressMissing { address: IpAddr },
    #[error("cannot reach {to} from {from}: one is IPv4, the other IPv6")]
    FamilyDiffers { from: IpAddr, to: SocketAddr },
    #[error("{to} refused the connection")]
    Refused { to: SocketAddr },
    #[error("no route from {from} to {to}: {detail}")]
    Unreachable { from: IpAddr, to: SocketAddr, detail: String },
    #[error("{to} did not answer within {within:?}")]
    TimedOut { to: SocketAddr, within: Duration },
    /// Ours as well: no port or no file descriptor is left, or the host's own rules forbid it.
    #[error("cannot connect from {from}: {detail}")]
    Other { from: IpAddr, detail: String },
}

impl DialFault {
    fn binding(source: IpAddr, error: &Error) -> DialFault {
        match error.kind() {
            ErrorKind::AddrNotAvailable => DialFault::AddressMissing { address: source },
            ErrorKind::AddrInUse => DialFault::Other { from: source, detail: "all its ports are in use".to_owned() },
            _ => DialFault::Other { from: source, detail: error.to_string() },
        }
    }

    fn connecting(from: IpAddr, to: SocketAddr, error: &Error) -> DialFault {
        match error.kind() {
            // The kernel ran out of ports towards `to`: the address itself was there when we bound it.
            ErrorKind::AddrNotAvailable => DialFault::Other { from, detail: format!("no free port towards {to}") },
            ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => DialFault::Refused { to },
            // The kernel gave up before we did.
            ErrorKind::TimedOut => DialFault::Unreachable { from, to, detail: "the connection timed out".to_owned() },
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
                DialFault::Unreachable { from, to, detail: error.to_string() }
            }
            _ => DialFault::Other { from, detail: format!("to {to}: {error}") },
        }
    }
}

/// The way out for a source address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Via {
    /// The address is one of this host.
    Direct,
    /// A proxy (RFC 1928) at the address is asked to connect. Which address it connects from is its own affair, so each
    /// of ours needs a proxy that has only that one; one that says it took another is not spoken through.
    Socks5 { proxy: SocketAddr, sign_in: Option<SignIn> },
    /// A proxy that reads the PROXY protocol, version 2, and connects from the source it names to the destination it
    /// names. It answers nothing: where it cannot connect, the connection ends before the remote's greeting.
    Proxy { proxy: SocketAddr },
}

/// Name and password for a SOCKS5 proxy (RFC 1929). They cross the network in clear. The debug form hides the password.
#[derive(Clone, PartialEq, Eq)]
pub struct SignIn {
    name: String,
    password: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {0} for a SOCKS5 proxy must have between 1 and 255 octets (RFC 1929)")]
pub struct SignInError(&'static str);

impl SignIn {
    pub fn new(name: &str, password: &str) -> Result<SignIn, SignInError> {
        let fits = |text: &str| (1..=255).contains(&text.len());
        if !fits(name) {
            return Err(SignInError("name"));
        }
        if !fits(password) {
            return Err(SignInError("password"));
        }
        Ok(SignIn { name: name.to_owned(), password: password.to_owned() })
    }
}

impl fmt::Debug for SignIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignIn({})", self.name)
    }
}

/// Connects to `to` so that it sees `source`, over whatever hop that needs. `within` covers all of it.
pub async fn dial_via(via: &Via, source: IpAddr, to: SocketAddr, within: Duration) -> Result<TcpStream, DialFault> {
    let (proxy, sign_in) = match via {
        Via::Direct => return dial(source, to, within).await,
        Via::Socks5 { proxy, sign_in } => (*proxy, Some(sign_in.as_ref())),
        Via::Proxy { proxy } => (*proxy, None),
    };
    if source.is_ipv4() != to.is_ipv4() {
        return Err(DialFault::FamilyDiffers { from: source, to });
    }
    let hop = Hop { proxy, source, to };
    // Until the proxy has taken the order, it is the proxy that is slow; after that, it waits for the remote.
    let deadline = tokio::time::Instant::now() + within;
    let ordered = async {
        let mut stream = TcpStream::connect(proxy).await.map_err(|error| hop.connecting(&error))?;
        stream.set_nodelay(true).map_err(|error| hop.broken(&error))?;
        match sign_in {
            Some(sign_in) => {
                greet(&mut stream, &hop, sign_in).await?;
                stream.write_all(&socks_order(to)).await.map_err(|error| hop.broken(&error))?;
            }
            None => {
                let header = proxy_header(SocketAddr::new(source, 0), to);
                stream.write_all(&header).await.map_err(|error| hop.broken(&error))?;
            }
        }
        Ok::<_, DialFault>(stream)
    };
    let slow = |_| hop.fault(format!("did not answer within {within:?}"));
    let mut stream = tokio::time::timeout_at(deadline, ordered).await.map_err(slow)??;
    if sign_in.is_some() {
        let answer = tokio::time::timeout_at(deadline, socks_answer(&mut stream, &hop)).await;
        answer.map_err(|_| DialFault::TimedOut { to, within })??;
    }
    Ok(stream)
}

/// One dialling through a proxy, to say what became of it.
struct Hop {
    proxy: SocketAddr,
    source: IpAddr,
    to: SocketAddr,
}

impl Hop {
    fn fault(&self, what: impl fmt::Display) -> DialFault {
        DialFault::Other { from: self.source, detail: format!("the proxy {} {what}", self.proxy) }
    }

    fn connecting(&self, error: &Error) -> DialFault {
        match error.kind() {
            ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => self.fault("refused the connection"),
            _ => self.fault(format_args!("cannot be reached: {error}")),
        }
    }

    fn broken(&self, error: &Error) -> DialFault {
        match error.kind() {
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                self.fault("closed the connection before it had connected us")
            }
            _ => self.fault(format_args!("failed: {error}")),
        }
    }
}

const SOCKS_VERSION: u8 = 5;
/// RFC 1928 3: no authentication; RFC 1929: name and password; none of those offered.
const METHOD_NONE: u8 = 0;
const METHOD_NAME: u8 = 2;
const METHOD_REFUSED: u8 = 0xff;
const ADDRESS_V4: u8 = 1;
const ADDRESS_NAME: u8 = 3;
const ADDRESS_V6: u8 = 4;

/// Offers what we have, and signs in if the proxy wants it.
async fn greet(stream: &mut TcpStream, hop: &Hop, sign_in: Option<&SignIn>) -> Result<(), DialFault> {
    let offer: &[u8] = match sign_in {
        None => &[SOCKS_VERSION, 1, METHOD_NONE],
        Some(_) => &[SOCKS_VERSION, 2, METHOD_NONE, METHOD_NAME],
    };
    stream.write_all(offer).await.map_err(|error| hop.broken(&error))?;
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen).await.map_err(|error| hop.broken(&error))?;
    match (chosen, sign_in) {
        ([SOCKS_VERSION, METHOD_NONE], _) => Ok(()),
        ([SOCKS_VERSION, METHOD_NAME], Some(SignIn { name, password })) => {
            let mut words = vec![1];
            for word in [name, password] {
                // `SignIn::new` let nothing longer in.
                words.push(u8::try_from(word.len()).map_err(|_| hop.fault("needs a shorter name and password"))?);
                words.extend_from_slice(word.as_bytes());
            }
            stream.write_all(&words).await.map_err(|error| hop.broken(&error))?;
            let mut answer = [0; 2];
            stream.read_exact(&mut answer).await.map_err(|error| hop.broken(&error))?;
            // RFC 1929 2: any status but 0 is a no.
            if answer[1] == 0 { Ok(()) } else { Err(hop.fault("does not accept the name and password")) }
        }
        ([SOCKS_VERSION, METHOD_REFUSED], None) => Err(hop.fault("asks for a name and password, and none is set")),
        ([SOCKS_VERSION, METHOD_REFUSED], Some(_)) => Err(hop.fault("takes no sign-in that we know")),
        ([SOCKS_VERSION, method], _) => Err(hop.fault(format_args!("chose sign-in {method}, which was not offered"))),
        _ => Err(hop.fault("does not speak SOCKS5")),
    }
}

/// RFC 1928 4, CONNECT.
fn socks_order(to: SocketAddr) -> Vec<u8> {
    let mut order = vec![SOCKS_VERSION, 1, 0];
    match to.ip() {
        IpAddr::V4(v4) => {
            order.push(ADDRESS_V4);
            order.extend_from_slice(&v4.octets());
        }
        IpAddr::V6(v6) => {
            order.push(ADDRESS_V6);
            order.extend_from_slice(&v6.octets());
        }
    }
    order.extend_from_slice(&to.port().to_be_bytes());
    order
}

/// RFC 1928 6. Reads the reply to its last octet and no further: what follows is the remote's.
async fn socks_answer(stream: &mut TcpStream, hop: &Hop) -> Result<(), DialFault> {
    let mut head = [0; 4];
    // Some proxies close after the code of a refusal, without the rest that the RFC demands.
    stream.read_exact(&mut head[..2]).await.map_err(|error| hop.broken(&error))?;
    if head[0] != SOCKS_VERSION {
        return Err(hop.fault("does not speak SOCKS5"));
    }
    let unreachable = |detail: &str| DialFault::Unreachable {
        from: hop.source,
        to: hop.to,
        detail: format!("the proxy {} says: {detail}", hop.proxy),
    };
    match head[1] {
        0 => {}
        1 => return Err(hop.fault("has a failure of its own")),
        2 => return Err(hop.fault(format_args!("does not allow connections to {}", hop.to))),
        3 => return Err(unreachable("the network is unreachable")),
        4 => return Err(unreachable("the host is unreachable")),
        5 => return Err(DialFault::Refused { to: hop.to }),
        6 => return Err(unreachable("the time to live ran out on the way")),
        7 => return Err(hop.fault("does not know the command CONNECT")),
        8 => return Err(hop.fault(format_args!("cannot connect to addresses such as {}", hop.to.ip()))),
        code => return Err(hop.fault(format_args!("answered with the unknown code {code}"))),
    }
    stream.read_exact(&mut head[2..]).await.map_err(|error| hop.broken(&error))?;
    let took = match head[3] {
        ADDRESS_V4 => {
            let mut octets = [0; 4];
            stream.read_exact(&mut octets).await.map_err(|error| hop.broken(&error))?;
            Some(IpAddr::from(octets))
        }
        ADDRESS_V6 => {
            let mut octets = [0; 16];
            stream.read_exact(&mut octets).await.map_err(|error| hop.broken(&error))?;
            Some(IpAddr::from(octets).to_canonical())
        }
        ADDRESS_NAME => {
            let length = stream.read_u8().await.map_err(|error| hop.broken(&error))?;
            let mut name = vec![0; length.into()];
            stream.read_exact(&mut name).await.map_err(|error| hop.broken(&error))?;
            None
        }
        _ => return Err(hop.fault("does not speak SOCKS5")),
    };
    let mut port = [0; 2];
    stream.read_exact(&mut port).await.map_err(|error| hop.broken(&error))?;
    match took {
        // R2.8: mail never leaves from an address that is not its own. An address that is not of the public Internet says
        // nothing: the proxy does not tell, or stands behind a translation.
        Some(took) if took != hop.source && not_public(took, &[]).is_none() => {
            Err(hop.fault(format_args!("connects from {took}, not from {}", hop.source)))
        }
        _ => Ok(()),
    }
}

const PROXY_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY; stream sockets of either family.
const PROXY_COMMAND: u8 = 0x21;
const PROXY_TCP_V4: u8 = 0x11;
const PROXY_TCP_V6: u8 = 0x21;

/// The PROXY protocol's binary header (version 2, section 2.2). Port 0 leaves the choice of the source's port to the proxy.
/// Both addresses are of one family.
fn proxy_header(source: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let octets = |address: SocketAddr| match address.ip() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let (family, length): (u8, u16) = if to.is_ipv4() { (PROXY_TCP_V4, 12) } else { (PROXY_TCP_V6, 36) };
    let mut header = PROXY_SIGNATURE.to_vec();
    header.extend_from_slice(&[PROXY_COMMAND, family]);
    header.extend_from_slice(&length.to_be_bytes());
    header.extend_from_slice(&octets(source));
    header.extend_from_slice(&octets(to));
    header.extend_from_slice(&source.port().to_be_bytes());
    header.extend_from_slice(&to.port().to_be_bytes());
    header
}

fn bound(source: IpAddr) -> Result<TcpSocket, DialFault> {
    let at = SocketAddr::new(source, 0);
    let open = || -> std::io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.bind(&at.into())?;
        Ok(socket)
    };
    let socket = open().map_err(|error| DialFault::binding(source, &error))?;
    Ok(TcpSocket::from_std_stream(socket.into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a failed set-up is a failed test

    use super::*;
    use std::net::Ipv4Addr;
    use tokio::net::TcpListener;

    const WITHIN: Duration = Duration::from_secs(10);

    async fn listener(address: [u8; 4]) -> TcpListener {
        TcpListener::bind((Ipv4Addr::from(address), 0)).await.unwrap()
    }

    // R5.1
    #[tokio::test]
    async fn the_peer_sees_the_chosen_source() {
        let listener = listener([127, 0, 1, 20]).await;
        let to = listener.local_addr().unwrap();
        for source in [[127, 0, 1, 1], [127, 0, 1, 2]].map(IpAddr::from) {
            let stream = dial(source, to, WITHIN).await.unwrap();
            let (_, peer) = listener.accept().await.unwrap();
            assert_eq!(peer.ip(), source);
            assert_eq!(stream.local_addr().unwrap(), peer);
            assert!(stream.nodelay().unwrap());
        }
    }

    // E9: 192.0.2.0/24 is on no host.
    #[tokio::test]
    async fn a_source_that_is_not_on_this_host_is_told_apart() {
        let listener = listener([127, 0, 1, 21]).await;
        let source = IpAddr::from([192, 0, 2, 77]);
        let fault = dial(source, listener.local_addr().unwrap(), WITHIN).await.unwrap_err();
        assert_eq!(fault, DialFault::AddressMissing { address: source });
    }

    #[tokio::test]
    async fn a_closed_port_refuses() {
        let to = listener([127, 0, 1, 22]).await.local_addr().unwrap();
        let fault = dial(IpAddr::from([127, 0, 1, 1]), to, WITHIN).await.unwrap_err();
        assert_eq!(fault, DialFault::Refused { to });
    }

    // B10: a full backlog drops every further SYN, which is what a black hole looks like.
    #[tokio::test]
    async fn a_silent_peer_costs_no_more_than_the_limit() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 1, 23], 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let to = socket.local_addr().unwrap().as_socket().unwrap();
        let within = Duration::from_millis(200);
        let mut held = Vec::new();
        for _ in 0..8 {
            match dial(IpAddr::from([127, 0, 1, 1]), to, within).await {
                Ok(stream) => held.push(stream),
                Err(fault) => {
                    assert_eq!(fault, DialFault::TimedOut { to, within });
                    return;
                }
            }
        }
        panic!("the backlog of 0 took {} connections", held.len());
    }

    #[tokio::test]
    async fn families_are_not_mixed() {
        let to = "[::1]:25".parse().unwrap();
        let fault = dial(IpAddr::from([127, 0, 1, 1]), to, WITHIN).await.unwrap_err();
        assert!(matches!(fault, DialFault::FamilyDiffers { .. }));
    }

    async fn fake_proxy(address: [u8; 4]) -> (TcpListener, SocketAddr) {
        let listener = listener(address).await;
        let at = listener.local_addr().unwrap();
        (listener, at)
    }

    fn socks5(proxy: SocketAddr) -> Via {
        Via::Socks5 { proxy, sign_in: None }
    }

    /// Of documentation networks: nothing is ever sent there.
    const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
    const TARGET: [u8; 4] = [203, 0, 113, 9];

    fn target() -> SocketAddr {
        (TARGET, 25).into()
    }

    const ORDER: [u8; 10] = [5, 1, 0, 1, 203, 0, 113, 9, 0, 25];

    /// What the dialler says of a proxy that reads a greeting and an order, and answers with these octets.
    async fn answered(greeting: &[u8], answer: &[u8]) -> Result<TcpStream, DialFault> {
        let (listener, proxy) = fake_proxy([127, 0, 1, 30]).await;
        let via = socks5(proxy);
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut offer = [0; 3];
            stream.read_exact(&mut offer).await.unwrap();
            assert_eq!(offer, [5, 1, 0]);
            stream.write_all(greeting).await.unwrap();
            if greeting == [5, 0] {
                let mut order = [0; 10];
                stream.read_exact(&mut order).await.unwrap();
                assert_eq!(order, ORDER);
                stream.write_all(answer).await.unwrap();
            }
            // Closed here.
        };
        tokio::join!(dial_via(&via, SOURCE, target(), WITHIN), serve).0
    }

    // R5.1
    #[tokio::test]
    async fn a_socks_proxy_connects_for_us_and_what_follows_is_the_remotes() {
        let unspecified = [&[4][..], &[0; 16]].concat();
        for bound in [&[1, 0, 0, 0, 0][..], &[1, 192, 0, 2, 7], &[1, 10, 0, 0, 7], &[3, 2, b'h', b'i'], &unspecified] {
            let mut answer = vec![5, 0, 0];
            answer.extend_from_slice(bound);
            answer.extend_from_slice(&[0, 25]);
            answer.extend_from_slice(b"220 hello\r\n");
            let mut stream = answered(&[5, 0], &answer).await.unwrap();
            let mut heard = Vec::new();
            stream.read_to_end(&mut heard).await.unwrap();
            assert_eq!(heard, b"220 hello\r\n", "{bound:?}");
        }
    }

    // R2.8: 8.8.8.8 stands for any public address that is not ours.
    #[tokio::test]
    async fn a_proxy_that_leaves_from_another_address_is_not_spoken_through() {
        let fault = answered(&[5, 0], &[5, 0, 0, 1, 8, 8, 8, 8, 0, 25]).await.unwrap_err();
        assert!(fault.to_string().ends_with("connects from 8.8.8.8, not from 192.0.2.7"), "{fault}");
    }

    #[tokio::test]
    async fn a_socks_proxys_no_is_told_as_what_it_means() {
        let rest = [0, 1, 0, 0, 0, 0, 0, 0];
        let refused = answered(&[5, 0], &[&[5, 5][..], &rest].concat()).await.unwrap_err();
        assert_eq!(refused, DialFault::Refused { to: target() });
        for code in [3, 4, 6] {
            let fault = answered(&[5, 0], &[&[5, code][..], &rest].concat()).await.unwrap_err();
            assert!(matches!(fault, DialFault::Unreachable { .. }), "{fault:?}");
        }
        // Without the rest that the RFC demands.
        let short = answered(&[5, 0], &[5, 5]).await.unwrap_err();
        assert_eq!(short, DialFault::Refused { to: target() });
        let check = async |greeting: &[u8], answer: &[u8], expected: &str| {
            let fault = answered(greeting, answer).await.unwrap_err();
            assert!(matches!(fault, DialFault::Other { from: SOURCE, .. }), "{fault:?}");
            assert!(fault.to_string().contains(expected), "{fault}");
        };
        check(&[5, 0], &[5, 1], "failure of its own").await;
        check(&[5, 0], &[5, 2], "does not allow connections to 203.0.113.9:25").await;
        check(&[5, 0], &[5, 7], "CONNECT").await;
        check(&[5, 0], &[5, 8], "203.0.113.9").await;
        check(&[5, 0], &[5, 99], "unknown code 99").await;
        check(&[5, 0], &[4, 0], "does not speak SOCKS5").await;
        check(&[5, 0], &[5, 0, 0, 9], "does not speak SOCKS5").await;
        check(&[4, 90], &[], "does not speak SOCKS5").await;
        check(b"HT", &[], "does not speak SOCKS5").await;
        check(&[5, 0xff], &[], "asks for a name and password").await;
        check(&[5, 2], &[], "not offered").await;
        // Closed in the middle of each step.
        check(&[], &[], "closed the connection").await;
        check(&[5], &[], "closed the connection").await;
        check(&[5, 0], &[], "closed the connection").await;
        check(&[5, 0], &[5, 0, 0, 1, 192], "closed the connection").await;
    }

    #[tokio::test]
    async fn a_socks_proxy_may_want_a_name_and_password() {
        let signing = async |status: u8| {
            let (listener, proxy) = fake_proxy([127, 0, 1, 31]).await;
            let via = Via::Socks5 { proxy, sign_in: Some(SignIn::new("weir", "s3cret").unwrap()) };
            let serve = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut offer = [0; 4];
                stream.read_exact(&mut offer).await.unwrap();
                assert_eq!(offer, [5, 2, 0, 2]);
                stream.write_all(&[5, 2]).await.unwrap();
                let mut words = [0; 13];
                stream.read_exact(&mut words).await.unwrap();
                assert_eq!(&words, b"\x01\x04weir\x06s3cret");
                stream.write_all(&[1, status]).await.unwrap();
                if status == 0 {
                    let mut order = [0; 10];
                    stream.read_exact(&mut order).await.unwrap();
                    stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
                }
            };
            tokio::join!(dial_via(&via, SOURCE, target(), WITHIN), serve).0
        };
        assert!(signing(0).await.is_ok());
        let fault = signing(1).await.unwrap_err();
        assert!(fault.to_string().contains("does not accept the name and password"), "{fault}");
        assert!(SignIn::new("", "x").is_err() && SignIn::new("x", &"y".repeat(256)).is_err());
        assert_eq!(format!("{:?}", SignIn::new("weir", "s3cret").unwrap()), "SignIn(weir)");
    }

    // B10: whoever hangs, it costs no more than the limit, and it is told who.
    #[tokio::test]
    async fn a_proxy_that_hangs_is_told_from_a_remote_that_does() {
        let (listener, proxy) = fake_proxy([127, 0, 1, 32]).await;
        let within = Duration::from_millis(100);
        let via = socks5(proxy);
        let hang = async { listener.accept().await.unwrap() };
        let (fault, _held) = tokio::join!(dial_via(&via, SOURCE, target(), within), hang);
        let fault = fault.unwrap_err();
        assert!(fault.to_string().contains("did not answer within 100ms"), "{fault}");

        let within = Duration::from_secs(2);
        let wait = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut heard = [0; 13];
            stream.read_exact(&mut heard[..3]).await.unwrap();
            stream.write_all(&[5, 0]).await.unwrap();
            stream.read_exact(&mut heard[3..]).await.unwrap();
            stream
        };
        let (fault, _held) = tokio::join!(dial_via(&via, SOURCE, target(), within), wait);
        assert_eq!(fault.unwrap_err(), DialFault::TimedOut { to: target(), within });
    }

    #[tokio::test]
    async fn a_proxy_that_is_not_there_is_ours_to_mend() {
        let (listener, proxy) = fake_proxy([127, 0, 1, 33]).await;
        drop(listener);
        for via in [socks5(proxy), Via::Proxy { proxy }] {
            let fault = dial_via(&via, SOURCE, target(), WITHIN).await.unwrap_err();
            let DialFault::Other { from, detail } = fault else { panic!("{fault:?}") };
            assert_eq!((from, detail), (SOURCE, format!("the proxy {proxy} refused the connection")));
        }
        let v6: IpAddr = "2001:db8::7".parse().unwrap();
        let fault = dial_via(&socks5(proxy), v6, target(), WITHIN).await.unwrap_err();
        assert!(matches!(fault, DialFault::FamilyDiffers { .. }));
    }

    #[tokio::test]
    async fn a_socks_order_for_ipv6_names_the_address_whole() {
        let order = socks_order("[2001:db8::19]:25".parse().unwrap());
        let mut expected = vec![5, 1, 0, 4, 0x20, 0x01, 0x0d, 0xb8];
        expected.extend_from_slice(&[0; 11]);
        expected.extend_from_slice(&[0x19, 0, 25]);
        assert_eq!(order, expected);
    }

    // The protocol's own text, 2.2: signature, version and command, family, length, addresses, ports.
    #[tokio::test]
    async fn a_proxy_protocol_header_comes_first_and_then_we_speak() {
        let (listener, proxy) = fake_proxy([127, 0, 1, 34]).await;
        let check = async |source: &str, to: &str, expected: &[u8]| {
            let via = Via::Proxy { proxy };
            let dialled = dial_via(&via, source.parse().unwrap(), to.parse().unwrap(), WITHIN);
            let (mine, theirs) = tokio::join!(dialled, listener.accept());
            let (mut mine, (mut theirs, _)) = (mine.unwrap(), theirs.unwrap());
            mine.write_all(b"EHLO\r\n").await.unwrap();
            drop(mine);
            let mut heard = Vec::new();
            theirs.read_to_end(&mut heard).await.unwrap();
            let signature = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a];
            assert_eq!(heard, [&signature[..], expected, b"EHLO\r\n"].concat());
        };
        let v4 = [0x21, 0x11, 0, 12, 192, 0, 2, 7, 203, 0, 113, 9, 0, 0, 0, 25];
        check("192.0.2.7", "203.0.113.9:25", &v4).await;
        let mut v6 = vec![0x21, 0x21, 0, 36];
        for last in [7, 0x19] {
            v6.extend_from_slice(&[0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
        }
        v6.extend_from_slice(&[0, 0, 0, 25]);
        check("2001:db8::7", "[2001:db8::19]:25", &v6).await;
    }

    #[tokio::test]
    async fn without_a_hop_the_source_is_bound_here() {
        let listener = listener([127, 0, 1, 35]).await;
        let source = IpAddr::from([127, 0, 1, 3]);
        let _stream = dial_via(&Via::Direct, source, listener.local_addr().unwrap(), WITHIN).await.unwrap();
        assert_eq!(listener.accept().await.unwrap().1.ip(), source);
    }
}
