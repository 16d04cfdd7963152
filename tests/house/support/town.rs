//! Which loopback addresses does a test have to itself? A network of its own, so that all tests may run at one time.

use super::provider::{FakeProvider, Manner};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

static NEXT: AtomicU8 = AtomicU8::new(0);

/// A network 127.a.b.0/24; all its providers listen on one port, because delivery knows one port.
pub struct Town {
    first: u8,
    second: u8,
    port: OnceLock<u16>,
}

impl Town {
    pub fn new() -> Town {
        // By process too: two runs at one time meet nowhere.
        let first = 32 + (std::process::id() % 200) as u8;
        Town { first, second: NEXT.fetch_add(1, Ordering::Relaxed), port: OnceLock::new() }
    }

    /// Where remote hosts are.
    pub fn host(&self, number: u8) -> IpAddr {
        assert!(number < 200);
        Ipv4Addr::new(127, self.first, self.second, number).into()
    }

    /// Where we send from.
    pub fn source(&self, number: u8) -> IpAddr {
        Ipv4Addr::new(127, self.first, self.second, 200 + number).into()
    }

    /// The port that all mail goes to.
    pub fn port(&self) -> u16 {
        *self.port.get_or_init(|| {
            let probe = TcpListener::bind((self.host(199), 0)).unwrap();
            probe.local_addr().unwrap().port()
        })
    }

    pub fn at(&self, number: u8) -> SocketAddr {
        (self.host(number), self.port()).into()
    }

    pub fn provider(&self, number: u8, manner: Manner) -> FakeProvider {
        FakeProvider::start(self.at(number), manner)
    }
}
