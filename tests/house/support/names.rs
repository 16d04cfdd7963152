//! Who answers for names? A real name server on loopback, that a test can make fail, fall silent or go away.

use net::dns::authority::{Authority, Zone};
use std::net::SocketAddr;
use tokio::runtime::Runtime;

/// A server at work; it stops when it is dropped.
pub struct NameServer {
    runtime: Runtime,
    address: SocketAddr,
    authority: Option<Authority>,
}

impl NameServer {
    pub fn start(zone: Zone) -> NameServer {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let authority = runtime.block_on(Authority::start(([127, 0, 0, 1], 0).into(), zone)).unwrap();
        NameServer { runtime, address: authority.address(), authority: Some(authority) }
    }

    pub fn of(zone: &str) -> NameServer {
        NameServer::start(Zone::parse(zone).unwrap())
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn replace(&self, zone: Zone) {
        self.authority().replace(zone);
    }

    pub fn questions(&self) -> u64 {
        self.authority().questions()
    }

    /// Gone: nobody listens at its address any more.
    pub fn stop(&mut self) {
        self.authority = None;
    }

    /// Back at the same address.
    pub fn restart(&mut self, zone: &Zone) {
        let address = self.address;
        let begin = || self.runtime.block_on(Authority::start(address, zone.clone())).ok();
        self.authority = Some(super::until("the name server's port is free again", begin));
    }

    fn authority(&self) -> &Authority {
        self.authority.as_ref().expect("the name server is running")
    }
}
