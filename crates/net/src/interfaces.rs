//! Which addresses does this machine have?
//!
//! For the operator who takes inventory. What is bound here is not always what the world sees: behind a translation (as at
//! most cloud providers) a machine has a private address only, and its public one is known to the provider alone.

use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;

use crate::dns::not_public;

/// An address on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    pub interface: String,
    /// Its family is its own: an interface with both has a line for each.
    pub address: IpAddr,
    pub scope: Scope,
    /// Whether the interface is up; from one that is down nothing can be sent.
    pub up: bool,
}

/// How far an address reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    Public,
    /// Behind a translation: RFC 1918, RFC 6598, unique local (RFC 4193).
    Private,
    LinkLocal,
    Loopback,
    /// Of a network that is set aside: documentation, benchmarks, multicast.
    Reserved,
}

impl Scope {
    pub fn of(address: IpAddr) -> Scope {
        let address = address.to_canonical();
        let (link_local, private) = match address {
            IpAddr::V4(v4) => (v4.is_link_local(), v4.is_private() || shared(v4.octets())),
            IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.is_unique_local()),
        };
        match () {
            () if address.is_loopback() => Scope::Loopback,
            () if link_local => Scope::LinkLocal,
            () if private => Scope::Private,
            () if not_public(address, &[]).is_none() => Scope::Public,
            () => Scope::Reserved,
        }
    }
}

/// RFC 6598: between a provider and its customers.
fn shared(octets: [u8; 4]) -> bool {
    matches!(octets, [100, 64..=127, ..])
}

/// Why the addresses of this machine are not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system does not tell the addresses of this machine: {0}")]
pub struct InterfacesFault(String);

/// Every IPv4 and IPv6 address of this machine: public ones first, then by interface and address.
pub fn addresses() -> Result<Vec<Bound>, InterfacesFault> {
    let told = getifaddrs().map_err(|error| InterfacesFault(error.to_string()))?;
    let mut bound: Vec<Bound> = told
        .filter_map(|entry| {
            let address = ip_of(&entry.address?)?;
            let up = entry.flags.contains(InterfaceFlags::IFF_UP);
            Some(Bound { interface: entry.interface_name, address, scope: Scope::of(address), up })
        })
        .collect();
    bound.sort_by(|a, b| (a.scope, &a.interface, a.address).cmp(&(b.scope, &b.interface, b.address)));
    Ok(bound)
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a failed set-up is a failed test

    use super::*;
    use crate::dial::is_here;

    #[test]
    fn an_address_reaches_as_far_as_its_network() {
        let check = |address: &str, expected: Scope| {
            assert_eq!(Scope::of(address.parse().unwrap()), expected, "{address}");
        };
        check("127.0.0.1", Scope::Loopback);
        check("::1", Scope::Loopback);
        check("::ffff:127.0.0.1", Scope::Loopback);
        check("169.254.7.7", Scope::LinkLocal);
        check("fe80::1", Scope::LinkLocal);
        check("10.0.0.1", Scope::Private);
        check("172.31.0.1", Scope::Private);
        check("192.168.0.1", Scope::Private);
        check("100.64.0.1", Scope::Private);
        check("fd00::1", Scope::Private);
        check("203.0.113.1", Scope::Reserved);
        check("2001:db8::1", Scope::Reserved);
        check("9.9.9.9", Scope::Public);
        check("2620:fe::fe", Scope::Public);
    }

    #[test]
    fn this_machine_has_a_loopback_and_every_address_it_tells_can_be_bound() {
        let bound = addresses().unwrap();
        let loopback = bound.iter().find(|bound| bound.address == IpAddr::from([127, 0, 0, 1])).unwrap();
        assert_eq!((loopback.scope, loopback.up), (Scope::Loopback, true));
        assert!(!loopback.interface.is_empty());
        // A link-local address needs its interface as well.
        for bound in bound.iter().filter(|bound| bound.up && bound.scope != Scope::LinkLocal) {
            is_here(bound.address).unwrap();
        }
        assert!(bound.is_sorted_by_key(|bound| bound.scope));
    }
}
