//! What must an account not read in the words of others? (R2.8)
//!
//! A managed pool's addresses are for the operator alone. Remote servers like to repeat them in their answers, and our own words name
//! them too: what an account is shown goes through here.

use engine::envelope::{Addresses, Route};
use engine::snapshot::Snapshot;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Stands where an address was.
const MARK: &str = "(hidden)";
/// No address in text is longer, and no run that is longer is looked at whole.
const ADDRESS_OCTETS_MAX: usize = 45;

/// Addresses, and the names of their hosts. Empty: nothing is hidden.
#[derive(Clone, Debug, Default)]
pub struct Hidden {
    ips: BTreeSet<IpAddr>,
    /// In lower case.
    names: Vec<String>,
}

impl Hidden {
    /// What a route hides, and where else its mail has been.
    #[must_use]
    pub fn of(route: Option<&Route>, elsewhere: impl IntoIterator<Item = IpAddr>, snapshot: &Snapshot) -> Hidden {
        let Some(route) = route.filter(|route| route.addresses == Addresses::Hidden) else { return Hidden::default() };
        Hidden::these(route.candidates.iter().copied().chain(elsewhere), snapshot)
    }

    #[must_use]
    pub fn these(ips: impl IntoIterator<Item = IpAddr>, snapshot: &Snapshot) -> Hidden {
        let ips: BTreeSet<IpAddr> = ips.into_iter().collect();
        let known = ips.iter().filter_map(|ip| snapshot.ips.get(ip));
        let names = known.clone().map(|ip| ip.ehlo.to_ascii_lowercase()).filter(|name| !name.is_empty()).collect();
        let bound: Vec<IpAddr> = known.map(|ip| ip.bind).collect();
        Hidden { names, ips: ips.into_iter().chain(bound).collect() }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ips.is_empty()
    }

    #[must_use]
    pub fn hides(&self, ip: IpAddr) -> bool {
        self.ips.contains(&ip.to_canonical())
    }

    /// The words without what is hidden.
    #[must_use]
    pub fn words(&self, text: &str) -> String {
        if self.is_empty() {
            return text.to_owned();
        }
        let mut shown = String::with_capacity(text.len());
        let mut rest = text;
        let mut within_word = false;
        while let Some(first) = rest.chars().next() {
            if let Some(length) = self.name_at(rest).or_else(|| self.address_at(rest)) {
                shown.push_str(MARK);
                rest = &rest[length..];
                within_word = true;
                continue;
            }
            // Another address is passed over as a whole: no part of it is taken for one. `IPv6:` begins none.
            let other = longest_address(rest).filter(|_| !within_word);
            let length = other.map_or(first.len_utf8(), |(length, _)| length);
            shown.push_str(&rest[..length]);
            rest = &rest[length..];
            within_word = other.is_some() || first.is_alphanumeric();
        }
        shown
    }

    fn name_at(&self, text: &str) -> Option<usize> {
        let fits = |name: &&String| text.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
        self.names.iter().filter(fits).map(String::len).max()
    }

    fn address_at(&self, text: &str) -> Option<usize> {
        let (length, ip) = longest_address(text)?;
        self.hides(ip).then_some(length)
    }
}

/// The longest address that the text begins with.
fn longest_address(text: &str) -> Option<(usize, IpAddr)> {
    let of_address = |octet: &u8| octet.is_ascii_hexdigit() || matches!(octet, b'.' | b':');
    let run = text.bytes().take(ADDRESS_OCTETS_MAX).take_while(of_address).count();
    (2..=run).rev().find_map(|length| Some((length, text[..length].parse().ok()?)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::Hidden;
    use engine::snapshot::{Ip, IpState, Snapshot};
    use std::net::IpAddr;
    use std::sync::Arc;

    // R2.8: in whatever form a remote repeats it.
    #[test]
    fn neither_address_nor_name_is_left_in_words() {
        let ips: Vec<IpAddr> = vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let mut snapshot = Snapshot::empty();
        let ip = Ip {
            bind: "10.0.0.1".parse().unwrap(),
            ehlo: "M1.weir.test".into(),
            state: IpState::Active,
            hop: None,
            warm_up: None,
        };
        Arc::make_mut(&mut snapshot.ips).insert(ips[0], ip);
        let hidden = Hidden::these(ips, &snapshot);
        let cases = [
            ("421 4.7.0 [192.0.2.1] too fast", "421 4.7.0 [(hidden)] too fast"),
            ("192.0.2.1: no, 192.0.2.1.", "(hidden): no, (hidden)."),
            ("IPv6:2001:0db8:0:0:0:0:0:1 and 2001:DB8::1", "IPv6:(hidden) and (hidden)"),
            ("from m1.WEIR.test (10.0.0.1)", "from (hidden) ((hidden))"),
            ("::ffff:192.0.2.1 é", "(hidden) é"),
            // Others' addresses are not ours to hide, and keep their form.
            ("192.0.2.10, 2001:db8::11 a 10.0.0.11", "192.0.2.10, 2001:db8::11 a 10.0.0.11"),
            ("", ""),
        ];
        for (said, shown) in cases {
            assert_eq!(hidden.words(said), shown, "{said}");
        }
        assert_eq!(Hidden::default().words("192.0.2.1"), "192.0.2.1");
    }
}
