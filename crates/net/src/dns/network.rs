//! Which addresses belong to a network, and which are not of the public Internet?

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A network in the usual writing: `10.0.0.0/8`, `::1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("“{0}” is not a network such as 10.0.0.0/8 or 2001:db8::/32")]
pub struct NetworkError(String);

impl Network {
    /// Every address there is, of both families.
    pub const ALL: [Network; 2] = [
        Network { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), prefix: 0 },
        Network { address: IpAddr::V6(Ipv6Addr::UNSPECIFIED), prefix: 0 },
    ];

    pub fn address(&self) -> IpAddr {
        self.address
    }

    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether all of the other network lies in this one.
    pub fn covers(&self, other: &Network) -> bool {
        self.address.is_ipv4() == other.address.is_ipv4() && self.prefix <= other.prefix && self.contains(other.address)
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let host_bits = 32 - u32::from(self.prefix);
                (u64::from(u32::from(own) ^ u32::from(other)) >> host_bits) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let host_bits = 128 - u32::from(self.prefix);
                (u128::from(own) ^ u128::from(other)).checked_shr(host_bits).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Network, NetworkError> {
        let error = || NetworkError(text.to_owned());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| error())?;
        let prefix_max = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(digits) => digits.parse().map_err(|_| error())?,
            None => prefix_max,
        };
        if prefix > prefix_max {
            return Err(error());
        }
        Ok(Network { address, prefix })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// What kind of address this is when it is neither of the public Internet nor in an allowed network.
pub fn not_public(address: IpAddr, allowed: &[Network]) -> Option<&'static str> {
    if allowed.iter().any(|network| network.contains(address)) {
        return None;
    }
    special(address)
}

/// What kind of address this is when it is not one of the public Internet; in words that end “a … address”.
fn special(address: IpAddr) -> Option<&'static str> {
    // The IANA special-purpose registries (RFC 6890), as far as mail could be sent there.
    // An IPv4 address in IPv6 clothes is judged as the IPv4 address that it is.
    match address.to_canonical() {
        IpAddr::V4(v4) => special_v4(v4),
        IpAddr::V6(v6) => special_v6(v6),
    }
}

fn special_v4(address: Ipv4Addr) -> Option<&'static str> {
    match address.octets() {
        [0, ..] => Some("unspecified"),
        [127, ..] => Some("loopback"),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Some("private"),
        [100, 64..=127, ..] => Some("shared"),
        [169, 254, ..] => Some("link-local"),
        [192, 0, 0, _] => Some("reserved"),
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Some("documentation"),
        [198, 18..=19, ..] => Some("benchmarking"),
        [224..=239, ..] => Some("multicast"),
        [240..=255, ..] => Some("reserved"),
        _ => None,
    }
}

fn special_v6(address: Ipv6Addr) -> Option<&'static str> {
    let [first, second, ..] = address.segments();
    match (first, second) {
        _ if address.is_unspecified() => Some("unspecified"),
        _ if address.is_loopback() => Some("loopback"),
        (0xfc00..=0xfdff, _) => Some("private"),
        (0xfe80..=0xfebf, _) => Some("link-local"),
        (0xfec0..=0xfeff, _) => Some("private"),
        (0xff00..=0xffff, _) => Some("multicast"),
        (0x2001, 0x0db8) | (0x3fff, 0..=0x0fff) => Some("documentation"),
        (0x0100, 0) => Some("discard-only"),
        // NAT64 and 6to4 carry an IPv4 address, which could be any of the above.
        (0x0064, 0xff9b) => special_v4(embedded(address, 12)),
        (0x2002, _) => special_v4(embedded(address, 2)),
        _ => None,
    }
}

fn embedded(address: Ipv6Addr, at: usize) -> Ipv4Addr {
    let octets = address.octets();
    Ipv4Addr::new(octets[at], octets[at + 1], octets[at + 2], octets[at + 3])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a failed set-up is a failed test

    use super::*;

    #[test]
    fn a_network_covers_itself_and_what_lies_in_it() {
        let covers =
            |network: &str, other: &str| network.parse::<Network>().unwrap().covers(&other.parse::<Network>().unwrap());
        assert!(covers("10.0.0.0/8", "10.0.0.0/8") && covers("10.0.0.0/8", "10.1.0.0/16"));
        assert!(!covers("10.1.0.0/16", "10.0.0.0/8") && !covers("10.0.0.0/8", "11.0.0.0/16"));
        assert!(covers("0.0.0.0/0", "192.0.2.1") && !covers("::/0", "192.0.2.1") && covers("::/0", "2001:db8::/32"));
        // In IPv6 clothes it has the other family's prefix, and is not compared.
        assert!(!covers("10.0.0.0/8", "::ffff:10.0.0.0/104"));
    }

    #[test]
    fn a_network_knows_its_addresses() {
        let check = |network: &str, address: &str, expected: bool| {
            let network: Network = network.parse().unwrap();
            assert_eq!(network.contains(address.parse().unwrap()), expected, "{address} in {network}");
        };
        check("10.0.0.0/8", "10.255.0.1", true);
        check("10.0.0.0/8", "11.0.0.1", false);
        check("10.0.0.0/8", "::ffff:10.0.0.1", true);
        check("10.0.0.0/8", "::1", false);
        check("127.0.1.7", "127.0.1.7", true);
        check("127.0.1.7", "127.0.1.6", false);
        check("0.0.0.0/0", "203.0.113.9", true);
        check("::/0", "2001:db8::1", true);
        check("2001:db8::/33", "2001:db8:7fff::1", true);
        check("2001:db8::/33", "2001:db8:8000::1", false);
        check("::1", "::1", true);
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "host/8", "10.0.0.0/", "10.0.0.0/-1"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }

    // C4
    #[test]
    fn special_addresses_are_named() {
        let check = |address: &str, expected: Option<&str>| {
            assert_eq!(special(address.parse().unwrap()), expected, "{address}");
        };
        check("127.0.0.1", Some("loopback"));
        check("0.0.0.0", Some("unspecified"));
        check("10.1.2.3", Some("private"));
        check("172.16.0.1", Some("private"));
        check("172.32.0.1", None);
        check("192.168.1.1", Some("private"));
        check("100.64.0.1", Some("shared"));
        check("169.254.169.254", Some("link-local"));
        check("224.0.0.1", Some("multicast"));
        check("255.255.255.255", Some("reserved"));
        check("8.8.8.8", None);
        check("::1", Some("loopback"));
        check("::ffff:127.0.0.1", Some("loopback"));
        check("fd00::1", Some("private"));
        check("fe80::1", Some("link-local"));
        check("64:ff9b::10.0.0.1", Some("private"));
        check("2002:7f00:1::", Some("loopback"));
        check("2a00:1450:4001::1a", None);
    }
}
