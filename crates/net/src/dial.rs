//! How do we open a connection from a chosen address?
//!
//! The port is taken when the address is bound, so one source address bears as many connections as there are ephemeral
//! ports, about 28,000, whatever their destinations. `IP_BIND_ADDRESS_NO_PORT` would lift that; the socket library has no
//! safe way to it.

use std::io::{Error, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

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
}
